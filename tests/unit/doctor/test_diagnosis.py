"""The doctor's pure parts."""

import json
from collections.abc import Mapping

import pytest

from ocisync.doctor.causes import CAUSES, CLIENTS, FOLLOWS, Level
from ocisync.doctor.diagnosis import examine, parse_address
from ocisync.doctor.probe import ProbeResponse
from ocisync.doctor.remedies import bucket_policy, fronts_of, remedies_for
from ocisync.errors import InvalidName


def test_every_cause_that_hurts_has_a_cure_and_known_clients() -> None:
    for cause in CAUSES.values():
        assert remedies_for(cause.code, (), "registry.example.com") or cause.level is Level.NOTE, cause.code
        assert set(cause.clients) <= set(CLIENTS)
        assert cause.clients or cause.level is not Level.FAILS
    assert {code for follow in FOLLOWS.items() for code in (follow[0], *follow[1])} <= set(CAUSES)


def test_cures_are_for_the_front_that_was_recognised() -> None:
    assert set(remedies_for("manifest.compressed", ("nginx",), "host")) == {"nginx"}
    assert len(remedies_for("manifest.compressed", (), "host")) > 3


def test_the_bucket_policy_names_the_bucket_and_lets_it_be_listed() -> None:
    cure = remedies_for("absent.forbidden", ("s3",), "images.s3.eu-west-1.amazonaws.com")["s3"]
    policy = json.loads(cure[cure.index("{") :])
    assert policy == json.loads(bucket_policy("images"))
    listed = [one for one in policy["Statement"] if one["Action"] == "s3:ListBucket"]
    assert [one["Resource"] for one in listed] == ["arn:aws:s3:::images"]


@pytest.mark.parametrize(
    ("headers", "fronts"),
    [
        ({"server": "AmazonS3", "x-amz-cf-id": "x"}, {"s3", "cloudfront"}),
        ({"server": "nginx/1.22.1"}, {"nginx"}),
        ({"server": "cloudflare"}, {"cloudflare"}),
        ({"server": "Python/3.11 aiohttp"}, set()),
    ],
)
def test_fronts_are_recognised_by_their_headers(headers: dict[str, str], fronts: set[str]) -> None:
    assert set(fronts_of([ProbeResponse(200, headers)])) == fronts


@pytest.mark.parametrize(
    ("text", "root", "name", "tag"),
    [
        ("https://r.example.com", "https://r.example.com", "", ""),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000", "", ""),
        ("https://r.example.com/v2/", "https://r.example.com", "", ""),
        ("https://r.example.com/a/b:1.0", "https://r.example.com", "a/b", "1.0"),
        ("https://user:pw@r.example.com/a", "https://r.example.com", "a", ""),
        ("https://r.example.com/a@sha256:" + "a" * 64, "https://r.example.com", "a", "sha256:" + "a" * 64),
    ],
)
def test_places_are_read(text: str, root: str, name: str, tag: str) -> None:
    place = parse_address(text)
    assert (place.root, place.name, place.tag) == (root, name, tag)


@pytest.mark.parametrize(
    "text", ["r.example.com", "ftp://r.example.com", "https:///a", "https://r/A", "https://r/?x=1"]
)
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_address(text)


def test_a_packed_body_is_unpacked_and_a_broken_one_left() -> None:
    assert ProbeResponse(200, {"content-encoding": "gzip"}, b"no gzip").plain == b"no gzip"
    assert ProbeResponse(200, {}, b"[1]").json() is None


class Script:
    """A registry that answers by path; 404 where nothing is written. Records what it was asked."""

    def __init__(self, answers: Mapping[str, ProbeResponse]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> ProbeResponse:
        self.asked.append(f"{method} {url}")
        return self.answers.get(url.removeprefix("http://localhost"), ProbeResponse(404))


def document(value: object) -> ProbeResponse:
    return ProbeResponse(200, {"content-type": "application/json"}, json.dumps(value).encode())


@pytest.mark.parametrize("location", ["http://[", "ftp://other/v2/", "", "javascript:x"])
async def test_a_redirect_to_no_address_is_told(location: str) -> None:
    script = Script({"/v2/": document({}), "/v2/a/manifests/b": ProbeResponse(307, {"location": location})})
    found = await examine(script, parse_address("http://localhost/a:b"))
    assert "redirect.dead" in {one.cause.code for one in found.findings}


async def test_names_that_the_registry_tells_are_checked_before_they_are_asked_for() -> None:
    listed = document({"repositories": ["../../x", "A", 7, "a?b", "good/name"]})
    script = Script(
        {"/v2/": document({}), "/v2/_catalog": listed, "/v2/good/name/tags/list": document({"tags": ["a b", "1"]})}
    )
    found = await examine(script, parse_address("http://localhost"))
    assert (found.address.name, found.address.tag) == ("good/name", "1")
    assert not [asked for asked in script.asked if "x" in asked.partition("/v2/")[2].split("/")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"[]", "not_json"),
        (b"{", "not_json"),
        (b'{"a": 1}', "not_json"),
        (b"\xff" * 100, "not_json"),
        (b'{"manifests": 1}', "malformed"),
        (b'{"layers": [{}], "config": {}}', "malformed"),
        (b'{"schemaVersion": "2", "manifests": []}', "malformed"),
        (b'{"schemaVersion": 2, "manifests": [], "annotations": {"a": 1}}', "malformed"),
        (b'{"schemaVersion": 2, "manifests": [{"platform": "linux"}]}', "malformed"),
    ],
)
async def test_no_answer_makes_it_stumble(body: bytes, code: str) -> None:
    everywhere = ProbeResponse(
        200, {"content-type": "\xb2", "content-length": "\xb2", "cache-control": "max-age=\xb2"}, body
    )

    class Same(Script):
        async def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> ProbeResponse:
            return everywhere

    found = await examine(Same({}), parse_address("http://localhost/a:b"))
    assert f"manifest.{code}" in {one.cause.code for one in found.findings}


async def test_an_endless_redirect_ends() -> None:
    script = Script({"/v2/": ProbeResponse(301, {"location": "/v2/"})})
    found = await examine(script, parse_address("http://localhost/a:b"))
    assert "redirect.endless" in {one.cause.code for one in found.findings}
    assert script.asked.count("GET http://localhost/v2/") == 11
