"""What people are told, as values, and when: one notice for each change of state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.errors import SignatureError
from ocisync.logs import clean
from ocisync.model.text.quantities import duration_text
from ocisync.state.rule_records import RuleView
from ocisync.sync.reports import STOPPED, Failure, JobReport, RunReport, Verdict

FAILURE, RECOVERY, LATE, REFUSED = "failure", "recovery", "late", "refused"
TEST = "test"  # no change of state: `ocisync notify test` was run
EVENTS = (FAILURE, RECOVERY, LATE, REFUSED, TEST)
_MOST_INPUTS = 10_000  # of which the state is remembered


_VERBS = {FAILURE: "fails", RECOVERY: "is well again", LATE: "is late", REFUSED: "was refused", TEST: "arrived"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One change of state."""

    event: str  # failure, recovery, late, refused or test
    subject: str  # what changed, by a key that is the same for every change of it
    rule: str
    what: str  # for people: a rule, an input or an image
    text: str
    at: float  # seconds since the epoch
    code: str = ""
    state: str = ""  # what the subject's state is now; empty: well

    @property
    def title(self) -> str:
        """In one line."""
        return f"{self.what} {_VERBS[self.event]}"


@dataclass(slots=True)
class StateTracker:
    """Which subjects are not well, and what people were told of them.

    A subject is a rule, an input of a drop folder, the lag of a rule, or an image that was refused. What is told again
    and again with the same code is one change; another code of the same subject is none either, because who looks after
    it looks already.
    """

    states: dict[str, str] = field(default_factory=dict)  # subject -> why it is not well

    def load(self, states: Mapping[str, str]) -> None:
        """Take what people were told before the start."""
        self.states.update(states)

    def see_run(self, run: RunReport, now: float) -> Iterator[Notice]:
        """A run of a rule ended."""
        failure = run.failure
        if failure is not None and failure.code in (STOPPED, SignatureError.code):
            return  # it did not come to its end; or its images tell it
        text = f"{run.copied} copied, {run.unchanged} unchanged" if failure is None and run.jobs else ""
        yield from self._see(f"rule {run.rule}", run.rule, f"Rule {run.rule}", failure, now, text)

    def see_statuses(self, views: Mapping[str, RuleView], now: float) -> Iterator[Notice]:
        """Time passed: how rules fare by their records. Where daemons share the work, a run is told by nothing else."""
        for rule, view in views.items():
            status = view.status
            if not status.code and status.last_success is None:
                continue  # nothing is known of it yet
            failure = Failure(status.code, status.message, "") if status.code else None
            yield from self.see_run(RunReport(rule, failure=failure), now)

    def see_input(self, report: InputReport, now: float) -> Iterator[Notice]:
        """An input was processed."""
        if report.failure is not None and report.failure.code == STOPPED:
            return
        failure = report.failure if report.verdict is InputVerdict.FAILED else None
        subject = f"input {report.rule} {report.key}"
        text = f"published as {', '.join(report.published)}" if report.published else ""
        yield from self._see(subject, report.rule, f"{report.key} ({report.rule})", failure, now, text)

    def see_images(self, report: JobReport, now: float) -> Iterator[Notice]:
        """A job ended: which images the rule did not take, such as those that nobody whom it trusts signed."""
        for tag in report.tags:
            image = f"{report.target.removeprefix('target:')}:{tag.tag}"
            trouble = tag.trouble
            is_refused = tag.verdict is Verdict.REFUSED or (trouble and trouble.code == SignatureError.code)
            if not is_refused and (trouble is not None or tag.verdict is Verdict.PENDING):
                continue  # says nothing of whether it would be taken
            refused = trouble if is_refused else None
            yield from self._see(f"image {report.rule} {image}", report.rule, image, refused, now, event=REFUSED)

    def see_lag(self, views: Mapping[str, RuleView], limits: Mapping[str, float], now: float) -> Iterator[Notice]:
        """Time passed: which rules last did all they should longer ago than their limit, in seconds."""
        for rule, view in views.items():
            limit = limits.get(rule)
            late = None
            if limit is not None and view.lag > limit:
                behind = f"it last did all it should {duration_text(view.lag)} ago; the limit is {duration_text(limit)}"
                late = Failure(LATE, behind, "")
            yield from self._see(f"lag {rule}", rule, f"Rule {rule}", late, now, event=LATE)

    def _see(
        self, subject: str, rule: str, what: str, failure: Failure | None, now: float, text: str = "",
        event: str = FAILURE,
    ) -> Iterator[Notice]:  # fmt: skip
        subject, what = clean(subject), " ".join(clean(what).split())  # a title has one line, whatever a file is called
        known = self.states.get(subject)
        if failure is None and known is not None:
            del self.states[subject]
            yield Notice(RECOVERY, subject, rule, what, clean(text), now)
        elif failure is not None and known is None and len(self.states) < _MOST_INPUTS:
            self.states[subject] = failure.code
            yield Notice(event, subject, rule, what, clean(failure.message), now, failure.code, failure.code)


def merge_changes(notices: Iterable[Notice]) -> list[Notice]:
    """What is left to tell: of several changes of one subject the last, and nothing where it is as it was before."""
    first: dict[str, Notice] = {}
    last: dict[str, Notice] = {}
    for notice in notices:
        first.setdefault(notice.subject, notice)
        last.pop(notice.subject, None)
        last[notice.subject] = notice
    return [one for subject, one in last.items() if one is first[subject] or one.event == first[subject].event]
