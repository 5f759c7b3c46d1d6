"""Detach keys: parsed as Docker names them, found however the input is cut."""

from __future__ import annotations

import pytest

from sampan.engine.http.detach import DetachKeys, parse
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", b"\x10\x11"), ("ctrl-a", b"\x01"), ("a,b", b"ab"), ("ctrl-@,ctrl-_", b"\0\x1f"), ("ctrl-[", b"\x1b")],
)
def test_names_become_bytes(text, keys):
    assert parse(text) == keys


@pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-1", "ctrl-ab", "a,,b", "é"])
def test_wrong_names_are_refused(text):
    with pytest.raises(InvalidArgument):
        parse(text)


@pytest.mark.parametrize("cut", range(6))
def test_the_sequence_is_found_across_reads_and_never_passed_on(cut):
    keys, data = DetachKeys(parse("")), b"ab\x10\x11cd"
    passed, found = keys.feed(data[:cut])
    if not found:
        more, found = keys.feed(data[cut:])
        passed += more
    assert found and passed == b"ab"


@pytest.mark.parametrize("data", [b"\x10a", b"\x10\x10a", b"a\x10b\x10c", b"\x11\x11"])
def test_a_beginning_that_goes_on_differently_is_passed_on(data):
    keys = DetachKeys(parse(""))
    passed = b"".join(keys.feed(data[index : index + 1])[0] for index in range(len(data)))
    assert passed == data


def test_a_sequence_after_a_false_start_is_found():
    assert DetachKeys(parse("")).feed(b"\x10\x10\x11") == (b"\x10", True)
