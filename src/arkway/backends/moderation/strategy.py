"""A strategy in force: its words read, its patterns compiled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from arkway.backends.moderation.asking import Judge
from arkway.backends.moderation.folding import Units, characters
from arkway.backends.moderation.patterns import Pattern, operator_pattern
from arkway.backends.moderation.personal import personal_patterns
from arkway.backends.moderation.scanning import Chain, Hit
from arkway.backends.moderation.settings import Stage, StrategySettings
from arkway.backends.moderation.words import WordList, read_words

log = logging.getLogger("arkway.moderation")


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
        blocking, masking = (None, None) if words is None else words.apart()
        # Nothing that is masked hides what ends a text, and no word hides the rest of what is masked whole.
        ordered = (blocking, *sorted(patterns, key=lambda pattern: not pattern.hit.blocks), masking)
        self._searches = tuple([search for search in ordered if search is not None])
        self._stages = stages
        self.judge = judge

    def scans(self, stage: Stage) -> bool:
        """Whether there is anything to look for by ourselves."""
        return stage in self._stages and bool(self._searches)

    def asks(self, stage: Stage) -> bool:
        """Whether the moderator is asked."""
        return self.judge is not None and stage in self.judge.settings.stages

    def chain(self, units: Units = characters) -> Chain:
        """The search through one text; ``units``: how its characters are read."""
        return Chain([search.scanner(units) for search in self._searches])

    def cleaned(self, text: str, *readings: Units) -> str | None:
        """The whole text with what is to be masked masked; None where it may not stand. ``readings``: how its
        characters are read, one after the other; none = as they are."""
        for units in (readings or (characters,)) if text else ():
            chain = self.chain(units)
            text = chain.feed(text, final=True)
            if chain.found is not None:
                return None
        return text

    def mentions(self, text: str) -> bool:
        """Whether anything is found in this text by itself."""
        return self.cleaned(text) != text

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
    if listed is not None and listed.unheard:
        log.warning("%s: %d words consist of what is passed over, and are never found", where, listed.unheard)
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
    return Strategy(listed, patterns, settings.stages, judge)
