"""The child process: reads requests from its standard input, a Unix socket, and answers on the same socket.

One thread reads, one works. The end of the input, which is also what the death of the server looks like, ends the
process at once, in the middle of a piece too.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from arkway.backends.embedding.frames import (
    LENGTH,
    Answer,
    Drop,
    Embed,
    Failed,
    Question,
    Ready,
    Tokenize,
    framed,
    question_from_bytes,
)
from arkway.backends.embedding.rota import Job, Rota

if TYPE_CHECKING:
    from arkway.backends.embedding.encoder import UseEncoder


class Desk:
    """Jobs on their way from the reading thread to the working one."""

    def __init__(self) -> None:
        self._rota = Rota()
        self._jobs: dict[int, Job] = {}
        self._changed = threading.Condition()

    def put(self, job: Job) -> None:
        with self._changed:
            self._jobs[job.id] = job
            self._rota.add(job)
            self._changed.notify()

    def put_back(self, job: Job) -> None:
        with self._changed:
            self._rota.add(job)

    def drop(self, job_id: int) -> None:
        with self._changed:
            if job := self._jobs.pop(job_id, None):
                job.dropped = True

    def take(self) -> Job:
        """The next job that somebody still waits for; blocks until there is one."""
        with self._changed:
            while True:
                job = self._rota.take()
                if job is None:
                    self._changed.wait()
                elif not job.dropped:
                    return job


def work(desk: Desk, channel: socket.socket) -> None:
    """Give each job its turns, for ever."""
    while True:
        job = desk.take()
        answer = _next_answer(job)
        if answer is None:
            desk.drop(job.id)
        else:
            channel.sendall(framed(answer))
            desk.put_back(job)


def _next_answer(job: Job) -> Answer | None:
    try:
        return next(job.pieces, None)
    except Exception:
        traceback.print_exc()
        return Failed(job.id)


def _load_and_work(desk: Desk, channel: socket.socket, encoder: list[UseEncoder], threads: int) -> None:
    try:
        from arkway.backends.embedding.encoder import DIMENSIONS, UseEncoder

        gc.disable()  # the vocabulary is a million objects that stay: a seventh of the start went into looking at them
        encoder.append(UseEncoder(threads))
        gc.freeze()
        gc.enable()
        for _ in encoder[0].embed(0, ["ready"]):
            pass
        channel.sendall(framed(Ready(DIMENSIONS)))
        work(desk, channel)
    except BaseException:
        traceback.print_exc()
    os._exit(1)  # without its worker the process is of no use, and the reader may be blocked


def _questions(stream: BinaryIO) -> Iterator[Question]:
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        size = LENGTH.unpack(head)[0]
        body = stream.read(size)
        if len(body) < size:
            return
        yield question_from_bytes(body)


def _job(encoder: UseEncoder, question: Embed | Tokenize) -> Job:
    start = encoder.embed if isinstance(question, Embed) else encoder.tokenize
    return Job(question.id, question.caller, start(question.id, question.texts))


def main() -> None:
    """Serves until its input ends. The first argument is the number of threads."""
    threads = int(sys.argv[1])
    channel = socket.socket(fileno=0)
    desk, encoder = Desk(), list["UseEncoder"]()
    threading.Thread(target=_load_and_work, args=(desk, channel, encoder, threads), daemon=True).start()
    try:
        # Nothing is asked before Ready has been said, so the encoder is there when the first question is.
        for question in _questions(channel.makefile("rb")):
            if isinstance(question, Drop):
                desk.drop(question.id)
            else:
                desk.put(_job(encoder[0], question))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
