"""Whole runs: begin, train, resume, judge, use; a module to a verb. Knows all other packages."""
