"""Law 7 for ViT: three forms, loaded by the Auto class and the pipeline in a process that cannot import the library."""

import json
import subprocess
import sys

import pytest
import torch
from models.families import images, vit
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tangle_hf import TangleViTConfig, TangleViTForImageClassification, TangleViTModel, extract
from tangle_hf.subnets.exports import export


LOADER = """
import json, sys, traceback
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tangle_hf":
            raise ImportError("tangle_hf is not installed here")
sys.meta_path.insert(0, Refuse())
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, pipeline
def load(folder, form):
    remote = {"trust_remote_code": True} if form == "compact" else {}
    found = {"config": type(AutoConfig.from_pretrained(folder, **remote)).__name__}
    for attention in ("eager", "sdpa"):
        model = AutoModelForImageClassification.from_pretrained(folder, attn_implementation=attention, **remote).eval()
        with torch.no_grad():
            found[attention] = model(pixels).logits.tolist()
        layers = {layer.attention.config._attn_implementation for layer in model.vit.layers}
        assert layers == {attention}, layers
    found["model"] = type(model).__name__
    base = AutoModel.from_pretrained(folder, **remote).eval()
    with torch.no_grad():
        found["base"], found["hidden"] = type(base).__name__, base(pixels).last_hidden_state.tolist()
    image = Image.fromarray(torch.arange(300).view(10, 10, 3).byte().numpy())
    found["pipeline"] = pipeline("image-classification", model=folder, top_k=10, **remote)(image)
    return found
pixels, found = torch.load("pixels.pt"), {}
for folder in sys.argv[1:]:
    try:
        found[folder] = load(folder, folder.split("-")[1])
    except Exception:
        found[folder] = traceback.format_exc()
json.dump(found, open("found.json", "w"))
"""

CASES = [
    # heads, architecture, forms that exist, the natural one first
    ("split", {"hidden_size": 24, "num_attention_heads": 2, "mlp_ratio": 1.5}, ["stock", "compact", "padded"]),
    ("split", {"hidden_size": 24, "num_attention_heads": 2, "mlp_ratio": [1, 2]}, ["compact", "padded"]),
    ("split", {"hidden_size": 24, "num_attention_heads": [2, 4], "mlp_ratio": 1}, ["compact"]),
    ("fixed", {"hidden_size": 16, "num_attention_heads": 2, "mlp_ratio": 2}, ["stock", "compact", "padded"]),
    ("fixed", {"hidden_size": 32, "num_attention_heads": 1, "mlp_ratio": 1}, ["stock", "compact", "padded"]),
    ("fixed", {"hidden_size": 16, "num_attention_heads": [2, 1], "mlp_ratio": [1, 2]}, ["compact", "padded"]),
]
EVERY_FORM = [(case, form) for case, (_, _, forms) in enumerate(CASES) for form in forms]
CLASSES = {"stock": ViTForImageClassification, "padded": ViTForImageClassification}


def cut(case, form):
    heads, values, _ = CASES[case]
    supernet = vit(heads)
    arch = supernet.space.architecture(num_hidden_layers=2, **values)
    return supernet, arch, extract(supernet, arch, form)


def logits(model, **arguments):
    with torch.no_grad():
        return model.eval()(images(), **arguments).logits


@pytest.mark.parametrize(("case", "form"), EVERY_FORM)
def test_every_form_is_exact_and_reloads(case, form, tmp_path):
    supernet, arch, subnet = cut(case, form)
    torch.testing.assert_close(logits(subnet), logits(supernet, arch=arch), rtol=1e-5, atol=1e-5)
    subnet.save_pretrained(tmp_path)
    own = CLASSES.get(form, TangleViTForImageClassification)
    for loader in (own, AutoModelForImageClassification):  # no remote code: importing tangle_hf registers the class
        again, loading = loader.from_pretrained(tmp_path, output_loading_info=True)
        assert type(again) is own and not loading["missing_keys"] and not loading["unexpected_keys"]
        assert torch.equal(logits(again), logits(subnet))
    config = json.loads((tmp_path / "config.json").read_text())
    assert not {"space", "superposition"} & config.keys()
    assert (tmp_path / "modeling_tangle_vit.py").exists() == (form == "compact")


@pytest.mark.parametrize(("case", "heads"), enumerate(case[0] for case in CASES))
def test_forms_that_do_not_exist_are_refused(case, heads):
    supernet, arch, _ = cut(case, "auto")
    forms = CASES[case][2]
    assert type(extract(supernet, arch)) is CLASSES.get(forms[0], TangleViTForImageClassification)
    for form in {"stock", "compact", "padded"} - set(forms):
        with pytest.raises(ValueError, match=f"no {form} form"):
            extract(supernet, arch, form)


ALONE = [(3, "stock"), (5, "compact"), (5, "padded"), (2, "compact")]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(case, form) -> the net, its image processor, and what one process for all of them has loaded, or how it failed."""
    torch.manual_seed(0)
    folder, processor = tmp_path_factory.mktemp("alone"), ViTImageProcessorPil(size={"height": 8, "width": 8})
    subnets = {(case, form): cut(case, form)[2] for case, form in ALONE}
    for (case, form), subnet in subnets.items():
        subnet.save_pretrained(folder / f"{case}-{form}")
        processor.save_pretrained(folder / f"{case}-{form}")
    torch.save(images(), folder / "pixels.pt")
    command = [sys.executable, "-c", LOADER, *(f"{case}-{form}" for case, form in ALONE)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text())
    return {(case, form): (subnet, processor, found[f"{case}-{form}"]) for (case, form), subnet in subnets.items()}


@pytest.mark.parametrize(("case", "form"), ALONE)
def test_files_classify_where_the_library_cannot_be_imported(case, form, loaded):
    subnet, processor, found = loaded[case, form]
    assert not isinstance(found, str), found
    assert found["model"] == CLASSES.get(form, TangleViTForImageClassification).__name__
    assert found["config"] == ("TangleViTConfig" if form == "compact" else "ViTConfig")
    assert found["base"] == ("TangleViTModel" if form == "compact" else "ViTModel")
    with torch.no_grad():
        hidden = subnet.vit(images()).last_hidden_state
    torch.testing.assert_close(torch.tensor(found["hidden"]), hidden, rtol=1e-4, atol=1e-4)
    for attention in ("eager", "sdpa"):
        torch.testing.assert_close(torch.tensor(found[attention]), logits(subnet), rtol=1e-4, atol=1e-4)
    image = torch.arange(300).view(10, 10, 3).byte().numpy()
    with torch.no_grad():
        scores = subnet(**processor(images=image, return_tensors="pt")).logits[0].softmax(-1)
    by_label = {f"LABEL_{label}": score for label, score in enumerate(scores.tolist())}
    # The process may have another image processor, whose resizing differs in the last bit of a pixel.
    assert {entry["label"]: entry["score"] for entry in found["pipeline"]} == pytest.approx(by_label, abs=0.02)


def test_export_writes_compares_and_brings_the_image_processor(tmp_path):
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
    for case, (_, _, forms) in enumerate(CASES):
        supernet, arch, _ = cut(case, "auto")
        for form in ("auto", *forms):
            folder = tmp_path / f"{case}-{form}"
            written = export(supernet, arch, folder, {"pixel_values": images()}, form, processor)
            assert written.form == (forms[0] if form == "auto" else form)
            assert written.difference < 1e-5 * written.scale
            assert (folder / "preprocessor_config.json").is_file() and (folder / "architecture.json").is_file()
    assert not list(tmp_path.glob(".partial*"))


def test_an_export_that_differs_is_refused(tmp_path, monkeypatch):
    supernet, arch, _ = cut(5, "auto")
    whole = extract

    def broken(*arguments):
        subnet = whole(*arguments)
        with torch.no_grad():
            subnet.classifier.weight.neg_()
        return subnet

    monkeypatch.setattr("tangle_hf.subnets.exports.extract", broken)
    with pytest.raises(ValueError, match="differ from the supernet"):
        export(supernet, arch, tmp_path / "subnet", {"pixel_values": images()})
    assert not (tmp_path / "subnet").exists()


def test_importing_the_library_registers_the_compact_classes(tmp_path):
    _, _, subnet = cut(2, "compact")
    subnet.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is TangleViTConfig
    stem = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    assert type(stem) is TangleViTModel
    with torch.no_grad():
        assert torch.equal(stem(images()).last_hidden_state, subnet.vit(images()).last_hidden_state)


def test_a_compact_model_trains_and_saves_again(tmp_path):
    _, _, subnet = cut(5, "compact")
    subnet.train().activation_checkpointing_enable()
    subnet(images(), labels=torch.tensor([1, 2])).loss.backward()
    assert all(p.grad.any() for p in subnet.parameters())
    again = TangleViTForImageClassification(subnet.config)
    again.load_state_dict(subnet.state_dict())
    again.save_pretrained(tmp_path)
    assert (tmp_path / "configuration_tangle_vit.py").exists()
    assert torch.equal(logits(AutoModelForImageClassification.from_pretrained(tmp_path)), logits(subnet))


def test_a_stock_subnet_starts_a_search_of_its_own(tmp_path):
    """An exported subnet whose heads are not hidden_size / num_attention_heads wide is the largest net of another space."""
    from tangle_hf import ElasticViTForImageClassification, SearchSpace

    _, _, subnet = cut(3, "stock")
    subnet.save_pretrained(tmp_path)
    space = SearchSpace(hidden_size=[8, 16], num_hidden_layers=[1, 2], num_attention_heads=[1, 2], mlp_ratio=[1, 2])
    supernet = ElasticViTForImageClassification.from_pretrained(tmp_path, space=space)
    assert supernet.config.head_dim == 12 and torch.equal(logits(supernet), logits(subnet))
