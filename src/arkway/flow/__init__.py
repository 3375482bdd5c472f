"""The road of one call: identify → route → admit → run → meter. One page per step; nothing flows back."""
