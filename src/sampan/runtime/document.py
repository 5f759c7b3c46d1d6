"""JSON in and out without the `json` package, whose decoder and encoder bring `re`: 10 ms of a one-shot's start.

The C scanner and encoder are the package's own; where an interpreter lacks them, or a text is wrong, the package is
imported after all, and its error is the one raised.
"""

from __future__ import annotations

import os

from sampan.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    import _json
except ImportError:  # an interpreter without the C accelerator
    _json = None  # type: ignore[assignment]

_BLANKS = " \t\n\r"


class _Context:
    """What the C scanner asks of a decoder object."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_scan: Any = _json.make_scanner(_Context()) if _json is not None else None  # type: ignore[arg-type]


def parse(text: str, name: str) -> Any:
    """The value of a JSON text; `name` is what to call it in the error. Errors: DataLoss."""
    if _scan is not None:
        start = len(text) - len(text.lstrip(_BLANKS))
        try:
            value, end = _scan(text, start)
        except (ValueError, StopIteration, RecursionError, SystemError):
            # SystemError, because the scanner's own exception class lives in the package that is not imported.
            end = -1
        if end >= 0 and not text[end:].strip(_BLANKS):
            return value
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataLoss(f"{name}: {error}") from None


def _refuse(value: object) -> Any:
    raise TypeError(f"not a JSON value: {value!r}")


def text_of(value: object, indent: int | None = None) -> str:
    """The JSON text of a value; `indent` blanks per level, or one line without blanks."""
    if _json is not None:
        if indent is not None:
            return _indented(value, "\n", " " * indent)
        encode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, True)
        return "".join(encode(value, 0))
    import json

    return json.dumps(value, indent=indent, separators=None if indent else (",", ":"))


def _indented(value: object, line: str, indent: str) -> str:
    """As the package lays it out; `line` begins a line at the level of `value`. The C encoder knows one line only."""
    deeper = line + indent
    if isinstance(value, dict) and value:
        members = (f"{text_of(key)}: {_indented(member, deeper, indent)}" for key, member in value.items())
        return f"{{{deeper}{f',{deeper}'.join(members)}{line}}}"
    if isinstance(value, list) and value:
        return f"[{deeper}{f',{deeper}'.join(_indented(member, deeper, indent) for member in value)}{line}]"
    return text_of(value)


def load(path: str, limit: int = 64 << 20) -> Any:
    """The value in a JSON file of at most `limit` bytes. Errors: OSError, DataLoss."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size > limit:
            raise DataLoss(f"{path}: {size} bytes are more than a document may have")
        parts: list[bytes] = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    finally:
        os.close(fd)
    return parse(b"".join(parts).decode("utf-8", "replace"), path)
