"""Text: nothing is lost, blocks have one size, the two parts of a search do not overlap."""

import gc
import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets.distributed import split_dataset_by_node
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tangle_hf.data.files import files_below
from tangle_hf.data.text import load_texts, split_for_search
from tangle_hf.data.text_examples import load_text
from tangle_hf.data.text_settings import DataArguments, describe
from tangle_hf.data.tokens import load_tokenizer, pack


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


def with_marks(tokenizer):
    """The same tokenizer, with a token that begins a text and another one that closes it."""
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return tokenizer


@pytest.mark.parametrize(("separator", "marks"), [(None, "e"), ("eos", "e"), ("bos", "b"), ("both", "eb")])
def test_documents_are_separated_as_asked(separator, marks, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i}"}) + "\n" for i in range(100)))
    data = DataArguments(train_file=str(path), block_size=8, vocab_size=300, separator=separator)
    texts = load_texts(data)
    tokenizer = with_marks(load_tokenizer(data, texts))
    tokens = [int(token) for row in pack(texts["train"], tokenizer, data) for token in row["input_ids"]]
    between = [{"e": tokenizer.eos_token_id, "b": tokenizer.bos_token_id}[mark] for mark in marks]
    expected = [t for row in texts["train"]["text"] for t in [*tokenizer(row)["input_ids"], *between]]
    assert tokens == expected[: len(tokens)] and len(expected) - len(tokens) < 8


def test_a_separator_that_cannot_be_is_refused(files):
    with pytest.raises(ValueError, match="separator='newline'.*eos, bos, both"):
        DataArguments(**files, separator="newline")
    data = DataArguments(**files, separator="bos")
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    tokenizer.bos_token = None
    with pytest.raises(ValueError, match="separator=bos needs a bos_token.*use eos"):
        pack(texts["train"], tokenizer, data)


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


def test_several_processes_keep_the_parts_of_a_stream_apart(tmp_path):
    """Each packs its own shards, so that blocks have other numbers than where one process reads all."""
    (tmp_path / "json").mkdir()
    for shard in range(4):
        rows = (json.dumps({"text": f"story{shard}x{i} " * 4}) + "\n" for i in range(100))
        (tmp_path / "json" / f"train-{shard}.jsonl").write_text("".join(rows))
    data = DataArguments(dataset=str(tmp_path / "json"), block_size=8, vocab_size=300, streaming=True)
    text = load_text(data)
    weights, architecture = text.split(0.8, seed=0)

    def stories(blocks):
        words = text.processor.decode([token for row in blocks for token in row["input_ids"].tolist()])
        return {*re.findall(r"story\dx\d+ ", words)}

    trained = {word for rank in range(2) for word in stories(split_dataset_by_node(weights, rank, 2))}
    assert len(trained) > 3 * len(stories(architecture)) > 0 and not trained & stories(architecture)


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
    with pytest.raises(ValueError, match=f"{tmp_path.name}' is empty; give at least one text"):
        load_texts(DataArguments(dataset=str(tmp_path)))
    (tmp_path / "train.txt").rename(tmp_path / "train.pdf")
    with pytest.raises(ValueError, match=r"holds no file ending in \.txt"):
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


LINES = "a line of text\n" * 50
WORDS = [f"word {n}" for n in range(60)]


def write(folder, files: dict) -> None:
    """Files of texts: name -> a text, or the texts of documents."""
    for name, texts in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [texts] if isinstance(texts, str) else [json.dumps({"text": text}) + "\n" for text in texts]
        content = "".join(rows).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def words(split) -> set[str]:
    return {row["text"].strip() for row in split}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("files", "train", "test"),
    [
        ({"Train.txt": "a", "Test.txt": "b", "VAL.txt": "c"}, "a", "b"),
        ({"Training/x.txt": "a", "testing/y.txt": "b", "dev/z.txt": "c"}, "a", "b"),
        ({"train-00000-of-00001.jsonl": ["a"], "eval-00000-of-00001.jsonl": ["b"], "valid.jsonl": ["c"]}, "a", "b"),
        ({"data/train.txt.gz": "a", "data/test.txt": "b", "data/validation.md": "c", "README.md": "no"}, "a", "b"),
        ({"train/test/x.txt": "a", "test/train/y.txt": "b", "val/test/z.txt": "c"}, "a", "b"),
        ({"archive/train/x.txt": "a", "archive/test/y.txt": "b", "archive/val/z.txt": "c"}, "a", "b"),
        ({"train.txt": "a", "test.txt": "b", "val.txt": "c", "old train 3.txt": "no", "notes.txt": "no"}, "a", "b"),
    ],
)
def test_first_folders_and_whole_names_are_splits(tmp_path, files, train, test, streaming):
    write(tmp_path, files)
    found = load_texts(DataArguments(dataset=str(tmp_path), streaming=streaming))
    assert {name: words(split) for name, split in found.items()} == {
        "train": {train}, "test": {test}, "validation": {"c"}
    }  # fmt: skip


def test_without_names_of_splits_all_is_train_and_counted(tmp_path, capsys):
    write(tmp_path, {f"novels/my test {n}.txt": f"text {n}\n" * 20 for n in range(3)} | {"b/chapter-1.txt": "x\n"})
    found = load_texts(DataArguments(dataset=str(tmp_path)))
    assert set.union(*(words(split) for split in found.values())) == {"text 0", "text 1", "text 2", "x"}
    assert "train: 56 lines; validation: 3 lines; test: 2 lines" in capsys.readouterr().out


def test_what_is_of_no_split_or_not_used_is_said(tmp_path, capsys):
    write(tmp_path, {"train.txt": "a\n" * 40, "extra.txt": "b", "val.txt": "c", "dev.txt": "d"})
    load_texts(DataArguments(dataset=str(tmp_path)))
    said = capsys.readouterr().out
    assert "of no split by their name or first folder: extra.txt" in said and "splits ['dev'] are not used" in said
    assert "train: 38 lines; validation: 1 line; test: 2 lines" in said


def test_a_file_of_two_splits_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match="train.txt is in train and in test"):
        load_texts(DataArguments(**files | {"test_file": f"{tmp_path}/../{tmp_path.name}/train.txt"}))
    write(tmp_path / "d", {"train/test.txt": "a", "train/x.txt": "a"})
    with pytest.raises(ValueError, match="train/test.txt is of two splits, 'train' by its folder"):
        load_texts(DataArguments(dataset=str(tmp_path / "d")))
    with pytest.raises(ValueError, match="holds d/train/test.txt, .*of another split by name; give the folder as"):
        load_texts(DataArguments(train_file=str(tmp_path)))


def ends(split, tokenizer, data) -> int:
    return sum(row["input_ids"].tolist().count(tokenizer.eos_token_id) for row in pack(split, tokenizer, data))


@pytest.mark.parametrize("streaming", [False, True])
def test_what_was_read_decides_on_lines_or_documents(tmp_path, streaming):
    write(tmp_path, {"a.jsonl": WORDS[:50], "b.txt": LINES, "c.txt.gz": LINES})
    options = {"block_size": 2, "vocab_size": 300, "streaming": streaming}
    for *names, expected in (("a.jsonl", "b.txt", "c.txt.gz", (50, 0)), ("c.txt.gz", "a.jsonl", "b.txt", (0, 50))):
        given = zip(("train_file", "test_file", "validation_file"), names, strict=True)
        data = DataArguments(**{option: str(tmp_path / name) for option, name in given}, **options)
        texts = load_texts(data)
        tokenizer = load_tokenizer(data, texts)
        assert (ends(texts["train"], tokenizer, data), ends(texts["test"], tokenizer, data)) == expected
    data = DataArguments(train_file=[str(tmp_path / name) for name in ("a.jsonl", "b.txt")], **options)
    texts = load_texts(data)
    tokenizer = load_tokenizer(data, texts)
    # Of rows that are cut out of a stream nobody knows the number.
    assert 45 <= sum(ends(texts[name], tokenizer, data) for name in texts) <= 50


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pandas leaves a stream open
@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_texts_with_a_stray_table_keeps_its_newlines(tmp_path, capsys, streaming):
    write(tmp_path, {"a.txt": TEXT, "b.csv": "name,age\nA,3\n"})
    texts = load_texts(DataArguments(dataset=str(tmp_path), streaming=streaming))
    assert sum(len(row["text"]) for split in texts.values() for row in split) == len(TEXT)
    assert "without a column 'text': b.csv" in capsys.readouterr().out
    gc.collect()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.txt", "b.TXT"], {"a", "b"}),
        ("more", {"c", "d", "e"}),
        ("more/*.txt*", {"c", "d"}),
        ("~/a.txt", {"a"}),
        ("b.TXT", {"b"}),
        ("more/d.txt.gz", {"d"}),
        ("more/e.md", {"e"}),
        ("odd [1].txt", {"f"}),
    ],
)
def test_files_are_named_as_people_do(tmp_path, monkeypatch, given, expected):
    names = ("a.txt", "b.TXT", "more/c.txt", "more/d.txt.gz", "more/e.md", "odd [1].txt", ".hidden/g.txt")
    write(tmp_path, {name: f"{letter}\n" * 40 for name, letter in zip(names, "abcdefg", strict=True)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = load_texts(DataArguments(train_file=given))
    assert set.union(*(words(split) for split in found.values())) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_file": "https://x.org/a.txt"}, "train_file=https://x.org/a.txt is a URL"),
        ({"dataset": "https://x.org/a"}, "dataset=https://x.org/a is a URL"),
        ({"dataset": "a.zip"}, "a.zip is an archive; unpack it"),
        ({"dataset": "a.txt"}, "a.txt is a file; give it as --train_file"),
        ({"dataset": ".", "dataset_config": "en"}, "no README.md that names configurations"),
        ({"train_file": "*.nothing"}, r"must be an existing file ending in \.txt"),
        ({"train_file": "a.zip"}, r"must be an existing file ending in \.txt"),
    ],
)
def test_names_that_are_no_text_are_refused(tmp_path, monkeypatch, given, message):
    write(tmp_path, {"a.txt": "a\n" * 40, "a.zip": "?"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_texts(DataArguments(**given))


def test_a_link_to_a_folder_above_repeats_nothing(tmp_path):
    write(tmp_path, {"a.txt": LINES})
    (tmp_path / "again").symlink_to(tmp_path)
    assert sum(len(split) for split in load_texts(DataArguments(dataset=str(tmp_path))).values()) == 50


def test_words_of_a_table_are_text_and_another_kind_of_column_is_one_line(tmp_path):
    (tmp_path / "a.csv").write_text("text,n\n" + "a,1\n" * 50 + "null,2\nNA,3\n")
    found = load_texts(DataArguments(train_file=str(tmp_path / "a.csv")))
    assert set.union(*(words(split) for split in found.values())) == {"a", "null", "NA"}
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "a", "n": 1}\n')
    (tmp_path / "c.jsonl").write_text('{"text": [1]}\n')
    with pytest.raises(ValueError, match=r"\(c.jsonl\): column 'text' holds lists") as error:
        load_texts(DataArguments(train_file=[str(tmp_path / f"{name}.jsonl") for name in "abc"]))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="text_column=end_of_text is a name"):
        DataArguments(text_column="end_of_text")


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    write(tmp_path / "stories", {"a.txt": "\ufeffa\n" * 1 + "b\n" * 40})
    monkeypatch.chdir(tmp_path / "stories")
    data = DataArguments(dataset=".")
    assert words(load_texts(data)["train"]) == {"a", "b"}  # a byte-order mark is no text
    assert describe(data) == "stories" and describe(DataArguments(train_file=".")) == "the text of stories"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("column", "holds"),
    [
        (pa.array([["a", "b"]] * 30), "lists of texts"),
        (pa.array([3] * 30), r"numbers \(int64\)"),
        (pa.array([2.5] * 30), r"numbers \(double|float64\)"),
        (pa.array([True] * 30), "true and false"),
        (pa.array([b"a"] * 30), "bytes"),
        (pa.array([[{"role": "user", "content": "hi"}]] * 30), "chat messages"),
        (pa.array([{"a": 1}] * 30), r"structs with the fields \['a'\]"),
        (pa.array(WORDS, pa.large_string()), None),
        (pa.array(WORDS, pa.string_view()), None),
    ],
)
def test_columns_of_something_else_are_named(tmp_path, column, holds, streaming):
    pa.parquet.write_table(pa.table({"text": column}), tmp_path / "x.parquet")
    data = DataArguments(train_file=str(tmp_path / "x.parquet"), streaming=streaming)
    if holds is None:
        assert set.union(*(words(split) for split in load_texts(data).values())) == set(WORDS)
    else:
        with pytest.raises(ValueError, match=f"x.parquet: column 'text' holds {holds}.*--text_column"):
            load_texts(data)


@pytest.mark.parametrize("streaming", [False, True])
def test_one_stray_number_is_named(tmp_path, streaming):
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n' * 29 + '{"text": 3}\n')
    with pytest.raises(ValueError, match="column 'text' holds values of different types"):
        load_texts(DataArguments(train_file=str(tmp_path / "x.jsonl"), streaming=streaming))


def test_links_never_hide_a_split_or_share_a_file(tmp_path):
    write(tmp_path / "d", {"train/x.txt": "a", "validation/x.txt": "b", "test/x.txt": "c"})
    (tmp_path / "d" / "latest").symlink_to("train")  # comes first in the alphabet
    found = load_texts(DataArguments(dataset=str(tmp_path / "d")))
    assert {name: words(split) for name, split in found.items()} == {
        "train": {"a"},
        "validation": {"b"},
        "test": {"c"},
    }
    (tmp_path / "d" / "train" / "more").symlink_to("../validation")
    with pytest.raises(ValueError, match="x.txt is in train and in validation"):
        load_texts(DataArguments(dataset=str(tmp_path / "d")))
    (tmp_path / "d" / "train" / "more").unlink()
    for name in ("train", "test"):  # round and round
        (tmp_path / "d" / name / "up").symlink_to("../..")
    assert len(files_below(tmp_path / "d", [".txt"])) < 100


def test_the_same_content_in_two_splits_is_said(tmp_path, capsys):
    write(tmp_path, {"train.txt": LINES, "test.txt": LINES, "val.txt": LINES.replace("line", "lane")})
    load_texts(DataArguments(dataset=str(tmp_path)))
    said = capsys.readouterr().out
    assert "test.txt of test has the content of train.txt of train" in said and "val.txt" not in said


def test_tables_need_only_the_text_column_in_common(tmp_path):
    pyarrow.parquet.write_table(pa.table({"text": [f"a {n}" for n in range(30)]}), tmp_path / "train_1.parquet")
    large = pa.table({"text": pa.array([f"b {n}" for n in range(30)], pa.large_string()), "meta": [{"n": 1}] * 30})
    pyarrow.parquet.write_table(large, tmp_path / "train_2.parquet")
    found = load_texts(DataArguments(dataset=str(tmp_path)))
    assert sum(len(split) for split in found.values()) == 60 and {"a 0", "b 0"} <= words(found["train"])
    pyarrow.parquet.write_table(pa.table({"body": ["c"]}), tmp_path / "train_3.parquet")
    with pytest.raises(ValueError, match=r"\(train_3.parquet\) has columns \['body'\], none is 'text'"):
        load_texts(DataArguments(dataset=str(tmp_path)))
