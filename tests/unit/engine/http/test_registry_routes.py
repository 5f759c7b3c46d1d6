"""docker login, docker manifest-like inspection, and what is not offered."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path

from tests.unit.engine.http.rooms import tag

from sampan.containerd.services import Credentials, Descriptor, Platform
from sampan.engine.http import auth, distribution, unoffered
from sampan.errors import Unauthorized, Unavailable
from sampan.oci.reference import Reference

DIGEST = "sha256:" + "1" * 64


class Registries:
    """containerd.services.Registries that knows one user."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Credentials]] = []

    async def login(self, server: str, credentials: Credentials) -> None:
        self.asked.append((server, credentials))
        if server == "down":
            raise Unavailable("dial tcp: connection refused")
        if credentials.password != "right":
            raise Unauthorized("login attempt to https://reg/v2/ failed with status: 401 Unauthorized")

    async def describe(self, reference: Reference, credentials: Credentials) -> tuple[Descriptor, Sequence[Platform]]:
        self.asked.append((str(reference), credentials))
        return Descriptor("application/vnd.oci.image.index.v1+json", DIGEST, 42), [Platform("linux", "arm", "v7")]


def test_login_says_yes_or_the_registrys_no(tmp_path: Path) -> None:
    async def check() -> None:
        registries = Registries()
        async with tag(tmp_path, auth.routes, registries=registries) as session:
            body = {"username": "u", "password": "right", "serveraddress": "reg"}
            good = await session.post("/auth", json=body)
            assert (good.status, await good.json()) == (200, {"Status": "Login Succeeded", "IdentityToken": ""})
            assert registries.asked == [("reg", Credentials("u", "right"))]
            bad = await session.post("/auth", json={**body, "password": "wrong"})
            assert bad.status == 401
            assert (await bad.json())["message"].endswith("failed with status: 401 Unauthorized")
            down = await session.post("/auth", json={**body, "serveraddress": "down"})
            assert down.status == 500

    asyncio.run(check())


def test_a_distribution_is_described_with_its_platforms(tmp_path: Path) -> None:
    async def check() -> None:
        registries = Registries()
        async with tag(tmp_path, distribution.routes, registries=registries) as session:
            header = base64.urlsafe_b64encode(json.dumps({"username": "u", "password": "p"}).encode()).decode()
            answer = await session.get("/distribution/team/app/json", headers={"X-Registry-Auth": header})
            assert await answer.json() == {
                "Descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": DIGEST, "size": 42},
                "Platforms": [{"architecture": "arm", "os": "linux", "variant": "v7"}],
            }
            assert registries.asked == [("docker.io/team/app:latest", Credentials("u", "p"))]
            assert (await session.get("/distribution/BAD/json")).status == 400

    asyncio.run(check())


def test_what_is_not_offered_says_so(tmp_path: Path) -> None:
    async def check() -> None:
        async with tag(tmp_path, unoffered.routes) as session:
            for method, path, status in (
                ("POST", "/build", 501),
                ("GET", "/images/search", 501),
                ("GET", "/nodes", 503),
                ("GET", "/services/x", 503),
            ):
                answer = await session.request(method, path)
                assert answer.status == status, path
                assert (await answer.json())["message"]
            assert await (await session.get("/plugins")).json() == []

    asyncio.run(check())
