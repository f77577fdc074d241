"""Read a file and run the default passes: `python benchmarks/chain_passes.py FILE`, or `--imports` for imports alone.

A process of its own, so that its CPU time and memory are those of the passes.
"""
