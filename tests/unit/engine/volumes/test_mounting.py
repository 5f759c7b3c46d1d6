"""Options of a volume as mount(2) takes them."""

from __future__ import annotations

import pytest

from sampan.engine.volumes.mounting import parse
from sampan.linux import abi


@pytest.mark.parametrize(
    ("text", "flags", "data"),
    [
        ("", 0, ""),
        ("bind", abi.MS_BIND, ""),
        ("rbind,ro", abi.MS_BIND | abi.MS_REC | abi.MS_RDONLY, ""),
        ("ro,rw", 0, ""),
        ("size=10m,uid=1000,nosuid", abi.MS_NOSUID, "size=10m,uid=1000"),
        ("defaults,,noexec", abi.MS_NOEXEC, ""),
    ],
)
def test_flags_and_data_are_told_apart(text: str, flags: int, data: str) -> None:
    assert parse(text) == (flags, data)
