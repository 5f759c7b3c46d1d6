"""Which descriptor has which number in the new process: the program's own come right behind the standard streams."""

from __future__ import annotations

import os
from fcntl import F_DUPFD_CLOEXEC, fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation


def place(keep_fds: list[int], situation: Situation, keep: list[int]) -> None:
    """Give the program's own descriptors the numbers 3, 4, ...; what of ours stands there moves up."""
    top = 3 + len(keep_fds)
    moves = {fd: _above(fd, top) for fd in {*keep, *(situation.stdio or ())} if 3 <= fd < top}
    sources = [_above(fd, top) for fd in keep_fds]
    situation.cgroups = [moves.get(fd, fd) for fd in situation.cgroups]
    situation.namespaces = {kind: moves.get(fd, fd) for kind, fd in situation.namespaces.items()}
    situation.sources = {place: [moves.get(fd, fd) for fd in opened] for place, opened in situation.sources.items()}
    situation.container_pidfd = moves.get(situation.container_pidfd, situation.container_pidfd)
    situation.fifo = moves.get(situation.fifo, situation.fifo)
    if situation.stdio:
        situation.stdio = tuple(moves.get(fd, fd) for fd in situation.stdio)  # type: ignore[assignment]
    number = situation.channel.fileno()
    if number in moves:
        situation.channel.detach()
        situation.channel = type(situation.channel)(moves[number])
    keep[:] = [moves.get(fd, fd) for fd in keep]
    for place, fd in enumerate(sources):
        os.dup2(fd, 3 + place, inheritable=True)
    keep.extend(range(3, top))


def _above(fd: int, lowest: int) -> int:
    """A duplicate of `fd` with a number of at least `lowest`."""
    return fcntl(fd, F_DUPFD_CLOEXEC, lowest)
