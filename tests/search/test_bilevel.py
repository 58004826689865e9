"""The trainer: exact resume after SIGKILL, what its steps are, and errors that leave the last good checkpoint."""

import json
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as distributed_checkpoint
import worker
from accelerate import Accelerator
from accelerate.utils import DistributedType
from several_runs import launch
from torch.optim.optimizer import register_optimizer_step_post_hook
from worker import SPACE, Blocks

from tangle_hf import ArchParameters, ElasticGPT2Config, ElasticGPT2LMHeadModel, one_hot
from tangle_hf.search import SearchArguments, checkpoints, search, train_single_paths
from tangle_hf.search.checkpoints import latest_checkpoint
from tangle_hf.search.gradient.arch_front import ArchFront
from tangle_hf.search.loop import append_record, keep_records
from tangle_hf.search.sharding import shard


def outcome(folder: Path) -> tuple:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads((folder / "end.json").read_text()), [json.loads(line) for line in lines]


def test_a_killed_and_resumed_search_is_the_same_to_the_last_digit(tmp_path, caplog):
    options, broken = {"max_params": "60%"}, tmp_path / "broken"
    assert launch(tmp_path, 1, [("worker", "broken", {**options, "kill_at": 6})]).returncode != 0
    assert not (broken / "end.json").exists()
    assert list((broken / "checkpoints").glob(".partial-*")), "the kill did not leave a half-written checkpoint"
    worker.run(broken, resume=True, **options)
    assert "was not written to its end" in caplog.text
    worker.run(tmp_path / "whole", **options)
    assert outcome(broken) == outcome(tmp_path / "whole")
    assert len(outcome(broken)[1]) == 8


def tiny(folder: Path, **settings):
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8))
    defaults = {"max_steps": 4, "save_steps": 2, "logging_steps": 1, "per_device_batch_size": 4}
    return supernet, SearchArguments(output_dir=str(folder), **{**defaults, **settings})


@pytest.mark.parametrize("method", ["darts", "drnas", "gdas", "reinmax"])
def test_every_sampler_moves_every_row_of_logits(tmp_path, method):
    supernet, settings = tiny(tmp_path, method=method, arch_warmup_ratio=0.0, max_steps=6)
    trained = search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    fresh = type(trained)(SPACE, seed=settings.seed)
    for name, logits in trained.logits.items():
        assert (logits - fresh.logits[name]).abs().amax(-1).min() > 0, name


def test_hard_samplers_train_the_sampled_subnet(tmp_path, monkeypatch):
    """Their weight step runs a single path; it must be the step of the superposition under the same one-hot shares."""
    arch = SPACE.architecture(n_embd=16, n_layer=2, n_head=[4, 2], mlp_ratio=[1, 2])
    shares = {name: rows.requires_grad_() for name, rows in one_hot(SPACE, arch).items()}
    monkeypatch.setattr(ArchParameters, "sample", lambda *arguments: shares)
    dropouts, trained = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0), []
    for method in ("darts", "gdas"):
        torch.manual_seed(0)
        _, settings = tiny(tmp_path / method, method=method, arch_warmup_ratio=0.5, max_steps=2)
        config = ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8, **dropouts)
        torch.manual_seed(0)
        supernet = ElasticGPT2LMHeadModel(config).double()  # Adam scales up the rounding of float32
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
        trained.append(supernet.transformer.h[0].mlp.c_fc.weight.detach())
    torch.testing.assert_close(trained[1], trained[0], rtol=0, atol=1e-5)


def test_compiled_blocks_are_asked_for_before_the_first_step(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(ElasticGPT2LMHeadModel, "compile_blocks", lambda supernet: compiled.append(supernet))
    for asked in (False, True):
        supernet, settings = tiny(tmp_path / str(asked), compile_blocks=asked, max_steps=2)
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
        assert compiled == ([supernet] if asked else [])
    assert "compile_blocks" in tiny(tmp_path, method="spos+rs", compile_blocks=True)[1].settings_without_effect()


def test_the_architecture_step_leaves_weights_and_their_gradients_alone(tmp_path):
    supernet, settings = tiny(tmp_path, learning_rate=1e-30, min_learning_rate=1e-30, arch_warmup_ratio=0.0)
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    for name, p in supernet.named_parameters():
        torch.testing.assert_close(p, before[name], rtol=0, atol=1e-20)
        assert p.requires_grad


def test_accumulated_micro_batches_are_one_large_batch(tmp_path):
    results = []
    for number, (batch, micro) in enumerate([(4, 1), (2, 2)]):
        torch.manual_seed(0)
        options = {"per_device_batch_size": batch, "gradient_accumulation_steps": micro, "arch_warmup_ratio": 0.0}
        supernet, settings = tiny(tmp_path / str(number), **options)
        for module in supernet.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        results.append(search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True)))
    for name, logits in results[0].logits.items():
        torch.testing.assert_close(results[1].logits[name], logits, rtol=0, atol=1e-5)


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path, caplog):
    supernet, settings = tiny(tmp_path)
    search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    newest = tmp_path / "checkpoints" / "step-00000004"
    assert latest_checkpoint(tmp_path) == (newest, 4)
    (newest / "model.safetensors").write_bytes(b"short")
    assert latest_checkpoint(tmp_path)[1] == 2
    assert "damaged" in caplog.text


class Touch:
    """Unpickled without care it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with two checkpoints, to copy."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("finished")
    search(*first(tiny(folder)), Accelerator(cpu=True))
    return folder


def change(folder: Path, name: str, content: bytes | None = None, old: bool = True, named: bool = True) -> None:
    """Gives a file of a checkpoint other content, with a manifest that fits it; `old` ones have no checksums."""
    if content is not None:
        (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = (folder / name).stat().st_size
    if old:
        del manifest["sha256"]
    if not named:
        del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("named", [True, False], ids=["in the manifest", "beside it"])
@pytest.mark.parametrize("name", ["custom_checkpoint_0.pkl", "random_states_0.pkl", "optimizer.bin", "more/x.bin"])
def test_a_checkpoint_runs_no_code(finished, tmp_path, caplog, name, named):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for folder in (run / "checkpoints").iterdir():
        (folder / name).parent.mkdir(exist_ok=True)
        torch.save(Touch(tmp_path / "touched"), folder / name)
        change(folder, name, named=named)
    assert latest_checkpoint(run) is None and not (tmp_path / "touched").exists()
    assert f"{Path(name).name} is damaged, or holds something else than tensors" in caplog.text


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_what_is_noted_of_shards_is_read_and_runs_no_code(tmp_path):
    """Of torch.distributed.checkpoint, which unpickles it without care."""
    shards = {"a": torch.ones(3, dtype=torch.bfloat16), "step": 3, "group": {"betas": (0.9, 0.99)}}
    distributed_checkpoint.save(shards, checkpoint_id=tmp_path / "shards")
    noted = tmp_path / "shards" / ".metadata"
    assert checkpoints.unreadable(noted) is None
    whole = noted.read_bytes()
    for content in (whole[: len(whole) // 2], b"", pickle.dumps(Touch(tmp_path / "touched")),
                    b"\x80\x04ctorch.distributed.checkpoint.metadata\nos.mkdir\n."):  # fmt: skip
        noted.write_bytes(content)
        assert "is damaged" in checkpoints.unreadable(noted) or "cannot be read" in checkpoints.unreadable(noted)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("second, message", [(True, "set it to false"), (False, "fsdp_version=1")])
def test_ways_to_shard_that_a_search_cannot_take_are_refused(second, message):
    """Weights that one process alone has loaded, and those of FSDP's first version."""
    plugin = SimpleNamespace(cpu_ram_efficient_loading=True)
    state = SimpleNamespace(fsdp_plugin=plugin)
    with pytest.raises(ValueError, match=message):
        shard(None, SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=second, state=state))


def first(made: tuple) -> tuple:
    """Arguments of a search of what `tiny` makes."""
    return made[0], Blocks(), Blocks(30), made[1]


def test_reading_a_checkpoint_takes_tensors_only_whatever_was_looked_at_before(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    torch.save(Touch(tmp_path / "touched"), tmp_path / "checkpoints" / "step-00000004" / "custom_checkpoint_0.pkl")
    monkeypatch.setattr(checkpoints, "_damage", lambda folder: None)
    with pytest.raises(Exception, match="[Ww]eights"):
        search(*first(tiny(tmp_path, resume=True, max_steps=6)), Accelerator(cpu=True))
    assert not (tmp_path / "touched").exists() and os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


@pytest.mark.parametrize("old", [False, True], ids=["with checksums", "of an older version"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.bin", "custom_checkpoint_0.pkl", "random_states_0.pkl"]
)
@pytest.mark.parametrize("empty", [True, False])
def test_files_of_the_right_size_and_wrong_content_are_damage(finished, tmp_path, caplog, name, empty, old):
    """What a full disk or a lost write leaves: the manifest may name that very size."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    newest = run / "checkpoints" / "step-00000004"
    change(newest, name, b"" if empty else bytes((newest / name).stat().st_size), old)
    assert latest_checkpoint(run)[1] == 2
    assert (
        f"{newest} is damaged ({name}" in caplog.text and "step-00000002, the one before it, is tried" in caplog.text
    )


def test_a_checkpoint_of_an_older_version_is_taken(finished, tmp_path):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    change(run / "checkpoints" / "step-00000004", "optimizer.bin")
    assert latest_checkpoint(run)[1] == 4


@pytest.mark.parametrize("processes", [2, None])
def test_a_search_goes_on_on_as_many_processes_only(finished, tmp_path, processes):
    """Others would make steps of another size on other batches. Older checkpoints do not say how many they were."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    manifest = run / "checkpoints" / "step-00000004" / "manifest.json"
    about = json.loads(manifest.read_text())
    assert about.pop("num_processes") == 1
    manifest.write_text(json.dumps(about if processes is None else about | {"num_processes": processes}))
    again = [*first(tiny(run, resume=True)), Accelerator(cpu=True)]
    if processes is None:
        assert search(*again) is not None
    else:
        with pytest.raises(ValueError, match="was searched on 2 processes, now 1; resume it on as many"):
            search(*again)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 4}', '{"files": {}}'])
def test_a_manifest_that_is_none_is_damage(tmp_path, text):
    folder = tmp_path / "checkpoints" / "step-00000004"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("method", ["darts", "spos+rs"])
def test_a_gradient_that_is_not_finite_is_not_stepped(tmp_path, method):
    supernet, settings = tiny(tmp_path, method=method, max_steps=8, arch_warmup_ratio=0.9)
    count = []

    def poison(grad):
        count.append(0)
        return torch.full_like(grad, float("nan")) if len(count) == 4 else None

    supernet.transformer.ln_f.bias.register_hook(poison)
    run = train_single_paths if method == "spos+rs" else search
    data = (Blocks(),) if method == "spos+rs" else (Blocks(), Blocks(30))
    with pytest.raises(FloatingPointError, match="norm of the training gradient is nan at step 3"):
        run(supernet, *data, settings, Accelerator(cpu=True))
    assert all(torch.isfinite(p).all() for p in supernet.parameters()) and latest_checkpoint(tmp_path)[1] == 2


def test_a_gradient_of_the_logits_that_is_not_finite_is_not_stepped(tmp_path, monkeypatch):
    supernet, settings = tiny(tmp_path, arch_warmup_ratio=0.0, max_steps=4, method="darts")

    def infinite(front, *unused):
        for logits in front.parameters():
            logits.grad = torch.full_like(logits, float("inf"))

    monkeypatch.setattr(ArchFront, "collect", infinite)
    with pytest.raises(FloatingPointError, match="norm of the architecture gradient is inf at step 0"):
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))


@pytest.mark.parametrize("save_steps", [1, 3])
def test_weights_that_a_step_made_infinite_are_not_saved(tmp_path, save_steps):
    supernet, settings = tiny(tmp_path, method="darts", arch_warmup_ratio=0.6, logging_steps=9,
                               max_steps=3, save_steps=save_steps)  # fmt: skip

    def overflow(optimizer, *unused):
        if isinstance(optimizer, torch.optim.AdamW) and optimizer.state[supernet.transformer.wte.weight]["step"] == 3:
            with torch.no_grad():
                supernet.transformer.wte.weight[-1] = float("inf")

    hook = register_optimizer_step_post_hook(overflow)
    try:
        with pytest.raises(FloatingPointError, match="finite|nan|inf"):
            search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    finally:
        hook.remove()
    found = latest_checkpoint(tmp_path)
    assert found is None if save_steps == 3 else found[1] == 2


def test_a_norm_of_zero_means_no_clipping(tmp_path):
    """0 used to multiply all gradients by it."""
    trained = []
    for norm in (0.0, 1e9):
        torch.manual_seed(0)
        norms = {"max_grad_norm": norm, "arch_max_grad_norm": norm}
        supernet, settings = tiny(tmp_path / str(norm), max_steps=2, arch_warmup_ratio=0.0, **norms)
        logits = search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True)).logits["n_embd"]
        trained.append((supernet.transformer.wte.weight.detach(), logits))
    torch.testing.assert_close(trained[0], trained[1], rtol=0, atol=0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_metrics_are_strict_json(tmp_path, number):
    with pytest.raises(FloatingPointError, match="scores 1 loss is -?(nan|inf)"):
        append_record(tmp_path / "metrics.jsonl", {"step": 1, "scores": [{"loss": 0.5}, {"loss": number}]})
    assert not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    supernet, settings = tiny(tmp_path, max_steps=8, arch_warmup_ratio=0.9)
    count = []

    def poison(module, inputs):
        count.append(0)
        if len(count) == 4:
            with torch.no_grad():
                module.weight.fill_(float("nan"))

    supernet.transformer.ln_f.register_forward_pre_hook(poison)
    supernet.transformer.wte.register_forward_pre_hook(poison)
    with pytest.raises(FloatingPointError, match="--learning_rate"):
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    assert latest_checkpoint(tmp_path)[1] == 2


def test_resume_without_a_checkpoint_says_what_to_do(tmp_path):
    supernet, settings = tiny(tmp_path, resume=True)
    with pytest.raises(ValueError, match="start without --resume"):
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))


def test_a_warm_up_that_leaves_no_architecture_step_is_refused(tmp_path):
    supernet, settings = tiny(tmp_path, arch_warmup_ratio=0.95, max_steps=6)
    with pytest.raises(ValueError, match="arch_warmup_ratio=0.95 leaves none of max_steps=6 for an architecture step"):
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))


def test_data_smaller_than_a_batch_is_refused(tmp_path):
    supernet, settings = tiny(tmp_path, per_device_batch_size=31)
    with pytest.raises(ValueError, match="30 examples do not fill one batch of 31"):
        search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "adam"),
        ("learning_rate", 0.0),
        ("max_steps", 0),
        ("train_portion", 1.0),
        ("arch_warmup_ratio", 1.0),
        ("mixed_precision", "fp16"),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        SearchArguments(**{field: value})


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'{"step": 1}\n{"ste\n', b"[1]\n", b"{}\n"])
def test_a_damaged_log_is_named(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_bytes(content + b"\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl is damaged \(.*begin again in another folder"):
        keep_records(tmp_path / "metrics.jsonl", lambda record: record["step"] <= 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content + b"\n"
