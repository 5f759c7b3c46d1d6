"""Detach keys: the sequence a user types on a terminal to leave a container running. No I/O.

Source: docker attach, "Override the detach sequence": a list of single characters and ctrl-<value>, value one of
a-z @ [ \\ ] ^ _ .
"""

from __future__ import annotations

from sampan.errors import InvalidArgument

DEFAULT = "ctrl-p,ctrl-q"
_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """The bytes of the sequence; "" is Docker's default. InvalidArgument."""
    keys = bytearray()
    for word in (text or DEFAULT).split(","):
        if len(word) == 1 and ord(word) < 128:
            keys.append(ord(word))
            continue
        value = word.lower().removeprefix("ctrl-")
        if len(value) != 1 or value == word.lower():
            raise InvalidArgument(f"Unknown character: '{word}'")
        if "a" <= value <= "z":
            keys.append(ord(value) - ord("a") + 1)
        elif value in _CONTROLS:
            keys.append(_CONTROLS[value])
        else:
            raise InvalidArgument(f"Unknown character: '{word}'")
    return bytes(keys)


class DetachKeys:
    """Watches the input for the sequence. A beginning of it is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes for the container, whether the sequence is complete). What follows the sequence is dropped."""
        passed = bytearray()
        for byte in data:
            if self._keys and byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(passed), True
                continue
            if self._held:
                passed += self._keys[: self._held]
                self._held = 0
                if byte == self._keys[0]:
                    self._held = 1
                    continue
            passed.append(byte)
        return bytes(passed), False
