"""What init has in its hands while it performs its steps, and the one error they fail with."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.packets import PacketSocket


class StepFailed(Exception):
    """A step could not be done; the text is runc's, for the user. `kind` is the name of a class of `sampan.errors`."""

    def __init__(self, text: str, kind: str = "Error") -> None:
        super().__init__(text)
        self.kind = kind


class Situation:
    """Init's open descriptors and what one step leaves for a later one; -1 is "not open".

    `root` is an O_PATH fd of the container's root, `proc` a private procfs of its pid namespace. `cgroups` are the
    opened `tasks` files, `namespaces` the opened namespaces to join. `fifo` is what init waits at when its parent has
    gone. `in_user_namespace` says that the container's has been joined already. `sources` are what is to be bound, by
    destination and in order, -1 where the parent has not opened it. `states` are the JSON texts that hooks read.
    `narrate` asks for a message before each step.
    """

    __slots__ = (
        "argv0", "cgroups", "channel", "container_pidfd", "cwd", "env", "fifo", "hooks", "in_user_namespace",
        "namespaces", "narrate", "null", "path", "proc", "root", "root_path", "sources", "states", "stdio",
    )  # fmt: skip

    def __init__(self, channel: PacketSocket) -> None:
        self.channel = channel
        self.narrate = False
        self.stdio: tuple[int, int, int] | None = None
        self.cgroups: list[int] = []
        self.namespaces: dict[str, int] = {}
        self.container_pidfd = -1
        self.in_user_namespace = False
        self.fifo = -1
        self.root = -1
        self.root_path = ""
        self.proc = -1
        self.null = -1
        self.path = ""
        self.env: dict[str, str] = {}
        self.hooks: dict[str, list[dict[str, object]]] = {}
        self.states: dict[str, str] = {}
        self.sources: dict[str, list[int]] = {}


def words(error: OSError) -> str:
    """An errno as Go prints it: "no such file or directory"."""
    text = os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]


def detailed(error: OSError) -> str:
    """The failed call with the kernel's reason, as "move_mount: operation not permitted"."""
    call, colon, rest = str(error.strerror or "").partition(": ")
    return f"{call}: {rest[:1].lower()}{rest[1:]}" if colon else words(error)
