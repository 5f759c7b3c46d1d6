"""Who a process runs as: Docker's --user and --group-add against the container's own passwd and group files. Pure.

Source: passwd(5), group(5); the rules are those of runc's GetExecUser, which Docker uses.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.errors import InvalidArgument

MAX_ID = 2**31 - 1
MAX_FILE = 1 << 20
"""Bytes of a container's passwd or group file that are read: the file belongs to whoever made the image."""


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@functools.lru_cache(maxsize=16)
def resolve(text: str, passwd: bytes, group: bytes, extra_groups: tuple[str, ...] = ()) -> User:
    """`text` is "", "user", "uid", "user:group" and so on. InvalidArgument
    `unable to find user x: no matching entries in passwd file`, likewise for a group."""
    user_part, _, group_part = text.partition(":")
    wanted_uid = _number(user_part)
    uid, gid, home, name = 0, 0, "/", ""
    for entry in _lines(passwd, 7):
        matches = (
            int(entry[2]) == (wanted_uid or 0) if not user_part or wanted_uid is not None else (entry[0] == user_part)
        )
        if matches:
            name, uid, gid, home = entry[0], int(entry[2]), int(entry[3]), entry[5] or "/"
            break
    else:
        if wanted_uid is not None:
            uid = _checked(wanted_uid)
        elif user_part:
            raise InvalidArgument(f"unable to find user {user_part}: no matching entries in passwd file")
    groups: list[int] = []
    if group_part:
        gid = _find_group(group_part, group)
    elif name:
        groups = [int(entry[2]) for entry in _lines(group, 4) if name in entry[3].split(",")]
    extra = [_find_group(wanted, group) for wanted in extra_groups]
    # The primary group is listed too, since a process could otherwise drop it by setgroups(2) rules of a setgid
    # program and reach what the group is denied (CVE-2022-36109).
    return User(uid, gid, tuple(dict.fromkeys([gid, *groups, *extra])), home)


def _find_group(wanted: str, group: bytes) -> int:
    number = _number(wanted)
    for entry in _lines(group, 4):
        if (int(entry[2]) == number) if number is not None else entry[0] == wanted:
            return int(entry[2])
    if number is None:
        raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")
    return _checked(number)


def _lines(data: bytes, fields: int) -> Iterator[list[str]]:
    """Entries with numeric ids; anything else in the file is skipped, as libc does."""
    # At newlines alone: str.splitlines knows seven more ends, with which a user's own field could hold an entry.
    for line in data[:MAX_FILE].decode("utf-8", "surrogateescape").split("\n"):
        line = line.removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        entry = line.split(":")
        entry += [""] * (fields - len(entry))
        numbers = [_number(field) for field in (entry[2:4] if fields == 7 else entry[2:3])]
        if any(number is None or not 0 <= number <= MAX_ID for number in numbers):
            continue
        yield entry


def _number(text: str) -> int | None:
    """None also for what has more digits than any id."""
    return int(text) if len(text) < 20 and text.isascii() and text.removeprefix("-").isdigit() else None


def _checked(number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}")
    return number
