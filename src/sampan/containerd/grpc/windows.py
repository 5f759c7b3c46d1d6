"""Bytes over containerd's named streams, with its flow control: the reader grants windows, the writer stays inside.

A stream carries messages both ways; `Channel` is the server's end of one. containerd's own sizes: 64 KiB are granted
whenever less is open, and a message has at most 32 KiB of data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from sampan.api.containerd.types.transfer import streaming_pb2

WINDOW = 64 << 10
MESSAGE = 32 << 10


class Channel:
    """One named stream. What the client sends is taken with `receive`; `sent` is what the client shall get."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        # Set when the stream is over, for whatever reason.
        self.gone = asyncio.Event()
        self._ended = False

    async def receive(self) -> Any:
        """The next message, None when the client sends no more."""
        if self._ended:
            return None
        message = await self.received.get()
        self._ended = message is None
        return message

    def send(self, message: Any) -> None:
        self.sent.put_nowait(message)

    async def close(self) -> None:
        """The client is told that nothing follows, and has been sent all that came before."""
        self.sent.put_nowait(None)
        await self.gone.wait()


async def read(channel: Channel) -> AsyncGenerator[bytes]:
    """The data that the client sends, windows granted as it is consumed."""
    window = WINDOW
    channel.send(streaming_pb2.WindowUpdate(update=WINDOW))
    while (message := await channel.receive()) is not None:
        if not isinstance(message, streaming_pb2.Data):
            continue
        window -= len(message.data)
        if message.data:
            yield message.data
        if window < WINDOW:
            channel.send(streaming_pb2.WindowUpdate(update=WINDOW))
            window += WINDOW


async def write(channel: Channel, pieces: AsyncIterator[bytes]) -> None:
    """Send `pieces` as the client grants windows. EOFError when it went before the end."""
    window = 0
    async for piece in pieces:
        left = memoryview(piece)
        while left:
            while window <= 0 or not channel.received.empty():
                message = await channel.receive()
                if message is None:
                    if window <= 0:
                        raise EOFError("the stream was closed by its reader")
                    break
                if isinstance(message, streaming_pb2.WindowUpdate):
                    window += message.update
            size = min(window, MESSAGE, len(left))
            channel.send(streaming_pb2.Data(data=bytes(left[:size])))
            left, window = left[size:], window - size
