"""The Network tag over HTTP, on the real room in a private netns: Docker's documents, statuses and texts."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from tests.linux.private_netns import private_host

from sampan.engine.http import networks as tag
from sampan.engine.http.server import application, listen, serve
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.records import ContainerNetworking, Options, Plan
from sampan.errors import NotFound

pytestmark = pytest.mark.root

WEB = "c" * 64


@dataclass
class Containers:
    """One container, "web", as the containers room would show it to the tag."""

    pid: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    followed: list[tuple[int, int]] = field(default_factory=list)

    @property
    def store(self) -> Containers:
        return self

    @property
    def live(self) -> Containers:
        return self

    def of(self, container_id: str) -> Containers:
        return self

    def networks_changed(self, container_id: str, before: Plan, after: Plan) -> None:
        self.followed.append((len(before.endpoints), len(after.endpoints)))

    def get(self, reference: str) -> SimpleNamespace:
        if reference not in ("web", WEB):
            raise NotFound(f"No such container: {reference}")
        return SimpleNamespace(id=WEB, pid=self.pid, has_task=bool(self.pid))


class Client:
    def __init__(self, session: aiohttp.ClientSession, networks: Networks, containers: Containers) -> None:
        self.session = session
        self.networks = networks
        self.containers = containers

    async def call(self, method: str, path: str, body: object = None, **query: str) -> tuple[int, Any]:
        async with self.session.request(method, f"http://docker/v1.51{path}", json=body, params=query) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None


def against(directory: object, scenario: Callable[[Client], Awaitable[None]]) -> None:
    """Run the scenario with a client of a served room."""

    async def run() -> None:
        connection = sqlite3.connect(f"{directory}/engine.db")
        options = Options(bridge="sp-http", bip="10.213.0.1/16", pools=(("10.215.0.0/16", 24),))
        networks, containers = Networks(connection, options), Containers()
        networks.open()
        networks.configure(ContainerNetworking(container_id=WEB, name="/web"))
        engine = SimpleNamespace(networks=networks, containers=containers)
        runner = await serve(application([tag.routes(engine)]))  # type: ignore[arg-type]
        await listen(runner, f"unix://{directory}/docker.sock")
        try:
            connector = aiohttp.UnixConnector(f"{directory}/docker.sock")
            async with aiohttp.ClientSession(connector=connector) as session:
                await scenario(Client(session, networks, containers))
        finally:
            await runner.cleanup()
            networks.close()
            connection.close()

    with private_host():
        asyncio.run(run())


def test_the_predefined_networks_are_listed(tmp_path: object) -> None:
    async def scenario(client: Client) -> None:
        status, found = await client.call("GET", "/networks")
        assert (status, [network["Name"] for network in found]) == (200, ["none", "host", "bridge"])
        bridge = found[2]
        assert bridge["IPAM"] == {
            "Driver": "default",
            "Options": None,
            "Config": [{"Subnet": "10.213.0.0/16", "Gateway": "10.213.0.1"}],
        }
        assert (bridge["Scope"], bridge["Driver"]) == ("local", "bridge")
        assert (bridge["Containers"], bridge["Labels"]) == ({}, {})
        assert bridge["Options"]["com.docker.network.bridge.name"] == "sp-http"
        status, found = await client.call("GET", "/networks", filters='{"driver":["host"]}')
        assert [network["Name"] for network in found] == ["host"]
        refused = await client.call("GET", "/networks", filters='{"odd":["x"]}')
        assert refused == (400, {"message": "invalid filter 'odd'"})

    against(tmp_path, scenario)


def test_a_network_is_made_inspected_and_removed(tmp_path: object) -> None:
    async def scenario(client: Client) -> None:
        body = {"Name": "mine", "Driver": "bridge", "Labels": {"a": "b"}, "EnableIPv6": False, "IPAM": None}
        status, made = await client.call("POST", "/networks/create", body)
        assert (status, len(made["Id"]), made["Warning"]) == (201, 64, "")
        for reference in ("mine", made["Id"], made["Id"][:12]):
            status, found = await client.call("GET", f"/networks/{reference}", scope="local", verbose="false")
            assert (status, found["Id"], found["Labels"]) == (200, made["Id"], {"a": "b"})
        again = await client.call("POST", "/networks/create", body)
        assert again == (409, {"message": "network with name mine already exists"})
        assert await client.call("DELETE", "/networks/mine") == (204, None)
        assert await client.call("DELETE", "/networks/mine") == (404, {"message": "network mine not found"})
        assert await client.call("GET", "/networks/mine") == (404, {"message": "network mine not found"})

    against(tmp_path, scenario)


def test_what_may_not_be_is_refused(tmp_path: object) -> None:
    async def scenario(client: Client) -> None:
        refused = await client.call("DELETE", "/networks/bridge")
        assert refused == (403, {"message": "bridge is a pre-defined network and cannot be removed"})
        status, found = await client.call("POST", "/networks/create", {"Name": 7})
        assert (status, found["message"][:12]) == (400, "invalid JSON")
        pool = {"Config": [{"Subnet": "10.213.9.0/24"}]}
        status, found = await client.call("POST", "/networks/create", {"Name": "x", "IPAM": pool})
        assert status == 403
        assert found["message"].endswith("Pool overlaps with other one on this address space")
        body = {"Container": "nobody"}
        refused = await client.call("POST", "/networks/bridge/connect", body)
        assert refused == (404, {"message": "No such container: nobody"})
        refused = await client.call("POST", "/networks/nowhere/connect", {"Container": "web"})
        assert refused == (404, {"message": "network nowhere not found"})

    against(tmp_path, scenario)


def test_a_running_container_is_connected_and_disconnected(tmp_path: object) -> None:
    async def scenario(client: Client) -> None:
        await client.call("POST", "/networks/create", {"Name": "mine"})
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; read line"], stdin=-1, stdout=-1)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            client.containers.pid = process.pid
            plan = client.networks.reserve(WEB)
            netns = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
            client.networks.attach(plan, netns)
            os.close(netns)
            body = {"Container": "web", "EndpointConfig": {"Aliases": ["x"], "IPAMConfig": None}}
            assert await client.call("POST", "/networks/mine/connect", body) == (200, None)
            inside = subprocess.run(
                ["nsenter", "-t", str(process.pid), "-n", "ip", "-br", "a"], capture_output=True, text=True, check=True
            )
            assert "10.215.0.2/24" in inside.stdout
            _status, found = await client.call("GET", "/networks/mine")
            assert found["Containers"][WEB]["IPv4Address"] == "10.215.0.2/24"
            refused = await client.call("DELETE", "/networks/mine")
            assert refused[0] == 403
            assert "has active endpoints" in refused[1]["message"]
            status, _nothing = await client.call("POST", "/networks/mine/disconnect", {"Container": "web"})
            assert status == 200
            assert client.containers.followed == [(1, 2), (2, 1)]
            assert await client.call("POST", "/networks/prune") == (200, {"NetworksDeleted": ["mine"]})
            assert await client.call("POST", "/networks/prune") == (200, {"NetworksDeleted": None})
        finally:
            process.communicate(b"\n", timeout=5)

    against(tmp_path, scenario)
