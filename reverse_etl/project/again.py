"""What it does to send every row of a sync again. Pure.

IS_SAFE            nothing that the first time has not done
MAY_OPT_IN         ends opt-outs that were made in Braze since
COUNTS_TWICE       Braze has every event and purchase twice
CANNOT_BE_UNDONE   deletes or merges again, also who has come back since
"""

from enum import Enum

from reverse_etl.project.spec import Sync


class Resend(Enum):
    """What it does to send every row again."""

    IS_SAFE = "safe"
    MAY_OPT_IN = "may opt in"
    COUNTS_TWICE = "counts twice"
    CANNOT_BE_UNDONE = "cannot be undone"


def resend_of(sync: Sync) -> Resend:
    """What it does to send every row of a sync again, whichever columns its model has."""
    if sync.mode.ends:
        return Resend.CANNOT_BE_UNDONE
    if not sync.mode.is_idempotent:
        return Resend.COUNTS_TWICE
    has_consent = any(field.consent for field in sync.mode.fields)
    return Resend.MAY_OPT_IN if has_consent else Resend.IS_SAFE
