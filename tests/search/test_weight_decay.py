"""Weight decay has one rule, in the search and in the training of plain nets."""

import random

import pytest
import torch
from accelerate import Accelerator
from models.families import conv_macro, gpt2, mobilenetv3, vit

from tangle_hf import ElasticCellsConfig, ElasticCellsForImageClassification, extract
from tangle_hf.search import SearchArguments
from tangle_hf.search.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from tangle_hf.search.loop import weight_optimizer
from tangle_hf.search.weight_decay import decay_groups
from tangle_hf.training.trainer import ResumingTrainer, TrainingSettings, training_arguments


def cells():
    config = ElasticCellsConfig(cell="nas_bench_201", hidden_size=4, num_cells=1, image_size=8, num_labels=10)
    return ElasticCellsForImageClassification(config)


# Parameters that are not pulled to zero although they have several axes; of all others, those that have.
LEFT_OUT = {
    "gpt2": {"transformer.wpe.weight"},
    "vit": {"vit.embeddings.cls_token", "vit.embeddings.position_embeddings"},
}
SUPERNETS = {"gpt2": gpt2, "vit": vit, "conv_macro": conv_macro, "mobilenetv3": mobilenetv3, "cells": cells}


def expected(name, model):
    return {n for n, tensor in model.named_parameters() if tensor.ndim > 1} - LEFT_OUT.get(name, set())


def decayed(optimizer, model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)] for group in optimizer.param_groups for p in group["params"] if group["weight_decay"]}


@pytest.mark.parametrize("name", SUPERNETS)
def test_weight_decay_leaves_out_what_the_documents_say(name, tmp_path):
    supernet = SUPERNETS[name]()
    assert decayed(weight_optimizer(supernet, SearchArguments()), supernet) == expected(name, supernet)
    subnet = extract(supernet, supernet.space.sample(random.Random(0)))
    trainer = ResumingTrainer(subnet, training_arguments(TrainingSettings(), "retrain", 0, tmp_path, max_steps=1))
    assert decayed(trainer.create_optimizer(), subnet) == expected(name, subnet)
    every = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert every == {id(parameter) for parameter in subnet.parameters()}


def test_a_checkpoint_of_another_rule_is_refused_in_one_line(tmp_path):
    accelerator, model = Accelerator(cpu=True), torch.nn.Linear(2, 2)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(accelerator, tmp_path, 1)
    other = Accelerator(cpu=True)
    other.prepare(model := torch.nn.Linear(2, 2), torch.optim.AdamW(decay_groups(model, 0.1)))
    folder, _ = latest_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="another version chose what weight decay is applied to"):
        load_checkpoint(other, folder)
