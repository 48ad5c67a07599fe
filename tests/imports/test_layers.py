"""What may import what, and how much an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import foretune

SOURCE = Path(foretune.__file__).parent
HEAVY = ("torch", "scipy", "plotly", "ray", "sqlalchemy", "pandas", "sklearn", "matplotlib", "ot", "cma")


def test_nothing_in_the_package_imports_the_suites():
    """foretune.testing is for users and tests alone."""
    for path in SOURCE.rglob("*.py"):
        if path.is_relative_to(SOURCE / "testing"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            assert not any(n.startswith("foretune.testing") for n in names), path


@pytest.mark.parametrize(
    "module",
    [
        "foretune",
        "foretune.study.tune",
        "foretune.search",
        "foretune.schedule",
        "foretune.store",
        "foretune.execute",
        "foretune.laws",
        "foretune.parametrize",
        "foretune.forecast.foretell",
        "foretune.cli.main",
        "foretune.report",
        "foretune.bench.race",
        "foretune.bench.timed",
    ],
)
def test_imports_stay_light(module):
    """No module of the core brings a heavy package along when it is imported."""
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_minimal_study_needs_numpy_alone():
    """Tuning with the random sampler imports no optional package."""
    code = (
        "import sys, foretune as ft\n"
        "r = ft.tune(lambda c: c['x'], ft.Space({'x': ft.Float(0, 1)}), sampler='random', budget='3 trials')\n"
        f"print(r.best.number >= 0, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "True []"


def test_the_public_list_is_what_it_was():
    """The names of `import foretune as ft` are a contract: change this list on purpose only."""
    assert foretune.__all__ == sorted(
        [
            "Choice", "Constant", "Fidelity", "Float", "Goal", "Int", "Key", "Ladder", "Run", "Simplex", "Space",
            "Study", "__version__", "earlier", "fit", "foretell", "joint_settings", "joint_transfer", "read_space",
            "tune",
        ]
    )  # fmt: skip


def test_the_example_is_short_and_public():
    """The demo is an ordinary program: at most 200 lines, and nothing of Foretune but its public names."""
    text = (SOURCE.parents[1] / "examples" / "stdlib_lm.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("foretune")
        if isinstance(node, ast.Import):
            assert all(a.name in ("foretune",) or not a.name.startswith("foretune") for a in node.names)
