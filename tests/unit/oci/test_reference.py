"""The reference grammar, on distribution/reference's examples and on anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.oci.reference import Reference, parse, parse_normalized

DIGEST = "sha256:" + "0f" * 32

# What is typed -> (domain, path, tag, digest, familiar spelling).
NORMAL = {
    "busybox": ("docker.io", "library/busybox", "", "", "busybox"),
    "busybox:1.36": ("docker.io", "library/busybox", "1.36", "", "busybox:1.36"),
    "docker.io/busybox": ("docker.io", "library/busybox", "", "", "busybox"),
    "index.docker.io/library/busybox": ("docker.io", "library/busybox", "", "", "busybox"),
    "docker.io/library/library": ("docker.io", "library/library", "", "", "library"),
    "user/app": ("docker.io", "user/app", "", "", "user/app"),
    "sampan/host": ("docker.io", "sampan/host", "", "", "sampan/host"),
    "a/b/c:t": ("docker.io", "a/b/c", "t", "", "a/b/c:t"),
    "library/a/b": ("docker.io", "library/a/b", "", "", "library/a/b"),
    "localhost/app": ("localhost", "app", "", "", "localhost/app"),
    "localhost:5000/app": ("localhost:5000", "app", "", "", "localhost:5000/app"),
    "127.0.0.1:5000/a/b:x": ("127.0.0.1:5000", "a/b", "x", "", "127.0.0.1:5000/a/b:x"),
    "[::1]:5000/app": ("[::1]:5000", "app", "", "", "[::1]:5000/app"),
    "Registry.example/app": ("Registry.example", "app", "", "", "Registry.example/app"),
    "UPPER/app": ("UPPER", "app", "", "", "UPPER/app"),
    f"busybox@{DIGEST}": ("docker.io", "library/busybox", "", DIGEST, f"busybox@{DIGEST}"),
    f"r.io/a:t@{DIGEST}": ("r.io", "a", "t", DIGEST, f"r.io/a:t@{DIGEST}"),
    "a__b/c.d-e---f": ("docker.io", "a__b/c.d-e---f", "", "", "a__b/c.d-e---f"),
    "app:_x.Y-z": ("docker.io", "library/app", "_x.Y-z", "", "app:_x.Y-z"),
    "app:" + "t" * 128: ("docker.io", "library/app", "t" * 128, "", "app:" + "t" * 128),
}


@pytest.mark.parametrize("text, expected", NORMAL.items(), ids=[k[:40] for k in NORMAL])
def test_what_is_typed_is_normalised(text, expected):
    found = parse_normalized(text)
    assert (found.domain, found.path, found.tag, found.digest, found.familiar) == expected
    assert parse(str(found)) == found
    assert parse_normalized(found.familiar) == found


BAD = {
    "": "invalid reference format",
    ":tag": "invalid reference format",
    "Busybox": r"invalid reference format: repository name \(library/Busybox\) must be lowercase",
    "user/App:x": r"invalid reference format: repository name \(user/App\) must be lowercase",
    "a//b": "invalid reference format",
    "a/": "invalid reference format",
    "/a": "invalid reference format",
    "a:": "invalid reference format",
    "a:-x": "invalid reference format",
    "a:" + "t" * 129: "invalid reference format",
    "a___b": "invalid reference format",
    "-a": "invalid reference format",
    "a b": "invalid reference format",
    "a\n": "invalid reference format",
    "https://r.io/a": "invalid reference format",
    "a@sha256:abc": "invalid reference format",
    f"a@{DIGEST}0": "invalid checksum digest length",
    "a@md5:" + "0" * 32: "unsupported digest algorithm",
    "0f" * 32: "cannot specify 64-byte hexadecimal strings",
    "r.io/" + "a" * 256: "repository name must not be more than 255 characters",
    "ä": "invalid reference format",
    "a:ä": "invalid reference format",
}


@pytest.mark.parametrize("text, message", BAD.items(), ids=[repr(k[:40]) for k in BAD])
def test_what_is_no_reference_is_refused_in_dockers_words(text, message):
    with pytest.raises(errors.InvalidArgument, match=message):
        parse_normalized(text)


@pytest.mark.parametrize("text", ["busybox", "library/busybox", ""])
def test_a_canonical_reference_names_its_domain(text):
    with pytest.raises(errors.InvalidArgument):
        parse(text)


def test_tags_and_digests_are_added_and_checked():
    name = parse_normalized("app")
    assert str(name.with_default_tag()) == "docker.io/library/app:latest"
    assert name.tagged("x").with_default_tag().tag == "x"
    assert str(name.digested(DIGEST)) == f"docker.io/library/app@{DIGEST}"
    assert name.digested(DIGEST).with_default_tag().tag == ""
    with pytest.raises(errors.InvalidArgument, match="invalid tag format"):
        name.tagged("a b")
    with pytest.raises(errors.InvalidArgument):
        name.digested("sha256:x")


def test_references_are_values():
    one = parse_normalized("app:1")
    assert len({one, parse_normalized("docker.io/library/app:1")}) == 1
    assert one != parse_normalized("app:2")
    with pytest.raises(AttributeError):
        one.tag = "2"


@given(st.text(max_size=300))
def test_any_text_is_a_reference_or_an_invalid_argument(text):
    try:
        found = parse_normalized(text)
    except errors.InvalidArgument:
        return
    assert parse(str(found)) == found


COMPONENT = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,2}", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(st.lists(COMPONENT, min_size=1, max_size=4), st.one_of(st.just(""), TAG), st.booleans())
def test_what_the_grammar_makes_is_accepted(components, tag, digested):
    reference = Reference("r.example:5000", "/".join(components), tag, DIGEST if digested else "")
    if len(reference.path) <= 255:
        assert parse_normalized(str(reference)) == reference
