"""Finalists of a front and of another budget for a finished run: they are those of a search, and go on where they stopped."""

import json
import re
import shutil

import pytest
from accelerate import Accelerator
from test_search_gpt import run, text  # noqa: F401

from tangle_hf.runs import finalists as runs
from tangle_hf.runs.resolve_finalists import resolve_with_finalists
from tangle_hf.search.finalists.short_training import ShortTraining
from tangle_hf.space import Architecture
from tangle_hf_cli import main as cli


OPTIONS = ["--n_embd", "16", "24", "32", "--n_layer", "1", "2", "3", "--max_steps", "10", "--finalist_ratio", "0.4"]
FRONT = [*OPTIONS, "--pareto", "params", "--pareto_points", "3", "--finalists", "2", "--random_finalists", "1"]
ONE = [*OPTIONS, "--max_params", "60%", "--finalists", "2", "--random_finalists", "1"]


@pytest.fixture(scope="module")
def front(tmp_path_factory, text):  # noqa: F811
    folder = tmp_path_factory.mktemp("front") / "run"
    run(folder, text, *FRONT)
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory, text):  # noqa: F811
    folder = tmp_path_factory.mktemp("one") / "run"
    run(folder, text, *ONE)
    return folder


def read(path):
    return json.loads(path.read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def interrupted_at(monkeypatch, count, do):
    """What is trained for the nth time is not trained to its end; then everything is as before."""
    train, done = ShortTraining.train, []

    def stopping(self, *given):
        done.append(given)
        if len(done) == count:
            raise KeyboardInterrupt
        return train(self, *given)

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        patch.setattr(ShortTraining, "train", stopping)
        do()


def test_each_point_of_a_front_has_finalists_within_its_limit(front):
    result, results = read(front / "pareto.json"), read(front / "results.json")
    points, finalists = result["points"], results["finalists"]
    assert len(points) == 3
    for number, point in enumerate(points):
        rows = [row for row in finalists["rows"] if row["point"] == number]
        own = [row["finalist"] for row in rows if not row["finalist"].startswith("taken")]
        assert all(row["parameters"] <= point["limit"] for row in rows)
        assert any("hand cut" in origin for origin in own) and own.count("random") <= 1
        assert sum("search" in origin for origin in own) == 2
        assert sum(origin.endswith(" (its choice)") for origin in own) == 1
        (taken,) = (row for row in rows if row["taken"] == "yes" or row["finalist"].startswith("taken"))
        assert taken is rows[0] and taken["architecture"] == str(Architecture(point["arch"]))
        assert taken["parameters"] == point["cost"] and taken["4 steps"] == point["short loss"]
    metrics, log = lines(front / "metrics.jsonl"), lines(front / "finalists.jsonl")
    assert results["search_cost"] > metrics[-1]["search_cost"] + finalists["cost"]
    trained = [(str(line["arch"]), line["seed"], line["steps"]) for line in log]
    assert len(set(trained)) == len(trained), "no net is trained twice"
    assert finalists["cost"] == pytest.approx(sum(line["cost"] for line in log))
    assert not (front / "finalists").exists()


def test_the_front_is_that_of_what_was_taken(front, tmp_path):
    result, results = read(front / "pareto.json"), read(front / "results.json")
    points = result["points"]
    for number, point in enumerate(points):
        assert all(point["short loss"] <= cheaper["short loss"] for cheaper in points[:number])
        others = [other for other in points[:number] + points[number + 1 :] if other["arch"] != point["arch"]]
        again = any(other["arch"] == point["arch"] for other in points[:number])
        beaten = any(o["cost"] <= point["cost"] and o["short loss"] <= point["short loss"] for o in others)
        assert point["nondominated"] == (not again and not beaten)
    chosen = [row["architecture"] for row in results["finalists"]["rows"] if "its choice" in row["finalist"]]
    changed = [str(Architecture(p["arch"])) != own for p, own in zip(points, chosen, strict=True)]
    assert sum(changed) == results["finalists"]["changed"]
    cli(["export", str(front), "--point", "1", "--output", str(tmp_path / "one")])
    assert read(tmp_path / "one" / "architecture.json") == points[1]["arch"]


def test_a_point_takes_over_what_is_better_for_less(monkeypatch, tmp_path, text, capsys):  # noqa: F811
    """As if the smallest net trained best."""
    by_size = lambda given: lambda model: float(model.num_parameters())  # noqa: E731
    halve = runs.halve
    monkeypatch.setattr(runs, "halve", lambda *given: halve(*given[:3], by_size(given), *given[4:]))
    run(tmp_path / "run", text, *FRONT)
    points = read(tmp_path / "run" / "pareto.json")["points"]
    assert len({str(point["arch"]) for point in points}) == 1
    assert [point["nondominated"] for point in points] == [True, False, False]
    assert [point["origin"].endswith(" of point 0") for point in points] == [False, True, True]
    assert capsys.readouterr().out.count("taken at point 0") == 2


def test_an_interrupted_front_ends_as_if_it_never_was(front, tmp_path, text, monkeypatch):  # noqa: F811
    folder = tmp_path / "run"
    interrupted_at(monkeypatch, 12, lambda: run(folder, text, *FRONT))  # between two points
    assert not (folder / "pareto.json").exists()
    with pytest.raises(ValueError, match=r"finalists=2 \(now 1\); resume it with the same settings"):
        run(folder, text, *FRONT, "--finalists", "1", "--resume")
    run(folder, text, *FRONT, "--resume")
    assert read(folder / "pareto.json") == read(front / "pareto.json")
    assert lines(folder / "finalists.jsonl") == lines(front / "finalists.jsonl")
    assert not (folder / "finalists").exists()


def test_the_budget_of_the_search_is_resolved_as_the_search_did(one, tmp_path, capsys):
    found = read(one / "results.json")
    before = {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    options = ["--finalists", "2", "--random_finalists", "1", "--output", str(tmp_path / "again")]
    cli(["resolve", str(one), "--max_params", "60%", *options])
    printed = capsys.readouterr().out
    resolved = read(tmp_path / "again" / "resolved.json")
    for name in ("found", "finalists", "budgets", "candidates", "entropy", "table"):
        assert resolved[name] == found[name], name
    assert resolved["search_cost"] > found["search_cost"] + found["finalists"]["cost"]
    assert re.search(r"^search cost +[\d.,]+ training steps of the largest net$", printed, re.MULTILINE)
    own, others = lines(one / "finalists.jsonl"), lines(tmp_path / "again" / "finalists.jsonl")
    assert others == own
    assert {path: path.stat().st_mtime_ns for path in one.rglob("*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["again"], "what it went on from is gone"
    card = (tmp_path / "again" / "README.md").read_text()
    assert "### Finalists" in card and all(row["architecture"] in card for row in found["finalists"]["rows"])
    assert all(row["architecture"] in printed for row in found["finalists"]["rows"])


def test_another_budget_is_kept_and_an_interrupted_resolve_goes_on(front, tmp_path, monkeypatch):
    """Of a front, whose distribution at the limit proposes."""
    options = ["--finalists", "3", "--finalist_seeds", "3"]

    def resolve(name, *more):
        cli(["resolve", str(front), "--max_params", "45%", *options, "--output", str(tmp_path / name), *more])

    resolve("whole")
    whole = read(tmp_path / "whole" / "resolved.json")
    assert (
        whole["budgets"]["arch_params"]
        <= whole["budgets"]["max_params"]
        == 45 * whole["table"][-1]["parameters"] // 100
    )
    assert all(row["parameters"] <= whole["budgets"]["max_params"] for row in whole["finalists"]["rows"])
    interrupted_at(monkeypatch, 5, lambda: resolve("broken"))
    for more, message in [
        ([], "holds a run already; continue it with --resume or choose another --output$"),
        (["--resume", "--finalists", "2"], r"was started with finalists=3 \(now 2\)"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            resolve("broken", *more)
        assert re.search(message, stopped.value.code.strip())
    resolve("broken", "--resume")
    assert read(tmp_path / "broken" / "resolved.json") == whole
    for name in ("architecture.json", "model.safetensors", "finalists.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "broken"}


def test_what_cannot_be_resolved_with_finalists_is_one_line_and_leaves_nothing(one, tmp_path):
    published = shutil.copytree(one / "supernet", tmp_path / "published")
    shutil.copy(one / "arch_parameters.safetensors", published)
    out = tmp_path / "out" / "net"
    for source, options, message in [
        (published, ["--max_params", "60%", "--finalists", "2"], "has no config.yaml; resolve the run itself"),
        (
            one,
            ["--max_params", "60%", "--random_finalists", "2"],
            "--random_finalists would have no effect without --finalists",
        ),
        (one, ["--max_params", "60%", "--resume"], "--resume would have no effect without --finalists"),
        (
            one,
            ["--max_params", "60%", "--finalists", "2", "--resume"],
            "holds no run to resume; start without --resume",
        ),
        (one, ["--max_params", "60%", "--finalists", "-2"], "finalists=-2 must be at least 0"),
        (one, ["--max_params", "60%", "--finalists", "2", "--finalist_ratio", "1.5"], "not longer than the search"),
        (one, ["--max_params", "60%", "--finalists", "2", "--finalist_start", "old"], "choose one of"),
        (one, ["--max_params", "7", "--finalists", "2"], "below the smallest possible"),
        (one, ["--max_latency_ms", "60%", "--finalists", "2"], "no latency table"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            cli(["resolve", str(source), *options, "--output", str(out)])
        assert message in stopped.value.code and "\n" not in stopped.value.code.strip(), stopped.value.code
        assert not out.parent.exists(), options
    moved = shutil.copytree(one, tmp_path / "moved")
    settings = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(settings.replace("train.txt", "elsewhere.txt"))
    with pytest.raises(SystemExit) as stopped:
        cli(["resolve", str(moved), "--max_params", "60%", "--finalists", "2", "--output", str(out)])
    assert "elsewhere.txt" in stopped.value.code and not out.parent.exists()


@pytest.mark.parametrize(("searched", "now"), [(3, 1), (1, 2), (1, 3)])
def test_other_processes_than_the_search_had_make_its_steps_and_its_scores(one, tmp_path, monkeypatch, searched, now):
    results = read(one / "results.json")
    other = shutil.copytree(one, tmp_path / "other")
    results["search"]["num_processes"] = searched
    (other / "results.json").write_text(json.dumps(results))
    asked = []
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda accelerator: now))
    monkeypatch.setattr(
        "tangle_hf.runs.resolve_finalists.decide", lambda *given, **more: asked.append((given[2:], more["step"]))
    )
    assert resolve_with_finalists(other, {"max_params": "60%"}, tmp_path / "net", {"finalists": 2}) is None
    (found, limits, settings, accelerator), step = asked[0]
    assert found.results["candidates"] == results["candidates"]  # losses on the same examples
    short = ShortTraining(None, None, settings, accelerator, 1, tmp_path / "f", step=step)
    assert settings.per_device_batch_size == 4 and short.micro == searched
