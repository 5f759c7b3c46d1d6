"""What a create request may say: limits, modes, policies, signals, in Docker's words."""

from __future__ import annotations

import pytest
from tests.unit.engine.containers.rooms import FACTS

from sampan.api.docker.containers import (
    Config,
    DeviceMapping,
    HealthConfig,
    HostConfig,
    LogConfig,
    RestartPolicy,
    Ulimit,
    UpdateRequest,
)
from sampan.engine.containers import command, resources, verify
from sampan.engine.containers.security import security_options
from sampan.engine.containers.signals import parse_signal
from sampan.errors import Error, InvalidArgument

WRONG = [
    ({"memory": 1}, "Minimum memory limit allowed is 6MB"),
    ({"memory": 1 << 24, "memory_swap": 1 << 23}, "Minimum memoryswap limit should be larger than memory limit"),
    ({"memory_swap": 1 << 24}, "You should always set the Memory limit when using Memoryswap limit"),
    ({"memory": 1 << 24, "memory_reservation": 1 << 25}, "can not be less than memory reservation limit"),
    ({"memory_swappiness": 101}, "valid memory swappiness range is 0-100"),
    ({"nano_cpus": 3 * 10**9}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    ({"nano_cpus": 10**9, "cpu_period": 1000}, "Nano CPUs and CPU Period cannot both be set"),
    ({"cpu_period": 999}, "CPU cfs period can not be less than 1ms"),
    ({"cpu_quota": 10}, "CPU cfs quota can not be less than 1ms"),
    ({"cpuset_cpus": "0-7"}, "Requested CPUs are not available - requested 0-7, available: 0-1"),
    ({"cpuset_cpus": "x"}, "Invalid value x for cpuset cpus"),
    ({"blkio_weight": 5}, "Range of blkio weight is from 10 to 1000"),
    ({"oom_score_adj": 2000}, "range for oom score adj is [-1000, 1000]"),
    ({"shm_size": -1}, "SHM size can not be less than 0"),
    ({"pid_mode": "odd"}, "invalid PID mode: odd"),
    ({"ipc_mode": "odd"}, "invalid IPC mode: odd"),
    ({"uts_mode": "odd"}, "invalid UTS mode: odd"),
    ({"userns_mode": "odd"}, "invalid USER mode: odd"),
    ({"cgroupns_mode": "odd"}, "invalid cgroup namespace mode: odd"),
    ({"network_mode": "container:"}, "invalid container format container:<name|id>"),
    ({"network_mode": "container:x", "publish_all_ports": True}, "port publishing and the container type network mode"),
    ({"restart_policy": RestartPolicy(name="odd")}, "invalid restart policy: unknown policy 'odd'"),
    ({"restart_policy": RestartPolicy(name="always", maximum_retry_count=1)}, "can only be used with 'on-failure'"),
    ({"restart_policy": RestartPolicy(name="always"), "auto_remove": True}, "can't create 'AutoRemove' container"),
    ({"security_opt": ["odd"]}, 'invalid --security-opt 1: "odd"'),
    ({"cap_drop": ["odd"]}, 'unknown capability: "CAP_ODD"'),
    ({"extra_hosts": ["odd"]}, 'bad format for add-host: "odd"'),
    ({"ulimits": [Ulimit(name="odd")]}, "invalid ulimit type: odd"),
    ({"ulimits": [Ulimit(name="core", soft=2, hard=1)]}, "ulimit soft limit must be less than or equal to hard limit"),
    ({"device_cgroup_rules": ["odd"]}, "invalid device cgroup rule format: 'odd'"),
    ({"devices": [DeviceMapping(cgroup_permissions="q")]}, "invalid device mode: q"),
    ({"isolation": "odd"}, 'invalid isolation: "odd"'),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_a_wrong_host_config_is_refused_in_dockers_words(fields, message):
    with pytest.raises(InvalidArgument) as caught:
        verify.check(Config(), HostConfig(**fields), FACTS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"working_dir": "x"}, "the working directory 'x' is invalid, it needs to be an absolute path"),
        ({"stop_signal": "odd"}, "invalid signal: odd"),
        ({"env": ["=x"]}, "invalid environment variable: =x"),
        ({"healthcheck": HealthConfig(interval=5)}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"healthcheck": HealthConfig(retries=-1)}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_a_wrong_config_is_refused_in_dockers_words(fields, message):
    with pytest.raises(InvalidArgument) as caught:
        verify.check(Config(**fields), HostConfig(), FACTS)
    assert message in str(caught.value)


def test_storage_options_are_not_offered():
    with pytest.raises(Error, match="--storage-opt is supported only for overlay over xfs"):
        verify.check(Config(), HostConfig(storage_opt={"size": "1g"}), FACTS)


def test_defaults_are_written_out_as_inspect_shows_them():
    config, host_config = verify.with_defaults(
        Config(),
        HostConfig(memory=1 << 26),
        "a" * 64,
        FACTS,
        runtime="sampan",
        shm_size=64 << 20,
        log=LogConfig(type="json-file"),
        init=True,
    )
    assert config.hostname == "a" * 12
    assert (host_config.network_mode, host_config.ipc_mode, host_config.cgroupns_mode) == ("bridge", "private", "host")
    assert (host_config.memory_swap, host_config.shm_size, host_config.init) == (1 << 27, 64 << 20, True)
    assert host_config.masked_paths and host_config.readonly_paths and host_config.console_size == [0, 0]


@pytest.mark.parametrize(
    ("text", "number"), [("KILL", 9), ("sigterm", 15), ("9", 9), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
)
def test_signals_by_name_and_number(text, number):
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "SIGNOPE", "RTMIN+99", "9x"])
def test_unknown_signals_are_refused(text):
    with pytest.raises(InvalidArgument, match=f"invalid signal: {text.replace('+', '.')}"):
        parse_signal(text)


IMAGE = {
    "Env": ["PATH=/bin", "A=image"],
    "Cmd": ["serve"],
    "Entrypoint": ["/entry"],
    "WorkingDir": "/w",
    "User": "web",
    "Labels": {"a": "1"},
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5_000_000},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("/entry", ["serve"])),
        ({"cmd": ["other"]}, ("/entry", ["other"])),
        ({"entrypoint": ["/mine"]}, ("/mine", [])),
        ({"entrypoint": "/mine", "cmd": "one"}, ("/mine", ["one"])),
        ({"entrypoint": [""], "cmd": ["plain"]}, ("plain", [])),
    ],
)
def test_command_and_entrypoint_merge_as_in_docker(fields, expected):
    assert command.resolve(command.merge(Config(**fields), IMAGE)) == expected


def test_no_command_is_refused():
    for fields, image in (({}, {}), ({"entrypoint": [""]}, IMAGE)):
        with pytest.raises(InvalidArgument, match="no command specified"):
            command.resolve(command.merge(Config(**fields), image))


def test_what_the_client_says_wins_over_the_image():
    found = command.merge(
        Config(env=["A=mine"], labels={"a": "2"}, volumes={"/more": {}}, healthcheck=HealthConfig(retries=2)), IMAGE
    )
    assert found.env == ["A=mine", "PATH=/bin"] and found.labels == {"a": "2"} and found.user == "web"
    assert set(found.volumes) == {"/data", "/more"} and found.working_dir == "/w"
    assert found.healthcheck == HealthConfig(test=["CMD", "x"], interval=5_000_000, retries=2)


def test_an_update_changes_what_it_names():
    changed = resources.merge(HostConfig(memory=5), UpdateRequest(memory=7 << 20, pids_limit=0))
    assert changed == {"memory": 7 << 20, "pids_limit": 0}


def test_security_options_with_both_separators():
    found = security_options(["seccomp:unconfined", "apparmor=x", "label=disable", "systempaths=unconfined"])
    assert (found.seccomp, found.apparmor, found.systempaths_unconfined) == ("unconfined", "x", True)
