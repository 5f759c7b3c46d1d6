"""TLS trust: which authorities a registry's certificate may be by, and which certificate we show it.

Files come from docker's layout (`HOST/*.crt` authorities, `NAME.cert` with `NAME.key` for us) or by name from
`hosts.toml`. The system's authorities are trusted beside them; SSL_CERT_FILE and SSL_CERT_DIR stand in for these, as in
Go. Reading a system's hundred and fifty certificates takes tens of milliseconds, so contexts are kept while their files
are what they were.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from sampan import errors

# Go's list of where a distribution keeps its CAs, cut to what Linux has; SSL_CERT_FILE overrides it.
SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Trust:
    """`authorities` are PEM files; `clients` (certificate file, key file; "" when both are in the first)."""

    verify: bool = True
    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()


_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}


def context(trust: Trust) -> ssl.SSLContext:
    """The TLS context for `trust`; the same one while its files do not change. InvalidArgument for unusable files."""
    bundle, directory = _system_file(), os.environ.get("SSL_CERT_DIR", "")
    files = [*trust.authorities, *(name for pair in trust.clients for name in pair if name)]
    key = (trust, bundle, directory, *(_stamp(name) for name in (bundle, directory, *files)))
    found = _contexts.get(key)
    if found is None:
        found = _make(trust, bundle, directory)
        if len(_contexts) >= _KEPT:
            del _contexts[next(iter(_contexts))]
        _contexts[key] = found
    return found


def from_directory(directory: str) -> Trust:
    """What docker's layout in `directory` says; nothing when it is missing. InvalidArgument in docker's words."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return Trust()
    authorities, clients = [], []
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension == ".crt":
            authorities.append(f"{directory}/{name}")
        elif extension == ".cert":
            if f"{stem}.key" not in names:
                raise errors.InvalidArgument(
                    f"missing key {stem}.key for client certificate {name}. CA certificates must use the extension .crt"
                )
            clients.append((f"{directory}/{name}", f"{directory}/{stem}.key"))
        elif extension == ".key" and f"{stem}.cert" not in names:
            raise errors.InvalidArgument(f"missing client certificate {stem}.cert for key {name}")
    return Trust(True, tuple(authorities), tuple(clients))


def _make(trust: Trust, bundle: str, directory: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not trust.verify:
        # safe because the registry is a loopback one, or the administrator named it as insecure.
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if bundle:
        made.load_verify_locations(cafile=bundle)
    if directory:
        made.load_verify_locations(capath=directory)
    for name in trust.authorities:
        try:
            made.load_verify_locations(cafile=name)
        except (OSError, ssl.SSLError) as error:
            raise errors.InvalidArgument(f'cannot use "{name}": {error}') from error
    for certificate, key in trust.clients:
        try:
            # A key with a passphrase would ask for it on the terminal: an empty one is refused instead.
            made.load_cert_chain(certificate, key or None, password="")
        except (OSError, ssl.SSLError) as error:
            raise errors.InvalidArgument(f'cannot use "{certificate}": {error}') from error
    return made


def _system_file() -> str:
    given = os.environ.get("SSL_CERT_FILE", "")
    return next((path for path in ([given] if given else SYSTEM_CA_FILES) if os.path.exists(path)), "")


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)  # what is wrong with it is told when it is read
    return (found.st_mtime_ns, found.st_size, found.st_ino)
