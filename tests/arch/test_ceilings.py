"""Files and functions stay small enough to read in one sitting (ARCHITECTURE.md, "Budgets")."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "sampan"
VERB, CODEC, FUNCTION = 400, 600, 60

# Planners and codecs, which may be longer: one format read from top to bottom.
CODECS = (
    "wire/",
    "oci/",
    "linux/",
    "runtime/plan/",
    "runtime/seccomp",
    "api/",
    "engine/containers/spec",
    "containerd/services.py",
    "containerd/remotes/",
    "containerd/diff/",
)


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def code_lines(source: str) -> int:
    """Lines without module-level tables (literal dicts, lists, tuples, sets): tables are free."""
    tree = ast.parse(source)
    tables = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Dict | ast.List | ast.Tuple | ast.Set | ast.Call)
    )
    return source.count("\n") - tables


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_a_file_is_below_its_ceiling(path: Path) -> None:
    relative = str(path.relative_to(SRC))
    ceiling = CODEC if relative.startswith(CODECS) else VERB
    lines = code_lines(path.read_text())
    assert lines <= ceiling, f"{relative} has {lines} lines of code, its ceiling is {ceiling}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_a_function_is_below_its_ceiling(path: Path) -> None:
    long = [
        f"{node.name} ({lines} lines)"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION
    ]
    assert not long, f"{path.relative_to(SRC)}: {', '.join(long)}"
