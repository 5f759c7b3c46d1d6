"""What a one-shot needs of `os`, which itself takes 1 ms of a start for its abstract base classes.

`code_loader.load` makes this the module `os` of an interpreter that has none yet. What is missing here comes from the
real one, which then takes this one's place for all that is imported later. After init has closed the door to imports
nothing can; a test holds that all is here which the runtime's sources name.
"""

from __future__ import annotations

import posixpath as path
import sys
from posix import *  # noqa: F403  as os does
from posix import _exit as _exit
from posix import environ as _environ
from posix import fspath, mkdir, rmdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    StrPath = str | bytes

name = "posix"
SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
sys.modules["os.path"] = path


def fsencode(filename: StrPath) -> bytes:
    found = fspath(filename)
    return found if isinstance(found, bytes) else found.encode(_ENCODING, _ERRORS)


def fsdecode(filename: StrPath) -> str:
    found = fspath(filename)
    return found if isinstance(found, str) else found.decode(_ENCODING, _ERRORS)


environ = {fsdecode(key): fsdecode(value) for key, value in _environ.items()}  # type: ignore[misc]


def makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
    above, _, last = name.rstrip("/").rpartition("/")
    if above and last and not path.exists(above):
        makedirs(above, exist_ok=True)
    try:
        mkdir(name, mode)
    except OSError:
        if not exist_ok or not path.isdir(name):
            raise


def removedirs(name: str) -> None:
    rmdir(name)
    above = path.dirname(name.rstrip("/"))
    while above:
        try:
            rmdir(above)
        except OSError:
            break
        above = path.dirname(above)


def __getattr__(wanted: str) -> Any:
    if wanted.startswith("__"):
        raise AttributeError(wanted)
    if sys.modules["os"].__dict__ is globals():
        del sys.modules["os"]
        try:
            __import__("os")
        except ImportError:
            raise AttributeError(wanted) from None  # the door is closed
    return getattr(sys.modules["os"], wanted)
