"""Error kinds to gRPC status codes: the one place where that is decided (containerd's errdefs, `errgrpc`)."""

from __future__ import annotations

import asyncio

from grpclib import GRPCError, Status

from sampan import errors

# The first that fits counts.
CODES: tuple[tuple[type[BaseException], Status], ...] = (
    (errors.InvalidArgument, Status.INVALID_ARGUMENT),
    (errors.NotFound, Status.NOT_FOUND),
    (errors.AlreadyExists, Status.ALREADY_EXISTS),
    (errors.Conflict, Status.FAILED_PRECONDITION),
    (errors.Unauthorized, Status.UNAUTHENTICATED),
    (errors.Forbidden, Status.PERMISSION_DENIED),
    (errors.Unavailable, Status.UNAVAILABLE),
    (errors.Unimplemented, Status.UNIMPLEMENTED),
    (errors.DataLoss, Status.DATA_LOSS),
    (errors.Error, Status.UNKNOWN),
    (asyncio.TimeoutError, Status.DEADLINE_EXCEEDED),
    (OSError, Status.UNKNOWN),
)

# Clients take the last words off a text when they name the code (errdefs): a text without them reads worse.
_ENDINGS = {
    Status.INVALID_ARGUMENT: ": invalid argument",
    Status.NOT_FOUND: ": not found",
    Status.ALREADY_EXISTS: ": already exists",
    Status.FAILED_PRECONDITION: ": failed precondition",
    Status.UNAVAILABLE: ": unavailable",
    Status.UNIMPLEMENTED: ": not implemented",
}


def grpc_error(error: BaseException) -> GRPCError | None:
    """The status for `error`; None for one that is a fault of ours and none of the kinds."""
    for kind, status in CODES:
        if isinstance(error, kind):
            text, ending = str(error), _ENDINGS.get(status, "")
            return GRPCError(status, text if text.endswith(ending) else text + ending)
    return None
