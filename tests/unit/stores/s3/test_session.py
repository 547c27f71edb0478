"""AWS' own settings are looked at where they may say something, and botocore is imported then alone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.session import may_learn_from_aws

_WHOLE = S3Options("bucket", endpoint="https://s3.example", access_key="key", secret_key="secret")
_OPEN = """
import sys, anyio
from ocisync.stores.s3.options import S3Options
from ocisync.stores.s3.session import open_session

async def main():
    options = S3Options("bucket", endpoint="https://s3.example", access_key="key", secret_key="secret")
    async with open_session(options) as session:
        await session.sign("PUT", session.base_url + "/key", {}, "UNSIGNED-PAYLOAD")
        print(session.base_url, session.region, "botocore.session" in sys.modules)

anyio.run(main)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without settings, in an environment without them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_options_that_say_all_ask_nobody(home: Path) -> None:
    assert not may_learn_from_aws(_WHOLE)
    assert not may_learn_from_aws(replace(_WHOLE, access_key="", anonymous=True))


@pytest.mark.parametrize(
    "options",
    [replace(_WHOLE, profile="mine"), replace(_WHOLE, endpoint=""), replace(_WHOLE, access_key="")],
    ids=["profile", "no endpoint", "no key"],
)
def test_options_that_leave_something_open(home: Path, options: S3Options) -> None:
    assert may_learn_from_aws(options)


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE"])
def test_variables_may_say_something(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "something")
    assert may_learn_from_aws(_WHOLE)


def test_files_may_say_something(home: Path) -> None:
    (home / ".aws").mkdir()
    assert may_learn_from_aws(_WHOLE)


@pytest.mark.parametrize(("region", "found"), [("", "us-east-1 False"), ("eu-west-9", "eu-west-9 True")])
def test_botocore_is_imported_only_to_look(home: Path, region: str, found: str) -> None:
    environment = dict(os.environ) | ({"AWS_DEFAULT_REGION": region} if region else {})
    done = subprocess.run([sys.executable, "-c", _OPEN], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"https://bucket.s3.example {found}"
