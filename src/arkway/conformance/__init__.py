"""Grades any server that claims to speak this wire: what a client would notice, checked byte by byte."""
