"""The page for operators: a module for each tab, its routes at its end.

Views are thin: they ask what the API and the commands ask, and hand it to a template.
"""
