"""Order of units by a calibration pass: the supernet computes what it did, and prefixes are what matters."""

import dataclasses

import pytest
import torch
from families import FAMILIES, gpt2
from safetensors.torch import save_file

from tangle_hf import SearchSpace
from tangle_hf.axes import named_tensors, pad_parameters, slice_parameters
from tangle_hf.compress.batches import calibration_batches
from tangle_hf.compress.order import order_units, ordered_dimensions
from tangle_hf.compress.scores import CRITERIA, Scores, calibrate, projections


TRANSFORMERS = [family for family in FAMILIES if family.has_attention]
CASES = pytest.mark.parametrize(
    ("family", "heads"), [(f, h) for f in TRANSFORMERS for h in f.heads], ids=lambda case: getattr(case, "name", case)
)


def net(family, heads="fixed"):
    torch.manual_seed(1)
    return family.supernet(heads).double()


@torch.no_grad()
def logits(model, inputs, **chosen):
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in inputs.items()}
    return model(**inputs, **chosen).logits


def scores_of(model, family):
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in family.inputs().items()}
    return calibrate(model, [{**inputs, "labels": family.labels()}] * 2, progress=False)


@CASES
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_ordered_supernet_computes_the_teachers_logits(family, heads, criterion):
    model = net(family, heads)
    teacher, before = logits(model, family.inputs()), scores_of(model, family)
    smallest = logits(model, family.inputs(), arch=model.space.smallest)
    after = order_units(model, before, criterion)
    assert (logits(model, family.inputs()) - teacher).abs().max() < family.exact * teacher.abs().max()
    assert (logits(model, family.inputs(), arch=model.space.smallest) - smallest).abs().max() > 1e-2
    again = scores_of(model, family)
    for name in before.mean:
        found = after.importance(name, criterion)
        tolerance = {"rtol": 1e2 * family.exact, "atol": 1e2 * family.exact}
        torch.testing.assert_close(found, again.importance(name, criterion), **tolerance)  # they move with their units
        torch.testing.assert_close(found.sort()[0], before.importance(name, criterion).sort()[0])


@CASES
def test_what_matters_comes_first(family, heads):
    """Dead units are scattered over a net; once it is ordered, the subnet without them computes all of it."""
    model = net(family, heads)
    space = model.space
    names = ordered_dimensions(model)
    kept = {"n_embd", "hidden_size", space.depth_name} | (
        {"n_head", "num_attention_heads"} if heads == "split" else set()
    )
    assert set(names) == {name for name, choices in space.choices.items() if len(choices) > 1} - kept
    arch = space.architecture(**{n: c[0] if n in names else c[-1] for n, c in space.choices.items()})
    tensors = named_tensors(model, model.axes)
    with torch.no_grad():
        cut = slice_parameters({name: t.clone() for name, t in tensors.items()}, model.axes, arch)
        for parameter in model.parameters():
            parameter.zero_()
        pad_parameters(cut, tensors, model.axes, arch)
    norm = {p.name: p.norm for p in projections(model)}
    drawn = {name: torch.randn_like(n) for name, n in norm.items()}  # those of dead units end up in the middle
    nothing = {name: torch.zeros_like(n) for name, n in norm.items()}
    order_units(model, Scores(nothing, drawn, norm, nothing, 1), "variance")
    teacher = logits(model, family.inputs())
    assert (logits(model, family.inputs(), arch=arch) - teacher).abs().max() > 1e-3 * teacher.abs().max()
    order_units(model, scores_of(model, family))
    assert (logits(model, family.inputs(), arch=arch) - teacher).abs().max() < family.exact * teacher.abs().max()


def test_scores_are_means_and_variances_of_tokens_that_are_no_padding(tmp_path):
    model = gpt2("fixed").double()
    tokens = FAMILIES[0].inputs()["input_ids"]
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    batch = {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}
    found = calibrate(model, [batch], progress=False)
    seen = []
    hook = model.transformer.h[0].mlp.c_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(tokens[:1]), model(tokens[1:, :5])
    hook.remove()
    hidden, name = torch.cat([s[0] for s in seen]), "transformer.h.0.mlp.c_proj.weight"
    rows = model.transformer.h[0].mlp.c_proj.weight.detach().square().sum(1)
    torch.testing.assert_close(found.mean[name], hidden.mean(0))
    torch.testing.assert_close(found.importance(name, "variance"), hidden.var(0, unbiased=False) * rows)
    torch.testing.assert_close(found.importance(name, "second_moment"), hidden.square().mean(0) * rows)
    assert found.tokens == 17
    found.save(tmp_path / "scores.safetensors")
    again = Scores.load(tmp_path / "scores.safetensors")
    assert again.tokens == 17 and all(torch.equal(again.mean[n], found.mean[n]) for n in found.mean)
    order_units(model, again)


@CASES
def test_heads_count_what_the_loss_makes_of_a_factor_in_front_of_their_output(family, heads):
    """The square of the slope of the loss at each token, one head and one token at a time."""
    model = net(family, heads)
    found = scores_of(model, family)
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in family.inputs().items()}
    inputs["labels"] = family.labels()
    for p in projections(model):
        assert (p.width > 1) == ("attn" in p.name or "attention" in p.name)
        factors = []

        def scale(_, args, p=p, factors=factors):
            units = args[0].unflatten(-1, (-1, p.width))
            factors.append(torch.ones(*units.shape[:-1], 1, dtype=torch.float64, requires_grad=True))
            return ((units * factors[0]).flatten(-2),)

        hook = p.module.register_forward_pre_hook(scale)
        loss = model.eval()(**inputs).loss * len(inputs["labels"])
        hook.remove()
        (slope,) = torch.autograd.grad(loss, factors)
        expected = slope.square().flatten(0, 1).mean(0).squeeze(-1)
        assert expected.min() > 0
        torch.testing.assert_close(found.fisher[p.name].unflatten(-1, (-1, p.width)).sum(-1), expected)


@pytest.mark.parametrize("family", TRANSFORMERS, ids=lambda family: family.name)
def test_heads_are_ordered_by_their_fisher_information_and_hidden_units_by_what_they_add(family):
    scores = scores_of(model := net(family), family)
    energies = {p.name: "second_moment" if p.module.bias is None else "variance" for p in projections(model)}
    opposite = {name: -scores.importance(name, by) for name, by in energies.items()}
    scores = dataclasses.replace(scores, fisher=opposite)
    ordered = {}
    for by in (None, "fisher", *set(energies.values())):
        order_units(model := net(family), scores, by)
        ordered[by] = {p.name: p.rows for p in projections(model)}
    for p in projections(model):
        heads, by = p.width > 1, energies[p.name]
        assert torch.equal(ordered[None][p.name], ordered["fisher"][p.name]) == heads
        assert torch.equal(ordered[None][p.name], ordered[by][p.name]) != heads


def test_what_cannot_be_ordered_is_said(tmp_path, caplog):
    model = net(FAMILIES[0])
    found = scores_of(model, FAMILIES[0])
    order_units(model, found)
    with pytest.raises(ValueError, match=r"not of these weights .* differs"):
        order_units(model, found)
    with pytest.raises(ValueError, match="criterion='taylor' is unknown; choose one of"):
        order_units(model, scores_of(model, FAMILIES[0]), "taylor")
    depth_only = gpt2("fixed", space=SearchSpace(n_embd=32, n_layer=[1, 2], n_head=2, mlp_ratio=2)).double()
    with pytest.raises(ValueError, match="nothing to order"):
        order_units(depth_only, scores_of(depth_only, FAMILIES[0]))
    order_units(split := net(FAMILIES[0], "split"), scores_of(split, FAMILIES[0]))
    assert "n_head keeps its order: without a fixed head_dim" in caplog.text
    with pytest.raises(ValueError, match="ElasticMobileNetV3ForImageClassification is no transformer"):
        calibrate(FAMILIES[3].supernet(), [], progress=False)
    with pytest.raises(ValueError, match="give at least one batch, and labels in each"):
        calibrate(model, [], progress=False)
    tokens = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="no token to calibrate on"):
        calibrate(model, [{"input_ids": tokens, "attention_mask": tokens, "labels": tokens}], progress=False)
    with pytest.raises(ValueError, match="no example to calibrate on; give more text, or shorter blocks"):
        calibration_batches([])
    parts = {f"a.{part}": torch.ones(2) for part in ("mean", "variance", "norm")}
    save_file(parts, path := tmp_path / "older", {"tokens": "2"})
    with pytest.raises(ValueError, match="older holds scores of an earlier version; calibrate again"):
        Scores.load(path)
    (tmp_path / "scores.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="scores.safetensors holds no scores"):
        Scores.load(tmp_path / "scores.safetensors")
    blocks = [{"input_ids": torch.arange(4)}] * 20
    assert [len(b["input_ids"]) for b in calibration_batches(blocks, most=11, batch_size=4)] == [4, 4, 3]
    assert [len(b["input_ids"]) for b in calibration_batches(blocks, batch_size=16)] == [16, 4]


def test_calibration_sees_all_classes_where_examples_lie_class_by_class():
    images = [{"labels": number // 25} for number in range(100)]

    def seen(most, batch_size, seed):
        return torch.cat([batch["labels"] for batch in calibration_batches(images, most, batch_size, seed)]).tolist()

    assert set(seen(16, 8, None)) == {0}
    assert set(seen(16, 8, 0)) == {0, 1, 2, 3} and seen(16, 8, 0) != seen(16, 8, 1)
    assert seen(5, 2, 0) == seen(16, 8, 0)[:5]  # fewer are some of them
