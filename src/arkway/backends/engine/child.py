"""The child process that holds one model: ``python -m arkway.backends.engine.child``.

Its configuration is one JSON line on standard input. The rest of standard input is a guard: it ends when the parent
dies, and the child then leaves at once. One line on standard output says that the model is loaded; everything the
engine has to say goes to standard error. Of Arkway only the reader of model files is imported here, by a child that is
to know a vocabulary alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

import msgspec

STDIN = 0
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
READY_LINE = b"loaded\n"
VOCABULARY_NAME = "vocabulary.gguf"


class ChildConfig(msgspec.Struct, frozen=True):
    """What one child needs to know. ``context_tokens`` is the room of one slot, prompt and answer together.

    ``projector_path``: weights that read images, "" = none. ``vocabulary_only``: texts are cut into the model's tokens,
    and its weights are not read.
    """

    model_path: str
    socket_path: str
    api_key: str
    context_tokens: int
    slots: int
    threads: int
    batch_threads: int
    batch_tokens: int = 128
    projector_path: str = ""
    vocabulary_only: bool = False


def main() -> None:
    """Loads the model, says so, and serves until standard input ends."""
    config = msgspec.json.decode(_first_line(), type=ChildConfig)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _give_up_privileges()
    server = _serve(config)
    sys.stdout.buffer.write(READY_LINE)
    sys.stdout.buffer.flush()
    threading.Event().wait()
    del server


def _first_line() -> bytes:
    """Read straight from the descriptor: a buffered reader's lock would be held at interpreter shutdown."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(STDIN, 65_536)
        if not piece:
            raise EOFError("standard input ended before the configuration line did")
        line += piece
    return line


def _leave_with_parent() -> None:
    """Reads the guard until it ends. ``os._exit`` because the engine's own threads never stop by themselves."""
    while os.read(STDIN, 4096):
        pass
    os._exit(0)


def _give_up_privileges() -> None:
    """No new privileges, no core dumps with prompts in them. Linux only; elsewhere nothing."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _vocabulary_alone(config: ChildConfig) -> str:
    """A model without weights, beside the socket: the folder is this child's own, and goes with it."""
    from arkway.wire.gguf import read_gguf_vocabulary
    from arkway.wire.gguf_bare import write_bare_model

    place = Path(config.socket_path).with_name(VOCABULARY_NAME)
    with place.open("wb") as file:
        write_bare_model(read_gguf_vocabulary(Path(config.model_path)), file)
    return str(place)


def _serve(config: ChildConfig) -> object:
    """Starts the engine's own HTTP server on the Unix socket. Raises RuntimeError when the model does not load."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = _vocabulary_alone(config) if config.vocabulary_only else config.model_path
    params.mmproj.path = config.projector_path
    params.mmproj_use_gpu = False
    params.n_parallel = config.slots
    params.n_ctx = config.slots * config.context_tokens
    params.kv_unified = False
    params.n_batch = params.n_ubatch = config.batch_tokens
    params.cpuparams.n_threads = config.threads
    params.cpuparams_batch.n_threads = config.batch_threads
    params.cont_batching = True
    params.cache_prompt = True
    params.cache_ram_mib = 0
    params.ctx_shift = False
    params.warmup = not config.vocabulary_only
    params.endpoint_metrics = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.ui = False
    params.offline = True
    params.n_threads_http = 4 * config.slots + 8
    params.verbosity = 1
    params.hostnames = [config.socket_path]
    params.api_keys = [config.api_key]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
