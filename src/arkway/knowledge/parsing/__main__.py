"""The child process: one file from standard input, one answer to standard output, then the end."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO, Final

import msgspec

from arkway.knowledge.chunking import chunk
from arkway.knowledge.parsing.confinement import confine
from arkway.knowledge.parsing.frames import LENGTH, Answer, Failure, Question, Success, Unequipped, framed
from arkway.knowledge.parsing.kinds import parse
from arkway.knowledge.parsing.parsed import Unreadable, shown_mib

ENDED: Final = "the file could not be read: its parser has failed; save it again or split it"


def main() -> None:
    """Answer the one question. Whatever libraries print goes nowhere."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    source = sys.stdin.buffer
    size = LENGTH.unpack(source.read(LENGTH.size))[0]
    question = msgspec.msgpack.decode(source.read(size), type=Question)
    answer = _answer(question, source, isolated=confine(question.limits))
    with open(answers, "wb") as out:
        out.write(framed(answer))


def _answer(question: Question, source: BinaryIO, *, isolated: bool) -> Answer:
    try:
        parsed = parse(question.file_name, source.read(question.size_bytes), question.limits)
        if not question.chunk_limit:
            return Success(parsed, isolated)
        chunks = chunk(parsed, question.document_id, question.chunk_limit)
        return Success(msgspec.structs.replace(parsed, markdown="", outline=()), isolated, chunks)
    except Unreadable as error:
        return Failure(error.reason, error.message, error.detail[:1000])
    except MemoryError:
        return Failure("memory", out_of_memory(question.limits.memory_bytes))
    except ModuleNotFoundError as error:
        return Unequipped(error.name or "")
    except BaseException as error:  # a defect, ours or a library's, that this file has found
        return Failure("killed", ENDED, repr(error)[:1000])


def out_of_memory(memory_bytes: int) -> str:
    """What to tell the owner of a file that takes too much memory."""
    return f"the file takes more than {shown_mib(memory_bytes)} of memory to read; split it into several files"


if __name__ == "__main__":
    main()
