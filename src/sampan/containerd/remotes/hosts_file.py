"""containerd's `hosts.toml`: the hosts that stand for one registry, in the order they are tried.

    server = "https://registry.example"         # last; without it the registry's own name

    [host."https://mirror.example"]
      capabilities = ["pull", "resolve"]        # and "push"; all three when it is left out
      ca = "mirror.pem"                         # or a list; relative to the file's directory
      client = [["us.cert", "us.key"]]          # or one file with both, or a list of such
      skip_verify = false
      override_path = false                     # whether the URL's path already is the API's root
      dial_timeout = "5s"
      [host."https://mirror.example".header]
        x-custom = "value"                      # or a list

The fields of a host at the top are the server's. Source: containerd docs/hosts.md (1.6 to 2.1).
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sampan import errors
from sampan.containerd.remotes.trust import Trust

PULL, RESOLVE, PUSH = "pull", "resolve", "push"
EVERYTHING = frozenset((PULL, RESOLVE, PUSH))
_FIELDS = frozenset(("capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"))
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One host of the file. `base` is scheme://host, "" for the registry itself; `path` the API's root there.

    `trust.verify` is false for `skip_verify = true` alone; `dial_timeout` in seconds, 0 for the default."""

    base: str
    path: str
    capabilities: frozenset[str]
    trust: Trust
    headers: tuple[tuple[str, str], ...]
    dial_timeout: float


def parse(text: str, directory: str) -> list[HostEntry]:
    """The hosts in the file's order, the server last. InvalidArgument."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise errors.InvalidArgument(f"failed to parse TOML: {error}") from error
    hosts = document.pop("host", {})
    server = document.pop("server", "")
    if not isinstance(hosts, dict) or not all(isinstance(one, dict) for one in hosts.values()):
        raise errors.InvalidArgument("invalid `host` tree")
    if not isinstance(server, str):
        raise errors.InvalidArgument('"server" is not a string')
    entries = [_entry(name, directory, fields) for name, fields in hosts.items()]
    return [*entries, _entry(server, directory, document)]


def _entry(server: str, directory: str, fields: Mapping[str, Any]) -> HostEntry:
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        # A mistyped "ca" or "capabilities" must not silently mean the default.
        raise errors.InvalidArgument(f"unknown field {unknown[0]}")
    base, path = _location(server, _switch(fields, "override_path"))
    return HostEntry(
        base,
        path,
        _capabilities(fields.get("capabilities")),
        Trust(not _switch(fields, "skip_verify"), _authorities(fields, directory), _clients(fields, directory)),
        _headers(fields.get("header")),
        _duration(fields.get("dial_timeout")),
    )


def _location(server: str, override_path: bool) -> tuple[str, str]:
    """(scheme://host, the API's root) of what the file says."""
    if not server:
        return "", "/v2"
    if not server.startswith("http"):
        server = "https://" + server
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise errors.InvalidArgument(f"unable to parse server {server}")
    path = posixpath.normpath(parts.path) if parts.path else ""
    path = "" if path in ("/", ".") else path
    if not override_path and not path.endswith("/v2"):
        path += "/v2"
    return f"{parts.scheme}://{parts.netloc}", path


def _capabilities(given: Any) -> frozenset[str]:
    if given is None or given == []:
        return EVERYTHING
    if not isinstance(given, list):
        raise errors.InvalidArgument('invalid type for "capabilities"')
    for one in given:
        if not isinstance(one, str) or one.lower() not in EVERYTHING:
            raise errors.InvalidArgument(f"unknown capability {one}")
    return frozenset(one.lower() for one in given)


def _authorities(fields: Mapping[str, Any], directory: str) -> tuple[str, ...]:
    given = fields.get("ca", [])
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise errors.InvalidArgument('invalid type for "ca"')
    return tuple(posixpath.join(directory, one) for one in listed)


def _clients(fields: Mapping[str, Any], directory: str) -> tuple[tuple[str, str], ...]:
    given = fields.get("client", [])
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list):
        raise errors.InvalidArgument('invalid type for "client"')
    pairs = []
    for one in listed:
        pair = [one, ""] if isinstance(one, str) else one
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise errors.InvalidArgument(f'invalid pair {one} for "client"')
        certificate, key = pair
        pairs.append((posixpath.join(directory, certificate), posixpath.join(directory, key) if key else ""))
    return tuple(pairs)


def _headers(given: Any) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    if not isinstance(given, dict):
        raise errors.InvalidArgument('invalid type for "header"')
    found = []
    for name, value in given.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise errors.InvalidArgument(f'invalid type for header "{name}"')
        if not _HEADER_NAME.match(name) or any("\n" in one or "\r" in one or "\0" in one for one in values):
            raise errors.InvalidArgument(f'invalid header "{name}"')
        found += [(name, one) for one in values]
    return tuple(found)


def _duration(given: Any) -> float:
    """Go's form: "1m30s"."""
    if given is None:
        return 0.0
    parts = _DURATION.findall(given) if isinstance(given, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != given:
        raise errors.InvalidArgument(f'invalid "dial_timeout": {given}')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _switch(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise errors.InvalidArgument(f'invalid type for "{name}"')
    return value
