"""Writing a layer's members into a directory: the file system half of unpacking (image-spec layer.md).

Two ways to carry out whiteouts. `OVERLAY`: the directory is this layer alone; a removed name becomes a character
device 0/0 and an opaque directory gets overlay's xattr (overlayfs.rst), so that layers need not wait for each other.
`REMOVE`: the directory is a copy of the layers below, and names are really removed.

What a layer leaves to the layers below it (attributes of directories it does not name, hard links to their files) is
returned in `Applied` and settled when the layer gets its place in a chain (`diff/settle.py`).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from sampan import errors
from sampan.containerd.diff import names
from sampan.containerd.diff.tree import Tree
from sampan.wire import layer_tar
from sampan.wire.layer_tar import Entry, LayerTar, TarError

OVERLAY, REMOVE = "overlay", "remove"

_BLOCK = 4096
_DEFAULT_ACL = "system.posix_acl_default"
_NAME_MAX = 255

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODE = {layer_tar.CHAR: stat.S_IFCHR, layer_tar.BLOCK_DEVICE: stat.S_IFBLK, layer_tar.FIFO: stat.S_IFIFO}
# What a layer's own shape can make a call fail with; anything else (ENOSPC, EIO) is the machine's trouble.
_LAYER_FAULTS = frozenset((errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.EEXIST, errno.EXDEV,
                           errno.EMLINK, errno.EPERM, errno.EINVAL, errno.EFBIG, errno.EOPNOTSUPP))  # fmt: skip


@dataclass(slots=True)
class Applied:
    """What was written: `size` in bytes of disk blocks and `inodes`, estimated as they were made.

    `implied`: directories made without a member of their own; `links`: (path, target) of hard links whose target
    is not in this layer. Both are clean paths, parents first."""

    size: int = 0
    inodes: int = 0
    implied: list[bytes] = field(default_factory=list)
    links: list[tuple[bytes, bytes]] = field(default_factory=list)


class LayerWriter:
    """Feed it a layer's tar; then `finish`. Every path stays inside `root`, whatever the tar says.

    `unmasked`: this process' umask is 0, so that a file can be made with its mode. InvalidArgument for bytes that are
    no layer; OSError when the file system refuses. `close` in any case."""

    def __init__(
        self, root: str, scratch: str, *, whiteouts: str = OVERLAY, userxattr: bool = False, unmasked: bool = False
    ) -> None:
        self._tree = Tree(root, scratch)
        self._tar = LayerTar()
        self._overlay = whiteouts == OVERLAY
        self._opaque_xattr = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
        self._file: int | None = None
        self._entry: Entry | None = None
        self._times: dict[bytes, tuple[int, int]] = {}
        self._links: dict[bytes, bytes] = {}
        self._written: set[bytes] = set()  # for REMOVE: an opaque mark spares what this layer brought
        self._applied = Applied()
        # Whether what is made has our owner and the mode it is made with: true until a directory here gives its group
        # (set-gid) or an access control list to what is made inside.
        self._born_right = unmasked and self._overlay and _is_pristine(self._tree.fd)
        self._owner = (os.geteuid(), os.getegid())

    def feed(self, data: bytes | memoryview) -> None:
        try:
            for event in self._tar.feed(data):
                if isinstance(event, Entry):
                    self._end_file()
                    self._entry = event
                    self._member(event)
                elif self._file is not None:
                    self._write(event)
        except TarError as error:
            raise errors.InvalidArgument(f"archive/tar: {error}") from error
        except OSError as error:
            raise self._blame(error) from error

    def finish(self) -> Applied:
        """The tar ended: the last file, the directories' times, what is left to the layers below."""
        try:
            self._tar.finish()
            self._end_file()
            for path, target in list(self._links.items()):
                # A target that came after its link, which no tar command writes and some builders do. A link that
                # was made may have taken the place of a directory, with others that waited below it.
                if path in self._links and not self._link(path, target):
                    self._applied.links.append((path, target))
            for path, times in self._times.items():
                self._set_times(path, times)
        except TarError as error:
            raise errors.InvalidArgument(f"archive/tar: {error}") from error
        except OSError as error:
            raise self._blame(error) from error
        self._applied.implied = sorted(self._tree.implied)
        return self._applied

    def _set_times(self, path: bytes, times: tuple[int, int]) -> None:
        """Of a directory, which may have gone: a symlink on the way to it can lead elsewhere by now."""
        try:
            fd = self._tree.existing(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            os.utime(f"/proc/self/fd/{fd}", ns=times)
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._tree.close()

    def _blame(self, error: OSError) -> Exception:
        name = self._entry.name.decode(errors="replace") if self._entry else ""
        if error.errno not in _LAYER_FAULTS:
            return OSError(error.errno, error.strerror, f"/{name}")
        return errors.InvalidArgument(f'cannot apply "{name[:200]}": {error.strerror}')

    def _member(self, entry: Entry) -> None:
        path = names.clean(entry.name)
        parent, name = names.split(path)
        if not path:
            if entry.kind != layer_tar.DIRECTORY:
                raise errors.InvalidArgument("invalid layer: its root is not a directory")
            self._directory_attributes(entry, os.dup(self._tree.fd), path)
            return
        if name.startswith(names.WHITEOUT_PREFIX):
            self._whiteout(parent, name)
            return
        self._links.pop(path, None)
        if entry.kind == layer_tar.LINK:
            target = names.clean(entry.linkname)
            if target != path and not self._link(path, target):
                self._tree.allowance.take(len(path) + len(target))
                self._links[path] = target
            return
        fd = self._tree.directory(parent)
        replaced, hidden = -1, False
        try:
            try:
                self._create(entry, fd, name)
            except FileExistsError:
                if entry.kind != layer_tar.DIRECTORY or not _is_directory(fd, name):
                    fd = replaced = os.dup(fd)
                    hidden = self._replace(fd, name, path)
                    self._create(entry, fd, name)
            self._attributes(entry, fd, name, path)
        finally:
            if replaced >= 0:
                os.close(replaced)
        if hidden and self._overlay and entry.kind == layer_tar.DIRECTORY:
            # The layer removes what is below by a whiteout and brings a directory of its own.
            self._mark_opaque(path)

    def _attributes(self, entry: Entry, fd: int, name: bytes, path: bytes) -> None:
        """Of what was just made; a file's come when it is whole."""
        if not self._overlay:
            self._tree.allowance.take(len(path))
            self._written.add(path)
        self._tree.implied.pop(path, None)
        self._applied.inodes += 1
        if entry.kind == layer_tar.DIRECTORY:
            self._directory_attributes(entry, os.open(name, _OPEN_DIRECTORY, dir_fd=fd), path)
        elif entry.kind != layer_tar.FILE:
            self._node_attributes(entry, fd, name)

    def _create(self, entry: Entry, fd: int, name: bytes) -> None:
        """FileExistsError when something is there."""
        if entry.kind == layer_tar.FILE:
            self._file = os.open(
                name, _NEW_FILE, entry.mode & 0o777 if self._is_born_right(entry) else 0o600, dir_fd=fd
            )
            if entry.sparse:
                os.ftruncate(self._file, entry.size)
            self._applied.size += -(-entry.size // _BLOCK) * _BLOCK
        elif entry.kind == layer_tar.DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=fd)
            self._applied.size += _BLOCK
        elif entry.kind == layer_tar.SYMLINK:
            if not entry.linkname:
                # symlink(2) would say ENOENT, which is otherwise the machine's trouble.
                raise errors.InvalidArgument(f'cannot apply "{name.decode(errors="replace")}": link to nothing')
            os.symlink(entry.linkname, name, dir_fd=fd)
        else:
            device = 0 if entry.kind == layer_tar.FIFO else os.makedev(entry.major, entry.minor)
            os.mknod(name, _NODE[entry.kind] | 0o600, device, dir_fd=fd)

    def _replace(self, fd: int, name: bytes, path: bytes) -> bool:
        """Delete what a later member takes the place of; whether that was a whiteout.

        `fd` is the caller's own: the tree's descriptors are not good afterwards, and what is deleted may be the symlink
        that the directory was reached by, so it must not be looked up again."""
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        self._tree.remove(fd, name)
        if stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
            below = path + b"/"
            for table in (self._times, self._links, self._tree.implied):
                for gone in [one for one in table if one == path or one.startswith(below)]:
                    del table[gone]
        return _is_whiteout(status)

    def _write(self, event: memoryview | tuple[int, memoryview]) -> None:
        assert self._file is not None
        if isinstance(event, tuple):
            offset, piece = event
            while piece:
                written = os.pwrite(self._file, piece, offset)
                offset, piece = offset + written, piece[written:]
            return
        while event:
            event = event[os.write(self._file, event) :]

    def _end_file(self) -> None:
        """The present file is whole: its attributes, owner first: chown(2) clears set-id bits and capabilities."""
        fd, entry = self._file, self._entry
        if fd is None or entry is None:
            return
        self._file = None
        try:
            if not self._is_born_right(entry):
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode & 0o7777)
            if entry.xattrs:
                self._xattrs(entry, fd)
            os.utime(fd, ns=_times(entry))
        finally:
            os.close(fd)

    def _is_born_right(self, entry: Entry) -> bool:
        """Whether a file or symlink has its owner and mode from the start. No set-id bits, which writing may clear."""
        return self._born_right and (entry.uid, entry.gid) == self._owner and not entry.mode & 0o7000

    def _directory_attributes(self, entry: Entry, fd: int, path: bytes) -> None:
        """Takes `fd`. The times come last of all, in `finish`: every member made inside changes them."""
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode & 0o7777)
            self._xattrs(entry, fd)
        finally:
            os.close(fd)
        if entry.mode & stat.S_ISGID or _DEFAULT_ACL in entry.xattrs:
            self._born_right = False
        if path not in self._times:
            self._tree.allowance.take(len(path))
        self._times[path] = _times(entry)

    def _node_attributes(self, entry: Entry, fd: int, name: bytes) -> None:
        if entry.kind != layer_tar.SYMLINK or not self._is_born_right(entry):
            os.chown(name, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
        if entry.kind != layer_tar.SYMLINK:
            # safe because `name` was just made as a node in a directory that nobody else writes: no symlink is followed
            os.chmod(name, entry.mode & 0o7777, dir_fd=fd)
        if entry.xattrs:
            self._xattrs(entry, b"/proc/self/fd/%d/%s" % (fd, name))
        os.utime(name, ns=_times(entry), dir_fd=fd, follow_symlinks=False)

    def _xattrs(self, entry: Entry, target: int | bytes) -> None:
        for name, value in entry.xattrs.items():
            if names.is_forged_xattr(name):
                continue
            try:
                if isinstance(target, int):
                    os.setxattr(target, name, value)
                else:
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                # As docker: a file system without this kind of xattr (tmpfs, user.* on a device) still takes the layer.
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM) or name == "security.capability":
                    raise

    def _link(self, path: bytes, target: bytes) -> bool:
        """Hard link `path` to `target`, both inside; False when the target is not in this directory."""
        parent, name = names.split(path)
        target_parent, target_name = names.split(target)
        if not target_name:
            raise errors.InvalidArgument("invalid layer: hard link to its root")
        try:
            source_fd = self._tree.existing(target_parent)
        except OSError as error:
            # A name that is too long is nobody's: no more is there than where nothing is.
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return False
            raise
        try:
            if len(target_name) > _NAME_MAX:
                return False
            os.stat(target_name, dir_fd=source_fd, follow_symlinks=False)
            fd = self._tree.directory(parent)
            try:
                os.link(target_name, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
            except FileExistsError:
                own = os.dup(fd)
                try:
                    self._replace(own, name, path)
                    os.link(target_name, name, src_dir_fd=source_fd, dst_dir_fd=own, follow_symlinks=False)
                finally:
                    os.close(own)
        except FileNotFoundError:
            return False
        finally:
            os.close(source_fd)
        self._written.add(path)
        return True

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        if name == names.OPAQUE_MARK:
            fd = self._tree.directory(parent)
            if self._overlay:
                self._mark_opaque(parent)
            else:
                self._empty(fd, parent)
            return
        if name.startswith(names.META_PREFIX):
            return
        removed = names.removed_by(name)
        path = parent + b"/" + removed if parent else removed
        fd = self._tree.directory(parent)
        if not self._overlay:
            if path not in self._written and path not in self._tree.implied:
                try:
                    self._tree.remove(fd, removed)
                except FileNotFoundError:
                    pass  # removing what is not there is no error (image-spec)
            return
        try:
            os.mknod(removed, stat.S_IFCHR, 0, dir_fd=fd)
            self._applied.inodes += 1
        except FileExistsError:
            # The layer brought the name itself, which stays (whiteouts are for what is below); a directory must then
            # not let the one below shine through.
            if _is_directory(fd, removed):
                self._mark_opaque(path)

    def _mark_opaque(self, path: bytes) -> None:
        os.setxattr(f"/proc/self/fd/{self._tree.directory(path)}", self._opaque_xattr, b"y")

    def _empty(self, fd: int, path: bytes) -> None:
        """Remove everything in a directory that this layer did not bring."""
        pending = [path]
        while pending:
            here = pending.pop()
            own = os.open(".", _OPEN_DIRECTORY, dir_fd=self._tree.directory(here))
            try:
                for child in os.listdir(f"/proc/self/fd/{own}".encode()):
                    below = here + b"/" + child if here else child
                    if below not in self._written and below not in self._tree.implied:
                        self._tree.remove(own, child)
                    elif _is_directory(own, child):
                        pending.append(below)
            finally:
                os.close(own)


def _times(entry: Entry) -> tuple[int, int]:
    modified = layer_tar.settable(entry.mtime)
    return (modified if entry.atime is None else layer_tar.settable(entry.atime), modified)


def _is_pristine(fd: int) -> bool:
    """Whether the directory is empty and what is made in it inherits nothing of it."""
    return not os.listdir(fd) and not os.fstat(fd).st_mode & stat.S_ISGID and _DEFAULT_ACL not in os.listxattr(fd)


def _is_directory(fd: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
