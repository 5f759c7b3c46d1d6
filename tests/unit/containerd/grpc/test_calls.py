"""What a client's HTTP/2 may ask for besides the plain call, frame by frame."""

import asyncio
import socket
import struct

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection

from sampan import errors
from sampan.api.containerd.grpc.health.v1 import health_pb2
from sampan.containerd.grpc.server import listen

PLAIN = {
    ":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Check", ":authority": "localhost",
    "content-type": "application/grpc", "te": "trailers",
}  # fmt: skip
MESSAGE = b"\0" + struct.pack(">I", 0)


class Health:
    """`check` does what the test says; `watch` never ends."""

    descriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]

    def __init__(self, check):
        self._check = check
        self.given_up = asyncio.Event()

    async def check(self, call, request):
        return await self._check(call)

    async def watch(self, call, request):
        try:
            await asyncio.Event().wait()
            yield health_pb2.HealthCheckResponse()
        finally:
            self.given_up.set()


async def serving(call):
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


class Wire:
    """A client of raw frames. `pieces` are what each read brought."""

    def __init__(self, reader, writer):
        self._reader, self.writer = reader, writer
        config = H2Configuration(validate_outbound_headers=False, header_encoding="utf-8")
        self.h2 = H2Connection(config)
        self.h2.initiate_connection()
        self.pieces = []

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def ask(self, body=MESSAGE, *, end=True, **changed):
        headers = {**PLAIN, **{name.replace("_", "-"): value for name, value in changed.items()}}
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(name, value) for name, value in headers.items() if value is not None])
        self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    async def until(self, kind):
        """All events up to the first of the kind."""
        found = []
        while not any(isinstance(event, kind) for event in found):
            data = await self._reader.read(1 << 16)
            assert data, "hung up"
            seen = self.h2.receive_data(data)
            self.pieces.append(seen)
            found += seen
        return found

    async def answer(self, *arguments, **changed):
        """(HTTP status, gRPC status, message) of a call."""
        self.ask(*arguments, **changed)
        headers = {}
        for event in await self.until(events.StreamEnded):
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                headers.update(event.headers)
        return headers[":status"], headers.get("grpc-status"), headers.get("grpc-message", "")


def run(tmp_path, scenario, check=serving):
    async def main():
        service = Health(check)
        server = await listen([service], f"{tmp_path}/api.sock")
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_unix_connection(server.address)
            wire = Wire(reader, writer)
            try:
                await scenario(wire, service, server)
            finally:
                writer.close()
                if server.address:
                    await server.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "changed, code",
    [({":method": "GET"}, "405"), ({"content-type": "application/json"}, "415"), ({"content-type": None}, "415"),
     ({"te": None}, "400")],
)  # fmt: skip
def test_what_is_no_grpc_request_gets_a_status_of_http(tmp_path, changed, code):
    async def scenario(wire, service, server):
        status, grpc, message = await wire.answer(**changed)
        assert (status, grpc) == (code, "2")
        assert message
        assert await wire.answer() == ("200", "0", "")

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "body, changed, status, message",
    [(b"\1" + struct.pack(">I", 0), {"grpc-encoding": "gzip"}, "12",
      'grpc: Decompressor is not installed for grpc-encoding "gzip"'),
     (b"\0" + struct.pack(">I", 17 << 20), {}, "8",
      "grpc: received message larger than max (17825792 vs. 16777216)"),
     (b"", {}, "13", "the request has no message"),
     (MESSAGE[:3], {}, "13", "unexpected EOF"),
     (b"\0" + struct.pack(">I", 9) + b"half", {}, "13", "unexpected EOF"),
     (b"\0" + struct.pack(">I", 1) + b"\xff", {}, "13", "grpc: error unmarshalling request: "),
     (MESSAGE, {"grpc-timeout": "soon"}, "13", "malformed grpc-timeout"),
     (MESSAGE, {":path": "/grpc.health.v1.Health/Cure"}, "12",
      "unknown method Cure for service grpc.health.v1.Health"),
     (MESSAGE, {":path": "nothing"}, "12", 'malformed method name: "nothing"')],
)  # fmt: skip
def test_what_cannot_be_served_says_why(tmp_path, body, changed, status, message):
    async def scenario(wire, service, server):
        code, grpc, text = await wire.answer(body, **changed)
        assert (code, grpc) == ("200", status)
        assert text.replace("%22", '"').startswith(message)

    run(tmp_path, scenario)


def test_a_call_ends_when_the_time_is_over_that_its_client_gave_it(tmp_path):
    async def never(call):
        await asyncio.Event().wait()

    async def scenario(wire, service, server):
        assert await wire.answer(**{"grpc-timeout": "20m"}) == ("200", "4", "")

    run(tmp_path, scenario, never)


@pytest.mark.parametrize(
    "error, status, message",
    [(errors.NotFound("thing"), "5", "thing: not found"), (KeyError("ours"), "2", "Internal Server Error")],
)
def test_an_error_is_the_status_of_its_kind_and_a_fault_of_ours_tells_nothing(tmp_path, error, status, message):
    async def failing(call):
        raise error

    async def scenario(wire, service, server):
        assert await wire.answer() == ("200", status, message)
        assert (await wire.answer())[1] == status

    run(tmp_path, scenario, failing)


def test_headers_say_namespace_and_lease(tmp_path):
    async def echo(call):
        raise errors.Error(f"{call.namespace} {call.lease}")

    async def scenario(wire, service, server):
        assert (await wire.answer(containerd_namespace="n", containerd_lease="l"))[2] == "n l"
        assert (await wire.answer())[1] == "9"

    run(tmp_path, scenario, echo)


def test_an_answer_comes_in_one_piece_with_what_http2_had_to_say(tmp_path):
    async def scenario(wire, service, server):
        wire.flush()
        await wire.until(events.SettingsAcknowledged)
        await wire.answer()
        wire.pieces.clear()
        wire.h2.ping(b"12345678")
        assert await wire.answer() == ("200", "0", "")
        kinds = [type(event) for event in wire.pieces[0]]
        assert {events.PingAckReceived, events.ResponseReceived, events.DataReceived, events.StreamEnded} <= set(kinds)

    run(tmp_path, scenario)


def test_a_ping_without_a_call_is_answered(tmp_path):
    async def scenario(wire, service, server):
        wire.h2.ping(b"12345678")
        wire.flush()
        await wire.until(events.PingAckReceived)

    run(tmp_path, scenario)


def test_a_call_that_its_client_gives_up_is_ended_and_others_go_on(tmp_path):
    async def scenario(wire, service, server):
        stream = wire.ask(**{":path": "/grpc.health.v1.Health/Watch"})
        await wire.until(events.ResponseReceived)
        wire.h2.reset_stream(stream)
        wire.flush()
        await service.given_up.wait()
        assert await wire.answer() == ("200", "0", "")

    run(tmp_path, scenario)


def test_a_call_given_up_before_it_began_leaves_nothing(tmp_path):
    async def scenario(wire, service, server):
        stream = wire.h2.get_next_available_stream_id()
        wire.h2.send_headers(stream, list(PLAIN.items()))
        wire.h2.reset_stream(stream)
        assert await wire.answer() == ("200", "0", "")
        (connection,) = server._connections
        assert not connection.calls._tasks
        assert not connection.processor.streams

    run(tmp_path, scenario)


def test_a_client_that_goes_ends_its_calls(tmp_path):
    async def scenario(wire, service, server):
        wire.ask(**{":path": "/grpc.health.v1.Health/Watch"})
        await wire.until(events.ResponseReceived)
        wire.writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        await service.given_up.wait()

    run(tmp_path, scenario)


def test_closing_ends_calls_that_never_end_and_hangs_up(tmp_path):
    async def scenario(wire, service, server):
        wire.ask(**{":path": "/grpc.health.v1.Health/Watch"})
        await wire.until(events.ResponseReceived)
        await server.close()
        assert service.given_up.is_set()
        while await wire._reader.read(1 << 16):
            pass
        server.address = ""

    run(tmp_path, scenario)
