"""Roots of static registries."""

from __future__ import annotations

import pytest

from ocisync.errors import InvalidName
from ocisync.model.locator import S3Locator, StaticLocator, parse_locator
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
        (
            "s3://bucket/app?endpoint=127.0.0.1:8333&disableSSL=true&prefix=/a/b/&profile=p",
            BucketRoot("bucket", "http://127.0.0.1:8333", prefix="a/b", profile="p"),
            "app",
        ),
        (
            "s3://bucket?endpoint=minio:9000&anonymous=true",
            BucketRoot("bucket", "https://minio:9000", anonymous=True),
            "",
        ),
        ("s3://bucket?use_path_style=true&disable_https=true", BucketRoot("bucket", path_style=True), ""),
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


def test_an_endpoint_of_another_scheme_is_refused() -> None:
    with pytest.raises(InvalidName, match="not an http"):
        parse_root("s3://bucket?endpoint=ftp://host")


def test_a_locator_is_written_as_it_is_read() -> None:
    text = "s3://bucket/app:1?endpoint=http://h:1&region=r&s3ForcePathStyle=true&prefix=a/b&profile=p&anonymous=true"
    assert str(parse_locator(text)) == text


def test_an_image_tells_its_root() -> None:
    assert StaticLocator("/srv", "app").root == DirectoryRoot("/srv")
    assert S3Locator("bucket", "app", endpoint="http://h").root == BucketRoot("bucket", "http://h")
