"""Digests and chain IDs, against image-spec's own definitions."""

import hashlib

import pytest

from sampan import errors
from sampan.oci import digest

HEX = "a" * 64


def test_well_formed_digests_are_accepted():
    for good in (f"sha256:{HEX}", f"sha512:{HEX}{HEX}"):
        assert digest.validate(good) == good
        assert digest.is_valid(good)
    assert digest.split(f"sha256:{HEX}") == ("sha256", HEX)


@pytest.mark.parametrize(
    "bad", ["", HEX, "sha256:", f"sha256:{HEX}a", f"sha256:{HEX[:-1]}", f"sha256:{HEX.upper()}", f"sha256:{HEX}\n",
            f"sha512:{HEX}", f"sha256:../../{HEX[:58]}"],
)  # fmt: skip
def test_malformed_digests_are_refused(bad):
    assert not digest.is_valid(bad)
    with pytest.raises(errors.InvalidArgument, match=r"invalid checksum digest (format|length)"):
        digest.validate(bad)


def test_unknown_algorithms_are_named_so():
    with pytest.raises(errors.InvalidArgument, match="unsupported digest algorithm"):
        digest.validate(f"md5:{HEX[:32]}")
    with pytest.raises(errors.InvalidArgument):
        digest.hasher("md5")


def test_the_digest_of_bytes():
    assert digest.of(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    assert digest.of(memoryview(b"abc"), "sha512") == "sha512:" + hashlib.sha512(b"abc").hexdigest()


def test_chain_ids_are_made_as_the_spec_says():
    """ChainID(L0) = DiffID(L0); ChainID(L0|...|Ln) = Digest(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))."""
    first, second, third = (digest.of(name) for name in (b"1", b"2", b"3"))
    two = digest.of(f"{first} {second}".encode())
    assert digest.chain_ids([first, second, third]) == [first, two, digest.of(f"{two} {third}".encode())]
    assert digest.chain_ids([]) == []
