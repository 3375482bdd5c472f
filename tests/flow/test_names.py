"""What a name means: an endpoint id, a model's own name in a version, an alias; for each caller what is its own."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from arkway.admin.retired import NAMES
from arkway.core.caller import Caller
from arkway.core.errors import ArkwayError, BackendUnavailable, EndpointNotFound, EndpointStopped, Forbidden
from arkway.core.model import Endpoint, ModelCard
from arkway.flow.route import Router
from arkway.ports import Alias
from arkway.testing import CHAT_CARD, EMBEDDING_CARD, StaticDirectory, endpoint, running_server
from arkway.wire import json
from tests.tools.client import Connection

ROLLING, PINNED, GONE = "ep-20240701000000-rolls", "ep-20240701000000-still", "ep-20240701000000-gone1"
CARDS = {version: msgspec.structs.replace(CHAT_CARD, name="small", version=version) for version in ("1", "2")}
ME = Caller("default", "default", "key-me")

ALIASES = (
    Alias("skylark-chat", "small", ""),
    Alias("moonshot-v1-8k", "small", "1"),
    Alias("skylark-pro", "small", "9"),
    Alias("broken", "small", "9"),
    Alias("nobodys", "large", ""),
)


def find_model(name: str, version: str) -> tuple[ModelCard, str] | None:
    """``small`` in the versions 1 and 2, of which 2 is the default one."""
    card = CARDS.get(version or "2") if name == "small" else None
    return (card, "scripted") if card else None


def router(*endpoints: Endpoint, aliases: Iterable[Alias] = ALIASES) -> Router:
    return Router(StaticDirectory({}, endpoints, (), aliases), find_model)


def found(
    routed: Router, asked: str, version: str = "", *, caller: Caller = ME, names: bool = True
) -> tuple[str, str] | type[ArkwayError]:
    """The endpoint and the version that serve, or the error."""
    try:
        deployment = routed.deployment(caller, asked, names=names, version=version)
    except ArkwayError as error:
        return type(error)
    return deployment.endpoint.id, deployment.card.version


UNPINNED = endpoint(ROLLING, "small")
FIRST = endpoint(PINNED, "small", version="1")
THEIRS = endpoint("ep-20240701000000-their", "small", account="other")


@pytest.mark.parametrize(
    ("asked", "version", "served"),
    [
        ("small", "", "2"),
        ("small", "1", "1"),
        ("small", "2", "2"),
        ("small", "3", None),
        ("small", "1.0", None),
        ("small-2", "", "2"),
        ("small-2", "2", "2"),
        ("small-2", "1", None),
        ("Small", "", None),
        ("skylark-chat", "", "2"),
        ("Skylark-Chat", "1.0", "2"),
        ("moonshot-v1-8k", "", "1"),
        ("MOONSHOT-V1-8K", "1.0", "1"),
        (ROLLING, "", "2"),
        (ROLLING, "1", "2"),
    ],
)
def test_an_endpoint_without_a_version_serves_each_installed_one(asked: str, version: str, served: str | None) -> None:
    assert found(router(UNPINNED), asked, version) == ((ROLLING, served) if served else EndpointNotFound)


@pytest.mark.parametrize(
    ("asked", "version", "served"),
    [
        ("small", "", True),
        ("small", "1", True),
        ("small", "2", False),
        ("small-1", "", True),
        ("small-2", "", False),
        ("skylark-chat", "2", True),
        ("moonshot-v1-8k", "", True),
        (PINNED, "2", True),
    ],
)
def test_a_pinned_endpoint_serves_its_own_version_only(asked: str, version: str, served: bool) -> None:
    assert found(router(FIRST), asked, version) == ((PINNED, "1") if served else EndpointNotFound)


def test_an_alias_of_another_version_does_not_mean_a_pinned_endpoint() -> None:
    assert found(router(FIRST, aliases=[Alias("two", "small", "2")]), "two") is EndpointNotFound
    assert found(router(FIRST, UNPINNED, aliases=[Alias("two", "small", "2")]), "two") == (ROLLING, "2")


@pytest.mark.parametrize("asked", ["small", "skylark-chat", "moonshot-v1-8k"])
def test_an_endpoint_that_can_be_used_is_preferred(asked: str) -> None:
    stopped = endpoint("ep-20240701000000-stop1", "small", status="stopped")
    assert found(router(stopped), asked) is EndpointStopped
    routed = router(stopped, FIRST, UNPINNED)
    assert found(routed, asked) == (PINNED, "1")
    scoped = Caller("default", "default", "key-scoped", (ROLLING,))
    assert found(routed, asked, caller=scoped) == (ROLLING, "1" if asked == "moonshot-v1-8k" else "2")
    assert found(router(FIRST), asked, caller=scoped) is Forbidden


@pytest.mark.parametrize("asked", ["small", "skylark-chat", "moonshot-v1-8k"])
def test_names_lead_to_the_callers_own_endpoints_only(asked: str) -> None:
    theirs = endpoint(ROLLING, "small", account="other")
    assert found(router(theirs), asked) is EndpointNotFound
    assert found(router(theirs), asked, caller=Caller("other", "default", "k"))[0] == ROLLING  # type: ignore[index]


def test_an_endpoint_id_goes_before_a_name_and_a_name_before_an_alias() -> None:
    confusing = [Alias("small", "small", "1"), Alias(ROLLING, "small", "1")]
    routed = router(UNPINNED, FIRST, aliases=confusing)
    assert found(routed, ROLLING) == (ROLLING, "2")
    assert found(routed, "small") == (ROLLING, "2")


def test_without_names_there_are_no_aliases() -> None:
    for asked in ("small", "skylark-chat"):
        assert found(router(UNPINNED), asked, names=False) is EndpointNotFound
    assert found(router(UNPINNED), ROLLING, "7", names=False) == (ROLLING, "2")


def test_an_alias_whose_version_is_gone_tells_the_operator_both_ways_out() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        router(UNPINNED).deployment(ME, "skylark-pro", names=True)
    assert "`arkway pull small:9`" in caught.value.message
    assert "`arkway aliases set skylark-pro MODEL`" in caught.value.message


def test_an_alias_of_a_model_that_nobody_deployed_is_not_found() -> None:
    assert found(router(UNPINNED), "nobodys") is EndpointNotFound


def test_a_version_that_is_not_there_is_named() -> None:
    with pytest.raises(EndpointNotFound, match=r"`small:3` does not exist.*did you mean `small`"):
        router(UNPINNED).deployment(ME, "small", names=True, version="3")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("skylark-chta", ("skylark-chat",)),
        ("Moonshot-v1", ("moonshot-v1-8k",)),
        ("brokem", ()),  # near to an alias that would not work
        ("nobodis", ()),
    ],
)
def test_hints_name_aliases_that_would_work(asked: str, near: tuple[str, ...]) -> None:
    with pytest.raises(EndpointNotFound) as caught:
        router(UNPINNED).deployment(ME, asked, names=True)
    assert caught.value.near == near
    with pytest.raises(EndpointNotFound) as caught:
        router(endpoint(ROLLING, "small", account="other")).deployment(ME, asked, names=True)
    assert caught.value.near == ()


def test_retired_names_are_served_over_the_wire() -> None:
    mine = [Alias("My-Embedder", EMBEDDING_CARD.name, "")]
    with running_server(aliases=mine) as server, Connection(server.url) as client:
        for asked in ("skylark-chat", "Skylark2-pro-character-4k", "Moonshot-v1-8k"):
            body = {"model": asked, "messages": [{"role": "user", "content": "问"}]}
            reply = client.post("/v1/chat/completions", body)
            assert (reply.status, reply.json()["model"]) == (200, CHAT_CARD.served_name)
            assert client.post("/api/v3/chat/completions", body).status == 404
        assert client.post("/v1/embeddings", {"model": "my-embedder", "input": "问"}).status == 200
        reply = client.post("/v1/embeddings", {"model": "skylark-chat", "input": "问"})
        assert reply.status == 400
        assert "does not support" in json.loads(reply.body)["error"]["message"]


@pytest.mark.parametrize("asked", ["skylark-chat", "Skylark2-pro-character-4k"])
@pytest.mark.parametrize("endpoints", [(), (FIRST, THEIRS)])
def test_a_retired_name_that_waits_for_a_model_says_what_the_operator_has_to_do(
    asked: str, endpoints: tuple[Endpoint, ...]
) -> None:
    """And nothing of what else there is."""
    waiting = Router(StaticDirectory({}, endpoints, (), ()), find_model, NAMES)
    with pytest.raises(EndpointNotFound) as caught:
        waiting.deployment(ME, asked, names=True, version="1.0")
    assert caught.value.message == (
        f"no model stands for the name `{asked}` here yet; the operator installs a chat model with `arkway pull`, or "
        f"names one with `arkway aliases set {asked} MODEL`"
    )
    with pytest.raises(EndpointNotFound, match="does not exist or you do not have access"):
        waiting.deployment(ME, asked, names=False)
    with pytest.raises(EndpointNotFound, match="does not exist or you do not have access"):
        waiting.deployment(ME, "skylark-new", names=True)


def test_a_retired_name_that_has_its_model_elsewhere_is_not_found() -> None:
    routed = Router(StaticDirectory({}, (THEIRS,), (), ALIASES), find_model, NAMES)
    with pytest.raises(EndpointNotFound, match="does not exist or you do not have access"):
        routed.deployment(ME, "skylark-chat", names=True)


def test_a_retired_name_that_waits_over_the_wire() -> None:
    bare = StaticDirectory({"ark-mine": ME}, (), (), ())
    with running_server(directory=bare) as server, Connection(server.url, "ark-mine") as client:
        body = {"model": "skylark-chat", "messages": [{"role": "user", "content": "hi"}]}
        reply = client.post("/v1/chat/completions", body)
        assert (reply.status, reply.json()["error"]["code"]) == (404, "model_not_found")
        assert "`arkway aliases set skylark-chat MODEL`" in reply.json()["error"]["message"]


def test_the_version_of_an_endpoint_that_is_not_installed_is_what_to_pull() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        router(endpoint(GONE, "small", version="7")).deployment(ME, GONE, names=False)
    assert "`arkway pull small:7`" in caught.value.message
