"""Work that a forked child does while the loop goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan import errors
from sampan.keeper.aside import aside
from sampan.keeper.loop import Loop
from sampan.keeper.reaper import Reaper


def outcome(work: Callable[[], None]) -> Exception | None:
    loop = Loop()
    before = signal.getsignal(signal.SIGCHLD)
    heard: list[Exception | None] = []
    try:
        reaper = Reaper(loop)

        def done(error: Exception | None, fds: list[int]) -> None:
            heard.append(error)
            assert fds == []
            loop.stop()

        aside(reaper, work, done)
        assert heard == []  # not before the loop runs
        loop.run()
    finally:
        signal.signal(signal.SIGCHLD, before)
        signal.set_wakeup_fd(-1)
    return heard[0]


def test_work_is_done_in_a_process_of_its_own(tmp_path: Path) -> None:
    def mark() -> None:
        (tmp_path / "mark").write_text(str(os.getpid()))

    assert outcome(mark) is None
    assert (tmp_path / "mark").read_text() != str(os.getpid())


def test_an_error_keeps_its_kind_and_text() -> None:
    def refuse() -> None:
        raise errors.Conflict("it is so")

    found = outcome(refuse)
    assert isinstance(found, errors.Conflict) and str(found) == "it is so"


def test_a_kind_of_a_rooms_own_and_a_mistake_are_errors_all_the_same() -> None:
    class Own(errors.Error):
        pass

    def own() -> None:
        raise Own("ours")

    def mistaken() -> None:
        raise KeyError("mistake")

    assert str(outcome(own)) == "ours"
    assert str(outcome(mistaken)) == "KeyError: 'mistake'"


@pytest.mark.parametrize(("end", "status"), [(lambda: os._exit(3), 3), (lambda: os.kill(os.getpid(), 9), 137)])
def test_a_child_that_ends_without_a_word_is_an_error(end: Callable[[], None], status: int) -> None:
    assert str(outcome(end)) == f"the process that was to do it ended with status {status}"


def test_the_child_holds_nothing_of_the_keeper(tmp_path: Path) -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def look() -> None:
        (tmp_path / "open").write_text(str(os.path.exists(f"/proc/self/fd/{writer}")))

    assert outcome(look) is None
    os.close(reader)
    os.close(writer)
    assert (tmp_path / "open").read_text() == "False"
