"""Filters of the network list and of prune: pure. Engine API 1.51, `GET /networks`, `POST /networks/prune`."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timezone

from sampan.engine.filters import Filters
from sampan.engine.networks.records import Network
from sampan.errors import InvalidArgument

LIST_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS = ("label", "label!", "until")

_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def select(networks: Sequence[Network], filters: Filters, used: Collection[str]) -> list[Network]:
    """The networks that match. `used` are ids of networks with endpoints. InvalidArgument for a malformed value."""
    for value in filters.get("type"):
        if value not in ("custom", "builtin"):
            raise InvalidArgument(f"invalid filter: 'type'='{value}'")
    dangling = filters.boolean("dangling") if "dangling" in filters else None
    return [network for network in networks if _matches(network, filters, dangling, used)]


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
    moments = [_moment(value) for value in filters.get("until")]
    if network.predefined or network.id in used:
        return False
    if not filters.labels(network.labels) or not filters.without_labels(network.labels):
        return False
    return all(created_at(network) < moment for moment in moments)


def created_at(network: Network) -> float:
    """Seconds since the epoch."""
    whole, _dot, fraction = network.created.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp() + float(f"0.{fraction or 0}")


def _moment(text: str) -> float:
    """A Unix timestamp, a date, or a Go duration before now."""
    try:
        return float(text)
    except ValueError:
        pass
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() - sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f"invalid filter 'until=[{text}]'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
