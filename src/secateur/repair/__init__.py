"""Selections that the model's own code accepts: shapes are run, and what stops them is mended."""
