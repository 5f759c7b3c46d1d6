"""Records to messages and back, for what several services share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import any_pb2, field_mask_pb2, timestamp_pb2

from sampan import errors
from sampan.api.containerd.types import descriptor_pb2, mount_pb2, platform_pb2
from sampan.containerd.containers import Payload
from sampan.containerd.labels import with_values
from sampan.containerd.services import Mount
from sampan.oci import digest as digests
from sampan.oci.image import Descriptor, Platform

_SECOND = 10**9


def timestamp(nanoseconds: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=nanoseconds // _SECOND, nanos=nanoseconds % _SECOND)


def nanoseconds(stamp: timestamp_pb2.Timestamp) -> int:
    return int(stamp.seconds) * _SECOND + int(stamp.nanos)


def descriptor(message: descriptor_pb2.Descriptor) -> Descriptor:
    """InvalidArgument for a digest that is none."""
    if not message.digest:
        raise errors.InvalidArgument("descriptor digest is empty: invalid argument")
    return Descriptor(message.media_type, digests.validate(message.digest), message.size, dict(message.annotations))


def descriptor_message(one: Descriptor) -> descriptor_pb2.Descriptor:
    return descriptor_pb2.Descriptor(
        media_type=one.media_type, digest=one.digest, size=one.size, annotations=dict(one.annotations)
    )


def mounts(messages: Iterable[mount_pb2.Mount]) -> list[Mount]:
    return [Mount(one.type, one.source, tuple(one.options), one.target) for one in messages]


def mount_messages(found: Iterable[Mount]) -> list[mount_pb2.Mount]:
    """In the words of mount(2): clients know no `lowerdir+=`, and shorten long options themselves."""
    return [
        mount_pb2.Mount(type=one.type, source=one.source, target=one.target, options=_options(one.options))
        for one in found
    ]


def _options(options: Sequence[str]) -> list[str]:
    lowers = [option.removeprefix("lowerdir+=") for option in options if option.startswith("lowerdir+=")]
    kept = [option for option in options if not option.startswith("lowerdir+=")]
    return [*kept, "lowerdir=" + ":".join(lowers)] if lowers else kept


def platform_message(one: Platform) -> platform_pb2.Platform:
    return platform_pb2.Platform(os=one.os, architecture=one.architecture, variant=one.variant)


def payload(message: any_pb2.Any) -> Payload | None:
    """None for one that is not set."""
    return Payload(message.type_url, message.value) if message.type_url or message.value else None


def present(message: Any, name: str) -> Payload | None:
    """The Any in field `name`; None when it is not set, which an empty one is."""
    found = getattr(message, name)
    return Payload(found.type_url, found.value) if message.HasField(name) else None


def any_message(found: Payload | None) -> any_pb2.Any | None:
    return None if found is None else any_pb2.Any(type_url=found.type_url, value=found.value)


def packed(message: Any) -> any_pb2.Any:
    """`message` in an Any, with its plain name as type, as containerd's typeurl writes it."""
    return any_pb2.Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def masked_labels(
    stored: Mapping[str, str], given: Mapping[str, str], mask: field_mask_pb2.FieldMask, what: str
) -> dict[str, str]:
    """The labels after an update whose mask may name `labels` and `labels.NAME`; a value "" removes a label.

    Without a mask all labels are replaced. InvalidArgument for a mask with anything else in it."""
    changed = dict(stored) if mask.paths else dict(given)
    for path in mask.paths:
        if path == "labels":
            changed = dict(given)
        elif path.startswith("labels."):
            key = path.removeprefix("labels.")
            changed[key] = given.get(key, "")
        else:
            raise errors.InvalidArgument(f'cannot update "{path}" field on {what}: invalid argument')
    return with_values(changed)
