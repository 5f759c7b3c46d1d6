"""Logging drivers: which are offered, their options, and what the keeper is told. Pure.

`json-file` and `local` are both kept as json-file on disk; `local` differs in its default rotation. `none` keeps
nothing. Others are refused when a container is created.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sampan.api.docker.containers import LogConfig
from sampan.containerd.services import LogTarget
from sampan.errors import InvalidArgument

_OPTIONS = {
    "json-file": frozenset(
        ("max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode")
    ),
    "local": frozenset(("max-file", "max-size", "compress", "mode")),
    "none": frozenset(),
}
_MODES = ("", "blocking", "non-blocking")
_LOCAL_MAX_SIZE, _LOCAL_MAX_FILE = 20 << 20, 5
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def complete(wanted: LogConfig, default: LogConfig) -> LogConfig:
    """What is asked for, or the daemon's default driver with its options; checked.

    InvalidArgument, also `error looking up logging plugin x: plugin "x" not found`."""
    if not wanted.type or wanted.type == default.type:
        chosen = LogConfig(type=wanted.type or default.type, config={**default.config, **wanted.config})
    else:
        chosen = wanted
    check(chosen)
    return chosen


def check(wanted: LogConfig) -> None:
    known = _OPTIONS.get(wanted.type)
    if known is None:
        raise InvalidArgument(f'error looking up logging plugin {wanted.type}: plugin "{wanted.type}" not found')
    for key in wanted.config:
        if key not in known and wanted.type != "none":
            raise InvalidArgument(f"unknown log opt '{key}' for {wanted.type} log driver")
    if wanted.config.get("mode", "") not in _MODES:
        raise InvalidArgument(f"logger: logging mode '{wanted.config['mode']}' not supported")
    if wanted.type != "none":
        _rotation(wanted.config, wanted.type)


def target(wanted: LogConfig, path: str) -> LogTarget | None:
    """Where the keeper writes; None for nowhere."""
    if wanted.type == "none":
        return None
    size, files = _rotation(wanted.config, wanted.type)
    return LogTarget(path=path, max_size=size, max_file=files)


def can_read(wanted: LogConfig) -> bool:
    return wanted.type != "none"


def _rotation(options: Mapping[str, str], driver: str) -> tuple[int, int]:
    """(bytes, files); 0 bytes: no limit."""
    size, files = (_LOCAL_MAX_SIZE, _LOCAL_MAX_FILE) if driver == "local" else (0, 1)
    if "max-size" in options:
        size = _size(options["max-size"])
    if "max-file" in options:
        text = options["max-file"]
        if not text.isdigit():
            raise InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax')
        files = int(text)
        if files < 1:
            raise InvalidArgument("max-file cannot be less than 1")
    return size, files


def _size(text: str) -> int:
    """Docker's sizes: 10m, 1.5g, 500kb; -1 for no limit."""
    if text == "-1":
        return 0
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)i?b?", text.strip().lower())
    if not found or float(found[1]) == 0:
        raise InvalidArgument(f"invalid size: '{text}'")
    return int(float(found[1]) * _UNITS[found[2]])
