"""Arguments of publishing a result on the Hub, named as in transformers' `TrainingArguments`."""

import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..settings import CALLED_AS


RESUME = re.compile(r"--resume(=|$)")


@dataclass
class HubArguments:
    """Whether, where and how to publish. The token is that of `hf auth login` or `HF_TOKEN`, never an argument.

    Raises:
        ValueError: A setting of the Hub is given without `push_to_hub`.
    """

    _argument_group_name = "publishing"

    license: str | None = field(
        default=None,
        metadata={"help": "licence that the card states for the weights, as the Hub names it: apache-2.0"},
    )
    push_to_hub: bool = field(default=False, metadata={"help": "publish the result with its card at the end"})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "repository: owner/name, or a name; default: the name of output_dir"}
    )
    hub_private_repo: bool | None = field(
        default=None, metadata={"help": "whether a new repository is private; default: as your account says"}
    )
    hub_revision: str | None = field(default=None, metadata={"help": "branch to push to; default: main"})

    def __post_init__(self):
        given = [
            name for name in ("hub_model_id", "hub_private_repo", "hub_revision") if getattr(self, name) is not None
        ]
        if given and not self.push_to_hub:
            raise ValueError(
                f"{', '.join(given)} would have no effect without --push_to_hub; add it or leave them out"
            )


@dataclass
class SearchHubArguments(HubArguments):
    """Whether, where and how a search publishes the net that it found and, if asked to, its supernet."""

    hub_supernet_model_id: str | None = field(
        default=None,
        metadata={
            "help": "repository for the supernet, with the trajectory of the search; default: it is not published"
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.hub_supernet_model_id is not None:
            if not self.push_to_hub:
                raise ValueError(
                    "hub_supernet_model_id would have no effect without --push_to_hub; add it or leave it out"
                )
            if self.hub_supernet_model_id == self.hub_model_id:
                raise ValueError(
                    f"hub_model_id and hub_supernet_model_id are both {self.hub_model_id}; they need two names"
                )


def hub_options(hub: HubArguments) -> dict[str, bool | str | None]:
    """What `push`, `publish` and `check_target` are told."""
    return {"private": hub.hub_private_repo, "revision": hub.hub_revision}


def command_line() -> str:
    """How this script was called, for the model card: with its path below the working directory, else with its name alone."""
    words = zip(sys.argv, sys.argv[1:], strict=False)
    options = [word for before, word in words if not RESUME.match(word) and (before != "--resume" or word[:1] == "-")]
    if CALLED_AS in os.environ:
        return f"{os.environ[CALLED_AS]} {shlex.join(options)}".rstrip()
    script, here = Path(sys.argv[0]).resolve(), Path.cwd()
    name = script.relative_to(here) if script.is_relative_to(here) else script.name
    return shlex.join(["accelerate", "launch", str(name), *options])
