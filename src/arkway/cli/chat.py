"""``arkway chat``: a streaming chat in the terminal, through the running server, as any client would."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

import click

Turn = dict[str, str]


@click.command("chat")
@click.argument("prompt", required=False)
@click.option("--url", default="", metavar="URL", help="The server; default: host and port of the settings.")
@click.option("--api-key", envvar="ARK_API_KEY", default="", metavar="KEY", help="Default: ARK_API_KEY, or first-key.")
@click.option("--model", default="", metavar="NAME", help="Endpoint id or model name; default: the first chat model.")
@click.option("--system", default="", metavar="TEXT", help="A system message.")
@click.option("--max-tokens", type=click.IntRange(1), default=None, help="The answer's limit.")
@click.option("--temperature", type=click.FloatRange(0, 2), default=None)
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as one JSON document; needs a PROMPT.")
@click.pass_context
def command(
    ctx: click.Context,
    prompt: str | None,
    url: str,
    api_key: str,
    model: str,
    system: str,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
) -> None:
    """Talk to a model. With a PROMPT: one answer. Without: a conversation; Ctrl-D ends it."""
    if as_json and not prompt:
        raise click.UsageError("--json needs a PROMPT")
    talk = Talk(*_where(ctx, url, api_key), model, {"max_tokens": max_tokens, "temperature": temperature})
    turns: list[Turn] = [{"role": "system", "content": system}] if system else []
    try:
        asyncio.run(talk.once(turns, prompt, as_json) if prompt else talk.on_and_on(turns))
    except KeyboardInterrupt:
        click.echo()


class Talk:
    """One conversation with the server's OpenAI-like API."""

    def __init__(self, url: str, api_key: str, model: str, options: dict[str, Any]) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._model = model
        self._options = {name: value for name, value in options.items() if value is not None}

    async def once(self, turns: list[Turn], prompt: str, as_json: bool) -> None:
        """One question, one answer."""
        turns.append({"role": "user", "content": prompt})
        if as_json:
            answer = await self._post({"messages": turns, **self._options})
            click.echo(answer)
        else:
            await self._answer(turns)

    async def on_and_on(self, turns: list[Turn]) -> None:
        """Questions from standard input until it ends."""
        while line := await asyncio.to_thread(_question):
            turns.append({"role": "user", "content": line})
            turns.append({"role": "assistant", "content": await self._answer(turns)})

    async def _answer(self, turns: list[Turn]) -> str:
        pieces: list[str] = []
        async for piece in self._stream({"messages": turns, "stream": True, **self._options}):
            click.echo(piece, nl=False)
            sys.stdout.flush()
            pieces.append(piece)
        click.echo()
        return "".join(pieces)

    async def _stream(self, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        import aiohttp
        import orjson

        from arkway.wire.sse import Reader

        reader = Reader()
        async with aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(None)) as session:
            body["model"] = self._model or await self._first_model(session)
            async with self._asked(session, body) as response:
                await _refuse_errors(response)
                async for data in response.content.iter_any():
                    for payload in reader.feed(data):
                        if payload == b"[DONE]":
                            return
                        chunk = orjson.loads(payload)
                        if "error" in chunk:
                            raise click.ClickException(chunk["error"]["message"])
                        for choice in chunk["choices"]:
                            yield choice["delta"].get("content") or ""

    async def _post(self, body: dict[str, Any]) -> str:
        import aiohttp

        async with aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(None)) as session:
            body["model"] = self._model or await self._first_model(session)
            async with self._asked(session, body) as response:
                await _refuse_errors(response)
                return str(await response.text())

    async def _first_model(self, session: Any) -> str:
        async with _reached(session.get(f"{self._url}/v1/models"), self._url) as response:
            await _refuse_errors(response)
            listed = (await response.json())["data"]
        if not listed:
            raise click.ClickException("the server has no model; `arkway pull` installs one, then restart the server")
        return str(listed[0]["id"])

    def _asked(self, session: Any, body: dict[str, Any]) -> Any:
        return _reached(session.post(f"{self._url}/v1/chat/completions", json=body), self._url)


class _reached:  # noqa: N801 (reads as a clause: async with _reached(request, url))
    """A request's context, with "cannot connect" said in a sentence."""

    def __init__(self, request: Any, url: str) -> None:
        self._request, self._url = request, url

    async def __aenter__(self) -> Any:
        import aiohttp

        try:
            return await self._request.__aenter__()
        except aiohttp.ClientConnectionError:
            raise click.ClickException(f"no server answers at {self._url}; start one with `arkway serve`") from None

    async def __aexit__(self, *problem: Any) -> None:
        await self._request.__aexit__(*problem)


async def _refuse_errors(response: Any) -> None:
    if response.status != 200:
        text = await response.text()
        try:
            import orjson

            text = orjson.loads(text)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            pass
        raise click.ClickException(f"{response.status}: {text}")


def _question() -> str:
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or line.strip():
            return line.strip()


def _where(ctx: click.Context, url: str, api_key: str) -> tuple[str, str]:
    """The server's address and a key for it: as given, else from the settings and the first start's key file."""
    from arkway.cli.context import settings
    from arkway.cli.where import server_url

    if not api_key:
        kept = settings(ctx).home / "first-key"
        if not kept.exists():
            raise click.ClickException("no API key: set ARK_API_KEY or pass --api-key (`arkway keys create` makes one)")
        api_key = kept.read_text().strip()
    return server_url(ctx, url), api_key
