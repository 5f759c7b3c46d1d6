"""The steps that label the program for the host's security module."""

from __future__ import annotations

from sampan.linux import lsm
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation


def apparmor(init: Situation, profile: str) -> None:
    try:
        lsm.set_apparmor_exec_profile(init.proc, profile)
    except OSError as error:
        raise StepFailed(
            f"unable to apply apparmor profile: apparmor failed to apply profile: write attr/exec: {words(error)}"
        ) from None


def selinux(init: Situation, label: str) -> None:
    try:
        lsm.set_selinux_exec_label(init.proc, label)
    except OSError as error:
        raise StepFailed(f"can't set process label: {words(error)}") from None
