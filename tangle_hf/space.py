"""Search spaces and architectures, in plain Python: what can be chosen, and one choice of everything.

A space reads as a model config whose searched values are lists. Dimensions carry the names of the Hugging Face config
fields they stand for (`n_embd`, `hidden_size`, ...); `mlp_ratio` is the exception: hidden units = ratio * width. Choices
are sizes, or names such as those of operations.

Layers are counted through stages: with S depths, one per stage, and D layers in a stage at most, layer l is number l % D
of stage l // D, and exists where the depth of its stage is larger than that number. A transformer is one stage.
"""

import hashlib
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product


Number = int | float
Choice = int | float | str
Value = Choice | Sequence[Choice | None]

DEPTH_NAMES = ("n_layer", "num_hidden_layers", "depths")


@dataclass(frozen=True)
class PerLayer:
    """Choices of a dimension that every layer makes for itself, e.g. `n_head=PerLayer([6, 8, 12])`.

    Args:
        choices: Numbers in strictly ascending order or names in any order; one value is a single choice.
        rows: How many choose, where that is not searched: edges of a cell, layers of a fixed number, or the stages of
            `depths`. None: every layer of the space's depth dimension.
    """

    choices: tuple[Choice, ...]
    rows: int | None

    def __init__(self, choices: Choice | Iterable[Choice], rows: int | None = None):
        object.__setattr__(self, "choices", _as_choices(choices))
        object.__setattr__(self, "rows", rows)


class Architecture:
    """One value for every dimension of a space: immutable, hashable, JSON in and out.

    Values are attributes (`arch.n_embd`). A per-layer dimension is a tuple with exactly as many values as the
    architecture has layers; a longer input is cut. Where stages have depths of their own it has a value for every layer
    that a stage could have, None for those that do not exist. So values of layers that do not exist never matter for equality
    or hash. A whole number that is written as 16.0, as some programs write JSON, becomes 16, which sizes of a model have to be.

    Args:
        values: Dimension name -> value, or a sequence of values for a per-layer dimension.

    Raises:
        ValueError: A value is no number, name or sequence of these, the depth is no whole number, or a per-layer value has
            fewer entries than the architecture has layers.
    """

    def __init__(self, values: Mapping[str, Value] | None = None, /, **named: Value):
        values = {name: _value(name, value) for name, value in {**(values or {}), **named}.items()}
        depth_name = next((name for name in DEPTH_NAMES if name in values), None)
        for name, value in values.items():
            if depth_name not in (None, name) and isinstance(value, tuple):
                values[name] = _existing(name, value, values[depth_name])
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Choice | tuple[Choice | None, ...]:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"this architecture has no dimension {name!r}")
        return self._values[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an Architecture is immutable; make another one with `arch.replace(...)`")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(sorted(self._values.items())))

    def __repr__(self) -> str:
        return f"Architecture({', '.join(f'{k}={v}' for k, v in self._values.items())})"

    def __reduce__(self):
        return Architecture, (self._values,)

    def __str__(self) -> str:
        return " ".join(f"{name}={_short(value)}" for name, value in self._values.items())

    @property
    def depth(self) -> int | tuple[int, ...] | None:
        """Number of layers, that of each stage, or None where the space has no depth dimension."""
        return next((self._values[name] for name in DEPTH_NAMES if name in self._values), None)

    def has_layer(self, layer: int | None) -> bool:
        """Whether a layer exists; None, outside the layers, always does."""
        depth = self.depth
        if layer is None or depth is None:
            return True
        if isinstance(depth, tuple):
            grid = next(v for name, v in self._values.items() if isinstance(v, tuple) and name not in DEPTH_NAMES)
            stage, number = divmod(layer, len(grid) // len(depth))
            return number < depth[stage]
        return layer < depth

    @property
    def id(self) -> str:
        """Ten hexadecimal digits of a checksum of its values, as a short name of files and rows."""
        values = json.loads(self.to_json(), parse_int=float)  # 4 and 4.0 are one choice
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]

    def values(self, name: str) -> tuple[Choice | None, ...]:
        """The values of a dimension as a tuple: one for every layer, or one of the whole net."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,)

    def replace(self, **changes: Value) -> "Architecture":
        """The same architecture with some values changed."""
        return Architecture({**self._values, **changes})

    def to_dict(self) -> dict[str, Choice | list[Choice | None]]:
        """Plain JSON types, in the order of the space's dimensions."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._values.items()}

    def to_json(self) -> str:
        """One line of JSON, the exchange format of `architecture.json`."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """Reads what `to_json` wrote."""
        return cls(json.loads(text))


class SearchSpace:
    """The choices of every searched dimension.

    Args:
        dimensions: Name -> choices, numbers in strictly ascending order or names in any order (one value: a single
            choice), or `PerLayer(choices)` where every layer chooses for itself. That needs a depth dimension (`n_layer`,
            `num_hidden_layers`, or `depths=PerLayer(choices, rows=stages)`), or a number of rows.

    Raises:
        ValueError: Choices are missing, not positive, not strictly ascending, repeated, or of two kinds; depth is missing
            or not whole; or rows are missing, or given although the depth says how many there are.
    """

    def __init__(self, **dimensions: Choice | Sequence[Choice] | PerLayer):
        if not dimensions:
            raise ValueError("a search space needs at least one dimension, e.g. SearchSpace(n_embd=[64, 128])")
        self.choices: dict[str, tuple[Choice, ...]] = {}
        self.per_layer: frozenset[str] = frozenset(k for k, v in dimensions.items() if isinstance(v, PerLayer))
        self._rows = {name: dimensions[name].rows for name in self.per_layer if dimensions[name].rows is not None}
        for name, value in dimensions.items():
            self.choices[name] = value.choices if isinstance(value, PerLayer) else _as_choices(value)
            _check_choices(name, self.choices[name])
        self.depth_name: str | None = next((name for name in DEPTH_NAMES if name in self.choices), None)
        self._check_rows()

    def _check_rows(self) -> None:
        depth, by_depth, fixed = self.depth_name, self.per_layer - self._rows.keys(), self._rows.keys()
        for name in fixed:
            if not isinstance(self._rows[name], int) or self._rows[name] < 1:
                raise ValueError(f"rows={self._rows[name]} of {name} must be a whole number, at least 1")
        if depth is None:
            if by_depth:
                raise ValueError(
                    f"{sorted(by_depth)} differ per layer, so the space needs one of {DEPTH_NAMES}, or a number of rows "
                    "as in PerLayer(choices, rows=4)"
                )
            return
        if depth in by_depth or not all(isinstance(d, int) for d in self.choices[depth]):
            raise ValueError(
                f"{depth} must be a list of whole numbers, got {self.choices[depth]}; one per stage is "
                f"{depth}=PerLayer(choices, rows=stages)"
            )
        if others := fixed - {depth}:
            raise ValueError(f"{sorted(others)} have rows, but {depth} says how many layers there are; leave rows out")
        if depth in fixed and not by_depth:
            raise ValueError(
                f"{depth} differ per stage, but no dimension is PerLayer; one with a single choice will do"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.choices.items())), self.per_layer))

    def __repr__(self) -> str:
        return f"SearchSpace({', '.join(f'{name}={self._shown(name)}' for name in self.choices)})"

    def _shown(self, name: str) -> str:
        rows = f", rows={self._rows[name]}" if name in self._rows else ""
        return (
            f"PerLayer({list(self.choices[name])}{rows})" if name in self.per_layer else f"{list(self.choices[name])}"
        )

    @property
    def whole_net(self) -> tuple[str, ...]:
        """The dimensions with one choice for the whole net, without the depth."""
        return tuple(name for name in self.choices if name not in self.per_layer and name != self.depth_name)

    @property
    def of_layers(self) -> tuple[str, ...]:
        """The dimensions that every layer (or edge of a cell) chooses for itself; depths of stages are none of them."""
        return tuple(name for name in self.choices if name in self.per_layer and name != self.depth_name)

    @property
    def stages(self) -> int:
        """Number of depths: one per stage, one of the whole net, or one that is fixed by the rows."""
        return self._rows.get(self.depth_name, 1)

    @property
    def depths(self) -> tuple[int, ...]:
        """Choices of the number of layers in a stage; without a depth dimension the number of rows."""
        return self.choices[self.depth_name] if self.depth_name else (max(self._rows.values(), default=1),)

    @property
    def max_depth(self) -> int:
        """Layers in a stage of the largest architecture (1 where there are no layers)."""
        return self.depths[-1]

    def rows(self, name: str) -> int:
        """Number of independent decisions of a dimension: one, its own number of rows, or one per possible layer."""
        return self._rows.get(name, self.stages * self.max_depth) if name in self.per_layer else 1

    @property
    def size(self) -> int:
        """Number of different architectures; layers that do not exist are not counted."""
        by_depth = self.per_layer - self._rows.keys()
        others = self.choices.keys() - by_depth - {self.depth_name}
        layer = math.prod(len(self.choices[name]) for name in by_depth)
        stage = sum(layer**depth for depth in self.depths)
        return stage**self.stages * math.prod(len(self.choices[name]) ** self.rows(name) for name in others)

    @property
    def ordered(self) -> bool:
        """Whether all choices are sizes, so that one net is the largest; names of operations have no order."""
        return not any(isinstance(choice, str) for choices in self.choices.values() for choice in choices)

    @property
    def largest(self) -> Architecture:
        """The architecture that takes the last choice everywhere; where choices are sizes its weights are the supernet's."""
        return self.architecture(**{name: choices[-1] for name, choices in self.choices.items()})

    @property
    def smallest(self) -> Architecture:
        """The architecture that takes the first choice everywhere."""
        return self.architecture(**{name: choices[0] for name, choices in self.choices.items()})

    def architecture(self, **values: Value) -> Architecture:
        """A checked architecture of this space; one value for a per-layer dimension is used in every layer.

        Raises:
            ValueError: A dimension is missing or unknown, or a value is not one of its choices.
        """
        depth = values.get(self.depth_name)
        for name in self.per_layer & values.keys():
            if isinstance(values[name], Choice):
                one_stage = isinstance(depth, int) and not self._rows  # an unknown depth is for `validate` to refuse
                values[name] = (values[name],) * (depth if one_stage else self.rows(name))
        arch = Architecture({name: values[name] for name in (*self.choices, *values) if name in values})
        self.validate(arch)
        return arch

    def from_rows(self, rows: Mapping[str, Sequence[Choice]]) -> Architecture:
        """The architecture of one choice for every decision.

        Args:
            rows: Dimension -> a choice for each of its `rows(name)` decisions, those of layers that do not exist included.

        Raises:
            ValueError: A dimension is missing or unknown, or a value is not one of its choices.
        """
        return self.architecture(**{n: tuple(row) if n in self.per_layer else row[0] for n, row in rows.items()})

    def equal_layers(self, **fixed: Sequence[Choice]) -> Iterator[Architecture]:
        """Every architecture whose layers are equal, as a person cuts a net by hand.

        Args:
            **fixed: Dimension -> the choices to go through, instead of all of them.
        """
        for values in product(*(fixed.get(name, choices) for name, choices in self.choices.items())):
            yield self.architecture(**dict(zip(self.choices, values, strict=True)))

    def validate(self, arch: Architecture) -> None:
        """Checks that an architecture belongs to this space.

        Raises:
            ValueError: Names the dimension, the value that was given and the choices that are allowed.
        """
        given = arch.to_dict()
        if unknown := given.keys() - self.choices.keys():
            raise ValueError(f"{sorted(unknown)} are not dimensions of this space; it has {list(self.choices)}")
        if missing := self.choices.keys() - given.keys():
            raise ValueError(f"the architecture lacks {sorted(missing)}; this space has {list(self.choices)}")
        for name, choices in self.choices.items():
            if (name in self.per_layer) != isinstance(given[name], list):
                kind = "one value per layer" if name in self.per_layer else "one value"
                raise ValueError(f"{name}={given[name]} should be {kind} in this space")
            values = given[name] if name in self.per_layer else (given[name],)
            needed = arch.depth if isinstance(arch.depth, int) and name in self.per_layer else self.rows(name)
            if len(values) != needed:
                raise ValueError(f"{name} has {len(values)} values, this space needs {needed}")
            for layer, value in enumerate(values):
                if value not in choices and (name == self.depth_name or arch.has_layer(layer)):
                    raise ValueError(f"{name}={value} is not a choice of this space; choices are {choices}")

    def sample(self, rng: random.Random) -> Architecture:
        """Draws every dimension uniformly (SPOS, arXiv:1904.00420, section 3.2), hence depths with equal probability."""
        return self.from_rows(
            {name: [rng.choice(c) for _ in range(self.rows(name))] for name, c in self.choices.items()}
        )

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """All architectures that differ in one decision; a layer that is added copies the last one."""
        self.validate(arch)
        by_depth = self.per_layer - self._rows.keys()
        found, grown = [], {name: _filled(getattr(arch, name), self.rows(name)) for name in by_depth}
        for name, choices in self.choices.items():
            value = getattr(arch, name)
            along = grown if name == self.depth_name else {}
            for row, current in enumerate(value if name in self.per_layer else (value,)):
                for other in choices:
                    if current not in (None, other):
                        changed = (*value[:row], other, *value[row + 1 :]) if name in self.per_layer else other
                        found.append(arch.replace(**{**along, name: changed}))
        return found

    def __iter__(self) -> Iterator[Architecture]:
        """Every architecture once. Look at `size` first."""
        layers = range(self.stages * self.max_depth)
        for depths in product(self.depths, repeat=self.stages):
            exist = [layer % self.max_depth < depths[layer // self.max_depth] for layer in layers]
            options = []
            for name, choices in self.choices.items():
                if name == self.depth_name:
                    options.append((depths if name in self.per_layer else depths[0],))
                elif name in self._rows:
                    options.append(product(choices, repeat=self._rows[name]))
                elif name in self.per_layer:
                    options.append(product(*(choices if exists else (None,) for exists in exist)))
                else:
                    options.append(choices)
            for values in product(*options):
                yield Architecture(dict(zip(self.choices, values, strict=True)))

    def to_dict(self) -> dict[str, list[Choice] | dict[str, list[Choice] | int]]:
        """Plain JSON types; a per-layer dimension is `{"per_layer": choices}`, with "rows" if it has a number of its own."""
        data = {}
        for name, choices in self.choices.items():
            rows = {"rows": self._rows[name]} if name in self._rows else {}
            data[name] = {"per_layer": list(choices), **rows} if name in self.per_layer else list(choices)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[Choice] | Mapping[str, Sequence[Choice] | int]]) -> "SearchSpace":
        """Reads what `to_dict` wrote."""
        return cls(
            **{n: PerLayer(v["per_layer"], v.get("rows")) if isinstance(v, Mapping) else v for n, v in data.items()}
        )


def _existing(name: str, values: tuple[Choice | None, ...], depth: int | tuple[int, ...]) -> tuple[Choice | None, ...]:
    """The values of layers that exist, in the form that `Architecture` keeps them."""
    if not isinstance(depth, tuple):
        if len(values) < depth:
            raise ValueError(f"{name} has {len(values)} values for {depth} layers; give one per layer")
        return values[:depth]
    most, rest = divmod(len(values), len(depth))
    if rest or most < max(depth):
        raise ValueError(
            f"{name} has {len(values)} values for stages of {depth} layers; give every stage the same number of values, at "
            f"least {max(depth)}"
        )
    return tuple(value if layer % most < depth[layer // most] else None for layer, value in enumerate(values))


def _value(name: str, value: Value) -> Choice | tuple[Choice | None, ...]:
    """A value in the form that `Architecture` keeps it."""
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        value = tuple(map(_whole, value))
    else:
        value = _whole(value)
    values = value if isinstance(value, tuple) else (value,)
    allowed = int if name in DEPTH_NAMES else Choice | None if isinstance(value, tuple) else Choice
    if not values or not all(isinstance(each, allowed) for each in values):
        kind = "a whole number" if name in DEPTH_NAMES else "a number, a name"
        raise ValueError(f"{name}={value!r} must be {kind} or a list of these, not empty")
    return value


def _whole(value: Choice | None) -> Choice | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _filled(values: tuple[Choice | None, ...], rows: int) -> tuple[Choice, ...]:
    """Values for all possible layers: a layer that does not exist gets the value of the last one before it."""
    filled = list(values) + [None] * (rows - len(values))
    for layer, value in enumerate(filled):
        filled[layer] = filled[layer - 1] if value is None else value
    return tuple(filled)


def _as_choices(value: Choice | Iterable[Choice]) -> tuple[Choice, ...]:
    return (value,) if isinstance(value, Choice) else tuple(value)


def _check_choices(name: str, choices: tuple[Choice, ...]) -> None:
    if not choices:
        raise ValueError(f"{name} has no choices; give at least one")
    if all(isinstance(c, str) and c for c in choices):
        if len(set(choices)) < len(choices):
            raise ValueError(f"choices of {name} must differ, got {choices}; drop repeats")
        return
    if not all(isinstance(c, Number) and not isinstance(c, bool) and 0 < c < math.inf for c in choices):
        raise ValueError(f"choices of {name} must be positive numbers, or all of them names, got {choices}")
    if any(a >= b for a, b in zip(choices, choices[1:], strict=False)):
        raise ValueError(f"choices of {name} must be strictly ascending, got {choices}; sort them and drop repeats")


def _short(value: Choice | tuple[Choice | None, ...]) -> str:
    return ",".join("-" if v is None else str(v) for v in value) if isinstance(value, tuple) else str(value)
