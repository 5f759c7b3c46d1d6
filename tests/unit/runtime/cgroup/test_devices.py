from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup.devices import ALWAYS, bpf_program, rules, v1_writes

DENY_ALL = {"allow": False, "access": "rwm"}
BITS = {"m": 1, "r": 2, "w": 4}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """The answer of a device program, by a machine for the few instructions it is made of."""
    wanted = sum(BITS[letter] for letter in set(access))
    context = struct.pack("=3I", {"b": 1, "c": 2}[kind] | wanted << 16, major, minor)
    registers = [0] * 11
    at = 0
    while True:
        code, both, offset, imm = struct.unpack_from("=BBhi", program, at * 8)
        dst, src = both & 15, both >> 4
        at += 1
        if code == 0x61:
            assert src == 1
            registers[dst] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0x54:
            registers[dst] &= imm & 0xFFFFFFFF
        elif code == 0x74:
            registers[dst] >>= imm
        elif code == 0xBC:
            registers[dst] = registers[src]
        elif code == 0xB7:
            registers[dst] = imm
        elif code == 0x55:
            at += offset if registers[dst] != imm else 0
        elif code == 0x15:
            at += offset if registers[dst] == imm else 0
        elif code == 0x5D:
            at += offset if registers[dst] != registers[src] else 0
        elif code == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"instruction {code:#x}")


def test_what_every_container_gets_is_allowed_after_denying_all() -> None:
    program = bpf_program([DENY_ALL])  # type: ignore[list-item]
    assert run(program, "c", 1, 3, "rwm") == 1
    assert run(program, "c", 136, 7, "rw") == 1
    assert run(program, "b", 8, 0, "m") == 1
    assert run(program, "b", 8, 0, "r") == 0
    assert run(program, "c", 1, 11, "r") == 0
    assert run(program, "c", 10, 229, "rw") == 0


def test_the_last_matching_rule_decides() -> None:
    allow: Any = [DENY_ALL, {"allow": True, "type": "b", "major": 8, "access": "rw"}]
    assert run(bpf_program(allow), "b", 8, 3, "rw") == 1
    allow.append({"allow": False, "type": "b", "major": 8, "minor": 3, "access": "w"})
    assert run(bpf_program(allow), "b", 8, 3, "rw") == 0
    assert run(bpf_program(allow), "b", 8, 3, "r") == 1


def test_an_allowance_must_cover_the_whole_access() -> None:
    program = bpf_program([DENY_ALL, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}])  # type: ignore[list-item]
    assert run(program, "c", 10, 229, "r") == 1
    assert run(program, "c", 10, 229, "rw") == 0


def test_v1_begins_with_the_whole_list_and_names_each_kind() -> None:
    written = v1_writes([DENY_ALL, {"allow": True, "major": 5, "minor": 1, "access": "r"}])  # type: ignore[list-item]
    assert written[:3] == [("devices.deny", "a"), ("devices.allow", "c 5:1 r"), ("devices.allow", "b 5:1 r")]
    assert ("devices.allow", "c *:* m") in written
    assert len(written) == 3 + len(ALWAYS)


def test_v1_denies_everything_first_whatever_the_first_rule_is() -> None:
    """A new cgroup has its parent's list, which on most hosts allows all."""
    for rules_ in ([], [{"allow": True, "type": "c", "major": 5, "minor": 1, "access": "r"}]):
        assert v1_writes(rules_)[0] == ("devices.deny", "a")  # type: ignore[arg-type]
    assert v1_writes([{"allow": True, "access": "rwm"}])[0] == ("devices.allow", "a")


@pytest.mark.parametrize(
    ("rule", "field"),
    [({"type": "z", "access": "r"}, "[0].type"), ({"access": "x"}, "[0].access"), ({"type": "c"}, "[0].access")],
)
def test_a_wrong_rule_is_refused(rule: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        rules([rule])
    assert f"linux.resources.devices{field}" in str(refused.value)


RULE = st.fixed_dictionaries(
    {"allow": st.booleans(), "access": st.text(alphabet="rwm", min_size=1, max_size=3)},
    optional={
        "type": st.sampled_from(["a", "b", "c"]), "major": st.integers(-1, 3), "minor": st.integers(-1, 3),
    },
)  # fmt: skip


@given(st.lists(RULE, max_size=6), st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3),
       st.text(alphabet="rwm", min_size=1, max_size=3))  # fmt: skip
def test_the_program_answers_as_the_list_read_backwards(
    given_: list[Any], kind: str, major: int, minor: int, access: str
) -> None:
    wanted = 0
    for allow, kind_, major_, minor_, access_ in reversed(rules(given_)):
        if kind_ not in ("a", kind) or major_ not in (-1, major) or minor_ not in (-1, minor):
            continue
        if set(access) <= set(access_) if allow else set(access) & set(access_):
            wanted = int(allow)
            break
    assert run(bpf_program(given_), kind, major, minor, access) == wanted
