"""Who may import whom (ARCHITECTURE.md): read from the source, so that a lazy import counts as well."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "sampan"

# Package -> packages of ours that it may import. `engine.compose` is the one composition root.
MAY_IMPORT = {
    "errors": set(),
    "linux": {"errors"},
    "oci": {"errors", "linux"},
    "wire": {"errors", "linux", "oci"},
    "api": {"errors", "wire", "oci"},
    "runtime": {"errors", "linux", "oci"},
    "keeper": {"errors", "linux", "wire", "api", "runtime"},
    # A keeper that speaks ttrpc: the runtime itself is the keeper's, but for what must be before it and what it offers.
    "shim": {"errors", "linux", "wire", "api", "keeper", "runtime.seal", "runtime.features", "runtime.host"},
    "containerd": {"errors", "linux", "oci", "wire", "api", "keeper.client"},
    "engine": {"errors", "oci", "wire", "api", "containerd.services"},
    "cli": {"errors", "api.docker", "wire"},
}
# The rooms of the engine that touch the kernel themselves, and the root that wires everything.
ENGINE_LINUX = ("engine/networks/", "engine/volumes/", "engine/logging/", "engine/containers/archive")
COMPOSITION_ROOT = ("engine/compose.py", "engine/__main__.py")
ONLY_LINUX = {"ctypes", "_ctypes"}
NO_ASYNCIO = ("linux", "oci", "wire", "runtime", "keeper", "shim", "cli", "errors")
# Started by `python -I -S -m`: their entry files may be named by no other module.
MAINS = {
    "sampan.runtime.__main__",
    "sampan.keeper.__main__",
    "sampan.shim.__main__",
    "sampan.engine.__main__",
    "sampan.cli.__main__",
}


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def imports_of(path: Path) -> list[str]:
    """Every module that the file imports, typing-only blocks left out, in dotted form."""
    names: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module in ("sampan", "sampan.containerd", "sampan.api", "sampan.keeper"):
                names.extend(f"{node.module}.{alias.name}" for alias in node.names)
            else:
                names.append(node.module)
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.append("." * node.level)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return names


def allowed(package: str, target: str) -> bool:
    if target in ("VERSION",) or target == package or target.startswith(package + "."):
        return True
    return any(target == may or target.startswith(may + ".") for may in MAY_IMPORT[package])


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    relative = str(path.relative_to(SRC))
    package = relative.split("/")[0].removesuffix(".py")
    if package == "__init__":
        assert imports_of(path) == []
        return
    if relative in COMPOSITION_ROOT:
        return
    wrong = []
    for name in imports_of(path):
        if name.startswith("."):
            wrong.append(f"{name} (relative imports hide the room)")
        elif name.startswith("sampan."):
            target = name.removeprefix("sampan.")
            if package == "engine" and target.startswith("linux") and relative.startswith(ENGINE_LINUX):
                continue
            if not allowed(package, target):
                wrong.append(name)
    assert not wrong, f"{relative} may not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_only_linux_touches_ctypes_and_only_the_upper_rooms_asyncio(path: Path) -> None:
    relative = str(path.relative_to(SRC))
    package = relative.split("/")[0].removesuffix(".py")
    roots = {name.split(".")[0] for name in imports_of(path)}
    if package != "linux":
        assert not roots & ONLY_LINUX
    if package in NO_ASYNCIO:
        assert "asyncio" not in roots
        assert "threading" not in roots


def test_a_main_is_imported_only_by_nobody() -> None:
    importers = {(str(path.relative_to(SRC)), name) for path in modules() for name in imports_of(path) if name in MAINS}
    assert importers == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    banned = {"utils", "util", "helpers", "common", "misc", "base", "core_utils", "manager", "lib", "tools", "impl"}
    assert [str(p.relative_to(SRC)) for p in modules() if p.stem in banned] == []
