"""Asking a registry without moving an image: are these credentials good, and what stands behind a name."""

from __future__ import annotations

from collections.abc import Sequence

from sampan import errors
from sampan.containerd.remotes.client import Client
from sampan.containerd.remotes.hosts import RegistrySettings, endpoints
from sampan.containerd.remotes.registry import Repository, known_type, open_repository
from sampan.containerd.remotes.wording import Refusal, plain_error
from sampan.containerd.services import Credentials
from sampan.oci import digest, image
from sampan.oci.image import Descriptor, Index, Manifest, Platform
from sampan.oci.reference import DEFAULT_DOMAIN, LEGACY_DEFAULT_DOMAIN, Reference


class RegistrySurvey:
    """`services.Registries`."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings

    async def login(self, server: str, credentials: Credentials) -> None:
        async with Client(self._settings) as client:
            # The registry itself: a mirror does not know the password.
            host = client.host(endpoints(self._settings, domain_of(server))[-1], credentials)
            await host.ping()
            url = f"{host.endpoint.api}/"
            try:
                # No scope: only who one is, not what one may do.
                async with host.request("GET", url, scope=" "):
                    return
            except Refusal as refused:
                if refused.status == 401:
                    raise errors.Unauthorized(
                        f"login attempt to {url} failed with status: 401 Unauthorized"
                    ) from refused
                raise plain_error(refused) from refused

    async def describe(self, reference: Reference, credentials: Credentials) -> tuple[Descriptor, Sequence[Platform]]:
        async with Client(self._settings) as client:
            repository = open_repository(client, reference, credentials)
            try:
                media_type, body = await repository.get_manifest(reference.digest or reference.tag)
                document = image.parse(body, known_type(media_type))
                target = Descriptor(document.media_type, reference.digest or digest.of(body), len(body))
                return target, await _platforms(repository, document)
            except Refusal as refused:
                raise plain_error(refused) from refused

    async def referrers(
        self, reference: Reference, credentials: Credentials, artifact_type: str = ""
    ) -> Sequence[Descriptor]:
        """What refers to the manifest `reference.digest` (signatures, attestations, SBOMs), of one type or of all.

        NotFound, Unauthorized, Unavailable, InvalidArgument (no digest; no index document)."""
        if not reference.digest:
            raise errors.InvalidArgument(f"{reference.familiar} has no digest to refer to")
        async with Client(self._settings) as client:
            try:
                repository = open_repository(client, reference, credentials)
                return await repository.referrers(reference.digest, artifact_type)
            except Refusal as refused:
                raise plain_error(refused) from refused


async def _platforms(repository: Repository, document: Manifest | Index) -> list[Platform]:
    if isinstance(document, Index):
        return [member.platform for member in document.manifests if member.platform is not None]
    if document.config.media_type not in image.CONFIG_TYPES:
        return []
    return [image.platform_from(image.config_document(await repository.get_config(document.config)))]


def domain_of(server: str) -> str:
    """The domain of what `docker login` was given: a host, or the URL that stands for Docker Hub."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", LEGACY_DEFAULT_DOMAIN) else host
