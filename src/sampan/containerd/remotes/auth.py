"""Authorization towards a registry: challenges, and the tokens or headers that answer them.

Sources: RFC 7235 (challenges), distribution's token authentication (GET with Basic or anonymous; POST oauth2 with a
refresh token), RFC 7617 (Basic).
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping
from urllib.parse import urlencode, urlsplit

from sampan import errors
from sampan.containerd.services import Credentials

Challenge = tuple[str, Mapping[str, str]]
# (method, url, headers, form body) -> (status, body)
Exchange = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[tuple[int, bytes]]]
# Credentials for a host, asked for when it wants some: out of a file, or from the client that is waiting.
Lookup = Callable[[str], Awaitable[Credentials]]

_PARAMETER = re.compile(r'\s*([A-Za-z0-9_.~!#$&\'*+^`|%-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))\s*(?:,|$)')
_SCHEME = re.compile(r"\s*([A-Za-z0-9_-]+)(?:\s+|$)")
# Used when the token server does not say: distribution's minimum.
_TOKEN_LIFETIME = 60.0


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """The WWW-Authenticate headers as [(scheme in lower case, parameters)]; what cannot be read is left out."""
    found: list[Challenge] = []
    for header in headers:
        scheme = _SCHEME.match(header)
        if scheme is None:
            continue
        parameters = {}
        at = scheme.end()
        while match := _PARAMETER.match(header, at):
            quoted = match[2]
            parameters[match[1].lower()] = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            at = match.end()
        found.append((scheme[1].lower(), parameters))
    return found


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Authorizer:
    """Answers the challenges of one registry host with one set of credentials; remembers tokens by scope.

    `may_be_plain` tells of a token server's host:port whether a password may go there by plain HTTP."""

    def __init__(
        self, host: str, credentials: Credentials | Lookup, exchange: Exchange, may_be_plain: Callable[[str], bool]
    ) -> None:
        self._host = host
        self._given = credentials
        self._exchange = exchange
        self._may_be_plain = may_be_plain
        self._challenges: list[Challenge] = []
        self._tokens: dict[str, tuple[str, float]] = {}
        # Layers of one image ask at the same time: one of them fetches the token.
        self._fetching: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def challenged(self, found: list[Challenge]) -> None:
        """What the host last asked for; tokens given for another question are forgotten."""
        if found != self._challenges:
            self._challenges = found
            self._tokens.clear()

    def drop(self, scope: str) -> None:
        """The host refused what `header` gave for `scope`."""
        self._tokens.pop(scope, None)

    async def header(self, scope: str) -> str:
        """The Authorization header for `scope` ("repository:NAME:pull"), "" when none is asked for.

        Unauthorized, worded as docker's; what looking up the credentials raises."""
        for scheme, parameters in self._challenges:
            if scheme == "bearer":
                return "Bearer " + await self._bearer(parameters, scope)
            if scheme == "basic":
                credentials = await self._credentials()
                if not credentials.username:
                    raise errors.Unauthorized("no basic auth credentials")
                return basic(credentials.username, credentials.password)
        return ""

    async def _credentials(self) -> Credentials:
        if not isinstance(self._given, Credentials):
            self._given = await self._given(self._host)
        return self._given

    async def _bearer(self, parameters: Mapping[str, str], scope: str) -> str:
        credentials = await self._credentials()
        if credentials.registry_token:
            return credentials.registry_token
        lock = self._fetching.setdefault(scope, asyncio.Lock())
        async with lock:
            token, expires = self._tokens.get(scope, ("", 0.0))
            if token and time.monotonic() < expires:
                return token
            realm = parameters.get("realm", "")
            url = urlsplit(realm)
            if url.scheme not in ("http", "https") or not url.netloc:
                raise errors.Unauthorized("no supported auth challenge: invalid realm")
            if url.scheme == "http" and not self._may_be_plain(url.netloc.rpartition("@")[2]):
                # A password must not cross the network in the clear because a registry says so.
                raise errors.Unauthorized(f'refusing to fetch a token from "{realm}": plain HTTP')
            token, lifetime = await self._fetch(credentials, realm, parameters.get("service", ""), scope)
            # A little early, so that it does not run out on the way.
            self._tokens[scope] = (token, time.monotonic() + max(lifetime - 10.0, 5.0))
            return token

    async def _fetch(self, credentials: Credentials, realm: str, service: str, scope: str) -> tuple[str, float]:
        headers: dict[str, str] = {}
        if credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token,
                    "service": service, "client_id": "docker", "scope": scope}  # fmt: skip
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            status, body = await self._exchange("POST", realm, headers, urlencode(form).encode())
        else:
            query = [("service", service)] if service else []
            query += [("scope", one) for one in scope.split(" ") if one]
            if credentials.username:
                query += [("account", credentials.username)]
                headers["Authorization"] = basic(credentials.username, credentials.password)
            joiner = "&" if urlsplit(realm).query else "?"
            status, body = await self._exchange("GET", f"{realm}{joiner}{urlencode(query)}", headers, None)
        if status != 200:
            raise errors.Unauthorized(_token_refusal(status, body))
        try:
            document = json.loads(body)
            token = str(document.get("token") or document["access_token"])
            if not (token.isascii() and token.isprintable()):
                raise ValueError("a token that no header can carry")
            return token, float(document.get("expires_in") or _TOKEN_LIFETIME)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise errors.Unauthorized("authorization server did not include a token in the response") from error


def _token_refusal(status: int, body: bytes) -> str:
    try:
        document = json.loads(body)
        if "errors" in document:
            first = document["errors"][0]
            return f"{str(first['code']).lower().replace('_', ' ')}: {first['message']}"
        return f"unauthorized: {document['details']}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "unauthorized: authentication required" if status == 401 else f"token server answered {status}"
