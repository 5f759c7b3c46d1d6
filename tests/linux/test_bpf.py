"""Device programs on a cgroup of our own below the cgroup2 mount."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sampan.linux import abi, bpf, cgroupfs, mountinfo

pytestmark = pytest.mark.root

InChild = Callable[..., Any]

MOV64_K, EXIT, LDX_W = 0xB7, 0x95, 0x61
RETURN = {value: struct.pack("=BBhiBBhi", MOV64_K, 0, 0, value, EXIT, 0, 0, 0) for value in (0, 1)}


@pytest.fixture
def cgroup() -> Iterator[int]:
    unified = [h for h in cgroupfs.hierarchies(mountinfo.read()) if h.version == 2]
    if not unified:
        pytest.skip("no cgroup2 is mounted")
    parent = cgroupfs.open_cgroup(unified[0].directory(cgroupfs.paths()[""]))
    name = f"sampan-test-bpf-{os.getpid()}"
    fd = cgroupfs.mkdirs(parent, name)
    yield fd
    os.close(fd)
    cgroupfs.remove_tree(parent, name)
    os.close(parent)


@pytest.fixture
def programs() -> Iterator[tuple[int, int]]:
    try:
        refuse, allow = (bpf.load_device_program(RETURN[value]) for value in (0, 1))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        pytest.skip(f"this kernel loads no device program: {error}")
    yield refuse, allow
    os.close(refuse)
    os.close(allow)


def open_null_inside(cgroup: int) -> int | None:
    cgroupfs.add_process(cgroup, 0)
    try:
        os.close(os.open("/dev/null", os.O_RDWR))
    except OSError as error:
        return error.errno
    return 0


def test_an_attached_program_decides_about_devices(in_child: InChild, cgroup: int, programs: tuple[int, int]) -> None:
    refuse, allow = programs
    assert in_child(open_null_inside, cgroup) == 0
    bpf.attach_device(cgroup, refuse)
    assert in_child(open_null_inside, cgroup) == errno.EPERM
    bpf.attach_device(cgroup, allow, replace=refuse)
    assert in_child(open_null_inside, cgroup) == 0
    bpf.detach_device(cgroup, allow)
    assert bpf.query_device(cgroup) == []


def test_the_attached_programs_are_listed_and_found_by_id(cgroup: int, programs: tuple[int, int]) -> None:
    for program in programs:
        bpf.attach_device(cgroup, program)
    ids = bpf.query_device(cgroup)
    assert len(ids) == 2
    for program in programs:
        with open(f"/proc/self/fdinfo/{program}") as file:
            shown = next(line.split()[1] for line in file if line.startswith("prog_id:"))
        assert int(shown) in ids
    again = bpf.program_fd(ids[0])
    assert not os.get_inheritable(again)
    bpf.detach_device(cgroup, again)
    os.close(again)
    assert bpf.query_device(cgroup) == ids[1:]
    bpf.detach_device(cgroup, programs[1])


def test_a_program_that_the_verifier_refuses_is_explained(programs: tuple[int, int]) -> None:
    endless = struct.pack("=BBhi", MOV64_K, 0, 0, 1)  # no exit
    with pytest.raises(OSError) as refused:
        bpf.load_device_program(endless)
    assert refused.value.errno == errno.EINVAL
    assert "last insn is not an exit or jmp" in str(refused.value)
    with pytest.raises(OSError) as refused:
        bpf.load_device_program(b"\0" * 5)
    assert refused.value.errno == errno.EINVAL
    assert abi.BPF_CGROUP_DEVICE == 6
