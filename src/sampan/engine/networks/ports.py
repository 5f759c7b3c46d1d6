"""Published ports: what a container asks for, which host ports it gets, and the sockets that hold them.

A published port is held by a bound socket for as long as it is published, so that everybody else on the host, another
sampand included, is told EADDRINUSE. No packet reaches the socket: the firewall leads it to the container before.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec

from sampan.api.docker.networks import PortMap
from sampan.engine.networks.records import Publication
from sampan.errors import Error, InvalidArgument, Unimplemented

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?\Z")
_EPHEMERAL_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"


class PortRequest(msgspec.Struct, frozen=True):
    """One wanted publication. `first` to `last` are the host ports to choose from; both 0: any."""

    container_port: int
    protocol: str
    host_ip: str
    first: int
    last: int


def parse_port(text: str) -> tuple[int, str]:
    """`80/tcp` or `80` to (80, "tcp"). InvalidArgument `invalid port specification: "..."` or `invalid proto: ...`."""
    number, _slash, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"invalid proto: {protocol}")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
        raise InvalidArgument(f'invalid port specification: "{text}"')
    return int(number), protocol


def parse_requests(
    bindings: PortMap, exposed: Iterable[str], publish_all: bool, default_host_ip: str = ""
) -> list[PortRequest]:
    """What HostConfig.PortBindings, Config.ExposedPorts and PublishAllPorts ask for, in the order of the ports.

    InvalidArgument for a malformed port or address; Unimplemented for sctp and for an IPv6 host address."""
    wanted = {parse_port(key): values or [] for key, values in bindings.items()}
    requests = []
    for (port, protocol), values in sorted(wanted.items()):
        for binding in values:
            first, last = _parse_host_port(binding.host_port)
            host_ip = _parse_host_ip(binding.host_ip or default_host_ip or "0.0.0.0", port, protocol)
            requests.append(PortRequest(port, protocol, host_ip, first, last))
    if publish_all:
        for key in sorted({parse_port(text) for text in exposed} - {key for key, values in wanted.items() if values}):
            requests.append(PortRequest(*key, default_host_ip or "0.0.0.0", 0, 0))
    for request in requests:
        if request.protocol not in _KINDS:
            raise Unimplemented(
                f"publishing {request.protocol} ports is not supported: {request.container_port}/{request.protocol}"
            )
    return requests


def _parse_host_port(text: str) -> tuple[int, int]:
    if text in ("", "0"):
        return 0, 0
    match = _PORT.match(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if not 0 < first <= last < 65536:
        raise InvalidArgument(f'invalid port specification: "{text}"')
    return first, last


def _parse_host_ip(text: str, port: int, protocol: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        pass
    try:
        IPv6Address(text.strip("[]"))
    except AddressValueError:
        raise InvalidArgument(f"invalid IP address: {text}") from None
    raise Unimplemented(f"publishing on an IPv6 address is not supported: [{text.strip('[]')}] for {port}/{protocol}")


class PortHolds:
    """The host ports that this engine holds, and the socket behind each."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], dict[str, socket.socket]] = {}
        self._next_ephemeral = 0

    def close(self) -> None:
        """Let go of every port."""
        for sockets in self._held.values():
            for held in sockets.values():
                held.close()
        self._held.clear()

    def allocate(self, requests: Sequence[PortRequest]) -> list[Publication]:
        """Hold a host port for each request, or none at all.

        Error with Docker's text, without its prefix: `Bind for 0.0.0.0:8080 failed: port is already allocated` when
        another container has it, `failed to bind host port 0.0.0.0:8080/tcp: address already in use` when another
        process has."""
        made: list[Publication] = []
        try:
            for request in requests:
                made.append(self._allocate(request))
        except BaseException:
            self.release(made)
            raise
        return made

    def hold(self, publication: Publication) -> None:
        """Hold a port that was chosen earlier, after a restart. Error as `allocate`; nothing when it is held."""
        if publication.host_ip not in self._held.get((publication.protocol, publication.host_port), {}):
            self._bind(publication.protocol, publication.host_ip, publication.host_port)

    def release(self, publications: Iterable[Publication]) -> None:
        """Ports that are not held are passed over."""
        for publication in publications:
            key = (publication.protocol, publication.host_port)
            sockets = self._held.get(key, {})
            held = sockets.pop(publication.host_ip, None)
            if held:
                held.close()
            if not sockets:
                self._held.pop(key, None)

    def _allocate(self, request: PortRequest) -> Publication:
        host_port = self._choose(request)
        return Publication(
            container_port=request.container_port,
            protocol=request.protocol,
            host_ip=request.host_ip,
            host_port=host_port,
        )

    def _choose(self, request: PortRequest) -> int:
        if request.first and request.first == request.last:
            self._bind(request.protocol, request.host_ip, request.first)
            return request.first
        for port in self._candidates(request):
            if self._conflicts(request.protocol, request.host_ip, port):
                continue
            try:
                self._bind(request.protocol, request.host_ip, port)
            except Error as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
                    continue
                raise
            return port
        wanted = f"{request.first}-{request.last}" if request.first else "0"
        raise Error(f"Bind for {request.host_ip}:{wanted} failed: all ports are allocated")

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.first:
            yield from range(request.first, request.last + 1)
            return
        with open(_EPHEMERAL_RANGE) as file:
            first, last = map(int, file.read().split())
        # One after the other, as Docker does: a port that was given back is not given out again at once.
        start = self._next_ephemeral if first <= self._next_ephemeral <= last else first
        for port in (*range(start, last + 1), *range(first, start)):
            self._next_ephemeral = port + 1
            yield port

    def _conflicts(self, protocol: str, host_ip: str, port: int) -> bool:
        sockets = self._held.get((protocol, port), {})
        return bool(sockets) and (host_ip in sockets or "0.0.0.0" in (host_ip, *sockets))

    def _bind(self, protocol: str, host_ip: str, port: int) -> None:
        if self._conflicts(protocol, host_ip, port):
            raise Error(f"Bind for {host_ip}:{port} failed: port is already allocated")
        try:
            held = _bound_socket(protocol, host_ip, port)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise Error(f"failed to bind host port {host_ip}:{port}/{protocol}: {reason}") from error
        self._held.setdefault((protocol, port), {})[host_ip] = held


def _bound_socket(protocol: str, host_ip: str, port: int) -> socket.socket:
    held = socket.socket(socket.AF_INET, _KINDS[protocol] | socket.SOCK_CLOEXEC)
    try:
        if protocol == "tcp":
            # Else connections in TIME_WAIT, left by a server that had the port before, keep it from us for a minute.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host_ip, port))
        if protocol == "tcp":
            # Two sockets that allow reuse may both bind; only listen(2) finds out. Then stop listening: the port stays
            # bound, and a connection that comes before the container is ready is refused instead of left hanging.
            held.listen(1)
            held.shutdown(socket.SHUT_RD)
            # From here on nobody may listen on it, not even by allowing reuse.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        held.close()
        raise
    return held
