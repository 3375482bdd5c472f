"""The control plane: the vendor's OpenAPI actions on endpoints, and temporary API keys (protocol §8).

`arkway.control.actions` is the table of actions, `arkway.control.plane` does them; bytes and envelopes are
`arkway.dialects.control`'s.
"""

from arkway.control.access import Access, Certificate, RateLimits, Resources
from arkway.control.plane import ControlPlane

__all__ = ["Access", "Certificate", "ControlPlane", "RateLimits", "Resources"]
