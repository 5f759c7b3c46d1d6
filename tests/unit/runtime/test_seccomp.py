from __future__ import annotations

import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.bpf_interpreter import run

from sampan.errors import InvalidArgument
from sampan.linux import abi
from sampan.runtime import seccomp, syscall_table

X86_64 = abi.AUDIT_ARCH_X86_64
I386 = abi.AUDIT_ARCH_I386
ALLOW = abi.SECCOMP_RET_ALLOW
EPERM = abi.SECCOMP_RET_ERRNO | 1
ENOSYS = abi.SECCOMP_RET_ERRNO | 38
NUMBERS = syscall_table.numbers("SCMP_ARCH_X86_64")


def compiled(rules: list[dict], default: str = "SCMP_ACT_ERRNO", **more: object) -> bytes:
    return seccomp.compile_profile({"defaultAction": default, "syscalls": rules, **more}, "x86_64")


def test_a_named_call_is_allowed_and_its_neighbours_are_not():
    program = compiled([{"names": ["read", "getpid", "mseal"], "action": "SCMP_ACT_ALLOW"}])
    for name, number in NUMBERS.items():
        wanted = ALLOW if name in ("read", "getpid", "mseal") else EPERM
        assert run(program, number, X86_64) == (wanted if number <= NUMBERS["mseal"] else ENOSYS), name


def test_numbers_above_the_newest_named_call_are_enosys():
    program = compiled([{"names": ["read", "getpid"], "action": "SCMP_ACT_ALLOW"}])
    assert run(program, NUMBERS["getpid"] + 1, X86_64) == ENOSYS
    assert run(program, NUMBERS["getpid"] - 1, X86_64) == EPERM
    assert run(program, 0xFFFFFFFF, X86_64) == ENOSYS


def test_a_default_that_lets_calls_through_lets_unknown_ones_through_too():
    program = compiled([{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}], default="SCMP_ACT_ALLOW")
    assert run(program, NUMBERS["mount"], X86_64) == EPERM
    assert run(program, 4000, X86_64) == ALLOW


def test_another_architecture_is_killed():
    program = compiled([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}])
    assert run(program, 3, I386) == abi.SECCOMP_RET_KILL_THREAD


def test_each_architecture_has_its_own_numbers():
    program = compiled(
        [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}],
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
    )
    assert run(program, 59, X86_64) == ALLOW
    assert run(program, 11, I386) == ALLOW
    assert run(program, seccomp.X32_SYSCALL_BIT | 520, X86_64) == ALLOW
    assert run(program, 11, X86_64) == EPERM
    assert run(program, seccomp.X32_SYSCALL_BIT | 59, X86_64) == EPERM


def test_without_x32_its_calls_do_not_exist():
    program = compiled([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}])
    assert run(program, seccomp.X32_SYSCALL_BIT, X86_64) == ENOSYS


def test_the_errno_of_a_rule_and_of_the_default_are_their_own():
    program = compiled(
        [
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["mseal"], "action": "SCMP_ACT_ALLOW"},
        ],
        defaultErrnoRet=13,
    )
    assert run(program, NUMBERS["clone3"], X86_64) == ENOSYS
    assert run(program, NUMBERS["read"], X86_64) == abi.SECCOMP_RET_ERRNO | 13


def test_a_rule_without_conditions_beats_those_with():
    program = compiled(
        [
            {
                "names": ["clone"],
                "action": "SCMP_ACT_KILL_PROCESS",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
            },
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW"},
        ]
    )
    assert run(program, NUMBERS["clone"], X86_64, (1, 0, 0, 0, 0, 0)) == ALLOW


def test_two_conditions_on_one_argument_are_alternatives_and_on_two_arguments_both_must_hold():
    either = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]
    both = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]
    program = compiled(
        [
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": either},
            {"names": ["connect"], "action": "SCMP_ACT_ALLOW", "args": both},
        ]
    )
    socket, connect = NUMBERS["socket"], NUMBERS["connect"]
    assert [run(program, socket, X86_64, (n, 0, 0, 0, 0, 0)) for n in (0, 1, 2, 3)] == [EPERM, ALLOW, ALLOW, EPERM]
    assert run(program, connect, X86_64, (1, 2, 0, 0, 0, 0)) == ALLOW
    assert run(program, connect, X86_64, (1, 3, 0, 0, 0, 0)) == EPERM
    assert run(program, connect, X86_64, (0, 2, 0, 0, 0, 0)) == EPERM


COMPARE = {
    "SCMP_CMP_NE": operator.ne, "SCMP_CMP_LT": operator.lt, "SCMP_CMP_LE": operator.le, "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge, "SCMP_CMP_GT": operator.gt,
}  # fmt: skip
WORDS = st.one_of(
    st.sampled_from([0, 1, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 63), (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)


@given(op=st.sampled_from(sorted(COMPARE)), index=st.integers(0, 5), wanted=WORDS, given_=WORDS)
def test_arguments_compare_as_unsigned_64_bit_numbers(op, index, wanted, given_):
    rule = {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": index, "value": wanted, "op": op}]}
    arguments = tuple(given_ if place == index else 0 for place in range(6))
    for value in (given_, wanted):
        arguments = tuple(value if place == index else 0 for place in range(6))
        result = run(compiled([rule]), NUMBERS["ioctl"], X86_64, arguments)
        assert (result == ALLOW) == COMPARE[op](value, wanted)


@given(mask=WORDS, wanted=WORDS, given_=WORDS)
def test_masked_equality_looks_only_at_the_masked_bits(mask, wanted, given_):
    argument = {"index": 2, "value": mask, "valueTwo": wanted & mask, "op": "SCMP_CMP_MASKED_EQ"}
    program = compiled([{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [argument]}])
    for value in (given_, wanted):
        result = run(program, NUMBERS["ioctl"], X86_64, (0, 0, value, 0, 0, 0))
        assert (result == ALLOW) == (value & mask == wanted & mask)


@given(st.sets(st.sampled_from(sorted(NUMBERS)), min_size=1))
def test_any_set_of_names_gives_exactly_that_set(names):
    program = compiled([{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}])
    last = max(NUMBERS[name] for name in names)
    numbers = {NUMBERS[name] for name in names}
    for number in range(500):
        wanted = ALLOW if number in numbers else EPERM if number <= last else ENOSYS
        assert run(program, number, X86_64) == wanted


def test_a_filter_of_many_rules_has_jumps_that_reach():
    rules = [
        {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": i % 6, "value": i << 33, "op": "SCMP_CMP_EQ"}]}
        for i, name in enumerate(sorted(NUMBERS))
    ]
    program = compiled(rules)
    for i, name in enumerate(sorted(NUMBERS)):
        arguments = tuple(i << 33 if place == i % 6 else 0 for place in range(6))
        assert run(program, NUMBERS[name], X86_64, arguments) == ALLOW, name
        if i:
            assert run(program, NUMBERS[name], X86_64) == EPERM, name


@pytest.mark.parametrize(
    ("profile", "text"),
    [
        ({"defaultAction": "SCMP_ACT_NO"}, "linux.seccomp.defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["VAX"]}, "linux.seccomp.architectures[0]"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "x"}]},
            "linux.seccomp.syscalls[0].action",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"op": "<"}]}],
            },
            "linux.seccomp.syscalls[0].args[0].op",
        ),
    ],
)
def test_a_wrong_profile_is_refused_with_the_fields_path(profile, text):
    with pytest.raises(InvalidArgument) as refused:
        seccomp.compile_profile(profile, "x86_64")
    assert text in str(refused.value)


def test_a_rule_that_notifies_asks_for_a_listener():
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}
    assert seccomp.load_flags(profile) == abi.SECCOMP_FILTER_FLAG_NEW_LISTENER
