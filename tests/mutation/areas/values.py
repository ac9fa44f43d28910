"""What values become in the journal, and the digits of numbers."""

from __future__ import annotations

from mutation.patch import Patch

RESULTS = "tests/format/test_conversion.py tests/run/test_results.py"
NUMBERS = "tests/cli/test_numbers.py"
TYPED = "tests/run/test_typed_rows.py"

PATCHES = [
    Patch(
        "a Decimal of a typed row has all its digits",
        "run/handler",
        "self._exact = store.service().get_exact_data(row.id)",
        "self._exact = row.data",
        TYPED,
    ),
    Patch(
        "a Decimal of a model of pydantic has all its digits",
        "format/conversion",
        "            return validate(data)\n",
        "            pass\n",
        TYPED,
    ),
    Patch(
        "a result that can't be recorded is kept by its repr",
        "run/outcome",
        "fields[name] = repr_text(value)\n",
        "pass\n",
        RESULTS,
    ),
    Patch(
        "a step's result that can't be recorded is kept by its repr",
        "run/handler",
        "        review.result = repr_text(value)\n",
        "",
        RESULTS,
    ),
    Patch(
        "a NaN of Python's own is not made null",
        "format/conversion",
        'math.isnan(value) and hasattr(value, "tolist")',
        "math.isnan(value)",
        RESULTS,
    ),
    Patch(
        "two keys that become one are refused",
        "format/conversion",
        "        if name in found:\n",
        "        if False:\n",
        RESULTS,
    ),
    Patch(
        "a container around a value is known only until its end",
        "format/conversion",
        "            within.discard(id(item.value))\n",
        "",
        RESULTS,
    ),
    Patch(
        "a number beyond a double is refused",
        "text",
        '            raise ValueError("a number beyond the range of a double")\n',
        "            pass\n",
        NUMBERS,
    ),
    Patch(
        "numbers of one value have one checksum",
        "format/values",
        "        return value.canonical_value\n",
        "        return msgspec.Raw(value.text.encode())\n",
        NUMBERS,
    ),
    Patch(
        "a record that is written again keeps its digits",
        "store/transitions",
        "        data=made.data if data is None else data,\n",
        "        data=row.data if data is None else data,\n",
        NUMBERS,
    ),
    Patch(
        "a number that a double can't hold is text in a database",
        "export/table",
        "                kind = JSON  # JSON text keeps all digits\n",
        "                pass\n",
        NUMBERS,
    ),
    Patch(
        "an export reads all digits",
        "service",
        "journal.index.view(statuses), exact=True)",
        "journal.index.view(statuses))",
        NUMBERS,
    ),
    Patch(
        "a key has no more digits than a double",
        "format/arguments",
        '        check_key_digits(data.get(column), f"row {number}: data.{column}")\n',
        "        pass\n",
        NUMBERS,
    ),
    Patch(
        "rows of the input that don't fit their type are refused",
        "run/input_match",
        '            typed(data, rules.row_type, f"input row {place}")\n',
        "            pass\n",
        TYPED,
    ),
    Patch(
        "two columns of a frame with one name are refused",
        "format/conversion",
        "        if name not in columns[:number]:\n",
        "        if True:\n",
        TYPED,
    ),
]
