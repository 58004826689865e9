"""Search methods. They know "a model with a space", never a family."""

from .arguments import SearchArguments
from .bilevel import search
from .choose import choose


__all__ = ["SearchArguments", "choose", "search"]
