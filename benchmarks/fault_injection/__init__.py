"""What `benchmarks/faults.py` is made of: mutated files, killed processes, full disks."""
