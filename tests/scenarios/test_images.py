"""images, image inspect, tag, rmi; and what the layers of an image become on disk."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from tests.peers import images
from tests.peers.client import Docker
from tests.peers.shelf import Shelf


def listed(docker: Docker, *arguments: str) -> list[dict[str, str]]:
    out = docker.ok("images", "--no-trunc", "--format", "{{json .}}", *arguments)
    return [json.loads(line) for line in out.splitlines()]


def test_images_lists_repository_tag_id_and_size(docker: Docker, shelf: Shelf) -> None:
    row = next(row for row in listed(docker) if row["Repository"] == "configured")
    assert row["Tag"] == "latest"
    assert row["ID"] == shelf.product("configured").image.id
    assert row["Size"].endswith("MB")


def test_images_digests_and_filters(docker: Docker, shelf: Shelf) -> None:
    reference = shelf.reference("busybox")
    (row,) = listed(docker, "--digests", reference)
    assert row["Digest"] == shelf.product("busybox").digest
    assert {row["Repository"] for row in listed(docker, "--filter", "reference=config*")} == {"configured"}
    assert "configured" in {row["Repository"] for row in listed(docker, "--filter", "label=maintainer=tester")}
    assert listed(docker, "--filter", "label=maintainer=nobody") == []
    assert docker.ok("images", "-q", "nowhere") == ""


def test_image_inspect_tells_the_configuration(docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("configured")
    seen = docker.inspect("image", "configured")
    assert seen["Id"] == product.image.id
    assert seen["RepoTags"] and "configured:latest" in seen["RepoTags"]
    assert f"{product.reference}@{product.digest}" in seen["RepoDigests"]
    assert (seen["Os"], seen["Architecture"]) == ("linux", images.ARCHITECTURE)
    assert datetime.fromisoformat(seen["Created"].replace("Z", "+00:00")).isoformat() == "2024-02-29T12:00:00+00:00"
    assert seen["RootFS"] == {"Type": "layers", "Layers": [blob.diff_id for blob in product.image.layers]}
    for key, value in images.CONFIGURED.items():
        assert seen["Config"][key] == value
    assert seen["Size"] > 1_000_000


def test_an_image_is_found_by_full_and_short_id_tag_and_digest(docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("busybox")
    identity = product.image.id
    names = (identity, identity[7:], identity[7:19], "busybox:latest", "docker.io/library/busybox",
             product.reference, f"{product.reference}@{product.digest}")  # fmt: skip
    for name in names:
        assert docker.inspect("image", name)["Id"] == identity, name


def test_tag_gives_an_image_a_further_name_and_rmi_takes_it(docker: Docker) -> None:
    docker.ok("tag", "busybox", "example.org:5000/some/where:v1")
    assert docker.ok("run", "--rm", "example.org:5000/some/where:v1", "echo", "same") == "same"
    assert docker.ok("rmi", "example.org:5000/some/where:v1") == "Untagged: example.org:5000/some/where:v1"
    assert docker.ok("run", "--rm", "busybox", "echo", "still here") == "still here"


def test_tag_moves_to_another_image(docker: Docker, shelf: Shelf) -> None:
    docker.ok("tag", "busybox", "moving:v1")
    docker.ok("tag", "configured", "moving:v1")
    assert docker.inspect("image", "moving:v1")["Id"] == shelf.product("configured").image.id
    docker.ok("rmi", "moving:v1")


@pytest.mark.parametrize("name", ["UPPER", "a b", "x:", "-x/y", "x:bad/tag"])
def test_an_impossible_name_is_refused(docker: Docker, name: str) -> None:
    outcome = docker("tag", "--", "busybox", name)
    assert outcome.status == 1
    assert "is not a valid repository/tag" in outcome.err


def test_rmi_of_the_last_name_deletes_the_layers_nobody_else_has(docker: Docker, shelf: Shelf) -> None:
    product = shelf.product("layered")
    docker.ok("pull", "-q", product.reference)
    lines = docker.ok("rmi", product.reference).splitlines()
    assert lines[0] == f"Untagged: {product.reference}:latest"
    assert lines[1] == f"Untagged: {product.reference}@{product.digest}"
    assert lines[2] == f"Deleted: {product.image.id}"
    assert len(lines) == 3 + len(product.image.layers) - 1
    assert docker("image", "inspect", product.reference).status == 1
    assert docker.ok("run", "--rm", "busybox", "echo", "base kept") == "base kept"


def test_rmi_refuses_an_image_that_a_container_uses(docker: Docker, shelf: Shelf) -> None:
    reference = shelf.reference("layered")
    docker.ok("pull", "-q", reference)
    identity = docker.ok("create", reference, "true")
    outcome = docker("rmi", reference)
    assert outcome.status == 1
    assert f"container {identity[:12]} is using its referenced image" in outcome.err
    docker.ok("rm", identity)
    docker.ok("rmi", reference)


def test_rmi_by_id_of_an_image_with_two_names_is_refused_unless_forced(docker: Docker, shelf: Shelf) -> None:
    reference, identity = shelf.reference("layered"), shelf.product("layered").image.id
    docker.ok("pull", "-q", reference)
    docker.ok("tag", reference, "second:name")
    outcome = docker("rmi", identity)
    assert outcome.status == 1 and "image is referenced in multiple repositories" in outcome.err
    docker.ok("rmi", "-f", identity)
    assert docker.ok("images", "-q", "second") == ""


def test_an_unknown_image_is_named_in_the_error(docker: Docker) -> None:
    assert "No such image: nowhere:latest" in docker("rmi", "nowhere").err
    outcome = docker("image", "inspect", "nowhere")
    assert outcome.status == 1 and "No such image: nowhere" in outcome.err


def test_whiteouts_and_opaque_directories_end_in_the_right_tree(docker: Docker, shelf: Shelf) -> None:
    reference = shelf.reference("layered")
    docker.ok("pull", "-q", reference)
    script = "cd /data; find . -mindepth 1 | cut -c3- | sort"
    assert docker.ok("run", "--rm", reference, "sh", "-c", script).split() == images.LAYERED_TREE
    out = docker.ok("run", "--rm", reference, "sh", "-c",
                    "cd /data; cat replaced becomes-file opaque/shown; stat -c ' %u:%g %a %Y' replaced; "
                    "stat -c %h linked; "
                    "test linked -ef hardlink && echo same")  # fmt: skip
    assert out.splitlines() == [f"newfileshown 1000:1000 600 {images.MTIME}", "2", "same"]


def test_what_one_container_writes_no_other_sees(docker: Docker) -> None:
    docker.ok("run", "--name", "writer", "busybox", "sh", "-c", "echo x > /written; rm -f /etc/group")
    assert docker("run", "--rm", "busybox", "sh", "-c", "test -e /etc/group && ls /written").status == 1
    assert docker.ok("start", "-a", "writer") == ""


def test_history_lists_the_layers(docker: Docker) -> None:
    out = docker.ok("history", "--format", "{{.CreatedBy}}", "--no-trunc", "configured")
    assert out.splitlines() == ["tests layer 1", "tests layer 0"]
