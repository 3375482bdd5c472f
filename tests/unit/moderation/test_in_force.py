"""The section ``[moderation]``: read, put around backends, and wrong in ways that are said."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from arkway.app.moderation import Moderation
from arkway.backends.moderation.moderated import Moderated
from arkway.config import Settings, load
from arkway.core.errors import InputBlocked, Misconfigured
from arkway.core.model import Deployment
from arkway.telemetry.moderation import ModerationWatch
from tests.tools.pushing import CALL, DEPLOYMENT, Kept, Puppet, asks

STRICT = '[moderation.strategies.strict]\nwords = ["words.txt"]\n'


def settings(home: Path, text: str) -> Settings:
    (home / "arkway.toml").write_text(text, encoding="utf-8")
    (home / "words.txt").write_text("坏人\n", encoding="utf-8")
    return load(environ={}, overrides={"home": str(home)})


def chose(name: str) -> Deployment:
    endpoint = msgspec.structs.replace(DEPLOYMENT.endpoint, moderation=name)
    return msgspec.structs.replace(DEPLOYMENT, endpoint=endpoint)


def test_without_strategies_nothing_is_wrapped(tmp_path: Path) -> None:
    backend = Puppet()
    moderation = Moderation(settings(tmp_path, ""), ModerationWatch())
    assert moderation.over({"engine": backend}) == {"engine": backend}


def test_an_endpoint_has_the_strategy_that_it_chose(tmp_path: Path) -> None:
    watch, backend = ModerationWatch(), Puppet()
    wrapped = Moderation(settings(tmp_path, STRICT), watch).over({"engine": backend})["engine"]
    assert isinstance(wrapped, Moderated)
    with pytest.raises(InputBlocked):
        wrapped.start(chose("strict"), asks("坏人"), CALL, Kept())
    for name in ("", "Basic"):
        wrapped.start(chose(name), asks("坏人"), CALL, Kept())
    assert len(backend.asked) == 2
    registry = CollectorRegistry(auto_describe=False)
    registry.register(watch.tallies)
    assert b'arkway_moderation_total{action="block",stage="input"} 1.0' in generate_latest(registry)


def test_the_default_is_for_those_that_chose_nothing_known(tmp_path: Path) -> None:
    text = f'[moderation]\ndefault = "strict"\n{STRICT}'
    moderation = Moderation(settings(tmp_path, text), ModerationWatch())
    found = [moderation.strategy_of(chose(name)) for name in ("", "Basic", "strict")]
    assert found[0] is found[1] is found[2]
    assert found[0] is not None


def test_who_chose_is_asked(tmp_path: Path) -> None:
    moderation = Moderation(settings(tmp_path, STRICT), ModerationWatch(), lambda endpoint: "strict")
    assert moderation.strategy_of(chose("")) is not None


def test_names_that_mean_nothing_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moderation = Moderation(settings(tmp_path, STRICT), ModerationWatch())
    with caplog.at_level(logging.WARNING, "arkway.moderation"):
        moderation.warn([chose(name).endpoint for name in ("", "strict", "Basic", "Basic")])
    assert [record.message for record in caplog.records] == [
        "endpoints have chosen the moderation `Basic`, which is no strategy of this server: they have none"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[moderation]\ndefault = "none"\n', "`none`, which does not exist"),
        ('[moderation.strategies.a]\nwords = ["no.txt"]\n', "cannot read"),
        ('[moderation.strategies.a]\nwrds = ["no.txt"]\n', "unknown field `wrds`"),
        ('[moderation.strategies.a]\naction = "kill"\n', "kill"),
        ("[moderation]\nstrategies = 3\n", "moderation.strategies"),
        ("[[moderation.strategies.a.patterns]]\npattern = '(?=a)'\n", "moderation.strategies.a.patterns: RE2"),
        ('[moderation.strategies.a.moderator]\nurl = "ftp://x"\n', "url"),
        ('[moderation.strategies.a.moderator]\nurl = "http://x"\nshape = "chat"\n', "model"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        Moderation(settings(tmp_path, text), ModerationWatch())


def test_words_that_are_never_found_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = settings(tmp_path, f"{STRICT}ignore_separators = true\n")
    (tmp_path / "words.txt").write_text("坏 人\n...\n\u200b！\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "arkway.moderation"):
        moderation = Moderation(found, ModerationWatch())
    assert [record.message for record in caplog.records] == [
        "moderation.strategies.strict: 2 words consist of what is passed over, and are never found"
    ]
    strategy = moderation.strategy_of(chose("strict"))
    assert strategy is not None
    assert strategy.cleaned("坏人") is None


def test_a_strategy_that_looks_for_nothing_goes_without_the_default(tmp_path: Path) -> None:
    text = f'[moderation]\ndefault = "strict"\n{STRICT}[moderation.strategies.none]\n'
    backend = Puppet()
    wrapped = Moderation(settings(tmp_path, text), ModerationWatch()).over({"engine": backend})["engine"]
    assert isinstance(wrapped, Moderated)
    assert wrapped.start(chose("none"), asks("坏人"), CALL, Kept()) is backend.last
    with pytest.raises(InputBlocked):
        wrapped.start(chose("other"), asks("坏人"), CALL, Kept())


def test_strategies_may_come_by_a_variable(tmp_path: Path) -> None:
    environ = {"ARKWAY__MODERATION__STRATEGIES": '{"a":{"personal":["email"]}}'}
    found = load(environ=environ, overrides={"home": str(tmp_path)}).moderation.strategies
    assert found["a"].personal == ("email",)
    with pytest.raises(Misconfigured, match="JSON"):
        load(environ={"ARKWAY__MODERATION__STRATEGIES": "{"}, overrides={"home": str(tmp_path)})
