"""HTTP towards registries: authorised requests with retries to one host, and what is kept between pulls.

A `Client` keeps connections, the way in which each host answered (HTTPS or, where allowed, plain HTTP), its challenge
and the tokens it took, so that asking for a present image again is one request. Requests are tried again on 429 and
5xx and on broken connections, waiting what Retry-After says; a redirect to another host carries neither the
Authorization header nor any of `hosts.toml` along.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import quote, urlencode, urljoin, urlsplit

from sampan import errors
from sampan.containerd.remotes import auth, credentials, wording
from sampan.containerd.remotes.auth import Authorizer, Lookup
from sampan.containerd.remotes.hosts import Endpoint, RegistrySettings, Ways, is_insecure, is_loopback
from sampan.containerd.remotes.late import aiohttp, transport_errors, yarl
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Credentials

_RETRIED = frozenset((408, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 10
_LONGEST_WAIT = 60.0
_FIRST_WAIT = 0.25
# Silence is bounded; a whole download is not.
_SILENCE = 60.0
# Of idle connections: a registry's own limit is a minute or more.
_KEEP_ALIVE = 75.0
_KEPT_HOSTS = 64
# Of a token or an error: bytes and seconds.
_ERROR_BODY, _SHORT_TIME = 1 << 16, 60.0


class Client:
    """Close it. One for each set of settings; used on one loop."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._hosts: dict[tuple[Ways, Credentials | Lookup], Host] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """No cookies, no ~/.netrc, bodies as they are."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_read=_SILENCE),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                read_bufsize=1 << 19,
                headers={"User-Agent": "sampan"},
            )
        return self._session

    def host(self, ways: Ways, given: Credentials | Lookup) -> Host:
        """The host behind `ways`, with what it is known to want already.

        A mirror is not who the password is for: it gets what the credentials file has for its own name."""
        shown: Credentials | Lookup = Credentials() if ways[0].mirror else given
        if shown == Credentials() and self.settings.credentials_file:
            shown = partial(credentials.lookup, self.settings.credentials_file)
            # A file may change, and a function says nothing of what it will answer: not kept.
            return Host(self, ways, shown)
        key = (ways, shown)
        found = self._hosts.pop(key, None)
        if found is None:
            if len(self._hosts) >= _KEPT_HOSTS:
                del self._hosts[next(iter(self._hosts))]
            found = Host(self, ways, shown)
        self._hosts[key] = found
        return found


class Host:
    """One host of a registry, by the first of its ways that answers."""

    def __init__(self, client: Client, ways: Ways, given: Credentials | Lookup) -> None:
        self._client = client
        self._ways = ways
        self._answered = False
        self._pinging = asyncio.Lock()
        self.endpoint: Endpoint = ways[0]
        self._authorizer = Authorizer(ways[0].host, given, self._exchange, self._may_be_plain)

    def url(self, rest: str, query: Mapping[str, str] | None = None) -> str:
        """Of something below the API's root: "NAME/manifests/latest"."""
        asked = {**(query or {}), **({"ns": self.endpoint.namespace} if self.endpoint.namespace else {})}
        return f"{self.endpoint.api}/{rest}" + (f"?{urlencode(asked)}" if asked else "")

    def can(self, capability: str) -> bool:
        return capability in self.endpoint.capabilities

    async def ping(self) -> None:
        """Learn how the host wants to be asked, unless it is known. Unavailable when it cannot be reached or is no
        registry, with Go's words for the last way tried."""
        async with self._pinging:
            if self._answered:
                return
            for way in self._ways:
                self.endpoint = way
                try:
                    await self._ask_root(f"{way.api}/")
                    self._answered = True
                    return
                except errors.Unavailable:
                    if way is self._ways[-1]:
                        raise

    async def _ask_root(self, url: str) -> None:
        wait = _FIRST_WAIT
        for left in reversed(range(self._client.settings.max_attempts)):
            try:
                async with await self._send("GET", url, {}, None) as response:
                    if response.status == 401:
                        self._authorizer.challenged(auth.challenges(response.headers.getall("WWW-Authenticate", [])))
                    # 404 is left to the request that follows: some registries do not serve the bare path.
                    if response.status in (200, 401, 404):
                        return
                    refused = await _refusal(response)
            except transport_errors() as error:
                raise wording.unreachable("GET", url, error) from error
            if refused.status not in _RETRIED or not left:
                raise wording.plain_error(refused)
            pause = wait if refused.retry_after is None else refused.retry_after
            await asyncio.sleep(min(pause, _LONGEST_WAIT))
            wait *= 2

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expect: tuple[int, ...] = (200,),
        attempts: int = 0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An authorised request, tried again where that can help; the response, whose status is one of `expect`.

        `body` is bytes, so that it can be sent twice; `attempts` 0 is the settings' number. Refusal for another
        status, Unavailable for transport."""
        response = await self.answer(method, url, headers or {}, body, scope, expect, attempts)
        try:
            yield response
        finally:
            response.release()

    async def answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        scope: str,
        expect: tuple[int, ...],
        attempts: int,
    ) -> aiohttp.ClientResponse:
        """`request` whose response is the caller's to release. Retries end before it is handed out: what breaks later
        is the caller's to resume."""
        wait, authorised_again = _FIRST_WAIT, False
        for left in reversed(range(attempts or self._client.settings.max_attempts)):
            try:
                response = await self._authorised(method, url, headers, body, scope)
                if response.status == 401 and not authorised_again:
                    # The token ran out, or this path is asked for differently than the API's root.
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
            except transport_errors() as error:
                if not left or isinstance(error, aiohttp.ClientConnectorError):
                    self._answered = False  # perhaps it moved, or speaks TLS now
                    raise wording.unreachable(method, url, error) from error
                pause = wait
            await asyncio.sleep(min(pause, _LONGEST_WAIT))
            wait *= 2
        raise errors.Unavailable(f'{method.capitalize()} "{url}": no attempts are allowed')

    async def _authorised(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, scope: str
    ) -> aiohttp.ClientResponse:
        try:
            authorization = await self._authorizer.header(scope)
        except errors.Unauthorized as error:
            raise errors.Unauthorized(f'{method.capitalize()} "{url}": {error}') from error
        own = {"Authorization": authorization} if authorization else {}
        return await self._send(method, url, {**headers, **own}, body)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, token: bool = False
    ) -> aiohttp.ClientResponse:
        """One request, redirects followed by hand: not to plain HTTP, and without credentials on another host.

        `token`: to a token server, which is none of the registry's hosts. The response is the caller's to release."""
        sent = list(headers.items())
        if not token:
            # A configured Authorization gives way to the one that a challenge asked for.
            own = {name.lower() for name in headers}
            sent += [one for one in self.endpoint.headers if one[0].lower() not in own]
        first = url
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.endpoint.dial_timeout, sock_read=_SILENCE)
        for _ in range(_MAX_REDIRECTS):
            response = await self._client.session.request(
                method,
                yarl.URL(url, encoded=True),  # as it is: blob storage signs its addresses, escapes and all
                headers=sent,
                data=body,
                ssl=self._trust(url),
                proxy=_proxy(url),
                allow_redirects=False,
                timeout=timeout,
            )
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location or method not in ("GET", "HEAD"):
                return response
            response.release()
            target = resolved(url, location)
            if urlsplit(target).scheme != "https" and self.endpoint.trust is not None:
                raise errors.Unavailable(f'{method.capitalize()} "{first}": redirected to plain HTTP: {target}')
            if urlsplit(target).netloc != urlsplit(url).netloc:
                kept = {name.lower() for name in headers} - {"authorization"}
                sent = [one for one in sent if one[0].lower() in kept]
            url = target
        raise errors.Unavailable(f'{method.capitalize()} "{first}": stopped after {_MAX_REDIRECTS} redirects')

    def _trust(self, url: str) -> ssl.SSLContext | bool:
        """The endpoint's own TLS context for its host, the system's for where it redirects to."""
        own = self.endpoint.ssl if urlsplit(url).netloc == self.endpoint.host else None
        return own if own is not None else True

    def _may_be_plain(self, token_host: str) -> bool:
        """Whoever lets a registry speak plain HTTP has let its password cross the network already."""
        settings = self._client.settings
        return self.endpoint.trust is None or any(
            is_insecure(settings, host) for host in (self.endpoint.host, token_host)
        )

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        """For the authorizer: a request to a token server, tried again when it is busy."""
        wait = _FIRST_WAIT
        for left in reversed(range(self._client.settings.max_attempts)):
            try:
                async with await self._send(method, url, headers, body, token=True) as response:
                    answer = await _short(response)
                    if response.status not in _RETRIED or not left:
                        return response.status, answer
                    asked = retry_after(response.headers.get("Retry-After", ""))
                    pause = wait if asked is None else asked
            except transport_errors() as error:
                if not left or isinstance(error, aiohttp.ClientConnectorError):
                    raise wording.unreachable(method, url, error) from error
                pause = wait
            await asyncio.sleep(min(pause, _LONGEST_WAIT))
            wait *= 2
        raise errors.Unavailable(f'{method.capitalize()} "{url}": no attempts are allowed')


async def in_time(seconds: float, url: str, work: Callable[[], Awaitable[bytes]]) -> bytes:
    """`work`, which reads a document: a server that sends a byte now and then must not hold a pull for ever."""
    try:
        async with asyncio.timeout(seconds):
            return await work()
    except transport_errors() as error:
        raise wording.unreachable("GET", url, error) from error


async def _short(response: aiohttp.ClientResponse) -> bytes:
    """The body, cut at _ERROR_BODY bytes, however many pieces it comes in; a server that trickles it is given up."""
    body = bytearray()
    async with asyncio.timeout(_SHORT_TIME):
        while len(body) < _ERROR_BODY and (piece := await response.content.readany()):
            body += piece
    return bytes(body[:_ERROR_BODY])


async def _refusal(response: aiohttp.ClientResponse) -> Refusal:
    body = await _short(response)
    found = auth.challenges(response.headers.getall("WWW-Authenticate", []))
    return wording.refusal(response.status, body, found, retry_after(response.headers.get("Retry-After", "")))


def retry_after(header: str) -> float | None:
    """Seconds to wait: a number or an HTTP date (RFC 9110, 10.2.3); None for neither."""
    if header.isdecimal():
        return float(header)
    from email.utils import mktime_tz, parsedate_tz  # `late` says why here

    parsed = parsedate_tz(header) if header else None
    try:
        return None if parsed is None else max(0.0, mktime_tz(parsed) - time.time())
    except (ValueError, OverflowError):
        return None  # a date that no calendar has


def resolved(url: str, location: str) -> str:
    """Where a Location header of an answer from `url` leads, with nothing in it that would end a request line."""
    return quote(urljoin(url, location), safe="".join(map(chr, range(0x21, 0x7F))))


def _proxy(url: str) -> str | None:
    """From HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as docker's daemon reads them."""
    parts = urlsplit(url)
    if is_loopback(parts.netloc.rpartition("@")[2]):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    if not proxies or proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme)
