"""The control plane's envelope: ``ResponseMetadata`` around every result and every error."""

from arkway.dialects.control.dialect import ControlForm

__all__ = ["ControlForm"]
