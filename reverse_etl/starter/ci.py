"""What `retl init --ci` writes, filled in for a project.

github.yml   .github/workflows/retl.yml
gitlab.yml   .gitlab-ci.yml
"""

import json
import re
from collections.abc import Mapping
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import yaml

from reverse_etl.errors import ProjectError
from reverse_etl.project.spec import SPEC_FILE
from reverse_etl.project.spec_targets import SANDBOX
from reverse_etl.starter.writing import all_or_none

DISTRIBUTION = "reverse-etl"
PACKAGE_KEY = "RETL_PACKAGE"
# Where each goes in a repository.
FILES: Mapping[str, str] = {"github": ".github/workflows/retl.yml", "gitlab": ".gitlab-ci.yml"}
_NEEDED = re.compile(r"""\benv_var\(\s*['"](\w+)['"]\s*\)""")  # without a default


def refuse_second(system: str, folder: Path) -> Path:
    """Where the workflow of a CI system goes: in the root of the repository that `folder` is in, or else in `folder`.

    Raises ProjectError if it already exists.
    """
    path = _top(folder) / FILES[system]
    if path.exists():
        raise ProjectError(
            f"{path} already exists", hint="move it away, run this again, then compare the two", code="P080"
        )
    return path


def write_workflow(system: str, folder: Path) -> Path:
    """Write the workflow for the project in `folder`; returns its path. Raises ProjectError if it already exists."""
    path = refuse_second(system, folder)
    text = filled_in(system, (folder / SPEC_FILE).read_text(encoding="utf-8"), _place(folder), installed_from())
    with all_or_none() as writing:
        writing.add(path, text)
    return path


def filled_in(system: str, spec: str, place: str, package: str) -> str:
    """The workflow's text for a syncs.yml at `place` in its repository, with retl from `package`."""
    secrets = sorted(set(_NEEDED.findall(spec)))
    values = {
        PACKAGE_KEY: package,
        "REVIEW_TARGET": _review_target(spec),
        "PROJECT": place,
        "PLAN": f"{place}/plan.md".removeprefix("./"),
        "RUN_RESULTS": f"{place}/target/run_results.json".removeprefix("./"),
        "SECRETS": "\n".join(f"          {name}: ${{{{ secrets.{name} }}}}" for name in secrets)
        or '          NO_COLOR: "1"',
    }
    text = (files(__package__) / f"{system}.yml").read_text(encoding="utf-8")
    return re.sub(r"@@(\w+)@@", lambda found: values[found[1]], text)


def installed_from() -> str:
    """What pip must install to get the retl that is running; empty if it was installed from a local folder."""
    installed = distribution(DISTRIBUTION)
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
    if origin:
        return "" if origin["url"].startswith("file:") else str(origin["url"])
    return f"{DISTRIBUTION}=={installed.version}"


def _review_target(spec: str) -> str:
    """The first target that sends to the sandbox."""
    try:
        targets = yaml.safe_load(spec)["targets"]
        found = [name for name, target in targets.items() if target["destination"]["endpoint"] == SANDBOX]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        what = f"cannot read the targets of {SPEC_FILE}"
        raise ProjectError(what, hint="run `retl ls` to see the errors", code="P081") from error
    if not found:
        hint = "add one: sandbox: {warehouse: ..., destination: {type: braze, endpoint: sandbox}}"
        what = f"no target in {SPEC_FILE} has endpoint: {SANDBOX}, which plans of pull requests need"
        raise ProjectError(what, hint=hint, code="P081")
    return str(found[0])


def _top(folder: Path) -> Path:
    folder = folder.absolute()
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)


def _place(folder: Path) -> str:
    return folder.absolute().relative_to(_top(folder)).as_posix()
