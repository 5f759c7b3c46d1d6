"""Names on user-defined networks: who can be called how, from the inside of a container."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from dnslib import QTYPE, RCODE, RR, TXT, A, DNSRecord
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.machine import OUTSIDE_ADDRESS, Machine, network_of
from tests.peers.waiting import eventually

EMBEDDED = "127.0.0.11"


@pytest.fixture
def harbour(docker: Docker, engine: Engine) -> Iterator[str]:
    """A user-defined network; what is in it is removed before it."""
    docker.ok("network", "create", "harbour")
    yield "harbour"
    for name in docker.ok("ps", "-aq").split():
        docker("rm", "-f", "-v", name)
    docker.ok("network", "rm", "harbour")


def berth(docker: Docker, name: str, *flags: str) -> None:
    docker.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "100")


def found(docker: Docker, inside: str, name: str, kind: str = "a") -> set[str]:
    """The addresses that `name` has when it is asked for in a container; empty when there are none."""
    done = docker("exec", inside, "nslookup", f"-type={kind}", name)
    _, _, answers = done.out.partition("\n\n")
    return set(re.findall(r"^Address(?: \d+)?: (\S+)$", answers, re.MULTILINE)) if done.status == 0 else set()


def address(docker: Docker, container: str, network: str) -> str:
    return str(docker.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"])


def query(docker: Docker, container: str, record: DNSRecord, tcp: bool = False) -> DNSRecord:
    """What the embedded server answers to a question from the container's netns."""
    with network_of(int(docker.state(container)["Pid"])):
        return DNSRecord.parse(record.send(EMBEDDED, 53, tcp=tcp, timeout=5))


@contextmanager
def name_server(machine: Machine) -> Iterator[None]:
    """Outside, where the machine's resolv.conf points: knows example.test, by UDP and by TCP."""
    with machine.outside():
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((OUTSIDE_ADDRESS, 53))
        listener = socket.create_server((OUTSIDE_ADDRESS, 53))

    def reply(data: bytes) -> bytes:
        asked = DNSRecord.parse(data)
        answer = asked.reply()
        if str(asked.q.qname) == "example.test.":
            answer.add_answer(RR("example.test", QTYPE.A, rdata=A("192.0.2.7"), ttl=60))
        elif str(asked.q.qname) == "long.test.":
            answer.add_answer(RR("long.test", QTYPE.TXT, rdata=TXT(["x" * 250] * 20), ttl=60))
        else:
            answer.header.rcode = RCODE.NXDOMAIN
        return bytes(answer.pack())

    def serve_datagrams() -> None:
        while True:
            try:
                data, peer = datagrams.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            answer = reply(data)
            datagrams.sendto(answer if len(answer) <= 512 else DNSRecord.parse(answer).truncate().pack(), peer)

    def serve_connections() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as file:
                answer = reply(file.read(int.from_bytes(file.read(2), "big")))
                file.write(len(answer).to_bytes(2, "big") + answer)
                file.flush()

    threads = [threading.Thread(target=work, daemon=True) for work in (serve_datagrams, serve_connections)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        with machine.outside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", (OUTSIDE_ADDRESS, 53))
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(timeout=5)
        listener.close()
        datagrams.close()


def test_members_know_each_other_by_name_alias_id_and_with_the_networks_name(docker: Docker, harbour: str) -> None:
    berth(docker, "quay", "--network", harbour, "--network-alias", "pier", "--network-alias", "dock")
    berth(docker, "boat", "--network", harbour)
    there = {address(docker, "quay", harbour)}
    short = docker.inspect("quay")["Id"][:12]
    for name in ("quay", "pier", "dock", "QUAY", short, f"quay.{harbour}"):
        assert found(docker, "boat", name) == there, name
    assert found(docker, "boat", "boat") == {address(docker, "boat", harbour)}
    assert f"nameserver {EMBEDDED}" in docker.ok("exec", "boat", "cat", "/etc/resolv.conf")
    assert "ndots:0" in docker.ok("exec", "boat", "cat", "/etc/resolv.conf")


def test_a_shared_alias_stands_for_all_who_have_it(docker: Docker, harbour: str) -> None:
    for name in ("one", "two"):
        berth(docker, name, "--network", harbour, "--network-alias", "fleet")
    both = {address(docker, name, harbour) for name in ("one", "two")}
    assert found(docker, "one", "fleet") == both
    docker.ok("kill", "two")
    eventually(lambda: found(docker, "one", "fleet") == {address(docker, "one", harbour)}, what="one is left")


def test_an_address_leads_back_to_the_name(docker: Docker, harbour: str) -> None:
    berth(docker, "quay", "--network", harbour)
    reverse = ".".join(reversed(address(docker, "quay", harbour).split("."))) + ".in-addr.arpa"
    answer = query(docker, "quay", DNSRecord.question(reverse, "PTR"))
    assert [str(record.rdata) for record in answer.rr] == [f"quay.{harbour}."]


def test_a_member_has_no_ipv6_address_but_exists(docker: Docker, harbour: str) -> None:
    berth(docker, "quay", "--network", harbour)
    answer = query(docker, "quay", DNSRecord.question("quay", "AAAA"))
    assert (answer.header.rcode, answer.rr) == (RCODE.NOERROR, [])


def test_who_is_elsewhere_is_not_known(docker: Docker, harbour: str) -> None:
    berth(docker, "boat", "--network", harbour)
    berth(docker, "stranger")
    assert found(docker, "boat", "stranger") == set()
    resolv = docker.ok("exec", "stranger", "cat", "/etc/resolv.conf")
    assert EMBEDDED not in resolv
    assert OUTSIDE_ADDRESS in resolv


def test_other_names_are_asked_of_the_hosts_servers(docker: Docker, harbour: str, machine: Machine) -> None:
    berth(docker, "boat", "--network", harbour)
    with name_server(machine):
        assert found(docker, "boat", "example.test") == {"192.0.2.7"}
        assert query(docker, "boat", DNSRecord.question("nosuch.test")).header.rcode == RCODE.NXDOMAIN
        long = DNSRecord.question("long.test", "TXT")
        assert query(docker, "boat", long).header.tc == 1
        assert len(query(docker, "boat", long, tcp=True).rr[0].rdata.data) == 20
        assert len(query(docker, "boat", DNSRecord.question("boat"), tcp=True).rr) == 1


@pytest.mark.sampan_only("20.10 keeps silent; later ones answer")
def test_without_an_answer_from_anywhere_the_server_says_so(docker: Docker, harbour: str) -> None:
    berth(docker, "boat", "--network", harbour)
    with network_of(int(docker.state("boat")["Pid"])):
        answer = DNSRecord.parse(DNSRecord.question("example.test").send(EMBEDDED, 53, timeout=20))
    assert answer.header.rcode == RCODE.SERVFAIL


def test_a_container_may_serve_dns_itself(docker: Docker, harbour: str) -> None:
    berth(docker, "server", "--network", harbour)
    with network_of(int(docker.state("server")["Pid"])):
        everywhere = ("0.0.0.0", 53)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.create_server(everywhere):
            datagrams.bind(everywhere)
    assert found(docker, "server", "server") == {address(docker, "server", harbour)}


def test_a_running_container_that_joins_a_network_knows_its_names(docker: Docker, harbour: str) -> None:
    berth(docker, "quay", "--network", harbour)
    berth(docker, "boat")
    docker.ok("network", "connect", "--alias", "late", harbour, "boat")
    assert found(docker, "boat", "quay") == {address(docker, "quay", harbour)}
    assert found(docker, "quay", "late") == {address(docker, "boat", harbour)}
    docker.ok("network", "disconnect", harbour, "boat")
    assert found(docker, "quay", "late") == set()


def test_who_shares_a_network_stack_shares_its_names(docker: Docker, harbour: str) -> None:
    berth(docker, "quay", "--network", harbour)
    shared = docker("run", "--rm", "--network", "container:quay", "busybox", "nslookup", "-type=a", "quay")
    assert address(docker, "quay", harbour) in shared.out


def test_names_are_answered_again_after_the_engine_was_killed(docker: Docker, harbour: str, engine: Engine) -> None:
    berth(docker, "quay", "--network", harbour)
    berth(docker, "boat", "--network", harbour)
    engine.kill()
    engine.start()
    there = {address(docker, "quay", harbour)}
    eventually(lambda: found(docker, "boat", "quay") == there, what="the name is answered")


def test_a_link_on_the_default_bridge_is_a_line_of_hosts_variables_and_a_name(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "quay", "-e", "DEPTH=9", "--expose", "80", "busybox", "sleep", "100")
    docker.ok("run", "-d", "--name", "boat", "--link", "quay:the-pier", "busybox", "sleep", "100")
    address = docker.inspect("quay")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    hosts = docker.ok("exec", "boat", "cat", "/etc/hosts")
    (line,) = [line for line in hosts.splitlines() if "the-pier" in line]
    assert line.split() == [address, "the-pier", docker.inspect("quay")["Config"]["Hostname"], "quay"]
    docker.ok("exec", "boat", "ping", "-c", "1", "-w", "5", "the-pier")
    told = docker.ok("exec", "boat", "env").splitlines()
    assert {f"THE_PIER_PORT=tcp://{address}:80", f"THE_PIER_PORT_80_TCP_ADDR={address}", "THE_PIER_ENV_DEPTH=9",
            "THE_PIER_NAME=/boat/the-pier"} <= set(told)  # fmt: skip
    assert docker.inspect("boat")["HostConfig"]["Links"] == ["/quay:/boat/the-pier"]
    assert docker.inspect("boat/the-pier")["Name"] == "/quay"
    assert docker.ok("ps", "--no-trunc", "--format", "{{.Names}}", "-f", "name=quay") == "boat/the-pier,quay"


def test_a_link_follows_its_container_to_another_address(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "quay", "busybox", "sleep", "100")
    docker.ok("run", "-d", "--name", "boat", "--link", "quay", "busybox", "sleep", "100")
    before = docker.inspect("quay")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    docker.ok("stop", "-t", "0", "quay")
    done = docker("restart", "-t", "0", "boat")
    assert done.status == 1
    assert "Cannot link to a non running container: /quay AS /boat/quay" in done.err
    docker.ok("start", "quay")
    docker.ok("start", "boat")
    docker.ok("stop", "-t", "0", "quay")
    docker.ok("run", "-d", "--name", "filler", "busybox", "sleep", "100")
    docker.ok("start", "quay")
    after = docker.inspect("quay")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert after != before or docker.inspect("filler")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] != before
    hosts = docker.ok("exec", "boat", "cat", "/etc/hosts")
    assert [line.split()[0] for line in hosts.splitlines() if "quay" in line.split()] == [after]
    docker.ok("rm", "--link", "boat/quay")
    assert docker.inspect("boat")["HostConfig"]["Links"] is None


def test_a_link_on_a_user_defined_network_is_a_name_for_one_alone(docker: Docker) -> None:
    docker.ok("network", "create", "harbour")
    try:
        docker.ok("run", "-d", "--name", "quay", "--network", "harbour", "busybox", "sleep", "100")
        docker.ok("run", "--rm", "--network", "harbour", "--link", "quay:pier", "busybox", "ping", "-c1", "-w5", "pier")
        assert docker("run", "--rm", "--network", "harbour", "busybox", "ping", "-c1", "-w5", "pier").status == 1
        docker.ok("rm", "-f", "quay")
    finally:
        docker.ok("network", "rm", "harbour")
