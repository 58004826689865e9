"""What a column holds, in words for an error."""

from datasets import ClassLabel, Image, LargeList, List, Value


TEXT = ("string", "large_string", "string_view")


def is_text(kind) -> bool:
    """Whether a feature of datasets is text."""
    return isinstance(kind, Value) and kind.dtype in TEXT


def holds(kind) -> str:
    """What a feature of datasets holds, in the plural."""
    if isinstance(kind, (List, LargeList)):
        return "chat messages" if _is_message(kind.feature) else f"lists of {holds(kind.feature)}"
    if isinstance(kind, list):
        return "chat messages" if _is_message(kind[0]) else f"lists of {holds(kind[0])}"
    if isinstance(kind, dict):
        return "chat messages" if _is_message(kind) else f"structs with the fields {list(kind)}"
    if isinstance(kind, ClassLabel):
        return "class numbers"
    if isinstance(kind, Image):
        return "images"
    if isinstance(kind, Value):
        if kind.dtype in TEXT:
            return "texts"
        if kind.dtype == "bool":
            return "true and false"
        if "binary" in kind.dtype:
            return "bytes"
        if "int" in kind.dtype or "float" in kind.dtype or "decimal" in kind.dtype:
            return f"numbers ({kind.dtype})"
        return "nothing" if kind.dtype == "null" else f"values of type {kind.dtype}"
    if type(kind).__name__ == "Json":
        return "values of different types"
    return f"values of type {type(kind).__name__}"


def _is_message(kind) -> bool:
    return isinstance(kind, dict) and ({"role", "content"} <= kind.keys() or {"from", "value"} <= kind.keys())
