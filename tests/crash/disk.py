"""The states that a power cut may leave, built from a recording. The model of the disk:

Files
    The data and the size of a file are durable when ``fsync`` or ``fdatasync`` of the file has
    returned. According to fdatasync(2), it flushes the size too, since without the size the data
    can't be read back.

    Until then, each block may be on the disk as it was at any moment since the last sync. The
    other blocks don't matter for this. A block has 512 bytes (a drive writes them as a whole) or
    4 KiB (the kernel writes them back together). The size may be any size that the file had
    meanwhile, and a long write grows the file block by block. A block within the size that was
    never written has zeros or garbage from a deleted file. So tails come zeroed, stale and with
    holes, and a truncation may be lost under a later write. No block is older than the last sync.

    Each of these cases happens on some file system in some mode (Pillai et al., "All File Systems
    Are Not Created Equal", OSDI 2014). The default modes of ext4, XFS and btrfs don't show the data
    of other files. So garbage is never the text of a journal here.

Names
    A name is durable when ``fsync`` of its directory has returned. A sync of the file says nothing
    about the file's name (fsync(2): "an explicit fsync() on a file descriptor for the directory is
    also needed"). A sync of the directory says nothing about the file's data. The content of a
    directory and the directory's own name also need separate syncs. A file that can't be reached
    from the top is lost.

    Until then, names appear and disappear in any order, with two exceptions. A rename is atomic in
    both of its directories (rename(2), and one transaction in each journaling file system). So a
    sync of either directory makes the rename durable. And changes of one name in one directory
    happen in their order: if a change is there, all earlier changes of this name are there.

A successful sync has its effect, and drives don't lie about syncs. A failed sync fails for good.
The pages of 4 KiB that it should have written keep their old content on the disk, or get zeros,
whatever is written to them later. Later syncs report success all the same (Rebello et al., "Can
Applications Recover from fsync Failures?", ATC 2020). Only pages that were cut off are allocated
anew, and work again. Everything that was on the disk before the scenario acts is durable.

Nothing becomes durable between two syncs. So each state that a cut at any moment may leave is also
possible after a cut just before the next sync. For this reason, cuts are made only just before each
sync, and at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from random import Random
from typing import NamedTuple

from crash.recorder import (
    Acknowledged,
    FailedSync,
    Names,
    Operation,
    Recording,
    Sync,
    Tree,
    Truncate,
    View,
    Write,
)

PAGE_BYTES = 4096
GRAINS_BYTES = (512, PAGE_BYTES)
EXHAUSTIVE = 2048  # up to this number of states of a cut, all are tried, else a sample
REGULAR = 64  # so many prefixes, and so many single blocks, of a long list; fewer for few draws
GARBAGE = bytes(range(128, 256)) * (4096 // 128)  # no text, and no LF in it


class Cut(NamedTuple):
    """A power cut, by the numbers of operations and acknowledgements before it, with the views of
    programs.

    ``first`` is the state at the beginning of the scenario. ``views`` has every moment from the
    last acknowledgement to the cut.
    """

    after: int
    acknowledged: int
    first: Tree
    views: list[Tree]


def distinct_crash_states(
    recording: Recording, draw: Random, draws: int
) -> Iterator[tuple[Cut, Tree]]:
    """:func:`crash_states` without repeated states of the same number of acknowledged calls."""
    seen = set()
    for cut, tree in crash_states(recording, draw, draws):
        state = (cut.acknowledged, frozenset(tree.items()))
        if state not in seen:
            seen.add(state)
            yield cut, tree


def crash_states(recording: Recording, draw: Random, draws: int) -> Iterator[tuple[Cut, Tree]]:
    """Each cut with each state that it may leave. If there are many states, only a sample.

    The sample has every prefix, nothing, everything, everything but one block, one block alone, and
    each choice of names. It also has ``draws`` random states at each grain. States may come twice.
    """
    seen = recording.before.copy()
    sure = recording.before.copy()
    first = seen.tree()
    views = [first]
    acknowledged = 0
    pending: list[Operation] = []
    lost: dict[int, set[int]] = {}  # by file: pages that can't be written any more
    for number, operation in enumerate([*recording.operations, Sync(-1)]):
        if isinstance(operation, Sync):
            cut = Cut(number, acknowledged, first, views)
            for grain in GRAINS_BYTES:
                for state in _states(sure, pending, grain, draw, draws):
                    yield cut, state
            pending = _settle(sure, pending, operation.node)
        elif isinstance(operation, FailedSync):
            _lose(lost, pending, operation.node)
            pending = [_without_lost(one, lost, sure) for one in pending]
        elif isinstance(operation, Acknowledged):
            views = views[-1:]
            acknowledged += 1
        else:
            if isinstance(operation, Truncate):
                pages = lost.get(operation.file, set())
                pages -= {page for page in pages if (page + 1) * PAGE_BYTES > operation.size}
            pending.append(_without_lost(operation, lost, sure))
            seen.apply(operation)
            views.append(seen.tree())


def _lose(lost: dict[int, set[int]], pending: list[Operation], file: int) -> None:
    """The pages that were to be written to a file when its sync failed."""
    for operation in pending:
        if isinstance(operation, Write) and operation.file == file:
            end = operation.offset + len(operation.data) - 1
            pages = range(operation.offset // PAGE_BYTES, end // PAGE_BYTES + 1)
            lost.setdefault(file, set()).update(pages)


def _without_lost(operation: Operation, lost: dict[int, set[int]], sure: View) -> Operation:
    """A write as it reaches the disk: pages that are lost keep what is there."""
    if not isinstance(operation, Write) or not lost.get(operation.file):
        return operation
    data = bytearray(operation.data)
    there = sure.contents.get(operation.file, b"")
    for page in lost[operation.file]:
        first = max(page * PAGE_BYTES, operation.offset)
        end = min((page + 1) * PAGE_BYTES, operation.offset + len(data))
        if first < end:
            kept = there[first:end].ljust(end - first, b"\0")
            data[first - operation.offset : end - operation.offset] = kept
    return operation._replace(data=bytes(data))


def _settle(sure: View, pending: list[Operation], node: int) -> list[Operation]:
    """Make durable what a sync of ``node`` covers; return what it doesn't."""
    names = [operation for operation in pending if isinstance(operation, Names)]
    covered = {
        number
        for number, (changes,) in enumerate(names)
        if any(directory == node for directory, _, _ in changes)
    }
    settled = [names[number] for number in sorted(_with_what_came_before(names, covered))]
    left: list[Operation] = []
    for operation in pending:
        match operation:
            case Names():
                is_settled = any(operation is other for other in settled)
            case _:
                is_settled = isinstance(operation, (Write, Truncate)) and operation.file == node
        if is_settled:
            sure.apply(operation)
        else:
            left.append(operation)
    return left


def _with_what_came_before(names: Sequence[Names], chosen: set[int]) -> frozenset[int]:
    """The chosen changes, and all earlier changes of the same names."""
    closed = set()
    slots: set[tuple[int, str]] = set()
    for number in reversed(range(len(names))):
        touched = {(directory, name) for directory, name, _ in names[number].changes}
        if number in chosen or touched & slots:
            closed.add(number)
            slots |= touched
    return frozenset(closed)


def _states(
    sure: View, pending: list[Operation], grain: int, draw: Random, draws: int
) -> Iterator[Tree]:
    names = [operation for operation in pending if isinstance(operation, Names)]
    data: dict[int, list[Write | Truncate]] = {}
    for operation in pending:
        if isinstance(operation, (Write, Truncate)):
            data.setdefault(operation.file, []).append(operation)
    files = {
        file: _File(sure.contents.get(file, b""), operations, grain)
        for file, operations in data.items()
    }
    choices = _name_choices(names, draw)
    bare = [_named(sure, names, choice) for choice in choices]

    def state(view: View, contents: Sequence[bytes]) -> Tree:
        view = view.copy()
        view.contents.update(zip(files, contents, strict=True))
        return view.tree()

    if len(bare) * math.prod(file.count(EXHAUSTIVE) for file in files.values()) <= EXHAUSTIVE:
        for view, contents in product(bare, product(*(file.every() for file in files.values()))):
            yield state(view, contents)
        return
    whole = [file.at_step(file.steps) for file in files.values()]
    absent = [file.at_step(0) for file in files.values()]
    complete = bare[-1]
    for view in bare:
        yield state(view, whole)
        yield state(view, absent)
    for number, file in enumerate(files.values()):
        for content in file.regular(draw, min(draws, REGULAR)):
            for others in (whole, absent):
                yield state(complete, [*others[:number], content, *others[number + 1 :]])
    for _ in range(draws):
        view = complete if draw.random() < 0.5 else draw.choice(bare)
        yield state(view, [file.any(draw) for file in files.values()])


def _name_choices(names: Sequence[Names], draw: Random) -> list[frozenset[int]]:
    """The choices of changes of names that are on the disk.

    The first choice is none, the last is all.
    """
    count = len(names)
    every = frozenset(range(count))
    chosen: list[set[int]] = []
    if 1 << count <= EXHAUSTIVE:
        chosen += [{i for i in every if subset >> i & 1} for subset in range(1 << count)]
    else:
        chosen += [set(range(end)) for end in range(count)]
        chosen += [{one} for one in every]
        chosen += [set(every - {one}) for one in every]
        chosen += [{i for i in every if draw.random() < 0.5} for _ in range(EXHAUSTIVE // 4)]
    closed = dict.fromkeys(_with_what_came_before(names, one) for one in [set(), *chosen])
    closed.pop(every, None)
    return [*closed, every]


def _named(sure: View, names: Sequence[Names], choice: frozenset[int]) -> View:
    view = sure.copy()
    for number in sorted(choice):
        view.apply(names[number])
    return view


class _File:
    """The states in which the unsynced operations on a file may have left the file.

    ``steps`` is the number of operations. A write counts once for each block that it touches. The
    options of a block are its contents in order. The first is the durable content, or the content
    of a block that was never written.
    """

    def __init__(self, before: bytes, operations: Sequence[Write | Truncate], grain: int) -> None:
        self._before = before
        self._grain = grain
        self._sizes = [len(before)]  # by step
        self._options: dict[int, list[tuple[int, bytes]]] = {}  # by block: since which step
        content = bytearray(before)
        for operation in operations:
            if isinstance(operation, Truncate):
                self._truncate(content, operation.size)
            else:
                self._write(content, operation.offset, operation.data)
        self.steps = len(self._sizes) - 1

    def _write(self, content: bytearray, offset: int, data: bytes) -> None:
        grain = self._grain
        while data:
            length = min(len(data), grain - offset % grain)
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + length] = data[:length]
            self._note(content, offset // grain)
            self._sizes.append(len(content))
            offset, data = offset + length, data[length:]

    def _truncate(self, content: bytearray, size: int) -> None:
        first, end = size // self._grain, -(-len(content) // self._grain)
        del content[size:]
        content.extend(bytes(size - len(content)))
        for block in range(first, end):
            self._note(content, block)
        self._sizes.append(size)

    def _note(self, content: bytearray, block: int) -> None:
        """A block has a new content, since the step under way."""
        start, grain = block * self._grain, self._grain
        if block not in self._options:
            durable = self._before[start : start + grain].ljust(grain, b"\0")
            self._options[block] = [(0, durable)]
            if start >= len(self._before):
                self._options[block].append((0, GARBAGE[:grain]))
        now = bytes(content[start : start + grain]).ljust(grain, b"\0")
        self._options[block].append((len(self._sizes), now))

    def count(self, enough: int) -> int:
        """The maximum number of states of :meth:`every`. Counting stops soon after ``enough``."""
        count = 0
        for size in set(self._sizes):
            states = 1
            for block in self._within(size):
                states *= len(self._options[block])
                if states > enough:
                    return states
            count += states
        return count

    def _within(self, size: int) -> list[int]:
        return [block for block in self._options if block * self._grain < size]

    def every(self) -> Iterator[bytes]:
        for size in dict.fromkeys(self._sizes):
            within = self._within(size)
            for contents in product(*(self._options[block] for block in within)):
                blocks = {
                    block: content for block, (_, content) in zip(within, contents, strict=True)
                }
                yield self._build(size, blocks)

    def at_step(self, step: int) -> bytes:
        """All that was done up to a step, and nothing later."""
        return self._build(self._sizes[step], self._blocks_at(step))

    def _blocks_at(self, step: int) -> dict[int, bytes]:
        blocks = {}
        for block, options in self._options.items():
            blocks[block] = options[0][1]
            for since, content in options[1:]:
                if 0 < since <= step:
                    blocks[block] = content
        return blocks

    def regular(self, draw: Random, most: int) -> Iterator[bytes]:
        """Every prefix; everything but a block; a block alone, in a file that has grown."""
        for step in _some(range(self.steps + 1), draw, most):
            yield self.at_step(step)
        size, whole, nothing = self._sizes[-1], self._blocks_at(self.steps), self._blocks_at(0)
        for block in _some(list(self._options), draw, most):
            for _, content in self._options[block]:
                yield self._build(size, whole | {block: content})
            yield self._build(size, nothing | {block: whole[block]})

    def any(self, draw: Random) -> bytes:
        size = self._sizes[-1] if draw.random() < 0.6 else draw.choice(self._sizes)
        newest = draw.choice((0.1, 0.4, 0.8))
        blocks = {
            block: options[-1][1] if draw.random() < newest else draw.choice(options)[1]
            for block, options in self._options.items()
        }
        return self._build(size, blocks)

    def _build(self, size: int, blocks: dict[int, bytes]) -> bytes:
        grain = self._grain
        content = bytearray(self._before[:size].ljust(size, b"\0"))
        for block, data in blocks.items():
            if block * grain < size:
                content[block * grain : (block + 1) * grain] = data
        return bytes(content[:size])


def _some(items: Sequence[int], draw: Random, most: int) -> Sequence[int]:
    """All items of a short list, or a sample of a long list with both ends."""
    if len(items) <= most:
        return items
    end = max(1, most // 3)
    middle = draw.sample(items[end:-end], most - 2 * end)
    return [*items[:end], *sorted(middle), *items[-end:]]
