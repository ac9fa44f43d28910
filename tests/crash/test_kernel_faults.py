"""The kernel's own refusals: a full disk, no descriptors left, a device where a journal should be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crash.scenarios import JOB, some_rows
from support.children import Child, journal_path, read_all
from support.platforms import needs_devices

from journal import JobService, JournalDamagedError, StorageError

pytestmark = [
    needs_devices,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here"),
]


# --- a full output ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", f"show {JOB} --json", f"rows {JOB}", "--help"])
def test_an_output_that_cannot_be_written_is_one_line_and_an_exit_code(
    tmp_path: Path, command: str
) -> None:
    some_rows(tmp_path)
    with open("/dev/full", "w") as full:
        done = run_command(tmp_path, command, stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"journal: [Errno 28] {os.strerror(errno.ENOSPC)}"]


def test_a_full_standard_error_hides_no_exit_code(tmp_path: Path) -> None:
    some_rows(tmp_path)
    with open("/dev/full", "w") as full:
        assert run_command(tmp_path, "show missing", stderr=full).returncode == 4
        assert run_command(tmp_path, "list", stdout=full, stderr=full).returncode == 1


def run_command(root: Path, command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "journal", "--root", root, *command.split()],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        text=True,
        timeout=120,
        check=False,
    )


# --- a device in the journal's place ---------------------------------------------------------


def little_memory() -> None:
    import resource  # noqa: PLC0415  (not on Windows)

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


@pytest.mark.parametrize(
    ("command", "device"),
    [("list", "/dev/zero"), (f"rows {JOB}", "/dev/full"), (f"verify {JOB}", "/dev/zero")],
)
def test_a_journal_that_is_an_endless_device_is_a_named_error(
    tmp_path: Path, device: str, command: str
) -> None:
    (tmp_path / JOB).mkdir()
    journal_path(tmp_path, JOB).symlink_to(device)
    done = run_command(tmp_path, command, preexec_fn=little_memory)
    assert done.returncode in {1, 6}
    told = done.stdout + done.stderr
    assert JOB in told
    assert "Traceback" not in told
    assert "unexpected" not in told


def test_nothing_is_written_to_a_journal_that_is_a_device(tmp_path: Path) -> None:
    (tmp_path / JOB).mkdir()
    journal_path(tmp_path, JOB).symlink_to("/dev/full")
    with JobService(tmp_path) as service:
        for change in (
            lambda: service.complete_row(f"{JOB}:1"),
            lambda: service.create_rows(JOB, [{"data": {}}]),
            lambda: service.set_error(JOB, "E", "m"),
        ):
            with pytest.raises((JournalDamagedError, StorageError)):
                change()
    assert os.listdir(tmp_path / JOB) == ["journal.jsonl"]


# --- a full disk -----------------------------------------------------------------------------

FULL_DISK = """
import json, os, sys
from pathlib import Path
from journal import JobService, StorageError
from journal.verify import verify_job

root, job_id = Path(sys.argv[1]) / "jobs", "proven"
path, ballast = root / job_id / "journal.jsonl", Path(sys.argv[1]) / "ballast"
service = JobService(root)
service.create_job("Proven", job_id=job_id, row_data=({"data": {"n": n}} for n in range(9)))
told = {"refused": {}}

def fill():
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return

def acknowledged_until_full():
    count = 0
    while count < 1000:
        try:
            service.set_error(job_id, "E", "x" * 150)
        except StorageError:
            return count
        count += 1

def refused(name, call):
    before = path.read_bytes(), sorted(job.id for job in service.list_jobs())
    try:
        call()
    except StorageError as error:
        told["refused"][name] = [type(error).__name__, getattr(error, "errno", None)]
    after = path.read_bytes(), sorted(job.id for job in service.list_jobs())
    assert after == before, name

def batch():
    with service.batch(job_id):
        for number in range(1, 10):
            service.complete_row(f"{job_id}:{number}", "T" * 1000)

fill()
commits = path.read_bytes().count(b'"crc"')
told["acknowledged"] = acknowledged_until_full()
told["written"] = path.read_bytes().count(b'"crc"') - commits
refused("commit", lambda: service.complete_row(f"{job_id}:1", "T" * 5000))
refused("batch", batch)
rows = ({"data": {"x": "x" * 9000}} for _ in range(300))
refused("stream", lambda: service.create_rows(job_id, rows))
refused("create", lambda: service.create_job("Other", job_id="other"))
refused("start", lambda: service.start_job(job_id))
told["pending"] = service.get_job_summary(job_id)["pending_count"]
told["findings"] = len(verify_job(root / job_id).findings)
ballast.unlink()
with path.open("ab") as file:
    file.write(b"torn" * 3000)
fill()
refused("recovery", lambda: service.complete_row(f"{job_id}:1", "T"))
ballast.unlink()
service.complete_row(f"{job_id}:1", "T")
service.create_job("Other", job_id="other")
service.start_job(job_id)
told["torn"] = [one.stat().st_size for one in path.parent.glob("journal.torn-*")]
told["findings"] += len(verify_job(root / job_id).findings)
told["left"] = os.listdir(root / ".staging")
with JobService(root) as fresh:
    told["right"] = list(fresh.get_rows(job_id)) == list(service.get_rows(job_id))
    told["done"] = fresh.get_job_summary(job_id)["successful_rows"]
print(json.dumps(told))
"""


def test_on_a_full_disk_everything_is_refused_whole_and_works_once_there_is_room(
    tmp_path: Path,
) -> None:
    told = on_a_small_disk(tmp_path, FULL_DISK)
    assert told["acknowledged"] == told["written"]
    assert told == {
        "refused": {
            "commit": ["StorageError", errno.ENOSPC],
            "batch": ["StorageError", errno.ENOSPC],
            "stream": ["StorageError", errno.ENOSPC],
            "create": ["StorageError", errno.ENOSPC],
            "start": ["StorageError", errno.ENOSPC],
            "recovery": ["StorageError", errno.ENOSPC],
        },
        "acknowledged": told["acknowledged"],
        "written": told["acknowledged"],
        "pending": 9,
        "findings": 0,
        "torn": [12000],
        "left": [],
        "right": True,
        "done": 1,
    }


DELETE_ON_FULL_DISK = """
import json, sys
from pathlib import Path
from journal import JobService

with JobService(Path(sys.argv[1]) / "jobs") as service:
    service.create_job("Proven", job_id="proven", row_data=({"data": {"n": n}} for n in range(9)))
    with (Path(sys.argv[1]) / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    print(json.dumps([service.delete_job("proven"), service.get_job("proven")]))
"""


def test_a_job_can_be_deleted_to_make_room_on_a_full_disk(tmp_path: Path) -> None:
    assert on_a_small_disk(tmp_path, DELETE_ON_FULL_DISK) == [True, None]


def on_a_small_disk(mount_point: Path, script: str) -> Any:
    """What the script prints, run with a disk of a MiB of its own at ``mount_point``."""
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare here, so no file system can be mounted")
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=1m none '{mount_point}'"
    if subprocess.run([*space, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here, not even in a namespace of its own")
    python = [sys.executable, "-W", "error", "-c", script, str(mount_point)]
    done = subprocess.run(
        [*space, f'{mount} && exec "$@"', "sh", *python],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- no descriptors --------------------------------------------------------------------------

NO_DESCRIPTORS = """
import resource
from pathlib import Path

def descriptors():
    return len(os.listdir("/dev/fd"))

root = Path(root)
service = JobService(root)
service.skip_row(f"{job_id}:9")
service.get_rows(job_id)  # Python imports the module, which needs a descriptor
path = root / job_id / "journal.jsonl"
before = descriptors()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
calls = {
    "get_rows": lambda: list(JobService(root).get_rows(job_id)),
    "commit": lambda: JobService(root).complete_row(f"{job_id}:4"),
    "list": service.list_jobs,
    "create": lambda: service.create_job("Other", job_id="other"),
    "start": lambda: service.start_job(job_id),
    "delete": lambda: service.delete_job(job_id),
    "holder": lambda: service.run_holder(job_id),
}
content = path.read_bytes()
told, kept = {}, []
occupied = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
try:
    while True:
        occupied.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for name, call in calls.items():
    try:
        call()
    except JournalError as error:
        told[name] = [type(error).__name__, "Too many open files" in str(error)]
        kept.append(error)
service.complete_row(f"{job_id}:5", "T-5")  # needs none
for fd in occupied:
    os.close(fd)
told["grown"] = path.read_bytes().startswith(content)
assert descriptors() == before, "a descriptor is left"
for call in calls.values():
    if call is calls["delete"]:
        service.update_status(job_id, "paused")
    call()
tell(json.dumps(told))
"""


def test_without_a_free_descriptor_all_that_needs_one_is_refused_and_works_afterwards(
    tmp_path: Path,
) -> None:
    some_rows(tmp_path)
    with Child(NO_DESCRIPTORS, tmp_path, JOB) as child:
        told = json.loads(child.hear())
        child.end()
    refused = ["StorageError", True]
    assert told == {
        "get_rows": refused,
        "commit": refused,
        "list": refused,
        "create": ["StorageError", True],
        "start": refused,
        "delete": refused,
        "holder": refused,
        "grown": True,
    }
    assert read_all(tmp_path, "other")[0] is not None
