"""Pseudo-terminals of a given devpts, window sizes, controlling terminals and raw mode.

Sources: pts(4), ioctl_tty(2), termios(3). The terminal's settings travel as the kernel's own 36 bytes (struct
termios: four flag words, c_line, nineteen control characters), the same on x86_64 and aarch64.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from sampan.linux import abi
from sampan.linux.call import buffer, call, failure
from sampan.linux.paths import fstatfs_type

_TERMIOS_SIZE = 36
# struct winsize: rows, columns, and two pixel sizes.
_WINSIZE = struct.Struct("=4H")
_PTMX_DEVICE = os.makedev(5, 2)
_PTS_MAJORS = range(136, 144)

# <asm-generic/termbits.h>: what cfmakeraw(3) changes.
_IFLAGS_OFF = 0o0001 | 0o0002 | 0o0010 | 0o0040 | 0o0100 | 0o0200 | 0o0400 | 0o2000
_OPOST, _ONLCR = 0o0001, 0o0004
_LFLAGS_OFF = 0o0010 | 0o0100 | 0o0002 | 0o0001 | 0o100000
_CSIZE_PARENB, _CS8 = 0o0060 | 0o0400, 0o0060
_VTIME, _VMIN = 5, 6


def openpty(devpts_fd: int) -> tuple[int, int, int]:
    """A new pseudo-terminal of the devpts mounted at `devpts_fd`: (master fd, slave fd, N of its name pts/N).

    Both are close-on-exec and neither becomes a controlling terminal. Nothing is believed by name: what is not a
    multiplexer of a devpts, or a slave of it, is EINVAL (CVE-2025-52565). Errors: OSError.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("ptmx", flags | os.O_NOFOLLOW, dir_fd=devpts_fd)
    slave = -1
    try:
        if fstatfs_type(master) != abi.DEVPTS_SUPER_MAGIC or os.fstat(master).st_rdev != _PTMX_DEVICE:
            raise failure("openpty", errno.EINVAL, "ptmx")
        call("ioctl", master, abi.TIOCSPTLCK, struct.pack("=i", 0))
        slave = call("ioctl", master, abi.TIOCGPTPEER, flags)
        found = os.fstat(slave)
        if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) not in _PTS_MAJORS:
            raise failure("openpty", errno.EINVAL, "pts")
        number = buffer(4)
        call("ioctl", master, abi.TIOCGPTN, number)
    except OSError:
        os.close(master)
        if slave >= 0:
            os.close(slave)
        raise
    return master, slave, struct.unpack("=I", number.raw)[0]


def get_winsize(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal. TIOCGWINSZ. Errors: OSError, ENOTTY."""
    room = buffer(_WINSIZE.size)
    call("ioctl", fd, abi.TIOCGWINSZ, room)
    rows, columns, _, _ = _WINSIZE.unpack(room.raw)
    return rows, columns


def set_winsize(fd: int, rows: int, columns: int) -> None:
    """Set the size in characters, each 0..65535; the foreground process group gets SIGWINCH. TIOCSWINSZ."""
    call("ioctl", fd, abi.TIOCSWINSZ, _WINSIZE.pack(rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def set_controlling_terminal(fd: int) -> None:
    """Make `fd` the controlling terminal of this session, which must have none: call after os.setsid. TIOCSCTTY."""
    call("ioctl", fd, abi.TIOCSCTTY, 0)


def get_attributes(fd: int) -> bytes:
    """The terminal's settings, to be restored later. TCGETS. Errors: OSError, ENOTTY."""
    room = buffer(_TERMIOS_SIZE)
    call("ioctl", fd, abi.TCGETS, room)
    return bytes(room.raw)


def set_attributes(fd: int, attributes: bytes, request: int = abi.TCSETSW) -> None:
    """Set what `get_attributes` or `raw` gave; TCSETSW first drains output, TCSETSF also drops input."""
    if len(attributes) != _TERMIOS_SIZE:
        raise failure("ioctl", errno.EINVAL)
    call("ioctl", fd, request, attributes)


def raw(attributes: bytes) -> bytes:
    """The same settings in raw mode: bytes pass both ways unchanged, no echo, no signals. cfmakeraw(3)."""
    iflag, oflag, cflag, lflag, line = struct.unpack_from("=4IB", attributes)
    controls = bytearray(attributes[17:])
    controls[_VMIN], controls[_VTIME] = 1, 0
    iflag &= ~_IFLAGS_OFF
    cflag = cflag & ~_CSIZE_PARENB | _CS8
    return struct.pack("=4IB", iflag, oflag & ~_OPOST, cflag, lflag & ~_LFLAGS_OFF, line) + bytes(controls)


def set_raw(fd: int) -> bytes:
    """Put the terminal in raw mode and return the settings it had, for `set_attributes`."""
    before = get_attributes(fd)
    set_attributes(fd, raw(before), abi.TCSETSF)
    return before


def clear_onlcr(fd: int) -> None:
    """Stop the terminal turning newline into carriage return and newline, as runc does for its consoles."""
    iflag, oflag = struct.unpack_from("=2I", attributes := get_attributes(fd))
    set_attributes(fd, struct.pack("=2I", iflag, oflag & ~_ONLCR) + attributes[8:])
