"""The texts of /proc: process stat lines, status fields, sysctl names."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import procfs

STAT = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 3 4 0 0 20 0 1 0 98765 1 2 18446744073709551615\n"


def test_a_stat_line_is_read_behind_a_comm_with_parentheses() -> None:
    assert procfs.parse_stat(STAT) == ("S", 7, 98765)


@given(st.text())
def test_a_stat_line_of_garbage_is_a_value_error(text: str) -> None:
    try:
        procfs.parse_stat(text)
    except ValueError:
        pass


def test_the_fields_of_status_are_a_table() -> None:
    assert procfs.parse_status("Name:\tx: y\nUid:\t0\t0\t0\t0\n\nCapEff:\t1ff\n") == {
        "Name": "x: y",
        "Uid": "0\t0\t0\t0",
        "CapEff": "1ff",
    }


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "sys/net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "sys/net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.hostname", "sys/kernel/hostname"),
    ],
)
def test_a_sysctl_is_named_with_dots_or_slashes(key: str, path: str) -> None:
    assert procfs.sysctl_path(key) == path


@pytest.mark.parametrize("key", ["", "/etc/passwd", "net/../kernel/x", "..", "net..ipv4", "net.", "a/./b"])
def test_a_sysctl_name_that_could_lead_elsewhere_is_refused(key: str) -> None:
    with pytest.raises(OSError) as refused:
        procfs.sysctl_path(key)
    assert refused.value.errno == errno.EINVAL


def test_a_namespace_path_is_named_by_the_oci_word() -> None:
    assert procfs.namespace_path(7, "mount") == "/proc/7/ns/mnt"
    with pytest.raises(KeyError):
        procfs.namespace_path("self", "mnt")
