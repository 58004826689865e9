"""What a compressed net learns of the checkpoint layer by layer."""

import pytest
import torch
from test_two_stage import supernet

from tangle_hf import PerLayer, SearchSpace, extract
from tangle_hf.compress.layerwise import LayerwiseTeacher
from tangle_hf.search.distillation import Teacher


SPACE = SearchSpace(n_embd=[16], n_layer=[2, 3], n_head=PerLayer([1, 2]), mlp_ratio=PerLayer([1, 2]))


def test_a_net_learns_the_stream_in_front_of_the_next_layer_that_it_has():
    net = supernet(SPACE, head_dim=8)
    net.set_layer_ranks([0, 2, 1])
    teacher, arch = (
        LayerwiseTeacher(net, 1.0, 1.0, weight=0.5),
        SPACE.architecture(n_embd=16, n_layer=2, n_head=1, mlp_ratio=2),
    )
    ids = torch.arange(24).view(3, 8) % net.config.vocab_size
    batch = {"input_ids": ids, "labels": ids}
    own, told = extract(net, arch)(**batch, **teacher.asks), net(**batch, output_hidden_states=True)
    teacher.follow(net.kept_layers(arch))  # 0 and 2
    pairs = [(own.hidden_states[1], told.hidden_states[2]), (own.hidden_states[2], told.hidden_states[3])]
    layers = sum((a - b).square().mean() / b.var() for a, b in pairs) / 2
    outputs = Teacher(net).loss(own, batch)
    torch.testing.assert_close(teacher.loss(own, batch), outputs + 0.5 * layers)
    whole, double = teacher.loss(own, batch, count=ids.numel()), teacher.loss(own, batch, count=2 * ids.numel())
    assert double.item() == pytest.approx(whole.item() / 2), "of two micro-batches"
    teacher.follow(range(3))
    assert teacher.loss(told, batch).item() == pytest.approx(0, abs=1e-5), "the checkpoint knows itself"
    plain = extract(net, arch)(**batch)
    torch.testing.assert_close(teacher.loss(plain, batch), outputs)  # as under a mixture
    with pytest.raises(ValueError, match="gives no hidden states"):
        teacher.loss(plain, {**batch, **teacher.asks})
