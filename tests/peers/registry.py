"""Real registries on the machine's own loopback: plain, with TLS, with tokens, and one whose transfers break."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.peers.machine import REGISTRY_ADDRESS, REGISTRY_NAME, Machine
from tests.peers.waiting import eventually

PLAIN_PORT = 5000
TLS_PORT = 5443
TOKEN_PORT = 5444
TOKEN_SERVER_PORT = 5445
FAULTY_PORT = 5001
USER, PASSWORD = "alice", "open sesame"


class Authority:
    """A certificate authority of our own, made by the openssl command, and one server certificate by it."""

    def __init__(self, scratch: str, *addresses: str) -> None:
        """`addresses`: what the server's certificate is for besides REGISTRY_NAME."""
        self.certificate, self.key = f"{scratch}/ca.pem", f"{scratch}/ca.key"
        self.server_certificate, self.server_key = f"{scratch}/server.pem", f"{scratch}/server.key"
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=sampan tests",
                 "-keyout", self.key, "-out", self.certificate)  # fmt: skip
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={REGISTRY_NAME}",
                 "-keyout", self.server_key, "-out", f"{scratch}/server.csr")  # fmt: skip
        with open(f"{scratch}/server.ext", "w") as file:
            more = "".join(f",IP:{address}" for address in addresses)
            file.write(f"subjectAltName=DNS:{REGISTRY_NAME},IP:{REGISTRY_ADDRESS}{more}\n")
        _openssl("x509", "-req", "-days", "2", "-in", f"{scratch}/server.csr", "-CA", self.certificate,
                 "-CAkey", self.key, "-CAcreateserial", "-extfile", f"{scratch}/server.ext",
                 "-out", self.server_certificate)  # fmt: skip

    def sign(self, message: bytes) -> bytes:
        """RS256 (RSASSA-PKCS1-v1_5 with SHA-256) of `message` by the authority's own key."""
        return _openssl("dgst", "-sha256", "-sign", self.key, input=message)

    def der(self) -> bytes:
        return _openssl("x509", "-in", self.certificate, "-outform", "DER")


def _openssl(*arguments: str, input: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *arguments], input=input, capture_output=True, check=True).stdout


class Registry:
    """`docker-registry serve` on `address:port` of the machine, over the storage directory `storage`."""

    def __init__(
        self,
        machine: Machine,
        scratch: str,
        storage: str,
        *,
        address: str = "127.0.0.1",
        port: int = PLAIN_PORT,
        authority: Authority | None = None,
        realm: str = "",
        wants_certificate: bool = False,
    ) -> None:
        """`wants_certificate`: only clients with a certificate by the authority are let in."""
        self.address, self.port, self._machine = address, port, machine
        self.host = f"{REGISTRY_NAME if authority else address}:{port}"
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": storage}, "delete": {"enabled": True}},
            "http": {"addr": f"{address}:{port}", "secret": "sampan tests"},
        }
        if authority:
            settings["http"]["tls"] = {"certificate": authority.server_certificate, "key": authority.server_key}
        if authority and wants_certificate:
            settings["http"]["tls"]["clientcas"] = [authority.certificate]
        if authority and realm:
            settings["auth"] = {
                "token": {"realm": realm, "service": "registry", "issuer": "sampan tests",
                          "rootcertbundle": authority.certificate}
            }  # fmt: skip
        config = f"{scratch}/registry-{port}.yml"
        with open(config, "w") as file:
            json.dump(settings, file)  # JSON is YAML
        self._log = open(f"{scratch}/registry-{port}.log", "wb")  # noqa: SIM115
        self._process = machine.spawn(["docker-registry", "serve", config], log=self._log)
        eventually(self._answers, what=f"the registry listens on {address}:{port}")

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"the registry on {self.port} ended: see {self._log.name}"
        with self._machine.network():
            try:
                socket.create_connection((self.address, self.port), timeout=1).close()
            except OSError:
                return False
        return True

    def push(self, layout: str, name: str, *, every_platform: bool = False) -> str:
        """Pushes an OCI layout's `latest` by skopeo (this registry must be a plain one); yields `host/name`."""
        reference = f"{self.host}/{name}"
        self._machine.run(
            ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *(["--all"] if every_platform else []),
             "--preserve-digests", f"oci:{layout}:latest", f"docker://{reference}"]
        )  # fmt: skip
        return reference

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._log.close()


class _Server:
    """A threaded HTTP server of ours that listens in the machine's network."""

    def __init__(self, machine: Machine, address: str, port: int) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with machine.network():
            self._http = ThreadingHTTPServer((address, port), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class TokenServer(_Server):
    """The token endpoint of docker/distribution's `auth: token`: JWTs for `USER`, nothing for the anonymous.

    https://distribution.github.io/distribution/spec/auth/jwt/
    """

    def __init__(
        self, machine: Machine, authority: Authority, port: int = TOKEN_SERVER_PORT, grants: tuple[str, ...] = ("pull",)
    ) -> None:
        self._authority, self._grants = authority, grants
        self.realm = f"http://127.0.0.1:{port}/token"
        self.asked: list[dict[str, list[str]]] = []
        super().__init__(machine, "127.0.0.1", port)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(request.path).query)
        self.asked.append(query)
        credential = request.headers.get("Authorization", "")
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if credential and credential != wanted:
            body = b'{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}'
            _reply(request, 401, body)
            return
        access = []
        for scope in query.get("scope", []) if credential else []:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": [a for a in actions.split(",") if a in self._grants]})
        token = self._token(access)
        _reply(request, 200, json.dumps({"token": token, "access_token": token, "expires_in": 300}).encode())

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(self._authority.der()).decode()]}
        claims = {"iss": "sampan tests", "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 10,
                  "iat": now, "jti": os.urandom(8).hex(), "access": access}  # fmt: skip
        message = b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return (message + b"." + _base64url(self._authority.sign(message))).decode()


class FaultyFront(_Server):
    """A registry front that breaks the transfers it is told to: see `faults`, a table digest → kind.

    cut      the connection ends after half the bytes, the first time
    corrupt  one byte is another one, every time; of a JSON document one that leaves it a JSON document
    """

    def __init__(self, machine: Machine, behind: Registry, port: int = FAULTY_PORT) -> None:
        self._machine, self._behind = machine, behind
        self.host = f"127.0.0.1:{port}"
        self.faults: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        super().__init__(machine, "127.0.0.1", port)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        digest = urlsplit(request.path).path.rsplit("/", 1)[-1]
        wanted = request.headers.get("Range", "")
        with self._lock:
            self.requests.append((request.path, wanted))
            fault = self.faults.get(digest, "") if request.command == "GET" else ""
            if fault == "cut":
                del self.faults[digest]
        with self._machine.network():
            upstream = http.client.HTTPConnection(self._behind.address, self._behind.port, timeout=20)
            upstream.connect()
        upstream.putrequest(request.command, request.path, skip_accept_encoding=True)
        for name, value in request.headers.items():  # docker repeats Accept: each line counts
            if name.lower() in ("accept", "range", "user-agent"):
                upstream.putheader(name, value)
        upstream.endheaders()
        reply = upstream.getresponse()
        body = reply.read()
        upstream.close()
        if fault == "corrupt":
            body = body.replace(b"\n", b" ", 1) if body[:1] == b"{" else body[:-1] + bytes([body[-1] ^ 1])
        request.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("date", "server", "content-length", "connection"):
                request.send_header(name, value)
        request.send_header("Content-Length", reply.getheader("Content-Length") or str(len(body)))
        request.end_headers()
        if fault == "cut":
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
        elif request.command == "GET":
            request.wfile.write(body)


def _reply(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
