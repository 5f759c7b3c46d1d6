"""Where a registry answers: the hosts that stand for a domain in the order they are tried, and the trust in each.

In order: Docker Hub's mirrors from the engine's settings, then what `hosts.toml` says (containerd's
`HOSTS_DIRECTORY/DOMAIN/hosts.toml`, `_default` for all others), and without one the registry itself. Docker Hub is
docker.io to users and registry-1.docker.io on the wire. HTTPS with the system's CAs and those of docker's layout in the
same directories. Plain HTTP, and HTTPS unverified, only for insecure ones: loopback literals, "localhost", what the
administrator listed by host, host:port or CIDR, and what `hosts.toml` says with "http://" or `skip_verify`.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass

from sampan import errors
from sampan.containerd.remotes import hosts_file, trust
from sampan.containerd.remotes.hosts_file import EVERYTHING, PULL, RESOLVE, HostEntry
from sampan.containerd.remotes.trust import Trust
from sampan.oci.reference import DEFAULT_DOMAIN

DOCKER_HUB = "registry-1.docker.io"
HOSTS_DIRECTORIES = ("/etc/containerd/certs.d", "/etc/docker/certs.d")
DIAL_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """`insecure`: host, host:port or CIDR. `mirrors`: base URLs for Docker Hub. The limits are dockerd's.

    `hosts_directories`: where `DOMAIN/hosts.toml` or certificates are looked for, the first that has them counts.
    `credentials_file`: docker's config.json for what is asked without credentials, "" for none."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    hosts_directories: tuple[str, ...] = HOSTS_DIRECTORIES
    credentials_file: str = ""
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_attempts: int = 5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`base` is scheme://host[:port] without a slash; below it, at `path`, is the API. `trust` is None for plain HTTP.

    `mirror`: not the registry itself, so not who its credentials are for. `namespace`: the domain it stands in for,
    which a mirror of several is told, "" where the host knows. `headers` go with every request to it."""

    base: str
    host: str
    trust: Trust | None
    path: str = "/v2"
    mirror: bool = False
    namespace: str = ""
    capabilities: frozenset[str] = EVERYTHING
    headers: tuple[tuple[str, str], ...] = ()
    dial_timeout: float = DIAL_TIMEOUT

    @property
    def api(self) -> str:
        return self.base + self.path

    @property
    def ssl(self) -> ssl.SSLContext | None:
        """InvalidArgument for unusable certificates."""
        return None if self.trust is None else trust.context(self.trust)


# The ways to one host: HTTPS, then plain HTTP where that is allowed.
Ways = tuple[Endpoint, ...]


def endpoints(settings: RegistrySettings, domain: str) -> list[Ways]:
    """The hosts to ask for repositories of `domain`, best first. InvalidArgument for an unusable configuration."""
    found: list[Ways] = []
    if domain == DEFAULT_DOMAIN:
        for url in settings.mirrors:
            scheme, _, rest = url.rstrip("/").partition("://")
            host = rest.partition("/")[0]
            checked = _trust(settings, host) if scheme == "https" else None
            path = rest[len(host) :] + "/v2"
            one = Endpoint(f"{scheme}://{host}", host, checked, path, True, capabilities=frozenset((PULL, RESOLVE)))
            found.append((one,))
    directory = _directory(settings, domain)
    entries = _entries(directory) if directory else None
    if entries is None:
        return [*found, _own(settings, domain, _docker_trust(settings, domain))]
    return [*found, *(_configured(settings, domain, entry, entry is entries[-1]) for entry in entries)]


def _configured(settings: RegistrySettings, domain: str, entry: HostEntry, is_server: bool) -> Ways:
    if not entry.base:
        # The file's top says how to speak to the registry, not where it is.
        return _own(settings, domain, entry.trust, entry)
    scheme, _, host = entry.base.partition("://")
    checked = None
    if scheme == "https":
        checked = entry.trust
        if not entry.trust.authorities and not entry.trust.clients:
            verify = entry.trust.verify and not is_insecure(settings, host)
            beside = _docker_trust(settings, host)
            checked = Trust(verify, beside.authorities, beside.clients)
    knows = host == (DOCKER_HUB if domain == DEFAULT_DOMAIN else domain)
    return (
        Endpoint(
            entry.base,
            host,
            checked,
            entry.path,
            # The server is where the administrator says that the registry is, whatever its name.
            not (is_server or knows),
            "" if knows else domain,
            entry.capabilities,
            entry.headers,
            entry.dial_timeout or DIAL_TIMEOUT,
        ),
    )


def _own(settings: RegistrySettings, domain: str, checked: Trust, entry: HostEntry | None = None) -> Ways:
    """The registry itself, with what the top of a `hosts.toml` says about it."""
    host = DOCKER_HUB if domain == DEFAULT_DOMAIN else domain
    insecure = is_insecure(settings, host)
    verified = Trust(checked.verify and not insecure, checked.authorities, checked.clients)
    capabilities = entry.capabilities if entry else EVERYTHING
    headers = entry.headers if entry else ()
    timeout = (entry.dial_timeout if entry else 0.0) or DIAL_TIMEOUT

    def way(scheme: str, how: Trust | None) -> Endpoint:
        return Endpoint(
            f"{scheme}://{host}", host, how, capabilities=capabilities, headers=headers, dial_timeout=timeout
        )

    return (way("https", verified), way("http", None)) if insecure else (way("https", verified),)


def _trust(settings: RegistrySettings, host: str) -> Trust:
    found = _docker_trust(settings, host)
    return Trust(not is_insecure(settings, host), found.authorities, found.clients)


def _docker_trust(settings: RegistrySettings, domain: str) -> Trust:
    """The certificates of docker's layout for a host, which is Docker Hub's on the wire."""
    directory = _directory(settings, DOCKER_HUB if domain == DEFAULT_DOMAIN else domain)
    return trust.from_directory(directory) if directory else Trust()


def _directory(settings: RegistrySettings, domain: str) -> str:
    """Of the hosts of `domain`, "" when nobody made one."""
    host, colon, port = domain.rpartition(":")
    spelled = [f"{host}_{port}_"] if colon and not port.endswith("]") else []
    # `_default` speaks for what has no directory of its own anywhere.
    for names in ((*spelled, domain), ("_default",)):
        for root in settings.hosts_directories:
            for name in names:
                if os.path.isdir(f"{root}/{name}"):
                    return f"{root}/{name}"
    return ""


def _entries(directory: str) -> list[HostEntry] | None:
    """What `hosts.toml` says; None when there is none or it is empty."""
    path = f"{directory}/hosts.toml"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidArgument(f'cannot use "{path}": {error}') from error
    try:
        return hosts_file.parse(text, directory) if text else None
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(f'cannot use "{path}": {error}') from error


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
