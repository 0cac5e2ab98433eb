"""Plan again while a plan is executed: after some moves, when the world departs from it, or when it is stuck."""
