"""Image names as a user writes them: what is refused before the engine is asked, as docker's client does."""

from __future__ import annotations

import re

from sampan.cli.flags import Refusal

# distribution/reference: domain, path components, tag, digest.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_NAME = rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*"
_DIGEST = r"@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128}"
_REFERENCE = rf"{_NAME}(?::\w[\w.-]{{0,127}})?(?:{_DIGEST})?"


def fault(name: str) -> str:
    """Why `name` is no reference, in the client's words; "" when it is one."""
    if re.fullmatch(_REFERENCE, name, re.ASCII):
        return ""
    if re.fullmatch(_REFERENCE, name.lower(), re.ASCII):
        return "invalid reference format: repository name must be lowercase"
    return "invalid reference format"


def check(name: str) -> None:
    """Refusal when `name` is no reference."""
    if why := fault(name):
        raise Refusal(why)


def split_reference(name: str) -> tuple[str, str]:
    """("repository", "tag or digest" or ""): a colon before a slash is a port."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, digest
    head, slash, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{head}{slash}{base}", tag


def familiar(name: str) -> str:
    """`busybox:latest` as docker prints it after a pull: docker.io/library/busybox:latest."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"
