"""What registries and the networks before them do wrong, one at a time, and what a pull makes of it."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import io
import json
import os
import time

import pytest
import zstandard
from aiohttp import web
from tests.contract.registry_bench import FakeRegistry, Puller, error
from tests.peers import images as made

from sampan import errors
from sampan.containerd.remotes import registry as remote

pytestmark = pytest.mark.root


def image(*sizes: int, compression: str = "gzip") -> made.Image:
    layers = [made.layer(made.tar([made.Entry(f"f{i}", content=os.urandom(size))]), compression)
              for i, size in enumerate(sizes)]  # fmt: skip
    return made.image(layers, {"Cmd": ["sh"]})


@pytest.fixture
def run(tmp_path):
    def go(body, **settings):
        async def inside():
            registry, puller = FakeRegistry(), Puller(tmp_path)
            async with registry.serving(), puller.open(**settings):
                await body(registry, puller)

        asyncio.run(asyncio.wait_for(inside(), 60))

    return go


def test_retry_after_may_be_a_date(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        asked: list[float] = []

        def hook(request):
            if request.path == "/v2/":
                return None
            asked.append(time.time())
            if len(asked) > 1:
                return None
            # HTTP dates have whole seconds
            return error(
                503, "UNAVAILABLE", "later", Retry_After=email.utils.formatdate(int(asked[0]) + 2, usegmt=True)
            )

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert int(asked[1]) >= int(asked[0]) + 2

    run(body)


def test_a_connection_that_is_reset_is_made_again(run):
    one = image(1000)
    resets: list[str] = []

    async def body(registry, puller):
        registry.add("x", one)

        async def hook(request):
            # HEAD, the manifest, the config and the layer: each the first time
            key = f"{request.method} {request.path}"
            if request.path != "/v2/" and key not in resets:
                resets.append(key)
                request.transport.abort()
                return web.Response()
            return None

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert len(resets) == 4

    run(body)


def test_a_document_that_breaks_off_is_asked_for_again(run):
    one = image(1000)
    broken: list[str] = []

    async def body(registry, puller):
        registry.add("x", one)
        documents = {one.manifest.digest: one.manifest.content, one.blobs[0].digest: one.blobs[0].content}

        async def hook(request):
            wanted = request.path.rsplit("/", 1)[1]
            if request.method == "GET" and wanted in documents and wanted not in broken:
                broken.append(wanted)
                response = web.StreamResponse(headers={"Content-Length": str(len(documents[wanted]))})
                await response.prepare(request)
                await response.write(documents[wanted][:50])
                request.transport.abort()
                return response
            return None

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert len(broken) == 2

    run(body)


WRONG_RANGES = {
    "before what was asked": lambda start, whole: (206, f"bytes {start - 100}-{len(whole) - 1}/{len(whole)}",
                                                   whole[start - 100 :]),
    "after what was asked": lambda start, whole: (206, f"bytes {start + 100}-{len(whole) - 1}/{len(whole)}",
                                                  whole[start + 100 :]),
    "not said": lambda start, whole: (206, "", whole[start:]),
    "the whole": lambda start, whole: (200, "", whole),
    "not satisfiable": lambda start, whole: (416, f"bytes */{len(whole)}", b""),
    "less than is left": lambda start, whole: (206, f"bytes {start}-{start + 49_999}/{len(whole)}",
                                               whole[start : start + 50_000]),
}  # fmt: skip


@pytest.mark.parametrize("answer", WRONG_RANGES.values(), ids=WRONG_RANGES)
def test_a_wrong_range_does_not_harm_the_blob(run, answer):
    """The first answer breaks off; every answer to a Range is odd; without one the blob is whole the second time."""
    one = image(400_000)
    [blob] = one.layers
    firsts: list[int] = []

    async def body(registry, puller):
        registry.add("x", one)

        async def hook(request):
            if not request.path.endswith(blob.digest):
                return None
            if wanted := request.headers.get("Range"):
                status, said, data = answer(int(wanted.removeprefix("bytes=").rstrip("-")), blob.content)
                return web.Response(status=status, body=data, headers={"Content-Range": said} if said else {})
            firsts.append(1)
            if len(firsts) > 1:
                return None
            response = web.StreamResponse(headers={"Content-Length": str(len(blob.content))})
            await response.prepare(request)
            await response.write(blob.content[:150_000])
            request.transport.abort()
            return response

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert puller.core.content.read(blob.digest) == blob.content

    run(body, max_attempts=3)


def test_a_blob_that_is_shorter_than_promised_is_refused_in_the_end(run):
    one = image(100_000)
    [blob] = one.layers

    async def body(registry, puller):
        registry.add("x", one)
        registry.blobs[blob.digest] = blob.content[:-1000]
        with pytest.raises(errors.Unavailable, match="unexpected EOF"):
            await puller.pull(f"{registry.host}/x")
        assert not puller.core.content.has(blob.digest)

    run(body, max_attempts=2)


def test_a_huge_document_is_refused_before_it_is_read(run):
    sent: list[int] = []

    async def endless(request):
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
                sent.append(65536)
        except ConnectionError:
            pass
        return response

    async def body(registry, puller):
        registry.add("x", image(10))
        registry.hook = lambda r: endless(r) if r.method == "GET" and "/manifests/" in r.path else None
        with pytest.raises(errors.InvalidArgument, match="the registry's answer is larger than 4194304 bytes"):
            await puller.pull(f"{registry.host}/x")
        assert sum(sent) < 64 << 20

    run(body)


def test_a_document_that_trickles_is_given_up(run, monkeypatch):
    monkeypatch.setattr(remote, "_DOCUMENT_TIME", 0.3)

    async def trickle(request):
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        return response

    async def body(registry, puller):
        registry.add("x", image(10))
        registry.hook = lambda r: trickle(r) if r.method == "GET" and "/manifests/" in r.path else None
        with pytest.raises(errors.Unavailable, match=r"Client\.Timeout exceeded"):
            await puller.pull(f"{registry.host}/x")

    run(body)


@pytest.mark.parametrize("said", ["application/octet-stream", "text/plain; charset=utf-8", "application/json", ""])
def test_a_content_type_that_says_nothing_is_read_over(run, said):
    one = image(10)

    async def body(registry, puller):
        digest = registry.add("x", one)
        for key, (_, content) in list(registry.manifests.items()):
            registry.manifests[key] = (said, content)
        pulled = await puller.pull(f"{registry.host}/x")
        assert (pulled.target.digest, pulled.target.media_type) == (digest, one.manifest.media_type)

    run(body)


def test_a_content_type_that_says_another_document_is_refused(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        for key, (_, content) in list(registry.manifests.items()):
            registry.manifests[key] = ("application/vnd.oci.image.index.v1+json", content)
        with pytest.raises(errors.InvalidArgument, match="image document says it is"):
            await puller.pull(f"{registry.host}/x")

    run(body)


def test_a_web_page_is_no_registry(run):
    async def body(registry, puller):
        registry.hook = lambda r: web.Response(text="<html>", content_type="text/html")
        with pytest.raises(errors.InvalidArgument, match="invalid image document"):
            await puller.pull(f"{registry.host}/x")

    run(body)


def test_a_token_that_runs_out_in_the_middle_is_fetched_anew(run):
    one = image(1000, 1000, 1000)
    issued: list[str] = []

    async def body(registry, puller):
        registry.add("x", one)
        used: dict[str, int] = {}

        def hook(request):
            if request.path == "/token":
                issued.append(f"t{len(issued)}")
                return web.json_response({"token": issued[-1], "expires_in": 3600})
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            used[token] = used.get(token, 0) + 1
            if token not in issued or used[token] > 3:
                challenge = f'Bearer realm="http://{registry.host}/token",service="r"'
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
            return None

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert 2 <= len(issued) <= 4

    run(body)


def test_a_busy_token_server_is_asked_again(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        asked: list[int] = []

        def hook(request):
            if request.path == "/token":
                asked.append(1)
                return web.json_response({"token": "t"}) if len(asked) > 2 else error(503, "X", "x", Retry_After="0")
            if request.headers.get("Authorization") != "Bearer t":
                challenge = f'Bearer realm="http://{registry.host}/token",service="r"'
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
            return None

        registry.hook = hook
        await puller.pull(f"{registry.host}/x")
        assert len(asked) == 3

    run(body)


def test_a_second_pull_uses_the_token_of_the_first(run):
    async def body(registry, puller):
        registry.add("x", image(10))
        issued: list[int] = []

        def hook(request):
            if request.path == "/token":
                issued.append(1)
                return web.json_response({"token": "t", "expires_in": 300})
            if request.headers.get("Authorization") != "Bearer t":
                challenge = f'Bearer realm="http://{registry.host}/token",service="r"'
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
            return None

        registry.hook = hook
        await puller.pull(f"{registry.host}/x", username="alice", password="secret")
        registry.requests.clear()
        await puller.pull(f"{registry.host}/x", username="alice", password="secret")
        assert [m for m, _, _ in registry.requests] == ["HEAD"]
        await puller.pull(f"{registry.host}/x", username="bob", password="other")
        assert len(issued) == 2, "somebody else's token is not his"

    run(body)


def skippable(payload: bytes) -> bytes:
    """A zstd frame to read over, as zstd:chunked appends its table of contents. RFC 8878, 3.1.2."""
    return b"\x50\x2a\x4d\x18" + len(payload).to_bytes(4, "little") + payload


def estargz(tar: bytes) -> bytes:
    """A gzip member per piece, with a footer member that has an extra field, as stargz blobs end."""
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0" + b"0" * 16 + b"STARGZ" + b"\x01\0\0\xff\xff" + bytes(8)
    return b"".join(gzip.compress(tar[at : at + 700]) for at in range(0, len(tar), 700)) + footer


COMPRESSIONS = {
    "plain": ("", bytes),
    "gzip": ("+gzip", gzip.compress),
    "zstd": ("+zstd", zstandard.ZstdCompressor().compress),
    "estargz": ("+gzip", estargz),
    "zstd:chunked": ("+zstd", lambda tar: b"".join(zstandard.ZstdCompressor().compress(tar[at : at + 700])
                                                   for at in range(0, len(tar), 700)) + skippable(b"toc" * 100)),
    "gzip that is called zstd": ("+zstd", gzip.compress),
}  # fmt: skip


@pytest.mark.parametrize("kind, compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
def test_every_compression_of_image_spec_is_unpacked(run, kind, compress):
    tar = made.tar([made.Entry("f", content=os.urandom(5000))])
    blob = made.Blob(f"application/vnd.oci.image.layer.v1.tar{kind}", compress(tar), made.digest_of(tar))

    async def body(registry, puller):
        registry.add("x", made.image([blob]))
        await puller.pull(f"{registry.host}/x")
        assert (puller.top() / "f").stat().st_size == 5000

    run(body)


@pytest.mark.parametrize("kind", ["bzip2", "xz"])
def test_another_compression_is_refused_by_name(run, kind):
    import bz2
    import lzma

    tar = made.tar([made.Entry("f", content=b"x")])
    content = bz2.compress(tar) if kind == "bzip2" else lzma.compress(tar)
    blob = made.Blob("application/vnd.oci.image.layer.v1.tar", content, made.digest_of(tar))

    async def body(registry, puller):
        registry.add("x", made.image([blob]))
        with pytest.raises(errors.Error, match=f"failed to register layer: unsupported compression: {kind}"):
            await puller.pull(f"{registry.host}/x")

    run(body)


def index(members: list[dict]) -> made.Blob:
    kind = "application/vnd.oci.image.index.v1+json"
    return made.Blob(kind, json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": members}).encode())


class TestChoice:
    """Which member of an index is pulled."""

    def serve(self, registry, top: made.Blob, *others: made.Blob) -> None:
        for blob in (top, *others):
            registry.manifests[f"x@{blob.digest}"] = (blob.media_type, blob.content)
        registry.manifests["x:latest"] = (top.media_type, top.content)

    def test_attestations_are_no_platform(self, run):
        one, attestation = image(10), image(20)

        async def body(registry, puller):
            registry.add("x", one)
            unknown = attestation.manifest.descriptor(
                platform={"os": "unknown", "architecture": "unknown"},
                annotations={"vnd.docker.reference.type": "attestation-manifest"},
            )
            own = one.manifest.descriptor(platform={"os": "linux", "architecture": made.ARCHITECTURE})
            self.serve(registry, index([unknown, own]), one.manifest)
            await puller.pull(f"{registry.host}/x")
            assert puller.core.content.has(one.layers[0].digest)
            assert not puller.core.content.has(attestation.manifest.digest)

        run(body)

    @pytest.mark.parametrize("depth, works", [(1, True), (3, True), (8, False)])
    def test_an_index_in_an_index_is_followed_so_far(self, run, depth, works):
        one = image(10)

        async def body(registry, puller):
            registry.add("x", one)
            nested = [one.manifest]
            for _ in range(depth + 1):
                platform = {"os": "linux", "architecture": made.ARCHITECTURE}
                nested.append(index([nested[-1].descriptor(platform=platform)]))
            self.serve(registry, nested[-1], *nested)
            if works:
                await puller.pull(f"{registry.host}/x")
                await puller.pull(f"{registry.host}/x")
                assert puller.lines()[-1] == f"Status: Image is up to date for {registry.host}/x:latest"
            else:
                with pytest.raises(errors.NotFound, match="no matching manifest"):
                    await puller.pull(f"{registry.host}/x")

        run(body)

    def test_a_windows_version_does_not_matter_to_linux(self, run):
        one = image(10)

        async def body(registry, puller):
            registry.add("x", one)
            windows = one.manifest.descriptor(
                platform={"os": "windows", "architecture": made.ARCHITECTURE, "os.version": "10.0.1"}
            )
            odd = {"os": "linux", "architecture": made.ARCHITECTURE, "os.version": "6.1", "os.features": ["x"]}
            self.serve(registry, index([windows, one.manifest.descriptor(platform=odd)]), one.manifest)
            await puller.pull(f"{registry.host}/x")

        run(body)


def test_a_pull_that_was_cut_off_by_the_end_of_the_process_goes_on_in_the_next(tmp_path):
    """The ingest is on the disk: a core that is opened anew asks for the rest alone."""
    one = image(900_000)
    [blob] = one.layers

    async def body():
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("x", one)

            async def stall(request):
                response = web.StreamResponse(headers={"Content-Length": str(len(blob.content))})
                await response.prepare(request)
                await response.write(blob.content[:500_000])
                await asyncio.sleep(30)
                return response

            registry.hook = lambda r: stall(r) if r.path.endswith(blob.digest) else None
            before, after = Puller(tmp_path), Puller(tmp_path)
            async with before.open():
                pulling = asyncio.create_task(before.pull(f"{registry.host}/x"))
                while not any(p.status == "Downloading" and p.current for p in before.progress):
                    await asyncio.sleep(0.01)
            # the core went away under the pull, as at the end of a process
            assert isinstance(*await asyncio.gather(pulling, return_exceptions=True), BaseException)
            registry.hook = None
            registry.requests.clear()
            async with after.open():
                await after.pull(f"{registry.host}/x")
                [(_, _, headers)] = registry.asked(blob.digest)
                assert int(headers["Range"].removeprefix("bytes=").rstrip("-")) > 0
                assert after.core.content.read(blob.digest) == blob.content

    asyncio.run(asyncio.wait_for(body(), 60))


def test_gzip_of_the_transfer_is_not_that_of_the_layer(run):
    """A proxy that compresses what it passes would change the digest: `identity` is asked for."""
    one = image(1000, compression="none")

    async def body(registry, puller):
        registry.add("x", one)
        await puller.pull(f"{registry.host}/x")
        for blob in one.blobs:
            [(_, _, headers)] = registry.asked(blob.digest)
            assert headers["Accept-Encoding"] == "identity"
        assert io.BytesIO(puller.core.content.read(one.layers[0].digest)).read(2) == b"f0"

    run(body)
