"""Names and bits of capabilities."""

from __future__ import annotations

import pytest

from sampan.linux import abi, capabilities


def test_names_and_bits_are_those_of_the_kernel_header() -> None:
    for name, bit in (
        ("CAP_CHOWN", 0),
        ("CAP_NET_ADMIN", 12),
        ("CAP_SYS_ADMIN", 21),
        ("CAP_SETFCAP", 31),
        ("CAP_MAC_OVERRIDE", 32),
        ("CAP_CHECKPOINT_RESTORE", 40),
    ):
        assert capabilities.bit(name) == bit
    assert len(set(abi.CAPABILITIES)) == 41


def test_a_mask_and_its_names_are_each_others_inverse() -> None:
    names = ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_BPF"]
    assert capabilities.mask(reversed(names)) == 1 << 0 | 1 << 21 | 1 << 39
    assert capabilities.names(capabilities.mask(names)) == names
    assert capabilities.names((1 << 41) - 1) == list(abi.CAPABILITIES)


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        capabilities.mask(["CAP_EVERYTHING"])
