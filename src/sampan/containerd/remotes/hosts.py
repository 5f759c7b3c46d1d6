"""Where a registry answers: endpoints of a domain in the order they are tried, and the TLS trust for each.

Docker's rules: Docker Hub is docker.io to users and registry-1.docker.io on the wire, after its mirrors; a registry
is reached by HTTPS with the system's CAs and those in `/etc/docker/certs.d/HOST[:PORT]/*.crt` (client
certificates there as NAME.cert with NAME.key). Plain HTTP, and HTTPS unverified, only for insecure ones: loopback
literals, "localhost", and what the administrator listed by host, host:port or CIDR.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from sampan import errors
from sampan.oci.reference import DEFAULT_DOMAIN

DOCKER_HUB = "registry-1.docker.io"
# Go's list of where a distribution keeps its CAs, cut to what Linux has; SSL_CERT_FILE overrides it.
SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """`insecure`: host, host:port or CIDR. `mirrors`: base URLs for Docker Hub. The limits are dockerd's."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certs_directory: str = "/etc/docker/certs.d"
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_attempts: int = 5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`base` is scheme://host[:port] without a slash; `ssl` is None for plain HTTP."""

    base: str
    host: str
    ssl: ssl.SSLContext | None
    mirror: bool = False


def endpoints(settings: RegistrySettings, domain: str) -> Iterator[Endpoint]:
    """The places to ask for repositories of `domain`, best first. InvalidArgument for unusable certificates."""
    if domain == DEFAULT_DOMAIN:
        for url in settings.mirrors:
            scheme, _, rest = url.rstrip("/").partition("://")
            host = rest.partition("/")[0]
            context = tls_context(settings, host) if scheme == "https" else None
            yield Endpoint(f"{scheme}://{rest}", host, context, mirror=True)
        domain = DOCKER_HUB
    insecure = is_insecure(settings, domain)
    yield Endpoint(f"https://{domain}", domain, tls_context(settings, domain, verify=not insecure))
    if insecure:
        yield Endpoint(f"http://{domain}", domain, None)


def is_insecure(settings: RegistrySettings, domain: str) -> bool:
    """Whether plain HTTP and unverified TLS are allowed. A name that merely resolves to loopback does not count."""
    if domain in settings.insecure:
        return True
    host = _host_of(domain)
    if is_loopback(domain) or host in settings.insecure:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for listed in settings.insecure:
        try:
            if address in ipaddress.ip_network(listed, strict=False):
                return True
        except ValueError:
            continue  # a host name, compared above
    return False


def is_loopback(domain: str) -> bool:
    """Of "host" or "host:port", by its spelling alone."""
    host = _host_of(domain)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(domain: str) -> str:
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def tls_context(settings: RegistrySettings, host: str, verify: bool = True) -> ssl.SSLContext:
    """Trust for `host` (with its port): the system's CAs, SSL_CERT_FILE instead when set, and certs.d."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        # safe because the registry is a loopback one, or the administrator listed it as insecure by name.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    files = [os.environ["SSL_CERT_FILE"]] if os.environ.get("SSL_CERT_FILE") else list(SYSTEM_CA_FILES)
    for path in files:
        if os.path.exists(path):
            context.load_verify_locations(cafile=path)
            break
    if os.environ.get("SSL_CERT_DIR"):
        context.load_verify_locations(capath=os.environ["SSL_CERT_DIR"])
    directory = f"{settings.certs_directory}/{host}"
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return context
    for name in names:
        _load(context, directory, name, names)
    return context


def _load(context: ssl.SSLContext, directory: str, name: str, names: list[str]) -> None:
    stem, extension = os.path.splitext(name)
    try:
        if extension == ".crt":
            context.load_verify_locations(cafile=f"{directory}/{name}")
        elif extension == ".cert":
            if f"{stem}.key" not in names:
                raise errors.InvalidArgument(
                    f"missing key {stem}.key for client certificate {name}. CA certificates must use the extension .crt"
                )
            context.load_cert_chain(f"{directory}/{name}", f"{directory}/{stem}.key")
        elif extension == ".key" and f"{stem}.cert" not in names:
            raise errors.InvalidArgument(f"missing client certificate {stem}.cert for key {name}")
    except (OSError, ssl.SSLError) as error:
        raise errors.InvalidArgument(f'cannot use "{directory}/{name}": {error}') from error
