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


def test_no_rule_may_notify_about_the_write_that_init_itself_needs():
    rule = {"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}
    with pytest.raises(
        InvalidArgument, match=r"syscalls\[0\].names: SCMP_ACT_NOTIFY cannot be used for the write syscall"
    ):
        compiled([rule], default="SCMP_ACT_ALLOW")


@pytest.mark.parametrize(("action", "number", "fits"), [
    ("SCMP_ACT_ERRNO", 4095, True), ("SCMP_ACT_ERRNO", 4096, False), ("SCMP_ACT_TRACE", 0xFFFF, True),
    ("SCMP_ACT_TRACE", 0x10000, False), ("SCMP_ACT_KILL", 1 << 31, True),
])  # fmt: skip
def test_an_errno_that_the_kernel_would_change_is_refused(action, number, fits):
    rule = {"names": ["mkdir"], "action": action, "errnoRet": number}
    if fits:
        answer = run(compiled([rule], default="SCMP_ACT_ALLOW"), NUMBERS["mkdir"], X86_64)
        assert answer == seccomp.ACTIONS[action] | (0 if action == "SCMP_ACT_KILL" else number)
    else:
        with pytest.raises(InvalidArgument, match=r"linux.seccomp.syscalls\[0\].errnoRet"):
            compiled([rule], default="SCMP_ACT_ALLOW")


@pytest.mark.parametrize("action", sorted(set(seccomp.ACTIONS) - {"SCMP_ACT_NOTIFY"}))
def test_each_action_may_be_the_default_and_a_rules(action):
    errno = 1 if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0
    wanted = seccomp.ACTIONS[action] | errno
    assert run(compiled([{"names": ["mseal"], "action": "SCMP_ACT_LOG"}], default=action), 0, X86_64) == wanted
    other = "SCMP_ACT_ALLOW" if action != "SCMP_ACT_ALLOW" else "SCMP_ACT_LOG"
    assert run(compiled([{"names": ["mseal"], "action": action}], default=other), NUMBERS["mseal"], X86_64) == wanted


@pytest.mark.parametrize(("flags", "wanted"), [
    ([], 0), (["SECCOMP_FILTER_FLAG_TSYNC"], 0), (["SECCOMP_FILTER_FLAG_LOG"], 2),
    (["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"], 6),
    (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 32),
])  # fmt: skip
def test_flags_are_the_kernels(flags, wanted):
    assert seccomp.load_flags({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}) == wanted


def test_arms_own_calls_are_far_above_its_newest():
    program = seccomp.compile_profile(
        {
            "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"],
            "syscalls": [{"names": ["openat2", "set_tls", "cacheflush"], "action": "SCMP_ACT_ALLOW"}],
        },
        "aarch64",
    )  # fmt: skip
    arm = abi.AUDIT_ARCH_ARM
    asked = (0, 437, 438, 0xF0001, 0xF0002, 0xF0005, 0xF0006)
    assert [run(program, number, arm) for number in asked] == [EPERM, ALLOW, ENOSYS, ENOSYS, ALLOW, ALLOW, ENOSYS]
    assert run(program, 437, abi.AUDIT_ARCH_AARCH64) == ALLOW


@pytest.mark.parametrize(("machine", "architectures"), [
    ("x86_64", {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}),
    ("aarch64", {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}),
])  # fmt: skip
def test_every_architecture_that_a_machine_runs_has_a_table(machine, architectures):
    assert set(seccomp._FAMILY[machine]) == architectures <= set(syscall_table.known_architectures())


# A second reading of the rules, as plain as possible: what the compiled filter is judged by.


def condition_holds(condition, arguments):
    value = arguments[condition["index"]]
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return value & condition["value"] == condition.get("valueTwo", 0)
    return COMPARE[condition["op"]](value, condition["value"])


def answer_of(action, errno):
    return seccomp.ACTIONS[action] | (errno if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0)


def wanted_of(profile, table, number, arguments):
    default = answer_of(profile["defaultAction"], 1)
    known = [rule for rule in profile["syscalls"] if any(table.get(name) == number for name in rule["names"])]
    known = [(rule, answer_of(rule["action"], rule.get("errnoRet", 1))) for rule in known]
    known = [(rule, answer) for rule, answer in known if answer != default]
    for rule, answer in known:
        if not rule.get("args"):
            return answer
    for rule, answer in known:
        arms = rule["args"]
        indexes = [arm["index"] for arm in arms]
        if len(set(indexes)) < len(indexes):  # two looks at one argument: either will do
            if any(condition_holds(arm, arguments) for arm in arms):
                return answer
        elif all(condition_holds(arm, arguments) for arm in arms):
            return answer
    newest = max((table[name] for rule in profile["syscalls"] for name in rule["names"] if name in table), default=-1)
    lenient = profile["defaultAction"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
    return ENOSYS if 0 <= newest < number and not lenient else default


SMALL = st.sampled_from([0, 1, 2, 0xFFFFFFFF, 1 << 32, (1 << 32) | 1, (1 << 64) - 1])
ARGUMENT = st.fixed_dictionaries(
    {"index": st.integers(0, 5), "value": SMALL, "valueTwo": SMALL,
     "op": st.sampled_from([*COMPARE, "SCMP_CMP_MASKED_EQ"])}
)  # fmt: skip
CALLS = ["read", "write", "mkdir", "clone", "openat2", "mseal", "no_such_call"]
RULE = st.fixed_dictionaries(
    {
        "names": st.lists(st.sampled_from(CALLS), min_size=1, max_size=3),
        "action": st.sampled_from(sorted(set(seccomp.ACTIONS) - {"SCMP_ACT_NOTIFY"})),
        "errnoRet": st.integers(0, 4095),
        "args": st.lists(ARGUMENT, max_size=3),
    }
)
PROFILE = st.fixed_dictionaries(
    {
        "defaultAction": st.sampled_from(sorted(set(seccomp.ACTIONS) - {"SCMP_ACT_NOTIFY"})),
        "architectures": st.just(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]),
        "syscalls": st.lists(RULE, max_size=6),
    }
)


@given(profile=PROFILE, calls=st.lists(st.tuples(*[SMALL] * 6), min_size=1, max_size=4))
def test_any_profile_decides_as_its_rules_read(profile, calls):
    program = seccomp.compile_profile(profile, "x86_64")
    for arch, bit in (("SCMP_ARCH_X86_64", 0), ("SCMP_ARCH_X32", seccomp.X32_SYSCALL_BIT)):
        table = syscall_table.numbers(arch)
        for number in (*(table[name] for name in CALLS if name in table), 5, 450, 600):
            for arguments in calls:
                wanted = wanted_of(profile, table, number, arguments)
                assert run(program, number | bit, X86_64, arguments) == wanted, (arch, number, arguments)
