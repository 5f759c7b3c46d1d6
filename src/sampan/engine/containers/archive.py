"""A container's root file system from outside: docker cp, and the source of a volume's copy-up.

The layers are mounted detached (no path leads to the mount, closing the fd ends it), and every name is resolved
inside that root by openat2, so no symlink of the container leads to the host.
"""

from __future__ import annotations

import base64
import io
import json
import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from sampan.containerd.services import Mount
from sampan.engine.containers.room import Room
from sampan.engine.timestamps import rfc3339
from sampan.errors import InvalidArgument, NotFound
from sampan.linux import mount, paths

_MAX_LINKS = 40
"""As many symlinks as the kernel follows on one path (path_resolution(7))."""
_OWN_FLAGS = frozenset(("ro", "rw", "rbind", "bind", "volatile"))


@contextmanager
def rootfs(mounts: Sequence[Mount]) -> Iterator[int]:
    """An O_PATH fd of the merged root. OSError."""
    layer = mounts[0]
    if layer.type in ("bind", "rbind"):
        fd = os.open(layer.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        options: list[tuple[str, str | None]] = []
        for option in layer.options:
            key, equals, value = option.partition("=")
            if key not in _OWN_FLAGS:
                options.append((key, value if equals else None))
        fd = mount.new_mount(layer.type, options)
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a container's files are: behind `pid` while it runs, else in the layers of `mounts`."""

    reference: str
    """How the caller named the container, for texts."""
    pid: int
    mounts: Sequence[Mount]


def source_of(room: Room, reference: str) -> Source:
    """Asked on the loop's thread; everything below runs in a worker's. NotFound."""
    record = room.store.get(reference)
    if record.has_task:
        return Source(reference, record.pid, ())
    return Source(reference, 0, room.core.snapshots.mounts(record.id))


@contextmanager
def root_of(source: Source) -> Iterator[int]:
    """The root of a container as it is now: its own view, mounts and all, while it runs. OSError."""
    if not source.pid:
        with rootfs(source.mounts) as root:
            yield root
        return
    fd = os.open(f"/proc/{source.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def open_directory(root: int, path: str) -> int | None:
    """An O_PATH fd of the directory `path` in the root, None when there is none."""
    try:
        return paths.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None


def stat_header(source: Source, path: str) -> str:
    """The value of X-Docker-Container-Path-Stat: base64 of name, size, Go's file mode, mtime, linkTarget. NotFound."""
    with root_of(source) as root:
        fd = _open(root, source, path)
        try:
            return _header(fd, path, _target(root, path) if stat.S_ISLNK(os.fstat(fd).st_mode) else "")
        finally:
            os.close(fd)


def _open(root: int, source: Source, path: str) -> int:
    """An O_PATH fd of `path` itself: a symlink at its end is not followed, unless the path ends in a slash."""
    try:
        flags = os.O_PATH if path.endswith(("/", "/.")) else os.O_PATH | os.O_NOFOLLOW
        return paths.open_in_root(root, path or "/", flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path} in container {source.reference}") from None


def _target(root: int, path: str) -> str:
    """Where the symlink `path` leads in the end, as an absolute path of the container; it need not exist."""
    found = posixpath.normpath("/" + path.lstrip("/"))  # normpath keeps a double slash at the beginning
    for _ in range(_MAX_LINKS):
        try:
            fd = paths.open_in_root(root, found, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            break
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                break
            found = posixpath.normpath(
                posixpath.join(posixpath.dirname(found), os.fsdecode(os.readlink(b"", dir_fd=fd)))
            )
        finally:
            os.close(fd)
    return found


def _header(fd: int, path: str, target: str) -> str:
    status = os.fstat(fd)
    document = {
        "name": _name(path),
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime": rfc3339(status.st_mtime_ns),
        "linkTarget": target,
    }
    return base64.standard_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


def _name(path: str) -> str:
    """The name at the top of the archive. `dir/.` asks for what is in the directory, and its own name is "."."""
    if path == "." or path.endswith("/."):
        return "."
    return posixpath.basename(posixpath.normpath("/" + path)) or "/"


# stat's file type to the bit that Go's os.FileMode has for it.
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}


def go_mode(mode: int) -> int:
    """A mode as Go's os.FileMode, which the API carries."""
    found = mode & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0)
    for bit, go in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        found |= go if mode & bit else 0
    return found


def get(source: Source, path: str, target: BinaryIO) -> None:
    """Write `path` as a tar to `target`. NotFound, OSError."""
    with root_of(source) as root:
        fd = _open(root, source, path)
        try:
            with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, fd, _name(path), {})
        finally:
            os.close(fd)


def export(source: Source, target: BinaryIO) -> None:
    """The whole file system as a tar, names relative to the root and without what is mounted below it. OSError."""
    with root_of(source) as root:
        device = os.fstat(root).st_dev
        directory = paths.reopen(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            seen: dict[tuple[int, int], str] = {}
            with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for entry in sorted(os.listdir(directory)):
                    child = os.open(entry, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                    try:
                        _add(archive, child, entry, seen, device)
                    finally:
                        os.close(child)
        finally:
            os.close(directory)


def _add(
    archive: tarfile.TarFile, fd: int, name: str, seen: dict[tuple[int, int], str], device: int | None = None
) -> None:
    """One inode by its O_PATH fd, and all below it; nothing is looked up by a path that could change meanwhile.

    `device`: directories of other devices, which are mounts, are left empty."""
    status = os.fstat(fd)
    info = _info(status, fd, name)
    if info is None:
        return
    if info.type == tarfile.REGTYPE:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in seen:
            info.type, info.linkname, info.size = tarfile.LNKTYPE, seen[key], 0
            archive.addfile(info)
            return
        seen[key] = name
        with open(paths.reopen(fd, os.O_RDONLY), "rb") as file:
            archive.addfile(info, _Exactly(file, info.size))
        return
    archive.addfile(info)
    if info.type == tarfile.DIRTYPE and device in (None, status.st_dev):
        directory = paths.reopen(fd, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for entry in sorted(os.listdir(directory)):
                child = os.open(entry, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                try:
                    _add(archive, child, f"{name.rstrip('/')}/{entry}", seen, device)
                finally:
                    os.close(child)
        finally:
            os.close(directory)


class _Exactly(io.RawIOBase):
    """A file that has `size` bytes whatever it does while it is read: short ones are filled with zeros."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._rest = file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self._rest if size < 0 else min(size, self._rest)
        data = self._file.read(wanted)
        data += b"\0" * (wanted - len(data))
        self._rest -= len(data)
        return data


def _info(status: os.stat_result, fd: int, name: str) -> tarfile.TarInfo | None:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    info.mtime = int(status.st_mtime)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        info.type, info.size = tarfile.REGTYPE, status.st_size
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(b"", dir_fd=fd))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    else:
        return None  # a socket has no form in a tar
    return info


def put(source: Source, path: str, data: BinaryIO, *, no_overwrite: bool = False) -> None:
    """Unpack the tar `data` into the directory `path`.

    NotFound, InvalidArgument (not a directory, a bad tar), OSError."""
    with root_of(source) as root:
        try:
            base = paths.open_in_root(root, path or "/", os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            raise NotFound(f"Could not find the file {path} in container {source.reference}") from None
        except NotADirectoryError:
            raise InvalidArgument("extraction point is not a directory") from None
        directories: list[tarfile.TarInfo] = []
        try:
            with tarfile.open(fileobj=data, mode="r|*") as archive:
                for info in archive:
                    _extract(archive, info, base, no_overwrite)
                    if info.isdir():
                        directories.append(info)
            for info in reversed(directories):
                # What was unpacked into it since has changed its times.
                _set_times(info, base)
        except tarfile.TarError as error:
            raise InvalidArgument(f"invalid tar: {error}") from None
        finally:
            os.close(base)


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo, base: int, no_overwrite: bool) -> None:
    """One member below `base`. Its parents are resolved inside `base`; its last name is never followed."""
    name = _inside(info.name)
    if not name:
        return
    parent, last = paths.parent_in_root(base, name)
    try:
        _replace(parent, last, info, no_overwrite)
        if info.isdir():
            _make_directory(parent, last)
        elif info.issym():
            os.symlink(info.linkname, last, dir_fd=parent)
        elif info.islnk():
            source_parent, source = paths.parent_in_root(base, info.linkname)
            try:
                os.link(source, last, src_dir_fd=source_parent, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source_parent)
        elif info.isfile():
            _write(archive, info, parent, last)
            return
        elif info.isfifo():
            os.mkfifo(last, 0o600, dir_fd=parent)
        else:
            kind = stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(last, kind | 0o600, os.makedev(info.devmajor, info.devminor), dir_fd=parent)
        _apply(parent, last, info)
    finally:
        os.close(parent)


def _replace(parent: int, last: str, info: tarfile.TarInfo, no_overwrite: bool) -> None:
    """Make room: anything but a directory gives way; a directory and a file never replace each other on request."""
    try:
        mode = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    is_directory = stat.S_ISDIR(mode)
    if is_directory and info.isdir():
        return
    if no_overwrite and is_directory != info.isdir():
        kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
        raise InvalidArgument(f'cannot overwrite {kinds[0]} "{info.name}" with {kinds[1]}')
    if not is_directory:
        os.unlink(last, dir_fd=parent)
    elif not info.isdir():
        os.rmdir(last, dir_fd=parent)


def _make_directory(parent: int, last: str) -> None:
    try:
        os.mkdir(last, 0o700, dir_fd=parent)
    except FileExistsError:
        pass  # unpacking into what is there


def _write(archive: tarfile.TarFile, info: tarfile.TarInfo, parent: int, last: str) -> None:
    content = archive.extractfile(info)
    assert content is not None
    fd = os.open(last, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    with open(fd, "wb") as file:
        while data := content.read(1 << 20):
            file.write(data)
        file.flush()
        # By the descriptor: by now the container may have put something else under the name.
        os.fchown(fd, info.uid, info.gid)
        os.fchmod(fd, stat.S_IMODE(info.mode))
        os.utime(fd, (info.mtime, info.mtime))


def _set_times(info: tarfile.TarInfo, base: int) -> None:
    name = _inside(info.name)
    if not name:
        return
    parent, last = paths.parent_in_root(base, name)
    try:
        os.utime(last, (info.mtime, info.mtime), dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        pass  # a later member of the archive took its place
    finally:
        os.close(parent)


def _inside(name: str) -> str:
    """A member's name relative to where it is unpacked; "" for that directory itself."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _apply(parent: int, last: str, info: tarfile.TarInfo) -> None:
    """Owner, mode and times of what was just made and is no file of our own.

    A running container may swap the name meanwhile: chmod(2) follows a symlink, and what that names is a path of the
    host (CVE-2021-41089)."""
    os.chown(last, info.uid, info.gid, dir_fd=parent, follow_symlinks=False)
    if not info.issym():
        fd = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(info.mode))
        finally:
            os.close(fd)
    times: Any = (info.mtime, info.mtime)
    os.utime(last, times, dir_fd=parent, follow_symlinks=False)
