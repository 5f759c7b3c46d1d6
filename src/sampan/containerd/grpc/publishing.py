"""Messages as events: the topic, the type and the fields that subscribers filter by."""

from __future__ import annotations

from typing import Any

from google.protobuf import symbol_database

from sampan.containerd.events import Event, Exchange


def publish(events: Exchange, namespace: str, topic: str, message: Any) -> None:
    """Tell the subscribers of `message`, one of `sampan.api.containerd.events`."""
    payload = message.SerializeToString()
    events.publish(Event(namespace, topic, message.DESCRIPTOR.full_name, payload, flattened(message)))


def flattened(message: Any, prefix: str = "") -> dict[str, str]:
    """The text fields of a message by their path, for filters such as `event.container_id==x`."""
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if isinstance(value, str):
            found[path] = value
        elif hasattr(value, "items"):
            found |= {f"{path}.{key}": str(one) for key, one in value.items()}
        elif hasattr(value, "ListFields"):
            found |= flattened(value, f"{path}.")
    return found


def decoded_fields(type_url: str, value: bytes) -> dict[str, str]:
    """The same of a payload that a client sent; {} when its type is not one of ours."""
    try:
        kind = symbol_database.Default().GetSymbol(type_url.rpartition("/")[2])
        return flattened(kind.FromString(value))
    except Exception:  # a type we do not know, or bytes of another one: the event still travels
        return {}
