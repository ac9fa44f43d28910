"""Makes reports. A report is one HTML page about one job.

>>> from journal.report import write_report, report_page

- ``page``: defines ``write_report``, which fills ``templates/report.html``.

Imports allowed: ``tables`` and the layers below it (see ``docs/architecture.md``).
"""

from journal.report.page import report_page, write_report

__all__ = ["report_page", "write_report"]
