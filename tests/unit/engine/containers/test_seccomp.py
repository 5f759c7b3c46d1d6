"""Docker's profile format resolved for one machine, kernel and capability set."""

from __future__ import annotations

import json

import pytest

from sampan.engine.containers import capabilities, seccomp
from sampan.errors import InvalidArgument


def rules(profile, name):
    return [rule for rule in profile["syscalls"] if name in rule["names"]]


def resolved(caps=capabilities.DEFAULT, machine="x86_64", kernel=(6, 18)):
    return seccomp.resolve(seccomp.default_profile(), machine, kernel, caps)


def test_architectures_are_the_machines_own_and_its_sub_architectures():
    assert resolved()["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert resolved(machine="aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]


def test_a_capability_opens_its_system_calls():
    assert not rules(resolved(), "mount")
    assert rules(resolved(["CAP_SYS_ADMIN"]), "mount")


def test_clone_is_filtered_by_flags_and_clone3_is_enosys_without_sys_admin():
    assert rules(resolved(), "clone")[0]["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    assert rules(resolved(), "clone3")[0] == {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    assert all("args" not in rule for rule in rules(resolved(["CAP_SYS_ADMIN"]), "clone"))


def test_rules_of_another_architecture_are_left_out():
    assert rules(resolved(), "arch_prctl") and not rules(resolved(machine="aarch64"), "arch_prctl")
    assert not rules(resolved(), "s390_pci_mmio_read")


def test_the_kernel_version_decides_ptrace():
    assert rules(resolved(kernel=(4, 8)), "ptrace") and not rules(resolved(kernel=(4, 7)), "ptrace")


def test_no_condition_is_left_for_the_runtime():
    assert {key for rule in resolved()["syscalls"] for key in rule} <= {"names", "action", "errnoRet", "args"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"defaultAction": 1, "syscalls": [{}]}', '{"defaultAction":"x","syscalls":[1]}']
)
def test_garbage_is_an_invalid_argument(text):
    with pytest.raises(InvalidArgument, match="seccomp profile"):
        seccomp.parse(text, "x86_64", (6, 1), ())


def test_a_rule_may_have_name_or_names_but_not_both():
    profile = {"defaultAction": "a", "syscalls": [{"name": "read", "action": "b"}]}
    assert seccomp.parse(json.dumps(profile), "x86_64", (6, 1), ())["syscalls"][0]["names"] == ["read"]
    profile["syscalls"][0]["names"] = ["write"]
    with pytest.raises(InvalidArgument, match="use either 'name' or 'names'"):
        seccomp.parse(json.dumps(profile), "x86_64", (6, 1), ())
