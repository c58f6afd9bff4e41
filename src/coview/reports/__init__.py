"""Reads the files of runs and draws them; never imports torch."""

from coview.reports.comparison import write_comparison
from coview.reports.page import write_report
from coview.reports.records import Record, read_record
from coview.reports.run_comparison import write_run_comparison

__all__ = ["Record", "read_record", "write_comparison", "write_report", "write_run_comparison"]
