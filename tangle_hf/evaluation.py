"""Scores of a model on held-out data. Of a supernet, `mixture=` or `arch=` say what to run."""

import torch

from .metrics import Accuracy, Perplexity


@torch.no_grad()
def perplexity(model, blocks, batch_size: int, max_batches: int | None = None, **chosen) -> dict[str, float]:
    """Loss (nats per token) and perplexity on blocks of tokens, or on the first `max_batches` batches of them."""
    metric = Perplexity(keep_in_memory=True)
    training = model.training
    model.eval()
    for number, batch in enumerate(torch.utils.data.DataLoader(blocks, batch_size)):
        if number == max_batches:
            break
        tokens = batch["input_ids"].to(model.device)
        logits = model(input_ids=tokens, **chosen).logits[:, :-1].float()
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").double()
        metric.add_batch(predictions=nll.sum(1).tolist(), references=[nll.shape[1]] * len(nll))
    model.train(training)
    return metric.compute()


@torch.no_grad()
def accuracy(model, images, batch_size: int, max_batches: int | None = None, **chosen) -> dict[str, float]:
    """Loss (cross-entropy in nats) and accuracy (in [0, 1]) on images, or on the first `max_batches` batches of them."""
    metric = Accuracy(keep_in_memory=True)
    training, total, count = model.training, 0.0, 0
    model.eval()
    for number, batch in enumerate(torch.utils.data.DataLoader(images, batch_size)):
        if number == max_batches:
            break
        labels = batch["labels"].to(model.device)
        logits = model(pixel_values=batch["pixel_values"].to(model.device), **chosen).logits.float()
        total += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        count += len(labels)
        metric.add_batch(predictions=logits.argmax(-1).tolist(), references=labels.tolist())
    model.train(training)
    scores = metric.compute()
    return {"loss": total / count, **scores}
