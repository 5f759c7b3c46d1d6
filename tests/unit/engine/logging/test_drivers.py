"""Logging drivers and their options."""

from __future__ import annotations

import pytest

from sampan.api.docker.containers import LogConfig
from sampan.containerd.services import LogTarget
from sampan.engine.logging import drivers
from sampan.errors import InvalidArgument

DEFAULT = LogConfig(type="json-file", config={"max-size": "1m"})


def test_the_daemons_driver_and_options_are_the_default():
    assert drivers.complete(LogConfig(), DEFAULT) == DEFAULT
    assert drivers.complete(LogConfig(type="json-file", config={"max-file": "3"}), DEFAULT).config == {
        "max-size": "1m",
        "max-file": "3",
    }
    assert drivers.complete(LogConfig(type="none"), DEFAULT) == LogConfig(type="none")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LogConfig(type="json-file"), LogTarget("/log", 0, 1)),
        (LogConfig(type="json-file", config={"max-size": "1.5k", "max-file": "4"}), LogTarget("/log", 1536, 4)),
        (LogConfig(type="json-file", config={"max-size": "-1"}), LogTarget("/log", 0, 1)),
        (LogConfig(type="local"), LogTarget("/log", 20 << 20, 5)),
        (LogConfig(type="none"), None),
    ],
)
def test_rotation_reaches_the_keeper(wanted, expected):
    assert drivers.target(wanted, "/log") == expected


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        (LogConfig(type="odd"), InvalidArgument, 'error looking up logging plugin odd: plugin "odd" not found'),
        (LogConfig(type="json-file", config={"odd": "1"}), InvalidArgument, "unknown log opt 'odd' for json-file log"),
        (LogConfig(type="json-file", config={"max-size": "big"}), InvalidArgument, "invalid size: 'big'"),
        (LogConfig(type="json-file", config={"max-file": "0"}), InvalidArgument, "max-file cannot be less than 1"),
        (LogConfig(type="json-file", config={"max-file": "x"}), InvalidArgument, "invalid syntax"),
        (LogConfig(type="json-file", config={"mode": "odd"}), InvalidArgument, "logging mode 'odd' not supported"),
    ],
)
def test_wrong_options_are_refused(wanted, kind, message):
    with pytest.raises(kind) as caught:
        drivers.check(wanted)
    assert message in str(caught.value)


def test_only_none_cannot_be_read():
    assert [drivers.can_read(LogConfig(type=kind)) for kind in ("json-file", "local", "none")] == [True, True, False]
