"""Bad input by raw HTTP: docker's own status and JSON message, never a traceback."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine

JSON = {"Content-Type": "application/json"}
ABSENT = "no-such-thing"


def refused(engine: Engine) -> tuple[int, ...]:
    """Statuses that say "your fault": 400, and 500 where dockerd 20.10 did not tell yet."""
    return (400, 500) if engine.kind == "dockerd" else (400,)


def ask(engine: Engine, method: str, path: str, document: Any = None, body: str | None = None) -> tuple[int, str]:
    """Status and the `message` of the answer's JSON body, which must be JSON."""
    raw = body if body is not None else (None if document is None else json.dumps(document))
    status, headers, answer = engine.request(method, path, raw, JSON if raw is not None else {})
    if not answer:
        return status, ""
    assert headers["content-type"].startswith("application/json"), (status, headers, answer[:300])
    decoded = json.loads(answer)
    message = decoded.get("message", "") if isinstance(decoded, dict) else ""
    assert "Traceback" not in message
    return status, message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/{}/json"),
        ("GET", "/containers/{}/logs?stdout=1"),
        ("POST", "/containers/{}/start"),
        ("POST", "/containers/{}/stop"),
        ("POST", "/containers/{}/restart"),
        ("POST", "/containers/{}/wait"),
        ("POST", "/containers/{}/resize?h=1&w=1"),
        ("DELETE", "/containers/{}"),
    ],
)
def test_an_unknown_container_is_404_with_its_name(engine: Engine, method: str, path: str) -> None:
    assert ask(engine, method, path.format(ABSENT)) == (404, f"No such container: {ABSENT}")


def test_an_unknown_container_is_404_for_exec_kill_and_attach_too(engine: Engine) -> None:
    assert ask(engine, "POST", f"/containers/{ABSENT}/exec", {"Cmd": ["true"]}) == (404, f"No such container: {ABSENT}")
    status, message = ask(engine, "POST", f"/containers/{ABSENT}/kill")
    assert status == 404 and message.endswith(f"No such container: {ABSENT}")
    # attach answers in plain text, since the client may already count on a raw stream
    status, _, body = engine.request("POST", f"/containers/{ABSENT}/attach?stream=1&stdout=1")
    assert status == 404 and f"No such container: {ABSENT}".encode() in body


def test_other_unknown_objects_are_404_in_docker_s_words(engine: Engine) -> None:
    status, message = ask(engine, "GET", f"/images/{ABSENT}/json")
    assert status == 404 and message.endswith(f"No such image: {ABSENT}:latest")
    status, message = ask(engine, "GET", f"/volumes/{ABSENT}")
    assert (status, ABSENT in message) == (404, True)
    assert ask(engine, "GET", f"/networks/{ABSENT}") == (404, f"network {ABSENT} not found")
    status, message = ask(engine, "GET", f"/exec/{ABSENT}/json")
    assert status == 404 and message.lower() in (f"no such exec instance: {ABSENT}", f"no such exec instance {ABSENT}")


def test_an_unknown_page_is_404(engine: Engine) -> None:
    assert ask(engine, "GET", "/v1.41/nowhere") == (404, "page not found")
    assert ask(engine, "POST", "/nowhere") == (404, "page not found")


def test_a_version_out_of_range_is_400_and_names_the_bound(engine: Engine) -> None:
    status, _, body = engine.request("GET", "/v1.1/version")  # plain text: such clients know no JSON errors
    assert status == 400
    assert b"client version 1.1 is too old. Minimum supported API version is 1." in body
    status, message = ask(engine, "GET", "/v9.99/version")
    assert status == 400
    assert "client version 9.99 is too new. Maximum supported API version is 1." in message


@pytest.mark.parametrize(
    "body", ["{", "[]", '"text"', '{"Cmd": 5}', '{"HostConfig": {"Memory": "lots"}}', '{"Image": 1}']
)
def test_a_body_that_is_not_the_right_json_is_400(engine: Engine, docker: Docker, body: str) -> None:
    status, message = ask(engine, "POST", "/containers/create", body=body)
    assert status in refused(engine) and message


@pytest.mark.parametrize(
    "path",
    ["/commit", "/containers/create", "/containers/one/exec", "/containers/one/update", "/exec/none/start",
     "/networks/create", "/networks/bridge/connect", "/networks/bridge/disconnect", "/volumes/create"],
)  # fmt: skip
def test_what_is_no_json_is_told_in_go_s_words(engine: Engine, docker: Docker, path: str) -> None:
    docker.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    status, message = ask(engine, "POST", path, body="{invalid json")
    assert status in refused(engine)
    assert message.endswith("invalid character 'i' looking for beginning of object key string")
    if engine.kind == "sampan":  # dockerd did not look behind the document until 23
        assert ask(engine, "POST", path, body="{} trailing") == (400, "unexpected content after JSON")


def test_keys_count_in_any_case_and_null_is_nothing(engine: Engine, docker: Docker) -> None:
    document = {"image": "busybox", "cmd": ["true"], "hostconfig": {"memory": 32 << 20, "Binds": None}}
    assert ask(engine, "POST", "/containers/create?name=one", document)[0] == 201
    assert docker.inspect("one")["HostConfig"]["Memory"] == 32 << 20
    assert ask(engine, "GET", "/containers/json?filters=null") == (200, "")


def test_an_empty_body_is_400(engine: Engine, docker: Docker) -> None:
    status, message = ask(engine, "POST", "/containers/create", body="")
    assert status in refused(engine) and message


def test_a_body_of_another_type_is_refused(engine: Engine, docker: Docker) -> None:
    status, _, answer = engine.request(
        "POST", "/containers/create", '{"Image": "busybox"}', {"Content-Type": "text/plain"}
    )
    assert status in (400, 415) and b"message" in answer


def test_an_unknown_image_is_404_at_create(engine: Engine, docker: Docker) -> None:
    status, message = ask(engine, "POST", "/containers/create", {"Image": "nowhere"})
    assert (status, message) == (404, "No such image: nowhere:latest")


def test_a_container_without_a_command_is_400(engine: Engine, docker: Docker) -> None:
    status, message = ask(engine, "POST", "/containers/create", {"Image": "busybox", "Entrypoint": [], "Cmd": None})
    assert status == 201 or (status, message.lower()) == (400, "no command specified")
    status, message = ask(engine, "POST", "/containers/create", {"Image": "busybox", "Entrypoint": [""], "Cmd": []})
    assert (status, message.lower()) == (400, "no command specified")


def test_a_container_of_nothing_at_all_is_400(engine: Engine, docker: Docker) -> None:
    status, message = ask(engine, "POST", "/containers/create", {})
    assert (status, message.lower()) == (400, "config cannot be empty in order to create a container")


def test_a_taken_name_is_409(engine: Engine, docker: Docker) -> None:
    holder = docker.ok("create", "--name", "taken", "busybox", "true")
    status, message = ask(engine, "POST", "/containers/create?name=taken", {"Image": "busybox", "Cmd": ["true"]})
    assert status == 409
    assert message == (
        f'Conflict. The container name "/taken" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


@pytest.mark.parametrize("name", ["-x", "a/b", "a b", "x", "é"])
def test_an_impossible_name_is_400(engine: Engine, docker: Docker, name: str) -> None:
    status, message = ask(engine, "POST", f"/containers/create?name={quote(name, safe='')}", {"Image": "busybox"})
    assert status == 400
    assert message == f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"


@pytest.mark.parametrize(
    ("host_config", "words"),
    [
        ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 64 << 20, "MemorySwap": 32 << 20}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"NanoCpus": 10**12}, "range of CPUs is from 0.01 to"),
        ({"Binds": ["relative:/x:nonsense"]}, "invalid mode: nonsense"),
        ({"Binds": ["/x:relative"]}, "invalid mount path: 'relative' mount path must be absolute"),
        ({"CapAdd": ["NONSENSE"]}, 'unknown capability: "CAP_NONSENSE"'),
        ({"RestartPolicy": {"Name": "sometimes"}}, "invalid restart policy"),
        (
            {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            "can't create 'AutoRemove' container with restart policy",
        ),
        ({"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}, "nvalid port"),
        ({"Isolation": "hyperv"}, "solation"),
        ({"NetworkMode": "host", "Sysctls": {"net.ipv4.ip_forward": "1"}}, "not allowed"),
    ],
)
def test_an_impossible_host_configuration_is_refused_at_create_or_start(
    engine: Engine, docker: Docker, host_config: dict[str, Any], words: str
) -> None:
    document = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host_config}
    status, message = ask(engine, "POST", "/containers/create?name=impossible", document)
    if status == 201:
        status, message = ask(engine, "POST", "/containers/impossible/start")
    assert status in (*refused(engine), 409) and words.lower() in message.lower(), (status, message)


def test_states_that_do_not_allow_a_verb_are_409_or_304(engine: Engine, docker: Docker) -> None:
    identity = docker.ok("run", "-d", "--name", "going", "busybox", "sleep", "100")
    assert ask(engine, "POST", "/containers/going/start") == (304, "")
    status, message = ask(engine, "DELETE", "/containers/going")
    # 20.10: You cannot remove a running container ID. 28: cannot remove container "/going": container is running
    assert status == 409 and ("running container" in message or "container is running" in message)
    docker.ok("kill", "going")
    assert ask(engine, "POST", "/containers/going/stop") == (304, "")
    status, message = ask(engine, "POST", "/containers/going/kill")
    assert status == 409 and message.lower() == f"cannot kill container: going: container {identity} is not running"
    status, message = ask(engine, "POST", "/containers/going/exec", {"Cmd": ["true"]})
    assert status == 409 and message.lower() == f"container {identity} is not running"


def test_an_unknown_signal_is_400(engine: Engine, docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "going", "busybox", "sleep", "100")
    status, message = ask(engine, "POST", "/containers/going/kill?signal=NONSENSE")
    assert status in refused(engine) and "invalid signal: nonsense" in message.lower()
    assert docker.running("going")


@pytest.mark.parametrize("query", ["", "?h=1", "?w=1", "?h=x&w=1", "?h=1&w=-x"])
def test_a_size_that_is_none_is_400(engine: Engine, docker: Docker, query: str) -> None:
    docker.ok("create", "--name", "one", "busybox", "true")
    status, message = ask(engine, "POST", f"/containers/one/resize{query}")
    assert status == 400 and "invalid syntax" in message


def test_an_exec_without_a_command_is_400(engine: Engine, docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "going", "busybox", "sleep", "100")
    status, message = ask(engine, "POST", "/containers/going/exec", {"Cmd": []})
    assert (status, message) == (400, "No exec command specified")


def test_logs_without_a_stream_are_400(engine: Engine, docker: Docker) -> None:
    docker.ok("create", "--name", "made", "busybox", "true")
    assert ask(engine, "GET", "/containers/made/logs") == (400, "Bad parameters: you must choose at least one stream")


@pytest.mark.parametrize("path", ["/containers/json?filters=nonsense", "/events?filters=nonsense&until=1",
                                  "/images/json?filters=nonsense", "/volumes?filters=nonsense"])  # fmt: skip
def test_filters_that_are_no_json_are_400(engine: Engine, docker: Docker, path: str) -> None:
    status, message = ask(engine, "GET", path)
    assert status in refused(engine) and message


def test_a_filter_nobody_knows_is_refused(docker: Docker) -> None:
    outcome = docker("ps", "--filter", "colour=green")
    assert outcome.status == 1 and "colour" in outcome.err and "nvalid filter" in outcome.err


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["words", "version", "no-host", "negative-length", "binary", "long"],
)
def test_bytes_that_are_no_http_neither_hang_nor_end_the_engine(engine: Engine, raw: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(engine.socket)
        try:
            connection.sendall(raw)
            answer = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
    assert answer == b"" or (answer.startswith(b"HTTP/1.") and b" 500 " not in answer.split(b"\r\n")[0])
    assert engine.request("GET", "/_ping")[0] == 200


def test_ping_tells_the_version_and_answers_head(engine: Engine) -> None:
    status, headers, body = engine.request("GET", "/_ping")
    assert (status, body) == (200, b"OK")
    assert headers["api-version"].startswith("1.") and headers["ostype"] == "linux"
    assert engine.request("HEAD", "/_ping")[0] == 200
