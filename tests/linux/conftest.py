"""What the kernel tests stand on: a forked child for everything that changes the process itself."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sampan.linux import abi, mount, process

InChild = Callable[..., Any]


def run_in_child(work: Callable[..., Any], *args: Any) -> Any:
    """Run `work(*args)` in a forked child and give back its result; its exception fails the test with its trace."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            try:
                answer: tuple[bool, Any] = (True, work(*args))
            except BaseException:
                answer = (False, traceback.format_exc())
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise AssertionError(f"the child ended with wait status {status:#x} and said nothing")
    good, result = pickle.loads(data)
    if not good:
        raise AssertionError(f"in the child:\n{result}")
    return result


def run_in_mntns(work: Callable[..., Any], *args: Any) -> Any:
    """Like `run_in_child`, in a private mount namespace, so that no mount reaches the machine."""

    def inside() -> Any:
        process.unshare(abi.CLONE_NEWNS)
        mount.mount_setattr(abi.AT_FDCWD, "/", abi.AT_RECURSIVE, propagation=abi.MS_PRIVATE)
        return work(*args)

    return run_in_child(inside)


@pytest.fixture
def in_child() -> InChild:
    return run_in_child


@pytest.fixture
def in_mntns() -> InChild:
    return run_in_mntns


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    """Each test gives back every descriptor it opened: a wrapper that leaks on an error path is found here."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    # pytest's own capture may reopen its files, so only the number counts.
    assert len(os.listdir("/proc/self/fd")) <= len(before)
