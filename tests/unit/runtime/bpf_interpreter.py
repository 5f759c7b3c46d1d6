"""A classic BPF machine as the kernel runs it for seccomp: the reference that compiled filters are judged by."""

from __future__ import annotations

import functools
import struct


@functools.lru_cache(maxsize=64)
def decoded(program: bytes) -> list[tuple[int, int, int, int]]:
    """The instructions as (code, jump if true, jump if false, k)."""
    return [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]


def run(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = (0, 0, 0, 0, 0, 0)) -> int:
    """The return value of the filter for one system call."""
    data = struct.pack("=iIQ6Q", number if number < 1 << 31 else number - (1 << 32), arch, 0, *arguments)
    instructions = decoded(program)
    accumulator, at = 0, 0
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x54:
            accumulator &= k
        elif code == 0x06:
            return int(k)
        elif code == 0x05:
            at += k
        elif code == 0x15:
            at += jt if accumulator == k else jf
        elif code == 0x25:
            at += jt if accumulator > k else jf
        elif code == 0x35:
            at += jt if accumulator >= k else jf
        else:
            raise AssertionError(f"instruction {code:#x} is not one the kernel takes here")
