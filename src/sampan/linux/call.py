"""The one way into the kernel and into C: raw `syscall(2)`, its buffers, and CPython's fork hooks.

Model: a wrapper elsewhere in this package packs its structs (`u64`, or with `struct`), calls `call(name, ...)` and gets
a non-negative int, or an `OSError` that carries errno, the call's name and the path. `_ctypes` is the C
module below `ctypes`; it is imported alone because the wrapper package costs 4 ms of a container's start.
"""

from __future__ import annotations

import _ctypes
import errno
import os
from sys import byteorder

from sampan.linux.abi import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Path: TypeAlias = str | bytes
    Buffer: TypeAlias = _ctypes.Array[Any]
    # What may stand for a C argument: an int or pointer-sized number, bytes (const char *, read only), a
    # Buffer (void *, written by the kernel), or None (NULL).
    Argument: TypeAlias = int | bytes | Buffer | None


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Word(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "P"


class _Function(_ctypes.CFuncPtr):
    """A C function whose call releases the GIL and keeps errno."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _HeldFunction(_ctypes.CFuncPtr):
    """A C function that is called with the GIL held, as os.fork does around fork(2)."""

    _flags_ = _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _HeldProcedure(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = None


# safe because dlopen(NULL) is the running program itself: libc and libpython are already mapped in it, so
# nothing is searched for or loaded, now or after a pivot_root.
_self = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
_syscall_address = _ctypes.dlsym(_self, "syscall")

_syscall = _Function(_syscall_address)
# safe because syscall(2) takes one long and up to six register-sized arguments, and every argument is
# converted to exactly one register: an int by value, bytes and buffers by the address of storage that the
# argument tuple keeps alive during the call.
_syscall.argtypes = (_Long, _Word, _Word, _Word, _Word, _Word, _Word)
_held_syscall = _HeldFunction(_syscall_address)
_held_syscall.argtypes = _syscall.argtypes

# void PyOS_*Fork*(void): the public C API, present in every CPython that has fork.
before_fork = _HeldProcedure(_ctypes.dlsym(_self, "PyOS_BeforeFork"))
after_fork_parent = _HeldProcedure(_ctypes.dlsym(_self, "PyOS_AfterFork_Parent"))
after_fork_child = _HeldProcedure(_ctypes.dlsym(_self, "PyOS_AfterFork_Child"))


def failure(name: str, number: int, path: Path | None = None, detail: str = "") -> OSError:
    """The OSError (of the subclass that belongs to errno `number`) for a failed kernel call `name`."""
    text = f"{name}: {os.strerror(number)}"
    if detail:
        text = f"{text}: {detail}"
    return OSError(number, text) if path is None else OSError(number, text, path)


def call(
    name: str,
    a: Argument = 0,
    b: Argument = 0,
    c: Argument = 0,
    d: Argument = 0,
    e: Argument = 0,
    f: Argument = 0,
    path: Path | None = None,
) -> int:
    """Make the system call `name` of `abi.SYS`; return its result, ≥ 0. Errors: OSError with errno.

    EINTR is retried, as PEP 475 does in `os`. A call that this machine's table lacks is ENOSYS.
    """
    number = SYS.get(name)
    if number is None:
        raise failure(name, errno.ENOSYS, path)
    while True:
        result: int = _syscall(number, a, b, c, d, e, f)
        if result >= 0:
            return result
        code = _ctypes.get_errno()
        if code != errno.EINTR:
            raise failure(name, code, path)


def call_held(name: str, a: Argument, b: Argument) -> int:
    """Like `call`, with the GIL held, never retried, and the negated errno as result instead of an error.

    For clone3 only: the child must come back with the interpreter exactly as the parent left it.
    """
    number = SYS.get(name)
    if number is None:
        return -errno.ENOSYS
    result: int = _held_syscall(number, a, b, 0, 0, 0, 0)
    return result if result >= 0 else -_ctypes.get_errno()


def buffer(size: int, content: bytes = b"") -> Buffer:
    """`size` bytes (at least 1) of zeroed memory that the kernel may write, beginning with `content`."""
    # safe because the copy is made of exactly as many bytes as the array holds, and the array owns them.
    kind = _Char * max(size, 1, len(content))
    return kind.from_buffer_copy(content.ljust(max(size, 1), b"\0"))


def u32(*values: int) -> bytes:
    """Unsigned 32-bit words as a struct of the kernel holds them; `struct` is a shared object, 0.3 ms of a start."""
    return b"".join([value.to_bytes(4, byteorder) for value in values])


def u64(*values: int) -> bytes:
    """Unsigned 64-bit words as a struct of the kernel holds them."""
    return b"".join([value.to_bytes(8, byteorder) for value in values])


def read_u32(of: Buffer) -> list[int]:
    """The 32-bit words that the kernel has written into a buffer."""
    raw = of.raw
    return [int.from_bytes(raw[at : at + 4], byteorder) for at in range(0, len(raw), 4)]


def read_u64(of: Buffer) -> list[int]:
    """The 64-bit words that the kernel has written into a buffer."""
    raw = of.raw
    return [int.from_bytes(raw[at : at + 8], byteorder) for at in range(0, len(raw), 8)]


def address(of: Buffer) -> int:
    """The address of a buffer, to stand in a struct. The caller keeps `of` alive until the call returns."""
    return _ctypes.addressof(of)


def read_int(at: int) -> int:
    """The C int at the address `at`, which must be readable memory of this process."""
    # safe because the only caller passes an address that the kernel itself keeps and writes through.
    value: int = _Int.from_address(at).value
    return value


def cstring(name: str, path: Path) -> bytes:
    """The bytes of a path or text for the kernel, which ends it at the first NUL.

    Errors: OSError EINVAL for an embedded NUL, because the kernel would silently use the shorter path.
    """
    data = os.fsencode(path)
    if 0 in data:
        raise failure(name, errno.EINVAL, path, "embedded null byte")
    return data
