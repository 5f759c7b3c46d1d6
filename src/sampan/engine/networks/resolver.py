"""The embedded DNS server: in the netns of each container of a user-defined network, at 127.0.0.11.

    the container ── 127.0.0.11:53 ──dnat──▶ 127.0.0.11:PORT, our sockets in its netns
                                               ├─ a neighbour's name ──▶ answered from the engine's records
                                               └─ any other ──▶ from the host's netns to the host's name servers

The sockets take any port, and one rule in the container's netns leads port 53 to it, so that the container can itself
serve DNS at 0.0.0.0:53. They belong to this process: while no engine runs, names are not answered (as with Docker's
live restore), and the next one opens them again (`Networks.reconcile`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress

from dnslib import DNSRecord

from sampan.engine.networks import names
from sampan.engine.networks.documents import dns_names
from sampan.engine.networks.etc import EMBEDDED_DNS, upstreams
from sampan.engine.networks.netns import in_netns
from sampan.engine.networks.records import is_user_defined
from sampan.engine.networks.store import NetworkStore
from sampan.linux.netlink import nftables as nft
from sampan.linux.netlink import nftables_expressions as expr
from sampan.linux.netlink.connection import NETLINK_NETFILTER, NetlinkSocket
from sampan.linux.netlink.message import Message

log = logging.getLogger(__name__)

TABLE = "sampan-dns"
PORT = 53
PATIENCE_S = 4.0
"""For one upstream server; Docker's figure. A resolver asks again after five seconds (resolv.conf(5))."""
_MOST_QUESTIONS = 256
"""Asked elsewhere at one time, for one container; what comes on top is dropped, and asked again."""
_LARGEST = 65535


class Directory:
    """What the server of one container knows, at any time, from the engine's records."""

    def __init__(self, store: NetworkStore, container_id: str) -> None:
        self.container_id = container_id
        self._store = store

    def members(self) -> list[names.Member]:
        """Whom the container can call by name: the running members of its user-defined networks, itself among them."""
        found = []
        for own in filter(is_user_defined, self._store.endpoints_of(self.container_id)):
            links = self._links(own.network_name)
            for endpoint in self._store.endpoints_in(own.network_id):
                container = self._store.container(endpoint.container_id)
                if container is not None:
                    known = dns_names(container, endpoint.aliases)
                    known += [alias for name, alias in links if name in (*known, container.container_id)]
                    called = tuple(name.lower() for name in known)
                    found.append(names.Member(called, endpoint.network_name, endpoint.ip_address))
        return found

    def _links(self, network_name: str) -> list[tuple[str, str]]:
        """(name, alias) of `--link`: what this container alone calls another one by."""
        container = self._store.container(self.container_id)
        settings = container.endpoints.get(network_name) if container else None
        parted = (text.partition(":") for text in (settings.links or () if settings else ()))
        return [(name, alias or name) for name, _, alias in parted]

    def upstreams(self) -> list[str]:
        """Who is asked for other names; nobody when all of the container's networks are internal."""
        sandbox, container = self._store.sandbox(self.container_id), self._store.container(self.container_id)
        if sandbox is None or container is None or not sandbox.gateway_endpoint:
            return []
        try:
            with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
                return upstreams(file.read(), container.dns)
        except OSError:
            return list(container.dns)


class Resolver:
    """The server of one container."""

    def __init__(self, directory: Directory, netns_fd: int) -> None:
        """OSError when the sockets cannot be had."""
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._datagrams, self._listener = in_netns(netns_fd, _open_sockets)
        self._loop.add_reader(self._datagrams, self._read)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """The netns is let go: a socket of ours would keep it after the container."""
        self._loop.remove_reader(self._datagrams)
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()
        self._datagrams.close()
        self._listener.close()

    def _read(self) -> None:
        # Whatever a container does to its own network (a source port of 0, no route to itself) costs it the answer.
        with suppress(OSError):
            data, peer = self._datagrams.recvfrom(_LARGEST)
            try:
                query = names.parse(data)
            except ValueError as error:
                log.debug("dns: %s", error)
                return
            known = names.answer(query, self._directory.members())
            if known is not None:
                self._datagrams.sendto(names.datagram(query, known), peer)
            elif len(self._tasks) < _MOST_QUESTIONS:
                self._spawn(self._forward_datagram(query, data, peer))

    async def _forward_datagram(self, query: DNSRecord, data: bytes, peer: tuple[str, int]) -> None:
        for server in self._directory.upstreams():
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    reply = await _ask(self._loop, server, data)
                with suppress(OSError):
                    self._datagrams.sendto(reply, peer)
                return
        with suppress(OSError):
            self._datagrams.sendto(names.failure(query).pack(), peer)

    def _accept(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._tasks) >= _MOST_QUESTIONS:
                connection.close()
                return
            connection.setblocking(False)
            self._spawn(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        """One connection: questions, each with its length before it (RFC 7766), answered in turn."""
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                async with asyncio.timeout(PATIENCE_S):
                    data = await _framed(reader)
                query = names.parse(data)
                known = names.answer(query, self._directory.members())
                reply = bytes(known.pack()) if known is not None else await self._forward_stream(query, data)
                writer.write(struct.pack(">H", len(reply)) + reply)
                async with asyncio.timeout(PATIENCE_S):  # one that asks and does not read is let go
                    await writer.drain()
        except (OSError, EOFError, TimeoutError, ValueError):
            pass  # it is done, or speaks no DNS
        finally:
            writer.close()

    async def _forward_stream(self, query: DNSRecord, data: bytes) -> bytes:
        for server in self._directory.upstreams():
            with suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    reader, writer = await asyncio.open_connection(server, PORT)
                    try:
                        writer.write(struct.pack(">H", len(data)) + data)
                        return await _framed(reader)
                    finally:
                        writer.close()
        return bytes(names.failure(query).pack())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Resolvers:
    """The servers of all containers."""

    def __init__(self) -> None:
        self._open: dict[str, Resolver] = {}

    def open(self, directory: Directory, netns_fd: int) -> None:
        """No error when the container has one. OSError."""
        if directory.container_id not in self._open:
            self._open[directory.container_id] = Resolver(directory, netns_fd)

    def reopen(self, directory: Directory, netns_path: str) -> None:
        """After a start of the engine; a container that has just ended is passed over."""
        try:
            netns_fd = os.open(netns_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            self.open(directory, netns_fd)
        except OSError as error:
            log.warning("container %s: names of its neighbours are not answered: %s", directory.container_id, error)
        finally:
            os.close(netns_fd)

    def close(self, container_id: str) -> None:
        """No error when there is none."""
        found = self._open.pop(container_id, None)
        if found is not None:
            found.close()

    def close_all(self) -> None:
        for container_id in list(self._open):
            self.close(container_id)


def _open_sockets() -> tuple[socket.socket, socket.socket]:
    """In the container's netns: both sockets, and the rule that leads port 53 to them.

    On a kernel without nf_tables they have port 53 themselves, which the container then cannot have."""
    try:
        datagrams, listener = _bound(0)
        try:
            with NetlinkSocket(NETLINK_NETFILTER) as kernel:
                nft.transact(kernel, ruleset(datagrams.getsockname()[1], listener.getsockname()[1]))
        except BaseException:
            datagrams.close()
            listener.close()
            raise
    except OSError as error:
        log.debug("dns: no rule can lead to another port than %d: %s", PORT, error)
        return _bound(PORT)
    return datagrams, listener


def _bound(port: int) -> tuple[socket.socket, socket.socket]:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        datagrams.bind((EMBEDDED_DNS, port))
        listener.bind((EMBEDDED_DNS, port))
        listener.listen(64)
    except BaseException:
        datagrams.close()
        listener.close()
        raise
    return datagrams, listener


def ruleset(datagram_port: int, stream_port: int) -> list[Message]:
    """The container's table as one transaction that replaces what an engine before us has left there."""
    table = nft.Table(TABLE)
    messages = [
        table.add(),
        table.delete(),
        table.add(),
        table.add_hook_chain("output", "nat", nft.NF_INET_LOCAL_OUT, nft.NF_IP_PRI_NAT_DST),
    ]
    address = socket.inet_aton(EMBEDDED_DNS)
    for protocol, port in ((17, datagram_port), (6, stream_port)):
        expressions = [
            expr.ip_daddr(),
            expr.compare(address),
            expr.meta(expr.NFT_META_L4PROTO),
            expr.compare(bytes((protocol,))),
            expr.dport(),
            expr.compare(struct.pack(">H", PORT)),
            expr.immediate(address, expr.REG32(0)),
            expr.immediate(struct.pack(">H", port), expr.REG32(1)),
            expr.nat(expr.NFT_NAT_DNAT, nft.NFPROTO_IPV4, expr.REG32(0), expr.REG32(1)),
        ]
        messages.append(table.add_rule("output", expressions, "embedded DNS"))
    return messages


async def _ask(loop: asyncio.AbstractEventLoop, server: str, data: bytes) -> bytes:
    """One question to one server, by a connected socket: what others send to it never arrives. OSError."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as upstream:
        upstream.connect((server, PORT))
        await loop.sock_sendall(upstream, data)
        while True:
            reply = await loop.sock_recv(upstream, _LARGEST)
            if reply[:2] == data[:2]:
                return reply


async def _framed(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">H", await reader.readexactly(2))
    return await reader.readexactly(length)
