"""Images made here: docker commit and docker import."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.registry import Registry


@pytest.fixture(autouse=True)
def images(docker: Docker, engine: Engine) -> Iterator[None]:
    """What the scenario makes is removed after it."""
    before = set(docker.ok("images", "-aq", "--no-trunc").split())
    yield
    for name in docker.ok("ps", "-aq").split():
        docker("rm", "-f", "-v", name)
    for image in set(docker.ok("images", "-aq", "--no-trunc").split()) - before:
        docker("rmi", "-f", image)


def test_commit_makes_an_image_of_a_container(docker: Docker) -> None:
    docker.ok("run", "--name", "changed", "busybox", "sh", "-c", "echo kept > /note; rm /bin/tty; chmod 700 /tmp")
    image_id = docker.ok("commit", "-a", "me <me@example>", "-m", "why", "changed", "committed:1")
    assert image_id == docker.inspect("image", "committed:1")["Id"]
    shown = docker.inspect("image", "committed:1")
    assert (shown["Author"], shown["Comment"]) == ("me <me@example>", "why")
    assert shown["Config"]["Cmd"] == ["sh", "-c", "echo kept > /note; rm /bin/tty; chmod 700 /tmp"]
    assert len(shown["RootFS"]["Layers"]) == len(docker.inspect("image", "busybox")["RootFS"]["Layers"]) + 1
    told = docker.ok("run", "--rm", "committed:1", "sh", "-c", "cat /note; stat -c %a /tmp; ls /bin/tty; hostname")
    assert told.splitlines()[:2] == ["kept", "700"] and len(told.splitlines()) == 3
    newest = json.loads(docker.ok("history", "--no-trunc", "--format", "{{json .}}", "committed:1").splitlines()[0])
    assert newest["Comment"] == "why" and newest["CreatedBy"].startswith("sh -c echo kept")


def test_changes_are_applied_and_the_rest_is_the_containers(docker: Docker) -> None:
    docker.ok("create", "--name", "made", "-e", "MODE=x", "-w", "/tmp", "--label", "kind=a", "busybox", "true")
    docker.ok("commit", "--change", 'CMD ["env"]', "--change", "ENV ADDED=1 MODE=y", "--change", "LABEL more=b", "made",
              "committed")  # fmt: skip
    config = docker.inspect("image", "committed")["Config"]
    assert config["Cmd"] == ["env"] and config["WorkingDir"] == "/tmp"
    assert config["Labels"] == {"kind": "a", "more": "b"}
    told = docker.ok("run", "--rm", "committed").splitlines()
    assert {"MODE=y", "ADDED=1"} <= set(told)


def test_a_running_container_goes_on(docker: Docker) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /count; done"
    docker.ok("run", "-d", "--name", "busy", "busybox", "sh", "-c", script)
    for flags in ((), ("--pause=false",)):
        docker.ok("commit", *flags, "busy", "committed")
        assert docker.state("busy")["Running"] and not docker.state("busy")["Paused"]
        assert docker.ok("run", "--rm", "committed", "ls", "/count") == "/count"


def test_without_a_name_it_is_a_dangling_image(docker: Docker) -> None:
    docker.ok("run", "--name", "changed", "busybox", "touch", "/x")
    image_id = docker.ok("commit", "changed")
    rows = docker.ok("images", "--no-trunc", "--filter", "dangling=true", "--format", "{{.ID}} {{.Repository}}")
    assert f"{image_id} <none>" in rows.splitlines()
    assert docker.ok("run", "--rm", image_id, "ls", "/x") == "/x"


def test_a_name_that_was_taken_leaves_its_image_dangling(docker: Docker) -> None:
    docker.ok("run", "--name", "changed", "busybox", "touch", "/x")
    first = docker.ok("commit", "-m", "first", "changed", "committed")
    second = docker.ok("commit", "-m", "second", "changed", "committed")
    assert docker.inspect("image", "committed")["Id"] == second
    assert first in docker.ok("images", "-q", "--no-trunc", "--filter", "dangling=true").split()


def test_what_was_committed_can_be_committed_upon_saved_and_pushed(docker: Docker, registry: Registry) -> None:
    for number in (1, 2, 3):
        base = "busybox" if number == 1 else f"committed:{number - 1}"
        docker.ok("run", "--name", f"step{number}", base, "touch", f"/file{number}")
        docker.ok("commit", f"step{number}", f"committed:{number}")
    files = "/file1 /file2 /file3"
    assert docker.ok("run", "--rm", "committed:3", "sh", "-c", "echo /file?") == files
    name = f"{registry.host}/committed:3"
    docker.ok("tag", "committed:3", name)
    docker.ok("push", "-q", name)
    docker.ok("rm", "step1", "step2", "step3")
    docker.ok("rmi", "committed:3", name, "committed:2", "committed:1")
    docker.ok("pull", "-q", name)
    assert docker.ok("run", "--rm", name, "sh", "-c", "echo /file?") == files


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nosuch",), "No such container: nosuch"),
        (("--change", "RUN x", "changed"), "run is not a valid change command"),
        (("changed", "Bad_Name"), "invalid reference format: repository name"),
    ],
)
def test_what_cannot_be_committed_is_refused_in_dockers_words(
    docker: Docker, arguments: tuple[str, ...], text: str
) -> None:
    docker.ok("create", "--name", "changed", "busybox", "true")
    done = docker("commit", *arguments)
    assert done.status != 0 and text in done.err
    assert docker.state("changed")["Status"] == "created"


@pytest.mark.sampan_only("the reference has no sampan/host")
def test_the_machine_itself_is_not_committed(docker: Docker) -> None:
    docker.ok("create", "--name", "changed", "sampan/host", "true")
    assert "a container of sampan/host cannot be committed" in docker("commit", "changed").err


def root_tar() -> bytes:
    buffer = io.BytesIO()
    with open("/bin/busybox", "rb") as file, tarfile.open(fileobj=buffer, mode="w") as archive:
        data = file.read()
        member = tarfile.TarInfo("bin/sh")
        member.size, member.mode = len(data), 0o755
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_import_makes_an_image_of_a_tar(docker: Docker, compress: type[bytes]) -> None:
    archive = compress(root_tar())
    image_id = docker.ok("import", "--change", 'CMD ["/bin/sh", "-c", "echo imported"]', "-m", "from a tar", "-",
                         "imported:1", stdin=archive)  # fmt: skip
    shown = docker.inspect("image", "imported:1")
    assert (shown["Id"], shown["Comment"]) == (image_id, "from a tar")
    assert len(shown["RootFS"]["Layers"]) == 1
    assert docker.ok("run", "--rm", "imported:1") == "imported"


def test_what_is_no_tar_is_not_imported(docker: Docker) -> None:
    before = set(docker.ok("images", "-aq").split())
    done = docker("import", "-", "imported", stdin=b"no archive at all" * 1000)
    assert done.status != 0
    assert set(docker.ok("images", "-aq").split()) == before
