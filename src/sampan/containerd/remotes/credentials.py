"""Credentials where docker's command line keeps them: `auths`, `credHelpers` and `credsStore` of a config.json.

    {"auths": {"registry.example": {"auth": base64("user:password")}, ...},
     "credHelpers": {"registry.example": "pass"}, "credsStore": "secretservice"}

A helper is a program `docker-credential-NAME`: `get` reads the server's name from stdin and answers
`{"ServerURL", "Username", "Secret"}`; the username "<token>" makes the secret an identity token. Source: docker's
credential-helper protocol and docker/cli config (read here only; who logs in writes it).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any

from sampan import errors
from sampan.containerd.services import Credentials
from sampan.oci.reference import DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN

HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = frozenset((DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN, "registry-1.docker.io"))
_IDENTITY = "<token>"
# What every helper says, in these words, when it has nothing (docker-credential-helpers, credentials/error.go).
_NOT_FOUND = "credentials not found in native keychain"
_PATIENCE = 30.0
_ANSWER_LIMIT = 1 << 16


async def lookup(path: str, host: str) -> Credentials:
    """What the file says for a registry's host (Docker Hub by any of its names); empty ones when it says nothing.

    InvalidArgument for a file that is none; Error when a helper fails."""
    document = _load(path)
    server = HUB_KEY if host in _HUB_HOSTS else host
    helpers = _table(document, "credHelpers", path)
    program = helpers.get(server) or helpers.get(host) or document.get("credsStore")
    if program:
        found = await _ask(str(program), server)
        if found != Credentials() or helpers.get(server) or helpers.get(host):
            return found
    return _stored(_table(document, "auths", path), server)


def _load(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"error loading config file: {path}: {error}") from error
    if not isinstance(document, dict):
        raise errors.InvalidArgument(f"error loading config file: {path}: not an object")
    return document


def _table(document: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    table = document.get(key) or {}
    if not isinstance(table, dict):
        raise errors.InvalidArgument(f'error loading config file: {path}: "{key}" is not an object')
    return table


def _stored(auths: Mapping[str, Any], server: str) -> Credentials:
    """An exact key counts first, then one that names the same host ("https://r.example/v1/")."""
    entry = auths.get(server)
    if entry is None:
        entry = next((one for key, one in auths.items() if _host_of(key) == _host_of(server)), None)
    if not isinstance(entry, dict):
        return Credentials()
    username, password = _text(entry, "username"), _text(entry, "password")
    if encoded := _text(entry, "auth"):
        try:
            username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            raise errors.InvalidArgument(f'invalid auth configuration for "{server}"')
        password = password.strip("\0")
    return Credentials(username, password, _text(entry, "identitytoken"), _text(entry, "registrytoken"))


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _host_of(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


async def _ask(program: str, server: str) -> Credentials:
    """Empty ones when the helper has none. Error in docker's words when it cannot say."""
    name = f"docker-credential-{program}"
    if "/" in program:
        raise errors.InvalidArgument(f'invalid credential helper "{program}"')
    status, answer = await _run(name, server)
    text = answer.decode(errors="replace").strip()
    if status:
        if text == _NOT_FOUND:
            return Credentials()
        raise errors.Error(f"error getting credentials - err: {status}, out: `{text}`")
    try:
        document = json.loads(answer)
        username, secret = document["Username"], document["Secret"]
    except (ValueError, LookupError, TypeError) as error:
        # Not what it said: that may be the secret.
        raise errors.Error(f"error getting credentials - {name} gave no credentials document") from error
    if username == _IDENTITY:
        return Credentials(identity_token=str(secret))
    return Credentials(str(username), str(secret))


async def _run(name: str, server: str) -> tuple[str, bytes]:
    """("" or what went wrong, stdout)."""
    try:
        process = await asyncio.create_subprocess_exec(
            name, "get", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_ANSWER_LIMIT
        )
    except FileNotFoundError:
        return f'exec: "{name}": executable file not found in $PATH', b""
    except OSError as error:
        return f"fork/exec {name}: {os.strerror(error.errno or 0).lower()}", b""
    try:
        async with asyncio.timeout(_PATIENCE):
            answer, _ = await process.communicate(server.encode())
    except TimeoutError:
        return f"no answer within {_PATIENCE:.0f} seconds", b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return "" if process.returncode == 0 else f"exit status {process.returncode}", answer
