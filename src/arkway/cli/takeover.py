"""``arkway takeover``: stand in for the vendor's hosts, for programs that cannot be changed."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s

if TYPE_CHECKING:
    import socket

    from arkway.takeover.connect import ArkwayServer, Listener
    from arkway.takeover.manifest import Entry, Restored
    from arkway.takeover.running import Running
    from arkway.takeover.trustees import Told, Trustees

DEFAULT_PORT = 8090
READY_S = 30.0
STOP_S = 5.0

PATH = click.Path(path_type=Path)


@click.group("takeover")
def command() -> None:
    """Stand in for the vendor's hosts, for programs that cannot be changed.

    `start` opens a proxy on this machine alone, which takes calls to the vendor's hosts, shows certificates of an
    authority of its own and passes everything to the running Arkway; calls to any other host are refused. `trust`
    makes a program's environment trust that authority and prints the variables to set. `stop` ends the proxy and puts
    every changed file back, byte for byte. Nothing of this runs unless it is started.

    \b
      arkway takeover start --detach
      eval "$(arkway takeover trust --python ./venv)"
      ./venv/bin/python program.py
      arkway takeover stop
    """


@command.command("start")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--listen", "address", default="127.0.0.1", show_default=True, help="A loopback address; no other.")
@click.option("--server", default="", metavar="URL", help="The Arkway server; default: the one of the settings.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="A further host to take over; may be repeated.")
@click.option("--detach", is_flag=True, help="Run in the background, until `arkway takeover stop`.")
@click.option("--new-ca", is_flag=True, help="Make a new authority; every environment has to trust it anew.")
@as_json_option
@click.pass_context
def start(
    ctx: click.Context,
    port: int,
    address: str,
    server: str,
    hosts: tuple[str, ...],
    detach: bool,
    new_ca: bool,
    as_json: bool,
) -> None:
    """Listen as a proxy for the vendor's hosts, until interrupted.

    Makes, once, a certificate authority in the data directory's folder `takeover` that can vouch for these hosts
    alone. With --json, prints one JSON document when it is ready.
    """
    import logging

    from arkway.cli.where import server_url
    from arkway.takeover.authority import initialise_takeover
    from arkway.takeover.connect import arkway_server, loopback_socket
    from arkway.takeover.hosts import taken_over
    from arkway.takeover.running import claimed

    folder = _folder(ctx)
    wanted = taken_over(hosts)
    behind = arkway_server(server_url(ctx, server), folder.parent / "tls" / "ca.pem")
    listening = loopback_socket(address, port)
    if detach:
        # Only tried: the process in the background binds it.
        listening.close()
        _check_alone(folder)
        initialise_takeover(folder.parent, wanted, now_s(), force=new_ca)
        _detached(ctx, folder, [f"--port={port}", f"--listen={address}", f"--server={behind.url}"], hosts, as_json)
        return
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    with claimed(folder):
        initialise_takeover(folder.parent, wanted, now_s(), force=new_ca)
        _listen(folder, listening, wanted, behind, as_json)
    _remind(folder)


@command.command("trust")
@click.option("--python", "pythons", type=PATH, multiple=True, help="A virtual environment, or its interpreter.")
@click.option("--java", "javas", type=PATH, multiple=True, help="A JAVA_HOME (its trust store is copied), or a store.")
@click.option("--store-password", default="changeit", show_default=True, help="The password of Java's trust store.")
@click.option("--socks", is_flag=True, help="Java: for clients that heed no HTTP proxy, such as volc-sdk-java.")
@click.option("--go", "go", is_flag=True, help="Go programs: variables, and a bundle of authorities.")
@click.option("--node", "node", is_flag=True, help="Node: variables alone.")
@click.option("--requests", "requests_", is_flag=True, help="Python by variables alone, and a bundle of authorities.")
@click.option("--curl", "curl", is_flag=True, help="curl: variables, and a bundle of authorities.")
@as_json_option
@click.pass_context
def trust(
    ctx: click.Context,
    pythons: tuple[Path, ...],
    javas: tuple[Path, ...],
    store_password: str,
    socks: bool,
    go: bool,
    node: bool,
    requests_: bool,
    curl: bool,
    as_json: bool,
) -> None:
    """Make environments trust the takeover's authority, and print the variables to set, for a shell to read.

    A file that is changed is written down with a backup first; `arkway takeover stop` puts it back.
    """
    trustees = _trustees(ctx)
    told = [
        *(trustees.python(place) for place in pythons),
        *(trustees.java(place, store_password, socks=socks) for place in javas),
        *(make() for on, make in ((go, trustees.go), (node, trustees.node)) if on),
        *(make() for on, make in ((requests_, trustees.requests), (curl, trustees.curl)) if on),
    ]
    if not told:
        raise click.ClickException("say whose trust: --python, --java, --go, --node, --requests or --curl")
    if as_json:
        echo_json(told)
        return
    for each in told:
        _print_told(each)


@command.command("stop")
@click.option("--force", is_flag=True, help="Put backups in the place of files that somebody else has changed since.")
@click.option("--forget", is_flag=True, help="Leave such files as they are, and forget them.")
@as_json_option
@click.pass_context
def stop(ctx: click.Context, force: bool, forget: bool, as_json: bool) -> None:
    """End the proxy and put every changed file back, byte for byte, with its mode and its time.

    A file that somebody else has changed since is left alone, with a sentence that says how to go on; all others are
    restored even then. Does nothing where there is nothing to do.
    """
    from arkway.takeover.manifest import Manifest
    from arkway.takeover.running import end

    if force and forget:
        raise click.ClickException("--force and --forget are two ways; choose one")
    folder = _folder(ctx)
    ended = end(folder, STOP_S) if folder.exists() else None
    manifest = Manifest(folder)
    restored: tuple[Restored, ...] = ()
    if folder.exists():
        with manifest.alone():
            restored = manifest.restore(force=force, forget=forget)
    if as_json:
        echo_json({"stopped": ended, "files": restored})
        return
    click.echo(f"stopped  {ended.url} (process {ended.pid})" if ended else "no takeover was listening")
    for each in restored:
        click.echo(f"{each.outcome:<9} {each.path}")


@command.command("status")
@as_json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show whether a proxy listens, and which files are changed."""
    from arkway.takeover.manifest import Manifest
    from arkway.takeover.running import running

    folder = _folder(ctx)
    found, manifest = running(folder), Manifest(folder)
    files = manifest.entries()
    if as_json:
        echo_json({"listening": found, "files": [_document(each, manifest.changed(each)) for each in files]})
        return
    if found is None:
        click.echo("no takeover listens")
    else:
        click.echo(f"listens at {found.url} (process {found.pid}) since {moment(found.started_at_s)} (UTC)")
        click.echo(f"passes to  {found.server}")
        click.echo(f"stands for {', '.join(found.hosts)}")
    for each in files:
        state = "changed " if manifest.changed(each) else "as it was, or changed by somebody else"
        click.echo(f"{state} {each.path} ({each.target})")


def _listen(
    folder: Path, listening: socket.socket, hosts: tuple[str, ...], behind: ArkwayServer, as_json: bool
) -> None:
    import asyncio
    import os

    from arkway.takeover.authority import takeover_files
    from arkway.takeover.connect import Listener
    from arkway.takeover.listening import server_context
    from arkway.takeover.running import Running, announce

    own = takeover_files(folder.parent)
    listener = Listener(hosts, server_context(own.server, own.server_key), behind)
    address, port = listening.getsockname()[:2]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    said = Running(os.getpid(), url, behind.url, hosts, str(own.ca), now_s())
    announce(folder, said)
    _print_running(said, as_json)
    asyncio.run(_serve(listener, listening))


async def _serve(listener: Listener, listening: socket.socket) -> None:
    import asyncio
    import signal

    stopped = asyncio.Event()
    for which in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(which, stopped.set)
    await listener.serve(listening, stopped)


def _check_alone(folder: Path) -> None:
    """A new authority may not be made behind the back of a listener that shows the old one's certificates."""
    from arkway.takeover.running import running

    already = running(folder)
    if already:
        raise click.ClickException(f"a takeover listens already at {already.url}; `arkway takeover stop` ends it")


def _detached(ctx: click.Context, folder: Path, options: list[str], hosts: tuple[str, ...], as_json: bool) -> None:
    """Starts this command again as a process of its own, and waits until it listens."""
    import subprocess
    import time

    from arkway.takeover.running import running

    config = ctx.find_root().obj.get("config")
    root = [f"--home={folder.parent}", *([f"--config={config}"] if config else [])]
    words = [*root, "takeover", "start", "--json", *options, *(f"--host={host}" for host in hosts)]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 (ourselves)
            [sys.executable, "-m", "arkway", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline_s = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline_s:
        found = running(folder)
        if found is not None and found.pid == process.pid:
            _print_running(found, as_json)
            return
        time.sleep(0.05)
    process.kill()
    raise click.ClickException(f"the takeover did not start: {(folder / 'log').read_text(errors='replace').strip()}")


def _trustees(ctx: click.Context) -> Trustees:
    from arkway.takeover.authority import takeover_files
    from arkway.takeover.running import running
    from arkway.takeover.trustees import Trustees

    folder = _folder(ctx)
    ca = takeover_files(folder.parent).ca
    if not ca.exists():
        raise click.ClickException("there is no authority to trust yet; run first: arkway takeover start --detach")
    found = running(folder)
    if found is None:
        click.echo(f"No takeover listens now; the variables name port {DEFAULT_PORT}, its default.", err=True)
    return Trustees(folder, ca, found.url if found else f"http://127.0.0.1:{DEFAULT_PORT}", now_s())


def _folder(ctx: click.Context) -> Path:
    from arkway.cli.context import settings

    return settings(ctx).home / "takeover"


def _print_running(said: Running, as_json: bool) -> None:
    if as_json:
        echo_json(said)
    else:
        click.echo(f"The takeover listens at {said.url} and passes to {said.server}")
        click.echo(f"  stands for {', '.join(said.hosts)}")
        click.echo(f"  authority  {said.ca}   (`arkway takeover trust` makes environments trust it)")
    with contextlib.suppress(OSError):
        sys.stdout.flush()


def _print_told(told: Told) -> None:
    import shlex

    for name, value in told.variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    changed = f"{told.target}: trusts the takeover by {told.file}. " if told.file else f"{told.target}: "
    click.echo(changed + told.note, err=True)


def _document(entry: Entry, changed: bool) -> dict[str, object]:
    import msgspec

    return {**msgspec.structs.asdict(entry), "changed": changed}


def _remind(folder: Path) -> None:
    from arkway.takeover.manifest import Manifest

    files = Manifest(folder).entries()
    if files:
        click.echo(
            f"{len(files)} changed files still trust the takeover; `arkway takeover stop` puts them back.", err=True
        )
