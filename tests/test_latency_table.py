"""A latency table is a cost like any other, survives its file, and is refused where it was not measured."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace, num_params
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.cost.latency_tables import (
    LatencyTable,
    Part,
    check_latency_table,
    latency_cost,
    latency_ms,
    load_latency_table,
    save_latency_table,
)
from tangle_hf.cost.tables import exact, expected
from tangle_hf.cost.timing import conditions


SPACE = SearchSpace(n_embd=[16, 24, 32], n_layer=[1, 2, 3], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))
CONFIG = ElasticGPT2Config(space=SPACE, vocab_size=30, n_positions=8)
NET = SimpleNamespace(space=SPACE, config=CONFIG, subnet_forms=ElasticGPT2LMHeadModel.subnet_forms,
                      device=torch.device("cpu"), dtype=torch.float32)  # fmt: skip
HERE = conditions(NET, sequence_length=8)


def random_table(seed, space=SPACE, **changed):
    """Times that follow no rule: larger choices may be faster."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for names, in_layers in [(("n_embd",), False), (("n_embd", "n_head"), True), (("n_embd", "mlp_ratio"), True)]:
        shape = [len(space.choices[name]) for name in names]
        parts.append(Part(names, in_layers, torch.rand(shape, generator=generator, dtype=torch.float64)))
    return LatencyTable({**HERE, **changed}, space, tuple(parts), ({"arch": SPACE.largest.to_dict(), "ms": 1.0},))


def summed(table, arch):
    """Milliseconds of an architecture, part by part."""
    once, attention, mlp = (part.ms for part in table.parts)
    at = {name: table.space.choices[name].index for name in table.space.choices}
    width = at["n_embd"](arch.n_embd)
    per_layer = zip(arch.n_head, arch.mlp_ratio, strict=True)
    return once[width] + sum(attention[width, at["n_head"](h)] + mlp[width, at["mlp_ratio"](r)] for h, r in per_layer)


def random_rows(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = {n: torch.randn(SPACE.rows(n), len(c), generator=generator) for n, c in SPACE.choices.items()}
    return {name: (2 * rows).double().softmax(-1) for name, rows in logits.items()}


def values_of(arch):
    """(dimension, row, choice) of every decision of an architecture."""
    for name, choices in SPACE.choices.items():
        values = getattr(arch, name) if name in SPACE.per_layer else [getattr(arch, name)]
        yield from ((name, row, choices.index(value)) for row, value in enumerate(values))


def log_probability(rows, arch):
    left = {(name, row) for name in SPACE.choices for row in range(SPACE.rows(name))}
    total = 0.0
    for name, row, choice in values_of(arch):
        total += math.log(rows[name][row, choice])
        left.remove((name, row))
    return total + sum(math.log(rows[name][row].max()) for name, row in left)


@pytest.mark.parametrize("seed", range(3))
def test_the_cost_of_every_architecture_is_the_sum_of_its_parts(seed):
    table, rows = random_table(seed), random_rows(seed)
    cost, mean = latency_cost(table, SPACE), 0.0
    for arch in SPACE:
        nanoseconds = exact(cost, arch)
        assert isinstance(nanoseconds, int) and nanoseconds == pytest.approx(1e6 * summed(table, arch).item(), abs=4)
        assert latency_ms(table, arch) == nanoseconds / 1e6
        mean += nanoseconds * math.prod(rows[name][row, choice].item() for name, row, choice in values_of(arch))
    assert expected(cost, rows).item() == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("limits", [{"max_latency_ms": "40%"}, {"max_latency_ms": "70%", "max_params": "60%"}])
@pytest.mark.parametrize("seed", range(4))
def test_the_discretisation_within_a_latency_is_the_enumerated_optimum(limits, seed):
    table, rows = random_table(seed), random_rows(seed)
    budgets = make_budgets(CONFIG, **limits, latency_table=table)
    latest = float(limits["max_latency_ms"][:-1]) / 100 * summed(table, SPACE.largest)
    most = num_params(SPACE, SPACE.largest, CONFIG) * 0.6 if "max_params" in limits else math.inf
    kept = [a for a in SPACE if summed(table, a) <= latest and num_params(SPACE, a, CONFIG) <= most]
    assert 0 < len(kept) < SPACE.size
    wanted = sorted(kept, key=lambda arch: -log_probability(rows, arch))[:5]
    found = discretise(NET, rows, budgets, count=5)
    assert [candidate.arch for candidate in found] == wanted
    for candidate in found:
        assert candidate.costs["latency_ms"] == pytest.approx(summed(table, candidate.arch).item(), abs=1e-5)


def test_milliseconds_are_read_and_printed_as_milliseconds():
    table = random_table(0)
    largest = latency_ms(table, SPACE.largest)
    for text, ms in [("0.5", 0.5), ("12", 12), (0.25, 0.25), ("50%", largest / 2), ("0.00001", 1e-5)]:
        (budget,) = make_budgets(CONFIG, max_latency_ms=text, latency_table=table)
        assert budget.cost == "latency_ms" and budget.in_units(budget.limit) == pytest.approx(ms, abs=1e-6)
    (budget,) = make_budgets(CONFIG, max_latency_ms="0.001", latency_table=table)
    least = min(latency_ms(table, arch) for arch in SPACE)
    with pytest.raises(ValueError, match=f"max_latency_ms = 0.001 is below the smallest possible, {least:.4g}"):
        discretise(NET, random_rows(0), [budget])
    for text, message in [("soon", "max_latency_ms: 'soon' is not a budget"), ("130%", "more than the largest")]:
        with pytest.raises(ValueError, match=message):
            make_budgets(CONFIG, max_latency_ms=text, latency_table=table)
    with pytest.raises(ValueError, match="needs a latency table"):
        make_budgets(CONFIG, max_latency_ms="50%")


def test_a_table_comes_back_from_its_file_unchanged(tmp_path):
    table, path = random_table(1), tmp_path / "deep" / "table.json"
    save_latency_table(table, path)
    loaded = load_latency_table(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["table.json"]
    assert (loaded.conditions, loaded.space, loaded.nets) == (table.conditions, table.space, table.nets)
    for part, other in zip(table.parts, loaded.parts, strict=True):
        assert (part.dimensions, part.in_layers) == (other.dimensions, other.in_layers)
        assert torch.equal(part.ms, other.ms) and other.ms.dtype == torch.float64
    assert json.loads(path.read_text())["parts"][0]["dimensions"] == {"n_embd": [16, 24, 32]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("space"),
        lambda data: data["conditions"].pop("threads"),
        lambda data: data["parts"][0]["ms"].pop(),
        lambda data: data["parts"][0]["ms"].__setitem__(0, -1.0),
        lambda data: data["parts"][0]["ms"].__setitem__(0, float("inf")),
        lambda data: data["parts"][0]["ms"].__setitem__(0, float("nan")),
        lambda data: data["parts"][1].pop("paid"),
        lambda data: data["parts"][1]["dimensions"].update(n_kv_head=[1]),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, damage):
    path = tmp_path / "table.json"
    save_latency_table(random_table(1), path)
    data = json.loads(path.read_text())
    damage(data)
    for text in (json.dumps(data), path.read_text()[:100]):
        path.write_text(text)
        with pytest.raises(ValueError, match="is no latency table"):
            load_latency_table(path)
    with pytest.raises(ValueError, match="there is no latency table"):
        load_latency_table(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "cuda"),
        ("device_name", "another processor"),
        ("dtype", "bfloat16"),
        ("batch_size", 2),
        ("sequence_length", 4),
        ("threads", 64),
        ("attention", "eager"),
        ("params", [1, 2]),
        ("flops", [1, 2]),
    ],
)
def test_a_table_of_other_conditions_is_refused_unless_it_is_wanted(name, value):
    assert HERE[name] != value
    other = random_table(0, **{name: value})
    with pytest.raises(ValueError, match=rf"{name}.* there, .* here.*allow_other_latency_table"):
        check_latency_table(other, SPACE, HERE)
    (difference,) = check_latency_table(other, SPACE, HERE, allow_other=True)
    assert difference.startswith(name)
    assert check_latency_table(random_table(0), SPACE, HERE) == []


def test_versions_of_libraries_are_told_and_not_refused():
    (difference,) = check_latency_table(random_table(0, torch="1.0"), SPACE, HERE)
    assert difference == f"torch 1.0 there, {HERE['torch']} here"


def test_another_space_is_refused_and_never_guessed():
    table = random_table(0)
    smaller = SearchSpace(n_embd=[16, 32], n_layer=[2], n_head=[4], mlp_ratio=PerLayer([2]))
    with pytest.raises(ValueError, match="other conditions: space"):
        check_latency_table(table, smaller, HERE)
    check_latency_table(table, smaller, HERE, allow_other=True)
    for arch in smaller:
        inside = SPACE.architecture(n_embd=arch.n_embd, n_layer=2, n_head=4, mlp_ratio=2)
        assert exact(latency_cost(table, smaller), arch) == exact(latency_cost(table, SPACE), inside)
    larger = SearchSpace(n_embd=[16, 24, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 3]))
    with pytest.raises(ValueError, match=r"knows mlp_ratio in \(1, 2\)"):
        check_latency_table(table, larger, HERE, allow_other=True)
    shared = LatencyTable(HERE, SearchSpace(n_embd=[16], n_layer=[1], n_head=[2, 4], mlp_ratio=[1]),
                          (Part(("n_head",), False, torch.ones(2)),))  # fmt: skip
    with pytest.raises(ValueError, match="knows n_head"):
        latency_cost(shared, SPACE)
