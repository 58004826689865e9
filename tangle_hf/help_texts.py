"""What `--help` and `--help_all` show of dataclasses of arguments.

Every field says beside its help where it belongs: `"group"` in its metadata begins a group, to which the fields below it belong
until one begins another, and `"main"` puts it among the few options that `--help` explains.
"""

import argparse
import sys
from copy import copy
from dataclasses import Field, fields
from shutil import get_terminal_size
from textwrap import wrap

from transformers import HfArgumentParser


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the script's docstring, and shows an option once, its default as it would be typed."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=get_terminal_size((110, 24)).columns - 2)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        negated = [option for option in action.option_strings if option.startswith("--no_")]
        names = action.option_strings[:2] if action.dest == "help" else [action.option_strings[0], *negated]
        value = "" if action.nargs == 0 or action.const is True else f" {action.metavar or action.dest.upper()}"
        return ", ".join(names) + value + (" ..." if action.nargs in ("*", "+") else "")

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default is argparse.SUPPRESS or action.required or "default: " in action.help.lower():
            return action.help
        return f"{action.help} (default: {as_typed(action.default).replace('%', '%%')})"


def as_typed(value) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return " ".join(map(as_typed, value)) or "no value"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


class Parser(HfArgumentParser):
    """`HfArgumentParser` with groups that fields name, and with help in two lengths.

    Args:
        dataclass_types: Dataclasses whose fields have a "help" in their metadata, and may have a "group" and "main".
        **options: Of `argparse.ArgumentParser`.
    """

    def __init__(self, dataclass_types, **options):
        super().__init__(dataclass_types, formatter_class=Formatter, **options)
        self.add_argument("--help_all", action=HelpAll, help="explain all options and exit")

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: Field) -> None:
        plain = copy(field)  # argparse would not know the rest of the metadata
        plain.metadata = {name: value for name, value in field.metadata.items() if name not in ("group", "main")}
        HfArgumentParser._parse_dataclass_field(parser, plain)

    def parse_known_args(self, args=None, namespace=None) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does; a list that is `none` is None."""
        found, unknown = super().parse_known_args(args, namespace)
        for name, values in vars(found).items():
            if isinstance(values, list) and None in values:
                if len(values) > 1:
                    raise ValueError(f"{name}: none, which takes back what a config file sets, stands alone")
                setattr(found, name, None)
        return found, unknown

    def groups(self) -> dict[str, list[argparse.Action]]:
        """The options of the dataclasses, by group, in the order of the fields."""
        actions = {}
        for action in self._actions:  # `--no_name` stands behind its option and is shown with it
            actions.setdefault(action.dest, copy(action)).option_strings += (
                action.option_strings if action.dest in actions else []
            )
        found = {}
        for kind in self.dataclass_types:
            group = getattr(kind, "_argument_group_name", "options")
            for field in fields(kind):
                group = field.metadata.get("group", group)
                if field.init:
                    found.setdefault(group, []).append(actions[field.name])
        return found

    def format_help(self, everything: bool = False) -> str:
        """The script's docstring, the options that matter most, and the others: explained, or by name."""
        formatter, groups = self._get_formatter(), self.groups()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        main = {field.name for kind in self.dataclass_types for field in fields(kind) if field.metadata.get("main")}
        own = [action for action in self._actions if action.dest in ("help", "help_all", "config")]
        shown = {"options": own, **groups}
        if not everything:
            chosen = [action for actions in groups.values() for action in actions if action.dest in main]
            shown = {"options": [*own, *sorted(chosen, key=lambda action: not action.required)]}
        for title, actions in shown.items():
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        if everything:
            formatter.add_text("none as a value takes back what a config file sets.")
            return formatter.format_help()
        more = _names(groups, main)
        return formatter.format_help() + (f"\nmore options, which --help_all explains:\n{more}" if more else "")


class HelpAll(argparse.Action):
    """Prints the help on all options."""

    def __init__(self, option_strings, dest, help):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: Parser, *unused) -> None:
        sys.stdout.write(parser.format_help(everything=True))
        parser.exit()


def _names(groups: dict[str, list[argparse.Action]], main: set[str]) -> str:
    """The options that are not main ones, by group and without their explanations."""
    others = {title: [a.dest for a in actions if a.dest not in main] for title, actions in groups.items()}
    width = max(map(len, others))
    lines = [
        line
        for title, names in others.items()
        if names
        for line in wrap(f"  {title.ljust(width)}  {' '.join(names)}", 100, subsequent_indent=" " * (width + 4))
    ]
    return "".join(f"{line}\n" for line in lines)
