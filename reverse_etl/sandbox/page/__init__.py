"""The page at / for people.

page.py    who may ask, and the read paths behind it
watch.py   what it shows, a page of rows at a time
assets/    its HTML, CSS and JavaScript
"""
