"""Two hosts in network namespaces of their own, and the wire between them: real kernels' TCP at both ends,
and what happens to the packets is decided here. Each host has one end of a veth pair, this process reads
the other ends raw and passes the packets on, late, or not at all: no module of the kernel for queueing
disciplines is needed."""
import asyncio
import ctypes
import fcntl
import os
import random
import socket
import struct
import subprocess
import sys

from daemons import find
from harness import Failure, Program

SKIPPED = 77  # the exit status that ctest takes for "skipped"
ETH_P_IP = 0x0800
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
PACKET = 65536


def enter_or_skip(marker="--inside"):
    """Goes on in a network namespace of its own, as its root; ends the process where that is forbidden."""
    if marker in sys.argv:
        sys.argv.remove(marker)
        return
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    for what, command in (("network namespaces", ["true"]),
                          ("network namespaces with veth devices",
                           [find("ip"), "link", "add", "near", "type", "veth", "peer", "name", "far"])):
        probe = subprocess.run([*alone, *command], stderr=subprocess.PIPE, check=False)
        if probe.returncode != 0:
            why = probe.stderr.decode(errors="replace").strip()
            print(f"skipped: this system forbids {what} ({why})")
            sys.exit(SKIPPED)
    os.execvp(alone[0], [*alone, sys.executable, "-B", *sys.argv, marker])


def whole_checksums(device):
    """Packets leave with their checksums made and no larger than the wire takes: whoever reads them raw
    would otherwise pass on what the next kernel refuses."""
    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


class Host:
    """A namespace with one address, for as long as it is not ended."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.holder = self.wire_end = None

    async def start(self):
        self.holder = await asyncio.create_subprocess_exec(
            "unshare", "--net", "sh", "-c", "echo ready; exec cat", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        await self.holder.stdout.readline()
        self.within = [find("nsenter"), "--target", str(self.holder.pid), "--net", "--"]
        ip, here = find("ip"), f"{self.name}-wire"
        run(ip, "link", "add", here, "type", "veth", "peer", "name", self.name)
        whole_checksums(self.name)
        # Without ARP everything is sent to the device's own address: all have the same.
        run(ip, "link", "set", self.name, "address", "02:00:00:00:00:01", "arp", "off")
        run(ip, "link", "set", self.name, "netns", str(self.holder.pid))
        run(ip, "link", "set", here, "up")
        self.ip("link", "set", "lo", "up")
        self.ip("address", "add", f"{self.address}/24", "dev", self.name)
        self.ip("link", "set", self.name, "up")
        self.wire_end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        self.wire_end.bind((here, ETH_P_IP))
        self.wire_end.setblocking(False)

    def ip(self, *words):
        run(*self.within, find("ip"), *words)

    async def end(self):
        if self.holder is None:
            return
        if self.wire_end is not None:
            asyncio.get_running_loop().remove_reader(self.wire_end)
            self.wire_end.close()
            self.wire_end = None
            # The namespace goes some time after its last process, the device at once.
            run(find("ip"), "link", "delete", f"{self.name}-wire")
        self.holder.kill()
        await self.holder.wait()
        self.holder = None


def run(*command):
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command[-6:])}: {done.stderr.decode(errors='replace').strip()}")


class Wire:
    """To be used as `async with`. The client's side is `near`, the server's `far`."""

    def __init__(self, delay=0.0, loss=0.0, seed=1):
        self.delay, self.loss, self.random = delay, loss, random.Random(seed)
        self.hole = False
        self.passed = self.lost = self.swallowed = 0
        self.near, self.far = Host("near", "10.99.0.1"), Host("far", "10.99.0.2")
        self.programs = []  # that end with the wire, if they have not before

    async def __aenter__(self):
        for host in (self.near, self.far):
            await host.start()
        for host in (self.near, self.far):
            self.attach(host)
        return self

    async def __aexit__(self, *_):
        for program in self.programs:
            await program.__aexit__()
        for host in (self.near, self.far):
            await host.end()

    def attach(self, host):
        other = self.far if host is self.near else self.near
        asyncio.get_running_loop().add_reader(host.wire_end, self._carry, host.wire_end, other)

    async def replace_far(self):
        """Another machine at the same address, that knows nothing of the one before."""
        await self.far.end()
        await self.far.start()
        self.attach(self.far)

    def _carry(self, wire_end, other):
        while True:
            try:
                packet = wire_end.recv(PACKET)
            except OSError:
                return  # nothing more
            if self.hole:
                self.swallowed += 1
            elif self.random.random() < self.loss:
                self.lost += 1
            elif self.delay:
                asyncio.get_running_loop().call_later(self.delay, self._deliver, other, packet)
            else:
                self._deliver(other, packet)

    def _deliver(self, other, packet):
        if self.hole or other.wire_end is None:
            return
        try:
            other.wire_end.send(packet)
            self.passed += 1
        except OSError:
            pass  # its interface is down

    async def until_swallowed(self, count):
        """The hole has eaten so many packets more."""
        goal = self.swallowed + count
        while self.swallowed < goal:
            await asyncio.sleep(0.01)


class On(Program):
    """A program on one of the hosts."""

    def __init__(self, host, *command):
        Program.__init__(self, *host.within, *command)
