"""`journal help`: the commands by purpose, the topics, and the pages of `journal/docs`."""

from __future__ import annotations

import re
from importlib.resources import files

import click

from journal.cli.find import did_you_mean
from journal.cli.main import PURPOSES, cli

TOPICS = {
    "python": "a run in a script, a loop of your own, explicit calls",
    "running": "journal run: input, commands, outcomes, limits, settling rows",
    "executors": "handlers in other processes and on other machines",
    "moving": "copies of a job: pack, compare, pull, merge",
    "damage": "what to do about a damaged journal, and what repair keeps",
    "history": "events, log records, and hiding values",
    "export": "CSV, JSON, SQLite, Parquet; DuckDB, Polars, Datasette; a page",
    "exceptions": "all exceptions and exit codes, and what to do about them",
    "guarantees": "what is promised, what is assumed, and how it is tested",
    "format": "the specification of journal.jsonl",
    "architecture": "the source: rooms, the life of a commit, how to change things",
    "commands": "every command with all of its options",
}


def _complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Shell completion: the topics and the commands."""
    names = {*TOPICS, *cli.list_commands(ctx)}
    return sorted(name for name in names if name.startswith(incomplete))


@click.command("help", short_help="List commands and topics, or show the help of one of them.")
@click.argument("topic", required=False, shell_complete=_complete_name)
@click.pass_context
def help_command(ctx: click.Context, topic: str | None) -> None:
    """List the commands by purpose and the topics, or show the help of TOPIC.

    TOPIC is a topic or a command. If a name is both, such as export, the command's help is shown
    and then the page. On a terminal, pages are shown in a pager.

    Example: journal help moving
    """
    if topic is None:
        click.echo(overview(ctx))
        return
    command = cli.get_command(ctx, topic)
    if command is None and topic not in TOPICS:
        known = [*TOPICS, *cli.list_commands(ctx)]
        close = did_you_mean(topic, known) or ["`journal help` lists them"]
        raise click.UsageError("; ".join([f"there is no topic or command {topic!r}", *close]))
    if command is not None:
        context = click.Context(command, info_name=topic, parent=ctx.find_root())
        click.echo(command.get_help(context))
    if topic in TOPICS:
        click.echo_via_pager(page_text(topic))


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
    return f"{formatter.getvalue()}\n`journal help NAME` shows the help of a command or a topic."


def page_text(topic: str) -> str:
    """The page of a topic, without the comments that name its examples for the tests."""
    text = (files("journal") / "docs" / f"{topic}.md").read_text(encoding="utf-8")
    return re.sub(r"^<!-- .* -->\n", "", text, flags=re.MULTILINE).rstrip("\n")
