"""Imported before torchvision and what asks for it: where the extra `vision` is missing, that is one line."""

from ...errors import check_extra


check_extra("vision", "torchvision", "PIL")
