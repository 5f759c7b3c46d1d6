"""A sealed interpreter that stays: the next start of the command executes it at once instead of sealing its own.

    /run/sampan-start/<path of the interpreter>/
        python3            the interpreter's file on a read-only mount of its own
        python3._pth       where that interpreter finds its library; pyvenv.cfg, for one that does not read the former
        lib/encodings      a small package in front of the library's (`small_encodings`)
        code-<v>-run, ...  the runtime's code for Python <v> and a verb (`code_file`)

`bin/sampan-runc` executes `python3` of the directory when it is the same file (device and inode) as the interpreter
beside the script, so that an upgraded interpreter is never mistaken for the old one. It is made by a start as root
that finds none. The mount is read-only before it is attached. A handle on the file, which a container may obtain (see
`seal`), is a handle on that mount: nobody in a container can change the mount's flags, since it is not in the
container's mount namespace, and without that every way to write gives EROFS.
"""

from __future__ import annotations

import os
import sys

from sampan.linux import abi, mount, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

ROOM = "/run/sampan-start"
_NAME = "python3"


def code_path(python: str, verb: str) -> str:
    """Where the code file of `verb` for the interpreter `python`, an absolute path, is; for this version of Python."""
    return f"{ROOM}{python}/code-{sys.hexversion:x}-{verb}"


def may_keep_code(python: str) -> bool:
    """Whether there is a directory for code files and we are the root who may write to it."""
    return os.geteuid() == 0 and os.access(ROOM + python, os.W_OK)


def restart(python: str) -> NoReturn:
    """Begin this process again from the standing interpreter for `python`, which is made when there is none.

    Errors: OSError where there can be none, as without CAP_SYS_ADMIN, with a /run that cannot be written, or before
    Linux 5.12.
    """
    place = ROOM + python
    if os.path.normpath(python) != python or not os.path.isabs(python):
        raise OSError(f"{python}: not a plain absolute path")
    os.makedirs(place, 0o755, exist_ok=True)
    owner = os.stat(ROOM)
    if owner.st_uid or owner.st_mode & 0o022:
        raise PermissionError(ROOM)
    lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        from fcntl import LOCK_EX, flock

        flock(lock, LOCK_EX)
        if not _stands(place, python):
            _make(place, python)
    finally:
        os.close(lock)
    # safe because it is the running interpreter's own file, and nothing of this process survives.
    os.execve(f"{place}/{_NAME}", [f"{place}/{_NAME}", *sys.orig_argv[1:]], os.environ)  # noqa: S606


def _stands(place: str, python: str) -> bool:
    path = f"{place}/{_NAME}"
    try:
        return os.path.samefile(path, python) and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _make(place: str, python: str) -> None:
    _sweep()
    os.makedirs(place, 0o755, exist_ok=True)
    base = getattr(sys, "_base_executable", "") or sys.executable
    with open(f"{place}/pyvenv.cfg", "w", encoding="utf-8") as file:
        file.write(f"home = {os.path.dirname(base)}\n")
    _small_library(place)
    # What the mount covers is no program: seen from a mount namespace that lacks the mount, nothing stands here.
    os.close(os.open(f"{place}/{_NAME}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0))
    tree = mount.open_tree(abi.AT_FDCWD, python)
    try:
        # Out of the peer group of what it is a copy of; a /run that is shared gives it one of its own.
        mount.mount_setattr(tree, "", 0, abi.MOUNT_ATTR_RDONLY, propagation=abi.MS_PRIVATE)
        mount.move_mount(tree, "", abi.AT_FDCWD, f"{place}/{_NAME}")
    finally:
        os.close(tree)


def _small_library(place: str) -> None:
    """Have the standing interpreter find what it imports at its start first in a directory with little in it."""
    try:
        from py_compile import compile as compiled
    except ImportError:
        return  # a library with parts left out: to compile the package at each start would cost what it saves
    library = os.path.dirname(sys.modules["encodings"].__path__[0])
    objects = f"{library}/lib-dynload"
    package = f"{place}/lib/encodings"
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "small_encodings.py"), "rb") as source:
        text = source.read()
    os.makedirs(package, 0o755, exist_ok=True)
    path = f"{package}/__init__.py"
    with open(path, "wb") as file:
        file.write(text)
    compiled(path, optimize=0)
    # Last, for it is what makes the interpreter look there. For root alone: another user, who may not even be able to
    # read root's library, has the interpreter look as it would anywhere.
    fd = os.open(f"{place}/{_NAME}._pth", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, f"{place}/lib\n{library}\n{objects}\n".encode("utf-8", "surrogateescape"))
    os.close(fd)


def _sweep() -> None:
    """Take away what stands for an interpreter that is gone or another file by now."""
    for one in mountinfo.read():
        place, _, name = one.mount_point.rpartition("/")
        if name != _NAME or not place.startswith(f"{ROOM}/") or _stands(place, place.removeprefix(ROOM)):
            continue
        try:
            mount.umount2(one.mount_point, abi.MNT_DETACH)
            _remove(place)
            os.removedirs(os.path.dirname(place))
        except OSError:
            pass  # another mount hides it, or somebody else is at the same work


def _remove(directory: str) -> None:
    """A directory that only root can write to, with all in it."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if os.path.isdir(path) and not os.path.islink(path):
            _remove(path)
        else:
            os.unlink(path)
    os.rmdir(directory)
