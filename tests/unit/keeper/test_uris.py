"""Streams named by URI: what is opened for each, and that a FIFO waits for nobody."""

import os

import pytest

from sampan import errors
from sampan.keeper import uris
from sampan.keeper.loop import Loop


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("/run/fifo 100%25", ("", "/run/fifo 100%25", [])),
        ("fifo:///run/x", ("fifo", "/run/x", [])),
        ("file:///var/log/a%20b", ("file", "/var/log/a b", [])),
        ("binary:///bin/l?id=a+b&flag&k=%3D", ("binary", "/bin/l", [("id", "a b"), ("flag", ""), ("k", "=")])),
        ("file:///broken%zz%4", ("file", "/broken%zz%4", [])),
        ("file:///%C3%BC", ("file", "/ü", [])),
    ],
)
def test_a_uri_is_taken_apart(uri, parts):
    assert uris.split(uri) == parts


def test_a_file_is_made_with_its_directories_and_appended_to(tmp_path):
    for text in (b"one\n", b"two\n"):
        fd = uris.open_output(f"file://{tmp_path}/new/log")
        os.write(fd, text)
        os.close(fd)
    assert (tmp_path / "new" / "log").read_bytes() == b"one\ntwo\n"


def test_what_is_not_there_or_has_another_scheme_is_refused(tmp_path):
    with pytest.raises(errors.NotFound):
        uris.open_output(f"{tmp_path}/none")
    for uri in ("npipe:////./pipe/x", "http://host/x"):
        with pytest.raises(errors.InvalidArgument, match="unknown STDIO scheme"):
            uris.open_output(uri)


def test_a_fifo_is_opened_before_its_reader_and_survives_it(tmp_path):
    os.mkfifo(tmp_path / "out")
    writer = uris.open_output(str(tmp_path / "out"))
    os.write(writer, b"early")
    for _ in range(2):
        reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
        assert os.read(reader, 100) == b"early"
        os.close(reader)
        os.write(writer, b"early")  # no SIGPIPE, and the next reader gets it
    os.close(writer)


def turn_until(loop, holds):
    for _ in range(200):
        if holds():
            return
        loop.turn(0.05)
    raise AssertionError("did not happen")


def test_input_goes_on_over_clients_and_ends_when_it_is_told(tmp_path):
    os.mkfifo(tmp_path / "in")
    loop, (source, target) = Loop(), os.pipe()
    os.set_blocking(source, False)
    fifo = uris.InputFifo(loop, str(tmp_path / "in"), target)
    got = []

    def read():
        try:
            got.append(os.read(source, 100))
        except BlockingIOError:
            pass
        return got

    for text in (b"one", b"two"):
        with open(tmp_path / "in", "wb", buffering=0) as client:
            client.write(text)
        turn_until(loop, lambda text=text: read()[-1:] == [text])
    with open(tmp_path / "in", "wb", buffering=0) as client:
        client.write(b"three")
        fifo.end()
    turn_until(loop, lambda: read()[-1:] == [b""])
    assert got == [b"one", b"two", b"three", b""]
    fifo.close()
    os.close(source)
    loop.close()
