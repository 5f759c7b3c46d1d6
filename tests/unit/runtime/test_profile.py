from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sampan.linux import abi
from sampan.runtime import profile, seccomp

DENY: Any = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}


def fresh() -> None:
    """As a process that has compiled nothing yet."""
    profile._memory.clear()


def test_without_a_profile_there_is_no_program(tmp_path: Path) -> None:
    assert profile.program_of(None, str(tmp_path)) == (None, 0)
    assert profile.program_of({}, str(tmp_path)) == (None, 0)
    assert os.listdir(tmp_path) == []


def test_the_program_is_the_compilers_and_is_kept_with_its_flags(tmp_path: Path) -> None:
    wanted = DENY | {"flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    fresh()
    made = profile.program_of(wanted, str(tmp_path))
    assert made == (seccomp.compile_profile(wanted), abi.SECCOMP_FILTER_FLAG_LOG)
    fresh()
    assert profile.program_of(wanted, str(tmp_path)) == made
    assert len(os.listdir(tmp_path / ".seccomp")) == 1


def test_another_profile_is_another_program(tmp_path: Path) -> None:
    one, _ = profile.program_of(DENY, str(tmp_path))
    other, _ = profile.program_of(DENY | {"defaultAction": "SCMP_ACT_LOG"}, str(tmp_path))
    assert one != other
    assert len(os.listdir(tmp_path / ".seccomp")) == 2


def test_a_damaged_or_foreign_cache_is_not_believed(tmp_path: Path) -> None:
    fresh()
    made = profile.program_of(DENY, str(tmp_path))
    folder = tmp_path / ".seccomp"
    (kept,) = folder.iterdir()
    for damage in (b"", b"x" * 7, kept.read_bytes()[:-8], kept.read_bytes() + b"\0" * 8):
        kept.write_bytes(damage)
        fresh()
        assert profile.program_of(DENY, str(tmp_path)) == made
    key = kept.read_bytes()[8 + len(made[0] or b"") :]
    kept.write_bytes((0).to_bytes(4, "little") + (8).to_bytes(4, "little") + b"\6\0\0\0\0\0\xff\x7f" + key)
    fresh()
    assert profile.program_of(DENY, str(tmp_path)) != made, "the directory is ours, and what is in it is believed"
    folder.chmod(0o770)
    fresh()
    assert profile.program_of(DENY, str(tmp_path)) == made


def test_a_file_under_the_right_name_for_another_profile_is_not_taken(tmp_path: Path) -> None:
    """What would happen if two profiles had the same hash."""
    fresh()
    made = profile.program_of(DENY, str(tmp_path))
    (one,) = (tmp_path / ".seccomp").iterdir()
    other: Any = DENY | {"defaultAction": "SCMP_ACT_LOG"}
    profile.program_of(other, str(tmp_path))
    (second,) = (path for path in (tmp_path / ".seccomp").iterdir() if path != one)
    second.replace(one)
    fresh()
    assert profile.program_of(DENY, str(tmp_path)) == made


def test_a_root_that_cannot_be_written_costs_only_time() -> None:
    fresh()
    assert profile.program_of(DENY, "/nosuch/root")[0] == seccomp.compile_profile(DENY)
