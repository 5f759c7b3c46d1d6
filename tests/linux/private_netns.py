"""Network namespaces for tests: the test's own "host" and its "containers", so that the machine's links stay alone."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sampan.linux.netlink import route
from sampan.linux.netlink.connection import NETLINK_ROUTE, NetlinkSocket
from sampan.linux.process import setns, unshare

CLONE_NEWNET = 0x40000000

T = TypeVar("T")


@contextmanager
def private_host() -> Iterator[None]:
    """The calling thread is in a netns of its own, with lo up, until the block ends."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            with NetlinkSocket(NETLINK_ROUTE) as connection:
                connection.perform([route.set_link("lo", up=True)])
            yield
        finally:
            setns(outside, CLONE_NEWNET)
    finally:
        os.close(outside)


@contextmanager
def new_netns() -> Iterator[int]:
    """A descriptor of a new netns, which lives as long as the descriptor."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    fd = _in_thread(make)
    try:
        yield fd
    finally:
        os.close(fd)


def inside(netns_fd: int, act: Callable[[], T]) -> T:
    """What `act` returns when a thread in that netns calls it."""

    def enter() -> T:
        setns(netns_fd, CLONE_NEWNET)
        return act()

    return _in_thread(enter)


def _in_thread(act: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(act())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@contextmanager
def echo_server(netns_fd: int | None, port: int, kind: int = socket.SOCK_STREAM) -> Iterator[None]:
    """Answers each connection, or datagram, with the peer's address as the server sees it, and ends."""

    def listen() -> socket.socket:
        server = socket.socket(socket.AF_INET, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        if kind == socket.SOCK_STREAM:
            server.listen(8)
        return server

    server = listen() if netns_fd is None else inside(netns_fd, listen)
    stop_reader, stop_writer = os.pipe()
    thread = threading.Thread(target=_serve, args=(server, kind, stop_reader))
    thread.start()
    try:
        yield
    finally:
        os.close(stop_writer)
        thread.join()
        os.close(stop_reader)
        server.close()


def _serve(server: socket.socket, kind: int, stop: int) -> None:
    while True:
        ready, _writable, _errors = select.select([server.fileno(), stop], [], [])
        if stop in ready:
            return
        if kind == socket.SOCK_STREAM:
            connection, peer = server.accept()
            connection.sendall(peer[0].encode())
            connection.close()
        else:
            _data, peer = server.recvfrom(100)
            server.sendto(peer[0].encode(), peer)


def ask(netns_fd: int | None, address: str, port: int, kind: int = socket.SOCK_STREAM, timeout: float = 2.0) -> str:
    """What an `echo_server` there answers: our address as it sees us. OSError or TimeoutError when there is none."""

    def connect() -> str:
        with socket.socket(socket.AF_INET, kind) as client:
            client.settimeout(timeout)
            client.connect((address, port))
            if kind == socket.SOCK_DGRAM:
                client.send(b"?")
            return client.recv(100).decode()

    return connect() if netns_fd is None else inside(netns_fd, connect)
