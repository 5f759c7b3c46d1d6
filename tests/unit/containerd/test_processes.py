"""Tasks as containerd's clients see them, over a fake keeper that keeps the descriptors it is given."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from sampan import errors
from sampan.containerd import fifos
from sampan.containerd.client_tasks import Stdio, WrongState
from sampan.containerd.containers import Payload
from sampan.containerd.processes import Processes
from sampan.containerd.services import DEFAULT_OPTIONS, TaskExit, TaskState

NOTHING = Payload("", b"{}")
SPEC = {"process": {"args": ["x"], "consoleSize": {"height": 5, "width": 9}}}


class FakeTasks:
    """`services.Tasks` without processes: `outputs` are what a process would write to, by exec id."""

    def __init__(self):
        self.calls = []
        self.outputs = {}
        self.inputs = {}
        self.failure = None
        self.listed = []

    def on_exit(self, callback):
        self.tell_exit = callback

    def on_oom(self, callback):
        self.tell_oom = callback

    async def list(self):
        return self.listed

    async def create(self, container_id, **more):
        self.calls.append(("create", container_id, more["io"]))
        if self.failure:
            raise self.failure
        return 100

    async def start(self, container_id):
        self.calls.append(("start", container_id))

    async def exec(self, container_id, exec_id, **more):
        self.calls.append(("exec", container_id, exec_id))
        if self.failure:
            raise self.failure
        return 101

    async def attach(self, container_id, exec_id="", *, stdout, stderr, stdin):
        if stdin:
            reader, writer = os.pipe()
            self.inputs[exec_id] = reader
            return writer
        self.outputs[exec_id] = [os.dup(fd) for fd in (stdout, stderr) if fd is not None]
        return None

    async def kill(self, container_id, signal, exec_id="", *, all=False):
        self.calls.append(("kill", signal, exec_id))
        self.end(container_id, exec_id, 128 + signal)

    async def delete(self, container_id):
        self.calls.append(("delete", container_id))
        return TaskExit(container_id, "", 100, 7, 1)

    def end(self, key, exec_id="", status=7):
        self.tell_exit(TaskExit(key, exec_id, 100, status, 1))


class Machine:
    def __init__(self, directory):
        self.tasks = FakeTasks()
        self.told = []
        self.directory = directory
        self.processes = Processes(
            self.tasks,
            directory,
            exited=lambda task, process: self.told.append((task.container_id, process.exec_id, process.exit.status)),
            out_of_memory=lambda task: self.told.append((task.container_id, "oom")),
        )

    def fifo(self, name):
        os.mkfifo(f"{self.directory}/{name}")
        return f"{self.directory}/{name}"

    async def create(self, stdio=Stdio(), namespace="n"):  # noqa: B008 - a frozen value
        return await self.processes.create(
            namespace, "c", spec=SPEC, rootfs=[], stdio=stdio, runtime="", options=DEFAULT_OPTIONS
        )


def run(tmp_path, scenario):
    async def main():
        async with asyncio.timeout(20):
            machine = Machine(str(tmp_path))
            try:
                await scenario(machine)
            finally:
                machine.processes.close()

    asyncio.run(main())


def test_a_task_goes_through_its_states_once(tmp_path):
    async def scenario(machine):
        task = await machine.create()
        assert (task.init.status, task.init.pid, task.key) == ("created", 100, "n--c")
        assert os.path.exists(f"{tmp_path}/bundles/n--c/config.json")
        with pytest.raises(errors.AlreadyExists):
            await machine.create()
        await machine.processes.start(task, task.init)
        with pytest.raises(WrongState, match="cannot start a running process"):
            await machine.processes.start(task, task.init)
        with pytest.raises(errors.Error, match="failed to delete task: cannot delete a running process"):
            await machine.processes.delete(task)
        machine.tasks.end("n--c")
        await task.init.exited.wait()
        assert machine.told == [("c", "", 7)]
        with pytest.raises(errors.NotFound, match="process already finished"):
            await machine.processes.kill(task, task.init, 9, False)
        assert (await machine.processes.delete(task)).status == 7
        assert not os.path.exists(f"{tmp_path}/bundles/n--c")
        assert machine.processes.find("n", "c") is None

    run(tmp_path, scenario)


def test_the_same_name_in_two_namespaces_is_two_tasks_and_the_engines_is_neither(tmp_path):
    async def scenario(machine):
        one, other = await machine.create(), await machine.create(namespace="m")
        machine.tasks.end("n--c")
        machine.tasks.end("c")
        assert (one.init.status, other.init.status) == ("stopped", "created")
        machine.tasks.tell_oom("m--c")
        machine.tasks.tell_oom("c")
        assert machine.told == [("c", "", 7), ("c", "oom")]

    run(tmp_path, scenario)


def test_nothing_is_left_of_a_create_that_failed(tmp_path):
    async def scenario(machine):
        machine.tasks.failure = errors.Error("no")
        with pytest.raises(errors.Error):
            await machine.create()
        assert await machine.processes.list("n") == []
        assert not [name for name in os.listdir(f"{tmp_path}/bundles") if not name.startswith(".discarded-")]

    run(tmp_path, scenario)
    # What is being taken apart is gone when the loop's threads have ended.
    assert os.listdir(f"{tmp_path}/bundles") == []


def test_what_an_earlier_core_did_not_finish_to_remove_is_removed(tmp_path):
    os.makedirs(f"{tmp_path}/bundles/.discarded-1/rootfs")

    async def scenario(machine):
        await machine.processes.recover()
        assert os.listdir(f"{tmp_path}/bundles") == []

    run(tmp_path, scenario)


def test_an_exec_that_fails_is_stopped_and_can_be_deleted(tmp_path):
    async def scenario(machine):
        task = await machine.create()
        await machine.processes.start(task, task.init)
        with pytest.raises(errors.InvalidArgument, match="process spec"):
            await machine.processes.add_exec(task, "e", Payload("", b"[]"), Stdio())
        await machine.processes.add_exec(task, "e", NOTHING, Stdio())
        process = task.process("e")
        with pytest.raises(errors.AlreadyExists):
            await machine.processes.add_exec(task, "e", NOTHING, Stdio())
        machine.tasks.failure = errors.Error("no")
        with pytest.raises(errors.Error):
            await machine.processes.start(task, process)
        await process.exited.wait()
        assert await machine.processes.delete_exec(task, process) is None
        with pytest.raises(errors.NotFound):
            task.process("e")

    run(tmp_path, scenario)


def test_an_exit_heard_during_the_start_is_told_after_it(tmp_path):
    async def scenario(machine):
        task = await machine.create()
        original = machine.tasks.start

        async def start_and_end(key):
            await original(key)
            machine.tasks.end(key)

        machine.tasks.start = start_and_end
        await machine.processes.start(task, task.init)
        assert (machine.told, task.init.status) == ([], "running")
        machine.processes.settle(task, task.init)
        assert (machine.told, task.init.status) == ([("c", "", 7)], "stopped")

    run(tmp_path, scenario)


def test_an_exit_is_told_when_the_keeper_has_let_go_of_the_output(tmp_path):
    async def scenario(machine):
        path = machine.fifo("out")
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        task = await machine.create(Stdio(stdout=path))
        await machine.processes.start(task, task.init)
        (written,) = machine.tasks.outputs[""]
        os.write(written, b"last words")
        machine.tasks.end("n--c")
        await asyncio.sleep(0)
        assert machine.told == []
        os.close(written)
        await task.init.exited.wait()
        assert machine.told == [("c", "", 7)]
        assert os.read(reader, 100) == b"last words"
        assert os.read(reader, 100) == b"", "the core has kept no writer"
        os.close(reader)

    run(tmp_path, scenario)


def test_output_waits_for_a_reader_that_comes_later(tmp_path):
    async def scenario(machine):
        path = machine.fifo("out")
        got = []

        def read():
            with open(path, "rb") as file:
                got.append(file.read())

        creating = asyncio.ensure_future(machine.create(Stdio(stdout=path)))
        await asyncio.sleep(0)
        thread = threading.Thread(target=read)
        thread.start()
        await creating
        (written,) = machine.tasks.outputs[""]
        os.write(written, b"all")
        os.close(written)
        await asyncio.to_thread(thread.join)
        assert got == [b"all"]

    run(tmp_path, scenario)


def test_input_outlives_its_client_until_it_is_closed(tmp_path):
    async def scenario(machine):
        path = machine.fifo("in")
        task = await machine.create(Stdio(stdin=path))
        await machine.processes.start(task, task.init)
        source = machine.tasks.inputs[""]
        for text in (b"one", b"two"):
            with open(path, "wb", buffering=0) as client:
                client.write(text)
            assert await asyncio.to_thread(os.read, source, 100) == text
        with open(path, "wb", buffering=0) as client:
            client.write(b"three")
            await machine.processes.close_stdin(task, task.init)
        assert await asyncio.to_thread(os.read, source, 100) == b"three"
        assert await asyncio.to_thread(os.read, source, 100) == b""
        os.close(source)

    run(tmp_path, scenario)


def test_a_later_core_finds_the_tasks_and_leaves_the_engines_alone(tmp_path):
    async def scenario(machine):
        await machine.create(Stdio(stdout="", terminal=True))
        later = Machine(machine.directory)
        later.tasks.listed = [TaskState("n--c", 100, "running", None), TaskState("f" * 64, 5, "running", None)]
        await later.processes.recover()
        (found,) = await later.processes.list("n")
        assert (found.init.status, found.init.pid, found.init.stdio.terminal) == ("running", 100, True)
        later.tasks.end("n--c")
        assert later.told == [("c", "", 7)]
        later.processes.close()

    run(tmp_path, scenario)


@pytest.mark.parametrize(("uri", "kind"), [("bogus:///bin/true", errors.Error), ("/not/there", errors.Error)])
def test_a_stream_that_cannot_be_opened_is_refused(uri, kind):
    with pytest.raises(kind):
        asyncio.run(fifos.open_output(uri))


def test_a_log_file_is_made_and_appended_to(tmp_path):
    for text in (b"a", b"b"):
        fd = asyncio.run(fifos.open_output(f"file://{tmp_path}/new/log"))
        os.write(fd, text)
        os.close(fd)
    with open(f"{tmp_path}/new/log") as file:
        assert file.read() == "ab"
