"""Raw mode as a change of 36 bytes."""

from __future__ import annotations

import struct

from sampan.linux import tty


def test_raw_mode_clears_what_cfmakeraw_clears_and_keeps_the_rest() -> None:
    everything = struct.pack("=4IB", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 3) + bytes(range(19))
    iflag, oflag, cflag, lflag, line = struct.unpack_from("=4IB", raw := tty.raw(everything))
    # IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON; OPOST; PARENB; ECHO ECHONL ICANON ISIG IEXTEN
    assert ~iflag & 0xFFFFFFFF == 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x80 | 0x100 | 0x400
    assert ~oflag & 0xFFFFFFFF == 0x1
    assert ~cflag & 0xFFFFFFFF == 0x100
    assert ~lflag & 0xFFFFFFFF == 0x8 | 0x40 | 0x2 | 0x1 | 0x8000
    assert line == 3
    controls = raw[17:]
    assert (controls[5], controls[6]) == (0, 1)  # VTIME, VMIN
    assert [c for n, c in enumerate(controls) if n not in (5, 6)] == [n for n in range(19) if n not in (5, 6)]


def test_raw_mode_sets_eight_bit_characters() -> None:
    nothing = bytes(36)
    assert struct.unpack_from("=4I", tty.raw(nothing))[2] == 0x30
    assert len(tty.raw(nothing)) == 36
