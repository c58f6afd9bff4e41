"""Has a run learned anything, and is this data usable: figures, verdicts, checks."""
