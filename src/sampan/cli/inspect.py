"""`inspect` of any kind of object."""

from __future__ import annotations

import sys

from sampan.cli.connection import Api, ApiError, quote
from sampan.cli.flags import Flag, UsageError
from sampan.cli.tables import print_documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sampan.cli.main import Context

# In the order in which a bare name is looked up, as docker does.
_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_FLAGS = (
    Flag("format f", help="Format output using a custom template, or 'json'"),
    Flag("size s", "bool", "Display total file sizes if the type is container"),
)


def _find(api: Api, name: str, kinds: Sequence[str], size: bool) -> Any:
    for kind in kinds:
        try:
            return api.get(_PATHS[kind].format(quote(name)), size=size and kind == "container")
        except ApiError as err:
            if err.status != 404 or len(kinds) == 1:
                raise
    raise ApiError(404, f"No such object: {name}")


def _inspect(context: Context, words: list[str], kinds: Sequence[str]) -> int:
    flags = (*_FLAGS, Flag("type", help="Only inspect objects of the given type"))
    o = context.parse(flags, words, least=1)
    if o["type"]:
        if o["type"] not in _PATHS:
            raise UsageError(f'unknown type: "{o["type"]}"')
        kinds = [o["type"]]
    api, found, code = context.api(), [], 0
    failures = []
    for name in o.args:
        try:
            found.append(_find(api, name, kinds, o["size"]))
        except ApiError as err:
            prefix = "Error: " if len(kinds) > 1 else "Error response from daemon: "
            failures.append(f"{prefix}{err}")
            code = 1
    if found or not o["format"]:
        print_documents(found, o["format"])
    for failure in failures:
        print(failure, file=sys.stderr)
    return code


def inspect(context: Context, words: list[str]) -> int:
    return _inspect(context, words, list(_PATHS))


def volume(context: Context, words: list[str]) -> int:
    return _inspect(context, words, ["volume"])


def network(context: Context, words: list[str]) -> int:
    return _inspect(context, words, ["network"])
