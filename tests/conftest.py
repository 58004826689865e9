"""Shared by all tests: no network, one thread (tiny models gain nothing from more)."""

import gc
import os
import sys
from pathlib import Path


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parent.parent
# The oracle is imported by name, and the recipes as scripts of their folder import each other.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "recipes")]

import pytest
import torch


def pytest_collection_finish():
    """What all tests have imported is no garbage: every training of Trainer collects, and would look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
