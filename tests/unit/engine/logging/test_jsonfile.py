"""Reading json-file logs: selection, tail from the end, rotation, and lines cut short."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.logging.jsonfile import Selection, Tailer, files, parse, read
from sampan.engine.timestamps import from_rfc3339


def line(text, second=0, stream="stdout"):
    return json.dumps({"log": text, "stream": stream, "time": f"2026-01-01T00:00:{second:02d}Z"}) + "\n"


@pytest.fixture
def log(tmp_path):
    """Two rotated files and the current one: lines 0..5, odd ones on stderr."""
    path = tmp_path / "x-json.log"
    for name, seconds in (("x-json.log.2", (0, 1)), ("x-json.log.1", (2, 3)), ("x-json.log", (4, 5))):
        content = "".join(line(f"{s}\n", s, "stderr" if s % 2 else "stdout") for s in seconds)
        (tmp_path / name).write_text(content)
    return str(path)


def texts(log, size=None, **fields):
    return [entry.text.strip() for entry in read(files(log, 3), Selection(**fields), size)]


def test_files_are_oldest_first_and_only_those_that_are_kept(log):
    assert [path.rpartition(".log")[2] for path in files(log, 3)] == [".2", ".1", ""]
    assert files(log, 1) == [log]
    assert files(log + "x", 3) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "012345"),
        ({"stderr": False}, "024"),
        ({"stdout": False}, "135"),
        ({"tail": 0}, ""),
        ({"tail": 3}, "345"),
        ({"tail": 2, "stdout": False}, "35"),
        ({"tail": 99}, "012345"),
    ],
)
def test_selection(log, fields, expected):
    assert "".join(texts(log, **fields)) == expected


def test_times_bound_both_ends_and_a_tail(log):
    since, until = from_rfc3339("2026-01-01T00:00:02Z"), from_rfc3339("2026-01-01T00:00:04Z")
    assert "".join(texts(log, since=since, until=until)) == "234"
    assert "".join(texts(log, since=since, tail=9)) == "2345"
    assert "".join(texts(log, until=until, tail=2)) == "34"


@pytest.mark.parametrize("tail", [None, 9])
def test_size_bounds_the_last_file(log, tail):
    assert "".join(texts(log, size=len(line("4\n", 4)), tail=tail)) == "01234"


def test_a_tail_over_many_chunks_is_exact(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(line(f"{number} {'x' * 500}\n") for number in range(1000)))
    found = [entry.text.split()[0] for entry in read([str(path)], Selection(tail=300))]
    assert found == [str(number) for number in range(700, 1000)]


@pytest.mark.parametrize("bad", ['{"log":"cut', "", "null", "[1]", '{"log":"x","time":"nonsense"}', '{"log":1}'])
def test_a_line_that_is_none_is_left_out(tmp_path, bad):
    path = tmp_path / "log"
    path.write_text(line("a\n") + bad + "\n" + line("b\n"))
    for tail in (None, 5):
        assert [entry.text for entry in read([str(path)], Selection(tail=tail))] == ["a\n", "b\n"]


@given(st.binary(max_size=100))
def test_garbage_is_no_entry_and_no_error(data):
    parse(data)


def test_a_tailer_reads_what_is_appended_after_it_began_over_rotation(tmp_path):
    path = tmp_path / "log"
    path.write_text(line("past\n"))
    tailer = Tailer(str(path))
    assert tailer.size == len(line("past\n"))
    assert list(tailer.poll()) == []
    whole = line("cut\n")
    with path.open("a") as file:
        file.write(line("new\n") + whole[:10])
        file.flush()
        assert [entry.text for entry in tailer.poll()] == ["new\n"]
        file.write(whole[10:])
    assert [entry.text for entry in tailer.poll()] == ["cut\n"]
    with path.open("a") as file:
        file.write(line("last of the old\n"))
    path.rename(tmp_path / "log.1")
    path.write_text(line("first of the new\n"))
    assert [entry.text for entry in tailer.poll()] == ["last of the old\n", "first of the new\n"]
    tailer.close()


def test_a_tailer_waits_for_a_file_that_is_not_there_yet(tmp_path):
    tailer = Tailer(str(tmp_path / "log"))
    assert list(tailer.poll()) == []
    (tmp_path / "log").write_text(line("a\n"))
    assert [entry.text for entry in tailer.poll()] == ["a\n"]
    tailer.close()
