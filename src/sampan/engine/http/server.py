"""The HTTP front of the engine: one aiohttp application behind every `-H`.

    request ── strip /v1.NN ──▶ route ──▶ guard (version range, errors, shield) ──▶ handler ──▶ answer

A route file gives `def routes(engine) -> list[web.RouteDef]` with paths that carry no version. Requests have no
size limit as streams (image uploads, attached stdin); a JSON body is limited to BODY_LIMIT.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from aiohttp import web
from yarl import URL

from sampan import VERSION, errors
from sampan.engine.http.errors import answer
from sampan.engine.http.messages import ANSWERED_KEY, VERSION_KEY

log = logging.getLogger("sampan.http")

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
BODY_LIMIT = 64 * 1024 * 1024

# At the end of the server: seconds for changes under way to come to theirs.
FINISH_TIMEOUT = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_WORKING: web.AppKey[set[asyncio.Future[web.StreamResponse]]] = web.AppKey("working", set)
_PREFIX = re.compile(r"/v([0-9]+(?:\.[0-9]+)?)(?=/)")
_NEWEST = (1, 51)
_OLDEST = (1, 24)
_EXPERIMENTAL: web.AppKey[bool] = web.AppKey("experimental", bool)
_HEADERS = {
    "Api-Version": API_VERSION,
    "Ostype": "linux",
    "Server": f"Sampan/{VERSION} (linux)",
}


def parse_version(text: str) -> tuple[int, int]:
    """ "1.51" as (1, 51)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def check_version(version: tuple[int, int]) -> None:
    """InvalidArgument in Docker's words when a client is outside of the served range."""
    text = f"{version[0]}.{version[1]}"
    if version > _NEWEST:
        raise errors.InvalidArgument(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
    if version < _OLDEST:
        raise errors.InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )


def application(tables: Iterable[list[web.RouteDef]], *, experimental: bool = False) -> web.Application:
    """The application that serves the given route tables, one table per API tag.

    `experimental` is what it tells clients; a command that needs it is refused by the docker client otherwise."""
    app = web.Application(middlewares=[_guard], client_max_size=BODY_LIMIT)
    app[_WORKING] = set()
    app[_EXPERIMENTAL] = experimental
    app.on_cleanup.append(_finish)
    for table in tables:
        app.router.add_routes(table)
    app.on_response_prepare.append(_add_headers)
    return app


async def serve(app: web.Application) -> web.AppRunner:
    """Make `app` ready to accept connections; `listen` gives it addresses, `cleanup()` ends it."""
    runner = web.AppRunner(
        app,
        access_log=None,
        # A long-lived stream (events, logs -f, wait) ends only with its client: do not wait for it at the end.
        shutdown_timeout=0.5,
        handler_cancellation=True,
        # Go's clients keep idle connections for long and reuse them at any moment.
        keepalive_timeout=3600,
        # Image uploads are stored as they came: layers may be compressed files of their own.
        auto_decompress=False,
    )
    await runner.setup()
    server = runner.server
    assert server is not None
    plain = server.request_factory

    def without_version(message: Any, *rest: Any) -> web.BaseRequest:
        # Stripped before routing: a table with both forms of each path costs twice the start-up time and
        # makes every versioned request a linear search.
        version = _NEWEST
        path = message.url.raw_path
        found = None if "//" in path else _PREFIX.match(path)
        if found:
            version = parse_version(found[1])
            url = URL.build(path=path[found.end() :], query_string=message.url.raw_query_string, encoded=True)
            message = message._replace(path=str(url), url=url)
        request = plain(message, *rest)
        request[VERSION_KEY] = version
        return request

    server.request_factory = without_version
    return runner


async def listen(runner: web.AppRunner, host: str, *, group: str = "docker") -> str:
    """Serve on one `-H` address (unix:///path, tcp://host:port, fd://); the address as bound.

    A socket file is made 0660 root:docker (root's group when there is no such group), as dockerd does.
    InvalidArgument for another scheme, Error when the address cannot be bound."""
    scheme, _, rest = host.partition("://")
    try:
        if scheme == "unix":
            sock = _unix_socket(rest, group)
        elif scheme == "tcp":
            name, _, port = rest.rpartition(":")
            sock = socket.create_server((name.strip("[]") or "127.0.0.1", int(port or 2375)), family=_family(name))
        else:
            raise errors.InvalidArgument(f"invalid protocol address: {host}")
    except (OSError, ValueError) as error:
        raise errors.Error(f"failed to load listeners: can't create {scheme} socket {rest}: {error}") from error
    await web.SockSite(runner, sock, backlog=256).start()
    if scheme == "tcp":
        address = sock.getsockname()
        return f"tcp://{address[0]}:{address[1]}"
    return host


def _family(name: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in name else socket.AF_INET


def _unix_socket(path: str, group: str) -> socket.socket:
    os.makedirs(os.path.dirname(path) or ".", mode=0o711, exist_ok=True)
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass  # the usual case: nothing was left behind
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect between bind and chmod.
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    os.chown(path, os.getuid(), _group_id(group))
    os.chmod(path, 0o660)
    return sock


def _group_id(name: str) -> int:
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return os.getgid()


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers["Docker-Experimental"] = "true" if request.app[_EXPERIMENTAL] else "false"
    request[ANSWERED_KEY] = True


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if "//" in request.path:
            # Go's routers send a client to the tidy path, whatever the method.
            tidy = re.sub("//+", "/", request.raw_path.partition("?")[0])
            query = f"?{request.query_string}" if request.query_string else ""
            return web.Response(status=301, headers={"Location": tidy + query})
        if request.match_info.http_exception is None:
            check_version(request[VERSION_KEY])
        if _may_be_cut(request):
            return await handler(request)
        return await _complete(request, handler)
    except ConnectionError:
        raise
    except Exception as error:
        response = answer(error)
        if ANSWERED_KEY in request:
            # Half an answer is out: only a broken connection tells the client that it is not the whole.
            raise ConnectionResetError from error
        return response


def _may_be_cut(request: web.Request) -> bool:
    return request.method in ("GET", "HEAD") or hasattr(request.match_info.handler, "ends_with_client")


async def _complete(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Perform a change to its end even when the client leaves, which cancels only this waiting."""
    task = asyncio.ensure_future(handler(request))
    working = request.app[_WORKING]
    working.add(task)
    task.add_done_callback(working.discard)
    task.add_done_callback(_report)
    return await asyncio.shield(task)


def _report(task: asyncio.Future[web.StreamResponse]) -> None:
    # Retrieved here so that a failure after the client left is not reported as "never retrieved".
    if not task.cancelled() and task.exception() is not None:
        log.debug("request failed: %s", task.exception())


async def _finish(app: web.Application) -> None:
    """The rooms close after this: a change that still runs then would find them gone."""
    working = app[_WORKING]
    if working:
        await asyncio.wait(working, timeout=FINISH_TIMEOUT)
    for task in working:
        task.cancel()
