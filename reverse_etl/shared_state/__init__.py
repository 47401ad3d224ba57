"""A state that several machines share, in an object store; the folder holds a copy of it.

shared.py             take the lock, bring the copy, move the state, let go
head.py               the one object all compete for: who holds the lock, which version is the state (as git's HEAD)
journal_shipping.py   the journal of a run, brought along while it grows
object_store.py       S3, GCS, Azure or a folder: read, and write only what nobody has written since
"""
