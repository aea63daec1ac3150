"""A server on this machine that misbehaves as a test asks it to."""

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class Behaviour:
    """What the next answers are like; each request takes the first of `answers`, the last stays.

    An answer is a function of the request's handler, which writes the response.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []  # (path, headers) as they came
        self.over = Event()  # set when the test ends: stalled answers end, too


@contextmanager
def serving(behaviour):
    """Gives the server's address, e.g. http://127.0.0.1:1234."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            behaviour.requests.append((self.path, dict(self.headers)))
            answers = behaviour.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            answer(self)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        behaviour.over.set()
        server.shutdown()
        server.server_close()


def status(code, **headers):
    """An answer that is only a status."""

    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def content(
    data,
    *,
    etag='"1"',
    cut=None,
    claims=None,
    stall=None,
    takes_ranges=True,
    looks_at_if_range=True,
    kind="application/octet-stream",
):
    """An answer that is a file.

    Args:
        etag: its version; None sends none.
        cut: bytes of this answer's body after which the connection is closed.
        claims: Content-Length, where it is not the body's; 0 sends none.
        stall: an Event to wait for after `cut` bytes, instead of closing the connection at once.
        takes_ranges: answers a request for a part with a part.
        looks_at_if_range: sends a part only of the version that was asked for.
    """

    def answer(handler):
        start = 0
        asked = handler.headers.get("Range")
        same = handler.headers.get("If-Range") == etag or not looks_at_if_range
        if asked and takes_ranges and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start > len(data) or (start == len(data) and start):
            return status(416, Content_Range=f"bytes */{len(data)}")(handler)
        body = data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if etag:
            handler.send_header("ETag", etag)
        if claims != 0:
            handler.send_header("Content-Length", str(claims or len(body)))
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        handler.wfile.write(body if cut is None else body[:cut])
        handler.wfile.flush()
        if stall is not None:
            stall.wait(10)
        return None

    return answer
