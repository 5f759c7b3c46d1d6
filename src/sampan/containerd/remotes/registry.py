"""One repository on one registry, by the distribution-spec: authorised requests with retries, manifests, blobs.

`open_repository` finds the endpoint that answers (mirrors first, plain HTTP last and only where allowed). Requests
are tried again on 429 and 5xx and on broken connections, waiting what Retry-After says; a redirect to another
host never carries the Authorization header along.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import aiohttp

from sampan import errors
from sampan.containerd.reachability import DOCUMENT_LIMIT
from sampan.containerd.remotes import auth, wording
from sampan.containerd.remotes.hosts import Endpoint, RegistrySettings, endpoints, is_loopback
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Credentials
from sampan.oci import digest as digests
from sampan.oci import image
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
_RETRIED = frozenset((408, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 10
_LONGEST_WAIT = 60.0
_FIRST_WAIT = 0.25
# Connecting and silence are bounded; a whole download is not.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
_TRANSPORT = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
_ERROR_BODY = 1 << 16


def open_session() -> aiohttp.ClientSession:
    """A session for `open_repository`; the caller's to close. No cookies, no ~/.netrc, bodies as they are."""
    return aiohttp.ClientSession(
        timeout=_TIMEOUT,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=0),
        read_bufsize=1 << 19,
        headers={"User-Agent": "sampan"},
    )


async def open_repository(
    session: aiohttp.ClientSession, settings: RegistrySettings, reference: Reference, credentials: Credentials
) -> Repository:
    """The repository of `reference` on the first endpoint that answers `/v2/`. Unavailable."""
    async for repository in repositories(session, settings, reference, credentials):
        return repository
    raise errors.Unavailable(f"no endpoint for {reference.domain}")


async def repositories(
    session: aiohttp.ClientSession, settings: RegistrySettings, reference: Reference, credentials: Credentials
) -> AsyncIterator[Repository]:
    """The repository on each endpoint that answers `/v2/`, mirrors first.

    Unavailable with Go's words for the last failure when none does; Unauthorized never (that is for the first real
    request)."""
    failure: errors.Error | None = None
    answered = False
    for endpoint in endpoints(settings, reference.domain):
        # A mirror is not the registry the password belongs to.
        own = Credentials() if endpoint.mirror else credentials
        repository = Repository(session, settings, endpoint, reference, own)
        try:
            await repository.ping()
        except errors.Unavailable as error:
            failure = error
            continue
        answered = True
        yield repository
        if not endpoint.mirror:
            return  # the rest are other ways to the same registry
    if failure is not None and not answered:
        raise failure


class Repository:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: RegistrySettings,
        endpoint: Endpoint,
        reference: Reference,
        credentials: Credentials,
    ) -> None:
        self._session = session
        self._settings = settings
        self.endpoint = endpoint
        self.reference = reference
        self._authorizer = auth.Authorizer(settings, endpoint.host, credentials, self._exchange)

    def url(self, rest: str) -> str:
        """Of something in this repository: "manifests/latest"."""
        return f"{self.endpoint.base}/v2/{self.reference.path}/{rest}"

    @property
    def asks(self) -> bool:
        """Whether the host answered `ping` with the question who is there."""
        return self._authorizer.asked

    async def ping(self) -> None:
        """Learn how the host wants to be asked. Unavailable when it cannot be reached or is no registry."""
        url = f"{self.endpoint.base}/v2/"
        try:
            response = await self._send("GET", url, {}, None)
            async with response:
                if response.status == 401:
                    self._authorizer.challenged(auth.challenges(response.headers.getall("WWW-Authenticate", [])))
                elif response.status not in (200, 404):
                    # 404 is left to the request that follows: some registries do not serve the bare path.
                    raise wording.plain_error(await _refusal(response))
        except _TRANSPORT as error:
            raise wording.unreachable("GET", url, error) from error

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        scope: str = "",
        expect: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An authorised request, tried again where that can help; the response, whose status is one of `expect`.

        `body` is bytes, so that it can be sent twice. Refusal for another status, Unavailable for transport."""
        scope = scope or f"repository:{self.reference.path}:pull"
        # Retries end before the response is handed out: what breaks later is the caller's to resume.
        response = await self._answer(method, url, headers or {}, body, scope, expect)
        try:
            yield response
        finally:
            response.release()

    async def _answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, scope: str, expect: tuple[int, ...]
    ) -> aiohttp.ClientResponse:
        wait, authorised_again = _FIRST_WAIT, False
        for left in reversed(range(self._settings.max_attempts)):
            try:
                response = await self._authorised(method, url, headers, body, scope)
                if response.status == 401 and not authorised_again:
                    # The token ran out, or this path is asked for differently than `/v2/`.
                    authorised_again = True
                    self._authorizer.drop(scope)
                    self._authorizer.challenged(auth.challenges(response.headers.getall("WWW-Authenticate", [])))
                    response.release()
                    response = await self._authorised(method, url, headers, body, scope)
                if response.status in expect:
                    return response
                async with response:
                    refused = await _refusal(response)
                if refused.status not in _RETRIED or not left:
                    raise refused
                pause = wait if refused.retry_after is None else refused.retry_after
            except _TRANSPORT as error:
                if not left or isinstance(error, aiohttp.ClientConnectorError):
                    raise wording.unreachable(method, url, error) from error
                pause = wait
            await asyncio.sleep(min(pause, _LONGEST_WAIT))
            wait *= 2
        raise errors.Unavailable(f'{method.capitalize()} "{url}": no attempts are allowed')

    async def _authorised(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, scope: str
    ) -> aiohttp.ClientResponse:
        authorization = await self._authorization(method, url, scope)
        own = {"Authorization": authorization} if authorization else {}
        return await self._send(method, url, {**headers, **own}, body)

    async def _authorization(self, method: str, url: str, scope: str) -> str:
        try:
            return await self._authorizer.header(scope)
        except errors.Unauthorized as error:
            raise errors.Unauthorized(f'{method.capitalize()} "{url}": {error}') from error

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        """One request, redirects followed by hand: not to plain HTTP, and without credentials on another host.

        The response is the caller's to release."""
        sent = dict(headers)
        first = url
        for _ in range(_MAX_REDIRECTS):
            response = await self._session.request(
                method, url, headers=sent, data=body, ssl=self._trust(url), proxy=_proxy(url), allow_redirects=False
            )
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location or method not in ("GET", "HEAD"):
                return response
            response.release()
            target = urljoin(url, location)
            if urlsplit(target).scheme != "https" and self.endpoint.ssl is not None:
                raise errors.Unavailable(f'{method.capitalize()} "{first}": redirected to plain HTTP: {target}')
            if urlsplit(target).netloc != urlsplit(url).netloc:
                sent.pop("Authorization", None)
            url = target
        raise errors.Unavailable(f'{method.capitalize()} "{first}": stopped after {_MAX_REDIRECTS} redirects')

    def _trust(self, url: str) -> ssl.SSLContext | bool:
        """The endpoint's own TLS context for its host, the system's for where it redirects to."""
        if urlsplit(url).netloc == self.endpoint.host and self.endpoint.ssl is not None:
            return self.endpoint.ssl
        return True

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """For the authorizer: a request to a token server, without authorization of ours."""
        try:
            async with await self._send(method, url, headers, body) as response:
                return response.status, await response.content.read(_ERROR_BODY)
        except _TRANSPORT as error:
            raise wording.unreachable(method, url, error) from error

    async def head_manifest(self, wanted: str) -> tuple[str, str, int] | None:
        """(media type, digest, size) of tag or digest `wanted`; None when the answer lacks them. Refusal."""
        async with self.request("HEAD", self.url(f"manifests/{wanted}"), headers={"Accept": ACCEPT}) as response:
            digest = response.headers.get("Docker-Content-Digest", "")
            size = response.headers.get("Content-Length", "")
            if not digests.is_valid(digest) or not size.isdigit():
                return None
            return _media_type(response), digest, int(size)

    async def get_manifest(self, wanted: str) -> tuple[str, bytes]:
        """(media type, bytes) of tag or digest `wanted`. Refusal; DataLoss when a digest's bytes are others."""
        url = self.url(f"manifests/{wanted}")
        async with self.request("GET", url, headers={"Accept": ACCEPT}) as response:
            try:
                body = await _read(response, DOCUMENT_LIMIT)
            except _TRANSPORT as error:
                raise wording.unreachable("GET", url, error) from error
        if ":" in wanted and digests.of(body, wanted.partition(":")[0]) != wanted:
            raise errors.DataLoss(f"manifest verification failed for digest {wanted}")
        return _media_type(response), body

    @asynccontextmanager
    async def get_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """(offset it begins at, the bytes) of a blob: `offset`, or 0 from a server that knows no ranges. Refusal.

        The stream ends early when the connection breaks (transport errors as aiohttp raises them)."""
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        async with self.request("GET", self.url(f"blobs/{digest}"), headers=headers, expect=(200, 206)) as response:
            begins = 0
            if response.status == 206:
                begins = _range_start(response.headers.get("Content-Range", ""), offset)
            yield begins, _pieces(response)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while piece := await response.content.readany():
        yield piece


def _range_start(header: str, asked: int) -> int:
    """The first byte of "bytes 100-199/200"; what was asked for when the server does not say."""
    start = header.removeprefix("bytes").strip().partition("-")[0]
    return int(start) if start.isdigit() else asked


def _media_type(response: aiohttp.ClientResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for piece in _pieces(response):
        body += piece
        if len(body) > limit:
            raise errors.InvalidArgument(f"the registry's answer is larger than {limit} bytes")
    return bytes(body)


async def _refusal(response: aiohttp.ClientResponse) -> Refusal:
    body = await response.content.read(_ERROR_BODY)
    found = auth.challenges(response.headers.getall("WWW-Authenticate", []))
    return wording.refusal(response.status, body, found, retry_after(response.headers.get("Retry-After", "")))


def retry_after(header: str) -> float | None:
    """Seconds to wait: a number or an HTTP date (RFC 9110, 10.2.3); None for neither."""
    if header.isdigit():
        return float(header)
    parsed = email.utils.parsedate_tz(header) if header else None
    return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - time.time())


def _proxy(url: str) -> str | None:
    """From HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as docker's daemon reads them."""
    parts = urlsplit(url)
    if is_loopback(parts.netloc.rpartition("@")[2]):
        return None
    proxies = urllib.request.getproxies_environment()
    if not proxies or urllib.request.proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme)
