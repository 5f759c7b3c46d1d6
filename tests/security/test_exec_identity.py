"""Who an exec'd process is: CVE-2022-29162 (crun's CVE-2022-27650), CVE-2026-30892, and youki's CVE-2025-27612."""

from __future__ import annotations

import re

import pytest
from tests.peers.runtimes import Runtime

CAPS = "grep -E '^Cap(Inh|Amb)' /proc/self/status"
NONE = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n"


def test_no_capability_is_inheritable_unless_the_spec_says_so(runtime: Runtime) -> None:
    runtime.start(runtime.bundle().command("sleep", "1000"))
    assert runtime.exec("sh", "-c", CAPS).out == NONE
    assert runtime.run(runtime.bundle().shell(CAPS), id="two").out == NONE


def test_cap_of_exec_adds_no_inheritable_one(runtime: Runtime) -> None:
    """CVE-2022-29162: a non-root user would have got it back by any program with file capabilities."""
    runtime.start(runtime.bundle().command("sleep", "1000"))
    done = runtime.exec("sh", "-c", CAPS, flags=["--cap", "CAP_SYS_PTRACE", "--user", "1000:1000"])
    assert done.out == NONE


def test_an_exec_gets_no_more_capabilities_than_the_container_has(runtime: Runtime) -> None:
    """CVE-2025-27612."""
    bundle = runtime.bundle()
    for kind in bundle.spec["process"]["capabilities"]:
        bundle.spec["process"]["capabilities"][kind] = ["CAP_KILL"]
    runtime.start(bundle.command("sleep", "1000"))
    done = runtime.exec("grep", "-E", "^Cap(Prm|Eff|Bnd)", "/proc/self/status")
    assert set(re.findall(r"[0-9a-f]{16}", done.out)) == {f"{1 << 5:016x}"}


REFUSED = ["4294967296", "4294967295", "-1", "18446744073709551616", "root", "0x0", "0 ", "0:4294967296", "0:", ":0",
           "1_0", "\u0660", "0:0:0", "1e3", "99999999999999999999"]  # fmt: skip


@pytest.mark.parametrize("user", REFUSED)
def test_a_user_that_is_no_user_is_refused_and_never_becomes_root(sampan: Runtime, user: str) -> None:
    """CVE-2026-30892. The reference is in the next test."""
    sampan.start(sampan.bundle().command("sleep", "1000"))
    done = sampan.exec("id", flags=["--user", user])
    assert done.status == 255, done
    assert "uid=" not in done.out
    assert done.err.count("\n") == 1


def test_runc_takes_an_overflowing_user_for_root(runtime: Runtime) -> None:
    """The attack is real: runc 1.1.5 makes 2^32 to 0."""
    runtime.start(runtime.bundle().command("sleep", "1000"))
    done = runtime.exec("id", "-u", flags=["--user", "4294967296"])
    assert done.out == ("0\n" if runtime.is_known_runc else "")


@pytest.mark.parametrize("field", ["uid", "gid"])
@pytest.mark.parametrize("value", [4294967296, 4294967295, -1, 1 << 64, "0", 1.5])
def test_a_document_with_such_an_id_is_refused(sampan: Runtime, field: str, value: object) -> None:
    bundle = sampan.bundle()
    bundle.spec["process"]["user"][field] = value
    done = sampan.run(bundle.command("id"))
    assert done.status == 1, done
    assert "uid=" not in done.out
    assert f"process.user.{field}" in done.err


def test_the_supplementary_groups_of_the_caller_do_not_reach_the_container(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    done = runtime.run(bundle.command("id", "-G"), extra_groups=[4, 27])
    assert done.out == "1000\n"
