"""KeeperTasks without a container: records, mounts, keepers that do not start. For the verbs: tests/contract."""

import asyncio
import os
import sys

import pytest

from sampan import errors
from sampan.containerd.services import Mount, TaskExit, TaskIO, TaskState
from sampan.containerd.task_objects import mount_object, task_exit, task_state
from sampan.containerd.tasks import KeeperTasks

EXIT = {"container": "c1", "exec": "", "pid": 7, "status": 137, "at": 5, "oom": True}


def test_an_exit_object_becomes_a_record():
    assert task_exit(EXIT) == TaskExit("c1", "", 7, 137, 5, True)


def test_a_listed_task_becomes_a_record():
    fields = {"container": "c1", "pid": 7, "status": "stopped", "exit": EXIT, "execs": ["e1"]}
    assert task_state(fields) == TaskState("c1", 7, "stopped", TaskExit("c1", "", 7, 137, 5, True), ("e1",))
    assert task_state({**fields, "exit": None}).exit is None


def test_only_an_overlay_is_made_volatile():
    overlay = Mount("overlay", "overlay", ["lowerdir=/l", "upperdir=/u", "workdir=/w"])
    assert mount_object(overlay, True)["options"][-1] == "volatile"
    assert "volatile" not in mount_object(overlay, False)["options"]
    assert mount_object(Mount("bind", "/x", ["rbind"]), True)["options"] == ["rbind"]


def test_the_mark_of_an_earlier_volatile_mount_is_removed(tmp_path):
    mark = tmp_path / "work/incompat/volatile"
    mark.mkdir(parents=True)
    mount_object(Mount("overlay", "overlay", [f"workdir={tmp_path}"]), False)
    assert mark.exists(), "only who asks for volatile may lose files"
    mount_object(Mount("overlay", "overlay", [f"workdir={tmp_path}"]), True)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no luck today')"], "no luck today"),
        ([sys.executable, "-c", "pass"], "ended without a word"),
        (["/no/such/interpreter"], "No such file or directory"),
    ],
)
def test_a_keeper_that_does_not_start_is_unavailable_and_says_why(tmp_path, command, text):
    async def body():
        tasks = KeeperTasks(str(tmp_path), command=command)
        await tasks.open()
        with pytest.raises(errors.Unavailable, match=text):
            await tasks.create("c1", bundle=str(tmp_path), rootfs=[], io=TaskIO(False, False))
        with pytest.raises(errors.NotFound):
            await tasks.start("c1")
        assert await tasks.list() == []
        await tasks.close()

    asyncio.run(asyncio.wait_for(body(), 30))


def test_a_keeper_of_another_version_does_not_keep_the_others_away(tmp_path, capsys):
    program = (
        "import json, os, socket, sys\n"
        "if os.fork(): os._exit(0)\n"
        "sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "sock.bind(sys.argv[1] + '/sock'); sock.listen(); os.write(int(sys.argv[2]), b'ready')\n"
        "client, _ = sock.accept(); call = json.loads(client.recv(65536))\n"
        "client.send(json.dumps({'id': call['id'], 'error': {'kind': 'InvalidArgument', 'message': 'old'}}).encode())\n"
        "client.recv(65536)\n"
    )

    async def body():
        records = tmp_path / "keeper/0/tasks"
        records.mkdir(parents=True)
        (records / "c1.json").write_text("{}")
        tasks = KeeperTasks(str(tmp_path), command=[sys.executable, "-c", program])
        await tasks.open()
        assert await tasks.list() == []
        await tasks.close()

    asyncio.run(asyncio.wait_for(body(), 30))
    assert "keeper 0 are out of reach: keeper 0: old" in capsys.readouterr().err


def test_nothing_is_left_open_by_keepers_that_do_not_start(tmp_path):
    async def body():
        tasks = KeeperTasks(str(tmp_path), command=[sys.executable, "-c", "pass"])
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await tasks.create("c1", bundle=str(tmp_path), rootfs=[], io=TaskIO(False, False))
            before = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(asyncio.wait_for(body(), 30))
