"""The epoll loop: who is called, in which order, and what a failing handler does to the others."""

import os
import time

from sampan.keeper.loop import READ, Loop


def test_a_ready_file_descriptor_has_its_handler_called():
    loop, (reader, writer) = Loop(), os.pipe()
    seen = []
    loop.add(reader, READ, lambda mask: seen.append(os.read(reader, 10)))
    os.write(writer, b"x")
    loop.turn(1)
    assert seen == [b"x"]
    os.close(reader)
    os.close(writer)
    loop.close()


def test_an_event_is_not_given_to_the_next_owner_of_the_same_number():
    loop = Loop()
    pairs = [os.pipe(), os.pipe()]
    seen = []

    def replace(mask, mine, other):
        # Closes the other one while its event is already reported, and reuses its number.
        loop.remove(other)
        fresh, _ = os.pipe()
        os.dup2(fresh, other)
        loop.add(other, READ, lambda mask: seen.append("stale"))
        seen.append("first")

    a, b = pairs[0][0], pairs[1][0]
    loop.add(a, READ, lambda mask: replace(mask, a, b))
    loop.add(b, READ, lambda mask: replace(mask, b, a))
    for _, writer in pairs:
        os.write(writer, b"x")
    loop.turn(1)
    assert seen == ["first"]
    loop.close()


def test_what_a_handler_raises_is_told_on_stderr_and_the_others_go_on(capsys):
    loop = Loop()
    pairs = [os.pipe(), os.pipe()]
    seen = []

    def handler(fd):
        def handle(mask):
            seen.append(os.read(fd, 1))
            raise RuntimeError("trouble")

        return handle

    for reader, writer in pairs:
        loop.add(reader, READ, handler(reader))
        os.write(writer, b"x")
    loop.turn(1)
    assert seen == [b"x", b"x"]
    assert "RuntimeError: trouble" in capsys.readouterr().err
    loop.close()


def test_a_handler_that_only_raises_is_given_up(capsys):
    loop, (reader, writer) = Loop(), os.pipe()
    seen = []

    def handler(mask):
        seen.append(mask)
        raise RuntimeError("again")

    loop.add(reader, READ, handler)
    os.write(writer, b"x")
    for _ in range(10):
        loop.turn(0)
    assert len(seen) == 3
    loop.close()


def test_an_idle_job_waits_until_nothing_is_ready():
    loop, (reader, writer) = Loop(), os.pipe()
    seen = []
    loop.add(reader, READ, lambda mask: seen.append(os.read(reader, 1)))
    loop.when_idle(lambda: (seen.append("idle"), loop.stop()))
    os.write(writer, b"ab")
    loop.run()
    assert seen == [b"a", b"b", "idle"]
    loop.close()


def test_timed_jobs_run_in_their_time_and_not_when_they_are_called_off():
    loop, seen = Loop(), []
    loop.after(0.02, lambda: seen.append("later"))
    loop.after(0.0, lambda: seen.append("at once"))
    loop.after(0.01, lambda: seen.append("called off"))()
    loop.after(0.03, loop.stop)
    began = time.monotonic()
    loop.run()
    assert seen == ["at once", "later"]
    assert time.monotonic() - began >= 0.03, "the loop slept and did not spin"
    loop.close()
