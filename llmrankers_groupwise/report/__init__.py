"""A comparison of runs as one HTML file, to be looked at in a browser."""

from llmrankers_groupwise.report.page import ReportInputs, write_report

__all__ = ["ReportInputs", "write_report"]
