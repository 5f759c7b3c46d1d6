"""The layer tar reader against archives that Python's tarfile and GNU tar write, cut anywhere, and against garbage."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.wire import layer_tar, tar_member
from sampan.wire.layer_tar import Entry, LayerTar, TarError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def read(data: bytes, step: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    """Every entry with its content, holes as zeros; fed in pieces of `step` bytes."""
    reader = LayerTar()
    found: list[tuple[Entry, bytearray]] = []
    for at in range(0, len(data), step):
        for event in reader.feed(data[at : at + step]):
            if isinstance(event, Entry):
                found.append((event, bytearray()))
            elif isinstance(event, tuple):
                _, content = found[-1]
                content.extend(bytes(max(0, event[0] + len(event[1]) - len(content))))
                content[event[0] : event[0] + len(event[1])] = event[1]
            else:
                found[-1][1].extend(event)
    reader.finish()
    return [(entry, bytes(content.ljust(entry.size if entry.sparse else 0, b"\0"))) for entry, content in found]


def write(members: list[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def some_of_everything() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        (member("dir/", tarfile.DIRTYPE, mode=0o1777, uid=7, gid=8), b""),
        (member("dir/file", mode=0o4755, uid=1000, gid=100, mtime=1_600_000_000), b"hello" * 300),
        (member("dir/empty"), b""),
        (member("dir/link", tarfile.LNKTYPE, linkname="dir/file"), b""),
        (member("dir/symlink", tarfile.SYMTYPE, linkname="../elsewhere"), b""),
        (member("dir/null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (member("dir/disk", tarfile.BLKTYPE, devmajor=8, devminor=17), b""),
        (member("dir/fifo", tarfile.FIFOTYPE), b""),
        (member("dir/exact"), bytes(512)),
    ]


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("step", [1, 7, 511, 512, 513, 1 << 20])
def test_every_kind_of_member_is_read_in_every_format_cut_anywhere(format: int, step: int) -> None:
    members = some_of_everything()
    found = read(write(members, format), step)
    assert len(found) == len(members)
    for (info, content), (entry, got) in zip(members, found, strict=True):
        assert entry.name.rstrip(b"/") == info.name.rstrip("/").encode()
        assert (entry.kind, entry.linkname, entry.mode) == (info.type, info.linkname.encode(), info.mode)
        assert (entry.uid, entry.gid, entry.mtime) == (info.uid, info.gid, info.mtime * 10**9)
        assert (entry.major, entry.minor) == (info.devmajor, info.devminor)
        assert got == content


@pytest.mark.parametrize("format", ["gnu", "pax"])
def test_long_names_and_long_link_targets_are_whole(format: str) -> None:
    name, target = "n" * 90 + "/" + "m" * 200, "t" * 300
    [(entry, content)] = read(write([(member(name), b"x")], FORMATS[format]))
    assert (entry.name, content) == (name.encode(), b"x")
    [(entry, _)] = read(write([(member("l", tarfile.SYMTYPE, linkname=target), b"")], FORMATS[format]))
    assert entry.linkname == target.encode()


def test_a_ustar_prefix_is_part_of_the_name() -> None:
    name = "a" * 80 + "/" + "b" * 90
    [(entry, _)] = read(write([(member(name), b"")], tarfile.USTAR_FORMAT))
    assert entry.name == name.encode()


def test_a_name_of_ten_thousand_levels_is_read() -> None:
    name = "d/" * 10_000 + "f"
    [(entry, _)] = read(write([(member(name), b"")]))
    assert entry.name == name.encode()


def test_base_256_numbers_of_gnu_tar_are_read() -> None:
    data = bytearray(write([(member("f", uid=1 << 30, mtime=1 << 35), b"")], tarfile.GNU_FORMAT))
    assert data[108] & 0x80, "tarfile chose base-256 for the owner"
    [(entry, _)] = read(bytes(data))
    assert (entry.uid, entry.mtime) == (1 << 30, (1 << 35) * 10**9)


def test_a_member_of_more_than_8_gib_announces_its_size() -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = member("big")
        info.size = 9 << 30
        reader = LayerTar()
        [entry] = reader.feed(info.tobuf(format))
        assert isinstance(entry, Entry)
        assert entry.size == 9 << 30
        with pytest.raises(TarError):
            reader.finish()


@pytest.mark.parametrize("tail", [b"x" * 40, b"12", b"\n", b" 5 a=b\n", b"7x=y a\n", b"0 a=b\n"])
def test_what_follows_a_good_record_must_be_one_too(tail: bytes) -> None:
    """Bytes without a length were once read as an empty record, for ever."""
    header = tar_member.member(b"x", b"x", mode=0o644, size=len(tail) + 6)
    reader = LayerTar()
    with pytest.raises(TarError):
        reader.feed((header + b"6 a=b\n" + tail).ljust(1536, b"\0"))
        reader.finish()


def test_pax_records_bring_xattrs_and_nanoseconds() -> None:
    info = member("f")
    info.pax_headers = {"SCHILY.xattr.user.note": "value", "mtime": "1600000000.123456789", "atime": "-1.5"}
    [(entry, _)] = read(write([(info, b"")]))
    assert entry.xattrs == {"user.note": b"value"}
    assert entry.mtime == 1600000000123456789
    assert entry.atime == -1_500_000_000


def test_binary_xattr_values_are_kept_byte_for_byte() -> None:
    value = b"\x01\x00\x00\x02\x00\x20\x00\x00\n=\x00"
    record = b" SCHILY.xattr.security.capability=" + value + b"\n"
    length = len(record) + 2
    payload = b"%d" % length + record
    header = bytearray(member("x", tarfile.XHDTYPE, size=len(payload)).tobuf(tarfile.USTAR_FORMAT))
    data = bytes(header) + payload.ljust(512, b"\0") + write([(member("f"), b"")], tarfile.USTAR_FORMAT)
    [(entry, _)] = read(data)
    assert entry.xattrs == {"security.capability": value}


def test_global_headers_are_read_over() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 600}) as archive:
        archive.addfile(member("f"))
    assert [entry.name for entry, _ in read(out.getvalue())] == [b"f"]


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize("step", [100, 1 << 20])
def test_sparse_files_of_gnu_tar_keep_their_content(tmp_path: object, version: str, step: int) -> None:
    path = f"{tmp_path}/holes"
    with open(path, "wb") as file:
        for i in range(40):  # more extents than the header and one extension hold
            file.seek(i * 1_000_000)
            file.write(b"%d" % i * 100)
        file.truncate(50_000_000)
    format = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    archive = subprocess.run(
        ["tar", "-S", *format, "-C", str(tmp_path), "-cf", "-", "holes"], capture_output=True, check=True
    )
    assert len(archive.stdout) < 1_000_000, "tar stored it sparse"
    [(entry, content)] = read(archive.stdout, step)
    assert entry.sparse
    assert (entry.name, entry.size) == (b"holes", 50_000_000)
    with open(path, "rb") as file:
        assert content == file.read()


def test_a_directory_of_an_old_archive_is_told_by_its_slash() -> None:
    block = bytearray(member("old/", tarfile.AREGTYPE).tobuf(tarfile.USTAR_FORMAT))
    block[:5] = b"old/\0"
    fix_checksum(block)
    [(entry, _)] = read(bytes(block))
    assert (entry.kind, entry.name) == (layer_tar.DIRECTORY, b"old/")


def test_what_follows_the_end_mark_is_ignored() -> None:
    assert len(read(write([(member("f"), b"x")]) + b"garbage" * 200)) == 1


def test_a_missing_end_mark_is_forgiven() -> None:
    data = member("f").tobuf(tarfile.USTAR_FORMAT)
    assert len(read(data)) == 1


def wrong_checksum() -> bytes:
    data = bytearray(write([(member("f"), b"")]))
    data[0] ^= 1
    return bytes(data)


WRONG = {
    "cut inside a header": write([(member("f"), b"x" * 600)])[:300],
    "cut inside the data": write([(member("f"), b"x" * 600)])[:700],
    "checksum": wrong_checksum(),
    "a lone zero block": bytes(512) + member("f").tobuf(),
    "unknown type": member("f", b"M").tobuf(tarfile.USTAR_FORMAT),
    "text": b"This is no tar archive at all. " * 100,
    "enormous extended header": member("x", tarfile.XHDTYPE, size=1 << 30).tobuf(tarfile.USTAR_FORMAT),
    "bad record": member("x", tarfile.XHDTYPE, size=9).tobuf(tarfile.USTAR_FORMAT) + b"99 path=x".ljust(512, b"\0"),
    "name with NUL": member("x", tarfile.XHDTYPE, size=11).tobuf(tarfile.USTAR_FORMAT)
    + b"11 path=a\0\n".ljust(512, b"\0"),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_no_tar_is_refused(data: bytes) -> None:
    with pytest.raises(TarError):
        read(data)


def test_an_extended_header_without_its_member_is_refused() -> None:
    header = member("x", tarfile.XHDTYPE, size=10).tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(TarError):
        read(header + b"10 path=a\n".ljust(512, b"\0"))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2048), st.integers(1, 700))
def test_garbage_raises_only_tar_error(data: bytes, step: int) -> None:
    try:
        read(data, step)
    except TarError:
        pass


def fix_checksum(block: bytearray) -> None:
    total = sum(block[:512]) - sum(block[148:156]) + 256
    block[148:156] = b"%06o\0 " % total


def test_a_sparse_file_larger_than_any_is_refused() -> None:
    block = bytearray(tarfile.TarInfo("f").tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[483:495] = b"\x80" + b"\xff" * 11
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(TarError, match="size"):
        LayerTar().feed(bytes(block))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_headers_with_right_checksums_raise_only_tar_error(data: st.DataObject) -> None:
    """Reaches the code behind the checksum: every field in turn gets bytes of any kind."""
    format = data.draw(st.sampled_from(list(FORMATS.values())))
    archive = bytearray(write(some_of_everything(), format))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, 511))
        patch = data.draw(st.binary(min_size=1, max_size=12))
        archive[at : min(at + len(patch), 512)] = patch[: 512 - at]
    kind = data.draw(st.sampled_from([b"0", b"S", b"x", b"L", b"K", b"g", b"5", b"\0"]))
    archive[156:157] = kind
    fix_checksum(archive)
    try:
        read(bytes(archive), data.draw(st.sampled_from([64, 512, 4096])))
    except TarError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"path", b"size", b"mtime", b"GNU.sparse.major", b"GNU.sparse.minor",
                                           b"GNU.sparse.map", b"GNU.sparse.size", b"GNU.sparse.offset",
                                           b"GNU.sparse.numbytes", b"GNU.sparse.realsize", b"uid", b"SCHILY.xattr.a"]),
                          st.one_of(st.binary(max_size=12), st.sampled_from([b"0", b"1", b"0,5", b"512"])))),
       st.binary(max_size=1100))  # fmt: skip
def test_any_extended_records_raise_only_tar_error(records: list[tuple[bytes, bytes]], content: bytes) -> None:
    payload = b""
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + 1
        while len(b"%d" % length) + len(body) != length:
            length += 1
        payload += b"%d" % length + body
    data = member("x", tarfile.XHDTYPE, size=len(payload)).tobuf(tarfile.USTAR_FORMAT)
    data += payload + bytes(-len(payload) % 512)
    data += write([(member("f"), content)], tarfile.USTAR_FORMAT)
    try:
        read(data)
    except TarError:
        pass


def test_it_reads_in_less_processor_time_than_tarfile() -> None:
    """No absolute figure: both read the same archive on the same machine, the best of a few runs counts."""
    data = write([(member(f"d/{i}"), bytes(100)) for i in range(2000)])

    def ours() -> None:
        assert len(read(data)) == 2000

    def theirs() -> None:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for one in archive:
                content = archive.extractfile(one)
                assert content is not None
                content.read()

    def best(work: Callable[[], None]) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    assert best(ours) < best(theirs)
