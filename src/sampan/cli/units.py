"""Sizes, durations and times in the forms that Docker's command line reads and prints (go-units)."""

from __future__ import annotations

import re
import time

_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?[iI]?[bB]?$")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_size(text: str) -> int:
    """Bytes of "512", "64m", "1.5g" in powers of 1024 (go-units RAMInBytes). ValueError `invalid size: 'X'`."""
    match = _SIZE.match(text)
    if not match:
        raise ValueError(f"invalid size: '{text}'")
    power = " kmgtp".index((match[2] or " ").lower())
    return int(float(match[1]) * 1024**power)


def parse_duration(text: str) -> int:
    """Nanoseconds of Go's "1h2m3.5s". ValueError `time: invalid duration "X"`."""
    if text == "0":
        return 0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'time: invalid duration "{text}"')
    return int(sum(float(number) * _UNIT_NS[unit] for number, unit in parts))


def human_size(size: float, base: int = 1000) -> str:
    """Four significant digits as `docker images` shows them: 1.24MB; base 1024 gives KiB, MiB."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"] if base == 1000 else ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{3 if base == 1000 else 4}g}{units[index]}"


def human_duration(seconds: float) -> str:
    """As `docker ps` says it: "Less than a second", "About a minute", "3 hours"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, size, word in ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks"), (17520, 720, "months")):
        if hours < limit:
            return f"{hours // size} {word}"
    return f"{hours // 8760} years"


def ago(epoch: float) -> str:
    return human_duration(time.time() - epoch) + " ago"


def epoch_of(stamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time in UTC ("2026-01-02T15:04:05.1Z"); 0.0 for Go's zero time."""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$", stamp)
    if not match or match[1] == "0001":
        return 0.0
    import calendar

    fields = [int(match[i]) for i in range(1, 7)]
    epoch = calendar.timegm((*fields, 0, 0, 0)) + float(match[7] or 0)
    if match[8] != "Z":
        sign = -1 if match[8][0] == "+" else 1
        epoch += sign * (int(match[8][1:3]) * 3600 + int(match[8][4:6]) * 60)
    return epoch
