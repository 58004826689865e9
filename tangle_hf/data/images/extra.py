"""Imported before torchvision: where the extra `vision` is missing, a recipe for images ends with one line."""

from ...errors import check_extra


check_extra("vision", "torchvision", "PIL")
