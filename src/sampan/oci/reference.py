"""Image references in the grammar of distribution/reference, with Docker Hub's defaults.

    reference       := name [ ":" tag ] [ "@" digest ]
    name            := [domain "/"] path-component ["/" path-component]*
    domain          := host [":" port]
    path-component  := [a-z0-9]+ (("." | "_" | "__" | "-"*) [a-z0-9]+)*
    tag             := [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

A familiar name ("busybox") is what users type; the normalised one ("docker.io/library/busybox") is what stores keep.
"""

from __future__ import annotations

import re

from sampan import errors
from sampan.oci import digest as digests

DEFAULT_DOMAIN = "docker.io"
LEGACY_DEFAULT_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
NAME_LIMIT = 255

_ALNUM = r"[a-z0-9]+"
_COMPONENT = rf"{_ALNUM}(?:(?:\.|_|__|-+){_ALNUM})*"
_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"((?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::({_TAG}))?(?:@({_DIGEST}))?\Z", re.ASCII)
_ANCHORED_NAME = re.compile(rf"(?:({_DOMAIN})/)?({_COMPONENT}(?:/{_COMPONENT})*)\Z", re.ASCII)
_TAG_ALONE = re.compile(rf"{_TAG}\Z", re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}\Z")


class Reference:
    """A normalised reference: `domain` and `path` always, `tag` and `digest` "" when absent. Immutable, hashable."""

    __slots__ = ("digest", "domain", "path", "tag")

    domain: str
    path: str
    tag: str
    digest: str

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        for name, value in (("domain", domain), ("path", path), ("tag", tag), ("digest", digest)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a reference is immutable: {name}")

    def _key(self) -> tuple[str, str, str, str]:
        return self.domain, self.path, self.tag, self.digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    @property
    def name(self) -> str:
        """ "docker.io/library/busybox": no tag, no digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """ "busybox": the shortest spelling that means the same."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(OFFICIAL_PREFIX)
        return short if "/" not in short and short else self.path

    @property
    def familiar(self) -> str:
        """The familiar name with tag and digest, as Docker shows it."""
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()

    def with_default_tag(self) -> Reference:
        """Itself, or with "latest" when it has neither tag nor digest."""
        return self if self.tag or self.digest else Reference(self.domain, self.path, DEFAULT_TAG)

    def tagged(self, tag: str) -> Reference:
        """The name with `tag` alone; InvalidArgument for a malformed tag."""
        if not _TAG_ALONE.match(tag):
            raise errors.InvalidArgument("invalid tag format")
        return Reference(self.domain, self.path, tag)

    def digested(self, digest: str) -> Reference:
        """The name with `digest` alone; InvalidArgument for a malformed digest."""
        return Reference(self.domain, self.path, "", digests.validate(digest))


def parse_normalized(text: str) -> Reference:
    """What a user typed, normalised; no default tag is added. InvalidArgument in distribution/reference's words."""
    if _IDENTIFIER.match(text):
        raise errors.InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    remote = remainder.partition("@")[0]
    head, slash, last = remote.rpartition("/")
    remote = head + slash + last.partition(":")[0]
    if remote.lower() != remote:
        raise errors.InvalidArgument(f"invalid reference format: repository name ({remote}) must be lowercase")
    reference = parse(f"{domain}/{remainder}")
    if _ANCHORED_NAME.match(reference.name) is None:
        raise errors.InvalidArgument("invalid reference format")
    return reference


def parse(text: str) -> Reference:
    """A canonical reference that names its domain, as the stores keep it; InvalidArgument otherwise."""
    match = _REFERENCE.match(text)
    if match is None:
        if text == "":
            raise errors.InvalidArgument("repository name must have at least one component")
        if _REFERENCE.match(text.lower()) is not None:
            raise errors.InvalidArgument("invalid reference format: repository name must be lowercase")
        raise errors.InvalidArgument("invalid reference format")
    name, tag, digest = match.groups()
    if digest:
        digests.validate(digest)
    named = _ANCHORED_NAME.match(name)
    if named is None or not named[1] or _split_domain(name)[0] != named[1]:
        raise errors.InvalidArgument("repository name must be canonical")
    if len(named[2]) > NAME_LIMIT:
        raise errors.InvalidArgument(f"repository name must not be more than {NAME_LIMIT} characters")
    return Reference(named[1], named[2], tag or "", digest or "")


def _split_domain(text: str) -> tuple[str, str]:
    """A first component is a domain only when it looks like one: Docker's rule for "localhost/x" and "user/x"."""
    first, slash, rest = text.partition("/")
    if not slash or (not any(c in first for c in ".:") and first != "localhost" and first.lower() == first):
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == LEGACY_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return domain, remainder
