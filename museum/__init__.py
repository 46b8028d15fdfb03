"""Pipelines that mix, of others and our own, and what `vicinal.check` finds in them."""
