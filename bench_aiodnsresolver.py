"""Measures what a DNS query costs, side by side with other resolvers. Needs Linux.

    python bench_aiodnsresolver.py [WORKLOAD...] [--peers PEER,...] [--module NAME=FILE]...
        [--rounds N] [--queries N] [--upstream FOLDER] [--quick] [--json FILE] [--plot FOLDER]
        [--no-pin]
    python bench_aiodnsresolver.py --plot FOLDER --from FILE

Each workload is measured for several peers: `ours`, which is the module beside this file, other
resolvers, and a floor. A peer runs in a process of its own, so that none pays for another's
garbage, threads or imports. The peers take turns, round by round. A table has the median of the
rounds, and the median of the ratios to ours in the same round, because a machine may be fast in
one round and slow in the next. The nameserver is an Unbound on a loopback port. With two cores or
more it has the first one, and the peers, with all their threads, have the others.

What is counted:

- Time is CPU time of the process, of all its threads and of the programs that it runs, so that
  Python and C are counted alike. It has two readings of a clock for each answer, the same for all
  peers.
- A query counts, whether its answer is right or not. How many are right is in the column
  `correct`; if it is not all of them, do not trust the rest of the row. A picture leaves out a
  peer of whose answers more than 1 % were wrong or missing.
- The first query of a round is not timed: it connects, and imports what is imported late.
- Latency is from the call to the answer. Where many names are asked for at a time, it is mostly
  the time that a query waits for the others. An answer that never comes counts as ROUND_SECONDS.
- Memory is what the process has resident. What the kernel holds for its sockets is not seen.
- Frames are those of the module's file, counted when one is entered or a coroutine is resumed.
  Calls are frames of all files but this one, and what they call of C: neither what C calls nor
  another thread is seen. System calls are those of all threads, counted by strace.
- An import is one after asyncio. What a module imports later, as ours does ssl, is not in it.

What the peers do differently:

- Ours reads resolv.conf and hosts, as in most programs, if these can be made to lead to the
  nameserver, which needs root. Else it calls a get_nameservers, which costs it more; the program
  says so at the start. Over TCP, TLS and HTTPS it always calls one. The others are told the
  nameserver when they are made, and look into neither file for a query, except getaddrinfo, which
  needs root therefore, and aiodns for aiohttp, which looks into hosts.
- Ours, aiodns, blastdns, 0.0.157 and `sketch` put each answer into a cache. dnspython has a cache
  only where names are asked for again, and getaddrinfo has none.
- Over TLS and HTTPS, ours and dnspython check the certificate, and dnsperf does not.
- getaddrinfo has as many threads as by default, six with two cores, for which the others wait.
- dnsperf and dig are whole programs in C, whose start counts too. dnsperf has one socket for all
  queries, and checks no more of a reply than its id. `blastdns-batch` is given all the names at
  once, and makes its client in the time that counts.
- The queries of ours have EDNS and letters of random case, and those of the floors neither.
- `sketch` is the floor of sockets with DNS logic as plain as it goes.
- What ends with `-uvloop` is the same peer on that loop.
- A NAME of --module is another version of our module, which does all that `ours` does:

    git show main:aiodnsresolver.py > /tmp/old.py
    python bench_aiodnsresolver.py cold-100 tls-100 frames-100 --module old=/tmp/old.py

The floor is the same work in asyncio without DNS logic; the title of a table says which one it is:

- for datagrams, a fresh connected socket per query in an epoll of its own;
- for TCP and TLS, a bare protocol that writes ready octets with a new id, a write per query. A
  peer whose queries of one turn of the loop are one write can be below it;
- for HTTPS, the h2 library with the same requests, a write per turn of the loop;
- for a cached name, one look-up in a dict and one reading of the clock;
- for requests by aiohttp, a resolver that knows the address.

What is not plain from a workload's name:

- `transfer` is a stream of records, and `zone` is into a zone in memory. The octets are prepared
  by a process that does nothing else. An answer is correct if it has as many records.
- `aiohttp-cold` is 1,000 requests to 200 new names with the default session, which keeps
  connections and has a cache of its own. `aiohttp-warm` has neither, and asks the resolver for
  known names, which only ours and aiodns have in a cache. The peers `aiodns` and `getaddrinfo` are
  aiohttp's own resolvers. The server is on the nameserver's core.
- `bulk` is a process that reads names from a file and writes lines to another, counted from its
  start to its end: our command line, which writes each line at once, and the loops that people
  write around aiodns and around getaddrinfo in 64 threads. Its memory is its peak, less that of an
  empty Python.
- `hold` is how long one packet holds the loop: the CPU time of the longest callback, for the worst
  of the replies in HOSTILE, whose name ends the row. `hold` asks for it over TCP, `hold-parse`
  only parses. A thread of aiodns, which reads replies aside and then has the interpreter, is not
  seen.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import importlib.metadata
import importlib.util
import inspect
import itertools
import json
import math
import os
import platform
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

TEXT = '192.0.2.1'
ADDRESS = IPv4Address(TEXT)
TRY_SECONDS = 5.0  # for one try of any peer: the slowest needs less for 10,000 at once
TRIES = 3
ROUND_SECONDS = 60  # for the questions of a round: a lost answer must not stop the rest
HELD_SECONDS = 2.0  # for the answer to a hostile reply: less than for a try
SLOW_MS = 500.0  # what takes longer is not tried again
HANGS_AFTER = 300  # seconds, after which a worker is ended: longer than any round
PERCENTILES = (50, 90, 99, 99.9)  # of the time that answers take


# --- Octets ------------------------------------------------------------------
#
# Messages made by hand, because the processes of the others do not import our module.


def query_octets(name: str) -> bytes:
    """Returns a query for an A record, without EDNS."""
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    return os.urandom(2) + b'\1\0\0\1\0\0\0\0\0\0' + labels + b'\0\0\1\0\1'


def reply_octets(name: str, an: int, ns: int, ar: int) -> bytes:
    """Returns the beginning of a reply with so many records."""
    header = struct.pack('!6H', 1, 0x8180, 1, an, ns, ar)
    return header + query_octets(name)[12:]


def record(owner: int, qtype: int, rdata: bytes) -> bytes:
    """Returns a record whose name is at the offset `owner`."""
    return pointer(owner) + struct.pack('!HHIH', qtype, 1, 60, len(rdata)) + rdata


def pointer(offset: int) -> bytes:
    """Returns a compressed name."""
    return struct.pack('!H', 0xC000 | offset)


def a_octets() -> bytes:
    """Returns an answer with one address."""
    return reply_octets('www.example.com', 1, 0, 0) + record(12, 1, ADDRESS.packed)


def chain_octets() -> bytes:
    """Returns an answer with five aliases and four addresses."""
    octets, owner = reply_octets('www.example.com', 9, 0, 0), 12
    for number in range(5):
        target = b'\6alias%d' % number + pointer(16)
        octets += record(owner, 5, target)
        owner = len(octets) - len(target)
    return octets + b''.join(record(owner, 1, bytes([192, 0, 2, n])) for n in range(1, 5))


def referral_octets() -> bytes:
    """Returns a referral to 13 nameservers with two addresses each, as the root gives it."""
    octets, owners = reply_octets('example.com', 0, 13, 26), []
    suffix = b'\x0cgtld-servers\3net\0'
    for letter in b'abcdefghijklm':
        octets += record(20, 2, bytes([1, letter]) + suffix)
        owners.append(len(octets) - len(suffix) - 2)
        suffix = pointer(owners[0] + 2)
    glue = (record(n, 1, bytes([192, 0, 2, n & 63])) + record(n, 28, bytes(16)) for n in owners)
    return octets + b''.join(glue)


def mixed_octets() -> bytes:
    """Returns an answer with ten records of each of ten types."""
    octets = reply_octets('www.example.com', 100, 0, 0)
    for n in range(10):
        name = bytes([5, *b'host', 0x30 + n]) + pointer(16)
        octets += record(12, 1, bytes([192, 0, 2, n]))
        octets += record(12, 28, bytes([*[0x20, 1, 13, 184], *bytes(11), n]))
        for qtype in (2, 12):
            octets += record(12, qtype, name)
        host = len(octets) - len(name)  # has what a name can have one of
        octets += record(host, 5, name)
        octets += record(host, 6, name + name + struct.pack('!5I', n, 3600, 600, 86400, 60))
        octets += record(12, 15, bytes([0, 10]) + name)
        octets += record(12, 16, bytes([11, *b'v=spf1 -all', 1, 0x30 + n]))
        octets += record(12, 33, struct.pack('!3H', 1, 2, 5060) + name)
        octets += record(12, 43, struct.pack('!HBB', n, 13, 2) + bytes(32))
    return octets


def zone_octets(name: bytes, count: int) -> Iterator[bytes]:
    """Yields a zone of so many records and its SOA as the messages of a transfer.

    Each is of 16 KiB at most, as NSD makes them.
    """
    labels = b''.join(bytes([len(label)]) + label for label in name.split(b'.')) + b'\0'
    question = labels + struct.pack('!HH', 252, 1)
    soa = record(12, 6, b'\2ns\xc0\x0c\4root\xc0\x0c' + struct.pack('!5I', 1, 2, 3, 4, 5))
    rdatas: tuple[tuple[int, Callable[[int], bytes]], ...] = (
        (1, lambda number: struct.pack('!I', number)),
        (28, lambda number: bytes(12) + struct.pack('!I', number)),
        (15, lambda number: b'\0\x0a\4mail\xc0\x0c'),
        (16, lambda number: b'\x0bsome text %d' % (number % 10)),
    )
    records, size = [soa], 0
    for number in range(count):
        qtype, make = rdatas[number % 4]
        owner = b'n%d' % (number // 4)
        records.append(bytes([len(owner)]) + owner + record(12, qtype, make(number)))
        size += len(records[-1])
        if size > 16_000:
            yield struct.pack('!5H', 0x8400, 1, len(records), 0, 0) + question + b''.join(records)
            records, size = [], 0
    records.append(soa)
    yield struct.pack('!5H', 0x8400, 1, len(records), 0, 0) + question + b''.join(records)


# --- Hostile replies ---------------------------------------------------------
#
# Replies that are dear to read. The name that is asked for says what is sent: it is
# `hNNNNNNNNN.hold`, where two digits are the place in HOSTILE and the last five the size. The
# type that is asked for is the first word of the reply's name in HOSTILE, or A.

HELD = 'h000000000.hold'
HELD_QUESTION = slice(12, 12 + len(HELD) + 6)
HELD_ZONE = 12 + HELD.index('.') + 1  # the offset of `hold`
FIRST_RECORD = HELD_QUESTION.stop
FIRST_OWNER = pointer(FIRST_RECORD)
LONG = b'\1a' * 127 + b'\0'  # the name with the most labels
ESCAPED = (b'\x3f' + bytes(63)) * 3 + b'\x3d' + bytes(62)  # that with the longest text
SHORTEST = struct.pack('!xHHIH', 10, 1, 60, 0)  # of all records: NULL of the root
MOST_OCTETS = 65_535


def held_name(shape: str, turn: int, size: int) -> str:
    """Returns a name that nobody has asked for yet."""
    return f'h{[*HOSTILE].index(shape):02}{turn:02}{size:05}.hold'


def hostile_octets(query: bytes) -> bytes:
    """Returns the reply to a query, with its question as it came."""
    label = query[13:23]
    octets = HOSTILE[[*HOSTILE][int(label[1:3])]](int(label[5:]))
    return query[:2] + octets[2:12] + query[HELD_QUESTION] + octets[HELD_QUESTION.stop :]


def filled(
    size: int, make: Callable[[int, int], bytes], section: int = 0, backwards: bool = False
) -> bytes:
    """Returns a reply with as many records as there is room for.

    `make` returns one by its number and the offset that it has, unless they go backwards.
    """
    records: list[bytes] = []
    used = FIRST_RECORD
    while used + len(one := make(len(records), used)) <= size:
        records.append(one)
        used += len(one)
    counts = [0, 0, 0]
    counts[section] = len(records)
    return reply_octets(HELD, *counts) + b''.join(records[:: -1 if backwards else 1])


def alone(qtype: int, rdata: bytes) -> bytes:
    """Returns a reply with one record of the name asked for."""
    return reply_octets(HELD, 1, 0, 0) + record(12, qtype, rdata)


def repeated(size: int, part: Callable[[int], bytes]) -> bytes:
    """Returns RDATA of so many parts as there is room for in a reply with one record."""
    room = size - FIRST_RECORD - 20
    return b''.join(part(number) for number in range(room // len(part(0))))


def alias(number: int, _: int) -> bytes:
    """Returns a link of a chain that begins at the name asked for."""
    owner, target = (struct.pack('!BH', 2, n) + pointer(HELD_ZONE) for n in (number, number + 1))
    fields = struct.pack('!HHIH', 5, 1, 60, len(target))
    return (owner if number else pointer(12)) + fields + target


def short_alias(number: int, _: int) -> bytes:
    """Returns a link of a chain that ends where it began, of names of three octets."""
    owner, target = (bytes([1, n & 255, 0]) for n in (number, number + 1))
    return (owner if number else pointer(12)) + struct.pack('!HHIH', 5, 1, 60, 3) + target


def pointed(number: int, offset: int) -> bytes:
    """Returns a record whose owner points to the owner before it, as far as pointers reach."""
    last = FIRST_RECORD + ((1 << 14) - FIRST_RECORD) // 16 * 16 - 16
    return record(min(offset - 16, last) if number else 12, 1, struct.pack('!I', number))


def many_questions(size: int) -> bytes:
    """Returns a reply with nothing but questions."""
    more = (size - FIRST_RECORD) // 5
    head = reply_octets(HELD, 0, 0, 0)
    return head[:4] + struct.pack('!H', 1 + more) + head[6:] + b'\0\0\1\0\1' * more


def empty_options(size: int) -> bytes:
    """Returns a reply with an OPT record of empty options."""
    rdata = repeated(size, lambda number: struct.pack('!HH', number & 0xFFFF, 0))
    head = struct.pack('!xHHIH', 41, 1232, 0, len(rdata))
    return reply_octets(HELD, 0, 0, 1) + head + rdata


def hints(size: int) -> bytes:
    """Returns a reply with an HTTPS record that hints at addresses."""
    addresses = repeated(size, number_octets)
    return alone(65, b'\0\1\0' + struct.pack('!HH', 4, len(addresses)) + addresses)


def number_octets(number: int) -> bytes:
    """Returns an address, or other four octets."""
    return struct.pack('!I', number)


def bitmaps(size: int) -> bytes:
    """Returns a reply with NSEC records that have all the types, as far as there is room."""
    windows = min(256, (size - 50) // 34)
    rdata = b'\0' + b''.join(bytes([number, 32]) + b'\xff' * 32 for number in range(windows))
    return many(47, lambda _: rdata)(size)


def single(qtype: int, part: Callable[[int], bytes], start: bytes = b'') -> Callable[[int], bytes]:
    """Returns what makes a reply with a record that has as many parts as there is room for."""
    return lambda size: alone(qtype, start + repeated(size, part))


def many(
    qtype: int,
    rdata: Callable[[int], bytes],
    name: bytes = b'',
    owner: int = 12,
    section: int = 0,
) -> Callable[[int], bytes]:
    """Returns what makes a reply with many records. A `name` is the owner of the first one."""

    def make(number: int, _: int) -> bytes:
        octets = record(owner, qtype, rdata(number))
        return octets if number or not name else name + octets[2:]

    return lambda size: filled(size, make, section)


HOSTILE: dict[str, Callable[[int], bytes]] = {
    'A': many(1, number_octets),
    'A of other owners': many(1, number_octets, owner=HELD_ZONE),
    'A of pointers to pointers': lambda size: filled(size, pointed),
    'A of long owners': many(1, number_octets, LONG, FIRST_RECORD),
    'CNAME': lambda size: filled(size, alias),
    'CNAME backwards': lambda size: filled(size, alias, backwards=True),
    'CNAME of short names': lambda size: filled(size, short_alias),
    'CNAME of short names backwards': lambda size: filled(size, short_alias, backwards=True),
    'NS of long names': many(
        2, lambda n: bytes([1, n & 255]) + pointer(FIRST_RECORD + 2), LONG, FIRST_RECORD
    ),
    'SOA of long names': many(6, lambda _: FIRST_OWNER * 2 + bytes(20), LONG, FIRST_RECORD),
    'A denied by SOA of long names': many(
        6, lambda _: FIRST_OWNER * 2 + bytes(20), LONG, FIRST_RECORD, section=1
    ),
    'RP of escaped names': many(17, lambda _: FIRST_OWNER * 2, ESCAPED),
    'MX of escaped names': many(15, lambda n: struct.pack('!H', n) + FIRST_OWNER, ESCAPED),
    'SVCB of escaped names': many(64, lambda n: struct.pack('!H', n) + FIRST_OWNER, ESCAPED),
    'SVCB parameters': single(64, lambda n: struct.pack('!HH', 100 + n, 0), b'\0\1\0'),
    'HTTPS of addresses': hints,
    'NSEC of all types': bitmaps,
    'NSEC of 256 types': many(47, lambda _: b'\0\0\x20' + b'\xff' * 32),
    'NSEC of eight types': many(47, lambda _: b'\0\0\1\xff'),
    'TXT of empty texts': single(16, lambda _: b'\0'),
    'APL of empty prefixes': single(42, lambda _: b'\0\2\0\0'),
    'CSYNC of 256 windows': many(
        62, lambda _: bytes(6) + b''.join(bytes([number, 1, 1]) for number in range(256))
    ),
    'HIP of short names': single(55, lambda _: b'\0', b'\1\2\0\1\0\0'),
    'NULL without RDATA': lambda size: filled(size, lambda *_: SHORTEST),
    'OPT of empty options': empty_options,
    'QUERY of many questions': many_questions,
}


# --- Processes ---------------------------------------------------------------

# The C library knows no other port than 53, and no other resolv.conf than this one.
SYSTEM_ADDRESS = '127.0.53.53'
RESOLV_CONF = f"""\
nameserver {SYSTEM_ADDRESS}
options timeout:{TRY_SECONDS:.0f} attempts:{TRIES}
"""
SYSTEM_FILES = {'resolv.conf': RESOLV_CONF, 'nsswitch.conf': 'hosts: dns\n'}
# In a mount namespace of its own: nothing of the machine is changed for anyone else.
MOUNT = """\
mount --bind "$0/resolv.conf" /etc/resolv.conf &&
mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && exec "$@"
"""


def tied(command: list[str]) -> list[str]:
    """Returns a command whose process ends when this one does, even if this one is killed."""
    setpriv = shutil.which('setpriv')
    return [setpriv, '--pdeathsig', 'KILL', *command] if setpriv else command


def in_private(folder: Path, command: list[str]) -> list[str]:
    """Returns a command for which the files in the folder are those of the system."""
    return ['unshare', '--mount', 'sh', '-c', MOUNT, str(folder), *command]


def run_program(words: list[str], lines: list[str]) -> str:
    """Returns what a program makes of these lines."""
    text = ''.join(f'{line}\n' for line in lines)
    return subprocess.check_output(words, input=text, text=True, timeout=ROUND_SECONDS)


def used_seconds() -> float:
    """Returns the CPU time of this process and of those that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def pick_cores() -> tuple[set[int], set[int]]:
    """Returns the cores of the nameserver and of the peers, or none if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return ({cores[0]}, {*cores[1:]}) if len(cores) > 1 else (set(), set())


def pin(cores: set[int]) -> None:
    """Has what is started from now on run on these cores, if any are given."""
    if cores:
        os.sched_setaffinity(0, cores)


# --- The peers ---------------------------------------------------------------
#
# Each is made from the nameserver's port, in a running loop. This part runs in the
# workers, where `aiodnsresolver` is ours or upstream's.


class Peer(NamedTuple):
    """One way to ask. `prepare` is done before the clock starts, `is_right` after it."""

    ask: Callable[..., Any]
    qtype: Any
    prepare: Callable[[str], Any]
    is_right: Callable[[Any], bool]
    close: Callable[[], Awaitable[None]] | None = None
    takes_all: bool = False  # then `ask` takes all the names, and how many of them at a time


Make = Callable[[int], Peer]


def told(nameserver: object) -> dict[str, Any]:
    """Returns the arguments of a Resolver, ours or upstream's, that is to ask this nameserver."""

    async def get_nameservers(*_: object) -> AsyncGenerator[tuple[Any, ...], None]:
        for _try in range(TRIES):
            yield TRY_SECONDS, nameserver

    return {'get_nameservers': get_nameservers}


def as_configured(port: int) -> dict[str, Any]:
    """Returns the arguments of ours: none if the system's files lead to the nameserver."""
    is_private = Path('/etc/resolv.conf').read_text() == RESOLV_CONF
    return {} if is_private else told((IPv4Address('127.0.0.1'), port))


def resolver_peer(arguments: dict[str, Any]) -> Peer:
    """Returns a Resolver, ours or upstream's, as a peer."""
    module = import_module('aiodnsresolver')
    resolve, _ = module.Resolver(**arguments)
    return Peer(resolve, module.TYPES.A, str, lambda reply: list(reply) == [ADDRESS])


def make_resolver(port: int) -> Peer:
    """This module's resolver."""
    return resolver_peer(as_configured(port))


def make_upstream(port: int) -> Peer:
    """That of release 0.0.157. By itself it would read resolv.conf and hosts for each query."""

    async def no_host(*_: object) -> None:
        return None

    return resolver_peer(told(('127.0.0.1', port)) | {'get_host': no_host})


def make_aiodns(port: int, over_tcp: bool = False) -> Peer:
    """c-ares, by pycares and aiodns. It has a cache unless told otherwise."""
    import aiodns
    import pycares

    flags = pycares.ARES_FLAG_USEVC | pycares.ARES_FLAG_STAYOPEN
    options = {'tcp_port': port, 'flags': flags} if over_tcp else {}
    resolver = aiodns.DNSResolver(
        nameservers=['127.0.0.1'], udp_port=port, timeout=TRY_SECONDS, tries=TRIES, **options
    )

    def is_right(reply: Any) -> bool:
        return [each.data.addr for each in reply.answer] == [TEXT]

    return Peer(resolver.query_dns, 'A', str, is_right, resolver.close)


def make_blastdns(is_batch: bool, port: int) -> Peer:
    """hickory's client in Rust, by blastdns: a call for each name, or one for all of them."""
    blastdns = import_module('blastdns')  # it has no types

    def client(at_once: int) -> Any:
        # It has a task for each query that can be in flight, and wants two descriptors for it.
        most = min(at_once, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
        config = blastdns.ClientConfig(
            max_concurrency=most,
            max_inflight_per_resolver=most,
            request_timeout_ms=int(TRY_SECONDS * 1000),
            max_retries=TRIES - 1,
            cache_capacity=100_000,
        )
        return blastdns.Client([f'127.0.0.1:{port}'], config)

    async def ask_many(names: list[str], at_once: int) -> list[Any]:
        return [found async for _, _, found in client(at_once).resolve_batch(names, 'A')]

    def is_right(reply: list[str]) -> bool:
        return reply == [TEXT]

    if is_batch:
        return Peer(ask_many, None, str, is_right, takes_all=True)
    return Peer(client(10_000).resolve, 'A', str, is_right)


def make_dnspython(port: int, cached: bool = False, over_tcp: bool = False) -> Peer:
    """dnspython's own resolver, which has a cache if it is given one."""
    import dns.asyncresolver

    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ['127.0.0.1'], port
    resolver.timeout, resolver.lifetime = TRY_SECONDS, TRY_SECONDS * TRIES
    resolver.cache = dns.resolver.LRUCache() if cached else None
    ask = partial(resolver.resolve, tcp=over_tcp)
    return Peer(ask, 'A', str, lambda reply: [r.address for r in reply] == [TEXT])


def make_getaddrinfo(port: int) -> Peer:
    """The C library in the loop's threads. Its nameserver is that of the resolv.conf it sees."""
    loop = asyncio.get_running_loop()

    async def ask(name: str, qtype: None) -> Any:
        return await loop.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_DGRAM)

    return Peer(ask, None, str, lambda reply: [each[4][0] for each in reply] == [TEXT])


def make_over_stream(scheme: str, port: int) -> Peer:
    """This module's resolver, which has one stream to a nameserver for all that it asks."""
    module = import_module('aiodnsresolver')
    resolve, clear_cache = module.Resolver(**told(f'{scheme}://127.0.0.1:{port}'))

    async def close() -> None:
        clear_cache()

    return Peer(resolve, module.TYPES.A, str, lambda reply: list(reply) == [ADDRESS], close)


def make_query_function(scheme: str, port: int) -> Peer:
    """This module's function for one query, which has a stream of its own for it."""
    module = import_module('aiodnsresolver')
    call = getattr(module, scheme)

    async def ask(query: Any, _: object) -> Any:
        return await call(query, '127.0.0.1', TRY_SECONDS, port)

    def prepare(name: str) -> Any:
        return module.make_query(name, module.TYPES.A)

    return Peer(ask, None, prepare, lambda reply: [each.rdata for each in reply.an] == [ADDRESS])


ALPN = {'tls': 'dot', 'https': 'h2'}


def client_context(scheme: str) -> Any:
    """Returns the SSLContext for a scheme, made once; otherwise each query would pay for it."""
    import ssl

    if scheme not in ALPN:
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols([ALPN[scheme]])
    return context


def dnspython_peer(call: Callable[[Any], Awaitable[Any]], close: Any = None) -> Peer:
    """Returns what asks one query by dnspython."""
    from dns.message import make_query

    def is_right(reply: Any) -> bool:
        return [item.address for rrset in reply.answer for item in rrset] == [TEXT]

    return Peer(lambda q, _: call(q), None, lambda name: make_query(name, 'A'), is_right, close)


def make_dnspython_over_new_stream(scheme: str, port: int) -> Peer:
    """dnspython's function for one query, without a connection."""
    import dns.asyncquery

    context = client_context(scheme)
    arguments = {'tcp': {}, 'tls': {'ssl_context': context}, 'https': {'verify': context}}[scheme]
    call = getattr(dns.asyncquery, scheme)
    return dnspython_peer(lambda query: call(query, '127.0.0.1', TRY_SECONDS, port, **arguments))


def make_dnspython_over_stream(scheme: str, port: int) -> Peer:
    """The same with a connection that lasts. On one of TCP or TLS only one query can be asked."""
    import dns.asyncbackend
    import dns.asyncquery

    context = client_context(scheme)
    if scheme == 'https':
        import httpx2

        client = httpx2.AsyncClient(http1=False, http2=True, verify=context, trust_env=False)

        async def ask_https(query: Any) -> Any:
            return await dns.asyncquery.https(query, '127.0.0.1', TRY_SECONDS, port, client=client)

        return dnspython_peer(ask_https, client.aclose)
    call = getattr(dns.asyncquery, scheme)
    backend: Any = dns.asyncbackend.get_default_backend()
    lock = asyncio.Lock()
    sockets: list[Any] = []

    async def ask(query: Any) -> Any:
        async with lock:
            if not sockets:
                where, kind = ('127.0.0.1', port), socket.SOCK_STREAM
                name = '127.0.0.1' if context else None
                sockets.append(
                    await backend.make_socket(
                        socket.AF_INET, kind, 0, None, where, TRY_SECONDS, context, name
                    )
                )
            return await call(query, '127.0.0.1', TRY_SECONDS, sock=sockets[0])

    async def close() -> None:
        sockets[0].writer.transport.abort()

    return dnspython_peer(ask, close)


def make_dnsperf(mode: str, port: int) -> Peer:
    """The whole process of dnsperf, which checks no more than the id and knows the RCODEs."""
    words = ['dnsperf', '-s', '127.0.0.1', '-p', str(port), '-m', mode, '-n', '1']
    words += ['-t', f'{TRY_SECONDS:.0f}', '-b', '4096', '-O', 'doh-method=POST']
    words += ['-O', f'doh-uri=https://127.0.0.1:{port}/dns-query']

    async def ask_many(lines: list[str], at_once: int) -> list[bool]:
        printed = run_program([*words, '-q', str(at_once)], lines)
        return [True] * int(printed.partition(' NOERROR ')[2].split()[0])

    return Peer(ask_many, None, lambda name: f'{name} A', bool, takes_all=True)


def make_dig_names(port: int) -> Peer:
    """The whole process of dig, which asks for one name after the other."""
    words = ['dig', '@127.0.0.1', '-p', str(port), '+short', '-f', '-']
    words += [f'+time={TRY_SECONDS:.0f}', f'+tries={TRIES}']

    async def ask_many(names: list[str], at_once: int) -> list[str]:
        return run_program(words, names).splitlines()

    return Peer(ask_many, None, str, lambda line: line == TEXT, takes_all=True)


# Octets to message, message to octets, and how many records a message has.
Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes], Callable[[Any], int]]


def module_codec() -> Codec:
    """Returns that of ours and upstream's, which have the same names."""
    module = import_module('aiodnsresolver')
    return module.parse, module.pack, lambda m: len(m.an) + len(m.ns) + len(m.ar)


def dnspython_codec() -> Codec:
    """Returns that of dnspython."""
    from dns.message import Message, from_wire

    def count(message: Message) -> int:
        return sum(len(rrset) for section in message.sections[1:] for rrset in section)

    return from_wire, Message.to_wire, count


def make_parser(get_codec: Callable[[], Codec], octets: bytes, port: int) -> Peer:
    """Octets to message, without awaiting."""
    parse, _, count = get_codec()
    records = sum(octets[7:13:2])
    return Peer(parse, None, lambda _: octets, lambda message: count(message) == records)


def make_packer(get_codec: Callable[[], Codec], octets: bytes, port: int) -> Peer:
    """Message to octets, without awaiting."""
    parse, pack, count = get_codec()
    records = sum(octets[7:13:2])
    return Peer(pack, None, lambda _: parse(octets), lambda reply: count(parse(reply)) == records)


def make_reader(get_codec: Callable[[], Codec], port: int) -> Peer:
    """Octets to message, as a hostile nameserver would send them."""
    parse = get_codec()[0]

    async def ask(octets: bytes, _: object) -> Any:
        return parse(octets)

    return Peer(ask, None, lambda name: hostile_octets(query_octets(name)), bool)


def make_importer(module: str, port: int) -> Peer:
    """The CPU seconds of importing a module, in a new process that has asyncio already."""
    lines = (
        f'import asyncio, sys, time; sys.path.insert(0, {sys.path[0]!r})',
        f'start = time.process_time(); import {module}; print(time.process_time() - start)',
    )
    command = [sys.executable, '-c', '\n'.join(lines)]
    return Peer(lambda _: float(subprocess.check_output(command)), None, str, bool)


async def transfer_as_stream(port: int, name: str) -> int:
    """This module's transfer as a stream: the answer is how many records came, but for SOAs."""
    transfer = import_module('aiodnsresolver').transfer
    changes = transfer('127.0.0.1', name, port=port, timeout=TRY_SECONDS)
    return sum([len(each.added) async for each in changes]) - 1


async def transfer_to_zone(port: int, name: str) -> Any:
    """This module's transfer into a zone."""
    module = import_module('aiodnsresolver')
    zone = module.Zone(name)
    await module.inbound_xfr('127.0.0.1', zone, port=port, timeout=TRY_SECONDS)
    return zone


async def transfer_by_dnspython(port: int, name: str) -> Any:
    """The same of dnspython, which has no other."""
    import dns.asyncquery
    import dns.zone

    zone = dns.zone.Zone(name)
    await dns.asyncquery.inbound_xfr('127.0.0.1', zone, port=port, timeout=TRY_SECONDS)
    return zone.iterate_rdatas()


async def transfer_by_blastdns(port: int, name: str) -> Any:
    """The same of blastdns: a list of texts, with both SOAs."""
    transfer = import_module('blastdns').zone_transfer
    records = await transfer(f'127.0.0.1:{port}', name, TRY_SECONDS)
    return records[:-1]


async def transfer_by_dig(port: int, name: str) -> int:
    """The whole process of dig, which prints what comes."""
    words = ['dig', '@127.0.0.1', '-p', str(port), '+onesoa', '+noall', '+answer', name, 'AXFR']
    return subprocess.check_output(words).count(b'\n') - 1


def make_transfer(transfer: Callable[[int, str], Awaitable[Any]], port: int) -> Peer:
    """What a function of these has, which is checked by `count_records`."""
    return Peer(lambda name, _: transfer(port, name), None, str, bool)


# Requests by aiohttp to a server on another address, whose port is that of the nameserver.
HTTP_ADDRESS = '127.0.0.2'
HTTP_BODY = b'hello\n'
HTTP_NAMES = 200  # among which the requests of a round go round


def constant_host_resolver() -> Any:
    """Returns a resolver that knows the address: the floor of a request."""
    from aiohttp.abc import AbstractResolver, ResolveResult

    found = ResolveResult(
        hostname='', host=HTTP_ADDRESS, port=0, family=socket.AF_INET, proto=0, flags=0
    )

    class ConstantResolver(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
            return [{**found, 'hostname': host, 'port': port}]

        async def close(self) -> None:
            pass

    return ConstantResolver()


def host_resolver(peer: str, port: int) -> Any:
    """Returns what resolves for aiohttp: its own are by aiodns, and by the loop's threads."""
    import aiohttp

    if peer == 'ours':
        return import_module('aiodnsresolver').AioHttpDnsResolver(**as_configured(port))
    if peer == 'aiodns':
        where: dict[str, Any] = {'nameservers': ['127.0.0.1'], 'udp_port': port, 'tcp_port': port}
        return aiohttp.AsyncResolver(timeout=TRY_SECONDS, tries=TRIES, **where)
    return aiohttp.ThreadedResolver() if peer == 'getaddrinfo' else constant_host_resolver()


def make_requester(peer: str, options: dict[str, Any], port: int) -> Peer:
    """A session of aiohttp whose connector has a resolver and these options."""
    import aiohttp

    resolver = host_resolver(peer, port)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver, **options))

    def prepare(name: str) -> str:
        """Returns a URL. The first request of a round, which is not timed, has its own name."""
        label, _, zone = name.partition('.')
        tag, _, number = label.rpartition('-')
        host = f'{tag}-{int(number) and int(number) % HTTP_NAMES + 1}.{zone}'
        return f'http://{host}:{port}/'

    async def ask(url: str, _: object) -> tuple[int, bytes]:
        async with session.get(url) as response:
            return response.status, await response.read()

    async def close() -> None:
        await session.close()
        await resolver.close()

    return Peer(ask, None, prepare, lambda reply: reply == (200, HTTP_BODY), close)


# Names by the hundred thousand are looked up by a process that is measured as a whole. It reads
# them from a file, and writes a line for each of them to another.
BULK_THREADS = 64
BULK_CODE = """\
from __future__ import annotations
import atexit, sys
def print_peak():
    with open('/proc/self/status') as file:
        print(file.read().partition('VmHWM:')[2].split()[0], file=sys.stderr)
atexit.register(print_peak)
"""
BULK_LOOP = f"""\
import asyncio, socket
TRY_SECONDS, TRIES, BULK_THREADS = {TRY_SECONDS}, {TRIES}, {BULK_THREADS}
"""


async def print_addresses(ask: Callable[[str], Awaitable[Any]], at_once: int) -> None:
    """Prints the names that standard input has and their addresses, asking for so many at once."""
    names = map(str.rstrip, sys.stdin)

    async def work() -> None:
        for name in names:
            try:
                print(name, await ask(name))
            except Exception as error:
                print(name, error)

    await asyncio.gather(*[work() for _ in range(at_once)])


async def bulk_aiodns(port: int, at_once: int) -> None:
    """The loop around aiodns that people write."""
    import aiodns

    resolver = aiodns.DNSResolver(
        nameservers=['127.0.0.1'], udp_port=port, timeout=TRY_SECONDS, tries=TRIES
    )

    async def ask(name: str) -> Any:
        found: Any = await resolver.query_dns(name, 'A')
        return found.answer[0].data.addr

    await print_addresses(ask, at_once)
    await resolver.close()


async def bulk_getaddrinfo(port: int, at_once: int) -> None:
    """The same around getaddrinfo in so many threads: by default they are fewer, and slower."""
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(BULK_THREADS))

    async def ask(name: str) -> Any:
        kind = socket.SOCK_DGRAM
        found = await loop.getaddrinfo(name, None, family=socket.AF_INET, type=kind)
        return found[0][4][0]

    await print_addresses(ask, at_once)


def bulk_command_line(port: int, at_once: int) -> str:
    """Returns the code of our command line, which sends each line on its way at once."""
    words = ['-f', '-', '--concurrency', str(at_once)]
    words += [f'@127.0.0.1:{port}'] if as_configured(port) else []
    lines = (
        f'sys.path.insert(0, {sys.path[0]!r}); sys.argv[1:] = {words!r}',
        'import aiodnsresolver; sys.exit(aiodnsresolver.main())',
    )
    return '\n'.join(lines)


def bulk_loop(main: Callable[..., Any], port: int, at_once: int) -> str:
    """Returns the code of one of these loops, which imports no more than it needs."""
    sources = [inspect.getsource(each) for each in (print_addresses, main)]
    return '\n'.join([BULK_LOOP, *sources, f'asyncio.run({main.__name__}({port}, {at_once}))'])


def make_bulk(make_code: Callable[[int, int], str], port: int) -> Peer:
    """A process that looks up the names in a file: what it writes, and its peak in bytes."""

    def ask(names: Any, at_once: int) -> tuple[list[str], int]:
        with tempfile.TemporaryFile('w+') as found, tempfile.TemporaryFile('w+') as log:
            code = BULK_CODE + (make_code(port, at_once) if at_once else '')
            command = tied([sys.executable, '-c', code])
            subprocess.run(command, stdin=names, stdout=found, stderr=log)
            found.seek(0)
            log.seek(0)
            return found.readlines(), int(log.readlines()[-1]) * 1024

    return Peer(ask, None, str, bool)


# --- The floors --------------------------------------------------------------


class SocketFloor:
    """A fresh connected socket per query in an epoll of its own, one timer, and no DNS logic."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.loop = asyncio.get_running_loop()
        self.epoll = select.epoll()
        self.waiting: dict[int, tuple[socket.socket, asyncio.Future[bytes]]] = {}
        self.deadlines: dict[int, float] = {}  # by descriptor, the next to come first
        self.timer: asyncio.TimerHandle | None = None
        self.loop.add_reader(self.epoll.fileno(), self.drain)

    def drain(self) -> None:
        """Takes all the replies that are there."""
        for fd, _ in self.epoll.poll(0):
            sock, reply = self.waiting[fd]
            reply.set_result(sock.recv(65535))

    def ring(self) -> None:
        """Tells those whose time is up, and sets the timer for the next."""
        self.timer = None
        for fd, deadline in list(self.deadlines.items()):
            if deadline > self.loop.time():
                self.timer = self.loop.call_at(deadline, self.ring)
                return
            del self.deadlines[fd]
            reply = self.waiting[fd][1]
            if not reply.done():
                reply.set_exception(TimeoutError())

    async def ask(self, query: bytes, qtype: None) -> bytes:
        """Returns the reply."""
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_UDP)
        sock.connect(('127.0.0.1', self.port))
        fd = sock.fileno()
        reply: asyncio.Future[bytes] = self.loop.create_future()
        self.waiting[fd] = sock, reply
        self.epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        sock.send(query)
        self.deadlines[fd] = deadline = self.loop.time() + TRY_SECONDS
        if self.timer is None:
            self.timer = self.loop.call_at(deadline, self.ring)
        try:
            return await reply
        finally:
            del self.waiting[fd]
            self.deadlines.pop(fd, None)
            if not self.deadlines and self.timer is not None:  # to cancel it is part of the work
                self.timer.cancel()
                self.timer = None
            sock.close()


def make_socket_floor(port: int) -> Peer:
    """The floor of a query that is sent."""
    ask = SocketFloor(port).ask
    return Peer(ask, None, query_octets, lambda reply: reply[-4:] == ADDRESS.packed)


class Sketch(SocketFloor):
    """The same with DNS logic, as plain as it goes: what a cold query costs in Python at least.

    Its cache never forgets, its names are in ASCII, and it follows no alias.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.cache: dict[tuple[str, int], tuple[float, list[IPv4Address]]] = {}

    async def resolve(self, name: str, qtype: int) -> list[IPv4Address]:
        """Returns the addresses of a name, from the cache or the nameserver."""
        key = name.lower(), qtype
        expires_at, addresses = self.cache.get(key, (0.0, []))
        if expires_at > self.loop.time():
            return addresses
        query = self.pack(name, qtype)
        ttl, addresses = self.parse(query, await self.ask(query, None))
        self.cache[key] = self.loop.time() + ttl, addresses
        return addresses

    @staticmethod
    def pack(name: str, qtype: int) -> bytes:
        """Returns a query with an id that cannot be guessed, nor can the case of its letters."""
        bits = int.from_bytes(os.urandom(10))
        question = bytearray()
        for label in name.encode().split(b'.'):
            question += bytes([len(label)]) + label
        for index, octet in enumerate(question):
            if 97 <= octet <= 122 and bits >> index & 1:
                question[index] = octet - 32
        header = struct.pack('!6H', bits >> 64, 0x0100, 1, 0, 0, 0)
        return header + question + struct.pack('!xHH', qtype, 1)

    @staticmethod
    def parse(query: bytes, reply: bytes) -> tuple[int, list[IPv4Address]]:
        """Returns the lowest TTL and the addresses, or raises if it is no reply to the query."""
        flags, _, answers = struct.unpack_from('!3H', reply, 2)
        offset, ttls, addresses = len(query), [86400], []
        if reply[:2] != query[:2] or reply[12:offset] != query[12:] or flags & 0x820F != 0x8000:
            raise ValueError(reply)
        for _answer in range(answers):
            while 0 < reply[offset] < 192:
                offset += 1 + reply[offset]
            offset += 2 if reply[offset] else 1
            qtype, _, ttl, length = struct.unpack_from('!HHIH', reply, offset)
            offset += 10 + length
            if qtype == 1 and length == 4:
                ttls.append(ttl)
                addresses.append(IPv4Address(reply[offset - 4 : offset]))
        return min(ttls), addresses


def make_sketch(port: int) -> Peer:
    """The floor of a query that is sent, with DNS logic."""
    return Peer(Sketch(port).resolve, 1, str, lambda reply: reply == [ADDRESS])


class StreamFloor(asyncio.Protocol):
    """A bare protocol: ready octets, a write per query, replies told apart by length and id."""

    def __init__(self, scheme: str, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.port = port
        self.context = client_context(scheme)
        self.transport: Any = None
        self.waiting: dict[Any, asyncio.Future[bytes]] = {}
        self.sent = 0
        self.incoming = b''

    @staticmethod
    def prepare(name: str) -> bytes:
        """Returns a query as it is sent, save for its id."""
        query = query_octets(name)
        return struct.pack('!H', len(query)) + query

    async def ask(self, query: bytes, qtype: None) -> bytes:
        """Returns the reply. The first is asked alone, and connects."""
        if self.transport is None:
            where = '127.0.0.1', self.port
            connect = self.loop.create_connection(lambda: self, *where, ssl=self.context)
            self.transport, _ = await connect
        reply: asyncio.Future[bytes] = self.loop.create_future()
        self.waiting[self.send(query)] = reply
        return await reply

    def send(self, query: bytes) -> Any:
        """Sends a query, and returns by what its reply is known."""
        self.sent += 1
        key = struct.pack('!H', self.sent & 0xFFFF)
        self.transport.write(query[:2] + key + query[4:])
        return key

    def data_received(self, data: bytes) -> None:
        """Takes the replies that are whole."""
        data, start = self.incoming + data, 0
        while len(data) >= start + 2:
            end = start + 2 + int.from_bytes(data[start : start + 2], 'big')
            if len(data) < end:
                break
            self.waiting.pop(data[start + 2 : start + 4]).set_result(data[start + 2 : end])
            start = end
        self.incoming = data[start:]

    async def close(self) -> None:
        """Ends the connection."""
        self.transport.abort()


class HttpFloor(StreamFloor):
    """The same with the h2 library, which checks no more than for our module.

    It collects what is to be sent, so that the queries of one turn of the loop are one write.
    """

    prepare = staticmethod(query_octets)

    def __init__(self, scheme: str, port: int) -> None:
        import h2.config
        import h2.connection
        import h2.events

        super().__init__(scheme, port)
        config = h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.data, self.end = h2.events.DataReceived, h2.events.StreamEnded
        self.is_write_due = False
        self.streams = asyncio.Semaphore(100)  # more than these no server has to allow
        self.bodies: dict[int, bytes] = {}
        message = 'application/dns-message'
        self.fields = {
            ':method': 'POST',
            ':scheme': 'https',
            ':authority': f'127.0.0.1:{port}',
            ':path': '/dns-query',
            'accept': message,
            'content-type': message,
        }

    async def ask(self, query: bytes, qtype: None) -> bytes:
        """Returns the reply, once there is a stream for it."""
        async with self.streams:
            return await super().ask(query, qtype)

    def send(self, query: bytes) -> int:
        """Sends a request, and returns the number of its stream."""
        stream_id: int = self.http.get_next_available_stream_id()
        fields = self.fields | {'content-length': str(len(query))}
        self.http.send_headers(stream_id, fields.items())
        self.http.send_data(stream_id, query, end_stream=True)
        if not self.is_write_due:
            self.is_write_due = True
            self.loop.call_soon(self.write)
        return stream_id

    def write(self) -> None:
        """Sends what the library has collected."""
        self.is_write_due = False
        self.transport.write(self.http.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Takes what the library makes of it. What it has to say goes with the next request."""
        for event in self.http.receive_data(data):
            if isinstance(event, self.data):
                self.bodies[event.stream_id] = event.data
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, self.end):
                self.waiting.pop(event.stream_id).set_result(self.bodies.pop(event.stream_id))


def make_stream_floor(scheme: str, port: int) -> Peer:
    """The floor of a query on a stream that lasts."""
    floor = (HttpFloor if scheme == 'https' else StreamFloor)(scheme, port)

    def is_right(reply: bytes) -> bool:
        return reply[-4:] == ADDRESS.packed

    return Peer(floor.ask, None, floor.prepare, is_right, floor.close)


def make_dict_floor(port: int) -> Peer:
    """An awaited coroutine that does one look-up in a dict and reads the loop's clock once."""
    get_running_loop = asyncio.get_running_loop
    cache: dict[tuple[str, int], tuple[float, list[IPv4Address]]] = {}

    async def ask(name: str, qtype: int) -> list[IPv4Address]:
        expires_at, addresses = cache[name, qtype]
        if expires_at > get_running_loop().time():
            return addresses
        raise TimeoutError

    def prepare(name: str) -> str:
        cache[name, 1] = float('inf'), [ADDRESS]
        return name

    return Peer(ask, 1, prepare, lambda reply: reply == [ADDRESS])


# --- What is measured --------------------------------------------------------
#
# What is done with a peer in one round, and what is measured of it.


class Round(NamedTuple):
    """What a query cost, in the workload's unit, and how many answers were right."""

    cost: float
    correct: int
    asked: int
    reached: int = 0  # queries that the nameserver saw
    rate: float = 0.0  # queries or records in a second, where that is measured
    latencies: tuple[float, ...] = ()  # milliseconds at PERCENTILES, where these are measured
    parts: tuple[tuple[str, float], ...] = ()  # of what the cost is the worst, that first


def count_right(peer: Peer, answers: Iterable[Any]) -> int:
    """Returns how many are what is expected, and no exception."""
    return sum(not isinstance(each, Exception) and peer.is_right(each) for each in answers)


def percentiles(seconds: list[float]) -> tuple[float, ...]:
    """Returns the milliseconds within which so many of a hundred were done."""
    seconds = sorted(seconds)
    ranks = [math.ceil(len(seconds) * each / 100) for each in PERCENTILES]
    return tuple(seconds[rank - 1] * 1e3 for rank in ranks)


async def ask_all(
    peer: Peer, names: list[Any], at_once: int, seconds: list[float] | None = None
) -> list[Any]:
    """Returns the answers or exceptions for the names, asked for so many at a time.

    The time that each took is added to `seconds`. It is not known of a peer that takes all names.
    """
    remaining = iter(names)
    answers: list[Any] = []
    if peer.takes_all:
        answers += await asyncio.wait_for(peer.ask(names, at_once), ROUND_SECONDS)
        return answers
    took, clock = [] if seconds is None else seconds, time.perf_counter

    async def work() -> None:
        for name in remaining:
            start = clock()
            try:
                answers.append(await peer.ask(name, peer.qtype))
            except Exception as error:
                answers.append(error)
            took.append(clock() - start)

    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    _, late = await asyncio.wait(tasks, timeout=ROUND_SECONDS)
    for task in late:
        task.cancel()
    return answers


async def time_at_once(peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU microseconds of a query that is asked for once, after a first one."""
    first, *rest = [peer.prepare(name) for name in names]
    answers = await ask_all(peer, [first], 1)
    seconds: list[float] = []
    gc.collect()
    began, start = time.perf_counter(), used_seconds()
    answers += await ask_all(peer, rest, at_once, seconds)
    cost = (used_seconds() - start) / len(rest) * 1e6
    rate = len(rest) / (time.perf_counter() - began)
    # What nobody has waited for until its end took at least as long as the round.
    late = [float(ROUND_SECONDS)] * (len(rest) - len(seconds))
    latencies = () if peer.takes_all else percentiles(seconds + late)
    return Round(cost, count_right(peer, answers), len(names), rate=rate, latencies=latencies)


async def time_warm(peer: Peer, names: list[str], at_once: int) -> Round:
    """The same as `time_at_once` for what has been asked for once before."""
    await ask_all(peer, [peer.prepare(name) for name in names], at_once)
    return await time_at_once(peer, names, at_once)


def is_module_frame(frame: FrameType, event: str) -> bool:
    """Says if a frame of the module's file is entered."""
    return event == 'call' and frame.f_code.co_filename == sys.modules['aiodnsresolver'].__file__


def is_any_call(frame: FrameType, event: str) -> bool:
    """Says if a frame of any other file than this one is entered, or calls a function in C."""
    return event in ('call', 'c_call') and frame.f_code.co_filename != __file__


async def count_events(
    is_counted: Callable[[FrameType, str], bool], peer: Peer, names: list[str], at_once: int
) -> Round:
    """Events of the loop's thread for a query, after a first one, as a profiler sees them."""
    seen = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        seen += is_counted(frame, event)

    first, *rest = [peer.prepare(name) for name in names]
    answers = await ask_all(peer, [first], 1)
    sys.setprofile(count)
    try:
        answers += await ask_all(peer, rest, at_once)
    finally:
        sys.setprofile(None)
    return Round(seen / len(rest), count_right(peer, answers), len(names))


PR_SET_PTRACER, BY_ANY = 0x59616D61, -1


async def count_syscalls(peer: Peer, names: list[str], at_once: int) -> Round:
    """System calls of all threads for a query, after a first one.

    strace slows the process down, so that more replies than otherwise are there at a time.
    """
    first, *rest = [peer.prepare(name) for name in names]
    answers = await ask_all(peer, [first], 1)
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, BY_ANY)  # where Yama is, a child is not by itself
    with tempfile.NamedTemporaryFile('r') as table:
        words = ['strace', '-c', '-f', '-o', table.name, '-p', str(os.getpid())]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as strace:
            assert strace.stderr is not None
            if b' attached' not in (said := strace.stderr.readline()):
                raise PermissionError(said.decode().strip())  # it has ended
            answers += await ask_all(peer, rest, at_once)
            strace.send_signal(signal.SIGINT)
        *_, total = table.readlines()
    return Round(int(total.split()[3]) / len(rest), count_right(peer, answers), len(names))


async def time_held(size: int, peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU milliseconds that a reply of so many octets holds the loop: of the worst shape.

    It is the longest callback, in that of the tries where it is shortest. There is a try for each
    name. An answer or an exception is correct if it comes within HELD_SECONDS.
    """
    held: list[float] = []
    run, clock = asyncio.Handle._run, time.thread_time

    def timed(handle: asyncio.Handle) -> None:
        start = clock()
        run(handle)
        held.append(clock() - start)

    # aiodns refuses to ask for types that it does not know, but reads any reply.
    known = getattr(sys.modules.get('aiodns'), 'query_type_map', None)

    async def ask(argument: Any, mnemonic: str) -> Any:
        is_asked = mnemonic not in ('CNAME', 'OPT', 'QUERY') and (not known or mnemonic in known)
        qtype = mnemonic if is_asked else 'A'
        return await peer.ask(argument, getattr(type(peer.qtype), qtype, qtype))

    costs, correct, tries = dict.fromkeys(HOSTILE, math.inf), 0, 0
    with patch.object(asyncio.Handle, '_run', timed):
        for shape, turn in itertools.product(HOSTILE, range(len(names))):
            if costs[shape] != math.inf and costs[shape] > SLOW_MS:
                continue
            argument = peer.prepare(held_name(shape, turn, size))
            gc.collect()
            await asyncio.sleep(0)  # in a callback that is not counted
            held.clear()
            asked = asyncio.ensure_future(ask(argument, shape.split()[0]))
            done, _ = await asyncio.wait([asked], timeout=HELD_SECONDS)
            costs[shape] = min(costs[shape], max(held) * 1e3)
            tries += 1
            correct += len(done)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
    parts = tuple(sorted(costs.items(), key=lambda item: -item[1]))
    return Round(parts[0][1], correct, tries, parts=parts)


async def time_cached(peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU microseconds of asking for one name again and again."""
    name, qtype, ask = peer.prepare(names[0]), peer.qtype, peer.ask
    await ask(name, qtype)
    gc.collect()
    start = time.process_time()
    answers = [await ask(name, qtype) for _ in names]
    cost = (time.process_time() - start) / len(names) * 1e6
    return Round(cost, count_right(peer, answers), len(names))


async def time_calls(peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU microseconds of a call of a plain function."""
    argument, call = peer.prepare(names[0]), peer.ask
    call(argument)
    gc.collect()
    start = time.process_time()
    for _ in names:
        call(argument)
    cost = (time.process_time() - start) / len(names) * 1e6
    # Again, for the check: to keep all the answers would be measured too.
    return Round(cost, count_right(peer, (call(argument) for _ in names)), len(names))


async def time_imports(peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU milliseconds of an import. One before them compiles what is not compiled yet."""
    peer.ask('')
    answers = [peer.ask(name) for name in names]
    return Round(statistics.median(answers) * 1e3, count_right(peer, answers), len(names))


def resident_bytes() -> int:
    """Returns the memory of this process that is in use."""
    gc.collect()
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


async def ask_in_parts(peer: Peer, names: list[Any], at_once: int) -> int:
    """Returns how many answers were right, and keeps none: only the peer's cache grows."""
    parts = [names[start : start + at_once] for start in range(0, len(names), at_once)]
    return sum([count_right(peer, await ask_all(peer, part, at_once)) for part in parts])


async def measure_cache(peer: Peer, names: list[str], at_once: int) -> Round:
    """Bytes of a name in the cache, when a quarter has used what the imports have left over.

    The names themselves are there before, so a cache that keeps no copy of them has an advantage.
    All are asked for again, to see that they are there.
    """
    arguments = [peer.prepare(name) for name in names]
    quarter = len(names) // 4
    await ask_in_parts(peer, arguments[:quarter], at_once)
    before = resident_bytes()
    await ask_in_parts(peer, arguments[quarter:], at_once)
    cost = (resident_bytes() - before) / (len(names) - quarter)
    return Round(cost, await ask_in_parts(peer, arguments, at_once), len(names))


async def measure_flight(peer: Peer, names: list[str], at_once: int) -> Round:
    """Bytes of a query that waits for its reply, the first quarter aside as in `measure_cache`.

    It is correct if it does wait. A task is counted that a peer needs around its coroutine.
    """
    arguments, quarter = [peer.prepare(name) for name in names], len(names) // 4
    tasks = [asyncio.ensure_future(peer.ask(each, peer.qtype)) for each in arguments[:quarter]]
    await asyncio.sleep(0.1)  # the loop comes back when all have been sent
    before = resident_bytes()
    tasks += [asyncio.ensure_future(peer.ask(each, peer.qtype)) for each in arguments[quarter:]]
    await asyncio.sleep(0.1)
    cost = (resident_bytes() - before) / (len(names) - quarter)
    correct = sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Round(cost, correct, len(names))


def count_records(answer: Any) -> int:
    """Returns how many records came, but for the SOA: an answer is that number, or has them."""
    return answer if isinstance(answer, int) else sum(1 for _ in answer) - 1


async def time_transfer(peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU microseconds of a record of a zone, whose name says how many there are."""
    asked = int(names[0].partition('.')[0])
    await peer.ask('4.zone', None)
    gc.collect()
    began, start = time.perf_counter(), used_seconds()
    answer = await peer.ask(names[0], None)
    cost = (used_seconds() - start) / asked * 1e6
    rate = asked / (time.perf_counter() - began)
    return Round(cost, count_records(answer), asked, rate=rate)


async def measure_transfer(peer: Peer, names: list[str], at_once: int) -> Round:
    """Megabytes that a process has more at the peak of a transfer than before."""
    asked = int(names[0].partition('.')[0])
    await peer.ask('4.zone', None)
    before = resident_bytes()
    Path('/proc/self/clear_refs').write_text('5')  # the peak from now on
    answer = await peer.ask(names[0], None)
    status = Path('/proc/self/status').read_text()
    peak = int(status.partition('VmHWM:')[2].split()[0]) * 1024
    return Round((peak - before) / 1e6, count_records(answer), asked)


def run_bulk(peer: Peer, names: list[str], at_once: int) -> tuple[Round, float]:
    """Has a process look the names up, and returns its CPU microseconds a name and its megabytes.

    Before it there is an empty process, whose memory is not counted, and one without names, by
    which all imports are compiled.
    """
    with tempfile.TemporaryFile('w+') as file:
        _, base = peer.ask(file, 0)
        peer.ask(file, at_once)
        file.writelines(f'{name}\n' for name in names)
        file.seek(0)
        began, start = time.perf_counter(), used_seconds()
        lines, peak = peer.ask(file, at_once)
        cost = (used_seconds() - start) / len(names) * 1e6
        rate = len(names) / (time.perf_counter() - began)
    # An owner is absolute in ours, and not in what the loops print.
    found = {line.split()[0].rstrip('.') for line in lines if line.endswith(f' {TEXT}\n')}
    correct = len(found.intersection(names)) if len(lines) == len(names) else 0
    return Round(cost, correct, len(names), rate=rate), (peak - base) / 1e6


async def time_bulk(peer: Peer, names: list[str], at_once: int) -> Round:
    """CPU microseconds of a name, by a process with all that it does from start to end."""
    return run_bulk(peer, names, at_once)[0]


async def measure_bulk(peer: Peer, names: list[str], at_once: int) -> Round:
    """Megabytes that such a process has at its peak, more than an empty Python process."""
    one, megabytes = run_bulk(peer, names, at_once)
    return one._replace(cost=megabytes)


# --- The workloads -----------------------------------------------------------

ON_UVLOOP = '-uvloop'  # ends the name of a peer whose worker has that loop
Makes = dict[str, Make]  # by peer


def and_on_uvloop(makes: Makes) -> Makes:
    """Returns the peers, and some once more on uvloop."""
    able = only(makes, 'ours', 'aiodns', 'blastdns', 'floor')
    return makes | {peer + ON_UVLOOP: make for peer, make in able.items()}


def only(makes: Makes, *peers: str) -> Makes:
    """Returns these peers, as far as they are there."""
    return {peer: make for peer, make in makes.items() if peer in peers}


def without(makes: Makes, *peers: str) -> Makes:
    """Returns the other peers."""
    return {peer: make for peer, make in makes.items() if peer not in peers}


BY_SOCKET: Makes = {
    'ours': make_resolver,
    'aiodns': make_aiodns,
    'blastdns': partial(make_blastdns, False),
    'dnspython': make_dnspython,
    'getaddrinfo': make_getaddrinfo,
    'upstream': make_upstream,
    'sketch': make_sketch,
    'floor': make_socket_floor,
}
BY_LOOP = and_on_uvloop(BY_SOCKET)
# What waits in a queue for one of getaddrinfo's threads is not in flight; it has no cache either.
IN_FLIGHT = without(BY_SOCKET, 'getaddrinfo')
BY_CACHE = without(IN_FLIGHT, 'floor') | {'dnspython': partial(make_dnspython, cached=True)}
BY_ZONE: Makes = {
    'ours': partial(make_transfer, transfer_to_zone),
    'blastdns': partial(make_transfer, transfer_by_blastdns),
    'dnspython': partial(make_transfer, transfer_by_dnspython),
}
BY_TCP: Makes = {
    'ours': partial(make_over_stream, 'tcp'),
    'aiodns': partial(make_aiodns, over_tcp=True),
    'dnspython': partial(make_dnspython, over_tcp=True),
}
BY_BULK: Makes = {
    'ours': partial(make_bulk, bulk_command_line),
    'aiodns': partial(make_bulk, partial(bulk_loop, bulk_aiodns)),
    'getaddrinfo': partial(make_bulk, partial(bulk_loop, bulk_getaddrinfo)),
}
CODECS = {'ours': module_codec, 'dnspython': dnspython_codec, 'upstream': module_codec}


class Workload(NamedTuple):
    """What is measured: of so many queries in a round, so many at a time, by which peers."""

    name: str
    unit: str
    queries: int
    at_once: int
    measure: Callable[[Peer, list[str], int], Awaitable[Round]]
    peers: Makes
    zone: str = 'bench'
    scheme: str = 'udp'  # which of `Server.ports` is asked
    fresh: bool = False  # each round in a new process: what was freed would hide what is taken
    rounds: int = 1000  # at most, of what takes a minute and always comes to the same
    floor: str = 'a fresh socket'  # what the peer of that name is, where it is one


US = 'CPU us/query'


def datagram_workloads() -> Iterator[Workload]:
    """Yields what is asked by datagrams, or not at all as the answer is in the cache."""
    programs: Makes = {
        'blastdns-batch': partial(make_blastdns, True),
        'dnsperf': partial(make_dnsperf, 'udp'),
    }
    for queries, at_once in ((2000, 1), (4000, 100), (4000, 1000), (10_000, 10_000)):
        # dig asks for one name after the other.
        peers: Makes = programs | ({'dig': make_dig_names} if at_once == 1 else {})
        yield Workload(f'cold-{at_once}', US, queries, at_once, time_at_once, BY_LOOP | peers)
    by_dict = BY_CACHE | {'floor': make_dict_floor}
    yield Workload('cached', US, 20_000, 1, time_cached, by_dict, floor='a dict and a clock')
    # No call of this file, where the floors are, is counted; getaddrinfo is in other threads.
    of_functions = without(BY_SOCKET, 'getaddrinfo', 'sketch', 'floor')
    of_module = only(BY_SOCKET, 'ours', 'upstream')
    for what, unit, count, peers in (
        ('frames', 'frames/query', partial(count_events, is_module_frame), of_module),
        ('calls', 'calls/query', partial(count_events, is_any_call), of_functions),
        ('syscalls', 'calls/query', count_syscalls, BY_LOOP),
    ):
        for at_once in (1, 100):
            yield Workload(f'{what}-{at_once}', unit, 401, at_once, count, peers)


def octets_workloads() -> Iterator[Workload]:
    """Yields what is parsed and packed."""
    query = query_octets('www.example.com')  # without EDNS, which upstream does not have
    for name, make, octets, queries in (
        ('parse-a', make_parser, a_octets(), 5000),
        ('parse-chain', make_parser, chain_octets(), 1000),
        ('parse-referral', make_parser, referral_octets(), 500),
        ('parse-mixed', make_parser, mixed_octets(), 200),
        ('pack-query', make_packer, query, 5000),
        ('pack-a', make_packer, a_octets(), 5000),
        ('pack-chain', make_packer, chain_octets(), 1000),
    ):
        peers: Makes = {peer: partial(make, codec, octets) for peer, codec in CODECS.items()}
        yield Workload(name, US, queries, 1, time_calls, peers)


def memory_workloads() -> Iterator[Workload]:
    """Yields what a name and a query take, and an import."""
    yield Workload('memory-cached', 'bytes/name', 10_000, 100, measure_cache, BY_CACHE, fresh=True)
    yield Workload(
        'memory-flight', 'bytes/query', 2000, 2000, measure_flight, IN_FLIGHT, 'silent', fresh=True
    )
    modules = {
        'ours': 'aiodnsresolver',
        'aiodns': 'aiodns',
        'blastdns': 'blastdns',
        'dnspython': 'dns.asyncresolver',
        'upstream': 'aiodnsresolver',
    }
    by_import: Makes = {peer: partial(make_importer, each) for peer, each in modules.items()}
    yield Workload('import', 'CPU ms', 5, 1, time_imports, by_import)


def transfer_workloads() -> Iterator[Workload]:
    """Yields transfers. Of a million records into a zone the others would take minutes."""
    by_stream: Makes = {
        'ours': partial(make_transfer, transfer_as_stream),
        'dig': partial(make_transfer, transfer_by_dig),
    }
    for size, count, by_zone in (
        ('100k', 100_000, BY_ZONE),
        ('1m', 1_000_000, only(BY_ZONE, 'ours')),
    ):
        for what, peers in (('transfer', by_stream), ('zone', by_zone)):
            for name, unit, measure, able in (
                (f'{what}-{size}', 'CPU us/record', time_transfer, peers),
                # The memory of another process is not seen.
                (f'memory-{what}-{size}', 'peak MB', measure_transfer, without(peers, 'dig')),
            ):
                yield Workload(name, unit, count, 1, measure, able, 'zone', 'transfer', fresh=True)


def stream_workloads(scheme: str) -> Iterator[Workload]:
    """Yields what is asked over a stream that lasts, and over one that is new for each query."""
    lasting: Makes = {
        'ours': partial(make_over_stream, scheme),
        'dnspython': partial(make_dnspython_over_stream, scheme),
        'floor': partial(make_stream_floor, scheme),
    }
    if scheme == 'tcp':
        lasting['aiodns'] = BY_TCP['aiodns']
    mode = {'tcp': 'tcp', 'tls': 'dot', 'https': 'doh'}[scheme]
    lasting = and_on_uvloop(lasting) | {'dnsperf': partial(make_dnsperf, mode)}
    floor = 'h2 alone' if scheme == 'https' else 'a Protocol with ready octets'
    for queries, at_once in ((500, 1), (2000, 100), (4000, 1000), (10_000, 10_000)):
        name = f'{scheme}-{at_once}'
        # dnspython asks for one after the other, or loses them, and would take minutes for many;
        # dnsperf does ten a second if each request, in two writes, waits for an acknowledgement.
        slow = 'dnspython' if at_once > 100 else 'dnsperf' if name == 'https-1' else ''
        peers = without(lasting, slow)
        yield Workload(name, US, queries, at_once, time_at_once, peers, scheme=scheme, floor=floor)
    new: Makes = {
        'ours': partial(make_query_function, scheme),
        'dnspython': partial(make_dnspython_over_new_stream, scheme),
    }
    peers = and_on_uvloop(new)
    yield Workload(f'{scheme}-new', US, 100, 1, time_at_once, peers, scheme=scheme)


def hold_workloads() -> Iterator[Workload]:
    """Yields hostile replies that are asked for, and the same that are only parsed."""
    by_reader: Makes = {peer: partial(make_reader, codec) for peer, codec in CODECS.items()}
    for what, size in (('1k', 1 << 10), ('4k', 1 << 12), ('16k', 1 << 14), ('64k', MOST_OCTETS)):
        hold = partial(time_held, size)
        for prefix, peers, scheme in (
            ('hold', BY_TCP, 'transfer'),
            ('hold-parse', by_reader, 'udp'),
        ):
            # Others would take a minute for 64 KB.
            able = peers if size < 1 << 14 else only(peers, 'ours', 'aiodns')
            yield Workload(f'{prefix}-{what}', 'CPU ms', 3, 1, hold, able, 'hold', scheme)


def program_workloads() -> Iterator[Workload]:
    """Yields what whole programs do: requests by aiohttp, and names by the hundred thousand."""
    # A thousand requests after a first one: to names that are new, and to names that are known.
    closed = {'use_dns_cache': False, 'force_close': True}
    for name, measure, options in (
        ('aiohttp-cold', time_at_once, {}),
        ('aiohttp-warm', time_warm, closed),
    ):
        resolvers = ('ours', 'aiodns', 'getaddrinfo', 'floor')
        peers: Makes = {peer: partial(make_requester, peer, options) for peer in resolvers}
        yield Workload(
            name, 'CPU us/request', 1001, 100, measure, peers, 'http', 'http', floor='no names'
        )
    # Of a million names only what ours takes: the others would take minutes.
    for name, unit, bulk, count, peers, rounds in (
        ('bulk-100k', 'CPU us/name', time_bulk, 100_000, BY_BULK, 1000),
        ('memory-bulk-100k', 'peak MB', measure_bulk, 100_000, BY_BULK, 1000),
        ('memory-bulk-1m', 'peak MB', measure_bulk, 1_000_000, only(BY_BULK, 'ours'), 1),
    ):
        yield Workload(name, unit, count, 1000, bulk, peers, fresh=True, rounds=rounds)


WORKLOADS = {
    each.name: each
    for each in itertools.chain(
        datagram_workloads(),
        octets_workloads(),
        memory_workloads(),
        transfer_workloads(),
        *map(stream_workloads, ('tcp', 'tls', 'https')),
        hold_workloads(),
        program_workloads(),
    )
}
PEERS = list(dict.fromkeys(peer for each in WORKLOADS.values() for peer in each.peers))


# --- The workers -------------------------------------------------------------
#
# A worker is this program once more, with one peer in it. It reads requests and writes rounds, a
# line of JSON each, and ends with its input.


async def do_round(workload: Workload, peer: str, queries: int, port: int, tag: str) -> Round:
    """Returns one round of one peer. The names are new: nobody's cache knows them."""
    if workload.zone == 'zone':
        names = [f'{queries}.{workload.zone}']
    else:
        names = [f'{tag}-{number}.{workload.zone}' for number in range(queries)]
    made = workload.peers[peer](port)
    one = await workload.measure(made, names, min(workload.at_once, queries))
    if made.close:
        await made.close()
    return one


def work(folder: str) -> int:
    """Does rounds as they are asked for. The first place to import from is `folder`."""
    sys.path.insert(0, folder)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin:
        workload, peer, *request = json.loads(line)
        new_loop = asyncio.new_event_loop
        if peer.endswith(ON_UVLOOP):
            new_loop = import_module('uvloop').new_event_loop
        with asyncio.Runner(loop_factory=new_loop) as runner:
            one = runner.run(do_round(WORKLOADS[workload], peer, *request))
        print(json.dumps(one), flush=True)
    return 0


class PeerFailed(Exception):
    """A worker ended or hung; says why."""


class Worker:
    """A worker, as seen from the program that measures."""

    def __init__(self, command: list[str]) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `stop`)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            tied(command), 0, stdin=pipe, stdout=pipe, stderr=self.log, process_group=0
        )

    def run(self, *request: Any) -> Round:
        """Returns the round that was asked for, or raises PeerFailed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b'\n')
        except BrokenPipeError:
            raise PeerFailed(self.last_words()) from None
        if not select.select([self.process.stdout], [], [], HANGS_AFTER)[0]:
            raise PeerFailed(f'hung for {HANGS_AFTER} s')
        line = self.process.stdout.readline()
        if not line:
            raise PeerFailed(self.last_words())
        return Round(*json.loads(line))

    def last_words(self) -> str:
        """Returns the last line that the worker wrote as an error, or else its status."""
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors='replace').splitlines()
        return f'ended: {lines[-1] if lines else f"status {status}"}'

    def stop(self) -> None:
        """Ends the process and those that it has started, whatever they are doing."""
        with suppress(ProcessLookupError):  # they have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.log.close()


# --- The nameserver ----------------------------------------------------------

UNBOUND_CONF = """\
server:
    interface: 127.0.0.1@{port}
    {also}
    interface: 127.0.0.1@{tls}
    interface: 127.0.0.1@{https}
    tls-port: {tls}
    https-port: {https}
    tls-service-key: "{folder}/certificate.pem"
    tls-service-pem: "{folder}/certificate.pem"
    incoming-num-tcp: 1000
    do-daemonize: no
    use-syslog: no
    verbosity: 0
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    num-threads: 1
    so-rcvbuf: 4m
    module-config: "iterator"
    local-zone: "bench." redirect
    local-data: "bench. 60 A 192.0.2.1"
    local-zone: "http." redirect
    local-data: "http. 60 A {http}"
    local-data: "http. 60 SOA ns.http. root.http. 1 2 3 4 60"
    local-zone: "silent." deny
remote-control:
    control-enable: yes
    control-use-cert: no
    control-interface: "{folder}/control"
"""


class Server(NamedTuple):
    """A nameserver that runs: its ports, and the folder with its control socket."""

    ports: dict[str, int]
    folder: Path
    is_of_system: bool  # to workers, whose resolv.conf leads to it

    def queries(self) -> int:
        """Returns how many queries have reached it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.folder / 'control'))
            sock.sendall(b'UBCT1 stats_noreset\n')
            lines = sock.makefile('r').read().splitlines()
        return int(dict(line.split('=', 1) for line in lines)['total.num.queries'])


def free_ports(count: int) -> list[int]:
    """Returns ports of the loopback that are free now, for datagrams and streams."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            tcp = stack.enter_context(socket.socket())
            udp.bind(('127.0.0.1', 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue  # a stream has it
            ports.append(udp.getsockname()[1])
    return ports


def make_certificate(folder: Path) -> None:
    """Makes a certificate of a new authority, which this program's children trust."""
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert('127.0.0.1').private_key_and_cert_chain_pem
    certificate.write_to_path(str(folder / 'certificate.pem'))
    authority.cert_pem.write_to_path(str(folder / 'authority.pem'))
    os.environ['SSL_CERT_FILE'] = str(folder / 'authority.pem')


@contextmanager
def start_server(folder: Path, for_system: bool, cores: set[int]) -> Iterator[Server]:
    """Yields an Unbound that answers everything below `bench.`, and ends it after."""
    port, tls, https, transfer = free_ports(4)  # the last is for `send_zones`
    ports = {'udp': port, 'tcp': port, 'tls': tls, 'https': https, 'transfer': transfer}
    ports['http'] = port  # for datagrams, and on HTTP_ADDRESS for requests
    server, config, log = Server(ports, folder, for_system), folder / 'conf', folder / 'log'
    also = f'interface: {SYSTEM_ADDRESS}@53' if for_system else ''
    config.write_text(
        UNBOUND_CONF.format(
            port=port, tls=tls, https=https, folder=folder, also=also, http=HTTP_ADDRESS
        )
    )
    make_certificate(folder)
    command = tied([find_unbound(), '-d', '-c', str(config)])
    pin(cores)  # inherited by all its threads
    with log.open('w') as errors:
        process = subprocess.Popen(command, stderr=errors, process_group=0)
    try:
        for _ in range(100):
            try:
                server.queries()
                break
            except OSError:  # not yet
                time.sleep(0.05)
            if process.poll() is not None:
                sys.exit(f'Unbound ended: {log.read_text().strip()}')
        else:
            sys.exit('Unbound did not answer within five seconds')
        yield server
    finally:
        process.kill()  # it has nothing to save
        process.wait()


async def send_zones(port: int) -> None:
    """Sends a zone to whoever wants one, `COUNT.zone`. Its octets are prepared, and then kept.

    Any other query gets a hostile reply.
    """
    zones: dict[bytes, list[bytes]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                count = query[13 : 13 + query[12]]
                if not count.isdigit():
                    zones[count] = [hostile_octets(query)[2:]]
                elif count not in zones:
                    zones[count] = list(zone_octets(count + b'.zone', int(count)))
                for message in zones[count]:
                    writer.write((len(message) + 2).to_bytes(2) + query[:2] + message)
                    await writer.drain()
        except (ConnectionError, EOFError):
            pass  # nobody wants the rest, or anything
        writer.close()

    async with await asyncio.start_server(answer, '127.0.0.1', port) as server:
        await server.serve_forever()


class HttpServer(asyncio.Protocol):
    """Answers a request of any path, and closes if that is asked for."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.incoming = b''

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes what writes."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers the requests that are whole; they have no bodies."""
        *requests, self.incoming = (self.incoming + data).split(b'\r\n\r\n')
        for request in requests:
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(HTTP_BODY)}\r\n\r\n'
            self.transport.write(head.encode() + HTTP_BODY)
            if b'\r\nconnection: close' in request.lower():
                self.transport.close()


async def serve_requests(port: int) -> None:
    """Serves HTTP on the port that the nameserver has on another address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(HttpServer, HTTP_ADDRESS, port, backlog=1000)
    await server.serve_forever()


@contextmanager
def start_serving(option: str, address: str, port: int) -> Iterator[None]:
    """Runs what sends zones or serves HTTP, in a process of its own, and ends it after."""
    process = subprocess.Popen(
        tied([sys.executable, __file__, option, str(port)]), process_group=0
    )
    try:
        for _ in range(600):  # compiling all imports first may take seconds
            with socket.socket() as sock:
                if sock.connect_ex((address, port)) == 0:
                    break
            time.sleep(0.05)
        else:
            sys.exit(f'{option} did not start')
        yield
    finally:
        process.kill()
        process.wait()


# By scheme, what serves it beside Unbound: an option of this program, and its address.
SERVED = {'transfer': ('--zones', '127.0.0.1'), 'http': ('--http', HTTP_ADDRESS)}


def find_unbound() -> str:
    """Returns the path of the nameserver, or ends the program."""
    binary = shutil.which('unbound', path=os.environ.get('PATH', '') + ':/usr/sbin')
    return binary or sys.exit('There is no unbound: install the Debian package unbound')


# --- Who is there ------------------------------------------------------------


def show(progress: str) -> None:
    """Writes how far it is: in one line of a terminal, which '' clears, else line by line."""
    if sys.stderr.isatty():
        print(f'\r\x1b[K{progress}', end='', file=sys.stderr, flush=True)
    elif progress:
        print(progress, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Prints what is to stay."""
    show('')
    print(text, flush=True)


def package(name: str, to_install: str = '') -> str:
    """Says what to do if a package is not installed, else nothing."""
    return '' if importlib.util.find_spec(name) else f'pip install {to_install or name}'


def program(name: str, debian: str) -> str:
    """Says the same of a program."""
    return '' if shutil.which(name) else f'install the Debian package {debian}'


def system_is_not_ours(folder: Path) -> str:
    """Says why the nameserver cannot be that of the system, if it cannot."""
    if Path('/var/run/nscd/socket').exists():
        return 'nscd would answer for it'
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((SYSTEM_ADDRESS, 53))
        subprocess.run(in_private(folder, ['true']), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return f'needs root, unshare, and port 53 of {SYSTEM_ADDRESS}'
    return ''


def what_is_missing(folder: Path, upstream: str) -> dict[str, str]:
    """Returns why peers and workloads cannot be measured, by a part of their names."""
    strace = program('strace', 'strace')
    if not strace:
        words = ['strace', '-o', os.devnull, 'true']
        ran = subprocess.run(words, stderr=subprocess.DEVNULL)
        strace = 'ptrace is not permitted' if ran.returncode else ''
    to_install = 'pip install --no-deps --target PATH aiodnsresolver==0.0.157'
    is_there = upstream and Path(upstream, 'aiodnsresolver.py').is_file()
    return {
        'aiodns': package('aiodns'),
        'aiohttp': package('aiohttp'),
        'blastdns': package('blastdns'),
        'dig': program('dig', 'bind9-dnsutils'),
        'dnsperf': program('dnsperf', 'dnsperf'),
        'dnspython': package('dns', 'dnspython[doh]'),
        'getaddrinfo': system_is_not_ours(folder),
        'https': package('h2'),
        'syscalls': strace,
        'upstream': '' if is_there else f'{to_install}, then --upstream PATH',
        'uvloop': package('uvloop'),
    }


def those_present(names: list[str], missing: dict[str, str]) -> list[str]:
    """Returns the peers or workloads that lack nothing, and says what the others lack."""
    present = []
    for name in names:
        lacks = [missing[part] for part in name.split('-') if missing.get(part)]
        if lacks:
            say(f'{name} is missing: {lacks[0]}')
        else:
            present.append(name)
    return present


def versions(upstream: str) -> dict[str, str]:
    """Returns the versions of what is installed."""
    of_peers = ('aiodns', 'aiohttp', 'blastdns', 'dnspython', 'h2', 'pycares', 'uvloop')
    found = {each.name: each.version for each in importlib.metadata.distributions()}
    installed = {name: found[name] for name in ('aiodnsresolver', *of_peers) if name in found}
    for each in importlib.metadata.distributions(path=[upstream] if upstream else []):
        installed['upstream'] = each.version
    server = subprocess.check_output([find_unbound(), '-V'], text=True).split('\n')[0]
    return installed | {'server': server, 'libc': ' '.join(platform.libc_ver())}


# --- Pictures ----------------------------------------------------------------
#
# Drawn by matplotlib of what `--json` writes: a panel for each workload, a row for each peer. On
# a linear axis there are bars from zero; a logarithmic one has no zero, so there are dots on it.


# Peers that are neither in a picture nor in a quick run: fewer rows say more.
TABLES_ONLY = re.compile('.+-uvloop|sketch|dig')


class Picture(NamedTuple):
    """Panels side by side that share an axis.

    By heading, a panel shows the costs of a workload, or one of its latencies by their index.
    """

    title: str
    unit: str
    panels: dict[str, tuple[str, int | None]]


PICTURES = {
    'cold': Picture(
        'CPU time to resolve a new name',
        'µs per query',
        {
            '1 at a time': ('cold-1', None),
            '100 at a time': ('cold-100', None),
            '1,000 at a time': ('cold-1000', None),
            '10,000 at a time': ('cold-10000', None),
        },
    ),
    'latency': Picture(
        'Time until the answer, 100 new names at a time',
        'ms',
        {
            '50 % take at most': ('cold-100', 0),
            '90 %': ('cold-100', 1),
            '99 %': ('cold-100', 2),
            '99.9 %': ('cold-100', 3),
        },
    ),
    'parse': Picture(
        'CPU time to parse a message',
        'µs per message',
        {
            '1 A record': ('parse-a', None),
            '5 CNAME and 4 A': ('parse-chain', None),
            'a referral, 39 records': ('parse-referral', None),
            '100 mixed records': ('parse-mixed', None),
        },
    ),
    'memory': Picture(
        'Memory that a name needs',
        'bytes',
        {
            'its answer in the cache': ('memory-cached', None),
            'its query in flight': ('memory-flight', None),
        },
    ),
}
ROW_NAMES = {'ours': 'aiodnsresolver', 'floor': 'floor, without DNS'}
OURS, OTHERS = '#d55e00', '#5c88b8'  # can be told apart by all, and seen on white and on dark
INK = '#656d76'  # text and axes on white; on dark they have another, as no grey is good on both
STYLE = f'svg{{color:{INK}}} @media (prefers-color-scheme:dark){{svg{{color:#848d97}}}} '
DRAWN: dict[Any, Any] = {
    'svg.fonttype': 'none',  # text stays text
    'svg.hashsalt': 'aiodnsresolver',  # the same figures give the same file
    'font.sans-serif': ['DejaVu Sans', 'Verdana', 'sans-serif'],
    'font.size': 8.5,
    'axes.titlesize': 8.5,
    'axes.titlelocation': 'left',
    'xtick.labelsize': 7,
    'xtick.major.size': 3,
    'ytick.major.size': 0,
} | dict.fromkeys(('text.color', 'axes.edgecolor', 'xtick.color', 'ytick.color'), INK)


def panel_values(
    workload: str, percentile: int | None, workloads: dict[str, Any]
) -> dict[str, float]:
    """Returns the median of the rounds by peer, without peers whose answers were not right."""
    values = {}
    for peer, rounds in workloads.get(workload, {}).items():
        if percentile is None:
            found = [one['cost'] for one in rounds]
        else:
            found = [one['latencies'][percentile] for one in rounds if one.get('latencies')]
        correct, asked = (sum(one[key] for one in rounds) for key in ('correct', 'asked'))
        if found and not TABLES_ONLY.fullmatch(peer) and correct >= 0.99 * asked:
            values[peer] = statistics.median(found)
    return {peer: value for peer, value in values.items() if value > 0}  # memory may seem to fall


def small_print(record: dict[str, Any]) -> str:
    """Returns with what a picture was made, in lines."""
    rounds = max(len(r) for by_peer in record['workloads'].values() for r in by_peer.values())
    what = 'Rough figures' if record['rough'] else 'Medians'
    what += f' of {rounds} rounds' if rounds > 1 else ' of one round'
    versions = ', '.join(f'{name} {version}' for name, version in record['versions'].items())
    versions = versions.replace('server Version', 'Unbound').replace('libc glibc', 'glibc')
    made = f'{what}. Python {record["python"]}, {versions}'
    texts = made, record['machine'], record['command']
    return '\n'.join(line for text in texts for line in textwrap.wrap(text, 180))


def draw_panel(axes: Any, values: dict[str, float], rows: list[str], is_log: bool) -> None:
    """Draws the values of a panel. Each stands beside its dot or bar."""
    axes.spines[['top', 'left', 'right']].set_visible(False)
    for peer, value in values.items():
        row, is_ours = rows.index(peer), peer == 'ours'
        color = OURS if is_ours else OTHERS
        if is_log:
            axes.hlines(row, axes.get_xlim()[0], value, INK, linewidth=0.6, alpha=0.4, zorder=1)
            axes.plot(value, row, 'o', color=color, markersize=8 if is_ours else 5.5)
        else:
            axes.barh(row, value, 0.55, color=color)
        label = axes.annotate(
            f'{value:,.0f}' if value >= 100 else f'{value:.3g}',
            (value, row),
            (8, 0),
            textcoords='offset points',
            va='center_baseline',
        )
        label.set_fontweight('bold' if is_ours else 'normal')


def draw(picture: Picture, record: dict[str, Any], file: Path) -> bool:
    """Draws a picture, and returns whether there was anything to draw."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    drawn = [
        (heading, values)
        for heading, panel in picture.panels.items()
        if (values := panel_values(*panel, record['workloads']))
    ]
    if not drawn:
        return False
    least, most = ([pick(values.values()) for _, values in drawn] for pick in (min, max))
    is_log = any(high >= 10 * low for low, high in zip(least, most, strict=True))
    low, high = min(least), max(most)
    # The order is that of the first panel: what costs least is on top.
    by_cost = [peer for _, values in drawn for peer in sorted(values, key=values.__getitem__)]
    rows = list(dict.fromkeys(by_cost))
    small = small_print(record)
    with rc_context(DRAWN):
        bottom = 0.75 + 0.125 * small.count('\n')  # inches, as all that follow
        height = bottom + 0.22 * len(rows) + 0.6
        figure = Figure((8.6, height))
        all_axes = figure.subplots(1, len(drawn), sharex=True, sharey=True, squeeze=False)[0]
        figure.subplots_adjust(0.16, bottom / height, 0.97, 1 - 0.6 / height, wspace=0.1)
        scale = ', on a logarithmic axis' if is_log else ''
        figure.text(0.012, 1 - 0.1 / height, picture.title, va='top', size=11, weight='bold')
        figure.text(0.16, (bottom - 0.34) / height, f'{picture.unit}{scale}', size=7)
        figure.text(0.012, 0.06 / height, small, size=6.2, va='bottom', linespacing=1.35)
        names = [ROW_NAMES.get(peer, peer) for peer in rows]
        all_axes[0].set_yticks(range(len(rows)), names)
        all_axes[0].set_ylim(len(rows) - 0.5, -0.5)
        if is_log:
            all_axes[0].set_xscale('log')
            all_axes[0].set_xlim(low / 2, high * (high / low) ** 0.42)
            ticks = LogLocator(subs=(1, 3) if high < 50 * low else (1,))
            all_axes[0].xaxis.set_major_locator(ticks)
            all_axes[0].xaxis.set_minor_locator(NullLocator())
        else:
            all_axes[0].set_xlim(0, high * 1.35)
        all_axes[0].xaxis.set_major_formatter(StrMethodFormatter('{x:,g}'))
        for axes, (heading, values) in zip(all_axes, drawn, strict=True):
            axes.set_title(heading)
            draw_panel(axes, values, rows, is_log)
        if 'ours' in rows:
            all_axes[0].get_yticklabels()[rows.index('ours')].set_fontweight('bold')
        metadata = {'Date': None, 'Creator': None, 'Title': picture.title}
        figure.savefig(file, transparent=True, metadata=metadata)
    style = '<style type="text/css">'
    svg = file.read_text(encoding='utf-8').replace(INK, 'currentColor')
    file.write_text(svg.replace(style, style + STYLE), encoding='utf-8')
    return True


# --- The program -------------------------------------------------------------

# What tells the most. One round of it, of at most so many queries, takes less than a minute.
QUICK = ['cold-1', 'cold-100', 'cold-1000', 'cached', 'parse-a', 'parse-chain', 'tls-100']
QUICK += ['https-100', 'memory-cached', 'memory-flight', 'import']
QUICK_QUERIES = 1000
# About how many seconds a round takes, if it is not about one.
SECONDS = {'cold-10000': 4, 'memory-cached': 4, 'zone-100k': 8, 'memory-zone-100k': 16}
SECONDS |= {'transfer-1m': 4, 'zone-1m': 20, 'memory-zone-1m': 20}
SECONDS |= {'bulk-100k': 8, 'memory-bulk-100k': 8, 'memory-bulk-1m': 40}


class Bench:
    """The peers' workers and the nameserver that they ask."""

    def __init__(self, server: Server, arguments: argparse.Namespace) -> None:
        self.server = server
        self.folders = {'upstream': arguments.upstream}  # those of other modules than ours
        self.most: int = arguments.queries
        self.rounds: int = arguments.rounds
        self.workers: dict[str, Worker] = {}
        self.total = self.done = 0  # seconds, as `weight` has them
        self.began = time.monotonic()
        self.made_as = {name: 'ours' for name in arguments.module}
        for name, path in arguments.module.items():
            self.folders[name] = tempfile.mkdtemp(dir=server.folder)
            shutil.copyfile(path, Path(self.folders[name], 'aiodnsresolver.py'))

    def able(self, peers: list[str], name: str) -> list[str]:
        """Returns those of the peers that do a workload."""
        return [peer for peer in peers if self.made_as.get(peer, peer) in WORKLOADS[name].peers]

    def worker(self, peer: str) -> Worker:
        """Returns the peer's worker, a new one if there is none."""
        if peer not in self.workers:
            folder = self.folders.get(peer, str(Path(__file__).parent))
            command = [sys.executable, __file__, '--worker', folder]
            if self.server.is_of_system:
                command = in_private(self.server.folder, command)
            self.workers[peer] = Worker(command)
        return self.workers[peer]

    def dismiss(self, peers: list[str]) -> None:
        """Ends the workers of these peers."""
        for peer in peers:
            if peer in self.workers:
                self.workers.pop(peer).stop()

    def run_round(self, name: str, peer: str, number: int) -> Round:
        """Returns one round of one peer. One before the first has few queries."""
        queries = min(WORKLOADS[name].queries, self.most if number >= 0 else 4)
        before = self.server.queries()
        tag = f'{name}-{peer}-{number}'
        port = self.server.ports[WORKLOADS[name].scheme]
        one = self.worker(peer).run(name, self.made_as.get(peer, peer), queries, port, tag)
        if WORKLOADS[name].fresh:
            self.dismiss([peer])
        return one._replace(reached=self.server.queries() - before)

    def weight(self, name: str) -> int:
        """Returns about how many seconds a round takes."""
        return SECONDS.get(name, 1) if WORKLOADS[name].queries <= self.most else 1

    def show_round(self, text: str) -> None:
        """Shows which round begins, on a terminal with a bar of tqdm's if it is installed."""
        if sys.stderr.isatty() and importlib.util.find_spec('tqdm'):
            format_meter = import_module('tqdm').tqdm.format_meter  # it has no types to import
            seconds = time.monotonic() - self.began
            width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
            layout = {'ascii': True, 'bar_format': '{l_bar}{bar}| {elapsed}<{remaining}'}
            text = format_meter(self.done, self.total, seconds, width, text, **layout)[:width]
        show(text)

    def run_workload(self, name: str, peers: list[str]) -> dict[str, list[Round]]:
        """Returns the rounds by peer. The peers take turns, and each time another one begins.

        If a worker fails, this is printed, and its peer is left out from then on.
        """
        results: dict[str, list[Round]] = {peer: [] for peer in peers}
        rounds = min(self.rounds, WORKLOADS[name].rounds)
        able = list(peers)
        # Before new processes are measured, one of each peer compiles what it imports. Compiling
        # leaves memory free, and what is then taken of that would not be seen.
        for number in range(-1 if WORKLOADS[name].fresh else 0, rounds):
            for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
                self.show_round(f'{name}: round {number + 1} of {rounds}, {peer}')
                self.done += self.weight(name) if number >= 0 else 0
                try:
                    if peer in able:
                        one = self.run_round(name, peer, number)
                        results[peer] += [one] if number >= 0 else []
                except PeerFailed as failure:
                    self.dismiss([peer])
                    able.remove(peer)
                    results[peer] = []
                    say(f'{peer} failed in {name}: {failure}')
        self.dismiss(peers)
        return results


def figures(rounds: list[Round], ours: list[Round]) -> str:
    """Returns a row of the table: what the rounds cost, also as a multiple of what ours cost."""
    if not rounds:
        return f'{"failed":>13}'
    costs = [one.cost for one in rounds]
    median = statistics.median(costs)
    pairs = [one.cost / base.cost for one, base in zip(rounds, ours, strict=False) if base.cost]
    ratio = statistics.median(pairs) if pairs else 0
    ratios = f'{ratio:9.2f}{1 / ratio:11.2f}' if ratio else f'{"-":>9}{"-":>11}'
    correct, asked, reached = map(sum, list(zip(*rounds, strict=True))[1:4])
    seen = f'{reached / correct:.2f}' if reached and correct else '-'
    rate = statistics.median(one.rate for one in rounds)
    worst = f'  {rounds[-1].parts[0][0]}' if rounds[-1].parts else ''
    row = f'{median:13.2f}{ratios}{min(costs):11.2f}{max(costs):11.2f}'
    return f'{row}{correct:>9} of {asked:<7}{f"{rate:.0f}" if rate else "-":>11}{seen:>9}{worst}'


def print_table(name: str, results: dict[str, list[Round]], is_rough: bool) -> None:
    """Prints a workload's results. `reached`: queries at the nameserver per correct answer."""
    unit, floor = WORKLOADS[name].unit, WORKLOADS[name].floor
    marks = [f' (floor: {floor})'] if 'floor' in results else []
    marks += [' (one round)'] if WORKLOADS[name].rounds == 1 else []
    marks += [' (rough)'] if is_rough else []
    say(f'\n{name}{"".join(marks)}')
    head = 'to ours ours to it      least       most       correct          queries/s  reached'
    say(f'peer            {unit:>13}  {head}')
    for peer, rounds in results.items():
        say(f'{peer:16}{figures(rounds, results.get("ours", []))}')


def module_peer(text: str) -> tuple[str, Path]:
    """Returns what `--module` says, or raises what argparse prints."""
    name, _, path = text.partition('=')
    if not (name.isascii() and name.isidentifier()) or name in PEERS:
        raise argparse.ArgumentTypeError(f'{name!r} cannot be the name of another peer')
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f'there is no file {path!r}')
    return name, Path(path)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line, checked."""
    parser = argparse.ArgumentParser(description='What DNS queries cost in asyncio')
    parser.add_argument('workloads', nargs='*', metavar='WORKLOAD', help=', '.join(WORKLOADS))
    parser.add_argument('--peers', default=','.join(PEERS), help='default: %(default)s')
    parser.add_argument(
        '--module',
        action='append',
        default=[],
        type=module_peer,
        metavar='NAME=FILE',
        help='another version of our module as a peer; can be given several times',
    )
    parser.add_argument('--rounds', type=int, help='default: 7, or 1 if it is to be quick')
    parser.add_argument(
        '--queries', type=int, default=10_000_000, help='in a round, at most; 2 or more'
    )
    parser.add_argument('--upstream', default='', metavar='FOLDER', help='where its module is')
    parser.add_argument(
        '--quick', action='store_true', help='rough figures of a few workloads in a minute'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all the rounds there')
    parser.add_argument('--plot', type=Path, metavar='FOLDER', help='draw pictures there')
    parser.add_argument(
        '--from', dest='made', type=Path, metavar='FILE', help='draw them of what --json wrote'
    )
    parser.add_argument('--no-pin', action='store_true', help='leave the cores to the system')
    arguments = parser.parse_args()
    arguments.peers = list(dict.fromkeys(arguments.peers.split(',')))
    arguments.workloads = list(dict.fromkeys(arguments.workloads))
    if arguments.quick:
        if arguments.peers == PEERS:
            arguments.peers = [each for each in PEERS if not TABLES_ONLY.fullmatch(each)]
        arguments.workloads = arguments.workloads or QUICK
        arguments.queries = min(arguments.queries, QUICK_QUERIES)
    arguments.workloads = arguments.workloads or list(WORKLOADS)
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 7
    if unknown := {*arguments.workloads} - {*WORKLOADS} | {*arguments.peers} - {*PEERS}:
        parser.error(f'unknown: {", ".join(map(repr, sorted(unknown)))}')
    if arguments.rounds < 1 or arguments.queries < 2:
        parser.error('there has to be a round, and two queries in it')
    if arguments.made and not arguments.plot:
        parser.error('--from needs --plot')
    if arguments.plot and (to_install := package('matplotlib')):
        parser.error(f'--plot needs matplotlib: {to_install}')
    if not arguments.made and (to_install := package('trustme')):
        parser.error(f'the nameserver needs a certificate by trustme: {to_install}')
    try:  # what would fail after a long run fails before it
        if arguments.plot:
            arguments.plot.mkdir(parents=True, exist_ok=True)
        if arguments.json:
            arguments.json.open('a').close()
        record = json.loads(arguments.made.read_bytes()) if arguments.made else None
    except OSError as error:
        parser.error(str(error))
    except ValueError as error:
        parser.error(f'{arguments.made} is not what --json wrote: {error}')
    arguments.module, arguments.record = dict(arguments.module), record
    return arguments


def as_record(arguments: argparse.Namespace, results: dict[str, Any]) -> dict[str, Any]:
    """Returns all the rounds, and on what and with what they were made, as JSON has it."""
    rounds = {
        name: {peer: [one._asdict() for one in each] for peer, each in by_peer.items()}
        for name, by_peer in results.items()
    }
    # Where the folders of this machine are is nobody's business.
    words = [re.sub('(^|=)/.*/', r'\1', word) for word in sys.argv[1:]]
    made = {
        'command': shlex.join(['python', Path(__file__).name, *words]),
        'rough': arguments.quick,
        'machine': f'{platform.platform()}, {processor()}, {os.cpu_count()} cores',
        'python': platform.python_version(),
        'versions': versions(arguments.upstream),
        'modules': {name: str(path) for name, path in arguments.module.items()},
        'pinned': bool(arguments.cores[0]),
        'units': {name: WORKLOADS[name].unit for name in results},
    }
    return made | {'workloads': rounds}


def plot(record: dict[str, Any], folder: Path) -> None:
    """Draws all pictures, and says which are there."""
    for name, picture in PICTURES.items():
        file = folder / f'{name}.svg'
        try:
            drawn = draw(picture, record, file)
        except OSError as error:
            sys.exit(f'A picture is not drawn: {error}')
        say(f'{file} is drawn' if drawn else f'{file} is not drawn: nothing was measured for it')


def processor() -> str:
    """Returns the processor's name, as Linux knows it."""
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def end(number: int, frame: FrameType | None) -> None:
    """Ends the program. While it ends what it has started, it ignores signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def run_all(arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, list[Round]]]:
    """Returns the results of the workloads, and prints them one by one."""
    results: dict[str, dict[str, list[Round]]] = {}
    missing = what_is_missing(folder, arguments.upstream)
    peers = [*those_present(arguments.peers, missing), *arguments.module]
    names = those_present(arguments.workloads, missing)
    if why := missing['getaddrinfo']:
        say(f'ours asks the nameserver that its caller names, not that of the system: {why}')
    with ExitStack() as stack:
        server = stack.enter_context(start_server(folder, not why, arguments.cores[0]))
        for scheme in {WORKLOADS[name].scheme for name in names} & {*SERVED}:
            option, address = SERVED[scheme]
            stack.enter_context(start_serving(option, address, server.ports[scheme]))
        pin(arguments.cores[1])
        bench = Bench(server, arguments)
        for name in names:
            rounds = min(arguments.rounds, WORKLOADS[name].rounds)
            bench.total += bench.weight(name) * len(bench.able(peers, name)) * rounds
        try:
            for name in names:
                if able := bench.able(peers, name):
                    results[name] = bench.run_workload(name, able)
                    print_table(name, results[name], arguments.quick)
        finally:
            show('')
            bench.dismiss(peers)
    return results


def main() -> int:
    """Runs the workloads, and returns the exit status.

    It is 1 if an answer of ours was not right, or if nothing was measured.
    """
    arguments = parse_arguments()
    if arguments.made:
        try:
            plot(arguments.record, arguments.plot)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            print(f'{arguments.made} is not what --json wrote: {error!r}', file=sys.stderr)
            return 2
        return 0
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    print(f'Python {platform.python_version()}, {processor()}, rounds: {arguments.rounds}')
    arguments.cores = (set(), set()) if arguments.no_pin else pick_cores()
    with tempfile.TemporaryDirectory() as name:
        for file, text in SYSTEM_FILES.items():
            Path(name, file).write_text(text)
        # An import is measured as most see it: compiled before.
        os.environ['PYTHONPYCACHEPREFIX'] = name
        os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
        results = run_all(arguments, Path(name))
    record = as_record(arguments, results)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + '\n')
    if arguments.plot:
        plot(record, arguments.plot)
    if not results:
        say('Nothing was measured: none of these peers does one of these workloads')
    rounds = [one for by_peer in results.values() for one in by_peer.get('ours', [])]
    failed = [name for name, by_peer in results.items() if not by_peer.get('ours', True)]
    wrong = [one for one in rounds if one.correct < one.asked]
    return int(bool(failed or wrong or not results))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--zones']:
        asyncio.run(send_zones(int(sys.argv[2])))
    if sys.argv[1:2] == ['--http']:
        asyncio.run(serve_requests(int(sys.argv[2])))
    sys.exit(work(sys.argv[2]) if sys.argv[1:2] == ['--worker'] else main())
