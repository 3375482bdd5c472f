"""A strategy in force: its words read, its patterns compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from arkway.backends.moderation.asking import Judge
from arkway.backends.moderation.folding import characters
from arkway.backends.moderation.patterns import Pattern, operator_pattern
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Chain, Hit
from arkway.backends.moderation.settings import Stage, StrategySettings
from arkway.backends.moderation.words import Units, WordList, read_words


class Strategy:
    """What is looked for, in which stage. Nothing in it changes; calls under way keep the one they began with.

    ``judge`` None = no moderator is asked.
    """

    def __init__(
        self,
        words: WordList | None,
        patterns: tuple[Pattern, ...] = (),
        stages: tuple[Stage, ...] = ("input", "output"),
        judge: Judge | None = None,
    ) -> None:
        self._words, self._patterns, self._stages = words, patterns, stages
        self.judge = judge

    def scans(self, stage: Stage) -> bool:
        """Whether there is anything to look for by ourselves."""
        return stage in self._stages and bool(self._words or self._patterns)

    def asks(self, stage: Stage) -> bool:
        """Whether the moderator is asked."""
        return self.judge is not None and stage in self.judge.settings.stages

    def chain(self, units: Units = characters) -> Chain:
        """The search through one text; ``units``: how its characters are read."""
        words = [] if self._words is None else [self._words.scanner(units)]
        return Chain([*words, *(pattern.scanner() for pattern in self._patterns)])

    def mentions(self, text: str) -> bool:
        """Whether anything is found in this text by itself."""
        chain = self.chain()
        return chain.feed(text, final=True) != text or chain.found is not None

    async def retire(self) -> None:
        """No new call begins with it."""
        if self.judge is not None:
            await self.judge.retire()


def load_strategy(name: str, settings: StrategySettings, root: Path, environ: Mapping[str, str]) -> Strategy:
    """Reads files, names relative to ``root``, and compiles. Takes a while: not for the event loop.

    Raises Misconfigured.
    """
    where = f"moderation.strategies.{name}"
    default = Hit(settings.action == "block", settings.hit)
    words = read_words([root / path for path in settings.words], default)
    listed = WordList(words, ignore_separators=settings.ignore_separators) if words else None
    patterns = personal_patterns(settings.personal, Hit(settings.personal_action == "block", settings.hit))
    patterns += tuple(
        operator_pattern(
            each.pattern,
            Hit(each.action == "block", each.hit),
            width=each.max_chars,
            alphabet=each.alphabet,
            where=f"{where}.patterns",
        )
        for each in settings.patterns
    )
    judge = Judge(settings.moderator, environ, f"{where}.moderator") if settings.moderator else None
    return Strategy(listed if listed is not None and listed.count else None, patterns, settings.stages, judge)
