"""docker cp: what is read and written stays inside the container's root, whatever its links say."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tarfile

import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.containerd.services import Mount
from sampan.engine.containers import archive
from sampan.errors import InvalidArgument, NotFound


@pytest.fixture
def inside(tmp_path):
    """(bench, container id, its root directory): a container whose snapshot is a plain directory."""
    found = {}

    async def work(bench: Bench) -> None:
        container_id = await bench.make("web")
        root = f"{bench.root}/rootfs"
        os.makedirs(f"{root}/dir")
        bench.core.snapshots.mounts = lambda key: [Mount("bind", root, ["rbind"])]  # type: ignore[method-assign]
        found.update(bench=bench, id=container_id, root=root)

    run(work, tmp_path / "room")
    (tmp_path / "secret").write_text("secret")
    return found["bench"], found["id"], found["root"]


def tar(*members: tarfile.TarInfo | tuple[str, bytes]) -> io.BytesIO:
    """A tar of files (name, content) and ready-made members."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as writer:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            info.uid, info.gid = os.getuid(), os.getgid()
            content = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    made.seek(0)
    return made


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def names(data: io.BytesIO) -> list[str]:
    data.seek(0)
    with tarfile.open(fileobj=data) as reader:
        return reader.getnames()


def test_a_file_goes_in_and_comes_out(inside):
    bench, _, root = inside
    archive.put(archive.source_of(bench.room, "web"), "/dir", tar(("a/b.txt", b"content")))
    with open(f"{root}/dir/a/b.txt", "rb") as file:
        assert file.read() == b"content"
    out = io.BytesIO()
    archive.get(archive.source_of(bench.room, "web"), "/dir/a/b.txt", out)
    header = json.loads(base64.b64decode(archive.stat_header(archive.source_of(bench.room, "web"), "/dir/a/b.txt")))
    assert names(out) == ["b.txt"] and (header["name"], header["size"]) == ("b.txt", 7)
    out = io.BytesIO()
    archive.get(archive.source_of(bench.room, "web"), "/dir/", out)
    assert names(out) == ["dir", "dir/a", "dir/a/b.txt"]


def test_missing_paths_are_not_found_in_dockers_words(inside):
    bench, _, _ = inside
    for act in (
        lambda: archive.stat_header(archive.source_of(bench.room, "web"), "/none"),
        lambda: archive.get(archive.source_of(bench.room, "web"), "/none", io.BytesIO()),
        lambda: archive.put(archive.source_of(bench.room, "web"), "/none", tar()),
    ):
        with pytest.raises(NotFound) as caught:
            act()
        assert str(caught.value) == "Could not find the file /none in container web"


@pytest.mark.parametrize(
    ("path", "top", "below"),
    [("/dir/.", ".", "a"), ("/dir", "dir", "dir/a"), ("/dir/..", "", "/dir"), ("/", "", "/dir")],
)
def test_the_path_decides_the_names_in_the_archive(inside, path, top, below):
    bench, _, root = inside
    os.mkdir(f"{root}/dir/a")
    out = io.BytesIO()
    archive.get(archive.source_of(bench.room, "web"), path, out)
    assert names(out)[0] == top and below in [name.removeprefix("./") for name in names(out)]
    header = json.loads(base64.b64decode(archive.stat_header(archive.source_of(bench.room, "web"), path)))
    assert header["name"] == (top or "/")


def test_a_links_header_tells_where_it_leads_in_the_end(inside):
    bench, _, root = inside
    os.symlink("two", f"{root}/dir/one")
    os.symlink("nowhere", f"{root}/dir/two")
    header = json.loads(base64.b64decode(archive.stat_header(archive.source_of(bench.room, "web"), "/dir/one")))
    assert (header["name"], header["linkTarget"]) == ("one", "/dir/nowhere")


@pytest.mark.parametrize("target", ["../../secret", "/../../../secret"])
def test_a_link_of_the_container_does_not_lead_out_when_reading(inside, target):
    bench, _, root = inside
    os.symlink(target, f"{root}/way-out")
    os.symlink("/..", f"{root}/up")
    with pytest.raises(NotFound):
        archive.get(archive.source_of(bench.room, "web"), "/way-out/.", io.BytesIO())
    with pytest.raises(NotFound):
        archive.get(archive.source_of(bench.room, "web"), "/up/../../secret", io.BytesIO())


def test_a_directory_keeps_its_time_whatever_is_unpacked_into_it(inside):
    bench, _, root = inside
    directory = tarfile.TarInfo("kept")
    directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, 1_000_000_000
    archive.put(archive.source_of(bench.room, "web"), "/dir", tar(directory, ("kept/file", b"x")))
    assert os.stat(f"{root}/dir/kept").st_mtime == 1_000_000_000


def test_a_link_does_not_lead_out_when_writing(inside, tmp_path):
    bench, _, root = inside
    os.symlink(str(tmp_path), f"{root}/dir/out")
    archive.put(archive.source_of(bench.room, "web"), "/dir", tar(("out/escaped", b"x"), ("../../../climbed", b"x")))
    assert not (tmp_path / "escaped").exists() and not (tmp_path / "climbed").exists()
    assert not (tmp_path.parent / "climbed").exists()


def test_a_links_target_is_replaced_not_followed(inside, tmp_path):
    bench, _, root = inside
    os.symlink(str(tmp_path / "secret"), f"{root}/dir/file")
    archive.put(archive.source_of(bench.room, "web"), "/dir", tar(("file", b"new")))
    assert (tmp_path / "secret").read_text() == "secret"
    assert not os.path.islink(f"{root}/dir/file")


class _Swapping(io.BytesIO):
    """A tar that swaps a file for a symlink while it is read, as a process of the container would."""

    def __init__(self, data: bytes, path: str, target: str) -> None:
        super().__init__(data)
        self._path, self._target = path, target

    def read(self, size=-1):
        if os.path.isfile(self._path) and not os.path.islink(self._path):
            os.unlink(self._path)
            os.symlink(self._target, self._path)
        return super().read(size)


def test_a_name_that_is_swapped_while_it_is_written_leads_nowhere(inside, tmp_path):
    """CVE-2021-41089: the mode of a file of the host was changed by a copy into a container."""
    bench, _, root = inside
    secret = tmp_path / "secret"
    secret.chmod(0o600)
    data = _Swapping(tar(("file", bytes(1 << 17))).getvalue(), f"{root}/dir/file", str(secret))
    archive.put(archive.source_of(bench.room, "web"), "/dir", data)
    assert os.path.islink(f"{root}/dir/file")
    assert secret.stat().st_mode & 0o777 == 0o600 and secret.read_text() == "secret"


def test_a_node_that_is_swapped_before_it_has_its_mode_leads_nowhere(inside, tmp_path):
    bench, _, root = inside
    secret = tmp_path / "secret"
    secret.chmod(0o600)
    pipe = f"{root}/dir/pipe"

    def swap(event: str, arguments: tuple[object, ...]) -> None:
        # Python tells of each call that it is about to make; the node is there before its owner is set.
        if event == "os.chown" and arguments[0] == "pipe" and os.path.lexists(pipe) and not os.path.islink(pipe):
            os.unlink(pipe)
            os.symlink(str(secret), pipe)

    member = tarfile.TarInfo("pipe")
    member.type, member.mode = tarfile.FIFOTYPE, 0o666
    sys.addaudithook(swap)  # never taken off again, but the path is this test's alone
    archive.put(archive.source_of(bench.room, "web"), "/dir", tar(member))
    assert os.path.islink(pipe) and secret.stat().st_mode & 0o777 == 0o600


def test_a_hard_link_stays_inside(inside, tmp_path):
    bench, _, root = inside
    secret = str(tmp_path / "secret")
    with pytest.raises(OSError):
        archive.put(archive.source_of(bench.room, "web"), "/dir", tar(link("stolen", secret, tarfile.LNKTYPE)))
    assert not os.path.exists(f"{root}/dir/stolen")
    archive.put(archive.source_of(bench.room, "web"), "/dir", tar(("one", b"1"), link("two", "one", tarfile.LNKTYPE)))
    assert os.stat(f"{root}/dir/one").st_ino == os.stat(f"{root}/dir/two").st_ino


def test_a_directory_and_a_file_do_not_replace_each_other_when_that_is_forbidden(inside):
    bench, _, root = inside
    os.makedirs(f"{root}/dir/sub")
    with pytest.raises(InvalidArgument, match="cannot overwrite directory"):
        archive.put(archive.source_of(bench.room, "web"), "/dir", tar(("sub", b"x")), no_overwrite=True)


def test_a_broken_tar_and_a_file_as_target_are_refused(inside):
    bench, _, root = inside
    with open(f"{root}/plain", "w", encoding="utf-8"):
        pass
    with pytest.raises(InvalidArgument, match="invalid tar"):
        archive.put(archive.source_of(bench.room, "web"), "/dir", io.BytesIO(b"nonsense" * 200))
    with pytest.raises(InvalidArgument, match="extraction point is not a directory"):
        archive.put(archive.source_of(bench.room, "web"), "/plain", tar())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o100644, 0o644), (0o040755, 1 << 31 | 0o755), (0o120777, 1 << 27 | 0o777), (0o104755, 1 << 23 | 0o755)],
)
def test_modes_are_gos(mode, expected):
    assert archive.go_mode(mode) == expected


def test_an_export_has_names_without_a_leading_slash(inside):
    bench, _, _ = inside
    out = io.BytesIO()
    archive.export(archive.source_of(bench.room, "web"), out)
    assert names(out) == ["dir"]
