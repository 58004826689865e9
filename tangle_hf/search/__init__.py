"""Search methods. They know "a model with a space", never a family."""

from .arguments import SearchArguments
from .bilevel import search
from .choose import choose
from .single_paths import train_single_paths
from .two_stage import search_candidates


__all__ = ["SearchArguments", "choose", "search", "search_candidates", "train_single_paths"]
