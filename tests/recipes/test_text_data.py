"""Text: nothing is lost, blocks have one size, the two parts of a search do not overlap."""

import json

import pytest
from datasets.distributed import split_dataset_by_node
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tangle_hf.data.text import DataArguments, load_texts, load_tokenizer, pack, split_for_search


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
    with pytest.raises(ValueError, match="'somebody/something' could not be loaded"):
        load_texts(DataArguments(dataset="somebody/something"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "is empty; give at least one text"),
        ("empty.jsonl", b"", "is empty; give at least one text"),
        ("latin.txt", b"caf\xe9 " * 50, "could not be read .*utf-8"),
        ("broken.jsonl", b"{nope", "could not be read .*JSON"),
        ("null.jsonl", b'{"text": "a"}\n{"text": null}\n' * 30, "a null in column 'text'"),
        ("nulls.jsonl", b'{"text": null}\n' * 30, "a null in column 'text'"),
    ],
)
def test_files_without_text_are_named(tmp_path, name, content, message, streaming):
    (tmp_path / name).write_bytes(content)
    data = DataArguments(train_file=str(tmp_path / name), block_size=16, vocab_size=300, streaming=streaming)
    with pytest.raises(ValueError, match=f"train_file=.*{name} .*{message}"):
        list(load_texts(data)["train"])


def test_a_folder_without_text_is_named(tmp_path):
    (tmp_path / "train.txt").write_text("")
    with pytest.raises(ValueError, match=f"{tmp_path.name}' could not be loaded"):
        load_texts(DataArguments(dataset=str(tmp_path)))


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


def test_a_folder_of_text_files_keeps_its_newlines_and_has_no_end_inside(files, tmp_path):
    data = DataArguments(dataset=str(tmp_path), block_size=16, vocab_size=300)
    texts = load_texts(data)
    assert "".join(texts["train"]["text"]) == TEXT
    tokenizer = load_tokenizer(data, texts)
    assert all(tokenizer.eos_token_id not in row["input_ids"] for row in pack(texts["train"], tokenizer, data))


def test_little_of_a_long_text_file_is_dropped(files, tmp_path):
    (tmp_path / "train.txt").write_text("ab\n" * 9_000)  # few tokens a line: small batches would drop percents
    data = DataArguments(**files | {"block_size": 1024})
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    count = sum(len(ids) for ids in tokenizer(list(texts["train"]["text"]), verbose=False)["input_ids"])
    assert len(pack(texts["train"], tokenizer, data)) == count // 1024


def test_streamed_text_files_pack_in_more_than_one_batch(files, tmp_path):
    (tmp_path / "train.txt").write_text(TEXT * 60)
    data = DataArguments(**files, streaming=True)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    assert set(next(iter(pack(texts["train"], tokenizer, data)))) == {"input_ids", "labels"}
    with pytest.raises(ValueError, match="validation text is shorter"):
        pack(texts["validation"], tokenizer, DataArguments(**files | {"block_size": 10**5}), "validation")


def test_training_processes_never_see_what_was_cut_out_of_a_stream(tmp_path, monkeypatch):
    (tmp_path / "json").mkdir()  # a folder called as a builder of datasets is a folder all the same
    for shard in (0, 1):  # 203 rows: the second shard's rows have other positions when a process reads it alone
        rows = "".join(json.dumps({"text": f"document {shard} {i}"}) + "\n" for i in range(203))
        (tmp_path / "json" / f"train-{shard}.jsonl").write_text(rows)
    (tmp_path / "train-beside.jsonl").write_text(json.dumps({"text": "of nobody"}))
    monkeypatch.chdir(tmp_path)
    texts = load_texts(DataArguments(dataset="json", streaming=True))
    kept_out = [{row["text"] for row in texts[name]} for name in ("validation", "test")]
    seen = {row["text"] for rank in (0, 1) for row in split_dataset_by_node(texts["train"], rank, 2)}
    assert all(kept_out) and not kept_out[0] & kept_out[1] and not seen & (kept_out[0] | kept_out[1])
    assert len(seen | kept_out[0] | kept_out[1]) == 406


def test_no_token_but_the_end_is_added_and_an_end_is_needed(files, tmp_path):
    data = DataArguments(**files)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    begin = [(tokenizer.bos_token, tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=begin)
    assert all(tokenizer.bos_token_id not in row["input_ids"] for row in pack(texts["train"], tokenizer, data))
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="no eos_token"):
        load_tokenizer(DataArguments(**files | {"tokenizer": str(tmp_path / "tokenizer")}), texts)
