"""``arkway serve``: run the server in the foreground."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import asyncio

    import uvicorn
    from uvicorn.server import ServerState

    from arkway.app.installation import Installation
    from arkway.app.listeners import Https
    from arkway.app.workers import Seat
    from arkway.config import Settings
    from arkway.core.model import Endpoint

FORCED_S = 1.0
DRAIN_SLACK_S = 30.0
COLLECT_AFTER = 50_000
SWITCH_S = 0.002


@click.command("serve")
@click.option("--host", default=None, help="Address to listen on; default 127.0.0.1 (this machine only).")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Default 8080; 0 takes any free one.")
@click.option("--tls-port", type=click.IntRange(0, 65535), default=None, help="HTTPS beside it; default 0: off.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes; several: PostgreSQL."
)
@click.option("--pull/--no-pull", "pull", default=None, help="Without a chat model: download the default one; or ask.")
@click.option("--access-log/--no-access-log", default=None, help="One JSON line per call on standard error.")
@click.option("--json", "as_json", is_flag=True, help="When ready, print one JSON document: url, endpoints, key file.")
@click.pass_context
def command(
    ctx: click.Context,
    host: str | None,
    port: int | None,
    tls_port: int | None,
    workers: int,
    pull: bool | None,
    access_log: bool | None,
    as_json: bool,
) -> None:
    """Run the server until it is interrupted.

    The first start makes the database, an endpoint (`ep-…`) for each installed model, and one API key. The key is
    shown once on a terminal; without one it is written to a file that only you can read, and the path is printed.
    For HTTPS on a second port, `arkway tls init` makes a certificate once.

    With `--workers N` the server is N processes on the same port; one that dies is started again. They share a
    PostgreSQL database (the setting `database.url`), since SQLite takes one process.
    """
    from arkway.cli.context import reading, settings

    given = {"host": host, "port": port, "access_log": access_log}
    server = {name: value for name, value in given.items() if value is not None}
    flags = {"server": server, "tls": {} if tls_port is None else {"port": tls_port}}
    config, read = settings(ctx, flags), reading(ctx, flags)
    if workers > 1:
        _refuse_unless_shared(config, workers)
    https = _https(config)
    listener = _listener(config.server.host, config.server.port, "--port, or 0 for any free one")
    _warn_of_missing()
    _offer_a_model(ctx, config, pull, quiet=as_json)
    _listen(listener, "--port, or 0 for any free one")
    if https is not None:
        _listen(https.listener, "--tls-port")
    _log_to_stderr(config)
    if workers > 1:
        _serve_with_workers(config, read, listener, https, as_json, workers)
    else:
        _serve(config, read, listener, https, as_json)


def _log_to_stderr(config: Settings) -> None:
    from arkway.telemetry.log import level_of, to_stream

    to_stream(level_of(config.server.log_level, access_log=config.server.access_log))


def _refuse_unless_shared(config: Settings, workers: int) -> None:
    if not config.database.url:
        raise click.ClickException(
            f"--workers {workers} needs a database that several processes can share, and SQLite is for one: set "
            "`database.url` to a PostgreSQL database, and `limits.valkey` to a Valkey (or Redis) server so that limits "
            "hold over all of them; or leave --workers out"
        )


def _serve_with_workers(
    config: Settings,
    read: Callable[[], Settings],
    listener: socket.socket,
    https: Https | None,
    as_json: bool,
    workers: int,
) -> None:
    import arkway.app.installation  # noqa: F401 (loaded before the processes part, so that they share the memory)
    from arkway.app.workers import Workers
    from arkway.core.errors import ArkwayError

    watcher = os.getpid()

    def work(seat: Seat) -> None:
        try:
            _serve(config, read, listener, https, as_json, seat, watcher)
        except ArkwayError as error:
            click.echo(f"Error: {error.message}", err=True)
            raise SystemExit(1) from None
        except click.ClickException as error:
            error.show()
            raise SystemExit(1) from None

    _warn_of_several(config, workers)
    if not Workers(workers, work, announce=_say, patience_s=config.server.drain_s + DRAIN_SLACK_S).run():
        raise SystemExit(1)


def _warn_of_several(config: Settings, workers: int) -> None:
    from arkway.models.store import ModelStore

    if not config.limits.valkey:
        click.echo(
            f"Warning: each of the {workers} processes counts limits by itself; set `limits.valkey` to a Valkey (or "
            "Redis) server that they share.",
            err=True,
        )

    chats = [m for m in ModelStore(config.home / "models").installed() if m.kind == "gguf"]
    if chats:
        click.echo(
            f"Warning: each of the {workers} processes loads a copy of a chat model that it serves, within 1/{workers} "
            "of the memory and the processors; one process serves the embedded engine better.",
            err=True,
        )


def _serve(
    config: Settings,
    read: Callable[[], Settings],
    listener: socket.socket,
    https: Https | None,
    as_json: bool,
    seat: Seat | None = None,
    pid: int | None = None,
) -> None:
    """As one process, or at one seat of several; ``pid`` is the one to send signals to.

    SIGHUP lets it read its settings again, by ``read``.
    """
    from arkway.app import Wiring, server_config
    from arkway.app.installation import Installation
    from arkway.app.reload import Reloader, preparing
    from arkway.app.workers import LONE

    place = seat or LONE
    reloader = Reloader(config, read)
    signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
    if seat is not None:
        reloader.ask()  # one that takes the place of another may be late for what the others have been told
    installation = Installation(config, place)
    try:
        key_path = _kept_key(config, installation, as_json)
        text = _announcement(config, listener, installation, key_path, as_json, pid or os.getpid())
        announce = partial(_say, text) if seat is None else partial(seat.ready, text)
        parts = installation.parts()
        wiring = Wiring(config, parts, place)
        wiring.notes = reloader.notes
        uvicorn_config = server_config(config, wiring.app)
        prepare = preparing(installation, wiring, parts, uvicorn_config, https)

        def ready() -> None:
            _calls_first()
            reloader.start(prepare)
            announce()

        server = _server(uvicorn_config, ready, https, place.lifeline)
        server.run(sockets=[listener])
    finally:
        installation.close()
    if not server.started:
        raise SystemExit(1)


def _calls_first() -> None:
    """Calls leave no cycles behind, and what was loaded by now stays: to look through it again is for nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)
    # The threads that write to disk and database hand the interpreter back to the calls sooner than by default (5 ms).
    sys.setswitchinterval(SWITCH_S)


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def _server(
    config: uvicorn.Config, announce: Callable[[], None], https: Https | None = None, lifeline: int = -1
) -> uvicorn.Server:
    """``lifeline``: a descriptor that is at its end when the server has to stop, or -1."""
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
                if lifeline >= 0:
                    self._loop.add_reader(lifeline, self._let_go)
                announce()

        def _let_go(self) -> None:
            if self._loop is not None:
                self._loop.remove_reader(lifeline)
            self.should_exit = True

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
    for connection in list(state.connections):
        connection.cut()  # type: ignore[union-attr]
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
    elif not quiet and not _has_groups(ctx, config):
        click.echo(
            "No chat model is installed; chat calls are refused until `arkway pull` has installed one, or "
            "`arkway upstreams add` has put another server behind this one.",
            err=True,
        )


def _has_groups(ctx: click.Context, config: Settings) -> bool:
    """Whether other servers answer for models; a database that is not there yet has none."""
    from arkway.cli.database import opened
    from arkway.cli.groups import groups_over
    from arkway.stores.home import database_path

    if not config.database.url and not database_path(config.home).exists():
        return False
    with opened(ctx) as store:
        return bool(groups_over(store).list())


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
    config: Settings, listener: socket.socket, installation: Installation, key_path: str, as_json: bool, pid: int
) -> str:
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    https_url = f"https://{host}:{config.tls.port}" if config.tls.port else ""
    endpoints = installation.endpoints()

    if not as_json:
        return _banner(url, https_url, endpoints, installation.new_key, key_path)
    import orjson

    listed = [{"id": e.id, "model": e.model_name, "status": e.status} for e in endpoints]
    where = {"url": url, "https_url": https_url or None, "pid": pid}
    return orjson.dumps({**where, "endpoints": listed, "key_file": key_path or None}).decode()


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
