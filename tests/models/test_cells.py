"""The laws for networks of cells, whose operations mix outputs and whose kernels superpose weights."""

import random

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tangle_hf import (
    Architecture,
    ArchParameters,
    ElasticCellsConfig,
    ElasticCellsForImageClassification,
    PerLayer,
    SearchSpace,
    TangleCellsConfig,
    TangleCellsForImageClassification,
    expected_flops,
    expected_num_params,
    extract,
    flops,
    num_params,
    one_hot,
    sampler,
)
from tangle_hf.axes import pad_parameters, slice_parameters
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.cost.counts import parameter_entries
from tangle_hf.cost.tables import exact, of_largest, of_smallest, tabulate
from tangle_hf.models.cells.configuration_tangle_cells import darts_cifar, darts_imagenet
from tangle_hf.models.cells.genotypes import CELLS
from tangle_hf.models.cells.progressive_cells import grow, strongest_operations
from tangle_hf.models.cells.superposed_cells import edge_shares, superposed_edge
from tangle_hf.models.loading import load_supernet
from tangle_hf.search import SearchArguments
from tangle_hf.search.limits import Limits
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.search.two_stage.paths import path_rule


SMALL = {
    "toy_cell": {"hidden_size": 4, "image_size": 10, "dropout": 0.0},
    "nas_bench_201": {"hidden_size": 4, "num_cells": 1, "image_size": 8},
    "darts": {"hidden_size": 4, "num_cells": 3, "image_size": 8},
}
EVERY = pytest.mark.parametrize("cell", CELLS)
BOTH = pytest.mark.parametrize("entangled", [True, False])
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def supernet(cell, **options):
    torch.manual_seed(0)
    config = ElasticCellsConfig(**{"cell": cell, "num_labels": 10, **SMALL[cell], **options})
    return randomised(ElasticCellsForImageClassification(config))


def randomised(net):
    """Statistics far from their starting values, so that a wrong one shows."""
    for name, buffer in net.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    return net.double()


def batch(net, size=4):
    config, generator = net.config, torch.Generator().manual_seed(1)
    shape = (size, config.num_channels, config.image_size, config.image_size)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def soft(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixture = ArchParameters(space).double().sample(sampler("drnas"), generator=generator)
    return {name: rows.detach() for name, rows in mixture.items()}


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@EVERY
@BOTH
@pytest.mark.parametrize("partial", [1, 2])
@torch.no_grad()
def test_law_1_one_hot_mixtures_are_the_extracted_nets_in_training_and_evaluation(cell, entangled, partial):
    net = supernet(cell, entangled=entangled, partial_channels=partial, **({"image_size": 8} if partial > 1 else {}))
    x, rng, before = batch(net), random.Random(0), None
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for number in range(50 if entangled and partial == 1 else 4):
        arch, training = net.space.sample(rng), number % 2 == 0
        net.load_state_dict(state)
        expected = extract(net, arch).train(training)(x).logits
        found = net.train(training)(x, mixture=one_hot(net.space, arch, torch.float64)).logits
        assert relative(found, expected) < 1e-10, (arch, training)
        if number % 8 < 2:
            net.load_state_dict(state)
            assert relative(net(x, arch=arch).logits, expected) < 1e-10, (arch, training)
        assert before is None or relative(before, expected) > 1e-6, (
            f"{arch} does not differ, so the test could not fail"
        )
        before = expected


def test_a_single_path_updates_the_statistics_that_its_net_would():
    net = supernet("darts").train()
    arch, x = net.space.sample(random.Random(1)), batch(net)
    plain = extract(net, arch).train()
    before = {name: b.clone() for name, b in net.named_buffers() if "running" in name}
    plain(x), net(x, arch=arch)
    own = {name: b for name, b in plain.named_buffers() if "running" in name}
    changed = [name for name, b in net.named_buffers() if name in before and not torch.equal(b, before[name])]
    assert set(changed) == set(own) and all(torch.allclose(own[n], net.get_buffer(n)) for n in own)


def literal_edge(edge, x, row, choices):
    """The sum over operations, weights of kernels padded one by one; batch norms in evaluation."""
    names = {}
    for share, choice in zip(row, choices, strict=True):
        name = choice[:8] if "_conv_" in choice and choice[:8] in edge else choice
        names.setdefault(name, []).append((share, choice))
    total = 0
    for name, members in names.items():
        if name == "none":
            continue
        module, share = edge[name], sum(share for share, _ in members)
        if "conv" not in name:
            total = total + share * module(x)
            continue
        out = x
        for part in [module.first, module.second] if name.startswith("sep") else [module]:
            mixed, size = 0, part.conv.kernel_size[0]
            for own, choice in members:
                margin = (size - int(choice[-1])) // 2
                crop = part.conv.weight[:, :, margin : size - margin, margin : size - margin]
                mixed = mixed + own / share * F.pad(crop, [margin] * 4)
            conv, norm = part.conv, part.norm
            out = F.conv2d(F.relu(out), mixed, None, conv.stride, conv.padding, conv.dilation, conv.groups)
            out = out if part.pointwise is None else part.pointwise(out)
            out = F.batch_norm(out, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        total = total + share * out
    return total


@EVERY
@BOTH
def test_law_2_an_edge_is_the_literal_sum(cell, entangled):
    net = supernet(cell, entangled=entangled).eval()
    mixture = soft(net.space)
    for part in net.cells:
        for number, edge in enumerate(getattr(part, "edges", [])):
            width = SMALL[cell]["hidden_size"] * 4
            width = next(m for m in edge.modules() if isinstance(m, torch.nn.BatchNorm2d)).num_features
            x = torch.randn(2, width, 6, 6, dtype=torch.float64)
            choices, rows = net.space.choices[part.kind], mixture[part.kind]
            found = superposed_edge(edge, x, edge_shares(choices, rows, entangled), number)
            assert relative(found, literal_edge(edge, x, rows[number], choices)) < 1e-12
            if cell == "darts" and entangled:
                assert len(edge) == 6


def test_the_joint_share_of_two_kernels_reaches_the_logits_through_the_batch_norm():
    """Without the factor s_m of an edge this gradient is zero up to the norm's eps."""
    net = supernet("nas_bench_201").train()
    mixture = {name: rows.requires_grad_() for name, rows in soft(net.space).items()}
    net(batch(net), torch.arange(4), mixture=mixture).loss.backward()
    rows, grad = mixture["normal"].detach(), mixture["normal"].grad
    pair = [2, 3]  # nor_conv_1x1, nor_conv_3x3
    along = (rows[:, pair] * grad[:, pair]).sum(1)  # derivative when both grow alike
    assert along.abs().min() > 1e-3 * grad.abs().max()


@EVERY
def test_law_4_the_mixture_is_an_argument_never_state(cell):
    net = supernet(cell).eval()
    x, arch = batch(net), net.space.sample(random.Random(2))
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        before = net(x, mixture=soft(net.space)).logits
        net(x, arch=arch), net(x, mixture=one_hot(net.space, arch, torch.float64))
        assert torch.equal(net(x, mixture=soft(net.space)).logits, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(ValueError, match="needs a mixture or an arch"):
        net(x)


@EVERY
@BOTH
def test_law_5_and_8_gradients_stay_in_the_slice_and_costs_are_exact(cell, entangled):
    net = supernet(cell, entangled=entangled).train()
    parameters, config, rng = dict(net.named_parameters()), net.config, random.Random(0)
    assert {name for name, entry in net.axes.items() if not entry.buffer} == parameters.keys()
    for _ in range(2):
        arch = net.space.sample(rng)
        net.zero_grad()
        net(batch(net), torch.arange(4), arch=arch).loss.backward()
        owned = {name: torch.zeros_like(t) for name, t in net.state_dict().items() if name in net.axes}
        ones = {name: torch.ones_like(t) for name, t in owned.items()}
        pad_parameters(slice_parameters(ones, net.axes, arch), owned, net.axes, arch)
        plain = extract(net, arch)
        assert sum(owned[n].sum() for n in parameters) == num_params(net.space, arch, config)
        assert num_params(net.space, arch, config) == plain.num_parameters()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            plain(batch(net))
        assert flops(net.space, arch, config, batch_size=4) == counter.get_total_flops()
        for name, parameter in parameters.items():
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert not grad[owned[name] == 0].any(), (name, arch)


def test_law_8_expected_costs_are_sums_over_architectures():
    space = SearchSpace(normal=PerLayer(["none", "nor_conv_1x1", "nor_conv_3x3"], rows=6))
    net = supernet("nas_bench_201", space=space)
    mixture, params, work, total = soft(net.space), 0.0, 0.0, 0.0
    tables = [
        tabulate(net.space, entries) for entries in (parameter_entries(net.config), net.config.matrix_products())
    ]
    for arch in net.space:
        p = 1.0
        for row, value in zip(mixture["normal"], arch.normal, strict=True):
            p *= row[space.choices["normal"].index(value)].item()
        total += p
        params += p * exact(tables[0], arch)
        work += p * exact(tables[1], arch)
    assert total == pytest.approx(1)
    assert expected_num_params(net.space, mixture, net.config).item() == pytest.approx(params, rel=1e-9)
    assert expected_flops(net.space, mixture, net.config).item() == pytest.approx(work, rel=1e-9)


def test_where_operations_have_no_order_the_most_expensive_net_is_the_largest():
    space = SearchSpace(normal=PerLayer(["nor_conv_3x3", "none", "nor_conv_1x1"], rows=6))
    net = supernet("nas_bench_201", space=space)
    costs = [flops(space, arch, net.config) for arch in space]
    table = tabulate(space, net.config.matrix_products())
    assert of_largest(table) == max(costs) > flops(space, space.largest, net.config)
    assert of_smallest(table) == min(costs) < flops(space, space.smallest, net.config)
    (budget,) = make_budgets(net.config, max_flops="50%")
    assert budget.limit == max(costs) // 2


@BOTH
def test_a_mixture_costs_all_operations(entangled):
    space = SearchSpace(normal=PerLayer(["nor_conv_3x3", "nor_conv_1x1"], rows=6))
    net = supernet("nas_bench_201", space=space, entangled=entangled)
    before, cost = net.state_dict(), SearchCost(net.float(), batch_size=4)
    cost.add_weight_step()
    first, both = cost.spent, flops(space, space.architecture(normal="nor_conv_3x3"), net.config)
    if not entangled:
        edges = lambda op: flops(space, space.architecture(normal=op), net.config)  # noqa: E731
        rest = edges("nor_conv_3x3") - (edges("nor_conv_3x3") - edges("nor_conv_1x1")) * 9 // 8
        both += edges("nor_conv_1x1") - rest
    largest = of_largest(tabulate(space, net.config.matrix_products()))
    assert first == pytest.approx(both / largest, rel=1e-3) and (first > 1.05) != entangled
    cost.add_arch_step()
    assert cost.spent == pytest.approx(first * (1 + 2 / 3))
    cost.add_arch_step(unrolled=True)
    assert cost.spent == pytest.approx(first * (1 + 2 / 3 + 2 + 4 / 3))
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_a_space_of_operations_has_no_sandwich():
    with pytest.raises(ValueError, match=r"method=sandwich\+rs trains the largest .* does not have; choose spos\+rs"):
        path_rule(SearchArguments(method="sandwich+rs"), supernet("toy_cell"), Limits())


def test_supernets_are_saved_and_loaded(tmp_path):
    net = supernet("darts", entangled=False).eval()
    net.save_pretrained(tmp_path)
    again = load_supernet(tmp_path).double().eval()
    assert type(again) is ElasticCellsForImageClassification and again.space == net.space
    assert torch.equal(
        again(batch(net), mixture=soft(net.space)).logits, net(batch(net), mixture=soft(net.space)).logits
    )
    with pytest.raises(ValueError, match="config of a supernet"):
        TangleCellsConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="operations=.*checkpoint"):
        smaller = SearchSpace(normal=PerLayer(["none", "skip_connect"], rows=14))
        ElasticCellsForImageClassification.from_pretrained(tmp_path, space=smaller)


def test_partial_channels_leave_the_others_alone():
    net = supernet("darts", partial_channels=2).eval()
    edge, mixture = net.cells[0].edges[0], soft(net.space)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    out = superposed_edge(edge, x, edge_shares(net.space.choices["normal"], mixture["normal"], True), 0)
    assert torch.equal(out[:, 1::2], x[:, 2:]) and not torch.isclose(out[:, ::2], x[:, :2]).all()
    reduce = next(cell for cell in net.cells if cell.kind == "reduce").edges[0]
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    out = superposed_edge(reduce, x, edge_shares(net.space.choices["reduce"], mixture["reduce"], True), 0)
    assert torch.equal(out[:, 1::2], F.max_pool2d(x[:, 4:], 2))


def test_pruning_keeps_the_strongest_operations_and_what_the_supernet_computes():
    net = supernet("darts", partial_channels=2).eval()
    shares = soft(net.space)
    kept = strongest_operations(net.config, shares, 3)
    assert all(len(row) == 3 for rows in kept.values() for row in rows)
    zeroed = {}
    for kind, rows in shares.items():
        mask = torch.tensor([[float(c in left) for c in net.space.choices[kind]] for left in kept[kind]]).double()
        zeroed[kind] = rows * mask / (rows * mask).sum(1, keepdim=True)
        assert not mask[:, 0].any()  # none does not count
        assert all(row[1:][m[1:] > 0].min() >= row[1:][m[1:] == 0].max() for row, m in zip(rows, mask, strict=True))
    pruned = grow(net, kept, partial_channels=2)
    assert pruned.num_parameters() < net.num_parameters()
    # Shares of what was pruned are spread in proportion, so both mixtures are the same one.
    expected = net(batch(net), mixture=zeroed).logits
    assert relative(pruned(batch(net), mixture=zeroed).logits, expected) < 1e-10
    assert relative(pruned(batch(net), mixture=shares).logits, expected) < 1e-10
    arch = pruned.most_likely(shares)
    plain = extract(pruned, arch).eval()
    assert relative(plain(batch(net)).logits, pruned(batch(net), arch=arch).logits) < 1e-10
    gone = next(c for c in net.space.choices["normal"] if c not in kept["normal"][0])
    with pytest.raises(ValueError, match=f"{gone if gone != 'none' else ''}.* was pruned from edge"):
        gone = next(c for c in ("sep_conv_3x3", "max_pool_3x3", "skip_connect", gone) if c not in kept["normal"][0])
        extract(pruned, arch.replace(normal=(gone, *arch.normal[1:])))


def test_growing_copies_channels_and_keeps_what_they_compute():
    net = supernet("darts", hidden_size=8, partial_channels=4).eval()
    grown = grow(net, None, partial_channels=2, seed=3)
    before, after = net.cells[0].edges[0], grown.cells[0].edges[0]
    width = before["dil_conv"].norm.num_features
    x = torch.randn(2, width, 6, 6, dtype=torch.float64)
    wide = torch.cat([x, x[:, _copied(before["dil_conv"], after["dil_conv"], width)]], dim=1)
    for name in before:
        if name != "none":
            a, b = before[name](x), after[name](wide)
            assert torch.allclose(a, b[:, :width]), name
    wider = grow(net, None, partial_channels=1)
    assert wider.config.partial_channels == 1 and wider(batch(net), mixture=soft(net.space)).logits.isfinite().all()
    with pytest.raises(ValueError, match="would make edges narrower"):
        grow(grown, None, partial_channels=4)


def _copied(before, after, width):
    """Which channels the new ones copy, found by their depthwise kernels."""
    return [
        next(k for k in range(width) if torch.equal(kernel, before.conv.weight[k]))
        for kernel in after.conv.weight[width:]
    ]


def test_hard_samples_give_finite_gradients_to_absent_kernels():
    net = supernet("toy_cell").train()
    logits = ArchParameters(net.space).double()
    mixture = logits.sample(sampler("gdas"), generator=torch.Generator().manual_seed(0))
    net(batch(net), torch.arange(4), mixture=mixture).loss.backward()
    grads = torch.cat([rows.grad.flatten() for rows in logits.logits.values()])
    assert grads.isfinite().all() and grads.abs().max() > 0


def test_training_networks_have_the_published_sizes():
    """Parameters of the second-order cells of DARTS (arXiv:1806.09055, tables 1 and 3): 3.3 M and 4.7 M."""

    def count(config):
        with torch.device("meta"):
            net = TangleCellsForImageClassification(config)
        return sum(p.numel() for name, p in net.named_parameters() if not name.startswith("auxiliary"))

    assert count(darts_cifar(DARTS_V2, num_labels=10)) == 3_349_342
    assert count(darts_imagenet(DARTS_V2, num_labels=1000)) == 4_718_752
    full = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    config = ElasticCellsConfig(cell="nas_bench_201", norm_affine=True, num_labels=10)
    arch = Architecture(normal=["nor_conv_3x3"] * 6)
    # The benchmark (arXiv:2001.00326) has 1.531546 M parameters and 220.11969 M multiply-adds for this cell.
    assert num_params(config.space, arch, config) == 1_531_546
    assert flops(config.space, arch, config) == 2 * 220_119_680
    assert count(TangleCellsConfig(cell="nas_bench_201", genotype=full, num_labels=10)) == 1_531_546


def test_the_second_classifier_and_drop_path_are_for_training_only():
    config = darts_cifar(DARTS_V2, num_labels=10, hidden_size=4, num_cells=3, drop_path_rate=0.5)
    torch.manual_seed(0)
    net = TangleCellsForImageClassification(config)
    x, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    with torch.no_grad():
        net.train()
        net.drop_path_rate = 0.0
        logits, second = net.classify(x, lambda kind, number, edge, x: edge(x))
        loss = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(second, labels)
        assert torch.allclose(net(x, labels).loss, loss)
        net.drop_path_rate = 0.5
        assert not torch.allclose(net(x, labels).logits, net(x, labels).logits)
        net.eval()
        out = net(x, labels)
        assert torch.equal(out.logits, net(x, labels).logits)
        assert torch.allclose(out.loss, F.cross_entropy(out.logits, labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "darts", "image_size": 30}, "image_size=30 does not fit.*multiple of 4"),
        ({"cell": "darts", "image_size": 2}, "at least 4"),
        ({"cell": "darts", "stem": "imagenet", "image_size": 48}, "multiple of 32"),
        ({"cell": "nas_bench_201", "stem": "imagenet"}, "not available for nas_bench_201"),
        ({"cell": "darts", "partial_channels": 6, "hidden_size": 16}, "does not divide hidden_size=16"),
        ({"cell": "toy_cell", "num_cells": 4}, "3 cells"),
        ({"cell": "nasnet"}, "cell='nasnet' is unknown"),
        ({"cell": "darts", "space": {"cell": ["none"]}}, "cannot be searched in darts"),
        ({"cell": "darts", "space": SearchSpace(normal=PerLayer(["none", "conv"], rows=14))}, r"\['conv'\] are no operations"),
        ({"cell": "darts", "space": SearchSpace(normal=PerLayer(["none"], rows=13))}, "13 rows.*14 edges"),
        ({"cell": "darts", "genotype": DARTS_V2}, "fixes operations"),
        ({"cell": "darts", "auxiliary_weight": 0.4}, "training a found net"),
        ({"cell": "nas_bench_201", "kept": {"normal": [["none"]] * 5}}, "needs 6 edges"),
        ({"cell": "nas_bench_201", "kept": {"normal": [["none"]] * 5 + [["pool"]]}}, "edge 5|node 2 to 3"),
    ],
)  # fmt: skip
def test_bad_supernets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ElasticCellsConfig(**options)


def test_images_of_another_size_are_refused():
    net = supernet("darts")
    with pytest.raises(ValueError, match=r"images are \(4, 4\), this model takes \(8, 8\)"):
        net(batch(net)[:, :, :4, :4], mixture=soft(net.space))
    with pytest.raises(ValueError, match="differ; give one"):
        TangleCellsConfig(cell="darts", genotype=DARTS_V2, normal=["none"] * 14, reduce=["none"] * 14)
