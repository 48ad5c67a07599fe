"""Time of one ask of the TPE sampler beside Optuna's TPESampler, in a 10-dimensional mixed space, in one run.

    OMP_NUM_THREADS=1 python benchmarks/tpe_ask.py [--quick] [--trials 100 500 ...] [--rounds 20]

Both are given the same finished trials (uniform configs of five floats, two ints and three choices, a smooth loss).
Then asks are timed in turns: one of ours, one of Optuna's. A timed ask of ours takes in one new finished trial, as in
a running study. Prints milliseconds of processor time (what other programs take of the machine does not count), with
their spread, the ratio of each pair, and the growth from size to size.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any

from gp_regret import mixed
from numbers_ import finish, row, spread

from foretune.base.key import Key
from foretune.search import make
from foretune.space import Choice, Float, Int
from foretune.trial import Event, Goal, History, Problem


class Ours:
    """A history that grows by one trial an ask."""

    def __init__(self, trials: int) -> None:
        self.space, self.f = mixed(0)
        self.problem = Problem(self.space, (Goal("y"),), key=Key.of(0))
        self.history, self.sampler = History(self.problem), make("tpe")
        for config in self.space.sample(trials, Key.of(1)):
            self.add(config)
        self.ask()

    def add(self, config: Any) -> None:
        t = len(self.history)
        self.history.apply(
            [
                Event("start", t, 0.0, {"config": dict(config), "plan": [1], "reason": "bench"}),
                Event("report", t, 0.0, {"step": 1, "values": {"y": self.f(dict(config))}}),
                Event("complete", t, 0.0, {"reason": "bench"}),
            ]
        )

    def ask(self) -> float:
        key = self.problem.key.fold("ask", len(self.history))
        began = time.thread_time()
        found = self.sampler.ask(self.problem, None, self.history, 1, key)
        seconds = time.thread_time() - began
        self.add(found[0].config)
        return seconds


class Optunas:
    """The same trials in an in-memory study."""

    def __init__(self, trials: int) -> None:
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        space, self.f = mixed(0)
        self.kinds: dict[str, Any] = {}
        for name, d in space.items():
            if isinstance(d, Float):
                self.kinds[name] = FloatDistribution(d.low, d.high, log=d.log)
            elif isinstance(d, Int):
                self.kinds[name] = IntDistribution(d.low, d.high, log=d.log)
            elif isinstance(d, Choice):
                self.kinds[name] = CategoricalDistribution(d.values)
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        self.study.add_trials(
            [
                optuna.trial.create_trial(params=dict(c), distributions=self.kinds, value=self.f(dict(c)))
                for c in space.sample(trials, Key.of(1))
            ]
        )
        self.ask()

    def ask(self) -> float:
        began = time.thread_time()
        trial = self.study.ask(self.kinds)
        seconds = time.thread_time() - began
        self.study.tell(trial, self.f(trial.params))
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 sizes, 5 rounds")
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 500, 1000, 5000, 20000])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--most-theirs", type=int, default=5000, help="above this, ours alone")
    args = parser.parse_args()
    if args.quick:
        args.trials, args.rounds = [100, 500], 5
    table: dict[int, Any] = {}
    before: tuple[int, float] | None = None
    for trials in args.trials:
        ours, theirs = Ours(trials), Optunas(trials) if trials <= args.most_theirs else None
        a, b = [], []
        for _ in range(args.rounds):
            a.append(1e3 * ours.ask())
            if theirs is not None:
                b.append(1e3 * theirs.ask())
        print(row(f"foretune tpe, {trials} trials", a, "ms"))
        table[trials] = {"foretune": spread(a)}
        if b:
            ratio = [y / x for x, y in zip(a, b, strict=True)]
            print(row(f"optuna TPE, {trials} trials", b, "ms"))
            print(row("  ratio", ratio, "times"))
            table[trials] |= {"optuna": spread(b), "ratio": spread(ratio)}
        now = spread(a)["median"]
        if before is not None:
            power = math.log(now / before[1]) / math.log(trials / before[0])
            print(f"  growth from {before[0]}: n^{power:.2f}")
            table[trials]["growth"] = power
        before = (trials, now)
    finish("tpe_ask", rounds=args.rounds, table=table)


if __name__ == "__main__":
    main()
