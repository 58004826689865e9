"""Samplers give rows on the simplex, repeat with their generator, and have the gradients their papers promise."""

import pytest
import torch
from safetensors.torch import save_file

from tangle_hf import ArchParameters, PerLayer, SearchSpace, one_hot, sampler
from tangle_hf.samplers import SAMPLERS, _log_gamma


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4, 8]))


def seeded(number=0):
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_rows_lie_on_the_simplex_and_repeat(name):
    logits = torch.randn(50, 4, dtype=torch.float64)
    rows = sampler(name)(logits, 0.5, seeded())
    torch.testing.assert_close(rows.sum(-1), torch.ones(50, dtype=torch.float64))
    assert rows.min() >= -1e-12 and rows.shape == logits.shape
    assert torch.equal(rows, sampler(name)(logits, 0.5, seeded()))
    mean = sampler(name).mean(logits)
    torch.testing.assert_close(mean.sum(-1), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("name", ["darts", "drnas", "reinmax"])
def test_the_mean_is_the_average_of_draws(name):
    logits = torch.tensor([0.5, -1.0, 1.5], dtype=torch.float64)
    draws = sampler(name)(logits.expand(40_000, 3), 1.0, seeded())
    torch.testing.assert_close(draws.mean(0), sampler(name).mean(logits), rtol=0, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drnas_draws_one_choice_where_all_logits_are_very_negative(dtype):
    logits = torch.tensor([-8.0, -7.0, -30.0], dtype=dtype, requires_grad=True)
    draws = sampler("drnas")(logits.expand(40_000, 3), 0.0, seeded())
    assert (draws.max(-1).values > 0.99).double().mean() > 0.99
    torch.testing.assert_close(draws.mean(0), sampler("drnas").mean(logits), rtol=0, atol=0.01)
    draws[:, 0].sum().backward()
    assert logits.grad.isfinite().all()


def test_the_smallest_gamma_variables_have_the_logarithms_and_slopes_of_their_distribution():
    """`log X = (log P + log Gamma(a + 1)) / a` with P uniform, whose mean is digamma(a) and slope trigamma(a)."""
    a = torch.full((200_000,), 1e-3, dtype=torch.float64, requires_grad=True)
    logs = _log_gamma(a, seeded())
    assert (logs < -460).double().mean() > 0.6
    spread = logs.std() / len(logs) ** 0.5
    assert (logs.mean() - a[0].digamma()).abs() < 4 * spread  # the mean of log X is digamma(a)
    logs.mean().backward()
    expected = torch.polygamma(1, a.detach()[0])
    assert (a.grad.sum() / expected).item() == pytest.approx(1, abs=0.02)


def test_drnas_gradients_are_those_of_the_dirichlet_mean():
    logits = torch.tensor([0.5, -1.0, 1.5], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (sampler("drnas")(logits.expand(100_000, 3), 0.0, seeded()).mean(0) @ weights).backward()
    estimate, logits.grad = logits.grad, None
    (sampler("drnas").mean(logits) @ weights).backward()
    torch.testing.assert_close(estimate, logits.grad, rtol=0, atol=0.01)


def test_gdas_is_hard_with_the_gradients_of_the_soft_rows():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 3, dtype=torch.float64)
    gdas = sampler("gdas")
    rows = gdas(logits, 0.5, seeded(1))
    assert set(rows.detach().round(decimals=9).flatten().tolist()) == {0.0, 1.0}
    (rows * weights).sum().backward()
    estimate, logits.grad = logits.grad, None
    gumbel = -torch.empty_like(logits).exponential_(generator=seeded(1)).log()
    tau = gdas.tau_max + 0.5 * (gdas.tau_min - gdas.tau_max)
    (((logits + gumbel) / tau).softmax(-1) * weights).sum().backward()
    torch.testing.assert_close(estimate, logits.grad)


def test_reinmax_is_exact_on_average_for_a_quadratic_where_straight_through_is_not():
    """Second-order accuracy, arXiv:2304.08612, theorem 3.1: no bias for functions of degree two."""
    logits = torch.tensor([0.7, -0.3, 0.2], dtype=torch.float64, requires_grad=True)
    matrix = torch.tensor([[1.0, 2.0, -1.0], [2.0, -3.0, 0.5], [-1.0, 0.5, 4.0]], dtype=torch.float64)

    def value(rows):
        return torch.einsum("ni,ij,nj->n", rows, matrix, rows)

    (exact,) = torch.autograd.grad(logits.softmax(-1) @ value(torch.eye(3, dtype=torch.float64)), logits)
    many = logits.expand(400_000, 3)
    (estimate,) = torch.autograd.grad(value(sampler("reinmax")(many, 0.0, seeded())).mean(), logits)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.02)
    p = many.softmax(-1)
    hard = torch.nn.functional.one_hot(torch.multinomial(p.detach(), 1, generator=seeded())[:, 0], 3).double()
    (biased,) = torch.autograd.grad(value(hard + p - p.detach()).mean(), logits)
    assert (biased - exact).abs().max() > 0.1


def test_an_unknown_sampler_names_the_known_ones():
    with pytest.raises(ValueError, match="adam.*drnas"):
        sampler("adam")


def test_architecture_parameters(tmp_path):
    parameters = ArchParameters(SPACE, seed=3)
    assert {n: tuple(p.shape) for n, p in parameters.logits.items()} == {
        "n_embd": (1, 2), "n_layer": (1, 2), "n_head": (2, 3)
    }  # fmt: skip
    assert parameters.entropy(sampler("darts")) == pytest.approx(1, abs=1e-4)
    with torch.no_grad():
        parameters.logits["n_head"][0, 2] = parameters.logits["n_layer"][0, 1] = 9
    assert parameters.argmax().n_head[0] == 8 and parameters.argmax().n_layer == 2
    parameters.save(tmp_path / "a.safetensors")
    other = ArchParameters(SPACE, seed=4)
    other.load(tmp_path / "a.safetensors")
    assert all(torch.equal(other.logits[n], p) for n, p in parameters.logits.items())
    with pytest.raises(ValueError, match="use the space of that search"):
        ArchParameters(SearchSpace(n_embd=[16, 32])).load(tmp_path / "a.safetensors")


def test_a_file_that_holds_no_logits_is_one_line(tmp_path):
    parameters, path = ArchParameters(SearchSpace(n_embd=[16, 32])), tmp_path / "a.safetensors"
    for content, message in ((None, "no file of logits"), (b'{"n', "holds no logits, or is cut off")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            parameters.load(path)
    with pytest.raises(ValueError, match="no file of logits"):
        parameters.load(tmp_path)
    save_file({"lm_head.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"holds \['lm_head.weight'\], no logits of \['n_embd'\]"):
        parameters.load(path)
    save_file({"n_embd": torch.tensor([[0.0, float("nan")]])}, path)
    with pytest.raises(ValueError, match=r"not finite, of \['n_embd'\]"):
        parameters.load(path)


def test_one_hot_puts_everything_on_one_architecture():
    arch = SPACE.architecture(n_embd=32, n_layer=1, n_head=[4])
    mixture = one_hot(SPACE, arch)
    assert mixture["n_embd"].tolist() == [[0, 1]] and mixture["n_head"].tolist() == [[0, 1, 0], [1, 0, 0]]
