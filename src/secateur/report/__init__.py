"""Figures, tables and one page, made from the records of a run folder alone."""

from secateur.report.build import ReportPaths as ReportPaths
from secateur.report.build import report as report
from secateur.report.build import terminal_table as terminal_table
