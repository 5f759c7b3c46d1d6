"""The runtime's code in one file, for the next start: what a verb imports, in the order in which it ran.

To find, open and read fifty modules one by one takes 8 ms, to take them out of one file 3. The file stands beside the
interpreter that stays mounted (`standing`) and belongs to root. It holds, marshalled: the code of `code_loader`, then
the arguments of its `load`. It is stale when one of its witnesses is no longer what it was: the directory in which
packages are installed, and the modules' own files when they are elsewhere.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from sampan.runtime.code_loader import Part, Witness

_MAKING = ("steps.joining", "steps.rootfs", "steps.devices", "steps.identity")
ROOTS = {
    "create": ("seal", "create", "attend", *_MAKING),
    "delete": ("delete",),
    "exec": ("seal", "exec", "steps.joining", "steps.identity"),
    "kill": ("kill",),
    "run": ("seal", "create", "attend", "delete", *_MAKING),
    "start": ("start",),
    "state": ("state",),
}
"""The verbs that have a file, and what they import at once: those of a container's life."""
_STARTING = ("encodings", "importlib")
"""Packages that an interpreter has loaded from files before it runs any code, or needs for loading."""


def write(path: str, packages: str, verb: str) -> None:
    """Import what `verb` does anew and write the file at `path`; `packages` is the directory packages are installed in.

    Modules imported before this call are replaced by new ones. Errors: OSError.
    """
    parts = _recorded(("__main__", "cli", *ROOTS[verb]))
    objects = _shared_objects(parts)
    here = os.path.dirname(os.path.abspath(__file__))
    small = f"{here}/small_os.py"
    parts.insert(0, ("os", small, False, _bare_code(small)))
    loader = f"{here}/code_loader.py"
    home = os.path.dirname(os.path.dirname(here))
    witnesses = [packages]
    if home != packages:  # an editable install, where a file changes alone
        witnesses += [__file__, loader, *(path for _, path, _, _ in parts)]
    from marshal import dumps

    data = dumps((_bare_code(loader), [_witness(name) for name in witnesses], objects, parts, home))
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _shared_objects(parts: list[Part]) -> list[tuple[str, str]]:
    """(name, path) of the shared objects that modules import when they are executed."""
    from importlib.machinery import ExtensionFileLoader

    found: list[tuple[str, str]] = []
    for name in dict.fromkeys(name for _, _, _, code in parts for name in code.co_names):
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is not None and type(spec.loader) is ExtensionFileLoader:
            found.append((name, spec.loader.path))
    return found


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
