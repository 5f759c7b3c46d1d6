"""The json-file log: the bytes, the cutting of long lines, rotation. Expected lines were written by dockerd 20.10."""

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.keeper.logfile import PARTIAL, LogFile, cut, encode_lines, encode_text, format_time


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def logs(path):
    return [line["log"] for line in lines(path)]


def test_a_line_has_docker_s_keys_in_docker_s_order(tmp_path):
    log = LogFile(str(tmp_path / "log"))
    log.feed("stderr", b"hi\n")
    log.close()
    text = (tmp_path / "log").read_text()
    assert re.fullmatch(
        r'\{"log":"hi\\n","stream":"stderr","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"\}\n', text
    )


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_136_214_245_999_999_999, "2006-01-02T15:04:05.999999999Z"),
        (1_136_214_245_120_000_000, "2006-01-02T15:04:05.12Z"),
        (1_136_214_245_000_000_001, "2006-01-02T15:04:05.000000001Z"),
    ],
)
def test_times_drop_trailing_zeros_as_rfc3339nano(nanoseconds, text):
    assert format_time(nanoseconds) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'a"b\\c', 'a\\"b\\\\c'),
        (b"a\tb\rc\x00\x1b[0m", "a\\u0009b\\rc\\u0000\\u001b[0m"),
        (b"<a>&", "\\u003ca\\u003e\\u0026"),
        ("\u2028\u2029 \xe9 \U0001f600".encode(), "\\u2028\\u2029 \xe9 \U0001f600"),
        (b"a\xff\xe2\x82b", "a\\ufffd\\ufffd\\ufffdb"),
        ("\ufffd".encode(), "\ufffd"),
        (b"\x7f", "\x7f"),
    ],
)
def test_text_is_escaped_as_dockerd_escapes_it(data, text):
    assert encode_text(data) == text


def replaced(data):
    """The text as Go decodes it: one U+FFFD for each byte that is not UTF-8."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("\ufffd" if "\udc80" <= character <= "\udcff" else character for character in text)


TEXTS = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='ab\\\\\t\n\r\b\f\x00"<>&ntu\xe9\u2028\ufffd', max_size=300).map(str.encode),
)


@given(TEXTS)
def test_any_bytes_make_a_string_that_json_reads_back(data):
    assert json.loads(f'"{encode_text(data)}"') == replaced(data)


@given(st.lists(TEXTS.map(lambda data: data.replace(b"\n", b"")), min_size=1, max_size=10))
def test_any_lines_make_records_of_their_own(lines):
    tail = '"}\n'
    records = encode_lines(b"\n".join(lines), tail).decode().splitlines(keepends=False)
    assert [json.loads(record)["log"] for record in records] == [replaced(line) + "\n" for line in lines]


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_the_cutting_of_reads_does_not_change_the_lines(tmp_path_factory, chunks):
    path = tmp_path_factory.mktemp("log") / "log"
    whole, pieces = LogFile(str(path) + "w"), LogFile(str(path) + "p")
    whole.feed("stdout", b"".join(chunks))
    for chunk in chunks:
        pieces.feed("stdout", chunk)
    whole.close()
    pieces.close()
    assert logs(path.with_name("logw")) == logs(path.with_name("logp"))


def test_a_long_line_is_cut_into_pieces_of_16_kib():
    records, rest = cut(b"x" * (2 * PARTIAL + 5) + b"\nabc")
    assert [len(record) for record in records] == [PARTIAL, PARTIAL, 6]
    assert records[2] == b"xxxxx\n"
    assert rest == b"abc"


def test_a_line_of_exactly_16_kib_is_a_piece_and_an_empty_rest():
    assert cut(b"x" * PARTIAL + b"\n") == ([b"x" * PARTIAL, b"\n"], b"")


def test_an_unfinished_line_waits_for_its_end_and_the_streams_do_not_mix(tmp_path):
    log = LogFile(str(tmp_path / "log"))
    log.feed("stdout", b"out")
    log.feed("stderr", b"err\n")
    log.feed("stdout", b"put\n")
    log.close()
    assert logs(tmp_path / "log") == ["err\n", "output\n"]


def test_what_is_unfinished_at_the_end_is_written_without_a_newline(tmp_path):
    log = LogFile(str(tmp_path / "log"))
    log.feed("stdout", b"abc")
    log.finish("stdout")
    log.close()
    assert logs(tmp_path / "log") == ["abc"]


def test_a_full_file_is_rotated_before_the_next_line_and_max_file_are_kept(tmp_path):
    log = LogFile(str(tmp_path / "log"), max_size=100, max_file=3)
    log.feed("stdout", b"".join(b"line %d\n" % number for number in range(9)))
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1", "log.2"]
    # A line takes about 75 bytes: the file has reached 100 after two.
    assert logs(tmp_path / "log") == ["line 8\n"]
    assert logs(tmp_path / "log.1") == ["line 6\n", "line 7\n"]
    assert logs(tmp_path / "log.2") == ["line 4\n", "line 5\n"]


def test_a_single_file_is_emptied_when_it_is_full(tmp_path):
    log = LogFile(str(tmp_path / "log"), max_size=100, max_file=1)
    log.feed("stdout", b"one\ntwo\nthree\n")
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    assert logs(tmp_path / "log") == ["three\n"]


def test_a_file_that_exists_is_continued_and_its_size_counts(tmp_path):
    for text in (b"one\n", b"two\n", b"three\n"):
        log = LogFile(str(tmp_path / "log"), max_size=100, max_file=2)
        log.feed("stdout", text)
        log.close()
    assert logs(tmp_path / "log.1") == ["one\n", "two\n"]
    assert logs(tmp_path / "log") == ["three\n"]


def test_the_file_is_readable_only_by_root_and_its_group(tmp_path):
    LogFile(str(tmp_path / "log")).close()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640


def test_a_disk_that_refuses_loses_lines_and_complains_once(capsys):
    log = LogFile("/dev/full")
    log.feed("stdout", b"a\n")
    log.feed("stdout", b"b\n")
    log.close()
    assert capsys.readouterr().err.count("No space left on device") == 1
