"""The container's /etc/passwd, read by hand: the C library's reader would load NSS modules from the container."""

from __future__ import annotations

import os
import stat

from sampan.linux import paths

_MAX_SIZE = 1 << 20


def home_of(rootfd: int, uid: int) -> str:
    """The home directory of `uid` by the rootfs's /etc/passwd; "/" when there is none to be found."""
    try:
        fd = paths.open_in_root(rootfd, "/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return "/"
    try:
        # A pipe or device would not end, and a huge file is no passwd file (CVE-2026-47262).
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return "/"
        content = os.read(fd, _MAX_SIZE)
    except OSError:
        return "/"
    finally:
        os.close(fd)
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(uid):
            return fields[5] or "/"
    return "/"
