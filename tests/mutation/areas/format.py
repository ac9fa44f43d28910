"""The rules of the format: flips, tails, last lines, records."""

from __future__ import annotations

from mutation.patch import REPAIR, Patch

CORPUS = "tests/format/test_corpus.py"
UNENDED = "tests/format/test_unended.py"
LONG = "tests/fuzz/test_long_commits.py"
STRANGE = "tests/format/test_hostile.py tests/format/test_corpus.py"

PATCHES = [
    Patch(
        "a last seal is compared bit by bit",
        "format/bitflip",
        "    if wrong.bit_count() == 1:\n",
        "    if False:\n",
        f"{LONG} {CORPUS}",
    ),
    Patch(
        "a flip in the contents is looked for in a commit of any length",
        "format/bitflip",
        "    if seal and body <= _MAX_BYTES:\n",
        "    if seal and body <= 11_450:\n",
        LONG,
    ),
    Patch(
        "a flip is one of the bits there are",
        "format/bitflip",
        "            return (at, place[1]) if at >= 0 else None\n",
        "            return at, place[1]\n",
        LONG,
    ),
    Patch(
        "a search for a flip goes on before the last kilobyte",
        "format/bitflip",
        "    for skipped in range(0, length, _STRIDE_BYTES):\n",
        "    for skipped in range(0, min(length, _STRIDE_BYTES), _STRIDE_BYTES):\n",
        LONG,
    ),
    Patch(
        "what is put back makes sense",
        "format/torn_tail",
        "            if not ended or not _is_record(text):\n",
        "            if not ended:\n",
        REPAIR,
    ),
    Patch(
        "a repair reads the bit that was put back",
        "repair/salvage",
        "            source = Unflipped(source, region.flip)\n",
        "            pass\n",
        f"{REPAIR} {LONG}",
    ),
    Patch(
        "the blocks that a seal lies in were written",
        "format/torn_tail",
        "    written = {seal // _BLOCK_BYTES, (region.end - 1) // _BLOCK_BYTES}\n",
        "    written: set[int] = set()\n",
        f"{CORPUS} {REPAIR}",
    ),
    Patch(
        "a commit that matches its seal is no torn tail, however long a line of it",
        "format/torn_tail",
        " or _matches_seal(file, region):\n",
        ":\n",
        LONG,
    ),
    Patch(
        "a commit with a seal is judged without what follows it",
        "format/torn_tail",
        "        region = region._replace(end=region.sealed_end)\n",
        "",
        CORPUS,
    ),
    Patch(
        "a last commit counts without its LF",
        "format/scan",
        "        stated = stated_crc(text) if ended or end == size else None\n",
        "        stated = stated_crc(text) if ended else None\n",
        f"{UNENDED} {CORPUS}",
    ),
    Patch(
        "that a last commit lacks its LF is told",
        "format/survey",
        'follows and region.kind == "good" and home in',
        "follows and home in",
        f"{UNENDED} {CORPUS}",
    ),
    Patch(
        "a reader believes a commit without its LF only with writers locked out",
        "store/reader",
        "        if not locked:\n            self._look_again()",
        '        if not locked and tail.kind != "unended":\n            self._look_again()',
        UNENDED,
    ),
    Patch(
        "a copy believes a commit without its LF only with writers locked out",
        "transfer/copies",
        '    if tail.kind == "unended" and locked:\n',
        '    if tail.kind == "unended":\n',
        UNENDED,
    ),
    Patch(
        "a reader knows the commit without its LF when it looks again",
        "fs/handles",
        "            return size if size != self.unended_at else size + 1\n",
        "            return size\n",
        UNENDED,
    ),
    Patch(
        "a missing LF is read",
        "fs/handles",
        "        if missing and offset + length - missing == self.unended_at:\n",
        "        if False:\n",
        UNENDED,
    ),
    Patch(
        "a missing LF is put back before the next commit",
        "store/recovery",
        "            file.end_last_line()\n",
        "            pass\n",
        f"{UNENDED} {CORPUS}",
    ),
    Patch(
        "a missing LF is put back once",
        "fs/handles",
        "        if self.size_bytes() == self.unended_at:\n",
        "        if True:\n",
        UNENDED,
    ),
    Patch(
        "no hint stands for a commit that isn't there to the last byte",
        "store/reader",
        "        if self.file.unended_at >= 0:  #",
        "        if False:  #",
        UNENDED,
    ),
    Patch(
        "a tail is looked at again when it may have become a commit without its LF",
        "store/reader",
        'SEALED_LINE_END.search(end + b"\\n")',
        "SEALED_LINE_END.search(end)",
        UNENDED,
    ),
    Patch(
        "a job of one line without its LF is listed",
        "store/store",
        "        with self.peek(job_id).reading() as index:  # raises",
        "        raise JobNotFoundError(job_id)\n        with self.peek(job_id).reading() as index:  # raises",
        UNENDED,
    ),
    Patch(
        "verify counts a commit without its LF",
        "verify",
        "        if region.good:\n",
        '        if region.kind == "good":\n',
        f"{UNENDED} {CORPUS}",
    ),
    Patch(
        "a flipped bit makes no newer format",
        "format/torn_tail",
        " and find_flip(file, first) is None:\n            return",
        ":\n            return",
        CORPUS,
    ),
    Patch(
        "a newer format with good seals is newer for who compares",
        "transfer/copies",
        "        if first.good:\n            raise read_error",
        "        if False:\n            raise read_error",
        CORPUS,
    ),
    Patch(
        "lines that aren't UTF-8 are damage",
        "index/replay",
        "        sane = lines[done:] if is_ascii else _utf8(lines[done:])\n",
        "        sane = lines[done:]\n",
        STRANGE,
    ),
    Patch(
        "a block is looked at before it counts as ASCII",
        "format/commits",
        "lines, after, ends=True, ascii=chunk.isascii())",
        "lines, after, ends=True, ascii=True)",
        STRANGE,
    ),
    Patch(
        "line 1 is UTF-8",
        "format/decode",
        "    if not line.isascii():  #",
        "    if False:  #",
        CORPUS,
    ),
    Patch(
        "costs have a bound for who opens a job",
        "format/decode",
        "    cost_cents: CostCents | None = None\n",
        "    cost_cents: int | float | None = None\n",
        STRANGE,
    ),
    Patch(
        "logs are found in whatever order their members stand",
        "history/reading",
        " or not line.startswith(_LINE):\n",
        ":\n",
        CORPUS,
    ),
]
