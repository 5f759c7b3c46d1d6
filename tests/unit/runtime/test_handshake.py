from __future__ import annotations

import os
from contextlib import closing

import pytest

from sampan.runtime import handshake

DRAWING = [
    ("parent", handshake.MAPPED), ("init", handshake.HOOKS), ("parent", handshake.HOOKED), ("init", handshake.CONSOLE),
    ("init", handshake.READY), ("parent", handshake.PROCEED),
]  # fmt: skip


def test_the_drawn_conversation_passes_word_by_word() -> None:
    parent, init = handshake.pair()
    with closing(parent), closing(init):
        for side, word in DRAWING:
            here, there = (parent, init) if side == "parent" else (init, parent)
            handshake.send(here, word)
            assert handshake.receive(there) == (word, "", [])
        init.close()
        assert handshake.receive(parent) == ("", "", [])


def test_every_message_of_the_drawing_is_in_the_modules_docstring() -> None:
    assert handshake.__doc__ is not None
    for _, word in DRAWING:
        assert f'"{word}"' in handshake.__doc__


def test_a_payload_and_a_descriptor_travel_with_the_word() -> None:
    parent, init = handshake.pair()
    reading, writing = os.pipe()
    with closing(parent), closing(init):
        handshake.send(init, handshake.CONSOLE, "/dev/pts/0", (writing,))
        word, payload, fds = handshake.receive(parent)
        assert (word, payload, len(fds)) == (handshake.CONSOLE, "/dev/pts/0", 1)
        os.write(fds[0], b"x")
        assert os.read(reading, 9) == b"x"
        assert not os.get_inheritable(fds[0])
    for fd in (reading, writing, *fds):
        os.close(fd)


def test_sending_to_nobody_is_an_error_and_no_signal() -> None:
    parent, init = handshake.pair()
    init.close()
    with closing(parent), pytest.raises(BrokenPipeError):
        handshake.send(parent, handshake.PROCEED)


def test_a_text_that_is_too_long_is_cut_not_lost() -> None:
    parent, init = handshake.pair()
    with closing(parent), closing(init):
        handshake.send(init, handshake.FAILED, "x" * 100_000)
        word, payload, _ = handshake.receive(parent)
        assert word == handshake.FAILED
        assert 60_000 < len(payload) < 65_536
