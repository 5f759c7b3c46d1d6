"""Bridge networking as seen from inside a container, from the host and from the world outside."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.peers.client import Docker
from tests.peers.engines import BRIDGE_ADDRESS, BRIDGE_NETWORK
from tests.peers.machine import MACHINE_ADDRESS, OUTSIDE_ADDRESS, Machine, network_of
from tests.peers.waiting import eventually

SERVER = "while :; do echo -e 'HTTP/1.0 200 OK\\r\\n\\r\\nfrom '$HOSTNAME | nc -l -p %d; done"
SHOW_SOURCE_PORT = 7007


def get(address: str, port: int) -> str:
    """Body of `GET /` as this thread's network reaches it; an empty string when nobody answers."""
    connection = http.client.HTTPConnection(address, port, timeout=3)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def get_inside(docker: Docker, address: str, port: int, *flags: str) -> str:
    """The same from a new container; by nc, since busybox-static's wget needs the host's C library to look up names."""
    out = docker("run", "--rm", *flags, "busybox", "nc", "-w", "3", address, str(port)).out
    return out.removeprefix("HTTP/1.0 200 OK\r\n\r\n").strip()


def serve(docker: Docker, *flags: str) -> None:
    """Starts a container `server` that answers HTTP on port 80 with "from server"."""
    docker.ok("run", "-d", "--name", "server", "--hostname", "server", *flags, "busybox", "sh", "-c", SERVER % 80)


def address_of(docker: Docker, container: str) -> str:
    return str(docker.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])


@contextmanager
def server_that_tells_the_caller(machine: Machine) -> Iterator[None]:
    """Outside, on OUTSIDE_ADDRESS: writes the peer's address to whoever connects."""
    with machine.outside():
        listener = socket.create_server((OUTSIDE_ADDRESS, SHOW_SOURCE_PORT))

    def serve() -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"{peer[0]}\n".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


def test_a_container_has_its_own_address_a_default_route_and_loopback(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    address = address_of(docker, "box")
    assert address.rsplit(".", 1)[0] == BRIDGE_ADDRESS.rsplit(".", 1)[0] and address != BRIDGE_ADDRESS
    assert f"inet {address}/24 " in docker.ok("exec", "box", "ip", "-4", "address", "show", "eth0")
    assert f"default via {BRIDGE_ADDRESS} dev eth0" in docker.ok("exec", "box", "ip", "route")
    assert "127.0.0.1" in docker.ok("exec", "box", "ip", "address", "show", "lo")
    mac = docker.inspect("box")["NetworkSettings"]["Networks"]["bridge"]["MacAddress"]
    assert mac in docker.ok("exec", "box", "ip", "link", "show", "eth0")


def test_two_containers_reach_each_other_by_address(docker: Docker) -> None:
    serve(docker)
    address = address_of(docker, "server")
    assert eventually(lambda: get_inside(docker, address, 80)) == "from server"
    docker.ok("run", "-d", "--name", "other", "busybox", "sleep", "100")
    assert address_of(docker, "other") != address
    assert docker("exec", "other", "ping", "-c", "1", "-W", "2", address).status == 0


def test_the_host_reaches_a_container_and_the_container_the_host(docker: Docker, machine: Machine) -> None:
    serve(docker)
    address = address_of(docker, "server")
    with machine.network():
        assert eventually(lambda: get(address, 80)) == "from server"
    assert docker("exec", "server", "ping", "-c", "1", "-W", "2", BRIDGE_ADDRESS).status == 0


def test_a_container_reaches_outward_under_the_host_s_address(docker: Docker, machine: Machine) -> None:
    with server_that_tells_the_caller(machine):
        out = docker.ok("run", "--rm", "busybox", "nc", "-w", "3", OUTSIDE_ADDRESS, str(SHOW_SOURCE_PORT))
    assert out == MACHINE_ADDRESS


def test_the_outside_does_not_reach_a_container_that_publishes_nothing(docker: Docker, machine: Machine) -> None:
    serve(docker)
    with machine.outside():
        assert get(MACHINE_ADDRESS, 80) == ""


@pytest.mark.parametrize("way", ["loopback", "own address", "outside"])
def test_a_published_port_is_reachable(docker: Docker, machine: Machine, way: str) -> None:
    serve(docker, "-p", "8081:80")
    if way == "outside":
        with machine.outside():
            assert eventually(lambda: get(MACHINE_ADDRESS, 8081)) == "from server"
    else:
        with machine.network():
            address = "127.0.0.1" if way == "loopback" else MACHINE_ADDRESS
            assert eventually(lambda: get(address, 8081)) == "from server"


def test_a_container_reaches_a_published_port_by_the_host_s_address(docker: Docker) -> None:
    serve(docker, "-p", "8081:80")
    assert eventually(lambda: get_inside(docker, MACHINE_ADDRESS, 8081)) == "from server"


def test_a_port_published_on_loopback_is_closed_to_the_outside(docker: Docker, machine: Machine) -> None:
    serve(docker, "-p", "127.0.0.1:8082:80")
    with machine.network():
        assert eventually(lambda: get("127.0.0.1", 8082)) == "from server"
    with machine.outside():
        assert get(MACHINE_ADDRESS, 8082) == ""


def test_a_port_is_free_again_after_the_container_has_ended(docker: Docker, machine: Machine) -> None:
    serve(docker, "-p", "8081:80")
    with machine.network():
        assert eventually(lambda: get("127.0.0.1", 8081)) == "from server"
        docker.ok("rm", "-f", "server")
        assert get("127.0.0.1", 8081) == ""
        socket.create_server(("0.0.0.0", 8081)).close()


def test_a_udp_port_can_be_published(docker: Docker, machine: Machine) -> None:
    docker.ok("run", "-d", "--name", "server", "-p", "8083:9000/udp", "busybox", "sleep", "100")
    # the image's busybox has no UDP server, so the test itself listens in the container's network
    with network_of(docker.state("server")["Pid"]):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("0.0.0.0", 9000))
    with machine.outside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with listener, sender:
        listener.settimeout(10)
        sender.settimeout(10)
        sender.sendto(b"question", (MACHINE_ADDRESS, 8083))
        question, peer = listener.recvfrom(100)
        listener.sendto(b"answer", peer)
        assert (question, *sender.recvfrom(100)) == (b"question", b"answer", (MACHINE_ADDRESS, 8083))


def test_docker_port_and_ps_tell_the_published_ports(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "server", "-p", "8081:80", "-p", "127.0.0.1:8082:81", "busybox", "sleep", "100")
    assert docker.ok("port", "server", "80").splitlines()[0] == "0.0.0.0:8081"
    assert docker.ok("port", "server", "81/tcp") == "127.0.0.1:8082"
    ports = docker.ok("ps", "--format", "{{.Ports}}")
    assert "0.0.0.0:8081->80/tcp" in ports and "127.0.0.1:8082->81/tcp" in ports


def test_p_without_a_host_port_takes_a_free_one(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "one", "-p", "80", "busybox", "sleep", "100")
    docker.ok("run", "-d", "--name", "two", "-P", "configured", "sleep")
    first = docker.ok("port", "one", "80/tcp").splitlines()[0]
    assert int(first.split(":")[1]) > 1024


def test_all_exposed_ports_are_published_by_capital_p(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "server", "-P", "--entrypoint", "sleep", "configured", "100")
    ports = docker.inspect("server")["NetworkSettings"]["Ports"]
    assert set(ports) == {"8080/tcp", "53/udp"} and all(ports.values())


def test_a_taken_port_is_refused(docker: Docker, machine: Machine) -> None:
    docker.ok("run", "-d", "--name", "first", "-p", "8081:80", "busybox", "sleep", "100")
    outcome = docker("run", "-d", "--name", "second", "-p", "8081:80", "busybox", "sleep", "100")
    assert outcome.status == 125
    assert "Bind for 0.0.0.0:8081 failed: port is already allocated" in outcome.err
    with machine.network():
        with socket.create_server(("0.0.0.0", 8084)):
            outcome = docker("run", "-d", "--name", "third", "-p", "8084:80", "busybox", "sleep", "100")
    assert outcome.status == 125 and "address already in use" in outcome.err


def test_network_none_has_only_loopback(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip route")
    assert out == "lo"


def test_network_host_is_the_machine_s_own(docker: Docker, machine: Machine) -> None:
    out = docker.ok("run", "--rm", "--network", "host", "busybox", "ip", "-4", "-o", "address")
    assert MACHINE_ADDRESS in out and BRIDGE_ADDRESS in out


def test_a_container_can_share_another_s_network(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "owner", "--hostname", "owner", "busybox", "sh", "-c", SERVER % 80)
    assert eventually(lambda: get_inside(docker, "127.0.0.1", 80, "--network", "container:owner")) == "from owner"


def test_hosts_and_resolv_conf_are_written_for_the_container(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "--hostname", "box", "--add-host", "db:10.1.2.3", "busybox", "sleep", "100")
    hosts = docker.ok("exec", "box", "cat", "/etc/hosts").splitlines()
    assert "127.0.0.1\tlocalhost" in hosts and "10.1.2.3\tdb" in hosts and f"{address_of(docker, 'box')}\tbox" in hosts
    assert f"nameserver {OUTSIDE_ADDRESS}" in docker.ok("exec", "box", "cat", "/etc/resolv.conf")
    out = docker.ok(
        "run", "--rm", "--dns", "192.0.2.53", "--dns-search", "example.org", "busybox", "cat", "/etc/resolv.conf"
    )
    assert "nameserver 192.0.2.53" in out and "search example.org" in out


def test_network_ls_shows_the_three_networks(docker: Docker) -> None:
    rows = [json.loads(line) for line in docker.ok("network", "ls", "--format", "{{json .}}").splitlines()]
    assert {(row["Name"], row["Driver"], row["Scope"]) for row in rows} == {
        ("bridge", "bridge", "local"),
        ("host", "host", "local"),
        ("none", "null", "local"),
    }
    assert docker.ok("network", "ls", "--filter", "driver=host", "--format", "{{.Name}}") == "host"


def test_network_inspect_shows_addresses_and_members(docker: Docker) -> None:
    identity = docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    seen = docker.inspect("network", "bridge")
    assert seen["Driver"] == "bridge" and seen["Scope"] == "local" and len(seen["Id"]) == 64
    assert seen["IPAM"]["Config"][0] == {"Subnet": BRIDGE_NETWORK, "Gateway": BRIDGE_ADDRESS}
    assert seen["Containers"][identity]["Name"] == "box"
    assert seen["Containers"][identity]["IPv4Address"] == f"{address_of(docker, 'box')}/24"
    outcome = docker("network", "inspect", "nowhere")
    assert outcome.status == 1 and "network nowhere not found" in outcome.err.lower()


def test_an_unknown_network_is_refused(docker: Docker) -> None:
    outcome = docker("run", "--rm", "--network", "nowhere", "busybox", "true")
    assert outcome.status == 125 and "network nowhere not found" in outcome.err


def test_an_address_is_given_out_again_when_its_container_has_gone(docker: Docker) -> None:
    taken = set()
    for _ in range(4):
        docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
        taken.add(address_of(docker, "box"))
        docker.ok("rm", "-f", "box")
    assert len(taken) <= 4
    docker.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    docker.ok("run", "-d", "--name", "two", "busybox", "sleep", "100")
    assert address_of(docker, "one") != address_of(docker, "two")
