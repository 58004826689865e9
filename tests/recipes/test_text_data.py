"""Text: nothing is lost, blocks have one size, the two parts of a search do not overlap."""

import json

import pytest
from text_data import DataArguments, load_texts, load_tokenizer, pack, split_for_search
from transformers import AutoTokenizer


TEXT = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(400))


@pytest.fixture
def files(tmp_path):
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.txt").write_text(TEXT)
    names = {f"{name}_file": str(tmp_path / f"{name}.txt") for name in ("train", "validation", "test")}
    return {"block_size": 16, "vocab_size": 300, **names}


def test_a_text_file_comes_back_from_its_blocks(files):
    data = DataArguments(**files)
    texts = load_texts(data)
    assert "".join(texts["train"]["text"]) == TEXT
    tokenizer = load_tokenizer(data, texts)
    blocks = pack(texts["train"], tokenizer, data)
    assert blocks[0]["input_ids"].shape == (16,) and (blocks[0]["labels"] == blocks[0]["input_ids"]).all()
    decoded = "".join(tokenizer.decode(row["input_ids"]) for row in blocks)
    assert TEXT.startswith(decoded) and len(TEXT) - len(decoded) < 100


def test_streams_give_the_blocks_of_the_file(files):
    data, streamed = DataArguments(**files), DataArguments(**files, streaming=True)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    expected = [row["input_ids"].tolist() for row in pack(texts["train"], tokenizer, data)]
    stream = pack(load_texts(streamed)["train"], tokenizer, streamed)
    assert [row["input_ids"].tolist() for row in stream] == expected
    weights, arch = split_for_search(stream, 0.8, 0)
    parts = [[row["input_ids"].tolist() for row in part] for part in (weights, arch)]
    assert sorted(parts[0] + parts[1]) == sorted(expected) and len(parts[0]) > 3 * len(parts[1]) > 0


def test_documents_of_json_are_closed_by_end_of_text(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i} " * 5}) + "\n" for i in range(100)))
    data = DataArguments(train_file=str(path), block_size=16, vocab_size=300)
    texts = load_texts(data)
    assert [len(texts[name]) for name in ("train", "validation", "test")] == [91, 5, 4]
    tokenizer = load_tokenizer(data, texts)
    tokens = [t for row in pack(texts["train"], tokenizer, data) for t in row["input_ids"].tolist()]
    assert tokens.count(tokenizer.eos_token_id) in (89, 90, 91)


def test_the_embedded_text_has_three_parts():
    data = DataArguments()
    texts = load_texts(data)
    assert all(len(texts[name]) > 5 for name in ("train", "validation", "test"))
    assert not set(texts["train"]["text"]) & set(texts["test"]["text"])


def test_a_tokenizer_round_trips_and_must_fit_the_vocabulary(files, tmp_path):
    data = DataArguments(**files)
    tokenizer = load_tokenizer(data, load_texts(data))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    assert AutoTokenizer.from_pretrained(tmp_path / "tokenizer")("the fox").input_ids == tokenizer("the fox").input_ids
    with pytest.raises(ValueError, match="has 300 tokens, vocab_size=100"):
        load_tokenizer(DataArguments(**files | {"tokenizer": str(tmp_path / "tokenizer"), "vocab_size": 100}), {})
    with pytest.raises(ValueError, match="nowhere"):
        load_tokenizer(DataArguments(**files | {"tokenizer": "nowhere"}), {})


def test_bad_data_is_named(files, tmp_path):
    data = DataArguments(**files | {"block_size": 100_000})
    texts = load_texts(data)
    with pytest.raises(ValueError, match="test text.*shorter than one block of 100000"):
        pack(texts["test"], load_tokenizer(data, texts), data, "test")
    with pytest.raises(ValueError, match="missing.txt"):
        load_texts(DataArguments(train_file=str(tmp_path / "missing.txt")))
    with pytest.raises(ValueError, match="story"):
        load_texts(DataArguments(**files, text_column="story"))
    with pytest.raises(ValueError, match="choose one"):
        DataArguments(dataset="a", train_file="b.txt")
    with pytest.raises(ValueError, match="could not be reached"):
        load_texts(DataArguments(dataset="somebody/something"))


def test_the_split_has_no_overlap_and_two_parts(files):
    data = DataArguments(**files)
    texts = load_texts(data)
    blocks = pack(texts["train"], load_tokenizer(data, texts), data).add_column("number", range(
        len(pack(texts["train"], load_tokenizer(data, texts), data))))  # fmt: skip
    weights, arch = split_for_search(blocks, 0.8, 0)
    numbers = [int(n) for part in (weights, arch) for n in part["number"]]
    assert sorted(numbers) == list(range(len(blocks))) and len(weights) == round(0.8 * len(blocks))
    with pytest.raises(ValueError, match="one part empty"):
        split_for_search(blocks.select(range(2)), 0.9, 0)
