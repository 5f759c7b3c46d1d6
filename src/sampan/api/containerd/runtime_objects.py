"""Objects of the runtime specification in containerd's messages: their JSON, inside an Any.

Imported by the shim as well, so standard library only.
"""

from __future__ import annotations

import json

from sampan import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def decoded(value: bytes, what: str) -> dict[str, Any]:
    """The object in an Any's `value`. InvalidArgument, which names it `what`."""
    try:
        found = json.loads(value)
    except ValueError as error:
        raise errors.InvalidArgument(f"invalid {what}: {error}: invalid argument") from error
    if not isinstance(found, dict):
        raise errors.InvalidArgument(f"invalid {what}: not an object: invalid argument")
    return found
