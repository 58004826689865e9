"""Where nets stand in a table of trained ones: regret, percentile, and tables that do not fit."""

import json
from types import SimpleNamespace

import pytest

from tangle_hf.compare.nets import Net
from tangle_hf.compare.report import _mean_standing
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.compare.standings import read_standings
from tangle_hf.models.cells.subnets_cells import genotype_of
from tangle_hf.space import Architecture, PerLayer, SearchSpace


SPACE = SearchSpace(normal=PerLayer(["none", "nor_conv_3x3"], rows=6))
ARCHS = list(SPACE)
OTHER = Architecture(normal=["skip_connect"] * 6)  # of NAS-Bench-201, but not of this part of it


def write(path, rows):
    path.write_text(json.dumps([{"arch": genotype_of("nas_bench_201", arch), **metrics} for arch, metrics in rows]))
    return str(path)


def read(path, run_has=None, **options):
    runs = [SimpleNamespace(settings={"space": "nas_bench_201", "table": run_has})]
    return read_standings(CompareArguments(runs=["any"], table=path, **options), runs, SPACE)


@pytest.fixture
def whole(tmp_path):
    """Accuracies 0, 1, ... 63 percent, each once, and a better net of a larger space."""
    rows = [(arch, {"accuracy": number, "loss": 100 - number}) for number, arch in enumerate(ARCHS)]
    return write(tmp_path / "table.json", [*rows, (OTHER, {"accuracy": 99, "loss": 1})])


def test_regret_and_percentile_are_in_the_whole_space(whole):
    standings = read(whole)
    assert standings.of(ARCHS[63]) == {"table accuracy": 63, "regret": 0, "percentile": 100}
    assert standings.of(ARCHS[15]) == {"table accuracy": 15, "regret": 48, "percentile": 25}
    assert standings.of(OTHER) == {"table accuracy": None, "regret": None, "percentile": None}
    assert standings.words == "regret and percentile in accuracy are among all 64 architectures of the space"


def test_the_mean_of_a_method_is_over_its_searches(whole):
    nets = [
        Net("drnas", f"drnas-{n}", arch, f"drnas-{n}") for n, arch in enumerate((ARCHS[3], ARCHS[3], ARCHS[9], OTHER))
    ]
    found = _mean_standing(read(whole), nets)
    assert {name: (cell["mean"], cell["of"]) for name, cell in found.items()} == {
        "table accuracy": (5, "searches"),  # a net found twice counts twice, one that the table lacks does not
        "regret": (58, "searches"),
        "percentile": ((6.25 + 6.25 + 15.625) / 3, "searches"),
    }
    assert found["regret"]["values"] == [60, 60, 54]
    hand = [Net("hand", name, arch, baseline=True) for name, arch in (("a", ARCHS[0]), ("b", ARCHS[1]))]
    assert _mean_standing(read(whole), hand)["regret"] | {"interval": None} == {
        "mean": 62.5, "deviation": pytest.approx(0.5**0.5), "interval": None, "values": [63, 62], "of": "nets"
    }  # fmt: skip


def test_a_table_of_a_part_says_so_and_equal_scores_have_one_percentile(tmp_path):
    rows = [(arch, {"accuracy": 1, "test_accuracy": score}) for arch, score in zip(ARCHS, (5, 7, 7, 9), strict=False)]
    standings = read(write(tmp_path / "part.json", rows))
    assert [standings.of(arch)["percentile"] for arch in ARCHS[:4]] == [25, 75, 75, 100]
    assert [standings.of(arch)["regret"] for arch in ARCHS[:4]] == [4, 2, 2, 0]
    assert standings.words == "regret and percentile in test_accuracy are among 4 of the 64 architectures of the space"
    assert read(str(tmp_path / "part.json"), table_metric="accuracy").of(ARCHS[0])["regret"] == 0


def test_the_table_of_the_runs_is_taken_where_none_is_given(whole, capsys):
    assert read(None, run_has=whole).of(ARCHS[0])["regret"] == 63
    assert read(None) is None and capsys.readouterr().out == ""
    assert read(None, run_has="moved.json") is None
    assert capsys.readouterr().out == (
        "moved.json, which scored the searches, is not there: no regrets; say with --table where it is\n"
    )


def test_tables_that_do_not_fit_are_refused(whole, tmp_path):
    with pytest.raises(ValueError, match="there is no table missing.json"):
        read("missing.json")
    with pytest.raises(ValueError, match="table_metric=accuracy has no effect without a table"):
        read(None, table_metric="accuracy")
    with pytest.raises(ValueError, match=r"has table_metric=top5; name one of \['accuracy', 'loss'\]"):
        read(whole, table_metric="top5")
    with pytest.raises(ValueError, match="table_metric=loss: less of a loss is better"):
        read(whole, table_metric="loss")
    with pytest.raises(ValueError, match="none of the 1 architectures of .* is one of the runs' space"):
        read(write(tmp_path / "other.json", [(OTHER, {"accuracy": 1})]))
    only_loss = write(tmp_path / "loss.json", [(ARCHS[0], {"loss": 1})])
    with pytest.raises(ValueError, match="not every row of .* has test_accuracy and accuracy; name one of"):
        read(only_loss)
