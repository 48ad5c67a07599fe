"""Spaces: domains, conditions, encoding, change, files."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretune.base.errors import ConfigError, ForetuneError, SpaceError
from foretune.base.key import Key
from foretune.search.encoding import encoding
from foretune.space import Choice, Constant, Fidelity, Float, Int, Simplex, Space, read_space, space_from_dict
from foretune.space.design import grid, latin_hypercube, sobol, uniform

DOMAINS = [
    Float(-1.0, 2.0),
    Float(1e-5, 1e-1, log=True, default=1e-3, unit="1"),
    Float(3.0, 3.0),
    Int(-3, 5),
    Int(1, 1024, log=True),
    Int(7, 7),
    Choice(["sgd", "adam", None, True, 2]),
    Choice(["only"]),
    Constant("adamw"),
    Simplex(("web", "code", "books")),
]
NESTED = Space(
    {
        "opt": Choice(["sgd", "adam"]),
        "nesterov": Choice([True, False]),
        "momentum": Float(0.0, 0.99),
        "damp": Float(0.0, 1.0),
        "depth": Int(1, 4),
        "last": Float(0.0, 1.0),
    },
    when={
        "momentum": {"opt": ["sgd"]},
        "nesterov": {"opt": ["sgd"]},
        "damp": {"nesterov": [False], "depth": [2, 3]},
        "last": {"depth": [4]},
    },
)


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_domains_decode_what_they_encode(domain):
    """decode(encode(v)) == v for drawn values; codes lie in the unit cube; ends are exact."""
    rng = Key.of(1).generator()
    for row in [*rng.random((200, domain.width)), np.zeros(domain.width), np.ones(domain.width)]:
        value = domain.decode(row)
        code = domain.encode(value)
        assert len(code) == domain.width
        assert all(0.0 <= c <= 1.0 for c in code)
        again = domain.decode(code)
        if isinstance(value, (float, tuple)):
            assert again == pytest.approx(value, rel=1e-9, abs=1e-12)
        else:
            assert again == value
            assert type(again) is type(value)
        assert domain.check("x", value) == pytest.approx(value) if isinstance(value, tuple) else True


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_domains_refuse_what_they_call_invalid(domain):
    """check raises a sentence with the argument's name for each value of invalid()."""
    values = list(domain.invalid())
    assert len(values) >= 2
    for value in values:
        with pytest.raises(ConfigError, match="the_name"):
            domain.check("the_name", value)


@given(st.integers(-50, 50), st.integers(0, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_int_is_uniform_over_values_and_exact(low, span, log):
    """Each whole number of a range comes back from its own code, in log scale too."""
    if log:
        low = abs(low) + 1
    domain = Int(low, low + span, log=log)
    assert [domain.from_unit(domain.to_unit(v)) for v in range(low, low + span + 1)] == list(
        range(low, low + span + 1)
    )
    assert domain.from_unit(0.0) == low
    assert domain.from_unit(1.0) == low + span


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(2, 1), "low must not exceed high"),
        (lambda: Float(0, 1, log=True), "low > 0"),
        (lambda: Float(0, math.inf), "finite"),
        (lambda: Float("a", 1), "finite numbers"),
        (lambda: Float(-1e308, 1e308), "too wide"),
        (lambda: Int(0.5, 3), "whole"),
        (lambda: Choice([]), "at least one"),
        (lambda: Choice("abc"), "list of values"),
        (lambda: Choice(["a", "a"]), "twice"),
        (lambda: Choice([object()]), "stored"),
        (lambda: Simplex(("a",)), "two different parts"),
        (lambda: Space({"x": 3}), "Constant"),
        (lambda: Space({"x": Float(0, 1)}, when={"y": {"x": [1]}}), "lacks"),
        (lambda: Space({"x": Float(0, 1), "y": Float(0, 1)}, when={"y": {"x": [0.5]}}), "parent must be"),
        (lambda: Space({"c": Choice(["a"]), "y": Float(0, 1)}, when={"y": {"c": ["b"]}}), "one of 'a'"),
        (
            lambda: Space({"a": Int(0, 1), "b": Int(0, 1)}, when={"a": {"b": [1]}, "b": {"a": [1]}}),
            "circle",
        ),
        (lambda: Space({"a": Int(0, 1)}) | Space({"a": Int(0, 1)}), "under"),
    ],
)
def test_wrong_spaces_say_what_is_wrong(make, words):
    """A space that cannot be is refused with the cause."""
    with pytest.raises(SpaceError, match=words):
        make()


@pytest.mark.parametrize("seed", range(5))
def test_nested_conditions_are_kept(seed):
    """Drawn configs are legal, round-trip through the unit cube, and hold exactly their active names."""
    configs = NESTED.sample(60, Key.of(seed))
    for config in configs:
        assert NESTED.check(config) == config
        assert set(config) == {n for n in NESTED if NESTED.is_active(n, config)}
        assert ("damp" in config) == (
            config["opt"] == "sgd" and config["nesterov"] is False and config["depth"] in (2, 3)
        )
    units = NESTED.encode(configs)
    assert NESTED.decode(units) == configs or all(
        a.keys() == b.keys() and all(a[k] == pytest.approx(b[k]) for k in a)
        for a, b in zip(NESTED.decode(units), configs, strict=True)
    )
    assert np.isnan(units[:, NESTED.columns["last"]]).any()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"opt": "adam", "depth": 1, "lst": 1}, "unknown parameter 'lst'. Did you mean 'last'"),
        ({"opt": "adam"}, "'depth' is missing"),
        ({"opt": "adam", "depth": 1, "momentum": 0.9}, "'momentum' is inactive"),
        ({"opt": "adm", "depth": 1}, "Did you mean 'adam'"),
        ({"opt": "adam", "depth": 9}, "whole number in"),
        ({"opt": "adam", "depth": True}, "whole number in"),
        (17, "mapping"),
    ],
)
def test_wrong_configs_name_the_parameter(config, words):
    """Unknown, missing, inactive and out-of-range parameters are each named."""
    with pytest.raises(ConfigError, match=words):
        NESTED.check(config)


def test_several_faults_are_named_at_once():
    """One error tells all that is wrong with a config."""
    with pytest.raises(ConfigError) as caught:
        Space({"a": Float(0, 1), "b": Int(0, 3)}).check({"a": 2.0, "c": 1})
    assert all(word in str(caught.value) for word in ("a must be", "'b' is missing", "'c'"))


def test_prefix_and_union():
    """under() prefixes names and conditions; | joins disjoint spaces."""
    joined = NESTED.under("net") | Space({"lr": Float(0, 1)})
    assert joined.when["net.momentum"] == {"net.opt": ("sgd",)}
    config = joined.sample(1, Key.of(0))[0]
    assert joined.check(config) == config


def test_simplex_draws_are_uniform_on_the_simplex():
    """Mean 1/3 and variance 1/18 of each share (Dirichlet(1,1,1)), n = 20,000; false alarm below 1e-6."""
    domain = Simplex(("a", "b", "c"))
    shares = np.array([domain.decode(u) for u in Key.of(0).generator().random((20_000, 2))])
    assert np.allclose(shares.sum(1), 1.0)
    assert np.allclose(shares.mean(0), 1 / 3, atol=0.01)
    assert np.allclose(shares.var(0), 1 / 18, atol=0.003)


def test_space_files_round_trip(tmp_path):
    """to_dict, JSON and TOML describe the same space; equal spaces have equal digests."""
    again = space_from_dict(json.loads(json.dumps(NESTED.to_dict())))
    assert again == NESTED
    assert again.digest == NESTED.digest
    toml = tmp_path / "space.toml"
    toml.write_text(
        '[lr]\ntype="float"\nlow=1e-4\nhigh=1e-1\nlog=true\n[opt]\ntype="choice"\nvalues=["sgd","adam"]\n'
        '[momentum]\ntype="float"\nlow=0.0\nhigh=0.99\nwhen={opt=["sgd"]}\n[net]\ntype="constant"\nvalues=["gpt"]\n'
        '[mix]\ntype="simplex"\nvalues=["web","code"]\n'
    )
    space = read_space(toml)
    assert list(space) == ["lr", "opt", "momentum", "net", "mix"]
    assert space_from_dict(space.to_dict()) == space


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[lr\n", "not valid TOML"),
        ('[lr]\ntype="flaot"\nlow=0\nhigh=1', "Did you mean 'float'"),
        ("[lr]\nlow=0\nhigh=1", "type must be one of"),
        ('[lr]\ntype="float"\nlow=0', "lacks high"),
        ('[lr]\ntype="float"\nlow=0\nhigh=1\nlogg=true', "Did you mean 'log'"),
        ('[lr]\ntype="float"\nlow=2\nhigh=1', "Swap them"),
        ("lr=3", "must be a table"),
        ("", "one table a parameter"),
    ],
)
def test_wrong_space_files_name_the_table(tmp_path, text, words):
    """A wrong space file is refused with the table, the key and what is accepted."""
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(SpaceError, match=words):
        read_space(file)


def test_a_missing_space_file_is_named(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(SpaceError, match=r"nowhere\.toml"):
        read_space(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (Float(0, 1), Float(0, 2), None),
        (Float(0.1, 1), Float(0.1, 1, log=True), None),
        (Choice(["a"]), Choice(["a", "b"]), None),
        (Float(0, 1), Float(0, 0.5), "high falls"),
        (Int(0, 4), Int(1, 4), "low rises"),
        (Choice(["a", "b"]), Choice(["b"]), "'a' are gone"),
        (Float(0, 1), Int(0, 1), "type changes"),
        (Constant(1), Constant(2), "constant changes"),
        (Simplex(("a", "b")), Simplex(("a", "c")), "parts change"),
    ],
)
def test_wider_is_accepted_and_narrower_is_refused(old, new, words):
    """differences() is empty for a wider domain and names what a narrower one loses."""
    found = Space({"x": new}).differences(Space({"x": old}))
    assert (not found) if words is None else (words in found[0])


def test_a_new_parameter_needs_a_default():
    """Old trials get the default of a new parameter; without one the change is refused."""
    old = Space({"x": Float(0, 1)})
    assert "no default" in Space({"x": Float(0, 1), "y": Float(0, 1)}).differences(old)[0]
    wider = Space({"x": Float(0, 1), "y": Float(0, 1, default=0.5)})
    assert wider.differences(old) == []
    assert wider.fill({"x": 0.25}) == {"x": 0.25, "y": 0.5}
    assert "'x' is gone" in Space({"z": Float(0, 1, default=0.0)}).differences(old)[0]


def test_designs_cover_the_cube():
    """A Latin hypercube fills each slice once; Sobol continues where it stopped; a grid has the ends."""
    cube = latin_hypercube(16, 3, Key.of(0))
    assert all(sorted((cube[:, j] * 16).astype(int)) == list(range(16)) for j in range(3))
    assert np.array_equal(sobol(8, 2, Key.of(0))[5:], sobol(3, 2, Key.of(0), skip=5))
    assert uniform(4, 2, Key.of(0)).shape == (4, 2)
    space = Space(
        {"lr": Float(1e-3, 1e-1, log=True), "opt": Choice(["a", "b"]), "k": Int(1, 3), "c": Constant(1)}
    )
    points = grid(space, 3)
    assert len(points) == 3 * 2 * 3
    assert {p["lr"] for p in points} >= {1e-3, 1e-1}
    assert {p["k"] for p in points} == {1, 2, 3}


def test_grid_of_a_conditional_space_has_no_duplicates():
    """Inactive parameters do not multiply the grid."""
    points = grid(NESTED, 2)
    assert len({json.dumps(p, sort_keys=True) for p in points}) == len(points)


def test_fidelity_rungs():
    """Rungs end at the full length and divide by eta."""
    assert Fidelity(81).rungs(3) == (1, 3, 9, 27, 81)
    assert Fidelity(1).rungs(3) == (1,)
    assert Fidelity(100, 10).rungs(3) == (11, 33, 100)
    assert Fidelity(1.0, 0.1).rungs(2)[-1] == 1


RUBBISH: list[Any] = [
    None, 3, math.nan, math.inf, "", "a", b"a", [], [None], [math.nan], ["a", "a"], [[1]], [{}], {}, {"a": 1}, {"a"},
    (), 10**400, complex(1, 2), object(), Ellipsis, float, iter([1]), np.array([1, 2]), np.zeros((2, 2)),
    np.array(["a", "b"]), Float(0, 1), Float, lambda: 1,
]  # fmt: skip
PLACES: list[Callable[[Any], object]] = [
    lambda r: Float(r, 1), lambda r: Float(0, r), lambda r: Float(0, 1, log=r), lambda r: Float(0, 1, default=r),
    lambda r: Float(0, 1, unit=r), lambda r: Int(r, 5), lambda r: Int(0, r), lambda r: Int(0, 5, default=r),
    lambda r: Int(0, 5, unit=r), lambda r: Choice(r), lambda r: Choice(["x", 1], default=r),
    lambda r: Choice(["x"], unit=r), lambda r: Constant(r), lambda r: Constant(1, r), lambda r: Simplex(r),
    lambda r: Simplex(["x", "y"], default=r), lambda r: Simplex(["x", "y"], unit=r), lambda r: Space(r),
    lambda r: Space({"x": r}), lambda r: Space({"x": {"y": r}}), lambda r: Space({"x": Int(0, 1)}, when=r),
    lambda r: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"x": r}),
    lambda r: Space({"x": Int(0, 1), "y": Int(0, 1)}, when={"x": {"y": r}}),
    lambda r: Space({"x": Float(0, 1)}).check(r), lambda r: Space({"x": Float(0, 1)}).fill(r),
    lambda r: Space({"x": Float(0, 1)}).check({"x": r}), lambda r: Space({"x": Int(0, 9)}).check({"x": r}),
    lambda r: Space({"x": Choice(["b", 1])}).check({"x": r}), lambda r: Space({"x": Constant(2)}).check({"x": r}),
    lambda r: Space({"x": Simplex(["b", "c"])}).check({"x": r}), lambda r: Fidelity(r), lambda r: Fidelity(9, low=r),
    lambda r: Fidelity(9, unit=r),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
def test_rubbish_is_taken_or_refused_in_a_sentence(place: Callable[[Any], object]) -> None:
    """Whatever stands where a value should: it is taken, or an error of this package says what is accepted."""
    said = []
    for rubbish in RUBBISH:
        try:
            place(rubbish)
        except ForetuneError as error:
            said.append(str(error))
    assert len(said) > len(RUBBISH) // 2
    assert all(re.search(r"must|lacks|missing|too wide|twice|no part|unknown", words) for words in said)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Simplex(3), r"Simplex: values must name .* as in Simplex\(\['web', 'code'\]\); got 3\."),  # type: ignore[arg-type]
        (lambda: Choice({}), r"as in Choice\(\['sgd', 'adam'\]\); got {}"),  # type: ignore[arg-type]
        (lambda: Constant([1]), r"Constant: value must be .* got \[1\]"),
        (lambda: Float("a", 1), r"as in Float\(1, 10\); got 'a' and 1"),  # type: ignore[arg-type]
        (lambda: Space({"opt": {"lr": Float(0, 1)}}), r"Space\(\.\.\.\)\.under\('opt'\), joined by \|"),  # type: ignore[dict-item]
        (lambda: Space({"x": [1, 2]}), r"Choice\(\[1, 2\]\)"),  # type: ignore[dict-item]
        (lambda: Space({"x": Float}), r"Float\(\.\.\.\)"),  # type: ignore[dict-item]
        (lambda: Space({"x": Float(0, 1)}, when=["x"]), "when must map parameters"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_errors_of_spaces_name_the_remedy(call: Callable[[], object], words: str) -> None:
    """What was given, what is accepted, and what to write instead."""
    with pytest.raises(SpaceError, match=words):
        call()


def test_the_order_of_a_space_counts() -> None:
    """Spaces whose columns differ are not equal, so that nothing that is kept for one is taken for the other."""
    one = Space({"a": Choice(["p", "q", "r"]), "b": Float(0, 1)})
    other = Space({"b": Float(0, 1), "a": Choice(["p", "q", "r"])})
    assert one != other
    assert encoding(one).levels == (3, 0)
    assert encoding(other).levels == (0, 3)


def test_equal_spaces_are_equal_wherever_they_were_made() -> None:
    """Equality is of content; True, 1 and another default make another space."""
    one = Space({"a": Choice([1, 2]), "b": Float(0, 1)}, when={"b": {"a": [1]}})
    assert one == Space({"a": Choice([1, 2]), "b": Float(0.0, 1.0)}, when={"b": {"a": [1]}})
    assert len({one, space_from_dict(one.to_dict())}) == 1
    for other in (
        Space({"a": Choice([1, 2]), "b": Float(0, 1)}),
        Space({"a": Choice([1, 2]), "b": Float(0, 1)}, when={"b": {"a": [2]}}),
        Space({"a": Choice([True, 2]), "b": Float(0, 1)}, when={"b": {"a": [True]}}),
        Space({"a": Choice([1, 2]), "b": Float(0, 1, default=0.5)}, when={"b": {"a": [1]}}),
        {"a": 1},
    ):
        assert one != other


def test_equality_of_big_spaces_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What two spaces hold is written out once, however often they are compared."""
    looks = []
    plain = Space.to_dict
    monkeypatch.setattr(Space, "to_dict", lambda self: looks.append(1) or plain(self))  # type: ignore[func-returns-value]
    one, other = (Space({f"x{i}": Float(0, 1) for i in range(300)}) for _ in range(2))
    assert all(one == other for _ in range(50))
    assert len(looks) == 2
