"""Layers: any bytes in any pieces are members or a TarError, the same whatever the pieces."""

from __future__ import annotations

import io
import tarfile
from random import Random

from fuzz.mutation import of_bytes, pieces
from sampan.wire import layer_tar


def _tar(format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, kind, data in (
            ("etc", tarfile.DIRTYPE, b""), ("etc/hosts", tarfile.REGTYPE, b"127.0.0.1\n" * 80),
            ("link", tarfile.SYMTYPE, b""),
            ("hard", tarfile.LNKTYPE, b""), ("null", tarfile.CHRTYPE, b""), ("d/" * 80 + "f", tarfile.REGTYPE, b"x"),
            (".wh.gone", tarfile.REGTYPE, b""), ("fifo", tarfile.FIFOTYPE, b""),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.size, member.mtime, member.uid = (
                kind,
                len(data),
                1.5 if format == tarfile.PAX_FORMAT else 1,
                1000,
            )
            member.linkname = "etc/hosts" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            if format == tarfile.PAX_FORMAT:
                member.pax_headers = {"SCHILY.xattr.user.a": "b", "path": name}
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


SEEDS = [_tar(format) for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)]
ERRORS = (layer_tar.TarError,)


def mutate(data: bytes, random: Random) -> bytes:
    """With the header's checksum set right again, mostly: else nothing behind it would ever be looked at."""
    data = of_bytes(data, random)
    return mended(data) if random.randrange(4) else data


def mended(data: bytes) -> bytes:
    """Every block that looks like a header gets the checksum it should have."""
    blocks = bytearray(data)
    for at in range(0, len(blocks) - 511, 512):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b"        "
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
    return bytes(blocks)


def events_of(parts: list[bytes]) -> list[object]:
    """What the reader says, the neighbouring data of one file as one."""
    reader = layer_tar.LayerTar()
    found: list[object] = []
    begins, data = 0, b""
    for part in parts:
        for event in reader.feed(part):
            if isinstance(event, layer_tar.Entry):
                found += [(begins, data), event]
                begins, data = 0, b""
            elif isinstance(event, memoryview):
                data += event
            else:  # a piece of a file with holes, and where it belongs
                if event[0] != begins + len(data):
                    found.append((begins, data))
                    begins, data = event[0], b""
                data += event[1]
    reader.finish()
    # In the end, for an entry learns where its data begins only with the first of it.
    return [
        [getattr(one, name) for name in one.__slots__] if isinstance(one, layer_tar.Entry) else one
        for one in [*found, (begins, data)]
    ]


def feed(data: bytes, random: Random) -> None:
    """In two different cuts, with the same outcome."""
    outcomes: list[object] = []
    for parts in ([data], list(pieces(data, random))):
        try:
            outcomes.append(events_of(parts))
        except layer_tar.TarError as refusal:
            outcomes.append(str(refusal))
    assert outcomes[0] == outcomes[1]
