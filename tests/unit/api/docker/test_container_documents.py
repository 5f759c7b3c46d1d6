"""Container documents: Go's nulls in, Docker's shapes out."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.docker import containers as documents
from sampan.api.docker.containers import Config, CreateRequest, HostConfig, document
from sampan.api.docker.reading import parse


def test_nulls_mean_not_given():
    found = parse(
        b'{"Image":"x","Cmd":null,"Env":null,"Labels":null,"HostConfig":{"Binds":null,"Init":null}}', CreateRequest
    )
    assert (found.cmd, found.env, found.labels, found.host_config.binds, found.host_config.init) == (
        None,
        [],
        {},
        [],
        None,
    )


def test_a_null_network_or_port_keeps_its_key():
    body = b"""{"ExposedPorts": {"80/tcp": null}, "HostConfig": {"PortBindings": {"80/tcp": null}},
                "NetworkingConfig": {"EndpointsConfig": {"net": null}}}"""
    found = parse(body, CreateRequest)
    assert found.host_config.port_bindings == {"80/tcp": None}
    assert found.networking_config.endpoints_config == {"net": None}
    assert found.exposed_ports == {"80/tcp": {}}


def test_docker_s_spelling_of_initialisms():
    fields = {"BlkioDeviceReadIOps": [{"Path": "/d", "Rate": 1}], "UTSMode": "host", "IOMaximumIOps": 2}
    found = parse(msgspec.json.encode({"HostConfig": fields}), CreateRequest).host_config
    assert (found.blkio_device_read_iops[0].rate, found.uts_mode, found.io_maximum_iops) == (1, "host", 2)
    assert document(found)["BlkioDeviceReadIOps"] == [{"Path": "/d", "Rate": 1}]


def test_empty_fields_are_left_out_or_null_as_go_writes_them():
    config, host_config = document(Config()), document(HostConfig())
    assert "Healthcheck" not in config and "StopSignal" not in config and "ExposedPorts" not in config
    assert config["Cmd"] is None and config["Volumes"] is None and config["OnBuild"] is None
    assert config["Labels"] == {} and config["Tty"] is False
    assert "Tmpfs" not in host_config and "Init" not in host_config and "Mounts" not in host_config
    assert host_config["CapAdd"] is None and host_config["Dns"] == [] and host_config["PidsLimit"] is None


def test_a_mount_shows_only_what_is_set():
    mount = documents.Mount(type="bind", source="/a", target="/b")
    assert document(HostConfig(mounts=[mount]))["Mounts"] == [{"Type": "bind", "Source": "/a", "Target": "/b"}]


def test_a_record_survives_its_json():
    found = parse(
        b'{"Image":"x","Cmd":["a"],"HostConfig":{"Memory":5,"Ulimits":[{"Name":"core","Soft":1}]}}', CreateRequest
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=CreateRequest) == found


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"5", b'{"Cmd":5}', b'{"HostConfig":{"Memory":"x"}}', b'{"Env":{}}', b'"\xff"']
)
def test_a_body_that_does_not_fit_is_a_decode_error(body):
    with pytest.raises(msgspec.DecodeError):
        parse(body, CreateRequest)


@given(st.binary(max_size=60))
def test_garbage_is_accepted_or_a_decode_error(data):
    try:
        parse(data, CreateRequest)
    except msgspec.DecodeError:
        pass
