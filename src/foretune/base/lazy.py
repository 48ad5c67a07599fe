"""Imports on demand: optional packages, with an error that names the extra to install."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from foretune.base.errors import MissingExtraError, did_you_mean

__all__ = ["exported", "require"]

# package -> the extra of this distribution that installs it
EXTRAS = {
    "torch": "torch",
    "scipy": "gp",
    "threadpoolctl": "gp",
    "plotly": "report",
    "matplotlib": "report",
    "ray": "ray",
    "psycopg": "postgres",
    "ot": "mixing",
    "sklearn": "mixing",
    "cma": "search",
    "cocoex": "bench",
    "pandas": "bench",
    "pyarrow": "bench",
}


def require(module: str, why: str) -> ModuleType:
    """Import ``module`` now, or say which extra brings it.

    Args:
        module: dotted module name, such as ``"scipy.linalg"``.
        why: what needs it, as the start of a sentence: ``"The GP sampler"``.

    Raises:
        MissingExtraError: the package is not installed.

    >>> require("json", "This example").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        extra = EXTRAS.get(top)
        how = f'pip install "foretune[{extra}]"' if extra else f"pip install {top}"
        raise MissingExtraError(f"{why} needs {top}, which is not installed: {how}.") from error


def exported(package: str, home: Mapping[str, str], name: str, attribute: str | None = None) -> Any:
    """Find a package's public name in the module where it lives; call it from the package's ``__getattr__``.

    Args:
        package: the package's ``__name__``.
        home: public name -> dotted name of its module.
        name: what was asked for.
        attribute: its name within that module, where it is another.

    Raises:
        AttributeError: the package has no such name; the nearest one is suggested.

    >>> exported("here", {"dumps": "json"}, "dumps").__name__
    'dumps'
    """
    if name not in home:
        raise AttributeError(f"module {package!r} has no attribute {name!r}.{did_you_mean(name, home)}")
    return getattr(importlib.import_module(home[name]), attribute or name)
