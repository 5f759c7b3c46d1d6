"""Filters of the network list and of prune: pure. Engine API 1.51, `GET /networks`, `POST /networks/prune`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timezone

from sampan.engine.filters import Filters
from sampan.engine.networks.records import Network
from sampan.errors import InvalidArgument

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")


def select(networks: Sequence[Network], filters: Filters, used: Collection[str]) -> list[Network]:
    """The networks that match. `used` are ids of networks with endpoints. InvalidArgument for a malformed value."""
    for value in filters.get("type"):
        if value not in ("custom", "builtin"):
            raise InvalidArgument(f"invalid filter: 'type'='{value}'")
    dangling = _dangling(filters.get("dangling"))
    return [network for network in networks if _matches(network, filters, dangling, used)]


def _dangling(values: Sequence[str]) -> bool | None:
    if len(values) > 1:
        raise InvalidArgument('got more than one value for filter key "dangling"')
    for value in values:
        if value not in ("1", "true", "0", "false"):
            raise InvalidArgument('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
        return value in ("1", "true")
    return None


def _matches(network: Network, filters: Filters, dangling: bool | None, used: Collection[str]) -> bool:
    if dangling is not None and dangling != (network.id not in used and not network.predefined):
        return False
    return (
        filters.exact("driver", network.driver)
        and filters.search("id", network.id)
        and filters.search("name", network.name)
        and filters.exact("scope", "local")
        and filters.exact("type", "builtin" if network.predefined else "custom")
        and filters.labels(network.labels)
    )


def prunable(network: Network, filters: Filters, used: Collection[str]) -> bool:
    """May prune remove it? Never a predefined one, or one with endpoints. InvalidArgument for a malformed `until`."""
    until = filters.until()
    if network.predefined or network.id in used:
        return False
    if not filters.labels(network.labels) or not filters.without_labels(network.labels):
        return False
    return until is None or created_at(network) * 10**9 < until


def created_at(network: Network) -> float:
    """Seconds since the epoch."""
    whole, _dot, fraction = network.created.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp() + float(f"0.{fraction or 0}")
