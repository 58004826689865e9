"""`tangle-hf` against a Hub on the loopback device: card, push, and a supernet that others slice."""

from pathlib import Path

import pytest
import torch

from tangle_hf import Architecture, ElasticGPT2LMHeadModel, ElasticViTForImageClassification, extract
from tangle_hf.models.loading import load_supernet
from tangle_hf_cli import main


CLASSES = {"gpt2": ElasticGPT2LMHeadModel, "vit": ElasticViTForImageClassification}


def test_a_published_supernet_is_sliced_by_others(hub, run, tmp_path, monkeypatch, capsys):
    family = run.name
    main(["card", str(run), "--supernet", "--license", "mit"])
    assert "license: mit" in (run / "supernet" / "README.md").read_text()
    main(["push", str(run), f"me/{family}-supernet", "--supernet", "--private", "--revision", "v1"])
    repo = hub.repos[f"me/{family}-supernet"]
    assert repo.private and set(repo.branches) == {"main", "v1"}
    main(["push", str(run), f"me/{family}-supernet", "--supernet", "--commit_message", "for everybody"])
    main(["push", str(run), f"me/{family}"])
    assert f"{hub.url}/me/{family}" in capsys.readouterr().out and repo.messages[-1] == "for everybody"

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    supernet = load_supernet(f"me/{family}-supernet", "v1")
    assert type(supernet) is CLASSES[family] and supernet.space == load_supernet(run / "supernet").space
    stock = supernet.auto_model.from_pretrained(f"me/{family}-supernet")
    assert type(stock) is CLASSES[family].__bases__[1]
    assert all(torch.equal(p, supernet.get_parameter(n)) for n, p in stock.named_parameters())

    main(["info", f"me/{family}-supernet"])
    said = capsys.readouterr().out
    assert f'{CLASSES[family].__name__}.from_pretrained("me/{family}-supernet")' in said
    main(["export", f"me/{family}-supernet", "--form", "compact", "--output", "found"])
    hub.requests.clear()
    main(["export", f"me/{family}-supernet", "--form", "compact", "--revision", "v1"])
    assert ("GET", f"/api/models/me/{family}-supernet/revision/v1") in hub.requests
    found = Architecture.from_json((run / "architecture.json").read_text())
    expected = dict(extract(load_supernet(run / "supernet"), found, "compact").named_parameters())
    for folder in ("found", f"{family}-supernet-compact"):
        model = supernet.auto_model.from_pretrained(folder)
        assert all(torch.equal(p, expected[n]) for n, p in model.named_parameters())
    main(["resolve", f"me/{family}-supernet", "--max_params", "80%"])
    small = supernet.auto_model.from_pretrained(f"{family}-supernet-max_params-80percent")
    assert small.num_parameters() <= 0.8 * supernet.num_parameters()
    assert {path.name for path in Path().iterdir()} == {
        "found",
        f"{family}-supernet-compact",
        f"{family}-supernet-max_params-80percent",
    }


def test_what_the_hub_refuses_is_one_line(hub, gpt2_run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "read")
    with pytest.raises(SystemExit, match="^error: .*may not write"):
        main(["push", str(gpt2_run), "me/found"])


@pytest.mark.parametrize("command", ["card", "push"])
def test_an_unfinished_run_has_no_card_to_show(command, tmp_path, hub):
    (tmp_path / "config.yaml").write_text("method: drnas\n")
    argv = [command, str(tmp_path), *(["me/found"] if command == "push" else [])]
    with pytest.raises(SystemExit, match="is not a finished run"):
        main(argv)
    assert not hub.repos
