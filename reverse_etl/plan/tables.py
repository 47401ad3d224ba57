"""The names of retl's own tables, and of the columns that it adds to rows, for all who fill or read them."""

STATE = "retl_state"
RUN = "retl_run"
CHANGES = f"{RUN}.main.changes"
CANDIDATES = f"{RUN}.main.candidates"
GONE = f"{RUN}.main.gone"
ABSENCES = f"{RUN}.main.absences"  # rows of the state that left the model, are back, or have been away too long
RESPELLED = f"{RUN}.main.respelled"
MATCHED = f"{RUN}.main.matched"
RESENT = f"{RUN}.main.resent"  # acknowledged rows that count as new: see `state/uncertain.py`
OUTBOX = f"{RUN}.main.outbox"
ACKNOWLEDGED = f"{STATE}.main.state"
REJECTS = f"{STATE}.main.rejects"
OPT_OUTS = f"{STATE}.main.opt_outs"
IN_DOUBT = f"{STATE}.main.in_doubt"
DELETED = f"{STATE}.main.deleted"  # of a sync that deletes users: hashes of those in its model that it has deleted
RUNS = f"{STATE}.main.runs"
SQLS = f"{STATE}.main.sqls"  # compiled SQL of models, that runs name by its MD5
META = f"{STATE}.main.meta"
OPEN_RUN = f"{RUN}.main.run"
RULES = f"{RUN}.main.rules"
SENT_AT = "_retl_sent_at"
ABSENT_SINCE = "_retl_absent_since"  # since when the model does not return the row; NULL if it does
RUN_ID = "_retl_run_id"  # which run sent the row; never NULL, so that NULL after a join means that there is no row
UNSURE = "_retl_unsure"  # columns for which it is unknown whether Braze has this value or another that was sent
USER = "_retl_user"  # among them: it is unknown whether Braze has the user, without whom it has done nothing
