"""Times as Docker's API carries them: RFC 3339 with nanoseconds, and `since`/`until` query parameters."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

from sampan.errors import InvalidArgument

ZERO = "0001-01-01T00:00:00Z"

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?(Z|[+-]\d\d:\d\d)?")
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def rfc3339(nanoseconds: int) -> str:
    """ "2026-01-02T03:04:05.123456789Z" in UTC, trailing zeros of the fraction dropped as Go does."""
    seconds, rest = divmod(nanoseconds, 10**9)
    day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{rest:09d}".rstrip("0")
    return f"{day}.{fraction}Z" if fraction else f"{day}Z"


def now() -> str:
    return rfc3339(time.time_ns())


def from_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch; a time without a zone is UTC. InvalidArgument."""
    found = _RFC3339.fullmatch(text)
    if not found:
        raise InvalidArgument(f'invalid value "{text}": not an RFC 3339 time')
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=timezone.utc
        )
    except ValueError as error:
        raise InvalidArgument(f'invalid value "{text}": {error}') from None
    if zone and zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        moment -= offset if zone[0] == "+" else -offset
    elapsed = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (elapsed.days * 86400 + elapsed.seconds) * 10**9 + int((fraction or "0").ljust(9, "0"))


def duration(text: str) -> int:
    """Nanoseconds of a Go duration ("1h30m", "1.5s"). InvalidArgument."""
    parts = _DURATION.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return int(sum(float(amount) * _UNITS[unit] for amount, unit in parts))


def from_query(text: str | None) -> int | None:
    """A `since` or `until`: Unix seconds with an optional fraction ("1374067924.000000001"), RFC 3339, or a
    Go duration back from now ("10m"); nanoseconds since the epoch, None when absent. InvalidArgument."""
    if not text:
        return None
    seconds, dot, fraction = text.partition(".")
    if seconds.lstrip("-").isdigit() and (not dot or fraction.isdigit()):
        return int(seconds) * 10**9 + int(fraction[:9].ljust(9, "0") if fraction else 0)
    try:
        return from_rfc3339(text) if text[-1] not in "smh" else time.time_ns() - duration(text)
    except InvalidArgument:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text}"') from None
