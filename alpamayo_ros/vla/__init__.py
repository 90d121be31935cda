"""Alpamayo R1 and 1.5 on PyTorch: the released checkpoints' parameters, tokens and arithmetic."""
