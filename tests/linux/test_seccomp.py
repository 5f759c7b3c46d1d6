"""Filters loaded into a child: what they refuse is refused by the kernel."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from sampan.linux import abi, process, procfs, seccomp

pytestmark = pytest.mark.root

InChild = Callable[..., Any]

LD_W_ABS, JEQ_K, RET_K = 0x20, 0x15, 0x06


def deciding(name: str, action: int) -> bytes:
    """A filter that answers `action` to one system call and allows all others."""
    number = abi.SYS[name]
    return b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LD_W_ABS, 0, 0, 0),
            (JEQ_K, 0, 1, number),
            (RET_K, 0, 0, action),
            (RET_K, 0, 0, abi.SECCOMP_RET_ALLOW),
        )
    )


def test_a_loaded_filter_refuses_the_call_it_names_and_shows_in_proc(in_child: InChild) -> None:
    def work() -> tuple[int | None, str, object]:
        result = seccomp.load(deciding("sethostname", abi.SECCOMP_RET_ERRNO | errno.EDOM))
        code = None
        try:
            process.sethostname("never")
        except OSError as error:
            code = error.errno
        return code, procfs.status("self")["Seccomp"], result

    assert in_child(work) == (errno.EDOM, "2", None)


def test_a_process_without_privilege_needs_no_new_privs_first(in_child: InChild) -> None:
    def work() -> tuple[int | None, str]:
        os.setresuid(1001, 1001, 1001)
        code = None
        try:
            seccomp.load(deciding("sethostname", abi.SECCOMP_RET_ALLOW))
        except OSError as error:
            code = error.errno
        process.set_no_new_privs()
        seccomp.load(deciding("sethostname", abi.SECCOMP_RET_ALLOW), abi.SECCOMP_FILTER_FLAG_LOG)
        return code, procfs.status("thread-self")["Seccomp"]

    assert in_child(work) == (errno.EACCES, "2")


def test_a_listener_is_given_and_can_be_taken_by_the_parent() -> None:
    ready, tell = os.pipe()
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            filtered = seccomp.load(
                deciding("sethostname", abi.SECCOMP_RET_USER_NOTIF), abi.SECCOMP_FILTER_FLAG_NEW_LISTENER
            )
            os.write(tell, struct.pack("=i", filtered))
            process.sethostname("asked")
        finally:
            os._exit(0)
    os.close(tell)
    listener = process.pidfd_getfd(pidfd, struct.unpack("=i", os.read(ready, 4))[0])
    assert os.readlink(f"/proc/self/fd/{listener}") == "anon_inode:seccomp notify"
    import select

    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    assert waiting.poll(5000) == [(listener, select.POLLIN)]
    process.pidfd_send_signal(pidfd, abi.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    for fd in (listener, pidfd, ready):
        os.close(fd)


@pytest.mark.parametrize("program", [b"", b"\0" * 7, b"\0" * 8 * 4097, struct.pack("=HBBI", 0xFFFF, 0, 0, 0)])
def test_what_is_no_filter_is_refused_before_anything_changes(in_child: InChild, program: bytes) -> None:
    def work() -> tuple[int | None, str]:
        code = None
        try:
            seccomp.load(program)
        except OSError as error:
            code = error.errno
        return code, procfs.status("self")["Seccomp"]

    assert in_child(work) == (errno.EINVAL, procfs.status("self")["Seccomp"])


def test_the_kernel_says_which_actions_it_knows() -> None:
    assert seccomp.action_available(abi.SECCOMP_RET_ERRNO)
    assert seccomp.action_available(abi.SECCOMP_RET_KILL_PROCESS)
    assert not seccomp.action_available(0x12340000)
