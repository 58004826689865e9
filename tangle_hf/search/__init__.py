"""Search methods. They know "a model with a space", never a family."""

from .arguments import SearchArguments
from .bilevel import search
from .choose import choose
from .front import trace_front
from .single_paths import train_single_paths
from .two_stage import search_candidates


__all__ = ["SearchArguments", "choose", "search", "search_candidates", "trace_front", "train_single_paths"]
