"""`journal help`: the commands by purpose, the topics, and the pages of `journal/docs`."""

from __future__ import annotations

import re
from importlib.resources import files

import click

from journal.cli.main import PURPOSES, cli
from journal.cli.mistakes import did_you_mean, other_names

TOPICS = {
    "tutorial": "the first half hour: run, look, fix, continue",
    "running": "journal run: rows, placeholders, limits, Ctrl-C, kills, settling rows",
    "python": "job.run: handlers, outcomes, costs, options; a loop of your own",
    "outcomes": "how a command sets the outcome of its row: exit statuses, curl, JSON, waiting",
    "outages": "when a service is down, throttles or fails: hold, retries, halt, rates",
    "daily": "a job that runs every day: changed and vanished rows, cron",
    "llm": "calls of language models: costs, throttling, unusable answers",
    "batches": "many rows per call; batches of prompts at a provider",
    "steps": "rows with several side effects, and no repeated side effect",
    "executors": "handlers in other processes, and on other machines with dask",
    "asyncio": "event loops, notebooks, progress, messages and logging",
    "clusters": "one input on many machines: shards, Slurm, Kubernetes, AWS Batch",
    "inputs": "CSV, JSON, Parquet, Excel, SQLite; values and their digits",
    "export": "rows as files and data frames; a page for people",
    "history": "events, log records, attempts, tracebacks",
    "moving": "copies of a job: pack, pull, merge, prune",
    "damage": "what to do about a damaged journal, and what repair keeps",
    "commands": "words of the command line: JOB, ROWS, CONDITION; scripts, completion",
    "exceptions": "all exceptions and exit codes, and what to do about them",
    "guarantees": "what is promised, what is assumed, and how it is tested",
    "platforms": "Linux, macOS and Windows: what is promised and tested on each",
    "format": "the specification of journal.jsonl: commits, seals, damage",
    "records": "the specification of journal.jsonl: what its records mean",
    "stability": "what may change in later versions, and what may not",
    "writers": "how programs write a job's files: locks, syncs, marks",
    "architecture": "the source: rooms, the life of a commit, how to change things",
}


@click.command("help", short_help="List the commands and topics, or show one.")
@click.argument("topic", required=False)
@click.pass_context
def help_command(ctx: click.Context, topic: str | None) -> None:
    """Show the help of TOPIC. Without TOPIC, list the commands by purpose, and then the topics.

    TOPIC is a topic or a command. If a name is both, such as export, the command's help is shown
    first, and then the page. On a terminal, pages are shown in a pager. If TOPIC is any other word,
    the command lists the topics and commands whose help has this word.

    Example: journal help moving
    """
    if topic is None:
        click.echo(overview(ctx))
        return
    name = topic.lower()
    command = cli.get_command(ctx, name)
    if command is None and name not in TOPICS:
        texts = {page: page_text(page) for page in TOPICS}
        for each in cli.list_commands(ctx):
            texts[each] = texts.get(each, "") + _help_of(ctx, each)
        if found := dict.fromkeys([*other_names(name, TOPICS), *_names_with(topic, texts)]):
            click.echo(f"{topic!r} is in: {', '.join(found)} (journal help TOPIC)")
            return
        close = did_you_mean(topic, [*TOPICS, *cli.list_commands(ctx)])
        why = [f"there is no topic or command {topic!r}", *(close or ["`journal help` lists them"])]
        raise click.UsageError("; ".join(why))
    if command is not None:
        click.echo(_help_of(ctx, name))
    if name in TOPICS:
        click.echo_via_pager(page_text(name))


def _help_of(ctx: click.Context, name: str) -> str:
    command = cli.get_command(ctx, name)
    assert command is not None
    return command.get_help(click.Context(command, info_name=name, parent=ctx.find_root()))


def _names_with(word: str, texts: dict[str, str]) -> list[str]:
    """The names whose texts have a word that begins with ``word``, the most frequent first."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}", re.IGNORECASE)
    counts = {name: len(pattern.findall(text)) for name, text in texts.items()}
    return sorted(filter(counts.get, counts), key=counts.__getitem__, reverse=True)


def overview(ctx: click.Context) -> str:
    """The commands by purpose, one line each, then the topics."""
    formatter = ctx.make_formatter()
    for purpose, names in PURPOSES.items():
        with formatter.section(purpose):
            commands = [(name, cli.get_command(ctx, name)) for name in names]
            formatter.write_dl(
                [(name, each.get_short_help_str(100)) for name, each in commands if each]
            )
    with formatter.section("Topics"):
        formatter.write_dl(list(TOPICS.items()))
    ending = (
        "`journal help NAME` shows a command or a topic. For any other word, it lists the topics "
        "with this word."
    )
    return f"{formatter.getvalue()}\n{ending}"


def page_text(topic: str) -> str:
    """The page of a topic. Comments in the page are removed, because only the tests need them."""
    text = (files("journal") / "docs" / f"{topic}.md").read_text(encoding="utf-8")
    return re.sub(r"^<!--.*-->\n", "", text, flags=re.MULTILINE).rstrip("\n")
