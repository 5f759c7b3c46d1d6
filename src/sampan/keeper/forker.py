"""The verbs of a keeper on its tasks. Everything here ends at once: what takes time is told later, by `Done`.

A container's exit, in this order, so that the notice says nothing that is not true yet:

    pidfd readable -> reaped -> output drained to log and clients -> record written -> exit event -> (later) delete
"""

from __future__ import annotations

import os
import re
import select
import sys
from signal import SIGKILL, pidfd_send_signal

from sampan import errors
from sampan.keeper.logger import Logger
from sampan.keeper.oom import OomWatch
from sampan.keeper.reaper import LOST
from sampan.keeper.requests import checked_options, open_log, read_object, runtime_root
from sampan.keeper.stdio import Streams
from sampan.keeper.task import Process, Task
from sampan.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.keeper.exits import Keeping
    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper
    from sampan.keeper.task import Done, Driver

_ID = re.compile(r"[\w+.-]{1,255}", re.ASCII)


class Forker:
    """Owns the tasks of one keeper.

    `drivers(path)` is the driver for a runtime ("" is ours); `tell(event)` sends an event to the subscribers and says
    whether there was any."""

    def __init__(
        self,
        loop: Loop,
        records: Keeping,
        drivers: Callable[[str], Driver],
        tell: Callable[[dict[str, Any]], bool],
    ) -> None:
        self.tasks: dict[str, Task] = {}
        self.untold: list[dict[str, Any]] = []
        """Exits of execs that nobody was subscribed for, until somebody lists."""
        self._loop = loop
        self._records = records
        self._drivers = drivers
        self._tell = tell
        self._early: dict[tuple[str, str], tuple[object, Streams]] = {}

    def task(self, container_id: str) -> Task:
        """NotFound."""
        task = self.tasks.get(container_id)
        if task is None:
            raise errors.NotFound(f'task "{container_id}" not found')
        return task

    def process(self, container_id: str, exec_id: str) -> Process:
        """The task's init for "", or an exec. NotFound."""
        task = self.task(container_id)
        if not exec_id:
            return task.init
        child = task.execs.get(exec_id)
        if child is None:
            raise errors.NotFound(f'exec "{exec_id}" of container "{container_id}" not found')
        return child

    def create(self, request: dict[str, Any], done: Done) -> None:
        """The call `create`. AlreadyExists, InvalidArgument, or the runtime's own failure through `done`."""
        container_id = request["container"]
        if not _ID.fullmatch(container_id) or container_id in (".", ".."):
            raise errors.InvalidArgument(f'invalid container id "{container_id}"')
        if container_id in self.tasks:
            raise errors.AlreadyExists(f'task "{container_id}" already exists')
        spec = read_object(f"{request['bundle']}/config.json")
        runtime = request.get("runtime") or ""
        driver = self._drivers(runtime)
        options = checked_options(request.get("options"))
        log = open_log(request.get("log"))
        streams = Streams(self._loop)
        once = bool(request.get("stdin_once"))
        streams.configure(request["terminal"], request["stdin"], once, log)
        task = Task(container_id, request["bundle"], runtime_root(request, options), runtime, driver, streams, options)
        task.rootfs = request["rootfs"]
        task.checkpoint = request.get("checkpoint") or ""
        self.tasks[container_id] = task

        def created(error: Exception | None, result: dict[str, Any]) -> None:
            if error is None:
                try:
                    self._created(task)
                except OSError as trouble:
                    # Without its record nobody would find the task again: it must not live.
                    refused = trouble
                    self.delete(task, lambda _, __: done(refused, {}))
                    return
                done(None, {"pid": task.init.pid})
                return
            self._forget(task)
            done(error, {})

        try:
            driver.create(task, spec, request.get("console_size"), created)
        except BaseException:
            self._forget(task)
            raise

    def _created(self, task: Task) -> None:
        task.move("ready")
        self._remember(task)

    def _remember(self, task: Task) -> None:
        """Record its first process, if it has one yet, and hear of its want of memory. Errors: OSError."""
        self._records.save(task.id, task.record(_start_time(task.init.pid)))
        directory = memory_cgroup(task.state)
        if directory:
            try:
                task.oom_watch = OomWatch(self._loop, directory, lambda: self._out_of_memory(task))
            except OSError as error:
                print(f"keeper: {task.id}: no out-of-memory notices: {error}", file=sys.stderr, flush=True)

    def start(self, task: Task, done: Done) -> None:
        """The call `start`."""
        task.move("start")
        # Before execve, so that a process that writes and ends at once finds its reader. A restore makes the pipes.
        if not task.checkpoint:
            task.init.streams.start()

        def started(error: Exception | None, result: dict[str, Any]) -> None:
            if error is None:
                task.init.running = True
                task.move("running")
                if task.checkpoint:
                    task.init.streams.start()
                    self._remember(task)
                result = {**result, "pid": task.init.pid}
            done(error, result)

        task.driver.start(task, started)

    def exec(self, request: dict[str, Any], done: Done) -> None:
        """The call `exec`; streams that clients attached before are its own."""
        task = self.task(request["container"])
        task.check("exec")
        exec_id = request["exec"]
        if not exec_id:
            raise errors.InvalidArgument("exec id is empty")
        if exec_id in task.execs:
            raise errors.AlreadyExists(f'exec "{exec_id}" already exists')
        process = read_object(request["process"])
        _, streams = self._early.pop((task.id, exec_id), (None, None))
        if streams is None:
            streams = Streams(self._loop)
        streams.configure(request["terminal"], request["stdin"], True, None)
        child = Process(task, exec_id, streams)
        task.execs[exec_id] = child

        def running(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                task.execs.pop(exec_id, None)
                streams.drop()
                child.close()
                done(error, {})
                return
            child.running = True
            streams.start()
            done(None, {"pid": child.pid})

        try:
            task.driver.exec(child, process, request.get("console_size"), running)
        except BaseException:
            task.execs.pop(exec_id, None)
            streams.drop()
            raise

    def attach(self, request: dict[str, Any], fds: list[int], owner: object) -> int | None:
        """The call `attach`: takes over `fds`; the input's fd for the client, who closes it, or None.

        What an `owner` (a connection) prepared for an exec that never came is dropped with it (`lost`)."""
        container_id, exec_id = request["container"], request["exec"]
        wanted = [stream for stream in ("stdout", "stderr") if request[stream]]
        if len(fds) != len(wanted):
            raise errors.InvalidArgument(f"attach names {len(wanted)} streams and brings {len(fds)} file descriptors")
        streams = self._streams(container_id, exec_id, owner)
        for stream in wanted:
            streams.attach_output(stream, fds.pop(0))
        return streams.attach_input() if request["stdin"] else None

    def _streams(self, container_id: str, exec_id: str, owner: object) -> Streams:
        task = self.task(container_id)
        task.check("attach")
        if not exec_id:
            return task.init.streams
        if exec_id in task.execs:
            return task.execs[exec_id].streams
        return self._early.setdefault((container_id, exec_id), (owner, Streams(self._loop)))[1]

    def attach_logger(self, request: dict[str, Any], reaper: Reaper, owner: object, done: Done) -> None:
        """The call `logger`: both outputs go to a program, which is ready for them when `done` is called."""
        streams = self._streams(request["container"], request["exec"], owner)
        names = {"CONTAINER_ID": request["known_as"], "CONTAINER_NAMESPACE": request["namespace"]}

        def ready(error: Exception | None) -> None:
            for stream, fd in zip(("stdout", "stderr"), logger.outputs, strict=True):
                if error is None:
                    streams.attach_output(stream, fd)
                else:
                    os.close(fd)
            streams.when_closed(logger.finish)
            done(error, {})

        logger = Logger(self._loop, reaper, request["uri"], names, ready)

    def bury(self) -> None:
        """Take over what a dead keeper left in the records: end it, and hold it as stopped until it is deleted.

        Nobody can know how it ended; killed is what it is in the end."""
        for container_id, record in self._records.load().items():
            streams = Streams(self._loop)
            streams.drop()
            driver = self._drivers(record["runtime"])
            place = record["bundle"], record["root"], record["runtime"]
            task = Task(container_id, *place, driver, streams, record.get("options"))
            task.rootfs = record["rootfs"]
            task.created = record["created"]
            task.init.pid = record["pid"]
            task.status = "stopped"
            task.exit = record["exit"]
            if task.exit is None:
                end_process(record["pid"], record["start_time"])
                driver.adopt(task)
                task.exit = task.init.exit_object(LOST)
                self._records.save(container_id, task.record(0))
            else:
                driver.adopt(task)
            self.tasks[container_id] = task

    def lost(self, owner: object) -> None:
        """A connection is gone: drop what it prepared for execs that never came."""
        for key, (maker, streams) in list(self._early.items()):
            if maker is owner:
                del self._early[key]
                streams.drop()

    def kill(self, request: dict[str, Any], done: Done) -> None:
        """The call `kill`."""
        child = self.process(request["container"], request["exec"])
        number = request["signal"]
        task = child.task
        task.check("kill")
        if not child.exec_id and task.status == "created" and child.pidfd < 0:
            raise errors.Conflict(f'container "{task.id}" has no process before it is restored')
        if not child.exec_id:
            task.driver.kill(task, number, request["all"], done)
            return
        if child.pidfd < 0:
            raise errors.Conflict(f'exec "{child.exec_id}" of container "{task.id}" is not running')
        try:
            pidfd_send_signal(child.pidfd, number)
        except OSError as error:
            raise errors.InvalidArgument(f"kill: {error}") from error
        done(None, {})

    def change(self, task: Task, verb: str, done: Done) -> None:
        """The calls `pause` and `resume`."""
        task.check(verb)

        def changed(error: Exception | None, result: dict[str, Any]) -> None:
            if error is None and task.status != "stopped":
                task.move(verb)
            done(error, result)

        (task.driver.pause if verb == "pause" else task.driver.resume)(task, changed)

    def delete(self, task: Task, done: Done) -> None:
        """The call `delete`. A task that was created and never started is killed first, and no exit is told."""
        if task.status == "created" and task.init.pidfd >= 0:
            task.move("delete")

            def dead() -> None:
                self._delete(task, done)

            task.when_stopped.append(dead)
            pidfd_send_signal(task.init.pidfd, SIGKILL)
            return
        task.move("delete")
        self._delete(task, done)

    def _delete(self, task: Task, done: Done) -> None:
        def deleted(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                # It can be asked for again.
                task.status = "stopped"
                done(error, {})
                return
            self._forget(task)
            done(None, {"exit": task.exit})

        task.driver.delete(task, deleted)

    def _forget(self, task: Task) -> None:
        self._end_watches(task)
        task.init.streams.drop()
        task.init.close()
        for key in [key for key in self._early if key[0] == task.id]:
            self._early.pop(key)[1].drop()
        self._records.remove(task.id)
        del self.tasks[task.id]

    def exited(self, child: Process, status: int) -> None:
        """A process of a task has been reaped: drivers call this for every one that they said was created."""
        task = child.task
        if task.oom_watch is not None:
            task.out_of_memory = task.oom_watch.look() or task.out_of_memory
        child.streams.drain()
        child.close()
        child.running = False
        exit_object = child.exit_object(status)
        if child.exec_id:
            task.execs.pop(child.exec_id, None)
            if not self._tell({"event": "exit", **exit_object}):
                self.untold.append(exit_object)
            return
        deleting = task.status == "deleting"
        failed_start = task.status == "starting"
        task.move("exit")
        task.exit = exit_object
        try:
            self._records.save(task.id, task.record(0))
        except OSError as error:
            print(f"keeper: {task.id}: exit not recorded: {error}", file=sys.stderr, flush=True)
        if not deleting and not failed_start:
            self._tell({"event": "exit", **exit_object})
        self._end_watches(task)
        waiting, task.when_stopped = task.when_stopped, []
        for call in waiting:
            call()

    def _end_watches(self, task: Task) -> None:
        if task.oom_watch is not None:
            task.oom_watch.close()
            task.oom_watch = None

    def _out_of_memory(self, task: Task) -> None:
        task.out_of_memory = True
        self._tell({"event": "oom", "container": task.id})


def memory_cgroup(state: Any) -> str:
    """The directory of the memory controller in a container's state (runc's cgroup_paths); "" when there is none."""
    if not isinstance(state, dict):
        return ""
    paths = state.get("cgroup_paths") or {}
    directory = paths.get("memory") or paths.get("") or ""
    return directory if os.path.isabs(directory) else ""


def _start_time(pid: int) -> int:
    try:
        return procfs.start_time(pid)
    except OSError:
        return 0  # it has ended already; its pid is ours until it is reaped


def end_process(pid: int, start_time: int) -> None:
    """SIGKILL the process that had this pid and start time, and wait until it is gone; nothing when it is not it."""
    if not pid:
        return  # a task that was still to be restored
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Read after the pidfd was opened: now the number cannot become another process's unnoticed.
        if start_time and _start_time(pid) == start_time:
            pidfd_send_signal(pidfd, SIGKILL)
            waiting = select.poll()
            waiting.register(pidfd, select.POLLIN)
            waiting.poll(10_000)
    except ProcessLookupError:
        pass  # it has ended meanwhile
    finally:
        os.close(pidfd)
