"""Making the runtime's modules from a code file, which begins with the code of this one; `code_file` writes it."""

from __future__ import annotations

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    Witness = tuple[str, int, int]
    Part = tuple[str, str, bool, CodeType]


class _Spec:
    """What the making of a shared object's module asks of a ModuleSpec."""

    __slots__ = ("name", "origin")

    def __init__(self, name: str, origin: str) -> None:
        self.name = name
        self.origin = origin


def load(witnesses: list[Witness], objects: list[tuple[str, str]], parts: list[Part], home: str) -> None:
    """Make the modules of `objects`, shared ones, (name, path), and of `parts`, (name, path, whether a package, code).

    Other modules are found in `home`. `witnesses` are (path, mtime in nanoseconds, size). The garbage collector is off
    and stays so: a one-shot is too short for it, and init too (`attend.until_exit` takes time, and turns it on).
    Errors: ImportError, before anything is done, when one has changed; OSError when one is gone.
    """
    for path, changed, size in witnesses:
        found = posix.stat(path)
        if (found.st_mtime_ns, found.st_size) != (changed, size):
            raise ImportError(f"{path} has changed")
    sys.path.append(home)
    kind: type[ModuleType] = type(sys)
    modules = sys.modules
    for name, path in objects:
        if name not in modules:
            from _imp import create_dynamic, exec_dynamic

            # To look for four of them takes 0.3 ms.
            modules[name] = create_dynamic(_Spec(name, path))  # type: ignore[arg-type]
            exec_dynamic(modules[name])
    if "os" in modules:
        parts = [part for part in parts if part[0] != "os"]
    for name, path, package, _ in parts:
        module = modules[name] = kind(name)
        module.__file__ = path
        if package:
            module.__path__ = [path.rpartition("/")[0]]
    for name, _, _, _ in parts:
        above, _, last = name.rpartition(".")
        if above:
            setattr(modules[above], last, modules[name])
    # In the order in which they were complete, so that each finds complete what it imports.
    for name, _, _, code in parts:
        exec(code, modules[name].__dict__)  # noqa: S102  the very code that the import system would execute
    # What was made now stays; a collection need never look at it.
    gc.freeze()
