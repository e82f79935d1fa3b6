"""Figures, tables and one page, made from the records of a run folder alone."""

from secateur.report.build import ReportPaths as ReportPaths
from secateur.report.build import report as report
from secateur.report.build import terminal_table as terminal_table
from secateur.report.build import write_comparison as write_comparison
from secateur.report.comparison import Comparison as Comparison
from secateur.report.comparison import compare as compare
from secateur.report.gate import violations as violations
