"""Makes reports: one HTML page about one job.

>>> from journal.report import write_report, report_page

- ``page``: the function ``write_report``, which fills ``templates/report.html``.
- ``plots``: the plots on the page, as inline SVG.

May import ``export``, ``service``, ``history`` and what is below them.
"""

from journal.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
