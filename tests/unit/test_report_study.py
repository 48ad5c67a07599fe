"""Reports and figures of a study, from no trial to ten thousand."""

import json
import math
from html import unescape

import pytest

from foretune.base.key import Key
from foretune.report.figures import best_so_far, front_of_goals, parameters_against_loss, rungs
from foretune.report.figures.study import rungs_of, spread
from foretune.report.study_report import ranked, states_line, study_report
from foretune.space.domain import Choice, Constant, Float, Int, Simplex
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.trial.constraint import Constraint
from foretune.trial.event import Event
from foretune.trial.goal import Goal
from foretune.trial.history import History
from foretune.trial.problem import Problem

SPACE = Space(
    {
        "lr": Float(1e-4, 1e-1, log=True), "wd": Float(0, 1), "batch": Int(16, 256, log=True),
        "opt": Choice(["adamw", "<b>sgd</b>"]), "momentum": Float(0, 1), "mix": Simplex(("web", "code")),
        "depth": Constant(4),
    },
    when={"momentum": {"opt": ["<b>sgd</b>"]}},
)  # fmt: skip


def start(n, config, until=9.0, at=0.0):
    plan = [until, 0, None, None]
    return Event(
        "start", n, at, {"config": config, "plan": plan, "by": "sobol", "why": "design", "reason": "free"}
    )


def story(n, goal="min loss [nats/byte]"):
    """A study of ``n`` trials: a third complete, most paused at 3, some failed, some NaN; the last runs."""
    problem = Problem(SPACE, (Goal.parse(goal),), Fidelity(9, 3), Key.of(0))
    sign = problem.goal.sign
    events = []
    for i, config in enumerate(SPACE.sample(n, Key.of(1)) if n else []):
        until = 9.0 if i % 3 == 0 else 3.0
        events.append(start(i, config, until, float(i)))
        for step in (1, 3, 9):
            if step <= until:
                loss = 1.0 + 1.0 / step + abs(math.log10(config["lr"]) + 2.5)
                value = "NaN" if i % 17 == 5 else sign * loss
                events.append(
                    Event(
                        "report",
                        i,
                        i + 0.1 * step,
                        {"step": step, "values": {problem.goal.metric: value}, "seconds": 0.1 * step},
                    )
                )
        if i == n - 1 and n > 1:
            continue
        kind = "fail" if i % 7 == 4 else ("complete" if until == 9 else "pause")
        events.append(Event(kind, i, i + 1.0, {"reason": f"because <{kind}>", "seconds": 1.0}))
    return History(problem, events), events


@pytest.fixture(scope="module")
def told():
    return story(60)


def raw(history, n):
    return history.problem.goal.sign * history.loss(n)


def test_the_best_line_only_ever_improves(told):
    """The line of the best so far is a running minimum that ends at the best trial."""
    history, _ = told
    line = next(t for t in best_so_far(history).data if t.name == "best so far")
    assert list(line.y) == sorted(line.y, reverse=True)
    assert line.y[-1] == history.loss(history.best.number)


def test_a_goal_to_maximise_is_shown_in_its_own_sign():
    """For a maximised metric the line rises, and values keep the sign that was reported."""
    history, _ = story(60, "max accuracy")
    line = next(t for t in best_so_far(history).data if t.name == "best so far")
    assert list(line.y) == sorted(line.y)
    assert line.y[-1] == raw(history, history.best.number)
    assert "accuracy" in study_report(history)


def test_rungs_count_all_who_came(told):
    """The numbers above the rungs are those of the history."""
    history, _ = told
    figure = rungs(history)
    counts = [a.text for a in figure.layout.annotations]
    assert rungs_of(history) == [3.0, 9.0]
    assert counts == [str(len(history.rung(s))) for s in (3.0, 9.0)]


def test_each_varied_parameter_has_a_panel(told):
    """One panel a parameter, one a part of a mixture, none for a constant; log where the domain is."""
    history, _ = told
    layout = parameters_against_loss(history).layout
    titles = {layout[k].title.text for k in layout if k.startswith("xaxis") and layout[k].title.text}
    assert titles == {"lr", "wd", "batch", "opt", "momentum", "mix: web", "mix: code"}
    assert layout.xaxis.type == "log"
    assert layout.xaxis2.type is None


@pytest.mark.parametrize("n", [0, 1, 2])
def test_figures_of_tiny_studies(n):
    """No trial, one, two: each figure is made, with data or with words."""
    history, _ = story(n)
    for figure in (best_so_far(history), rungs(history), parameters_against_loss(history)):
        assert figure.data or figure.layout.annotations


def test_figures_without_any_finite_loss():
    """A study in which everything diverged still has its figures and its report."""
    history, _ = story(0)
    config = SPACE.sample(1, Key.of(0))[0]
    events = [start(0, config), Event("report", 0, 1.0, {"step": 9, "values": {"loss": "Infinity"}})]
    history.apply([*events, Event("complete", 0, 2.0, {"reason": "end"})])
    for figure in (best_so_far(history), rungs(history), parameters_against_loss(history)):
        assert figure.data or figure.layout.annotations
    assert "No trial has a finite value yet" in study_report(history)


def test_ranking_puts_complete_trials_first(told):
    """Complete trials by loss, then the others by how far they came."""
    history, _ = told
    order = ranked(history, 100)
    done = set(history.numbers("complete"))
    flags = [n in done for n in order]
    assert flags == sorted(flags, reverse=True)
    losses = [history.loss(n) for n in order if n in done]
    assert losses == sorted(losses)
    assert order[0] == history.best.number


def test_the_report_tells_the_whole_study(told):
    """Best config as JSON, counts, failures, budget with limits, and each decision's reason."""
    history, events = told
    rows = [(e.at, e.number, e.kind, e.data["reason"]) for e in events if "reason" in e.data]
    limits = {"trials": 60, "seconds": None, "steps": 1000}
    text = study_report(
        history, title="my <study>", budget={"spent": history.spent, "limits": limits}, decisions=rows,
        config={"sampler": "gp"}, environment={"cores": 2},
    )  # fmt: skip
    block = text.split('<pre id="block-1" tabindex="0"><code>')[1].split("</code>")[0]
    best = dict(history.best.config)
    assert json.loads(unescape(block)) == {**best, "mix": list(best["mix"])}
    for words in (
        "my &lt;study&gt;",
        "because &lt;fail&gt;",
        "no limit",
        "100 %",
        f"{len(rows)} decisions",
        "&quot;gp&quot;",
    ):
        assert words in text
    assert "<study>" not in text
    assert "<b>sgd" not in text


def test_without_a_log_the_trials_reasons_are_shown(told):
    """When the caller gives no decisions, origin and last reason of each trial are told."""
    history, _ = told
    text = study_report(history)
    assert "sobol: design" in text
    assert "because &lt;pause&gt;" in text


@pytest.mark.parametrize("n", [0, 1])
def test_reports_of_tiny_studies(n):
    """No trial and one trial give whole pages."""
    text = study_report(story(n)[0])
    assert text.endswith("</html>\n")
    assert ("No trial has begun yet" in text) == (n == 0)


def test_a_large_study_is_sampled_and_says_so():
    """Ten thousand trials give a page of bounded size that names its samples."""
    text = study_report(story(10_000)[0])
    assert "an even sample of 2,000 of 10,000 trials" in text
    assert "the best 50 of 10,000" in text
    assert len(text) < 7_500_000


def test_samples_are_even_and_keep_both_ends():
    """A sample keeps first and last, has no repetition, and all when there are few."""
    assert spread(range(100), 5) == [0, 25, 50, 74, 99]
    assert spread([1, 2], 5) == [1, 2]
    assert spread(range(10), 1) == [0]


def test_states_are_counted_in_words(told):
    """Only the states that occur are named, complete first."""
    assert states_line(told[0]).split()[1] == "complete,"
    assert states_line(story(0)[0]) == "no trial yet"


def several(rows, goals, constraints=()):
    """A history of complete trials, one a row of values."""
    problem = Problem(
        Space({"x": Float(0, 1)}), tuple(map(Goal.parse, goals)), Fidelity(1, 1), Key.of(0),
        constraints=tuple(map(Constraint.parse, constraints)),
    )  # fmt: skip
    events = []
    for i, values in enumerate(rows):
        events.append(start(i, {"x": 0.5}, 1.0, float(i)))
        events.append(Event("report", i, i + 0.5, {"step": 1, "values": values, "seconds": 0.1}))
        events.append(Event("complete", i, i + 0.6, {"reason": "done"}))
    return History(problem, events)


def test_several_goals_have_a_front():
    """All goals are named, and the front is drawn and tabulated; the best is said to be that of the first."""
    rows = [{"loss": 1, "acc": 5}, {"loss": 2, "acc": 9}, {"loss": 3, "acc": 4}]
    history = several(rows, ["min loss", "max acc"])
    page = unescape(study_report(history))
    assert "min loss, max acc: 3 trials" in page
    assert "Trial 0 is the best in the first goal" in page
    assert "Table of the front: 2 trials" in page
    drawn = {t.name: sorted(zip(t.x, t.y, strict=True)) for t in front_of_goals(history, [0, 1]).data}
    assert drawn == {"complete": [(3, 4)], "front": [(1, 5), (2, 9)]}


@pytest.mark.parametrize("rows", [[], [{"loss": 1, "acc": 5}], [{"loss": 1}, {"loss": 1, "acc": "NaN"}]])
def test_fronts_of_tiny_studies(rows):
    """No trial, one, and none with a value of each goal: the page is made."""
    history = several(rows, ["min loss", "max acc"])
    assert "<html" in study_report(history)
    assert front_of_goals(history, [0] if len(rows) == 1 else []).layout is not None


def test_trials_that_break_a_constraint_are_told_apart():
    """They are counted, drawn apart, and do not lower the line of the best."""
    rows = [{"loss": 3, "mem": 1}, {"loss": 1, "mem": 9}, {"loss": 2, "mem": 2}]
    history = several(rows, ["min loss"], ["mem <= 4"])
    page = unescape(study_report(history))
    assert "Trial 2 is the best: loss 2" in page
    assert "1 trial of 3 broke a constraint (mem <= 4)." in page
    drawn = {t.name: list(t.y) for t in best_so_far(history).data}
    assert drawn == {"breaks a constraint": [1], "complete": [3, 2], "best so far": [3, 2, 2]}
