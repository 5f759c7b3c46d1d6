"""The runtime's code in one file, for the next start: what a verb imports, in the order in which it ran.

To find, open and read fifty modules one by one takes 8 ms, to take them out of one file 3. The file stands beside the
interpreter that stays mounted (`standing`) and belongs to root. It holds, marshalled: the code of this module, whose
`load` is all that a start needs of it, then `load`'s arguments. It is stale when one of its witnesses is no longer
what it was: the directory in which packages are installed, and the modules' own files when they are elsewhere.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    Witness = tuple[str, int, int]
    Part = tuple[str, str, bool, CodeType]

ROOTS = {
    "create": ("seal", "create", "attend"),
    "delete": ("delete",),
    "exec": ("seal", "exec"),
    "kill": ("kill",),
    "run": ("seal", "create", "attend", "delete"),
    "start": ("start",),
    "state": ("state",),
}
"""The verbs that have a file, and what they import at once: those of a container's life."""
_STARTING = ("encodings", "importlib")
"""Packages that an interpreter has loaded from files before it runs any code, or needs for loading."""


def load(witnesses: list[Witness], parts: list[Part], home: str) -> None:
    """Make the modules of `parts`, (name, path, whether a package, code); others are found in `home`.

    `witnesses` are (path, mtime in nanoseconds, size). Errors: ImportError, before anything is done, when one has
    changed; OSError when one is gone.
    """
    for path, changed, size in witnesses:
        found = os.stat(path)
        if (found.st_mtime_ns, found.st_size) != (changed, size):
            raise ImportError(f"{path} has changed")
    sys.path.append(home)
    kind: type[ModuleType] = type(sys)
    modules = sys.modules
    for name, path, package, _ in parts:
        module = modules[name] = kind(name)
        module.__file__ = path
        if package:
            module.__path__ = [os.path.dirname(path)]
    for name, _, _, _ in parts:
        above, _, last = name.rpartition(".")
        if above:
            setattr(modules[above], last, modules[name])
    # In the order in which they were complete, so that each finds complete what it imports.
    for name, _, _, code in parts:
        exec(code, modules[name].__dict__)  # noqa: S102  the very code that the import system would execute
    # The collector was off for the making of so many objects that stay; it need never look at them.
    gc.freeze()
    gc.enable()


def write(path: str, packages: str, verb: str) -> None:
    """Import what `verb` does anew and write the file at `path`; `packages` is the directory packages are installed in.

    Modules imported before this call are replaced by new ones. Errors: OSError.
    """
    parts = _recorded(("__main__", "cli", *ROOTS[verb]))
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    witnesses = [packages]
    if home != packages:
        witnesses += [__file__, *(path for _, path, _, _ in parts)]  # an editable install, where a file changes alone
    from marshal import dumps

    data = dumps((_bare_code(__file__), [_witness(name) for name in witnesses], parts, home))
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _witness(path: str) -> Witness:
    found = os.stat(path)
    return path, found.st_mtime_ns, found.st_size


def _bare_code(path: str) -> CodeType:
    """A source file's code without what only readers and type checkers want: two thirds of the size."""
    import ast

    class Bare(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        def visit_arg(self, node: ast.arg) -> ast.AST:
            node.annotation = None
            return node

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            return ast.Assign([node.target], node.value) if node.value else ast.Pass()

        def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
            return ast.Pass() if node.module == "__future__" else node

        def visit_If(self, node: ast.If) -> ast.AST:
            typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return ast.Pass() if typing else self.generic_visit(node)

    with open(path, "rb") as file:
        tree = ast.fix_missing_locations(Bare().visit(ast.parse(file.read(), path)))
    return _without_lines(compile(tree, path, "exec", dont_inherit=True, optimize=2))


def _without_lines(code: CodeType) -> CodeType:
    parts = tuple(_without_lines(part) if isinstance(part, type(code)) else part for part in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=parts)


def _recorded(roots: tuple[str, ...]) -> list[Part]:
    """Import modules of the runtime as if nothing of ours had been, and note each that comes from a source file."""
    from importlib import import_module
    from importlib.machinery import PathFinder, SourceFileLoader

    done: list[tuple[str, str, bool]] = []

    class Recorder(SourceFileLoader):
        def exec_module(self, module: ModuleType) -> None:
            super().exec_module(module)
            done.append((self.name, self.path, hasattr(module, "__path__")))

    class Finder:
        @staticmethod
        def find_spec(name: str, path: list[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and type(spec.loader) is SourceFileLoader:
                spec.loader = Recorder(spec.loader.name, spec.loader.path)
            return spec

    for name, module in list(sys.modules.items()):
        spec = module.__spec__
        if spec is not None and type(spec.loader) is SourceFileLoader and not name.startswith(_STARTING):
            del sys.modules[name]
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    try:
        for name in roots:
            import_module(f"sampan.runtime.{name}")
    finally:
        sys.meta_path.remove(Finder)  # type: ignore[arg-type]
    return [(*one, _bare_code(one[1])) for one in done if one[0] != "__future__"]
