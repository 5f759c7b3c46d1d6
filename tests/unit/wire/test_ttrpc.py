"""Frames cut at every byte, messages too large, garbage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire import ttrpc
from sampan.wire.ttrpc import Data, Oversized, Reader, Request, Response

CONVERSATION = [
    Request(1, "containerd.task.v2.Task", "Create", b"\x0a\x02c1", 5_000_000_000, {"containerd-namespace-ttrpc": "k"}),
    Request(3, "containerd.task.v2.Task", "State", b""),
    Response(3, b"\x10\x01"),
    Response(1, b"", 5, 'task "c1" not found'),
    Response(5),
]


def plain(event: object) -> dict[str, object]:
    return {"kind": type(event).__name__, **{name: getattr(event, name) for name in type(event).__slots__}}


def events(reader: Reader) -> list[dict[str, object]]:
    found = []
    while (event := reader.next_event()) is not None:
        found.append(plain(event))
    return found


EXPECTED = [plain(event) for event in CONVERSATION]
BYTES = b"".join(ttrpc.send(event) for event in CONVERSATION)


def test_a_conversation_cut_at_every_byte_is_the_same_conversation() -> None:
    for cut in range(len(BYTES) + 1):
        reader = Reader()
        reader.feed(BYTES[:cut])
        found = events(reader)
        reader.feed(BYTES[cut:])
        assert found + events(reader) == EXPECTED, f"cut at {cut}"


def test_a_conversation_byte_by_byte() -> None:
    reader, found = Reader(), []
    for at in range(len(BYTES)):
        reader.feed(BYTES[at : at + 1])
        found += events(reader)
    assert found == EXPECTED


def test_a_frame_is_what_the_protocol_draws() -> None:
    # length, stream, type, flags; service, method
    assert ttrpc.send(Request(1, "s", "m", b"")) == b"\0\0\0\6" + b"\0\0\0\1" + b"\1\0" + b"\x0a\1s" + b"\x12\1m"
    assert ttrpc.send(Response(1)) == b"\0\0\0\0" + b"\0\0\0\1" + b"\2\0"


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 11, 4096, ttrpc.MAX_PAYLOAD])
def test_a_message_too_large_fails_alone(cut: int) -> None:
    size = ttrpc.MAX_PAYLOAD + 1
    sent = struct.pack(">IIBB", size, 7, ttrpc.REQUEST, 0) + bytes(size) + BYTES
    reader = Reader()
    reader.feed(sent[:cut])
    found = events(reader)
    reader.feed(sent[cut:])
    assert found + events(reader) == [plain(Oversized(7, size)), *EXPECTED]
    with pytest.raises(ttrpc.TtrpcError):
        ttrpc.send(Request(1, "s", "m", bytes(ttrpc.MAX_PAYLOAD)))


def test_what_is_passed_over_is_not_held() -> None:
    reader = Reader()
    reader.feed(struct.pack(">IIBB", 0xFFFFFFFF, 7, ttrpc.REQUEST, 0))
    assert events(reader) == [plain(Oversized(7, 0xFFFFFFFF))]
    for _ in range(100):
        reader.feed(bytes(1 << 20))
    assert len(reader._held) == 0


def test_data_of_a_stream_is_handed_on() -> None:
    reader = Reader()
    reader.feed(struct.pack(">IIBB", 3, 9, ttrpc.DATA, ttrpc.REMOTE_CLOSED) + b"abc")
    assert events(reader) == [plain(Data(9, b"abc", ttrpc.REMOTE_CLOSED))]


@pytest.mark.parametrize("frame", [b"\0\0\0\0\0\0\0\1\4\0", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\0\0\0\1\1\0\x0a"])
def test_what_is_no_ttrpc_is_refused(frame: bytes) -> None:
    reader = Reader()
    reader.feed(frame)
    with pytest.raises(ttrpc.TtrpcError):
        events(reader)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_is_read_or_refused_with_the_codec_s_own_error(pieces: list[bytes]) -> None:
    reader = Reader()
    try:
        for piece in pieces:
            reader.feed(piece)
            events(reader)
    except ttrpc.TtrpcError:
        return


@given(
    st.binary(max_size=300),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.integers(0, 2**62),
)
def test_what_is_sent_is_what_is_read(payload: bytes, name: str, metadata: dict[str, str], timeout: int) -> None:
    sent = [Request(1, name, name, payload, timeout, metadata), Response(1, payload, 2, name)]
    reader = Reader()
    for event in sent:
        reader.feed(ttrpc.send(event))
    assert events(reader) == [plain(event) for event in sent]
