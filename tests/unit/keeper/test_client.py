"""The client's half of the protocol as bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.api.keeper.messages import MAX_PACKET
from sampan.keeper.client import Answer, Codec, Event
from sampan.keeper.connection import encode, split


def test_calls_are_numbered_and_answers_paired_by_it():
    codec = Codec()
    first, packet = codec.call("start", container="c1")
    second, _ = codec.call("list")
    assert json.loads(packet) == {"id": first, "call": "start", "container": "c1"}
    answer = codec.read(encode({"id": second, "ok": {"tasks": []}}))
    assert isinstance(answer, Answer)
    assert (answer.number, answer.result, answer.error) == (second, {"tasks": []}, None)


def test_an_error_comes_back_as_its_kind_with_its_text():
    answer = Codec().read(encode({"id": 1, "error": {"kind": "Conflict", "message": "it runs"}}))
    assert isinstance(answer.error, errors.Conflict)
    assert str(answer.error) == "it runs"


@pytest.mark.parametrize("kind", ["NoSuchKind", "__name__", None, 3])
def test_an_unknown_kind_is_a_plain_error(kind):
    answer = Codec().read(encode({"id": 1, "error": {"kind": kind, "message": "m"}}))
    assert type(answer.error) is errors.Error


def test_an_event_is_told_apart():
    event = Codec().read(encode({"event": "oom", "container": "c1"}))
    assert isinstance(event, Event)
    assert (event.name, event.fields) == ("oom", {"container": "c1"})


def test_a_call_that_does_not_fit_is_refused_here():
    with pytest.raises(errors.InvalidArgument):
        Codec().call("update", container="c1", resources={"x": "y" * MAX_PACKET})


def test_a_large_answer_is_split_and_joined_again():
    result = {"tasks": [{"container": f"{number:064x}", "pid": number} for number in range(3000)], "exec_exits": [1, 2]}
    codec = Codec()
    parts = [encode({"id": 5, "ok": part}) for part in split(result)]
    assert len(parts) > 1
    assert all(len(part) <= MAX_PACKET for part in parts)
    seen = [codec.read(part) for part in parts]
    assert seen[:-1] == [None] * (len(parts) - 1)
    assert seen[-1].result == result


@given(st.lists(st.text(max_size=2000), max_size=200), st.lists(st.integers(), max_size=50))
def test_splitting_loses_nothing(a, b):
    codec = Codec()
    last = None
    for part in split({"a": a, "b": b, "c": 1}):
        last = codec.read(encode({"id": 1, "ok": part}))
    assert last.result == {"a": a, "b": b, "c": 1}


@pytest.mark.parametrize("packet", [b"[]", b"{", b'{"id": null, "error": {}}', b'{"id": 1, "ok": []}'])
def test_what_no_keeper_sends_is_a_value_error(packet):
    with pytest.raises(ValueError):
        Codec().read(packet)
