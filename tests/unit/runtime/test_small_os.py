"""The small `os` of a one-shot beside the real one, in interpreters of their own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[3] / "src/sampan"

SMALL = f"""
import sys
assert "os" not in sys.modules
small = sys.modules["os"] = type(sys)("os")
with open({str(SRC / "runtime/small_os.py")!r}) as file:
    exec(compile(file.read(), "small_os.py", "exec"), small.__dict__)
import os
assert os is small
"""


def python(program: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    argv = [sys.executable, "-I", "-S", "-c", program, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def named(path: Path) -> set[str]:
    """The attributes of `os` that a source file names."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }


def test_all_that_the_runtime_names_is_there() -> None:
    """In init there is no way to the real one any more."""
    sources = [*(SRC / "linux").rglob("*.py"), *(SRC / "runtime").rglob("*.py"), *(SRC / "oci").rglob("*.py")]
    wanted = sorted(set().union(*map(named, sources)))
    assert {"open", "path", "fsencode", "makedirs", "_exit"} <= set(wanted)
    missing = python(f"{SMALL}\nprint(*[n for n in sys.argv[1:] if n not in vars(os)])", *wanted).split()
    assert missing == []
    assert "_collections_abc" not in python(f"{SMALL}\nprint(*sys.modules)").split()


def test_what_is_missing_comes_from_the_real_one_which_is_imported_from_then_on() -> None:
    program = f"""{SMALL}
walk = small.walk
import os as real
assert real is not small and walk is real.walk and small.walk is walk
assert small.open is real.open
try:
    small.nosuch
except AttributeError:
    print("no")
"""
    assert python(program) == "no\n"


def test_behind_a_closed_door_it_is_an_attribute_error() -> None:
    program = f"""{SMALL}
sys.meta_path.clear()
try:
    small.walk
except AttributeError as error:
    print(error)
"""
    assert python(program) == "walk\n"


def test_the_environment_and_names_are_read_as_ever() -> None:
    env = {"PLAIN": "x=y", "ODD": os.fsdecode(b"\xff\xfe"), "LC_ALL": "C.UTF-8"}
    show = "print(ascii(sorted(os.environ.items())), os.fsencode('\\udcff'), ascii(os.fsdecode(b'\\xff')))"
    assert python(f"{SMALL}\n{show}", env=env) == python(f"import os\n{show}", env=env)


@pytest.mark.parametrize("path", ["a/b/c", "a/b/c/", "a", "there/b"])
def test_directories_are_made_and_removed_as_the_real_one_does(tmp_path: Path, path: str) -> None:
    found: list[str] = []
    for start in (SMALL, "import os, sys"):
        top = tmp_path / f"{len(found)}"
        (top / "there").mkdir(parents=True)
        (top / "there/file").touch()
        steps = f"""{start}
os.chdir(sys.argv[1])
os.makedirs({path!r}, 0o700)
os.makedirs({path!r}, exist_ok=True)
try:
    os.makedirs({path!r})
except FileExistsError as error:
    print(error)
print(sorted((w, d) for w, d, _ in __import__("os").walk(".")))
os.removedirs({path!r})
print(sorted(os.listdir(".")))
"""
        found.append(python(steps, str(top)))
    assert found[0] == found[1]
