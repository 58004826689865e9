"""ONNX: the graph takes any batch and length, agrees with torch, shrinks to int8, and appears whole or not at all."""

import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from models.families import gpt2, images, llama, vit
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tangle_hf import extract
from tangle_hf.subnets.onnx_exports import export_onnx
from tangle_hf_cli import main


def run_graph(path, **inputs) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {name: values.numpy() for name, values in inputs.items()})
    return torch.from_numpy(found)


def int8(path: Path, tmp_path: Path) -> Path:
    """As docs/export.md does it."""
    quantize_dynamic(path, tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    assert (tmp_path / "int8.onnx").stat().st_size < path.stat().st_size
    return tmp_path / "int8.onnx"


def test_a_compact_language_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    supernet = gpt2()
    arch = supernet.space.architecture(n_embd=24, n_layer=2, n_head=[2, 4], mlp_ratio=[1, 2])
    subnet = extract(supernet, arch)
    subnet.save_pretrained("model")
    Path("model/architecture.json").write_text(arch.to_json())
    words = Tokenizer(WordLevel({"<end>": 0, "a": 1}, "<end>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained("model")
    main(["export", "model", "--form", "onnx"])  # a model's folder, as fine-tuning leaves it, has an ONNX form, too
    assert "1x1, 1x16, 3x9 were compared" in capsys.readouterr().out
    assert AutoTokenizer.from_pretrained("model-onnx").pad_token == "<end>"  # its batches need one
    main(["info", "model-onnx"])
    said = capsys.readouterr().out
    assert str(arch) in said and 'InferenceSession("model-onnx/model.onnx")' in said
    path = Path("model-onnx/model.onnx")
    for batch, length, padding in ((1, 3, 0), (4, 16, 5), (2, 1, 0)):
        tokens = torch.arange(batch * length).view(batch, length) * 7 % 50
        mask = torch.ones_like(tokens)
        mask[0, :padding] = 0
        found = run_graph(path, input_ids=tokens, attention_mask=mask)
        with torch.no_grad():
            expected = subnet(input_ids=tokens, attention_mask=mask).logits
        torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-4)
    shrunk = run_graph(int8(path, tmp_path), input_ids=tokens, attention_mask=mask)
    assert 0 < (shrunk - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_compact_llama_of_more_positions_than_are_compared(tmp_path):
    supernet = llama(kind="Qwen3", max_position_embeddings=2048)
    layers = {"intermediate_size": [8, 20], "num_key_value_heads": [2, 1], "num_key_value_groups": 2}
    arch = supernet.space.architecture(hidden_size=18, num_hidden_layers=2, **layers)
    written = export_onnx(extract(supernet, arch), tmp_path / "onnx")
    assert written.shapes == ((1, 1), (1, 1024), (3, 513)) and written.difference < 1e-4 * written.scale


def test_a_compact_image_classifier_and_nothing_half_written(tmp_path, monkeypatch):
    supernet = vit()
    arch = supernet.space.architecture(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=[2, 4], mlp_ratio=[1, 2]
    )
    subnet, folder = extract(supernet, arch), tmp_path / "onnx"
    written = export_onnx(subnet, folder, arch=arch)
    assert written.difference < 1e-4 * written.scale and written.shapes == ((1, 3, 8, 8), (3, 3, 8, 8))
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "config.json", "architecture.json"}
    with torch.no_grad():
        expected = subnet(images(5)).logits
    torch.testing.assert_close(
        run_graph(folder / "model.onnx", pixel_values=images(5)), expected, rtol=1e-4, atol=1e-4
    )
    shrunk = run_graph(int8(folder / "model.onnx", tmp_path), pixel_values=images(5))
    assert 0 < (shrunk - expected).abs().max() < 0.1 * expected.abs().max()

    before = (folder / "model.onnx").read_bytes()
    wrong = extract(supernet, supernet.space.smallest)
    monkeypatch.setattr(
        "tangle_hf.subnets.onnx_exports._write", lambda graph, path: path.write_bytes(before)
    )  # another net's graph
    with pytest.raises(ValueError, match="would differ from the model by"):
        export_onnx(wrong, folder)
    assert (folder / "model.onnx").read_bytes() == before and not list(tmp_path.glob(".partial*"))
    with pytest.raises(ValueError, match="torch.bfloat16; load it with dtype=torch.float32"):
        export_onnx(wrong.bfloat16(), tmp_path / "half")
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="holds no earlier export with model.onnx"):
        export_onnx(subnet, tmp_path / "mine")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ImportError, match=r"onnxscript is not installed; install it with: pip install 'tangle_hf\[onnx\]'"
    ):
        export_onnx(subnet, tmp_path / "without")
    assert {path.name for path in tmp_path.iterdir()} == {"onnx", "int8.onnx", "mine"}
