"""User and group ids of this process. Source: credentials(7)."""

from __future__ import annotations

import os

from sampan.linux import abi
from sampan.linux.process import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def set_keep_capabilities(keep: bool) -> None:
    """Whether permitted capabilities survive leaving uid 0; execve clears the setting. PR_SET_KEEPCAPS."""
    prctl(abi.PR_SET_KEEPCAPS, int(keep))


def set_ids(uid: int, gid: int, groups: Sequence[int] | None, keep_capabilities: bool = False) -> None:
    """Become uid and gid for good (real, effective, saved), with exactly the supplementary `groups`.

    `groups` None leaves them, for a user namespace that denies setgroups. With `keep_capabilities` the
    permitted set stays, the effective set is empty until capset. Errors: OSError.
    """
    if keep_capabilities:
        set_keep_capabilities(True)
    # safe because groups come first and the uid last: after it nothing may change any more, and with all
    # three ids set there is no saved id to go back to.
    if groups is not None:
        os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if keep_capabilities:
        set_keep_capabilities(False)
