"""A handler that does nothing, so that the queue is what is measured."""

from pgflow_cli import App

app = App()


@app.handler("noop")
def noop(job):
    pass
