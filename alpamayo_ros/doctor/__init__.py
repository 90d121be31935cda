"""What is wrong with a machine or a running graph, and what to do about it."""
