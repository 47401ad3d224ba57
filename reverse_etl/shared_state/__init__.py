"""A state that several machines share, in an object store; the local folder holds a copy of it.

shared.py             acquire the lock, download the copy, upload what was added, release the lock
lock.py               the lock, and every change of the head under it
head.py               the one object all compete for: who holds the lock, which objects are the state (like git's HEAD)
log.py                what was added to a state since it was uploaded whole: DuckDB's write-ahead log, in pieces
reading.py            head, base and log, read without the lock
local_copy.py         what the files in the local folder are a copy of
names.py              how objects are named; what a head that is lost has left behind
garbage.py            objects that killed runs have left
journal_shipping.py   the journal of a run, uploaded while it grows
packing.py            files as they are uploaded
object_store.py       S3, GCS or Azure: read, and write only if the object has not changed (compare-and-swap)
"""
