"""``foretune finalists`` and ``compare``; holding choices and learning from earlier studies on the command line."""

from __future__ import annotations

NOISY = """
import random

def train(config, run):
    rng = random.Random(run.seed)
    return abs(config["lr"] - 0.03) * 10 + 0.1 * rng.gauss(0, 1) * (1 + config["lr"])
"""
TUNE = ("tune", "noisy.py:train", "--space", "space.toml", "--sampler", "random", "--quiet")


def test_journey_from_search_to_finalists(cli, tmp_path):
    """Tune, ask what the winner is worth, race three finalists on four seeds, compare two of them; again is no work."""
    (tmp_path / "noisy.py").write_text(NOISY)
    assert cli(*TUNE, "--budget", "12 trials", "--store", "s.db").code == 0
    worth = cli("compare", "s.db", "--json").json
    assert worth["winner"]["winner_value"] >= worth["winner"]["winner_observed"]
    raced = cli("finalists", "s.db:study", "--k", "3", "--seeds", "4", "--json", "--quiet")
    assert raced.code == 0
    assert len(raced.json["rows"]) == 3
    assert raced.json["runs"] >= 9
    again = cli("finalists", "s.db:study", "--k", "3", "--seeds", "4", "--quiet")
    assert again.code == 0
    assert "Winner trial" in again.out
    first, second = (str(r["number"]) for r in raced.json["rows"][:2])
    found = cli("compare", "s.db:study", first, second, "--json").json
    assert found["probability"] >= 0.5
    assert "better than" in cli("compare", "s.db:study", first, second).out
    shown = cli("show", "s.db:study.finalists", "--json").json
    assert shown["trials"]["complete"] == raced.json["runs"]


def test_choices_are_held(cli):
    """--fix holds a choice in every trial, and a wrong one is refused before anything is written."""
    ran = cli(
        "tune",
        "function.py:train",
        "--space",
        "space.toml",
        "--budget",
        "4 trials",
        "--fix",
        "lr=0.05",
        "--sampler",
        "random",
        "--store",
        "f.db",
        "--quiet",
    )
    assert ran.code == 0
    rows = cli("show", "f.db", "--trials", "--json").json["rows"]
    assert {r["config"]["lr"] for r in rows} == {0.05}
    wrong = cli(
        "tune",
        "function.py:train",
        "--space",
        "space.toml",
        "--budget",
        "4 trials",
        "--fix",
        "lrr=0.05",
        "--store",
        "w.db",
        "--quiet",
    )
    assert wrong.code == 2
    assert "Did you mean 'lr'" in wrong.err


def test_an_earlier_study_is_learnt_from(cli):
    """--warm-from trains the earlier winner first; a store that is not there is named."""
    base = ("tune", "function.py:train", "--space", "space.toml", "--sampler", "random", "--quiet")
    old = cli(*base, "--budget", "5 trials", "--store", "old.db", "--json").json
    assert cli(*base, "--budget", "2 trials", "--store", "new.db", "--warm-from", "old.db").code == 0
    rows = cli("show", "new.db", "--trials", "--json").json["rows"]
    assert rows[0]["config"] == old["best"]["config"]
    missing = cli(*base, "--budget", "2 trials", "--store", "x.db", "--warm-from", "nowhere.db")
    assert missing.code == 3
    assert "nowhere.db" in missing.err


def test_wrong_words_are_refused(cli):
    """One config alone, what is no config, a wrong --fix and a wrong cap end with usage errors."""
    cli(
        "tune",
        "function.py:train",
        "--space",
        "space.toml",
        "--budget",
        "2 trials",
        "--sampler",
        "random",
        "--quiet",
    )
    for words in (
        ("compare", "study.db", "1"),
        ("compare", "study.db", "1", "lr"),
        ("tune", "--name", "b", "--fix", "lr"),
        ("tune", "--name", "b", "--ask-cap", "soon"),
    ):
        assert cli(*words).code == 2, words


def test_another_goal_judges(cli, tmp_path):
    """--goal says which of several goals finalists and comparisons go by; the output says it, too."""
    (tmp_path / "two.py").write_text(
        NOISY.replace("    return ", "    loss = ") + "    return {'loss': loss, 'mb': -loss}\n"
    )
    words = (
        "two.py:train",
        "--space",
        "space.toml",
        "--sampler",
        "random",
        "--quiet",
        "--goal",
        "min loss",
        "--goal",
        "min mb",
    )
    assert cli("tune", *words, "--budget", "9 trials", "--store", "s.db").code == 0
    race = ("finalists", "s.db:study", "--k", "2", "--seeds", "3", "--quiet")
    assert "Judged by loss alone, one of 2 goals" in cli(*race).out
    assert "Judged by mb alone, one of 2 goals" in cli(*race, "--goal", "mb").out
    worth = [cli("compare", "s.db:study", "--json", *more).json["winner"] for more in ((), ("--goal", "mb"))]
    assert worth[0]["winner"] != worth[1]["winner"]
    assert cli("compare", "s.db:study", "--goal", "bm").code == 2
