"""The page of a project: one file of HTML, with its data, for browsers without a server.

packed.py   what it shows, as tables of numbers and texts that are written once
page.py     the page, made of that and of assets/
"""
