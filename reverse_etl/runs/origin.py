"""Where a run comes from: the commit of the project, the compiled SQL, and who or what started it.

Looked up for runs that have something to do, and without another process: but whether files differ from the commit is
asked of git, which answers while the run sends.
"""

import getpass
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from reverse_etl.project.models import Compiled
from reverse_etl.project.project import LoadedProject
from reverse_etl.redaction import redact

# Where CI says at which address its run is; of several parts, all have to be there.
_RUNS_OF_CI = (
    "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    "{CI_JOB_URL}",  # GitLab
    "{BUILDKITE_BUILD_URL}",
    "{CIRCLE_BUILD_URL}",
    "{BITBUCKET_GIT_HTTP_ORIGIN}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
    "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",  # Azure DevOps
    "{DRONE_BUILD_LINK}",
    "{TRAVIS_BUILD_WEB_URL}",
    "{BUILD_URL}",  # Jenkins
    "airflow {AIRFLOW_CTX_DAG_ID} {AIRFLOW_CTX_DAG_RUN_ID}",
)
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SOURCES = ("syncs.yml", "syncs", "models", "macros")  # of what is sent
_PATIENCE_S = 2.0  # for git, once the run has sent


def origin_of(project: LoadedProject, model: Compiled, cursor: str | None) -> Mapping[str, str | None]:
    """What is known of where a run comes from; see `OpenRun.came_from`. `cursor` is what is in its SQL of this run."""
    return {
        "git_commit": commit_of(project.folder),
        "sql": redact(_lasting(project, model.sql, cursor)),
        "started_by": started_by(project),
    }


def started_by(project: LoadedProject) -> str:
    """The address of the run of CI, or the user and the machine; and whether a schedule did."""
    by = next(_runs_of_ci(project.environ), None) or who()
    return f"{by}, scheduled" if project.scheduled_time != project.started_at else by


def who() -> str:
    """Who runs this, on which machine; in a container, a user may have a number only."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # of Windows, if no variable has the name
        user = "an unknown user"
        if sys.platform != "win32":
            user = f"user id {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _runs_of_ci(environ: Mapping[str, str]) -> Iterator[str]:
    for address in _RUNS_OF_CI:
        with suppress(KeyError, ValueError):
            found = redact(address.format_map(environ))
            if found.startswith("airflow "):
                yield found
            elif (url := urlsplit(found)).scheme in ("http", "https") and url.hostname:
                yield urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))  # without a password


def _lasting(project: LoadedProject, sql: str, cursor: str | None) -> str:
    """The SQL without what differs in every run, so that its text is kept once."""
    times = {"run_started_at": project.started_at, "scheduled_time": project.scheduled_time}
    drawn = {f"{{{{ {name} }}}}": at for name, at in times.items()}
    for name, at in drawn.items():
        for text in (str(at), at.isoformat()):
            sql = sql.replace(text, name)
    return sql.replace(cursor, "{{ cursor() }}") if cursor else sql


# --- git --------------------------------------------------------------------------------------------------------------


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out; None if there is none, or no git."""
    with suppress(OSError, UnicodeError):
        git = _git_folder(folder)
        head = (git / "HEAD").read_text().strip() if git else ""
        if git and head.startswith("ref: "):
            head = _commit_at(git, head.removeprefix("ref: ")) or ""
        return head if _COMMIT.fullmatch(head) else None
    return None


def _git_folder(folder: Path) -> Path | None:
    for parent in (folder.absolute(), *folder.absolute().parents):
        git = parent / ".git"
        if git.is_dir():
            return git
        if git.is_file():  # a worktree, or a submodule
            return parent / git.read_text().strip().removeprefix("gitdir: ")
    return None


def _commit_at(git: Path, ref: str) -> str | None:
    shared = git / "commondir"
    common = git / shared.read_text().strip() if shared.exists() else git
    for folder in (git, common):
        if (folder / ref).is_file():
            return (folder / ref).read_text().strip()
    packed = (common / "packed-refs").read_text().splitlines() if (common / "packed-refs").exists() else []
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)


class Question:
    """Whether the files of a project differ from its commit. git is asked at once, and heard later."""

    def __init__(self, project: LoadedProject) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            if _git_folder(project.folder) is not None:
                quiet = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]  # nothing of others is run
                command = ["git", "--no-optional-locks", *quiet, "status", "--porcelain", "--", *_SOURCES]
                self._process = subprocess.Popen(
                    command,
                    cwd=project.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )

    def answer(self) -> bool | None:
        """None if git does not say it, or takes too long."""
        if self._process is None:
            return None
        try:
            said, _ = self._process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return None
        return bool(said.strip()) if self._process.returncode == 0 else None
