"""The parts of verification: inputs, the reference, metrics and the report."""
