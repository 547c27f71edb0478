"""Completion in the shell: `ocisync completion bash`, and what may stand where a rule, a target or an image is named.

The shells' scripts ask the command itself, by environment variables (typer's protocol). An answer comes within a few
seconds or not at all, and nothing is ever said: what cannot be looked up is not offered.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.options import optional_config
from ocisync.cli.display.output import show_raw

_PATIENCE = 5.0  # seconds for a registry's answer
_MOST = 500  # names that are offered
_SAFE = re.compile(r"[A-Za-z0-9@%+=:,./_~-]+")  # a shell evaluates some of what is offered
_TRANSPORTS = ("docker://", "static:", "s3://", "oci:", "oci-archive:", "docker-archive:", "dir:")

_BASH = r"""# bash completion for ocisync
_ocisync() {
    local line=${COMP_LINE:0:COMP_POINT} word prefix IFS=$' \t\n'
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    IFS=$'\n'
    COMPREPLY=($(
        export COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1))
        _OCISYNC_COMPLETE=complete_bash ocisync 2>/dev/null
    ))
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then # readline begins a new word behind a colon
        prefix=${word%"${word##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace
    return 0
}
complete -o default -F _ocisync ocisync
"""
_ZSH = r"""#compdef ocisync
_ocisync() {
    local line name told
    local -a open closed shown
    for line in ${(f)"$(_TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS="${words[1,CURRENT]}" \
        _OCISYNC_COMPLETE=complete_fish ocisync 2>/dev/null)"}; do
        name=${line%%$'\t'*} told=${line#*$'\t'}
        if [[ $name == *[:/] ]]; then # more of it will be typed
            open+=($name)
        else
            closed+=($name)
            [[ $told == $name ]] && shown+=($name) || shown+=("${(r:20:)name} $told")
        fi
    done
    (( $#open )) && compadd -S '' -- $open
    (( $#closed )) && compadd -l -d shown -- $closed
    (( $#open + $#closed )) || _files
}
if [ "$funcstack[1]" = "_ocisync" ]; then _ocisync; else compdef _ocisync ocisync; fi
"""
_FISH = r"""# fish completion for ocisync
function __ocisync
    set -lx _TYPER_COMPLETE_FISH_ACTION $argv[1]
    set -lx _TYPER_COMPLETE_ARGS (commandline -cp)
    env _OCISYNC_COMPLETE=complete_fish ocisync 2>/dev/null
end
complete --command ocisync --no-files --condition "__ocisync is-args" --arguments "(__ocisync get-args)"
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell that the script is for.")],
) -> None:
    """Print the script that completes commands, options, rules, targets and tags in a shell.

    Example: source <(ocisync completion bash)

    Example: ocisync completion fish > ~/.config/fish/completions/ocisync.fish
    """
    show_raw(_SCRIPTS[shell].encode())


def complete_rules(context: typer.Context, incomplete: str) -> list[str]:
    """The rules of the configuration."""
    return _offer(incomplete, lambda: _read_names(context, "drop", "sync"))


def complete_sync_rules(context: typer.Context, incomplete: str) -> list[str]:
    """The rules that `sync-now` can ask for."""
    return _offer(incomplete, lambda: _read_names(context, "sync"))


def complete_targets(context: typer.Context, incomplete: str) -> list[str]:
    """The targets of the configuration, and below one its repositories."""
    return _offer(incomplete, lambda: _list_places(context, incomplete))


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """The repositories of the registry that was named before, and the tags of one."""
    target = str(context.params.get("target") or "")
    return _offer(incomplete, lambda: _list_names(context, target, incomplete))


def complete_images(context: typer.Context, incomplete: str) -> list[str]:
    """Transports, and the tags of the repository that was typed; files are the shell's own business."""
    return _offer(incomplete, lambda: _list_images(context, incomplete))


def _offer(incomplete: str, look: Callable[[], Iterable[str]]) -> list[str]:
    """What begins as typed. Whatever fails, a user who presses the tabulator wants no error."""
    try:
        found = [name for name in look() if name.startswith(incomplete) and _SAFE.fullmatch(name)]
    except Exception:  # noqa: BLE001
        return []
    return found[:_MOST]


def _config(context: typer.Context) -> Path | None:
    given = context.params.get("config")
    return optional_config(Path(str(given)) if given else None)


def _read_names(context: typer.Context, *sections: str) -> list[str]:
    """The names of rules, or of targets, read without the secrets that checking the file would need."""
    from ocisync.config.load import read_text
    from ocisync.config.validate import derive_names, list_entries
    from ocisync.config.yaml_document import parse_document

    file = _config(context)
    root = parse_document(read_text(file)).value if file else None
    if not isinstance(root, dict):
        return []
    derived = derive_names(root)
    entries = [entry for section in sections for entry in list_entries(root, section)]
    return [
        str(path[1]) if path[0] == "targets" else str(entry.get("name") or derived.get(path, ""))
        for path, entry in entries
    ]


def _list_places(context: typer.Context, incomplete: str) -> list[str]:
    if "/" not in incomplete and ":" not in incomplete:
        return [*_read_names(context, "targets"), "static:", "s3://", "docker://"]
    if incomplete.startswith("static:"):
        root, separator, _ = incomplete.partition("//")
    else:
        root, separator, _ = incomplete.rpartition("/")
    if not separator or root.endswith("/"):
        return []  # a folder, a bucket or a host is being typed
    return [f"{root}{separator}{name}" for name in _ask(_repositories, root, _config(context))]


def _list_names(context: typer.Context, target: str, incomplete: str) -> list[str]:
    name, colon, _ = incomplete.partition(":")
    if colon:
        place = f"{target}//{name}" if target.startswith("static:") else f"{target.rstrip('/')}/{name}"
        place = place if ":" in target else f"target:{place}"
        return [f"{name}:{tag}" for tag in _ask(_tags, place, _config(context))]
    return list(_ask(_repositories, target, _config(context)))


def _list_images(context: typer.Context, incomplete: str) -> list[str]:
    name, colon, tag = incomplete.rpartition(":")
    if not colon or "/" in tag or "/" not in name:
        return [*_TRANSPORTS]
    return [f"{name}:{one}" for one in _ask(_tags, name, _config(context))]


def _ask(look: Callable[[str, Path | None], Awaitable[list[str]]], place: str, config: Path | None) -> list[str]:
    import anyio

    # On a busy machine imports take longer than an answer may.
    import ocisync.commands.images.inspect
    import ocisync.commands.images.static_target
    import ocisync.commands.registry.images  # noqa: F401
    from ocisync.logs import configure_logging

    configure_logging("error", "console")

    async def ask() -> list[str]:
        with anyio.fail_after(_PATIENCE):
            return await look(place, config)

    return run_async(ask)


async def _tags(place: str, config: Path | None) -> list[str]:
    from ocisync.commands.images.inspect import list_tags

    return list((await list_tags(place, config))[1])


async def _repositories(place: str, config: Path | None) -> list[str]:
    """The repositories of a registry, by their names below it."""
    from ocisync.commands.images.static_target import open_scope
    from ocisync.commands.registry.images import find_place, list_registry

    if found := find_place(place, config):
        names = (await list_registry(found[0], config)).repositories
        return [name.removeprefix(f"{found[0].path}/") for name in names]
    async with open_scope(place.partition("/")[0] if ":" not in place else place, config) as scope:
        prefix = place.partition("/")[2] if ":" not in place else ""
        listed = [name async for name in scope.target.registry.list_repositories(prefix)]
    return [name.removeprefix(f"{prefix}/") for name in listed]
