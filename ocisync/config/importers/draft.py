"""A configuration that is being written: values, and comments where something has no equivalent."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

Tree: TypeAlias = "str | int | float | bool | list[Tree] | dict[str, Tree]"

_WIDTH = 110  # characters of a comment's line
_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?\Z", re.ASCII)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*\Z", re.ASCII)
_LIKE_A_CONSTANT = {"", "~", "null", "true", "false", "yes", "no", "on", "off"}


@dataclass(slots=True)
class DraftEntry:
    """An item of a section, and what is to be said of it."""

    values: dict[str, Tree] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)  # those of the notes that tell of something that is left out

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def lose(self, text: str) -> None:
        """Say that something is left out: the import does less, or other things, than the file did."""
        self.note(text)
        if text not in self.losses:
            self.losses.append(text)


@dataclass(slots=True)
class Draft:
    """The sections of a configuration."""

    origin: str  # the tool it comes from
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)  # those of the notes that tell of something that is left out
    registries: dict[str, DraftEntry] = field(default_factory=dict)
    defaults: dict[str, Tree] = field(default_factory=dict)  # of all registries
    targets: dict[str, DraftEntry] = field(default_factory=dict)
    policies: dict[str, DraftEntry] = field(default_factory=dict)  # of signatures
    rules: list[DraftEntry] = field(default_factory=list)
    daemon: DraftEntry = field(default_factory=DraftEntry)

    def lose(self, text: str) -> None:
        """Say at the top that something is left out."""
        self.notes.append(text)
        self.losses.append(text)

    def adopt(self, top: DraftEntry) -> None:
        """Say at the top what an entry has to say."""
        self.notes += top.notes
        self.losses += top.losses

    def list_losses(self) -> list[str]:
        """Everything that is left out, each with its place."""
        found = list(self.losses)
        for kind, entries in (("registry", self.registries), ("target", self.targets)):
            found += [f"{kind} {name}: {text}" for name, entry in entries.items() for text in entry.losses]
        found += [f"rule {rule.values['name']}: {text}" for rule in self.rules for text in rule.losses]
        return [*found, *(f"daemon: {text}" for text in self.daemon.losses)]

    def registry_entry(self, host: str) -> DraftEntry:
        """The entry of a host, made when there is none."""
        return self.registries.setdefault(host, DraftEntry())

    def registry_target(self, host: str) -> str:
        """The name of the target that is a registry's host, made when there is none."""
        name = make_label(host)
        if name not in self.targets:
            is_plain = self.registries.get(host, DraftEntry()).values.get("plain_http") is True
            self.targets[name] = DraftEntry({"type": "registry", "url": f"{'http' if is_plain else 'https'}://{host}"})
        return name

    def layout_target(self, folder: str) -> str:
        """The name of the target for the layouts in a folder, made when there is none."""
        values: dict[str, Tree] = {"type": "layout", "path": folder}
        known = next((name for name, entry in self.targets.items() if entry.values == values), "")
        stem = make_label(folder.rstrip("/").rpartition("/")[2]) if folder.strip("./") else "layouts"
        number, name = 1, known or stem
        while not known and name in self.targets:
            number += 1
            name = f"{stem[:60]}-{number}"
        self.targets.setdefault(name, DraftEntry(values))
        return name

    def policy(self, identities: list[Tree]) -> str:
        """The name of the policy of these identities, made when there is none."""
        values: dict[str, Tree] = {"keyless": identities}
        known = next((name for name, entry in self.policies.items() if entry.values == values), "")
        name = known or f"signed-{len(self.policies) + 1}"
        self.policies.setdefault(name, DraftEntry(values))
        return name

    def add_rule(self, name: str, rule: DraftEntry) -> None:
        """Add a rule under a name that no other has."""
        taken = {str(one.values["name"]) for one in self.rules}
        stem, unique, number = make_label(name), make_label(name), 1
        while unique in taken:
            number += 1
            unique = f"{stem[:60]}-{number}"
        rule.values = {"name": unique, **rule.values}
        self.rules.append(rule)

    def render(self) -> str:
        """The whole file."""
        parts = [
            f"{_render_comment([f'Imported from a configuration of {self.origin}.', *self.notes], '')}version: 1\n"
        ]
        parts += [_render_mapping(name, entries) for name, entries in self._list_sections() if entries]
        parts += [_render_pair("defaults", self.defaults, "")] if self.defaults else []
        parts += [f"sync:\n{''.join(map(_render_item, self.rules))}"] if self.rules else []
        if self.daemon.values or self.daemon.notes:
            parts.append(f"{_render_comment(self.daemon.notes, '')}{_render_pair('daemon', self.daemon.values, '')}")
        return "\n".join(parts)

    def _list_sections(self) -> Iterable[tuple[str, Mapping[str, DraftEntry]]]:
        used = {host: entry for host, entry in self.registries.items() if entry.values or entry.notes}
        return (("registries", used), ("targets", self.targets), ("verify", self.policies))


def make_label(text: str) -> str:
    """A name for a target or a rule, out of any text."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "rule"


def _render_mapping(section: str, entries: Mapping[str, DraftEntry]) -> str:
    lines = [
        f"{_render_comment(entry.notes, '  ')}{_render_pair(name, entry.values, '  ')}"
        for name, entry in entries.items()
    ]
    return f"{section}:\n{''.join(lines)}"


def _render_item(entry: DraftEntry) -> str:
    first, *others = entry.values.items()
    pairs = [_render_pair(*first, "  - "), *(_render_pair(key, value, "    ") for key, value in others)]
    return _render_comment(entry.notes, "  ") + "".join(pairs)


def _render_comment(notes: Iterable[str], indent: str) -> str:
    lines = [line for note in notes for line in textwrap.wrap(" ".join(note.split()), _WIDTH)]
    return "".join(f"{indent}# {_escape_unprintable(line)}\n" for line in lines)


def _render_pair(key: str, value: Tree, indent: str) -> str:
    """A key and its value on one line."""
    if isinstance(value, dict | list):
        return f"{indent}{key if _PLAIN_KEY.match(key) else json.dumps(key)}: {_dump(value)}"
    return f"{indent}{_dump({key: value}, flow=False)}"


def _dump(tree: object, *, flow: bool = True) -> str:
    text: str = yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000, default_flow_style=flow
    )
    return _escape_unprintable(text)


def _escape_unprintable(text: str) -> str:
    """Characters that would steer a terminal, as YAML spells them between double quotes, where such texts stand."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\U{ord(char):08x}" for char in text)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 would not read as text, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_odd = _LIKE_A_NUMBER.match(text) or text.lower() in _LIKE_A_CONSTANT or not text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if is_odd else None)


_Dumper.add_representer(str, _represent_text)
