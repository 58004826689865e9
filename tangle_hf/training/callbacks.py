"""What a training with `Trainer` is told and watched by, at every step."""

import torch
from transformers import TrainerCallback

from ..messages import progress_bar


ADVICE = (
    "the last good checkpoint is kept. Try a smaller --learning_rate, a larger --warmup_ratio, a smaller --max_grad_norm, or "
    "--mixed_precision no"
)


class TellEpoch(TrainerCallback):
    """Tells examples with a `set_epoch` which epoch it is; accelerate's loader does not after a resume, or on two processes."""

    def __init__(self, examples: torch.utils.data.Dataset):
        self.examples = examples

    def on_epoch_begin(self, args, state, control, **unused):
        if hasattr(self.examples, "set_epoch"):
            self.examples.set_epoch(int(state.epoch + 1e-6))  # a resumed epoch begins with a fraction


class StopUnlessFinite(TrainerCallback):
    """Ends a training whose gradients or weights are not finite: before the step, and before a checkpoint of them.

    Raises:
        FloatingPointError: They are not.
    """

    def on_pre_optimizer_step(self, args, state, control, model=None, **unused):
        self._check([p.grad for p in model.parameters() if p.grad is not None], "gradients", state.global_step)

    def on_step_end(self, args, state, control, model=None, **unused):
        if control.should_save or control.should_training_stop:
            self._check([*model.parameters(), *model.buffers()], "weights", state.global_step)

    def _check(self, tensors: list[torch.Tensor], what: str, step: int) -> None:
        parts = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]  # of FSDP, its own shard
        broken = [(~torch.isfinite(part)).any() for part in parts if part.is_floating_point()]
        if broken and torch.stack(broken).any():
            raise FloatingPointError(f"{what} are not finite at step {step}; {ADVICE}")


class StopAt(TrainerCallback):
    """Ends a training early, with a checkpoint from which it goes on later."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **unused):
        if state.global_step >= self.step:
            control.should_save = control.should_training_stop = True


class ShowProgress(TrainerCallback):
    """Steps, time left and loss, in place of what `Trainer` prints."""

    def __init__(self, steps: int | None, name: str):
        self.steps, self.name = steps, name

    def on_train_begin(self, args, state, control, **unused):
        total = self.steps or state.max_steps
        self.bar = progress_bar(total, self.name, state.global_step, state.is_world_process_zero)

    def on_step_end(self, args, state, control, **unused):
        self.bar.update()

    def on_log(self, args, state, control, logs=None, **unused):
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.3f}", refresh=False)

    def on_train_end(self, args, state, control, **unused):
        self.bar.close()


class RaiseDropPath(TrainerCallback):
    """Drop path that grows linearly over training up to what the config says, as in DARTS (arXiv:1806.09055, A.2.1)."""

    def on_step_begin(self, args, state, control, model=None, **unused):
        plain = getattr(model, "module", model)
        plain.drop_path_rate = plain.config.drop_path_rate * state.global_step / state.max_steps
