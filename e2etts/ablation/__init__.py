"""Experiments that train and compare many systems; measurements of checkpoints and tokens."""
