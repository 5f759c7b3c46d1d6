"""Filters of the network list and of prune: pure. Engine API 1.51, `GET /networks`, `POST /networks/prune`."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone

from sampan.engine.networks.records import Network
from sampan.errors import InvalidArgument

Filters = Mapping[str, Sequence[str]]

_LIST_KEYS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_PRUNE_KEYS = ("label", "label!", "until")
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def select(networks: Sequence[Network], filters: Filters, used: Collection[str]) -> list[Network]:
    """Networks for which every key has one matching value. `used` are ids of networks with endpoints.

    InvalidArgument `invalid filter 'KEY'` or for a malformed value."""
    _check_keys(filters, _LIST_KEYS)
    return [network for network in networks if _selected(network, filters, used)]


def _selected(network: Network, filters: Filters, used: Collection[str]) -> bool:
    for key, values in filters.items():
        if not values:
            continue
        if key == "label":
            # Labels narrow: all must be there, unlike every other key.
            if not all(_has_label(network, value) for value in values):
                return False
        elif not any(_matches(network, key, value, used) for value in values):
            return False
    return True


def _matches(network: Network, key: str, value: str, used: Collection[str]) -> bool:
    if key == "dangling":
        return (network.id not in used and not network.predefined) is _boolean(key, value)
    if key == "driver":
        return network.driver == value
    if key == "id":
        return value in network.id
    if key == "name":
        return value in network.name
    if key == "scope":
        return value == "local"
    if value not in ("custom", "builtin"):
        raise InvalidArgument(f"invalid filter: 'type'='{value}'")
    return network.predefined is (value == "builtin")


def prunable(network: Network, filters: Filters, used: Collection[str]) -> bool:
    """May prune remove it? Never a predefined one, or one with endpoints. InvalidArgument as `select`."""
    _check_keys(filters, _PRUNE_KEYS)
    if network.predefined or network.id in used:
        return False
    if not all(_has_label(network, value) for value in filters.get("label", ())):
        return False
    if any(_has_label(network, value) for value in filters.get("label!", ())):
        return False
    return all(created_at(network) < _moment(value) for value in filters.get("until", ()))


def created_at(network: Network) -> float:
    """Seconds since the epoch."""
    whole, _dot, fraction = network.created.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=timezone.utc).timestamp() + float(f"0.{fraction or 0}")


def _check_keys(filters: Filters, known: Sequence[str]) -> None:
    for key in filters:
        if key not in known:
            raise InvalidArgument(f"invalid filter '{key}'")


def _has_label(network: Network, wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in network.labels and (not equals or network.labels[name] == value)


def _boolean(key: str, text: str) -> bool:
    if text.lower() in ("1", "true", "t"):
        return True
    if text.lower() in ("0", "false", "f"):
        return False
    raise InvalidArgument(f"invalid filter '{key}=[{text}]'")


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
