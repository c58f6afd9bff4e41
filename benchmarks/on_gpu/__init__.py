"""The parts of benchmarks/gpu.py: each is a process of its own and writes lines of JSON."""
