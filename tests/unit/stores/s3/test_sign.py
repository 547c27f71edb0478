"""Our signatures are those of botocore."""

from datetime import datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from ocisync.stores.s3.sign import EMPTY, UNSIGNED, sign

_URLS = (
    "http://127.0.0.1:8333/bucket/v2/",
    "https://bucket.s3.example.com/v2/a/b/manifests/v1.0_x~y",
    "https://s3.example.com:443/bucket/v2/a/blobs/sha256%3A00",
    "http://s3.example.com:80/bucket/key",
    "http://s3.example.com:443/bucket/key%20with%2Bsigns",
    "https://s3.example.com/bucket/key?partNumber=3&uploadId=a%2Fb%3D",
    "https://s3.example.com/bucket/key?uploads=",
    "https://s3.example.com/",
)
_HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Content-Type": "application/json", "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
    {"x-amz-meta-b": "  two   spaces ", "Cache-Control": "no-cache", "User-Agent": "ocisync", "Expect": "100-continue"},
)


class _Known(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    known = ""

    def payload(self, request: AWSRequest) -> str:
        return self.known


@pytest.mark.parametrize("url", _URLS)
@pytest.mark.parametrize("headers", _HEADERS)
@pytest.mark.parametrize("token", [None, "session/token+="])
def test_the_signature_is_botocores(url: str, headers: dict[str, str], token: str | None) -> None:
    credentials = ReadOnlyCredentials("key", "secret/+", token)
    for method, payload in (("PUT", EMPTY), ("HEAD", UNSIGNED)):
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        signer = _Known(credentials, "s3", "eu-west-3")
        signer.known = payload
        signer.add_auth(request)
        now = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")  # noqa: DTZ007 (it is UTC)
        found = sign(method, url, headers, payload, credentials, "eu-west-3", now)
        theirs = {name.lower(): value for name, value in request.headers.items()}
        assert {name.lower(): value for name, value in found.items()} == theirs


def test_a_new_day_and_another_secret_have_other_keys() -> None:
    found = {
        sign("GET", "http://h/b", {}, EMPTY, ReadOnlyCredentials("k", secret, None), region, now)["Authorization"]
        for secret in ("one", "two")
        for region in ("a", "b")
        for now in (datetime(2024, 1, 1, 12), datetime(2024, 1, 2, 12))  # noqa: DTZ001 (UTC)
    }
    assert len(found) == 8
