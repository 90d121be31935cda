"""From a teacher to a student: labels, losses, training."""
