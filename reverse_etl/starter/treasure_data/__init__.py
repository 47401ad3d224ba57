"""`retl init --from treasure-data DIR`: a project from workflows (*.dig) whose queries are exported to Braze.

importer.py      from the files to a project and a report; nothing is written unless all of it can be
  dig.py           workflows: tasks in order, each with what is in force where it stands
  variables.py     ${...} of digdag, as Jinja
  settings.py      result_settings and schedules, as keys of a sync
  report.py        what became of each key and file
"""
