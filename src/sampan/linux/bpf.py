"""Device programs of cgroup v2: load, attach, replace. Source: bpf(2), linux/bpf.h."""

from __future__ import annotations

import errno
import struct

from sampan.linux import abi
from sampan.linux.call import address, buffer, call, failure

INSTRUCTION_SIZE = 8  # struct bpf_insn
_LOG_SIZE = 65536
_MAX_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS


def load_device_program(program: bytes, license: str = "Apache-2.0") -> int:
    """Load an array of struct bpf_insn as BPF_PROG_TYPE_CGROUP_DEVICE; the result is a close-on-exec fd.

    Errors: OSError with the verifier's last words when it refuses the program; EPERM without CAP_BPF.
    """
    if not program or len(program) % INSTRUCTION_SIZE:
        raise failure("bpf", errno.EINVAL, None, f"program of {len(program)} bytes")
    try:
        return _load(program, license, None)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        # The log costs the verifier time, so it is asked for only when there is something to explain.
        log = buffer(_LOG_SIZE)
        try:
            return _load(program, license, address(log))
        except OSError as refused:
            lines = bytes(log.raw).rstrip(b"\0").decode("utf-8", "replace").strip().split("\n")
            raise failure("bpf PROG_LOAD", refused.errno or 0, None, "; ".join(lines[-3:])) from None


def _load(program: bytes, license: str, log: int | None) -> int:
    instructions = buffer(len(program), program)
    text = buffer(len(license) + 1, license.encode())
    # union bpf_attr: prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version,
    # prog_flags, prog_name. safe because every buffer named by address is a local that outlives the call.
    attr = struct.pack(
        "=IIQQIIQII16s",
        abi.BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // INSTRUCTION_SIZE,
        address(instructions),
        address(text),
        1 if log else 0,
        _LOG_SIZE if log else 0,
        log or 0,
        0,
        0,
        b"sampan_device",
    )
    return call("bpf", abi.BPF_PROG_LOAD, attr, len(attr))


def attach_device(cgroup_fd: int, program: int, replace: int | None = None) -> None:
    """Attach to the cgroup, beside others (all must allow), or in the place of the program behind fd `replace`."""
    flags = abi.BPF_F_ALLOW_MULTI | (abi.BPF_F_REPLACE if replace is not None else 0)
    attr = struct.pack("=5I", cgroup_fd, program, abi.BPF_CGROUP_DEVICE, flags, replace or 0)
    call("bpf", abi.BPF_PROG_ATTACH, attr, len(attr))


def detach_device(cgroup_fd: int, program: int) -> None:
    """Take the program off the cgroup. Errors: ENOENT when it is not attached there."""
    attr = struct.pack("=3I", cgroup_fd, program, abi.BPF_CGROUP_DEVICE)
    call("bpf", abi.BPF_PROG_DETACH, attr, len(attr))


def query_device(cgroup_fd: int) -> list[int]:
    """The ids of the device programs attached to this very cgroup, in the order they run."""
    ids = buffer(4 * _MAX_PROGRAMS)
    # target_fd, attach_type, query_flags, attach_flags (out), prog_ids, prog_cnt (in and out). safe because
    # `ids` has room for the number that prog_cnt states, and lives on.
    packed = struct.pack("=4IQI4x", cgroup_fd, abi.BPF_CGROUP_DEVICE, 0, 0, address(ids), _MAX_PROGRAMS)
    attr = buffer(len(packed), packed)
    call("bpf", abi.BPF_PROG_QUERY, attr, len(packed))
    count = struct.unpack_from("=I", attr.raw, 24)[0]
    return list(struct.unpack_from(f"={count}I", ids.raw))


def program_fd(program_id: int) -> int:
    """A close-on-exec fd of a loaded program by its id. Errors: ENOENT when it has gone."""
    attr = struct.pack("=3I", program_id, 0, 0)
    return call("bpf", abi.BPF_PROG_GET_FD_BY_ID, attr, len(attr))
