"""Asking a registry without moving an image: are these credentials good, and what stands behind a name."""

from __future__ import annotations

from collections.abc import Sequence

from sampan import errors
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.registry import Repository, open_repository, open_session
from sampan.containerd.remotes.wording import Refusal, plain_error
from sampan.containerd.services import Credentials
from sampan.oci import digest, image
from sampan.oci.image import Descriptor, Index, Manifest, Platform
from sampan.oci.reference import DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN, Reference

# A config that is larger is none; platforms are in its first members anyway.
_CONFIG_LIMIT = 4 << 20


class RegistrySurvey:
    """`services.Registries`."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings

    async def login(self, server: str, credentials: Credentials) -> None:
        async with open_session() as session:
            name = Reference(domain_of(server), "library/login")
            repository = await open_repository(session, self._settings, name, credentials)
            url = f"{repository.endpoint.base}/v2/"
            try:
                # No scope: only who one is, not what one may do.
                async with repository.request("GET", url, scope=" "):
                    return
            except Refusal as refused:
                if refused.status == 401:
                    raise errors.Unauthorized(
                        f"login attempt to {url} failed with status: 401 Unauthorized"
                    ) from refused
                raise plain_error(refused) from refused

    async def describe(self, reference: Reference, credentials: Credentials) -> tuple[Descriptor, Sequence[Platform]]:
        async with open_session() as session:
            repository = await open_repository(session, self._settings, reference, credentials)
            try:
                media_type, body = await repository.get_manifest(reference.digest or reference.tag)
                document = image.parse(body, media_type)
                target = Descriptor(document.media_type, reference.digest or digest.of(body), len(body))
                return target, await _platforms(repository, document)
            except Refusal as refused:
                raise plain_error(refused) from refused


async def _platforms(repository: Repository, document: Manifest | Index) -> list[Platform]:
    if isinstance(document, Index):
        return [member.platform for member in document.manifests if member.platform is not None]
    if document.config.media_type not in image.CONFIG_TYPES or document.config.size > _CONFIG_LIMIT:
        return []
    async with repository.get_blob(document.config.digest, 0) as (_, pieces):
        data = b"".join([piece async for piece in pieces])
    if digest.of(data) != document.config.digest:
        raise errors.DataLoss(f"unexpected config digest {digest.of(data)}, expected {document.config.digest}")
    return [image.platform_from(image.config_document(data))]


def domain_of(server: str) -> str:
    """The domain of what `docker login` was given: a host, or the URL that stands for Docker Hub."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", LEGACY_DEFAULT_DOMAIN) else host
