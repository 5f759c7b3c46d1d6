"""Transfers over a real socket: tag, import and export with their streams, and what is refused. No registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest
from google.protobuf import any_pb2
from grpclib import GRPCError, Status
from tests.unit.containerd.grpc.test_services import Client, served

from sampan.api.containerd.services.content.v1 import content_pb2 as content
from sampan.api.containerd.services.images.v1 import images_pb2 as images
from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as snapshots
from sampan.api.containerd.services.streaming.v1 import streaming_pb2 as streaming
from sampan.api.containerd.services.transfer.v1 import transfer_pb2 as transfer
from sampan.api.containerd.types.transfer import imagestore_pb2, progress_pb2, registry_pb2, streaming_pb2
from sampan.api.containerd.types.transfer import importexport_pb2 as archives
from sampan.containerd.grpc import fields
from sampan.oci import platform

__all__ = ["served"]

OCI = "application/vnd.oci.image."


def archive() -> tuple[bytes, str]:
    """An OCI layout with one image of one layer, called example.org/one:1; the digest of its manifest."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        made = tarfile.TarInfo("hello")
        made.size = 5
        tar.addfile(made, io.BytesIO(b"hello"))
    blobs: dict[str, bytes] = {}

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": OCI + kind, "digest": f"sha256:{digest}", "size": len(data)}

    blob = put(layer.getvalue(), "layer.v1.tar")
    host = platform.host()
    config = {"os": host.os, "architecture": host.architecture, "config": {},
              "rootfs": {"type": "layers", "diff_ids": [blob["digest"]]}}  # fmt: skip
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "layers": [blob],
                "config": put(json.dumps(config).encode(), "config.v1+json")}  # fmt: skip
    top = put(json.dumps(manifest).encode(), "manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [{**top, "annotations": {
        "io.containerd.image.name": "example.org/one:1", "org.opencontainers.image.ref.name": "1"}}]}  # fmt: skip
    blobs |= {"index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, data in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return raw.getvalue(), str(top["digest"])


ARCHIVE, MANIFEST = archive()
NAMED = imagestore_pb2.ImageReference(name="import", is_prefix=True, allow_overwrite=True)


class Streams:
    """Named streams of a client's own."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def open(self, name: str):
        stream = await self._client.open(streaming, "Streaming", "Stream").__aenter__()
        await stream.send_message(fields.packed(streaming.StreamInit(id=name)))
        assert (await stream.recv_message()).type_url == "google.protobuf.Empty"
        return stream

    async def listen(self, name: str):
        """One on which the client says nothing more."""
        stream = await self.open(name)
        await stream.end()
        return stream


async def run(client, source, destination, progress=""):
    request = transfer.TransferRequest(source=fields.packed(source), destination=fields.packed(destination))
    request.options.progress_stream = progress
    await client(transfer, "Transfer", "Transfer", request)


async def load(client, data, target):
    stream = await Streams(client).open("in")
    for start in range(0, len(data), 32 << 10):
        await stream.send_message(fields.packed(streaming_pb2.Data(data=data[start : start + (32 << 10)])))
    await stream.end()
    await run(client, archives.ImageImportStream(stream="in"), target)


async def events(stream):
    """(event, name) of everything a progress stream tells, to its end."""
    found = []
    while (message := await stream.recv_message()) is not None:
        step = progress_pb2.Progress.FromString(message.value)
        found.append((step.event, step.name))
    return found


def test_an_archive_is_imported_named_unpacked_and_kept_by_labels_alone(served):
    async def scenario(client):
        target = imagestore_pb2.ImageStore(labels={"a": "b"}, extra_references=[NAMED])
        unpack = target.unpacks.add(snapshotter="native")
        unpack.platform.CopyFrom(fields.platform_message(platform.host()))
        progress = await Streams(client).listen("told")
        stream = await Streams(client).open("in")
        await stream.send_message(fields.packed(streaming_pb2.Data(data=ARCHIVE)), end=True)
        await run(client, archives.ImageImportStream(stream="in"), target, "told")
        told = await events(progress)
        assert told == [("Importing", ""), ("saved", "example.org/one:1"), ("Completed import", "")]
        (image,) = (await client(images, "Images", "List", images.ListImagesRequest())).images
        assert (image.name, image.target.digest, dict(image.labels)) == ("example.org/one:1", MANIFEST, {"a": "b"})
        assert list((await client(leases, "Leases", "List", leases.ListRequest())).leases) == []
        # Another image's removal collects: what the labels reach stays.
        await run(client, imagestore_pb2.ImageStore(name=image.name), imagestore_pb2.ImageStore(name="two"))
        await client(images, "Images", "Delete", images.DeleteImageRequest(name="two", sync=True))
        pages = await client(content, "Content", "List", content.ListContentRequest())
        assert len([info for page in pages for info in page.info]) == 3
        listing = snapshots.ListSnapshotsRequest(snapshotter="native")
        (snapshot,) = [info for page in await client(snapshots, "Snapshots", "List", listing) for info in page.info]
        assert snapshot.labels["containerd.io/snapshot.ref"] == snapshot.name
        await client(images, "Images", "Delete", images.DeleteImageRequest(name=image.name, sync=True))
        assert await client(content, "Content", "List", content.ListContentRequest()) == []
        assert await client(snapshots, "Snapshots", "List", listing) == []

    served(scenario)


def test_what_is_exported_can_be_imported_again(served):
    async def scenario(client):
        await load(client, ARCHIVE, imagestore_pb2.ImageStore(extra_references=[NAMED]))
        stream = await Streams(client).open("out")
        await stream.send_message(fields.packed(streaming_pb2.WindowUpdate(update=1 << 20)), end=True)
        names = [imagestore_pb2.ImageReference(name="example.org/one:1")]
        source = imagestore_pb2.ImageStore(extra_references=names)
        await run(client, source, archives.ImageExportStream(stream="out", skip_compatibility_manifest=True))
        data = b""
        while (message := await stream.recv_message()) is not None:
            data += streaming_pb2.Data.FromString(message.value).data
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = set(tar.getnames())
        assert {"index.json", "oci-layout", "blobs/sha256/" + MANIFEST[7:]} < members
        assert "manifest.json" not in members
        await load(client, data, imagestore_pb2.ImageStore(name="whole", extra_references=[NAMED]))
        found = (await client(images, "Images", "List", images.ListImagesRequest())).images
        assert {one.name: one.target.media_type for one in found} == {
            "example.org/one:1": OCI + "manifest.v1+json",
            "whole": OCI + "index.v1+json",
        }

    served(scenario)


@pytest.mark.parametrize(
    ("source", "destination", "refused"),
    [
        (any_pb2.Any(type_url="x.y"), imagestore_pb2.ImageStore(name="a"), (Status.UNIMPLEMENTED, "x.y")),
        (registry_pb2.OCIRegistry(), registry_pb2.OCIRegistry(), (Status.UNIMPLEMENTED, "OCIRegistry to OCIRegistry")),
        (imagestore_pb2.ImageStore(name="no"), imagestore_pb2.ImageStore(name="a"), (Status.NOT_FOUND, '"no"')),
        (archives.ImageImportStream(stream="no"), imagestore_pb2.ImageStore(name="a"), (Status.NOT_FOUND, '"no"')),
        (
            registry_pb2.OCIRegistry(reference="short:1"),
            imagestore_pb2.ImageStore(),
            (Status.UNKNOWN, "object required"),
        ),
        (
            registry_pb2.OCIRegistry(
                reference="r.test/a:1", resolver=registry_pb2.RegistryResolver(headers={"X-Mine": "1"})
            ),
            imagestore_pb2.ImageStore(),
            (Status.UNIMPLEMENTED, "HTTP headers"),
        ),
    ],
)
def test_a_transfer_that_cannot_be_is_refused(served, source, destination, refused):
    async def scenario(client):
        with pytest.raises(GRPCError) as raised:
            packed = source if isinstance(source, any_pb2.Any) else fields.packed(source)
            request = transfer.TransferRequest(source=packed, destination=fields.packed(destination))
            await client(transfer, "Transfer", "Transfer", request)
        assert raised.value.status is refused[0]
        assert refused[1] in raised.value.message

    served(scenario)


def test_a_broken_archive_leaves_nothing_and_ends_its_streams(served):
    async def scenario(client):
        progress = await Streams(client).listen("told")
        stream = await Streams(client).open("in")
        await stream.send_message(fields.packed(streaming_pb2.Data(data=ARCHIVE[:3000])), end=True)
        with pytest.raises(GRPCError) as raised:
            await run(client, archives.ImageImportStream(stream="in"), imagestore_pb2.ImageStore(name="a"), "told")
        assert raised.value.status is Status.INVALID_ARGUMENT
        assert await events(progress) == [("Importing", "")]
        assert list((await client(images, "Images", "List", images.ListImagesRequest())).images) == []
        # The names of the streams are free again.
        await Streams(client).open("in")

    served(scenario)


def test_a_stream_begins_with_its_name_and_has_it_alone(served):
    async def scenario(client):
        await Streams(client).open("one")
        for first, status in (
            (streaming.StreamInit(id="one"), Status.ALREADY_EXISTS),
            (streaming_pb2.Data(data=b"x"), Status.INVALID_ARGUMENT),
        ):
            async with client.open(streaming, "Streaming", "Stream") as stream:
                await stream.send_message(fields.packed(first), end=True)
                with pytest.raises(GRPCError) as raised:
                    await stream.recv_message()
            assert raised.value.status is status

    served(scenario)
