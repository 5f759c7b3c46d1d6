"""Records: found by id, name and prefix; the same after the database is opened again."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest

from sampan.api.docker.containers import Config, HostConfig
from sampan.engine.containers import names
from sampan.engine.containers.model import Container, after
from sampan.engine.containers.room import Usage
from sampan.engine.containers.store import Store
from sampan.errors import AlreadyExists, Conflict, InvalidArgument, NotFound


def record(container_id: str, name: str, **fields: object) -> Container:
    plain = {"created_at": 1, "image_id": "sha256:1", "parent": "p", "path": "sh", **fields}
    return Container(id=container_id, name=name, config=Config(), host_config=HostConfig(), **plain)  # type: ignore[arg-type]


@pytest.fixture
def store():
    made = Store(sqlite3.connect(":memory:"))
    made.insert(record("abc" + "0" * 61, "web"))
    made.insert(record("abd" + "0" * 61, "abc", created_at=2))
    return made


def test_lookup_by_id_then_name_then_unique_prefix(store):
    assert store.get("web").name == store.get("/web").name == "web"
    # A name wins over a prefix.
    assert store.get("abc").id.startswith("abd")
    assert store.get("abd").id.startswith("abd")
    with pytest.raises(InvalidArgument, match="multiple IDs found with provided prefix: ab"):
        store.get("ab")
    for missing in ("x", "abcd", "ABC0"):
        with pytest.raises(NotFound, match=f"No such container: {missing}"):
            store.get(missing)
    with pytest.raises(InvalidArgument):
        store.get("")


def test_records_are_there_after_the_database_is_opened_again(tmp_path):
    path = str(tmp_path / "engine.db")
    connection = sqlite3.connect(path)
    first = Store(connection)
    first.insert(record("a" * 64, "web"))
    first.put(msgspec.structs.replace(first.get("web"), status="exited", exit_code=3, name="renamed"))
    connection.close()
    again = Store(sqlite3.connect(path))
    assert (again.get("renamed").exit_code, again.get("a").status) == (3, "exited")
    with pytest.raises(NotFound):
        again.get("web")


def test_a_reserved_name_is_taken_until_it_is_given_up(store):
    with store.name_reserved("new", "f" * 64):
        with pytest.raises(AlreadyExists, match='The container name "/new" is already in use by container "ffff'):
            store.check_free("new")
        # Reserved is not yet there.
        with pytest.raises(NotFound):
            store.get("new")
    assert store.is_free("new")


def test_delete_frees_the_name_and_is_idempotent(store):
    store.delete(store.get("web").id)
    store.delete("abc" + "0" * 61)
    assert store.is_free("web") and [found.name for found in store.all()] == ["abc"]
    with pytest.raises(NotFound):
        store.put(record("abc" + "0" * 61, "web"))


def test_usage_counts_states_and_users(store):
    store.put(msgspec.structs.replace(store.get("web"), status="paused"))
    usage = Usage(store)
    assert usage.counts() == {"running": 0, "paused": 1, "stopped": 1}
    assert dict(usage.using_image("sha256:1")) == {store.get("web").id: True, store.get("abc").id: False}
    assert list(usage.using_volume("v")) == []


def test_an_unknown_pair_of_status_and_verb_is_a_conflict():
    assert after("created", "start") == "running"
    for status, verb in (("paused", "start"), ("removing", "start"), ("created", "pause"), ("odd", "odd")):
        with pytest.raises(Conflict):
            after(status, verb, "c")


def test_names_are_an_adjective_and_a_noun_and_get_a_number_when_words_run_out():
    assert names.new_name(lambda name: True).count("_") == 1
    tried = []
    found = names.new_name(lambda name: tried.append(name) is None and len(tried) > 8)
    assert found[-1].isdigit()
    assert all(len(names.new_id()) == 64 and not names.new_id()[:12].isdigit() for _ in range(100))
