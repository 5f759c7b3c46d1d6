"""Reading and writing /proc through a descriptor that nobody can stand in the way of."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import abi, lsm, mount, process, procfs

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


@pytest.fixture
def proc() -> Iterator[int]:
    fd = procfs.private_proc()
    yield fd
    os.close(fd)


def test_a_private_proc_shows_this_process_and_is_mounted_nowhere(proc: int) -> None:
    assert procfs.status("self", proc)["Pid"] == str(os.getpid())
    before = procfs.read_file("self/mountinfo")
    os.close(procfs.private_proc())
    assert procfs.read_file("self/mountinfo") == before


def test_a_private_proc_of_processes_only_has_no_sysctls() -> None:
    fd = procfs.private_proc(subset_pid=True)
    assert procfs.stat("self", fd)[1] == os.getppid()
    with pytest.raises(FileNotFoundError):
        procfs.read_sysctl("kernel.hostname", fd)
    os.close(fd)


def test_what_is_mounted_over_proc_does_not_catch_a_write(in_mntns: InChild, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text("")

    def work() -> tuple[str, str, int | None]:
        process.unshare(abi.CLONE_NEWUTS)
        private = procfs.private_proc()
        mount.mount(str(trap), "/proc/sys/kernel/hostname", None, abi.MS_BIND)
        mounted = procfs.open_proc()
        code = None
        try:
            procfs.write_sysctl(mounted, "kernel.hostname", "caught")
        except OSError as error:
            code = error.errno
        procfs.write_sysctl(private, "kernel.hostname", "written")
        return trap.read_text(), os.uname().nodename, code

    assert in_mntns(work) == ("", "written", errno.EXDEV)


def test_a_file_of_proc_mounted_over_another_does_not_catch_a_write(in_mntns: InChild) -> None:
    def work() -> tuple[int | None, str]:
        process.unshare(abi.CLONE_NEWUTS)
        process.setdomainname("untouched")
        mount.mount("/proc/sys/kernel/domainname", "/proc/sys/kernel/hostname", None, abi.MS_BIND)
        code = None
        try:
            procfs.write_sysctl(procfs.open_proc(), "kernel.hostname", "redirected")
        except OSError as error:
            code = error.errno
        return code, procfs.read_sysctl("kernel.domainname", procfs.private_proc())

    assert in_mntns(work) == (errno.EXDEV, "untouched")


def test_a_directory_that_poses_as_proc_is_refused(in_mntns: InChild, tmp_path: Path) -> None:
    def work() -> list[int | None]:
        codes: list[int | None] = []
        mount.mount("/proc/sys", str(tmp_path), None, abi.MS_BIND)
        for path in (str(tmp_path), "/sys", "/proc/self"):
            try:
                procfs.open_proc(path)
            except OSError as error:
                codes.append(error.errno)
        return codes

    assert in_mntns(work) == [errno.EINVAL, errno.EINVAL, errno.ENOTDIR]


def test_a_magic_link_is_no_way_out_of_proc(proc: int) -> None:
    for path in ("self/root/etc/hostname", "self/cwd", "../etc/hostname", "/etc/hostname"):
        with pytest.raises(OSError) as refused:
            procfs.open_file(proc, path, os.O_RDONLY)
        assert refused.value.errno in (errno.ELOOP, errno.EXDEV), path


def test_the_oom_score_is_set_and_a_refusal_is_named(in_child: InChild, proc: int) -> None:
    def work() -> str:
        procfs.set_oom_score_adj(proc, "self", 321)
        return procfs.read_file("self/oom_score_adj")

    assert in_child(work) == "321\n"
    with pytest.raises(OSError) as refused:
        procfs.set_oom_score_adj(proc, "self", 5000)
    assert refused.value.errno == errno.EINVAL
    assert refused.value.filename == "/proc/self/oom_score_adj"


def test_a_sysctl_is_set_in_a_network_namespace_of_its_own(in_child: InChild) -> None:
    def work() -> str:
        process.unshare(abi.CLONE_NEWNET)
        private = procfs.private_proc()
        procfs.write_sysctl(private, "net.ipv4.ip_forward", "1")
        return procfs.read_sysctl("net/ipv4/ip_forward", private)

    assert in_child(work) == "1"


def test_start_time_and_state_tell_a_process_from_a_later_one() -> None:
    pid, pidfd = process.clone3(0)
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    state, parent, started = procfs.stat(pid)
    assert (state, parent) == ("Z", os.getpid())
    assert started >= procfs.start_time("self")
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    with pytest.raises(FileNotFoundError):
        procfs.start_time(pid)


def test_a_namespace_is_opened_and_known_by_its_inode() -> None:
    assert os.readlink("/proc/self/ns/net") == f"net:[{procfs.namespace_inode('self', 'network')}]"
    fd = procfs.open_namespace("self", "mount")
    assert procfs.is_namespace(fd)
    assert os.fstat(fd).st_ino == procfs.namespace_inode("self", "mount")
    os.close(fd)
    null = os.open("/dev/null", os.O_RDONLY)
    assert not procfs.is_namespace(null)
    os.close(null)


def test_the_security_modules_are_reported_as_the_kernel_shows_them(proc: int) -> None:
    assert lsm.apparmor_enabled() == os.path.isdir("/sys/kernel/security/apparmor")
    assert lsm.selinux_enabled() == os.path.exists("/sys/fs/selinux/enforce")
    if not lsm.apparmor_enabled():
        # Without the module the kernel refuses the label instead of dropping it in silence.
        with pytest.raises(OSError):
            lsm.set_apparmor_exec_profile(proc, "docker-default")
    if not lsm.selinux_enabled():
        with pytest.raises(OSError):
            lsm.set_selinux_exec_label(proc, "system_u:system_r:container_t:s0")
