"""The small `encodings` of a standing interpreter, beside the real package, in interpreters that start with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src/sampan/runtime/small_encodings.py"
LIBRARY = os.path.dirname(os.__file__)


@pytest.fixture
def started(tmp_path: Path) -> str:
    """An interpreter whose library begins with the small package, as `standing` makes it."""
    place = f"{tmp_path}/python3"
    shutil.copy(os.path.realpath(sys.executable), place)
    os.makedirs(tmp_path / "lib/encodings")
    shutil.copy(SOURCE, tmp_path / "lib/encodings/__init__.py")
    (tmp_path / "python3._pth").write_text(f"{tmp_path}/lib\n{LIBRARY}\n{LIBRARY}/lib-dynload\n")
    return place


def run(python: str, program: str, **env: str) -> str:
    done = subprocess.run([python, "-I", "-S", "-c", program], capture_output=True, env={"LC_ALL": "C.UTF-8", **env})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("latin-1")


def test_a_start_needs_nothing_of_the_real_package(started: str) -> None:
    program = "import sys; print(*(n for n in sys.modules if n.startswith('encodings')), sys.stdout.encoding)"
    assert run(started, program).split() == ["encodings", "utf-8"]


@pytest.mark.parametrize(
    "program",
    [
        r"print(ascii([b'\xc3\xa9\xff'.decode('UTF-8', 'surrogateescape'), '\u20ac'.encode('utf8'), ''.encode('U8')]))",
        r"print('\u00e9'.encode('latin-1'), 'a.b'.encode('idna'), b'\xff\xfea\0'.decode('utf-16'))",
        "import encodings; print(encodings.normalize_encoding('a b'), len(encodings.aliases.aliases))",
        "import codecs; print(*[codecs.lookup(name).name for name in ('utf-8', 'ISO 8859-1', 'cp1252')])",
        r"import codecs; print(ascii(''.join(codecs.iterdecode([b'\xe2', b'\x82\xac'], 'utf8'))))",
        r"import codecs, io; print(ascii(codecs.getreader('utf-8')(io.BytesIO(b'\xe2\x82\xac')).read()))",
        "import encodings\ntry:\n    encodings.nosuch\nexcept AttributeError:\n    print('no')",
        "try:\n    'x'.encode('nosuch')\nexcept LookupError as error:\n    print(error)",
    ],
)
def test_every_codec_works_as_with_the_real_package(started: str, program: str) -> None:
    assert run(started, program) == run(sys.executable, program) != ""


def test_behind_a_closed_door_there_is_no_other_codec_and_no_file_is_opened_for_one(started: str) -> None:
    """At the path of the real package stands the container's by then."""
    program = """
import sys
opened = []
sys.addaudithook(lambda name, found: opened.append(found[0]) if name == "open" else None)
sys.meta_path.clear()
for name in ("idna", "latin-9", "cp1252"):
    try:
        "x".encode(name)
    except LookupError as error:
        print(error)
print("\\u20ac".encode("utf-8"), opened)
"""
    names = "unknown encoding: idna\nunknown encoding: latin-9\nunknown encoding: cp1252\n"
    assert run(started, program) == f"{names}b'\\xe2\\x82\\xac' []\n"
