"""Calibrated cameras: lenses, points to pixels, and one camera's view from another's image."""
