"""What people run: demo, test, compare, benchmark. The tests import their parts."""
