"""File descriptors: who owns one, which are open, and closing the rest."""

from __future__ import annotations

import os

from sampan.linux import abi
from sampan.linux.call import call, cstring
from sampan.linux.process import close_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class OwnedFd:
    """One file descriptor with one owner: it is closed once, or moved away with `take`, never both.

    After either, `fd` is -1, so that a number the kernel has given out again is never touched by mistake.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        return self._fd

    def fileno(self) -> int:
        """The number, for select and os. Errors: ValueError when it was closed or taken."""
        if self._fd < 0:
            raise ValueError("file descriptor is closed or taken")
        return self._fd

    def take(self) -> int:
        """Move the number to the caller, who now closes it. Errors: ValueError as in `fileno`."""
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        """Close it if it is still owned."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> OwnedFd:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OwnedFd({self._fd})"


def open_fds(procfd: int | None = None) -> list[int]:
    """The open file descriptors of this process, ascending. `procfd` as in `paths.reopen`."""
    if procfd is None:
        listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        listing = os.open("self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=procfd)
    try:
        names = os.listdir(listing)
    finally:
        os.close(listing)
    found: list[int] = []
    for fd in sorted(int(name) for name in names):
        try:
            os.fstat(fd)
        except OSError:
            continue  # the listing's own descriptors, closed by now
        found.append(fd)
    return found


def close_all_except(keep: Iterable[int], flags: int = 0) -> None:
    """Close every descriptor not in `keep`; with CLOSE_RANGE_CLOEXEC they are only marked to close on exec."""
    first = 0
    for fd in sorted(set(keep)):
        if fd > first:
            close_range(first, fd - 1, flags)
        first = max(first, fd + 1)
    close_range(first, abi.CLOSE_RANGE_MAX, flags)


def memfd_create(name: str, flags: int = abi.MFD_CLOEXEC | abi.MFD_ALLOW_SEALING) -> int:
    """A fd of an anonymous file in memory. memfd_create(2)."""
    return os.memfd_create(name, flags)


def sealed_memfd(name: str, content: bytes) -> int:
    """A memfd that holds `content` and can never change again; its offset is 0."""
    fd = memfd_create(name)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        seals = abi.F_SEAL_SEAL | abi.F_SEAL_SHRINK | abi.F_SEAL_GROW | abi.F_SEAL_WRITE
        call("fcntl", fd, abi.F_ADD_SEALS, seals, path=cstring("fcntl", name))
    except OSError:
        os.close(fd)
        raise
    return fd


def syncfs(fd: int) -> None:
    """Write everything of the file system that holds `fd` to its disk, and wait for it. syncfs(2)."""
    call("syncfs", fd)
