"""permessage-deflate (RFC 7692) for the cases: packing, offers and answers, open connections."""
import zlib

from wire import TAIL, TEXT, Failure

NAME = "permessage-deflate"
ON = ("--compression", "on")
MIB = 1 << 20
TEXT_SAMPLE = ("a message with some repetition, repetition, repetition " * 30).encode()


def deflate(data, bits=15, packer=None, flush=zlib.Z_SYNC_FLUSH):
    packer = packer or zlib.compressobj(6, zlib.DEFLATED, -bits)
    packed = packer.compress(data) + packer.flush(flush)
    return packed[:-4] if packed.endswith(TAIL) else packed


def proof(packed, shows):
    """How many of the packed bytes a decoder needs until `shows(output, failed)` is true."""
    unpacker, output, failed = zlib.decompressobj(-15), b"", False
    for at in range(len(packed)):
        try:
            output += unpacker.decompress(packed[at:at + 1])
        except zlib.error:
            failed = True
        if shows(output, failed):
            return at + 1
    raise AssertionError("nothing shows in these bytes")


def bomb(size):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = b"\0" * MIB
    parts = [packer.compress(zeros) for _ in range(size // MIB)]
    return (b"".join(parts) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def parse(values):
    """[(name, {parameter: value or None})] of the extension headers; a parameter may come once."""
    found = []
    for value in ",".join(values).split(",") if values else []:
        name, *parts = [part.strip() for part in value.split(";")]
        parameters = {}
        for part in parts:
            key, equals, text = part.partition("=")
            if key.strip() in parameters:
                raise Failure("each parameter once", value)
            parameters[key.strip()] = text.strip().strip('"') if equals else None
        found.append((name, parameters))
    return found


def window(parameters, name):
    value = parameters.get(name)
    if name in parameters and (value is None or not value.isdigit() or not 8 <= int(value) <= 15
                               or value != str(int(value))):
        raise Failure(f"{name} from 8 to 15", str(value))
    return int(value) if value else 15


def offer(t, *values, serve=ON):
    """An upgrade with these extension headers. The link's `agreed` is None when declined."""
    port = t.servers.get(*serve).port
    link = t.upgrade(port, extra=[("Sec-WebSocket-Extensions", value) for value in values])
    agreed = parse(link.response.all("sec-websocket-extensions"))
    if len(agreed) > 1 or (agreed and agreed[0][0] != NAME):
        raise Failure(f"{NAME} or nothing", str(agreed))
    link.agreed = agreed[0][1] if agreed else None
    if link.agreed is not None:
        known = {"server_no_context_takeover", "client_no_context_takeover",
                 "server_max_window_bits", "client_max_window_bits"}
        if set(link.agreed) - known:
            raise Failure("known parameters only", str(link.agreed))
        for name in ("server_no_context_takeover", "client_no_context_takeover"):
            if link.agreed.get(name) is not None:
                raise Failure(f"{name} without a value", str(link.agreed))
        link.deflate = True
        link.inflate_bits = window(link.agreed, "server_max_window_bits")
        link.inflate_takeover = "server_no_context_takeover" not in link.agreed
        link.send_bits = window(link.agreed, "client_max_window_bits")
        link.keep_window = "client_no_context_takeover" not in link.agreed
    return link


def must(link):
    if link.agreed is None:
        raise Failure("the extension agreed", "declined")
    return link


def started(t, connect=(), serve=()):
    """An open connection with the plain extension, in either role."""
    if t.role == "server":
        return must(offer(t, NAME, serve=(*ON, *serve)))
    link = t.connect(*ON, *connect)
    agree(t, link, owed(client_offer(link)))
    return link


def owed(offered):
    """The parameters that an answer to this offer has to have (RFC 7692, section 7.1)."""
    return {name: value for name, value in offered.items() if name.startswith("server_")}


def written(parameters):
    return "".join(f"; {name}" + (f"={value}" if value else "")
                   for name, value in parameters.items())


def agree(t, link, parameters):
    """Answers the client's offer with these parameters, and holds both sides to them."""
    t.answer(link, [("Sec-WebSocket-Extensions", NAME + written(parameters))])
    link.deflate = True
    link.inflate_bits = window(parameters, "client_max_window_bits")
    link.inflate_takeover = "client_no_context_takeover" not in parameters
    link.send_bits = window(parameters, "server_max_window_bits")
    link.keep_window = "server_no_context_takeover" not in parameters


def client_offer(link):
    """The parameters of the first offer of the client, checked."""
    offers = parse(link.request.all("sec-websocket-extensions"))
    if not offers or offers[0][0] != NAME:
        raise Failure(f"an offer of {NAME}", str(offers))
    window(offers[0][1], "server_max_window_bits")
    if offers[0][1].get("client_max_window_bits") is not None:
        window(offers[0][1], "client_max_window_bits")
    return offers[0][1]


def lasting_packer(link, level=6):
    """One compressor for all messages where its window may last, else None: one for each."""
    return zlib.compressobj(level, zlib.DEFLATED, -15) if link.keep_window else None


def packed_echo(link, data, opcode=TEXT, packer=None):
    bits = max(9, link.send_bits)
    link.send(opcode, deflate(data, bits, packer), rsv=4)
    link.expect_echo(data, "text" if opcode == TEXT else "binary")
