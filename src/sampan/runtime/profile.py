"""The compiled seccomp program of a spec: from memory, from a file under the state root, or from the compiler.

A keeper compiles a profile once in its life. A one-shot `sampan-runc` finds what an earlier one left in
`<root>/.seccomp/<hash>.bpf`: reading that costs 0.1 ms, compiling 10. The file holds the whole key, which is compared:
the profile document, the machine and the compiler's version. So it is never stale, and the hash may be a cheap one.
The directory is 0700 and ours, or it is not used.
"""

from __future__ import annotations

import os
import stat

from sampan.linux import abi
from sampan.runtime import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import Seccomp

_FORMAT = "4"
"""Goes up when `seccomp.compile_profile` gives another program for the same profile."""
_memory: dict[str, tuple[bytes, int]] = {}
_MAX_HELD = 64


def program_of(profile: Seccomp | None, root: str) -> tuple[bytes | None, int]:
    """(filter program or None, flags for seccomp(2)) of "linux.seccomp". Errors: InvalidArgument."""
    if not profile or not profile.get("defaultAction"):
        return None, 0
    key = f"{_FORMAT} {abi.MACHINE} {document.text_of(profile)}"
    held = _memory.get(key)
    if held is None:
        held = _read(root, key)
        if held is None:
            # Only now: the compiler and its tables of names cost 3 ms to import.
            from sampan.runtime import seccomp

            held = seccomp.compile_profile(profile), seccomp.load_flags(profile)
            _write(root, key, held)
        if len(_memory) >= _MAX_HELD:
            _memory.clear()
        _memory[key] = held
    return held


def _name(key: str) -> str:
    from _imp import source_hash  # SipHash, which the interpreter itself has: a module of hashes is a file to load

    return f"{source_hash(0, key.encode()).hex()}.bpf"


def _directory(root: str) -> int:
    """The fd of the cache's directory, made if missing. Errors: OSError, also when it is not ours alone."""
    path = f"{root}/.seccomp"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(fd)
        raise PermissionError(path)
    return fd


def _read(root: str, key: str) -> tuple[bytes, int] | None:
    try:
        directory = _directory(root)
    except OSError:
        return None
    try:
        fd = os.open(_name(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    finally:
        os.close(directory)
    try:
        content = os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    # The flags, the length of the program, the program in whole instructions, the key to the end; a file cut short by a
    # full disk is as good as none.
    end = 8 + int.from_bytes(content[4:8], "little")
    if end < 16 or end % 8 or content[end:] != key.encode():
        return None
    return content[8:end], int.from_bytes(content[:4], "little")


def _write(root: str, key: str, held: tuple[bytes, int]) -> None:
    program, flags = held
    name = _name(key)
    temporary = f".{name}.{os.getpid()}"
    try:
        directory = _directory(root)
    except OSError:
        return  # a cache that cannot be kept costs time, nothing else
    try:
        out = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, out, 0o600, dir_fd=directory)
        try:
            os.write(fd, flags.to_bytes(4, "little") + len(program).to_bytes(4, "little") + program + key.encode())
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        pass
    finally:
        os.close(directory)
