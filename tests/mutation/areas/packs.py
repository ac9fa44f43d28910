"""What a pack may hold, and when a job may go because its pack is complete."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a job that has become newer stays",
        "transfer/prune",
        "        if now.updated_at >= before:\n",
        "        if False:\n",
        "tests/transfer/test_prune.py::test_a_job_that_got_newer_meanwhile_is_left_and_the_reason_says_so",
    ),
    Patch(
        "a job's files are looked at before a pack is taken for it",
        "transfer/prune",
        "    _check_complete(copy.directory, snapshot)\n",
        "",
        "tests/transfer/test_prune.py::test_a_job_with_a_file_that_no_pack_can_hold_is_left",
    ),
    Patch(
        "a dry run says that a run works on a job",
        "transfer/prune",
        "        if run_holder(directory) is not None:\n",
        "        if False:\n",
        "tests/transfer/test_prune.py::test_a_cancelled_job_is_left_while_a_run_works_on_its_last_rows",
    ),
    Patch(
        "the packs of a prune are private",
        "transfer/prune",
        "whole_file(path, private=True)",
        "whole_file(path)",
        "tests/transfer/test_prune.py::test_a_pack_is_private_as_the_journal_in_it",
    ),
    Patch(
        "a job that another process has deleted is no result of a prune",
        "transfer/prune",
        "        except JobNotFoundError:  # another process has deleted the job\n            continue\n",
        "",
        "tests/transfer/test_prune.py::test_a_job_that_was_deleted_meanwhile_is_passed_over",
    ),
    Patch(
        "a name in a pack doesn't lead out of the job",
        "transfer/pack_contents",
        'not {"", ".", ".."}.intersection(parts)',
        'not {"", "."}.intersection(parts)',
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "a pack holds artifacts only",
        "transfer/pack_contents",
        "            parts[0] == ARTIFACTS_NAME\n            and 1",
        "            1",
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "an artifact that is removed while it is packed is named",
        "transfer/pack_contents",
        "                except (FileNotFoundError, NotADirectoryError):  # removed since it was listed\n                    self.left_out.append(name)\n",
        "                except (FileNotFoundError, NotADirectoryError):  # removed since it was listed\n                    pass\n",
        "tests/transfer/test_pack.py::test_an_artifact_that_has_gone_since_it_was_listed_is_left_out_and_named",
    ),
    Patch(
        "a file that exists under another name isn't overwritten",
        "transfer/pack_contents",
        "    except FileExistsError as error:\n",
        "    except ZeroDivisionError as error:\n",
        "tests/transfer/test_folded_names.py::test_a_pack_of_two_artifacts_that_are_one_name_here_is_refused_as_a_whole",
    ),
    Patch(
        "a pack holds regular files only",
        "transfer/tarball",
        "if info.type != tarfile.REGTYPE or info.size < 0:",
        "if info.size < 0:",
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "the names in a pack are those of a job's files",
        "transfer/tarball",
        " or not is_packable(name):\n",
        ":\n",
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "nothing follows the end of a pack",
        "transfer/tarball",
        "    stream.finish()\n",
        "",
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "there are no bytes between the files of a pack",
        "transfer/tarball",
        '        if self.take(-size % _BLOCK_BYTES).strip(b"\\0"):\n',
        "        if self.take(-size % _BLOCK_BYTES) is None:\n",
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "padding after the end of a pack is bounded",
        "transfer/tarball",
        'if padding.strip(b"\\0") or len(padding) > PIECE_BYTES:',
        'if padding.strip(b"\\0"):',
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
    Patch(
        "nothing follows the compressed stream of a pack",
        "transfer/tarball",
        "        except (EOFError, zlib.error, gzip.BadGzipFile) as error:\n",
        '        except gzip.BadGzipFile:\n            return b""\n        except (EOFError, zlib.error) as error:\n',
        "tests/transfer/test_pack.py::test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing",
    ),
]
