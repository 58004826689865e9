"""GGUF: llama.cpp computes the logits and makes the tokens of transformers; what it cannot compute is refused by name."""

import sys
from pathlib import Path

import cyllama.llama.llama_cpp as llama_cpp
import gguf
import pytest
import torch
from models.families import gpt2, llama, vit
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from tangle_hf import extract
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer
from tangle_hf.models.llama.configuration_tangle_llama import TangleLlamaConfig
from tangle_hf.models.llama.modeling_tangle_llama import TangleLlamaForCausalLM
from tangle_hf.subnets.gguf_exports import export_gguf
from tangle_hf_cli import main


GPT2 = {
    "vocab_size": 50,
    "n_positions": 32,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 2,
    "n_inner": 40,
    "layer_norm_epsilon": 0.1,
}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}  # 32 units of attention in a net of 24
SIZES = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 40, **HEADS}
ROPE = {"rope_type": "default", "rope_theta": 50.0}
LLAMA = SIZES | {"max_position_embeddings": 32, "rms_norm_eps": 0.1, "rope_parameters": ROPE}
UNEQUAL = LLAMA | {
    "per_layer_config": {
        0: {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16},
        1: {"num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 40},
    }
}
BENT = {"rope_type": "llama3", "rope_theta": 50.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
BENT["original_max_position_embeddings"] = 16
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 50.0, "factor": 4.0}
BIASES = {"attention_bias": True, "mlp_bias": True}
TOKENS = [3, 7, 1, 20, 49, 2, 2, 13, 5, 30, 11, 40]
SPECIAL = ["<unk>", "<s>", "</s>"]
TEXTS = ["Every layer's 12345 heads, at 3.5%", "  two spaces,\n\n lines\tand tabs \r\n", "naïve — 中文 🙂", "a</s>b"]


class LlamaCpp(llama_cpp.LlamaModel):
    """A file in llama.cpp."""

    @property
    def n_vocab(self) -> int:  # the bindings ask for it where they read logits, and their own class lacks it
        return self.get_vocab().n_vocab

    def logits(self, tokens: list[int]) -> torch.Tensor:
        """Of every token, one after another through the cache; float32 throughout, so that little is lost to rounding."""
        options = llama_cpp.LlamaContextParams()
        options.n_ctx = options.n_batch = len(tokens)
        options.n_threads = options.n_threads_batch = 1
        options.type_k = options.type_v = options.flash_attn_type = 0
        context, found = llama_cpp.LlamaContext(self, options, verbose=False), []
        for position, token in enumerate(tokens):
            batch = llama_cpp.LlamaBatch(n_tokens=1, embd=0, n_seq_max=1)
            batch.add(token, position, [0], True)
            context.decode(batch)
            found.append(torch.tensor(context.get_logits()))
        return torch.stack(found)


def in_llama_cpp(folder: Path) -> LlamaCpp:
    llama_cpp.disable_logging()
    return LlamaCpp(str(folder / "model.gguf"), llama_cpp.LlamaModelParams(), verbose=False)


def randomised(model):
    """Large weights, gains that are not one and biases that are not zero, so that the logits depend on all of them."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 0.5, std=0.3)
    return model.eval()


@pytest.mark.parametrize(
    "kind, model_class, config",
    [
        ("gpt2", GPT2LMHeadModel, lambda: GPT2Config(**GPT2)),
        ("gpt2", GPT2LMHeadModel, lambda: GPT2Config(**GPT2, tie_word_embeddings=False)),
        ("llama", LlamaForCausalLM, lambda: LlamaConfig(**LLAMA, tie_word_embeddings=True)),
        ("llama", LlamaForCausalLM, lambda: LlamaConfig(**LLAMA | BIASES | {"rope_parameters": BENT})),
        (
            "llama",
            MistralForCausalLM,
            lambda: MistralConfig(**LLAMA | {"num_attention_heads": 6}, sliding_window=None),
        ),
        ("qwen2", Qwen2ForCausalLM, lambda: Qwen2Config(**LLAMA | {"head_dim": 6})),
        ("llama", Qwen2ForCausalLM, lambda: Qwen2Config(**LLAMA)),
        ("qwen3", Qwen3ForCausalLM, lambda: Qwen3Config(**LLAMA)),
        ("deci", TangleLlamaForCausalLM, lambda: TangleLlamaConfig(**UNEQUAL | {"rope_parameters": BENT})),
        ("deci", TangleLlamaForCausalLM, lambda: TangleLlamaConfig(**UNEQUAL, **BIASES, tie_word_embeddings=True)),
        (
            "openelm",
            TangleLlamaForCausalLM,
            lambda: TangleLlamaConfig(**UNEQUAL, query_key_norm=True, tie_word_embeddings=True),
        ),
    ],
)
def test_llama_cpp_computes_the_logits_of_torch(kind, model_class, config, tmp_path):
    model = randomised(model_class(config()))
    written = export_gguf(model, tmp_path / "gguf")
    assert written.kind == kind and not written.tokenizer
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0]
    found = in_llama_cpp(tmp_path / "gguf").logits(TOKENS)
    tolerance = 5e-3 if kind == "gpt2" else 1e-4  # llama.cpp looks GELU up in a table of half precision
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert expected.std() > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_matrices_have_the_type_of_the_model(dtype, tmp_path):
    model = randomised(LlamaForCausalLM(LlamaConfig(**LLAMA | {"rope_parameters": BENT})))
    export_gguf(model, tmp_path / "full")
    export_gguf(model.to(dtype), tmp_path / "gguf")
    with torch.no_grad():
        expected = model.float()(torch.tensor([TOKENS])).logits[0]
    found = in_llama_cpp(tmp_path / "gguf").logits(TOKENS)  # its activations are rounded, too
    assert 0 < (found - expected).abs().max() < 0.03 * expected.abs().max()
    full, half = (
        {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / name / "model.gguf").tensors}
        for name in ("full", "gguf")
    )
    assert {tensor.tensor_type.name for tensor in half.values()} == {
        "F32",
        "F16" if dtype == torch.float16 else "BF16",
    }
    assert (full["rope_freqs.weight"].data == half["rope_freqs.weight"].data).all()


def cut(supernet, **sizes):
    return extract(supernet, supernet.space.architecture(**sizes))


def refused(model, tmp_path, processor=None) -> str:
    with pytest.raises(ValueError) as caught:
        export_gguf(model, tmp_path / "gguf", processor)
    assert not list(tmp_path.iterdir()) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    "model, reason",
    [
        (lambda: cut(gpt2(), n_embd=24, n_layer=2, n_head=[2, 4], mlp_ratio=[1, 2]), "layers differ"),
        (lambda: cut(gpt2("fixed"), n_embd=32, n_layer=1, n_head=[1], mlp_ratio=[1]), "n_head * head_dim = 1 * 16"),
        (lambda: GPT2LMHeadModel(GPT2Config(**GPT2, activation_function="relu")), "activation gelu_new"),
        (lambda: GPT2LMHeadModel(GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True)), "scales attention"),
        (lambda: extract(vit(), vit().space.largest), "this is a vit"),
        (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA | {"intermediate_size": 0})), "no hidden units"),
        (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, hidden_act="gelu")), "activation silu"),
        (lambda: LlamaForCausalLM(LlamaConfig(**LLAMA | {"rope_parameters": DYNAMIC})), "rotary positions"),
        (lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=16)), "no sliding window"),
        (lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA, attention_bias=True)), "reads no biases"),
        (lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA | {"rope_parameters": BENT})), "no rotary scaling"),
        (lambda: TangleLlamaForCausalLM(TangleLlamaConfig(**UNEQUAL, query_key_norm=True)), "ties the embedding"),
    ],
)  # fmt: skip
def test_what_llama_cpp_does_not_compute_is_refused(model, reason, tmp_path):
    said = refused(model(), tmp_path)
    assert said.startswith("this net has no GGUF form: ") and reason in said


def byte_level(*steps, ignore_merges=False) -> Tokenizer:
    """Byte-level BPE of this file's text, with this pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(list(steps))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [Path(__file__).read_text(encoding="utf-8")],
        trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def sentencepiece() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges as transformers converts them from SentencePiece: all pairs that make a piece, piece by piece."""
    tokenizer = byte_level(pre_tokenizers.Metaspace())
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)[len(SPECIAL) :]
    numbered = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + pieces
    vocab = {piece: number for number, piece in enumerate(numbered)}
    cuts = [(piece[:cut], piece[cut:]) for piece in pieces for cut in range(1, len(piece))]
    return vocab, [(left, right) for left, right in cuts if left in vocab and right in vocab]


def with_prefix() -> Tokenizer:
    """Llama 2's tokenizer, which puts a space before every text."""
    tokenizer = Tokenizer(models.BPE(*sentencepiece(), unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def split(digits: str) -> tuple:
    pattern = PRETOKENIZE_REGEX.replace(r"\p{N}|", rf"\p{{N}}{digits}|")
    return pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)


WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
TOKENIZERS = {
    "gpt-2": lambda: byte_level(WORDS),
    "smollm": lambda: byte_level(DIGITS, WORDS),
    "qwen2": lambda: byte_level(*split("")),
    "llama-bpe": lambda: byte_level(*split("{1,3}"), ignore_merges=True),
    "default": with_prefix,
}


def wrapped(tokenizer: Tokenizer, **names) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>", **names)


@pytest.mark.parametrize("pre", TOKENIZERS)
def test_llama_cpp_makes_the_tokens_of_transformers(pre, tmp_path):
    tokenizer = wrapped(TOKENIZERS[pre](), eos_token="</s>", chat_template="{{ messages }}")
    assert_same_tokens(tokenizer, pre, TEXTS, tmp_path)


def test_a_tokenizer_that_a_search_has_trained(tmp_path):
    rows = [{"text": Path(__file__).read_text(encoding="utf-8")}]
    tokenizer = load_tokenizer(DataArguments(vocab_size=500), {"train": rows})
    assert_same_tokens(tokenizer, "gpt-2", [*TEXTS[:3], "a<|endoftext|>b"], tmp_path)


def test_a_tokenizer_of_a_llama_without_spaces_in_front(tmp_path):
    """transformers puts none before a text that has one, or after a special token, and llama.cpp does."""
    vocab, merges = sentencepiece()
    texts = [text for text in TEXTS if text[0] != " " and "</s>" not in text]
    assert_same_tokens(LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True), "default", texts, tmp_path)


def assert_same_tokens(tokenizer, pre, texts, tmp_path):
    model = LlamaForCausalLM(LlamaConfig(**LLAMA | {"vocab_size": len(tokenizer) + 3}))
    assert export_gguf(model, tmp_path / "gguf", tokenizer).tokenizer
    llama = in_llama_cpp(tmp_path / "gguf")
    vocab = llama.get_vocab()
    for text in texts:
        assert vocab.tokenize(text, True, True) == tokenizer(text)["input_ids"], text
        inside = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert vocab.tokenize(text, False, True) == inside, text
        assert text[0] == "a" or vocab.detokenize(inside) == text.lstrip()  # which the bindings do
    assert all(vocab.is_control(number) for number in tokenizer.all_special_ids)
    assert vocab.token_eos() == tokenizer.eos_token_id and vocab.token_bos() == tokenizer.bos_token_id
    assert vocab.n_vocab == model.config.vocab_size and llama.meta_val_str("tokenizer.ggml.pre") == pre


@pytest.mark.parametrize(
    "tokenizer, reason",
    [
        (lambda: wrapped(Tokenizer(models.WordLevel({"a": 0})), eos_token="a"), "it is a WordLevel"),
        (lambda: wrapped(byte_level(WORDS)), "no eos_token"),
        (lambda: wrapped(byte_level(pre_tokenizers.ByteLevel()), eos_token="</s>"), "none of gpt-2, smollm"),
        (lambda: wrapped(byte_level(*split("{1,3}")), eos_token="</s>"), "none of gpt-2, smollm"),
        (lambda: wrapped(byte_level(WORDS), eos_token="</s>"), "up to number 499"),
        (lambda: LlamaTokenizer(vocab=sentencepiece()[0], merges=sentencepiece()[1][1:]), "would merge"),
    ],
)
def test_tokenizers_that_llama_cpp_would_read_otherwise_are_refused(tokenizer, reason, tmp_path):
    said = refused(LlamaForCausalLM(LlamaConfig(**LLAMA)), tmp_path, tokenizer())
    assert said.startswith("the tokenizer has no GGUF form: ") and reason in said


def test_the_command_and_nothing_half_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    supernet = llama()
    sizes = {"intermediate_size": [8, 20], "num_key_value_heads": [1, 2], "num_key_value_groups": 2}
    arch = supernet.space.architecture(hidden_size=32, num_hidden_layers=2, **sizes)
    subnet, folder = extract(supernet, arch), Path("model-gguf")
    supernet.save_pretrained("supernet")
    subnet.save_pretrained("model")
    Path("model/architecture.json").write_text(arch.to_json())
    main(["export", "supernet", "--arch", "model/architecture.json", "--form", "gguf", "--output", "model-gguf"])
    main(["export", "model", "--form", "gguf"])  # replaces it
    said = capsys.readouterr().out
    assert said.count("runs as    deci in llama.cpp") == said.count("none: the file takes numbers of tokens") == 2
    main(["info", "model-gguf"])
    said = capsys.readouterr().out
    assert str(arch) in said and "llama-cli -m model-gguf/model.gguf" in said
    assert {path.name for path in folder.iterdir()} == {"model.gguf", "architecture.json"}
    with torch.no_grad():
        expected = subnet(torch.tensor([TOKENS])).logits[0]
    torch.testing.assert_close(in_llama_cpp(folder).logits(TOKENS), expected, rtol=0, atol=1e-4)

    before = (folder / "model.gguf").read_bytes()
    add_tensor = gguf.GGUFWriter.add_tensor
    with monkeypatch.context() as damaged:
        damaged.setattr(gguf.GGUFWriter, "add_tensor", lambda self, name, data, **_: add_tensor(self, name, data + 1))
        with pytest.raises(
            ValueError, match="would differ from the model in .*token_embd.weight.*; nothing was written"
        ):
            export_gguf(subnet, folder)
    with pytest.raises(ValueError, match="torch.float64; load it with dtype=torch.float32"):
        export_gguf(extract(supernet, arch).double(), tmp_path / "double")
    with pytest.raises(ValueError, match="holds no earlier export with model.gguf"):
        export_gguf(subnet, "model")
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "gguf", None)
        with pytest.raises(
            ImportError, match=r"gguf is not installed; install it with: pip install 'tangle_hf\[gguf\]'"
        ):
            export_gguf(subnet, folder)
    with pytest.raises(SystemExit, match="is a model already"):
        main(["export", "model-gguf", "--form", "gguf"])
    assert (folder / "model.gguf").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-gguf", "supernet"}
