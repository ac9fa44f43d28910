"""A store that may only be read: everything that reads works, everything else says why not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from support.children import journal_path
from support.commands import journal_forks
from support.platforms import IS_ROOT, needs_modes, needs_shell, skip_without
from support.unprivileged import unprivileged

from journal import JobService
from journal.transfer import pull_job
from journal.transfer.pack import Source

JOB, TORN, ENDED = "kept", "torn", "ended"
TAIL = b'{"type":"row_status","row":3,"sta'

# Root may write where the permissions forbid it: so the command is started without the two
# capabilities that allow this (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH). Others need nothing.
# A read-only view of the directory, in a mount namespace that ends with the command.
READ_ONLY_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


class ReadOnlyStore:
    """A store, and how to run a command that may only read it."""

    def __init__(self, root: Path, prefix: list[str]) -> None:
        self.root = root
        self._prefix = prefix

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self._prefix, sys.executable, "-W", "error", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def script(self, text: str, job_id: str = JOB) -> list[str]:
        """The lines that a script prints; ``root``, ``job_id`` and the package are there."""
        begin = "import sys\nfrom journal import *\nroot, job_id = sys.argv[1:]\n"
        done = self.run("-c", begin + dedent(text), str(self.root), job_id)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def command_lines(self, *commands: list[str]) -> list[subprocess.CompletedProcess[str]]:
        begin = ["--root", str(self.root)]
        return journal_forks(self._prefix, *([*begin, *command] for command in commands))

    def content(self) -> dict[str, tuple[bytes, int]]:
        """All files and directories, with what is in them and when they last changed."""
        return {
            str(path): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
            for path in sorted([self.root, *self.root.rglob("*")])
        }


def set_modes(root: Path, directory_mode: int, file_mode: int) -> None:
    for path in [*root.rglob("*"), root]:
        path.chmod(directory_mode if path.is_dir() else file_mode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "jobs"
    with JobService(root, sync="none") as service:
        for job_id in (JOB, TORN, ENDED):
            rows = [{"data": {"n": number}} for number in range(1, 4)]
            service.create_job("Kept", job_id=job_id, row_data=rows)
            service.start_job(job_id)
            service.complete_row(f"{job_id}:1", "T-1", cost_cents=5)
            service.update_status(job_id, "failed" if job_id == ENDED else "paused")
    with journal_path(root, TORN).open("ab") as file:
        file.write(TAIL)
    return root


@pytest.fixture(params=["permissions", "file system"])
def store(root: Path, request: pytest.FixtureRequest) -> Iterator[ReadOnlyStore]:
    if request.param == "permissions":
        prefix = unprivileged()
        set_modes(root, 0o500, 0o400)
        yield ReadOnlyStore(root, prefix)
        set_modes(root, 0o700, 0o600)
        return
    skip_without(needs_shell)
    namespace = "-m" if IS_ROOT else "-rm"
    prefix = ["unshare", namespace, "sh", "-c", READ_ONLY_MOUNT, str(root)]
    try:
        tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare here to mount a read-only file system with")
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    yield ReadOnlyStore(root, prefix)


def test_what_may_only_be_read_is_read(store: ReadOnlyStore) -> None:
    before = store.content()
    assert store.script("""
        service = JobService(root)
        print(service.get_job(job_id).status, sorted(job.id for job in service.list_jobs()))
        print([(row.data["n"], row.status.value) for row in service.get_rows(job_id)])
        print(service.get_row(job_id + ":1").tracking_number)
        print(service.get_job_summary(job_id)["total_cost_cents"], service.run_holder(job_id))
        print(service.list_jobs("running"), service.get_job(job_id).passes)
    """) == [
        "paused ['ended', 'kept', 'torn']",
        "[(1, 'completed'), (2, 'pending'), (3, 'pending')]",
        "T-1",
        "5 None",
        "[] 1",
    ]
    assert store.content() == before


def test_every_change_of_a_read_only_store_is_an_error_that_says_so(store: ReadOnlyStore) -> None:
    before = store.content()
    *refusals, pending = store.script(
        """
        service = JobService(root)
        def batch():
            with service.batch(job_id):
                print("the batch began")
        for change in (
            lambda: service.complete_row("kept:2"),
            lambda: service.complete_row(job_id + ":2"),
            lambda: service.create_rows(job_id, [{"data": {}}]),
            batch,
            lambda: service.update_status(job_id, "running"),
            lambda: service.start_job(job_id),
            lambda: service.recover_job(job_id),
            lambda: service.artifacts_dir(job_id),
            lambda: service.delete_job(job_id),
            lambda: service.create_job("New"),
        ):
            try:
                change()
            except StorageError as error:
                print(error)
        print(service.get_job_summary(job_id)["pending_count"])
    """,
        TORN,
    )
    assert pending == "2"
    assert len(refusals) == 10
    assert all(line.startswith("could not ") for line in refusals), refusals
    words = ("Permission denied", "Read-only file system", "may only be read")
    assert all(any(word in line for word in words) for line in refusals), refusals
    assert store.content() == before


def test_the_commands_that_read_work_where_nothing_may_be_written(store: ReadOnlyStore) -> None:
    before = store.content()
    commands = [["list"], ["verify", "--all"], ["show", JOB], ["show", TORN], ["rows", TORN]]
    for done in store.command_lines(*commands):
        assert (done.returncode, done.stderr) == (0, "")
        assert JOB in done.stdout or TORN in done.stdout or "T-1" in done.stdout
    assert store.content() == before


def test_the_commands_that_write_say_in_one_line_that_nothing_may_be_written(
    store: ReadOnlyStore, tmp_path: Path
) -> None:
    (tmp_path / "rows").write_text("1\n2\n3\n")
    before = store.content()
    new, retried = store.command_lines(
        ["run", str(tmp_path / "rows"), "--lines", "--job", "new", "--", "echo", "{line}"],
        ["retry", ENDED],
    )
    assert (new.returncode, retried.returncode) == (1, 1)
    assert "could not create" in new.stderr
    assert f"{ENDED}/run.lock: " in retried.stderr  # held while the job is reopened
    for done in (new, retried):
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
    assert store.content() == before


def test_a_run_of_a_job_that_may_only_be_read_ends_with_one_error_and_runs_nothing(
    store: ReadOnlyStore, tmp_path: Path
) -> None:
    script = f"""
        import journal
        def handle(row):
            open({str(tmp_path / "ran")!r}, "w").close()
        try:
            journal.open_job(f"{{root}}/{{job_id}}").run(handle, workers=2)
        except StorageError as error:
            print(error)
    """
    before = store.content()
    (refusal,) = store.script(script)
    assert "Permission denied" in refusal or "Read-only file system" in refusal
    assert not (tmp_path / "ran").exists()
    assert store.content() == before


# --- less than all of it ---------------------------------------------------------------------


@needs_modes
def test_a_read_only_journal_in_a_directory_of_ours_is_not_written_to(root: Path) -> None:
    store = ReadOnlyStore(root, unprivileged())
    path = journal_path(root, JOB)
    path.chmod(0o400)
    content = path.read_bytes()
    lines = store.script("""
        service = JobService(root)
        for change in (
            lambda: service.complete_row(job_id + ":2"), lambda: service.start_job(job_id)
        ):
            try:
                change()
            except StorageError as error:
                print(error)
        print(service.run_holder(job_id), len(service.get_pending_rows(job_id)))
    """)
    assert ["may only be read" in line for line in lines] == [True, True, False]
    assert lines[2] == "None 2"
    assert path.read_bytes() == content


@needs_modes
def test_a_torn_tail_that_cannot_be_saved_is_not_cut_off(root: Path) -> None:
    store = ReadOnlyStore(root, unprivileged())
    path = journal_path(root, TORN)
    content = path.read_bytes()
    path.parent.chmod(0o500)  # the journal itself may be written to
    (refusal,) = store.script(
        """
        try:
            JobService(root).complete_row(job_id + ":2")
        except StorageError as error:
            print(error)
    """,
        TORN,
    )
    path.parent.chmod(0o700)
    assert "save the torn tail" in refusal
    assert path.read_bytes() == content


@needs_modes
def test_a_job_that_may_not_even_be_read_is_named_and_does_not_hide_the_others(root: Path) -> None:
    store = ReadOnlyStore(root, unprivileged())
    with JobService(root) as service:
        service.create_job("Hidden", job_id="hidden")
    (root / "hidden").chmod(0)
    listed, shown = store.command_lines(["list"], ["show", "hidden"])
    (root / "hidden").chmod(0o700)
    assert JOB in listed.stdout
    assert "hidden" in listed.stderr
    assert (listed.returncode, listed.stderr.count("\n")) == (6, 1)
    assert "Permission denied" in shown.stderr
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)


def test_a_read_only_store_is_packed_and_pulled_from(store: ReadOnlyStore, tmp_path: Path) -> None:
    before = store.content()
    for job_id in (JOB, TORN):
        assert pull_job(tmp_path / "new", Source(store.root / job_id)).action == "made"
    with JobService(tmp_path / "new") as service:
        service.complete_row(f"{JOB}:2")
    pack = str(tmp_path / "torn.tar.gz")
    packed, compared, same, refused = store.command_lines(
        ["pack", TORN, "-o", pack],
        ["pull", pack, TORN, "--dry-run"],
        ["pull", str(tmp_path / "new" / TORN)],
        ["pull", str(tmp_path / "new" / JOB)],
    )
    assert packed.returncode == 0, packed.stderr
    assert (compared.returncode, "the same commit" in compared.stdout) == (0, True), compared.stderr
    assert same.returncode == 0  # nothing to write
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "could not" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert store.content() == before


@needs_modes
def test_a_root_in_which_nothing_may_be_made_is_refused_by_its_path(tmp_path: Path) -> None:
    root = tmp_path / "jobs"
    root.mkdir(mode=0o500)
    (told,) = ReadOnlyStore(root, unprivileged()).script("""
        try:
            JobService(root).create_job("x")
        except StorageError as error:
            print(error.path, "|", error)
    """)
    assert told.startswith(f"{root} | could not make jobs in {root}: ")
    assert list(root.iterdir()) == []
