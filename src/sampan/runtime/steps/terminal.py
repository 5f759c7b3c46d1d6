"""The step that gives the process a terminal."""

from __future__ import annotations

import os
import stat

from sampan.linux import abi, mount, paths, tty
from sampan.runtime import handshake
from sampan.runtime.steps.situation import StepFailed, detailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation

_CLONE = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC


def console(init: Situation, size: list[int] | tuple[int, int] | None, device: bool) -> None:
    """A pty of the container's own devpts: its slave becomes stdio, its master goes to the parent.

    It is opened from the inside, so that its name /dev/pts/N is true for the container.
    """
    try:
        devpts = paths.open_in_root(init.root, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
        master, slave, number = tty.openpty(devpts)
        os.close(devpts)
        if size and size[0] and size[1]:
            tty.set_winsize(slave, size[0], size[1])
        if device:
            _console_device(init, slave)
        tty.set_controlling_terminal(slave)
        handshake.send(init.channel, handshake.CONSOLE, f"/dev/pts/{number}", (master,))
        os.close(master)
    except OSError as error:
        raise StepFailed(f"error setting up console: {detailed(error)}") from None
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.close(slave)
    init.stdio = None


def _console_device(init: Situation, slave: int) -> None:
    """Bind the slave over /dev/console, which is made here and never followed if it is a link (CVE-2025-52565)."""
    parent, name = paths.parent_in_root(init.root, "/dev/console")
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
    try:
        os.close(os.open(name, flags, 0o666, dir_fd=parent))
    except FileExistsError:
        pass
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    if stat.S_ISLNK(os.fstat(target).st_mode):
        raise StepFailed("error setting up console: /dev/console is a symbolic link")
    made = mount.open_tree(slave, "", _CLONE | abi.AT_EMPTY_PATH)
    mount.move_mount(made, "", target, "")
    for fd in (made, target, parent):
        os.close(fd)
