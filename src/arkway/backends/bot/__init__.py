"""Bots: a model with a prompt of its own, which looks things up before it answers and says where it has them from.

Reading order: `bots` (what callers see) → `call` (one call) → `question`, `intent`, `functions` (whether, and what, is
looked up) → `errands` (the looking up) → `sources`, `cleaning`, `wording`, `prompt` (what the model gets of it) →
`speech`, `citations` (what the caller gets of its answer) → `counting`, `found` (what it has used).
"""

from arkway.backends.bot.bots import Bots
from arkway.backends.bot.errands import PluginCall, PluginObserver

__all__ = ["Bots", "PluginCall", "PluginObserver"]
