"""The command line: each command is one file beside this one, imported only when it is called."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

import click

from arkway import __version__

COMMANDS = {
    "serve": "Run the server.",
    "pull": "Download models: resumable, verified by hash.",
    "models": "What is installed, and each model's detail page.",
    "keys": "Make, list and revoke API keys.",
    "aksk": "Make, list and revoke access key pairs.",
    "secrets": "The keys that access keys and upstreams' secrets are encrypted under.",
    "endpoints": "What callers name: make, list, change, stop, start, delete.",
    "bots": "Endpoints that look things up before they answer: make, list, change, stop, delete.",
    "kb": "Collections of documents that bots look things up in: make, fill, search.",
    "accounts": "The tenants of this host: make, list, suspend, resume.",
    "projects": "Into what an account divides what it has.",
    "apply": "Make the platform what a file says; show the plan first.",
    "export": "Write the platform as such a file.",
    "audit": "Who changed what, and when.",
    "limits": "How much keys, endpoints and projects may use: list, set, remove.",
    "admin": "The description of the Admin API.",
    "upstreams": "Other model servers behind this one: add, change, check, remove.",
    "groups": "The models that other servers answer for.",
    "aliases": "Other names for models: list, set, remove.",
    "usage": "What was used and what it costs, from the ledger.",
    "prices": "What models cost: list, set, remove.",
    "ledger": "Do the books agree? And deleting old calls.",
    "tls": "Certificates for HTTPS, and how clients are told to trust them.",
    "takeover": "Stand in for the vendor's hosts, for programs that cannot be changed.",
    "api": "Sign any call with an access key pair; make it, or print it as curl.",
    "conformance": "Grade any server that claims to speak this wire.",
    "chat": "Talk to a model through the running server.",
    "doctor": "Find out what is missing here, and how to mend it.",
}

EPILOG = """
\b
A first run:
  arkway pull              download the default chat model (491 MB, once)
  arkway serve             start; prints an endpoint id and, the first time, an API key
  arkway chat              talk to it

Everything is kept in one directory (--home, ARKWAY_HOME). Settings: arkway.toml in it, ARKWAY__SECTION__KEY, flags.
"""


class Commands(click.Group):
    """Knows every command's name and summary; imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, importlib.import_module(f"arkway.cli.{cmd_name}").command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-V", message="arkway %(version)s")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="Data directory; default ARKWAY_HOME.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file; default HOME/arkway.toml.")
@click.pass_context
def group(ctx: click.Context, home: Path | None, config: Path | None) -> None:
    """Your own Ark: one server that speaks Volcengine's model API, with models of your own behind it."""
    ctx.obj = {"home": home, "config": config}


def main() -> None:
    """The console script. Errors of the tree become one sentence and exit code 1."""
    from arkway.core.errors import ArkwayError

    try:
        group(prog_name="arkway")
    except ArkwayError as error:
        click.echo(f"Error: {error.message}", err=True)
        raise SystemExit(1) from None
