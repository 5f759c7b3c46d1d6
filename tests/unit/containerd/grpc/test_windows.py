import asyncio

import pytest

from sampan.api.containerd.types.transfer import streaming_pb2
from sampan.containerd.grpc.windows import MESSAGE, WINDOW, Channel, read, write


def run(scenario):
    async def main():
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(main())


async def pieces(*found):
    for piece in found:
        yield piece


def sent(channel):
    found = []
    while not channel.sent.empty():
        found.append(channel.sent.get_nowait())
    return found


def test_the_writer_stays_inside_what_the_reader_granted_and_below_the_message_size():
    async def scenario():
        channel = Channel()
        writing = asyncio.ensure_future(write(channel, pieces(b"x" * 200_000)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert channel.sent.empty()
        channel.received.put_nowait(streaming_pb2.WindowUpdate(update=WINDOW))
        for _ in range(10):
            await asyncio.sleep(0)
        assert [len(message.data) for message in sent(channel)] == [MESSAGE, MESSAGE]
        channel.received.put_nowait(streaming_pb2.WindowUpdate(update=1000))
        channel.received.put_nowait(streaming_pb2.WindowUpdate(update=1 << 20))
        await writing
        assert sum(len(message.data) for message in sent(channel)) == 200_000 - WINDOW

    run(scenario)


def test_a_reader_that_goes_ends_the_writer():
    async def scenario():
        channel = Channel()
        channel.received.put_nowait(streaming_pb2.WindowUpdate(update=10))
        channel.received.put_nowait(None)
        with pytest.raises(EOFError):
            await write(channel, pieces(b"x" * 100))

    run(scenario)


def test_the_reader_grants_a_window_whenever_less_than_one_is_open():
    async def scenario():
        channel = Channel()
        for size in (MESSAGE, MESSAGE, 10):
            channel.received.put_nowait(streaming_pb2.Data(data=b"y" * size))
        channel.received.put_nowait(None)
        found = [len(piece) async for piece in read(channel)]
        assert found == [MESSAGE, MESSAGE, 10]
        granted = [message.update for message in sent(channel)]
        # The first grant, one for the window that fell below, and one more for the last ten bytes.
        assert granted == [WINDOW, WINDOW, WINDOW]

    run(scenario)
