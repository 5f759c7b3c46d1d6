"""containerd.services.streaming.v1: named streams, which other calls (a transfer) read and write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf import any_pb2, empty_pb2

from sampan import errors
from sampan.api.containerd.services.streaming.v1 import streaming_pb2 as api
from sampan.api.containerd.types.transfer import progress_pb2, registry_pb2, streaming_pb2
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.server import Call
from sampan.containerd.grpc.windows import Channel

# What may come over a stream.
_MESSAGES: dict[str, Callable[[bytes], Any]] = {
    kind.DESCRIPTOR.full_name: kind.FromString
    for kind in (
        streaming_pb2.Data,
        streaming_pb2.WindowUpdate,
        progress_pb2.Progress,
        registry_pb2.AuthRequest,
        registry_pb2.AuthResponse,
    )
}


class StreamingService:
    descriptor = api.DESCRIPTOR.services_by_name["Streaming"]

    def __init__(self) -> None:
        self._channels: dict[tuple[str, str], Channel] = {}

    def channel(self, namespace: str, name: str) -> Channel:
        """The server's end of an open stream. NotFound."""
        if (namespace, name) not in self._channels:
            raise errors.NotFound(f'stream "{name}"')
        return self._channels[namespace, name]

    async def stream(self, call: Call, requests: AsyncIterator[any_pb2.Any]) -> AsyncIterator[any_pb2.Any]:
        """Begins with StreamInit, which is answered by an empty message once the stream can be found by its name."""
        first = await anext(requests, None)
        if first is None:
            return
        if first.type_url.rpartition("/")[2] != api.StreamInit.DESCRIPTOR.full_name:
            raise errors.InvalidArgument(f"unexpected type {first.type_url}, want StreamInit")
        name = _decoded(api.StreamInit.FromString, first).id
        key = (call.namespace, name)
        if key in self._channels:
            raise errors.AlreadyExists(f'stream "{name}"')
        channel = self._channels[key] = Channel()
        reading = asyncio.ensure_future(_fill(channel, requests))
        try:
            yield fields.packed(empty_pb2.Empty())
            while (message := await channel.sent.get()) is not None:
                yield fields.packed(message)
        finally:
            channel.gone.set()
            del self._channels[key]
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            channel.received.put_nowait(None)


async def _fill(channel: Channel, requests: AsyncIterator[any_pb2.Any]) -> None:
    """Everything the client sends, until it ends or goes."""
    try:
        async for message in requests:
            decode = _MESSAGES.get(message.type_url.rpartition("/")[2])
            if decode is not None:
                channel.received.put_nowait(_decoded(decode, message))
    finally:
        channel.received.put_nowait(None)


def _decoded(decode: Callable[[bytes], Any], message: any_pb2.Any) -> Any:
    try:
        return decode(message.value)
    except Exception as error:
        raise errors.InvalidArgument(f"invalid {message.type_url}: {error}") from error
