"""What inspect says of sizes and of a container whose network is gone or going."""

from __future__ import annotations

import os

import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.api.docker.networks import EndpointSettings, NetworkSettings
from sampan.engine.containers import inspect
from sampan.engine.containers.exec import action_text


def test_the_size_of_a_container_is_that_of_its_files_alone(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make("web")
        upper = bench.core.snapshots.upper(container_id)
        assert inspect.sizes(bench.room, bench.room.store.get("web"))[0] == 0
        os.makedirs(f"{upper}/etc/mounted", exist_ok=True)
        with open(f"{upper}/etc/file", "w", encoding="utf-8") as file:
            file.write("12345")
        os.link(f"{upper}/etc/file", f"{upper}/etc/again")
        assert inspect.sizes(bench.room, bench.room.store.get("web"))[0] == 5

    run(work, tmp_path)


def test_a_container_that_has_ended_shows_no_addresses():
    before = NetworkSettings(networks={"n": EndpointSettings(network_id="i", ip_address="1.2.3.4", gateway="1.2.3.1")})
    after = inspect.without_addresses(before).networks["n"]
    assert (after.network_id, after.ip_address, after.gateway) == ("i", "", "")


@pytest.mark.parametrize(("command", "text"), [(["true"], "exec_create: true "), (["a", "b"], "exec_create: a b")])
def test_the_action_of_an_exec_names_its_command(command, text):
    assert action_text("exec_create", command) == text
