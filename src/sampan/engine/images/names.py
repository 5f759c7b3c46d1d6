"""Giving images names and taking them away: what tag, pull, load and removal share.

An image never loses its last name by accident: before one is taken or moved away, the image gets a stand-in name.
"""

from __future__ import annotations

from sampan.containerd.services import Image
from sampan.engine.images.catalog import DANGLING, Catalog, Details
from sampan.engine.services import Events
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.oci import reference
from sampan.oci.image import Descriptor
from sampan.oci.reference import Reference


def tag(catalog: Catalog, events: Events, source: str, repository: str, label: str) -> Reference:
    """`docker tag`: the new name. NotFound (source), InvalidArgument (name), in Docker's words."""
    details, shown = catalog.find(source)
    name = parse_target(repository, label)
    put(catalog, name, _target(catalog, details, shown))
    events.publish("image", "tag", details.id, {**details.labels, "name": name.familiar})
    return name


def _target(catalog: Catalog, details: Details, shown: str) -> Descriptor:
    """The descriptor to point at: the very one of the source's name, so that an index stays an index."""
    try:
        named = catalog.named(reference.parse_normalized(shown).with_default_tag())
    except InvalidArgument:
        named = None  # an ID
    return named.target if named is not None else details.manifest


def parse_target(repository: str, label: str) -> Reference:
    """The `repo` and `tag` parameters as one tagged name. InvalidArgument."""
    name = reference.parse_normalized(repository)
    if name.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    return name.tagged(label) if label else name.with_default_tag()


def put(catalog: Catalog, name: Reference, target: Descriptor) -> Image:
    """Point `name` at `target`; what it pointed at before stays as a dangling image when it has no other name."""
    old = catalog.named(name)
    if old is not None and old.target.digest != target.digest:
        keep(catalog, old)
    record = catalog.names.put(Image(str(name), target, labels=old.labels if old is not None else {}))
    settle(catalog, target)
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
    details = catalog.details(losing.target)
    if details is None:
        return
    others = [name for name in catalog.entry_of(details.id).names if name.name != losing.name]
    if not others:
        catalog.names.put(Image(f"{DANGLING}@{losing.target.digest}", losing.target))


def settle(catalog: Catalog, target: Descriptor) -> None:
    """Drop the stand-ins of an image that has a real name again."""
    details = catalog.details(target)
    if details is None:
        return
    every = [name.name for name in catalog.entry_of(details.id).names]
    stand_ins = [name for name in every if name.startswith(DANGLING + "@")]
    if len(stand_ins) < len(every):
        for name in stand_ins:
            catalog.names.delete(name)


def forget(catalog: Catalog, image_id: str) -> None:
    """Delete every name of the image, stand-ins too. Conflict when it got a new name meanwhile."""
    for name in catalog.entry_of(image_id).names:
        if not name.name.startswith(DANGLING + "@"):
            raise Conflict(f"conflict: unable to delete {image_id[7:19]} (must be forced) - image is referenced")
    for name in catalog.entry_of(image_id).names:
        catalog.names.delete(name.name)
