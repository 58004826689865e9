"""Pushing to a Hub on the loopback device: what arrives loads anywhere, and what fails publishes nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import finetune
import pytest
from conftest import RECIPES, SHORT, run_recipe
from huggingface_hub import ModelCard, constants
from loopback_hub import LARGE, File

from tangle_hf import ElasticGPT2LMHeadModel
from tangle_hf.card import LOCAL_NAME
from tangle_hf.hub import STALE, push


FRESH = """
import json, sys
from pathlib import Path
sys.modules["tangle_hf"] = None  # importing it is an ImportError
import torch
from huggingface_hub import hf_hub_download
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, AutoImageProcessor, AutoTokenizer
torch.manual_seed(0)
report = {}
for repo, code in json.load(sys.stdin).items():
    scope = {}
    exec(code, scope)
    pipe = scope["pipe"]
    if "vit" in repo:
        inputs = {"pixel_values": torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)}
        report[repo] = [type(pipe.model).__name__, len(pipe("IMAGE")), None]
    else:
        inputs = {"input_ids": torch.arange(20)[None]}
        report[repo] = [type(pipe.model).__name__, len(pipe("line", max_new_tokens=3)), None]
    report[repo][2] = pipe.model(**inputs).logits.double().sum().item()
print(json.dumps(report))
"""


def blocks(text: str) -> list[str]:
    """The Python of a card."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def readme(hub, repo: str) -> str:
    return hub.repos[repo].files()["README.md"].content.decode()
