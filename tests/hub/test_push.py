"""Pushing to a Hub on the loopback device: what arrives loads anywhere, and what fails publishes nothing."""

import json
import os
import re
import shutil
import subprocess
import sys

import finetune
import pytest
from conftest import run_recipe
from huggingface_hub import ModelCard, constants
from loopback_hub import LARGE, File

from tangle_hf import ElasticGPT2LMHeadModel
from tangle_hf.hub.cards import LOCAL_NAME
from tangle_hf.hub.publishing import push


FRESH = """
import json, sys
from pathlib import Path
sys.modules["tangle_hf"] = None  # importing it is an ImportError
import torch
from huggingface_hub import hf_hub_download
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, AutoImageProcessor, AutoTokenizer
torch.manual_seed(0)
report = {}
for repo, code in json.load(sys.stdin).items():
    scope = {}
    exec(code, scope)
    pipe = scope["pipe"]
    if "vit" in repo:
        inputs = {"pixel_values": torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)}
        report[repo] = [type(pipe.model).__name__, len(pipe("IMAGE")), None]
    else:
        inputs = {"input_ids": torch.arange(20)[None]}
        report[repo] = [type(pipe.model).__name__, len(pipe("line", max_new_tokens=3)), None]
    report[repo][2] = pipe.model(**inputs).logits.double().sum().item()
print(json.dumps(report))
"""


def blocks(text: str) -> list[str]:
    """The Python of a card."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def readme(hub, repo: str) -> str:
    return hub.repos[repo].files()["README.md"].content.decode()


def assert_nothing_published(hub):
    """No repository, or one as empty as the Hub makes it."""
    assert all(set(repo.files()) == {".gitattributes"} for repo in hub.repos.values())


def test_what_is_pushed_loads_in_a_process_without_this_library(hub, finished, tmp_path):
    """Subnets and supernets of both families: the code of their cards runs, and gives what the local files give."""
    scripts, local = {}, {}
    for family, run in finished.items():
        address = push(run, f"me/{family}-subnet", private=False, commit_message="found it")
        push(run, f"{family}-supernet", supernet=True)  # in the token's own account
        assert address == f"{hub.url}/me/{family}-subnet"
        repo = hub.repos[f"me/{family}-subnet"]
        assert repo.messages == ["initial commit", "found it"] and not repo.private
        assert hub.repos[f"me/{family}-supernet"].messages[1:] == [f"supernet of {family}"]
        for kind in ("subnet", "supernet"):
            name, folder = f"me/{family}-{kind}", run / kind
            files = hub.repos[name].files()
            expected = {path.name for path in folder.iterdir()} | {".gitattributes"}
            assert set(files) == expected | ({"arch_parameters.safetensors", "metrics.jsonl", "architecture.json"}
                                             if kind == "supernet" else set())  # fmt: skip
            assert files["model.safetensors"].content == (folder / "model.safetensors").read_bytes()
            assert files["model.safetensors"].large and len(files["model.safetensors"].content) > LARGE
            text = readme(hub, name)
            assert text == (folder / "README.md").read_text().replace(LOCAL_NAME, name) and LOCAL_NAME not in text
            scripts[name], local[name] = blocks(text)[0], blocks(text)[0].replace(name, str(folder))

    def fresh(scripts):
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
        env |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": ""}
        env.pop("HF_TOKEN")  # anybody may load what is public
        from PIL import Image

        Image.new("L", (8, 8), 99).save(tmp_path / "digit.png")
        code = FRESH.replace("IMAGE", str(tmp_path / "digit.png"))
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, input=json.dumps(scripts), env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    both = fresh({**scripts, **{f"local {name}": code for name, code in local.items()}})
    for name in scripts:
        assert both[name] == both[f"local {name}"]
    assert (
        both["me/gpt2-supernet"][0] == "GPT2LMHeadModel" and both["me/vit-supernet"][0] == "ViTForImageClassification"
    )
    assert len({total for _, _, total in both.values()}) == 4, "subnets and supernets should differ"
    assert any(path.startswith("/me/gpt2-supernet/resolve/") for _, path in hub.requests)


def test_a_published_supernet_is_elastic_with_this_library(hub, gpt2_run, monkeypatch):
    push(gpt2_run, "me/elastic", supernet=True)
    loaded = ElasticGPT2LMHeadModel.from_pretrained("me/elastic")
    scope = {}
    monkeypatch.chdir(gpt2_run)
    code = blocks(readme(hub, "me/elastic"))[1]
    exec(code, scope)
    assert scope["supernet"].space == loaded.space and loaded.space.size > 1
    assert (gpt2_run / "subnet" / "config.json").is_file() and scope["arch"] in set(loaded.space)


@pytest.mark.parametrize(
    ("token", "repo_id", "message"),
    [
        (None, "me/net", "no token for the Hub; run `hf auth login`"),
        ("unknown", "me/net", "does not know this token"),
        ("read", "me/net", "may not write there"),
        ("write", "somebody/net", "may not write there"),
        ("write", "no good name", "is no name of a repository"),
    ],
)
def test_without_the_right_to_write_nothing_is_published(hub, gpt2_run, monkeypatch, token, repo_id, message):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(gpt2_run / "no token here"))
    if repo_id == "me/net" and token == "read":
        hub.add_repo("me/net")  # the right is missing at the commit, not before
    with pytest.raises(ValueError, match=message):
        push(gpt2_run, repo_id, token=token)
    assert_nothing_published(hub)


@pytest.mark.parametrize("content", ["other files", "somebody's card", "no card that parses", "the other kind"])
def test_a_repository_with_other_content_stays_as_it_is(hub, gpt2_run, content):
    repo = hub.add_repo("me/net")
    files = {
        "other files": {"data.csv": File(b"1,2")},
        "somebody's card": {"README.md": File(b"---\ntags: [subnet]\n---\n# My model\n"), "config.json": File(b"{}")},
        "no card that parses": {"README.md": File(b"---\ntags: [\n---\n"), "config.json": File(b"{}")},
        "the other kind": {"README.md": File((gpt2_run / "supernet" / "README.md").read_bytes())},
    }[content]
    before = repo.commit("main", files, "by hand")
    with pytest.raises(ValueError, match=f"holds something else .{', '.join(sorted(files))}"):
        push(gpt2_run, "me/net")
    assert repo.branches == {"main": before} and not hub.large


def test_visibility_is_as_asked_for(hub, gpt2_run):
    push(gpt2_run, "me/secret", private=True)
    push(gpt2_run, "me/open", private=False)
    assert hub.repos["me/secret"].private and not hub.repos["me/open"].private
    commits = len(hub.repos["me/open"].messages)
    with pytest.raises(ValueError, match="exists and is public, not private"):
        push(gpt2_run, "me/open", private=True)
    with pytest.raises(ValueError, match="exists and is private, not public"):
        push(gpt2_run, "me/secret", private=False)
    assert len(hub.repos["me/open"].messages) == commits


def test_revisions_are_branches(hub, gpt2_run):
    push(gpt2_run, "me/net", revision="seed-1")
    repo = hub.repos["me/net"]
    assert set(repo.files()) == {".gitattributes"} and "model.safetensors" in repo.files("seed-1")
    push(gpt2_run, "me/net")
    assert repo.files() == repo.files("seed-1")
    repo.commit("mine", {"data.csv": File(b"1")}, "by hand")
    with pytest.raises(ValueError, match="holds something else"):
        push(gpt2_run, "me/net", revision="mine")


def test_pushing_again_commits_what_changed_and_removes_what_would_be_loaded(hub, gpt2_run):
    (gpt2_run / "subnet" / "model-00001-of-00001.safetensors").write_bytes(b"old")
    push(gpt2_run, "me/net")
    repo = hub.repos["me/net"]
    mine = {"LICENSE": File(b"mine"), "adapter_model.safetensors": File(b"mine")}
    repo.commit("main", {**repo.files(), **mine}, "by hand")
    commits = len(repo.messages)
    push(gpt2_run, "me/net")
    assert len(repo.messages) == commits, "nothing had changed"
    (gpt2_run / "subnet" / "model-00001-of-00001.safetensors").unlink()
    card = gpt2_run / "subnet" / "README.md"
    card.write_text(card.read_text() + "\nA word of mine.\n")
    push(gpt2_run, "me/net")
    assert len(repo.messages) == commits + 1 and "model-00001-of-00001.safetensors" not in repo.files()
    assert {"LICENSE", "adapter_model.safetensors", "model.safetensors"} <= set(repo.files())
    assert "A word of mine." in readme(hub, "me/net")


@pytest.mark.parametrize("broken", ["drop", 503])
@pytest.mark.parametrize("where", ["/api/whoami-v2", "/api/repos/create", "/preupload/", "/large/", "/commit/"])
def test_a_lost_connection_publishes_nothing_and_pushing_again_continues(hub, gpt2_run, where, broken):
    sizes = [path.stat().st_size for path in (gpt2_run / "subnet").iterdir()]
    large = sum(size >= LARGE for size in sizes)
    assert large > 2
    hub.fail = lambda command, path: broken if where in path and (where != "/large/" or len(hub.large) >= 2) else None
    with pytest.raises(ConnectionError, match="was not published: .*Push again"):
        push(gpt2_run, "me/net")
    assert_nothing_published(hub)
    arrived, hub.fail = set(hub.large), lambda command, path: None
    assert len(arrived) == {"/large/": 2, "/commit/": large}.get(where, 0)
    hub.requests.clear()
    push(gpt2_run, "me/net")
    sent = {path.split("/")[-1] for command, path in hub.requests if command == "PUT"}
    assert not sent & arrived and len(sent | arrived) == large
    assert len(hub.repos["me/net"].messages) == 2 and "model.safetensors" in hub.repos["me/net"].files()


@pytest.mark.parametrize("broken", ["drop", 503])
def test_an_earlier_card_that_cannot_be_read_stops_the_push(hub, gpt2_run, broken):
    push(gpt2_run, "me/net")
    card = gpt2_run / "subnet" / "README.md"
    card.write_text(card.read_text() + "\nA word of mine.\n")
    hub.fail = lambda command, path: broken if "/resolve/" in path else None
    with pytest.raises(ConnectionError, match="was not published: .*Push again"):
        push(gpt2_run, "me/net")
    assert len(hub.repos["me/net"].messages) == 2


def test_offline_mode_and_a_server_that_is_not_there_say_so(hub, gpt2_run, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="was not published"):
        push(gpt2_run, "me/net")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        push(gpt2_run, "me/net")


def test_runs_without_the_asked_for_net_are_refused(hub, gpt2_run):
    with pytest.raises(ValueError, match="both given"):
        push(gpt2_run, "me/net", folder=gpt2_run / "subnet", supernet=True)
    shutil.rmtree(gpt2_run / "subnet")
    with pytest.raises(ValueError, match="is no export"):
        push(gpt2_run, "me/net")
    assert not hub.requests


def test_a_recipe_publishes_subnet_and_supernet(hub, text_files, tmp_path):
    ids = ["--hub_model_id", "me/net", "--hub_supernet_model_id", "me/all", "--hub_private_repo", "true"]
    run_recipe("gpt2", tmp_path / "run", *text_files, "--push_to_hub", *ids, "--license", "mit")
    for name, tag in (("me/net", "subnet"), ("me/all", "supernet")):
        data = ModelCard(readme(hub, name)).data
        assert tag in data.tags and data.license == "mit" and hub.repos[name].private


def test_a_two_stage_search_publishes_its_candidates(hub, text_files, tmp_path):
    few = ["--method", "spos+rs", "--population_size", "3", "--generations", "1", "--candidate_batches", "1"]
    run_recipe("gpt2", tmp_path / "net", *text_files, "--push_to_hub", "--hub_supernet_model_id", "me/all", *few)
    for name in ("me/net", "me/all"):  # the first is the name of the folder
        assert "best of 3 candidates" in readme(hub, name) and "Method spos+rs" in readme(hub, name)
        assert "shares.png" not in hub.repos[name].files() and "entropy of" not in ModelCard(readme(hub, name)).content
    assert "candidates.jsonl" in hub.repos["me/all"].files()


def test_a_recipe_refuses_before_it_searches(hub, text_files, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "unknown")
    with pytest.raises(ValueError, match="does not know this token"):
        run_recipe("gpt2", tmp_path / "run", *text_files, "--push_to_hub")
    for options, message in [
        (["--hub_model_id", "me/net"], "hub_model_id would have no effect without --push_to_hub"),
        (["--hub_supernet_model_id", "me/net"], "no effect without --push_to_hub"),
        (["--push_to_hub", "--hub_model_id", "a", "--hub_supernet_model_id", "a"], "need two names"),
    ]:
        with pytest.raises(ValueError, match=message):
            run_recipe("gpt2", tmp_path / "run", *text_files, *options)
    assert not (tmp_path / "run").exists()


def test_a_fine_tuned_net_is_published_with_its_card(hub, gpt2_run, text_files, tmp_path):
    words = ["language", "--checkpoint", str(gpt2_run / "subnet"), "--max_steps", "1", "--block_size", "32", *text_files,
             "--output_dir", str(tmp_path / "tuned"), "--push_to_hub", "--license", "mit"]  # fmt: skip
    with pytest.raises(ValueError, match=r"publishes one net, these are \['finetune-0', 'finetune-1'\]"):
        finetune.main(*finetune.arguments([*words, "--seeds", "0", "1"]))
    finetune.main(*finetune.arguments(words))
    card = ModelCard(readme(hub, "me/tuned"))
    assert "finetuned" in card.data.tags and card.data.license == "mit" and str(tmp_path) not in card.content
    results = json.loads((tmp_path / "tuned" / "results.json").read_text())
    measured = {e.metric_type: e.metric_value for e in card.data.eval_results}
    assert measured == pytest.approx({k: results["rows"][0]["test"][k] for k in ("loss", "perplexity")}, rel=1e-5)
    assert ("trust_remote_code" in card.text) == ("auto_map" in (gpt2_run / "subnet" / "config.json").read_text())
