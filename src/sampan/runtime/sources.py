"""What the parent opens for init: the sources of binds that init could not open or map itself, namespaces to join."""

from __future__ import annotations

import os

from sampan.errors import Error, InvalidArgument
from sampan.linux import abi, mount, procfs
from sampan.runtime.steps.situation import detailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import Linux
    from sampan.runtime.plan import Plan
    from sampan.runtime.plan.step import Step

_CLONE = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC


def open_sources(plan: Plan, linux: Linux) -> dict[str, list[int]]:
    """Detached copies of what is to be bound, by destination and in the order of the binds there. Errors: Error.

    All of them for a user namespace, for as another user init might not get through to one by its path; else only
    those with their ids mapped, since the kernel maps ids only on a mount that was never attached. -1 stands for a
    bind whose source init is to open.
    """
    everything = any(namespace["type"] == "user" for namespace in linux.get("namespaces", []))
    found: dict[str, list[int]] = {}
    try:
        for step in plan.steps:
            if step.do == "bind":
                place = found.setdefault(step.with_["destination"], [])
                place.append(-1)
                if everything or step.with_["idmap"]:
                    _open_source(step, linux, place)
    except BaseException:
        for fd in opened(found):
            os.close(fd)
        raise
    return found


def opened(found: dict[str, list[int]]) -> list[int]:
    """The descriptors among what `open_sources` gives."""
    return [fd for place in found.values() for fd in place if fd >= 0]


def _open_source(step: Step, linux: Linux, place: list[int]) -> None:
    try:
        fd = mount.open_tree(
            abi.AT_FDCWD, step.with_["source"], _CLONE | (abi.AT_RECURSIVE if step.with_["recursive"] else 0)
        )
    except OSError:
        return  # init meets the same error and has the words for it
    place[-1] = fd
    # The copy is a peer of the host's mount until it is told otherwise, and init's would not be.
    mount.mount_setattr(fd, "", abi.AT_RECURSIVE, propagation=abi.MS_SLAVE)
    if step.with_["idmap"]:
        _map_ids(fd, step, linux)


def _map_ids(fd: int, step: Step, linux: Linux) -> None:
    """Map the ids of a detached mount by the entry's own mappings, or else by the container's user namespace."""
    from sampan.runtime import idmap

    uids, gids = step.with_["idmap"]
    path = next((one.get("path", "") for one in linux.get("namespaces", []) if one["type"] == "user"), "")
    if not uids and path:
        userns = open_namespace("user", path)
    else:
        uids, gids = uids or linux.get("uidMappings", []), gids or linux.get("gidMappings", [])
        if not uids:
            raise Error(f"{step.cause}: idmap mounts need uidMappings and gidMappings, or a user namespace")
        userns = idmap.namespace(idmap.triples(uids), idmap.triples(gids))
    try:
        mount.mount_setattr(fd, "", abi.AT_RECURSIVE if step.with_["idmap_tree"] else 0, userns_fd=userns)
    except OSError as error:
        raise Error(f"unable to start container process: failed to set MOUNT_ATTR_IDMAP on {step.with_['source']}: "
                    f"{detailed(error)} (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
                    ) from None  # fmt: skip
    finally:
        os.close(userns)


def check_sysctls(linux: Linux, network: int) -> None:
    """That no sysctl would change the host's network, by whatever path that was joined. Errors: InvalidArgument."""
    for key in linux.get("sysctl", {}):
        if key.replace("/", ".").startswith("net.") and os.path.samestat(
            os.fstat(network), os.stat("/proc/self/ns/net")
        ):
            raise InvalidArgument(f'sysctl "{key}" not allowed in host network namespace')


def open_namespace(kind: str, path: str) -> int:
    """A close-on-exec descriptor of the namespace to join. Errors: Error in runc's words."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Error(f"unable to start container process: lstat {path}: {words(error)}") from None
    if not procfs.is_namespace(fd):
        os.close(fd)
        raise Error(f"unable to start container process: {path} is not a {kind} namespace file")
    return fd
