"""NO_PROXY as curl and Go read it."""

import pytest

from ocisync.content.network.proxy_environment import find_proxy, is_exempt


@pytest.mark.parametrize(
    ("host", "port", "no_proxy"),
    [
        ("10.1.2.3", 443, "10.0.0.0/8"),
        ("10.1.2.3", 443, "192.168.0.0/16, 10.1.2.3"),
        ("10.1.2.3", 5000, "10.1.2.3:5000"),
        ("10.1.2.3", 5000, "10.0.0.0/8:5000"),
        ("fd00::1", 443, "fd00::/8"),
        ("fd00::1", 5000, "[fd00::1]:5000"),
        ("::ffff:10.1.2.3", 443, "10.0.0.0/8"),
        ("registry.example.com", 443, "example.com"),
        ("registry.example.com", 443, ".example.com"),
        ("registry.example.com", 443, "*.example.com"),
        ("example.com", 443, ".example.com"),
        ("Example.COM", 443, "example.com"),
        ("registry", 5000, "localhost registry:5000"),
        ("anything", 443, "*"),
        ("host", 443, " a ,, host ,"),
    ],
)
def test_hosts_that_need_no_proxy(host: str, port: int, no_proxy: str) -> None:
    assert is_exempt(host, port, no_proxy)


@pytest.mark.parametrize(
    ("host", "port", "no_proxy"),
    [
        ("11.1.2.3", 443, "10.0.0.0/8"),
        ("10.1.2.3", 443, "10.1.2.3:5000"),
        ("110.1.2.3", 443, "10.1.2.3"),
        ("ten.example.com", 443, "10.0.0.0/8"),
        ("fd00::1", 443, "10.0.0.0/8"),
        ("badexample.com", 443, "example.com"),
        ("registry", 443, "registry:5000"),
        ("host", 443, ""),
        ("host", 443, ".,:,[]"),
    ],
)
def test_hosts_that_need_the_proxy(host: str, port: int, no_proxy: str) -> None:
    assert not is_exempt(host, port, no_proxy)


def test_the_scheme_names_the_proxy_and_a_port_goes_without_saying() -> None:
    environment = {"http": "proxy:3128", "https": "http://user:word@secure:3129", "no": "plain:80,tls:443,10.0.0.0/8"}
    assert find_proxy("http://h/b", environment) == "http://proxy:3128"
    assert find_proxy("https://h/b", environment) == "http://user:word@secure:3129"
    for url in ("http://plain/b", "https://tls/b", "http://10.9.8.7:8333/b"):
        assert find_proxy(url, environment) is None
    assert find_proxy("http://h/b", {"all": "http://any:1"}) == "http://any:1"
    assert find_proxy("http://h/b", {}) is None
