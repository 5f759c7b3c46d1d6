"""Go's complaints about text that is no JSON, as Go 1.22's encoding/json words them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire.gojson import SyntaxProblem, end_of_value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "EOF"),
        (" \n", "EOF"),
        ("{", "unexpected EOF"),
        ('{"a', "unexpected EOF"),
        ("[1,", "unexpected EOF"),
        ("{invalid json", "invalid character 'i' looking for beginning of object key string"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("'a'", "invalid character '\\'' looking for beginning of value"),
        ("nil", "invalid character 'i' in literal null (expecting 'u')"),
        ("[trux]", "invalid character 'x' in literal true (expecting 'e')"),
        ("-a", "invalid character 'a' in numeric literal"),
        ("1.x", "invalid character 'x' after decimal point in numeric literal"),
        ("[1e+]", "invalid character ']' in exponent of numeric literal"),
        ('"\n"', "invalid character '\\n' in string literal"),
        ('"\x01"', "invalid character '\\x01' in string literal"),
        ('"\\x"', "invalid character 'x' in string escape code"),
        ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
        ("[" * 10001, "exceeded max depth"),
    ],
)
def test_what_is_no_json_is_told_in_gos_words(text: str, complaint: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        end_of_value(text.encode())
    assert str(caught.value) == complaint


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(["", " ", "\n{}", ",", "]"]),
)
def test_a_value_ends_where_it_ends(value: object, rest: str) -> None:
    text = json.dumps(value)
    assert end_of_value((text + rest).encode()) == len(text)


@given(st.text(alphabet='{}[]":,\\u0a1-.e tnf', max_size=30))
def test_what_python_refuses_is_refused_too(text: str) -> None:
    try:
        end = end_of_value(text.encode())
    except SyntaxProblem:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
    else:
        json.loads(text[:end])
