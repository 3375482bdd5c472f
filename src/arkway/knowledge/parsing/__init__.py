"""Uploaded files made into Markdown. ``parse_in_child`` is the way in for files of strangers, ``parse`` what it runs.

The libraries that read the formats belong to the extra ``knowledge`` and are imported in the child process only.
"""

from arkway.knowledge.parsing.child import Cancelled, chunks_in_child, parse_in_child
from arkway.knowledge.parsing.kinds import KINDS, kind_of, parse
from arkway.knowledge.parsing.parsed import Heading, Limits, Parsed, Unreadable

__all__ = [
    "KINDS",
    "Cancelled",
    "Heading",
    "Limits",
    "Parsed",
    "Unreadable",
    "chunks_in_child",
    "kind_of",
    "parse",
    "parse_in_child",
]
