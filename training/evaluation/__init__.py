"""Measure plans: against recorded episodes, in the closed loop, and in studies."""
