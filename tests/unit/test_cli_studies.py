"""``foretune show``, ``worker``, ``extend``, ``report`` and ``doctor`` on stored studies."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from foretune.search.random import Random
from foretune.space import Float, Space
from foretune.store import open_store
from foretune.study.study import Study


def make(path: Path, name: str = "one", trials: int = 3, limit: int = 5, **options) -> None:
    """Write a study of finished trials, as a program would."""
    space = Space({"x": Float(-1, 1)})
    study = Study(space, "min y", sampler="random", store=str(path), name=name, budget=limit, **options)
    for _ in range(trials):
        trial = study.next()
        study.finish(trial.number, {"y": trial.config["x"] ** 2})
    study.store.close()


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A store with one study of a program: three trials of five."""
    make(tmp_path / "s.db")
    return tmp_path / "s.db"


def test_show_has_the_keys_of_the_contract(cli, stored):
    """show --json: best (config, value, number), trials by state, budget, version."""
    body = cli("show", "s.db:one", "--json").json
    best = body["best"]
    assert best["value"] == pytest.approx(best["config"]["x"] ** 2)
    assert best["number"] in (0, 1, 2)
    assert body["trials"]["complete"] == 3
    assert set(body["trials"]) == {"waiting", "running", "paused", "stopped", "complete", "failed"}
    assert body["budget"]["trials"] == {"limit": 5, "spent": 3}
    assert body["version"] == 7


def test_show_for_people(cli, stored):
    """The text names goal, counts, budget and the config as JSON that can be copied."""
    out = cli("show", "s.db").out
    assert "min y" in out
    assert "3 complete" in out
    assert "5 trials in all, 3 so far" in out
    assert '{"x": ' in out


def test_show_trials_and_log(cli, stored):
    """Every trial and every event with its reason can be seen, as text and as JSON."""
    ran = cli("show", "s.db", "--trials", "--log")
    assert ran.out.count("complete") >= 6
    assert "a uniform draw" in ran.out
    body = cli("show", "s.db", "--trials", "--log", "--json").json
    assert [r["number"] for r in body["rows"]] == [0, 1, 2]
    assert [e["kind"] for e in body["log"]] == ["create"] + ["start", "complete"] * 3


def test_several_studies_are_listed(cli, stored):
    """Without a name, a store of several studies gives their names."""
    make(stored, "two")
    assert cli("show", "s.db").out.split() == ["one", "two"]
    assert cli("show", "s.db", "--json").json == {"studies": ["one", "two"]}


def test_an_empty_store_has_no_studies(cli, tmp_path):
    """A store without studies says so."""
    open_store(str(tmp_path / "e.db")).close()
    assert "no studies" in cli("show", "e.db").out
    assert cli("report", "e.db").code == 2


def test_a_study_with_a_sampler_of_its_own_can_be_looked_at(cli, tmp_path):
    """Studies of programs with their own sampler are shown and reported; going on needs the program."""
    store = open_store(str(tmp_path / "own.db"))
    study = Study(Space({"x": Float(-1, 1)}), "min y", sampler="random", store=store, budget=2)
    events = store.read("study")
    data = {**events[0].data, "sampler": {"name": None, "class": "Mine", "options": {}}}
    store.append("mine", [events[0]._replace(data=data)], 0)
    store.close()
    assert isinstance(study.sampler, Random)
    assert "sampler Mine" in cli("show", "own.db:mine").out
    assert cli("report", "own.db:mine").code == 0
    ran = cli("worker", "own.db:mine")
    assert (ran.code, "Mine" in ran.err) == (2, True)


@pytest.mark.parametrize("command", [["show"], ["worker"], ["extend", "--budget", "9 trials"], ["report"]])
def test_what_is_not_there(cli, stored, command):
    """No store: code 3, and none is created. No such study: code 2 and the nearest name. Foreign file: 3."""
    name, *options = command
    missing = cli(name, "none.db:one", *options)
    assert (missing.code, "none.db" in missing.err) == (3, True)
    assert not Path("none.db").exists()
    unknown = cli(name, "s.db:on", *options)
    assert (unknown.code, "Did you mean 'one'" in unknown.err) == (2, True)
    Path("notes.txt").write_text("not a store, but long enough to be read as the head of a file\n" * 5)
    assert cli(name, "notes.txt", *options).code == 3


@pytest.mark.parametrize("command", [["worker"], ["extend", "--budget", "9 trials"], ["report"]])
def test_one_of_several_studies_must_be_named(cli, stored, command):
    """Commands that work on one study name those there are."""
    make(stored, "two")
    name, *options = command
    ran = cli(name, "s.db", *options)
    assert (ran.code, "one, two" in ran.err) == (2, True)


def test_worker_needs_to_know_what_to_train(cli, stored):
    """A study begun by a program says so, and takes what to train from the command line."""
    ran = cli("worker", "s.db")
    assert (ran.code, "Python program" in ran.err) == (2, True)
    Path("y.py").write_text("def train(config):\n    return {'y': config['x'] ** 2}\n")
    ran = cli("worker", "s.db", "y.py:train", "--json")
    assert ran.code == 0
    assert ran.json["trials"]["complete"] == 5


def test_workers_share_one_study(cli):
    """Two workers in other processes finish a study within its budget, with no trial twice."""
    words = ["tune", "--space", "space.toml", "--sampler", "random", "--store", "w.db", "--quiet"]
    command = ["--", sys.executable, "train.py", "--lr", "{lr}", "--opt", "{opt}"]
    assert cli(*words, "--budget", "1 trials", *command).code == 0
    assert cli("extend", "w.db", "--budget", "9 trials", "--no-run").code == 0
    main = [sys.executable, "-c", "from foretune.cli.main import main; main()", "worker", "w.db", "--quiet"]
    both = [subprocess.Popen(main, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    log = cli("show", "w.db", "--log", "--json").json["log"]
    assert sorted(e["number"] for e in log if e["kind"] == "complete") == list(range(9))
    assert len({e["data"]["worker"] for e in log if e["kind"] == "start" and e["number"] > 0}) >= 1


def test_a_worker_runs_commands_where_they_ran_first(cli, tmp_path, monkeypatch):
    """The command's relative paths hold although the worker is called elsewhere."""
    words = ["tune", "--space", "space.toml", "--store", "w.db", "--budget", "1 trials", "--quiet"]
    assert cli(*words, "--", sys.executable, "train.py", "--lr", "{lr}", "--opt", "{opt}").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ran = cli("extend", "../w.db", "--budget", "2 trials", "--json")
    assert ran.code == 0
    assert ran.json["trials"]["complete"] == 2


def test_extend_keeps_what_is_not_named(cli, tmp_path):
    """A larger number of trials leaves the limit of time as it is; less is refused."""
    make(tmp_path / "s.db", limit="5 trials, 2h")
    body = cli("extend", "s.db", "--budget", "8 trials", "--no-run", "--json").json
    assert (body["budget"]["trials"]["limit"], body["budget"]["seconds"]["limit"]) == (8, 7200.0)
    ran = cli("extend", "s.db", "--budget", "4 trials", "--no-run")
    assert (ran.code, "can only grow" in ran.err) == (2, True)
    assert cli("extend", "s.db", "--budget", "9 trails", "--no-run").code == 2
    assert "2 h of training in all" in cli("extend", "s.db", "--budget", "9 trials", "--no-run").out


def test_extend_makes_trials_longer(cli):
    """With --steps, trials that were complete wait to go on, and shorter ones are refused."""
    study = Study(
        Space({"x": Float(0, 1)}), steps=9, sampler="random", budget="3 trials", store="long.db", name="s"
    )
    study.run(lambda c, run: [run.report(i + 1, loss=c["x"]) for i in range(run.start, run.until)] and None)
    del study
    ran = cli("extend", "long.db", "--steps", "27", "--no-run")
    assert ran.code == 0
    assert "27 steps" in ran.out
    again = Study(store="long.db", name="s")
    assert (again.problem.steps.high, again.history.count("complete")) == (27, 0)
    assert cli("extend", "long.db", "--steps", "3", "--no-run").code == 2
    ran = cli("extend", "long.db", "--no-run")
    assert (ran.code, "--steps" in ran.err) == (2, True)


def test_report_that_cannot_be_written(cli, stored):
    """A path where nothing can be written is told as such."""
    ran = cli("report", "s.db", "--out", "/dev/null/page.html")
    assert (ran.code, "cannot be written to '/dev/null/page.html'" in ran.err) == (2, True)


def test_doctor_of_a_sound_store(cli, stored):
    """A sound store gives code 0 and no findings."""
    assert cli("doctor", "s.db").code == 0
    ran = cli("doctor", "s.db:one", "--json")
    assert (ran.code, ran.json) == (0, {"store": "s.db", "ok": True, "findings": []})
    ran = cli("doctor", "s.db:on")
    assert (ran.code, "Did you mean 'one'" in ran.err) == (2, True)


def test_doctor_of_a_damaged_store(cli, stored):
    """A log with a hole is found, said with a remedy, and only in the study that has it."""
    make(stored, "two")
    with sqlite3.connect(stored) as connection:
        connection.execute("DELETE FROM events WHERE version = 3 AND study = 1")
    connection.close()
    ran = cli("doctor", "s.db", "--json")
    assert ran.code == 3
    assert not ran.json["ok"]
    assert any("version 4" in f["what"] and f["remedy"] for f in ran.json["findings"])
    assert "error:" in cli("doctor", "s.db").out


def test_doctor_of_what_is_no_store(cli, tmp_path):
    """A missing and a foreign file are errors with code 3."""
    assert cli("doctor", "none.db").code == 3
    (tmp_path / "notes.txt").write_text("notes\n")
    ran = cli("doctor", "notes.txt", "--json")
    assert (ran.code, ran.json["ok"]) == (3, False)
