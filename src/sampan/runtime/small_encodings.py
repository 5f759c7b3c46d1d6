"""The package `encodings` of the interpreter that `standing` keeps: UTF-8 itself, the rest from the real package.

Every start of an interpreter imports it before it runs any code, with the table of 300 aliases: 0.8 ms of a one-shot.
The second place of the interpreter's path is the directory of its own library.
"""

import codecs
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from _typeshed import ReadableBuffer as Buffer

__path__ = [f"{sys.path[1]}/encodings"]
_NAMES = ("utf-8", "utf_8", "utf8")


def _decode(data: "Buffer", errors: str = "strict", /) -> tuple[str, int]:
    return codecs.utf_8_decode(data, errors, True)


class _Encoder(codecs.IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:
        return codecs.utf_8_encode(text, self.errors)[0]


class _Decoder(codecs.BufferedIncrementalDecoder):
    _buffer_decode = codecs.utf_8_decode  # type: ignore[assignment]


class _Writer(codecs.StreamWriter):
    encode = codecs.utf_8_encode  # type: ignore[assignment]


class _Reader(codecs.StreamReader):
    decode = codecs.utf_8_decode  # type: ignore[assignment]


_utf_8 = codecs.CodecInfo(codecs.utf_8_encode, _decode, _Reader, _Writer, _Encoder, _Decoder, "utf-8")


def _search(name: str) -> "Any":
    if name in _NAMES:
        return _utf_8
    try:
        return _complete()["search_function"](name)
    except ImportError:
        return None


def _complete() -> "dict[str, Any]":
    """The names of the real package, which are this one's own from then on. Errors: ImportError."""
    found = globals()
    if "search_function" not in found:
        if not sys.meta_path:
            raise ImportError  # init has closed the door: what stands at that path now is the container's
        found.pop("__getattr__", None)
        from importlib.machinery import SourceFileLoader

        loader = SourceFileLoader("encodings", f"{__path__[0]}/__init__.py")
        exec(loader.get_code("encodings"), found)  # type: ignore[arg-type]  # noqa: S102  the interpreter's own library
    return found


def __getattr__(wanted: str) -> "Any":
    try:
        return _complete()[wanted]
    except (ImportError, KeyError):
        raise AttributeError(wanted) from None


codecs.register(_search)
