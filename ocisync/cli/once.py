"""`ocisync once`, `plan` and `status`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ocisync.cli.formatting import counted, duration_text, printable, size_text, table, time_text
from ocisync.cli.progress import progress
from ocisync.commands.once import PlannedPass, RuleReport, plan_once, rule_reports, run_once_with
from ocisync.config.load import load_config
from ocisync.daemon.single_pass import PassReport
from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.state.image_records import ImageRecord
from ocisync.sync.forecast import Pulls
from ocisync.sync.plan import Action
from ocisync.sync.referrer_set import ReferrerSet
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict
from ocisync.wiring.session import run_async
from ocisync.wiring.target_capabilities import target_capabilities


def run_once(file: Path, rules: list[str], as_json: bool, *, force_prune: bool = False, in_full: bool = False) -> int:
    """One pass; the exit status."""
    config = load_config(file)
    with progress() as shown:
        once = partial(run_once_with, config, rules, shown, force_prune=force_prune, in_full=in_full)
        report = run_async(once)
    print(json.dumps(_pass_json(report), indent=2)) if as_json else _print_pass(report)
    return 0 if report.ok else 1


def show_plan(file: Path, rules: list[str], as_json: bool) -> int:
    """What a pass would do; the exit status is 1 when something could not be looked at."""
    plan = run_async(plan_once, load_config(file), rules)
    print(json.dumps(_plan_json(plan), indent=2) if as_json else _plan_text(plan))
    return 1 if plan.failures else 0


def show_status(file: Path, as_json: bool) -> int:
    """Each rule's last runs."""
    reports = run_async(rule_reports, load_config(file))
    if as_json:
        print(json.dumps({rule: _status_json(report) for rule, report in reports.items()}, indent=2))
        return 0
    print(_status_table(reports))
    for report in reports.values():
        for image in report.images:
            if image.code:
                print(f"{_image(image.target, image.tag)}: {printable(image.message)} [{image.code}]")
    return 0


def _status_json(report: RuleReport) -> dict[str, object]:
    lag = None if report.lag is None else round(report.lag, 3)
    return asdict(report.status) | {"lag": lag, "images": [_image_json(image) for image in report.images]}


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


def show_targets(file: Path, as_json: bool) -> int:
    """What each target's storage can do, tried out now; the exit status is 1 when one cannot be used."""
    found = run_async(target_capabilities, load_config(file))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        rows = [(name, what, printable(told)) for name, about in found.items() for what, told in about.items()]
        print(table([("TARGET", "WHAT", "FOUND"), *rows]))
    return 1 if any("error" in about for about in found.values()) else 0


def _status_table(reports: Mapping[str, RuleReport]) -> str:
    rows = [("RULE", "LAST SUCCESS", "LAG", "NEXT RUN", "FAILURES", "LAST ERROR")]
    rows += [
        (
            rule,
            time_text(report.status.last_success),
            "-" if report.lag is None else duration_text(report.lag),
            "-" if report.status.next_due is None else time_text(report.status.next_due),
            str(report.status.failures),
            printable(report.status.message),
        )
        for rule, report in reports.items()
    ]
    return table(rows)


def _print_pass(report: PassReport) -> None:
    for job in report.jobs:
        for warning in job.warnings:
            print(f"{job.rule}: warning: {printable(warning)}", file=sys.stderr)
        for tag in job.tags:
            _print_tag(f"{job.target.removeprefix('target:')}:{tag.tag}", tag)
        if job.failure:
            _print_failures(f"{job.rule}: {job.source} -> {job.target.removeprefix('target:')}", job.failure)
    for one in report.inputs:
        if one.failure and not one.jobs:
            _print_failures(f"{one.rule}: {printable(one.key)}", one.failure)
        if one.verdict is InputVerdict.WAITING:
            print(f"{one.rule}: {printable(one.key)} waits: {printable(one.reason)}", file=sys.stderr)
    for rule, failure in report.failures.items():
        _print_failures(rule, failure)
    print(_summary(report))


def _print_tag(name: str, tag: TagReport) -> None:
    if tag.verdict is Verdict.KEPT:
        print(f"{name}: kept: {printable(tag.reason)}", file=sys.stderr)
    _print_failures(name, tag.failure)


def _print_failures(what: str, failure: Failure | None) -> None:
    if failure is not None:
        print(f"{what}: {printable(failure.message)} [{failure.code}]", file=sys.stderr)


def _summary(report: PassReport) -> str:
    tags = [tag for job in report.jobs for tag in job.tags]
    counts = ", ".join(f"{sum(tag.verdict is verdict for tag in tags)} {verdict.value}" for verdict in Verdict)
    traffic = [job.traffic for job in report.jobs]
    sent = sum(one.bytes for one in traffic)
    blobs = sum(one.blobs for one in traffic)
    failed = len(report.failures) + sum(job.failure is not None for job in report.jobs)
    failed += sum(not one.ok and not one.jobs for one in report.inputs)
    rest = f"; {failed} {'rule or file' if failed == 1 else 'rules or files'} failed" if failed else ""
    return f"{counted(len(tags), 'tag')}: {counts}; {counted(blobs, 'blob')}, {size_text(sent)} sent{rest}"


def _pass_json(report: PassReport) -> dict[str, object]:
    return {
        "ok": report.ok,
        "jobs": [_job_json(job) for job in report.jobs],
        "inputs": [_input_json(one) for one in report.inputs],
        "failures": {rule: asdict(failure) for rule, failure in report.failures.items()},
        "failed": [{"what": what, **asdict(failure)} for what, failure in _failed(report)],
    }


def _failed(report: PassReport) -> Iterator[tuple[str, Failure]]:
    """Everything that failed, by its name: images, whole jobs, inputs, rules."""
    for job in report.jobs:
        yield from ((_image(job.target, tag.tag), tag.failure) for tag in job.failed if tag.failure)
        if job.failure:
            yield f"{job.rule}: {job.source} -> {job.target.removeprefix('target:')}", job.failure
    for one in report.inputs:
        if one.failure and not one.jobs:
            yield f"{one.rule}: {one.key}", one.failure
    yield from report.failures.items()


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
