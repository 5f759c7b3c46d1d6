"""Reading Docker's json-file logs: the current file and the rotated ones (PATH.1 is the newest of those).

Lines as the keeper writes them: {"log":"text\\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}.
Nothing here waits; following is `following.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sampan.engine.timestamps import from_rfc3339
from sampan.errors import InvalidArgument

_CHUNK = 64 * 1024


class _Line(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One log line (or part of a very long one). `time` in nanoseconds since the epoch, `stamp` as written."""

    stream: str
    text: str
    time: int
    stamp: str
    attrs: dict[str, str]


_decode = msgspec.json.Decoder(_Line).decode


def parse(line: bytes) -> Entry | None:
    """None for a line that is none: one cut short by a crash, or bytes of something else."""
    try:
        found = _decode(line)
        return Entry(found.stream, found.log, from_rfc3339(found.time), found.time, found.attrs)
    except (msgspec.DecodeError, InvalidArgument):
        return None


@dataclass(frozen=True, slots=True)
class Selection:
    """`tail`: the last so many lines, None for all; times in nanoseconds since the epoch, None for no bound."""

    stdout: bool = True
    stderr: bool = True
    since: int | None = None
    until: int | None = None
    tail: int | None = None

    def wants(self, entry: Entry) -> bool:
        if self.since is not None and entry.time < self.since:
            return False
        if self.until is not None and entry.time > self.until:
            return False
        return self.stderr if entry.stream == "stderr" else self.stdout


def files(path: str, max_file: int) -> list[str]:
    """The log's files that exist, oldest first."""
    rotated = [f"{path}.{number}" for number in range(max_file - 1, 0, -1)]
    return [name for name in [*rotated, path] if os.path.exists(name)]


def read(paths: Sequence[str], selection: Selection, size: int | None = None) -> Iterator[Entry]:
    """The selected entries of the files, oldest first. OSError. A `tail` reads only as much as it needs.

    `size` bounds the last file: what is written behind it is somebody else's to read."""
    if selection.tail is not None:
        yield from _tail(paths, selection, size)
        return
    for path in paths:
        rest = size if path is paths[-1] and size is not None else -1
        with open(path, "rb") as file:
            for line in file:
                if rest >= 0:
                    rest -= len(line)
                    if rest < 0:
                        break
                entry = parse(line)
                if entry is not None and selection.wants(entry):
                    yield entry


def _tail(paths: Sequence[str], selection: Selection, size: int | None) -> list[Entry]:
    """From the end backwards until enough is found."""
    found: list[Entry] = []
    wanted = selection.tail or 0
    for path in reversed(paths):
        for line in _lines_backwards(path, size if path is paths[-1] else None):
            if len(found) >= wanted:
                break
            entry = parse(line)
            if entry is None:
                continue
            if selection.since is not None and entry.time < selection.since:
                return found[::-1]
            if selection.wants(entry):
                found.append(entry)
    return found[::-1]


def _lines_backwards(path: str, size: int | None) -> Iterator[bytes]:
    """The file's complete lines, last first."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        if size is not None:
            position = min(position, size)
        rest = b""
        while position > 0:
            length = min(_CHUNK, position)
            position -= length
            file.seek(position)
            parts = (file.read(length) + rest).split(b"\n")
            # The first part may begin in an earlier chunk.
            rest = parts[0]
            for part in reversed(parts[1:]):
                if part:
                    yield part
        if rest:
            yield rest


class Tailer:
    """What is appended to the log from a moment on: `poll` reads what is new, over rotation.

    `size` is where it began: what `read` may have.

    Opened at the end of the file, or `at_start`. Close it. An unfinished line waits for its rest."""

    def __init__(self, path: str, at_start: bool = False) -> None:
        self._path = path
        self._rest = b""
        self._file: Any = None
        self._open()
        self.size = 0
        if self._file is not None and not at_start:
            self.size = self._file.seek(0, os.SEEK_END)

    def _open(self) -> None:
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115 - kept open until close
        except FileNotFoundError:
            self._file = None

    def poll(self) -> Iterator[Entry]:
        while True:
            if self._file is None:
                self._open()
                if self._file is None:
                    return
            while data := self._file.read(_CHUNK):
                lines = (self._rest + data).split(b"\n")
                self._rest = lines.pop()
                yield from (entry for line in lines if (entry := parse(line)) is not None)
            if not self._rotated():
                return
            # The old file was read to its end: its name now belongs to the next one.
            self._file.close()
            self._file, self._rest = None, b""

    def _rotated(self) -> bool:
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        held = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
