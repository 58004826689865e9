"""A latency budget in a recipe: its table is measured once, kept in the run's folder, and set beside what is measured."""

import json
import signal
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from accelerate import Accelerator
from matplotlib.figure import Figure
from test_search_vit import KINDS, TINY, lines, run

from tangle_hf.cost import timing as latency
from tangle_hf.cost.latency_profiles import profile
from tangle_hf.cost.latency_tables import latency_ms, load_latency_table, save_latency_table
from tangle_hf.runs import image_search
from tangle_hf.runs import latency as run_latency
from tangle_hf.runs import search as search_find
from tangle_hf.settings import parse
from tangle_hf.space import Architecture


FILES = ("architecture.json", "arch_parameters.safetensors", "supernet/model.safetensors")


def seconds(net, inputs):
    """A clock that depends on the net, and goes differently for one that was loaded from its files."""
    return 1e-8 * net.num_parameters() * (4 / 3 if net.name_or_path else 1) * len(inputs["pixel_values"])


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Images are read once for all runs, pictures are empty, and the clock is invented."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **options: Path(path).touch())
        splits = image_search.load_images(parse(*KINDS, argv=TINY)[1])
        patch.setattr(image_search, "load_images", lambda data: splits)
        patch.setattr(latency, "forward_seconds", seconds)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run with a table that was measured for it, and what it printed."""
    folder = tmp_path_factory.mktemp("search") / "run"
    with redirect_stdout(StringIO()) as printed:
        run(folder, "--max_latency_ms", "90%", "--latency_batch_size", "4", "--finalists", "0")
    return folder, printed.getvalue()


def test_predicted_and_measured_stand_side_by_side(finished):
    folder, printed = finished
    results = json.loads((folder / "results.json").read_text())
    table = load_latency_table(folder / "latency_table.json")
    found = Architecture.from_json((folder / "architecture.json").read_text())
    used, timed = results["budgets"], results["latency"]
    assert used["arch_latency_ms"] == latency_ms(table, found) <= used["max_latency_ms"] == timed["limit_ms"]
    largest = latency_ms(table, table.space.largest)
    assert used["max_latency_ms"] == pytest.approx(0.9 * largest, abs=1e-5)
    assert used["expected_latency_ms"] == pytest.approx(used["max_latency_ms"], rel=1e-5)
    predicted = {name: net["predicted_ms"] for name, net in timed["nets"].items()}
    assert predicted == {"found, exported": used["arch_latency_ms"], "largest": largest}
    measured = {name: net["measured_ms"] for name, net in timed["nets"].items()}
    inside, _, all_of_it = results["table"]
    assert measured["largest"] == pytest.approx(4e-5 * all_of_it["parameters"])
    assert measured["largest"] == pytest.approx(largest, rel=1e-4)
    assert measured["found, exported"] == pytest.approx(4e-5 * inside["parameters"] * 4 / 3)
    assert timed["nets"]["found, exported"]["error"] == pytest.approx(-0.25, abs=1e-4)
    assert "are more than the" in printed
    assert timed["conditions"] == table.conditions and table.conditions["batch_size"] == 4
    (header,) = (line for line in printed.splitlines() if line.startswith("latency  "))
    assert "predicted ms" in header and "measured ms" in header
    assert "ms per forward pass (predicted) used (" in printed and "latency of a batch of 4" in printed
    assert lines(folder)[-1]["arch_latency_ms"] <= used["max_latency_ms"]


def test_an_interrupted_run_goes_on_with_its_own_table(finished, tmp_path, capsys, monkeypatch):
    whole, _ = finished
    file, options = (
        tmp_path / "given.json",
        ("--max_latency_ms", "90%", "--latency_batch_size", "4", "--finalists", "0"),
    )
    save_latency_table(load_latency_table(whole / "latency_table.json"), file)
    search, asked = search_find.search, []

    def interrupted(*given):
        *before, score = given[:6]

        def stop(*arguments, **chosen):
            if not asked:  # a second one would end the search at once
                asked.append(signal.raise_signal(signal.SIGINT))
            return score(*arguments, **chosen)

        return search(*before, stop, *given[6:])

    with monkeypatch.context() as patch:
        patch.setattr(search_find, "search", interrupted)
        with pytest.raises(SystemExit, match="130"):
            run(tmp_path / "run", *options, "--latency_table", str(file))
    assert "--resume" in capsys.readouterr().out and not (tmp_path / "run" / "subnet").exists()
    file.unlink()
    monkeypatch.setattr(run_latency, "profile", lambda *given, **options: pytest.fail("measured again"))
    run(tmp_path / "run", *options, "--latency_table", str(file), "--resume")
    assert lines(tmp_path / "run") == lines(whole)
    for name in (*FILES, "latency_table.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_resumed_run_refuses_a_changed_machine_unless_told(finished, tmp_path, monkeypatch):
    folder, _ = finished
    table = load_latency_table(folder / "latency_table.json")
    options = ("--max_latency_ms", "90%", "--latency_batch_size", "4", "--finalists", "0", "--resume")
    own = (folder / "latency_table.json").read_bytes()
    try:
        save_latency_table(
            replace(table, conditions={**table.conditions, "threads": 99}), folder / "latency_table.json"
        )
        with pytest.raises(ValueError, match="threads 99 there, .* here"):
            run(folder, *options)
        run(folder, *options, "--allow_other_latency_table", "true")
    finally:
        (folder / "latency_table.json").write_bytes(own)


def test_refused_runs_leave_nothing(finished, tmp_path, monkeypatch):
    table = load_latency_table(finished[0] / "latency_table.json")
    given = tmp_path / "given.json"
    save_latency_table(replace(table, conditions={**table.conditions, "device_name": "another"}), given)
    with pytest.raises(ValueError, match="device_name another there"):
        run(
            tmp_path / "run",
            "--max_latency_ms",
            "90%",
            "--latency_batch_size",
            "4",
            "--finalists",
            "0",
            "--latency_table",
            str(given),
        )
    with pytest.raises(ValueError, match="batch_size 4 there, 1 here"):
        run(tmp_path / "run", "--max_latency_ms", "90%", "--latency_table", str(finished[0] / "latency_table.json"))
    measured = []
    monkeypatch.setattr(run_latency, "profile", lambda *a, **b: measured.append(1) or profile(*a, **b, rounds=1))
    with pytest.raises(ValueError, match="max_params = 9 is below"):
        run(tmp_path / "run", "--max_latency_ms", "90%", "--max_params", "9")
    with pytest.raises(ValueError, match="examples do not fill one batch of 9000"):
        run(tmp_path / "run", "--max_latency_ms", "90%", "--per_device_batch_size", "9000")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="mixed_precision=fp16 is not supported"):
        patch.setattr(Accelerator, "mixed_precision", "fp16")
        run(tmp_path / "run", "--max_latency_ms", "90%")
    assert not measured, "a run is refused before it measures, where it can be"
    with pytest.raises(ValueError, match="max_latency_ms = 0.0001 is below the smallest possible"):
        run(tmp_path / "run", "--max_latency_ms", "0.0001")

    def refuse(*given):
        raise ValueError("refused later")

    monkeypatch.setattr(search_find, "search", refuse)
    with pytest.raises(ValueError, match="refused later"):
        run(tmp_path / "run", "--max_latency_ms", "90%", "--latency_table", str(finished[0] / "latency_table.json"),
            "--latency_batch_size", "4")  # fmt: skip
    assert measured and [path.name for path in tmp_path.iterdir()] == ["given.json"]


def test_a_table_alone_is_no_budget_but_reported(finished, tmp_path, capsys):
    table = finished[0] / "latency_table.json"
    run(
        tmp_path / "run",
        "--latency_table",
        str(table),
        "--latency_batch_size",
        "4",
        "--finalists",
        "0",
        "--max_steps",
        "2",
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["budgets"] == {} and set(results["latency"]["nets"]) == {"found, exported", "largest"}
    assert "predicted ms" in capsys.readouterr().out


def test_a_dry_run_measures_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_latency, "profile", lambda *given, **options: pytest.fail("measured"))
    run(tmp_path / "run", "--max_latency_ms", "50%", "--dry_run", "--classes", "3", "--image_size", "8")
    assert "limits of latency are left out" in capsys.readouterr().out and not (tmp_path / "run").exists()
