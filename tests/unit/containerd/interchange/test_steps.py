from sampan.containerd.archive_reading import REF_ANNOTATION
from sampan.containerd.interchange.steps import COMPLETE, DOWNLOADING, EXISTS, WAITING, Tree, node_name
from sampan.oci.image import MEDIA_OCI_CONFIG, MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST, Descriptor

LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "sha256:" + "a" * 64, 100)
CONFIG = Descriptor(MEDIA_OCI_CONFIG, "sha256:" + "b" * 64, 10)


def told():
    steps = []
    return steps, Tree(steps.append)


def test_a_node_is_named_by_its_kind_and_digest_and_by_its_tag_where_one_is_noted():
    assert node_name(LAYER) == "layer-" + LAYER.digest
    assert node_name(CONFIG) == "config-" + CONFIG.digest
    assert node_name(Descriptor(MEDIA_OCI_INDEX, CONFIG.digest, 1)) == "index-" + CONFIG.digest
    tagged = Descriptor(MEDIA_OCI_MANIFEST, CONFIG.digest, 1, {REF_ANNOTATION: "latest"})
    assert node_name(tagged) == "manifest-latest@" + CONFIG.digest
    assert node_name(Descriptor("application/pdf", CONFIG.digest, 1)) == "unknown-" + CONFIG.digest


def test_a_layer_waits_moves_and_is_complete():
    steps, tree = told()
    tree.add(LAYER, "top")
    tree.moved(LAYER.digest, DOWNLOADING, 40)
    tree.ended(LAYER.digest)
    assert [(step.event, step.progress, step.total) for step in steps] == [
        (WAITING, 0, 100),
        (DOWNLOADING, 40, 100),
        (COMPLETE, 100, 100),
    ]
    assert {tuple(step.parents) for step in steps} == {("top",)}


def test_what_has_ended_is_not_told_again_by_anything_that_comes_late():
    steps, tree = told()
    tree.add(LAYER, "top")
    tree.ended(LAYER.digest, EXISTS)
    tree.moved(LAYER.digest, DOWNLOADING, 40)
    tree.ended(LAYER.digest)
    assert [step.event for step in steps] == [WAITING, EXISTS]


def test_a_layer_of_two_manifests_hangs_below_both():
    steps, tree = told()
    tree.add(LAYER, "one")
    tree.add(LAYER, "two")
    tree.ended(LAYER.digest)
    assert [tuple(step.parents) for step in steps] == [("one",), ("one", "two")]


def test_the_end_completes_what_is_open_and_tells_of_the_top_once_more():
    steps, tree = told()
    tree.add(CONFIG, "top")
    tree.ended(CONFIG.digest)
    tree.add(LAYER, "top")
    del steps[:]
    tree.end_all()
    assert [(step.event, step.descriptor) for step in steps] == [(COMPLETE, LAYER), (COMPLETE, CONFIG)]


def test_an_unknown_digest_is_nobodys_node():
    steps, tree = told()
    tree.moved("sha256:" + "f" * 64, DOWNLOADING, 1)
    tree.ended("")
    assert steps == []
