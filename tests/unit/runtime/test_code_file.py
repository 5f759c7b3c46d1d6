"""The runtime's code in one file, in interpreters as bare as those of `bin/sampan-runc`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.runtime import code_file

SRC = Path(__file__).parents[3] / "src"

WRITE = """
import sys
sys.path.append(sys.argv[1])
from sampan.runtime import code_file
code_file.write(sys.argv[2], sys.argv[3], sys.argv[4])
"""

LOAD = """
import marshal, sys
with open(sys.argv[1], "rb") as file:
    code, *parts = marshal.loads(file.read())
exec(code)
try:
    load(*parts)
except (OSError, ImportError) as error:
    sys.exit(f"stale: {error}")
"""


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", "-c", program, *arguments], capture_output=True, text=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of what the runtime consists of."""
    for part in ("linux", "oci", "runtime"):
        shutil.copytree(SRC / "sampan" / part, tmp_path / "home/sampan" / part)
    for part in ("__init__.py", "errors.py"):
        shutil.copy(SRC / "sampan" / part, tmp_path / "home/sampan" / part)
    return tmp_path / "home"


@pytest.fixture
def file(home: Path, tmp_path: Path) -> str:
    """The file of an installation whose packages are in `home` itself."""
    path = str(tmp_path / "code")
    done = python(WRITE, str(home), path, str(home), "run")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["code", "home"]
    return path


@pytest.mark.parametrize("verb", sorted(code_file.ROOTS))
def test_all_that_a_verb_imports_is_there_and_complete(home: Path, tmp_path: Path, verb: str) -> None:
    path = str(tmp_path / "code")
    assert python(WRITE, str(home), path, str(home), verb).returncode == 0
    modules = "import json; print(json.dumps({n: sorted(vars(m)) for n, m in sys.modules.items() if 'sampan' in n}))"
    imports = "".join(f"import sampan.runtime.{name}\n" for name in ("__main__", "cli", *code_file.ROOTS[verb]))
    imported = python(f"import sys; sys.path.append({str(home)!r})\n{imports}{modules}")
    loaded = python(f"{LOAD}\n{modules}", path)
    assert loaded.returncode == 0, loaded.stderr
    one, other = json.loads(imported.stdout), json.loads(loaded.stdout)
    assert sorted(one) == sorted(other)
    assert "sampan.runtime.state" in other
    # Annotations and what the import system notes are all that may be missing.
    allowed = {"__annotations__", "__builtins__", "__cached__", "__doc__", "annotations", "TYPE_CHECKING"}
    for name, names in one.items():
        assert set(names) ^ set(other[name]) <= allowed, name


def test_a_verb_that_starts_nothing_loads_nothing_of_what_starts_a_container(home: Path, tmp_path: Path) -> None:
    """containerd and dockerd call these for every container, too."""
    path = str(tmp_path / "code")
    for verb in ("state", "kill", "delete"):
        assert python(WRITE, str(home), path, str(home), verb).returncode == 0
        loaded = python(f"{LOAD}\nprint(*sys.modules)", path).stdout.split()
        assert f"sampan.runtime.{verb}" in loaded
        assert not {"sampan.runtime.launch", "sampan.runtime.plan", "sampan.runtime.steps.rootfs"} & set(loaded), verb


def test_what_is_loaded_runs_and_finds_the_rest_in_its_files(file: str) -> None:
    done = python(f"{LOAD}\nfrom sampan.runtime.cli import main\nmain(['--version'])", file)
    assert (done.returncode, done.stdout.split(" ")[0]) == (0, "runc"), done.stderr
    done = python(f"{LOAD}\nfrom sampan.runtime.cli import main\nmain(['run', '--bundle', '/nosuch', 'x'])", file)
    assert (done.returncode, "/nosuch" in done.stderr) == (1, True), done.stderr


def test_nothing_is_looked_for_when_it_is_loaded(home: Path, file: str) -> None:
    """The files themselves are not needed, but for the witness."""
    before = os.stat(home)
    (home / "sampan").rename(home.parent / "away")
    os.utime(home, ns=(before.st_atime_ns, before.st_mtime_ns))
    code = "from sampan.runtime import cli, create, attend, launch; print(len(create.run.__code__.co_code))"
    done = python(f"{LOAD}\n{code}", file)
    assert int(done.stdout) > 100, done.stderr


def test_an_installation_that_has_changed_makes_it_stale_before_anything_is_loaded(home: Path, file: str) -> None:
    (home / "other-1.dist-info").mkdir()
    done = python(f"{LOAD}", file)
    assert done.stderr.startswith("stale: ") and str(home) in done.stderr
    shutil.rmtree(home)
    done = python(LOAD.replace("sys.exit(f", "print([n for n in sys.modules if 'sampan' in n]); sys.exit(f"), file)
    assert done.stderr.startswith("stale: ")
    assert done.stdout == "[]\n"


def test_where_packages_are_elsewhere_each_file_is_a_witness(home: Path, tmp_path: Path) -> None:
    path, packages = str(tmp_path / "code"), tmp_path / "packages"
    packages.mkdir()
    assert python(WRITE, str(home), path, str(packages), "exec").returncode == 0
    assert python(LOAD, path).returncode == 0
    for name in ("runtime/launch.py", "linux/call.py", "runtime/code_file.py", "runtime/code_loader.py"):
        before = os.stat(home / "sampan" / name)
        os.utime(home / "sampan" / name)
        assert name in python(LOAD, path).stderr
        os.utime(home / "sampan" / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert python(LOAD, path).returncode == 0


def test_a_file_that_cannot_be_written_leaves_nothing(home: Path, tmp_path: Path) -> None:
    done = python(WRITE, str(home), str(tmp_path / "nosuch/code"), str(home), "run")
    assert "FileNotFoundError" in done.stderr
    (tmp_path / "code").mkdir()
    (tmp_path / "code/full").touch()
    done = python(WRITE, str(home), str(tmp_path / "code"), str(home), "run")
    assert done.returncode == 1
    assert sorted(os.listdir(tmp_path)) == ["code", "home"]
