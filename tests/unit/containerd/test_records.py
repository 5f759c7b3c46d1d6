"""Containers, leases, namespaces and events: the records that clients of the API make."""

from __future__ import annotations

import asyncio

import pytest

from sampan.containerd import containers, leasing
from sampan.containerd.containers import Container, Containers, Payload
from sampan.containerd.events import Event, Exchange
from sampan.containerd.leasing import Leasing
from sampan.containerd.metadata import Metadata
from sampan.containerd.namespaces import Namespace, Namespaces
from sampan.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, Unimplemented

SPEC = Payload("spec", b"{}")


@pytest.fixture
def metadata(tmp_path):
    metadata = Metadata(f"{tmp_path}/core.db")
    containers.create_table(metadata)
    yield metadata
    metadata.close()


@pytest.fixture
def store(metadata):
    return Containers(metadata, "here")


def record(**more):
    given = {"id": "c1", "runtime": "r", "spec": SPEC, "labels": {"a": "b"}, "extensions": {"e": Payload("t", b"\xff")}}
    return Container(**{**given, **more})


def test_a_container_comes_back_as_it_was_created(store):
    made = store.create(record(options=Payload("o", b"\0\1"), snapshotter="native", snapshot_key="k"))
    assert store.get("c1") == made
    assert (made.options, made.extensions, made.labels) == (
        Payload("o", b"\0\1"),
        {"e": Payload("t", b"\xff")},
        {"a": "b"},
    )
    assert made.created_at == made.updated_at > 0


def test_a_container_is_created_once_and_its_namespace_alone_sees_it(store, metadata):
    store.create(record())
    with pytest.raises(AlreadyExists, match='container "c1": already exists'):
        store.create(record())
    other = Containers(metadata, "there")
    with pytest.raises(NotFound, match='container "c1" in namespace "there": not found'):
        other.get("c1")
    assert other.list() == []


def test_a_mask_changes_what_it_names_and_nothing_else(store):
    store.create(record())
    changed = store.update(record(labels={"x": "y"}, image="i", extensions={}), ["labels.x", "labels.a"])
    assert changed.labels == {"x": "y"}
    assert (changed.image, changed.extensions) == ("", {"e": Payload("t", b"\xff")})
    assert store.update(record(extensions={}), ["extensions.e", "image"]).extensions == {"e": Payload("", b"")}


def test_without_a_mask_all_that_may_change_is_replaced_and_the_rest_must_be_the_same(store):
    store.create(record())
    assert store.update(record(labels={"n": "w"}, image="i"), []).labels == {"n": "w"}
    with pytest.raises(InvalidArgument, match=r"Runtime\.Name field is immutable"):
        store.update(record(runtime="other"), [])
    with pytest.raises(InvalidArgument, match="Snapshotter field is immutable"):
        store.update(record(snapshotter="other"), [])


@pytest.mark.parametrize("path", ["runtime", "id", "created_at", ""])
def test_a_mask_with_another_field_is_refused(store, path):
    store.create(record())
    with pytest.raises(InvalidArgument, match="cannot update"):
        store.update(record(), [path])


@pytest.mark.parametrize(
    "wrong",
    [{"id": "a b"}, {"id": ""}, {"runtime": ""}, {"snapshot_key": "k"}, {"extensions": {"": SPEC}}],
)
def test_an_incomplete_container_is_refused(store, wrong):
    with pytest.raises(InvalidArgument):
        store.create(record(**wrong))
    assert store.list() == []


def test_a_deleted_container_is_gone(store):
    store.create(record())
    store.delete("c1")
    with pytest.raises(NotFound):
        store.delete("c1")


BLOB = "sha256:" + "1" * 64


def test_a_lease_has_resources_until_it_is_deleted(metadata):
    leases = Leasing(metadata, "here")
    leases.create("l", {"k": "v"})
    leases.add("l", "content", BLOB)
    leases.add("l", "snapshots/overlayfs", "s")
    leases.add("l", "content", BLOB)
    assert leases.resources("l") == [("content", BLOB), ("snapshots/overlayfs", "s")]
    leases.remove("l", "content", BLOB)
    assert leases.resources("l") == [("snapshots/overlayfs", "s")]
    leases.delete("l")
    leases.create("l", {})
    assert leases.resources("l") == []


def test_leases_refuse_what_is_not_there_and_what_they_cannot_hold(metadata):
    leases = Leasing(metadata, "here")
    leases.create("l", {})
    with pytest.raises(AlreadyExists):
        leases.create("l", {})
    for call in (leases.get, leases.delete, leases.resources):
        with pytest.raises(NotFound, match='lease "n": not found'):
            call("n")
    with pytest.raises(Unimplemented):
        leases.add("l", "volumes", "v")
    with pytest.raises(InvalidArgument):
        leases.add("l", "content", "")


@pytest.mark.parametrize(
    ("end", "over"), [("2001-01-01T00:00:00Z", True), ("2999-01-01T00:00:00Z", False), ("?", False)]
)
def test_a_lease_ends_at_its_own_time(metadata, end, over):
    assert Leasing(metadata, "here").create("l", {leasing.EXPIRE_LABEL: end}).has_expired() is over


def test_a_namespace_goes_only_when_it_is_empty(metadata):
    names = Namespaces(metadata)
    names.create(Namespace("here", {"a": "b"}))
    with pytest.raises(AlreadyExists):
        names.create(Namespace("here"))
    Containers(metadata, "here").create(record())
    with pytest.raises(Conflict, match='namespace "here" must be empty, but it still has containers'):
        names.delete("here")
    Containers(metadata, "here").delete("c1")
    names.delete("here")
    with pytest.raises(NotFound):
        names.get("here")


def test_a_namespace_is_there_once_something_was_written_in_it(metadata):
    names = Namespaces(metadata)
    names.touch("n")
    names.touch("n")
    assert [one.name for one in names.list()] == ["n"]
    assert names.relabel("n", {"a": "", "b": "c"}).labels == {"b": "c"}


def test_every_subscriber_hears_what_it_asked_for_in_order():
    async def scenario():
        exchange = Exchange()
        tasks = exchange.subscribe(["namespace==moby,topic~=|^/tasks/|"])
        everything = exchange.subscribe([])
        named = exchange.subscribe(["event.container_id==c2"])
        for number in range(3):
            exchange.publish(Event("moby", "/tasks/start", "t", b"", {"container_id": f"c{number}"}))
        exchange.publish(Event("other", "/tasks/start", "t", b""))
        exchange.publish(Event("moby", "/images/create", "t", b""))
        assert [(await anext(tasks)).fields["container_id"] for _ in range(3)] == ["c0", "c1", "c2"]
        assert [(await anext(everything)).namespace for _ in range(5)] == ["moby"] * 3 + ["other", "moby"]
        assert (await anext(named)).timestamp > 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(tasks)

    asyncio.run(scenario())


@pytest.mark.parametrize("topic", ["", "/", "tasks", "/tasks//x", "/tasks/a b"])
def test_an_event_needs_a_topic(topic):
    with pytest.raises(InvalidArgument):
        Exchange().publish(Event("moby", topic, "t", b""))
