"""Objects of the runtime specification inside an Any."""

from __future__ import annotations

import pytest

from sampan import errors
from sampan.api.containerd import runtime_objects


def test_an_object_is_read_and_anything_else_is_refused_by_name() -> None:
    assert runtime_objects.decoded(b'{"a": 1}', "resources") == {"a": 1}
    for value in (b"", b"[1]", b"{", b"\xff"):
        with pytest.raises(errors.InvalidArgument, match="invalid resources: "):
            runtime_objects.decoded(value, "resources")
