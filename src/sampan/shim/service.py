"""containerd.task.v2.Task and v3.Task over the keeper's forker: one method each, and the events that containerd hears.

A container's process is created, running, paused or stopped, as the keeper's table has it; what containerd adds is
here: a process's streams are named by the client, execs are first noted and then started, and an exit is told to
whoever waits, to whoever subscribed, and remembered until `Delete`. Source: containerd, "Runtime v2"; texts as its runc
shim's.
"""

from __future__ import annotations

import os
import sys

from sampan import errors
from sampan.api.containerd import cgroup_metrics, runtime_objects
from sampan.shim import requests
from sampan.shim.messages import (
    PROCESS_DETAILS,
    PROCESS_DETAILS_TYPE,
    STATUSES,
    timestamp,
)
from sampan.shim.served import Child, Container
from sampan.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.shim.publisher import Publisher
    from sampan.shim.runs import Runs
    from sampan.shim.server import Call

LAST_WORDS = 2.0
"""Seconds that a shim which is to end gives containerd to take the last events."""


class Service:
    """`retire` makes room for another shim of this name, `stop` ends this one. `runs.forker` is given after the
    construction, since its events come to `tell`."""

    def __init__(self, runs: Runs, publisher: Publisher, retire: Callable[[], None], stop: Callable[[], None]) -> None:
        self.runs = runs
        self._publisher = publisher
        self._retire = retire
        self._stop = stop
        self._containers: dict[str, Container] = {}

    def handle(self, call: Call) -> None:
        """Do what a request asks; its answer may come later. Errors of `sampan.errors`, OSError."""
        METHODS[call.method](self, call)

    def tell(self, event: dict[str, Any]) -> bool:
        """What the forker has to say."""
        container = self._containers.get(event["container"])
        if container is None:
            return True
        if event["event"] == "oom":
            self._publisher.publish("oom", {"container_id": container.id})
            return True
        child = container.execs.get(event["exec"]) if event["exec"] else container.init
        if child is not None:
            child.exit = event
            if not child.starting:
                self._end(container, child)
        return True

    def create(self, call: Call) -> None:
        request = call.request
        if request["id"] in self._containers:
            raise errors.AlreadyExists(f"container {request['id']}: already exists")
        container = Container(request["id"], request["bundle"], Child("", request))
        wanted = requests.create(request, self.runs.namespace)
        self._containers[container.id] = container

        def created(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                del self._containers[container.id]
                call.fail(_failed("create failed: runc create failed", error))
                return
            container.init.pid = result["pid"]
            try:
                self.runs.attach(container, container.init, attached)
            except (errors.Error, OSError) as trouble:
                attached(trouble, {})

        def attached(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                self._discard(container, lambda: call.fail(_failed("create failed", error)))
                return
            if not request["checkpoint"]:
                container.note_pid()
            self._publish_create(container, request)
            call.answer(pid=container.init.pid)

        try:
            self.runs.forker.create(wanted, created)
        except BaseException as error:
            self._containers.pop(container.id, None)
            raise _failed("create failed: runc create failed", error) from error

    def start(self, call: Call) -> None:
        container, child = self._child(call)
        if child.status != "created" or child.starting:
            raise errors.Conflict(f"cannot start a {child.status} process: failed precondition")
        child.starting = True

        def started(error: Exception | None, result: dict[str, Any]) -> None:
            child.starting = False
            if error is not None:
                self._not_started(container, child)
                call.fail(_failed("exec failed: exec failed" if child.exec_id else "start failed", error))
                return
            child.pid = result.get("pid", child.pid)
            child.status = "running"
            if child.exec_id:
                names = {"container_id": container.id, "exec_id": child.exec_id}
                self._publisher.publish("exec-started", {**names, "pid": child.pid})
            else:
                container.note_pid()  # a restored one has it only now
                self._publisher.publish("start", {"container_id": container.id, "pid": child.pid})
            call.answer(pid=child.pid)
            if child.exit is not None:
                self._end(container, child)

        def attached(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                started(error, {})
                return
            try:
                self.runs.feed(container, child)
                self.runs.run(container, child, started)
            except (errors.Error, OSError) as trouble:
                started(trouble, {})

        if child.exec_id:
            try:
                self.runs.attach(container, child, attached)
            except (errors.Error, OSError) as trouble:
                attached(trouble, {})
        else:
            attached(None, {})

    def delete(self, call: Call) -> None:
        container, child = self._child(call)
        if child.starting or self._status(container, child) in ("running", "paused"):
            raise errors.Conflict("cannot delete a running process: failed precondition")
        if child.exec_id:
            del container.execs[child.exec_id]
            child.close()
            self._answer_waits(child)
            call.answer(**child.ended())
            return

        def deleted(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                call.fail(_failed("delete failed", error))
                return
            self._containers.pop(container.id, None)
            child.exit = child.exit or result["exit"]
            ended = child.ended()
            for one in (child, *container.execs.values()):
                one.close()
                self._answer_waits(one)
            self._publisher.publish("delete", {"container_id": container.id, **ended})
            call.answer(**ended)

        self.runs.forker.delete(self.runs.forker.task(container.id), deleted)

    def state(self, call: Call) -> None:
        container, child = self._child(call)
        answer = {
            "id": container.id,
            "bundle": container.bundle,
            "pid": child.pid,
            "status": STATUSES[self._status(container, child)],
            **child.stdio,
            "exec_id": child.exec_id,
        }
        if child.status == "stopped" and child.exit is not None:
            answer |= {"exit_status": child.exit["status"], "exited_at": timestamp(child.exit["at"])}
        call.answer(**answer)

    def exec(self, call: Call) -> None:
        request = call.request
        container = self._container(request["id"])
        exec_id = request["exec_id"]
        if exec_id in container.execs:
            raise errors.AlreadyExists(f"id {exec_id}: already exists")
        status = self._status(container, container.init)
        if status != "running":
            raise errors.Error(f"cannot exec in a {status} state: unknown")
        requests.check_exec_id(exec_id)
        child = Child(exec_id, request)
        child.spec = (request["spec"] or {"value": b"{}"})["value"]
        container.execs[exec_id] = child
        self._publisher.publish("exec-added", {"container_id": container.id, "exec_id": exec_id})
        call.answer()

    def kill(self, call: Call) -> None:
        container, child = self._child(call)
        request = call.request
        if child.exit is not None or (child.exec_id and child.status == "created"):
            raise errors.NotFound("process already finished: not found")

        def killed(error: Exception | None, result: dict[str, Any]) -> None:
            if isinstance(error, errors.Conflict):
                error = errors.NotFound("process already finished: not found")
            call.done(error, {})

        wanted = {"container": container.id, "exec": child.exec_id, "signal": request["signal"], "all": request["all"]}
        try:
            self.runs.forker.kill(wanted, killed)
        except errors.Conflict as error:
            killed(error, {})

    def pause(self, call: Call) -> None:
        self._change(call, "pause", "paused")

    def resume(self, call: Call) -> None:
        self._change(call, "resume", "resumed")

    def resize_pty(self, call: Call) -> None:
        container, child = self._child(call)
        process = self.runs.forker.process(container.id, child.exec_id)
        if not process.streams.resize(call.request["height"], call.request["width"]):
            raise errors.Error("cannot resize a process without a terminal: unknown")
        call.answer()

    def close_io(self, call: Call) -> None:
        _, child = self._child(call)
        if call.request["stdin"] and child.input is not None:
            child.input.end()
        call.answer()

    def pids(self, call: Call) -> None:
        container = self._container(call.request["id"])
        execs = {child.pid: child.exec_id for child in container.execs.values() if child.status == "running"}

        def found(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                call.fail(error)
                return
            call.answer(
                processes=[
                    {"pid": pid, "info": _details(execs[pid])} if pid in execs else {"pid": pid}
                    for pid in result["pids"]
                ]
            )

        task = self.runs.forker.task(container.id)
        task.check("pids")
        task.driver.pids(task, found)

    def update(self, call: Call) -> None:
        task = self.runs.forker.task(self._container(call.request["id"]).id)
        task.check("update")
        resources = runtime_objects.decoded((call.request["resources"] or {"value": b"{}"})["value"], "resources")
        task.driver.update(task, resources, call.done)

    def stats(self, call: Call) -> None:
        task = self.runs.forker.task(self._container(call.request["id"]).id)
        task.check("stats")

        def found(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                call.fail(error)
                return
            kind, value = cgroup_metrics.message(result["data"])
            call.answer(stats={"type_url": kind, "value": value})

        task.driver.stats(task, found)

    def wait(self, call: Call) -> None:
        _, child = self._child(call)
        child.waits.append(call)
        if child.status == "stopped":
            self._answer_waits(child)

    def connect(self, call: Call) -> None:
        container = self._containers.get(call.request["id"])
        call.answer(shim_pid=os.getpid(), task_pid=container.init.pid if container else 0)

    def checkpoint(self, call: Call) -> None:
        container = self._container(call.request["id"])
        task = self.runs.forker.task(container.id)
        task.check("checkpoint")

        def saved(error: Exception | None, result: dict[str, Any]) -> None:
            if error is None:
                event = {"container_id": container.id, "checkpoint": call.request["path"]}
                self._publisher.publish("checkpointed", event)
            call.done(error, {})

        task.driver.checkpoint(task, requests.checkpoint_flags(call.request, container.bundle), saved)

    def shutdown(self, call: Call) -> None:
        if not self._containers:
            # Before the answer: the next `start` of this name would find this shim, and its task would end with it.
            self._retire()
        call.answer()
        if not self._containers:
            self._publisher.flush(LAST_WORDS, self._stop)

    def _container(self, container_id: str) -> Container:
        found = self._containers.get(container_id)
        if found is None:
            raise errors.NotFound(f"container not created: {container_id}: not found")
        return found

    def _child(self, call: Call) -> tuple[Container, Child]:
        container = self._container(call.request["id"])
        exec_id = call.request["exec_id"]
        if not exec_id:
            return container, container.init
        if exec_id not in container.execs:
            raise errors.NotFound(f"process {exec_id}: not found")
        return container, container.execs[exec_id]

    def _status(self, container: Container, child: Child) -> str:
        if child.exec_id or child.status == "stopped":
            return child.status
        status: str = self.runs.forker.task(container.id).listed()["status"]
        # The keeper's is "stopped" as soon as it is; clients first hear of the start.
        return child.status if status == "stopped" else status

    def _not_started(self, container: Container, child: Child) -> None:
        child.status = "stopped"
        if not child.exec_id:
            child.exit = self.runs.forker.task(container.id).exit or child.exit
        child.close()
        self._answer_waits(child)

    def _end(self, container: Container, child: Child) -> None:
        child.status = "stopped"
        child.close()
        ended = child.ended()
        name = child.exec_id or container.id
        self._publisher.publish("exit", {"container_id": container.id, "id": name, **ended})
        self._answer_waits(child)

    def _answer_waits(self, child: Child) -> None:
        waits, child.waits = child.waits, []
        ended = child.ended()
        for call in waits:
            call.answer(exit_status=ended["exit_status"], exited_at=ended["exited_at"])

    def _discard(self, container: Container, then: Callable[[], None]) -> None:
        """Of a container that was made and cannot be had."""

        def gone(error: Exception | None, result: dict[str, Any]) -> None:
            if error is not None:
                print(f"shim: {container.id}: {error}", file=sys.stderr, flush=True)
            self._containers.pop(container.id, None)
            then()

        self.runs.forker.delete(self.runs.forker.task(container.id), gone)

    def _change(self, call: Call, verb: str, told: str) -> None:
        container = self._container(call.request["id"])

        def changed(error: Exception | None, result: dict[str, Any]) -> None:
            if error is None:
                self._publisher.publish(told, {"container_id": container.id})
            call.done(error, {})

        self.runs.forker.change(self.runs.forker.task(container.id), verb, changed)

    def _publish_create(self, container: Container, request: dict[str, Any]) -> None:
        event = {"container_id": container.id, "bundle": container.bundle, "rootfs": request["rootfs"]}
        self._publisher.publish("create", {**event, "io": container.init.stdio, "pid": container.init.pid})


def _details(exec_id: str) -> dict[str, Any]:
    return {"type_url": PROCESS_DETAILS_TYPE, "value": protobuf.encode(PROCESS_DETAILS, {"exec_id": exec_id})}


def _failed(what: str, error: BaseException) -> Exception:
    """The runtime's text as containerd's own shim wraps it; a kind that its clients know by its code stays."""
    if isinstance(error, (errors.AlreadyExists, errors.Unimplemented)):
        return error
    text = str(error).removesuffix(": invalid argument").removesuffix(": unknown")
    return errors.Error(f"OCI runtime {what}: {text}: unknown")


METHODS: dict[str, Callable[[Service, Call], None]] = {
    "State": Service.state,
    "Create": Service.create,
    "Start": Service.start,
    "Delete": Service.delete,
    "Pids": Service.pids,
    "Pause": Service.pause,
    "Resume": Service.resume,
    "Checkpoint": Service.checkpoint,
    "Kill": Service.kill,
    "Exec": Service.exec,
    "ResizePty": Service.resize_pty,
    "CloseIO": Service.close_io,
    "Update": Service.update,
    "Wait": Service.wait,
    "Stats": Service.stats,
    "Connect": Service.connect,
    "Shutdown": Service.shutdown,
}
