"""Model weights: what is known (catalogue), where they come from (sources), where they lie (store)."""
