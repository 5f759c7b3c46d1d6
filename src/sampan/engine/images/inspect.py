"""`docker image inspect` and `docker history` (Engine API 1.51, ImageInspect and ImageHistory)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sampan.api.docker.images import GraphDriver, HistoryItem, ImageInspect, Metadata, RootFS
from sampan.engine import timestamps
from sampan.engine.images.catalog import Catalog, Details

# Members that clients of each age expect to find even when they say nothing.
_DEFAULTS: Mapping[str, Any] = {
    "Cmd": None,
    "Entrypoint": None,
    "Env": None,
    "Labels": None,
    "OnBuild": None,
    "User": "",
    "Volumes": None,
    "WorkingDir": "",
}
_DEFAULTS_BEFORE_1_50: Mapping[str, Any] = {
    **_DEFAULTS,
    "AttachStderr": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "Domainname": "",
    "Hostname": "",
    "Image": "",
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
}


def inspect(catalog: Catalog, text: str, version: tuple[int, int] = (1, 51), platform: str = "") -> ImageInspect:
    """The whole document for the image `text` names. NotFound, InvalidArgument."""
    details, _ = catalog.find(text, platform)
    entry = catalog.entry_of(details.id)
    config = details.config
    size = catalog.size(details)
    document = ImageInspect(
        Id=details.id,
        RepoTags=[tag.familiar for tag in entry.tags],
        RepoDigests=[one.familiar for one in entry.digests],
        Parent="",
        Comment=str(config.get("comment") or _last_comment(details)),
        DockerVersion=str(config.get("docker_version") or ""),
        Author=str(config.get("author") or ""),
        Architecture=details.platform.architecture,
        Os=details.platform.os,
        Size=size,
        GraphDriver=GraphDriver(Data=None, Name=catalog.snapshots.name),
        RootFS=RootFS(Type="layers", Layers=list(details.diff_ids)),
        Metadata=Metadata(LastTagTime=_last_tag_time([name.updated_at for name in entry.names])),
        Config=image_config(config, version),
    )
    if config.get("created"):
        document.Created = str(config["created"])
    elif version < (1, 44):
        document.Created = timestamps.ZERO
    document.Variant = details.platform.variant or msgspec.UNSET
    document.OsVersion = str(config.get("os.version") or "") or msgspec.UNSET
    if version < (1, 44):
        document.VirtualSize = size
    if version < (1, 45):
        document.Container = str(config.get("container") or "")
        document.ContainerConfig = {**_DEFAULTS_BEFORE_1_50, **(config.get("container_config") or {})}
    return document


def image_config(config: Mapping[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """The config's `config` object (image-spec config.md; Docker's own members kept) with the members of the age."""
    defaults = _DEFAULTS if version >= (1, 50) else _DEFAULTS_BEFORE_1_50
    given = {key: value for key, value in (config.get("config") or {}).items() if value is not None}
    if version >= (1, 50):
        # What only a container has is in configs that Docker's classic builder wrote.
        given = {key: value for key, value in given.items() if key in _DEFAULTS or key not in _DEFAULTS_BEFORE_1_50}
    return {**defaults, **given}


def _last_comment(details: Details) -> str:
    history = details.config.get("history") or []
    return str(history[-1].get("comment") or "") if history else ""


def _last_tag_time(moments: list[int]) -> str:
    return timestamps.rfc3339(max(moments)) if any(moments) else timestamps.ZERO


def history(catalog: Catalog, text: str, platform: str = "") -> list[HistoryItem]:
    """What made each layer, newest first; the newest carries the image's ID and tags, the rest "<missing>"."""
    details, _ = catalog.find(text, platform)
    entry = catalog.entry_of(details.id)
    items = []
    chain = iter(details.chain)
    for step in details.config.get("history") or []:
        layer = None if step.get("empty_layer") else next(chain, None)
        moment = step.get("created")
        items.append(
            HistoryItem(
                Comment=str(step.get("comment") or ""),
                Created=timestamps.from_rfc3339(moment) // 10**9 if moment else 0,
                CreatedBy=str(step.get("created_by") or ""),
                Id="<missing>",
                Size=catalog.layer_size(layer) if layer else 0,
                Tags=None,
            )
        )
    if items:
        items[-1].Id = details.id
        items[-1].Tags = [tag.familiar for tag in entry.tags] or None
    return items[::-1]
