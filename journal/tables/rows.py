"""``Rows``: the rows of a job as a sequence, which can be converted to tables of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, NoReturn

from journal.errors import load_extra
from journal.format.arguments import no_attribute
from journal.history.history import History
from journal.index.columns import View
from journal.store.journal import Journal
from journal.store.row_reader import RowSequence

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Rows(RowSequence):
    """The rows of a job, as of the time when this object was made.

    Later changes of the job don't affect these rows.

    This is a sequence of :class:`JobRow`. ``len(rows)`` reads nothing. ``rows[0]``, slices and
    iteration read rows from the file on access. The file stays open as long as the sequence is in
    use. If the file was changed in place, reading raises JournalDamagedError.

    A table of the rows begins with the columns of the data, in the order in which they occur. Then
    come the columns of the journal. `journal help export` lists them, and describes their types.

    - If the data has a column with one of these names, the journal's column gets the prefix
      ``journal_``.
    - Some columns of the journal are left out if no row uses them.

    The methods ``to_...`` take ``columns``: the names of the columns of the table, in order. A name
    with dots, such as ``result.price``, selects a member of a nested object, unless the data has a
    column of this name.

    These methods raise InvalidValueError for a name in ``columns`` that no row has. The methods
    raise MissingExtraError if the library isn't installed.

    A library that reads Arrow's C stream can read this object directly. Examples are
    ``polars.DataFrame(rows)``, ``pyarrow.table(rows)`` and ``duckdb.sql("FROM rows")``.
    """

    def __init__(self, journal: Journal, view: View, history: History) -> None:
        """The caller must hold the journal's mutex.

        Make ``history`` before ``view``, since making ``history`` may read newer commits.
        """
        super().__init__(journal, view)
        self._history = history

    def to_dicts(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return a list with a dict for each row. All dicts have the same keys, in the same order.

        Times are aware datetimes in UTC. Nested values are lists and dicts. Missing values are
        None. See :class:`Rows` for ``columns``.
        """
        from journal.tables.columns import check_options  # noqa: PLC0415  (when it is used)
        from journal.tables.table import Table, chunks_of_rows  # noqa: PLC0415

        options = check_options(columns)
        table = Table(options)
        parts = []
        for chunk in chunks_of_rows(self, self._history, options):
            found = {key: values for key, (_, values) in table.add(chunk).items()}
            parts.append((chunk.size, found))
        table.choose()
        names = tuple(table.keys)
        dicts = []
        for size, found in parts:
            cells = table.in_order(found, size)
            rows = zip(*cells, strict=True) if cells else repeat((), size)
            dicts += [dict(zip(names, row, strict=True)) for row in rows]
        return dicts

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows as a ``pyarrow.Table``. Each column has one type for all of its values.

        Nested values, and values that have no common type, are JSON text. See :class:`Rows` for the
        arguments and the columns. This method needs memory for up to two copies of the table, and 17
        bytes for each row of the job. It needs pyarrow.
        """
        return self._arrow("to_arrow()", columns)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows as a ``pandas.DataFrame``, made from the table of :meth:`to_arrow`.

        Columns of integers and booleans with missing values have the pandas types Int64 and
        boolean. So integers don't become floats. See :class:`Rows` for ``columns``. This method
        needs pandas and pyarrow.
        """
        from journal.tables.arrow import pandas_frame  # noqa: PLC0415

        load_extra("pandas", "to_pandas()", "pandas")  # before the rows are read
        table = self._arrow("to_pandas()", columns)
        frame: pd.DataFrame = pandas_frame(table)
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the table of :meth:`to_arrow` as an Arrow C stream, in a PyCapsule."""
        return self._arrow("a table of the rows").__arrow_c_stream__(requested_schema)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        """Raise TypeError. Otherwise, ``pandas.DataFrame(rows)`` would be one column of objects."""
        raise TypeError("pandas and NumPy can't read these rows themselves: use rows.to_pandas()")

    if not TYPE_CHECKING:  # type checkers must not accept every name

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(self, name, {})

    def _arrow(self, purpose: str, columns: Sequence[str] | None = None) -> Any:
        from journal.tables.arrow import arrow_table  # noqa: PLC0415  (only when it is used)
        from journal.tables.columns import check_options  # noqa: PLC0415

        return arrow_table(self, self._history, check_options(columns), purpose)
