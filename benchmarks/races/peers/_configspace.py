"""ConfigSpace from a description, with its conditions; and configs back."""

from __future__ import annotations

from typing import Any

import ConfigSpace as CS


def build(space: dict[str, Any], seed: int, conditions: bool = True) -> CS.ConfigurationSpace:
    cs = CS.ConfigurationSpace(seed=seed)
    made: dict[str, Any] = {}
    for name, t in space.items():
        if t["type"] == "float":
            made[name] = CS.Float(name, (t["low"], t["high"]), log=t["log"])
        elif t["type"] == "int":
            made[name] = CS.Integer(name, (t["low"], t["high"]), log=t["log"])
        elif t["type"] == "choice":
            made[name] = CS.Categorical(name, [str(i) for i in range(len(t["values"]))])
        else:
            made[name] = CS.Constant(name, "0")
    cs.add(list(made.values()))
    for name, t in space.items():
        if not conditions:
            break
        parts = []
        for parent, values in t.get("when", {}).items():
            known = space[parent]["values"] if space[parent]["type"] == "choice" else None
            wanted = [str(known.index(v)) for v in values] if known is not None else list(values)
            parts.append(CS.InCondition(made[name], made[parent], wanted))
        if parts:
            cs.add(parts[0] if len(parts) == 1 else CS.AndConjunction(*parts))
    return cs


def config_of(space: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for name, t in space.items():
        if name not in found:
            continue
        value = found[name]
        if t["type"] in ("choice", "constant"):
            out[name] = t["values"][int(value)]
        elif t["type"] == "int":
            out[name] = int(value)
        else:
            out[name] = min(t["high"], max(t["low"], float(value)))
    return out
