"""The small HTTP client reads answers however they arrive, and says clearly when nothing answers."""

import socket
import threading
from pathlib import Path

import pytest

from sampan.cli.connection import Api, ApiError, NoEngine, query_string


def serve(path: str, answer: bytes, step: int) -> list[bytes]:
    """One connection's worth of a server that writes `answer` in pieces of `step`; the list gets the request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    seen: list[bytes] = []

    def run() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            seen.append(connection.recv(65536))
            for at in range(0, len(answer), step):
                connection.sendall(answer[at : at + step])

    threading.Thread(target=run, daemon=True).start()
    return seen


BODIES = {
    "length": b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}',
    "chunked": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5;x=y\r\n": 1}\r\n0\r\n\r\n',
    "until the end": b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}',
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_body_is_read_whole_whatever_its_framing_and_cuts(tmp_path: Path, kind: str, step: int) -> None:
    seen = serve(f"{tmp_path}/s", BODIES[kind], step)
    assert Api(f"unix://{tmp_path}/s").call("POST", "/x", {"q": "a b"}, {"k": 1}) == {"a": 1}
    assert seen[0].startswith(b"POST /x?q=a%20b HTTP/1.1\r\n")
    assert seen[0].endswith(b'{"k": 1}')


def test_a_body_of_pieces_goes_out_in_chunks(tmp_path: Path) -> None:
    seen = serve(f"{tmp_path}/s", BODIES["length"], 1000)
    assert Api(f"unix://{tmp_path}/s").call("POST", "/x", None, iter([b"abc", b"", b"0123456789ab"])) == {"a": 1}
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head and b"Content-Length" not in head
    assert b"3\r\nabc\r\nc\r\n0123456789ab\r\n0\r\n\r\n".startswith(body)


def test_a_refusal_carries_the_engine_s_message_and_status(tmp_path: Path) -> None:
    serve(f"{tmp_path}/s", b'HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n{"message":"x"}', 100)
    with pytest.raises(ApiError, match=r"^x$") as caught:
        Api(f"unix://{tmp_path}/s").get("/x")
    assert caught.value.status == 404


def test_an_upgraded_stream_keeps_the_bytes_behind_the_head(tmp_path: Path) -> None:
    serve(f"{tmp_path}/s", b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nearly", 1000)
    response = Api(f"unix://{tmp_path}/s").request("POST", "/x", upgrade=True)
    assert response.take_buffer() == b"early"
    response.close()


@pytest.mark.parametrize("host", ["unix:///nowhere/at/all", "tcp://127.0.0.1:1", "bogus"])
def test_an_address_where_nothing_answers_is_said_so(host: str) -> None:
    with pytest.raises(NoEngine):
        Api(host).get("/x")


def test_what_is_not_http_is_said_so(tmp_path: Path) -> None:
    serve(f"{tmp_path}/s", b"SSH-2.0-x\r\n\r\n", 100)
    with pytest.raises(NoEngine, match="not HTTP"):
        Api(f"unix://{tmp_path}/s").get("/x")


def test_query_values_are_encoded_as_the_api_reads_them() -> None:
    query = {"all": True, "no": False, "none": None, "t": 0, "filters": {"a": ["b"]}, "many": ["x", "y"]}
    assert query_string(query) == "?all=1&t=0&filters=%7B%22a%22:%20%5B%22b%22%5D%7D&many=x&many=y"
