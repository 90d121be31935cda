"""Between a planner and the messages: checks, choice, repair, and a stop where nothing is good."""
