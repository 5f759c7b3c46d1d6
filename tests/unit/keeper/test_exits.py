"""Records of tasks on disk: whole or not there, and readable by the next keeper."""

import os

from sampan.keeper.exits import Records

RECORD = {"container": "c1", "pid": 7, "start_time": 9, "exit": None}


def test_a_record_is_read_back_by_the_next_keeper(tmp_path):
    Records(str(tmp_path / "tasks")).save("c1", RECORD)
    assert Records(str(tmp_path / "tasks")).load() == {"c1": RECORD}


def test_a_record_is_replaced_not_rewritten(tmp_path):
    records = Records(str(tmp_path))
    records.save("c1", RECORD)
    with open(tmp_path / "c1.json") as old:
        records.save("c1", {**RECORD, "exit": {"status": 3}})
        assert old.read().endswith('"exit":null}')
    assert records.load()["c1"]["exit"] == {"status": 3}
    assert os.listdir(tmp_path) == ["c1.json"]


def test_a_removed_record_is_gone_and_may_be_removed_again(tmp_path):
    records = Records(str(tmp_path))
    records.save("c1", RECORD)
    records.remove("c1")
    records.remove("c1")
    assert records.load() == {}


def test_a_damaged_record_is_named_and_does_not_hide_the_others(tmp_path, capsys):
    records = Records(str(tmp_path))
    records.save("c1", RECORD)
    (tmp_path / "c2.json").write_text("{")
    (tmp_path / "c3.json").write_text('{"container": "other"}')
    (tmp_path / "c4.json.new").write_text("half a rec")
    assert list(records.load()) == ["c1"]
    said = capsys.readouterr().err
    assert "c2.json" in said and "c3.json" in said


def test_records_are_root_s_alone(tmp_path):
    records = Records(str(tmp_path / "tasks"))
    records.save("c1", RECORD)
    assert os.stat(tmp_path / "tasks").st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "tasks/c1.json").st_mode & 0o777 == 0o600
