"""Listings are laid out as Docker's are."""

import pytest

from sampan.cli.connection import NoEngine
from sampan.cli.containers import ports_text
from sampan.cli.references import familiar, fault, split_reference
from sampan.cli.tables import columns, print_list
from sampan.cli.terminal import key_bytes, write_frames
from sampan.wire.stdcopy import Demultiplexer

ROWS = [{"ID": "abc", "Name": "a-long-name"}, {"ID": "de", "Name": "x"}]
HEADERS = {"ID": "CONTAINER ID", "Name": "NAMES"}


def test_columns_are_as_wide_as_their_widest_cell_and_three_spaces_and_ten_at_least() -> None:
    assert columns([["A", "B", "C"], ["rather-long", "b", "c"]]) == (
        "A             B         C\nrather-long   b         c\n"
    )


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("", "CONTAINER ID   NAMES\nabc            a-long-name\nde             x\n"),
        ("{{.ID}}", "abc\nde\n"),
        ("json", '{"ID":"abc","Name":"a-long-name"}\n{"ID":"de","Name":"x"}\n'),
        (r"table {{.Name}}\t{{.ID}}", "NAMES         CONTAINER ID\na-long-name   abc\nx             de\n"),
    ],
)
def test_a_listing_in_each_form(form: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_list(ROWS, HEADERS, ["ID", "Name"], form)
    assert capsys.readouterr().out == text


def test_ports_are_listed_as_docker_ps_lists_them() -> None:
    ports = [
        {"PrivatePort": 443, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
    ]
    assert ports_text(ports) == "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("busybox", ("busybox", "")),
        ("127.0.0.1:5000/a/b:t", ("127.0.0.1:5000/a/b", "t")),
        ("localhost:5000/a", ("localhost:5000/a", "")),
        ("a@sha256:00", ("a", "sha256:00")),
    ],
)
def test_a_port_is_not_a_tag(name: str, parts: tuple[str, str]) -> None:
    assert split_reference(name) == parts


def test_a_pulled_name_is_shown_in_full() -> None:
    assert familiar("busybox:latest") == "docker.io/library/busybox:latest"
    assert familiar("a/b:1") == "docker.io/a/b:1"
    assert familiar("localhost:5000/a:1") == "localhost:5000/a:1"


def test_frames_reach_their_descriptor_wherever_the_stream_is_cut(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    stream = b"\x01\0\0\0\0\0\0\x03abc" + b"\x02\0\0\0\0\0\0\x02de" + b"\x01\0\0\0\0\0\0\0"
    for cut in range(len(stream)):
        frames = Demultiplexer()
        write_frames(frames, stream[:cut])
        write_frames(frames, stream[cut:])
        captured = capfdbinary.readouterr()
        assert (captured.out, captured.err) == (b"abc", b"de")


def test_what_is_no_stream_of_frames_is_said_so() -> None:
    with pytest.raises(NoEngine, match="unrecognized stream"):
        write_frames(Demultiplexer(), b"plain text")


@pytest.mark.parametrize(
    "name", ["busybox", "a/b:t", "localhost:5000/a-b/c_d:T.1", f"a@sha256:{'0' * 64}", "[::1]:5000/x"]
)
def test_a_reference_is_taken(name: str) -> None:
    assert fault(name) == ""


@pytest.mark.parametrize("name", ["", "a b", "x:", "-x/y", "x:bad/tag", "x:a:b", "x@sha256:short", "double//slash"])
def test_what_is_no_reference_is_refused(name: str) -> None:
    assert fault(name) == "invalid reference format"


def test_capitals_are_named_as_the_fault() -> None:
    assert fault("UPPER") == "invalid reference format: repository name must be lowercase"


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,x", b"\x00x"),
        ("ctrl-_", b"\x1f"),
        ("ctrl-1", b""),
        ("", b""),
    ],
)
def test_detach_keys_are_the_bytes_a_terminal_sends(keys: str, sent: bytes) -> None:
    assert key_bytes(keys) == sent
