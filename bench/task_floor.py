"""What App Mesh's SDK costs by itself, for `bench/task`: a server with no logic at all, between one caller and one process of it.

It speaks as much of App Mesh's wire as `run_task`, `fetch_task` and `send_task_result` need, over HTTPS and in frames over TLS, with the certificate of the
server that it stands beside. It knows nobody, checks nothing and keeps nothing. Whatever is behind the same SDK cannot be faster by more than this
costs, which is told as its CPU.

    PYTHON bench/task_floor.py CERTIFICATES KEY      prints `https PORT` and `tcp PORT`, serves until its standard input ends
"""

import selectors
import socket
import ssl
import struct
import sys

MAGIC = 0x07C707F8


class Http:
    """One connection, by what the SDK sends on it."""

    def __init__(self, stream, room):
        self.stream, self.room, self.kept = stream, room, b""

    def came(self, data):
        self.kept += data
        while (end := self.kept.find(b"\r\n\r\n")) >= 0:
            head = self.kept[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17:].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.kept) < end + 4 + length:
                return
            body, self.kept = self.kept[end + 4:end + 4 + length], self.kept[end + 4 + length:]
            method, path = head.split(b" ", 2)[:2]
            self.room.asked(self, None, method.decode(), b"/login" in path, body)

    def answer(self, _, body):
        cookie = b"set-cookie: appmesh_auth_token=a.b.c; Path=/; Max-Age=600\r\n" if body.startswith(b'{"access_token"') else b""
        self.stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n%scontent-length: %d\r\n\r\n%s" % (cookie, len(body), body))


class Frames:
    """The same in frames."""

    def __init__(self, stream, room):
        import msgpack

        self.stream, self.room, self.kept, self.msgpack = stream, room, b"", msgpack

    def came(self, data):
        self.kept += data
        while len(self.kept) >= 8 and len(self.kept) >= 8 + (length := int.from_bytes(self.kept[4:8])):
            said, self.kept = self.msgpack.unpackb(self.kept[8:8 + length]), self.kept[8 + length:]
            self.room.asked(self, said["uuid"], said["http_method"].lower(), said["request_uri"].endswith("/login"), said["body"])

    def answer(self, uuid, body):
        said = {"uuid": uuid, "request_uri": "", "http_status": 200, "body_msg_type": "application/octet-stream", "body": body, "headers": {}}
        message = self.msgpack.packb(said, use_bin_type=True)
        self.stream.sendall(struct.pack("!II", MAGIC, len(message)) + message)


class Room:
    """Where a caller and a process meet."""

    def __init__(self):
        self.callers, self.asking, self.at_work = [], [], []

    def asked(self, who, uuid, method, is_login, body):
        if is_login:
            return who.answer(uuid, b'{"access_token": "a.b.c", "expire_time": 4102444800, "expires_in": 600}')
        if method == "post":
            self.callers.append((who, uuid, body))
        elif method == "get":
            self.asking.append((who, uuid))
        else:
            caller, its = self.at_work.pop(0)
            caller.answer(its, body)
            return who.answer(uuid, b"")
        if self.callers and self.asking:
            (caller, its, task), (worker, question) = self.callers.pop(0), self.asking.pop(0)
            self.at_work.append((caller, its))
            worker.answer(question, task)


def listen(speaks, room):
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, (speaks, room)


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    ready = selectors.DefaultSelector()
    for word, speaks in ("https", Http), ("tcp", Frames):
        listener, what = listen(speaks, Room())
        ready.register(listener, selectors.EVENT_READ, what)
        print(word, listener.getsockname()[1], flush=True)
    ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is sys.stdin:
                return
            if isinstance(key.data, tuple):
                stream, _ = key.fileobj.accept()
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = context.wrap_socket(stream, server_side=True)
                speaks, room = key.data
                ready.register(stream, selectors.EVENT_READ, speaks(stream, room))
                continue
            # It blocks only in the middle of a record.
            if not (data := key.fileobj.recv(1 << 20)):
                ready.unregister(key.fileobj)
                key.fileobj.close()
                continue
            key.data.came(data)
            while key.fileobj.pending():
                key.data.came(key.fileobj.recv(1 << 20))


if __name__ == "__main__":
    main()
