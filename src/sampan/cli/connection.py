"""A client of Docker's HTTP API over one unix or TCP socket, as small as the command line's start time asks.

`http.client` brings the email package (12 ms of a 35 ms command); what the API needs of HTTP/1.1 is a status line,
headers, and bodies by length, by chunks or until the end. One connection carries one request.
"""

from __future__ import annotations

import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

API_VERSION = "1.51"
DEFAULT_SOCKET = "/run/sampan/docker.sock"
_QUERY_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/:")


class ApiError(Exception):
    """The engine refused: `status` is HTTP's, the text is the engine's own `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NoEngine(Exception):
    """Nothing answers at the address."""


def default_host(environ: Mapping[str, str] | None = None) -> str:
    """`SAMPAN_HOST`, `DOCKER_HOST`, or our own socket; a URL."""
    env = os.environ if environ is None else environ
    return env.get("SAMPAN_HOST") or env.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"


def quote(text: str) -> str:
    """Percent-encode for a path segment or a query value (RFC 3986)."""
    return "".join(chr(b) if b in _QUERY_SAFE else f"%{b:02X}" for b in text.encode())


def query_string(query: Mapping[str, object]) -> str:
    """`?a=b&...`; None is left out, True is 1, dicts are JSON (Docker's `filters`), lists repeat the key."""
    pairs = []
    for key, value in query.items():
        if value is None or value is False or value == "":
            continue
        for item in value if isinstance(value, list) else [value]:
            text = json.dumps(item) if isinstance(item, dict) else "1" if item is True else str(item)
            pairs.append(f"{key}={quote(text)}")
    return "?" + "&".join(pairs) if pairs else ""


class Response:
    """A response whose body is read as it arrives."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = bytearray()
        self.status = 0
        self.headers: dict[str, str] = {}
        self._read_head()

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._fill():
                raise NoEngine("the engine closed the connection")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _read_head(self) -> None:
        parts = self._line().split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1."):
            raise NoEngine("the answer is not HTTP")
        self.status = int(parts[1])
        while line := self._line():
            name, _, value = line.partition(b":")
            self.headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")

    def pieces(self) -> Iterator[bytes]:
        """The body in the pieces in which it arrives."""
        if self.status in (204, 304):
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
            return
        left = int(self.headers["content-length"]) if "content-length" in self.headers else None
        while left is None or left > 0:
            if not self._buffer and not self._fill():
                return
            piece = bytes(self._buffer if left is None else self._buffer[:left])
            del self._buffer[: len(piece)]
            if left is not None:
                left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().split(b";")[0], 16):
            while size:
                if not self._buffer and not self._fill():
                    raise NoEngine("the engine closed the connection")
                piece = bytes(self._buffer[:size])
                del self._buffer[: len(piece)]
                size -= len(piece)
                yield piece
            self._line()

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def json(self) -> Any:
        body = self.read()
        return json.loads(body) if body else None

    def json_lines(self) -> Iterator[Any]:
        """A stream of JSON documents, one a line (pull progress, events)."""
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
        if rest.strip():
            yield json.loads(rest)

    def take_buffer(self) -> bytes:
        """What arrived behind the head: the first bytes of a hijacked stream."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def close(self) -> None:
        self.sock.close()


class Api:
    """One engine at one address (`unix:///path` or `tcp://host:port`)."""

    def __init__(self, host: str) -> None:
        self.host = host

    def connect(self) -> socket.socket:
        """A new connection. NoEngine when nothing answers, or the address is none."""
        scheme, _, rest = self.host.partition("://")
        try:
            if scheme == "unix":
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.connect(rest)
                return sock
            if scheme in ("tcp", "http"):
                name, _, port = rest.rstrip("/").rpartition(":")
                return socket.create_connection((name.strip("[]"), int(port)))
        except OSError as err:
            raise NoEngine(
                f"Cannot connect to the sampan engine at {self.host}. Is sampand running? ({err.strerror or err})"
            ) from err
        raise NoEngine(f"unable to parse engine host `{self.host}`")

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        upgrade: bool = False,
    ) -> Response:
        """Send one request; the response with its body still unread.

        `body` is a JSON value, bytes as they are, or an iterator of bytes, which goes out in chunks.
        ApiError for a status of 400 and above; NoEngine when
        nothing answers."""
        stream: Any = body if hasattr(body, "__next__") else None
        if stream is not None:
            body = None
        payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        # Without a version in the path the engine takes its own newest: no round trip to negotiate one.
        head = [f"{method} {path}{query_string(query or {})} HTTP/1.1", "Host: sampan"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if stream is not None:
            head += ["Content-Type: application/x-tar", "Transfer-Encoding: chunked"]
        elif body is not None and not isinstance(body, bytes):
            head.append("Content-Type: application/json")
        if stream is None and (payload or method in ("POST", "PUT")):
            head.append(f"Content-Length: {len(payload)}")
        head += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else ["Connection: close"]
        sock = self.connect()
        try:
            sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + payload)
            if stream is not None:
                _send_chunks(sock, stream)
            response = Response(sock)
            if response.status >= 400:
                raise ApiError(response.status, _message(response))
        except OSError as err:
            sock.close()
            raise NoEngine(f"error during connect: {err}") from err
        except BaseException:
            sock.close()
            raise
        return response

    def call(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None, **more: Any
    ) -> Any:
        """A request whose whole answer is one JSON document (or nothing: None)."""
        response = self.request(method, path, query, body, **more)
        try:
            return response.json()
        finally:
            response.close()

    def get(self, path: str, **query: object) -> Any:
        return self.call("GET", path, query)


def _send_chunks(sock: socket.socket, pieces: Iterator[bytes]) -> None:
    """A chunked body (RFC 9112). An engine that has answered before its end closes: its answer is what counts."""
    try:
        for piece in pieces:
            if piece:
                sock.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # the response tells why


def _message(response: Response) -> str:
    body = response.read()
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or f"HTTP status {response.status}"
