"""Command line and YAML arguments of the recipes: flat keys, one dataclass per concern.

`--config file.yaml` fills the fields of the dataclasses, the command line wins over the file, and whatever neither of
them knows is refused by name. `help_texts.py` has what `--help` shows of them.
"""

import argparse
import difflib
import os
import types
from collections.abc import Callable, Iterable
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from .help_texts import Parser
from .values import check_values


CALLED_AS = "TANGLE_HF_COMMAND"  # variable of the environment: the command of tangle-hf that runs a recipe


def with_default(kind: type, name: str, value: Any, help: str | None = None):
    """A copy of a field of a dataclass of arguments with another default, for a subclass to declare.

    Args:
        kind: The dataclass.
        name: The field.
        value: The default.
        help: Its help text; None: the same.
    """
    (own,) = (item for item in fields(kind) if item.name == name)
    return field(default=value, metadata=own.metadata if help is None else {**own.metadata, "help": help})


def parse(*dataclass_types: type, argv: list[str] | None = None, description: str | None = None) -> tuple:
    """Fill dataclasses from `--config file.yaml` and the command line, which wins over the file.

    Args:
        dataclass_types: Dataclasses with distinct field names; every field has a "help" in its metadata (`help_texts.Parser`).
        argv: Arguments without the program's name; `sys.argv[1:]` by default.
        description: Text above the options in `--help`: the docstring of the calling script.

    Returns:
        One instance per dataclass, in the order given.

    Raises:
        ValueError: If the file is missing or is no flat mapping, or for an unknown key or flag or a wrong type.
    """
    parser = _parser(dataclass_types, description)
    config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, usage=parser.usage)
    config_parser.add_argument("--config")
    config = config_parser.parse_known_args(argv)[0].config
    if config is not None:
        values = read_config(config, *dataclass_types)
        parser.set_defaults(**values)
        for action in parser._actions:
            action.required = action.required and action.dest not in values
    parsed = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True, look_for_args_file=False)
    instances, unknown = parsed[: len(dataclass_types)], parsed[-1]
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        flags = [argument.split("=")[0] for argument in unknown if argument.startswith("--")]
        what = f"there is no option {', '.join(flags)}" if flags else f"{unknown} belong to no option"
        raise ValueError(f"{what}{_suggest(flags, known)}; --help_all lists all options")
    for instance in instances:
        check_values(instance, infinite=("max_grad_norm", "arch_max_grad_norm"))
    return tuple(instances)


def read_config(path: str | Path, *dataclass_types: type) -> dict[str, Any]:
    """Read a flat YAML file whose keys are fields of the dataclasses, with values of the fields' types.

    Args:
        path: The YAML file.
        dataclass_types: The dataclasses whose fields are allowed.

    Returns:
        Field name to value, of the field's type.

    Raises:
        ValueError: If the file is missing or is no flat mapping, or for an unknown key or a wrong type.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"--config {path}: there is no such file")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; --config takes a YAML file of `key: value` lines") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold `key: value` lines, got a {type(values).__name__}")
    hints = {}
    for dataclass_type in dataclass_types:
        # HfArgumentParser overwrites `field.type` (an optional loses its None), so the annotations are read again.
        types_of = get_type_hints(dataclass_type)
        hints.update({item.name: types_of[item.name] for item in fields(dataclass_type) if item.init})
    if unknown := [key for key in values if key not in hints]:
        raise ValueError(f"{path} has unknown keys {unknown}{_suggest(unknown, hints)}; allowed are {sorted(hints)}")
    return {key: _checked(value, hints[key], f"{path}: {key}") for key, value in values.items()}


class UniqueKeys(yaml.SafeLoader):
    """Reads plain YAML, and refuses a mapping that has a key twice, of which PyYAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _parser(dataclass_types: Iterable[type], description: str | None) -> Parser:
    called = os.environ.get(CALLED_AS, "").replace("%", "%%") or "%(prog)s"
    parser = Parser(
        dataclass_types,
        description=description,
        # The default usage line lists every option twice, before the list that explains them.
        usage=f"{called} [--config FILE] [--option VALUE ...]",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="YAML file whose keys are the options, without dashes; the command line wins over it",
    )
    optional = {name for kind in dataclass_types for name, hint in get_type_hints(kind).items() if _allows_none(hint)}
    for action in parser._actions:
        if action.dest in ("help", "help_all", "config"):
            continue
        # The command line can give an empty list, to take back what a config file sets.
        action.nargs = "*" if action.nargs == "+" else action.nargs
        if action.type in (int, float, str):
            action.metavar = {int: "INT", float: "FLOAT", str: "TEXT"}[action.type]
            action.type = at_home if action.type is str else action.type
            if action.dest in optional:
                action.type = _or_none(action.type)
        elif action.type is not None and action.const is not True:
            action.metavar = "BOOL"
    return parser


def at_home(text: str) -> str:
    """A text, with the home folder for a ~/ at its start, which a shell leaves there in --option=~/folder."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


at_home.__name__ = "str"  # argparse names it


def _or_none(kind: Callable):
    def convert(text: str):
        return None if text.lower() == "none" else kind(text)

    convert.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return convert


def _allows_none(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """The YAML value as the annotated type, or a ValueError that says what was expected."""
    if _allows_none(hint):
        if value is None:
            return None
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
        if hint == list[str] and isinstance(value, str):  # one file or several
            return [at_home(value)]
    if get_origin(hint) is list:
        if not isinstance(value, list):
            raise ValueError(f"{where} must be a list, got {value!r}; write it as [a, b] even for one value")
        return [_checked(item, get_args(hint)[0], where) for item in value]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{where} must be one of {get_args(hint)}, got {value!r}")
        return value
    if hint is float:
        # YAML 1.1 reads 5e-4 as text (it wants 5.0e-4); True would pass as a number.
        try:
            if not isinstance(value, bool):
                return float(value)
        except (TypeError, ValueError):
            pass
        raise ValueError(f"{where} must be a number, got {value!r}")
    names = {int: "a whole number", bool: "true or false", str: "text"}
    if hint not in names:
        raise TypeError(f"{where}: fields of type {hint} are not supported in a config file")
    if type(value) is not hint:
        quote = ""
        if hint is str and value is not None:
            quote = "; put it in quotes (YAML reads yes, no, on, off and numbers as something else)"
        raise ValueError(f"{where} must be {names[hint]}, got {value!r}{quote}")
    return at_home(value) if hint is str else value


def _suggest(unknown: Iterable[Any], known: Iterable[str]) -> str:
    known = list(known)
    pairs = [(str(name), difflib.get_close_matches(str(name), known, n=1)) for name in unknown]
    hints = [f"{match[0]} instead of {name}" for name, match in pairs if match]
    return f" (did you mean {', '.join(hints)}?)" if hints else ""
