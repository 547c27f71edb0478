"""A quicker way to make data classes, for the start of the command line.

`dataclasses` writes the source of up to six methods of each class and compiles it. A command makes some two hundred
classes, pydantic's and anyio's among them, and that was a quarter of its start. Here `__repr__`, `__eq__`, `__hash__`
and what refuses changes of a frozen class are closures over the names of its fields: only `__init__` is compiled.

This replaces four private functions of the standard library, which CPython 3.11 and 3.12 have in this form; elsewhere
nothing is done. It happens in the process of the command line alone, never where ocisync is a library.
`tests/unit/cli/test_dataclass_internals.py` compares both ways; docs/adr/0033-data-classes-at-the-start.md.
"""
# ruff: noqa: N807 (the methods are named as the classes have them)

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any

_Fields = Iterable["Field[Any]"]
_Method = Callable[..., Any]

_compile_comparison: Any = vars(dataclasses).get("_cmp_fn")


def share_methods() -> None:
    """From now on, make the methods of data classes without compiling them, where that is known to work."""
    if (3, 11) <= sys.version_info < (3, 13):
        vars(dataclasses).update(
            _repr_fn=make_repr, _cmp_fn=make_comparison, _hash_fn=make_hash, _frozen_get_del_attr=make_refusals
        )


def make_repr(fields: _Fields, _globals: object) -> _Method:
    """The method that writes an instance out."""
    names = [one.name for one in fields]

    def __repr__(self: object) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return recursive_repr()(__repr__)


def make_comparison(name: str, operator: str, mine: str, others: str, **given: Any) -> _Method:
    """The method `__eq__`; those that order are rare, and compiled as ever. `mine` is `(self.a,self.b,)`."""
    if name != "__eq__":
        ordering: _Method = _compile_comparison(name, operator, mine, others, **given)
        return ordering
    values = _make_getter([one.partition(".")[2] for one in mine.strip("()").split(",") if one])

    def __eq__(self: object, other: object) -> object:
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    return __eq__


def make_hash(fields: _Fields, _globals: object) -> _Method:
    """The method that hashes an instance."""
    values = _make_getter([one.name for one in fields])

    def __hash__(self: object) -> int:
        return hash(values(self))

    return __hash__


def make_refusals(cls: Any, fields: _Fields, _globals: object) -> tuple[_Method, _Method]:
    """What refuses to set and to delete the fields of a frozen class; classes that derive from it may have others."""
    names = frozenset(one.name for one in fields)

    def __setattr__(self: object, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: object, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return __setattr__, __delattr__


def _make_getter(names: Sequence[str]) -> Callable[[object], tuple[object, ...]]:
    """The values of these fields as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)
