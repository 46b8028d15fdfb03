"""Manifold intrusion on real tables: the atlas, its page, and the figures."""
