"""Ownership of descriptors."""

from __future__ import annotations

import errno
import os

import pytest

from sampan.linux.fds import OwnedFd


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        assert error.errno == errno.EBADF
        return False
    return True


def test_an_owned_descriptor_is_closed_once_and_forgotten() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    owned = OwnedFd(fd)
    assert owned.fileno() == fd
    owned.close()
    assert not is_open(fd)
    again = os.open("/dev/null", os.O_RDONLY)
    assert again == fd
    owned.close()
    assert is_open(again)
    os.close(again)


def test_a_descriptor_that_was_taken_is_not_closed() -> None:
    with OwnedFd(os.open("/dev/null", os.O_RDONLY)) as owned:
        fd = owned.take()
        assert (owned.fd, repr(owned)) == (-1, "OwnedFd(-1)")
    assert is_open(fd)
    os.close(fd)


def test_a_block_that_fails_closes_its_descriptor() -> None:
    fd = -1
    with pytest.raises(RuntimeError), OwnedFd(os.open("/dev/null", os.O_RDONLY)) as owned:
        fd = owned.fd
        raise RuntimeError
    assert not is_open(fd)


def test_what_was_closed_or_taken_cannot_be_used() -> None:
    owned = OwnedFd(os.open("/dev/null", os.O_RDONLY))
    owned.close()
    for use in (owned.fileno, owned.take):
        with pytest.raises(ValueError, match="closed or taken"):
            use()
