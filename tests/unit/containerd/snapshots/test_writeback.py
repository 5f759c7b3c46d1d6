"""The early sync: while somebody writes and no longer, and never in the way of who writes."""

from __future__ import annotations

import threading

from tests.peers.waiting import eventually

from sampan.containerd.snapshots.writeback import Writeback


def alive() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "writeback"]


def test_it_syncs_again_and_again_while_any_of_several_writes():
    synced = []
    writeback = Writeback(lambda: synced.append(True))
    with writeback.writing():
        with writeback.writing():
            assert len(alive()) == 1
        eventually(lambda: len(synced) >= 2, what="it goes on with one writer left")
    eventually(lambda: not alive(), what="the thread ends with the last writer")
    with writeback.writing():
        seen = len(synced)
        eventually(lambda: len(synced) > seen, what="it begins anew")
    eventually(lambda: not alive(), what="the thread ends with the last writer")


def test_a_sync_that_takes_long_does_not_hold_up_the_end_of_writing():
    began, release = threading.Event(), threading.Event()

    def sync() -> None:
        began.set()
        release.wait(20)

    with Writeback(sync).writing():
        assert began.wait(20)
    assert len(alive()) == 1
    release.set()
    eventually(lambda: not alive(), what="the thread ends")


def test_a_disk_that_fails_is_left_to_the_sync_that_counts():
    tried = []

    def sync() -> None:
        tried.append(True)
        raise OSError(5, "Input/output error")

    with Writeback(sync).writing():
        eventually(lambda: tried and not alive(), what="it gave up")
    assert len(tried) == 1
