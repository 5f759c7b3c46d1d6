"""A shim's bundle: containerd's layout, what the next core reads from it, and nothing left of it."""

from __future__ import annotations

import os
import stat

import pytest

from sampan.containerd.client_tasks import Stdio
from sampan.containerd.shims.bundle import Bundles, Endpoint


def test_a_bundle_has_containerd_s_layout(tmp_path) -> None:
    bundles = Bundles(f"{tmp_path}/state", f"{tmp_path}/root")
    bundle = bundles.of("ns", "c1")
    bundle.make(b'{"a":1}', "/bin/shim", Stdio("in", "out", "err", True))
    assert bundle.path == f"{tmp_path}/state/io.containerd.runtime.v2.task/ns/c1"
    assert sorted(os.listdir(bundle.path)) == [
        "config.json", "log", "rootfs", "shim-binary-path", "stdio.json", "work",
    ]  # fmt: skip
    assert os.readlink(f"{bundle.path}/work") == f"{tmp_path}/root/io.containerd.runtime.v2.task/ns/c1"
    assert os.path.isdir(f"{bundle.path}/work")
    assert stat.S_ISFIFO(os.stat(f"{bundle.path}/log").st_mode)
    with pytest.raises(FileExistsError):
        bundle.make(b"{}", "/bin/shim", Stdio())


def test_the_next_core_reads_what_was_saved(tmp_path) -> None:
    bundle = Bundles(f"{tmp_path}/state", f"{tmp_path}/root").of("ns", "c1")
    bundle.make(b"{}", "/bin/shim", Stdio("in", "out", "", True))
    assert bundle.endpoint() is None, "its shim never came to start"
    bundle.save(Endpoint(3, "unix:///x"))
    (found,) = Bundles(f"{tmp_path}/state", f"{tmp_path}/root").walk()
    assert (found, found.endpoint()) == (bundle, Endpoint(3, "unix:///x"))
    assert (found.binary(), found.stdio()) == ("/bin/shim", Stdio("in", "out", "", True))


def test_half_a_file_is_no_endpoint(tmp_path) -> None:
    bundle = Bundles(f"{tmp_path}/state", f"{tmp_path}/root").of("ns", "c1")
    bundle.make(b"{}", "/bin/shim", Stdio())
    for text in ("", "[1]", '{"version": 2}', '{"version": "x", "address": "", "protocol": ""}'):
        with open(f"{bundle.path}/bootstrap.json", "w") as file:
            file.write(text)
        assert bundle.endpoint() is None


def test_nothing_is_left_of_it(tmp_path) -> None:
    bundles = Bundles(f"{tmp_path}/state", f"{tmp_path}/root")
    one, other = bundles.of("ns", "c1"), bundles.of("ns", "c2")
    for bundle in (one, other):
        bundle.make(b"{}", "/bin/shim", Stdio())
    one.remove()
    one.remove()
    assert list(bundles.walk()) == [other]
    other.remove()
    for top in ("state", "root"):
        assert os.listdir(f"{tmp_path}/{top}/io.containerd.runtime.v2.task") == []
