"""Law 2 for single layers: superposed functions equal the literal sums, and gradcheck agrees with their backwards."""

import oracle
import pytest
import torch

from tangle_hf.entangle import (
    layer_norm,
    linear,
    masked_linear,
    nested_widths,
    share_mask,
    share_sum,
    superpose_layer_norm,
    superpose_linear,
    superpose_rms_norm,
)


WIDTHS = (3, 5, 8)


@pytest.fixture(autouse=True, params=["one block", "blocks of tokens", "as under a compiler"])
def blocks(request, monkeypatch):
    if request.param == "as under a compiler":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if request.param == "blocks of tokens":  # of 3 and 2 of the 8 tokens here, the last one cut short
        monkeypatch.setattr(layer_norm, "BLOCK_BYTES", 3 * 8 * 8)
        monkeypatch.setattr(linear, "BLOCK_BYTES", 2 * 6 * 8)


def norm_inputs(dtype=torch.float64):
    x, weight, bias = torch.randn(2, 4, 8), torch.randn(8), torch.randn(8)
    return [t.to(dtype).requires_grad_() for t in (x, weight, bias, torch.rand(3).softmax(0))]


def layer_norm_of(x, weight, bias, shares, widths):
    return superpose_layer_norm(x, weight, bias, nested_widths(widths, shares), 1e-5)


@pytest.mark.parametrize("widths", [WIDTHS, (4, 6, 8)], ids=str)  # of greatest common divisor 1 and 2
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_layer_norm_is_the_sum_over_widths(dtype, tolerance, widths):
    x, weight, bias, shares = norm_inputs(dtype)
    for offset in (0.0, 1000.0):  # a large mean must not cost precision through cancellation
        found = layer_norm_of(x + offset, weight, bias, shares, widths)
        expected = oracle.layer_norm(x + offset, weight, bias, shares, widths, 1e-5)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * (1 if offset == 0 else 1000))


@pytest.mark.parametrize("widths", [WIDTHS, (4, 6, 8)], ids=str)
@pytest.mark.parametrize("frozen", [(), (1, 2), (0,), (3,), (0, 3)], ids=str)
def test_layer_norm_gradients(widths, frozen):
    inputs = norm_inputs()
    for number in frozen:
        inputs[number].requires_grad_(False)
    assert torch.autograd.gradcheck(lambda *t: layer_norm_of(*t, widths), inputs)


def rms_norm_of(x, weight, shares, widths):
    return superpose_rms_norm(x, weight, nested_widths(widths, shares), 1e-5)


@pytest.mark.parametrize("widths", [WIDTHS, (8,)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_rms_norm_is_the_sum_over_widths(dtype, tolerance, widths):
    x, weight, _, shares = norm_inputs(dtype)
    shares = shares[: len(widths)]
    expected = oracle.rms_norm(x, weight, shares, widths, 1e-5)
    torch.testing.assert_close(rms_norm_of(x, weight, shares, widths), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("frozen", [(), (1,), (0,), (2,), (0, 2)], ids=str)
def test_rms_norm_gradients(frozen):
    x, weight, _, shares = norm_inputs()
    for number in frozen:
        (x, weight, shares)[number].requires_grad_(False)
    assert torch.autograd.gradcheck(lambda *t: rms_norm_of(*t, WIDTHS), (x, weight, shares))


def linear_inputs(prefix_of, dtype=torch.float64):
    """x, weight, bias, masks of the side without the prefix, mask of the bias; 5 inputs, 6 outputs, widths on one side."""
    other, widths = (6, (2, 4, 5)) if prefix_of == "inputs" else (5, (1, 4, 6))
    tensors = [torch.randn(size).to(dtype).requires_grad_() for size in ((2, 4, 5), (5, 6), (6,), (3, other), (6,))]
    return tensors, widths


LINEAR = pytest.mark.parametrize(
    ("prefix_of", "gelu"), [("inputs", None), ("outputs", None), ("outputs", "none"), ("outputs", "tanh")]
)


@LINEAR
@pytest.mark.parametrize("frozen", [(), (1, 2), (0, 1, 2), (3,), (0,), (0, 3)], ids=str)
def test_linear_gradients_whatever_is_frozen(prefix_of, gelu, frozen):
    inputs, widths = linear_inputs(prefix_of)
    for number in frozen:
        inputs[number].requires_grad_(False)

    def layer(x, weight, bias, masks, bias_mask):
        return superpose_linear(x, weight, bias, masks, widths, bias_mask, prefix_of, gelu)

    assert torch.autograd.gradcheck(layer, inputs)


@LINEAR
def test_linear_is_the_sum_over_both_dimensions(prefix_of, gelu):
    x, weight, bias = (t.detach() for t in linear_inputs(prefix_of)[0][:3])
    a, b = torch.rand(2).double().softmax(0), torch.rand(2).double().softmax(0)
    widths, other = ((2, 5), (2, 3)) if prefix_of == "inputs" else ((3, 6), (1, 2.5))
    size = 6 if prefix_of == "inputs" else 5
    terms, masks = [], torch.zeros(2, size, dtype=torch.float64)
    for i, e in enumerate(widths):
        for j, r in enumerate(other):
            units = torch.arange(min(size, round(e * r)))
            masks[i, units] += a[i] * b[j]
            rows, columns = (torch.arange(e), units) if prefix_of == "inputs" else (units, torch.arange(e))
            terms.append((a[i] * b[j], rows, columns))
    bias_mask = (
        masks.sum(0) if prefix_of == "inputs" else sum(a[i] * (torch.arange(6) < e) for i, e in enumerate(widths))
    )
    found = superpose_linear(x, weight, bias, masks, widths, bias_mask, prefix_of, gelu)
    active = torch.nn.functional.gelu(x, approximate=gelu) if gelu else x
    torch.testing.assert_close(found, oracle.linear(active, weight, bias, terms), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
@pytest.mark.parametrize("frozen", [(), (2, 3), (0, 2, 3), (1,), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("out", [6, 9])  # of 8 tokens: the mask goes on the weight, or on the input
def test_masked_linear_and_its_gradients(gelu, frozen, out):
    sizes = (2, 4, 5), (5,), (5, out), (out,)
    inputs = [torch.randn(size, dtype=torch.float64).requires_grad_() for size in sizes]
    for number in frozen:
        inputs[number].requires_grad_(False)
    x, mask, weight, bias = inputs
    active = torch.nn.functional.gelu(x, approximate=gelu) if gelu else x
    torch.testing.assert_close(masked_linear(*inputs, gelu), (active * mask) @ weight + bias, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *t: masked_linear(*t, gelu), inputs)


def test_share_sum_and_its_gradients():
    shares, *parts = [torch.randn(size, dtype=torch.float64).requires_grad_() for size in (3, (2, 4), (2, 4), (2, 4))]
    expected = sum(share * part for share, part in zip(shares, parts, strict=True))
    torch.testing.assert_close(share_sum(shares, parts), expected)
    assert torch.autograd.gradcheck(lambda s, *p: share_sum(s, list(p)), [shares, *parts])
    parts[1].requires_grad_(False)
    assert torch.autograd.gradcheck(lambda s, *p: share_sum(s, list(p)), [shares, *parts])


def test_share_mask_contracts_every_dimension():
    table = torch.rand(2, 3, 7).double()
    a, b = torch.rand(2).double(), torch.rand(3).double()
    torch.testing.assert_close(share_mask(table, a, b), torch.einsum("i,j,ijk->k", a, b, table))
    rows = torch.rand(4, 3).double()  # one mask per layer
    torch.testing.assert_close(share_mask(table, a, rows), torch.einsum("i,lj,ijk->lk", a, rows, table))
    both = torch.rand(4, 2).double()
    torch.testing.assert_close(share_mask(table, both, rows), torch.einsum("li,lj,ijk->lk", both, rows, table))
    torch.testing.assert_close(share_mask(table, both, b), torch.einsum("li,j,ijk->lk", both, b, table))


def test_autocast_gives_the_types_of_stock_layers():
    x, weight, bias, shares = norm_inputs(torch.float32)
    inputs, widths = linear_inputs("inputs", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer_norm_of(x.bfloat16(), weight, bias, shares, WIDTHS).dtype == torch.float32
        assert rms_norm_of(x.bfloat16(), weight, shares, WIDTHS).dtype == torch.float32
        assert superpose_linear(*inputs[:4], widths, inputs[4], "inputs").dtype == torch.bfloat16
    assert rms_norm_of(x.bfloat16(), weight.bfloat16(), shares, WIDTHS).dtype == torch.bfloat16
