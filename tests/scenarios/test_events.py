"""docker events."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.peers.client import Docker
from tests.peers.waiting import eventually


def events(docker: Docker, since: float, *filters: str) -> list[dict[str, Any]]:
    """Events from `since` (Unix seconds) till now."""
    flags = [word for one in filters for word in ("--filter", one)]
    until = f"{time.time() + 0.05:.6f}"
    out = docker.ok("events", "--since", f"{since:.6f}", "--until", until, "--format", "{{json .}}", *flags)
    return [json.loads(line) for line in out.splitlines()]


def actions(docker: Docker, since: float, *filters: str) -> list[str]:
    return [f"{event['Type']} {event['Action']}" for event in events(docker, since, *filters)]


def test_a_run_is_told_step_by_step(docker: Docker) -> None:
    began = time.time()
    docker("run", "--rm", "--name", "told", "busybox", "sh", "-c", "exit 3")
    eventually(lambda: "container destroy" in actions(docker, began))
    seen = events(docker, began)
    assert [f"{e['Type']} {e['Action']}" for e in seen if e["Action"] != "attach"] == [
        "container create",
        "network connect",
        "container start",
        "container die",
        "network disconnect",
        "container destroy",
    ]
    died = next(e for e in seen if e["Action"] == "die")
    assert died["Actor"]["Attributes"]["exitCode"] == "3"
    assert died["Actor"]["Attributes"]["name"] == "told" and died["Actor"]["Attributes"]["image"] == "busybox"
    assert died["id"] == died["Actor"]["ID"] and len(died["id"]) == 64
    assert died["timeNano"] // 10**9 == died["time"]


def test_events_are_filtered_by_type_name_event_and_label(docker: Docker) -> None:
    began = time.time()
    docker.ok("run", "--name", "one", "--label", "kind=x", "busybox", "true")
    docker.ok("run", "--name", "two", "busybox", "true")
    assert set(actions(docker, began, "type=network")) == {"network connect", "network disconnect"}
    assert actions(docker, began, "event=die", "container=one") == ["container die"]
    assert actions(docker, began, "event=create", "label=kind=x") == ["container create"]


def test_kill_stop_exec_and_volume_actions_are_told(docker: Docker) -> None:
    began = time.time()
    docker.ok("volume", "create", "seen")
    docker.ok("run", "-d", "--name", "told", "-v", "seen:/v", "busybox", "sleep", "100")
    docker.ok("exec", "told", "true")
    docker.ok("kill", "-s", "CONT", "told")
    docker.ok("stop", "-t", "0", "told")
    docker.ok("rm", "told")
    docker.ok("volume", "rm", "seen")
    seen = actions(docker, began)
    for action in ("volume create", "volume mount", "volume unmount", "volume destroy", "container exec_create: true",
                   "container exec_start: true", "container kill", "container stop", "container destroy"):  # fmt: skip
        assert action in [each.strip() for each in seen], f"{action} not in {seen}"


def test_image_actions_are_told(docker: Docker) -> None:
    began = time.time()
    docker.ok("tag", "busybox", "told:v1")
    docker.ok("rmi", "told:v1")
    assert actions(docker, began, "type=image") == ["image tag", "image untag"]


def test_events_come_while_they_happen(docker: Docker) -> None:
    stream = docker.start("events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}")

    def listening() -> bool:
        docker.ok("run", "--rm", "--name", "probe", "busybox", "true")
        return stream.readable()

    eventually(listening)
    docker.ok("create", "--name", "live", "busybox", "true")
    while stream.line() != "create live":
        pass
    stream.terminate()
    stream.communicate(timeout=10)
