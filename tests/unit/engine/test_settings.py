"""sampand's flags and daemon.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sampan.engine import settings
from sampan.engine.settings import Settings, combine, from_arguments
from sampan.errors import InvalidArgument


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    empty = tmp_path / "daemon.json"
    empty.write_text("")
    assert from_arguments(["--config-file", str(empty)]) == (Settings(), False)
    assert Settings().live_restore


LINE = """
-H unix:///a -H tcp://127.0.0.1:1 --data-root /d --exec-root /e -p /p -b br9 --bip 10.9.0.1/24
--insecure-registry a --insecure-registry b --registry-mirror http://m --add-runtime x=/bin/x
--default-runtime x --live-restore=false --experimental -D --default-shm-size 1g --log-opt max-size=1m
"""


def test_flags_are_dockerds() -> None:
    chosen, _ = from_arguments(LINE.split())
    assert chosen.hosts == ("unix:///a", "tcp://127.0.0.1:1")
    assert (chosen.root, chosen.state, chosen.pidfile) == ("/d", "/e", "/p")
    assert (chosen.bridge, chosen.bip) == ("br9", "10.9.0.1/24")
    assert chosen.insecure_registries == ("a", "b")
    assert chosen.registry_mirrors == ("http://m",)
    assert dict(chosen.runtimes) == {"x": "/bin/x"}
    assert chosen.default_runtime == "x"
    assert not chosen.live_restore
    assert chosen.experimental
    assert chosen.debug
    assert chosen.shm_size == 1 << 30
    assert dict(chosen.log_opts) == {"max-size": "1m"}


def test_socket_and_pidfile_follow_the_state_directory() -> None:
    chosen, _ = from_arguments(["--state", "/x"])
    assert chosen.hosts == ("unix:///x/docker.sock",)
    assert chosen.pidfile == "/x/sampand.pid"


def test_the_file_gives_what_no_flag_says_and_lists_are_joined() -> None:
    file = {
        "data-root": "/from-file",
        "insecure-registries": ["a"],
        "runtimes": {"x": {"path": "/bin/x"}},
        "default-address-pools": [{"base": "10.0.0.0/8", "size": 24}],
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1, "Hard": 2}},
        "log-opts": {"max-file": "3"},
        "live-restore": False,
        "experimental": True,
        "features": {},
    }
    chosen = combine({"insecure_registries": ["b"]}, file)
    assert chosen.root == "/from-file"
    assert chosen.insecure_registries == ("a", "b")
    assert dict(chosen.runtimes) == {"x": "/bin/x"}
    assert chosen.default_address_pools == (("10.0.0.0/8", 24),)
    assert chosen.default_ulimits == ("nofile=1:2",)
    assert dict(chosen.log_opts) == {"max-file": "3"}
    assert chosen.experimental
    assert not chosen.live_restore


def test_a_setting_may_not_be_both_a_flag_and_in_the_file() -> None:
    with pytest.raises(InvalidArgument, match=r"both as a flag and in the configuration file: data-root: \(from flag"):
        combine({"root": "/a"}, {"data-root": "/b"})


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ({"nonsense": 1}, "the following directives don't match any configuration option: nonsense"),
        ({"tls": True}, "the following directives don't match any configuration option: tls"),
        ({"log-level": "loud"}, "invalid logging level: loud"),
        ({"default-runtime": "ghost"}, "specified default runtime 'ghost' does not exist"),
        ({"runtimes": {"sampan": {"path": "/x"}}}, "runtime name 'sampan' is reserved"),
        ({"mtu": "big"}, "invalid value for mtu"),
        ({"hosts": "unix:///x"}, "invalid value for hosts"),
        ({"debug": "maybe"}, 'invalid argument "maybe" for "--debug" flag'),
        ({"default-address-pools": [{"base": "10.0.0.0/8"}]}, "base and size are needed"),
        ({"default-shm-size": "big"}, "invalid size: 'big'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(file: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        combine({}, file)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://m.test", "m.test", "https://m.test/?q=1", "https://m.test/#f", "https://u:p@m.test", "https://"]
)
def test_a_mirror_is_a_base_url_and_nothing_else(url: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid mirror: "):
        combine({}, {"registry-mirrors": [url]})


def test_registries_are_configured_by_directories_as_well() -> None:
    chosen, _ = from_arguments(
        ["--registry-hosts-dir", "/a", "--registry-hosts-dir", "/b", "--max-download-attempts", "2"]
    )
    assert (chosen.registry_hosts_dirs, chosen.max_download_attempts) == (("/a", "/b"), 2)
    with pytest.raises(InvalidArgument, match="invalid max download attempts: 0"):
        combine({}, {"max-download-attempts": 0})


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=f"unable to configure the Docker daemon with file {path}"):
        settings.load_file(str(path))


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file or directory"):
        settings.load_file(str(tmp_path / "missing.json"))


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({"debug": True}))
    assert from_arguments(["--config-file", str(path), "--validate"]) == (Settings(debug=True), True)


def test_the_version_is_told_without_starting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        from_arguments(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("sampand version ")


@pytest.mark.parametrize(
    ("options", "systemd"),
    [
        ([], False),
        (["native.cgroupdriver=systemd"], True),
        (["NATIVE.cgroupdriver=systemd", "native.cgroupdriver=cgroupfs"], True),
        (["native.cgroupdriver=cgroupfs"], False),
        (["native.umask=normal"], False),
    ],
)
def test_the_cgroup_driver_is_an_exec_option(options: list[str], systemd: bool) -> None:
    assert combine({}, {"exec-opts": options}).systemd_cgroup is systemd
    assert from_arguments([word for text in options for word in ("--exec-opt", text)])[0].systemd_cgroup is systemd


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ({"exec-opts": ["native.cgroupdriver=odd"]}, "native.cgroupdriver option odd not supported"),
        (
            {"exec-opts": ["native.cgroupdriver=systemd"], "cgroup-parent": "/x"},
            'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"',
        ),
    ],
)
def test_a_cgroup_driver_that_is_none_is_refused(file: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        combine({}, file)
    assert str(caught.value) == complaint
