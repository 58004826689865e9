"""Law 2 for single layers: superposed functions equal the literal sums, and gradcheck agrees with their backwards."""

import oracle
import pytest
import torch

from tangle_hf.entangle import share_mask, superpose_layer_norm, superpose_linear


WIDTHS = (3, 5, 8)


def norm_inputs(dtype=torch.float64):
    x, weight, bias = torch.randn(2, 4, 8), torch.randn(8), torch.randn(8)
    return [t.to(dtype).requires_grad_() for t in (x, weight, bias, torch.rand(3).softmax(0))]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_layer_norm_is_the_sum_over_widths(dtype, tolerance):
    x, weight, bias, shares = norm_inputs(dtype)
    for offset in (0.0, 1000.0):  # a large mean must not cost precision through cancellation
        found = superpose_layer_norm(x + offset, weight, bias, shares, WIDTHS, 1e-5)
        expected = oracle.layer_norm(x + offset, weight, bias, shares, WIDTHS, 1e-5)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * (1 if offset == 0 else 1000))


def test_layer_norm_gradients():
    assert torch.autograd.gradcheck(lambda *t: superpose_layer_norm(*t, WIDTHS, 1e-5), norm_inputs())


def linear_inputs(dtype=torch.float64):
    sizes = ((2, 4, 5), (5, 6), (6,), (3, 5), (3, 6), (6,))
    return [torch.randn(size).to(dtype).requires_grad_() for size in sizes]


def test_linear_gradients_with_and_without_weight_gradients():
    inputs = linear_inputs()
    assert torch.autograd.gradcheck(superpose_linear, inputs)
    inputs[1].requires_grad_(False)
    inputs[2].requires_grad_(False)
    assert torch.autograd.gradcheck(superpose_linear, inputs)


def test_linear_is_the_sum_over_both_dimensions():
    x, weight, bias = (t.detach() for t in linear_inputs()[:3])
    a, b = torch.rand(2).double().softmax(0), torch.rand(2).double().softmax(0)
    widths, ratios = (2, 3), (1, 2)
    terms = [
        (a[i] * b[j], torch.arange(e), torch.arange(e * r)) for i, e in enumerate(widths) for j, r in enumerate(ratios)
    ]
    rows = torch.stack([(torch.arange(5) < e).double() for e in widths])
    columns = torch.stack(
        [sum(a[i] * b[j] * (torch.arange(6) < e * r) for j, r in enumerate(ratios)) for i, e in enumerate(widths)]
    )
    found = superpose_linear(x, weight, bias, rows, columns, columns.sum(0))
    torch.testing.assert_close(found, oracle.linear(x, weight, bias, terms), rtol=0, atol=1e-12)


def test_share_mask_contracts_every_dimension():
    table = torch.rand(2, 3, 7).double()
    a, b = torch.rand(2).double(), torch.rand(3).double()
    torch.testing.assert_close(share_mask(table, a, b), torch.einsum("i,j,ijk->k", a, b, table))


def test_autocast_gives_the_types_of_stock_layers():
    x, weight, bias, shares = norm_inputs(torch.float32)
    inputs = linear_inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert superpose_layer_norm(x.bfloat16(), weight, bias, shares, WIDTHS, 1e-5).dtype == torch.float32
        assert superpose_linear(*inputs).dtype == torch.bfloat16
