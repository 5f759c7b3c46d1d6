"""docker pull from a real registry: HTTP, TLS, tokens, broken transfers."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.machine import REGISTRY_ADDRESS, Machine
from tests.peers.registry import (
    PASSWORD,
    TLS_PORT,
    TOKEN_PORT,
    USER,
    Authority,
    FaultyFront,
    Registry,
    TokenServer,
)
from tests.peers.shelf import Shelf


@pytest.fixture(autouse=True)
def forgotten(bare_docker: Docker, shelf: Shelf) -> Iterator[None]:
    """Each scenario begins and ends without pulled images, so that a pull is a pull."""
    forget(bare_docker)
    yield
    forget(bare_docker)


def forget(docker: Docker) -> None:
    """Removes all images but those with short names, which other scenarios use."""
    rows = docker.ok(
        "images", "-a", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}"
    ).splitlines()
    for row in rows:
        repository, tag, digest, identity = row.split()
        if "/" in repository:
            docker("rmi", "-f", f"{repository}:{tag}" if tag != "<none>" else f"{repository}@{digest}")
        elif repository == "<none>":
            docker("rmi", "-f", identity)


@pytest.fixture(scope="module")
def tls(machine: Machine, scratch: str, registry: Registry, shelf: Shelf, authority: Authority) -> Iterator[Registry]:
    """The same images behind TLS by a certificate of our own authority."""
    made = Registry(
        machine, scratch, f"{scratch}/registry", address=REGISTRY_ADDRESS, port=TLS_PORT, authority=authority
    )
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded(
    machine: Machine, scratch: str, shelf: Shelf, authority: Authority, token_server: TokenServer
) -> Iterator[Registry]:
    """The same images behind TLS and token authentication."""
    made = Registry(machine, scratch, f"{scratch}/registry", address=REGISTRY_ADDRESS, port=TOKEN_PORT,
                    authority=authority, realm=token_server.realm)  # fmt: skip
    yield made
    made.close()


def test_pull_by_tag_brings_the_image_and_says_so(bare_docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("layered")
    lines = bare_docker.ok("pull", f"{product.reference}:latest").splitlines()
    assert lines[0] == f"latest: Pulling from {product.reference.split('/', 1)[1]}"
    assert lines[-3:] == [
        f"Digest: {product.digest}",
        f"Status: Downloaded newer image for {product.reference}:latest",
        f"{product.reference}:latest",
    ]
    for blob in product.image.layers:
        steps = [line.split(": ", 1)[1] for line in lines if line.startswith(blob.digest[7:19])]
        assert steps in (
            ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"],
            ["Pulling fs layer", "Download complete", "Pull complete"],
            ["Pulling fs layer", "Waiting", "Verifying Checksum", "Download complete", "Pull complete"],
            ["Pulling fs layer", "Waiting", "Download complete", "Pull complete"],
            ["Already exists"],
        )
    assert bare_docker.inspect("image", product.reference)["Id"] == product.image.id


def test_a_second_pull_says_the_image_is_up_to_date(bare_docker: Docker, shelf: Shelf) -> None:
    reference = shelf.reference("busybox")
    bare_docker.ok("pull", reference)
    lines = bare_docker.ok("pull", reference).splitlines()
    assert lines[0] == "Using default tag: latest"
    assert f"Status: Image is up to date for {reference}:latest" in lines


def test_pull_q_prints_only_the_name(bare_docker: Docker, shelf: Shelf) -> None:
    reference = shelf.reference("busybox")
    assert bare_docker.ok("pull", "-q", reference) == f"{reference}:latest"


def test_progress_on_a_terminal_is_drawn_layer_by_layer(bare_docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("layered")
    with bare_docker.terminal("pull", product.reference, rows=60, columns=120) as terminal:
        terminal.expect(f"{product.image.layers[-1].digest[7:19]}: ")
        terminal.expect("Pull complete")
        terminal.expect("Status: Downloaded newer image")
        assert terminal.end() == 0


def test_the_api_tells_progress_as_json_with_details(bare_docker: Docker, engine: Engine, shelf: Shelf) -> None:
    product = shelf.product("busybox")
    bare_docker.ok("rmi", "-f", "busybox", "configured")
    status, headers, body = engine.request("POST", f"/images/create?fromImage={product.reference}&tag=latest")
    bare_docker.ok("tag", product.reference, "busybox")
    bare_docker.ok("pull", "-q", shelf.reference("configured"))
    bare_docker.ok("tag", shelf.reference("configured"), "configured")
    assert (status, headers["content-type"]) == (200, "application/json")
    messages = [json.loads(line) for line in body.splitlines()]
    assert messages[0] == {"status": "Pulling from busybox", "id": "latest"}
    layer = product.image.layers[0]
    steps = [message for message in messages if message.get("id") == layer.digest[7:19]]
    assert steps[0]["status"] == "Pulling fs layer" and steps[0]["progressDetail"] == {}
    downloading = [message for message in steps if message["status"] == "Downloading"]
    assert downloading and downloading[-1]["progressDetail"]["total"] == len(layer.content)
    assert downloading[-1]["progress"].startswith("[") and "/" in downloading[-1]["progress"]
    assert any(message["status"] == "Extracting" for message in steps)
    assert steps[-1]["status"] == "Pull complete"


def test_pull_by_digest_brings_exactly_that_image(bare_docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("busybox")
    name = f"{product.reference}@{product.digest}"
    out = bare_docker.ok("pull", name)
    assert f"Status: Downloaded newer image for {name}" in out or f"Status: Image is up to date for {name}" in out
    seen = bare_docker.inspect("image", name)
    assert seen["Id"] == product.image.id and name in seen["RepoDigests"]
    assert bare_docker.ok("run", "--rm", name, "echo", "by digest") == "by digest"


def test_run_pulls_a_missing_image_first(bare_docker: Docker, shelf: Shelf) -> None:
    reference = shelf.reference("layered")
    outcome = bare_docker("run", "--rm", reference, "echo", "fetched")
    assert (outcome.status, outcome.out) == (0, "fetched\n")
    assert f"Unable to find image '{reference}:latest' locally" in outcome.err
    assert bare_docker("run", "--rm", "--pull", "never", shelf.reference("zstd"), "true").status == 125


def test_an_index_gives_the_image_of_this_machine(bare_docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("index")
    out = bare_docker.ok("pull", product.reference)
    assert f"Digest: {product.digest}" in out
    seen = bare_docker.inspect("image", product.reference)
    assert seen["Id"] == product.image.id
    assert seen["RepoDigests"] == [f"{product.reference}@{product.digest}"]


def test_platform_chooses_another_image_of_an_index(bare_docker: Docker, shelf: Shelf) -> None:
    bare_docker.ok("pull", "-q", "--platform", "linux/s390x", shelf.reference("index"))
    assert bare_docker.inspect("image", shelf.reference("index"))["Architecture"] == "s390x"


def test_an_index_without_this_platform_is_an_error(bare_docker: Docker, shelf: Shelf) -> None:
    outcome = bare_docker("pull", shelf.reference("foreign"))
    assert outcome.status == 1
    assert "no matching manifest for linux/" in outcome.err and "in the manifest list entries" in outcome.err


@pytest.mark.sampan_only("dockerd 20.10 cannot unpack zstd layers (23.0 was the first)")
def test_zstd_layers_are_unpacked(bare_docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("zstd")
    bare_docker.ok("pull", "-q", product.reference)
    assert bare_docker.inspect("image", product.reference)["RootFS"]["Layers"] == [product.image.layers[0].diff_id]
    assert bare_docker.ok("run", "--rm", product.reference, "cat", "/etc/group").startswith("root:x:0:")


def test_pull_over_tls_trusts_our_authority(bare_docker: Docker, shelf: Shelf, tls: Registry) -> None:
    bare_docker.ok("pull", "-q", f"{tls.host}/busybox")
    assert bare_docker.ok("run", "--rm", f"{tls.host}/busybox", "echo", "over tls") == "over tls"


def test_pull_over_tls_with_an_unknown_authority_is_refused(
    bare_docker: Docker, new_engine: Callable[[str], Engine], engine: Engine, tls: Registry, scratch: str
) -> None:
    stranger = new_engine("stranger")
    stranger.environment = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    # one bridge address cannot serve two engines of one machine at a time
    engine.stop()
    try:
        stranger.start()
        outcome = Docker(bare_docker.binary, stranger.uri, f"{scratch}/stranger-home")("pull", f"{tls.host}/busybox")
        stranger.stop()
    finally:
        engine.start()
    assert outcome.status == 1
    assert "certificate signed by unknown authority" in outcome.err


def test_a_guarded_registry_wants_credentials(bare_docker: Docker, guarded: Registry) -> None:
    outcome = bare_docker("pull", f"{guarded.host}/busybox")
    assert outcome.status == 1
    denied = "pull access denied for"
    assert denied in outcome.err or "unauthorized: authentication required" in outcome.err


def test_credentials_of_the_client_fetch_a_token_for_the_pull(
    bare_docker: Docker, guarded: Registry, token_server: TokenServer
) -> None:
    credential = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    with configured(bare_docker, {"auths": {guarded.host: {"auth": credential}}}):
        bare_docker.ok("pull", "-q", f"{guarded.host}/busybox")
    last = token_server.asked[-1]
    assert last["scope"] == ["repository:busybox:pull"] and last["service"] == ["registry"]
    assert last.get("account", [USER]) == [USER]


def test_wrong_credentials_are_refused(bare_docker: Docker, guarded: Registry) -> None:
    credential = base64.b64encode(b"alice:wrong").decode()
    with configured(bare_docker, {"auths": {guarded.host: {"auth": credential}}}):
        outcome = bare_docker("pull", f"{guarded.host}/busybox")
    assert outcome.status == 1
    assert "unauthorized" in outcome.err or "denied" in outcome.err


@contextmanager
def configured(docker: Docker, document: dict[str, object]) -> Iterator[None]:
    """The client's config.json is `document` for the length of the block."""
    path = f"{docker.home}/config.json"
    with open(path, "w") as file:
        json.dump(document, file)
    try:
        yield
    finally:
        os.unlink(path)


def test_an_unknown_tag_or_repository_is_not_found(bare_docker: Docker, shelf: Shelf, registry: Registry) -> None:
    outcome = bare_docker("pull", f"{shelf.reference('busybox')}:nowhere")
    assert outcome.status == 1
    assert f"manifest for {shelf.reference('busybox')}:nowhere not found: manifest unknown" in outcome.err
    outcome = bare_docker("pull", f"{registry.host}/nowhere")
    assert outcome.status == 1
    assert "not found: manifest unknown" in outcome.err or "repository does not exist" in outcome.err


def test_an_unknown_image_in_run_is_docker_s_own_failure(bare_docker: Docker, registry: Registry) -> None:
    assert bare_docker("run", "--rm", f"{registry.host}/nowhere", "true").status == 125


def test_an_unknown_digest_is_not_found(bare_docker: Docker, shelf: Shelf) -> None:
    outcome = bare_docker("pull", f"{shelf.reference('busybox')}@sha256:{'0' * 64}")
    assert outcome.status == 1 and "manifest unknown" in outcome.err


def test_an_unreachable_registry_is_named_in_the_error(bare_docker: Docker) -> None:
    outcome = bare_docker("pull", "127.0.0.1:9/busybox")
    assert outcome.status == 1
    assert "127.0.0.1:9" in outcome.err and "connection refused" in outcome.err
    outcome = bare_docker("pull", "no-such-host.invalid/busybox")
    assert outcome.status == 1 and "no-such-host.invalid" in outcome.err


@pytest.mark.parametrize("name", ["UPPERcase", "double//slash", "x:tag:tag", "x@sha256:short"])
def test_an_impossible_reference_is_refused(bare_docker: Docker, name: str) -> None:
    outcome = bare_docker("pull", name)
    assert outcome.status == 1 and "invalid reference format" in outcome.err


def test_a_cut_transfer_is_taken_up_again(bare_docker: Docker, shelf: Shelf, faulty: FaultyFront) -> None:
    product = shelf.product("big")
    layer = product.image.layers[-1]
    faulty.faults = {layer.digest: "cut"}
    faulty.requests.clear()
    bare_docker.ok("pull", "-q", f"{faulty.host}/big", within=100)
    tries = [wanted for path, wanted in faulty.requests if path.endswith(layer.digest)]
    assert len(tries) >= 2 and faulty.faults == {}
    assert bare_docker.ok("run", "--rm", f"{faulty.host}/big", "sh", "-c", "wc -c < /big") == "3000000"


def test_a_layer_with_wrong_bytes_is_refused_and_nothing_of_it_stays(
    bare_docker: Docker, shelf: Shelf, faulty: FaultyFront
) -> None:
    layer = shelf.product("big").image.layers[-1]
    faulty.faults = {layer.digest: "corrupt"}
    outcome = bare_docker("pull", f"{faulty.host}/big", within=100)
    faulty.faults = {}
    assert outcome.status == 1
    assert f"filesystem layer verification failed for digest {layer.digest}" in outcome.err
    assert bare_docker.ok("images", "-q", f"{faulty.host}/big") == ""
    bare_docker.ok("pull", "-q", f"{faulty.host}/big")


def test_a_manifest_with_wrong_bytes_is_refused(bare_docker: Docker, shelf: Shelf, faulty: FaultyFront) -> None:
    digest = shelf.product("tampered").digest
    faulty.faults = {digest: "corrupt"}
    outcome = bare_docker("pull", f"{faulty.host}/tampered@{digest}", within=100)
    faulty.faults = {}
    assert outcome.status == 1
    assert f"manifest verification failed for digest {digest}" in outcome.err
