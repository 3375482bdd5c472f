"""Moderation: what callers say and what models answer, held against words, patterns and a moderator of the operator's.

A wrapper around backends. Everything here gives the same text and the same verdict however an answer is cut into
pieces, and never lets a part of what it forbids go out.
"""
