"""The notations of cells, both ways, and what is refused."""

import random

import pytest
import torch

from tangle_hf.models.cells.configuration_elastic_cells import complete_cells
from tangle_hf.models.cells.genotypes import CELLS, check_operations, has_notation, notation, parse
from tangle_hf.models.cells.subnets_cells import architecture_of, discretise_edges, genotype_of


# arXiv:2312.10440, F.5.1, with the quotes of its text.
TOY = (
    "Genotype(normal=[(’dil_conv_3x3’, 0), (’dil_conv_3x3’, 0), (’sep_conv_3x3’, 1)], normal_concat=range(1, 3), "
    "reduce=[(’sep_conv_3x3’, 0), (’sep_conv_3x3’, 0), (’dil_conv_3x3’, 1)], reduce_concat=range(1, 3))"
)
# The cells of arXiv:1806.09055, figures 4 and 5, in their published order.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
NB201 = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"


def test_darts_has_fourteen_edges():
    assert len(CELLS["darts"].edges) == 14 and CELLS["darts"].edges[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert len(CELLS["nas_bench_201"].edges) == 6 and CELLS["toy_cell"].edges == ((0, 1), (0, 2), (1, 2))


@pytest.mark.parametrize("cell", CELLS)
def test_random_architectures_go_through_the_notation_and_back(cell):
    space, rng = complete_cells(cell, None), random.Random(0)
    texts = set()
    for _ in range(50):
        arch = space.sample(rng)
        if CELLS[cell].kept_inputs:
            shares = {kind: torch.rand(14, 8) for kind in space.choices}
            arch = discretise_edges(cell, space.choices, shares)
        space.validate(arch)
        texts.add(genotype_of(cell, arch))
        assert architecture_of(cell, genotype_of(cell, arch)) == arch
    assert len(texts) > 40


def test_the_published_genotypes():
    assert notation("toy_cell", parse("toy_cell", TOY)) == TOY.replace("’", "'")
    assert notation("nas_bench_201", parse("nas_bench_201", NB201)) == NB201
    operations = parse("darts", DARTS_V2)
    assert operations["normal"][:2] == ("sep_conv_3x3",) * 2
    assert operations["normal"][5:9] == ("skip_connect", "sep_conv_3x3", "none", "none")  # sources in order
    assert operations["reduce"].count("none") == 6
    assert parse("darts", notation("darts", operations)) == operations


@pytest.mark.parametrize(
    ("cell", "old", "new", "message"),
    [
        (
            "toy_cell",
            "’sep_conv_3x3’, 1",
            "’sep_conv_7x7’, 1",
            "normal, pair 3: 'sep_conv_7x7' on the edge from node 1 to 2",
        ),
        (
            "toy_cell",
            "’sep_conv_3x3’, 1",
            "’sep_conv_3x3’, 2",
            "normal, pair 3: node 2 reads nodes 0 to 1, got source 2",
        ),
        (
            "toy_cell",
            "’sep_conv_3x3’, 1",
            "’sep_conv_3x3’, 0",
            "normal, pair 3: the edge from node 0 to 2 is there twice",
        ),
        ("toy_cell", "normal=[(’dil_conv_3x3’, 0), ", "normal=[", "list of 3 pairs"),
        ("toy_cell", "range(1, 3), reduce=", "range(0, 3), reduce=", "normal_concat is .* in toy_cell it is"),
        ("toy_cell", "range(1, 3), reduce=", "open('x'), reduce=", "may be range"),
        ("toy_cell", "reduce=[", "reduced=[", "has the fields"),
        ("toy_cell", "(’dil_conv_3x3’, 0), (", "’dil_conv_3x3’, (", "normal, pair 1"),
        ("toy_cell", ")], normal_concat", "], normal_concat", "does not parse at position"),
        ("nas_bench_201", "none~0", "conv~0", "group 2: 'conv' on the edge from node 0 to 2"),
        ("nas_bench_201", "none~0", "none~1", "group 2: the edge from node 1 to 2 is there twice"),
        ("nas_bench_201", "none~0", "none~2", "operation~source with a source below 2"),
        ("nas_bench_201", "none~0|", "", r"lacks the edges from nodes \[0\] to 2"),
        ("nas_bench_201", "|+|none", "|none", "has 2 groups, nas_bench_201 has 3 nodes"),
        ("nas_bench_201", "|+|none", "+|none", "group 1 of .* write it as"),
    ],
)
def test_bad_notations_are_refused_with_their_place(cell, old, new, message):
    text = {"toy_cell": TOY, "nas_bench_201": NB201}[cell]
    assert old in text
    with pytest.raises(ValueError, match=message):
        parse(cell, text.replace(old, new, 1))


def test_operations_that_no_notation_can_express():
    operations = dict.fromkeys(("normal", "reduce"), ("skip_connect",) * 14)
    assert not has_notation("darts", operations)
    with pytest.raises(ValueError, match="node 3 has 3 edges that are not none"):
        notation("darts", operations)
    with pytest.raises(ValueError, match="'pool' on edge 1 \\(node 0 to 2\\)"):
        check_operations("nas_bench_201", {"normal": ("none", "pool", *["none"] * 4)})
    with pytest.raises(ValueError, match="6 edges, normal gives 5"):
        check_operations("nas_bench_201", {"normal": ("none",) * 5})
    with pytest.raises(ValueError, match="cell='nb101' is unknown"):
        parse("nb101", NB201)


def test_darts_keeps_the_two_strongest_edges_of_each_node_whatever_none_says():
    choices = dict.fromkeys(("normal", "reduce"), ("none", "skip_connect", "sep_conv_3x3"))
    shares = torch.full((14, 3), 0.1)
    shares[:, 0] = 0.8  # none has the largest share everywhere
    shares[4] = torch.tensor([0.9, 0.02, 0.08])  # node 3 has edges 2, 3, 4
    shares[3] = torch.tensor([0.1, 0.3, 0.6])
    arch = discretise_edges("darts", choices, {"normal": shares, "reduce": shares})
    assert arch.normal[2:5] == ("skip_connect", "sep_conv_3x3", "none")
    assert [arch.normal[a:b].count("none") for a, b in ((0, 2), (2, 5), (5, 9), (9, 14))] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="only where none is one of several"):
        discretise_edges("darts", dict.fromkeys(choices, ("skip_connect", "sep_conv_3x3")), {})
