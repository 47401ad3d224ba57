"""What calls do to users, and what is read back of them.

track_checks.py    /users/track: which objects are taken
track.py           /users/track: what they change
  values.py          custom attributes
  fields.py          standard fields
  times.py           date-times
identities.py      aliases, identify, merge, delete, external ids
subscriptions.py   subscription groups
export.py          /users/export/ids
people.py          which user is meant
identifiers.py     who an object says it is about
"""
