"""Tests of aiodnsresolver, in the order of its sections and under their titles.

Faults and attacks come from a scripted nameserver in this process, truth from real ones.
Every asynchronous test runs on each event loop, in debug mode, on a clock that is turned by hand,
and leaves no socket, task, timer or warning behind.
"""

import ast
import asyncio
import base64
import collections
import concurrent.futures
import contextlib
import contextvars
import copy
import datetime
import encodings.idna
import errno
import faulthandler
import fcntl
import functools
import gc
import hashlib
import hmac
import inspect
import itertools
import json
import logging
import os
import pickle
import platform
import random
import re
import resource
import select
import selectors
import shlex
import shutil
import signal
import socket
import ssl
import stat
import stringprep
import struct
import subprocess
import symtable
import sys
import tempfile
import termios
import threading
import time
import traceback
import tracemalloc
import types
import unicodedata
import warnings
import xml.etree.ElementTree
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

import aiohttp
import aiohttp.web
import aiosmtpd.smtp
import aiosmtplib
import asyncpg
import dns.asyncbackend
import dns.asyncquery
import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.tsig
import dns.update
import dns.xfr
import dns.zone
import httpx
import httpx2
import pytest
import redis.asyncio
import redis.backoff
import tornado.httpclient
import tornado.httpserver
import tornado.httputil
import tornado.ioloop
import tornado.netutil
import trustme
import uvloop
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import StreamClosedError, StreamIDTooLowError
from h2.settings import SettingCodes
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aiodnsresolver as module
from aiodnsresolver import (
    CLASSES,
    OPCODES,
    QUESTION,
    RCODES,
    RESPONSE,
    TYPES,
    BadResponse,
    BadSignature,
    BytesExpiresAt,
    Changes,
    CnameChainTooLong,
    DoesNotExist,
    InvalidName,
    IPv4AddressExpiresAt,
    IPv6AddressExpiresAt,
    Key,
    MalformedMessage,
    Message,
    MissingDependency,
    QueryTimeout,
    QuestionRecord,
    Resolver,
    ResolverError,
    ResourceRecord,
    ResponseCode,
    SocketError,
    TransferError,
    Truncated,
    TupleExpiresAt,
    UDPMode,
    UnexpectedSource,
    Zone,
    get_host_from_etc_hosts,
    get_nameservers_from_etc_resolve_conf,
    getaddrinfo,
    https,
    inbound_xfr,
    make_query,
    mix_case,
    pack,
    parse,
    presentation,
    receive_tcp,
    receive_udp,
    send_tcp,
    send_udp,
    sign,
    tcp,
    tls,
    transfer,
    udp,
    udp_with_fallback,
)

HERE = Path(__file__).parent
SOURCE = HERE / 'aiodnsresolver.py'
HANGS_AFTER = 60  # seconds of real time, after which a test is stopped


# Enough descriptors for 2,000 queries at once, whatever the shell allows.
HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4500, HARD_LIMIT), HARD_LIMIT))
for variable in ('LOCALDOMAIN', 'RES_OPTIONS'):  # that whoever runs the tests may have
    os.environ.pop(variable, None)
uvloop.new_event_loop().close()  # the first of a process opens descriptors that stay


def innermost(frames, **_):
    """What `traceback` makes of a stack: its first frame only.

    In debug mode asyncio and uvloop note the stack in which each callback, future and task is
    made, to show it where a loop complains. All of it takes up to half of a test's time.
    """
    frame, line = next(frames)
    code = frame.f_code
    summary = traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False)
    return traceback.StackSummary([summary])


traceback.StackSummary.extract = innermost


# --- Loops, clock, leaks -----------------------------------------------------


class ByHand:
    """An event loop's clock and timers, which stand still until they are turned by hand."""

    way = module.Epoll  # to wait for sockets

    def __init__(self):
        self.now = 1000.0
        self.timers = []
        super().__init__()

    def time(self):
        return self.now

    def call_at(self, when, callback, *args, context=None):
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.timers.append(timer)
        return timer

    def call_later(self, delay, callback, *args, context=None):
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, timer):
        if timer in self.timers:  # it may have run
            self.timers.remove(timer)

    def turn(self, seconds):
        """Turns the clock, and runs what was due by then."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer.when() <= until]:
            timer = min(due, key=asyncio.TimerHandle.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when())
            timer._run()
        self.now = until


class AsyncioByHand(ByHand, asyncio.SelectorEventLoop):
    pass


class UvloopByHand(ByHand, uvloop.Loop):
    async def getaddrinfo(self, host, port, **arguments):
        """Not in a thread, as when `sock_connect` asks: no clock waits for one."""
        return socket.getaddrinfo(host, port, **arguments)


LOOPS = {'asyncio': AsyncioByHand, 'uvloop': UvloopByHand}
# The ways to wait for sockets that are not the first choice here. The last is for Windows, where
# there is no uvloop.
OTHER_WAYS = {
    f'{name}-{way.__name__.lower()}': type(name, (LOOPS[name],), {'way': way})
    for name, way in (
        ('asyncio', module.Readers),
        ('uvloop', module.Readers),
        ('asyncio', module.Endpoints),
    )
}


def turn(seconds):
    """Turns the clock of the running loop."""
    asyncio.get_running_loop().turn(seconds)


def descriptors():
    """The open descriptors of this process."""
    return set(os.listdir('/proc/self/fd'))


async def settle():
    """Lets everything run that can without a packet or the clock."""
    os.sched_yield()  # to the kernel's thread, which brings packets if the machine is busy
    for _ in range(20):
        await asyncio.sleep(0)


def is_idle():
    """Whether nothing of ours waits on the running loop: no socket, no timeout, no permit."""
    sockets, timers, limit, _ = module.resources_of(asyncio.get_running_loop())
    is_free = limit.free == module.max_open_sockets() and not (limit.queue or limit.transfers)
    return not sockets.owners and not any(timers.queues.values()) and is_free


def wait_in_its_way(loop):
    """Has a loop wait for sockets in the way that it is to be tested with."""
    resources = module.resources_of(loop)._replace(sockets=loop.way())
    module.RESOURCES[id(loop)] = module.RESOURCES[id(loop)][0], resources


async def leaving_nothing(main):
    """Runs a test with the loop's way to wait for sockets, and sees that it leaves nothing."""
    loop = asyncio.get_running_loop()
    wait_in_its_way(loop)
    complaints = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    await main
    await settle()
    if module.resources_of(loop).limit.idle:  # streams, which are closed after a while
        turn(module.MAX_IDLE)
        await settle()
    assert complaints == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert is_idle()
    assert module.resources_of(loop).timers.handle is None
    assert loop.timers == []


def run(main, loop_factory=AsyncioByHand, debug=True):
    """Runs a coroutine on a new loop, as each asynchronous test is."""
    before = descriptors()
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=sys.__stderr__)
    try:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            runner.run(leaving_nothing(main))
    finally:
        faulthandler.cancel_dump_traceback_later()
    del runner
    gc.collect()
    assert descriptors() == before


def on_every_loop(test, ways=OTHER_WAYS):
    """Makes an asynchronous test one that runs on each loop, with each way to wait."""

    @functools.wraps(test)
    def synchronous(loop_name, **fixtures):
        run(test(**fixtures), (LOOPS | OTHER_WAYS)[loop_name])

    signature = inspect.signature(test)
    loop_name = inspect.Parameter('loop_name', inspect.Parameter.KEYWORD_ONLY)
    parameters = [*signature.parameters.values(), loop_name]
    synchronous.__signature__ = signature.replace(parameters=parameters)
    names = [
        pytest.param(
            name,
            marks=[pytest.mark.uvloop] * name.startswith('uvloop')
            + [pytest.mark.ways] * (name in ways),
        )
        for name in [*LOOPS, *ways]
    ]
    return pytest.mark.parametrize('loop_name', names)(synchronous)


def in_one_way(test):
    """Makes an asynchronous test one that runs on each loop, whatever the way to wait."""
    return on_every_loop(test, ())


@pytest.fixture(autouse=True)
def what_is_there_is_not_collected():
    """Has the collector look at what a test makes: with all else it takes longer and longer."""
    gc.collect()
    gc.freeze()


# --- The scripted nameserver -------------------------------------------------


def two_sockets(address):
    """A socket for datagrams and one for streams, on one port."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    for _ in range(100):
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        streams = socket.socket(family, socket.SOCK_STREAM)
        for sock in (datagrams, streams):
            sock.setblocking(False)
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        datagrams.bind((address, 0))
        try:
            streams.bind(datagrams.getsockname())
        except OSError:
            datagrams.close()
            streams.close()
        else:
            return datagrams, streams
    raise AssertionError('There is no port that is free for both')


class Raw(bytes):
    """Octets for a stream as they are, no message with its length before it."""


HANG_UP = Raw()  # closes the stream
REFUSES = 'nobody listens for streams'


class TlsEnd(module.Tls):
    """The other end of TLS."""

    def __init__(self, context):
        super().__init__(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), 'this is replaced', 'dot')
        self.outgoing.read()  # what it has said already
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)


TCP_ESTABLISHED = 1  # what TCP_INFO starts with, on Linux


def count_records(octets):
    """How many records of TLS begin in what came at once, if the first does with it."""
    count = at = 0
    while at < len(octets):
        count += 1
        at += 5 + int.from_bytes(octets[at + 3 : at + 5], 'big')
    return count


class Nameserver:
    """A nameserver on loopback, for datagrams and streams, that does what `answer(query)` says.

    That is a Message or bytes to send, None for silence, a list of these, or a coroutine of one.
    `over_tcp` is for streams, unless it is the same: another `answer`, or REFUSES.
    """

    def __init__(self, answer, address='127.0.0.1', over_tcp=None, tls=None):
        self.tls = tls  # what it needs to have all its streams over TLS
        self.ends = []  # of TLS, one for each stream
        self.alerts = []  # what the other ends did not like
        self.answer = answer
        self.answer_over_tcp = over_tcp or answer
        self.queries = []
        self.over_tcp = []  # those of the queries that came so
        self.address = address
        self.sources = []
        self.streams = []
        self.on = None  # the number of the stream on which there came something last
        self.asked_on = []  # that of each query
        self.pieces = []  # what came at once on a stream: the number of octets
        self.records = 0  # of TLS
        self.most_open = 0  # streams at a time
        self.tasks = set()
        self.news = asyncio.Event()

    async def __aenter__(self):
        self.loop = asyncio.get_running_loop()
        self.sock, self.listener = two_sockets(self.address)
        self.port = self.sock.getsockname()[1]
        self.loop.add_reader(self.sock.fileno(), self.receive)
        if self.answer_over_tcp is REFUSES:
            self.listener.close()
        else:
            self.listener.listen(100)
            self.loop.add_reader(self.listener.fileno(), self.accept)
        return self

    async def __aexit__(self, *_):
        for sock in (self.sock, self.listener, *self.streams):
            self.close(sock)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def close(self, sock):
        if sock.fileno() >= 0:
            self.loop.remove_reader(sock.fileno())
            sock.close()

    @property
    def nameserver(self):
        return self.address, self.port

    @property
    def tcp(self):
        """The URL for who wants to ask over TCP only."""
        return f'tcp://[{self.address}]:{self.port}'

    def receive(self):
        while True:
            try:
                data, source = self.sock.recvfrom(65535)
            except BlockingIOError:
                return
            self.sources.append(source)
            self.on = None
            self.take(data, self.answer, functools.partial(self.say, source))

    def accept(self):
        stream, source = self.listener.accept()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sources.append(source)
        stream.setblocking(False)
        self.streams.append(stream)
        still_here = [each for each in self.streams if each.fileno() >= 0]
        states = [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] for s in still_here]
        self.most_open = max(self.most_open, states.count(TCP_ESTABLISHED))
        if self.tls is not None:
            self.ends.append(TlsEnd(self.tls))
        self.loop.add_reader(stream.fileno(), self.receive_stream, stream, bytearray())

    def unwrap(self, stream, octets):
        """What has come over TLS, if that is what is spoken here."""
        if self.tls is None:
            return octets
        self.records += count_records(octets)
        end = self.ends[self.streams.index(stream)]
        try:
            return end.unwrap(octets)
        except ssl.SSLError as error:
            self.alerts.append(str(error))
            raise
        finally:
            stream.send(end.outgoing.read())  # an alert, too

    def receive_stream(self, stream, incoming):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            octets = stream.recv(65535)
            if octets:
                octets = self.unwrap(stream, octets)
                self.on = self.streams.index(stream)
                self.pieces.append(len(octets))
                self.hear(stream, incoming, octets)
                return
        self.close(stream)

    def hear(self, stream, incoming, octets):
        """Takes the queries that have come whole."""
        incoming += octets
        while len(incoming) >= 2 and len(incoming) >= 2 + (size := incoming[0] << 8 | incoming[1]):
            query = bytes(incoming[2 : 2 + size])
            del incoming[: 2 + size]
            self.over_tcp.append(parse(query))
            say = functools.partial(self.say_on_stream, stream)
            self.take(query, self.answer_over_tcp, say)

    def take(self, data, answer, say):
        query = parse(data)
        self.queries.append(query)
        self.asked_on.append(self.on)
        self.news.set()
        said = answer(query)
        if inspect.iscoroutine(said):
            task = asyncio.ensure_future(self.say_later(said, say))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.say_all(said, say)

    async def say_later(self, coroutine, say):
        self.say_all(await coroutine, say)

    def say_all(self, said, say):
        for reply in said if isinstance(said, list) else [said]:
            if reply is not None:
                say(reply if isinstance(reply, bytes) else pack(reply))

    def say(self, source, reply):
        self.sock.sendto(reply, source)

    def say_on_stream(self, stream, reply):
        if reply is HANG_UP:
            self.close(stream)
        elif stream.fileno() >= 0:
            self.put(stream, reply if isinstance(reply, Raw) else module.to_frame(reply))

    def put(self, stream, octets):
        """Sends octets on a stream, over TLS if that is what is spoken here."""
        with contextlib.suppress(ConnectionError):
            if self.tls is not None:
                octets = self.ends[self.streams.index(stream)].wrap(octets)
            assert stream.send(octets) == len(octets)  # the system's buffer is large

    async def asked(self, count):
        """Waits until so many queries have come, and sees that no more have."""
        while len(self.queries) < count:
            self.news.clear()
            await self.news.wait()
        await settle()
        assert len(self.queries) == count

    @property
    def names(self):
        """The names asked for, in lower case."""
        return [query.qd[0].name.lower() for query in self.queries]


def rr(name, qtype, rdata, ttl=60, qclass=CLASSES.IN):
    return ResourceRecord(name, qtype, qclass, ttl, rdata)


def a(name, address='192.0.2.1', ttl=60):
    return rr(name, TYPES.A, IPv4Address(address), ttl)


def cname(name, target, ttl=60):
    return rr(name, TYPES.CNAME, target, ttl)


def soa(zone, ttl=60, minimum=60):
    return rr(
        zone, TYPES.SOA, module.SOA(b'ns.' + zone, b'root.' + zone, 1, 2, 3, 4, minimum), ttl
    )


def reply_to(query, *answers, **fields):
    """A reply as a recursive nameserver gives it."""
    return query._replace(**{'qr': RESPONSE, 'ra': 1, 'an': answers, **fields})


def answering(*answers, **fields):
    """An `answer` that is the same to every query."""
    return lambda query: reply_to(query, *answers, **fields)


def bare(rcode):
    """An `answer` that is an error and nothing else, the question not even."""
    return lambda query: reply_to(query, rcode=rcode)._replace(qd=(), ar=())


def silent(query):
    return None


def from_zone(*records, **fields):
    """An `answer` that has the records of the name and type asked for, or a CNAME."""

    def answer(query):
        question = query.qd[0]
        name = question.name.lower()
        found = [r for r in records if r.name == name and r.qtype in (question.qtype, TYPES.CNAME)]
        return reply_to(query, *found, **fields)

    return answer


async def no_host(fqdn, qtype):
    return None


def asking(*nameservers, timeout=0.5, rounds=5):
    """A get_nameservers: these, one after the other, so many rounds."""

    async def get_nameservers(fqdn):
        for _ in range(rounds):
            for nameserver in nameservers:
                yield timeout, nameserver

    return get_nameservers


def resolver_of(*servers, **arguments):
    """A Resolver that asks scripted nameservers, one after the other."""
    get_nameservers = asking(*[server.nameserver for server in servers])
    return Resolver(**{'get_host': no_host, 'get_nameservers': get_nameservers, **arguments})


def as_it_is(fqdn):
    """A transform_fqdn that makes no capitals: then no absence is checked in lower case."""
    return fqdn


async def outcomes_of(settings, name, qtypes):
    """What comes of a name and several types."""
    outcomes = {}
    await module.resolve_types(settings, name, qtypes, outcomes, name)
    return outcomes


async def in_time(awaitable, seconds=60, step=0.1):
    """Returns what comes of it while the clock goes on, for so many seconds at most."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(round(seconds / step)):
        await settle()
        if task.done():
            break
        turn(step)
    return await task


def now_saying(server, answer):
    """Has a scripted nameserver say something else from now on."""
    server.answer = server.answer_over_tcp = answer


def names_of(count, zone='example'):
    return [f'{number}.{zone}' for number in range(count)]


def is_about(query, name):
    return query.qd[0].name.lower() == name


async def outcomes_in_time(resolve, names, seconds=60):
    """What comes of names that are asked for at once, by name: texts of answers, or an error."""
    tasks = [resolve(name, TYPES.A) for name in names]
    gathered = asyncio.gather(*tasks, return_exceptions=True)
    outcomes = await in_time(asyncio.wait_for(gathered, seconds - 1), seconds)
    return {
        name: texts(outcome) if isinstance(outcome, tuple) else outcome
        for name, outcome in zip(names, outcomes, strict=True)
    }


def all_answered(names):
    """What `outcomes_in_time` gives if `echo` answers all."""
    return {name: ['192.0.2.1'] for name in names}


def texts(answers):
    return [str(answer) for answer in answers]


def closed_port():
    """A nameserver where nobody listens."""
    for _ in range(100):
        # Not of those that the system gives out: a query from this very port would answer itself.
        address = '127.0.0.1', random.randrange(20000, 32768)
        with (
            contextlib.suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as udp,
            socket.socket() as tcp,
        ):
            udp.bind(address)
            tcp.bind(address)
            return address
    raise RuntimeError('There is no free port on 127.0.0.1')


# --- 1. Opening --------------------------------------------------------------


def test_everything_public_is_there_and_documented():
    for name in module.__all__:
        public = getattr(module, name)
        assert isinstance(public, int) or public.__doc__


def test_nothing_above_the_line_awaits():
    source = SOURCE.read_text()
    line = source[: source.index('# --- nothing above this line awaits')].count('\n')
    asynchronous = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    lines = [n.lineno for n in ast.walk(ast.parse(source)) if isinstance(n, asynchronous)]
    assert min(lines) > line


def test_a_definition_uses_only_those_above_it():
    source = SOURCE.read_text()
    bound = {}
    for node in ast.parse(source).body:
        names = [node.name] if hasattr(node, 'name') else []
        names += [t.id for t in ast.walk(node) if isinstance(t, ast.Name) and is_stored(t)]
        for name in names:
            bound.setdefault(name, node.lineno)

    def globals_of(table):
        yield from (symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
        for child in table.get_children():
            yield from globals_of(child)

    below = [
        (table.get_name(), name)
        for table in symtable.symtable(source, '', 'exec').get_children()
        for name in globals_of(table)
        if bound.get(name, 0) > table.get_lineno()
    ]
    assert below == []


@pytest.mark.parametrize(
    'path', [SOURCE, HERE / 'test_aiodnsresolver.py'], ids=['module', 'tests']
)
def test_each_name_is_defined_once(path):
    names = collections.Counter()
    for node in ast.parse(path.read_text()).body:
        if hasattr(node, 'name'):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            targets = itertools.chain(*map(ast.walk, node.targets))
            names.update({t.id for t in targets if isinstance(t, ast.Name) and is_stored(t)})
    assert [name for name, count in names.items() if count > 1] == []


def is_stored(name):
    return isinstance(name.ctx, ast.Store)


def test_no_class_has_more_than_12_attributes_that_change():
    module_classes = {
        node.name: node
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ClassDef)
    }

    def changing(each):
        """The attributes that are assigned once an object is made, those of its bases too."""
        names = set()
        for base in each.bases:
            if isinstance(base, ast.Name) and base.id in module_classes:
                names |= changing(module_classes[base.id])
        for method in each.body:
            if not isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if method.name not in ('__init__', '__new__'):
                declared = {
                    node.target
                    for node in ast.walk(method)
                    if isinstance(node, ast.AnnAssign) and node.value is None
                }
                names |= {
                    node.attr
                    for node in ast.walk(method)
                    if isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == 'self'
                    and is_stored(node)
                    and node not in declared
                }
        return names

    many = {name: sorted(changing(each)) for name, each in module_classes.items()}
    assert {name: names for name, names in many.items() if len(names) > 12} == {}


def test_the_map_has_each_section():
    source = SOURCE.read_text()
    markers = re.findall(r'^# --- (\d+)\. (.+?) -+$', source, re.MULTILINE)
    mapped = re.findall(r'^ +(\d+)  (.+?)   ', module.__doc__, re.MULTILINE)
    assert markers == mapped


def test_the_core_imports_only_the_standard_library():
    script = (
        'import sys, asyncio, logging; before = set(sys.modules); import aiodnsresolver;'
        'print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))'
    )
    ran = subprocess.run(
        [sys.executable, '-c', script], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert set(ran.stdout.split()) - {'aiodnsresolver'} <= sys.stdlib_module_names


# --- 2. Numbers --------------------------------------------------------------


def test_numbers_print_as_their_mnemonics():
    assert str(TYPES.AAAA) == 'AAAA'
    assert f'{TYPES.NSAP_PTR}' == 'NSAP-PTR'
    assert (TYPES.HTTPS, CLASSES.IN, OPCODES.UPDATE, RCODES.BADCOOKIE) == (65, 1, 5, 23)
    assert (QUESTION, RESPONSE) == (0, 1)


def test_options_and_extended_errors_are_those_of_the_field():
    odd = {'KEEPALIVE': 'TCP_KEEPALIVE', 'REPORTCHANNEL': 'REPORT_CHANNEL'}
    for option in dns.edns.OptionType:
        assert module.EDNS_OPTIONS[odd.get(option.name, option.name)] == option
    assert {code.name: code.value for code in module.EDE} == {
        code.name: code.value for code in dns.edns.EDECode if code <= max(module.EDE)
    }
    assert str(module.EDE.DNSSEC_BOGUS) == 'DNSSEC-BOGUS'


def test_mnemonics_are_those_of_the_field():
    for kind in TYPES:
        with contextlib.suppress(dns.rdatatype.UnknownRdatatype):
            assert dns.rdatatype.from_text(str(kind)) == kind
    for code in RCODES:
        assert dns.rcode.to_text(code) in (str(code), 'BADVERS', 'BADSIG')


# --- 3. Errors ---------------------------------------------------------------


def test_errors_are_what_their_kin_are_too():
    assert issubclass(InvalidName, ValueError)
    assert issubclass(MalformedMessage, ValueError)
    assert issubclass(QueryTimeout, TimeoutError)
    assert issubclass(SocketError, OSError)
    assert issubclass(module.MissingDependency, ImportError)
    errors = [getattr(module, name) for name in module.__all__ if name[0].isupper()]
    errors = [e for e in errors if isinstance(e, type) and issubclass(e, Exception)]
    assert len(errors) == 14
    assert all(issubclass(error, ResolverError) for error in errors)


@pytest.mark.parametrize(
    'error',
    [
        DoesNotExist('no', RCODES.NOERROR),
        ResponseCode('no', RCODES.REFUSED),
        Truncated('cut', make_query('x', TYPES.A)),
        SocketError(111, 'refused'),
        BadSignature('wrong', RCODES.BADKEY),
        module.TransferError('no', 5),
    ],
)
def test_errors_keep_all_when_copied_or_pickled(error):
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert str(again) == str(error)


# --- 4. Messages -------------------------------------------------------------


def test_a_message_has_its_flags_and_edns():
    plain = make_query('x', TYPES.A, payload=None)
    assert (plain.ad, plain.cd, plain.edns, plain.extended_rcode) == (False, False, None, 0)
    message = make_query('x', TYPES.A)._replace(z=3, rcode=RCODES.NOERROR)
    assert (message.ad, message.cd) == (True, True)
    assert message.edns.qclass == 1232
    edns = message.edns._replace(ttl=1 << 24)
    assert message._replace(ar=(edns,)).extended_rcode == RCODES.BADVERS
    assert message._replace(ar=(edns,), rcode=15).extended_rcode == 31


EXPIRING = [
    IPv4Address('192.0.2.1'),
    IPv6Address('2001:db8::1'),
    IPv6Address('fe80::1%lo'),
    b'example.com',
    (b'one', b'two'),
    module.MX(10, b'mail.example.com'),
]


@pytest.mark.parametrize('rdata', EXPIRING, ids=repr)
def test_what_expires_is_otherwise_as_its_parent(rdata):
    expiring = module.expiring(rdata, 5.0)
    assert isinstance(expiring, type(rdata))
    assert expiring == rdata
    assert hash(expiring) == hash(rdata)
    assert str(expiring) == str(rdata)
    assert expiring.expires_at == 5.0
    copies = copy.copy(expiring), copy.deepcopy(expiring), pickle.loads(pickle.dumps(expiring))
    for again in (*copies, module.expiring(expiring, 5.0)):
        assert type(again) is type(expiring)
        assert again == rdata
        assert again.expires_at == 5.0
    assert getattr(module, type(expiring).__name__) is type(expiring)


def test_what_is_made_of_an_expiring_value_expires_too():
    address = IPv4AddressExpiresAt('192.0.2.1', 5.0)
    assert (address + 1, (address + 1).expires_at) == (IPv4Address('192.0.2.2'), 5.0)
    assert (address - 1, (address - 1).expires_at) == (IPv4Address('192.0.2.0'), 5.0)
    address = IPv6AddressExpiresAt('::1', 5.0)
    assert (address + 1, (address + 1).expires_at) == (IPv6Address('::2'), 5.0)
    assert (address - 1, (address - 1).expires_at) == (IPv6Address('::'), 5.0)
    mx = module.MXExpiresAt((10, b'a'), 5.0)
    replaced = mx._replace(exchange=b'b')
    assert (replaced, type(replaced), replaced.expires_at) == ((10, b'b'), type(mx), 5.0)


# --- 5. Octets ---------------------------------------------------------------

NAMES = [  # spelling, canonical, octets
    (b'', b'', b'\0'),
    (b'.', b'', b'\0'),
    (b'www.example.com', b'www.example.com', b'\3www\7example\3com\0'),
    (b'www.example.com.', b'www.example.com', b'\3www\7example\3com\0'),
    (b'Www.Example', b'Www.Example', b'\3Www\7Example\0'),
    (b'a\\.b.c', b'a\\.b.c', b'\3a.b\1c\0'),
    (b'a\\046b.c', b'a\\.b.c', b'\3a.b\1c\0'),
    (b'a\\\\.c', b'a\\\\.c', b'\2a\\\1c\0'),
    (b'a\\.', b'a\\.', b'\2a.\0'),
    (b'!~', b'!~', b'\2!~\0'),
    (b' \x7f', b'\\032\\127', b'\2 \x7f\0'),
    (b'\\w\\w\\w', b'www', b'\3www\0'),
    (b'\\119ww', b'www', b'\3www\0'),
    (b'\\000\\255', b'\\000\\255', b'\2\0\xff\0'),
    (b'\0\xff \t', b'\\000\\255\\032\\009', b'\4\0\xff \t\0'),
    (b'_sip._udp', b'_sip._udp', b'\4_sip\4_udp\0'),
    (b'"();@$', b'"();@$', b'\6"();@$\0'),
    (b'a' * 63, b'a' * 63, b'\x3f' + b'a' * 63 + b'\0'),
    (b'.'.join([b'a' * 63] * 3 + [b'a' * 61]), None, None),
    (b'.'.join([b'a'] * 127), None, None),
]


@pytest.mark.parametrize('spelling, canonical, octets', NAMES)
def test_a_name_has_many_spellings_and_one_canonical(spelling, canonical, octets):
    name = module.to_name(spelling)
    packed = module.pack_name(spelling)
    assert name == (spelling if canonical is None else canonical)
    assert packed == (packed if octets is None else octets)
    assert module.pack_name(name) == module.pack_canonical(name) == packed
    assert module.parse_name(packed, 0, 0, {}) == (name, len(packed))
    assert len(packed) <= 255
    if isinstance(spelling, bytes):
        assert type(module.to_name(module.BytesExpiresAt(spelling, 1.0))) is bytes


def test_a_name_that_is_much_too_long_is_refused_for_its_length_alone():
    name = b'a.' * 100_000
    tracemalloc.start()
    try:
        with pytest.raises(InvalidName, match='A name of 200000 octets is too long'):
            module.to_name(name)
        assert tracemalloc.get_traced_memory()[1] < len(name)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    'name',
    [
        b'..',
        b'.a',
        b'a..b',
        b'a..',
        b'a' * 64,
        b'a.' + b'b' * 64,
        b'\\256',
        b'\\300',
        b'a\\',
        b'a\\1',
        b'a\\12x',
        b'.'.join([b'a' * 63] * 3 + [b'a' * 62]),
        b'.'.join([b'a'] * 128),
        b'\\097' * 64,
        b'a' * 100_000,
        b'a.' * 100_000,
        b'\\' * 100_001,
    ],
)
def test_a_name_that_cannot_be_packed_is_invalid(name):
    for function in (module.to_name, module.pack_name):
        with pytest.raises(InvalidName):
            function(name)
    with pytest.raises(InvalidName):
        module.to_name(name.decode())


# Names that other resolvers' tests have, and whether they can be sent. Go and resolved refuse some
# as no host names: here a name is octets, and what a host may be called is the caller's matter.
@pytest.mark.parametrize(
    'name, is_sent',
    [
        ('_xmpp-server._tcp.example.com', True),
        ('1x.example', True),
        ('26.0.0.73.example', True),
        ('x-y.example', True),
        ('x.example.', True),
        ('.'.join(['x' * 63, 'example']), True),
        ('.'.join(['x' * 64, 'example']), False),
        ('.'.join(['x' * 63] * 3 + ['x' * 61]), True),  # 253 characters
        ('.'.join(['x' * 63] * 3 + ['x' * 61, '']), True),  # a final dot does not count
        ('.'.join(['x' * 63] * 3 + ['x' * 62]), False),
        ('x.y..example', False),
        ('x.y..', False),
        ('x.y-.example', True),  # Go: no
        ('x.y.example-', True),  # Go: no
        ('-x.y', True),  # resolved: no
        ('<html>.example', True),  # Go: no, CVE-2021-33195
        ('a b.example', True),
        ('espa\u00f1a.example', True),  # c-ares: no, its caller is to use IDNA
        ('\U0001f631.example', True),  # in IDNA 2003, as in resolved
        ('*.example', True),
    ],
)
def test_a_name_of_other_resolvers_tests_is_sent_or_invalid(name, is_sent):
    with contextlib.nullcontext() if is_sent else pytest.raises(InvalidName):
        assert len(module.pack_name(module.to_name(name))) <= 255


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=10))
def test_every_name_survives_presentation(labels):
    octets = b''.join(bytes([len(label)]) + label for label in labels) + b'\0'
    name, end = module.parse_name(octets, 0, 0, {})
    assert end == len(octets)
    assert re.fullmatch(rb'[!-~]*', name)
    assert module.to_name(name) == name
    assert module.pack_name(name) == octets
    assert len(re.findall(rb'(?<!\\)(?:\\\\)*\.', name)) == max(0, len(labels) - 1)


def header(qd=0, an=0, ns=0, ar=0):
    return struct.pack('>HHHHHH', 1, 0x8180, qd, an, ns, ar)


@pytest.mark.parametrize(
    'octets',
    [
        b'\xc0\x0c',  # to itself
        b'\xc0\x0e\0',  # forwards
        b'\1a\xc0\x0c',  # to where it started
        b'\1a\xc0\x0e',  # to the pointer
        b'\xff\xff',  # far beyond the end
        b'\x40',  # an extended label type, RFC 6891 5
        b'\x80\0',  # reserved
        b'\x40' + b'a' * 64 + b'\0',
        b'\xbf' + b'a' * 191 + b'\0',
        b'\x3f' + b'a' * 62,  # longer than what is there
        b'\1a',  # no end
        b'\xc0',  # half a pointer
        b''.join([b'\1a'] * 128) + b'\0',  # 257 octets
    ],
)
def test_a_name_that_is_none_is_malformed(octets):
    for rest in (b'', b'\0\1\0\1'):
        with pytest.raises(MalformedMessage):
            parse(header(qd=1) + octets + rest)


def test_a_name_put_together_by_pointers_has_at_most_255_octets():
    record = wire_record(1, b'\1\2\3\4', name=b'\1a\0')
    octets = header(an=127) + record
    for at in [12, *range(12 + len(record), 12 + len(record) + 125 * 18, 18)]:
        octets += wire_record(1, b'\1\2\3\4', name=b'\1a' + struct.pack('>H', 0xC000 | at))
    assert parse(octets).an[-1].name == b'.'.join([b'a'] * 127)
    last = struct.pack('>H', 0xC000 | len(octets) - 18)
    for too_long in (b'\1a' + last, b'\1-' + last, b'\1.' + last, b'\2ab' + last):
        with pytest.raises(MalformedMessage):
            parse(with_one_more(octets, wire_record(1, b'\1\2\3\4', name=too_long), 6))


def test_no_name_of_more_than_255_octets_is_kept():
    octets = bytes(12) + b'\1a' * 200 + b'\0'
    names = {}
    with pytest.raises(MalformedMessage):
        module.parse_name(octets + b'\xc0\x0c', len(octets), 0, names)
    assert max(size for _, size in names.values()) == 255


@pytest.mark.parametrize('size, is_label', [(1, True), (62, True), (63, True), (64, False)])
def test_a_label_before_a_pointer_has_at_most_63_octets(size, is_label):
    octets = header(qd=2) + b'\1x\0\0\1\0\1' + bytes([size]) + b'a' * size + b'\xc0\x0c\0\1\0\1'
    if is_label:
        assert parse(octets).qd[1].name == b'a' * size + b'.x'
    else:
        with pytest.raises(MalformedMessage):
            parse(octets)


@pytest.mark.parametrize('size, is_label', [(1, True), (62, True), (63, True), (64, False)])
def test_a_label_after_a_pointer_has_at_most_63_octets(size, is_label):
    label = b'a' * size
    octets = bytes(12) + b'\1x' + bytes([size]) + label + b'\1y\0'
    names = {}
    if is_label:
        name = b'x.' + label + b'.y', len(octets) - 12
        parsed = module.parse_name(octets + b'\xc0\x0c', len(octets), 0, names)
        assert parsed == (name[0], len(octets) + 2)
        above = {14: (label + b'.y', len(octets) - 14), 15 + size: (b'y', 3)}
        assert names == {12: name, **above, len(octets): name}
    else:
        with pytest.raises(MalformedMessage):
            module.parse_name(octets + b'\xc0\x0c', len(octets), 0, names)


def test_a_pointer_leads_to_no_name_that_is_not_before_it():
    with pytest.raises(MalformedMessage):
        module.parse_name(b'\xc0\3\0\1a\0', 0, 0, {3: (b'a', 3)})


def test_each_bit_of_a_pointer_that_is_an_owner_counts():
    records = (
        wire_record(2, b'\0', name=b'\2aa\0'),  # at 12; the root is at 26
        wire_record(10, bytes(16384 - 27 - 13), name=b'\1b\0'),  # at 27
        wire_record(10, b'', name=b'\1c\0'),  # at 16384
        wire_record(10, b'', name=b'\xc0\x1b'),
    )
    message = parse(header(an=4) + b''.join(records))
    assert [record.name for record in message.an] == [b'aa', b'b', b'c', b'b']


def test_a_pointer_leads_anywhere_before_it():
    # Names at many offsets, so that a pointer that is read wrongly leads to another of them.
    names = [b'%d%s.example' % (number, b'x' * (number % 7)) for number in range(500)]
    names = [below + name for name in names for below in (b'', b'', b'a.', b'\\..')]
    names += [below + name for name in names[:400:4] for below in (b'', b'b.')]
    assert [record.name for record in parse(pack(made_of(*map(a, names)))).an] == names
    rest = [wire_record(1, b'\1\2\3\4', name=name) for name in (b'\1x\0', b'\1a\0')]
    octets = header(an=3) + wire_record(10, bytes(353 - 23), name=b'\0') + b''.join(rest)
    assert octets[353:356] == b'\1x\0'  # 353 is as a pointer the octets 1 and a
    assert [record.name for record in parse(octets).an] == [b'', b'x', b'a']


def test_a_compressed_name_of_more_than_255_octets_is_malformed():
    long = b'\x3f' + b'a' * 63
    questions = long * 3 + b'\0\0\1\0\1' + b'\x3e' + b'b' * 62 + b'\xc0\x0c' + b'\0\1\0\1'
    with pytest.raises(MalformedMessage):
        parse(header(qd=2) + questions)
    questions = long * 3 + b'\0\0\1\0\1' + b'\x3d' + b'b' * 61 + b'\xc0\x0c' + b'\0\1\0\1'
    assert len(parse(header(qd=2) + questions).qd[1].name) == 253


@contextlib.contextmanager
def importing_as_idna(what):
    """Imports `what` as the package idna. None: as if it were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, 'idna', what)
        patch.delitem(sys.modules, 'idna.uts46data', raising=False)
        module.idna_library.cache_clear()
        yield
    module.idna_library.cache_clear()


@pytest.fixture(params=['with the package idna', 'without'])
def idna_or_not(request):
    """Whether the package idna can be imported."""
    if request.param == 'without':
        with importing_as_idna(None):
            yield False
    else:
        yield True


@pytest.mark.parametrize(
    'name, canonical',
    [
        ('bücher.example', b'xn--bcher-kva.example'),
        ('BÜCHER.Example', b'xn--bcher-kva.Example'),
        ('BÜX.Example', b'xn--bx-xka.Example'),
        ('bu\u0308cher.example', b'xn--bcher-kva.example'),  # not composed
        ('例え。テスト', b'xn--r8jz45g.xn--zckzah'),
        ('www\uff0ebücher\uff61example', b'www.xn--bcher-kva.example'),
        ('\uff57\uff57\uff57.example', b'www.example'),
        ('ﬁne\u00ad.example', b'fine.example'),  # a ligature, and a soft hyphen
        ('\u00ad' * 62 + 'ü.example', b'xn--tda.example'),
        ('_dmarc.bücher.example', b'_dmarc.xn--bcher-kva.example'),
        ('_bücher.example', b'xn--_bcher-4ya.example'),
        ('xn--bcher-kva.example', b'xn--bcher-kva.example'),
        ('xn--\\255.example', b'xn--\\255.example'),
        ('☃.example.', b'xn--n3h.example'),
        ('بازار.example', b'xn--mgbab2bd.example'),
    ],
)
def test_only_labels_that_are_not_ascii_pass_through_idna(idna_or_not, name, canonical):
    assert module.to_name(name) == canonical


@pytest.mark.parametrize(
    'name, canonical',
    [
        ('straße.example', b'xn--strae-oqa.example'),  # would be strasse.example
        ('STRAẞE.example', b'xn--strae-oqa.example'),
        ('φίλος.example', b'xn--kxaymmq.example'),  # would end in another sigma
        ('නම්\u200dබර.example', None),  # ZWJ, ZWNJ: would vanish
        ('\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example', b'xn--mgba3gch31f060k.example'),
        ('😱.example', b'xn--s38h.example'),  # not in Unicode 3.2
        ('ა\u1c90.example', None),  # a letter that has got a capital since
        ('\u2c00.example', None),
        ('\u04c0.example', None),
        ('\U0002f868.example', None),  # an ideograph whose normal form was wrong
        ('א1.example', b'xn--1-zhc.example'),
    ],
)
def test_a_name_on_which_the_versions_of_idna_differ_needs_the_package(
    idna_or_not, name, canonical
):
    if idna_or_not:
        assert canonical is None or module.to_name(name) == canonical
    else:
        with pytest.raises(InvalidName, match=r"pip install 'aiodnsresolver\[idna\]'"):
            module.to_name(name)


@pytest.mark.parametrize(
    'name',
    [
        'a\u200cb.example',  # ZWNJ, ZWJ: where they join nothing
        'a\u200db.example',
        '\u200d.example',
        'a\u2024b.example',  # a dot once normalised
        'a\u2100b.example',  # a slash once normalised
        'a\u00a0b.example',  # a space once normalised
        'a\u202eb.example',  # RIGHT-TO-LEFT OVERRIDE
        'a\u2067b.example',  # RIGHT-TO-LEFT ISOLATE, which Unicode 3.2 did not know
        'a\u0085b.example',
        'aא.example',  # in both directions
        'a\u0661.example',
        'א\u0661a.example',
        '\u0660\u05d01.example',
        '\u0301a\u00fc.example',  # would join the dot before it
        '\u00ad.example',  # nothing is left
        '\ufeff.example',
        'a\\.ü.example',
        'ü' * 64 + '.example',
        '\u00ad' * 63 + 'ü.example',  # too long, although few octets would be left
        'ü' * 1_000_000,
        'a\u0301' * 1_000_000,
        'ü.' * 500_000,
        '\u3002' * 1_000_000,
        'ü..example',
        '\ud800.example',
        '\ue000.example',
        '\U0010ffff.example',
        'xn--ü.example',
        'xn--\uff42cher-kva.example',  # would be an A-label
        '\uff58n--a-ecp.example',
        'ab--ü.example',
        '-ü.example',
        'ü-.example',
    ],
    ids=lambda name: ascii(name[:20]),
)
def test_a_name_that_idna_would_change_or_refuse_is_invalid(idna_or_not, name):
    before = time.process_time()
    with pytest.raises(InvalidName) as raised:
        module.to_name(name)
    assert time.process_time() - before < 0.5
    assert len(str(raised.value)) < 800
    assert str(raised.value).isprintable()


def test_the_most_characters_of_a_name_are_those_of_its_longest_spelling(idna_or_not):
    labels = ['\u00ad' * 62 + 'ü'] * 15 + ['\u00ad' * 59 + 'ü']
    name = '.'.join(labels)
    assert len(name) == module.MAX_PRESENTATION
    assert module.to_name(name) == b'.'.join([b'xn--tda'] * 16)
    with pytest.raises(InvalidName):
        module.to_name(f'\u00ad{name[63:]}{name[:63]}')


@pytest.mark.parametrize('between', [*'\u20aa\u05b0\u2603\u2212\u060c\u06f0'], ids=ascii)
def test_what_has_no_direction_may_be_in_a_name_from_right_to_left(idna_or_not, between):
    label = f'\u05d0{between}\u05d1'
    assert module.to_name(label) == b'xn--' + label.encode('punycode')


@pytest.mark.parametrize('letter', ['\u04c0', '\u13a0'])
def test_a_letter_with_another_case_since_unicode_3_2_needs_the_package(monkeypatch, letter):
    with importing_as_idna(None):
        for _ in range(2):
            with pytest.raises(InvalidName, match='another name in IDNA 2008'):
                module.to_name(letter)
            # Newer versions of Python map it as Unicode 3.2 does: to itself.
            monkeypatch.setitem(stringprep.b3_exceptions, ord(letter), letter)
        assert encodings.idna.nameprep(letter) == letter


def count_same_without_idna(labels):
    """Counts those that are the same domain without the package idna, the others being invalid."""

    def domain_of(label):
        try:
            return module.idna_label(label)
        except InvalidName:
            return None

    domains = [domain_of(label) for label in labels]
    with importing_as_idna(None):
        same = 0
        for label, domain in zip(labels, domains, strict=True):
            without = domain_of(label)
            assert without in (None, domain), ascii(label)
            same += without is not None
    return same


def characters_of_idna_2003():
    """All that Unicode 3.2 knew, save most of the ideographs and of the Korean syllables."""
    blocks = [range(0x80, 0x3500), range(0xA000, 0xAC80), range(0xF900, 0x11000)]
    blocks += [range(0x1D000, 0x1D800), range(0x2F800, 0x2FA20), range(0xE0000, 0xE0080)]
    characters = [chr(number) for block in blocks for number in block]
    known = unicodedata.ucd_3_2_0.category
    return [character for character in characters if known(character) != 'Cn']


@pytest.mark.long
def test_without_the_package_idna_no_character_leads_to_another_domain():
    contexts = ('%s', 'a%sa', '\u05d0%s\u05d0', '\u0627%s')
    labels = [context % each for each in characters_of_idna_2003() for context in contexts]
    assert count_same_without_idna(labels) > 20_000


def test_without_the_package_idna_no_name_leads_to_another_domain():
    draw = random.Random(7)
    known = characters_of_idna_2003()
    groups = [
        [each for each in known if unicodedata.category(each).startswith('M')],
        [each for each in known if unicodedata.decomposition(each)],
        [each for each in known if each.lower() != each.upper()],
        [each for each in known if unicodedata.bidirectional(each) in ('R', 'AL', 'AN', 'NSM')],
        [chr(number) for number in [*range(0x1100, 0x1200), *range(0xAC00, 0xD7A4, 7)]],
        [*'abAB01_-'],
    ]
    labels = [
        ''.join(draw.choice(draw.choice(groups)) for _ in range(draw.randint(1, 4)))
        for _ in range(3000)
    ]
    assert count_same_without_idna(labels) > 500


@pytest.mark.parametrize(
    'name, text',
    [
        (b'xn--bcher-kva.example', 'bücher.example'),
        ('xn--bcher-kva.example.', 'bücher.example'),
        (b'XN--BCHER-KVA.Example', 'bücher.Example'),
        ('BÜCHER.例え。テスト', 'bücher.例え.テスト'),
        (b'_x.xn--n3h', '_x.☃'),
        (b'', ''),
        (b'.', ''),
        (b'a\\.xn--bcher-kva.b', 'a\\.xn--bcher-kva.b'),  # one label of another form
        (b'a\\\\.xn--bcher-kva', 'a\\\\.bücher'),
        (b'\\255\\000.xn--n3h', '\\255\\000.☃'),
        (b'xn--bcher-kva\\000', 'xn--bcher-kva\\000'),
        (b'xn--', 'xn--'),
        (b'xn--a-', 'xn--a-'),
        (b'xn--a', 'xn--a'),
        (b'xn--99999999', 'xn--99999999'),  # past the end of Unicode
        (b'xn--\\255', 'xn--\\255'),
    ],
)
def test_a_name_for_people_has_u_labels(idna_or_not, name, text):
    assert module.to_unicode(name) == text


@pytest.mark.parametrize('label', ['faß', '\u0646\u0627\u0645\u0647\u200c\u0627\u06cc', '😱'])
def test_a_u_label_of_idna_2008_is_read_with_the_package(idna_or_not, label):
    octets = b'xn--' + label.encode('punycode')
    assert module.to_unicode(octets) == (label if idna_or_not else octets.decode())


@pytest.mark.parametrize(
    'hostile',
    [
        *'\x80\x85\u00a0\u00ad\u2028\u3000\ufeff\u200b\u200e\u202a\u202e\u2060\u2066\u2067\u2069',
        *'\u061c\u180e\u115f\u3164\uffa0\ufe0f\ue000\ud800\uffff\ufffd\U000e0001\U000e0041',
        *'\u3002\uff0e\uff61\u2024\u2100\uff0f\uff1a\ufe52',  # dots, slashes, a colon
        *'Ü\uff42\u1e9e\u212a\u2126\u017f\ufb01',  # would become others
        *'\u200c\u200d\u0301',
    ],
    ids=ascii,
)
def test_no_character_that_misleads_is_shown(idna_or_not, hostile):
    for text in (hostile, f'{hostile}a', f'a{hostile}', f'ü{hostile}', f'א{hostile}א'):
        # A mark after a letter is shown if the two have no other spelling.
        if hostile == '\u0301' and not text.startswith(hostile) and text[0] != 'a':
            continue
        octets = b'xn--' + text.encode('punycode')
        assert module.to_unicode(octets + b'.example') == f'{octets.decode()}.example'


def test_a_name_for_people_is_the_same_name(idna_or_not):
    draw = random.Random(8)
    shown = 0
    for _ in range(2000):
        size = draw.randint(0, 12)
        octets = b'xn--' + bytes(draw.choices(b'abcdefghijklmnopqrstuvwxyz0123456789-', k=size))
        text = module.to_unicode(octets)
        assert module.to_name(text) == octets
        assert text.isprintable()
        shown += not text.isascii()
    assert shown > 10


@pytest.mark.parametrize('name', [b'a..b', 'ü..b', b'a' * 64, 'a' * 1_000_000, '\\999', '\ud800'])
def test_a_name_for_people_is_a_valid_one(idna_or_not, name):
    with pytest.raises(InvalidName):
        module.to_unicode(name)


def test_a_broken_package_idna_is_none():
    with importing_as_idna(types.ModuleType('idna')):  # without its tables
        assert module.idna_library() is None
        assert module.to_name('bücher') == b'xn--bcher-kva'
    assert module.idna_library() is not None


def test_who_has_ascii_names_does_not_import_idna():
    script = (
        'import sys, aiodnsresolver; aiodnsresolver.to_name("www.example");'
        'aiodnsresolver.to_unicode(b"www.example"); print("idna" in sys.modules);'
        'print(aiodnsresolver.to_unicode(b"xn--fa-hia") == "fa\\xdf", "idna" in sys.modules)'
    )
    ran = subprocess.run(
        [sys.executable, '-c', script], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert ran.stdout == 'False\nTrue True\n'


@pytest.mark.parametrize('name', [None, 1, ['a'], bytearray(b'a')])
def test_a_name_of_another_type_is_a_type_error(name):
    with pytest.raises(TypeError):
        module.to_name(name)


@pytest.mark.parametrize(
    'name, expected',
    [
        ('', True),
        ('.', True),
        (b'.', True),
        ('www.', True),
        ('MX.', True),
        (b'www.', True),
        ('b\u00fccher\u3002', True),
        ('www\uff0e', True),
        ('a\\\\.', True),  # an escaped backslash, and a dot
        ('www', False),
        (b'www.example', False),
        ('b\u00fccher.example', False),
        ('a\\.', False),  # an escaped dot
        (b'a\\\\\\.', False),
        ('a\\046', False),
    ],
)
def test_a_name_is_absolute_if_it_has_a_final_dot_that_is_not_escaped(name, expected):
    assert module.is_absolute(name) is expected


@pytest.mark.parametrize(
    'name, dots', [(b'', 0), (b'a', 0), (b'a.b.c', 2), (b'a\\.b.c', 1), (b'a\\\\.b', 1)]
)
def test_dots_are_counted_between_labels(name, dots):
    assert module.dots_in(name) == dots


# --- 6. Fields ---------------------------------------------------------------
def test_a_mapped_address_has_one_text_on_all_pythons():
    mapped, scoped = IPv6Address('::ffff:7f00:1'), IPv6Address('::ffff:127.0.0.1%lo')
    answer = IPv6AddressExpiresAt(mapped, 5.0)
    assert f'{answer} {answer!r}' == ("::ffff:127.0.0.1 IPv6AddressExpiresAt('::ffff:127.0.0.1')")
    assert (answer, hash(answer), answer + 1) == (mapped, hash(mapped), mapped + 1)
    assert pickle.loads(pickle.dumps(answer)).expires_at == 5.0
    assert str(IPv6AddressExpiresAt(scoped, 5.0)) == '::ffff:127.0.0.1%lo'
    prefix = module.AddressPrefix(2, 128, 0, mapped)
    hint = module.SVCB(1, b'', ((module.SVC_KEYS.ipv6hint, (mapped, IPv6Address('::1'))),))
    for rdata, qtype, text in (
        (mapped, TYPES.AAAA, '::ffff:127.0.0.1'),
        (answer, TYPES.AAAA, '::ffff:127.0.0.1'),
        (IPv6Address('::7f00:1'), TYPES.AAAA, '::7f00:1'),
        (IPv6Address('::fffe:7f00:1'), TYPES.AAAA, '::fffe:7f00:1'),
        (IPv4AddressExpiresAt('127.0.0.1', 5.0), TYPES.A, '127.0.0.1'),
        ((prefix,), TYPES.APL, '2:::ffff:127.0.0.1/128'),
        (hint, TYPES.SVCB, '1 . ipv6hint=::ffff:127.0.0.1,::1'),
        (module.IPSECKEY(1, 2, 0, mapped, b''), TYPES.IPSECKEY, '1 2 0 ::ffff:127.0.0.1'),
    ):
        line = presentation(ResourceRecord(b'x', qtype, CLASSES.IN, 5, rdata))
        assert line.split(None, 4)[4] == text
    assert module.Server(mapped, 53).text == '[::ffff:127.0.0.1]:53'
    assert module.Server('::ffff:7f00:1', 53).url == module.Server(mapped, 53).url
    assert module.certificate_name('::ffff:7f00:1') == '::ffff:127.0.0.1'
    assert module.https_url(mapped, 443, '/').host == '::ffff:127.0.0.1'


# --- 7. Records --------------------------------------------------------------

DNSKEY_OF_RFC_4034 = (
    'AQPSKmynfzW4kyBv015MUG2DeIQ3Cbl+BBZH4b/0PY1kxkmvHjcZc8nokfzj31GajIQKY+5CptLr3buXA10hWqTkF7H6R'
    'foRqXQeogmMHfpftf6zMv1LyBUgia7za6ZEzOJBOztyvhjL742iU/TpPSEDhm2SNKLijfUppn1UaNvv4w=='
)
RRSIG_OF_RFC_4034 = (
    'oJB1W6WNGv+ldvQ3WDG0MQkg5IEhjRip8WTrPYGv07h108dUKGMeDPKijVCHX3DDKdfb+v6oB9wfuh3DTJXUAfI/M0zmO'
    '/zz8bW0Rznl8O3tGNazPwQKkRN20XPXV6nwwfoXmJQbsLNrLfkGJ5D6fwFm8nN+6pBzeDQfsS3Ap3o='
)
KEY_OF_RFC_4025 = 'AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=='
DHCID_OF_RFC_4701 = 'AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA='
HIP_OF_RFC_8005 = (
    'AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWsuxKbWIy87UOoJTwkUs7lBu+Upr'
    '1gsNrut79ryra+bSRGQb1slImA8YVJyuIDsj7kwzG7jnERNqnWxZ48AWkskmdHaVDP4BcelrTI3rMXdXF5D'
)
ZONEMD_OF_RFC_8976 = (
    'c68090d90a7aed716bc459f9340e3d7c1370d4d24b7e2fc3'
    'a1ddc0b9a87153b9a9713b3c9ae5cc27777f98b8e730044c'
)
DS_OF_RFC_4034 = '2bb183af5f22588179a53b0a98631fad1a292118'
TLSA_OF_RFC_6698 = 'd2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971'


def b64(text):
    """Octets of base 64."""
    return base64.b64decode(text, validate=True)


VECTORS = [  # type, octets of the rdata (not compressed), rdata, presentation form
    ('A', 'c0000201', IPv4Address('192.0.2.1'), '192.0.2.1'),
    ('NS', '026e73076578616d706c6500', b'ns.example', 'ns.example.'),
    ('CNAME', '03777777076578616d706c6500', b'www.example', 'www.example.'),
    ('CNAME', '00', b'', '.'),
    ('CNAME', '04612e6240076578616d706c6500', b'a\\.b@.example', 'a\\.b\\@.example.'),
    (
        'SOA',
        '026e7300 04726f6f7400 00000001 00000e10 00000258 00015180 0000003c',
        module.SOA(b'ns', b'root', 1, 3600, 600, 86400, 60),
        'ns. root. 1 3600 600 86400 60',
    ),
    ('MD', '01610162 00', b'a.b', 'a.b.'),
    ('MF', '01610162 00', b'a.b', 'a.b.'),
    ('MB', '01610162 00', b'a.b', 'a.b.'),
    ('MG', '01610162 00', b'a.b', 'a.b.'),
    ('MR', '01610162 00', b'a.b', 'a.b.'),
    ('NULL', '00ff', b'\0\xff', '\\# 2 00FF'),
    ('NULL', '', b'', '\\# 0'),
    (
        'WKS',  # RFC 1035 3.4.2: the 26th bit is SMTP
        'c0000201 06 00000040',
        module.WKS(IPv4Address('192.0.2.1'), 6, b'\0\0\0\x40'),
        '192.0.2.1 6 25',
    ),
    (
        'WKS',
        'c0000201 11 0104',
        module.WKS(IPv4Address('192.0.2.1'), 17, b'\1\4'),
        '192.0.2.1 17 7 13',
    ),
    ('WKS', 'c0000201 11', module.WKS(IPv4Address('192.0.2.1'), 17, b''), '192.0.2.1 17'),
    ('PTR', '09 6c6f63616c686f7374 00', b'localhost', 'localhost.'),
    ('MINFO', '01610162 00 0163 00', module.MINFO(b'a.b', b'c'), 'a.b. c.'),
    ('HINFO', '05 494e54454c 04 554e4958', module.HINFO(b'INTEL', b'UNIX'), '"INTEL" "UNIX"'),
    ('MX', '000a 046d61696c00', module.MX(10, b'mail'), '10 mail.'),
    ('TXT', '03 613d62 00', (b'a=b', b''), '"a=b" ""'),
    ('TXT', '04 1f 20 7e 7f', (b'\x1f ~\x7f',), '"\\031 ~\\127"'),
    ('TXT', '05 22 5c 00 ff 20', (b'"\\\0\xff ',), '"\\"\\\\\\000\\255 "'),
    (
        'RP',  # RFC 1183 2.2
        '056c6f756965077472616e746f7203756d640365647500044c414d310670656f706c6503756d640365647500',
        module.RP(b'louie.trantor.umd.edu', b'LAM1.people.umd.edu'),
        'louie.trantor.umd.edu. LAM1.people.umd.edu.',
    ),
    (
        'AFSDB',  # RFC 1183 1
        '0001 076269676269726407746f617374657203636f6d00',
        module.AFSDB(1, b'bigbird.toaster.com'),
        '1 bigbird.toaster.com.',
    ),
    ('X25', '0c 333131303631373030393536', b'311061700956', '"311061700956"'),  # RFC 1183 3.1
    (
        'ISDN',  # RFC 1183 3.2
        '0f 313530383632303238303033323137',
        module.ISDN(b'150862028003217', None),
        '"150862028003217"',
    ),
    (
        'ISDN',  # RFC 1183 3.2
        '0f 313530383632303238303033323137 03 303034',
        module.ISDN(b'150862028003217', b'004'),
        '"150862028003217" "004"',
    ),
    (
        'RT',  # RFC 1183 3.3
        '0002 0552656c6179055072696d6503434f4d00',
        module.RT(2, b'Relay.Prime.COM'),
        '2 Relay.Prime.COM.',
    ),
    (
        'NSAP',  # RFC 1706 5
        '47000580005a0000000001e133ffffff00016100',
        bytes.fromhex('47000580005a0000000001e133ffffff00016100'),
        '0x47000580005a0000000001e133ffffff00016100',
    ),
    ('NSAP_PTR', '01610162 00', b'a.b', 'a.b.'),
    (
        'SIG',
        '0001 05 01 0000003c 3e7c9dd7 3e5510d7 0a52 0161 00 010203',
        module.SIG(TYPES.A, 5, 1, 60, 0x3E7C9DD7, 0x3E5510D7, 2642, b'a', b'\1\2\3'),
        'A 5 1 60 20030322173103 20030220173103 2642 a. AQID',
    ),
    (
        'KEY',
        '0100 03 05' + b64(DNSKEY_OF_RFC_4034).hex(),
        module.KEY(256, 3, 5, b64(DNSKEY_OF_RFC_4034)),
        f'256 3 5 {DNSKEY_OF_RFC_4034}',
    ),
    (
        'PX',  # RFC 2163 4
        '0032 046e65743202697400 0950524d442d6e6574320941444d442d7034303004432d697400',
        module.PX(50, b'net2.it', b'PRMD-net2.ADMD-p400.C-it'),
        '50 net2.it. PRMD-net2.ADMD-p400.C-it.',
    ),
    (
        'GPOS',  # RFC 1712 4
        '08 2d33322e36383832 08 3131362e38363532 04 31302e30',
        module.GPOS(b'-32.6882', b'116.8652', b'10.0'),
        '"-32.6882" "116.8652" "10.0"',
    ),
    (
        'LOC',  # RFC 1876 4
        '00 33 16 13 89172dd0 70be15f0 00988d20',
        module.LOC(0, 0x33, 0x16, 0x13, 0x89172DD0, 0x70BE15F0, 0x00988D20),
        '42 21 54.000 N 71 6 18.000 W -24.00m 30m 10000m 10m',
    ),
    (
        'LOC',  # the south pole, the deepest, and the smallest sizes
        '00 00 10 91 6cb02700 80000000 00000000',
        module.LOC(0, 0, 0x10, 0x91, (1 << 31) - 324_000_000, 1 << 31, 0),
        '90 0 0.000 S 0 0 0.000 E -100000.00m 0.00m 0.01m 0.90m',
    ),
    (
        'LOC',  # a metre, and a little less
        '00 12 91 90 80000001 7fffffff 00989680',
        module.LOC(0, 0x12, 0x91, 0x90, (1 << 31) + 1, (1 << 31) - 1, 10_000_000),
        '0 0 0.001 N 0 0 0.001 W 0.00m 1m 0.90m 0.09m',
    ),
    (
        'LOC',  # the north pole, as far to the east as can be
        '00 99 00 33 934fd900 a69fb200 ffffffff',
        module.LOC(0, 0x99, 0, 0x33, (1 << 31) + 324_000_000, (1 << 31) + 648_000_000, 2**32 - 1),
        '90 0 0.000 N 180 0 0.000 E 42849672.95m 90000000m 0.00m 30m',
    ),
    ('AAAA', '20010db8000000000000000000000001', IPv6Address('2001:db8::1'), '2001:db8::1'),
    (
        'SRV',
        '0000 0005 13c4 03736970 00',
        module.SRV(0, 5, 5060, b'sip'),
        '0 5 5060 sip.',
    ),
    (
        'NAPTR',  # RFC 3403 4.1
        '0064 0032 01 61 05 7a33393530 00 03 666f6f 00',
        module.NAPTR(100, 50, b'a', b'z3950', b'', b'foo'),
        '100 50 "a" "z3950" "" foo.',
    ),
    ('KX', '000a 026b7800', module.KX(10, b'kx'), '10 kx.'),
    ('CERT', '0001 fffe 03 00010203', module.CERT(1, 65534, 3, b'\0\1\2\3'), '1 65534 3 AAECAw=='),
    ('DNAME', '076578616d706c6500', b'example', 'example.'),
    ('OPT', '000a 0008 0102030405060708', ((10, b'\1\2\3\4\5\6\7\x08'),), None),
    ('OPT', '', (), None),
    (
        'APL',  # RFC 3123 6
        '0001 15 03 c0a820 0001 1c 83 c0a826',
        (
            module.AddressPrefix(1, 21, 0, IPv4Address('192.168.32.0')),
            module.AddressPrefix(1, 28, 1, IPv4Address('192.168.38.0')),
        ),
        '1:192.168.32.0/21 !1:192.168.38.0/28',
    ),
    (
        'APL',  # RFC 3123 6
        '0001 04 01 e0 0002 08 01 ff',
        (
            module.AddressPrefix(1, 4, 0, IPv4Address('224.0.0.0')),
            module.AddressPrefix(2, 8, 0, IPv6Address('ff00::')),
        ),
        '1:224.0.0.0/4 2:ff00::/8',
    ),
    (
        'APL',
        '0001 00 80',
        (module.AddressPrefix(1, 0, 1, IPv4Address('0.0.0.0')),),
        '!1:0.0.0.0/0',
    ),
    (
        'APL',  # as long as can be
        '0001 20 04 c0000258 0002 80 10 20010db8000000000000000000000001',
        (
            module.AddressPrefix(1, 32, 0, IPv4Address('192.0.2.88')),
            module.AddressPrefix(2, 128, 0, IPv6Address('2001:db8::1')),
        ),
        '1:192.0.2.88/32 2:2001:db8::1/128',
    ),
    ('APL', '', (), ''),
    (
        'DS',  # RFC 4034 5.4
        f'ec45 05 01 {DS_OF_RFC_4034}',
        module.DS(60485, 5, 1, bytes.fromhex(DS_OF_RFC_4034)),
        f'60485 5 1 {DS_OF_RFC_4034.upper()}',
    ),
    (
        'SSHFP',  # RFC 4255 3.2
        '02 01 123456789abcdef67890123456789abcdef67890',
        module.SSHFP(2, 1, bytes.fromhex('123456789abcdef67890123456789abcdef67890')),
        '2 1 123456789ABCDEF67890123456789ABCDEF67890',
    ),
    (
        'IPSECKEY',  # RFC 4025 3.2
        '0a 01 02 c0000226' + b64(KEY_OF_RFC_4025).hex(),
        module.IPSECKEY(10, 1, 2, IPv4Address('192.0.2.38'), b64(KEY_OF_RFC_4025)),
        f'10 1 2 192.0.2.38 {KEY_OF_RFC_4025}',
    ),
    (
        'IPSECKEY',  # RFC 4025 3.2
        '0a 00 02' + b64(KEY_OF_RFC_4025).hex(),
        module.IPSECKEY(10, 0, 2, None, b64(KEY_OF_RFC_4025)),
        f'10 0 2 . {KEY_OF_RFC_4025}',
    ),
    (
        'IPSECKEY',  # RFC 4025 3.2
        '0a 03 02 096d7967617465776179076578616d706c6503636f6d00' + b64(KEY_OF_RFC_4025).hex(),
        module.IPSECKEY(10, 3, 2, b'mygateway.example.com', b64(KEY_OF_RFC_4025)),
        f'10 3 2 mygateway.example.com. {KEY_OF_RFC_4025}',
    ),
    (
        'IPSECKEY',  # RFC 4025 3.2
        '0a 02 02 20010db8000080020000000020000001' + b64(KEY_OF_RFC_4025).hex(),
        module.IPSECKEY(10, 2, 2, IPv6Address('2001:db8:0:8002::2000:1'), b64(KEY_OF_RFC_4025)),
        f'10 2 2 2001:db8:0:8002::2000:1 {KEY_OF_RFC_4025}',
    ),
    (
        'RRSIG',  # RFC 4034 3.3
        '0001 05 03 00015180 3e7c9dd7 3e5510d7'
        + '0a52 076578616d706c6503636f6d00'
        + b64(RRSIG_OF_RFC_4034).hex(),
        module.RRSIG(
            TYPES.A,
            5,
            3,
            86400,
            0x3E7C9DD7,
            0x3E5510D7,
            2642,
            b'example.com',
            b64(RRSIG_OF_RFC_4034),
        ),
        f'A 5 3 86400 20030322173103 20030220173103 2642 example.com. {RRSIG_OF_RFC_4034}',
    ),
    (
        'NSEC',  # RFC 4034 4.3
        '04686f7374076578616d706c6503636f6d00 00 06 400100000003'
        '04 1b 000000000000000000000000000000000000000000000000000020',
        module.NSEC(b'host.example.com', (TYPES.A, TYPES.MX, TYPES.RRSIG, TYPES.NSEC, 1234)),
        'host.example.com. A MX RRSIG NSEC TYPE1234',
    ),
    ('NSEC', '0161 00 ff 20' + '00' * 31 + '01', module.NSEC(b'a', (65535,)), 'a. TYPE65535'),
    (
        'DNSKEY',  # RFC 4034 2.3
        '0100 03 05' + b64(DNSKEY_OF_RFC_4034).hex(),
        module.DNSKEY(256, 3, 5, b64(DNSKEY_OF_RFC_4034)),
        f'256 3 5 {DNSKEY_OF_RFC_4034}',
    ),
    (
        'DHCID',  # RFC 4701 3.6
        b64(DHCID_OF_RFC_4701).hex(),
        b64(DHCID_OF_RFC_4701),
        DHCID_OF_RFC_4701,
    ),
    (
        'NSEC3',  # RFC 5155 A
        '01 01 000c 04 aabbccdd 14 174eb2409fe28bcb4887a1836f957f0a8425e27b 0007 22010000000290',
        module.NSEC3(
            1,
            1,
            12,
            b'\xaa\xbb\xcc\xdd',
            bytes.fromhex('174eb2409fe28bcb4887a1836f957f0a8425e27b'),
            (TYPES.NS, TYPES.SOA, TYPES.MX, TYPES.RRSIG, TYPES.DNSKEY, TYPES.NSEC3PARAM),
        ),
        '1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR NS SOA MX RRSIG DNSKEY NSEC3PARAM',
    ),
    ('NSEC3', '02 00 0000 00 01 ff', module.NSEC3(2, 0, 0, b'', b'\xff', ()), '2 0 0 - VS'),
    (
        'NSEC3PARAM',  # RFC 5155 A
        '01 00 000c 04 aabbccdd',
        module.NSEC3PARAM(1, 0, 12, b'\xaa\xbb\xcc\xdd'),
        '1 0 12 AABBCCDD',
    ),
    ('NSEC3PARAM', '01 00 0000 00', module.NSEC3PARAM(1, 0, 0, b''), '1 0 0 -'),
    (
        'TLSA',  # RFC 6698 2.3
        f'00 00 01 {TLSA_OF_RFC_6698}',
        module.TLSA(0, 0, 1, bytes.fromhex(TLSA_OF_RFC_6698)),
        f'0 0 1 {TLSA_OF_RFC_6698.upper()}',
    ),
    (
        'SMIMEA',
        f'03 00 01 {TLSA_OF_RFC_6698}',
        module.SMIMEA(3, 0, 1, bytes.fromhex(TLSA_OF_RFC_6698)),
        f'3 0 1 {TLSA_OF_RFC_6698.upper()}',
    ),
    (
        'HIP',  # RFC 8005 6
        f'10 02 0084 200100107b1a74df365639cc39f1d578 {b64(HIP_OF_RFC_8005).hex()}'
        '0472767331076578616d706c6503636f6d00 0472767332076578616d706c6503636f6d00',
        module.HIP(
            2,
            bytes.fromhex('200100107b1a74df365639cc39f1d578'),
            b64(HIP_OF_RFC_8005),
            (b'rvs1.example.com', b'rvs2.example.com'),
        ),
        f'2 200100107B1A74DF365639CC39F1D578 {HIP_OF_RFC_8005} '
        'rvs1.example.com. rvs2.example.com.',
    ),
    ('HIP', '01 02 0001 ff 00', module.HIP(2, b'\xff', b'\0', ()), '2 FF AA=='),
    ('NINFO', '01 61 00', (b'a', b''), '"a" ""'),
    ('CDS', '0000 00 00 00', module.CDS(0, 0, 0, b'\0'), '0 0 0 00'),  # RFC 8078 4
    ('CDNSKEY', '0000 03 00 00', module.CDNSKEY(0, 3, 0, b'\0'), '0 3 0 AA=='),  # RFC 8078 4
    ('OPENPGPKEY', '99010d', b'\x99\1\x0d', 'mQEN'),
    (
        'CSYNC',  # RFC 7477 2.1.2
        '00000042 0003 00 04 60000008',
        module.CSYNC(66, 3, (TYPES.A, TYPES.NS, TYPES.AAAA)),
        '66 3 A NS AAAA',
    ),
    ('CSYNC', '00000000 0000', module.CSYNC(0, 0, ()), '0 0'),
    (
        'ZONEMD',  # RFC 8976 A.1
        f'7848b91c 01 01 {ZONEMD_OF_RFC_8976}',
        module.ZONEMD(2018031900, 1, 1, bytes.fromhex(ZONEMD_OF_RFC_8976)),
        f'2018031900 1 1 {ZONEMD_OF_RFC_8976.upper()}',
    ),
    (
        'DSYNC',  # RFC 9859 2.2
        '003b 01 14ef 0b6364732d7363616e6e6572076578616d706c65036e657400',
        module.DSYNC(TYPES.CDS, 1, 5359, b'cds-scanner.example.net'),
        'CDS NOTIFY 5359 cds-scanner.example.net.',
    ),
    ('DSYNC', '04d2 81 0035 00', module.DSYNC(1234, 129, 53, b''), 'TYPE1234 129 53 .'),
    ('SPF', '0b 763d73706631202d616c6c', (b'v=spf1 -all',), '"v=spf1 -all"'),
    (
        'NID',  # RFC 6742 2.1.2
        '000a 00144fffff20ee64',
        module.NID(10, 0x00144FFFFF20EE64),
        '10 0014:4fff:ff20:ee64',
    ),
    (
        'L32',  # RFC 6742 2.2.2
        '000a 0a010200',
        module.L32(10, IPv4Address('10.1.2.0')),
        '10 10.1.2.0',
    ),
    (
        'L64',  # RFC 6742 2.3.2
        '000a 20010db811401000',
        module.L64(10, 0x20010DB811401000),
        '10 2001:0db8:1140:1000',
    ),
    (
        'LP',  # RFC 6742 2.4.2
        '000a 0b6c36342d7375626e657431076578616d706c6503636f6d00',
        module.LP(10, b'l64-subnet1.example.com'),
        '10 l64-subnet1.example.com.',
    ),
    ('EUI48', '00005e00532a', b'\0\0\x5e\0\x53\x2a', '00-00-5e-00-53-2a'),  # RFC 7043 3.3
    (
        'EUI64',  # RFC 7043 4.3
        '00005eef1000002a',
        b'\0\0\x5e\xef\x10\0\0\x2a',
        '00-00-5e-ef-10-00-00-2a',
    ),
    (
        'TKEY',
        '01610162 00 00000001 00000002 0003 0000 0002 ffff 0000',
        module.TKEY(b'a.b', 1, 2, 3, 0, b'\xff\xff', b''),
        None,
    ),
    (
        'TSIG',
        '0b686d61632d736861323536 00 0000 6553f100 012c 0003 010203 1267 0012 0006 000065530100',
        module.TSIG(b'hmac-sha256', 1700000000, 300, b'\1\2\3', 4711, 18, b'\0\0\x65\x53\1\0'),
        None,
    ),
    (
        'URI',  # RFC 7553 4.6
        '000a 0001 6674703a2f2f667470312e6578616d706c652e636f6d2f7075626c6963',
        module.URI(10, 1, b'ftp://ftp1.example.com/public'),
        '10 1 "ftp://ftp1.example.com/public"',
    ),
    (
        'CAA',
        '00 05 6973737565 63612e6f7267',
        module.CAA(0, b'issue', b'ca.org'),
        '0 issue "ca.org"',
    ),
    ('SVCB', '0000 03666f6f00', module.SVCB(0, b'foo', ()), '0 foo.'),  # RFC 9460 D.1
    (
        'SVCB',  # RFC 9460 D.2
        '0010 03666f6f076578616d706c65036f726700 0000 0004 00010004 0001 0009 026832 0568332d3139'
        '0004 0004 c0000201',
        module.SVCB(
            16,
            b'foo.example.org',
            ((0, (1, 4)), (1, (b'h2', b'h3-19')), (4, (IPv4Address('192.0.2.1'),))),
        ),
        '16 foo.example.org. mandatory=alpn,ipv4hint alpn="h2,h3-19" ipv4hint=192.0.2.1',
    ),
    (
        'SVCB',
        '0010 03666f6f00 0000 0002 0003 0003 0002 0035',
        module.SVCB(16, b'foo', ((0, (3,)), (3, 53))),
        '16 foo. mandatory=port port=53',
    ),
    (
        'SVCB',
        '0001 00 0004 0008 c0000201 c0000202 0006 0020' + '20010db8' + '0' * 24 + '0' * 31 + '1',
        module.SVCB(
            1,
            b'',
            (
                (4, (IPv4Address('192.0.2.1'), IPv4Address('192.0.2.2'))),
                (6, (IPv6Address('2001:db8::'), IPv6Address('::1'))),
            ),
        ),
        '1 . ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::,::1',
    ),
    (
        'SVCB',  # RFC 9460 D.2: escapes of a list within those of a string
        '0010 03666f6f00 0001 000c 08 665c6f6f2c626172 02 6832',
        module.SVCB(16, b'foo', ((1, (b'f\\oo,bar', b'h2')),)),
        '16 foo. alpn="f\\\\\\\\oo\\\\,bar,h2"',
    ),
    (
        'SVCB',  # RFC 9460 D.2
        '0001 03666f6f00 0006 0010 20010db8000000000000000000000001 029b 0009 68656c6c6fd2716f6f',
        module.SVCB(1, b'foo', ((6, (IPv6Address('2001:db8::1'),)), (667, b'hello\xd2qoo'))),
        '1 foo. ipv6hint=2001:db8::1 key667="hello\\210qoo"',
    ),
    (
        'HTTPS',
        '0001 00 0001 0003 02 6832 0002 0000 0003 0002 20fb 0005 0006 0004fe0d0000',
        module.HTTPS(1, b'', ((1, (b'h2',)), (2, b''), (3, 8443), (5, b'\0\4\xfe\x0d\0\0'))),
        '1 . alpn="h2" no-default-alpn port=8443 ech=AAT+DQAA',
    ),
    ('HTTPS', '0001 00', module.HTTPS(1, b'', ()), '1 .'),
    ('AVC', '01 61 00', (b'a', b''), '"a" ""'),
    (
        'AMTRELAY',  # RFC 8777 4.3
        '0a 01 cb00710f',
        module.AMTRELAY(10, 0, 1, IPv4Address('203.0.113.15')),
        '10 0 1 203.0.113.15',
    ),
    (
        'AMTRELAY',  # RFC 8777 4.3
        '0a 02 20010db8000000000000000000000015',
        module.AMTRELAY(10, 0, 2, IPv6Address('2001:db8::15')),
        '10 0 2 2001:db8::15',
    ),
    (
        'AMTRELAY',  # RFC 8777 4.3
        '80 83 09616d7472656c617973076578616d706c6503636f6d00',
        module.AMTRELAY(128, 1, 3, b'amtrelays.example.com'),
        '128 1 3 amtrelays.example.com.',
    ),
    ('AMTRELAY', '00 80', module.AMTRELAY(0, 1, 0, None), '0 1 0 .'),
    (
        'RESINFO',  # RFC 9606 5
        '08 716e616d656d696e 0c 6578746572723d31352d3137',
        (b'qnamemin', b'exterr=15-17'),
        '"qnamemin" "exterr=15-17"',
    ),
    ('WALLET', '03 425443 03 616263', (b'BTC', b'abc'), '"BTC" "abc"'),
    (
        'DLV',
        f'ec45 05 01 {DS_OF_RFC_4034}',
        module.DLV(60485, 5, 1, bytes.fromhex(DS_OF_RFC_4034)),
        f'60485 5 1 {DS_OF_RFC_4034.upper()}',
    ),
    (65280, '00ff10', b'\0\xff\x10', '\\# 3 00FF10'),
    (65280, '', b'', '\\# 0'),
]


def wire_record(qtype, rdata, qclass=1, name=b'\1x\0', ttl=60):
    return name + struct.pack('>HHIH', qtype, qclass, ttl, len(rdata)) + rdata


def vector_type(mnemonic):
    return TYPES[mnemonic] if isinstance(mnemonic, str) else mnemonic


# To dnspython these are plain octets: here it reads them as types of its own with the same fields.
READ_AS = {'MD': 'NS', 'MF': 'NS', 'MB': 'NS', 'MG': 'NS', 'MR': 'NS', 'MINFO': 'RP'}
for old, known in READ_AS.items():
    reader = dns.rdata.get_rdata_class(CLASSES.IN, TYPES[known])
    dns.rdata.register_type(reader, TYPES[old], old, rdclass=dns.rdataclass.ANY)


def test_rdata_says_what_its_fields_are():
    assert module.MX.__doc__ == 'Rdata of type MX: preference, exchange.'
    expiring = module.expiring(module.MX(1, b'x'), 0.0)
    assert type(module.MX(1, b'x')).__module__ == type(expiring).__module__ == 'aiodnsresolver'
    options = module.LAYOUTS[TYPES.OPT].fields['options'].hint
    assert options == 'tuple[tuple[int, bytes], ...]'
    assert module.LAYOUTS[TYPES.HTTPS].fields['svc_params'].hint == options.replace('bytes', 'Any')


@pytest.mark.parametrize('mnemonic, octets, rdata, text', VECTORS)
def test_each_type_is_read_and_written(mnemonic, octets, rdata, text):
    qtype = vector_type(mnemonic)
    octets = bytes.fromhex(octets)
    message = parse(header(an=1) + wire_record(qtype, octets))
    (record,) = message.an
    assert record.rdata == rdata
    assert type(record.rdata) is type(rdata)
    assert record.qtype == qtype
    assert parse(pack(message)) == message
    assert pack(message).endswith(octets)
    if text is not None:
        assert presentation(record) == f'x. 60 IN {module.present_type(qtype)} {text}'.rstrip()
        assert module.present_rdata(qtype, CLASSES.IN, rdata) == text
        if hasattr(rdata, '_fields'):
            assert str(rdata) == text


@pytest.mark.parametrize('mnemonic, octets, rdata, text', VECTORS)
def test_dnspython_reads_the_same(mnemonic, octets, rdata, text):
    octets = bytes.fromhex(octets)
    qtype = vector_type(mnemonic)
    theirs = dns.rdata.from_wire(1, qtype, octets, 0, len(octets))
    assert theirs.to_wire() == octets
    if text is not None:
        # From our text they read the same octets.
        assert dns.rdata.from_text(1, qtype, text).to_wire() == octets


def test_every_row_has_a_vector():
    rows = {row.mnemonic for row in module.LAYOUTS.values()}
    assert rows == {mnemonic for mnemonic, *_ in VECTORS if isinstance(mnemonic, str)}
    assert rows == {qtype.name for qtype in TYPES} - {'IXFR', 'AXFR', 'ANY'}


@pytest.mark.parametrize('mnemonic, octets, rdata, text', VECTORS)
def test_a_compiled_row_reads_and_writes_what_its_fields_do(mnemonic, octets, rdata, text):
    row = module.layout_of(vector_type(mnemonic), CLASSES.IN)
    if row is None or mnemonic in ('HIP', 'AMTRELAY'):  # whose fields are not as on the wire
        return
    octets = bytes.fromhex(octets)
    values, offset, out = [], 0, bytearray()
    for field in row.fields.values():
        value, offset = field.parse(octets, offset, len(octets), {})
        values.append(value)
        field.pack(value, out, {})
    assert (offset, out) == (len(octets), octets)
    assert row.parse(octets, 0, len(octets), {}) == (rdata, offset)
    assert rdata == (tuple(values) if row.record else values[0])
    compiled = bytearray()
    row.pack(rdata, compiled, {})
    assert compiled == out


@pytest.mark.parametrize('fields', [(), (10,), (10, b'x', 1)])
def test_a_record_of_too_few_or_too_many_fields_is_refused(fields):
    with pytest.raises(TypeError, match='MX has 2 fields'):
        pack(make_query('x', TYPES.MX)._replace(an=(rr(b'x', TYPES.MX, fields),)))


def made_of(*records, questions=()):
    return make_query('x', TYPES.A)._replace(qd=tuple(questions), an=tuple(records), ar=())


@pytest.mark.parametrize('name', [None, '', 0, False, (), 'x', bytearray(b'x')])
def test_what_is_no_name_is_never_packed_as_the_root(name):
    question = QuestionRecord(name, TYPES.A, CLASSES.IN)
    for message in (
        made_of(questions=[question]),
        made_of(questions=[question, question]),
        made_of(ResourceRecord(name, TYPES.A, CLASSES.IN, 0, IPv4Address(1))),
        made_of(rr(b'x', TYPES.CNAME, name)) if name != () else None,
        made_of(rr(b'x', TYPES.MX, (10, name))),
    ):
        if message is not None:
            with pytest.raises(TypeError):
                pack(message)


@pytest.mark.parametrize('records', [(None,), 'a', {1: 2}, (1,), ((),)])
def test_what_is_no_record_is_a_type_error(records):
    for section in ('an', 'ns', 'ar'):
        with pytest.raises(TypeError):
            pack(make_query('x', TYPES.A)._replace(**{section: records}))
    with pytest.raises(TypeError):
        pack(made_of(rr(b'x', TYPES.RP, {'a': 1, 'b': 2})))


def test_records_may_be_plain_tuples():
    opt = (b'', TYPES.OPT, 1232, 0, ())
    assert pack(make_query('x', TYPES.A, qid=1)._replace(ar=(opt,))) == pack(
        make_query('x', TYPES.A, qid=1)
    )


def test_a_name_in_any_spelling_is_compressed_the_second_time():
    for name in (
        b'www.example.com',
        b'www.example.com.',
        b'\\119ww.example.com',
        b'a\\.b.example',
    ):
        records = [ResourceRecord(name, TYPES.A, CLASSES.IN, 0, IPv4Address(1))] * 3
        octets = pack(made_of(*records))
        assert len(octets) == 12 + len(module.pack_name(name)) + 14 + 2 * (2 + 14)
        assert [record.name for record in parse(octets).an] == [module.to_name(name)] * 3


@pytest.mark.parametrize(
    'octets, name',
    [
        (b'\3a\xc0\x0c\0', b'a\\192\\012'),
        (b'\2a\xc0\x0cbbbbbbbbbbbb\0', b'a\\192.bbbbbbbbbbbb'),
        (b'\2\xc0\x0c\0', b'\\192\\012'),
        (b'\1\xc0\x0cbbbbbbbbbbbb\0', b'\\192.bbbbbbbbbbbb'),
    ],
)
def test_octets_of_a_label_are_no_pointer(octets, name):
    octets = header(qd=2) + b'\1x\0\0\1\0\1' + octets + b'\0\1\0\1'
    assert [question.name for question in parse(octets).qd] == [b'x', name]


@pytest.mark.parametrize('bit', range(7, 14))
def test_each_bit_of_a_pointer_counts(bit):
    first, second = 0x40, 0x40 | 1 << bit
    octets = header(an=6) + wire_record(TYPES.NULL, bytes(first - 12 - 11), name=b'\0')
    octets += wire_record(TYPES.NULL, bytes(second - first - 13), name=b'\1x\0')
    octets += wire_record(TYPES.NULL, b'', name=b'\1y\0')
    pointer = struct.pack('>H', 0xC000 | second)
    for name in (pointer, b'\1a' + pointer, b'\1.' + pointer):
        octets += wire_record(TYPES.NULL, b'', name=name)
    names = [record.name for record in parse(octets).an]
    assert names == [b'', b'x', b'y', b'y', b'a.y', b'\\..y']


def test_what_is_before_a_label_is_no_part_of_it():
    before = wire_record(TYPES.NULL, b'text', name=b'\1x\0')
    for size in (0x2D, 0x30, 0x3E):  # as a character a hyphen, a digit, and another
        name = bytes([size]) + b'a' * size + b'\xc0\x0c'
        message = parse(header(an=2) + before + wire_record(TYPES.NULL, b'', name=name))
        assert message.an[1].name == b'a' * size + b'.x'


def test_a_pointer_may_lead_to_labels_that_no_name_began_with():
    before = wire_record(TYPES.NULL, b'rdata\1y\1z', name=b'\0')  # and then the next name
    octets = header(an=4) + before + wire_record(TYPES.NULL, b'', name=b'\1x\0')
    at = 12 + len(before)
    for pointer in (at - 4, at - 2):
        octets += wire_record(TYPES.NULL, b'', name=struct.pack('>H', 0xC000 | pointer))
    assert [record.name for record in parse(octets).an] == [b'', b'x', b'y.z.x', b'z.x']


@pytest.mark.parametrize('at, is_pointed_to', [(0x3FFE, True), (0x3FFF, True), (0x4000, False)])
def test_only_what_fourteen_bits_can_point_to_is_pointed_to(at, is_pointed_to):
    before = rr(b'', TYPES.NULL, bytes(at - 12 - 11))
    records = [a(b'x')] * 2
    octets = pack(made_of(before, *records))
    assert octets[at:].count(b'\1x\0') == (1 if is_pointed_to else 2)
    assert parse(octets).an == (before, *records)
    reserved = wire_record(TYPES.NULL, b'', name=struct.pack('>H', 0x8000 | at & 0x3FFF))
    for record in (reserved, b'\1y' + reserved):
        with pytest.raises(MalformedMessage):
            parse(with_one_more(octets, record))


def test_a_question_is_compressed_against_another():
    question = QuestionRecord(b'www.example.com', TYPES.A, CLASSES.IN)
    octets = pack(made_of(questions=[question, question._replace(qtype=TYPES.AAAA)]))
    assert octets.count(b'example') == 1


def test_an_address_prefix_of_another_family_has_at_most_127_octets():
    for size in (0, 127):
        record = rr(b'x', TYPES.APL, (module.AddressPrefix(3, 255, 0, b'a' * size),))
        assert parse(pack(made_of(record))).an == (record,)


def test_any_record_is_compressed_against_the_question():
    query = make_query('www.example', TYPES.A)
    record = a(b'www.example')
    for fields in (
        {'an': (record,)},
        {'ns': (record,)},
        {'ar': (record,)},
        {'ar': (*query.ar, record)},
        {'ar': (record, *query.ar)},
    ):
        assert pack(query._replace(**fields)).count(b'example') == 1


def test_a_pointer_does_not_become_good_by_what_was_read_before():
    octets = bytes.fromhex(
        '00010000000000030000000000000a00010000000000040100c018c019ff000001000000000000'
        'c017ff000001000000000000'
    )
    with pytest.raises(MalformedMessage, match='backwards'):
        parse(octets)


@pytest.mark.parametrize(
    'record, text',
    [
        (lambda: module.CAA(0, b'x\n; \xff', b''), '0 x\\010; \\255 ""'),
        (lambda: module.AMTRELAY(10, True, 0, None), '10 1 0 .'),
    ],
)
def test_what_could_not_be_packed_is_one_line_all_the_same(record, text):
    assert str(record()) == text


@pytest.mark.parametrize(
    'qtype, rdata',
    [
        (TYPES.MX, (10,)),
        (TYPES.MX, (10, b'x', 1)),
        (TYPES.TXT, ('x',)),
        (TYPES.TXT, ((70000,),)),
        (TYPES.CAA, (0, None, b'')),
        (TYPES.DS, (1, 2, 3, 'x')),
        (TYPES.NID, (1, -1)),
        (TYPES.RRSIG, (1, 5, 3, 60, 1 << 64, 1, 1, b'x', b'')),
        (TYPES.SVCB, (1, b'', ((1, None),))),
        (65280, 'x'),
        (65280, None),
        (65280, module.MX(10, b'x')),
    ],
)
def test_what_is_no_rdata_has_no_presentation_form(qtype, rdata):
    with pytest.raises(TypeError):
        presentation(rr(b'x', qtype, rdata))


def test_protocol_ids_are_no_octets():
    for ids in (b'h2', None, 'h2'):
        with pytest.raises(TypeError):
            pack(made_of(rr(b'x', TYPES.SVCB, (1, b'', ((1, ids),)))))


def test_threads_make_one_class_of_records_together():
    program = """
import sys, threading
import aiodnsresolver as module
sys.setswitchinterval(1e-6)
for row in module.LAYOUTS.values():
    made, barrier = [], threading.Barrier(4)
    def make():
        barrier.wait()
        made.append(row.record)
    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert made == [getattr(module, row.mnemonic, None)] * 4, row.mnemonic
"""
    subprocess.run([sys.executable, '-c', program], check=True, cwd=HERE)


def test_every_cut_of_rdata_is_malformed():
    for mnemonic, octets, rdata, _ in VECTORS:
        octets = bytes.fromhex(octets)
        for size in range(len(octets)):
            try:
                (record,) = parse(
                    header(an=1) + wire_record(vector_type(mnemonic), octets[:size])
                ).an
            except MalformedMessage:
                continue
            assert record.rdata != rdata  # what is shorter is something else


@pytest.mark.parametrize(
    'mnemonic, octets',
    [
        ('A', 'c00002'),
        ('A', 'c000020101'),
        ('AAAA', 'c0000201'),
        ('MX', '000a'),
        ('MX', '000a 00 00'),
        ('TXT', '02 61'),
        ('HINFO', '01 61'),
        ('CAA', '00 05 69'),
        ('CAA', '00 00 69'),
        ('CAA', '00 02 693b 69'),
        ('SRV', '0000 0005 13c4'),
        ('OPT', '000a'),
        ('OPT', '000a 0002 00'),
        ('SVCB', '0001 00 0003 0002'),
        ('SVCB', '0001 00 0003 0001 00'),  # a port of one octet
        ('SVCB', '0001 00 0003 0002 0050 0001 0003 026832'),  # keys out of order
        ('SVCB', '0001 00 0003 0002 0050 0003 0002 0050'),  # a key twice
        ('SVCB', '0001 00 0000 0002 0000'),  # mandatory is mandatory
        ('SVCB', '0001 00 0000 0004 0004 0001'),  # mandatory out of order
        ('SVCB', '0001 00 0000 0000'),
        ('SVCB', '0001 00 0001 0000'),
        ('SVCB', '0001 00 0001 0001 00'),  # an empty protocol id
        ('SVCB', '0001 00 0001 0004 026832 00'),
        ('SVCB', '0001 00 0001 0002 0268'),
        ('SVCB', '0001 00 0002 0001 00'),
        ('SVCB', '0001 00 0004 0003 c00002'),
        ('SVCB', '0001 00 0006 0004 c0000201'),
        ('MB', ''),
        ('MINFO', '00'),
        ('MINFO', '00 00 00'),
        ('RP', '00'),
        ('WKS', 'c0000201'),
        ('WKS', 'c0000201 06' + '00' * 8193),  # more bits than ports
        ('X25', '02 31'),
        ('X25', '01 31 31'),
        ('ISDN', ''),
        ('ISDN', '01 31 02 31'),
        ('ISDN', '01 31 00 00'),
        ('GPOS', '00 00'),
        ('LOC', '01 33 16 13 89172dd0 70be15f0 00988d20'),  # another version
        ('LOC', '00 a3 16 13 89172dd0 70be15f0 00988d20'),  # ten
        ('LOC', '00 3a 16 13 89172dd0 70be15f0 00988d20'),  # to the power of ten
        ('LOC', '00 33 06 13 89172dd0 70be15f0 00988d20'),  # nothing, but not as it is written
        ('LOC', '00 33 16 13 934fd901 70be15f0 00988d20'),  # north of the pole
        ('LOC', '00 33 16 13 89172dd0 59604dff 00988d20'),  # more than around
        ('LOC', '00 33 16 13 89172dd0 70be15f0 00988d'),
        ('APL', '0001 15 03 c0a8'),
        ('APL', '0001 15 04 c0a82000'),  # a zero at the end
        ('APL', '0001 21 03 c0a820'),  # 33 bits
        ('APL', '0001 15 05 c0a8200101'),  # five octets
        ('APL', '0002 81 01 ff'),
        ('APL', '0002 08 11' + 'ff' * 17),
        ('APL', '0003 08 02 0100'),
        ('APL', '0001 15'),
        ('DS', 'ec45 05'),
        ('DS', 'ec'),
        ('IPSECKEY', '0a 04 02 c0000226 01'),  # a gateway of no known type
        ('IPSECKEY', '0a 01 02 c00002'),
        ('IPSECKEY', '0a 02 02 c0000226'),
        ('IPSECKEY', '0a 03 02 0161'),
        ('IPSECKEY', '0a 00'),
        ('AMTRELAY', '0a'),
        ('AMTRELAY', '0a 04'),  # a relay of no known type
        ('AMTRELAY', '0a 81 c00002'),
        ('AMTRELAY', '0a 80 00'),
        ('RRSIG', '0001 05 03 00015180 3e7c9dd7 3e5510d7 0a52'),
        ('NSEC', '00 00'),
        ('NSEC', '00 00 00'),  # a window of nothing
        ('NSEC', '00 00 21' + '01' * 33),  # more than a window can have
        ('NSEC', '00 00 02 40'),
        ('NSEC', '00 01 01 40 00 01 40'),  # windows out of order
        ('NSEC', '00 00 01 40 00 01 40'),  # a window twice
        ('NSEC3', '01 00 0000 01'),
        ('NSEC3', '01 00 0000 00 00'),  # no hash
        ('NSEC3', '01 00 0000 00 02 ff'),
        ('NSEC3PARAM', '01 00 0000 02 ff'),
        ('NSEC3PARAM', '01 00 0000 00 00'),
        ('TLSA', '00 00'),
        ('HIP', '01 02 00'),
        ('HIP', '00 02 0001 00'),  # no HIT
        ('HIP', '01 02 0000 ff'),  # no key
        ('HIP', '02 02 0001 ff'),
        ('HIP', '01 02 ffff ff 00'),
        ('HIP', '01 02 0001 ff 00 0161'),
        ('CSYNC', '00000042 0003 00'),
        ('ZONEMD', '7848b91c 01'),
        ('DSYNC', '003b 01 14ef'),
        ('NID', '000a 00144fffff20ee'),
        ('NID', '000a 00144fffff20ee6400'),
        ('L32', '000a 0a0102'),
        ('EUI48', '00005e0053'),
        ('EUI48', '00005e00532a00'),
        ('EUI64', '00005eef100000'),
        ('TKEY', '00 00000001 00000002 0003 0000 0002 ffff 0001'),
        ('TSIG', '00 0000 6553f100 012c 0004 010203 1267 0012 0000'),
        ('TSIG', '00 0000 6553f100 012c 0000 1267 0012 0000 00'),
        ('URI', '000a 00'),
    ],
)
def test_rdata_that_does_not_fit_its_type_is_malformed(mnemonic, octets):
    with pytest.raises(MalformedMessage):
        parse(header(an=1) + wire_record(TYPES[mnemonic], bytes.fromhex(octets)))


@pytest.mark.parametrize(
    'mnemonic, octets, text, packed',
    [
        ('TXT', '', '""', '00'),  # RFC 6763 6.1
        ('SPF', '', '""', '00'),
        ('CAA', '00 06 612d62 5f 4339 78', '0 a-b_C9 "x"', None),
        ('NSEC', '00 00 02 4000', '. A', '00 00 01 40'),
        ('NSEC', '00 00 01 00', '.', '00'),
        ('NSEC', '00 00 01 00 01 01 40', '. CAA', '00 01 01 40'),
        ('NSEC3', '01 00 0000 00 01 ff 00 01 00', '1 0 0 - VS', '01 00 0000 00 01 ff'),
        ('CSYNC', '00000042 0003 00 02 6000', '66 3 A NS', '00000042 0003 00 01 60'),
    ],
)
def test_what_a_receiver_is_to_accept_is_accepted(mnemonic, octets, text, packed):
    octets = bytes.fromhex(octets)
    message = parse(header(an=1) + wire_record(TYPES[mnemonic], octets))
    (record,) = message.an
    assert presentation(record) == f'x. 60 IN {mnemonic} {text}'
    expected = octets if packed is None else bytes.fromhex(packed)
    assert pack(message) == header(an=1) + wire_record(TYPES[mnemonic], expected)
    assert parse(pack(message)) == message


def test_the_keys_of_service_parameters_have_their_names():
    keys = 'mandatory alpn no-default-alpn port ipv4hint ech ipv6hint dohpath ohttp key9 key65535'
    assert ' '.join(map(module.present_key, (*range(10), 65535))) == keys


def test_a_well_known_service_may_have_any_port():
    rdata = IPv4Address('192.0.2.1').packed + b'\6' + bytes(8191) + b'\1'
    message = parse(header(an=1) + wire_record(TYPES.WKS, rdata))
    assert presentation(message.an[0]) == 'x. 60 IN WKS 192.0.2.1 6 65535'
    assert pack(message).endswith(rdata)


def test_compressed_rendezvous_servers_are_malformed():
    server = b'\1s\7example\0'
    rdata = b'\1\1\0\1hk' + server
    message = parse(header(an=1) + wire_record(TYPES.HIP, rdata + server + b'\0'))
    assert message.an[0].rdata.rendezvous_servers == (b's.example', b's.example', b'')
    at = 12 + len(wire_record(TYPES.HIP, b'')) + 6
    for compressed in (b'\1t', b''):
        octets = rdata + compressed + struct.pack('>H', 0xC000 | at)
        with pytest.raises(MalformedMessage, match='compressed'):
            parse(header(an=1) + wire_record(TYPES.HIP, octets))


@pytest.mark.parametrize('latitude', [None, 1.5, '0'])
def test_a_latitude_that_is_no_number_is_refused_at_once(latitude):
    record = rr(b'x', TYPES.LOC, module.LOC(0, 0, 0, 0, latitude, 1 << 31, 0))
    with pytest.raises((TypeError, MalformedMessage)):
        pack(make_query('x', TYPES.LOC)._replace(an=(record,)))


def test_what_is_said_of_many_wrong_keys_is_short():
    pairs = b''.join(struct.pack('>HH', key, 0) for key in range(9000, 8000, -1))
    with pytest.raises(MalformedMessage) as caught:
        parse(header(an=1) + wire_record(TYPES.SVCB, b'\0\1\0' + pairs))
    assert len(str(caught.value)) < 200


def test_a_type_of_class_in_is_octets_in_another_class():
    message = parse(header(an=1) + wire_record(TYPES.A, b'\1x\0\0\7', qclass=CLASSES.CH))
    assert message.an[0].rdata == b'\1x\0\0\7'
    assert parse(pack(message)) == message
    assert presentation(message.an[0]) == 'x. 60 CH A \\# 5 0178000007'
    record = rr(b'x', TYPES.NSAP_PTR, b'no name', qclass=CLASSES.CH)
    assert parse(pack(made_of(record))).an == (record,)


def test_what_no_rfc_has_a_form_for_is_written_as_dig_does_or_in_the_generic_form():
    tsig = module.TSIG(b'hmac-sha256', 1700000000, 300, b'\1\2\3', 4711, 18, b'')
    assert str(tsig) == 'hmac-sha256. 1700000000 300 3 AQID 4711 18 0'
    assert str(module.TKEY(b'a', 1, 2, 3, 0, b'', b'\xff')) == 'a. 1 2 3 0 0 1 /w=='
    opt = ResourceRecord(b'', TYPES.OPT, 1232, 0, ((10, b'ab'),))
    assert presentation(opt) == '. 0 CLASS1232 OPT \\# 6 000A00026162'
    apl = rr(b'x', TYPES.APL, (module.AddressPrefix(3, 9, 1, b'\1\2'),))
    assert presentation(apl) == 'x. 60 IN APL !3:0102/9'


def test_the_types_of_class_in_are_those_of_dnspython():
    known = set(module.LAYOUTS) - {TYPES.NULL}
    in_any_class = {
        qtype
        for qtype in known
        if dns.rdata.get_rdata_class(4, qtype) is not dns.rdata.GenericRdata
    }
    assert {qtype for qtype in known if module.LAYOUTS[qtype].qclass is None} == in_any_class


def test_ready_made_octets_are_rdata_unless_the_type_is_a_name():
    octets = IPv4Address('192.0.2.1').packed
    message = make_query('x', TYPES.A)._replace(an=(rr(b'x', TYPES.A, octets),))
    assert parse(pack(message)).an[0].rdata == IPv4Address('192.0.2.1')
    assert presentation(message.an[0]) == 'x. 60 IN A \\# 4 C0000201'
    for qtype in (TYPES.CNAME, TYPES.X25):  # whose rdata is bytes, but not these octets
        message = message._replace(an=(rr(b'x', qtype, b'y'),))
        assert parse(pack(message)).an[0].rdata == b'y'


# The classes of records are made when they are first asked for: an import does not pay for them.
def test_the_class_of_a_record_is_there_when_it_is_asked_for():
    pickled = pickle.dumps(module.expiring(module.MX(10, b'mail.example'), 5.0))
    program = f"""
import pickle
import aiodnsresolver
assert not {{'MX', 'MXExpiresAt', 'SOA'}} & {{*vars(aiodnsresolver)}}
mx = pickle.loads({pickled!r})
assert (mx, mx.expires_at, str(mx)) == ((10, b'mail.example'), 5.0, '10 mail.example.')
from aiodnsresolver import MX, SOAExpiresAt
assert type(mx) is aiodnsresolver.MXExpiresAt and isinstance(mx, MX)
assert issubclass(SOAExpiresAt, aiodnsresolver.SOA)
"""
    subprocess.run([sys.executable, '-c', program], check=True, cwd=HERE)
    for row in module.LAYOUTS.values():
        assert hasattr(module, row.mnemonic) == (row.record is not None)
        assert hasattr(module, f'{row.mnemonic}ExpiresAt') == (row.record is not None)
        assert getattr(module, row.mnemonic, None) is row.record
    for name in ('A', 'AExpiresAt', 'NS', 'TYPE1', 'ExpiresAt', 'MXExpiresAtExpiresAt'):
        assert not hasattr(module, name)


# --- 8. Wire -----------------------------------------------------------------

octet_strings = st.binary(max_size=20)
names = st.lists(st.binary(min_size=1, max_size=8), max_size=5).map(
    lambda labels: b'.'.join(map(module.escape_label, labels))
)
u8, u16, u32, u48, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 48, 64))
some_octets = st.binary(min_size=1, max_size=20)
type_lists = st.sets(u16, max_size=8).map(lambda types: tuple(sorted(types)))
gateways = st.one_of(
    st.tuples(st.just(0), st.none()),
    st.tuples(st.just(1), st.ip_addresses(v=4)),
    st.tuples(st.just(2), st.ip_addresses(v=6)),
    st.tuples(st.just(3), names),
)
prefixes = st.one_of(
    st.tuples(st.just(1), st.integers(0, 32), st.integers(0, 1), st.ip_addresses(v=4)),
    st.tuples(st.just(2), st.integers(0, 128), st.integers(0, 1), st.ip_addresses(v=6)),
    st.tuples(
        st.just(3), u8, st.integers(0, 1), octet_strings.map(lambda part: part.rstrip(b'\0'))
    ),
)
sizes = st.builds(lambda base, power: base and base << 4 | power, *[st.integers(0, 9)] * 2)
RDATAS = {
    TYPES.A: st.ip_addresses(v=4),
    TYPES.NS: names,
    TYPES.CNAME: names,
    TYPES.SOA: st.builds(module.SOA, names, names, u32, u32, u32, u32, u32),
    TYPES.PTR: names,
    TYPES.HINFO: st.builds(module.HINFO, octet_strings, octet_strings),
    TYPES.MX: st.builds(module.MX, u16, names),
    TYPES.TXT: st.lists(octet_strings, min_size=1, max_size=3).map(tuple),
    TYPES.AAAA: st.ip_addresses(v=6),
    TYPES.SRV: st.builds(module.SRV, u16, u16, u16, names),
    TYPES.NAPTR: st.builds(module.NAPTR, u16, u16, *[octet_strings] * 3, names),
    TYPES.DNAME: names,
    TYPES.CAA: st.builds(module.CAA, u8, st.sampled_from([b'issue', b'x1']), octet_strings),
    TYPES.SVCB: st.builds(
        module.SVCB,
        u16,
        names,
        st.dictionaries(st.integers(7, 65535), octet_strings, max_size=3).map(
            lambda params: tuple(sorted(params.items()))
        ),
    ),
    TYPES.MINFO: st.builds(module.MINFO, names, names),
    TYPES.ISDN: st.builds(module.ISDN, octet_strings, st.none() | octet_strings),
    TYPES.LOC: st.builds(
        module.LOC,
        st.just(0),
        *[sizes] * 3,
        st.integers((1 << 31) - 324_000_000, (1 << 31) + 324_000_000),
        st.integers((1 << 31) - 648_000_000, (1 << 31) + 648_000_000),
        u32,
    ),
    TYPES.APL: st.lists(prefixes, max_size=3).map(tuple),
    TYPES.IPSECKEY: st.builds(
        lambda precedence, gateway, algorithm, key: module.IPSECKEY(
            precedence, gateway[0], algorithm, gateway[1], key
        ),
        *(u8, gateways, u8, octet_strings),
    ),
    TYPES.RRSIG: st.builds(module.RRSIG, u16, u8, u8, u32, u32, u32, u16, names, octet_strings),
    TYPES.NSEC: st.builds(module.NSEC, names, type_lists),
    TYPES.NSEC3: st.builds(module.NSEC3, u8, u8, u16, octet_strings, some_octets, type_lists),
    TYPES.HIP: st.builds(
        module.HIP, u8, some_octets, some_octets, st.lists(names, max_size=3).map(tuple)
    ),
    TYPES.NID: st.builds(module.NID, u16, u64),
    TYPES.L32: st.builds(module.L32, u16, st.ip_addresses(v=4)),
    TYPES.EUI64: st.binary(min_size=8, max_size=8),
    TYPES.TSIG: st.builds(module.TSIG, names, u48, u16, octet_strings, u16, u16, octet_strings),
    TYPES.AMTRELAY: st.builds(
        lambda precedence, optional, gateway: module.AMTRELAY(precedence, optional, *gateway),
        *(u8, st.integers(0, 1), gateways),
    ),
    65280: octet_strings,
}
records = st.sampled_from(list(RDATAS)).flatmap(
    lambda qtype: st.builds(
        ResourceRecord, names, st.just(qtype), st.just(CLASSES.IN), u32, RDATAS[qtype]
    )
)
record_lists = st.lists(records, max_size=4).map(tuple)
opts = st.builds(
    ResourceRecord,
    st.just(b''),
    st.just(TYPES.OPT),
    u16,
    u32,
    st.lists(st.tuples(u16, octet_strings), max_size=3).map(tuple),
)
bit = st.integers(0, 1)
messages = st.builds(
    Message,
    qid=u16,
    qr=bit,
    opcode=st.sampled_from([0, 1, 2, 4, 6, 15]),
    aa=bit,
    tc=bit,
    rd=bit,
    ra=bit,
    z=st.integers(0, 7),
    rcode=st.integers(0, 15),
    qd=st.lists(st.builds(QuestionRecord, names, u16, u16), max_size=2).map(tuple),
    an=record_lists,
    ns=record_lists,
    ar=st.lists(st.one_of(records, opts), max_size=3).map(tuple),
)


@given(messages)
def test_parse_gives_what_was_packed(message):
    octets = pack(message)
    assert parse(octets) == message
    assert pack(parse(octets)) == octets


@given(messages)
@settings(max_examples=30)
def test_every_cut_of_a_message_is_malformed(message):
    octets = pack(message)
    for size in range(len(octets)):
        with pytest.raises(MalformedMessage):
            parse(octets[:size])


@given(st.binary(max_size=200), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
@example(b'', 0, 0, 0)
def test_any_octets_parse_or_are_malformed(octets, qd, an, ar):
    for data in (octets, header(qd, an, 0, ar) + octets):
        with contextlib.suppress(MalformedMessage):
            message = parse(data, ignore_trailing=True)
            assert parse(pack(message)) == message


SAMPLES = [
    pack(
        make_query('www.example.com', TYPES.A)._replace(
            qr=1,
            an=tuple(
                rr(b'www.example.com', vector_type(mnemonic), rdata)
                for mnemonic, _, rdata, _ in VECTORS[start::5]
                if mnemonic != 'OPT'
            ),
            ns=(soa(b'example.com'), rr(b'example.com', TYPES.NS, b'ns.example.com')),
        )
    )
    for start in range(5)
]


def mutated(octets, draw):
    """A message with a few of its octets changed, cut out, doubled, or turned into pointers."""
    changed = bytearray(octets)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(changed))
        match draw.randrange(4):
            case 0:
                changed[at] = draw.randrange(256)
            case 1:
                del changed[at : at + draw.randint(1, 4)]
            case 2:
                changed[at:at] = changed[at : at + draw.randint(1, 20)]
            case 3:
                changed[at : at + 2] = bytes([0xC0, draw.randrange(len(octets) % 256 or 1)])
        if len(changed) < 12:
            return bytes(changed)
    return bytes(changed)


@pytest.mark.long
def test_100_000_mutated_messages_parse_or_are_malformed():
    draw = random.Random(20)
    accepted = 0
    for sample in itertools.islice(itertools.cycle(SAMPLES), 100_000):
        octets = mutated(sample, draw)
        try:
            message = parse(octets)
        except MalformedMessage:
            continue
        accepted += 1
        assert parse(pack(message)) == message
    assert 1000 < accepted < 99_000


class NoSuffixes(dict):
    """What is known of names while packing, which is nothing: none is compressed."""

    def __setitem__(self, suffix, offset):
        pass


def uncompressed(qtype, rdata, qclass=CLASSES.IN):
    """The octets of rdata, without compression."""
    row = module.layout_of(qtype, qclass)
    if row is None:
        return rdata
    out = bytearray()
    row.pack(rdata, out, NoSuffixes())
    return bytes(out)


def mutated_rdata(octets, draw):
    """Rdata with a few of its octets changed, cut out, doubled, or turned into pointers."""
    changed = bytearray(octets)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(6):
            case 0:
                changed[at : at + 1] = draw.randbytes(1)
            case 1:
                changed[at : at + 1] = [
                    octet ^ 1 << draw.randrange(8) for octet in changed[at : at + 1]
                ]
            case 2:
                del changed[at : at + draw.randint(1, 4)]
            case 3:
                changed[at:at] = changed[at : at + draw.randint(1, 20)]
            case 4:
                del changed[at:]
            case 5:
                changed[at : at + 2] = bytes([0xC0, draw.choice((12, 16, 24, 28))])
    return bytes(changed)


def has_unusual_params(svcb):
    """Whether keys do not belong together, or have values that dnspython looks into."""
    keys = {key for key, _ in svcb.svc_params}
    return (keys and not svcb.svc_priority) or not keys.isdisjoint({0, 2, 5, 7, 8})


# Why dnspython refuses what we read. That a field holds what it should is seen by whoever uses
# it: one record with an odd value must not make a whole message unreadable.
READ_BY_US_ALONE = {
    # A digest whose length is not its algorithm's fits nothing, nor does a reserved number.
    **dict.fromkeys([TYPES.DS, TYPES.CDS, TYPES.DLV], lambda rdata: rdata.digest_type <= 4),
    **dict.fromkeys([TYPES.TLSA, TYPES.SMIMEA], lambda rdata: rdata.matching_type in (1, 2)),
    TYPES.SSHFP: lambda rdata: rdata.fp_type in (1, 2),
    TYPES.ZONEMD: lambda rdata: (
        rdata.hash_algorithm <= 2 or rdata.scheme == 0 or len(rdata.digest) < 12
    ),
    # RFC 1712 has strings, with numbers in them or not.
    TYPES.GPOS: lambda rdata: True,
    # RFC 9460 2.2 says what is malformed, and 2.4.2 that in AliasMode parameters are ignored.
    **dict.fromkeys([TYPES.SVCB, TYPES.HTTPS], has_unusual_params),
    # An option is octets: RFC 6891 has it ignored if unknown.
    TYPES.OPT: lambda rdata: True,
    # RFC 8945 4.2 has sixteen bits for the error, dnspython a response code's twelve.
    TYPES.TSIG: lambda rdata: rdata.error > 4095,
    # RFC 7553 4.4 asks those who write it for one octet; BIND reads none.
    TYPES.URI: lambda rdata: rdata.target == b'',
    # RFC 8659 4.1 has letters and digits in a tag; hyphens and underscores are in use.
    TYPES.CAA: lambda rdata: not rdata.tag.isalnum(),
}
# Why we refuse what dnspython reads.
READ_BY_DNSPYTHON_ALONE = {
    # Without HIT or key there is no presentation form (RFC 8005 6); BIND refuses them too.
    TYPES.HIP: lambda octets: octets[0] == 0 or octets[2:4] == b'\0\0',
}
# Why what dnspython packs differs from what it read, and from what we pack.
CHANGED_BY_DNSPYTHON = {
    # An empty subaddress is one, as BIND has it; to dnspython it is none.
    TYPES.ISDN: lambda rdata: rdata.sa == b'',
}


# Why it does not read our text as the same. Besides, it has no text for an empty field at the end.
OTHER_TEXT_TO_DNSPYTHON = {
    TYPES.TKEY: lambda rdata: True,  # which has no text in any RFC: ours is BIND's
    TYPES.TSIG: lambda rdata: not rdata.mac,  # BIND writes no word for an empty MAC
    TYPES.KEY: lambda rdata: rdata.flags >> 14 == 3,  # RFC 2535 3.1.2: no key
    **dict.fromkeys([TYPES.NSEC, TYPES.NSEC3, TYPES.CSYNC], lambda rdata: 0 in rdata[-1]),
    TYPES.WKS: lambda rdata: rdata.bit_map[-1:] == b'\0',  # which text cannot say
    TYPES.LOC: lambda rdata: True,  # it computes with floats, and is a centimetre off at times
}


def is_explained(table, qtype, *arguments):
    return qtype in table and table[qtype](*arguments)


def read_by_us(qtype, message):
    """Rdata and its octets without compression, or None if it is malformed."""
    try:
        rdata = parse(message).an[0].rdata
    except MalformedMessage:
        return None
    return rdata, uncompressed(qtype, rdata)


def read_by_dnspython(qtype, message, start):
    """The octets without compression, or None if it is malformed."""
    try:
        return dns.rdata.from_wire(1, qtype, message, start, len(message) - start).to_wire()
    except dns.exception.DNSException:
        return None


def check_with_dnspython(qtype, octets):
    """Whether rdata is the `same` to dnspython, `refused` by both, or rightly different: None."""
    before = header(qd=1, an=1) + b'\3www\7example\3com\0\0\1\0\1'
    message = before + wire_record(qtype, octets, name=b'\xc0\x0c')
    ours = read_by_us(qtype, message)
    theirs = read_by_dnspython(qtype, message, len(message) - len(octets))
    if ours is None:
        into_the_header = re.search(b'\xc0[\0-\x0b]', octets)  # whose octets may be no labels
        is_wanted = theirs is None or into_the_header
        assert is_wanted or is_explained(READ_BY_DNSPYTHON_ALONE, qtype, octets)
        return 'refused' if theirs is None else None
    if theirs is None:
        # A compressed name is read wherever it is: RFC 3597 4 forbids to write it.
        is_compressed = ours[1] != octets
        assert is_compressed or is_explained(READ_BY_US_ALONE, qtype, ours[0])
        return None
    rdata, octets = ours
    if octets != theirs:
        assert is_explained(CHANGED_BY_DNSPYTHON, qtype, rdata)
        return None
    text = module.present_rdata(qtype, CLASSES.IN, rdata)
    try:
        assert dns.rdata.from_text(1, qtype, text).to_wire() == octets
    except (AssertionError, dns.exception.DNSException):
        last = rdata[-1] if isinstance(rdata, tuple) else rdata
        assert last == b'' or is_explained(OTHER_TEXT_TO_DNSPYTHON, qtype, rdata)
    return 'same'


@pytest.mark.long
def test_100_000_mutated_records_of_all_types_are_the_same_to_dnspython():
    draw = random.Random(21)
    vectors = [(vector_type(mnemonic), bytes.fromhex(octets)) for mnemonic, octets, *_ in VECTORS]
    outcomes = collections.Counter()
    for qtype, octets in itertools.islice(itertools.cycle(vectors), 100_000):
        outcomes[check_with_dnspython(qtype, mutated_rdata(octets, draw))] += 1
    assert min(outcomes['same'], outcomes['refused']) > 30_000


def hurtful():
    """Messages of 64 KiB, each made to cost as much as it can."""
    full = 65535
    # In the rdata of a first record: the root, and pointers each to the one before.
    chain = b'\0' + b''.join(struct.pack('>H', 0xC000 | at) for at in [23, *range(24, 8190, 2)])
    last = struct.pack('>H', 0xC000 | 23 + len(chain) - 2)
    yield (
        'pointers to pointers',
        header(an=4001)
        + wire_record(10, chain, name=b'\0')
        + wire_record(10, b'', name=last) * 4000,
    )
    labels = b'\1a' * 127
    yield 'labels', header(qd=250) + (labels + b'\0' + b'\0\1\0\1') * 250
    yield 'labels without end', (header(qd=1) + b'\1a' * full)[:full]
    yield 'questions', header(qd=65535) + b'\0\0\1\0\1' * 13104
    yield (
        'long names by pointer',
        header(qd=10000) + labels + b'\0' + b'\0\1\0\1' + (b'\xc0\x0c\0\1\0\1' * 10000),
    )
    overlapping = (b'\1' * 252 + b'\0') * 60
    starts = [23 + at for at in range(len(overlapping)) if at % 253 % 2 == 0]
    yield (
        'overlapping labels',
        header(an=1 + len(starts[:4000]))
        + wire_record(10, overlapping, name=b'\0')
        + b''.join(
            wire_record(10, b'', name=struct.pack('>H', 0xC000 | at)) for at in starts[:4000]
        ),
    )
    # Labels of one octet, walked from each of their ends by a later pointer.
    chains = 63
    chain = b'\1\1' * 126 + b'\0' + b'\0\1\0\1'
    ends = [12 + (at + 1) * len(chain) - 5 for at in range(chains)]
    targets = [end - 1 - 2 * back for end in ends for back in range(126)]
    pointed = b''.join(struct.pack('>HHH', 0xC000 | target, 1, 1) for target in targets)
    yield 'back to front', header(qd=chains + len(targets)) + chain * chains + pointed
    yield 'records', header(an=65535) + wire_record(1, b'\1\2\3\4', name=b'\0') * 4368
    yield 'txt', header(an=1) + wire_record(16, b'\0' * 65000)
    yield (
        'escapes',
        header(qd=250) + (b'\x3f' + b'.' * 63) * 3 + b'\0\0\1\0\1' + (b'\xc0\x0c\0\1\0\1' * 249),
    )
    yield 'opt', header(ar=1) + wire_record(41, b'\0\1\0\0' * 16000)
    yield (
        'windows',
        header(an=1)
        + wire_record(
            47, b'\0' + b''.join(bytes([window, 32]) + b'\xff' * 32 for window in range(256))
        ),
    )
    full_nsec = wire_record(62, b'\0' * 6 + b'\0\x20' + b'\xff' * 32, name=b'\0')
    yield 'bitmaps', header(an=1285) + full_nsec * 1285
    yield 'apl', header(an=1) + wire_record(42, b'\0\3\0\0' * 16000)
    hip = b'\1\2\0\1' + b'\0\0' + b'\xc0\x0c' * 32000
    yield 'hip', header(an=1) + wire_record(55, hip, name=b'\1a' * 126 + b'\0')
    yield 'wks', header(an=7) + wire_record(11, bytes(5) + b'\xff' * 8192, name=b'\0') * 7
    yield (
        'svcb',
        header(an=1)
        + wire_record(
            64, b'\0\1\0' + b''.join(struct.pack('>HH', key, 0) for key in range(100, 16000))
        ),
    )


def lines_run(function, *arguments):
    """How many lines of the module a call runs: its cost, whatever else the machine does."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == 'line'
        return trace if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(MalformedMessage, BadResponse):
            function(*arguments)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize('title, octets', list(hurtful()), ids=lambda value: repr(value)[:24])
def test_a_message_made_to_hurt_costs_no_more_than_its_octets(title, octets):
    octets = octets[:65535]
    assert lines_run(parse, octets) < 12 * len(octets)


MOST_LABELS = b'\1\0' * 126 + b'\0'  # of one octet each, which is written as \\000
MOST_OCTETS = (b'\x3f' + bytes(63)) * 3 + b'\x3d' + bytes(61) + b'\0'  # which are written so
TO_QUESTION = b'\xc0\x0c'


def reply_of(name, qtype, records, size):
    """A reply to a question, with as many of the records as there is room for."""
    question = name + struct.pack('>HH', qtype, 1)
    taken = []
    for record in records:
        size -= len(record)
        if size < 12 + len(question):
            break
        taken.append(record)
    return b'\0\1\x81\x80' + header(qd=1, an=len(taken))[4:] + question + b''.join(taken)


def numbered(qtype, rdata, tail=b'', name=TO_QUESTION):
    """Records that differ in a number of two octets."""
    for number in range(65536):
        yield wire_record(qtype, rdata + struct.pack('>H', number) + tail, name=name)


def lists_made_to_hurt():
    """By name: the type, what is before the list, whether its length is, and one item."""
    yield 'prefixes', (42, b'', False, b'\0\2\0\0')
    yield 'names', (55, b'\1\2\0\1\0\0', False, b'\0')
    yield 'names with escapes', (55, b'\1\2\0\1\0\0', False, b'\1\0\0')
    yield 'strings', (16, b'', False, b'\0')
    yield 'hints', (64, b'\0\1\0\0\4', True, b'\xc0\0\2\1')
    yield 'hints after a greater key', (64, b'\0\1\0\0\5\0\0\0\4', True, b'\xc0\0\2\1')
    yield 'hints of IPv6', (64, b'\0\1\0\0\6', True, bytes(16))
    yield 'protocols', (64, b'\0\1\0\0\1', True, b'\1a')
    yield 'protocols without octets', (64, b'\0\1\0\0\1', True, b'\0')


def replies_made_to_hurt(size):
    """By name: replies of at most so many octets, each of which could take long in its own way."""
    www = b'\3www\7example\3com\0'
    for title, (qtype, head, is_sized, item) in lists_made_to_hurt():
        count = (size - 100) // len(item)
        length = struct.pack('>H', count * len(item)) if is_sized else b''
        rdata = head + length + item * count
        yield title, reply_of(www, qtype, [wire_record(qtype, rdata, name=TO_QUESTION)], size)
    bitmap = wire_record(47, b'\0\0\x20' + b'\xff' * 32, name=b'\0')
    yield 'bitmaps', reply_of(b'\0', 47, itertools.repeat(bitmap), size)
    bitmaps = numbered(62, bytes(4), b'\0\x20' + b'\xff' * 32)
    yield 'bitmaps that differ', reply_of(www, 62, bitmaps, size)
    for title, name in ('labels', MOST_LABELS), ('octets', MOST_OCTETS):
        below = struct.pack('>H', 0xC000 | 13 + name[0])
        owners = itertools.repeat(wire_record(5, b'\0', name=name))
        yield f'owners of most {title}', reply_of(name, 1, owners, size)
        for qtype in (2, 15, 65):  # names that differ, and pairs that do
            rest = below if qtype == 2 else TO_QUESTION
            records = numbered(qtype, b'\2' if qtype == 2 else b'', rest)
            yield f'TYPE{qtype} with most {title}', reply_of(name, qtype, records, size)
        for_one = itertools.repeat(wire_record(17, TO_QUESTION * 2, name=TO_QUESTION))
        yield f'one pair of names of most {title}', reply_of(name, 17, for_one, size)
    for qtype, tail in ((15, b'\0'), (33, bytes(5)), (35, bytes(6)), (48, bytes(2)), (65, b'\0')):
        yield f'TYPE{qtype}', reply_of(www, qtype, numbered(qtype, b'', tail), size)
    yield 'IPv4', reply_of(www, 1, numbered(1, b'\xc0\0'), size)
    yield 'IPv6', reply_of(www, 28, numbered(28, bytes(14)), size)
    tiny = (b'\0' + struct.pack('>HHIH', n, n & 255, 60, 0) for n in range(300, 60000))
    yield 'records of eleven octets', reply_of(www, 1, tiny, size)
    last = struct.pack('>H', 0xC000 | 12 + len(MOST_LABELS) - 3)
    dnames = (
        wire_record(39, b'\0', name=struct.pack('>H', 0xC000 | n)) for n in range(14, 260, 2)
    )
    to_itself = wire_record(39, last, name=last)
    yield 'DNAMEs', reply_of(MOST_LABELS, 1, itertools.chain([to_itself], dnames), size)
    for title, item in {
        'options': b'\0\1\0\0',
        'errors': b'\0\x0f\0\2\0\1',
        'texts': b'\0\x0f\0\3\0\1\1',
    }.items():
        options = b'\0\x0b\0\2\0\5' + item * ((size - 60) // len(item))
        question = www + b'\0\1\0\1'
        head = b'\0\1\x81\x82' + header(qd=1, ar=1)[4:]  # SERVFAIL
        yield title, head + question + wire_record(41, options, qclass=1232, name=b'\0', ttl=0)
    count = (size - 29) // 5
    idle = wire_record(41, b'\0\x0b\0\2\0\5', qclass=1232, name=b'\0', ttl=0)
    yield 'questions', header(qd=count, ar=1) + b'\0\0\1\0\1' * count + idle


def calls_made(function, *arguments):
    """How many functions a call calls, here, in the standard library and in C."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ('call', 'c_call')

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        with contextlib.suppress(MalformedMessage, BadResponse):
            function(*arguments)
    finally:
        sys.setprofile(before)
    return calls


def answered_query(octets):
    """The query that a reply with one question answers."""
    end = 12
    while size := octets[end]:
        end += size + 1
    name, _ = module.parse_name(octets, 12, 0, {})
    asked = octets[:2] + b'\1\0' + header(qd=1)[4:] + octets[12 : end + 5]
    return module.Query(asked, len(asked), name.lower(), int.from_bytes(asked[-4:-2], 'big'))


@pytest.mark.parametrize('title', [title for title, _ in replies_made_to_hurt(1024)])
def test_each_kind_of_reply_made_to_hurt_takes_linear_time(title):
    for size in (1024, 4096, 65535):
        octets = dict(replies_made_to_hurt(size))[title]
        assert size - 300 < len(octets) <= size or title == 'DNAMEs'
        query = answered_query(octets)
        for function, *arguments in (
            (module.read_reply, query, octets, 1.0),
            (module.keepalive_of, octets),
            (parse, octets),
            (module.parse_answer, query, octets, False),
        ):
            assert calls_made(function, *arguments) < 4 * size + 1500, function
            assert lines_run(function, *arguments) < 12 * size + 15000, function


@pytest.mark.parametrize('title', [title for title, _ in replies_made_to_hurt(1024)])
def test_a_reply_made_to_hurt_is_written_in_proportion_to_the_text(title):
    octets = dict(replies_made_to_hurt(4096))[title]
    with contextlib.suppress(MalformedMessage):
        message = parse(octets)
        for record in message.an:
            calls = calls_made(presentation, record)
            assert calls < 8 * len(presentation(record)) + 100
        errors = module.extended_errors(message)
        assert calls_made(module.extended_errors, message) < 4 * len(octets)
        assert len(errors) == {'errors': 672, 'texts': 576}.get(title, 0)


def test_an_error_quotes_a_long_value_without_writing_it_all():
    addresses = b'\0\1\0' + struct.pack('>HHHH', 5, 0, 4, 60000) + bytes(60000)
    octets = header(an=1) + wire_record(64, addresses)
    with pytest.raises(MalformedMessage, match='is not allowed in this field') as caught:
        parse(octets)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize('target', range(12))
def test_a_pointer_may_not_lead_into_the_header(target):
    name = struct.pack('>H', 0xC000 | target)
    for octets in (
        header(an=1) + wire_record(1, bytes(4), name=name),
        header(an=1) + wire_record(5, b'\1a' + name, name=b'\0'),
        header(qd=1) + b'\1a' + name + b'\0\1\0\1',
    ):
        with pytest.raises(MalformedMessage, match='does not lead backwards to a name'):
            parse(octets)


def test_a_length_beyond_the_end_costs_nothing():
    for mnemonic, octets, *_ in VECTORS:
        octets = bytes.fromhex(octets)
        for at in range(len(octets) - 1):
            changed = octets[:at] + b'\xff\xf0' + octets[at + 2 :]
            message = header(an=1) + wire_record(vector_type(mnemonic), changed)
            assert lines_run(parse, message) < 12 * len(message) + 100


def test_what_has_a_mnemonic_is_read_with_it():
    update = make_query('example', TYPES.SOA)._replace(opcode=OPCODES.UPDATE, rcode=3)
    message = parse(pack(update._replace(an=(a(b'x'),))))
    (question,), (record,) = message.qd, message.an
    assert (str(message.opcode), str(message.rcode)) == ('UPDATE', 'NXDOMAIN')
    assert (str(question.qtype), str(question.qclass)) == ('SOA', 'IN')
    assert (str(record.qtype), str(record.qclass)) == ('A', 'IN')


@pytest.mark.parametrize('tc', [0, 1])
def test_a_cut_message_is_malformed_truncated_or_not(tc):
    records = (rr(b'x', TYPES.NULL, b'abc'), a(b'x'), rr(b'x', 65280, b'abc'))
    octets = pack(make_query('x', TYPES.A)._replace(tc=tc, an=records, ar=()))
    for size in range(len(octets)):
        for ignore_trailing in (False, True):
            with pytest.raises(MalformedMessage):
                parse(octets[:size], ignore_trailing)


@pytest.mark.parametrize('size', range(9))
def test_an_ipv4_address_has_four_octets_wherever_it_is(size):
    octets = header(an=2) + wire_record(1, bytes(size)) + wire_record(1, b'\1\2\3\4')
    with contextlib.nullcontext() if size == 4 else pytest.raises(MalformedMessage):
        assert parse(octets).an[0].rdata == IPv4Address(0)


def test_only_a_message_with_tc_may_end_after_any_record():
    records = a(b'x'), rr(b'y', 65280, b'abc'), a(b'z')
    query = make_query('x', TYPES.A)
    assert query.rd
    octets = pack(query._replace(an=records, ar=()))
    ends = [12 + 7 + size for size in (0, 16, 16 + 16, 16 + 16 + 17)]
    assert ends[-1] == len(octets)
    for size in range(12, len(octets)):
        with pytest.raises(MalformedMessage):
            module.parse_message(octets[:size], False, True)
        cut = octets[:2] + bytes([octets[2] | 2]) + octets[3:size]
        message = module.parse_message(cut, False, True)
        assert message.an == records[: sum(end <= size for end in ends[1:])]


def test_a_message_may_be_nothing_but_a_header():
    message = parse(header())
    assert (message.qid, message.qr, message[-4:]) == (1, RESPONSE, ((), (), (), ()))
    assert pack(message) == header()


@pytest.mark.parametrize(
    'field, most',
    [
        ('qr', 1),
        ('opcode', 15),
        ('aa', 1),
        ('tc', 1),
        ('rd', 1),
        ('ra', 1),
        ('z', 7),
        ('rcode', 15),
    ],
)
def test_each_field_of_the_header_has_its_bits(field, most):
    zeros = Message(0, *[0] * 8, (), (), (), ())
    message = zeros._replace(**{field: most})
    assert parse(pack(message)) == message
    assert pack(message)[2:4].count(0) == 1
    for value in (most + 1, -1):
        with pytest.raises(MalformedMessage):
            pack(zeros._replace(**{field: value}))


def test_trailing_octets_are_malformed_unless_ignored():
    octets = pack(make_query('x', TYPES.A))
    with pytest.raises(MalformedMessage):
        parse(octets + b'\0')
    assert parse(octets + b'\0', ignore_trailing=True) == parse(octets)


@pytest.mark.parametrize('data', ['text', None, 5, bytearray(12)])
def test_to_parse_what_is_not_bytes_is_a_type_error(data):
    with pytest.raises(TypeError):
        parse(data)


@pytest.mark.parametrize(
    'fields',
    [
        {'qid': 65536},
        {'qid': -1},
        {'rcode': 16},
        {'z': 8},
        {'aa': 2},
        {'an': (rr(b'x', TYPES.A, b'', ttl=-1),)},
        {'an': (rr(b'x', TYPES.TXT, (b'a' * 256,)),)},
        {'an': (rr(b'x', TYPES.TXT, ()),)},
        {'an': (rr(b'x', TYPES.NULL, b'a' * 65536),)},
        {'an': (rr(b'x', TYPES.NULL, b'a' * 65500),) * 2},
        {'an': (rr(b'x', TYPES.A, b''),) * 65536},
        {'an': (rr(b'x', TYPES.A, IPv6Address('::1')),)},
        {'an': (rr(b'x', TYPES.AAAA, IPv4Address('192.0.2.1')),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((3, 80), (1, (b'h2',))))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((0, (4, 1)),))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((0, ()),))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((1, (b'',)),))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((1, (b'h2', b'')),))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((2, b'x'),))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((3, 65536),))),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((4, (IPv6Address('::1'),)),))),)},
        *[
            {'an': (rr(b'x', qtype, rdata),)}
            for qtype, rdata in [
                (TYPES.WKS, (IPv4Address('192.0.2.1'), 6, b'\0' * 8193)),
                (TYPES.LOC, (1, 0, 0, 0, 1 << 31, 1 << 31, 0)),
                (TYPES.LOC, (0, 0xA0, 0, 0, 1 << 31, 1 << 31, 0)),
                (TYPES.LOC, (0, 0, 0, 0, 0, 1 << 31, 0)),
                (TYPES.APL, ((1, 33, 0, IPv4Address('192.0.2.1')),)),
                (TYPES.APL, ((1, 24, 0, IPv6Address('::1')),)),
                (TYPES.APL, ((1, 24, 2, IPv4Address('192.0.2.1')),)),
                (TYPES.APL, ((3, 24, 0, b'a\0'),)),
                (TYPES.APL, ((3, 24, 0, b'a' * 128),)),
                (TYPES.IPSECKEY, (10, 4, 2, None, b'')),
                (TYPES.IPSECKEY, (10, 0, 2, b'a', b'')),
                (TYPES.IPSECKEY, (10, 2, 2, IPv4Address('192.0.2.1'), b'')),
                (TYPES.AMTRELAY, (10, 2, 0, None)),
                (TYPES.AMTRELAY, (10, 0, 4, None)),
                (TYPES.NSEC, (b'', (2, 1))),
                (TYPES.NSEC, (b'', (1, 1))),
                (TYPES.NSEC, (b'', (-1,))),
                (TYPES.NSEC, (b'', (65536,))),
                (TYPES.NSEC3, (1, 0, 0, b'', b'', ())),
                (TYPES.NSEC3, (1, 0, 0, b'a' * 256, b'a', ())),
                (TYPES.CAA, (0, b'', b'')),
                (TYPES.CAA, (0, b'a;b', b'')),
                (TYPES.HIP, (2, b'', b'a', ())),
                (TYPES.HIP, (2, b'a', b'', ())),
                (TYPES.HIP, (2, b'a' * 256, b'a', ())),
                (TYPES.EUI48, b'a' * 7),
                (TYPES.TSIG, (b'', 1 << 48, 300, b'', 0, 0, b'')),
                (TYPES.TSIG, (b'', -1, 300, b'', 0, 0, b'')),
                (TYPES.TSIG, (b'', 1, 300, b'a' * 65536, 0, 0, b'')),
            ]
        ],
    ],
)
def test_what_fits_no_message_is_malformed(fields):
    with pytest.raises(MalformedMessage):
        pack(make_query('x', TYPES.A)._replace(**fields))


@pytest.mark.parametrize(
    'fields',
    [
        {'aa': 'x'},
        {'rcode': 0.5},
        {'qid': None},
        {'an': (rr(b'x', TYPES.A, b'', ttl=None),)},
        {'an': (rr(b'x', TYPES.SVCB, module.SVCB(1, b'', ((5, 1 << 50),))),)},
        {'an': (rr(b'x', TYPES.A, 'text'),)},
        {'an': (rr(b'x', TYPES.MX, (10,)),)},
        {'an': (rr(b'x', TYPES.APL, ((3, 24, 0, 5),)),)},
        {'an': (rr(b'x', TYPES.IPSECKEY, (10, 1, 2, None, b'')),)},
        {'an': (rr(b'x', TYPES.IPSECKEY, (10, 3, 2, None, b'')),)},
        {'an': (rr(b'x', TYPES.NSEC, (b'', ('A',))),)},
        {'an': (rr(b'x', TYPES.NSEC, (b'', 5)),)},
        {'an': (rr(b'x', TYPES.CAA, (0, 'issue', b'')),)},
        {'an': (rr(b'x', TYPES.DS, (1, 2, 3, (4, 5))),)},
        {'an': (rr(b'x', TYPES.DS, (1, 2, 3, bytearray(b'45'))),)},
        {'an': (rr(b'x', TYPES.TSIG, (b'', None, 300, b'', 0, 0, b'')),)},
        {'an': (rr(b'x', TYPES.HIP, (2, 'a', b'a', ())),)},
        {'an': (rr('text', TYPES.A, b''),)},
        {'an': (rr(b'x', TYPES.CNAME, 5),)},
    ],
)
def test_to_pack_a_value_of_another_type_is_a_type_error(fields):
    with pytest.raises(TypeError):
        pack(make_query('x', TYPES.A)._replace(**fields))


@pytest.mark.parametrize('message', [None, 1, b'', ()])
def test_to_pack_what_is_no_message_is_a_type_error(message):
    with pytest.raises(TypeError):
        pack(message)


def test_presentation_is_canonical_whatever_the_spelling():
    assert presentation(rr(b'a b.example.com.', TYPES.CNAME, b'\xff.')) == (
        'a\\032b.example.com. 60 IN CNAME \\255.'
    )
    assert presentation(rr(b'', TYPES.MX, (10, b'y'))) == '. 60 IN MX 10 y.'
    with pytest.raises(InvalidName):
        presentation(rr(b'a..b', TYPES.A, b'\1\2\3\4'))


def test_a_name_that_cannot_be_packed_is_invalid_in_a_message():
    message = make_query('x', TYPES.A)._replace(an=(rr(b'a..b', TYPES.A, b'\1\2\3\4'),))
    with pytest.raises(InvalidName):
        pack(message)


def test_names_are_compressed_where_they_may_be():
    query = make_query('www.example.com', TYPES.MX, payload=None)
    mx = rr(b'www.example.com', TYPES.MX, module.MX(10, b'mail.example.com'))
    srv = rr(b'www.example.com', TYPES.SRV, module.SRV(0, 0, 1, b'mail.example.com'))
    octets = pack(query._replace(an=(mx, srv)))
    assert octets.count(b'\7example') == 2  # the question's, and that of SRV, RFC 3597 4
    assert parse(octets).an == (mx, srv)
    assert dns.message.from_wire(octets).answer[0][0].to_text() == '10 mail.example.com.'


def test_a_pointer_leads_to_labels_and_not_to_another_pointer():
    query = make_query('www.example.com', TYPES.A, payload=None)
    octets = pack(query._replace(an=(a(b'example.com'),) * 3))
    assert octets.count(b'\xc0\x10\0\1\0\1') == 3


@pytest.mark.parametrize('qtype', [TYPES.A, TYPES.CNAME, TYPES.MX, TYPES.TXT, TYPES.ANY])
def test_an_update_has_records_without_rdata(qtype):
    update = make_query('example', TYPES.SOA, payload=None)._replace(
        opcode=OPCODES.UPDATE,
        an=(rr(b'x', qtype, b'', 0, CLASSES.NONE), rr(b'x', qtype, b'', 0, CLASSES.ANY)),
        ns=(rr(b'x', qtype, b'', 0, CLASSES.ANY),),
    )
    octets = pack(update)
    assert parse(octets) == update
    assert dns.message.from_wire(octets).to_wire() == octets


@pytest.mark.parametrize('payload', [CLASSES.NONE, CLASSES.ANY])
def test_an_opt_record_has_options_in_an_update_too(payload):
    opt = ResourceRecord(b'', TYPES.OPT, payload, 0, ())
    update = make_query('example', TYPES.SOA)._replace(opcode=OPCODES.UPDATE, an=(opt,), ar=())
    assert parse(pack(update)).an[0].rdata == ()


@pytest.mark.parametrize('qclass', [CLASSES.NONE, CLASSES.ANY])
def test_only_in_an_update_is_empty_rdata_none(qclass):
    for section in ({'an': 1}, {'ns': 1}):
        message = parse(header(**section) + wire_record(TYPES.TXT, b'', qclass))
        (record,) = message.an + message.ns
        assert record.rdata == (b'',)
        with pytest.raises(MalformedMessage):
            parse(header(**section) + wire_record(TYPES.NS, b'', qclass))
    update = bytearray(header(an=1, ns=2))
    update[2] = 0x80 | OPCODES.UPDATE << 3
    classes = [CLASSES.IN, CLASSES.NONE, CLASSES.NONE]
    message = parse(bytes(update) + b''.join([wire_record(16, b'', each) for each in classes]))
    assert [record.rdata for record in message.an + message.ns] == [(b'',)] * 3


def test_rdata_that_is_in_an_update_is_not_left_out():
    for qclass in (CLASSES.NONE, CLASSES.ANY):
        record = rr(b'x', TYPES.CNAME, b'y', 0, qclass)
        update = make_query('example', TYPES.SOA)._replace(opcode=OPCODES.UPDATE, an=(record,))
        assert parse(pack(update)).an == (record,)


def test_a_message_may_have_65535_octets():
    query = make_query('x', TYPES.A)
    room = 65535 - len(pack(query._replace(an=(rr(b'', TYPES.NULL, b''),))))
    full = pack(query._replace(an=(rr(b'', TYPES.NULL, bytes(room)),)))
    assert len(full) == 65535
    assert module.to_octets(full) is full
    with pytest.raises(MalformedMessage):
        pack(query._replace(an=(rr(b'', TYPES.NULL, bytes(room + 1)),)))
    with pytest.raises(MalformedMessage):
        module.to_octets(full + b'\0')


def test_the_root_is_a_name_in_an_update_too():
    update = make_query('example', TYPES.SOA)._replace(
        opcode=OPCODES.UPDATE, ns=(rr(b'x', TYPES.NS, b'', 0, CLASSES.NONE),)
    )
    assert parse(pack(update)) == update
    assert b'\0\2\0\xfe\0\0\0\0\0\1\0' in pack(update)


# --- 9. Questions and answers ------------------------------------------------


def test_make_query_makes_what_dnspython_reads():
    message = make_query(
        'www.Example.com.', TYPES.AAAA, want_dnssec=True, options=[(3, b'')], payload=4096, qid=7
    )
    theirs = dns.message.from_wire(pack(message))
    assert theirs.question[0].to_text() == 'www.Example.com. IN AAAA'
    assert (theirs.id, theirs.edns, theirs.payload) == (7, 0, 4096)
    assert theirs.ednsflags == 0x8000
    assert theirs.flags == 0x0100
    assert message.qd == (QuestionRecord(b'www.Example.com', TYPES.AAAA, CLASSES.IN),)
    assert parse(pack(message)) == message


def test_a_query_is_for_a_type_and_class_with_their_mnemonics():
    (question,) = make_query('x', 28, 255).qd
    assert (str(question.qtype), str(question.qclass)) == ('AAAA', 'ANY')


def test_make_query_draws_ids_at_random():
    ids = {make_query('x', TYPES.A).qid for _ in range(1000)}
    assert len(ids) > 950
    assert make_query('x', TYPES.A, payload=None, rd=0).ar == ()


def test_only_edns_carries_options():
    for arguments in ({'want_dnssec': True}, {'options': [(1, b'')]}):
        with pytest.raises(TypeError):
            make_query('x', TYPES.A, payload=None, **arguments)


def test_mix_case_draws_each_letter_and_nothing_else():
    name = rb'abcdefghij.xyz-0123456789_\046\255.[`{@'
    mixed = [mix_case(name) for _ in range(400)]
    assert {one.lower() for one in mixed} == {name}
    for position, octet in enumerate(name):
        upper = sum(one[position] != octet for one in mixed)
        assert 100 < upper < 300 if chr(octet).isalpha() else upper == 0
    assert mix_case(b'') == b''


QUESTION_A = QuestionRecord(b'www.example.com', TYPES.A, CLASSES.IN)
QUERY = module.to_query(QUESTION_A.name, TYPES.A, module.EDNS_FORMS[0])


@pytest.mark.parametrize(
    'name, search, ndots, names',
    [
        (b'a', [b'x', b'y.z'], 1, [b'a.x', b'a.y.z', b'a']),
        (b'a.b', [b'x', b'y.z'], 1, [b'a.b', b'a.b.x', b'a.b.y.z']),
        (b'a.b', [b'x'], 2, [b'a.b.x', b'a.b']),
        (b'a.b.c', [b'x'], 2, [b'a.b.c', b'a.b.c.x']),
        (b'a', [b'x'], 0, [b'a', b'a.x']),
        (b'a', [], 1, [b'a']),
        (b'a', [b'x', b'', b'y'], 1, [b'a.x', b'a', b'a.y']),
        (b'a.b', [b'x', b'', b'y'], 1, [b'a.b', b'a.b.x', b'a.b.y']),
        (b'a\\.b', [b'x'], 1, [b'a\\.b.x', b'a\\.b']),
        (b'a\\\\.b', [b'x'], 1, [b'a\\\\.b', b'a\\\\.b.x']),
    ],
)
def test_a_name_is_searched_in_the_order_that_its_dots_say(name, search, ndots, names):
    assert module.names_to_ask(name, search, ndots) == tuple(names)


# Orders that are in the tests of Go's net and c-ares.
@pytest.mark.parametrize(
    'name, search, ndots, names',
    [
        ('www', 'one two three', 1, 'www.one www.two www.three www'),
        ('www', 'one', 0, 'www www.one'),
        ('a.b.c.w.w.w', 'one two', 1, 'a.b.c.w.w.w a.b.c.w.w.w.one a.b.c.w.w.w.two'),
        ('db.us-1.example.com', 'one', 5, 'db.us-1.example.com.one db.us-1.example.com'),
        ('x.y', 'one two', 1, 'x.y x.y.one x.y.two'),
        ('x.y', 'one two', 2, 'x.y.one x.y.two x.y'),
        ('x.y.z', 'one', 3, 'x.y.z.one x.y.z'),
        ('www', 'one one', 1, 'www.one www'),  # Go asks the same twice
        ('x.one', 'one', 1, 'x.one x.one.one'),
        ('x.y', '', 5, 'x.y'),
    ],
)
def test_the_search_order_is_that_of_other_resolvers(name, search, ndots, names):
    search = [domain.encode() for domain in search.split()]
    in_order = b' '.join(module.names_to_ask(name.encode(), search, ndots))
    assert in_order.decode() == names


@pytest.mark.parametrize('label', [b'a', b'\\.', b'\\007'])
def test_a_name_that_would_be_too_long_is_not_asked_for(label):
    name = b'.'.join([label * 62, label * 62, label * 62, label * 61])
    assert len(module.pack_name(name)) == 252
    search = [label, label * 2, label * 3, label * 9]
    fitting = [name + b'.' + domain for domain in search[:2]]
    assert module.names_to_ask(name, search, 9) == (*fitting, name)


@pytest.mark.parametrize(
    'form, payload', [(module.PLAIN_FORMS[0], None), (module.EDNS_FORMS[0], 1232)]
)
@pytest.mark.parametrize('make, cases', [(module.to_query, 1), (module.mixed_query, 380)])
def test_each_query_is_drawn_at_random(make, cases, form, payload):
    queries = [make(QUESTION_A.name, TYPES.A, form) for _ in range(400)]
    assert {query.octets[2:].lower() for query in queries} == {queries[0].octets[2:].lower()}
    assert len({query.octets[:2] for query in queries}) > 380
    assert len({query.octets[12:] for query in queries}) >= cases
    expected = make_query('www.example.com', TYPES.A, qid=0, payload=payload)._replace(qd=())
    for query in queries:
        message = parse(query.octets)
        assert message._replace(qid=0, qd=()) == expected
        assert message.qd[0].name.lower() == b'www.example.com'
        assert query[1:] == (QUERY.end, b'www.example.com', TYPES.A)
        assert query.name.lower() == QUERY.name
        assert query.has_edns == (payload is not None)


@pytest.mark.parametrize('name', [b'', b'a', b'a\\.b.c', b'a.b\\.c.d', b'\\000.\\255', b'1.2'])
def test_a_query_may_be_for_any_name(name):
    for make in (module.to_query, module.mixed_query):
        query = make(name, TYPES.TXT, module.EDNS_FORMS[1])
        message = parse(query.octets)
        (question,) = message.qd
        assert (question.name.lower(), *question[1:]) == (name, TYPES.TXT, CLASSES.IN)
        assert (query.end, query.fqdn) == (12 + len(module.pack_name(name)) + 4, name)
        assert (message.rd, message.z) == (1, 2)
        assert message.edns == ResourceRecord(b'', TYPES.OPT, 1232, 0, ())
    assert module.to_query(b'A.b', TYPES.A, module.EDNS_FORMS[0]).fqdn == b'a.b'


@pytest.mark.parametrize('size', [1, 40, 41, 60, 63])
@pytest.mark.parametrize('scheme, codes', [('tcp', [11]), ('tls', [11, 12]), ('https', [12])])
def test_a_query_on_a_stream_has_the_options_for_it(scheme, codes, size):
    plain = module.to_query(b'a' * size, TYPES.A, module.PLAIN_FORMS[0])
    assert module.for_stream(plain, scheme) is plain
    query = module.to_query(b'a' * size, TYPES.A, module.EDNS_FORMS[0])
    for_stream = module.for_stream(query, scheme)
    assert for_stream[1:] == query[1:]
    message = parse(for_stream.octets)
    assert [code for code, _ in message.edns.rdata] == codes
    assert not b''.join([value for _, value in message.edns.rdata]).strip(b'\0')
    assert message._replace(ar=()) == parse(query.octets)._replace(ar=())
    if scheme != 'tcp':
        assert len(for_stream.octets) == 128


def test_a_query_in_octets_has_a_whole_question_or_none():
    octets = pack(ASKED)
    end = module.query_in(octets).end
    two = ASKED._replace(qd=(*ASKED.qd, QuestionRecord(b'x', TYPES.A, CLASSES.IN)))
    upper = two._replace(qd=(two.qd[0]._replace(name=b'WWW.Example'), two.qd[1]))
    for query in (two, upper):
        assert module.query_in(query)[2:] == (b'www.example', TYPES.TXT)
    no_question = octets[:4] + bytes(8)
    assert module.query_in(no_question) == (no_question, 12, b'', 0)
    for size in range(end):
        with pytest.raises(MalformedMessage):
            module.query_in(octets[:size])


@pytest.mark.parametrize(
    'fields',
    [
        {'qid': (parse(QUERY.octets).qid + 1) % 65536},
        {'qr': QUESTION},
        {'opcode': OPCODES.NOTIFY},
        {'opcode': OPCODES.IQUERY},
        {'opcode': OPCODES.IQUERY, 'rd': 0},
        {'opcode': 8, 'rd': 0},
        {'qd': ()},
        {'qd': (QuestionRecord(b'www.example.org', 1, 1),), 'rcode': RCODES.SERVFAIL},
        {'qd': (), 'rcode': RCODES.NXDOMAIN},
        {'qd': (QuestionRecord(b'www.example.org', 1, 1),)},
        {'qd': (QuestionRecord(b'www.example.com', 28, 1),)},
        {'qd': (QuestionRecord(b'www.example.com', 1, 3),)},
        {'qd': (QuestionRecord(b'www.example.co', 1, 1),)},
        {'qd': (QuestionRecord(b'www.example.com', 1, 1),) * 2},
    ],
    ids=repr,
)
def test_what_does_not_answer_a_query_is_a_bad_response(fields):
    reply = reply_to(parse(QUERY.octets), a(b'www.example.com'))
    assert module.check_reply(QUERY, pack(reply))
    assert texts(module.read_reply(QUERY, pack(reply), 0.0).records) == ['192.0.2.1']
    for read_so in (module.check_reply, functools.partial(module.read_reply, now=0.0)):
        with pytest.raises(BadResponse):
            read_so(QUERY, pack(reply._replace(**fields)))


@pytest.mark.parametrize('qid', [b'\0\0', b'\0\x80', b'\x80\0', b'\x80\x80', b'\xff\xff'])
def test_a_query_does_not_answer_itself_whatever_its_id(qid):
    query = QUERY._replace(octets=qid + QUERY.octets[2:])
    with pytest.raises(BadResponse):
        module.read_reply(query, query.octets, 0.0)


@pytest.mark.parametrize('size', range(12))
def test_a_cut_header_does_not_answer(size):
    octets = pack(reply_to(parse(QUERY.octets)))[:size]
    with pytest.raises(BadResponse):
        module.read_reply(QUERY, octets, 0.0)
    for cut in (octets, b'\xff' + octets):
        if len(cut) < 12:
            with pytest.raises(MalformedMessage):
                module.parse_answer(QUERY, cut, False)


@pytest.mark.parametrize('rcode', [RCODES.FORMERR, RCODES.NOTIMP, RCODES.SERVFAIL, RCODES.REFUSED])
def test_an_error_may_lack_the_question(rcode):
    reply = pack(reply_to(parse(QUERY.octets), rcode=rcode)._replace(qd=()))
    assert module.check_reply(QUERY, reply)
    (error,) = outcome = module.read_reply(QUERY, reply, 0.0)
    assert type(outcome) is module.WithoutQuestion
    assert (type(error), error.rcode) == (ResponseCode, rcode)


def test_only_the_reply_to_an_update_may_lack_the_question_without_an_error():
    for opcode in (*OPCODES, 4 | 8, 5 | 8):
        query = make_query('x', TYPES.SOA)._replace(opcode=opcode)
        reply = pack(reply_to(query, ra=0)._replace(qd=()))
        if opcode == OPCODES.UPDATE:
            assert module.check_reply(module.query_in(query), reply)
        else:
            with pytest.raises(BadResponse):
                module.check_reply(module.query_in(query), reply)


def mixed(name=QUESTION_A.name, qtype=TYPES.A):
    """A query whose name is not in lower case, also from its second label on."""
    query = module.mixed_query(name, qtype, module.EDNS_FORMS[0])
    while query.octets[16:-15].islower():
        query = module.mixed_query(name, qtype, module.EDNS_FORMS[0])
    return query


def as_answered(query, reply, is_same_case=True):
    """The octets of a reply whose names were compressed before the question was put as sent."""
    octets = pack(folded(reply)._replace(qid=parse(query.octets).qid))
    if not is_same_case:
        return octets
    return octets[:12] + query.octets[12 : query.end] + octets[query.end :]


def test_a_question_in_another_letter_case_is_told_apart():
    query = mixed()
    asked = parse(query.octets)
    for fields in ({'an': (a(b'www.example.com'),)}, {'rcode': 2}, {'tc': 1}, {'rcode': 3}, {}):
        reply = reply_to(asked, **{'ra': 0, **fields})
        plain, folded_one = (
            module.read_reply(query, as_answered(query, reply, is_same), 0.0)
            for is_same in (True, False)
        )
        assert type(folded_one) is module.CaseMismatch
        assert said(folded_one.outcome) == said(plain)
    assert module.check_reply(query, as_answered(query, reply))
    assert not module.check_reply(query, as_answered(query, reply, False))
    with pytest.raises(MalformedMessage):
        module.read_reply(query, as_answered(query, reply, False)[:-1], 0.0)


def test_random_letter_case_does_not_reach_an_answer():
    query = mixed(qtype=TYPES.MX)
    exchanges = [b'www.example.com', b'example.com', b'mail.example.com', b'com']
    mxs = [rr(QUESTION_A.name, TYPES.MX, module.MX(10, name)) for name in exchanges]
    octets = as_answered(query, reply_to(parse(query.octets), *mxs))
    assert octets.lower().count(b'example') == 1
    answer = module.read_reply(query, octets, 0.0)
    assert [record.exchange for record in answer.records] == exchanges


OPT = ResourceRecord(b'', TYPES.OPT, 4096, 0, ())
FEW_NAMES = st.sampled_from(
    [b'www.example.com'] * 6
    + [b'WWW.example.com', b'example.com', b'Com', b'', b'a.example', b'b.example', b'example']
    + [rb'www\.example.com', b'www.a.example', b'www.b.example', b'.'.join([b'a' * 60] * 4)]
)
ANSWERED = {
    TYPES.A: st.sampled_from([IPv4Address('192.0.2.1'), IPv4Address('192.0.2.2')]),
    TYPES.AAAA: st.sampled_from([IPv6Address('2001:db8::1'), IPv6Address('2001:db8::2')]),
    TYPES.MX: st.builds(module.MX, st.integers(0, 1), FEW_NAMES),
    TYPES.TXT: st.just((b'a',)) | st.just((b'b', b'')),
    TYPES.SOA: st.builds(module.SOA, FEW_NAMES, FEW_NAMES, u32, u32, u32, u32, u32),
    65280: st.binary(max_size=2),
    **dict.fromkeys([TYPES.NS, TYPES.CNAME, TYPES.DNAME], FEW_NAMES),
}


def some_records(*types, max_size):
    record = st.sampled_from(types).flatmap(
        lambda qtype: st.builds(
            ResourceRecord,
            *(FEW_NAMES, st.just(qtype), st.just(CLASSES.IN), u32 | st.integers(0, 9)),
            ANSWERED[qtype],
        )
    )
    in_chaos = st.builds(
        ResourceRecord, FEW_NAMES, st.sampled_from(types), st.just(CLASSES.CH), u32, st.just(b'')
    ).filter(lambda record: record.qtype in (TYPES.A, TYPES.AAAA))
    either = st.one_of(record, record, record, in_chaos) if TYPES.A in types else record
    return st.lists(either, max_size=max_size).map(tuple)


OPTS = st.builds(
    ResourceRecord,
    st.sampled_from([b''] * 5 + [b'example.com']),
    st.just(TYPES.OPT),
    st.sampled_from([1, 1232]),
    st.sampled_from([0, 0, 0, 0x8000, 0x10000, 0x01000000]),
    st.sampled_from([(), ((15, b'\0\6why'),), ((15, b'\0'), (11, b'\0\5'))]),
)
REPLIES = st.builds(
    Message,
    qid=st.just(0),
    qr=st.sampled_from([1] * 15 + [0]),
    opcode=st.sampled_from([0] * 15 + [1]),
    aa=bit,
    tc=st.sampled_from([0] * 6 + [1]),
    rd=bit,
    ra=bit,
    z=st.integers(0, 7),
    rcode=st.sampled_from([0] * 8 + [3] * 3 + [2]),
    qd=st.sampled_from([(QUESTION_A,)] * 15 + [()]),
    an=some_records(*ANSWERED, TYPES.A, TYPES.CNAME, TYPES.CNAME, TYPES.DNAME, max_size=6),
    ns=some_records(TYPES.SOA, TYPES.SOA, TYPES.NS, TYPES.A, max_size=3),
    ar=st.tuples(
        some_records(TYPES.A, TYPES.AAAA, max_size=2),
        st.lists(OPTS, max_size=1) | st.lists(OPTS, max_size=2),
    ).map(lambda parts: (*parts[0], *parts[1])),
)


def said(outcome):
    """An outcome as what can be compared: errors by their kind."""
    if isinstance(outcome, (module.TruncatedAnswer, *module.DOUBTFUL)):
        return type(outcome), said(outcome.outcome)
    if isinstance(outcome, Exception):
        return type(outcome), getattr(outcome, 'rcode', None)
    records = [(type(each), each, each.expires_at) for each in outcome.records]
    error = said(outcome.error) if isinstance(outcome, module.NegativeAnswer) else None
    return type(outcome), outcome.expires_at, records, outcome.alias, outcome.is_cacheable, error


def owned(records, name, qtype):
    return [
        record
        for record in records
        if (record.name.lower(), record.qtype, record.qclass) == (name, qtype, CLASSES.IN)
    ]


def at_or_above(name):
    labels = [module.escape_label(label) for label in module.split_name(name)]
    return [b'.'.join(labels[at:]) for at in range(len(labels) + 1)]


def alias_of(answer, name):
    """The name that a CNAME, else a DNAME, makes of another, and the TTL; None without one."""
    for cname in owned(answer, name, TYPES.CNAME):
        return cname.rdata.lower(), cname.ttl
    for owner in at_or_above(name)[1:]:
        for dname in owned(answer, owner, TYPES.DNAME):
            below = name.removesuffix(owner).removesuffix(b'.')
            return b'.'.join([part for part in (below, dname.rdata.lower()) if part]), dname.ttl
    return None


def is_ns(record):
    return (record.qtype, record.qclass) == (TYPES.NS, CLASSES.IN)


def what_the_message_says(message, name, qtype, now):
    """What `read_reply` is to say, of a message that was read whole."""
    opts = [record for record in message.ar if (record.name, record.qtype) == (b'', TYPES.OPT)]
    if len(opts) > 1:
        return MalformedMessage()
    rcode = message.rcode | (opts[0].ttl >> 24 << 4 if opts else 0)
    if rcode not in (RCODES.NOERROR, RCODES.NXDOMAIN):
        return ResponseCode('', rcode)

    alias, least_ttl = None, module.MAX_TTL
    while not owned(message.an, name, qtype) and (link := alias_of(message.an, name)):
        links = alias.links if alias else 0
        name, least_ttl = link[0], min(least_ttl, link[1])
        try:
            module.split_name(name)
        except InvalidName:
            return BadResponse('A DNAME makes a name that is too long')
        alias = module.Alias(name, links + 1, now + least_ttl)
        if links == module.MAX_CNAMES:
            return CnameChainTooLong()
    records = owned(message.an, name, qtype)
    if records and not rcode:
        expires_at = now + min(least_ttl, *[record.ttl for record in records])
        rdatas = dict.fromkeys([record.rdata for record in records])
        found = tuple(module.expiring(rdata, expires_at) for rdata in rdatas)
        is_of_use = not message.tc or qtype in module.ADDRESSES
        return (
            module.Answer(expires_at, found, alias, not message.tc) if is_of_use else Truncated()
        )
    if message.tc:
        is_of_use = alias and qtype in module.ADDRESSES
        return module.Answer(now, (), alias, False) if is_of_use else Truncated()

    soas = [soa for zone in at_or_above(name) for soa in owned(message.ns, zone, TYPES.SOA)]
    soas.sort(key=message.ns.index)
    is_told = message.aa or message.ra
    if rcode or (soas and is_told):
        expires_at = now
        if soas:
            expires_at += min(soas[0].ttl, soas[0].rdata.minimum, module.MAX_NEGATIVE_TTL)
    elif alias:
        return module.Answer(now, (), alias, True)
    elif not is_told or (not message.aa and any(map(is_ns, message.ns))):
        return BadResponse('lame')
    else:
        expires_at = now
    if alias:
        expires_at = min(expires_at, alias.expires_at)
    return module.NegativeAnswer(expires_at, (), alias, True, DoesNotExist('', rcode))


def check_that_both_say_the_same(query, octets):
    """Whether the full parse reads a reply; if so, it says what `read_reply` says."""
    try:
        is_same_case = module.check_reply(query, octets)
    except BadResponse:
        with pytest.raises(BadResponse):
            module.read_reply(query, octets, 1000.0)
        return False
    end = query.end if octets[5] else 12  # the question has random letter case in it
    try:
        message = parse(octets[:12] + octets[12:end].lower() + octets[end:], ignore_trailing=True)
    except MalformedMessage:
        message = None
    try:
        outcome = module.read_reply(query, octets, 1000.0)
    except MalformedMessage as error:
        outcome = error
    if message is None:
        return False
    expected = what_the_message_says(message, query.fqdn, query.qtype, 1000.0)
    if not isinstance(expected, MalformedMessage):
        if message.tc and not isinstance(expected, ResponseCode):
            expected = module.TruncatedAnswer(expected)
        expected = expected if is_same_case else module.CaseMismatch(expected)
        expected = expected if message.qd else module.WithoutQuestion(expected)
    assert said(outcome) == said(expected)
    return True


@pytest.mark.parametrize('qtype', list(ANSWERED), ids=str)
def test_the_reader_says_what_the_full_parse_says(qtype):
    query = mixed(qtype=qtype)
    compared = 0

    @given(REPLIES, st.sampled_from([True] * 8 + [False]), st.sampled_from([b''] * 8 + [b'\0']))
    @settings(max_examples=150, deadline=None)
    def agree(message, is_same_case, trailing):
        nonlocal compared
        octets = pack(message._replace(qd=message.qd and (QUESTION_A._replace(qtype=qtype),)))
        octets = query.octets[:2] + octets[2:] + trailing
        if is_same_case and message.qd:
            octets = octets[:12] + query.octets[12 : query.end] + octets[query.end :]
        compared += check_that_both_say_the_same(query, octets)

    agree()
    assert compared > 50


@pytest.mark.parametrize('qtype', [TYPES.A, TYPES.MX, TYPES.TXT], ids=str)
def test_the_reader_says_what_the_full_parse_says_of_mutated_replies(qtype):
    query = mixed(qtype=qtype)
    outcomes = []

    @given(REPLIES, st.integers(0, 1 << 32))
    @settings(max_examples=400, deadline=None)
    def agree(message, seed):
        octets = pack(message._replace(qd=(QUESTION_A._replace(qtype=qtype),)))
        octets = (
            query.octets[:2] + octets[2:12] + query.octets[12 : query.end] + octets[query.end :]
        )
        changed = octets[:4] + mutated(octets, random.Random(seed))[4:]
        if seed % 4:  # most mutations are to leave the header and the question
            changed = octets[: query.end] + changed[query.end :]
        outcomes.append(check_that_both_say_the_same(query, changed))

    agree()
    assert 20 < sum(outcomes) < len(outcomes)


def read(*answers, qtype=TYPES.A, **fields):
    query = module.to_query(b'www.example.com', qtype, module.EDNS_FORMS[0])
    reply = reply_to(parse(query.octets), *answers, **fields)
    return module.read_reply(query, pack(reply), 1000.0)


def test_the_chain_of_aliases_is_followed_in_any_order():
    chain = [
        cname(b'WWW.example.com', b'B.example', 50),
        cname(b'b.example', b'c.example', 40),
        a(b'c.EXAMPLE', ttl=90),
        a(b'c.example', '192.0.2.2', ttl=80),
        a(b'other.example', '192.0.2.9', ttl=1),
        cname(b'c.example', b'other.example', 1),
        rr(b'c.example', TYPES.A, b'\1\2\3\4', 1, CLASSES.CH),
    ]
    for order in itertools.permutations(chain):
        answer = read(*order)
        assert set(texts(answer.records)) == {'192.0.2.1', '192.0.2.2'}
        assert answer.expires_at == 1040.0
        assert {record.expires_at for record in answer.records} == {1040.0}
        assert answer.alias == (b'c.example', 2, 1040.0)


def test_a_cname_goes_before_a_dname_and_the_first_of_two_counts():
    dname = rr(b'com', TYPES.DNAME, b'net')
    first, second = cname(b'www.example.com', b'x'), cname(b'www.example.com', b'y')
    assert read(dname, first, second).alias.name == b'x'
    assert read(second, dname, first).alias.name == b'y'


def test_the_nearest_dname_above_the_name_counts():
    far, near = rr(b'com', TYPES.DNAME, b'net'), rr(b'example.com', TYPES.DNAME, b'org')
    assert read(far, near).alias.name == read(near, far).alias.name == b'www.org'


def test_a_dname_above_the_name_makes_an_alias():
    dname = rr(b'com', TYPES.DNAME, b'net', 30)
    answer = read(dname, a(b'www.example.net'))
    assert texts(answer.records) == ['192.0.2.1']
    assert answer.expires_at == 1030.0
    root = read(rr(b'', TYPES.DNAME, b'alt', 30), a(b'www.example.com.alt'))
    assert texts(root.records) == ['192.0.2.1']
    for label in (b'a' * 62, b'a' * 63):
        assert read(cname(b'www.example.com', label)).alias.name == label
    to_root = read(rr(b'com', TYPES.DNAME, b'', 30), a(b'www.example'))
    assert texts(to_root.records) == ['192.0.2.1']
    for owner in (b'www.example.com', b'ample.com', b'org', b'x.www.example.com'):
        assert isinstance(read(rr(owner, TYPES.DNAME, b'net'), ra=0), BadResponse)
    escaped = read(rr(b'com', TYPES.DNAME, b'\\001' * 63))
    assert escaped.alias.name == b'www.example.' + b'\\001' * 63
    for size, kind in ((49, module.Answer), (50, BadResponse)):  # 255 and 256 octets in all
        names = b'.'.join([b'\\001' * 63] * 3 + [b'\\001' * size])
        assert type(read(rr(b'com', TYPES.DNAME, names))) is kind
    for size in (57, 58):  # 254 and 255 octets in all
        names = b'.'.join([b'a' * 60] * 3 + [b'a' * size])
        assert read(rr(b'com', TYPES.DNAME, names)).alias.name == b'www.example.' + names
    too_long = read(rr(b'com', TYPES.DNAME, b'.'.join([b'a' * 60] * 3 + [b'a' * 59])))
    assert isinstance(too_long, BadResponse)
    too_long = read(rr(b'com', TYPES.DNAME, b'.'.join([b'a' * 60] * 4)))
    assert isinstance(too_long, BadResponse)
    assert too_long.__traceback__ is None


def test_a_dot_in_a_label_is_no_boundary():
    assert module.is_at_or_below(b'a.b', b'b')
    assert module.is_at_or_below(b'a\\\\.b', b'b')
    assert not module.is_at_or_below(b'a\\.b', b'b')
    assert not module.is_at_or_below(b'ab', b'b')
    for owner in (rb'www\.example.com', rb'www.example\.com', rb'\003www.example.com'):
        assert read(a(owner)).records == ()
        assert read(a(owner)).alias is None
    dotted = cname(b'www.example.com', rb'a\.b.example')
    assert read(dotted, a(rb'A\.b.example')).alias.name == rb'a\.b.example'
    assert read(dotted, a(rb'a.b.example')).records == ()
    assert read(dotted, rr(b'b.example', TYPES.DNAME, b'c'), ra=0).alias.links == 1


def test_a_chain_of_20_aliases_is_followed_and_none_longer():
    names = [b'www.example.com', *[b'%d.example' % number for number in range(21)]]
    chain = [cname(name, target) for name, target in itertools.pairwise(names)]
    answer = read(*chain[:20], a(b'19.example'))
    assert texts(answer.records) == ['192.0.2.1']
    assert answer.alias.links == 20
    assert isinstance(read(*chain, a(b'20.example')), CnameChainTooLong)
    in_a_circle = read(cname(b'www.example.com', b'www.example.com'))
    assert isinstance(in_a_circle, CnameChainTooLong)
    assert in_a_circle.__traceback__ is None


def test_records_of_the_type_asked_end_the_chain():
    known_as = cname(b'www.example.com', b'x')
    assert read(known_as, a(b'x'), qtype=TYPES.CNAME).records == (b'x',)
    assert texts(read(a(b'www.example.com'), known_as, a(b'x', '192.0.2.2')).records) == [
        '192.0.2.1'
    ]


def test_addresses_of_both_families_are_read():
    ipv6 = [rr(b'www.example.com', TYPES.AAAA, IPv6Address(last)) for last in (1, 2)]
    assert texts(read(*ipv6, qtype=TYPES.AAAA).records) == ['::1', '::2']
    assert texts(read(a(b'www.example.com'), *ipv6).records) == ['192.0.2.1']


def test_rdata_of_an_unknown_type_is_its_octets():
    assert read(rr(b'www.example.com', 65280, b'abc'), qtype=65280).records == (b'abc',)


def test_a_ttl_is_capped_at_seven_days():
    for ttl in (604801, 1 << 31, (1 << 32) - 1):
        assert read(a(b'www.example.com', ttl=ttl)).expires_at == 1000.0 + 604800
        alias = cname(b'www.example.com', b'x', ttl), a(b'x', ttl=ttl)
        assert read(*alias).expires_at == 1000.0 + 604800
    assert read(a(b'www.example.com', ttl=604799)).expires_at == 1000.0 + 604799
    set_of_two = [a(b'www.example.com', ttl=30), a(b'www.example.com', '192.0.2.2', ttl=20)]
    assert read(*set_of_two).expires_at == 1020.0


def test_an_absence_lasts_for_the_lesser_of_the_soa_and_its_minimum():
    for rcode in (RCODES.NOERROR, RCODES.NXDOMAIN):
        absence = read(rcode=rcode, ns=(soa(b'Example.com', 50, 40),))
        assert (absence.expires_at, absence.error.rcode) == (1040.0, rcode)
        assert ('does not exist' in str(absence.error)) == (rcode == RCODES.NXDOMAIN)
        in_chaos = soa(b'com', 50, 90)._replace(qclass=CLASSES.CH)
        assert read(rcode=rcode, ns=(in_chaos,)).expires_at == 1000.0
        assert read(rcode=rcode, ns=(soa(b'com', 50, 90),)).expires_at == 1050.0
        assert read(rcode=rcode, ns=(soa(b'', 1 << 31, 1 << 31),)).expires_at == 1000.0 + 10800
        assert read(rcode=rcode, ns=()).expires_at == 1000.0
        for foreign in (b'org', b'x.www.example.com', b'ample.com', rb'example\.com'):
            assert read(rcode=rcode, ns=(soa(foreign, 50, 90),)).expires_at == 1000.0
        assert read(rcode=rcode, ar=(soa(b'com', 50, 90),)).expires_at == 1000.0
        two = soa(b'org', 50, 90), soa(b'com', 40, 90), soa(b'example.com', 30, 90)
        assert read(rcode=rcode, ns=two).expires_at == 1040.0


def test_an_empty_reply_is_an_absence_only_from_a_server_that_stands_for_it():
    ns = rr(b'example.com', TYPES.NS, b'ns.example.com')
    assert read(ra=0, aa=1).error.rcode == RCODES.NOERROR
    assert read(ra=1, aa=0).error.rcode == RCODES.NOERROR
    assert read(ra=0, aa=0, rcode=RCODES.NXDOMAIN).error.rcode == RCODES.NXDOMAIN
    assert read(ra=0, aa=1, ns=(ns,)).error.rcode == RCODES.NOERROR
    why = OPT._replace(rdata=((15, b'\0\x16nobody'),))
    for fields in (
        {'ra': 0},
        {'ra': 0, 'ns': (soa(b'example.com'),)},
        {'ra': 0, 'ns': (ns,)},
        {'ra': 1, 'ns': (ns,)},
    ):
        outcome = read(**fields, ar=(why,))
        assert isinstance(outcome, BadResponse)
        assert str(outcome).endswith('(NO-REACHABLE-AUTHORITY: nobody)')


def test_an_absence_at_the_end_of_a_chain_is_of_its_last_name():
    alias = cname(b'www.example.com', b'other.example', 50)
    absence = read(alias, rcode=RCODES.NXDOMAIN, ns=(soa(b'example', 20, 20),))
    assert absence.error.rcode == RCODES.NXDOMAIN
    assert 'other.example.' in str(absence.error)
    assert (absence.expires_at, absence.alias.expires_at) == (1020.0, 1050.0)
    absence = read(alias, ns=(soa(b'example', 90, 90),))
    assert (absence.error.rcode, absence.expires_at) == (RCODES.NOERROR, 1050.0)
    for fields in ({'ra': 1, 'aa': 0}, {'ra': 0, 'aa': 1}):
        absence = read(alias, ns=(soa(b'example', 90, 90),), **fields)
        assert type(absence) is module.NegativeAnswer
    for ns in ((), (soa(b'example.com'),), (rr(b'example', TYPES.NS, b'ns'),)):
        answer = read(alias, ns=ns)
        assert type(answer) is module.Answer
        assert (answer.records, answer.is_cacheable) == ((), True)
        assert answer.alias == (b'other.example', 1, 1050.0)


OWNER = b'www.example.com'
EXAMPLE_NS = rr(b'example.com', TYPES.NS, b'ns.example.com')
# Replies that are in the tests of Go's net, c-ares and systemd-resolved: type, answer section,
# other fields, and the records, or the error.
FOREIGN_REPLIES = {
    # c-ares
    'A and AAAA': (
        TYPES.A,
        [a(OWNER), rr(OWNER, TYPES.AAAA, IPv6Address('::203.0.113.5'))],
        {},
        ['192.0.2.1'],
    ),
    'another name': (TYPES.A, [a(b'example.com')], {}, DoesNotExist),
    'another name, nobody stands for it': (TYPES.A, [a(b'example.com')], {'ra': 0}, BadResponse),
    'another type': (TYPES.A, [rr(OWNER, TYPES.MX, module.MX(1, b'x'))], {}, DoesNotExist),
    'nameservers and their addresses beside it': (
        TYPES.A,
        [a(OWNER)],
        {'ns': (EXAMPLE_NS,) * 3, 'ar': (a(b'ns.example.com', '192.0.2.53'), OPT)},
        ['192.0.2.1'],
    ),
    'three aliases and the owner of the last is the zone': (
        TYPES.A,
        [cname(OWNER, b'c2'), cname(b'c2', b'c3'), cname(b'c3', b'c4'), a(b'c4', '192.0.2.8')],
        {'ns': (rr(b'c', TYPES.NS, b'c'),), 'ar': (a(b'c', '127.0.0.1'),)},
        ['192.0.2.8'],
    ),
    'the alias is the last record': (
        TYPES.A,
        [a(b'x', '192.0.2.4'), a(b'x', '192.0.2.3'), cname(OWNER, b'x')],
        {},
        ['192.0.2.4', '192.0.2.3'],
    ),
    'an alias and nothing else': (TYPES.A, [cname(OWNER, b'x')], {}, []),  # it is followed
    'YXDOMAIN': (TYPES.A, [], {'rcode': RCODES.YXDOMAIN}, ResponseCode),  # c-ares: no such record
    'many PTR': (
        TYPES.PTR,
        [rr(OWNER, TYPES.PTR, b'%d.example' % number) for number in range(10)],
        {},
        [f'{number}.example' for number in range(10)],
    ),
    'a PTR below an alias': (  # RFC 2317
        TYPES.PTR,
        [cname(OWNER, b'64.0-63.example'), rr(b'64.0-63.example', TYPES.PTR, b'other')],
        {},
        ['other'],
    ),
    'a PTR of another address': (TYPES.PTR, [rr(b'x', TYPES.PTR, b'y')], {}, DoesNotExist),
    # Go
    'a PTR and its signature': (
        TYPES.PTR,
        [rr(OWNER, TYPES.PTR, b'x.example'), rr(OWNER, TYPES.TXT, (b'PTR 8 6 60',))],
        {},
        ['x.example'],
    ),
    'no mail': (TYPES.MX, [rr(OWNER, TYPES.MX, module.MX(0, b''))], {}, ['0 .']),  # RFC 7505
    'a server of the root': (TYPES.NS, [rr(OWNER, TYPES.NS, b'i.example')], {}, ['i.example']),
    # Go joins them: here what is in a TXT record is left to the caller.
    'two strings': (
        TYPES.TXT,
        [rr(OWNER, TYPES.TXT, (b'one ', b'two')), rr(OWNER, TYPES.TXT, (b'a\0b',))],
        {},
        [(b'one ', b'two'), (b'a\0b',)],
    ),
    # Go leaves out what is no host name.
    'targets that are no host names': (
        TYPES.MX,
        [rr(OWNER, TYPES.MX, module.MX(0, name)) for name in (b'<html>', b'2001:db8::1', b'a b')],
        {},
        ['0 <html>.', '0 2001:db8::1.', r'0 a\032b.'],
    ),
    'an alias that is no host name': (
        TYPES.A,
        [cname(OWNER, b'<html>.example'), a(b'<html>.example')],
        {},
        ['192.0.2.1'],
    ),
    'NXDOMAIN without recursion': (TYPES.A, [], {'rcode': 3, 'ra': 0}, DoesNotExist),
    'nothing, but the authority says so': (TYPES.A, [], {'aa': 1, 'ra': 0}, DoesNotExist),
    'nothing, and no recursion': (TYPES.A, [], {'ra': 0}, BadResponse),
    'nothing but EDNS, and no recursion': (TYPES.A, [], {'ra': 0, 'ar': (OPT,)}, BadResponse),
    'success in the lower bits only': (
        TYPES.A,
        [a(OWNER)],
        {'ar': (OPT._replace(ttl=0x40000000),)},
        ResponseCode,
    ),
    'a referral with glue': (
        TYPES.A,
        [],
        {'ra': 0, 'ns': (EXAMPLE_NS,), 'ar': (a(b'ns.example.com'),)},
        BadResponse,
    ),
    # systemd-resolved
    'no address': (TYPES.A, [a(OWNER, '0.0.0.0')], {}, ['0.0.0.0']),  # accept_address is for that
    'an address of five octets': (TYPES.A, [rr(OWNER, TYPES.A, b'12345')], {}, MalformedMessage),
    'an address of three octets': (TYPES.A, [rr(OWNER, TYPES.A, b'123')], {}, MalformedMessage),
    'AAAA of four octets': (TYPES.AAAA, [rr(OWNER, TYPES.AAAA, b'1234')], {}, MalformedMessage),
    'a DNAME above it, and no CNAME': (
        TYPES.A,
        [rr(b'example.com', TYPES.DNAME, b'v2.example.com'), a(b'www.v2.example.com')],
        {},
        ['192.0.2.1'],
    ),
    'three aliases in disorder, the address first': (
        TYPES.A,
        [a(b'x'), cname(OWNER, b'one'), cname(b'two', b'x'), cname(b'one', b'two')],
        {},
        ['192.0.2.1'],
    ),
    'another class': (TYPES.A, [rr(OWNER, TYPES.A, b'1234', qclass=CLASSES.CH)], {}, DoesNotExist),
}


FOREIGN_TEXT = {TYPES.PTR: bytes.decode, TYPES.NS: bytes.decode, TYPES.TXT: tuple}


@pytest.mark.parametrize('title', FOREIGN_REPLIES)
def test_a_reply_of_other_resolvers_tests_says(title):
    qtype, answers, fields, expected = FOREIGN_REPLIES[title]
    try:
        outcome = read(*answers, qtype=qtype, **fields)
    except MalformedMessage as error:
        outcome = error
    if isinstance(outcome, module.NegativeAnswer):
        outcome = outcome.error
    if isinstance(expected, list):
        assert [FOREIGN_TEXT.get(qtype, str)(each) for each in outcome.records] == expected
    else:
        assert type(outcome) is expected


@pytest.mark.parametrize('rcode', [1, 2, 4, 5, 6, 9, 15])
@pytest.mark.parametrize('tc', [0, 1])
def test_an_error_is_a_response_code_truncated_or_not(rcode, tc):
    why = OPT._replace(rdata=((15, b'\0\x14full'),))
    outcome = read(a(b'www.example.com'), rcode=rcode, tc=tc, ar=(why,))
    assert (type(outcome), outcome.rcode) == (ResponseCode, rcode)
    assert str(outcome).endswith('(NOT-AUTHORITATIVE: full)')


@pytest.mark.parametrize('low, code', [(0, RCODES.BADVERS), (3, RCODES.BADMODE)])
def test_the_upper_bits_of_a_response_code_count(low, code):
    opt = ResourceRecord(b'', TYPES.OPT, 1232, 1 << 24, ())
    outcome = read(rcode=low, ns=(soa(b'com'),), ar=(opt,))
    assert (type(outcome), outcome.rcode) == (ResponseCode, code)


def test_nxdomain_wins_over_records():
    for records in ([a(b'www.example.com')], [cname(b'www.example.com', b'x.com'), a(b'x.com')]):
        outcome = read(*records, rcode=RCODES.NXDOMAIN, ns=(soa(b'com'),))
        assert type(outcome) is module.NegativeAnswer
        assert (outcome.records, outcome.is_cacheable) == ((), True)
        assert outcome.error.rcode == RCODES.NXDOMAIN


def test_records_are_answered_in_the_order_of_the_reply_however_their_owner_is_written():
    owners = [b'\xc0\x0c', b'\3WWW\xc0\x10', b'\xc0\x0c']
    records = [octets_of(1, b'\xc0\0\2%c' % last, each) for last, each in enumerate(owners)]
    answer = module.read_reply(QUERY, put_together(records), 0.0)
    assert texts(answer.records) == ['192.0.2.0', '192.0.2.1', '192.0.2.2']


def test_a_record_that_is_there_twice_is_answered_once():
    assert len(read(a(b'www.example.com'), a(b'www.example.com', ttl=50)).records) == 1
    mx = rr(b'www.example.com', TYPES.MX, module.MX(1, b'x'))
    assert read(mx, mx, qtype=TYPES.MX).records == ((1, b'x'),)


def test_a_truncated_reply_says_nothing_of_an_absence():
    for fields in ({}, {'rcode': RCODES.NXDOMAIN, 'ns': (soa(b'com'),)}, {'aa': 1}):
        (nothing,) = read(tc=1, **fields)
        assert isinstance(nothing, Truncated)
        assert nothing.message.tc == 1
    whole = read(a(b'www.example.com'))
    assert whole.is_cacheable
    assert read(a(b'www.example.com'), tc=1) == (whole._replace(is_cacheable=False),)
    (answer,) = read(cname(b'www.example.com', b'x'), tc=1, rcode=3, ns=(soa(b''),))
    assert type(answer) is module.Answer
    assert (answer.records, answer.is_cacheable, answer.alias.name) == ((), False, b'x')


def test_half_a_set_is_of_use_if_it_is_of_addresses():
    name = b'www.example.com'
    mx, alias = rr(name, TYPES.MX, module.MX(1, b'x')), cname(name, b'x')
    for records in ((mx,), (alias,), (alias, mx._replace(name=b'x'))):
        (error,) = outcome = read(*records, qtype=TYPES.MX, tc=1)
        assert (type(outcome), type(error)) == (module.TruncatedAnswer, Truncated)
        assert error.message.an == records


# Replies octet by octet: the question is at 12, and what stands behind it begins at 33.


def put_together(*sections, tc=0, rcode=0, query=QUERY):
    """A reply of records that are octets, in up to three sections."""
    counts = [len(section) for section in sections] + [0] * (3 - len(sections))
    octets = struct.pack('>HBBHHHH', 0, 0x80 | tc << 1, 0x80 | rcode, 1, *counts)
    records = b''.join(itertools.chain(*sections))
    return query.octets[:2] + octets[2:] + query.octets[12 : query.end] + records


def octets_of(rtype, rdata, owner=b'\xc0\x0c', rclass=1, ttl=60, length=None):
    length = len(rdata) if length is None else length
    return owner + struct.pack('>HHIH', rtype, rclass, ttl, length) + rdata


FOUND = octets_of(1, b'\xc0\0\2\1')
ROOT_OPT = octets_of(41, b'', b'\0', 1232, 0)


def is_found(reply):
    return texts(module.read_reply(QUERY, reply, 0.0).records) == ['192.0.2.1']


@pytest.mark.parametrize(
    'sections',
    [
        ([octets_of(1, b'\1\2\3', b'\xc0\x10'), FOUND],),
        ([octets_of(5, b'\xff', b'\xc0\x10'), FOUND],),
        ([octets_of(15, b''), FOUND],),
        ([octets_of(15, b'', b'\xc0\x0d'), FOUND],),  # its owner has a label of no known type
        ([octets_of(1, b'\1\2\3', rclass=3), FOUND],),
        ([octets_of(2, b'\xc0\xff'), FOUND],),
        ([FOUND], [octets_of(6, b'\0\0'), octets_of(2, b'', b'\0')]),
        ([FOUND], [], [octets_of(1, b'\1'), octets_of(28, b'', b'\1x\xc0\x10')]),
        ([FOUND], [], [octets_of(41, b'\0\x0f\0\xff', b'\0', 1232, 0)]),
        ([FOUND], [], [octets_of(41, b'\0', b'\0', 1232, 0)]),
        ([FOUND], [octets_of(16, b'\xff', b'\1' * 254 + b'\0'), octets_of(1, b'', b'\xc0\x0d')]),
    ],
)
def test_what_is_foreign_may_be_broken(sections):
    assert is_found(put_together(*sections))
    assert is_found(put_together(*sections) + b'trailing octets')
    assert is_found(put_together(*sections) + octets_of(41, b'', b'\0', 1, 1 << 24))


@pytest.mark.parametrize('at', [0x0FF, 0x105, 0x10C, 0x1000, 0x2105, 0x3F0C])
def test_a_pointer_in_a_reply_leads_anywhere_before_it(at):
    filler = octets_of(16, bytes(at - 33 - 12))
    pointer = struct.pack('>H', 0xC000 | at)
    target, unlike = octets_of(16, b'', b'\1t\0'), octets_of(1, b'\1\2\3\4', b'\1u\0')
    alias, address = octets_of(5, pointer), octets_of(1, b'\xc0\0\2\1', pointer)
    reply = put_together([filler, target, alias, unlike, address])
    assert reply[at : at + 3] == b'\1t\0'
    assert is_found(reply)
    assert module.read_reply(QUERY, reply, 0.0).alias.name == b't'
    reserved = struct.pack('>H', 0x8000 | at)
    for owner in (reserved, b'\1v' + reserved):
        record = octets_of(65280, b'', owner)
        with pytest.raises(MalformedMessage):
            module.read_reply(QUERY, put_together([filler, target, record]), 0.0)


@pytest.mark.parametrize('at', [0x205, 0x300, 0x3FFF])
def test_a_pointer_in_a_reply_does_not_lead_forwards(at):
    forwards = octets_of(65280, b'', b'\1x' + struct.pack('>H', 0xC000 | at))
    filler = octets_of(16, bytes(400))
    with pytest.raises(MalformedMessage):
        module.read_reply(QUERY, put_together([filler, forwards, FOUND]), 0.0)


@pytest.mark.parametrize(
    'qtype, record',
    [
        (TYPES.A, octets_of(1, b'\1\2\3')),
        (TYPES.A, octets_of(1, b'\1\2\3\4\5')),
        (TYPES.A, octets_of(1, b'\1\2\3', b'\3www\xc0\x10')),
        (TYPES.A, octets_of(5, b'')),
        (TYPES.A, octets_of(5, b'\1x')),
        (TYPES.A, octets_of(5, b'\1x\0\0')),
        (TYPES.A, octets_of(5, b'\xc0\x0b')),
        (TYPES.A, octets_of(5, b'\xc0\xff')),
        (TYPES.A, octets_of(5, b'\x40' + bytes(64))),
        (TYPES.A, octets_of(5, b'\1x' * 126 + b'\xc0\x10')),
        (TYPES.A, octets_of(39, b'', b'\xc0\x10')),
        (TYPES.AAAA, octets_of(28, b'\1\2\3\4')),
        (TYPES.MX, octets_of(15, b'\0')),
        (TYPES.MX, octets_of(15, b'\0\1\xff\xff')),
        (TYPES.SRV, octets_of(33, b'\0\1\0\2\0\3\0\0')),
    ],
)
def test_what_is_used_may_not_be_broken(qtype, record):
    query = module.to_query(QUESTION_A.name, qtype, module.EDNS_FORMS[0])
    for tc in (0, 1):
        with pytest.raises(MalformedMessage):
            module.read_reply(query, put_together([record], tc=tc, query=query), 0.0)
    absent = put_together([], [octets_of(6, bytes(21))], query=query)
    with pytest.raises(MalformedMessage):
        module.read_reply(query, absent, 0.0)


@pytest.mark.parametrize(
    'last',
    [
        b'',
        FOUND[:1],
        FOUND[:11],
        FOUND[:-1],
        octets_of(16, b'', length=1),
        octets_of(16, b'', b'\x40' + bytes(64)),
        octets_of(16, b'', b'\1x\x80\0'),
        octets_of(16, b'', b'\3'),
        octets_of(16, b'', b'\xff\xff'),
        octets_of(16, b'', b'\xc0\x0b'),
        octets_of(16, b'', b'\1x\xc0\x0b'),
        octets_of(16, b'', b'\xc0\x31'),  # itself
        octets_of(16, b'', b'\1x\xc0\x31'),
        octets_of(16, b'', b'\1x\xc0'),
    ],
)
@pytest.mark.parametrize('section', range(3))
def test_all_records_that_are_counted_are_whole_save_with_tc(last, section):
    sections = [FOUND], [], []
    sections[section].append(last)
    with pytest.raises(MalformedMessage):
        module.read_reply(QUERY, put_together(*sections), 0.0)
    (answer,) = module.read_reply(QUERY, put_together(*sections, tc=1), 0.0)
    assert (texts(answer.records), answer.is_cacheable) == (['192.0.2.1'], False)


def test_what_is_whole_in_a_cut_reply_with_tc_is_its_message():
    records = [octets_of(16, b'\1a'), octets_of(16, b'\1b')]
    (nothing,) = module.read_reply(QUERY, put_together(records, tc=1) + b'trailing', 0.0)
    assert len(nothing.message.an) == 2
    cut = put_together(records, tc=1)[:-1]
    (nothing,) = module.read_reply(QUERY, cut, 0.0)
    assert isinstance(nothing, Truncated)
    message = module.parse_answer(QUERY, cut, False)
    for one in (nothing.message, message):
        assert [record.rdata for record in one.an] == [(b'a',)]
        assert one.tc == 1


def test_a_cut_reply_is_read_to_its_last_whole_record_only_with_tc():
    answers = [a(b'www.example.com', f'192.0.2.{last}') for last in range(5)]
    octets = pack(reply_to(parse(QUERY.octets), *answers, tc=1, ar=()))
    for cut in range(1, 16):
        (answer,) = module.read_reply(QUERY, octets[:-cut], 0.0)
        assert answer.records == tuple(record.rdata for record in answers[:4])
        with pytest.raises(MalformedMessage):
            module.read_reply(QUERY, octets[:2] + b'\x80' + octets[3:-cut], 0.0)


def test_a_pointer_in_lower_case_leads_elsewhere():
    # Names at 0x4C and at 0x6C, which is 0x4C in lower case.
    names = bytes(0x4C - 45) + b'\1x\0'
    names += bytes(0x6C - 45 - len(names)) + b'\1y\0'
    filler = octets_of(16, names)
    for last, is_alias_of_it in ((b'\xc0\x4c', True), (b'\xc0\x6c', False), (b'\1X\0', True)):
        alias, found = octets_of(5, b'\xc0\x4c'), octets_of(1, b'\xc0\0\2\1', last)
        for records in itertools.permutations([alias, found]):
            outcome = module.read_reply(QUERY, put_together([filler, *records]), 0.0)
            assert bool(outcome.records) == is_alias_of_it
            assert outcome.alias.name == b'x'


def test_the_name_asked_for_is_recognised_however_it_is_written():
    for owner in (b'\3www\7example\3com\0', b'\3WwW\xc0\x10', b'\3www\7EXAMPLE\xc0\x18'):
        record = octets_of(1, b'\xc0\0\2\1', owner)
        assert is_found(put_together([record]))
        assert is_found(put_together([octets_of(1, b'\xc0\0\2\1', b'\xc0\x0c'), record]))
        pointed = octets_of(16, b'', b'\xc0\x0c'), octets_of(1, b'\xc0\0\2\1', b'\xc0\x21')
        assert is_found(put_together([*pointed]))


@pytest.mark.parametrize('tc', [0, 1])
def test_two_opt_records_are_malformed_if_the_root_owns_both(tc):
    of_another = octets_of(41, b'', b'\xc0\x0c', 1, 1 << 24)
    of_another_too = octets_of(41, b'', b'\1x\0', 1, 1 << 24)
    by_pointer = octets_of(41, b'', b'\xc0\x1c', 1232, 0)  # to the end of the question
    for opt in (ROOT_OPT, by_pointer):
        for pair in itertools.permutations([opt, ROOT_OPT]):
            with pytest.raises(MalformedMessage):
                module.read_reply(QUERY, put_together([FOUND], [], pair, tc=tc), 0.0)
    elsewhere = octets_of(41, b'', b'\0', 1, 1 << 24)
    assert is_found(put_together([FOUND]) + elsewhere)
    assert is_found(put_together([FOUND, elsewhere], [], [ROOT_OPT]))
    assert is_found(put_together([FOUND], [elsewhere], [ROOT_OPT]))
    assert is_found(put_together([FOUND, elsewhere, FOUND], [elsewhere], [ROOT_OPT]))
    several = put_together([FOUND, ROOT_OPT], [ROOT_OPT], [of_another, ROOT_OPT, of_another_too])
    assert is_found(several)
    assert parse(several).edns == OPT._replace(qclass=1232)


def test_an_opt_record_of_another_name_or_section_is_not_read():
    why = b'\0\x0f\0\3\0\6!'
    for owner, section, is_read in (
        (b'\0', 2, True),
        (b'\xc0\x1c', 2, True),
        (b'\1x\0', 2, False),
        (b'\xc0\x0c', 2, False),
        (b'\0', 0, False),
        (b'\0', 1, False),
    ):
        sections = [], [], []
        sections[section].append(octets_of(41, why, owner, 1, 1 << 24))
        outcome = module.read_reply(QUERY, put_together(*sections), 0.0)
        assert isinstance(outcome, ResponseCode if is_read else module.NegativeAnswer)
        assert ('(DNSSEC-BOGUS: !)' in str(outcome)) == is_read
        assert (parse(put_together(*sections)).edns is not None) == is_read


def test_an_error_tells_why_but_for_options_that_overrun():
    for options, text in ((b'\0\x0f\0\3\0\6!', '(DNSSEC-BOGUS: !)'), (b'\0\x0f\0\4\0\6!', '')):
        opt = octets_of(41, options, b'\0', 1232, 0)
        for trailing in (b'', bytes(20)):
            reply = put_together([], [], [opt], rcode=2) + trailing
            outcome = module.read_reply(QUERY, reply, 0.0)
            assert (type(outcome), outcome.rcode) == (ResponseCode, RCODES.SERVFAIL)
            said_more = str(outcome).removeprefix('The nameserver answered with SERVFAIL')
            assert said_more.strip() == text
    for length in (1, 40):
        cut = octets_of(41, b'', b'\0', 1232, 0, length=length)
        with pytest.raises(MalformedMessage):
            module.read_reply(QUERY, put_together([FOUND], [], [cut]), 0.0)


KEEPALIVE_OF_2_SECONDS = b'\0\x0b\0\2\0\x14'


@pytest.mark.parametrize(
    'sections, seconds',
    [
        (([FOUND], [], [octets_of(41, KEEPALIVE_OF_2_SECONDS, b'\0')]), 2.0),
        (([FOUND], [], [octets_of(41, b'\0\1\0\1x' + KEEPALIVE_OF_2_SECONDS, b'\0')]), 2.0),
        (([octets_of(1, b'')], [], [octets_of(41, KEEPALIVE_OF_2_SECONDS, b'\0')]), 2.0),
        (([FOUND], [], [octets_of(41, KEEPALIVE_OF_2_SECONDS, b'\1x\0')]), None),
        (([FOUND], [octets_of(41, KEEPALIVE_OF_2_SECONDS, b'\0')]), None),
        (([octets_of(16, KEEPALIVE_OF_2_SECONDS)], [], [ROOT_OPT]), None),
        (([octets_of(16, KEEPALIVE_OF_2_SECONDS)],), None),
        (([], [], [octets_of(41, KEEPALIVE_OF_2_SECONDS + b'\0', b'\0')]), None),
        (([], [], [octets_of(41, KEEPALIVE_OF_2_SECONDS, b'\0'), ROOT_OPT]), None),
        (([], [], [octets_of(41, KEEPALIVE_OF_2_SECONDS, b'\0', length=9)]), None),
        (([FOUND], [], [ROOT_OPT]), None),
    ],
)
def test_how_long_a_stream_is_kept_is_an_option_of_edns(sections, seconds):
    assert module.keepalive_of(put_together(*sections)) == seconds


def test_how_long_a_stream_is_kept_is_not_found_in_what_is_no_message():
    for octets in (
        KEEPALIVE_OF_2_SECONDS,
        header(qd=1) + KEEPALIVE_OF_2_SECONDS,
        header(qd=1) + b'\6' + KEEPALIVE_OF_2_SECONDS,
        header(qd=1) + KEEPALIVE_OF_2_SECONDS + b'\0',
        header(qd=1) + b'\xff' + KEEPALIVE_OF_2_SECONDS,
        header(ar=1) + KEEPALIVE_OF_2_SECONDS,
    ):
        assert module.keepalive_of(octets) is None


def hurtful_replies():
    """Replies of up to 64 KiB, each made to cost as much as it can."""
    names = [b'\xc0\x0c', *[b'\2%c%c\0' % divmod(number, 256) for number in range(3600)]]
    links = [octets_of(5, target, owner) for owner, target in itertools.pairwise(names)]
    yield 'CNAMEs in order', put_together(links)
    yield 'CNAMEs in reverse', put_together(links[::-1])
    # Each owner and each target is a pointer to the target before.
    targets = [b'\xc0\x0c', *[struct.pack('>H', 0xC000 | at) for at in range(45, 0x4000, 14)]]
    links = [octets_of(5, target, target) for target in targets + targets[-1:] * 3277]
    yield '4,448 CNAMEs by pointers to pointers', put_together(links)
    long = b'\1a' * 126 + b'\0'
    yield 'labels', put_together([octets_of(5, long, long)] * 124)
    pointers = octets_of(5, long) + octets_of(5, b'\xc0\x2d', b'\xc0\x2d') * 4600
    yield 'pointers to a long name', put_together([pointers[:265], *[pointers[265:279]] * 4600])
    # Pointers in rdata, each to the one before, and owners that are the last of them.
    chain = b'\0' + b''.join(struct.pack('>H', 0xC000 | at) for at in [45, *range(46, 8190, 2)])
    last = struct.pack('>H', 0xC000 | 45 + len(chain) - 2)
    for rtype in (1, 5, 39, 6, 41):
        pointed = [octets_of(10, chain), *[octets_of(rtype, b'', last)] * 4000]
        for section in range(3):
            sections = [], [], []
            sections[section].extend(pointed)
            yield f'{rtype} by pointers to pointers in {section}', put_together(*sections)
    overlapping = (b'\1' * 252 + b'\0') * 60
    starts = [45 + at for at in range(len(overlapping)) if at % 253 % 2 == 0][:3800]
    for rtype in (5, 39, 6):
        owners = [octets_of(rtype, b'', struct.pack('>H', 0xC000 | at)) for at in starts]
        pointed = [octets_of(10, overlapping), *owners]
        yield (
            f'{rtype} of overlapping names',
            put_together(*([pointed] if rtype != 6 else [[], pointed])),
        )
    # A long name that is replaced again and again, below many owners that it is not below.
    dnames = [octets_of(39, b'\1a\0', b'\2%c%c\0' % divmod(at, 256)) for at in range(3500)]
    circle = octets_of(5, b'\1b' * 120 + b'\1a\0') + octets_of(39, b'\1a\0', b'\1a\0')
    yield 'DNAMEs', put_together([*dnames, circle[:254], circle[254:]])
    zones = [octets_of(6, b'', b'\2%c%c\0' % divmod(at, 256)) for at in range(4000)]
    yield 'SOAs', put_together([octets_of(5, long)], zones)
    yield (
        'addresses',
        put_together([octets_of(1, bytes(2) + struct.pack('>H', at)) for at in range(4000)]),
    )
    yield 'the root', put_together([b'\0' * 11] * 5900)
    yield (
        'nothing of what is counted',
        header(qd=1, an=65535, ns=65535, ar=65535)[:12] + QUERY.octets[12 : QUERY.end],
    )
    options = octets_of(41, b'\0\x0f\0\2\0\0' * 10900, b'\0')
    yield 'options', put_together([], [], [options], rcode=2)


@pytest.mark.parametrize(
    'title, octets', list(hurtful_replies()), ids=lambda value: repr(value)[:40]
)
def test_a_reply_made_to_hurt_costs_no_more_than_its_octets(title, octets):
    octets = QUERY.octets[:2] + octets[2:]
    assert len(octets) <= 65535
    assert lines_run(module.read_reply, QUERY, octets, 0.0) < 6 * len(octets) + 10_000
    assert lines_run(module.keepalive_of, octets + KEEPALIVE_OF_2_SECONDS) < 12 * len(octets)


def test_an_error_without_an_extended_one_says_no_more_than_its_code():
    for option in (b'', b'\0\x0a\0\x08' + bytes(8), b'\0\x0f\0\1x', b'\0\x0f\0\xffx'):
        reply = put_together([], [], [octets_of(41, option, b'\0')], rcode=2)
        outcome = module.read_reply(QUERY, reply, 0.0)
        assert str(outcome) == 'The nameserver answered with SERVFAIL'


def test_a_name_made_to_hurt_costs_little_memory():
    octets = put_together([octets_of(5, b'\1a' * 16_000 + b'\0')])
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            module.read_reply(QUERY, octets, 0.0)
        assert tracemalloc.get_traced_memory()[1] < 100 * len(octets)
    finally:
        tracemalloc.stop()


def with_options(*options):
    """A reply that has these EDNS options, as it is read."""
    return parse(pack(make_query('x', TYPES.A, options=options)._replace(qr=RESPONSE)))


def test_options_have_names():
    message = with_options((10, b'12345678'), (65001, b''))
    assert message.edns.rdata == ((module.EDNS_OPTIONS.COOKIE, b'12345678'), (65001, b''))
    assert [str(code) for code, _ in message.edns.rdata] == ['COOKIE', '65001']


def test_extended_errors_are_what_the_server_says():
    message = with_options(
        (15, b'\0\6no DS\0'), (3, b'ns1'), (15, b'\0\x16'), (15, b'\xff\xff\xc3\xa4')
    )
    errors = module.extended_errors(message)
    assert errors == (
        (module.EDE.DNSSEC_BOGUS, 'no DS'),
        (module.EDE.NO_REACHABLE_AUTHORITY, ''),
        (65535, 'ä'),
    )
    assert str(errors[0].info_code) == 'DNSSEC-BOGUS'
    assert module.extended_errors(make_query('x', TYPES.A, payload=None)) == ()


@pytest.mark.parametrize(
    'octets, text',
    [
        (b'a\r\nb\x1b[31m', 'a\\r\\nb\\x1b[31m'),
        (b'\0a\0\0', '\\x00a'),
        ('\u202eb\u2028'.encode(), '\\u202eb\\u2028'),
        (b'\xff\xc3(', '\ufffd\ufffd('),
        (b'x' * 60000, 'x' * module.MAX_EXTRA_TEXT),
    ],
)
def test_what_a_server_writes_is_one_bounded_line(octets, text):
    assert module.extended_errors(with_options((15, b'\0\0' + octets))) == ((0, text),)


@pytest.mark.parametrize('octets', [b'', b'\0'])
def test_an_extended_error_without_a_code_is_passed_over(octets):
    assert module.extended_errors(with_options((15, octets), (15, b'\0\5'))) == ((5, ''),)


@given(st.lists(st.binary(max_size=400), max_size=5), st.integers(1, 50))
def test_a_stream_is_cut_into_its_messages_however_it_comes(messages, size):
    octets = b''.join([module.to_frame(message) for message in messages])
    expected = [(message[:2], message) for message in messages]
    frames = module.Frames()
    taken = []
    for at in range(0, len(octets), size):
        taken += frames.take(octets[at : at + size])
    assert taken == expected
    assert frames.incoming == b''
    assert frames.take(octets + b'\1') == expected
    assert frames.incoming == b'\1'


def test_a_header_alone_is_a_message_that_nobody_asked_for():
    assert isinstance(module.unsolicited(header()), BadResponse)
    assert isinstance(module.unsolicited(header()[:11]), MalformedMessage)


def test_a_message_may_have_another_in_it():
    inner = module.to_frame(b'ab')
    for size in range(6):
        frames = module.Frames()
        octets = module.to_frame(inner)
        messages = [*frames.take(octets[:size]), *frames.take(octets[size:])]
        assert messages == [(inner[:2], inner)]


def test_a_question_is_told_apart_in_any_letter_case():
    name = b'one.example'
    query = module.to_query(name, TYPES.HTTPS, module.EDNS_FORMS[0])
    reply = reply_to(parse(query.octets))
    assert module.has_question(query, pack(reply))
    upper = reply.qd[0]._replace(name=b'ONE.Example')
    assert module.has_question(query, pack(reply._replace(qd=(upper,))))
    assert module.has_question(query, pack(folded(reply)))
    assert not module.has_question(query, pack(reply._replace(qd=())))
    for other in ((b'two.example', TYPES.HTTPS), (name, TYPES.HTTPS | 0x20)):
        asked = module.to_query(*other, module.EDNS_FORMS[0])
        assert not module.has_question(query, pack(reply_to(parse(asked.octets))))


# --- 10. TSIG ----------------------------------------------------------------

NOW = 1_700_000_000
KEY = Key('Key.example', bytes(range(32)))
OTHER_KEY = Key('key.example', b'another secret')
KEYRING = {KEY.name: KEY}
HASHES = {  # by algorithm: its hash, and how many octets a MAC has
    'hmac-md5.sig-alg.reg.int': ('md5', 16),
    'hmac-sha1': ('sha1', 20),
    'hmac-sha224': ('sha224', 28),
    'hmac-sha256': ('sha256', 32),
    'hmac-sha256-128': ('sha256', 16),
    'hmac-sha384': ('sha384', 48),
    'hmac-sha384-192': ('sha384', 24),
    'hmac-sha512': ('sha512', 64),
    'hmac-sha512-256': ('sha512', 32),
}
ASKED = make_query('www.example', TYPES.TXT, qid=0x1234)
REQUEST, REQUEST_MAC = sign(ASKED, KEY, b'', NOW)
REPLY = pack(reply_to(ASKED, rr(b'www.example', TYPES.TXT, (b'text',))))
NOTAUTH = pack(reply_to(ASKED, rcode=RCODES.NOTAUTH))
KEY_NAME = b'\3key\7example\0'
SHA256 = b'\x0bhmac-sha256\0'


def with_one_more(octets, record, section=10):
    """A message with another record at its end, counted in a section."""
    (count,) = struct.unpack_from('>H', octets, section)
    return octets[:section] + struct.pack('>H', count + 1) + octets[section + 2 :] + record


def signed_by_hand(
    octets,
    prior_mac=REQUEST_MAC,
    unsigned=(),  # messages before it, on a stream
    *,
    key=KEY,
    at=NOW,
    fudge=300,
    error=0,
    other=b'',
    size=None,
    owner=KEY_NAME,
    algorithm=SHA256,
    qclass=255,
    ttl=0,
    tail=b'',
    is_later=False,
):
    """A message as another hand than the module's signs it, as odd as is wanted."""
    mac = hmac.new(key.secret, digestmod=HASHES[key.algorithm.decode()][0])
    if prior_mac:
        mac.update(struct.pack('>H', len(prior_mac)) + prior_mac)
    timers = at.to_bytes(6, 'big') + struct.pack('>H', fudge)
    rest = struct.pack('>HH', error, len(other)) + other
    mac.update(b''.join(unsigned) + octets)
    if is_later:
        mac.update(timers)
    else:
        mac.update(KEY_NAME + b'\0\xff\0\0\0\0' + algorithm.lower() + timers + rest)
    mac = mac.digest()[:size]
    rdata = algorithm + timers + struct.pack('>H', len(mac)) + mac + octets[:2] + rest + tail
    return with_one_more(
        octets, owner + struct.pack('>HHIH', 250, qclass, ttl, len(rdata)) + rdata
    )


def mac_in(octets):
    return parse(octets).ar[-1].rdata.mac


def refusal_of(octets, keyring=KEYRING, request_mac=REQUEST_MAC, now=NOW):
    """Why a message is refused: the number of the error, FORMERR where it is malformed."""
    with pytest.raises((BadSignature, MalformedMessage)) as raised:
        module.verify(octets, keyring, request_mac, now)
    error = raised.value
    return RCODES.FORMERR if isinstance(error, MalformedMessage) else error.error


SIGNED = signed_by_hand(REPLY)
TSIG_AT = len(REPLY)
TSIG_NAMES = *range(TSIG_AT, TSIG_AT + 13), *range(TSIG_AT + 23, TSIG_AT + 36)


def read_signed(octets):
    """What the query functions make of a reply to the signed request."""
    message = module.parse_answer(module.query_in(REQUEST), octets, False)
    module.verify(octets, KEYRING, REQUEST_MAC, NOW)
    return message


def test_any_flipped_bit_of_a_signed_reply_is_refused():
    message = read_signed(SIGNED)
    assert message.an[0].rdata == (b'text',)
    assert message.ar[-1].qtype == TYPES.TSIG
    in_letter_case = 0  # of names in the TSIG record, where it says nothing
    for bit in range(len(SIGNED) * 8):
        octets = bytearray(SIGNED)
        octets[bit // 8] ^= 1 << bit % 8
        if bit // 8 in TSIG_NAMES and bit % 8 == 5 and octets[bit // 8 : bit // 8 + 1].isalpha():
            read_signed(bytes(octets))
            in_letter_case += 1
        else:
            with pytest.raises((BadSignature, BadResponse, MalformedMessage)):
                read_signed(bytes(octets))
    assert in_letter_case == len('keyexamplehmacsha')


def in_lower_case(octets):
    """A signed reply with the names in its signature in lower case."""
    return bytes(
        octet | 0x20 if at in TSIG_NAMES and octet in range(0x41, 0x5B) else octet
        for at, octet in enumerate(octets)
    )


@pytest.mark.long
def test_100_000_mutated_signed_replies_are_refused():
    draw = random.Random(8945)
    for _ in range(100_000):
        octets = mutated(SIGNED, draw)
        if in_lower_case(octets) != SIGNED:
            with pytest.raises((BadSignature, BadResponse, MalformedMessage)):
                read_signed(octets)


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
@example(b'', 0, 0, 0)
def test_any_octets_are_refused(octets, qd, an, ar):
    for data in (octets, header(qd, an, 0, ar) + octets, REPLY + octets, SIGNED[:-9] + octets):
        if not data.startswith(SIGNED):
            with pytest.raises((BadSignature, MalformedMessage)):
                module.verify(data, KEYRING, REQUEST_MAC, NOW)


OTHER_RECORD = wire_record(1, b'\1\2\3\4', name=b'\0')
NO_ADDITIONAL = pack(reply_to(ASKED)._replace(ar=()))
REFUSED = {
    'there is none': (REPLY, None),
    'no message': (b'', RCODES.FORMERR),
    'no header': (SIGNED[:11], RCODES.FORMERR),
    'cut short': (SIGNED[:-1], RCODES.FORMERR),
    'cut in its head': (SIGNED[: TSIG_AT + 15], RCODES.FORMERR),
    'cut before it': (SIGNED[:TSIG_AT], RCODES.FORMERR),
    'cut in its other data': (signed_by_hand(REPLY, other=b'other')[:-1], RCODES.FORMERR),
    'not the last': (with_one_more(SIGNED, OTHER_RECORD), RCODES.FORMERR),
    'two': (with_one_more(SIGNED, SIGNED[TSIG_AT:]), RCODES.FORMERR),
    'two, the second of both': (signed_by_hand(SIGNED), RCODES.FORMERR),
    'as an answer': (with_one_more(NO_ADDITIONAL, SIGNED[TSIG_AT:], 6), RCODES.FORMERR),
    'as an authority': (with_one_more(NO_ADDITIONAL, SIGNED[TSIG_AT:], 8), RCODES.FORMERR),
    'of class IN': (signed_by_hand(REPLY, qclass=1), RCODES.FORMERR),
    'with a TTL': (signed_by_hand(REPLY, ttl=1), RCODES.FORMERR),
    'more in its rdata': (signed_by_hand(REPLY, tail=b'\0'), RCODES.FORMERR),
    'its owner is a pointer to itself': (
        signed_by_hand(REPLY, owner=struct.pack('>H', 0xC000 | TSIG_AT)),
        RCODES.FORMERR,
    ),
    'its owner has a label of another type': (
        signed_by_hand(REPLY, owner=b'\x41' + b'a' * 65 + b'\0'),
        RCODES.FORMERR,
    ),
    'no rdata': (with_one_more(REPLY, wire_record(250, b'', 255, KEY_NAME, 0)), RCODES.FORMERR),
    'no MAC': (signed_by_hand(REPLY, size=0), RCODES.FORMERR),
    'a MAC of one octet': (signed_by_hand(REPLY, size=1), RCODES.FORMERR),
    'a MAC of less than half': (signed_by_hand(REPLY, size=15), RCODES.FORMERR),
    'a MAC of half': (signed_by_hand(REPLY, size=16), RCODES.BADTRUNC),
    'a MAC without its last octet': (signed_by_hand(REPLY, size=31), RCODES.BADTRUNC),
    'a short MAC that is wrong': (signed_by_hand(REPLY, size=16, key=OTHER_KEY), RCODES.BADSIG),
    'a MAC of another hash': (
        signed_by_hand(REPLY, key=Key(KEY.name, KEY.secret, 'hmac-sha512')),
        RCODES.FORMERR,
    ),
    'of no request': (signed_by_hand(REPLY, b''), RCODES.BADSIG),
    'of another request': (signed_by_hand(REPLY, bytes(32)), RCODES.BADSIG),
    'of another key': (signed_by_hand(REPLY, owner=b'\5other\7example\0'), RCODES.BADKEY),
    'of another algorithm': (signed_by_hand(REPLY, algorithm=b'\x09hmac-sha1\0'), RCODES.BADKEY),
    'of no algorithm': (signed_by_hand(REPLY, algorithm=b'\0'), RCODES.BADKEY),
    'of another secret': (signed_by_hand(REPLY, key=OTHER_KEY), RCODES.BADSIG),
    'digested as a later one': (signed_by_hand(REPLY, is_later=True), RCODES.BADSIG),
    'too old': (signed_by_hand(REPLY, at=NOW - 301), RCODES.BADTIME),
    'too new': (signed_by_hand(REPLY, at=NOW + 301), RCODES.BADTIME),
    'an hour old': (signed_by_hand(REPLY, at=NOW - 3600), RCODES.BADTIME),
    'an hour new': (signed_by_hand(REPLY, at=NOW + 3600), RCODES.BADTIME),
    'of the last of seconds': (signed_by_hand(REPLY, at=(1 << 48) - 1), RCODES.BADTIME),
    'of 1970': (signed_by_hand(REPLY, at=0, fudge=65535), RCODES.BADTIME),
    'no fudge, a second old': (signed_by_hand(REPLY, at=NOW - 1, fudge=0), RCODES.BADTIME),
    'old, and of another secret': (signed_by_hand(REPLY, at=0, key=OTHER_KEY), RCODES.BADSIG),
    'old, and its MAC short': (signed_by_hand(REPLY, at=0, size=16), RCODES.BADTIME),
}


@pytest.mark.parametrize('octets, error', REFUSED.values(), ids=REFUSED)
def test_a_message_that_is_not_signed_as_it_has_to_be_is_refused(octets, error):
    assert refusal_of(octets) == error


@pytest.mark.parametrize('algorithm', HASHES)
def test_a_mac_has_the_length_that_the_algorithm_says(algorithm):
    hash_name, size = HASHES[algorithm]
    key = Key(KEY.name, KEY.secret, algorithm)
    least = max(10, hashlib.new(hash_name).digest_size // 2)
    for length in range(hashlib.new(hash_name).digest_size + 1):
        octets = signed_by_hand(
            REPLY, key=key, size=length, algorithm=module.pack_name(key.algorithm)
        )
        if length == size:
            module.verify(octets, {key.name: key}, REQUEST_MAC, NOW)
        else:
            expected = RCODES.BADTRUNC if least <= length < size else RCODES.FORMERR
            assert refusal_of(octets, {key.name: key}) == expected


FORWARDED = b'\x99\x99' + SIGNED[2:]  # with another id, as a forwarder may send it
ACCEPTED = {
    'as it is': SIGNED,
    'five minutes old': signed_by_hand(REPLY, at=NOW - 300),
    'five minutes new': signed_by_hand(REPLY, at=NOW + 300),
    'no fudge, at the moment': signed_by_hand(REPLY, fudge=0),
    'much fudge': signed_by_hand(REPLY, at=NOW - 65535, fudge=65535),
    'the key in another letter case': signed_by_hand(REPLY, owner=b'\3KEY\7eXample\0'),
    'the algorithm in another letter case': signed_by_hand(REPLY, algorithm=SHA256.upper()),
    'the key compressed': signed_by_hand(REPLY, owner=b'\3key\xc0\x10'),
    'another id': FORWARDED,
    'other data that the MAC vouches for': signed_by_hand(REPLY, other=b'x' * 60000),
    'octets after it': SIGNED + b'\0',  # which `parse` refuses, unless they are to be ignored
}


@pytest.mark.parametrize('octets', ACCEPTED.values(), ids=ACCEPTED)
def test_a_message_that_is_signed_in_an_odd_way_is_accepted(octets):
    module.verify(octets, KEYRING, REQUEST_MAC, NOW)


@pytest.mark.parametrize('name', [b'a\\.b.\\000\\255.example', b'', b'\\065.example', 'x' * 63])
def test_a_key_may_have_any_name(name):
    key = Key(name, b'secret')
    octets, mac = sign(ASKED, Key(name.upper(), b'secret'), b'', NOW)
    module.verify(octets, {key.name: key}, b'', NOW)
    assert parse(octets).ar[-1].name == key.name == module.to_name(name).lower()
    assert mac_in(octets) == mac


def hurtful_signatures():
    """Messages of 64 KiB that may be signed, each made to cost as much as it can."""
    yield from hurtful()
    chain = b'\0' + b''.join(struct.pack('>H', 0xC000 | at) for at in [23, *range(24, 8190, 2)])
    last = struct.pack('>H', 0xC000 | 23 + len(chain) - 2)
    pointed = header(an=1) + wire_record(10, chain, name=b'\0')
    yield 'the key is a pointer to pointers', signed_by_hand(pointed, owner=last)
    yield (
        'a huge MAC',
        with_one_more(
            REPLY,
            wire_record(250, SHA256 + bytes(8) + b'\xfd\xe8' + bytes(65000 + 6), 255, KEY_NAME, 0),
        ),
    )
    yield 'huge other data', signed_by_hand(REPLY, other=bytes(65000))
    yield 'many of them', header(ar=3000) + SIGNED[TSIG_AT:] * 600
    yield 'records', signed_by_hand(header(ar=5900) + wire_record(1, b'', name=b'\0') * 5900)


@pytest.mark.parametrize(
    'title, octets', list(hurtful_signatures()), ids=lambda value: repr(value)[:24]
)
def test_a_signature_made_to_hurt_costs_no_more_than_its_octets(title, octets):
    def verify(octets):
        with contextlib.suppress(BadSignature):
            module.verify(octets[:65535], KEYRING, REQUEST_MAC, NOW)

    assert lines_run(verify, octets) < 12 * len(octets)


def test_what_the_server_says_is_wrong_is_told():
    def told(octets):
        with pytest.raises(BadSignature) as raised:
            module.verify(octets, KEYRING, REQUEST_MAC, NOW)
        assert raised.value.error == parse(octets).ar[-1].rdata.error
        return str(raised.value)

    badkey = signed_by_hand(NOTAUTH, size=0, error=17)
    assert told(badkey) == 'The server says BADKEY, and does not sign that'
    badsig = signed_by_hand(NOTAUTH, size=0, error=16)
    assert told(badsig) == 'The server says BADSIG, and does not sign that'
    theirs = (NOW + 3600).to_bytes(6, 'big')
    badtime = signed_by_hand(NOTAUTH, error=18, other=theirs)
    assert told(badtime) == 'The server says BADTIME (its clock is 3600 seconds ahead)'
    behind = signed_by_hand(NOTAUTH, error=18, other=(NOW - 7).to_bytes(6, 'big'))
    assert told(behind) == 'The server says BADTIME (its clock is 7 seconds behind)'
    assert told(signed_by_hand(NOTAUTH, error=18)) == 'The server says BADTIME'
    assert told(signed_by_hand(NOTAUTH, error=22)) == 'The server says BADTRUNC'
    assert told(signed_by_hand(NOTAUTH, error=4711)) == 'The server says 4711'
    forged = signed_by_hand(NOTAUTH, error=18, other=theirs, key=OTHER_KEY)
    assert refusal_of(forged) == RCODES.BADSIG
    with pytest.raises(BadSignature, match='not signed, and says NOTAUTH') as raised:
        module.verify(NOTAUTH, KEYRING, REQUEST_MAC, NOW)
    assert raised.value.error is None
    with pytest.raises(BadSignature, match=r'other\.example\. hmac-sha256\. \(BADKEY'):
        module.verify(REFUSED['of another key'][0], KEYRING, REQUEST_MAC, NOW)
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (copied.args, copied.error) == (raised.value.args, None)


def test_a_request_may_be_unsigned_but_not_wrongly_signed():
    module.verify(pack(ASKED), KEYRING, b'', NOW)
    module.verify(REQUEST, KEYRING, b'', NOW)
    assert refusal_of(REQUEST, {}, b'') == RCODES.BADKEY
    assert refusal_of(REQUEST, {KEY.name: OTHER_KEY}, b'') == RCODES.BADSIG
    assert refusal_of(REQUEST, {KEY.name: Key('else.example', KEY.secret)}, b'') == RCODES.BADKEY
    assert refusal_of(REQUEST, KEYRING, b'', NOW + 3600) == RCODES.BADTIME
    assert refusal_of(REQUEST, KEYRING, REQUEST_MAC) == RCODES.BADSIG


# What BIND's dig and named signed, by tests of Kea's. By what it is: the id, flags, the question,
# an answer, the key, the MAC of the request, when it was signed, and the MAC.
MD5_KEY = Key('www.example.com', 'SFuWd/q99SzF8Yzd1QbB9g==', 'hmac-md5')
SHA1_KEY = Key('www.example.com', 'MA+QDhXbyqUak+qnMFyTyEirzng=', 'hmac-sha1')
SERIAL = 2011041503, 7200, 3600, 2592000, 1200
ZONE_SOA = module.LAYOUTS[TYPES.SOA].record(b'ns.example.com', b'root.example.com', *SERIAL)
VECTORS_OF_BIND = {
    'query': (
        *(MD5_KEY, 0x4DA8877A, '', '227026ad297beee721ce6c6fff1e9ef3'),
        Message(0x2D65, 0, 0, 0, 0, 1, 0, 0, 0, ((b'www.example.com', 1, 1),), (), (), ()),
    ),
    'query with SHA-1': (
        *(SHA1_KEY, 0x4DAE7D5F, '', '415340c7daf824ed684ee586f7b5a67a2febc0d3'),
        Message(0x0967, 0, 0, 0, 0, 1, 0, 0, 0, ((b'www.example.com', 1, 1),), (), (), ()),
    ),
    'reply': (
        *(MD5_KEY, 0x4DA8877A, '227026ad297beee721ce6c6fff1e9ef3'),
        '8fcda66a7cd1a3b9948eb1869d384a9f',
        Message(
            *(0x2D65, 1, 0, 1, 0, 1, 0, 0, 0, ((b'www.example.com', 1, 1),)),
            *((a(b'www.example.com', ttl=86400),), (), ()),
        ),
    ),
    'transfer': (
        *(MD5_KEY, 0x4DA8E951, '', '35b2fd08268781634400c7c8a5533b13'),
        Message(0x3410, 0, 0, 0, 0, 0, 0, 0, 0, ((b'example.com', 252, 1),), (), (), ()),
    ),
    'first message of it': (
        *(MD5_KEY, 0x4DA8E951, '35b2fd08268781634400c7c8a5533b13'),
        'bdd612cd2c7f9e0648bd6dc23713e83c',
        Message(
            *(0x3410, 1, 0, 1, 0, 0, 0, 0, 0, ((b'example.com', 252, 1),)),
            *((rr(b'example.com', TYPES.SOA, ZONE_SOA, 86400),), (), ()),
        ),
    ),
}


@pytest.mark.parametrize(
    'key, at, request_mac, mac, message', VECTORS_OF_BIND.values(), ids=VECTORS_OF_BIND
)
def test_a_message_is_signed_as_by_bind(key, at, request_mac, mac, message):
    octets, ours = sign(message, key, bytes.fromhex(request_mac), at)
    assert ours.hex() == mac
    assert parse(octets)._replace(ar=()) == message
    module.verify(octets, {key.name: key}, bytes.fromhex(request_mac), at)
    upper = Key(key.name.upper(), key.secret, key.algorithm.upper())
    assert sign(message, upper, bytes.fromhex(request_mac), at) == (octets, ours)


def test_a_stream_is_verified_as_bind_signs_it():
    key, at, request_mac, _, message = VECTORS_OF_BIND['first message of it']
    first, prior_mac = sign(message, key, bytes.fromhex(request_mac), at)
    answer = rr(b'example.com', TYPES.NS, b'ns.example.com', 86400)
    second = pack(message._replace(qd=(), an=(answer,)))
    md5 = b'\x08hmac-md5\x07sig-alg\x03reg\x03int\0'
    owner = b'\3www\7example\3com\0'
    signed = signed_by_hand(
        second, prior_mac, key=key, at=at, owner=owner, algorithm=md5, is_later=True
    )
    assert mac_in(signed).hex() == '102458f7f62ddd7d638d746034130968'
    verifier = module.Verifier(key, bytes.fromhex(request_mac), lambda: at)
    verifier.take(first)
    verifier.take(signed)
    verifier.finish()


def test_a_bad_time_is_told_as_by_bind():
    query = Message(0x7FC4, 0, 0, 0, 0, 0, 0, 0, 0, ((b'www.example.com', 6, 1),), (), (), ())
    _, request_mac = sign(query, MD5_KEY, b'', 0x4DA8B9D6)
    rdata = module.LAYOUTS[TYPES.TSIG].record(
        *(MD5_KEY.algorithm, 0x4DA8B9D6, 300, bytes.fromhex('d4b043f6f44495ec8a01260e39159d76')),
        *(0x7FC4, 18, bytes.fromhex('00004da8be86')),
    )
    record = ResourceRecord(b'www.example.com', TYPES.TSIG, CLASSES.ANY, 0, rdata)
    reply = pack(query._replace(qr=1, rcode=9, ar=(record,)))
    with pytest.raises(BadSignature, match='its clock is 1200 seconds ahead'):
        module.verify(reply, {MD5_KEY.name: MD5_KEY}, request_mac, 0x4DA8B9D6)


def keys_of(algorithm):
    """A key, and the same of dnspython's."""
    secret = bytes(range(40))
    name = dns.name.from_text('Key.Example')
    return Key('key.example.', secret, algorithm), dns.tsig.Key(name, secret, algorithm)


@pytest.mark.parametrize('algorithm', HASHES)
def test_dnspython_verifies_what_is_signed_and_signs_what_is_verified(algorithm):
    key, theirs = keys_of(algorithm)
    octets, mac = sign(make_query('www.example', TYPES.A), key)
    assert len(mac) == HASHES[algorithm][1]
    query = dns.message.from_wire(octets, keyring=theirs)
    assert query.mac == mac
    reply = dns.message.make_response(query)
    module.verify(reply.to_wire(), {key.name: key}, mac, time.time())
    assert refusal_of(reply.to_wire(), {key.name: key}, mac, time.time() + 3600) == RCODES.BADTIME

    query = dns.message.make_query('www.example', 'A')
    query.use_tsig(theirs)
    octets = query.to_wire()
    module.verify(octets, {key.name: key}, b'', time.time())
    message = parse(octets)
    reply, _ = sign(reply_to(message, a(b'www.example'), ar=()), key, message.ar[-1].rdata.mac)
    assert dns.message.from_wire(reply, keyring=theirs, request_mac=query.mac).had_tsig
    wrong = Key(key.name, b'wrong', key.algorithm)
    reply, _ = sign(reply_to(message, a(b'www.example'), ar=()), wrong, query.mac)
    with pytest.raises(dns.tsig.BadSignature):
        dns.message.from_wire(reply, keyring=theirs, request_mac=query.mac)


@pytest.mark.parametrize('algorithm', HASHES)
def test_a_stream_is_verified_as_dnspython_signs_it(algorithm):
    key, theirs = keys_of(algorithm)
    octets, mac = sign(make_query('example', TYPES.AXFR), key)
    query = dns.message.from_wire(octets, keyring=theirs)
    verifier = module.Verifier(key, mac)
    context = None
    for _ in range(5):
        message = dns.message.make_response(query)
        octets = message.to_wire(multi=True, tsig_ctx=context)
        context = message.tsig_ctx
        verifier.take(octets)
        unsigned = pack(reply_to(make_query('example', TYPES.AXFR)))
        context.update(unsigned)
        verifier.take(unsigned)
        with pytest.raises(BadSignature, match='last message'):
            verifier.finish()
    verifier.take(dns.message.make_response(query).to_wire(multi=True, tsig_ctx=context))
    verifier.finish()


def messages_of_stream(is_signed, **how):
    """Messages of a stream, each signed or not; `how` is for those after the first."""
    prior_mac = REQUEST_MAC
    unsigned = []
    messages = []
    for number, signed in enumerate(is_signed):
        octets = pack(reply_to(ASKED, rr(b'www.example', TYPES.TXT, (b'%d' % number,))))
        if signed:
            later = how | {'is_later': True} if number else {}
            messages.append(signed_by_hand(octets, prior_mac, unsigned, **later))
            prior_mac = mac_in(messages[-1])
            unsigned = []
        else:
            messages.append(octets)
            unsigned.append(octets)
    return messages


def verify_stream(messages, request_mac=REQUEST_MAC):
    verifier = module.Verifier(KEY, request_mac, lambda: NOW)
    for octets in messages:
        verifier.take(octets)
    verifier.finish()


def test_of_a_stream_the_first_the_last_and_one_in_a_hundred_are_signed():
    verify_stream(messages_of_stream([True]))
    verify_stream(messages_of_stream([True] * 300))
    verify_stream(messages_of_stream([True, *[*[False] * 99, True] * 3]))
    for is_signed in (
        [],
        [False],
        [False, True],
        [True, False],
        [True, True, False],
        [True, *[False] * 100, True],
    ):
        with pytest.raises(BadSignature, match='not signed') as raised:
            verify_stream(messages_of_stream(is_signed))
        assert raised.value.error is None


def test_whatever_is_done_to_a_stream_it_is_refused():
    good = messages_of_stream([True, False, True, False, False, True])
    verify_stream(good)
    streams = [good[:at] + good[at + 1 :] for at in range(6)]  # one is missing
    streams += [good[: at + 1] + good[at:] for at in range(6)]  # one comes twice
    streams += [[*good[:at], good[at + 1], good[at], *good[at + 2 :]] for at in range(5)]
    for messages in streams:
        with pytest.raises((BadSignature, MalformedMessage)):
            verify_stream(messages)
    with pytest.raises(BadSignature):
        verify_stream(good, request_mac=bytes(32))
    for number, octets in enumerate(good):
        names = octets.find(KEY_NAME), octets.find(SHA256)
        for bit in range(16 * (number not in (1, 3, 4)), len(octets) * 8):  # not the id
            changed = bytearray(octets)
            changed[bit // 8] ^= 1 << bit % 8
            is_name = any(0 <= bit // 8 - at < 13 for at in names if at >= 0)
            if not (is_name and bit % 8 == 5):
                with pytest.raises((BadSignature, MalformedMessage)):
                    verify_stream([*good[:number], bytes(changed), *good[number + 1 :]])


@pytest.mark.parametrize(
    'how, error',
    [
        ({'at': NOW - 301}, BadSignature),
        ({'size': 16}, BadSignature),
        ({'error': 18}, BadSignature),
        ({'error': 16, 'size': 0}, BadSignature),
        ({'other': b'x'}, MalformedMessage),
        ({'size': 0}, MalformedMessage),
        ({'key': OTHER_KEY}, BadSignature),
        ({'owner': b'\5other\0'}, BadSignature),
    ],
)
def test_a_later_message_of_a_stream_that_is_wrongly_signed_is_refused(how, error):
    messages = messages_of_stream([True, True, False, True], **how)
    with pytest.raises(error):
        verify_stream(messages)
    verify_stream(messages[:1])


@pytest.mark.parametrize(
    'arguments, error',
    [
        (('a..b', b'x'), InvalidName),
        ((b'x' * 64, b'x'), InvalidName),
        (('x', b''), InvalidName),
        (('x', ''), InvalidName),
        (('x', 'eA'), InvalidName),
        (('x', 'e_-='), InvalidName),
        (('x', 'e*A=='), InvalidName),
        (('x', '\u00e9A=='), InvalidName),
        (('x', b'x', 'hmac-sha3'), InvalidName),
        (('x', b'x', 'gss-tsig'), InvalidName),
        (('x', b'x', ''), InvalidName),
        ((1, b'x'), TypeError),
        (('x', None), TypeError),
        (('x', bytearray(b'x')), TypeError),
        (('x', b'x', None), TypeError),
    ],
)
def test_what_can_be_no_key_is_refused(arguments, error):
    with pytest.raises(error) as raised:
        Key(*arguments)
    assert 'e_-' not in str(raised.value)


def test_a_hash_that_the_system_refuses_makes_no_key(monkeypatch):
    def new(*_, **__):
        raise ValueError('[digital envelope routines] unsupported')

    monkeypatch.setattr(hmac, 'new', new)
    with pytest.raises(InvalidName, match='unsupported'):
        Key('x', b'x', 'hmac-md5')


def test_a_key_does_not_show_its_secret():
    key = Key('Key.Example.', ' QUJD\nREVG ', 'HMAC-SHA512.')
    assert (key.name, key.secret, key.algorithm) == (b'key.example', b'ABCDEF', b'hmac-sha512')
    assert repr(key) == f'{key}' == '<Key key.example. hmac-sha512>'
    query = make_query('x', TYPES.A, key=key)
    assert 'ABCDEF' not in repr(query)
    for copied in (pickle.loads(pickle.dumps(key)), copy.copy(key), copy.deepcopy(key)):
        assert sign(query, copied, b'', NOW) == sign(query, key, b'', NOW)
    assert Key('x', b'x', 'hmac-md5').algorithm == b'hmac-md5.sig-alg.reg.int'


def test_a_query_carries_its_key_until_it_is_signed():
    query = make_query('www.example', TYPES.TXT, qid=0x1234, key=KEY)
    assert query.ar[:-1] == ASKED.ar
    assert query.ar[-1] == (b'key.example', TYPES.TSIG, CLASSES.ANY, 0, KEY)
    assert sign(query, KEY, time_signed=NOW) == (REQUEST, REQUEST_MAC)
    plain = make_query('x', TYPES.A, payload=None, key=KEY)
    assert plain.ar[0].rdata is KEY
    signed = sign(plain, KEY, time_signed=NOW)
    assert signed == sign(plain._replace(ar=()), KEY, time_signed=NOW)
    module.verify(signed[0], KEYRING, b'', NOW)
    assert module.find_signature(signed[0])[:2] == (len(pack(plain._replace(ar=()))), KEY.name)
    for call in (lambda: pack(query), lambda: presentation(query.ar[-1])):
        with pytest.raises(TypeError, match='Key'):
            call()
    for no_key in (b'secret', 'key', {KEY.name: KEY}, 1):
        with pytest.raises(TypeError, match='Key') as raised:
            make_query('x', TYPES.A, key=no_key)
        assert 'secret' not in str(raised.value)


def test_what_cannot_be_signed_is_refused():
    for arguments in (
        (ASKED, b'secret'),
        (ASKED, KEY, None),
        (ASKED, KEY, 'mac'),
        (ASKED, KEY, bytearray(b'mac')),
        (ASKED, KEY, b'', 'now'),
        (None, KEY),
        (bytearray(REQUEST), KEY),
    ):
        with pytest.raises(TypeError):
            sign(*arguments)
    full = pack(ASKED._replace(ar=(rr(b'', TYPES.NULL, b'x' * 65488),)))
    assert len(full) == 65535 - 7
    for arguments in (
        (REQUEST, KEY),
        (parse(REQUEST), KEY),
        (b'', KEY),
        (b'x' * 11, KEY),
        (full, KEY),
        (ASKED, KEY, bytes(65536)),
        (ASKED, KEY, b'', -1),
        (ASKED, KEY, b'', 1 << 48),
        (ASKED, KEY, b'', float('nan')),
        (ASKED, KEY, b'', float('inf')),
    ):
        with pytest.raises(MalformedMessage):
            sign(*arguments)
    room = 65535 - len(sign(ASKED._replace(ar=(rr(b'', TYPES.NULL, b''),)), KEY)[0])
    largest = ASKED._replace(ar=(rr(b'', TYPES.NULL, bytes(room)),))
    assert len(sign(largest, KEY)[0]) == 65535
    with pytest.raises(MalformedMessage):
        sign(ASKED._replace(ar=(rr(b'', TYPES.NULL, bytes(room + 1)),)), KEY)
    for seconds in (0, (1 << 48) - 1):
        octets, _ = sign(ASKED, KEY, b'', seconds)
        assert parse(octets).ar[-1].rdata.time_signed == seconds
    assert sign(ASKED, KEY, bytes(65535))
    assert sign(ASKED, KEY, b'', NOW + 0.9) == (REQUEST, REQUEST_MAC)


def test_a_message_is_signed_now_by_the_clock():
    before = int(time.time())
    octets, _ = sign(pack(ASKED), KEY)
    rdata = parse(octets).ar[-1].rdata
    assert before <= rdata.time_signed <= time.time()
    assert (rdata.fudge, rdata.original_id, rdata.error, rdata.other_data) == (300, 0x1234, 0, b'')
    assert octets.endswith(signed_by_hand(pack(ASKED), b'', at=rdata.time_signed)[12:])


def test_who_signs_nothing_imports_nothing_for_it():
    script = (
        'import sys, asyncio; before = set(sys.modules); import aiodnsresolver;'
        'print({"hmac", "hashlib"} & (set(sys.modules) - before))'
    )
    ran = subprocess.run(
        [sys.executable, '-c', script], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert ran.stdout == 'set()\n'


# --- 11. Zone transfer rules -------------------------------------------------

MOVING = b'moving.example'


def zone_soa(serial, name=MOVING, mname=b'ns.moving.example', **more):
    return rr(
        name, TYPES.SOA, module.SOA(mname, b'root.moving.example', serial, 2, 3, 4, 5), **more
    )


def host(number, zone=MOVING):
    return a(b'h%d.%s' % (number, zone), f'192.0.2.{number}')


AXFR = module.transfer_query(MOVING, None)
IXFR = module.transfer_query(MOVING, 1)
# The zone whole, and from serial 1 to 3: host 1 goes, 2 comes; 2 goes, 3 and 4 come.
WHOLE_ZONE = [zone_soa(3), host(3), host(4), zone_soa(3)]
DIFFERENCES = [
    *[zone_soa(3), zone_soa(1), host(1), zone_soa(2), host(2)],
    *[zone_soa(2), host(2), zone_soa(3), host(3), host(4), zone_soa(3)],
]


def in_messages(query, *messages):
    """Replies with these records."""
    return [reply_to(query, *records, ra=0, ar=()) for records in messages]


def received(query, messages):
    """What the messages of a transfer change, one by one, and whether that is all."""
    state = module.Transfer(query)
    all_changes = [change for message in messages for change in state.take(message)]
    return all_changes, state.is_done


def applied(all_changes, *before):
    """A zone after changes."""
    zone = Zone(MOVING)
    with zone.writer() as writer:
        for record in before:
            writer.add(record)
    for number, changes in enumerate(all_changes):
        with zone.writer(changes.replacement and not number) as writer:
            for record in changes.deleted:
                writer.delete(record)
            for record in changes.added:
                writer.add(record)
    return zone


@pytest.mark.parametrize(
    'query, records, text',
    [
        (AXFR, [], 'no record'),
        (AXFR, [host(1), zone_soa(1)], 'first record is not the SOA'),
        (AXFR, [zone_soa(3, b'other.example'), host(1)], 'first record is not the SOA'),
        (AXFR, [*WHOLE_ZONE, host(5)], 'after the last SOA'),
        (AXFR, [*WHOLE_ZONE, zone_soa(3)], 'after the last SOA'),
        (AXFR, [zone_soa(3), host(3), zone_soa(4)], 'neither the first nor the last'),
        (AXFR, [zone_soa(3), zone_soa(1), host(1), zone_soa(3)], 'neither the first nor the last'),
        (AXFR, [zone_soa(3), zone_soa(3, mname=b'x')], 'neither the first nor the last'),
        (AXFR, [zone_soa(3), rr(host(1).name, TYPES.A, b'abcd', 60, CLASSES.CH)], 'class CH'),
        (
            AXFR,
            [zone_soa(3), rr(b'x.example', TYPES.TXT, (b'x',), 60, CLASSES.NONE)],
            'class NONE',
        ),
        (AXFR, [rr(MOVING, TYPES.SOA, zone_soa(3).rdata, 60, CLASSES.HS)], 'class HS'),
        (IXFR, [], 'no record'),
        (IXFR, [host(1), zone_soa(1)], 'first record is not the SOA'),
        (IXFR, [zone_soa(0)], 'went backwards, from 1 to 0'),
        (IXFR, [zone_soa(2**31 + 1)], 'went backwards'),  # which is neither before nor after
        (IXFR, [zone_soa(1), host(1)], 'after the last SOA'),
        (IXFR, [zone_soa(1), zone_soa(1)], 'after the last SOA'),
        (IXFR, [zone_soa(3), zone_soa(3)], 'to serial 1 begins at 3'),  # an AXFR of nothing
        (IXFR, [zone_soa(3), zone_soa(2), host(1)], 'begins at 2'),
        (IXFR, [zone_soa(3), zone_soa(1), zone_soa(1)], 'leads from serial 1 to 1'),
        (IXFR, [zone_soa(3), zone_soa(1), zone_soa(0)], 'leads from serial 1 to 0'),
        (IXFR, [*DIFFERENCES[:5], zone_soa(1)], 'to serial 2 begins at 1'),
        (IXFR, [*DIFFERENCES[:5], zone_soa(3)], 'neither the first nor the last'),
        (IXFR, [*DIFFERENCES[:-1], zone_soa(3, mname=b'x')], 'neither the first nor the last'),
        (IXFR, [*DIFFERENCES[:7], zone_soa(3, mname=b'x'), zone_soa(3)], 'two SOAs with serial 3'),
        (IXFR, [*DIFFERENCES, host(5)], 'after the last SOA'),
        (IXFR, [*DIFFERENCES[:-1], zone_soa(4)], 'to serial 3 begins at 4'),
        (IXFR, [*WHOLE_ZONE, host(5)], 'after the last SOA'),
        (IXFR, [*WHOLE_ZONE[:-1], zone_soa(1)], 'neither the first nor the last'),
        (IXFR, [zone_soa(3), host(1)._replace(qclass=CLASSES.HS)], 'class HS'),
    ],
)
def test_what_no_transfer_can_say_is_an_error_however_it_is_cut(query, records, text):
    for cut in range(len(records) + 1):
        if 0 < cut < len(records) and text == 'after the last SOA' and cut >= len(records) - 1:
            continue  # the stream is not read any further
        messages = [records[:cut], records[cut:]] if 0 < cut < len(records) else [records]
        with pytest.raises(TransferError, match=text) as raised:
            received(query, in_messages(query, *messages))
        assert raised.value.rcode is None


@pytest.mark.parametrize('number', [0, 1])
@pytest.mark.parametrize(
    'fields, error, text',
    [
        ({'rcode': RCODES.REFUSED}, TransferError, 'REFUSED'),
        ({'rcode': 12}, TransferError, '12'),
        ({'rcode': RCODES.NOTAUTH}, TransferError, 'NOTAUTH'),
        ({'rcode': 0, 'ar': (rr(b'', TYPES.OPT, (), 1 << 24, 1232),)}, TransferError, 'BADVERS'),
        (
            {'rcode': 5, 'ar': (rr(b'', TYPES.OPT, ((15, b'\0\x12no\x07'),), 0, 1232),)},
            TransferError,
            r'PROHIBITED: no\\x07',
        ),
        ({'tc': 1}, TransferError, 'truncated'),
        ({'qid': AXFR.qid ^ 1}, BadResponse, 'no response'),
        ({'qr': QUESTION}, BadResponse, 'no response'),
        ({'opcode': OPCODES.NOTIFY}, BadResponse, 'no response'),
        ({'qd': (QuestionRecord(b'other.example', 252, 1),)}, BadResponse, 'question'),
        ({'qd': (QuestionRecord(MOVING, 251, 1),)}, BadResponse, 'question'),
        ({'qd': (QuestionRecord(MOVING, 252, 3),)}, BadResponse, 'question'),
        ({'qd': (*AXFR.qd, *AXFR.qd)}, BadResponse, 'question'),
    ],
)
def test_each_message_has_to_be_one_of_the_transfer(number, fields, error, text):
    messages = in_messages(AXFR, WHOLE_ZONE[:2], WHOLE_ZONE[2:])
    messages[number] = messages[number]._replace(**fields)
    with pytest.raises(error, match=text) as raised:
        received(AXFR, messages)
    if 'rcode' in fields:
        assert raised.value.rcode == messages[number].extended_rcode


@pytest.mark.parametrize(
    'query',
    [
        make_query(MOVING, TYPES.SOA),
        AXFR._replace(qd=()),
        AXFR._replace(qd=AXFR.qd * 2),
        make_query(MOVING, TYPES.IXFR),
        IXFR._replace(ns=IXFR.ns * 2),
    ],
)
def test_what_asks_for_no_transfer_is_refused(query):
    with pytest.raises(InvalidName):
        module.Transfer(query)


def test_the_query_says_what_there_is():
    assert AXFR.qd == (QuestionRecord(MOVING, TYPES.AXFR, CLASSES.IN),)
    assert (AXFR.rd, AXFR.ns) == (0, ())
    assert IXFR.qd == (QuestionRecord(MOVING, TYPES.IXFR, CLASSES.IN),)
    theirs = dns.message.from_wire(pack(IXFR))
    assert dns.xfr.extract_serial_from_query(theirs) == 1
    with pytest.raises(InvalidName):
        module.transfer_query(MOVING, 2**32)


def splits(records):
    """All ways to put records in one, two or three messages."""
    size = len(records)
    for first, second in itertools.combinations_with_replacement(range(1, size + 1), 2):
        yield [records[:first], records[first:second], records[second:]]


@pytest.mark.parametrize('has_question', [True, False])
@pytest.mark.parametrize(
    'query, records, before, serial, hosts',
    [
        (AXFR, WHOLE_ZONE, [zone_soa(7), host(9)], 3, [3, 4]),
        (IXFR, WHOLE_ZONE, [zone_soa(1), host(1)], 3, [3, 4]),
        (IXFR, DIFFERENCES, [zone_soa(1), host(1), host(9)], 3, [3, 4, 9]),
        (IXFR, [zone_soa(1)], [zone_soa(1), host(1)], 1, [1]),
        (AXFR, [zone_soa(3), zone_soa(3)], [host(1)], 3, []),
        (
            module.transfer_query(MOVING, 2**32 - 1),  # serial arithmetic
            [zone_soa(1), zone_soa(2**32 - 1), zone_soa(1), zone_soa(1)],
            [zone_soa(2**32 - 1), host(1)],
            1,
            [1],
        ),
    ],
)
def test_a_transfer_may_be_cut_anywhere_and_lack_the_question(
    query, records, before, serial, hosts, has_question
):
    for parts in splits(records):
        messages = in_messages(query, *filter(None, parts))
        if not has_question:
            messages = [message._replace(qd=()) for message in messages]
        all_changes, is_done = received(query, messages)
        assert is_done
        zone = applied(all_changes, *before)
        assert zone.serial == serial
        assert list(zone) == [zone_soa(serial), *map(host, hosts)]
        is_whole = records == WHOLE_ZONE or query is AXFR
        assert {changes.replacement for changes in all_changes} <= {is_whole}
        assert query is not AXFR or records[0] in all_changes[0].added
    for size in range(1, len(records)):
        assert not received(query, in_messages(query, records[:size]))[1]
        messages = in_messages(query, records[:size], [], records[size:])
        assert received(query, messages)[1]  # one without a record says nothing


def test_changes_are_those_of_a_message():
    one_by_one = [[record] for record in DIFFERENCES]
    all_changes, _ = received(IXFR, in_messages(IXFR, *one_by_one))
    assert all(len(changes.deleted + changes.added) <= 1 for changes in all_changes)
    at_once, _ = received(IXFR, in_messages(IXFR, DIFFERENCES))
    assert at_once == [
        Changes(False, (zone_soa(1), host(1)), (zone_soa(2), host(2))),
        Changes(False, (zone_soa(2), host(2)), (zone_soa(3), host(3), host(4))),
    ]
    whole, _ = received(AXFR, in_messages(AXFR, WHOLE_ZONE[:2], WHOLE_ZONE[2:]))
    assert whole == [
        Changes(True, (), (zone_soa(3), host(3))),
        Changes(True, (), (host(4),)),
    ]


def test_names_out_of_the_zone_are_ignored_and_others_are_not():
    inside = [
        a(b'H.Moving.EXAMPLE'),
        a(b'a.b.moving.example'),
        a(b'x\\.y.moving.example'),
        a(b'x\\\\.moving.example'),
        rr(MOVING, TYPES.NS, b'ns.elsewhere.example'),
        rr(b'sub.moving.example', TYPES.SOA, zone_soa(9).rdata),
    ]
    outside = [
        a(b'example'),
        a(b'www.example'),
        a(b'notmoving.example'),
        a(b'x\\.moving.example'),
        a(b'moving.example.test'),
        rr(b'other.example', TYPES.SOA, zone_soa(3).rdata),
    ]
    for query in (AXFR, IXFR):
        for records in (inside + outside, outside + inside):
            all_changes, is_done = received(
                query, in_messages(query, [zone_soa(3), *records, zone_soa(3)])
            )
            assert is_done
            assert all_changes == [Changes(True, (), (zone_soa(3), *inside))]
    root = module.transfer_query(b'', None)
    soa = zone_soa(1, b'')
    all_changes, _ = received(root, in_messages(root, [soa, *inside, *outside, soa]))
    assert all_changes == [Changes(True, (), (soa, *inside, *outside))]


def test_what_can_be_in_no_zone_is_ignored():
    meta = [rr(b'x.moving.example', qtype, b'') for qtype in (0, 249, 251, 252, 253, 254, 255)]
    meta += [rr(b'x.moving.example', TYPES.OPT, ())]
    for query in (AXFR, IXFR):
        for records in ([*meta, host(1)], [host(1), *meta]):
            messages = in_messages(query, [zone_soa(3), *records, zone_soa(3)])
            assert received(query, messages)[0] == [Changes(True, (), (zone_soa(3), host(1)))]
    with pytest.raises(TransferError, match='first record is not the SOA'):
        received(AXFR, in_messages(AXFR, meta))


def test_a_ttl_with_the_top_bit_is_zero():
    def with_ttl(ttl):
        return [record._replace(ttl=ttl) for record in WHOLE_ZONE]

    for ttl, kept in ((0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, 0), (0xFFFFFFFF, 0)):
        for query in (AXFR, IXFR):
            all_changes, is_done = received(query, in_messages(query, with_ttl(ttl)))
            assert is_done
            assert all_changes == [Changes(True, (), tuple(with_ttl(kept)[:-1]))]


def test_letter_case_makes_no_difference():
    last = zone_soa(3, b'MOVING.example', b'NS.moving.example')
    for records in ([*WHOLE_ZONE[:-1], last], [*DIFFERENCES[:-1], last]):
        assert received(IXFR, in_messages(IXFR, records))[1]
    asked = module.transfer_query(b'Moving.Example', None)
    messages = [message._replace(qid=asked.qid) for message in in_messages(AXFR, WHOLE_ZONE)]
    assert received(asked, messages)[1]
    messages = in_messages(AXFR, WHOLE_ZONE)
    messages[0] = messages[0]._replace(qd=(AXFR.qd[0]._replace(name=b'Moving.EXAMPLE'),))
    assert received(AXFR, messages)[1]


@pytest.mark.parametrize(
    'old, new, steps',
    [
        (5, 5, 0),
        (5, 6, 1),
        (5, 4, -1),
        (2**32 - 1, 0, 1),
        (0, 2**32 - 1, -1),
        (1, 2**31, 2**31 - 1),
        (1, 2**31 + 1, -(2**31)),
    ],
)
def test_serials_go_round(old, new, steps):
    assert module.steps_between(old, new) == steps


@given(data=st.data())
@settings(max_examples=60)
def test_any_history_of_a_zone_comes_to_the_same_by_all_ways(data):
    versions = data.draw(st.lists(st.frozensets(st.integers(1, 9)), min_size=2, max_size=6))
    start = data.draw(st.integers(0, 2**32 - 1))
    steps = data.draw(st.lists(st.integers(1, 3), min_size=6, max_size=6))
    serials = [(start + sum(steps[:number])) % 2**32 for number in range(len(versions))]
    first, last = zone_soa(serials[0]), zone_soa(serials[-1])
    differences = [last]
    for at in range(1, len(versions)):
        old, new = versions[at - 1 : at + 1]
        differences += [zone_soa(serials[at - 1]), *map(host, sorted(old - new))]
        differences += [zone_soa(serials[at]), *map(host, sorted(new - old))]
    before = [first, *map(host, versions[0])]
    after = [last, *map(host, sorted(versions[-1]))]
    ixfr = module.transfer_query(MOVING, serials[0])
    for query, records in (
        (ixfr, [*differences, last]),
        (ixfr, [*after, last]),
        (module.transfer_query(MOVING, None), [*after, last]),
    ):
        if query is ixfr and records == [last, last]:
            continue  # a zone with nothing in it
        cuts = sorted(data.draw(st.sets(st.integers(1, len(records)), max_size=4)))
        parts = [records[x:y] for x, y in itertools.pairwise([0, *cuts, len(records)])]
        all_changes, is_done = received(query, in_messages(query, *filter(None, parts)))
        assert is_done
        assert list(applied(all_changes, *before)) == after


def test_a_zone_has_its_records_by_name_and_type():
    zone = Zone('Moving.Example.')
    assert (zone.origin, zone.serial, list(zone), str(zone)) == (b'Moving.Example', None, [], '')
    other = rr(b'H1.moving.example', TYPES.A, IPv4Address('192.0.2.9'))
    text = rr(b'h1.moving.example', TYPES.TXT, (b'x',))
    with zone.writer() as writer:
        for record in (zone_soa(3), text, other, host(1), host(1)._replace(ttl=5)):
            writer.add(record)
        assert (list(zone), zone.serial) == ([], None)
    assert zone.serial == 3
    assert zone['h1.MOVING.example', TYPES.A] == (other, host(1)._replace(ttl=5))
    assert zone[b'h1.moving.example.', 16] == (text,)
    assert zone['h2.moving.example', TYPES.A] == ()
    assert list(zone) == [zone_soa(3), host(1)._replace(ttl=5), other, text]
    with zone.writer() as writer:
        writer.delete(other._replace(ttl=1))
        writer.add(zone_soa(4))
        assert zone.serial == 3
        assert len(zone['h1.moving.example', TYPES.A]) == 2
    assert zone.serial == 4
    assert zone['h1.moving.example', TYPES.A] == (host(1)._replace(ttl=5),)
    with zone.writer() as writer:
        writer.delete(host(1))
        writer.add(host(1))
        writer.delete(host(1))
    assert list(zone) == [zone_soa(4), text]
    with zone.writer(replacement=True) as writer:
        writer.add(host(2))
    assert list(zone) == [host(2)]


class OfTheTest(Exception):
    pass


def test_a_zone_is_as_before_if_its_writer_fails():
    zone = applied([Changes(True, (), (zone_soa(3), host(1), host(2)))])
    double = host(1)._replace(rdata=IPv4Address('192.0.2.77'))
    before = list(zone)
    for replacement in (False, True):
        with pytest.raises(OfTheTest), zone.writer(replacement) as writer:
            writer.add(double)
            writer.add(zone_soa(5))
            raise OfTheTest
        assert list(zone) == before
    for missing in (host(3), double, host(1)._replace(qtype=TYPES.TXT, rdata=(b'x',))):
        with pytest.raises(TransferError, match='no such record'), zone.writer() as writer:
            writer.delete(host(2))
            writer.delete(missing)
        assert list(zone) == before
    with pytest.raises(TransferError, match='no such record'), zone.writer() as writer:
        writer.add(double)
        writer.delete(double)
        writer.delete(double)
    with pytest.raises(TransferError, match='another writer'), zone.writer() as writer:
        writer.delete(host(2))
        with zone.writer() as second:
            second.add(host(3))
    assert list(zone) == [*before, host(3)]


def test_a_writer_is_of_no_more_use_after_its_block():
    zone = applied([Changes(True, (), (zone_soa(3), host(1)))])
    for error in (None, OfTheTest):
        before = list(zone)
        writer = zone.writer()
        with contextlib.suppress(OfTheTest), writer:
            writer.add(host(2))
            if error:
                raise error
        after = before if error else [*before, host(2)]
        for call in (writer.add, writer.delete):
            with pytest.raises(TransferError, match='of no more use'):
                call(host(2))
        with pytest.raises(TransferError, match='of no more use'), writer:
            pass
        assert list(zone) == after


def test_an_soa_that_could_not_be_deleted_is_replaced_all_the_same():
    zone = applied([Changes(True, (), (zone_soa(3), host(1)))])
    with zone.writer() as writer:
        with pytest.raises(TransferError):
            writer.delete(zone_soa(9))
        writer.add(zone_soa(4))
        writer.delete(zone_soa(4))
        writer.add(zone_soa(5))
    assert list(zone) == [zone_soa(5), host(1)]


@pytest.mark.parametrize(
    'fields',
    [
        lambda number, name: (TYPES.MX, module.MX(number, name)),
        lambda number, name: (TYPES.NS, b'%s%d.%s' % (name[:4], number, name[8:])),
        lambda number, name: (TYPES.SRV, module.SRV(number, 1, 2, name)),
        lambda number, name: (TYPES.MINFO, module.MINFO(b'n%d' % number, name)),
    ],
)
def test_names_made_to_hurt_cost_a_zone_no_more_than_their_octets(fields):
    name = b'.'.join(module.escape_label(bytes([200 + number % 50])) for number in range(118))
    records = [rr(b'x', *fields(number, name)) for number in range(4000)]
    plain = [rr(b'x', *fields(number, b'x%d' % number)) for number in range(4000)]

    def spent(records):
        zone = Zone('')
        began = time.process_time()
        for _ in range(2):
            with zone.writer() as writer:
                for record in records:
                    writer.add(record)
            with zone.writer() as writer:
                for record in records:
                    writer.delete(record)
        return time.process_time() - began

    assert spent(records) < 10 * spent(plain)


@pytest.mark.parametrize(
    'qtype, rdata, same',
    [
        (TYPES.MX, module.MX(5, b'a.b'), b'\0\5\1A\1b\0'),
        (TYPES.A, IPv4Address('192.0.2.1'), b'\xc0\0\2\1'),
        (TYPES.NSEC, module.NSEC(b'a.b', (TYPES.A,)), module.NSEC(b'A.b', [1])),
    ],
)
def test_rdata_may_be_spelled_in_several_ways(qtype, rdata, same):
    zone = applied([Changes(True, (), (zone_soa(3), rr(b'x', qtype, rdata)))])
    with zone.writer() as writer:
        writer.delete(rr(b'x', qtype, same))
    assert list(zone) == [zone_soa(3)]


def test_who_iterates_over_a_zone_sees_it_as_it_was():
    zone = applied([Changes(True, (), (zone_soa(3), host(1), host(2)))])
    records = iter(zone)
    assert next(records) == zone_soa(3)
    with zone.writer(replacement=True) as writer:
        writer.add(host(7))
    assert list(records) == [host(1), host(2)]


def test_letter_case_in_rdata_makes_no_difference_to_what_is_deleted():
    soa = zone_soa(3)
    records = [
        rr(b'x', TYPES.MX, module.MX(65, b'Mail.example')),  # 65 is an A
        rr(b'x', TYPES.NS, b'NS.example'),
        rr(b'x', TYPES.TXT, (b'Text',)),
        rr(b'x', TYPES.NAPTR, module.NAPTR(1, 2, b'S', b'SIP', b'', b'Target.example')),
        rr(b'x', 65280, b'Text'),
        rr(b'x', TYPES.A, b'ABC', qclass=CLASSES.CH),
    ]
    lower = [
        rr(b'X', TYPES.MX, module.MX(65, b'mail.example')),
        rr(b'X', TYPES.NS, b'ns.example'),
        rr(b'X', TYPES.TXT, (b'text',)),
        rr(b'X', TYPES.NAPTR, module.NAPTR(1, 2, b'S', b'SIP', b'', b'target.example')),
        rr(b'X', 65280, b'text'),
        rr(b'X', TYPES.A, b'abc', qclass=CLASSES.CH),
    ]
    is_name = [True, True, False, True, False, False]
    for record, other, is_same in zip(records, lower, is_name, strict=True):
        zone = applied([Changes(True, (), (soa, record))])
        if is_same:
            with zone.writer() as writer:
                writer.delete(other)
            assert list(zone) == [soa]
        else:
            with pytest.raises(TransferError), zone.writer() as writer:
                writer.delete(other)
    not_the_same = records[0]._replace(rdata=module.MX(97, b'mail.example'))
    zone = applied([Changes(True, (), (records[0], not_the_same))])
    assert len(zone['x', TYPES.MX]) == 2


def test_names_in_rdata_are_ordered_in_lower_case():
    zone = applied([Changes(True, (), [rr(b'x', TYPES.NS, name) for name in (b'B', b'a', b'_')])])
    assert [record.rdata for record in zone] == [b'_', b'a', b'B']


def test_a_zone_is_in_canonical_order():
    names = [  # RFC 4034 6.1
        b'example',
        b'a.example',
        b'yljkjljk.a.example',
        b'Z.a.example',
        b'zABC.a.EXAMPLE',
        b'z.example',
        b'\\001.z.example',
        b'*.z.example',
        b'\\200.z.example',
    ]
    zone = Zone('example')
    with zone.writer() as writer:
        for name in reversed(names):
            writer.add(a(name))
    assert [record.name for record in zone] == names
    with zone.writer(replacement=True) as writer:
        for last in (10, 2, 1):
            writer.add(rr(b'x.example', TYPES.AAAA, IPv6Address(last)))
            writer.add(a(b'x.example', f'192.0.2.{last}'))
    assert [str(record.rdata) for record in zone] == [
        *['192.0.2.1', '192.0.2.2', '192.0.2.10', '::1', '::2', '::a']
    ]


def zone_of_all_types():
    """A zone with a record for each vector, but for what is of no zone."""
    zone = Zone('servers.example')
    with zone.writer() as writer:
        writer.add(rr(b'servers.example', TYPES.SOA, zone_soa(1).rdata))
        for name, (qtype, rdata, _) in IN_ZONE.items():
            writer.add(rr(name.encode(), qtype, rdata))
        for name, address in ODD_NAMES.items():
            writer.add(a(name, address))
    return zone


def test_dnspython_reads_the_master_file():
    zone = zone_of_all_types()
    text = str(zone)
    assert text.startswith('servers.example. 60 IN SOA ')
    assert text.count(' IN SOA ') == 1
    assert len(text.splitlines()) == len(list(zone)) == 1 + len(IN_ZONE) + len(ODD_NAMES)
    theirs = dns.zone.from_text(text, 'servers.example', relativize=False, check_origin=False)
    assert zone_of(theirs) == {our_view(record) for record in zone}


def zone_of(theirs):
    """The records of a zone of dnspython's, as `our_view` has them."""
    return {(name, r.rdtype, r.rdclass, ttl, r) for name, ttl, r in theirs.iterate_rdatas()}


def check_zone(name, text):
    """Raises what `named-checkzone` finds wrong with a master file."""
    words = [find_program('named-checkzone', 'bind9-utils'), '-k', 'ignore', '-i', 'none', name]
    ran = subprocess.run([*words, '/dev/stdin'], input=text, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.servers
def test_bind_reads_the_master_file():
    zone = zone_of_all_types()
    with zone.writer() as writer:
        writer.add(rr(b'servers.example', TYPES.NS, b'ns.servers.example'))
        writer.add(a(b'ns.servers.example'))
    check_zone('servers.example', str(zone))


# --- 12. TLS and HTTP --------------------------------------------------------


def test_a_context_is_made_for_tls_as_the_rfcs_ask():
    default = ssl.create_default_context()
    for verify in (True, False):
        context = module.to_context(verify)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & default.options == default.options
        assert context.check_hostname == verify
        assert context.verify_mode == (ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    assert module.to_context(True) is module.to_context(True)
    assert module.to_context(True) is not module.to_context(False)


def test_a_file_of_authorities_is_read_again_only_once_it_has_changed(tmp_path, authority):
    path = tmp_path / 'authorities'
    authority.cert_pem.write_to_path(path)
    os.utime(path, (1, 1))
    context = module.to_context(path)
    os.utime(path, (2, 1))  # it was read
    assert module.to_context(str(path)) is context
    os.utime(path, ns=(2, 10**9 + 1))
    changed = module.to_context(path)
    assert changed is not context
    path.write_bytes(path.read_bytes() + b'\n')
    os.utime(path, ns=(2, 10**9 + 1))
    assert module.to_context(path) is not changed
    assert module.to_context(context) is context


class HttpPair:
    """The two sides of HTTPS, without a socket between them."""

    def __init__(self, is_post=True, path='/dns-query', **settings):
        self.http = module.Http('dns.example', path, is_post)
        config = H2Configuration(client_side=False, header_encoding='utf-8')
        config.validate_outbound_headers = config.normalize_outbound_headers = False
        self.connection = H2Connection(config)
        self.connection.initiate_connection()
        if settings:
            codes = {SettingCodes[name]: value for name, value in settings.items()}
            self.connection.update_settings(codes)
        self.heard()
        assert self.said() == []
        assert self.heard() == {}

    def heard(self):
        """The events of the server for what the client sends, by their stream."""
        events = {}
        self.sent = self.http.to_send()
        for event in self.connection.receive_data(self.sent):
            if stream_id := getattr(event, 'stream_id', 0):
                events.setdefault(stream_id, []).append(event)
        return events

    def said(self, octets=b''):
        """What the client makes of what the server sends."""
        return list(self.http.take(self.connection.data_to_send() + octets))

    def answer(self, stream_id, body=None, *fields, status='200'):
        head = [(':status', status), ('content-type', 'application/dns-message'), *fields]
        self.connection.send_headers(stream_id, head)
        if body is not None:
            self.connection.send_data(stream_id, body, end_stream=True)


def body_in(events):
    """The body in the events of one stream, and whether that is all."""
    body = b''.join([event.data for event in events if isinstance(event, DataReceived)])
    return body, any(isinstance(event, StreamEnded) for event in events)


def test_a_query_is_sent_as_far_as_there_is_room():
    octets = QUERY.octets
    pair = HttpPair(INITIAL_WINDOW_SIZE=10)
    pair.http.pack(octets)
    assert body_in(pair.heard()[1]) == (octets[:10], False)
    for at in (10, 11):
        assert pair.heard() == {}
        pair.connection.increment_flow_control_window(1, 1)
        assert pair.said() == []
        assert body_in(pair.heard()[1]) == (octets[at : at + 1], False)
    pair.connection.increment_flow_control_window(100, 1)
    assert pair.said() == []
    assert body_in(pair.heard()[1]) == (octets[12:], True)
    assert pair.http.uploads == []


def test_a_connection_whose_streams_are_used_up_takes_no_query():
    pair = HttpPair()
    pair.http.connection.highest_outbound_stream_id = 2**31 - 1
    pair.http.pack(QUERY.octets)
    with pytest.raises(OSError) as raised:
        pair.http.to_send()
    assert raised.value.errno == errno.EPROTO


@pytest.mark.parametrize('size', [16_384, 16_385, 40_000])
def test_a_query_is_sent_in_frames_that_the_server_takes(size):
    pair = HttpPair(INITIAL_WINDOW_SIZE=60_000)
    octets = QUERY.octets + bytes(size - len(QUERY.octets))
    pair.http.pack(octets)
    events = pair.heard()[1]
    assert body_in(events) == (octets, True)
    assert max(len(event.data) for event in events if isinstance(event, DataReceived)) == 16_384


def test_a_query_that_is_refused_is_asked_once_more():
    pair = HttpPair()
    key = pair.http.pack(QUERY.octets)
    assert body_in(pair.heard()[1]) == (QUERY.octets, True)
    pair.connection.reset_stream(1, ErrorCodes.REFUSED_STREAM)
    assert pair.said() == []
    again = pair.heard()
    assert list(again) == [3]  # nothing more of the first
    assert raw_frame(3, 1, bytes(4))[3:9] not in pair.sent
    assert body_in(again[3]) == (QUERY.octets, True)
    assert list(pair.http.exchanges) == [3]
    pair.answer(3)
    pair.connection.send_data(3, b'rep')
    pair.connection.reset_stream(3, ErrorCodes.REFUSED_STREAM)
    ((refused, error),) = pair.said()
    assert (refused, type(error)) == (key, module.RequestEnded)
    assert pair.heard() == {}


def test_what_was_said_before_a_refusal_is_no_part_of_the_reply():
    pair = HttpPair()
    key = pair.http.pack(QUERY.octets)
    pair.heard()
    pair.answer(1)
    pair.connection.send_data(1, b'rep')
    pair.connection.reset_stream(1, ErrorCodes.REFUSED_STREAM)
    assert pair.said() == []
    assert list(pair.heard()) == [3]
    pair.answer(3, b'reply')
    assert pair.said() == [(key, b'reply')]


def test_a_query_of_which_the_rest_waits_is_refused_as_a_whole():
    pair = HttpPair(INITIAL_WINDOW_SIZE=10)
    pair.http.pack(QUERY.octets)
    pair.heard()
    pair.connection.reset_stream(1, ErrorCodes.REFUSED_STREAM)
    assert pair.said() == []
    again = pair.heard()
    assert list(again) == [3]
    assert raw_frame(3, 1, bytes(4))[3:9] not in pair.sent
    assert body_in(again[3]) == (QUERY.octets[:10], False)
    pair.connection.increment_flow_control_window(100, 3)
    assert pair.said() == []
    assert body_in(pair.heard()[3]) == (QUERY.octets[10:], True)


def test_a_server_that_goes_away_answers_the_queries_up_to_the_last_it_names():
    pair = HttpPair(MAX_CONCURRENT_STREAMS=3)
    keys = [pair.http.pack(QUERY.octets) for _ in range(5)]
    assert list(pair.heard()) == [1, 3, 5]
    pair.answer(1, b'one')
    said = pair.said(raw_frame(7, 0, b'\0\0\0\3\0\0\0\0'))
    assert said[0] == (keys[0], b'one')
    assert [key for key, _ in said[1:]] == [keys[2], keys[3], keys[4]]
    assert {type(error) for _, error in said[1:]} == {ConnectionResetError}
    assert pair.http.is_closing
    assert pair.said(raw_frame(7, 0, b'\0\0\0\3\0\0\0\0')) == []  # some say it twice
    pair.http.pack(QUERY.octets)
    assert pair.heard() == {}
    pair.answer(3, b'three')
    heard = pair.http.take(pair.connection.data_to_send())
    assert next(heard) == (keys[1], b'three')
    with pytest.raises(ConnectionResetError):
        next(heard)


@pytest.mark.parametrize('is_post', [True, False])
@pytest.mark.parametrize('number', [b'\0\0', b'\0\1', b'\1\0'])
def test_only_the_reply_to_a_get_gets_its_id_back(is_post, number):
    pair = HttpPair(is_post)
    pair.http.pack(QUERY.octets)
    pair.heard()
    pair.answer(1, number + b'reply')
    ((_, reply),) = pair.said()
    is_anew = not is_post and number == b'\0\0'
    assert reply == (QUERY.octets[:2] if is_anew else number) + b'reply'


def test_a_query_that_is_given_up_is_not_asked_or_reset():
    pair = HttpPair(INITIAL_WINDOW_SIZE=10)
    keys = [pair.http.pack(QUERY.octets) for _ in range(3)]
    assert pair.http.give_up(keys[1])
    assert list(pair.heard()) == [1, 3]
    for _ in range(2):  # once more does nothing
        assert pair.http.give_up(keys[0])
    assert [event.error_code for event in pair.heard()[1]] == [ErrorCodes.CANCEL]
    pair.answer(3, b'reply')
    ((key, reply),) = pair.said()
    assert (key, reply) == (keys[2], b'reply')
    assert pair.http.give_up(key)
    (event,) = pair.heard()[3]  # the server need not wait for the rest of the query
    assert event.error_code == ErrorCodes.CANCEL
    assert not pair.http.exchanges
    assert not pair.http.uploads
    assert pair.heard() == {}


def test_at_most_100_queries_are_asked_at_once():
    pair = HttpPair(MAX_CONCURRENT_STREAMS=1000)
    for _ in range(103):
        pair.http.pack(QUERY.octets)
    assert len(pair.heard()) == 100
    pair.answer(1, b'reply')
    pair.answer(7, b'reply')
    assert len(pair.said()) == 2
    assert list(pair.heard()) == [201, 203]


@pytest.mark.parametrize(
    'status, said',
    [
        ('200', None),
        ('299', None),
        ('300', 300),
        ('404', 404),
        ('999', 999),
        *[(status, 'no number') for status in ('', 'abc', '20', '2000', '2\u0660\u0660', '200 ')],
    ],
)
def test_only_a_status_of_200_to_299_is_a_success(status, said):
    pair = HttpPair()
    key = pair.http.pack(QUERY.octets)
    pair.heard()
    pair.answer(1, b'reply', status=status)
    ((heard, outcome),) = pair.said()
    assert heard is key
    if said is None:
        assert outcome == b'reply'
    else:
        assert isinstance(outcome, BadResponse)
        assert outcome.__traceback__ is None
        assert outcome.status == (None if said == 'no number' else said)


@pytest.mark.parametrize(
    'fields, ttls',
    [
        ([], [60, 5]),
        ([('age', '0')], [60, 5]),
        ([('age', '4')], [56, 1]),
        ([('age', '5')], [55, 0]),
        ([('age', '6')], [54, 0]),
        ([('age', '999999999')], [0, 0]),
        ([('age', '1000000000')], [60, 5]),  # that is no age
        ([('age', '-1')], [60, 5]),
        ([('age', '4 ')], [60, 5]),
    ],
)
def test_ttls_are_less_by_the_age_of_the_response(fields, ttls):
    pair = HttpPair()
    pair.http.pack(QUERY.octets)
    pair.heard()
    opt = OPT._replace(ttl=0x8000)
    reply = reply_to(parse(QUERY.octets), a(b'x', ttl=60), ns=(soa(b'x', ttl=5),), ar=(opt,))
    pair.answer(1, pack(reply), *fields)
    ((_, octets),) = pair.said()
    message = parse(octets)
    assert [message.an[0].ttl, message.ns[0].ttl] == ttls
    assert message._replace(an=(), ns=()) == reply._replace(an=(), ns=())


def unknown_frame(size):
    """A frame of a type that is to be ignored."""
    return raw_frame(0xBB, 0, bytes(size - 9))


def test_only_so_much_may_come_without_a_reply():
    pair = HttpPair()
    pair.http.pack(QUERY.octets)
    pair.http.pack(QUERY.octets)
    pair.heard()
    assert pair.connection.remote_settings.enable_push == 0
    assert pair.said(unknown_frame(10_000)) == []
    pair.answer(1, b'reply')
    assert len(pair.said()) == 1  # the count begins anew
    for _ in range(8):
        assert pair.said(unknown_frame(module.MAX_WITHOUT_REPLY // 8)) == []
    with pytest.raises(ConnectionAbortedError):
        pair.said(b'\0')


def test_a_frame_has_at_most_16384_octets():
    pair = HttpPair()
    assert pair.said(unknown_frame(9 + 16_384)) == []
    with pytest.raises(ConnectionAbortedError):
        pair.said(unknown_frame(9 + 16_385)[:9])


def test_a_request_says_what_it_asks_for_and_nothing_more():
    octets = QUERY.octets[:-1] + b'\xff\xfe\xfb'
    head = [(':scheme', 'https'), (':authority', 'dns.example')]
    accept = ('accept', 'application/dns-message')
    for path, is_post in (('/dns-query', True), ('/dns-query', False), ('/q?a=b', False)):
        pair = HttpPair(is_post, path)
        pair.http.pack(octets)
        request, *rest = pair.heard()[1]
        if is_post:
            assert body_in(rest) == (octets, True)
            assert request.headers == [
                *[(':method', 'POST'), (':path', path), *head, accept],
                ('content-type', 'application/dns-message'),
                ('content-length', str(len(octets))),
            ]
        else:
            assert body_in(rest) == (b'', True)
            coded = base64.urlsafe_b64encode(b'\0\0' + octets[2:]).rstrip(b'=').decode()
            assert '-' in coded or '_' in coded
            target = f'{path}{"&" if "?" in path else "?"}dns={coded}'
            assert request.headers == [(':method', 'GET'), (':path', target), *head, accept]


def test_a_query_in_a_target_is_whole_whatever_its_end():
    for end in range(256):
        for octets in (bytes([0, 0, end]), bytes([0, 0, 0, end]), bytes([0, 0, 0, 0, end])):
            exchange = module.HttpExchange(octets, '/dns-query', False)
            assert query_in_target(exchange.target) == octets


@pytest.mark.parametrize('field', [('connection', 'close'), ('Server', 'x'), ('x', ' y ')])
def test_a_field_that_is_not_allowed_costs_nothing(field):
    pair = HttpPair()
    keys = [pair.http.pack(QUERY.octets) for _ in range(2)]
    pair.heard()
    pair.answer(1, b'one', field)
    pair.answer(3, b'two')
    assert pair.said() == [(keys[0], b'one'), (keys[1], b'two')]


@pytest.mark.parametrize(
    'content_type, is_ours',
    [
        ('application/dns-message', True),
        ('Application/DNS-Message', True),
        (' application/dns-message ; charset=utf-8', True),
        ('application/dns-message;', True),
        ('application/dns-messages', False),
        ('application/dns', False),
        ('text/html; application/dns-message', False),
        ('', False),
    ],
)
def test_a_response_is_a_dns_message_or_of_no_use(content_type, is_ours):
    pair = HttpPair()
    pair.http.pack(QUERY.octets)
    pair.heard()
    head = [(':status', '200'), ('content-type', content_type)]
    pair.connection.send_headers(1, head)
    pair.connection.send_data(1, b'reply', end_stream=True)
    ((_, outcome),) = pair.said()
    assert outcome == b'reply' if is_ours else isinstance(outcome, BadResponse)


@pytest.mark.parametrize('is_all', [True, False])
def test_what_is_left_of_an_error_is_cancelled(is_all):
    pair = HttpPair()
    pair.http.pack(QUERY.octets)
    pair.heard()
    pair.connection.send_headers(1, [(':status', '404')], end_stream=is_all)
    ((_, outcome),) = pair.said()
    assert (type(outcome), outcome.status) == (BadResponse, 404)
    codes = [event.error_code for event in pair.heard().get(1, [])]
    assert codes == ([] if is_all else [ErrorCodes.CANCEL])
    assert (raw_frame(3, 1, bytes(4))[3:9] in pair.sent) == (not is_all)


def test_a_response_has_at_most_65535_octets():
    for size in (65_535, 65_536):
        pair = HttpPair()
        pair.http.pack(QUERY.octets)
        pair.heard()
        pair.answer(1)
        outcomes = []
        for at in range(0, size, 10_000):
            pair.connection.send_data(1, bytes(min(10_000, size - at)))
            outcomes += pair.said()
            pair.heard()
        if size == 65_535:
            pair.connection.end_stream(1)
            outcomes += pair.said()
        ((_, outcome),) = outcomes
        assert outcome == bytes(size) if size == 65_535 else isinstance(outcome, BadResponse)


def test_a_connection_that_is_not_ready_ends_without_a_word(authority):
    tls = module.Tls(module.to_context(authority.path), 'dns.example', 'dot')
    hello = tls.wrap(b'query')
    assert hello[0] == 22 and b'dns.example' in hello and b'query' not in hello
    assert tls.end() == tls.wrap(b'') == b''


def test_a_connection_is_ready_after_the_handshake_and_says_that_it_ends(authority):
    client = module.Tls(module.to_context(authority.path), 'dns.example', 'dot')
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = server_context(authority, 'dns.example')
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(client.wrap(b'one'))
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    assert client.unwrap(outgoing.read()) == b''
    incoming.write(client.wrap(b''))
    server.do_handshake()
    assert (client.is_ready, server.read()) == (True, b'one')
    incoming.write(client.wrap(b'two'))
    assert server.read() == b'two'
    for octets in (b'reply', bytes(40_000)):  # which takes three records
        server.write(octets)
        assert client.unwrap(outgoing.read()) == octets
    server.write(b'cut')
    octets = outgoing.read()
    assert (client.unwrap(octets[:-1]), client.unwrap(octets[-1:])) == (b'', b'cut')
    assert not client.is_over
    with pytest.raises(ssl.SSLWantReadError):
        server.unwrap()
    assert client.unwrap(outgoing.read()) == b''
    assert client.is_over
    incoming.write(client.end())
    server.unwrap()


def test_replies_that_are_under_way_are_no_flood():
    pair = HttpPair()
    keys = [pair.http.pack(QUERY.octets) for _ in range(4)]
    for stream_id in pair.heard():
        pair.answer(stream_id)
    for _ in range(6):
        for stream_id in (1, 3, 5, 7):
            for size in (1000, 8000, 1000):
                pair.connection.send_data(stream_id, bytes(size))
            assert pair.said() == []
            pair.heard()  # it makes room
    for stream_id in (1, 3, 5, 7):
        pair.connection.end_stream(stream_id)
    assert pair.said() == [(key, bytes(60_000)) for key in keys]


# --- 13. The system's files --------------------------------------------------


def conf_of(text, environ=None, host_name='host'):
    """What resolv.conf says, from the text between its line breaks."""
    return module.parse_resolv_conf(text.split('\n'), environ or {}, host_name)


def test_resolv_conf_gives_nameservers_and_warns_of_the_rest(caplog):
    lines = [
        '# a comment\n',
        '; another\n',
        '\n',
        'nameserver 192.0.2.1\n',
        '  nameserver\t2001:db8::1   # trailing\n',
        'nameserver fe80::1%lo\n',
        'nameserver 192.0.2.4 192.0.2.5\n',
        'search example.com\n',
        'sortlist 192.0.2.0/255.255.255.0\n',
        'options ndots:5\n',
        'nameserver\n',
        'nameserver example.com\n',
        'nameserver 192.0.2.256\n',
        'name\udcffserver 192.0.2.3\n',
        '\0\n',
        'x' * 100_000,
        'nameserver ' + 'x' * 100_000,
    ]
    assert module.parse_resolv_conf(lines, {}, 'host').nameservers == (
        (IPv4Address('192.0.2.1'), 53),
        (IPv6Address('2001:db8::1'), 53),
        (IPv6Address('fe80::1%lo'), 53),
        (IPv4Address('192.0.2.4'), 53),
    )
    assert len(caplog.records) == 7
    assert max(len(record.getMessage()) for record in caplog.records) < 600
    assert {record.name for record in caplog.records} == {'aiodnsresolver'}
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_without_a_word_in_resolv_conf_all_is_as_usual():
    conf = conf_of('')
    assert conf == module.Conf()
    assert conf[:5] == (((IPv4Address('127.0.0.1'), 53),), (), 1, 0.5, 5)
    assert not any(conf[5:])


@pytest.mark.parametrize(
    'text, environ, host_name, search',
    [
        ('search a.example b.example\n', {}, 'host.c.example', [b'a.example', b'b.example']),
        ('search A.Example. \t . a.example # not this\n', {}, 'host', [b'a.example', b'']),
        ('domain a.example b.example\n', {}, 'host', [b'a.example']),
        ('domain a.example\nsearch b.example c.example', {}, 'host', [b'b.example', b'c.example']),
        ('search b.example c.example\ndomain a.example', {}, 'host', [b'a.example']),
        ('search a.example\nsearch\ndomain \n', {}, 'host', [b'a.example']),
        ('search .', {}, 'host.c.example', [b'']),
        ('search UNIX\r', {}, 'host', [b'unix']),
        ('', {}, 'host.c.example', [b'c.example']),
        ('', {}, 'host.', []),
        ('', {}, '', []),
        ('', {}, 'host..c', []),
        ('search a.example', {'LOCALDOMAIN': 'b.example\t. '}, 'x.y', [b'b.example', b'']),
        ('', {'LOCALDOMAIN': 'b.example\nc.example'}, 'x.y', [b'b.example']),
        ('search a.example', {'LOCALDOMAIN': ''}, 'x.y', []),
        ('search a.example', {'RES_OPTIONS': 'search b.example'}, 'host', [b'a.example']),
        ('search b\u00fccher.example a\\.b', {}, 'host', [b'xn--bcher-kva.example', b'a\\.b']),
    ],
)  # fmt: skip
def test_the_search_list_is_that_of_the_c_library(text, environ, host_name, search):
    assert conf_of(text, environ, host_name).search == tuple(search)


EMPTY = module.Conf()._asdict()


# Files that are in the tests of Go's net and c-ares, what differs from an empty one, and how many
# warnings there are.
@pytest.mark.parametrize(
    'text, expected, warnings',
    [
        (
            '# a comment\n\ndomain localdomain\nnameserver 203.0.113.8\n'
            'nameserver 2001:db8::8\nnameserver fe80::1%lo0\n'
            'options ndots:5 timeout:10 attempts:3 rotate\noptions attempts 3\n',
            {
                'nameservers': ('203.0.113.8', '2001:db8::8', 'fe80::1%lo0'),
                'search': (b'localdomain',),
                'ndots': 5,
                'timeout': 10,
                'attempts': 3,
                'rotate': True,
            },
            0,
        ),
        (
            '# of a DHCP client\nsearch c.symbolic-552.internal.\nnameserver 169.254.169.254\n'
            'nameserver 10.240.0.1\nlookup file bind\n',
            {
                'nameservers': ('169.254.169.254', '10.240.0.1'),
                'search': (b'c.symbolic-552.internal',),
            },
            1,  # lookup is of OpenBSD
        ),
        ('search test\nsearch test invalid\n', {'search': (b'test', b'invalid')}, 0),
        ('search test\ndomain localdomain\n', {'search': (b'localdomain',)}, 0),
        ('search .\n', {'search': (b'',)}, 0),  # as none, and not the domain of the host's name
        ('options ndots:invalid\n', {}, 1),  # in Go 0, in glibc 1 as well
        ('options ndots:-1\n', {}, 1),
        ('options ndots:16\n', {'ndots': 15}, 0),
        ('options use-vc\n', {'use_vc': True}, 0),
        ('options usevc\noptions tcp\n', {}, 0),  # of FreeBSD and OpenBSD
        # Each query has a socket of its own, so that these are not needed.
        ('options single-request single-request-reopen edns0 no-reload\n', {}, 0),
        (
            'search example.com example.org\noptions edns0 trust-ad\n',
            {'search': (b'example.com', b'example.org'), 'trust_ad': True},
            0,
        ),
        ('options edns0 trust-ad ndots:0\n', {'trust_ad': True, 'ndots': 0}, 0),
        ('options retrans:1 retry:2 debug\n', {}, 0),  # of c-ares and Solaris
        ('sortlist 192.0.2.0/26 2001:db8::/32\n', {}, 0),
        ('nameserver 192.0.2.1:5353\nnameserver [2001:db8::1]:53\n', {}, 2),  # c-ares: a port
        ('nameserver 192.0.2.1 192.0.2.2\n', {'nameservers': ('192.0.2.1',)}, 0),
        ('nameserver 192.0.2.1 # ours\n', {'nameservers': ('192.0.2.1',)}, 0),
        ('; a comment\nnameserver 192.0.2.1;53\n', {}, 1),
        ('nameserver 0.0.0.0\n', {'nameservers': ('0.0.0.0',)}, 0),  # this host
    ],
)
def test_a_resolv_conf_of_other_resolvers_tests_says(text, expected, warnings, caplog):
    conf = conf_of(text)
    said = {name: value for name, value in conf._asdict().items() if value != EMPTY[name]}
    if 'nameservers' in said:
        said['nameservers'] = tuple([str(address) for address, _ in conf.nameservers])
    assert said == expected
    assert len(caplog.records) == warnings


# The domain of the host's name is the search list without another one: from the tests of Go.
@pytest.mark.parametrize(
    'host_name, search',
    [
        ('host.long.domain.local', (b'long.domain.local',)),
        ('host.local', (b'local',)),
        ('host', ()),
        ('foo.', ()),
    ],
)
def test_the_domain_of_a_host_is_what_follows_its_first_label(host_name, search):
    assert conf_of('nameserver 192.0.2.1\n', host_name=host_name).search == search


def test_a_domain_that_is_no_name_costs_only_itself(caplog):
    for bad in ('a..b', '\udcff', 'x' * 64, 'a.' * 200, 'y' * 100_000, '\\999', 'a\u200db'):
        caplog.clear()
        assert conf_of(f'search a.example {bad} b.example', {}, 'x.y').search == (
            b'a.example',
            b'b.example',
        )
        assert conf_of(f'search {bad}', {'LOCALDOMAIN': bad}, 'x.y').search == ()
        assert conf_of('', {}, f'host.{bad}').search == ()
        assert len(caplog.records) == 3
        assert max(len(record.getMessage()) for record in caplog.records) < 1500


def test_a_search_list_is_bounded(caplog):
    domains = [f'd{number}.example' for number in range(5000)]
    conf = conf_of('search ' + ' '.join(domains))
    assert conf.search == tuple(domain.encode() for domain in domains[:32])
    assert len(caplog.records) == 1
    assert conf_of('search ' + ' '.join(domains[:32])) == conf
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    'options, expected',
    [
        ('ndots:2', {'ndots': 2}),
        ('ndots:0', {'ndots': 0}),
        ('ndots:15', {'ndots': 15}),
        ('ndots:16', {'ndots': 15}),
        ('ndots:100', {'ndots': 15}),
        ('timeout:3 attempts:2', {'timeout': 3, 'attempts': 2}),
        ('timeout:0 attempts:0', {'timeout': 1, 'attempts': 1}),
        ('timeout:31 attempts:6', {'timeout': 30, 'attempts': 5}),
        ('timeout:007', {'timeout': 7}),
        ('rotate use-vc', {'rotate': True, 'use_vc': True}),
        ('trust-ad\tno-aaaa', {'trust_ad': True, 'no_aaaa': True}),
        ('timeout:3 timeout:4', {'timeout': 4}),
        ('timeout:3\noptions rotate', {'timeout': 3, 'rotate': True}),
        ('rotate # use-vc', {'rotate': True}),
        ('rotate:1 use_vc no-AAAA notrotate', {}),
        ('edns0 inet6 single-request no-tld-query ndots attempts debug x:y : \udcff', {}),
    ],
)  # fmt: skip
def test_options_are_those_of_the_c_library_and_the_rest_is_passed_over(options, expected, caplog):
    assert conf_of(f'options {options}\n') == module.Conf(**expected)
    if options.isprintable() and '#' not in options:  # one line without a comment
        assert conf_of('', {'RES_OPTIONS': options}) == module.Conf(**expected)
    assert caplog.records == []


@pytest.mark.parametrize(
    'option',
    [
        *('ndots:', 'timeout:x', 'timeout:-1', 'attempts:1.5', 'ndots:\u0665', 'ndots:1_0'),
        *('ndots:2:3', 'ndots:\xb2'),
    ],
)
def test_an_option_without_its_number_costs_only_itself(option, caplog):
    assert conf_of(f'options rotate {option} use-vc\n') == module.Conf(rotate=True, use_vc=True)
    assert len(caplog.records) == 1
    conf_of(f'options {option}{"x" * 100_000}')
    assert len(caplog.records[1].getMessage()) < 200


def test_a_number_of_any_length_is_the_nearest_in_range():
    conf = conf_of(f'options timeout:{"9" * 100_000} attempts:{"0" * 100_000} ndots:{"0" * 9999}7')
    assert conf == module.Conf(timeout=30, attempts=1, ndots=7)


def test_options_of_the_environment_come_after_those_of_the_file():
    environ = {'RES_OPTIONS': 'timeout:2 rotate'}
    conf = conf_of('options timeout:9 attempts:3', environ)
    assert conf == module.Conf(timeout=2, attempts=3, rotate=True)


def test_hosts_gives_all_addresses_of_a_name_and_warns_of_bad_lines(caplog):
    lines = [
        '192.0.2.1 Www.Example.COM www # comment\n',
        '192.0.2.1 UNIX\n',
        '192.0.2.2\twww.example.com.\n',
        '2001:db8::1 www.example.com\n',
        'fe80::1%lo scoped\n',
        '192.0.2.1 www.example.com\n',
        'bücher www.example.com\n',
        '192.0.2.3 a..b\n',
        '192.0.2.4 \udcff\n',
        '192.0.2.5\n',
        '#\n',
        '\n',
    ]
    hosts = module.parse_hosts(lines)
    assert hosts[b'www.example.com'] == {
        TYPES.A: (IPv4Address('192.0.2.1'), IPv4Address('192.0.2.2')),
        TYPES.AAAA: (IPv6Address('2001:db8::1'),),
        module.CANONICAL_NAME: b'Www.Example.COM',
        module.CANONICAL_NAME - TYPES.A: b'Www.Example.COM',
        module.CANONICAL_NAME - TYPES.AAAA: b'www.example.com',
    }
    assert hosts[b'www'][TYPES.A] == (IPv4Address('192.0.2.1'),)
    assert hosts[b'www'][TYPES.AAAA] == ()
    assert hosts[b'www'][module.CANONICAL_NAME] == b'Www.Example.COM'
    scoped = IPv6Address('fe80::1%lo')
    assert hosts[b'scoped'] == {
        TYPES.A: (),
        TYPES.AAAA: (scoped,),
        module.CANONICAL_NAME: b'scoped',
        module.CANONICAL_NAME - TYPES.AAAA: b'scoped',
    }
    assert set(hosts) == {b'www.example.com', b'www', b'scoped', b'unix'}
    assert len(caplog.records) == 3


# Files that are in the tests of Go's net, c-ares and systemd-resolved, and the addresses of each
# name; where there is none, the name is not in the file.
@pytest.mark.parametrize(
    'text, expected',
    [
        (
            '255.255.255.255\tbroadcasthost\n127.0.0.2\todin\n127.0.0.3\todin  # inline \n'
            '::2             odin\n127.1.1.1\tthor\n# aliases\n127.1.1.2\tullr ullrhost\n'
            'fe80::1%lo0\tlocalhost\n# no addresses\n123.123.123\tloki\n321.321.321.321\n',
            {
                'broadcasthost': '255.255.255.255',
                'odin': '127.0.0.2 127.0.0.3 ::2',
                'thor': '127.1.1.1',
                'ullr': '127.1.1.2',
                'ullrhost': '127.1.1.2',
                'localhost': 'fe80::1%lo0',
                'loki': '',
                'inline': '',
            },
        ),
        ('127.0.0.2  odin', {'odin': '127.0.0.2'}),  # no newline
        (
            '::1\t\tlocalhost\t# tab\nfe80:0:0:0:0:0:0:1\tlocalhost       # blank\n'
            'fe80:0000::0002%lo0\tlocalhost\nfe80::3%lo0\tlocalhost\tlocalhost.localdomain\n',
            {
                'localhost': '::1 fe80::1 fe80::2%lo0 fe80::3%lo0',
                'localhost.localdomain': 'fe80::3%lo0',
            },
        ),
        (
            '127.0.0.1\tPreserveMe\tPreserveMe.local\n::1\tPreserveMe PreserveMe.local\n',
            {'PreserveMe': '127.0.0.1 ::1', 'PRESERVEME.local.': '127.0.0.1 ::1'},
        ),
        (
            '192.0.2.4 some.where\n192.0.2.5 some.where\n192.0.2.6 dash dash-dash.where-dash\n'
            '192.0.2.7 bad-dash- -bad-dash -bad-dash.bad-\n192.0.2.8\n'
            '192.0.2.9 before # within\n192.0.2.10 before#within2\n'
            '192.0.2.11 before# within3\n192.0.2.12 before#\n192.0.2 short\n'
            '192.0.2.4.5 long\n2001::2::3 colons\n'
            '::0 some.where some.other\n0.0.0.0 deny\n'
            '::5\t\t\t \tsome.where\tsome.other foo.foo\t\t\t\n        \n',
            {
                # resolved takes the address of no host for a name that does not exist.
                'some.where': '192.0.2.4 192.0.2.5 :: ::5',
                'some.other': ':: ::5',
                'deny': '0.0.0.0',
                'dash': '192.0.2.6',
                'dash-dash.where-dash': '192.0.2.6',
                # resolved leaves out what is no host name.
                'bad-dash-': '192.0.2.7',
                '-bad-dash': '192.0.2.7',
                'before': '192.0.2.9 192.0.2.10 192.0.2.11 192.0.2.12',
                'within': '',
                'within2': '',
                'short': '',
                'long': '',
                'colons': '',
                'foo.foo': '::5',
            },
        ),
        (
            '192.0.2.4 example.com  \n  192.0.2.5\tx.example   www.x.example\twww2\n'
            '#comment\n192.0.2.7\n198.51.100.7  \n::1    six\n192.0.2.4 example.com again\n',
            {
                'example.com': '192.0.2.4',
                'x.example': '192.0.2.5',
                'www.x.example': '192.0.2.5',
                'www2': '192.0.2.5',
                'six': '::1',
                'again': '192.0.2.4',
                'comment': '',
            },
        ),
        ('192.0.2.1 invalid.test invalid.invalid\n', {'invalid.invalid': '192.0.2.1'}),
    ],
)
def test_hosts_of_other_resolvers_tests_say(text, expected):
    hosts = module.parse_hosts(text.splitlines(keepends=True))
    for name, addresses in expected.items():
        by_type = hosts.get(module.to_name(name).lower(), {TYPES.A: (), TYPES.AAAA: ()})
        assert texts([*by_type[TYPES.A], *by_type[TYPES.AAAA]]) == addresses.split()


# What is no name: labels that are empty or too long, or escapes, octets or characters that no
# name can have.
NO_NAMES = [
    'bad..name',
    'x' * 64,
    'a.' * 200,
    '\\999',
    '\udcff',
    'a\u200db',
    'a\u3000b',
    'y' * 100_000,
]


@pytest.mark.parametrize('bad', NO_NAMES, ids=range(len(NO_NAMES)))
def test_a_name_of_hosts_that_is_none_costs_only_itself(bad, caplog):
    lines = [f'10.0.0.5 good {bad} other {bad}\n', f'{bad} lost\n', '::1 good\n']
    hosts = module.parse_hosts(lines)
    addresses = {
        TYPES.A: (IPv4Address('10.0.0.5'),),
        TYPES.AAAA: (),
        module.CANONICAL_NAME: b'good',
        module.CANONICAL_NAME - TYPES.A: b'good',
    }
    of_ipv6 = {
        TYPES.AAAA: (IPv6Address('::1'),),
        module.CANONICAL_NAME - TYPES.AAAA: b'good',
    }
    assert hosts == {
        b'good': addresses | of_ipv6,
        b'other': addresses,
    }
    assert len(caplog.records) == 3
    assert max(len(record.getMessage()) for record in caplog.records) < 1000


# Of an IPv6 address: one that no interface can have, or that has a meaning in a URL.
@pytest.mark.parametrize(
    'scope',
    [
        *('an-interface-too-long', '99999999999', '4294967296', '16-characters-16'),
        *('a\0b', 'a/b', 'a]b', 'a#b', ']'),
    ],
)
def test_a_nameserver_with_a_scope_that_cannot_be_costs_only_itself(scope, caplog):
    conf = conf_of(f'nameserver fe80::1%{scope}\nnameserver 192.0.2.1\noptions use-vc\n')
    assert conf.nameservers == ((IPv4Address('192.0.2.1'), 53),)
    hosts = module.parse_hosts([f'fe80::1%{scope} lost\n', '192.0.2.1 good\n'])
    assert list(hosts) == [b'good']
    assert len(caplog.records) == (2 if '#' not in scope else 1)  # a comment, in hosts
    with pytest.raises(InvalidName):
        module.to_server((f'fe80::1%{scope}', 53))


@pytest.mark.parametrize('scope', ['15-characters-x', '4294967295', '1', 'lo'])
def test_a_nameserver_may_have_any_scope_that_can_be(scope):
    conf = conf_of(f'nameserver fe80::1%{scope}\n')
    assert conf.nameservers == ((IPv6Address(f'fe80::1%{scope}'), 53),)


@given(st.lists(st.text('fe80:%1.-/#[]\0\r\u00a0\udcff\u0663', max_size=24), max_size=4))
def test_every_nameserver_of_resolv_conf_can_be_asked(words):
    text = ''.join([f'nameserver {word}\nnameserver fe80::1%{word}\n' for word in words])
    for use_vc in (False, True):
        conf = conf_of(text)._replace(use_vc=use_vc)
        for _, nameserver in module.sets_of(conf):
            assert module.to_server(nameserver).is_stream == use_vc


@pytest.mark.parametrize('blank', ['\u00a0', '\u3000', '\x85', '\x1c', '\u2028', '\r'])
def test_only_ascii_blanks_divide_words_and_only_newlines_lines(tmp_path, blank, caplog):
    path = tmp_path / 'file'
    path.write_bytes(f'192.0.2.1 a{blank}192.0.2.2 b\n192.0.2.3 c\n'.encode())
    hosts = module.ConfigFile(str(path), module.parse_hosts).current(0.0)
    assert {b'b', b'c'} <= hosts.keys()
    assert b'a' not in hosts
    assert hosts[b'b'][TYPES.A] == (IPv4Address('192.0.2.1'),)
    path.write_bytes(f'nameserver 192.0.2.1{blank}192.0.2.2\nsearch a{blank}b c\n'.encode())
    conf = module.ConfigFile(str(path), module.parse_resolv_conf).current(0.0)
    assert conf.nameservers == module.Conf().nameservers
    assert len(conf.search) == (2 if blank in '\x1c\r' else 1)
    assert conf.search[-1] == b'c'


def test_blanks_and_line_ends_of_other_systems(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'\xff\xfe\n\t192.0.2.1 \t a\tb \r\n\r\n192.0.2.2\x0bc\x0cd\r\n192.0.2.3 e\r')
    hosts = module.ConfigFile(str(path), module.parse_hosts).current(0.0)
    assert list(hosts) == [b'a', b'b', b'c', b'd', b'e']
    path.write_bytes(b'search a b\r\nnameserver 192.0.2.1\r\noptions rotate\r\n')
    conf = module.ConfigFile(str(path), module.parse_resolv_conf).current(0.0)
    assert conf[:2] == (((IPv4Address('192.0.2.1'), 53),), (b'a', b'b'))
    assert conf.rotate


@pytest.mark.parametrize('scheme, port', [('udp', 53), ('tcp', 53), ('tls', 853), ('https', 443)])
def test_a_nameserver_has_the_port_of_its_protocol(scheme, port):
    assert module.to_server(f'{scheme}://192.0.2.1').address == ('192.0.2.1', port)
    assert module.to_server(f'{scheme}://192.0.2.1:1').address == ('192.0.2.1', 1)


def test_a_port_is_a_number_from_1_to_65535():
    for port in (1, 53, 65535):
        module.check_port(port)
    for port in (0, -1, 65536):
        with pytest.raises(InvalidName):
            module.check_port(port)
    for port in ('53', 53.0, None):
        with pytest.raises(TypeError):
            module.check_port(port)


@pytest.mark.parametrize(
    'url, parts',
    [
        ('udp://192.0.2.1', ('udp', '192.0.2.1', None, '', '')),
        ('tcp://192.0.2.1:5353', ('tcp', '192.0.2.1', 5353, '', '')),
        ('tcp://::1', ('tcp', '::1', None, '', '')),
        ('tls://[fe80::1%lo]:853#dns.example', ('tls', 'fe80::1%lo', 853, '', 'dns.example')),
        ('tls://192.0.2.1#::1', ('tls', '192.0.2.1', None, '', '::1')),
        ('tls://192.0.2.1#fe80::1%lo', ('tls', '192.0.2.1', None, '', 'fe80::1')),
        ('tls://192.0.2.1#B\u00fccher', ('tls', '192.0.2.1', None, '', 'xn--bcher-kva')),
        ('https://192.0.2.1', ('https', '192.0.2.1', None, '/dns-query', '')),
        ('https://192.0.2.1/', ('https', '192.0.2.1', None, '/', '')),
        ('https://[::1]:1/q?a=b#x', ('https', '::1', 1, '/q?a=b', 'x')),
        ('https://192.0.2.1/q{?dns}', ('https', '192.0.2.1', None, '/q', '')),
        ('https://dns.example:99999/~!', ('https', 'dns.example', 99999, '/~!', '')),
    ],
)
def test_the_url_of_a_nameserver_has_these_parts(url, parts):
    assert module.parse_url(url) == parts


@pytest.mark.parametrize(
    'url',
    [
        *('', '192.0.2.1', 'udp:192.0.2.1', 'ftp://192.0.2.1', 'UDP://192.0.2.1', 'udp://'),
        *('udp://192.0.2.1/', 'tls://192.0.2.1/q', 'udp://192.0.2.1#x', 'tcp://192.0.2.1#x'),
        *('tls://192.0.2.1#', 'tls://192.0.2.1:', 'tls://192.0.2.1:123456', 'tls://[::1'),
        *('tls://192.0.2.1#a b', 'tls://192.0.2.1#\\097', 'tls://192.0.2.1#a..b'),
        *('https://192.0.2.1/a b', 'https://192.0.2.1/\x7f', 'https://192.0.2.1/\u00fc'),
        *('https://192.0.2.1/#', 'xudp://192.0.2.1'),
    ],
)
def test_what_is_no_url_of_a_nameserver_is_invalid(url):
    with pytest.raises(InvalidName):
        module.parse_url(url)


@pytest.mark.parametrize(
    'search, used, ndots',
    [
        ((), (), 0),
        ((b'',), (), 0),
        ((b'', b''), (), 0),
        ((b'a',), (b'a',), 1),
        ((b'a', b''), (b'a', b''), 1),
        ((b'', b'a'), (b'', b'a'), 1),
    ],
)
def test_a_search_list_of_only_the_root_is_none(search, used, ndots):
    config = module.SystemConfig(None, None, search)
    assert (config.search, config.ndots) == (used, ndots)


def test_what_a_resolver_reads_it_checks_again_and_nothing_else(tmp_path):
    path = tmp_path / 'file'
    path.write_text('nameserver 192.0.2.1\nsearch a\n')
    conf = module.ConfigFile(str(path), module.parse_resolv_conf)
    hosts = module.ConfigFile(str(path), module.parse_hosts)
    for resolv_conf, names in ((conf, hosts), (conf, None), (None, hosts)):
        config = module.SystemConfig(resolv_conf, names, None)
        assert config.due == float('-inf')
        assert config.sets == ()
        config.sets = ('of before',)
        assert config.reload_if_changed(5.0)
        assert config.sets == ()
        assert not config.reload_if_changed(6.0)
        assert (config.since, config.due) == (6.0, 7.0)
        assert config.search == ((b'a',) if resolv_conf else ())
        conf.looked_at = hosts.looked_at = float('-inf')
    conf.current(4.0)
    config = module.SystemConfig(conf, hosts, None)
    config.reload_if_changed(5.0)
    assert (config.since, config.due) == (5.0, 6.0)  # when the first of both is due
    config = module.SystemConfig(None, None, None)
    assert (config.since, config.due) == (float('-inf'), float('inf'))
    assert not config.reload_if_changed(5.0)
    assert config.due == float('inf')


def test_a_file_is_read_again_once_it_has_changed(tmp_path):
    path = tmp_path / 'file'
    reads = []
    file = module.ConfigFile(str(path), lambda lines: reads.append(list(lines)) or len(reads))
    assert file.current(0.0) == 1
    path.write_text('one\n')
    assert file.current(0.0) == 1
    assert file.current(0.5) == 1
    assert file.current(1.9) == 1
    assert file.current(2.0) == 2
    assert file.current(4.0) == 2
    path.write_text('two, longer\n')
    assert file.current(6.0) == 3
    path.unlink()
    assert file.current(8.0) == 4
    assert file.current(0.0) == 4  # another clock
    path.write_text('three\n')
    assert file.current(1.5) == 4
    assert file.current(-0.5) == 5
    assert reads == [[], ['one\n'], ['two, longer\n'], [], ['three\n']]


def test_a_file_whose_reading_was_interrupted_is_read_anew(tmp_path):
    reads = iter([KeyboardInterrupt(), 'whole'])

    def parse_file(lines):
        read = next(reads)
        if isinstance(read, BaseException):
            raise read
        return read

    file = module.ConfigFile(str(tmp_path / 'file'), parse_file)
    with pytest.raises(KeyboardInterrupt):
        file.current(0.0)
    assert file.current(0.0) == 'whole'


def test_a_file_that_cannot_be_read_is_as_if_empty(tmp_path, caplog):
    file = module.ConfigFile(str(tmp_path), list)
    assert file.current(0.0) == []
    assert 'Cannot read' in caplog.text


def test_a_file_whose_first_reading_fails_is_as_if_empty_until_it_can_be_read(
    tmp_path, monkeypatch, caplog
):
    path = tmp_path / 'file'
    path.write_text('one\n')
    file = module.ConfigFile(str(path), list)

    def fail(*args, **options):
        raise OSError(errno.EIO, 'Input/output error')

    with monkeypatch.context() as patch:
        patch.setattr(module, 'open', fail, raising=False)
        assert file.current(0.0) == []
    assert 'Input/output error' in caplog.text
    assert file.current(2.0) == ['one\n']


def test_a_file_has_changed_with_its_size_but_not_by_being_read(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_text('one\n')
    file = module.ConfigFile(str(path), list)
    known = file.current(0.0)
    status = os.stat(path)
    # Of the same times: a clock may be coarse, and a file system need not keep the time of access.
    times = {'st_mtime_ns': status.st_mtime_ns, 'st_ctime_ns': status.st_ctime_ns}
    for field, is_same in ((stat.ST_ATIME, True), (stat.ST_SIZE, False)):
        fields = [each + (number == field) for number, each in enumerate(status[:10])]
        with monkeypatch.context() as patch:
            patch.setattr(os, 'stat', lambda _, fields=fields: os.stat_result(fields, times))
            assert (file.current(2.0) is known) == is_same
            file.looked_at = 0.0


def test_a_file_that_cannot_be_read_for_the_moment_is_as_it_was(tmp_path, caplog):
    path = tmp_path / 'file'
    new = module.ConfigFile(str(path), list)
    known = module.ConfigFile(str(path), list)
    path.write_text('one\n')
    assert known.current(0.0) == ['one\n']
    path.write_text('two, longer\n')
    with no_descriptors_left():
        with pytest.raises(SocketError, match='file: Too many open files') as raised:
            new.current(0.0)
        assert raised.value.errno == errno.EMFILE
        assert known.current(2.0) == ['one\n']
        assert len(caplog.records) == 1
    assert new.current(2.0) == known.current(4.0) == ['two, longer\n']


@pytest.mark.parametrize(
    'line, families',
    [
        ('127.0.0.1', [TYPES.A]),
        ('::1', [TYPES.AAAA]),
        ('127.0.0.2', [TYPES.A, TYPES.AAAA]),
        ('::2', [TYPES.A, TYPES.AAAA]),
    ],
)
def test_a_loopback_address_of_localhost_says_nothing_of_the_other_family(line, families):
    hosts = module.parse_hosts([f'{line} LocalHost app.localhost other\n'])
    for name in (b'localhost', b'app.localhost'):
        assert [*filter((TYPES.A, TYPES.AAAA).__contains__, hosts[name])] == families
        assert hosts[name][module.CANONICAL_NAME] == b'LocalHost'
    assert {TYPES.A, TYPES.AAAA} <= {*hosts[b'other']}


def test_an_address_of_hosts_has_the_first_name_of_its_first_line():
    lines = [
        '\r\n',
        '192.0.2.1 Www.Example other\r\n',
        '192.0.2.2 # none\n',
        '192.0.2.2 a..b good\n',
        '192.0.2.2 two#three\n',
        '192.0.2.1 again\n',
        'none four\n',
        '::1 Six\n',
        '::2 more\n',
        '::ffff:192.0.2.3 mapped\n',
        'fe80::1%9 scoped\n',
        '192.0.2.4 last\r',
    ]
    expected = {
        '192.0.2.1': b'Www.Example',
        '192.0.2.2': b'two',
        '::1': b'Six',
        '127.0.0.1': b'Six',
        '::2': b'more',
        '::ffff:192.0.2.3': b'mapped',
        '192.0.2.3': b'mapped',
        'fe80::1%9': b'scoped',
        '192.0.2.4': b'last',
    }
    names = module.parse_host_names(lines)
    assert names == {ip_address(address): name for address, name in expected.items()}
    names = module.parse_host_names(['127.0.0.1 Four\n', '::1 Six\n'])
    assert names == {IPv4Address('127.0.0.1'): b'Four', IPv6Address('::1'): b'Six'}


class StandInForWinreg:
    """What the module uses of winreg: keys by path, each a dict of values by name.

    An exception instead of a dict or of a value is raised.
    """

    HKEY_LOCAL_MACHINE = object()

    def __init__(self, keys):
        self.keys = keys
        self.opened = 0  # keys that are not closed

    @contextlib.contextmanager
    def key_of(self, path):
        self.opened += 1
        try:
            yield path
        finally:
            self.opened -= 1

    def found(self, values, name):
        if name not in values:
            raise FileNotFoundError(errno.ENOENT, 'The system cannot find the file specified')
        if isinstance(values[name], Exception):
            raise values[name]
        return values[name]

    def OpenKey(self, root, path):
        assert root is self.HKEY_LOCAL_MACHINE
        if not any(each.startswith(f'{path}\\') for each in self.keys):
            self.found(self.keys, path)
        return self.key_of(path)

    def names_below(self, path):
        below = [each[len(path) + 1 :] for each in self.keys if each.startswith(f'{path}\\')]
        return [*dict.fromkeys(each.partition('\\')[0] for each in below)]

    def QueryInfoKey(self, path):
        return len(self.names_below(path)), len(self.keys.get(path, ())), 0

    def EnumKey(self, path, index):
        return self.names_below(path)[index]

    def QueryValueEx(self, path, name):
        value = self.found(self.keys.get(path, {}), name)
        return value, 1 if isinstance(value, str) else 4


TCPIP = r'SYSTEM\CurrentControlSet\Services\Tcpip\Parameters'
TCPIP6 = r'SYSTEM\CurrentControlSet\Services\Tcpip6\Parameters'
NETWORK = r'SYSTEM\CurrentControlSet\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}'
DEVICES = r'SYSTEM\CurrentControlSet\Enum'


@pytest.fixture
def windows(monkeypatch):
    """The keys of a registry, to be filled."""
    winreg = StandInForWinreg({TCPIP: {}})
    monkeypatch.setitem(sys.modules, 'winreg', winreg)
    module.config_file.cache_clear()
    module.warn_of_value.cache_clear()
    yield winreg.keys
    module.config_file.cache_clear()
    assert winreg.opened == 0


def registry_conf():
    lines = [*module.registry_lines()]
    conf = module.parse_resolv_conf(lines, {}, 'host')
    return [str(address) for address, _ in conf.nameservers], conf.search


@pytest.mark.parametrize(
    'keys, nameservers, search',
    [
        ({}, ['127.0.0.1'], ()),
        ({TCPIP: {'NameServer': '', 'Domain': ''}}, ['127.0.0.1'], ()),
        # What the administrator set comes before what DHCP said, for each interface.
        (
            {
                rf'{TCPIP}\Interfaces\{{a}}': {
                    'NameServer': '192.0.2.1,192.0.2.2',
                    'DhcpNameServer': '192.0.2.3',
                    'Domain': '',
                    'DhcpDomain': 'a.example',
                },
                rf'{TCPIP}\Interfaces\{{b}}': {
                    'NameServer': ' , ',
                    'DhcpNameServer': '192.0.2.2 192.0.2.4',
                    'Domain': 'b.example',
                    'DhcpDomain': 'c.example',
                },
                rf'{TCPIP6}\Interfaces\{{a}}': {'NameServer': '2001:db8::1, fe80::1%4'},
            },
            ['192.0.2.1', '192.0.2.2', '192.0.2.4', '2001:db8::1', 'fe80::1%4'],
            (b'a.example', b'b.example'),
        ),
        # What is set for all interfaces comes first; a list of suffixes replaces the others.
        (
            {
                TCPIP: {'NameServer': '192.0.2.9', 'Domain': 'own.example'},
                rf'{TCPIP}\Interfaces\{{a}}': {
                    'DhcpNameServer': '192.0.2.1',
                    'DhcpDomain': '.A.example',
                },
            },
            ['192.0.2.9', '192.0.2.1'],
            (b'own.example', b'a.example'),
        ),
        (
            {
                TCPIP: {'SearchList': 'x.example,y.example . z.example', 'Domain': 'own.example'},
                rf'{TCPIP}\Interfaces\{{a}}': {'Domain': 'a.example'},
            },
            ['127.0.0.1'],
            (b'x.example', b'y.example', b'z.example'),
        ),
        ({TCPIP: {'DhcpDomain': 'own.example'}}, ['127.0.0.1'], (b'own.example',)),
        # An adapter that is disabled is not used. Of one that is not known nobody can say.
        (
            {
                rf'{TCPIP}\Interfaces\{{a}}': {'NameServer': '192.0.2.1'},
                rf'{TCPIP}\Interfaces\{{b}}': {'NameServer': '192.0.2.2'},
                rf'{TCPIP}\Interfaces\{{c}}': {'NameServer': '192.0.2.3'},
                rf'{NETWORK}\{{a}}\Connection': {'PnpInstanceID': r'PCI\1'},
                rf'{NETWORK}\{{b}}\Connection': {'PnpInstanceID': r'PCI\2'},
                rf'{DEVICES}\PCI\1': {'ConfigFlags': 1},
                rf'{DEVICES}\PCI\2': {'ConfigFlags': 4},
            },
            ['192.0.2.2', '192.0.2.3'],
            (),
        ),
    ],
)
def test_nameservers_and_search_list_are_those_of_the_registry(windows, keys, nameservers, search):
    windows.update(keys)
    assert registry_conf() == (nameservers, search)


def test_what_is_not_valid_in_the_registry_costs_itself_and_a_warning(windows, caplog):
    windows[TCPIP] = {'NameServer': ['192.0.2.8'], 'SearchList': 'a..b,c.example,\udc80'}
    values = {'NameServer': 7, 'DhcpNameServer': '192.0.2.1 1.2.3 #x fe80::1%\0 192.0.2.2'}
    windows[rf'{TCPIP}\Interfaces\{{a}}'] = values
    windows[rf'{NETWORK}\{{a}}\Connection'] = {'PnpInstanceID': 9}
    windows[rf'{DEVICES}\9'] = {'ConfigFlags': 'text'}
    windows[rf'{TCPIP}\Interfaces\{{b}}'] = {'NameServer': PermissionError(13, 'Access denied')}
    assert registry_conf() == (['192.0.2.1', '192.0.2.2'], (b'c.example',))
    texts = [record.getMessage() for record in caplog.records]
    assert [text.isprintable() for text in texts] == [True] * 8
    for word in ("'a..b'", "'\\udc80'", "'1.2.3'", "''", "'fe80::1%\\x00'"):
        assert sum(word in text for text in texts) == 1, word
    of_values = [text for text in texts if 'NameServer of the registry' in text]
    assert [text.rpartition(': ')[2] for text in of_values] == [
        *['not text'] * 2,
        '[Errno 13] Access denied',
    ]
    caplog.clear()
    assert [*module.registry_lines()]
    assert caplog.records == []  # again


def test_the_registry_is_read_again_once_it_has_changed(windows, caplog):
    file = module.config_file(module.REGISTRY, module.parse_resolv_conf)
    assert file is module.config_file(module.REGISTRY, module.parse_resolv_conf)
    first = file.current(0.0)
    assert first == module.Conf(search=first.search)
    windows[TCPIP] = {'NameServer': '192.0.2.1'}
    assert file.current(0.0) is file.current(0.5) is file.current(1.9) is first
    changed = file.current(2.0)
    assert changed.nameservers == ((IPv4Address('192.0.2.1'), 53),)
    windows[TCPIP] = {'NameServer': '192.0.2.2'}
    assert file.current(3.9) is changed
    windows[TCPIP] = {'NameServer': '192.0.2.1'}
    assert file.current(4.0) is changed
    windows[TCPIP] = OSError(errno.ENOMEM, 'Insufficient system resources')
    assert file.current(6.0) is changed
    assert 'Cannot read the registry' in caplog.text
    windows[TCPIP] = {}
    assert file.current(8.0) == first
    windows[TCPIP] = {'NameServer': '192.0.2.1'}
    assert file.current(7.5) == changed  # another clock


def test_a_registry_that_was_never_read_is_an_error(windows):
    windows[TCPIP] = OSError(errno.ENOMEM, 'Insufficient system resources')
    file = module.RegistryFile(module.REGISTRY, module.parse_resolv_conf)
    with pytest.raises(SocketError, match='registry: Insufficient') as raised:
        file.current(0.0)
    assert raised.value.errno == errno.ENOMEM
    windows[TCPIP] = {'NameServer': '192.0.2.1'}
    assert file.current(0.0).nameservers == ((IPv4Address('192.0.2.1'), 53),)


def test_windows_has_its_files_elsewhere():
    assert module.system_paths('linux', {}) == ('/etc/resolv.conf', '/etc/hosts')
    assert module.system_paths('linux', {'SystemRoot': 'D:'}) == module.system_paths('darwin', {})
    hosts = r'D:\Windows\System32\drivers\etc\hosts'
    assert module.system_paths('win32', {'SystemRoot': r'D:\Windows'}) == (module.REGISTRY, hosts)
    assert module.system_paths('win32', {})[1] == hosts.replace('D:', 'C:')


# --- 14. Event loop ----------------------------------------------------------


class Recorder:
    """Who waits for a socket, a timeout or a permit, and only notes what is called.

    `then` is called after that, with itself.
    """

    def __init__(self, then=lambda self: None):
        self.told = []
        self.then = then

    def on_readable(self, fd):
        self.told.append(fd)
        self.then(self)

    def on_timeout(self):
        self.told.append('timeout')
        self.then(self)

    def on_permit(self):
        self.told.append('permit')
        self.then(self)

    def abort(self, error):
        self.told.append(error)


@on_every_loop
async def test_timeouts_of_many_lengths_ring_in_their_order():
    loop = asyncio.get_running_loop()
    timeouts = module.Timers()
    owners = [Recorder() for _ in range(6)]
    lengths = [3.0, 1.0, 2.0, 1.0, 3.0, 0.0]
    for owner, seconds in zip(owners, lengths, strict=True):
        timeouts.start(seconds, owner, loop)
    assert len(loop.timers) == 1
    timeouts.stop(1.0, owners[3], loop)
    rung = []
    for _ in range(4):
        rung.append([bool(owner.told) for owner in owners])
        turn(1.0)
    assert rung == [
        [False, False, False, False, False, False],
        [False, True, False, False, False, True],
        [False, True, True, False, False, True],
        [True, True, True, False, True, True],
    ]
    assert (timeouts.queues, timeouts.handle) == ({}, None)
    timeouts.start(1.0, owners[3], loop)
    timeouts.stop(1.0, owners[3], loop)
    timeouts.start(1.0, owners[3], loop)
    (timer,) = loop.timers
    timeouts.stop(1.0, owners[3], loop)
    assert not timer.cancelled()  # it is kept for who starts another at once
    await settle()
    assert timer.cancelled()
    assert (timeouts.queues, timeouts.handle, loop.timers) == ({}, None, [])


@on_every_loop
async def test_permits_are_given_in_order_and_none_is_lost():
    limit = module.SocketLimit(1)
    assert limit.acquire()
    assert not limit.acquire()
    waiting = [Recorder() for _ in range(4)]
    for recorder in waiting[1:]:
        limit.enqueue(recorder, False)
    limit.enqueue(waiting[0], True)
    del limit.queue[waiting[2]]  # which does not want it any more
    given = []
    for _ in range(4):
        given.append([len(recorder.told) for recorder in waiting])
        limit.release()
    assert given == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1]]
    assert (limit.free, len(limit.queue)) == (1, 0)


def test_transfers_leave_the_last_permit_to_others():
    limit = module.SocketLimit(0)
    stream, transfers, other = Recorder(), [Recorder(), Recorder()], Recorder()
    limit.transfers.update(dict.fromkeys(transfers))
    assert not limit.add_idle(stream)  # it is wanted
    limit.release()
    assert [recorder.told for recorder in transfers] == [[], []]
    assert limit.acquire()
    limit.enqueue(other, False)
    limit.release()
    assert other.told == ['permit']
    limit.release()
    assert limit.free == 1
    limit.release()
    assert [recorder.told for recorder in transfers] == [['permit'], []]
    limit.idle[stream] = None  # since before the transfers began to wait
    assert limit.acquire()
    limit.release()
    assert [recorder.told for recorder in transfers] == [['permit'], ['permit']]
    assert (limit.free, limit.queue, limit.transfers) == (0, {}, {})


def test_many_who_release_their_permit_as_they_get_it_do_not_recurse():
    limit = module.SocketLimit(0)
    waiting = [Recorder(lambda _: limit.release()) for _ in range(10_000)]
    for recorder in waiting:
        limit.enqueue(recorder, False)
    limit.release()
    assert {tuple(recorder.told) for recorder in waiting} == {('permit',)}
    assert limit.free == 1


def failing(recorder):
    raise ZeroDivisionError


@on_every_loop
async def test_a_callback_that_raises_costs_nobody_else_an_event():
    loop = asyncio.get_running_loop()
    sockets, timers, limit, _ = module.resources_of(loop)
    owners = [Recorder(), Recorder(failing), Recorder()]
    with datagram_socket() as far, contextlib.ExitStack() as stack:
        opened = []
        for owner in owners:
            near = socket.socket(type=module.UDP)
            opened.append(sockets.open(near, far.getsockname(), owner, loop))
            timers.start(1.0, owner, loop)
            stack.callback(opened[-1].close)
            stack.callback(sockets.close, opened[-1].fileno())
        while any(isinstance(each, module.Endpoint) and not each.transport for each in opened):
            await asyncio.sleep(0)
        for near in opened:
            far.sendto(b'x', getattr(near, 'sock', near).getsockname())
        while not all(owner.told for owner in owners):
            await asyncio.sleep(0)
        turn(1.0)
        for owner in owners:
            limit.enqueue(owner, False)
        free, limit.free = limit.free, 2
        limit.release()
        limit.free = free
    for owner in owners:
        assert {'timeout', 'permit'} <= {*owner.told}
        errors = [each for each in owner.told if isinstance(each, ZeroDivisionError)]
        assert len(errors) >= (3 if owner is owners[1] else 0)
        assert bool(errors) == (owner is owners[1])
    await settle()


@on_every_loop
async def test_timeouts_may_be_started_and_stopped_by_those_that_expire():
    loop = asyncio.get_running_loop()
    timers = module.Timers()

    def stop_and_start(_):
        timers.stop(1.0, sibling, loop)
        timers.start(0.0, anew, loop)  # in another turn of the loop
        timers.start(1.0, anew_later, loop)

    sibling, anew, anew_later = Recorder(), Recorder(), Recorder()
    for owner in (Recorder(stop_and_start), sibling):
        timers.start(1.0, owner, loop)
    loop.now += 1.0
    (timer,) = loop.timers
    loop.timers.remove(timer)
    timer._run()
    assert (sibling.told, anew.told, anew_later.told) == ([], [], [])
    turn(0)
    assert (anew.told, anew_later.told) == (['timeout'], [])
    turn(1.0)
    assert (sibling.told, anew_later.told) == ([], ['timeout'])
    assert (timers.queues, timers.handle, loop.timers) == ({}, None, [])


@in_one_way
async def test_a_descriptor_that_is_closed_and_opened_again_within_a_batch_costs_no_event():
    loop = asyncio.get_running_loop()
    sockets = module.resources_of(loop).sockets
    near = [socket.socket(type=module.UDP) for _ in range(2)]
    new = []

    def open_again(_):
        fd = near[1].fileno()
        sockets.close(fd)
        near[1].close()
        new.append(socket.socket(type=module.UDP))  # with the number that is free now
        assert new[0].fileno() == fd
        sockets.open(new[0], far.getsockname(), reborn, loop)

    with datagram_socket() as far:
        owners, reborn = [Recorder(open_again), Recorder()], Recorder()
        for sock, owner in zip(near, owners, strict=True):
            sockets.open(sock, far.getsockname(), owner, loop)
            far.sendto(b'x', sock.getsockname())
        while not owners[0].told:
            await asyncio.sleep(0)
        far.sendto(b'y', new[0].getsockname())
        while not (reborn.told and readable(new[0])):
            await asyncio.sleep(0)
        assert owners[1].told == []
        for sock in (near[0], new[0]):
            sockets.close(sock.fileno())
            sock.close()


def readable(sock):
    """Whether something has come to a socket."""
    return bool(select.select([sock], [], [], 0)[0])


def test_a_loop_has_the_best_way_to_wait_that_it_can_have(monkeypatch):
    class LikeThatOfWindows(asyncio.SelectorEventLoop):
        add_reader = asyncio.AbstractEventLoop.add_reader

    for loop_factory, way in (
        (asyncio.SelectorEventLoop, module.Epoll),
        (uvloop.Loop, module.Epoll),
        (LikeThatOfWindows, module.Endpoints),
    ):
        loop = loop_factory()
        assert type(module.resources_of(loop).sockets) is way
        loop.close()
    monkeypatch.delattr(select, 'epoll')
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    assert type(module.resources_of(loop).sockets) is module.Readers
    loop.close()


@pytest.mark.parametrize('has_readers', [True, False])
def test_it_works_where_there_is_no_epoll_no_sysconf_and_no_non_blocking_type(has_readers):
    script = f"""
import asyncio, os, select, selectors, socket, sys
del select.epoll, socket.SOCK_NONBLOCK, os.sysconf
import aiodnsresolver
from aiodnsresolver import make_query, pack, parse, RESPONSE, TYPES, ResourceRecord, Resolver
from ipaddress import IPv4Address

class Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        super().__init__(selectors.SelectSelector())
    if not {has_readers}:
        add_reader = asyncio.AbstractEventLoop.add_reader

async def main():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 60  # the machine may be slow
    server = socket.socket(type=socket.SOCK_DGRAM)
    server.bind(('127.0.0.1', 0))
    server.setblocking(False)

    def answer():
        octets, source = server.recvfrom(2000)
        query = parse(octets)
        record = ResourceRecord(query.qd[0].name, TYPES.A, 1, 60, IPv4Address('192.0.2.1'))
        server.sendto(pack(query._replace(qr=RESPONSE, ra=1, an=(record,))), source)

    asyncio.SelectorEventLoop.add_reader(loop, server.fileno(), answer)

    async def get_nameservers(fqdn):
        yield 5.0, server.getsockname()

    resolve, _ = Resolver(get_nameservers=get_nameservers)
    names = [f'{{number}}.example' for number in range(100)]
    answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
    loop.remove_reader(server.fileno())
    server.close()
    print(len(answers), type(aiodnsresolver.resources_of(loop).sockets).__name__)

with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
"""
    command = [sys.executable, '-X', 'dev', '-W', 'error', '-c', script]
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60)
    way = 'Readers' if has_readers else 'Endpoints'
    assert (ran.stdout, ran.stderr) == (f'100 {way}\n', '')


@on_every_loop
async def test_a_socket_that_a_forked_child_still_holds_does_not_spin():
    loop = asyncio.get_running_loop()
    readiness = module.Epoll()
    owner = Recorder()
    near, far = socket.socket(type=module.UDP), socket.socket(type=socket.SOCK_DGRAM)
    far.bind(('127.0.0.1', 0))
    readiness.open(near, far.getsockname(), owner, loop)
    far.connect(near.getsockname())
    held = os.dup(near.fileno())  # as in a child: the socket does not leave the epoll
    readiness.close(near.fileno())
    near.close()
    far.send(b'late')
    drained = []
    epoll = readiness.epoll
    loop.remove_reader(epoll.fileno())
    loop.add_reader(epoll.fileno(), lambda: (drained.append(1), readiness.drain()))
    for _ in range(50):
        await asyncio.sleep(0)
    os.close(held)
    far.close()
    loop.remove_reader(epoll.fileno())
    assert len(drained) <= 2
    assert owner.told == []


def test_an_idle_loop_has_at_most_one_descriptor_of_ours_and_takes_it_along():
    before = descriptors()
    for loop_factory in (LOOPS | OTHER_WAYS).values():
        seen = []

        async def resolve_once(seen=seen):
            async with Nameserver(answering(a(b'x.example'))) as server:
                resolve, _ = resolver_of(server)
                own = descriptors()
                await resolve('x.example', TYPES.A)
                seen.append(len(descriptors() - own))

        run(resolve_once(), loop_factory)
        assert seen == [loop_factory.way is module.Epoll]
    gc.collect()
    assert descriptors() == before


# --- 15. Exchanges -----------------------------------------------------------


@pytest.mark.parametrize(
    'nameserver, expected',
    [
        (('192.0.2.1', 53), (socket.AF_INET, ('192.0.2.1', 53), '', False, '192.0.2.1:53')),
        (
            (IPv4Address('192.0.2.1'), 5353),
            (socket.AF_INET, ('192.0.2.1', 5353), '', False, '192.0.2.1:5353'),
        ),
        (('::1', 53), (socket.AF_INET6, ('::1', 53), '', False, '[::1]:53')),
        (('fe80::1%lo', 53), (socket.AF_INET6, ('fe80::1', 53), 'lo', False, '[fe80::1%lo]:53')),
        (
            (IPv6Address('fe80::1%7'), 53),
            (socket.AF_INET6, ('fe80::1', 53), '7', False, '[fe80::1%7]:53'),
        ),
        ('udp://192.0.2.1', (socket.AF_INET, ('192.0.2.1', 53), '', False, '192.0.2.1:53')),
        ('tcp://192.0.2.1', (socket.AF_INET, ('192.0.2.1', 53), '', True, '192.0.2.1:53')),
        ('tcp://192.0.2.1:54', (socket.AF_INET, ('192.0.2.1', 54), '', True, '192.0.2.1:54')),
        ('tcp://[192.0.2.1]:54', (socket.AF_INET, ('192.0.2.1', 54), '', True, '192.0.2.1:54')),
        ('tcp://[::1]:54', (socket.AF_INET6, ('::1', 54), '', True, '[::1]:54')),
        ('tcp://[::1]', (socket.AF_INET6, ('::1', 53), '', True, '[::1]:53')),
        ('tcp://::1', (socket.AF_INET6, ('::1', 53), '', True, '[::1]:53')),
        ('udp://[fe80::1%lo]', (socket.AF_INET6, ('fe80::1', 53), 'lo', False, '[fe80::1%lo]:53')),
    ],
)
def test_a_nameserver_is_an_address_and_a_port_or_a_url(nameserver, expected):
    server = module.to_server(nameserver)
    fields = server.family, server.address, server.scope, server.is_stream, server.text
    assert fields == expected


@pytest.mark.parametrize(
    'nameserver, error',
    [
        (('example.com', 53), InvalidName),
        (('', 53), InvalidName),
        (('192.0.2.1', 0), InvalidName),
        (('192.0.2.1', 65536), InvalidName),
        (('192.0.2.1', '53'), TypeError),
        ((None, 53), TypeError),
        *[
            (url, InvalidName)
            for url in (
                '192.0.2.1',
                '',
                '://',
                'tcp://',
                'tcp:192.0.2.1',
                'TCP://192.0.2.1',
                'quic://192.0.2.1',
                'tcp://example.com',
                'tcp://192.0.2.1:',
                'tcp://192.0.2.1:0',
                'tcp://192.0.2.1:65536',
                'tcp://192.0.2.1:5353535353',
                'tcp://192.0.2.1:53/',
                'tcp://[192.0.2.1:53',
                'tcp://192.0.2.1]:53',
                'tcp://[::1]53',
                'tcp://[::1]:\u0665\u0663',
                'tcp://192.0.2.1\0',
                'tcp://user@192.0.2.1',
                'udp://192.0.2.1#name',
                'tcp://' + '[' * 100_000,
            )
        ],
        ((1, 2, 3), (InvalidName, TypeError)),
        (('fe80::1%a\0b', 53), InvalidName),
        (('fe80::1%' + '1' * 5000, 53), InvalidName),
        (('fe80::1%4294967296', 53), InvalidName),
        (5, TypeError),
    ],
)
def test_what_is_no_nameserver_is_refused(nameserver, error):
    with pytest.raises(error):
        module.to_server(nameserver)


def stream_to(url):
    """A stream to a nameserver, and the permit that it takes."""
    loop = asyncio.get_running_loop()
    resources = module.resources_of(loop)
    assert resources.limit.acquire()
    return module.Stream(module.to_server(url), module.STREAM, resources, loop)


def query_for(name, qtype=TYPES.A):
    return module.mixed_query(name, qtype, module.EDNS_FORMS[0])


async def told_over(stream, *queries):
    """What is told of queries on a stream, in the order in which it is."""
    told = []
    for query in queries:
        on_outcome = functools.partial(
            lambda query, _, outcome: told.append((query, outcome)), query
        )
        stream.send(query, module.read_reply, on_outcome)
    while len(told) < len(queries):  # else the test hangs, and is stopped
        await asyncio.sleep(0)
    return told


@on_every_loop
async def test_a_stream_carries_many_queries_and_replies_in_any_order():
    held = []

    def answer(query):
        held.insert(0, reply_to(query, a(query.qd[0].name)))
        return held if len(held) == 200 else None

    async with Nameserver(answer) as server:
        stream = stream_to(server.tcp)
        queries = [query_for(b'%d.example' % number) for number in range(200)]
        told = await told_over(stream, *queries)
        assert [query for query, _ in told] == queries[::-1]
        assert all(texts(outcome.records) == ['192.0.2.1'] for _, outcome in told)
        assert len(server.streams) == 1
        held.clear()
        server.answer_over_tcp = lambda query: reply_to(query, a(query.qd[0].name))
        assert len(await told_over(stream, query_for(b'x.example'))) == 1
        stream.close()


@on_every_loop
async def test_what_nobody_asked_for_is_dropped_and_the_stream_goes_on():
    def answer(query):
        reply = reply_to(query, a(query.qd[0].name))
        return [reply._replace(qid=query.qid ^ 1), b'', b'x', reply, reply]

    async with Nameserver(answer) as server:
        stream = stream_to(server.tcp)
        for name in (b'x.example', b'y.example'):
            ((_, outcome),) = await told_over(stream, query_for(name))
            assert texts(outcome.records) == ['192.0.2.1']
        stream.close()


@on_every_loop
@pytest.mark.parametrize('frame', [b'', bytes(10), b'whatever it is'])
async def test_a_flood_of_what_nobody_asked_for_ends_the_stream(frame):
    flood = Raw(module.to_frame(frame) * 10_000)
    async with Nameserver(lambda query: [flood, reply_to(query, *THREE)]) as server:
        stream = stream_to(server.tcp)
        ((_, outcome),) = await told_over(stream, query_for(b'x.example'))
        assert outcome.errno == errno.EPROTO
        assert not stream.is_open


@on_every_loop
async def test_a_stream_that_was_read_to_the_last_goes_on_sending(monkeypatch):
    def answer(query):
        is_last = is_about(query, b'last.example')
        return reply_to(query, *THREE) if is_last else b'' if len(server.queries) == 1 else None

    monkeypatch.setattr(module, 'MAX_READS', 1)  # so that more might be unread at each time
    long = query_for(b'.'.join([b'x' * 60] * 4))
    async with Nameserver(answer) as server:
        stream = stream_to(server.tcp)
        for _ in range(30_000):  # more than the system takes at once
            stream.send(long, module.read_reply, print)
        assert len(await told_over(stream, query_for(b'last.example'))) == 1
        stream.close()


@on_every_loop
async def test_two_queries_with_one_id_each_get_their_answer():
    addresses = {b'one.example': '192.0.2.1', b'two.example': '192.0.2.2'}
    held = []

    def answer(query):
        name = query.qd[0].name.lower()
        held.insert(0, folded(reply_to(query, a(name, addresses[name]))))
        return held if len(held) == 2 else None

    async with Nameserver(answer) as server:
        stream = stream_to(server.tcp)
        names = b'One.example', b'Two.example'  # whose letter case the nameserver does not keep
        one, two = (module.to_query(name, TYPES.A, module.EDNS_FORMS[0]) for name in names)
        two = two._replace(octets=one.octets[:2] + two.octets[2:])
        told = await told_over(stream, one, two)
        assert {
            query.fqdn: str(outcome.outcome.records[0]) for query, outcome in told
        } == addresses
        stream.close()


@on_every_loop
@pytest.mark.parametrize('answer', [lambda query: HANG_UP, lambda query: [Raw(b'\1'), HANG_UP]])
async def test_when_a_stream_ends_all_who_wait_are_told_and_the_permit_is_released(answer):
    async with Nameserver(answer) as server:
        stream = stream_to(server.tcp)
        told = await told_over(stream, query_for(b'x.example'), query_for(b'y.example'))
        assert [type(outcome) for _, outcome in told] == [ConnectionResetError] * 2
        assert not stream.is_open
        assert is_idle()
        stream.close()  # again, which does nothing
        assert is_idle()


@on_every_loop
async def test_a_reply_of_64_kib_comes_over_a_stream():
    strings = [(bytes([number]) * 255,) for number in range(240)]

    def answer(query):
        name = query.qd[0].name
        return reply_to(query, *[rr(name, TYPES.TXT, string) for string in strings])

    async with Nameserver(answer) as server:
        stream = stream_to(server.tcp)
        ((_, outcome),) = await told_over(stream, query_for(b'x.example', TYPES.TXT))
        assert outcome.records == tuple(strings)
        stream.close()


@on_every_loop
async def test_more_queries_than_the_system_takes_at_once_go_over_a_stream():
    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        stream = stream_to(server.tcp)
        sock = getattr(stream.sock, 'sock', stream.sock)  # an endpoint's own
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        names = [b'%d.' % number + b'.'.join([b'x' * 60] * 3) for number in range(500)]
        told = await told_over(stream, *map(query_for, names))
        assert {len(outcome.records) for _, outcome in told} == {1}
        assert not stream.outgoing
        stream.close()


@on_every_loop
async def test_a_stream_that_is_closed_while_it_connects_leaves_nothing():
    async with Nameserver(lambda query: None) as server:
        for turns in range(4):
            stream = stream_to(server.tcp)
            stream.send(query_for(b'x.example'), module.read_reply, pytest.fail)
            for _ in range(turns):
                await asyncio.sleep(0)
            stream.close()
            assert is_idle()


@pytest.mark.parametrize('size, reads', [(0, 16), (4096, 8), (65_535, 1)])
def test_others_have_their_turn_between_datagrams_to_be_dropped(size, reads):
    """Of one socket no more is read at a time than 64 KB, or sixteen datagrams that are empty."""
    sizes = []

    def refuse(query, reply, sent_at):
        sizes.append(len(reply))
        raise BadResponse('It is hostile')

    again = []
    sockets = types.SimpleNamespace(again=again.append)
    resources = types.SimpleNamespace(sockets=sockets)
    server = module.Server('192.0.2.1', 53)
    exchange = module.DatagramExchange(query_for(b'x'), server, refuse, None, resources, 0.0)
    exchange.sock = types.SimpleNamespace(recv=lambda _: bytes(size))
    exchange.on_readable(5)
    assert (sizes, again) == ([size] * reads, [5])


# --- 16. Queries -------------------------------------------------------------


Q = make_query('www.Example.com', TYPES.A)


def echo(query):
    """An `answer` with one address for the name asked for."""
    return reply_to(query, a(query.qd[0].name))


def wrong_id(query):
    return echo(query)._replace(qid=query.qid ^ 1)


def wrong_name(query):
    return echo(query)._replace(qd=(query.qd[0]._replace(name=b'other.example'),))


def no_response(query):
    return echo(query)._replace(qr=QUESTION)


def garbage(query):
    return pack(query)[:2] + b'\x81\x80' + b'\xff' * 40


def trailing(query):
    return pack(echo(query)) + b'\0'


# What a server may send instead of the answer, and what it is.
BAD_REPLIES = {
    'wrong id': (wrong_id, BadResponse),
    'wrong name': (wrong_name, BadResponse),
    'no response': (no_response, BadResponse),
    'another opcode': (lambda query: echo(query)._replace(opcode=OPCODES.NOTIFY), BadResponse),
    'no question': (lambda query: echo(query)._replace(qd=()), BadResponse),
    'garbage': (garbage, MalformedMessage),
    'not even a header': (lambda query: pack(query)[:11], MalformedMessage),
    'nothing': (lambda query: b'', MalformedMessage),
    'cut short': (lambda query: pack(echo(query))[:-1], MalformedMessage),
    'trailing': (trailing, MalformedMessage),
}


@contextlib.contextmanager
def datagram_socket(address='127.0.0.1'):
    """A caller's socket."""
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((address, 0))
        yield sock


@contextlib.asynccontextmanager
async def stream_pair(server):
    """A caller's stream."""
    reader, writer = await asyncio.open_connection(server.address, server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await settle()


async def soon(awaitable):
    """What comes of it in no time, or in a few looks at a socket that cannot be waited for."""
    return await in_time(awaitable, seconds=0.5, step=module.POLL_SECONDS)


async def raised_by(awaitable):
    """The error that a call ends with."""
    with pytest.raises(ResolverError) as raised:
        await awaitable
    return raised.value


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
@pytest.mark.parametrize('address', ['127.0.0.1', '::1', '::1%lo', '::1%1'])
async def test_a_query_brings_the_reply_as_it_is(call, address):
    async with Nameserver(echo, address.partition('%')[0]) as server:
        for q in (Q, pack(Q)):
            reply = await call(q, address, port=server.port)
            assert reply == echo(Q)
            assert reply.qd[0].name == b'www.Example.com'
        where = module.ip_address(address)
        assert await call(Q, where, 2, server.port) == echo(Q)
        assert all(query == Q for query in server.queries)


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_letter_case_is_not_compared(call):
    async with Nameserver(lambda query: folded(echo(query))) as server:
        assert await call(Q, '127.0.0.1', port=server.port) == folded(echo(Q))


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_an_error_reply_is_a_reply_and_may_lack_the_question(call):
    async with Nameserver(bare(RCODES.REFUSED)) as server:
        assert (await call(Q, '127.0.0.1', port=server.port)).rcode == RCODES.REFUSED


@in_one_way
@pytest.mark.parametrize('call', [udp, tcp])
async def test_messages_without_a_question_or_of_another_opcode_are_asked_too(call):
    no_question = Q._replace(qd=())
    update = Q._replace(opcode=OPCODES.UPDATE)
    async with Nameserver(lambda query: query._replace(qr=RESPONSE, qd=())) as server:
        for q in (no_question, update):
            assert (await call(q, '127.0.0.1', port=server.port)).qid == q.qid


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_a_timeout_covers_the_whole_call(call):
    async with Nameserver(silent) as server:
        task = asyncio.ensure_future(call(Q, '127.0.0.1', 2, server.port))
        await server.asked(1)
        turn(1.9)
        await settle()
        assert not task.done()
        turn(0.1)
        error = await raised_by(task)
        assert isinstance(error, QueryTimeout)
        over = ' over TCP' if call is tcp else ''
        where = f'www.example.com. A from 127.0.0.1:{server.port}{over}'
        assert str(error) == f'{where}: no usable reply in time'


@in_one_way
@pytest.mark.parametrize('call', [udp, tcp, tls, https, udp_with_fallback])
@pytest.mark.parametrize('timeout', [0, -1, float('nan'), False])
async def test_a_timeout_of_nothing_is_over_at_once_and_nothing_is_sent(call, timeout):
    async with Nameserver(echo) as server:
        assert isinstance(
            await raised_by(call(Q, '127.0.0.1', timeout, server.port)), QueryTimeout
        )
        await server.asked(0)


@in_one_way
@pytest.mark.parametrize('call', [udp, tcp])
@pytest.mark.parametrize('timeout', [None, float('inf'), 10**400])
async def test_without_a_timeout_the_wait_goes_on(call, timeout):
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return echo(query)

    async with Nameserver(late) as server:
        task = asyncio.ensure_future(call(Q, '127.0.0.1', timeout, server.port))
        await server.asked(1)
        turn(3600)
        go_on.set()
        assert await task == echo(Q)


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_a_timeout_counts_while_a_permit_is_waited_for(call):
    async with Nameserver(silent) as server:
        with permits(1):
            first = asyncio.ensure_future(call(Q, '127.0.0.1', None, server.port))
            await server.asked(1)
            second = asyncio.ensure_future(call(Q, '127.0.0.1', 1, server.port))
            await settle()
            turn(1)
            error = await raised_by(second)
            assert isinstance(error, QueryTimeout)
            assert 'no socket was free' in str(error)
            first.cancel()
            await asyncio.wait([first])


@on_every_loop
@pytest.mark.parametrize('is_late', [False, True])
@pytest.mark.parametrize('call', [udp, tcp])
async def test_a_permit_that_was_waited_for_is_used_or_given_back_if_it_comes_too_late(
    call, is_late
):
    async with Nameserver(silent) as server:
        with permits(1) as limit:
            first = asyncio.ensure_future(call(Q, '127.0.0.1', None, server.port))
            await server.asked(1)
            second = asyncio.ensure_future(call(Q, '127.0.0.1', 1, server.port))
            await settle()
            server.answer = server.answer_over_tcp = echo
            first.cancel()
            while limit.queue:
                await asyncio.sleep(0)
            if is_late:
                turn(1)  # in the same turn of the loop
                assert isinstance(await raised_by(second), QueryTimeout)
            else:
                assert await second == echo(Q)
        assert len(server.queries) == (1 if is_late else 2)


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp, tls, https])
async def test_a_port_where_nobody_listens_is_an_error_at_once(call):
    host, port = closed_port()
    error = await raised_by(call(Q, host, 5, port))
    assert isinstance(error, SocketError)
    assert error.errno == errno.ECONNREFUSED
    assert isinstance(error.__cause__, ConnectionRefusedError)


@in_one_way
@pytest.mark.parametrize('call', [udp, tcp, tls, https, udp_with_fallback])
@pytest.mark.parametrize(
    'arguments, error',
    [
        ({'where': 'localhost'}, InvalidName),
        ({'where': '127.0.0.1:53'}, InvalidName),
        ({'where': ''}, InvalidName),
        ({'where': 5}, TypeError),
        ({'where': None}, TypeError),
        ({'port': 0}, InvalidName),
        ({'port': 65536}, InvalidName),
        ({'port': '53'}, TypeError),
        ({'timeout': '1'}, TypeError),
        ({'source': 'localhost'}, InvalidName),
        ({'source': '::1'}, InvalidName),
        ({'source': 5}, TypeError),
        ({'source_port': 65536}, InvalidName),
        ({'source_port': '5'}, TypeError),
        ({'source': '192.0.2.1'}, SocketError),
        ({'where': 'fe80::1%none'}, SocketError),
        ({'q': 'x'}, TypeError),
        ({'q': bytearray(pack(Q))}, TypeError),
        ({'q': b''}, MalformedMessage),
        ({'q': pack(Q)[:11]}, MalformedMessage),
        ({'q': pack(Q)[:20]}, MalformedMessage),
        ({'q': bytes(65536)}, MalformedMessage),
        ({'q': Q._replace(qd=(Q.qd[0]._replace(name=b'x' * 64),))}, InvalidName),
    ],
)
async def test_what_a_call_cannot_mean_is_refused(call, arguments, error):
    given = {'q': Q, 'where': '127.0.0.1', 'timeout': 1, 'port': closed_port()[1], **arguments}
    with pytest.raises(error):
        await call(**given)


@in_one_way
@pytest.mark.parametrize('call', [udp, tcp])
@pytest.mark.parametrize('fault', BAD_REPLIES)
async def test_a_bad_reply_is_the_error_that_it_is(call, fault):
    answer, expected = BAD_REPLIES[fault]
    async with Nameserver(answer) as server:
        error = await raised_by(call(Q, '127.0.0.1', 1, server.port))
        assert isinstance(error, expected)
        assert str(error).startswith('www.example.com. A from 127.0.0.1')


@in_one_way
@pytest.mark.parametrize('fault', BAD_REPLIES)
async def test_with_ignore_errors_a_bad_reply_is_dropped(fault):
    bad, _ = BAD_REPLIES[fault]
    async with Nameserver(lambda query: [bad(query), echo(query)]) as server:
        assert await udp(Q, '127.0.0.1', 1, server.port, ignore_errors=True) == echo(Q)
    async with Nameserver(bad) as server:
        error = await raised_by(in_time(udp(Q, '127.0.0.1', 1, server.port, ignore_errors=True)))
        assert isinstance(error, QueryTimeout)
        assert isinstance(error.__cause__, BAD_REPLIES[fault][1])


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_octets_after_the_reply_may_be_ignored(call):
    async with Nameserver(trailing) as server:
        assert await call(Q, '127.0.0.1', 1, server.port, ignore_trailing=True) == echo(Q)


@on_every_loop
async def test_a_truncated_reply_is_the_message_or_truncated():
    async with Nameserver(truncated) as server:
        reply = await udp(Q, '127.0.0.1', 1, server.port)
        assert (len(reply.an), reply.tc) == (2, 1)
        error = await raised_by(udp(Q, '127.0.0.1', 1, server.port, raise_on_truncation=True))
        assert isinstance(error, Truncated)
        assert error.message == reply


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_a_query_may_have_a_source(call):
    async with Nameserver(echo) as server:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        source = {'source': '127.0.0.3', 'source_port': port}
        await call(Q, '127.0.0.1', 1, server.port, **source)
        await call(Q, '127.0.0.1', 1, server.port, source=IPv4Address('127.0.0.4'))
        one, two = server.sources
        assert one == ('127.0.0.3', port)
        assert two[0] == '127.0.0.4'


@on_every_loop
async def test_a_query_may_have_a_source_port_alone():
    async with Nameserver(echo) as server:
        port = closed_port()[1]
        await udp(Q, '127.0.0.1', 1, server.port, source_port=port)
        assert server.sources == [('127.0.0.1', port)]


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp, tls, https, udp_with_fallback])
async def test_a_call_that_is_cancelled_anywhere_leaves_nothing(call):
    async with Nameserver(silent) as server:
        for rounds in range(12):
            task = asyncio.ensure_future(call(Q, '127.0.0.1', 5, server.port))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await settle()
            assert is_idle()


@on_every_loop
@pytest.mark.parametrize('is_connected', [False, True])
async def test_a_socket_of_the_callers_is_used_and_stays_open(is_connected):
    async with Nameserver(echo) as server:
        with datagram_socket() as sock:
            if is_connected:
                sock.connect(server.nameserver)
            for _ in range(3):
                assert await soon(udp(Q, '127.0.0.1', 1, server.port, sock=sock)) == echo(Q)
            assert {source[1] for source in server.sources} == {sock.getsockname()[1]}
            server.answer = silent
            error = await raised_by(in_time(udp(Q, '127.0.0.1', 1, server.port, sock=sock)))
            assert isinstance(error, QueryTimeout)
            task = asyncio.ensure_future(udp(Q, '127.0.0.1', None, server.port, sock=sock))
            await server.asked(5)
            other = await raised_by(udp(Q, '127.0.0.1', 1, server.port, sock=sock))
            assert other.errno == errno.EEXIST  # one at a time
            task.cancel()
            await asyncio.wait([task])
            server.answer = echo
            server.sock.sendto(pack(echo(Q._replace(qid=Q.qid ^ 1))), sock.getsockname())
            call = udp(Q, '127.0.0.1', 1, server.port, sock=sock, ignore_errors=True)
            assert await soon(call) == echo(Q)
            assert sock.fileno() >= 0


@on_every_loop
async def test_what_comes_from_elsewhere_is_unexpected_or_skipped():
    async with Nameserver(echo) as server, Nameserver(echo) as other:

        def answer(query):
            other.say(server.sources[-1], pack(echo(query)))
            return echo(query)

        server.answer = answer
        with datagram_socket() as sock:
            error = await raised_by(soon(udp(Q, '127.0.0.1', 1, server.port, sock=sock)))
            assert isinstance(error, UnexpectedSource)
        with datagram_socket() as sock:
            call = udp(Q, '127.0.0.1', 1, server.port, sock=sock, ignore_unexpected=True)
            assert await soon(call) == echo(Q)
        assert await udp(Q, '127.0.0.1', 1, server.port) == echo(Q)  # which is connected


@on_every_loop
async def test_a_scope_makes_no_other_source():
    async with Nameserver(echo, '::1') as server:
        with datagram_socket('::1') as sock:
            assert await soon(udp(Q, '::1%lo', 1, server.port, sock=sock)) == echo(Q)


def test_another_interface_is_another_source():
    at = ('fe80::1', 53, 0, 2)
    assert module.is_from(at, at)
    assert module.is_from(at, ('fe80::1', 53))
    assert not module.is_from(at, ('fe80::1', 53, 0, 3))


@on_every_loop
async def test_a_socket_that_is_connected_elsewhere_asks_nobody():
    async with Nameserver(echo) as server, Nameserver(echo) as other:
        with datagram_socket() as sock:
            sock.connect(other.nameserver)
            with pytest.raises(InvalidName, match='connected'):
                await udp(Q, '127.0.0.1', 1, server.port, sock=sock)
            await settle()
            assert not server.queries
            assert not other.queries


@on_every_loop
async def test_a_closed_socket_of_the_callers_is_an_error_of_the_socket():
    with datagram_socket() as sock:
        sock.close()
        for call in (
            udp(Q, '127.0.0.1', 1, 53, sock=sock),
            receive_udp(sock),
            send_udp(sock, Q, ('127.0.0.1', 53)),
        ):
            assert isinstance(await raised_by(soon(call)), SocketError)


@on_every_loop
async def test_a_flood_on_a_socket_of_the_callers_does_not_hide_the_reply():
    def flooding(query):
        return [wrong_id(query)] * (3 * module.MAX_READS) + [echo(query)]

    async with Nameserver(flooding) as server:
        with datagram_socket() as sock:
            call = udp(Q, '127.0.0.1', 1, server.port, sock=sock, ignore_errors=True)
            assert await soon(call) == echo(Q)


@in_one_way
@pytest.mark.parametrize('sock', [5, 'blocking', 'stream', 'local', ('reader', 'writer')])
async def test_a_socket_that_cannot_be_used_is_refused(sock):
    kind = socket.SOCK_STREAM if sock == 'stream' else socket.SOCK_DGRAM
    family = socket.AF_UNIX if sock == 'local' else socket.AF_INET
    with socket.socket(family, kind) as made:
        made.setblocking(sock == 'blocking')
        given = made if isinstance(sock, str) else sock
        for call in (udp, tcp):
            with pytest.raises(TypeError):
                await call(Q, '127.0.0.1', 1, 53, sock=given)
        with pytest.raises(TypeError):
            await receive_udp(given)
        with pytest.raises(TypeError):
            await receive_tcp(given)
        with pytest.raises(TypeError):
            await send_udp(given, Q, ('127.0.0.1', 53))
        with pytest.raises(TypeError):
            await send_tcp(given, Q)


@on_every_loop
async def test_a_fallback_goes_over_tcp_if_the_reply_is_truncated():
    async with Nameserver(truncated, over_tcp=answering(*THREE)) as server:
        reply, used_tcp = await udp_with_fallback(Q, '127.0.0.1', 1, server.port)
        assert (len(reply.an), used_tcp) == (3, True)
        server.answer = answering(*THREE)
        reply, used_tcp = await udp_with_fallback(Q, '127.0.0.1', 1, server.port)
        assert (len(reply.an), used_tcp) == (3, False)
        server.answer = truncated
        async with stream_pair(server) as pair:
            with datagram_socket() as sock:
                socks = {'udp_sock': sock, 'tcp_sock': pair}
                call = udp_with_fallback(Q, '127.0.0.1', 1, server.port, **socks)
                reply, used_tcp = await soon(call)
                assert (len(reply.an), used_tcp) == (3, True)


@on_every_loop
async def test_a_fallback_without_a_stream_to_fall_back_to_asks_nobody():
    async with Nameserver(truncated) as server:
        with pytest.raises(TypeError):
            await udp_with_fallback(Q, '127.0.0.1', 1, server.port, tcp_sock=5)
        await settle()
        assert not server.queries


@on_every_loop
async def test_a_fallback_has_one_timeout_for_both():
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return truncated(query)

    async with Nameserver(late, over_tcp=silent) as server:
        task = asyncio.ensure_future(udp_with_fallback(Q, '127.0.0.1', 2, server.port))
        await server.asked(1)
        turn(1.5)
        go_on.set()
        await server.asked(2)
        turn(0.4)
        await settle()
        assert not task.done()
        turn(0.1)
        assert isinstance(await raised_by(task), QueryTimeout)


@on_every_loop
async def test_many_queries_go_over_one_stream_of_the_callers():
    held = []

    def answer(query):
        held.insert(0, echo(query))
        return held if len(held) == 100 else None

    async with Nameserver(answer) as server, stream_pair(server) as pair:
        queries = [make_query(f'{number}.example', TYPES.A) for number in range(100)]
        calls = [tcp(q, '127.0.0.1', 5, server.port, sock=pair) for q in queries]
        assert await asyncio.gather(*calls) == [echo(q) for q in queries]
        assert len(server.streams) == 1


@on_every_loop
@pytest.mark.parametrize('leaving', ['cancelled', 'timed out'])
async def test_who_reads_for_all_hands_over_as_it_leaves_and_the_late_reply_is_dropped(leaving):
    one, two, three = [make_query(f'{number}.example', TYPES.A) for number in range(3)]
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        first = asyncio.ensure_future(tcp(one, '127.0.0.1', 1, server.port, sock=pair))
        await server.asked(1)
        second = asyncio.ensure_future(tcp(two, '127.0.0.1', 5, server.port, sock=pair))
        await server.asked(2)
        say = functools.partial(server.say_on_stream, server.streams[0])
        octets = module.to_frame(pack(echo(one)))
        say(Raw(octets[:9]))  # and the rest when nobody wants it any more
        await settle()
        if leaving == 'cancelled':
            first.cancel()
        else:
            turn(1)
        await asyncio.wait([first])
        say(Raw(octets[9:]))
        say(pack(echo(two)))
        assert await second == echo(two)
        third = asyncio.ensure_future(tcp(three, '127.0.0.1', 5, server.port, sock=pair))
        await server.asked(3)
        say(pack(echo(three)))
        assert await third == echo(three)


@on_every_loop
async def test_who_waits_and_is_cancelled_as_it_is_to_read_hands_over_too():
    queries = [make_query(f'{number}.example', TYPES.A) for number in range(3)]
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        tasks = []
        for q in queries:
            tasks.append(asyncio.ensure_future(tcp(q, '127.0.0.1', 5, server.port, sock=pair)))
            await server.asked(len(tasks))
        tasks[0].cancel()
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks[:2])
        server.say_on_stream(server.streams[0], pack(echo(queries[2])))
        assert await tasks[2] == echo(queries[2])


@on_every_loop
async def test_equal_ids_on_one_stream_are_told_apart_by_question_and_then_by_order():
    held = []

    def answer(query):
        held.insert(0, echo(query))
        return held if len(held) == 3 else None

    q, other = Q, make_query('other.example', TYPES.A, qid=Q.qid)
    async with Nameserver(answer) as server, stream_pair(server) as pair:
        calls = [tcp(each, '127.0.0.1', 5, server.port, sock=pair) for each in (q, other, q)]
        assert await asyncio.gather(*calls) == [echo(each) for each in (q, other, q)]


async def ask_in_vain(q, server, pair):
    """Has a query given up on a stream, as no reply comes in time."""
    asked = len(server.queries) + 1
    task = asyncio.ensure_future(tcp(q, '127.0.0.1', 1, server.port, sock=pair))
    await server.asked(asked)
    turn(1)
    assert isinstance(await raised_by(task), QueryTimeout)


@on_every_loop
async def test_a_query_may_be_asked_again_on_a_stream_after_a_timeout():
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        for _ in range(3):
            await ask_in_vain(Q, server, pair)
        server.answer_over_tcp = echo
        assert await tcp(Q, '127.0.0.1', 1, server.port, sock=pair) == echo(Q)
        for _ in range(3):  # the late replies
            server.say_on_stream(server.streams[0], pack(echo(Q)))
        await settle()
        other = make_query('other.example', TYPES.A)
        assert await tcp(other, '127.0.0.1', 1, server.port, sock=pair) == echo(other)


@on_every_loop
async def test_queries_that_are_never_answered_do_not_make_a_stream_grow(monkeypatch):
    monkeypatch.setattr(module, 'MAX_GIVEN_UP', 10)
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        reading = asyncio.ensure_future(tcp(Q, '127.0.0.1', None, server.port, sock=pair))
        await server.asked(1)
        for number in range(30):
            await ask_in_vain(make_query(f'{number}.example', TYPES.A), server, pair)
        kept = module.CALLERS_STREAMS[pair[0]]
        assert len(kept.waiting) == 0
        assert sum(map(len, kept.pending.values())) <= 1 + 10
        server.say_on_stream(server.streams[0], pack(echo(Q)))
        assert await reading == echo(Q)


@on_every_loop
async def test_late_replies_are_known_as_such_however_many_there_are(monkeypatch):
    monkeypatch.setattr(module, 'MAX_GIVEN_UP', 3)
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        queries = [make_query(f'{number}.example', TYPES.A) for number in range(10)]
        for q in queries:
            await ask_in_vain(q, server, pair)
        for q in queries:
            server.say_on_stream(server.streams[0], pack(echo(q)))
        await settle()
        server.answer_over_tcp = echo
        assert await tcp(Q, '127.0.0.1', 1, server.port, sock=pair) == echo(Q)
        server.answer_over_tcp = wrong_id
        assert isinstance(
            await raised_by(tcp(Q, '127.0.0.1', 1, server.port, sock=pair)), BadResponse
        )


@on_every_loop
async def test_what_came_for_nobody_before_a_query_is_no_reply_to_it():
    async with Nameserver(lambda query: [echo(query)] * 2) as server, stream_pair(server) as pair:
        for number in range(5):
            q = make_query(f'{number}.example', TYPES.A)
            assert await tcp(q, '127.0.0.1', 1, server.port, sock=pair) == echo(q)


def large_query(name):
    """A query of nearly as many octets as there may be."""
    return make_query(name, TYPES.A)._replace(ar=(rr(b'', TYPES.NULL, bytes(60_000)),))


@on_every_loop
async def test_a_server_that_blocks_while_its_replies_are_not_read_answers_all():
    async def serve(reader, writer):
        with contextlib.suppress(SocketError):
            while True:
                query, _ = await receive_tcp((reader, writer))
                await send_tcp((reader, writer), query._replace(qr=RESPONSE))
        writer.transport.abort()

    sockets = [socket.socket() for _ in range(2)]
    for sock in sockets:
        sock.setblocking(False)
        for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, size, 1 << 17)
    listener, sock = sockets
    listener.bind(('127.0.0.1', 0))
    server = await asyncio.start_server(serve, sock=listener)
    address, port = listener.getsockname()
    await asyncio.get_running_loop().sock_connect(sock, (address, port))
    pair = await asyncio.open_connection(sock=sock)
    queries = [large_query(f'{number}.example') for number in range(50)]
    replies = await asyncio.gather(*[tcp(q, address, 5, port, sock=pair) for q in queries])
    assert [reply.qd for reply in replies] == [q.qd for q in queries]
    pair[1].transport.abort()
    server.close()
    await server.wait_closed()
    await settle()


@on_every_loop
async def test_a_server_that_reads_nothing_does_not_make_a_stream_grow(monkeypatch):
    monkeypatch.setattr(module, 'MAX_OUTGOING', 1 << 20)
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        await settle()
        asyncio.get_running_loop().remove_reader(server.streams[0].fileno())
        large = large_query('www.example')
        calls = [tcp(large, '127.0.0.1', 1, server.port, sock=pair) for _ in range(500)]
        results = await in_time(asyncio.gather(*calls, return_exceptions=True))
        assert {type(error) for error in results} == {QueryTimeout, SocketError}
        assert errno.ENOBUFS in {getattr(error, 'errno', None) for error in results}


@on_every_loop
@pytest.mark.parametrize('end', ['its end written', 'closed', 'read by another'])
async def test_a_stream_that_cannot_be_used_is_an_error_of_the_socket(end):
    async with Nameserver(echo) as server, stream_pair(server) as pair:
        reader, writer = pair
        other = None
        if end == 'its end written':
            writer.write_eof()
        elif end == 'closed':
            writer.close()
        else:
            other = asyncio.ensure_future(reader.readexactly(1000))
            await settle()
        error = await raised_by(tcp(Q, '127.0.0.1', 1, server.port, sock=pair))
        assert isinstance(error, SocketError)
        assert error.errno in (errno.EPIPE, errno.EBUSY)
        if other is None:
            assert isinstance(await raised_by(send_tcp(pair, Q)), SocketError)
        else:
            assert isinstance(await raised_by(receive_tcp(pair)), SocketError)
            other.cancel()
            await asyncio.wait([other])


@on_every_loop
async def test_a_stream_is_a_reader_and_a_writer():
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        for given in ((pair[0], pair[1].transport), (pair[1], pair[0]), pair[:1]):
            with pytest.raises(TypeError):
                await tcp(Q, '127.0.0.1', 1, server.port, sock=given)
        await settle()
        assert not server.queries


@on_every_loop
@pytest.mark.parametrize('together', [True, False])
async def test_in_how_many_pieces_messages_come_makes_no_difference(together):
    frames = [module.to_frame(pack(each(Q))) for each in (wrong_id, echo)]
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        task = asyncio.ensure_future(tcp(Q, '127.0.0.1', 1, server.port, sock=pair))
        await server.asked(1)
        for piece in [b''.join(frames)] if together else frames:
            server.say_on_stream(server.streams[0], Raw(piece))
            await settle()
        assert isinstance(await raised_by(task), BadResponse)


@on_every_loop
async def test_an_error_without_a_question_is_for_who_waits():
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        await ask_in_vain(Q, server, pair)
        server.answer_over_tcp = lambda query: echo(query)._replace(
            qd=(), an=(), rcode=RCODES.FORMERR
        )
        other = make_query('other.example', TYPES.A, qid=Q.qid)
        reply = await tcp(other, '127.0.0.1', 1, server.port, sock=pair)
        assert reply.rcode == RCODES.FORMERR


@on_every_loop
async def test_what_belongs_to_nobody_is_a_bad_response_for_who_reads():
    async with Nameserver(wrong_id) as server, stream_pair(server) as pair:
        error = await raised_by(tcp(Q, '127.0.0.1', 5, server.port, sock=pair))
        assert isinstance(error, BadResponse)
        server.answer_over_tcp = echo
        other = make_query('other.example', TYPES.A)
        assert await tcp(other, '127.0.0.1', 5, server.port, sock=pair) == echo(other)


@on_every_loop
@pytest.mark.parametrize('with_pair', [False, True])
@pytest.mark.parametrize(
    'said',
    [
        [HANG_UP],
        [Raw(b'\0'), HANG_UP],
        [Raw(b'\1\0' + pack(Q)), HANG_UP],
    ],
    ids=['at once', 'in the length', 'in the message'],
)
async def test_a_stream_that_ends_early_is_an_error_of_the_socket(said, with_pair):
    async with Nameserver(lambda query: said) as server, stream_pair(server) as pair:
        sock = pair if with_pair else None
        error = await raised_by(tcp(Q, '127.0.0.1', 5, server.port, sock=sock))
        assert isinstance(error, SocketError)
        assert isinstance(error.__cause__, ConnectionError)
        if with_pair:
            again = await raised_by(tcp(Q, '127.0.0.1', 5, server.port, sock=pair))
            assert isinstance(again, SocketError)


@on_every_loop
@pytest.mark.parametrize('with_pair', [False, True])
async def test_a_reply_may_dribble(with_pair):
    def dribbling(query):
        return [Raw([octet]) for octet in module.to_frame(pack(echo(query)))]

    async with Nameserver(dribbling) as server, stream_pair(server) as pair:
        sock = pair if with_pair else None
        assert await tcp(Q, '127.0.0.1', 5, server.port, sock=sock) == echo(Q)


async def serve_datagrams(sock):
    """A small nameserver of the halves."""
    while True:
        query, _, source = await receive_udp(sock, ignore_errors=True)
        await send_udp(sock, echo(query), source)


async def serve_stream(reader, writer):
    try:
        while True:
            query, _ = await receive_tcp((reader, writer))
            await send_tcp((reader, writer), echo(query))
    except SocketError:
        writer.close()


@on_every_loop
async def test_the_halves_make_a_nameserver_too():
    sock, listener = two_sockets('127.0.0.1')
    with sock:
        task = asyncio.ensure_future(serve_datagrams(sock))
        port = sock.getsockname()[1]
        async with await asyncio.start_server(serve_stream, sock=listener):
            for number in range(5):
                q = make_query(f'{number}.example', TYPES.A)
                assert await soon(udp(q, '127.0.0.1', 5, port)) == echo(q)
                assert await tcp(q, '127.0.0.1', 5, port) == echo(q)
            with datagram_socket() as other:
                other.sendto(b'garbage', sock.getsockname())
                await soon(settle())
                now = asyncio.get_running_loop().time()
                size = len(pack(Q))
                destination = '127.0.0.1', port
                assert await send_udp(other, Q, destination) == (size, now)
                received = await soon(receive_udp(other, destination, query=Q))
                assert received[::2] == (echo(Q), destination)
                now = asyncio.get_running_loop().time()
                assert received[1] == now
            reader, writer = await asyncio.open_connection('127.0.0.1', port)
            assert await send_tcp((reader, writer), pack(Q)) == (size + 2, now)
            assert await receive_tcp((reader, writer)) == (echo(Q), now)
            writer.close()
            await settle()
        task.cancel()
        await asyncio.wait([task])
        await settle()


@on_every_loop
async def test_the_halves_heed_an_expiration():
    now = asyncio.get_running_loop().time()
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        with datagram_socket() as sock:
            for past in (now - 1, now, float('nan')):
                for call in (
                    receive_udp(sock, expiration=past),
                    send_udp(sock, Q, server.nameserver, past),
                    receive_tcp(pair, past),
                    send_tcp(pair, Q, past),
                ):
                    assert isinstance(await raised_by(call), QueryTimeout)
            for call in (receive_udp(sock, expiration=now + 1), receive_tcp(pair, now + 2)):
                task = asyncio.ensure_future(call)
                await settle()
                assert not task.done()
                turn(1)
                assert isinstance(await raised_by(task), QueryTimeout)
            with pytest.raises(TypeError):
                await receive_udp(sock, expiration='now')
        await server.asked(0)


@in_one_way
@pytest.mark.parametrize(
    'destination, error',
    [
        (('fe80::1%none', 53), SocketError),
        (('localhost', 53), InvalidName),
        (('127.0.0.1', 0), InvalidName),
        (('::1', 53, 1 << 40, 0), InvalidName),
        (('::1', 53, 0, 'lo'), InvalidName),
        (('::1', 53, 0, 1 << 32), InvalidName),
        (('::1', 53, 'flow'), InvalidName),
        (('::1', 53, 0, (1 << 32) - 1), SocketError),  # of another family
        (('::1', 53), SocketError),
        (('127.0.0.1', 53, 0, 0), InvalidName),
        (('fe80::1%\ud800', 53), SocketError),
        (('127.0.0.1',), TypeError),
        ('127.0.0.1', TypeError),
    ],
)
async def test_a_destination_that_cannot_be_is_refused(destination, error):
    with datagram_socket() as sock:
        for call in (send_udp(sock, Q, destination), receive_udp(sock, destination)):
            with pytest.raises(error):
                await call


@on_every_loop
@pytest.mark.parametrize('expiration', [10**400, float('inf')])
async def test_an_expiration_may_be_far_away(expiration):
    async with Nameserver(echo) as server:
        with datagram_socket() as sock:
            await send_udp(sock, Q, server.nameserver, expiration)
            message, _, _ = await soon(receive_udp(sock, expiration=expiration))
            assert message == echo(Q)


@on_every_loop
async def test_a_message_on_a_stream_is_not_lost_if_who_receives_it_is_cancelled_halfway():
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        await send_tcp(pair, Q)
        await server.asked(1)
        octets = module.to_frame(pack(echo(Q)))
        for at in range(0, len(octets), 7):
            task = asyncio.ensure_future(receive_tcp(pair))
            await settle()
            server.say_on_stream(server.streams[0], Raw(octets[at : at + 7]))
            await settle()
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                break
        assert task.result()[0] == echo(Q)


@on_every_loop
async def test_received_messages_may_be_bad():
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        await send_tcp(pair, Q)
        await server.asked(1)
        for octets in (b'', garbage(Q), trailing(Q), pack(echo(Q)), trailing(Q)):
            server.say_on_stream(server.streams[0], octets)
        for _ in range(2):
            assert isinstance(await raised_by(receive_tcp(pair)), MalformedMessage)
        assert (await receive_tcp(pair, ignore_errors=True))[0] == echo(Q)
        assert (await receive_tcp(pair, ignore_trailing=True))[0] == echo(Q)
        with datagram_socket() as sock:
            here = sock.getsockname()
            server.sock.sendto(garbage(Q), here)
            assert isinstance(await raised_by(soon(receive_udp(sock))), MalformedMessage)
            server.sock.sendto(truncated(Q), here)
            assert (await soon(receive_udp(sock)))[0].tc
            server.sock.sendto(truncated(Q), here)
            error = await raised_by(soon(receive_udp(sock, raise_on_truncation=True)))
            assert isinstance(error, Truncated)
            server.sock.sendto(pack(wrong_name(Q)), here)
            assert isinstance(await raised_by(soon(receive_udp(sock, query=Q))), BadResponse)


@on_every_loop
async def test_a_flood_of_bad_messages_does_not_stop_the_loop():
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        await settle()
        server.say_on_stream(server.streams[0], Raw(bytes(20_000) + module.to_frame(pack(Q))))
        turns = 0
        task = asyncio.ensure_future(receive_tcp(pair, ignore_errors=True))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert task.result()[0] == Q
        assert turns >= 10_000


def test_the_id_is_looked_at_before_a_message_is_parsed(monkeypatch):
    monkeypatch.setattr(module, 'parse_message', None)
    query = module.query_in(Q)
    with pytest.raises(BadResponse, match='id'):
        module.parse_answer(query, pack(wrong_id(Q)), False)


SIGNED_Q = make_query('www.Example.com', TYPES.A, key=KEY)


def signing(answer, key=KEY, shift=0, asked_with=KEY, **how):
    """An `answer` that is signed, by a clock that goes before; `how` by hand."""

    def signed(query):
        *rest, record = query.ar
        query = query._replace(ar=tuple(rest))
        original = query._replace(qid=record.rdata.original_id)
        assert sign(original, asked_with, b'', record.rdata.time_signed)[1] == record.rdata.mac
        assert abs(record.rdata.time_signed - time.time()) < 60
        at = int(time.time()) + shift
        if how:
            return signed_by_hand(pack(answer(query)), record.rdata.mac, key=key, at=at, **how)
        return sign(answer(query), key, record.rdata.mac, at)[0]

    return signed


def without_tsig(answer):
    """An `answer` that is not signed."""
    return lambda query: answer(query._replace(ar=query.ar[:-1]))


def not_authorized(query):
    return reply_to(query, rcode=RCODES.NOTAUTH)


# What a server may send to a signed query instead of a signed reply, and what is wrong with it.
BADLY_SIGNED = {
    'not signed': (without_tsig(echo), 'not signed'),
    'not signed, an error': (without_tsig(not_authorized), 'not signed, and says NOTAUTH'),
    'a request sent back': (lambda query: query._replace(qr=RESPONSE), 'BADSIG'),
    'another secret': (signing(echo, OTHER_KEY), 'BADSIG'),
    'another key': (signing(echo, Key('other', b'x')), 'other. hmac-sha256. .BADKEY'),
    'another algorithm': (signing(echo, Key('key.example', b'x', 'hmac-sha1')), 'BADKEY'),
    'an hour before': (signing(echo, shift=-3600), 'BADTIME'),
    'an hour after': (signing(echo, shift=3600), 'BADTIME'),
    'cut': (signing(echo, size=16), 'BADTRUNC'),
    'it does not know the key': (
        signing(not_authorized, size=0, error=17),
        'BADKEY, and does not sign',
    ),
    'it does not know the key, and what was asked': (  # as NSD says it
        signing(lambda query: not_authorized(query)._replace(qd=(), ar=()), size=0, error=17),
        'BADKEY, and does not sign',
    ),
    'another question': (without_tsig(wrong_name), 'not signed'),
    'it is in another year': (signing(not_authorized, error=18, other=bytes(6)), 'its clock is 1'),
}


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_a_query_with_a_key_is_signed_and_its_reply_verified(call):
    async with Nameserver(signing(echo)) as server, stream_pair(server) as pair:
        with datagram_socket() as sock:
            for given in (None, sock if call is udp else pair):
                reply = await soon(call(SIGNED_Q, '127.0.0.1', 5, server.port, sock=given))
                assert reply._replace(ar=reply.ar[:-1]) == echo(SIGNED_Q)._replace(ar=Q.ar)
                record = reply.ar[-1]
                assert (record.name, record.qtype) == (KEY.name, TYPES.TSIG)


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_octets_that_are_signed_already_go_out_and_the_reply_is_not_verified(call):
    octets, mac = sign(Q, KEY)
    async with Nameserver(without_tsig(echo)) as server:
        assert await call(octets, '127.0.0.1', 5, server.port) == echo(Q)
        assert mac_in(pack(server.queries[0])) == mac


@on_every_loop
@pytest.mark.parametrize('scheme', ['tls', 'https'])
async def test_a_query_with_a_key_is_signed_over_tls_and_https_too(authority, scheme):
    for answer, is_good in ((signing(echo), True), (without_tsig(echo), False)):
        async with SECURE[scheme](authority, answer) as server:
            call = tls if scheme == 'tls' else https
            for how in [{}] if scheme == 'tls' else [{}, {'post': False}]:
                asked = call(SIGNED_Q, '127.0.0.1', 5, server.port, verify=authority.path, **how)
                if is_good:
                    assert (await asked).an == echo(Q).an
                else:
                    assert isinstance(await raised_by(asked), BadSignature)


@on_every_loop
async def test_a_signed_query_falls_back_to_tcp_signed():
    over_tcp = signing(echo)
    async with Nameserver(signing(answering(tc=1)), over_tcp=over_tcp) as server:
        reply, used_tcp = await udp_with_fallback(SIGNED_Q, '127.0.0.1', 5, server.port)
        assert (reply.an, used_tcp) == (echo(Q).an, True)
        assert [query.ar[-1].qtype for query in server.queries] == [TYPES.TSIG] * 2
    # Not for a reply with TC that anybody may have sent.
    for cut in (without_tsig(answering(tc=1)), truncated):
        async with Nameserver(cut, over_tcp=over_tcp) as server:
            call = udp_with_fallback(SIGNED_Q, '127.0.0.1', 5, server.port)
            assert isinstance(await raised_by(call), (BadSignature, MalformedMessage))
            assert server.over_tcp == []


@on_every_loop
@pytest.mark.parametrize('call', [udp, tcp])
async def test_a_reply_that_is_badly_signed_is_an_error(call):
    for answer, text in BADLY_SIGNED.values():
        async with Nameserver(answer) as server, stream_pair(server) as pair:
            with datagram_socket() as sock:
                for given in (None, sock if call is udp else pair):
                    asked = call(SIGNED_Q, '127.0.0.1', 5, server.port, sock=given)
                    error = await raised_by(soon(asked))
                    assert isinstance(error, BadSignature)
                    assert re.search(text, str(error))
                    assert str(error).startswith('www.example.com. A from ')


@in_one_way
@pytest.mark.parametrize('fault', BADLY_SIGNED)
async def test_with_ignore_errors_a_badly_signed_datagram_is_dropped(fault):
    bad, text = BADLY_SIGNED[fault]
    good = signing(echo)
    async with Nameserver(lambda query: [bad(query), bad(query), good(query)]) as server:
        with datagram_socket() as sock:
            for given in (None, sock):
                call = udp(SIGNED_Q, '127.0.0.1', 1, server.port, sock=given, ignore_errors=True)
                assert (await call).an == echo(Q).an
    async with Nameserver(bad) as server:
        call = udp(SIGNED_Q, '127.0.0.1', 1, server.port, ignore_errors=True)
        error = await raised_by(in_time(call))
        assert isinstance(error, QueryTimeout)
        assert isinstance(error.__cause__, BadSignature)
        assert re.search(text, str(error.__cause__))


@on_every_loop
async def test_the_halves_sign_and_verify():
    octets, mac = sign(SIGNED_Q, KEY)
    async with Nameserver(signing(echo)) as server, stream_pair(server) as pair:
        with datagram_socket() as sock:
            await send_udp(sock, octets, server.nameserver)
            keys = {'keyring': KEYRING, 'request_mac': mac}
            reply, _, _ = await soon(receive_udp(sock, query=octets, **keys))
            assert reply.an == echo(Q).an
            await send_tcp(pair, octets)
            reply, _ = await soon(receive_tcp(pair, **keys))
            assert reply.an == echo(Q).an

    def then_good(bad):
        return lambda query: [bad(query), signing(echo)(query)]

    for bad, text in BADLY_SIGNED.values():
        async with Nameserver(then_good(bad)) as server, stream_pair(server) as pair:
            for ignore_errors in (True, False):
                with datagram_socket() as sock:
                    await send_udp(sock, octets, server.nameserver)
                    await send_tcp(pair, octets)
                    over_udp = receive_udp(sock, ignore_errors=ignore_errors, **keys)
                    over_tcp = receive_tcp(pair, ignore_errors=ignore_errors, **keys)
                    if ignore_errors:
                        assert (await soon(over_udp))[0].an == echo(Q).an
                        assert (await soon(over_tcp))[0].an == echo(Q).an
                    else:
                        for call in (over_udp, over_tcp):
                            error = await raised_by(soon(call))
                            assert isinstance(error, BadSignature)
                            assert re.search(text, str(error))


@on_every_loop
async def test_a_server_of_the_halves_verifies_what_is_signed():
    with datagram_socket() as ours, datagram_socket() as theirs:
        where = theirs.getsockname()
        for octets, keyring, is_good in (
            (pack(Q), KEYRING, True),
            (sign(Q, KEY)[0], KEYRING, True),
            (sign(Q, KEY)[0], None, True),  # who has no keyring looks at no signature
            (sign(Q, KEY)[0], {}, False),
            (sign(Q, OTHER_KEY)[0], KEYRING, False),
        ):
            await send_udp(ours, octets, where)
            call = soon(receive_udp(theirs, keyring=keyring))
            if is_good:
                assert (await call)[0] == parse(octets)
            else:
                assert isinstance(await raised_by(call), BadSignature)


@on_every_loop
async def test_what_is_no_keyring_is_refused():
    _, mac = sign(Q, KEY)
    async with Nameserver(silent) as server, stream_pair(server) as pair:
        with datagram_socket() as sock:
            for keyring, request_mac in (
                (KEY, b''),
                ({KEY.name: KEY.secret}, b''),
                ([KEY], b''),
                (KEYRING, None),
                (KEYRING, 'mac'),
                (KEYRING, bytes(65536)),
                (None, mac),
            ):
                keys = {'keyring': keyring, 'request_mac': request_mac}
                for call in (receive_udp(sock, **keys), receive_tcp(pair, **keys)):
                    with pytest.raises(TypeError) as raised:
                        await call
                    assert repr(KEY.secret) not in str(raised.value)
            # A Key in a message is for who waits for the reply to it, and has the MAC.
            for call in (
                send_udp(sock, SIGNED_Q, server.nameserver),
                send_tcp(pair, SIGNED_Q),
                receive_udp(sock, query=SIGNED_Q),
            ):
                with pytest.raises(TypeError, match='Key'):
                    await call
        await server.asked(0)


@on_every_loop
async def test_a_datagram_waits_for_room_until_the_expiration():
    class Full(socket.socket):
        def sendto(self, *_):
            if is_full:
                raise BlockingIOError(errno.EAGAIN, 'full')
            return 5

    now = asyncio.get_running_loop().time()
    with Full(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        is_full = True
        task = asyncio.ensure_future(send_udp(sock, Q, ('127.0.0.1', 53), now + 1))
        assert isinstance(await raised_by(in_time(task)), QueryTimeout)
        task = asyncio.ensure_future(send_udp(sock, Q, ('127.0.0.1', 53)))
        await settle()
        is_full = False
        sent, sent_at = await in_time(task)
        assert sent == 5
        assert sent_at > now


@pytest.fixture(scope='session')
def authority(tmp_path_factory):
    """A certificate authority of ours, and the path of its certificate."""
    authority = trustme.CA()
    authority.path = str(tmp_path_factory.mktemp('authority') / 'authority.pem')
    authority.cert_pem.write_to_path(authority.path)
    return authority


def server_context(authority, *names, protocols=('dot',), **arguments):
    """What a nameserver with a certificate for these names needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **arguments).configure_cert(context)
    context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture
def trusting(authority, monkeypatch):
    """The authority, which the system trusts meanwhile."""
    monkeypatch.setenv('SSL_CERT_FILE', authority.path)
    module.tls_context.cache_clear()
    yield authority
    module.tls_context.cache_clear()


def tls_nameserver(authority, answer, *names, **arguments):
    """A scripted nameserver over TLS."""
    names = names or ('127.0.0.1', 'dns.example')
    return Nameserver(answer, tls=server_context(authority, *names, **arguments))


@in_one_way
@pytest.mark.parametrize(
    'name, expected',
    [
        ('', True),
        ('dns.example', True),
        ('DNS.Example.', True),
        ('127.0.0.1', True),
        ('other.example', False),
        ('127.0.0.2', False),
    ],
)
async def test_a_certificate_is_for_the_name_or_for_the_address(authority, name, expected):
    async with tls_nameserver(authority, echo) as server:
        arguments = {'server_hostname': name or None, 'verify': authority.path}
        call = tls(Q, '127.0.0.1', 5, server.port, **arguments)
        if expected:
            assert await call == echo(Q)
            assert server.ends[-1].tls.selected_alpn_protocol() == 'dot'
        else:
            error = await raised_by(call)
            assert isinstance(error, SocketError)
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
            await settle()
            assert server.queries == []


@on_every_loop
@pytest.mark.parametrize('fault', ['of another', 'expired', 'for another name', 'old'])
async def test_a_certificate_that_does_not_pass_is_an_error_before_anything_is_sent(
    authority, fault
):
    past = datetime.datetime(2020, 1, 1)
    issuer = trustme.CA() if fault == 'of another' else authority
    dates = {'not_before': past, 'not_after': past + datetime.timedelta(days=9)}
    names = ('dns.example',) if fault == 'for another name' else ('127.0.0.1',)
    arguments = dates if fault == 'expired' else {}
    context = server_context(issuer, *names, **arguments)
    if fault == 'old':
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers('ALL:@SECLEVEL=0')
    async with Nameserver(echo, tls=context) as server:
        error = await raised_by(tls(Q, '127.0.0.1', 5, server.port, verify=authority.path))
        assert isinstance(error, SocketError)
        assert isinstance(error.__cause__, ssl.SSLError)
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError) == (fault != 'old')
        await settle()
        assert server.queries == []


@in_one_way
async def test_what_verify_may_be(authority, tmp_path):
    async with tls_nameserver(authority, echo) as server:
        shutil.copy(authority.path, tmp_path / 'authority.pem')
        own = ssl.create_default_context(cafile=authority.path)
        subprocess.run(['openssl', 'rehash', str(tmp_path)], check=True)
        for arguments in (
            {'verify': False},
            {'verify': Path(authority.path)},
            {'verify': str(tmp_path)},
            {'verify': own},
            {'ssl_context': own},
        ):
            own.set_alpn_protocols(['http/1.1'])
            assert await tls(Q, '127.0.0.1', 5, server.port, **arguments) == echo(Q)
        for arguments, error in (
            ({'verify': str(tmp_path / 'none')}, SocketError),
            ({'verify': str(tmp_path / 'authority.pem') + 'x'}, SocketError),
            ({'verify': 5}, TypeError),
            ({'verify': None}, TypeError),
            ({'verify': ssl}, TypeError),
            ({'ssl_context': False}, TypeError),
            ({'ssl_context': ssl}, TypeError),
            ({'ssl_context': authority.path}, TypeError),
            ({'server_hostname': 'a..b'}, InvalidName),
            ({'server_hostname': 'a\0b'}, InvalidName),
            ({'server_hostname': 5}, TypeError),
        ):
            with pytest.raises(error):
                await tls(Q, '127.0.0.1', 5, server.port, **arguments)


@on_every_loop
async def test_a_stream_of_the_callers_may_be_one_over_tls(authority):
    context = ssl.create_default_context(cafile=authority.path)
    async with tls_nameserver(authority, echo) as server:
        pair = await asyncio.open_connection('127.0.0.1', server.port, ssl=context)
        for call in (tls, tcp):
            assert await call(Q, '127.0.0.1', 5, server.port, sock=pair) == echo(Q)
        pair[1].transport.abort()
        await settle()


@on_every_loop
async def test_the_server_is_told_why_its_certificate_does_not_pass(authority):
    async with tls_nameserver(authority, echo) as server:
        await raised_by(tls(Q, '127.0.0.1', 5, server.port))
        await let_arrive()
        assert 'ALERT_UNKNOWN_CA' in server.alerts[0]


# Else one that waits for it before it sends more is waited for, 40 ms each time.
@in_one_way
@pytest.mark.parametrize('scheme', ['tcp', 'tls'])
async def test_what_comes_is_acknowledged_at_once_while_more_is_waited_for(trusting, scheme):
    context = server_context(trusting, '127.0.0.1') if scheme == 'tls' else None
    async with Nameserver(echo, tls=context) as server:
        resolve, _ = over(f'{scheme}://127.0.0.1:{server.port}')
        server.answer = lambda query: None if b'slow' in query.qd[0].name.lower() else echo(query)
        server.answer_over_tcp = server.answer
        task = asyncio.ensure_future(resolve('slow.example', TYPES.A))
        await server.asked(1)
        await resolve('fast.example', TYPES.A)
        (stream,) = [*module.resources_of(asyncio.get_running_loop()).sockets.owners.values()]
        quick = stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
        assert quick == 1
        task.cancel()
        await asyncio.wait([task])


@on_every_loop
async def test_a_server_that_ends_tls_ends_the_stream(trusting):
    async with tls_nameserver(trusting, echo) as server:
        resolve, _ = over(f'tls://127.0.0.1:{server.port}')
        await resolve('x.example', TYPES.A)
        with contextlib.suppress(ssl.SSLWantReadError):
            server.ends[0].tls.unwrap()
        server.streams[0].send(server.ends[0].outgoing.read())  # and the stream stays open
        await let_arrive()
        assert is_idle()
        assert len(await resolve('y.example', TYPES.A)) == 1
        assert len(server.streams) == 2


@on_every_loop
async def test_the_server_is_told_that_tls_ends(trusting):
    async with tls_nameserver(trusting, echo) as server:
        assert await tls(Q, '127.0.0.1', 5, server.port) == echo(Q)
        await settle()
        assert server.ends[0].is_over


@in_one_way
async def test_authorities_that_were_replaced_are_trusted_no_longer(authority, tmp_path):
    path = tmp_path / 'authorities.pem'
    async with tls_nameserver(authority, echo) as server:

        def ask():
            return tls(Q, '127.0.0.1', 5, server.port, verify=path)

        shutil.copy(authority.path, path)
        assert await ask() == echo(Q)
        trustme.CA().cert_pem.write_to_path(str(path))
        assert isinstance(await raised_by(ask()), SocketError)
        shutil.copy(authority.path, path)
        assert await ask() == echo(Q)
        path.unlink()
        assert isinstance(await raised_by(ask()), SocketError)


@on_every_loop
async def test_for_a_stream_of_the_callers_no_certificates_are_read():
    async with Nameserver(echo) as server, stream_pair(server) as pair:
        call = tls(Q, '127.0.0.1', 5, server.port, sock=pair, verify='/nowhere')
        assert await call == echo(Q)


@on_every_loop
@pytest.mark.parametrize(
    'said',
    [[HANG_UP], [Raw(b'HTTP/1.1 400 Bad Request\r\n\r\n')], [Raw(b'\x16\x03\x01'), HANG_UP]],
    ids=['closes', 'no TLS', 'closes in a record'],
)
async def test_a_server_that_does_not_speak_tls_is_an_error(said):
    listener = socket.create_server(('127.0.0.1', 0))
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    port = listener.getsockname()[1]
    task = asyncio.ensure_future(tls(Q, '127.0.0.1', 5, port, verify=False))
    stream, _ = await loop.sock_accept(listener)
    with listener, stream:
        await settle()
        for octets in said:
            if octets:
                stream.send(octets)
        if said[-1] is HANG_UP:
            stream.shutdown(socket.SHUT_WR)
        error = await raised_by(task)
        assert isinstance(error, SocketError)


# HTTP


DNS_MESSAGE = 'application/dns-message'


class Response(NamedTuple):
    """What an HTTP server says, when it is not just a DNS message."""

    body: bytes = b''
    status: str = '200'
    content_type: str | None = DNS_MESSAGE
    fields: tuple = ()


class HttpNameserver(Nameserver):
    """A scripted nameserver over HTTP/2: an `answer` may give a Response, or do as it wants.

    What it wants is a function of the server's H2Connection and the number of the stream.
    """

    def __init__(self, answer, tls, address='127.0.0.1', **settings):
        super().__init__(answer, address, tls=tls)
        self.settings = {SettingCodes[key]: value for key, value in settings.items()}
        self.connections = []  # of HTTP/2, one for each stream
        self.requests = []  # the header fields
        self.resets = []
        self.bodies = {}  # of requests, with their heads
        self.uploads = {}  # what is left of the bodies of responses
        self.uploaded = {}
        self.most_at_once = 0
        self.gone = []  # connections that were closed, and may not hear more

    def accept(self):
        super().accept()
        connection = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding='ascii',
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        connection.initiate_connection()
        connection.update_settings(self.settings)
        self.connections.append(connection)

    def hear(self, stream, _, octets):
        connection = self.connections[self.streams.index(stream)]
        if connection in self.gone:
            return
        for event in connection.receive_data(octets):
            if isinstance(event, RequestReceived):
                self.requests.append(dict(event.headers))
                self.most_at_once = max(self.most_at_once, connection.open_inbound_streams)
                self.bodies[stream, event.stream_id] = [self.requests[-1], b'']
            elif isinstance(event, DataReceived):
                connection.acknowledge_received_data(len(event.data), event.stream_id)
                self.bodies[stream, event.stream_id][1] += event.data
            elif isinstance(event, StreamReset):
                self.resets.append(event.error_code)
                self.bodies.pop((stream, event.stream_id), None)
                self.uploads.pop((stream, event.stream_id), None)
            elif isinstance(event, StreamEnded):
                head, body = self.bodies.pop((stream, event.stream_id))
                say = functools.partial(self.say_over_http, stream, event.stream_id)
                self.take(body or query_in_target(head[':path']), self.answer, say)
        self.upload()

    def say_all(self, said, say):
        for reply in said if isinstance(said, list) else [said]:
            if reply is not None:
                say(pack(reply) if isinstance(reply, Message) else reply)

    def say_over_http(self, stream, stream_id, reply):
        connection = self.connections[self.streams.index(stream)]
        if reply is HANG_UP:
            return self.close(stream)
        if stream.fileno() < 0 or connection in self.gone:
            return
        if isinstance(reply, bytes):
            reply = Response(reply)
        if isinstance(reply, Response):
            head = [(':status', reply.status), *reply.fields]
            if reply.content_type is not None:
                head.append(('content-type', reply.content_type))
            try:
                connection.send_headers(stream_id, head)
            except (StreamClosedError, StreamIDTooLowError):
                return  # the client has given it up meanwhile
            self.uploads[stream, stream_id] = reply.body
        else:
            reply(connection, stream_id)
            if reply is going_away:
                self.gone.append(connection)
        self.upload()

    def upload(self):
        """Sends of the responses what there is room for."""
        for (stream, stream_id), body in list(self.uploads.items()):
            connection = self.connections[self.streams.index(stream)]
            while True:
                room = min(
                    connection.local_flow_control_window(stream_id),
                    connection.max_outbound_frame_size,
                )
                piece, body = body[:room], body[room:]
                if body and not room:
                    break
                connection.send_data(stream_id, piece, end_stream=not body)
                self.uploaded[stream_id] = self.uploaded.get(stream_id, 0) + len(piece)
                self.uploads[stream, stream_id] = body
                if not body:
                    del self.uploads[stream, stream_id]
                    break
        for stream, connection in zip(self.streams, self.connections, strict=True):
            octets = connection.data_to_send()
            if octets and stream.fileno() >= 0:
                self.put(stream, octets)


def query_in_target(target):
    """The query of a GET."""
    coded = re.fullmatch(r'/dns-query\?dns=([A-Za-z0-9_-]+)', target)[1]
    return base64.urlsafe_b64decode(coded + '=' * (-len(coded) % 4))


def https_nameserver(authority, answer, *names, protocols=('h2',), **settings):
    """A scripted nameserver over HTTPS."""
    names = names or ('127.0.0.1', 'dns.example')
    return HttpNameserver(
        answer, server_context(authority, *names, protocols=protocols), **settings
    )


SECURE = {'tls': tls_nameserver, 'https': https_nameserver}


def raw_frame(frame_type, stream_id, body=b'', flags=0):
    """A frame of HTTP/2 (RFC 9113 4.1)."""
    head = len(body).to_bytes(3, 'big') + bytes([frame_type, flags])
    return head + stream_id.to_bytes(4, 'big') + body


def saying_frame(frame_type, *arguments, to=None):
    """What an HTTP server wants that sends a frame of its own, on the stream or on another."""

    def say(connection, stream_id):
        connection._data_to_send += raw_frame(
            frame_type, stream_id if to is None else to, *arguments
        )

    return say


def doh(server, authority, q=Q, timeout=5, **arguments):
    """The call of `https` that asks a scripted nameserver."""
    return https(q, '127.0.0.1', timeout, server.port, verify=authority.path, **arguments)


@on_every_loop
@pytest.mark.parametrize('post', [True, False])
async def test_a_query_over_https_is_a_request(authority, post):
    async with https_nameserver(authority, echo) as server:
        assert await doh(server, authority, post=post) == echo(Q)
        (head,) = server.requests
        path = head.pop(':path')
        expected = {
            ':method': 'POST' if post else 'GET',
            ':scheme': 'https',
            ':authority': f'127.0.0.1:{server.port}',
            'accept': DNS_MESSAGE,
        }
        if post:
            assert path == '/dns-query'
            expected['content-type'] = DNS_MESSAGE
            expected['content-length'] = str(len(pack(Q)))
        else:
            assert path.startswith('/dns-query?dns=AAAB')
        assert head == expected
        assert server.queries == [Q if post else Q._replace(qid=0)]
        assert is_idle()


# RFC 8484 4.1.1: what a GET for www.example.com. A is; and 4.2.2 its response.
def test_the_examples_of_the_rfc():
    octets = pack(make_query('www.example.com', TYPES.A))
    plain = octets[:10] + b'\0\0' + octets[12:33]
    exchange = module.HttpExchange(plain, '/dns-query', False)
    assert exchange.target == '/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB'
    for size in range(20, 40):  # all paddings of base64
        target = module.HttpExchange(octets[:2] + bytes(size), '/q?a=b', False).target
        coded = target.removeprefix('/q?a=b&dns=')
        assert base64.urlsafe_b64decode(coded + '=' * (-len(coded) % 4)) == bytes(size + 2)
        assert '=' not in coded


@in_one_way
@pytest.mark.parametrize('fault', BAD_REPLIES)
@pytest.mark.parametrize('post', [True, False])
async def test_a_bad_reply_over_https_is_the_error_that_it_is(authority, fault, post):
    answer, expected = BAD_REPLIES[fault]
    async with https_nameserver(authority, answer) as server:
        error = await raised_by(doh(server, authority, post=post))
        assert isinstance(error, expected)
        where = f'www.example.com. A from 127.0.0.1:{server.port} over HTTPS'
        assert str(error).startswith(where)
        if fault == 'trailing':
            assert await doh(server, authority, ignore_trailing=True) == echo(Q)


@in_one_way
async def test_a_truncated_reply_over_https_is_returned(authority):
    async with https_nameserver(authority, lambda query: echo(query)._replace(tc=1)) as server:
        assert await doh(server, authority) == echo(Q)._replace(tc=1)


# What an HTTP server may say that is no answer: the error, and its status.
HTTP_FAULTS = {
    'not found': (Response(status='404'), BadResponse, 404),
    'an error in HTML': (Response(b'<h1>No</h1>', '500', 'text/html'), BadResponse, 500),
    'an error and much': (Response(b'x' * 60_000, '503'), BadResponse, 503),
    'moved': (Response(status='302', fields=(('location', '/other'),)), BadResponse, 302),
    'HTML': (Response(b'<h1>Welcome</h1>', '200', 'text/html'), BadResponse, 200),
    'another type': (Response(b'x', '200', 'application/dns-message2'), BadResponse, 200),
    'no type': (Response(b'x', '200', None), BadResponse, 200),
    'no content': (Response(b'', '204', None), BadResponse, 204),
    'nothing': (Response(b''), MalformedMessage, None),
    'a status that is none': (Response(status='2000'), BadResponse, None),
    'a status that is no number': (Response(status='\x1b[31m'), BadResponse, None),
    'a long type': (Response(content_type='x' * 8000), BadResponse, 200),
}


@on_every_loop
@pytest.mark.parametrize('fault', HTTP_FAULTS)
async def test_a_response_that_is_no_dns_message_is_an_error(authority, fault):
    response, expected, status = HTTP_FAULTS[fault]
    async with https_nameserver(authority, lambda query: response) as server:
        error = await raised_by(doh(server, authority))
        assert isinstance(error, expected)
        assert getattr(error, 'status', None) == status
        assert len(str(error)) < 300
        assert str(error).isprintable()
        assert len(server.requests) == 1  # a redirection is not followed
        assert is_idle()


@in_one_way
async def test_a_response_without_a_status_is_an_error(authority):
    headless = saying_frame(1, b'\x00\x01x\x01y', 5)
    async with https_nameserver(authority, lambda query: headless) as server:
        error = await raised_by(doh(server, authority))
        assert isinstance(error, BadResponse)
        assert error.status is None


@in_one_way
@pytest.mark.parametrize('status', ['200', '203', '299'])
@pytest.mark.parametrize(
    'content_type', ['Application/DNS-Message', 'application/dns-message ;a=b']
)
async def test_what_is_a_dns_message(authority, status, content_type):
    def answer(query):
        return Response(pack(echo(query)), status, content_type)

    async with https_nameserver(authority, answer) as server:
        assert await doh(server, authority) == echo(Q)


@in_one_way
@pytest.mark.parametrize(
    'age, ttl', [('0', 300), ('100', 200), ('300', 0), ('999999999', 0), ('-5', 300), ('x', 300)]
)
async def test_the_ttls_of_a_response_from_a_cache_are_less_by_its_age(trusting, age, ttl):
    def answer(query):
        reply = echo(query)
        records = [a(b'www.example.com', ttl=300), cname(b'x.example', b'y.example', ttl=1)]
        reply = reply._replace(an=(a(query.qd[0].name, ttl=300),), ns=tuple(records))
        return Response(pack(reply), fields=(('age', age),))

    async with https_nameserver(trusting, answer) as server:
        reply = await doh(server, trusting)
        ttls = [record.ttl for record in (*reply.an, *reply.ns)]
        assert ttls == [ttl, ttl, 1 if ttl == 300 else 0]
        assert reply.edns == Q.edns  # which has no TTL
        resolve, _ = over(url_of('https', server))
        (address,) = await resolve('x.example', TYPES.A)
        assert address.expires_at == asyncio.get_running_loop().time() + ttl


@given(st.binary(max_size=200), st.integers(1, 1000))
def test_octets_of_any_kind_may_be_aged(octets, seconds):
    assert len(module.aged(octets, seconds)) == len(octets)


def test_a_message_that_is_cut_short_is_not_aged():
    reply = pack(echo(Q))
    for end in range(len(reply)):
        assert module.aged(reply[:end], 1) == reply[:end]


@in_one_way
@pytest.mark.parametrize('size', [65535, 65536, 10_000_000])
async def test_a_body_is_read_as_far_as_a_message_may_go(trusting, size):
    filler = bytes(size - len(pack(echo(Q))))
    responses = [Response(pack(echo(Q)) + filler), echo]
    async with https_nameserver(trusting, lambda query: responses.pop(0)) as server:
        call = doh(server, trusting, ignore_trailing=True)
        if size == 65535:
            assert await call == echo(Q)
            return
        error = await raised_by(call)
        assert isinstance(error, BadResponse)
        assert error.status == 200
    responses = [Response(bytes(size)), echo]

    def answer(query):
        return responses.pop(0) if len(responses) > 1 else echo(query)

    async with https_nameserver(trusting, answer) as server:
        resolve, _ = over(url_of('https', server))
        assert len(await resolve('x.example', TYPES.A)) == 1  # it is asked again
        assert server.resets == ([ErrorCodes.CANCEL] if size > 65536 else [])  # else all is said
        assert sum(server.uploaded.values()) < 200_000
        assert len(server.streams) == 1


@in_one_way
async def test_a_query_may_be_larger_than_what_there_is_room_for(authority):
    large, medium = [
        Q._replace(ar=(rr(b'x', TYPES.TXT, (b'y' * 255,) * count),)) for count in (255, 80)
    ]
    async with https_nameserver(authority, echo, INITIAL_WINDOW_SIZE=1000) as server:
        assert await doh(server, authority, large) == echo(large)
        assert await doh(server, authority, medium, post=False) == echo(medium)
        assert server.queries == [large, medium._replace(qid=0)]


def resetting(code):
    return lambda connection, stream_id: connection.reset_stream(stream_id, code)


def going_away(connection, stream_id):
    """It has not looked at the query, nor will it."""
    connection.close_connection(last_stream_id=stream_id - 2 if stream_id > 2 else 0)


def hanging_up_within(connection, stream_id):
    connection.send_headers(stream_id, [(':status', '200'), ('content-type', DNS_MESSAGE)])
    connection.send_data(stream_id, pack(echo(Q))[:20])


# What an HTTP server may do that ends the query, or all of them.
ENDS = {
    'reset': resetting(ErrorCodes.INTERNAL_ERROR),
    'refused': resetting(ErrorCodes.REFUSED_STREAM),
    'goaway': going_away,
    'hang up': HANG_UP,
    'hang up within': [hanging_up_within, HANG_UP],
    'goaway within': [hanging_up_within, going_away],
    'reset within': [hanging_up_within, resetting(ErrorCodes.NO_ERROR)],
    'too little': Response(b'12345', fields=(('content-length', '6'),)),
    'a response to nothing': saying_frame(1, b'\x88', 5, to=99),
    'data before its head': saying_frame(0, b'x', 1),
    'a push': saying_frame(5, (2).to_bytes(4, 'big') + b'\x88', 4),
    'a head that is none': saying_frame(1, b'\xff\xff\xff\xff\xff', 5),
    'a frame too large': saying_frame(0, bytes(20_000)),
    'a window too large': [saying_frame(8, b'\x7f\xff\xff\xff', to=0)] * 2,
    'a setting that is none': saying_frame(4, b'\0\4\xff\xff\xff\xff', to=0),
    'a dependency on itself': saying_frame(2, b'\0\0\0\1\0', to=1),
    'ten thousand continuations': [saying_frame(1, b'x'), *[saying_frame(9, b'')] * 10_000],
}


@on_every_loop
@pytest.mark.parametrize('end', ENDS)
async def test_an_http_server_that_ends_the_query_is_an_error(authority, end):
    async with https_nameserver(authority, lambda query: ENDS[end]) as server:
        error = await raised_by(in_time(doh(server, authority, timeout=2)))
        assert isinstance(error, SocketError), error
        assert error.errno
        assert str(server.port) in str(error)
        assert is_idle()
        assert len(server.requests) == (2 if end == 'refused' else 1)


@on_every_loop
@pytest.mark.parametrize('end', ENDS)
async def test_a_resolver_asks_again_when_an_http_server_ends_the_query(trusting, end):
    says = [echo, lambda query: ENDS[end]]

    def answer(query):
        return (says.pop(0) if says else echo)(query)

    async with https_nameserver(trusting, answer) as server:
        resolve, clear_cache = over(url_of('https', server))
        for name in ('one', 'two', 'three'):
            assert len(await resolve(f'{name}.example', TYPES.A)) == 1
        assert len(server.queries) == 4
        assert len(server.streams) == (1 if end in ('reset', 'refused', 'reset within') else 2)
        clear_cache()
        assert is_idle()


# What a server says that has had enough: it still answers what it was asked (RFC 9113 6.8).
def going_when_done(connection, stream_id):
    last = stream_id.to_bytes(4, 'big')
    connection._data_to_send += raw_frame(module.GOAWAY, 0, last + bytes(4))


@on_every_loop
@pytest.mark.parametrize('at_once', [True, False])
async def test_what_was_asked_before_goaway_is_still_answered(trusting, at_once):
    async def answer(query):
        if is_about(query, b'two.example'):
            await go_on.wait()
        return echo(query)

    go_on = asyncio.Event()
    async with https_nameserver(trusting, answer) as server:
        resolve, _ = over(url_of('https', server))
        await resolve('one.example', TYPES.A)
        task = asyncio.ensure_future(resolve('two.example', TYPES.A))
        await server.asked(2)
        server.say_over_http(server.streams[0], 3, going_when_done)
        if not at_once:
            await let_arrive()
            assert len(await resolve('three.example', TYPES.A)) == 1  # on a new one
        go_on.set()
        assert len(await task) == 1
        assert len(server.queries) == len(server.names) == (2 if at_once else 3)
        await resolve('four.example', TYPES.A)
        assert len(server.streams) == 2
    async with https_nameserver(trusting, lambda query: [going_when_done, echo(query)]) as server:
        assert await doh(server, trusting) == echo(Q)


@on_every_loop
@pytest.mark.parametrize('scheme', ['tcp', 'tls', 'https'])
async def test_a_stream_that_falls_silent_is_left_though_a_query_was_given_up(trusting, scheme):
    async with serving(scheme, trusting, echo) as server:
        resolve, _ = Resolver(no_host, asking(url_of(scheme, server), rounds=1))
        await resolve('first.example', TYPES.A)
        now_saying(server, silent)
        task = asyncio.ensure_future(resolve('given-up.example', TYPES.A))
        await server.asked(2)
        task.cancel()
        await asyncio.wait([task])
        now_saying(server, echo)
        await resolve('second.example', TYPES.A)
        now_saying(server, silent)
        for name in 'abcd':
            await raised_by(in_time(resolve(f'{name}.example', TYPES.A)))
        now_saying(server, echo)
        assert len(await resolve('last.example', TYPES.A)) == 1
        assert len(server.streams) == 2


# The cheapest of what serves no query.
FLOODS = {
    'pings': raw_frame(6, 0, bytes(8)),
    'settings': raw_frame(4, 0),
    'windows': raw_frame(8, 0, b'\0\0\0\1'),
    'unknown': raw_frame(0xBB, 0),
    'empty data': raw_frame(0, 1),
}


@in_one_way
@pytest.mark.parametrize('flood', FLOODS)
@pytest.mark.parametrize('is_idle_then', [True, False])
async def test_a_flood_that_brings_no_reply_ends_the_connection(trusting, flood, is_idle_then):
    def answer(query):
        if is_about(query, b'flood.example'):
            return None
        return echo(query)

    async with https_nameserver(trusting, answer) as server:
        resolve, _ = over(url_of('https', server), timeout=5)
        task = asyncio.ensure_future(resolve('flood.example', TYPES.A))
        await server.asked(1)
        if is_idle_then:
            await resolve('x.example', TYPES.A)
            task.cancel()
            await asyncio.wait([task])
        octets = FLOODS[flood]
        if flood == 'empty data':
            content_type = b'\x0f\x10' + bytes([len(DNS_MESSAGE)]) + DNS_MESSAGE.encode()
            octets = raw_frame(1, 1, b'\x88' + content_type, 4) + octets  # RFC 7541 6.2.2
        octets += FLOODS[flood] * (module.MAX_WITHOUT_REPLY // len(FLOODS[flood]))
        for start in range(0, len(octets), 10_000):
            if server.streams[0].fileno() >= 0:
                server.put(server.streams[0], octets[start : start + 10_000])
                await let_arrive()
        assert server.streams[0].fileno() < 0
        if not is_idle_then:
            await server.asked(2)
            task.cancel()
            await asyncio.wait([task])


@in_one_way
async def test_a_request_that_the_server_resets_says_nothing_of_the_server(trusting):
    def answer(query):
        if is_about(query, b'bad.example'):
            return resetting(ErrorCodes.INTERNAL_ERROR)
        return echo(query)

    async with https_nameserver(trusting, answer) as server, Nameserver(echo) as other:
        for first in ('good.example', 'bad.example'):
            url = url_of('https', server)
            settings = module.to_settings(no_host, asking(url, other.nameserver), mix_case)
            for name in (first, 'bad.example'):
                outcomes = await outcomes_of(settings, name.encode(), (TYPES.A,))
                assert len(outcomes[TYPES.A].records) == 1
            assert not settings.servers[url].unresponsive_until
            module.forget(settings)
        assert len(server.queries) < 12


# A field that HTTP/2 does not allow.
@in_one_way
@pytest.mark.parametrize('field', [('connection', 'close'), ('X-Upper', 'y'), ('te', 'x')])
async def test_a_response_with_a_field_that_is_not_allowed_hurts_no_other(trusting, field):
    def answer(query):
        bad = is_about(query, b'5.example')
        return Response(pack(echo(query)), fields=(field,) if bad else ())

    async with https_nameserver(trusting, answer) as server:
        resolve, _ = over(url_of('https', server))
        names = names_of(40)
        answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
        assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
        assert len(server.streams) == 1


@in_one_way
async def test_many_that_are_given_up_at_once_do_not_take_each_others_places(trusting):
    async with https_nameserver(trusting, silent) as server:
        resolve, _ = over(url_of('https', server))
        names = names_of(1000)
        tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in names]
        await server.asked(100)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        server.answer = echo
        assert len(await resolve('good.example', TYPES.A)) == 1
        assert len(server.queries) == 101
        assert len(server.streams) == 1


@on_every_loop
async def test_goaway_in_the_middle_of_many_queries_loses_none(trusting):
    count = itertools.count(1)

    def answer(query):
        return going_away if next(count) == 30 else echo(query)

    async with https_nameserver(trusting, answer) as server:
        resolve, _ = over(url_of('https', server))
        names = names_of(90)
        answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
        assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
        assert len(server.streams) == 2


@in_one_way
async def test_what_else_an_http_server_may_say_is_heeded_or_ignored(authority):
    def informing(connection, stream_id):
        connection.ping(b'12345678')
        connection.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        connection.increment_flow_control_window(100)
        connection.send_headers(stream_id, [(':status', '103'), ('link', 'x')])
        connection._data_to_send += raw_frame(0xBB, 0, b'unknown')
        connection._data_to_send += raw_frame(0xA, 0, b'\0\0')
        head = [(':status', '200'), ('content-type', DNS_MESSAGE)]
        connection.send_headers(stream_id, head)
        octets = pack(echo(Q))
        for octet in octets:
            connection.send_data(stream_id, bytes([octet]), pad_length=3)
        connection.send_data(stream_id, b'')
        connection.send_headers(stream_id, [('x-trailer', 'y')], end_stream=True)

    async with https_nameserver(authority, lambda query: informing) as server:
        assert await doh(server, authority) == echo(Q)


@in_one_way
@pytest.mark.parametrize('most', [1, 7, 1000])
async def test_no_more_is_asked_at_once_than_the_server_allows(trusting, most):
    at_once = []

    async def answer(query):
        at_once.append(len(server.connections[0].streams))
        await asyncio.sleep(0)
        return echo(query)

    async with https_nameserver(trusting, answer, MAX_CONCURRENT_STREAMS=most) as server:
        resolve, _ = over(url_of('https', server))
        await resolve('first.example', TYPES.A)
        names = names_of(250)
        answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
        assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
        assert len(server.streams) == 1
        assert server.most_at_once <= min(most, 100)


@in_one_way
@pytest.mark.parametrize('call', [tls, https])
async def test_a_call_over_tls_that_is_cancelled_anywhere_leaves_nothing(trusting, call):
    async with SECURE[call.__name__](trusting, echo) as server:
        was_cancelled = 0
        while True:
            task = asyncio.ensure_future(call(Q, '127.0.0.1', 5, server.port))
            pause = functools.partial(time.sleep, was_cancelled * 0.0001)
            await asyncio.get_running_loop().run_in_executor(None, pause)
            task.cancel()
            await asyncio.wait([task])
            assert is_idle()
            if not task.cancelled():
                break
            was_cancelled += 1
        assert task.result() == echo(Q)


@on_every_loop
async def test_a_query_that_is_given_up_is_reset(trusting):
    async with https_nameserver(trusting, echo) as server:
        resolve, _ = over(url_of('https', server))
        await resolve('one.example', TYPES.A)
        server.answer = silent
        task = asyncio.ensure_future(resolve('two.example', TYPES.A))
        await server.asked(2)
        task.cancel()
        await asyncio.wait([task])
        server.answer = echo
        await resolve('three.example', TYPES.A)
        assert server.resets == [ErrorCodes.CANCEL]
        assert len(server.streams) == 1


@in_one_way
async def test_queries_that_wait_for_a_stream_may_be_given_up(trusting):
    async with https_nameserver(trusting, echo, MAX_CONCURRENT_STREAMS=1) as server:
        resolve, _ = over(url_of('https', server))
        await resolve('one.example', TYPES.A)
        server.answer = silent
        names = ['two.example', 'three.example', 'four.example']
        tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in names]
        await server.asked(2)
        server.answer = echo
        tasks[1].cancel()
        tasks[0].cancel()
        assert len(await tasks[2]) == 1
        assert server.names == [b'one.example', b'two.example', b'four.example']
        assert len(server.streams) == 1


@on_every_loop
async def test_without_alpn_there_is_no_https(authority):
    async with https_nameserver(authority, echo, protocols=('http/1.1',)) as server:
        error = await raised_by(doh(server, authority))
        assert isinstance(error, SocketError)
        await settle()
        assert server.queries == []


@in_one_way
async def test_a_context_of_the_callers_is_set_to_offer_http2(authority):
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(['http/1.1'])
    async with https_nameserver(authority, echo) as server:
        assert await https(Q, '127.0.0.1', 5, server.port, verify=context) == echo(Q)


@in_one_way
@pytest.mark.parametrize(
    'url, arguments, authority_field',
    [
        ('https://dns.example', {'bootstrap_address': '127.0.0.1'}, 'dns.example:{port}'),
        ('https://DNS.Example./', {'bootstrap_address': '127.0.0.1'}, 'DNS.Example:{port}'),
        ('https://dns.example:{port}', {'port': 1, 'bootstrap_address': '127.0.0.1'}, None),
        ('https://127.0.0.1/dns-query#dns.example', {}, 'dns.example:{port}'),
        ('https://127.0.0.1', {}, '127.0.0.1:{port}'),
        ('https://192.0.2.1#dns.example', {'bootstrap_address': IPv4Address('127.0.0.1')}, None),
        ('127.0.0.1', {'path': '/dns-query{?dns}'}, None),
        ('https://127.0.0.1/dns-query{?dns}', {'post': False}, None),
        (IPv4Address('127.0.0.1'), {'source': '127.0.0.2', 'family': socket.AF_INET}, None),
    ],
)
async def test_where_a_server_is_over_https(authority, url, arguments, authority_field):
    async with https_nameserver(authority, echo) as server:
        where = url.replace('{port}', str(server.port)) if isinstance(url, str) else url
        arguments = {'port': server.port, 'verify': authority.path, **arguments}
        assert await https(Q, where, 5, **arguments) == echo(Q)
        if authority_field:
            expected = authority_field.replace('{port}', str(server.port))
            assert server.requests[0][':authority'] == expected


@in_one_way
@pytest.mark.parametrize('address', ['::1', '::1%lo'])
async def test_a_query_over_https_goes_to_ipv6_too(authority, address):
    async with https_nameserver(authority, echo, '::1', 'dns.example', address='::1') as server:
        arguments = {'source': '::1', 'verify': authority.path}
        assert await https(Q, address, 5, server.port, **arguments) == echo(Q)
        assert await https(Q, f'https://[{address}]', 5, server.port, **arguments) == echo(Q)
        for request in server.requests:
            assert request[':authority'] == f'[::1]:{server.port}'
        assert {source[0] for source in server.sources} == {'::1'}


@in_one_way
@pytest.mark.parametrize(
    'where, arguments, expected',
    [
        ('dns.example', {}, InvalidName),
        ('https://dns.example/dns-query', {}, InvalidName),
        ('http://127.0.0.1/dns-query', {}, InvalidName),
        ('tls://127.0.0.1', {}, InvalidName),
        ('https://', {}, InvalidName),
        ('https://127.0.0.1:0', {}, InvalidName),
        ('https://127.0.0.1:99999', {}, InvalidName),
        ('https://127.0.0.1/a b', {}, InvalidName),
        ('https://127.0.0.1/\r\nx: y', {}, InvalidName),
        ('https://user@127.0.0.1/', {}, InvalidName),
        ('https://127.0.0.1#a..b', {}, InvalidName),
        ('127.0.0.1', {'path': 'dns-query'}, InvalidName),
        ('127.0.0.1', {'path': '/dns\nquery'}, InvalidName),
        ('127.0.0.1', {'path': '/dns#query'}, InvalidName),
        ('127.0.0.1', {'path': b'/dns-query'}, TypeError),
        ('127.0.0.1', {'family': socket.AF_INET6}, InvalidName),
        ('127.0.0.1', {'family': 'inet'}, InvalidName),
        ('127.0.0.1', {'port': '443'}, TypeError),
        ('127.0.0.1', {'verify': 5}, TypeError),
        ('127.0.0.1', {'verify': '/nowhere'}, SocketError),
        ('127.0.0.1', {'verify': ''}, InvalidName),
        ('127.0.0.1', {'verify': 'a\0b'}, InvalidName),
        ('127.0.0.1', {'verify': '\ud800'}, InvalidName),
        *[
            (f'https://127.0.0.1/#{name}', {}, InvalidName)
            for name in ('a@b', 'a/b', 'a?b', 'a:80', '[::1]', 'a%b')
        ],
        *[
            (f'https://{host}/', {'bootstrap_address': '127.0.0.1'}, InvalidName)
            for host in ('user@evil', 'a?b', 'a\\b', 'a b', 'a..b')
        ],
        ('127.0.0.1', {'client': httpx.AsyncClient(), 'port': '443@evil.example:1'}, TypeError),
        ('127.0.0.1', {'client': httpx.AsyncClient(), 'port': None}, TypeError),
        ('127.0.0.1', {'client': httpx.AsyncClient(), 'port': 0}, InvalidName),
        ('https://user@a.example/', {'client': httpx.AsyncClient()}, InvalidName),
        ('https://a?b=/dns-query', {'client': httpx.AsyncClient()}, InvalidName),
        ('https://a..b/dns-query', {'client': httpx.AsyncClient()}, InvalidName),
        ('127.0.0.1', {'client': 5}, TypeError),
        ('127.0.0.1', {'client': httpx.Client}, TypeError),
        ('127.0.0.1', {'source': '::1'}, InvalidName),
        ('127.0.0.1', {'bootstrap_address': 'x'}, InvalidName),
        ('127.0.0.1', {'timeout': 'x'}, TypeError),
        (5, {}, TypeError),
        ('https://dns.example', {'bootstrap_address': 5}, TypeError),
    ],
)
async def test_what_cannot_be_asked_over_https(where, arguments, expected):
    with pytest.raises(expected) as raised:
        await https(Q, where, **{'timeout': 5, **arguments})
    assert raised.type is expected


def resolver_knowing(**known):
    """What stands for a `resolve`, and knows these addresses by their types."""

    async def resolve(name, qtype):
        assert name == 'dns.example'
        addresses = known.get(qtype.name)
        if addresses is None:
            raise DoesNotExist('no such record', RCODES.NOERROR)
        return addresses

    return resolve


@in_one_way
async def test_the_host_of_a_url_is_found_by_a_resolver(authority):
    four, six = (IPv4Address('127.0.0.1'),), (IPv6Address('::1'),)
    away = (IPv4Address('127.0.0.9'),)  # where nobody listens
    async with https_nameserver(authority, echo) as server:
        url = f'https://dns.example:{server.port}/dns-query'

        def call(resolver, **arguments):
            return https(Q, url, 5, verify=authority.path, resolver=resolver, **arguments)

        assert await call(resolver_knowing(A=four)) == echo(Q)
        assert await call(resolver_knowing(A=away + four)) == echo(Q)
        assert await call(resolver_knowing(A=four, AAAA=six)) == echo(Q)
        assert await call(resolver_knowing(AAAA=four)) == echo(Q)
        assert await call(resolver_knowing(A=four), family=socket.AF_INET) == echo(Q)
        for known, family, expected in (
            ({'A': four}, socket.AF_INET6, DoesNotExist),
            ({'AAAA': six}, socket.AF_INET, DoesNotExist),
            ({}, socket.AF_UNSPEC, DoesNotExist),
            ({'A': ()}, socket.AF_UNSPEC, DoesNotExist),
            ({'A': away}, socket.AF_UNSPEC, SocketError),
            ({'A': away, 'AAAA': six}, socket.AF_UNSPEC, SocketError),
        ):
            error = await raised_by(call(resolver_knowing(**known), family=family))
            assert isinstance(error, expected)
            if len(known) == 2:  # each of two addresses failed
                assert all(f'{host}:{server.port} over' in str(error) for host in ('9', '[::1]'))
                assert 'other failures' in str(error)
                assert isinstance(error.__cause__, OSError)
        # A real one of ours
        zone = {'A': a(b'dns.example', '127.0.0.1')}
        async with Nameserver(answering(zone['A'])) as plain:
            resolve, _ = resolver_of(plain)
            assert await call(resolve, family=socket.AF_INET) == echo(Q)


@on_every_loop
async def test_the_time_that_a_resolver_takes_counts(authority):
    async def resolve(name, qtype):
        await asyncio.get_running_loop().create_future()

    for timeout in (0, 0.5):
        call = https(Q, 'https://dns.example', timeout, resolver=resolve)
        error = await raised_by(in_time(call))
        assert isinstance(error, QueryTimeout)
        assert "'dns.example'" in str(error)

    async def fail(name, qtype):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await https(Q, 'https://dns.example', 5, resolver=fail)


class InTime:
    """An event loop's own clock and timers, none of which `leaving_nothing` has to look for."""

    way = module.Epoll

    @property
    def timers(self):
        return []


class AsyncioInTime(InTime, asyncio.SelectorEventLoop):
    pass


class UvloopInTime(InTime, uvloop.Loop):
    pass


@contextlib.asynccontextmanager
async def http_server(authority, handle):
    """A server that speaks HTTP/1.1, as most clients do; gives the base of its URLs."""
    tasks = asyncio.all_tasks()
    app = aiohttp.web.Application()
    app.router.add_route('*', '/{path:.*}', handle)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = server_context(authority, 'localhost', '127.0.0.1', protocols=('http/1.1',))
    await aiohttp.web.TCPSite(runner, '127.0.0.1', 0, ssl_context=context).start()
    try:
        yield f'https://127.0.0.1:{runner.addresses[0][1]}'
    finally:
        await runner.cleanup()
        left = asyncio.all_tasks() - tasks  # of connections that were closed under it
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextlib.asynccontextmanager
async def http_client(kind, authority, **arguments):
    """A client of the caller's."""
    context = ssl.create_default_context(cafile=authority.path)
    if kind == 'aiohttp':
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as client:
            yield client
    else:
        library = {'httpx': httpx, 'httpx2': httpx2}[kind]
        async with library.AsyncClient(verify=context, trust_env=False, **arguments) as client:
            yield client


def with_each_client(test):
    """Makes a coroutine function of a kind of client a test, in real time."""

    @pytest.mark.parametrize('kind', ['httpx', 'httpx2', 'aiohttp'])
    @pytest.mark.parametrize('loop_factory', [AsyncioInTime, UvloopInTime])
    @functools.wraps(test)
    def synchronous(kind, loop_factory, **fixtures):
        async def main():
            await test(kind, **fixtures)
            seen = [None]
            while len(asyncio.all_tasks()) > 1 or seen[-1] != descriptors():
                seen.append(descriptors())  # aiohttp closes its connections later
                await asyncio.sleep(0.1)

        run(main(), loop_factory)

    parameters = inspect.signature(test).parameters.values()
    names = inspect.Parameter('loop_factory', inspect.Parameter.POSITIONAL_OR_KEYWORD)
    synchronous.__signature__ = inspect.Signature([*parameters, names])
    return synchronous


async def answer_over_http(request):
    """An HTTP/1.1 server's answer to what `https` asks."""
    assert request.headers['accept'] == DNS_MESSAGE
    assert request.headers['accept-encoding'] == 'identity'
    octets = await request.read() or query_in_target(request.path_qs)
    if request.method == 'POST':
        assert request.headers['content-type'] == DNS_MESSAGE
    return aiohttp.web.Response(body=pack(echo(parse(octets))), content_type=DNS_MESSAGE)


@with_each_client
async def test_a_client_of_the_callers_asks(kind, authority):
    async with (
        http_server(authority, answer_over_http) as base,
        http_client(kind, authority) as client,
    ):
        for post in (True, False):
            where = f'{base}/dns-query'
            assert await https(Q, where, 5, client=client, post=post) == echo(Q)
        port = int(base.rpartition(':')[2])
        assert await https(Q, '127.0.0.1', None, port, client=client) == echo(Q)
        where = f'https://localhost:{port}/dns-query'  # which the client finds
        assert await https(Q, where, 5, client=client) == echo(Q)
        replies = await asyncio.gather(*[https(Q, where, 5, client=client) for _ in range(20)])
        assert replies == [echo(Q)] * 20


# The path, the error and its status.
HTTP_1_FAULTS = [
    ('none', BadResponse, 404),
    ('html', BadResponse, 200),
    ('large', BadResponse, 200),
    ('moved', BadResponse, 302),
    ('wrong', BadResponse, None),
    ('short', SocketError, None),
    ('closes', SocketError, None),
]


@with_each_client
async def test_what_a_client_of_the_callers_cannot_get_is_an_error_of_ours(kind, authority):
    paths = []
    is_over = asyncio.Event()

    async def handle(request):
        paths.append(request.path)
        if request.path == '/slow':
            await is_over.wait()
        if request.path == '/closes':
            request.transport.close()
        if request.path == '/moved':
            return aiohttp.web.Response(status=302, headers={'location': '/dns-query'})
        if request.path == '/large':
            return aiohttp.web.Response(body=bytes(10_000_000), content_type=DNS_MESSAGE)
        if request.path == '/html':
            return aiohttp.web.Response(body=pack(echo(Q)), content_type='text/html')
        if request.path == '/short':
            response = aiohttp.web.StreamResponse(headers={'content-length': '100'})
            response.content_type = DNS_MESSAGE
            await response.prepare(request)
            await response.write(b'12345')
            request.transport.close()
            return response
        if request.path == '/wrong':
            return aiohttp.web.Response(body=pack(wrong_name(Q)), content_type=DNS_MESSAGE)
        return aiohttp.web.Response(status=404)

    async with http_server(authority, handle) as base:
        async with http_client(kind, authority) as client:
            for path, expected, status in HTTP_1_FAULTS:
                error = await raised_by(https(Q, f'{base}/{path}', 5, client=client))
                assert type(error) is expected, error
                assert getattr(error, 'status', None) == status
                assert f'www.example.com. A from {base}' in str(error)
            assert set(paths) == {f'/{path}' for path, *_ in HTTP_1_FAULTS}  # no redirection
            # On a connection that is there: httpx leaks one that is cancelled in its handshake.
            await raised_by(https(Q, f'{base}/html', 5, client=client))
            for timeout in (0, 0.2):
                error = await raised_by(https(Q, f'{base}/slow', timeout, client=client))
                assert type(error) is QueryTimeout
            paths.clear()
            task = asyncio.ensure_future(https(Q, f'{base}/slow', 5, client=client))
            while not paths:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            error = await raised_by(https(Q, f'{base}/#dns.example', 5, client=client))
            assert type(error) is InvalidName
        error = await raised_by(https(Q, f'{base}/x', 5, client=client))  # it is closed
        assert type(error) is SocketError
        is_over.set()
        await settle()
    async with http_client(kind, authority) as client:
        error = await raised_by(https(Q, f'{base}/x', 5, client=client))  # nobody is there
        assert type(error) is SocketError
        assert error.errno


@in_one_way
async def test_without_h2_there_is_no_https(monkeypatch):
    monkeypatch.setitem(sys.modules, 'h2.connection', None)
    for call in (
        https(Q, '127.0.0.1', 5),
        https(Q, 'https://dns.example', 5, bootstrap_address='127.0.0.1'),
        over('https://127.0.0.1')[0]('x.example', TYPES.A),
    ):
        error = await raised_by(call)
        assert isinstance(error, MissingDependency)
        assert "pip install 'aiodnsresolver[https]'" in str(error)
    assert is_idle()


def over(*urls, timeout=0.5, **arguments):
    """A Resolver that asks nameservers by their URLs."""
    return Resolver(no_host, asking(*urls, timeout=timeout), **arguments)


def serving(scheme, authority, answer):
    """A scripted nameserver that is asked in this way."""
    if scheme in SECURE:
        return SECURE[scheme](authority, answer)
    return Nameserver(answer)


def url_of(scheme, server):
    return f'{scheme}://127.0.0.1:{server.port}'


@on_every_loop
async def test_nameservers_with_an_authority_of_ones_own_may_share_a_context(authority):
    context = ssl.create_default_context(cafile=authority.path)
    async with (
        tls_nameserver(authority, echo, 'dns.example') as private,
        https_nameserver(authority, echo, 'dns.example') as over_http,
    ):
        servers = {'tls': private, 'https': over_http}
        urls = [f'{url_of(scheme, server)}#dns.example' for scheme, server in servers.items()]
        resolvers = [over(url, ssl_context=context)[0] for url in urls * 2]
        names = names_of(10)  # the handshakes of all go on at the same time
        calls = [resolve(name, TYPES.A) for resolve in resolvers for name in names]
        assert {texts(each)[0] for each in await asyncio.gather(*calls)} == {'192.0.2.1'}

        async def both(fqdn):
            yield 5.0, *urls

        guest = module.AioHttpDnsResolver(no_host, both, ssl_context=context)
        await guest.resolve('x.example')
        await let_arrive()
        for server, protocol in ((private, 'dot'), (over_http, 'h2')):
            assert len(server.ends) == 3
            assert {end.tls.selected_alpn_protocol() for end in server.ends} == {protocol}
        for settings in ({}, {'ssl_context': ssl.create_default_context()}):
            for url in urls:
                error = await raised_by(over(url, **settings)[0]('x.example', TYPES.A))
                assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize('context', [True, False, 5, 'ca.pem', Path('ca.pem'), ssl, object()])
def test_what_is_no_context_is_a_type_error(context):
    for make in (Resolver, module.AioHttpDnsResolver):
        with pytest.raises(TypeError, match='ssl_context has to be None or an SSLContext'):
            make(ssl_context=context)


STREAMS = pytest.mark.parametrize('scheme', ['tcp', 'tls', 'https'])
FRAMED = pytest.mark.parametrize('scheme', ['tcp', 'tls'])


@on_every_loop
@STREAMS
async def test_many_names_share_one_stream_which_is_closed_after_a_while(trusting, scheme):
    async with serving(scheme, trusting, echo) as server:
        name = '#dns.example' if scheme in SECURE else ''
        resolve, _ = over(f'{scheme}://127.0.0.1:{server.port}{name}')
        await resolve('first.example', TYPES.A)
        names = names_of(200)
        answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
        assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
        turn(module.IDLE_SECONDS - 0.1)
        await resolve('last.example', TYPES.A)
        assert len(server.streams) == 1
        assert not is_idle()
        turn(module.IDLE_SECONDS)
        assert is_idle()
        await resolve('again.example', TYPES.A)
        assert len(server.streams) == 2


@on_every_loop
async def test_queries_over_tls_are_padded_and_those_over_streams_ask_to_be_kept(trusting):
    async with (
        tls_nameserver(trusting, echo) as private,
        https_nameserver(trusting, echo) as over_http,
        Nameserver(echo) as plain,
    ):
        for url, server in (
            (f'tls://127.0.0.1:{private.port}#dns.example', private),
            (f'https://127.0.0.1:{over_http.port}#dns.example', over_http),
        ):
            resolve, _ = over(url)
            for size in (1, 20, 63):
                await resolve('x' * size + '.example', TYPES.A)
            assert {len(pack(query)) % 128 for query in server.queries} == {0}
        resolve, _ = over(plain.tcp)
        await resolve('x.example', TYPES.A)
        for server, codes in ((private, [11, 12]), (over_http, [12]), (plain, [11])):
            assert [code for code, _ in server.queries[0].edns.rdata] == codes


def kept_for(seconds):
    """An `answer` that lets a stream be idle for so long."""
    option = 11, int(seconds * 10).to_bytes(2, 'big')
    opt = ResourceRecord(b'', TYPES.OPT, 1232, 0, (option,))
    return lambda query: echo(query)._replace(ar=(opt,))


@in_one_way
@pytest.mark.parametrize(
    'seconds, expected', [(0, 0), (0.1, 0.1), (5, 5), (30, 30), (3600, module.MAX_IDLE)]
)
async def test_a_nameserver_says_for_how_long_a_stream_is_kept(seconds, expected):
    async with Nameserver(kept_for(seconds)) as server:
        resolve, _ = over(server.tcp)
        await resolve('x.example', TYPES.A)
        if expected:
            turn(expected - 0.05)
            assert not is_idle()
            turn(0.06)
        assert is_idle()


@on_every_loop
async def test_a_late_reply_to_an_idle_stream_does_not_say_for_how_long_it_is_kept():
    async with Nameserver(silent) as server:
        resolve, _ = over(server.tcp)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        task.cancel()
        await asyncio.wait([task])
        server.say_on_stream(server.streams[0], pack(kept_for(30)(server.queries[0])))
        await let_arrive()
        server.answer_over_tcp = echo
        assert len(await resolve('y.example', TYPES.A)) == 1
        turn(module.IDLE_SECONDS)
        assert is_idle()


@on_every_loop
@pytest.mark.parametrize('closes', ['while it is idle', 'as it is asked'])
async def test_a_stream_that_the_nameserver_closed_is_opened_again_without_an_error(closes):
    async with Nameserver(echo) as server:
        resolve, _ = over(server.tcp)
        await resolve('x.example', TYPES.A)
        if closes == 'while it is idle':
            server.close(server.streams[0])
            await settle()
            await let_arrive()
            assert is_idle()
        else:

            def answer(query):
                return HANG_UP if len(server.streams) == 1 else echo(query)

            server.answer_over_tcp = answer
        assert len(await resolve('y.example', TYPES.A)) == 1
        assert len(server.streams) == 2


@on_every_loop
async def test_clear_cache_closes_idle_streams_and_those_that_are_in_use_afterwards():
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return echo(query)

    async with Nameserver(echo) as server:
        resolve, clear_cache = over(server.tcp)
        await resolve('x.example', TYPES.A)
        clear_cache()
        assert is_idle()
        server.answer_over_tcp = late
        task = asyncio.ensure_future(resolve('y.example', TYPES.A))
        await server.asked(2)
        clear_cache()
        go_on.set()
        assert len(await task) == 1
        assert is_idle()
        assert len(server.streams) == 2


@on_every_loop
async def test_an_idle_stream_gives_way_to_who_wants_its_permit():
    async with Nameserver(echo) as one, Nameserver(echo) as two:
        with permits(1):
            for _ in range(2):
                for server in (one, two):
                    await over(server.tcp)[0]('x.example', TYPES.A)
                    await resolver_of(server)[0]('x.example', TYPES.A)
            module.resources_of(asyncio.get_running_loop()).limit.acquire()  # closes what is idle
            module.resources_of(asyncio.get_running_loop()).limit.release()


@on_every_loop
async def test_who_waits_for_a_permit_gets_that_of_a_stream_as_soon_as_it_is_idle():
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return echo(query)

    async with Nameserver(late) as one, Nameserver(echo) as two:
        with permits(1):
            first = asyncio.ensure_future(over(one.tcp)[0]('x.example', TYPES.A))
            await one.asked(1)
            second = asyncio.ensure_future(over(two.tcp)[0]('x.example', TYPES.A))
            await settle()
            await two.asked(0)
            go_on.set()
            await asyncio.gather(first, second)
            module.resources_of(asyncio.get_running_loop()).limit.acquire()
            module.resources_of(asyncio.get_running_loop()).limit.release()


@on_every_loop
async def test_with_one_permit_a_stream_without_an_answer_is_given_up_for_the_next_nameserver():
    async with Nameserver(silent) as one, Nameserver(echo) as two:
        with permits(1):
            resolve, clear_cache = over(one.tcp, two.tcp)
            assert len(await in_time(resolve('x.example', TYPES.A))) == 1
            clear_cache()


@on_every_loop
async def test_a_stream_that_seems_to_be_dead_is_not_used_any_more():
    async with Nameserver(echo) as server:
        resolve, clear_cache = over(server.tcp)
        await resolve('x.example', TYPES.A)
        server.answer_over_tcp = lambda query: None if len(server.streams) == 1 else echo(query)
        assert len(await in_time(resolve('y.example', TYPES.A))) == 1
        assert len(server.streams) == 2
        clear_cache()


@on_every_loop
async def test_a_nameserver_that_never_answers_some_does_not_make_a_stream_grow(monkeypatch):
    monkeypatch.setattr(module, 'MAX_GIVEN_UP', 3)

    def answer(query):
        return None if query.qd[0].name.lower().startswith(b'silent') else echo(query)

    async with Nameserver(answer) as server:
        resolve, clear_cache = over(server.tcp)
        for number in range(6):
            task = asyncio.ensure_future(resolve(f'silent{number}.example', TYPES.A))
            await settle()
            task.cancel()
            await asyncio.wait([task])
            await resolve(f'{number}.example', TYPES.A)
        assert len(server.streams) == 2
        clear_cache()


@on_every_loop
@STREAMS
async def test_the_queries_of_one_turn_of_the_loop_go_out_in_one_write(trusting, scheme):
    async with serving(scheme, trusting, echo) as server:
        resolve, _ = over(url_of(scheme, server))
        await resolve('first.example', TYPES.A)
        await let_arrive()
        server.pieces.clear()
        server.records = 0
        names = names_of(90)  # fewer than HTTP/2 has streams at once
        assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(server.streams) == 1
        assert len(server.pieces) < 10
        assert server.records < 10


# A prefix that says too much: all that follows is taken for part of one message.
@in_one_way
@FRAMED
@pytest.mark.parametrize('count', [1, 20])
async def test_a_stream_that_is_out_of_step_is_left(trusting, scheme, count):
    def answer(query):
        is_first = len(server.queries) == 1
        return [Raw(b'\xff\xff'), echo(query)] if is_first else echo(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        for zone in ('one', 'two', 'three'):
            names = names_of(count, zone)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(server.streams) == 2


# An octet of a message that never ends, a message and frames that say nothing.
SIGNS_OF_LIFE = {
    'tcp, an octet': b'\xff',
    'tcp, an empty message': b'\0\0',
    'tls, an octet': b'\xff',
    'tls, an empty message': b'\0\0',
    'https, a ping': raw_frame(6, 0, bytes(8)),
    'https, an unknown frame': raw_frame(0xBB, 0),
}


@in_one_way
@pytest.mark.parametrize('sign', SIGNS_OF_LIFE)
@pytest.mark.parametrize('pause', [0.1, 0.4, 1.2])
async def test_signs_of_life_without_a_reply_do_not_keep_a_stream_in_use(trusting, sign, pause):
    scheme, _, _ = sign.partition(',')

    async def live(stream):
        while stream.fileno() >= 0:
            await asyncio.sleep(pause)
            server.put(stream, SIGNS_OF_LIFE[sign])

    def answer(query):
        return echo(query) if server.on or len(server.queries) == 1 else None

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        await resolve('first.example', TYPES.A)
        server.tasks.add(asyncio.ensure_future(live(server.streams[0])))
        for name in names_of(20):
            assert await outcomes_in_time(resolve, [name], 6) == all_answered([name])
            turn(1)
        assert server.asked_on[-10:] == [1] * 10
        assert len(server.queries) < 30  # of most names, one


@in_one_way
@STREAMS
async def test_a_name_that_is_never_answered_leaves_the_stream_to_others(trusting, scheme):
    def answer(query):
        return None if is_about(query, b'never.example') else echo(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        names = ['never.example', *names_of(10)]
        outcomes = await outcomes_in_time(resolve, names)
        assert isinstance(outcomes.pop('never.example'), QueryTimeout)
        assert outcomes == all_answered(names[1:])
        for name in names_of(10, 'later'):
            assert await outcomes_in_time(resolve, [name]) == all_answered([name])
        assert len(server.streams) <= 2


# Servers that take a query out of what came at once, and forget the rest.
def first_of_each_piece(server):
    seen = set()

    def answer(query):
        is_first = len(server.pieces) not in seen
        seen.add(len(server.pieces))
        return echo(query) if is_first else None

    return answer


# The same where it waits until it has answered.
def one_at_a_time(server):
    busy = set()

    async def answer_slowly(query, on):
        for _ in range(3):
            await asyncio.sleep(0)
        busy.discard(on)
        return echo(query)

    def answer(query):
        if server.on in busy:
            return None
        busy.add(server.on)
        return answer_slowly(query, server.on)

    return answer


HALF_DEAF = {'first of a piece': first_of_each_piece, 'one at a time': one_at_a_time}


@in_one_way
@STREAMS
@pytest.mark.parametrize('kind', HALF_DEAF)
@pytest.mark.parametrize('count', [2, 3, 20])
async def test_a_server_that_answers_one_of_several_queries_answers_all_in_the_end(
    trusting, scheme, kind, count
):
    async with serving(scheme, trusting, silent) as server:
        now_saying(server, HALF_DEAF[kind](server))
        resolve, _ = over(url_of(scheme, server))
        for zone in ('one', 'two'):
            names = names_of(count, zone)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert server.most_open <= 2


@in_one_way
@STREAMS
async def test_a_server_that_answers_one_query_of_each_connection_answers_all_in_the_end(
    trusting, scheme
):
    answered = set()

    def answer(query):
        is_first = server.on not in answered
        answered.add(server.on)
        return echo(query) if is_first else None

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        names = names_of(2)
        assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert server.most_open <= 2


@in_one_way
@STREAMS
async def test_a_server_that_does_not_answer_all_at_once_is_asked_one_at_a_time_for_a_while(
    trusting, scheme
):
    unanswered, most = 0, []

    async def count(query):
        nonlocal unanswered
        unanswered += 1
        most.append(unanswered)
        for _ in range(5):
            await asyncio.sleep(0)
        unanswered -= 1
        return echo(query)

    async with serving(scheme, trusting, silent) as server:
        resolve, _ = over(url_of(scheme, server))
        now_saying(server, first_of_each_piece(server))
        assert await outcomes_in_time(resolve, names_of(20)) == all_answered(names_of(20))
        now_saying(server, count)
        for zone, seconds, is_pipelined in (
            ('a', 0, False),
            ('b', 300, False),
            ('c', 280, False),
            ('d', 40, True),
        ):
            turn(seconds)
            names = names_of(8, zone)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
            assert (max(most) > 1) == is_pipelined
            most.clear()


# Where it hangs up: after it has answered what came before, or before it has answered any.
HANGS_UP = {'in order': 0, 'before all': 3}


@in_one_way
@STREAMS
@pytest.mark.parametrize('turns', HANGS_UP.values(), ids=HANGS_UP)
@pytest.mark.parametrize('bad', [{0}, {6}, {11}, {3, 8}])
async def test_a_name_at_which_the_server_hangs_up_fails_alone(trusting, scheme, turns, bad):
    async def answer_after(query):
        for _ in range(turns):
            await asyncio.sleep(0)
        return echo(query)

    def answer(query):
        if query.qd[0].name.lower().endswith(b'.bad'):
            return HANG_UP
        return answer_after(query) if turns else echo(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        names = [f'{number}.{"bad" if number in bad else "good"}' for number in range(12)]
        outcomes = await outcomes_in_time(resolve, names)
        good = [name for name in names if name.endswith('good')]
        failed = {name for name, outcome in outcomes.items() if isinstance(outcome, SocketError)}
        assert {name: outcomes[name] for name in good} == all_answered(good)
        assert failed == {*names} - {*good}
        assert await outcomes_in_time(resolve, ['later']) == all_answered(['later'])
        assert server.most_open <= 2
        assert len(server.queries) < 60


@in_one_way
@STREAMS
async def test_a_name_at_which_the_server_hangs_up_costs_those_that_come_meanwhile_nothing(
    trusting, scheme
):
    def answer(query):
        return HANG_UP if is_about(query, b'bad') else echo(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        names = names_of(100)
        tasks = []
        for number, name in enumerate(names):
            tasks.append(asyncio.ensure_future(resolve(name, TYPES.A)))
            if number % 10 == 5:
                tasks.append(asyncio.ensure_future(raised_by(resolve('bad', TYPES.A))))
            await asyncio.sleep(0)
        outcomes = await in_time(asyncio.gather(*tasks))
        assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 100


# Each way in which a response of HTTP/2 may break a rule, or end the connection.
@in_one_way
@pytest.mark.parametrize('end', [end for end in ENDS if end != 'ten thousand continuations'])
@pytest.mark.parametrize('bad', [0, 5])
async def test_a_response_that_breaks_a_rule_fails_only_its_query(trusting, end, bad):
    def answer(query):
        return ENDS[end] if is_about(query, b'%d.example' % bad) else echo(query)

    async with serving('https', trusting, answer) as server:
        resolve, _ = over(url_of('https', server))
        names = names_of(20)
        outcomes = await outcomes_in_time(resolve, names)
        assert isinstance(outcomes.pop(f'{bad}.example'), ResolverError)
        names.remove(f'{bad}.example')
        assert outcomes == all_answered(names)
        assert await outcomes_in_time(resolve, ['later']) == all_answered(['later'])
        assert server.most_open <= 2


# A length that is not that of the body ends its own response, and no other (RFC 9113 8.1.1).
@in_one_way
@pytest.mark.parametrize('length', ['1', '60000', '-1', 'x', '18446744073709551616'])
async def test_a_length_that_is_not_that_of_the_body_hurts_no_other(trusting, length):
    def answer(query):
        wrong = (('content-length', length),) if is_about(query, b'5.example') else ()
        return Response(pack(echo(query)), fields=wrong)

    async with serving('https', trusting, answer) as server:
        resolve, _ = over(url_of('https', server))
        outcomes = await outcomes_in_time(resolve, names_of(40))
        assert isinstance(outcomes.pop('5.example'), ResolverError)
        assert outcomes == all_answered(outcomes)


@in_one_way
@FRAMED
@pytest.mark.parametrize('count', [1, 18, 60])
@pytest.mark.parametrize('copies', [2, 3])
async def test_duplicates_of_replies_cost_nothing(trusting, scheme, count, copies):
    async with serving(scheme, trusting, lambda query: [echo(query)] * copies) as server:
        resolve, _ = over(url_of(scheme, server), timeout=0.5)
        for zone in ('one', 'two', 'three'):
            names = names_of(count, zone)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(server.streams) == 1


@in_one_way
@FRAMED
@pytest.mark.parametrize('count', [18, 60])
@pytest.mark.parametrize('first_duplicate', [0, 1])
async def test_duplicates_that_come_together_cost_nothing(
    trusting, scheme, count, first_duplicate
):
    held = []

    def answer(query):  # to the last, with all replies and then all duplicates, or in pairs
        held.append(echo(query))
        if len(held) % count:
            return None
        replies = held[-count:]
        return replies * 2 if first_duplicate else [r for r in replies for _ in range(2)]

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server), timeout=0.5)
        for zone in ('one', 'two', 'three'):
            names = names_of(count, zone)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(server.queries) == 3 * count
        assert len(server.streams) == 1


# What nobody asked for, so much of it that the stream is given up.
@in_one_way
@FRAMED
@pytest.mark.parametrize('frame', [b'', bytes(12), b'whatever it is'], ids=len)
@pytest.mark.parametrize('rounds', [1, 5])
async def test_a_flood_that_ends_a_stream_costs_no_query_an_attempt(
    trusting, scheme, frame, rounds
):
    flood = Raw(module.to_frame(frame) * 5_000)

    def answer(query):
        if server.on == 0 and server.streams[0].fileno() >= 0:
            return [flood] if len(server.queries) == 1 else None
        return echo(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = Resolver(no_host, asking(url_of(scheme, server), rounds=rounds))
        names = names_of(20)
        assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(server.streams) == 2


@in_one_way
@STREAMS
@pytest.mark.parametrize('is_silent', [False, True])
async def test_a_nameserver_has_two_open_streams_at_most(trusting, scheme, is_silent):
    def answer(query):  # to each third, or to none
        return None if is_silent or len(server.queries) % 3 else echo(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        for zone in ('one', 'two', 'three'):
            await outcomes_in_time(resolve, names_of(30, zone))
        assert server.most_open <= 2
        assert len(server.streams) < 30


@in_one_way
@STREAMS
async def test_a_slow_name_does_not_cost_others_their_answers(trusting, scheme):
    async def answer_late(query):
        await asyncio.sleep(2)
        return echo(query)

    def answer(query):
        return (answer_late if is_about(query, b'slow') else echo)(query)

    async with serving(scheme, trusting, answer) as server:
        resolve, _ = over(url_of(scheme, server))
        await resolve('first.example', TYPES.A)
        slow = asyncio.ensure_future(resolve('slow', TYPES.A))
        await server.asked(2)
        for zone in names_of(9, 'zone'):  # the clock stands still for each
            names = names_of(10, zone)
            answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
            assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
            turn(0.2)
        assert texts(await in_time(slow, 3)) == ['192.0.2.1']
        assert server.names.count(b'slow') <= 2  # where it is, and on a second stream


# Slower than the time after which a stream seems dead, so that many are asked more than once.
@in_one_way
@STREAMS
@pytest.mark.parametrize('seconds, timeout, rounds', [(2, 0.5, 5), (3.2, 5, 1), (4, 10, 1)])
@pytest.mark.parametrize('pause', [0, 0.1, 1.7])
async def test_a_server_that_is_slow_for_all_names_answers_all_in_the_end(
    trusting, scheme, seconds, timeout, rounds, pause
):
    async def answer(query):
        await asyncio.sleep(seconds)
        return echo(query)

    async def resolve_after(number):
        for _ in range(number):
            await asyncio.sleep(pause)
        return await resolve(f'{number}.example', TYPES.A)

    async with serving(scheme, trusting, answer) as server:
        nameservers = asking(url_of(scheme, server), timeout=timeout, rounds=rounds)
        resolve, _ = Resolver(no_host, nameservers)
        answers = await in_time(asyncio.gather(*map(resolve_after, range(12))))
        assert all(texts(each) == ['192.0.2.1'] for each in answers)
        assert server.most_open <= 2


# One that answers in the order in which it was asked, with all that comes behind a slow name.
@in_one_way
@STREAMS
@pytest.mark.parametrize('seconds', [0.7, 2])
async def test_behind_a_slow_name_all_are_answered_in_the_end(trusting, scheme, seconds):
    order = collections.defaultdict(asyncio.Lock)

    async def answer_in_order(query, on):
        async with order[on]:
            if is_about(query, b'slow'):
                await asyncio.sleep(seconds)
            return echo(query)

    async with serving(scheme, trusting, silent) as server:
        now_saying(server, lambda query: answer_in_order(query, server.on))
        resolve, _ = over(url_of(scheme, server))
        names = ['slow', *names_of(10)]
        assert await outcomes_in_time(resolve, names) == all_answered(names)


@pytest.mark.parametrize('loop_name', [*LOOPS, *OTHER_WAYS])
@FRAMED
def test_a_stream_that_lasts_goes_with_its_loop(trusting, loop_name, scheme):
    tls_context = server_context(trusting, '127.0.0.1') if scheme == 'tls' else None

    async def main():
        loop = asyncio.get_running_loop()
        wait_in_its_way(loop)
        server = Nameserver(echo, tls=tls_context)
        await server.__aenter__()
        servers.append(server)
        assert len(await resolve('x.example', TYPES.A)) == 1
        clear_cache()
        assert len(await resolve('x.example', TYPES.A)) == 1
        assert not is_idle()
        server.loop.remove_reader(server.sock.fileno())
        server.loop.remove_reader(server.listener.fileno())
        server.loop.remove_reader(server.streams[-1].fileno())

    async def get_nameservers(fqdn):
        yield 0.5, f'{scheme}://127.0.0.1:{servers[-1].port}'

    servers = []
    resolve, clear_cache = Resolver(no_host, get_nameservers)
    gc.collect()
    before = descriptors()
    for _ in range(2):  # the same resolver on one loop after the other
        loop_factory = (LOOPS | OTHER_WAYS)[loop_name]
        with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
            runner.run(main())
    del runner
    while servers:  # which hold on to the loops
        server = servers.pop()
        for sock in (server.sock, server.listener, *server.streams):
            sock.close()
    del server
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize('loop_name', [name for name in LOOPS | OTHER_WAYS if 'endp' not in name])
def test_a_loop_that_is_closed_without_more_ado_leaves_no_warning(loop_name):
    async def main():
        loop = asyncio.get_running_loop()
        wait_in_its_way(loop)
        async with Nameserver(echo) as server:
            await over(server.tcp)[0]('x.example', TYPES.A)
            ours = module.resources_of(loop).limit.idle
            assert len(ours) == 1
            server.loop.remove_reader(server.streams[0].fileno())
            stays.append(server.streams.pop())  # else it would be closed from there

    stays = []
    for _ in range(2):
        loop = (LOOPS | OTHER_WAYS)[loop_name]()
        loop.run_until_complete(main())
        loop.close()
    last = AsyncioByHand()
    module.resources_of(last)  # which finds out that the others are closed
    last.close()
    for stream in stays:
        stream.close()
    gc.collect()  # warnings are errors


@on_every_loop
@pytest.mark.parametrize('first', ['udp', 'tcp', 'tls', 'https'])
async def test_nameservers_of_all_kinds_are_raced_together(trusting, first):
    says = {scheme: echo if scheme == first else silent for scheme in module.OVER}
    async with (
        tls_nameserver(trusting, says['tls']) as private,
        https_nameserver(trusting, says['https']) as over_http,
        Nameserver(says['udp'], over_tcp=says['tcp']) as plain,
    ):
        urls = f'tls://127.0.0.1:{private.port}', f'https://127.0.0.1:{over_http.port}'

        async def get_nameservers(fqdn):
            yield 0.5, plain.nameserver, plain.tcp, *urls

        resolve, _ = Resolver(no_host, get_nameservers)
        for name in ('x.example', 'y.example'):
            assert len(await resolve(name, TYPES.A)) == 1
        await let_arrive()
        for server in (private, over_http, plain):
            assert len(server.streams) <= 2
        answered = {'udp': plain, 'tcp': plain, 'tls': private, 'https': over_http}[first]
        assert {b'x.example', b'y.example'} <= {*answered.names}


@on_every_loop
@pytest.mark.parametrize('scheme', SECURE)
async def test_a_certificate_that_does_not_pass_is_the_error_of_a_resolution(authority, scheme):
    async with SECURE[scheme](authority, echo) as server:
        resolve, _ = over(f'{scheme}://127.0.0.1:{server.port}#dns.example')
        with pytest.raises(SocketError, match=rf'over {scheme.upper()}.*CERTIFICATE') as raised:
            await resolve('x.example', TYPES.A)
        assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
        assert server.queries == []


# Beside dnspython: what each call of the two makes of what a server does.

CLASSES_OF_OUTCOMES = {
    'answer': (Message, dns.message.Message),
    'timeout': (QueryTimeout, dns.exception.Timeout),
    'truncated': (Truncated, dns.message.Truncated),
    'bad response': (BadResponse, dns.query.BadResponse),
    'malformed': (MalformedMessage, dns.exception.FormError),
    'unexpected source': (UnexpectedSource, dns.query.UnexpectedSource),
    'refused': (SocketError, OSError, EOFError, httpx2.TransportError),
}


async def class_of_outcome(call):
    """What came of a call, in one of the words that serve for both."""
    try:
        outcome = await call
    except Exception as error:
        outcome = error
    outcome = (
        outcome[0] if isinstance(outcome, tuple) and not isinstance(outcome, Message) else outcome
    )
    for name, kinds in CLASSES_OF_OUTCOMES.items():
        if isinstance(outcome, kinds):
            return name
    return type(outcome).__name__


async def exchange_udp(where, port, timeout, destination=None, **arguments):
    """The halves of a query over UDP."""
    with datagram_socket() as sock:
        expiration = asyncio.get_running_loop().time() + timeout
        await send_udp(sock, Q, (where, port), expiration)
        return await receive_udp(sock, destination or (where, port), expiration, **arguments)


async def exchange_tcp(where, port, timeout, **arguments):
    """The halves of a query over TCP."""
    loop = asyncio.get_running_loop()
    pair = await asyncio.open_connection(where, port)
    try:
        await send_tcp(pair, Q, loop.time() + timeout)
        return await receive_tcp(pair, loop.time() + timeout, **arguments)
    finally:
        pair[1].transport.abort()
        await settle()


async def their_exchange_udp(where, port, timeout, destination=None, **arguments):
    """The same in dnspython."""
    backend = dns.asyncbackend.get_default_backend()
    source = ('127.0.0.1', 0)
    async with await backend.make_socket(socket.AF_INET, socket.SOCK_DGRAM, 0, source) as sock:
        expiration = time.time() + timeout
        await dns.asyncquery.send_udp(sock, pack(Q), (where, port), expiration)
        return await dns.asyncquery.receive_udp(
            sock, destination or (where, port), expiration, **arguments
        )


async def their_exchange_tcp(where, port, timeout, **arguments):
    """The same in dnspython."""
    backend = dns.asyncbackend.get_default_backend()
    async with await backend.make_socket(
        socket.AF_INET, socket.SOCK_STREAM, 0, None, (where, port), timeout
    ) as sock:
        await dns.asyncquery.send_tcp(sock, pack(Q), time.time() + timeout)
        return await dns.asyncquery.receive_tcp(sock, time.time() + timeout, **arguments)


def run_beside(main):
    """What a coroutine function returns that calls dnspython, which leaves transports to the loop.

    That ours leaves nothing is seen elsewhere.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        outcome = asyncio.run(main())
        gc.collect()
    return outcome


def their(call):
    return lambda q, *given, **arguments: call(dns.message.from_wire(pack(q)), *given, **arguments)


def without_query(call):
    return lambda q, where, timeout, port, **arguments: call(where, port, timeout, **arguments)


PAIRS_OF_CALLS = {
    'udp': (udp, their(dns.asyncquery.udp)),
    'udp_with_fallback': (udp_with_fallback, their(dns.asyncquery.udp_with_fallback)),
    'tcp': (tcp, their(dns.asyncquery.tcp)),
    'tls': (tls, their(dns.asyncquery.tls)),
    'https': (https, their(dns.asyncquery.https)),
    'receive_udp': (without_query(exchange_udp), without_query(their_exchange_udp)),
    'receive_tcp': (without_query(exchange_tcp), without_query(their_exchange_tcp)),
}
WHOLE = 'udp udp_with_fallback tcp tls https'
RECEIVING = 'receive_udp receive_tcp'
OVER_UDP = 'udp udp_with_fallback receive_udp'
OVER_STREAMS = 'tcp tls receive_tcp'
ALL_CALLS = f'{WHOLE} {RECEIVING}'


OTHER = ('127.0.0.1', 9)


def cut(query):
    return reply_to(query, tc=1)


def then_good(bad):
    """An `answer` that is bad, and then good."""
    return lambda query: [bad(query), echo(query)]


# What a server says, in which calls, with what arguments, and the outcome.
BESIDE = [
    ('the answer', echo, ALL_CALLS, {}, 'answer'),
    ('no such name', answering(rcode=RCODES.NXDOMAIN), ALL_CALLS, {}, 'answer'),
    ('refused', answering(rcode=RCODES.REFUSED), ALL_CALLS, {}, 'answer'),
    ('an error without the question', bare(RCODES.FORMERR), ALL_CALLS, {}, 'answer'),
    ('nothing', silent, ALL_CALLS, {}, 'timeout'),
    ('no time', echo, WHOLE, {'timeout': 0}, 'timeout'),
    ('nobody listens', REFUSES, 'tcp tls https receive_tcp', {}, 'refused'),
    ('nobody listens', REFUSES, 'udp udp_with_fallback', {}, 'refused; theirs: timeout'),
    ('a wrong id', wrong_id, WHOLE, {}, 'bad response'),
    ('a wrong id', wrong_id, RECEIVING, {}, 'answer'),
    ('a wrong name', wrong_name, WHOLE, {}, 'bad response'),
    ('no response', no_response, WHOLE, {}, 'bad response'),
    ('garbage', garbage, ALL_CALLS, {}, 'malformed'),
    ('half a message', lambda query: pack(echo(query))[:-1], ALL_CALLS, {}, 'malformed'),
    ('a few octets', lambda query: pack(query)[:11], ALL_CALLS, {}, 'malformed'),
    ('more octets', trailing, ALL_CALLS, {}, 'malformed'),
    ('more octets', trailing, ALL_CALLS, {'ignore_trailing': True}, 'answer'),
    ('a cut reply', cut, 'udp tcp tls https receive_udp receive_tcp', {}, 'answer'),
    ('a cut reply', cut, 'udp receive_udp', {'raise_on_truncation': True}, 'truncated'),
    ('a cut reply', cut, 'udp_with_fallback', {}, 'answer'),
    ('bad, then good', then_good(wrong_id), 'udp', {'ignore_errors': True}, 'answer'),
    ('garbage, then good', then_good(garbage), OVER_UDP, {'ignore_errors': True}, 'answer'),
    ('only bad', wrong_id, 'udp', {'ignore_errors': True}, 'timeout'),
    (
        'from elsewhere',
        echo,
        'receive_udp',
        {'destination': ('127.0.0.1', 9)},
        'unexpected source',
    ),
    (
        'from elsewhere',
        echo,
        'receive_udp',
        {'destination': ('127.0.0.1', 9), 'ignore_unexpected': True},
        'timeout',
    ),
    ('the end of the stream', HANG_UP, OVER_STREAMS, {}, 'refused'),
    ('the end of the stream', HANG_UP, 'https', {}, 'refused'),
    ('half a frame', [Raw(b'\0\x30' + bytes(9)), HANG_UP], OVER_STREAMS, {}, 'refused'),
    ('half a length', [Raw(b'\0'), HANG_UP], OVER_STREAMS, {}, 'refused'),
    ('half a length', Raw(b'\0'), OVER_STREAMS, {}, 'timeout'),
    ('a reset', [resetting(ErrorCodes.INTERNAL_ERROR)], 'https', {}, 'refused'),
    ('going away', [going_away], 'https', {}, 'refused'),
    ('a wrong certificate', echo, 'tls https', {'verify': True}, 'refused'),
]


@pytest.mark.parametrize(
    'name, says, arguments, expected',
    [
        pytest.param(call, says, arguments, expected, id=f'{call}-{what}-{expected}')
        for what, says, calls, arguments, expected in BESIDE
        for call in calls.split()
    ],
)
def test_each_call_comes_to_what_that_of_dnspython_does(
    authority, name, says, arguments, expected
):
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(['h2'] if name == 'https' else ['dot'])
    verify = {'verify': context} if name == 'https' else {'verify': authority.path}
    seconds = 0.15 if 'timeout' in expected else 5
    given = {'timeout': seconds, **(verify if name in ('tls', 'https') else {}), **arguments}

    async def main():
        answer = says if callable(says) else lambda query: says
        nameserver = {'tls': tls_nameserver, 'https': https_nameserver}.get(name)
        if says is REFUSES:
            nameserver = Nameserver(echo)
        elif nameserver is None:
            nameserver = Nameserver(answer)
        else:
            nameserver = nameserver(authority, answer)
        async with nameserver as server:
            port = closed_port()[1] if says is REFUSES else server.port
            return [
                await class_of_outcome(call(Q, '127.0.0.1', port=port, **given))
                for call in PAIRS_OF_CALLS[name]
            ]

    ours, _, theirs = expected.partition('; theirs: ')  # who has no connected socket
    assert run_beside(main) == [ours, theirs or ours]


# --- 17. Transfers -----------------------------------------------------------


def sending(*messages):
    """An `answer` that is a transfer: messages with these records, or other things to say."""

    def answer(query):
        return [
            in_messages(query, said)[0] if isinstance(said, list) else said for said in messages
        ]

    return answer


def old_zone():
    """A zone as it was before: its serial is 1."""
    return applied([Changes(True, (), (zone_soa(1), host(1), host(9)))])


async def xfr(server, zone, **arguments):
    """Brings a zone up to date from a scripted nameserver."""
    await inbound_xfr('127.0.0.1', zone, port=server.port, **arguments)


async def changes_from(server, serial=None, **arguments):
    """All that a transfer from a scripted nameserver yields."""
    stream = transfer('127.0.0.1', MOVING, serial, server.port, **arguments)
    return [changes async for changes in stream]


FAILURES = {
    'refused': (bare(RCODES.REFUSED), TransferError, 'REFUSED'),
    'not authoritative': (answering(rcode=RCODES.NOTAUTH), TransferError, 'NOTAUTH'),
    'refused in the middle': (
        lambda query: [*sending(DIFFERENCES[:4])(query), bare(RCODES.SERVFAIL)(query)],
        TransferError,
        'SERVFAIL',
    ),
    'nothing': (sending([]), TransferError, 'no record'),
    'backwards': (sending([zone_soa(0)]), TransferError, 'went backwards'),
    'another base': (
        sending(DIFFERENCES[:1], [zone_soa(2), host(1)]),
        TransferError,
        'begins at 2',
    ),
    'more': (sending(DIFFERENCES[:4], [*DIFFERENCES[4:], host(1)]), TransferError, 'after the'),
    'another class': (
        sending(WHOLE_ZONE[:2], [host(2)._replace(qclass=CLASSES.CH, rdata=b'x')]),
        TransferError,
        'class CH',
    ),
    'what is not there is deleted': (
        sending([zone_soa(3), zone_soa(1), host(5), zone_soa(3), zone_soa(3)]),
        TransferError,
        'no such record to delete',
    ),
    'a wrong id': (
        lambda query: [*sending(WHOLE_ZONE[:2])(query), wrong_id(query)],
        BadResponse,
        'no response',
    ),
    'another question': (wrong_name, BadResponse, 'question'),
    'garbage': (sending(WHOLE_ZONE[:2], b'garbage'), MalformedMessage, 'header'),
    'more octets': (
        lambda query: [pack(sending(WHOLE_ZONE)(query)[0]) + b'x'],
        MalformedMessage,
        'after the message',
    ),
    'silence': (silent, QueryTimeout, 'in time'),
    'silence in the middle': (sending(DIFFERENCES[:4]), QueryTimeout, 'in time'),
    'half a message': (sending(DIFFERENCES[:4], Raw(b'\0\x30' + bytes(9))), QueryTimeout, 'time'),
    'the end': (lambda query: HANG_UP, SocketError, 'ended early'),
    'the end in the middle': (sending(DIFFERENCES[:7], HANG_UP), SocketError, 'ended early'),
    'nobody listens': (REFUSES, SocketError, ''),
}


@on_every_loop
@pytest.mark.parametrize('what', FAILURES)
async def test_if_a_transfer_fails_the_zone_is_as_before(what):
    answer, kind, text = FAILURES[what]
    zone = old_zone()
    sets = zone.sets
    async with Nameserver(silent, over_tcp=answer) as server:
        error = await raised_by(in_time(xfr(server, zone, timeout=2)))
        assert type(error) is kind
        assert text in str(error)
        assert f'moving.example. IXFR from 127.0.0.1:{server.port} over TCP: ' in str(error) or (
            'no such record' in text
        )
        assert zone.sets is sets
        assert list(zone) == list(old_zone())
        if kind is TransferError and text.isupper():
            assert error.rcode == RCODES[text]
        if what == 'nobody listens':
            assert error.errno == errno.ECONNREFUSED
        await settle()
        assert is_idle()


@on_every_loop
async def test_a_zone_is_brought_up_to_date():
    async with Nameserver(sending([zone_soa(1), host(1)], [host(9), zone_soa(1)])) as server:
        zone = Zone(MOVING)
        await in_time(xfr(server, zone, timeout=2))
        assert list(zone) == list(old_zone())
        assert server.queries[-1].qd == AXFR.qd
        now_saying(server, sending(DIFFERENCES[:3], DIFFERENCES[3:8], DIFFERENCES[8:]))
        await in_time(xfr(server, zone, timeout=2))
        assert [*zone] == [zone_soa(3), host(3), host(4), host(9)]
        assert server.queries[-1].qd == IXFR.qd
        assert server.queries[-1].ns[0].rdata.serial == 1
        sets = zone.sets
        now_saying(server, sending([zone_soa(3)]))
        await in_time(xfr(server, zone, timeout=2))
        assert zone.sets is sets
        now_saying(server, sending([zone_soa(4)], [host(1)], [zone_soa(4)]))
        await in_time(xfr(server, zone, timeout=2))
        assert [*zone] == [zone_soa(4), host(1)]
        now_saying(server, sending([zone_soa(2), zone_soa(2)]))
        for query in (AXFR, pack(AXFR)):  # which says itself what to ask for
            await in_time(xfr(server, zone, query=query))
            assert [*zone] == [zone_soa(2)]
            assert server.queries[-1] == AXFR
        assert server.most_open == 1


@in_one_way
async def test_a_stream_may_end_at_any_octet():
    messages = in_messages(IXFR, DIFFERENCES[:3], DIFFERENCES[3:8], DIFFERENCES[8:])
    frames = [module.to_frame(pack(message)) for message in messages]
    octets = b''.join(frames)
    zone = old_zone()
    async with Nameserver(silent) as server:
        for end in range(len(octets)):
            server.answer_over_tcp = lambda _, end=end: [Raw(octets[:end]), HANG_UP]
            assert isinstance(await raised_by(xfr(server, zone, query=IXFR)), SocketError)
            assert zone.serial == 1
        server.answer_over_tcp = lambda _: [Raw(octets), HANG_UP]
        await xfr(server, zone, query=IXFR)
        assert zone.serial == 3


@on_every_loop
async def test_octets_may_come_one_at_a_time():
    messages = in_messages(IXFR, DIFFERENCES[:3], DIFFERENCES[3:8], DIFFERENCES[8:])
    octets = b''.join(module.to_frame(pack(message)) for message in messages)
    zone = old_zone()

    async def one_at_a_time(query):
        for octet in octets:
            server.say_on_stream(server.streams[-1], Raw([octet]))
            for _ in range(4):
                await asyncio.sleep(0)

    async with Nameserver(silent, over_tcp=one_at_a_time) as server:
        await in_time(xfr(server, zone, query=IXFR, timeout=5))
        assert zone.serial == 3


@pytest.mark.long
@in_one_way
@pytest.mark.parametrize('scheme', ['tcp', 'tls', 'udp'])
async def test_a_transfer_may_be_cancelled_at_any_point(authority, scheme):
    messages = in_messages(IXFR, DIFFERENCES[:3], DIFFERENCES[3:8], DIFFERENCES[8:])

    async def answer(query):
        stream = server.streams[-1]
        for message in messages:
            await asyncio.sleep(0)
            server.say_on_stream(stream, pack(message))

    context = ssl.create_default_context(cafile=authority.path)
    arguments = {
        'tcp': {},
        'tls': {'ssl_context': context},
        'udp': {'udp_mode': UDPMode.TRY_FIRST},
    }[scheme]
    secure = server_context(authority, '127.0.0.1') if scheme == 'tls' else None
    async with Nameserver(sending([zone_soa(3)]), over_tcp=answer, tls=secure) as server:
        is_over = False
        turns = 0
        while not is_over:
            zone = old_zone()
            task = asyncio.ensure_future(xfr(server, zone, query=IXFR, timeout=5, **arguments))
            for _ in range(turns):
                await asyncio.sleep(0)
            turns += 1
            is_over = task.done()
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            if outcome is None:
                assert zone.serial == 3
            else:
                assert isinstance(outcome, asyncio.CancelledError)
                assert list(zone) == list(old_zone())
            await settle()
            assert is_idle()
        assert outcome is None
    assert turns > 5


@on_every_loop
@pytest.mark.parametrize('way', ['break', 'aclose', 'raise', 'cancel'])
async def test_a_transfer_that_is_left_closes_its_stream(way):
    async with Nameserver(sending(*[[record] for record in DIFFERENCES[:8]])) as server:

        async def read_some(stream):
            async for _ in stream:
                if way == 'break':
                    break
                if way == 'raise':
                    raise OfTheTest
                if way == 'aclose':
                    await stream.aclose()

        # In debug mode uvloop may crash where a generator is collected (its issue 730).
        asyncio.get_running_loop().set_debug(False)
        with permits(2) as limit:
            stream = transfer('127.0.0.1', MOVING, 1, server.port)
            task = asyncio.ensure_future(read_some(stream))
            await settle()
            while not server.streams:  # without debug mode, it may not be accepted yet
                await settle()
            if way == 'cancel':
                assert limit.free == 1
                task.cancel()
            if way == 'break':
                assert limit.free == 1
                del stream
                await task
                gc.collect()
            await asyncio.gather(task, return_exceptions=True)
            stream = None
            del task
            gc.collect()
            await settle()
        await settle()
        assert [each.fileno() for each in server.streams] == [-1]


@on_every_loop
async def test_a_transfer_counts_in_the_limit_on_sockets_and_waits_for_a_permit():
    async with Nameserver(sending(DIFFERENCES[:3])) as server:
        with permits(2) as limit:
            first = transfer('127.0.0.1', MOVING, 1, server.port)
            assert (await anext(first)).deleted == (zone_soa(1), host(1))
            assert limit.free == 1
            error = await raised_by(in_time(changes_from(server, timeout=2)))
            assert isinstance(error, QueryTimeout)
            task = asyncio.ensure_future(changes_from(server))
            await settle()
            task.cancel()
            await settle()
            assert not limit.transfers
            now_saying(server, sending(WHOLE_ZONE))
            task = asyncio.ensure_future(changes_from(server, timeout=2))
            await settle()
            assert len(server.queries) == 1
            await first.aclose()
            assert await in_time(task) == [Changes(True, (), tuple(WHOLE_ZONE[:-1]))]
            await settle()


@on_every_loop
async def test_a_transfer_leaves_the_last_permit_to_those_who_take_its_changes():
    def answer(query):
        is_transfer = query.qd[0].qtype == TYPES.IXFR
        return sending(DIFFERENCES[:3])(query) if is_transfer else echo(query)

    async with Nameserver(answer) as server:
        resolve, _ = Resolver(no_host, asking(server.nameserver))

        async def take(number):
            stream = transfer('127.0.0.1', MOVING, 1, server.port)
            async with contextlib.aclosing(stream):
                await anext(stream)
                await settle()
                return texts(await resolve(f'x{number}.example', TYPES.A))

        with permits(4) as limit:
            tasks = [asyncio.ensure_future(take(number)) for number in range(10)]
            await settle()
            assert (limit.free, len(limit.transfers)) == (1, 7)
            assert await in_time(asyncio.gather(*tasks)) == [['192.0.2.1']] * 10
            await settle()


@on_every_loop
async def test_idle_streams_are_closed_for_a_transfer_but_for_the_last_permit():
    def answer(query):
        is_transfer = query.qd[0].qtype == TYPES.IXFR
        return sending(DIFFERENCES[:3])(query) if is_transfer else echo(query)

    async with Nameserver(answer) as server, Nameserver(echo) as other:
        for order in ((server, other), (other, server)):
            with permits(2) as limit:
                resolves = [Resolver(no_host, asking(each.tcp))[0] for each in order]
                for resolve in resolves:
                    await soon(resolve('x.example', TYPES.A))
                assert (limit.free, len(limit.idle)) == (0, 2)
                stream = transfer('127.0.0.1', MOVING, 1, server.port)
                await in_time(anext(stream))
                assert (limit.free, len(limit.idle)) == (0, 1)
                waiting = asyncio.ensure_future(changes_from(server, 1))
                await settle()
                assert len(limit.transfers) == 1
                await stream.aclose()
                await settle()
                assert (limit.free, len(limit.transfers)) == (0, 0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                while limit.idle:
                    next(iter(limit.idle)).evict()
                await settle()


@on_every_loop
async def test_a_transfer_does_not_hold_up_the_shared_stream():
    def answer(query):
        if query.qd[0].qtype == TYPES.AXFR:
            return sending(WHOLE_ZONE[:2])(query)
        return echo(query)

    async with Nameserver(answer) as server:
        resolve, _ = Resolver(no_host, asking(server.tcp))
        assert texts(await soon(resolve('x.example', TYPES.A))) == ['192.0.2.1']
        stream = transfer('127.0.0.1', MOVING, port=server.port)
        await anext(stream)
        assert texts(await soon(resolve('y.example', TYPES.A))) == ['192.0.2.1']
        assert server.asked_on == [0, 1, 0]
        await stream.aclose()


@on_every_loop
async def test_a_timeout_is_for_each_message_and_a_lifetime_for_all():
    async def slowly(query):
        stream = server.streams[-1]
        for records in DIFFERENCES:
            await asyncio.sleep(0.9)
            server.say_on_stream(stream, pack(in_messages(query, [records])[0]))

    async with Nameserver(silent, over_tcp=slowly) as server:
        zone = old_zone()
        await in_time(xfr(server, zone, timeout=1, lifetime=0.9 * 13))
        assert zone.serial == 3
        for arguments in ({'timeout': 0.8}, {'timeout': 1, 'lifetime': 5}, {'lifetime': 0}):
            zone = old_zone()
            error = await raised_by(in_time(xfr(server, zone, **arguments)))
            assert isinstance(error, QueryTimeout)
            assert zone.serial == 1
        now_saying(server, sending(*[[record] for record in DIFFERENCES]))
        stream = transfer('127.0.0.1', MOVING, 1, server.port, timeout=1, lifetime=5)
        await anext(stream)
        turn(4.9)  # whoever takes the changes may be slow
        await anext(stream)
        turn(0.1)
        assert isinstance(await raised_by(anext(stream)), QueryTimeout)


# What is said over UDP, and whether it is the whole transfer.
OVER_UDP_ONLY = {
    'all of it': (sending(DIFFERENCES), True),
    'the zone, whole': (sending(WHOLE_ZONE), True),
    'nothing new': (sending([zone_soa(1)]), True),
    'after others': (
        lambda query: [wrong_id(query), b'garbage', *sending(DIFFERENCES)(query)],
        True,
    ),
    'the new SOA': (sending([zone_soa(3)]), False),
    'the new SOA and TC': (lambda query: reply_to(query, zone_soa(3), tc=1), False),
    'too much': (lambda query: reply_to(query, *DIFFERENCES, tc=1), False),
    'half of it': (sending(DIFFERENCES[:5]), False),
    'half of the zone': (sending(WHOLE_ZONE[:2]), False),
    'no record': (sending([]), False),
    'refused': (bare(RCODES.NOTIMP), False),
    'backwards': (sending([zone_soa(0)]), False),
    'silence': (silent, False),
}


@on_every_loop
@pytest.mark.parametrize('what', OVER_UDP_ONLY)
async def test_a_datagram_is_enough_if_it_has_the_whole_transfer(what):
    answer, is_whole = OVER_UDP_ONLY[what]
    async with Nameserver(answer, over_tcp=sending(WHOLE_ZONE)) as server:
        arguments = {'timeout': 2, 'udp_mode': UDPMode.ONLY}
        if is_whole:
            only = await in_time(changes_from(server, 1, **arguments))
        else:
            assert isinstance(
                await raised_by(in_time(changes_from(server, 1, **arguments))),
                QueryTimeout if what == 'silence' else TransferError,
            )
        assert server.over_tcp == []
        arguments['udp_mode'] = UDPMode.TRY_FIRST
        first = await in_time(changes_from(server, 1, **arguments))
        if is_whole:
            assert first == only
            assert server.over_tcp == []
        else:
            assert first == [Changes(True, (), tuple(WHOLE_ZONE[:-1]))]
            assert server.queries[-1] == server.queries[-2]
        assert await in_time(changes_from(server, 1))
        before = len(server.queries)
        assert await in_time(changes_from(server, udp_mode=UDPMode.ONLY))  # AXFR is for TCP
        assert server.asked_on[before] is not None


@on_every_loop
@pytest.mark.parametrize(
    'arguments, seconds',
    [({}, 2), ({'timeout': 60}, 2), ({'timeout': 1}, 0.5), ({'timeout': 60, 'lifetime': 3}, 1.5)],
)
async def test_a_lost_datagram_leaves_time_for_tcp(arguments, seconds):
    async with Nameserver(silent, over_tcp=sending(DIFFERENCES)) as server:
        zone = old_zone()
        began = asyncio.get_running_loop().time()
        await in_time(xfr(server, zone, udp_mode=UDPMode.TRY_FIRST, **arguments))
        assert zone.serial == 3
        assert asyncio.get_running_loop().time() - began == pytest.approx(seconds)


@on_every_loop
async def test_where_a_transfer_comes_from_and_goes_to(authority):
    async with Nameserver(sending(WHOLE_ZONE), address='::1') as server:
        for where in ('::1', '::1%lo', IPv6Address('::1')):
            stream = transfer(where, 'moving.example.', port=server.port)
            assert len([each async for each in stream]) == 1
    async with Nameserver(sending([zone_soa(1)])) as server:
        for mode in UDPMode:
            port = free_port()
            source = {'source': '127.0.0.2', 'source_port': port}
            assert await changes_from(server, 1, udp_mode=mode, **source) == []
            assert server.sources[-1] == ('127.0.0.2', port)
        error = await raised_by(changes_from(server, source='192.0.2.1'))
        assert isinstance(error, SocketError)
        assert error.errno == errno.EADDRNOTAVAIL
        assert isinstance(await raised_by(changes_from(server, source='::1')), InvalidName)


@on_every_loop
@pytest.mark.parametrize('fault', ['', 'name', 'authority', 'old', 'no TLS'])
async def test_a_transfer_over_tls(authority, fault):
    context = server_context(authority, 'dns.example')
    if fault == 'old':
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with Nameserver(sending(*[[record] for record in DIFFERENCES]), tls=context) as server:
        if fault == 'no TLS':
            server.tls = None
            server.hear = lambda stream, *_: server.put(stream, b'\0\x0c' + bytes(12))
        ours = ssl.create_default_context(cafile=authority.path if fault != 'authority' else None)
        name = 'other.example' if fault == 'name' else 'dns.example'
        zone = old_zone()
        call = xfr(server, zone, timeout=5, ssl_context=ours, server_hostname=name)
        if fault:
            error = await raised_by(in_time(call))
            assert isinstance(error, SocketError)
            assert isinstance(error.__cause__, OSError)
            is_checked = isinstance(error.__cause__, ssl.SSLCertVerificationError)
            assert is_checked == (fault in ('name', 'authority'))
            assert 'over TLS' in str(error)
            await settle()
            assert server.queries == []
            assert zone.serial == 1
        else:
            await in_time(call)
            assert zone.serial == 3
            assert server.ends[-1].tls.selected_alpn_protocol() == 'dot'
            await settle()


@on_every_loop
async def test_a_server_may_not_know_alpn(authority):
    context = server_context(authority, 'dns.example', protocols=())
    async with Nameserver(sending(WHOLE_ZONE), tls=context) as server:
        ours = ssl.create_default_context(cafile=authority.path)
        zone = old_zone()
        how = {'ssl_context': ours, 'server_hostname': 'dns.example'}
        await in_time(xfr(server, zone, timeout=5, **how))
        assert zone.serial == 3
        assert server.ends[-1].tls.selected_alpn_protocol() is None
        await settle()


@on_every_loop
@pytest.mark.parametrize('count', [0, 3])
async def test_a_server_may_end_tls_early(trusting, count):
    def answer(query):
        for message in in_messages(query, *[[record] for record in DIFFERENCES[:count]]):
            server.say_on_stream(server.streams[-1], pack(message))
        server.streams[-1].send(server.ends[-1].end())

    async with tls_nameserver(trusting, answer) as server:
        zone = old_zone()
        error = await raised_by(xfr(server, zone, server_hostname='dns.example'))
        assert isinstance(error, SocketError)
        assert 'ended TLS early' in str(error)
        assert zone.serial == 1
        await settle()


@on_every_loop
async def test_a_name_is_enough_for_a_transfer_over_tls(trusting):
    async with tls_nameserver(trusting, sending(WHOLE_ZONE)) as server:
        zone = Zone(MOVING)
        await in_time(xfr(server, zone, server_hostname='dns.example'))
        assert zone.serial == 3
        await settle()


@in_one_way
async def test_arguments_that_are_wrong_send_nothing():
    async with Nameserver(silent) as server:

        def begin(origin=MOVING, where='127.0.0.1', **arguments):
            return transfer(where, origin, port=server.port, **arguments)

        for kind, arguments in (
            (InvalidName, {'origin': 'a..b'}),
            (InvalidName, {'where': 'ns.example'}),
            (InvalidName, {'server_hostname': 'a..b'}),
            (TypeError, {'origin': None}),
            (TypeError, {'where': None}),
            (TypeError, {'timeout': 'x'}),
            (TypeError, {'lifetime': 'x'}),
            (TypeError, {'serial': 'x'}),
            (InvalidName, {'serial': -1}),
            (InvalidName, {'serial': 1 << 32}),
            (TypeError, {'udp_mode': 3}),
            (TypeError, {'ssl_context': True}),
            (TypeError, {'server_hostname': 'x', 'udp_mode': UDPMode.TRY_FIRST}),
        ):
            with pytest.raises(kind):
                begin(**arguments)
        for kind, arguments in ((TypeError, {'source_port': 'x'}), (InvalidName, {'source': 'x'})):
            with pytest.raises(kind):
                await anext(begin(**arguments))
        zone = old_zone()
        for kind, query in (
            (InvalidName, Q),
            (InvalidName, make_query(MOVING, TYPES.IXFR)),
            (InvalidName, make_query('other.example', TYPES.AXFR)),
            (InvalidName, pack(make_query('', TYPES.AXFR))),
            (MalformedMessage, b''),
            (MalformedMessage, IXFR._replace(ns=(IXFR.ns[0]._replace(rdata=b'abc'),))),
            (TypeError, 'x'),
            (TypeError, AXFR._replace(qd=(5,))),
            (TypeError, AXFR._replace(qd=None)),
        ):
            with pytest.raises(kind):
                await xfr(server, zone, query=query)
        for zone in (None, MOVING, object()):
            for query in (None, AXFR):
                with pytest.raises(TypeError, match='zone'):
                    await xfr(server, zone, query=query)
        assert server.queries == []


@on_every_loop
async def test_a_query_may_spell_the_name_of_the_zone_in_its_way():
    async with Nameserver(sending(WHOLE_ZONE)) as server:
        for name in (b'moving.example.', b'MOVING.example', b'\\109oving.example'):
            zone = Zone('Moving.Example')
            await xfr(server, zone, query=AXFR._replace(qd=(QuestionRecord(name, 252, 1),)))
            assert zone.serial == 3
        soa = IXFR.ns[0]._replace(rdata=b'\0\0\0\0\0\1' + bytes(16))
        zone = old_zone()
        await xfr(server, zone, query=IXFR._replace(ns=(soa,)))
        assert zone.serial == 3


@on_every_loop
@pytest.mark.parametrize('query', [None, IXFR, AXFR])
async def test_a_zone_does_not_go_backwards_if_two_transfers_overlap(query):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(query):
        asked.set()
        await go_on.wait()
        return sending([zone_soa(2), host(2), zone_soa(2)])(query)

    async with Nameserver(slowly) as slow, Nameserver(sending(WHOLE_ZONE)) as server:
        zone = old_zone()
        task = asyncio.ensure_future(xfr(slow, zone, query=query))
        await in_time(asked.wait())
        await xfr(server, zone)
        go_on.set()
        error = await raised_by(in_time(task))
        assert isinstance(error, TransferError)
        assert 'no longer at serial 1' in str(error)
        assert list(zone) == WHOLE_ZONE[:-1]
        await settle()


class StandIn:
    """What is no Zone, but has such a writer."""

    origin = MOVING
    serial = 1

    def __init__(self, fails_at=None):
        self.log = []
        self.fails_at = fails_at

    @contextlib.contextmanager
    def writer(self, replacement=False):
        self.note('begin', replacement)
        try:
            yield self
        except BaseException as error:
            self.log.append(('rollback', type(error)))
            raise
        self.note('commit', None)

    def note(self, what, argument):
        if what == self.fails_at:
            raise OfTheTest
        self.log.append((what, argument))

    def add(self, record):
        self.note('add', record)

    def delete(self, record):
        self.note('delete', record)


@on_every_loop
async def test_an_object_with_such_a_writer_can_stand_in_for_a_zone():
    async with Nameserver(sending(DIFFERENCES[:4], DIFFERENCES[4:])) as server:
        zone = StandIn()
        await xfr(server, zone)
        assert zone.log == [
            ('begin', False),
            *[('delete', zone_soa(1)), ('delete', host(1))],
            *[('add', zone_soa(2)), ('add', host(2))],
            *[('delete', zone_soa(2)), ('delete', host(2))],
            *[('add', zone_soa(3)), ('add', host(3)), ('add', host(4))],
            ('commit', None),
        ]
        for fails_at in ('begin', 'delete', 'add', 'commit'):
            zone = StandIn(fails_at)
            with pytest.raises(OfTheTest):
                await xfr(server, zone)
            if fails_at in ('delete', 'add'):
                assert zone.log[-1] == ('rollback', OfTheTest)
            await settle()
            assert is_idle()
        now_saying(server, sending(WHOLE_ZONE[:2], HANG_UP))
        zone = StandIn()
        assert isinstance(await raised_by(xfr(server, zone, query=AXFR)), SocketError)
        assert zone.log == [
            ('begin', True),
            ('add', zone_soa(3)),
            ('add', host(3)),
            ('rollback', SocketError),
        ]


@in_one_way
async def test_a_server_is_read_no_faster_than_its_changes_are_taken():
    records = [rr(b'x.moving.example', TYPES.TXT, (bytes(250),) * 200)]
    sent = []

    async def pour(reader, writer):
        query = parse((await reader.readexactly(2 + 43))[2:])
        octets = module.to_frame(pack(in_messages(query, [zone_soa(3)])[0]))
        many = module.to_frame(pack(in_messages(query, records)[0]))
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(octets)
                await writer.drain()
                sent.append(len(octets))
                octets = many

    async with await asyncio.start_server(pour, '127.0.0.1', 0) as pouring:
        port = pouring.sockets[0].getsockname()[1]
        stream = transfer('127.0.0.1', MOVING, port=port)
        await anext(stream)
        before = None
        while before != len(sent):  # until it is full in between
            before = len(sent)
            for _ in range(50):
                await settle()
        assert sum(sent) < 1 << 24
        for _ in range(2 * before):
            assert (await anext(stream)).added == (*records,)
        assert len(sent) > before
        await stream.aclose()
        await settle()


def sending_signed(*messages, is_signed=None, ahead=0, change=None, **how):
    """An `answer` that is a transfer, of which some messages are signed."""
    is_signed = is_signed or [True] * len(messages)

    def answer(query):
        prior_mac = query.ar[-1].rdata.mac
        said, unsigned = [], []
        for number, records in enumerate(messages):
            octets = pack(in_messages(query, records)[0])
            if is_signed[number]:
                at = int(time.time()) + ahead
                later = {'is_later': number > 0, 'at': at, **how}
                said.append(signed_by_hand(octets, prior_mac, unsigned, **later))
                prior_mac, unsigned = mac_in(said[-1]), []
            else:
                said.append(octets)
                unsigned.append(octets)
        return change(said) if change else said

    return answer


IN_FOUR = DIFFERENCES[:3], DIFFERENCES[3:6], DIFFERENCES[6:9], DIFFERENCES[9:]
SIGNED_IXFR = module.transfer_query(MOVING, 1, KEY)


@in_one_way
@pytest.mark.parametrize('is_signed', [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1]])
async def test_a_transfer_is_signed_and_verified(is_signed):
    async with Nameserver(sending_signed(*IN_FOUR, is_signed=is_signed)) as server:
        zone = old_zone()
        await xfr(server, zone, query=SIGNED_IXFR)
        assert zone.serial == 3
        zone = old_zone()
        asked = make_query(MOVING, TYPES.IXFR, key=KEY)._replace(ns=zone[MOVING, TYPES.SOA])
        await xfr(server, zone, query=asked)
        assert zone.serial == 3
        assert len(await changes_from(server, 1, key=KEY)) > 2
        assert all(query.ar[-1].qtype == TYPES.TSIG for query in server.queries)
        signed, _ = sign(IXFR, KEY)  # elsewhere: the reply is not verified
        zone = old_zone()
        server.answer_over_tcp = sending(DIFFERENCES)
        await xfr(server, zone, query=signed)
        assert (zone.serial, server.queries[-1]) == (3, parse(signed))


WRONG_SIGNATURES = {
    'the last unsigned': (
        sending_signed(*IN_FOUR, is_signed=[1, 1, 1, 0]),
        'last message is not signed',
    ),
    'the first unsigned': (sending_signed(*IN_FOUR, is_signed=[0, 1, 1, 1]), 'not signed'),
    'none signed': (sending(DIFFERENCES), 'not signed'),
    'refused': (bare(RCODES.REFUSED), 'not signed, and says REFUSED'),
    'another key': (sending_signed(*IN_FOUR, key=OTHER_KEY), 'BADSIG'),
    'an unknown key': (sending_signed(*IN_FOUR, owner=b'\5other\7example\0'), 'BADKEY'),
    'a late clock': (sending_signed(*IN_FOUR, ahead=-3600), 'BADTIME'),
    'an early clock': (sending_signed(*IN_FOUR, ahead=3600), 'BADTIME'),
    'one changed': (
        sending_signed(
            *IN_FOUR, change=lambda said: [*said[:2], said[2].replace(b'h2', b'h7'), said[3]]
        ),
        'BADSIG',
    ),
    'one left out': (sending_signed(*IN_FOUR, change=lambda said: [*said[:2], said[3]]), 'BADSIG'),
    'one twice': (sending_signed(*IN_FOUR, change=lambda said: [*said[:2], *said[1:]]), 'BADSIG'),
    'in another order': (
        sending_signed(*IN_FOUR, change=lambda said: [said[0], said[2], said[1], said[3]]),
        'BADSIG',
    ),
    'an unsigned one changed': (
        sending_signed(
            *IN_FOUR,
            is_signed=[1, 1, 0, 1],
            change=lambda said: [*said[:2], said[2].replace(b'h3', b'h7'), said[3]],
        ),
        'BADSIG',
    ),
}


@in_one_way
@pytest.mark.parametrize('what', WRONG_SIGNATURES)
async def test_if_a_signature_is_wrong_the_zone_is_as_before(what):
    answer, text = WRONG_SIGNATURES[what]
    zone = old_zone()
    async with Nameserver(silent, over_tcp=answer) as server:
        error = await raised_by(xfr(server, zone, query=SIGNED_IXFR))
        assert isinstance(error, BadSignature)
        assert text in str(error)
        assert 'moving.example. IXFR from ' in str(error)
        assert list(zone) == list(old_zone())
        await settle()


@on_every_loop
async def test_a_datagram_has_to_be_signed_too():
    forged = sending(WHOLE_ZONE)
    good = sending_signed(DIFFERENCES)
    async with Nameserver(lambda query: [*forged(query), *good(query)]) as server:
        arguments = {'udp_mode': UDPMode.ONLY, 'key': KEY, 'timeout': 2}
        all_changes = await in_time(changes_from(server, 1, **arguments))
        assert [changes.replacement for changes in all_changes] == [False, False]
        server.answer = forged
        error = await raised_by(in_time(changes_from(server, 1, **arguments)))
        assert isinstance(error, QueryTimeout)
        assert isinstance(error.__cause__, BadSignature)
        server.answer_over_tcp = good
        arguments['udp_mode'] = UDPMode.TRY_FIRST
        assert await in_time(changes_from(server, 1, **arguments)) == all_changes


# --- 18. Cache ---------------------------------------------------------------


@on_every_loop
async def test_an_answer_knows_when_it_expires_and_is_cached_until_then():
    async with Nameserver(answering(a(b'www.example.com', ttl=60))) as server:
        resolve, _ = resolver_of(server)
        (address,) = await resolve('www.example.com', TYPES.A)
        assert address == IPv4Address('192.0.2.1')
        assert type(address) is IPv4AddressExpiresAt
        assert address.expires_at == 1060.0
        turn(59.9)
        for spelling in (
            'www.example.com',
            b'www.example.com',
            'WWW.Example.com.',
            '\\www.example.com',
        ):
            assert (await resolve(spelling, TYPES.A))[0].expires_at == 1060.0
        await server.asked(1)
        turn(0.1)
        assert (await resolve('www.example.com', TYPES.A))[0].expires_at == 1120.0
        await server.asked(2)


@on_every_loop
async def test_records_of_other_types_know_when_they_expire_too():
    mx = rr(b'x.example', TYPES.MX, module.MX(10, b'mail.example'))
    txt = rr(b'x.example', TYPES.TXT, (b'a', b'b'))
    ns = rr(b'x.example', TYPES.NS, b'ns.example')
    aaaa = rr(b'x.example', TYPES.AAAA, IPv6Address('2001:db8::1'))
    unknown = rr(b'x.example', 65280, b'\0')
    async with Nameserver(from_zone(mx, txt, ns, aaaa, unknown)) as server:
        resolve, _ = resolver_of(server)
        kinds = [(mx, module.MXExpiresAt), (txt, TupleExpiresAt), (ns, BytesExpiresAt)]
        for record, kind in [*kinds, (aaaa, IPv6AddressExpiresAt), (unknown, BytesExpiresAt)]:
            (rdata,) = await resolve('x.example', record.qtype)
            assert (rdata, type(rdata), rdata.expires_at) == (record.rdata, kind, 1060.0)


@on_every_loop
async def test_the_clock_starts_before_the_request_is_sent():
    async def answer_late(query):
        turn(0.3)
        return reply_to(query, a(b'x.example', ttl=10))

    async with Nameserver(answer_late) as server:
        resolve, _ = resolver_of(server)
        assert (await resolve('x.example', TYPES.A))[0].expires_at == 1010.0


@on_every_loop
async def test_a_cached_answer_comes_without_yielding():
    async with Nameserver(answering(a(b'x.example'))) as server:
        resolve, _ = resolver_of(server)
        answers = await resolve('x.example', TYPES.A)
        for name in ('x.example', b'x.example', 'X.example.'):
            with pytest.raises(StopIteration) as stopped:
                resolve(name, TYPES.A).send(None)
            assert stopped.value.value is answers


@on_every_loop
async def test_a_ttl_of_0_is_given_to_those_who_wait_and_not_cached():
    async with Nameserver(answering(a(b'x.example', ttl=0))) as server:
        resolve, _ = resolver_of(server)
        answers = await asyncio.gather(*[resolve('x.example', TYPES.A) for _ in range(5)])
        assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
        await server.asked(1)
        await resolve('x.example', TYPES.A)
        await server.asked(2)


def test_a_nameserver_is_the_same_whatever_its_timeout_is_and_few_are_known(monkeypatch):
    monkeypatch.setattr(module, 'MAX_SERVERS', 4)
    settings = module.to_settings(no_host, asking(), mix_case)

    def to_set(timeout, number):
        (each,) = module.to_set(settings, (timeout, (f'192.0.2.{number}', 53)), b'x')
        return each

    sets = [to_set(timeout, 1) for timeout in range(10)]
    assert [each.timeout for each in sets] == [*range(10)]
    assert len({each.servers for each in sets}) == 1
    assert to_set(9, 1) is sets[-1]
    assert len(settings.sets) <= 4
    for number in range(2, 10):
        (server,) = to_set(1, number).servers
        assert server.text == f'192.0.2.{number}:53'
        assert len(settings.sets) <= 4
        assert len(settings.servers) <= 5


@on_every_loop
async def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(module, 'MAX_CACHED', 3)

    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = resolver_of(server)
        for name in 'abcd':
            await resolve(name, TYPES.A)
        await resolve('b', TYPES.A)
        await resolve('d', TYPES.A)
        await server.asked(4)
        await resolve('a', TYPES.A)
        await server.asked(5)


@on_every_loop
async def test_negative_answers_are_bounded_too(monkeypatch):
    monkeypatch.setattr(module, 'MAX_CACHED', 3)
    nxdomain = answering(rcode=RCODES.NXDOMAIN, ns=(soa(b''),))
    async with Nameserver(nxdomain) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is)
        for name in 'abcda':
            with pytest.raises(DoesNotExist):
                await resolve(name, TYPES.A)
        await server.asked(5)


def test_only_what_may_be_kept_and_still_holds_enters_the_cache():
    holds, over = 1060.0, 1000.0
    alias = module.Alias(b'y', 1, holds)
    absence = DoesNotExist('x')
    cases = [
        (module.Answer(holds, (1,), None, True), True),
        (module.Answer(holds, (1,), None, False), False),  # from a truncated reply
        (module.Answer(over, (1,), None, True), False),  # TTL 0
        (module.Answer(over, (1,), alias, True), False),
        (module.NegativeAnswer(over, (), None, True, absence), False),  # no SOA
        (module.NegativeAnswer(over, (), alias, True, absence), True),
        (module.Answer(over, (), alias, False), False),
    ]
    for known, is_kept in cases:
        cache = {}
        module.remember(cache, ('x', 1), known, 1000.0)
        assert (('x', 1) in cache) == is_kept


@on_every_loop
async def test_the_cache_has_no_copy_of_a_name_that_is_given_as_a_str_in_lower_case():
    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = resolver_of(server)
        names = ['x.example', 'Y.example', b'z.example', 'é.example']
        for name in names:
            await resolve(name, TYPES.A)
        cached = [name for name, _ in resolve.settings.cache]
        assert cached == ['x.example', 'y.example', 'z.example', 'xn--9ca.example']
        assert cached[0] is names[0]


def test_a_full_cache_loses_its_oldest_hundredth_at_once(monkeypatch):
    monkeypatch.setattr(module, 'MAX_CACHED', 200)
    cache = {}
    for number in range(200):
        module.remember(cache, (f'{number}', 1), module.Answer(2.0, (1,), None, True), 1.0)
    module.remember(cache, ('0', 1), module.Answer(3.0, (1,), None, True), 1.0)  # the newest now
    assert len(cache) == 200
    module.remember(cache, ('new', 1), module.Answer(2.0, (1,), None, True), 1.0)
    assert list(cache) == [*[(f'{number}', 1) for number in range(4, 200)], ('0', 1), ('new', 1)]


@on_every_loop
async def test_clear_cache_forgets():
    async with Nameserver(answering(a(b'x.example'))) as server:
        resolve, clear_cache = resolver_of(server)
        await resolve('x.example', TYPES.A)
        assert clear_cache() is None
        await resolve('x.example', TYPES.A)
        await server.asked(2)


@on_every_loop
async def test_nothing_for_another_name_enters_the_cache():
    evil = [cname(b'a.example', b'victim.example'), a(b'victim.example', '192.0.2.66')]
    poison = [*evil, a(b'other.example', '192.0.2.66')]

    def answer(query):
        honest = a(query.qd[0].name.lower(), '192.0.2.1')
        return reply_to(query, *(poison if server.names == [b'a.example'] else [honest]))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        await resolve('a.example', TYPES.A)
        assert texts(await resolve('victim.example', TYPES.A)) == ['192.0.2.1']
        assert texts(await resolve('other.example', TYPES.A)) == ['192.0.2.1']
        await server.asked(3)


@on_every_loop
@pytest.mark.parametrize('rcode', [RCODES.NOERROR, RCODES.NXDOMAIN])
async def test_an_absence_is_cached_as_long_as_the_soa_says(rcode):
    async with Nameserver(answering(rcode=rcode, ns=(soa(b'example', 30, 20),))) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is)
        for _ in range(3):
            with pytest.raises(DoesNotExist) as raised:
                await resolve('x.example', TYPES.A)
            assert raised.value.rcode == rcode
            assert 'x.example. A' in str(raised.value)
            assert len(list(frames_of(raised.value))) < 6
        await server.asked(1)
        turn(20)
        with pytest.raises(DoesNotExist):
            await resolve('x.example', TYPES.A)
        await server.asked(2)


@on_every_loop
async def test_an_absence_without_soa_is_not_cached():
    async with Nameserver(answering(rcode=RCODES.NXDOMAIN)) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is)
        for _ in range(2):
            with pytest.raises(DoesNotExist):
                await resolve('x.example', TYPES.A)
        await server.asked(2)


@on_every_loop
async def test_an_answer_asked_for_before_clear_cache_is_neither_kept_nor_shared():
    may_answer = {1: asyncio.Event(), 2: asyncio.Event()}

    async def answer(query):
        number = len(server.queries)
        await may_answer[number].wait()
        return reply_to(query, a(b'x.example', f'192.0.2.{number}'))

    async with Nameserver(answer) as server:
        resolve, clear_cache = resolver_of(server)
        before = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        clear_cache()
        after = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(2)
        may_answer[2].set()
        assert texts(await after) == ['192.0.2.2']
        may_answer[1].set()
        assert texts(await before) == ['192.0.2.1']
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.2']
        await server.asked(2)


# --- 19. Lookups -------------------------------------------------------------


@on_every_loop
async def test_many_who_ask_make_one_query():
    async with Nameserver(answering(a(b'x.example'))) as server:
        resolve, _ = resolver_of(server)
        names = itertools.cycle(['x.example', b'x.example', 'X.Example', 'x.example.'])
        resolutions = [resolve(name, TYPES.A) for name in itertools.islice(names, 100)]
        answers = await asyncio.gather(*resolutions)
        assert len({id(each) for each in answers}) == 1
        await server.asked(1)


def test_10_000_who_ask_make_one_query():
    async def main():
        async with Nameserver(answering(a(b'x.example'))) as server:
            resolve, _ = resolver_of(server)
            answers = await asyncio.gather(*[resolve('x.example', TYPES.A) for _ in range(10_000)])
            assert len(answers) == 10_000
            await server.asked(1)

    run(main(), debug=False)


@on_every_loop
@pytest.mark.parametrize('leaving', [(0, 1), (0, 2), (1, 2), (1, 0), (2, 1), (2, 0)])
async def test_those_who_leave_cost_no_query(leaving):
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return echo(query)

    async with Nameserver(late) as server:
        resolve, _ = resolver_of(server)
        tasks = [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(3)]
        await server.asked(1)
        for number in leaving:
            tasks[number].cancel()
            await settle()
        go_on.set()
        (staying,) = {0, 1, 2} - {*leaving}
        assert texts(await tasks[staying]) == ['192.0.2.1']
        await server.asked(1)
        assert [task.cancelled() for task in tasks].count(True) == 2


@on_every_loop
async def test_an_error_goes_to_all_who_waited_and_is_not_cached():
    async with Nameserver(answering(rcode=RCODES.SERVFAIL)) as server:
        resolve, _ = resolver_of(server)
        tasks = [resolve('x.example', TYPES.A) for _ in range(50)]
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} == {ResponseCode}
        assert {error.rcode for error in errors} == {RCODES.SERVFAIL}
        assert len({id(error) for error in errors}) == 50
        lengths = {len(list(frames_of(error))) for error in errors}
        assert max(lengths) < 6
        asked = len(server.queries)
        server.answer = answering(a(b'x.example'))
        await resolve('x.example', TYPES.A)
        await server.asked(asked + 1)


def frames_of(error):
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


@on_every_loop
async def test_what_a_callable_of_the_caller_raises_passes_unchanged_to_all():
    class OwnError(Exception):
        pass

    own = OwnError('as it is')

    async def get_nameservers(fqdn):
        await asyncio.sleep(0)
        raise own
        yield

    resolve, _ = Resolver(no_host, get_nameservers)
    tasks = [resolve('x.example', TYPES.A) for _ in range(50)]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {id(error) for error in errors} == {id(own)}
    assert len(list(frames_of(own))) < 12

    async def get_host(fqdn, qtype):
        raise own

    def transform_fqdn(fqdn):
        raise own

    for arguments in ({'get_host': get_host}, {'transform_fqdn': transform_fqdn}):
        arguments = {'get_host': no_host, 'get_nameservers': asking(('127.0.0.1', 9)), **arguments}
        resolve, _ = Resolver(**arguments)
        with pytest.raises(OwnError):
            await resolve('x.example', TYPES.A)
        assert is_idle()


@on_every_loop
@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
async def test_an_error_of_the_systems_that_a_transform_raises_passes_unchanged(scheme):
    own = OSError(errno.EIO, 'of the caller')
    raises = True

    def transform_fqdn(fqdn):
        if raises:
            raise own
        return fqdn

    async with Nameserver(echo) as server:
        nameservers = asking(url_of(scheme, server))
        resolve, clear_cache = Resolver(no_host, nameservers, transform_fqdn)
        for is_first in (True, False):
            raises = True
            with pytest.raises(OSError, match='of the caller') as raised:
                await resolve('x.example', TYPES.A)
            assert raised.value is own
            raises = False
            if is_first:  # after which there is a stream, if there is to be one
                assert len(await resolve('y.example', TYPES.A)) == 1
        clear_cache()
        assert is_idle()


@on_every_loop
async def test_a_transform_may_close_the_stream_that_it_is_called_for():
    def transform_fqdn(fqdn):
        if number % 2:  # after one that has left a stream
            clear_cache()
        return fqdn

    async with Nameserver(echo) as server:
        limit = module.resources_of(asyncio.get_running_loop()).limit
        free = limit.free
        nameservers = asking(url_of('tcp', server))
        resolve, clear_cache = Resolver(no_host, nameservers, transform_fqdn)
        for number in range(6):
            assert len(await resolve(f'{number}.example', TYPES.A)) == 1
        turn(module.IDLE_SECONDS)
        await settle()
        assert limit.free == free
        assert is_idle()


@on_every_loop
async def test_the_next_nameserver_is_asked_after_a_lame_one():
    lame = answering(ra=0, ns=(rr(b'example', TYPES.NS, b'ns.example'),))
    async with Nameserver(lame) as one, Nameserver(answering(a(b'x.example'))) as two:
        resolve, _ = resolver_of(one, two)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        resolve, _ = resolver_of(one)
        with pytest.raises(BadResponse):
            await resolve('x.example', TYPES.A)
        await one.asked(3)


@on_every_loop
@pytest.mark.parametrize(
    'rcode', [RCODES.SERVFAIL, RCODES.REFUSED, RCODES.FORMERR, RCODES.NOTIMP, 11]
)
async def test_the_next_nameserver_is_asked_at_once_after_an_error(rcode):
    def bare(query):
        return reply_to(query, rcode=rcode)._replace(qd=() if rcode < 6 else query.qd)

    async with Nameserver(bare) as one, Nameserver(answering(a(b'x.example'))) as two:
        resolve, _ = resolver_of(one, two)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        resolve, _ = resolver_of(one)
        with pytest.raises(ResponseCode) as raised:
            await in_time(resolve('x.example', TYPES.A))  # without the question it may be forged
        assert raised.value.rcode == rcode
        assert str(one.port) in str(raised.value)
        # Once, and in the other resolution once more; each first with EDNS, if that may be why.
        await one.asked(5 if rcode in (RCODES.FORMERR, RCODES.NOTIMP) else 3)


def in_turn(*answers):
    """An `answer` that is each of these in turn, and the last to all further queries."""
    rest = list(answers)
    return lambda query: (rest.pop(0) if rest[1:] else rest[0])(query)


def with_edns(rcode, *options):
    """An `answer` with EDNS: an extended response code, options, and an address if it is 0."""
    opt = ResourceRecord(b'', TYPES.OPT, 1232, rcode >> 4 << 24, options)
    return lambda query: (echo if not rcode else answering())(query)._replace(
        rcode=rcode & 15, ar=(opt,)
    )


SERVFAIL = answering(rcode=RCODES.SERVFAIL)
NOTIMP = answering(rcode=RCODES.NOTIMP)
NO_RECURSION = answering(ra=0)
GONE = answering(rcode=RCODES.NXDOMAIN, ra=0)
TC = answering(tc=1)
COOKIE = module.EDNS_OPTIONS.COOKIE, b'a client and server'
FULL = lambda query: pack(echo(query)).ljust(65533, b'\0')  # noqa: E731
# What nameservers do in the tests of Go's net and c-ares: the answers of each, those over TCP
# after a stroke; then the addresses, or the error, and how often each is asked.
FOREIGN_NAMESERVERS = {
    'SERVFAIL, and the next answers': ([[SERVFAIL], [echo]], ['192.0.2.1'], [1, 1]),
    # NOTIMP may be about EDNS.
    'the third answers': ([[SERVFAIL], [NOTIMP], [echo]], ['192.0.2.1'], [1, 2, 1]),
    'SERVFAIL for ever': ([[SERVFAIL]], ResponseCode, [2]),
    'REFUSED, and then an answer': (
        [[answering(rcode=RCODES.REFUSED), echo]],
        ['192.0.2.1'],
        [2],
    ),
    'a lame referral': (
        [[answering(ra=0, ns=(rr(b'example', TYPES.NS, b'ns.example'),))], [echo]],
        ['192.0.2.1'],
        [1, 1],
    ),
    'nothing, and no recursion': ([[NO_RECURSION], [echo]], ['192.0.2.1'], [1, 1]),
    'nothing but EDNS, and no recursion': (  # Go: no such record
        [[answering(ra=0, ar=(ResourceRecord(b'', TYPES.OPT, 1232, 0, ()),))], [echo]],
        ['192.0.2.1'],
        [1, 1],
    ),
    'no such name, and no recursion': ([[GONE], [echo]], DoesNotExist, [1, 0]),
    'no such record of the authority': ([[answering(ra=0, aa=1)], [echo]], DoesNotExist, [1, 0]),
    'silence, and the next answers': ([[silent], [echo]], ['192.0.2.1'], [1, 1]),
    'silence twice': ([[silent, silent, echo]], ['192.0.2.1'], [3]),
    'silence for ever': ([[silent]], QueryTimeout, [5]),
    'FORMERR, then without EDNS': (
        [[answering(rcode=RCODES.FORMERR, ar=()), echo]],
        ['192.0.2.1'],
        [2],
    ),
    'FORMERR with EDNS': ([[with_edns(RCODES.FORMERR), echo]], ['192.0.2.1'], [2]),
    'FORMERR and silence': ([[answering(rcode=RCODES.FORMERR), silent, echo]], ['192.0.2.1'], [3]),
    # We send no cookie.
    'BADCOOKIE': ([[with_edns(RCODES.BADCOOKIE, COOKIE)], [echo]], ['192.0.2.1'], [1, 1]),
    'a cookie nobody asked for': ([[with_edns(0, COOKIE)]], ['192.0.2.1'], [1]),
    'a cookie that is too long': ([[with_edns(0, (10, bytes(99)))]], ['192.0.2.1'], [1]),
    'truncated': ([[TC, '/', echo]], ['192.0.2.1'], [2]),
    'truncated over TCP too': (  # Go takes it, too
        [[TC, '/', lambda query: echo(query)._replace(tc=1)]],
        ['192.0.2.1'],
        [2],
    ),
    'the reply to another query first': (
        [[lambda query: [wrong_id(query)._replace(qd=(QUESTION_A,)), echo(query)]]],
        ['192.0.2.1'],
        [1],
    ),
    'a datagram that is no message first': (
        [[lambda query: [b'garbage DNS response packet', wrong_id(query), echo(query)]]],
        ['192.0.2.1'],
        [1],
    ),
    'hangs up the first time': (
        [[TC, '/', lambda query: HANG_UP, echo]],
        ['192.0.2.1'],
        [3],
    ),
    'as large as can be, and hangs up': (
        [[TC, '/', lambda query: [FULL(query), HANG_UP]]],
        ['192.0.2.1'],
        [2],
    ),
    'one octet over TCP': ([[TC, '/', lambda query: b'\1'], [echo]], ['192.0.2.1'], [2, 1]),
}


@in_one_way
@pytest.mark.parametrize('title', FOREIGN_NAMESERVERS)
async def test_nameservers_of_other_resolvers_tests_are_asked(title):
    scripts, expected, counts = FOREIGN_NAMESERVERS[title]
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for script in scripts:
            at = script.index('/') if '/' in script else len(script)
            over_tcp = in_turn(*script[at + 1 :]) if script[at:] else None
            server = Nameserver(in_turn(*script[:at]), over_tcp=over_tcp)
            servers.append(await stack.enter_async_context(server))
        # In lower case, so that an absence needs no check.
        resolve, _ = resolver_of(*servers, transform_fqdn=bytes)
        if isinstance(expected, list):
            assert texts(await in_time(resolve('x.example', TYPES.A))) == expected
        else:
            with pytest.raises(expected):
                await in_time(resolve('x.example', TYPES.A))
        assert [len(server.queries) for server in servers] == counts


@in_one_way
@pytest.mark.parametrize('times', [1, 2])
async def test_32_queries_on_one_stream_are_answered_in_any_order_and_more_than_once(times):
    held = []

    def last_first(query):
        held.append(echo(query))
        return held[::-1] * times if len(held) == 32 else None

    async with Nameserver(silent, over_tcp=last_first) as server:
        resolve, _ = over(server.tcp)
        names = names_of(32)
        assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(server.streams) == 1
        server.answer_over_tcp = echo
        assert len(await in_time(resolve('next.example', TYPES.A))) == 1


FORGERIES = {
    'id': lambda reply: reply._replace(qid=reply.qid ^ 1),
    'no response': lambda reply: reply._replace(qr=QUESTION),
    'opcode': lambda reply: reply._replace(opcode=OPCODES.STATUS),
    'name': lambda reply: reply._replace(qd=(reply.qd[0]._replace(name=b'y.example'),)),
    'type': lambda reply: reply._replace(qd=(reply.qd[0]._replace(qtype=TYPES.AAAA),)),
    'class': lambda reply: reply._replace(qd=(reply.qd[0]._replace(qclass=CLASSES.CH),)),
    'no question': lambda reply: reply._replace(qd=()),
    'two questions': lambda reply: reply._replace(qd=reply.qd * 2),
    'cut': lambda reply: pack(reply)[:-1],
    'garbage': lambda reply: b'garbage',
    'nothing': lambda reply: b'',
}


@on_every_loop
@pytest.mark.parametrize('forgery', FORGERIES)
async def test_keeps_waiting_after_a_forged_or_broken_reply(forgery):
    def answer(query):
        name = query.qd[0].name  # to which the record's name is compressed
        forged = FORGERIES[forgery](reply_to(query, a(name, '192.0.2.66')))
        return [forged] * 40 + [reply_to(query, a(b'x.example'))]

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        await server.asked(1)


def opt(name=b'', ttl=0, *options):
    return ResourceRecord(name, TYPES.OPT, 1232, ttl, options)


def with_records(**records):
    """An `answer` of `echo`, and then these records in the named sections."""

    def answer(query):
        reply = echo(query)
        sections = {
            section: (*getattr(reply, section), *more) for section, more in records.items()
        }
        return reply._replace(**sections)

    return answer


def broken(name, qtype, rdata=b'\1', ttl=60):
    return rr(name, qtype, rdata, ttl)


def with_octets(octets, section='ar', address='192.0.2.1'):
    """An `answer` with one more record, that of these octets."""

    def answer(query):
        name = query.qd[0].name
        reply = bytearray(pack(reply_to(query, a(name, address), ar=())))
        reply[{'an': 7, 'ns': 9, 'ar': 11}[section]] += 1
        return bytes(reply) + octets

    return answer


FIXED = struct.pack('!HHIH', TYPES.TXT, 1, 60, 2) + b'\1x'  # all of a record but its owner


# What is broken, but is not what was asked for.
NOT_NEEDED = {
    'another name': with_records(an=(broken(b'other.example', TYPES.A),)),
    'another type': with_records(an=(broken(b'x.example', TYPES.MX),)),
    'a signature': with_records(an=(broken(b'x.example', TYPES.RRSIG),)),
    'in the authority section': with_records(ns=(broken(b'example', TYPES.DS),)),
    'a SOA beside the answer': with_records(ns=(broken(b'example', TYPES.SOA),)),
    'in the additional section': with_records(ar=(broken(b'ns.example', TYPES.AAAA),)),
    'another class': with_records(an=(broken(b'x.example', TYPES.A)._replace(qclass=3),)),
    'a pointer forwards in rdata': with_octets(
        b'\5other\0' + struct.pack('!HHIH', TYPES.CNAME, 1, 60, 2) + b'\xc0\xff', 'an'
    ),
    'options that overrun': with_octets(
        b'\0' + struct.pack('!HHIH', TYPES.OPT, 1232, 0, 5) + b'\0\x0b\0\2\0'
    ),
    'one octet more': lambda query: pack(echo(query)) + b'\0',
    'many octets more': lambda query: pack(echo(query)) + bytes(500),
}


@in_one_way
@pytest.mark.parametrize('scheme', ['udp', 'tcp', 'tls', 'https'])
@pytest.mark.parametrize('fault', NOT_NEEDED)
async def test_what_is_not_needed_and_broken_does_not_cost_the_answer(trusting, scheme, fault):
    async with serving(scheme, trusting, NOT_NEEDED[fault]) as server:
        resolve, _ = over(url_of(scheme, server))
        assert texts(await in_time(resolve('x.example', TYPES.A))) == ['192.0.2.1']
        await server.asked(1)


# What is broken so that nobody can tell what it is.
NOT_WHOLE = {
    'fewer records than counted': b'',
    'an owner without end': b'\x3fabc',
    'an owner of an unknown kind': b'\x40' + FIXED,
    'an owner of another unknown kind': b'\x80\1' + FIXED,
    'a pointer forwards': b'\xc0\xff' + FIXED,
    'a pointer into the header': b'\xc0\4' + FIXED,
    'a record that is cut': b'\0' + FIXED[:9],
    'rdata that is cut': b'\0' + FIXED[:-1],
}


@in_one_way
@pytest.mark.parametrize('section', ['an', 'ns', 'ar'])
@pytest.mark.parametrize('fault', NOT_WHOLE)
async def test_a_reply_that_is_not_whole_is_dropped(section, fault):
    cut = with_octets(NOT_WHOLE[fault], section, '192.0.2.66')

    async with Nameserver(lambda query: [cut(query), echo(query)]) as server:
        resolve, _ = resolver_of(server)
        assert texts(await in_time(resolve('x.example', TYPES.A))) == ['192.0.2.1']


# What is needed has to be whole.
NEEDED = {
    'the answer': lambda query: reply_to(query, broken(query.qd[0].name, TYPES.A)),
    'another of the answer': with_records(an=(broken(b'x.example', TYPES.A),)),
    'an empty one': with_records(an=(broken(b'x.example', TYPES.A, b''),)),
    'two OPT records': with_records(ar=(opt(), opt())),
}


@in_one_way
@pytest.mark.parametrize('fault', NEEDED)
async def test_a_reply_in_which_something_needed_is_broken_is_dropped(fault):
    true = answering(a(b'x.example', '192.0.2.2'))
    async with Nameserver(lambda query: [NEEDED[fault](query), true(query)]) as server:
        resolve, _ = resolver_of(server)
        assert texts(await in_time(resolve('x.example', TYPES.A))) == ['192.0.2.2']


@on_every_loop
async def test_a_timeout_tells_what_was_dropped_last():
    async with Nameserver(lambda query: b'\0' * 12) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        for attempt in range(5):
            await server.asked(attempt + 1)
            turn(0.5)
        with pytest.raises(QueryTimeout) as raised:
            await task
        assert isinstance(raised.value.__cause__, BadResponse)
        text = str(raised.value)
        assert 'x.example. A' in text
        assert f'127.0.0.1:{server.port}' in text
        assert 'attempts: 5' in text


@on_every_loop
async def test_a_reply_from_a_stranger_is_not_taken():
    async def answer(query):
        source = server.sources[-1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(pack(reply_to(query, a(b'x.example', '192.0.2.66'))), source)
        await settle()
        return reply_to(query, a(b'x.example'))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']


@on_every_loop
async def test_each_query_has_its_own_id_port_and_letter_case():
    def answer(query):
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        name = 'abcdefghijklmnopqrstuvwxyz.example'
        await asyncio.gather(*[resolve(f'{i}.{name}', TYPES.A) for i in range(200)])
        assert len({query.qid for query in server.queries}) > 190
        assert len({port for _, port, *_ in server.sources}) > 190
        cases = {query.qd[0].name.partition(b'.')[2] for query in server.queries}
        assert len(cases) == 200
        flags = {query._replace(qid=0, qd=()) for query in server.queries}
        assert flags == {make_query('', 0, qid=0, payload=1232)._replace(qd=())}


def folded(reply):
    """A reply whose question is in lower case."""
    return reply._replace(qd=(reply.qd[0]._replace(name=reply.qd[0].name.lower()),))


def is_lower(query):
    return query.qd[0].name == query.qd[0].name.lower()


# A name with so many letters that random case is lower case in none of some thousand tests.
FOLDING = 'www.the-case-of-its-letters-is-random.example'


@on_every_loop
async def test_a_folded_reply_is_asked_again_over_tcp_and_all_is_as_before_if_that_is_not_folded():
    record = a(FOLDING.encode())

    def folding(query):
        return folded(reply_to(query, record))

    async with Nameserver(folding, over_tcp=answering(record)) as server:
        resolve, _ = resolver_of(server)
        for count in (1, 2):
            assert texts(await resolve(FOLDING, TYPES.A)) == ['192.0.2.1']
            assert len(server.over_tcp) == count
            await server.asked(2 * count)
            assert not any(map(is_lower, server.queries))
            turn(60)


@on_every_loop
async def test_who_folds_over_tcp_too_is_asked_in_lower_case_for_a_while():
    def folding(query):
        return folded(reply_to(query, a(FOLDING.encode())))

    async with Nameserver(folding) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve(FOLDING, TYPES.A)) == ['192.0.2.1']
        await server.asked(2)
        assert len(server.over_tcp) == 1
        turn(60)
        await resolve(FOLDING, TYPES.A)
        await server.asked(3)  # known to fold now, it is asked in lower case at once
        assert is_lower(server.queries[2])
        turn(600)
        await resolve(FOLDING, TYPES.A)
        assert not is_lower(server.queries[3])
        assert len(server.over_tcp) == 2


@on_every_loop
@pytest.mark.parametrize('over_tcp', [REFUSES, lambda query: HANG_UP])
async def test_without_tcp_a_folded_reply_is_followed_by_lower_case_on_a_new_socket(over_tcp):
    def folding(query):
        return folded(reply_to(query, a(FOLDING.encode())))

    async with Nameserver(folding, over_tcp=over_tcp) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve(FOLDING, TYPES.A)) == ['192.0.2.1']
        by_datagram = [query for query in server.queries if query not in server.over_tcp]
        assert list(map(is_lower, by_datagram)) == [False, True]
        assert server.sources[0] != server.sources[1]
        turn(60)
        await resolve(FOLDING, TYPES.A)
        assert is_lower(server.queries[-1])


@on_every_loop
async def test_lower_case_follows_a_folded_reply_if_tcp_is_silent():
    def folding(query):
        return folded(reply_to(query, a(FOLDING.encode())))

    async with Nameserver(folding, over_tcp=lambda query: None) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve(FOLDING, TYPES.A))
        await server.asked(2)
        turn(0.5)
        assert texts(await task) == ['192.0.2.1']
        await server.asked(3)
        assert is_lower(server.queries[-1])


@on_every_loop
async def test_a_forged_folded_reply_does_not_end_the_wait_for_the_true_one():
    name = b'so-many-letters.are-never-all-lower-case.by-chance.example'

    def answer(query):
        forged = reply_to(query, a(name, '192.0.2.66'))
        swapped = query.qd[0]._replace(name=query.qd[0].name.swapcase())
        forged = forged._replace(qd=(swapped,))
        return [forged, forged, reply_to(query, a(name))]

    async with Nameserver(answer, over_tcp=lambda query: None) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve(name.decode(), TYPES.A)) == ['192.0.2.1']
        turn(60)
        server.answer = answering(a(name))
        await resolve(name.decode(), TYPES.A)
        assert server.queries[-1].qd[0].name != name  # not known to fold


NXDOMAIN = answering(rcode=RCODES.NXDOMAIN, ns=(soa(b'example'),))
NODATA = answering(ns=(soa(b'example'),))
# What those say to a capital who compare letter case.
COMPARING = {
    'NXDOMAIN': NXDOMAIN,
    'NXDOMAIN without SOA': answering(rcode=RCODES.NXDOMAIN),
    'NODATA': NODATA,
}


def cases(server):
    """Whether each query is in lower case."""
    return list(map(is_lower, server.queries))


@on_every_loop
@pytest.mark.parametrize('kind', COMPARING)
async def test_who_denies_a_name_with_capitals_is_asked_in_lower_case_for_a_while(kind):
    def comparing(query):
        return echo(query) if is_lower(query) else COMPARING[kind](query)

    async with Nameserver(comparing) as server:
        resolve, _ = resolver_of(server)
        for name in ('first', 'second', 'third'):
            assert texts(await resolve(f'{name}.{FOLDING}', TYPES.A)) == ['192.0.2.1']
        assert cases(server) == [False, True, True, True]
        turn(600)
        assert texts(await resolve(FOLDING, TYPES.A)) == ['192.0.2.1']
        assert cases(server)[4:] == [False, True]


@on_every_loop
async def test_many_denied_names_at_once_make_two_checks_and_all_are_answered():
    def comparing(query):
        return echo(query) if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(comparing) as server:
        resolve, _ = resolver_of(server)
        names = [f'{number}.{FOLDING}' for number in range(50)]
        assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert cases(server).count(False) == cases(server).count(True) == 50


@on_every_loop
@pytest.mark.parametrize('absence', COMPARING)
async def test_the_absences_of_a_search_cost_two_checks_in_ten_minutes(absence):
    async with Nameserver(COMPARING[absence]) as server:
        domains = [f'domain-{number}.{FOLDING}' for number in range(10)]
        resolve, _ = resolver_of(server, search=domains)
        for name, checks, seconds in (('x', 2, 0), ('y', 0, 599), ('z', 0, 1), ('v', 2, 0)):
            server.queries.clear()
            with pytest.raises(DoesNotExist):
                await resolve(f'{name}.{FOLDING}', TYPES.A)
            assert cases(server).count(False) == 11
            assert cases(server).count(True) == checks
            turn(seconds)


@on_every_loop
async def test_the_absences_of_many_searches_at_once_cost_two_checks():
    async with Nameserver(NXDOMAIN) as server:
        domains = [f'domain-{number}.{FOLDING}' for number in range(5)]
        resolver = module.AioHttpDnsResolver(no_host, asking(server.nameserver), search=domains)
        names = [f'{number}.{FOLDING}' for number in range(20)]
        both = [resolver.resolve(name, 80, socket.AF_UNSPEC) for name in names]
        outcomes = await in_time(asyncio.gather(*both, return_exceptions=True))
        assert all([isinstance(outcome, OSError) for outcome in outcomes])
        assert cases(server).count(False) == 20 * 2 * 6
        assert cases(server).count(True) == 2


@on_every_loop
@pytest.mark.parametrize('record', ['address', 'alias'])
async def test_who_has_given_records_for_capitals_in_the_last_day_is_not_checked(record):
    def knowing(query):
        name = query.qd[0].name
        if record == 'address' and name[0] in b'kK':
            return echo(query)
        if name[0] in b'kK':
            return NXDOMAIN(query)._replace(an=(cname(name, b'nowhere.example'),))
        return NXDOMAIN(query)

    async with Nameserver(knowing) as server:
        resolve, _ = resolver_of(server)
        # What came within a minute of what has been noted counts for a day, too.
        for number, seconds in ((1, 59), (2, 24 * 3600), (3, 24 * 3600 + 61)):
            server.queries.clear()
            with contextlib.suppress(DoesNotExist):
                await resolve(f'known-{number}.{FOLDING}', TYPES.A)
            turn(seconds)
            with pytest.raises(DoesNotExist):
                await resolve(f'absent-{number}.{FOLDING}', TYPES.A)
            assert cases(server) == [False, False] + [True] * (number == 3)


@on_every_loop
@pytest.mark.parametrize(
    'check, rcode',
    [
        (NXDOMAIN, RCODES.NXDOMAIN),
        (NODATA, RCODES.NOERROR),
        (answering(rcode=RCODES.SERVFAIL), RCODES.NXDOMAIN),
        (answering(rcode=RCODES.REFUSED), RCODES.NXDOMAIN),
        (silent, RCODES.NXDOMAIN),
        (answering(tc=1), RCODES.NXDOMAIN),
        (answering(ra=0), RCODES.NXDOMAIN),
        (lambda query: b'garbage', RCODES.NXDOMAIN),
    ],
)
async def test_an_absence_stands_if_its_check_brings_no_records(check, rcode):
    def answer(query):
        return check(query) if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(answer, over_tcp=silent) as server:
        resolve, _ = resolver_of(server)
        began = asyncio.get_running_loop().time()
        for _ in range(2):  # and it is cached
            with pytest.raises(DoesNotExist) as raised:
                await in_time(resolve(FOLDING, TYPES.A))
            assert raised.value.rcode == rcode
        attempts = 2 + len(server.over_tcp)  # the check is one, too
        assert str(raised.value).endswith(f' (attempts: {attempts})')
        assert asyncio.get_running_loop().time() <= began + 0.6
        by_datagram = [query for query in server.queries if query not in server.over_tcp]
        assert list(map(is_lower, by_datagram)) == [False, True]
        server.queries.clear()
        server.answer = echo
        await resolve(f'other.{FOLDING}', TYPES.A)
        assert cases(server) == [rcode == RCODES.NOERROR]  # another absence is a difference


@on_every_loop
async def test_a_check_may_be_answered_over_tcp():
    def comparing(query):
        return reply_to(query, tc=1) if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(comparing, over_tcp=echo) as server:
        resolve, _ = resolver_of(server)
        for name in ('first', 'second'):
            assert texts(await resolve(f'{name}.{FOLDING}', TYPES.A)) == ['192.0.2.1']
        assert cases(server) == [False] + [True] * 4


@on_every_loop
async def test_a_check_does_not_stop_the_others_of_a_set():
    arrived = asyncio.Event()

    async def late(query):
        await arrived.wait()
        return echo(query)

    def denying(query):
        return None if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(denying) as one, Nameserver(late) as two:

        async def get_nameservers(fqdn):
            yield 0.5, one.nameserver, two.nameserver

        resolve, _ = Resolver(no_host, get_nameservers)
        task = asyncio.ensure_future(resolve(FOLDING, TYPES.A))
        await one.asked(2)
        await two.asked(1)
        assert not task.done()
        arrived.set()
        assert texts(await task) == ['192.0.2.1']


@on_every_loop
async def test_those_who_wait_for_a_check_go_on_when_it_is_given_up():
    def denying(query):
        return None if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(denying) as server:
        resolve, _ = resolver_of(server)
        tasks = [
            asyncio.ensure_future(resolve(f'{number}.{FOLDING}', TYPES.A)) for number in range(4)
        ]
        await server.asked(6)  # two of which are checks
        checked = {query.qd[0].name.decode() for query in server.queries if is_lower(query)}
        given_up = [number for number in range(4) if f'{number}.{FOLDING}' in checked]
        waiting = [number for number in range(4) if number not in given_up]
        tasks[waiting.pop()].cancel()  # one that waits may leave, too
        await settle()
        assert len([task for task in tasks if task.done()]) == 1
        for number in given_up:
            tasks[number].cancel()
        (last,) = waiting
        await server.asked(7)  # the checks that were given up do not count
        with pytest.raises(DoesNotExist):
            await in_time(tasks[last])
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.asked(7)


@on_every_loop
async def test_two_lookups_do_not_wait_for_each_other_after_their_checks():
    def nameserver(number):
        def answer(query):
            if not is_lower(query):
                first = query.qd[0].name.lower().startswith(number)
                return NXDOMAIN(query) if first else later(NXDOMAIN(query))
            return None  # to the checks

        return answer

    async def later(reply):
        await asyncio.sleep(0.1)
        return reply

    async with Nameserver(nameserver(b'1')) as one, Nameserver(nameserver(b'2')) as two:

        async def get_nameservers(fqdn):
            both = one.nameserver, two.nameserver
            yield 0.5, *(both[int(fqdn[:1]) - 1 :][:1] if b'spent' in fqdn else both)

        resolve, _ = Resolver(no_host, get_nameservers)
        # Each nameserver has one check left. Both lookups make one, and want the other one, too.
        spent = [f'{number}.spent.{FOLDING}' for number in (1, 2)]
        for names in (spent, [f'1.{FOLDING}', f'2.{FOLDING}']):
            outcomes = await outcomes_in_time(resolve, names, 4)
            assert [type(outcome) for outcome in outcomes.values()] == [DoesNotExist] * 2


@on_every_loop
async def test_who_waits_for_a_check_holds_no_socket_that_it_needs():
    def denying(query):
        return SERVFAIL(query) if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(denying) as one, Nameserver(bare(RCODES.SERVFAIL)) as two:

        async def get_nameservers(fqdn):
            yield 0.5, one.nameserver, *[two.nameserver] * (not fqdn.startswith(b'spent'))

        resolve, _ = Resolver(no_host, get_nameservers)
        with pytest.raises(DoesNotExist):  # one check is left
            await in_time(resolve(f'spent.{FOLDING}', TYPES.A))
        # Both are denied. One checks, and is to ask the second nameserver, too. The other one does
        # so while it waits for that check, and its socket goes on listening.
        with permits(1):
            outcomes = await outcomes_in_time(resolve, [f'1.{FOLDING}', f'2.{FOLDING}'], 4)
        assert [type(outcome) for outcome in outcomes.values()] == [DoesNotExist] * 2


@on_every_loop
async def test_a_check_that_its_caller_gives_up_does_not_count():
    def comparing(query):
        return echo(query) if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(lambda query: None if is_lower(query) else NXDOMAIN(query)) as server:
        resolve, _ = resolver_of(server)
        for number in range(3):
            task = asyncio.ensure_future(resolve(f'{number}.{FOLDING}', TYPES.A))
            await server.asked(2 * number + 2)
            task.cancel()
            await settle()
        server.answer = comparing
        assert texts(await resolve(FOLDING, TYPES.A)) == ['192.0.2.1']


@on_every_loop
async def test_a_check_does_not_count_if_another_nameserver_has_records_first():
    async def late(query):
        await asyncio.sleep(0.1)
        return echo(query)

    def comparing(query):
        return None if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(comparing) as one, Nameserver(late) as two:

        async def get_nameservers(fqdn):
            yield 0.5, one.nameserver, two.nameserver

        resolve, _ = Resolver(no_host, get_nameservers)
        for number in range(4):
            records = await in_time(resolve(f'{number}.{FOLDING}', TYPES.A))
            assert texts(records) == ['192.0.2.1']


@on_every_loop
async def test_the_absence_of_one_nameserver_is_not_compared_with_that_of_another():
    async def late(query):
        await asyncio.sleep(0.1 if is_lower(query) else 0.05)
        return NXDOMAIN(query)

    async with (
        Nameserver(late) as one,
        Nameserver(lambda query: None if is_lower(query) else later_still(query)) as two,
    ):

        async def later_still(query):
            await asyncio.sleep(0.1)
            return NODATA(query)

        async def get_nameservers(fqdn):
            yield 0.5, one.nameserver, two.nameserver

        resolve, _ = Resolver(no_host, get_nameservers)
        with pytest.raises(DoesNotExist):  # one, then two, then the check of one
            await in_time(resolve(FOLDING, TYPES.A), step=0.05)
        assert cases(one) == [False, True]
        assert cases(two)[0] is False
        one.queries.clear()
        with pytest.raises(DoesNotExist):
            await in_time(resolve(f'other.{FOLDING}', TYPES.A))
        assert cases(one)[0] is False


@on_every_loop
async def test_a_difference_proves_nothing_if_a_capital_has_brought_records_meanwhile():
    arrived = asyncio.Event()

    def changing(query):
        if query.qd[0].name.lower().startswith(b'changing'):
            return late(query) if is_lower(query) else NXDOMAIN(query)
        return echo(query)

    async def late(query):
        await arrived.wait()
        return echo(query)

    async with Nameserver(changing) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve(f'changing.{FOLDING}', TYPES.A))
        await server.asked(2)
        await resolve(f'first.{FOLDING}', TYPES.A)
        arrived.set()
        assert texts(await task) == ['192.0.2.1']
        await resolve(f'second.{FOLDING}', TYPES.A)
        assert cases(server) == [False, True, False, False]


def test_who_waits_for_a_check_does_not_keep_the_next_loop_from_making_one():
    class Lookup:
        def __init__(self, loop):
            self.loop = loop
            self.advanced = 0

        def advance_soon(self):
            assert self.loop != 'ended'
            self.advanced += 1

    case = module.LetterCase()
    first, second, waiting = [Lookup('ended') for _ in range(3)]
    assert case.begin_check(first, 0.0)
    assert case.begin_check(second, 0.0)
    assert not case.begin_check(waiting, 0.0)
    assert case.wait_for_checks(waiting)  # and the loop ends
    third, fourth = Lookup('next'), Lookup('next')
    assert not case.begin_check(third, 599.0)
    assert not case.wait_for_checks(third)
    assert case.begin_check(third, 600.0)
    assert case.begin_check(second, 600.0)  # as if it had gone on
    assert case.wait_for_checks(fourth)
    case.end_check(third, False)
    assert (waiting.advanced, fourth.advanced) == (0, 1)
    assert (case.checking, case.waiting) == ((), {})


@on_every_loop
async def test_a_transform_of_the_callers_is_checked_in_lower_case_too():
    def comparing(query):
        return echo(query) if is_lower(query) else NXDOMAIN(query)

    async with Nameserver(comparing) as server:
        resolve, _ = resolver_of(server, transform_fqdn=lambda fqdn: b'PREFIX.' + fqdn)
        with pytest.raises(DoesNotExist):  # echo's record is not about the name that was sent
            server.answer = NXDOMAIN
            await resolve('x.example', TYPES.A)
        assert server.queries[0].qd[0].name == b'PREFIX.x.example'
        assert server.queries[1].qd[0].name == b'prefix.x.example'


@on_every_loop
async def test_names_go_out_in_lower_case_over_streams():
    def comparing(query):
        return echo(query) if is_lower(query) else None

    async with Nameserver(answering(tc=1), over_tcp=comparing) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve(FOLDING, TYPES.A)) == ['192.0.2.1']
        assert cases(server) == [False, True]
        resolve, _ = Resolver(no_host, asking(server.tcp))
        assert texts(await resolve(f'other.{FOLDING}', TYPES.A)) == ['192.0.2.1']


@on_every_loop
async def test_silence_is_followed_by_lower_case_then_by_no_edns_then_by_both():
    async with Nameserver(silent) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(QueryTimeout):
            await in_time(resolve(FOLDING, TYPES.A))
        tried = list(zip(cases(server), map(has_edns, server.queries), strict=True))
        assert tried[:4] == [(False, True), (True, True), (False, False), (True, False)]
        now_saying(server, echo)
        await resolve(f'other.{FOLDING}', TYPES.A)
        server.queries.clear()
        now_saying(server, silent)  # to a capital it was not, so it is not about letter case
        with pytest.raises(QueryTimeout):
            await in_time(resolve(f'last.{FOLDING}', TYPES.A))
        assert not any(cases(server))
        assert list(map(has_edns, server.queries)) == [True] + [False] * 4


THREE = [a(b'x.example', f'192.0.2.{last}') for last in range(3)]


def truncated(query):
    """A reply with TC that ends in the middle of its third record."""
    return pack(reply_to(query, *THREE, tc=1, ar=()))[:-5]


@on_every_loop
@pytest.mark.parametrize('answer', [truncated, answering(tc=1)])
async def test_a_truncated_reply_is_asked_again_over_tcp(answer):
    async with Nameserver(answer, over_tcp=answering(*THREE)) as server:
        resolve, _ = resolver_of(server)
        for _ in range(2):  # and the answer is cached
            assert len(await resolve('x.example', TYPES.A)) == 3
        await server.asked(2)
        first, second = server.queries
        assert server.over_tcp == [second]
        assert first.qid != second.qid


@on_every_loop
async def test_an_absence_in_a_truncated_reply_is_asked_for_over_tcp():
    absent = {'rcode': RCODES.NXDOMAIN, 'ns': (soa(b'example'),)}
    async with Nameserver(answering(tc=1, **absent), over_tcp=answering(**absent)) as server:
        resolve, _ = resolver_of(server)
        for _ in range(2):
            with pytest.raises(DoesNotExist):
                await resolve('x.example', TYPES.A)
        await server.asked(2)


@on_every_loop
async def test_both_types_are_asked_again_on_one_stream():
    aaaa = rr(b'x.example', TYPES.AAAA, IPv6Address('2001:db8::1'))
    async with Nameserver(answering(tc=1), over_tcp=from_zone(*THREE, aaaa)) as server:
        settings = module.to_settings(no_host, asking(server.nameserver), mix_case)
        outcomes = await outcomes_of(settings, b'x.example', (TYPES.A, TYPES.AAAA))
        assert len(outcomes[TYPES.A].records) == 3
        assert texts(outcomes[TYPES.AAAA].records) == ['2001:db8::1']
        assert len(server.over_tcp) == 2
        assert len(server.streams) == 1


def in_pieces(query):
    """A reply over TCP, one octet at a time."""
    return [Raw([octet]) for octet in module.to_frame(pack(reply_to(query, *THREE)))]


@on_every_loop
async def test_a_reply_over_tcp_may_come_octet_by_octet():
    async with Nameserver(truncated, over_tcp=in_pieces) as server:
        resolve, _ = resolver_of(server)
        assert len(await resolve('x.example', TYPES.A)) == 3


# What a stream may do instead of bringing the answer.
TCP_FAULTS = {
    'refused': REFUSES,
    'closed at once': lambda query: HANG_UP,
    'closed in the length': lambda query: [Raw(b'\0'), HANG_UP],
    'closed in the message': lambda query: [Raw(in_pieces_of(query)[:20]), HANG_UP],
    'a length that lies': lambda query: [Raw(b'\0\x05' + pack(query)), HANG_UP],
    'an empty message': lambda query: [Raw(b'\0\0'), HANG_UP],
    'garbage': lambda query: [os.urandom(500), HANG_UP],
    'half a header': lambda query: pack(query)[:7],
    'the query': lambda query: query,
    'broken': lambda query: pack(reply_to(query, *THREE))[:-1],
    'an error': answering(rcode=RCODES.REFUSED),
    'without EDNS an error, too': answering(rcode=RCODES.FORMERR),
    'truncated': truncated,
}


def in_pieces_of(query):
    return b''.join(in_pieces(query))


@on_every_loop
@pytest.mark.parametrize('fault', TCP_FAULTS)
async def test_if_tcp_fails_the_whole_records_of_a_truncated_reply_are_given_uncached(fault):
    async with Nameserver(truncated, over_tcp=TCP_FAULTS[fault]) as server:
        resolve, _ = resolver_of(server)
        for _ in range(2):
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.0', '192.0.2.1']
        by_datagram = [query for query in server.queries if query not in server.over_tcp]
        assert len(by_datagram) == 2


@on_every_loop
@pytest.mark.parametrize(
    'fault', ['another id', 'another name', 'another type', 'silent', 'never whole']
)
async def test_if_tcp_brings_nothing_the_truncated_reply_is_used_at_the_end(fault):
    def over_tcp(query):
        reply = reply_to(query, a(b'x.example', '192.0.2.66'))
        question = reply.qd[0]
        return {
            'another id': reply._replace(qid=query.qid ^ 1),
            'another name': reply._replace(qd=(question._replace(name=b'y.example'),)),
            'another type': reply._replace(qd=(question._replace(qtype=TYPES.AAAA),)),
            'silent': None,
            'never whole': Raw(b'\xff\xff' + pack(reply)),
        }[fault]

    async with Nameserver(truncated, over_tcp=over_tcp) as server:
        resolve, _ = resolver_of(server)
        assert texts(await in_time(resolve('x.example', TYPES.A))) == ['192.0.2.0', '192.0.2.1']
        assert len(server.over_tcp) == 1


@on_every_loop
async def test_a_reply_over_tcp_that_is_broken_and_nothing_else_is_a_bad_response():
    async with Nameserver(answering(tc=1), over_tcp=TCP_FAULTS['broken']) as server:
        with pytest.raises(BadResponse) as raised:
            await Resolver(no_host, asking(server.tcp))[0]('x.example', TYPES.A)
        assert isinstance(raised.value.__cause__, MalformedMessage)
        with pytest.raises(Truncated):
            await resolver_of(server)[0]('x.example', TYPES.A)


@on_every_loop
@pytest.mark.parametrize('url', [False, True])
async def test_a_reply_over_tcp_may_take_longer_than_a_timeout(url):
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return reply_to(query, *THREE)

    async with Nameserver(truncated, over_tcp=late) as server:
        resolve, _ = Resolver(no_host, asking(server.tcp if url else server.nameserver))
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1 if url else 2)
        for _ in range(2):  # which is waited for, and not asked again
            turn(0.5)
            await settle()
        go_on.set()
        assert len(await task) == 3
        await server.asked(1 if url else 2)


@on_every_loop
async def test_what_a_stream_left_unanswered_as_it_closed_is_asked_on_a_new_one():
    aaaa = rr(b'x.example', TYPES.AAAA, IPv6Address('2001:db8::1'))
    answer = from_zone(*THREE, aaaa)
    one_each = Nameserver(answering(tc=1), over_tcp=lambda query: [answer(query), HANG_UP])
    async with one_each as server:
        settings = module.to_settings(no_host, asking(server.nameserver), mix_case)
        outcomes = await outcomes_of(settings, b'x.example', (TYPES.A, TYPES.AAAA))
        assert len(outcomes[TYPES.A].records) == 3
        assert texts(outcomes[TYPES.AAAA].records) == ['2001:db8::1']
        assert len(server.streams) == 2


@on_every_loop
@pytest.mark.parametrize('faults', [1, 2])
async def test_a_stream_that_closed_without_an_answer_is_opened_once_more(faults):
    def over_tcp(query):
        return HANG_UP if len(server.over_tcp) <= faults else reply_to(query, *THREE)

    async with Nameserver(truncated, over_tcp=over_tcp) as server:
        resolve, _ = resolver_of(server)
        assert len(await resolve('x.example', TYPES.A)) == (3 if faults == 1 else 2)
        assert len(server.over_tcp) == 2


@on_every_loop
async def test_the_truncated_reply_of_one_waits_for_the_stream_of_another():
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return reply_to(query, *THREE)

    async def get_nameservers(fqdn):
        yield 0.5, one.nameserver, two.nameserver

    one = Nameserver(truncated, over_tcp=late)
    async with one, Nameserver(truncated, over_tcp=REFUSES) as two:
        resolve, _ = Resolver(no_host, get_nameservers)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await one.asked(2)
        await two.asked(1)
        go_on.set()
        assert len(await task) == 3


@on_every_loop
async def test_an_error_over_tcp_after_a_folded_reply_is_not_forgotten():
    def folding(query):
        return None if is_lower(query) else folded(reply_to(query, a(FOLDING.encode())))

    servfail = answering(rcode=RCODES.SERVFAIL)
    async with Nameserver(folding, over_tcp=servfail) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(ResponseCode):
            await in_time(resolve(FOLDING, TYPES.A))


@on_every_loop
async def test_a_truncated_reply_without_a_record_of_use_is_truncated():
    truncated = answering(tc=1, rcode=RCODES.NXDOMAIN, ns=(soa(b'example'),))
    async with Nameserver(truncated) as one, Nameserver(answering(a(b'x.example'))) as two:
        resolve, _ = resolver_of(one)
        with pytest.raises(Truncated) as raised:
            await resolve('x.example', TYPES.A)
        assert raised.value.message.rcode == RCODES.NXDOMAIN
        resolve, _ = resolver_of(one, two)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']


SPF = [rr(b'x.example', TYPES.TXT, (b'v=spf1 ' + text,)) for text in (b'-all', b'+all', b'?all')]


@in_one_way
@pytest.mark.parametrize('fault', TCP_FAULTS)
async def test_if_tcp_fails_half_a_set_that_is_not_of_addresses_is_not_given(fault):
    def half(query):
        return pack(reply_to(query, *SPF, tc=1, ar=()))[:-5]

    over_tcp = half if TCP_FAULTS[fault] is truncated else TCP_FAULTS[fault]
    async with Nameserver(half, over_tcp=over_tcp) as one, Nameserver(answering(*SPF)) as two:
        with pytest.raises(ResponseCode if 'error' in fault else Truncated) as raised:
            await resolver_of(one)[0]('x.example', TYPES.TXT)
        if isinstance(raised.value, Truncated):
            assert raised.value.message.an == tuple(SPF[:2])
        resolve, _ = resolver_of(one, two)
        for _ in range(2):
            assert len(await resolve('x.example', TYPES.TXT)) == 3
        await two.asked(1)


@in_one_way
async def test_an_alias_in_a_truncated_reply_is_followed_for_addresses_only():
    def known(query):
        alias = query.qd[0].name.lower() == b'x.example'
        return reply_to(query, cname(b'x.example', b'y'), tc=1) if alias else of_target(query)

    of_target = from_zone(a(b'y'), rr(b'y', TYPES.TXT, (b'whole',)))
    async with Nameserver(known, over_tcp=REFUSES) as server:
        resolve, _ = resolver_of(server)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        with pytest.raises(Truncated):
            await resolve('x.example', TYPES.TXT)


def badvers(query):
    """What RFC 6891 has a server say to another version of EDNS."""
    return reply_to(query, ar=(ResourceRecord(b'', TYPES.OPT, 1232, 0x01000000, ()),))


def has_edns(query):
    return query.edns is not None


REFUSALS = {
    'FORMERR': answering(rcode=RCODES.FORMERR),
    'NOTIMP': answering(rcode=RCODES.NOTIMP, ar=()),
    'BADVERS': badvers,
}


@on_every_loop
@pytest.mark.parametrize('refusal', REFUSALS)
async def test_who_refuses_edns_is_asked_without_for_a_while(refusal):
    def answer(query):
        return REFUSALS[refusal](query) if has_edns(query) else reply_to(query, *THREE)

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        for asked, seconds in ((2, 60), (3, 600), (5, 0)):
            assert len(await resolve('x.example', TYPES.A)) == 3
            await server.asked(asked)
            turn(seconds)
        assert list(map(has_edns, server.queries)) == [True, False, False, True, False]


@on_every_loop
async def test_who_refuses_edns_over_tcp_is_asked_without_there_too():
    def answer(query):
        if has_edns(query):
            return reply_to(query, rcode=RCODES.FORMERR)
        return reply_to(query, *THREE)

    async with Nameserver(answer) as server:
        resolve, _ = Resolver(no_host, asking(server.tcp))
        assert len(await resolve('x.example', TYPES.A)) == 3
        assert list(map(has_edns, server.over_tcp)) == [True, False]
        assert len(server.streams) == 1


@on_every_loop
async def test_who_answers_without_edns_with_an_error_too_is_asked_with_it_next_time():
    async with Nameserver(answering(rcode=RCODES.NOTIMP)) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(ResponseCode):
            await resolve('x.example', TYPES.A)
        assert list(map(has_edns, server.queries)) == [True, False, False]
        server.answer = answering(*THREE)
        await resolve('x.example', TYPES.A)
        assert has_edns(server.queries[-1])


# An error without a question, which is easy to forge.

NO_QUESTION = pytest.mark.parametrize('rcode', sorted(module.MAY_LACK_QUESTION), ids=str)


def doubted(server, rcode, go_on, reply=echo, times=1):
    """An `answer`: at once an error without a question, and once it may go on, a reply."""

    async def answer(query):
        for _ in range(times):
            server().say(server().sources[-1], pack(bare(rcode)(query)))
        await go_on.wait()
        return reply(query)

    return answer


@on_every_loop
@NO_QUESTION
@pytest.mark.parametrize('rounds', [1, 5])
async def test_the_true_reply_wins_after_an_error_without_a_question(rcode, rounds):
    go_on = asyncio.Event()
    async with Nameserver(doubted(lambda: server, rcode, go_on)) as server:
        nameservers = asking(server.nameserver, rounds=rounds)
        resolve, _ = Resolver(no_host, nameservers)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        without_edns = rcode in (RCODES.FORMERR, RCODES.NOTIMP)
        await server.asked(min(rounds, 2) + without_edns)  # at once, all that there are
        turn(0.06)
        await settle()
        assert not task.done()
        go_on.set()
        assert texts(await task) == ['192.0.2.1']


@on_every_loop
@NO_QUESTION
@pytest.mark.parametrize('first', ['the next', 'the first'])
async def test_after_an_error_without_a_question_the_next_is_asked_and_either_may_win(
    rcode, first
):
    one_goes_on, two_goes_on = asyncio.Event(), asyncio.Event()

    async def slow(query):
        await two_goes_on.wait()
        return reply_to(query, a(b'x.example', '192.0.2.2'))

    one = Nameserver(doubted(lambda: one, rcode, one_goes_on))
    async with one, Nameserver(slow) as two:
        resolve, _ = resolver_of(one, two)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await two.asked(1)
        (two_goes_on if first == 'the next' else one_goes_on).set()
        assert texts(await task) == ['192.0.2.2' if first == 'the next' else '192.0.2.1']


@on_every_loop
@NO_QUESTION
@pytest.mark.parametrize('times', [1, 20])
async def test_an_error_without_a_question_is_told_if_nothing_else_comes(rcode, times):
    never = asyncio.Event()
    async with Nameserver(doubted(lambda: server, rcode, never, times=times)) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        count = 3 if rcode in (RCODES.FORMERR, RCODES.NOTIMP) else 2
        await server.asked(count)
        turn(0.49)
        await settle()
        assert not task.done()
        turn(0.01)  # of the last attempt
        with pytest.raises(ResponseCode, match=rf'\(attempts: {count}\)$') as raised:
            await task
        assert raised.value.rcode == rcode
        await server.asked(count)


@on_every_loop
async def test_an_error_without_a_question_is_told_beside_silence():
    async with Nameserver(bare(RCODES.REFUSED)) as one, Nameserver(silent) as two:
        with pytest.raises(ResponseCode, match=r'attempts: 7') as raised:
            await in_time(resolver_of(one, two)[0]('x.example', TYPES.A))
        assert isinstance(raised.value.__cause__, QueryTimeout)
        await one.asked(2)
        await two.asked(5)


@on_every_loop
async def test_an_error_without_a_question_waits_for_the_others_of_its_set():
    one_goes_on, two_goes_on = asyncio.Event(), asyncio.Event()

    async def slow(query):
        await two_goes_on.wait()
        return reply_to(query, rcode=RCODES.SERVFAIL)

    async def get_nameservers(fqdn):
        yield 0.5, one.nameserver, two.nameserver
        yield 0.5, three.nameserver

    one = Nameserver(doubted(lambda: one, RCODES.REFUSED, one_goes_on))
    async with one, Nameserver(slow) as two, Nameserver(silent) as three:
        resolve, _ = Resolver(no_host, get_nameservers)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await one.asked(1)
        await two.asked(1)
        await let_arrive()
        await settle()
        await three.asked(0)
        two_goes_on.set()
        await three.asked(1)
        one_goes_on.set()
        assert texts(await task) == ['192.0.2.1']


@on_every_loop
async def test_a_true_error_after_one_without_a_question_is_the_last_word_of_that_attempt():
    true = answering(rcode=RCODES.SERVFAIL)
    async with Nameserver(lambda query: [bare(RCODES.REFUSED)(query), true(query)]) as server:
        with pytest.raises(ResponseCode, match=r'attempts: 2') as raised:
            await resolver_of(server)[0]('x.example', TYPES.A)  # the clock stands still
        assert raised.value.rcode == RCODES.SERVFAIL
        await server.asked(2)


@on_every_loop
async def test_an_error_without_a_question_over_tcp_is_the_outcome():
    async with Nameserver(bare(RCODES.REFUSED)) as server:
        with pytest.raises(ResponseCode):
            await Resolver(no_host, asking(server.tcp))[0]('x.example', TYPES.A)
        await server.asked(2)


@in_one_way
@pytest.mark.parametrize('rcode', [RCODES.FORMERR, RCODES.NOTIMP])
async def test_who_refuses_edns_without_a_question_is_believed_after_three_names(rcode):
    def answer(query):
        return bare(rcode)(query) if has_edns(query) else echo(query)

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        for number in range(4):  # the clock stands still
            assert len(await resolve(f'{number}.example', TYPES.A)) == 1
        assert list(map(has_edns, server.queries)) == [True, False] * 3 + [False]
        turn(600)
        server.answer = lambda query: [bare(rcode)(query), echo(query)]  # forged
        for number in range(4):
            assert len(await resolve(f'forged{number}.example', TYPES.A)) == 1
        server.answer = echo
        await resolve('last.example', TYPES.A)
        assert has_edns(server.queries[-1])


@on_every_loop
async def test_an_error_without_a_question_does_not_show_that_a_nameserver_is_there():
    go_on = asyncio.Event()

    async def slow(query):
        await go_on.wait()
        return echo(query)

    async with Nameserver(silent) as one, Nameserver(slow) as two:
        resolve, _ = resolver_of(one, two)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await one.asked(1)
        turn(0.5)
        await two.asked(1)
        one.say(one.sources[0], pack(bare(RCODES.SERVFAIL)(one.queries[0])))
        await let_arrive()
        await settle()
        go_on.set()
        assert len(await task) == 1
        assert len(await resolve('y.example', TYPES.A)) == 1
        await one.asked(1)
        await two.asked(2)


# What silence may be about, and names that show it.
SILENT_TO = {
    'EDNS': has_edns,
    'capitals': lambda query: not is_lower(query),
    'both': lambda query: has_edns(query) or not is_lower(query),
}


def long_name(number):
    """One of names with so many letters that random case is never lower case."""
    return f'{number}.{FOLDING}'


def first_queries(server):
    """The first query for each name, in their order."""
    queries = {}
    for query in server.queries:
        queries.setdefault(query.qd[0].name.lower(), query)
    return list(queries.values())


# A lost packet looks like silence to EDNS and to capitals.
@in_one_way
@pytest.mark.parametrize('count', [1, 2])
async def test_loss_turns_nothing_off(count):
    def losing(query):
        is_first = server.names.count(query.qd[0].name.lower()) == 1
        return None if is_first else echo(query)

    async with Nameserver(losing) as server:
        resolve, _ = resolver_of(server)
        for number in range(count):
            assert len(await in_time(resolve(long_name(number), TYPES.A))) == 1
        server.answer = echo
        assert len(await resolve(long_name('last'), TYPES.A)) == 1
        assert has_edns(server.queries[-1])
        assert not is_lower(server.queries[-1])


@in_one_way
@pytest.mark.parametrize('about', SILENT_TO)
async def test_what_silence_suggests_is_remembered_after_three_names_in_a_row(about):
    dislikes = SILENT_TO[about]

    async with Nameserver(lambda query: None if dislikes(query) else echo(query)) as server:
        resolve, _ = resolver_of(server)
        for number in range(5):
            assert len(await in_time(resolve(long_name(number), TYPES.A))) == 1
        assert list(map(dislikes, first_queries(server))) == [True] * 3 + [False] * 2
        turn(600)
        assert len(await in_time(resolve(long_name('last'), TYPES.A))) == 1
        assert dislikes(first_queries(server)[-1])


@in_one_way
async def test_names_that_are_not_in_a_row_suggest_nothing():
    dislikes = has_edns

    def disliking(query):
        return None if dislikes(query) else echo(query)

    async with Nameserver(disliking) as server:
        resolve, _ = resolver_of(server)
        for number in range(7):
            server.answer = echo if number % 3 == 2 else disliking
            assert len(await in_time(resolve(long_name(number), TYPES.A))) == 1
        assert all(map(dislikes, first_queries(server)))


@in_one_way
async def test_names_with_capitals_that_are_not_in_a_row_suggest_nothing():
    def disliking(query):
        return echo(query) if is_lower(query) else None

    async with Nameserver(disliking) as server:
        resolve, _ = resolver_of(server)
        for number in range(7):
            is_third = number % 3 == 2
            server.answer = echo if is_third else disliking
            assert len(await in_time(resolve(long_name(number), TYPES.A))) == 1
            if is_third:
                turn(24 * 3600 + 61)  # until then it is trusted with capitals
        assert not any(map(is_lower, first_queries(server)))


@on_every_loop
async def test_an_answer_to_a_query_with_edns_counts_though_one_without_was_sent():
    go_on = asyncio.Event()

    async def slow(query):
        if has_edns(query):
            await go_on.wait()
            return reply_to(query, *THREE)
        return None

    async with Nameserver(slow) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        turn(0.5)
        await server.asked(2)
        go_on.set()
        assert len(await task) == 3
        turn(60)
        await resolve('x.example', TYPES.A)
        assert has_edns(server.queries[-1])


@on_every_loop
@pytest.mark.parametrize('trust_ad', [False, True])
async def test_queries_have_the_ad_bit_if_the_system_trusts_it(trust_ad):
    def answer(query):
        if has_edns(query):
            return reply_to(query, rcode=RCODES.NOTIMP)
        return reply_to(query, *THREE, tc=int(query not in server.over_tcp))

    async with Nameserver(answer) as server:
        settings = module.to_settings(no_host, asking(server.nameserver), mix_case)
        settings.config.use(module.Conf(trust_ad=trust_ad))
        outcomes = await outcomes_of(settings, b'x.example', (TYPES.A,))
        assert len(outcomes[TYPES.A].records) == 3
        assert list(map(has_edns, server.queries)) == [True, False, False]
        assert [query.ad for query in server.queries] == [trust_ad] * 3


EDE = ResourceRecord(b'', TYPES.OPT, 1232, 0, ((15, b'\0\7sig\x1b expired'),))


@on_every_loop
@pytest.mark.parametrize(
    'fields, error',
    [
        ({'rcode': RCODES.SERVFAIL}, ResponseCode),
        ({'rcode': RCODES.NXDOMAIN}, DoesNotExist),
        ({}, DoesNotExist),
        ({'ra': 0}, BadResponse),
    ],
)
async def test_the_text_of_an_error_has_the_extended_error(fields, error):
    async with Nameserver(answering(ar=(EDE,), **fields)) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(error) as raised:
            await resolve('x.example', TYPES.A)
        assert 'Signature-Expired' in str(raised.value).title().replace('_', '-')
        assert 'sig\\x1b expired' in str(raised.value)


@on_every_loop
async def test_what_a_server_writes_of_an_error_is_bounded():
    many = tuple((15, b'\0\0' + b'x' * 500) for _ in range(50))
    refused = answering(rcode=RCODES.REFUSED, ar=(EDE._replace(rdata=many),))
    async with Nameserver(refused) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(ResponseCode) as raised:
            await resolve('x.example', TYPES.A)
        assert 500 < len(str(raised.value)) < 1200


# Of RFC 6891 6.1.1 the root owns it; that of another name is a record like any other.
@in_one_way
@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
@pytest.mark.parametrize(
    'records',
    [
        (opt(b'x', 0x01000000),),  # BADVERS
        (opt(b'x', 0x01000000), opt()),
        (opt(), opt(b'x', 0x01000000)),
        (opt(b'x', 0, (11, b'\0\0')),),  # to be closed at once, RFC 7828
    ],
    ids=['alone', 'before that of the root', 'after it', 'with an option'],
)
async def test_an_opt_of_another_name_than_the_root_is_not_read(scheme, records):
    async with Nameserver(lambda query: echo(query)._replace(ar=records)) as server:
        resolve, _ = over(url_of(scheme, server))
        for count, name in enumerate(('x.example', 'y.example'), 1):
            assert texts(await resolve(name, TYPES.A)) == ['192.0.2.1']
            await server.asked(count)
            assert has_edns(server.queries[-1])
        assert len(server.streams) == (scheme == 'tcp')


@in_one_way
async def test_an_extended_error_of_another_name_than_the_root_is_not_told():
    foreign = EDE._replace(name=b'x')
    async with Nameserver(answering(ar=(foreign,), rcode=RCODES.SERVFAIL)) as server:
        with pytest.raises(ResponseCode) as raised:
            await resolver_of(server)[0]('x.example', TYPES.A)
        assert 'expired' not in str(raised.value)


@on_every_loop
@pytest.mark.parametrize('refusing', [False, True])
async def test_a_dead_first_nameserver_costs_its_timeout_once(refusing):
    dead = Nameserver(lambda query: None)
    async with dead, Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        first = closed_port() if refusing else dead.nameserver
        resolve, _ = Resolver(no_host, asking(first, server.nameserver))
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        if not refusing:
            await dead.asked(1)
            turn(0.5)
        await task
        for number in range(100):  # the clock stands still
            assert len(await resolve(f'{number}.example', TYPES.A)) == 1
        await dead.asked(0 if refusing else 1)
        await server.asked(101)


@on_every_loop
async def test_one_query_at_a_time_finds_out_whether_a_dead_nameserver_is_up_again():
    dead = Nameserver(lambda query: None)
    async with dead, Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = resolver_of(dead, server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await dead.asked(1)
        turn(0.5)
        await task
        turn(30)
        tasks = [asyncio.ensure_future(resolve(f'{i}.example', TYPES.A)) for i in range(50)]
        await dead.asked(2)
        await server.asked(50)
        turn(0.5)
        await asyncio.gather(*tasks)
        turn(30)
        dead.answer = server.answer
        await resolve('y.example', TYPES.A)
        await asyncio.gather(*[resolve(f'y{i}.example', TYPES.A) for i in range(50)])
        await server.asked(51)
        assert len(dead.queries) == 53


@on_every_loop
async def test_a_nameserver_that_responds_late_is_not_unresponsive():
    go_on = asyncio.Event()

    async def late(query):
        await go_on.wait()
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(late) as slow, Nameserver(lambda query: None) as silent:
        resolve, _ = resolver_of(slow, silent)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await slow.asked(1)
        turn(0.5)
        await silent.asked(1)
        go_on.set()
        assert len(await task) == 1
        assert len(await resolve('y.example', TYPES.A)) == 1
        await slow.asked(2)


@on_every_loop
async def test_a_nameserver_that_answers_others_is_not_unresponsive_for_a_name_that_takes_long():
    def answer(query):
        name = query.qd[0].name
        return None if name.lower() == b'slow.example' else reply_to(query, a(name))

    async with Nameserver(answer) as one, Nameserver(answering(rcode=RCODES.NXDOMAIN)) as two:
        resolve, _ = resolver_of(one, two, transform_fqdn=as_it_is)
        task = asyncio.ensure_future(resolve('slow.example', TYPES.A))
        await one.asked(1)
        turn(0.4)
        assert len(await resolve('x.example', TYPES.A)) == 1
        turn(0.1)
        with pytest.raises(DoesNotExist):
            await task
        assert len(await resolve('y.example', TYPES.A)) == 1
        await two.asked(1)


@on_every_loop
async def test_a_nameserver_that_responds_with_an_error_is_not_unresponsive_any_more():
    def answer(query):
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(silent) as one, Nameserver(answer) as two:
        resolve, _ = resolver_of(one, two)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await one.asked(1)
        turn(0.5)
        await task
        turn(30)
        one.answer = answering(rcode=RCODES.SERVFAIL)
        for number, asked in enumerate([2, 3, 4]):  # each time first of all
            await resolve(f'{number}.example', TYPES.A)
            await one.asked(asked)


@on_every_loop
@pytest.mark.parametrize('number', [errno.ENOBUFS, errno.EADDRNOTAVAIL])
async def test_a_nameserver_is_not_unresponsive_for_what_this_machine_lacks(monkeypatch, number):
    def lacking(server, *rest):
        if server.address == one.nameserver:
            raise OSError(number, os.strerror(number))
        return open_socket(server, *rest)

    def answer(query):
        return reply_to(query, a(query.qd[0].name))

    open_socket = module.open_socket
    async with Nameserver(answer) as one, Nameserver(answer) as two:
        resolve, _ = resolver_of(one, two)
        with monkeypatch.context() as patch:
            patch.setattr(module, 'open_socket', lacking)
            await resolve('x.example', TYPES.A)
        await two.asked(1)
        await resolve('y.example', TYPES.A)
        await one.asked(1)


@on_every_loop
async def test_other_spellings_of_a_nameserver_are_no_other_nameservers():
    async def get_nameservers(fqdn):
        for host in ('127.0.0.1', IPv4Address('127.0.0.1')):
            yield 0.5, (host, server.port)
            yield 0.5, f'udp://127.0.0.1:{server.port}'
            yield 0.5, f'udp://[127.0.0.1]:{server.port}'

    async with Nameserver(answering(rcode=RCODES.SERVFAIL)) as server:
        resolve, _ = Resolver(no_host, get_nameservers)
        with pytest.raises(ResponseCode):
            await resolve('x.example', TYPES.A)
        await server.asked(2)


@on_every_loop
async def test_when_all_are_unresponsive_they_are_asked_all_the_same():
    silent = Nameserver(lambda query: None)
    async with silent, Nameserver(lambda query: None) as two:
        resolve, _ = resolver_of(silent, two)
        for asked in (5, 10):
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            for _ in range(10):
                await settle()
                turn(0.5)
            with pytest.raises(QueryTimeout):
                await task
            await silent.asked(asked)
            await two.asked(asked)
        silent.answer = answering(a(b'x.example'))
        assert len(await resolve('x.example', TYPES.A)) == 1  # at once, after one round
        assert len(silent.queries) == 11


@on_every_loop
@pytest.mark.parametrize('count', [1, 2])
async def test_a_timeout_that_grows_grows_for_unresponsive_nameservers_too(count):
    async def get_nameservers(fqdn):
        for timeout in (0.5, 0.5, 8):
            for server in servers:
                yield timeout, server.nameserver

    async def late(query):
        await go_on.wait()
        return echo(query)

    go_on = asyncio.Event()
    async with Nameserver(silent) as one, Nameserver(silent) as two:
        servers = [one, two][:count]
        resolve, _ = Resolver(no_host, get_nameservers)
        with pytest.raises(QueryTimeout):
            await in_time(resolve('x.example', TYPES.A))
        for server in servers:
            server.answer = late
        task = asyncio.ensure_future(resolve('y.example', TYPES.A))
        for _ in range(12):
            await settle()
            turn(0.5)
        assert not task.done()
        go_on.set()
        assert texts(await task) == ['192.0.2.1']


@on_every_loop
async def test_an_unresponsive_one_is_asked_when_the_generator_ends():
    async def get_nameservers(fqdn):
        yield 0.5, server.nameserver

    async with Nameserver(lambda query: None) as server:
        resolve, _ = Resolver(no_host, get_nameservers)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        turn(0.5)
        with pytest.raises(QueryTimeout):
            await task
        server.answer = answering(a(b'x.example'))
        assert len(await resolve('x.example', TYPES.A)) == 1


@on_every_loop
async def test_a_set_with_one_that_is_not_unresponsive_is_asked_as_it_is():
    async def get_nameservers(fqdn):
        yield 0.5, dead.nameserver
        yield 0.5, dead.nameserver, server.nameserver

    dead = Nameserver(lambda query: None)
    async with dead, Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = Resolver(no_host, get_nameservers)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await dead.asked(1)
        turn(0.5)
        await task
        await resolve('y.example', TYPES.A)
        await dead.asked(3)


@on_every_loop
@pytest.mark.parametrize('rcode', [RCODES.SERVFAIL, RCODES.REFUSED])
async def test_a_nameserver_that_responds_with_an_error_is_not_unresponsive(rcode):
    async with Nameserver(answering(rcode=rcode)) as one, Nameserver(answering(*THREE)) as two:
        resolve, _ = resolver_of(one, two)
        for asked in (1, 2):
            await resolve('x.example', TYPES.A)
            await one.asked(asked)
            turn(60)


@on_every_loop
async def test_a_failed_stream_says_nothing_of_datagrams():
    async with Nameserver(truncated, over_tcp=REFUSES) as one, Nameserver(truncated) as two:
        resolve, _ = resolver_of(one, two)
        for asked in (1, 2, 3):
            await resolve('x.example', TYPES.A)
            await one.asked(asked)
        await two.asked(0)


@on_every_loop
async def test_a_nameserver_may_be_asked_over_tcp_only():
    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:

        async def get_nameservers(fqdn):
            yield 0.5, f'udp://127.0.0.1:{server.port}', server.tcp

        resolve, _ = Resolver(no_host, asking(server.tcp))
        for _ in range(2):
            assert len(await resolve('x.example', TYPES.A)) == 1
        assert len(server.over_tcp) == 1
        resolve, _ = Resolver(no_host, get_nameservers)
        assert len(await resolve('x.example', TYPES.A)) == 1
        await settle()
        assert len(server.queries) in (2, 3)  # one was the first to answer


@on_every_loop
@pytest.mark.parametrize('over_tcp', [REFUSES, lambda query: None])
async def test_a_nameserver_that_is_dead_over_tcp_costs_its_timeout_once(over_tcp):
    dead = Nameserver(answering(), over_tcp=over_tcp)
    async with dead, Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = Resolver(no_host, asking(dead.tcp, server.tcp))
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await settle()
        turn(0.5)
        await task
        for number in range(10):
            assert len(await resolve(f'{number}.example', TYPES.A)) == 1
        assert len(dead.queries) <= 1
        with pytest.raises((SocketError, QueryTimeout)) as raised:
            await in_time(Resolver(no_host, asking(dead.tcp))[0]('x.example', TYPES.A))
        assert 'over TCP' in str(raised.value)


OUTAGES = {
    'silence': silent,
    'SERVFAIL': answering(rcode=RCODES.SERVFAIL),
    'REFUSED': bare(RCODES.REFUSED),
    'lame': answering(ra=0),
    'truncated': answering(tc=1),
}


@on_every_loop
@pytest.mark.parametrize('outage', OUTAGES)
async def test_an_expired_answer_is_given_when_every_nameserver_failed(outage, caplog):
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = resolver_of(server, serve_stale=3600)
        await resolve('x.example', TYPES.A)
        turn(60)
        server.answer = server.answer_over_tcp = OUTAGES[outage]
        both = await in_time(asyncio.gather(*[resolve('x.example', TYPES.A) for _ in range(2)]))
        now = asyncio.get_running_loop().time()
        (address,) = both[0]
        assert str(address) == '192.0.2.1'
        assert now - 0.1 <= address.expires_at - 30 <= now  # when the last attempt timed out
        assert both[0] == both[1]
        (record,) = [record for record in caplog.records if record.name == 'aiodnsresolver']
        assert record.levelname == 'WARNING'
        assert 'x.example. A' in record.getMessage()
        asked = len(server.queries)
        turn(29.8)
        assert await resolve('x.example', TYPES.A) == both[0]
        await server.asked(asked)
        turn(0.2)
        server.answer = answering(a(b'x.example', '192.0.2.2', ttl=60))
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.2']
        await server.asked(asked + 1)


@on_every_loop
async def test_an_expired_answer_is_not_given_for_longer_however_often_it_is():
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = resolver_of(server, serve_stale=100)
        await resolve('x.example', TYPES.A)
        server.answer = answering(rcode=RCODES.SERVFAIL)
        turn(60)
        for _ in range(4):  # 0, 30, 60 and 90 s after it expired
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
            turn(30)
        with pytest.raises(ResponseCode):
            await resolve('x.example', TYPES.A)


@on_every_loop
@pytest.mark.parametrize('arguments', [{}, {'serve_stale': 0}, {'serve_stale': float('nan')}])
async def test_an_expired_answer_is_not_given_unless_that_is_asked_for(arguments):
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = resolver_of(server, **arguments)
        await resolve('x.example', TYPES.A)
        server.answer = answering(rcode=RCODES.SERVFAIL)
        turn(60)
        with pytest.raises(ResponseCode):
            await resolve('x.example', TYPES.A)


@on_every_loop
@pytest.mark.parametrize('serve_stale', [10**400, float('inf')])
async def test_an_expired_answer_may_be_given_for_a_very_long_time(serve_stale):
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = resolver_of(server, serve_stale=serve_stale)
        await resolve('x.example', TYPES.A)
        turn(30 * 24 * 3600)
        server.answer = answering(rcode=RCODES.SERVFAIL)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']


@pytest.mark.parametrize('serve_stale', [None, '60', b''])
def test_serve_stale_is_a_number(serve_stale):
    with pytest.raises(TypeError):
        Resolver(serve_stale=serve_stale)


@on_every_loop
async def test_an_absence_is_no_failure_and_is_not_given_once_it_has_expired():
    absent = answering(rcode=RCODES.NXDOMAIN, ns=(soa(b'example'),))
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = resolver_of(server, serve_stale=3600)
        await resolve('x.example', TYPES.A)
        turn(60)
        server.answer = absent
        with pytest.raises(DoesNotExist):
            await resolve('x.example', TYPES.A)
        turn(60)
        server.answer = answering(rcode=RCODES.SERVFAIL)
        with pytest.raises(ResponseCode):
            await resolve('x.example', TYPES.A)


@on_every_loop
@pytest.mark.parametrize(
    'answer', [answering(rcode=RCODES.NXDOMAIN), answering(a(b'x.example', '192.0.2.2', ttl=0))]
)
async def test_what_is_not_kept_still_takes_the_place_of_what_was_known_before(answer):
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = resolver_of(server, serve_stale=3600)
        await resolve('x.example', TYPES.A)
        turn(60)
        server.answer = answer
        with contextlib.suppress(DoesNotExist):
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.2']
        server.answer = answering(rcode=RCODES.SERVFAIL)
        with pytest.raises(ResponseCode):
            await resolve('x.example', TYPES.A)


@on_every_loop
async def test_a_chain_across_replies_is_given_when_all_of_it_has_expired():
    zone = cname(b'a', b'b', 50), cname(b'b', b'c', 40), a(b'c', ttl=90)
    async with Nameserver(from_zone(*zone)) as server:
        resolve, _ = resolver_of(server, serve_stale=3600)
        await resolve('a', TYPES.A)
        turn(90)
        server.answer = answering(rcode=RCODES.SERVFAIL)
        for _ in range(2):
            (address,) = await resolve('a', TYPES.A)
            assert (str(address), address.expires_at) == ('192.0.2.1', 1120.0)
        assert server.names[3:] == [b'a', b'a', b'b', b'b', b'c', b'c']  # twice each, and once


@on_every_loop
async def test_what_was_forgotten_is_not_given_again():
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, clear_cache = resolver_of(server, serve_stale=3600)
        await resolve('x.example', TYPES.A)
        turn(60)
        server.answer = silent
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(2)
        clear_cache()
        with pytest.raises(QueryTimeout):
            await in_time(task)


@on_every_loop
async def test_what_is_no_failure_of_a_nameserver_is_raised_though_there_is_an_expired_answer():
    async def get_nameservers(fqdn):
        if failing:
            raise QueryTimeout('of the caller')
        yield 0.5, server.nameserver

    failing = False
    async with Nameserver(answering(a(b'x.example', ttl=60))) as server:
        resolve, _ = Resolver(no_host, get_nameservers, serve_stale=3600)
        await resolve('x.example', TYPES.A)
        turn(60)
        failing = True
        with pytest.raises(QueryTimeout, match='of the caller'):
            await resolve('x.example', TYPES.A)
        failing = False
        server.answer = silent
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@on_every_loop
async def test_with_a_third_of_the_exchanges_lost_two_nameservers_answer_nearly_all_names():
    chance = random.Random(7)

    def lossy(query):  # a lost query and a lost reply look the same from here
        return reply_to(query, a(query.qd[0].name)) if chance.random() < 0.7 else None

    async with Nameserver(lossy) as one, Nameserver(lossy) as two:
        resolve, _ = resolver_of(one, two)
        names = names_of(1000)
        asked = asyncio.gather(*[resolve(n, TYPES.A) for n in names], return_exceptions=True)
        outcomes = await in_time(asked)
        assert sum(isinstance(outcome, tuple) for outcome in outcomes) >= 999
        one_by_one = [await in_time(resolve(f'y{n}', TYPES.A)) for n in names[:100]]
        assert len(one_by_one) == 100


@on_every_loop
@pytest.mark.parametrize('count', [1, 2])
async def test_a_link_with_700_ms_of_delay_resolves_and_goes_on_resolving(count):
    async def far(query):
        await asyncio.sleep(0.7)
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(far) as one, Nameserver(far) as two:
        resolve, _ = resolver_of(*[one, two][:count])
        for number in range(20):
            assert len(await in_time(resolve(f'{number}.example', TYPES.A), 2)) == 1
        names = names_of(100, 'net')
        await in_time(asyncio.gather(*[resolve(name, TYPES.A) for name in names]), 2)
        await in_time(asyncio.sleep(2))


@on_every_loop
async def test_a_silent_nameserver_is_followed_by_the_next_after_the_timeout():
    silent = Nameserver(lambda query: None)
    async with silent, Nameserver(answering(a(b'x.example'))) as server:
        resolve, _ = resolver_of(silent, server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await silent.asked(1)
        turn(0.49)
        await server.asked(0)
        turn(0.01)
        assert texts(await task) == ['192.0.2.1']


@on_every_loop
async def test_a_link_slower_than_one_timeout_still_resolves():
    go_on = asyncio.Event()

    async def answer(query):
        if len(server.queries) > 1:
            return None
        await go_on.wait()
        return reply_to(query, a(b'x.example', ttl=10))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        turn(0.5)
        await server.asked(2)
        go_on.set()
        (address,) = await task
        assert address.expires_at == 1010.0  # from when the first was sent


@on_every_loop
async def test_when_every_nameserver_refuses_the_error_comes_at_once():
    one, two = closed_port(), closed_port()
    resolve, _ = Resolver(no_host, asking(one, two))
    with pytest.raises(SocketError) as raised:
        await resolve('x.example', TYPES.A)
    assert raised.value.errno == 111
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert f':{two[1]}' in str(raised.value)
    assert 'attempts: 4' in str(raised.value)


@on_every_loop
async def test_a_refused_port_moves_on_at_once_and_is_asked_once_more():
    refused = closed_port()
    async with Nameserver(lambda query: None) as server:
        resolve, _ = Resolver(no_host, asking(refused, server.nameserver))
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        for attempt in range(5):
            await server.asked(attempt + 1)
            turn(0.5)
        with pytest.raises(QueryTimeout) as raised:
            await task
        assert 'attempts: 7' in str(raised.value)


@on_every_loop
async def test_a_nameserver_that_cannot_be_reached_moves_on_at_once():
    async with Nameserver(answering(a(b'x.example'))) as server:
        for unreachable in (('fe80::1%nosuch', 53), ('255.255.255.255', 53)):
            resolve, _ = Resolver(no_host, asking(unreachable, server.nameserver))
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
            resolve, _ = Resolver(no_host, asking(unreachable))
            with pytest.raises(SocketError):
                await resolve('x.example', TYPES.A)


@on_every_loop
async def test_the_error_that_says_most_is_raised():
    answers = {
        ResponseCode: answering(rcode=RCODES.REFUSED),
        Truncated: answering(tc=1),
        BadResponse: answering(ra=0),
        QueryTimeout: lambda query: None,
    }
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Nameserver(each)) for each in answers.values()]
        nameservers = [server.nameserver for server in servers] + [closed_port()]
        errors = [*answers, SocketError]
        for at, expected in enumerate(errors):
            for order in (nameservers[at:], nameservers[at:][::-1]):
                resolve, _ = Resolver(no_host, asking(*order, timeout=0))
                task = asyncio.ensure_future(resolve('x.example', TYPES.A))
                while not task.done():
                    await settle()
                    await asyncio.sleep(0)
                    if nameservers[3] in order:
                        await let_arrive()
                        turn(0)
                with pytest.raises(expected):
                    await task


@on_every_loop
async def test_an_error_tells_all_attempts_and_what_went_wrong_last():
    async with Nameserver(silent) as server:
        resolve, _ = resolver_of(server)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        server.close(server.sock)  # from now on the port is closed
        turn(0.5)
        with pytest.raises(QueryTimeout) as raised:
            await task
    where = f'127.0.0.1:{server.port}'
    refused = os.strerror(errno.ECONNREFUSED)
    assert str(raised.value) == (
        f'x.example. A from {where}: no usable reply in time (attempts: 3)'
        f'; other failures: {where}: {refused}'
    )
    cause = raised.value.__cause__
    assert isinstance(cause, SocketError)
    assert cause.errno == errno.ECONNREFUSED
    assert isinstance(cause.__cause__, ConnectionRefusedError)


@on_every_loop
@pytest.mark.parametrize('is_last', [False, True])
@pytest.mark.parametrize('fault', ['closed port', 'closed port over TCP', 'unreachable', 'lame'])
async def test_an_error_tells_what_went_wrong_beside_silence(fault, is_last):
    async with Nameserver(silent) as server, Nameserver(answering(ra=0)) as lame:
        address, port = closed_port()
        other, told = {
            'closed port': ((address, port), f'{address}:{port}: Connection refused'),
            'closed port over TCP': (
                f'tcp://{address}:{port}',
                f'{address}:{port} over TCP: Connect',  # and more, by the loop
            ),
            'unreachable': (
                ('fe80::1%nosuch', 53),
                '[fe80::1%nosuch]:53: There is no network interface',
            ),
            'lame': (lame.nameserver, 'The server is lame'),
        }[fault]
        order = [server.nameserver, other]
        resolve, _ = Resolver(no_host, asking(*(order if is_last else order[::-1]), rounds=1))
        expected = BadResponse if fault == 'lame' else QueryTimeout
        with pytest.raises(expected, match=r'\(attempts: 2\); other failures: ') as raised:
            await in_time(resolve('x.example', TYPES.A))
        assert told in str(raised.value)
        assert f'127.0.0.1:{server.port}: no usable reply in time' in str(raised.value)
        is_told_last = is_last if fault != 'lame' else not is_last
        last = QueryTimeout if fault == 'lame' else SocketError
        assert isinstance(raised.value.__cause__, last if is_told_last else type(None))


@on_every_loop
@pytest.mark.parametrize('scheme', SECURE)
async def test_an_error_tells_of_a_certificate_that_did_not_pass_beside_silence(authority, scheme):
    async with SECURE[scheme](authority, echo) as private, Nameserver(silent) as server:
        url = f'{scheme}://127.0.0.1:{private.port}#dns.example'
        resolve, _ = Resolver(no_host, asking(server.nameserver, url, rounds=1))
        with pytest.raises(QueryTimeout, match=rf'over {scheme.upper()}: .*CERTIFICATE') as raised:
            await in_time(resolve('x.example', TYPES.A))
        assert isinstance(raised.value.__cause__, SocketError)
        assert isinstance(raised.value.__cause__.__cause__, ssl.SSLCertVerificationError)


@on_every_loop
async def test_an_error_tells_of_some_others_and_how_many_more_there_are():
    others = [closed_port() for _ in range(8)]
    async with Nameserver(answering(rcode=RCODES.SERVFAIL)) as server:
        resolve, _ = Resolver(no_host, asking(server.nameserver, *others, rounds=1))
        with pytest.raises(ResponseCode, match=r'attempts: 9') as raised:
            await resolve('x.example', TYPES.A)
        assert [f':{port}: ' in str(raised.value) for _, port in others] == [False] * 4 + [
            True
        ] * 4
        assert str(raised.value).endswith('; and 4 more')
        assert f':{others[-1][1]}: ' in str(raised.value.__cause__)


@on_every_loop
@pytest.mark.parametrize('fault', ['another id', 'another case'])
async def test_a_timeout_tells_what_was_dropped_though_the_last_attempt_dropped_nothing(fault):
    def answer(query):
        if len(server.queries) > 1:
            return None
        return folded(echo(query)) if fault == 'another case' else wrong_id(query)

    async with Nameserver(answer, over_tcp=silent) as server:
        with pytest.raises(QueryTimeout) as raised:
            await in_time(resolver_of(server)[0](FOLDING, TYPES.A))
        assert isinstance(raised.value.__cause__, BadResponse)
        assert fault.removeprefix('another ') in str(raised.value.__cause__)


@on_every_loop
async def test_an_error_after_a_refusal_of_edns_is_that_refusal():
    async with Nameserver(lambda query: badvers(query) if has_edns(query) else None) as server:
        with pytest.raises(ResponseCode) as raised:
            await in_time(resolver_of(server)[0]('x.example', TYPES.A))
        assert raised.value.rcode == RCODES.BADVERS
        assert isinstance(raised.value.__cause__, QueryTimeout)


async def let_arrive():
    """Lets the packets that are on their way in loopback arrive and be read."""
    for _ in range(5):
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.001)


@on_every_loop
async def test_those_of_one_set_are_asked_at_once_and_the_first_good_reply_counts():
    silent = Nameserver(lambda query: None)
    failing = Nameserver(answering(rcode=RCODES.SERVFAIL))
    good = Nameserver(answering(a(b'x.example')))

    async def get_nameservers(fqdn):
        yield 0.5, silent.nameserver, failing.nameserver, closed_port(), good.nameserver

    async with silent, failing, good:
        resolve, _ = Resolver(no_host, get_nameservers)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        await silent.asked(1)
        await failing.asked(1)
        nxdomain = Nameserver(answering(rcode=RCODES.NXDOMAIN))
        async with nxdomain:
            good = nxdomain
            with pytest.raises(DoesNotExist):
                await resolve('y.example', TYPES.A)


@on_every_loop
async def test_at_most_100_sets_are_taken_and_the_generator_is_closed():
    taken = []

    async def get_nameservers(fqdn):
        try:
            while True:
                taken.append(fqdn)
                yield 0.5, nameserver
        finally:
            taken.append('closed')

    nameserver = closed_port()
    resolve, _ = Resolver(no_host, get_nameservers)
    with pytest.raises(SocketError):
        await resolve('X.Example.', TYPES.A)
    assert taken == [b'x.example'] * 100 + ['closed']
    async with Nameserver(answering(a(b'x.example'))) as server:
        taken.clear()
        nameserver = server.nameserver
        await resolve('x.example', TYPES.A)
        assert taken == [b'x.example', 'closed']
        server.answer = lambda query: None
        taken.clear()
        task = asyncio.ensure_future(resolve('y.example', TYPES.A))
        await server.asked(2)
        task.cancel()
        await asyncio.wait([task])
        assert taken == [b'y.example', 'closed']


@on_every_loop
async def test_without_a_nameserver_there_is_an_error():
    async def none(fqdn):
        return
        yield

    async def empty(fqdn):
        yield (0.5,)

    for get_nameservers in (none, empty):
        resolve, _ = Resolver(no_host, get_nameservers)
        with pytest.raises(ResolverError):
            await resolve('x.example', TYPES.A)


@on_every_loop
@pytest.mark.parametrize(
    'yielded, error',
    [
        (('x', ('127.0.0.1', 53)), TypeError),
        ((None, ('127.0.0.1', 53)), TypeError),
        ((0.5, ('localhost', 53)), InvalidName),
        ((0.5, '127.0.0.1'), InvalidName),
        ((0.5, ['127.0.0.1', 53]), TypeError),
        ((0.5, ('127.0.0.1', 'domain')), TypeError),
        ((), TypeError),
    ],
    ids=repr,
)
async def test_a_generator_that_yields_something_else_is_told_so(yielded, error):
    async def get_nameservers(fqdn):
        yield yielded

    resolve, _ = Resolver(no_host, get_nameservers)
    with pytest.raises(error):
        await resolve('x.example', TYPES.A)


@on_every_loop
@pytest.mark.parametrize('fails', [False, True])
async def test_what_comes_while_the_next_set_is_thought_of_counts(fails):
    thinking, go_on = asyncio.Event(), asyncio.Event()

    async def late(query):
        await thinking.wait()
        return reply_to(query, *([] if fails else [a(b'x.example')]), rcode=2 if fails else 0)

    async def get_nameservers(fqdn):
        yield 0.5, slow.nameserver
        thinking.set()
        await go_on.wait()
        if fails:
            yield 0.5, good.nameserver

    good = Nameserver(answering(a(b'x.example', '192.0.2.2')))
    async with Nameserver(late) as slow, good:
        resolve, _ = Resolver(no_host, get_nameservers)
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await slow.asked(1)
        turn(0.5)
        await thinking.wait()
        await let_arrive()
        go_on.set()
        assert texts(await task) == ['192.0.2.2' if fails else '192.0.2.1']


@on_every_loop
@pytest.mark.parametrize('leaves', [False, True])
async def test_a_late_reply_does_not_wait_for_the_next_set(leaves):
    late, go_on = asyncio.Event(), asyncio.Event()
    thinking, closed = [], []

    async def answer_late(query):
        await late.wait()
        return echo(query)

    async def get_nameservers(fqdn):
        try:
            yield 0.5, slow.nameserver
            thinking.append(asyncio.current_task())
            await go_on.wait()
            yield 0.5, other.nameserver
        finally:
            closed.append(asyncio.current_task())

    async with Nameserver(answer_late) as slow, Nameserver(echo) as other:
        resolve, _ = Resolver(no_host, get_nameservers)
        tasks = [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(3)]
        await slow.asked(1)
        turn(0.5)
        await settle()
        late.set()
        await let_arrive()
        (fetcher,) = thinking
        assert [task.done() for task in tasks] == [task is not fetcher for task in tasks]
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']  # cached
        if leaves:
            fetcher.cancel()
        else:
            go_on.set()
        await asyncio.wait(tasks)
        assert fetcher.cancelled() == leaves
        assert {texts(task.result())[0] for task in tasks if not task.cancelled()} == {'192.0.2.1'}
        assert closed == thinking
        await other.asked(0)


@on_every_loop
async def test_an_error_of_ours_from_a_callable_passes_unchanged_too():
    class OwnError(ResolverError):
        def __init__(self, one, two):
            super().__init__(one, two)

    own = OwnError(1, 2)

    async def get_nameservers(fqdn):
        raise own
        yield

    resolve, _ = Resolver(no_host, get_nameservers)
    with pytest.raises(OwnError) as raised:
        await resolve('x.example', TYPES.A)
    assert raised.value is own
    assert any(frame.tb_frame.f_code.co_name == 'get_nameservers' for frame in frames_of(own))


@on_every_loop
async def test_what_is_no_async_generator_function_is_told_so():
    class Iterator:
        def __aiter__(self):
            return self

    for sets in ([], None, Iterator()):
        resolve, _ = Resolver(no_host, lambda fqdn, sets=sets: sets)
        with pytest.raises(TypeError):
            await resolve('x.example', TYPES.A)


async def in_a_task(awaitable):
    return await asyncio.ensure_future(awaitable)


async def in_a_task_of_a_task(awaitable):
    return await asyncio.ensure_future(in_a_task(awaitable))


async def in_a_gathering(awaitable):
    return (await asyncio.gather(awaitable))[0]


async def with_a_deadline(awaitable):
    return await asyncio.wait_for(awaitable, 100)


RESOLVED = [soon, in_a_task, in_a_task_of_a_task, in_a_gathering, with_a_deadline]


@in_one_way
@pytest.mark.parametrize('resolved', RESOLVED)
async def test_a_resolution_that_needs_itself_does_not_wait_for_itself(resolved):
    async def get_nameservers(fqdn):
        await resolved(resolve('x.example', TYPES.A))
        yield

    resolve, _ = Resolver(no_host, get_nameservers)
    tasks = [raised_by(resolve('x.example', TYPES.A)) for _ in range(3)]
    errors = await in_time(asyncio.wait_for(asyncio.gather(*tasks), 30))
    assert {type(error) for error in errors} == {ResolverError}


@in_one_way
@pytest.mark.parametrize('resolved', RESOLVED)
@pytest.mark.parametrize('count', [1, 2, 3])
async def test_resolutions_that_need_each_other_do_not_wait_for_each_other(resolved, count):
    async def get_nameservers(fqdn):  # each needs the next
        await asyncio.sleep(0)
        await resolved(resolve(f'{(int(fqdn) + 1) % 3}', TYPES.A))
        yield 0.5, server.nameserver

    async with Nameserver(echo) as server:
        resolve, _ = Resolver(no_host, get_nameservers)
        tasks = [resolve(f'{number}', TYPES.A) for number in range(count)]
        gathered = asyncio.gather(*tasks, return_exceptions=True)
        outcomes = await in_time(asyncio.wait_for(gathered, 30))
        assert ResolverError in {type(outcome) for outcome in outcomes}


@on_every_loop
async def test_the_next_nameserver_is_asked_after_one_with_a_loop_of_aliases():
    looping = Nameserver(answering(cname(b'x.example', b'x.example')))
    async with looping, Nameserver(answering(a(b'x.example'))) as server:
        resolve, _ = resolver_of(looping, server)
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']


@on_every_loop
@pytest.mark.parametrize('timeout', [float('nan'), -1, 0, float('inf'), 10**400, True])
async def test_a_timeout_that_no_timer_can_have_does_not_hang(timeout):
    async with Nameserver(lambda query: None) as server:
        resolve, _ = Resolver(no_host, asking(server.nameserver, timeout=timeout, rounds=2))
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        for _ in range(3):
            await let_arrive()
            turn(24 * 3600)
        with pytest.raises(QueryTimeout):
            await task


@on_every_loop
async def test_a_nameserver_may_have_an_ipv6_or_a_scoped_address():
    answer = answering(a(b'x.example', ttl=0))
    async with Nameserver(answer, '::1') as server:
        addresses = ('::1', IPv6Address('::1'), '::1%lo', IPv6Address('::1%1'))
        for address in addresses:
            resolve, _ = Resolver(no_host, asking((address, server.port)))
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        await server.asked(4)


@contextlib.contextmanager
def permits(count):
    """So many permits to have a socket open, all of which are free again in the end."""
    limit = module.resources_of(asyncio.get_running_loop()).limit
    before, limit.free = limit.free, count
    yield limit
    assert limit.free == count
    limit.free = before


@on_every_loop
async def test_with_one_permit_all_is_answered_all_the_same():
    aaaa = rr(b'x.example', TYPES.AAAA, IPv6Address('2001:db8::1'))
    silent = Nameserver(lambda query: None)
    async with silent, Nameserver(from_zone(a(b'x.example'), aaaa)) as server:
        with permits(1):
            settings = module.to_settings(no_host, asking(server.nameserver), mix_case)
            both = TYPES.A, TYPES.AAAA
            outcomes = await outcomes_of(settings, b'x.example', both)
            assert all(outcomes[qtype].records for qtype in both)

            async def one_set(fqdn):
                yield 0.5, silent.nameserver, server.nameserver

            resolve, _ = Resolver(no_host, one_set)
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            await silent.asked(1)
            turn(0.5)  # the second of the set is asked with the permit of the first
            assert texts(await task) == ['192.0.2.1']


@on_every_loop
async def test_a_lookup_whose_fetcher_left_before_the_first_set_gets_those_of_a_new_generator():
    begun = []

    async def get_nameservers(fqdn):
        begun.append(fqdn)
        if len(begun) == 1:
            await asyncio.get_running_loop().create_future()
        yield 0.5, server.nameserver

    def answer(query):
        return echo(query) if query.qd[0].qtype == TYPES.A else SERVFAIL(query)

    async with Nameserver(answer) as server:
        settings = module.to_settings(no_host, get_nameservers, mix_case)
        both = TYPES.A, TYPES.AAAA
        first = asyncio.ensure_future(outcomes_of(settings, b'x.example', both[:1]))
        await settle()
        second = asyncio.ensure_future(outcomes_of(settings, b'x.example', both))
        await server.asked(1)
        first.cancel()
        outcomes = await in_time(second)
        assert texts(outcomes[TYPES.A].records) == ['192.0.2.1']
        assert type(outcomes[TYPES.AAAA]) is ResponseCode
        assert len(begun) == 3


@on_every_loop
async def test_get_nameservers_may_resolve_when_all_permits_are_taken():
    def answer(query):
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(silent) as dead, Nameserver(answer) as server:

        async def get_nameservers(fqdn):
            yield 0.5, dead.nameserver
            await inner(b'of.' + fqdn, TYPES.A)
            yield 0.5, server.nameserver

        inner, _ = resolver_of(server)
        outer, _ = Resolver(no_host, get_nameservers)
        with permits(4):
            tasks = [asyncio.ensure_future(outer(f'{n}.example', TYPES.A)) for n in range(10)]
            assert len(await in_time(asyncio.gather(*tasks))) == 10


@on_every_loop
async def test_a_stream_with_nothing_on_it_is_closed_before_a_socket_that_listens():
    go_on = asyncio.Event()

    async def late(query):
        if query.qd[0].qtype == TYPES.A:
            return reply_to(query, tc=1)
        if query.qd[0].qtype in answered:
            return None
        answered.append(query.qd[0].qtype)
        await go_on.wait()
        return reply_to(query, rr(b'x.example', TYPES.AAAA, IPv6Address('2001:db8::1')))

    answered = []

    async with Nameserver(late, over_tcp=answering(*THREE)) as server:
        with permits(2):
            settings = module.to_settings(no_host, asking(server.nameserver), mix_case)
            both = TYPES.A, TYPES.AAAA
            task = asyncio.ensure_future(outcomes_of(settings, b'x.example', both))
            await server.asked(3)
            turn(0.5)
            await server.asked(4)
            go_on.set()
            outcomes = await task
            assert texts(outcomes[TYPES.AAAA].records) == ['2001:db8::1']


@on_every_loop
async def test_a_timeout_starts_when_the_packet_is_sent():
    hold = asyncio.Event()

    async def answer(query):
        await hold.wait()
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(answer) as server:
        with permits(1):
            resolve, _ = resolver_of(server)
            first = asyncio.ensure_future(resolve('a', TYPES.A))
            await server.asked(1)
            second = asyncio.ensure_future(resolve('b', TYPES.A))
            await settle()
            turn(0.4)
            hold.set()
            await first
            await server.asked(2)
            hold.clear()
            turn(0.4)
            hold.set()
            assert texts(await second) == ['192.0.2.1']
            await server.asked(2)


# Decided when they begin, all would ask the dead one first.
@pytest.mark.long
@in_one_way
async def test_whom_to_ask_is_decided_when_there_is_a_socket():
    async with Nameserver(silent) as dead, Nameserver(silent) as server:
        resolve, _ = resolver_of(dead, server)
        assert isinstance(
            await raised_by(in_time(resolve('first.example', TYPES.A))), QueryTimeout
        )
        server.answer = echo
        before = len(dead.queries)
        with permits(100):
            names = names_of(2000)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
        assert len(dead.queries) - before <= 1000


@on_every_loop
@pytest.mark.parametrize('scheme', ['udp', 'tcp'])
@pytest.mark.parametrize('limit', [1, 4])
async def test_get_nameservers_may_resolve_by_its_own_resolver_when_all_permits_are_taken(
    scheme, limit
):
    async with Nameserver(silent) as dead, Nameserver(echo) as server:

        async def get_nameservers(fqdn):
            if not fqdn.startswith(b'of.'):
                yield 0.5, url_of(scheme, dead)
                await resolve(b'of.' + fqdn, TYPES.A)
            yield 0.5, url_of(scheme, server)

        resolve, clear_cache = Resolver(no_host, get_nameservers)
        with permits(limit):
            assert await outcomes_in_time(resolve, names_of(20)) == all_answered(names_of(20))
            clear_cache()


@on_every_loop
@pytest.mark.parametrize('count', [1, 5])
async def test_with_one_permit_a_stream_without_an_answer_is_given_up_for_a_datagram(count):
    async with Nameserver(silent) as dead, Nameserver(echo) as server:
        resolve, clear_cache = over(dead.tcp, server.nameserver)
        with permits(1):
            names = names_of(count)
            assert await outcomes_in_time(resolve, names) == all_answered(names)
            clear_cache()


@on_every_loop
async def test_with_one_permit_streams_and_datagrams_give_way_to_each_other():
    async with Nameserver(silent) as dead, Nameserver(echo) as one, Nameserver(echo) as two:

        async def get_nameservers(fqdn):
            nameservers = [dead.tcp, one.nameserver, two.tcp, dead.nameserver, two.nameserver]
            first = int(fqdn.split(b'.')[0]) % 5
            for nameserver in 5 * (nameservers[first:] + nameservers[:first]):
                yield 0.5, nameserver

        resolve, clear_cache = Resolver(no_host, get_nameservers)
        with permits(1):
            assert await outcomes_in_time(resolve, names_of(20)) == all_answered(names_of(20))
            clear_cache()


UNREACHABLE = {
    'a broadcast': ('255.255.255.255', 53),
    'no interface': ('fe80::1%nosuch', 53),
    'a stream': 'tcp://255.255.255.255',
}


@pytest.mark.long
@pytest.mark.parametrize('loop_name', LOOPS)
@pytest.mark.parametrize('unreachable', UNREACHABLE)
def test_10_000_who_wait_for_a_socket_and_cannot_send_all_fail(loop_name, unreachable):
    async def main():
        async with Nameserver(silent) as server:

            async def get_nameservers(fqdn):
                holds = fqdn == b'holds'
                yield 0.5, server.nameserver if holds else UNREACHABLE[unreachable]

            resolve, _ = Resolver(no_host, get_nameservers)
            with permits(1):
                holder = asyncio.ensure_future(resolve('holds', TYPES.A))
                await server.asked(1)
                tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in names]
                for _ in range(5):
                    await asyncio.sleep(0)
                assert not any(task.done() for task in tasks)
                holder.cancel()
                outcomes = await in_time(asyncio.gather(*tasks, return_exceptions=True))
                assert {type(outcome) for outcome in outcomes} == {SocketError}

    names = names_of(10_000)
    run(main(), LOOPS[loop_name], debug=False)


# Whoever waits, is cancelled at the head of the queue or in its midst.
@in_one_way
async def test_those_who_leave_the_queue_for_a_socket_leave_it_to_others():
    async with Nameserver(silent) as server:
        resolve, _ = resolver_of(server)
        with permits(1):
            tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in names_of(10)]
            await server.asked(1)
            server.answer = echo
            for number in (1, 2, 5, 9, 0):
                tasks[number].cancel()
            outcomes = await in_time(asyncio.gather(*tasks, return_exceptions=True))
            answered = [isinstance(outcome, tuple) for outcome in outcomes]
            assert answered == [number in (3, 4, 6, 7, 8) for number in range(10)]
            await server.asked(6)


@on_every_loop
async def test_one_who_is_cancelled_while_waiting_for_a_permit_leaves_nothing():
    async with Nameserver(lambda query: None) as server:
        with permits(1):
            resolve, _ = resolver_of(server)
            tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in 'abc']
            await server.asked(1)
            for task in tasks[::-1]:
                task.cancel()
            await asyncio.wait(tasks)


@contextlib.contextmanager
def no_descriptors_left(free=0):
    """No descriptor can be opened meanwhile, or just one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 0
    if free:
        most = os.dup(0) + 1  # the lowest that is free
        os.close(most - 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@on_every_loop
async def test_a_lack_of_descriptors_is_waited_out_for_one_timeout():
    async with Nameserver(answering(a(b'x.example', ttl=0))) as server:
        resolve, _ = resolver_of(server)
        await resolve('x.example', TYPES.A)
        with no_descriptors_left():
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            await settle()
            turn(0.2)
            await settle()
        turn(0.05)
        assert texts(await task) == ['192.0.2.1']
        await server.asked(2)
        with no_descriptors_left():
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            for _ in range(60):
                await settle()
                turn(0.05)
            assert task.done()
        with pytest.raises(SocketError, match=r'attempts: 5') as raised:
            await task
        assert raised.value.errno == 24
        await server.asked(2)


@in_one_way
async def test_a_lack_of_descriptors_is_waited_out_for_one_timeout_by_a_set_of_several():
    async with Nameserver(echo) as first, Nameserver(echo) as second:

        async def get_nameservers(fqdn):
            yield 0.5, first.nameserver, second.nameserver

        resolve, _ = Resolver(no_host, get_nameservers)
        began = asyncio.get_running_loop().time()
        with no_descriptors_left():
            error = await raised_by(in_time(resolve('x.example', TYPES.A)))
        assert (type(error), error.errno) == (SocketError, errno.EMFILE)
        assert asyncio.get_running_loop().time() - began < 0.75


@in_one_way
async def test_a_lack_of_descriptors_is_waited_out_again_when_the_skipped_are_asked():
    async with Nameserver(silent) as server:
        resolve, _ = Resolver(no_host, asking(server.nameserver, rounds=2))
        with no_descriptors_left():
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            await settle()
            turn(0.1)
            await settle()
        turn(0.05)
        await settle()
        await server.asked(1)
        now_saying(server, echo)
        with no_descriptors_left():
            turn(0.5)  # it is unresponsive now, so its second round is the last of all
            await settle()
            assert not task.done()
        turn(0.05)
        assert texts(await in_time(task)) == ['192.0.2.1']


EVERY_CALL = """
import asyncio, logging, os, resource, socket, ssl, sys
import aiodnsresolver
from aiodnsresolver import *

imported = []
sys.addaudithook(lambda event, of: imported.append(of[0]) if event == 'import' else None)
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.setblocking(False)
sock.bind(('127.0.0.1', 0))
closed = socket.socket()
closed.bind(('127.0.0.1', 0))
PORT = closed.getsockname()[1]  # where nobody listens
Q = make_query('x', TYPES.A)

async def no_host(fqdn, qtype):
    return None

def resolving(nameserver, name='x.example'):
    async def get_nameservers(fqdn):
        yield 0.01, nameserver
        yield 0.01, nameserver

    return lambda: Resolver(no_host, get_nameservers)[0](name, TYPES.A)

def asking(function, where='127.0.0.1', **arguments):
    return lambda: function(Q, where, port=PORT, **arguments)

def transferring(**arguments):
    return lambda: inbound_xfr('127.0.0.1', Zone('example'), port=PORT, **arguments)

async def key():
    return Key('key', b'secret')

async def guest():
    return aiodnsresolver.AioHttpDnsResolver()

# Each call, and what may be imported for it: an extra that the module itself does without.
CALLS = {
    'resolv.conf': (lambda: Resolver()[0]('x.example', TYPES.A), ''),
    'hosts': (lambda: get_host_from_etc_hosts(b'x.example', TYPES.A), ''),
    'resolve': (resolving(('127.0.0.1', PORT)), ''),
    'resolve, IDNA': (resolving(('127.0.0.1', PORT), 'b\u00fccher.example'), 'idna'),
    'resolve, a scope': (resolving(('fe80::1%lo', PORT)), ''),
    'resolve, tcp': (resolving(f'tcp://127.0.0.1:{PORT}'), ''),
    'resolve, tls': (resolving(f'tls://127.0.0.1:{PORT}#dns.example'), ''),
    'resolve, https': (resolving(f'https://127.0.0.1:{PORT}#dns.example'), 'h2'),
    'udp': (asking(udp), ''),
    'udp, no such scope': (asking(udp, 'fe80::1%nowhere'), ''),
    'udp_with_fallback': (asking(udp_with_fallback), ''),
    'tcp': (asking(tcp), ''),
    'tls': (asking(tls), ''),
    'tls, a path': (asking(tls, verify=os.environ['SSL_CERT_FILE']), ''),
    'tls, a name': (asking(tls, verify=False, server_hostname='dns.example'), ''),
    'https': (asking(https), 'h2'),
    'receive_udp': (lambda: receive_udp(sock), ''),
    'transfer': (transferring(), ''),
    'transfer, TLS': (transferring(server_hostname='dns.example'), ''),
    'key': (key, 'hmac'),
    'aiohttp': (guest, 'aiohttp'),
}

async def outcome(call):
    try:
        return type(await asyncio.wait_for(call(), 9)).__name__
    except Exception as error:
        return type(error).__name__, error.errno

async def main():
    aiodnsresolver.resources_of(asyncio.get_running_loop())
    logging.disable()  # what asyncio says of slow steps
    everywhere = len(os.listdir('/proc/self/fd'))
    for what, (call, may_be_imported) in CALLS.items():
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            imported.clear()
        came = await outcome(call)
        text = to_unicode(b'xn--bcher-kva') if what == 'resolve, IDNA' else 'xn--bcher-kva'
        others = [name for name in imported if name.partition('.')[0] != may_be_imported]
        for fd in taken:
            os.close(fd)
        if came != ('SocketError', 24) or others or text != 'xn--bcher-kva':
            print(what, came, others, text)
        if len(os.listdir('/proc/self/fd')) != everywhere:
            print(what, 'leaves a descriptor')
    # Nothing of it was remembered.
    for what in ('udp', 'resolve, IDNA', 'resolve, https', 'https', 'hosts', 'key', 'aiohttp'):
        print(what, await outcome(CALLS[what][0]))
    print(aiodnsresolver.tls_context(True).cert_store_stats()['x509'])

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
asyncio.run(main())
sock.close()
closed.close()
"""


def test_without_a_descriptor_every_error_is_ours_and_nothing_is_imported_for_it(authority):
    command = [sys.executable, '-X', 'dev', '-W', 'error', '-c', EVERY_CALL]
    environ = os.environ | {'SSL_CERT_FILE': authority.path}
    ran = subprocess.run(
        command, cwd=HERE, env=environ, capture_output=True, text=True, timeout=60
    )
    refused = ('SocketError', errno.ECONNREFUSED)
    kinds = dict.fromkeys(['udp', 'resolve, IDNA', 'resolve, https', 'https'], refused)
    kinds |= {'hosts': 'NoneType', 'key': 'Key', 'aiohttp': 'AioHttpDnsResolver'}
    lines = [f'{what} {kind}' for what, kind in kinds.items()]
    assert (ran.stdout.splitlines(), ran.stderr) == ([*lines, '1'], '')


async def asked_again_with_a_descriptor(server, url, free=0):
    """A lack of descriptors lasts, and then another one ends in time."""
    resolve, _ = over(url)
    with no_descriptors_left(free):
        error = await raised_by(in_time(resolve('x.example', TYPES.A)))
        assert (type(error), error.errno) == (SocketError, errno.EMFILE)
    assert server.queries == []
    assert is_idle()
    with no_descriptors_left(free):
        task = asyncio.ensure_future(resolve('x.example', TYPES.A))
        for _ in range(3):
            await settle()
            turn(0.05)
    turn(0.05)
    assert texts(await in_time(task)) == ['192.0.2.1']
    await server.asked(1)


@on_every_loop
@pytest.mark.parametrize('scheme', ['udp', 'tcp', 'tls', 'https'])
async def test_without_a_descriptor_a_nameserver_is_asked_once_there_is_one(trusting, scheme):
    async with serving(scheme, trusting, echo) as server:
        module.tls_context(True)
        await asked_again_with_a_descriptor(server, url_of(scheme, server))


@in_one_way
async def test_the_last_descriptor_does_not_do_for_a_socket_and_an_epoll():
    async with Nameserver(echo) as server:
        await asked_again_with_a_descriptor(server, server.nameserver, free=1)


@contextlib.contextmanager
def sockets_that_fail(what, number, times=1000, name='SocketType'):
    """New sockets fail in this way meanwhile, as on a host with a shortage or a firewall."""
    failures = iter(range(times))

    def check(this):
        if this == what and next(failures, None) is not None:
            raise OSError(number, os.strerror(number))

    class Scripted(getattr(socket, name)):
        def __init__(self, *arguments, **more):
            check('socket')
            super().__init__(*arguments, **more)

        def connect(self, address):
            check('connect')
            super().connect(address)

        def send(self, octets):
            check('send')
            return super().send(octets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, name, Scripted)
        yield


# Not where a transport has a socket, as on Windows: it makes another one of it.
in_ways_with_sockets = functools.partial(
    on_every_loop, ways=[name for name in OTHER_WAYS if name.endswith('readers')]
)
SHORTAGES = [
    ('socket', errno.EMFILE),
    ('socket', errno.ENFILE),
    ('socket', errno.ENOBUFS),
    ('socket', errno.ENOMEM),
    ('connect', errno.ENOBUFS),
    ('connect', errno.EADDRNOTAVAIL),
    ('connect', errno.EPERM),
    ('send', errno.ENOBUFS),
    ('send', errno.EPERM),
]
NO_PORT = 'connect', errno.EAGAIN  # what Linux says for a datagram


@in_one_way
@pytest.mark.parametrize('scheme', ['udp', 'tcp', 'tls', 'https'])
@pytest.mark.parametrize('what, number', [*SHORTAGES, NO_PORT])
async def test_a_host_that_is_short_of_something_is_an_error_of_ours(
    trusting, scheme, what, number
):
    if (what, number) == NO_PORT and scheme != 'udp':
        return
    async with serving(scheme, trusting, echo) as server:
        resolve, _ = over(url_of(scheme, server))
        call = {'udp': udp, 'tcp': tcp, 'tls': tls, 'https': https}[scheme]
        query = make_query('x.example', TYPES.A)
        with sockets_that_fail(what, number):
            for asked in (resolve('x.example', TYPES.A), call(query, '127.0.0.1', 5, server.port)):
                error = await raised_by(in_time(asked))
                assert (type(error), error.errno) == (SocketError, number)
                assert os.strerror(number) in str(error)
                assert isinstance(error.__cause__, OSError)
        await settle()
        assert is_idle()
        assert server.queries == []
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        assert await call(query, '127.0.0.1', 5, server.port) == echo(query)


@in_one_way
@pytest.mark.parametrize('what, number', SHORTAGES)
async def test_a_shortage_ends_a_transfer_and_what_sends_one_message(what, number):
    async with Nameserver(sending(WHOLE_ZONE)) as server:
        zone = old_zone()
        before = str(zone)
        with sockets_that_fail(what, number, name='socket'):
            if what != 'send':  # asyncio sends
                error = await raised_by(xfr(server, zone, timeout=5))
                assert (type(error), error.errno, str(zone)) == (SocketError, number, before)
            else:
                with socket.socket(type=socket.SOCK_DGRAM) as sock:
                    sock.setblocking(False)
                    sock.connect(server.nameserver)
                    for call in (
                        send_udp(sock, Q, None),
                        udp(Q, '127.0.0.1', 5, server.port, sock=sock),
                    ):
                        error = await raised_by(call)
                        assert (type(error), error.errno) == (SocketError, number)
        await xfr(server, zone, timeout=5)
        assert zone.serial == 3


@in_ways_with_sockets
@pytest.mark.parametrize('what, number', [*SHORTAGES, NO_PORT])
async def test_a_shortage_is_no_fault_of_the_nameserver(what, number):
    async with Nameserver(echo) as first, Nameserver(echo) as second:
        resolve, _ = resolver_of(first, second)
        with sockets_that_fail(what, number, times=1):
            await in_time(resolve('x.example', TYPES.A))
        await resolve('y.example', TYPES.A)
        is_blamed = number == errno.EPERM  # it cannot be reached
        is_waited_out = number in (errno.EMFILE, errno.ENFILE)
        expected = 0 if is_blamed else 2 if is_waited_out else 1
        assert (len(first.queries), len(second.queries)) == (expected, 2 - expected)


def test_10_000_names_under_a_limit_of_256_descriptors_are_all_answered():
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(HERE)!r})
import test_aiodnsresolver as tests

async def main():
    answer = lambda query: tests.reply_to(query, tests.a(query.qd[0].name))
    async with tests.Nameserver(answer) as server:
        resolve, _ = tests.resolver_of(server)
        names = [f'{{number}}.example' for number in range(10_000)]
        answers = await asyncio.gather(*[resolve(name, 1) for name in names])
        print(len(server.queries), sum(len(each) for each in answers))
        print(max(map(int, tests.descriptors())) < 200)

tests.run(main(), debug=False)
"""
    limited = ['sh', '-c', 'ulimit -n 256 && exec "$@"', 'sh', sys.executable, '-X', 'dev']
    ran = subprocess.run(
        [*limited, '-W', 'error', '-c', script], capture_output=True, text=True, timeout=100
    )
    assert (ran.stdout, ran.stderr) == ('10000 10000\nTrue\n', '')


def test_10_000_names_are_answered_with_every_third_nameserver_silent():
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(HERE)!r})
import test_aiodnsresolver as tests

async def main():
    answer = lambda query: tests.reply_to(query, tests.a(query.qd[0].name))
    silent = tests.Nameserver(lambda query: None)
    async with silent, tests.Nameserver(answer) as one, tests.Nameserver(answer) as two:
        async def get_nameservers(fqdn):
            servers = [silent, one, two]
            first = int(fqdn.split(b'.')[0]) % 3
            for server in (servers[first:] + servers[:first]) * 5:
                yield 0.5, server.nameserver

        resolve, _ = tests.Resolver(tests.no_host, get_nameservers)
        names = [f'{{number}}.example' for number in range(10_000)]
        asking = asyncio.gather(*[resolve(name, 1) for name in names])
        while not asking.done():
            await tests.settle()
            tests.turn(0.01)
        print(sum(len(each) for each in await asking), len(silent.queries) < 256)

tests.run(main(), debug=False)
"""
    limited = ['sh', '-c', 'ulimit -n 256 && exec "$@"', 'sh', sys.executable, '-X', 'dev']
    ran = subprocess.run(
        [*limited, '-W', 'error', '-c', script], capture_output=True, text=True, timeout=100
    )
    assert (ran.stdout, ran.stderr) == ('10000 True\n', '')


def test_many_names_are_answered_with_fewer_descriptors_than_permits():
    script = f"""
import asyncio, logging, os, sys
logging.disable()  # what asyncio says of slow steps
sys.path.insert(0, {str(HERE)!r})
import test_aiodnsresolver as tests

async def main():
    answer = lambda query: tests.reply_to(query, tests.a(query.qd[0].name))
    async with tests.Nameserver(answer) as server:
        held = [os.dup(0) for _ in range(40)]
        resolve, _ = tests.resolver_of(server)
        names = [f'{{number}}.example' for number in range(2000)]
        answers = await asyncio.gather(*[resolve(name, 1) for name in names])
        print(sum(len(each) for each in answers), tests.is_idle())

asyncio.run(main())
"""
    limited = ['sh', '-c', 'ulimit -n 64 && exec "$@"', 'sh', sys.executable, '-X', 'dev']
    ran = subprocess.run(
        [*limited, '-W', 'error', '-c', script], capture_output=True, text=True, timeout=100
    )
    assert (ran.stdout, ran.stderr) == ('2000 True\n', '')


@on_every_loop
async def test_2000_mixed_requests_leave_nothing():
    def answer(query):
        kind = int(query.qd[0].name.split(b'.')[0]) % 4
        if kind == 0:
            return reply_to(query, a(query.qd[0].name))
        return [reply_to(query, rcode=RCODES.SERVFAIL), reply_to(query), None][kind - 1]

    async def get_nameservers(fqdn):
        # Each of many, for a socket keeps no more than some 200 packets.
        yield 0.5, servers[int(fqdn.split(b'.')[0]) % len(servers)].nameserver

    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Nameserver(answer)) for _ in range(25)]
        resolve, _ = Resolver(no_host, get_nameservers)
        tasks = [asyncio.ensure_future(resolve(f'{n}.example', TYPES.A)) for n in range(2000)]
        done = []
        for task in tasks:
            task.add_done_callback(done.append)
        while len(done) < 1500:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [tuple, ResponseCode, DoesNotExist, asyncio.CancelledError] * 500


@on_every_loop
async def test_cancelling_at_any_point_leaves_nothing():
    async with Nameserver(answering(a(b'x.example', ttl=0))) as server:
        for steps in range(12):
            resolve, _ = resolver_of(server)
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert is_idle()


SET_BY_GENERATOR = contextvars.ContextVar('SET_BY_GENERATOR', default='not set')


class Careful:
    """A get_nameservers that takes its time, and minds in which task it is begun and ended."""

    def __init__(self, *nameservers):
        self.nameservers = nameservers
        self.begun = []
        self.ended = []

    async def __call__(self, fqdn):
        self.begun.append((fqdn, asyncio.current_task()))
        async with asyncio.timeout(60):
            token = SET_BY_GENERATOR.set(fqdn)
            try:
                for nameserver in self.nameservers:
                    for _ in range(2):
                        await asyncio.sleep(0)
                    assert SET_BY_GENERATOR.get() == fqdn
                    yield 0.5, nameserver
            finally:
                SET_BY_GENERATOR.reset(token)
                self.ended.append((fqdn, asyncio.current_task()))


async def slow_host(fqdn, qtype):
    for _ in range(2):
        await asyncio.sleep(0)


WWW = [a(b'www.two.example'), rr(b'www.two.example', TYPES.AAAA, IPv6Address('2001:db8::1'))]
TARGET = [record._replace(name=b'target.example') for record in WWW]
ALIAS = [cname(b'www.two.example', b'target.example'), *TARGET]
SEARCHING = {'search': ['one.example', 'two.example']}


# What a nameserver knows, whether it truncates that, what is asked for, and how.
RESOLUTIONS = {
    'a name': (WWW, False, 'www.two.example', {}),
    'with get_host': (WWW, False, 'www.two.example', {'get_host': slow_host}),
    'a search': (WWW, False, 'www', {'transform_fqdn': as_it_is, **SEARCHING}),
    'an alias': (ALIAS, False, 'www.two.example', {}),
    'truncated': (WWW, True, 'www.two.example', {}),
    'all of these': (
        ALIAS,
        True,
        'www',
        {'get_host': slow_host, 'transform_fqdn': as_it_is, **SEARCHING},
    ),
}


# Who of five is cancelled in one turn of the loop, and in the next.
LEAVING = [
    [{0}],
    [{2}],
    [{4}],
    [{0, 1, 2, 3}],
    [{1, 2, 3, 4}],
    [{0}, {1}, {2}, {3}],
    [{4}, {3}, {2}, {1}],
]


async def cancelled_after(turns, leaving, resolve):
    """What comes of five who ask, of whom some are cancelled; whether those had not all done."""
    tasks = [asyncio.ensure_future(resolve()) for _ in range(5)]
    for _ in range(turns):
        await asyncio.sleep(0)
    was_over = all(task.done() for task in tasks)
    patience = 50
    for leave_now in leaving:
        for number in leave_now:
            tasks[number].cancel()
        await asyncio.sleep(0)
    while not all(task.done() for task in tasks) and patience:  # nothing here needs the clock
        await settle()
        patience -= 1
    outcomes = await in_time(asyncio.gather(*tasks, return_exceptions=True))
    for number in set().union(*leaving):
        if isinstance(outcomes[number], asyncio.CancelledError):
            outcomes[number] = None
    return outcomes, not was_over


@pytest.mark.long
@in_one_way
@pytest.mark.parametrize('leaving', LEAVING, ids=str)
@pytest.mark.parametrize('families', ['one family', 'both families'])
@pytest.mark.parametrize('resolution', RESOLUTIONS)
async def test_who_is_cancelled_at_any_point_costs_the_others_nothing(
    resolution, families, leaving
):
    records, truncates, name, arguments = RESOLUTIONS[resolution]

    async def know(query):
        await asyncio.sleep(0)  # so that there are turns in which it is waited for
        await asyncio.sleep(0)
        return having(*records)(query)

    over_udp = (lambda query: reply_to(query, tc=1)) if truncates else know
    refusing = closed_port()
    async with Nameserver(over_udp, over_tcp=know) as server:
        for turns in range(500):
            server.queries.clear()
            server.over_tcp.clear()
            get_nameservers = Careful(refusing, server.nameserver, server.nameserver)
            arguments = {'get_host': no_host, **arguments, 'get_nameservers': get_nameservers}
            if families == 'one family':
                resolve, close = Resolver(**arguments)
                ask = functools.partial(resolve, name, TYPES.A)
                expected = (IPv4Address('192.0.2.1'),)
            else:
                resolver = module.AioHttpDnsResolver(**arguments)
                ask = functools.partial(resolver.resolve, name, 80, socket.AF_UNSPEC)
                close, expected = None, [V6, V4]
            outcomes, is_in_time = await cancelled_after(turns, leaving, ask)
            found = [
                families_of(outcome) if isinstance(outcome, list) else outcome
                for outcome in outcomes
                if outcome is not None
            ]
            assert found == [expected] * len(found)
            assert len(found) >= 5 - sum(map(len, leaving))
            asked = collections.Counter(
                (query.qd[0].name.lower(), query.qd[0].qtype, query in server.over_tcp)
                for query in server.queries
            )
            assert set(asked.values()) == {1}
            assert sorted(map(id_of, get_nameservers.begun)) == sorted(
                map(id_of, get_nameservers.ended)
            )
            assert SET_BY_GENERATOR.get() == 'not set'
            close() if close else await resolver.close()
            assert is_idle()
            if not is_in_time:
                break
        assert not is_in_time  # each point has been there


def id_of(begun_or_ended):
    fqdn, task = begun_or_ended
    return fqdn, id(task)


# Whoever asks while a slow one thinks of the nameservers, waits for that one.
@in_one_way
async def test_a_thousand_who_ask_call_get_nameservers_once():
    go_on = asyncio.Event()
    called = []

    async def get_nameservers(fqdn):
        called.append(fqdn)
        await go_on.wait()
        yield 0.5, server.nameserver

    async with Nameserver(echo) as server:
        resolve, _ = Resolver(no_host, get_nameservers)
        tasks = []
        for _ in range(10):
            tasks += [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(100)]
            await settle()
        go_on.set()
        answers = await asyncio.gather(*tasks)
        assert {texts(each)[0] for each in answers} == {'192.0.2.1'}
        assert called == [b'x.example']
        await server.asked(1)


# Who thinks of the nameservers and is cancelled: another begins anew, in a task of its own.
@in_one_way
@pytest.mark.parametrize('others_leave', [False, True])
async def test_another_thinks_of_the_nameservers_when_the_first_is_cancelled(others_leave):
    go_on = asyncio.Event()
    begun, ended = [], []

    async def get_nameservers(fqdn):
        begun.append(asyncio.current_task())
        try:
            await go_on.wait()
            yield 0.5, server.nameserver
        finally:
            ended.append(asyncio.current_task())

    async with Nameserver(echo) as server:
        resolve, _ = Resolver(no_host, get_nameservers)
        tasks = [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(5)]
        await settle()
        for number in range(1, 5):
            begun[-1].cancel()
            if others_leave and number == 2:
                others = [task for task in tasks if task not in begun]
                others[0].cancel()  # in the turn in which it is asked to
                tasks.remove(others[0])
            await settle()
            if len(tasks) == len(begun):
                break
            assert len(begun) == number + 1
        go_on.set()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks].count(False) == 1
        assert len(begun) == len({*begun}) == len(tasks)
        assert begun == ended
        await server.asked(1)


# One lookup has so many sets in all, whoever thinks of them.
@in_one_way
async def test_those_who_begin_anew_have_no_more_sets_than_one():
    taken = []

    async def get_nameservers(fqdn):
        while True:
            await asyncio.sleep(0)
            taken.append(asyncio.current_task())
            yield 0.5, refusing

    refusing = closed_port()
    resolve, _ = Resolver(no_host, get_nameservers)
    tasks = [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(5)]
    for number in range(1, 4):
        while len(taken) < 20 * number:
            await asyncio.sleep(0)
        taken[-1].cancel()
    outcomes = await in_time(asyncio.gather(*tasks, return_exceptions=True))
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.count(asyncio.CancelledError) == 3
    assert kinds.count(SocketError) == 2
    assert 100 <= len(taken) <= 103


# The context of a generator is that of its task: what it sets is there after each of its yields.
@in_one_way
@pytest.mark.parametrize('is_cancelled', [False, True])
async def test_a_generator_may_have_a_timeout_and_a_context_around_its_yields(is_cancelled):
    async with Nameserver(silent) as server:
        get_nameservers = Careful(*[server.nameserver] * 3)
        resolve, _ = Resolver(no_host, get_nameservers)
        tasks = [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(3)]
        await server.asked(1)
        turn(0.5)
        await server.asked(2)
        if is_cancelled:
            get_nameservers.begun[0][1].cancel()
            await settle()
        server.answer = echo
        turn(0.5)
        outcomes = await in_time(asyncio.gather(*tasks, return_exceptions=True))
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds.count(tuple) == (2 if is_cancelled else 3)
        assert kinds.count(asyncio.CancelledError) == is_cancelled
        assert get_nameservers.begun == get_nameservers.ended
        assert len(get_nameservers.begun) == 1 + is_cancelled
        assert len(server.queries) == 3


@on_every_loop
async def test_a_timeout_of_the_callers_behaves_after_one_of_ours():
    async with Nameserver(lambda query: None) as server:
        resolve, _ = resolver_of(server)
        async with asyncio.timeout(60):
            task = asyncio.current_task()
            turning = asyncio.ensure_future(turn_after_each(server, 1, 5))
            with pytest.raises(QueryTimeout):
                await resolve('x.example', TYPES.A)
            assert task.cancelling() == 0
        await turning
        turning = asyncio.ensure_future(turn_after_each(server, 6, 7))
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.7):
                await resolve('y.example', TYPES.A)
        await turning
        assert not isinstance(raised.value, QueryTimeout)
        assert is_idle()


async def turn_after_each(server, first, last):
    """Turns the clock by one timeout after each of these queries."""
    for count in range(first, last + 1):
        await server.asked(count)
        turn(0.5)


@pytest.mark.parametrize('loop_name', LOOPS)
def test_one_resolver_serves_one_loop_after_another(loop_name):
    nameservers = []
    resolve, _ = Resolver(no_host, lambda fqdn: asking(nameservers[-1])(fqdn))

    async def leave_in_the_middle():
        async with Nameserver(lambda query: None) as server:
            nameservers.append(server.nameserver)
            task = asyncio.ensure_future(resolve('x.example', TYPES.A))
            await server.asked(1)
            task.cancel()
            await asyncio.wait([task])

    async def main():
        async with Nameserver(answering(a(b'x.example', ttl=0))) as server:
            nameservers.append(server.nameserver)
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']

    for each in (main, leave_in_the_middle, main):
        run(each(), LOOPS[loop_name])


def test_a_lookup_of_a_loop_that_is_gone_is_not_joined():
    key = 'x.example', TYPES.A
    lookups = {}

    async def abandon():
        settings = module.to_settings(no_host, asking(), mix_case)
        loop = asyncio.get_running_loop()
        waiter = module.Waiter(settings._replace(lookups=lookups), b'x.example', ())
        waiter.begin(key[0], key[1:], loop)

    async def main():
        async with Nameserver(answering(a(b'x.example'))) as server:
            settings = module.to_settings(no_host, asking(server.nameserver), mix_case)._replace(
                lookups=lookups
            )
            outcomes = await outcomes_of(settings, b'x.example', (TYPES.A,))
            assert texts(outcomes[TYPES.A].records) == ['192.0.2.1']

    run(abandon())
    run(main())
    assert lookups == {}


@on_every_loop
async def test_the_defaults_read_resolv_conf_and_hosts(tmp_path):
    resolv_conf = tmp_path / 'resolv.conf'
    hosts = tmp_path / 'hosts'
    nameservers = functools.partial(get_nameservers_from_etc_resolve_conf, path=str(resolv_conf))
    get_host = functools.partial(get_host_from_etc_hosts, path=str(hosts))

    async def yielded():
        return [each async for each in nameservers(b'x.example')]

    local = (0.5, (IPv4Address('127.0.0.1'), 53))
    assert await yielded() == [local] * 5
    resolv_conf.write_text('nameserver 192.0.2.1\nnameserver ::1\n')
    turn(2)
    one, two = (0.5, (IPv4Address('192.0.2.1'), 53)), (0.5, (IPv6Address('::1'), 53))
    assert await yielded() == [one, two] * 5
    assert await get_host(b'www.example', TYPES.A) is None
    hosts.write_text('192.0.2.1 WWW.example alias\n192.0.2.2 www.example\n::2 six.example\n')
    turn(2)
    resolve, _ = Resolver(get_host)
    assert texts(await resolve('www.Example', TYPES.A)) == ['192.0.2.1', '192.0.2.2']
    assert {each.expires_at for each in await resolve('ALIAS', TYPES.A)} == {1004.0}
    assert texts(await resolve('six.example', TYPES.AAAA)) == ['::2']
    for name, qtype in (('www.example', TYPES.AAAA), ('six.example', TYPES.A)):
        with pytest.raises(DoesNotExist) as raised:
            await resolve(name, qtype)
        assert raised.value.rcode == RCODES.NOERROR
    assert await get_host(b'www.example', TYPES.MX) is None
    assert await get_host(b'other.example', TYPES.A) is None


def hosts_at(path):
    """The default get_host, with another file."""
    return functools.partial(get_host_from_etc_hosts, path=str(path))


def nameservers_at(path):
    """The default get_nameservers, with another file."""
    return functools.partial(get_nameservers_from_etc_resolve_conf, path=str(path))


async def yielded_for(path):
    """What the default get_nameservers yields."""
    return [each async for each in get_nameservers_from_etc_resolve_conf(b'x', path=str(path))]


@on_every_loop
async def test_the_options_timeout_and_attempts_have_the_nameservers_asked_so(tmp_path):
    path = tmp_path / 'resolv.conf'
    path.write_text('nameserver 192.0.2.1\nnameserver ::1\noptions timeout:3 attempts:2 edns0\n')
    one, two = (3, (IPv4Address('192.0.2.1'), 53)), (3, (IPv6Address('::1'), 53))
    assert await yielded_for(path) == [one, two] * 2


@on_every_loop
async def test_the_option_rotate_has_each_resolution_start_with_the_next_nameserver(tmp_path):
    path = tmp_path / 'resolv.conf'
    path.write_text(''.join(f'nameserver 192.0.2.{n}\n' for n in range(3)) + 'options rotate\n')
    walks = [[int(each[1][0]) % 256 for each in await yielded_for(path)] for _ in range(6)]
    first = walks[0][0]
    for number, walk in enumerate(walks):
        assert walk == [(first + number + step) % 3 for step in range(3)] * 5


@on_every_loop
async def test_the_option_use_vc_has_nameservers_asked_over_tcp(tmp_path):
    path = tmp_path / 'resolv.conf'
    addresses = '192.0.2.1', '2001:db8::1', 'fe80::1%eth0'
    path.write_text(''.join(f'nameserver {each}\n' for each in addresses) + 'options use-vc\n')
    urls = ['tcp://192.0.2.1:53', 'tcp://[2001:db8::1]:53', 'tcp://[fe80::1%eth0]:53']
    assert await yielded_for(path) == [(0.5, url) for url in urls] * 5


@pytest.fixture
def instead_of_port_53(monkeypatch):
    """Where connections to port 53 lead, by address: nobody may listen there who is not root."""
    instead = {}

    def redirected(connect):
        def connect_instead(sock, address):
            return connect(sock, instead.get(address[0], address) if address[1] == 53 else address)

        return connect_instead

    class Redirected(socket.SocketType):  # the bare kind of socket
        connect = redirected(socket.SocketType.connect)
        connect_ex = redirected(socket.SocketType.connect_ex)

    monkeypatch.setattr(socket, 'SocketType', Redirected)
    for name in ('connect', 'connect_ex'):
        monkeypatch.setattr(socket.socket, name, redirected(getattr(socket.socket, name)))
    return instead


def defaults_at(resolv_conf, hosts):
    return hosts_at(hosts), nameservers_at(resolv_conf)


def wrappers_around_defaults_at(resolv_conf, hosts):
    async def get_host(fqdn, qtype):
        return await get_host_from_etc_hosts(fqdn, qtype, path=str(hosts))

    async def get_nameservers(fqdn):
        each_set = get_nameservers_from_etc_resolve_conf(fqdn, path=str(resolv_conf))
        async for timeout, *nameservers in each_set:
            await asyncio.sleep(0)
            yield timeout, *nameservers

    return get_host, get_nameservers


HOSTS = '192.0.2.9 in-hosts four.example\n2001:db8::9 in-hosts six.example\n192.0.2.8 localhost\n'
ASKED_FOR = [
    ('www.two.example', TYPES.A),
    ('WWW', TYPES.AAAA),
    ('www', TYPES.MX),
    ('in-hosts', TYPES.A),
    ('in-hosts', TYPES.AAAA),
    ('four.example', TYPES.AAAA),
    ('six.example', TYPES.A),
    ('six.example', TYPES.MX),
    ('localhost', TYPES.A),
    ('x.localhost', TYPES.A),
    ('x.onion', TYPES.A),
    ('192.0.2.3', TYPES.A),
    ('192.0.2.3', TYPES.AAAA),
    ('nowhere.example.', TYPES.A),
    ('nowhere', TYPES.A),
    ('silent.example', TYPES.A),
    ('failing.example', TYPES.A),
    ('a' * 64, TYPES.A),
]


def of_all_kinds(query):
    name = query.qd[0].name.lower()
    if name == b'silent.example':
        return None
    if name == b'failing.example':
        return reply_to(query, rcode=RCODES.SERVFAIL)
    return having(*ALIAS)(query)


# What the first of two nameservers is.
FIRST_OF_TWO = {
    'not there': REFUSES,
    'silent': silent,
    'refusing': answering(rcode=RCODES.REFUSED),
    'good': of_all_kinds,
}


@in_one_way
@pytest.mark.parametrize('options', ['edns0', 'timeout:1 attempts:2', 'use-vc'])
@pytest.mark.parametrize('first', FIRST_OF_TWO)
@pytest.mark.parametrize('qtypes', ['as asked', 'both families'])
async def test_the_defaults_and_wrappers_around_them_come_to_the_same(
    tmp_path, instead_of_port_53, options, first, qtypes
):
    asked = []
    first = FIRST_OF_TWO[first]

    def noting(server, answer):
        def note(query):
            question = query.qd[0]._replace(name=query.qd[0].name.lower())
            asked.append((server, question, has_edns(query)))
            return answer(query)

        return REFUSES if answer is REFUSES else note

    async def come_to(get_host, get_nameservers):
        """What comes of each name, and what was asked for it of whom, in this order."""
        found = []
        arguments = {'search': ['one.example', 'two.example']}
        resolve, clear_cache = Resolver(get_host, get_nameservers, **arguments)
        resolver = module.AioHttpDnsResolver(get_host, get_nameservers, **arguments)
        for name, qtype in ASKED_FOR:
            if qtypes == 'as asked':
                asking = resolve(name, qtype)
            else:
                asking = resolver.resolve(name, 80, socket.AF_UNSPEC)
            try:
                outcome = repr(await in_time(asking))
            except (OSError, ResolverError) as error:
                outcome = type(error), str(error), str(error.__cause__)
            # In the order of each type: both go on by themselves.
            asked.sort(key=lambda each: each[1].qtype)
            found.append((name, outcome, asked.copy()))
            asked.clear()
            turn(100)  # and what was cached has expired, and what was learned is not known
            await settle()
        clear_cache()
        await resolver.close()
        return found

    resolv_conf, hosts = tmp_path / 'resolv.conf', tmp_path / 'hosts'
    resolv_conf.write_text(f'nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions {options}\n')
    hosts.write_text(HOSTS)
    over_udp = silent if first is REFUSES else first
    one = Nameserver(noting('udp', over_udp), over_tcp=noting('tcp', first))
    async with one, Nameserver(noting('other', of_all_kinds)) as two:
        instead_of_port_53['127.0.0.2'] = closed_port() if first is REFUSES else one.nameserver
        instead_of_port_53['127.0.0.3'] = two.nameserver
        loop = asyncio.get_running_loop()
        began = loop.now
        by_default = await come_to(*defaults_at(resolv_conf, hosts))
        loop.now = began
        by_wrapper = await come_to(*wrappers_around_defaults_at(resolv_conf, hosts))
        assert {server for *_, asked in by_default for server, *_ in asked} >= {'other'}
        for ours, theirs in zip(by_default, by_wrapper, strict=True):
            assert ours == theirs


# --- 20. Resolver ------------------------------------------------------------


@on_every_loop
async def test_get_host_is_asked_first_and_only_for_the_name_as_given():
    asked = []
    hosts = {
        b'one.example': IPv4Address('192.0.2.1'),
        b'two.example': (
            IPv4AddressExpiresAt(IPv4Address('192.0.2.2'), 9e9),
            IPv4Address('192.0.2.3'),
        ),
        b'six.example': IPv6Address('fe80::1%lo'),
        b'none.example': (),
    }

    async def get_host(fqdn, qtype):
        asked.append((fqdn, qtype))
        return hosts.get(fqdn)

    zone = cname(b'alias.example', b'one.example'), a(b'one.example', '192.0.2.9')
    async with Nameserver(from_zone(*zone)) as server:
        resolve, _ = resolver_of(server, get_host=get_host)
        (one,) = await resolve('One.Example.', TYPES.A)
        assert (type(one), str(one), one.expires_at) == (IPv4AddressExpiresAt, '192.0.2.1', 1000.0)
        two = await resolve('two.example', TYPES.A)
        assert [(str(each), each.expires_at) for each in two] == [
            ('192.0.2.2', 9e9),
            ('192.0.2.3', 1000),
        ]
        (six,) = await resolve('six.example', TYPES.AAAA)
        assert (type(six), str(six)) == (IPv6AddressExpiresAt, 'fe80::1%lo')
        with pytest.raises(DoesNotExist) as raised:
            await resolve('none.example', TYPES.A)
        assert raised.value.rcode == RCODES.NOERROR
        await server.asked(0)
        asked.clear()
        for _ in range(2):
            assert texts(await resolve('alias.example', TYPES.A)) == ['192.0.2.9']
        assert asked == [(b'alias.example', TYPES.A)]
        hosts[b'alias.example'] = '192.0.2.1'
        turn(60)
        with pytest.raises(TypeError):
            await resolve('alias.example', TYPES.A)


@on_every_loop
async def test_nothing_is_sent_for_special_names():
    async def get_host(fqdn, qtype):
        assert not module.known_as_literal(fqdn, qtype, 0.0, True)

    async def get_nameservers(fqdn):
        raise AssertionError(fqdn)
        yield

    resolve, _ = Resolver(get_host, get_nameservers)
    found = {
        ('127.0.0.1', TYPES.A): '127.0.0.1',
        (b'192.0.2.1', TYPES.A): '192.0.2.1',
        ('2001:DB8::1', TYPES.AAAA): '2001:db8::1',
        ('fe80::1%Lo', TYPES.AAAA): 'fe80::1%Lo',
        ('localhost', TYPES.A): '127.0.0.1',
        ('LOCALHOST.', TYPES.AAAA): '::1',
        (b'a.b.localhost', TYPES.A): '127.0.0.1',
    }
    for (name, qtype), address in found.items():
        answers = await resolve(name, qtype)
        assert texts(answers) == [address]
        assert answers[0].expires_at == 1000.0
    absent = [
        ('127.0.0.1', TYPES.AAAA, RCODES.NOERROR),
        ('::1', TYPES.A, RCODES.NOERROR),
        ('::1', TYPES.TXT, RCODES.NOERROR),
        ('localhost', TYPES.MX, RCODES.NOERROR),
        ('abc.onion', TYPES.A, RCODES.NXDOMAIN),
        ('onion', TYPES.A, RCODES.NXDOMAIN),
        ('x.INVALID.', TYPES.AAAA, RCODES.NXDOMAIN),
    ]
    for name, qtype, rcode in absent:
        with pytest.raises(DoesNotExist) as raised:
            await resolve(name, qtype)
        assert raised.value.rcode == rcode


MEANT = {'app.localhost': '192.0.2.1', 'localhost': '192.0.2.2', 'x.onion': '192.0.2.3'}
MEANT |= {'onion': '192.0.2.4', 'db.invalid': '192.0.2.5'}


async def come_to_what_is_meant(server, **arguments):
    """Sees that a resolver gives what hosts or get_host has for special names, else as ever."""
    resolve, _ = resolver_of(server, **arguments)
    for name, address in MEANT.items():
        for each in (name, name.encode(), name.upper() + '.'):
            assert texts(await resolve(each, TYPES.A)) == [address]
        with pytest.raises(DoesNotExist) as raised:  # there is only the other family
            await resolve(name, TYPES.AAAA)
        assert raised.value.rcode == RCODES.NOERROR
    assert texts(await resolve('other.localhost', TYPES.A)) == ['127.0.0.1']
    assert texts(await resolve('other.localhost', TYPES.AAAA)) == ['::1']
    for name in ('other.onion', 'other.invalid', 'localhost.onion'):
        with pytest.raises(DoesNotExist) as raised:
            await resolve(name, TYPES.A)
        assert raised.value.rcode == RCODES.NXDOMAIN
    with pytest.raises(DoesNotExist):
        await resolve('app.localhost', TYPES.MX)
    # An address is not looked for in hosts.
    assert texts(await resolve('192.0.2.66', TYPES.A)) == ['192.0.2.66']
    await server.asked(0)


@on_every_loop
@pytest.mark.parametrize(
    'line, address',
    [
        ('127.0.0.1 localhost app.localhost', '::1'),
        ('::1 localhost app.localhost', '::1'),
        ('2001:db8::1 localhost app.localhost', '2001:db8::1'),
        ('127.0.0.2 localhost app.localhost', None),
        ('127.0.0.1 localhost app.localhost\n192.0.2.1 localhost app.localhost', None),
    ],
)
async def test_the_usual_line_of_hosts_for_localhost_says_nothing_of_ipv6(tmp_path, line, address):
    hosts = tmp_path / 'hosts'
    hosts.write_text(line + '\n')
    get_host = hosts_at(hosts)

    async def by_call(fqdn, qtype):
        return await get_host(fqdn, qtype)

    for each in (get_host, by_call):
        resolve, _ = Resolver(each, asking())
        for name in ('localhost', 'app.localhost'):
            if address is None:
                with pytest.raises(DoesNotExist):
                    await resolve(name, TYPES.AAAA)
            else:
                assert texts(await resolve(name, TYPES.AAAA)) == [address]


@on_every_loop
@pytest.mark.parametrize('search', [(), ['one.example']])
async def test_what_hosts_or_get_host_has_for_a_special_name_is_meant(tmp_path, search):
    hosts = tmp_path / 'hosts'
    hosts.write_text(
        ''.join([f'{address} {name}\n' for name, address in MEANT.items()])
        + '192.0.2.7 192.0.2.66\n'
    )

    async def get_host(fqdn, qtype):
        address = MEANT.get(fqdn.decode())
        if address is None:
            return None
        return IPv4Address(address) if qtype == TYPES.A else ()

    async with Nameserver(echo) as server:
        await come_to_what_is_meant(server, get_host=hosts_at(hosts), search=search)
        await come_to_what_is_meant(server, get_host=get_host, search=search)


@on_every_loop
async def test_names_that_only_look_special_are_asked_for():
    names = [
        b'notlocalhost',
        b'localhost.example',
        b'a\\.localhost',
        b'1.2.3.4.5',
        b'256.1.1.1',
        b'x1',
    ]
    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = resolver_of(server)
        for name in names:
            await resolve(name, TYPES.A)
        assert server.names == names


@on_every_loop
async def test_an_alias_of_a_special_name_is_not_sent_for_either():
    targets = []

    def answer(query):
        return reply_to(query, cname(query.qd[0].name, targets[-1]))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        targets.append(b'abc.onion')
        with pytest.raises(DoesNotExist):
            await resolve('a.example', TYPES.A)
        targets.append(b'localhost')
        assert texts(await resolve('b.example', TYPES.A)) == ['127.0.0.1']
        for target in (b'10.0.0.1', b'::1%a'):  # these are names here, and there are none such
            targets.append(target)
            for qtype in (TYPES.A, TYPES.AAAA):
                with pytest.raises(DoesNotExist) as raised:
                    await resolve('c.example', qtype)
                assert raised.value.rcode == RCODES.NXDOMAIN
            turn(60)
        await server.asked(6)


@on_every_loop
@pytest.mark.parametrize(
    'name', ['a..b', '.a', 'a' * 64, 'a.' * 127 + 'a', 'a\u200db.de', '\\', b'a..b']
)
async def test_nothing_is_sent_for_a_name_that_cannot_be_packed(name):
    async def get_host(fqdn, qtype):
        raise AssertionError(fqdn)

    async with Nameserver(answering()) as server:
        resolve, _ = resolver_of(server, get_host=get_host)
        with pytest.raises(InvalidName):
            await resolve(name, TYPES.A)
        await server.asked(0)


@on_every_loop
@pytest.mark.parametrize(
    'name, qtype, error',
    [
        ('x', TYPES.OPT, InvalidName),
        ('x', TYPES.TSIG, InvalidName),
        ('x', TYPES.TKEY, InvalidName),
        ('x', TYPES.ANY, InvalidName),
        ('x', TYPES.AXFR, InvalidName),
        ('x', TYPES.IXFR, InvalidName),
        ('x', 0, InvalidName),
        ('x', 65536, InvalidName),
        ('x', -1, InvalidName),
        ('x', 'A', TypeError),
        ('x', None, TypeError),
        (None, TYPES.A, TypeError),
        (5, TYPES.A, TypeError),
        (bytearray(b'x'), TYPES.A, TypeError),
        (['x'], TYPES.A, TypeError),
    ],
    ids=repr,
)
async def test_what_cannot_be_resolved_is_told_so(name, qtype, error):
    async with Nameserver(answering()) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(error):
            await resolve(name, qtype)
        await server.asked(0)


@on_every_loop
async def test_a_transform_of_the_callers_decides_what_is_sent():
    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = resolver_of(server, transform_fqdn=bytes.upper)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert server.queries[0].qd[0].name == b'WWW.EXAMPLE.COM'
        for transform in (lambda fqdn: fqdn + b'.', lambda fqdn: b'\\119' + fqdn[1:]):
            resolve, _ = resolver_of(server, transform_fqdn=transform)
            assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        resolve, _ = resolver_of(server, transform_fqdn=lambda fqdn: b'a' * 64)
        with pytest.raises(InvalidName):
            await resolve('x', TYPES.A)


@on_every_loop
async def test_both_families_are_asked_at_once_in_one_walk():
    aaaa = rr(b'x.example', TYPES.AAAA, IPv6Address('2001:db8::1'))
    walks = []

    async def get_nameservers(fqdn):
        walks.append(fqdn)
        yield 0.5, server.nameserver

    async def answer(query):
        while len(server.queries) < 2:
            await asyncio.sleep(0)
        return zone(query)

    zone = from_zone(aaaa, a(b'x.example'), cname(b'alias.example', b'x.example'))
    settings = module.to_settings(no_host, get_nameservers, mix_case)
    both = TYPES.A, TYPES.AAAA
    async with Nameserver(answer) as server:
        outcomes = await outcomes_of(settings, b'x.example', both)
        assert [texts(outcomes[qtype].records) for qtype in both] == [
            ['192.0.2.1'],
            ['2001:db8::1'],
        ]
        assert walks == [b'x.example']
        await server.asked(2)
        outcomes = await outcomes_of(settings, b'alias.example', both)
        assert [texts(outcomes[qtype].records) for qtype in both] == [
            ['192.0.2.1'],
            ['2001:db8::1'],
        ]
        assert walks == [b'x.example', b'alias.example']  # the rest was cached
        server.answer = from_zone(a(b'y.example'))
        outcomes = await outcomes_of(settings, b'y.example', both)
        assert texts(outcomes[TYPES.A].records) == ['192.0.2.1']
        assert outcomes[TYPES.AAAA].error.rcode == RCODES.NOERROR


@on_every_loop
async def test_one_of_both_families_that_is_being_asked_for_is_not_asked_again():
    go_on = asyncio.Event()

    async def answer(query):
        await go_on.wait()
        return reply_to(query)

    async with Nameserver(answer) as server:
        settings = module.to_settings(no_host, asking(server.nameserver), as_it_is)
        one = asyncio.ensure_future(outcomes_of(settings, b'x.example', (TYPES.A,)))
        await server.asked(1)
        both = outcomes_of(settings, b'x.example', (TYPES.A, TYPES.AAAA))
        both = asyncio.ensure_future(both)
        await server.asked(2)
        go_on.set()
        assert set(await one) == {TYPES.A}
        assert set(await both) == {TYPES.A, TYPES.AAAA}
        await server.asked(2)


@on_every_loop
async def test_those_whose_get_host_takes_long_ask_no_more_than_others():
    gates = {}

    async def get_host(fqdn, qtype):
        gate = gates[len(gates)] = asyncio.Event()
        await gate.wait()

    async with Nameserver(answering(a(b'x.example'))) as server:
        resolve, _ = resolver_of(server, get_host=get_host)
        tasks = [asyncio.ensure_future(resolve('x.example', TYPES.A)) for _ in range(3)]
        await settle()
        for gate in gates.values():
            gate.set()
            await let_arrive()
        await asyncio.gather(*tasks)
        await server.asked(1)


@on_every_loop
async def test_names_that_are_aliases_of_each_other_do_not_wait_for_each_other():
    async def answer(query):
        name = query.qd[0].name.lower()
        await gathering.wait()
        return reply_to(query, cname(name, b'b' if name == b'a' else b'a'))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        gathering = asyncio.Event()
        tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in 'ab']
        await server.asked(2)
        gathering.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in errors} == {CnameChainTooLong}


@on_every_loop
async def test_a_chain_in_one_reply_needs_no_further_query():
    chain = cname(b'a', b'b', 50), cname(b'b', b'c', 40), a(b'c', ttl=90)
    async with Nameserver(answering(*chain)) as server:
        resolve, _ = resolver_of(server)
        (address,) = await resolve('a', TYPES.A)
        assert (str(address), address.expires_at) == ('192.0.2.1', 1040.0)
        await resolve('a', TYPES.A)
        await server.asked(1)


@on_every_loop
async def test_a_chain_across_replies_needs_one_query_each():
    zone = cname(b'a', b'b', 50), cname(b'b', b'c', 40), a(b'c', ttl=90)
    async with Nameserver(from_zone(*zone)) as server:
        resolve, _ = resolver_of(server)
        for _ in range(3):
            (address,) = await resolve('a', TYPES.A)
            assert (str(address), address.expires_at) == ('192.0.2.1', 1040.0)
        assert server.names == [b'a', b'b', b'c']
        (alias,) = await resolve('a', TYPES.CNAME)
        assert (alias, alias.expires_at) == (b'b', 1050.0)
        turn(40)
        await resolve('a', TYPES.A)
        assert server.names[4:] == [b'b']  # the alias of a, and the address, still hold


@on_every_loop
@pytest.mark.parametrize('aliases', [20, 21])
async def test_more_than_20_aliases_across_replies_are_too_many(aliases):
    names = [b'%d' % number + b'.example' for number in range(aliases + 1)]
    zone = [cname(name, target) for name, target in itertools.pairwise(names)]
    async with Nameserver(from_zone(*zone, a(names[-1]))) as server:
        resolve, _ = resolver_of(server)
        if aliases == 20:
            assert texts(await resolve('0.example', TYPES.A)) == ['192.0.2.1']
        else:
            with pytest.raises(CnameChainTooLong):
                await resolve('0.example', TYPES.A)
        await server.asked(21)


@on_every_loop
async def test_an_alias_outlives_the_absence_at_its_end():
    alias = cname(b'a.example', b'b.example', 100)

    def answer(query):
        aliases = [alias] if is_about(query, b'a.example') else []
        return reply_to(query, *aliases, rcode=RCODES.NXDOMAIN, ns=(soa(b'example', 10, 10),))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is)
        for _ in range(2):
            with pytest.raises(DoesNotExist) as raised:
                await resolve('a.example', TYPES.A)
            assert 'b.example' in str(raised.value)
        await server.asked(1)
        turn(10)
        with pytest.raises(DoesNotExist):
            await resolve('a.example', TYPES.A)
        assert server.names == [b'a.example', b'b.example']
        with pytest.raises(DoesNotExist):
            await resolve('b.example', TYPES.A)
        await server.asked(2)
        server.answer = from_zone(alias)
        assert await resolve('a.example', TYPES.CNAME) == (b'b.example',)


def put(path, text):
    """Replaces a file as programs do that must not be seen halfway."""
    new = path.with_suffix('.new')
    new.write_text(text)
    new.rename(path)


def make_directory(path):
    path.unlink()
    path.mkdir()


@on_every_loop
@pytest.mark.parametrize(
    'before, change, after',
    [
        (None, lambda path: path.write_text('192.0.2.9 x.example\n'), '192.0.2.9'),
        ('', lambda path: path.write_text('192.0.2.9 x.example\n'), '192.0.2.9'),
        ('', lambda path: put(path, '192.0.2.9 x.example\n'), '192.0.2.9'),
        ('192.0.2.8 x.example\n', lambda path: put(path, '192.0.2.9 x.example\n'), '192.0.2.9'),
        ('192.0.2.8 x.example\n', Path.unlink, '192.0.2.1'),
        ('192.0.2.8 x.example\n', make_directory, '192.0.2.1'),
    ],
    ids=['appears', 'is written', 'is filled by rename', 'is replaced', 'vanishes', 'is a folder'],
)
async def test_hosts_is_read_again_once_it(tmp_path, before, change, after):
    path = tmp_path / 'hosts'
    if before is not None:
        path.write_text(before)
    async with Nameserver(answering(a(b'x.example'))) as server:
        resolve, _ = resolver_of(server, get_host=hosts_at(path))
        earlier = '192.0.2.8' if before else '192.0.2.1'
        assert texts(await resolve('x.example', TYPES.A)) == [earlier]
        change(path)
        for _ in range(19):  # no look at the file for each of them
            turn(0.1)
            assert texts(await resolve('x.example', TYPES.A)) == [earlier]
        turn(0.1)
        assert texts(await resolve('x.example', TYPES.A)) == [after]


@on_every_loop
async def test_another_resolver_that_looked_meanwhile_delays_no_reading(tmp_path):
    path = tmp_path / 'hosts'
    async with Nameserver(answering(a(b'x.example'))) as server:
        one, _ = resolver_of(server, get_host=hosts_at(path))
        two, _ = resolver_of(server, get_host=hosts_at(path))
        await one('x.example', TYPES.A)
        turn(2)
        await two('x.example', TYPES.A)  # looks at the file
        put(path, '192.0.2.9 x.example\n')
        turn(1.9)
        assert texts(await one('x.example', TYPES.A)) == ['192.0.2.1']  # relies on that look
        turn(0.1)
        for resolve in (one, two):
            assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.9']


def test_a_loop_whose_clock_is_far_behind_anothers_looks_at_the_files_too(tmp_path):
    path = tmp_path / 'hosts'
    nameservers = []
    resolve, _ = Resolver(hosts_at(path), lambda fqdn: asking(nameservers[-1])(fqdn))

    async def main(ahead, change, expected):
        async with Nameserver(answering(a(b'x.example'))) as server:
            nameservers.append(server.nameserver)
            turn(ahead)
            await resolve('x.example', TYPES.A)
            change()
            turn(2)
            assert texts(await resolve('x.example', TYPES.A)) == [expected]

    run(main(1e6, lambda: None, '192.0.2.1'))
    put(path, '192.0.2.9 x.example\n')
    run(main(0, lambda: None, '192.0.2.9'))
    run(main(1e6, path.unlink, '192.0.2.1'))


NO_INTERFACE = 'nameserver fe80::1%{}\n'  # a nameserver that is nowhere, and tells of itself


async def nameserver_tried(resolve, name='x.example', qtype=TYPES.A):
    """The name and the interface of the nameserver that a resolution ended with."""
    with pytest.raises(SocketError) as raised:
        await resolve(name, qtype)
    return re.match(r'(\S+)\. .* from \[fe80::1%(.+?)\]:53: ', raised.value.strerror).groups()


@on_every_loop
async def test_resolv_conf_is_read_again_once_it_changed_and_what_was_learned_is_forgotten(
    tmp_path,
):
    path = tmp_path / 'resolv.conf'
    path.write_text(NO_INTERFACE.format('none-1'))
    settings = module.to_settings(no_host, nameservers_at(path), mix_case)

    async def resolve(name, qtype):
        outcomes = {}
        await module.resolve_name(settings, name, (qtype,), outcomes)
        return module.records_of(outcomes[qtype])

    assert await nameserver_tried(resolve) == ('x.example', 'none-1')
    answers = (IPv4AddressExpiresAt(IPv4Address('192.0.2.1'), 9e9),)
    settings.cache['x.example', TYPES.A] = module.Answer(9e9, answers, None, True)
    put(path, NO_INTERFACE.format('none-2') + 'options trust-ad\n')
    turn(1.9)
    assert await resolve('x.example', TYPES.A) == answers
    assert not settings.config.conf.trust_ad
    turn(0.1)
    assert await nameserver_tried(resolve) == ('x.example', 'none-2')
    assert settings.cache == {}
    assert settings.config.conf.trust_ad


@on_every_loop
async def test_a_change_of_the_registry_takes_effect_as_one_of_resolv_conf_does(windows):
    assert await yielded_for(module.REGISTRY) == [(0.5, (IPv4Address('127.0.0.1'), 53))] * 5
    resolve, _ = Resolver(no_host, nameservers_at(module.REGISTRY))
    windows[TCPIP] = {'NameServer': 'fe80::1%none-1'}
    turn(2)
    assert await nameserver_tried(resolve) == ('x.example', 'none-1')
    windows[TCPIP] = {'NameServer': 'fe80::1%none-2', 'SearchList': 'a.example'}
    turn(1.9)
    assert await nameserver_tried(resolve, 'x') == ('x', 'none-1')
    turn(0.1)
    assert await nameserver_tried(resolve, 'x') == ('x.a.example', 'none-2')


@on_every_loop
async def test_an_answer_that_was_asked_for_before_a_file_changed_is_not_kept(tmp_path):
    path = tmp_path / 'hosts'
    go_on = asyncio.Event()

    async def answer(query):
        await go_on.wait()
        return reply_to(query, a(query.qd[0].name))

    async with Nameserver(answer) as server:
        get_nameservers = asking(server.nameserver, timeout=10)
        resolve, _ = resolver_of(server, get_host=hosts_at(path), get_nameservers=get_nameservers)
        before = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await server.asked(1)
        put(path, '192.0.2.9 y.example\n')
        turn(2)
        assert texts(await resolve('y.example', TYPES.A)) == ['192.0.2.9']
        go_on.set()
        assert texts(await before) == ['192.0.2.1']
        assert texts(await resolve('x.example', TYPES.A)) == ['192.0.2.1']
        await server.asked(2)


def nowhere(query):
    return reply_to(query, rcode=RCODES.NXDOMAIN, ns=(soa(b''),))


def knowing(*records, otherwise=nowhere):
    """An `answer` with these records; a name that has none of them does not exist."""
    zone = from_zone(*records, ns=(soa(b''),))
    names = {record.name for record in records}

    def answer(query):
        return (zone if query.qd[0].name.lower() in names else otherwise)(query)

    return answer


def having(*records):
    """An `answer` as `knowing` is one, but with a SOA only for what is nowhere.

    So an alias whose target is not beside it has to be followed.
    """
    zone, names = from_zone(*records), {record.name for record in records}
    return lambda query: (zone if query.qd[0].name.lower() in names else nowhere)(query)


SEARCH = 'one.example', b'Two.Example.'


@on_every_loop
@pytest.mark.parametrize(
    'name, asked',
    [
        ('www', [b'www.one.example', b'www.two.example', b'www']),
        (b'WWW', [b'www.one.example', b'www.two.example', b'www']),
        ('www.x', [b'www.x', b'www.x.one.example', b'www.x.two.example']),
        ('a\\.b', [b'a\\.b.one.example', b'a\\.b.two.example', b'a\\.b']),
        ('www.', [b'www']),
        ('www.x.', [b'www.x']),
        ('b\u00fccher\u3002', [b'xn--bcher-kva']),
        ('.', [b'']),
        ('', [b'']),
    ],
)
async def test_names_are_searched_and_each_absence_is_cached(name, asked):
    async with Nameserver(nowhere) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        for _ in range(2):
            with pytest.raises(DoesNotExist) as raised:
                await resolve(name, TYPES.A)
            assert server.names == asked
        own = module.to_name(name).decode().lower()
        assert str(raised.value).lower().startswith(f'{own}. a from ')  # the name itself
        assert raised.value.rcode == RCODES.NXDOMAIN


@on_every_loop
@pytest.mark.parametrize('absence', [nowhere, answering(ns=(soa(b''),))])
async def test_the_search_goes_on_after_an_absence_of_either_kind(absence):
    async with Nameserver(knowing(a(b'www.two.example'), otherwise=absence)) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        for _ in range(2):
            assert texts(await resolve('www', TYPES.A)) == ['192.0.2.1']
            assert server.names == [b'www.one.example', b'www.two.example']


NODATA_BELOW_ROOT = answering(ns=(soa(b''),))
# Searches in the tests of Go's net and c-ares below one.example, two.example and three.example:
# what the nameserver says of some names, the rest does not exist; the address or the error, and
# below which domains it is looked for. `-` is the name itself.
FOREIGN_SEARCHES = {
    'the third': ('www', {'www.three.example': echo}, ['192.0.2.1'], 'one two three'),
    'the name itself': ('www', {'www': echo}, ['192.0.2.1'], 'one two three -'),
    'no such record twice': (
        'www',
        {
            'www.one.example': NODATA_BELOW_ROOT,
            'www.two.example': NODATA_BELOW_ROOT,
            'www.three.example': echo,
        },
        ['192.0.2.1'],
        'one two three',
    ),
    'no such record at all': (
        'www',
        {
            f'www{below}': NODATA_BELOW_ROOT
            for below in ('', '.one.example', '.two.example', '.three.example')
        },
        RCODES.NOERROR,
        'one two three -',
    ),
    # c-ares remembers that one of them has been there; here the error is that of the name itself.
    'no such record, no such name': (
        'www',
        {'www.one.example': NODATA_BELOW_ROOT, 'www.two.example': NODATA_BELOW_ROOT},
        RCODES.NXDOMAIN,
        'one two three -',
    ),
    'many dots': ('a.b.c.w.w', {'a.b.c.w.w.one.example': echo}, ['192.0.2.1'], '- one'),
    'a final dot': ('www.', {'www.one.example': echo}, RCODES.NXDOMAIN, '-'),
    'local': ('x.local', {'x.local.two.example': echo}, ['192.0.2.1'], '- one two'),
    # Nothing of it may be sent (RFC 7686), as part of another name neither. Go sends that.
    'onion': ('x.onion', {'x.onion.one.example': echo}, RCODES.NXDOMAIN, ''),
    # Go and c-ares go on after a failure, unless StrictErrors is set: the answer would depend on
    # which packets were lost.
    'a failure below a domain': (
        'gone.x',
        {'gone.x.one.example': SERVFAIL},
        ResponseCode,
        '- one',
    ),
    'a failure of the first': (
        'www',
        {'www.one.example': SERVFAIL, 'www.two.example': echo},
        ResponseCode,
        'one',
    ),
    'silence of the first': (
        'www',
        {'www.one.example': silent, 'www.two.example': echo},
        QueryTimeout,
        'one',
    ),
    'a failure that is not come to': (
        'www',
        {'www.one.example': echo, 'www.two.example': SERVFAIL},
        ['192.0.2.1'],
        'one',
    ),
}


@in_one_way
@pytest.mark.parametrize('title', FOREIGN_SEARCHES)
async def test_a_search_of_other_resolvers_tests_finds(title):
    name, said, expected, below = FOREIGN_SEARCHES[title]

    def answer(query):
        return said.get(query.qd[0].name.decode(), nowhere)(query)

    own = name.encode().removesuffix(b'.')
    asked = [
        own if each == '-' else b'%b.%b.example' % (own, each.encode()) for each in below.split()
    ]
    async with Nameserver(answer) as server:
        search = ['one.example', 'two.example', 'three.example']
        resolve, _ = resolver_of(server, search=search, transform_fqdn=bytes)
        for _ in range(2):  # the second time all is in the cache, but a failure
            if isinstance(expected, list):
                assert texts(await in_time(resolve(name, TYPES.A))) == expected
            elif isinstance(expected, RCODES):
                with pytest.raises(DoesNotExist) as raised:
                    await in_time(resolve(name, TYPES.A))
                assert raised.value.rcode == expected
            else:
                with pytest.raises(expected):
                    await in_time(resolve(name, TYPES.A))
                assert list(dict.fromkeys(server.names)) == asked
                break
            assert server.names == asked


@in_one_way
async def test_a_special_domain_of_the_search_list_costs_no_query():
    async with Nameserver(nowhere) as server:
        resolve, _ = resolver_of(server, search=['go.example', 'onion'], transform_fqdn=bytes)
        with pytest.raises(DoesNotExist):
            await resolve('www', TYPES.A)
        assert server.names == [b'www.go.example', b'www']


@on_every_loop
async def test_an_absence_that_has_expired_is_asked_for_again_before_what_comes_after_it():
    records = [a(b'www.two.example', ttl=600)]
    async with Nameserver(lambda query: knowing(*records)(query)) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        assert texts(await resolve('www', TYPES.A)) == ['192.0.2.1']
        records.append(a(b'www.one.example', '192.0.2.2'))
        turn(61)
        assert texts(await resolve('www', TYPES.A)) == ['192.0.2.2']
        assert server.names == [b'www.one.example', b'www.two.example', b'www.one.example']


@on_every_loop
@pytest.mark.parametrize('name', ['www', 'www.x'])
async def test_a_failure_ends_the_search(name):
    async with Nameserver(answering(rcode=RCODES.SERVFAIL)) as server:
        resolve, _ = resolver_of(server, search=SEARCH)
        with pytest.raises(ResponseCode) as raised:
            await resolve(name, TYPES.A)
        first = b'www.one.example' if name == 'www' else b'www.x'
        assert set(server.names) == {first}
        assert str(raised.value).startswith(first.decode())


@on_every_loop
@pytest.mark.parametrize('qtype', [TYPES.AAAA, TYPES.MX])
async def test_the_search_goes_on_after_a_failure_if_the_name_does_not_exist_for_a(qtype):
    record = rr(b'www.two.example', TYPES.AAAA, IPv6Address('2001:db8::1'))
    record = {TYPES.AAAA: record, TYPES.MX: rr(record.name, TYPES.MX, module.MX(1, b''))}[qtype]

    def answer(query):
        if query.qd[0].qtype == qtype and is_about(query, b'www.one.example'):
            return reply_to(query, rcode=RCODES.REFUSED)
        return knowing(record)(query)

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server, search=SEARCH)
        with pytest.raises(ResponseCode):
            await resolve('www', qtype)
        with pytest.raises(DoesNotExist):
            await resolve('www', TYPES.A)
        assert await resolve('www', qtype) == (record.rdata,)
        with pytest.raises(DoesNotExist) as raised:
            await resolve('www.one.example.', qtype)
        assert raised.value.rcode == RCODES.NXDOMAIN
        assert isinstance(raised.value.__cause__, ResponseCode)
        turn(60)  # as long as the SOA says
        with pytest.raises(ResponseCode):
            await resolve('www', qtype)


@on_every_loop
async def test_an_absence_for_aaaa_is_none_for_a():
    answer = {TYPES.A: answering(rcode=RCODES.REFUSED), TYPES.AAAA: nowhere}
    async with Nameserver(lambda query: answer[query.qd[0].qtype](query)) as server:
        resolve, _ = resolver_of(server, search=SEARCH)
        with pytest.raises(DoesNotExist):
            await resolve('www', TYPES.AAAA)
        with pytest.raises(ResponseCode):
            await resolve('www', TYPES.A)


@on_every_loop
async def test_the_absence_of_an_aliass_target_is_that_of_the_alias():
    """For A the alias leads to a name that does not exist; for AAAA the nameserver fails."""

    def answer(query):
        name, qtype, _ = query.qd[0]
        if qtype == TYPES.AAAA:
            return reply_to(query, rcode=RCODES.REFUSED)
        if name.lower() == b'alias.example':
            return reply_to(query, cname(name, b'target.example'))
        return nowhere(query)

    async with Nameserver(answer) as server:
        settings = module.to_settings(no_host, asking(server.nameserver), mix_case)
        both = await outcomes_of(settings, b'alias.example', (TYPES.A, TYPES.AAAA))
        later = await outcomes_of(settings, b'alias.example', (TYPES.AAAA,))
        for outcome in (both[TYPES.AAAA], later[TYPES.AAAA]):
            assert outcome.error.rcode == RCODES.NXDOMAIN


@on_every_loop
async def test_a_timeout_ends_the_search():
    async with Nameserver(lambda query: None) as server:
        resolve, _ = resolver_of(server, search=SEARCH)
        task = asyncio.ensure_future(resolve('www', TYPES.A))
        await turn_after_each(server, 1, 5)
        with pytest.raises(QueryTimeout):
            await task
        assert set(server.names) == {b'www.one.example'}


@on_every_loop
async def test_the_cached_answer_of_a_name_itself_is_not_taken_for_what_a_search_brings():
    zone = a(b'www', '192.0.2.1'), a(b'www.one.example', '192.0.2.2'), a(b'a\\.b', '192.0.2.3')
    zone = *zone, a(b'a\\.b.one.example', '192.0.2.4'), a(b'www.x', '192.0.2.5')
    async with Nameserver(knowing(*zone)) as server:
        resolve, _ = resolver_of(server, search=SEARCH)
        for _ in range(2):
            assert texts(await resolve('www.', TYPES.A)) == ['192.0.2.1']
            assert texts(await resolve('www', TYPES.A)) == ['192.0.2.2']
            assert texts(await resolve('a\\.b.', TYPES.A)) == ['192.0.2.3']
            assert texts(await resolve('a\\.b', TYPES.A)) == ['192.0.2.4']
            assert texts(await resolve('www.x', TYPES.A)) == ['192.0.2.5']
            assert len(server.queries) == 5


@on_every_loop
async def test_a_search_that_the_cache_decides_does_not_yield():
    async with Nameserver(knowing(a(b'www.two.example'))) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        answers = await resolve('www', TYPES.A)
        with pytest.raises(StopIteration) as stopped:
            resolve('www', TYPES.A).send(None)
        assert stopped.value.value is answers


@on_every_loop
async def test_many_who_search_for_a_name_make_one_query_each_time():
    async with Nameserver(knowing(a(b'www'))) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        answers = await asyncio.gather(*[resolve('www', TYPES.A) for _ in range(20)])
        assert [texts(each) for each in answers] == [['192.0.2.1']] * 20
        assert server.names == [b'www.one.example', b'www.two.example', b'www']


@on_every_loop
async def test_get_host_is_asked_for_the_name_as_given_before_a_search():
    asked = []

    async def get_host(fqdn, qtype):
        asked.append((fqdn, qtype))
        return hosts.get(fqdn)

    hosts = {b'here': IPv4Address('192.0.2.9'), b'none': (), b'www.one.example': ()}
    async with Nameserver(knowing(a(b'www.one.example'))) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, get_host=get_host, search=SEARCH)
        assert texts(await resolve('Here', TYPES.A)) == ['192.0.2.9']
        with pytest.raises(DoesNotExist):
            await resolve('none', TYPES.A)
        assert server.queries == []
        for _ in range(2):
            assert texts(await resolve('www', TYPES.A)) == ['192.0.2.1']
        assert asked == [(name, TYPES.A) for name in (b'here', b'none', b'www')]
        # What is cached of a name that the search does not come to decides nothing.
        assert texts(await resolve('www.one.example', TYPES.A)) == ['192.0.2.1']
        with pytest.raises(DoesNotExist):
            await resolve('other.', TYPES.A)
        hosts[b'other'] = IPv4Address('192.0.2.8')
        assert texts(await resolve('other', TYPES.A)) == ['192.0.2.8']


@on_every_loop
async def test_names_for_which_nothing_may_be_sent_are_not_searched():
    async with Nameserver(lambda query: reply_to(query, a(query.qd[0].name))) as server:
        resolve, _ = resolver_of(server, search=['one.example', '1'])
        assert texts(await resolve('localhost.one.example', TYPES.A)) == ['192.0.2.1']
        assert texts(await resolve('localhost', TYPES.A)) == ['127.0.0.1']
        assert texts(await resolve('192.0.2.7', TYPES.A)) == ['192.0.2.7']
        assert texts(await resolve('::1', TYPES.AAAA)) == ['::1']
        for name in ('192.0.2.7', 'x.invalid', 'onion'):
            with pytest.raises(DoesNotExist):
                await resolve(name, TYPES.AAAA)
        await server.asked(1)
        assert texts(await resolve('web1', TYPES.A)) == ['192.0.2.1']
        assert server.names[1:] == [b'web1.one.example']


@on_every_loop
async def test_a_name_below_a_domain_is_no_address_and_not_sent_if_it_looks_like_one():
    async with Nameserver(nowhere) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=['4', 'localhost'])
        assert texts(await resolve('1.2.3', TYPES.A)) == ['127.0.0.1']  # 1.2.3.localhost
        assert server.names == [b'1.2.3']


@on_every_loop
@pytest.mark.parametrize(
    'search, error',
    [
        ('example.com', TypeError),
        (b'example.com', TypeError),
        (5, TypeError),
        ([None], TypeError),
        (['a..b'], InvalidName),
        (['x' * 64], InvalidName),
        (itertools.repeat('example.com'), InvalidName),
    ],
)
async def test_what_is_no_search_list_is_told_so(search, error):
    for make in (Resolver, module.AioHttpDnsResolver):
        with pytest.raises(error):
            make(search=search)


@on_every_loop
@pytest.mark.parametrize('search', [(), ['.'], iter([]), {b''}])
async def test_without_a_domain_a_name_is_only_itself(search):
    async with Nameserver(nowhere) as server:
        resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=search)
        with pytest.raises(DoesNotExist):
            await resolve('www', TYPES.A)
        assert server.names == [b'www']


@on_every_loop
async def test_the_callers_own_nameservers_are_not_asked_for_what_the_system_would(monkeypatch):
    monkeypatch.setenv('LOCALDOMAIN', 'one.example')
    monkeypatch.setenv('RES_OPTIONS', 'ndots:3')
    async with Nameserver(nowhere) as server:
        for search in (None, SEARCH):
            resolve, _ = resolver_of(server, transform_fqdn=as_it_is, search=search)
            with pytest.raises(DoesNotExist):
                await resolve('www.x', TYPES.A)
        assert server.names == [b'www.x', b'www.x', b'www.x.one.example', b'www.x.two.example']


@on_every_loop
async def test_search_and_ndots_of_resolv_conf_are_heeded_as_long_as_they_are_there(tmp_path):
    path = tmp_path / 'resolv.conf'
    nowhere = NO_INTERFACE.format('none')
    path.write_text(nowhere + 'search one.example\noptions ndots:2\n')
    resolve, _ = Resolver(no_host, nameservers_at(path))
    given, _ = Resolver(no_host, nameservers_at(path), search=['own.example'])
    without, _ = Resolver(no_host, nameservers_at(path), search=())

    async def first_of(resolve, name):
        return (await nameserver_tried(resolve, name))[0]

    assert await first_of(resolve, 'www.x') == 'www.x.one.example'
    assert await first_of(resolve, 'www.x.y') == 'www.x.y'
    assert await first_of(given, 'www.x') == 'www.x.own.example'
    assert await first_of(without, 'www.x') == 'www.x'
    put(path, nowhere + 'search two.example\n')
    turn(2)
    assert await first_of(resolve, 'www.x') == 'www.x'
    assert await first_of(resolve, 'www') == 'www.two.example'
    put(path, nowhere + 'search .\n')
    turn(2)
    assert await first_of(resolve, 'www') == 'www'
    assert await first_of(given, 'www') == 'www.own.example'


@on_every_loop
async def test_the_environment_of_the_process_is_heeded_with_resolv_conf(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCALDOMAIN', 'one.example')
    monkeypatch.setenv('RES_OPTIONS', 'ndots:2 timeout:3 attempts:1')
    path = tmp_path / 'resolv.conf'
    path.write_text(NO_INTERFACE.format('none') + 'search two.example\noptions ndots:5\n')
    resolve, _ = Resolver(no_host, nameservers_at(path))
    assert await nameserver_tried(resolve, 'www.x') == ('www.x.one.example', 'none')
    assert await nameserver_tried(resolve, 'www.x.y') == ('www.x.y', 'none')
    assert await yielded_for(path) == [(3, (IPv6Address('fe80::1%none'), 53))]


@on_every_loop
async def test_with_no_aaaa_only_hosts_has_ipv6_addresses(tmp_path):
    resolv_conf, hosts = tmp_path / 'resolv.conf', tmp_path / 'hosts'
    resolv_conf.write_text(NO_INTERFACE.format('none') + 'search x.example\noptions no-aaaa\n')
    hosts.write_text('2001:db8::1 six.example\n')
    resolve, _ = Resolver(hosts_at(hosts), nameservers_at(resolv_conf))
    assert texts(await resolve('six.example', TYPES.AAAA)) == ['2001:db8::1']
    for name in ('::1', 'localhost'):
        assert texts(await resolve(name, TYPES.AAAA)) == ['::1']
    for name in ('www', 'www.example', 'www.'):  # else the nameserver would fail
        with pytest.raises(DoesNotExist) as raised:
            await resolve(name, TYPES.AAAA)
        assert raised.value.rcode == RCODES.NOERROR
        assert str(raised.value).startswith(name.removesuffix('.') + '. AAAA is not asked for')
    assert await nameserver_tried(resolve, 'www') == ('www.x.example', 'none')
    put(resolv_conf, NO_INTERFACE.format('none') + 'search .\n')
    turn(2)
    assert await nameserver_tried(resolve, 'www', TYPES.AAAA) == ('www', 'none')


@on_every_loop
async def test_with_no_aaaa_the_target_of_an_alias_is_not_asked_for_either(tmp_path):
    path = tmp_path / 'resolv.conf'
    path.write_text(NO_INTERFACE.format('none') + 'options no-aaaa\n')
    settings = module.to_settings(no_host, nameservers_at(path), mix_case)
    settings.config.reload_if_changed(asyncio.get_running_loop().time())
    alias = module.Answer(9e9, (), module.Alias(b'target.example', 1, 9e9), True)
    settings.cache['alias.example', TYPES.AAAA] = alias
    outcomes = await outcomes_of(settings, b'alias.example', (TYPES.AAAA,))
    assert outcomes[TYPES.AAAA].error.rcode == RCODES.NOERROR


def test_to_make_a_resolver_needs_no_loop_and_no_file():
    script = (
        'import builtins, os, aiodnsresolver as module\n'
        'builtins.open = os.stat = None\n'
        'resolve, clear_cache = module.Resolver()\n'
        'clear_cache()\n'
    )
    subprocess.run([sys.executable, '-c', script], cwd=HERE, check=True)


def test_with_callables_of_the_callers_no_file_is_looked_at():
    script = (
        'import asyncio, builtins, os, aiodnsresolver as module\n'
        'os.environ.update(LOCALDOMAIN="example.com", RES_OPTIONS="ndots:5")\n'
        'async def get_host(fqdn, qtype):\n'
        '    return module.IPv4Address("192.0.2.1") if fqdn == b"x" else None\n'
        'async def get_nameservers(fqdn):\n'
        '    raise LookupError(fqdn)\n'
        '    yield\n'
        'resolve, clear_cache = module.Resolver(get_host, get_nameservers)\n'
        'async def main():\n'
        '    builtins.open = os.stat = None\n'
        '    await resolve("x", module.TYPES.A)\n'
        '    try:\n'
        '        await resolve("y", module.TYPES.A)\n'
        '    except LookupError as error:\n'
        '        assert error.args == (b"y",)\n'
        'asyncio.run(main())\n'
    )
    subprocess.run([sys.executable, '-c', script], cwd=HERE, check=True)


@on_every_loop
async def test_what_is_asked_failed_and_dropped_is_logged_for_debugging(caplog):
    def answer(query):
        if query.qd[0].name.lower().startswith(b'silent'):
            return None
        forged = reply_to(query, a(b'x.example'), qid=query.qid ^ 1)
        return [forged, known(query)]

    known = from_zone(a(b'x.example'), cname(b'alias.example', b'silent.example'))
    caplog.set_level(logging.DEBUG, 'aiodnsresolver')
    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server, get_nameservers=asking(server.nameserver, rounds=1))
        await resolve('x.example', TYPES.A)
        task = asyncio.ensure_future(resolve('alias.example', TYPES.A))
        await server.asked(3)
        turn(1)
        with pytest.raises(QueryTimeout):
            await task
        with pytest.raises(DoesNotExist):
            server.answer = answering(rcode=RCODES.NXDOMAIN, ns=(soa(b'example'),))
            await resolve('y.example', TYPES.A)
        server.answer = lambda query: None
        task = asyncio.ensure_future(resolve('silent.example', TYPES.A))
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    where = f'127.0.0.1:{server.port}'
    dropped = f'Dropped a datagram from {where}: The message has another id than the query'
    timeout = f'silent.example. A from {where}: no usable reply in time (attempts: 1)'
    absence = f'y.example. A from {where}: the name does not exist (attempts: 1)'
    ours = [record for record in caplog.records if record.name == 'aiodnsresolver']
    assert [record.getMessage() for record in ours] == [
        dropped,
        'Asked for x.example. A: records: 1, valid for 60 s',
        dropped,
        'Asked for alias.example. A: an alias, whose target has to be asked for',
        f'An attempt failed: {timeout}',
        f'Asked for silent.example. A: QueryTimeout: {timeout}',
        f'Asked for y.example. A: {absence}, valid for 60 s',
        'Asked for silent.example. A: nobody waits for it any more',
    ]
    assert {record.levelno for record in ours} == {logging.DEBUG}


CALLER = contextvars.ContextVar('CALLER', default=None)


@pytest.fixture
def records_by_caller():
    """What is logged, each with the value of CALLER as a filter sees it."""
    records = []
    logger = logging.getLogger('aiodnsresolver')
    level = logger.level

    def note(record):
        records.append((CALLER.get(), record.getMessage()))
        return False

    logger.addFilter(note)
    logger.setLevel(logging.DEBUG)
    yield records
    logger.setLevel(level)
    logger.removeFilter(note)


@on_every_loop
@pytest.mark.parametrize('scheme', ['udp', 'tcp', 'tls', 'https'])
async def test_what_is_logged_is_logged_for_whom_it_is_about(trusting, scheme, records_by_caller):
    def answer(query):
        name = query.qd[0].name.lower()
        if name.startswith(b'silent'):
            return None
        dropped = [] if scheme == 'https' else [echo(query)._replace(qid=query.qid ^ 1)]
        return [*dropped, echo(query)]

    async def call(caller):
        CALLER.set(caller)
        await in_time(resolve(f'{caller}.example', TYPES.A))
        await raised_by(in_time(resolve(f'silent-{caller}.example', TYPES.A)))

    async with serving(scheme, trusting, answer) as server:
        resolve, clear_cache = over(url_of(scheme, server))
        for caller in ('one', 'two', 'three'):
            records_by_caller.clear()
            await asyncio.create_task(call(caller))
            about = {who for who, what in records_by_caller if f'{caller}.example' in what}
            assert about == {caller}
            assert {who for who, _ in records_by_caller} <= {caller, None}
        clear_cache()


# Two at once: what is about the name of one is logged for that one, or for nobody.
@on_every_loop
async def test_what_is_logged_at_once_is_logged_for_whom_it_is_about(records_by_caller):
    async def call(caller):
        CALLER.set(caller)
        await resolve(f'{caller}.example', TYPES.A)

    async with Nameserver(lambda query: [pack(echo(query))[:-1], echo(query)]) as server:
        resolve, _ = resolver_of(server)
        callers = ['one', 'two', 'three']
        await asyncio.gather(*[asyncio.create_task(call(caller)) for caller in callers])
        for caller in callers:
            about = {who for who, what in records_by_caller if f'{caller}.example' in what}
            assert about == {caller}


PUBLIC, PRIVATE = '8.8.8.8', '10.0.0.1'


def is_global(address):
    return address.is_global


@on_every_loop
async def test_addresses_that_are_not_accepted_are_left_out():
    def answer(query):
        return reply_to(query, a(b'x.example', PUBLIC), a(b'x.example', PRIVATE))

    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server, accept_address=is_global)
        for _ in range(2):  # asked for, and cached
            answers = await resolve('x.example', TYPES.A)
            assert texts(answers) == [PUBLIC]
            assert answers[0].expires_at > asyncio.get_running_loop().time()
        assert len(server.queries) == 1


@on_every_loop
async def test_a_name_without_an_accepted_address_does_not_exist_and_is_told_why():
    addresses = [f'10.0.0.{number}' for number in range(7)]
    async with Nameserver(
        lambda query: reply_to(query, *[a(b'x', each) for each in addresses])
    ) as server:
        resolve, _ = resolver_of(server, accept_address=is_global)
        for _ in range(2):
            with pytest.raises(DoesNotExist) as caught:
                await resolve('x', TYPES.A)
            assert caught.value.rcode == RCODES.NOERROR
            assert str(caught.value) == (
                'x. A: accept_address rejects all its addresses: '
                '10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 2 more'
            )
        assert len(server.queries) == 1


@on_every_loop
@pytest.mark.parametrize(
    'name, address',
    [
        ('localhost', '127.0.0.1'),
        ('127.0.0.1', '127.0.0.1'),
        ('x.hosts', PRIVATE),
        ('alias.example', PRIVATE),
    ],
)
async def test_an_address_is_judged_wherever_it_comes_from(name, address, tmp_path):
    (tmp_path / 'hosts').write_text('10.0.0.1 x.hosts')
    get_host = functools.partial(module.get_host_from_etc_hosts, path=tmp_path / 'hosts')

    async def own_get_host(fqdn, qtype):
        return IPv4Address(PRIVATE) if fqdn == b'x.hosts' else None

    judged = []
    zone = cname(b'alias.example', b'x.example'), a(b'x.example', PRIVATE)
    async with Nameserver(from_zone(*zone)) as server:
        for each in (get_host, own_get_host):
            resolve, _ = resolver_of(server, get_host=each, accept_address=judged.append)
            with pytest.raises(DoesNotExist, match=r'accept_address rejects'):
                await resolve(name, TYPES.A)
    assert texts(judged) == [address] * 2


@on_every_loop
async def test_a_mapped_address_is_judged_as_the_ipv4_address_that_it_is():
    judged = []

    def accept(address):
        judged.append(address)
        return address.version == 4 and address.is_global

    mapped = [rr(b'x', TYPES.AAAA, IPv6Address(f'::ffff:{each}')) for each in (PRIVATE, PUBLIC)]
    async with Nameserver(answering(*mapped)) as server:
        resolve, _ = resolver_of(server, accept_address=accept)
        assert await resolve('x', TYPES.AAAA) == (IPv6Address(f'::ffff:{PUBLIC}'),)
        assert judged == [IPv4Address(PRIVATE), IPv4Address(PUBLIC)]
        with pytest.raises(DoesNotExist, match='rejects'):
            await resolve('::ffff:10.0.0.1', TYPES.AAAA)


@on_every_loop
async def test_only_addresses_are_judged():
    async with Nameserver(
        lambda query: reply_to(query, rr(b'x', TYPES.TXT, (b'text',)), rr(b'x', TYPES.NS, b'ns.x'))
    ) as server:
        resolve, _ = resolver_of(server, accept_address=lambda address: 1 / 0)
        assert await resolve('x', TYPES.TXT) == ((b'text',),)
        assert await resolve('x', TYPES.NS) == (b'ns.x',)


@on_every_loop
async def test_an_address_is_judged_each_time_that_it_is_handed_out():
    accepted = {IPv4Address(PRIVATE)}
    async with Nameserver(answering(a(b'x', PRIVATE))) as server:
        resolve, _ = resolver_of(server, accept_address=accepted.__contains__)
        for _ in range(2):
            assert texts(await resolve('x', TYPES.A)) == [PRIVATE]
        accepted.clear()
        with pytest.raises(DoesNotExist):
            await resolve('x', TYPES.A)
        accepted.add(IPv4Address(PRIVATE))
        assert texts(await resolve('x', TYPES.A)) == [PRIVATE]
        assert len(server.queries) == 1


@on_every_loop
async def test_an_expired_answer_is_judged_too():
    async with Nameserver(answering(a(b'x', PUBLIC), a(b'x', PRIVATE))) as server:
        resolve, _ = resolver_of(server, accept_address=is_global, serve_stale=1000)
        await resolve('x', TYPES.A)
        server.answer = answering(rcode=RCODES.SERVFAIL)
        turn(61)
        assert texts(await resolve('x', TYPES.A)) == [PUBLIC]
        assert len(server.queries) > 1


@on_every_loop
async def test_each_of_those_who_share_a_lookup_judges_for_itself():
    judged = []
    async with Nameserver(answering(a(b'x', PRIVATE))) as server:
        resolve, _ = resolver_of(server, accept_address=judged.append)
        tasks = [resolve('x', TYPES.A) for _ in range(3)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in outcomes] == [DoesNotExist] * 3
        assert len({id(each) for each in outcomes}) == 3
        assert (len(server.queries), len(judged)) == (1, 3)


@on_every_loop
async def test_a_search_ends_at_a_name_whose_addresses_are_not_accepted():
    zone = a(b'x.one.example', PRIVATE), a(b'x.two.example', PUBLIC)
    async with Nameserver(knowing(*zone)) as server:
        resolve, _ = resolver_of(server, accept_address=is_global, search=SEARCH)
        for _ in range(2):
            with pytest.raises(
                DoesNotExist, match=r'^x\. A: accept_address rejects .* 10\.0\.0\.1$'
            ):
                await resolve('x', TYPES.A)
        assert server.names == [b'x.one.example']


@on_every_loop
async def test_what_accept_address_raises_reaches_the_caller_unchanged():
    error = TimeoutError('mine')

    def accept(address):
        assert asyncio.current_task() is task
        raise error

    async with Nameserver(answering(a(b'x', PUBLIC))) as server:
        resolve, _ = resolver_of(server, accept_address=accept)
        for _ in range(2):
            task = asyncio.ensure_future(resolve('x', TYPES.A))
            with pytest.raises(TimeoutError) as caught:
                await task
            assert caught.value is error


@on_every_loop
async def test_accept_address_that_gives_an_awaitable_accepts_nothing_by_mistake():
    def accept(address):
        return asyncio.get_running_loop().create_future()

    with pytest.raises(TypeError, match='plain function'):
        await Resolver(get_host=no_host, accept_address=accept)[0]('127.0.0.1', TYPES.A)


def test_accept_address_has_to_be_a_function():
    with pytest.raises(TypeError, match='accept_address'):
        Resolver(accept_address=True)


def srv(priority, weight, target):
    return module.SRV(priority, weight, 5222, target)


def shares_of(records, count=20_000):
    """How often each target comes, by place, in many drawings that are the same in each run."""
    generator = random.Random(2782)
    orders = [module.in_service_order(records, generator.random) for _ in range(count)]
    places = zip(*orders, strict=True)
    return [
        {each.target: share / count for each, share in collections.Counter(place).items()}
        for place in places
    ]


def test_targets_come_by_priority():
    records = [srv(priority, priority, b'x') for priority in (3, 0, 65535, 1, 2)]
    ordered = module.in_service_order(records, random.Random(1).random)
    assert [each.priority for each in ordered] == [0, 1, 2, 3, 65535]


def test_targets_of_one_priority_are_drawn_by_weight():
    first, second, _ = shares_of([srv(1, 60, b'a'), srv(1, 30, b'b'), srv(1, 10, b'c')])
    assert first == pytest.approx({b'a': 0.6, b'b': 0.3, b'c': 0.1}, abs=0.01)
    # The second is drawn from the others in the same way.
    expected = {
        b'a': 0.3 * 60 / 70 + 0.1 * 60 / 90,
        b'b': 0.6 * 30 / 40 + 0.1 * 30 / 90,
        b'c': 0.6 * 10 / 40 + 0.3 * 10 / 70,
    }
    assert second == pytest.approx(expected, abs=0.01)


def test_targets_of_weight_0_have_a_small_chance_to_come_before_others():
    zeros = [srv(1, 0, b'y'), srv(1, 0, b'z')]
    first, *_ = shares_of([srv(1, 9, b'a'), *zeros])
    assert first == pytest.approx({b'a': 0.9, b'y': 0.05, b'z': 0.05}, abs=0.01)
    assert shares_of(zeros)[0] == pytest.approx({b'y': 0.5, b'z': 0.5}, abs=0.02)
    # A single target of weight 0 is as good as any other.
    assert shares_of(zeros[:1], 1) == [{b'y': 1}]


def test_many_targets_are_put_in_order_in_linear_time():
    records = [srv(number % 2, number % 3, b'%d' % number) for number in range(50_000)]
    started = time.process_time()
    assert len(module.in_service_order(records, module.random_fraction)) == len(records)
    assert time.process_time() - started < 5  # in quadratic time it would be minutes


def test_a_random_fraction_is_one():
    drawn = [module.random_fraction() for _ in range(1000)]
    assert all(0 <= each < 1 for each in drawn)
    assert min(drawn) < 0.5 < max(drawn)  # else a coin has shown the same side a thousand times


SERVICE = b'_xmpp-client._tcp.example.com'


@on_every_loop
async def test_the_targets_of_a_service_are_found_and_drawn_each_time():
    records = [srv(2, 0, b'c.example'), srv(1, 5, b'a.example'), srv(1, 5, b'b.example')]
    said = [rr(SERVICE, TYPES.SRV, each) for each in records]
    async with Nameserver(answering(*said)) as server:
        resolve, _ = resolver_of(server)
        firsts = set()
        for _ in range(200):
            first, second, third = await module.service_targets(resolve, SERVICE.decode())
            assert {first, second} == set(records[1:])
            assert third == records[0]
            assert third.expires_at > asyncio.get_running_loop().time()
            firsts.add(first)
        assert firsts == set(records[1:])
        assert len(server.queries) == 1


@on_every_loop
async def test_a_service_whose_target_is_the_root_does_not_exist():
    said = [rr(SERVICE, TYPES.SRV, srv(0, 0, b''))]
    async with Nameserver(lambda query: reply_to(query, *said)) as server:
        resolve, clear_cache = resolver_of(server)
        with pytest.raises(DoesNotExist, match='root') as caught:
            await module.service_targets(resolve, SERVICE)
        assert caught.value.rcode == RCODES.NOERROR
        said.append(rr(SERVICE, TYPES.SRV, srv(1, 0, b'a.example')))
        clear_cache()
        (target,) = await module.service_targets(resolve, SERVICE)
        assert target.target == b'a.example'


# --- Real nameservers --------------------------------------------------------
#
# Truth, on free ports of loopback: BIND has a zone with a record for each vector of section 7, NSD
# one with those of types that BIND refuses, and Unbound asks them for both. All other names are
# refused, and Unbound sends from loopback only, so that nothing leaves this machine.

STARTS_WITHIN = 20  # seconds
ENDS_WITHIN = 10
ZONE_TTL = 3600  # longer than a run of the tests, for Unbound counts down in real time
NEGATIVE_TTL = 600
REFUSED_BY_BIND = ('MD', 'MF', 'TKEY')  # obsolete, or not meant for a zone: NSD serves them
NOT_IN_BIND = ('OPT', 'TSIG', *REFUSED_BY_BIND)
AT_THE_TOP_ONLY = ('SOA', 'NS', *NOT_IN_BIND)  # or not at all

IN_ZONE = {  # by name: a type, its rdata and its presentation form
    f'v{number}.servers.example': (vector_type(mnemonic), rdata, text)
    for number, (mnemonic, _, rdata, text) in enumerate(VECTORS)
    if mnemonic not in AT_THE_TOP_ONLY
}
PROOFS = (TYPES.NSEC, TYPES.NSEC3)  # what nameservers show, but do not answer with
SERVED = {name: value for name, value in IN_ZONE.items() if value[0] not in PROOFS}
MANY = [f'192.0.{net}.{last}' for net in (2, 3) for last in range(150)]
ODD_NAMES = {
    b'a\\.b.servers.example': '192.0.2.6',
    b'a\\032b.servers.example': '192.0.2.7',
    b'\\000\\255.servers.example': '192.0.2.8',
    b'";@$\\\\.servers.example': '192.0.2.9',
}
ZONE = rf"""
$ORIGIN servers.example.
$TTL {ZONE_TTL}
@ 900     SOA    ns root.ns 7 3600 600 86400 {NEGATIVE_TTL}
@         NS     ns
@         NS     ns.b
@         MX     10 mail
@         MX     20 mail.b
ns        A      127.0.0.1
ns.b      A      127.0.0.1
mail      A      192.0.2.1
mail.b    A      192.0.2.2
www       A      192.0.2.1
www       AAAA   2001:db8::1
chain     2000   CNAME chain.b
chain.b   1000   CNAME chain.c
chain.c   3000   A     192.0.2.3
nowhere   1200   CNAME nothing
*.wild    A      192.0.2.4
old       DNAME  new
www.new   A      192.0.2.5
odd       MX     10 a\.b
odd       MX     20 a\032b
odd       MX     30 \000\255
odd       MX     40 \"\;\@\$\\
xn--bcher-kva    A      192.0.2.10
old-mail  MB     mail
old-mail  MG     www
old-mail  MR     ns
old-mail  MINFO  mail www
"""

OBSOLETE_ZONE = f"""
$ORIGIN obsolete.example.
$TTL {ZONE_TTL}
@     SOA  ns root.ns 1 3600 600 86400 {NEGATIVE_TTL}
@     NS   ns
ns    A    127.0.0.1
mail  MD   mail
mail  MD   mail.b
mail  MF   mail
mail  MF   mail.b
"""

# A key of each algorithm that nameservers have, by the algorithm. All but Unbound know them.
KEYS = {
    algorithm: Key(f'{algorithm}.Keys.example', algorithm.encode() * 2, algorithm)
    for algorithm in (
        'hmac-md5',
        'hmac-sha1',
        'hmac-sha224',
        'hmac-sha256',
        'hmac-sha384',
        'hmac-sha512',
    )
}


def key_values(template):
    """What a configuration says of each key."""
    return ''.join(
        template
        % {
            'name': key.name.decode(),
            'algorithm': algorithm,
            'secret': base64.b64encode(key.secret).decode(),
        }
        for algorithm, key in KEYS.items()
    )


BIND_KEYS = key_values('key "%(name)s" { algorithm %(algorithm)s; secret "%(secret)s"; };\n')
NSD_KEYS = key_values(
    'key:\n    name: "%(name)s"\n    algorithm: %(algorithm)s\n    secret: "%(secret)s"\n'
)
KNOT_KEYS = 'key:\n' + key_values(
    '  - id: %(name)s\n    algorithm: %(algorithm)s\n    secret: %(secret)s\n'
)
KEY_NAMES = ', '.join(key.name.decode() for key in KEYS.values())
KNOT_KEYS += f'acl:\n  - id: keys\n    action: [query, transfer]\n    key: [{KEY_NAMES}]\n'

BIND_OPTIONS = """
tls ours {
    cert-file "%(folder)s/certificate.pem";
    key-file "%(folder)s/certificate.pem";
};
options {
    directory "%(folder)s";
    listen-on port %(port)d { 127.0.0.1; };
    listen-on port %(tls_port)d tls ours { 127.0.0.1; };
    listen-on port %(https_port)d tls ours http default { 127.0.0.1; };
    listen-on-v6 port %(port)d { ::1; };
    pid-file none;
    session-keyfile none;
    recursion no;
    empty-zones-enable no;
    dnssec-validation no;
    notify no;
    check-names primary ignore;
    check-integrity no;
    max-records-per-type 0;
};
controls { };
server 127.0.0.2 { transfer-format one-answer; };
zone "servers.example" { type primary; file "zone"; };
zone "changing.example" { type primary; file "changing"; allow-update { 127.0.0.1; }; };
zone "moving.example" { type primary; file "moving"; allow-update { 127.0.0.1; }; };
zone "types.example" { type primary; file "types"; };
"""

CHANGING_ZONE = """
$TTL 30
@     SOA  ns root 1 3600 600 86400 20
      NS   ns
ns    A    127.0.0.1
"""

MOVING_ZONE = """
$TTL 30
@     SOA  ns root 1 3600 600 86400 20
      NS   ns
ns    A    127.0.0.1
""" + ''.join(f'f{number} A 192.0.2.1\n' for number in range(60))  # or all is sent, as it is less

KNOT_OPTIONS = """
server:
    listen: 127.0.0.1@%(port)d
    rundir: "%(folder)s"
    tcp-io-timeout: 0
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "%(folder)s"
acl:
  - id: open
    address: 127.0.0.0/8
    action: [transfer, update]
template:
  - id: default
    storage: "%(folder)s"
    semantic-checks: off
    acl: [keys, open]
zone:
  - domain: servers.example
    file: zone
  - domain: moving.example
    file: moving
  - domain: types.example
    file: types
"""

NSD_OPTIONS = (
    """
server:
    ip-address: 127.0.0.1@%(port)d
    ip-address: 127.0.0.1@%(tls_port)d
    tls-port: %(tls_port)d
    tls-service-key: "%(folder)s/certificate.pem"
    tls-service-pem: "%(folder)s/certificate.pem"
    server-count: 1
    zonesdir: "%(folder)s"
    xfrdir: "%(folder)s"
    zonelistfile: "%(folder)s/zone.list"
    username: ""
    chroot: ""
    database: ""
    xfrdfile: ""
    pidfile: ""
    logfile: "/dev/stderr"
remote-control:
    control-enable: no
zone:
    name: "obsolete.example"
    zonefile: "zone"
    provide-xfr: 127.0.0.1 NOKEY
    provide-xfr: 127.0.0.1 hmac-sha256.keys.example
zone:
    name: "moving.example"
    zonefile: "moving"
    store-ixfr: yes
    create-ixfr: yes
    provide-xfr: 127.0.0.1 NOKEY
"""
    + ''.join(f'    provide-xfr: 127.0.0.1 {key.name.decode()}\n' for key in KEYS.values())
    + """
zone:
    name: "types.example"
    zonefile: "types"
    provide-xfr: 127.0.0.1 NOKEY
"""
)

UNBOUND_OPTIONS = """
server:
    directory: "%(folder)s"
    interface: 127.0.0.1
    port: %(port)d
    outgoing-interface: 127.0.0.1
    do-ip6: no
    do-daemonize: no
    do-not-query-localhost: no
    num-threads: 1
    username: ""
    chroot: ""
    pidfile: ""
    logfile: ""
    use-syslog: no
    module-config: "iterator"
    local-zone: "." refuse
    local-zone: "servers.example" transparent
    local-zone: "obsolete.example" transparent
stub-zone:
    name: "servers.example"
    stub-addr: 127.0.0.1@%(bind_port)d
stub-zone:
    name: "obsolete.example"
    stub-addr: 127.0.0.1@%(nsd_port)d
"""

UNBOUND_TLS = """
server:
    interface: 127.0.0.1@%(tls_port)d
    interface: 127.0.0.1@%(https_port)d
    tls-port: %(tls_port)d
    https-port: %(https_port)d
    tls-service-key: "%(folder)s/certificate.pem"
    tls-service-pem: "%(folder)s/certificate.pem"
"""


def whole_zone():
    """The zone, with what is better made by a loop."""
    lines = [f'many A {address}' for address in MANY]
    lines += [f'big TXT {number}{"x" * 200}' for number in range(6)]
    lines += [f'{module.present_name(name)} A {address}' for name, address in ODD_NAMES.items()]
    for name, (qtype, _, text) in IN_ZONE.items():
        lines.append(f'{name}. {module.present_type(qtype)} {text}')
    return ZONE + '\n'.join(lines) + '\n'


def generic_zone(*refused):
    """A zone with a record for each vector but those refused, in the generic form."""
    lines = [MOVING_ZONE]
    for number, (mnemonic, octets, _, _) in enumerate(VECTORS):
        if mnemonic not in ('SOA', 'NS', 'OPT', 'TSIG', *refused):
            text = module.present_generic(bytes.fromhex(octets))
            lines.append(f'v{number} TYPE{int(vector_type(mnemonic))} {text}')
    return '\n'.join(lines) + '\n'


def whole_obsolete_zone():
    """The zone that NSD has, with the vectors in the generic form, which serves for all types."""
    lines = []
    for number, (mnemonic, octets, _, _) in enumerate(VECTORS):
        if mnemonic in REFUSED_BY_BIND:
            text = module.present_generic(bytes.fromhex(octets))
            lines.append(f'v{number} TYPE{TYPES[mnemonic].value} {text}')
    return OBSOLETE_ZONE + '\n'.join(lines) + '\n'


def free_port():
    """A port of loopback that is free for datagrams and for streams."""
    for _ in range(100):
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(('127.0.0.1', 0))
            with contextlib.suppress(OSError):
                tcp.bind(udp.getsockname())
                return udp.getsockname()[1]
    raise RuntimeError('There is no free port on 127.0.0.1')


def exchange(server, octets, seconds=5):
    """The first datagram that a nameserver sends back, as it is."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.connect(server)
        sock.send(octets)
        return sock.recv(65535)


def find_program(name, package):
    """The path of a program; /usr/sbin is not on everybody's PATH."""
    path = shutil.which(name, path=f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin')
    if path is None:
        raise FileNotFoundError(f'There is no {name}: install the Debian package {package}')
    return path


def is_ready(process, server, zone, log):
    """Whether a nameserver that was started answers for its zone. Pauses for a moment.

    A server of another kind has no zone, and writes into its log when it is ready.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.02)
    if zone is None:
        return 'ready to accept connections' in log.read_text(errors='replace').lower()
    with contextlib.suppress(OSError):
        reply = parse(exchange(server, pack(make_query(f'ns.{zone}', TYPES.A)), 1))
        return reply.rcode == RCODES.NOERROR and reply.an
    return False


def wait_until_ready(process, server, zone, log):
    until = time.monotonic() + STARTS_WITHIN
    while process.poll() is None and time.monotonic() < until:
        if is_ready(process, server, zone, log):
            return
    told = log.read_text(errors='replace')[-3000:]
    raise RuntimeError(f'{process.args} did not start ({process.poll()}):\n{told}')


@contextlib.contextmanager
def running(command, server, log, zone='servers.example'):
    """Runs a server until the end of the block, and no longer than this process lives."""
    # A test that hangs ends this process before any `finally`: then the kernel ends the server.
    command = ['setpriv', '--pdeathsig', 'TERM', *command]
    with log.open('wb') as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until_ready(process, server, zone, log)
        if isinstance(server, Address):
            server.process = process
        yield server
    finally:
        process.terminate()
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Address(tuple):
    """An address and a port, the ports of `tls` and `https`, the process and its folder."""


def values_with_tls(folder, authority):
    """The values for a configuration: ports, and a certificate, which is made."""
    certificate = authority.issue_cert('127.0.0.1', 'dns.example')
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / 'certificate.pem'))
    ports = {key: free_port() for key in ('port', 'tls_port', 'https_port')}
    assert len(set(ports.values())) == 3
    return {'folder': folder, **ports}


def address_of(values):
    address = Address(('127.0.0.1', values['port']))
    address.tls = values.get('tls_port')
    address.https = values.get('https_port')
    address.folder = values['folder']
    return address


@pytest.fixture(scope='session')
def bind(authority, tmp_path_factory):
    """The address and port of BIND, which has the zone; its `tls` and `https` are other ports."""
    folder = tmp_path_factory.mktemp('bind')
    values = values_with_tls(folder, authority)
    (folder / 'zone').write_text(whole_zone())
    (folder / 'changing').write_text(CHANGING_ZONE)
    (folder / 'moving').write_text(MOVING_ZONE)
    (folder / 'types').write_text(generic_zone(*REFUSED_BY_BIND))
    (folder / 'named.conf').write_text(BIND_KEYS + BIND_OPTIONS % values)
    command = [find_program('named', 'bind9'), '-g', '-n', '1', '-c', folder / 'named.conf']
    with running(command, address_of(values), folder / 'log') as server:
        yield server


@pytest.fixture(scope='session')
def nsd(authority, tmp_path_factory):
    """The address and port of NSD, which has what BIND refuses; its `tls` is another port."""
    folder = tmp_path_factory.mktemp('nsd')
    values = values_with_tls(folder, authority)
    (folder / 'zone').write_text(whole_obsolete_zone())
    (folder / 'moving').write_text(MOVING_ZONE)
    (folder / 'types').write_text(generic_zone())
    (folder / 'nsd.conf').write_text(NSD_KEYS + NSD_OPTIONS % values)
    command = [find_program('nsd', 'nsd'), '-d', '-c', folder / 'nsd.conf']
    with running(command, address_of(values), folder / 'log', 'obsolete.example') as server:
        yield server


@pytest.fixture(scope='session')
def unbound(bind, nsd, authority, tmp_path_factory):
    """The address and port of Unbound, which asks BIND and NSD; with `tls` and `https`."""
    folder = tmp_path_factory.mktemp('unbound')
    values = values_with_tls(folder, authority)
    values |= {'bind_port': bind[1], 'nsd_port': nsd[1]}
    (folder / 'unbound.conf').write_text((UNBOUND_OPTIONS + UNBOUND_TLS) % values)
    command = [find_program('unbound', 'unbound'), '-d', '-c', folder / 'unbound.conf']
    with running(command, address_of(values), folder / 'log') as server:
        yield server


@pytest.fixture(scope='session')
def dead_end(nsd, tmp_path_factory):
    """The address and port of an Unbound that forwards to a port where nobody listens."""
    folder = tmp_path_factory.mktemp('dead_end')
    port = free_port()
    values = {'folder': folder, 'port': port, 'bind_port': free_port(), 'nsd_port': nsd[1]}
    options = UNBOUND_OPTIONS.replace('stub-zone:', 'forward-zone:', 1)
    options = options.replace('stub-addr:', 'forward-addr:', 1)
    (folder / 'unbound.conf').write_text(options % values)
    command = [find_program('unbound', 'unbound'), '-d', '-c', folder / 'unbound.conf']
    with running(command, ('127.0.0.1', port), folder / 'log', 'obsolete.example') as server:
        yield server


@pytest.fixture(scope='session')
def dnsmasq(bind, tmp_path_factory):
    """The address and port of dnsmasq, which forwards to BIND."""
    folder = tmp_path_factory.mktemp('dnsmasq')
    port = free_port()
    options = [
        '--keep-in-foreground',
        '--no-resolv',
        '--no-hosts',
        '--conf-file=/dev/null',
        '--pid-file=',
    ]
    options += [f'--port={port}', '--listen-address=127.0.0.1', '--bind-interfaces', '--user=']
    options += [f'--server=127.0.0.1#{bind[1]}', '--no-negcache']
    command = [find_program('dnsmasq', 'dnsmasq-base'), *options]
    with running(command, ('127.0.0.1', port), folder / 'log') as server:
        yield server


@pytest.fixture(scope='session')
def knot(tmp_path_factory):
    """The address and port of Knot, which has what of the zone it understands."""
    folder = tmp_path_factory.mktemp('knot')
    port = free_port()
    lines = [line for line in ZONE.splitlines() if not line.startswith('old-mail')]
    lines += [f'many A {address}' for address in MANY]
    (folder / 'zone').write_text('\n'.join(lines) + '\n')
    (folder / 'moving').write_text(MOVING_ZONE)
    (folder / 'types').write_text(generic_zone())
    values = {'folder': folder, 'port': port}
    (folder / 'knot.conf').write_text(KNOT_KEYS + KNOT_OPTIONS % values)
    command = [find_program('knotd', 'knot'), '-c', folder / 'knot.conf']
    with running(command, address_of(values), folder / 'log') as server:
        yield server


@pytest.fixture
def server(request):
    return request.getfixturevalue(request.param)


def on_both(test):
    """Makes a test one that runs on each nameserver."""
    return pytest.mark.servers(
        pytest.mark.parametrize('server', ['bind', 'unbound'], indirect=True)(test)
    )


def on_both_and_every_loop(test):
    return on_both(on_every_loop(test))


def relaying(server, **arguments):
    """A scripted nameserver that passes all to a real one, so that queries can be seen."""
    return Nameserver(lambda query: exchange(server, pack(query)), **arguments)


def real_resolver(*servers, **arguments):
    """A Resolver that asks real nameservers."""
    return Resolver(**{'get_host': no_host, 'get_nameservers': asking(*servers), **arguments})


async def absence(awaitable):
    """The text and the rcode of the error, for there is no such name or record."""
    with pytest.raises(DoesNotExist) as raised:
        await awaitable
    return str(raised.value), raised.value.rcode


def theirs(text, qtype, qclass=CLASSES.IN):
    """What dnspython makes of our presentation form."""
    return dns.rdata.from_text(dns.rdataclass.RdataClass.make(qclass), qtype, text)


def test_every_row_that_may_stand_in_a_zone_is_served():
    rows = {row.mnemonic for row in module.LAYOUTS.values()} - set(AT_THE_TOP_ONLY)
    assert {qtype for qtype, _, _ in IN_ZONE.values()} == {*map(vector_type, rows), 65280}


@on_both_and_every_loop
async def test_every_type_resolves_to_what_is_in_the_zone(server):
    resolve, _ = real_resolver(server)
    for name, (qtype, rdata, _) in SERVED.items():
        (answer,) = await resolve(name, qtype)
        assert answer == rdata
        assert isinstance(answer, type(rdata))
        assert 1000 < answer.expires_at <= 1000 + ZONE_TTL


@on_both_and_every_loop
async def test_records_at_the_top_of_the_zone_resolve(server):
    resolve, _ = real_resolver(server)
    (top,) = await resolve('servers.example', TYPES.SOA)
    assert (top.mname, top.rname) == (b'ns.servers.example', b'root.ns.servers.example')
    assert top[2:] == (7, 3600, 600, 86400, NEGATIVE_TTL)
    assert 1000 < top.expires_at <= 1900
    ns = await resolve('servers.example', TYPES.NS)
    assert set(ns) == {b'ns.servers.example', b'ns.b.servers.example'}
    mx = await resolve('servers.example', TYPES.MX)
    assert set(mx) == {(10, b'mail.servers.example'), (20, b'mail.b.servers.example')}


@on_both_and_every_loop
async def test_dnspython_gets_the_same(server):
    resolve, _ = real_resolver(server)
    for name, (qtype, _, _) in SERVED.items():
        answers = await resolve(name, qtype)
        query = dns.message.make_query(name, qtype)
        (answer,) = dns.query.udp(query, server[0], 5, server[1]).answer
        ours = [module.present_rdata(qtype, CLASSES.IN, rdata) for rdata in answers]
        assert {theirs(text, qtype) for text in ours} == set(answer)


@on_both_and_every_loop
async def test_a_chain_a_wildcard_and_a_dname_lead_to_their_address(server):
    async with relaying(server) as relay:
        resolve, _ = resolver_of(relay)
        names = ['chain', 'any.thing.wild', 'www.old']
        for name, address in zip(names, ['192.0.2.3', '192.0.2.4', '192.0.2.5'], strict=True):
            (answer,) = await resolve(f'{name}.servers.example', TYPES.A)
            assert str(answer) == address
            assert 1000 < answer.expires_at <= 1000 + (1000 if name == 'chain' else ZONE_TTL)
        await relay.asked(3)


@on_both_and_every_loop
async def test_an_absence_is_kept_for_as_long_as_the_zone_says(server):
    absences = [
        ('nothing', TYPES.A, RCODES.NXDOMAIN),
        ('www', TYPES.MX, RCODES.NOERROR),
        ('b', TYPES.A, RCODES.NOERROR),  # an empty non-terminal
    ]
    async with relaying(server) as relay:
        resolve, _ = resolver_of(relay, transform_fqdn=as_it_is)
        for count, (name, qtype, rcode) in enumerate(absences):
            name = f'{name}.servers.example'
            first = await absence(resolve(name, qtype))
            assert first == (await absence(resolve(name, qtype)))
            assert (first[0].split(' from ')[0], first[1]) == (f'{name}. {qtype}', rcode)
            await relay.asked(2 * count + 1)
            turn(NEGATIVE_TTL)
            assert first == (await absence(resolve(name, qtype)))
            await relay.asked(2 * count + 2)


@on_both_and_every_loop
async def test_an_absence_at_the_end_of_an_alias_is_of_its_target(server):
    async with relaying(server) as relay:
        resolve, _ = resolver_of(relay)
        for _ in range(2):
            _, rcode = await absence(resolve('nowhere.servers.example', TYPES.A))
            assert rcode == RCODES.NXDOMAIN
        await relay.asked(1)
        turn(NEGATIVE_TTL)  # the alias is still known
        await absence(resolve('nowhere.servers.example', TYPES.A))
        assert relay.names == [b'nowhere.servers.example', b'nothing.servers.example']


@on_both_and_every_loop
async def test_names_of_any_octets_are_asked_for_and_answered(server):
    resolve, _ = real_resolver(server)
    for name, address in ODD_NAMES.items():
        assert texts(await resolve(name, TYPES.A)) == [address]
        assert texts(await resolve(name.decode() + '.', TYPES.A)) == [address]
    exchanges = [mx.exchange for mx in sorted(await resolve('odd.servers.example', TYPES.MX))]
    assert exchanges == list(ODD_NAMES)
    for name in exchanges:
        assert texts(await resolve(name, TYPES.A)) == [ODD_NAMES[name]]


@on_both_and_every_loop
async def test_a_name_that_is_not_ascii_is_asked_for_as_its_a_label(server):
    resolve, _ = real_resolver(server)
    for name in ('bücher.servers.example', 'BÜCHER\uff0eServers.Example'):
        assert texts(await resolve(name, TYPES.A)) == ['192.0.2.10']


@on_both_and_every_loop
async def test_real_nameservers_keep_the_letter_case_of_a_question(server):
    async with relaying(server) as relay:
        resolve, _ = resolver_of(relay)
        for number in range(50):
            answers = await resolve(f'number-{number}.wild.servers.example', TYPES.A)
            assert texts(answers) == ['192.0.2.4']
        await relay.asked(50)  # a folded one would have been asked again in lower case
        names = [query.qd[0].name for query in relay.queries]
        assert not any(name in (name.lower(), name.upper()) for name in names)


@on_both_and_every_loop
async def test_a_zone_that_is_not_served_is_refused(server):
    resolve, _ = real_resolver(server)
    with pytest.raises(ResponseCode) as raised:
        await resolve('www.elsewhere.example', TYPES.A)
    assert raised.value.rcode == RCODES.REFUSED
    assert f'{server[0]}:{server[1]}' in str(raised.value)


@on_both_and_every_loop
async def test_localhost_is_not_asked_of_a_nameserver(server):
    async with relaying(server) as relay:
        resolve, _ = resolver_of(relay)
        assert texts(await resolve('localhost', TYPES.A)) == ['127.0.0.1']
        assert texts(await resolve('localhost', TYPES.AAAA)) == ['::1']
        await relay.asked(0)


@on_both_and_every_loop
async def test_300_addresses_and_long_strings_come_over_tcp(server):
    resolve, _ = real_resolver(server)
    for _ in range(2):
        assert set(texts(await resolve('many.servers.example', TYPES.A))) == set(MANY)
    strings = await resolve('big.servers.example', TYPES.TXT)
    assert sorted(string[:1] for (string,) in strings) == [b'%d' % number for number in range(6)]


@on_both_and_every_loop
async def test_without_tcp_a_truncated_reply_without_records_is_truncated(server):
    async with relaying(server, over_tcp=REFUSES) as relay:
        resolve, _ = resolver_of(relay)
        with pytest.raises(Truncated) as raised:
            await resolve('many.servers.example', TYPES.A)
        assert (raised.value.message.tc, raised.value.message.an) == (1, ())


@pytest.mark.servers
@on_every_loop
async def test_without_tcp_the_records_that_bind_leaves_in_a_truncated_reply_are_used(bind):
    def without_edns(query):  # to which it leaves some
        return exchange(bind, pack(query._replace(ar=())))

    async with Nameserver(without_edns, over_tcp=REFUSES) as relay:
        resolve, _ = resolver_of(relay)
        for count in (1, 2):  # and they are not kept
            answers = texts(await resolve('many.servers.example', TYPES.A))
            assert len(answers) >= 25
            assert set(answers) < set(MANY)
            await relay.asked(count)


def change(bind, name, address):
    """Has BIND change the address of a name in its zone, or remove it."""
    update = dns.update.UpdateMessage('changing.example')
    update.delete(name, 'A')
    if address is not None:
        update.add(name, 30, 'A', address)
    reply = dns.query.udp(update, bind[0], port=bind[1], timeout=5)
    assert reply.rcode() == dns.rcode.NOERROR


@pytest.mark.servers
@on_every_loop
async def test_a_zone_that_changes_is_seen_when_the_ttl_has_passed(bind):
    change(bind, 'www', '192.0.2.1')
    change(bind, 'new', None)
    resolve, _ = real_resolver(bind)
    assert texts(await resolve('www.changing.example', TYPES.A)) == ['192.0.2.1']
    await absence(resolve('new.changing.example', TYPES.A))
    change(bind, 'www', '192.0.2.2')
    change(bind, 'new', '192.0.2.3')
    turn(19.9)
    assert texts(await resolve('www.changing.example', TYPES.A)) == ['192.0.2.1']
    await absence(resolve('new.changing.example', TYPES.A))
    turn(0.1)  # which the SOA says that an absence lasts
    assert texts(await resolve('new.changing.example', TYPES.A)) == ['192.0.2.3']
    turn(10)
    assert texts(await resolve('www.changing.example', TYPES.A)) == ['192.0.2.2']


@pytest.mark.servers
@pytest.mark.parametrize('server', ['dnsmasq', 'knot'], indirect=True)
@on_every_loop
async def test_dnsmasq_and_knot_are_understood_too(server):
    async with relaying(server, over_tcp=REFUSES) as relay:
        resolve, _ = resolver_of(relay)
        assert texts(await resolve('number.wild.servers.example', TYPES.A)) == ['192.0.2.4']
        await relay.asked(1)  # with EDNS, and the letter case is kept
        assert has_edns(relay.queries[0])
        _, rcode = await absence(resolve('nothing.servers.example', TYPES.A))
        assert rcode == RCODES.NXDOMAIN
        _, rcode = await absence(resolve('www.servers.example', TYPES.MX))
        assert rcode == RCODES.NOERROR
    resolve, _ = real_resolver(server)
    assert set(texts(await resolve('many.servers.example', TYPES.A))) == set(MANY)
    (alias,) = await resolve('chain.servers.example', TYPES.CNAME)
    assert alias.endswith(b'.servers.example')


@pytest.mark.servers
@pytest.mark.parametrize('server', ['bind', 'unbound', 'knot', 'dnsmasq'], indirect=True)
@on_every_loop
async def test_real_nameservers_answer_many_queries_on_one_stream(server):
    stream = stream_to(f'tcp://{server[0]}:{server[1]}')
    queries = [query_for(b'%d.wild.servers.example' % number) for number in range(50)]
    told = await told_over(stream, *queries)
    assert {query.fqdn for query, _ in told} == {query.fqdn for query in queries}
    assert {texts(outcome.records)[0] for _, outcome in told} == {'192.0.2.4'}
    stream.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    'server, call',
    [
        *itertools.product(['bind', 'unbound'], WHOLE.split()),
        *itertools.product(['knot', 'nsd'], ['udp', 'udp_with_fallback', 'tcp']),
    ],
    indirect=['server'],
)
@pytest.mark.parametrize(
    'name, qtype',
    [
        ('www.servers.example', 'A'),
        ('nothing.servers.example', 'A'),
        ('www.servers.example', 'MX'),
        ('many.servers.example', 'A'),
        ('www.elsewhere.example', 'A'),
    ],
)
def test_each_call_to_a_real_nameserver_is_as_that_of_dnspython(
    authority, server, call, name, qtype
):
    port = getattr(server, call) if call in ('tls', 'https') else server[1]
    ours, theirs = PAIRS_OF_CALLS[call]
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(['h2'] if call == 'https' else ['dot'])
    verify = {'verify': context} if call == 'https' else {'verify': authority.path}
    arguments = verify if call in ('tls', 'https') else {}
    query = make_query(name, TYPES[qtype])

    async def main():
        for more in ({}, {'source': '127.0.0.1'}):
            replies = []
            for each in (ours, theirs):
                reply = await each(query, '127.0.0.1', 5, port, **arguments, **more)
                reply = reply[0] if call == 'udp_with_fallback' else reply
                replies.append(reply if isinstance(reply, Message) else parse(reply.to_wire()))
            one, other = replies
            assert one.qid == other.qid == query.qid
            assert (one.rcode, one.tc) == (other.rcode, other.tc)
            assert sorted(record.rdata for record in one.an) == sorted(
                record.rdata for record in other.an
            )

    run_beside(main)


@on_both_and_every_loop
async def test_what_may_be_said_of_a_real_server_over_tls_and_https(server, authority):
    query = make_query('www.servers.example', TYPES.A)
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(['h2'])
    verify = {'verify': authority.path}
    url = f'https://dns.example:{server.https}/dns-query'
    found = resolver_knowing(A=('127.0.0.1',))
    replies = [
        await tls(query, '127.0.0.1', 5, server.tls, server_hostname='dns.example', **verify),
        await tls(query, '127.0.0.1', 5, server.tls, verify=False),
        await https(query, '127.0.0.1', 5, server.https, post=False, **verify),
        await https(query, '127.0.0.1', 5, server.https, path='/dns-query', verify=context),
        await https(query, url, 5, bootstrap_address='127.0.0.1', **verify),
        await https(query, url, 5, resolver=found, post=False, **verify),
        await https(query, url, 5, resolver=found, family=socket.AF_INET, verify=False),
    ]
    for reply in replies:
        assert reply.qid == query.qid
        assert {str(record.rdata) for record in reply.an} == {'192.0.2.1'}
    for call, expected in (
        (lambda: tls(query, '127.0.0.1', 5, server.tls), SocketError),
        (lambda: tls(query, '127.0.0.1', 5, server.tls, server_hostname='a.b'), SocketError),
        (lambda: https(query, '127.0.0.1', 5, server.https), SocketError),
        (lambda: https(query, '127.0.0.1', 5, server.https, path='/other', **verify), BadResponse),
    ):
        assert isinstance(await raised_by(call()), expected)


@pytest.mark.servers
@pytest.mark.parametrize('server', ['bind', 'unbound', 'knot'], indirect=True)
@on_every_loop
async def test_a_stream_of_the_callers_to_a_real_server_carries_many_queries(server):
    async with contextlib.AsyncExitStack() as stack:
        pair = await asyncio.open_connection(*server)
        stack.callback(pair[1].transport.abort)
        queries = [make_query(f'{number}.wild.servers.example', TYPES.A) for number in range(50)]
        replies = await asyncio.gather(
            *[tcp(query, server[0], 5, server[1], sock=pair) for query in queries]
        )
        assert [reply.qid for reply in replies] == [query.qid for query in queries]
        assert [reply.qd for reply in replies] == [query.qd for query in queries]
    await settle()


def secure_url(server, scheme):
    """The URL of a real nameserver over TLS or HTTPS."""
    port = {'tls': server.tls, 'https': server.https}[scheme]
    return f'{scheme}://127.0.0.1:{port}#dns.example'


@on_both_and_every_loop
@pytest.mark.parametrize('scheme', ['tls', 'https'])
async def test_real_nameservers_are_asked_over_tls_and_https(server, scheme, trusting):
    resolve, clear_cache = over(secure_url(server, scheme))
    names = [f'number-{number}.wild.servers.example' for number in range(50)]
    answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
    assert [texts(each) for each in answers] == [['192.0.2.4']] * 50
    assert len(await resolve('big.servers.example', TYPES.TXT)) == 6
    assert set(texts(await resolve('many.servers.example', TYPES.A))) == set(MANY)
    _, rcode = await absence(resolve('nothing.servers.example', TYPES.A))
    assert rcode == RCODES.NXDOMAIN
    clear_cache()
    assert is_idle()


@pytest.mark.servers
@pytest.mark.parametrize('loop_factory', [AsyncioInTime, UvloopInTime])
def test_an_unbound_with_a_dead_forwarder_costs_its_timeout_once(dead_end, bind, loop_factory):
    async def main():
        settings = module.to_settings(no_host, asking(dead_end, bind, timeout=0.3), mix_case)
        for number in range(20):
            name = b'name-%d.wild.servers.example' % number
            outcomes = await outcomes_of(settings, name, (TYPES.A,))
            assert texts(outcomes[TYPES.A].records) == ['192.0.2.4']
        now = asyncio.get_running_loop().time()
        assert settings.servers[dead_end].unresponsive_until > now
        other = settings.servers[bind]
        assert not (
            other.unresponsive_until or other.no_edns_until or other.letter_case.lower_until
        )
        # What it knew before is given when there is no other.
        stale = asking(dead_end, timeout=0.05)
        settings = settings._replace(get_nameservers=stale, serve_stale=3600.0)
        cache = settings.cache
        for key, known in list(cache.items()):
            cache[key] = known._replace(expires_at=now - 1)
        outcomes = await outcomes_of(settings, name, (TYPES.A,))
        assert texts(outcomes[TYPES.A].records) == ['192.0.2.4']

    run(main(), loop_factory)


# A nameserver's socket may have no room for so many: what is lost has to be asked for again.
@on_both
@pytest.mark.parametrize('loop_factory', [AsyncioInTime, UvloopInTime])
def test_300_names_at_once_are_all_answered(server, loop_factory):
    async def main():
        resolve, _ = real_resolver(server)
        names = [f'name-{number}.wild.servers.example' for number in range(300)]
        answers = await asyncio.gather(*[resolve(name, TYPES.A) for name in names])
        assert [texts(each) for each in answers] == [['192.0.2.4']] * 300

    run(main(), loop_factory)


QUESTIONS = [
    *[(name, qtype) for name, (qtype, _, _) in SERVED.items()],
    *[('servers.example', qtype) for qtype in (TYPES.SOA, TYPES.NS, TYPES.MX)],
    *[(f'{name}.servers.example', TYPES.A) for name in ('chain', 'www.old', 'x.wild', 'many')],
    *[(f'{name}.servers.example', TYPES.TXT) for name in ('www', 'nothing', 'nowhere', 'big')],
    *[(name, TYPES.A) for name in ODD_NAMES],
    ('odd.servers.example', TYPES.MX),
    ('www.elsewhere.example', TYPES.A),
]


def raw_replies(server):
    """The octets of replies to all kinds of question, with EDNS and without."""
    for name, qtype in QUESTIONS:
        for payload in (None, 1232):
            yield exchange(server, pack(make_query(name, qtype, payload=payload)))


@on_both
def test_what_real_nameservers_send_survives_another_round(server):
    for octets in raw_replies(server):
        message = parse(octets)
        assert parse(pack(message)) == message


def our_view(record):
    """A record as dnspython has it."""
    name, qtype, qclass, ttl, rdata = record
    name = dns.name.from_text(module.present_name(name))
    if qtype == TYPES.TKEY:  # for which no RFC has a form
        rdata = uncompressed(qtype, rdata)
    text = module.present_rdata(qtype, qclass, rdata)
    return name, qtype, qclass, ttl, theirs(text, qtype, qclass)


def their_view(section):
    return [(r.name, r.rdtype, r.rdclass, r.ttl, r[0]) for r in section]


@on_both
def test_dnspython_reads_the_same_in_what_real_nameservers_send(server):
    for octets in raw_replies(server):
        our, their = parse(octets), dns.message.from_wire(octets, one_rr_per_rrset=True)
        assert (our.qid, our.extended_rcode) == (their.id, their.rcode())
        assert module.pack_flags(*our[1:9]) == their.flags
        for ours, section in ((our.an, their.answer), (our.ns, their.authority)):
            assert [our_view(record) for record in ours] == their_view(section)
        plain = [our_view(record) for record in our.ar if record.qtype != TYPES.OPT]
        assert plain == their_view(their.additional)
        assert (our.edns.qclass if our.edns else 0) == their.payload


@on_both
def test_names_that_are_compressed_in_rdata_are_read(server):
    names = {
        TYPES.SOA: {b'ns.servers.example', b'root.ns.servers.example'},
        TYPES.NS: {b'ns.servers.example', b'ns.b.servers.example'},
        TYPES.MX: {b'mail.servers.example', b'mail.b.servers.example'},
    }
    for qtype, expected in names.items():
        octets = exchange(server, pack(make_query('servers.example', qtype)))
        # In the question, and once more at most: BIND does not always look back that far.
        assert octets.count(b'\7servers\7example\0') <= 2
        rdata = [record.rdata for record in parse(octets).an]
        fields = rdata if qtype == TYPES.NS else [field for each in rdata for field in each]
        assert {field for field in fields if isinstance(field, bytes)} == expected


@on_both
def test_names_that_are_compressed_in_old_types_are_read(server):
    names = {
        TYPES.MB: b'mail.servers.example',
        TYPES.MG: b'www.servers.example',
        TYPES.MR: b'ns.servers.example',
        TYPES.MINFO: module.MINFO(b'mail.servers.example', b'www.servers.example'),
    }
    for qtype, rdata in names.items():
        octets = exchange(server, pack(make_query('old-mail.servers.example', qtype)))
        assert octets.count(b'\7servers\7example\0') == 1  # in the question
        assert [record.rdata for record in parse(octets).an] == [rdata]


@pytest.mark.servers
@pytest.mark.parametrize('qtype', [TYPES.MD, TYPES.MF])
def test_names_that_are_compressed_in_obsolete_types_are_the_same_to_dnspython(unbound, qtype):
    octets = exchange(unbound, pack(make_query('mail.obsolete.example', qtype)))
    assert octets.count(b'\x08obsolete\7example\0') == 1  # in the question
    our = parse(octets)
    targets = {record.rdata for record in our.an}
    assert targets == {b'mail.obsolete.example', b'mail.b.obsolete.example'}
    assert parse(pack(our)) == our
    for each in (octets, pack(our)):
        their = dns.message.from_wire(each, one_rr_per_rrset=True)
        assert [our_view(record) for record in our.an] == their_view(their.answer)


def receive_messages(sock):
    """The octets of each message of a transfer, until the zone's SOA comes again."""
    seen = 0
    with sock.makefile('rb') as stream:
        while seen < 2:
            octets = stream.read(int.from_bytes(stream.read(2), 'big'))
            seen += sum(record.qtype == TYPES.SOA for record in parse(octets).an)
            yield octets


@pytest.mark.servers
@pytest.mark.parametrize(
    'server, zone, expected',
    [
        ('bind', 'servers.example', {*module.LAYOUTS, 65280} - {*map(vector_type, NOT_IN_BIND)}),
        ('nsd', 'obsolete.example', {*map(vector_type, ('SOA', 'NS', 'A', *REFUSED_BY_BIND))}),
    ],
    indirect=['server'],
    ids=['bind', 'nsd'],
)
def test_every_record_of_a_transfer_is_the_same_to_dnspython(server, zone, expected):
    query = pack(make_query(zone, TYPES.AXFR, payload=None))
    types = set()
    with socket.create_connection(server, 5) as sock:
        sock.sendall(len(query).to_bytes(2, 'big') + query)
        for octets in receive_messages(sock):
            message = parse(octets)
            assert parse(pack(message)) == message
            their = dns.message.from_wire(octets, xfr=True, one_rr_per_rrset=True)
            assert [our_view(record) for record in message.an] == their_view(their.answer)
            for (_, qtype, _, _, rdata), theirs in zip(message.an, their.answer, strict=True):
                types.add(qtype)
                assert uncompressed(qtype, rdata) == theirs[0].to_wire()
    assert types == expected


def on_each_with_keys(test):
    """Makes a test one that runs on each nameserver that knows keys, with a zone of it."""
    servers = [
        ('bind', 'servers.example'),
        ('knot', 'servers.example'),
        ('nsd', 'obsolete.example'),
    ]
    return pytest.mark.servers(
        pytest.mark.parametrize('server, zone', servers, indirect=['server'])(test)
    )


@on_each_with_keys
@in_one_way
@pytest.mark.parametrize('algorithm', KEYS)
async def test_nameservers_sign_the_reply_to_a_signed_query(server, zone, algorithm):
    query = make_query(f'ns.{zone}', TYPES.A, key=KEYS[algorithm])
    for call in (udp, tcp, udp_with_fallback):
        said = await call(query, server[0], 5, server[1])
        reply = said[0] if call is udp_with_fallback else said
        assert (reply.rcode, texts(record.rdata for record in reply.an)) == (0, ['127.0.0.1'])
        assert reply.ar[-1].qtype == TYPES.TSIG


@pytest.mark.servers
@in_one_way
async def test_bind_signs_over_tls_and_https_too(bind, authority):
    query = make_query('ns.servers.example', TYPES.A, key=KEYS['hmac-sha512'])
    for call, port, how in (
        (tls, bind.tls, {}),
        (https, bind.https, {}),
        (https, bind.https, {'post': False}),
    ):
        reply = await call(query, bind[0], 5, port, verify=authority.path, **how)
        assert reply.ar[-1].rdata.algorithm_name == b'hmac-sha512'


@on_each_with_keys
@in_one_way
async def test_nameservers_say_what_is_wrong_with_a_key(server, zone):
    key = KEYS['hmac-sha256']
    for wrong, error in (
        (Key(key.name, b'wrong'), RCODES.BADSIG),
        (Key('unknown.example', key.secret), RCODES.BADKEY),
        (Key(key.name, key.secret, 'hmac-sha256-128'), RCODES.BADKEY),
    ):
        query = make_query(f'ns.{zone}', TYPES.A, key=wrong)
        for call in (udp, tcp):
            raised = await raised_by(call(query, server[0], 5, server[1]))
            assert isinstance(raised, BadSignature)
            assert raised.error == error
            assert f'The server says {"BADSIG" if error == 16 else error}' in str(raised)


@on_each_with_keys
@pytest.mark.parametrize('shift, where', [(-3600, 'ahead'), (3600, 'behind')])
def test_nameservers_tell_how_far_a_clock_is_off(server, zone, shift, where):
    key = KEYS['hmac-sha256']
    at = int(time.time()) + shift
    octets, mac = sign(make_query(f'ns.{zone}', TYPES.A), key, time_signed=at)
    reply = exchange(server, octets)
    keyring = {key.name: key}
    with pytest.raises(BadSignature) as raised:
        module.verify(reply, keyring, mac, at)
    assert raised.value.error == RCODES.BADTIME
    assert re.search(
        f'says BADTIME .its clock is 3[56][0-9][0-9] seconds {where}', str(raised.value)
    )
    assert refusal_of(reply, keyring, mac, time.time()) == RCODES.BADTIME


@on_each_with_keys
@pytest.mark.parametrize('size', [0, 1, 9, 10, 15, 16, 31])
def test_nameservers_refuse_a_truncated_mac(server, zone, size):
    key = KEYS['hmac-sha256']
    octets, mac = sign(make_query(f'ns.{zone}', TYPES.A), key)
    *rest, record = parse(octets).ar
    short = record._replace(rdata=record.rdata._replace(mac=mac[:size]))
    reply = exchange(server, pack(parse(octets)._replace(ar=(*rest, short))))
    error = refusal_of(reply, {key.name: key}, mac[:size] or b'none', time.time())
    assert error in (RCODES.BADSIG, RCODES.BADTRUNC)


@on_each_with_keys
def test_nameservers_verify_what_was_forwarded_with_another_id(server, zone):
    key = KEYS['hmac-sha256']
    octets, mac = sign(make_query(f'ns.{zone}', TYPES.A, qid=1), key)
    reply = exchange(server, b'\x12\x34' + octets[2:])
    assert (reply[:2], parse(reply).rcode) == (b'\x12\x34', RCODES.NOERROR)
    module.verify(reply, {key.name: key}, mac, time.time())


def transfer_of(server, octets):
    """The messages of a transfer: those up to the second SOA."""
    with socket.create_connection(server, 5) as sock, sock.makefile('rb') as stream:
        sock.sendall(module.to_frame(octets))
        count = 0
        while count < 2:
            message = stream.read(int.from_bytes(stream.read(2), 'big'))
            count += [record.qtype for record in parse(message).an].count(TYPES.SOA)
            assert parse(message).an
            yield message


@on_each_with_keys
def test_a_transfer_is_verified_as_nameservers_sign_it(server, zone):
    key = KEYS['hmac-sha256']
    octets, mac = sign(make_query(zone, TYPES.AXFR, payload=None), key)
    messages = list(transfer_of(server, octets))
    verifier = module.Verifier(key, mac)
    for message in messages:
        verifier.take(message)
    verifier.finish()
    changed = [*messages[:-1], messages[-1].replace(b'\x7f\0\0\1', b'\x7f\0\0\2')]
    changed = changed if changed != messages else [messages[0][:-1] + b'\1', *messages[1:]]
    verifier = module.Verifier(key, mac)
    with pytest.raises((BadSignature, MalformedMessage)):
        for message in changed:
            verifier.take(message)


# Those of section 17. The zone that moves on does so by updates, and in NSD by another file.


def on_all_three(test):
    """Makes a test one that runs on each nameserver that has transfers, and on each loop."""
    all_three = pytest.mark.parametrize('server', ['bind', 'knot', 'nsd'], indirect=True)
    return pytest.mark.servers(all_three(in_one_way(test)))


def serial_of(server, zone='moving.example'):
    return parse(exchange(server, pack(make_query(zone, TYPES.SOA)))).an[0].rdata.serial


def children_of(pids):
    """The ids of the children of processes."""
    paths = [Path(f'/proc/{pid}/task/{pid}/children') for pid in pids]
    return [pid for path in paths for pid in path.read_text().split()]


def move(server):
    """Has a nameserver go on to the next version of its zone: some records go, others come."""
    serial = serial_of(server)
    host, text = f'h{serial} 30 A 192.0.2.{serial % 256}', f'many 40 TXT "{serial}"'
    if 'nsd' in str(server.folder):
        path = server.folder / 'moving'
        lines = [line for line in path.read_text().splitlines() if not line.startswith('h')]
        lines[2] = lines[2].replace(f' {serial} ', f' {serial + 1} ')
        path.write_text('\n'.join([*lines, host, text]) + '\n')
        os.utime(path, (serial, serial))  # a file with the time of the last one is not read
        serving = children_of(children_of([server.process.pid]))
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + STARTS_WITHIN
        while any(Path('/proc', pid).exists() for pid in serving):  # with the old zone
            assert time.monotonic() < until
            time.sleep(0.001)
    else:
        update = dns.update.UpdateMessage('moving.example')
        update.delete(f'h{serial - 1}')
        for line in (host, text):
            name, ttl, qtype, rdata = line.split()
            update.add(name, int(ttl), qtype, rdata)
        reply = dns.query.tcp(update, server[0], port=server[1], timeout=5)
        assert reply.rcode() == dns.rcode.NOERROR
    assert serial_of(server) == serial + 1


def their_zone(server, name, zone=None, **arguments):
    """What dnspython makes of a transfer."""
    zone = zone or dns.zone.Zone(name, relativize=False)

    async def main():
        await dns.asyncquery.inbound_xfr(
            server[0], zone, port=server[1], lifetime=240, **arguments
        )

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(run_beside, main).result()
    return zone


def our_zone(zone):
    """A zone of ours, as `zone_of` has one of theirs."""
    records = [our_view(record) for record in zone]
    assert len(records) == len(set(records))
    return set(records)


async def real_xfr(server, zone, **arguments):
    """Brings a zone up to date from a real nameserver; returns what changed."""
    before = zone.serial
    await in_time(inbound_xfr(server[0], zone, port=server[1], **arguments), 600)
    await settle()
    if before is None:
        return []
    arguments.setdefault('port', server[1])
    stream = transfer(server[0], zone.origin, before, **arguments)
    return [changes async for changes in stream]


@pytest.mark.servers
@pytest.mark.parametrize(
    'server, name, refused',
    [
        ('bind', 'types.example', REFUSED_BY_BIND),
        ('bind', 'servers.example', REFUSED_BY_BIND),
        ('knot', 'types.example', ()),
        ('nsd', 'types.example', ()),
        ('nsd', 'obsolete.example', None),
    ],
    indirect=['server'],
)
@in_one_way
async def test_a_zone_with_each_type_is_that_of_dnspython(server, name, refused):
    zone = Zone(name)
    await real_xfr(server, zone)
    theirs = zone_of(their_zone(server, name))
    assert our_zone(zone) == {each for each in theirs if each[1] != TYPES.TKEY}  # it is in no zone
    if refused is not None:
        types = {record.qtype for record in zone}
        assert types >= {*module.LAYOUTS} - {
            *(TYPES.OPT, TYPES.TSIG, TYPES.TKEY),
            *map(vector_type, refused),
        }
        unprintable = {TYPES.MD, TYPES.MF}  # of which BIND wants no presentation form
        with zone.writer() as writer:
            for record in list(zone):
                if record.qtype in unprintable:
                    writer.delete(record)
        check_zone(name, str(zone))


@on_all_three
async def test_a_zone_follows_a_real_nameserver(server):
    move(server)
    zone = Zone('moving.example')
    await real_xfr(server, zone)
    theirs = their_zone(server, 'moving.example')
    start = zone.serial
    assert our_zone(zone) == zone_of(theirs)
    for count in (0, 1, 3):
        before = zone.serial
        for _ in range(count):
            move(server)
        all_changes = await real_xfr(server, zone)
        assert not any(changes.replacement for changes in all_changes)
        assert bool(all_changes) == (count > 0)
        assert zone.serial == before + count
        their_zone(server, 'moving.example', theirs)
        assert our_zone(zone) == zone_of(theirs)
        whole = Zone('moving.example')
        await real_xfr(server, whole)
        assert list(whole) == list(zone)
        check_zone('moving.example', str(zone))
    assert zone.serial == start + 4


@on_all_three
async def test_an_ixfr_is_answered_by_the_whole_zone_where_there_are_no_differences(server):
    zone = Zone('moving.example')
    await real_xfr(server, zone)
    (soa,) = zone['moving.example', TYPES.SOA]
    with zone.writer() as writer:
        writer.add(
            soa._replace(rdata=soa.rdata._replace(serial=(soa.rdata.serial - 1000) % 2**32))
        )
        writer.add(a(b'stale.moving.example'))
    all_changes = await real_xfr(server, zone)
    assert {changes.replacement for changes in all_changes} == {True}
    assert our_zone(zone) == zone_of(their_zone(server, 'moving.example'))
    assert zone['stale.moving.example', TYPES.A] == ()


@on_all_three
async def test_what_a_datagram_brings_is_all_or_the_rest_comes_over_tcp(server):
    move(server)
    zones = {mode: Zone('moving.example') for mode in UDPMode}
    for mode, zone in zones.items():
        await real_xfr(server, zone, udp_mode=mode)
    move(server)
    for mode, zone in zones.items():
        before = zone.serial
        call = real_xfr(server, zone, udp_mode=mode, timeout=5)
        if mode == UDPMode.ONLY and 'nsd' not in str(server.folder):
            assert 'no room' in str(await raised_by(call))
            assert zone.serial == before
        else:
            await call
            assert zone.serial == before + 1
            assert list(zone) == list(zones[UDPMode.NEVER])
    zone = zones[UDPMode.NEVER]
    assert await real_xfr(server, zone, udp_mode=UDPMode.ONLY) == []  # it is up to date


@on_all_three
async def test_what_no_server_has_is_an_error(server):
    zone = Zone('elsewhere.example')
    error = await raised_by(real_xfr(server, zone))
    assert isinstance(error, TransferError)
    assert error.rcode in (RCODES.NOTAUTH, RCODES.REFUSED)
    zone = Zone('moving.example')
    with zone.writer() as writer:
        writer.add(zone_soa(serial_of(server) + 5))
    error = await raised_by(real_xfr(server, zone))
    assert 'went backwards' in str(error)


@pytest.mark.servers
@in_one_way
async def test_bind_may_send_one_record_a_message(bind):
    stream = transfer(bind[0], 'moving.example', port=bind[1], source='127.0.0.2')
    all_changes = [changes async for changes in stream]
    await settle()
    assert {len(changes.added) for changes in all_changes} == {1}
    zone = Zone('moving.example')
    await real_xfr(bind, zone)
    assert {changes.added[0] for changes in all_changes} == set(zone)
    before = zone.serial
    move(bind)
    await real_xfr(bind, zone, source='127.0.0.2')
    assert zone.serial == before + 1


@pytest.mark.servers
@pytest.mark.parametrize('server', ['bind', 'nsd'], indirect=True)
@in_one_way
async def test_real_nameservers_send_zones_over_tls(server, authority):
    context = ssl.create_default_context(cafile=authority.path)
    over_tls = {'port': server.tls, 'ssl_context': context}
    zone = Zone('moving.example')
    await in_time(inbound_xfr(server[0], zone, **over_tls))
    move(server)
    await in_time(inbound_xfr(server[0], zone, **over_tls, server_hostname='dns.example'))
    assert our_zone(zone) == zone_of(their_zone(server, 'moving.example'))
    error = await raised_by(transfer(server[0], 'moving.example', port=server.tls).__anext__())
    assert isinstance(error, SocketError)
    await settle()


@on_all_three
@pytest.mark.parametrize('algorithm', KEYS)
async def test_nameservers_sign_transfers_with_each_algorithm(server, algorithm):
    key = KEYS[algorithm]
    zone = Zone('moving.example')
    await real_xfr(server, zone)
    move(server)
    query = module.transfer_query(zone.origin, zone.serial, key)
    for mode in (UDPMode.TRY_FIRST, UDPMode.NEVER):
        stream = transfer(server[0], zone.origin, zone.serial, server[1], udp_mode=mode, key=key)
        all_changes = [changes async for changes in stream]
        assert not any(changes.replacement for changes in all_changes)
        assert all_changes
    await in_time(inbound_xfr(server[0], zone, query, server[1]))
    name, algorithm = key.name.decode(), key.algorithm.decode()
    keyring = {dns.name.from_text(name): dns.tsig.Key(name, key.secret, algorithm)}
    theirs = dns.zone.Zone('moving.example', relativize=False)
    asked, _ = dns.xfr.make_query(theirs, keyring=keyring)
    assert our_zone(zone) == zone_of(their_zone(server, 'moving.example', theirs, query=asked))
    before = list(zone)
    wrong = module.transfer_query(zone.origin, None, Key(name, b'wrong', algorithm))
    error = await raised_by(in_time(inbound_xfr(server[0], zone, wrong, server[1])))
    assert isinstance(error, BadSignature)
    assert list(zone) == before
    await settle()


LARGE = [f'n{number} A 192.0.2.{number % 256}\n' for number in range(100_000)]


@pytest.fixture(scope='session', params=['bind', 'knot', 'nsd'])
def large(request, authority, tmp_path_factory):
    """A nameserver with a zone of 100,000 names, which moves on as that of the others does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), 'MOVING_ZONE', MOVING_ZONE + ''.join(LARGE))
        patch.setitem(globals(), 'generic_zone', lambda *_: MOVING_ZONE)
        fixture = globals()[request.param].__wrapped__
        names = inspect.signature(fixture).parameters
        fixtures = {'authority': authority, 'tmp_path_factory': tmp_path_factory}
        yield from fixture(**{name: fixtures[name] for name in names})


@pytest.mark.long
@pytest.mark.servers
def test_a_large_zone_is_whole(large):
    def lines_of(theirs):
        rdatas = theirs.iterate_rdatas()
        return {f'{name} {ttl} IN {r.rdtype.name} {r.to_text()}' for name, ttl, r in rdatas}

    async def bring_up_to_date(serial, key=None):
        query = module.transfer_query(zone.origin, serial, key)
        await in_time(inbound_xfr(large[0], zone, query, large[1]), 600)
        await settle()

    zone = Zone('moving.example')
    run(bring_up_to_date(None), debug=False)
    first = set(str(zone).splitlines())
    text = MOVING_ZONE.removesuffix(''.join(LARGE))  # which dnspython takes long to read
    few = lines_of(dns.zone.from_text(text, 'moving.example', relativize=False))
    many = [line.split() for line in LARGE]
    assert first == few | {f'{name}.moving.example. 30 IN A {text}' for name, _, text in many}
    assert len(first) > 100_000

    move(large)
    key = KEYS['hmac-sha256']
    for serial in (zone.serial, None):
        run(bring_up_to_date(serial, key), debug=False)
        lines = set(str(zone).splitlines())
        assert [len(first - lines), len(lines - first)] == [1, 3]  # the SOA; with `h1` and `many`
        assert any(line.startswith('many.moving.example. 40 IN TXT') for line in lines - first)
    if large.folder.name.startswith('bind'):  # once, as dnspython takes ten seconds
        assert lines_of(their_zone(large, 'moving.example')) == lines
    check_zone('moving.example', str(zone))


# --- 21. Guests --------------------------------------------------------------


def families_of(entries):
    return [(entry['host'], entry['family']) for entry in entries]


V4 = '192.0.2.1', socket.AF_INET
V6 = '2001:db8::1', socket.AF_INET6
BOTH = {
    TYPES.A: rr(b'x.example', TYPES.A, IPv4Address(V4[0])),
    TYPES.AAAA: rr(b'x.example', TYPES.AAAA, IPv6Address(V6[0])),
}


def answering_by_type(**answers):
    """An `answer` by the mnemonic of the type; a type not named has its record of `BOTH`."""

    def answer(query):
        qtype = query.qd[0].qtype
        if str(qtype) not in answers:
            return reply_to(query, BOTH[qtype])
        said = answers[str(qtype)]
        return said(query) if callable(said) else said

    return answer


no_data = answering(ns=(soa(b'example'),))
server_failure = answering(rcode=RCODES.SERVFAIL)


def host_resolver_of(*servers, **arguments):
    get_nameservers = asking(*[server.nameserver for server in servers])
    arguments = {'get_host': no_host, 'get_nameservers': get_nameservers, **arguments}
    return module.AioHttpDnsResolver(**arguments)


def test_a_guest_is_made_once_and_when_it_is_asked_for():
    program = (
        'import sys, aiodnsresolver\n'
        'assert "aiohttp" not in sys.modules\n'
        'from aiodnsresolver import AioHttpDnsResolver as first\n'
        'from aiodnsresolver import AioHttpDnsResolver as second\n'
        'from aiohttp.abc import AbstractResolver\n'
        'assert first is second and issubclass(first, AbstractResolver)\n'
        'assert first.__module__ == "aiodnsresolver" and first.__doc__\n'
        'assert "AioHttpDnsResolver" not in aiodnsresolver.__all__\n'
    )
    subprocess.run([sys.executable, '-c', program], check=True, cwd=HERE)
    with pytest.raises(AttributeError, match='no attribute'):
        _ = module.AioHttpResolver


def test_a_guest_without_its_host_is_a_missing_dependency():
    program = (
        'import sys\n'
        'sys.modules["aiohttp"] = sys.modules["aiohttp.abc"] = None\n'
        'import aiodnsresolver\n'
        'try:\n'
        '    from aiodnsresolver import AioHttpDnsResolver\n'
        'except aiodnsresolver.MissingDependency as error:\n'
        '    assert isinstance(error, ImportError) and "aiodnsresolver[aiohttp]" in str(error)\n'
        'else:\n'
        '    sys.exit("it was made")\n'
    )
    subprocess.run([sys.executable, '-c', program], check=True, cwd=HERE)


@on_every_loop
async def test_hosts_are_as_those_of_aiohttp_are():
    ours, theirs = module.AioHttpDnsResolver(get_host=no_host), aiohttp.ThreadedResolver()
    for host, family in (('127.0.0.1', socket.AF_INET), ('::1', socket.AF_INET6)):
        expected = await theirs.resolve(host, 80, family)
        assert await ours.resolve(host, 80, family) == [{**each, 'proto': 0} for each in expected]
    (entry,) = await ours.resolve('127.0.0.1', 80)
    assert set(entry) == set(aiohttp.abc.ResolveResult.__annotations__)


@on_every_loop
@pytest.mark.parametrize(
    'family, expected',
    [(socket.AF_INET, [V4]), (socket.AF_INET6, [V6]), (socket.AF_UNSPEC, [V6, V4]), (0, [V6, V4])],
)
async def test_a_host_has_the_addresses_of_its_family(family, expected):
    async with Nameserver(answering_by_type()) as server:
        resolver = host_resolver_of(server)
        for _ in range(2):  # asked for, and cached
            assert families_of(await resolver.resolve('x.example', 80, family)) == expected
            assert len(server.queries) == len(expected)
        await resolver.close()
        assert families_of(await resolver.resolve('x.example', 80, family)) == expected
        assert len(server.queries) == 2 * len(expected)


@on_every_loop
async def test_both_families_are_asked_for_at_once():
    async def answer(query):
        while len(server.queries) < 2:
            await asyncio.sleep(0)
        return reply_to(query, BOTH[query.qd[0].qtype])

    async with Nameserver(answer) as server:
        entries = await host_resolver_of(server).resolve('x.example', 80, socket.AF_UNSPEC)
        assert families_of(entries) == [V6, V4]


@on_every_loop
@pytest.mark.parametrize('silent, expected', [('AAAA', [V4]), ('A', [V6])])
async def test_one_family_is_enough_after_a_short_grace(silent, expected):
    async with Nameserver(answering_by_type(**{silent: None})) as server:
        resolver = host_resolver_of(server)
        task = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        await settle()
        turn(0.04)
        await settle()
        assert not task.done()
        turn(0.02)
        assert families_of(await task) == expected
        assert is_idle()
        # What has come is kept, and of the other nothing.
        family = expected[0][1]
        assert families_of(await resolver.resolve('x.example', 80, family)) == expected
        assert len(server.queries) == 2


@on_every_loop
async def test_the_other_family_may_come_within_the_grace():
    late = asyncio.Event()

    async def answer(query):
        if query.qd[0].qtype == TYPES.AAAA:
            await late.wait()
        return reply_to(query, BOTH[query.qd[0].qtype])

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server)
        task = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        await settle()
        turn(0.04)
        late.set()
        assert families_of(await task) == [V6, V4]


@on_every_loop
@pytest.mark.parametrize('other', [no_data, server_failure, b'', b'broken'])
async def test_a_family_that_is_absent_or_fails_does_not_take_the_other_along(other):
    async with Nameserver(answering_by_type(AAAA=other)) as server:
        task = asyncio.ensure_future(
            host_resolver_of(server, transform_fqdn=as_it_is).resolve(
                'x.example', 80, socket.AF_UNSPEC
            )
        )
        await server.asked(2 if other is not server_failure else 3)
        await settle()
        turn(0.06)
        assert families_of(await task) == [V4]


@on_every_loop
async def test_an_absence_gives_the_other_family_no_grace():
    arrived = asyncio.Event()

    async def answer(query):
        if query.qd[0].qtype == TYPES.A:
            return no_data(query)
        await arrived.wait()
        return reply_to(query, BOTH[TYPES.AAAA])

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server, transform_fqdn=as_it_is)
        task = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        await settle()
        turn(0.4)
        await settle()
        assert not task.done()
        arrived.set()
        assert families_of(await task) == [V6]


@on_every_loop
async def test_the_grace_counts_for_a_family_that_another_asks_for():
    arrived = asyncio.Event()

    async def answer(query):
        if query.qd[0].qtype == TYPES.AAAA:
            return None
        await arrived.wait()
        return reply_to(query, BOTH[TYPES.A])

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server)
        one = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_INET))
        await server.asked(1)
        both = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        arrived.set()
        assert families_of(await one) == [V4]
        await settle()
        turn(0.04)
        await settle()
        assert not both.done()
        turn(0.02)
        assert families_of(await both) == [V4]


@on_every_loop
async def test_the_grace_counts_when_only_the_other_family_is_asked_for_by_another():
    async with Nameserver(answering_by_type(AAAA=None)) as server:
        resolver = host_resolver_of(server)
        one = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_INET6))
        await server.asked(1)
        both = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        await settle()
        turn(0.06)
        await settle()
        assert both.done()
        assert families_of(await both) == [V4]
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)


@on_every_loop
async def test_who_is_cancelled_while_another_asks_is_told_nothing_afterwards():
    arrived = asyncio.Event()

    async def answer(query):
        await arrived.wait()
        return answering_by_type()(query)

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server)
        one, two = [
            asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
            for _ in range(2)
        ]
        await server.asked(2)
        two.cancel()
        await asyncio.wait([two])
        arrived.set()
        assert len(await one) == 2


@on_every_loop
async def test_the_grace_counts_for_what_is_cached_while_get_host_thinks():
    cached = asyncio.Event()

    async def get_host(fqdn, qtype):
        if is_slow and qtype == TYPES.A:
            await cached.wait()

    async with Nameserver(answering_by_type(AAAA=None)) as server:
        resolver = host_resolver_of(server, transform_fqdn=as_it_is, get_host=get_host)
        is_slow = True
        both = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await settle()
        is_slow = False
        assert families_of(await resolver.resolve('x.example', 80)) == [V4]
        cached.set()
        await server.asked(2)
        await settle()
        turn(0.06)
        await settle()
        assert both.done()
        assert families_of(await both) == [V4]


@on_every_loop
async def test_the_grace_counts_for_the_target_of_an_alias():
    target = a(b'y.example')

    def answer(query):
        name, qtype, _ = query.qd[0]
        if qtype == TYPES.A:
            return reply_to(query, cname(b'x.example', b'y.example'), target)
        alias = reply_to(query, cname(b'x.example', b'y.example'))
        return alias if name.lower() == b'x.example' else None

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server)
        task = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(3)
        await settle()
        turn(0.06)
        assert families_of(await task) == [V4]
        assert server.names.count(b'y.example') == 1


@on_every_loop
async def test_what_the_grace_ends_goes_on_for_those_who_want_it():
    arrived = asyncio.Event()

    async def answer(query):
        if query.qd[0].qtype == TYPES.AAAA:
            await arrived.wait()
        return reply_to(query, BOTH[query.qd[0].qtype])

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server)
        both = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        one = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_INET6))
        await settle()
        turn(0.06)
        assert families_of(await both) == [V4]
        arrived.set()
        assert families_of(await one) == [V6]
        await server.asked(2)  # the query went on for who joined it


@on_every_loop
@pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_UNSPEC])
@pytest.mark.parametrize(
    'answer, expected',
    [
        (answering(rcode=RCODES.NXDOMAIN), socket.EAI_NONAME),
        (no_data, socket.EAI_NONAME),
        (server_failure, socket.EAI_AGAIN),
        (answering_by_type(A=server_failure, AAAA=no_data), socket.EAI_AGAIN),
        (answering(tc=1), socket.EAI_AGAIN),
        (answering(ra=0), socket.EAI_AGAIN),
    ],
)
async def test_a_failure_is_an_oserror_with_errno_and_text(family, answer, expected):
    async with Nameserver(answer) as server:
        with pytest.raises(OSError) as caught:
            await host_resolver_of(server).resolve('x.example', 80, family)
    assert caught.value.errno == expected
    assert 'x.example' in caught.value.strerror
    assert isinstance(caught.value.__cause__, ResolverError)
    assert not isinstance(caught.value, TimeoutError)


@on_every_loop
async def test_a_timeout_is_an_oserror_with_errno_and_text():
    async with Nameserver(lambda query: None) as server:
        resolver = host_resolver_of(server)
        task = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        for count in range(1, 6):
            await server.asked(2 * count)
            turn(0.6)
        with pytest.raises(OSError) as caught:
            await task
    assert caught.value.errno == socket.EAI_AGAIN
    assert not isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, QueryTimeout)


@on_every_loop
@pytest.mark.parametrize('host', ['', 'a..b', 'a' * 64, '\u00df.example', 'x' * 300])
async def test_a_host_that_is_no_name_is_an_oserror(host):
    with pytest.raises(OSError) as caught:
        await module.AioHttpDnsResolver(get_host=no_host).resolve(host, 80)
    assert caught.value.errno == socket.EAI_NONAME


@on_every_loop
async def test_a_family_without_addresses_in_dns_is_an_oserror():
    with pytest.raises(OSError, match='family'):
        await module.AioHttpDnsResolver().resolve('localhost', 80, socket.AF_UNIX)


@on_every_loop
async def test_a_timeout_of_the_callers_own_passes_through_the_grace():
    async def get_host(fqdn, qtype):
        raise TimeoutError('mine')

    with pytest.raises(TimeoutError, match='mine'):
        await module.AioHttpDnsResolver(get_host).resolve('x.example', 80, socket.AF_UNSPEC)


@on_every_loop
async def test_a_host_that_is_cancelled_leaves_nothing():
    async with Nameserver(answering_by_type(AAAA=None)) as server:
        resolver = host_resolver_of(server)
        task = asyncio.ensure_future(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        await server.asked(2)
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_idle()
        assert families_of(await resolver.resolve('x.example', 80)) == [V4]  # it was kept
        assert len(server.queries) == 2


ONE, TWO = b'x.one.example', b'x.two.example'


def aaaa(name, address='2001:db8::1'):
    return rr(name, TYPES.AAAA, IPv6Address(address))


@on_every_loop
async def test_a_search_ends_for_both_families_where_one_has_addresses():
    zone = a(ONE, '192.0.2.1'), aaaa(TWO), a(TWO, '192.0.2.2')
    async with Nameserver(knowing(*zone)) as server:
        resolver = host_resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        for _ in range(2):
            entries = await resolver.resolve('x', 80, socket.AF_UNSPEC)
            assert families_of(entries) == [('192.0.2.1', socket.AF_INET)]
            assert server.names == [ONE, ONE]
        # Alone, a family goes on to where it has addresses; together they stay where they were.
        assert families_of(await resolver.resolve('x', 80, socket.AF_INET6)) == [V6]
        entries = await resolver.resolve('x', 80, socket.AF_UNSPEC)
        assert families_of(entries) == [('192.0.2.1', socket.AF_INET)]
        assert server.names == [ONE, ONE, TWO]


# What a nameserver may do instead of saying whether a name exists.
NO_WORD = {
    'SERVFAIL': answering(rcode=RCODES.SERVFAIL),
    'REFUSED': answering(rcode=RCODES.REFUSED),
    'silence': silent,
    'a lame reply': answering(ra=0),
}


@on_every_loop
@pytest.mark.parametrize('failure', NO_WORD)
async def test_a_search_ends_where_a_fails_though_aaaa_is_nxdomain(failure):
    """Some nameservers say NXDOMAIN for AAAA, wrongly, where there is only no such record."""
    answer = answering_by_type(A=NO_WORD[failure], AAAA=nowhere)
    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server, search=SEARCH)
        with pytest.raises(OSError) as caught:
            await in_time(resolver.resolve('x', 80, socket.AF_UNSPEC))
        assert caught.value.errno == socket.EAI_AGAIN
        assert set(server.names) == {ONE}


@on_every_loop
async def test_a_search_ends_where_one_family_fails_and_the_other_has_no_record():
    answer = answering_by_type(A=no_data, AAAA=server_failure)
    async with Nameserver(answer) as server:
        with pytest.raises(OSError) as caught:
            await host_resolver_of(server, search=SEARCH).resolve('x', 80, socket.AF_UNSPEC)
        assert caught.value.errno == socket.EAI_AGAIN
        assert set(server.names) == {ONE}


@on_every_loop
@pytest.mark.parametrize('failure', NO_WORD)
async def test_a_search_goes_on_where_a_is_nxdomain_whatever_aaaa_comes_to(failure):
    answer = answering_by_type(A=knowing(a(TWO)), AAAA=NO_WORD[failure])
    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server, search=SEARCH)
        entries = await in_time(resolver.resolve('x', 80, socket.AF_UNSPEC))
        assert families_of(entries) == [V4]
        assert set(server.names) == {ONE, TWO}


@on_every_loop
@pytest.mark.parametrize('failure', NO_WORD)
async def test_a_name_that_is_nxdomain_for_a_does_not_exist_whatever_aaaa_comes_to(failure):
    answer = answering_by_type(A=nowhere, AAAA=NO_WORD[failure])
    async with Nameserver(answer) as server:
        for search in (SEARCH, ()):
            resolver = host_resolver_of(server, search=search)
            with pytest.raises(OSError) as caught:
                await in_time(resolver.resolve('x', 80, socket.AF_UNSPEC))
            assert caught.value.errno == socket.EAI_NONAME


@on_every_loop
async def test_a_failure_of_one_family_costs_a_search_nothing_if_the_other_has_addresses():
    async with Nameserver(answering_by_type(AAAA=server_failure, A=knowing(a(ONE)))) as server:
        resolver = host_resolver_of(server, search=SEARCH)
        task = asyncio.ensure_future(resolver.resolve('x', 80, socket.AF_UNSPEC))
        await server.asked(3)
        await settle()
        turn(0.06)
        assert families_of(await task) == [V4]
        assert set(server.names) == {ONE}


@on_every_loop
async def test_the_grace_ends_a_search_with_what_has_come():
    def answer(query):
        name, qtype, _ = query.qd[0]
        return None if name.lower() == TWO and qtype == TYPES.AAAA else zone(query)

    zone = knowing(a(TWO))
    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server, transform_fqdn=as_it_is, search=SEARCH)
        task = asyncio.ensure_future(resolver.resolve('x', 80, socket.AF_UNSPEC))
        await server.asked(4)
        await settle()
        turn(0.04)
        await settle()
        assert not task.done()
        turn(0.02)
        assert families_of(await task) == [V4]


@on_every_loop
async def test_a_family_that_get_host_knows_is_not_searched():
    async def get_host(fqdn, qtype):
        return IPv4Address(V4[0]) if (fqdn, qtype) == (b'x', TYPES.A) else None

    async with Nameserver(knowing(aaaa(TWO))) as server:
        resolver = host_resolver_of(
            server, transform_fqdn=as_it_is, get_host=get_host, search=SEARCH
        )
        entries = await resolver.resolve('x', 80, socket.AF_UNSPEC)
        assert families_of(entries) == [V6, V4]
        assert [query.qd[0].qtype for query in server.queries] == [TYPES.AAAA] * 2


@on_every_loop
async def test_a_family_that_the_cache_has_where_the_search_ends_is_not_asked_of_get_host():
    asked = []

    async def get_host(fqdn, qtype):
        asked.append((fqdn, qtype))

    async with Nameserver(knowing(a(ONE), aaaa(ONE))) as server:
        resolver = host_resolver_of(server, get_host=get_host, search=SEARCH)
        await resolver.resolve('x', 80, socket.AF_INET)
        asked.clear()
        assert families_of(await resolver.resolve('x', 80, socket.AF_UNSPEC)) == [V6, V4]
        assert asked == [(b'x', TYPES.AAAA)]


@on_every_loop
async def test_a_host_that_is_nowhere_is_an_oserror_that_names_it():
    async with Nameserver(nowhere) as server:
        with pytest.raises(OSError, match=r'^\[Errno -2\] x\. A') as caught:
            await host_resolver_of(server, transform_fqdn=as_it_is, search=SEARCH).resolve(
                'x', 80, socket.AF_UNSPEC
            )
        assert caught.value.errno == socket.EAI_NONAME
        assert len(server.queries) == 6


@on_every_loop
async def test_a_search_that_is_cancelled_leaves_nothing():
    async with Nameserver(lambda query: None) as server:
        resolver = host_resolver_of(server, search=SEARCH)
        task = asyncio.ensure_future(resolver.resolve('x', 80, socket.AF_UNSPEC))
        await server.asked(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_idle()


@on_every_loop
async def test_a_get_host_that_gives_all_for_either_family_gives_each_once():
    async def get_host(fqdn, qtype):
        return tuple(record.rdata for record in BOTH.values())

    entries = await module.AioHttpDnsResolver(get_host).resolve('x.example', 80, socket.AF_UNSPEC)
    assert families_of(entries) == [V4, V6]


@on_every_loop
async def test_a_host_has_only_addresses_that_are_accepted():
    def answer(query):
        other = {TYPES.A: a(b'x.example', PRIVATE), TYPES.AAAA: aaaa(b'x.example', '::1')}
        qtype = query.qd[0].qtype
        return reply_to(query, BOTH[qtype], other[qtype])

    def accept(address):
        return str(address) in (V4[0], V6[0])

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(server, accept_address=accept)
        assert families_of(await resolver.resolve('x.example', 80, socket.AF_UNSPEC)) == [V6, V4]
        with pytest.raises(OSError, match='accept_address rejects') as caught:
            await resolver.resolve('localhost', 80)
        assert caught.value.errno == socket.EAI_NONAME


@on_every_loop
@pytest.mark.parametrize('rejected', [V4, V6])
@pytest.mark.parametrize('other', ['there', no_data, server_failure])
async def test_a_family_that_is_rejected_does_not_take_the_other_along(rejected, other):
    family, kept = ('A', V6) if rejected == V4 else ('AAAA', V4)
    answers = {} if other == 'there' else {'A' if family == 'AAAA' else 'AAAA': other}

    def accept(address):
        return str(address) != rejected[0]

    async with Nameserver(answering_by_type(**answers)) as server:
        resolver = host_resolver_of(server, accept_address=accept, transform_fqdn=as_it_is)
        resolution = in_time(resolver.resolve('x.example', 80, socket.AF_UNSPEC))
        if other == 'there':
            assert families_of(await resolution) == [kept]
            return
        with pytest.raises(OSError) as caught:
            await resolution
        said = caught.value.strerror
        # The other may succeed later; that it has no record says less.
        is_failure = other is server_failure
        assert caught.value.errno == (socket.EAI_AGAIN if is_failure else socket.EAI_NONAME)
        assert ('accept_address rejects' in said) is not is_failure


@on_every_loop
async def test_addresses_that_are_rejected_give_the_other_family_no_grace():
    arrived = asyncio.Event()

    async def answer(query):
        if query.qd[0].qtype == TYPES.AAAA:
            await arrived.wait()
        zone = a(ONE, V4[0]), aaaa(ONE), aaaa(TWO, '2001:db8::2')
        return knowing(*zone)(query)

    async with Nameserver(answer) as server:
        resolver = host_resolver_of(
            server, accept_address=lambda address: address.version == 6, search=SEARCH
        )
        task = asyncio.ensure_future(resolver.resolve('x', 80, socket.AF_UNSPEC))
        await server.asked(2)
        await settle()
        turn(0.06)
        await settle()
        assert not task.done()
        arrived.set()
        assert families_of(await task) == [V6]  # of the name that was found


@on_every_loop
async def test_getaddrinfo_has_only_addresses_that_are_accepted(tmp_path):
    (tmp_path / 'hosts').write_text(f'::ffff:{PRIVATE} mapped\n::ffff:{PUBLIC} public\n')
    get_host = functools.partial(module.get_host_from_etc_hosts, path=tmp_path / 'hosts')
    both = [a(b'x.example', PUBLIC), a(b'x.example', PRIVATE)]
    async with Nameserver(answering(*both)) as server:
        resolve, _ = resolver_of(server, get_host=get_host, accept_address=is_global)
        look_up = module.getaddrinfo(resolve)
        for host in ('x.example', PUBLIC, '8.8.2056', 'public'):
            rows = await look_up(host, 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
            assert [row[4] for row in rows] == [(PUBLIC, 80)]
        for host in (
            PRIVATE,
            '127.1',
            '0x7f.1',
            '::1',
            f'::ffff:{PRIVATE}',
            'localhost',
            'mapped',
        ):
            with pytest.raises(socket.gaierror) as caught:
                await look_up(host, 80)
            assert caught.value.errno == socket.EAI_NONAME
            assert isinstance(caught.value.__cause__, DoesNotExist)
        with pytest.raises(socket.gaierror):
            await look_up('mapped', 80, family=socket.AF_INET)
        assert await look_up(None, 80)  # no name of a host


async def say_hello(request):
    return aiohttp.web.Response(text=f'hello {request.host} from {request.remote}')


def listening_on_both():
    """Sockets that listen on one port of the loopback addresses of both families."""
    for _ in range(100):
        sock = socket.create_server(('127.0.0.1', 0))
        try:
            where = '::1', sock.getsockname()[1]
            return sock, socket.create_server(where, family=socket.AF_INET6)
        except OSError:  # the port is taken there
            sock.close()
    raise RuntimeError('There is no port that is free on 127.0.0.1 and ::1')


@contextlib.asynccontextmanager
async def hello_server():
    """The port of a web server on the loopback addresses of both families."""
    application = aiohttp.web.Application()
    application.router.add_get('/', say_hello)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    try:
        for sock in listening_on_both():
            await aiohttp.web.SockSite(runner, sock).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


LOOPBACK_OF = {
    TYPES.A: rr(b'web.example', TYPES.A, IPv4Address('127.0.0.1')),
    TYPES.AAAA: rr(b'web.example', TYPES.AAAA, IPv6Address('::1')),
}


@on_every_loop
@pytest.mark.parametrize(
    'family, other, remote',
    [
        (socket.AF_INET, None, '127.0.0.1'),
        (socket.AF_INET6, 'there', '::1'),
        (socket.AF_UNSPEC, 'there', '::1'),
        (socket.AF_UNSPEC, no_data, '127.0.0.1'),
        (socket.AF_UNSPEC, server_failure, '127.0.0.1'),
        (socket.AF_UNSPEC, None, '127.0.0.1'),  # silence
    ],
)
async def test_aiohttp_fetches_by_a_name_that_only_the_nameserver_knows(family, other, remote):
    def answer(query):
        qtype = query.qd[0].qtype
        if qtype == TYPES.A or other == 'there':
            return reply_to(query, LOOPBACK_OF[qtype])
        return other and other(query)

    async def fetch():
        async with session.get(f'http://web.example:{port}/') as response:
            return await response.text()

    async with Nameserver(answer) as server, hello_server() as port:
        connector = aiohttp.TCPConnector(family=family, resolver=host_resolver_of(server))
        async with aiohttp.ClientSession(connector=connector) as session:
            task = asyncio.ensure_future(fetch())
            if family == socket.AF_UNSPEC and other is None:
                await server.asked(2)
                await settle()
                turn(0.06)
            assert await task == f'hello web.example:{port} from {remote}'
            with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
                server.answer = answering(rcode=RCODES.NXDOMAIN)
                await session.get(f'http://nowhere.example:{port}/')
            assert caught.value.os_error.errno == socket.EAI_NONAME


# Beside the C library, which is pointed at a nameserver of the test's own: the two run in one
# process with a network and an /etc of its own.
ETC = {
    'resolv.conf': 'nameserver 127.0.0.1\nsearch one.example two.example\n',
    'nsswitch.conf': 'hosts: files dns\nservices: files\n',
    'host.conf': 'multi on\n',  # as on Debian
    'services': 'http 80/tcp\ndomain 53/tcp\ndomain 53/udp\ntftp 69/udp\nmany 7/sctp\n',
    'hosts': (
        '127.0.0.1 localhost\n'
        '::1 localhost\n'
        '192.0.2.11 Canonical.Example alias Other\n'
        '2001:db8::11 six.example\n'
        '192.0.2.12 pair.example\n'
        '2001:db8::12 pair.example\n'
        '::ffff:192.0.2.13 mapped.example\n'
        '::1 loop.example\n'
        '127.0.0.9 near.example\n'
        '127.0.0.1 near.example\n'
        'fe80::1%lo scoped.example\n'
        '192.0.2.14 Four.Example several.example\n'
        '2001:db8::14 Six.Example several.example\n'
    ),
}
HOST_RECORDS = [
    a(b'v4.example'),
    aaaa(b'v6.example'),
    a(b'both.example', '192.0.2.1'),
    a(b'both.example', '192.0.2.2'),
    aaaa(b'both.example'),
    aaaa(b'both.example', '2001:db8::2'),
    a(b'loopback.example', '127.0.0.9'),
    a(b'loopback.example', '127.0.0.1'),
    aaaa(b'loopback.example', '::1'),
    a(b'www.two.example', '192.0.2.3'),
    a(b'first.one.example', '192.0.2.4'),
    a(b'first.two.example', '192.0.2.5'),
    aaaa(b'mapped-in-dns.example', '::ffff:192.0.2.6'),
    cname(b'alias-in-dns.example', b'target.example'),
    a(b'target.example', '192.0.2.8'),
    a(b'xn--bcher-kva.example', '192.0.2.9'),
    a(b'under_score.example', '192.0.2.10'),
    a(b'-x-.example', '192.0.2.20'),
    a(b'192.0.2.21', '192.0.2.21'),
    cname(b'mixed-case-alias.example', b'Target.Example'),
    rr(b'mail.example', TYPES.MX, module.MX(1, b'v4.example')),
    # With the addresses that the host has in the second half of the table:
    a(b'subnet.example', '198.51.100.1'),
    a(b'subnet.example', '192.0.2.1'),
    a(b'subnet.example', '192.0.2.99'),
    aaaa(b'subnet6.example', '2001:db8:9::1'),
    aaaa(b'subnet6.example', '2001:db8::1'),
    aaaa(b'subnet6.example', '2001:db8::101'),
    aaaa(b'scopes.example', '2001:db8::1'),
    aaaa(b'scopes.example', '::1'),
    a(b'scopes.example', '192.0.2.1'),
    a(b'scopes.example', '127.0.0.1'),
    a(b'scopes.example', '169.254.1.1'),
    aaaa(b'private.example', 'fd00:1::1'),
    a(b'private.example', '192.0.2.1'),
    aaaa(b'tunnelled.example', '2002:c000:264::1'),
    a(b'tunnelled.example', '192.0.2.1'),
    aaaa(b'private6.example', 'fd00:1::1'),
    aaaa(b'private6.example', '2001:db8::1'),
]
RCODES_OF = {b'failing.example': RCODES.SERVFAIL, b'refused.example': RCODES.REFUSED}


def ask_for(host, port=80, **options):
    return host, port, {'type': socket.SOCK_STREAM, **options}


CANONICAL = socket.AI_CANONNAME
IN4, IN6 = {'family': socket.AF_INET}, {'family': socket.AF_INET6}
TO_MAP = {**IN6, 'flags': CANONICAL | socket.AI_V4MAPPED}
TO_MAP_ALL = {**IN6, 'flags': CANONICAL | socket.AI_V4MAPPED | socket.AI_ALL}
IF_CONFIGURED = {'flags': socket.AI_ADDRCONFIG}
ANY_TYPE = {'type': 0}
LITERALS = [
    *('127.1', '0x7f.1', '0177.0.0.01', '2130706433', '1.2.3', '256.1', '1.2.3.256', '0x', '1.'),
    *('::1', '::ffff:192.0.2.1', '::192.0.2.1', '2001:DB8::1', '1:2:3:4:5:6:7::', '::1::', ':::'),
    *('fe80::1%lo', 'fe80::1%1', 'fe80::1', 'ff02::1%lo', 'fe80::1%nosuch', 'fe80::1%'),
    *('2001:db8::1%lo', '2001:db8::1%1', '2001:db8::1%4294967296', '127.0.0.1%lo', 'ff05::1%lo'),
    *('[::1]', '127.0.0.1 ', ' 127.0.0.1', '127.0.0.1 x', '127.0.0.1\n', '1.2.3.4.5', b'127.1'),
    *('\uff11\uff12\uff17.1', '127.0.0.1\u3002', '::\u0661', '127.0.0.1.'),
]
HOST_NAMES = [
    *('v4.example', 'V4.Example.', b'v4.example', 'v6.example', 'both.example', 'absent.example'),
    *('failing.example', 'refused.example', 'mail.example', 'loopback.example', 'www', 'WWW'),
    *('first', 'first.', 'alias-in-dns.example', 'mapped-in-dns.example', 'b\xfccher.example'),
    *('under_score.example', 'localhost', 'alias', 'ALIAS', 'other', 'canonical.example'),
    *('six.example', 'pair.example', 'mapped.example', 'loop.example', 'near.example', ''),
    *('several.example', b'a..b', 'a b', 'a/b', b'\xff.example', b'x' * 64, '*', 'subnet.example'),
]
BY_FAMILY = [
    *('v4.example', 'v6.example', 'both.example', 'absent.example', 'failing.example', 'alias'),
    *('six.example', 'pair.example', 'mapped.example', 'loop.example', '::ffff:192.0.2.1', 'www'),
    *('192.0.2.1', '::1', 'mapped-in-dns.example', 'alias-in-dns.example', 'several.example'),
]
UNLIKE_GLIBC = 'mapped.example', 'loop.example'  # see ON_PURPOSE
PORTS = [
    *(0, 80, 65535, 65536, 65616, -1, -2, 2**31, 2**32 + 80, None, '', '80', ' 80', '+80', '80 '),
    *('-1', '0x50', '*', b'80', b'', 'http', b'http', 'HTTP', 'domain', 'tftp', 'many', 'nosuch'),
    *('\u0668', b'\xff', 'http ', '0' * 5000 + '80', '1' * 30),
]
KINDS = [
    *({'type': kind} for kind in (1, 2, 3, 4, 5, 6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)),
    *({'type': 0, 'proto': proto} for proto in (1, 6, 17, 33, 132, 136, 255)),
    *({'type': kind, 'proto': proto} for kind, proto in ((1, 17), (2, 136), (3, 1), (1, 132))),
]
WITHOUT_NETWORK = [
    *[ask_for(host, flags=CANONICAL) for host in LITERALS + HOST_NAMES],
    *[ask_for(host, flags=CANONICAL, **IN4) for host in BY_FAMILY],
    *[ask_for(host, flags=CANONICAL, **IN6) for host in BY_FAMILY],
    *[ask_for(host, **TO_MAP) for host in BY_FAMILY if 'mapped' not in host],
    *[ask_for(host, **TO_MAP_ALL) for host in BY_FAMILY if host not in UNLIKE_GLIBC],
    *[ask_for('127.0.0.1', port, **ANY_TYPE) for port in PORTS],
    *[ask_for('::1', port, **kind) for port in (80, None, '', 'domain', 'many') for kind in KINDS],
    *[ask_for(None, port, **kind) for port in (80, None) for kind in ({}, IN4, IN6, ANY_TYPE)],
    *[ask_for(None, flags=socket.AI_PASSIVE, **family) for family in ({}, IN4, IN6)],
    *[ask_for(host, flags=socket.AI_PASSIVE) for host in ('localhost', 'both.example')],
    *[ask_for(host, flags=socket.AI_NUMERICHOST) for host in ('localhost', '127.1', None)],
    *[ask_for('v4.example', port, flags=socket.AI_NUMERICSERV) for port in ('http', '80', 'x')],
    *[ask_for('v4.example', flags=flags) for flags in (0x800, 1 << 20, CANONICAL | 0x1000)],
    *[ask_for(host, family=family) for host in ('v4.example', None) for family in (1, 3, 99)],
    ask_for(None, flags=CANONICAL),
    ask_for('absent.example', 'nosuch'),
    *[ask_for(host, **IF_CONFIGURED) for host in ('localhost', '::1', '127.0.0.1', None)],
    *[ask_for(host, **IF_CONFIGURED, **IN4) for host in ('localhost', '127.0.0.1', 'v4.example')],
]
IN_NETWORKS = [
    *[ask_for(name) for name in ('both.example', 'loopback.example', 'subnet.example')],
    *[ask_for(name) for name in ('subnet6.example', 'scopes.example', 'pair.example')],
    *[ask_for(name, **IN4) for name in ('scopes.example', 'subnet.example', 'pair.example')],
    *[ask_for(name, **IF_CONFIGURED) for name in ('both.example', 'localhost')],
]
IN_IPV4_ONLY = [
    *[ask_for(name, **IF_CONFIGURED) for name in ('both.example', 'v6.example', 'localhost')],
    *[ask_for(name, **IF_CONFIGURED) for name in ('::1', '127.1', None, '::ffff:192.0.2.1')],
    *[ask_for(name, **IF_CONFIGURED, **IN6) for name in ('both.example', '::1', 'localhost')],
]


def rows_of(canonical, *addresses):
    """What there is to give for these addresses, if only SOCK_STREAM is asked for."""
    family_of = {True: (10, (80, 0, 0)), False: (2, (80,))}
    return [
        (family, 1, 6, '' if at else canonical, (address, *rest))
        for at, address in enumerate(addresses)
        for family, rest in [family_of[':' in address]]
    ]


# Rows in which the two differ on purpose, and what ours gives.
TO_MAPPED = 'mapped.example', '::ffff:192.0.2.13'
ON_PURPOSE = [
    # glibc has the precedences of RFC 3484: unique local addresses and 6to4 before IPv4.
    ('IPv4 and IPv6', *ask_for('private.example'), rows_of('', '192.0.2.1', 'fd00:1::1')),
    ('IPv4 and IPv6', *ask_for('private6.example'), rows_of('', '2001:db8::1', 'fd00:1::1')),
    (
        'IPv4 and IPv6',
        *ask_for('tunnelled.example'),
        rows_of('', '192.0.2.1', '2002:c000:264::1'),
    ),
    # A mapped address is an IPv6 address, which hides or repeats nothing.
    ('loopback', *ask_for(TO_MAPPED[0], **TO_MAP), rows_of(*TO_MAPPED)),
    ('loopback', *ask_for(TO_MAPPED[0], **TO_MAP_ALL), rows_of(*TO_MAPPED)),
    (
        'loopback',
        *ask_for('mapped-in-dns.example', **TO_MAP),
        rows_of('mapped-in-dns.example', '::ffff:192.0.2.6'),
    ),
    # `::1` in hosts stands for 127.0.0.1 if IPv4 is asked for, not if it is to be mapped.
    ('loopback', *ask_for('loop.example', **TO_MAP_ALL), rows_of('loop.example', '::1')),
    # Names in hosts may have a final dot, and its addresses a scope.
    (
        'loopback',
        *ask_for('Canonical.Example.', flags=CANONICAL),
        rows_of('Canonical.Example', '192.0.2.11'),
    ),
    (
        'loopback',
        *ask_for('scoped.example', flags=CANONICAL),
        [(10, 1, 6, 'scoped.example', ('fe80::1', 80, 0, 1))],
    ),
    # localhost and below are loopback (RFC 6761), also if hosts does not say so.
    ('loopback', *ask_for('x.localhost'), rows_of('', '::1', '127.0.0.1')),
    # A label may begin with a hyphen; one that comes from a literal is no name.
    ('loopback', *ask_for('-x-.example'), rows_of('', '192.0.2.20')),
    ('loopback', *ask_for('192.0.2.21.'), 'EAI_NONAME'),
    # What follows a NUL is ignored by the C library.
    ('loopback', *ask_for('v4.example\0x'), 'EAI_NONAME'),
    ('loopback', *ask_for('127.0.0.1\0x'), 'EAI_NONAME'),
    ('loopback', *ask_for('127.0.0.1', '80\0x'), 'EAI_SERVICE'),
    # The names of aliases are kept in lower case.
    (
        'loopback',
        *ask_for('mixed-case-alias.example', flags=CANONICAL),
        rows_of('target.example', '192.0.2.8'),
    ),
]
# The addresses that the host has beside those of loopback, and what is asked for.
TABLE = [
    *[('loopback', *row) for row in WITHOUT_NETWORK],
    *[row[:-1] for row in ON_PURPOSE if row[0] == 'loopback'],
    *[('IPv4', *row) for row in IN_IPV4_ONLY],
    *[('IPv4 and IPv6', *row) for row in IN_NETWORKS],
    *[row[:-1] for row in ON_PURPOSE if row[0] == 'IPv4 and IPv6'],
]


def answer_from_table(query):
    """The reply for a name of HOST_RECORDS, with the target of an alias."""
    name, qtype, _ = query.qd[0]
    name = name.lower()
    if name in RCODES_OF:
        return reply_to(query, rcode=RCODES_OF[name])
    aliases = [each for each in HOST_RECORDS if each.name == name and each.qtype == TYPES.CNAME]
    last = aliases[0].rdata.lower() if aliases else name
    found = [each for each in HOST_RECORDS if each.name == last and each.qtype == qtype]
    rcode = RCODES.NOERROR if any(each.name == last for each in HOST_RECORDS) else RCODES.NXDOMAIN
    return reply_to(query, *aliases, *found, rcode=rcode, ns=() if found else (soa(b''),))


def answer_in_a_namespace(sock):
    """A nameserver for the C library, which cannot be told of another port than 53."""
    while True:
        data, source = sock.recvfrom(65535)
        sock.sendto(pack(answer_from_table(parse(data))), source)


def plain(found):
    """Rows as plain values, each once, or the name of the error."""
    if isinstance(found, socket.gaierror):
        numbers = {number: n for n, number in vars(socket).items() if n.startswith('EAI_')}
        return numbers[found.errno].replace('NODATA', 'NONAME')  # users of Python see both
    return list(dict.fromkeys([(*map(int, row[:3]), *row[3:]) for row in found]))


def outcome_of_getaddrinfo(call, host, port, options):
    try:
        return plain(call(host, port, **options))
    except socket.gaierror as error:
        return plain(error)
    except UnicodeError:  # of the codec that Python passes host names through
        return 'EAI_NONAME'


def change_lo(request, argument, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, request, argument)


def compare_in_a_namespace(etc):
    """Prints what the C library and ours give for each row of the table."""
    change_lo(0x8914, struct.pack('16sH22x', b'lo', 0x1))  # SIOCSIFFLAGS, IFF_UP
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('127.0.0.1', 53))
    threading.Thread(target=answer_in_a_namespace, args=[sock], daemon=True).start()
    subprocess.run(['mount', '--bind', etc, '/etc'], check=True)
    resolve, _ = Resolver()
    loop = asyncio.new_event_loop()
    outcomes = []

    def compare(now_in):
        call = getaddrinfo(resolve)  # which has not seen the addresses of before

        def ours(*arguments, **options):
            return loop.run_until_complete(call(*arguments, **options))

        for network, *row in TABLE:
            if network == now_in:
                calls = socket.getaddrinfo, ours
                outcomes.append([outcome_of_getaddrinfo(each, *row) for each in calls])

    compare('loopback')
    for request, value in ((0x8916, b'\xc0\x00\x02\x64'), (0x891C, b'\xff\xff\xff\x00')):
        # SIOCSIFADDR and SIOCSIFNETMASK: 192.0.2.100/24
        change_lo(request, struct.pack('16sHH4s16x', b'lo:1', socket.AF_INET, 0, value))
    compare('IPv4')
    for address in ('2001:db8::100', 'fd00:1::100', '2002:c000:264::100'):
        packed = IPv6Address(address).packed
        change_lo(0x8916, struct.pack('16sIi', packed, 64, 1), socket.AF_INET6)
    until = time.monotonic() + ENDS_WITHIN
    while any(  # IFA_F_TENTATIVE: until the kernel has taken them into use
        int(line.split()[4], 16) & 0x40
        for line in Path('/proc/net/if_inet6').read_text().splitlines()
    ):
        assert time.monotonic() < until
    compare('IPv4 and IPv6')
    loop.close()
    print(outcomes)


def in_namespaces(kinds, compare, files, rows, etc):
    """What both libraries give by row: `compare` runs in namespaces of its own, with this /etc."""
    for name, text in files.items():
        (etc / name).write_text(text)
    program = f'import sys, test_aiodnsresolver as t; t.{compare.__name__}(sys.argv[1])'
    alone = ['unshare', f'-{kinds}' if os.geteuid() == 0 else f'-r{kinds}']
    if subprocess.run([*alone, 'true'], capture_output=True).returncode:
        pytest.skip('This user may not make namespaces')
    ran = subprocess.run(
        [*alone, sys.executable, '-X', 'dev', '-W', 'error', '-c', program, etc],
        cwd=HERE,
        env={k: v for k, v in os.environ.items() if k not in ('LOCALDOMAIN', 'RES_OPTIONS')},
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(zip(map(repr, rows), ast.literal_eval(ran.stdout), strict=True))


@pytest.fixture(scope='module')
def both_libraries(tmp_path_factory):
    etc = tmp_path_factory.mktemp('etc')
    return in_namespaces('mn', compare_in_a_namespace, ETC, TABLE, etc)


@pytest.mark.parametrize('row', TABLE, ids=repr)
def test_getaddrinfo_gives_what_the_c_library_gives(row, both_libraries):
    of_c, ours = both_libraries[repr(row)]
    expected = [each[-1] for each in ON_PURPOSE if repr(each[:-1]) == repr(row)]
    assert ours == (expected[0] if expected else of_c)
    assert (ours != of_c) == bool(expected)


@on_every_loop
async def test_getaddrinfo_gives_what_the_c_library_gives_without_a_nameserver():
    numeric = socket.AI_NUMERICHOST | CANONICAL
    rows = [
        *[
            ask_for(host, flags=numeric, **family)
            for host in LITERALS
            for family in ({}, IN4, IN6)
        ],
        *[ask_for('127.1', port, flags=numeric, **ANY_TYPE) for port in PORTS],
        *[ask_for('::1', port, **kind) for port in (80, None, 'domain') for kind in KINDS],
        *[ask_for(None, 80, flags=flags) for flags in (0, socket.AI_PASSIVE, CANONICAL)],
        *[ask_for(None, port, **IF_CONFIGURED) for port in (80, None)],
        *[ask_for('::1', family=socket.AF_UNIX), ask_for('127.1', 'x', flags=1024)],
        *[ask_for('127.1', **IN6, flags=flags) for flags in (0, socket.AI_V4MAPPED)],
    ]
    resolve, _ = Resolver(no_host, asking(), search=())
    for host, port, options in rows:
        expected = outcome_of_getaddrinfo(socket.getaddrinfo, host, port, options)
        try:
            found = await getaddrinfo(resolve)(host, port, **options)
        except socket.gaierror as error:
            found = error
        assert plain(found) == expected, (host, port, options)


# RFC 6724 10.2, without its example of a mobile node: destinations in order, each with its source.
@pytest.mark.parametrize(
    'first, second',
    [
        (('2001:db8:1::1', '2001:db8:1::2'), ('198.51.100.121', '169.254.13.78')),
        (('198.51.100.121', '198.51.100.117'), ('2001:db8:1::1', 'fe80::1')),
        (('2001:db8:1::1', '2001:db8:1::2'), ('10.1.2.3', '10.1.2.4')),
        (('fe80::1', 'fe80::2'), ('2001:db8:1::1', '2001:db8:1::2')),
        (('2001:db8:1::1', '2001:db8:1::2'), ('fe80::1', 'fe80::2', 64, True)),
        (('2001:db8:1::1', '2001:db8:1::2'), ('2001:db8:3ffe::1', '2001:db8:3f44::2')),
        (('2002:c633:6401::1', '2002:c633:6401::2'), ('2001:db8:1::1', '2002:c633:6401::2')),
        (('2001:db8:1::1', '2001:db8:1::2'), ('2002:c633:6401::1', '2002:c633:6401::2')),
        # Not from there: what cannot be reached, multicast, and IPv4 within the subnet only.
        (('192.0.2.1', '192.0.2.2'), ('2001:db8::1', None)),
        (('ff02::1', 'fe80::2'), ('ff0e::1', '2001:db8::2')),
        (('192.0.2.3', '192.0.2.2', 24), ('192.0.2.99', '192.0.2.2', 24)),
        (('192.0.2.3', '192.0.2.2', 24), ('192.0.3.1', '192.0.2.2', 24)),
    ],
)
def test_destinations_are_in_the_order_of_rfc_6724(first, second):
    def rank(address, source, prefix=64, is_deprecated=False):
        source = None if source is None else ip_address(source)
        return module.destination_rank(ip_address(address), source, prefix, is_deprecated)

    assert rank(*first) < rank(*second)


def test_ipv4_beyond_the_subnet_stays_in_the_order_of_the_reply():
    ranks = [
        module.destination_rank(IPv4Address(address), IPv4Address('192.0.2.2'), prefix, False)
        for address in ('192.0.3.1', '198.51.100.1')
        for prefix in (24, 0)
    ]
    assert len(set(ranks)) == 1


@on_every_loop
async def test_the_order_of_destinations_is_remembered_for_a_moment():
    local = module.LocalAddresses()
    first, second = [(IPv4Address(f'127.0.0.{each}'), 0) for each in (1, 9)]
    for destinations in ([first, second], [second, first]):
        assert local.sort(destinations) == [first, second]
    assert local.interfaces[IPv4Address('127.0.0.1')] == (8, False)
    assert set(local.ranks) == {first, second}
    turn(module.LOCAL_SECONDS)
    third = IPv6Address('::1'), 0
    assert local.sort([second, third]) == [third, second]
    assert set(local.ranks) == {second, third}


@on_every_loop
async def test_without_the_interfaces_a_family_is_configured_if_it_has_a_route():
    local = module.LocalAddresses()
    local.refresh()
    local.interfaces.clear()  # as on a system that does not tell them
    reached = {
        family
        for family, host in ((socket.AF_INET, '192.0.2.1'), (socket.AF_INET6, '2001:db8::1'))
        if module.source_of((ip_address(host), 0)) is not None
    }
    assert local.families() == reached or {socket.AF_INET, socket.AF_INET6}


@on_every_loop
async def test_of_very_many_addresses_the_first_are_sorted():
    many = [a(b'x.example', f'127.0.{each // 200}.{each % 200 + 1}') for each in range(300)]
    async with Nameserver(answering(*reversed(many), aaaa(b'x.example', '::1'))) as server:
        resolve, _ = resolver_of(server)
        rows = await getaddrinfo(resolve)('x.example', 80, type=socket.SOCK_STREAM)
        hosts = [row[4][0] for row in rows]
        assert len(hosts) == 301
        given = ['::1', *[str(record.rdata) for record in reversed(many)]]
        assert sorted(hosts) == sorted(given)
        assert hosts[module.MAX_SORTED :] == given[module.MAX_SORTED :]


def rows_in_short(rows):
    return [(row[3], row[4][0]) for row in rows]


@on_every_loop
async def test_a_canonical_name_is_found_cold_and_in_the_cache():
    zone = (
        a(b'www.two.example', ttl=0),
        a(b'mail.two.example'),
        cname(b'alias.one.example', b'Target.Example'),
        a(b'target.example'),
    )
    async with Nameserver(having(*zone)) as server:
        resolve, _ = resolver_of(server, search=SEARCH)
        for name, canonical in (
            ('Www', 'Www.two.example'),  # is not cached
            ('mail', 'mail.two.example'),
            ('alias', 'target.example'),
            ('target.example', 'target.example'),
            ('Target.Example.', 'Target.Example'),
        ):
            for _ in range(2):
                rows = await getaddrinfo(resolve)(name, 80, type=2, flags=CANONICAL, **IN4)
                assert rows_in_short(rows) == [(canonical, '192.0.2.1')]


@on_every_loop
async def test_hosts_has_canonical_names_and_ipv4_written_as_ipv6(tmp_path):
    path = tmp_path / 'hosts'
    lines = '192.0.2.1 Www.Example www', '::1 six', '::ffff:192.0.2.2 six', 'fe80::1%x bad'
    path.write_text('\n'.join(lines))
    get_host = functools.partial(get_host_from_etc_hosts, path=str(path))
    resolve, _ = Resolver(get_host, asking())
    ask = functools.partial(getaddrinfo(resolve), port=80, type=1, flags=CANONICAL)
    assert rows_in_short(await ask('WWW')) == [('Www.Example', '192.0.2.1')]
    assert rows_in_short(await ask('six')) == [('six', '::1'), ('', '::ffff:192.0.2.2')]
    assert rows_in_short(await ask('six', **IN4)) == [('six', '127.0.0.1'), ('', '192.0.2.2')]
    with pytest.raises(socket.gaierror, match='interface'):
        await ask('bad')
    mapped = await getaddrinfo(resolve)('www', 80, type=1, **TO_MAP)
    assert rows_in_short(mapped) == [('Www.Example', '::ffff:192.0.2.1')]


@on_every_loop
async def test_one_family_is_enough():
    async with Nameserver(answering_by_type()) as server:
        resolve, clear_cache = resolver_of(server)
        ask = functools.partial(getaddrinfo(resolve), 'x.example', 80, type=1)
        assert {row[4][0] for row in await ask()} == {V4[0], V6[0]}
        for number, (silent_one, there) in enumerate((('A', V6), ('AAAA', V4)), 1):
            clear_cache()
            server.answer = answering_by_type(**{silent_one: None})
            task = asyncio.ensure_future(ask())
            await server.asked(2 + 2 * number)
            await settle()
            turn(0.06)
            assert [row[4][0] for row in await task] == [there[0]]
            clear_cache()
            server.answer = answering_by_type(**{silent_one: server_failure})
            task = asyncio.ensure_future(ask())
            assert [row[4][0] for row in await in_time(task)] == [there[0]]
            server.queries.clear()
            server.queries += [None] * (2 + 2 * number)


@on_every_loop
@pytest.mark.parametrize(
    'answer, number, cause',
    [
        (answering(rcode=RCODES.NXDOMAIN), socket.EAI_NONAME, DoesNotExist),
        (no_data, socket.EAI_NONAME, DoesNotExist),
        (server_failure, socket.EAI_AGAIN, ResponseCode),
        (answering_by_type(A=no_data, AAAA=server_failure), socket.EAI_AGAIN, ResponseCode),
        (answering(ra=0), socket.EAI_AGAIN, BadResponse),
        (silent, socket.EAI_AGAIN, QueryTimeout),
        (
            lambda query: reply_to(query, cname(query.qd[0].name, b'x' + query.qd[0].name)),
            socket.EAI_FAIL,
            CnameChainTooLong,
        ),
    ],
)
async def test_getaddrinfo_raises_gaierror_with_its_cause(answer, number, cause):
    async with Nameserver(answer) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(socket.gaierror) as caught:
            await in_time(getaddrinfo(resolve)('x.example', 80))
    assert caught.value.errno == number
    assert isinstance(caught.value.__cause__, cause)
    assert 'x.example' in caught.value.strerror


# What is no name of a host: nothing is sent.
@on_every_loop
@pytest.mark.parametrize(
    'host',
    [
        *NO_NAMES,
        '',
        '.',
        'x\0',
        'a b',
        '[::1]',
        '127.0.0.1.',
        '1.2.3.4\u3002',
        'fe80::1%x',
        b'\xff',
    ],
)
async def test_what_cannot_be_a_host_is_not_asked_for(host):
    async with Nameserver(silent) as server:
        resolve, _ = resolver_of(server)
        with pytest.raises(socket.gaierror) as caught:
            await getaddrinfo(resolve)(host, 80)
        assert caught.value.errno == socket.EAI_NONAME
        assert len(str(caught.value)) < 1000
        assert not server.queries


@on_every_loop
@pytest.mark.parametrize('host, port', [(5, 80), (bytearray(b'x'), 80), ('x', 80.0), ('x', [])])
async def test_a_host_or_port_of_another_type_is_a_typeerror(host, port):
    resolve, _ = Resolver()
    with pytest.raises(TypeError, match='has to be'):
        await getaddrinfo(resolve)(host, port)


@pytest.mark.parametrize('resolve', [None, no_host, Resolver()[1], Resolver])
def test_getaddrinfo_takes_what_resolver_returns(resolve):
    with pytest.raises(TypeError, match='Resolver'):
        getaddrinfo(resolve)


@on_every_loop
async def test_what_a_function_of_the_callers_raises_passes_through_getaddrinfo():
    async def get_host(fqdn, qtype):
        raise KeyError('mine')

    with pytest.raises(KeyError, match='mine'):
        await getaddrinfo(Resolver(get_host)[0])('x.example', 80)


def in_real_time(test):
    """Makes a coroutine function a test with the clocks of both loops."""

    @pytest.mark.parametrize('loop_factory', [AsyncioInTime, UvloopInTime])
    @functools.wraps(test)
    def synchronous(loop_factory, **fixtures):
        run(test(**fixtures), loop_factory)

    parameters = inspect.signature(test).parameters.values()
    names = inspect.Parameter('loop_factory', inspect.Parameter.POSITIONAL_OR_KEYWORD)
    synchronous.__signature__ = inspect.Signature([*parameters, names])
    return synchronous


WEB = knowing(*[record for record in LOOPBACK_OF.values()])


@in_real_time
async def test_open_connection_uses_the_resolver():
    async with Nameserver(WEB) as server, hello_server() as port:
        resolve, _ = resolver_of(server)
        loop = asyncio.get_running_loop()
        loop.getaddrinfo = getaddrinfo(resolve)
        host = 'web.example'
        if isinstance(loop, uvloop.Loop):  # whose own connections do not ask it
            host = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0][4][0]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b'GET / HTTP/1.0\r\nHost: web.example\r\n\r\n')
        assert (await reader.read()).endswith(b'hello web.example from ::1')
        writer.close()
        await writer.wait_closed()
        assert len(server.queries) == 2
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo('nowhere.example', port)
        await settle()


@in_real_time
@pytest.mark.parametrize('library', [httpx, httpx2])
async def test_httpx_uses_the_resolver(library):
    async with Nameserver(WEB) as server, hello_server() as port:
        resolve, _ = resolver_of(server)
        asyncio.get_running_loop().getaddrinfo = getaddrinfo(resolve)
        async with library.AsyncClient(trust_env=False) as client:
            response = await client.get(f'http://web.example:{port}/')
            assert response.text == f'hello web.example:{port} from ::1'
            with pytest.raises(library.ConnectError):
                await client.get(f'http://nowhere.example:{port}/')
        assert {b'web.example', b'nowhere.example'} == set(server.names)
        await settle()


@pytest.fixture(scope='session')
def redis_server(tmp_path_factory):
    """The port of Redis, which keeps nothing."""
    folder = tmp_path_factory.mktemp('redis')
    port = free_port()
    command = [find_program('redis-server', 'redis-server'), '--bind', '127.0.0.1']
    command += ['--port', str(port), '--save', '', '--dir', folder]
    with running(command, ('127.0.0.1', port), folder / 'log', None):
        yield port


@pytest.fixture(scope='session')
def postgresql(tmp_path_factory):
    """The port of PostgreSQL, which asks for no password and syncs nothing to the disk."""
    programs = max(Path('/usr/lib/postgresql').glob('*/bin/initdb'), default=None)
    if programs is None:
        raise FileNotFoundError('There is no initdb: install the Debian package postgresql')
    port = free_port()
    # It does not run as root, and another user cannot enter the folders of pytest's.
    with tempfile.TemporaryDirectory() as folder:
        user = []
        if os.geteuid() == 0:
            user = ['--reuid', 'postgres', '--regid', 'postgres', '--clear-groups']
            shutil.chown(folder, 'postgres', 'postgres')
        data = ['-D', f'{folder}/data']
        options = ['-U', 'postgres', '-A', 'trust', '--no-locale', '-E', 'UTF8', '--no-sync']
        subprocess.run(
            ['setpriv', *user, programs, *data, *options],
            stdin=subprocess.DEVNULL,
            check=True,
            cwd=folder,
            timeout=STARTS_WITHIN,
        )
        command = [*user, programs.with_name('postgres'), *data, '-F', '-k', '']
        command += ['-h', '127.0.0.1', '-p', str(port)]
        log = tmp_path_factory.mktemp('postgresql') / 'log'
        with running(command, ('127.0.0.1', port), log, None):
            yield port


@contextlib.asynccontextmanager
async def smtp_server():
    """The port of aiosmtpd, and the messages that it takes."""
    taken = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            taken.append((envelope.rcpt_tos, envelope.content))
            return '250 taken'

    loop = asyncio.get_running_loop()
    make = functools.partial(aiosmtpd.smtp.SMTP, Handler(), hostname='here.example', loop=loop)
    server = await loop.create_server(make, '127.0.0.1', 0)
    try:
        yield server.sockets[0].getsockname()[1], taken
    finally:
        server.close()
        await server.wait_closed()


# Known to the nameserver only.
THERE = knowing(rr(b'there.example', TYPES.A, IPv4Address('127.0.0.1')))


async def host_for_its_own_connections(host):
    """The host that a library is given that has the loop make its connections.

    uvloop does not ask `loop.getaddrinfo` for those, and has to be given an address.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, uvloop.Loop):
        host = (await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM))[0][4][0]
    return host


async def echo_of_redis(host, port):
    host = await host_for_its_own_connections(host)
    no_retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0)
    async with redis.asyncio.Redis(host=host, port=port, retry=no_retry) as client:
        return await client.echo('hello')


async def row_of_postgresql(host, port):
    host = await host_for_its_own_connections(host)
    connection = await asyncpg.connect(host=host, port=port, user='postgres')
    try:
        return await connection.fetchval("SELECT 'hello'")
    finally:
        await connection.close()


@pytest.mark.servers
@in_real_time
async def test_redis_py_uses_the_resolver(redis_server):
    async with Nameserver(THERE) as server:
        resolve, _ = resolver_of(server)
        asyncio.get_running_loop().getaddrinfo = getaddrinfo(resolve)
        assert await echo_of_redis('there.example', redis_server) == b'hello'
        with pytest.raises((redis.ConnectionError, socket.gaierror), match=r'nowhere\.example'):
            await echo_of_redis('nowhere.example', redis_server)
        assert {b'there.example', b'nowhere.example'} == set(server.names)
        await settle()


@pytest.mark.servers
@in_real_time
async def test_asyncpg_uses_the_resolver(postgresql):
    async with Nameserver(THERE) as server:
        resolve, _ = resolver_of(server)
        asyncio.get_running_loop().getaddrinfo = getaddrinfo(resolve)
        assert await row_of_postgresql('there.example', postgresql) == 'hello'
        with pytest.raises(socket.gaierror, match=r'nowhere\.example'):
            await row_of_postgresql('nowhere.example', postgresql)
        assert {b'there.example', b'nowhere.example'} == set(server.names)
        await settle()


@in_real_time
async def test_tornado_uses_the_resolver():
    def hello(request):
        start = tornado.httputil.ResponseStartLine('HTTP/1.1', 200, 'OK')
        said = f'hello {request.host} from {request.remote_ip}'.encode()
        headers = tornado.httputil.HTTPHeaders({'Content-Length': str(len(said))})
        request.connection.write_headers(start, headers, said)
        request.connection.finish()

    async with Nameserver(THERE) as server:
        resolve, _ = resolver_of(server)
        loop = asyncio.get_running_loop()
        loop.getaddrinfo = getaddrinfo(resolve)
        [listener] = tornado.netutil.bind_sockets(0, '127.0.0.1')
        port = listener.getsockname()[1]
        http = tornado.httpserver.HTTPServer(hello)
        http.add_socket(listener)
        client = tornado.httpclient.AsyncHTTPClient(force_instance=True)
        try:
            response = await client.fetch(f'http://there.example:{port}/')
            assert response.body.decode() == f'hello there.example:{port} from 127.0.0.1'
            with pytest.raises(socket.gaierror, match=r'nowhere\.example'):
                await client.fetch(f'http://nowhere.example:{port}/')
        finally:
            client.close()
            http.stop()
            await http.close_all_connections()
            # Else tornado keeps the loop, and so our epoll object, until it sees another.
            del tornado.ioloop.IOLoop._ioloop_for_asyncio[loop]
        assert {b'there.example', b'nowhere.example'} == set(server.names)
        await settle()


@in_real_time
async def test_aiosmtplib_uses_the_resolver():
    async def send(host):
        host = await host_for_its_own_connections(host)
        message = b'Subject: hello\r\n\r\n'
        people = {'sender': 'us@here.example', 'recipients': ['you@there.example']}
        # Else it asks the C library for the name of this host.
        where = {'hostname': host, 'port': port, 'local_hostname': 'here.example'}
        await aiosmtplib.send(message, **people, **where)

    async with Nameserver(THERE) as server, smtp_server() as (port, taken):
        resolve, _ = resolver_of(server)
        asyncio.get_running_loop().getaddrinfo = getaddrinfo(resolve)
        await send('there.example')
        assert taken == [(['you@there.example'], b'Subject: hello\r\n\r\n')]
        expected = aiosmtplib.SMTPConnectError, socket.gaierror
        with pytest.raises(expected, match=r'nowhere\.example'):
            await send('nowhere.example')
        assert {b'there.example', b'nowhere.example'} == set(server.names)
        await settle()


@pytest.mark.parametrize(
    'address, expected',
    [
        ('192.0.2.1', b'1.2.0.192.in-addr.arpa'),
        (IPv4Address('192.0.2.1'), b'1.2.0.192.in-addr.arpa'),
        (module.IPv4AddressExpiresAt('192.0.2.1', 5.0), b'1.2.0.192.in-addr.arpa'),
        ('::ffff:192.0.2.1', b'1.2.0.192.in-addr.arpa'),
        # RFC 3596 2.5
        (
            '4321:0:1:2:3:4:567:89ab',
            b'b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa',
        ),
        ('fe80::1%lo', b'1' + b'.0' * 28 + b'.8.e.f.ip6.arpa'),
        (module.IPv6AddressExpiresAt('fe80::1%lo', 5.0), b'1' + b'.0' * 28 + b'.8.e.f.ip6.arpa'),
    ],
)
def test_a_reverse_name_is_that_of_the_ptr_records(address, expected):
    assert module.reverse_name(address) == expected
    assert dns.reversename.from_address(str(address).partition('%')[0]).to_text().encode() == (
        expected + b'.'
    )


@pytest.mark.parametrize('address', ['', 'x', '127.1', '192.0.2.1/24', '::1::'])
def test_only_an_address_has_a_reverse_name(address):
    with pytest.raises(InvalidName):
        module.reverse_name(address)
    for other in (b'192.0.2.1', 5, None):
        with pytest.raises(TypeError):
            module.reverse_name(other)


# As for getaddrinfo above, but with a host name, too.
ETC_OF_NAMES = {
    **ETC,
    'services': 'http 80/tcp\ndomain 53/tcp\ndomain 53/udp\ntftp 69/udp\nudp-name 99/udp\n',
    'hosts': (
        '127.0.0.1 localhost\n'
        '192.0.2.10 ours.corp.example host\n'
        '192.0.2.11 Canonical.Example alias\n'
        '192.0.2.12 alias first.example\n'
        '192.0.2.12 second.example\n'
        '2001:db8::11 six.example # 2001:db8::12\n'
        '::ffff:192.0.2.13 mapped.example\n'
        '192.0.2.13 too-late.example\n'
        '192.0.2.14\n'
        '::1 loop.example\n'
        '192.0.2.15 www.corp.example\n'
        'fe80::5%lo scoped.example\n'
    ),
}
PTR = {
    '198.51.100.1': b'Host.Example',
    '198.51.100.4': b'a\\032b.example',
    '198.51.100.5': b'-x.example',
    '198.51.100.6': b'under_score.x-.example',
    '198.51.100.9': b'www.corp.example',
    '198.51.100.11': b'corp.example',
    '198.51.100.12': b'wwwcorp.example',
    '198.51.100.13': b'x\\.y.example',
    '198.51.100.14': b'www.CORP.example',
    '2001:db8::1': b'v6.example',
    '2001:db8::12': b'twelve.example',
    '::1:2:3:4': b'x' * 63 + b'.example',
}
REVERSE_ZONE = [
    *[rr(module.reverse_name(each), TYPES.PTR, name) for each, name in PTR.items()],
    cname(module.reverse_name('198.51.100.7'), b'7.0-24.100.51.198.in-addr.arpa'),  # RFC 2317
    rr(b'7.0-24.100.51.198.in-addr.arpa', TYPES.PTR, b'seven.example'),
    rr(module.reverse_name('198.51.100.8'), TYPES.TXT, (b'no PTR',)),
    # With the search list it would be found here:
    rr(module.reverse_name('198.51.100.99') + b'.one.example', TYPES.PTR, b'wrong.example'),
]
FAILING = {
    module.reverse_name('198.51.100.2'): RCODES.SERVFAIL,
    module.reverse_name('198.51.100.3'): RCODES.REFUSED,
}
NAMEREQD, NUMERIC_HOST, NUMERIC_PORT = socket.NI_NAMEREQD, socket.NI_NUMERICHOST, 2
SOCKADDRS = [
    *[(f'192.0.2.{number}', 80) for number in range(10, 16)],
    *[(f'198.51.100.{number}', 80) for number in range(1, 15)],
    *[(each, 53) for each in ('127.0.0.1', '127.1', '::1', '2001:db8::1', '2001:db8::11')],
    *[(each, 53) for each in ('2001:db8::12', '::ffff:198.51.100.1', '::ffff:192.0.2.13')],
    *[(each, 99) for each in ('::1:2:3:4', '198.51.100.99', '::ffff:198.51.100.98')],
    *[('fe80::5', 80, 0, scope) for scope in (0, 1, 99, -1, 1 << 32)],
    *[('2001:db8::5', 80, 5, 1), ('ff02::1', 80, 0, 1), ('fe80::5%lo', 80), ('ff05::1', 0, 0, 1)],
    *[('fe80::5%nosuch', 80), ('', 80), ('x', 80), ('localhost', 80), ('x', -1)],
    *[('192.0.2.11', port) for port in (0, 1, 69, -1, 65536, 65616, 2**31 - 1, True)],
]
NAME_TABLE = [
    *[(each, flags) for each in SOCKADDRS for flags in (0, NAMEREQD, NUMERIC_HOST | NUMERIC_PORT)],
    *[(each, socket.NI_NOFQDN) for each in SOCKADDRS if each[1] == 80],
    *[(('192.0.2.11', port), socket.NI_DGRAM) for port in (53, 69, 80, 99, 9)],
    *[(('192.0.2.11', 80), flags) for flags in (64, 128, 256, 1 << 20, -1, NUMERIC_PORT)],
    *[(each, NUMERIC_HOST | NAMEREQD) for each in (('192.0.2.11', 80), ('198.51.100.99', 80))],
    (('x', 80), 1 << 20),
]
# As above, what ours gives where the two differ.
NAMES_ON_PURPOSE = {
    # The domain of this host is left out only at the end, whatever its letter case.
    (('198.51.100.14', 80), socket.NI_NOFQDN): ('www', 'http'),
    # A line of hosts without a name gives an address no name.
    (('192.0.2.14', 80), 0): ('192.0.2.14', 'http'),
    (('192.0.2.14', 80), socket.NI_NOFQDN): ('192.0.2.14', 'http'),
    (('192.0.2.14', 80), NAMEREQD): 'EAI_NONAME',
}


def answer_for_names(query):
    name = query.qd[0].name.lower()
    if name in FAILING:
        return reply_to(query, rcode=FAILING[name])
    return knowing(*REVERSE_ZONE)(query)


def outcome_of_getnameinfo(call, *row):
    try:
        return call(*row)
    except socket.gaierror as error:
        return plain(error)


def compare_names_in_a_namespace(etc):
    """Prints what the C library and ours give for each row of the table."""

    def serve():
        while True:
            data, source = sock.recvfrom(65535)
            sock.sendto(pack(answer_for_names(parse(data))), source)

    change_lo(0x8914, struct.pack('16sH22x', b'lo', 0x1))  # SIOCSIFFLAGS, IFF_UP
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('127.0.0.1', 53))
    threading.Thread(target=serve, daemon=True).start()
    subprocess.run(['mount', '--bind', etc, '/etc'], check=True)
    socket.sethostname('host')  # of this namespace
    loop = asyncio.new_event_loop()
    call = module.getnameinfo(Resolver()[0])

    def ours(*row):
        return loop.run_until_complete(call(*row))

    calls = socket.getnameinfo, ours
    print([[outcome_of_getnameinfo(each, *row) for each in calls] for row in NAME_TABLE])
    loop.close()


@pytest.fixture(scope='module')
def names_of_both_libraries(tmp_path_factory):
    etc = tmp_path_factory.mktemp('etc')
    return in_namespaces('mnu', compare_names_in_a_namespace, ETC_OF_NAMES, NAME_TABLE, etc)


@pytest.mark.parametrize('row', NAME_TABLE, ids=repr)
def test_getnameinfo_gives_what_the_c_library_gives(row, names_of_both_libraries):
    of_c, ours = names_of_both_libraries[repr(row)]
    assert ours == NAMES_ON_PURPOSE.get(row, of_c)
    assert (ours != of_c) == (row in NAMES_ON_PURPOSE)


@on_every_loop
async def test_getnameinfo_gives_what_the_c_library_gives_without_a_nameserver():
    call = module.getnameinfo(Resolver(get_host=no_host)[0])
    numeric = NUMERIC_HOST | NUMERIC_PORT
    for row in NAME_TABLE:
        if row[1] == numeric or (row[1] & NUMERIC_HOST and row[1] & NAMEREQD):
            try:
                ours = await call(*row)
            except socket.gaierror as error:
                ours = plain(error)
            assert ours == outcome_of_getnameinfo(socket.getnameinfo, *row)
    assert await call(SOCKADDR, NUMERIC_HOST) == (SOCKADDR[0], 'http')


def name_resolver_of(server, **arguments):
    return module.getnameinfo(resolver_of(server, transform_fqdn=as_it_is, **arguments)[0])


def ptr(address, *names):
    """An `answer` with these names of an address, whatever is asked for."""
    owner = module.reverse_name(address)
    return answering(*[rr(owner, TYPES.PTR, name) for name in names])


SOCKADDR = '198.51.100.1', 80


@on_every_loop
async def test_the_name_of_an_address_is_asked_for_once_and_without_the_search_list():
    async with Nameserver(ptr(SOCKADDR[0], b'Host.Example')) as server:
        call = name_resolver_of(server, search=SEARCH)
        for address in (SOCKADDR[0], f'::ffff:{SOCKADDR[0]}'):
            assert await call((address, 8080), socket.NI_NUMERICSERV) == ('Host.Example', '8080')
        assert server.names == [module.reverse_name(SOCKADDR[0])]
        assert await call(SOCKADDR, socket.NI_NUMERICHOST | 2) == (SOCKADDR[0], '80')
        assert len(server.queries) == 1


@on_every_loop
async def test_hosts_has_the_name_of_an_address(tmp_path):
    path = tmp_path / 'hosts'
    path.write_text(
        'a..b not.there\n198.51.100.1\nx y\n198.51.100.1 Web.Example other\n'
        '::1 loop\n::ffff:192.0.2.1 mapped\n127.0.0.1 too-late\n'
    )
    get_host = functools.partial(module.get_host_from_etc_hosts, path=path)
    async with Nameserver(nowhere) as server:
        call = name_resolver_of(server, get_host=get_host)
        assert (await call(SOCKADDR))[0] == 'Web.Example'
        assert (await call(('127.0.0.1', 80)))[0] == (await call(('::1', 80)))[0] == 'loop'
        assert (await call(('::ffff:192.0.2.1', 80)))[0] == 'mapped'
        assert server.queries == []
        path.write_text('198.51.100.1 new.example\n')
        turn(module.STAT_SECONDS + 0.1)
        assert (await call(SOCKADDR))[0] == 'new.example'
        assert (await call(('198.51.100.2', 80)))[0] == '198.51.100.2'
        assert server.names == [module.reverse_name('198.51.100.2')]


@on_every_loop
@pytest.mark.parametrize(
    'names, expected',
    [
        ([b'a.example', b'b.example'], 'a.example'),
        ([b'a b', b'b.example'], 'b.example'),
        ([b''], SOCKADDR[0]),
        ([b'a\\010b'], SOCKADDR[0]),
        ([b'xn--bcher-kva.example'], 'b\xfccher.example'),
        ([b'xn--a.example'], 'xn--a.example'),
        ([b'XN--BCHER-KVA.Example'], 'b\xfccher.Example'),
        ([b'x' * 63 + b'.example'], 'x' * 63 + '.example'),
    ],
)
async def test_only_the_name_of_a_host_is_the_name_of_an_address(names, expected):
    async with Nameserver(ptr(SOCKADDR[0], *names)) as server:
        assert (await name_resolver_of(server)(SOCKADDR, module.NI_IDN))[0] == expected


@on_every_loop
@pytest.mark.parametrize(
    'answer, flags, expected, cause',
    [
        (nowhere, NAMEREQD, socket.EAI_NONAME, type(None)),
        (no_data, NAMEREQD, socket.EAI_NONAME, type(None)),
        (server_failure, 0, socket.EAI_AGAIN, ResponseCode),
        (answering(ra=0), 0, socket.EAI_AGAIN, BadResponse),
        (silent, 0, socket.EAI_AGAIN, QueryTimeout),
        (silent, NAMEREQD | NUMERIC_HOST, socket.EAI_NONAME, type(None)),
    ],
)
async def test_an_address_whose_name_cannot_be_found(answer, flags, expected, cause):
    async with Nameserver(answer) as server:
        with pytest.raises(socket.gaierror) as caught:
            await in_time(name_resolver_of(server)(SOCKADDR, flags))
        assert caught.value.errno == expected
        assert isinstance(caught.value.__cause__, cause)


@on_every_loop
async def test_an_address_whose_name_is_an_alias_without_end_has_none():
    def answer(query):
        return reply_to(query, cname(query.qd[0].name, b'x.' + query.qd[0].name))

    async with Nameserver(answer) as server:
        assert (await name_resolver_of(server)(SOCKADDR, 2)) == (SOCKADDR[0], '80')


@on_every_loop
async def test_a_get_host_that_gives_addresses_for_a_name_gives_no_name():
    async def get_host(fqdn, qtype):
        return IPv4Address(SOCKADDR[0])

    resolve, _ = Resolver(get_host=get_host)
    assert (await module.getnameinfo(resolve)(SOCKADDR, 2)) == (SOCKADDR[0], '80')


@on_every_loop
@pytest.mark.parametrize(
    'sockaddr',
    [
        *([*SOCKADDR], SOCKADDR[:1], SOCKADDR * 3, (b'192.0.2.1', 80), ('192.0.2.1', '80'), None),
        *(('::1', 80, 1 << 20), ('::1', 80, -1, 0), ('::1', 80, 0, 'lo'), ('192.0.2.1', 80, 0)),
        *(('\ud800', 80), ('::\ud800', 80), ('\xe9', 80)),
    ],
    ids=repr,
)
async def test_what_is_no_address_of_a_socket_is_the_error_of_asyncio(sockaddr):
    call = module.getnameinfo(Resolver(get_host=no_host)[0])
    kinds = TypeError, OverflowError, socket.gaierror, OSError, UnicodeError
    kind = None
    try:
        socket.getnameinfo(sockaddr, NUMERIC_HOST)
    except kinds as error:
        kind = next(each for each in kinds if isinstance(error, each))
    with pytest.raises(socket.gaierror if kind is UnicodeError else kind):
        await call(sockaddr, NUMERIC_HOST)


def test_getnameinfo_takes_a_resolve_that_resolver_made():
    async def resolve(name, qtype):
        return ()

    with pytest.raises(TypeError, match='Resolver'):
        module.getnameinfo(resolve)


@on_every_loop
async def test_the_domain_of_this_host_may_be_left_out(monkeypatch):
    async with Nameserver(ptr(SOCKADDR[0], b'www.Corp.example')) as server:
        call = name_resolver_of(server)
        for host_name, expected in (
            ('ours.corp.example', 'www'),
            ('ours.example', 'www.Corp'),
            ('ours', 'www.Corp.example'),
            ('ours.orp.example', 'www.Corp.example'),
            ('x.www.corp.example', 'www.Corp.example'),
        ):
            monkeypatch.setattr(socket, 'gethostname', lambda: host_name)  # noqa: B023
            assert (await call(SOCKADDR, socket.NI_NOFQDN))[0] == expected
            assert (await call(SOCKADDR))[0] == 'www.Corp.example'


# --- 22. Command line --------------------------------------------------------

COMMAND = [sys.executable, '-X', 'dev', '-W', 'error', '-m', 'aiodnsresolver']


def command(*words):
    """Runs the command line, and returns its status, output and errors."""
    ran = subprocess.run(
        [*COMMAND, *words], cwd=HERE, capture_output=True, text=True, timeout=HANGS_AFTER
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def main(monkeypatch, capsys):
    """Runs the command line in this process, for speed."""

    def main(*words):
        monkeypatch.setattr(sys, 'argv', ['aiodnsresolver', *words])
        status = module.main()
        return status, *capsys.readouterr()

    gc.collect()
    before, thresholds = descriptors(), gc.get_threshold()
    yield main
    gc.set_threshold(*thresholds)
    gc.collect()
    assert descriptors() == before


def at(server):
    """A nameserver, as a word."""
    address, port = server
    return f'@[{address}]:{port}' if ':' in address else f'@{address}:{port}'


@in_one_way
async def test_a_null_device_that_changes_does_not_empty_the_cache(monkeypatch, tmp_path):
    null = tmp_path / 'null'  # on macOS and the BSDs it changes whenever anybody writes to it
    null.touch()
    monkeypatch.setattr(os, 'devnull', str(null))
    async with Nameserver(echo) as server:
        url = f'udp://127.0.0.1:{server.port}'
        resolve = module.resolver_for(types.SimpleNamespace(nameserver=url, timeout=None))
        for times in (1, 2):
            await resolve('x.example', TYPES.A)
            os.utime(null, (times, times))
            turn(module.STAT_SECONDS)
        await server.asked(1)


def test_the_command_line_prints_the_address_of_localhost():
    assert command('localhost') == (0, '127.0.0.1\n', '')


def test_types_are_printed_in_the_order_they_are_given(main):
    assert main('localhost', 'AAAA', 'A') == (0, '::1\n127.0.0.1\n', '')
    assert main('localhost', 'a', 'type28') == (0, '127.0.0.1\n::1\n', '')


def test_an_address_is_printed_as_it_is(main):
    assert main('192.0.2.1') == (0, '192.0.2.1\n', '')


@pytest.mark.parametrize('option', ['--help', '-h'])
def test_help_prints_the_usage(main, option):
    status, output, errors = main('localhost', option)
    assert (status, errors) == (0, '')
    assert output.startswith('Usage: aiodnsresolver NAME')


def test_the_command_line_exits_with_its_status():
    status, output, errors = command()
    assert (status, output) == (64, '')
    assert 'Usage: ' in errors
    assert command('--help') == (0, errors[errors.index('Usage: ') :], '')


@pytest.mark.parametrize(
    'words',
    [
        '@127.0.0.1',
        'A @127.0.0.1 @127.0.0.2',
        '-x localhost',
        'localhost -x',
        'localhost --',
        'localhost @',
        'localhost @nameserver',
        'localhost @127.0.0',
        'localhost @127.0.0.1:',
        'localhost @127.0.0.1:0',
        'localhost @127.0.0.1:65536',
        'localhost @127.0.0.1:dns',
        'localhost @[127.0.0.1',
        'localhost @[::1',
        'localhost @[::1]53',
        'localhost ANY',
        'localhost OPT',
        'localhost A AXFR',
        'localhost TYPE0',
        'localhost TYPE255',
        'localhost TYPE65536',
        'AXFR',
        'AXFR x.example',
        'AXFR @127.0.0.1',
        'AXFR IXFR=1 x.example @127.0.0.1',
        'AXFR x.example y.example @127.0.0.1',
        'AXFR x.example @127.0.0.1 @127.0.0.2',
        'AXFR x.example @127.0.0.1 -x',
        'AXFR x.example @127.0.0.1 -y',
        'AXFR x.example @127.0.0.1 -y key',
        'AXFR x.example @127.0.0.1 -y key:???',
        'AXFR x.example @127.0.0.1 -y hmac-x:key:QUJD',
        'AXFR x.example @127.0.0.1 -y a:b:c:d',
        'AXFR x.example -y @127.0.0.1:5353',
        'AXFR x..example @127.0.0.1',
        'IXFR x.example',
        'IXFR x.example @127.0.0.1',
        'IXFR= x.example',
        'IXFR= x.example @127.0.0.1',
        'IXFR=x x.example @127.0.0.1',
        'IXFR=-1 x.example @127.0.0.1',
        'IXFR=1 .. @127.0.0.1',
        'IXFR=4294967296 x.example @127.0.0.1',
        'IXFR=9999999999 x.example @127.0.0.1',
        'IXFR=99999999999 x.example @127.0.0.1',
        'AXFR x.example @ns.example',
        'AXFR x.example @https://127.0.0.1/dns-query',
    ],
)
def test_what_the_command_line_cannot_mean_is_answered_with_the_usage(main, words):
    status, output, errors = main(*words.split())
    assert (status, output) == (64, '')
    message, usage = errors.split('\n', 1)
    assert message
    assert usage.startswith('Usage: ')


@pytest.mark.servers
@pytest.mark.parametrize('scheme', ['tls', 'https'])
def test_a_nameserver_may_be_asked_over_tls_and_https(main, bind, trusting, scheme):
    word = f'@{secure_url(bind, scheme)}'
    assert main('www.servers.example', word) == (0, '192.0.2.1\n', '')


def test_without_h2_a_nameserver_over_https_is_status_2(main, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h2.connection', None)
    status, output, errors = main('localhost', '@https://127.0.0.1')
    assert (status, output) == (2, '')
    assert errors == "DNS over HTTPS needs h2: pip install 'aiodnsresolver[https]'\n"


def test_a_port_where_nobody_listens_is_status_2():
    server = closed_port()
    status, output, errors = command('www.servers.example', at(server))
    assert (status, output) == (2, '')
    assert errors.startswith('SocketError: ')
    assert f'{server[0]}:{server[1]}' in errors
    assert errors.count('\n') == 1


@pytest.mark.servers
@pytest.mark.parametrize('address', ['127.0.0.1', '::1'])
def test_a_nameserver_is_named_by_its_address_and_port(bind, address):
    words = 'www.servers.example', at((address, bind[1]))
    assert command(*words) == (0, '192.0.2.1\n', '')


@pytest.mark.servers
def test_a_nameserver_may_stand_anywhere(main, bind):
    for words in (
        [at(bind), 'www.servers.example', 'AAAA'],
        ['www.servers.example', at(bind), 'AAAA'],
        ['www.servers.example', 'AAAA', at(bind)],
    ):
        assert main(*words) == (0, '2001:db8::1\n', '')


def dig(server, *words):
    """What `dig +short` prints."""
    program = find_program('dig', 'bind9-dnsutils')
    where = [f'@{server[0]}', '-p', str(server[1]), '+short', '+nosplit', '+tries=1']
    ran = subprocess.run(
        [program, '-r', *where, *words], capture_output=True, text=True, timeout=10, check=True
    )
    return ran.stdout


# A certificate's type and algorithm by their numbers; all digits of an identifier, as RFC 6742.
UNLIKE_DIG = {TYPES.CERT, TYPES.NID, TYPES.L64}


@pytest.mark.servers
def test_records_are_printed_as_dig_prints_them(main, bind):
    for name, (qtype, _, text) in SERVED.items():
        words = name, module.present_type(qtype)
        printed = main(*words, at(bind))
        assert printed == (0, f'{text}\n', '')
        assert qtype in UNLIKE_DIG or printed[1] == dig(bind, *words)


@pytest.mark.servers
@pytest.mark.parametrize('qtype', ['SOA', 'NS', 'MX'])
def test_several_records_are_printed_as_dig_prints_them(main, bind, qtype):
    status, output, errors = main('servers.example', qtype, at(bind))
    assert (status, errors) == (0, '')
    printed = dig(bind, 'servers.example', qtype)
    assert sorted(output.splitlines()) == sorted(printed.splitlines())  # BIND rotates them


@pytest.mark.servers
def test_names_of_any_octets_are_printed_as_dig_prints_them(main, bind):
    for name, address in ODD_NAMES.items():
        assert main(name.decode(), at(bind)) == (0, f'{address}\n', '')
    _, output, _ = main('odd.servers.example', 'MX', at(bind))
    printed = dig(bind, 'odd.servers.example', 'MX')
    assert sorted(output.splitlines()) == sorted(printed.splitlines())


@pytest.mark.servers
def test_an_alias_is_followed_and_only_its_end_is_printed(main, bind):
    assert main('chain.servers.example', at(bind)) == (0, '192.0.2.3\n', '')
    assert main('bücher.servers.example', at(bind)) == (0, '192.0.2.10\n', '')


@pytest.mark.servers
def test_a_type_may_be_named_by_its_number(main, bind):
    name, (_, _, text) = next(item for item in SERVED.items() if item[1][0] == 65280)
    assert main(name, 'TYPE65280', at(bind)) == (0, f'{text}\n', '')
    assert main('www.servers.example', 'TYPE1', at(bind)) == (0, '192.0.2.1\n', '')


@pytest.mark.servers
@pytest.mark.parametrize('words', ['nothing.servers.example', 'www.servers.example MX'])
def test_what_does_not_exist_is_status_1_and_said_so(bind, words):
    status, output, errors = command(*words.split(), at(bind))
    assert (status, output) == (1, '')
    assert errors.startswith(words.replace(' MX', '') + '. ')
    assert errors.count('\n') == 1


@pytest.mark.servers
def test_a_nameserver_that_refuses_is_status_2_and_said_so(bind):
    status, output, errors = command('www.elsewhere.example', at(bind))
    assert (status, output) == (2, '')
    assert errors.startswith('ResponseCode: ')
    assert 'REFUSED' in errors


@pytest.mark.servers
def test_several_names_and_types_are_printed_in_their_order(main, bind):
    names = [f'{name}.servers.example' for name in ('www', 'mail', 'nothing')]
    status, output, errors = main(*names, 'AAAA', 'A', at(bind))
    assert (status, output) == (1, '2001:db8::1\n192.0.2.1\n192.0.2.1\n')
    told = [line.partition(' from ')[0] for line in errors.splitlines()]
    assert told == [f'{names[1]}. AAAA', f'{names[2]}. AAAA', f'{names[2]}. A']
    status, output, _ = main(names[2], 'www.elsewhere.example', names[0], at(bind))
    assert (status, output) == (2, '192.0.2.1\n')  # the worst of them


@pytest.mark.servers
def test_a_word_that_is_a_type_is_a_name_in_the_first_place_or_with_a_dot(main, bind):
    for words in (['mx', 'A'], ['mx'], ['MX', 'mx.'], ['mx.', 'A']):
        status, output, errors = main(*words, at(bind))
        assert (status, output) == (2, '')
        names = {line.split()[1].lower() for line in errors.splitlines()}
        assert names == {'mx.'}  # refused, for it is no name of the zone
    assert main('www.servers.example', 'a', at(bind)) == (0, '192.0.2.1\n', '')


@pytest.mark.servers
def test_hosts_is_read_unless_a_nameserver_is_named(main, bind, tmp_path, monkeypatch):
    hosts = tmp_path / 'hosts'
    hosts.write_text('192.0.2.99 www.servers.example\n')
    monkeypatch.setattr(get_host_from_etc_hosts, '__defaults__', (str(hosts),))
    assert main('www.servers.example') == (0, '192.0.2.99\n', '')
    assert main('www.servers.example', at(bind)) == (0, '192.0.2.1\n', '')


@pytest.mark.servers
def test_names_are_searched_as_the_system_has_it_unless_a_nameserver_is_named(
    main, bind, tmp_path, monkeypatch
):
    path = tmp_path / 'resolv.conf'
    path.write_text(NO_INTERFACE.format('none') + 'search servers.example\n')
    monkeypatch.setattr(get_nameservers_from_etc_resolve_conf, '__defaults__', (str(path),))
    status, output, errors = main('www')
    assert (status, output) == (2, '')
    assert ' www.servers.example. A from [fe80::1%none]:53: ' in errors
    status, output, errors = main('www', at(bind))
    assert (status, output, errors.split()[1].lower()) == (2, '', 'www.')  # refused


@pytest.mark.parametrize('words', ['localhost', '--help'])
def test_output_that_cannot_be_written_is_status_2(words):
    with open('/dev/full', 'w') as full:
        ran = subprocess.run(
            [sys.executable, '-m', 'aiodnsresolver', words],
            cwd=HERE,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (ran.returncode, ran.stderr.count('\n')) == (2, 1)


@pytest.mark.parametrize('words', ['localhost', '--help', 'AXFR x.example @127.0.0.1', ''])
@pytest.mark.parametrize('closed', ['>&-', '2>&-', '>&- 2>&-'])
def test_without_output_or_errors_the_status_is_2(words, closed):
    words = f'exec {shlex.join(COMMAND)} {words} {closed}'
    ran = subprocess.run(words, shell=True, cwd=HERE, capture_output=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, b'', b'')


@contextlib.contextmanager
def in_a_thread(answer, **arguments):
    """A scripted nameserver with a loop of its own."""
    started = concurrent.futures.Future()

    async def serve():
        async with Nameserver(answer, **arguments) as server:
            ended = asyncio.Event()
            started.set_result((server, asyncio.get_running_loop(), ended))
            await ended.wait()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        task = pool.submit(asyncio.run, serve())
        server, loop, ended = started.result(10)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(ended.set)
            task.result(10)


def lines_of(records, sign=''):
    return ''.join(f'{sign}{presentation(record)}\n' for record in records)


@pytest.mark.parametrize('words', ['AXFR moving.example', 'moving.example. axfr'])
def test_the_command_line_prints_a_zone(main, words):
    with in_a_thread(sending(WHOLE_ZONE[:2], WHOLE_ZONE[2:])) as server:
        status, output, errors = main(*words.split(), at(server.nameserver))
        assert (status, output, errors) == (0, lines_of(WHOLE_ZONE[:-1]), '')
        status, output, errors = main(*words.split(), f'@tcp://127.0.0.1:{server.port}')
        assert (status, output, errors) == (0, lines_of(WHOLE_ZONE[:-1]), '')


def test_the_command_line_prints_what_is_new_in_a_zone(main):
    words = 'IXFR=1', 'moving.example'
    with in_a_thread(sending(DIFFERENCES)) as server:
        status, output, errors = main(*words, at(server.nameserver))
        first, second = received(IXFR, in_messages(IXFR, DIFFERENCES))[0]
        assert output == ''.join(
            lines_of(records, sign)
            for changes in (first, second)
            for sign, records in (('-', changes.deleted), ('+', changes.added))
        )
        assert (status, errors) == (0, '')
        assert server.queries[-1].ns[0].rdata.serial == 1
        now_saying(server, sending([zone_soa(1)]))
        assert main(*words, at(server.nameserver)) == (0, '', '')


@pytest.mark.parametrize('last, status', [(zone_soa(3), 0), (zone_soa(4), 2)])
def test_errors_that_cannot_be_written_do_not_change_the_status(last, status):
    with in_a_thread(sending([*WHOLE_ZONE[:-1], last])) as server, open('/dev/full', 'w') as full:
        words = [*COMMAND, 'AXFR', 'moving.example', at(server.nameserver)]
        assert (
            subprocess.run(words, cwd=HERE, stdout=subprocess.DEVNULL, stderr=full).returncode
            == status
        )


def test_the_command_line_prints_a_zone_that_comes_over_tls(main, trusting):
    secure = server_context(trusting, 'dns.example')
    with in_a_thread(sending(WHOLE_ZONE), tls=secure) as server:
        url = f'@tls://127.0.0.1:{server.port}'
        status, output, errors = main('AXFR', 'moving.example', f'{url}#dns.example')
        assert (status, output, errors) == (0, lines_of(WHOLE_ZONE[:-1]), '')
        status, output, errors = main('AXFR', 'moving.example', url)
        assert (status, output) == (2, '')
        assert 'certificate verify failed' in errors


@pytest.mark.parametrize('prefix', ['', 'hmac-sha256:', 'hmac-sha512:'])
def test_the_command_line_signs(main, prefix):
    key = Key(KEY.name, KEY.secret, prefix.strip(':') or 'hmac-sha256')
    secret = base64.b64encode(key.secret).decode()
    algorithm = module.pack_name(key.algorithm)
    with in_a_thread(sending_signed(WHOLE_ZONE, key=key, algorithm=algorithm)) as server:
        for words in (
            ('-y', f'{prefix}key.example:{secret}'),
            (f'-y{prefix}Key.Example:{secret}',),
        ):
            status, output, errors = main('AXFR', 'moving.example', at(server.nameserver), *words)
            assert (status, output, errors) == (0, lines_of(WHOLE_ZONE[:-1]), '')
        words = '-y', f'{prefix}key.example:QUJD'
        status, output, errors = main('AXFR', 'moving.example', at(server.nameserver), *words)
        assert (status, output) == (2, '')
        assert 'BADSIG' in errors


def test_the_command_line_says_why_a_transfer_failed(main):
    with in_a_thread(sending(WHOLE_ZONE[:2], HANG_UP)) as server:
        status, output, errors = main('AXFR', 'moving.example', at(server.nameserver))
        assert (status, output) == (2, lines_of(WHOLE_ZONE[:2]))
        assert errors.startswith('SocketError: ')
        assert 'moving.example. AXFR from ' in errors
        now_saying(server, bare(RCODES.REFUSED))
        status, output, errors = main('AXFR', 'moving.example', at(server.nameserver))
        assert (status, output) == (2, '')
        assert errors.startswith('TransferError: ')


@pytest.mark.parametrize('is_ignored', [False, True])
def test_one_interrupt_ends_a_transfer_whose_output_nobody_reads(is_ignored):
    messages = [[host(number % 256)] for number in range(8000)]
    read_end, write_end = os.pipe()
    words = [*COMMAND, 'AXFR', 'moving.example']
    if is_ignored:
        words = ['sh', '-c', f'trap "" INT; exec {shlex.join(words)} "$1"', 'sh']
    with in_a_thread(sending([zone_soa(3)], *messages, HANG_UP)) as server:
        words.append(at(server.nameserver))
        pipe = subprocess.PIPE
        with subprocess.Popen(words, cwd=HERE, stdout=write_end, stderr=pipe) as process:
            os.close(write_end)
            until = time.monotonic() + ENDS_WITHIN
            syscall = Path(f'/proc/{process.pid}/syscall')
            while syscall.read_text().split()[1:2] != ['0x1']:  # until it waits to write to 1
                assert time.monotonic() < until
                time.sleep(0.001)
            process.send_signal(signal.SIGINT)
            with open(read_end, 'rb') as output:
                if is_ignored:
                    output.read()
                assert process.wait(ENDS_WITHIN) == (2 if is_ignored else 130)
            errors = process.stderr.read().splitlines()
            # asyncio in debug mode complains of a slow machine.
            errors = [line for line in errors if not line.startswith(b'Executing ')]
            kinds = [line.partition(b':')[0] for line in errors]
            assert kinds == ([b'SocketError'] if is_ignored else [])


@pytest.mark.parametrize('is_terminal', [True, False])
def test_a_terminal_is_shown_how_far_a_transfer_is(main, monkeypatch, is_terminal):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: is_terminal)
    monkeypatch.setattr(module, 'PROGRESS_SECONDS', 0.0)
    with in_a_thread(sending(WHOLE_ZONE[:2], WHOLE_ZONE[2:])) as server:
        status, output, errors = main('AXFR', 'moving.example', at(server.nameserver))
    assert (status, output) == (0, lines_of(WHOLE_ZONE[:-1]))
    first = len(lines_of(WHOLE_ZONE[:2]))
    shown = [re.sub(r'\d+(?= records/s)', 'N', line) for line in errors.split('\r\x1b[K')]
    assert [line for line in shown if line] == [
        f'2 records, {first} octets, N records/s',
        f'3 records, {len(output)} octets, N records/s',
    ]
    assert errors.endswith('\r\x1b[K')


def test_help_fits_a_terminal_and_has_three_examples(main):
    lines = main('--help')[1].splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    [start] = [number for number, line in enumerate(lines) if line.startswith('Examples: ')]
    for line in lines[start : start + 3]:
        words = shlex.split(line.removeprefix('Examples:'))
        assert words[0] == 'aiodnsresolver'
        options, rest = module.make_parser().parse_known_args(words[1:])
        assert module.parse_transfer(rest, options) or options
    assert len(lines) - start == 4


def test_argparse_is_imported_at_first_use():
    script = 'import sys, aiodnsresolver; sys.exit("argparse" in sys.modules)'
    subprocess.run([sys.executable, '-S', '-c', script], cwd=HERE, check=True)


@pytest.mark.servers
def test_the_ttl_is_printed_before_the_record(main, bind):
    assert main('www.servers.example', '--ttl', at(bind)) == (0, f'{ZONE_TTL} 192.0.2.1\n', '')
    status, output, errors = main('--ttl', 'servers.example', 'SOA', at(bind))
    assert (status, errors) == (0, '')
    assert output.startswith('900 ns.servers.example. root.ns.servers.example. 7 ')


def test_each_type_of_the_table_is_printed_as_one_object(main, tmp_path):
    zone = {
        b'v%d.example' % number: (qtype, rdata, text)
        for number, (mnemonic, _, rdata, text) in enumerate(VECTORS)
        if (qtype := vector_type(mnemonic)) not in module.UNRESOLVABLE
    }
    assert {qtype for qtype, *_ in zone.values()} >= module.LAYOUTS.keys() - module.UNRESOLVABLE

    def answer(query):
        name, qtype, _ = query.qd[0]
        return reply_to(query, rr(name, qtype, zone[name.lower()][1], 300))

    path = tmp_path / 'names'
    with in_a_thread(answer) as server:
        for name, (qtype, _, text) in zone.items():
            path.write_bytes(name)
            mnemonic = module.present_type(qtype)
            words = '--json', '--tcp', mnemonic, at(server.nameserver)
            status, output, errors = main('-f', str(path), *words)
            assert status == 0
            assert summarised(errors) == ([1, 0, 0], [])
            assert output.count('\n') == 1
            assert json.loads(output) == {
                'name': name.decode(),
                'type': mnemonic,
                'status': 'found',
                'records': [{'ttl': 300, 'data': text}],
            }
            output = main('-f', str(path), '--ttl', *words[1:])[1]
            assert output == f'{name.decode()}. 300 IN {mnemonic} {text}'.rstrip() + '\n'


@pytest.mark.servers
def test_absences_and_failures_are_objects_too(main, bind):
    names = 'nothing.servers.example', 'www.elsewhere.example', 'x..example', 'b\x1b.\u202e'
    status, output, errors = main(*names, '--json', at(bind))
    assert (status, errors) == (2, '')
    said = [json.loads(line) for line in output.splitlines()]
    assert [each['name'] for each in said] == list(names)
    assert [each['status'] for each in said] == ['absent', 'failed', 'failed', 'failed']
    assert [each.get('rcode') for each in said] == ['NXDOMAIN', 'REFUSED', None, None]
    kinds = ['DoesNotExist', 'ResponseCode', 'InvalidName', 'InvalidName']
    assert [each['error'] for each in said] == kinds
    assert all(each['text'] for each in said)
    assert output.isascii()


@pytest.mark.parametrize(
    'name', ['b\x1b[2J\x07\x7f', 'b\x9b2J\u202e', '\udcff.example', 'b\nc', '\ud800']
)
def test_nothing_that_is_printed_controls_the_terminal(main, name):
    with in_a_thread(lambda query: reply_to(query, rcode=RCODES.REFUSED)) as server:
        for options in ([], ['--json']):
            status, output, errors = main(name, at(server.nameserver), *options)
            assert status == 2
            assert (output + errors).count('\n') == 1
            assert (output + errors).replace('\n', '').isprintable()


@pytest.mark.parametrize('address', ['192.0.2.1', '2001:db8::1'])
@pytest.mark.parametrize('qtype', ['PTR', 'TXT'])
def test_an_address_is_asked_for_by_its_reverse_name(main, address, qtype):
    name = module.reverse_name(address)
    zone = {'PTR': b'x.example', 'TXT': (b'x',)}
    printed = {'PTR': 'x.example.\n', 'TXT': '"x"\n'}
    answer = answering(rr(name, TYPES[qtype], zone[qtype]))
    with in_a_thread(answer) as server:
        types = [] if qtype == 'PTR' else [qtype]
        asked = main('-x', address, *types, at(server.nameserver))
        assert asked == (0, printed[qtype], '')
        assert main(f'-x{address}', *types, at(server.nameserver)) == asked


@pytest.mark.parametrize(
    'words',
    [
        '-x 192.0.2.1 x.example',
        '-x 192.0.2',
        'x.example --timeout 0',
        'x.example --timeout -1',
        'x.example --timeout nan',
        'x.example --timeout inf',
        'x.example --timeout x',
        'x.example --timeout',
        'x.example --jso',
        'x.example --json=1',
        'x.example -y key.example:QUJD',
        'AXFR x.example @127.0.0.1 --json',
        'AXFR x.example @127.0.0.1 --timeout 1',
        '-1',
        '-',
        '-x-1',
        '-f',
        '-f - x.example',
        '-f - -x 192.0.2.1',
        '-f - ANY',
        '-f - --concurrency 0',
        '-f - --concurrency -1',
        '-f - --concurrency x',
        '-f - --concurrency 1000000',
        'x.example --concurrency 0',
        'AXFR x.example @127.0.0.1 -f -',
    ],
)
def test_options_that_cannot_be_meant_are_answered_with_the_usage(main, words):
    test_what_the_command_line_cannot_mean_is_answered_with_the_usage(main, words)


def test_over_tcp_nothing_is_asked_by_datagram(main, tmp_path, monkeypatch):
    path = tmp_path / 'resolv.conf'
    path.write_text(NO_INTERFACE.format('none'))
    monkeypatch.setattr(get_nameservers_from_etc_resolve_conf, '__defaults__', (str(path),))
    monkeypatch.setenv('RES_OPTIONS', 'attempts:1')
    with in_a_thread(answering(a(b'x.example'))) as server:
        assert main('x.example', '--tcp', at(server.nameserver)) == (0, '192.0.2.1\n', '')
        assert server.over_tcp == server.queries != []
    assert os.environ['RES_OPTIONS'] == 'attempts:1'
    assert main('x.example', '--tcp')[0] == 2
    assert os.environ['RES_OPTIONS'] == 'attempts:1 use-vc'


def test_without_search_a_name_is_asked_for_as_it_is(main, tmp_path, monkeypatch):
    path = tmp_path / 'resolv.conf'
    path.write_text(NO_INTERFACE.format('none') + 'search servers.example\n')
    monkeypatch.setattr(get_nameservers_from_etc_resolve_conf, '__defaults__', (str(path),))
    status, output, errors = main('www', '--no-search')
    assert (status, output) == (2, '')
    assert ' www. A from [fe80::1%none]:53: ' in errors


@pytest.mark.parametrize('options', [[], ['--tcp']])
def test_a_silent_nameserver_takes_no_longer_than_the_timeout(main, options):
    with in_a_thread(silent) as server:
        began = time.monotonic()
        words = 'x.example', '--timeout', '0.2', at(server.nameserver), *options
        status, output, errors = main(*words)
        assert 0.1 < time.monotonic() - began < ENDS_WITHIN
        assert (status, output) == (2, '')
        assert errors.startswith('QueryTimeout: ')
        assert ' x.example. A' in errors.lower().replace('. a', '. A')


def told(errors):
    """The lines on standard error; asyncio in debug mode complains of a slow machine."""
    return [line for line in errors.splitlines() if not line.startswith('Executing ')]


def summarised(errors):
    """The numbers of the summary, and the lines before it."""
    *lines, last = told(errors)
    summary = re.fullmatch(r'(\d+) answered, (\d+) absent, (\d+) failed, \d+\.\d s', last)
    return [int(number) for number in summary.groups()], lines


@contextlib.contextmanager
def looking_up(*words, **arguments):
    """The command line as a process of its own, which is ended."""
    pipes = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.PIPE) | arguments
    with subprocess.Popen([*COMMAND, *words], cwd=HERE, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(is_so):
    until = time.monotonic() + ENDS_WITHIN
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.001)


def of_numbers(query):
    """Has an address for each name, none for x, and refuses y."""
    name = query.qd[0].name
    first = name[:1].lower()
    if first == b'y':
        return reply_to(query, rcode=RCODES.REFUSED)
    return nxdomain(query) if first == b'x' else reply_to(query, a(name, '192.0.2.7'))


def nxdomain(query):
    return reply_to(query, rcode=RCODES.NXDOMAIN)


@pytest.mark.parametrize('options', [[], ['--concurrency', '1'], ['--concurrency', '1000']])
def test_names_come_from_a_file(main, tmp_path, options):
    names = [f'n{number}.example' for number in range(300)]
    path = tmp_path / 'names'
    path.write_text('\n'.join(['', *names, '  x.example\r', 'y.example.', ' ', 'x..']))
    with in_a_thread(of_numbers) as server:
        status, output, errors = main('-f', str(path), at(server.nameserver), *options)
    assert status == 2
    lines = output.splitlines()
    assert sorted(lines) == sorted(f'{name}. IN A 192.0.2.7' for name in names)
    assert options != ['--concurrency', '1'] or lines == [f'{n}. IN A 192.0.2.7' for n in names]
    counts, lines = summarised(errors)
    assert counts == [300, 1, 2]
    assert len(lines) == 3


def test_types_follow_a_file(main, tmp_path):
    path = tmp_path / 'names'
    path.write_text('localhost\n')
    status, output, errors = main('-f', str(path), 'AAAA', 'A', '--ttl')
    assert (status, output) == (0, 'localhost. 0 IN AAAA ::1\nlocalhost. 0 IN A 127.0.0.1\n')
    assert summarised(errors) == ([2, 0, 0], [])


def test_an_answer_is_printed_before_the_next_name_is_known():
    with (
        in_a_thread(of_numbers) as server,
        looking_up('-f', '-', at(server.nameserver)) as process,
    ):
        for name in (b'a.example', b'b.example'):
            process.stdin.write(name + b'\n')
            process.stdin.flush()
            assert process.stdout.readline() == name + b'. IN A 192.0.2.7\n'
        output, errors = process.communicate(b'c.example')
        assert output == b'c.example. IN A 192.0.2.7\n'
        assert process.returncode == 0
        assert summarised(errors.decode()) == ([3, 0, 0], [])


def test_no_more_questions_are_on_their_way_than_are_wanted(main, tmp_path):
    path = tmp_path / 'names'
    path.write_text(''.join(f'n{number}.example\n' for number in range(100)))
    pending, most = set(), 0

    async def answer(query):
        nonlocal most
        pending.add(query.qd[0].name.lower())
        most = max(most, len(pending))
        await asyncio.sleep(0)
        pending.discard(query.qd[0].name.lower())
        return of_numbers(query)

    with in_a_thread(answer) as server:
        words = '--concurrency', '7', '--timeout', '60', at(server.nameserver)
        status, output, _ = main('-f', str(path), *words)
    assert (status, output.count('\n')) == (0, 100)
    assert most <= 7


HOSTILE = {
    'no newline': (b'x' * 10_000_000, 1),
    'blank': (b' ' * 10_000_000, 1),
    'blank lines': (b'\n' * 10_000_000, 0),
    'NUL': (b'\0' * 300, 1),
    'not UTF-8': (b'\xff\xfe\n\xc3.example', 2),
    'controls': (b'\xc2\x9b2J.example\n\xe2\x80\xae.example', 2),
    'binary': (bytes(range(256)) * 40, None),
    'long labels': (b'\n'.join([b'a' * 64, b'a.' * 128, b'a..b', b'\\', b'\\999']), 5),
}


@pytest.mark.parametrize('data, failures', HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize('options', [[], ['--json']])
def test_what_is_no_name_is_a_failure_of_its_own(main, tmp_path, data, failures, options):
    path = tmp_path / 'names'
    path.write_bytes(data + b'\nlocalhost\n')
    status, output, errors = main('-f', str(path), *options, at(closed_port()), '--no-search')
    [answered, absent, failed], lines = summarised(errors)
    lines = output.splitlines() if options else lines
    assert (answered, absent) == (1, 0)
    assert failures is None or failed == failures
    assert len(lines) - len(options) == failed
    assert all(line.isprintable() and len(line) < 10_000 for line in lines)
    assert status == (2 if failed else 0)
    if options:
        assert [json.loads(line)['status'] for line in lines].count('found') == 1
    else:
        assert output == 'localhost. IN A 127.0.0.1\n'


@pytest.mark.parametrize('file', ['/nowhere/at/all', '/'])
def test_names_that_cannot_be_read_are_status_2(file):
    status, output, errors = command('-f', file)
    assert (status, output) == (2, '')
    [line] = told(errors)
    assert line.startswith('Cannot read names ')


def test_without_standard_input_no_names_come_from_it():
    words = f'exec {shlex.join(COMMAND)} -f - <&-'
    ran = subprocess.run(words, shell=True, cwd=HERE, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (64, '')
    assert ran.stderr.startswith('Standard input is closed\n')


def test_names_that_nobody_answers_for_fail_one_by_one(main, tmp_path):
    path = tmp_path / 'names'
    path.write_text('a.example\nb.example\nlocalhost\n')
    with in_a_thread(silent) as server:
        words = '-f', str(path), at(server.nameserver), '--timeout', '0.3'
        status, output, errors = main(*words)
    assert (status, output) == (2, 'localhost. IN A 127.0.0.1\n')
    counts, lines = summarised(errors)
    assert counts == [1, 0, 2]
    assert [line.partition(':')[0] for line in lines] == ['QueryTimeout'] * 2


def test_an_interrupt_ends_a_file_with_the_summary():
    with in_a_thread(silent) as server, looking_up('-f', '-', at(server.nameserver)) as process:
        process.stdin.write(b'localhost\na.example\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'localhost. IN A 127.0.0.1\n'
        wait_until(lambda: server.queries)
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN) == 130
        assert summarised(process.stderr.read().decode()) == ([1, 0, 0], [])


def test_an_interrupt_comes_through_though_no_name_needs_a_query(tmp_path):
    path = tmp_path / 'names'
    path.write_bytes(b'localhost\n' * 1_000_000)
    with looking_up('-f', str(path), '--concurrency', '3', bufsize=0) as process:
        assert process.stdout.readline() == b'localhost. IN A 127.0.0.1\n'
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=ENDS_WITHIN)
        assert process.returncode == 130
        [answered, *others], lines = summarised(errors.decode())
        assert answered == output.count(b'\n') + 1
        assert (others, lines) == ([0, 0], [])


def test_one_interrupt_ends_a_file_whose_output_nobody_reads(tmp_path):
    path = tmp_path / 'names'
    path.write_bytes(b'localhost\n' * 1_000_000)
    with looking_up('-f', str(path)) as process:
        syscall = Path(f'/proc/{process.pid}/syscall')
        wait_until(lambda: syscall.read_text().split()[1:2] == ['0x1'])
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN) == 130
        assert summarised(process.stderr.read().decode())[0][0] > 0


@pytest.mark.parametrize('words', [['-f', 'names'], ['localhost', 'localhost']])
def test_a_closed_pipe_ends_it_quietly(tmp_path, words):
    path = tmp_path / 'names'
    path.write_bytes(b'localhost\n' * 1000)
    words = [str(path) if word == 'names' else word for word in words]
    read_end, write_end = os.pipe()
    os.close(read_end)
    with looking_up(*words, stdout=write_end) as process:
        os.close(write_end)
        assert told(process.stderr.read().decode()) == []
        assert process.wait(ENDS_WITHIN) == 2


PEAK_MEMORY = """
import resource, sys
import aiodnsresolver
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
sys.argv[1:] = '-f', '-', '--json'
status = aiodnsresolver.main()
print(status, peak() - before, file=sys.stderr)
"""


def test_a_large_file_takes_no_more_memory_than_a_small_one():
    names = b''.join(b'n%d.invalid\n' % number for number in range(100_000))
    ran = subprocess.run(
        [sys.executable, '-c', PEAK_MEMORY], cwd=HERE, input=names, capture_output=True, timeout=60
    )
    assert ran.stdout.count(b'"absent"') == 100_000
    *errors, last = ran.stderr.decode().splitlines()
    assert summarised('\n'.join(errors)) == ([0, 100_000, 0], [])
    status, kilobytes = map(int, last.split())
    assert status == 1
    assert kilobytes < 15_000


# The terminal is its own, so that Ctrl-C is meant for it. Without tqdm if the first word says so.
ON_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
if sys.argv.pop(1) == 'plain':
    sys.modules['tqdm'] = None
import aiodnsresolver
sys.exit(aiodnsresolver.main())
"""
BARS = {
    'plain': rb'[1-9]\d* names, \d+ names/s, \d+ failed',
    'tqdm': rb'(?: +\d+%\|[ #\d]*\| [1-9]\d*/1000000 \[\d|[1-9]\d* names \[\d).* failed\]?',
}


@contextlib.contextmanager
def on_a_terminal(*words, stdout=None, stdin=None, code=ON_A_TERMINAL):
    """The command line with standard error, or both, on a pseudo-terminal, and what it shows."""
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack('4H', 24, 100, 0, 0))
    arguments = {'stdin': stdin or subprocess.DEVNULL, 'stdout': stdout or end, 'stderr': end}
    words = [sys.executable, '-c', code, *words]
    with subprocess.Popen(words, cwd=HERE, start_new_session=True, **arguments) as process:
        os.close(end)
        try:
            yield process, terminal
        finally:
            process.kill()
            os.close(terminal)


def shown_by(terminal, until=None):
    """What is shown on a terminal, to the end or until a pattern is there."""
    shown = b''
    with contextlib.suppress(OSError):  # EIO, at the end
        while until is None or not re.search(until, shown):
            assert select.select([terminal], [], [], ENDS_WITHIN)[0], shown
            piece = os.read(terminal, 65536)
            if not piece:
                break
            shown += piece
    return shown


def screen(shown):
    """The lines on a terminal after all that was shown."""
    lines = []
    for line in shown.decode().split('\r\n'):
        text = ''
        for piece in re.split('(\r|\x1b\\[K)', line):
            # The module goes to the start and clears the line, or clears the rest of it.
            if piece == '\r':
                text = ''
            elif piece != '\x1b[K':
                text += piece
        lines.append(text)
    return lines


@pytest.mark.parametrize('bar', BARS)
def test_a_terminal_is_shown_how_far_a_file_is_until_it_is_interrupted(tmp_path, bar):
    path = tmp_path / 'names'
    path.write_bytes(b'x..\n' + b'localhost\n' * 999_999)
    with on_a_terminal(bar, '-f', str(path), stdout=subprocess.DEVNULL) as (process, terminal):
        shown = shown_by(terminal, rb'\r' + BARS[bar] + rb'\x1b\[K')
        os.write(terminal, b'\x03')  # Ctrl-C
        shown += shown_by(terminal)
        assert process.wait(ENDS_WITHIN) == 130
    assert b'1 failed' in shown
    failure, summary, rest = screen(shown)
    assert failure.startswith('InvalidName: ')  # and nothing of a bar is left
    assert re.fullmatch(r'\d+ answered, 0 absent, 1 failed, \d+\.\d s', summary)
    assert rest == ''


@pytest.mark.parametrize('bar', BARS)
def test_the_bar_is_not_in_the_way_of_answers_on_the_same_terminal(bar):
    read_end, write_end = os.pipe()
    with (
        on_a_terminal(bar, '-f', '-', stdin=read_end) as (process, terminal),
        open(write_end, 'wb', 0) as names,
    ):
        os.close(read_end)
        shown = b''
        for name in (b'localhost', b'a.localhost', b'b.localhost'):
            names.write(name + b'\n')
            shown += shown_by(terminal, name + rb'[.] IN A 127[.]0[.]0[.]1\r\n(?s:.*)' + BARS[bar])
        names.close()
        shown += shown_by(terminal)
        assert process.wait(ENDS_WITHIN) == 0
    *answers, summary, rest = screen(shown)
    names = 'localhost', 'a.localhost', 'b.localhost'
    assert answers == [f'{name}. IN A 127.0.0.1' for name in names]
    assert summary.startswith('3 answered, 0 absent, 0 failed, ')
    assert rest == ''


def test_a_pipe_gets_no_bar():
    names = b'localhost\n' * 30_000
    words = [sys.executable, '-m', 'aiodnsresolver', '-f', '-']
    ran = subprocess.run(words, cwd=HERE, input=names, capture_output=True)
    assert ran.stdout == b'localhost. IN A 127.0.0.1\n' * 30_000
    assert summarised(ran.stderr.decode()) == ([30_000, 0, 0], [])
    assert b'\r' not in ran.stderr


# --- The benchmark -----------------------------------------------------------
#
# Whether it does what it says, of very few queries; what it measures is nothing for a test.

BENCH = HERE / 'bench_aiodnsresolver.py'
WRONG_MODULE = """
from enum import IntEnum
TYPES = IntEnum('TYPES', ['A'])
def Resolver(**_):
    async def resolve(name, qtype):
        return ()
    return resolve, None
"""


def bench(*words, path=BENCH):
    """The exit status, the lines of output and those of progress."""
    ran = subprocess.run(
        [sys.executable, path, '--rounds', '2', '--queries', '4', *words],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
    )
    return ran.returncode, ran.stdout.splitlines(), ran.stderr.splitlines()


def rows(lines, workload):
    """The table of a workload as a dict: the first word of each line, and the others."""
    titles = [line.partition(' (')[0] for line in lines]  # without what the floor is
    table = itertools.takewhile(str.strip, lines[titles.index(workload) + 1 :])
    return {words[0]: words[1:] for words in map(str.split, table)}


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.parametrize('scheme', ['tcp', 'tls', 'https'])
def test_streams_are_measured_that_last_and_new_ones(scheme):
    workloads = [f'{scheme}-{what}' for what in ('1', '100', 'new')]
    status, lines, _ = bench(*workloads, '--peers', 'ours,dnspython,floor')
    assert status == 0, lines
    for name in workloads:
        floor = [] if name.endswith('-new') else ['floor']
        assert list(rows(lines, name)) == ['peer', 'ours', 'dnspython', *floor]
        for peer in ('ours', 'dnspython', *floor):
            row = rows(lines, name)[peer]
            assert row[5:8] == ['8', 'of', '8']
            assert float(row[8]) > 0
            assert row[-1] == '1.00'


@pytest.mark.long
@pytest.mark.servers
def test_transfers_are_measured():
    workloads = [
        f'{prefix}{what}-100k' for prefix in ('', 'memory-') for what in ('transfer', 'zone')
    ]
    status, lines, _ = bench(*workloads, '--peers', 'ours,dnspython,dig', '--rounds', '1')
    assert status == 0, lines
    for name, other in zip(workloads, ('dig', 'dnspython', None, 'dnspython'), strict=True):
        peers = ['ours', other] if other else ['ours']
        assert list(rows(lines, name)) == ['peer', *peers]
        for peer in peers:
            assert rows(lines, name)[peer][5:8] == ['4', 'of', '4']


@pytest.mark.long
@pytest.mark.servers
def test_each_loop_and_each_floor_is_measured_beside_ours():
    peers = ['ours', 'sketch', 'floor', 'ours-uvloop', 'floor-uvloop']
    status, lines, _ = bench('cold-100', 'tls-100', '--peers', ','.join(peers))
    assert status == 0, lines
    assert 'cold-100 (floor: a fresh socket)' in lines
    for name in ('cold-100', 'tls-100'):
        able = [peer for peer in peers if name == 'cold-100' or peer != 'sketch']
        assert list(rows(lines, name)) == ['peer', *able]
        for peer in able:
            assert rows(lines, name)[peer][5:8] == ['8', 'of', '8']
            assert rows(lines, name)[peer][-1] == '1.00'


@pytest.mark.long
@pytest.mark.servers
def test_hostile_replies_are_all_read(tmp_path):
    words = '--peers', 'ours,dnspython', '--json', tmp_path / 'json'
    words += '--rounds', '1', '--queries', '2'
    status, lines, _ = bench('hold-1k', 'hold-parse-1k', *words)
    assert status == 0, lines
    for name, by_peer in json.loads((tmp_path / 'json').read_text())['workloads'].items():
        for peer in ('ours', 'dnspython'):
            for one in by_peer[peer]:
                assert one['correct'] == one['asked'] >= len(one['parts']) > 20
                assert one['parts'] == sorted(one['parts'], key=lambda part: -part[1])
                assert one['cost'] == one['parts'][0][1]
            assert ' '.join(rows(lines, name)[peer][10:]) == by_peer[peer][-1]['parts'][0][0]


@pytest.mark.long
@pytest.mark.servers
def test_calls_are_counted_and_system_calls_if_strace_is_there():
    workloads = ['calls-100', 'syscalls-1', 'syscalls-100']
    status, lines, _ = bench(*workloads, '--peers', 'ours')
    assert status == 0, lines
    missing = [
        name for name in workloads for line in lines if line.startswith(f'{name} is missing: ')
    ]
    assert missing in ([], workloads[1:])
    for name in workloads:
        if name not in missing:
            assert rows(lines, name)['ours'][5:8] == ['8', 'of', '8']
            assert float(rows(lines, name)['ours'][0]) > 5


@pytest.mark.long
@pytest.mark.servers
def test_whole_programs_are_measured():
    workloads = 'aiohttp-cold', 'aiohttp-warm', 'bulk-100k', 'memory-bulk-1m'
    status, lines, _ = bench(*workloads, '--peers', 'ours,floor')
    assert status == 0, lines
    assert list(rows(lines, 'aiohttp-cold')) == ['peer', 'ours', 'floor']
    assert rows(lines, 'aiohttp-warm')['floor'][5:8] == ['8', 'of', '8']
    assert 'memory-bulk-1m (one round)' in lines
    for name in workloads:
        count = '4' if name == 'memory-bulk-1m' else '8'
        assert rows(lines, name)['ours'][5:8] == [count, 'of', count]


@pytest.mark.long
@pytest.mark.servers
def test_memory_that_compiling_left_free_hides_nothing():
    words = '--peers', 'ours', '--rounds', '1', '--queries', '500'
    status, lines, _ = bench('memory-flight', *words)
    assert status == 0, lines
    assert 1000 < float(rows(lines, 'memory-flight')['ours'][0]) < 10_000


@pytest.mark.long
@pytest.mark.servers
def test_a_million_records_pass_through_in_constant_memory():
    words = 'memory-transfer-1m', '--queries', '1000000', '--rounds', '1', '--peers', 'ours'
    status, lines, _ = bench(*words)
    assert status == 0, lines
    row = rows(lines, 'memory-transfer-1m')['ours']
    assert row[5:8] == ['1000000', 'of', '1000000']
    assert float(row[0]) < 100


@pytest.mark.long
@pytest.mark.servers
def test_another_version_of_the_module_does_what_ours_does(tmp_path):
    old = shutil.copy(HERE / 'aiodnsresolver.py', tmp_path / 'then.py')
    workloads = ['cold-100', 'cached', 'frames-100', 'parse-a', 'memory-flight', 'tls-1', 'import']
    words = '--peers', 'ours', '--module', f'old={old}', '--json', tmp_path / 'json'
    status, lines, _ = bench(*workloads, *words)
    assert status == 0
    for name in workloads:
        table = rows(lines, name)
        assert list(table) == ['peer', 'ours', 'old']
        assert table['old'][5:8] == ['8', 'of', '8']
    assert json.loads((tmp_path / 'json').read_text())['modules'] == {'old': str(old)}
    frames = rows(lines, 'frames-100')
    assert frames['ours'][1:3] == ['1.00', '1.00']
    assert float(frames['old'][0]) == pytest.approx(float(frames['ours'][0]), rel=0.1)


@pytest.mark.long
@pytest.mark.servers
def test_versions_are_each_in_a_process_of_their_own_and_one_that_fails_is_said(tmp_path):
    (tmp_path / 'wrong.py').write_text(WRONG_MODULE)
    (tmp_path / 'broken.py').write_text('raise RuntimeError("of this test")')
    (tmp_path / 'dead.py').write_text('import os; os.kill(os.getpid(), 9)')
    modules = [f'--module={name}={tmp_path}/{name}.py' for name in ('wrong', 'broken', 'dead')]
    status, lines, _ = bench('frames-1', '--peers', 'upstream,ours', *modules)
    assert status == 0
    assert lines[1].startswith('upstream is missing: pip install --no-deps --target PATH ')
    table = rows(lines, 'frames-1')
    assert list(table) == ['peer', 'ours', 'wrong', 'broken', 'dead']
    assert table['ours'][5:8] == ['8', 'of', '8']
    assert (table['wrong'][0], table['wrong'][5:8]) == ('1.00', ['0', 'of', '8'])
    assert table['broken'] == table['dead'] == ['failed']
    assert 'broken failed in frames-1: ended: RuntimeError: of this test' in lines
    assert 'dead failed in frames-1: ended: status -9' in lines


@pytest.mark.long
@pytest.mark.parametrize(
    ('words', 'error'),
    [
        ('--module old=/nowhere.py', "argument --module: there is no file '/nowhere.py'"),
        (f'--module ours={BENCH}', "argument --module: 'ours' cannot be the name of another peer"),
        (f'--module a-b={BENCH}', "argument --module: 'a-b' cannot be the name of another peer"),
        ('--peers ours,nobody nothing', "unknown: 'nobody', 'nothing'"),
        ('--rounds 0', 'there has to be a round, and two queries in it'),
        ('--queries 1', 'there has to be a round, and two queries in it'),
        ('--from /dev/null', '--from needs --plot'),
        ('--plot /dev/null/folder', "Not a directory: '/dev/null/folder'"),
        ('--json /nowhere/json', "No such file or directory: '/nowhere/json'"),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_begun(words, error):
    status, lines, errors = bench(*words.split())
    assert (status, lines) == (2, [])
    assert errors[-1].endswith(error)


@pytest.mark.long
@pytest.mark.servers
def test_prints_a_table_a_workload_and_writes_all_rounds(tmp_path):
    workloads = ['cold-100', 'cached', 'parse-chain', 'memory-flight']
    words = '--peers', 'ours,dnspython,floor', '--json', tmp_path / 'json'
    status, lines, progress = bench(*workloads, *words)
    assert status == 0
    written = json.loads((tmp_path / 'json').read_text())
    for one in written['workloads']['cold-100']['ours']:
        assert len(one['latencies']) == 4
        assert 0 < one['latencies'][0] <= one['latencies'][3] < 5000
        assert one['latencies'] == sorted(one['latencies'])
    assert written['python'] == platform.python_version()
    assert list(written['workloads']) == workloads
    for name, by_peer in written['workloads'].items():
        able = ['ours', 'dnspython', *(['floor'] if by_peer.keys() & {'floor'} else [])]
        assert list(rows(lines, name)) == ['peer', *able]
        for peer, rounds in by_peer.items():
            assert [(one['correct'], one['asked']) for one in rounds] == [(4, 4)] * 2
            assert rows(lines, name)[peer][5:8] == ['8', 'of', '8']
            assert f'{name}: round 2 of 2, {peer}' in progress
    assert {peer: row[-1] for peer, row in rows(lines, 'cold-100').items()} == {
        'peer': 'reached',
        'ours': '1.00',
        'dnspython': '1.00',
        'floor': '1.00',
    }


@pytest.mark.long
@pytest.mark.servers
def test_wrong_answers_are_counted_and_those_of_ours_are_status_1(tmp_path):
    (tmp_path / 'aiodnsresolver.py').write_text(WRONG_MODULE)
    status, lines, _ = bench('cold-1', '--peers', 'ours,upstream', '--upstream', tmp_path)
    assert (status, rows(lines, 'cold-1')['upstream'][5:8]) == (0, ['0', 'of', '8'])
    copy = shutil.copy(BENCH, tmp_path)
    status, lines, _ = bench('cold-1', '--peers', 'ours,floor', path=copy)
    assert (status, rows(lines, 'cold-1')['ours'][5:8]) == (1, ['0', 'of', '8'])


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_a_signal_ends_the_benchmark_and_all_that_it_started(name):
    words = [BENCH, 'parse-a', '--peers', 'ours', '--rounds', '9999']
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    with process, process.stderr as progress:
        while 'round 2' not in progress.readline():
            assert process.poll() is None
        started = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
        process.send_signal(signal.Signals[name])
        assert process.wait(ENDS_WITHIN) == 128 + signal.Signals[name]
    assert len(started) == 2
    assert not any(Path('/proc', pid).exists() for pid in started)


BENCH_ON_A_TERMINAL = ON_A_TERMINAL.replace('aiodnsresolver', BENCH.stem)


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.parametrize(
    ('bar', 'second'),
    [
        ('plain', 'parse-a: round 2 of 2, ours\r'),
        ('tqdm', r'parse-a: round 2 of 2, ours:  50%\|[ #\d]+\| \d\d:\d\d<\d\d:\d\d\r'),
    ],
    ids=['plain', 'tqdm'],
)
def test_a_terminal_is_shown_how_far_the_benchmark_is(bar, second):
    words = 'parse-a', '--peers', 'ours', '--rounds', '2', '--queries', '4'
    with on_a_terminal(bar, *words, code=BENCH_ON_A_TERMINAL) as (process, terminal):
        shown = shown_by(terminal)
        assert process.wait(ENDS_WITHIN) == 0
    assert re.search(second, shown.decode())
    lines = screen(shown)  # with the table on the same terminal, and nothing of a bar
    assert rows(lines, 'parse-a')['ours'][5:8] == ['8', 'of', '8']
    assert not any('round 2' in line for line in lines)


@pytest.mark.long
@pytest.mark.servers
@pytest.mark.parametrize('bar', ['plain', 'tqdm'])
def test_a_bar_of_the_benchmark_is_cleared_by_an_interruption(bar):
    words = 'parse-a', '--peers', 'ours', '--rounds', '999'
    arguments = {'stdout': subprocess.DEVNULL, 'code': BENCH_ON_A_TERMINAL}
    with on_a_terminal(bar, *words, **arguments) as (process, terminal):
        shown = shown_by(terminal, b'round 2 of 999')
        os.write(terminal, b'\x03')  # Ctrl-C
        shown += shown_by(terminal)
        assert process.wait(ENDS_WITHIN) == 130
    assert screen(shown)[-1] == ''


@pytest.mark.long
@pytest.mark.servers
def test_quick_figures_are_of_few_queries_and_rough(tmp_path):
    words = 'parse-a', 'cold-1', '--quick', '--peers', 'ours', '--json', tmp_path / 'json'
    ran = subprocess.run(
        [sys.executable, BENCH, *words], capture_output=True, text=True, timeout=HANGS_AFTER
    )
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert [line for line in lines if 'rough' in line] == ['parse-a (rough)', 'cold-1 (rough)']
    lines = [line.removesuffix(' (rough)') for line in lines]
    for name in ('parse-a', 'cold-1'):
        assert rows(lines, name)['ours'][5:8] == ['1000', 'of', '1000']
    assert json.loads((tmp_path / 'json').read_text())['rough'] is True


def parsed(*words):
    """The command line of the benchmark as it understands it."""
    code = 'import json, bench_aiodnsresolver as b; a = b.parse_arguments()'
    code += '; print(json.dumps([a.workloads, a.rounds, a.queries]), len(b.WORKLOADS))'
    command = [sys.executable, '-c', code, *words]
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    arguments, _, count = ran.stdout.rpartition(' ')
    return *json.loads(arguments), int(count)


def test_quick_is_one_round_of_a_few_workloads():
    workloads, rounds, queries, count = parsed('--quick')
    assert rounds == 1 and queries <= 1000
    assert 'cold-100' in workloads and len(workloads) < count / 2
    assert parsed('--quick', '--rounds', '2', '--queries', '4', 'import')[:3] == (['import'], 2, 4)
    workloads, rounds, _, count = parsed()
    assert (len(workloads), rounds) == (count, 7)


# The pictures: of results that are made up, each value another.


def results(workloads, **fields):
    """What the benchmark writes as JSON: workloads by name, values by peer, one a round."""
    rounds = {
        name: {
            peer: [{'cost': cost, 'correct': 4, 'asked': 4, **fields} for cost in costs]
            for peer, costs in by_peer.items()
        }
        for name, by_peer in workloads.items()
    }
    made = {'command': 'python bench --rounds 3', 'machine': 'a machine', 'python': '3.11.7'}
    return {**made, 'rough': False, 'versions': {'aiodns': '4.0.4'}, 'workloads': rounds}


def plot(folder, written):
    """Has the benchmark draw pictures, and returns what it says and their texts by name."""
    folder.mkdir()
    (folder / 'json').write_text(json.dumps(written))
    status, lines, errors = bench('--plot', folder / 'pictures', '--from', folder / 'json')
    assert (status, [line for line in errors if 'font cache' not in line]) == (0, [])
    return lines, {file.name: file.read_text() for file in (folder / 'pictures').iterdir()}


def texts_of(svg):
    """The texts of a picture."""
    root = xml.etree.ElementTree.fromstring(svg)
    return [each.text for each in root.iter('{http://www.w3.org/2000/svg}text')]


def contrast(*colors):
    """The contrast ratio of two colours as WCAG 2 defines it."""

    def luminance(color):
        values = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        red, green, blue = (
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted(map(luminance, colors))
    return (high + 0.05) / (low + 0.05)


def check_picture(svg):
    """Asserts what each picture is: small, the same for the same figures, and readable."""
    assert len(svg.encode()) < 60_000
    assert texts_of(svg)
    assert not re.search(r'\d{4}-\d\d-\d\d|dc:date', svg)
    assert not re.search(r'(?<![\w:/])/(home|root|tmp|work|usr)/', svg)
    white, dark = '#ffffff', '#0d1117'  # of GitHub
    light_scheme, dark_scheme = re.findall(r'svg{color:(#[0-9a-f]{6})}', svg)
    assert contrast(light_scheme, white) >= 4.5 and contrast(dark_scheme, dark) >= 4.5
    # A page may be dark where the system is not. Then text is less clear, but there.
    assert contrast(light_scheme, dark) >= 3 and contrast(dark_scheme, white) >= 3
    others = {*re.findall('#[0-9a-f]{6}', svg)} - {light_scheme, dark_scheme}
    assert others
    for color in others:
        assert contrast(color, white) >= 3 and contrast(color, dark) >= 3
    inks = {*re.findall(r'<text style="[^"]*fill: ([^;"]+)', svg)}
    assert inks <= {'currentColor'}


@pytest.mark.long
def test_pictures_are_drawn_of_what_was_measured(tmp_path):
    workloads = {
        'cold-1': {'ours': [81, 82, 800], 'aiodns': [163, 164, 165], 'dnspython': []},
        'cold-100': {'ours': [41, 42, 43], 'dnspython': [430, 431, 432]},
        'memory-flight': {
            'ours': [3500],
            'floor': [1400],
            'mine': [2000],
            'sketch': [1800],
            'aiodns': [-1],
        },
    }
    written = results(workloads)
    lines, pictures = plot(tmp_path / 'one', written)
    assert sorted(pictures) == ['cold.svg', 'memory.svg']
    missing = [
        line for line in lines if line.endswith('is not drawn: nothing was measured for it')
    ]
    assert [Path(line.split()[0]).name for line in missing] == ['latency.svg', 'parse.svg']
    for svg in pictures.values():
        check_picture(svg)
        for words in ('3.11.7', 'aiodns 4.0.4', 'a machine', 'python bench --rounds 3', 'Medians'):
            assert any(words in text for text in texts_of(svg))
    cold, memory = texts_of(pictures['cold.svg']), texts_of(pictures['memory.svg'])
    assert {'1 at a time', '100 at a time', 'aiodnsresolver', 'aiodns', 'dnspython'} <= {*cold}
    assert {'82', '164', '42', '431'} <= {*cold}
    assert '1,000 at a time' not in cold
    assert 'µs per query, on a logarithmic axis' in cold
    # The axis of bars begins at zero.
    assert {'bytes', '0', '3,500', '1,400', '2,000', 'mine', 'floor, without DNS'} <= {*memory}
    assert 'sketch' not in memory
    assert plot(tmp_path / 'two', written)[1] == pictures


@pytest.mark.long
def test_pictures_say_if_figures_are_rough_and_leave_out_wrong_answers(tmp_path):
    written = results({'cold-100': {'ours': [42], 'aiodns': [51]}}, latencies=[1.5, 2.5, 3.5, 4.5])
    written['workloads']['cold-100']['aiodns'][0]['correct'] = 3
    written['rough'] = True
    _, pictures = plot(tmp_path / 'one', written)
    assert sorted(pictures) == ['cold.svg', 'latency.svg']
    for svg in pictures.values():
        check_picture(svg)
        assert any('Rough figures' in text for text in texts_of(svg))
        assert 'aiodns' not in texts_of(svg)
    assert {'1.5', '2.5', '3.5', '4.5'} <= {*texts_of(pictures['latency.svg'])}


@pytest.mark.long
@pytest.mark.parametrize(('written', 'status'), [('{', 2), ('{}', 2), ('{"workloads": {}}', 0)])
def test_pictures_are_refused_of_what_json_did_not_write(tmp_path, written, status):
    (tmp_path / 'json').write_text(written)
    words = '--plot', tmp_path / 'pictures', '--from', tmp_path / 'json'
    found, _, errors = bench(*words)
    assert found == status
    assert not any('Traceback' in line for line in errors)
    assert not list((tmp_path / 'pictures').iterdir())


def test_without_matplotlib_no_run_is_begun():
    code = 'import sys; sys.modules["matplotlib"] = None; import bench_aiodnsresolver as bench'
    words = [sys.executable, '-c', f'{code}; bench.main()', 'cold-1', '--plot', 'nowhere']
    ran = subprocess.run(words, cwd=HERE, capture_output=True, text=True, timeout=HANGS_AFTER)
    assert (ran.returncode, ran.stdout) == (2, '')
    assert ran.stderr.endswith('error: --plot needs matplotlib: pip install matplotlib\n')


def test_the_readme_shows_the_pictures_in_docs():
    shown = re.findall(r'!\[[^\]]{20,}\]\((.+?)\)', (HERE / 'README.md').read_text())
    assert len(shown) == 2
    assert sorted(shown) == sorted(f'docs/{file.name}' for file in (HERE / 'docs').iterdir())
    for name in shown:
        svg = (HERE / name).read_text()
        check_picture(svg)
        assert any(text.startswith('python bench_aiodnsresolver.py ') for text in texts_of(svg))


# --- The types ---------------------------------------------------------------


def make_stub(folder):
    """The stub as the wheel has it."""
    command = [sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', folder]
    subprocess.run(command, cwd=HERE, capture_output=True, check=True)
    return (folder / 'aiodnsresolver-stubs' / '__init__.pyi').read_text()


def test_the_stub_has_public_names_only(tmp_path):
    stub = make_stub(tmp_path)
    assert len(stub) <= 40_000
    defined = [node.name for node in ast.parse(stub).body if hasattr(node, 'name')]
    public = [name for name in module.__all__ if not isinstance(getattr(module, name), int)]
    records = [row.record.__name__ for row in module.LAYOUTS.values() if row.record is not None]
    answers = [f'{record}ExpiresAt' for record in records]
    # Three bases, what is returned first, an item of an answer of type APL, and `Zone.writer`.
    needed = ['Mnemonic', 'AddressExpiresAt', 'HostResolver', 'Resolve', 'AddressPrefix']
    needed += ['ZoneWriter', 'GetAddrInfo', 'GetNameInfo']
    assert sorted(defined) == sorted([*public, *records, *answers, *needed, 'AioHttpDnsResolver'])


def typed_program():
    """A program that uses each type, with the values of the vectors, and each once wrongly."""
    yield 'from ipaddress import IPv4Address, IPv6Address'
    yield 'from typing import Any, assert_type'
    yield 'import aiodnsresolver'
    yield 'from aiodnsresolver import TYPES, AddressPrefix, Resolver'
    yield 'from aiodnsresolver import Resolvr  # wrong'
    yield 'resolve, clear_cache = Resolver()'
    yield 'async def main(qtype: int) -> None:'
    yield '    assert_type(await resolve(b"x", qtype), tuple[Any, ...])'
    yield '    await resolve("x", "MX")  # wrong'
    yield '    await resolve(5, TYPES.MX)  # wrong'
    yield '    key = aiodnsresolver.Key("x", "QUJD")'
    yield '    call = aiodnsresolver.getaddrinfo(resolve)'
    yield '    assert_type((await call("x", 80, type=1))[0][4][0], str)'
    yield '    aiodnsresolver.getaddrinfo(clear_cache)  # wrong'
    yield '    assert_type((key.name, key.secret, key.algorithm), tuple[bytes, bytes, bytes])'
    for mnemonic, _, rdata, _ in VECTORS:
        if mnemonic not in TYPES.__members__:
            continue
        row = module.LAYOUTS[TYPES[mnemonic]]
        if row.record is not None:
            value = re.sub(r'<\w+\.\w+: (\d+)>', r'\1', repr(rdata))  # numbers with mnemonics
            yield f'    aiodnsresolver.{value}'
            yield f'    aiodnsresolver.{mnemonic}()  # wrong'
        if TYPES[mnemonic] not in module.UNRESOLVABLE:
            answer = type(module.expiring(rdata, 0.0)).__name__
            yield f'    for {mnemonic} in await resolve("x", TYPES.{mnemonic}):'
            if answer == 'TupleExpiresAt':
                for each in rdata:
                    yield f'        assert_type({mnemonic}[0], {type(each).__name__})'
            else:
                yield f'        assert_type({mnemonic}, aiodnsresolver.{answer})'
            yield f'        assert_type({mnemonic}.expires_at, float)'
            for name, kind in row.fields.items() if row.record is not None else ():
                yield f'        assert_type({mnemonic}.{name}, {kind.hint})'
            yield f'        print({mnemonic}.misspelt)  # wrong'


@pytest.mark.long
@pytest.mark.parametrize(
    'checker',
    [
        ['mypy', '--strict', '--cache-dir', 'cache'],
        ['pyright', '--pythonpath', sys.executable],
    ],
    ids=lambda checker: checker[0],
)
def test_type_checkers_know_the_answer_to_each_type(checker, tmp_path):
    program = [*typed_program()]
    (tmp_path / 'program.py').write_text('\n'.join(program))
    (tmp_path / 'aiodnsresolver.pyi').write_text(make_stub(tmp_path / 'build'))
    command = [sys.executable, '-m', *checker, 'program.py', 'aiodnsresolver.pyi']
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = dict(re.findall(r'(\w+\.pyi?:\d+)\S* (?:- )?error: (.+)', ran.stdout))
    wrong = [number for number, line in enumerate(program, 1) if line.endswith('# wrong')]
    expected = {f'program.py:{number}' for number in wrong}
    assert {where: text for where, text in errors.items() if where not in expected} == {}
    assert expected - errors.keys() == set(), ran.stderr


# --- The README --------------------------------------------------------------


async def an_address_has_a_name(scope):
    """Asks for the name of another end, and for the PTR records of an address."""
    async with Nameserver(ptr('127.0.0.1', b'here.example')) as server:
        resolve, _ = resolver_of(server)
        loop = asyncio.get_running_loop()
        assert loop.getnameinfo.__module__ == module.__name__
        loop.getnameinfo = module.getnameinfo(resolve)
        scope['resolve'] = resolve
        with contextlib.closing(socket.create_server(('127.0.0.1', 0))) as listener:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await scope['name_of'](writer) == 'here.example'
            writer.close()
        assert await scope['pointers']('127.0.0.1') == (b'here.example',)


async def a_service_is_reached(scope):
    """Connects to the only target of a service that somebody listens at."""
    with contextlib.closing(socket.create_server(('127.0.0.1', 0))) as listener:
        port = listener.getsockname()[1]
        targets = [(0, closed_port()[1]), (1, port)]
        records = [module.SRV(priority, 0, each, b'localhost') for priority, each in targets]
        said = [rr(SERVICE, TYPES.SRV, each) for each in records]
        async with Nameserver(answering(*said)) as server:
            scope['resolve'], _ = resolver_of(server)
            _, writer = await scope['connect_to_service'](SERVICE)
            assert writer.get_extra_info('peername')[1] == port
            writer.close()
            server.answer = answering(said[0])
            scope['resolve'], _ = resolver_of(server)
            with pytest.raises(OSError):
                await scope['connect_to_service'](SERVICE)


@contextlib.contextmanager
def leading_here(address, port):
    """Has connections to an address, which may be a public one, lead to this host."""
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def sock_connect(sock, where):
        assert where[0] == address  # nothing else is ever connected to
        await connect(sock, ('127.0.0.1', port))

    loop.sock_connect = sock_connect
    try:
        yield
    finally:
        del loop.sock_connect


async def the_guard_holds(scope):
    """Tries the README's guard with a name that is public and private in turn, and literals."""
    turns = [(PUBLIC,), (PRIVATE,), ('127.0.0.1', PUBLIC), ('127.0.0.1',)]

    def answer(query):
        name, qtype, _ = query.qd[0]
        if qtype == TYPES.AAAA:
            return reply_to(query, aaaa(name, '::ffff:127.0.0.1'), aaaa(name, '::1'))
        return reply_to(query, *[a(name, each, ttl=0) for each in turns.pop(0)])

    async def redirect(request):
        raise aiohttp.web.HTTPFound(request.query['to'])

    application = aiohttp.web.Application()
    application.router.add_get('/', say_hello)
    application.router.add_get('/redirect', redirect)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, '127.0.0.1', 0).start()
        port = runner.addresses[0][1]
        url = f'http://rebinding.example:{port}/'
        async with Nameserver(answer) as server:
            get_nameservers = asking(server.nameserver)
            scope['AioHttpDnsResolver'] = functools.partial(
                module.AioHttpDnsResolver, no_host, get_nameservers
            )
            fetch = scope['fetch_public']
            with leading_here(PUBLIC, port):
                for is_public in (True, False, True, False):
                    if is_public:
                        assert 'hello rebinding.example' in await fetch(url)
                        continue
                    with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
                        await fetch(url)
                    assert isinstance(caught.value.os_error.__cause__, DoesNotExist)
                for literal in ('127.0.0.1', '[::1]', '[::ffff:127.0.0.1]', '127.1', '2130706433'):
                    turns.append((PUBLIC,))
                    for each in (
                        f'http://{literal}:{port}/',
                        f'{url}redirect?to=http://{literal}:{port}/',
                    ):
                        with pytest.raises(ValueError):
                            await fetch(each)
                resolve, _ = Resolver(no_host, get_nameservers, accept_address=scope['is_public'])
                scope['guarded_getaddrinfo'] = getaddrinfo(resolve)
                turns[:] = [('127.0.0.1', PUBLIC), ('127.0.0.1',)]
                _, writer = await scope['open_public_connection']('rebinding.example', port)
                writer.close()
                for host in ('rebinding.example', '127.0.0.1', '127.1', '::ffff:127.0.0.1'):
                    with pytest.raises(socket.gaierror) as caught:
                        await scope['open_public_connection'](host, port)
                    assert isinstance(caught.value.__cause__, DoesNotExist)
                for refused in ('64:ff9b::7f00:1', '2002:7f00:1::', '224.0.0.1', '::', '0.0.0.0'):
                    assert not scope['is_public'](ip_address(refused))
                assert scope['is_public'](IPv6Address('2606:4700::1111'))
    finally:
        await runner.cleanup()


def examples_of_the_readme():
    """Those that continue one another, and the program for a cluster."""
    text = (HERE / 'README.md').read_text()
    examples = re.findall(r'^```python\n(.+?)^```', text, re.MULTILINE | re.DOTALL)
    [program] = [each for each in examples if 'from distributed import' in each]
    examples.remove(program)
    return examples, program


def test_the_examples_of_the_readme_run(authority, monkeypatch, capsys):
    examples, _ = examples_of_the_readme()
    assert len(examples) == 27

    def answer(query):
        zone = {
            TYPES.MX: rr(b'example.com', TYPES.MX, module.MX(10, b'mail.example.com')),
            TYPES.A: a(query.qd[0].name, ttl=30),
        }
        return reply_to(query, zone[query.qd[0].qtype])

    async def main():
        async with Nameserver(answer) as server:
            defaults = no_host, asking(server.nameserver), mix_case
            monkeypatch.setattr(Resolver, '__defaults__', defaults)
            scope = {'__name__': 'readme', 'Resolver': Resolver}
            for number, example in enumerate(examples):
                if number:  # the first is a whole program, with a loop of its own
                    code = compile(
                        example, f'example {number}', 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                    )
                    coroutine = eval(code, scope)
                    await coroutine if inspect.iscoroutine(coroutine) else None
                else:
                    exec(example.replace('asyncio.run(main())', ''), scope)
                    await scope['main']()
            assert await scope['seconds_left']('www.example.com') == 30
            assert texts(await scope['addresses_of']('localhost')) == ['127.0.0.1']
            assert asyncio.get_running_loop().getaddrinfo.__module__ == module.__name__
            await an_address_has_a_name(scope)
            await a_service_is_reached(scope)
            await the_guard_holds(scope)
            resolve, _ = Resolver(scope['get_host'])
            assert texts(await resolve('database.internal', TYPES.A)) == ['127.0.0.1']
            yielded = [each async for each in scope['get_nameservers'](b'x')]
            assert len(yielded) == 6
            async with tls_nameserver(authority, answer) as private:
                of_our_network = scope['resolver_of_our_network']
                resolve, _ = of_our_network(url_of('tls', private), authority.path)
                assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
                for call in (udp, tcp, udp_with_fallback):  # to other ports than the usual ones
                    scope[call.__name__] = functools.partial(call, port=server.port)
                to_private = {'port': private.port, 'verify': authority.path}
                scope['tls'] = functools.partial(tls, **to_private)
                async with https_nameserver(authority, answer) as over_http:
                    to_http = {'port': over_http.port, 'verify': authority.path}
                    scope['https'] = functools.partial(https, **to_http)
                    rcode, answers = await scope['ask']('127.0.0.1')
                    assert (rcode, len(answers)) == (RCODES.NOERROR, 1)
                    assert len(over_http.requests) == 1
                    scope['https'] = functools.partial(https, port=over_http.port)
                    async with http_client('httpx2', authority, http2=True) as client:
                        assert len(await scope['ask_often'](client, '127.0.0.1')) == 3
                    assert len(over_http.streams) == 2
            key = scope['key']
            async with Nameserver(signing(answer, key, asked_with=key)) as signed:
                scope['udp'] = functools.partial(udp, port=signed.port)
                assert len(await scope['ask_signed']('127.0.0.1')) == 1
            zone = [zone_soa(7, b'example.com'), a(b'www.example.com')]
            whole = sending([*zone, zone[0]])
            answers = [whole, sending(zone[:1])]
            async with Nameserver(lambda query: answers.pop(0)(query)) as primary:
                scope['inbound_xfr'] = functools.partial(inbound_xfr, port=primary.port)
                assert await scope['copy_zone']('127.0.0.1') == lines_of(zone)
            signed = signing(lambda query: whole(query)[0], key, asked_with=key)
            async with Nameserver(signed) as primary:
                scope['transfer'] = functools.partial(transfer, port=primary.port)
                assert await scope['count_records']('127.0.0.1') == 2
            with datagram_socket() as one:
                where = one.getsockname()
                serving = asyncio.ensure_future(scope['serve_datagrams'](one))
                assert (await udp(Q, where[0], 5, where[1])).qr == RESPONSE
                await serving
            async with await asyncio.start_server(scope['serve'], '127.0.0.1') as small:
                port = small.sockets[0].getsockname()[1]
                assert (await tcp(Q, '127.0.0.1', 5, port)).qr == RESPONSE
                streams = await scope['open_connection']('localhost', port)  # not at ::1
                assert (await tcp(Q, '127.0.0.1', 5, sock=streams)).qr == RESPONSE
                streams[1].close()
                await streams[1].wait_closed()
                await settle()

    run(main())
    printed = "127.0.0.1\n10 b'mail.example.com'\n10 mail.example.com.\nb\u00fccher.example\n"
    assert capsys.readouterr().out == printed + "7 [IPv4Address('192.0.2.1')]\n"


# Dask has processes and threads, and no clock by hand, so it is given a process. The resolvers
# that it makes ask over TCP, for no query is lost so, and write down what they ask a nameserver
# for: process, loop and name. Whoever asks for kill.example is killed.
ON_A_CLUSTER = """
import asyncio, json, os, runpy, signal, subprocess, sys
from distributed import Client, LocalCluster

example, log, nameserver, names = sys.argv[1:]


async def no_host(fqdn, qtype):
    return None


async def get_nameservers(fqdn):
    with open(log, 'ab', buffering=0) as file:
        file.write(b'%d %d %s\\n' % (os.getpid(), id(asyncio.get_running_loop()), fqdn))
    if fqdn == b'kill.example':
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(5):
        yield 5.0, nameserver


def pids():
    return set(client.run(os.getpid, on_error='ignore').values())


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    while len(pids() - {pid}) < 2:  # until the nanny has another
        pass


def forget(dask_worker):
    del dask_worker.resolve


names_read = 0


def read():
    global names_read
    with open(names) as lines:
        for line in lines:
            names_read += 1
            yield line.strip()


scope = runpy.run_path(example, run_name='example')
cluster = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None)
with cluster, Client(cluster) as client:
    settings = {'get_host': no_host, 'get_nameservers': get_nameservers}
    client.register_plugin(scope['OneResolver'](**settings))
    rows, ahead = [], []
    first, second = pids()
    for row in scope['resolve_all'](client, read(), batch_size=100):
        ahead.append(names_read - len(rows))
        rows.append(row)
        if len(rows) == 3000:
            kill(first)
    workers = [first, second, *pids() - {second}]
    cluster.scheduler.allowed_failures = 0  # not three others
    doomed = ['kill.example', 'a.example', 'b.example']
    lost = list(scope['resolve_all'](client, doomed, batch_size=2, in_flight=1))
    while len(pids()) < 2:
        pass
    client.run(forget)
    words = [sys.executable, example, client.scheduler.address]
    said = subprocess.check_output(words, input=b'localhost\\nx.invalid\\n')
    print(json.dumps([rows, max(ahead), workers, lost, said.decode()]))
"""


def alive_in_group(pgid):
    """Its processes, without those that have ended and that nobody has waited for."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):  # it has gone
            state, _, group = path.read_text().rpartition(')')[2].split()[:3]
            found += [path.parent.name] if int(group) == pgid and state not in 'ZX' else []
    return found


@pytest.mark.long
def test_the_program_for_a_cluster_loses_nothing_if_a_worker_dies(tmp_path):
    kinds = {0: 'x{}.example', 1: 'y{}.example', 2: 'shared.example'}  # absent, refused, and often
    names = [kinds.get(number % 100, 'n{}.example').format(number) for number in range(10_000)]
    program, log, file = (tmp_path / name for name in ('bulk.py', 'log', 'names'))
    program.write_text(examples_of_the_readme()[1])
    file.write_text('\n'.join(names))
    with in_a_thread(of_numbers) as server:
        words = [sys.executable, '-X', 'dev', '-W', 'error', '-c', ON_A_CLUSTER]
        words += [program, log, server.tcp, file]
        with subprocess.Popen(
            words,
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=HANGS_AFTER)
                assert process.returncode == 0, errors
                wait_until(lambda: not alive_in_group(process.pid))
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    assert 'Warning' not in errors
    rows, ahead, workers, lost, said = json.loads(output)
    # Each name has come once, and no more were read ahead than 16 batches.
    assert collections.Counter(name for name, *_ in rows) == collections.Counter(names)
    assert ahead == 1600
    for name, addresses, error in rows:
        if name[0] in 'xy':
            kind = 'DoesNotExist' if name[0] == 'x' else 'ResponseCode'
            assert (addresses, error.partition(': ')[:2]) == ([], (kind, ': '))
        else:
            assert (addresses, error) == (['192.0.2.7'], None)
    # Each worker had a resolver, on one loop, whose cache lasted from batch to batch.
    asked = [line.split() for line in log.read_text().splitlines()]
    loops = {int(pid): loop for pid, loop, _ in asked}
    assert len(set(workers)) == 3
    shared = [(int(pid), loop) for pid, loop, name in asked if name == 'shared.example']
    assert sorted(shared) == sorted((pid, loops[pid]) for pid in workers)
    assert len({(pid, loop) for pid, loop, _ in asked}) == len(loops)
    # What the dead one had in hand was asked for again.
    of_the_dead = {name for pid, _, name in asked if int(pid) == workers[0]} - {'shared.example'}
    assert of_the_dead & {name for pid, _, name in asked if int(pid) != workers[0]}
    # A batch that kills its worker each time is a failure of its names, and of no others.
    *doomed, last = lost
    assert [(name, addresses) for name, addresses, _ in doomed] == [
        ('kill.example', []),
        ('a.example', []),
    ]
    assert all(error.startswith('KilledWorker: ') for *_, error in doomed)
    assert last == ['b.example', ['192.0.2.7'], None]
    # The program itself, with the resolver of those who need no other.
    first, second = said.splitlines()
    assert first == 'localhost 127.0.0.1'
    assert second.startswith('x.invalid DoesNotExist: ')


# --- Fuzzing -----------------------------------------------------------------
#
# A target takes any octets, and raises only if the module is wrong: by an exception that is none
# of its own, or by a result that is not what another way says. The fuzzer keeps what leads to
# lines of the module in an order in which they never ran, and goes on from there.

MAX_FUZZED = 1000  # octets of an input
MAX_LINES = 300  # of the module for each octet, and a hundred more: else it is not linear
FUZZED = {}  # by name: a target, and the inputs to begin with
NUMBERS = [0, 1, 12, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, -1]


def fuzzed(*seeds):
    """Makes a function a target."""

    def register(target):
        FUZZED[target.__name__.removeprefix('fuzz_')] = target, seeds
        return target

    return register


def varied(octets, draw, others):
    """Octets with some changes, of the kinds that matter in messages and in text."""
    data = bytearray(octets)
    for _ in range(1 << draw.randrange(4)):
        at = draw.randrange(len(data) + 1)
        size = 1 << draw.randrange(6)
        match draw.randrange(10):
            case 0:
                data[at : at + 1] = draw.randbytes(1)
            case 1:
                data[at : at + 1] = [octet ^ 1 << draw.randrange(8) for octet in data[at : at + 1]]
            case 2:
                del data[at : at + size]
            case 3:  # a piece of it once more
                start = draw.randrange(len(data) + 1)
                data[at:at] = data[start : start + size]
            case 4 | 5:  # a piece of another
                other = draw.choice(others)
                start = draw.randrange(len(other) + 1)
                data[at : at + draw.choice((0, size))] = other[start : start + size]
            case 6:  # a pointer
                data[at : at + 2] = struct.pack('>H', 0xC000 | draw.randrange(len(data) + 1))
            case 7:  # a number, such as a count
                size = draw.choice((1, 2, 2, 4, 6))
                number = draw.choice(NUMBERS) % (1 << 8 * size)
                data[at : at + size] = number.to_bytes(size, 'big')
            case 8:
                number = int.from_bytes(data[at : at + 2], 'big') + draw.choice((-1, 1))
                data[at : at + 2] = (number & 0xFFFF).to_bytes(2, 'big')
            case 9:  # longer or shorter, and the lengths before it with it
                size = draw.choice((1, 2, 4, 16))
                change = draw.choice((-size, size))
                for start in range(max(0, at - 60), at):
                    width = draw.choice((1, 2))
                    length = int.from_bytes(data[start : start + width], 'big')
                    end = start + width + length
                    if at <= end <= len(data) and 0 <= length + change < 1 << 8 * width:
                        data[start : start + width] = (length + change).to_bytes(width, 'big')
                        break
                data[at : at + max(0, -change)] = data[:change] if change > 0 else b''
    return bytes(data[:MAX_FUZZED])


class Fuzzer:
    """One target, the inputs that led somewhere new, and what is known of where they lead."""

    def __init__(self, name, seed):
        self.target, seeds = FUZZED[name]
        self.seeds = [b'', *seeds]
        self.draw = random.Random(seed)
        self.known = set()  # pairs of lines, and how often they came, up to eight times
        self.corpus = []
        self.inputs = 0

    def feed(self, octets):
        """Gives the target an input. Raises what it raises."""
        passed = {}
        lines_left = MAX_LINES * (len(octets) + 100)

        def on_call(frame, event, argument):
            if frame.f_code.co_filename != module.__file__:
                return None
            last = 0

            def on_line(frame, event, argument):
                nonlocal last, lines_left
                lines_left -= 1
                assert lines_left, 'It takes too long'
                pair, last = (last, frame.f_lineno), frame.f_lineno
                passed[pair] = passed.get(pair, 0) + 1
                return on_line

            return on_line

        before = sys.gettrace()
        sys.settrace(on_call)
        try:
            self.target(octets)
        except BaseException as error:
            error.add_note(f'{self.target.__name__}({octets!r})')
            raise
        finally:
            sys.settrace(before)
        self.inputs += 1
        found = {(pair, min(times, 8).bit_length()) for pair, times in passed.items()}
        if not found <= self.known:
            self.known |= found
            self.corpus.append(octets)

    def go_on(self):
        """Tries one input more. Raises what the target raises."""
        if self.seeds:
            self.feed(self.seeds.pop())
            return
        # Newer ones more often: there is more to be found beside them.
        at = max(self.draw.randrange(len(self.corpus)) for _ in range(2))
        self.feed(varied(self.corpus[at], self.draw, self.corpus))


def fuzz(seconds, names):
    """Fuzzes the targets in turn for so long in all. Returns how many faults it found."""
    module.logger.propagate = False  # of what is skipped there are thousands of warnings
    module.logger.addHandler(logging.NullHandler())
    seed = random.randrange(1 << 32)
    fuzzers = {name: Fuzzer(name, seed) for name in names or FUZZED}
    faults = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for fuzzer in fuzzers.values():
            turn = time.monotonic() + min(1, seconds / len(fuzzers))
            while time.monotonic() < turn:
                try:
                    fuzzer.go_on()
                except Exception as error:
                    trace = traceback.extract_tb(error.__traceback__)
                    fault = type(error), *[frame.lineno for frame in trace]
                    if fault not in faults:
                        faults.add(fault)
                        traceback.print_exception(error)
    for name, fuzzer in fuzzers.items():
        lines = {line for (_, line), _ in fuzzer.known}
        print(f'{name}: {fuzzer.inputs} inputs, {len(fuzzer.corpus)} kept, {len(lines)} lines')
    print(f'{len(faults)} faults')
    return len(faults)


def as_text(octets):
    """Text as it comes from a file."""
    return octets.decode('utf-8', 'surrogateescape')


def pieces_of(octets):
    """Octets after the first four, cut into pieces of as many as these say, in turn."""
    sizes, at = itertools.cycle([octet + 1 for octet in octets[:4]] or [1]), 4
    while at < len(octets):
        size = next(sizes)
        yield octets[at : at + size]
        at += size


def framed_in(octets):
    """The messages of a stream."""
    return [message for _, message in module.Frames().take(octets)]


@fuzzed(
    *SAMPLES,
    *[header(an=1) + wire_record(vector_type(m), bytes.fromhex(o)) for m, o, *_ in VECTORS],
    *[octets for octets, _ in REFUSED.values()],
    SIGNED,
    pack(Q._replace(opcode=OPCODES.UPDATE, ns=(rr(b'y', TYPES.MX, b'', qclass=CLASSES.ANY),))),
)
def fuzz_parse(octets):
    """What parses can be packed, presented and parsed again, and TSIG is found where it is."""
    assert len(module.aged(octets, 7)) == len(octets)
    module.keepalive_of(octets)
    with contextlib.suppress(MalformedMessage):
        query = module.query_in(octets)
        assert module.has_question(query, octets)
    try:
        message = parse(octets, ignore_trailing=True)
    except MalformedMessage:
        with contextlib.suppress(MalformedMessage):
            message = module.parse_message(octets, True, True)
            assert message.tc
            assert parse(pack(message)) == message
        with contextlib.suppress(MalformedMessage):
            module.find_signature(octets)
        return
    with contextlib.suppress(MalformedMessage):
        assert parse(octets) == message
    try:
        assert parse(pack(message)) == message
    except MalformedMessage:
        assert len(octets) > 256  # names that were compressed may need more than there is room for
    for record in (*message.an, *message.ns, *message.ar):
        assert re.fullmatch('[ -~]+', presentation(record))
    assert all(error.extra_text.isprintable() for error in module.extended_errors(message))
    sections = message.an + message.ns + message.ar
    is_signed = [record.qtype == TYPES.TSIG for record in sections]
    try:
        signature = module.find_signature(octets)
    except MalformedMessage:
        assert any(is_signed)
    else:
        assert is_signed[-1:] == [True] if signature else not any(is_signed)
        assert not signature or signature.rdata == message.ar[-1].rdata


QUERIES = [
    query._replace(octets=b'\x12\x34' + query.octets[2:])  # the same in each run
    for qtype in ANSWERED
    for query in [module.to_query(b'wWw.eXample.com', qtype, module.EDNS_FORMS[0])]
]
OF_ALL_TYPES = {  # one record each
    qtype: rr(b'www.example.com', qtype, rdata)
    for qtype, rdata in zip(
        ANSWERED,
        [
            *[IPv4Address('192.0.2.1'), IPv6Address('2001:db8::1')],
            *[module.MX(1, b'mail.example.com'), (b'text', b''), soa(b'x').rdata, b'ab'],
            *[b'ns.example.com', b'b.example', b'example.net'],
        ],
        strict=True,
    )
}


def replies_to_read():
    """Inputs of the next target: which query, and a reply's flags, its counts, and the rest."""
    for number, (qtype, record) in enumerate(OF_ALL_TYPES.items()):
        explained = OPT._replace(rdata=((15, b'\0\6why'), (11, b'\0\5')))
        chain = [cname(b'www.example.com', b'b.example'), record._replace(name=b'c.d.example')]
        chain.insert(1, cname(b'B.example', b'c.e.example'))
        chain.insert(1, rr(b'e.example', TYPES.DNAME, b'd.example'))
        referral = rr(b'example.com', TYPES.NS, b'ns.example.com')
        for fields in (
            {'an': (record, record), 'ar': (OPT,)},
            {'an': tuple(chain), 'ns': (referral,), 'ar': (a(b'ns.example.com'), OPT)},
            {
                'an': tuple(reversed(chain[:-1])),
                'ns': (soa(b'd.example', 50, 30),),
                'ar': (explained,),
            },
            {'ns': (referral, soa(b'com', 20, 40)), 'rcode': RCODES.NXDOMAIN, 'aa': 1},
            {'an': (record,), 'ar': (explained._replace(ttl=1 << 24),), 'tc': 1},
        ):
            asked = make_query('www.example.com', qtype, payload=None)
            octets = pack(reply_to(asked, **fields))
            yield bytes([number]) + octets[2:4] + octets[6:12] + octets[12 + 17 + 4 :]
        yield bytes([0x40 | number]) + pack(bare(RCODES.REFUSED)(asked))[2:4] + bytes(6)


@fuzzed(*replies_to_read())
def fuzz_replies(octets):
    """The reader of replies says what the full parse says, or that the reply is malformed."""
    if len(octets) < 9:
        return
    query = QUERIES[octets[0] % 16 % len(QUERIES)]
    question = query.octets[12 : query.end]
    question = [question, b'', question.swapcase()[:-4] + question[-4:], b''][octets[0] >> 6]
    counts = module.LENGTH.pack(len(question) and 1) + octets[3:9]
    reply = query.octets[:2] + octets[1:3] + counts + question + octets[9:]
    check_that_both_say_the_same(query, reply)
    with contextlib.suppress(BadResponse, MalformedMessage):
        assert isinstance(module.parse_answer(query, reply, True), Message)


@fuzzed(*[module.LENGTH.pack(vector_type(m)) + bytes.fromhex(octets) for m, octets, *_ in VECTORS])
def fuzz_records(octets):
    """Rdata is what it is to dnspython, which reads its presentation form as the same."""
    qtype, rdata = int.from_bytes(octets[:2], 'big'), octets[2:]
    if qtype not in module.LAYOUTS:
        qtype = list(module.LAYOUTS)[qtype % len(module.LAYOUTS)]
    check_with_dnspython(qtype, rdata)


ODD_VALUES = [
    *[None, True, -1, 0, 255, 256, 1 << 16, 1 << 32, 1 << 64, 1.5, float('nan'), object()],
    *['', 'a', '192.0.2.1', '\udcff', b'', b'x', b'a..b', b'\\', bytes(256), bytearray(b'x')],
    *[(), (1,), (2, 1), (b'',), [b'x'], ((1, b'x'),), ((1, 2, 3),), (None, None), {}, {1: b'x'}],
    *[IPv4Address('192.0.2.1'), IPv6Address('::1'), IPv6Address('fe80::1%eth0'), MOVING],
    *[
        module.MX(1, b'x'),
        module.AddressPrefix(1, 8, 0, b'x'),
        memoryview(b'x'),
        TYPES.A,
        '1' * 300,
    ],
]


def with_odd_value(value, recipe):
    """A value with another in its place, or in that of one of its items, as octets say."""
    choice = next(recipe, 0)
    if isinstance(value, tuple) and value and choice % 8:
        at = choice % len(value)
        changed = [*value[:at], with_odd_value(value[at], recipe), *value[at + 1 :]]
        return type(value)(*changed) if hasattr(value, '_fields') else tuple(changed)
    return ODD_VALUES[next(recipe, 0) % len(ODD_VALUES)]


@fuzzed(*[bytes([number, 1]) for number in range(len(VECTORS))], b'\1\0\1', b'\7\1\1\1\2')
def fuzz_values(octets):
    """Whatever a caller has put into a message, it can be packed, or the error is one of ours."""
    recipe = iter(octets)
    mnemonic, _, rdata, _ = VECTORS[next(recipe, 0) % len(VECTORS)]
    record = rr(b'x', vector_type(mnemonic), rdata)
    for _ in range(next(recipe, 0) % 3):
        record = with_odd_value(record, recipe)
    message = reply_to(make_query('x', TYPES.A), record)
    if next(recipe, 1) % 4 == 0:
        message = with_odd_value(message, recipe)
    with contextlib.suppress(TypeError, InvalidName, MalformedMessage):
        assert isinstance(pack(message), bytes)
    if isinstance(record, ResourceRecord):
        with contextlib.suppress(TypeError, InvalidName, MalformedMessage):
            assert isinstance(presentation(record), str)


@fuzzed(
    b'www.example.com',
    b'.',
    rb'a\.b.\\.\065\000.example.',
    b'\\',
    b'.'.join([b'a' * 63] * 3 + [b'b' * 61]),
    'bücher.例え。テスト.xn--a'.encode(),
    b'xn--bcher-kva.XN--N3H.xn--fa-hia.xn--9999',
    'STRASSE.straße.\u200d'.encode(),
    *map(str.encode, filter(str.isascii, NO_NAMES[:4])),
)
def fuzz_names(octets):
    """A name is InvalidName, or has one canonical form, which is the same on the wire."""
    for name in (octets, as_text(octets), octets.decode('utf-16-le', 'replace')):
        try:
            canonical = module.to_name(name)
        except InvalidName:
            if isinstance(name, bytes):
                with pytest.raises(InvalidName):
                    module.pack_name(name)
            continue
        wire = module.pack_name(canonical)
        assert module.to_name(canonical) == canonical == module.to_name(canonical.decode())
        assert module.pack_canonical(canonical) == wire
        assert module.parse_name(wire, 0, 0, {}) == (canonical, len(wire))
        assert dns.name.from_text(canonical.decode() + '.').to_wire() == wire
        assert parse(pack(make_query(name, TYPES.A))).qd[0].name == canonical
        text = module.to_unicode(canonical)
        if text.isascii() or '\\' not in text:  # a str has either escapes or letters
            assert module.to_name(text).lower() == canonical.lower()
        labels = module.split_name(canonical)
        assert module.dots_in(canonical) == max(0, len(labels) - 1)
        try:
            module.to_name(name + (b'.' if name is octets else '.'))
            is_absolute = not canonical
        except InvalidName:  # which has an empty label
            is_absolute = True
        assert module.is_absolute(name) == is_absolute
        assert mix_case(canonical).lower() == canonical.lower()
        query = module.mixed_query(canonical.lower(), TYPES.A, module.EDNS_FORMS[0])
        assert query.name.lower() == wire.lower()
        for scheme in ('tcp', 'tls', 'https'):
            asked = module.for_stream(query, scheme)
            assert parse(asked.octets).qd == parse(query.octets).qd
            assert scheme == 'tcp' or len(asked.octets) % module.PADDED_TO == 0
        for asked in module.names_to_ask(canonical, (b'example', canonical), 1):
            assert len(module.pack_canonical(asked)) < 256
        lower = [label.lower() for label in labels]
        for other in (b'', b'b', b'example.com', rb'\.b', *at_or_above(canonical.lower())[:3]):
            above = module.split_name(other)
            is_below = not above or lower[-len(above) :] == above
            assert module.is_at_or_below(canonical.lower(), other) == is_below


@fuzzed(
    b'nameserver 192.0.2.1\nsearch a.example b\noptions ndots:2 rotate use-vc timeout:3\n',
    b'# x\nnameserver fe80::1%eth0\nnameserver ::1 ; x\ndomain x\x1ea b\x1eattempts:9\x1eh.b',
    b'sortlist 1\nnameserver\ntrust-ad\n options no-aaaa attempts:\r\nnameserver ::\xc2\xa0\xff\n',
)
def fuzz_resolv_conf(octets):
    """What is wrong costs itself only, and what is taken can be used."""
    text, *settings = as_text(octets).split('\x1e')
    environ = dict(zip(('LOCALDOMAIN', 'RES_OPTIONS'), settings, strict=False))
    host_name = ''.join(settings[2:3])
    conf = module.parse_resolv_conf(text.split('\n'), environ, host_name)
    alone = [module.parse_resolv_conf([line], {}, '').nameservers for line in text.split('\n')]
    expected = [one for one in alone if one is not module.Conf._field_defaults['nameservers']]
    assert conf.nameservers == tuple(itertools.chain(*expected)) or not expected
    for each in (conf, conf._replace(use_vc=not conf.use_vc)):
        for _, nameserver in module.sets_of(each):
            assert module.to_server(nameserver).is_stream == each.use_vc
    assert len(conf.search) <= module.MAX_SEARCH
    for domain in conf.search:
        assert module.to_name(domain) == domain == domain.lower()
    assert module.names_to_ask(b'www', conf.search, conf.ndots)
    assert conf.ndots in range(16) and conf.timeout in (0.5, *range(1, 31))
    assert 1 <= conf.attempts <= 5


@fuzzed(
    b'127.0.0.1\tlocalhost x.example. # y\n::1 localhost ip6\n10.0.0.5 good bad..name other\n',
    b'fe80::1%eth0 a\\.b \\065 A\r\n192.0.2.1\xc2\xa0x y\n192.0.2.1 b\xc3\xbccher \xff\n',
)
def fuzz_hosts(octets):
    """What is wrong costs itself only, and each name is canonical."""
    lines = as_text(octets).split('\n')
    hosts = module.parse_hosts(lines)
    expected = {}
    for line in lines:
        words = re.findall('[^ \t\v\f]+', line.rstrip('\r').partition('#')[0])
        for word in words[1:]:
            for name, known in module.parse_hosts([f'{words[0]} {word} ']).items():
                assert module.to_name(name) == name == name.lower()
                canonical = {known.pop(qtype).lower() for qtype in [*known] if qtype < 0}
                assert canonical == {name}
                assert sum(map(len, known.values())) == 1
                all_known = expected.setdefault(name, {TYPES.A: (), TYPES.AAAA: ()})
                for qtype, addresses in known.items():
                    all_known[qtype] += addresses
    for name, known in expected.items():
        found = {qtype: tuple(dict.fromkeys(addresses)) for qtype, addresses in known.items()}
        for qtype in [each for each in hosts[name] if each < 0]:
            assert hosts[name].pop(qtype).lower() in expected
        if name.endswith(b'localhost') and len(hosts[name]) == 1:  # loopback of one family only
            found = {qtype: addresses for qtype, addresses in found.items() if addresses}
            assert all(address.is_loopback for (address,) in found.values())
        assert hosts.pop(name) == found
    assert not hosts


@fuzzed(
    b'tls://192.0.2.1:853#dns.example',
    b'https://[2001:db8::1%eth0]:8443/dns-query{?dns}#2001:db8::1%1',
    b'tcp://2001:db8::1',
    b'udp://192.0.2.1:53',
    'https://192.0.2.1/~a?b=%20&c#b\u00fccher.example.'.encode(),
)
def fuzz_urls(octets):
    """A nameserver's URL or address is InvalidName, or it can be asked."""
    text = as_text(octets)
    for nameserver in (text, (text, 53), ('192.0.2.1', int.from_bytes(octets[:3], 'big'))):
        with contextlib.suppress(InvalidName):
            server = module.to_server(nameserver)
            name = f'#{server.name}' if server.scheme in module.ALPN else ''
            again = module.to_server(f'{server.url.partition("#")[0]}{name}')
            assert again.url == server.url
            assert 0 < server.address[1] < 65536
            assert server.path == '' or re.fullmatch('/[!-~]*', server.path)
            if name:
                module.Tls(module.tls_context(False, 'dot'), server.name, 'dot')
            socket.inet_pton(server.family, server.address[0])
            with contextlib.suppress(OSError):  # there is no such interface
                module.scoped(server.address, server.scope)


LATER = [signed_by_hand(REPLY, is_later=True, prior_mac=mac_in(SIGNED), unsigned=[REPLY])]
SIGNED_STREAM = [SIGNED, REPLY, *LATER]


@fuzzed(
    b'\0' + SIGNED,
    *[b'\0' + octets for octets, _ in REFUSED.values()],
    b'\1' + b''.join(map(module.to_frame, SIGNED_STREAM)),
    b'\2' + REPLY,
    b'\2' + SIGNED,
    b'\3key.example\x1ec2VjcmV0\x1ehmac-sha256',
    b'\3a\\.b.\x1ec2Vj cmV0==\x1ehmac-md5',
)
def fuzz_signatures(octets):
    """Nothing is taken for signed that is not what the other side signed; what we sign is."""
    kind, octets = int.from_bytes(octets[:1], 'big') % 4, octets[1:]
    if kind == 0:
        with contextlib.suppress(BadSignature, MalformedMessage):
            module.verify(octets, KEYRING, REQUEST_MAC, NOW)
            assert in_lower_case(octets)[2 : len(SIGNED)] == SIGNED[2:]  # the rest `parse` refuses
    elif kind == 1:
        taken = []
        with contextlib.suppress(BadSignature, MalformedMessage):
            verifier = module.Verifier(KEY, REQUEST_MAC, lambda: NOW)
            for message in framed_in(octets):
                verifier.take(message)
                taken.append(message)
                with contextlib.suppress(BadSignature):
                    verifier.finish()
                    known = SIGNED_STREAM[: len(taken)]
                    for message, original in zip(taken, known, strict=True):
                        assert message[2 : len(original)].lower() == original[2:].lower()
    elif kind == 2:
        with contextlib.suppress(MalformedMessage):
            message = parse(octets)
            signed, mac = sign(octets, KEY, REQUEST_MAC, NOW)
            module.verify(signed, KEYRING, REQUEST_MAC, NOW)
            assert mac_in(signed) == mac
            assert message.ar == parse(signed).ar[:-1]
    else:
        with contextlib.suppress(InvalidName):
            key = Key(*[*as_text(octets).split('\x1e'), '', ''][:3])
            signed, mac = sign(ASKED, key, b'', NOW)
            module.verify(signed, {key.name: key}, b'', NOW)


ZONE_ALPHABET = [
    *[zone_soa(serial) for serial in (0, 1, 2, 3, 1 << 31)],
    *[host(number) for number in range(1, 6)],
    host(1)._replace(ttl=1 << 31, name=b'H1.Moving.example'),
    zone_soa(3, b'MOVING.example', b'NS.moving.example'),
    zone_soa(2, mname=b'x'),
    zone_soa(3, b'below.moving.example'),
    rr(b'x.moving.example', TYPES.OPT, ()),
    rr(rb'h\.moving.example', TYPES.TXT, (b'x',)),
    rr(b'elsewhere.example', TYPES.NS, MOVING),
    rr(MOVING, TYPES.NS, b'ns.moving.example'),
    rr(MOVING, TYPES.A, b'abcd', qclass=CLASSES.CH),
    *[rr(MOVING, TYPES.MX, module.MX(1, name)) for name in (b'a.example', b'A.example')],
]
SPELT = [bytes(map(ZONE_ALPHABET.index, records)) for records in (WHOLE_ZONE, DIFFERENCES)]


def taken_from(query, messages):
    """What a transfer changes, record by record, up to its end or an error, and which of both."""
    state = module.Transfer(query)
    flat = []
    try:
        for message in messages:
            for replacement, deleted, added in state.take(message):
                flat += [(replacement, '-', record) for record in deleted]
                flat += [(replacement, '+', record) for record in added]
            if state.is_done:
                break
    except (TransferError, BadResponse) as error:
        return flat, str(error)
    return flat, state.is_done


@fuzzed(*[b'%c' % kind + b'\0' * 3 + spelt for kind in (0, 1) for spelt in SPELT])
def fuzz_transfers(octets):
    """A transfer says the same wherever it is cut, and a zone takes all of it or nothing."""
    query = (AXFR, IXFR)[octets[0] % 2] if octets else AXFR
    pieces = [
        [ZONE_ALPHABET[octet % len(ZONE_ALPHABET)] for octet in piece]
        for piece in pieces_of(octets[:200])
    ]
    records = [*itertools.chain(*pieces)]
    flat, end = taken_from(query, in_messages(query, *[[record] for record in records]))
    for cut in (pieces, [records] if records else []):
        of_cut = taken_from(query, in_messages(query, *cut))
        if end is True:  # the last message may go on after the end
            assert of_cut == (flat, end) or isinstance(of_cut[1], str)
        else:  # of a message with an error nothing is taken
            assert of_cut == (flat, end) or (end == of_cut[1] and isinstance(end, str))

    is_whole = any(replacement for replacement, _, _ in flat)
    soas = [(sign_of, record) for _, sign_of, record in flat if record.qtype == TYPES.SOA]
    serials = [(sign_of, soa.rdata.serial) for sign_of, soa in soas if soa.name.lower() == MOVING]
    if end is True and flat and not is_whole:  # from the serial asked about to the newest
        assert serials[0] == ('-', 1)
        assert serials[-1] == ('+', records[0].rdata.serial)
        for (now, serial), (then, other) in itertools.pairwise(serials):
            steps = (other - serial) % (1 << 32)
            is_newer = (now, then) == ('-', '+') and 0 < steps < 1 << 31
            assert is_newer or (now, then, steps) == ('+', '-', 0)

    before = [zone_soa(1), host(1)]
    zone = applied([Changes(False, (), tuple(before))])
    model = {} if is_whole else {(record.name, record.qtype): [record] for record in before}
    try:
        with zone.writer(is_whole) as writer:
            for _, sign_of, record in flat:
                (writer.add if sign_of == '+' else writer.delete)(record)
                known = model.setdefault((record.name.lower(), record.qtype), [])
                same = [one for one in known if module.rdata_key(one) == module.rdata_key(record)]
                if record.qtype == TYPES.SOA:
                    same = [*known]
                assert sign_of == '+' or same
                for one in same:
                    known.remove(one)
                known += [record] if sign_of == '+' else []
            if end is not True:
                raise TransferError('It is not whole')
    except TransferError:
        assert [*zone] == before
    else:
        assert sorted(map(repr, zone)) == sorted(map(repr, itertools.chain(*model.values())))
        assert len([*zone]) == len(str(zone).splitlines())


@fuzzed(
    *[
        b''.join(
            module.to_frame(pack(message))
            for message in in_messages(
                AXFR,
                [
                    zone_soa(3),
                    *[rr(b'x.moving.example', vector_type(m), r) for m, _, r, _ in VECTORS[at::6]],
                    zone_soa(3),
                ],
            )
        )
        for at in range(6)
    ],
    b''.join(map(module.to_frame, map(pack, in_messages(AXFR, WHOLE_ZONE)))),
)
def fuzz_zones(octets):
    """A zone takes the records of any messages, gives each once, and takes each out again."""
    zone = Zone(MOVING)
    with contextlib.suppress(MalformedMessage, TransferError, BadResponse):
        state = module.Transfer(AXFR)
        for message in framed_in(octets):
            message = parse(pack(AXFR)[:2] + message[2:])
            with zone.writer() as writer:
                for changes in state.take(message):
                    for record in changes.added:
                        writer.add(record)
    records = [*zone]
    lines = str(zone).splitlines()
    assert len(lines) == len(records)
    for record in records:
        assert record in zone[record.name, record.qtype]
    with zone.writer() as writer:
        for record in records:
            writer.delete(record)
    assert [*zone] == []


@fuzzed(b'\0\1\2\3' + b''.join(map(module.to_frame, [SIGNED, b'', b'x', REPLY])), bytes(9))
def fuzz_frames(octets):
    """A stream has the same messages wherever it is cut."""
    frames = module.Frames()
    taken = [message for piece in pieces_of(octets) for _, message in frames.take(piece)]
    rest = octets[4:]
    expected = []
    while len(rest) >= 2 and len(rest) >= 2 + int.from_bytes(rest[:2], 'big'):
        end = 2 + int.from_bytes(rest[:2], 'big')
        expected.append(rest[2:end])
        rest = rest[end:]
    assert taken == expected
    assert frames.incoming == rest


@fuzzed(
    b'\1' * 4 + b'\x15\3\3\0\2\2\x28',
    b'\xff' * 4 + b'\x16\3\3\0\x2a\2\0\0\x26\3\3' + bytes(35) + b'\x13\1',
    b'\xff' * 4 + b'HTTP/1.1 400 Bad Request\r\n\r\n',
)
def fuzz_tls(octets):
    """Whatever comes where TLS is expected, all there may be is OSError."""
    stream = module.Tls(module.tls_context(False, 'h2'), 'dns.example', 'h2')
    assert stream.wrap(b'query').startswith(b'\x16\3')
    with contextlib.suppress(OSError):
        for piece in pieces_of(octets):
            assert stream.unwrap(piece) == b''
    assert b'query' not in stream.wrap(b'')
    assert stream.end() == b''


def http_session(reply=REPLY, fields=(), end=None):
    """What a server sends to one that asks three queries."""
    asker = http_asker()
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    for event in server.receive_data(asker.to_send()):
        if isinstance(event, StreamEnded):
            if end is not None:
                end(server, event.stream_id)
                continue
            fields_sent = [(':status', '200'), ('content-type', DNS_MESSAGE), *fields]
            server.send_headers(event.stream_id, fields_sent)
            server.send_data(event.stream_id, reply[:20])
            server.send_data(event.stream_id, reply[20:], end_stream=True, pad_length=3)
    return server.data_to_send()


def http_asker():
    asker = module.Http('192.0.2.1', '/dns-query', True)
    for octets in (REQUEST, REQUEST[:40], REQUEST[:30]):
        asker.pack(octets)
    asker.unsent[-1].method, asker.unsent[-1].body = 'GET', b''
    return asker


@fuzzed(
    b'\xff' * 4 + http_session(),
    b'\5\x20\xff\2' + http_session(fields=[('age', '100'), ('x', 'y' * 20)]),
    *[b'\xff\1\xff\xff' + http_session(end=resetting(code)) for code in (0, 7, 8)],
    b'\xff' * 4 + http_session(end=going_away),
    b'\xff' * 4 + http_session(end=lambda server, at: server.ping(bytes(8))),
)
def fuzz_http(octets):
    """Whatever a server sends, each query has one outcome at most, and no error is another's."""
    asker = http_asker()
    asker.to_send()
    ended = []
    with contextlib.suppress(OSError):
        for number, piece in enumerate(pieces_of(octets)):
            for key, outcome in asker.take(piece):
                assert isinstance(outcome, bytes | BadResponse | OSError)
                ended.append(key)
            asker.to_send()
            if number == octets[0]:
                for key in [*asker.exchanges.values()][:1]:
                    assert asker.give_up(key)
                    ended.append(key)
    assert len(set(ended)) == len(ended)
    assert all(number == each.stream_id for number, each in asker.exchanges.items())
    assert not set(ended) & {*asker.exchanges.values(), *asker.unsent}


@pytest.mark.long
@pytest.mark.parametrize('name', FUZZED)
def test_fuzzing_finds_nothing(name):
    fuzzer = Fuzzer(name, 17)
    for _ in range(500):
        fuzzer.go_on()


if __name__ == '__main__':
    match sys.argv[1:]:
        case ['fuzz', seconds, *names]:
            sys.exit(fuzz(float(seconds), names) > 0)
    sys.exit('Usage: python test_aiodnsresolver.py fuzz SECONDS [TARGET...]')
