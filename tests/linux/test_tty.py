"""Pseudo-terminals of a devpts of their own."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import abi, mount, process, tty

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


@pytest.fixture
def pty() -> Iterator[tuple[int, int]]:
    devpts = mount.new_mount("devpts", [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")])
    master, slave, _ = tty.openpty(devpts)
    os.close(devpts)
    yield master, slave
    os.close(master)
    os.close(slave)


def test_a_pty_is_opened_in_a_detached_devpts_by_descriptor() -> None:
    devpts = mount.new_mount("devpts", [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")])
    for expected in (0, 1):
        master, slave, number = tty.openpty(devpts)
        assert number == expected
        assert os.fstat(slave).st_rdev == os.stat(str(number), dir_fd=devpts).st_rdev
        assert os.fstat(slave).st_mode & 0o777 == 0o620
        assert not os.get_inheritable(master)
        assert not os.get_inheritable(slave)
        os.write(slave, b"out\n")
        assert os.read(master, 100) == b"out\r\n"
        if expected == 1:
            os.close(slave)
            os.close(master)
        else:
            kept = master, slave
    for fd in (*kept, devpts):
        os.close(fd)


def test_a_ptmx_that_is_no_multiplexer_is_refused(in_mntns: InChild) -> None:
    def work() -> list[int | None]:
        codes: list[int | None] = []
        fake = mount.new_mount("tmpfs", [])
        os.mknod("ptmx", 0o666 | 0o020000, os.makedev(1, 3), dir_fd=fake)  # /dev/null
        for attempt in (1, 2):
            try:
                tty.openpty(fake)
            except OSError as error:
                codes.append(error.errno)
            os.unlink("ptmx", dir_fd=fake)
            if attempt == 1:
                os.symlink("/dev/pts/ptmx", "ptmx", dir_fd=fake)
        return codes

    # A tmpfs made by fsmount carries no nodev, so the device opens and is then seen to be another one.
    assert in_mntns(work) == [errno.EINVAL, errno.ELOOP]


def test_a_slave_mounted_over_the_multiplexer_is_refused(in_mntns: InChild, tmp_path: Path) -> None:
    def work() -> int | None:
        mount.move_mount(mount.new_mount("devpts", [("ptmxmode", "0666")]), "", abi.AT_FDCWD, str(tmp_path))
        devpts = os.open(tmp_path, os.O_PATH)
        _, _, number = tty.openpty(devpts)
        mount.mount(str(tmp_path / str(number)), str(tmp_path / "ptmx"), None, abi.MS_BIND)
        try:
            tty.openpty(devpts)
        except OSError as error:
            return error.errno
        return 0

    assert in_mntns(work) == errno.EINVAL


def test_the_window_size_goes_through_both_ends(pty: tuple[int, int]) -> None:
    master, slave = pty
    tty.set_winsize(master, 50, 132)
    assert tty.get_winsize(slave) == (50, 132)
    assert os.get_terminal_size(slave) == (132, 50)


def test_raw_mode_is_what_the_c_library_makes_and_can_be_undone(pty: tuple[int, int]) -> None:
    master, slave = pty
    before = tty.get_attributes(slave)
    assert tty.set_raw(slave) == before
    # cfmakeraw(3) itself: what Python's tty.setraw does depends on its version. The library's struct is longer.
    wanted = ctypes.create_string_buffer(before, 60)
    ctypes.CDLL(None).cfmakeraw(wanted)
    assert tty.get_attributes(slave) == wanted.raw[: len(before)] != before
    os.write(slave, b"\n")
    assert os.read(master, 10) == b"\n"
    tty.set_attributes(slave, before)
    assert tty.get_attributes(slave) == before


def test_newlines_pass_unchanged_when_asked(pty: tuple[int, int]) -> None:
    master, slave = pty
    tty.clear_onlcr(slave)
    os.write(slave, b"a\nb")
    assert os.read(master, 10) == b"a\nb"


def test_a_session_takes_the_slave_as_its_controlling_terminal(pty: tuple[int, int]) -> None:
    master, slave = pty
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            os.setsid()
            tty.set_controlling_terminal(slave)
            with open("/dev/tty", "w") as terminal:
                terminal.write(f"{os.tcgetpgrp(slave) == os.getpid()}")
        finally:
            os._exit(0)
    assert os.read(master, 100) == b"True"
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def test_ctrl_c_typed_at_the_master_interrupts_the_session(pty: tuple[int, int]) -> None:
    master, slave = pty
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            os.setsid()
            tty.set_controlling_terminal(slave)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.write(slave, b"ready")
            signal.pause()
        finally:
            os._exit(0)
    assert os.read(master, 5) == b"ready"
    os.write(master, b"\x03")
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert ended is not None
    assert (ended.si_code, ended.si_status) == (os.CLD_KILLED, 2)
    os.close(pidfd)


def test_a_file_is_not_a_terminal() -> None:
    fd = os.open("/dev/null", os.O_RDWR)
    for attempt in (tty.get_winsize, tty.get_attributes, tty.set_raw):
        with pytest.raises(OSError) as refused:
            attempt(fd)
        assert refused.value.errno == errno.ENOTTY
    os.close(fd)
    assert abi.TIOCSCTTY == termios.TIOCSCTTY
