"""Registry failures in docker's words, and their kinds.

A registry answers errors as `{"errors": [{"code", "message", "detail"}]}` (distribution-spec, "Error Codes"); dockerd
shows the first as "code in words: message". Transport failures are worded as Go's net/http words them, because
users and scripts know those texts.
"""

from __future__ import annotations

import errno
import json
import re
import ssl
from collections.abc import Mapping

from sampan import errors
from sampan.containerd.remotes.late import aiohttp
from sampan.oci.reference import Reference

# What a code says when the registry gives no message of its own (distribution's errcode registry).
_MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "TOOMANYREQUESTS": "too many requests",
    "UNAVAILABLE": "service unavailable",
    "UNSUPPORTED": "The operation is unsupported.",
}
_BY_STATUS = {401: "UNAUTHORIZED", 403: "DENIED", 404: "", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE"}


class Refusal(Exception):
    """An error answer of a registry: HTTP `status`, registry error `code` ("" when there is none) and `message`."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def __str__(self) -> str:
        if self.code:
            return f"{self.code.lower().replace('_', ' ')}: {self.message}"
        return self.message


def refusal(
    status: int, body: bytes, challenges: list[tuple[str, Mapping[str, str]]], retry_after: float | None
) -> Refusal:
    """The first error of an answer; a Bearer challenge's own goes before the body's, as in docker (RFC 6750, 3.1)."""
    if status == 401:
        for scheme, parameters in challenges:
            code = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}.get(parameters.get("error", ""))
            if scheme == "bearer" and code:
                return Refusal(status, code, parameters.get("error_description") or _MESSAGES[code], retry_after)
    try:
        document = json.loads(body)
        first = document["errors"][0]
        code = str(first["code"]).upper()
        return Refusal(status, code, str(first.get("message") or _MESSAGES.get(code, "unknown error")), retry_after)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    code = _BY_STATUS.get(status, "")
    if code:
        return Refusal(status, code, _MESSAGES[code], retry_after)
    shown = body[:200].decode(errors="replace").strip()
    return Refusal(
        status, "", f"received unexpected HTTP status: {status}" + (f": {shown}" if shown else ""), retry_after
    )


def pull_error(refused: Refusal, reference: Reference) -> errors.Error:
    """What `docker pull` says about a refusal (moby distribution/errors.go, notFoundError)."""
    if refused.code == "DENIED":
        return errors.NotFound(
            f"pull access denied for {reference.familiar_name}, "
            f"repository does not exist or may require 'docker login': {refused}"
        )
    if refused.code == "MANIFEST_UNKNOWN" or (refused.code == "" and refused.status == 404):
        shown = refused if refused.code else "manifest unknown: manifest unknown"
        return errors.NotFound(f"manifest for {reference.familiar} not found: {shown}")
    if refused.code == "NAME_UNKNOWN":
        return errors.NotFound(f"repository {reference.familiar_name} not found: {refused}")
    return plain_error(refused)


def push_error(refused: Refusal) -> errors.Error:
    """What `docker push` says: the registry's own words."""
    return errors.Forbidden(str(refused)) if refused.code == "DENIED" else plain_error(refused)


def plain_error(refused: Refusal) -> errors.Error:
    """A refusal that has no special words."""
    if refused.status == 401:
        return errors.Unauthorized(str(refused))
    if refused.status == 403:
        return errors.Forbidden(str(refused))
    if refused.status == 404:
        return errors.NotFound(str(refused))
    if refused.status == 429 or refused.status >= 500:
        return errors.Unavailable(str(refused))
    return errors.Error(str(refused))


def unreachable(method: str, url: str, error: BaseException) -> errors.Unavailable:
    """A transport failure: `Get "URL": dial tcp ADDRESS: connect: connection refused`."""
    return errors.Unavailable(f'{method.capitalize()} "{url}": {_transport(error)}')


def _transport(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate(error.certificate_error, str(error.host))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        if is_plain_http(error):
            return "http: server gave HTTP response to HTTPS client"
        return _alert(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"dial tcp {_address(error)}: connect: {_reason(error.os_error)}"
    if isinstance(error, TimeoutError):
        return "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return "unexpected EOF"
    if isinstance(error, OSError):
        # An alert after the handshake (of TLS 1.3, about our certificate) comes with what was being read.
        inner = next(
            (one for one in (error, error.__cause__, error.__context__) if isinstance(one, ssl.SSLError)), None
        )
        return _alert(inner) if inner is not None else _reason(error)
    return str(error) or type(error).__name__


def _alert(error: OSError) -> str:
    """What the other side ended the connection with: OpenSSL's name SSLV3_ALERT_BAD_CERTIFICATE in Go's words."""
    name = getattr(error, "reason", "") or ""
    _, found, alert = name.partition("_ALERT_")
    words = alert.replace("_", " ").lower() if found else error.strerror or str(error)
    return f"remote error: tls: {words}"


def is_plain_http(error: BaseException) -> bool:
    """Whether a TLS handshake failed because the other side does not speak TLS."""
    inner = getattr(error, "os_error", error)
    reason = getattr(inner, "reason", "") or ""
    return isinstance(inner, ssl.SSLError) and reason in (
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "HTTP_REQUEST",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
    )


def _certificate(error: Exception, host: str) -> str:
    reason = getattr(error, "verify_message", "") or str(error)
    words = reason.lower()
    if "self-signed" in words or "self signed" in words or "local issuer" in words or "unable to verify" in words:
        reason = "certificate signed by unknown authority"
    elif "expired" in words or "not yet valid" in words:
        reason = "certificate has expired or is not yet valid"
    elif "hostname mismatch" in words or "ip address mismatch" in words:
        reason = f"certificate is not valid for {host}"
    return f"tls: failed to verify certificate: x509: {reason}"


def _address(error: aiohttp.ClientConnectorError) -> str:
    """The address dialled: asyncio only tells it in its text."""
    found = re.search(r"\('([0-9a-fA-F.:]+)', (\d+)", str(error.os_error))
    host, port = (found[1], found[2]) if found else (error.host, error.port)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _reason(error: OSError) -> str:
    names = {
        errno.ECONNREFUSED: "connection refused",
        errno.ENETUNREACH: "network is unreachable",
        errno.EHOSTUNREACH: "no route to host",
        errno.ECONNRESET: "connection reset by peer",
        errno.ETIMEDOUT: "connection timed out",
    }
    number = error.errno
    if number is None or number not in names:
        found = re.search(r"\[Errno (\d+)\]", str(error))
        number = int(found[1]) if found else None
    return names.get(number or 0, (error.strerror or str(error)).lower())
