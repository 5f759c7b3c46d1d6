"""Image documents: what is read from registries, and that nothing ambiguous is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.oci import image
from sampan.oci.image import Descriptor, Index, Manifest, Platform

DIGEST = "sha256:" + "0f" * 32


def descriptor(**more):
    return {"mediaType": image.MEDIA_OCI_CONFIG, "digest": DIGEST, "size": 3, **more}


def document(**fields):
    return json.dumps({"schemaVersion": 2, **fields}).encode()


MANIFEST = {"mediaType": image.MEDIA_OCI_MANIFEST, "config": descriptor(), "layers": [descriptor(), descriptor()]}
INDEX = {
    "mediaType": image.MEDIA_OCI_INDEX,
    "manifests": [descriptor(platform={"os": "linux", "architecture": "arm64"})],
}


def test_a_manifest_is_read():
    found = image.parse(document(**MANIFEST, annotations={"a": "b"}), image.MEDIA_OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.config == Descriptor(image.MEDIA_OCI_CONFIG, DIGEST, 3)
    assert (len(found.layers), found.annotations) == (2, {"a": "b"})


def test_an_index_is_read():
    found = image.parse(document(**INDEX))
    assert isinstance(found, Index)
    assert found.manifests[0].platform == Platform("linux", "arm64")


def test_without_any_type_the_members_decide():
    assert isinstance(image.parse(document(config=descriptor(), layers=[])), Manifest)
    assert isinstance(image.parse(document(manifests=[])), Index)


@pytest.mark.parametrize(
    "data, media_type",
    [(document(**MANIFEST, manifests=[]), ""),
     (document(**INDEX, layers=[]), ""),
     (document(manifests=[], fsLayers=[]), ""),
     (document(**MANIFEST), image.MEDIA_OCI_INDEX),
     (document(**{**MANIFEST, "mediaType": image.MEDIA_OCI_INDEX}), ""),
     (document(config=descriptor(), layers=[]), image.MEDIA_OCI_INDEX),
     (document(mediaType="text/plain", layers=[]), ""),
     (document(), ""),
     (b'{"schemaVersion": 1, "fsLayers": []}', ""),
     (b"[]", ""), (b"null", ""), (b"", ""), (b"{", ""), (b"\xff", ""), (b"[" * 100_000, ""),
     (document(**{**MANIFEST, "config": {"digest": "sha256:x", "size": 1}}), ""),
     (document(**{**MANIFEST, "config": descriptor(size=-1)}), ""),
     (document(**{**MANIFEST, "config": descriptor(size=True)}), ""),
     (document(**{**MANIFEST, "config": None}), ""),
     (document(**{**MANIFEST, "layers": {}}), ""),
     (document(**{**MANIFEST, "layers": {"a": 1}}), ""),
     (document(**{**MANIFEST, "annotations": {"a": 1}}), "")],
)  # fmt: skip
def test_what_is_neither_or_both_is_refused(data, media_type):
    with pytest.raises(errors.InvalidArgument):
        image.parse(data, media_type)


def test_descriptors_go_both_ways():
    whole = Descriptor("t", DIGEST, 1, {"a": "b"}, Platform("linux", "arm", "v7", "1", ("f",)), ("http://u",), "art")
    assert image.descriptor_from(image.descriptor_document(whole)) == whole
    bare = Descriptor("t", DIGEST, 1)
    assert image.descriptor_document(bare) == {"mediaType": "t", "digest": DIGEST, "size": 1}


def test_the_diff_ids_of_a_config():
    assert image.diff_ids(image.config_document(b'{"rootfs": {"diff_ids": ["%s"]}}' % DIGEST.encode())) == [DIGEST]
    assert image.diff_ids({}) == []
    for bad in ({"rootfs": []}, {"rootfs": {"diff_ids": [1]}}, {"rootfs": {"diff_ids": ["x"]}}):
        with pytest.raises(errors.InvalidArgument):
            image.diff_ids({"rootfs": bad["rootfs"] or "text"} if bad["rootfs"] == [] else bad)
    with pytest.raises(errors.InvalidArgument):
        image.config_document(b"[]")


KEYS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "os"]
KEYS += ["architecture", "annotations", "urls", "subject", "os.features"]
ANY_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just(DIGEST)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)),
    max_leaves=12,
)


@given(ANY_JSON)
def test_any_json_is_a_document_or_an_invalid_argument(value):
    try:
        image.parse(json.dumps(value).encode())
    except errors.InvalidArgument:
        pass


USUAL = {
    "os": "linux", "architecture": "amd64", "created": "2020-01-01T00:00:00Z", "variant": None, "os.features": ["a"],
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created_by": "x", "empty_layer": True}],
    "config": {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "Labels": {"a": "b"}, "Volumes": {"/v": {}},
               "Healthcheck": {"Test": ["NONE"], "Interval": 10**9}, "StopTimeout": 3, "Unknown": [[]]},
    "unknown": 5,
}  # fmt: skip
"""A configuration with nearly everything, null and unknown members too."""


def test_a_usual_config_is_taken_as_it_stands():
    assert image.config_document(json.dumps(USUAL).encode()) == USUAL


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        *((key, odd) for key in ("history", "rootfs", "config", "os.features") for odd in (5, True, "x", [[]], 1e99)),
        *((key, 5) for key in ("os", "architecture", "variant", "created", "author")),
        ("rootfs", {"diff_ids": [5]}), ("rootfs", {"diff_ids": {}}), ("history", [None]), ("history", [{"comment": 5}]),
        *(("config", {key: 5}) for key in ("User", "Env", "Cmd", "Entrypoint", "Volumes", "ExposedPorts", "WorkingDir",
                                           "Labels", "StopSignal", "Healthcheck", "OnBuild", "Shell")),
        *(("config", one) for one in ({"Env": "A=b"}, {"Env": [None]}, {"Labels": {"a": 5}}, {"StopTimeout": True},
                                      {"StopTimeout": 1 << 70}, {"Healthcheck": {"Test": 5}}, {"Volumes": ["/v"]})),
    ],
)  # fmt: skip
def test_a_config_whose_fields_are_of_other_types_is_refused(key, odd):
    """Docker refuses it as well; where it was taken, one such image ended `docker images` with an error."""
    with pytest.raises(errors.InvalidArgument, match=f'^invalid image config: "{key}"$'):
        image.config_document(json.dumps({**USUAL, key: odd}).encode())


def test_a_command_that_is_a_string_is_one_word_and_half_a_pair_is_no_character():
    found = image.config_document(b'{"author": "\\ud800x", "config": {"Cmd": "true", "Env": ["A=\\ud83d\\ude00"]}}')
    assert found["config"] == {"Cmd": ["true"], "Env": ["A=\U0001f600"]}
    assert found["author"].encode().decode().endswith("x")
