"""What a folder is: a run of a search, a supernet, a model that was exported or fine-tuned, ONNX or GGUF."""

import math
from pathlib import Path

import transformers
from safetensors import safe_open
from transformers import PreTrainedConfig

from ..cost.counts import num_params, parameter_entries
from ..cost.tables import of_largest, tabulate
from ..models.loading import model_class, read_config, supernet_class
from ..run_files import ARCH_PARAMETERS, read_settings, run_kind, supernet_folder
from ..space import SearchSpace
from ..subnets.exports import read_architecture
from ..subnets.gguf_exports import MODEL as GGUF_MODEL
from ..subnets.onnx_exports import MODEL as ONNX_MODEL
from .folder import kept_nothing, under_way


STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")  # buffers of batch norms


KINDS = {"finetune": "a run of fine-tuning", "compress": "a run of compression", "compare": "a comparison of nets",
         "table": "a table of trained nets"}  # fmt: skip


def folder_kind(folder: str | Path) -> str:
    """ "run", "supernet", "model", "onnx" or "gguf".

    Raises:
        ValueError: There is no such folder, or it is none of them.
    """
    folder = Path(folder)
    if (folder / "config.yaml").is_file():
        return "run"
    if (folder / ONNX_MODEL).is_file():
        return "onnx"
    if (folder / GGUF_MODEL).is_file():
        return "gguf"
    if (folder / "config.json").is_file():
        return "supernet" if read_config(folder).get("space") else "model"
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    raise ValueError(f"{folder} is no run, supernet or model: it has neither config.yaml nor config.json")


def describe(folder: str | Path) -> dict[str, str]:
    """What a folder is, what it has and what loads it, as name -> text, in the order to print.

    Raises:
        ValueError: There is no such folder, it is none of them, or it is a model of another kind.
    """
    folder = Path(folder)
    kinds = {"run": _run, "supernet": _supernet, "model": _model, "onnx": _onnx, "gguf": _gguf}
    return kinds[folder_kind(folder)](folder)


def loading_line(folder: str | Path) -> str:
    """The line of Python that loads a saved language model or image classifier where this library is not installed."""
    auto_class, config = model_class(folder)
    remote = ", trust_remote_code=True" if "auto_map" in read_config(folder) else ""
    return f'{auto_class.__name__}.from_pretrained("{folder}"{remote})'


def _run(folder: Path) -> dict[str, str]:
    settings = read_settings(folder)
    kind = run_kind(folder, settings)
    if kind != "search" and "checkpoint" not in settings:
        return {"kind": KINDS[kind]}
    if kind != "search":
        models = [path.parent.name for path in sorted(folder.glob("*/config.json"))]
        return {
            "kind": KINDS[kind],
            "of": settings["checkpoint"] or "teacher/, trained for it",
            "models": ", ".join(models) or "none",
        }
    lines = {"kind": f"a run of a search with {settings['method']}"}
    if not (folder / "supernet" / "config.json").is_file():
        steps = [path.name for path in sorted(folder.glob("checkpoints/step-*"))]
        how = "begin again without --resume" if kept_nothing(folder) else "continue with --resume"
        if kept_nothing(folder) and under_way(folder):
            how = "it may be under way"
        return lines | {"state": f"not finished; checkpoints: {', '.join(steps) or 'none'}; {how}"}
    lines |= {"state": "finished"} | _space(supernet_folder(folder))
    exports = [path.parent for path in sorted(folder.glob("*/architecture.json"))]
    for export in exports:
        if (kind := folder_kind(export)) == "model":
            lines[f"{export.name}/"] = f"{_parameters(export):,} parameters; {loading_line(export)}"
        else:
            lines[f"{export.name}/"] = kind.upper()
    return lines


def _supernet(folder: Path) -> dict[str, str]:
    lines = {"kind": "a supernet", **_space(folder)}
    if (folder / "architecture.json").is_file():
        lines["found"] = str(read_architecture(folder / "architecture.json"))
    with_logits = (folder / ARCH_PARAMETERS).is_file()
    lines["by budget"] = "tangle-hf resolve" if with_logits else f"no: {ARCH_PARAMETERS} is missing"
    family = supernet_class(folder)
    loads = f'{family.__name__}.from_pretrained("{folder}")'
    if family.config_class.from_pretrained(folder).space.ordered:  # else there is no largest net
        stock = hasattr(transformers, read_config(folder)["architectures"][0])
        loads += f"; {'everybody' if stock else 'after import tangle_hf'}: {loading_line(folder)}"
    return lines | {"loads with": loads}


def _model(folder: Path) -> dict[str, str]:
    _, config = model_class(folder)
    lines = {"kind": f"a model, {(config.architectures or [config.model_type])[0]}"}
    if (folder / "architecture.json").is_file():
        lines["architecture"] = str(read_architecture(folder / "architecture.json"))
    return lines | {"parameters": f"{_parameters(folder):,}", "loads with": loading_line(folder)}


def _onnx(folder: Path) -> dict[str, str]:
    return _converted(folder, "ONNX", f'onnxruntime.InferenceSession("{folder / ONNX_MODEL}")')


def _gguf(folder: Path) -> dict[str, str]:
    return _converted(folder, "GGUF", f"llama-cli -m {folder / GGUF_MODEL}")


def _converted(folder: Path, kind: str, loading: str) -> dict[str, str]:
    lines = {"kind": f"a model in {kind}"}
    if (folder / "architecture.json").is_file():
        lines["architecture"] = str(read_architecture(folder / "architecture.json"))
    return lines | {"loads with": loading}


def _space(folder: Path) -> dict[str, str]:
    config: PreTrainedConfig = supernet_class(folder).config_class.from_pretrained(folder)
    space: SearchSpace = config.space
    lines = {}
    for name, choices in space.choices.items():
        lines[name] = ", ".join(map(str, choices)) + (" per layer" if name in space.per_layer else "")
    lines["architectures"] = f"{space.size:,}"
    if not space.ordered:
        return lines | {"parameters": f"up to {of_largest(tabulate(space, parameter_entries(config))):,}"}
    largest, smallest = (num_params(space, arch, config) for arch in (space.largest, space.smallest))
    return lines | {"parameters": f"{smallest:,} to {largest:,}"}


def _parameters(folder: Path) -> int:
    """Elements in the folder's safetensors, which store tied weights once, without the statistics of batch norms."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names = (name for name in file.keys() if not name.endswith(STATISTICS))
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    return total
