"""`docker images`: summaries, filtered (Engine API 1.51, ImageList)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from sampan.api.docker.images import ImageSummary
from sampan.engine import timestamps
from sampan.engine.filters import Filters
from sampan.engine.images.catalog import Catalog, Details, Entry
from sampan.engine.services import ContainerUsage
from sampan.errors import InvalidArgument
from sampan.oci.reference import Reference

FILTERS = ("dangling", "label", "label!", "before", "since", "reference", "until")


def summaries(
    catalog: Catalog,
    filters: Filters,
    *,
    version: tuple[int, int] = (1, 51),
    shared_size: bool = False,
    usage: ContainerUsage | None = None,
) -> list[ImageSummary]:
    """Newest first. With `usage` the containers of each are counted. NotFound for an unknown before/since image."""
    keep = _chooser(catalog, filters)
    entries = catalog.entries()
    shared = _shared(entries) if shared_size else frozenset()
    found = []
    for entry in entries:
        tags = [tag for tag in entry.tags if _refers(filters, tag)]
        digests = [one for one in entry.digests if _refers(filters, one)]
        if not keep(entry) or ("reference" in filters and not tags and not digests):
            continue
        size = catalog.size(entry.details)
        found.append(
            ImageSummary(
                Containers=-1 if usage is None else len(usage.using_image(entry.id)),
                Created=created(entry.details) // 10**9,
                Id=entry.id,
                Labels=dict(entry.details.labels) or None,
                ParentId="",
                RepoDigests=[one.familiar for one in digests] or _nothing(version, "<none>@<none>", bool(tags)),
                RepoTags=[tag.familiar for tag in tags] or _nothing(version, "<none>:<none>", bool(digests)),
                SharedSize=sum(map(catalog.layer_size, shared.intersection(entry.details.chain)))
                if shared_size
                else -1,
                Size=size,
                VirtualSize=size if version < (1, 44) else msgspec.UNSET,
            )
        )
    return sorted(found, key=lambda summary: summary.Created, reverse=True)


def disk_usage(catalog: Catalog, usage: ContainerUsage) -> tuple[int, list[ImageSummary]]:
    """For /system/df: bytes of all layers, each once, and every image with its shared size and users."""
    layers = {chain_id for entry in catalog.entries() for chain_id in entry.details.chain}
    return sum(map(catalog.layer_size, layers)), summaries(catalog, Filters(), shared_size=True, usage=usage)


def _nothing(version: tuple[int, int], placeholder: str, named_otherwise: bool) -> list[str]:
    # Up to API 1.42 an image without any name shows a placeholder in both lists.
    return [placeholder] if version < (1, 43) and not named_otherwise else []


def _shared(entries: Sequence[Entry]) -> frozenset[str]:
    """Chain IDs that more than one image has."""
    owners = Counter(chain_id for entry in entries for chain_id in entry.details.chain)
    return frozenset(chain_id for chain_id, count in owners.items() if count > 1)


def created(details: Details) -> int:
    """The config's `created` in nanoseconds since the epoch; 0 when it has none."""
    text = details.config.get("created")
    try:
        return timestamps.from_rfc3339(text) if isinstance(text, str) and text else 0
    except InvalidArgument:
        return 0


def _chooser(catalog: Catalog, filters: Filters) -> Callable[[Entry], bool]:
    before = [created(catalog.find(text)[0]) for text in filters.get("before")]
    since = [created(catalog.find(text)[0]) for text in filters.get("since")]
    until = [moment for text in filters.get("until") if (moment := timestamps.from_query(text)) is not None]
    dangling = filters.boolean("dangling")

    def keep(entry: Entry) -> bool:
        moment = created(entry.details)
        return (
            ("dangling" not in filters or dangling == (not entry.tags))
            and filters.labels(entry.details.labels)
            and filters.without_labels(entry.details.labels)
            and all(moment < limit for limit in before)
            and all(moment > limit for limit in since)
            and all(moment < limit for limit in until)
        )

    return keep


def _refers(filters: Filters, name: Reference) -> bool:
    patterns = filters.get("reference")
    if not patterns:
        return True
    return any(
        _glob(pattern).fullmatch(name.familiar) or _glob(pattern).fullmatch(name.familiar_name) for pattern in patterns
    )


def _glob(pattern: str) -> re.Pattern[str]:
    """Go's path.Match: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]` are classes, a backslash quotes.

    InvalidArgument for a malformed pattern."""
    parts, index = [], 0
    while index < len(pattern):
        character = pattern[index]
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            end = pattern.find("]", index + 2)
            if end < 0:
                raise InvalidArgument("syntax error in pattern")
            parts.append(pattern[index : end + 1])
            index = end
        elif character == "\\" and index + 1 < len(pattern):
            index += 1
            parts.append(re.escape(pattern[index]))
        else:
            parts.append(re.escape(character))
        index += 1
    try:
        return re.compile("".join(parts))
    except re.error:
        raise InvalidArgument("syntax error in pattern") from None
