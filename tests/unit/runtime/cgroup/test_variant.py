"""GVariant text: what GLib's page shows, and one error for everything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup import dbus, variant


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("5", "i", 5), ("uint64 5", "t", 5), ("byte 0x1f", "y", 31), ("-017", "i", -15), ("3.5", "d", 3.5),
        ("1e3", "d", 1000.0), ("double 3", "d", 3.0), ("true", "b", True), (" false ", "b", False),
        ("'it\\'s'", "s", "it's"), ('"a\\u00e4\\n"', "s", "aä\n"), ("objectpath '/a'", "o", "/a"),
        ("['a', 'b']", "as", ["a", "b"]), ("[byte 1, 2]", "ay", b"\1\2"), ("@as []", "as", []),
        ("[uint32 1, 2]", "au", [1, 2]), ("b'hi'", "ay", b"hi\0"), ("{'k': <'v'>}", "a{sv}", {"k": ("s", "v")}),
        ("@a{sv} {}", "a{sv}", {}), ("(1, 'x')", "(is)", (1, "x")), ("@(tas) (1, [])", "(tas)", (1, [])),
        ("<uint16 7>", "v", ("q", 7)), ("[(1, true), (2, false)]", "a(ib)", [(1, True), (2, False)]),
    ],
)  # fmt: skip
def test_a_value_has_the_type_and_the_meaning_that_it_shows(text: str, signature: str, value: Any) -> None:
    assert variant.parse(text) == (signature, value)
    dbus.marshal("v", [variant.parse(text)])


@pytest.mark.parametrize(
    "text",
    ["", "word", "5 6", "[1, 'a']", "[]", "{}", "byte 256", "2147483648", "uint32 -1", "'open", "<1", "@zz 1", "uint64",
     "@s 5", "string 5", "{'a' 1}", "{['a']: 1}", "()", "(1", "1.2.3", "@(ii) (1)", "'\\uZZZZ'", "b5", "[" * 60],
)  # fmt: skip
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        variant.parse(text)


@given(st.one_of(st.text(), st.text(alphabet="[]{}()<>@'\",: 0123456789.exbuintsa\\", max_size=30)))
def test_garbage_is_a_value_that_can_be_sent_or_one_error(text: str) -> None:
    try:
        dbus.marshal("v", [variant.parse(text)])
    except InvalidArgument:
        pass
