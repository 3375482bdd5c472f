"""``arkway conformance``: grades any server that claims this wire, real Ark included."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arkway.conformance.cases import Case, Result
    from arkway.conformance.target import Target

SURFACES = ("v1", "v2", "v3", "openai", "bots", "v3-bots")


@click.command("conformance")
@click.option("--target", "url", default="", metavar="URL", help="The server; default: this installation's.")
@click.option("--endpoint", default="", metavar="ID", help="A chat endpoint (ep-...); v2, v3 and /v1 need it.")
@click.option("--model", default="skylark-chat", show_default=True, metavar="NAME", help="A chat model's name, for v1.")
@click.option("--embedding-endpoint", default="", metavar="ID", help="An embedding endpoint.")
@click.option("--embedding-model", default="", metavar="NAME", help="An embedding model's name, for v1.")
@click.option("--bot", default="", metavar="ID", help="A bot (bot-...), for Bot API V2 and the bots of v3.")
@click.option("--ak", envvar="VOLC_ACCESSKEY", default="", metavar="ID", help="Access key id; default VOLC_ACCESSKEY.")
@click.option("--sk", envvar="VOLC_SECRETKEY", default="", metavar="SECRET", help="Default VOLC_SECRETKEY.")
@click.option("--session-ak", default="", metavar="ID", help="A temporary access key's id.")
@click.option("--session-sk", default="", metavar="SECRET", help="Its secret.")
@click.option("--session-token", default="", metavar="TOKEN", help="Its session token.")
@click.option("--api-key", envvar="ARK_API_KEY", default="", metavar="KEY", help="Default ARK_API_KEY.")
@click.option("--only", multiple=True, type=click.Choice(SURFACES), help="Only this surface; may be given again.")
@click.option("--list", "listed", is_flag=True, help="List the cases and try none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, /, listed: bool, as_json: bool, only: tuple[str, ...], **given: Any) -> None:
    """Try every case of the wire on a server and say where it differs.

    Small calls are made (about a hundred, 16 tokens each). What needs credentials or endpoints that were not given is
    skipped. The exit code is 1 when a case failed.

    \b
    arkway conformance --endpoint ep-... --embedding-endpoint ep-... --ak ... --sk ... --api-key ark-...
    arkway conformance --only bots --only v3-bots --bot bot-... --endpoint ep-... --ak ... --sk ... --api-key ark-...
    arkway conformance --target https://ark.cn-beijing.volces.com --only v3 --endpoint ep-... --api-key ...
    """
    from arkway.cli.database import echo_json
    from arkway.cli.where import server_url
    from arkway.conformance import examination

    cases = [case for case in examination.CASES if not only or case.surface in only]
    if listed:
        _list(cases, as_json)
        return
    target = _target(server_url(ctx, given.pop("url")), given)
    results = asyncio.run(_examine(cases, target, quiet=as_json))
    if as_json:
        echo_json({"target": target.url, "results": results})
    else:
        _conclude(results)
    raise SystemExit(1 if any(result.verdict == "fail" for result in results) else 0)


def _target(url: str, given: dict[str, Any]) -> Target:
    from arkway.conformance.target import Target
    from arkway.signing import KeyPair

    ak, sk = given.pop("ak"), given.pop("sk")
    session_ak, session_sk, token = (given.pop(f"session_{part}") for part in ("ak", "sk", "token"))
    return Target(
        url=url,
        pair=KeyPair(ak, sk) if ak and sk else None,
        session_pair=KeyPair(session_ak, session_sk, session_token=token) if session_ak else None,
        **given,
    )


async def _examine(cases: Sequence[Case], target: Target, *, quiet: bool) -> list[Result]:
    from arkway.conformance.cases import graded

    results = []
    for case in cases:
        result = await graded(case, target)
        results.append(result)
        if not quiet:
            _show(result)
    return results


def _show(result: Result) -> None:
    colour = {"pass": "green", "fail": "red", "skip": "yellow"}[result.verdict]
    detail = f"  {result.detail}" if result.detail else ""
    click.echo(f"{click.style(result.verdict, fg=colour)}  {result.surface:<7}  {result.name}{detail}")


def _conclude(results: Sequence[Result]) -> None:
    count = {verdict: sum(r.verdict == verdict for r in results) for verdict in ("pass", "fail", "skip")}
    click.echo(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped, of {len(results)} cases")


def _list(cases: Sequence[Case], as_json: bool) -> None:
    from arkway.cli.database import echo_json, print_table

    if as_json:
        echo_json([{"surface": case.surface, "name": case.name} for case in cases])
    else:
        print_table(("SURFACE", "CASE"), [(case.surface, case.name) for case in cases])
