"""What a registry says in any of the usual forms, as it stands in our messages."""

import pytest
from yarl import URL

from ocisync.errors import RegistryError
from ocisync.stores.registry.http.errors import check_not_web_page, find_words, is_web_page, refusal

URL_OF_A_TAG = URL("https://r.example/v2/me/app/manifests/1.0?sig=s3cr3t")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # distribution-spec, "Error Codes": detail is anything
        (b'{"errors": [{"code": "DENIED", "message": "no"}]}', "DENIED: no"),
        (
            b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown", "detail": "sha256:abab"}]}',
            "MANIFEST_BLOB_UNKNOWN: blob unknown (sha256:abab)",
        ),
        (
            b'{"errors": [{"code": "MANIFEST_INVALID", "message": "bad", "detail": {"message": "not one of types"}}]}',
            "MANIFEST_INVALID: bad (not one of types)",
        ),
        (b'{"errors": [{"code": "X", "detail": {"Tag": "1.0"}}]}', 'X ({"Tag": "1.0"})'),
        (b'{"errors": [{"code": "A"}, {"code": "B", "message": "b"}]}', "A; B: b"),
        (b'{"errors": [{"code": "DENIED", "message": "no", "detail": {}}]}', "DENIED: no"),
        # Artifactory: no code
        (b'{"errors": [{"status": 403, "message": "Not enough permissions"}]}', "Not enough permissions"),
        # Docker Hub: one object
        (b'{"details": "invalid repository name", "message": "bad request"}', "bad request (invalid repository name)"),
        # GitLab, and OAuth2 (RFC 6749, 5.2)
        (b'{"message": "401 Unauthorized"}', "401 Unauthorized"),
        (
            b'{"error": "invalid_grant", "error_description": "the token has ended"}',
            "invalid_grant: the token has ended",
        ),
        (b'{"errors": ["in words"]}', "in words"),
        (b'\xef\xbb\xbf{"message": "after a mark"}', "after a mark"),
        (b"quota of project team exceeded: 10 GiB\n", "quota of project team exceeded: 10 GiB"),
        (b"<html><head><title>504 Gateway Time-out</title></head></html>", "a web page: 504 Gateway Time-out"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"", ""),
        (b"\x89PNG\xff\x00", ""),
        (b"{", "{"),
        (b"[]", ""),
        (b'{"errors": {}}', ""),
        (b'{"errors": [1, null]}', ""),
    ],
)
def test_the_words_of_a_refusal(body: bytes, words: str) -> None:
    assert find_words(body) == words
    message = refusal("PUT", URL_OF_A_TAG, 400, body).message
    assert message.startswith("PUT https://r.example/v2/me/app/manifests/1.0: status 400")
    assert words in message
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("media_type", "body", "is_page"),
    [
        ("text/html", b"", True),
        ("application/json", b" \n<!doctype HTML><html>", True),
        ("", b"\xef\xbb\xbf<html lang='en'>", True),
        ("application/json", b'{"tags": ["<html>"]}', False),
        ("text/plain", b"1 < 2", False),
    ],
)
def test_a_web_page_is_known_by_its_type_or_its_first_bytes(media_type: str, body: bytes, is_page: bool) -> None:
    assert is_web_page(media_type, body) is is_page


def test_a_web_page_in_place_of_an_answer_is_told_with_what_to_look_at() -> None:
    body = b"<html><title>Sign in \x1b[31m</title>"
    with pytest.raises(RegistryError, match="web page") as caught:
        check_not_web_page(URL_OF_A_TAG, "text/html", body)
    assert "not a registry" in caught.value.message
    assert "Sign in" in caught.value.message
    assert "\x1b" not in caught.value.message
    assert "s3cr3t" not in caught.value.message
