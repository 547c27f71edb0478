"""`ocisync status`: what is on record of each rule, and what targets can do."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_rules
from ocisync.cli.arguments.options import AsJson, ConfigFile, service_config
from ocisync.cli.display.output import local_time, printable, show, show_json, table
from ocisync.model.text.quantities import duration_text

_WATCH = 2.0  # seconds between two looks
_PENDING_SHOWN = 10  # images of a rule

if TYPE_CHECKING:  # the start of other commands does not pay for the state
    from ocisync.commands.status import RuleReport
    from ocisync.config.models import Config
    from ocisync.state.image_records import ImageRecord


def status(
    rule: Annotated[str, typer.Argument(metavar="[RULE]", help="Only this rule.", autocompletion=complete_rules)] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
    targets: Annotated[bool, typer.Option("--targets", help="Test what each target's storage can do.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every two seconds.")] = False,
) -> None:
    """Show each rule's last success, last failure and next run.

    Example: ocisync status

    Example: ocisync status alpine

    Example: ocisync status --watch

    Example: ocisync status --targets
    """
    from ocisync.commands.status import report_rules
    from ocisync.config.load import load_config
    from ocisync.wiring.target_capabilities import target_capabilities

    file = load_config(service_config(config), needs_secrets=False)
    if targets:
        raise typer.Exit(_print_targets(run_async(target_capabilities, file), as_json))
    if watch and sys.stdout.isatty():  # into a pipe it is shown once
        run_async(_watch, file, rule)
    _print_status(run_async(report_rules, file, rule), as_json)


async def _watch(config: Config, rule: str) -> None:
    """Show the status again and again, on a screen of its own."""
    import anyio

    from ocisync.cli.display.live import draw_text, open_screen
    from ocisync.commands.status import report_rules

    with open_screen() as live:
        while True:
            live.update(draw_text(_status_text(await report_rules(config, rule))), refresh=True)
            await anyio.sleep(_WATCH)


def _print_status(reports: Mapping[str, RuleReport], as_json: bool) -> None:
    if as_json:
        show_json({rule: _status_json(report) for rule, report in reports.items()})
        return
    show(_status_text(reports))


def _status_text(reports: Mapping[str, RuleReport]) -> str:
    """The table, and below it what fails or waits."""
    from ocisync.drop.report import without_name

    lines = [_status_table(reports)]
    for rule, report in reports.items():
        for one in report.inputs:
            code = f" [{one.code}]" if one.code else ""
            lines.append(
                f"{rule}: {printable(one.key)} {one.state}: {printable(without_name(one.key, one.reason))}{code}"
            )
        lines += [
            f"{_image(image.target, image.tag)}: {printable(image.message)} [{image.code}]"
            for image in report.images
            if image.code
        ]
        pending = [image for image in report.images if image.verdict == "pending"]
        lines += [f"{_image(one.target, one.tag)}: {printable(one.reason)}" for one in pending[:_PENDING_SHOWN]]
        if len(pending) > _PENDING_SHOWN:
            lines.append(f"{rule}: {len(pending) - _PENDING_SHOWN} more images are pending (all: --json)")
    return "\n".join(lines)


def _print_targets(found: Mapping[str, Mapping[str, str]], as_json: bool) -> int:
    """Print what each target's storage can do; the exit status is 1 when one cannot be used."""
    if as_json:
        show_json(found)
    else:
        rows = [(name, what, printable(told)) for name, about in found.items() for what, told in about.items()]
        show(table([("TARGET", "WHAT", "FOUND"), *rows]))
    return 1 if any("error" in about for about in found.values()) else 0


def _status_json(report: RuleReport) -> dict[str, object]:
    lag = None if report.lag is None else round(report.lag, 3)
    return (
        asdict(report.status)
        | {"lag": lag, "images": [_image_json(image) for image in report.images]}
        | ({"inputs": [asdict(one) for one in report.inputs]})
    )


def _image_json(image: ImageRecord) -> dict[str, object]:
    return {
        "image": _image(image.target, image.tag),
        "verdict": image.verdict,
        "reason": image.reason,
        "digest": image.digest or None,
        "bytes": image.bytes,
        "requests": image.requests,
        "seconds": image.seconds,
        "failure": {"code": image.code, "message": image.message} if image.code else None,
        "since": image.at,
    }


def _image(target: str, tag: str) -> str:
    return f"{target.removeprefix('target:')}:{tag}"


def _next_run_text(report: RuleReport) -> str:
    """When a rule runs next; where its interval follows how often something changes, the present one too."""
    if report.status.next_due is None:
        return "-"
    present = report.status.interval
    return local_time(report.status.next_due) + (f" (every {duration_text(present)})" if present else "")


def _status_table(reports: Mapping[str, RuleReport]) -> str:
    rows = [("RULE", "LAST SUCCESS", "LAG", "NEXT RUN", "FAILURES", "LAST ERROR")]
    rows += [
        (
            rule,
            local_time(report.status.last_success),
            "-" if report.lag is None else duration_text(report.lag),
            _next_run_text(report),
            str(report.status.failures),
            printable(report.status.message),
        )
        for rule, report in reports.items()
    ]
    return table(rows)
