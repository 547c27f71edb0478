"""`ocisync clients`: how docker, containerd, podman, k3s and OpenShift are told to pull from a mirror."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ocisync.cli.arguments.completion import complete_targets
from ocisync.cli.arguments.options import ConfigFile, config_file
from ocisync.cli.display.output import show, warn


def clients(
    client: Annotated[
        Literal["containerd", "podman", "k3s", "docker", "openshift"],
        typer.Argument(help="Whose settings; podman's are also those of skopeo, buildah and CRI-O."),
    ],
    target: Annotated[
        str, typer.Argument(help="The target to pull from. Default: the only one.", autocompletion=complete_targets)
    ] = "",
    url: Annotated[str, typer.Option("--url", help="Where clients reach it, such as https://mirror.example.")] = "",
    config: ConfigFile = None,
) -> None:
    """Print the settings that make docker, containerd, podman and others pull from a mirror.

    Example: ocisync clients containerd mirror --url https://mirror.example
    """
    from ocisync.config.client_mirrors import find_mirror, render
    from ocisync.config.load import load_config
    from ocisync.errors import ConfigError

    found = load_config(config_file(config), needs_secrets=False)
    if not target:
        if len(found.targets) != 1:
            raise ConfigError(f"which target? Name one of {', '.join(found.targets) or 'none'}")
        (target,) = found.targets
    files, left_out = render(client, find_mirror(found, target, url))
    for file in files:
        if client == "docker":  # JSON has no comments
            warn(f"for {file.path}:")
        else:
            show(f"# {file.path}")
        show(file.text)
    for one in left_out:
        warn(f"left out: {one}")
    if not files:
        raise ConfigError(f"{target}: its rules mirror nothing that {client} can be told")
