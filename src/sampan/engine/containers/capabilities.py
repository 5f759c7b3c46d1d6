"""Docker's capability set: the default fourteen, and what --cap-add, --cap-drop and --privileged make of it."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.errors import InvalidArgument

DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

# In the order of their numbers (linux/capability.h).
ALL = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

_KNOWN = frozenset(ALL)


def normalize(names: Sequence[str], field: str) -> list[str]:
    """Upper case with CAP_, "ALL" kept. InvalidArgument `invalid CapAdd: unknown capability: "CAP_X"`."""
    found = []
    for given in names:
        name = given.upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = "CAP_" + name
        if name != "ALL" and name not in _KNOWN:
            raise InvalidArgument(f'invalid {field}: unknown capability: "{name}"')
        found.append(name)
    return found


def resolve(add: Sequence[str], drop: Sequence[str], privileged: bool, available: Sequence[str] = ALL) -> list[str]:
    """The capability set of a container.

    `available` is the engine's own bounding set: ALL and --privileged give no more than that, since the kernel
    would refuse it. InvalidArgument for an unknown name."""
    adds, drops = normalize(add, "CapAdd"), normalize(drop, "CapDrop")
    if privileged:
        return list(available)
    if "ALL" in adds:
        return [name for name in available if name not in drops]
    if "ALL" in drops:
        return list(dict.fromkeys(adds))
    kept = [name for name in DEFAULT if name not in drops]
    return list(dict.fromkeys(kept + [name for name in adds if name not in drops]))
