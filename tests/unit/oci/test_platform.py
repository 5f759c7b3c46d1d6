"""Normal forms of platforms and the choice from an index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.oci import platform
from sampan.oci.image import Platform

OWN = platform.host()


@pytest.mark.parametrize(
    "text, shown",
    [("linux/amd64", "linux/amd64"), ("linux/x86_64", "linux/amd64"), ("linux/aarch64", "linux/arm64"),
     ("linux/arm64/v8", "linux/arm64"), ("linux/arm", "linux/arm/v7"), ("linux/armhf", "linux/arm/v7"),
     ("linux/armel", "linux/arm/v6"), ("linux/arm/6", "linux/arm/v6"), ("Linux/AMD64", "linux/amd64"),
     ("linux/amd64/v1", "linux/amd64"), ("linux/amd64/v3", "linux/amd64/v3"), ("windows/amd64", "windows/amd64"),
     ("amd64", "linux/amd64"), ("arm64", "linux/arm64"), ("macos/arm64", "darwin/arm64"),
     ("linux", f"linux/{OWN.architecture}")],
)  # fmt: skip
def test_one_spelling_for_each_platform(text, shown):
    assert platform.format(platform.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/am*64", "nonsense", "linux/a b"])
def test_what_is_no_platform_is_refused(text):
    with pytest.raises(errors.InvalidArgument):
        platform.parse(text)


def offered(*texts):
    return [platform.parse(text) if text else None for text in texts]


@pytest.mark.parametrize(
    "wanted, index, chosen",
    [("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
     ("linux/amd64", ["linux/386", "linux/amd64"], 1),
     ("linux/amd64", ["linux/386"], 0),
     ("linux/amd64", ["linux/arm64", "windows/amd64"], None),
     ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
     ("linux/amd64", ["linux/amd64/v2"], None),
     ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
     ("linux/arm64", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], 1),
     ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], 1),
     ("linux/arm/v6", ["linux/arm/v7"], None),
     ("linux/s390x", ["linux/amd64", ""], 1),
     ("linux/amd64", ["", "linux/amd64"], 1),
     ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
     ("linux/riscv64", ["linux/riscv64"], 0)],
)  # fmt: skip
def test_the_best_manifest_of_an_index_is_chosen(wanted, index, chosen):
    assert platform.choose(platform.parse(wanted), offered(*index)) == chosen


def test_an_attestation_is_never_chosen():
    assert platform.choose(OWN, [Platform("unknown", "unknown")]) is None


@given(st.text(max_size=30))
def test_any_text_is_a_platform_or_an_invalid_argument(text):
    try:
        found = platform.parse(text)
    except errors.InvalidArgument:
        return
    assert platform.normalize(found) == found
