"""The steps of a plan, by name: what init can do. Each takes the `Situation` and the step's own arguments."""

from __future__ import annotations

from sampan.runtime.steps import devices, identity, joining, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PERFORM: dict[str, Callable[..., Any]] = {
    "apparmor": joining.apparmor,
    "await_id_maps": joining.await_id_maps,
    "become_namespace_root": joining.become_namespace_root,
    "bind": rootfs.bind,
    "bounding_set": identity.bounding_set,
    "capabilities": identity.set_capabilities,
    "cgroup1_mount": rootfs.cgroup1_mount,
    "cgroup2_mount": rootfs.cgroup2_mount,
    "close_descriptors": identity.close_descriptors,
    "console": devices.console,
    "device": devices.device,
    "domainname": identity.domainname,
    "environment": identity.environment,
    "execve": identity.execve,
    "find_program": identity.find_program,
    "hook": identity.hook,
    "host_propagation": rootfs.host_propagation,
    "hostname": identity.hostname,
    "io_priority": identity.io_priority,
    "join_cgroups": joining.join_cgroups,
    "join_container": joining.join_container,
    "join_namespaces": joining.join_namespaces,
    "loopback_up": joining.loopback_up,
    "mask_path": rootfs.mask_path,
    "memory_policy": identity.memory_policy,
    "mount": rootfs.mount_file_system,
    "new_session": joining.new_session,
    "no_new_privileges": identity.no_new_privileges,
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
    "selinux": joining.selinux,
    "session_keyring": joining.session_keyring,
    "start_hooks": identity.start_hooks,
    "stdio_owner": identity.stdio_owner,
    "symlink": devices.symlink,
    "sysctl": identity.sysctl,
    "unshare": joining.unshare,
    "user": identity.user,
}
