"""The reference as Markdown, made from the code: `python tools/reference.py commands|configuration`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from typer.core import TyperGroup

from ocisync.cli.app import app
from ocisync.cli.display.help import description, examples, parameters
from ocisync.config.schema import json_schema

Schema = Mapping[str, Any]


def commands() -> Iterator[str]:
    """A section for each command, with its arguments, options and examples."""
    root = app
    assert isinstance(root, TyperGroup)
    yield "# Commands\n\nMade from the commands' own help: `ocisync COMMAND --help` says the same.\n"
    yield from _group(root, "ocisync")


def _group(group: TyperGroup, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        if isinstance(command, TyperGroup):
            yield from _group(command, full)
            continue
        context = command.context_class(command, info_name=name, help_option_names=["-h", "--help"])
        yield f"## {full}\n\n```text\n{full} {' '.join(command.collect_usage_pieces(context))}\n```\n"
        yield from (f"{paragraph}\n" for paragraph in description(command))
        for heading in ("Arguments", "Options"):
            rows = [(form, text) for of, form, text in parameters(command, context) if of == heading]
            if rows:
                yield f"| {heading} | |\n|---|---|"
                yield from (f"| `{_cell(form)}` | {_cell(text)} |" for form, text in rows)
                yield ""
        if given := examples(command):
            yield "\n".join(["```sh", *given, "```\n"])


def configuration() -> Iterator[str]:
    """A table for each section of the configuration."""
    schema = json_schema()
    yield "# Configuration, key by key\n\nMade from the schema that `ocisync config schema` prints."
    yield "[configuration.md](configuration.md) explains how the parts belong together.\n"
    definitions: Schema = schema["$defs"]
    yield from _section("The file", schema, definitions)
    for name, section in sorted(definitions.items()):
        if "properties" in section:
            yield from _section(name, section, definitions)


def _section(name: str, section: Schema, definitions: Schema) -> Iterator[str]:
    yield f"## {name}\n"
    if about := section.get("description"):
        yield f"{about}\n"
    yield "| key | value | default | |\n|---|---|---|---|"
    required = section.get("required", ())
    for key, field in section["properties"].items():
        default = "required" if key in required else f"`{json.dumps(field['default'])}`" if "default" in field else ""
        cells = (f"`{key}`", _kind(field, definitions), default, field.get("description", ""))
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _kind(field: Schema, definitions: Schema) -> str:
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        inner: Schema = definitions[name]
        return f"[{name}](#{name.lower()})" if "properties" in inner else _kind(inner, definitions)
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_kind(one, definitions) for one in field[key]))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), definitions)}"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"mapping to {_kind(field['additionalProperties'], definitions)}"
    return str(field.get("type", "any"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    pages = {"commands": commands, "configuration": configuration}
    sys.stdout.write("\n".join(pages[sys.argv[1]]()) + "\n")
