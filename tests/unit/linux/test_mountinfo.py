"""Lines as proc_pid_mountinfo(5) defines them, and everything that is not one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import mountinfo

LINE = r"36 35 98:0 /mnt1 /mnt/a\040b rw,noatime shared:2 master:1 - ext3 /dev/root\011x rw,errors=continue"


def test_a_line_becomes_a_record_with_plain_text() -> None:
    mount = mountinfo.parse_line(LINE)
    assert (mount.mount_id, mount.parent_id, mount.device) == (36, 35, "98:0")
    assert (mount.root, mount.mount_point, mount.options) == ("/mnt1", "/mnt/a b", "rw,noatime")
    assert mount.propagation == ("shared:2", "master:1")
    assert (mount.fstype, mount.source, mount.super_options) == ("ext3", "/dev/root\tx", "rw,errors=continue")


def test_a_line_may_have_no_optional_fields_and_an_empty_source() -> None:
    mount = mountinfo.parse_line("1 0 0:1 / / rw - tmpfs  rw")
    assert (mount.propagation, mount.source, mount.super_options) == ((), "", "rw")


def test_a_hyphen_in_a_path_is_not_the_separator() -> None:
    mount = mountinfo.parse_line("1 0 0:1 - /- - - tmpfs - rw")
    assert (mount.root, mount.mount_point, mount.options, mount.source) == ("-", "/-", "-", "-")


@pytest.mark.parametrize(
    ("field", "plain"),
    [
        (r"a\040b", "a b"),
        (r"\134040", r"\040"),
        (r"tab\011new\012hash\043", "tab\tnew\nhash#"),
        (r"broken\9", r"broken\9"),
        ("end\\", "end\\"),
        ("none", "none"),
    ],
)
def test_octal_escapes_are_undone_once(field: str, plain: str) -> None:
    assert mountinfo.unescape(field) == plain


@given(st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=0x2FF)))
def test_what_the_kernel_escapes_comes_back_unchanged(path: str) -> None:
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in path)
    assert mountinfo.unescape(escaped) == path


@given(st.text())
def test_garbage_is_a_value_error_or_a_record(line: str) -> None:
    try:
        mountinfo.parse_line(line)
    except ValueError as error:
        assert "not a mountinfo line" in str(error)


def test_the_mounts_of_this_process_are_read_and_hold_the_root() -> None:
    mounts = mountinfo.read()
    assert "/proc" in {mount.mount_point for mount in mounts}
    assert repr(mounts[0]).startswith("Mount(")


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path: os.PathLike[str]) -> None:
    file = os.path.join(tmp_path, "mountinfo")
    with open(file, "wb") as out:
        out.write(b"1 0 0:1 / /caf\xe9 rw - tmpfs x rw\n")
    assert os.fsencode(mountinfo.read(file)[0].mount_point) == b"/caf\xe9"


def test_the_mounts_below_a_directory_come_in_the_order_to_unmount_them() -> None:
    text = "\n".join(f"{n} 0 0:1 / {path} rw - tmpfs x rw" for n, path in enumerate(["/", "/a", "/ab", "/a/b", "/a"]))
    assert [m.mount_id for m in mountinfo.under(mountinfo.parse(text), "/a")] == [4, 3, 1]
    assert len(mountinfo.under(mountinfo.parse(text), "/")) == 5


def test_only_the_mounts_of_a_kind_are_taken_apart(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "a line that nobody can read\n"
        "32 20 0:28 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n"
    )
    assert [one.mount_id for one in mountinfo.read(str(table), kind="cgroup")] == [31, 32]
    with pytest.raises(ValueError, match="nobody"):
        mountinfo.read(str(table))
