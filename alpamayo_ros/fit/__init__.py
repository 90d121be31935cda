"""Which model, precision, runtime and number of samples fit which device: arithmetic alone."""
