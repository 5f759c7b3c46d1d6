"""What of a container's mounts is the host's: CRIU saves a name for each, and is told at the restore what that is.

The names are runc's: a bind's destination, a cgroup hierarchy's below that of the cgroup mount, /dev/null for all
masked files. All else it saves and makes again by itself. Source: criu.org/External_bind_mounts.
"""

from __future__ import annotations

import os
import stat

from sampan.linux import abi, mount, paths, process
from sampan.runtime.plan import DEFAULT_DEVICES
from sampan.runtime.plan.mounts import clean, parse_options
from sampan.runtime.steps.rootfs import rootfs_mount
from sampan.runtime.steps.situation import StepFailed, detailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Mount, Spec
    from sampan.runtime.host import HostFacts

    External = list[dict[str, str]]

_AT = abi.AT_FDCWD
_CLONE = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
_NULL = "/dev/null"
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def saved(spec: Spec, host: HostFacts, root: int) -> External:
    """For a dump: the place of each mount of the host's, and the name to save for it. `root` is an fd of the root."""
    names = [_place(root, entry["destination"]) for entry in spec.get("mounts", []) if _is_bind(entry)]
    names += [name for name, _ in _cgroups(spec, host, {})]
    names += _devices(spec)
    found = [{"key": name, "val": name} for name in dict.fromkeys(names)]
    for path in spec.get("linux", {}).get("maskedPaths", []):
        try:
            if not stat.S_ISDIR(_stat(root, path)):
                found.append({"key": _place(root, path), "val": _NULL})
        except OSError:
            continue  # not there, so not masked
    return found


def offered(spec: Spec, host: HostFacts, bundle: str, root: int, cgroup_paths: dict[str, str]) -> External:
    """For a restore: each saved name with what of the host is behind it. `root` is an fd of the rootfs."""
    found: dict[str, str] = {}
    for entry in spec.get("mounts", []):
        if _is_bind(entry):
            source = _source(entry, bundle)
            # On a file system that is still to be restored no symlink can be followed yet.
            found[clean(entry["destination"])] = source
            found[_place(root, entry["destination"])] = source
    found.update(_cgroups(spec, host, cgroup_paths))
    found.update({name: name for name in _devices(spec)})
    if spec.get("linux", {}).get("maskedPaths"):
        found[_NULL] = _NULL
    return [{"key": name, "val": source} for name, source in found.items()]


def _is_bind(entry: Mount) -> bool:
    return entry.get("type") == "bind" or bool(parse_options(entry.get("options", [])).bind)


def _source(entry: Mount, bundle: str) -> str:
    source = entry.get("source", "")
    return source if source.startswith("/") else f"{bundle}/{source}"


def _place(root: int, destination: str) -> str:
    """Where `destination` leads inside the root, symlinks followed; by its letters where it leads nowhere."""
    try:
        fd = paths.open_in_root(root, destination, os.O_PATH)
    except OSError:
        return clean(destination)
    try:
        top, found = paths.fd_path(root), paths.fd_path(fd)
    finally:
        os.close(fd)
    return clean(found.removeprefix(top if top != "/" else ""))


def _stat(root: int, path: str) -> int:
    fd = paths.open_in_root(root, path, os.O_PATH)
    try:
        return os.fstat(fd).st_mode
    finally:
        os.close(fd)


def _cgroups(spec: Spec, host: HostFacts, cgroup_paths: dict[str, str]) -> list[tuple[str, str]]:
    """(name, the container's own cgroup) of each v1 hierarchy that a cgroup mount shows by a bind."""
    kinds = [one["type"] for one in spec.get("linux", {}).get("namespaces", [])]
    if host.cgroup_mode == "unified" or "cgroup" in kinds:
        return []  # a mount of the file system itself, which CRIU makes again
    found: list[tuple[str, str]] = []
    for entry in spec.get("mounts", []):
        if entry.get("type") in ("cgroup", "cgroup2"):
            for hierarchy in host.hierarchies:
                if hierarchy.version == 1:
                    name = f"{clean(entry['destination'])}/{hierarchy.mount_point.rpartition('/')[2]}"
                    keys = hierarchy.keys()
                    found.append((name, next((cgroup_paths[key] for key in keys if key in cgroup_paths), "")))
    return found


def _devices(spec: Spec) -> list[str]:
    """The nodes that are binds of the host's, as they are where a user namespace keeps us from making them."""
    linux = spec.get("linux", {})
    if all(one["type"] != "user" for one in linux.get("namespaces", [])):
        return []
    return [*(path for path, _, _ in DEFAULT_DEVICES), *(one["path"] for one in linux.get("devices", []))]


def prepare(
    spec: Spec, bundle: str, rootfs: str, restored_root: str, rootfs_mounts: list[dict[str, Any]] | None = None
) -> None:
    """Before CRIU is executed: in a mount namespace of its own, so that nothing is left however it ends.

    Mounts what makes up the rootfs, makes the mount points that are missing as `create` does, and mounts the rootfs on
    the directory `restored_root`, for CRIU demands a mount point. Errors: StepFailed, OSError.
    """
    process.unshare(abi.CLONE_NEWNS)
    mount.mount_setattr(_AT, "/", abi.AT_RECURSIVE, propagation=abi.MS_SLAVE)
    for one in rootfs_mounts or []:
        options = parse_options(list(one.get("options") or []))
        rootfs_mount(None, one.get("type", ""), one.get("source", ""), clean(f"{rootfs}/{one.get('target') or ''}"),
                     options.data, options.bind, options.value)  # fmt: skip
    root = os.open(rootfs, _DIRECTORY)
    held: list[int] = []
    try:
        _make_mount_points(spec, bundle, root, held)
    finally:
        for fd in reversed(held):
            mount.umount2(f"/proc/self/fd/{fd}", abi.MNT_DETACH)
            os.close(fd)
    made = mount.open_tree(root, "", _CLONE | abi.AT_EMPTY_PATH | abi.AT_RECURSIVE)
    mount.move_mount(made, "", _AT, restored_root)
    os.close(made)
    os.close(root)


def _make_mount_points(spec: Spec, bundle: str, root: int, held: list[int]) -> None:
    """`held` takes the binds that stand meanwhile, for a mount point may be on one of them."""
    in_memory: list[str] = []
    for entry in spec.get("mounts", []):
        destination, kind = clean(entry["destination"]), entry.get("type", "")
        bind = _is_bind(entry)
        if kind == "tmpfs" and not bind:
            in_memory.append(destination + "/")
        elif destination.startswith(tuple(in_memory)) or kind in ("cgroup", "cgroup2"):
            continue  # saved with the file system it is on
        try:
            if not bind:
                os.close(paths.mkdirs_in_root(root, destination))
            else:
                held.append(_bind(root, _source(entry, bundle), destination))
        except OSError as error:
            text = f"create criu restore mountpoint for {entry['destination']} mount: {detailed(error)}"
            raise StepFailed(text) from None


def _bind(root: int, source: str, destination: str) -> int:
    """Bind `source` for the moment; a descriptor of the mount."""
    try:
        made = mount.open_tree(_AT, source, _CLONE | abi.AT_RECURSIVE)
    except OSError as error:
        raise StepFailed(
            f'error mounting "{source}" to rootfs at "{destination}": stat {source}: {words(error)}'
        ) from None
    is_directory = stat.S_ISDIR(os.fstat(made).st_mode)
    make = paths.mkdirs_in_root if is_directory else paths.create_file_in_root
    target = make(root, destination)
    mount.move_mount(made, "", target, "")
    os.close(target)
    return made
