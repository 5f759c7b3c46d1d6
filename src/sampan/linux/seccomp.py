"""Loading a finished seccomp filter. Source: seccomp(2). Building one is `sampan.runtime.seccomp`."""

from __future__ import annotations

import errno
from sys import byteorder

from sampan.linux import abi
from sampan.linux.call import address, buffer, call, failure, u32, u64

INSTRUCTION_SIZE = 8  # struct sock_filter
BPF_MAXINSNS = 4096


def load(program: bytes, flags: int = 0) -> int | None:
    """Put this thread under the filter `program`, an array of struct sock_filter; it cannot be taken off again.

    Needs no_new_privs or CAP_SYS_ADMIN (else EACCES). With SECCOMP_FILTER_FLAG_NEW_LISTENER the result is a
    close-on-exec fd of the notifications, else None. Errors: OSError; EINVAL for a bad program or unknown flag.
    """
    count, rest = divmod(len(program), INSTRUCTION_SIZE)
    if rest or not 0 < count <= BPF_MAXINSNS:
        raise failure("seccomp", errno.EINVAL, None, f"filter of {len(program)} bytes")
    instructions = buffer(len(program), program)
    # struct sock_fprog: unsigned short len, then a pointer at offset 8. safe because `instructions` holds count
    # instructions and outlives the call, which copies them.
    fprog = count.to_bytes(2, byteorder) + bytes(6) + u64(address(instructions))
    result = call("seccomp", abi.SECCOMP_SET_MODE_FILTER, flags, fprog)
    return result if flags & abi.SECCOMP_FILTER_FLAG_NEW_LISTENER else None


def action_available(action: int) -> bool:
    """Whether the kernel knows the SECCOMP_RET_* `action`. Errors: OSError other than EOPNOTSUPP."""
    try:
        call("seccomp", abi.SECCOMP_GET_ACTION_AVAIL, 0, u32(action))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True
