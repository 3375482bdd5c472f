"""``python -m arkway.testing [PORT]``: a scripted server in the foreground."""

from __future__ import annotations

import sys
import threading

from arkway.testing import running_server


def main() -> None:
    """Runs a scripted server until it is interrupted; the first argument is the port (default 8080)."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    with running_server(port=port) as server:
        sys.stdout.write(f"{server.url}/api/v3  key {server.api_key}  endpoint {server.endpoint_id}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
