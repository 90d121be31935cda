"""A trained student off PyTorch: what an exported one is, its runtimes, its export and measures.

Nothing here imports torch, onnx or onnxruntime before it is needed: the planner node runs a student
on ONNX Runtime alone.
"""
