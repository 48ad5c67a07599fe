"""Columns of a space: what snap makes of any row is what the space would make of it."""

from __future__ import annotations

import numpy as np
import pytest

import foretune as ft
from foretune.search.encoding import encoding

SPACES = {
    "simplex": ft.Space({"mix": ft.Simplex(("a", "b", "c", "d")), "lr": ft.Float(1e-4, 1e-1, log=True)}),
    "mixed": ft.Space({"k": ft.Int(1, 9, log=True), "c": ft.Choice(("x", "y", "z")), "f": ft.Float(0, 1)}),
    "conditional": ft.Space(
        {"kind": ft.Choice(("p", "q")), "m": ft.Simplex(("a", "b", "c")), "n": ft.Int(0, 3)},
        when={"m": {"kind": ["p"]}, "n": {"kind": ["q"]}},
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_snap_is_encoding_what_was_decoded(name: str) -> None:
    """On random rows and on corners, where a simplex has nothing left to divide."""
    space = SPACES[name]
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.random((200, space.width)), rng.integers(0, 2, (200, space.width)).astype(float)]
    )
    np.testing.assert_allclose(encoding(space).snap(rows), space.encode(space.decode(rows)), atol=1e-9)
