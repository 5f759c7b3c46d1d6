"""The driver for another OCI runtime (runc, crun, ...), by the command line they share. Source: runc(8) and its verbs.

    create --bundle B --pid-file P [--console-socket S] ID     the container's streams are the command's own
    start ID      exec --detach --process F --pid-file P ID      kill ID N      delete --force ID
    pause ID      resume ID      update --resources F ID         events --stats ID      ps --format json ID

Every command is spawned, never forked, and watched like any other child. The keeper is the subreaper of what it leaves,
so the container's processes become ours to reap. The root file system is mounted on the host, below the bundle.
"""

from __future__ import annotations

import json
import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM
from _socket import socket as Socket
from signal import SIGKILL, pidfd_send_signal

from sampan import errors
from sampan.keeper.loop import READ
from sampan.keeper.mounting import mount_rootfs, unmount_rootfs
from sampan.keeper.native import owner
from sampan.linux import cgroupfs, mountinfo, procfs, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sampan.keeper.janitor import Janitor
    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper
    from sampan.keeper.task import Done, Process, Task

    Finished = Callable[[Exception | None, bytes], None]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Stdio = tuple[int, int, int]


class Foreign:
    """Drives the runtime whose binary is at `path`; `directory` is for its pid files, logs and console sockets."""

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        janitor: Janitor,
        directory: str,
        path: str,
        exited: Callable[[Process, int], None],
    ) -> None:
        self._loop = loop
        self._reaper = reaper
        self._janitor = janitor
        self._path = path
        self._exited = exited
        self._number = 0
        self._starting: dict[str, int | None] = {}
        """Tasks whose start command runs, with the status of an init that has ended before the command has."""
        os.makedirs(directory, 0o700, exist_ok=True)
        # Short names for a deep directory: a socket's path has at most 107 bytes.
        self._dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directory = f"/proc/{os.getpid()}/fd/{self._dirfd}"

    def create(self, task: Task, spec: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None:
        rootfs = os.path.join(task.bundle, (spec.get("root") or {}).get("path", "rootfs"))
        mount_rootfs(task.rootfs, rootfs)

        def created(error: Exception | None) -> None:
            if error is None:
                task.mntns = procfs.open_namespace(task.init.pid, "mount")
                task.state = {"cgroup_paths": cgroup_directories(task.init.pid)}
                done(None, {})
                return
            # What a failed create leaves, if anything, is the command's to know.
            self._command(task, ["delete", "--force", task.id], lambda _, __: end(error))

        def end(error: Exception) -> None:
            unmount_rootfs(task.rootfs, rootfs)
            done(error, {})

        arguments = ["create", "--bundle", task.bundle]
        try:
            self._launch(task.init, arguments, task.id, spec.get("process"), spec, console_size, created)
        except BaseException:
            unmount_rootfs(task.rootfs, rootfs)
            raise

    def start(self, task: Task, done: Done) -> None:
        self._starting[task.id] = None

        def started(error: Exception | None, output: bytes) -> None:
            status = self._starting.pop(task.id)
            if error is None:
                done(None, {})
            elif task.init.pidfd >= 0 and status is None:
                # What did not start waits on: it is ended, and its end is the answer's moment.
                task.when_stopped.append(lambda: done(error, {}))
                end_process(task.init)
            if status is not None:
                self._exited(task.init, status)
            if error is not None and status is not None:
                done(error, {})

        self._command(task, ["start", task.id], started)

    def exec(self, child: Process, process: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None:
        if console_size is not None:
            process = {**process, "consoleSize": {"height": console_size[0], "width": console_size[1]}}
        path = self._scratch("process", json.dumps(process))

        def running(error: Exception | None) -> None:
            os.unlink(path)
            done(error, {})

        arguments = ["exec", "--detach", "--process", path]
        self._launch(child, arguments, child.task.id, process, {}, console_size, running)

    def kill(self, task: Task, number: int, everything: bool, done: Done) -> None:
        arguments = ["kill", *(["--all"] if everything else []), task.id, str(number)]
        self._command(task, arguments, _plain(done))

    def pause(self, task: Task, done: Done) -> None:
        self._command(task, ["pause", task.id], _plain(done))

    def resume(self, task: Task, done: Done) -> None:
        self._command(task, ["resume", task.id], _plain(done))

    def update(self, task: Task, resources: dict[str, Any], done: Done) -> None:
        path = self._scratch("resources", json.dumps(resources))

        def updated(error: Exception | None, output: bytes) -> None:
            os.unlink(path)
            done(error, {})

        self._command(task, ["update", "--resources", path, task.id], updated)

    def stats(self, task: Task, done: Done) -> None:
        self._command(task, ["events", "--stats", task.id], _document(lambda d: {"data": d["data"]}, done))

    def pids(self, task: Task, done: Done) -> None:
        self._command(task, ["ps", "--format", "json", task.id], _document(lambda d: {"pids": d or []}, done))

    def delete(self, task: Task, done: Done) -> None:
        if task.mntns >= 0:
            mntns, task.mntns = task.mntns, -1
            self._janitor.close_soon(mntns)

        def deleted(error: Exception | None, output: bytes) -> None:
            rootfs = f"{task.bundle}/rootfs"
            try:
                unmount_rootfs(task.rootfs, rootfs)
            except OSError as trouble:
                error = error or errors.Error(str(trouble))
            done(error, {})

        self._command(task, ["delete", "--force", task.id], deleted)

    def adopt(self, task: Task) -> None:
        """Its init has been killed; `delete --force` ends the rest."""

    def _launch(
        self,
        child: Process,
        arguments: list[str],
        container_id: str,
        process: dict[str, Any] | None,
        spec: dict[str, Any],
        console_size: Sequence[int] | None,
        done: Callable[[Exception | None], None],
    ) -> None:
        """Run the command that makes `child`, and find and watch what it made."""
        streams = child.streams
        pid_file = self._name("pid")
        arguments += ["--pid-file", pid_file]
        console: Console | None = None
        stdio: Stdio | None = None
        if streams.terminal:
            path = self._name("console")
            console = Console(self._loop, path, streams.console)
            arguments += ["--console-socket", path]
        else:
            stdio = streams.open_pipes(*owner(process, spec))
        self._reaper.expecting += 1

        def made(error: Exception | None, output: bytes) -> None:
            streams.close_child()
            if console is not None:
                console.close()
                if error is None and console_size is not None:
                    streams.resize(console_size[0], console_size[1])
            if error is None:
                error = self._found(child, pid_file)
            self._reaper.expecting -= 1
            done(error)

        try:
            self._command(child.task, [*arguments, container_id], made, stdio)
        except BaseException:
            self._reaper.expecting -= 1
            streams.close_child()
            raise

    def _found(self, child: Process, pid_file: str) -> Exception | None:
        try:
            with open(pid_file, encoding="ascii") as file:
                child.pid = int(file.read())
            os.unlink(pid_file)
        except (OSError, ValueError) as error:
            return errors.Error(f"{self._path} left no pid file: {error}")
        status = self._reaper.take_orphan(child.pid)
        if status is not None:
            # Already ended and reaped, before anybody knew that it was this one.
            ended = status
            self._loop.when_idle(lambda: self._ended(child, ended))
            return None
        try:
            child.pidfd = os.pidfd_open(child.pid)
        except ProcessLookupError as error:
            return errors.Error(f"process {child.pid} is gone: {error}")
        self._reaper.watch(child.pid, child.pidfd, lambda status: self._ended(child, status))
        return None

    def _ended(self, child: Process, status: int) -> None:
        if not child.exec_id and child.task.id in self._starting:
            self._starting[child.task.id] = status
        else:
            self._exited(child, status)

    def _command(self, task: Task, arguments: list[str], done: Finished, stdio: Stdio | None = None) -> None:
        """Spawn the runtime; `done` gets its standard output (when `stdio` is not given), or its error."""
        log = self._name("log")
        command = [self._path, "--root", f"{task.root}.{os.path.basename(self._path)}"]
        command += ["--log", log, "--log-format", "json", *arguments]
        output = _Output(self._loop) if stdio is None else None
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            wanted = stdio or (null, output.writer if output else null, null)
            pid = os.posix_spawn(
                self._path,
                command,
                {"PATH": PATH},
                # None of ours has a number below 3, so no copy overwrites the source of another.
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(wanted)],
                setsid=True,
                setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
            )
        except OSError as error:
            if output:
                output.close()
            raise errors.Error(f"{self._path}: {error.strerror}") from error
        finally:
            os.close(null)
            if output:
                os.close(output.writer)

        pidfd = os.pidfd_open(pid)

        def ended(status: int) -> None:
            os.close(pidfd)
            text = output.take() if output else b""
            error = errors.Error(last_error(log) or f"{self._path} ended with status {status}") if status else None
            try:
                os.unlink(log)
            except FileNotFoundError:
                pass  # it had nothing to log
            done(error, text)

        self._reaper.watch(pid, pidfd, ended)

    def _name(self, what: str) -> str:
        self._number += 1
        return f"{self._directory}/{what}{self._number}"

    def _scratch(self, what: str, content: str) -> str:
        path = self._name(what)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(content)
        return path


def end_process(child: Process) -> None:
    """SIGKILL."""
    try:
        pidfd_send_signal(child.pidfd, SIGKILL)
    except ProcessLookupError:
        pass  # it has ended, which the loop is about to hear


class Console:
    """A listening socket over which a runtime sends the master of the container's terminal (runc, terminals.md)."""

    def __init__(self, loop: Loop, path: str, received: Callable[[int], None]) -> None:
        self._loop = loop
        self._path = path
        self._received = received
        self._listener = Socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        self._listener.bind(path)
        self._listener.listen(1)
        loop.add(self._listener.fileno(), READ, self._accept)

    def _accept(self, mask: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        connection = Socket(fileno=fd)
        try:
            # The runtime sends right after it has connected, so this waits for microseconds at most.
            connection.settimeout(1)
            _, fds, _ = sockets.recv_with_fds(connection, 4096, 1)
        finally:
            connection.close()
        for master in fds:
            self._received(master)

    def close(self) -> None:
        """Take what has arrived and not been looked at, and stop listening."""
        self._accept(0)
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        os.unlink(self._path)


class _Output:
    """A command's standard output, read while it runs so that it never blocks on a full pipe."""

    def __init__(self, loop: Loop) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._parts: list[bytes] = []
        self._loop = loop
        loop.add(self._reader, READ, self._readable)

    def _readable(self, mask: int) -> None:
        try:
            while part := os.read(self._reader, 65536):
                self._parts.append(part)
        except BlockingIOError:
            return
        self.close()

    def take(self) -> bytes:
        """The command has ended: everything it wrote."""
        if self._reader >= 0:
            self._readable(0)
        self.close()
        return b"".join(self._parts)

    def close(self) -> None:
        if self._reader >= 0:
            self._loop.remove(self._reader)
            os.close(self._reader)
            self._reader = -1


def last_error(path: str) -> str:
    """The last error in a runtime's JSON log; "" when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal") and entry.get("msg"):
            return str(entry["msg"])
    return ""


def cgroup_directories(pid: int) -> dict[str, str]:
    """The process's cgroup in each hierarchy, controller (or "" for v2) to directory, as in runc's cgroup_paths."""
    try:
        paths = cgroupfs.paths(pid)
    except OSError:
        return {}
    return {
        key: hierarchy.directory(paths[key])
        for hierarchy in cgroupfs.hierarchies(mountinfo.read())
        for key in hierarchy.keys()  # noqa: SIM118 - not a dict
        if key in paths
    }


def _plain(done: Done) -> Finished:
    return lambda error, output: done(error, {})


def _document(pick: Callable[[Any], dict[str, Any]], done: Done) -> Finished:
    def finished(error: Exception | None, output: bytes) -> None:
        if error is not None:
            done(error, {})
            return
        try:
            result = pick(json.loads(output))
        except (ValueError, TypeError, KeyError) as trouble:
            done(errors.Error(f"runtime's answer is not understood: {trouble!r}"), {})
            return
        done(None, result)

    return finished
