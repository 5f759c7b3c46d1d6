"""Flags of `run` become the body that Docker's own client sends."""

import pytest

from sampan.cli.create_request import FLAGS, environment, mount, ports, request_of
from sampan.cli.flags import Flag, UsageError, parse


def body(*words: str, attached: bool = True) -> dict:
    return request_of(parse((*FLAGS, Flag("detach d", "bool")), words, interspersed=False), attached=attached)


def test_the_image_and_command_are_the_words_after_the_flags() -> None:
    made = body("-i", "img", "sh", "-c", "true")
    assert (made["Image"], made["Cmd"], made["OpenStdin"], made["StdinOnce"]) == (
        "img",
        ["sh", "-c", "true"],
        True,
        True,
    )


def test_no_command_leaves_the_image_s_own() -> None:
    assert body("img")["Cmd"] is None
    assert body("img")["Entrypoint"] is None


def test_an_empty_entrypoint_resets_the_image_s_own() -> None:
    assert body("--entrypoint", "", "img")["Entrypoint"] == [""]


@pytest.mark.parametrize(
    ("word", "binding"),
    [
        ("80", {"80/tcp": [{"HostIp": "", "HostPort": ""}]}),
        ("8080:80", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        ("127.0.0.1:8080:80/udp", {"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
        ("127.0.0.1::80", {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}),
        ("[::1]:8080:80", {"80/tcp": [{"HostIp": "::1", "HostPort": "8080"}]}),
        ("8000-8001:80", {"80/tcp": [{"HostIp": "", "HostPort": "8000-8001"}]}),
    ],
)
def test_a_published_port_in_every_form(word: str, binding: dict) -> None:
    assert ports([word]) == ({key: {} for key in binding}, binding)


def test_port_ranges_pair_up() -> None:
    _, bindings = ports(["8000-8001:80-81"])
    assert {key: hosts[0]["HostPort"] for key, hosts in bindings.items()} == {"80/tcp": "8000", "81/tcp": "8001"}


@pytest.mark.parametrize("word", ["x", "80:x", "1:2:3:4", "70000:70000", "8000-8002:80-81"])
def test_a_wrong_port_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        ports([word])


def test_mounts_in_docker_s_field_form() -> None:
    assert mount("type=bind,src=/a,dst=/b,readonly") == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
    }
    assert mount("type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770")["TmpfsOptions"] == {
        "SizeBytes": 64 << 20,
        "Mode": 0o1770,
    }
    with pytest.raises(UsageError, match="target is required"):
        mount("type=bind,src=/a")
    with pytest.raises(UsageError, match="unexpected key 'colour'"):
        mount("colour=red,dst=/b")


def test_resources_are_numbers_in_the_api_s_units() -> None:
    host = body("-m", "64m", "--cpus", "1.5", "--pids-limit", "9", "--ulimit", "nofile=5:6", "img")["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 1500000000, 9)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 5, "Hard": 6}]


def test_a_bare_variable_takes_the_caller_s_value_or_takes_the_image_s_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "value")
    monkeypatch.delenv("NOT_HERE", raising=False)
    options = parse(FLAGS, ["-e", "HERE", "-e", "NOT_HERE", "-e", "A=b=c", "img"], interspersed=False)
    assert environment(options) == ["HERE=value", "NOT_HERE", "A=b=c"]


def test_volumes_are_binds_or_anonymous() -> None:
    made = body("-v", "/a:/b:ro", "-v", "name:/c", "-v", "/d", "img")
    assert made["HostConfig"]["Binds"] == ["/a:/b:ro", "name:/c"]
    assert made["Volumes"] == {"/d": {}}


def test_a_seccomp_profile_is_sent_by_its_text(tmp_path) -> None:
    (tmp_path / "p.json").write_text("{}")
    host = body("--security-opt", f"seccomp={tmp_path}/p.json", "--security-opt", "no-new-privileges", "img")
    assert host["HostConfig"]["SecurityOpt"] == ["seccomp={}", "no-new-privileges"]
