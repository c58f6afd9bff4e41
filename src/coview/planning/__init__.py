"""What fits on this machine and in this time, and why."""
