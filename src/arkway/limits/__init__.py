"""Limits on what callers use: the arithmetic (`bucket`), held in this process (`memory`) or shared (`valkey`)."""
