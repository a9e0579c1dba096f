"""What scripts/benchmark.py is made of: rows to time, their measurement, whole steps, memory, and the report."""
