"""Error kinds to HTTP answers, once for the whole engine.

Docker answers every failure with a JSON body `{"message": TEXT}` (Engine API 1.24 and later, "Errors").
"""

from __future__ import annotations

import logging
import traceback

import msgspec.json
from aiohttp import web

from sampan import errors
from sampan.api.docker.errors import ErrorResponse

log = logging.getLogger("sampan.http")

# The first class that fits decides, so a subclass stands before its base.
STATUS: tuple[tuple[type[errors.Error], int], ...] = (
    (errors.InvalidArgument, 400),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.Conflict, 409),
    # dockerd relays a registry's refusal as an internal error: 401 is about the caller of this API.
    (errors.Unauthorized, 500),
    (errors.Forbidden, 403),
    (errors.Unavailable, 503),
    (errors.Unimplemented, 501),
    (errors.DataLoss, 500),
    (errors.Error, 500),
)


def status_of(error: BaseException) -> int:
    """The HTTP status that answers `error`; 500 for anything that is not one of our kinds."""
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return 500


def body(message: str) -> bytes:
    """Docker's error document, with the newline that dockerd ends it with."""
    return msgspec.json.encode(ErrorResponse(message)) + b"\n"


def answer(error: BaseException) -> web.Response:
    """The response for `error`. What is not a kind is our own bug: its traceback goes to the log, its text out."""
    if isinstance(error, web.HTTPException):
        return _relay(error)
    status = status_of(error)
    text = str(error) or type(error).__name__
    if not isinstance(error, errors.Error):
        log.error("unexpected error: %s\n%s", text, "".join(traceback.format_exception(error)).rstrip())
    elif status == 500:
        log.error("%s", text)
    return web.Response(status=status, body=body(text), content_type="application/json")


def _relay(error: web.HTTPException) -> web.Response:
    # dockerd has one handler for "no such path" and "no such method on this path".
    if error.status in (404, 405):
        return web.Response(status=404, body=body("page not found"), content_type="application/json")
    text = error.text or error.reason
    return web.Response(status=error.status, body=body(text), content_type="application/json")
