"""clone3, namespaces and pidfds on the real kernel, each result read back from /proc."""

from __future__ import annotations

import errno
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

import pytest

from sampan.linux import abi, cgroupfs, mountinfo, process, procfs

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


def ended(pidfd: int) -> tuple[int, int]:
    """(how, status) of the child behind `pidfd`, which is closed."""
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    finally:
        os.close(pidfd)
    assert result is not None
    return result.si_code, result.si_status


def cloned(flags: int, work: Callable[[], str]) -> str:
    """What `work` says in a child made by clone3 with `flags`."""
    reader, writer = os.pipe()
    pid, pidfd = process.clone3(flags)
    if pid == 0:
        try:
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    assert ended(pidfd) == (os.CLD_EXITED, 0)
    return said


@pytest.mark.parametrize("namespace", [name for name in abi.NAMESPACES if name != "time"])
def test_clone3_makes_exactly_the_namespace_it_is_asked_for(namespace: str) -> None:
    def links() -> str:
        return " ".join(os.readlink(f"/proc/thread-self/ns/{kind}") for _, kind in abi.NAMESPACES.values())

    # /proc still shows the child by the parent's pid namespace, where thread-self exists all the same.
    ours = links().split()
    theirs = cloned(abi.NAMESPACES[namespace][0], links).split()
    different = [name for name, a, b in zip(abi.NAMESPACES, ours, theirs, strict=True) if a != b]
    assert different == [namespace]


def test_clone3_puts_the_child_in_a_new_time_namespace() -> None:
    before = procfs.namespace_inode("self", "time")
    inside = cloned(abi.CLONE_NEWTIME, lambda: str(procfs.namespace_inode("thread-self", "time")))
    assert int(inside) != before


def test_the_first_process_of_a_pid_namespace_is_one() -> None:
    assert cloned(abi.CLONE_NEWPID, lambda: f"{os.getpid()} {os.getppid()}") == "1 0"


def test_clone3_reports_the_exit_code_and_the_signal_of_the_child() -> None:
    pid, pidfd = process.clone3(0)
    if pid == 0:
        os._exit(41)
    assert ended(pidfd) == (os.CLD_EXITED, 41)
    pid, pidfd = process.clone3(0)
    if pid == 0:
        while True:
            signal.pause()
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert ended(pidfd) == (os.CLD_KILLED, signal.SIGKILL)


def test_the_child_of_clone3_is_a_whole_interpreter() -> None:
    """It forks, imports, runs its at-fork hooks and knows its own pid, as a child of os.fork does."""

    def work() -> str:
        import threading

        said: list[int] = []
        thread = threading.Thread(target=said.append, args=(1,))
        thread.start()
        thread.join()
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        _, status = os.waitpid(pid, 0)
        return f"{said} {os.waitstatus_to_exitcode(status)} {os.getpid() == int(os.readlink('/proc/self'))}"

    assert cloned(0, work) == "[1] 3 True"


def test_clone3_runs_pythons_fork_hooks_on_both_sides(in_child: InChild) -> None:
    def work() -> tuple[list[str], list[str]]:
        ran: list[str] = []
        os.register_at_fork(
            before=lambda: ran.append("before"),
            after_in_child=lambda: ran.append("child"),
            after_in_parent=lambda: ran.append("parent"),
        )
        reader, writer = os.pipe()
        pid, pidfd = process.clone3(0)
        if pid == 0:
            os.write(writer, " ".join(ran).encode())
            os._exit(0)
        ended(pidfd)
        inside = os.read(reader, 100).decode().split()
        with pytest.raises(OSError):
            process.clone3(abi.CLONE_NEWNS | abi.CLONE_FS)
        return inside, ran

    inside, outside = in_child(work)
    assert inside == ["before", "child"]
    # A clone that fails ends what "before" began as well.
    assert outside == ["before", "parent", "before", "parent"]


def test_libc_in_the_child_of_clone3_knows_its_own_thread_id() -> None:
    def recorded() -> str:
        at = process._libc_thread_id()
        return f"{at != 0} {struct.unpack('=i', _memory(at))[0] == os.getpid()}" if at else "unknown"

    def _memory(at: int) -> bytes:
        with open("/proc/self/mem", "rb") as memory:
            memory.seek(at)
            return memory.read(4)

    if recorded() == "unknown":
        pytest.skip("this libc or kernel does not tell where the thread id is kept")
    assert cloned(0, recorded) == "True True"


def test_clone3_starts_the_child_inside_a_cgroup_v2_directory() -> None:
    unified = [h for h in cgroupfs.hierarchies(mountinfo.read()) if h.version == 2]
    if not unified:
        pytest.skip("no cgroup2 is mounted")
    parent = cgroupfs.open_cgroup(unified[0].directory(cgroupfs.paths()[""]))
    name = f"sampan-test-clone3-{os.getpid()}"
    cgroup = cgroupfs.mkdirs(parent, name)
    try:
        reader, writer = os.pipe()
        pid, pidfd = process.clone3(0, cgroup_fd=cgroup)
        if pid == 0:
            os.write(writer, cgroupfs.paths()[""].encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            assert pipe.read().endswith("/" + name)
        assert ended(pidfd) == (os.CLD_EXITED, 0)
    finally:
        cgroupfs.remove_tree(parent, name)
        os.close(cgroup)
        os.close(parent)


def test_clone3_refuses_flags_that_share_memory_and_unknown_ones() -> None:
    with pytest.raises(OSError) as refused:
        process.clone3(abi.CLONE_VM)
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError) as refused:
        process.clone3(abi.CLONE_NEWNS | abi.CLONE_FS)
    assert refused.value.errno == errno.EINVAL
    assert "clone3" in str(refused.value)


def test_clone_parent_gives_the_callers_parent_a_child(in_child: InChild) -> None:
    def work() -> tuple[int, int]:
        pid, pidfd = process.clone3(0)
        if pid == 0:
            # exit_signal must be 0 with CLONE_PARENT: the sibling inherits ours.
            sibling, _ = process.clone3(abi.CLONE_PARENT, exit_signal=0)
            os._exit(0 if sibling else 5)
        results = set()
        for _ in range(2):
            waited, status = os.waitpid(-1, 0)
            results.add((waited == pid, os.waitstatus_to_exitcode(status)))
        os.close(pidfd)
        assert results == {(True, 0), (False, 5)}
        return (0, 0)

    in_child(work)


def test_unshare_and_setns_leave_and_join_namespaces(in_child: InChild) -> None:
    def work() -> tuple[str, str, str, str]:
        before = os.readlink("/proc/self/ns/uts")
        old = procfs.open_namespace("self", "uts")
        process.unshare(abi.CLONE_NEWUTS)
        process.sethostname("sampan-test")
        process.setdomainname("sampan.test")
        inside, name = os.readlink("/proc/self/ns/uts"), procfs.read_sysctl("kernel.hostname")
        assert procfs.read_sysctl("kernel.domainname") == "sampan.test"
        process.setns(old, abi.CLONE_NEWUTS)
        return before, inside, name, os.readlink("/proc/self/ns/uts")

    before, inside, name, after = in_child(work)
    assert inside != before
    assert name == "sampan-test"
    assert after == before
    assert os.uname().nodename != "sampan-test"


def test_setns_with_a_pidfd_joins_several_namespaces_at_once(in_child: InChild) -> None:
    reader, writer = os.pipe()
    pid, pidfd = process.clone3(abi.CLONE_NEWUTS | abi.CLONE_NEWIPC)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:

        def work() -> list[bool]:
            process.setns(pidfd, abi.CLONE_NEWUTS | abi.CLONE_NEWIPC)
            return [
                procfs.namespace_inode("self", name) == procfs.namespace_inode(pid, name)
                for name in ("uts", "ipc", "network")
            ]

        os.close(reader)
        assert in_child(work) == [True, True, True]
    finally:
        os.close(writer)
        assert ended(pidfd) == (os.CLD_EXITED, 0)


def test_a_pidfd_of_a_reaped_process_says_no_such_process() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    pidfd = process.pidfd_open(pid)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        process.pidfd_send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)
    with pytest.raises(ProcessLookupError):
        process.pidfd_open(pid)


def test_pidfd_getfd_takes_a_duplicate_of_another_process_descriptor() -> None:
    theirs, ours = os.pipe()
    pid, pidfd = process.clone3(0)
    if pid == 0:
        signal.pause()
        os._exit(0)
    copy = process.pidfd_getfd(pidfd, theirs)
    os.close(theirs)
    os.write(ours, b"seen")
    assert os.read(copy, 10) == b"seen"
    assert not os.get_inheritable(copy)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    ended(pidfd)
    os.close(copy)
    os.close(ours)


def test_the_prctl_settings_show_in_proc(in_child: InChild) -> None:
    def work() -> tuple[dict[str, str], int, int, int]:
        process.set_name("sampan-prctl-test")
        process.set_no_new_privs()
        process.set_child_subreaper(True)
        process.set_dumpable(False)
        owner = os.stat("/proc/self/stat").st_uid  # root all the same; the call must not fail
        return procfs.status("self"), process.prctl(abi.PR_GET_DUMPABLE), process.prctl(abi.PR_GET_NO_NEW_PRIVS), owner

    status, dumpable, no_new_privs, _ = in_child(work)
    assert status["Name"] == "sampan-prctl-te"
    assert status["NoNewPrivs"] == "1"
    assert (dumpable, no_new_privs) == (0, 1)


def test_a_child_subreaper_adopts_the_orphan_and_pdeathsig_kills_it(in_child: InChild) -> None:
    def work() -> list[int]:
        process.set_child_subreaper(True)
        ready, told = os.pipe()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                process.set_pdeathsig(signal.SIGKILL)
                os.write(told, b"x")
                signal.pause()
            os.read(ready, 1)
            os._exit(0)
        codes = []
        for _ in range(2):
            _, status = os.waitpid(-1, 0)
            codes.append(os.waitstatus_to_exitcode(status))
        return codes

    assert in_child(work) == [0, -signal.SIGKILL]


def test_prlimit_sets_and_reads_the_limit_of_another_process() -> None:
    pid, pidfd = process.clone3(0)
    if pid == 0:
        signal.pause()
        os._exit(0)
    process.prlimit(pid, abi.RLIMITS["RLIMIT_NOFILE"], 123, 456)
    process.prlimit(pid, abi.RLIMITS["RLIMIT_CORE"], 0, 0)
    lines = procfs.read_file(f"{pid}/limits").split("\n")
    assert next(line.split()[3:5] for line in lines if line.startswith("Max open files")) == ["123", "456"]
    assert process.getrlimit(pid, abi.RLIMITS["RLIMIT_NOFILE"]) == (123, 456)
    assert process.getrlimit(pid, abi.RLIMITS["RLIMIT_CORE"]) == (0, 0)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    ended(pidfd)


def test_personality_changes_the_machine_name_of_a_32_bit_process(in_child: InChild) -> None:
    def work() -> tuple[int, int, str]:
        before = process.personality(abi.PER_LINUX32)
        return before, process.personality(0xFFFFFFFF), os.uname().machine

    before, after, machine = in_child(work)
    assert (before, after) == (abi.PER_LINUX, abi.PER_LINUX32)
    assert machine != abi.MACHINE


def test_scheduling_io_priority_and_memory_policy_are_accepted_and_shown(in_child: InChild) -> None:
    def work() -> tuple[int, int, int, str]:
        process.sched_setattr(0, abi.SCHED_POLICIES["SCHED_BATCH"], nice=7)
        process.ioprio_set(abi.IOPRIO_WHO_PROCESS, 0, abi.IOPRIO_CLASSES["IOPRIO_CLASS_BE"], 6)
        from sampan.linux.call import call

        try:
            process.set_mempolicy(abi.MPOL_MODES["MPOL_BIND"], [0])
            policy = "bind:0" if "bind:0" in procfs.read_file("self/numa_maps") else "missing"
        except OSError as error:
            policy = errno.errorcode[error.errno or 0]
        except BaseException as error:
            policy = repr(error)
        ioprio = call("ioprio_get", abi.IOPRIO_WHO_PROCESS, 0)
        return os.sched_getscheduler(0), os.nice(0), ioprio, policy

    policy, nice, ioprio, memory = in_child(work)
    assert (policy, nice) == (os.SCHED_BATCH, 7)
    assert ioprio == abi.IOPRIO_CLASSES["IOPRIO_CLASS_BE"] << 13 | 6
    # ENOSYS, and no numa_maps, on a kernel without CONFIG_NUMA.
    assert memory in ("bind:0", "ENOSYS", "ENOENT")


def test_execve_of_a_descriptor_runs_the_program_behind_it() -> None:
    reader, writer = os.pipe()
    pid, pidfd = process.clone3(0)
    if pid == 0:
        os.dup2(writer, 1)
        process.execve(os.open("/bin/echo", os.O_PATH | os.O_CLOEXEC), ["echo", "from", "a", "descriptor"], {})
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "from a descriptor\n"
    assert ended(pidfd) == (os.CLD_EXITED, 0)
