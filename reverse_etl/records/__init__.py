"""From a row to Braze's JSON, or to the numbers of the rules that it breaks. The SQL is generated; pure.

layout.py        a sync and its model's columns -> what each column is for
existing.py      whom a record needs, that does nothing if there is no such user
attributes.py    what a sync writes to profiles: names, types, of which users
expressions.py   SQL over one row of the changes
documents.py     SQL that finds out what it can about JSON documents without reading them closely
left_out.py      SQL that leaves columns out of a record whose values Braze would drop
mapping.py       SQL that renders the records: key, kind, body, cost
  computed.py      those of its columns that a first run does not store, as they follow from others
  json_text.py     one value, by its type, as JSON text
  macros.sql       functions over JSON text
rules.py         SQL that finds the rules that a row breaks
  ecommerce.py     those of Braze's e-commerce events
  renaming.py      those of rows that give a user another external id or alias
  merging.py       those of rows that merge one user into another
  values.py        those of fields whose values have a meaning to Braze: addresses, groups, tokens
"""
