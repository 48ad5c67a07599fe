"""Studies in words: what a budget means, what is planned, how a study stands."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretune.cli.screen import Screen
    from foretune.space.domain import Domain
    from foretune.study.study import Study

__all__ = ["address_of", "budget_words", "config_json", "domain_words", "show_plan", "show_study"]

FRONT = 12  # trials of a front that are listed


def address_of(study: Study) -> str:
    """Return how a command line names a study."""
    from foretune.store import Address

    return shlex.quote(str(Address(_near(study.store.path), study.name)))


def _near(path: str | None) -> str:
    """Write a path from here where it lies here."""
    if path is None:
        return "memory"
    here = os.path.join(os.path.realpath(os.getcwd()), "")
    return path.removeprefix(here)


def domain_words(domain: Domain) -> str:
    """Say what a choice may be."""
    from foretune.report.words import short

    table = {k: v for k, v in domain.to_dict().items() if k not in ("type", "default", "unit")}
    if "low" in table:
        scale = " (log)" if table.get("log") else ""
        return f"{short(table['low'])} to {short(table['high'])}{scale}"
    return " | ".join(short(v) for v in table["values"]) if "values" in table else short(table.get("value"))


def config_json(config: Any) -> str:
    """Write a config as JSON on one line."""
    from foretune.base.codec import plain

    return json.dumps(plain(config), allow_nan=False)


def budget_words(study: Study, workers: int = 1) -> list[str]:
    """Say what each part of a study's budget means, and what is used of it."""
    from foretune.report.words import duration

    budget, spent = study.budget, study.history.spent
    lines = []
    if budget.trials is not None:
        lines.append(f"{budget.trials} trials in all, {int(spent['trials'])} so far")
    if budget.seconds is not None:
        clock = f", about {duration(budget.seconds / workers)} by the clock with {workers} workers"
        lines.append(
            f"{duration(budget.seconds)} of training in all, summed over workers"
            f"{clock if workers > 1 else ''}, {duration(spent['seconds'])} so far"
        )
    if budget.steps is not None:
        lines.append(f"{budget.steps:g} training steps in all, {spent['steps']:g} so far")
    if budget.cost is not None:
        lines.append(f"{budget.cost:g} in all of the cost that trials report, {spent['cost']:g} so far")
    return lines or ["no limit"]


def show_plan(screen: Screen, study: Study, workers: int = 1) -> None:
    """Show what a study is about to do."""
    about = study.about
    goals = ", ".join(str(g) for g in study.problem.goals)
    screen.facts(
        {
            "Study": f"{study.name} in {_near(study.store.path)}",
            "Goal": goals,
            **_bounds(study),
            "Space": ", ".join(
                f"{name} {domain_words(domain)}" for name, domain in study.problem.space.items()
            ),
            "Search": f"sampler {about['sampler']['name']}, scheduler {about['scheduler']['name']}, "
            f"seed {study.seed}, {workers} worker{'s' if workers > 1 else ''}",
            "Budget": "; ".join(budget_words(study, workers)),
        }
    )
    from foretune.report.terminal import plan_table

    if "multi-fidelity" not in study.scheduler.tags:
        return
    rungs = study.plan()
    screen.show(plan_table(rungs, unit=study.problem.steps.unit))


def _bounds(study: Study) -> dict[str, str]:
    """Name the constraints, as a line of facts; none if there are none."""
    bounds = study.problem.constraints
    return {"Such that": ", ".join(str(c) for c in bounds)} if bounds else {}


def _show_front(screen: Screen, study: Study) -> None:
    """List the trials of the front, where there are several goals."""
    from foretune.report.words import number
    from foretune.study.result import front_of

    goals, front = study.problem.goals, front_of(study.history)
    if len(goals) < 2 or not front:
        return
    shown = front[:FRONT]
    more = f", the first {FRONT} of them" if len(front) > FRONT else ""
    screen.say(f"Front   {len(front)} trials that no other one beats in every goal{more}")
    rows = [
        [
            str(t.number),
            *(number(g.sign * v, 4) for g, v in zip(goals, values, strict=True)),
            config_json(t.config),
        ]
        for t, values in ((t, study.history.losses_of(t.number)) for t in shown)
    ]
    screen.table(["trial", *(g.metric for g in goals), "config"], rows)


def show_study(screen: Screen, study: Study) -> None:
    """Show how a study stands."""
    from foretune.report.words import duration, number, short
    from foretune.study.result import best_of
    from foretune.study.study import WHOLE_RUN
    from foretune.trial.trial import STATES

    history = study.history
    counts = {state: history.count(state) for state in STATES}
    about = study.about
    screen.facts(
        {
            "Study": f"{study.name} in {_near(study.store.path)}",
            "Goal": ", ".join(str(g) for g in study.problem.goals),
            **_bounds(study),
            "Search": f"sampler {about['sampler']['name'] or about['sampler']['class']}, "
            f"scheduler {about['scheduler']['name'] or about['scheduler']['class']}, seed {study.seed}",
            "Trials": ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "none yet",
            "Budget": "; ".join(budget_words(study)),
        }
    )
    count, seconds = study.asks
    if count and history.seconds > 0:
        share = seconds / history.seconds
        screen.say(f"Asks    {count}, {duration(seconds)} of processor time: {share:.2g} of the training's")
    for words in study.notes:
        screen.say(f"Note    {words}", style="yellow")
    best = best_of(history)
    if best is None:
        kept = ", or none that keeps the constraints" if study.problem.constraints else ""
        screen.say(f"Best    none: no trial has a result yet{kept}")
    else:
        unit = study.problem.steps.unit
        high = study.problem.steps.high
        short_of = f" of {high:g}, short of its full length" if best.step < high else ""
        at = "" if unit == WHOLE_RUN else f" at step {best.step:g}{short_of}"
        screen.say(f"Best    trial {best.number}: {study.problem.goal.metric} {number(best.value, 6)}{at}")
        screen.table(["choice", "value"], [[k, short(v, 6)] for k, v in best.config.items()])
        screen.say(f"Config  {config_json(best.config)}")
    _show_front(screen, study)
    failures = [history[n] for n in history.numbers("failed")]
    if failures:
        screen.say(f"Failed  {len(failures)}; the last, trial {failures[-1].number}: {failures[-1].failure}")
