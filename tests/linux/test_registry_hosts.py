"""Several hosts for one registry, by `hosts.toml`: which is asked for what, and who stands in when one fails."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from tests.contract.registry_bench import FakeRegistry, Puller, basic_user, cut, error
from tests.peers import images as made

from sampan import errors
from sampan.containerd.services import Credentials, Image

pytestmark = pytest.mark.root

NAME = "registry.example"


def image(*sizes: int) -> made.Image:
    layers = [made.layer(made.tar([made.Entry(f"f{i}", content=os.urandom(size))])) for i, size in enumerate(sizes)]
    return made.image(layers, {"Cmd": ["sh"]})


@pytest.fixture
def run(tmp_path):
    """Runs body(first, second, puller); `hosts` is the hosts.toml of NAME with {first} and {second} in it."""

    def go(body, hosts: str, **settings):
        async def inside():
            first, second, puller = FakeRegistry(), FakeRegistry(), Puller(tmp_path)
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(first.serving("127.0.0.1"))
                await stack.enter_async_context(second.serving("127.0.0.2"))
                directory = tmp_path / "certs.d" / NAME
                directory.mkdir(parents=True)
                (directory / "hosts.toml").write_text(hosts.format(first=first.host, second=second.host))
                await stack.enter_async_context(puller.open(**settings))
                await body(first, second, puller)

        asyncio.run(asyncio.wait_for(inside(), 60))

    return go


BOTH = """
server = "http://{second}"
[host."http://{first}"]
  capabilities = ["pull", "resolve"]
"""


def test_the_mirror_alone_is_asked_when_it_has_everything(run):
    async def body(first, second, puller):
        first.add("x", image(1000))
        pulled = await puller.pull(f"{NAME}/x")
        assert pulled.name == f"{NAME}/x:latest"
        assert second.requests == []
        assert all(f"ns={NAME}" in path for _, path, _ in first.requests if path != "/v2/"), "it may mirror several"

    run(body, BOTH)


def test_what_the_mirror_lacks_comes_from_the_server(run):
    one = image(1000, 2000)

    async def body(first, second, puller):
        second.add("x", one)
        await puller.pull(f"{NAME}/x")
        assert first.asked("manifests/latest")
        assert second.asked(one.layers[1].digest)

    run(body, BOTH)


@pytest.mark.parametrize("lacks", ["a layer", "the config", "the manifest by digest"])
def test_the_mirror_gives_what_it_has_and_the_server_the_rest(run, lacks):
    one = image(1000, 2000)

    async def body(first, second, puller):
        digest = first.add("x", one)
        second.add("x", one)
        gone = {"a layer": one.layers[0].digest, "the config": one.blobs[0].digest}.get(lacks, digest)
        first.hook = lambda r: error(404, "BLOB_UNKNOWN", "gone") if r.method == "GET" and gone in r.path else None
        await puller.pull(f"{NAME}/x")
        assert [path for _, path, _ in second.requests if path != "/v2/"] == [second.asked(gone)[0][1]]

    run(body, BOTH)


@pytest.mark.parametrize("fault", ["refused", "503", "429", "401", "403", "cut", "reset"])
def test_whatever_is_wrong_with_a_mirror_the_pull_goes_on_at_once(run, fault):
    """A mirror is not waited for, not even when it asks to be (Retry-After of an hour)."""
    one = image(300_000)
    [blob] = one.layers

    async def reset(request):
        request.transport.abort()
        return web.Response()

    async def body(first, second, puller):
        first.add("x", one)
        second.add("x", one)

        def hook(request):
            if fault == "refused":
                return reset(request)
            if blob.digest not in request.path:
                return None
            if fault == "cut":
                return cut(request, blob.content[:100_000], len(blob.content))
            if fault == "reset":
                return reset(request)
            return error(int(fault), "DENIED", "not now", Retry_After="3600")

        first.hook = hook
        await puller.pull(f"{NAME}/x")
        assert puller.core.content.read(blob.digest) == blob.content
        [(_, _, headers)] = second.asked(blob.digest)
        if fault == "cut":
            assert headers["Range"].startswith("bytes="), "the server goes on where the mirror broke off"

    run(body, BOTH)


def test_a_mirror_with_wrong_bytes_is_not_believed_and_not_asked_again(run):
    one = image(300_000)
    [blob] = one.layers

    async def body(first, second, puller):
        first.add("x", one)
        second.add("x", one)
        first.blobs = {blob.digest: blob.content[:-1] + b"x", one.blobs[0].digest: one.blobs[0].content + b" "}
        await puller.pull(f"{NAME}/x")
        assert puller.core.content.read(blob.digest) == blob.content
        assert len(first.asked(blob.digest)) == len(second.asked(blob.digest)) == 1

    run(body, BOTH)


def test_wrong_bytes_everywhere_are_refused(run):
    one = image(1000)
    [blob] = one.layers

    async def body(first, second, puller):
        for registry in (first, second):
            registry.add("x", one)
            registry.blobs[blob.digest] = blob.content + b"more"
        with pytest.raises(errors.DataLoss, match=f"filesystem layer verification failed for digest {blob.digest}"):
            await puller.pull(f"{NAME}/x")
        assert not puller.core.content.has(blob.digest)

    run(body, BOTH)


def test_the_last_hosts_words_are_told(run):
    async def body(first, second, puller):
        second.hook = lambda r: None if r.path == "/v2/" else error(404, "NAME_UNKNOWN", "no such name here")
        with pytest.raises(errors.NotFound, match=f"repository {NAME}/x not found: name unknown: no such name here"):
            await puller.pull(f"{NAME}/x")

    run(body, BOTH)


def test_a_host_is_only_asked_for_what_it_can(run):
    hosts = """
    server = "http://{second}"
    capabilities = ["resolve", "push"]
    [host."http://{first}"]
      capabilities = ["pull"]
    """
    one = image(1000)

    async def body(first, second, puller):
        first.add("x", one)
        second.add("x", one)
        pulled = await puller.pull(f"{NAME}/x")
        assert [(m, p) for m, p, _ in second.requests] == [
            ("GET", "/v2/"),
            ("HEAD", f"/v2/x/manifests/latest?ns={NAME}"),
        ]
        assert {m for m, _, _ in first.requests} == {"GET"}
        puller.core.images.put(Image(f"{NAME}/y:1", pulled.target))
        first.requests.clear()
        await puller.core.transfer.push(f"{NAME}/y:1", credentials=Credentials(), progress=puller.progress.append)
        assert first.requests == []
        assert "y:1" in second.manifests

    run(body, hosts)


@pytest.mark.parametrize("capability", ["resolve", "pull", "push"])
def test_when_no_host_can_it_is_said(run, capability):
    others = json.dumps([one for one in ("resolve", "pull", "push") if one != capability])
    one = image(10)

    async def body(first, second, puller):
        first.add("x", one)
        with pytest.raises(errors.NotFound, match=f"no {capability} hosts for {NAME}: not found"):
            pulled = await puller.pull(f"{NAME}/x")
            await puller.core.transfer.push(pulled.name, credentials=Credentials(), progress=puller.progress.append)

    run(body, f'server = "http://{{first}}"\ncapabilities = {others}\n')


def test_headers_and_the_path_are_the_hosts_own_and_do_not_follow_a_redirect(run):
    hosts = """
    server = "http://{first}/api"
    override_path = true
    [header]
      x-key = "secret"
      x-two = ["1", "2"]
    """
    one = image(1000)
    [blob] = one.layers

    async def body(first, second, puller):
        first.add("x", one)
        second.blobs[blob.digest] = blob.content
        asked = []

        async def hook(request):
            asked.append((request.headers.get("x-key"), request.headers.getall("x-two")))
            path = request.path.removeprefix("/api")
            if path == "/":
                return web.json_response({})
            if blob.digest in path:
                return web.Response(status=307, headers={"Location": f"http://{second.host}/v2{path}"})
            kind, _, wanted = path.removeprefix("/x/").partition("/")
            if kind == "blobs":
                return web.Response(body=first.blobs[wanted])
            media_type, content = first.manifests[f"x@{wanted}" if ":" in wanted else f"x:{wanted}"]
            return web.Response(body=content, headers={"Content-Type": media_type})

        first.hook = hook
        await puller.pull(f"{NAME}/x")
        assert set(map(str, asked)) == {str(("secret", ["1", "2"]))}
        assert not any("x-key" in headers or "x-two" in headers for _, _, headers in second.requests)

    run(body, hosts)


def test_the_password_is_for_the_registry_and_a_mirror_has_its_own(run, tmp_path):
    one = image(1000)

    async def body(first, second, puller):
        stored = {"auths": {first.host: {"username": "mirror", "password": "own"}}}
        (tmp_path / "config.json").write_text(json.dumps(stored))
        first.add("x", one)
        second.add("y", one)
        seen: dict[str, set[tuple[str, str]]] = {"first": set(), "second": set()}

        def asking(name):
            def hook(request):
                user = basic_user(request)
                if user[0]:
                    seen[name].add(user)
                    return None
                return error(401, "UNAUTHORIZED", "who?", WWW_Authenticate='Basic realm="r"')

            return hook

        first.hook, second.hook = asking("first"), asking("second")
        for name in ("x", "y"):
            await puller.pull(f"{NAME}/{name}", username="alice", password="secret")
        assert seen == {"first": {("mirror", "own")}, "second": {("alice", "secret")}}

    run(body, BOTH, credentials_file=str(tmp_path / "config.json"))


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path):
    """CA, a server's and a client's certificate by it."""
    directory = tmp_path / "pki"
    directory.mkdir()
    base = str(directory)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests", "-keyout",
            f"{base}/ca.key", "-out", f"{base}/ca.pem")  # fmt: skip
    (directory / "ext").write_text("subjectAltName=IP:127.0.0.5\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{base}/{name}.key",
                "-out", f"{base}/{name}.csr")  # fmt: skip
        openssl("x509", "-req", "-days", "2", "-in", f"{base}/{name}.csr", "-CA", f"{base}/ca.pem",
                "-CAkey", f"{base}/ca.key", "-CAcreateserial", "-extfile", f"{base}/ext",
                "-out", f"{base}/{name}.pem")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{base}/server.pem", f"{base}/server.key")
    context.load_verify_locations(f"{base}/ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return base, context


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    "lines, works",
    [
        ('ca = "{pki}/ca.pem"\nclient = [["{pki}/client.pem", "{pki}/client.key"]]', True),
        ('skip_verify = true\nclient = [["{pki}/client.pem", "{pki}/client.key"]]', True),
        ('ca = "{pki}/ca.pem"', False),
        ('client = [["{pki}/client.pem", "{pki}/client.key"]]', False),
    ],
    ids=["both", "unverified", "no client certificate", "no authority"],
)
def test_tls_is_as_the_file_says(tmp_path, certificates, lines, works):
    pki, context = certificates

    async def body():
        registry, puller = FakeRegistry(), Puller(tmp_path)
        async with registry.serving("127.0.0.5", context), puller.open(max_attempts=1):
            registry.add("x", image(10))
            directory = tmp_path / "certs.d" / NAME
            directory.mkdir(parents=True)
            text = f'server = "https://{registry.host}"\n' + lines.format(pki=pki)
            (directory / "hosts.toml").write_text(text)
            if works:
                await puller.pull(f"{NAME}/x")
            else:
                with pytest.raises(errors.Unavailable, match=r"tls|EOF|reset|alert"):
                    await puller.pull(f"{NAME}/x")
                assert registry.requests == []

    asyncio.run(asyncio.wait_for(body(), 30))


@pytest.mark.needs("openssl")
def test_a_redirect_from_tls_to_plain_http_is_refused(tmp_path, certificates):
    pki, context = certificates
    one = image(1000)

    async def body():
        registry, storage, puller = FakeRegistry(), FakeRegistry(), Puller(tmp_path)
        async with registry.serving("127.0.0.5", context), storage.serving(), puller.open(max_attempts=1):
            registry.add("x", one)
            storage.blobs = registry.blobs
            registry.hook = lambda r: (
                web.Response(status=307, headers={"Location": f"http://{storage.host}{r.path}"})
                if "/blobs/" in r.path
                else None
            )
            directory = tmp_path / "certs.d" / NAME
            directory.mkdir(parents=True)
            lines = f'ca = "{pki}/ca.pem"\nclient = [["{pki}/client.pem", "{pki}/client.key"]]'
            text = f'server = "https://{registry.host}"\n{lines}'
            (directory / "hosts.toml").write_text(text)
            with pytest.raises(errors.Unavailable, match="redirected to plain HTTP: http://"):
                await puller.pull(f"{NAME}/x")
            assert storage.requests == []

    asyncio.run(asyncio.wait_for(body(), 30))


def test_a_file_that_changes_counts_at_once(run, tmp_path):
    async def body(first, second, puller):
        first.add("x", image(10))
        second.add("x", image(20))
        before = await puller.pull(f"{NAME}/x")
        (tmp_path / "certs.d" / NAME / "hosts.toml").write_text(f'server = "http://{second.host}"\n')
        after = await puller.pull(f"{NAME}/x")
        assert before.target.digest != after.target.digest

    run(body, 'server = "http://{first}"\n')


def test_a_broken_file_stops_the_pull_instead_of_going_elsewhere(run):
    async def body(first, second, puller):
        with pytest.raises(errors.InvalidArgument, match=r"hosts.toml\": unknown capability fly"):
            await puller.pull(f"{NAME}/x")

    run(body, 'server = "http://{first}"\ncapabilities = ["fly"]\n')
