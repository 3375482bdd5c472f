"""llama.cpp's own server, the one inside the engine's package, with a generated model, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.tools.waiting import ends

PLACES = 2

_PROGRAM = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"generated"}
params.n_parallel, params.n_ctx, params.n_batch, params.n_ubatch = 2, int(sys.argv[4]), 256, 256
params.kv_unified = False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.ctx_shift, params.cache_ram_mib, params.warmup = False, 0, False
params.ui, params.offline, params.verbosity = False, True, 1
params.hostnames, params.port = ["127.0.0.1"], 0
params.api_keys = [sys.argv[2]]
if sys.argv[3] == "embeddings":
    params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
"""


@contextmanager
def llama_server(model: Path, key: str, *, embeddings: bool = False) -> Generator[str]:
    """Where it is, ``http://127.0.0.1:<port>``, for as long as the block lasts. The model is called ``generated``."""
    with llama_process(model, key, embeddings=embeddings) as (url, _):
        yield url


@contextmanager
def llama_process(
    model: Path, key: str, *, embeddings: bool = False, context: int = 1024
) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """As `llama_server`, with the process, for tests that kill it. ``context``: tokens that one call has room for."""
    kind = "embeddings" if embeddings else "chat"
    command = [sys.executable, "-c", _PROGRAM, str(model), key, kind, str(context * PLACES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = ends(process.stdout.readline).strip()
            assert address, "llama.cpp's server did not start"
            yield address if address.startswith("http") else f"http://{address}", process
        finally:
            process.kill()
