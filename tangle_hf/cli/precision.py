"""What fewer bits cost a checkpoint: its test score in float32 and bfloat16, in ONNX, and in ONNX with int8 weights.

    tangle-hf precision language --checkpoint runs/search_gpt/subnet
    tangle-hf precision vision --checkpoint runs/search_vit/subnet --output_dir runs/precision_vit

Needs the extra onnx. `vision` and `language` have options of their own; put --help after them.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch

from ..analysis.tables import format_table
from ..data.images.augmentation_settings import AugmentationArguments
from ..errors import check_extra, readable_errors
from ..runs.folder import check_is_folder, write_json
from ..subnets.onnx_exports import export_onnx
from ..training.tasks import Task, language_task, parse_for_kind


@dataclass
class PrecisionArguments:
    """Which checkpoint, and where to leave the ONNX files.

    Raises:
        ValueError: The batch size is below 1.
    """

    _argument_group_name = "precision"

    checkpoint: str = field(
        metadata={"main": True, "help": "folder or Hub name of the model: stock, or compact with its own code"}
    )
    output_dir: str = field(
        default="runs/precision", metadata={"main": True, "help": "folder for the ONNX files and the table"}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "run the Python code that a checkpoint from elsewhere brings"}
    )
    per_device_batch_size: int = field(default=32, metadata={"help": "examples at once"})

    def __post_init__(self):
        if self.per_device_batch_size < 1:
            raise ValueError(f"per_device_batch_size={self.per_device_batch_size} must be at least 1")


class Runner:
    """Anything that gives logits, with as much of a model's interface as `evaluation` uses."""

    training, device = False, torch.device("cpu")

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, **inputs: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits(inputs))

    def eval(self) -> "Runner":
        return self

    def train(self, mode: bool) -> "Runner":
        return self


def in_torch(model) -> Runner:
    """A model that is given images in its own type."""
    return Runner(
        lambda inputs: (
            model(**{n: x.to(model.dtype) if x.is_floating_point() else x for n, x in inputs.items()}).logits
        )
    )


def in_onnxruntime(path: Path) -> Runner:
    """A graph; a language model's sees every token."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    masked = "attention_mask" in {given.name for given in session.get_inputs()}

    def logits(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if masked:
            inputs = {**inputs, "attention_mask": torch.ones_like(inputs["input_ids"])}
        return torch.from_numpy(session.run(["logits"], {name: x.numpy() for name, x in inputs.items()})[0])

    return Runner(logits)


def main(settings: PrecisionArguments, data, *augmentation: AugmentationArguments) -> None:
    """Exports, scores and prints the table."""
    out = Path(settings.output_dir)
    check_is_folder(out)
    check_extra("onnx", "onnxruntime", "onnxscript", "onnx")
    if augmentation:
        from ..training.image_tasks import vision_task  # needs the extra vision

        task = vision_task(settings.checkpoint, settings.trust_remote_code, ["inherit"], data, *augmentation)
    else:
        task = language_task(settings.checkpoint, settings.trust_remote_code, data)
    rows = list(score_all(task, out, settings.per_device_batch_size))
    for row in rows:
        row["loss difference"] = row["test loss"] - rows[0]["test loss"]
    write_json(out / "precision.json", {"checkpoint": settings.checkpoint, "rows": rows})
    print(format_table(rows))


def score_all(task: Task, out: Path, batch_size: int):
    """A row per precision: name, bytes of the weights or of the file, loss and score on the test data."""
    model = task.build("inherit").eval()
    export_onnx(model, out / "onnx", task.examples.processor)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain, int8, partial = out / "onnx" / "model.onnx", out / "int8.onnx", out / ".int8.onnx"
    try:
        quantize_dynamic(plain, partial, weight_type=QuantType.QInt8)
        partial.replace(int8)
    finally:
        partial.unlink(missing_ok=True)

    def row(name: str, runner: Runner, size: int) -> dict:
        examples = task.examples
        scores = examples.score(runner, examples.test, batch_size)
        return {"weights": name, "bytes": size, "test loss": scores["loss"], examples.metric: scores[examples.metric]}

    def bytes_of(net) -> int:
        return sum(p.numel() * p.element_size() for p in net.parameters())

    yield row("float32", in_torch(model), bytes_of(model))
    yield row("ONNX, float32", in_onnxruntime(plain), plain.stat().st_size)
    yield row("ONNX, int8", in_onnxruntime(int8), int8.stat().st_size)
    model = model.bfloat16()
    yield row("bfloat16", in_torch(model), bytes_of(model))


if __name__ == "__main__":
    with readable_errors():
        main(*parse_for_kind(sys.argv[1:], "precision.py", __doc__, PrecisionArguments))
