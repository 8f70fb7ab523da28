import contextlib
import io

from appmesh import AppMeshServer


def exec_with_output(payload):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(payload, {})
    return output.getvalue()


if __name__ == "__main__":
    # Minimal server loop: fetch a payload, execute it, return the output.
    context = AppMeshServer()
    while True:
        # Block fetch invocation payload.
        payload = context.task_fetch()
        # Execute with payload and capture prints.
        output = exec_with_output(payload)
        # Return the result to the client
        context.task_return(output)
