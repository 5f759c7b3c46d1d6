"""Exit statuses of children, watched and unknown. Each test forks real processes."""

import os
import signal

import pytest

from sampan.keeper.loop import Loop
from sampan.keeper.reaper import Reaper, shell_status


@pytest.fixture
def loop():
    made = Loop()
    old = signal.getsignal(signal.SIGCHLD)
    yield made
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, old)
    made.close()


def child(action):
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            action()
        finally:
            os._exit(0)
    return pid


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (lambda: os._exit(0), 0),
        (lambda: os._exit(42), 42),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), 137),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), 138),
    ],
)
def test_a_watched_child_is_reaped_once_with_its_status(loop, action, status):
    reaper = Reaper(loop)
    seen = []
    pid = child(action)
    pidfd = os.pidfd_open(pid)
    reaper.watch(pid, pidfd, seen.append)
    while not seen:
        loop.turn(1)
    loop.turn(0)
    assert seen == [status]
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    os.close(pidfd)


def test_an_unknown_child_is_reaped_and_forgotten(loop):
    reaper = Reaper(loop)
    pid = child(lambda: os._exit(7))
    while os.path.exists(f"/proc/{pid}"):
        loop.turn(0.05)
    assert reaper.take_orphan(pid) is None


def test_the_status_of_an_unknown_child_is_kept_while_one_is_expected(loop):
    reaper = Reaper(loop)
    reaper.expecting += 1
    pid = child(lambda: os._exit(7))
    while os.path.exists(f"/proc/{pid}"):
        loop.turn(0.05)
    assert reaper.take_orphan(pid) == 7
    assert reaper.take_orphan(pid) is None


def test_a_signal_counts_from_128():
    assert shell_status(os.CLD_KILLED, signal.SIGTERM) == 143
    assert shell_status(os.CLD_DUMPED, signal.SIGSEGV) == 139
    assert shell_status(os.CLD_EXITED, 3) == 3
