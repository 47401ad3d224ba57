"""What the fields of plans and results mean, for the JSON Schemas of artifacts and the tables in the docs."""

from collections.abc import Mapping

_PLAN = {
    "run_id": "id of the run, as shown by `retl history`",
    "rows": "number of rows that the model returned",
    "in_state": "number of rows in the state before the run",
    "added": "number of model rows that are not in the state",
    "changed": "number of model rows that differ from the state",
    "removed": "number of rows in the state that the model no longer returns",
    "unchanged": "number of model rows that are equal to the state",
    "invalid": "number of rows that retl found invalid; they are not sent",
    "left_out": "number of rows that are sent without some columns, or not at all if nothing else of them differs",
    "previously_rejected": "number of rows that Braze rejected earlier and that are unchanged; they are not resent",
    "withheld": "number of rows that are not sent by this run; `withheld_rows` and `retl rejects` say why",
    "quarantined": "number of withheld rows that wait for the end of their `quarantine`; they are no failure",
    "held": "number of rows in doubt since an earlier run; they are not sent",
    "given_up": "number of rows that are not in Braze, and not waited for until they change; they are not sent",
    "baselined": "number of rows that `retl state baseline` records as already in Braze; they are not sent",
    "marked_accepted": "number of rows in doubt that `retl resolve` marked as accepted; they are not sent",
    "suppressed": "number of rows about users who were erased; they are not sent",
    "uncertain": "number of records that do nothing unless their user exists, whom no sync of the target has sent",
    "opt_outs": "number of records that only opt users out, of rows that are not sent, or not before all opt-outs",
    "to_send": "number of records to send",
    "deletes": "number of records that delete a user",
    "attributes": "number of attributes that the records write",
    "data_points": "number of data points that the records use, on contracts billed by data points",
    "requests": "number of requests, by path of the endpoint",
    "bytes": "size of the records, in bytes",
    "since": "cursor from which an incremental run reads; null if the run reads the whole model",
    "data_tests": "results of the data tests of the sync",
}

# By the name of the class.
DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "Plan": _PLAN,
    "PlannedSync": _PLAN,
    "DeliveryCounts": {
        "accepted": "number of records that Braze accepted",
        "rejected": "number of records that Braze rejected",
        "in_doubt": "number of records that Braze may or may not have accepted, and that are not safe to send twice",
        "unsent": "number of records still to be sent: not sent, or sent without a clear response and to be sent again",
        "unclear": "number of records that are in doubt or still to be sent after an unclear response, by reason",
        "possible_duplicates": "number of records that may reach Braze twice, because of `on_in_doubt: resend`",
        "attributes": "number of attributes that the accepted records wrote",
        "requests": "number of requests that were sent",
    },
    "DataTestResult": {
        "number": "index of the test in the `data_tests` of the sync, from 0",
        "name": "name of the test: its type and its columns",
        "status": "result of the test: pass, warn or fail",
        "failures": "number of rows that fail the test",
        "keys": "primary keys of the first rows that fail the test",
    },
    "InvalidRow": {
        "key": "primary key of the row",
        "identifier": "identifier of the row's user, where the key is NULL or a digest of the row; elsewhere null",
        "column": "column whose value breaks a rule, that is left out, or for which the row is withheld",
        "reason": "why the row is invalid or withheld, or its column left out: the first rule that it breaks",
        "hint": "what to do about it",
        "code": "code of the rule: `retl explain CODE` says more",
    },
    "SilentDrop": {
        "column": "column whose values were dropped or changed; null if whole rows had no effect",
        "reason": "why they were dropped, or what they were changed to",
        "count": "number of values, or of rows",
    },
    "InvalidReason": {
        "column": "column whose values break a rule",
        "reason": "why the rows are invalid, or the column is left out of them",
        "rows": "number of rows for which this is so",
        "code": "code of the rule: `retl explain CODE` says more",
    },
}
