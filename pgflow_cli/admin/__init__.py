"""The admin server: an HTTP API over the repository, a page for operators, probes.

`routes` lists what there is, `application` answers a request, `server` listens.
"""
