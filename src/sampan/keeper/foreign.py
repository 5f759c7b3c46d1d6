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
from signal import SIGKILL, pidfd_send_signal

from sampan import errors
from sampan.keeper.command import Commands
from sampan.keeper.console import Console
from sampan.keeper.mounting import mount_rootfs, unmount_rootfs
from sampan.keeper.native import owner, pipe_owner
from sampan.keeper.reaper import LOST
from sampan.linux import cgroupfs, mountinfo, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sampan.keeper.command import Finished, Stdio
    from sampan.keeper.janitor import Janitor, Promptly
    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper
    from sampan.keeper.task import Done, Process, Task

CREATE_FLAGS = {"no_pivot_root": "--no-pivot", "no_new_keyring": "--no-new-keyring"}


class Foreign:
    """Drives the runtime whose binary is at `path`; `directory` is for its pid files, logs and console sockets."""

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        janitor: Janitor | Promptly,
        directory: str,
        path: str,
        exited: Callable[[Process, int], None],
    ) -> None:
        self._commands = Commands(loop, reaper, directory, path)
        self._loop = loop
        self._reaper = reaper
        self._janitor = janitor
        self._path = path
        self._exited = exited
        self._starting: dict[str, int | None] = {}
        """Tasks whose start command runs, with the status of an init that has ended before the command has."""

    def create(self, task: Task, spec: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None:
        rootfs = rootfs_path(task.bundle, spec)
        mount_rootfs(task.rootfs, rootfs)
        if task.checkpoint:
            done(None, {})
            return

        def created(error: Exception | None) -> None:
            if error is None:
                task.mntns = procfs.open_namespace(task.init.pid, "mount")
                task.state = {"cgroup_paths": cgroup_directories(task.init.pid)}
                done(None, {})
                return
            # What a failed create leaves, if anything, is the command's to know.
            self._commands.run(settings(task), ["delete", "--force", task.name], lambda _, __: end(error))

        def end(error: Exception) -> None:
            unmount_rootfs(task.rootfs, rootfs)
            done(error, {})

        arguments = ["create", "--bundle", task.bundle]
        arguments += [flag for key, flag in CREATE_FLAGS.items() if task.options.get(key)]
        try:
            self._launch(task.init, arguments, task.name, spec.get("process"), spec, console_size, created)
        except BaseException:
            unmount_rootfs(task.rootfs, rootfs)
            raise

    def start(self, task: Task, done: Done) -> None:
        if task.checkpoint:
            self._restore(task, done)
            return
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

        self._commands.run(settings(task), ["start", task.name], started)

    def _restore(self, task: Task, done: Done) -> None:
        def restored(error: Exception | None) -> None:
            if error is None and task.init.pidfd >= 0:
                task.state = {"cgroup_paths": cgroup_directories(task.init.pid)}
            if error is not None:
                self._exited(task.init, LOST)
            done(error, {})

        arguments = ["restore", "--detach", "--bundle", task.bundle, "--image-path", task.checkpoint]
        arguments += ["--work-path", f"{task.bundle}/criu-work"]
        self._launch(task.init, arguments, task.name, None, {}, None, restored)

    def exec(self, child: Process, process: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None:
        if console_size is not None:
            process = {**process, "consoleSize": {"height": console_size[0], "width": console_size[1]}}
        path = self._commands.scratch("process", json.dumps(process))

        def running(error: Exception | None) -> None:
            os.unlink(path)
            done(error, {})

        arguments = ["exec", "--detach", "--process", path]
        self._launch(child, arguments, child.task.name, process, {}, console_size, running)

    def kill(self, task: Task, number: int, everything: bool, done: Done) -> None:
        arguments = ["kill", *(["--all"] if everything else []), task.name, str(number)]
        self._commands.run(settings(task), arguments, _plain(done))

    def pause(self, task: Task, done: Done) -> None:
        self._commands.run(settings(task), ["pause", task.name], _plain(done))

    def resume(self, task: Task, done: Done) -> None:
        self._commands.run(settings(task), ["resume", task.name], _plain(done))

    def update(self, task: Task, resources: dict[str, Any], done: Done) -> None:
        path = self._commands.scratch("resources", json.dumps(resources))

        def updated(error: Exception | None, output: bytes) -> None:
            os.unlink(path)
            done(error, {})

        self._commands.run(settings(task), ["update", "--resources", path, task.name], updated)

    def checkpoint(self, task: Task, flags: list[str], done: Done) -> None:
        self._commands.run(settings(task), ["checkpoint", *flags, task.name], _plain(done))

    def stats(self, task: Task, done: Done) -> None:
        self._commands.run(
            settings(task), ["events", "--stats", task.name], _document(lambda d: {"data": d["data"]}, done)
        )

    def pids(self, task: Task, done: Done) -> None:
        self._commands.run(
            settings(task), ["ps", "--format", "json", task.name], _document(lambda d: {"pids": d or []}, done)
        )

    def delete(self, task: Task, done: Done) -> None:
        if task.mntns >= 0:
            mntns, task.mntns = task.mntns, -1
            self._janitor.close_soon(mntns)

        def deleted(error: Exception | None, output: bytes) -> None:
            try:
                unmount_rootfs(task.rootfs, rootfs_path(task.bundle))
            except OSError as trouble:
                error = error or errors.Error(str(trouble))
            done(error, {})

        self._commands.run(settings(task), ["delete", "--force", task.name], deleted)

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
        pid_file = self._commands.name("pid")
        arguments += ["--pid-file", pid_file]
        console: Console | None = None
        stdio: Stdio | None = None
        if streams.terminal:
            path = self._commands.name("console")
            console = Console(self._loop, path, streams.console)
            arguments += ["--console-socket", path]
        else:
            stdio = streams.open_pipes(*pipe_owner(child.task, *owner(process, spec)))
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
            self._commands.run(settings(child.task), [*arguments, container_id], made, stdio)
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


def settings(task: Task) -> list[str]:
    """The global flags of every command about a task."""
    return ["--root", task.root, *(["--systemd-cgroup"] if task.options.get("systemd_cgroup") else [])]


def rootfs_path(bundle: str, spec: dict[str, Any] | None = None) -> str:
    """Where the bundle's (or the given) spec has the root file system; "rootfs" when nothing can be read."""
    if spec is None:
        try:
            with open(f"{bundle}/config.json", encoding="utf-8") as file:
                spec = json.load(file)
        except (OSError, ValueError):
            spec = {}
    return os.path.join(bundle, ((spec or {}).get("root") or {}).get("path", "rootfs"))


def end_process(child: Process) -> None:
    """SIGKILL."""
    try:
        pidfd_send_signal(child.pidfd, SIGKILL)
    except ProcessLookupError:
        pass  # it has ended, which the loop is about to hear


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
