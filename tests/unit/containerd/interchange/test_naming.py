from sampan.containerd.archive_reading import NAME_ANNOTATION, REF_ANNOTATION
from sampan.containerd.interchange.naming import ImageReference, StoreTarget, archived_names, plain_names
from sampan.oci.image import MEDIA_OCI_MANIFEST, Descriptor

DIGEST = "sha256:" + "1" * 64


def member(**annotations):
    keys = {"name": NAME_ANNOTATION, "ref": REF_ANNOTATION}
    return Descriptor(MEDIA_OCI_MANIFEST, DIGEST, 7, {keys[key]: value for key, value in annotations.items()})


def names(reference, **annotations):
    return archived_names(StoreTarget(references=[reference]), member(**annotations))


def test_a_full_name_of_an_archive_is_kept_where_any_may_be():
    anything = ImageReference("import-2026-01-02", is_prefix=True, allow_overwrite=True)
    assert names(anything, name="docker.io/library/busybox:1", ref="1") == ["docker.io/library/busybox:1"]


def test_a_bare_tag_is_put_behind_the_prefix():
    assert names(ImageReference("here", is_prefix=True), ref="1.36") == ["here:1.36"]


def test_a_prefix_takes_only_names_that_begin_with_whole_components_of_it():
    prefix = ImageReference("example.org/foo", is_prefix=True)
    assert names(prefix, name="example.org/foo/bar:1") == ["example.org/foo/bar:1"]
    assert names(prefix, name="example.org/foo:1") == ["example.org/foo:1"]
    assert names(prefix, name="example.org/foobar:1") == []


def test_a_digest_is_added_unless_there_is_a_name_and_that_is_enough():
    always = ImageReference("here", is_prefix=True, add_digest=True)
    rarely = ImageReference("here", is_prefix=True, add_digest=True, skip_named_digest=True)
    assert names(always, ref="1") == ["here:1", f"here@{DIGEST}"]
    assert names(rarely, ref="1") == ["here:1"]
    assert names(rarely, name="elsewhere/x:1") == [f"here@{DIGEST}"]


def test_an_image_without_a_name_gets_none():
    assert names(ImageReference("here", is_prefix=True)) == []


def test_a_pull_names_the_target_and_every_reference_that_is_no_prefix():
    references = [ImageReference("b:1"), ImageReference("c", add_digest=True), ImageReference("d", is_prefix=True)]
    target = StoreTarget(name="a:1", references=references)
    assert plain_names(target, member()) == ["a:1", "b:1", f"c@{DIGEST}"]
