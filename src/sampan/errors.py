"""The error kinds that every layer raises, and nothing else: no I/O, no wording, no mapping.

A kind says what class of failure happened (the vocabulary of containerd's errdefs, which Docker's HTTP
status codes and gRPC's codes both map onto one to one). The text is the caller's, in the peer's words.
Each edge maps kinds exactly once: `engine/http/errors.py` to HTTP, `runtime/cli.py` to exit codes.
"""


class Error(Exception):
    """Base of all kinds; raised itself only for a failure that is nobody's fault but ours (HTTP 500)."""


class InvalidArgument(Error):
    """The request can never succeed as written (HTTP 400)."""


class NotFound(Error):
    """The named object does not exist (HTTP 404)."""


class AlreadyExists(Error):
    """The name is taken (HTTP 409)."""


class Conflict(Error):
    """The object's present state forbids the verb (HTTP 409; gRPC FailedPrecondition)."""


class Unauthorized(Error):
    """Credentials are missing or wrong (HTTP 401 towards a registry; 500 or 404 as Docker relays it)."""


class Forbidden(Error):
    """The caller is known and not allowed (HTTP 403)."""


class Unavailable(Error):
    """A part that is needed does not answer now; trying again may help (HTTP 503)."""


class Unimplemented(Error):
    """The request is valid and sampan does not offer it (HTTP 501)."""


class DataLoss(Error):
    """Stored or transferred bytes are not what their digest says."""
