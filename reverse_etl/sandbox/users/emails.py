"""Email addresses that Braze takes: syntax only, no mailbox is asked. Pure. Source of the rules: (mailval).

Braze also wants a known top-level domain; here any of letters is one, and any that is written in Punycode (a guess).
"""

import re

from reverse_etl.sandbox.exact import Json

_LOCAL = re.compile(r'(?!\.)[^\s"@]{1,64}(?<!\.)')
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?:[a-z]{{2,63}}|xn--[a-z0-9-]{{0,58}}[a-z0-9])")
_PLAIN = re.compile(r"[\w-]+(?:\.[\w-]+)*", re.ASCII)  # that word characters are those of ASCII is a guess
_MICROSOFT = ("msn", "hotmail", "outlook", "live")
_MIN_GMAIL = 2  # characters before the @


def is_email(value: Json) -> bool:
    if not isinstance(value, str):
        return False
    local, at, domain = value.rpartition("@")
    domain = domain.lower()
    if not at or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        return False
    if domain == "gmail.com":
        return len(local) >= _MIN_GMAIL
    if any(name in domain for name in _MICROSOFT):
        return _PLAIN.fullmatch(local.partition("+")[0]) is not None
    return True
