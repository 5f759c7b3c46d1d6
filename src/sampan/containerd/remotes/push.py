"""Pushing an image: blobs the registry lacks, then manifests, children before the index that names them.

A blob is looked for (HEAD), mounted from a repository of the same registry where the store knows it from, or uploaded:
in one PUT when it is small, in chunks when it is not (distribution-spec, "Pushing a blob").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlencode, urljoin

import aiohttp

from sampan import errors
from sampan.containerd import reachability
from sampan.containerd.content import ContentStore
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.registry import Repository
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Progress
from sampan.oci import image, platform
from sampan.oci.image import Descriptor, Index, Manifest

# Up to this size a blob goes in one request, which may be sent again; a larger one in chunks of this size.
_CHUNK = 8 << 20


class Push:
    """One push of one target. `push` may be called once."""

    def __init__(
        self,
        content: ContentStore,
        repository: Repository,
        settings: RegistrySettings,
        report: Callable[[Progress], None],
    ) -> None:
        self._content = content
        self._repository = repository
        self._report = report
        self._slots = asyncio.Semaphore(settings.max_concurrent_uploads)
        self._scope = f"repository:{repository.reference.path}:pull,push"

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
        blobs: dict[str, Descriptor] = {}
        for _, found in documents:
            if isinstance(found, Manifest):
                for blob in (found.config, *found.layers):
                    if blob.media_type == image.MEDIA_HOST_LAYER:
                        raise errors.InvalidArgument(
                            "the image of this machine's own root file system cannot be pushed"
                        )
                    blobs[blob.digest] = blob
        for blob in blobs.values():
            if blob.media_type in image.LAYER_TYPES:
                self._report(Progress(_id(blob), "Preparing"))
        uploads = [asyncio.create_task(self._blob(blob)) for blob in blobs.values()]
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

    async def _blob(self, blob: Descriptor) -> None:
        shown = blob.media_type in image.LAYER_TYPES
        async with self._slots:
            if await self._exists(blob):
                outcome = "Layer already exists"
            else:
                source = self._content.info(blob.digest).labels.get(
                    f"containerd.io/distribution.source.{self._repository.reference.domain}", ""
                ).partition(",")[0]  # fmt: skip
                location = await self._begin(blob, source if source != self._repository.reference.path else "")
                if location:
                    await self._upload(blob, location)
                    outcome = "Pushed"
                else:
                    outcome = f"Mounted from {source}"
        if shown:
            self._report(Progress(_id(blob), outcome))

    async def _exists(self, blob: Descriptor) -> bool:
        url = self._repository.url(f"blobs/{blob.digest}")
        async with self._repository.request("HEAD", url, scope=self._scope, expect=(200, 404)) as response:
            return response.status == 200

    async def _begin(self, blob: Descriptor, source: str) -> str:
        """Where to upload to, "" when the registry mounted the blob from `source`."""
        url, scope = self._repository.url("blobs/uploads/"), self._scope
        if source:
            url += "?" + urlencode({"mount": blob.digest, "from": source})
            scope += f" repository:{source}:pull"
        async with self._repository.request("POST", url, scope=scope, body=b"", expect=(201, 202)) as response:
            if response.status == 201:
                return ""
            return _location(url, response)

    async def _upload(self, blob: Descriptor, location: str) -> None:
        with self._content.open(blob.digest) as file:
            sent = 0
            while True:
                chunk = await asyncio.to_thread(file.read, _CHUNK)
                last = sent + len(chunk) >= blob.size
                if last:
                    await self._finish(blob, location, chunk)
                    break
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{sent}-{sent + len(chunk) - 1}",
                }
                async with self._repository.request(
                    "PATCH", location, scope=self._scope, headers=headers, body=chunk, expect=(202,)
                ) as response:
                    location = _location(location, response)
                sent += len(chunk)
                if blob.media_type in image.LAYER_TYPES:
                    self._report(Progress(_id(blob), "Pushing", sent, blob.size))
        if blob.media_type in image.LAYER_TYPES:
            self._report(Progress(_id(blob), "Pushing", blob.size, blob.size))

    async def _finish(self, blob: Descriptor, location: str, chunk: bytes) -> None:
        joiner = "&" if "?" in location else "?"
        url = location + joiner + urlencode({"digest": blob.digest})
        headers = {"Content-Type": "application/octet-stream"}
        async with self._repository.request("PUT", url, scope=self._scope, headers=headers, body=chunk, expect=(201,)):
            pass

    async def _manifest(self, descriptor: Descriptor, found: Manifest | Index, top: bool) -> None:
        reference = self._repository.reference
        name = (reference.tag if top and reference.tag else "") or descriptor.digest
        data = self._content.read(descriptor.digest)
        async with self._repository.request(
            "PUT",
            self._repository.url(f"manifests/{name}"),
            scope=self._scope,
            headers={"Content-Type": found.media_type},
            body=data,
            expect=(200, 201, 202),
        ):
            pass


def _location(url: str, response: aiohttp.ClientResponse) -> str:
    location = response.headers.get("Location", "")
    if not location:
        raise Refusal(response.status, "", "the registry did not say where to upload to")
    return urljoin(url, location)


def _id(blob: Descriptor) -> str:
    return blob.digest.partition(":")[2][:12]
