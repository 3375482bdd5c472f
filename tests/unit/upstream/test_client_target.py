"""Base URLs: what is taken from them, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from arkway.backends.upstream.client import Client
from arkway.backends.upstream.dialing import tls_context
from arkway.backends.upstream.target import Target, target_of
from arkway.core.errors import Misconfigured
from arkway.core.upstream import Upstream


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8000/v1", Target("127.0.0.1", 8000, False, "127.0.0.1:8000", "/v1")),
        ("http://vllm/v1/", Target("vllm", 80, False, "vllm", "/v1")),
        ("https://Ark.example.COM/api/v3", Target("ark.example.com", 443, True, "ark.example.com", "/api/v3")),
        ("https://ark.example.com:443", Target("ark.example.com", 443, True, "ark.example.com", "")),
        ("https://ark.example.com:80/", Target("ark.example.com", 80, True, "ark.example.com:80", "")),
        ("http://[::1]:8000/v1", Target("::1", 8000, False, "[::1]:8000", "/v1")),
        ("http://[2001:DB8:0::1]/v1", Target("2001:db8::1", 80, False, "[2001:db8::1]", "/v1")),
        (
            "http://model_server-1.local.:1/a%20b",
            Target("model_server-1.local.", 1, False, "model_server-1.local.:1", "/a%20b"),
        ),
    ],
)
def test_a_base_url_is_taken_apart(url: str, target: Target) -> None:
    assert target_of(url) == target


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "characters"),
        ("127.0.0.1:8000", "http://"),
        ("ftp://host/v1", "http://"),
        ("HTTP+unix://host/v1", "http://"),
        ("http://user@host/v1", "user name"),
        ("http://user:hunter2@host/v1", "user name"),
        ("http://:@host/v1", "user name"),
        ("http://host/v1?key=1", "query"),
        ("http://host/v1?", "query"),
        ("http://host/v1#a", "fragment"),
        ("http://host:0/v1", "port 0"),
        ("http://host:65536/v1", "port"),
        ("http://host:a/v1", "port"),
        ("http:///v1", "host"),
        ("http://a..b/v1", "host"),
        ("http://-a/v1", "host"),
        (f"http://{'a' * 64}/v1", "host"),
        ("http://[::1/v1", "host"),
        ("http://[fe80::1%25eth0]/v1", "host"),
        ("http://[1:2]/v1", "host"),
        ("http://例子/v1", "characters"),
        ("http://host/v1\r\nx: y", "characters"),
        ("http://host/a b", "characters"),
        ("http://127.0.0.1\\@evil/v1", "characters"),
    ],
)
def test_another_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(Misconfigured, match=why) as refused:
        Client(Upstream(name="u", base_url=url))
    assert "hunter2" not in refused.value.message
    assert "base_url" in refused.value.message


def test_authorities_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    for ca_file in (tmp_path / "absent.pem", tmp_path / "ca.pem", tmp_path):
        with pytest.raises(Misconfigured, match="ca_file"):
            Client(Upstream(name="u", base_url="https://host/v1", ca_file=str(ca_file)))


def test_without_tls_no_authority_is_read() -> None:
    assert Client(Upstream(name="u", base_url="http://host/v1", ca_file="/absent")).stats().open == 0


def test_tls_is_verified() -> None:
    context = tls_context("")
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"
