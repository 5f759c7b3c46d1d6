"""The steps of a plan, by name: what init can do. Each takes the `Situation` and the step's own arguments.

Only the modules that a plan needs are imported, by `resolve` and before the fork: afterwards nothing may be.
"""

from __future__ import annotations

from sampan.runtime.steps import devices, identity, joining, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from sampan.runtime.plan.step import Step

    Perform = Callable[..., Any]

PERFORM: dict[str, Perform] = {
    "await_id_maps": joining.await_id_maps,
    "become_namespace_root": joining.become_namespace_root,
    "bind": rootfs.bind,
    "bounding_set": identity.bounding_set,
    "capabilities": identity.set_capabilities,
    "cgroup1_mount": rootfs.cgroup1_mount,
    "cgroup2_mount": rootfs.cgroup2_mount,
    "close_descriptors": identity.close_descriptors,
    "cpu_affinity": identity.cpu_affinity,
    "device": devices.device,
    "domainname": identity.domainname,
    "environment": identity.environment,
    "execve": identity.execve,
    "find_program": identity.find_program,
    "host_propagation": rootfs.host_propagation,
    "hostname": identity.hostname,
    "io_priority": identity.io_priority,
    "join_cgroups": joining.join_cgroups,
    "join_container": joining.join_container,
    "join_namespaces": joining.join_namespaces,
    "loopback_up": joining.loopback_up,
    "make_working_directory": identity.make_working_directory,
    "mask_path": rootfs.mask_path,
    "memory_policy": identity.memory_policy,
    "mount": rootfs.mount_file_system,
    "new_session": joining.new_session,
    "no_new_privileges": identity.no_new_privileges,
    "null_streams": devices.null_streams,
    "open_proc": identity.open_proc,
    "open_root": rootfs.open_root,
    "parent_hooks": identity.parent_hooks,
    "personality": identity.personality,
    "pivot_root": rootfs.pivot_root,
    "read_only_mount": rootfs.read_only_mount,
    "read_only_path": rootfs.read_only_path,
    "read_only_root": rootfs.read_only_root,
    "ready": identity.ready,
    "rlimit": identity.rlimit,
    "root": rootfs.root,
    "root_propagation": rootfs.root_propagation,
    "rootfs_mount": rootfs.rootfs_mount,
    "scheduler": identity.scheduler,
    "seccomp": identity.load_filter,
    "session_keyring": joining.session_keyring,
    "stdio_owner": identity.stdio_owner,
    "symlink": devices.symlink,
    "sysctl": identity.sysctl,
    "unshare": joining.unshare,
    "user": identity.user,
}

# Steps that most containers do without, and the module that has the function of the same name.
RARE = {
    "apparmor": "labels",
    "console": "terminal",
    "hook": "hooking",
    "mount_with_copy": "copying",
    "selinux": "labels",
    "start_hooks": "hooking",
}


def resolve(steps: Iterable[Step]) -> dict[str, Perform]:
    """The functions of all steps by name, with their modules loaded. Errors: KeyError for a step nobody can do."""
    found: dict[str, Perform] = {}
    for step in steps:
        name = step.do
        if name not in found:
            found[name] = PERFORM[name] if name in PERFORM else _rare(name)
    return found


def _rare(name: str) -> Perform:
    module = __import__(f"sampan.runtime.steps.{RARE[name]}", fromlist=[name])
    performer: Perform = getattr(module, name)
    return performer
