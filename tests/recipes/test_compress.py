"""Compression from end to end on tiny checkpoints: what is left, that it keeps to its budget, resumes, and what is refused."""

import json
import math
import shutil
from argparse import Namespace
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from compress import main
from compressible import checkpoint, text_options
from report_page import Page
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from tangle_hf import Architecture, ElasticGPT2LMHeadModel, PerLayer, SearchSpace
from tangle_hf.analysis import format_column
from tangle_hf.compress import forms
from tangle_hf.compress.batches import calibration_batches
from tangle_hf.compress.candidates import LEAST, evenness, uniform_cut, units_of_layers
from tangle_hf.compress.checkpoints import FEW, MANY, load_teacher, size_on_disk
from tangle_hf.compress.choice import step_cost
from tangle_hf.compress.data import examples_of, expected_separator, small_checkpoint
from tangle_hf.compress.layerwise import LayerwiseTeacher
from tangle_hf.compress.order import order_units
from tangle_hf.compress.preparation import Prepared
from tangle_hf.compress.recovery import recover
from tangle_hf.compress.scores import calibrate
from tangle_hf.compress.settings import CompressArguments, parse_for_checkpoint
from tangle_hf.compress.tasks import _names_no_others, check_tasks
from tangle_hf.cost.counts import num_params
from tangle_hf.cost.tables import exact
from tangle_hf.data.text import load_texts
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer, pack
from tangle_hf.evaluation import perplexity
from tangle_hf.runs.info import describe
from tangle_hf.search import Limits, SearchArguments
from tangle_hf.search.finalists.candidates import Finalist
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.settings import parse
from tangle_hf.subnets.extraction import extract
from tangle_hf.training.tasks import language_task
from tangle_hf.training.trainer import ResumingTrainer, training_arguments


QUICK = ["--max_steps", "30", "--calibration_examples", "4", "--sensitivity_examples", "2", "--choice_ratio", "1",
         "--finalist_batches", "1", "--per_device_batch_size", "4"]  # fmt: skip
UNTRIED = ["--choice_ratio", "0", "--finalist_batches", "8"]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("checkpoints") / "gpt2", "gpt2")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return text_options(tmp_path_factory.mktemp("text"))


def run(folder: Path, data: list[str], *argv: str) -> dict:
    main(*parse_for_checkpoint([*QUICK, *data, "--output_dir", str(folder), *argv], None))
    return json.loads((folder / "results.json").read_text())


class Dislikes(torch.nn.Module):
    """A checkpoint whose loss is the share of tokens that it does not expect."""

    device, config = torch.device("cpu"), SimpleNamespace(vocab_size=302)

    def __init__(self, tokens):
        super().__init__()
        self.tokens = torch.tensor(tokens)

    def forward(self, input_ids, labels):
        return SimpleNamespace(loss=torch.isin(labels, self.tokens).double().mean())


def test_documents_are_separated_as_the_checkpoint_expects(gpt2, tmp_path, capsys):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"a document of {i}"}) + "\n" for i in range(200)))
    data = DataArguments(train_file=str(path), block_size=16, tokenizer=gpt2, vocab_size=300)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    assert expected_separator(Dislikes([]), tokenizer, texts["train"], data) == "eos"  # one token is both
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    spaces = tokenizer(" ")["input_ids"]  # fewer where there are more marks
    for dislikes, expected in (([eos], "bos"), ([bos], "eos"), (spaces, "both")):
        assert expected_separator(Dislikes(dislikes), tokenizer, texts["train"], data) == expected
        assert f"separator {expected} between documents" in capsys.readouterr().out


def test_a_token_that_was_added_without_an_embedding_is_refused_where_it_occurs(gpt2, tmp_path):
    """As those of many checkpoints that got a pad token for a training that fills up batches."""
    added, text = str(shutil.copytree(gpt2, tmp_path / "added")), tmp_path / "train.txt"
    tokenizer = AutoTokenizer.from_pretrained(added)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(added)
    text.write_text("a line of a small text.\n" * 200)
    data, supernet = DataArguments(train_file=str(text), block_size=16), load_teacher(added)
    found = [examples_of(added, supernet, data), language_task(added, False, data).examples]
    for examples in found:
        assert torch.equal(examples.train[:]["input_ids"], examples_of(gpt2, supernet, data).train[:]["input_ids"])
    text.write_text("a line of a small text.\n" * 200 + "[PAD]\n" * 10)
    for make in (lambda: examples_of(added, supernet, data), lambda: language_task(added, False, data)):
        with pytest.raises(
            ValueError, match=r"token 300 \('\[PAD\]'\), the checkpoint has embeddings of 300: resize them"
        ):
            make()


def test_a_mark_without_an_embedding_stands_between_no_documents(gpt2, tmp_path):
    added, text = str(shutil.copytree(gpt2, tmp_path / "added")), tmp_path / "train.jsonl"
    tokenizer = AutoTokenizer.from_pretrained(added)
    tokenizer.add_special_tokens({"bos_token": "[BOS]"})
    tokenizer.save_pretrained(added)
    text.write_text('{"text": "a line of a small text"}\n' * 200)
    data, supernet = DataArguments(train_file=str(text), block_size=16), load_teacher(added)
    found = examples_of(added, supernet, data).train[:]["input_ids"]
    assert found.max() < 300 and (found == tokenizer.eos_token_id).any()


def test_a_vocabulary_of_another_size_than_the_checkpoints_is_refused(gpt2, text):
    (data,) = parse(DataArguments, argv=[*text, "--vocab_size", "301"])
    for make in (lambda: examples_of(gpt2, load_teacher(gpt2), data), lambda: language_task(gpt2, False, data)):
        with pytest.raises(ValueError, match="vocab_size=301: .* keeps its vocabulary of 300; leave --vocab_size out"):
            make()


def test_one_run_leaves_nets_of_several_sizes_and_goes_on_where_it_stopped(gpt2, text, tmp_path, capsys):
    sizes = ["--max_params_without_embeddings", "80%", "50%"]
    results = run(tmp_path / "run", text, "--checkpoint", gpt2, *sizes)
    printed = capsys.readouterr().out
    before, *rows = results["table"]
    assert [row["net"].split(":")[0] for row in rows] == ["80pct", "80pct", "50pct", "50pct"]
    for name, share in (("80pct", 0.8), ("50pct", 0.5)):
        net, row = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / name), results["nets"][name]
        used = net.num_parameters(exclude_embeddings=True)
        assert row["budgets"]["arch_params_without_embeddings"] == used
        whole = AutoModelForCausalLM.from_pretrained(gpt2).num_parameters(exclude_embeddings=True)
        assert 0.8 * share * whole <= used <= share * whole
        assert net.num_parameters() == row["parameters"] < before["parameters"]
        origins = {line["finalist"] for line in row["finalists"]["rows"]}
        assert {"uniform cut", "sensitivities"} <= origins and all(
            "inherited" in line for line in row["finalists"]["rows"]
        )
        assert row["cost"] == pytest.approx(sum(row["costs"].values())) and min(row["costs"].values()) >= 0
        card = (tmp_path / "run" / name / "README.md").read_text()
        assert "## Before and after" in card and "uniform cut" in card and "compressed" in card.split("---")[1]
        assert (tmp_path / "run" / name / "tokenizer.json").is_file()
    (data,) = parse(DataArguments, argv=[*text, "--tokenizer", gpt2, "--vocab_size", "300"])
    texts = load_texts(data)
    test = pack(texts["test"], load_tokenizer(data, texts), data)
    for line, folder in ((before, gpt2), (rows[1], tmp_path / "run" / "80pct"), (rows[3], tmp_path / "run" / "50pct")):
        score = perplexity(AutoModelForCausalLM.from_pretrained(folder), test, 4)
        assert line["test loss"] == pytest.approx(score["loss"], rel=1e-6), line["net"]
    assert "pipeline(" in printed and "uniform cut" in printed
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml", "results.json", "rows", "80pct", "50pct", "scores.safetensors", "sensitivities.safetensors",
        "run.json", "report.html",
    }  # fmt: skip
    check_report(Page(tmp_path / "run" / "report.html"), results)
    assert describe(tmp_path / "run")["kind"] == "a run of compression"
    kept = (tmp_path / "run" / "80pct" / "model.safetensors").stat().st_mtime_ns
    (tmp_path / "run" / "rows" / "50pct.json").unlink()  # as if it had been killed
    again = run(tmp_path / "run", text, "--checkpoint", gpt2, *sizes, "--resume")
    assert "80pct is finished already" in capsys.readouterr().out
    assert (tmp_path / "run" / "80pct" / "model.safetensors").stat().st_mtime_ns == kept
    assert again["nets"]["50pct"]["found"] == results["nets"]["50pct"]["found"]
    assert again["nets"]["50pct"]["costs"] == pytest.approx(results["nets"]["50pct"]["costs"])


def test_sharded_weights_are_refused(gpt2, text, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as accelerate launches it
    with pytest.raises(ValueError, match="leave FSDP out"):
        run(tmp_path / "run", text, "--checkpoint", gpt2, "--max_params", "60%")
    assert not (tmp_path / "run").exists()


def test_the_net_that_is_taken_goes_on_from_what_it_has_learned(gpt2, text, tmp_path, monkeypatch):
    made, step = [], ResumingTrainer.training_step
    monkeypatch.setattr(ResumingTrainer, "training_step", lambda *given: made.append(1) or step(*given))
    argv = [
        *QUICK,
        *text,
        "--checkpoint",
        gpt2,
        "--teacher_share",
        "1",
        "--taught_ratio",
        "0.4",
    ]  # 12 of 30 steps: in the middle of a round
    settings, _, data = parse_for_checkpoint(argv, None)
    supernet, accelerator = load_teacher(gpt2), Accelerator(cpu=True)
    examples, cost = examples_of(gpt2, supernet, data), SearchCost(supernet, 4, 16)
    batches = calibration_batches(examples.training(0), 4)
    prepared = Prepared(
        order_units(supernet, calibrate(supernet, batches, progress=False)), batches, batches, None, 0.0
    )
    space = supernet.space
    nets = [
        Finalist(space.architecture(n_embd=32, n_layer=3, n_head=heads, mlp_ratio=2), "a net") for heads in (1, 2, 3)
    ]

    def trained(name, finalists):
        how = training_arguments(settings, "finetune", 0, tmp_path / name, settings.max_steps)
        teacher, asked = LayerwiseTeacher(supernet, 1.0, 1.0, 1.0), []
        monkeypatch.setattr(teacher, "run", lambda batch, run=teacher.run: asked.append(1) or run(batch))
        recovered = recover(supernet, finalists, prepared, settings, examples, how, teacher, accelerator, cost)
        return recovered, len(asked)

    both, asked = trained("three", nets)
    assert asked == 3 * 10 + 2 * 2, "the checkpoint teaches in the first 12 steps, and is not asked after"
    assert both.decision.steps == [10, 20] and [len(losses) for losses in both.decision.losses] == [2, 2, 1]
    assert len(made) == 3 * 10 + 2 * 10 + 10, "no step is made twice"
    winner, second, first_out = both.decision.ranked
    alone, asked = trained("one", [winner])
    assert asked == 12
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(tensor, both.model.state_dict()[name]), name
    assert both.costs["recovery"] == alone.costs["recovery"] and alone.costs["rivals"] == 0
    assert alone.costs["recovery"] == pytest.approx(step_cost(cost, winner.arch, None, 30) + 12 / 3)
    steps = step_cost(cost, second.arch, None, 20) + 12 / 3 + step_cost(cost, first_out.arch, None, 10) + 10 / 3
    looked = SearchCost.like(cost)
    for arch, rounds in ((winner.arch, 2), (second.arch, 2), (first_out.arch, 1)):
        looked.add_evaluation(arch, 4 * rounds)
    assert both.costs["rivals"] == pytest.approx(steps + looked.spent)
    assert {path.name for path in (tmp_path / "three").iterdir()} == {"finalists.jsonl", winner.arch.id}


def check_report(page: Page, results: dict) -> None:
    """The page has the run's numbers, and draws layers where the checkpoint has them."""
    shown, losses = page.rows("what-is-left"), format_column([row["test loss"] for row in results["table"]])
    assert [(row["net"], row["test loss"]) for row in shown] == [
        (row["net"], loss) for row, loss in zip(results["table"], losses, strict=True)
    ]
    sizes = page.figures["what-is-left", "0"]["data"][0]
    assert dict(zip(sizes["x"], sizes["y"], strict=True)) == {
        row["parameters"]: pytest.approx(row["test loss"], rel=1e-4)
        for row in results["table"]
        if "cut" not in row["net"]
    }
    for number, (name, row) in enumerate(results["nets"].items()):
        kept = [str(layer + 1) for layer in range(3) if layer not in row["layers_removed"]]
        heads = page.figures["what-is-left", str(number + 1)]["data"]
        bars = next(trace for trace in heads if trace["name"] == "found" and len(trace["x"]) == len(kept))
        assert bars["x"] == kept and bars["text"] == [str(n) for n in row["by_position"]["n_head"]], name
        rows = page.rows("what-was-tried", 2 * number)
        assert [line["architecture"] for line in rows] == [line["architecture"] for line in row["finalists"]["rows"]]
        lines = page.figures["what-was-tried", str(number)]["data"]
        losses = [[v for k, v in line.items() if k[0].isdigit() and v != "-"] for line in row["finalists"]["rows"]]
        assert sorted(trace["y"] for trace in lines) == sorted(losses)
    assert any("tangle-hf push" in text for text in page.texts["use-it"])


@pytest.mark.parametrize("family", ["llama", "vit"])
def test_other_families_are_compressed_to_stock_classes(family, text, tmp_path, monkeypatch):
    orders = set()

    def ordered(*given, seed=None):
        orders.add(seed)
        return calibration_batches(*given, seed=seed)

    monkeypatch.setattr("tangle_hf.compress.preparation.calibration_batches", ordered)
    source = checkpoint(tmp_path / family, family)
    budget = ["--max_flops", "60%", "--standard_only", "--arch_steps", "2", "--finalists", "1", "--hand_cuts", "2"]
    data = ["--samples_per_class", "8", "--mixup", "0.8", "--label_smoothing", "0.1"] if family == "vit" else text
    results = run(tmp_path / "run", data, "--checkpoint", source, *budget)
    before, cut, after = results["table"]
    assert (
        after["parameters"] < before["parameters"]
        and "remote" not in (tmp_path / "run" / "60pct" / "README.md").read_text()
    )
    assert results["nets"]["60pct"]["costs"]["gradient search"] == pytest.approx(2 * 2 / 3)
    assert not (tmp_path / "run" / "60pct" / "configuration_tangle_gpt2.py").exists()
    assert orders == ({0} if family == "vit" else {None})  # images may lie class by class
    if family == "vit":  # labels that are distributions make no multi-label problem of it
        config = json.loads((tmp_path / "run" / "60pct" / "config.json").read_text())
        assert config["problem_type"] == "single_label_classification"
        labels, logits = torch.rand(4, 10).softmax(-1), torch.randn(4, 10)
        supernet = load_teacher(source)
        for net in (supernet, extract(supernet, supernet.space.smallest)):
            expected = -(labels * logits.log_softmax(-1)).sum(-1).mean()
            found = net.loss_function(labels=labels, logits=logits, pooled_logits=logits, config=net.config)
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("content", "one"),
    [
        ("task: mine\ndataset_path: text\n", True),
        ("task: mine\nprocess_results: !function mine.process\n", True),
        ("include: base.yaml\ntask: mine\n", False),
        ("task:  # two\n  - lambada\n  - mine\n", False),
        ("group: ours\ntask:\n  - lambada\n", False),
        ("task: [lambada, mine]\n", False),
        ("task:\n  - lambada\n", False),
    ],
)
def test_a_file_of_one_task_needs_no_others(tmp_path, content, one):
    (tmp_path / "task.yaml").write_text(content)
    assert _names_no_others(str(tmp_path / "task.yaml")) == one
    assert not _names_no_others("lambada")


@pytest.mark.parametrize(
    "content", ["", "lambada", "- task: mine\n", "output_type: generate_until\n", "task: [", "\x00"]
)
def test_a_file_without_a_task_is_refused_before_anything_is_computed(tmp_path, content):
    (tmp_path / "task.yaml").write_text(content)
    with pytest.raises(ValueError, match="task.yaml is no YAML file of a task: it has neither `task` nor `group`"):
        check_tasks([str(tmp_path / "task.yaml")], text=True)


def test_a_net_within_a_latency_is_left_in_other_forms_and_scored_on_tasks(text, tmp_path, capsys, monkeypatch):
    source, task = checkpoint(tmp_path / "llama", "llama"), tmp_path / "lines.yaml"
    lines = [{"text": f"line {number} of a small text"} for number in range(5)]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task.write_text(
        f"task: lines\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path / 'lines.jsonl'}}}}}\n"
        "test_split: test\noutput_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}]\n"
    )
    given = []  # test_onnx.py has what this is
    monkeypatch.setattr(forms, "export_onnx", lambda *arguments: given.append(arguments) or Namespace(difference=0.0))
    options = [*UNTRIED, "--max_steps", "2", "--forms", "padded", "onnx", "gguf", "--eval_limit", "3"]
    budget = ["--max_latency_ms", "80%", "--eval_tasks", str(task)]
    results = run(tmp_path / "run", text, "--checkpoint", source, *options, *budget)
    before, cut, after = results["table"]
    (row,) = results["nets"].values()
    assert row["budgets"]["arch_latency_ms"] <= row["budgets"]["max_latency_ms"]
    assert (tmp_path / "run" / "latency_table.json").is_file()
    column = "lines bits_per_byte"
    assert cut[column] == "-" and before[column] != after[column]
    tokenizer = AutoTokenizer.from_pretrained(source)
    for folder, line in ((source, before), (tmp_path / "run" / "80pct", after)):
        net, nats = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval(), 0.0
        for item in lines[:3]:
            ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(item["text"])["input_ids"]]])
            nats += net(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        size = sum(len(item["text"].encode()) for item in lines[:3])
        assert line[column] == pytest.approx(nats / math.log(2) / size, rel=1e-4)
    padded = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "80pct-padded").eval()
    assert type(padded).__module__.startswith("transformers")
    ids = torch.arange(12)[None]
    torch.testing.assert_close(padded(ids).logits, net(ids).logits)
    ((exported, folder, *_),) = given
    assert folder == tmp_path / "run" / "80pct-onnx" and torch.equal(exported(ids).logits, net(ids).logits)
    assert (tmp_path / "run" / "80pct-gguf" / "model.gguf").is_file()
    assert all(str(tmp_path / "run" / f"80pct-{form}") in row["forms"][form] for form in ("padded", "onnx", "gguf"))
    assert "in llama.cpp" in capsys.readouterr().out


def test_the_space_of_a_compression_keeps_the_residual_width(gpt2, tmp_path):
    space = load_teacher(gpt2).space
    assert space.choices["n_embd"] == (32,) and space.choices["n_layer"] == (1, 2, 3)
    assert space.choices["n_head"] == (1, 2, 3, 4) and space.choices["mlp_ratio"] == (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
    searched = SearchSpace(n_embd=[16, 32], n_layer=[1, 2, 3], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([2, 4]))
    ElasticGPT2LMHeadModel.from_pretrained(gpt2, space=searched).save_pretrained(tmp_path / "supernet")
    assert load_teacher(tmp_path / "supernet").space == space  # of its largest net
    scaled = edited(gpt2, tmp_path / "scaled", scale_attn_by_inverse_layer_idx=True)
    assert load_teacher(scaled).space.choices == {**space.choices, "n_layer": (3,)}  # ranks would change what scales
    llama = load_teacher(checkpoint(tmp_path / "llama", "llama")).space
    assert llama.choices["hidden_size"] == (32,) and llama.choices["intermediate_size"] == (
        6,
        12,
        18,
        24,
        30,
        36,
        42,
        48,
    )


def test_the_uniform_cut_has_finer_sizes_and_uses_more_of_a_budget_where_nothing_is_tried(gpt2):
    parsed = [parse_for_checkpoint(["--checkpoint", gpt2, *more], None)[0] for more in
              ([], ["--choice_ratio", "0.1"], ["--max_latency_ms", "60%"], ["--pareto", "latency_ms"])]  # fmt: skip
    assert [settings.layer_sizes for settings in parsed] == [MANY, FEW, FEW, FEW]
    used = {FEW: [], MANY: []}
    for sizes, found in used.items():
        supernet = load_teacher(gpt2, sizes)
        for share in range(30, 100, 5):
            limits = Limits.of(SearchArguments(output_dir="x", max_params_without_embeddings=f"{share}%"), supernet)
            (budget,) = limits.budgets
            found.append(exact(budget.table, uniform_cut(supernet, limits).arch) / budget.limit)
    assert max(*used[FEW], *used[MANY]) <= 1
    assert sum(used[MANY]) > sum(used[FEW]) + 0.2 and min(used[MANY]) > min(used[FEW])


def test_groups_and_heads_of_a_group_are_one_size_of_a_uniform_cut(tmp_path):
    """Each of them halved would leave a quarter of the query heads beside half of the hidden units."""
    supernet = load_teacher(checkpoint(tmp_path / "llama", "llama"), MANY)
    space, units = supernet.space, units_of_layers(supernet.config)
    assert units == [("intermediate_size",), ("num_key_value_heads", "num_key_value_groups")]
    both = {**space.largest.to_dict(), "num_key_value_heads": 1, "num_key_value_groups": 1}
    heads = prod(len(space.choices[name]) for name in ("num_key_value_heads", "num_key_value_groups"))
    assert evenness(space, units, space.architecture(**both))[2] == 1 / heads
    for share in range(40, 100, 10):
        limits = Limits.of(SearchArguments(output_dir="x", max_params_without_embeddings=f"{share}%"), supernet)
        arch = uniform_cut(supernet, limits).arch
        kept = prod(arch.values(name)[0] for name in ("num_key_value_heads", "num_key_value_groups"))
        assert kept / heads >= LEAST and arch.intermediate_size[0] / space.choices["intermediate_size"][-1] >= LEAST


def test_of_as_many_query_heads_whole_groups_are_kept(tmp_path):
    """As SmolLM2 has them: two of three groups whole lose less than a head of each, and leave room for hidden units."""
    sizes = {"hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3}
    LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=96, vocab_size=300)).save_pretrained(tmp_path)
    supernet = load_teacher(tmp_path, MANY)
    limits = Limits.of(SearchArguments(output_dir="x", max_params_without_embeddings="80%"), supernet)
    arch = uniform_cut(supernet, limits).arch
    assert (arch.num_key_value_heads, arch.num_key_value_groups) == ((2, 2), (3, 3))
    heads = Architecture({**arch.to_dict(), "num_key_value_heads": [3, 3], "num_key_value_groups": [2, 2]})
    (budget,) = limits.budgets
    assert exact(budget.table, heads) > exact(budget.table, arch)


def edited(source: str, folder: Path, **changes) -> str:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_what_cannot_be_compressed_is_refused_by_name(gpt2, text, tmp_path, monkeypatch):
    monkeypatch.setattr("tangle_hf.compress.data.SMALL_STEPS", 1)
    quantised = edited(gpt2, tmp_path / "quantised", quantization_config={"quant_method": "gptq", "bits": 4})
    foreign = edited(gpt2, tmp_path / "foreign", architectures=["OPTForCausalLM"], model_type="opt")
    compact = edited(gpt2, tmp_path / "compact", architectures=["TangleGPT2ForCausalLM"], model_type="tangle_gpt2")
    bare = edited(gpt2, tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (Path(bare) / name).unlink()
    short = [word.replace("train.txt", "short.txt") for word in text]
    Path(short[short.index("--train_file") + 1]).write_text("a few words")
    for argv, message in [
        (["--checkpoint", quantised], "is quantised"),
        (["--checkpoint", foreign], "is a OPTForCausalLM.*there are families for GPT2LMHeadModel, LlamaForCausalLM"),
        (["--checkpoint", compact], "is a TangleGPT2ForCausalLM.*tangle-hf resolve RUN --max_params 50%"),
        (["--checkpoint", str(tmp_path / "nothing")], "checkpoint=.*nothing could not be loaded"),
        (["--checkpoint", bare], "tokenizer .*bare"),
        (["--checkpoint", gpt2, *short], "shorter than one block"),
        (["--checkpoint", gpt2, "--block_size", "64"], "has 16 positions, block_size=64"),
        (["--checkpoint", gpt2, "--max_params", "120%"], "more than the largest"),
        (
            ["--checkpoint", gpt2, "--max_params", "1%"],
            "below the smallest possible.*Raise it; the space has nothing smaller",
        ),
        (["--max_params", "1%"], "below the smallest possible"),  # behind the training of a checkpoint
        (["--checkpoint", gpt2, "--arch_steps", "2", "--choice_ratio", "0.001"], "leave no room for rivals"),
        (["--checkpoint", gpt2, "--streaming", "true"], "leave out --streaming"),
        (["--checkpoint", gpt2, "--forms", "tflite"], "forms=.'tflite'. are unknown; choose from padded, onnx, gguf"),
        (["--checkpoint", gpt2, "--eval_tasks", "nothing.yaml"], "eval_tasks=.'nothing.yaml'.: no such tasks"),
        (["--checkpoint", gpt2, "--max_latency_ms", "0.00001"], "below the smallest possible"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", text, *argv)
        assert not (tmp_path / "run").exists(), argv
    teacher = Path(shutil.copytree(gpt2, tmp_path / "run" / "teacher"))
    with pytest.raises(ValueError, match="teacher is there already, of another run"):
        run(tmp_path / "run", text)
    assert list((tmp_path / "run").iterdir()) == [teacher] and (teacher / "model.safetensors").is_file()
    assert small_checkpoint(teacher, None, CompressArguments(resume=True), True) == str(teacher)
    (tmp_path / "run" / "config.yaml").write_text("max_steps: 3\n")
    with pytest.raises(ValueError, match="holds a run already"):
        run(tmp_path / "run", text, "--checkpoint", gpt2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_params": ["50%", "60%"], "max_flops": ["1%", "2%", "3%"]}, "several budgets of one kind"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"eval_limit": 3}, "eval_limit=3 .* needs eval_tasks"),
        ({"latency_batch_size": 2}, "give max_latency_ms, too"),
        ({"hand_cuts": 0}, "hand_cuts=0"),
        ({"choice_ratio": 1.1}, "choice_ratio=1.1"),
        ({"choice_ratio": 0.0, "arch_steps": 2}, "arch_steps=2 would have no effect"),
        ({"teacher_share": 0.0, "layer_weight": 1.0}, "layer_weight=1.0 would have no effect: teacher_share is 0"),
        ({"retrain_learning_rate": 0.1}, "retrain_learning_rate=0.1 has no effect"),
        ({"pareto": "size"}, "pareto='size' is not a cost; choose one of params, .*flops, latency_ms"),
        ({"pareto": "params", "max_params": ["50%"]}, "pareto=params and max_params limit the same cost"),
        ({"pareto": "params", "pareto_points": 1}, "pareto_points=1 must be at least 2"),
        ({"pareto": "params", "pareto_anchors": ["80%", "40%"]}, "pareto_anchors=.* the smaller one first"),
        ({"pareto": "params", "pareto_anchors": ["1M", "2M"]}, "pareto_anchors=.* two shares"),
        ({"pareto": "params", "pareto_anchors": ["4.0.0%", "80%"]}, "pareto_anchors=.* two shares"),
        ({"pareto_anchors": ["40%", "80%"]}, "would have no effect: give the cost of the front with pareto"),
        ({"teacher_share": 1.0, "taught_ratio": 0.0}, "taught_ratio=0.0 must be above 0 and at most 1"),
        ({"taught_ratio": 0.5, "teacher_share": 0.0}, "taught_ratio=0.5 .* 0 with teacher_share 0 only"),
        ({"architecture": "net.json", "max_params": ["50%"]}, "architecture=net.json says what is left: budgets"),
        ({"architecture": "net.json", "standard_only": True}, "architecture=net.json says what is left"),
        (
            {"architecture": "net.json", "choice_ratio": 0.1},
            "architecture=net.json says .* choice_ratio would have no",
        ),
        ({"finalist_batches": 3}, "finalist_batches=3 would have no effect with choice_ratio 0"),
        ({"hand_cuts": 8}, "hand_cuts=8 would have no effect with choice_ratio 0"),
        ({"finalists": 0}, "finalists=0 would have no effect with choice_ratio 0"),
        ({"teacher_temperature": 2.0}, "teacher_temperature=2.0 would have no effect with teacher_share 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CompressArguments(**options)


def test_a_net_that_is_given_is_cut_and_nothing_chosen(text, tmp_path, capsys):
    llama = checkpoint(tmp_path / "llama", "llama")
    net = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": [24, 30],
           "num_key_value_heads": [2, 1], "num_key_value_groups": [1, 2]}  # fmt: skip
    file = tmp_path / "net.json"
    file.write_text(json.dumps({**net, "hidden_size": 40}))
    with pytest.raises(ValueError, match="hidden_size=40 is not a choice"):
        run(tmp_path / "run", text, "--checkpoint", llama, "--architecture", str(file), *UNTRIED)
    assert not (tmp_path / "run").exists()
    file.write_text(json.dumps(net))
    row = run(tmp_path / "run", text, "--checkpoint", llama, "--architecture", str(file), *UNTRIED)["nets"][
        "architecture"
    ]
    assert (
        row["found"] == net
        and row["costs"]["rivals"] == 0
        and [line["finalist"] for line in row["finalists"]["rows"]] == ["given"]
    )
    assert row["budgets"] == {} and len(row["layers_removed"]) == 1
    left, supernet = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "architecture"), load_teacher(llama)
    assert left.num_parameters() == row["parameters"] == num_params(supernet.space, Architecture(net), supernet.config)
    card = (tmp_path / "run" / "architecture" / "README.md").read_text()
    assert "budget" not in card.partition("## What was cut")[2].partition("## What was tried")[0]
    page = Page(tmp_path / "run" / "report.html")
    assert [line["net"] for line in page.rows("what-is-left")] and "given" in str(page.rows("what-was-tried", 0))


def test_weights_in_two_formats_count_once(tmp_path):
    assert size_on_disk(tmp_path) is None
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(3 * 2**20))
    assert size_on_disk(tmp_path) == 3
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(bytes(2**20))
    assert size_on_disk(tmp_path) == 2


def test_budgets_are_names_of_nets():
    both = CompressArguments(max_params=["50%", "1.5M"], max_flops=["70%"])
    assert both.sizes() == {
        "50pct-70pct": {"max_params": "50%", "max_flops": "70%"},
        "1.5M-70pct": {"max_params": "1.5M", "max_flops": "70%"},
    }
    assert CompressArguments().sizes() == {"60pct": {"max_params": "60%"}}
    front = CompressArguments(pareto="flops", pareto_points=3, max_params=["90%"])
    assert [size["max_flops"] for size in front.sizes().values()] == ["80%", "60%", "40%"]
    assert list(front.sizes()) == ["90pct-80pct", "90pct-60pct", "90pct-40pct"]
    wide = CompressArguments(pareto="params", pareto_points=4, pareto_anchors=["35%", "70%"])
    assert list(wide.sizes()) == ["70pct", "58.33pct", "46.67pct", "35pct"]
    with pytest.raises(ValueError, match="given twice"):
        CompressArguments(max_params=["50%", "50%"]).sizes()
