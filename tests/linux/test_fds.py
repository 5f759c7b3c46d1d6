"""Descriptors as the kernel sees them: /proc/self/fd is the witness."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from sampan.linux import abi, fds, procfs

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


def test_the_open_descriptors_are_listed_without_the_listing_itself(in_child: InChild) -> None:
    def work() -> tuple[list[int], list[int], list[int]]:
        before = fds.open_fds()
        extra = os.open("/dev/null", os.O_RDONLY)
        os.dup2(extra, 500)
        mounted = fds.open_fds()
        proc = procfs.private_proc()
        private = fds.open_fds(proc)
        private.remove(proc)
        return [fd for fd in mounted if fd not in before], mounted, private

    new, mounted, private = in_child(work)
    assert len(new) == 2
    assert new[1] == 500
    assert private == mounted


def test_all_descriptors_but_those_kept_are_closed(in_child: InChild) -> None:
    def closed() -> list[int]:
        # The child's own report travels over its pipe, so what is closed lies above it.
        null = os.open("/dev/null", os.O_RDONLY)
        for fd in (200, 201, 202, 300):
            os.dup2(null, fd)
        keep = set(fds.open_fds()) - {200, 202, 300}
        fds.close_all_except(keep)
        return [fd for fd in (200, 201, 202, 300) if fd in fds.open_fds()]

    assert in_child(closed) == [201]


def test_descriptors_can_be_marked_to_close_on_exec_instead(in_child: InChild) -> None:
    def marked() -> list[bool]:
        null = os.open("/dev/null", os.O_RDONLY)
        for fd in (200, 201):
            os.dup2(null, fd)
        fds.close_all_except([0, 1, 2, 201], abi.CLOSE_RANGE_CLOEXEC)
        return [os.get_inheritable(fd) for fd in (200, 201)]

    assert in_child(marked) == [False, True]


def test_a_sealed_memfd_holds_its_content_for_good() -> None:
    with fds.OwnedFd(fds.sealed_memfd("sealed", b"x" * 100000)) as owned:
        assert len(os.read(owned.fd, 200000)) == 100000
        for attempt in (lambda: os.pwrite(owned.fd, b"y", 0), lambda: os.ftruncate(owned.fd, 0)):
            with pytest.raises(OSError) as refused:
                attempt()
            assert refused.value.errno == errno.EPERM
        assert os.readlink(f"/proc/self/fd/{owned.fd}").startswith("/memfd:sealed")


def test_syncfs_writes_a_file_system_and_refuses_what_is_none() -> None:
    with fds.OwnedFd(os.open("/tmp", os.O_RDONLY)) as owned:
        fds.syncfs(owned.fd)
    with pytest.raises(OSError) as refused:
        fds.syncfs(-1)
    assert refused.value.errno == errno.EBADF
