"""What moderation costs in a stream: microseconds for each piece of an answer, and characters held back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from arkway.backends.moderation.filtering import Filter
from arkway.backends.moderation.patterns import operator_pattern
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Chain, Hit
from arkway.backends.moderation.strategy import Strategy
from arkway.backends.moderation.words import WordList
from arkway.core.events import Quoted
from benchmarks.report import Options, Report, Table, quantile
from tests.tools.pushing import Dice

WORDS = 20_000
PIECES = 200_000
ROUNDS = 5
TITLE = f"One piece of an answer (2 to 4 characters); {WORDS} words, masked"
COLUMNS = ("what is looked for", "µs a piece", "held back, mean", "held back, p99")
# The most frequent characters of Chinese texts, which are every second one of them.
FREQUENT = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心"
    "学么之都好看起发当没成只如事把还用第样道想作种开"
)
MASK = Hit(False)
KINDS = ("mobile", "id_card", "bank_card", "email", "api_key")


def measure(options: Options) -> Report:
    """On made-up text that is the same in every run."""
    rare = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    few = rare[::5]
    dice = Dice()
    anywhere, listed = (WordList(_words(dice, firsts, rare)) for firsts in (rare, few))
    spaced = WordList(_words(dice, few, rare), ignore_separators=True)
    text = FREQUENT * (len(rare) // len(FREQUENT)) + rare + "，。、；：" * 100 + "……" * 10
    pieces = _pieces(dice, text, PIECES // (20 if options.quick else 1))
    personal = personal_patterns(KINDS, MASK)  # type: ignore[arg-type]
    own = operator_pattern(r"O-\d{6}", MASK, width=16, alphabet="O0-9-", where="benchmark")
    chains: list[tuple[str, Callable[[], Chain]]] = [
        ("words", lambda: Chain([listed.scanner()])),
        ("words that begin with any character", lambda: Chain([anywhere.scanner()])),
        ("words, separators ignored", lambda: Chain([spaced.scanner()])),
        ("personal things (5 kinds)", lambda: Chain([each.scanner() for each in personal])),
        ("a pattern with an alphabet", lambda: Chain([own.scanner()])),
        ("words and personal things", lambda: Chain([listed.scanner(), *(each.scanner() for each in personal)])),
    ]
    rows: list[tuple[str | float | None, ...]] = [(name, *_measured(make, pieces)) for name, make in chains]
    rows.append(("events of an upstream, words", _events_us(Strategy(listed), pieces), None, None))
    figures = {str(row[0]): {"us": row[1], "held_mean": row[2], "held_p99": row[3]} for row in rows}
    return Report(figures, [Table(TITLE, COLUMNS, rows)])


def _words(dice: Dice, firsts: str, letters: str) -> dict[str, Hit]:
    """Words of two to six characters, as many as are wanted, none twice."""
    found: dict[str, Hit] = {}
    while len(found) < WORDS:
        found[_pick(dice, firsts) + "".join(_pick(dice, letters) for _ in range(1 + int(dice() * 5)))] = MASK
    return found


def _pieces(dice: Dice, letters: str, count: int) -> list[str]:
    return ["".join(_pick(dice, letters) for _ in range(2 + int(dice() * 3))) for _ in range(count)]


def _pick(dice: Dice, letters: str) -> str:
    return letters[int(dice() * len(letters))]


def _measured(make: Callable[[], Chain], pieces: Sequence[str]) -> tuple[float, float, float]:
    """Microseconds a piece in the best round, and how much is held back after a piece: mean and 99th percentile."""
    best = min(_round(make(), pieces) for _ in range(ROUNDS))
    chain, taken, given, held = make(), 0, 0, []
    for piece in pieces:
        taken += len(piece)
        given += len(chain.feed(piece))
        held.append(float(taken - given))
    return best / len(pieces) * 1e6, sum(held) / len(held), quantile(held, 0.99)


def _round(chain: Chain, pieces: Sequence[str]) -> float:
    feed = chain.feed
    started = time.perf_counter()
    for piece in pieces:
        feed(piece)
    return time.perf_counter() - started


def _events_us(strategy: Strategy, pieces: Sequence[str]) -> float:
    """The same as a backend's events, each decoded, searched and passed on."""
    events = [Quoted(f'"{piece}"'.encode()) for piece in pieces]
    found_hits: list[Hit] = []
    best = float("inf")
    for _ in range(ROUNDS):
        filtered = Filter(strategy, found_hits.append)
        started = time.perf_counter()
        for event in events:
            filtered.passed((event,))
        best = min(best, time.perf_counter() - started)
    return best / len(events) * 1e6
