"""Docker's first image format, as `docker save` wrote it before 1.10: `repositories`, `ID/json` and `ID/layer.tar`.

    {"busybox": {"latest": "<id of the top layer>"}}            repositories
    {"id": "...", "parent": "...", "config": {...}, ...}        ID/json

One image is a chain of layers by `parent`; its configuration is the top one's. Turned into an image-spec config here.
Source: moby image/spec/v1.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sampan import errors

_ID = re.compile(r"[0-9a-f]{64}\Z")
# More layers than any file system stacks: a chain that is longer is a ring.
_MOST_LAYERS = 1024
# What a layer's own document says of the image, and image-spec knows under the same name.
_KEPT = ("architecture", "variant", "os", "author", "created", "config")


def tops(repositories: Any) -> Iterator[tuple[str, str]]:
    """(name with tag, id of the top layer) of each image in `repositories`. InvalidArgument."""
    if not isinstance(repositories, dict):
        raise errors.InvalidArgument("invalid image archive: repositories")
    for name, tags in repositories.items():
        if not isinstance(tags, dict):
            raise errors.InvalidArgument("invalid image archive: repositories")
        for tag, layer_id in tags.items():
            yield f"{name}:{tag}", _checked(layer_id)


def chain(top: str, document: Callable[[str], Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(id, its json) from the lowest layer to `top`; `document` reads one. InvalidArgument."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    layer_id = top
    while layer_id:
        one = document(_checked(layer_id))
        if not isinstance(one, dict) or len(found) >= _MOST_LAYERS:
            raise errors.InvalidArgument(f'invalid image archive: "{layer_id}/json"')
        found.append((layer_id, one))
        layer_id = one.get("parent") or ""
    return found[::-1]


def config(documents: Sequence[Mapping[str, Any]], diff_ids: Sequence[str]) -> dict[str, Any]:
    """The image-spec config of a chain (lowest first) whose layers are plain tars with these digests."""
    top = documents[-1]
    made: dict[str, Any] = {key: top[key] for key in _KEPT if top.get(key)}
    made.setdefault("os", "linux")
    made.setdefault("architecture", "amd64")
    made["rootfs"] = {"type": "layers", "diff_ids": list(diff_ids)}
    made["history"] = [_history(one) for one in documents]
    return made


def _history(document: Mapping[str, Any]) -> dict[str, Any]:
    step = {"created": document.get("created"), "author": document.get("author"), "comment": document.get("comment")}
    ran = document.get("container_config")
    command = ran.get("Cmd") if isinstance(ran, dict) else None
    if isinstance(command, list):
        step["created_by"] = " ".join(str(word) for word in command)
    return {key: value for key, value in step.items() if value}


def _checked(layer_id: Any) -> str:
    """It becomes part of a path in the archive."""
    if not isinstance(layer_id, str) or not _ID.match(layer_id):
        raise errors.InvalidArgument(f"invalid image archive: layer id {str(layer_id)[:80]!r}")
    return layer_id
