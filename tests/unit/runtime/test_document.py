from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import DataLoss
from sampan.runtime import document

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_text_and_value_are_those_of_the_json_package(value: object) -> None:
    text = document.text_of(value)
    assert json.loads(text) == value
    assert document.parse(text, "x") == value
    assert document.parse(f" \n{json.dumps(value, indent=1)}\n", "x") == value


@given(st.text(alphabet='{}[]",:0ntf\\ue- ', max_size=12))
def test_garbage_is_read_as_the_json_package_reads_it_or_refused(text: str) -> None:
    try:
        wanted: object = json.loads(text)
    except ValueError:
        with pytest.raises(DataLoss):
            document.parse(text, "config.json")
    else:
        assert document.parse(text, "config.json") == wanted


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(DataLoss):
        document.parse("[" * 100_000, "config.json")


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('"' + "a" * 100 + '"')
    assert document.load(str(tmp_path / "x")) == "a" * 100
    with pytest.raises(DataLoss):
        document.load(str(tmp_path / "x"), limit=50)


@given(JSON, st.integers(1, 4))
def test_an_indented_text_is_the_packages_own(value: object, indent: int) -> None:
    assert document.text_of(value, indent=indent) == json.dumps(value, indent=indent)
