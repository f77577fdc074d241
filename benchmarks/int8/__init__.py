"""Quality, cost and latency of int8 artifacts."""
