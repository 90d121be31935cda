"""A planner backend in a process of its own: its hang or crash is a fault like any other."""
