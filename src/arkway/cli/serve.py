"""``arkway serve``: run the server in the foreground."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import asyncio

    import uvicorn
    from uvicorn.server import ServerState

    from arkway.app.installation import Installation
    from arkway.app.listeners import Https
    from arkway.config import Settings
    from arkway.core.model import Endpoint

FORCED_S = 1.0


@click.command("serve")
@click.option("--host", default=None, help="Address to listen on; default 127.0.0.1 (this machine only).")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Default 8080; 0 takes any free one.")
@click.option("--tls-port", type=click.IntRange(0, 65535), default=None, help="HTTPS beside it; default 0: off.")
@click.option("--pull/--no-pull", "pull", default=None, help="Without a chat model: download the default one; or ask.")
@click.option("--access-log/--no-access-log", default=None, help="One JSON line per call on standard error.")
@click.option("--json", "as_json", is_flag=True, help="When ready, print one JSON document: url, endpoints, key file.")
@click.pass_context
def command(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    tls_port: int | None,
    pull: bool | None,
    access_log: bool | None,
    as_json: bool,
) -> None:
    """Run the server until it is interrupted.

    The first start makes the database, an endpoint (`ep-…`) for each installed model, and one API key. The key is
    shown once on a terminal; without one it is written to a file that only you can read, and the path is printed.
    For HTTPS on a second port, `arkway tls init` makes a certificate once.
    """
    from arkway.cli.context import settings

    given = {"host": host, "port": port, "access_log": access_log}
    server = {name: value for name, value in given.items() if value is not None}
    config = settings(ctx, {"server": server, "tls": {} if tls_port is None else {"port": tls_port}})
    https = _https(config)
    listener = _listener(config.server.host, config.server.port, "--port, or 0 for any free one")
    _warn_of_missing()
    _offer_a_model(ctx, config, pull, quiet=as_json)
    _listen(listener, "--port, or 0 for any free one")
    if https is not None:
        _listen(https.listener, "--tls-port")
    _serve(config, listener, https, as_json)


def _serve(config: Settings, listener: socket.socket, https: Https | None, as_json: bool) -> None:
    from arkway.app import asgi_app, server_config
    from arkway.app.installation import Installation
    from arkway.telemetry import log

    log.to_stream(config.server.log_level if not config.server.access_log else "info")
    installation = Installation(config)
    try:
        key_path = _kept_key(config, installation, as_json)
        announce = _announcement(config, listener, installation, key_path, as_json)
        server = _server(server_config(config, asgi_app(config, installation.parts())), announce, https)
        server.run(sockets=[listener])
    finally:
        installation.close()
    if not server.started:
        raise SystemExit(1)


def _server(config: uvicorn.Config, announce: Callable[[], None], https: Https | None = None) -> uvicorn.Server:
    import asyncio

    from arkway.app.listeners import TwoListeners

    class Announcing(TwoListeners):
        """Says when it is ready, and exits with 0 when it was told to stop (uvicorn raises the signal again).

        A second SIGINT waits for no call any more; the engines are ended even then.
        """

        _loop: asyncio.AbstractEventLoop | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            self._loop = asyncio.get_running_loop()
            await super().startup(sockets)
            if self.started:
                announce()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            if self.force_exit:
                await self.lifespan.shutdown()

        def handle_exit(self, sig: int, frame: Any) -> None:
            if self.should_exit and sig == signal.SIGINT:
                self.force_exit = True
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(_cut, self._loop, self.server_state)
            self.should_exit = True

    return Announcing(config, https)


def _cut(loop: asyncio.AbstractEventLoop, state: ServerState) -> None:
    """Ends the calls under way, and a little later the connections of clients that do not read."""
    for task in state.tasks:
        task.cancel()
    loop.call_later(FORCED_S, _abort, state)


def _abort(state: ServerState) -> None:
    for connection in state.connections:
        connection.transport.abort()


def _https(config: Settings) -> Https | None:
    from arkway.app.listeners import Https, tls_context

    if not config.tls.port:
        return None
    context = tls_context(config)
    return Https(_listener(config.server.host, config.tls.port, "--tls-port"), context)


def _listener(host: str, port: int, otherwise: str) -> socket.socket:
    """The bound socket, before anything else is touched: a busy port should cost nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _taken(host, port, error, otherwise) from None
    listener.set_inheritable(True)
    return listener


def _listen(listener: socket.socket, otherwise: str) -> None:
    """Two sockets can be bound to one port and only one of them can listen, which uvloop would not tell."""
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _taken(host, port, error, otherwise) from None


def _taken(host: str, port: int, error: OSError, otherwise: str) -> click.ClickException:
    return click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}; choose another with {otherwise}")


def _warn_of_missing() -> None:
    """What keeps chat models from running here is better said now than in the answer to the first call."""
    from arkway.admin.doctor import examine_engine

    for check in examine_engine():
        if check.status == "fail":
            click.echo(f"Warning: chat models cannot run here: {check.name}: {check.found}; {check.mend}.", err=True)


def _offer_a_model(ctx: click.Context, config: Settings, pull: bool | None, *, quiet: bool) -> None:
    from arkway.models.catalogue import QWEN
    from arkway.models.store import ModelStore

    if pull is False or any(model.kind == "gguf" for model in ModelStore(config.home / "models").installed()):
        return
    if pull is None and sys.stdin.isatty() and not quiet:
        size_mb = round(QWEN.size_bytes / 1e6)
        pull = click.confirm(f"No chat model is installed. Download {QWEN.name} ({size_mb} MB)?", default=True)
    if pull:
        from arkway.cli.pull import command as pull_command

        ctx.invoke(pull_command)
    elif not quiet:
        click.echo(
            "No chat model is installed; chat calls are refused until `arkway pull` has installed one.", err=True
        )


def _kept_key(config: Settings, installation: Installation, as_json: bool) -> str:
    """Writes a new key to a private file when there is no terminal to show it on; the file's path, or nothing."""
    from arkway.app.installation import first_key_path

    if not installation.new_key or (sys.stdout.isatty() and not as_json):
        return ""
    path = first_key_path(config)
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(installation.new_key + "\n")
    except OSError as error:
        installation.withdraw_new_key()
        raise click.ClickException(
            f"the first API key cannot be written to {path}: {error.strerror}; `arkway keys create` makes another"
        ) from None
    return str(path)


def _announcement(
    config: Settings, listener: socket.socket, installation: Installation, key_path: str, as_json: bool
) -> Callable[[], None]:
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    https_url = f"https://{host}:{config.tls.port}" if config.tls.port else ""
    endpoints = installation.endpoints()

    def document() -> None:
        import orjson

        listed = [{"id": e.id, "model": e.model_name, "status": e.status} for e in endpoints]
        where = {"url": url, "https_url": https_url or None, "pid": os.getpid()}
        entry = {**where, "endpoints": listed, "key_file": key_path or None}
        click.echo(orjson.dumps(entry).decode())
        sys.stdout.flush()

    def banner() -> None:
        click.echo(_banner(url, https_url, endpoints, installation.new_key, key_path))
        sys.stdout.flush()

    return document if as_json else banner


def _banner(url: str, https_url: str, endpoints: tuple[Endpoint, ...], secret: str, key_path: str) -> str:
    lines = [f"Arkway serves at {url}", f"  Ark v3   {url}/api/v3", f"  OpenAI   {url}/v1"]
    lines.append(f"  MaaS     {url.partition('://')[2]}, scheme http, for the SDKs of v1 and v2")
    lines += [f"  HTTPS    {https_url}   (clients have to trust it: `arkway tls trust-help`)"] * bool(https_url)
    lines += [f"  endpoint {e.id}  {e.model_name}" + (" (stopped)" * (e.status == "stopped")) for e in endpoints]
    if key_path:
        lines.append(f"  API key  written to {key_path}")
    elif secret:
        lines.append(f"  API key  {secret}   (shown this once; `arkway keys create` makes another)")
    if key_path or secret:
        lines.append("  AK/SK    `arkway aksk create` makes a pair for clients that sign their requests")
    return "\n".join(lines)
