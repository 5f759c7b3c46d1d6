"""The multiplexed stream codec: accept or raise StreamError, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire.stdcopy import STDERR, STDOUT, Demultiplexer, StreamError, frame, header

FRAMES = [(STDOUT, b"one\n"), (STDERR, b""), (STDERR, b"two"), (STDOUT, b"x" * 300)]
WIRE = b"".join(frame(stream, payload) for stream, payload in FRAMES)


def joined(parts):
    """Adjacent parts of one stream as one, empty ones dropped."""
    found = []
    for stream, payload in parts:
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + payload)
        elif payload:
            found.append((stream, payload))
    return found


def test_a_header_is_docker_s_eight_bytes():
    assert header(STDERR, 0x01020304) == b"\x02\0\0\0\x01\x02\x03\x04"
    assert frame(STDOUT, b"ab") == b"\x01\0\0\0\0\0\0\x02ab"


@pytest.mark.parametrize("cut", range(len(WIRE)))
def test_frames_are_the_same_however_the_bytes_are_cut(cut):
    codec = Demultiplexer()
    found = codec.feed(WIRE[:cut]) + codec.feed(WIRE[cut:])
    codec.close()
    assert joined(found) == joined(FRAMES)


def test_frames_survive_one_byte_at_a_time():
    codec = Demultiplexer()
    found = [part for index in range(len(WIRE)) for part in codec.feed(WIRE[index : index + 1])]
    assert joined(found) == joined(FRAMES)


@pytest.mark.parametrize("length", [1, 7, 9])
def test_an_end_inside_a_frame_is_an_error(length):
    codec = Demultiplexer()
    codec.feed(frame(STDOUT, b"abcdef")[:length])
    with pytest.raises(StreamError, match="unexpected EOF"):
        codec.close()


@given(st.binary(max_size=64))
def test_garbage_is_accepted_or_a_stream_error(data):
    try:
        codec = Demultiplexer()
        codec.feed(data)
        codec.close()
    except StreamError:
        pass
