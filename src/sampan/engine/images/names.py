"""Giving images names and taking them away: what tag, pull, load and removal share.

An image never loses its last name by accident: before one is taken or moved away, the image gets a stand-in name.
"""

from __future__ import annotations

from sampan.containerd.services import Image
from sampan.engine.images.catalog import DANGLING, PLATFORM_LABEL, Catalog
from sampan.engine.services import Events
from sampan.errors import InvalidArgument, NotFound
from sampan.oci import reference
from sampan.oci.image import Descriptor
from sampan.oci.reference import Reference


def tag(catalog: Catalog, events: Events, source: str, repository: str, label: str) -> Reference:
    """`docker tag`: the new name. NotFound (source), InvalidArgument (name), in Docker's words."""
    details, shown = catalog.find(source)
    name = parse_target(repository, label)
    record = _record(catalog, shown)
    if record is not None:
        # The very descriptor of the source's name, so that an index stays an index.
        put(catalog, name, record.target, record.labels.get(PLATFORM_LABEL, ""))
    else:
        put(catalog, name, details.manifest)
    events.publish("image", "tag", details.id, {**details.labels, "name": name.familiar})
    return name


def _record(catalog: Catalog, shown: str) -> Image | None:
    try:
        return catalog.named(reference.parse_normalized(shown).with_default_tag())
    except InvalidArgument:
        return None  # an ID


def parse_target(repository: str, label: str) -> Reference:
    """The `repo` and `tag` parameters as one tagged name. InvalidArgument."""
    name = reference.parse_normalized(repository)
    if name.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    return name.tagged(label) if label else name.with_default_tag()


def put(catalog: Catalog, name: Reference, target: Descriptor, platform: str = "") -> Image:
    """Point `name` at `target`; what it pointed at before stays as a dangling image when it has no other name.

    `platform` ("linux/arm64"): which manifest of an index the name stands for; "" is this host's."""
    old = catalog.named(name)
    labels = {PLATFORM_LABEL: platform} if platform else {}
    if old is not None:
        if old.target.digest == target.digest and old.labels.get(PLATFORM_LABEL, "") == platform:
            return old
        keep(catalog, old)
        labels = {**{key: value for key, value in old.labels.items() if key != PLATFORM_LABEL}, **labels}
    record = catalog.names.put(Image(str(name), target, labels=labels))
    settle(catalog, record)
    return record


def take(catalog: Catalog, name: Reference) -> None:
    """Take `name` away; its image stays, under a stand-in when this was its last. NotFound."""
    old = catalog.named(name)
    if old is None:
        raise NotFound(f"No such image: {name.familiar}")
    keep(catalog, old)
    catalog.names.delete(old.name)


def keep(catalog: Catalog, losing: Image) -> None:
    """Give the image of the name `losing` a stand-in unless it has another name."""
    details = catalog.details_of(losing)
    if details is None:
        return
    names = [name.name for entry in catalog.entries() if entry.id == details.id for name in entry.names]
    if all(name == losing.name for name in names):
        catalog.names.put(Image(f"{DANGLING}@{details.manifest.digest}", details.manifest))


def settle(catalog: Catalog, named: Image) -> None:
    """Drop the stand-ins of the image of `named` if it has a real name."""
    details = catalog.details_of(named)
    if details is None:
        return
    every = [name.name for name in catalog.entry_of(details.id).names]
    stand_ins = [name for name in every if name.startswith(DANGLING + "@")]
    if len(stand_ins) < len(every):
        for name in stand_ins:
            catalog.names.delete(name)


def forget(catalog: Catalog, image_id: str) -> None:
    """Delete the stand-ins, which are all the names that the image has left."""
    for name in catalog.entry_of(image_id).names:
        catalog.names.delete(name.name)
