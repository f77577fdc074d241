"""Measuring: whole processes, latency of artifacts, operator counts, and the machine they were measured on."""
