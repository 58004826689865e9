"""Cells as one operation per edge, and the notations of the field for them, both ways.

A cell is a graph of nodes; node i may read every node before it. Its edges are ordered by their target, then by their source:
the order of DARTS (arXiv:1806.09055) and of NAS-Bench-201 (arXiv:2001.00326). Travels with checkpoints as remote code, so it
imports nothing but the standard library.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple


CONVOLUTIONS = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")


class Cell(NamedTuple):
    """A family of cells.

    Args:
        kinds: Kinds of cells, each with operations of its own.
        inputs: Nodes that are outputs of earlier cells.
        nodes: Nodes that sum up edges.
        operations: What an edge can be, in ascending order of the kernel where only the kernel differs.
        concat: Whether a cell's output is the concatenation of its nodes; else it is the last one.
        kept_inputs: Edges into each node that its discrete networks have, None for all.
    """

    kinds: tuple[str, ...]
    inputs: int
    nodes: int
    operations: tuple[str, ...]
    concat: bool
    kept_inputs: int | None = None

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(source, target) of every edge."""
        first = self.inputs
        return tuple((source, target) for target in range(first, first + self.nodes) for source in range(target))


# DARTS has 2 + 3 + 4 + 5 = 14 edges; appendix C of arXiv:2312.10440 says 13.
CELLS = {
    "toy_cell": Cell(("normal", "reduce"), 1, 2, CONVOLUTIONS, True),
    "nas_bench_201": Cell(
        ("normal",), 1, 3, ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"), False
    ),
    "darts": Cell(
        ("normal", "reduce"),
        2,
        4,
        ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", *CONVOLUTIONS),
        True,
        kept_inputs=2,
    ),
}

Operations = dict[str, tuple[str, ...]]  # kind of cell -> the operation of each edge


def cell_of(name: str) -> Cell:
    """The family of cells of a name.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in CELLS:
        raise ValueError(f"cell={name!r} is unknown; choose one of {sorted(CELLS)}")
    return CELLS[name]


def check_operations(name: str, operations: Mapping[str, Sequence[str]]) -> Operations:
    """Operations of all kinds of cells, as tuples.

    Raises:
        ValueError: A kind is missing or unknown, or an edge is missing or has an unknown operation; names both.
    """
    cell = cell_of(name)
    if set(operations) != set(cell.kinds):
        raise ValueError(f"{name} has operations for {list(cell.kinds)}, got them for {list(operations)}")
    for kind in cell.kinds:
        if len(operations[kind]) != len(cell.edges):
            raise ValueError(f"{name} has {len(cell.edges)} edges, {kind} gives {len(operations[kind])} operations")
        for number, operation in enumerate(operations[kind]):
            if operation not in cell.operations:
                raise ValueError(
                    f"{kind}: {operation!r} on edge {number} ({edge_name(cell, number)}) is no operation of {name}; "
                    f"choose one of {cell.operations}"
                )
    return {kind: tuple(operations[kind]) for kind in cell.kinds}


def edge_name(cell: Cell, number: int) -> str:
    """An edge for error messages, e.g. "node 0 to 2"."""
    return "node {} to {}".format(*cell.edges[number])


def parse(name: str, text: str) -> Operations:
    """Reads the notation of a space.

    NAS-Bench-201: `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`, one group per node, `operation~source`. DARTS and the toy
    cell: `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))`,
    (operation, source) of the kept edges, two per node in DARTS and all of them in the toy cell (arXiv:2312.10440, F.5.1).
    Edges that DARTS leaves out are `none`.

    Args:
        name: A key of `CELLS`.
        text: The notation.

    Returns:
        Kind of cell -> the operation of each edge.

    Raises:
        ValueError: The text does not parse, or names an unknown operation, or an edge that is not there or there twice; the
            message says where.
    """
    read = _parse_groups if cell_of(name).concat is False else _parse_genotype
    return check_operations(name, read(name, text))


def notation(name: str, operations: Mapping[str, Sequence[str]]) -> str:
    """Writes operations in the notation of a space, which `parse` reads.

    Raises:
        ValueError: A kind of cell or an edge is missing, an operation is unknown, or a node of DARTS has not exactly two edges
            that are not `none`, which its notation cannot express.
    """
    operations, cell = check_operations(name, operations), CELLS[name]
    if not cell.concat:
        (kind,) = cell.kinds
        groups = [f"{op}~{edge[0]}" for op, edge in zip(operations[kind], cell.edges, strict=True)]
        targets = [edge[1] for edge in cell.edges]
        parts = (
            "|".join(g for g, t in zip(groups, targets, strict=True) if t == node) for node in sorted(set(targets))
        )
        return "+".join(f"|{part}|" for part in parts)
    concat = f"range({cell.inputs}, {cell.inputs + cell.nodes})"
    fields = []
    for kind in cell.kinds:
        pairs = [(op, source) for (source, _), op in _kept(name, kind, operations[kind])]
        fields.append(f"{kind}={pairs}, {kind}_concat={concat}")
    return f"Genotype({', '.join(fields)})"


def has_notation(name: str, operations: Mapping[str, Sequence[str]]) -> bool:
    """Whether the notation of the space can express these operations."""
    cell = cell_of(name)
    if cell.kept_inputs is None:
        return True
    return all(count == cell.kept_inputs for kind in cell.kinds for count in _counts(cell, operations[kind]).values())


def _counts(cell: Cell, operations: Sequence[str]) -> dict[int, int]:
    """Edges into each node that are not `none`."""
    counts = dict.fromkeys(range(cell.inputs, cell.inputs + cell.nodes), 0)
    for (_, target), operation in zip(cell.edges, operations, strict=True):
        counts[target] += operation != "none"
    return counts


def _kept(name: str, kind: str, operations: Sequence[str]) -> list[tuple[tuple[int, int], str]]:
    """(edge, operation) of the edges that the notation lists."""
    cell = CELLS[name]
    edges = list(zip(cell.edges, operations, strict=True))
    if cell.kept_inputs is None:
        return edges
    for node, count in _counts(cell, operations).items():
        if count != cell.kept_inputs:
            raise ValueError(
                f"{kind}: node {node} has {count} edges that are not none; the notation of {name} is for "
                f"{cell.kept_inputs}; choose them with `discretise_edges`"
            )
    return [(edge, operation) for edge, operation in edges if operation != "none"]


def _parse_groups(name: str, text: str) -> Operations:
    cell = CELLS[name]
    groups = text.strip().split("+")
    if len(groups) != cell.nodes:
        raise ValueError(
            f"{text!r} has {len(groups)} groups, {name} has {cell.nodes} nodes; write |op~0|+|op~0|op~1|+..."
        )
    operations = []
    for number, group in enumerate(groups):
        target = cell.inputs + number
        if not re.fullmatch(r"\|([^|]+\|)+", group.strip()):
            raise ValueError(f"group {number + 1} of {text!r} is {group!r}; write it as |op~0|op~1|")
        found = {}
        for item in group.strip().strip("|").split("|"):
            operation, _, source = item.partition("~")
            if not source.isdecimal() or int(source) >= target:
                raise ValueError(
                    f"group {number + 1} of {text!r}: {item!r} should be operation~source with a source below {target}"
                )
            _add(found, int(source), operation, f"group {number + 1}", cell, target, name)
        operations += _in_order(found, target, f"group {number + 1} of {text!r}")
    return {cell.kinds[0]: tuple(operations)}


def _parse_genotype(name: str, text: str) -> Operations:
    cell = CELLS[name]
    fields = _genotype_fields(text)
    wanted = {field for kind in cell.kinds for field in (kind, f"{kind}_concat")}
    if fields.keys() != wanted:
        raise ValueError(f"{text!r} has the fields {sorted(fields)}; {name} has {sorted(wanted)}")
    operations = {}
    for kind in cell.kinds:
        concat = list(range(cell.inputs, cell.inputs + cell.nodes))
        if list(fields[f"{kind}_concat"]) != concat:
            raise ValueError(f"{kind}_concat is {fields[f'{kind}_concat']}; in {name} it is {concat}")
        operations[kind] = _edges_of(name, kind, fields[kind])
    return operations


def _edges_of(name: str, kind: str, pairs: list) -> tuple[str, ...]:
    cell = CELLS[name]
    sizes = [cell.kept_inputs or cell.inputs + number for number in range(cell.nodes)]
    if not isinstance(pairs, list | tuple) or len(pairs) != sum(sizes):
        raise ValueError(f"{kind} of {name} is a list of {sum(sizes)} pairs (operation, source node), got {pairs!r}")
    operations, position = [], 0
    for number, size in enumerate(sizes):
        target, found = cell.inputs + number, {}
        for place in range(position, position + size):
            pair, where = pairs[place], f"{kind}, pair {place + 1}"
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)):
                raise ValueError(f"{where}: {pair!r} should be a pair (operation, source node)")
            operation, source = pair
            if type(source) is not int or not 0 <= source < target:
                raise ValueError(f"{where}: node {target} reads nodes 0 to {target - 1}, got source {source!r}")
            _add(found, source, operation, where, cell, target, name)
        missing = "none" if cell.kept_inputs else None
        operations += _in_order(found, target, f"{kind}, node {target}", missing)
        position += size
    return tuple(operations)


def _add(found: dict[int, str], source: int, operation: str, where: str, cell: Cell, target: int, name: str) -> None:
    if source in found:
        raise ValueError(f"{where}: the edge from node {source} to {target} is there twice")
    if operation not in cell.operations:
        raise ValueError(
            f"{where}: {operation!r} on the edge from node {source} to {target} is no operation of {name}; choose one of "
            f"{cell.operations}"
        )
    found[source] = operation


def _in_order(found: dict[int, str], target: int, where: str, missing: str | None = None) -> list[str]:
    absent = [source for source in range(target) if source not in found]
    if absent and missing is None:
        raise ValueError(f"{where} lacks the edges from nodes {absent} to {target}")
    return [found.get(source, missing) for source in range(target)]


def _genotype_fields(text: str) -> dict:
    """The keyword arguments of `Genotype(...)`: literals and `range(a, b)`."""
    # The paper's text has typographic quotes.
    plain = text.strip().replace("\u2019", "'").replace("\u2018", "'")
    try:
        call = ast.parse(plain, mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
            raise ValueError("it is no call of Genotype")
        if call.args:
            raise ValueError("its arguments have no names")
        return {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        place = f" at position {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise ValueError(
            f"{text!r} does not parse{place} ({error}); write Genotype(normal=[('sep_conv_3x3', 0), ...], "
            "normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
        ) from None


def _literal(node: ast.expr):
    if isinstance(node, ast.Call):
        arguments = [ast.literal_eval(argument) for argument in node.args]
        if not (isinstance(node.func, ast.Name) and node.func.id == "range" and 1 <= len(arguments) <= 2):
            raise ValueError("the only function in it may be range(first, end)")
        if not all(type(argument) is int and abs(argument) < 100 for argument in arguments):
            raise ValueError("range takes small whole numbers")
        return list(range(*arguments))
    return ast.literal_eval(node)
