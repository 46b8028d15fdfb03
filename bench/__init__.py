"""Benchmarks: one program a claim, `python -m bench.mixing`; docs/performance.md shows what they measured."""
