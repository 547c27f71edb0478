"""What the headers of a store say of an object."""

import pytest

from ocisync.stores.s3.headers import info_from_headers


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 31 Dec 99999999999 23:59:59 GMT"])
def test_a_date_that_is_none_is_not_known(date: str) -> None:
    assert info_from_headers("v2/", {"Last-Modified": date, "Content-Length": "5"}).modified == 0.0


@pytest.mark.parametrize("length", ["", "-5", "five", "9" * 5000])
def test_a_size_that_is_none_is_unlike_any(length: str) -> None:
    assert info_from_headers("v2/", {"Content-Length": length}).size == -1
