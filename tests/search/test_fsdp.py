"""Weights sharded over two processes as one unit (FSDP2 on gloo) give the losses and gradients of the whole model."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_weights_sharded_as_one_unit_change_nothing():
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    worker = str(Path(__file__).with_name("fsdp_worker.py"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, worker], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for form, differences in json.loads(done.stdout.splitlines()[-1]).items():
        assert max(differences.values()) < 1e-6, (form, differences)
