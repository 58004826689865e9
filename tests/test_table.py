"""Tables of trained architectures: three formats, means over seeds, and errors that name the row."""

import csv
import json
from functools import partial

import pytest

from tangle_hf.data.trained_tables import look_up, read_table
from tangle_hf.models.cells.subnets_cells import architecture_of, genotype_of
from tangle_hf.space import Architecture


PARSE = partial(architecture_of, "nas_bench_201")
A = Architecture(normal=["none"] * 5 + ["nor_conv_3x3"])
B = Architecture(normal=["skip_connect"] * 6)
ROWS = [
    {"arch": A.to_dict(), "seed": 0, "accuracy": 0.5, "note": "first"},
    {"arch": A.to_dict(), "seed": 1, "accuracy": 0.7},
    {"arch": B.to_dict(), "seed": 0, "accuracy": 0.25, "loss": 2},
]


def write(path, kind):
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "notation":
        path.write_text(
            json.dumps([{**row, "arch": genotype_of("nas_bench_201", Architecture(row["arch"]))} for row in ROWS])
        )
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["arch", "seed", "accuracy", "loss", "note"])
            writer.writeheader()
            writer.writerows({**row, "arch": json.dumps(row["arch"])} for row in ROWS)


@pytest.mark.parametrize(
    ("name", "kind"), [("t.jsonl", "jsonl"), ("t.json", "json"), ("t.json", "notation"), ("t.csv", "csv")]
)
def test_every_format_gives_the_same_table(tmp_path, name, kind):
    write(tmp_path / name, kind)
    table = read_table(tmp_path / name, PARSE)
    assert table.keys() == {A, B}
    assert look_up(table, A)["accuracy"] == pytest.approx(0.6)
    assert look_up(table, B) == {"seed": 0.0, "accuracy": 0.25, "loss": 2.0}
    other = Architecture(normal=["avg_pool_3x3"] * 6)
    with pytest.raises(ValueError, match="no architecture normal=avg_pool_3x3.*it has 2 others, e.g. normal=none"):
        look_up(table, other)


def test_an_object_of_architectures_is_a_table_too(tmp_path):
    path = tmp_path / "table.json"
    nothing = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    path.write_text(json.dumps({B.to_json(): {"accuracy": 0.25}, nothing: {"accuracy": 0.1}}))
    assert look_up(read_table(path, PARSE), B) == {"accuracy": 0.25}
    with pytest.raises(ValueError, match="row 2 .*no JSON, and this space has no notation"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "", "must end in"),
        ("t.json", "{", "is no JSON"),
        ("t.json", "3", "must hold a list of objects"),
        ("t.json", '[{"accuracy": 1}]', "row 1 of .* has no arch"),
        ("t.json", '[{"arch": "|none~0|", "accuracy": 1}]', "row 1 of .*has 1 groups"),
        ("t.json", '[{"arch": "{nonsense", "accuracy": 1}]', "is no architecture"),
        ("t.json", '[{"arch": {"normal": ["none"]}, "note": "x"}]', "there is no metric"),
        ("t.json", '[{"arch": {"normal": ["none"]}, "accuracy": NaN}]', "there is no metric"),
        ("t.json", '{"|none~0|": 91.2}', "must hold a list of objects, or an object of architecture -> metrics"),
        ("t.json", '[{"arch": ["none"], "accuracy": 1}]', "row 1 of .*arch=.* must be an object or text"),
        ("t.csv", "accuracy,arch\n1", "row 1 of .*arch=None must be an object or text"),
        ("t.json", '[{"arch": {"normal": null}, "accuracy": 1}]', "row 1 of .*normal=None"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name, PARSE)


def test_a_spreadsheets_mark_and_what_is_no_number_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + b'arch,accuracy,loss\n"{""n"": 1}",0.5,nan\n')
    assert read_table(tmp_path / "t.csv") == {Architecture(n=1): {"accuracy": 0.5}}


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no table"):
        read_table(tmp_path / "missing.json")
