"""The command line of the runtime, and the small languages in its values."""

from __future__ import annotations

from random import Random

from sampan import errors
from sampan.runtime import exec, flags, kill, update
from sampan.runtime.verbs import VERBS

SEEDS = [
    b"run\0-b\0/x\0--preserve-fds\0003\0id", b"exec\0-t\0-e\0A=b\0-u\0001000:5\0id\0ls\0-l",
    b"update\0--memory\0002k\0id",
    b"kill\0id\0SIGRTMIN+3", b"events\0--interval\x005s\0id", b"update\0--cpu-share=5\0--memory-swap=-1\0x",
    b"kill\0-a\0id\00015",
]  # fmt: skip
ERRORS = (errors.InvalidArgument,)


def feed(data: bytes, random: Random) -> None:
    """Flags of a verb; then each word as whatever a word may be."""
    name, *words = data.decode("utf-8", "surrogateescape").split("\0")
    for word in words:
        for parser in (
            kill.parse_signal,
            update.parse_duration,
            exec.parse_id,
            lambda text: update.parse_size(text, "memory"),
        ):
            try:
                parser(word)
            except errors.InvalidArgument:
                continue
    verb = VERBS.get(name, VERBS["run"])
    values, _ = flags.parse(words, verb.flags, verb.reorder)
    if name == "update":
        update.resources_of(values)
