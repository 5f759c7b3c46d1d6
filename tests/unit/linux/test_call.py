"""The one way into the kernel: results, errors, buffers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.linux import abi, call
from sampan.linux.paths import openat2


def test_a_call_returns_the_kernels_result() -> None:
    assert call.call("gettid") == os.getpid()


def test_a_failing_call_is_an_oserror_with_number_name_and_path() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        call.call("umount2", b"/no/such/place", 0, path="/no/such/place")
    assert missing.value.errno == errno.ENOENT
    assert missing.value.filename == "/no/such/place"
    assert str(missing.value) == "[Errno 2] umount2: No such file or directory: '/no/such/place'"


def test_a_call_that_the_machine_does_not_have_is_enosys_by_name() -> None:
    with pytest.raises(OSError) as refused:
        call.call("no_such_call")
    assert refused.value.errno == errno.ENOSYS
    assert str(refused.value).startswith(f"[Errno {errno.ENOSYS}] no_such_call: ")
    assert call.call_held("no_such_call", 0, 0) == -errno.ENOSYS


def test_a_negative_number_reaches_the_kernel_as_it_is() -> None:
    with pytest.raises(OSError) as refused:
        call.call("ioctl", -1, 0)
    assert refused.value.errno == errno.EBADF


def test_a_call_interrupted_by_a_signal_goes_on() -> None:
    """The handler runs, and the read that the signal interrupted is made again (PEP 475)."""
    reader, writer = os.pipe()
    ran: list[int] = []

    def handler(number: int, frame: object) -> None:
        ran.append(number)
        os.write(writer, b"\1" + bytes(31))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        # F_SETLKW would need a second process; a blocking openat2 of a fifo is the call that can wait here.
        fifo = os.path.join("/tmp", f"sampan-test-{os.getpid()}.fifo")
        os.mkfifo(fifo)
        try:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                os.read(reader, 1)  # the handler has run in the parent: only then is there a reader
                os.open(fifo, os.O_RDONLY)
                os._exit(0)
            os.close(openat2(abi.AT_FDCWD, fifo, os.O_WRONLY))
            os.waitpid(pid, 0)
        finally:
            os.unlink(fifo)
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(reader)
        os.close(writer)
    assert ran == [signal.SIGALRM]


def test_a_buffer_holds_its_content_and_zeroes_behind_it() -> None:
    assert call.buffer(4, b"ab").raw == b"ab\0\0"
    assert call.buffer(0).raw == b"\0"
    assert call.buffer(1, b"long").raw == b"long"


def test_text_for_the_kernel_has_no_nul_and_keeps_its_bytes() -> None:
    assert call.cstring("open", "/caf\udce9") == b"/caf\xe9"
    with pytest.raises(OSError) as refused:
        call.cstring("open", "a\0b")
    assert refused.value.errno == errno.EINVAL


def test_the_bindings_of_a_container_start_load_nothing_else() -> None:
    """Measured in a bare interpreter: not one module outside of the standard library's C parts and these."""
    rooms = "abi call process mount mountinfo paths fds sockets tty capabilities credentials keyring seccomp bpf lsm"
    source = str(Path(__file__).parents[3] / "src")
    program = (
        f"import sys; sys.path.insert(0, {source!r}); import os; before = set(sys.modules)\n"
        + "".join(f"import sampan.linux.{room}\n" for room in [*rooms.split(), "cgroupfs", "procfs", "inotify"])
        + "print(*sorted(m for m in set(sys.modules) - before if not m.startswith('sampan')))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"__future__", "_ctypes", "_struct", "struct", "errno"}
