"""``arkway tls``: a certificate authority of our own, and how clients are told to trust it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arkway.cli.database import as_json_option, echo_json, moment, now_s

if TYPE_CHECKING:
    from arkway.config import Settings
    from arkway.takeover.authority import Described, Files

DEFAULT_TLS_PORT = 8443


@click.group("tls")
def command() -> None:
    """Make certificates for HTTPS, and tell clients to trust them.

    For clients that insist on https: `arkway tls init`, then `arkway serve --tls-port 8443`, then what
    `arkway tls trust-help` says for the client's own stack.
    """


@command.command("init")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name or address of this server; may be repeated. Always there: localhost, 127.0.0.1, ::1.",
)
@click.option("--force", is_flag=True, help="Make a new authority even if there is one; every client has to trust it.")
@as_json_option
@click.pass_context
def initialise_tls(ctx: click.Context, hosts: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Make a certificate authority and a server certificate, in the data directory's folder `tls`.

    Done again, it keeps the authority and the names there are, adds names, and renews a certificate that is about to
    expire. The authority can only ever vouch for local names and addresses and for the names given when it was made.
    Name a host of the vendor's (ark.cn-beijing.volces.com, maas-api.ml-platform-cn-beijing.volces.com,
    open.volcengineapi.com) only to stand in for it on machines of yours.
    """
    from arkway.takeover.authority import initialise

    done = initialise(_settings(ctx).home, hosts, now_s(), force=force)
    if as_json:
        echo_json({"ca": done.ca, "server": done.server, "made_ca": done.made_ca, "made_server": done.made_server})
        return
    _print("certificate authority" + ", made now" * done.made_ca, done.ca)
    _print("server certificate" + ", made now" * done.made_server, done.server)
    _say_next(restart=done.made_server and not done.made_ca)


@command.command("show")
@as_json_option
@click.pass_context
def show_tls(ctx: click.Context, as_json: bool) -> None:
    """Show the certificates: paths, names, validity, fingerprints."""
    ca, server = _described(_settings(ctx))
    if as_json:
        echo_json({"ca": ca, "server": server})
        return
    if ca is not None:
        _print("certificate authority", ca)
    _print("server certificate", server)


@command.command("trust-help")
@click.option(
    "--stack", default="", metavar="STACK", help="Only for this one, such as python-requests, go, java, node."
)
@as_json_option
@click.pass_context
def trust_help(ctx: click.Context, stack: str, as_json: bool) -> None:
    """Print how each client stack is told to trust this server: commands to copy, with the real path.

    Stacks: python-requests, python-httpx, certifi, go, java, node, curl, openssl, system.
    """
    from arkway.takeover.trust import STACKS, recipes

    if stack and stack not in STACKS:
        raise click.ClickException(f"there is no recipe for `{stack[:32]}`; there are: {', '.join(STACKS)}")
    config = _settings(ctx)
    ca = _trusted(config)
    url = f"https://{_host(config)}:{config.tls.port or DEFAULT_TLS_PORT}"
    chosen = recipes(ca, url, stack)
    if as_json:
        echo_json({"ca": str(ca), "url": url, "stacks": chosen})
        return
    for each in chosen:
        click.echo(f"# {each.title} [{each.stack}]")
        for line in each.commands:
            click.echo(f"  {line}")
        click.echo(f"# {each.note}\n")


def _settings(ctx: click.Context) -> Settings:
    from arkway.cli.context import settings

    return settings(ctx)


def _described(config: Settings) -> tuple[Described | None, Described]:
    """The authority, where the server's certificate is of our own making, and that certificate."""
    from arkway.takeover.authority import describe

    if config.tls.certificate:
        return None, describe(Path(config.tls.certificate).expanduser())
    own = _own(config)
    return describe(own.ca), describe(own.server)


def _trusted(config: Settings) -> Path:
    """The file that clients have to trust: of a certificate that was brought along nobody here knows who issued it."""
    if config.tls.certificate:
        raise click.ClickException(
            f"the server shows {config.tls.certificate} (tls.certificate), which was not made here; "
            "clients trust it if they trust whoever issued it"
        )
    return _own(config).ca


def _own(config: Settings) -> Files:
    from arkway.takeover.authority import files

    own = files(config.home)
    if not own.ca.exists():
        raise click.ClickException(f"there is no certificate authority in {own.ca.parent}; run: arkway tls init")
    return own


def _host(config: Settings) -> str:
    """A name under which the certificate is valid on this machine."""
    host = config.server.host
    if host in ("0.0.0.0", "::", "127.0.0.1"):  # noqa: S104 (compared, not bound)
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _print(title: str, certificate: Described) -> None:
    click.echo(title)
    click.echo(f"  file     {certificate.path}")
    click.echo(f"  subject  {certificate.subject}")
    click.echo(f"  for      {', '.join(certificate.names) or 'anything'}")
    click.echo(f"  valid    {moment(certificate.not_before_s)} to {moment(certificate.not_after_s)} (UTC)")
    click.echo(f"  SHA-256  {certificate.sha256}")


def _say_next(*, restart: bool) -> None:
    word = "restart the server to show the new certificate" if restart else "start the server with --tls-port 8443"
    click.echo(f"Now {word}; `arkway tls trust-help` tells clients to trust it.", err=True)
