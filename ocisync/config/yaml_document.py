"""YAML text as plain values, with the line of every key and the spelling of every scalar.

PyYAML's parser reads the text and yields events; two small classes here make values of them. PyYAML's own composer and
constructor are not used, for four reasons:

- An error must name its line. PyYAML's values have none.
- A key that appears twice is a mistake. PyYAML keeps the last one and says nothing.
- A file may come from a stranger (`config import`). Aliases of aliases can stand for billions of values, and deep
  nesting ends Python's stack. Both have a limit here.
- `no`, `on`, `1:30` and `2024-01-01` are text in YAML 1.2, which is what people mean by a tag. PyYAML reads YAML 1.1.

The way through: `_Composer` turns events into nodes, where an alias is its anchor's node itself, so that a bomb stays
small; `_Expander` turns nodes into values and counts them, so that it goes off nowhere. See
docs/adr/0024-yaml-composer.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import yaml

from ocisync.config.diagnostics import KeyPath, Problem
from ocisync.model.text.outside_json import make_encodable

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

MAX_DEPTH = 32  # nested collections
MAX_NODES = 50_000  # values after aliases and merge keys are expanded

_TAGS = (None, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_CONSTANTS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_UNQUOTED = re.compile(r"[:\[,]\s*(?:\$\{(\w+)\}|\*)")  # ${NAME} of a shell, or the star of a glob
_INT = re.compile(r"[-+]?[0-9]{1,18}\Z", re.ASCII)  # longer ones stay text: int() takes quadratic time
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z", re.ASCII)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """A parsed file: its value, the line of every key path, and the spelling of every scalar.

    The spelling matters where a number stands for text: the tag `3.10` is the number 3.1 to YAML.
    """

    value: Value
    lines: dict[KeyPath, int]
    texts: dict[KeyPath, str]
    problems: tuple[Problem, ...] = ()  # duplicate keys and the like; the values are usable all the same

    def line_of(self, path: KeyPath) -> int:
        """The line of a key, or of the nearest parent that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class SyntaxProblem(Exception):
    """The text is not usable YAML; carries the one problem."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, (), message)


class _Scalar(NamedTuple):
    line: int
    value: bool | int | float | str | None
    text: str
    is_merge: bool = False


class _Sequence(NamedTuple):
    line: int
    items: tuple[_Node, ...]


class _Mapping(NamedTuple):
    line: int
    pairs: tuple[tuple[_Node, _Node], ...]


_Node: TypeAlias = "_Scalar | _Sequence | _Mapping"


def parse_document(text: str) -> Document:
    """Read one YAML document.

    Raises:
        SyntaxProblem: not YAML, several documents, or over the caps on nesting and expansion.
    """
    try:
        root = _Composer(iter(yaml.parse(text, Loader=_LOADER))).compose()
    except yaml.YAMLError as exc:
        raise _explain(exc, text) from exc
    return _Expander().expand(root)


@dataclass(slots=True)
class _Composer:
    """Nodes from parser events, with a limit on nesting.

    An alias becomes the node of its anchor, not a copy: the graph of nodes is never larger than the file. An anchor is
    known only once its node is complete, so no node can contain itself.
    """

    events: Iterator[yaml.Event]
    anchors: dict[str, _Node] = field(default_factory=dict)

    def compose(self) -> _Node:
        root: _Node = _Scalar(1, None, "")
        seen = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                seen += 1
                if seen > 1:
                    raise SyntaxProblem(_line_of(event), "a second document begins here. Keep one document in the file")
                root = self._compose_node(next(self.events), 0)
        return root

    def _compose_node(self, event: yaml.Event, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._resolve_alias(event)
        if depth > MAX_DEPTH:
            raise SyntaxProblem(_line_of(event), f"nested more than {MAX_DEPTH} deep. Write it flatter")
        tag = getattr(event, "tag", None)
        if tag not in _TAGS:
            raise SyntaxProblem(_line_of(event), f"the tag {tag} is not supported. Remove it")
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = _make_scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = _Sequence(_line_of(event), tuple(self._compose_items(depth)))
        else:
            node = _Mapping(_line_of(event), tuple(self._compose_pairs(depth)))
        anchor = getattr(event, "anchor", None)
        if anchor:
            self.anchors[anchor] = node
        return node

    def _resolve_alias(self, event: yaml.AliasEvent) -> _Node:
        name = str(event.anchor)
        if name not in self.anchors:
            raise SyntaxProblem(_line_of(event), f"the alias *{name} has no anchor above it. Define &{name} first")
        return self.anchors[name]

    def _compose_items(self, depth: int) -> Iterator[_Node]:
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self._compose_node(event, depth + 1)

    def _compose_pairs(self, depth: int) -> Iterator[tuple[_Node, _Node]]:
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._compose_node(event, depth + 1)
            yield key, self._compose_node(next(self.events), depth + 1)


@dataclass(slots=True)
class _Expander:
    """Values from nodes, counted, so that aliases of aliases cannot fill the memory.

    Lines and spellings are kept by key path. A value that stands behind an alias has the line of its anchor, and the
    key that carries the alias has its own: an error names the line that has to be changed.
    """

    lines: dict[KeyPath, int] = field(default_factory=dict)
    texts: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def expand(self, root: _Node) -> Document:
        value = self._expand_node(root, ())
        self.lines[()] = root.line
        return Document(value, self.lines, self.texts, tuple(self.problems))

    def _expand_node(self, node: _Node, path: KeyPath) -> Value:
        self.count += 1
        if self.count > MAX_NODES:
            raise SyntaxProblem(node.line, f"more than {MAX_NODES} values. Use fewer aliases, or split the file")
        self.lines.setdefault(path, node.line)
        if isinstance(node, _Scalar):
            self.texts[path] = node.text
            return node.value
        if isinstance(node, _Sequence):
            return [self._expand_node(item, (*path, position)) for position, item in enumerate(node.items)]
        return self._expand_mapping(node, path)

    def _expand_mapping(self, node: _Mapping, path: KeyPath) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key, inner in self._merge_entries(node, path):
            here = (*path, key.text)
            self.lines[here] = key.line
            found[key.text] = self._expand_node(inner, here)
        return found

    def _merge_entries(self, node: _Mapping, path: KeyPath) -> list[tuple[_Scalar, _Node]]:
        """Own keys first in their order, then what merge keys add; duplicates are reported and dropped."""
        own: dict[str, tuple[_Scalar, _Node]] = {}
        merged: list[tuple[_Scalar, _Node]] = []
        for key, inner in node.pairs:
            if not isinstance(key, _Scalar):
                self._report(key.line, path, "a list or mapping cannot be a key. Write a plain word before the colon")
            elif key.is_merge:
                merged += self._list_merged(inner, path)
            elif key.text in own:
                first = own[key.text][0].line
                self._report(key.line, (*path, key.text), f"the key appears twice, first on line {first}. Remove one")
            else:
                own[key.text] = (key, inner)
        for key, inner in merged:
            own.setdefault(key.text, (key, inner))
        return list(own.values())

    def _list_merged(self, node: _Node, path: KeyPath) -> list[tuple[_Scalar, _Node]]:
        if isinstance(node, _Mapping):
            return self._merge_entries(node, path)
        if isinstance(node, _Sequence) and all(isinstance(item, _Mapping) for item in node.items):
            return [pair for item in node.items for pair in self._list_merged(item, path)]
        self._report(node.line, path, "the merge key << takes a mapping or a list of mappings. Give it an alias of one")
        return []

    def _report(self, line: int, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(line, path, message))


def _make_scalar(event: yaml.ScalarEvent) -> _Scalar:
    text = make_encodable(event.value)  # the parser in Python accepts "\ud800", half of a character
    # A tag (`!!str 3.10`) or quotes make text of it; only a plain scalar is looked at for what it may mean.
    if event.tag is not None or event.style not in (None, ""):
        return _Scalar(_line_of(event), text, text)
    return _Scalar(_line_of(event), _parse_plain(text), text, is_merge=text == "<<")


def _parse_plain(text: str) -> bool | int | float | str | None:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _line_of(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 1


def _explain(exc: yaml.YAMLError, text: str) -> SyntaxProblem:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    line = mark.line + 1 if mark else 1
    what = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc)
    lines = text.splitlines()
    # PyYAML says "found character that cannot start any token" of a tab, which helps nobody.
    if line <= len(lines) and "\t" in lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]:
        return SyntaxProblem(line, "a tab indents this line. YAML wants spaces: replace the tab")
    advice = "Look at indentation, colons and quotes here and above"
    if line <= len(lines) and (found := _UNQUOTED.search(lines[line - 1])):
        advice = f"Write {{env: {found[1]}}}" if found[1] else "Put what begins with a star into quotes"
    return SyntaxProblem(line, f"not valid YAML: {what}. {advice}")
