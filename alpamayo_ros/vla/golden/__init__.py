"""Comparison with arrays that the public reference code produced, stage by stage."""
