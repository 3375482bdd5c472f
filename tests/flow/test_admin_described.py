"""The Admin API is what its OpenAPI document says: thousands of requests made up from the document, by schemathesis.

``ARKWAY_ADMIN_FUZZ_S`` says for how many seconds, with other requests each time; without it they are always the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arkway.http.admin.openapi import document
from arkway.http.admin.table import OPERATIONS
from arkway.testing import running_server
from tests.tools.administered import administered

SECRET = "ark-operator-for-the-fuzzer"
# What is right in form may still name what is not there, or what is there already. A request line that is too long is
# found wanting before anything in it is looked at.
CONFIGURATION = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409"]
negative_data_rejection.expected-statuses = ["400", "404", "405", "408", "413", "415", "431"]
"""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_it_is_as_it_is_described(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    (tmp_path / "openapi.json").write_bytes(document())
    seconds = int(os.environ.get("ARKWAY_ADMIN_FUZZ_S", "0"))
    # The default is a number of requests and no time: a slow machine makes as many.
    fixed = ["--generation-deterministic", "--max-examples", "1"]
    extent = ["--max-time", str(seconds)] if seconds else fixed
    with administered(tmp_path) as place:
        # The operator's key is not in the database, so that the requests cannot revoke it.
        keys = {SECRET: place.server_caller()}
        with running_server(admin=place.commands, keys=keys, settings={"server": {"drain_s": 1}}) as server:
            done = subprocess.run(
                [
                    *(Path(sys.executable).parent / "schemathesis", "--config-file", "schemathesis.toml", "run"),
                    *("openapi.json", "--url", server.url, "--header", f"Authorization: Bearer {SECRET}"),
                    *("--phases", "examples,coverage,fuzzing", "--no-color", *extent),
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=seconds + 600,
                check=False,
            )
    told = "\n".join(line[:400] for line in done.stdout.splitlines())
    assert done.returncode == 0, told
    assert re.search(rf"Tested: {len(OPERATIONS)}\b", told), told
    cases = re.search(r"(\d+) generated, (\d+) passed", told)
    assert cases, told
    assert int(cases[2]) >= 500, told
    print(cases[0])
