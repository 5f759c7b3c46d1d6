"""Reading /proc/PID/mountinfo. Source: proc_pid_mountinfo(5)."""

from __future__ import annotations


class Mount:
    """One mount: ids as ints, `device` as "major:minor", paths unescaped, options as the kernel's strings.

    `propagation` holds the optional fields: "shared:N", "master:N", "propagate_from:N", "unbindable".
    """

    __slots__ = (
        "device",
        "fstype",
        "mount_id",
        "mount_point",
        "options",
        "parent_id",
        "propagation",
        "root",
        "source",
        "super_options",
    )

    mount_id: int
    parent_id: int
    device: str
    root: str
    mount_point: str
    options: str
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: str

    def __repr__(self) -> str:
        return f"Mount({self.mount_id} {self.mount_point!r} {self.fstype} {self.options})"


def unescape(field: str) -> str:
    r"""Undo the kernel's octal escapes (\040 space, \011 tab, \012 newline, \134 backslash, \043 #)."""
    if "\\" not in field:
        return field
    parts = field.split("\\")
    plain = [parts[0]]
    for part in parts[1:]:
        code = part[:3]
        if len(code) == 3 and all(digit in "01234567" for digit in code):
            plain.append(chr(int(code, 8)) + part[3:])
        else:
            plain.append("\\" + part)
    return "".join(plain)


def parse_line(line: str) -> Mount:
    """One line of mountinfo. Errors: ValueError when it is not one."""
    fields = line.rstrip("\n").split(" ")
    try:
        # Field 7 starts a list of optional fields that a single hyphen ends.
        hyphen = fields.index("-", 6)
        mount = Mount()
        mount.mount_id, mount.parent_id, mount.device = int(fields[0]), int(fields[1]), fields[2]
        mount.root, mount.mount_point, mount.options = unescape(fields[3]), unescape(fields[4]), fields[5]
        mount.propagation = tuple(fields[6:hyphen])
        mount.fstype, mount.source = unescape(fields[hyphen + 1]), unescape(fields[hyphen + 2])
        mount.super_options = fields[hyphen + 3]
    except (ValueError, IndexError):
        raise ValueError(f"not a mountinfo line: {line!r}") from None
    return mount


def parse(text: str) -> list[Mount]:
    """All lines of a mountinfo file, in the kernel's order. Errors: ValueError."""
    return [parse_line(line) for line in text.split("\n") if line]


def read(path: str = "/proc/self/mountinfo", kind: str = "") -> list[Mount]:
    """The mounts of a process's mount namespace that its root can reach; of `kind`, those alone whose type begins so.

    Errors: OSError, ValueError.
    """
    # surrogateescape, because a mount point is bytes and os.fsencode must give the same bytes back.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        text = file.read()
    if kind:
        # Before they are taken apart: a host of containers has hundreds of lines.
        text = "\n".join([line for line in text.split("\n") if f" - {kind}" in line])
    return parse(text)


def under(mounts: list[Mount], directory: str) -> list[Mount]:
    """Those mounted on `directory` or below it, the last mounted first: the order to unmount them."""
    prefix = directory.rstrip("/") + "/"
    found = [mount for mount in mounts if (mount.mount_point.rstrip("/") + "/").startswith(prefix)]
    found.reverse()
    return found
