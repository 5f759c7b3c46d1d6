"""Import budgets: what `sampan-runc`, the keeper and the command line load before they do anything.

Each is measured in a fresh `python -I -S`, because that is how they start; the core, which has libraries, with its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

# Never in the runtime or the keeper: each costs milliseconds on the way to every container (FLOOR.md).
SLOW = {
    "typing",
    "dataclasses",
    "pathlib",
    "argparse",
    "subprocess",
    "logging",
    "contextlib",
    "asyncio",
    "threading",
    "tempfile",
    "shutil",
    "inspect",
    "importlib.metadata",
    "datetime",
    "hashlib",
}


def loaded_by(*names: str) -> set[str]:
    """The modules that importing `names` adds to a bare interpreter."""
    program = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); before = set(sys.modules)\n"
        + "".join(f"import {name}\n" for name in names)
        + "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("sampan.runtime.cli", "sampan.runtime.launch", "sampan.runtime.init"), id="sampan-runc"),
        pytest.param(("sampan.keeper.serve", "sampan.keeper.forker", "sampan.keeper.stdio"), id="keeper"),
        pytest.param(("sampan.shim.serve", "sampan.shim.delete", "sampan.shim.start"), id="shim"),
    ],
)
def test_the_runtime_and_the_keeper_load_nothing_slow(names: tuple[str, ...]) -> None:
    loaded = loaded_by(*names)
    assert "sampan" in loaded
    assert loaded & SLOW == set()


def test_the_runtime_and_the_keeper_load_only_the_standard_library() -> None:
    loaded = loaded_by("sampan.runtime.cli", "sampan.runtime.launch", "sampan.keeper.serve", "sampan.shim.serve")
    foreign = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"sampan"}
    assert foreign == set()


def test_the_start_of_a_shim_loads_no_more_than_its_answer_needs() -> None:
    """It runs for every container, while containerd waits; what serves afterwards is another process."""
    loaded = loaded_by("sampan.shim.__main__", "sampan.shim.start") - {"json"}
    assert {name for name in loaded if name.startswith("sampan")} == {
        "sampan", "sampan.errors", "sampan.shim", "sampan.shim.__main__", "sampan.shim.messages", "sampan.shim.start",
        "sampan.wire", "sampan.wire.protobuf",
    }  # fmt: skip
    assert not loaded & {"ctypes", "_ctypes", "select", "signal"}


def test_a_core_that_serves_no_pulls_loads_no_http_client() -> None:
    program = (
        "import json, sys\n"
        "from sampan.containerd import core, tasks\n"
        "from sampan.containerd.grpc import serving\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "sampan.containerd.remotes.client" in loaded
    assert not loaded & {"aiohttp", "yarl", "http.client", "urllib.request", "email", "msgspec"}


def test_the_command_line_starts_without_the_engine_or_asyncio() -> None:
    loaded = loaded_by("sampan.cli.main")
    assert not {name for name in loaded if name.startswith(("sampan.engine", "sampan.containerd"))}
    assert not loaded & {"asyncio", "aiohttp", "subprocess", "msgspec"}
