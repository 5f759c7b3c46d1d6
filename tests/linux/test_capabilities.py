"""Capabilities and ids: /proc/self/status is the witness."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from sampan.linux import abi, capabilities, credentials, procfs

pytestmark = pytest.mark.root

InChild = Callable[..., Any]

KEPT = capabilities.mask(["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_READ", "CAP_SETPCAP", "CAP_SETUID"])


def sets() -> dict[str, int]:
    return {name[3:]: int(value, 16) for name, value in procfs.status("thread-self").items() if name.startswith("Cap")}


def test_capget_agrees_with_proc() -> None:
    shown = sets()
    assert capabilities.capget() == (shown["Eff"], shown["Prm"], shown["Inh"])
    assert capabilities.capget(os.getpid()) == capabilities.capget()


def test_the_last_capability_is_the_kernels() -> None:
    assert capabilities.last_cap() == int(procfs.read_sysctl("kernel.cap_last_cap"))


def test_capset_reduces_the_sets(in_child: InChild) -> None:
    def work() -> dict[str, int]:
        capabilities.capset(KEPT, KEPT, 0)
        return sets()

    shown = in_child(work)
    assert (shown["Eff"], shown["Prm"], shown["Inh"]) == (KEPT, KEPT, 0)


def test_capset_cannot_give_back_what_was_dropped(in_child: InChild) -> None:
    def work() -> int | None:
        capabilities.capset(0, 0, 0)
        try:
            capabilities.capset(KEPT, KEPT, 0)
        except OSError as error:
            return error.errno
        return 0

    assert in_child(work) == errno.EPERM


def test_the_bounding_set_keeps_only_what_is_named(in_child: InChild) -> None:
    def work() -> dict[str, int]:
        capabilities.bounding_drop(KEPT)
        return sets()

    assert in_child(work)["Bnd"] == KEPT & sets()["Bnd"]


def test_ambient_capabilities_survive_the_change_of_user_and_execve(in_child: InChild) -> None:
    bind = capabilities.mask(["CAP_NET_BIND_SERVICE"])

    def work() -> tuple[int, int, str]:
        credentials.set_ids(1234, 1234, [], keep_capabilities=True)
        capabilities.capset(bind, bind, bind)
        capabilities.ambient_raise(bind)
        raised = capabilities.ambient()
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.dup2(writer, 1)
            os.execv("/bin/grep", ["grep", "CapEff", "/proc/self/status"])
        os.close(writer)
        with os.fdopen(reader) as pipe:
            after = pipe.read()
        capabilities.ambient_clear()
        return raised, capabilities.ambient(), after

    raised, cleared, after = in_child(work)
    assert (raised, cleared) == (bind, 0)
    assert int(after.split()[1], 16) == bind


def test_an_ambient_capability_must_be_inheritable_first(in_child: InChild) -> None:
    def work() -> int | None:
        try:
            capabilities.ambient_raise(capabilities.mask(["CAP_CHOWN"]))
        except OSError as error:
            return error.errno
        return 0

    assert in_child(work) == errno.EPERM


def test_ids_and_groups_change_for_good(in_child: InChild) -> None:
    def work() -> tuple[dict[str, str], list[int], int | None]:
        credentials.set_ids(1001, 1002, [7, 8])
        code = None
        try:
            os.setuid(0)
        except OSError as error:
            code = error.errno
        return procfs.status("self"), os.getgroups(), code

    status, groups, code = in_child(work)
    assert status["Uid"].split() == ["1001"] * 4
    assert status["Gid"].split() == ["1002"] * 4
    assert status["CapPrm"] == "0" * 16
    assert groups == [7, 8]
    assert code == errno.EPERM


def test_the_supplementary_groups_stay_when_none_are_given(in_child: InChild) -> None:
    def work() -> list[int]:
        os.setgroups([3, 4])
        credentials.set_ids(1001, 1001, None)
        return os.getgroups()

    assert in_child(work) == [3, 4]


def test_the_permitted_set_survives_when_it_is_kept(in_child: InChild) -> None:
    def work() -> tuple[tuple[int, int, int], int]:
        credentials.set_ids(1001, 1001, [], keep_capabilities=True)
        from sampan.linux.process import prctl

        return capabilities.capget(), prctl(abi.PR_GET_KEEPCAPS)

    (effective, permitted, _), keep = in_child(work)
    assert effective == 0
    assert permitted == capabilities.capget()[1]
    assert keep == 0
