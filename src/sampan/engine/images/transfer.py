"""`docker pull` and `docker push`: the core moves the bytes and tells each step; here are names, events and JSON.

{"status": "Pulling from library/busybox", "id": "latest"}
{"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "progress": "[=>  ] 1B/2B", "id": "..."}
{"status": "Digest: sha256:..."}
{"status": "Status: Downloaded newer image for busybox:latest"}
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from sampan.api.docker.errors import ErrorDetail
from sampan.api.docker.images import ProgressDetail, ProgressLine
from sampan.api.docker.system import AuthConfig
from sampan.containerd.services import Credentials, Progress
from sampan.containerd.services import Transfer as Registries
from sampan.engine.images import names
from sampan.engine.images.catalog import Catalog, mismatch
from sampan.engine.services import Events
from sampan.errors import Error, InvalidArgument, NotFound, Unavailable, Unimplemented
from sampan.oci import platform as platforms
from sampan.oci import reference
from sampan.oci.reference import Reference

Tell = Callable[[ProgressLine], None]

# States with a bar; all others are a word.
_BARS = frozenset(("Downloading", "Extracting", "Pushing"))
_EMPTY = ProgressDetail()


@dataclass(frozen=True, slots=True)
class Transfers:
    """The parts that a transfer touches."""

    catalog: Catalog
    registries: Registries
    events: Events

    async def pull(self, image: str, tag: str, platform: str, credentials: Credentials, tell: Tell) -> None:
        """Pull `image` (with `tag`, a tag or digest, when it is given), telling each step.

        NotFound, Unauthorized, Unavailable, DataLoss, InvalidArgument in the registry client's words."""
        name = pull_target(image, tag)
        wanted = platforms.parse(platform) if platform else None
        before = self.catalog.named(name)
        if before is not None:
            # The pull moves the name: what it pointed at so far must not be lost with it.
            names.keep(self.catalog, before)
        try:
            pulled = await self.registries.pull(
                str(name), platform=wanted, credentials=credentials, progress=lambda step: tell(line(step))
            )
        finally:
            if before is not None:
                names.settle(self.catalog, before)
        chosen = platforms.format(wanted) if wanted is not None else ""
        names.put(self.catalog, name, pulled.target, chosen)
        if not name.digest:
            names.put(self.catalog, name.digested(pulled.target.digest), pulled.target, chosen)
        details = self.catalog.details(pulled.target, wanted)
        if details is not None and wanted is not None and platforms.rank(wanted, details.platform) is None:
            # An image that is not in an index is pulled whatever its platform is: dockerd only warns.
            tell(ProgressLine(status=f"WARNING: {mismatch(name.familiar, details.platform, wanted)}"))
        labels = details.labels if details is not None else {}
        self.events.publish("image", "pull", name.familiar, {**labels, "name": name.familiar_name})

    async def push(self, image: str, tag: str, credentials: Credentials, tell: Tell) -> None:
        """Push one tag of `image`, or all of its tags when `tag` is "". NotFound in Docker's words."""
        name = reference.parse_normalized(image)
        if tag:
            wanted = [name.tagged(tag)]
        else:
            wanted = [one for entry in self.catalog.entries() for one in entry.tags if one.name == name.name]
        if not wanted:
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        for one in wanted:
            if self.catalog.named(one) is None:
                raise NotFound(f"tag does not exist: {one.familiar}" if not tag else _missing(name))
        for one in wanted:
            pushed = await self.registries.push(
                str(one), credentials=credentials, progress=lambda step: tell(line(step))
            )
            names.put(self.catalog, one.digested(pushed.digest), pushed)
            # What `docker push` and its library read the digest from.
            tell(
                ProgressLine(progressDetail=_EMPTY, aux={"Tag": one.tag, "Digest": pushed.digest, "Size": pushed.size})
            )
            self.events.publish("image", "push", one.familiar, {"name": one.familiar_name})


def _missing(name: Reference) -> str:
    return f"An image does not exist locally with the tag: {name.familiar_name}"


@contextmanager
def registry_failure() -> Iterator[None]:
    """What is wrong with a registry is dockerd's 500: 503 would say that this engine is unavailable."""
    try:
        yield
    except Unavailable as error:
        raise Error(str(error)) from error


def pull_target(image: str, tag: str) -> Reference:
    """The `fromImage` and `tag` parameters as one name. InvalidArgument; Unimplemented for "all tags"."""
    name = reference.parse_normalized(image)
    if tag:
        return name.digested(tag) if ":" in tag else name.tagged(tag)
    if name.digest:
        return Reference(name.domain, name.path, "", name.digest)
    if not name.tag:
        raise Unimplemented(f"pulling all tags of {name.familiar_name} is not offered: name one")
    return name


def line(step: Progress) -> ProgressLine:
    """A core step in Docker's JSON."""
    if not step.id:
        return ProgressLine(status=step.status)
    if step.status.startswith(("Pulling from", "Trying to pull")):
        return ProgressLine(status=step.status, id=step.id)
    if step.status in _BARS and (step.current or step.total):
        return ProgressLine(
            status=step.status,
            progressDetail=ProgressDetail(current=step.current, total=step.total),
            progress=bar(step.current, step.total),
            id=step.id,
        )
    return ProgressLine(status=step.status, progressDetail=_EMPTY, id=step.id)


def failure(error: BaseException) -> ProgressLine:
    """A failure after the first line went out."""
    text = str(error) or type(error).__name__
    return ProgressLine(errorDetail=ErrorDetail(message=text), error=text)


def bar(current: int, total: int) -> str:
    """ "[=====>      ]  1.2MB/4.5MB", as clients of API 1.24 print it; without a total only the size."""
    if total <= 0 or current > total:
        return size_text(current).rjust(8)
    done = 100 * current // total // 2
    return f"[{'=' * done}>{' ' * (50 - done)}] {size_text(current).rjust(8)}/{size_text(total)}"


def size_text(size: float) -> str:
    """Four significant digits in decimal units, as Docker writes sizes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.4g}{unit}"
        size /= 1000
    return ""


def credentials_from(header: str | None) -> Credentials:
    """The X-Registry-Auth header: base64url of an AuthConfig document; absent or empty means anonymous.

    dockerd ignores a header that it cannot decode on a pull; so does this."""
    if not header:
        return Credentials()
    try:
        text = base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
        config = msgspec.json.decode(text, type=AuthConfig)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return Credentials()
    return credentials(config)


def credentials(config: AuthConfig) -> Credentials:
    """From the document. `auth` is base64 of user:password, used when the two are not given. InvalidArgument."""
    username, password = config.username or "", config.password or ""
    if config.auth and not username:
        try:
            username, _, password = base64.b64decode(config.auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise InvalidArgument("invalid auth configuration") from None
    return Credentials(username, password, config.identitytoken or "", config.registrytoken or "")
