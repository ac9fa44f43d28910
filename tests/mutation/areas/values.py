"""What values become in the journal, and the digits of numbers."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a result that can't be recorded is kept by its repr",
        "run/outcome",
        "fields[name] = repr_text(value)\n",
        "pass\n",
        "tests/format/test_values.py::test_a_result_that_cant_be_written_goes_to_review_with_its_repr",
    ),
    Patch(
        "a step's result that can't be recorded is kept by its repr",
        "run/workers/steps",
        "        review.result = repr_text(value)\n",
        "",
        "tests/run/test_results.py::test_each_value_of_a_step_is_its_result_or_its_repr_is_the_rows",
    ),
    Patch(
        "two keys that become one are refused",
        "format/values",
        "            if name in found:\n",
        "            if False:\n",
        "tests/format/test_values.py::test_a_result_that_cant_be_written_goes_to_review_with_its_repr",
    ),
    Patch(
        "a number beyond a double is refused",
        "text",
        '        raise ValueError("a number beyond the range of a double")\n',
        "        pass\n",
        "tests/cli/test_outcomes_of_commands.py::test_a_command_whose_output_can_t_be_read_is_not_repeated_and_its_output_is_kept",
    ),
    Patch(
        "numbers of one value have one checksum",
        "format/values",
        "        if Decimal(shown) == exact:\n",
        "        if False:\n",
        "tests/cli/test_numbers.py::test_the_checksum_of_a_number_is_that_of_the_float",
    ),
    Patch(
        "a record that is written again keeps its digits",
        "store/transitions",
        "        data=made.data if data is None else data,\n",
        "        data=row.data if data is None else data,\n",
        "tests/cli/test_numbers.py::test_numbers_are_kept_where_a_row_is_written_again",
    ),
    Patch(
        "a row of an input that was changed since it was read is recorded as it is",
        "format/values",
        " or encode_json(_decode_any(value.text)) != plain_json(value):\n",
        ":\n",
        "tests/cli/test_numbers.py::test_a_row_that_python_changes_has_the_digits_of_its_floats",
    ),
    Patch(
        "a key has no more digits than a double",
        "format/arguments",
        '        check_key_digits(found.get(column), f"{where}.{column}")\n',
        "        pass\n",
        "tests/cli/test_numbers.py::test_a_key_that_a_double_cant_hold_is_refused",
    ),
]
