"""containerd.services.events.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import DecodeError

from sampan import errors
from sampan.api.containerd.services.events.v1 import events_pb2 as api
from sampan.api.containerd.services.ttrpc.events.v1 import events_pb2 as ttrpc_events_pb2
from sampan.api.containerd.types import event_pb2
from sampan.containerd.events import Event, Exchange
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import decoded_fields
from sampan.containerd.grpc.server import Call

FORWARD = "containerd.services.events.ttrpc.v1.Events/Forward"
"""What shims call."""


class EventsService:
    descriptor = api.DESCRIPTOR.services_by_name["Events"]

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def publish(self, call: Call, request: api.PublishRequest) -> empty_pb2.Empty:
        one = request.event
        values = decoded_fields(one.type_url, one.value)
        if not call.header_namespace:
            raise errors.Conflict("failed publishing event: namespace is required: failed precondition")
        self._exchange.publish(Event(call.namespace, request.topic, one.type_url, one.value, values))
        return empty_pb2.Empty()

    async def forward(self, call: Call, request: api.ForwardRequest) -> empty_pb2.Empty:
        """An event with the time and namespace of wherever it comes from."""
        self._forward(request.envelope)
        return empty_pb2.Empty()

    async def forward_from_shim(self, payload: bytes) -> bytes:
        """The same over ttrpc."""
        try:
            given = ttrpc_events_pb2.ForwardRequest.FromString(payload).envelope
        except DecodeError as error:
            raise errors.InvalidArgument(f"{error}: invalid argument") from error
        self._forward(given)
        return b""

    def _forward(self, given: event_pb2.Envelope) -> None:
        values = decoded_fields(given.event.type_url, given.event.value)
        stamp = fields.nanoseconds(given.timestamp)
        self._exchange.publish(
            Event(given.namespace, given.topic, given.event.type_url, given.event.value, values, stamp)
        )

    async def subscribe(self, call: Call, request: api.SubscribeRequest) -> AsyncIterator[event_pb2.Envelope]:
        try:
            heard = self._exchange.subscribe(request.filters)
        except errors.InvalidArgument as error:
            text = str(error).removesuffix(": invalid argument")
            raise errors.Error(f"subscription error: failed parsing subscription filters: {text}") from error
        async for event in heard:
            yield event_pb2.Envelope(
                timestamp=fields.timestamp(event.timestamp),
                namespace=event.namespace,
                topic=event.topic,
                event=any_pb2.Any(type_url=event.type_url, value=event.value),
            )
