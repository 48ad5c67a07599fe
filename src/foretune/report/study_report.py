"""The report of one study: its best config, how it was found, and why each decision was taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from foretune.report import figures
from foretune.report.figures.study import goal_title, rungs_of, spread
from foretune.report.figures.style import FAINT, GOOD, MAIN
from foretune.report.figures.training import Curve
from foretune.report.page import Badge, Card, Inline, Page
from foretune.report.words import count, duration, number, number_of, percent, plural, short, title_case
from foretune.study.result import front_of
from foretune.trial.history import History
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, RUNNING, STOPPED, WAITING, Trial

__all__ = ["ranked", "states_line", "study_report"]

TOP, CURVES, REASONS, FAILURES, COLUMNS = 50, 60, 500, 20, 10  # rows and lines shown at most
_ORDER = (COMPLETE, RUNNING, PAUSED, WAITING, STOPPED, FAILED)


def ranked(history: History, n: int) -> list[int]:
    """Return the ``n`` best trials: complete ones first, then by how far they came, then by loss.

    Trials that are known to break a constraint come last.
    """
    done = set(history.numbers(COMPLETE))
    broken = [max(row, default=0.0) > 0.0 for row in history.violations.tolist()]
    rows = [
        (broken[number], number not in done, -step if number not in done else 0.0, loss, number)
        for number, (step, loss) in enumerate(zip(history.steps, history.losses[:, 0], strict=True))
        if math.isfinite(loss)
    ]
    return [r[-1] for r in sorted(rows)[:n]]


def states_line(history: History) -> str:
    """Count trials by state in words; states without a trial are left out."""
    found = [f"{history.count(s):,} {s}" for s in _ORDER if history.count(s)]
    return ", ".join(found) or "no trial yet"


def study_report(
    history: History,
    *,
    title: str = "Study",
    budget: Mapping[str, Mapping[str, float | None]] | None = None,
    decisions: Sequence[tuple[float, int, str, str]] = (),
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> str:
    """Render a study as one self-contained HTML page, from no trial to many thousands.

    Args:
        history: of the study.
        title: of the page; usually the study's name.
        budget: {"spent": {...}, "limits": {...}} over trials, seconds, steps, cost; by default what the
            history says was spent. A limit may be None.
        decisions: (time in seconds, trial, kind, reason) of the log; by default the last reason of each
            trial is shown.
        config: what the study was made of (sampler, scheduler, seed, ...), shown as JSON.
        environment: mapping of facts.

    Returns:
        The page, to be written to one file.
    """
    goals = ", ".join(map(str, (*history.problem.goals, *history.problem.constraints)))
    subtitle = f"{goals}: {plural(len(history), 'trial')} over {plural(len(history.space), 'parameter')}"
    page = Page(title, subtitle)
    page.section("Result")
    _result(page, history)
    _front(page, history)
    if len(history):
        page.section("Best so far")
        page.figure(
            figures.best_so_far(history),
            "Each dot is a trial, in the order in which trials settled; the line is the best complete one "
            "until then. Crosses at the edge failed, diverged or lie off the scale."
            + _sampled(len(history), 2000),
            "Values of all trials and the best so far",
        )
        _rungs(page, history)
        page.section("Parameters")
        page.figure(
            figures.parameters_against_loss(history),
            "Each parameter against the goal; the star is the best trial. A valley or a slope says where to "
            "look next; an even cloud says that the parameter matters little." + _sampled(len(history), 1000),
            "Each parameter's values against the goal",
        )
        _curves(page, history)
    _budget(page, history, budget or {})
    if len(history):
        _trials(page, history)
        _failures(page, history)
        _decisions(page, history, decisions)
    if config:
        page.section("The study")
        page.json(config)
    if environment:
        page.section("Environment")
        page.facts({title_case(k): short(v, width=90) for k, v in environment.items()})
    return page.html()


def _sampled(n: int, limit: int) -> str:
    return f" Drawn: an even sample of {limit:,} of {n:,} trials." if n > limit else ""


def _value(history: History, n: int) -> str:
    loss = history.loss(n)
    if math.isnan(loss):
        return "none yet"
    return number(history.problem.goal.sign * loss) if math.isfinite(loss) else "diverged"


def _result(page: Page, history: History) -> None:
    best, unit = history.best, history.problem.goal.unit
    if best is None:
        page.paragraph(
            "No trial has begun yet." if not len(history) else "No trial has a finite value yet.", kind="lead"
        )
    else:
        partial = (
            "" if best.state == COMPLETE else f", not at its full length yet ({best.state} at {best.step:,g})"
        )
        page.paragraph(
            f"Trial {best.number} is the best{_of_goals(history)}: {goal_title(history)} "
            f"{_value(history, best.number)}{partial}.",
            kind="lead",
        )
    broken = _broken(history)
    if broken:
        bounds = ", ".join(map(str, history.problem.constraints))
        page.paragraph(f"{plural(len(broken), 'trial')} of {len(history):,} broke a constraint ({bounds}).")
    cards = [Card("Trials", f"{len(history):,}", states_line(history))]
    if best is not None:
        note = f"trial {best.number}" + ("" if unit == "1" else f", {unit}")
        cards.insert(
            0, Card(f"Best {history.problem.goal.metric}", _value(history, best.number), note, main=True)
        )
    if history.seconds:
        cards.append(Card("Training time", duration(history.seconds), "sum over all trials"))
    if len(history):
        steps = history.problem.steps.unit
        cards.append(Card("Training steps", count(history.committed_steps), f"{steps}, done or on the way"))
    page.cards(cards)
    if best is not None:
        page.heading("Best configuration")
        page.json(dict(best.config))
        if best.origin.reason:
            page.paragraph(f"Proposed by {best.origin.by}: {best.origin.reason}", kind="note")


def _of_goals(history: History) -> str:
    """Say of which goal the best is the best, where there are several."""
    return " in the first goal" if len(history.problem.goals) > 1 else ""


def _broken(history: History) -> set[int]:
    """Return the trials that did not fail, and are known to break a constraint."""
    failed = set(history.numbers(FAILED))
    rows = history.violations.tolist()
    return {n for n, row in enumerate(rows) if n not in failed and max(row, default=0.0) > 0.0}


def _front(page: Page, history: History) -> None:
    """Show the trials that are best in several goals at once."""
    goals = history.problem.goals
    front = [t.number for t in front_of(history)]
    if len(goals) < 2 or not front:
        return
    page.section("Front")
    page.paragraph(
        f"{plural(len(front), 'trial')} of which no other one is better in one goal and as good in all."
    )
    page.figure(
        figures.front_of_goals(history, front),
        f"Each dot is a complete trial, by {goals[0]} and {goals[1]}; a double click shows those far off too."
        + _sampled(len(history), 2000),
        "The front of the goals",
    )
    columns = _columns(history, front[:TOP])
    rows = [
        (
            n,
            *(number(g.sign * float(v)) for g, v in zip(goals, history.losses_of(n), strict=True)),
            *(short(history[n].config[c]) if c in history[n].config else None for c in columns),
        )
        for n in front[:TOP]
    ]
    with page.details(f"Table of the front: {plural(len(rows), 'trial')}", open=len(rows) <= 20):
        page.table(("Trial", *(g.metric for g in goals), *columns), rows)


def _rungs(page: Page, history: History) -> None:
    levels = rungs_of(history)
    if len(levels) < 2:
        return
    page.section("Rungs")
    page.figure(
        figures.rungs(history, levels),
        "Each line is a trial, drawn as far as it came; the numbers above count the trials that "
        "reached a rung." + _sampled(len(history), 300),
        "Values at each rung",
    )


def _curves(page: Page, history: History) -> None:
    known = [n for n in range(len(history)) if len(history.curve(n)[0]) > 1]
    if not known:
        return
    kept = spread(known, CURVES)
    best = history.best
    if best is not None and best.number in known and best.number not in kept:
        kept.append(best.number)
    sign, done = history.problem.goal.sign, set(history.numbers(COMPLETE))
    lines = []
    for n in sorted(kept, key=lambda n: (best is not None and n == best.number, n in done)):
        steps, losses = history.curve(n)
        group = (
            "best"
            if best is not None and n == best.number
            else "complete"
            if n in done
            else "part of the way"
        )
        picked = spread(range(len(steps)), 400)
        label = f"trial {n}"
        lines.append(Curve(label, [steps[i] for i in picked], [sign * losses[i] for i in picked], group))
    page.section("Learning curves")
    goal = history.problem.goal
    figure = figures.learning_curves(
        lines, unit="" if goal.unit == "1" else goal.unit, metric=goal.metric,
        step_unit=history.problem.steps.unit,
        colours={"part of the way": FAINT, "complete": MAIN, "best": GOOD},
    )  # fmt: skip
    page.figure(figure, "Reported values by step." + _sampled(len(known), CURVES), "Learning curves")


def _budget(page: Page, history: History, budget: Mapping[str, Mapping[str, float | None]]) -> None:
    spent = {**history.spent, **(budget.get("spent") or {})}
    limits = budget.get("limits") or {}
    page.section("Budget")
    rows: list[tuple[Inline, ...]] = []
    for name in dict.fromkeys([*spent, *limits]):
        used, limit = number_of(spent.get(name)), number_of(limits.get(name))
        if not used and math.isnan(limit):
            continue
        write = duration if name == "seconds" else (number if name == "cost" else count)
        share = percent(used / limit) if math.isfinite(limit) and limit > 0 and math.isfinite(used) else None
        label = "training time" if name == "seconds" else name
        rows.append((label, write(used), write(limit) if math.isfinite(limit) else "no limit", share))
    if rows:
        page.table(("What", "Spent", "Limit", "Share"), rows)
    else:
        page.paragraph("Nothing has been spent yet.")


def _columns(history: History, numbers: Sequence[int]) -> list[str]:
    names = [n for n, d in history.space.items() if d.type != "constant"]
    return [n for n in names if any(n in history[i].config for i in numbers)][:COLUMNS]


def _state(trial: Trial) -> Badge:
    return Badge(trial.state, {"complete": "good", "failed": "bad"}.get(trial.state, "plain"))


def _trials(page: Page, history: History) -> None:
    page.section("Trials")
    page.table(
        ("State", "Trials"), [(Badge(s, "plain"), history.count(s)) for s in _ORDER if history.count(s)]
    )
    top = ranked(history, TOP)
    if not top:
        return
    columns, broken = _columns(history, top), _broken(history)
    first = history.problem.goal.metric
    said = [g.metric for g in history.problem.goals] + [c.metric for c in history.problem.constraints]
    others = [m for m in dict.fromkeys(said) if m != first]
    told = {m: history.metric(m) for m in others}
    rows = []
    for place, n in enumerate(top, 1):
        trial = history[n]
        values = [short(trial.config[c]) if c in trial.config else None for c in columns]
        rows.append(
            (
                place,
                n,
                _value(history, n),
                *(number(float(told[m][n])) for m in others),
                f"{trial.step:,g}",
                duration(trial.seconds),
                Badge("breaks a constraint", "bad") if n in broken else _state(trial),
                *values,
            )
        )
    shown = "all that have a value" if len(top) < TOP else f"the best {TOP} of {len(history):,}"
    head = ("Rank", "Trial", first, *others, "Step", "Time", "State", *columns)
    with page.details(f"Table of trials: {shown}", open=len(top) <= 20):
        page.table(head, rows, text=(5 + len(others),))
        hidden = sum(d.type != "constant" for d in history.space.values()) - len(columns)
        if hidden > 0:
            page.paragraph(
                f"{plural(hidden, 'parameter')} not shown here, to keep the table readable.", kind="note"
            )


def _failures(page: Page, history: History) -> None:
    failed = history.numbers(FAILED)
    if not failed:
        return
    page.section("Failures")
    reasons: dict[str, list[int]] = {}
    for n in failed:
        reasons.setdefault(history[n].failure or "no reason given", []).append(n)
    common = sorted(reasons.items(), key=lambda item: -len(item[1]))
    share = percent(len(failed) / len(history))
    page.paragraph(f"{plural(len(failed), 'trial')} failed ({share} of all).")
    rows = [
        (len(ns), ", ".join(map(str, ns[:8])) + (", …" if len(ns) > 8 else ""), why) for why, ns in common
    ]
    page.table(("Trials", "Numbers", "Reason"), rows[:FAILURES], text=(1, 2))
    if len(rows) > FAILURES:
        page.paragraph(f"{plural(len(rows) - FAILURES, 'rarer reason')} not shown.", kind="note")


def _decisions(page: Page, history: History, decisions: Sequence[tuple[float, int, str, str]]) -> None:
    page.section("Every decision and its reason")
    total = len(decisions) or len(history)
    kept = spread(range(total), REASONS)
    if decisions:
        first = number_of(decisions[0][0])
        rows: list[Sequence[Inline]] = []
        for i in kept:
            at, trial, kind, reason = decisions[i]
            rows.append((duration(number_of(at) - first), trial if trial >= 0 else "study", kind, reason))
        head, text = ["After", "Trial", "Decision", "Reason"], [2, 3]
    else:
        trials = [history[i] for i in kept]
        rows = [
            (t.number, f"{t.origin.by}: {t.origin.reason}".rstrip(": "), _state(t), t.reason or None)
            for t in trials
        ]
        head, text = ["Trial", "Proposed by", "State", "Reason of the last decision"], [1, 2, 3]
    page.paragraph(
        f"{plural(total, 'decision' if decisions else 'trial')} on record."
        + (f" Shown: an even sample of {REASONS} rows." if total > REASONS else "")
    )
    with page.details("Show the reasons", open=total <= 40):
        page.table(head, rows, text=text)
