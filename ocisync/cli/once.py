"""`ocisync once` and `plan`: one pass, and what it would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ocisync.cli import run_async
from ocisync.cli.arguments.completion import complete_rules
from ocisync.cli.arguments.options import AsJson, ConfigFile, Quiet, Verbose, service_config
from ocisync.cli.display.output import counted, printable, show, show_json, table, warn
from ocisync.cli.display.signatures import judgement_json
from ocisync.model.text.quantities import size_text

if TYPE_CHECKING:  # the start of other commands does not pay for what runs rules
    from ocisync.commands.once import PlannedPass
    from ocisync.daemon.single_pass import PassReport
    from ocisync.drop.rule import InputReport
    from ocisync.sync.plan import Pulls
    from ocisync.sync.referrers.referrer_set import ReferrerSet
    from ocisync.sync.reports import Failure, JobReport, TagReport

Rules = Annotated[
    list[str] | None, typer.Argument(metavar="[RULE]...", help="Only these rules.", autocompletion=complete_rules)
]


def once(
    context: typer.Context,
    rules: Rules = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    force_prune: Annotated[
        bool,
        typer.Option("--force-prune", help="Let `prune` remove more than `prune_limit`; run `plan` first."),
    ] = False,
    recheck: Annotated[
        bool,
        typer.Option("--recheck", help="Ignore cached state and verify everything again."),
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="Have the daemons that share the work do it, and wait for them."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run every rule once, or the named ones; exit 0 if all is good, 1 if something failed or was refused.

    Example: ocisync once

    Example: ocisync once alpine --recheck

    Example: ocisync once --config mirror.yaml --json

    Example: ocisync once --distributed
    """
    if distributed and (force_prune or recheck):
        raise typer.BadParameter(
            "the daemons do what their rules say: leave out --force-prune and --recheck", param_hint="--distributed"
        )
    from ocisync.cli.display.progress import progress
    from ocisync.commands.once import run_distributed_rules, run_rules
    from ocisync.config.load import load_config

    if verbose:
        from ocisync.logs import configure_logging

        configure_logging("debug", context.obj[1] or "console")
    file = load_config(service_config(config))
    with progress(is_quiet=quiet) as shown:
        if distributed:
            report = run_async(run_distributed_rules, file, rules or [], shown)
        else:
            report = run_async(partial(run_rules, file, rules or [], shown, force_prune=force_prune, in_full=recheck))
    show_json(_pass_json(report)) if as_json else _print_pass(report, is_quiet=quiet)
    raise typer.Exit(0 if report.ok else 1)


def plan(rules: Rules = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show what `once` would do and why, without changing anything.

    Example: ocisync plan

    Example: ocisync plan alpine --json
    """
    from ocisync.commands.once import plan_rules
    from ocisync.config.load import load_config

    found = run_async(plan_rules, load_config(service_config(config)), rules or [])
    show_json(_plan_json(found)) if as_json else show(_plan_text(found))
    raise typer.Exit(1 if found.failures else 0)


def _print_pass(report: PassReport, *, is_quiet: bool) -> None:
    from ocisync.sync.judging.acceptance import Outcome
    from ocisync.sync.reports import Verdict

    unchanged, accepted = Verdict.UNCHANGED, Outcome.ACCEPTED
    for job in report.jobs:
        for warning in job.warnings:
            warn(f"{job.rule}: warning: {printable(warning)}")
        for tag in job.tags:
            is_accepted = tag.judgement is None or tag.judgement.outcome is accepted
            if tag.verdict is not unchanged or not is_accepted:
                _print_tag(_image(job.target, tag.tag), tag)
        if job.failure:
            _print_failures(f"{job.rule}: {job.source} -> {job.target.removeprefix('target:')}", job.failure)
    if report.inputs:
        _print_inputs(report.inputs)
    for rule, files in report.skipped.items():
        _print_skipped(rule, files)
    for rule, failure in report.failures.items():
        _print_failures(rule, failure)
    if not is_quiet:
        show(_summary(report))


def _print_inputs(inputs: Sequence[InputReport]) -> None:
    from ocisync.drop.rule import InputVerdict

    for one in inputs:
        told = {worst.message for job in one.jobs if (worst := job.worst())}
        if one.failure and one.failure.message not in told:
            _print_failures(f"{one.rule}: {printable(one.key)}", one.failure)
        if one.verdict is InputVerdict.WAITING:
            warn(f"{one.rule}: {printable(one.key)} waits: {printable(one.reason)}")
        for warning in one.warnings:
            warn(f"{one.rule}: {printable(one.key)}: warning: {printable(warning)}")


def _print_skipped(rule: str, files: Mapping[str, str]) -> None:
    for path, reason in files.items():
        warn(f"{rule}: {printable(path)} is skipped: {printable(reason)}")


def _print_tag(name: str, tag: TagReport) -> None:
    verdict = tag.verdict.value
    if verdict in ("kept", "pending"):
        warn(f"{name}: {verdict}: {printable(tag.reason)}")
    elif tag.judgement is not None and tag.judgement.outcome.value == "warned":
        warn(f"{name}: warning: {printable(tag.judgement.reason)} [{tag.judgement.code}]")
    _print_failures(name, tag.failure)


def _print_failures(what: str, failure: Failure | None) -> None:
    if failure is not None:
        warn(f"{what}: {printable(failure.message)} [{failure.code}]")


def _summary(report: PassReport) -> str:
    from ocisync.sync.reports import Verdict

    verdicts = [tag.verdict for job in report.jobs for tag in job.tags]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict.value}" for verdict in Verdict)
    traffic = [job.traffic for job in report.jobs]
    sent = sum(one.bytes for one in traffic)
    blobs = sum(one.blobs for one in traffic)
    failed = len(report.failures) + sum(job.failure is not None for job in report.jobs)
    failed += sum(not one.ok and not one.jobs for one in report.inputs)
    rest = f"; {failed} {'rule or file' if failed == 1 else 'rules or files'} failed" if failed else ""
    return f"{counted(len(verdicts), 'tag')}: {counts}; {counted(blobs, 'blob')}, {size_text(sent)} sent{rest}"


def _pass_json(report: PassReport) -> dict[str, object]:
    return {
        "ok": report.ok,
        "jobs": [_job_json(job) for job in report.jobs],
        "inputs": [_input_json(one) for one in report.inputs],
        "failures": {rule: asdict(failure) for rule, failure in report.failures.items()},
        "skipped": {rule: dict(files) for rule, files in report.skipped.items() if files},
        "failed": [{"what": what, **asdict(failure)} for what, failure in _list_failures(report)],
    }


def _list_failures(report: PassReport) -> Iterator[tuple[str, Failure]]:
    """Everything that failed, by its name: images, whole jobs, inputs, rules."""
    for job in report.jobs:
        yield from ((_image(job.target, tag.tag), tag.failure) for tag in job.tags if tag.failure)
        if job.failure:
            yield f"{job.rule}: {job.source} -> {job.target.removeprefix('target:')}", job.failure
    for one in report.inputs:
        if one.failure and not one.jobs:
            yield f"{one.rule}: {one.key}", one.failure
    yield from report.failures.items()


def _image(target: str, tag: str) -> str:
    return f"{target.removeprefix('target:')}:{tag}"


def _job_json(job: JobReport) -> dict[str, object]:
    return {
        "rule": job.rule,
        "source": job.source,
        "target": job.target,
        "ok": job.ok,
        "seconds": round(job.seconds, 3),
        "requests": job.requests,
        "traffic": asdict(job.traffic),
        "tags": [_tag_json(tag) for tag in job.tags],
        "warnings": job.warnings,
        "failure": asdict(job.failure) if job.failure else None,
    }


def _tag_json(tag: TagReport) -> dict[str, object]:
    failure = asdict(tag.failure) if tag.failure else None
    return {
        "tag": tag.tag,
        "verdict": tag.verdict.value,
        "reason": tag.reason,
        "digest": tag.digest,
        "bytes": tag.cost.bytes,
        "requests": tag.cost.requests,
        "seconds": round(tag.cost.seconds, 3),
        "failure": failure,
        **judgement_json(tag.judgement),
    }


def _input_json(one: InputReport) -> dict[str, object]:
    return {
        "rule": one.rule,
        "input": one.key,
        "paths": list(one.paths),
        "verdict": one.verdict.value,
        "reason": one.reason,
        "published": list(one.published),
        "aftermath": one.aftermath,
        "warnings": list(one.warnings),
        "failure": asdict(one.failure) if one.failure else None,
    }


def _plan_json(plan: PlannedPass) -> dict[str, object]:
    return {
        "tags": [
            {
                "rule": one.rule,
                "target": one.target,
                "tag": one.planned.tag,
                "action": one.planned.action.value,
                "reason": one.planned.reason,
                "digest": one.planned.root.digest if one.planned.root else None,
                **_attached_json(one.planned.attached),
                **judgement_json(one.planned.judgement),
            }
            for one in plan.tags
        ],
        "inputs": [{"rule": rule, "input": key, "reason": reason} for rule, key, reason in plan.inputs],
        "pulls": {host: _pulls_json(pulls) for host, pulls in plan.pulls.items()},
        "warnings": plan.warnings,
        "failures": {rule: asdict(failure) for rule, failure in plan.failures.items()},
    }


def _attached_json(attached: ReferrerSet | None) -> dict[str, object]:
    """What goes along with an image; nothing where nothing is wanted."""
    if attached is None:
        return {}
    tags = {tag: attached.tags[tag].digest for tag in sorted(attached.tags)}
    return {"referrers": [desc.digest for desc in attached.referrers], "digestTags": tags}


def _plan_text(plan: PlannedPass) -> str:
    from ocisync.sync.plan import Action

    work = [one for one in plan.tags if one.planned.action is not Action.SKIP]
    rows = [("ACTION", "TARGET", "REASON")]
    rows += [
        (one.planned.action.value, f"{one.target}:{one.planned.tag}", printable(one.planned.reason)) for one in work
    ]
    rows += [("take", f"{rule}: {printable(key)}", printable(reason)) for rule, key, reason in plan.inputs]
    lines = [table(rows) if len(rows) > 1 else "nothing to do"]
    lines += [f"{len(plan.tags) - len(work)} of {len(plan.tags)} tags are unchanged"] if plan.tags else []
    lines += [_pulls_text(pulls) for pulls in plan.pulls.values() if pulls.allowance]
    lines += [f"warning: {printable(warning)}" for warning in plan.warnings]
    lines += [f"{what}: {printable(failure.message)} [{failure.code}]" for what, failure in plan.failures.items()]
    return "\n".join(lines)


def _pulls_json(pulls: Pulls) -> dict[str, object]:
    told = pulls.allowance
    left = (
        {"remaining": told.remaining, "limit": told.limit, "window": told.window, "kept": told.kept} if told else None
    )
    return {"least": pulls.least, "most": pulls.most, "allowance": left}


def _pulls_text(pulls: Pulls) -> str:
    """What a pass needs of a host that counts pulls, and whether it will have to wait for it."""
    needed = f"{pulls.least}" if pulls.least == pulls.most else f"{pulls.least} to {pulls.most}"
    text = f"{pulls.host}: {needed} pulls are needed"
    if (told := pulls.allowance) is None:
        return text
    of = f" of {told.limit}" if told.limit else ""
    keeps = f", {told.kept} of them kept for others" if told.kept else ""
    waits = "; the pass will wait for more" if pulls.least > told.usable else ""
    waits = waits or ("; the pass may have to wait for more" if pulls.most > told.usable else "")
    return f"{text}; {told.remaining}{of} are left{keeps}{waits}"
