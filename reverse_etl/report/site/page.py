"""The page of a project, in one file: style, script and data are in it, and it loads nothing.

A browser runs this script and no other: the policy in the page names its digest. The data is JSON that no browser runs.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files

from reverse_etl.report.site.packed import packed
from reverse_etl.runs.site_facts import Site


@dataclass(frozen=True)
class Assets:
    """The texts of assets/."""

    html: str
    css: str
    js: str


def assets() -> Assets:
    folder = files("reverse_etl.report.site").joinpath("assets")
    return Assets(*(folder.joinpath(f"page.{end}").read_text(encoding="utf-8") for end in ("html", "css", "js")))


def page(site: Site, made_of: Assets) -> str:
    """The whole page."""
    data = json.dumps(packed(site), ensure_ascii=False, separators=(",", ":"))
    parts = {
        "TITLE": escape(" · ".join(dict.fromkeys((site.project, site.target)))),
        "POLICY": escape(_policy(made_of)),
        "CSS": made_of.css,
        # Whatever is in it, `</script>` and `<!--` are not.
        "DATA": data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
        "JS": made_of.js,
    }
    before = made_of.html
    found = list[str]()
    for name, text in parts.items():  # in their order in the page, so that none is looked for in another
        head, _, before = before.partition(f"@{name}@")
        found += [head, text]
    return "".join([*found, before])


def _policy(made_of: Assets) -> str:
    return (
        f"default-src 'none'; script-src '{_digest(made_of.js)}'; style-src '{_digest(made_of.css)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
