"""Protocol Buffers as CRIU speaks them: bytes by the encoding's specification, and one error for all others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.runtime.criu import messages
from sampan.runtime.criu.codec import (
    BOOL,
    INT32,
    OPTIONAL,
    REPEATED,
    REQUIRED,
    STRING,
    UINT32,
    MalformedMessage,
    decode,
    encode,
)

INNER: dict[str, Any] = {"key": (1, STRING, REQUIRED), "val": (2, STRING, OPTIONAL)}
FIELDS: dict[str, Any] = {
    "number": (1, INT32, OPTIONAL),
    "size": (2, UINT32, OPTIONAL),
    "yes": (3, BOOL, OPTIONAL),
    "name": (4, STRING, OPTIONAL),
    "inner": (5, INNER, OPTIONAL),
    "names": (16, STRING, REPEATED),
    "inners": (2047, INNER, REPEATED),
}


@pytest.mark.parametrize(
    ("message", "data"),
    [
        pytest.param({"number": 150}, "08 96 01", id="the specification's own example"),
        pytest.param({"number": -2}, "08 fe ff ff ff ff ff ff ff ff 01", id="negative numbers take ten bytes"),
        pytest.param({"size": 0xFFFFFFFF}, "10 ff ff ff ff 0f", id="unsigned"),
        pytest.param({"yes": False}, "18 00", id="false is said"),
        pytest.param({"name": "testing"}, "22 07 74 65 73 74 69 6e 67", id="text"),
        pytest.param({"inner": {"key": ""}}, "2a 02 0a 00", id="a message in a message"),
        pytest.param({"names": ["a", "b"]}, "82 01 01 61 82 01 01 62", id="repeated, field 16"),
        pytest.param({"inners": [{"key": "k", "val": "v"}]}, "fa 7f 06 0a 01 6b 12 01 76", id="field 2047"),
        pytest.param({}, "", id="nothing"),
    ],
)
def test_a_message_is_these_bytes(message: dict[str, Any], data: str) -> None:
    assert encode(FIELDS, message).hex(" ") == data
    assert decode(FIELDS, bytes.fromhex(data)) == message


def test_none_is_not_sent() -> None:
    assert encode(FIELDS, {"name": None, "number": 0}) == b"\x08\x00"


def test_a_key_that_the_table_has_not_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError):
        encode(FIELDS, {"nmae": "x"})


def test_a_path_that_is_not_utf8_arrives_as_its_bytes() -> None:
    name = b"/srv/\xff".decode("utf-8", "surrogateescape")
    data = encode(FIELDS, {"name": name})
    assert data.endswith(b"/srv/\xff")
    assert decode(FIELDS, data) == {"name": name}


def test_fields_of_a_newer_release_are_passed_over() -> None:
    later = "a0 06 01"  # 100: a number
    later += "a9 06 0102030405060708"  # 101: eight bytes
    later += "b5 06 01020304"  # 102: four bytes
    later += "ba 06 02 ffff"  # 103: bytes
    assert decode(FIELDS, bytes.fromhex(later) + encode(FIELDS, {"number": 7})) == {"number": 7}


def test_the_last_of_several_values_counts() -> None:
    assert decode(FIELDS, bytes.fromhex("08 01 08 02")) == {"number": 2}


MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "number": st.integers(-(1 << 31), (1 << 31) - 1),
        "size": st.integers(0, (1 << 32) - 1),
        "yes": st.booleans(),
        "name": st.text(),
        "inner": st.fixed_dictionaries({"key": st.text()}, optional={"val": st.text()}),
        "names": st.lists(st.text(), min_size=1),
        "inners": st.lists(st.fixed_dictionaries({"key": st.text()}), min_size=1),
    },
)


@given(MESSAGES)
def test_what_is_sent_is_received(message: dict[str, Any]) -> None:
    assert decode(FIELDS, encode(FIELDS, message)) == message


REQUEST = {
    "type": messages.RESTORE,
    "opts": {
        "images_dir_fd": 300, "root": "/srv/root", "ext_mnt": [{"key": "/mnt", "val": "/srv"}], "log_level": -1,
        "inherit_fd": [{"key": "pipe:[1]", "fd": 0}], "empty_ns": 0x40000000,
    },
}  # fmt: skip


def test_cut_anywhere_it_is_refused_or_a_shorter_message() -> None:
    whole = encode(messages.REQUEST, REQUEST)
    assert decode(messages.REQUEST, whole) == REQUEST
    shorter = []
    for size in range(len(whole)):
        try:
            shorter.append(decode(messages.REQUEST, whole[:size]))
        except MalformedMessage:
            continue
    # Only between its two fields.
    assert shorter == [{"type": messages.RESTORE}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("00 01", "a field without a number"),
        ("0b", "wire type 3"),
        ("0c", "wire type 4"),
        ("0e", "wire type 6"),
        ("08 80 80 80 80 80 80 80 80 80 80 01", "more than ten bytes"),
        ("08", "ends in a number"),
        ("22 05 61", "longer than the message"),
        ("0a 01 61", 'the field "number" is of another kind'),
        ("20 01", 'the field "name" is of another kind'),
        ("28 01", 'the field "inner" is of another kind'),
        ("0d 01 00 00 00", 'the field "number" is of another kind'),
        ("2a 00", 'the field "key" is missing'),
    ],
)
def test_what_is_no_message_is_refused(data: str, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        decode(FIELDS, bytes.fromhex(data))


@given(st.binary(max_size=200))
def test_garbage_is_a_message_or_malformed(data: bytes) -> None:
    for fields in (FIELDS, messages.RESPONSE, messages.REQUEST):
        try:
            decode(fields, data)
        except MalformedMessage:
            continue


def test_no_two_fields_of_a_message_share_a_number() -> None:
    todo = [messages.REQUEST, messages.RESPONSE]
    for table in todo:
        numbers = [number for number, _, _ in table.values()]
        assert len(set(numbers)) == len(numbers)
        todo += [kind for _, kind, _ in table.values() if isinstance(kind, dict)]
    assert messages.OPTIONS in todo
