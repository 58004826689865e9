"""Search methods. They know "a model with a space", never a family."""

from .arguments import SearchArguments
from .bilevel import search
from .choose import choose
from .front import trace_front


__all__ = ["SearchArguments", "choose", "search", "trace_front"]
