"""What scripts/gpu_check.py is made of: the card or what stands in for it, the rows, both sides, and the report."""
