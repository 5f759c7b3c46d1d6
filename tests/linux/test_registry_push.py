"""Pushing against registries that lose, refuse and repeat: uploads go on where they were, mounts, referrers."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from aiohttp import web
from tests.contract.registry_bench import FakeRegistry, Puller, error
from tests.peers import images as made

from sampan import errors
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.survey import RegistrySurvey
from sampan.containerd.services import Credentials, Image
from sampan.oci import image as images
from sampan.oci import reference
from sampan.oci.image import Descriptor

pytestmark = pytest.mark.root


def image(*sizes: int, architecture: str = made.ARCHITECTURE, compression: str = "gzip") -> made.Image:
    layers = [made.layer(made.tar([made.Entry(f"f{i}", content=os.urandom(size))]), compression)
              for i, size in enumerate(sizes)]  # fmt: skip
    return made.image(layers, {"Cmd": ["sh"]}, architecture)


@pytest.fixture
def run(tmp_path):
    """Runs body(source, target, puller): registries that have nothing to do with each other."""

    def go(body, **settings):
        async def inside():
            source, target, puller = FakeRegistry(), FakeRegistry(), Puller(tmp_path)
            async with source.serving(), target.serving("127.0.0.2"), puller.open(**settings):
                await body(source, target, puller)

        asyncio.run(asyncio.wait_for(inside(), 60))

    return go


async def push(puller: Puller, name: str, target: Descriptor) -> Descriptor:
    puller.core.images.put(Image(name, target))
    puller.progress = []
    return await puller.core.transfer.push(name, credentials=Credentials(), progress=puller.progress.append)


FAULTS = ["chunk refused", "chunk arrived, answer lost", "half a chunk arrived", "upload forgotten", "last one lost",
          "last one arrived, answer lost", "reset"]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_large_blob_arrives_whole_whatever_happens_to_a_chunk(run, fault):
    one = image(20 << 20, compression="none")
    [blob] = one.layers
    seen: list[str] = []

    async def body(source, target, puller):
        source.add("x", one)
        pulled = await puller.pull(f"{source.host}/x")

        async def hook(request):
            if "/uploads/" not in request.path or request.method not in ("PATCH", "PUT"):
                return None
            if request.method == "PUT" and request.query["digest"] != blob.digest:
                return None
            seen.append(request.method)
            state = target.uploads[request.path.rsplit("/", 1)[1]]
            first_patch, first_put = seen == ["PATCH"], seen.count("PUT") == 1 and request.method == "PUT"
            if fault == "chunk refused" and first_patch:
                return error(503, "UNAVAILABLE", "later", Retry_After="0")
            if fault == "chunk arrived, answer lost" and first_patch:
                state += await request.read()
                return error(500, "UNKNOWN", "lost")
            if fault == "half a chunk arrived" and first_patch:
                state += (await request.read())[: 4 << 20]
                return error(502, "UNKNOWN", "gateway")
            if fault == "upload forgotten" and len(seen) == 2:
                target.uploads.clear()
                return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
            if fault == "last one lost" and first_put:
                return error(504, "UNKNOWN", "gateway")
            if fault == "last one arrived, answer lost" and first_put:
                await target.serve(request)
                return error(504, "UNKNOWN", "gateway")
            if fault == "reset" and first_patch:
                request.transport.abort()
                return web.Response()
            return None

        target.hook = hook
        await push(puller, f"{target.host}/y:1", pulled.target)
        assert target.blobs[blob.digest] == blob.content
        assert target.manifests["y:1"][1] == one.manifest.content
        if fault == "last one arrived, answer lost":
            assert seen.count("PUT") == 1, "what the registry has is not sent again"

    run(body)


def test_an_upload_that_never_works_ends_with_the_registrys_words(run):
    async def body(source, target, puller):
        source.add("x", image(1000))
        pulled = await puller.pull(f"{source.host}/x")
        tries: list[str] = []

        def hook(request):
            if request.method != "PUT":
                return None
            tries.append(request.path)
            return error(503, "UNAVAILABLE", "disk full", Retry_After="0")

        target.hook = hook
        with pytest.raises(errors.Unavailable, match="unavailable: disk full"):
            await push(puller, f"{target.host}/y:1", pulled.target)
        assert len(set(tries)) < len(tries) <= 4, "two attempts for each of two blobs"

    run(body, max_attempts=2)


def test_a_refused_upload_is_not_tried_again(run):
    async def body(source, target, puller):
        source.add("x", image(1000))
        pulled = await puller.pull(f"{source.host}/x")
        target.hook = lambda r: error(403, "DENIED", "no") if r.method == "POST" else None
        with pytest.raises(errors.Forbidden, match="denied: no"):
            await push(puller, f"{target.host}/y:1", pulled.target)
        assert len([1 for method, _, _ in target.requests if method == "POST"]) <= 2

    run(body)


def test_a_blob_that_is_nowhere_is_said(run):
    async def body(source, target, puller):
        one = image(1000)
        source.add("x", one)
        pulled = await puller.pull(f"{source.host}/x")
        puller.core.content.delete(one.layers[0].digest)
        with pytest.raises(errors.NotFound, match=f"content {one.layers[0].digest}: not found"):
            await push(puller, f"{target.host}/y:1", pulled.target)
        assert "y:1" not in target.manifests
        target.blobs[one.layers[0].digest] = one.layers[0].content
        await push(puller, f"{target.host}/y:1", pulled.target)

    run(body)


@pytest.mark.parametrize("answer", ["mounted", "upload instead", "no right to read there"])
def test_a_blob_known_from_another_repository_is_mounted_or_uploaded(run, answer):
    one = image(1000)
    [blob] = one.layers

    async def body(source, target, puller):
        source.add("x", one)
        pulled = await puller.pull(f"{source.host}/x")
        del source.blobs[one.blobs[0].digest]
        source.hook = lambda r: web.Response(status=404) if r.method == "HEAD" and "/y/blobs/" in r.path else None
        if answer == "upload instead":
            del source.blobs[blob.digest]
        if answer == "no right to read there":
            before = source.hook
            source.hook = lambda r: error(403, "DENIED", "x") if "mount" in r.query else before(r)
        await push(puller, f"{source.host}/y:1", pulled.target)
        posts = [path for method, path, _ in source.requests if method == "POST"]
        assert any("mount=" in path and blob.digest[7:] in path and "from=x" in path for path in posts)
        outcome = "Mounted from x" if answer == "mounted" else "Pushed"
        assert puller.statuses(blob.digest[7:19])[-1] == outcome
        assert len(posts) == (3 if answer == "no right to read there" else 2)
        assert source.blobs[blob.digest] == blob.content

    run(body)


def test_a_mount_asks_for_both_scopes(run):
    one = image(1000)

    async def body(source, target, puller):
        source.add("x", one)
        pulled = await puller.pull(f"{source.host}/x")
        scopes: list[list[str]] = []

        def hook(request):
            if request.path == "/token":
                scopes.append(request.query.getall("scope"))
                return web.json_response({"token": "t " + " ".join(scopes[-1]), "expires_in": 300})
            if not request.headers.get("Authorization", "").startswith("Bearer t "):
                challenge = f'Bearer realm="http://{source.host}/token",service="r"'
                return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
            return web.Response(status=404) if request.method == "HEAD" and "/y/" in request.path else None

        # learnt without authentication; the registry asks for it from now on
        source.hook = hook
        await push(puller, f"{source.host}/y:1", pulled.target)
        assert ["repository:y:pull,push", "repository:x:pull"] in scopes
        assert ["repository:y:pull,push"] in scopes

    run(body)


def test_a_second_push_of_a_layer_mounts_it_from_where_the_first_one_went(run):
    async def body(source, target, puller):
        source.add("x", image(1000))
        pulled = await puller.pull(f"{source.host}/x")
        await push(puller, f"{target.host}/a:1", pulled.target)
        target.hook = lambda r: web.Response(status=404) if r.method == "HEAD" and "/b/blobs/" in r.path else None
        await push(puller, f"{target.host}/b:1", pulled.target)
        assert any(one.status == "Mounted from a" for one in puller.progress)

    run(body)


def test_an_index_that_is_whole_goes_with_all_its_platforms_children_first(run):
    own, other = image(10), image(10, architecture=made.OTHER_ARCHITECTURE)

    async def body(source, target, puller):
        from sampan.oci.image import Platform

        digest = source.add("x", own, other)
        await puller.pull(f"{source.host}/x", Platform("linux", made.OTHER_ARCHITECTURE))
        pulled = await puller.pull(f"{source.host}/x")
        pushed = await push(puller, f"{target.host}/y:1", pulled.target)
        assert pushed.digest == digest
        puts = [path for method, path, _ in target.requests if method == "PUT" and "/manifests/" in path]
        assert puts[-1] == "/v2/y/manifests/1"
        assert set(puts[:-1]) == {f"/v2/y/manifests/{one.manifest.digest}" for one in (own, other)}

    run(body)


def test_foreign_layers_stay_where_their_licence_keeps_them(run):
    one = image(1000)

    async def body(source, target, puller):
        source.add("x", one)
        pulled = await puller.pull(f"{source.host}/x")
        document = json.loads(one.manifest.content)
        foreign = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": 5,
                   "digest": "sha256:" + "0" * 64, "urls": ["https://vendor.example/layer"]}  # fmt: skip
        document["layers"].append(foreign)
        data = json.dumps(document).encode()
        top = Descriptor(pulled.target.media_type, puller.core.content.put(data), len(data))
        await push(puller, f"{target.host}/y:1", top)
        assert puller.statuses("0" * 12) == ["Skipped foreign layer"]
        assert not target.asked("0" * 64)
        assert target.manifests["y:1"][1] == data

    run(body)


class TestReferrers:
    """Manifests about other manifests: pushed so that they are found, listed by whatever the registry offers."""

    def artifact(self, puller: Puller, subject: Descriptor, kind: str) -> Descriptor:
        config = puller.core.content.put(b"{}")
        blob = puller.core.content.put(f"signature by {kind}".encode())
        document = {
            "schemaVersion": 2,
            "mediaType": images.MEDIA_OCI_MANIFEST,
            "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": kind, "digest": blob, "size": len(f"signature by {kind}")}],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
            "annotations": {"by": "us"},
        }
        data = json.dumps(document).encode()
        return Descriptor(images.MEDIA_OCI_MANIFEST, puller.core.content.put(data), len(data))

    @pytest.mark.parametrize("has_api", [True, False], ids=["API", "tag schema"])
    def test_what_was_pushed_is_listed_by_type(self, run, has_api):
        async def body(source, target, puller):
            source.has_referrers = target.has_referrers = has_api
            source.add("x", image(10))
            pulled = await puller.pull(f"{source.host}/x")
            await push(puller, f"{target.host}/y:1", pulled.target)
            survey = RegistrySurvey(RegistrySettings())
            named = reference.parse_normalized(f"{target.host}/y@{pulled.target.digest}")
            assert await survey.referrers(named, Credentials()) == []
            made = {kind: self.artifact(puller, pulled.target, kind) for kind in ("a/sbom", "a/signature")}
            for kind, artifact in made.items():
                for _ in range(2):  # the second time it is there already
                    await push(puller, f"{target.host}/y:{kind[2:]}", artifact)
            found = await survey.referrers(named, Credentials())
            assert {one.artifact_type: one.digest for one in found} == {k: d.digest for k, d in made.items()}
            assert len(found) == 2
            [only] = await survey.referrers(named, Credentials(), "a/sbom")
            assert only.digest == made["a/sbom"].digest
            tag = f"y:sha256-{pulled.target.digest[7:]}"
            assert (tag in target.manifests) is not has_api
            if not has_api:
                entry = json.loads(target.manifests[tag][1])["manifests"][0]
                assert (entry["artifactType"], entry["annotations"]) == ("a/sbom", {"by": "us"})

        run(body)

    def test_only_a_digest_can_be_referred_to(self):
        with pytest.raises(errors.InvalidArgument, match="has no digest to refer to"):
            asyncio.run(
                RegistrySurvey(RegistrySettings()).referrers(reference.parse_normalized("r.test/x:1"), Credentials())
            )
