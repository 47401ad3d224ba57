"""Reports of runs: readers of results, which change nothing.

text.py         plans and results as text for people
schedules.py    what is due, and what is next
as_json.py      ... as JSON for programs
testing.py      results of tests, as text and JSON
artifacts.py    files in target/, with their JSON Schemas
descriptions.py   what their fields mean
site/           the page of a project, for browsers
tables.py       tables and messages as lines that fit a terminal
terminal.py     its width, and colours
screen.py       progress on a terminal, or as lines on stderr
progress.py     lines of progress
json_lines.py   progress as JSON Lines
log.py          progress for Python's logging
stderr.py       writes to stderr: text, or JSON Lines
"""
