"""Planning again while a plan is executed: after so many moves, where things departed from it, where it is stuck."""
