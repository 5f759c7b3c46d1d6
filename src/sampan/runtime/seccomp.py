"""Turning a spec's linux.seccomp into a filter program of the kernel (classic BPF), without libseccomp.

Model: for each architecture the profile names, the call numbers 0..2^32-1 are cut into ranges with one outcome each,
neighbours with the same outcome are one range, and a balanced tree of comparisons finds the range in about eight
instructions, whatever the profile's length:

    load arch ── x86_64? ── load number ── x32 bit? ── tree ── return ACTION
             │                                            └── compare arguments ── return ACTION
             └── i386? ──── load number ── tree ...
             └── none of them: kill the thread, as libseccomp does

What the profile does not say is decided as runc and libseccomp decide it: a rule that repeats the default action is
nothing; a rule without conditions beats those with; numbers above the newest call that the profile names are ENOSYS
unless the default lets calls through (a C library then tries the older call instead of failing with EPERM).
Names unknown on an architecture are skipped. Sources: seccomp(2), runtime-spec config-linux.md#seccomp, runc
libcontainer/seccomp/patchbpf/enosys_linux.go.
"""

from __future__ import annotations

import struct

from sampan.errors import InvalidArgument
from sampan.linux import abi
from sampan.runtime import syscall_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.spec import Seccomp, SeccompArg, SeccompRule

    Instruction = tuple[int, int, int, int]
    """(code, jump if true, jump if false, k) of struct sock_filter."""
    Rules = dict[int, list[tuple[tuple[SeccompArg, ...], int]]]
    """Call number to its (conditions that must all hold, return value) in the profile's order."""
    Range = tuple[int, int | tuple[tuple[tuple[SeccompArg, ...], int], ...]]
    """(first number, return value or rules to try): it reaches up to the next range."""

ACTIONS: dict[str, int] = {
    "SCMP_ACT_KILL": abi.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": abi.SECCOMP_RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": abi.SECCOMP_RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": abi.SECCOMP_RET_TRAP,
    "SCMP_ACT_ERRNO": abi.SECCOMP_RET_ERRNO,
    "SCMP_ACT_TRACE": abi.SECCOMP_RET_TRACE,
    "SCMP_ACT_ALLOW": abi.SECCOMP_RET_ALLOW,
    "SCMP_ACT_LOG": abi.SECCOMP_RET_LOG,
    "SCMP_ACT_NOTIFY": abi.SECCOMP_RET_USER_NOTIF,
}

FLAGS: dict[str, int] = {
    # One thread is all that init has, so there is none to synchronise; and TSYNC excludes a listener.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": abi.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": abi.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": abi.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}

_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_AUDIT = {
    "SCMP_ARCH_X86_64": abi.AUDIT_ARCH_X86_64,
    "SCMP_ARCH_X86": abi.AUDIT_ARCH_I386,
    "SCMP_ARCH_AARCH64": abi.AUDIT_ARCH_AARCH64,
    "SCMP_ARCH_ARM": abi.AUDIT_ARCH_ARM,
}
_X32 = "SCMP_ARCH_X32"
X32_SYSCALL_BIT = 0x40000000

# Architectures that one kernel can run beside its own; a rule for another family never gets to decide anything.
_FAMILY = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", _X32),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}

# What seccomp.json of the runtime-spec lists: a name beyond these is a mistake, one of these without a table
# here belongs to another machine.
_ALL_ARCHITECTURES = {
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390", "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH", "SCMP_ARCH_SHEB",
}  # fmt: skip

# <linux/bpf_common.h>; loads are 32-bit words at an absolute offset into struct seccomp_data.
_LD, _AND, _RET, _JA = 0x20, 0x54, 0x06, 0x05
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35
_NR_OFFSET, _ARCH_OFFSET, _ARGS_OFFSET = 0, 4, 16
_EPERM, _ENOSYS = 1, 38
_MAX_ERRNO = 4095
_ARM_PRIVATE = 0xF0000  # ARM's few calls of its own are here, far above what is called its newest
_MAX_JUMP = 255


# The old i386 calls that stand for many: door to {call behind it: its number in the first argument}.
# Sources: include/uapi/linux/{net,ipc}.h
_MULTIPLEXED: dict[str, dict[str, int]] = {
    "socketcall": {
        "socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
        "socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
        "getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
    },
    "ipc": {
        "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
        "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
    },
}  # fmt: skip


def compile_profile(profile: Seccomp, machine: str = abi.MACHINE) -> bytes:
    """The filter as an array of struct sock_filter (8 bytes each, host order) for a host of `machine` (uname -m).

    Errors: InvalidArgument with the field's path, also for a program longer than the kernel's 4096 instructions.
    """
    default = _return_value(profile, "defaultAction", "defaultErrnoRet", "linux.seccomp")
    if default == abi.SECCOMP_RET_USER_NOTIF:
        raise InvalidArgument("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action")
    code: list[Instruction] = [(_LD, 0, 0, _ARCH_OFFSET)]
    wanted = _architectures(profile, machine)
    for name in wanted:
        if name not in _AUDIT:
            continue
        body = _one_architecture(profile, name, default, x32=_X32 in wanted and name == "SCMP_ARCH_X86_64")
        code += [(_JEQ, 1, 0, _AUDIT[name]), (_JA, 0, 0, len(body)), *body]
    code.append((_RET, 0, 0, abi.SECCOMP_RET_KILL_THREAD))
    if len(code) > 4096:
        raise InvalidArgument(f"linux.seccomp: the filter has {len(code)} instructions, the kernel takes 4096")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def load_flags(profile: Seccomp) -> int:
    """The SECCOMP_FILTER_FLAG_* of the profile, with NEW_LISTENER when a rule notifies. Errors: InvalidArgument."""
    total = 0
    for index, name in enumerate(profile.get("flags", [])):
        if name not in FLAGS:
            raise InvalidArgument(f'linux.seccomp.flags[{index}]: seccomp flag "{name}" is not known')
        total |= FLAGS[name]
    if any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls", [])):
        total |= abi.SECCOMP_FILTER_FLAG_NEW_LISTENER
    return total


def _architectures(profile: Seccomp, machine: str) -> list[str]:
    native = _NATIVE.get(machine)
    if native is None:
        raise InvalidArgument(f'linux.seccomp: no system call table for machine "{machine}"')
    wanted = [native]
    for index, name in enumerate(profile.get("architectures", [])):
        if name not in _ALL_ARCHITECTURES:
            raise InvalidArgument(f'linux.seccomp.architectures[{index}]: unknown architecture "{name}"')
        if name not in wanted and name in _FAMILY[machine]:
            wanted.append(name)
    return wanted


def _return_value(holder: Seccomp | SeccompRule, action_key: str, errno_key: str, path: str) -> int:
    name = str(holder.get(action_key, ""))
    if name not in ACTIONS:
        raise InvalidArgument(f'{path}.{action_key}: string "{name}" is not a valid action for seccomp')
    value = ACTIONS[name]
    if value in (abi.SECCOMP_RET_ERRNO, abi.SECCOMP_RET_TRACE):
        number = holder.get(errno_key, _EPERM)
        assert isinstance(number, int)
        if number > (_MAX_ERRNO if value == abi.SECCOMP_RET_ERRNO else 0xFFFF):
            raise InvalidArgument(f"{path}.{errno_key}: {number} is no number that {name} can carry")
        value |= number
    return value


def _rules(profile: Seccomp, default: int, table: dict[str, int]) -> Rules:
    rules: Rules = {}
    multiplexed = [(table[name], calls) for name, calls in _MULTIPLEXED.items() if name in table]
    for index, rule in enumerate(profile.get("syscalls", [])):
        path = f"linux.seccomp.syscalls[{index}]"
        value = _return_value(rule, "action", "errnoRet", path)
        if not rule.get("names"):
            raise InvalidArgument(f"{path}.names: must not be empty")
        if value == abi.SECCOMP_RET_USER_NOTIF and "write" in rule["names"]:
            # The call by which init would say that its listener is ready waits for that listener.
            raise InvalidArgument(f"{path}.names: SCMP_ACT_NOTIFY cannot be used for the write syscall")
        if value == default:
            continue
        alternatives = _alternatives(rule.get("args", []), path)
        for name in rule["names"]:
            number = table.get(name)
            if number is not None:
                rules.setdefault(number, []).extend((conditions, value) for conditions in alternatives)
            for door, calls in multiplexed:
                if name in calls:
                    # The filter cannot look behind the pointer that carries the real arguments, so the rule's own
                    # conditions do not count here; libseccomp decides the same.
                    which: SeccompArg = {"index": 0, "value": calls[name], "op": "SCMP_CMP_EQ"}
                    rules.setdefault(door, []).append(((which,), value))
    for number, entries in rules.items():
        unconditional = [entry for entry in entries if not entry[0]]
        if unconditional:
            rules[number] = unconditional[:1]
    return rules


def _alternatives(arguments: list[SeccompArg], path: str) -> list[tuple[SeccompArg, ...]]:
    """The condition sets of one rule: all its arguments together, or each alone when two look at the same one."""
    for index, argument in enumerate(arguments):
        if argument.get("op") not in _COMPARE:
            raise InvalidArgument(
                f'{path}.args[{index}].op: string "{argument.get("op", "")}" is not a valid operator for seccomp'
            )
    indexes = [argument.get("index", 0) for argument in arguments]
    if len(set(indexes)) < len(indexes):
        return [(argument,) for argument in arguments]
    return [tuple(arguments)]


def _one_architecture(profile: Seccomp, name: str, default: int, x32: bool) -> list[Instruction]:
    code: list[Instruction] = [(_LD, 0, 0, _NR_OFFSET)]
    plain = _tree(_ranges(profile, default, syscall_table.numbers(name), 0), default)
    if not x32:
        return code + plain
    extended = _tree(_ranges(profile, default, syscall_table.numbers(_X32), X32_SYSCALL_BIT), default)
    return [*code, (_JGE, 0, 1, X32_SYSCALL_BIT), (_JA, 0, 0, len(plain)), *plain, *extended]


def _ranges(profile: Seccomp, default: int, table: dict[str, int], offset: int) -> list[Range]:
    """The number line from 0 on, cut where the outcome changes; `offset` is added to each number of `table`."""
    rules = _rules(profile, default, table)
    ranges: list[Range] = []

    def extend(first: int, outcome: int | tuple[tuple[tuple[SeccompArg, ...], int], ...]) -> None:
        if not ranges or ranges[-1][1] != outcome:
            ranges.append((first, outcome))

    passes = default in (abi.SECCOMP_RET_ALLOW, abi.SECCOMP_RET_LOG) or default & 0xFFFF0000 == abi.SECCOMP_RET_TRACE
    # Also a rule that only repeats the default shows which calls the profile's author knew.
    named = {table.get(name, -1) for rule in profile.get("syscalls", []) for name in rule["names"]}
    newest = max((number for number in named if number < _ARM_PRIVATE), default=-1)
    newer = default if passes or newest < 0 else abi.SECCOMP_RET_ERRNO | _ENOSYS
    beyond = newest + offset + 1

    def fill(first: int, end: int) -> None:
        """Numbers that no rule decides."""
        if first < min(end, beyond):
            extend(first, default)
        if max(first, beyond) < end:
            extend(max(first, beyond), newer)

    expected = 0
    for number in sorted(rules):
        entries = rules[number]
        fill(expected, number + offset)
        extend(number + offset, tuple(entries) if entries[0][0] else entries[0][1])
        expected = number + offset + 1
    fill(expected, 1 << 32)
    return ranges


def _tree(ranges: list[Range], default: int) -> list[Instruction]:
    if len(ranges) == 1:
        outcome = ranges[0][1]
        return [(_RET, 0, 0, outcome)] if isinstance(outcome, int) else _tries(outcome, default)
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle], default), _tree(ranges[middle:], default)
    boundary = ranges[middle][0]
    if len(below) <= _MAX_JUMP:
        return [(_JGE, len(below), 0, boundary), *below, *above]
    return [(_JGE, 0, 1, boundary), (_JA, 0, 0, len(below)), *below, *above]


def _tries(entries: tuple[tuple[tuple[SeccompArg, ...], int], ...], default: int) -> list[Instruction]:
    """The rules of one call in order, the default when none matches."""
    code: list[Instruction] = []
    for conditions, value in entries:
        comparisons = [_COMPARE[condition["op"]](condition) for condition in conditions]
        length = sum(len(comparison) for comparison in comparisons)
        rule: list[Instruction] = []
        for comparison in comparisons:
            end = len(rule) + len(comparison)
            for operation, on_true, on_false, k in comparison:
                here = len(rule) + 1
                # HOLDS goes on behind this comparison, FAILS behind the rule's own return.
                offsets = {_NEXT: 0, _HOLDS: end - here, _FAILS: length + 1 - here}
                rule.append((operation, offsets[on_true], offsets[on_false], k))
        code += [*rule, (_RET, 0, 0, value)]
    return [*code, (_RET, 0, 0, default)]


_NEXT, _HOLDS, _FAILS = 0, -1, -2
"""Where a comparison's jump leads, before the distances are known."""


def _halves(condition: SeccompArg, value: int) -> tuple[Instruction, Instruction, int, int]:
    """The loads of an argument's upper and lower word, and the words to compare with; the machine is little-endian."""
    at = _ARGS_OFFSET + 8 * condition.get("index", 0)
    return (_LD, 0, 0, at + 4), (_LD, 0, 0, at), value >> 32, value & 0xFFFFFFFF


def _equal(condition: SeccompArg) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition, condition.get("value", 0))
    return [load_high, (_JEQ, _NEXT, _FAILS, high), load_low, (_JEQ, _HOLDS, _FAILS, low)]


def _not_equal(condition: SeccompArg) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition, condition.get("value", 0))
    return [load_high, (_JEQ, _NEXT, _HOLDS, high), load_low, (_JEQ, _FAILS, _HOLDS, low)]


def _greater(condition: SeccompArg, last: int = _JGT) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition, condition.get("value", 0))
    return [
        load_high, (_JGT, _HOLDS, _NEXT, high), (_JEQ, _NEXT, _FAILS, high), load_low, (last, _HOLDS, _FAILS, low),
    ]  # fmt: skip


def _less(condition: SeccompArg, last: int = _JGE) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition, condition.get("value", 0))
    return [
        load_high, (_JGT, _FAILS, _NEXT, high), (_JEQ, _NEXT, _HOLDS, high), load_low, (last, _FAILS, _HOLDS, low),
    ]  # fmt: skip


def _masked_equal(condition: SeccompArg) -> list[Instruction]:
    mask = condition.get("value", 0)
    load_high, load_low, high, low = _halves(condition, condition.get("valueTwo", 0))
    return [
        load_high, (_AND, _NEXT, _NEXT, mask >> 32), (_JEQ, _NEXT, _FAILS, high),
        load_low, (_AND, _NEXT, _NEXT, mask & 0xFFFFFFFF), (_JEQ, _HOLDS, _FAILS, low),
    ]  # fmt: skip


_COMPARE: dict[str, Callable[[SeccompArg], list[Instruction]]] = {
    "SCMP_CMP_NE": _not_equal,
    "SCMP_CMP_LT": _less,
    "SCMP_CMP_LE": lambda condition: _less(condition, _JGT),
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_GE": lambda condition: _greater(condition, _JGE),
    "SCMP_CMP_GT": _greater,
    "SCMP_CMP_MASKED_EQ": _masked_equal,
}

OPERATORS = tuple(_COMPARE)
