"""core.db: transactions, what they leave when they fail, and how durable they are."""

from __future__ import annotations

import threading

import pytest

from sampan.containerd.metadata import Metadata, labels_from, labels_text


@pytest.fixture
def metadata(tmp_path):
    metadata = Metadata(f"{tmp_path}/core.db")
    yield metadata
    metadata.close()


def add(connection, ref):
    connection.execute("insert into ingests (namespace, ref, started_at) values ('n', ?, 0)", (ref,))


def refs(metadata):
    return [row[0] for row in metadata.rows("select ref from ingests order by ref")]


def test_a_transaction_is_all_or_nothing(metadata):
    with pytest.raises(ValueError, match="no"), metadata.transaction() as connection:
        add(connection, "a")
        raise ValueError("no")
    assert refs(metadata) == []
    with metadata.transaction() as connection:
        add(connection, "a")
        add(connection, "b")
    assert refs(metadata) == ["a", "b"]


def test_an_inner_transaction_fails_alone(metadata):
    with metadata.transaction() as connection:
        add(connection, "outer")
        with pytest.raises(ValueError, match="no"), metadata.transaction() as inner:
            add(inner, "inner")
            raise ValueError("no")
        with metadata.transaction() as inner:
            add(inner, "second")
    assert refs(metadata) == ["outer", "second"]


def test_actions_wait_for_the_outermost_commit_and_never_follow_a_rollback(metadata):
    done: list[str] = []
    with metadata.transaction():
        with metadata.transaction():
            metadata.after_commit(lambda: done.append("inner"))
        with pytest.raises(ValueError, match="no"), metadata.transaction():
            metadata.after_commit(lambda: done.append("never"))
            raise ValueError("no")
        assert done == []
    assert done == ["inner"]
    with pytest.raises(ValueError, match="no"), metadata.transaction():
        metadata.after_commit(lambda: done.append("never"))
        raise ValueError("no")
    metadata.after_commit(lambda: done.append("now"))
    assert done == ["inner", "now"]


def test_a_durable_transaction_is_synced_and_others_are_not(metadata):
    """PRAGMA synchronous: 1 is NORMAL, 2 is FULL (sqlite.org/pragma.html)."""
    level = "pragma synchronous"
    assert metadata.row(level) == (1,)
    with metadata.transaction(durable=True) as connection:
        assert connection.execute(level).fetchone() == (2,)
    assert metadata.row(level) == (1,)
    with pytest.raises(RuntimeError), metadata.transaction(), metadata.transaction(durable=True):
        pass
    with metadata.transaction(durable=True), metadata.transaction(durable=True), metadata.transaction():
        pass


def test_threads_wait_for_each_other(metadata):
    def work(name):
        for i in range(50):
            with metadata.transaction() as connection:
                add(connection, f"{name}{i}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs(metadata)) == 200


def test_numbers_are_never_used_twice(metadata):
    for _ in range(3):
        with metadata.transaction() as connection:
            add(connection, "a")
        with metadata.transaction() as connection:
            connection.execute("delete from ingests")
    with metadata.transaction() as connection:
        add(connection, "a")
    assert metadata.row("select id from ingests") == (4,)


def test_a_second_opening_finds_the_rows(tmp_path, metadata):
    with metadata.transaction() as connection:
        add(connection, "a")
    other = Metadata(f"{tmp_path}/core.db")
    assert refs(other) == ["a"]
    other.close()


def test_labels_go_both_ways():
    assert labels_from(labels_text({"b": "ü", "a": ""})) == {"a": "", "b": "ü"}
    assert labels_text(None) == "{}"
