"""docker run: what each flag does to the process inside."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os

import pytest
from tests.conftest import leave_out
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.waiting import eventually

STATUS = "cat /proc/self/status"


def field(status: str, name: str) -> str:
    """One row of /proc/PID/status."""
    return next(line.split(":", 1)[1].strip() for line in status.splitlines() if line.startswith(f"{name}:"))


def test_a_command_runs_and_its_output_comes_back(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "busybox", "echo", "hello", "world") == "hello world"


def test_the_image_s_own_command_runs_when_none_is_given(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "-i", "busybox", stdin="echo from sh\n") == "from sh"


def test_entrypoint_command_environment_directory_and_user_come_from_the_image(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "configured") == "entrypoint one two words"
    script = "echo $COLOUR:[$EMPTY]:$PWD:$(id -u):$(id -g):$HOME"
    seen = docker.ok("run", "--rm", "--entrypoint", "/bin/sh", "configured", "-c", script)
    assert seen == "green:[]:/srv/work:1000:50:/home/tester"


def test_a_command_of_the_user_replaces_the_image_s_command_but_not_its_entrypoint(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "configured", "other") == "entrypoint other"


def test_an_entrypoint_of_the_user_drops_the_image_s_command(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "--entrypoint", "/bin/echo", "configured") == ""
    assert docker.ok("run", "--rm", "--entrypoint", "/bin/echo", "configured", "a", "b") == "a b"


def test_an_empty_entrypoint_resets_the_image_s(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "--entrypoint", "", "configured", "echo", "plain") == "plain"


def test_rm_removes_the_container_and_its_anonymous_volume(docker: Docker) -> None:
    before = set(docker.ok("volume", "ls", "-q").split())
    docker.ok("run", "--rm", "--name", "brief", "configured")
    assert docker.ok("ps", "-aq", "--filter", "name=brief") == ""
    assert set(docker.ok("volume", "ls", "-q").split()) <= before


def test_d_prints_the_id_and_leaves_the_container_running(docker: Docker) -> None:
    identity = docker.ok("run", "-d", "busybox", "sleep", "100")
    assert len(identity) == 64 and int(identity, 16)
    assert docker.running(identity)


def test_e_sets_adds_and_takes_variables_over(docker: Docker, tmp_path: str) -> None:
    listed = f"{tmp_path}/variables"
    with open(listed, "w") as file:
        file.write("# comment\nFROM_FILE=listed\n")
    docker.environment["TAKEN"] = "from the client"
    out = docker.ok("run", "--rm", "-e", "NEW=a b=c", "-e", "COLOUR=red", "-e", "TAKEN", "-e", "EMPTY",
                    "--env-file", listed, "--entrypoint", "/bin/env", "configured")  # fmt: skip
    del docker.environment["TAKEN"]
    seen = dict(line.split("=", 1) for line in out.splitlines())
    assert {"NEW": "a b=c", "COLOUR": "red", "TAKEN": "from the client", "FROM_FILE": "listed"}.items() <= seen.items()
    assert seen["PATH"] == "/usr/local/bin:/bin"
    assert len(seen["HOSTNAME"]) == 12
    assert "EMPTY" not in seen


def test_the_default_environment_is_path_hostname_and_home(docker: Docker) -> None:
    lines = docker.ok("run", "--rm", "--hostname", "box", "busybox", "env").splitlines()
    assert sorted(lines) == [
        "HOME=/root",
        "HOSTNAME=box",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_w_chooses_and_makes_the_working_directory(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "-w", "/made/here", "busybox", "pwd") == "/made/here"


@pytest.mark.parametrize(
    ("user", "seen"),
    [
        ("tester", "1000:1000:1000 50"),
        ("1000", "1000:1000:1000 50"),
        ("4242", "4242:0:0"),
        ("tester:daemon", "1000:1:1"),
        ("1:1000", "1:1000:1000"),
        ("4242:2424", "4242:2424:2424"),
    ],
)
def test_u_takes_names_and_numbers_of_users_and_groups(docker: Docker, user: str, seen: str) -> None:
    out = docker.ok("run", "--rm", "-u", user, "busybox", "sh", "-c", "echo $(id -u):$(id -g):$(id -G)")
    assert out == seen


def test_group_add_gives_further_groups(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "-u", "tester", "--group-add", "daemon", "--group-add", "777", "busybox", "id", "-G")
    assert sorted(out.split()) == ["1", "1000", "50", "777"]


def test_an_ordinary_user_has_no_effective_capability(docker: Docker) -> None:
    status = docker.ok("run", "--rm", "-u", "tester", "busybox", *STATUS.split())
    assert field(status, "CapEff") == field(status, "CapPrm") == "0000000000000000"


def test_name_names_the_container_and_hostname_its_host(docker: Docker) -> None:
    out = docker.ok("run", "--name", "alpha", "--hostname", "box", "busybox", "sh", "-c", "hostname; cat /etc/hostname")
    assert out == "box\nbox"
    assert docker.inspect("alpha")["Name"] == "/alpha"


def test_without_hostname_the_host_is_named_by_the_short_id(docker: Docker) -> None:
    docker.ok("run", "--name", "unnamed", "busybox", "hostname")
    assert docker.ok("logs", "unnamed") == docker.inspect("unnamed")["Id"][:12]


def test_without_name_a_container_gets_an_adjective_and_a_surname(docker: Docker) -> None:
    identity = docker.ok("run", "-d", "busybox", "true")
    adjective, surname = docker.inspect(identity)["Name"].removeprefix("/").split("_")
    assert adjective.isalpha() and surname.strip("0123456789").isalpha()


def test_m_limits_memory(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "-m", "48m", "busybox", "sh", "-c",
                    "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max")  # fmt: skip
    assert int(out) == 48 << 20


def test_a_process_over_its_memory_limit_is_killed_and_the_state_says_so(docker: Docker) -> None:
    outcome = docker("run", "--name", "greedy", "-m", "16m", "--memory-swap", "16m", "busybox",
                     "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")  # fmt: skip
    assert outcome.status == 137
    # dockerd hears of it by an event of its own, which may come after the exit
    eventually(lambda: docker.state("greedy")["OOMKilled"] is True)


def test_cpus_limits_the_share_of_cpu_time(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c",
                    "cd /sys/fs/cgroup; cat cpu/cpu.cfs_[qp]*_us 2>/dev/null || cat cpu.max")  # fmt: skip
    quota, period = sorted(int(word) for word in out.split())
    assert quota / period == 0.5


def test_cpu_shares_and_cpuset_reach_the_cgroup(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--cpu-shares", "512", "--cpuset-cpus", "0", "busybox", "sh", "-c",
                    "cd /sys/fs/cgroup; cat cpu/cpu.shares cpuset/cpuset.cpus")  # fmt: skip
    assert out.split() == ["512", "0"]


def test_pids_limit_stops_a_fork_bomb(docker: Docker) -> None:
    script = "cat /sys/fs/cgroup/pids/pids.max; i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done; echo forked"
    outcome = docker("run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", script)
    assert outcome.out.splitlines()[0] == "10"
    assert "fork" in outcome.err and "forked" not in outcome.out


def test_cap_add_and_cap_drop_change_the_capability_set(docker: Docker) -> None:
    def bounding(*flags: str) -> int:
        return int(field(docker.ok("run", "--rm", *flags, "busybox", *STATUS.split()), "CapBnd"), 16)

    default = bounding()
    assert bounding("--cap-add", "NET_ADMIN") == default | 1 << 12
    assert bounding("--cap-drop", "CHOWN") == default & ~1
    assert bounding("--cap-drop", "ALL") == 0
    assert bounding("--cap-drop", "ALL", "--cap-add", "CAP_KILL") == 1 << 5


def test_a_dropped_capability_is_really_gone(docker: Docker) -> None:
    outcome = docker("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "1", "/tmp")
    assert outcome.status == 1 and "Operation not permitted" in outcome.err


def test_privileged_lifts_the_confinement(docker: Docker, engine_kind: str) -> None:
    with open("/proc/self/status") as file:
        ours = field(file.read(), "CapBnd")
    if engine_kind == "dockerd" and bin(int(ours, 16)).count("1") < 41:
        pytest.skip("dockerd asks for every capability the kernel knows, and this host lacks some")
    script = f"{STATUS}; cat /proc/mounts; ls /dev"
    out = docker.ok("run", "--rm", "--privileged", "busybox", "sh", "-c", script)
    assert field(out, "CapEff") == ours
    assert field(out, "Seccomp") == "0"
    assert any(line.startswith("sysfs /sys sysfs rw") for line in out.splitlines())
    assert not any("/proc/sys " in line for line in out.splitlines())
    assert "loop-control" in out.split()


def test_seccomp_can_be_turned_off_or_replaced(docker: Docker, tmp_path: str) -> None:
    assert field(docker.ok("run", "--rm", "busybox", *STATUS.split()), "Seccomp") == "2"
    free = docker.ok("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", *STATUS.split())
    assert field(free, "Seccomp") == "0"
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    with open(f"{tmp_path}/profile.json", "w") as file:
        json.dump(profile, file)
    outcome = docker("run", "--rm", "--security-opt", f"seccomp={tmp_path}/profile.json", "busybox", "mkdir", "/x")
    assert outcome.status == 1 and "Function not implemented" in outcome.err


def test_the_default_seccomp_profile_refuses_new_user_namespaces_to_the_unprivileged(docker: Docker) -> None:
    outcome = docker("run", "--rm", "busybox", "unshare", "-U", "true")
    assert outcome.status == 1 and "Operation not permitted" in outcome.err
    assert docker("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "unshare", "-U", "true").status == 0


def test_no_new_privileges_is_set_only_when_asked(docker: Docker) -> None:
    assert field(docker.ok("run", "--rm", "busybox", *STATUS.split()), "NoNewPrivs") == "0"
    asked = docker.ok("run", "--rm", "--security-opt", "no-new-privileges", "busybox", *STATUS.split())
    assert field(asked, "NoNewPrivs") == "1"


def test_read_only_makes_the_root_read_only_but_not_tmpfs_nor_volumes(docker: Docker) -> None:
    script = "touch /root/x 2>&1; touch /scratch/y /kept/z /dev/shm/w && echo written"
    out = docker.ok("run", "--rm", "--read-only", "--tmpfs", "/scratch", "-v", "/kept", "busybox", "sh", "-c", script)
    assert out == "touch: /root/x: Read-only file system\nwritten"


def test_tmpfs_takes_size_and_mode(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--tmpfs", "/scratch:size=1m,mode=1770,exec", "busybox", "sh", "-c",
                    "grep /scratch /proc/mounts; stat -c %a /scratch")  # fmt: skip
    row, mode = out.splitlines()
    assert mode == "1770"
    assert row.startswith("tmpfs /scratch tmpfs rw,nosuid,nodev,") and "size=1024k" in row and "noexec" not in row


def test_a_shared_dev_shm_is_as_large_as_asked_and_gone_with_its_container(docker: Docker) -> None:
    """In a directory of the host's /run it would be as large as that."""
    docker.ok("run", "-d", "--name", "one", "--ipc", "shareable", "--shm-size", "1m", "busybox", "sleep", "100")
    fill = docker(
        "run",
        "--rm",
        "--ipc",
        "container:one",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/dev/shm/full",
        "bs=64k",
        "count=32",
    )
    assert fill.status == 1 and "No space left on device" in fill.err
    row = docker.ok("exec", "one", "sh", "-c", "grep ' /dev/shm ' /proc/mounts; stat -c '%a %s' /dev/shm /dev/shm/full")
    assert "size=1024k" in row and "nosuid,nodev,noexec" in row and row.splitlines()[1].startswith("1777 ")
    assert row.splitlines()[2].endswith(" 1048576")
    docker.ok("restart", "-t", "0", "one")
    assert docker.ok("exec", "one", "ls", "/dev/shm") == ""
    docker.ok("rm", "-f", "one")


def test_shm_size_sets_the_size_of_dev_shm(docker: Docker) -> None:
    assert "size=65536k" in docker.ok("run", "--rm", "busybox", "grep", "/dev/shm", "/proc/mounts")
    assert "size=1024k" in docker.ok("run", "--rm", "--shm-size", "1m", "busybox", "grep", "/dev/shm", "/proc/mounts")


def test_init_puts_a_reaper_in_front_of_the_command(docker: Docker) -> None:
    docker.ok("run", "-d", "--init", "--name", "reaped", "busybox", "sh", "-c", "(sleep 0.01 &); exec sleep 100")
    first = docker.ok("exec", "reaped", "cat", "/proc/1/cmdline").split("\0")
    assert os.path.basename(first[0]) in ("docker-init", "tini", "sampan-init")
    assert docker.ok("exec", "reaped", "sh", "-c", "cat /proc/1/task/1/children").split() != []
    assert docker("stop", "-t", "5", "reaped").status == 0
    assert docker.state("reaped")["ExitCode"] == 143


def test_init_passes_the_exit_status_on(docker: Docker) -> None:
    assert docker("run", "--rm", "--init", "busybox", "sh", "-c", "exit 9").status == 9


def test_ulimit_sets_soft_and_hard_limits(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "busybox", "sh", "-c",
                    "ulimit -Sn; ulimit -Hn; ulimit -c")  # fmt: skip
    assert out.split() == ["100", "200", "0"]


def test_sysctl_is_set_inside_only(docker: Docker) -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        before = file.read()
    out = docker.ok("run", "--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=123", "busybox",
                    "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")  # fmt: skip
    assert out == "123"
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        assert file.read() == before


def test_device_brings_a_node_and_the_right_to_use_it(docker: Docker) -> None:
    refused = docker("run", "--rm", "busybox", "sh", "-c", "mknod /tmp/fuse c 10 229 && cat < /tmp/fuse")
    assert refused.status == 1 and "Operation not permitted" in refused.err
    given = docker.ok("run", "--rm", "--device", "/dev/fuse:/dev/mine:rw", "busybox", "sh", "-c",
                      "stat -c '%F %t %T' /dev/mine; (: <> /dev/mine) && echo opened")  # fmt: skip
    assert given == "character special file a e5\nopened"


def test_another_oci_runtime_can_be_chosen(docker: Docker) -> None:
    out = docker.ok("run", "--name", "foreign", "--runtime", "runc", "busybox", "sh", "-c", "echo by runc; exit 0")
    assert out == "by runc"
    assert docker.inspect("foreign")["HostConfig"]["Runtime"] == "runc"


def test_another_oci_runtime_passes_the_exit_status_on_and_takes_exec(docker: Docker) -> None:
    assert docker("run", "--rm", "--runtime", "runc", "busybox", "sh", "-c", "exit 6").status == 6
    docker.ok("run", "-d", "--name", "foreign", "--runtime", "runc", "busybox", "sleep", "100")
    assert docker.ok("exec", "foreign", "echo", "inside") == "inside"
    docker.ok("rm", "-f", "foreign")


def test_an_unknown_runtime_is_refused(docker: Docker) -> None:
    outcome = docker("run", "--rm", "--runtime", "nowhere", "busybox", "true")
    assert outcome.status == 125
    assert "nowhere" in outcome.err and "unknown" in outcome.err.lower()


def test_labels_and_annotations_of_the_image_and_the_user_meet(docker: Docker) -> None:
    docker.ok("create", "--name", "labelled", "--label", "own=1", "--label", "maintainer=me", "configured")
    assert docker.inspect("labelled")["Config"]["Labels"] == {"own": "1", "maintainer": "me", "space": "a b"}


def test_a_real_distribution_runs(docker: Docker, debian: str) -> None:
    docker.ok("pull", "-q", debian, within=120)
    out = docker.ok(
        "run", "--rm", debian, "bash", "-c", ". /etc/os-release; echo $ID; dpkg -s bash | grep Status; id -un"
    )
    assert out.splitlines() == ["debian", "Status: install ok installed", "root"]


def test_cidfile_and_create_then_start_give_the_same_container(docker: Docker, tmp_path: str) -> None:
    identity = docker.ok("create", "--cidfile", f"{tmp_path}/cid", "busybox", "echo", "later")
    with open(f"{tmp_path}/cid") as file:
        assert file.read() == identity
    assert docker.state(identity)["Status"] == "created"
    assert docker.ok("start", "-a", identity) == "later"


def test_docker_py_runs_a_container_too(engine: Engine, docker: Docker) -> None:
    if importlib.util.find_spec("docker") is None:
        leave_out("needs docker-py (package docker of the dev extra)")
    library = importlib.import_module("docker")
    client = library.DockerClient(base_url=engine.uri)
    assert client.containers.run("busybox", ["echo", "from python"], remove=True) == b"from python\n"
    with pytest.raises(library.errors.ContainerError) as failure:
        client.containers.run("busybox", "false", remove=True)
    assert failure.value.exit_status == 1
    kept = client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2; sleep 100"], detach=True)
    kept.reload()
    assert kept.status == "running"
    code, output = kept.exec_run(["echo", "inside"])
    assert (code, output) == (0, b"inside\n")
    kept.kill()
    assert kept.wait()["StatusCode"] == 137
    assert kept.logs(stdout=True, stderr=False) == b"out\n"
    kept.remove()
    client.close()
