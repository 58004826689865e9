"""Runs of the workers, one after another, on processes of their own. Arguments: folder, [[worker, name, options]]."""

import gc
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from accelerate import PartialState


def launch(folder: Path, processes: int, runs: list[tuple[str, str, dict]]) -> subprocess.CompletedProcess:
    """Makes the runs, each in the subfolder of its name."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*start, __file__, str(folder), json.dumps(runs)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


if __name__ == "__main__":
    for worker, name, options in json.loads(sys.argv[2]):
        try:
            module = import_module(worker)
            gc.freeze()  # as conftest.py does
            module.run(Path(sys.argv[1]) / name, **options)
        except Exception as error:
            raise RuntimeError(f"the run {name} failed") from error
    PartialState().destroy_process_group()
