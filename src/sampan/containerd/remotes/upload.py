"""Uploading one blob: in one PUT when it is small, in chunks when it is not (distribution-spec, "Pushing a blob").

    POST uploads/            202 Location
    PATCH Location           202 Location            a chunk, with its Content-Range
    PUT Location?digest=     201                     the last chunk

A chunk whose answer is lost may have arrived: before it is sent again the registry is asked how far it is
(GET Location: 204, Range), and when it has forgotten the upload, whether it has the blob; else it begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import BinaryIO
from urllib.parse import urlencode

from sampan import errors
from sampan.containerd.content import ContentStore
from sampan.containerd.remotes.client import Host, resolved
from sampan.containerd.remotes.late import aiohttp
from sampan.containerd.remotes.wording import Refusal
from sampan.oci.image import Descriptor

# Up to this size a blob goes in one request; a larger one in chunks of this size.
CHUNK = 8 << 20
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 60.0
# Of a chunk: trouble that passes, an upload that got lost (404), bytes out of order (416).
_RESUMED = frozenset((404, 408, 416, 429, 500, 502, 503, 504))


class Upload:
    """Of one blob to repository `path`; `moved` hears how far it is in bytes. `location` of an upload that the registry
    has begun already, "" for none."""

    def __init__(
        self, host: Host, path: str, scope: str, attempts: int, moved: Callable[[int], None], location: str = ""
    ) -> None:
        self._host = host
        self._path = path
        self._scope = scope
        self._attempts = attempts
        self._moved = moved
        self._location = location
        self._sent = 0

    async def send(self, content: ContentStore, blob: Descriptor) -> None:
        """Refusal, Unavailable; NotFound when the store has no such blob."""
        with content.open(blob.digest) as file:
            failures, wait, furthest = 0, _FIRST_WAIT, 0
            while True:
                try:
                    if not self._location:
                        await self._begin()
                    await self._rest(file, blob)
                    return
                except (Refusal, errors.Unavailable) as failure:
                    if isinstance(failure, Refusal) and failure.status not in _RESUMED:
                        raise
                    failures = 1 if self._sent > furthest else failures + 1
                    furthest = max(furthest, self._sent)
                    if failures >= self._attempts:
                        raise
                    asked = failure.retry_after if isinstance(failure, Refusal) else None
                    await asyncio.sleep(min(wait if asked is None else asked, _LONGEST_WAIT))
                    wait = _FIRST_WAIT if failures == 1 else wait * 2
                if await self._has(blob):
                    self._moved(blob.size)
                    return
                await self._find_out()

    async def _begin(self) -> None:
        url = self._host.url(f"{self._path}/blobs/uploads/")
        async with self._host.request("POST", url, scope=self._scope, body=b"", expect=(202,)) as response:
            self._location, self._sent = location_of(url, response), 0

    async def _rest(self, file: BinaryIO, blob: Descriptor) -> None:
        """From `_sent` to the end."""
        file.seek(self._sent)
        while True:
            chunk = await asyncio.to_thread(file.read, CHUNK)
            headers = {"Content-Type": "application/octet-stream"}
            if self._sent + len(chunk) >= blob.size:
                joiner = "&" if "?" in self._location else "?"
                url = self._location + joiner + urlencode({"digest": blob.digest})
                async with self._host.request(
                    "PUT", url, scope=self._scope, headers=headers, body=chunk, expect=(201, 204), attempts=1
                ):
                    pass
                self._sent = blob.size
                self._moved(blob.size)
                return
            if not chunk:
                raise errors.DataLoss(f"content {blob.digest} is shorter than its descriptor says")
            headers["Content-Range"] = f"{self._sent}-{self._sent + len(chunk) - 1}"
            async with self._host.request(
                "PATCH",
                self._location,
                scope=self._scope,
                headers=headers,
                body=chunk,
                expect=(202, 204),
                attempts=1,
            ) as response:
                self._location = location_of(self._location, response)
            self._sent += len(chunk)
            self._moved(self._sent)

    async def _has(self, blob: Descriptor) -> bool:
        """Whether only the answer to the last request was lost."""
        url = self._host.url(f"{self._path}/blobs/{blob.digest}")
        async with self._host.request("HEAD", url, scope=self._scope, expect=(200, 404)) as response:
            return response.status == 200

    async def _find_out(self) -> None:
        """How far the registry got; from the beginning, with a new upload, when it does not say."""
        if not self._location:
            return
        try:
            async with self._host.request("GET", self._location, scope=self._scope, expect=(204,)) as response:
                last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
                if last.isdecimal():
                    # distribution says 0-0 for nothing; one byte is no chunk of ours.
                    self._sent = int(last) + 1 if int(last) else 0
                    self._location = location_of(self._location, response)
                    return
        except (Refusal, errors.Unavailable):
            pass  # forgotten, or a registry without this question
        self._location = ""


def location_of(url: str, response: aiohttp.ClientResponse) -> str:
    location = response.headers.get("Location", "")
    if not location:
        raise Refusal(response.status, "", "the registry did not say where to upload to")
    return resolved(url, location)
