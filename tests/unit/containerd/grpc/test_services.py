"""The API over a real socket, with grpclib's client: statuses, streams, namespaces, leases. No task is run."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager

import pytest
from google.protobuf import empty_pb2, message_factory
from grpclib import GRPCError, Status
from grpclib.client import Channel, StreamStreamMethod, UnaryStreamMethod, UnaryUnaryMethod

from sampan.api.containerd.grpc.health.v1 import health_pb2
from sampan.api.containerd.services.content.v1 import content_pb2 as content
from sampan.api.containerd.services.events.v1 import events_pb2 as events
from sampan.api.containerd.services.images.v1 import images_pb2 as images
from sampan.api.containerd.services.introspection.v1 import introspection_pb2 as introspection
from sampan.api.containerd.services.leases.v1 import leases_pb2 as leases
from sampan.api.containerd.services.mounts.v1 import mounts_pb2 as mounts
from sampan.api.containerd.services.namespaces.v1 import namespace_pb2 as namespaces
from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as sandbox
from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as snapshots
from sampan.api.containerd.types import descriptor_pb2
from sampan.containerd.core import open_core
from sampan.containerd.grpc.serving import serve_grpc

HELLO = b"hello\n"
DIGEST = "sha256:" + hashlib.sha256(HELLO).hexdigest()


class NoTasks:
    """`services.Tasks` of a machine on which nothing runs."""

    def on_exit(self, callback):
        pass

    def on_oom(self, callback):
        pass

    async def list(self):
        return []


class Client:
    def __init__(self, channel):
        self._channel = channel

    def _method(self, service, name):
        method = service.methods_by_name[name]
        kinds = {(False, False): UnaryUnaryMethod, (False, True): UnaryStreamMethod, (True, True): StreamStreamMethod}
        return kinds[method.client_streaming, method.server_streaming](
            self._channel,
            f"/{service.full_name}/{name}",
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
        )

    async def __call__(self, module, service, name, request, namespace="here", lease=""):
        headers = {key: v for key, v in (("containerd-namespace", namespace), ("containerd-lease", lease)) if v}
        return await self._method(module.DESCRIPTOR.services_by_name[service], name)(request, metadata=headers)

    def open(self, module, service, name, namespace="here"):
        found = self._method(module.DESCRIPTOR.services_by_name[service], name)
        return found.open(metadata={"containerd-namespace": namespace})

    async def write(self, *requests, namespace="here"):
        """The answers to a Write stream."""
        answers = []
        async with self.open(content, "Content", "Write", namespace) as stream:
            for number, request in enumerate(requests):
                await stream.send_message(request, end=number == len(requests) - 1)
                answers.append(await stream.recv_message())
            await stream.recv_message()
        return answers

    async def refused(self, *arguments, **more):
        with pytest.raises(GRPCError) as raised:
            await self(*arguments, **more)
        return raised.value.status, raised.value.message


@pytest.fixture
def served(tmp_path):
    """Runs an async function with a client of a core of its own."""

    @asynccontextmanager
    async def running():
        core = await open_core(f"{tmp_path}/root", tasks=NoTasks(), snapshotter="native")
        server = await serve_grpc(core, f"{tmp_path}/api.sock", state=f"{tmp_path}/state")
        channel = Channel(path=f"{tmp_path}/api.sock")
        try:
            yield Client(channel)
        finally:
            channel.close()
            await server.close()
            await core.close()

    def run(scenario):
        async def main():
            async with asyncio.timeout(20), running() as client:
                await scenario(client)

        asyncio.run(main())

    return run


def write(action, **more):
    return content.WriteContentRequest(action=action, **more)


def test_a_blob_is_written_in_pieces_resumed_and_committed_once(served):
    async def scenario(client):
        (answer,) = await client.write(write(content.WRITE, ref="r", total=6, expected=DIGEST, data=b"hel"))
        assert answer.offset == 3
        status = await client(content, "Content", "Status", content.StatusRequest(ref="r"))
        assert (status.status.offset, status.status.total) == (3, 6)
        stat, *_, commit = await client.write(
            write(content.STAT, ref="r"),
            write(content.WRITE, offset=3, data=b"lo\n"),
            write(content.COMMIT, offset=6, total=6, expected=DIGEST, labels={"a": "b"}),
        )
        assert (stat.offset, commit.offset, commit.digest) == (3, 6, DIGEST)
        info = (await client(content, "Content", "Info", content.InfoRequest(digest=DIGEST))).info
        assert (info.size, dict(info.labels)) == (6, {"a": "b"})
        with pytest.raises(GRPCError) as again:
            await client.write(write(content.STAT, ref="r2", expected=DIGEST))
        assert again.value.status is Status.ALREADY_EXISTS

    served(scenario)


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        ([write(content.STAT)], Status.INVALID_ARGUMENT),
        ([write(content.WRITE, ref="r", offset=9, data=b"x")], Status.OUT_OF_RANGE),
        ([write(content.COMMIT, ref="r", total=4, data=HELLO)], Status.FAILED_PRECONDITION),
        ([write(content.COMMIT, ref="r", expected="sha256:" + "0" * 64, data=HELLO)], Status.FAILED_PRECONDITION),
    ],
)
def test_a_write_that_cannot_be_is_refused_by_its_code(served, requests, status):
    async def scenario(client):
        with pytest.raises(GRPCError) as raised:
            await client.write(*requests)
        assert raised.value.status is status
        listing = await client(content, "Content", "List", content.ListContentRequest())
        assert listing == []

    served(scenario)


def test_a_ref_has_one_writer_at_a_time_and_is_free_when_its_client_goes(served):
    async def scenario(client):
        async with client.open(content, "Content", "Write") as first:
            await first.send_message(write(content.WRITE, ref="r", data=b"x"))
            await first.recv_message()
            with pytest.raises(GRPCError) as raised:
                await client.write(write(content.STAT, ref="r"))
            assert raised.value.status is Status.UNAVAILABLE
            await first.cancel()
        (answer,) = await client.write(write(content.STAT, ref="r"))
        assert answer.offset == 1

    served(scenario)


def test_a_blob_is_read_in_any_range_and_in_messages_of_a_mebibyte(served):
    async def scenario(client):
        data = bytes(range(256)) * 10000
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        await client.write(write(content.COMMIT, ref="r", data=data))

        async def read(**more):
            return await client(content, "Content", "Read", content.ReadContentRequest(digest=digest, **more))

        whole = await read()
        assert b"".join(one.data for one in whole) == data
        assert [one.offset for one in whole] == [0, 1 << 20, 2 << 20]
        assert b"".join(one.data for one in await read(offset=5, size=7)) == data[5:12]
        assert await read(offset=len(data)) == []
        with pytest.raises(GRPCError) as raised:
            await read(offset=len(data) + 1)
        assert raised.value.status is Status.OUT_OF_RANGE

    served(scenario)


def test_another_namespace_does_not_see_a_blob_and_takes_it_over_without_a_byte(served):
    async def scenario(client):
        await client.write(write(content.COMMIT, ref="r", data=HELLO))
        status, text = await client.refused(content, "Content", "Info", content.InfoRequest(digest=DIGEST), "there")
        assert (status, text) == (Status.NOT_FOUND, f"content digest {DIGEST}: not found")
        stat, commit = await client.write(
            write(content.STAT, ref="r", total=6, expected=DIGEST),
            write(content.COMMIT, ref="r", offset=6, total=6, expected=DIGEST),
            namespace="there",
        )
        assert (stat.offset, commit.digest) == (6, DIGEST)
        delete = content.DeleteContentRequest(digest=DIGEST)
        await client(content, "Content", "Delete", delete)
        read = await client(content, "Content", "Read", content.ReadContentRequest(digest=DIGEST), "there")
        assert read[0].data == HELLO

    served(scenario)


def test_labels_follow_the_field_mask(served):
    async def scenario(client):
        await client.write(write(content.COMMIT, ref="r", data=HELLO, labels={"a": "1", "b": "2"}))

        async def update(paths, labels):
            request = content.UpdateRequest(info=content.Info(digest=DIGEST, labels=labels))
            request.update_mask.paths.extend(paths)
            return dict((await client(content, "Content", "Update", request)).info.labels)

        assert await update(["labels.a"], {"a": "9", "b": "9"}) == {"a": "9", "b": "2"}
        assert await update(["labels.b"], {}) == {"a": "9"}
        assert await update(["labels"], {"c": "3"}) == {"c": "3"}
        assert await update([], {"d": "4"}) == {"d": "4"}
        with pytest.raises(GRPCError) as raised:
            await update(["size"], {})
        assert raised.value.status is Status.INVALID_ARGUMENT

    served(scenario)


def test_what_only_a_lease_holds_goes_with_it_and_what_labels_hold_stays(served):
    async def scenario(client):
        async def put(data, lease="", labels=None):
            stream = client._method(content.DESCRIPTOR.services_by_name["Content"], "Write")
            headers = {"containerd-namespace": "here", **({"containerd-lease": lease} if lease else {})}
            async with stream.open(metadata=headers) as writing:
                await writing.send_message(write(content.COMMIT, ref=data.decode(), data=data, labels=labels), end=True)
                return (await writing.recv_message()).digest

        async def present():
            pages = await client(content, "Content", "List", content.ListContentRequest())
            return {info.digest for page in pages for info in page.info}

        await client(leases, "Leases", "Create", leases.CreateRequest(id="l"))
        leaf = await put(b"leaf")
        leased = await put(b"leased", "l")
        root = await put(b"root", labels={"containerd.io/gc.ref.content.0": leaf})
        loose = await put(b"loose")
        image = images.Image(name="i")
        image.target.digest, image.target.size, image.target.media_type = root, 4, "x"
        await client(images, "Images", "Create", images.CreateImageRequest(image=image))
        await client(leases, "Leases", "Create", leases.CreateRequest(id="other"))
        await client(leases, "Leases", "Delete", leases.DeleteRequest(id="other", sync=True))
        assert await present() == {leaf, leased, root}, loose
        await client(leases, "Leases", "Delete", leases.DeleteRequest(id="l", sync=True))
        assert await present() == {leaf, root}
        await client(images, "Images", "Delete", images.DeleteImageRequest(name="i", sync=True))
        assert await present() == set()

    served(scenario)


def test_a_committed_snapshot_has_its_own_labels_and_keeps_its_children(served):
    async def scenario(client):
        def key(**more):
            return {"snapshotter": "native", **more}

        async def call(name, request):
            return await client(snapshots, "Snapshots", name, request)

        await call("Prepare", snapshots.PrepareSnapshotRequest(**key(key="a", labels={"containerd.io/gc.root": "x"})))
        await call("Commit", snapshots.CommitSnapshotRequest(**key(key="a", name="c", labels={"k": "v"})))
        info = (await call("Stat", snapshots.StatSnapshotRequest(**key(key="c")))).info
        assert (info.kind, dict(info.labels)) == (snapshots.COMMITTED, {"k": "v"})
        await call("View", snapshots.ViewSnapshotRequest(**key(key="v", parent="c")))
        status, _ = await client.refused(
            snapshots, "Snapshots", "Remove", snapshots.RemoveSnapshotRequest(**key(key="c"))
        )
        assert status is Status.FAILED_PRECONDITION
        pages = await call("List", snapshots.ListSnapshotsRequest(snapshotter="native", filters=["kind==view"]))
        assert [one.name for page in pages for one in page.info] == ["v"]

    served(scenario)


def test_subscribers_hear_of_changes_with_type_and_namespace(served):
    async def scenario(client):
        async with client.open(events, "Events", "Subscribe") as stream:
            await stream.send_message(
                events.SubscribeRequest(filters=['topic=="/images/create",event.name==i']), end=True
            )
            await stream.recv_initial_metadata()
            image = images.Image(name="i")
            image.target.CopyFrom(descriptor_pb2.Descriptor(media_type="m", digest=DIGEST, size=6))
            await client(images, "Images", "Create", images.CreateImageRequest(image=image))
            heard = await stream.recv_message()
            await stream.cancel()
        assert (heard.namespace, heard.topic) == ("here", "/images/create")
        assert heard.event.type_url == "containerd.services.images.v1.ImageCreate"

    served(scenario)


@pytest.mark.parametrize(("namespace", "status"), [("", Status.FAILED_PRECONDITION), ("a b", Status.INVALID_ARGUMENT)])
def test_a_call_needs_a_namespace_that_is_one(served, namespace, status):
    async def scenario(client):
        refused, _ = await client.refused(images, "Images", "List", images.ListImagesRequest(), namespace)
        assert refused is status

    served(scenario)


def test_what_is_not_offered_says_so_by_name(served):
    async def scenario(client):
        request = mounts.ActivateRequest(name="m")
        refused = await client.refused(mounts, "Mounts", "Activate", request)
        assert refused == (Status.UNIMPLEMENTED, "method Activate not implemented")

    served(scenario)


def test_what_nobody_knows_is_refused_with_a_status_that_clients_read(served):
    """grpclib's own answer has no content type: grpc-go makes code Unknown of it and does not fall back."""

    async def scenario(client):
        for path, text in (
            ("/containerd.services.nothing.v1.Nothing/Get", "unknown service containerd.services.nothing.v1.Nothing"),
            ("/containerd.services.version.v1.Version/Nope",
             "unknown method Nope for service containerd.services.version.v1.Version"),
        ):  # fmt: skip
            call = UnaryUnaryMethod(client._channel, path, empty_pb2.Empty, empty_pb2.Empty)
            async with call.open() as stream:
                await stream.send_message(empty_pb2.Empty(), end=True)
                with pytest.raises(GRPCError) as raised:
                    await stream.recv_message()
            assert (raised.value.status, raised.value.message) == (Status.UNIMPLEMENTED, text)

    served(scenario)


def test_a_message_larger_than_containerd_takes_is_refused(served):
    async def scenario(client):
        with pytest.raises(GRPCError) as raised:
            await client.write(write(content.WRITE, ref="r", data=bytes(17 << 20)))
        assert raised.value.status is Status.RESOURCE_EXHAUSTED
        (answer,) = await client.write(write(content.WRITE, ref="r", data=bytes(15 << 20)))
        assert answer.offset == 15 << 20

    served(scenario)


def test_the_servers_health_can_be_asked_and_watched(served):
    async def scenario(client):
        health = await client(health_pb2, "Health", "Check", health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        status, _ = await client.refused(health_pb2, "Health", "Check", health_pb2.HealthCheckRequest(service="x"))
        assert status is Status.NOT_FOUND
        async with client.open(health_pb2, "Health", "Watch") as stream:
            await stream.send_message(health_pb2.HealthCheckRequest(), end=True)
            assert (await stream.recv_message()).status == health_pb2.HealthCheckResponse.SERVING
            await stream.cancel()

    served(scenario)


def test_sandboxes_are_noted_changed_by_field_and_run_by_nobody(served):
    async def scenario(client):
        async def store(name, request):
            return await client(sandbox, "Store", name, request)

        made = sandbox.StoreCreateRequest()
        made.sandbox.sandbox_id, made.sandbox.runtime.name = "s1", "io.containerd.runc.v2"
        made.sandbox.labels.update({"a": "1", "b": "2"})
        made.sandbox.extensions["x"].type_url = "t"
        await store("Create", made)
        refused = await client.refused(sandbox, "Store", "Create", made)
        assert refused == (Status.ALREADY_EXISTS, 'write error: sandbox bucket "s1" already exists: already exists')
        change = sandbox.StoreUpdateRequest(fields=["labels.b", "labels.c"])
        change.sandbox.sandbox_id = "s1"
        change.sandbox.labels.update({"c": "3", "a": "9"})
        changed = (await store("Update", change)).sandbox
        assert dict(changed.labels) == {"a": "1", "c": "3"}
        assert changed.extensions["x"].type_url == "t"
        change.fields[:] = ["created_at"]
        assert (await client.refused(sandbox, "Store", "Update", change))[0] is Status.INVALID_ARGUMENT
        found = await store("List", sandbox.StoreListRequest(filters=["labels.c==3"]))
        assert [one.sandbox_id for one in found.list] == ["s1"]
        other = await client(sandbox, "Store", "List", sandbox.StoreListRequest(), "there")
        assert list(other.list) == []
        start = sandbox.ControllerStartRequest(sandbox_id="s1")
        refused = await client.refused(sandbox, "Controller", "Start", start)
        assert refused == (Status.INVALID_ARGUMENT, "invalid argument: sandbox controller name can not be empty")
        start.sandboxer = "podsandbox"
        assert (await client.refused(sandbox, "Controller", "Start", start))[0] is Status.NOT_FOUND
        await store("Delete", sandbox.StoreDeleteRequest(sandbox_id="s1"))
        refused = await client.refused(sandbox, "Store", "Get", sandbox.StoreGetRequest(sandbox_id="s1"))
        assert refused == (Status.NOT_FOUND, 'bucket "s1" not found: not found')

    served(scenario)


def test_a_plugin_is_described_by_its_name(served):
    async def scenario(client):
        request = introspection.PluginInfoRequest(type="io.containerd.transfer.v1", id="local")
        assert (await client(introspection, "Introspection", "PluginInfo", request)).plugin.id == "local"
        request.id = "remote"
        refused = await client.refused(introspection, "Introspection", "PluginInfo", request)
        assert refused == (Status.NOT_FOUND, "plugin io.containerd.transfer.v1.remote not found: not found")

    served(scenario)


def test_a_namespace_that_nobody_made_has_no_labels_and_can_be_given_some(served):
    """dockerd asks for its own before it writes there, and ends when it is told that there is none."""

    async def scenario(client):
        look = namespaces.GetNamespaceRequest(name="moby")
        assert (await client(namespaces, "Namespaces", "Get", look)).namespace == namespaces.Namespace(name="moby")
        change = namespaces.UpdateNamespaceRequest(namespace=namespaces.Namespace(name="moby", labels={"a": "b"}))
        await client(namespaces, "Namespaces", "Update", change)
        assert dict((await client(namespaces, "Namespaces", "Get", look)).namespace.labels) == {"a": "b"}
        gone = namespaces.DeleteNamespaceRequest(name="x")
        refused, _ = await client.refused(namespaces, "Namespaces", "Delete", gone)
        assert refused is Status.NOT_FOUND

    served(scenario)


def test_a_namespace_with_something_in_it_stays(served):
    async def scenario(client):
        await client.write(write(content.COMMIT, ref="r", data=HELLO))
        listing = await client(namespaces, "Namespaces", "List", namespaces.ListNamespacesRequest())
        assert [one.name for one in listing.namespaces] == ["here"]
        request = namespaces.DeleteNamespaceRequest(name="here")
        status, text = await client.refused(namespaces, "Namespaces", "Delete", request)
        assert status is Status.FAILED_PRECONDITION and "blobs" in text

    served(scenario)
