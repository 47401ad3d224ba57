"""What is told of runs: readers of results, which change nothing.

text.py         plans and results as text for people
as_json.py      ... as JSON for programs
testing.py      results of tests
artifacts.py    files in target/, with their JSON Schemas
descriptions.py   what the counts in them mean
screen.py       progress on a terminal
progress.py     progress in lines
json_lines.py   progress as JSON Lines
log.py          progress for Python's logging
stderr.py       what stderr is: text, or JSON Lines
"""
