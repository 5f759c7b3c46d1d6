"""What calls bring along: files named by path, options, logs. Each is checked here, before anything is made."""

from __future__ import annotations

import json
import os

from sampan import errors
from sampan.api.keeper import messages
from sampan.keeper.logfile import LogFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read_object(path: str) -> dict[str, Any]:
    """A JSON object from a file. InvalidArgument, naming the file, for anything else."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise errors.InvalidArgument(f'"{path}": {error}') from error
    if not isinstance(found, dict):
        raise errors.InvalidArgument(f'"{path}": not a JSON object')
    return found


def checked_options(given: dict[str, Any] | None) -> dict[str, Any]:
    """The options of a `create`. InvalidArgument for one that is none, or of another type."""
    for name, value in (given or {}).items():
        known = messages.OPTIONS.get(name)
        if known is None or type(value) is not known[0]:
            raise errors.InvalidArgument(f'invalid option "{name}": {value!r}')
    return given or {}


def runtime_root(request: dict[str, Any], options: dict[str, Any]) -> str:
    """The runtime's `--root`: another one than ours has a place of its own beside it."""
    if options.get("root"):
        return str(options["root"])
    runtime = request.get("runtime")
    return f"{request['root']}.{os.path.basename(runtime)}" if runtime else str(request["root"])


def open_log(log: dict[str, Any] | None) -> LogFile | None:
    """The log a `create` asks for. InvalidArgument."""
    if not log:
        return None
    path, max_size, max_file = log.get("path"), log.get("max_size", 0), log.get("max_file", 1)
    if not isinstance(path, str) or not isinstance(max_size, int) or not isinstance(max_file, int):
        raise errors.InvalidArgument("log needs a path, and numbers for max_size and max_file")
    try:
        return LogFile(path, max_size, max_file)
    except OSError as error:
        raise errors.InvalidArgument(f'log "{path}": {error}') from error
