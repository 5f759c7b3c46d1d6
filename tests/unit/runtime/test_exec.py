from __future__ import annotations

from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.exec import parse_user, process_from_flags

VALUES: dict[str, Any] = {
    "tty": False, "cwd": "", "env": [], "apparmor": "", "process-label": "", "cap": [], "user": "",
    "additional-gids": [], "no-new-privs": False,
}  # fmt: skip
STATE = {
    "spec": {
        "process": {
            "args": ["first"], "cwd": "/home", "env": ["A=1"], "terminal": True, "noNewPrivileges": True,
            "capabilities": {"bounding": ["CAP_KILL"]}, "user": {"uid": 5, "gid": 6},
        }
    }
}  # fmt: skip


def test_a_process_is_the_containers_own_but_for_its_args_and_terminal() -> None:
    process = process_from_flags(STATE, ["ls"], VALUES)
    assert process == {**STATE["spec"]["process"], "args": ["ls"], "terminal": False}
    assert STATE["spec"]["process"]["args"] == ["first"]


def test_flags_change_what_they_name() -> None:
    process = process_from_flags(STATE, ["ls"], VALUES | {
        "env": ["B=2"], "cwd": "/", "user": "7:8", "additional-gids": ["9"], "no-new-privs": False,
        "no-new-privs!": True,
    })  # fmt: skip
    assert process["env"] == ["A=1", "B=2"]
    assert process["cwd"] == "/"
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [9]}
    assert process["noNewPrivileges"] is False


def test_a_capability_is_never_made_inheritable_by_exec() -> None:
    """CVE-2022-29162."""
    process = process_from_flags(STATE, ["ls"], VALUES | {"cap": ["CAP_CHOWN"]})
    assert process["capabilities"] == {
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "ids"), [("5", (5, 1)), ("5:6", (5, 6)), ("0:0", (0, 0)), ("4294967294", (4294967294, 1))]
)
def test_a_user_is_a_number_with_or_without_a_group(text: str, ids: tuple[int, int]) -> None:
    assert parse_user(text, 1) == ids


@pytest.mark.parametrize("text", ["4294967295", "4294967296", "-1", "root", "", ":5", "5:", "5:x", "\u0665", "0x5"])
def test_what_could_be_taken_for_another_user_is_refused(text: str) -> None:
    """CVE-2026-30892: runc reads 4294967296 as 0."""
    with pytest.raises(InvalidArgument):
        parse_user(text, 1)
