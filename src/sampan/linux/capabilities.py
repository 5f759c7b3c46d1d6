"""Capability sets of this process, as int masks (bit N is capability N). Source: capabilities(7), capget(2)."""

from __future__ import annotations

import errno

from sampan.linux import abi
from sampan.linux.call import buffer, call, read_u32, u32
from sampan.linux.process import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BITS = {name: bit for bit, name in enumerate(abi.CAPABILITIES)}


def bit(name: str) -> int:
    """The number of a capability name as "CAP_CHOWN". Errors: KeyError."""
    return _BITS[name]


def mask(names: Iterable[str]) -> int:
    """The mask of capability names. Errors: KeyError for an unknown one."""
    total = 0
    for name in names:
        total |= 1 << _BITS[name]
    return total


def names(bits: int) -> list[str]:
    """The names in a mask, in bit order; bits newer than the table are left out."""
    return [name for name, number in _BITS.items() if bits >> number & 1]


def last_cap() -> int:
    """The highest capability number that the running kernel knows; asked of the kernel, not of /proc."""
    number = len(abi.CAPABILITIES) - 1
    while number >= 0 and bounding_has(number) is None:
        number -= 1
    while bounding_has(number + 1) is not None:
        number += 1
    return number


def capget(pid: int = 0) -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of `pid` (0 is this thread). capget(2)."""
    header = buffer(8, u32(abi.LINUX_CAPABILITY_VERSION_3, pid))
    data = buffer(24)
    call("capget", header, data)
    low_e, low_p, low_i, high_e, high_p, high_i = read_u32(data)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's sets. Errors: EPERM for what is not in the old permitted set. capset(2)."""
    header = buffer(8, u32(abi.LINUX_CAPABILITY_VERSION_3, 0))
    low = 0xFFFFFFFF
    data = u32(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    call("capset", header, data)


def bounding_has(number: int) -> bool | None:
    """Whether the bounding set holds capability `number`; None when the kernel does not know it."""
    try:
        return bool(prctl(abi.PR_CAPBSET_READ, number))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def bounding_drop(keep: int) -> None:
    """Drop every capability that is not in the mask `keep` from the bounding set. Needs CAP_SETPCAP."""
    number = 0
    while (held := bounding_has(number)) is not None:
        if held and not keep >> number & 1:
            prctl(abi.PR_CAPBSET_DROP, number)
        number += 1


def ambient_clear() -> None:
    """Empty the ambient set. PR_CAP_AMBIENT_CLEAR_ALL."""
    prctl(abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_CLEAR_ALL)


def ambient_raise(bits: int) -> None:
    """Add the capabilities of `bits`; each must be permitted and inheritable (else EPERM)."""
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            prctl(abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_RAISE, number)


def ambient() -> int:
    """The ambient set."""
    total = 0
    for number in range(last_cap() + 1):
        total |= prctl(abi.PR_CAP_AMBIENT, abi.PR_CAP_AMBIENT_IS_SET, number) << number
    return total
