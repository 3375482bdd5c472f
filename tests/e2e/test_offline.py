"""Without any network: chat and embeddings answer, and nothing even tries to get out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import CHAT_MODEL, EMBEDDING_MODEL, Home

pytestmark = pytest.mark.weights

# In a network namespace of its own that has nothing but loopback, every attempt to reach another host has no route,
# and the kernel counts it. The attempt at the end proves that the count works.
PROGRAM = """
import os, signal, socket, subprocess, sys
import msgspec
from pathlib import Path
from tests.tools.client import Connection

def attempts():
    names, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")]
    return int(dict(zip(names, values))["OutNoRoutes"])

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = subprocess.Popen(
    [sys.executable, "-m", "arkway", "serve", "--port", "0", "--no-pull", "--json"], stdout=subprocess.PIPE
)
said = msgspec.json.decode(server.stdout.readline())
endpoints = {entry["model"]: entry["id"] for entry in said["endpoints"]}
secret = Path(said["key_file"]).read_text().strip()
messages = [{"role": "user", "content": "What is the capital of France?"}]
with Connection(said["url"], secret, timeout_s=120) as connection:
    chat = connection.call(
        "POST", "/api/v3/chat/completions", {"model": endpoints[sys.argv[1]], "messages": messages, "max_tokens": 16}
    )
    embedding = connection.call(
        "POST", "/api/v3/embeddings", {"model": endpoints[sys.argv[2]], "input": "花椰菜"}
    )
server.send_signal(signal.SIGTERM)
server.wait(30)
tried = attempts()
with socket.socket() as probe:
    try:
        probe.connect(("198.51.100.1", 9))
    except OSError:
        pass
result = {
    "chat": chat.status, "embedding": embedding.status, "text": chat.json()["choices"][0]["message"]["content"],
    "tried": tried, "counted": attempts() - tried, "exit": server.returncode,
}
sys.stdout.write(msgspec.json.encode(result).decode())
"""


def test_offline(stocked: Home) -> None:
    import msgspec

    root = Path(__file__).resolve().parents[2]
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    done = subprocess.run(
        [*unshare, sys.executable, "-c", PROGRAM, CHAT_MODEL, EMBEDDING_MODEL],
        env={**stocked.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode(done.stdout)
    assert (result["chat"], result["embedding"], result["exit"]) == (200, 200, 0)
    assert result["text"]
    assert result["counted"] >= 1, "the kernel's counter does not count: this test would prove nothing"
    assert result["tried"] == 0
