"""The race over trials: each contestant runs on each instance, and every run is written down."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from foretune.base import check
from foretune.base.codec import canonical
from foretune.base.errors import ArgumentError
from foretune.bench.contestant import Contestant, Unsupported
from foretune.bench.peer import PeerError
from foretune.bench.record import Book, Run
from foretune.bench.task import Instance, Outcome, Task
from foretune.space.domain import Choice, Float, Int
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space

__all__ = ["race", "run_trials"]

Say = Callable[[str], None]
Runner = Callable[[Contestant, Task, Instance, int, float], Run]

NAMED_AT = (10, 25, 50, 100, 200)  # trials after which a method names its best, where losses are noisy
WARM = 12  # trials of a throw-away run: past the first design of every method here


def run_trials(contestant: Contestant, task: Task, instance: Instance, seed: int, length: float) -> Run:
    """Run one contestant on one instance, one trial after the other.

    The incumbent is the config with the least observed loss; what it is worth is what ``judge`` says. Where losses
    are noisy, the method also names its best now and then. A trial whose outcome is NaN is never told: it stays
    running. It counts as a trial.
    """
    trials = int(length)
    trace: list[tuple[float, float, float]] = []
    named: list[tuple[float, float, float]] = []
    asks: list[float] = []
    spent = 0.0
    seen: set[str] = set()
    repeats = failures = 0
    best = math.inf
    error = ""
    try:
        contestant.start(instance, seed, trials)
        for t in range(trials):
            asked = contestant.ask()
            if asked is None:
                break  # the space is exhausted
            asks.append(asked.seconds)
            config = instance.space.check(asked.config)
            text = canonical(config)
            repeats += text in seen
            seen.add(text)
            loss = instance.measure(config, instance.steps.high, t).loss
            if math.isnan(loss):
                continue
            failures += not math.isfinite(loss)
            if loss < best:
                best = loss
                trace.append((t + 1, loss, instance.judge(config)))
            spent += contestant.tell(asked.token, loss)
            if not instance.deterministic and trace and t + 1 in (*NAMED_AT, trials):
                own = contestant.named()
                if own is None:
                    named.append((t + 1, *trace[-1][1:]))
                else:
                    named.append((t + 1, own.value, instance.judge(instance.space.check(own.config))))
    except (PeerError, ValueError, ArithmeticError) as wrong:
        # ConfigError is a ValueError: an illegal proposal ends the run, and is told of
        error = f"{type(wrong).__name__}: {wrong}"[:300]
        contestant.close()
    middle = statistics.median(asks) if asks else 0.0
    return Run(
        task=task.name, group=task.group, half=task.half, contestant=contestant.name, version=contestant.version,
        seed=seed, axis="trials", length=trials, scale=(instance.best, instance.typical), trace=tuple(trace),
        ask=(sum(asks) + spent, middle, asks[-1] if asks else 0.0), trials=len(asks), repeats=repeats,
        failures=failures, error=error, at=datetime.now(UTC).isoformat(timespec="seconds"),
        edition=task.family.edition, named=tuple(named),
    )  # fmt: skip


def warm_up(contestant: Contestant) -> None:
    """Let a contestant import what it needs on a throw-away task, so that no run's time counts it."""
    space = Space({"x": Float(0.0, 1.0), "k": Int(0, 9), "c": Choice(("a", "b"))})
    instance = Instance(
        space,
        lambda c, s, n: Outcome((c["x"] - 0.3) ** 2),
        lambda c: 0.0,
        0.0,
        1.0,
        Fidelity(9, 1),
        (1.0, 3.0, 9.0),
    )
    contestant.start(instance, 0, WARM)
    for _ in range(WARM):
        asked = contestant.ask()
        if asked is None:
            return
        loss = instance.measure(asked.config, 1.0, 0).loss
        contestant.report(asked.token, asked.until or 9.0, loss, 1.0)
        contestant.tell(asked.token, loss)


def race(
    tasks: Sequence[Task],
    contestants: Sequence[Contestant],
    seeds: Sequence[int],
    length: float,
    book: Book,
    say: Say = lambda words: None,
    run: Runner | None = None,
) -> dict[str, Any]:
    """Run all contestants on all tasks under all seeds, and append what is new to the book.

    Runs that are there already are passed over; all of one seed come before the next, so that a race that is
    stopped early has whole rows.

    Args:
        tasks: what to race on.
        contestants: who races.
        seeds: each makes an instance of every task.
        length: trials; or what ``run`` takes as a length.
        book: where runs are written.
        say: told of each run.
        run: (contestant, task, instance, seed, length) -> Run; over trials unless given.

    Returns:
        counts: run, there already, failed, and the tasks that a contestant does not support.
    """
    check.number("length", length, 0, open_low=True)
    if not contestants:
        raise ArgumentError("contestants must name at least one method (--samplers, --peers); got none.")
    names = [c.name for c in contestants]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ArgumentError(f"contestants names {', '.join(twice)} more than once: name each once.")
    one = run if run is not None else run_trials
    counts = {"run": 0, "there": 0, "failed": 0}
    refused: dict[str, set[str]] = {}
    versions: dict[str, str] = {}
    for seed in seeds:
        for task in tasks:
            instance: Instance | None = None
            for contestant in contestants:
                name = contestant.name
                if task.name in refused.get(name, ()):
                    continue
                if instance is None:
                    instance = task.instance(seed)
                try:
                    if name not in versions:  # a peer tells its version when it starts
                        warm_up(contestant)
                        versions[name] = contestant.version
                    if book.has(name, task.name, task.family.edition, versions[name], seed, length):
                        counts["there"] += 1
                        continue
                    found = one(contestant, task, instance, seed, length)
                except Unsupported as reason:
                    refused.setdefault(name, set()).add(task.name)
                    say(f"{task.name}: {reason}")
                    continue
                except PeerError as wrong:
                    refused.setdefault(name, set()).add(task.name)
                    say(f"{task.name}: {wrong}")
                    counts["failed"] += 1
                    continue
                book.append(found)
                counts["run"] += 1
                counts["failed"] += bool(found.error)
                word = f"failed: {found.error}" if found.error else f"regret {found.regret(length):.4f}"
                say(f"{task.name} seed {seed} {name}: {word}, {found.ask[0]:.2f} s inside")
    return {**counts, "refused": {k: sorted(v) for k, v in refused.items()}}
