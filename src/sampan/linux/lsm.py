"""Linux security modules: which are on, and the label that the next execve of this thread takes.

Sources: apparmor(7), proc_pid_attr(5). `procfd` is a trusted procfs (see `procfs`).
"""

from __future__ import annotations

import os

from sampan.linux import abi
from sampan.linux.paths import fstatfs_type
from sampan.linux.procfs import read_file, write_file


def apparmor_enabled() -> bool:
    """Whether AppArmor is compiled in, switched on and its securityfs is mounted, as containerd asks."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
            return file.read(1) == b"Y" and os.path.isdir("/sys/kernel/security/apparmor")
    except OSError:
        return False


def set_apparmor_exec_profile(procfd: int, profile: str) -> None:
    """Run the next program of this thread under AppArmor `profile`. Errors: OSError; ENOENT for an unknown one."""
    order = f"exec {profile}"
    try:
        # The module's own file since Linux 5.1; the shared one belongs to whichever module came first.
        write_file(procfd, "thread-self/attr/apparmor/exec", order)
    except FileNotFoundError:
        write_file(procfd, "thread-self/attr/exec", order)


def selinux_enabled() -> bool:
    """Whether a policy is loaded: selinuxfs is mounted at its place and this process has a label."""
    try:
        fd = os.open("/sys/fs/selinux", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fstatfs_type(fd) == abi.SELINUX_MAGIC and read_file("self/attr/current").strip("\0\n") != "kernel"
    except OSError:
        return False
    finally:
        os.close(fd)


def set_selinux_exec_label(procfd: int, label: str) -> None:
    """Run the next program of this thread under SELinux `label`. Errors: OSError."""
    write_file(procfd, "thread-self/attr/exec", label)


def set_selinux_key_label(procfd: int, label: str) -> None:
    """Give keyrings that this thread makes the SELinux `label`. Errors: OSError."""
    write_file(procfd, "thread-self/attr/keycreate", label)
