"""Measures the CPU time of a query, side by side with that of others.

    python bench_aiodnsresolver.py [WORKLOAD...] [--peers PEER,...] [--rounds N] [--json FILE]

The nameserver is an Unbound of its own, on a loopback port and another core. The peers take turns
round by round, every answer is checked, and what counts is the median of the rounds. The floor is
what the same work costs at least in asyncio, without any DNS logic.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from aiodnsresolver import TYPES, Resolver, make_query, pack, parse

ADDRESS = IPv4Address('192.0.2.1')
SECONDS = 60  # for a round: a lost answer of a peer without timeouts must not stop the rest
UNBOUND_CONF = """\
server:
    interface: 127.0.0.1
    port: {port}
    do-tcp: no
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
remote-control:
    control-enable: no
"""


# --- The peers ---------------------------------------------------------------


class Peer(NamedTuple):
    """One way to ask. `prepare` is done before the clock starts, `read` after it has stopped."""

    ask: Callable[[Any, Any], Any]
    qtype: Any
    prepare: Callable[[str], Any]
    read: Callable[[Any], object]  # the addresses, as a list


Open = Callable[[int], AbstractAsyncContextManager[Peer]]


@asynccontextmanager
async def open_ours(port: int) -> AsyncIterator[Peer]:
    """This module."""
    nameserver = IPv4Address('127.0.0.1'), port

    async def get_host(fqdn: bytes, qtype: int) -> None:
        return None

    async def get_nameservers(fqdn: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
        for _ in range(5):
            yield 2.0, nameserver

    resolve, clear_cache = Resolver(get_host, get_nameservers)
    yield Peer(resolve, TYPES.A, str, list)
    clear_cache()


@asynccontextmanager
async def open_aiodns(port: int) -> AsyncIterator[Peer]:
    """c-ares, by pycares and aiodns."""
    import aiodns

    def read(reply: Any) -> list[IPv4Address]:
        return [IPv4Address(record.data.addr) for record in reply.answer]

    resolver = aiodns.DNSResolver(nameservers=['127.0.0.1'], udp_port=port, timeout=2.0)
    yield Peer(resolver.query_dns, 'A', str, read)
    await resolver.close()


@asynccontextmanager
async def open_socket_floor(port: int) -> AsyncIterator[Peer]:
    """A fresh connected socket per query in an epoll of its own, and no DNS logic or timeout."""
    loop = asyncio.get_running_loop()
    epoll = select.epoll()
    waiting: dict[int, tuple[socket.socket, asyncio.Future[bytes]]] = {}

    def drain() -> None:
        for fd, _ in epoll.poll(0):
            sock, reply = waiting[fd]
            reply.set_result(sock.recv(65535))

    async def ask(query: bytes, qtype: None) -> bytes:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_UDP)
        sock.connect(('127.0.0.1', port))
        fd = sock.fileno()
        reply = loop.create_future()
        waiting[fd] = sock, reply
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        sock.send(query)
        octets: bytes = await reply
        del waiting[fd]
        sock.close()
        return octets

    loop.add_reader(epoll.fileno(), drain)
    yield Peer(ask, None, query_octets, lambda reply: [r.rdata for r in parse(reply).an])
    loop.remove_reader(epoll.fileno())
    epoll.close()
    for sock, _ in waiting.values():  # of answers that never came
        sock.close()


@asynccontextmanager
async def open_dict_floor(port: int) -> AsyncIterator[Peer]:
    """An awaited coroutine that does one look-up in a dict and reads the loop's clock once."""
    get_running_loop = asyncio.get_running_loop
    cache: dict[tuple[str, int], tuple[float, list[IPv4Address]]] = {}

    async def ask(name: str, qtype: int) -> list[IPv4Address]:
        expires_at, addresses = cache[name, qtype]
        if expires_at > get_running_loop().time():
            return addresses
        raise TimeoutError

    def prepare(name: str) -> str:
        cache[name, TYPES.A] = float('inf'), [ADDRESS]
        return name

    yield Peer(ask, TYPES.A, prepare, list)


@asynccontextmanager
async def open_parser(port: int) -> AsyncIterator[Peer]:
    """This module's `parse`, which does not await: for `time_calls`."""
    yield Peer(parse, False, reply_octets, lambda reply: [r.rdata for r in reply.an])


def query_octets(name: str) -> bytes:
    """Returns a query without EDNS."""
    return pack(make_query(name, TYPES.A, payload=None))


def reply_octets(name: str) -> bytes:
    """Returns an answer with one A, as a nameserver packs it."""
    query = query_octets(name)
    record = b'\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04' + ADDRESS.packed
    return query[:2] + b'\x81\x80\0\1\0\1\0\0\0\0' + query[12:] + record


# --- The workloads -----------------------------------------------------------


# CPU seconds of this process, all threads, and the answers: an exception where there is none.
Timed = tuple[float, list[Any]]


async def time_at_once(peer: Peer, names: list[str], at_once: int) -> Timed:
    """Asks for each name once, so many at a time."""
    remaining = iter([peer.prepare(name) for name in names])
    answers: list[Any] = []

    async def work() -> None:
        for name in remaining:
            try:
                answers.append(await peer.ask(name, peer.qtype))
            except Exception as error:
                answers.append(error)

    gc.collect()
    start = time.process_time()
    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    _, late = await asyncio.wait(tasks, timeout=SECONDS)
    seconds = time.process_time() - start
    for task in late:
        task.cancel()
    return seconds, answers


async def time_cached(peer: Peer, names: list[str], at_once: int) -> Timed:
    """Asks for one name so many times, after it has been asked for once."""
    name, qtype, ask = peer.prepare(names[0]), peer.qtype, peer.ask
    await ask(name, qtype)
    gc.collect()
    start = time.process_time()
    answers = [await ask(name, qtype) for _ in names]
    return time.process_time() - start, answers


async def time_calls(peer: Peer, names: list[str], at_once: int) -> Timed:
    """Calls a plain function so many times."""
    argument, call, option = peer.prepare(names[0]), peer.ask, peer.qtype
    gc.collect()
    start = time.process_time()
    for _ in names:
        call(argument, option)
    seconds = time.process_time() - start
    # Again, for the check: to keep all the answers would be measured too.
    return seconds, [call(argument, option) for _ in names]


class Workload(NamedTuple):
    """What is measured: of so many queries in a round, by which peers."""

    queries: int
    at_once: int
    time: Callable[[Peer, list[str], int], Awaitable[Timed]]
    peers: dict[str, Open]


BY_SOCKET: dict[str, Open] = dict(ours=open_ours, aiodns=open_aiodns, floor=open_socket_floor)
WORKLOADS = {
    'cold-1': Workload(2000, 1, time_at_once, BY_SOCKET),
    'cold-100': Workload(4000, 100, time_at_once, BY_SOCKET),
    'cold-1000': Workload(4000, 1000, time_at_once, BY_SOCKET),
    'cached': Workload(20_000, 1, time_cached, BY_SOCKET | {'floor': open_dict_floor}),
    'parse': Workload(20_000, 1, time_calls, {'ours': open_parser}),
}


class Result(NamedTuple):
    """CPU microseconds per query of each round, and how many answers were right."""

    rounds: list[float]
    correct: int
    asked: int


def is_correct(peer: Peer, answer: Any) -> bool:
    """Whether an answer is the one address."""
    return not isinstance(answer, Exception) and peer.read(answer) == [ADDRESS]


async def run_round(workload: Workload, open_peer: Open, port: int, tag: str) -> Result:
    """Returns one round of one peer. The names are new: nobody's cache knows them."""
    names = [f'{tag}-{number}.bench' for number in range(workload.queries)]
    async with open_peer(port) as peer:
        seconds, answers = await workload.time(peer, names, workload.at_once)
        correct = sum(is_correct(peer, answer) for answer in answers)
    return Result([seconds / len(names) * 1e6], correct, len(names))


def run_workload(name: str, peers: list[str], rounds: int, port: int) -> dict[str, Result]:
    """Returns the results by peer, who take turns; the first of a round is another each time."""
    workload = WORKLOADS[name]
    results = {peer: Result([], 0, 0) for peer in peers}
    for number in range(rounds):
        for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
            tag = f'{name}-{peer}-{number}'
            one = asyncio.run(run_round(workload, workload.peers[peer], port, tag))
            rounds_of, correct, asked = results[peer]
            results[peer] = Result(
                rounds_of + one.rounds, correct + one.correct, asked + one.asked
            )
    return results


# --- The nameserver ----------------------------------------------------------


def pick_cores(pin: bool) -> tuple[set[int], set[int]]:
    """Returns the cores of the nameserver and ours: two different ones, or all for both."""
    if not pin or not hasattr(os, 'sched_getaffinity'):
        return set(), set()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print('Not pinned: there is only one core')
        return set(), set()
    return {cores[0]}, {cores[-1]}


def free_port() -> int:
    """Returns a UDP port of the loopback that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('127.0.0.1', 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for_server(server: subprocess.Popen[bytes], port: int) -> None:
    """Returns once the nameserver answers, or ends the program."""
    query = query_octets('ready.bench')
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.1)
            try:
                sock.connect(('127.0.0.1', port))
                sock.send(query)
                sock.recv(512)
                return
            except OSError:  # not yet: refused, or no answer
                time.sleep(0.05)
        if server.poll() is not None:
            break
    sys.exit('Unbound did not start')


@contextmanager
def start_server(cores: set[int]) -> Iterator[int]:
    """Yields the port of an Unbound that answers everything below `bench.`, and ends it after."""
    binary = shutil.which('unbound', path=os.environ.get('PATH', '') + ':/usr/sbin')
    if binary is None:
        sys.exit('There is no unbound: install the Debian package of that name')
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, 'unbound.conf')
        config.write_text(UNBOUND_CONF.format(port=port, folder=folder))
        if cores:  # inherited by all its threads
            os.sched_setaffinity(0, cores)
        server = subprocess.Popen([binary, '-d', '-c', str(config)], stderr=subprocess.DEVNULL)
        try:
            wait_for_server(server, port)
            yield port
        finally:
            server.terminate()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


# --- The program -------------------------------------------------------------


def print_table(name: str, results: dict[str, Result]) -> None:
    """Prints a workload's results, with the ratio to ours."""
    medians = {peer: statistics.median(result.rounds) for peer, result in results.items()}
    print(f'\n{name}: {WORKLOADS[name].queries} queries a round')
    print(f'{"peer":10}{"CPU us/query":>14}{"ratio":>8}{"least":>9}{"most":>9}  correct')
    for peer, (rounds, correct, asked) in results.items():
        ratio = f'{medians[peer] / medians["ours"]:8.2f}' if 'ours' in medians else f'{"-":>8}'
        spread = f'{min(rounds):9.2f}{max(rounds):9.2f}'
        print(f'{peer:10}{medians[peer]:14.2f}{ratio}{spread}  {correct} of {asked}', flush=True)


def parse_arguments() -> argparse.Namespace:
    """Returns the command line, understood."""
    parser = argparse.ArgumentParser(description='CPU time of DNS queries in asyncio')
    parser.add_argument('workloads', nargs='*', metavar='WORKLOAD', help=', '.join(WORKLOADS))
    parser.add_argument('--peers', default=','.join(BY_SOCKET), help='default: %(default)s')
    parser.add_argument('--rounds', type=int, default=7, help='default: %(default)s')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the results there too')
    parser.add_argument('--no-pin', action='store_true', help='leave the cores to the system')
    arguments = parser.parse_args()
    arguments.peers = arguments.peers.split(',')
    arguments.workloads = arguments.workloads or list(WORKLOADS)
    unknown = {*arguments.workloads} - {*WORKLOADS} | {*arguments.peers} - {*BY_SOCKET}
    if unknown or arguments.rounds < 1:
        parser.error(f'unknown: {", ".join(sorted(unknown))}' if unknown else 'no rounds')
    return arguments


def present_peers(peers: list[str]) -> list[str]:
    """Returns the peers that are there, and prints which are not."""
    if 'aiodns' in peers and importlib.util.find_spec('aiodns') is None:
        print('aiodns is missing: pip install aiodns')
        peers = [peer for peer in peers if peer != 'aiodns']
    return peers


def main() -> int:
    """Runs the workloads, and returns the exit status: 1 if an answer was wrong or missing."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended too
    peers = present_peers(arguments.peers)
    servers, ours = pick_cores(not arguments.no_pin)
    print(f'Python {platform.python_version()}, {arguments.rounds} rounds')
    results: dict[str, dict[str, Result]] = {}
    with start_server(servers) as port:
        if ours:
            os.sched_setaffinity(0, ours)
        for name in arguments.workloads:
            able = [peer for peer in peers if peer in WORKLOADS[name].peers]
            if able != peers:
                print(f'\n{name} is nothing for: {", ".join(p for p in peers if p not in able)}')
            if able:
                results[name] = run_workload(name, able, arguments.rounds, port)
                print_table(name, results[name])
    if arguments.json:
        table = {
            name: {peer: one._asdict() for peer, one in row.items()}
            for name, row in results.items()
        }
        arguments.json.write_text(json.dumps(table, indent=1) + '\n')
    return int(any(one.correct < one.asked for row in results.values() for one in row.values()))


if __name__ == '__main__':
    sys.exit(main())
