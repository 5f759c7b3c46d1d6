"""-v, --mount, --tmpfs and --volumes-from in Docker's rules and words."""

from __future__ import annotations

import pytest

from sampan.api.docker.containers import BindOptions, Config, HostConfig, TmpfsOptions, VolumeOptions
from sampan.api.docker.containers import Mount as MountRequest
from sampan.engine.containers import mounts
from sampan.errors import InvalidArgument, NotFound


def exists(path):
    return path == "/here"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("/data", {"type": "volume", "name": "", "destination": "/data", "anonymous": True, "rw": True}),
        ("v:/data", {"type": "volume", "name": "v", "destination": "/data", "copy_up": True}),
        ("v:/data:nocopy", {"type": "volume", "name": "v", "copy_up": False}),
        ("/s/../h:/c//d:ro,rslave", {"source": "/h", "destination": "/c/d", "rw": False, "propagation": "rslave"}),
        ("/s:/c:z", {"type": "bind", "propagation": "rprivate", "mode": "z", "create_source": True}),
    ],
)
def test_binds_are_read_as_docker_reads_them(text, fields):
    found = mounts.parse_bind(text)
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid volume specification: ''"),
        ("/data:ro", "invalid volume specification: '/data:ro'"),
        ("/h:/c:nocopy", 'invalid mount config for type "bind": field VolumeOptions must not be specified'),
        (":/a", "invalid volume specification: ':/a'"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/a:/b:nonsense", "invalid mode: nonsense"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
    ],
)
def test_wrong_binds_are_refused_in_dockers_words(text, message):
    with pytest.raises(InvalidArgument) as caught:
        mounts.parse_bind(text)
    assert message in str(caught.value)


def test_a_bind_of_mount_must_exist_unless_it_may_be_made():
    with pytest.raises(InvalidArgument) as caught:
        mounts.parse_mount(MountRequest(type="bind", source="/gone", target="/t"), exists)
    assert str(caught.value) == 'invalid mount config for type "bind": bind source path does not exist: /gone'
    assert (
        mounts.parse_mount(MountRequest(type="bind", source="/here", target="/t", read_only=True), exists).rw is False
    )
    made = MountRequest(type="bind", source="/gone", target="/t", bind_options=BindOptions(create_mountpoint=True))
    assert mounts.parse_mount(made, exists).create_source is True


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (MountRequest(type="odd", target="/t"), "mount type unknown"),
        (MountRequest(type="bind", source="/here"), "field Target must not be empty"),
        (MountRequest(type="bind", target="/t"), "field Source must not be empty"),
        (MountRequest(type="tmpfs", source="/here", target="/t"), "field Source must not be specified"),
        (
            MountRequest(type="tmpfs", target="/t", bind_options=BindOptions()),
            "field BindOptions must not be specified",
        ),
        (
            MountRequest(type="volume", source="v", target="/t", volume_options=VolumeOptions(subpath="../x")),
            "subpath must be a relative path within the volume",
        ),
    ],
)
def test_wrong_mounts_are_refused_in_dockers_words(request_, message):
    with pytest.raises(InvalidArgument) as caught:
        mounts.parse_mount(request_, exists)
    assert message in str(caught.value)


def test_a_tmpfs_mount_has_its_size_and_mode():
    request = MountRequest(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(size_bytes=4096, mode=0o700))
    assert mounts.parse_mount(request, exists).options == ["noexec", "nosuid", "nodev", "rw", "mode=700", "size=4096"]


def test_the_same_destination_twice_is_refused():
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /d"):
        mounts.collect(Config(), HostConfig(binds=["a:/d", "b:/d"]), _nobody, exists)


def test_an_image_volume_gives_way_to_an_explicit_mount():
    found = mounts.collect(Config(volumes={"/d": {}, "/e": {}}), HostConfig(binds=["v:/d"]), _nobody, exists)
    assert [(mount.destination, mount.anonymous) for mount in found] == [("/d", False), ("/e", True)]


def test_a_given_tmpfs_option_replaces_its_opposite_and_unknown_ones_are_refused():
    assert mounts.tmpfs_options("") == ["noexec", "nosuid", "nodev"]
    assert mounts.tmpfs_options("exec,mode=1770") == ["nosuid", "nodev", "exec", "mode=1770"]
    with pytest.raises(InvalidArgument, match=r'invalid tmpfs option \["odd" "1"\]'):
        mounts.tmpfs_options("odd=1")


def _nobody(reference):
    raise AssertionError(reference)


def test_a_tmpfs_is_refused_without_the_prefix_of_mounts():
    with pytest.raises(InvalidArgument) as caught:
        mounts.collect(Config(), HostConfig(tmpfs={"x": ""}), lambda _: pytest.fail("nobody is asked for"), exists)
    assert str(caught.value) == "invalid mount path: 'x' mount path must be absolute"


def test_a_relative_anonymous_volume_counts_from_the_root():
    found = mounts.collect(
        Config(volumes={"x:/y": {}}), HostConfig(), lambda _: pytest.fail("nobody is asked for"), exists
    )
    assert [mount.destination for mount in found] == ["/x:/y"]


def test_volumes_of_a_container_that_does_not_exist_are_no_missing_image():
    def find(reference):
        raise NotFound(f"No such container: {reference}")

    with pytest.raises(InvalidArgument, match="No such container: gone"):
        mounts.collect(Config(), HostConfig(volumes_from=["gone"]), find, exists)
