"""A registry in the test's own event loop that does what it is told: faults, authentication, redirects, TLS."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.peers import images as made

from sampan.containerd.core import ContainerCore, open_core
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.services import Credentials, Image, Platform, Progress


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class FakeRegistry:
    """distribution-spec enough for pull and push. `requests` is what was asked (`raw`: its target as it came),
    `hook` may answer first."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.raw: list[str] = []
        self.hook: Callable[[web.Request], Any] | None = None
        self.uploads: dict[str, bytearray] = {}
        self.has_referrers = False
        self.host = ""

    @asynccontextmanager
    async def serving(
        self, address: str = "127.0.0.1", context: ssl.SSLContext | None = None
    ) -> AsyncIterator[FakeRegistry]:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{tail:.*}", self.answer)
        runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, address, 0, ssl_context=context)
        await site.start()
        self.host = f"{address}:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def add(self, name: str, image: made.Image, *others: made.Image, tag: str = "latest") -> str:
        """Make `name:tag` point at the image, or at an index of them all; the target's digest."""
        for one in (image, *others):
            for blob in one.blobs:
                self.blobs[blob.digest] = blob.content
            self.manifests[f"{name}@{one.manifest.digest}"] = (one.manifest.media_type, one.manifest.content)
        top = image.manifest
        if others:
            members = [one.manifest.descriptor(platform={"os": "linux", "architecture": one.config["architecture"]})
                       for one in (image, *others)]  # fmt: skip
            kind = "application/vnd.oci.image.index.v1+json"
            document = {"schemaVersion": 2, "mediaType": kind, "manifests": members}
            top = made.Blob(kind, json.dumps(document).encode())
        self.manifests[f"{name}@{top.digest}"] = self.manifests[f"{name}:{tag}"] = (top.media_type, top.content)
        return top.digest

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.raw.append(request.raw_path)
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if self.hook is not None:
            answer = self.hook(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer is not None:
                return answer
        return await self.serve(request)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/v2/":
            return web.json_response({})
        if "/blobs/uploads/" in path:
            return await self.upload(request)
        name, kind, wanted = path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "referrers":
            return self.referrers(name, wanted)
        if kind == "manifests" and request.method == "PUT":
            body = await request.read()
            digest = sha(body)
            self.manifests[f"{name}@{digest}"] = self.manifests[f"{name}:{wanted}"] = (request.content_type, body)
            subject = json.loads(body).get("subject")
            known = {"OCI-Subject": subject["digest"]} if subject and self.has_referrers else {}
            return web.Response(status=201, headers={"Docker-Content-Digest": digest, **known})
        if kind == "manifests":
            found = self.manifests.get(f"{name}@{wanted}" if ":" in wanted else f"{name}:{wanted}")
            if found is None:
                return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            headers = {"Docker-Content-Digest": sha(found[1]), "Content-Type": found[0]}
            return web.Response(body=found[1], headers=headers)
        if wanted not in self.blobs:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        data = self.blobs[wanted]
        if wanted_range := request.headers.get("Range"):
            start = int(wanted_range.removeprefix("bytes=").rstrip("-"))
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return web.Response(status=206, body=data[start:], headers=headers)
        return web.Response(body=data)

    def referrers(self, name: str, digest: str) -> web.Response:
        if not self.has_referrers:
            return error(404, "UNSUPPORTED", "unsupported")
        found = []
        for key, (kind, body) in self.manifests.items():
            document = json.loads(body)
            if key.startswith(f"{name}@") and (document.get("subject") or {}).get("digest") == digest:
                found.append({"mediaType": kind, "digest": sha(body), "size": len(body),
                              "artifactType": document.get("artifactType", "")})  # fmt: skip
        kind = "application/vnd.oci.image.index.v1+json"
        return web.json_response({"schemaVersion": 2, "mediaType": kind, "manifests": found}, content_type=kind)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            mounted = request.query.get("mount", "")
            if mounted in self.blobs:
                return web.Response(status=201, headers={"Location": f"/v2/x/blobs/{mounted}"})
            number = str(len(self.uploads))
            self.uploads[number] = bytearray()
            return web.Response(status=202, headers={"Location": f"{request.path}{number}?state=x"})
        number = request.path.rsplit("/", 1)[1]
        if number not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        data = self.uploads[number]
        if request.method == "GET":
            headers = {"Location": request.path + "?state=z", "Range": f"0-{max(len(data) - 1, 0)}"}
            return web.Response(status=204, headers=headers)
        data += await request.read()
        if request.method == "PATCH":
            return web.Response(status=202, headers={"Location": request.path + "?state=y"})
        if sha(bytes(data)) != request.query["digest"]:
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs[request.query["digest"]] = bytes(data)
        return web.Response(status=201)

    def asked(self, word: str) -> list[tuple[str, str, dict[str, str]]]:
        return [one for one in self.requests if word in one[1]]


def error(status: int, code: str, message: str, **headers: str) -> web.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status, headers=headers)


async def cut(request: web.Request, data: bytes, whole: int) -> web.StreamResponse:
    """Announce `whole` bytes, send `data`, drop the connection."""
    response = web.StreamResponse(headers={"Content-Length": str(whole)})
    await response.prepare(request)
    await response.write(data)
    assert request.transport is not None
    request.transport.abort()
    return response


def basic_user(request: web.Request) -> tuple[str, str]:
    word, _, value = request.headers.get("Authorization", "").partition(" ")
    if word != "Basic":
        return "", ""
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user, password


class Puller:
    """A core on a directory, and pulls with what was reported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress: list[Progress] = []
        self.core: ContainerCore

    @asynccontextmanager
    async def open(self, snapshotter: str = "", **settings: Any) -> AsyncIterator[Puller]:
        given = RegistrySettings(**{"hosts_directories": (f"{self.path}/certs.d",), **settings})
        self.core = await open_core(f"{self.path}/root", tasks=None, registries=given, snapshotter=snapshotter)  # type: ignore[arg-type]
        try:
            yield self
        finally:
            await self.core.close()

    async def pull(self, reference: str, platform: Platform | None = None, **credentials: str) -> Image:
        self.progress = []
        return await self.core.transfer.pull(
            reference, platform=platform, credentials=Credentials(**credentials), progress=self.progress.append
        )

    def statuses(self, id: str) -> list[str]:
        """The statuses of one line, each once in a row."""
        found: list[str] = []
        for one in self.progress:
            if one.id == id and found[-1:] != [one.status]:
                found.append(one.status)
        return found

    def lines(self) -> list[str]:
        return [one.status for one in self.progress if not one.id]

    def tip(self) -> str:
        """The newest committed snapshot that none stands on: layers are numbered as their downloads end."""
        found = [info for info in self.core.snapshots.walk() if info.kind == "committed"]
        below = {info.parent for info in found}
        return [info.name for info in found if info.name not in below][-1]

    def top(self) -> Path:
        """The upper directory of the tip."""
        return Path(self.core.snapshots.upper(self.tip()))


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
