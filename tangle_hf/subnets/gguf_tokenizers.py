"""GGUF, the tokenizer: vocabulary, merges and special tokens as fields of a file, where llama.cpp makes the same tokens."""

import json
from typing import NoReturn

from transformers import PreTrainedTokenizerBase


WORDS = (  # how the tokenizers of Qwen2 and Llama 3 cut a text into words; they differ in how many digits stay together
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _words(digits: str) -> dict:
    pattern = {"Regex": WORDS.replace("DIGITS", digits)}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
GPT2_WORDS = BYTES | {"use_regex": True}
CUTS = {  # llama.cpp's name of a pre-tokenizer -> its steps in tokenizer.json, and whether whole words are looked up first
    "gpt-2": ([GPT2_WORDS], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}, GPT2_WORDS], False),
    "qwen2": ([_words(""), BYTES], False),
    "llama-bpe": ([_words("{1,3}"), BYTES], True),
}


def add_tokenizer(writer, tokenizer: PreTrainedTokenizerBase | None, vocab_size: int) -> None:
    """Writes a tokenizer, so that llama.cpp makes the tokens of a text that transformers makes of it.

    These are byte-level BPE with the pre-tokenizers of `CUTS`, and BPE with byte fallback as converted from SentencePiece.
    Texts are taken to be in the normal form NFC, which llama.cpp does not make. Numbers without a token are filled up.

    Args:
        writer: A `gguf.GGUFWriter`.
        tokenizer: A tokenizer of transformers, or None: then the file has no texts of tokens, and takes numbers only.
        vocab_size: Rows of the embedding.

    Raises:
        ValueError: llama.cpp would not make the same tokens; the message says why.
    """
    if tokenizer is None:
        writer.add_tokenizer_model("none")
        return
    if not getattr(tokenizer, "is_fast", False):
        _refuse("it is none of the package tokenizers, with a tokenizer.json")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    bpe = state["model"]
    if bpe["type"] != "BPE" or any(bpe.get(name) for name in ("dropout", *AFFIXES)):
        _refuse(f"it is a {bpe['type']}, and llama.cpp computes BPE alike, without dropout, prefixes and suffixes")
    if tokenizer.eos_token_id is None:
        _refuse("it has no eos_token, and llama.cpp would take another token for one")
    (_add_byte_fallback if bpe.get("byte_fallback") else _add_byte_level)(writer, state, vocab_size)
    _add_special_tokens(writer, tokenizer)


def _add_byte_level(writer, state: dict, vocab_size: int) -> None:
    bpe = state["model"]
    steps = [
        {name: value for name, value in step.items() if name != "trim_offsets"}
        for step in _steps(state, "pre_tokenizer")
    ]
    found = (steps, bool(bpe.get("ignore_merges")))
    pre = next((name for name, known in CUTS.items() if known == found), None)
    if pre is None or _steps(state, "normalizer") not in ([], [{"type": "NFC"}]):
        _refuse(f"its normalizer and pre-tokenizer together are none of {', '.join(CUTS)}")
    texts, types = _tokens(state, vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])


def _add_byte_fallback(writer, state: dict, vocab_size: int) -> None:
    """llama.cpp merges by the score of the merged token, whichever two tokens it is made of: the earlier merge, the higher."""
    import gguf

    vocab, merges = state["model"]["vocab"], [tuple(pair) for pair in state["model"]["merges"]]
    space, prefix = _spaces(state)
    pairs, added = {*merges}, {token["content"] for token in state["added_tokens"]}
    for token in vocab.keys() - added:
        for cut in range(1, len(token)):
            pair = token[:cut], token[cut:]
            if pair not in pairs and pair[0] in vocab and pair[1] in vocab:
                _refuse(f"llama.cpp would merge {pair[0]!r} and {pair[1]!r}, and it does not")
    bytes_ = {f"<0x{byte:02X}>" for byte in range(256)}
    if not bytes_ <= vocab.keys():
        _refuse("it has byte fallback, and no token for some bytes")
    ranks = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    texts, types = _tokens(state, vocab_size)
    for number, text in enumerate(texts):
        if text in bytes_:
            types[number] = gguf.TokenType.BYTE
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text.replace(space, "\u2581") for text in texts])
    writer.add_token_scores([float(-ranks.get(text, len(merges))) for text in texts])
    writer.add_token_types(types)
    writer.add_add_space_prefix(prefix)
    writer.add_remove_extra_whitespaces(False)


def _spaces(state: dict) -> tuple[str, bool]:
    """What stands for a space inside tokens, and whether a text gets one in front."""
    normal, cut = _steps(state, "normalizer"), _steps(state, "pre_tokenizer")
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    if not cut and normal == [{"type": "Prepend", "prepend": " "}]:
        return " ", True
    if not cut and normal in ([{"type": "Prepend", "prepend": "\u2581"}, replace], [replace]):
        return "\u2581", len(normal) == 2
    known = {"type": "Metaspace", "replacement": "\u2581", "split": False}
    if not normal and len(cut) == 1 and known.items() <= cut[0].items():
        return "\u2581", cut[0].get("prepend_scheme") != "never"
    _refuse("its spaces are not treated as SentencePiece does")


def _tokens(state: dict, vocab_size: int) -> tuple[list[str], list[int]]:
    """Text and type of every number below `vocab_size`."""
    import gguf

    added = {token["id"]: token for token in state["added_tokens"]}
    texts = {number: text for text, number in state["model"]["vocab"].items()}
    texts |= {number: token["content"] for number, token in added.items()}
    if (last := max(texts, default=0)) >= vocab_size:
        _refuse(f"its tokens go up to number {last}, and the net has an embedding of {vocab_size}")
    kinds = gguf.TokenType
    types = [
        (kinds.CONTROL if added[number]["special"] else kinds.USER_DEFINED)
        if number in added
        else (kinds.NORMAL if number in texts else kinds.UNUSED)
        for number in range(vocab_size)
    ]
    return [texts.get(number, f"[PAD{number}]") for number in range(vocab_size)], types


def _add_special_tokens(writer, tokenizer: PreTrainedTokenizerBase) -> None:
    """Which tokens are special, which of them a text gets, and the template of a chat."""
    end = tokenizer.eos_token_id
    # Without a begin of text in the file, llama.cpp takes a number of its own.
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    writer.add_bos_token_id(begin)
    writer.add_eos_token_id(end)
    for kind in ("unk", "pad"):
        if (number := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(number)
    around = tokenizer("a")["input_ids"]
    inside = tokenizer("a", add_special_tokens=False)["input_ids"]
    first, last = around[:1] == [begin] != inside[:1], around[-1:] == [end] != inside[-1:]
    if [begin] * first + inside + [end] * last != around:
        _refuse("it adds other special tokens to a text than one in front and one behind")
    writer.add_add_bos_token(first)
    writer.add_add_eos_token(last)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _steps(state: dict, name: str) -> list[dict]:
    """The steps of a normalizer or pre-tokenizer."""
    found = state[name]
    if found is None:
        return []
    if found["type"] == "Sequence":
        return found[{"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}[name]]
    return [found]


def _refuse(reason: str) -> NoReturn:
    raise ValueError(
        f"the tokenizer has no GGUF form: {reason}; export_gguf(model, folder) without a tokenizer writes the net alone"
    )
