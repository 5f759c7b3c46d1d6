"""The driver for sampan's own runtime: its functions, called in this process, and its conversations, on the loop."""

from __future__ import annotations

import os
import sys
from signal import SIGKILL, pidfd_send_signal

from sampan import errors
from sampan.keeper import restoring
from sampan.keeper.aside import aside
from sampan.keeper.loop import READ
from sampan.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from sampan.keeper.janitor import Janitor, Promptly
    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper
    from sampan.keeper.task import Done, Process, Task

    class Launch(Protocol):
        """The runtime's conversation with a process that it has cloned."""

        pid: int
        pidfd: int
        state: dict[str, Any]
        executed: bool

        @property
        def channel(self) -> int: ...
        def step(self) -> tuple[Any, ...] | None: ...
        def proceed(self) -> None: ...
        def close(self) -> None: ...

    class Runtime(Protocol):
        """What the keeper asks of the runtime; `sampan.keeper.library` is the real one."""

        def launch(
            self,
            spec: dict[str, Any],
            *,
            container_id: str,
            bundle: str,
            root: str,
            rootfs_mounts: list[dict[str, Any]],
            stdio: tuple[int, int, int] | None,
            terminal: bool,
            console_size: Sequence[int] | None,
            no_pivot: bool = False,
            no_new_keyring: bool = False,
            systemd: bool = False,
        ) -> Launch: ...
        def launch_exec(
            self,
            state: dict[str, Any],
            process: dict[str, Any],
            /,
            *,
            root: str,
            stdio: tuple[int, int, int] | None,
            terminal: bool,
            console_size: Sequence[int] | None,
        ) -> Launch: ...
        def kill(self, root: str, state: dict[str, Any], number: int, everything: bool) -> None: ...
        def pause(self, root: str, state: dict[str, Any]) -> None: ...
        def resume(self, root: str, state: dict[str, Any]) -> None: ...
        def update(self, root: str, state: dict[str, Any], resources: dict[str, Any]) -> None: ...
        def restore(
            self,
            container_id: str,
            bundle: str,
            root: str,
            rootfs_mounts: list[dict[str, Any]],
            stdio: tuple[int, int, int] | None,
            images: str,
            systemd: bool,
        ) -> list[int]: ...
        def checkpoint(self, root: str, state: dict[str, Any], flags: list[str]) -> None: ...
        def stats(self, state: dict[str, Any]) -> dict[str, Any]: ...
        def pids(self, state: dict[str, Any]) -> list[int]: ...
        def delete(self, root: str, container_id: str, state: dict[str, Any] | None) -> None: ...
        def load(self, root: str, container_id: str) -> dict[str, Any] | None: ...


WISHES = {"no_pivot_root": "no_pivot", "no_new_keyring": "no_new_keyring", "systemd_cgroup": "systemd"}
"""Options of a task and what `launch` calls them."""


class Conversation:
    """One process from its clone to its execve; afterwards it only waits for the end.

    cloned --console--> cloned --ready--> waiting --proceed--> going --running--> over
             \\------------ failed ------------/------ failed ------/
    """

    def __init__(self, driver: Native, child: Process, launch: Launch, done: Done) -> None:
        self.phase = "cloned"
        self.launch = launch
        self._driver = driver
        self._child = child
        self._done: Done | None = done
        self._failure: Exception | None = None
        self._open = True
        child.pid, child.pidfd = launch.pid, launch.pidfd
        driver.reaper.watch(launch.pid, launch.pidfd, self._gone)
        # A duplicate, because the runtime closes its own as soon as the conversation is over.
        self._channel = os.dup(launch.channel)
        driver.loop.add(self._channel, READ, self._readable)

    def proceed(self, done: Done | None) -> None:
        """Let it execute its program; `done` (or the one still waiting) is told whether it did."""
        self.phase = "going"
        if done is not None:
            self._done = done
        try:
            self.launch.proceed()
        except BrokenPipeError:
            pass  # it has just ended, and will be told so when it is reaped

    def _readable(self, mask: int) -> None:
        while self._open:
            try:
                event = self.launch.step()
                if event is None:
                    return
                self._handle(event)
            except (OSError, errors.Error) as error:
                self._fail(type(error).__name__, str(error))

    def _handle(self, event: tuple[Any, ...]) -> None:
        child = self._child
        kind = event[0]
        if self.phase == "waiting":
            self._close()  # it has ended before anybody let it go on: its exit says so
        elif kind == "console":
            child.streams.console(event[1])
        elif kind == "listener":
            os.close(event[1])  # nobody here answers seccomp notifications: without a listener they are ENOSYS
        elif kind == "ready" and child.exec_id:
            self.proceed(None)
        elif kind == "ready":
            self.phase = "waiting"
            task = child.task
            task.state = self.launch.state
            # While somebody holds the mount namespace, init's exit does not have to unmount it first.
            task.mntns = procfs.open_namespace(child.pid, "mount")
            self._answer(None)
        elif kind == "running":
            self.phase = "over"
            self._close()
            self._answer(None)
        elif kind == "failed":
            self._fail(event[1], event[2])

    def _fail(self, kind: str, message: str) -> None:
        self._failure = failure(kind, message)
        self._close()
        try:
            pidfd_send_signal(self._child.pidfd, SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself

    def _gone(self, status: int) -> None:
        if self._open:
            self._readable(0)
        if self._open and self.launch.executed:
            self._answer(None)  # it ended while its poststart hooks were still at work
        elif self._open and self.phase != "waiting":
            self._failure = errors.Error(f"container process ended before it ran its program (status {status})")
        self._close()
        failed, child = self._failure, self._child
        if not child.exec_id:
            self._driver.end_rest(child.task, self.launch.state)
        if failed is None:
            self._driver.exited(child, status)
        elif child.exec_id:
            self._answer(failed)
        elif self.phase == "going":
            self._driver.exited(child, status)
            self._answer(failed)
        else:
            self._driver.forget(child.task, self.launch.state)
            self._answer(failed)

    def _answer(self, error: Exception | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(error, {})

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._driver.loop.remove(self._channel)
            os.close(self._channel)
            self.launch.close()


class Native:
    """Drives our runtime. `exited(process, status)` is the forker's."""

    def __init__(
        self,
        loop: Loop,
        reaper: Reaper,
        janitor: Janitor | Promptly,
        runtime: Runtime,
        exited: Callable[[Process, int], None],
    ) -> None:
        self.loop = loop
        self.reaper = reaper
        self.exited = exited
        self._janitor = janitor
        self.runtime = runtime
        self._conversations: dict[str, Conversation] = {}

    def create(self, task: Task, spec: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None:
        if task.checkpoint:
            done(None, {})
            return
        streams = task.init.streams
        wishes = {wish: True for option, wish in WISHES.items() if task.options.get(option)}
        stdio = None if streams.terminal else streams.open_pipes(*pipe_owner(task, *owner(spec.get("process"), spec)))
        try:
            launch = self.runtime.launch(
                spec,
                container_id=task.name,
                bundle=task.bundle,
                root=task.root,
                rootfs_mounts=task.rootfs,
                stdio=stdio,
                terminal=streams.terminal,
                console_size=console_size,
                **wishes,
            )
        finally:
            streams.close_child()
        self._conversations[task.id] = Conversation(self, task.init, launch, done)

    def start(self, task: Task, done: Done) -> None:
        if task.checkpoint:
            restoring.restore(self, task, pipe_owner(task, 0, 0), done)
        else:
            self._conversations[task.id].proceed(done)

    def exec(self, child: Process, process: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None:
        streams = child.streams
        state = child.task.state
        user = pipe_owner(child.task, *owner(process, state.get("spec") or {}))
        stdio = None if streams.terminal else streams.open_pipes(*user)
        try:
            launch = self.runtime.launch_exec(
                state,
                process,
                root=child.task.root,
                stdio=stdio,
                terminal=streams.terminal,
                console_size=console_size,
            )
        finally:
            streams.close_child()
        Conversation(self, child, launch, done)

    def kill(self, task: Task, number: int, everything: bool, done: Done) -> None:
        self.runtime.kill(task.root, task.state, number, everything)
        done(None, {})

    def pause(self, task: Task, done: Done) -> None:
        self.runtime.pause(task.root, task.state)
        done(None, {})

    def resume(self, task: Task, done: Done) -> None:
        self.runtime.resume(task.root, task.state)
        done(None, {})

    def update(self, task: Task, resources: dict[str, Any], done: Done) -> None:
        self.runtime.update(task.root, task.state, resources)
        done(None, {})

    def checkpoint(self, task: Task, flags: list[str], done: Done) -> None:
        root, state = task.root, task.state
        aside(self.reaper, lambda: self.runtime.checkpoint(root, state, flags), lambda error, _: done(error, {}))

    def stats(self, task: Task, done: Done) -> None:
        done(None, {"data": self.runtime.stats(task.state)})

    def pids(self, task: Task, done: Done) -> None:
        done(None, {"pids": self.runtime.pids(task.state)})

    def delete(self, task: Task, done: Done) -> None:
        self.forget(task, task.state)
        done(None, {})

    def adopt(self, task: Task) -> None:
        task.state = self.runtime.load(task.root, task.name)
        if task.state is not None:
            try:
                self.runtime.kill(task.root, task.state, SIGKILL, True)
            except (OSError, errors.Error):
                pass  # nothing of it is left, which is what was wanted

    def end_rest(self, task: Task, state: dict[str, Any]) -> None:
        """Init has ended: so shall the others, where no pid namespace of its own makes the kernel see to it."""
        namespaces = state["spec"].get("linux", {}).get("namespaces", [])
        if any(namespace["type"] == "pid" and not namespace.get("path") for namespace in namespaces):
            return
        try:
            self.runtime.kill(task.root, state, SIGKILL, True)
        except (OSError, errors.Error) as error:
            print(f"keeper: {task.id}: processes are left: {error}", file=sys.stderr, flush=True)

    def forget(self, task: Task, state: dict[str, Any] | None) -> None:
        """Remove what the runtime made for a container whose init has been reaped."""
        self._conversations.pop(task.id, None)
        if task.mntns >= 0:
            mntns, task.mntns = task.mntns, -1
            self._janitor.close_soon(mntns)
        self.runtime.delete(task.root, task.name, state)


def owner(process: dict[str, Any] | None, spec: dict[str, Any]) -> tuple[int, int]:
    """The host's (uid, gid) of a runtime-spec `process.user`, through the id maps of the spec's user namespace."""
    user = (process or {}).get("user") or {}
    linux = spec.get("linux") or {}
    return (
        to_host(user.get("uid", 0), linux.get("uidMappings")),
        to_host(user.get("gid", 0), linux.get("gidMappings")),
    )


def pipe_owner(task: Task, uid: int, gid: int) -> tuple[int, int]:
    """Who owns a task's pipes: the client's choice before the container's user."""
    return task.options.get("io_uid", uid), task.options.get("io_gid", gid)


def to_host(number: int, mappings: list[dict[str, int]] | None) -> int:
    """A container's id as the host's, by runtime-spec mappings; itself without any, 0 when it is not mapped."""
    if not mappings:
        return number
    for mapping in mappings:
        first = mapping["containerID"]
        if first <= number < first + mapping["size"]:
            return mapping["hostID"] + number - first
    return 0


def failure(kind: str, message: str) -> Exception:
    """The error of `sampan.errors` with that class name; Error for any other name."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, errors.Error):
        return found(message)
    return errors.Error(message)
