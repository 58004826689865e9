"""GGUF: an exported or fine-tuned language model for llama.cpp, read back and compared before it gets its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import check_extra
from ..files import replacing
from ..space import Architecture
from .gguf_nets import add_sizes, gguf_net
from .gguf_tokenizers import add_tokenizer


MODEL = "model.gguf"
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class GgufExport:
    """What was written.

    Args:
        folder: Where it is.
        kind: llama.cpp's name of the architecture.
        tensors: How many tensors were read back and are equal to the model's.
        tokenizer: Whether the file has one.
    """

    folder: Path
    kind: str
    tensors: int
    tokenizer: bool


def export_gguf(
    model: PreTrainedModel,
    folder: str | Path,
    processor: PreTrainedTokenizerBase | None = None,
    arch: Architecture | None = None,
) -> GgufExport:
    """Writes `model.gguf`, the one file that llama.cpp needs, and reads it back.

    Matrices have the type of the model, vectors are float32, as llama.cpp wants them. Fewer bits are `llama-quantize`'s work.
    Which nets and tokenizers have a form: `gguf_net`, `add_tokenizer`. The folder appears under its name only when every field
    and every tensor has been read back and is equal.

    Args:
        model: A language model, stock, padded or compact, in float32, float16 or bfloat16.
        folder: Where to write; an earlier GGUF export there is replaced.
        processor: Its tokenizer, or None: then the file takes numbers of tokens and no text.
        arch: Its architecture, left as `architecture.json`, or None.

    Raises:
        ImportError: The extra `gguf` is not installed.
        ValueError: The net or the tokenizer has no GGUF form, or the folder holds something else than an earlier GGUF export.
    """
    check_extra("gguf", "gguf")
    import gguf

    if model.dtype not in TYPES:
        raise ValueError(f"the model is {model.dtype}; load it with dtype=torch.float32, float16 or bfloat16 for GGUF")
    folder, net = Path(folder), gguf_net(model)
    with replacing(folder, MODEL) as partial:
        writer = gguf.GGUFWriter(partial / MODEL, net.kind)
        writer.add_name(folder.resolve().name)
        add_sizes(writer, net, model)
        add_tokenizer(writer, processor, model.config.vocab_size)
        fields = {name: field.value for name, field in writer.kv_data[0].items()}
        for name, tensor in net.tensors.items():
            writer.add_tensor(name, _stored(tensor, model.dtype), raw_dtype=_type(tensor, model.dtype))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        _check(partial / MODEL, fields, net.tensors, model.dtype)
        if arch is not None:
            (partial / "architecture.json").write_text(arch.to_json() + "\n")
    return GgufExport(folder, net.kind, len(net.tensors), processor is not None)


def _type(tensor: Tensor, dtype: torch.dtype):
    import gguf

    return gguf.GGMLQuantizationType[TYPES[dtype] if tensor.ndim > 1 else "F32"]


def _stored(tensor: Tensor, dtype: torch.dtype) -> numpy.ndarray:
    """The numbers of a tensor as a file has them."""
    import gguf

    return gguf.quantize(tensor.detach().float().cpu().contiguous().numpy(), _type(tensor, dtype))


def _check(path: Path, fields: Mapping[str, object], tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Reads a file and compares it with what it was made of.

    Raises:
        ValueError: A field or a tensor differs.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    wrong = [name for name, value in fields.items() if not _equal(reader.get_field(name), value)]
    found = {tensor.name: tensor for tensor in reader.tensors}
    wrong += sorted(found.keys() ^ tensors.keys())
    for name in found.keys() & tensors.keys():
        if not numpy.array_equal(found[name].data, _stored(tensors[name], dtype)):
            wrong.append(name)
    if wrong:
        raise ValueError(f"{MODEL} would differ from the model in {', '.join(wrong)}; nothing was written")


def _equal(field, value: object) -> bool:
    if field is None:
        return False
    if isinstance(value, float):
        return field.contents() == numpy.float32(value)
    return field.contents() == value
