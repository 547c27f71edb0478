"""Roots of static registries."""

from __future__ import annotations

import pytest

from ocisync.errors import InvalidName
from ocisync.model.locator import S3Locator, StaticLocator
from ocisync.model.registry_root import BucketRoot, DirectoryRoot, RegistryRoot, parse_root


@pytest.mark.parametrize(
    ("text", "root", "name"),
    [
        ("static:/srv/registry", DirectoryRoot("/srv/registry"), ""),
        ("static:/srv/registry//demo/app", DirectoryRoot("/srv/registry"), "demo/app"),
        ("static:/srv//registry//app", DirectoryRoot("/srv//registry"), "app"),
        ("s3://bucket", BucketRoot("bucket"), ""),
        ("s3://bucket/demo/app", BucketRoot("bucket"), "demo/app"),
        (
            "s3://bucket/app?endpoint=http://127.0.0.1:8333&region=eu&s3ForcePathStyle=true",
            BucketRoot("bucket", "http://127.0.0.1:8333", "eu", path_style=True),
            "app",
        ),
    ],
)
def test_a_root_and_the_name_in_it(text: str, root: RegistryRoot, name: str) -> None:
    assert parse_root(text) == (root, name)


@pytest.mark.parametrize("text", ["static:", "static://", "s3:", "s3://", "s3:bucket", "s3:///app"])
def test_no_root(text: str) -> None:
    with pytest.raises(InvalidName, match="needs the form"):
        parse_root(text)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(InvalidName, match="unknown option 'acl'"):
        parse_root("s3://bucket?acl=public")


def test_an_image_tells_its_root() -> None:
    assert StaticLocator("/srv", "app").root == DirectoryRoot("/srv")
    assert S3Locator("bucket", "app", endpoint="http://h").root == BucketRoot("bucket", "http://h")
