"""Executing our interpreter from a place that cannot be written, before it comes near a container (CVE-2019-5736).

A container's program can be made to be /proc/self/exe, which at execve is the interpreter itself. Through a handle on
it, kept until no interpreter runs, it could be overwritten for the whole host. From a detached read-only clone of its
mount every such handle is read-only for ever (EROFS), and no path leads to the clone. It costs 0.1 ms and one more
start of the interpreter, which is therefore the barest one: no site, no environment, no user paths.
"""

from __future__ import annotations

import os
import sys

from sampan.linux import abi, mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_EXE = "/proc/self/exe"


def is_sealed() -> bool:
    """Whether no handle on the running interpreter can be written: it is on a read-only mount, or sealed."""
    try:
        if os.statvfs(_EXE).f_flag & os.ST_RDONLY:
            return True
        return os.readlink(_EXE).startswith("/memfd:sampan")
    except OSError:
        return False


def sealed_executable() -> int:
    """A close-on-exec descriptor to execute the interpreter from. Errors: OSError."""
    try:
        fd = mount.open_tree(abi.AT_FDCWD, _EXE)
        mount.mount_setattr(fd, "", 0, abi.MOUNT_ATTR_RDONLY)
        return fd
    except OSError:
        # Without CAP_SYS_ADMIN, or before Linux 5.12: a copy in memory, which costs its 7 MB each time.
        from sampan.linux import fds

        with open(_EXE, "rb") as file:
            return fds.sealed_memfd("sampan", file.read())


def reexec(module: str, arguments: list[str]) -> NoReturn:
    """Start again as `module`.main(*arguments) of a sealed, isolated interpreter. Errors: OSError.

    The package is found where it was found now. The name in argv[0] is how the interpreter finds its own library.
    """
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = getattr(sys, "_base_executable", "") or sys.executable
    code = f"import sys; sys.path.insert(0, {here!r}); from {module} import main; main(sys.argv[1:])"
    # safe because the descriptor is the running interpreter's own file, and nothing of this process survives.
    os.execve(sealed_executable(), [program, "-I", "-S", "-c", code, *arguments], os.environ)  # noqa: S606
