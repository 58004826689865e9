"""ONNX: an exported or fine-tuned model for runtimes without PyTorch, checked in onnxruntime before it gets its name."""

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import check_extra
from ..files import replacing
from ..models.example_inputs import example_inputs
from ..models.generation import with_pad_token
from ..space import Architecture


MODEL = "model.onnx"
LONGEST = 1024  # tokens of a sequence that is compared


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how far onnxruntime's logits are from torch's.

    Args:
        folder: Where it is.
        shapes: Shapes of the inputs that were compared.
        difference: Largest absolute difference of logits over all of them.
        scale: Largest absolute logit, to judge the difference by.
    """

    folder: Path
    shapes: tuple[tuple[int, ...], ...]
    difference: float
    scale: float


class Logits(nn.Module):
    """The logits of a model as a function of tensors in a fixed order, without a cache of keys and values."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self.options = {"use_cache": False} if model.main_input_name == "input_ids" else {}

    def forward(self, inputs: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        given = {self.model.main_input_name: inputs}
        if attention_mask is not None:
            given["attention_mask"] = attention_mask
        return self.model(**given, **self.options).logits


def export_onnx(
    model: PreTrainedModel, folder: str | Path, processor=None, arch: Architecture | None = None
) -> OnnxExport:
    """Writes `model.onnx` beside config and tokenizer or image processor, and compares it in onnxruntime.

    A language model takes `input_ids` and `attention_mask`, int64 of any (batch, sequence) up to its positions, an image
    classifier `pixel_values`, float32 of (any batch, channels, height, width) of its size; both give `logits`. There is no
    cache of keys and values: generating costs a whole forward pass per token. The folder appears under its name only
    when it is whole and has been compared.

    Args:
        model: A language model or image classifier, stock, padded or compact, in float32.
        folder: Where to write; an earlier ONNX export there is replaced.
        processor: Tokenizer or image processor to save along, or None. A tokenizer without a pad token gets its end of text
            as one in the files.
        arch: Its architecture, left as `architecture.json`, or None.

    Raises:
        ImportError: The extra `onnx` is not installed.
        ValueError: The weights are not float32, onnxruntime's logits differ by more than 1e-3 of their scale, or the
            folder holds something else than an earlier ONNX export.
    """
    check_extra("onnx", "onnxruntime", "onnxscript")
    if model.dtype != torch.float32:
        raise ValueError(f"the model is {model.dtype}; load it with dtype=torch.float32 for ONNX")
    folder = Path(folder)
    training = model.training
    graph = Logits(model).eval()
    try:
        with replacing(folder, MODEL) as partial:
            _write(graph, partial / MODEL)
            model.config.to_json_file(partial / "config.json")
            if processor is not None:
                with_pad_token(processor).save_pretrained(partial)
            if arch is not None:
                (partial / "architecture.json").write_text(arch.to_json() + "\n")
            shapes, difference, scale = _compare(graph, partial / MODEL)
            if not difference <= 1e-3 * scale:
                raise ValueError(
                    f"{MODEL} would differ from the model by {difference:.1e} (logits up to {scale:.1e}); nothing was written"
                )
    finally:
        model.train(training)
    return OnnxExport(folder, shapes, difference, scale)


def _write(graph: Logits, path: Path) -> None:
    inputs = _inputs(graph.model, 2, 8)
    sequence = {1: "sequence"} if "input_ids" in inputs else {}
    dimensions = tuple({0: "batch", **sequence} for _ in inputs)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter reports its stages
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=dimensions,
            input_names=list(inputs),
            output_names=["logits"],
            verbose=False,
        )
    program.save(path)


def _inputs(model: PreTrainedModel, batch_size: int, length: int) -> dict[str, Tensor]:
    """Inputs of all kinds that the graph takes; the first sequence of several begins with padding."""
    positions = getattr(model.config, "max_position_embeddings", length)
    inputs = example_inputs(model, batch_size=batch_size, sequence_length=min(length, positions))
    if "input_ids" in inputs:
        mask = torch.ones_like(inputs["input_ids"])
        if batch_size > 1:
            mask[0, : mask.shape[1] // 2] = 0
        inputs["attention_mask"] = mask
    return inputs


@torch.no_grad()
def _compare(graph: Logits, path: Path) -> tuple[tuple[tuple[int, ...], ...], float, float]:
    """Shapes, largest difference of logits and largest logit over batches and lengths that the graph was not made with."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    model, shapes, differences, scales = graph.model, [], [], []
    # Images have no length, and some language models no limit, or one that would take hours.
    longest = min(getattr(model.config, "max_position_embeddings", 64), LONGEST)
    for batch_size, length in ((1, 1), (1, longest), (3, longest // 2 + 1)):
        inputs = _inputs(model, batch_size, length)
        if inputs[model.main_input_name].shape in shapes:
            continue
        expected = graph(*inputs.values()).cpu()
        (found,) = session.run(["logits"], {name: values.cpu().numpy() for name, values in inputs.items()})
        tokens = inputs["attention_mask"].bool().cpu() if "attention_mask" in inputs else ...
        expected, found = (
            expected[tokens],
            torch.from_numpy(found)[tokens],
        )  # a padding token has no logits to speak of
        shapes.append(tuple(inputs[model.main_input_name].shape))
        differences.append((found - expected).abs().max().item())
        scales.append(expected.abs().max().item())
    return tuple(shapes), max(differences), max(scales)
