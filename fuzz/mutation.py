"""Changing input: bytes anywhere, JSON values by the kind of mistake that people and attackers make."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

Path = tuple[str | int, ...]

_NUMBERS = (0, 1, -1, 7, 127, 255, 4095, 4096, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
            (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), -(1 << 64), 10**400)  # fmt: skip
_BYTES = (b"", b"\0", b"\n", b"\xff", b"\x7f", b"/", b"..", b":", b"=", b",", b" ", b"%", b"\\", b'"', b"{", b"[",
          b"-1", b"18446744073709551616", b"\xed\xa0\x80", b"A" * 300)  # fmt: skip
_STRINGS = (
    "", " ", "\0", "a\0b", "/", "//", "..", "../..", "/../../etc", "/proc", "/proc/self/fd/3", "/dev",
    "/" + "x/" * 3000,
    "x" * 70000, "\ud800", "\u202e", "=", "a=", "=b", "-", "-1", "0", "0-", "0-99999999", "1,,2", "rw,ro", "bind",
    "rbind",
    "idmap", "rro", "shared", "tmpcopyup", "proc", "sysfs", "cgroup", "cgroup2", "CAP_NOPE", "SCMP_ACT_NOTIFY", "%s%n",
    "user", "time", "system.slice:x:y", ":::", "\n", "$(id)", "*",
)  # fmt: skip
_OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    1.5,
    -0.0,
    1e400,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [{}],
    {"x": {}},
    ["", ""],
)


def of_bytes(data: bytes, random: Random) -> bytes:
    """One to four changes: a byte, a bit, a run removed, doubled, swapped or cut off, something awkward put in."""
    for _ in range(random.randint(1, 4)):
        data = _once(data, random)
    return data


def _once(data: bytes, random: Random) -> bytes:
    at = random.randint(0, len(data))
    to = min(len(data), at + random.choice((1, 2, 4, 16, 100, 1000)))
    kind = random.randrange(8)
    if kind == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + random.randbytes(to - at) + data[to:]
    if kind == 2:
        return data[:at] + data[to:]
    if kind == 3:
        return data[:to] + data[at:to] * random.choice((1, 2, 20)) + data[to:]
    if kind == 4:
        return data[:at]
    if kind == 5:
        size = random.choice((1, 2, 4, 8))
        number = random.choice(_NUMBERS[:-2]) & ((1 << 8 * size) - 1)
        return data[:at] + number.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]
    if kind == 6:
        return data[to:] + data[:at]
    return data[:at] + random.choice(_BYTES) + data[at:]


def of_json(document: Any, random: Random) -> tuple[Any, Path]:
    """A copy with one value changed, removed, added or repeated; (it, the path of what was changed)."""
    made = copy.deepcopy(document)
    path = random.choice(list(paths(made)))
    *above, last = path
    holder = made
    for part in above:
        holder = holder[part]
    kind = random.randrange(10)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(random.randint(0, len(holder)), copy.deepcopy(random.choice(holder)))
        return made, tuple(above) or path
    elif kind == 2 and isinstance(holder, dict):
        # Under another name: an unknown field, or a value where another field belongs.
        name = random.choice([*holder, "nonsense", "", "\0", last])
        holder[name] = holder.pop(last)
        return made, (*above, name)
    else:
        holder[last] = value(holder[last], random)
    return made, path


def value(old: Any, random: Random) -> Any:
    """Another value in the place of `old`, more often than not of the same kind."""
    kind = random.randrange(8)
    if isinstance(old, bool) and kind < 3:
        return not old
    if isinstance(old, int) and kind < 6:
        return random.choice((*_NUMBERS, old + 1, old - 1, -old))
    if isinstance(old, str) and kind < 6:
        data = of_bytes(old.encode("utf-8", "surrogatepass"), random)
        return random.choice((random.choice(_STRINGS), random.choice(_STRINGS) + old, data.decode("utf-8", "replace")))
    if isinstance(old, list) and old and kind < 4:
        return [*old, random.choice((*_OTHERS, random.choice(_STRINGS), random.choice(_NUMBERS)))]
    return copy.deepcopy(random.choice((*_OTHERS, random.choice(_NUMBERS), random.choice(_STRINGS), [old], {"x": old})))


def paths(document: Any, above: Path = ()) -> Iterator[Path]:
    """The path of each value in a document but itself."""
    for key, member in document.items() if isinstance(document, dict) else enumerate(document):
        yield (*above, key)
        if isinstance(member, dict | list):
            yield from paths(member, (*above, key))


def bytes_of_json(data: bytes, random: Random) -> bytes:
    """`of_json` for a target that takes the text, now and then broken as a text, too."""
    made = json.dumps(of_json(json.loads(data), random)[0]).encode("utf-8", "surrogatepass")
    return of_bytes(made, random) if random.randrange(4) == 0 else made


def pieces(data: bytes, random: Random) -> Iterator[bytes]:
    """The data as it might arrive: in pieces of any size."""
    at = 0
    while at < len(data):
        size = random.choice((1, 2, 3, 7, 64, 512, 4096, len(data)))
        yield data[at : at + size]
        at += size
