#!/usr/bin/env python3
"""Activity of hosts that aren't plain, in a network namespace of its own; the truth as one JSON object on stdout.

usage: unshare -n tests/odd.py connects | self-connects | black-hole | synack | mptcp CLIENT SERVER | error-queue | dns-pair | dns-nat | refused | without-bpf PROGRAM ARGS…
"""
import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

TCP, MPTCP = socket.IPPROTO_TCP, 262
# A resolver's, on loopback, and where it listens in truth.
DOCKER, BEHIND = "127.0.0.11", 40053


def sh(line, **options):
    ran = subprocess.run(line.split(), capture_output=True, text=True, **options)
    if ran.returncode:
        sys.exit(f"{line}: {ran.stderr.strip()}")


def knob(name, value):
    with open("/proc/sys/net/" + name, "w") as file:
        file.write(value)


def wire():
    """A link whose other end hears everything and says nothing; its address."""
    for line in ("link add v0 type veth peer name v1", "addr add 10.99.9.1/24 dev v0", "link set v0 up", "link set v1 up",
                 "neigh add 10.99.9.2 lladdr 02:00:00:00:00:01 dev v0"):
        sh("ip " + line)
    return "10.99.9.1"


def listener(address, port=0, protocol=TCP):
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(64)
    return listening


def connects():
    """Attempts that fail before a segment is sent, one that is refused, and one whose refusal is asked for by a second connect."""
    knob("ipv4/ip_local_port_range", "50000 50003")
    listening = listener("127.0.0.1", 8108)
    kept, results = [], []
    for address, times in ((("127.0.0.1", 8108), 9), (("192.0.2.1", 8109), 4)):
        for _ in range(times):
            kept.append(socket.socket())
            results.append((address[1], kept[-1].connect_ex(address)))
    knob("ipv4/ip_local_port_range", "32768 60999")
    results.append((8110, socket.socket().connect_ex(("127.0.0.1", 8110))))
    late = socket.socket()
    late.setblocking(False)
    late.connect_ex(("127.0.0.1", 8111))
    time.sleep(0.05)
    again = late.connect_ex(("127.0.0.1", 8111))
    assert again == errno.ECONNREFUSED, again
    results.append((8111, again))
    listening.close()
    counts = {}
    for key in results:
        counts[key] = counts.get(key, 0) + 1
    return {"connects": [{"rport": port, "errno": error, "n": n} for (port, error), n in sorted(counts.items())]}


def self_connects():
    for i in range(5):
        own = socket.socket()
        own.bind(("127.0.0.1", 8113 + i))
        own.connect(("127.0.0.1", 8113 + i))
        own.sendall(b"z" * 1000)
        got = 0
        while got < 1000:
            got += len(own.recv(4096))
        own.close()
    return {"connects": 5, "bytes": 5000}


def black_hole():
    """Attempts that nobody answers: three are given up, two are pending when the recording ends, which is up to whoever reads this."""
    wire()

    def attempt(timeout):
        one = socket.socket()
        one.settimeout(timeout)
        try:
            one.connect(("10.99.9.2", 5432))
        except OSError:
            pass
        one.close()

    threads = [threading.Thread(target=attempt, args=(timeout,), daemon=True) for timeout in (0.3, 0.3, 0.3, 60, 60)]
    for thread in threads:
        thread.start()
    for thread in threads[:3]:
        thread.join()
    print(json.dumps({"pid": os.getpid(), "given_up": 3, "pending": 2}), flush=True)
    # Until the recording has ended.
    sys.stdin.read()
    os._exit(0)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def retransmitted():
    rows = [line.split() for line in open("/proc/self/net/snmp") if line.startswith("Tcp:")]
    return int(rows[1][rows[0].index("RetransSegs")])


def synack():
    """A SYN whose sender never answers: what answers it is sent again."""
    address = wire()
    for device in ("all", "lo", "v0"):
        knob(f"ipv4/conf/{device}/rp_filter", "0")
    listening = listener(address, 8110)
    source, target = (socket.inet_aton(address) for address in ("10.99.9.2", address))
    header = struct.pack(">HHIIBBHHH", 5555, 8110, 1, 0, 5 << 4, 2, 65535, 0, 0)
    check = checksum(source + target + struct.pack(">BBH", 0, 6, len(header)) + header)
    header = header[:16] + struct.pack(">H", check) + header[18:]
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, source, target)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.sendto(ip + header, (address, 0))
    time.sleep(3.5)
    listening.close()
    return {"retransmits": retransmitted(), "rport": 5555, "lport": 8110}


def mptcp(client, server):
    knob("mptcp/enabled", "1")
    sent, answered, times = 100_000, 5_000, 3
    listening = listener("127.0.0.1", 8104, server)

    def take(one, n):
        got = 0
        while got < n:
            data = one.recv(65536)
            if not data:
                break
            got += len(data)
        return got

    child = os.fork()
    if not child:
        for _ in range(times):
            one, _ = listening.accept()
            assert take(one, sent) == sent
            one.sendall(b"y" * answered)
            one.recv(1)
            one.close()
        os._exit(0)
    for _ in range(times):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, client)
        one.connect(("127.0.0.1", 8104))
        one.sendall(b"x" * sent)
        assert take(one, answered) == answered
        one.shutdown(socket.SHUT_WR)
        one.close()
    assert os.waitpid(child, 0)[1] == 0
    return {"server": child, "connections": times, "sent": sent * times, "answered": answered * times}


def error_queue():
    """A program that reads its own news beside what it receives: when its segments were sent, with what was in them."""
    timestamping, errqueue, tx_software, software = 37, 0x2000, 1 << 1, 1 << 4
    listening = listener("127.0.0.1")
    client = socket.create_connection(listening.getsockname())
    served, _ = listening.accept()
    client.setsockopt(socket.SOL_SOCKET, timestamping, tx_software | software)
    news = 0
    for _ in range(5):
        client.sendall(b"z" * 1000)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                data, _, flags, _ = client.recvmsg(2000, 512, errqueue | socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            assert flags & errqueue, flags
            news += len(data)
            break
    got = 0
    while got < 5000:
        got += len(served.recv(4096))
    served.sendall(b"answer")
    received = len(client.recv(100))
    return {"news": news, "received": received + got}


def question(number, name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def answer(asked):
    return asked[:2] + b"\x81\x80" + asked[4:6] + b"\0\0\0\0\0\0" + asked[12:]


def dns_pair():
    """Two questions over TCP in one segment, as glibc sends them, and two answers in one."""
    listening = listener("127.0.0.1", 53)

    def serve():
        one, _ = listening.accept()
        stream = one.makefile("rb")
        answers = b""
        for _ in range(2):
            asked = stream.read(struct.unpack(">H", stream.read(2))[0])
            answers += struct.pack(">H", len(asked)) + answer(asked)
        one.sendall(answers)
        one.close()

    thread = threading.Thread(target=serve)
    thread.start()
    asking = socket.create_connection(("127.0.0.1", 53))
    both = [question(1, "pair.odd.test", 1), question(2, "pair.odd.test", 28)]
    asking.sendall(b"".join(struct.pack(">H", len(one)) + one for one in both))
    got = 0
    while data := asking.recv(4096):
        got += len(data)
    thread.join()
    return {"questions": 2, "bytes": got}


def dns_nat():
    """A resolver that is asked at port 53 and listens elsewhere, as Docker's is, by sockets with and without a peer."""
    rules = f"""table ip nat {{
        chain o {{ type nat hook output priority -100; ip daddr {DOCKER} udp dport 53 dnat to {DOCKER}:{BEHIND}; }}
        chain p {{ type nat hook postrouting priority 100; ip saddr {DOCKER} udp sport {BEHIND} snat to :53; }}
    }}
    """
    sh("nft -f -", input=rules)
    serving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    serving.bind((DOCKER, BEHIND))

    def serve():
        while True:
            asked, who = serving.recvfrom(4096)
            serving.sendto(answer(asked), who)

    threading.Thread(target=serve, daemon=True).start()
    for how in ("connected", "unconnected"):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asking.settimeout(3)
        if how == "connected":
            asking.connect((DOCKER, 53))
        else:
            asking.bind(("0.0.0.0", 0))
        for i in range(4):
            asked = question(100 + i, how + ".odd.test", 1)
            if how == "connected":
                asking.send(asked)
            else:
                asking.sendto(asked, (DOCKER, 53))
            assert asking.recv(4096)
    return {"each": 4, "server": DOCKER}


def refuse(*calls):
    """A seccomp filter that answers these system calls, given by their numbers on x86-64 and arm64, with EPERM."""
    nth = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
    numbers = [numbers[nth] for numbers in calls]
    # struct sock_filter: load the number; for each number go to the last but one; allow; refuse (include/uapi/linux/seccomp.h).
    filters = [(0x20, 0, 0, 0)]
    filters += [(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    filters += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
    code = b"".join(struct.pack("HBBI", *one) for one in filters)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(filters), ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privs, seccomp, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privs, 1, 0, 0, 0) or libc.prctl(seccomp, mode_filter, program, 0, 0):
        sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")


def refused():
    """Calls that fail, and calls that a filter refuses."""
    def make(times):
        for _ in range(times):
            try:
                os.mkdir("/nonexistent/odd")
            except OSError as error:
                yield error.errno
    allowed = list(make(3))
    refuse((83, 34))
    answers = list(make(7))
    return {"allowed": allowed.count(errno.ENOENT), "refused": answers.count(errno.EPERM)}


def main():
    what = sys.argv[1]
    if what == "without-bpf":
        refuse((321, 280))
        os.execv(sys.argv[2], sys.argv[2:])
    sh("ip link set lo up")
    if what == "mptcp":
        numbers = {"tcp": TCP, "mptcp": MPTCP}
        truth = mptcp(numbers[sys.argv[2]], numbers[sys.argv[3]])
    else:
        truth = globals()[what.replace("-", "_")]()
    print(json.dumps({"pid": os.getpid(), "netns": os.stat("/proc/self/ns/net").st_ino} | truth))


main()
