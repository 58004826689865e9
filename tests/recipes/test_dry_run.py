"""A dry run takes micro-batches that fit, and says what the whole one would need."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import search_cnn
import search_gpt
import search_llama
import search_vit
import torch
from accelerate import Accelerator

from tangle_hf import ElasticGPT2LMHeadModel
from tangle_hf.arch_parameters import uniform_mixture
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.runs import dry_runs as dry_run
from tangle_hf.runs.dry_runs import Measured, extrapolated, measured
from tangle_hf.runs.planned_cost import planned_steps
from tangle_hf.runs.simulated_steps import simulated_memory, step_flops
from tangle_hf.search import SearchArguments
from tangle_hf.search.finalists.candidates import choose_finalists
from tangle_hf.search.finalists.halving import BEST, horizon_of, round_steps, steps_in_all
from tangle_hf.search.limits import Limits
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.search.two_stage.proposals import Proposals
from tangle_hf.settings import parse


def runs_of(whole, monkeypatch, seconds=0.0, bytes_per_example=1, limit=1000):
    """Sizes that are measured of a machine with so much memory, and what is extrapolated."""
    clock = [0.0]
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(dry_run, "MOST_CPU_MEMORY", limit)
    monkeypatch.setattr(dry_run.torch.cuda, "is_available", lambda: False)

    def run(size):
        clock[0] += seconds * size
        return Measured(size, 1.0, 2.0 * size, 100 + bytes_per_example * size)

    runs = measured(whole, run, Accelerator(cpu=True))
    return [r.size for r in runs], extrapolated(runs, whole, "step"), extrapolated(runs, whole, "memory")


@pytest.mark.parametrize(
    ("whole", "options", "sizes"),
    [
        (1, {}, [1]),
        (5, {}, [2, 4, 5]),
        (256, {"bytes_per_example": 50}, [2, 4, 8, 16]),  # 32 examples would need 1,700 bytes of 1,000
        (256, {"bytes_per_example": 500}, [2, 4]),
        (256, {"seconds": 5.0}, [2, 4]),
    ],
)
def test_sizes_grow_as_long_as_the_next_one_fits(whole, options, sizes, monkeypatch):
    found, step, memory = runs_of(whole, monkeypatch, **options)
    assert found == sizes
    if len(sizes) > 1:
        assert step == 2.0 * whole and memory == 100 + options.get("bytes_per_example", 1) * whole


@pytest.mark.parametrize("points", [1, 3])
def test_a_step_is_timed_between_the_evaluations_however_many_points_there_are(points, monkeypatch):
    clock = [0.0]

    def search(*given, evaluate, **options):
        assert given[3].early_stop_evals is None  # or there were no second step to time
        for seconds in (5.0, 2.0):
            clock[0] += seconds
            for _ in range(points):
                evaluate(None)
                clock[0] += 0.01

    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(dry_run, "search", search)
    supernet = search_gpt.ElasticGPT2LMHeadModel(search_gpt.supernet_config(search_gpt.SpaceArguments(), 16, 50))
    example = dry_run.made_up_text(50, 16)
    settings = SearchArguments(early_stop_evals=1, undecided_entropy=1.0)
    found = dry_run.two_steps(supernet, settings, Accelerator(cpu=True), example, 16, 2)
    assert (found.first, found.step) == pytest.approx((5.0, 2.01))


RECIPES = {
    search_cnn: (search_cnn.ConvSpaceArguments, search_cnn.ConvImageArguments, search_cnn.SmallAugmentationArguments,
                 search_cnn.ConvSearchArguments),
    search_gpt: (search_gpt.SpaceArguments, search_gpt.DataArguments, SearchArguments),
    search_llama: (search_llama.LlamaSpaceArguments, search_llama.DataArguments, search_llama.LlamaSearchArguments),
    search_vit: (search_vit.ViTSpaceArguments, search_vit.ImageArguments, search_vit.SmallAugmentationArguments,
                 search_vit.ImageSearchArguments),
}  # fmt: skip
CONFIGS = sorted(Path(search_gpt.__file__).parent.glob("configs/*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_dry_run_of_every_shipped_config_has_a_step(config, monkeypatch, tmp_path):
    """The supernet of a config, without memory of its own, takes two of the dry run's examples forwards and backwards."""
    text, begun = config.read_text(), []
    recipe = next(r for r in RECIPES if f"recipes/{r.__name__}.py --config" in text)
    texts = recipe in (search_gpt, search_llama)
    images = [] if texts else ["--classes", "10", "--image_size", "32"]
    images = [] if "classes:" in text and "image_size:" in text else images
    own = [] if "start_from:" not in text else ["--start_from", "none", "--arch_start_from", "none"]
    argv = ["--config", str(config), "--dry_run", "--output_dir", str(tmp_path / "run"), *images, *own]
    monkeypatch.setattr(recipe, "dry_run", lambda *given: begun.append(given))
    with torch.device("meta"):
        recipe.main(*parse(*RECIPES[recipe], SearchHubArguments, argv=argv))
    supernet, settings, _, example, *_ = begun[0]
    rows = [example(torch.Generator().manual_seed(n)) for n in range(2)]
    batch = {name: torch.stack([row[name] for row in rows]).to("meta") for name in rows[0]}
    if texts:
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    if recipe is search_cnn:
        chosen = {"mixture": {name: rows.to("meta") for name, rows in uniform_mixture(supernet.space).items()}}
    else:  # superposed layer norms ask for autocast, which tensors without memory do not have
        chosen = {"arch": supernet.space.smallest}
        supernet.set_attn_implementation("eager")  # the others read values of the mask
    with torch.device("meta"):
        supernet.train()(**batch, **chosen).loss.backward()
    assert any(parameter.grad is not None for parameter in supernet.parameters())


OPTIONS = {
    search_cnn: ["--space", "nas_bench_201", "--num_cells", "1", "--hidden_size", "4"],
    search_gpt: ["--method", "spos+rs", "--block_size", "32"],
    search_llama: ["--activation_checkpointing", "true", "--block_size", "32"],
    search_vit: ["--mixed_precision", "bf16", "--gradient_accumulation_steps", "2"],
}


def given_to_dry_run(recipe, monkeypatch, tmp_path, *options):
    """Supernet, settings, accelerator, example and so on of a recipe with its embedded data."""
    given, argv = [], ["--dry_run", "--output_dir", str(tmp_path / "run"), *OPTIONS[recipe], *options]
    monkeypatch.setattr(recipe, "dry_run", lambda *found: given.append(found))
    recipe.main(*parse(*RECIPES[recipe], SearchHubArguments, argv=argv))
    return given[0]


def peak_of(step):
    """Bytes of tensors that live at once while a function runs, by the profiler's records of the allocator."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    now = peak = 0
    records = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(records, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_simulated_memory_is_that_of_real_steps(recipe, monkeypatch, tmp_path):
    supernet, settings, _, example, *_ = given_to_dry_run(recipe, monkeypatch, tmp_path)
    rows = [example(torch.Generator().manual_seed(n)) for n in range(4)]
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    chosen = {"arch": supernet.space.largest}
    if not settings.resolved_method.two_stage:
        chosen = {"mixture": uniform_mixture(supernet.space)}
    if settings.activation_checkpointing:
        supernet.activation_checkpointing_enable()
    half = settings.mixed_precision == "bf16"

    def steps():
        optimizer = torch.optim.AdamW(supernet.parameters())
        for _ in range(2):
            for _ in range(settings.gradient_accumulation_steps):
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    loss = supernet.train()(**batch, **chosen).loss
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    real = peak_of(steps) + sum(p.numel() * p.element_size() for p in supernet.parameters())
    assert simulated_memory(supernet, settings, example, 4) == pytest.approx(real, rel=0.03)


@pytest.mark.parametrize("recipe", [search_gpt, search_vit])
@pytest.mark.parametrize(
    ("limit", "why"),
    [("MOST_CPU_MEMORY", "what the optimizer keeps need"), ("FIRST_SECONDS", "two examples would take")],
)
def test_where_no_step_can_be_taken_it_is_computed(recipe, limit, why, monkeypatch, tmp_path, capsys):
    given = given_to_dry_run(recipe, monkeypatch, tmp_path)
    monkeypatch.setattr(dry_run, limit, 0)
    monkeypatch.setattr(dry_run, "search", None)  # nothing is run
    monkeypatch.setattr(dry_run, "train_single_paths", None)
    dry_run.dry_run(*given)
    printed = capsys.readouterr().out
    settings, hours = given[1], None
    for line in printed.splitlines():
        what, _, value = line.rpartition("  ")
        if what.startswith("FLOPs per step"):
            flops = float(value)
        if what.startswith("projected for") and " steps" in what:
            hours = float(value.removesuffix(" h"))
    speed = float(printed.partition("product here in float32, ")[2].partition(" GFLOP/s")[0].replace(",", "")) * 1e9
    assert why in printed and "computed" in printed
    assert hours == pytest.approx(flops * settings.max_steps / speed / 3600, rel=0.05, abs=0.006)


def test_flops_of_a_step_are_those_of_its_forward_and_backward_passes(monkeypatch, tmp_path):
    supernet, settings, _, example, _, length = given_to_dry_run(search_gpt, monkeypatch, tmp_path)
    row = example(torch.Generator().manual_seed(0))
    supernet.set_attn_implementation("eager")  # the counter does not know the kernel that a CPU has for attention
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        supernet(input_ids=row["input_ids"][None], labels=row["labels"][None], arch=supernet.space.largest)
    flops, forward = step_flops(supernet, settings, length, 3)
    assert forward == pytest.approx(3 * counter.get_total_flops())
    assert flops == pytest.approx(3 * forward)  # a path: no architecture step
    mixed = step_flops(supernet, replace(settings, method="drnas"), length, 3)[0]
    assert mixed == pytest.approx(5 * forward)


def test_trials_say_nothing_and_finalists_of_cells_are_counted(monkeypatch, tmp_path, capsys, caplog):
    options = ["--finalists", "3", "--per_device_batch_size", "2", "--image_size", "8"]
    dry_run.dry_run(*given_to_dry_run(search_cnn, monkeypatch, tmp_path, *options))
    printed = capsys.readouterr()
    assert "3 finalists, at most" in printed.out and "search:" not in printed.err
    assert not [record for record in caplog.records if record.name.startswith("tangle_hf")]
    given = given_to_dry_run(search_gpt, monkeypatch, tmp_path, "--finalists", "3")
    with pytest.raises(ValueError, match="finalists=3 need a budget in a space of sizes"):
        dry_run.dry_run(*given)


def planned(**settings) -> tuple[dict[str, float], ElasticGPT2LMHeadModel, SearchArguments]:
    """What a search of GPT-2's default space is planned to cost, row -> steps."""
    with torch.device("meta"):
        supernet = ElasticGPT2LMHeadModel(search_gpt.supernet_config(search_gpt.SpaceArguments(), 128, 2048))
    settings = SearchArguments(**settings)
    rows = planned_steps(supernet, settings, Accelerator(cpu=True), 128)
    return {row["what"]: float(row["value"].split()[0].replace(",", "")) for row in rows}, supernet, settings


@pytest.mark.parametrize(
    ("options", "itself", "passes"),
    [
        ({}, 300 + 240 * 2 / 3, 300 + 240),
        ({"unrolled": True}, 300 + 240 * 10 / 3, 300 + 4 * 240),
        ({"method": "gdas"}, 300 + 240 * 2 / 3, 300 + 240),
    ],
)
def test_a_teacher_and_single_paths_are_in_the_planned_cost(options, itself, passes):
    what = "the search itself is worth" + (", at most" if "method" in options else "")
    few = {"max_steps": 300, "max_params": "50%", "finalist_ratio": 1.0, "finalist_batches": 1, **options}
    without, _, settings = planned(**few)
    taught, *_ = planned(**few, start_from="a checkpoint", teacher_share=0.5)
    assert without[what] == pytest.approx(itself, abs=1) and taught[what] == pytest.approx(itself + passes / 3, abs=1)
    (finalists,) = (row for row in without if "finalists" in row)
    trained = steps_in_all(int(finalists.split()[0]), [150, 300], settings.finalist_seeds)
    assert taught[finalists] - without[finalists] == pytest.approx(trained / 3, abs=1)


@pytest.mark.parametrize("share", ["30%", "50%", "70%"])
def test_what_finalists_cost_at_most_is_a_bound(share):
    """Also where the most expensive ones go on, whatever the search proposes."""
    rows, supernet, settings = planned(max_params=share, random_finalists=2)
    limits, cost = Limits.of(settings, supernet, 128), SearchCost(supernet, settings.per_device_batch_size, 128)
    draw, rng = Proposals(settings, supernet, limits, use_up=True).random, random.Random(99)
    (most,) = (steps for row, steps in rows.items() if "finalists" in row)
    for _ in range(10):
        nets = choose_finalists(supernet, [draw(rng) for _ in range(16)], settings, limits)
        half, whole = round_steps(len(nets), horizon_of(settings))
        scoring, steps = settings.finalist_batches / 3, sorted((cost.relative(net.arch) for net in nets), reverse=True)
        last = sum(steps[: BEST + 2]) * (whole - half + scoring + (settings.finalist_seeds - 1) * (whole + scoring))
        assert sum(steps) * (half + scoring) + last < most
