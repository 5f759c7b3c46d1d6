"""docker diff from directories."""

from __future__ import annotations

import os

import pytest

from sampan.engine.containers.changes import ADDED, DELETED, MODIFIED, compare


def test_added_changed_and_removed_paths(tmp_path):
    for path in ("upper/etc/new.d", "lower/etc", "lower/var"):
        os.makedirs(tmp_path / path)
    (tmp_path / "upper/etc/passwd").write_text("new")
    (tmp_path / "upper/etc/new.d/file").write_text("x")
    (tmp_path / "lower/etc/passwd").write_text("old")
    (tmp_path / "lower/etc/kept").write_text("old")
    found = compare(str(tmp_path / "upper"), [str(tmp_path / "lower")])
    assert found == [
        ("/etc", MODIFIED),
        ("/etc/new.d", ADDED),
        ("/etc/new.d/file", ADDED),
        ("/etc/passwd", MODIFIED),
    ]


def test_a_whiteout_is_a_deletion_only_of_what_was_there(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root: a whiteout is a device node")
    for path in ("upper", "lower"):
        os.makedirs(tmp_path / path)
    (tmp_path / "lower/gone").write_text("x")
    for name in ("gone", "never"):
        os.mknod(tmp_path / "upper" / name, 0o020000, os.makedev(0, 0))
    assert compare(str(tmp_path / "upper"), [str(tmp_path / "lower")]) == [("/gone", DELETED)]


def test_mount_points_that_every_container_has_are_no_changes(tmp_path):
    for path in ("upper/etc", "upper/dev/pts", "lower/etc"):
        os.makedirs(tmp_path / path)
    for name in ("etc/hosts", "etc/hostname", ".dockerenv"):
        (tmp_path / "upper" / name).write_text("")
    assert compare(str(tmp_path / "upper"), [str(tmp_path / "lower")]) == []
    (tmp_path / "upper/etc/hosts").write_text("mine")
    assert compare(str(tmp_path / "upper"), [str(tmp_path / "lower")]) == [("/etc", MODIFIED), ("/etc/hosts", ADDED)]


def test_the_link_to_the_mount_table_is_no_change_unless_it_leads_elsewhere(tmp_path):
    for path in ("upper/etc", "lower/etc"):
        os.makedirs(tmp_path / path)
    os.symlink("/proc/mounts", tmp_path / "upper/etc/mtab")
    assert compare(str(tmp_path / "upper"), [str(tmp_path / "lower")]) == []
    os.unlink(tmp_path / "upper/etc/mtab")
    os.symlink("/tmp/mine", tmp_path / "upper/etc/mtab")
    assert compare(str(tmp_path / "upper"), [str(tmp_path / "lower")]) == [("/etc", MODIFIED), ("/etc/mtab", ADDED)]
