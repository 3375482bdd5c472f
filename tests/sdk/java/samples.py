"""The Java programs of the vendor's guides, cut out, addressed to a server of ours, compiled and run.

Nothing in them changes but host, scheme, endpoint and base URL (the floats of the guide to v1 apart, see `v1_chat`);
keys are in the environment, where the programs look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from arkway.testing import RunningServer
from tests.sdk import toolchains
from tests.sdk.guides import guide, replaced, run

PROGRAM = re.compile(r"^package com\.volcengine\..*?^}$", re.S | re.M)
PACKAGE = re.compile(r"^package ([\w.]+);", re.M)
CLASS = re.compile(r"^public class (\w+)", re.M)
MAAS_HOST = "maas-api.ml-platform-cn-beijing.volces.com"


def ark_chat(server: RunningServer, url: str = "") -> str:
    """The first program of the guide to v3: it names no server, so one argument is added."""
    made = f'ArkService.builder().apiKey(apiKey).baseUrl("{url or server.url}/api/v3").build()'
    return replaced(
        PROGRAM.findall(guide("000"))[0],
        ("${YOUR_ENDPOINT_ID}", server.endpoint_id),
        ("service = new ArkService(apiKey)", f"service = {made}"),
    )


def ark_embeddings(server: RunningServer) -> str:
    return replaced(
        PROGRAM.findall(guide("000"))[1],
        ("${YOUR_ENDPOINT_ID}", server.embedding_endpoint_id),
        ("${BASE_URL}", f"{server.url}/api/v3"),
    )


def v1_chat(server: RunningServer, url: str = "") -> str:
    """With float literals: no version of the SDK takes the doubles that the guide prints."""
    floats = (("Temperature(0.7)", "Temperature(0.7f)"), ("TopP(0.9)", "TopP(0.9f)"))
    return replaced(_addressed("002", url or server.url), *floats)


def v2_chat(server: RunningServer, url: str = "") -> str:
    return replaced(_addressed("004", url or server.url), ("${YOUR_ENDPOINT_ID}", server.endpoint_id))


def output(
    client: str, source: str, folder: Path, server: RunningServer, environ: Mapping[str, str] | None = None
) -> str:
    """What a program writes on standard output, with the SDK of one client; it has to succeed."""
    toolchains.need("java")
    line = client.split(" ")[0]
    toolchains.command(line)
    found, package = CLASS.search(source), PACKAGE.search(source)
    assert found is not None
    assert package is not None
    file = folder / f"{found[1]}.java"
    file.write_text(source, encoding="utf-8")
    access = {"VOLC_ACCESSKEY": server.access_key_id, "VOLC_SECRETKEY": server.secret_access_key}
    command = [*toolchains.java_compile(line, folder, file), f"{package[1]}.{found[1]}"]
    return run(command, {"ARK_API_KEY": server.api_key, **access, **(environ or {})})


def _addressed(number: str, url: str) -> str:
    """A program of v1 or v2, which has one host; without a word about the scheme it is https."""
    (source,) = PROGRAM.findall(guide(number))
    scheme, _, host = url.partition("://")
    source = replaced(source, (MAAS_HOST, host))
    if scheme == "https":
        return source
    return replaced(source, ('"cn-beijing");\n', f'"cn-beijing");\n        maasService.setScheme("{scheme}");\n'))
