"""containerd.services.images.v1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.protobuf import empty_pb2

from sampan import errors
from sampan.api.containerd.events import image_pb2 as told
from sampan.api.containerd.services.images.v1 import images_pb2 as api
from sampan.containerd import filters
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.services import Image
from sampan.containerd.stores import StoreTable


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
            raise errors.InvalidArgument("image name is required for update: invalid argument")
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
            if request.HasField("target") and images.get(request.name).target.digest != request.target.digest:
                raise errors.NotFound(f'image "{request.name}" has a different target: not found')
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
            changed = replace(changed, labels=fields.checked_labels(given.labels))
        elif path.startswith("labels."):
            key = path.removeprefix("labels.")
            changed = replace(changed, labels={**changed.labels, key: given.labels.get(key, "")})
        elif path == "target":
            changed = replace(changed, target=fields.descriptor(given.target))
        elif path in ("annotations", "target.annotations"):
            target = replace(changed.target, annotations=dict(given.target.annotations))
            changed = replace(changed, target=target)
        else:
            raise errors.InvalidArgument(f'cannot update "{path}" field on image "{given.name}": invalid argument')
    return replace(changed, labels={key: value for key, value in changed.labels.items() if value})


def _image(message: api.Image) -> Image:
    if not message.name:
        raise errors.InvalidArgument("image name must not be empty: invalid argument")
    labels = {key: value for key, value in fields.checked_labels(message.labels).items() if value}
    return Image(message.name, fields.descriptor(message.target), labels=labels)


def _message(image: Image) -> api.Image:
    return api.Image(
        name=image.name,
        labels=dict(image.labels),
        target=fields.descriptor_message(image.target),
        created_at=fields.timestamp(image.created_at),
        updated_at=fields.timestamp(image.updated_at),
    )
