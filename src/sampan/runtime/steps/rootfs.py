"""Steps that build the root file system: mounts, pivot_root, masks.

Every place inside the rootfs is reached by a descriptor that openat2 resolved with the rootfs as root, and every mount
is made detached and then moved onto that descriptor: between looking and mounting there is no path for a container to
swap (CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52881).
"""

from __future__ import annotations

import errno
import os
import stat

from sampan.linux import abi, mount, mountinfo, paths
from sampan.runtime.plan.mounts import PROC_ALLOWED
from sampan.runtime.steps.situation import StepFailed, detailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.runtime.steps.situation import Situation

_AT = abi.AT_FDCWD
_CLONE = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
_MAX_VALUE = 255  # of fsconfig's strings
_PLAIN_ATTRIBUTES = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC


def host_propagation(init: Situation, flags: int, rootfs: str) -> None:
    """Cut our copy of the host's mounts off the host, so that no mount of ours travels back.

    Where the spec wants it shared, the mount that holds the rootfs is cut off all the same: pivot_root demands it, and
    the host would get to see the container's mounts.
    """
    mount.mount_setattr(_AT, "/", abi.AT_RECURSIVE, propagation=flags)
    if flags == abi.MS_SHARED:
        holding = "/"
        for one in mountinfo.read():
            point = one.mount_point
            if len(point) >= len(holding) and f"{rootfs}/".startswith(f"{point.rstrip('/')}/"):
                holding = point
        mount.mount_setattr(_AT, holding, 0, propagation=abi.MS_PRIVATE)


def rootfs_mount(
    init: Situation | None,
    type: str,
    source: str,
    target: str,
    data: list[tuple[str, str | None]],
    bind: str,
    attributes: int,
) -> None:
    """Mount what the caller says makes up the rootfs, on a path of the host."""
    try:
        if bind:
            made = mount.open_tree(_AT, source, _CLONE | (abi.AT_RECURSIVE if bind == "rbind" else 0))
            if attributes:
                mount.mount_setattr(made, "", abi.AT_RECURSIVE if bind == "rbind" else 0, attributes)
        elif any(len(value or "") > _MAX_VALUE for _, value in data):
            text = ",".join(key if value is None else f"{key}={value}" for key, value in data)
            mount.mount(source or type, target, type, _old_flags(attributes), text)
            return
        else:
            made = mount.new_mount(type, [("source", source or type), *data], attributes)
        mount.move_mount(made, "", _AT, target)
        os.close(made)
    except OSError as error:
        raise StepFailed(
            f'failed to mount rootfs component {source or type} at "{target}": {detailed(error)}'
        ) from None


def _old_flags(attributes: int) -> int:
    """mount(2)'s flags for MOUNT_ATTR_*: the first four are the same bits."""
    flags = attributes & 15
    atime = attributes & abi.MOUNT_ATTR__ATIME
    if atime == abi.MOUNT_ATTR_NOATIME:
        flags |= abi.MS_NOATIME
    elif atime == abi.MOUNT_ATTR_STRICTATIME:
        flags |= abi.MS_STRICTATIME
    return flags


def root(init: Situation, path: str) -> None:
    """Make the rootfs a mount of its own, which pivot_root demands, and hold it by a descriptor from here on."""
    try:
        made = mount.open_tree(_AT, path, _CLONE | abi.AT_RECURSIVE)
        # The new mount covers the old one at the same path; its parent must not be shared for pivot_root.
        mount.move_mount(made, "", _AT, path)
    except OSError as error:
        raise StepFailed(f"error preparing rootfs: {path}: {detailed(error)}") from None
    init.root = made
    init.root_path = path
    try:
        mount.mount_setattr(made, "", 0, propagation=abi.MS_PRIVATE)
    except OSError as error:
        raise StepFailed(f"error preparing rootfs: {detailed(error)}") from None


def _directory(init: Situation, destination: str, ordinary: str = "") -> tuple[int, bool]:
    """(O_PATH fd of the directory, whether it was there before). `ordinary` names a file system that insists on one."""
    if ordinary:
        resolve = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_SYMLINKS | abi.RESOLVE_NO_MAGICLINKS
        try:
            return paths.openat2(init.root, destination, os.O_PATH | os.O_DIRECTORY, 0, resolve), True
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise StepFailed(f'filesystem "{ordinary}" must be mounted on ordinary directory') from None
        return paths.mkdirs_in_root(init.root, destination), False
    try:
        return paths.open_in_root(init.root, destination, os.O_PATH | os.O_DIRECTORY), True
    except FileNotFoundError:
        return paths.mkdirs_in_root(init.root, destination), False


def _refuse_proc(target: int, source: str, destination: str) -> None:
    """What an image's symlink leads into the container's /proc is inside /proc too (CVE-2019-16884)."""
    if destination in PROC_ALLOWED or destination == "/proc":
        return
    if paths.fstatfs_type(target) == abi.PROC_SUPER_MAGIC:
        raise StepFailed(f'error mounting "{source}" to rootfs at "{destination}": '
                         f'"{destination}" cannot be mounted because it is inside /proc')  # fmt: skip


def _attach(made: int, target: int, propagation: list[tuple[int, bool]]) -> None:
    mount.move_mount(made, "", target, "")
    for flags, recursive in propagation:
        mount.mount_setattr(made, "", abi.AT_RECURSIVE if recursive else 0, propagation=flags)


def mount_file_system(
    init: Situation,
    type: str,
    source: str,
    destination: str,
    data: list[tuple[str, str | None]],
    attributes: int,
    propagation: list[tuple[int, bool]],
    copy: Callable[[int, int], None] | None = None,
) -> None:
    """`copy` is given the directory and the new file system, if there was a directory."""
    try:
        target, existed = _directory(init, destination, type if type in ("proc", "sysfs") else "")
        _refuse_proc(target, source, destination)
        if type == "tmpfs" and existed:
            # A tmpfs over an image's directory keeps that directory's mode unless the options say otherwise.
            data = [("mode", f"{stat.S_IMODE(os.fstat(target).st_mode):o}"), *data]
        made = _new_mount(type, source, data, attributes)
        if copy and existed:
            copy(target, made)
        _attach(made, target, propagation)
        os.close(made)
        os.close(target)
    except OSError as error:
        raise StepFailed(f'error mounting "{source}" to rootfs at "{destination}": {detailed(error)}') from None


def _new_mount(type: str, source: str, data: list[tuple[str, str | None]], attributes: int) -> int:
    options = [("source", source), *data] if source else data
    try:
        return mount.new_mount(type, options, attributes)
    except OSError as error:
        if type == "sysfs" and error.errno == errno.EPERM:
            # A user namespace that owns no network namespace, or sees mounts over the host's, is shown the host's.
            made = mount.open_tree(_AT, "/sys", _CLONE | abi.AT_RECURSIVE)
            mount.mount_setattr(made, "", abi.AT_RECURSIVE, attributes | abi.MOUNT_ATTR_RDONLY)
            return made
        # A few file systems refuse "source", as they have none.
        if error.errno != errno.EINVAL or "source" not in str(error):
            raise
        return mount.new_mount(type, data, attributes)


def bind(
    init: Situation,
    source: str,
    destination: str,
    recursive: bool,
    attributes: int,
    clear: int,
    tree_attributes: int,
    tree_clear: int,
    propagation: list[tuple[int, bool]],
    idmap: list[list[dict[str, int]]],
    idmap_tree: bool,
) -> None:
    """`source` is opened here unless the parent has done so, which it has to when the ids are mapped."""
    what = f'error mounting "{source}" to rootfs at "{destination}"'
    tree = abi.AT_RECURSIVE if recursive else 0
    try:
        held = init.sources[destination].pop(0) if destination in init.sources else -1
        made = held if held >= 0 else mount.open_tree(_AT, source, _CLONE | tree)
    except OSError as error:
        raise StepFailed(f"{what}: stat {source}: {words(error)}") from None
    if idmap and held < 0:
        # It was not there when the parent looked: shown as it is, its files would belong to other users.
        raise StepFailed(f"{what}: stat {source}: no such file or directory")
    try:
        is_directory = stat.S_ISDIR(os.fstat(made).st_mode)
        if is_directory:
            target = paths.mkdirs_in_root(init.root, destination)
        else:
            target = paths.create_file_in_root(init.root, destination)
        if stat.S_ISDIR(os.fstat(target).st_mode) != is_directory:
            raise StepFailed(f"{what}: not a directory")  # move_mount has a less telling errno for it
        _refuse_proc(target, source, destination)
        if destination == "/proc" and paths.fstatfs_type(made) != abi.PROC_SUPER_MAGIC:
            raise StepFailed(f'{what}: "/proc" cannot be mounted because it is not of type proc')
        if attributes or clear:
            mount.mount_setattr(made, "", 0, attributes, clear)
        if tree_attributes or tree_clear:
            mount.mount_setattr(made, "", abi.AT_RECURSIVE, tree_attributes, tree_clear)
        _attach(made, target, propagation)
        os.close(made)
        os.close(target)
    except OSError as error:
        raise StepFailed(f"{what}: {detailed(error)}") from None


def cgroup2_mount(
    init: Situation, destination: str, attributes: int, source: str, propagation: list[tuple[int, bool]]
) -> None:
    try:
        target, _ = _directory(init, destination)
        _refuse_proc(target, "cgroup", destination)
        try:
            made = mount.new_mount("cgroup2", [("source", "cgroup")], attributes)
        except OSError as error:
            # A user namespace that does not own the cgroup namespace may only be shown its own cgroup.
            if error.errno not in (errno.EPERM, errno.EBUSY) or not source:
                raise
            made = mount.open_tree(_AT, source, _CLONE | abi.AT_RECURSIVE)
            mount.mount_setattr(made, "", 0, attributes | abi.MOUNT_ATTR_RDONLY)
        _attach(made, target, propagation)
        os.close(made)
        os.close(target)
    except OSError as error:
        raise StepFailed(f'error mounting "cgroup" to rootfs at "{destination}": {detailed(error)}') from None


def cgroup1_mount(
    init: Situation, destination: str, attributes: int, trees: list[dict[str, Any]], own_namespace: bool
) -> None:
    """A small tmpfs with one directory for each hierarchy, which shows only the container's own part of it."""
    read_only = attributes & abi.MOUNT_ATTR_RDONLY
    try:
        target, _ = _directory(init, destination)
        _refuse_proc(target, "cgroup", destination)
        top = mount.new_mount("tmpfs", [("source", "tmpfs"), ("mode", "755")], _PLAIN_ATTRIBUTES)
        mount.move_mount(top, "", target, "")
        for tree in trees:
            name = tree["name"]
            os.mkdir(name, 0o755, dir_fd=top)
            if own_namespace:
                keys = [("none", None)] if tree["keys"][0].startswith("name=") else []
                options = [("name", key[5:]) if key.startswith("name=") else (key, None) for key in tree["keys"]]
                shown = [("source", "cgroup"), *keys, *options]
                made = mount.new_mount("cgroup", shown, attributes | _PLAIN_ATTRIBUTES)
            else:
                made = mount.open_tree(_AT, tree["source"] or "", _CLONE | abi.AT_RECURSIVE)
                mount.mount_setattr(made, "", abi.AT_RECURSIVE, attributes)
            mount.move_mount(made, "", top, name)
            os.close(made)
            for key in tree["keys"]:
                if key != name and not key.startswith("name="):
                    os.symlink(name, key, dir_fd=top)
        if read_only:
            mount.mount_setattr(top, "", 0, abi.MOUNT_ATTR_RDONLY)
        os.close(top)
        os.close(target)
    except OSError as error:
        raise StepFailed(f'error mounting "cgroup" to rootfs at "{destination}": {detailed(error)}') from None


def pivot_root(init: Situation, move: bool) -> None:
    """Make the rootfs the root of this mount namespace and drop all of the host's mounts."""
    try:
        if move:
            _move_root(init)
        else:
            old = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fchdir(init.root)
            mount.pivot_root(".", ".")
            # The old root is now stacked over the new one at "/". Slave, so that its unmounting stays here.
            os.fchdir(old)
            mount.mount_setattr(_AT, ".", abi.AT_RECURSIVE, propagation=abi.MS_SLAVE)
            mount.umount2(".", abi.MNT_DETACH)
            os.close(old)
        os.chdir("/")
    except OSError as error:
        raise StepFailed(f"error jailing process inside rootfs: pivot_root {detailed(error)}") from None


def _move_root(init: Situation) -> None:
    """For a host whose own root is an initramfs, which pivot_root refuses (--no-pivot)."""
    os.fchdir(init.root)
    mount.mount(".", "/", None, abi.MS_MOVE)
    # safe because the host's root is covered by the rootfs that was just moved over it, and cwd is inside.
    os.chroot(".")


def root_propagation(init: Situation, flags: int, recursive: bool) -> None:
    mount.mount_setattr(_AT, "/", abi.AT_RECURSIVE if recursive else 0, propagation=flags)


def read_only_mount(init: Situation, destination: str) -> None:
    try:
        here = paths.open_in_root(init.root, destination, os.O_PATH)
        mount.mount_setattr(here, "", 0, abi.MOUNT_ATTR_RDONLY)
        os.close(here)
    except OSError as error:
        raise StepFailed(f'can\'t remount "{destination}" as readonly: {detailed(error)}') from None


def read_only_root(init: Situation) -> None:
    mount.mount_setattr(init.root, "", 0, abi.MOUNT_ATTR_RDONLY)


def read_only_path(init: Situation, path: str) -> None:
    """Bind the place onto itself and take writing off that mount; what is not there needs no protection."""
    try:
        here = paths.open_in_root(init.root, path, os.O_PATH)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StepFailed(f'can\'t make "{path}" read-only: {detailed(error)}') from None
    try:
        made = mount.open_tree(here, "", _CLONE | abi.AT_RECURSIVE | abi.AT_EMPTY_PATH)
        mount.mount_setattr(made, "", 0, abi.MOUNT_ATTR_RDONLY)
        mount.move_mount(made, "", here, "")
    except OSError as error:
        raise StepFailed(f'can\'t make "{path}" read-only: {detailed(error)}') from None
    os.close(made)
    os.close(here)


def mask_path(init: Situation, path: str) -> None:
    """Cover a file with /dev/null, a directory with an empty read-only tmpfs."""
    try:
        here = paths.open_in_root(init.root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StepFailed(f'can\'t mask path "{path}": {detailed(error)}') from None
    try:
        if stat.S_ISDIR(os.fstat(here).st_mode):
            made = mount.new_mount("tmpfs", [("source", "tmpfs"), ("ro", None)], abi.MOUNT_ATTR_RDONLY)
        else:
            made = mount.open_tree(_null(init), "", _CLONE | abi.AT_EMPTY_PATH)
        mount.move_mount(made, "", here, "")
    except OSError as error:
        raise StepFailed(f'can\'t mask path "{path}": {detailed(error)}') from None
    os.close(made)
    os.close(here)


def _null(init: Situation) -> int:
    """The container's /dev/null, after making sure that it is one (CVE-2025-31133)."""
    if init.null < 0:
        fd = paths.open_in_root(init.root, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
            raise StepFailed("can't mask paths: /dev/null is not the null device")
        init.null = fd
    return init.null
