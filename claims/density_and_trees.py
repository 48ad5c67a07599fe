"""Claims on densities and trees: conformal quantile regression, TPE, the random forest.

    python claims/density_and_trees.py [--seeds 10]

records them in results/density_and_trees.json; about six minutes on one core. Conformal quantile regression runs on

    f(x, e) = sum_j w_j (x_j - c_j)^2 + (0.02 + 0.3 x_1) e,    x in [0, 1]^4, e Student's t with 2 degrees of freedom

(c and w drawn anew for each seed: noise of infinite variance, which grows along x_1) and on a table of support
vector machines on scikit-learn's digits (C and gamma on a 24 x 24 grid, two splits). TPE and the forest run on
complete tables of trained networks, looked for in ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from search import DATA, Table

import foretune as ft
from foretune.base.key import Key
from foretune.numeric.stats import wilson
from foretune.search.cqr import CQR, fitted
from foretune.space.space import Space

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "claims" / "results" / "density_and_trees.json"
COMMAND = "python claims/density_and_trees.py"
TRIALS = 60
CLAIMS = {
    "tpe": (
        "Algorithms for Hyper-Parameter Optimization", "foretune.search.tpe",
        "In the same number of trials, the tree-structured Parzen estimator finds better configs than random search.",
    ),
    "random_forest": (
        "Sequential Model-Based Optimization for General Algorithm Configuration", "foretune.search.random_forest",
        "In the same number of trials, a forest with expected improvement finds better configs than random search.",
    ),
}  # fmt: skip
Objective = Callable[[dict[str, Any]], float]


class HeavyTailed:
    """The function above for one seed; noise depends on the seed and on how often it was called."""

    space = Space({f"x{j}": ft.Float(0.0, 1.0) for j in range(1, 5)})

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.c, self.w = rng.uniform(0.1, 0.9, 4), rng.uniform(0.5, 2.0, 4)
        self.rng = np.random.default_rng(10_000 + seed)

    def truth(self, config: dict[str, Any]) -> float:
        x = np.array([config[n] for n in self.space])
        return float((self.w * (x - self.c) ** 2).sum())

    def __call__(self, config: dict[str, Any]) -> float:
        return self.truth(config) + (0.02 + 0.3 * config["x1"]) * float(self.rng.standard_t(2))


class Digits:
    """Errors of support vector machines on the digits, a full grid."""

    space = Space({"C": ft.Int(0, 23), "gamma": ft.Int(0, 23)})

    def __init__(self) -> None:
        from sklearn.datasets import load_digits
        from sklearn.svm import SVC

        x, y = load_digits(return_X_y=True)
        x = x / 16.0
        self.loss = np.zeros((24, 24))
        for split in range(2):
            order = np.random.default_rng(split).permutation(len(y))
            a, b = order[:300], order[300:1300]
            for i, c in enumerate(np.logspace(-3, 4, 24)):
                for j, g in enumerate(np.logspace(-5, 1.5, 24)):
                    self.loss[i, j] += 0.5 * (SVC(C=c, gamma=g).fit(x[a], y[a]).predict(x[b]) != y[b]).mean()

    def __call__(self, config: dict[str, Any]) -> float:
        return float(self.loss[config["C"], config["gamma"]])


def tried(f: Objective, space: Space, sampler: Any, trials: int, seed: int) -> list[dict[str, Any]]:
    """Run a study; return its configs in order and their observed losses as ``"loss"``."""
    result = ft.tune(f, space, sampler=sampler, budget=f"{trials} trials", seed=seed)
    return [{"config": t.config, "loss": result.history.loss(t.number)} for t in result.history]


def coverage(make: Callable[[int], Objective], space: Space, repeats: int, n: int = 100) -> list[float]:
    """Share of new observations within the predicted 80 % interval, for each of ``repeats`` fits to n random trials."""
    shares = []
    sampler = CQR(quantiles=9, held=0.3)
    sizes = (0,) * space.width
    for seed in range(repeats):
        f = make(seed)
        configs = space.sample(n + 200, Key.of(seed))
        rows, y = space.encode(configs), np.array([f(c) for c in configs])
        q = fitted(rows[:n], y[:n], sizes, sampler, Key.of(seed)).predict(rows[n:])
        shares.append(float(((q[:, 0] <= y[n:]) & (y[n:] <= q[:, -1])).mean()))
    return shares


def conformal(seeds: int) -> dict[str, Any]:
    table = Digits()
    heavy_cover = coverage(HeavyTailed, HeavyTailed.space, 20)
    table_cover = coverage(lambda seed: table, table.space, 20)
    regret: dict[str, list[float]] = {"cqr": [], "random": [], "gp": []}
    chosen: dict[str, list[float]] = {"cqr": [], "random": [], "gp": []}
    on_table: dict[str, list[float]] = {"cqr": [], "random": []}
    for seed in range(seeds):
        for name in regret:
            f = HeavyTailed(seed)
            rows = tried(f, f.space, name, TRIALS, seed)
            regret[name].append(min(f.truth(r["config"]) for r in rows))
            chosen[name].append(f.truth(min(rows, key=lambda r: r["loss"])["config"]))
        for name in on_table:
            rows = tried(table, table.space, name, TRIALS, seed)
            on_table[name].append(min(r["loss"] for r in rows) - float(table.loss.min()))
    a = sum(x < y for x, y in zip(regret["cqr"], regret["random"], strict=True))
    b = sum(x < y for x, y in zip(regret["cqr"], regret["gp"], strict=True))
    c = sum(x < y for x, y in zip(on_table["cqr"], on_table["random"], strict=True))
    ties = sum(x == y for x, y in zip(on_table["cqr"], on_table["random"], strict=True))
    covers = [abs(float(np.mean(x)) - 0.8) <= 0.05 for x in (heavy_cover, table_cover)]
    parts = [*covers, a >= 0.8 * seeds, c >= 0.8 * seeds, b >= 0.7 * seeds]
    med = {k: float(np.median(v)) for k, v in regret.items()}
    evidence = (
        f"80 % intervals from 100 random trials (30 held out) covered {np.mean(heavy_cover):.3f} of new observations of the "
        f"heavy-tailed function (sd over 20 fits {np.std(heavy_cover):.3f}) and {np.mean(table_cover):.3f} "
        f"(sd {np.std(table_cover):.3f}) of the digits table. Noise-free regret of the best of {TRIALS} tried configs below random "
        f"search's in {a} of {seeds} seeds and below the Gaussian process's in {b} of {seeds} (medians: cqr {med['cqr']:.3g}, random "
        f"{med['random']:.3g}, gp {med['gp']:.3g}); noise-free loss of the config with the least observed loss: medians cqr "
        f"{np.median(chosen['cqr']):.3g}, random {np.median(chosen['random']):.3g}, gp {np.median(chosen['gp']):.3g}. Digits table: regret "
        f"below random's in {c} of {seeds} seeds, equal in {ties} (medians {np.median(on_table['cqr']):.3g} against "
        f"{np.median(on_table['random']):.3g})."
    )
    return {
        "title": "Optimizing Hyperparameters with Conformal Quantile Regression", "module": "foretune.search.cqr",
        "claim": "Conformal quantiles cover what they say whatever the noise, and searching by them beats random search and, under "
        "heavy-tailed noise, a Gaussian process.",
        "status": "held" if all(parts) else "partly" if any(parts) else "not held", "evidence": evidence, "command": COMMAND,
    }  # fmt: skip


def against_random(name: str, title: str, module: str, claim: str, seeds: int) -> dict[str, Any] | None:
    """Count studies on complete tables in which a sampler's best of 60 is better than random search's best of 60."""
    if not DATA.exists():
        print(f"Not run: the tables are not at {DATA}.")
        return None
    specs = json.loads((DATA / "spaces.json").read_text())
    better, worse, words = 0, 0, []
    for path in sorted(DATA.glob("*__*.npz")):
        table = Table(path, specs[path.stem.partition("__")[0]])
        table.loss = np.where(np.isfinite(table.loss), table.loss, np.nanmax(table.loss))
        found: dict[str, list[float]] = {}
        for sampler in (name, "random"):
            runs = [tried(table, table.space, sampler, TRIALS, seed) for seed in range(seeds)]
            found[sampler] = [min(r["loss"] for r in rows) - table.best for rows in runs]
        up = sum(a < b for a, b in zip(found[name], found["random"], strict=True))
        better, worse = (
            better + up,
            worse + sum(a > b for a, b in zip(found[name], found["random"], strict=True)),
        )
        words.append(
            f"{path.stem.partition('__')[2]} {up} of {seeds} (regret {np.median(found[name]):.2g} against {np.median(found['random']):.2g})"
        )
        print(name, words[-1], flush=True)
    low, high = wilson(better, better + worse, 0.9)
    evidence = (
        f"Best of {TRIALS} trials better than random search's in {better}, worse in {worse} of {len(words) * seeds} studies (90 % interval "
        f"of the rate [{low:.2f}, {high:.2f}]) over {len(words)} complete tables of trained networks, {seeds} seeds each: {'; '.join(words)}."
    )
    status = "held" if low > 0.5 else "not held" if high < 0.5 else "partly"
    return {
        "title": title,
        "module": module,
        "claim": claim,
        "status": status,
        "evidence": evidence,
        "command": COMMAND,
    }


def main() -> None:
    """Run the claims and record the verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--only", nargs="*", choices=["cqr", "tpe", "random_forest"], default=["cqr", "tpe", "random_forest"]
    )
    args = parser.parse_args()
    found = [conformal(args.seeds)] if "cqr" in args.only else []
    for name in args.only:
        if name in CLAIMS:
            record = against_random(name, *CLAIMS[name], args.seeds)
            found += [record] if record is not None else []
    records = (
        {r["title"]: r for r in map(json.loads, RESULTS.read_text().splitlines())} if RESULTS.exists() else {}
    )
    records |= {r["title"]: r for r in found}
    RESULTS.write_text("".join(json.dumps(r) + "\n" for r in records.values()), encoding="utf-8")
    for r in found:
        print(r["status"], r["title"], r["evidence"])


if __name__ == "__main__":
    main()
