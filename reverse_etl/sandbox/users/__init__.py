"""What requests do to users, and what is read back.

track_checks.py    /users/track: which objects are valid
  attribute_checks.py  what makes an attributes object invalid
  emails.py        email addresses
  ecommerce.py     recommended e-commerce events
  codes.py         countries, languages, currencies, time zones
track.py           /users/track: what they change
  values.py          custom attributes
  fields.py          standard fields
  times.py           date-times
identities.py      aliases, identify, merge, delete, external ids
subscriptions.py   subscription groups
export.py          /users/export/ids
names.py           names of attributes, events and products that the workspace knows
people.py          finding the user
identifiers.py     which user an object identifies
"""
