"""The report shows the numbers of its run: figures, tables and commands are read back from the page and compared."""

import errno
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import plotly.graph_objects as go
import pytest
import yaml
from report_page import Page

from tangle_hf.analysis.anytime import AnytimeCurve, looked_up_chart
from tangle_hf.analysis.trajectories import read_metrics
from tangle_hf.errors import WriteError
from tangle_hf.report.blocks import Table
from tangle_hf.report.figures import MOST_POINTS, chart_figure
from tangle_hf.report.page import write_report
from tangle_hf.report.several import write_reports
from tangle_hf.runs.about import usual_settings
from tangle_hf.runs.reporting import refresh_report, track_report
from tangle_hf.search import SearchArguments
from tangle_hf.space import Architecture
from tangle_hf_cli import main


LEFT = Path(__file__).parent / "data" / "earlier_run"
FEW = ("config.yaml", "metrics.jsonl", "results.json", "supernet/config.json", "architecture.json")
NARROW = {"n_embd": 4, "n_layer": 1, "n_head": [1], "mlp_ratio": [2]}


@pytest.fixture
def run(tmp_path):
    """The files of a finished search without a budget, whose net has widths 4 of 8, 2 layers, and ratios 2 and 1."""
    for name in FEW:
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(LEFT / name, tmp_path / "run" / name)
    return tmp_path / "run"


def edit(path, **changes):
    found = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    path.write_text((json.dumps if path.suffix == ".json" else yaml.safe_dump)(found | changes))


def with_finalists(run):
    """The run, as if it had had a budget and ended with a search's net and two hand cuts."""
    found = json.loads((run / "results.json").read_text())["found"]
    wide = {"n_embd": 8, "n_layer": 1, "n_head": [2], "mlp_ratio": [1]}
    losses = {"search": (found, [5.5, 5.25]), "hand cut": (wide, [5.6, 5.375]), "hand cut ": (NARROW, [5.7])}
    lines = [
        {"arch": arch, "origin": origin.strip(), "seed": 0, "steps": 4 * (n + 1), "loss": loss, "cost": 1.0}
        for origin, (arch, losses) in losses.items()
        for n, loss in enumerate(losses)
    ]
    (run / "finalists.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [{"finalist": "search", "parameters": 1412, "4 steps": 5.5, "8 steps": 5.25, "architecture": "x"}]
    finalists = {
        "steps": [4, 8],
        "start": "new",
        "noise": 0.025,
        "cost": 7.0,
        "chosen_by_search": found,
        "changed": False,
    }
    budgets = {"max_params": 2000, "arch_params": 1412, "expected_params": 1999.5}
    edit(run / "results.json", finalists=finalists | {"rows": rows}, budgets=budgets)


def with_front(run):
    """The run, as if it had looked for a front."""
    found = json.loads((run / "results.json").read_text())["found"]
    points = [
        {
            "limit": 900,
            "cost": 800,
            "share": 0.25,
            "loss": 5.75,
            "test loss": 5.8,
            "nondominated": True,
            "arch": NARROW,
        },
        {
            "limit": 1500,
            "cost": 1412,
            "share": 0.4,
            "loss": 5.875,
            "test loss": 5.7,
            "nondominated": False,
            "arch": found,
        },
    ]
    cuts = [{"cost": 1000, "loss": 6.125, "arch": NARROW}]
    front = {
        "cost": "params",
        "largest": 3408,
        "anchors": [900, 1500],
        "hypervolume": 0.5,
        "points": points,
        "hand_cuts": cuts,
    }
    (run / "pareto.json").write_text(json.dumps(front))
    results = json.loads((run / "results.json").read_text())
    rows = [
        {"net": f"point {n} of the front", "parameters": p["cost"], "test loss": p["test loss"]}
        for n, p in enumerate(points)
    ]
    kept = {name: value for name, value in results.items() if name not in ("found", "candidates", "entropy")}
    (run / "results.json").write_text(json.dumps(kept | {"table": rows}))
    edit(run / "config.yaml", pareto="params")


def page(run) -> Page:
    """The page of a run, whose figures plotly's own classes have checked."""
    found = Page(write_report(run))
    for figure in found.figures.values():
        go.Figure(figure)
    return found


def traces(figure, name):
    return [trace for trace in figure["data"] if trace.get("name") == name]


def test_a_page_opens_from_disk_alone(run):
    found = page(run)
    assert found.size < 6_000_000
    assert all(link.startswith(("#", "data:")) for link in found.links)
    library, own = found.scripts
    assert "plotly.js" in library[:200] and "http" not in own


def test_losses_and_shares_are_those_of_the_metrics(run):
    found, metrics = page(run), read_metrics(run / "metrics.jsonl")
    losses = found.figures["losses-and-decisions", "losses"]
    for key, name in {
        "train_loss": "weights",
        "arch_loss": "architecture",
        "validation_loss": "best net, validation",
    }.items():
        (trace,) = traces(losses, name)
        lines = [line for line in metrics if key in line]
        assert trace["x"] == [line["step"] for line in lines]
        assert trace["y"] == pytest.approx([line[key] for line in lines], rel=1e-4)
    assert traces(losses, "best net, validation")[0]["customdata"][0] == str(Architecture(metrics[1]["arch"]))
    gap = found.figures["losses-and-decisions", "mixture minus best net"]["data"][0]
    assert gap["y"] == pytest.approx(
        [line["discretisation_gap"] for line in metrics if "discretisation_gap" in line], rel=1e-4
    )
    heads = found.figures["shares", "n_head"]["data"]
    rows = next(
        trace for trace in heads if trace["line"]["width"] == 1
    )  # all layers of the first choice, a gap after each
    assert rows["y"][:4] == pytest.approx([line["shares"]["n_head"][0][0] for line in metrics], rel=1e-4)
    assert rows["y"][4] is None and rows["customdata"][5] == 2
    assert rows["y"][5:9] == pytest.approx([line["shares"]["n_head"][1][0] for line in metrics], rel=1e-4)
    (mean,) = traces({"data": heads}, "2")
    assert mean["y"] == pytest.approx(
        [sum(row[1] for row in line["shares"]["n_head"]) / 2 for line in metrics], rel=1e-4
    )


def test_the_slider_shows_shares_and_net_of_each_step(run):
    figure, metrics = page(run).figures["shares", "0"], read_metrics(run / "metrics.jsonl")
    (slider,) = figure["layout"]["sliders"]
    assert [step["args"][0] for step in slider["steps"]] == [[frame["name"]] for frame in figure["frames"]]
    names = [note["text"] for note in figure["layout"]["annotations"]]
    at = 2 * names.index("<b>n_head</b>")
    for line, frame in zip(metrics, figure["frames"], strict=True):
        shares, dots = frame["data"][at : at + 2]
        expected = [[row[k] for row in line["shares"]["n_head"]] for k in range(2)]
        assert shares["z"] == [pytest.approx(row, abs=1e-3) for row in expected]
        assert dots["y"] == [str(heads) for heads in line["arch"]["n_head"]]
        assert frame["layout"]["title"]["text"] == str(Architecture(line["arch"]))
    assert figure["data"][at]["z"] == figure["frames"][-1]["data"][at]["z"]  # what is seen first is the last step


def test_the_net_is_drawn_beside_the_largest_and_the_hand_cuts(run):
    with_finalists(run)
    figure = page(run).figures["what-was-found", "0"]
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    end = {0: "", 1: "2", 2: "3"}[titles.index("<b>MLP width, mlp_ratio x n_embd</b>")]
    mlp = {trace["name"]: trace for trace in figure["data"] if trace["yaxis"] == f"y{end}"}
    assert mlp["found"]["y"] == [2 * 4, 1 * 4] and mlp["found"]["text"] == ["2", "1"]
    assert mlp["largest"]["y"] == [16, 16] and mlp["best hand cut"]["y"] == [8] and mlp["hand cut 2"]["y"] == [8]
    assert mlp["best hand cut"]["visible"] is True and mlp["hand cut 2"]["visible"] == "legendonly"
    whole = {trace["name"]: trace["x"] for trace in figure["data"] if trace["yaxis"] == "y"}
    assert whole["found"] == [4 / 8, 2 / 2] and whole["best hand cut"] == [1, 1 / 2]


def test_tables_have_the_numbers_of_the_results(run):
    with_finalists(run)
    latency = {"limit_ms": 2.0, "nets": {"found, exported": {"predicted_ms": 1.25, "measured_ms": 1.5, "error": -0.1667}},
               "conditions": {"device_name": "a CPU", "threads": 1, "parts": [1]}}  # fmt: skip
    edit(run / "results.json", latency=latency)
    found = page(run)
    nets, budgets, times = (found.rows("what-was-found", n) for n in range(3))
    assert [row["parameters"] for row in nets] == ["1,412", "1,412", "3,408"] and nets[2]["test loss"] == "5.463"
    assert budgets == [{"budget": "params", "limit": "2,000", "this net": "1,412", "expected under the shares": "2,000",
                        "used": "70.6%"}]  # fmt: skip
    assert times[0]["predicted ms"] == "1.25" and times[0]["measured ms"] == "1.5"
    figure = found.figures["finalists", "0"]
    assert [(trace["x"], trace["y"]) for trace in figure["data"]] == [
        ([4, 8], [5.5, 5.25]),
        ([4, 8], [5.6, 5.375]),
        ([4], [5.7]),
    ]
    assert figure["data"][0]["line"]["width"] > figure["data"][1]["line"]["width"]  # the result
    assert "with a standard error of 0.025" in " ".join(found.texts["finalists"])
    made = {row["what"]: row["value"] for row in found.rows("how-it-was-made")}
    assert made["device"] == "CPU with 1 torch thread(s)" and made["search cost"].startswith("6.0 ")
    assert "not recorded" in made["versions"]


def test_a_front_has_a_point_for_each_net_with_its_command(run):
    with_front(run)
    found = page(run)
    figure = found.figures["front", "0"]
    beaten, best, cuts = (traces(figure, name)[0] for name in ("beaten by another", "front", "hand cuts"))
    assert (best["x"], best["y"]) == ([800], [5.75]) and (beaten["x"], beaten["y"]) == ([1412], [5.875])
    assert f"tangle-hf export {run} --point 1" in beaten["customdata"][0] and "n_embd=4<br>" in best["customdata"][0]
    assert (cuts["x"], cuts["y"]) == ([1000], [6.125])
    assert [row["beaten"] for row in found.rows("front")] == ["", "yes"]
    assert any(f"tangle-hf resolve {run} --max_params" in text for text in found.texts["use-it"])


def test_candidates_have_a_point_each(run):
    lines = [{"arch": NARROW, "loss": 6.0, "params": 800}, {"arch": json.loads((run / "results.json").read_text())["found"],
                                                          "loss": 5.5, "params": 1412}]  # fmt: skip
    (run / "candidates.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = page(run).figures["candidates", "0"]
    assert (traces(figure, "candidates")[0]["x"], traces(figure, "candidates")[0]["y"]) == ([800, 1412], [6.0, 5.5])
    assert traces(figure, "found")[0]["x"] == [1412]


def test_settings_that_differ_from_the_defaults_come_first(run):
    settings = SearchArguments(max_steps=4, seed=2)
    assert usual_settings(settings) == vars(SearchArguments()) | {
        "warmup_steps": settings.warmup_steps, "min_learning_rate": settings.min_learning_rate}  # fmt: skip
    changed = {row["setting"]: (row["value"], row["default"]) for row in page(run).rows("settings")}  # an older folder
    assert changed["max_steps"] == ("4", "400") and changed["seed"] == ("2", "0") and "optimizer" not in changed
    assert (
        "warmup_steps" in changed and "min_learning_rate" not in changed
    )  # one was given, one follows from the other
    stored = yaml.safe_load((run / "config.yaml").read_text())
    (run / "run.json").write_text(json.dumps({"defaults": stored | {"n_embd": [64]}, "versions": {"torch": "2.0"}}))
    found = page(run)
    assert found.rows("settings") == [{"setting": "n_embd", "value": "4 8", "default": "64"}]
    assert {"what": "torch", "value": "2.0"} in found.rows("how-it-was-made")


def test_commands_are_those_that_load_and_go_on(run):
    texts = page(run).texts["use-it"]
    assert any(f"pipeline('text-generation', model='{run}/subnet', trust_remote_code=True)" in text for text in texts)
    for command in ("finetune language --checkpoint", "push", "export", "resolve"):
        assert any(text.startswith(f"tangle-hf {command} ") for text in texts), command


def test_a_run_under_way_shows_what_it_would_return(run):
    for name in ("results.json", "architecture.json"):
        (run / name).unlink()
    shutil.rmtree(run / "supernet")
    space = json.loads((LEFT / "supernet" / "config.json").read_text())["space"]
    (run / "run.json").write_text(json.dumps({"space": space, "command": "accelerate launch search.py"}))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "train_')  # it is being written
    found = page(run)
    assert "architecture search with drnas, under way, step 4 of 4" in found.texts[""]
    assert str(Architecture(read_metrics(LEFT / "metrics.jsonl")[-1]["arch"])) in found.texts["what-it-would-be-now"]
    assert "accelerate launch search.py --resume" in found.texts["go-on"]
    (run / "run.json").unlink()  # begun by an older version: the space is not known, the rest is
    assert ("losses-and-decisions", "losses") in page(run).figures


def test_texts_of_users_stay_texts(run):
    bad = '</script><script>alert("1")</script><b>&'
    edit(run / "config.yaml", train_file=bad)
    edit(run / "results.json", data=bad, command=bad)
    with_finalists(run)
    lines = (run / "finalists.jsonl").read_text().replace('"hand cut"', json.dumps(bad))
    (run / "finalists.jsonl").write_text(lines)
    other = run.rename(run.with_name("<b>run"))
    found = page(other)
    assert len(found.scripts) == 2 and {"what": "data", "value": bad} in found.rows("how-it-was-made")
    names = {trace["name"] for trace in found.figures["finalists", "0"]["data"]}
    assert names == {"search", "&lt;/script&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&lt;b&gt;&amp;"}


def test_long_runs_are_drawn_with_fewer_steps(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    many = [line | {"step": 4 * n + line["step"]} for n in range(1500) for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    found = page(run)
    assert found.size < 6_000_000
    (trace,) = traces(found.figures["losses-and-decisions", "losses"], "weights")
    assert len(trace["x"]) == 1000 and trace["x"][0] == 1 and trace["x"][-1] == 6000
    drawn = sum(len(trace["x"]) for (section, _), figure in found.figures.items() if section == "shares"
                for trace in figure["data"] if trace.get("line", {}).get("width") == 1)  # fmt: skip
    assert 1000 < drawn < 1.1 * MOST_POINTS


def test_several_runs_are_laid_over_each_other(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    edit(other / "config.yaml", seed=7, num_parents=3)  # the second is of methods that neither run has
    edit(other / "results.json", found=NARROW, search_cost=9.0)
    found = Page(write_reports([run, other], tmp_path / "both.html"))
    for figure in found.figures.values():
        go.Figure(figure)
    assert [(row["run"], row["search cost"], row["found"].split()[1]) for row in found.rows("runs")] == [
        ("run", "6", "n_layer=2"), ("other", "9", "n_layer=1")]  # fmt: skip
    assert found.rows("differences-in-settings") == [{"setting": "seed", "run": "2", "other": "7"}]
    assert [trace["name"] for trace in found.figures["curves", "loss: weights"]["data"]] == ["run", "other"]
    drawn = {trace["name"] for trace in found.figures["nets", "0"]["data"]}
    assert drawn == {"largest", "run", "other"}
    with pytest.raises(ValueError, match="given twice"):
        write_reports([run, run], tmp_path / "both.html")
    (other / "config.yaml").write_text("checkpoint: gpt2\n")
    with pytest.raises(SystemExit, match="is no search; only searches are shown side by side"):
        main(["report", str(run), str(other)])


def test_the_command_writes_a_page_of_an_earlier_run(tmp_path, capsys):
    before = set(LEFT.rglob("*"))
    main(["report", str(LEFT), "--output", str(tmp_path / "page.html")])
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n" and before == set(LEFT.rglob("*"))
    assert ("what-was-found", "0") in Page(tmp_path / "page.html").figures
    with pytest.raises(SystemExit, match="has no config.yaml; give the folder of a run"):
        main(["report", str(tmp_path)])


def test_trackers_that_keep_files_get_the_report(run, caplog, monkeypatch):
    monkeypatch.setattr("tangle_hf.runs.reporting.logger", logging.getLogger("plain"))
    taken = []

    def keep(path, name, type):
        taken.append((path, name, type))

    def refuse(*args, **options):
        raise RuntimeError("no\nnetwork")

    trackers = [SimpleNamespace(name=n, tracker=SimpleNamespace(log_artifact=log))
                for n, log in {"wandb": keep, "trackio": refuse}.items()]  # fmt: skip
    texts = SimpleNamespace(add_text=lambda *text: taken.append(text))
    trackers.append(SimpleNamespace(name="tensorboard", tracker=texts))
    track_report(run, SimpleNamespace(trackers=trackers))
    assert not taken  # there is no report yet
    path = write_report(run)
    track_report(run, SimpleNamespace(trackers=trackers))
    assert taken == [(str(path), "report", "report"), ("report", path.as_uri())]
    assert [record.getMessage() for record in caplog.records] == [
        f"trackio did not take {path} (no network); it lies there"
    ]


def test_a_page_that_cannot_be_written_leaves_the_one_before(run, monkeypatch):
    before = write_report(run).read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *paths: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(WriteError, match="no space is left on the disk of"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before and not (run / ".report.html").exists()


def test_layers_that_are_kept_in_another_order_stand_where_they_are(run):
    def seen(found):
        bars = [
            trace["text"] for trace in traces(found.figures["what-was-found", "0"], "found") if trace["yaxis"] != "y"
        ]
        ratios = found.figures["shares", "0"]["data"][:2]  # of the first dimension: a map, and dots
        faint = found.figures["shares", "mlp_ratio"]["data"][0]
        rows = {row: y for row, y in zip(faint["customdata"], faint["y"], strict=True) if row is not None}
        return bars, [list(shares) for shares in ratios[0]["z"]], ratios[1]["y"], rows

    bars, shares, dots, rows = seen(page(run))
    edit(run / "supernet" / "config.json", layer_ranks=[1, 0])  # the second layer is the first to be kept
    found = page(run)
    moved = [row[::-1] for row in shares]
    assert ["2", "1"] in bars and shares != moved
    assert seen(found) == ([row[::-1] for row in bars], moved, dots[::-1], {1: rows[2], 2: rows[1]})
    assert any("n_head=1,2" in text and "mlp_ratio=1,2" in text for text in found.texts["what-was-found"])


def test_what_stands_in_for_a_number_is_aligned_with_it():
    table = Table([{"net": "a", "cost": "-", "ms": 1.5}, {"net": "b", "cost": 3, "ms": 2.25}])
    assert table.numbers == {"cost", "ms"} and [row["ms"] for row in table.cells] == ["1.50", "2.25"]


def test_a_report_that_fails_is_one_warning(run, caplog, monkeypatch):
    monkeypatch.setattr("tangle_hf.runs.reporting.logger", logging.getLogger("plain"))
    (run / "results.json").write_text('{"table": [{}]}')
    refresh_report(run)
    (record,) = caplog.records
    assert record.getMessage().endswith(f"write it with: tangle-hf report {run}") and "\n" not in record.getMessage()
    assert not (run / "report.html").exists() and not (run / ".report.html").exists()


def test_faint_lines_behind_a_mean_are_called_runs():
    curves = [AnytimeCurve((1.0, 2.0), values, ({}, {})) for values in ((3.0, 4.0), (5.0, 8.0))]
    faint, bold = chart_figure(looked_up_chart({"drnas": curves}, "accuracy"))["data"]
    assert faint["hovertemplate"].startswith("drnas, run %{customdata}") and faint["y"] == [3, 4, None, 5, 8, None]
    assert (bold["x"], bold["y"], bold["name"]) == ([1, 2], [4, 6], "drnas")
