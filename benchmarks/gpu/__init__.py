"""`run.py bench gpu`: planning and training at the released models' sizes, in minutes, on one GPU.

`plan.py` lists the parts in the order of their value, `runner.py` gives each a process and a time limit of its own,
`parts/` measures, `pack.py` collects what a GPU machine without internet needs (docs/benchmarks/gpu.md).
"""
