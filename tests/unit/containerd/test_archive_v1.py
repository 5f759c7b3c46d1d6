"""Docker's first image format, turned into an image-spec config."""

import pytest

from sampan import errors
from sampan.containerd import archive_v1

A, B = "a" * 64, "b" * 64


def test_every_tag_of_every_repository_is_an_image():
    found = archive_v1.tops({"x": {"1": A, "2": B}, "r.test/y": {"latest": A}})
    assert list(found) == [("x:1", A), ("x:2", B), ("r.test/y:latest", A)]


def test_a_chain_goes_from_the_lowest_layer_to_the_top():
    documents = {B: {"id": B, "parent": A}, A: {"id": A}}
    assert archive_v1.chain(B, documents.__getitem__) == [(A, documents[A]), (B, documents[B])]


@pytest.mark.parametrize("parent", ["../x", 5, "A" * 64, [A]])
def test_a_parent_that_is_no_id_is_refused(parent):
    with pytest.raises(errors.InvalidArgument, match="invalid image archive"):
        archive_v1.chain(B, lambda layer: {"parent": parent})


def test_a_ring_of_layers_ends():
    with pytest.raises(errors.InvalidArgument, match="invalid image archive"):
        archive_v1.chain(A, lambda layer: {"parent": A})


def test_the_configuration_is_the_top_ones_and_the_history_all_of_theirs():
    ran = {"Cmd": ["/bin/sh", "-c", "#(nop) ADD"]}
    documents = [
        {"created": "2014-01-01T00:00:00Z", "container_config": ran, "author": "us"},
        {"created": "2014-01-02T00:00:00Z", "architecture": "arm", "os": "linux", "config": {"Cmd": ["x"]}, "Size": 5},
    ]
    assert archive_v1.config(documents, ["sha256:1", "sha256:2"]) == {
        "architecture": "arm",
        "os": "linux",
        "created": "2014-01-02T00:00:00Z",
        "config": {"Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
        "history": [
            {"created": "2014-01-01T00:00:00Z", "author": "us", "created_by": "/bin/sh -c #(nop) ADD"},
            {"created": "2014-01-02T00:00:00Z"},
        ],
    }
