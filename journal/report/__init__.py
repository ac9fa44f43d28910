"""One HTML page on how a job went.

>>> from journal.report import write_report, report_page

May import: ``export``, ``service``, ``history`` and what is below.
"""

from journal.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
