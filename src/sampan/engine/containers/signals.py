"""Signals by Docker's names: "KILL", "SIGKILL", "9", "RTMIN+3"."""

from __future__ import annotations

import signal

from sampan.errors import InvalidArgument

_RTMIN, _RTMAX = 34, 64
_NAMES = {name.removeprefix("SIG"): int(number) for name, number in signal.Signals.__members__.items()}


def parse_signal(text: str) -> int:
    """The number. InvalidArgument `invalid signal: x`."""
    if text.isascii() and text.isdigit():
        number = int(text)
        if 0 < number <= _RTMAX:
            return number
        raise InvalidArgument(f"invalid signal: {text}")
    name = text.upper().removeprefix("SIG")
    if name in _NAMES and name not in ("RTMIN", "RTMAX"):
        return _NAMES[name]
    for prefix, start, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        rest = name.removeprefix(prefix)
        if rest != name:
            offset = rest.lstrip("+-") if rest else "0"
            if offset.isdigit() and _RTMIN <= start + sign * int(offset) <= _RTMAX:
                return start + sign * int(offset)
    raise InvalidArgument(f"invalid signal: {text}")
