"""Session keyrings. Source: keyctl(2), session-keyring(7)."""

from __future__ import annotations

from sampan.linux import abi
from sampan.linux.call import buffer, call, cstring


def join_session_keyring(name: str) -> int:
    """Make a new session keyring `name`, or join one that may be searched; return its id.

    Errors: OSError; ENOSYS without CONFIG_KEYS, EDQUOT when the user has too many keys.
    """
    return call("keyctl", abi.KEYCTL_JOIN_SESSION_KEYRING, cstring("keyctl", name), path=name)


def describe(key: int) -> str:
    """ "type;uid;gid;perm;description" of a key, perm in hexadecimal."""
    room = buffer(4096)
    size = call("keyctl", abi.KEYCTL_DESCRIBE, key, room, 4096)
    return bytes(room.raw[: min(size, 4096) - 1]).decode("utf-8", "replace")


def permissions(key: int) -> int:
    """The permission mask of a key (abi.KEY_*)."""
    return int(describe(key).split(";", 4)[3], 16)


def setperm(key: int, permissions: int) -> None:
    """Set the permission mask of a key that this process owns."""
    call("keyctl", abi.KEYCTL_SETPERM, key, permissions)
