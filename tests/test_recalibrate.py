"""Batch norms get the averages over given batches, of a plain net or of one net in a supernet, and nothing else changes."""

import copy

import pytest
import torch
from models.families import conv_macro, images, mobilenetv3

from tangle_hf import extract, one_hot
from tangle_hf.subnets.recalibration import batch_norms, recalibrate


BATCHES = [images(4), images(4) * 0.5 + 1, images(4).flip(0) - 0.3]


def statistics(model):
    return {name: b.clone() for name, b in model.named_buffers() if "running" in name}


def test_statistics_are_averages_over_the_batches():
    net = mobilenetv3().double()
    seen = []
    stem = net.stem.conv.register_forward_hook(lambda module, args, out: seen.append(out))
    recalibrate(net, [batch.double() for batch in BATCHES])
    stem.remove()
    flat = [out.transpose(0, 1).flatten(1) for out in seen]
    torch.testing.assert_close(net.stem.norm.running_mean, torch.stack([x.mean(1) for x in flat]).mean(0))
    torch.testing.assert_close(net.stem.norm.running_var, torch.stack([x.var(1) for x in flat]).mean(0))
    fresh = copy.deepcopy(net)
    recalibrate(fresh, [images(2).double()])  # from the beginning, and not on top of what was before
    out = fresh.stem.conv(images(2).double())
    torch.testing.assert_close(fresh.stem.norm.running_mean, out.mean((0, 2, 3)))


def test_a_supernet_gets_the_statistics_of_one_of_its_nets():
    supernet = mobilenetv3().double()
    arch = supernet.space.smallest
    plain = extract(supernet, arch)
    recalibrate(plain, BATCHES)
    recalibrate(supernet, BATCHES, one_hot(supernet.space, arch))
    cut = extract(supernet, arch)
    for name, value in statistics(plain).items():
        torch.testing.assert_close(dict(cut.named_buffers())[name], value, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for how in ({"mixture": one_hot(supernet.space, arch)}, {"arch": arch}):
            torch.testing.assert_close(supernet(images(), **how).logits, plain(images()).logits)
    other = extract(supernet, supernet.space.largest)
    before = statistics(other)
    recalibrate(other, BATCHES)
    assert any(not torch.allclose(before[name], value) for name, value in statistics(other).items())


def test_nothing_else_changes():
    net = mobilenetv3(classifier_dropout_prob=0.5)
    net.train()
    net.head.eval()
    modes = [module.training for module in net.modules()]
    weights = {name: p.clone() for name, p in net.named_parameters()}
    generator = torch.get_rng_state()
    recalibrate(net, BATCHES)
    assert torch.equal(torch.get_rng_state(), generator)  # dropout drew nothing
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(p, weights[name]) and p.grad is None for name, p in net.named_parameters())
    assert {norm.momentum for norm in batch_norms(net)} == {0.1}


def test_no_batches_and_no_norms():
    with pytest.raises(ValueError, match="at least one"):
        recalibrate(mobilenetv3(), [])

    def unread():
        raise AssertionError("a net without batch norms needs no batches")
        yield

    recalibrate(conv_macro(), unread())
