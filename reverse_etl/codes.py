"""The code of every error, its meaning, and what to do: one table, for `retl explain` and `docs/errors.md`. Pure.

    P   the project, a model or the command is wrong; nothing was tried     exit 2
    D   rows of a model, or a key that was asked for                        exit 1
    B   another process is at it: wait                                      exit 1
    S   the state of a sync cannot be used as it is                         exit 1
    X   a sync did not succeed                                              exit 1
    R   a row is not in Braze

A code is never renamed, nor used for something else. A new error takes the next free number of its letter; tests find
errors without a code, codes that nobody uses, and released ones that are missing.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """What an error is, what it means, and what to do about it; `reason` matches the reasons of invalid rows."""

    title: str
    meaning: str
    remedy: str
    reason: str = ""


REJECTED, IN_DOUBT = "R090", "R091"

CODES: Mapping[str, Code] = {
    "P001": Code(
        "syncs.yml not found",
        "The project folder has no file syncs.yml: it has another name, or is in the folder around it.",
        "Go to the project folder, pass --project-dir, rename the file, or create a project with `retl init`.",
    ),
    "P002": Code(
        "a file of the project cannot be read",
        "A file is not UTF-8 text, or the system does not let retl read it.",
        "Save it as UTF-8, or make it readable for the current user.",
    ),
    "P003": Code(
        "invalid YAML",
        "syncs.yml is not YAML.",
        "Correct the line that the message names; quote strings that begin with * or have a colon and a space.",
    ),
    "P004": Code(
        "not a mapping",
        "The top level of syncs.yml is empty, or not a mapping.",
        "Begin with version, targets and syncs, as the example that `retl init my_project` writes.",
    ),
    "P005": Code(
        "duplicate key",
        "A mapping of syncs.yml has a key twice; YAML would silently use the last one.",
        "Remove one of them.",
    ),
    "P006": Code(
        "unknown key",
        "A mapping of syncs.yml has a key that retl does not know.",
        "Correct or remove it; `retl schema` describes all keys.",
    ),
    "P007": Code(
        "key is not a string",
        "YAML reads a key without quotes as something else: on, no and 2026-11-23 are a boolean or a date.",
        "Put the key in quotes.",
    ),
    "P008": Code(
        "missing key", "A mapping of syncs.yml lacks a key that it needs.", "Add it; `retl schema` describes all keys."
    ),
    "P009": Code(
        "value is not one of those that are valid",
        "A key of syncs.yml has one of a few values, and this is not one of them.",
        "Use a value that the hint lists.",
    ),
    "P010": Code(
        "invalid value",
        "A value of syncs.yml has the wrong type or form.",
        "Write it as the message says; put what YAML reads as a boolean or a date in quotes.",
    ),
    "P011": Code("unknown target", "syncs.yml has no target of this name.", "Correct default_target, or --target."),
    "P012": Code(
        "API key in a file",
        "The API key is written in syncs.yml, which is in git.",
        "Read it from the environment, and create a new key: everybody who can read the file has the one in it.",
    ),
    "P013": Code(
        "former name is a present one",
        "renamed_from is the name of a target or a sync that still exists, or of which another one is the heir.",
        "Remove it: a state moves once, to one sync.",
    ),
    "P014": Code(
        "duplicate name", "Two syncs, unit tests, models or macros have the same name.", "Rename one of them."
    ),
    "P015": Code("unknown sync", "No sync has this name.", "Correct the name; `retl ls` lists the syncs."),
    "P016": Code(
        "model does not exist",
        "The sync refers to a model that is not in models/.",
        "Correct the name, or create models/<name>.sql.",
    ),
    "P017": Code(
        "key is not supported by the mode",
        "The mode of the sync does not support this key.",
        "Remove the key, or change the mode.",
    ),
    "P018": Code(
        "keys exclude each other",
        "Two keys of a sync cannot be combined, or one needs another.",
        "Remove the one that the hint names.",
    ),
    "P019": Code(
        "sync that deletes users",
        "A sync that deletes users, or items of a catalog, must say so: deleting users cannot be undone.",
        "If it is intended, add allow_destructive: true to the sync.",
    ),
    "P020": Code(
        "cycle between syncs", "Each of these syncs runs after another one of them.", "Remove one entry of `after`."
    ),
    "P021": Code(
        "duplicate input of a unit test", "The rows of an input are given twice.", "Combine them under one input."
    ),
    "P022": Code(
        "invalid cron expression",
        "`schedule` is not a cron expression, or never comes due.",
        "Use five fields, such as */15 * * * *, or @daily; in quotes.",
    ),
    "P023": Code(
        "unknown time zone",
        "`timezone` is not a time zone of the IANA database.",
        "Use a name such as Asia/Seoul or UTC.",
    ),
    "P024": Code(
        "API key cannot be used",
        "The environment variable of the API key, or of a key of `collect`, is empty, or holds a character that no key "
        "has.",
        "Set it again, without blanks, line breaks or quotes.",
    ),
    "P025": Code(
        "link out of the project",
        "A file of the project is a symbolic link to something outside of it.",
        "Replace the link with a copy of the file.",
    ),
    "P026": Code(
        "files: entry that models must not read",
        "An entry of `files:` leads to private files.",
        "List the folders or files that the models need.",
    ),
    "P030": Code(
        "invalid Jinja",
        "A model, or a value of syncs.yml, is not valid Jinja.",
        "Correct the line that the message names.",
    ),
    "P031": Code(
        "undefined in Jinja",
        "A template uses a name, or a part of a value, that does not exist.",
        "Use one that the hint names. Macros and variables of dbt are not available.",
    ),
    "P032": Code("unsafe in Jinja", "A template reaches into what templates must not use.", "Remove the expression."),
    "P033": Code(
        "expression fails in Jinja",
        "An expression of a template fails, or calls a function with the wrong arguments.",
        "Correct the expression; the hint says how the function is called.",
    ),
    "P034": Code(
        "variable has no value",
        "var() reads a variable that is not set.",
        "Set it under `vars:`, pass --vars, or add a default to var().",
    ),
    "P035": Code(
        "environment variable is not set",
        "env_var() reads a variable that is not in the environment, nor in .env, or is empty where a value is needed.",
        "Set it, or add a default to env_var(), which counts if the variable is not set at all.",
    ),
    "P036": Code(
        "environment variable is a secret",
        "A template reads a secret; what templates read is written to files.",
        "Use a variable that is not a secret.",
    ),
    "P037": Code(
        "ref() finds nothing",
        "ref() refers to something that is neither a model or a seed, nor known to dbt.",
        "Correct the name; with dbt, run `dbt parse` or `dbt build`.",
    ),
    "P038": Code(
        "ref() or source() is ambiguous",
        "A name means one thing in this project and another in dbt, several things in dbt, or two under `sources` and "
        "`collect`.",
        "Name the dbt package in ref(), or rename one of them.",
    ),
    "P039": Code("cycle between models", "Each of these models refers to another one of them.", "Remove one ref()."),
    "P040": Code(
        "unit test without rows for an input",
        "A model of a unit test reads an input of which no rows are given; unit tests read no tables.",
        "Add the input with its rows to `given`.",
    ),
    "P041": Code(
        "invalid config()", "config() has an unknown key or dialect.", "config(dialect=...) is all that there is."
    ),
    "P042": Code(
        "cursor() in a full run",
        "cursor() has a value in incremental runs only.",
        "Use it inside of is_incremental(), in a model of a sync with `incremental:`.",
    ),
    "P043": Code(
        "no dbt project",
        "A model, or a command, needs a dbt project, and syncs.yml does not define one.",
        "Add dbt: {project_dir: ...} to syncs.yml.",
    ),
    "P044": Code(
        "dbt has no relation for it",
        "dbt knows the name, but builds nothing that can be read: ephemeral, disabled, private, an analysis.",
        "Change it in dbt as the hint says, then run `dbt build`.",
    ),
    "P045": Code(
        "unknown source",
        "dbt does not have this source, or no such table in it.",
        "Correct the name; sources without dbt are declared under `sources:`.",
    ),
    "P046": Code(
        "relation is not in the warehouse",
        "dbt builds the relation in another database than the warehouse of the target, or reads it from a file.",
        "Build a dbt model on it in the warehouse, and ref() that model.",
    ),
    "P047": Code(
        "dbt manifest cannot be used",
        "manifest.json is missing, damaged, too old, or of another warehouse than DuckDB.",
        "Run `dbt parse` with dbt 1.8 or newer and dbt-duckdb; check dbt.project_dir and dbt.target_path.",
    ),
    "P048": Code(
        "unknown version of a dbt model",
        "ref() asks for a version that dbt does not have.",
        "Use a version that the hint lists.",
    ),
    "P049": Code(
        "seed would replace a relation of dbt",
        "`retl seed` would overwrite what dbt builds.",
        "Rename the seed; ref() then finds the relation of dbt.",
    ),
    "P050": Code(
        "SQL cannot be translated",
        "The model is written in another dialect, and its SQL cannot be translated to that of DuckDB without a guess.",
        "Rewrite the part that the message names, or write the model in the SQL of DuckDB.",
    ),
    "P051": Code(
        "SQL error",
        "DuckDB refuses the SQL of a model.",
        "Correct the line that the message names; the compiled SQL is in target/compiled/.",
    ),
    "P052": Code(
        "not a single SELECT",
        "A model must be one SELECT, without statements that write.",
        "Remove the other statements.",
    ),
    "P053": Code(
        "model reads what it must not",
        "A model reads a file, a folder or a URL that is not of the project, or may hold secrets.",
        "List it under `files:` of the warehouse if models may read it; see docs/security.md.",
    ),
    "P054": Code(
        "file of a model does not exist",
        "A model reads a file that does not exist.",
        "Correct the path; relative ones begin in the project's folder.",
    ),
    "P055": Code(
        "extension of DuckDB",
        "A model needs an extension of DuckDB, and models cannot load any; or one for URLs cannot be loaded.",
        "Build a table of it in the warehouse; or install the extension for this user.",
    ),
    "P056": Code(
        "data test with an invalid condition",
        "`where` of a data test is not one SQL condition over the columns of the model.",
        "Write one expression that is true or false.",
    ),
    "P057": Code(
        "warehouse cannot be opened",
        "The file of the warehouse does not exist, or is not a DuckDB file; or DuckDB cannot attach what `path` names.",
        "Correct its path, or create it with `retl seed` or dbt.",
    ),
    "P058": Code(
        "seeds cannot be loaded",
        "A CSV file in seeds/ cannot be read, or the warehouse cannot be written.",
        "Correct the file that the message names.",
    ),
    "P059": Code(
        "function that models cannot call",
        "An extension of DuckDB attaches the warehouse, and a model calls a function that it may not call there.",
        "Put the call into a view of the warehouse, or build a table of what it returns.",
    ),
    "P060": Code(
        "model has no such column",
        "A key of the sync, or a data test, names a column that the model does not return.",
        "Correct the name, or add the column to the model.",
    ),
    "P061": Code(
        "column cannot have this name",
        "Two columns have one name, or a name is reserved, too long, or another field of Braze but for its case.",
        "Rename the column with AS.",
    ),
    "P062": Code(
        "column is not accepted by the mode",
        "The mode sends no columns besides its own.",
        "Remove the column, or list it in exclude_columns.",
    ),
    "P063": Code(
        "column has the wrong type",
        "Braze expects another type in this field, or a listed column is not JSON text.",
        "Change the column as the hint says.",
    ),
    "P064": Code(
        "cursor cannot be used",
        "The cursor is not a timestamp, a date or an integer, or the lookback does not fit it.",
        "CAST it in the model, or change lookback.",
    ),
    "P065": Code(
        "column is missing", "The mode needs a column that the model does not return.", "Add it, or rename one with AS."
    ),
    "P066": Code(
        "alias is defined twice",
        "The alias is in user_alias, and in alias_name and alias_label.",
        "Remove user_alias, or both of the others.",
    ),
    "P070": Code(
        "no syncs selected", "The command needs the names of syncs, a selector, or --all.", "Name syncs, or pass --all."
    ),
    "P071": Code(
        "selector matches nothing",
        "A selector has a method or a form that does not exist, or matches no sync.",
        "Correct it; `retl ls` lists the syncs.",
    ),
    "P072": Code(
        "nothing to compare with",
        "A state: selector needs the manifest of another run.",
        "Pass --state DIR with a manifest.json.",
    ),
    "P073": Code(
        "invalid option",
        "An option of the command has a value that it cannot have.",
        "Use a value as in the hint; `retl COMMAND --help` describes the options.",
    ),
    "P074": Code(
        "unknown option, guard or code",
        "An option of the Python API, a guard or a code does not exist under this name.",
        "Use a name that the hint lists.",
    ),
    "P075": Code(
        "confirmation needed",
        "The command asks before it does something that cannot be taken back, and nobody is there to answer.",
        "Pass --yes if it is intended.",
    ),
    "P076": Code(
        "options exclude each other",
        "Options cannot be combined, or one needs another.",
        "Pass one of them, as the hint says.",
    ),
    "P077": Code("unknown unit test", "No unit test and no sync has this name.", "Correct the name."),
    "P078": Code(
        "name is taken",
        "The state of a sync cannot be renamed while a sync has its name.",
        "Rename the sync in syncs.yml first.",
    ),
    "P079": Code(
        "file cannot be written",
        "A file that the command writes cannot be written.",
        "Free disk space, make its folder writable for the current user, or use another one: the hint says which.",
    ),
    "P080": Code(
        "file already exists", "`retl init` never overwrites files.", "Use an empty folder, or move the file away."
    ),
    "P081": Code(
        "no target for reviews",
        "The CI workflow plans pull requests against the sandbox, and no target sends to it.",
        "Add a target with endpoint: sandbox.",
    ),
    "P082": Code(
        "artifact cannot be used",
        "A file of target/ is missing, damaged, of dbt, or of a newer version of retl.",
        "Run the command that writes it again, or upgrade retl.",
    ),
    "P083": Code(
        "sandbox cannot start",
        "The data file of the sandbox cannot be used, or its port is taken.",
        "Use another file or port, as the hint says.",
    ),
    "P085": Code(
        "plan is for another target",
        "A saved plan is sent to the target that it was created for.",
        "Pass --target with that name.",
    ),
    "P086": Code(
        "not a saved plan",
        "The file cannot be read, is not a plan of retl, is damaged, or of another version.",
        "Create it again with `retl plan NAME --out FILE`.",
    ),
    "P087": Code(
        "plan cannot be decrypted or encrypted",
        "RETL_PLAN_KEY is missing or not the right one, or the package for encryption is.",
        "Set RETL_PLAN_KEY to an age key; install reverse-etl[encrypt].",
    ),
    "P088": Code(
        "plan is not believed",
        "The file was changed after it was created, or created elsewhere.",
        "Create the plan again where it is applied, or pass --digest with what was reviewed.",
    ),
    "P090": Code(
        "rows of a unit test",
        "The given rows of a unit test do not fit its input.",
        "Correct the rows, or the input, at the line that the message names.",
    ),
    "P091": Code(
        "store of the state cannot be used",
        "The settings of the object store in state.path are wrong, or a package is missing.",
        "Correct them as the hint says; docs/state.md lists the environment variables.",
    ),
    "P092": Code(
        "file of the project is too large",
        "Reading a file, or rendering a template, would take too much time or memory: it is too long or too deep.",
        "Write it flatter and shorter; put rows into tables of the warehouse.",
    ),
    "P093": Code(
        "proxy or certificates cannot be used",
        "A variable such as HTTPS_PROXY or SSL_CERT_FILE does not name a proxy, or a file of certificates.",
        "Correct or unset the variable; docs/network.md lists them.",
    ),
    "P094": Code(
        "value that YAML may misread",
        "A warning: YAML reads a value without quotes as something else than it looks like, such as NO as false.",
        "Put it in quotes if it is meant as a string.",
    ),
    "P095": Code(
        "attribute with two types",
        "Two syncs send one attribute as different types: Braze keeps the first, and drops or converts the other one.",
        "CAST it to the same type in both models, or rename it in one of them.",
    ),
    "P096": Code(
        "attribute with two writers",
        "Two syncs of a target write one attribute of the same users, so the last one to run overwrites the other.",
        "Let one of them write it; or, if both are meant to, list it in `shares` of both.",
    ),
    "P097": Code(
        "names of Braze cannot be read",
        "Braze does not list the attributes or events of the workspace: no response, or not a list.",
        "Check the API key and its permissions with the hint, or leave --from-braze out.",
    ),
    "P098": Code(
        "braze.lock.yml not found",
        "`retl lock --check` compares the models with a file that is not there.",
        "Run `retl lock`, and add the file to git.",
    ),
    "P099": Code(
        "names of events cannot be kept",
        "The column name of a sync of events has too many values, or one that cannot be a name.",
        "Correct the column: it is the name of the event, and Braze keeps a list of these names.",
    ),
    "P110": Code(
        "secret is in syncs.yml",
        "A URL, a header or a password of `alerts` or `heartbeat`, or a key of `collect`, is written in syncs.yml.",
        "Write env_var() instead, and create a new secret: this one has been written to a file.",
    ),
    "P111": Code(
        "alert cannot be used",
        "syncs.yml has no alert of that name for the target, or its URL is not one that retl calls.",
        "Correct the name, `targets` of the alert, or the environment variable that the URL comes from.",
    ),
    "P112": Code(
        "command line that is not valid",
        "The command, one of its options, or a value is not one that retl has.",
        "See the command's options with `retl COMMAND --help`.",
    ),
    "P113": Code(
        "variable of digdag",
        "The model has a `${...}`, which digdag fills in before it runs a query; retl would send it as text.",
        "Write the Jinja that the hint names: {{ scheduled_time }}, or {{ var('name') }}.",
    ),
    "P114": Code(
        "Braze cannot be asked by this identifier",
        "`--read-first` asks for the groups of users by external_id, email or phone, and the model has others.",
        "Return one of these; or let the model return the opt-outs of Braze.",
    ),
    "P115": Code(
        "cannot be imported",
        "A file of what is imported is not understood, or none exports to Braze. Nothing was written.",
        "Correct it in a copy of the files, at the line that is named, or leave it out and write that part yourself.",
    ),
    "P116": Code(
        "invalid in_zone()",
        "in_zone() takes a time, a time zone, and optionally days, hours and minutes to move it by.",
        "Use it as in_zone(scheduled_time, 'Asia/Seoul', days=-1).",
    ),
    "P117": Code(
        "label of Treasure Data",
        "A note: a key of a sync, or its value, has the name that Treasure Data's console shows; it is read as retl's.",
        "Nothing has to be done. Write it as the note says, and the note is gone.",
    ),
    "P118": Code(
        "table is not collected",
        "source() refers to a source of `collect`, and to a table that it does not have.",
        "Correct the name; or add the table under `collect`, so that `retl collect` accepts records for it.",
    ),
    "P119": Code(
        "folder of what is collected cannot be used",
        "`path` of `collect` is a URL, a private folder, one that contains the project, or a pattern.",
        "Use a folder of its own, in the project or beside it.",
    ),
    "P120": Code(
        "collector cannot start",
        "There is nothing to collect, its folder cannot be used, its port is taken, or a key or certificate is bad.",
        "Correct it as the hint says; docs/collect.md describes keys, folder and options.",
    ),
    "P121": Code(
        "package of a warehouse is missing",
        "The type of the warehouse needs packages that are not installed.",
        "Install the extra that the hint names.",
    ),
    "P136": Code(
        "file that a template cannot include",
        "{% import %} or {% include %} names a file that is not there, is outside of the project, or has secrets.",
        "Write its path in the project; copy it there first, if it is elsewhere.",
    ),
    "P137": Code(
        "no macro to dispatch to",
        "adapter.dispatch() finds no macro of that name for the warehouse, and none that is the default.",
        "Add default__NAME, or one for the warehouse such as duckdb__NAME, in macros/.",
    ),
    "P138": Code(
        "key that only dbt reads",
        "A note: config() of a model has keys that say how dbt builds a relation; retl builds none.",
        "Nothing has to be done. Without these keys, the note is gone.",
    ),
    "P139": Code(
        "macro of dbt or of a package",
        "A model calls a macro that comes with dbt, or with a package of it such as dbt_utils.",
        "Write the SQL that the hint shows; or build a model with it in dbt, and ref() that model.",
    ),
    "P140": Code(
        "key that files of syncs/ do not have",
        "A file of syncs/ has a key of syncs.yml, such as targets, or one that neither has.",
        "Move it to syncs.yml, or remove it: files of syncs/ have syncs, unit_tests, and x-... for anchors.",
    ),
    "P141": Code(
        "key that has no default",
        "`defaults` has a key that says what one sync is, such as its mode: every sync has its own.",
        "Write it in the syncs.",
    ),
    "P142": Code(
        "records cannot be read back",
        "`--canary` and `retl verify` read users back. Of events and purchases, Braze exports numbers only.",
        "Run the sync without --canary, and look at events in the dashboard. Of whom it deletes, retl keeps no names.",
    ),
    "P143": Code(
        "run that cannot be reverted",
        "The run is unknown or changed nothing; or the ledger lacks it; or Braze keeps what it sent: events.",
        "`retl history` lists the runs; `ledger: {keep: ...}` of a sync says for how long they can be reverted.",
    ),
    "P144": Code(
        "values that the model still returns",
        "A run would be reverted, and the next run of the sync would send the same values again.",
        "Pass `--pin` to keep the values until the model returns others than those that are reverted; or correct the "
        "model first.",
    ),
    "P145": Code(
        "primary key that the mode does not allow",
        "Items of a catalog are identified by their id: under another key, one run could send an item twice.",
        "Remove primary_key, and return one row per id.",
    ),
    "P146": Code(
        "column that no catalog can have",
        "A field of a catalog has a name of letters, digits, - and _; its arrays have strings; it is one of 500.",
        "Rename or CAST the column, or list it in exclude_columns.",
    ),
    "P147": Code(
        "state_schema cannot be used",
        "The schema for tables of acknowledged rows is not there, or the user of retl may not write to it.",
        "Create it, and let that user create, read and drop tables in it. Nothing is sent before that.",
    ),
    "P148": Code(
        "not done with rows in Spark",
        "The acknowledged rows are in Spark (`diff: engine`), where retl does not do this yet; it would miss some.",
        "Use a target with `diff: local`, or move the rows with `retl state move`. docs/engines.md lists what works.",
    ),
    "P149": Code(
        "more rows than Spark's driver passes on",
        "Spark's driver ends a statement whose result is larger than spark.driver.maxResultSize, 1 GB by default.",
        "Start the Spark server with a larger one, or with 0: no limit. Its driver needs memory for the rows.",
    ),
    "P150": Code(
        "variable that nothing reads",
        "--vars has a name that no model, macro or file of syncs reads: a run would not be the one that is meant.",
        "Correct the name, or remove it. A name under `vars:` of syncs.yml is known, whether it is read or not.",
    ),
    "D001": Code(
        "NULL in the primary key",
        "The model returns rows that nothing identifies.",
        "Set a value; or exclude these rows, unless `on_removed` would clear or delete what leaves the model.",
    ),
    "D002": Code(
        "cursor without a value",
        "The cursor of an incremental model is NULL or infinite in a row, and no watermark can pass it.",
        "Exclude these rows, or set a value.",
    ),
    "D003": Code(
        "primary key is not unique",
        "The model returns several rows with one key.",
        "Return one row per key, of subscription states the opt-out; tell events apart by more columns in primary_key.",
    ),
    "D004": Code(
        "several rows for one user",
        "Braze could apply them in any order.",
        "Return one row per user: of subscription states, the opt-out.",
    ),
    "D005": Code(
        "out of memory",
        "DuckDB needs more memory for the model than it may use.",
        "Raise --memory-limit, or free disk space.",
    ),
    "D006": Code(
        "no such row",
        "The state has no row with this key, or none that is in doubt.",
        "List the rows with `retl rejects NAME`, or see the primary key with `retl state show NAME`.",
    ),
    "D007": Code(
        "digest of several keys",
        "Several keys are shown in this form.",
        "Pass the key itself: `retl rejects NAME --show-values` lists keys in full.",
    ),
    "D008": Code(
        "row cannot have been acknowledged",
        "A unit test gives a row as acknowledged that retl would never have sent.",
        "Correct the row of `this`.",
    ),
    "D009": Code(
        "key of several users",
        "What was passed to `retl forget` is an identifier of several users: nobody was erased.",
        'Name one of them by its external id, an alias as \'["NAME", "LABEL"]\'.',
    ),
    "D010": Code(
        "collected file is gone",
        "A file of what was collected was removed between the start of the run and its reading. Nothing was sent.",
        "Run it again: it reads the files that are there then.",
    ),
    "D011": Code(
        "value that does not arrive as it is",
        "A row of the model has a value that DuckDB cannot have in the type of its column.",
        "CAST the column in the model, as the message says.",
    ),
    "D012": Code(
        "model takes too long",
        "The warehouse has ended the query of a model.",
        "Make the model faster, or raise statement_timeout_s of the warehouse.",
    ),
    "D013": Code(
        "nothing is known of it",
        "No state of the target has a row about the person or key, or not with that column or run.",
        "Check the key and the column: an external id, an alias name, an e-mail, a phone number, or the key of a row.",
    ),
    "B001": Code(
        "sync is running",
        "Another process, or another machine, is running the sync.",
        "Run the command again when it has ended, or let `retl sync` wait with --wait SECONDS.",
    ),
    "B002": Code(
        "file is locked",
        "Another process has a DuckDB file open for writing.",
        "Run the command again when it has ended, or let `retl sync` wait with --wait SECONDS.",
    ),
    "B003": Code(
        "collected records are in use",
        "Another process writes to the folder of what is collected, or rewrites its files, and only one can.",
        "Let that process do it, or end it first; collectors of other projects need folders of their own.",
    ),
    "B004": Code(
        "warehouse cannot be reached",
        "The database does not answer, or the connection to it was lost. Nothing was sent.",
        "Run the command again when it answers, or let `retl sync` wait with --wait SECONDS.",
    ),
    "B005": Code(
        "statement was cancelled",
        "Somebody, or a limit of the warehouse, has ended a statement while it ran. Nothing of the model was sent.",
        "Run the command again; if a limit ended it, raise that, or read fewer rows: with an incremental model.",
    ),
    "S001": Code(
        "other mode than before",
        "The rows of the state were sent in another mode: nothing is known of them in the new one.",
        "Give the sync another name, or `retl state reset NAME`.",
    ),
    "S002": Code(
        "other workspace than before",
        "The target sends to another endpoint, or with another API key, than the rows of the state were sent with.",
        "`retl state accept-workspace --all` if it is the same workspace; else use a target of its own.",
    ),
    "S003": Code(
        "other primary key than before",
        "Rows of state and model cannot be compared; of events without primary_key, all columns are the key.",
        "Follow the hint step by step: it sends no event twice.",
    ),
    "S004": Code(
        "column has another type than before",
        "Braze silently drops or converts values whose type changed.",
        "CAST it back; or, but for a primary key, `retl sync NAME --accept-schema-change`: follow the hint.",
    ),
    "S005": Code(
        "rows were pruned",
        "The state no longer has all rows that were sent, and the sync is not incremental by that cursor any more.",
        "Set `incremental:` again.",
    ),
    "S006": Code(
        "state cannot be read",
        "The file of the state, or one beside it, is damaged, missing, or not of retl.",
        "Follow the hint, which fits the mode: the newest backup does not know what was sent since.",
    ),
    "S007": Code("state of a newer version", "A newer version of retl has written the state.", "Upgrade retl."),
    "S008": Code(
        "state of another sync",
        "The file, or the object store, holds the state of another sync or target.",
        "Restore the right file; use a state.path of its own for each project.",
    ),
    "S009": Code(
        "disk or memory of the state",
        "A disk is full or broken, or recording a run needs more memory than it may use.",
        "Free disk space or raise --memory-limit, then run again: what Braze responded is recorded.",
    ),
    "S010": Code(
        "state folder cannot be used",
        "The folder of the state cannot be written, is a link, or others can read it.",
        "Make it writable, and readable for nobody else; remove the link; or free disk space.",
    ),
    "S011": Code(
        "state is in its previous location",
        "state.path changed, and the state was not moved.",
        "Move the folder as the hint says.",
    ),
    "S012": Code(
        "state was moved",
        "The sync was renamed, and this checkout still has its former name.",
        "Update the checkout; for a new sync of that name, `retl state reset NAME`.",
    ),
    "S013": Code(
        "rows were sent under another name",
        "A first run would send rows that a state which no sync claims has sent already.",
        "Add renamed_from to the sync or the target.",
    ),
    "S014": Code(
        "state cannot be renamed",
        "The former name has no state, or the sync has one already.",
        "Check the names with `retl status`; two states are not merged.",
    ),
    "S015": Code(
        "history cannot be read", "The record of past runs cannot be read.", "Check the state with `retl status NAME`."
    ),
    "S016": Code(
        "plan is refused",
        "The plan was applied already, is too old, or the sync, its model, state or target changed since.",
        "Create a new plan.",
    ),
    "S017": Code(
        "sandbox cannot be reached",
        "The endpoint does not respond, so that nothing tells which sandbox it is.",
        "Start the sandbox, then run the command again.",
    ),
    "S020": Code(
        "store cannot be reached",
        "The object store of the state does not respond, or refuses access.",
        "Check the network, the bucket and the credentials; `retl debug` tests them.",
    ),
    "S021": Code(
        "object of the state is damaged",
        "An object in the store is missing, or not what retl wrote.",
        "Restore an older version of it; see docs/state.md.",
    ),
    "S022": Code(
        "store does not compare before it writes",
        "Two machines could overwrite the state of each other.",
        "Use a store that honors If-Match and If-None-Match.",
    ),
    "S023": Code(
        "another machine took over",
        "The lock of this run expired, and another machine continues from what it knows.",
        "Nothing; docs/state.md says which rows are in doubt.",
    ),
    "S024": Code(
        "shared state was not updated",
        "The run ended, but its result is on this machine only.",
        "Run the sync again from this machine: it uploads what is recorded first.",
    ),
    "S025": Code(
        "local copy is of another store",
        "The folder is a copy of a state in a store that the target does not use any more, or is damaged.",
        "Set state.path back, or move the copy elsewhere.",
    ),
    "S026": Code(
        "erasures cannot be read",
        "The files that say who was erased, or their key, are missing or damaged.",
        "Restore the folder .erased from a backup: nobody else knows who must not be sent again.",
    ),
    "S027": Code(
        "receipt is not one of this target",
        "`retl forget` did not write this file, or not for this target; or it was changed.",
        "Pass the file as retl wrote it, and the --target that it names.",
    ),
    "S028": Code(
        "not deleted in Braze",
        "`retl forget --delete-in-braze` got no success from Braze. No sync sends the person any more.",
        "Do what the hint says, then run the command again.",
    ),
    "S029": Code(
        "users or items not read from Braze",
        "`--read-first`, `--canary` or `retl verify` got no answer from Braze. Nothing was sent.",
        "Do what the hint says. The key needs users.export.ids, for groups subscription.groups.get, for items "
        "catalogs.get_items.",
    ),
    "S030": Code(
        "cannot erase what was collected",
        "`retl forget` could not read or rewrite a file of what was collected, so the person is still in one.",
        "Do what the hint says, then run the command again.",
    ),
    "S033": Code(
        "state was written with a newer DuckDB",
        "Another machine has a newer version of the package duckdb, and the older one cannot read what it wrote.",
        "Use the same version on all machines that share a state.",
    ),
    "S034": Code(
        "local copy is not the shared state",
        "The files in the folder do not contain what the store says; something else has changed or cut them.",
        "Move the folder elsewhere: the state is downloaded again.",
    ),
    "S037": Code(
        "ledger is damaged",
        "A file of the ledger cannot be read.",
        "Restore it from a backup, or delete it: its runs then have no ledger. The state is not affected.",
    ),
    "S038": Code(
        "acknowledged rows are elsewhere",
        "They are in Spark, and the target looks in the state, or the other way round: all would count as new.",
        "`retl state move NAME` moves them, and sends nothing; or set `diff` and `state_schema` as they were.",
    ),
    "S039": Code(
        "tables in Spark may name who was erased",
        "Tables without the person were written; Spark did not drop those that they replace.",
        "Run a command that opens the state when Spark answers, such as `retl forget` again: it drops them first.",
    ),
    "S040": Code(
        "acknowledged rows are missing in Spark",
        "A table of acknowledged rows was dropped, or does not have the rows that retl wrote to it.",
        "Restore it: a lake keeps old versions. If that cannot be, see docs/engines.md.",
    ),
    "S041": Code(
        "what was sent is not recorded in Spark yet",
        "Spark did not take the rows that Braze has accepted. They are in the journal of the run, beside the state.",
        "Run again when Spark answers: the run is recorded before anything else, and nothing is sent twice.",
    ),
    "S042": Code(
        "external ids that were renamed",
        "The model returns ids that a sync has renamed. Their rows have the new ids, and would all be sent again.",
        "Return the new ids, as a join with what was renamed does.",
    ),
    "S043": Code(
        "state is older than what is beside it",
        "An older state.duckdb was put in its place: it lacks a run that the ledger or has-run knows. Nothing is sent.",
        "Restore the newest state.duckdb; as a last resort, follow the hint to start over.",
    ),
    "X001": Code(
        "invalid rows block the run",
        "Rows break a rule, and skip_on_invalid_records is false: nothing is sent.",
        "`retl rejects NAME` lists them with reason and hint.",
    ),
    "X002": Code(
        "guard blocks the run",
        "The run would change more than a guard allows.",
        "Check with `retl plan NAME`; if it is intended, pass --skip-guard to `retl sync NAME`.",
    ),
    "X003": Code(
        "data test blocks the run",
        "Rows of the model fail a data test.",
        "Correct the rows with the keys in the hint, or the model.",
    ),
    "X004": Code(
        "sending stopped",
        "Braze refused the API key, could not be reached, or responses could not be recorded.",
        "Follow the hint, then run again: only what is missing is sent.",
    ),
    "X005": Code(
        "sync was skipped",
        "A sync that it runs after did not succeed, or the command ended before.",
        "Run it again once the others have succeeded: `retl retry`.",
    ),
    "X006": Code(
        "sync did not succeed",
        "Not every row of a sync is in Braze: how a call of the Python API tells it.",
        "See the errors that follow it.",
    ),
    "X007": Code(
        "output could not be written",
        "The command ran to its end, and stdout did not take all that it printed: a full disk, for example.",
        "Read what happened with `retl status` and `retl history`.",
    ),
    "X008": Code(
        "the system refused something",
        "Neither a file of the project nor of a state: the operating system did not give a file or another resource.",
        "Do what the message of the system says, and run again.",
    ),
    "X009": Code(
        "nobody knows who has opted out",
        "The run would opt users in, and the state is new, lost or reset: who of them has opted out is unknown.",
        "Ask Braze: `retl sync NAME --read-first`. A baseline would lose opt-outs that Braze does not have.",
    ),
    "X010": Code(
        "run ended at the time of --finish-by",
        "Sending took longer than planned, and no request starts after that time: rows are still to be sent.",
        "Run it again: it sends what is left. Sending slows down where others use more than `keep_free` leaves them.",
    ),
    "X011": Code(
        "run would not be done by the time of --finish-by",
        "Under the rate limits, what is to be sent takes longer than there is time, or the time has passed.",
        "Run it without --finish-by; or pass --skip-guard finish_by, which sends what it can by then.",
    ),
    "X012": Code(
        "canary stopped the run",
        "The rows that were sent first are not in Braze as they were sent, or could not be read back.",
        "Correct what the message names, in the model or in Braze, then run again: `docs/verify.md`.",
    ),
    "X013": Code(
        "catalog does not fit the model",
        "The catalog is not in Braze, lacks a field for a column, or has it with another type: nothing was sent.",
        "`retl sync NAME --create-catalog` creates what is missing; of a type, CAST the column to that of the field.",
    ),
    "X014": Code(
        "catalog could not be read or created",
        "Braze did not tell which catalogs there are, or did not create one, or its fields: nothing was sent.",
        "Do what the hint says, then run again.",
    ),
    "X020": Code(
        "alert or heartbeat was not delivered",
        "Slack, a webhook, a mail server or the URL of the heartbeat did not take it. The sync is not affected.",
        "Correct it, and check with `retl alert test`; the next command tells what is still so.",
    ),
    "X021": Code(
        "clock is behind",
        "Syncs ran for a time that is in the future: the clock was set back, or another machine's is ahead.",
        "Correct the clock. Until that time is past, those syncs are not due; `retl sync NAME` runs them.",
    ),
    "R001": Code(
        "value is missing",
        "An identifier, or a field that Braze requires, is NULL.",
        "Set a value; or exclude these rows, unless `on_removed` would clear or delete what leaves the model.",
        reason=r"is missing(, and so .*)?",
    ),
    "R002": Code(
        "identifier is ambiguous",
        "A row has two identifiers of which Braze accepts one.",
        "Set all but one of them to NULL.",
        reason=r"is ambiguous: .*",
    ),
    "R003": Code(
        "value is empty",
        "An identifier, or a field that Braze requires, is empty or blank.",
        "Set a value; or exclude these rows, unless `on_removed` would clear or delete what leaves the model.",
        reason=r"is empty",
    ),
    "R004": Code(
        "alias is incomplete",
        "An alias consists of a name and a label, and one of them is missing or empty.",
        "Set both alias_name and alias_label.",
        reason=r"is missing or empty|has no \w+",
    ),
    "R005": Code(
        "type that JSON cannot represent",
        "The column has a value of a type such as BLOB or INTERVAL.",
        "CAST it to VARCHAR, or list it in exclude_columns.",
        reason=r"is of type .*, which JSON cannot represent",
    ),
    "R006": Code(
        "too long",
        "Braze accepts so many characters, and drops or rejects more.",
        "Truncate it; an e-mail address, an id or a URL must be corrected where it comes from.",
        reason=r"is longer than \d+ (characters|bytes)",
    ),
    "R007": Code(
        "NaN or infinity",
        "JSON cannot represent these numbers.",
        "Leave them out with CASE and isfinite().",
        reason=r"(is NaN or infinite|contains NaN or infinity), which JSON cannot represent",
    ),
    "R008": Code(
        "integer beyond 64 bits",
        "Braze would not keep all digits of the number.",
        "Send it as a string with CAST.",
        reason=r"(is|contains) an integer that does not fit in 64 bits",
    ),
    "R009": Code(
        "year out of range",
        "The year of a date or timestamp is not one of 0 to 9999.",
        "Leave it out with CASE and year().",
        reason=r"is outside the years .*",
    ),
    "R010": Code(
        "not one of the accepted values",
        "Braze accepts only some values in this field.",
        "Map the value to one of them with CASE.",
        reason=r"is not one of .*",
    ),
    "R011": Code(
        "wrong form",
        "The value does not have the form that Braze expects, such as three capital letters for a currency.",
        "Change it in the model.",
        reason=r"is not a currency of ISO 4217|does not have the form .*",
    ),
    "R012": Code(
        "number out of range",
        "The number is smaller or greater than Braze accepts.",
        "Split the row into several, or exclude it.",
        reason=r"is not between .*",
    ),
    "R013": Code(
        "not a boolean", "The text is neither true nor false.", "Map it with CASE.", reason=r"is neither true nor false"
    ),
    "R014": Code(
        "not a time",
        "The value cannot be read as a timestamp.",
        "Parse it with strptime() in the format that it has; of unix time, use seconds.",
        reason=r"is not a valid time",
    ),
    "R015": Code(
        "not a date",
        "The text is not a date of the form 2026-11-23.",
        "Parse it with strptime() in the format that it has.",
        reason=r"is not a valid date .*",
    ),
    "R016": Code(
        "not an object or array",
        "The field must be a JSON object, or an array.",
        "Find these rows with json_type().",
        reason=r"is not a JSON \w+( or array)?",
    ),
    "R017": Code(
        "not valid JSON",
        "The text of a pre-formatted field, or a JSON value, is not valid.",
        "Correct it; json() removes a comma too many.",
        reason=r"is not valid JSON",
    ),
    "R018": Code(
        "nested null",
        "Braze drops an attribute with a null inside of an array or object.",
        "Omit the key or the element.",
        reason=r"contains a nested null; .*",
    ),
    "R019": Code(
        "invalid $time",
        "Braze drops an attribute whose $time is not a time.",
        "Write it as 2026-11-23, or 2026-11-23T08:15:00.000Z.",
        reason=r"contains an invalid \$time; .*",
    ),
    "R020": Code(
        "invalid key in an object",
        "A key is empty, too long, or has a character that Braze does not accept.",
        "Rename the key.",
        reason=r"contains a key that is empty, .*",
    ),
    "R021": Code(
        "nested string is too long",
        "A string in an array or object is longer than Braze accepts.",
        "Truncate it with left().",
        reason=r"contains a string longer than .*",
    ),
    "R022": Code(
        "too large",
        "An array, an object, or the properties of an event are larger than Braze accepts.",
        "Send less.",
        reason=r"is larger than \d+ KB( in total)?",
    ),
    "R023": Code(
        "too many elements",
        "Braze drops the oldest elements of a longer array, and refuses one of a catalog's item.",
        "Shorten it with list_slice().",
        reason=r"has more than \d+ elements(; .*)?",
    ),
    "R024": Code(
        "reserved property",
        "`properties` has a key that Braze reserves.",
        "Rename the key.",
        reason=r"contains a key that is reserved .*",
    ),
    "R025": Code(
        "property is defined twice",
        "A column is also a key of `properties`.",
        "Remove one of them.",
        reason=r'is also a key in "properties"',
    ),
    "R026": Code(
        "too many properties",
        "Braze ignores further properties.",
        "Send fewer.",
        reason=r"has more than \d+ entries; .*",
    ),
    "R027": Code(
        "key is lost in a merge",
        "A merge cannot remove a key that is in Braze.",
        "Set _merge_objects to false for this row.",
        reason=r"no longer has a key that is in Braze, .*",
    ),
    "R028": Code(
        "row has no key",
        "The primary key of a row is NULL, and invalid rows are skipped (`skip_on_invalid_records`).",
        "Set a value; or exclude these rows, unless `on_removed` would clear or delete what leaves the model.",
        reason=r"is NULL in the primary key.*",
    ),
    "R029": Code(
        "key or user is not unique",
        "Several rows have one key, or are about one user: none of them is sent, as invalid rows are skipped.",
        "Return one row per key and user: of subscription states, the opt-out.",
        reason=r"is not unique: occurs [\d,]+ times",
    ),
    "R030": Code(
        "opt-in after an opt-out",
        "The user has opted out, as Braze has acknowledged, and the row would opt them in again: that is not sent.",
        "Name a column with the time of agreement (`consent: {evidence: COLUMN}`), or pass --skip-guard "
        "max_resubscribed=N once.",
        reason=r"would end an opt-out that Braze has acknowledged",
    ),
    "R031": Code(
        "NULL after an opt-out",
        "The user has opted out, as Braze has acknowledged, and the row has a NULL there, which may end the opt-out.",
        'Keep "unsubscribed" in the model; an opt-in needs evidence, as in R030.',
        reason=r"is NULL after an opt-out that Braze has acknowledged",
    ),
    "R040": Code(
        "not an email address",
        "Braze rejects the whole record: it has blanks or quotes, no domain, or another form than Braze accepts.",
        "Correct the address where it comes from; trim() removes blanks around it.",
        reason=r"is not a valid email address",
    ),
    "R041": Code(
        "not a phone number",
        "The number identifies the user, and is not one that Braze can find.",
        "Write it with a + and the code of its country, such as +14155552671.",
        reason=r"is not a valid phone number",
    ),
    "R042": Code(
        "wrong subscription group",
        "Braze rejects the record if an item lacks a state, or the UUID of a group. Opt-outs of other items are sent.",
        "Correct the item: {'subscription_group_id': '...', 'subscription_state': 'unsubscribed'}.",
        reason=r"has an item that is not an object with subscription_group_id .*"
        r"|has a subscription_(group_id|state) .*",
    ),
    "R043": Code(
        "wrong location",
        "Braze rejects the whole record: current_location has no numbers as longitude and latitude.",
        "Return {'longitude': 13.4, 'latitude': 52.5}, or NULL.",
        reason=r"is not an object with a number as longitude and latitude",
    ),
    "R044": Code(
        "wrong push token",
        "Braze rejects the record if an item of push_tokens has no app_id or token, or a device_id of another length.",
        "Write each item as {'app_id': '...', 'token': '...'}.",
        reason=r"has an item that is not an object with app_id .*|has a device_id .*",
    ),
    "R045": Code(
        "token import that Braze rejects",
        "With push_token_import, a record has tokens, and neither external_id nor braze_id.",
        "Set push_token_import to false for users with an id; and send tokens in every record of an import.",
        reason=r"is set for a (user|record) .*",
    ),
    "R046": Code(
        "not a name that Braze knows",
        "Braze would remove the country of the profile, or ignore the value: the row is sent without the column.",
        "Map the value to the one of the hint; or to a code of ISO 3166-1, a code of ISO 639-1, a time zone of IANA.",
        reason=r"is not a (country|language|time zone) that Braze knows.*",
    ),
    "R047": Code(
        "operator that Braze ignores",
        "inc adds an integer, add and remove change an array; Braze ignores other operands.",
        "Write {'inc': 1}, {'add': ['x']} or {'remove': ['x']}.",
        reason=r"has an operator that Braze ignores: .*",
    ),
    "R050": Code(
        "not in the schema of an e-commerce event",
        "Braze drops an e-commerce event with a property that its schema does not have.",
        "Put your own properties into metadata, of the event or of a product.",
        reason=r"(is|contains a key that is) not in Braze's schema of (this event|it)",
    ),
    "R051": Code(
        "wrong type in an e-commerce event",
        "Braze drops an e-commerce event with a property of another type than its schema says, null included.",
        "CAST it in the model.",
        reason=r"is not (a string|a number|an integer)",
    ),
    "R052": Code(
        "negative amount in an e-commerce event",
        "Amounts are positive, those of refunds, too: the name of the event says what is meant.",
        "Send the amount without its sign: abs().",
        reason=r"is negative",
    ),
    "R053": Code(
        "no e-commerce event",
        "The name begins like those of Braze's e-commerce events, and is none: to Braze it is an ordinary event.",
        "Correct the name; they are lower case, as ecommerce.order_placed.",
        reason=r"begins with ecommerce\., but is none of Braze's e-commerce events",
    ),
    "R060": Code(
        "country by its name",
        "Braze maps a name if it can; of one that it cannot map, it would remove the country of the profile.",
        "Send codes of two letters, in capitals (ISO 3166-1).",
        reason=r"is not a code of two letters: .*",
    ),
    "R061": Code(
        "phone number of unclear form",
        "Ten digits without a + are a number of the US to Braze; a number in another form is kept and cannot be used.",
        "Write numbers with a + and the code of the country, such as +14155552671.",
        reason=r"has ten digits and no \+: .*|is not in E\.164 form: .*",
    ),
    "R062": Code(
        "value that Braze changes",
        "A time in the future becomes the time of arrival, a date far in the future is kept as text.",
        "Correct it if it is not meant.",
        reason=r"is in the future: .*|is after the year .*",
    ),
    "R063": Code(
        "value of which no page says what Braze does",
        "The value is sent: no rule of Braze speaks against it, and it is probably not what is meant.",
        "Correct it if it is not meant.",
        reason=r"is not a place .*|are larger than .*|is a currency .*|is longer than \d+ characters or .*",
    ),
    "R064": Code(
        "name with blanks at its ends",
        "Braze cuts them off: the attribute has the name without them, and may be another one that the model has.",
        "Rename the column with AS.",
        reason=r"has blanks at the ends of its name, .*",
    ),
    "R065": Code(
        "string that looks like JSON",
        "The column is text, so Braze gets strings; they are JSON objects or arrays, and no filter sees into them.",
        "List the column in `pre_formatted_fields`; or as a string in braze.lock.yml, if it is meant as one.",
        reason=r"is sent as a string, and looks like JSON: .*",
    ),
    "R066": Code(
        "id of an item has other characters",
        "The id of a catalog's item has letters, digits, - and _; Braze refuses every other one.",
        "Map it to one that has only these, and is still unique.",
        reason=r"has characters other than .*",
    ),
    "R067": Code(
        "key that an item cannot have",
        "A key in an object of a catalog's item has a dot or a $, which Braze refuses.",
        "Rename the key.",
        reason=r"has a key with a dot or a \$, .*",
    ),
    "R068": Code(
        "object is nested too deep",
        "An object of a catalog's item has more levels than Braze accepts.",
        "Flatten it.",
        reason=r"is nested deeper than \d+ levels",
    ),
    "R069": Code(
        "array of an item has other elements than strings",
        "An array in a catalog has strings only.",
        "CAST the elements to VARCHAR.",
        reason=r"has an element that is not a string",
    ),
    "R071": Code(
        "user who is merged into themselves",
        "Both identifiers of the row are the same.",
        "Exclude such rows.",
        reason=r"is the user that is to be merged",
    ),
    "R072": Code(
        "user who does not remain",
        "The user who is to be kept is merged by another row, or was merged or deleted: Braze may do nothing.",
        "Return the user who remains in the end.",
        reason=r"is a user who is merged or deleted, too",
    ),
    "R073": Code(
        "rename that cannot be done",
        "The new name is the present one, was given before, or is in several rows: Braze promises no order.",
        "Return each rename once, from the present name, and what depends on it in a later run.",
        reason=r"is equal to \w+|has changed: this .*|is in several rows that are to be renamed.*",
    ),
    "R080": Code(
        "in quarantine",
        "The user is to be deleted, and is not listed for as long as `quarantine` says yet.",
        "Nothing, if it is to be deleted: a run after that time does it. Otherwise correct the model until then.",
        reason=r"is in quarantine until .*",
    ),
    "R090": Code(
        "rejected by Braze",
        "Braze accepted the request, and rejected this row.",
        "Correct the row: it is sent again when it changes, or with `retl retry NAME`.",
    ),
    "R091": Code(
        "in doubt",
        "The row was sent, no clear response came, and sending it twice would count twice.",
        "Check in Braze, then `retl resolve NAME` with --resend or --mark-accepted.",
    ),
}


def code_of_reason(reason: str | None) -> str | None:
    """The code of the reason why a row is invalid, as a rule words it; None if it is of another version of retl."""
    return next((code for code, one in CODES.items() if one.reason and re.fullmatch(one.reason, reason or "")), None)


def page(code: str) -> str:
    """The page of a code, as text."""
    one = CODES[code]
    return f"{code}: {one.title}\n\n{one.meaning}\n{one.remedy}"
