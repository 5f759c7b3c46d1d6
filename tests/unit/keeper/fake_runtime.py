"""A runtime without namespaces, for tests of the keeper: it forks and executes, and keeps runc's conversation.

It passes the same suite as the real one (`tests/linux/test_keeper_tasks.py`). A "container" here is a process group
on the host; its cgroup is the list of processes in its session.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import sys
import termios
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

sys.path.insert(0, os.path.abspath(__file__).split("/tests/")[0] + "/src")
from sampan.linux import fds


class FakeLaunch:
    def __init__(self, process: dict, stdio, terminal: bool, console_size, state: dict) -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        master = slave = -1
        if terminal:
            master, slave = pty.openpty()
            os.set_inheritable(master, False)
            if console_size:
                termios.tcsetwinsize(master, tuple(console_size))
            stdio = (slave, slave, slave)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._child(process, stdio, terminal, theirs)
            finally:
                os._exit(1)
        theirs.close()
        if terminal:
            os.close(slave)
        self.pidfd = os.pidfd_open(self.pid)
        self._socket = ours
        ours.setblocking(False)
        self.channel = ours.fileno()
        self._waiting = [("console", master)] if terminal else []
        self.state = {**state, "init_process_pid": self.pid}
        self.executed = False

    def _child(self, process, stdio, terminal, channel) -> None:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for target, fd in enumerate(stdio):
            os.dup2(fd, target)
        if terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # A waiting child that held the keeper's connections would hide the keeper's death from its clients.
        fds.close_all_except((0, 1, 2, channel.fileno()))
        if process["args"][0] == "die-early":
            channel.send(b"failed:process refused")
            os._exit(1)
        if process["args"][0] == "die-silently":
            os._exit(9)
        channel.send(b"ready")
        if channel.recv(16) != b"go":
            os._exit(1)
        try:
            os.execvpe(process["args"][0], process["args"], {"PATH": os.environ.get("PATH", "/bin:/usr/bin")})
        except OSError as error:
            channel.send(f'failed:exec: "{process["args"][0]}": {error.strerror}'.encode())
            os._exit(127)

    def step(self):
        if self._waiting:
            return self._waiting.pop(0)
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if data == b"ready":
            return ("ready",)
        if data.startswith(b"failed:"):
            return ("failed", "Error", data[7:].decode())
        return ("running",) if self._said_go else ("failed", "Error", "init ended early")

    _said_go = False

    def proceed(self) -> None:
        self._said_go = True
        self._socket.send(b"go")

    def close(self) -> None:
        self._socket.close()


class FakeRuntime:
    def launch(self, spec, *, container_id, bundle, root, rootfs_mounts, stdio, terminal, console_size):
        return FakeLaunch(spec["process"], stdio, terminal, console_size, {"id": container_id, "spec": spec})

    def launch_exec(self, state, process, *, root, stdio, terminal, console_size):
        return FakeLaunch(process, stdio, terminal, console_size, state)

    def started(self, launch):
        pass

    def kill(self, root, state, number, everything):
        pid = state["init_process_pid"]
        os.killpg(pid, number) if everything else os.kill(pid, number)

    def pause(self, root, state):
        os.killpg(state["init_process_pid"], signal.SIGSTOP)

    def resume(self, root, state):
        os.killpg(state["init_process_pid"], signal.SIGCONT)

    def update(self, root, state, resources):
        state["resources"] = resources

    def checkpoint(self, root, state, flags):
        where = flags[flags.index("--image-path") + 1]
        os.mkdir(where)
        if "--leave-running" not in flags:
            os.kill(state["init_process_pid"], signal.SIGKILL)

    def stats(self, state):
        return {"pids": {"current": len(self.pids(state))}, "resources": state.get("resources")}

    def pids(self, state):
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if os.getsid(int(name)) == state["init_process_pid"]:
                        found.append(int(name))
                except ProcessLookupError:
                    pass
        return found

    def delete(self, root, container_id, state):
        pass

    def load(self, root, container_id):
        return None


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    from sampan.keeper import serve

    def ready() -> None:
        os.write(int(sys.argv[2]), b"ready\n")
        os.close(int(sys.argv[2]))

    serve.run(sys.argv[1], FakeRuntime(), ready)
