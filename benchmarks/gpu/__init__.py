"""`run.py bench gpu`: planning and training at the released models' sizes, in minutes, on one GPU.

`plan.py` lists the parts by importance, `runner.py` gives each its own process and time limit,
`parts/` measures, `pack.py` collects what a GPU machine without internet needs (docs/benchmarks/gpu.md).
"""
