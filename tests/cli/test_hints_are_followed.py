"""No hint that is not followed by a test, or listed here with the reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.test_words import PACKAGE

FOLLOWED_BY = ("test_hints.py", "test_hints_of_projects.py", "test_hints_of_states.py")
_NAMES = {"hint", "_HINT", "HINT", "again", "WAIT", "_HOW_TO_CREATE_ONE"}
# What to do is done outside of retl, or with the version of something that no test has.
NOT_FOLLOWED = {
    "another machine, user, disk or memory": (
        "allow the process more memory",
        "free disk space",
        "make it writable for the current user",
        "make the folder writable for the current user",
        "make the project folder writable: retl writes compiled models there",
        "make the project folder writable: retl writes its artifacts there",
        "make its folder writable for the current user",
        "it contains personal data: run retl as that user",
        "raise the limit (`retl sync --memory-limit 4GB`)",
        "run again from this machine",
        "the run that took over plans again",
        "it knows what was sent from here",
        "run again when the store can be reached",
        "run it again: Braze only queues new fields",
        "use a store that honors them",
        "see the environment variables in docs/state.md",
        "while one process writes a DuckDB file",
        "only its output is lost",
        "something else wrote to it: keep the folder",
        "check the clock of this machine",
        "check it with `retl status",
        "try again after the full hour",
        "check endpoint: this is not how Braze responds",
        "try again, or check endpoint",
        "rows sent without a recorded response are in doubt",
    ),
    "a warehouse in a server": (  # as the tests in tests/warehouses do
        "it is postgresql://[user[:password]@]host[:port]/database",
        "write it as postgresql://[user[:password]@]host[:port]/database",
        "make the model faster, or raise statement_timeout_s",
        "nothing was sent: run it again when",
        "the next command that opens the state drops them first",
        "write it in the SQL of {}, or {}",
        "load it with `dbt seed`",
        "load them with `dbt seed`",
        "change a password that is in it",
        "unit tests run in DuckDB, which is not known to do the same here",
        "cast it to another type, or leave this to `retl plan`",
        "create the schema {}, and let the user of retl create, read and drop tables in it",
        "nothing is lost: run it again when Spark answers",
        "nothing was sent: run it again, once Spark lets such jobs end",
        "nothing is lost: run it again, once Spark lets such jobs end",
        "start the Spark server with a larger one, or with 0, and run it again: nothing is lost",  # the bench does
        "the next command that opens the state records it first",
        "move them: `retl state move {}`; or {}",
        "set diff: engine and state_schema: {} again",
        "restore its tables, then run this again",
    ),
    "a backup": (
        "restore an older version of the object, or delete it: its runs then have no ledger",
        "restore an older version of head.json",
        "; as a last resort, ",  # tests/shared_state/test_shared_state.py
        "restore it from a backup",
        "it was changed, or is of another target or project",
    ),
    "another version or package": (
        "install it: `pip install",
        'upgrade it: `pip install "duckdb',
        "install the version of the package duckdb that wrote it",
        "create and apply the plan with the same version of retl",
        "write this model in DuckDB SQL and remove config(dialect=...)",
    ),
    "a test of its own follows it": (
        "`retl sync NAME` and `retl plan` wait for that with --wait SECONDS",  # tests/project/test_dbt_build.py
        "the next sync would send them again: pass --pin to hold them, or correct the model first",  # test_reverting.py
        "the next sync would clear them again: pass --pin to hold them, or correct the model first",  # test_reverting.py
        "revert the runs of one sync at a time",  # tests/runs/test_reverting.py
        "not reverted: {}",  # what it lists says what to do
        "`retl history` lists the runs",  # tests/runs/test_reverting.py
        "run it alone",  # --unpin
        "pass an external id, an alias name, an e-mail, a phone number, or the key of a row",  # tests/runs/test_why.py
        "run again: opt-outs without a clear response are sent again",  # tests/runs/test_consent.py
        "correct the model, or the attribute in Braze, then run it again: these rows are sent again",  # tests/runs/test_canary.py
        "run again: it sends what is not in doubt",  # tests/runs/test_canary.py
        "run this sync without --canary",  # tests/runs/test_silent_drops_of_canaries.py
        "what Braze has otherwise than sent counts as accepted",  # tests/runs/test_verify.py: a repair
        "send them first: `retl sync {}`",  # tests/runs/test_verify.py
        "{}, or take its value from the data",  # tests/runs/test_flaps.py
        "without --finish-by, or",  # tests/runs/test_finish_by.py
        "send the rest with `retl sync",
        "check that this user is to be deleted",  # tests/runs/test_deletes.py
        "or a name that does not begin with {}",  # tests/records/test_ecommerce.py
        "set a value: Braze drops the event without it ({})",  # tests/records/test_ecommerce.py
        "set a value in each element of {}: Braze drops the event without it",  # tests/records/test_ecommerce.py
        "send amounts as positive numbers, that of a refund, too",  # tests/records/test_ecommerce.py
        "map it to one of these, or leave it out: CASE {}",  # as with the choices of a field
        "put it into {}: {'{}': ...} AS {}",  # tests/records/test_ecommerce.py
        "put your own keys into its {}",  # tests/records/test_ecommerce.py
        "return a list of objects: list({'{}': ..., ...}) AS {}",  # its elements are listed after it
        "or return their opt-outs in the model: see docs/consent.md",  # the model is another one then
        "--read-first`; a baseline would lose opt-outs",  # tests/runs/test_consent.py
        "`consent: {evidence: COLUMN}`",  # tests/runs/test_consent.py
        "check the column name: it is that of the event",  # tests/runs/test_lock.py
        "set the environment variable that it comes from",  # tests/alerts/test_alerts.py
        "run this again: no sync sends the person any more",  # tests/runs/test_forget.py
        "name it by another identifier",  # tests/runs/test_forget.py
        "name one of them by its id",  # tests/runs/test_forget.py
        "name an identifier under which it was erased",  # tests/runs/test_forget.py
        "name its columns external_id",  # tests/runs/test_forget.py
        "remove `renamed_from` from the target, and erase again",  # two targets that were erased from are one now
        "list_filter({}, lambda channel: {})",  # SQL
        "keep the one that says which profile is meant",  # "both kinds of profile": as the row's hint
        "pass a datetime with a time zone",  # tests/api/test_api.py
        "correct user and password in",  # tests/network/test_way_out.py
        "check scheme and port in",  # tests/network/test_way_out.py
        "rename the seed; without it, ref('",  # tests/project/test_dbt.py
        "pass the key itself",  # tests/report/test_canaries.py
        "use --port 0 to pick a free port",  # tests/sandbox/test_sandbox_command.py
        "see `retl COMMAND --help`",  # tests/cli/test_output.py
        # tests/records/test_left_out.py, tests/records/test_warnings.py
        "add the code of its country: +14155552671",
        "write {'inc': 1}, {'add': ['x']} or {'remove': ['x']}",
        # tests/runs/test_merges.py
        "exclude these rows: a user cannot be merged into themselves",
        # tests/runs/test_renames.py
        "return the present one as {}, in another row",
        "return the new ids, which the state has",
        # tests/records/test_rejected_values.py
        "correct it where it comes from: a part of it may be another user",
        "correct it where it comes from; trim({}) removes blanks around it",
        "write it with a + and the code of its country: +14155552671",
        "use the id of the group as the dashboard shows it",
        "return {'longitude': 13.4, 'latitude': 52.5} with numbers",
        "omit device_id, and Braze chooses one",
        "set {} to false for these users: their tokens are added all the same",
        "set {} to true only in rows with push_tokens",
        "use CAST(x AS double) / y",  # tests/project/test_dialects.py
        "write $add with the objects; $remove and $update with",  # tests/records/test_left_out.py
        "name the folder with the workflows",  # tests/starter/test_treasure_data.py
        "name the folder with the *.dig files",  # tests/starter/test_treasure_data.py
        "an export is a task td> with result_connection and result_settings",  # tests/starter/test_treasure_data.py
        "put the text of that file in place of this line, and import again",  # tests/starter/test_treasure_data.py
        "use it as in_zone(scheduled_time, 'Asia/Seoul', days=-1)",  # tests/starter/test_treasure_data.py
        "write the comparison: x = 'true'",  # tests/project/test_dialects.py
        # tests/collect/test_collect.py
        "docs/collect.md shows the keys",
        "pass PEM files that can be read, and the key that belongs to the certificate",
        "pass both, or neither",
        "one collector at a time writes to a folder: end that process",
        # tests/collect/test_erase.py
        "make its files readable and writable, or remove one that is damaged",
        "run this again: a collector has its files for seconds",
        # tests/collect/test_source.py
        "run it again: it reads the files that are there then",
        "add it to the tables of ",
        # tests/project/test_spec_collect.py
        "and put a new key into .env or the environment",
        "such as {record_{}: {}}",
        "write it in the syncs; defaults are {}",  # tests/project/test_spec_files.py
        "remove it: files in syncs/ have {}, and {}... for anchors",  # tests/project/test_spec_files.py
        "rename it: `mv {} {}`",  # tests/project/test_spec_files.py
        "run `retl sync --all` first, or pass --state DIR",  # tests/project/test_selection.py
        "pass --out FILE, too",  # tests/project/test_dbt.py
        # tests/project/test_macros.py
        "nothing to do: retl builds no tables",
        "copy it into the project: templates import and include files by their path in it",
        "keep its SELECT: retl writes no table, and sends the rows",  # tests/project/test_dialects.py
    ),
}


def hints() -> Iterator[tuple[str, str]]:
    """(file:line, text) of each hint in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            value = None
            if isinstance(node, ast.keyword) and node.arg == "hint":
                value = node.value
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "remedy":  # what else, if not of the disk
                value = node.args[1]
            if isinstance(node, ast.Assign) and any(getattr(name, "id", "") in _NAMES for name in node.targets):
                value = node.value
            parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value] if value else []
            for part in parts:
                text = words_of(part)
                if " " in text:
                    yield f"{path.relative_to(PACKAGE)}:{part.lineno}", text


def words_of(node: ast.AST) -> str:
    """A string, with {} for each value that is put into it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(words_of(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "{}"


def test_every_hint_is_followed_by_a_test():
    written = "".join((Path(__file__).parent / name).read_text() for name in FOLLOWED_BY)
    written = re.sub(r'"\s*\n\s*f?"', "", written).replace("\\\\", "").replace('\\"', '"')
    not_followed = [text for texts in NOT_FOLLOWED.values() for text in texts]
    missing, used = [], set()
    for where, hint in hints():
        pieces = [piece.strip(" `;,") for piece in hint.split("{}")]
        listed = [text for text in not_followed if text in hint]
        used.update(listed)
        if not listed and not all(piece in written for piece in pieces if len(piece) > 9):
            missing.append((where, hint))
    assert missing == []
    assert [text for text in not_followed if text not in used] == []
