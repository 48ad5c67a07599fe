"""Ranks of HPO-B's published traces by this project's statistics, beside what the paper's figures show.

    python benchmarks/races/check_ranks.py [--data FOLDER]

FSBO is best and random search last, as published; an independent analysis of the same traces gave mean regrets at 100
of .0125 (FSBO), .0158 (BOHAMIANN), .0173 (DGP), .0224 (DNGO), .0254 (TAF), .0258 (GP), .0278 (RGPE), .0278 (TST),
.0540 (random), and average ranks of the means over seeds, among these nine, of 3.4 (FSBO), 5.0 (BOHAMIANN) and 7.4
(random).
"""

from __future__ import annotations

import argparse

from foretune.base.key import Key
from foretune.bench.hpob import published_runs
from foretune.bench.standings import ahead, cube, standings

NINE = ("FSBO", "BOHAMIANN", "DGP", "DNGO", "TAF", "GP", "RGPE", "TST", "Random")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    runs = [r for r in published_runs(parser.parse_args().data) if r.contestant in NINE]
    found = cube(runs, 101)
    table = standings(found)
    p = ahead(found, "FSBO", Key.of(0))
    print(
        f"{table.tasks} tasks, 5 seeds; critical difference {table.difference:.2f}, Friedman p {table.p_equal:.2g}"
    )
    columns = (table.contestants, table.rank, table.error, table.rank_of_means, table.regret)
    for name, rank, error, of_means, regret in zip(*columns, strict=True):
        lead = f"  FSBO ahead with p {p[name]:.4f}" if name in p else ""
        print(f"{name:<10} rank {rank:.2f} ± {error:.2f}  of means {of_means:.2f}  regret {regret:.4f}{lead}")


if __name__ == "__main__":
    main()
