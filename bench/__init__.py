"""Benchmarks, one program per claim: `python -m bench.mixing`; results/bench/README.md holds what they measured."""
