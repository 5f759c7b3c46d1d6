"""A container's output as Docker's json-file log: one JSON object a line, rotated by size.

    {"log":"text\\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}

As dockerd writes it: a line longer than PARTIAL bytes is cut into pieces without "\\n"; what is left at the end of the
stream has none either; invalid UTF-8 is U+FFFD, one a byte; trailing zeros of the time are dropped (RFC 3339 with
nanoseconds). Lines that arrive in one read carry one time. Source: Docker's json-file logging driver.
"""

from __future__ import annotations

import os
import re
import sys
import time
from json.encoder import encode_basestring

PARTIAL = 16 * 1024
"""Bytes of an unfinished line after which dockerd writes it as a piece."""

_SPECIAL = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\udc80-\udcff]')
_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\r": "\\r",
    "\n": "\\n",
}
_PATCHES = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    known = _ESCAPES.get(character)
    if known is not None:
        return known
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return "\\ufffd"  # a byte that is not UTF-8, as the surrogateescape error handler keeps it
    return f"\\u{code:04x}"


def encode_text(data: bytes) -> str:
    """`data` as the inside of a JSON string, newlines as "\\n"."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _exactly(data.decode("utf-8", "surrogateescape"))
    # The json module's C function is fifty times faster than the expression, and differs in a few characters only.
    encoded = encode_basestring(text)[1:-1]
    if "\t" in text or "\b" in text or "\f" in text:
        if "\\" in text:
            return _exactly(text)
        # Without a backslash in the text, each one here begins an escape.
        encoded = encoded.replace("\\t", "\\u0009").replace("\\b", "\\u0008").replace("\\f", "\\u000c")
    for character, escape in _PATCHES:
        if character in encoded:
            encoded = encoded.replace(character, escape)
    return encoded


def _exactly(text: str) -> str:
    return _SPECIAL.sub(_escape, text)


def encode_lines(data: bytes, tail: str) -> bytes:
    """Whole lines (the last "\\n" left out) as records, each ended by `tail`; none may be longer than PARTIAL."""
    if b"\\" in data:
        lines = [encode_text(line) for line in data.split(b"\n")]
    else:
        # Again, every "\\n" is now a newline.
        lines = encode_text(data).split("\\n")
    return ('{"log":"' + ("\\n" + tail + '{"log":"').join(lines) + "\\n" + tail).encode()


def format_time(nanoseconds: int) -> str:
    """RFC 3339 in UTC, with as many of the nine fractional digits as are needed."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    parts = time.gmtime(seconds)
    head = f"{parts[0]:04}-{parts[1]:02}-{parts[2]:02}T{parts[3]:02}:{parts[4]:02}:{parts[5]:02}"
    if not fraction:
        return head + "Z"
    return f"{head}.{fraction:09}".rstrip("0") + "Z"


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Split `data` into records (those that end with "\\n" are whole lines, others pieces) and the unfinished rest.

    The rest is shorter than PARTIAL."""
    records: list[bytes] = []
    lines = data.split(b"\n")
    rest = lines.pop()
    for line in lines:
        while len(line) >= PARTIAL:
            records.append(line[:PARTIAL])
            line = line[PARTIAL:]
        records.append(line + b"\n")
    while len(rest) >= PARTIAL:
        records.append(rest[:PARTIAL])
        rest = rest[PARTIAL:]
    return records, rest


class LogFile:
    """One container's log. `feed` what is read, `finish` a stream at its end, `close`.

    `max_size` in bytes (0: never rotate); `max_file` files are kept: PATH, PATH.1, ... A disk that refuses loses
    lines, says so once on stderr, and never holds up the container.
    """

    def __init__(self, path: str, max_size: int = 0, max_file: int = 1) -> None:
        self.path = path
        self.max_size = max_size
        self.max_file = max_file
        self._rest: dict[str, bytes] = {}
        self._complained = False
        self._open(0)

    def _open(self, flags: int) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o640)
        self._size = os.fstat(self._fd).st_size if not flags else 0

    def feed(self, stream: str, data: bytes) -> None:
        """Write what is complete of `data`, which was read from `stream` (stdout or stderr)."""
        rest = self._rest.pop(stream, b"")
        if rest:
            data = rest + data
        tail = f'","stream":"{stream}","time":"{format_time(time.time_ns())}"}}\n'
        end = data.rfind(b"\n") + 1
        if end and longest(data) < PARTIAL:
            batch = encode_lines(data[: end - 1], tail)
            if not self.max_size or self._size + len(batch) < self.max_size:
                self._keep(stream, data[end:])
                self._write(batch)
                return
        records, rest = cut(data)
        self._keep(stream, rest)
        self._write_records([_line(record, tail) for record in records])

    def finish(self, stream: str) -> None:
        """The stream has ended: write its unfinished line."""
        rest = self._rest.pop(stream, b"")
        if rest:
            tail = f'","stream":"{stream}","time":"{format_time(time.time_ns())}"}}\n'
            self._write_records([_line(rest, tail)])

    def close(self) -> None:
        """Write what is unfinished and close the file."""
        for stream in list(self._rest):
            self.finish(stream)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _keep(self, stream: str, rest: bytes) -> None:
        if rest:
            self._rest[stream] = rest

    def _write_records(self, records: list[bytes]) -> None:
        if not self.max_size:
            self._write(b"".join(records))
            return
        batch: list[bytes] = []
        size = self._size
        for record in records:
            # As dockerd: the file that has reached its size is rotated before the next line.
            if size >= self.max_size:
                self._write(b"".join(batch))
                batch = []
                self._rotate()
                size = 0
            batch.append(record)
            size += len(record)
        self._write(b"".join(batch))

    def _write(self, batch: bytes) -> None:
        if not batch or self._fd < 0:
            return
        try:
            done = os.write(self._fd, batch)
            while done < len(batch):
                done += os.write(self._fd, memoryview(batch)[done:])
        except OSError as error:
            self._complain(error)
            return
        self._size += len(batch)

    def _rotate(self) -> None:
        try:
            os.close(self._fd)
            self._fd = -1
            if self.max_file < 2:
                self._open(os.O_TRUNC)
                return
            for number in range(self.max_file - 1, 0, -1):
                older = f"{self.path}.{number}"
                newer = f"{self.path}.{number - 1}" if number > 1 else self.path
                try:
                    os.rename(newer, older)
                except FileNotFoundError:
                    pass  # fewer files than max_file exist so far
            self._open(0)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            print(f"log {self.path}: {error}", file=sys.stderr, flush=True)


def longest(data: bytes) -> int:
    """The bytes of the longest line, newlines not counted."""
    return len(data) if len(data) < PARTIAL else max(map(len, data.split(b"\n")))


def _line(record: bytes, tail: str) -> bytes:
    return ('{"log":"' + encode_text(record) + tail).encode()
