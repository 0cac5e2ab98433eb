"""A Kinova Jaco arm at a table, simulated with MuJoCo: scenes, tasks, scripted demonstrations, execution of plans.

Importing this package imports nothing heavy; take what is needed from its modules.
"""
