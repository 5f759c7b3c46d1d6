"""One repository by the distribution-spec: manifests, blobs and referrers, from whichever of its hosts has them.

    async with Client(settings) as client:
        repository = open_repository(client, reference, credentials)
        media_type, data = await repository.get_manifest("latest")

The hosts (mirrors first, see `hosts.py`) are asked in turn: whatever one of them fails with, the next one is asked, and
what the last one says is told. A host that broke off a blob, or gave other bytes than the digest says, is asked last
from then on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sampan import errors
from sampan.containerd.reachability import DOCUMENT_LIMIT
from sampan.containerd.remotes.auth import Lookup
from sampan.containerd.remotes.client import Client, Host, in_time
from sampan.containerd.remotes.hosts import endpoints
from sampan.containerd.remotes.hosts_file import PULL, PUSH, RESOLVE
from sampan.containerd.remotes.late import aiohttp, transport_errors
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Credentials
from sampan.oci import digest as digests
from sampan.oci import image
from sampan.oci.image import Descriptor, Index
from sampan.oci.reference import Reference

ACCEPT = ", ".join(
    (
        image.MEDIA_OCI_INDEX,
        image.MEDIA_OCI_MANIFEST,
        image.MEDIA_DOCKER_INDEX,
        image.MEDIA_DOCKER_MANIFEST,
        "*/*",
    )
)
# For a document of at most 4 MiB; blobs may take any time as long as bytes come.
_DOCUMENT_TIME = 60.0
_SCHEMA1 = frozenset(image.MEDIA_DOCKER_SCHEMA1)
_T = TypeVar("_T")


def open_repository(client: Client, reference: Reference, credentials: Credentials | Lookup) -> Repository:
    """No I/O but reading `hosts.toml`. InvalidArgument for an unusable configuration."""
    hosts = [client.host(ways, credentials) for ways in endpoints(client.settings, reference.domain)]
    return Repository(reference, hosts)


class Repository:
    def __init__(self, reference: Reference, hosts: list[Host]) -> None:
        self.reference = reference
        self._hosts = hosts
        self._served: dict[str, Host] = {}
        self._distrusted: dict[str, list[Host]] = {}
        self._scope = f"repository:{reference.path}:pull"

    def url(self, rest: str) -> str:
        """Of something in this repository ("manifests/latest") on the host that is asked first."""
        return self._hosts[0].url(f"{self.reference.path}/{rest}")

    async def first(self, capability: str, ask: Callable[[Host, int], Awaitable[_T]]) -> _T:
        """What `ask` (a host, the attempts it is worth) gives, from the first host that can and does.

        What the last one fails with; NotFound when no host may be asked."""
        able = [host for host in self._hosts if host.can(capability)]
        for host in able:
            is_last = host is able[-1]
            try:
                await host.ping()
                # Patience is for the last one: before it, asking the next is faster than waiting.
                return await ask(host, 0 if is_last else 1)
            except (Refusal, errors.Error):
                if is_last:
                    raise
        raise errors.NotFound(f"no {capability} hosts for {self.reference.domain}: not found")

    async def pushing(self) -> Host:
        """The host to push to. Unavailable, NotFound."""

        async def itself(host: Host, attempts: int) -> Host:
            return host

        return await self.first(PUSH, itself)

    async def head_manifest(self, wanted: str) -> tuple[str, str, int] | None:
        """(media type, digest, size) of tag or digest `wanted`; None when the answer lacks them. Refusal."""

        async def ask(host: Host, attempts: int) -> tuple[str, str, int] | None:
            url = host.url(f"{self.reference.path}/manifests/{wanted}")
            async with host.request(
                "HEAD", url, scope=self._scope, headers={"Accept": ACCEPT}, attempts=attempts
            ) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                size = response.headers.get("Content-Length", "")
                if not digests.is_valid(digest) or not size.isdecimal():
                    return None
                return _media_type(response), digest, int(size)

        return await self.first(RESOLVE, ask)

    async def get_manifest(self, wanted: str) -> tuple[str, bytes]:
        """(media type, bytes) of tag or digest `wanted`. Refusal; DataLoss when a digest's bytes are others."""
        is_digest = ":" in wanted

        async def ask(host: Host, attempts: int) -> tuple[str, bytes]:
            url = host.url(f"{self.reference.path}/manifests/{wanted}")
            media_type, body = await self._document(host, url, {"Accept": ACCEPT}, DOCUMENT_LIMIT, attempts)
            if is_digest and digests.of(body, wanted.partition(":")[0]) != wanted:
                raise errors.DataLoss(f"manifest verification failed for digest {wanted}")
            return media_type, body

        return await self.first(PULL if is_digest else RESOLVE, ask)

    async def get_config(self, blob: Descriptor) -> bytes:
        """A blob that is small: an image's configuration. Refusal; InvalidArgument (too large), DataLoss (digest)."""
        if blob.size > DOCUMENT_LIMIT:
            raise errors.InvalidArgument(f"image config is larger than {DOCUMENT_LIMIT} bytes")

        async def ask(host: Host, attempts: int) -> bytes:
            url = host.url(f"{self.reference.path}/blobs/{blob.digest}")
            _, body = await self._document(host, url, {"Accept-Encoding": "identity"}, blob.size, attempts)
            if digests.of(body, blob.digest.partition(":")[0]) != blob.digest:
                raise errors.DataLoss(f"image config verification failed for digest {blob.digest}")
            return body

        return await self.first(PULL, ask)

    async def referrers(self, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """The manifests whose `subject` is `digest`: by the referrers API, and where a registry has none by the tag
        that stands for it (distribution-spec, "Listing Referrers" and "Referrers Tag Schema"). Refusal."""

        async def ask(host: Host, attempts: int) -> list[Descriptor]:
            query = {"artifactType": artifact_type} if artifact_type else {}
            places = (
                host.url(f"{self.reference.path}/referrers/{digest}", query),
                host.url(f"{self.reference.path}/manifests/{referrers_tag(digest)}"),
            )
            for url in places:
                try:
                    _, body = await self._document(
                        host, url, {"Accept": image.MEDIA_OCI_INDEX}, DOCUMENT_LIMIT, attempts
                    )
                except Refusal as refused:
                    if refused.status != 404:
                        raise
                    continue
                found = image.parse(body)
                return list(found.manifests) if isinstance(found, Index) else []
            return []

        found = await self.first(PULL, ask)
        # A registry may leave the filtering to us.
        return [one for one in found if artifact_type in ("", one.artifact_type)]

    @asynccontextmanager
    async def get_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """(offset it begins at, the bytes) of a blob: `offset`, or 0 from a server that knows no ranges. Refusal.

        The stream ends early when the connection breaks (transport errors as aiohttp raises them)."""
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"

        async def ask(host: Host, attempts: int) -> tuple[Host, aiohttp.ClientResponse, int]:
            url = host.url(f"{self.reference.path}/blobs/{digest}")
            response = await host.answer("GET", url, headers, None, self._scope, (200, 206, 416), attempts)
            begins = 0
            if response.status == 206:
                begins = _range_start(response.headers.get("Content-Range", ""), offset)
            if response.status == 416 or begins > offset:
                # It has less than was promised, or something else than was asked for: the whole blob will show.
                response.release()
                whole = {name: value for name, value in headers.items() if name != "Range"}
                response = await host.answer("GET", url, whole, None, self._scope, (200,), attempts)
                begins = 0
            return host, response, begins

        host, response, begins = await self.first(PULL, ask)
        self._served[digest] = host
        try:
            yield begins, _pieces(response)
        except transport_errors():
            self._demote(host)
            raise
        finally:
            response.release()

    def distrust(self, digest: str) -> bool:
        """The bytes of `digest` were wrong. Whoever gave them is not asked for it again, if anybody else may be."""
        host = self._served.pop(digest, None)
        distrusted = self._distrusted.setdefault(digest, [])
        if host is None or host in distrusted:
            return False
        distrusted.append(host)
        self._demote(host)
        return any(one.can(PULL) and one not in distrusted for one in self._hosts)

    def _demote(self, host: Host) -> None:
        self._hosts = [*(one for one in self._hosts if one is not host), host]

    async def _document(
        self, host: Host, url: str, headers: dict[str, str], limit: int, attempts: int
    ) -> tuple[str, bytes]:
        """(media type, body) of a GET, asked again when it breaks off. Refusal; InvalidArgument above `limit`."""
        tries = 2 if attempts != 1 else 1
        for left in reversed(range(tries)):
            async with host.request("GET", url, scope=self._scope, headers=headers, attempts=attempts) as response:
                try:
                    return _media_type(response), await in_time(_DOCUMENT_TIME, url, lambda: _read(response, limit))
                except errors.Unavailable:
                    if not left:
                        raise
        raise AssertionError("a loop that ends")


def known_type(media_type: str) -> str:
    """A server may call everything octet-stream or JSON: only a type that says which document it is counts."""
    return media_type if media_type in image.INDEX_TYPES | image.MANIFEST_TYPES | _SCHEMA1 else ""


def referrers_tag(digest: str) -> str:
    """The tag under which a registry without the referrers API keeps what refers to `digest`."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while piece := await response.content.readany():
        yield piece


def _range_start(header: str, asked: int) -> int:
    """The first byte of "bytes 100-199/200"; what was asked for when the server does not say."""
    start = header.removeprefix("bytes").strip().partition("-")[0]
    return int(start) if start.isdecimal() and len(start) < 20 else asked


def _media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for piece in _pieces(response):
        body += piece
        if len(body) > limit:
            raise errors.InvalidArgument(f"the registry's answer is larger than {limit} bytes")
    return bytes(body)
