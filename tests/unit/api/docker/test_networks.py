"""Docker's network documents: the keys as Docker spells them, and what Go clients send."""

from __future__ import annotations

import re

import msgspec
import pytest

from sampan.api.docker import networks


def keys(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_initialisms_are_spelled_as_docker_does() -> None:
    assert {"IPAMConfig", "GwPriority", "NetworkID", "GlobalIPv6PrefixLen", "DNSNames", "DriverOpts"} <= keys(
        networks.EndpointSettings
    )
    assert {"SandboxID", "SandboxKey", "SecondaryIPAddresses", "LinkLocalIPv6Address", "HairpinMode"} <= keys(
        networks.NetworkSettings
    )
    assert {"Id", "IPAM", "EnableIPv4", "ConfigFrom", "ConfigOnly"} <= keys(networks.Network)
    assert keys(networks.PortBinding) == {"HostIp", "HostPort"}
    assert keys(networks.IPAMConfig) == {"Subnet", "IPRange", "Gateway", "AuxiliaryAddresses"}


def test_every_key_is_unique() -> None:
    kinds = [kind for kind in vars(networks).values() if isinstance(kind, type) and issubclass(kind, networks.Document)]
    assert kinds
    for kind in kinds:
        assert len(keys(kind)) == len(msgspec.structs.fields(kind))
        assert all(re.fullmatch(r"[A-Z][A-Za-z0-9]*", key) for key in keys(kind))


def test_null_is_taken_where_a_go_client_sends_it() -> None:
    body = b'{"Name": "web", "IPAM": null, "Options": null, "Labels": null, "EnableIPv6": null, "CheckDuplicate": true}'
    request = msgspec.json.decode(body, type=networks.NetworkCreateRequest)
    assert (request.name, request.ipam, request.labels) == ("web", None, None)
    body = b'{"EndpointsConfig": {"web": null, "db": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Links": null}}}'
    config = msgspec.json.decode(body, type=networks.NetworkingConfig)
    assert config.endpoints_config is not None
    assert config.endpoints_config["web"] is None
    assert config.endpoints_config["db"].ipam_config.ipv4_address == "10.0.0.9"  # type: ignore[union-attr]


def test_an_absent_map_is_null_in_an_endpoint() -> None:
    document = msgspec.json.decode(msgspec.json.encode(networks.EndpointSettings()))
    assert [document[key] for key in ("IPAMConfig", "Links", "Aliases", "DriverOpts", "DNSNames")] == [None] * 5


@pytest.mark.parametrize("body", [b'{"Name": 7}', b'{"Labels": []}', b"[]"])
def test_a_wrong_type_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=networks.NetworkCreateRequest)
