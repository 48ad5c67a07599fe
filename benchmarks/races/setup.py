"""Make the peers' environments: one virtual environment a package, with pinned versions.

    python benchmarks/races/setup.py FOLDER [PACKAGE ...] [--check]

``foretune bench race --peers ... --environments FOLDER`` finds them there (../peers beside the repository by default).
torch is pinned in each environment that needs it, for a plain install of another package would replace it. What
cannot be installed is told at the end (exit code 1); ``--check`` only starts the adapters that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
ADAPTERS = Path(__file__).resolve().parent / "peers"

# Steps are installed one after the other: HEBO's and NePS's own requirements leave pip searching for an hour, so the
# versions that fit together are named.
PEERS: dict[str, list[list[str]]] = {
    "optuna": [["optuna==5.0.0", "cmaes==0.13.1", TORCH, "scipy"]],
    "smac": [["smac==2.4.1"]],
    "hebo": [
        ["numpy==1.24.4", "scipy==1.10.1", "pandas==2.0.3", "scikit-learn==1.3.2", "matplotlib==3.8.4",
         "setuptools==69.5.1", "wheel", "cython==0.29.37"],
        [TORCH, "gpytorch==1.11", "linear_operator==0.5.2", "numpy==1.24.4", "scipy==1.10.1"],
        ["--no-build-isolation", "GPy==1.13.2", "numpy==1.24.4", "scipy==1.10.1"],
        ["pymoo==0.6.0", "catboost==1.2.5", "disjoint-set==0.7.4", "numpy==1.24.4", "scipy==1.10.1", "pandas==2.0.3"],
        ["--no-deps", "HEBO==0.3.6"],
    ],
    "syne_tune": [["syne-tune[extra]==0.16.0", TORCH]],
    "neps": [
        ["neural-pipeline-search==0.17.0", TORCH, "torchvision==0.28.0", "botorch==0.12.0", "gpytorch==1.13",
         "linear_operator==0.5.3", "pandas<3"],
    ],
    "dehb": [["dehb==0.1.2"]],
    "nevergrad": [["nevergrad==1.0.12"]],
    "ax": [["ax-platform==1.3.1", TORCH]],
}  # fmt: skip


def install(folder: Path, name: str) -> str:
    """Make one environment; returns what went wrong, or nothing."""
    place = folder / name
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    limits = folder / "torch.txt"
    limits.write_text(TORCH + "\n", encoding="utf-8")
    for step in PEERS[name]:
        command = [str(place / "bin" / "pip"), "install", "-q", "-c", str(limits), *step]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
    return ""


def check(folder: Path, name: str) -> tuple[str, str]:
    """Start an adapter on a small space. Returns (version, what went wrong)."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        return "", "not installed"
    space = {"x": {"type": "float", "low": 0.0, "high": 1.0, "log": False}}
    start = {"do": "start", "method": "", "space": space, "seed": 0, "trials": 10, "deterministic": True,
             "steps": [1.0, 3.0, 9.0], "workers": 1}  # fmt: skip
    lines = [
        json.dumps(start),
        json.dumps({"do": "ask"}),
        json.dumps({"do": "tell", "token": 0, "loss": 1.0}),
    ]
    done = subprocess.run(
        [str(python), "-P", str(ADAPTERS / "_serve.py"), str(ADAPTERS / f"{name}.py")],
        input="\n".join(lines) + "\n", capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = next(
        (a["error"] for a in answers if "error" in a), "" if len(answers) == 3 else done.stderr[-200:]
    )
    return str(answers[0].get("version", "")) if answers else "", wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"all: {', '.join(PEERS)}")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    unknown = [p for p in args.packages if p not in PEERS]
    if unknown:
        parser.error(f"no peer is called {', '.join(unknown)}; there are: {', '.join(PEERS)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in args.packages or PEERS:
        wrong = "" if args.check else install(args.folder, name)
        version = ""
        if not wrong:
            version, wrong = check(args.folder, name)
        failed += bool(wrong)
        print(f"{name:<10} {version:<8} {'failed: ' + wrong if wrong else 'ready'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
