"""Seeded synthetic graphs: the topologies of well-known networks as PyTorch exports them, with random weights."""
