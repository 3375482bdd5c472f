"""Real weights choose among labels, for the reasons they give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arkway.backends.engine.pool import EnginePool
from arkway.backends.engine.settings import EngineModel, EngineSettings
from arkway.core.caller import Call
from arkway.core.classification import ClassifyReply, ClassifyRequest
from arkway.core.model import Deployment, Endpoint
from arkway.models.store import ModelStore
from tests.e2e.conftest import CHAT_MODEL

pytestmark = pytest.mark.weights

GOOD = "I love this phone. The screen is wonderful and it works perfectly!"
BAD = "Terrible product. It broke after one day and the support was rude. I hate it."
"""Some ten tokens after a prompt of a hundred: about a second where nothing else runs."""


class Classifier:
    """One model in a pool of its own."""

    def __init__(self, models: Path) -> None:
        found = ModelStore(models).find(CHAT_MODEL)
        assert found is not None
        self._name = found.card.served_name
        self.pool = EnginePool({self._name: EngineModel(found.path, found.card)}, EngineSettings(idle_stop_s=0.0))
        endpoint = Endpoint("ep-1", "ep", found.card.name, "", "running", "a", "p", 0)
        self._deployment = Deployment(endpoint, found.card, "engine")

    async def start(self) -> None:
        await self.pool.load(self._name)

    async def choose(self, query: str, *labels: str) -> ClassifyReply:
        return await self.pool.classify(self._deployment, ClassifyRequest("m", query, labels), Call("r", "a", "p", "k"))


@pytest.fixture
async def classifier(weights: Path) -> AsyncIterator[Classifier]:
    made = Classifier(weights)
    await made.start()
    yield made
    await made.pool.aclose()


async def test_a_review_gets_its_sentiment_in_either_order(classifier: Classifier) -> None:
    for labels in (("positive", "negative"), ("negative", "positive")):
        assert (await classifier.choose(GOOD, *labels)).label == "positive"
        assert (await classifier.choose(BAD, *labels)).label == "negative"


async def test_chinese_labels_have_scores_though_the_model_hardly_knows_them(classifier: Classifier) -> None:
    """This model is English only and leans to one label whatever the text, so the choice is not looked at."""
    reply = await classifier.choose("这家餐厅的菜非常好吃，服务热情，强烈推荐！", "正面", "负面")
    for score in reply.scores:
        assert len(score.tokens) == len(score.logprobs) > len(score.label)
        assert all(-30 < logprob <= 0 for logprob in score.logprobs)
    assert reply.usage.completion_tokens == sum(len(score.tokens) for score in reply.scores)
