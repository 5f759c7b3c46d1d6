"""`docker save` and `docker load` (Engine API 1.51, ImageGet, ImageGetAll, ImageLoad): names and words around the
core's image archives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from sampan.api.docker.images import ProgressLine
from sampan.containerd.services import Image, Progress
from sampan.containerd.services import Transfer as Archiver
from sampan.engine.images import names
from sampan.engine.images.catalog import Catalog, Details, parse_name
from sampan.engine.images.transfer import Tell, line
from sampan.engine.services import Events
from sampan.errors import InvalidArgument
from sampan.oci import reference
from sampan.oci.image import Descriptor


@dataclass(frozen=True, slots=True)
class Archives:
    """The parts that saving and loading touch."""

    catalog: Catalog
    archiver: Archiver
    events: Events

    def save(self, texts: Sequence[str]) -> Iterator[bytes]:
        """The archive of the images that `texts` name, in pieces; a repository without a tag is all of its tags.

        NotFound, InvalidArgument before the first piece."""
        chosen: dict[str, tuple[str | Descriptor, Details]] = {}
        for text in texts:
            chosen.update(self._chosen(text))
        pieces = self.archiver.save([one for one, _ in chosen.values()])
        # Drawn here, so that what cannot be saved is an error and not a broken archive.
        first = next(pieces)
        for image_id, details in {details.id: details for _, details in chosen.values()}.items():
            self.events.publish("image", "save", image_id, {**details.labels, "name": image_id})
        return chain([first], pieces)

    def _chosen(self, text: str) -> dict[str, tuple[str | Descriptor, Details]]:
        """What one argument stands for: core names, or the descriptor of an image given by its ID or digest."""
        try:
            name = reference.parse_normalized(text)
        except InvalidArgument:
            name = None
        if name is not None and not name.tag and not name.digest:
            tags = {
                str(tag): one.details for one in self.catalog.entries() for tag in one.tags if tag.name == name.name
            }
            if tags:
                return {tag: (tag, tags[tag]) for tag in sorted(tags)}
        details, _ = self.catalog.find(text)
        record = self.catalog.named(name) if name is not None and name.tag and not name.digest else None
        if record is not None:
            return {record.name: (record.name, details)}
        return {details.manifest.digest: (details.manifest, details)}

    async def load(self, archive: AsyncIterator[bytes], quiet: bool, tell: Tell) -> None:
        """Bring the archive's images in and tell their names. InvalidArgument, DataLoss."""
        before = {record.name: record for record in self.catalog.names.list()}

        def report(step: Progress) -> None:
            if not quiet:
                tell(line(step))

        for record in await self.archiver.load(archive, progress=report):
            details = self.catalog.details_of(record)
            shown = record.target.digest if details is None else details.id
            name = parse_name(record.name)
            if name is not None and name.tag:
                self._replace(before.get(record.name), record, tell)
                tell(ProgressLine(stream=f"Loaded image: {name.familiar}\n"))
            else:
                # The name is the importer's own invention: the image is shown as one without.
                names.keep(self.catalog, record)
                self.catalog.names.delete(record.name)
                tell(ProgressLine(stream=f"Loaded image ID: {shown}\n"))
            labels = {} if details is None else details.labels
            self.events.publish("image", "load", shown, {**labels, "name": shown})

    def _replace(self, old: Image | None, record: Image, tell: Tell) -> None:
        """What the name pointed at before stays as a dangling image."""
        if old is not None and old.target.digest != record.target.digest:
            details = self.catalog.details_of(old)
            if details is not None:
                names.keep(self.catalog, old)
                text = f"The image {shown(record)} already exists, renaming the old one with ID {details.id}"
                tell(ProgressLine(stream=f"{text} to empty string\n"))
        names.settle(self.catalog, record)


def shown(record: Image) -> str:
    name = parse_name(record.name)
    return record.name if name is None else name.familiar
