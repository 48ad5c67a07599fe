"""``foretune fit``, ``check transfer`` and ``papers``."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from foretune.base.errors import ArgumentError
from foretune.cli.options import read_algorithm, read_devices, read_limit
from foretune.cli.papers import CLAIMS, implemented, join, read_records, status_of
from foretune.cli.sweep_table import read_sweep


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Runs that follow a Chinchilla law exactly, with a time column in between."""
    lines = ["params,hours,tokens,loss"]
    for n in (1e7, 3e7, 1e8, 3e8, 1e9):
        for d in (1e9, 3e9, 1e10, 3e10):
            lines.append(f"{n},1.5,{d},{1.7 + 400 / n**0.34 + 410 / d**0.28!r}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


FIT = ("fit", "chinchilla", "runs.csv", "--x", "N=params", "--x", "D=tokens", "--y", "loss", "--draws", "50")


def test_fit_has_the_keys_of_the_contract(cli, runs):
    """fit --json: theta, intervals, outcome, n, predictions; the law's own data give its parameters back."""
    ran = cli(*FIT, "--predict", "N=7e9,D=2e12", "--predict", "N=1e8,D=1e10", "--json")
    assert ran.code == 0
    body = ran.json
    assert set(body) >= {"theta", "standard_errors", "intervals", "outcome", "n", "predictions"}
    assert body["n"] == 20
    assert body["theta"]["alpha"] == pytest.approx(0.34, rel=0.02)
    far, inside = body["predictions"]
    assert set(far) >= {"value", "low", "high", "level", "reach"}
    assert far["low"] <= far["value"] <= far["high"]
    assert far["level"] == 0.9
    assert far["value"] == pytest.approx(1.7 + 400 / 7e9**0.34 + 410 / 2e12**0.28, rel=0.01)
    assert (far["reach"] > 1, inside["reach"]) == (True, 0.0)


def test_fit_takes_groups_and_a_known_noise(cli, runs):
    """Points of one run, named by a column of any text, are resampled together; a known noise widens a forecast."""
    lines = runs.read_text().splitlines()
    named = [lines[0] + ",run"] + [f"{line},{i % 4} of four" for i, line in enumerate(lines[1:])]
    runs.write_text("\n".join(named) + "\n")
    words = (*FIT, "--predict", "N=7e9,D=2e11", "--json")
    plain, grouped, noisy = (cli(*words, *w).json for w in ((), ("--groups", "run"), ("--noise", "2%")))
    width = [b["predictions"][0]["high"] - b["predictions"][0]["low"] for b in (plain, noisy)]
    assert width[1] > 2 * width[0]
    assert grouped["dof"] < plain["dof"]
    wrong = cli(*FIT, "--groups", "rum")
    assert wrong.code == 2
    assert "Did you mean 'run'?" in wrong.err
    runs.write_text("\n".join([*named, "1e9,1.5,1e9,2.0,"]) + "\n")
    assert "line 22, column 'run'" in cli(*FIT, "--groups", "run").err


def test_fit_is_repeatable_and_seeded(cli, runs):
    """The same seed gives the same draws, another seed others."""
    words = (*FIT, "--predict", "N=7e9,D=2e12", "--json")
    first, again, other = (cli(*words, "--seed", s).out for s in ("1", "1", "2"))
    assert first == again != other


def test_fit_of_several_laws_ranks_and_predicts_with_all(cli, runs):
    """auto tries all general laws; theta is the best one's; each law has a weight, an error and an outcome."""
    ran = cli("fit", "auto", *FIT[2:], "--predict", "N=7e9,D=2e11", "--json")
    assert ran.code == 0
    body = ran.json
    assert body["law"] == body["laws"][0]["law"] == "chinchilla"
    assert sum(e["weight"] for e in body["laws"]) == pytest.approx(1.0)
    assert {"law", "weight", "error", "outcome", "theta"} <= set(body["laws"][0])
    assert body["predictions"][0]["value"] == pytest.approx(
        1.7 + 400 / 7e9**0.34 + 410 / 2e11**0.28, rel=0.02
    )
    text = cli("fit", "chinchilla,kaplan", *FIT[2:], "--predict", "N=7e9,D=2e11").out
    assert "weight" in text
    assert "all laws together" in text


def test_fit_refuses_what_the_runs_do_not_support(cli, runs):
    """--within ends with 1 and names the run that would help; without it the same prediction is only marked."""
    words = ("--predict", "N=1e14,D=1e16")
    ran = cli(*FIT, *words, "--within", "0.1%")
    assert ran.code == 1
    assert "not supported" in ran.out
    assert "would help most" in ran.out
    body = cli(*FIT, *words, "--within", "50%", "--json").json
    assert body["predictions"][0]["supported"] is True
    assert cli(*FIT, *words, "--within", "much").code == 2


def test_fit_writes_a_page(cli, runs):
    """--report leaves one self-contained page and prints its path."""
    body = cli(*FIT, "--report", "fit.html", "--json").json
    page = Path(body["report"]).read_text(encoding="utf-8")
    assert "chinchilla" in page
    assert "<script src=" not in page


def test_fit_for_people(cli, runs):
    """The text names the outcome and each parameter with its interval."""
    out = cli(*FIT, "--predict", "N=7e9,D=2e12").out
    assert "alpha = " in out
    assert "n = 20" in out
    assert "decades" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "chinchila", "runs.csv", "--x", "N=params", "--y", "loss"], "Did you mean 'chinchilla'"),
        (["fit", "power", "run.csv", "--x", "N=params", "--y", "loss"], "Did you mean 'runs.csv'"),
        (["fit", "power", "runs.csv", "--x", "N=parms", "--y", "loss"], "Did you mean 'params'"),
        (["fit", "power", "runs.csv", "--x", "N=params", "--y", "los"], "Did you mean 'loss'"),
        (["fit", "power", "runs.csv", "--x", "params", "--y", "loss"], "INPUT=COLUMN"),
        (
            ["fit", "chinchilla", "runs.csv", "--x", "N=params", "--x", "N=tokens", "--y", "loss"],
            "each input once",
        ),
        (["fit", "chinchilla", "runs.csv", "--x", "N=params", "--y", "loss"], "'D'"),
        (["fit", "chinchilla", "runs.csv", "--x", "M=params", "--x", "D=tokens", "--y", "loss"], "'M'"),
        ([*FIT, "--predict", "N=big"], "--predict"),
        ([*FIT, "--predict", "N=1e9"], "'D'"),
        ([*FIT, "--level", "2"], "level must be a number in (0, 1);"),
        ([*FIT, "--level", "0.9999"], "--draws 10000"),
        ([*FIT, "--within", "3%"], "add --predict"),
        (["fit", "auto,power", *FIT[2:]], "stands alone"),
        (["fit", "chinchilla,chinchilla", *FIT[2:]], "more than once"),
        (["fit", "power", *FIT[2:], "--x", "K=params"], "power has one input"),
        (["fit", "annealing", "runs.csv", "--x", "run=r", "--x", "step=s", "--y", "loss"], "fit_curves"),
    ],
)
def test_fit_refuses_with_the_remedy(cli, runs, words, said):
    """A wrong law, file, column, input or place is one clear line and code 2."""
    ran = cli(*words)
    assert (ran.code, said in ran.err) == (2, True)
    assert ran.err.count("\n") == 1


def sweep(path: Path, shift: float) -> None:
    """Write a sweep: the optimum moves by ``shift`` octaves per doubling; the largest rate diverges once."""
    lines = ["width;lr;loss"]
    for k, width in enumerate((32, 64, 128)):
        for j, noise in enumerate((0.004, -0.004, 0.001)):
            for octave in range(-9, -2):
                loss = 2 + 0.1 * (octave + 6 - shift * k) ** 2 + noise * (1 + (octave + j) % 3)
                lines.append(f"{width};{2.0**octave};{loss}")
    lines += ["128;1.0;nan", "128;0.5;"]
    path.write_text("\n".join(lines) + "\n")


CHECK = ("check", "transfer", "sweep.csv", "--size", "width", "--lr", "lr", "--loss", "loss")


@pytest.mark.parametrize(("shift", "verdict", "code"), [(0.0, "holds", 0), (1.0, "moved", 1)])
def test_transfer_is_judged_by_the_exit_code(cli, tmp_path, shift, verdict, code):
    """An optimum that stays gives code 0, one that moves an octave per doubling gives 1."""
    sweep(tmp_path / "sweep.csv", shift)
    ran = cli(*CHECK, "--json")
    assert (ran.code, ran.json["verdict"]) == (code, verdict)
    assert ran.json["low"] <= ran.json["slope"] <= ran.json["high"]
    assert "1 lines without a loss" in ran.err
    text = cli(*CHECK)
    assert (text.code, f"Verdict: {verdict}" in text.out) == (code, True)


def test_a_wide_tolerance_lets_it_hold(cli, tmp_path):
    """The tolerance is in octaves over all sizes."""
    sweep(tmp_path / "sweep.csv", 1.0)
    assert cli(*CHECK, "--tolerance", "4").code == 0


def test_transfer_refuses_with_the_remedy(cli, tmp_path):
    """A missing file or column, a wrong cell, too few sizes: code 2 and the reason."""
    sweep(tmp_path / "sweep.csv", 0)
    assert "Did you mean 'sweep.csv'" in cli("check", "transfer", "swep.csv", *CHECK[3:]).err
    assert "Did you mean 'width'" in cli(*CHECK[:4], "widht", *CHECK[5:]).err
    (tmp_path / "sweep.csv").write_text("width,lr,loss\n32,fast,2\n")
    assert "line 2" in cli(*CHECK).err
    (tmp_path / "sweep.csv").write_text("width,lr,loss\n32,-1,2\n")
    assert "positive" in cli(*CHECK).err
    (tmp_path / "sweep.csv").write_text("width,lr,loss\n32,0.1,2\n")
    assert "two or more" in cli(*CHECK).err
    (tmp_path / "sweep.csv").write_text("width,lr,loss\n")
    assert cli(*CHECK).code == 2


def test_a_sweep_keeps_diverged_runs(tmp_path):
    """nan and inf are runs; an empty loss is none."""
    path = tmp_path / "s.csv"
    path.write_text("n,lr,y\n2,0.1,nan\n1,0.1,inf\n1,0.2,3\n1,0.3,\n\n")
    runs, left_out = read_sweep(path, {"size": "n", "lr": "lr", "loss": "y"})
    assert (list(runs), runs[1.0], left_out) == ([1.0, 2.0], [(0.1, math.inf), (0.2, 3.0)], 1)
    assert math.isnan(runs[2.0][0][1])


def test_papers_of_this_package(cli):
    """Every row names title, module, claim and evidence; the module names the title as its source."""
    rows = cli("papers", "--json").json
    assert {"title", "module", "claim", "evidence"} <= set(rows[0])
    by_title = {row["title"]: row for row in rows}
    assert by_title["Training Compute-Optimal Large Language Models"]["module"] == "foretune.laws.chinchilla"
    assert {row["claim"] for row in rows} <= set(CLAIMS)
    assert len(by_title) == len(rows) > 10
    assert f"{len(rows)} works" in cli("papers").out


def test_sources_are_found_without_importing(tmp_path):
    """Titles come from docstrings; a registered technique comes before those that merely use the work."""
    (tmp_path / "zeta.py").write_text(
        '"""A.\n\nSource: Work One | eq. 1\n"""\n__entry__ = "Z"\nraise SystemExit\n'
    )
    (tmp_path / "alpha").mkdir()
    (tmp_path / "alpha" / "__init__.py").write_text('def f():\n    """B.\n\n    Source: Work One\n    """\n')
    assert implemented(tmp_path, "p") == {"Work One": ["p.zeta", "p.alpha"]}


def test_claims_are_joined_with_works(tmp_path):
    """Records of one work join to one status; a work without records was not run."""
    first = {"title": "W", "status": "held", "evidence": "9 of 10.", "claim": "It works.", "module": "m2"}
    second = {"title": "W", "status": "not held", "evidence": "0 of 10."}
    third = {"title": "U", "status": "held", "module": "m3"}
    (tmp_path / "a.json").write_text(json.dumps(first) + "\n" + json.dumps(third) + "\n")
    (tmp_path / "b.json").write_text(json.dumps([second]))
    rows = {row["title"]: row for row in join({"W": ["m"], "V": ["n"]}, read_records(tmp_path))}
    assert rows["W"] == {
        "title": "W", "module": "m", "claim": "partly", "evidence": "9 of 10. 0 of 10.", "modules": ["m", "m2"],
        "says": "It works.",
    }  # fmt: skip
    assert (rows["V"]["claim"], rows["V"]["evidence"]) == ("not run", "")
    assert (rows["U"]["claim"], rows["U"]["module"]) == ("held", "m3")
    assert status_of(["not held", "not run"]) == "not held"


@pytest.mark.parametrize("text", ["{", "[1]", '{"title": "W"}', '{"title": "W", "status": "yes"}'])
def test_a_wrong_record_is_refused(tmp_path, text):
    """A file that is no record is named."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ArgumentError, match=r"a\.json"):
        read_records(tmp_path)


def test_options_are_read():
    """Durations, devices and hyperparameters are read as they are written in the help."""
    assert read_limit("10min") == 600
    assert read_devices('{"gpu": 0.5}') == {"gpu": 0.5}
    assert read_devices("0") == ["0"]
    assert read_algorithm("--sampler", "gp:x=1.5,y=abc,z=true") == ("gp", {"x": 1.5, "y": "abc", "z": True})
    nested = 'a:p={"x": [1, 2], "y": "b,c"},q=[{"s": "[", "t": 1}],r=w'
    expected = {"p": {"x": [1, 2], "y": "b,c"}, "q": [{"s": "[", "t": 1}], "r": "w"}
    assert read_algorithm("--sampler", nested) == ("a", expected)


@pytest.mark.parametrize("text", ["a:p={lr:0.01}", "a:p=[b,c]", "a:p", 'a:p={"x": 1'])
def test_options_that_cannot_be_read(text):
    """What is half JSON is refused, and the text is named: quotes are easily lost in a shell."""
    with pytest.raises(ArgumentError, match=r"--sampler.*(single quotes|NAME:key=value)"):
        read_algorithm("--sampler", text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a:inner=gp,inner.most=50", {"inner": {"name": "gp", "most": 50}}),
        ("a:inner.most=50,inner=gp", {"inner": {"name": "gp", "most": 50}}),
        ('a:inner={"name": "gp"},inner.most=50', {"inner": {"name": "gp", "most": 50}}),
        ("a:p.lr=1,p.loss.margin=2", {"p": {"lr": 1, "loss.margin": 2}}),
        ('a:p={"wd": 3},p.lr=1', {"p": {"wd": 3, "lr": 1}}),
        (
            "a:inner=b,inner.inner=gp,inner.inner.most=9,inner.size=2",
            {"inner": {"name": "b", "inner": {"name": "gp", "most": 9}, "size": 2}},
        ),
    ],
)
def test_a_dot_leads_into_options(text, options):
    """A dot leads into a table, or to the options of a sampler inside of another, however deep."""
    assert read_algorithm("--sampler", text) == ("a", options)


def test_a_dot_into_nothing_is_refused():
    """What has no parts cannot have an option."""
    with pytest.raises(ArgumentError, match=r"beta\.x leads into beta, which is 3"):
        read_algorithm("--sampler", "user_prior:beta=3,beta.x=1")


def test_options_of_an_inner_sampler_reach_the_study(cli):
    """What the shell says of a sampler inside of another is made, stored, and taken up again."""
    words = (
        "tune", "function.py:train", "--space", "space.toml", "--json", "--quiet", "--sampler",
        "user_prior:prior.lr=0.01,inner=batched,inner.size=3,inner.inner=tpe,inner.inner.initial=4",
    )  # fmt: skip
    ran = cli(*words, "--budget", "3 trials")
    inner = ran.json["sampler"]["options"]["inner"]["$wrapped"]
    assert inner["options"]["size"] == 3
    assert inner["options"]["inner"]["$wrapped"]["options"]["initial"] == 4
    assert (
        cli("extend", "study.db:study", "--budget", "5 trials", "--json", "-q").json["trials"]["complete"]
        == 5
    )
    wrong = cli(*(w.replace("initial", "intial") for w in words), "--name", "b", "--budget", "3 trials")
    assert wrong.code == 2
    assert "Did you mean 'initial'" in wrong.err
