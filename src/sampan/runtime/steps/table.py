"""The steps of a plan, by name: what init can do. Each takes the `Situation` and the step's own arguments.

Only the modules that a plan needs are imported, by `resolve` and before the fork: afterwards nothing may be. An exec
needs no mounts, and hardly a container needs hooks.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from sampan.runtime.plan.step import Step

    Perform = Callable[..., Any]

PLACES = {
    "apparmor": "labels.apparmor",
    "await_id_maps": "joining.await_id_maps",
    "become_namespace_root": "joining.become_namespace_root",
    "bind": "rootfs.bind",
    "bounding_set": "identity.bounding_set",
    "capabilities": "identity.set_capabilities",
    "cgroup1_mount": "rootfs.cgroup1_mount",
    "cgroup2_mount": "rootfs.cgroup2_mount",
    "close_descriptors": "identity.close_descriptors",
    "console": "terminal.console",
    "cpu_affinity": "identity.cpu_affinity",
    "device": "devices.device",
    "domainname": "identity.domainname",
    "environment": "identity.environment",
    "execve": "identity.execve",
    "find_program": "identity.find_program",
    "hook": "hooking.hook",
    "host_propagation": "rootfs.host_propagation",
    "hostname": "identity.hostname",
    "io_priority": "identity.io_priority",
    "join_cgroups": "joining.join_cgroups",
    "join_container": "joining.join_container",
    "join_namespaces": "joining.join_namespaces",
    "loopback_up": "joining.loopback_up",
    "make_working_directory": "identity.make_working_directory",
    "mask_path": "rootfs.mask_path",
    "memory_policy": "identity.memory_policy",
    "mount": "rootfs.mount_file_system",
    "mount_with_copy": "copying.mount_with_copy",
    "new_session": "joining.new_session",
    "no_new_privileges": "identity.no_new_privileges",
    "null_streams": "devices.null_streams",
    "open_proc": "identity.open_proc",
    "open_root": "joining.open_root",
    "parent_hooks": "identity.parent_hooks",
    "personality": "identity.personality",
    "pivot_root": "rootfs.pivot_root",
    "read_only_mount": "rootfs.read_only_mount",
    "read_only_path": "rootfs.read_only_path",
    "read_only_root": "rootfs.read_only_root",
    "ready": "identity.ready",
    "rlimit": "identity.rlimit",
    "root": "rootfs.root",
    "root_propagation": "rootfs.root_propagation",
    "rootfs_mount": "rootfs.rootfs_mount",
    "scheduler": "identity.scheduler",
    "seccomp": "identity.load_filter",
    "selinux": "labels.selinux",
    "session_keyring": "joining.session_keyring",
    "start_hooks": "hooking.start_hooks",
    "stdio_owner": "identity.stdio_owner",
    "symlink": "devices.symlink",
    "sysctl": "identity.sysctl",
    "unshare": "joining.unshare",
    "user": "identity.user",
}
"""The function of each step: the module beside this one, and its name there."""


def resolve(steps: Iterable[Step]) -> dict[str, Perform]:
    """The functions of all steps by name, with their modules loaded. Errors: KeyError for a step nobody can do."""
    found: dict[str, Perform] = {}
    for step in steps:
        if step.do not in found:
            module, _, name = PLACES[step.do].partition(".")
            found[step.do] = getattr(__import__(f"sampan.runtime.steps.{module}", fromlist=[name]), name)
    return found
