"""Our filters beside libseccomp's: both are run for every system call number, architecture and argument.

libseccomp is a dependency of Debian's runc and is driven here as runc drives it (libcontainer/seccomp).
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from typing import Any

import pytest
from tests.unit.runtime.bpf_interpreter import run

from sampan.engine.containers import seccomp as docker
from sampan.linux import abi
from sampan.runtime import seccomp, syscall_table

pytestmark = [pytest.mark.needs("runc")]

ARCHES = {
    "SCMP_ARCH_X86_64": (0xC000003E, abi.AUDIT_ARCH_X86_64),
    "SCMP_ARCH_X86": (0x40000003, abi.AUDIT_ARCH_I386),
    "SCMP_ARCH_X32": (0x4000003E, abi.AUDIT_ARCH_X86_64),
    "SCMP_ARCH_AARCH64": (0xC00000B7, abi.AUDIT_ARCH_AARCH64),
    "SCMP_ARCH_ARM": (0x40000028, abi.AUDIT_ARCH_ARM),
}
X86_FAMILY = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
OPERATORS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip


class Comparison(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64),
    ]  # fmt: skip


def action(name: str, number: int = 1) -> int:
    value = seccomp.ACTIONS[name]
    return value | number if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else value


def by_libseccomp(profile: dict[str, Any]) -> bytes:
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet", 1))
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(default)))
    lib.seccomp_arch_remove(context, ctypes.c_uint32(lib.seccomp_arch_native()))
    for name in profile["architectures"]:
        assert lib.seccomp_arch_add(context, ctypes.c_uint32(ARCHES[name][0])) == 0
    for rule in profile["syscalls"]:
        value = action(rule["action"], rule.get("errnoRet", 1))
        if value == default:
            continue
        arguments = rule.get("args", [])
        indexes = [argument["index"] for argument in arguments]
        sets = [[a] for a in arguments] if len(set(indexes)) < len(indexes) else [arguments]
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                continue
            for one in sets:
                array = (Comparison * len(one))(
                    *(Comparison(a["index"], OPERATORS[a["op"]], a.get("value", 0), a.get("valueTwo", 0)) for a in one)
                )
                lib.seccomp_rule_add_array(context, ctypes.c_uint32(value), number, len(one), array)
    with tempfile.TemporaryFile() as file:
        assert lib.seccomp_export_bpf(context, file.fileno()) == 0
        lib.seccomp_release(context)
        file.seek(0)
        return file.read()


def known_to_libseccomp(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile without the names of calls that are newer than the library."""
    lib = ctypes.CDLL("libseccomp.so.2")
    rules = [
        rule | {"names": [name for name in rule["names"] if lib.seccomp_syscall_resolve_name(name.encode()) != -1]}
        for rule in profile["syscalls"]
    ]
    return profile | {"syscalls": rules}


def names(*wanted: str) -> list[str]:
    return list(wanted)


ALL = sorted(syscall_table.numbers("SCMP_ARCH_X86_64"))
PROFILES: dict[str, dict[str, Any]] = {
    "an allow list with arguments": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": X86_FAMILY,
        "syscalls": [
            # socket's, in i386 behind socketcall, is in the profile of Docker below.
            {"names": [name for name in ALL if name not in ("clone", "personality", "socket", "clone3", "mount")],
             "action": "SCMP_ACT_ALLOW"},
            *(
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
                for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
            ),
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 3, "value": 4096, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 5, "op": "SCMP_CMP_NE"}]},
        ],
    },
    "a deny list": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": X86_FAMILY,
        "syscalls": [
            {"names": names("mount", "umount2", "reboot", "kexec_load"), "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": names("ptrace"), "action": "SCMP_ACT_TRACE", "errnoRet": 7},
            {"names": names("chmod"), "action": "SCMP_ACT_TRAP"},
            {"names": names("ioctl"), "action": "SCMP_ACT_ERRNO", "errnoRet": 25,
             "args": [{"index": 1, "value": 0x5412, "op": "SCMP_CMP_EQ"}]},
        ],
    },
    "a rule with and one without conditions": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LE"}]},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW"},
        ],
    },
}  # fmt: skip
VALUES = (0, 1, 2, 5, 8, 4095, 4096, 4097, 0x5412, 0x10000000, 0x20000, 0x20008, 0xFFFFFFFF)


def docker_default(machine: str, *caps: str) -> dict[str, Any]:
    """Docker's default profile as a container with these capabilities gets it."""
    return {"defaultErrnoRet": 1, **docker.resolve(docker.default_profile(), machine, (6, 18), caps)}


def compare(profile: dict[str, Any], machine: str, values: tuple[int, ...] = VALUES) -> int:
    """Both filters asked about every call; the number of questions."""
    ours, theirs = seccomp.compile_profile(profile, machine), by_libseccomp(profile)  # type: ignore[arg-type]
    asked = 0
    for arch in profile["architectures"]:
        bit = seccomp.X32_SYSCALL_BIT if arch == "SCMP_ARCH_X32" else 0
        table = syscall_table.numbers(arch)
        newest = max(table.get(call, 0) for rule in profile["syscalls"] for call in rule["names"]
                     if table.get(call, 0) < 0xF0000)  # fmt: skip
        private = [number for number in table.values() if number >= 0xF0000]
        for number in [*range(451), *range(512, 548 if bit else 512), *private, 0xF0000, 0xF0007]:
            for value in values:
                arguments = (value, value, 0, value, 0, 0)
                answer = run(ours, number | bit, ARCHES[arch][1], arguments)
                wanted = run(theirs, number | bit, ARCHES[arch][1], arguments)
                asked += 1
                if answer == abi.SECCOMP_RET_ERRNO | 38 != wanted:
                    # Above the newest call that a profile names runc puts a stub of its own before the filter.
                    assert number > newest, (arch, number)
                    continue
                assert answer == wanted, (arch, number, value)
    return asked


@pytest.mark.skipif(abi.MACHINE != "x86_64", reason="the profiles are written for this architecture's calls")
@pytest.mark.parametrize("name", PROFILES)
def test_our_filter_answers_as_libseccomps(name: str) -> None:
    assert compare(known_to_libseccomp(PROFILES[name]), "x86_64") > 5000


@pytest.mark.parametrize("caps", [(), ("CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_SYS_TIME")], ids=len)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_dockers_default_profile_over_the_whole_table(machine: str, caps: tuple[str, ...]) -> None:
    """Every call of every architecture of the family, each with values around those that the profile compares."""
    profile = known_to_libseccomp(docker_default(machine, *caps))
    assert len(profile["architectures"]) == {"x86_64": 3, "aarch64": 2}[machine]
    values = (0, 8, 0x20000, 0xFFFFFFFF, 40, 0x10000000, 41) if machine == "x86_64" else (0, 40, 0x10000000)
    assert compare(profile, machine, values) > 2 * 451 * len(values)


@pytest.mark.root
def test_the_kernel_takes_a_filter_and_acts_on_it() -> None:
    profile: Any = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    from sampan.linux import seccomp as kernel

    program = seccomp.compile_profile(profile)
    child = os.fork()
    if child == 0:
        kernel.load(program)
        try:
            os.mkdir("/tmp/never")
        except OSError as error:
            os._exit(error.errno or 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 28
