"""Students: small models distilled from a teacher, in PyTorch; `inputs.py` needs numpy alone."""
