"""The document that answers every failed request (Engine API 1.51, ErrorResponse)."""

from __future__ import annotations

import msgspec


class ErrorResponse(msgspec.Struct):
    message: str


class ErrorDetail(msgspec.Struct, omit_defaults=True):
    """Inside a progress stream, where the status line has gone out already."""

    code: int = 0
    message: str = ""
