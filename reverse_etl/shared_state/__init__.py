"""A state that several machines share, in an object store; the local folder holds a copy of it.

shared.py             acquire the lock, download the copy, upload the new state, release the lock
head.py               the one object all compete for: who holds the lock, which object is the state (like git's HEAD)
journal_shipping.py   the journal of a run, uploaded while it grows
object_store.py       S3, GCS or Azure: read, and write only if the object has not changed (compare-and-swap)
"""
