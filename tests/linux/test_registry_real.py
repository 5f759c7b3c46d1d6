"""Real registries (`docker-registry serve`) with TLS, client certificates, tokens and a front that breaks transfers.

What a configuration means is shown on Debian's containerd in the same test, by its own ctr and the same directory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import pytest
from tests.contract.registry_bench import Puller
from tests.peers import images as made
from tests.peers.machine import Machine
from tests.peers.registry import PASSWORD, USER, Authority, FaultyFront, Registry, TokenServer, _openssl
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.survey import RegistrySurvey
from sampan.containerd.services import Credentials, Image

pytestmark = [pytest.mark.root, pytest.mark.needs("docker-registry", "skopeo", "openssl")]

NAME = "registry.example"
SECURE = "127.0.0.9"
"""Where the registry with TLS is. An address of loopback is not trusted when `hosts.toml` says what is."""


class Here:
    """The machine as it is, where `tests.peers` expects one of its own: everything is on loopback."""

    def __init__(self) -> None:
        self.spawned: list[subprocess.Popen[bytes]] = []

    def network(self) -> Any:
        return nullcontext()

    def spawn(self, argv: Sequence[str], log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run(self, argv: Sequence[str]) -> str:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def here() -> Machine:
    return cast(Machine, Here())


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("registries"))


@pytest.fixture(scope="module")
def authority(scratch: str) -> Authority:
    return Authority(scratch, SECURE)


@contextmanager
def closing(*servers: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.close()


@pytest.fixture(scope="module")
def image() -> made.Image:
    return made.image([made.layer(made.tar([made.Entry(f"f{i}", content=os.urandom(400_000))])) for i in range(3)])


@pytest.fixture(scope="module")
def plain(here: Machine, scratch: str, image: made.Image) -> Iterator[Registry]:
    """Plain HTTP with the image as x:latest; its storage is the others' as well."""
    made.write_layout(f"{scratch}/layout", [image])
    registry = Registry(here, scratch, f"{scratch}/storage", port=free_port())
    with closing(registry):
        registry.push(f"{scratch}/layout", "x:latest")
        yield registry


@pytest.fixture(scope="module")
def secure(here: Machine, scratch: str, authority: Authority, plain: Registry) -> Iterator[Registry]:
    """TLS for those with a client certificate."""
    registry = Registry(
        here, scratch, f"{scratch}/storage", address=SECURE, port=free_port(), authority=authority,
        wants_certificate=True,
    )  # fmt: skip
    with closing(registry):
        yield registry


@pytest.fixture(scope="module")
def client(scratch: str, authority: Authority) -> tuple[str, str]:
    certificate, key = f"{scratch}/client.pem", f"{scratch}/client.key"
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=us", "-keyout", key, "-out", f"{scratch}/us.csr")
    _openssl("x509", "-req", "-days", "2", "-in", f"{scratch}/us.csr", "-CA", authority.certificate, "-CAkey",
             authority.key, "-CAcreateserial", "-out", certificate)  # fmt: skip
    return certificate, key


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """ctr of a containerd of its own: containerds share /run/containerd whatever their --root."""
    if shutil.which("containerd") is None:
        pytest.skip("containerd is not installed")
    root = tmp_path_factory.mktemp("containerd")
    (root / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    hidden = 'mkdir -p /run/containerd; mount -t tmpfs x /run/containerd && exec "$0" "$@"'
    with open(root / "log", "wb") as log:
        daemon = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", hidden, "containerd", "--config", f"{root}/config.toml",
             "--address", f"{root}/sock", "--root", f"{root}/root", "--state", f"{root}/state"],
            stdout=log, stderr=log)  # fmt: skip
    command = ["ctr", "--address", f"{root}/sock"]
    try:
        eventually(
            lambda: subprocess.run([*command, "version"], capture_output=True).returncode == 0,
            what="containerd answers",
        )
        yield command
    finally:
        daemon.terminate()
        daemon.wait()


def by_ctr(ctr: list[str], hosts: str, reference: str) -> subprocess.CompletedProcess[str]:
    """The reference: fetch alone, since containerd's snapshots are not the subject."""
    subprocess.run([*ctr, "images", "rm", reference], capture_output=True)
    subprocess.run([*ctr, "content", "prune", "references"], capture_output=True)
    return subprocess.run(
        [*ctr, "content", "fetch", "--hosts-dir", hosts, reference], capture_output=True, text=True, check=False
    )


def by_us(tmp_path: Any, hosts: str, reference: str, *more: str, **credentials: str) -> Puller:
    puller = Puller(tmp_path)

    async def inside() -> None:
        async with puller.open(hosts_directories=(hosts,), max_attempts=2):
            pulled = await puller.pull(reference, **credentials)
            for name in more:
                puller.core.images.put(Image(name, pulled.target))
                await puller.core.transfer.push(
                    name, credentials=Credentials(**credentials), progress=puller.progress.append
                )

    asyncio.run(asyncio.wait_for(inside(), 60))
    return puller


def hosts_toml(tmp_path: Any, text: str) -> str:
    directory = tmp_path / "hosts" / NAME
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(text)
    return str(tmp_path / "hosts")


class TestHostsFile:
    """The same file for containerd and for us."""

    def test_tls_with_an_authority_and_a_client_certificate(self, tmp_path, ctr, secure, authority, client):
        text = f'server = "https://{SECURE}:{secure.port}"\nca = "{authority.certificate}"\n'
        # Without a `host` table containerd 1.6 takes the file for broken, and goes to the registry itself.
        hosts = hosts_toml(tmp_path, text + 'client = [["{}", "{}"]]\n[host]\n'.format(*client))
        reference = by_ctr(ctr, hosts, f"{NAME}/x:latest")
        assert reference.returncode == 0, reference.stderr
        by_us(tmp_path, hosts, f"{NAME}/x:latest", f"{NAME}/pushed:1")

    @pytest.mark.parametrize("lacks", ["ca", "client"])
    def test_what_is_missing_ends_the_handshake(self, tmp_path, ctr, secure, authority, client, lacks):
        lines = {"ca": f'ca = "{authority.certificate}"', "client": 'client = [["{}", "{}"]]'.format(*client)}
        del lines[lacks]
        hosts = hosts_toml(
            tmp_path, "\n".join([f'server = "https://{SECURE}:{secure.port}"', *lines.values(), "[host]"])
        )
        reference = by_ctr(ctr, hosts, f"{NAME}/x:latest")
        assert reference.returncode == 1
        complaint = "certificate signed by unknown authority" if lacks == "ca" else "remote error: tls: bad certificate"
        with pytest.raises(errors.Unavailable, match=complaint):
            by_us(tmp_path, hosts, f"{NAME}/x:latest")

    def test_a_mirror_that_breaks_off_is_followed_by_the_server(
        self, tmp_path, ctr, here, plain, secure, authority, client, image
    ):
        front = FaultyFront(here, plain, free_port())
        text = f"""
            server = "https://{SECURE}:{secure.port}"
            ca = "{authority.certificate}"
            client = [["%s", "%s"]]
            [host."http://{front.host}"]
              capabilities = ["pull", "resolve"]
        """
        hosts = hosts_toml(tmp_path, text % client)
        with closing(front):
            reference = by_ctr(ctr, hosts, f"{NAME}/x:latest")
            assert reference.returncode == 0, reference.stderr
            front.requests.clear()
            front.faults = {image.layers[0].digest: "cut", image.layers[1].digest: "corrupt"}
            puller = by_us(tmp_path, hosts, f"{NAME}/x:latest")
            assert front.faults == {image.layers[1].digest: "corrupt"}
            asked = [path.rsplit("/", 1)[1].partition("?")[0] for path, _ in front.requests]
            assert image.layers[2].digest in asked
        assert puller.lines()[-1] == f"Status: Downloaded newer image for {NAME}/x:latest"

    def test_the_server_stands_in_for_a_mirror_that_is_down(self, tmp_path, ctr, plain):
        text = f'server = "http://127.0.0.1:{plain.port}"\n[host."http://127.0.0.1:{free_port()}"]\n'
        hosts = hosts_toml(tmp_path, text)
        reference = by_ctr(ctr, hosts, f"{NAME}/x:latest")
        assert reference.returncode == 0, reference.stderr
        by_us(tmp_path, hosts, f"{NAME}/x:latest")

    def test_a_mirror_with_a_path_of_its_own(self, tmp_path, ctr, plain):
        """`override_path`: the registry's API is not below /v2 there, so this one answers nothing."""
        text = f'server = "http://127.0.0.1:{plain.port}"\n[host."http://127.0.0.1:{plain.port}/v3"]\n'
        hosts = hosts_toml(tmp_path, text + "override_path = true\n")
        reference = by_ctr(ctr, hosts, f"{NAME}/x:latest")
        assert reference.returncode == 0, reference.stderr
        by_us(tmp_path, hosts, f"{NAME}/x:latest")


def test_dockers_layout_of_certificates(tmp_path, secure, authority, client):
    """skopeo reads the same layout, and Docker's daemon."""
    host = f"{SECURE}:{secure.port}"
    directory = tmp_path / "certs.d" / host
    directory.mkdir(parents=True)
    shutil.copy(authority.certificate, directory / "ca.crt")
    shutil.copy(client[0], directory / "client.cert")
    shutil.copy(client[1], directory / "client.key")
    reference = ["skopeo", "inspect", "--cert-dir", str(directory), f"docker://{host}/x:latest"]
    subprocess.run(reference, check=True, capture_output=True)
    by_us(tmp_path, str(tmp_path / "certs.d"), f"{host}/x:latest")


class TestTokens:
    """`auth: token` of a real registry: it checks the signature and the scopes of what our token server gives."""

    @pytest.fixture
    def guarded(self, here, scratch, authority, plain):
        tokens = TokenServer(here, authority, free_port(), grants=("pull", "push"))
        registry = Registry(
            here, scratch, f"{scratch}/storage", address=SECURE, port=free_port(), authority=authority,
            realm=tokens.realm,
        )  # fmt: skip
        with closing(registry, tokens):
            yield tokens, f"{SECURE}:{registry.port}"

    def hosts(self, tmp_path, authority, host):
        return hosts_toml(tmp_path, f'server = "https://{host}"\nca = "{authority.certificate}"\n')

    def test_pull_and_push_with_a_password(self, tmp_path, authority, guarded):
        tokens, host = guarded
        subprocess.run(["skopeo", "inspect", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}",
                        f"docker://{host}/x:latest"], check=True, capture_output=True)  # fmt: skip
        tokens.asked.clear()
        hosts = self.hosts(tmp_path, authority, host)
        by_us(tmp_path, hosts, f"{NAME}/x", f"{NAME}/mine/copy:1", username=USER, password=PASSWORD)
        scopes = [tuple(one["scope"]) for one in tokens.asked]
        assert scopes[0] == ("repository:x:pull",), "one token for the whole pull"
        assert set(scopes[1:]) <= {
            ("repository:mine/copy:pull,push",),
            ("repository:mine/copy:pull,push", "repository:x:pull"),
        }
        assert len(scopes) == len(set(scopes)), "none is asked for twice"
        assert all(one["account"] == [USER] for one in tokens.asked)

    def test_credentials_from_a_helper(self, tmp_path, authority, guarded, monkeypatch):
        (tmp_path / "bin").mkdir()
        helper = tmp_path / "bin" / "docker-credential-test"
        helper.write_text(f'#!/bin/sh\nread -r s\nprintf \'{{"Username":"{USER}","Secret":"{PASSWORD}"}}\'\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        (tmp_path / "config.json").write_text('{"credsStore": "test"}')
        hosts = self.hosts(tmp_path, authority, guarded[1])
        puller = Puller(tmp_path)

        async def inside() -> None:
            settings = {"hosts_directories": (hosts,), "credentials_file": str(tmp_path / "config.json")}
            async with puller.open(**settings):
                await puller.pull(f"{NAME}/x")

        asyncio.run(asyncio.wait_for(inside(), 60))

    def test_refusals_are_in_dockers_words(self, tmp_path, authority, guarded):
        hosts = self.hosts(tmp_path, authority, guarded[1])
        with pytest.raises(
            errors.NotFound, match=r"pull access denied for registry\.example/x, repository does not exist"
        ):
            by_us(tmp_path, hosts, f"{NAME}/x")
        with pytest.raises(errors.Unauthorized, match="unauthorized: incorrect username or password"):
            by_us(tmp_path, hosts, f"{NAME}/x", username=USER, password="wrong")

    def test_login_says_whether_the_password_is_good(self, tmp_path, authority, guarded):
        survey = RegistrySurvey(RegistrySettings(hosts_directories=(self.hosts(tmp_path, authority, guarded[1]),)))
        asyncio.run(survey.login(NAME, Credentials(USER, PASSWORD)))
        with pytest.raises(errors.Unauthorized):
            asyncio.run(survey.login(NAME, Credentials(USER, "wrong")))


def test_what_was_pushed_skopeo_finds_whole(tmp_path, plain, image):
    host = f"127.0.0.1:{plain.port}"
    by_us(tmp_path, str(tmp_path / "none"), f"{host}/x:latest", f"{host}/again:2")
    copied = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{host}/again:2",
              f"oci:{tmp_path}/out:x"]  # fmt: skip
    subprocess.run(copied, check=True, capture_output=True)
    assert (tmp_path / "out/blobs/sha256" / image.manifest.digest[7:]).read_bytes() == image.manifest.content
