"""containerd.services.images.v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.protobuf import empty_pb2
from grpclib import GRPCError, Status

from sampan import errors
from sampan.api.containerd.events import image_pb2 as told
from sampan.api.containerd.services.images.v1 import images_pb2 as api
from sampan.api.containerd.types import descriptor_pb2
from sampan.containerd import filters
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import checked_labels, with_values
from sampan.containerd.services import Image
from sampan.containerd.stores import StoreTable
from sampan.oci import digest as digests
from sampan.oci.image import Descriptor


class ImagesService:
    descriptor = api.DESCRIPTOR.services_by_name["Images"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table

    async def get(self, call: Call, request: api.GetImageRequest) -> api.GetImageResponse:
        return api.GetImageResponse(image=_message(self._table.of(call.namespace).images.get(request.name)))

    async def list(self, call: Call, request: api.ListImagesRequest) -> api.ListImagesResponse:
        wanted = filters.parse(request.filters)
        found = self._table.of(call.namespace).images.list()
        return api.ListImagesResponse(images=[_message(one) for one in found if wanted.matches(_fields(one))])

    async def create(self, call: Call, request: api.CreateImageRequest) -> api.CreateImageResponse:
        if not request.image.name:
            raise GRPCError(Status.INVALID_ARGUMENT, "Image.Name required")
        image, images = _image(request.image), self._table.of(call.namespace).images
        with self._table.metadata.transaction(durable=True):
            if any(one.name == image.name for one in images.list()):
                raise errors.AlreadyExists(f'image "{image.name}": already exists')
            made = images.put(image)
        self._table.changed(call.namespace)
        self._tell(call, "create", told.ImageCreate(name=made.name, labels=dict(made.labels)))
        return api.CreateImageResponse(image=_message(made))

    async def update(self, call: Call, request: api.UpdateImageRequest) -> api.UpdateImageResponse:
        images = self._table.of(call.namespace).images
        if not request.image.name:
            raise GRPCError(Status.INVALID_ARGUMENT, "Image.Name required")
        with self._table.metadata.transaction(durable=True):
            stored = images.get(request.image.name)
            made = images.put(_updated(stored, request.image, list(request.update_mask.paths)))
        self._table.changed(call.namespace, removed=True)
        self._tell(call, "update", told.ImageUpdate(name=made.name, labels=dict(made.labels)))
        return api.UpdateImageResponse(image=_message(made))

    async def delete(self, call: Call, request: api.DeleteImageRequest) -> empty_pb2.Empty:
        """With `sync`, only after what the image alone reached is gone as well."""
        images = self._table.of(call.namespace).images
        with self._table.metadata.transaction(durable=True):
            if request.HasField("target"):
                found = images.get(request.name).target.digest
                if found != request.target.digest:
                    raise errors.NotFound(
                        f'image "{request.name}" has target {found}, not {request.target.digest}: not found'
                    )
            images.delete(request.name)
        self._table.changed(call.namespace, removed=True)
        self._tell(call, "delete", told.ImageDelete(name=request.name))
        if request.sync:
            await self._table.collect(call.namespace)
        return empty_pb2.Empty()

    def _tell(self, call: Call, verb: str, message: object) -> None:
        publish(self._table.events, call.namespace, f"/images/{verb}", message)


def _fields(image: Image) -> filters.Fields:
    plain = {
        "name": image.name,
        "target.digest": image.target.digest,
        "target.mediatype": image.target.media_type,
    }
    maps: Mapping[str, Mapping[str, str]] = {"labels": image.labels, "annotations": image.target.annotations}

    def value(path: Sequence[str]) -> str | None:
        if path[0] in maps:
            return filters.labels(path[1:], maps[path[0]])
        return plain.get(".".join(path))

    return value


def _updated(stored: Image, given: api.Image, paths: list[str]) -> Image:
    """`stored` with what the mask names. InvalidArgument for a field that no mask may name."""
    if not paths:
        return replace(_image(given), created_at=stored.created_at)
    changed = stored
    for path in paths:
        if path == "labels":
            changed = replace(changed, labels=dict(given.labels))
        elif path.startswith("labels."):
            key = path.removeprefix("labels.")
            changed = replace(changed, labels={**changed.labels, key: given.labels.get(key, "")})
        elif path == "target":
            changed = replace(changed, target=_target(given.target))
        elif path == "annotations":
            target = replace(changed.target, annotations=dict(given.target.annotations))
            changed = replace(changed, target=target)
        elif path.startswith("annotations."):
            key = path.removeprefix("annotations.")
            annotations = {**changed.target.annotations, key: given.target.annotations.get(key, "")}
            changed = replace(changed, target=replace(changed.target, annotations=annotations))
        else:
            raise errors.InvalidArgument(f'cannot update "{path}" field on image "{given.name}": invalid argument')
    return replace(changed, labels=with_values(checked_labels(changed.labels, "image.Labels")))


def _image(message: api.Image) -> Image:
    labels = checked_labels(message.labels, "image.Labels")
    return Image(message.name, _target(message.target), labels=with_values(labels))


def _target(message: descriptor_pb2.Descriptor) -> Descriptor:
    """InvalidArgument for what is no whole descriptor."""
    try:
        digests.validate(message.digest)
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(f'Target.Digest "{message.digest}" invalid: {error}: invalid argument') from error
    if message.size <= 0:
        raise errors.InvalidArgument("Target.Size must be greater than zero: invalid argument")
    if not message.media_type:
        raise errors.InvalidArgument("Target.MediaType must be set: invalid argument")
    return fields.descriptor(message)


def _message(image: Image) -> api.Image:
    return api.Image(
        name=image.name,
        labels=dict(image.labels),
        target=fields.descriptor_message(image.target),
        created_at=fields.timestamp(image.created_at),
        updated_at=fields.timestamp(image.updated_at),
    )
