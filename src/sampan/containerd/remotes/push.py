"""Pushing an image: blobs the registry lacks, then manifests, children before the index that names them.

A blob is looked for (HEAD), mounted from a repository of the same registry where the store knows it from, or uploaded
(`upload.py`). A manifest that has a `subject` is entered among its referrers, by us where the registry does not do it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from sampan import errors
from sampan.containerd import reachability
from sampan.containerd.content import ContentStore
from sampan.containerd.remotes.client import Host
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.registry import Repository, referrers_tag
from sampan.containerd.remotes.upload import Upload, location_of
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Progress
from sampan.oci import digest as digests
from sampan.oci import image, platform
from sampan.oci.image import Descriptor, Index, Manifest, descriptor_document

SOURCE_LABEL = "containerd.io/distribution.source."
# A layer of one blob is known from a few repositories; a label is no history.
_MOST_SOURCES = 5


class Push:
    """One push of one target to one host. `push` may be called once."""

    def __init__(
        self,
        content: ContentStore,
        repository: Repository,
        host: Host,
        settings: RegistrySettings,
        report: Callable[[Progress], None],
    ) -> None:
        self._content = content
        self._repository = repository
        self._host = host
        self._report = report
        self._attempts = settings.max_attempts
        self._slots = asyncio.Semaphore(settings.max_concurrent_uploads)
        self._path = repository.reference.path
        self._label = SOURCE_LABEL + repository.reference.domain
        self._scope = f"repository:{self._path}:pull,push"

    async def push(self, target: Descriptor) -> Descriptor:
        """The pushed manifest's descriptor. Refusal; NotFound for content that is not here; InvalidArgument."""
        if target.media_type in image.INDEX_TYPES and not reachability.is_whole(self._content, target):
            # A registry refuses an index whose members it lacks: push the one image that was pulled of it.
            here = reachability.runnable(self._content, target, platform.host())
            if here is not None:
                target = here[0]
        documents = list(reachability.documents(self._content, target))
        if not documents:
            raise errors.NotFound(f"content {target.digest}: not found")
        blobs = self._blobs([found for _, found in documents if isinstance(found, Manifest)])
        uploads = [asyncio.create_task(self._blob(blob)) for blob in blobs]
        try:
            await asyncio.gather(*uploads)
        finally:
            for upload in uploads:
                upload.cancel()
            await asyncio.gather(*uploads, return_exceptions=True)
        # Parents come first in `documents`; a registry wants the children first.
        for descriptor, found in reversed(documents):
            await self._manifest(descriptor, found, top=descriptor.digest == target.digest)
        tag = self._repository.reference.tag or target.digest
        self._report(Progress("", f"{tag}: digest: {target.digest} size: {target.size}"))
        return target

    def _blobs(self, manifests: list[Manifest]) -> list[Descriptor]:
        """Everything under the manifests, each once."""
        found: dict[str, Descriptor] = {}
        for manifest in manifests:
            for blob in (manifest.config, *manifest.layers):
                if blob.media_type == image.MEDIA_HOST_LAYER:
                    raise errors.InvalidArgument("the image of this machine's own root file system cannot be pushed")
                if blob.media_type in image.FOREIGN_LAYER_TYPES:
                    # Its licence lets only its own URLs hand it out.
                    self._report(Progress(_id(blob), "Skipped foreign layer"))
                    continue
                found[blob.digest] = blob
        for blob in found.values():
            if blob.media_type in image.LAYER_TYPES:
                self._report(Progress(_id(blob), "Preparing"))
        return list(found.values())

    async def _blob(self, blob: Descriptor) -> None:
        shown = blob.media_type in image.LAYER_TYPES
        async with self._slots:
            if await self._exists(blob):
                outcome = "Layer already exists"
            else:
                source = self._source(blob)
                mounted, location = await self._mount(blob, source)
                if not mounted:
                    await self._upload(blob, location, shown)
                outcome = f"Mounted from {source}" if mounted else "Pushed"
                await asyncio.to_thread(self._remember, blob)
        if shown:
            self._report(Progress(_id(blob), outcome))

    async def _exists(self, blob: Descriptor) -> bool:
        url = self._host.url(f"{self._path}/blobs/{blob.digest}")
        async with self._host.request("HEAD", url, scope=self._scope, expect=(200, 404)) as response:
            return response.status == 200

    def _sources(self, blob: Descriptor) -> list[str]:
        """Repositories of this registry that have had the blob. NotFound when it is not here."""
        return [one for one in self._content.info(blob.digest).labels.get(self._label, "").split(",") if one]

    def _source(self, blob: Descriptor) -> str:
        return next((one for one in self._sources(blob) if one != self._path), "")

    def _remember(self, blob: Descriptor) -> None:
        """The next push of this layer to another repository can mount it from here."""
        before = self._sources(blob)
        if self._path not in before:
            known = ",".join([*before, self._path][-_MOST_SOURCES:])
            self._content.label(blob.digest, {self._label: known})

    async def _mount(self, blob: Descriptor, source: str) -> tuple[bool, str]:
        """Whether the registry took the blob over from `source`, and where to upload it to if it said that instead."""
        if not source:
            return False, ""
        url = self._host.url(f"{self._path}/blobs/uploads/", {"mount": blob.digest, "from": source})
        scope = f"{self._scope} repository:{source}:pull"
        try:
            async with self._host.request("POST", url, scope=scope, body=b"", expect=(201, 202)) as response:
                return response.status == 201, "" if response.status == 201 else location_of(url, response)
        except (Refusal, errors.Unauthorized):
            return False, ""  # no right to read it there: the upload asks for its own

    async def _upload(self, blob: Descriptor, location: str, shown: bool) -> None:
        def moved(at: int) -> None:
            if shown:
                self._report(Progress(_id(blob), "Pushing", at, blob.size))

        await Upload(self._host, self._path, self._scope, self._attempts, moved, location).send(self._content, blob)

    async def _manifest(self, descriptor: Descriptor, found: Manifest | Index, top: bool) -> None:
        reference = self._repository.reference
        name = (reference.tag if top and reference.tag else "") or descriptor.digest
        data = self._content.read(descriptor.digest)
        knows_subjects = await self._put(name, found.media_type, data)
        if found.subject is not None and not knows_subjects:
            await self._enter_referrer(found.subject.digest, _as_referrer(descriptor, found, data))

    async def _put(self, name: str, media_type: str, data: bytes) -> bool:
        """Whether the registry took note of the manifest's subject."""
        async with self._host.request(
            "PUT",
            self._host.url(f"{self._path}/manifests/{name}"),
            scope=self._scope,
            headers={"Content-Type": media_type},
            body=data,
            expect=(200, 201, 202),
        ) as response:
            return "OCI-Subject" in response.headers

    async def _enter_referrer(self, subject: str, entry: Descriptor) -> None:
        """By the tag that stands for the referrers API (distribution-spec, "Pushing Manifests with Subject")."""
        tag = referrers_tag(subject)
        try:
            _, data = await self._repository.get_manifest(tag)
            before = image.parse(data)
            members = list(before.manifests) if isinstance(before, Index) else []
        except (Refusal, errors.InvalidArgument):
            members = []  # the first one
        if any(one.digest == entry.digest for one in members):
            return
        document = {
            "schemaVersion": 2,
            "mediaType": image.MEDIA_OCI_INDEX,
            "manifests": [descriptor_document(one) for one in (*members, entry)],
        }
        await self._put(tag, image.MEDIA_OCI_INDEX, json.dumps(document).encode())


def _as_referrer(descriptor: Descriptor, found: Manifest | Index, data: bytes) -> Descriptor:
    """How a list of referrers names a manifest: with its artifact type and annotations."""
    kind = json.loads(data).get("artifactType") or (found.config.media_type if isinstance(found, Manifest) else "")
    return Descriptor(
        found.media_type, digests.validate(descriptor.digest), len(data), found.annotations, artifact_type=str(kind)
    )


def _id(blob: Descriptor) -> str:
    return blob.digest.partition(":")[2][:12]
