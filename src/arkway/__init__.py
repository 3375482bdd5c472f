"""Arkway: one self-hosted server that speaks every generation of Volcengine's model API."""

__version__ = "0.1.0"
