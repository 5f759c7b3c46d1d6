"""Pull and push against registries on loopback: real transfers, every fault a registry can have, TLS and tokens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from aiohttp import web
from tests.contract.registry_bench import FakeRegistry, Puller, basic_user, cut, error, sha, short
from tests.peers import images as made
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.services import Platform
from sampan.containerd.snapshots.disk import directory_usage

pytestmark = pytest.mark.root


def image(*sizes: int, architecture: str = made.ARCHITECTURE, compression: str = "gzip") -> made.Image:
    """One layer per size, with one file of random bytes."""
    layers = [made.layer(made.tar([made.Entry(f"f{i}", content=os.urandom(size))]), compression)
              for i, size in enumerate(sizes)]  # fmt: skip
    return made.image(layers, {"Cmd": ["sh"]}, architecture)


@pytest.fixture
def run(tmp_path):
    """Runs an async body(registry, puller) with both open."""

    def go(body, *, snapshotter: str = "", **settings):
        async def inside():
            registry, puller = FakeRegistry(), Puller(tmp_path)
            async with registry.serving(), puller.open(snapshotter, **settings):
                await body(registry, puller)

        asyncio.run(asyncio.wait_for(inside(), 60))

    return go


def refusing(status: int, code: str, message: str):
    """A hook that answers everything but the ping so."""
    return lambda request: None if request.path == "/v2/" else error(status, code, message)


def du(path: Path) -> int:
    """Disk bytes below `path`, the database left out: it never shrinks."""
    database = sum(p.stat().st_blocks * 512 for p in path.glob("core.db*"))
    return directory_usage(str(path)).size - database


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native", "erofs"])
def test_an_image_is_pulled_verified_unpacked_and_named(run, snapshotter):
    one = image(1000, 300_000, 10, compression="zstd")

    async def body(registry, puller):
        digest = registry.add("x/app", one)
        pulled = await puller.pull(f"{registry.host}/x/app")
        assert (pulled.name, pulled.target.digest) == (f"{registry.host}/x/app:latest", digest)
        assert puller.core.images.get(pulled.name) == pulled
        for blob in (one.manifest, *one.blobs):
            assert puller.core.content.read(blob.digest) == blob.content
        assert (puller.top() / "f2").stat().st_size == 10
        [mount] = puller.core.snapshots.prepare("c", puller.tip())
        assert mount.type == ("bind" if snapshotter == "native" else "overlay")
        assert [list(puller.core.content.ingests()), puller.core.images.collect()] == [[], 0]

    run(body, snapshotter=snapshotter)


def test_progress_is_told_in_dockers_words_and_order(run):
    one = image(50_000, 10)

    async def body(registry, puller):
        digest = registry.add("x", one)
        await puller.pull(f"{registry.host}/x")
        assert puller.progress[0].id == "latest"
        assert puller.progress[0].status == "Pulling from x"
        for blob in one.layers:
            assert puller.statuses(short(blob.digest)) == [
                "Pulling fs layer",
                "Downloading",
                "Verifying Checksum",
                "Download complete",
                "Extracting",
                "Pull complete",
            ]
        assert puller.lines() == [f"Digest: {digest}", f"Status: Downloaded newer image for {registry.host}/x:latest"]
        await puller.pull(f"{registry.host}/x")
        assert [puller.statuses(short(blob.digest)) for blob in one.layers] == [["Already exists"]] * 2
        assert puller.lines() == [f"Digest: {digest}", f"Status: Image is up to date for {registry.host}/x:latest"]

    run(body)


def test_more_layers_than_slots_wait(run):
    one = image(*[100] * 5)

    async def body(registry, puller):
        registry.add("x", one)
        await puller.pull(f"{registry.host}/x")
        assert any(p.status == "Waiting" for p in puller.progress)
        assert [p.status for p in puller.progress].count("Pull complete") == 5

    run(body, max_concurrent_downloads=1)


def test_a_present_image_costs_one_look(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        await puller.pull(f"{registry.host}/x")
        registry.requests.clear()
        await puller.pull(f"{registry.host}/x")
        assert [(method, path) for method, path, _ in registry.requests] == [("HEAD", "/v2/x/manifests/latest")]

    run(body)


def test_only_the_chosen_platform_is_fetched(run):
    own, other = image(100), image(100, architecture=made.OTHER_ARCHITECTURE)

    async def body(registry, puller):
        digest = registry.add("x", other, own)
        pulled = await puller.pull(f"{registry.host}/x")
        assert pulled.target.digest == digest
        assert puller.core.content.has(own.layers[0].digest)
        assert not puller.core.content.has(other.layers[0].digest)
        await puller.pull(f"{registry.host}/x", Platform("linux", made.OTHER_ARCHITECTURE))
        assert puller.core.content.has(other.layers[0].digest)
        message = "no matching manifest for linux/s390x in the manifest list entries"
        with pytest.raises(errors.NotFound, match=message):
            await puller.pull(f"{registry.host}/x", Platform("linux", "s390x"))

    run(body)


def test_a_pull_by_digest_names_it_by_digest(run):
    async def body(registry, puller):
        digest = registry.add("x", image(10))
        pulled = await puller.pull(f"{registry.host}/x@{digest}")
        assert pulled.name == f"{registry.host}/x@{digest}"
        assert puller.progress[0].id == digest

    run(body)


def test_failures_are_told_in_dockers_words(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        with pytest.raises(errors.NotFound) as failed:
            await puller.pull(f"{registry.host}/x:nope")
        assert str(failed.value) == f"manifest for {registry.host}/x:nope not found: manifest unknown: manifest unknown"
        missing = "sha256:" + "0" * 64
        with pytest.raises(errors.NotFound, match=f"manifest for {registry.host}/x@{missing} not found"):
            await puller.pull(f"{registry.host}/x@{missing}")
        registry.hook = refusing(404, "NAME_UNKNOWN", "repository name not known to registry")
        with pytest.raises(errors.NotFound) as failed:
            await puller.pull(f"{registry.host}/y")
        assert str(failed.value) == (
            f"repository {registry.host}/y not found: name unknown: repository name not known to registry"
        )
        registry.hook = refusing(403, "DENIED", "requested access to the resource is denied")
        with pytest.raises(errors.NotFound) as failed:
            await puller.pull(f"{registry.host}/y")
        assert str(failed.value) == (
            f"pull access denied for {registry.host}/y, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied"
        )
        assert [i.name for i in puller.core.images.list()] == ["docker.io/sampan/host:latest"]

    run(body)


def test_an_unreachable_registry_is_told_as_go_tells_it(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def body(registry, puller):
        with pytest.raises(errors.Unavailable) as failed:
            await puller.pull(f"127.0.0.1:{port}/x")
        assert str(failed.value) == (
            f'Get "http://127.0.0.1:{port}/v2/": dial tcp 127.0.0.1:{port}: connect: connection refused'
        )
        with pytest.raises(errors.Unavailable) as failed:
            await puller.pull("no.invalid/x")
        assert str(failed.value) == 'Get "https://no.invalid/v2/": dial tcp: lookup no.invalid: no such host'

    run(body)


def test_plain_http_is_not_spoken_to_a_name_that_is_not_listed(run):
    """A name that only resolves to loopback is not loopback."""

    async def body(registry, puller):
        registry.add("x", image(10))
        port = registry.host.partition(":")[2]
        registry.requests.clear()
        with pytest.raises(errors.Unavailable, match=r"HTTP response to HTTPS client|refused|no such host"):
            await puller.pull(f"{socket.gethostname().lower()}.localdomain:{port}/x")
        assert registry.requests == []

    run(body)


@pytest.mark.parametrize("resumes", [True, False], ids=["ranges", "no ranges"])
def test_a_broken_download_goes_on_at_the_byte_where_it_broke(run, resumes):
    one = image(400_000)
    [blob] = one.layers
    broken: list[int] = []

    async def body(registry, puller):
        registry.add("x", one)

        def hook(request):
            if request.path.endswith(blob.digest):
                start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                if len(broken) < 3:
                    broken.append(start)
                    if start and resumes:
                        return part(request, start)
                    return cut(request, blob.content[: 100_000 * len(broken)], len(blob.content))
                if not resumes:
                    return web.Response(body=blob.content)
            return None

        async def part(request, start):
            response = web.StreamResponse(status=206, headers={
                "Content-Range": f"bytes {start}-{len(blob.content) - 1}/{len(blob.content)}",
                "Content-Length": str(len(blob.content) - start)})  # fmt: skip
            await response.prepare(request)
            await response.write(blob.content[start : start + 100_000])
            request.transport.abort()
            return response

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert puller.core.content.read(blob.digest) == blob.content
        assert broken[0] == 0
        assert broken[1] > 0
        assert any(p.status.startswith("Retrying in") for p in puller.progress)

    run(body)


def test_a_cancelled_pull_keeps_its_bytes_and_names_nothing(run):
    one = image(900_000)
    [blob] = one.layers

    async def body(registry, puller):
        registry.add("x", one)
        stalled = asyncio.Event()

        async def stall(request):
            response = web.StreamResponse(headers={"Content-Length": str(len(blob.content))})
            await response.prepare(request)
            await response.write(blob.content[:500_000])
            stalled.set()
            await asyncio.sleep(30)
            return response

        registry.hook = lambda r: stall(r) if r.path.endswith(blob.digest) else None
        pulling = asyncio.create_task(puller.pull(f"{registry.host}/x"))
        await stalled.wait()
        while not any(p.status == "Downloading" and p.current for p in puller.progress):
            await asyncio.sleep(0.01)
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        [(_, offset, _)] = puller.core.content.ingests()
        assert 0 < offset <= 500_000
        with pytest.raises(errors.NotFound):
            puller.core.images.get(f"{registry.host}/x:latest")
        assert [info.kind for info in puller.core.snapshots.walk()] == ["committed"], "no half-unpacked layer stays"
        registry.hook = None
        registry.requests.clear()
        await puller.pull(f"{registry.host}/x")
        assert [headers["Range"] for _, _, headers in registry.asked(blob.digest)] == [f"bytes={offset}-"]
        assert list(puller.core.content.ingests()) == []

    run(body)


def test_wrong_bytes_kept_from_before_are_fetched_anew(run):
    one = image(200_000)
    [blob] = one.layers

    async def body(registry, puller):
        registry.add("x", one)
        ingest = puller.core.content.writer(f"layer-{blob.digest}")
        ingest.write(b"not these" * 1000)
        ingest.close()
        await puller.pull(f"{registry.host}/x")
        assert puller.core.content.read(blob.digest) == blob.content

    run(body)


@pytest.mark.parametrize("answer", ["bytes", "length"])
def test_a_layer_with_a_wrong_digest_is_refused_and_leaves_nothing(run, answer):
    one = image(100_000)
    [blob] = one.layers

    async def body(registry, puller):
        registry.add("x", one)
        flipped = blob.content[:-1] + bytes([blob.content[-1] ^ 1])
        registry.blobs[blob.digest] = flipped if answer == "bytes" else blob.content + b"more"
        with pytest.raises(errors.DataLoss) as failed:
            await puller.pull(f"{registry.host}/x")
        assert str(failed.value) == f"filesystem layer verification failed for digest {blob.digest}"
        assert not puller.core.content.has(blob.digest)
        assert [info.kind for info in puller.core.snapshots.walk()] == ["committed"]

    run(body)


def test_wrong_manifests_and_configs_are_refused(run):
    one = image(10)

    async def body(registry, puller):
        digest = registry.add("x", one)
        config = one.blobs[0]
        registry.blobs[config.digest] = config.content.replace(b"linux", b"Linux")
        with pytest.raises(errors.DataLoss, match=f"image config verification failed for digest {config.digest}"):
            await puller.pull(f"{registry.host}/x")
        kind, content = registry.manifests[f"x@{digest}"]
        registry.manifests[f"x@{digest}"] = (kind, content + b" ")
        with pytest.raises(errors.DataLoss, match=f"manifest verification failed for digest {digest}"):
            await puller.pull(f"{registry.host}/x@sha256:{digest[7:]}")

    run(body)


def test_a_layer_that_is_not_what_the_config_says_is_refused(run):
    one, other = image(10), image(20)
    lying = made.image(one.layers)._replace(layers=one.layers)
    config = made.image(other.layers).blobs[0]

    async def body(registry, puller):
        import json

        document = json.loads(lying.manifest.content)
        document["config"] = config.descriptor()
        manifest = made.Blob(lying.manifest.media_type, json.dumps(document).encode())
        registry.add("x", made.Image(manifest, (config, *one.layers), {}, one.layers))
        with pytest.raises(errors.DataLoss, match="layers from manifest don't match image configuration"):
            await puller.pull(f"{registry.host}/x")
        assert [info.kind for info in puller.core.snapshots.walk()] == ["committed"]

    run(body)


def test_a_layer_that_is_no_tar_is_refused(run):
    bad = made.Blob("application/vnd.oci.image.layer.v1.tar", b"no tar at all " * 100, sha(b"no tar at all " * 100))

    async def body(registry, puller):
        registry.add("x", made.image([bad]))
        with pytest.raises(errors.Error, match="failed to register layer: archive/tar: invalid tar header"):
            await puller.pull(f"{registry.host}/x")

    run(body)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_registry_is_asked_again(run, status):
    one = image(10)
    refused: list[str] = []

    async def body(registry, puller):
        registry.add("x", one)

        def hook(request):
            if request.path != "/v2/" and refused.count(request.path) < 2:
                refused.append(request.path)
                return error(status, "TOOMANYREQUESTS", "slow down", Retry_After="0")
            return None

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert len(refused) >= 6

    run(body)


def test_retry_after_is_waited_for_and_patience_ends(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        asked: list[float] = []

        def hook(request):
            if request.path == "/v2/":
                return None
            asked.append(asyncio.get_running_loop().time())
            return error(429, "TOOMANYREQUESTS", "slow down", Retry_After="1" if len(asked) == 1 else "0")

        registry.hook = hook
        with pytest.raises(errors.Unavailable, match="toomanyrequests: slow down"):
            await puller.pull(f"{registry.host}/x")
        assert asked[1] - asked[0] >= 0.9
        assert len(asked) == 6, "three attempts by HEAD, three by GET"

    run(body, max_attempts=3)


def test_a_redirect_does_not_carry_the_password_to_another_host(run):
    one = image(10)

    async def body(registry, puller):
        elsewhere = FakeRegistry()
        registry.add("x", one)
        elsewhere.blobs = registry.blobs

        def hook(request):
            if basic_user(request) != ("alice", "secret"):
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="r"')
            if "/blobs/" in request.path:
                signed = f"http://{elsewhere.host}{request.path}?X-Signature=a%2Fb%2Bc%3D&x=%41"
                return web.Response(status=307, headers={"Location": signed})
            return None

        registry.hook = hook
        async with elsewhere.serving("127.0.0.2"):
            await puller.pull(f"{registry.host}/x", username="alice", password="secret")
            assert len(elsewhere.requests) == 2
            assert all(raw.endswith("?X-Signature=a%2Fb%2Bc%3D&x=%41") for raw in elsewhere.raw), "signed as it is"
            assert not any("Authorization" in headers for _, _, headers in elsewhere.requests)

    run(body)


def test_basic_authentication(run):
    async def body(registry, puller):
        registry.add("x", image(10))

        def hook(request):
            if basic_user(request) != ("alice", "open sesame"):
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="r"')
            return None

        registry.hook = hook
        with pytest.raises(errors.Unauthorized) as failed:
            await puller.pull(f"{registry.host}/x")
        assert str(failed.value) == f'Head "http://{registry.host}/v2/x/manifests/latest": no basic auth credentials'
        with pytest.raises(errors.Unauthorized) as failed:
            await puller.pull(f"{registry.host}/x", username="alice", password="wrong")
        assert str(failed.value) == "unauthorized: authentication required"
        await puller.pull(f"{registry.host}/x", username="alice", password="open sesame")

    run(body)


@pytest.mark.parametrize("how", ["anonymous", "password", "identity token"])
def test_token_authentication(run, how):
    async def body(registry, puller):
        registry.add("x", image(10, 20))
        issued: list[str] = []

        async def hook(request):
            if request.path == "/token":
                if request.method == "POST":
                    form = await request.post()
                    assert (form["grant_type"], form["refresh_token"], form["service"]) == (
                        "refresh_token",
                        "idt",
                        "reg",
                    )
                    scope = form["scope"]
                else:
                    assert request.query["service"] == "reg"
                    scope = request.query.get("scope", "")
                    if how == "password" and basic_user(request) != ("alice", "secret"):
                        return error(401, "UNAUTHORIZED", "incorrect username or password")
                issued.append(str(scope))
                answer = web.StreamResponse(headers={"Content-Type": "application/json"})
                await answer.prepare(request)
                text = json.dumps({"token": f"tok-{scope}", "expires_in": 300}).encode()
                for piece in (text[:9], text[9:]):  # as TLS records and segments may cut it
                    await answer.write(piece)
                    for _ in range(50):  # turns of the loop, in which the client takes what is there
                        await asyncio.sleep(0)
                await answer.write_eof()
                return answer
            if request.headers.get("Authorization") != "Bearer tok-repository:x:pull":
                challenge = f'Bearer realm="http://{registry.host}/token",service="reg",scope="repository:x:pull"'
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
            return None

        registry.hook = hook
        right = {"anonymous": {}, "password": {"username": "alice", "password": "secret"},
                 "identity token": {"identity_token": "idt"}}[how]  # fmt: skip
        await puller.pull(f"{registry.host}/x", **right)
        assert issued == ["repository:x:pull"], "one token serves the whole pull"
        if how == "password":
            with pytest.raises(errors.Unauthorized, match="unauthorized: incorrect username or password"):
                await puller.pull(f"{registry.host}/x", username="alice", password="wrong")

    run(body)


def test_a_token_without_the_right_scope_is_told_as_docker_tells_it(run):
    async def body(registry, puller):
        def hook(request):
            if request.path == "/token":
                return web.json_response({"token": "t"})
            challenge = f'Bearer realm="http://{registry.host}/token",service="r",scope="repository:x:pull",error="insufficient_scope"'
            return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)

        registry.hook = hook
        with pytest.raises(errors.NotFound) as failed:
            await puller.pull(f"{registry.host}/x")
        assert str(failed.value) == (
            f"pull access denied for {registry.host}/x, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied"
        )

    run(body)


def test_two_pulls_of_one_blob_fetch_it_once(run):
    shared = made.layer(made.tar([made.Entry("shared", content=os.urandom(100_000))]))
    mine = [made.layer(made.tar([made.Entry(name, content=b"x")])) for name in "ab"]

    async def body(registry, puller):
        registry.add("a", made.image([shared, mine[0]]))
        registry.add("b", made.image([shared, mine[1]]))
        await asyncio.gather(puller.pull(f"{registry.host}/a"), puller.pull(f"{registry.host}/b"))
        assert len(registry.asked(shared.digest)) == 1
        committed = [info for info in puller.core.snapshots.walk() if info.kind == "committed"]
        assert len(committed) == 4  # the host's, the shared one, one each
        assert puller.core.images.collect() == 0

    run(body)


def test_cancelling_one_of_two_pulls_leaves_the_other_alone(run):
    one = image(300_000)
    [blob] = one.layers

    async def body(registry, puller):
        registry.add("x", one)
        registry.add("y", one)
        going, on = asyncio.Event(), asyncio.Event()

        async def slow(request):
            going.set()
            await on.wait()
            return web.Response(body=blob.content)

        registry.hook = lambda r: slow(r) if r.path.endswith(blob.digest) else None
        first = asyncio.create_task(puller.pull(f"{registry.host}/x"))
        await going.wait()
        puller.progress = []
        second = asyncio.create_task(puller.pull(f"{registry.host}/y"))
        while not puller.statuses(short(blob.digest)):
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        on.set()
        pulled = await second
        assert pulled.name == f"{registry.host}/y:latest"
        assert len(registry.asked(blob.digest)) == 1

    run(body)


def test_the_same_layer_twice_in_one_image(run):
    twice = made.layer(made.tar([made.Entry("f", content=b"x" * 1000)]))

    async def body(registry, puller):
        registry.add("x", made.image([twice, twice]))
        await puller.pull(f"{registry.host}/x")
        assert len(registry.asked(twice.digest)) == 1
        assert len(list(puller.core.snapshots.walk())) == 3

    run(body)


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native", "erofs"])
def test_collection_gives_the_disk_back_and_spares_what_is_used(run, snapshotter):
    one, other = image(300_000, 200_000), image(400_000)

    async def body(registry, puller):
        registry.add("one", one)
        registry.add("other", other)
        root = Path(puller.path) / "root"
        before = du(root)
        await puller.pull(f"{registry.host}/one")
        # Layers are numbered as their downloads end, so the upper one is known only by its parent.
        used = next(found.name for found in puller.core.snapshots.walk() if found.parent)
        puller.core.snapshots.prepare("container", used)
        await puller.pull(f"{registry.host}/other")
        for name in ("one", "other"):
            puller.core.images.delete(f"{registry.host}/{name}:latest")
        assert puller.core.images.collect() > 700_000
        assert puller.core.snapshots.stat(used).kind == "committed", "a container stands on it"
        assert not puller.core.content.has(one.layers[0].digest)
        puller.core.snapshots.remove("container")
        assert puller.core.images.collect() > 400_000
        eventually(lambda: du(root) == before, what="du of the root is what it was")

    run(body, snapshotter=snapshotter)


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native", "erofs"])
def test_an_interrupted_ingest_and_an_expired_lease_give_the_disk_back(run, snapshotter):
    one = image(300_000, 200_000)
    [kept, broken] = one.layers

    async def body(registry, puller):
        content, stores = puller.core.content, puller.core.stores
        root = Path(puller.path) / "root"
        before = du(root)
        registry.add("x", one)
        on = asyncio.Event()

        async def stall(request):
            response = web.StreamResponse(headers={"Content-Length": str(len(broken.content))})
            await response.prepare(request)
            await response.write(broken.content[:100_000])
            await on.wait()
            return response

        registry.hook = lambda r: stall(r) if r.path.endswith(broken.digest) else None
        pulling = asyncio.create_task(puller.pull(f"{registry.host}/x"))
        while not (content.has(kept.digest) and any(offset for _, offset, _ in content.ingests())):
            await asyncio.sleep(0.01)
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling
        on.set()
        [(ref, offset, _)] = content.ingests()
        stores.leases.create("a client's", {})
        stores.leases.add("a client's", "content", kept.digest)
        stores.leases.add("a client's", "ingests", ref)
        for info in list(puller.core.snapshots.walk()):
            stores.leases.add("a client's", f"snapshots/{snapshotter}", info.name)
        [ingest] = (root / "content/ingest").iterdir()
        long_ago = time.time() - 10 * 86400
        os.utime(ingest, (long_ago, long_ago))
        puller.core.images.collect()
        assert du(root) - before > len(kept.content) + offset, "the lease holds all of it"
        stores.leases.delete("a client's")
        stores.leases.create("a client's", {"containerd.io/gc.expire": "2001-01-01T00:00:00Z"})
        stores.leases.add("a client's", "content", kept.digest)
        stores.leases.add("a client's", "ingests", ref)
        puller.core.images.collect()
        assert [list(stores.leases.list()), list(content.ingests())] == [[], []]
        eventually(lambda: du(root) == before, what="du of the root is what it was")

    run(body, snapshotter=snapshotter)


def test_collection_during_a_pull_takes_nothing_from_it(run):
    one = image(100_000, 100_000)

    async def body(registry, puller):
        registry.add("x", one)
        going, on = asyncio.Event(), asyncio.Event()

        async def slow(request):
            going.set()
            await on.wait()
            return web.Response(body=one.layers[1].content)

        registry.hook = lambda r: slow(r) if r.path.endswith(one.layers[1].digest) else None
        pulling = asyncio.create_task(puller.pull(f"{registry.host}/x"))
        await going.wait()
        while not puller.core.content.has(one.layers[0].digest):
            await asyncio.sleep(0.01)
        assert puller.core.images.collect() == 0
        on.set()
        await pulling
        assert puller.core.content.has(one.layers[0].digest)

    run(body)


def test_a_mirror_is_asked_before_docker_hub_and_without_its_password(tmp_path):
    async def body():
        registry, puller = FakeRegistry(), Puller(tmp_path)
        async with registry.serving(), puller.open(mirrors=(f"http://{registry.host}",)):
            registry.add("library/app", image(10))
            pulled = await puller.pull("app", username="alice", password="secret")
            assert pulled.name == "docker.io/library/app:latest"
            assert puller.lines()[-1] == "Status: Downloaded newer image for app:latest"
            assert not any("Authorization" in headers for _, _, headers in registry.requests)

    asyncio.run(asyncio.wait_for(body(), 30))


def test_what_one_mirror_lacks_the_next_has(tmp_path):
    async def body():
        first, second, puller = FakeRegistry(), FakeRegistry(), Puller(tmp_path)
        async with first.serving(), second.serving("127.0.0.2"):
            async with puller.open(mirrors=(f"http://{first.host}", f"http://{second.host}")):
                second.add("library/app", image(10))
                await puller.pull("app")
                assert first.asked("library/app/manifests")
                assert puller.lines()[-1] == "Status: Downloaded newer image for app:latest"

    asyncio.run(asyncio.wait_for(body(), 30))


@pytest.mark.parametrize("kind", ["foreign", "artifact", "schema 1"])
def test_what_is_no_image_is_refused_clearly(run, kind):
    import json

    one = image(10)

    async def body(registry, puller):
        document = json.loads(one.manifest.content)
        media_type = one.manifest.media_type
        if kind == "foreign":
            document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            message = "foreign layers are not supported"
        elif kind == "artifact":
            document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
            message = r'Encountered remote "application/vnd.cncf.helm.config.v1\+json"\(unknown\) when fetching'
        else:
            document, media_type = (
                {"schemaVersion": 1, "fsLayers": []},
                "application/vnd.docker.distribution.manifest.v1+json",
            )
            message = "schema 1 support has been removed"
        manifest = made.Blob(media_type, json.dumps(document).encode())
        registry.add("x", one._replace(manifest=manifest))
        with pytest.raises(errors.InvalidArgument, match=message):
            await puller.pull(f"{registry.host}/x")

    run(body)


class TestPush:
    def test_a_pushed_image_can_be_pulled_elsewhere(self, run, tmp_path):
        one = image(100, 20 << 20, compression="none")

        async def body(registry, puller):
            digest = registry.add("x", one)
            pulled = await puller.pull(f"{registry.host}/x")
            target = FakeRegistry()
            async with target.serving("127.0.0.3"):
                puller.core.images.put(_renamed(pulled, f"{target.host}/y:v1"))
                await puller.core.transfer.push(
                    f"{target.host}/y:v1", credentials=_anonymous(), progress=puller.progress.append
                )
                assert target.blobs.keys() == registry.blobs.keys()
                assert target.manifests["y:v1"] == registry.manifests[f"x@{digest}"]
                assert [m for m, _, _ in target.requests].count("PATCH") == 2, "20 MiB in chunks of 8"
                assert puller.lines()[-1].startswith(f"v1: digest: {digest} size: ")
                target.requests.clear()
                await puller.core.transfer.push(
                    f"{target.host}/y:v1", credentials=_anonymous(), progress=puller.progress.append
                )
                assert {m for m, _, _ in target.requests} == {"HEAD", "PUT"}

        run(body)

    def test_of_an_index_that_is_not_whole_the_own_platform_is_pushed(self, run):
        own, other = image(10), image(10, architecture=made.OTHER_ARCHITECTURE)

        async def body(registry, puller):
            registry.add("x", other, own)
            pulled = await puller.pull(f"{registry.host}/x")
            puller.core.images.put(_renamed(pulled, f"{registry.host}/y:1"))
            pushed = await puller.core.transfer.push(
                f"{registry.host}/y:1", credentials=_anonymous(), progress=puller.progress.append
            )
            assert pushed.digest == own.manifest.digest
            assert registry.manifests["y:1"][1] == own.manifest.content

        run(body)

    def test_a_blob_of_the_same_registry_is_mounted(self, run):
        one = image(100)

        async def body(registry, puller):
            registry.add("x", one)
            pulled = await puller.pull(f"{registry.host}/x")
            registry.hook = lambda r: web.Response(status=404) if r.method == "HEAD" and "/y/" in r.path else None
            puller.core.images.put(_renamed(pulled, f"{registry.host}/y:latest"))
            await puller.core.transfer.push(
                f"{registry.host}/y", credentials=_anonymous(), progress=puller.progress.append
            )
            assert "Mounted from x" in puller.statuses(short(one.layers[0].digest))

        run(body)

    def test_the_hosts_own_root_cannot_be_pushed(self, run):
        async def body(registry, puller):
            host = puller.core.images.get("docker.io/sampan/host:latest")
            puller.core.images.put(_renamed(host, f"{registry.host}/host:latest"))
            with pytest.raises(errors.InvalidArgument, match="cannot be pushed"):
                await puller.core.transfer.push(
                    f"{registry.host}/host", credentials=_anonymous(), progress=puller.progress.append
                )
            assert registry.blobs == {}

        run(body)


def _renamed(image, name):
    from sampan.containerd.services import Image

    return Image(name, image.target)


def _anonymous():
    from sampan.containerd.services import Credentials

    return Credentials()


@pytest.mark.needs("openssl")
class TestTls:
    @pytest.fixture
    def authority(self, tmp_path):
        from tests.peers.registry import _openssl

        directory = tmp_path / "ca"
        directory.mkdir()
        ca, key, cert = (str(directory / name) for name in ("ca.pem", "ca.key", "server.pem"))
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=tests",
            "-keyout",
            key,
            "-out",
            ca,
        )
        (directory / "ext").write_text("subjectAltName=DNS:registry.test,IP:127.0.0.4\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=registry.test", "-keyout", cert + ".key",
                 "-out", cert + ".csr")  # fmt: skip
        _openssl("x509", "-req", "-days", "2", "-in", cert + ".csr", "-CA", ca, "-CAkey", key, "-CAcreateserial",
                 "-extfile", str(directory / "ext"), "-out", cert)  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, cert + ".key")
        return ca, cert, context

    def test_trust_comes_from_certs_d_and_ssl_cert_file(self, tmp_path, authority, monkeypatch):
        """`localhost`'s registry is trusted by Docker's rule; a routable address is not, so the test makes its own."""
        from sampan.containerd.remotes import hosts, trust

        ca, _, server = authority

        def tls_context(settings, domain):
            [(endpoint,)] = hosts.endpoints(settings, domain)
            return endpoint.ssl

        async def handshake(context, host):
            runner = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.4", 0, ssl=server)
            async with runner:
                port = runner.sockets[0].getsockname()[1]
                _, writer = await asyncio.open_connection("127.0.0.4", port, ssl=context, server_hostname=host)
                writer.close()

        settings = hosts.RegistrySettings(hosts_directories=(str(tmp_path / "certs.d"),))
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(handshake(tls_context(settings, "registry.test:443"), "registry.test"))
        (tmp_path / "certs.d" / "registry.test:443").mkdir(parents=True)
        shutil.copy(ca, tmp_path / "certs.d" / "registry.test:443" / "ca.crt")
        asyncio.run(handshake(tls_context(settings, "registry.test:443"), "registry.test"))
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(handshake(tls_context(settings, "registry.test:443"), "other.test"))
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(handshake(trust.context(trust.Trust()), "127.0.0.4"))
        monkeypatch.setenv("SSL_CERT_FILE", ca)
        asyncio.run(handshake(trust.context(trust.Trust()), "127.0.0.4"))

    def test_a_client_certificate_needs_its_key(self, tmp_path, authority):
        from sampan.containerd.remotes import trust

        _, cert, _ = authority
        directory = tmp_path / "certs.d" / "r:1"
        directory.mkdir(parents=True)
        shutil.copy(cert, directory / "client.cert")
        with pytest.raises(
            errors.InvalidArgument, match=r"missing key client\.key for client certificate client\.cert"
        ):
            trust.from_directory(str(directory))
        shutil.copy(cert + ".key", directory / "client.key")
        trust.context(trust.from_directory(str(directory)))

    def test_a_pull_over_tls_from_loopback(self, tmp_path, authority):
        async def body():
            registry, puller = FakeRegistry(), Puller(tmp_path)
            async with registry.serving("127.0.0.4", authority[2]), puller.open():
                registry.add("x", image(10))
                await puller.pull(f"{registry.host}/x")

        asyncio.run(asyncio.wait_for(body(), 30))


@pytest.mark.needs("docker-registry", "skopeo")
def test_a_real_registry_takes_and_gives_an_image(tmp_path):
    """Pull what skopeo pushed; push it under another name; skopeo finds the same digest."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/reg}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    serving = subprocess.Popen(["docker-registry", "serve", str(tmp_path / "config.yml")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        one, other = image(50_000, 10), image(30, architecture=made.OTHER_ARCHITECTURE)
        digest = made.write_layout(str(tmp_path / "layout"), [one, other], as_index=True)
        copy = ["skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{tmp_path}/layout:latest",
                f"docker://127.0.0.1:{port}/a/b:1"]  # fmt: skip
        eventually(lambda: subprocess.run(copy, capture_output=True).returncode == 0, what="skopeo copies")

        async def body():
            puller = Puller(tmp_path)
            async with puller.open():
                pulled = await puller.pull(f"127.0.0.1:{port}/a/b:1")
                assert pulled.target.digest == digest
                await puller.pull(f"127.0.0.1:{port}/a/b:1", Platform("linux", made.OTHER_ARCHITECTURE))
                puller.core.images.put(_renamed(pulled, f"127.0.0.1:{port}/c:2"))
                await puller.core.transfer.push(
                    f"127.0.0.1:{port}/c:2", credentials=_anonymous(), progress=puller.progress.append
                )

        asyncio.run(asyncio.wait_for(body(), 30))
        inspect = ["skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://127.0.0.1:{port}/c:2"]
        assert subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip() == digest
    finally:
        serving.terminate()
        serving.wait()
