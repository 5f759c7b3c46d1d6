"""Writing a new user namespace's id maps from the parent. Source: user_namespaces(7)."""

from __future__ import annotations

import errno
import os

from sampan.errors import Error
from sampan.linux import procfs
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    Mapping = tuple[int, int, int]


def lines(mappings: list[Mapping]) -> str:
    """The text of uid_map: first id inside, first outside, how many, a line each."""
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in mappings)


def write(pid: int, uids: list[Mapping], gids: list[Mapping]) -> None:
    """Map the ids of the namespace that process `pid` is the first of. Errors: Error with runc's text."""
    proc = procfs.open_proc()
    try:
        if os.geteuid() != 0:
            # The kernel lets one who has no privilege map groups only where setgroups is denied for good.
            try:
                procfs.write_file(proc, f"{pid}/setgroups", "deny")
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
        for name, mappings in (("uid_map", uids), ("gid_map", gids)):
            try:
                procfs.write_file(proc, f"{pid}/{name}", lines(mappings))
            except OSError as error:
                raise Error(f"unable to start container process: failed to write {name}: {words(error)}") from None
    finally:
        os.close(proc)
