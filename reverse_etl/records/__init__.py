"""What one row becomes: Braze's JSON, or the number of the rule that it breaks. SQL that is generated, and pure.

layout.py        a sync and its model's columns -> what each column is for
expressions.py   SQL over one row of the changes
mapping.py       SQL that makes the records: key, kind, body, what it costs
  json_text.py     one value, by its type, as JSON text
  macros.sql       functions over JSON text
rules.py         SQL that finds the rule that a row breaks
"""
