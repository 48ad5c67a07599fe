"""Foretune: tune small, foretell big. A workbench for training decisions."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# name -> where it lives; imported at first use, so that `import foretune` costs nothing
_HOME = {
    "Choice": "foretune.space.domain",
    "Constant": "foretune.space.domain",
    "Fidelity": "foretune.space.fidelity",
    "Float": "foretune.space.domain",
    "Goal": "foretune.trial.goal",
    "Key": "foretune.base.key",
    "Ladder": "foretune.forecast.ladder",
    "Int": "foretune.space.domain",
    "Simplex": "foretune.space.domain",
    "Run": "foretune.study.run",
    "Space": "foretune.space.space",
    "Study": "foretune.study.study",
    "earlier": "foretune.study.earlier",
    "fit": "foretune.laws.fit",
    "foretell": "foretune.forecast.foretell",
    "joint_settings": "foretune.forecast.joint_settings",
    "joint_transfer": "foretune.forecast.joint_transfer",
    "read_space": "foretune.space.files",
    "tune": "foretune.study.tune",
}

__all__ = sorted([*_HOME, "__version__"])


# parts of the house that are reached as attributes: ft.parametrize.plan(...)
_PARTS = ("execute", "laws", "parametrize", "report", "schedule", "search", "space", "store", "trial")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"foretune.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    from foretune.base.errors import did_you_mean

    raise AttributeError(f"module 'foretune' has no attribute {name!r}.{did_you_mean(name, _HOME)}")


def __dir__() -> list[str]:
    return __all__
