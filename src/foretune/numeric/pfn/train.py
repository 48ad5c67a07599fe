"""Train the network of losses over hyperparameters and store it: ``python -m foretune.numeric.pfn.train``.

The defaults made the stored network, on one core (OMP_NUM_THREADS=1) in about twenty minutes. All randomness comes
from one key; the facts of the training (steps, seed, loss, command) are stored in the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from foretune.base.key import Key
from foretune.numeric.pfn.network import PFN, WEIGHTS
from foretune.numeric.pfn.prior import COLUMNS, losses

__all__ = ["SEARCH", "main"]

SEARCH = PFN(losses, COLUMNS, bins=64, layers=4, width=64, heads=4, most=80, standardise=True)


def main() -> None:
    """Read the command line, train, store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    network = SEARCH.fit(arguments.steps, Key.of(arguments.seed), log=True)
    command = f"python -m foretune.numeric.pfn.train --steps {arguments.steps} --seed {arguments.seed}"
    network.save(arguments.out, seed=arguments.seed, command=command)
    print(json.dumps(dict(network.facts)), f"{arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
