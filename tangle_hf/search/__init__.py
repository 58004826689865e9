"""Search methods. They know "a model with a space", never a family."""

from .choice import choose
from .gradient.bilevel import search
from .gradient.front import trace_front
from .limits import Limits
from .settings import SearchArguments
from .two_stage.candidate_search import search_candidates
from .two_stage.single_paths import train_single_paths


__all__ = ["Limits", "SearchArguments", "choose", "search", "search_candidates", "trace_front", "train_single_paths"]
