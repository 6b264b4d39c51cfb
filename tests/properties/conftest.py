"""How many histories are checked: few while one works, many in CI. Fixed seeds: a failure is the same everywhere."""

import os

from hypothesis import HealthCheck, settings

_COMMON = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.register_profile("dev", _COMMON, max_examples=300)
settings.register_profile("ci", _COMMON, max_examples=10_000)
PROFILE = "ci" if os.environ.get("CI") == "true" else "dev"
