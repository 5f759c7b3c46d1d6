"""containerd.services.transfer.v1: one call whose source and destination say what is to be done.

| from | to | |
|---|---|---|
| OCIRegistry | ImageStore | pull |
| ImageStore | OCIRegistry | push |
| ImageStore | ImageStore | tag |
| ImageImportStream | ImageStore | import |
| ImageStore | ImageExportStream | export |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from google.protobuf import any_pb2, empty_pb2

from sampan import errors
from sampan.api.containerd.events import image_pb2, snapshot_pb2
from sampan.api.containerd.services.transfer.v1 import transfer_pb2 as api
from sampan.api.containerd.types import platform_pb2
from sampan.api.containerd.types.transfer import imagestore_pb2, importexport_pb2, progress_pb2, registry_pb2
from sampan.containerd.grpc import fields, windows
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.grpc.streaming import StreamingService
from sampan.containerd.interchange.naming import ImageReference, StoreTarget
from sampan.containerd.interchange.steps import Report, Step
from sampan.containerd.interchange.transfers import Outcome, Remote, Transfers
from sampan.containerd.labels import checked_labels
from sampan.containerd.remotes.auth import Lookup
from sampan.containerd.services import Credentials
from sampan.containerd.stores import StoreTable
from sampan.oci import platform as platforms
from sampan.oci.image import Platform

_KINDS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        registry_pb2.OCIRegistry,
        imagestore_pb2.ImageStore,
        importexport_pb2.ImageImportStream,
        importexport_pb2.ImageExportStream,
    )
}
Ends = tuple[type, type]


class TransferService:
    descriptor = api.DESCRIPTOR.services_by_name["Transfer"]

    def __init__(self, table: StoreTable, streaming: StreamingService) -> None:
        self._table, self._streaming = table, streaming
        self._transfers = Transfers(table)
        self._verbs: dict[Ends, Callable[[Call, Any, Any, Report], Awaitable[None]]] = {
            (registry_pb2.OCIRegistry, imagestore_pb2.ImageStore): self._pull,
            (imagestore_pb2.ImageStore, registry_pb2.OCIRegistry): self._push,
            (imagestore_pb2.ImageStore, imagestore_pb2.ImageStore): self._tag,
            (importexport_pb2.ImageImportStream, imagestore_pb2.ImageStore): self._import,
            (imagestore_pb2.ImageStore, importexport_pb2.ImageExportStream): self._export,
        }

    async def close(self) -> None:
        await self._transfers.close()

    async def transfer(self, call: Call, request: api.TransferRequest) -> empty_pb2.Empty:
        source, destination = _decoded(request.source), _decoded(request.destination)
        verb = self._verbs.get((type(source), type(destination)))
        if verb is None:
            names = (type(source).__name__, type(destination).__name__)
            raise errors.Unimplemented(f"method Transfer not implemented for {names[0]} to {names[1]}")
        if not request.options.progress_stream:
            await verb(call, source, destination, lambda step: None)
            return empty_pb2.Empty()
        progress = self._streaming.channel(call.namespace, request.options.progress_stream)
        try:
            await verb(call, source, destination, lambda step: progress.send(_progress(step)))
        finally:
            await progress.close()
        return empty_pb2.Empty()

    async def _pull(
        self, call: Call, source: registry_pb2.OCIRegistry, store: imagestore_pb2.ImageStore, report: Report
    ) -> None:
        self._table.changed(call.namespace)
        remote = self._remote(call, source)
        self._tell(call, await self._transfers.pull(call.namespace, call.lease, remote, _target(store), report))

    async def _push(
        self, call: Call, store: imagestore_pb2.ImageStore, destination: registry_pb2.OCIRegistry, report: Report
    ) -> None:
        wanted = [_platform(one) for one in store.platforms]
        await self._transfers.push(call.namespace, store.name, wanted, self._remote(call, destination), report)

    async def _tag(
        self, call: Call, source: imagestore_pb2.ImageStore, store: imagestore_pb2.ImageStore, report: Report
    ) -> None:
        self._table.changed(call.namespace)
        self._tell(call, self._transfers.tag(call.namespace, source.name, _target(store)))

    async def _import(
        self, call: Call, source: importexport_pb2.ImageImportStream, store: imagestore_pb2.ImageStore, report: Report
    ) -> None:
        self._table.changed(call.namespace)
        channel = self._streaming.channel(call.namespace, source.stream)
        try:
            async with aclosing(windows.read(channel)) as pieces:
                outcome = await self._transfers.load(call.namespace, call.lease, pieces, _target(store), report)
        finally:
            await channel.close()
        self._tell(call, outcome)

    async def _export(
        self, call: Call, store: imagestore_pb2.ImageStore, to: importexport_pb2.ImageExportStream, report: Report
    ) -> None:
        channel = self._streaming.channel(call.namespace, to.stream)
        wanted = None if to.all_platforms else [_platform(one) for one in to.platforms] or [platforms.host()]
        names = [one.name for one in store.extra_references] or [store.name]
        docker = not to.skip_compatibility_manifest
        try:
            async with aclosing(self._transfers.save(call.namespace, names, wanted, docker, report)) as pieces:
                await windows.write(channel, pieces)
        finally:
            await channel.close()

    def _remote(self, call: Call, message: registry_pb2.OCIRegistry) -> Remote:
        resolver = message.resolver
        if resolver.headers:
            raise errors.Unimplemented("transfer with HTTP headers of the client's own")
        lookup = self._lookup(call, resolver.auth_stream, message.reference)
        return Remote(message.reference, resolver.default_scheme, resolver.host_dir, lookup)

    def _lookup(self, call: Call, stream: str, reference: str) -> Lookup | None:
        """Credentials by the client's own stream."""
        if not stream:
            return None
        channel = self._streaming.channel(call.namespace, stream)

        async def ask(host: str) -> Credentials:
            channel.send(registry_pb2.AuthRequest(host=host, reference=reference))
            while (answer := await channel.receive()) is not None:
                if isinstance(answer, registry_pb2.AuthResponse):
                    return _credentials(answer)
            return Credentials()

        return ask

    def _tell(self, call: Call, outcome: Outcome) -> None:
        for snapshotter, key, parent, chain in outcome.snapshots:
            prepared = snapshot_pb2.SnapshotPrepare(key=key, parent=parent, snapshotter=snapshotter)
            publish(self._table.events, call.namespace, "/snapshot/prepare", prepared)
            committed = snapshot_pb2.SnapshotCommit(key=key, name=chain, snapshotter=snapshotter)
            publish(self._table.events, call.namespace, "/snapshot/commit", committed)
        for image, is_new in outcome.images:
            kind = image_pb2.ImageCreate if is_new else image_pb2.ImageUpdate
            topic = "/images/create" if is_new else "/images/update"
            publish(self._table.events, call.namespace, topic, kind(name=image.name, labels=dict(image.labels)))


def _decoded(end: any_pb2.Any) -> Any:
    kind = _KINDS.get(end.type_url.rpartition("/")[2])
    if kind is None:
        raise errors.Unimplemented(f"transfer type {end.type_url}")
    try:
        return kind.FromString(end.value)
    except Exception as error:
        raise errors.InvalidArgument(f"invalid {end.type_url}: {error}") from error


def _target(message: imagestore_pb2.ImageStore) -> StoreTarget:
    return StoreTarget(
        name=message.name,
        labels=checked_labels(message.labels),
        platforms=[_platform(one) for one in message.platforms],
        all_metadata=message.all_metadata,
        references=[
            ImageReference(one.name, one.is_prefix, one.allow_overwrite, one.add_digest, one.skip_named_digest)
            for one in message.extra_references
        ],
        unpacks=[(_platform(one.platform), one.snapshotter) for one in message.unpacks],
    )


def _platform(message: platform_pb2.Platform) -> Platform:
    return platforms.normalize(
        Platform(message.os, message.architecture, message.variant, message.os_version, tuple(message.os_features))
    )


def _credentials(answer: registry_pb2.AuthResponse) -> Credentials:
    """Unimplemented for a header of the client's own making."""
    if answer.authType == registry_pb2.CREDENTIALS:
        return Credentials(username=answer.username, password=answer.secret)
    if answer.authType == registry_pb2.REFRESH:
        return Credentials(identity_token=answer.secret)
    if answer.authType == registry_pb2.HEADER:
        raise errors.Unimplemented("authorization by a header of the client's own")
    return Credentials()


def _progress(step: Step) -> progress_pb2.Progress:
    message = progress_pb2.Progress(
        event=step.event, name=step.name, parents=list(step.parents), progress=step.progress, total=step.total
    )
    if step.descriptor is not None:
        message.desc.CopyFrom(fields.descriptor_message(step.descriptor))
    return message
