"""The firewall table as a function of networks and ports: which rules there are, in which order, and the map keys."""

from __future__ import annotations

import re
import socket
import struct

from sampan.engine.networks.firewall import PUBLISHED, PUBLISHED_AT, element, publish_messages, ruleset
from sampan.engine.networks.records import OPTION_ICC, OPTION_MASQUERADE, Network, Publication
from sampan.linux.netlink.message import Message
from sampan.linux.netlink.nftables import Table

TABLE = Table("sampan-test")


def network(name: str, number: int, **wanted: object) -> Network:
    return Network(
        id=f"{number:064x}",
        name=name,
        driver="bridge",
        created="",
        device=f"br{number}",
        subnet=f"10.{number}.0.0/16",
        gateway=f"10.{number}.0.1",
        **wanted,  # type: ignore[arg-type]
    )


def publication(host_ip: str = "0.0.0.0", protocol: str = "tcp", host_port: int = 8080) -> Publication:
    return Publication(container_port=80, protocol=protocol, host_ip=host_ip, host_port=host_port)


def reasons(messages: list[Message], chain: str) -> list[str]:
    found = [re.fullmatch(r'NEWRULE in "(\w+)" \((.*)\)', message.name) for message in messages]
    return [match[2] for match in found if match and match[1] == chain]


def test_a_port_at_every_address_is_keyed_by_protocol_and_port() -> None:
    assert element(("10.1.0.2", publication())) == (
        PUBLISHED,
        b"\x06\0\0\0" + struct.pack(">HH", 8080, 0),
        socket.inet_aton("10.1.0.2") + struct.pack(">HH", 80, 0),
    )


def test_a_port_at_one_address_is_keyed_by_that_too() -> None:
    name, key, _data = element(("10.1.0.2", publication("127.0.0.1", "udp")))
    assert (name, key) == (PUBLISHED_AT, socket.inet_aton("127.0.0.1") + b"\x11\0\0\0" + struct.pack(">HH", 8080, 0))


def test_each_map_gets_its_elements_in_one_message() -> None:
    targets = [("10.1.0.2", publication(host_port=port)) for port in (1, 2)] + [("10.1.0.2", publication("10.9.9.9"))]
    assert [message.name for message in publish_messages(TABLE, targets)] == [
        'NEWSETELEM in "published"',
        'NEWSETELEM in "published_at"',
    ]


def test_the_table_is_replaced_in_one_transaction() -> None:
    names = [message.name for message in ruleset(TABLE, [network("bridge", 1)], [])]
    assert names[:3] == ['NEWTABLE "sampan-test"', 'DELTABLE "sampan-test"', 'NEWTABLE "sampan-test"']


def test_nothing_enters_a_bridge_but_answers_members_and_published_ports() -> None:
    messages = ruleset(TABLE, [network("bridge", 1), network("inner", 2, internal=True)], [])
    assert reasons(messages, "forward") == [
        "answers",
        "network bridge: members",
        "network inner: members",
        "network inner: internal",
        "network inner: internal",
        "published ports",
        "no other way into a bridge",
    ]


def test_only_networks_with_a_way_out_are_masqueraded() -> None:
    networks = [
        network("bridge", 1),
        network("inner", 2, internal=True),
        network("routed", 3, options={OPTION_MASQUERADE: "false"}),
        Network(id="h", name="host", driver="host", created=""),
    ]
    outward = [reason for reason in reasons(ruleset(TABLE, networks, []), "postrouting") if "outward" in reason]
    assert outward == ["network bridge: outward"]


def test_members_of_a_network_without_icc_get_another_verdict() -> None:
    def members(option: str) -> bytes:
        messages = ruleset(TABLE, [network("bridge", 1, options={OPTION_ICC: option})], [])
        return next(message.body for message in messages if message.name.endswith("(network bridge: members)"))

    assert members("true") == members("yes") != members("false")


def test_no_network_still_makes_a_table() -> None:
    assert reasons(ruleset(TABLE, [], []), "forward")[-1] == "no other way into a bridge"
