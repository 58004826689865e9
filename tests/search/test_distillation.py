"""Distillation: the literal formula, what counts, and that every training learns from its teacher."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from test_two_stage import settings, supernet
from transformers import TrainingArguments
from worker import SPACE, Blocks

from tangle_hf import SearchSpace, extract
from tangle_hf.search import search, train_single_paths
from tangle_hf.search.distillation import Teacher, distillation_loss
from tangle_hf.search.finalists.short_training import ShortTraining
from tangle_hf.training.trainer import ResumingTrainer


ONE = SearchSpace(n_embd=[16], n_layer=[2], n_head=[2], mlp_ratio=[2])
CPU = Accelerator(cpu=True)


def literal(net, teacher, temperature):
    """T^2 KL(p || q) of one prediction, with loops."""
    p, q = ((x.double() / temperature).exp() for x in (teacher, net))
    p, q = p / p.sum(), q / q.sum()
    return temperature**2 * sum(p[c] * (p[c].log() - q[c].log()) for c in range(len(p)))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_of_text_is_the_literal_formula_at_predicted_tokens(temperature):
    net, teacher = torch.randn(2, 3, 5, 7)
    labels = torch.tensor([[1, 2, 3, 4, 0], [1, -100, 3, 4, 0], [1, 2, 3, 4, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    counted = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    total = sum(literal(net[n, t], teacher[n, t], temperature) for n, t in counted)
    batch = {"labels": labels, "attention_mask": mask}
    net, teacher = net.requires_grad_(), teacher.requires_grad_()
    loss = distillation_loss(net, teacher, batch, temperature)
    assert loss.item() == pytest.approx(total.item() / 9, rel=1e-5)
    assert distillation_loss(net, teacher, batch, temperature, 36).item() == pytest.approx(total.item() / 36, rel=1e-5)
    loss.backward()
    assert teacher.grad is None
    assert {(n, t) for n, t in (net.grad.abs().sum(-1) > 0).nonzero().tolist()} == set(counted)
    ignored = torch.full_like(labels, -100)
    assert distillation_loss(net, teacher, {"labels": ignored}) == 0


def test_the_loss_of_images_is_the_literal_formula_whatever_their_labels():
    net, teacher = torch.randn(2, 4, 6)
    total = sum(literal(net[n], teacher[n], 2.0) for n in range(4)) / 4
    for labels in (torch.tensor([0, 1, 2, 3]), torch.full((4, 6), 1 / 6)):
        assert distillation_loss(net, teacher, {"labels": labels}, 2.0).item() == pytest.approx(total.item(), rel=1e-5)


def test_labels_and_teacher_have_their_shares_and_the_teacher_is_frozen():
    net, batch = supernet(ONE), {name: rows[None] for name, rows in Blocks()[0].items()}
    model = copy.deepcopy(net)
    model.transformer.wte.weight.data += 0.1
    teacher, output = Teacher(model.train(), 0.25, 2.0), net(**batch)
    own, told = output.logits, model(**batch).logits
    expected = 0.75 * output.loss + 0.25 * distillation_loss(own, told, batch, 2.0)
    assert teacher.loss(output, batch).item() == pytest.approx(expected.item(), rel=1e-6)
    assert not model.training and not any(weight.requires_grad for weight in model.parameters())
    facts = teacher.facts()
    assert facts["forward_passes"] == 1 and facts["seconds"] > 0 and facts["parameters"] == model.num_parameters()
    nothing = SimpleNamespace(loss=torch.tensor(float("nan")), logits=told)  # the labels' loss is not even looked at
    assert Teacher(model).loss(nothing, batch) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("method", "unrolled"), [("drnas", False), ("darts", True), ("spos+rs", False), ("sandwich+rs", False)]
)
def test_a_search_whose_only_net_is_its_teacher_has_nothing_to_learn(tmp_path, method, unrolled):
    net = supernet(ONE)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    chosen = settings(tmp_path, method=method, start_from="x", teacher_share=1.0, weight_decay=0.0, max_steps=1,
                      arch_warmup_ratio=0.0, unrolled=unrolled, gradient_accumulation_steps=2)  # fmt: skip
    teacher = Teacher(copy.deepcopy(net))
    if chosen.resolved_method.two_stage:
        train_single_paths(net, Blocks(), chosen, CPU, teacher=teacher)
        steps = 2 + chosen.sandwich_paths if "sandwich" in method else 1
        cost, passes = steps + 1 / 3, 2
    else:
        search(net, Blocks(), Blocks(30), chosen, CPU, teacher=teacher)
        arch = 10 / 3 + 4 / 3 if unrolled else 2 / 3 + 1 / 3
        cost, passes = 1 + 1 / 3 + arch, 2 * (5 if unrolled else 2)
    (line,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line[name] == pytest.approx(0, abs=1e-5) for name in line if name in ("train_loss", "arch_loss"))
    assert line["search_cost"] == pytest.approx(cost) and teacher.facts()["forward_passes"] == passes
    moved = max((tensor - before[name]).abs().max().item() for name, tensor in net.state_dict().items())
    assert moved < 2 * chosen.learning_rate  # Adam makes a step of rounding errors, too


def test_both_levels_of_a_search_learn_from_labels_and_teacher(tmp_path):
    losses = {}
    for share in (0.0, 0.5, 1.0):
        net = supernet()
        other = copy.deepcopy(net)
        other.lm_head.weight.data.normal_(0, 0.3)
        chosen = settings(
            tmp_path / str(share), start_from="x", teacher_share=share, max_steps=1, arch_warmup_ratio=0.0,
            arch_learning_rate=1e-9,
        )  # fmt: skip
        search(net, Blocks(), Blocks(30), chosen, CPU, teacher=Teacher(other, share) if share else None)
        (line,) = (tmp_path / str(share) / "metrics.jsonl").read_text().splitlines()
        losses[share] = json.loads(line)
    for level in ("train_loss", "arch_loss"):
        labels, both, told = (losses[share][level] for share in (0.0, 0.5, 1.0))
        assert both == pytest.approx((labels + told) / 2, rel=1e-5) and abs(labels - told) > 0.1


def test_finalists_learn_from_the_teacher_and_start_from_the_checkpoint(tmp_path):
    start, net = supernet(), supernet()
    for weight in net.parameters():
        weight.data.normal_()
    plain = {"optimizer": "sgd", "sgd_momentum": 0.0, "weight_decay": 0.0, "max_grad_norm": 0.0}
    chosen = settings(tmp_path, start_from="x", teacher_share=1.0, max_steps=2, learning_rate=0.1, **plain)
    teacher = Teacher(copy.deepcopy(start))
    training = ShortTraining(net, Blocks(), chosen, CPU, 2, tmp_path / "f", teacher, teacher.model)
    same = training.train(SPACE.largest, 0, 2)  # it is its teacher
    for name, tensor in extract(start, SPACE.largest).state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], tensor, rtol=0, atol=1e-5, msg=name)
    smaller = training.train(SPACE.smallest, 0, 2)
    moved = extract(start, SPACE.smallest).state_dict()
    assert any((tensor - moved[name]).abs().max() > 1e-5 for name, tensor in smaller.state_dict().items())


class Padded(torch.utils.data.Dataset):
    """Blocks whose micro-batches count different numbers of tokens."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        tokens = Blocks()[index]["input_ids"]
        labels = tokens.clone()
        labels[: 2 * index] = -100
        return {"input_ids": tokens, "labels": labels}


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_accumulated_micro_batches_learn_as_one_batch(tmp_path, share):
    """`Trainer` sums the labels' loss of a step and divides by the tokens of all its micro-batches."""
    ends = []
    for accumulation in (1, 4):
        net = extract(supernet(), SPACE.largest)
        teacher = copy.deepcopy(net)
        teacher.lm_head.weight.data.normal_(0, 0.3)
        arguments = TrainingArguments(str(tmp_path), per_device_train_batch_size=4 // accumulation, max_steps=1,
                                      gradient_accumulation_steps=accumulation, learning_rate=1.0, optim="sgd",
                                      lr_scheduler_type="constant", max_grad_norm=0, use_cpu=True, report_to="none",
                                      save_strategy="no", remove_unused_columns=False)  # fmt: skip
        trainer = ResumingTrainer(net, arguments, train_dataset=Padded())
        trainer.teacher = Teacher(teacher, share)
        before = net.transformer.h[0].mlp.c_fc.weight.detach().clone()
        trainer.train()
        ends.append(net.transformer.h[0].mlp.c_fc.weight.detach() - before)
    assert ends[0].abs().max() > 1e-3
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_share": 0.5}, "teacher_share=0.5 needs a teacher.*start_from"),
        ({"teacher_share": 1.5, "start_from": "x"}, "teacher_share=1.5 must be between 0 and 1"),
        ({"teacher_temperature": 0.0}, "teacher_temperature=0.0 must be above 0"),
        ({"teacher_share": 1.0, "start_from": "x", "distillation": 1.0, "method": "sandwich+rs"}, "leave one out"),
        ({"finalist_start": "checkpoint"}, "finalist_start=checkpoint needs a checkpoint"),
    ],
)
def test_settings_of_a_teacher_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        settings(**options)


def test_a_checkpoint_is_left_slowly_and_its_slices_are_the_finalists():
    new, old = settings(), settings(start_from="x")
    assert (new.learning_rate, new.resolved_finalist_start) == (3e-3, "new")
    assert (old.learning_rate, old.min_learning_rate, old.resolved_finalist_start) == (1e-4, 1e-5, "checkpoint")
    assert settings(start_from="x", learning_rate=0.01).learning_rate == 0.01
