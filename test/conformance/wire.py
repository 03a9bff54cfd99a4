"""Raw WebSocket bytes: a frame builder that can build wrong frames, a strict frame reader, and
a socket whose every wait ends at a deadline. No WebSocket library is involved on this side.

`Link.masks` says which side of the connection the suite plays: it masks when it plays the client.
"""
import base64
import hashlib
import os
import select
import socket
import struct
import time
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KIND = {CONTINUATION: "continuation", TEXT: "text", BINARY: "binary", CLOSE: "close",
        PING: "ping", PONG: "pong"}
ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TAIL = b"\x00\x00\xff\xff"


class Failure(Exception):
    """What a case expected and what it saw instead."""

    def __init__(self, expected, seen):
        super().__init__(f"expected {expected}; saw {seen}")


def accept_for(key):
    return base64.b64encode(hashlib.sha1(key + ACCEPT_GUID).digest())


def brief(value, limit=60):
    if isinstance(value, (bytes, bytearray)):
        shown = repr(bytes(value[:limit]))
        return shown if len(value) <= limit else f"{shown}... ({len(value)} bytes)"
    return str(value)


def xor(data, key):
    if not data:
        return b""
    pad = (key * (len(data) // 4 + 1))[:len(data)]
    number = int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")
    return number.to_bytes(len(data), "little")


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=None, length_form=None, announce=None):
    """One frame. `mask` is None or four bytes; `length_form` (7, 16 or 64) forces a length field;
    `announce` puts another length on the wire than the payload has."""
    length = len(payload) if announce is None else announce
    if length_form is None:
        length_form = 7 if length < 126 else 16 if length < 65536 else 64
    masked = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length_form == 7:
        head += bytes([masked | length])
    elif length_form == 16:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    if mask is None:
        return head + payload
    return head + mask + xor(payload, mask)


def close_payload(code=None, reason=b""):
    return b"" if code is None else struct.pack("!H", code) + reason


class Frame:
    def __init__(self, fin, rsv, opcode, mask, payload):
        self.fin, self.rsv, self.opcode, self.mask, self.payload = fin, rsv, opcode, mask, payload


class Event(tuple):
    """('text'|'binary'|'ping'|'pong', bytes), ('close', code or None, reason), ('end', how)."""

    def __str__(self):
        return " ".join([self[0]] + [brief(part) for part in self[1:]])


class ReadProbe:
    """Asks the kernel whether the other process has taken all bytes sent to it, so that a stream
    cut at a position really arrives in two reads."""

    def __init__(self):
        try:
            self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
            self.netlink.settimeout(2)
        except OSError:
            self.netlink = None

    def unread(self, local, remote):
        """Bytes waiting in the socket bound to `local` and connected to `remote`; None: gone."""
        pair = struct.pack("!HH4s12x4s12x", local[1], remote[1], socket.inet_aton(local[0]),
                           socket.inet_aton(remote[0]))
        body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xffffffff)
        body += pair + struct.pack("=III", 0, 0xffffffff, 0xffffffff)
        self.netlink.send(struct.pack("=IHHII", 16 + len(body), 20, 1, 1, 0) + body)
        answer = self.netlink.recv(65536)
        if struct.unpack_from("=IH", answer)[1] != 20:
            return None
        state = answer[17]
        waiting = struct.unpack_from("=I", answer, 16 + 4 + 48 + 4)[0]
        return waiting if state in (1, 4, 5, 8) else None


PROBE = ReadProbe()


def hard_reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Link:
    def __init__(self, sock, masks, deadline, received=b""):
        self.sock = sock
        self.masks = masks
        self.deadline = deadline
        self.inbox = bytearray(received)
        self.end = None               # "closed" or "reset" once the other side has ended
        self.keys_seen = []
        self.deflate = False          # permessage-deflate negotiated
        self.inflate_bits = 15        # window the other side may use
        self.inflate_takeover = True
        self.inflater = None
        self.compressed_seen = 0
        self.sent_close = False
        self.opcode, self.parts, self.compressed = 0, None, False  # the message being received
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)

    # Bytes out.

    def push(self, data):
        """Sends all of it, reading meanwhile. When the other side has gone, the rest is dropped:
        what it said before going is judged by the reading side."""
        view = memoryview(data)
        while view:
            self._left("sending")
            readable, writable, _ = select.select([] if self.end else [self.sock], [self.sock], [],
                                                  self._left("sending"))
            if readable:
                self._take()
            if writable:
                try:
                    view = view[self.sock.send(view[:1 << 20]):]
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError):
                    return

    def settle(self):
        """Waits until the other process has read everything pushed so far, or closed."""
        if PROBE.netlink is None:
            return
        try:
            mine, other = self.sock.getsockname(), self.sock.getpeername()
        except OSError:
            return
        while PROBE.unread(other, mine):
            self._left("waiting for the program to read")
            select.select([], [], [], 0.0002)

    def push_cut(self, data, *positions):
        """Sends the pieces between the positions, each only after the one before was read."""
        start = 0
        for position in (*positions, len(data)):
            if position > start:
                self.push(data[start:position])
                self.settle()
                start = position

    def send(self, opcode, payload=b"", **fields):
        self.push(self.frame(opcode, payload, **fields))

    def frame(self, opcode, payload=b"", **fields):
        if "mask" not in fields:
            fields["mask"] = os.urandom(4) if self.masks else None
        return frame(opcode, payload, **fields)

    def text(self, text, **fields):
        self.send(TEXT, text.encode() if isinstance(text, str) else text, **fields)

    def close_with(self, code=None, reason=b""):
        self.sent_close = True
        self.send(CLOSE, close_payload(code, reason))

    def half_close(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    # Bytes in.

    def _left(self, doing):
        left = self.deadline - time.monotonic()
        if left <= 0:
            held = f", unparsed bytes {brief(self.inbox)}" if self.inbox else ""
            raise Failure("progress within the time allowed", f"nothing more while {doing}{held}")
        return left

    def _take(self):
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.end = "reset"
            return
        if data:
            self.inbox += data
        else:
            self.end = "closed"

    def more(self, waiting_for="bytes"):
        """Waits for more bytes; False when the other side has ended."""
        if self.end:
            return False
        before = len(self.inbox)
        while len(self.inbox) == before and not self.end:
            if select.select([self.sock], [], [], self._left(f"waiting for {waiting_for}"))[0]:
                self._take()
        return len(self.inbox) > before

    def need(self, count):
        while len(self.inbox) < count:
            if not self.more("a frame"):
                return False
        return True

    def next_frame(self):
        """The next frame, checked against all that RFC 6455 asks of any frame; None at the end."""
        if not self.need(2):
            if self.inbox:
                raise Failure("whole frames", f"{brief(self.inbox)} and then {self.end}")
            return None
        first, second = self.inbox[0], self.inbox[1]
        length, at = second & 0x7f, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            self._whole(at + size)
            length = int.from_bytes(self.inbox[at:at + size], "big")
            at += size
            if length < (126 if size == 2 else 65536) or length >> 63:
                raise Failure("the shortest length form", f"{length} in {size} bytes")
        masked = bool(second & 0x80)
        if masked == self.masks:
            raise Failure("an unmasked frame" if masked else "a masked frame",
                          brief(self.inbox[:16]))
        key = b""
        if masked:
            self._whole(at + 4)
            key = bytes(self.inbox[at:at + 4])
            self.keys_seen.append(key)
            at += 4
        self._whole(at + length)
        payload = bytes(self.inbox[at:at + length])
        if masked:
            payload = xor(payload, key)
        del self.inbox[:at + length]
        got = Frame(bool(first & 0x80), first >> 4 & 7, first & 15, key, payload)
        if got.opcode not in KIND:
            raise Failure("a known opcode", f"opcode {got.opcode}")
        allowed = (0, 4) if self.deflate and got.opcode in (TEXT, BINARY) else (0,)
        if got.rsv not in allowed:
            raise Failure("reserved bits zero", f"{got.rsv:03b} on a {KIND[got.opcode]} frame")
        if got.opcode >= 8 and (not got.fin or len(payload) > 125):
            raise Failure("a whole control frame up to 125 bytes",
                          f"fin={got.fin}, {len(payload)} bytes")
        return got

    def _whole(self, count):
        if not self.need(count):
            raise Failure(f"the {count} bytes of a frame",
                          f"{brief(self.inbox)} and then {self.end}")

    def next_event(self):
        """The next message (fragments joined, inflated), control frame or end."""
        while True:
            got = self.next_frame()
            if got is None:
                if self.parts is not None:
                    raise Failure("the rest of a fragmented message", self.end)
                return Event(("end", self.end))
            if got.opcode >= 8:
                return self._control(got)
            if (got.opcode == CONTINUATION) != (self.parts is not None):
                raise Failure("fragments in sequence", f"{KIND[got.opcode]} frame")
            if self.parts is None:
                self.opcode, self.compressed, self.parts = got.opcode, got.rsv == 4, []
            self.parts.append(got.payload)
            if got.fin:
                break
        data, self.parts = b"".join(self.parts), None
        if self.compressed:
            self.compressed_seen += 1
            data = self._inflate(data)
        if self.opcode == TEXT:
            try:
                data.decode()
            except UnicodeDecodeError as error:
                raise Failure("UTF-8 in a text message", str(error)) from None
        return Event((KIND[self.opcode], data))

    def _inflate(self, data):
        if self.inflater is None or not self.inflate_takeover:
            self.inflater = zlib.decompressobj(-self.inflate_bits)
        try:
            if self.inflate_bits == 15:
                return self.inflater.decompress(data + TAIL)
            # zlib notices a reference beyond the window only when it can't see its earlier output.
            parts, rest = [], data + TAIL
            while rest:
                parts.append(self.inflater.decompress(rest, 64))
                rest = self.inflater.unconsumed_tail
            while True:
                parts.append(self.inflater.decompress(b"", 64))
                if not parts[-1]:
                    return b"".join(parts)
        except zlib.error as error:
            raise Failure(f"deflate data for a window of {self.inflate_bits} bits",
                          f"{error} in {brief(data)}") from None

    def _control(self, got):
        if got.opcode != CLOSE:
            return Event((KIND[got.opcode], got.payload))
        if not got.payload:
            return Event(("close", None, b""))
        if len(got.payload) == 1:
            raise Failure("a close payload of 0 or 2 and more bytes", brief(got.payload))
        code, reason = struct.unpack("!H", got.payload[:2])[0], got.payload[2:]
        if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            raise Failure("a close code that may be on the wire", str(code))
        try:
            reason.decode()
        except UnicodeDecodeError:
            raise Failure("a close reason in UTF-8", brief(reason)) from None
        return Event(("close", code, reason))

    # Expectations.

    def expect(self, kind, payload):
        event = self.next_event()
        if tuple(event) != (kind, payload):
            raise Failure(f"{kind} {brief(payload)}", str(event))

    def expect_echo(self, payload, kind="text"):
        self.expect(kind, payload.encode() if isinstance(payload, str) else payload)

    def expect_close(self, *codes):
        """A close frame with one of the codes (None: without payload), then the end of the
        connection. Plays the other half of the closing handshake."""
        event = self.next_event()
        names = " or ".join("none" if code is None else str(code) for code in codes)
        if event[0] != "close" or event[1] not in codes:
            raise Failure(f"close with code {names}", str(event))
        if not self.sent_close:
            self.close_with(event[1])
        self.expect_end()
        return event

    def expect_end(self):
        """Nothing more than the end. The side that plays the server ends first (section 7.1.1)."""
        if not self.masks:
            self.half_close()
        event = self.next_event()
        if event[0] != "end":
            raise Failure("the end of the connection", str(event))

    def alive(self, note=b"still here"):
        """The connection goes on as before: a message comes back and nothing else before it."""
        self.text(note)
        self.expect_echo(note)

    def close_cleanly(self):
        if not self.sent_close:
            self.close_with(1000)
        self.expect_close(1000)

    def transcript(self):
        """Everything that comes until the end, as a list of events."""
        events = []
        while True:
            event = self.next_event()
            if event[0] == "end":
                events.append(("end",))
                return events
            events.append(tuple(event))
            if event[0] == "close":
                if not self.sent_close:
                    self.close_with(event[1])
                if not self.masks:
                    self.half_close()
