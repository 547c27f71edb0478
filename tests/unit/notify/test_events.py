"""Which changes are told, and how they look."""

from __future__ import annotations

import hashlib
import hmac
import json

from ocisync.drop.rule import InputReport, InputVerdict
from ocisync.notify.events import FAILURE, LATE, RECOVERY, REFUSED, Notice, StateTracker, merge_changes
from ocisync.notify.messages import MOST, as_json, as_mail, as_slack, as_teams, as_text, headline, sign
from ocisync.state.rule_records import RuleStatus, RuleView
from ocisync.sync.reports import STOPPED, Failure, JobReport, RunReport, TagReport, Verdict

DENIED = Failure("auth.denied", "h: the credentials were refused", "fail")
DOWN = Failure("net.unreachable", "h: nobody answers", "retry")


def run(failure: Failure | None = None) -> RunReport:
    return RunReport("app", 1, copied=2, failure=failure)


def notice(event: str = FAILURE, subject: str = "rule app", text: str = "why") -> Notice:
    return Notice(event, subject, "app", "Rule app", text, 1.0, "x")


def test_a_rule_is_told_when_it_begins_to_fail_and_when_it_is_well_again() -> None:
    tracker, told = StateTracker(), []
    for failure in (None, DENIED, DENIED, DOWN, Failure(STOPPED, "", "retry"), None, None):
        told += [(one.event, one.code) for one in tracker.see_run(run(failure), 1.0)]
    assert told == [(FAILURE, "auth.denied"), (RECOVERY, "")]


def test_after_a_restart_only_what_changed_is_told() -> None:
    tracker = StateTracker()
    tracker.load({"rule app": "auth.denied"})
    assert list(tracker.see_run(run(DENIED), 1.0)) == []
    assert [one.event for one in tracker.see_run(run(), 1.0)] == [RECOVERY]


def test_an_input_is_told_by_its_name() -> None:
    tracker = StateTracker()
    failed = InputReport("builds", "bad.tar", (), InputVerdict.FAILED, failure=DENIED)
    [told] = tracker.see_input(failed, 1.0)
    assert (told.title, told.rule) == ("bad.tar (builds) fails", "builds")
    [well] = tracker.see_input(InputReport("builds", "bad.tar", (), InputVerdict.PUBLISHED, published=("a/b:1",)), 2.0)
    assert (well.event, well.text) == (RECOVERY, "published as a/b:1")


def test_an_image_that_nobody_trusted_signed_is_refused_and_its_rule_tells_nothing_more() -> None:
    tracker, untrusted = StateTracker(), Failure("verify.untrusted", "no signature", "fail")
    report = JobReport("app", "s", "target:out/app", [TagReport("1", Verdict.FAILED, "", None, untrusted)])
    [told] = tracker.see_images(report, 1.0)
    assert (told.event, told.title) == (REFUSED, "out/app:1 was refused")
    assert list(tracker.see_run(run(untrusted), 1.0)) == []
    report.tags[0] = TagReport("1", Verdict.FAILED, "", None, DOWN)  # says nothing of signatures
    assert list(tracker.see_images(report, 2.0)) == []
    report.tags[0] = TagReport("1", Verdict.COPIED, "")
    assert [one.event for one in tracker.see_images(report, 3.0)] == [RECOVERY]


def test_a_rule_is_late_beyond_its_limit() -> None:
    tracker, told = StateTracker(), list[Notice]()
    for lag in (3000.0, 6000.0, 7000.0, 10.0):
        told += tracker.see_lag({"app": RuleView(RuleStatus(), lag, 3600.0)}, {"app": 5400.0}, 1.0)
    assert [(one.event, one.title) for one in told] == [
        (LATE, "Rule app is late"),
        (RECOVERY, "Rule app is well again"),
    ]
    assert told[0].text == "it last did all it should 1h 40m ago; the limit is 1h 30m"


def test_what_came_and_went_before_anybody_was_told_is_not_told() -> None:
    assert merge_changes([notice(), notice(RECOVERY)]) == []
    assert merge_changes([notice(RECOVERY), notice()]) == []
    assert merge_changes([notice(), notice(RECOVERY), notice(text="new")]) == [notice(text="new")]
    assert len(merge_changes([notice(), notice(subject="rule b")])) == 2


def test_the_signature_is_that_of_github() -> None:
    assert sign(b"body", "key") == "sha256=" + hmac.new(b"key", b"body", hashlib.sha256).hexdigest()


def test_many_are_one_message_that_counts_the_rest() -> None:
    many = [notice(subject=f"rule {at}") for at in range(30)] + [notice(RECOVERY, "rule z")]
    assert headline(many, "farm") == "30 failing, 1 well again · farm"
    assert headline(many[:1], "farm") == "Rule app fails · farm"
    assert f"… and {31 - MOST} more" in as_text(many)
    assert len(json.loads(as_json(many, "farm", 1.0))["notices"]) == 31
    assert len(json.loads(as_slack(many, "farm"))["blocks"]) == MOST + 2


def test_what_a_registry_says_is_no_markup() -> None:
    bad = notice(text="<!channel> [click](https://evil) *x* & \r\nBcc: you@evil")
    slack = json.loads(as_slack([bad], "farm"))["blocks"][1]["text"]["text"]
    assert "&lt;!channel&gt;" in slack
    assert "<!" not in slack
    card = json.loads(as_teams([bad], "farm"))["attachments"][0]["content"]
    assert "\\[click\\]\\(https://evil\\)" in card["body"][2]["text"]
    mail = as_mail(
        [Notice(FAILURE, "s", "r", "a\r\nBcc: you@evil", "b", 1.0)], "farm", "me@x.example", ["you@x.example"]
    )
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[ocisync] a Bcc: you@evil fails · farm"
