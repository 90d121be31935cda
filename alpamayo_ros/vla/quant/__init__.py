"""Weights in fewer bits: which there are, their codecs, the modules that hold them, checkpoints."""
