"""Seccomp user notification end to end: the runtime, a filter in the kernel, and an agent in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import Runtime

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

# Answers every mkdir with EDOM, but lets one of a directory named "allowed" seem done. A line of JSON for all it sees.
AGENT = """
import array, fcntl, json, os, select, socket, struct, sys
RECV, SEND = 0xC0502100, 0xC0182101
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1]); listener.listen(4)
print("listening", flush=True)
held = []
while True:
    for ready in select.select([listener, 0, *held], [], [])[0]:
        if ready == 0:
            sys.exit()
        if ready is listener:
            connection, _ = listener.accept()
            data, extra, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            fds = array.array("i", extra[0][2])
            held += fds
            print(json.dumps(["state", json.loads(data), len(fds)]), flush=True)
            continue
        request = bytearray(80)
        try:
            fcntl.ioctl(ready, RECV, request)
        except OSError:
            held.remove(ready); os.close(ready)
            continue
        number, pid, _, call, _, _, first, second = struct.unpack_from("=QIIiIQQQ", request)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(first if call == int(sys.argv[2]) else second)
            name = memory.read(64).partition(b"\\0")[0].decode()
        error = 0 if name.endswith("allowed") else -33
        fcntl.ioctl(ready, SEND, struct.pack("=QqiI", number, 0, error, 0))
        print(json.dumps(["call", name, pid]), flush=True)
"""


@pytest.fixture(params=[pytest.param("runc", marks=pytest.mark.needs("runc")), "sampan-runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(request.param, str(tmp_path))
    yield made
    made.close()


class Agent:
    def __init__(self, path: str) -> None:
        mkdir = {"x86_64": 83}.get(os.uname().machine, -1)
        self.path = path
        self._process = subprocess.Popen(
            [sys.executable, "-c", AGENT, path, str(mkdir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def close(self) -> list[list[Any]]:
        """All it has seen."""
        out, _ = self._process.communicate(timeout=10)
        return [json.loads(line) for line in out.split("\n") if line]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(str(tmp_path / "agent"))
    yield made
    if made._process.returncode is None:
        made.close()


def notifying(agent: Agent, no_new_privileges: bool = True, **more: Any) -> Any:
    def change(spec: dict[str, Any]) -> None:
        spec["process"]["noNewPrivileges"] = no_new_privileges
        spec["annotations"] = {"a": "b"}
        spec["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": agent.path,
            "listenerMetadata": "for the agent",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            **more,
        }

    return change


@pytest.mark.parametrize("no_new_privileges", [True, False], ids=["nnp", "without nnp"])
def test_an_agent_decides_what_a_call_answers(runtime: Runtime, agent: Agent, no_new_privileges: bool) -> None:
    script = "mkdir /tmp/refused 2>&1; mkdir /tmp/allowed && ls /tmp"
    out = runtime.shell(script, notifying(agent, no_new_privileges))
    assert "Numerical argument out of domain" in out or "Math" in out
    assert "allowed" not in out, "the agent said it was done; the kernel did nothing"
    seen = agent.close()
    states = [one for one in seen if one[0] == "state"]
    assert [one[1] for one in seen if one[0] == "call"] == ["/tmp/refused", "/tmp/allowed"]
    assert len(states) == 1 and states[0][2] == 1
    found = states[0][1]
    assert found["fds"] == ["seccompFd"]
    assert found["metadata"] == "for the agent"
    assert found["pid"] == found["state"]["pid"] > 1
    assert found["state"]["id"] == runtime.id
    assert found["state"]["status"] == "creating"
    assert found["state"]["bundle"] == runtime.bundle
    assert found["state"]["annotations"]["a"] == "b"


def test_an_exec_has_a_notification_descriptor_of_its_own(runtime: Runtime, agent: Agent) -> None:
    runtime.background(["/bin/sleep", "100"], notifying(agent))
    done = runtime("exec", runtime.id, "/bin/mkdir", "/tmp/refused")
    assert done.returncode == 1 and "refused" in done.stderr
    seen = agent.close()
    assert [one[0] for one in seen] == ["state", "state", "call"]
    init, other = (one[1] for one in seen[:2])
    assert init["pid"] == init["state"]["pid"] == other["state"]["pid"] != other["pid"]


def test_without_an_agent_the_container_does_not_start(runtime: Runtime, agent: Agent) -> None:
    done = runtime.run(["/bin/true"], notifying(agent, listenerPath=f"{agent.path}-nobody"))
    assert done.returncode == 1
    assert f"{agent.path}-nobody" in runtime.message(done)
    assert runtime.traces() == []
