"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# As edgec does, for tests that import ONNX Runtime before it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
