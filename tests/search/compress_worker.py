"""Tiny compressions, for the test that compares two processes with one."""

import sys
import time
from pathlib import Path

import transformers
from accelerate import PartialState


sys.path.append(str(Path(__file__).parents[2] / "recipes"))

import compress

from tangle_hf.compress.settings import parse_for_checkpoint


# Without the streams, which are measured in units of the variance of a process's own part of a batch.
QUICK = ["--max_flops", "60%", "--standard_only", "--max_steps", "30", "--calibration_examples", "4", "--sensitivity_examples",
         "2", "--choice_ratio", "1", "--finalists", "1", "--hand_cuts", "2", "--arch_steps", "2", "--finalist_batches", "1",
         "--save_steps", "12", "--layer_weight", "0"]  # fmt: skip


def run(folder: Path, argv: list[str], batch_size: int = 4, stop: bool = False, late: float = 0) -> None:
    """Compresses a checkpoint.

    Args:
        folder: Of the run.
        argv: The checkpoint and the data.
        batch_size: Of each process.
        stop: All processes leave in the middle of saving the checkpoint of step 12, after the nets were compared at step 10.
        late: Seconds that the other processes come later than the main one to look at the folder.
    """
    check = compress.check_run_folder

    def check_late(*given):
        time.sleep(0 if PartialState().is_main_process else late)
        check(*given)

    compress.check_run_folder = check_late
    save = transformers.TrainerState.save_to_json

    def save_otherwise(state, path):
        if stop and state.global_step == 12:
            raise KeyboardInterrupt
        save(state, path)

    transformers.TrainerState.save_to_json = save_otherwise
    rest = transformers.Trainer._save_checkpoint

    def save_and_leave(trainer, *given):
        rest(trainer, *given)
        if stop and trainer.state.global_step == 12:  # only the main process writes the state
            raise KeyboardInterrupt

    transformers.Trainer._save_checkpoint = save_and_leave
    resume = ["--resume"] if (folder / "config.yaml").is_file() else []
    output = ["--output_dir", str(folder), "--per_device_batch_size", str(batch_size)]
    try:
        compress.main(*parse_for_checkpoint([*QUICK, *argv, *output, *resume], None))
    except KeyboardInterrupt:
        return
    finally:
        compress.check_run_folder = check
        transformers.TrainerState.save_to_json, transformers.Trainer._save_checkpoint = save, rest
