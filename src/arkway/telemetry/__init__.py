"""Observers of calls: metrics and the access log. They watch, and never wait."""
