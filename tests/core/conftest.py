"""Settings of the core's tests: laws are tried on generated cases, the same ones in each run."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "core",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("core")
