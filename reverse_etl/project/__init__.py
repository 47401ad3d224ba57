"""What the user wrote, read and checked: syncs.yml, models, dbt's manifest. Opens no connection.

project.py         a folder -> LoadedProject: syncs, target, models, environment
  files.py           reads the files in it, and no others
reader.py          syncs.yml -> Spec, with every error of the file and its place
  yaml_places.py     YAML that knows where each key is
  jinja.py           Jinja in YAML and SQL: env_var(), var(), target
  spec_secrets.py    secrets that it names, and the variables they come from
  spec_mistakes.py   what pydantic finds, in the words of the file
  spec_checks.py     syncs whose keys contradict each other, or other syncs
  spec_files.py      syncs/*.yml beside syncs.yml, and what `defaults` says of syncs
spec.py            the keys of syncs.yml, their types and defaults
  fields.py          types that several keys share
  spec_targets.py    targets: warehouse, workspace, where states are stored
  spec_tests.py      unit_tests and data_tests
  spec_alerts.py     alerts and heartbeat
  spec_collect.py    collect
  cron.py            schedules
  labels.py          what Treasure Data calls keys of a sync and their values
  json_schema.py     the same as JSON Schema, for editors
again.py           what it does to send every row of a sync again
lock_file.py       braze.lock.yml: names and types that were reviewed
models.py          models/*.sql -> compiled SQL: ref(), source(), is_incremental()
  environment.py     Jinja's sandbox: macros/*.sql, files that templates include, marks of lines
  template_uses.py   what a template uses, without running it
  model_config.py    config(): retl's key, and dbt's
  dbt_packages.py    macros of dbt and its packages, and SQL that does the same
  dialects/          SQL of other engines -> DuckDB's, by tables of what is known
collected.py       what `retl collect` has written: names of files, which of them count, the SELECT over them
readable.py        which files models may read
dbt_manifest.py    what dbt makes, by its manifest.json
dbt_exposures.py   syncs as exposures of dbt
graph.py           what comes before what
selection.py       --select and --exclude
"""
