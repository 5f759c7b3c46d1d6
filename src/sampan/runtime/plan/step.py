"""One step of making a container: what to do, with what, and which field of the spec asked for it."""

from __future__ import annotations

from sampan.linux import abi, capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Step:
    """`do` names a function of `runtime.steps`, `with_` are its arguments, `cause` is the spec's path ("mounts[3]")."""

    __slots__ = ("cause", "do", "with_")

    def __init__(self, do: str, cause: str, **with_: Any) -> None:
        self.do = do
        self.cause = cause
        self.with_ = with_

    def __str__(self) -> str:
        """One line: the step, its arguments that say something, and behind "#" its cause."""
        given = {key: value for key, value in self.with_.items() if value not in (None, [], {}, 0, "")}
        said = " ".join(f"{key}={shown(key, value)}" for key, value in given.items())
        return f"{self.do} {said}".rstrip() + f"  # {self.cause}"

    def __repr__(self) -> str:
        return f"<{self}>"


_BIT_NAMES = {"attributes": "MOUNT_ATTR_", "tree_attributes": "MOUNT_ATTR_"}
_PROPAGATION = tuple(
    (f"{'r' if recursive else ''}{word}", (flags, recursive))
    for word, flags in (
        ("private", abi.MS_PRIVATE), ("shared", abi.MS_SHARED), ("slave", abi.MS_SLAVE),
        ("unbindable", abi.MS_UNBINDABLE),
    )
    for recursive in (False, True)
)  # fmt: skip
_CAPABILITY_SETS = ("keep", "effective", "permitted", "inheritable", "ambient")


def shown(key: str, value: object) -> str:
    """A step's argument as text: masks by the names of their bits, modes in octal."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if key == "propagation":
        return ",".join(word for word, entry in _PROPAGATION if entry in value)  # type: ignore[operator]
    if key == "env":
        # Names only: what a variable holds may be a secret, and a log is read by others.
        return _value(list(value))  # type: ignore[call-overload]
    if key == "hook":
        return _value(value["path"])  # type: ignore[index]
    if type(value) is not int:
        return _value(value)
    if key in ("mode", "umask"):
        return f"{value:#o}"
    if key in _CAPABILITY_SETS:
        return ",".join(capabilities.names(value))
    prefix = _BIT_NAMES.get(key)
    if prefix:
        # The atime mode is a number of several bits, so only a name whose bits are all there is meant.
        names = ((name, bit) for name, bit in vars(abi).items() if name.startswith(prefix) and "__" not in name)
        bits = [name.removeprefix(prefix) for name, bit in names if bit and bit & value == bit]
        return ",".join(bits).lower()
    return str(value)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return f"{value[0]}" if value[1] is None else f"{value[0]}={_value(value[1])}"
    if isinstance(value, list | tuple):
        return ",".join(_value(member) for member in value)
    if isinstance(value, dict):
        return ",".join(f"{key}={_value(member)}" for key, member in value.items())
    text = str(value)
    return text if text and " " not in text else repr(text)
