"""The commands and their options. Imports inside commands keep `--help` fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from ocisync import __version__
from ocisync.cli import maintenance_commands, sync_now
from ocisync.cli.options import AsJson, ConfigFile, LogLevel, config_file, optional_config, start_logging

app = typer.Typer(
    help="Keep container-image mirrors fresh: from drop folders and registries to static registries and registries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(
    help="Check the configuration, describe it to an editor, or import another tool's.", no_args_is_help=True
)
app.add_typer(config_app, name="config")

Rules = Annotated[Optional[list[str]], typer.Argument(metavar="[RULE]...", help="Only these rules.")]  # noqa: UP045
OnePlatform = Annotated[str, typer.Option("--platform", help="One image of an index: os/architecture[/variant].")]
Texts = Annotated[Optional[list[str]], typer.Option(help="May be given again; NAME=VALUE where it has both.")]  # noqa: UP045
LayerCompression = Annotated[
    Optional[Literal["gzip", "zstd", "none"]],  # noqa: UP045
    typer.Option("--compression", help="Of docker-archives' layers that come uncompressed; gzip."),
]
CompressionLevel = Annotated[Optional[int], typer.Option("--level", help="Of that: gzip 1 to 12, zstd 1 to 19.")]  # noqa: UP045
LogFormat = Literal["console", "json"]
LogLevelOption = Annotated[Optional[LogLevel], typer.Option("--log-level", help="The least level that is logged.")]  # noqa: UP045
LogFormatOption = Annotated[Optional[LogFormat], typer.Option("--log-format", help="How log lines look.")]  # noqa: UP045


def _show_version(wanted: bool) -> None:
    """Answer while the options are parsed: afterwards, a missing command is an error."""
    if wanted:
        print(f"ocisync {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
    version: Annotated[  # noqa: ARG001 (its callback answers)
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    context.obj = (log_level, log_format)


@app.command()
def run(
    context: typer.Context,
    config: ConfigFile = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Run the daemon: watch drop folders, mirror on schedule, keep static registries up to date."""
    from ocisync.commands.run import run_daemon

    level, form = context.obj
    raise typer.Exit(run_daemon(config_file(config), log_level or level, log_format or form))


@app.command()
def once(
    context: typer.Context,
    rules: Rules = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    force_prune: Annotated[
        bool, typer.Option("--force-prune", help="Let prune remove more than prune_limit; look at `plan` before.")
    ] = False,
    recheck: Annotated[
        bool,
        typer.Option("--recheck", help="Believe nothing on record: look at all of every image, and at all archives."),
    ] = False,
) -> None:
    """Do one pass of every rule; exit 0 all good, 1 some failed."""
    start_logging(context)
    from ocisync.cli.once import run_once

    raise typer.Exit(run_once(config_file(config), rules or [], as_json, force_prune=force_prune, in_full=recheck))


@app.command()
def plan(context: typer.Context, rules: Rules = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show what a pass would do and why, changing nothing."""
    start_logging(context)
    from ocisync.cli.once import show_plan

    raise typer.Exit(show_plan(config_file(config), rules or [], as_json))


@app.command()
def status(
    context: typer.Context,
    config: ConfigFile = None,
    as_json: AsJson = False,
    targets: Annotated[bool, typer.Option("--targets", help="Try out what each target's storage can do.")] = False,
) -> None:
    """Show each rule's last success, last failure and next run."""
    start_logging(context)
    from ocisync.cli.once import show_status, show_targets

    if targets:
        raise typer.Exit(show_targets(config_file(config), as_json))
    raise typer.Exit(show_status(config_file(config), as_json))


@app.command()
def copy(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="What to copy, such as docker://ghcr.io/org/app:1.0 or FILE."),
    ],
    destination: Annotated[str, typer.Argument(help="Where to, such as static:./registry//app:1.0, oci-archive:FILE")],
    every: Annotated[bool, typer.Option("--all", help="Every named image of the source, under its name.")] = False,
    platform: OnePlatform = "",
    form: Annotated[
        Optional[Literal["oci", "docker"]],  # noqa: UP045
        typer.Option("--format", help="Rewrite manifests in these media types; digests change."),
    ] = None,
    drop_signatures: Annotated[
        bool, typer.Option("--drop-signatures", help="With --format: convert signed images, leaving their signatures.")
    ] = False,
    compression: LayerCompression = None,
    level: CompressionLevel = None,
    referrers: Annotated[
        bool, typer.Option("--referrers", help="With what refers to the image (signatures, SBOMs), and to that.")
    ] = False,
    artifact_type: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--artifact-type", help="With --referrers: only of this type; may be given again."),
    ] = None,
    digest_tags: Annotated[
        bool, typer.Option("--digest-tags", help="With cosign's tags of the image: .sig, .att and .sbom.")
    ] = False,
    include_external: Annotated[
        bool, typer.Option("--include-external", help="Foreign layers too, from their own URLs if need be.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Send everything again, whatever the destination says it has.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Copy images with all their platforms, digests unchanged; several images into one archive."""
    start_logging(context)
    from ocisync.cli.copy import CopyArguments, compression_of, copy_command

    packing = compression_of(compression, level)
    types = artifact_type or ()
    going_along = (referrers, types, digest_tags, include_external)
    options = CopyArguments(every, platform, form, drop_signatures, packing, *going_along, force=force)
    raise typer.Exit(copy_command(sources, destination, options, optional_config(config)))


@app.command()
def push(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A folder of archives named OS.ARCH.tar.gz")],
    destination: Annotated[str, typer.Argument(help="A registry: s3://BUCKET?endpoint=URL, static:DIR, docker://HOST")],
    tag: Annotated[list[str], typer.Option("--tag", "-t", help="NAME:TAG to publish as; may be given again.")],
    compression: LayerCompression = None,
    level: CompressionLevel = None,
    config: ConfigFile = None,
) -> None:
    """Publish a folder of archives, one per platform, as one multi-arch image."""
    start_logging(context)
    from ocisync.cli.copy import compression_of, push_folder

    squeezed = compression_of(compression, level)
    raise typer.Exit(push_folder(folder, destination, tag, optional_config(config), squeezed))


@app.command()
def pack(
    context: typer.Context,
    rootfs: Annotated[Path, typer.Argument(help="A folder that holds a root file system.")],
    destination: Annotated[str, typer.Argument(help="Where to, such as docker://HOST/NAME:TAG, oci:DIR, app.tar.gz")],
    settings: Annotated[Optional[Path], typer.Option("--settings", help="A YAML file; options add to it.")] = None,  # noqa: UP045
    parent: Annotated[Optional[str], typer.Option(help="An image to put the folder on, any reference.")] = None,  # noqa: UP045
    entrypoint: Annotated[Optional[str], typer.Option(help='Words, or a JSON list: ["/app","-v"].')] = None,  # noqa: UP045
    cmd: Annotated[Optional[str], typer.Option(help="Default arguments, written as --entrypoint.")] = None,  # noqa: UP045
    env: Texts = None,
    directory: Annotated[Optional[str], typer.Option("--dir", help="Where the program starts.")] = None,  # noqa: UP045
    port: Texts = None,
    label: Texts = None,
    user: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="USER[:GROUP]; the parent's, or else 65532:65532. Ask for root by --user 0."),
    ] = None,
    volume: Texts = None,
    platform: OnePlatform = "",
    annotation: Texts = None,
    blob: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="[TYPE=]FILE", help="A file that goes with the image, in an index."),
    ] = None,
    exclude: Annotated[Optional[list[str]], typer.Option(metavar="PATTERN", help="What to leave out.")] = None,  # noqa: UP045
    exclude_from: Annotated[Optional[Path], typer.Option(help="A file with such patterns.")] = None,  # noqa: UP045
    owner: Annotated[Optional[str], typer.Option(help="UID[:GID] of every file; as they are otherwise.")] = None,  # noqa: UP045
    form: Annotated[Optional[Literal["oci", "docker"]], typer.Option("--format", help="Media types; oci.")] = None,  # noqa: UP045
    compression: Annotated[Optional[Literal["gzip", "zstd", "none"]], typer.Option(help="Of the layer; gzip.")] = None,  # noqa: UP045
    level: Annotated[Optional[int], typer.Option(help="Of the compression.")] = None,  # noqa: UP045
    config: ConfigFile = None,
) -> None:
    """Pack a folder as an image of one layer; equal folders give equal digests."""
    start_logging(context, default="warning")
    from ocisync.cli.pack import pack_folder

    options = {
        "parent": parent,
        "entrypoint": entrypoint,
        "cmd": cmd,
        "env": env,
        "dir": directory,
        "ports": port,
        "labels": label,
        "user": user,
        "volumes": volume,
        "platform": platform,
        "annotations": annotation,
        "blobs": blob,
        "exclude": exclude,
        "owner": owner,
        "format": form,
        "compression": compression,
        "level": level,
    }
    raise typer.Exit(pack_folder(rootfs, destination, settings, options, exclude_from, optional_config(config)))


@app.command()
def unpack(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="An image, such as docker://alpine:3")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder for its root file system.")],
    platform: OnePlatform = "",
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--cache", help="An OCI layout that keeps blobs for the next time, shared by all images."),
    ] = None,
    rootless: Annotated[
        bool, typer.Option("--rootless", help="Everything is the caller's own, no devices; the default unless root.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Unpack an image's layers to a folder, verified; nothing is left behind when that fails."""
    start_logging(context, default="warning")
    from ocisync.cli.unpack import unpack_image

    unpack_image(source, folder, platform, cache, rootless, optional_config(config))


@app.command()
def serve(
    context: typer.Context,
    directory: Annotated[str, typer.Argument(help="A static registry: a directory, or s3://BUCKET?endpoint=URL")],
    listen: Annotated[str, typer.Option(help="Address and port; port 0 lets the system pick.")] = "127.0.0.1:5000",
) -> None:
    """Serve a static registry read-only over HTTP, for docker, podman, skopeo, crane."""
    start_logging(context, default="info")
    from ocisync.commands.run import serve_registry

    serve_registry(directory, listen)


@app.command()
def inspect(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="An image, such as docker://alpine:3")],
    platform: OnePlatform = "",
    raw: Annotated[bool, typer.Option("--raw", help="Print the manifest's bytes as they are.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show an image: platforms, sizes, layers, configuration."""
    start_logging(context)
    from ocisync.cli.inspect import show_image, show_raw

    if raw:
        show_raw(reference, platform, optional_config(config))
    else:
        show_image(reference, platform, as_json, optional_config(config))


@app.command()
def tags(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="A repository, such as docker://ghcr.io/org/app")],
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List the tags of a repository or archive."""
    start_logging(context)
    from ocisync.cli.inspect import show_tags

    show_tags(reference, as_json, optional_config(config))


@app.command()
def digest(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="An image, such as docker://alpine:3")],
    platform: OnePlatform = "",
    config: ConfigFile = None,
) -> None:
    """Print the digest of an image, without pulling it."""
    start_logging(context)
    from ocisync.cli.inspect import show_digest

    show_digest(reference, platform, optional_config(config))


@app.command()
def doctor(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="A published registry: https://HOST, or https://HOST/NAME:TAG")],
    client: Annotated[Optional[list[str]], typer.Option(help="Only this client counts; may be given again.")] = None,  # noqa: UP045
    ca: Annotated[Optional[Path], typer.Option(help="A PEM file of authorities to trust as well.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Look at a published registry as docker, podman, crane, oras and others do; exit 1 if one would fail."""
    start_logging(context, default="warning")
    from ocisync.cli.doctor import show_diagnosis

    raise typer.Exit(show_diagnosis(url, client or [], as_json, ca))


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("ocisync.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented starting configuration."""
    from ocisync.cli.config_commands import write_starter

    write_starter(file, force)


@app.command()
def demo(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End by itself after pulling everything back.")] = False,
    folder: Annotated[Optional[Path], typer.Option(help="Where to work; a temporary folder otherwise.")] = None,  # noqa: UP045
) -> None:
    """Show the main job on this machine: archives dropped, published, served, mirrored, pulled back and checked."""
    start_logging(context)
    from ocisync.cli.demo import run_demo

    raise typer.Exit(run_demo(once, folder))


@config_app.command("check")
def config_check(config: ConfigFile = None) -> None:
    """Check a configuration; every error is listed with its file and line."""
    from ocisync.cli.config_commands import check

    check(config_file(config))


@config_app.command("import")
def config_import(
    file: Annotated[
        Path, typer.Argument(help="A regsync.yml, a skopeo sync YAML, or dregsy's or zot's configuration.")
    ],
    origin: Annotated[
        Optional[Literal["regsync", "skopeo", "dregsy", "zot"]],  # noqa: UP045
        typer.Option("--from", help="The tool it is for; recognised by the content otherwise."),
    ] = None,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="A new file to write it to.")] = None,  # noqa: UP045
) -> None:
    """Write another tool's configuration as ocisync's, with comments on whatever has no equal."""
    from ocisync.cli.config_commands import import_config

    import_config(file, origin, output)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from ocisync.config.schema import schema_text

    sys.stdout.write(schema_text())


maintenance_commands.add_commands(app)
sync_now.add_commands(app)
