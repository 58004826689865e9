"""Search spaces and architectures, in plain Python: what can be chosen, and one choice of everything.

A space reads as a model config whose searched values are lists. Dimensions carry the names of the Hugging Face config
fields they stand for (`n_embd`, `hidden_size`, ...); `mlp_ratio` is the exception: hidden units = ratio * width.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product


Number = int | float

DEPTH_NAMES = ("n_layer", "num_hidden_layers")


@dataclass(frozen=True)
class PerLayer:
    """Choices of a dimension that every layer makes for itself, e.g. `n_head=PerLayer([6, 8, 12])`."""

    choices: tuple[Number, ...]

    def __init__(self, choices: Number | Iterable[Number]):
        object.__setattr__(self, "choices", _as_choices(choices))


class Architecture:
    """One value for every dimension of a space: immutable, hashable, JSON in and out.

    Values are attributes (`arch.n_embd`). A per-layer dimension is a tuple with exactly as many values as the
    architecture has layers; a longer input is cut, so layers that do not exist never matter for equality or hash.

    Args:
        values: Dimension name -> number, or a sequence of numbers for a per-layer dimension.

    Raises:
        ValueError: A per-layer value has fewer entries than the architecture has layers.
    """

    def __init__(self, values: Mapping[str, Number | Sequence[Number]] | None = None, /, **named: Number | Sequence):
        values = {**(values or {}), **named}
        depth = next((values[name] for name in DEPTH_NAMES if name in values), None)
        stored = {}
        for name, value in values.items():
            if isinstance(value, (int, float)):
                stored[name] = value
                continue
            value = tuple(value)
            if depth is not None and len(value) < depth:
                raise ValueError(f"{name} has {len(value)} values for {depth} layers; give one per layer")
            stored[name] = value[:depth]
        object.__setattr__(self, "_values", stored)

    def __getattr__(self, name: str) -> Number | tuple[Number, ...]:
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
    def depth(self) -> int | None:
        """Number of layers, or None where the space has no depth dimension."""
        return next((self._values[name] for name in DEPTH_NAMES if name in self._values), None)

    def replace(self, **changes: Number | Sequence[Number]) -> "Architecture":
        """The same architecture with some values changed."""
        return Architecture({**self._values, **changes})

    def to_dict(self) -> dict[str, Number | list[Number]]:
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
        dimensions: Name -> choices in strictly ascending order (one number: a single choice), or `PerLayer(choices)`
            where every layer chooses for itself. A space with per-layer dimensions needs a depth dimension (`n_layer`
            or `num_hidden_layers`).

    Raises:
        ValueError: Choices are missing, not positive, not strictly ascending, or depth is missing or not whole.
    """

    def __init__(self, **dimensions: Number | Sequence[Number] | PerLayer):
        if not dimensions:
            raise ValueError("a search space needs at least one dimension, e.g. SearchSpace(n_embd=[64, 128])")
        self.choices: dict[str, tuple[Number, ...]] = {}
        self.per_layer: frozenset[str] = frozenset(k for k, v in dimensions.items() if isinstance(v, PerLayer))
        for name, value in dimensions.items():
            self.choices[name] = value.choices if isinstance(value, PerLayer) else _as_choices(value)
            _check_choices(name, self.choices[name])
        self.depth_name: str | None = next((name for name in DEPTH_NAMES if name in self.choices), None)
        if self.per_layer and self.depth_name is None:
            raise ValueError(f"{sorted(self.per_layer)} differ per layer, so the space needs one of {DEPTH_NAMES}")
        if self.depth_name and (
            self.depth_name in self.per_layer or not all(isinstance(d, int) for d in self.choices[self.depth_name])
        ):
            raise ValueError(f"{self.depth_name} must be a list of whole numbers, got {self.choices[self.depth_name]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.choices.items())), self.per_layer))

    def __repr__(self) -> str:
        parts = (
            f"{k}=PerLayer({list(v)})" if k in self.per_layer else f"{k}={list(v)}" for k, v in self.choices.items()
        )
        return f"SearchSpace({', '.join(parts)})"

    @property
    def max_depth(self) -> int:
        """Layers of the largest architecture (1 where the space has no depth)."""
        return self.choices[self.depth_name][-1] if self.depth_name else 1

    def rows(self, name: str) -> int:
        """Number of independent decisions of a dimension: one, or one per layer of the largest architecture."""
        return self.max_depth if name in self.per_layer else 1

    @property
    def size(self) -> int:
        """Number of different architectures; layers that do not exist are not counted."""
        shared = [len(c) for n, c in self.choices.items() if n not in self.per_layer and n != self.depth_name]
        per_layer = math.prod(len(self.choices[name]) for name in self.per_layer)
        depths = self.choices[self.depth_name] if self.depth_name else (0,)
        return math.prod(shared) * sum(per_layer**depth for depth in depths)

    @property
    def largest(self) -> Architecture:
        """The architecture that takes the last choice everywhere; its weights are the supernet's."""
        return self.architecture(**{name: choices[-1] for name, choices in self.choices.items()})

    @property
    def smallest(self) -> Architecture:
        """The architecture that takes the first choice everywhere."""
        return self.architecture(**{name: choices[0] for name, choices in self.choices.items()})

    def architecture(self, **values: Number | Sequence[Number]) -> Architecture:
        """A checked architecture of this space; one number for a per-layer dimension is used in every layer.

        Raises:
            ValueError: A dimension is missing or unknown, or a value is not one of its choices.
        """
        depth = values.get(self.depth_name, self.max_depth)
        for name in self.per_layer & values.keys():
            if isinstance(values[name], (int, float)) and isinstance(depth, int):
                values[name] = (values[name],) * depth
        arch = Architecture({name: values[name] for name in (*self.choices, *values) if name in values})
        self.validate(arch)
        return arch

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
            for value in given[name] if name in self.per_layer else (given[name],):
                if value not in choices:
                    raise ValueError(f"{name}={value} is not a choice of this space; choices are {choices}")

    def sample(self, rng: random.Random) -> Architecture:
        """Draws every dimension uniformly (SPOS, arXiv:1904.00420, section 3.2), hence depths with equal probability."""
        values = {}
        for name, choices in self.choices.items():
            drawn = [rng.choice(choices) for _ in range(self.rows(name))]
            values[name] = drawn if name in self.per_layer else drawn[0]
        return self.architecture(**values)

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """All architectures that differ in one decision; a layer that is added copies the last one."""
        self.validate(arch)
        found = []
        for name, choices in self.choices.items():
            value = getattr(arch, name)
            if name in self.per_layer:
                for layer, current in enumerate(value):
                    others = (c for c in choices if c != current)
                    found += [arch.replace(**{name: (*value[:layer], c, *value[layer + 1 :])}) for c in others]
            elif name == self.depth_name:
                for depth in choices:
                    if depth != value:
                        grown = {n: (getattr(arch, n) + getattr(arch, n)[-1:] * depth)[:depth] for n in self.per_layer}
                        found.append(arch.replace(**{name: depth}, **grown))
            else:
                found += [arch.replace(**{name: c}) for c in choices if c != value]
        return found

    def __iter__(self) -> Iterator[Architecture]:
        """Every architecture once. Look at `size` first."""
        for depth in self.choices[self.depth_name] if self.depth_name else (1,):
            options = []
            for name, choices in self.choices.items():
                if name == self.depth_name:
                    options.append((depth,))
                else:
                    options.append(product(choices, repeat=depth) if name in self.per_layer else choices)
            for values in product(*options):
                yield Architecture(dict(zip(self.choices, values, strict=True)))

    def to_dict(self) -> dict[str, list[Number] | dict[str, list[Number]]]:
        """Plain JSON types; a per-layer dimension is `{"per_layer": choices}`."""
        return {n: {"per_layer": list(c)} if n in self.per_layer else list(c) for n, c in self.choices.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[Number] | Mapping[str, Sequence[Number]]]) -> "SearchSpace":
        """Reads what `to_dict` wrote."""
        return cls(**{n: PerLayer(v["per_layer"]) if isinstance(v, Mapping) else v for n, v in data.items()})


def _as_choices(value: Number | Iterable[Number]) -> tuple[Number, ...]:
    return (value,) if isinstance(value, (int, float)) else tuple(value)


def _check_choices(name: str, choices: tuple[Number, ...]) -> None:
    if not choices:
        raise ValueError(f"{name} has no choices; give at least one")
    if not all(isinstance(c, (int, float)) and not isinstance(c, bool) and c > 0 for c in choices):
        raise ValueError(f"choices of {name} must be positive numbers, got {choices}")
    if any(a >= b for a, b in zip(choices, choices[1:], strict=False)):
        raise ValueError(f"choices of {name} must be strictly ascending, got {choices}; sort them and drop repeats")


def _short(value: Number | tuple[Number, ...]) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
