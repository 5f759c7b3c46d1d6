"""Mount options: from the spec's words to what the kernel's mount calls take. Sources: mount(8), config.md#mounts."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux import abi
from sampan.runtime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import IDMapping, Mount

# Option word to (mask of MOUNT_ATTR_* it decides, value within the mask).
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (abi.MOUNT_ATTR_RDONLY, abi.MOUNT_ATTR_RDONLY),
    "rw": (abi.MOUNT_ATTR_RDONLY, 0),
    "nosuid": (abi.MOUNT_ATTR_NOSUID, abi.MOUNT_ATTR_NOSUID),
    "suid": (abi.MOUNT_ATTR_NOSUID, 0),
    "nodev": (abi.MOUNT_ATTR_NODEV, abi.MOUNT_ATTR_NODEV),
    "dev": (abi.MOUNT_ATTR_NODEV, 0),
    "noexec": (abi.MOUNT_ATTR_NOEXEC, abi.MOUNT_ATTR_NOEXEC),
    "exec": (abi.MOUNT_ATTR_NOEXEC, 0),
    "nodiratime": (abi.MOUNT_ATTR_NODIRATIME, abi.MOUNT_ATTR_NODIRATIME),
    "diratime": (abi.MOUNT_ATTR_NODIRATIME, 0),
    "relatime": (abi.MOUNT_ATTR__ATIME, abi.MOUNT_ATTR_RELATIME),
    "norelatime": (abi.MOUNT_ATTR__ATIME, abi.MOUNT_ATTR_RELATIME),  # mount(8) only takes the wish back
    "noatime": (abi.MOUNT_ATTR__ATIME, abi.MOUNT_ATTR_NOATIME),
    "atime": (abi.MOUNT_ATTR__ATIME, abi.MOUNT_ATTR_RELATIME),
    "strictatime": (abi.MOUNT_ATTR__ATIME, abi.MOUNT_ATTR_STRICTATIME),
    "nostrictatime": (abi.MOUNT_ATTR__ATIME, abi.MOUNT_ATTR_RELATIME),
    "nosymfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, abi.MOUNT_ATTR_NOSYMFOLLOW),
    "symfollow": (abi.MOUNT_ATTR_NOSYMFOLLOW, 0),
}

PROPAGATION: dict[str, tuple[int, bool]] = {
    "private": (abi.MS_PRIVATE, False),
    "shared": (abi.MS_SHARED, False),
    "slave": (abi.MS_SLAVE, False),
    "unbindable": (abi.MS_UNBINDABLE, False),
    "rprivate": (abi.MS_PRIVATE, True),
    "rshared": (abi.MS_SHARED, True),
    "rslave": (abi.MS_SLAVE, True),
    "runbindable": (abi.MS_UNBINDABLE, True),
}

# Words about the whole file system rather than this mount of it, and the flag fsconfig knows them by ("" for a
# word that only takes back another, which is the state of a new file system anyway).
SUPERBLOCK = {
    "sync": "sync", "dirsync": "dirsync", "mand": "mand", "lazytime": "lazytime", "async": "", "nomand": "",
    "nolazytime": "", "defaults": "", "silent": "", "loud": "", "iversion": "", "noiversion": "", "acl": "",
    "noacl": "", "remount": "",
}  # fmt: skip


class Options:
    """A mount's options, sorted by who takes them.

    `decided` and `value` are masks of MOUNT_ATTR_* for the mount itself, `rec_decided` and `rec_value` for its whole
    tree ("rro"); `propagation` is [(MS_*, recursive)]; `data` goes to the file system as (key, value or None);
    `bind` is "", "bind" or "rbind"; `idmap` is "", "idmap" or "ridmap".
    """

    __slots__ = (
        "bind", "copy_up", "data", "decided", "idmap", "propagation", "rec_decided", "rec_value", "value",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bind = ""
        self.copy_up = False
        self.data: list[tuple[str, str | None]] = []
        self.decided = 0
        self.value = 0
        self.rec_decided = 0
        self.rec_value = 0
        self.propagation: list[tuple[int, bool]] = []
        self.idmap = ""

    @property
    def read_only(self) -> bool:
        return bool(self.value & abi.MOUNT_ATTR_RDONLY)

    @property
    def clear(self) -> int:
        """What mount_setattr must clear first: all that was decided; a single atime mode asks for the whole field."""
        return self.decided & ~self.value | self.decided & abi.MOUNT_ATTR__ATIME

    @property
    def rec_clear(self) -> int:
        return self.rec_decided & ~self.rec_value | self.rec_decided & abi.MOUNT_ATTR__ATIME


def parse_options(words: list[str]) -> Options:
    """Sort the words of a mount's "options"; a later word wins over an earlier one about the same thing."""
    found = Options()
    for word in words:
        if word in ATTRIBUTES:
            mask, value = ATTRIBUTES[word]
            found.decided |= mask
            found.value = found.value & ~mask | value
        elif word in ("bind", "rbind"):
            found.bind = word
        elif word in PROPAGATION:
            found.propagation.append(PROPAGATION[word])
        elif word[:1] == "r" and word[1:] in ATTRIBUTES:
            mask, value = ATTRIBUTES[word[1:]]
            found.rec_decided |= mask
            found.rec_value = found.rec_value & ~mask | value
        elif word in ("idmap", "ridmap"):
            found.idmap = word
        elif word == "tmpcopyup":
            found.copy_up = True
        elif word in SUPERBLOCK:
            if SUPERBLOCK[word]:
                found.data.append((SUPERBLOCK[word], None))
        else:
            found.data += map(_pair, _split(word))
    return found


def _split(word: str) -> list[str]:
    """Data in one word, "size=1m,mode=700", as mount(2) takes it apart; quoted or escaped commas are the value's."""
    return [word] if '"' in word or "\\" in word else [part for part in word.split(",") if part]


def _pair(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None


# Below /proc only these may be mounted on, as in runc: files that containers' tools (lxcfs) replace, none of which
# can turn a label or a mask elsewhere (CVE-2019-16884, CVE-2019-19921).
PROC_ALLOWED = {
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}  # fmt: skip


def plan_mount(mount: Mount, cause: str, bundle: str, late_read_only: bool = True, label: str = "") -> list[Step]:
    """The steps for one entry of "mounts" other than a cgroup. Errors: InvalidArgument.

    `label` is linux.mountLabel. A read-only tmpfs (and /dev) stays writable until everything that goes on it is there:
    `late_read_only`.
    """
    options = parse_options(mount.get("options", []))
    destination = clean(mount["destination"])
    kind = mount.get("type", "")
    if options.bind or kind == "bind":
        return [_bind(mount, options, destination, cause, bundle)]
    if not kind:
        raise InvalidArgument(f"{cause}.type: must not be empty")
    if options.idmap or mount.get("uidMappings") or mount.get("gidMappings"):
        raise InvalidArgument(f"{cause}: id-mapped mounts are only supported for bind mounts")
    if destination.startswith("/proc/") and destination not in PROC_ALLOWED:
        raise InvalidArgument(f'error mounting "{mount.get("source", kind)}" to rootfs at "{destination}": '
                              f'"{destination}" cannot be mounted because it is inside /proc')  # fmt: skip
    if destination == "/proc" and kind != "proc":
        raise InvalidArgument(f'error mounting "{mount.get("source", kind)}" to rootfs at "/proc": '
                              f'"/proc" cannot be mounted because it is not of type proc')  # fmt: skip
    delayed = late_read_only and options.read_only and (kind == "tmpfs" or destination == "/dev")
    attributes = options.value & ~abi.MOUNT_ATTR_RDONLY if delayed else options.value
    data = list(options.data)
    if options.read_only and not delayed and kind in ("sysfs", "proc"):
        data.append(("ro", None))
    if label and kind not in ("proc", "sysfs"):  # whose labels are the policy's own
        data.append(("context", label))
    return [
        Step(
            "mount_with_copy" if options.copy_up else "mount", cause,
            type=kind, source=mount.get("source") or kind, destination=destination, data=data,
            attributes=attributes, propagation=options.propagation,
        )
    ]  # fmt: skip


def late_attributes(mount: Mount, cause: str) -> list[Step]:
    """What a read-only tmpfs or /dev still needs when all devices, links and mounts are on it."""
    options = parse_options(mount.get("options", []))
    destination = clean(mount["destination"])
    if options.bind or not options.read_only or not (mount.get("type") == "tmpfs" or destination == "/dev"):
        return []
    return [Step("read_only_mount", cause, destination=destination)]


def _bind(mount: Mount, options: Options, destination: str, cause: str, bundle: str) -> Step:
    source = mount.get("source", "")
    if not source:
        raise InvalidArgument(f"{cause}.source: must not be empty for a bind mount")
    if not source.startswith("/"):
        source = f"{bundle}/{source}"
    if destination.startswith("/proc/") and destination not in PROC_ALLOWED:
        raise InvalidArgument(f'error mounting "{source}" to rootfs at "{destination}": '
                              f'"{destination}" cannot be mounted because it is inside /proc')  # fmt: skip
    mappings = [mount.get("uidMappings", []), mount.get("gidMappings", [])]
    if options.idmap and not all(mappings) and any(mappings):
        raise InvalidArgument(f"{cause}: uidMappings and gidMappings must be given together")
    return Step(
        "bind", cause, source=source, destination=destination, recursive=options.bind == "rbind",
        attributes=options.value, clear=options.clear, tree_attributes=options.rec_value, tree_clear=options.rec_clear,
        propagation=options.propagation, idmap=_idmap(options, mappings), idmap_tree=options.idmap == "ridmap",
    )  # fmt: skip


def _idmap(options: Options, mappings: list[list[IDMapping]]) -> list[list[IDMapping]]:
    return mappings if options.idmap or any(mappings) else []


def clean(path: str) -> str:
    """An absolute path without ".", ".." and doubled slashes, by its letters alone (as Go's filepath.Clean)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
