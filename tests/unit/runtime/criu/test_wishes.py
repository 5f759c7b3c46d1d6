"""Flags of `checkpoint` and `restore` to CRIU's options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.criu import messages, wishes
from sampan.runtime.flags import parse
from sampan.runtime.verbs import VERBS

NETWORK = 0x40000000


def of(verb: str, *flags: str) -> wishes.Wishes:
    values, _ = parse([*flags, "boat"], VERBS[verb].flags)
    return wishes.of_flags(values, "criu")


@pytest.mark.parametrize(
    ("verb", "flags", "options"),
    [
        ("checkpoint", [], {}),
        ("checkpoint", ["--leave-running"], {"leave_running": True}),
        ("checkpoint", ["--tcp-established", "--tcp-skip-in-flight"],
         {"tcp_established": True, "tcp_skip_in_flight": True}),
        ("checkpoint", ["--link-remap", "--ext-unix-sk"], {"link_remap": True, "ext_unix_sk": True}),
        ("checkpoint", ["--shell-job", "--file-locks"], {"shell_job": True, "file_locks": True}),
        ("checkpoint", ["--auto-dedup", "--lazy-pages"], {"auto_dedup": True, "lazy_pages": True}),
        ("checkpoint", ["--page-server", "10.0.0.1:27"], {"ps": {"address": "10.0.0.1", "port": 27}}),
        ("checkpoint", ["--page-server", "[::1]:27"], {"ps": {"address": "::1", "port": 27}}),
        ("checkpoint", ["--empty-ns", "network"], {}),
        ("checkpoint", ["--manage-cgroups-mode", "soft"], {"manage_cgroups_mode": 3}),
        ("restore", ["--manage-cgroups-mode", "full"], {"manage_cgroups_mode": 4}),
        ("restore", ["--manage-cgroups-mode", "strict"], {"manage_cgroups_mode": 5}),
        ("restore", ["--manage-cgroups-mode", "ignore"], {"manage_cgroups_mode": 0}),
        ("restore", ["--lsm-profile", "apparmor:harbour"], {"lsm_profile": "apparmor:harbour"}),
        ("restore", ["--lsm-mount-context", "a:b:c"], {"lsm_mount_context": "a:b:c"}),
        ("restore", ["--tcp-established", "--file-locks"], {"tcp_established": True, "file_locks": True}),
    ],
)  # fmt: skip
def test_each_flag_becomes_crius_option(verb: str, flags: list[str], options: dict[str, Any]) -> None:
    found = of(verb, *flags).options
    assert found == {"empty_ns": NETWORK, **options}
    assert set(found) <= set(messages.OPTIONS)


def test_paths_are_absolute_and_the_images_have_a_place_by_default() -> None:
    here = os.getcwd()
    found = of("checkpoint", "--work-path", "logs")
    assert (found.images, found.work) == (f"{here}/checkpoint", f"{here}/logs")
    assert found.log("dump.log") == f"{here}/logs/dump.log"
    found = of("restore", "--image-path", "/srv/saved")
    assert (found.images, found.log("restore.log")) == ("/srv/saved", "/srv/saved/restore.log")


def test_what_is_only_for_us_is_no_option() -> None:
    found = of("checkpoint", "--pre-dump", "--parent-path", "../before", "--status-fd", "5")
    assert (found.pre_dump, found.parent, found.status_fd) == (True, "../before", 5)
    assert found.options == {"empty_ns": NETWORK}
    assert of("checkpoint").status_fd == -1


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--page-server", "harbour"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", ":27"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", "harbour:"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", "harbour:ten"], "Invalid port number"),
        (["--manage-cgroups-mode", "hard"], "Invalid manage-cgroups-mode value"),
        (["--empty-ns", "pid"], 'namespace "pid" is not supported'),
        (["--parent-path", "/before"], "--parent-path must be relative"),
    ],
)
def test_what_is_no_value_is_refused_in_runcs_words(flags: list[str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        of("checkpoint", *flags)


def test_the_parent_is_a_directory_beside_the_images(tmp_path: Path) -> None:
    (tmp_path / "now").mkdir()
    (tmp_path / "before").mkdir()
    (tmp_path / "note").touch()
    wishes.check_parent(wishes.Wishes(f"{tmp_path}/now"))
    wishes.check_parent(wishes.Wishes(f"{tmp_path}/now", parent="../before"))
    with pytest.raises(InvalidArgument, match=f"invalid --parent-path: stat {tmp_path}/x: no such file or directory"):
        wishes.check_parent(wishes.Wishes(f"{tmp_path}/now", parent="../x"))
    with pytest.raises(InvalidArgument, match=f"invalid --parent-path: {tmp_path}/note: not a directory"):
        wishes.check_parent(wishes.Wishes(f"{tmp_path}/now", parent="../note"))


def test_the_annotation_names_the_file_of_settings() -> None:
    assert wishes.configuration_file({}) == "/etc/criu/runc.conf"
    assert wishes.configuration_file({"annotations": {"org.criu.config": "/etc/mine"}}) == "/etc/mine"
    assert wishes.configuration_file({"annotations": {"org.criu.config": ""}}) is None
