"""The HTML page of results: it is given tables and figures, and writes one file that stands alone."""

from equipoise.report.comparison import Comparison as Comparison
from equipoise.report.comparison import comparison_rows as comparison_rows
from equipoise.report.comparison import comparison_table as comparison_table
from equipoise.report.comparison import plus_minus as plus_minus
from equipoise.report.content import Cell as Cell
from equipoise.report.content import Code as Code
from equipoise.report.content import Figure as Figure
from equipoise.report.content import Note as Note
from equipoise.report.content import Number as Number
from equipoise.report.content import Section as Section
from equipoise.report.content import Table as Table
from equipoise.report.content import csv_text as csv_text
from equipoise.report.content import number_text as number_text
from equipoise.report.markdown import markdown as markdown
from equipoise.report.page import page as page
from equipoise.report.page import write as write
from equipoise.report.summary import Group as Group
from equipoise.report.summary import curve as curve
from equipoise.report.summary import group as group
from equipoise.report.summary import group_table as group_table
from equipoise.report.summary import layers as layers
from equipoise.report.summary import outcome_table as outcome_table
from equipoise.report.summary import run_table as run_table
from equipoise.report.summary import series as series
