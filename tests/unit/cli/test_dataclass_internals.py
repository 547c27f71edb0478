"""Data classes whose methods are shared are like those of the standard library."""

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, field, make_dataclass, replace
from typing import Any

import pytest

from ocisync.cli.dataclass_internals import share_methods

_PATCHED = ("_repr_fn", "_cmp_fn", "_hash_fn", "_frozen_get_del_attr")
_KNOWN = (3, 11) <= sys.version_info < (3, 13)


@pytest.fixture(params=[False, True], ids=["standard", "shared"])
def shared(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether methods are shared; each test sees the same with both."""
    before = {name: vars(dataclasses).get(name) for name in _PATCHED}
    if request.param:
        share_methods()
    yield request.param
    if _KNOWN:
        vars(dataclasses).update(before)


@pytest.mark.skipif(not _KNOWN, reason="nothing is replaced there")
def test_the_functions_that_are_replaced_are_there() -> None:
    names = {name: vars(dataclasses)[name].__code__ for name in _PATCHED}
    assert {name: code.co_varnames[: code.co_argcount] for name, code in names.items()} == {
        "_repr_fn": ("fields", "globals"),
        "_cmp_fn": ("name", "op", "self_tuple", "other_tuple", "globals"),
        "_hash_fn": ("fields", "globals"),
        "_frozen_get_del_attr": ("cls", "fields", "globals"),
    }


def test_nothing_is_compiled_but_init(shared: bool) -> None:
    @dataclass(frozen=True)
    class Value:
        x: int

    assert Value.__init__.__code__.co_filename == "<string>"
    compiled = {getattr(Value, name).__code__.co_filename for name in ("__eq__", "__hash__", "__setattr__")}
    assert (compiled == {"<string>"}) is not (shared and _KNOWN)


@pytest.mark.parametrize("options", [{}, {"slots": True}], ids=["plain", "slots"])
def test_values(shared: bool, options: dict[str, Any]) -> None:
    @dataclass(frozen=True, **options)
    class Value:
        x: int
        y: list[object] = field(default_factory=list, hash=False)
        secret: str = field(default="", repr=False)
        beside: int = field(default=0, compare=False)

    one = Value(1, [2], "s", 3)
    assert repr(one) == f"{Value.__qualname__}(x=1, y=[2], beside=3)"
    assert one == Value(1, [2], "s", 4) != Value(1, [2], "t", 3)
    assert one.__eq__(object()) is NotImplemented
    assert hash(one) == hash(Value(1, [3], "s", 4)) != hash(Value(2, [2], "s", 3))
    assert replace(one, x=5).x == 5
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        one.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x


@pytest.mark.parametrize("names", [(), ("x",), ("x", "y")])
def test_few_fields(shared: bool, names: tuple[str, ...]) -> None:
    value = make_dataclass("Value", names, frozen=True)
    given = [7] * len(names)
    assert value(*given) == value(*given)
    assert hash(value(*given)) == hash(tuple(given))


def test_a_class_that_derives_may_have_fields_that_change(shared: bool) -> None:
    @dataclass(frozen=True)
    class Base:
        x: int

    class Derived(Base):
        pass

    one = Derived(1)
    one.other = 2  # type: ignore[attr-defined]
    assert vars(one) == {"x": 1, "other": 2}
    with pytest.raises(FrozenInstanceError):
        one.x = 2  # type: ignore[misc]
    assert one != Base(1)


def test_a_value_that_holds_itself_is_written_once(shared: bool) -> None:
    @dataclass
    class Node:
        children: list[object]

    node = Node([])
    node.children.append(node)
    assert repr(node) == f"{Node.__qualname__}(children=[...])"
    assert Node.__hash__ is None


def test_classes_that_are_ordered(shared: bool) -> None:
    @dataclass(order=True)
    class Value:
        x: int
        y: int

    assert Value(1, 2) < Value(1, 3) <= Value(1, 3) > Value(0, 9)
    assert Value(1, 2) == Value(1, 2)
