"""docker ps: filters, and the words of its Status column."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.api.docker.containers import Health
from sampan.engine.containers import list as listing
from sampan.engine.containers import start
from sampan.engine.containers.list import FILTERS, duration, list_containers, status_text
from sampan.engine.filters import Filters
from sampan.errors import InvalidArgument, NotFound

S, M, H, D = 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "Less than a second"),
        (S, "1 second"),
        (59 * S, "59 seconds"),
        (M, "About a minute"),
        (2 * M, "2 minutes"),
        (59 * M, "59 minutes"),
        (H, "About an hour"),
        (2 * H, "2 hours"),
        (47 * H, "47 hours"),
        (3 * D, "3 days"),
        (15 * D, "2 weeks"),
        (70 * D, "2 months"),
        (800 * D, "2 years"),
    ],
)
def test_durations_are_dockers_words(nanoseconds, text):
    assert duration(nanoseconds) == text


def names(bench, everything=True, **fields):
    found = list_containers(bench.room, Filters(fields), everything=everything)
    return [entry["Names"][0][1:] for entry in found]


def test_every_filter_selects_what_docker_selects(tmp_path):
    async def work(bench: Bench) -> None:
        one = await bench.make("one", labels={"k": "v"}, exposed_ports={"80/tcp": {}}, host={"binds": ["vol:/v"]})
        await bench.make("two", labels={"k": "w"}, host={"network_mode": "none"})
        await bench.make("three")
        await start.start(bench.room, one)
        await start.start(bench.room, "two")
        bench.tasks.finish(bench.room.store.get("two").id, 3)
        assert names(bench, everything=False) == ["one"]
        assert names(bench) == ["three", "two", "one"]
        cases = [
            ({"status": ["exited", "created"]}, ["three", "two"]),
            ({"exited": ["3"]}, ["two"]),
            ({"exited": ["0"]}, []),
            ({"label": ["k"]}, ["two", "one"]),
            ({"label": ["k=v"]}, ["one"]),
            ({"name": ["^/t"]}, ["three", "two"]),
            ({"name": ["w"]}, ["two"]),
            ({"id": [one[:10]]}, ["one"]),
            ({"volume": ["vol"]}, ["one"]),
            ({"volume": ["/v"]}, ["one"]),
            ({"network": ["none"]}, ["two"]),
            ({"expose": ["80"]}, ["one"]),
            ({"expose": ["70-90/tcp"]}, ["one"]),
            ({"expose": ["80/udp"]}, []),
            ({"ancestor": ["busybox"]}, ["three", "two", "one"]),
            ({"ancestor": ["other"]}, []),
            ({"before": ["two"]}, ["one"]),
            ({"since": ["two"]}, ["three"]),
            ({"health": ["none"]}, ["three", "two", "one"]),
        ]
        for fields, expected in cases:
            assert names(bench, **fields) == expected, fields
        assert len(list_containers(bench.room, Filters(), limit=2)) == 2

    run(work, tmp_path)


def test_wrong_filter_values_are_refused(tmp_path):
    async def work(bench: Bench) -> None:
        await bench.make("one")
        for fields in ({"status": ["odd"]}, {"health": ["odd"]}, {"exited": ["x"]}, {"expose": ["x"]}):
            with pytest.raises(InvalidArgument):
                names(bench, **fields)
        with pytest.raises(NotFound, match="No such container: nope"):
            names(bench, before=["nope"])
        with pytest.raises(InvalidArgument, match="invalid filter 'odd'"):
            Filters.parse('{"odd":["x"]}', FILTERS)

    run(work, tmp_path)


def test_the_status_column(tmp_path):
    async def work(bench: Bench) -> None:
        record = bench.room.store.get(await bench.make())
        change = msgspec.structs.replace
        assert status_text(record) == "Created"
        up = change(record, status="running", started_at=5 * S)
        assert status_text(up, 10 * S) == "Up 5 seconds"
        assert status_text(change(up, health=Health(status="starting")), 10 * S) == "Up 5 seconds (health: starting)"
        assert status_text(change(up, health=Health(status="healthy")), 10 * S) == "Up 5 seconds (healthy)"
        assert status_text(change(up, status="paused"), 10 * S) == "Up 5 seconds (Paused)"
        ended = change(up, status="exited", exit_code=2, finished_at=8 * S)
        assert status_text(ended, 10 * S) == "Exited (2) 2 seconds ago"
        assert status_text(change(ended, status="restarting"), 10 * S) == "Restarting (2) 2 seconds ago"
        assert listing.command(change(record, path="sh", args=["-c", "a b"])) == "sh -c 'a b'"

    run(work, tmp_path)
