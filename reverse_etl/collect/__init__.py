"""`retl collect`: what others send by webhook, on disk before they are told that it arrived.

contract.py  whose request it is, and which records are in it; or the response that refuses it
log.py       what was accepted, in segments: written and flushed in groups
server.py    HTTP: limits, timeouts, responses
run.py       one collector from its start to its end
keep.py      segments become Parquet files, these become larger ones, and old ones go
  parquet.py   how such a file is written: whole, or not at all
erase.py     `retl forget` reaches all of them
  erasing.py   whom the collector leaves out
  persons.py   whom a record is about
"""
