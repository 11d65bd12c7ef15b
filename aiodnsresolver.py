"""Asynchronous DNS for asyncio: pure Python, no dependency, no threads, no background tasks.

    from aiodnsresolver import Resolver, TYPES

    resolve, clear_cache = Resolver()
    addresses = await resolve('www.example.com', TYPES.A)

The map. A section uses only those above it, and so does a definition.

     1  Opening                   imports, __all__
     2  Numbers                   TYPES, CLASSES, OPCODES, RCODES, EDNS_OPTIONS, EDE; the limits
     3  Errors                    ResolverError and its kin
     4  Messages                  the named tuples; values that know when they expire
     5  Octets                    names, read and written
     6  Fields                    the kinds of field that rdata is made of
     7  Records                   one table: a row a type
     8  Wire                      pack, parse, presentation
     9  Questions and answers     make_query, mix_case, what answers a query and what it says
    12  HTTP                      what DNS over HTTPS says, by the extra that speaks HTTP/2
    13  The system's files        resolv.conf and hosts
        ------------------------- nothing above this line awaits
    14  Waiting                   sockets, timeouts, turns: all that a loop is asked for
    15  Transports                datagrams and streams, plain and TLS, to a nameserver
    16  Queries                   udp, tcp, tls, https: short doors to the two exchanges
    18  Cache                     answers by TTL; one flight for many
    19  Resolver                  asking, following aliases, Resolver
    20  Guests                    aiohttp's resolver, made when it is first asked for
    21  Command line              python -m aiodnsresolver

The upper half never awaits; the lower half never looks inside an octet.
"""

# --- 1. Opening --------------------------------------------------------------

from __future__ import annotations

import asyncio
import binascii
import errno
import functools
import itertools
import logging
import operator
import os
import re
import select
import socket
import struct
import sys
import time
from collections import OrderedDict, deque, namedtuple
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Protocol, overload
from weakref import WeakKeyDictionary

__all__ = [
    'CLASSES',
    'EDE',
    'EDNS_OPTIONS',
    'OPCODES',
    'QUESTION',
    'RCODES',
    'RESPONSE',
    'TYPES',
    'BadResponse',
    'BadSignature',
    'BytesExpiresAt',
    'CnameChainTooLong',
    'DoesNotExist',
    'ExtendedError',
    'IPv4AddressExpiresAt',
    'IPv6AddressExpiresAt',
    'InvalidName',
    'MalformedMessage',
    'Message',
    'MissingDependency',
    'QueryTimeout',
    'QuestionRecord',
    'Resolver',
    'ResolverError',
    'ResourceRecord',
    'ResponseCode',
    'SocketError',
    'TransferError',
    'Truncated',
    'TupleExpiresAt',
    'UnexpectedSource',
    'extended_errors',
    'get_host_from_etc_hosts',
    'get_nameservers_from_etc_resolve_conf',
    'https',
    'make_query',
    'mix_case',
    'pack',
    'parse',
    'presentation',
    'receive_tcp',
    'receive_udp',
    'send_tcp',
    'send_udp',
    'tcp',
    'tls',
    'udp',
    'udp_with_fallback',
]

logger = logging.getLogger('aiodnsresolver')


# --- 2. Numbers --------------------------------------------------------------
#
# The IANA registries, and every limit of the module with its reason. A number
# without a mnemonic stays a plain int.


class Mnemonic(IntEnum):
    """A number that prints as its mnemonic."""

    def __str__(self) -> str:
        return self.name.replace('_', '-')

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


class TYPES(Mnemonic):
    """Types of records (IANA "Resource Record (RR) TYPEs")."""

    A = 1
    NS = 2
    MD = 3
    MF = 4
    CNAME = 5
    SOA = 6
    MB = 7
    MG = 8
    MR = 9
    NULL = 10
    WKS = 11
    PTR = 12
    HINFO = 13
    MINFO = 14
    MX = 15
    TXT = 16
    RP = 17
    AFSDB = 18
    X25 = 19
    ISDN = 20
    RT = 21
    NSAP = 22
    NSAP_PTR = 23
    SIG = 24
    KEY = 25
    PX = 26
    GPOS = 27
    AAAA = 28
    LOC = 29
    SRV = 33
    NAPTR = 35
    KX = 36
    CERT = 37
    DNAME = 39
    OPT = 41
    APL = 42
    DS = 43
    SSHFP = 44
    IPSECKEY = 45
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    DHCID = 49
    NSEC3 = 50
    NSEC3PARAM = 51
    TLSA = 52
    SMIMEA = 53
    HIP = 55
    NINFO = 56
    CDS = 59
    CDNSKEY = 60
    OPENPGPKEY = 61
    CSYNC = 62
    ZONEMD = 63
    SVCB = 64
    HTTPS = 65
    DSYNC = 66
    SPF = 99
    NID = 104
    L32 = 105
    L64 = 106
    LP = 107
    EUI48 = 108
    EUI64 = 109
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255
    URI = 256
    CAA = 257
    AVC = 258
    AMTRELAY = 260
    RESINFO = 261
    WALLET = 262
    DLV = 32769


class CLASSES(Mnemonic):
    """Classes of records (IANA "DNS CLASSes")."""

    IN = 1
    CH = 3
    HS = 4
    NONE = 254
    ANY = 255


class OPCODES(Mnemonic):
    """Kinds of query (IANA "DNS OpCodes")."""

    QUERY = 0
    IQUERY = 1
    STATUS = 2
    NOTIFY = 4
    UPDATE = 5
    DSO = 6


class RCODES(Mnemonic):
    """Response codes (IANA "DNS RCODEs"); those above 15 need EDNS or TSIG."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10
    DSOTYPENI = 11
    BADVERS = 16
    BADKEY = 17
    BADTIME = 18
    BADMODE = 19
    BADNAME = 20
    BADALG = 21
    BADTRUNC = 22
    BADCOOKIE = 23


class EDNS_OPTIONS(Mnemonic):
    """Options of EDNS (IANA "DNS EDNS0 Option Codes (OPT)")."""

    LLQ = 1
    UPDATE_LEASE = 2
    NSID = 3
    DAU = 5
    DHU = 6
    N3U = 7
    ECS = 8
    EXPIRE = 9
    COOKIE = 10
    TCP_KEEPALIVE = 11
    PADDING = 12
    CHAIN = 13
    KEY_TAG = 14
    EDE = 15
    CLIENT_TAG = 16
    SERVER_TAG = 17
    REPORT_CHANNEL = 18
    ZONEVERSION = 19
    MQTYPE_QUERY = 20
    MQTYPE_RESPONSE = 21
    EDE_EXTRA_TEXT_LANGUAGE = 22
    FILTERING_CONTACT = 23
    FILTERING_ORGANIZATION = 24
    FILTERING_DB = 25
    UMBRELLA_IDENT = 20292
    DEVICEID = 26946


class EDE(Mnemonic):
    """What was wrong (RFC 8914 5.2, IANA "Extended DNS Error Codes")."""

    OTHER = 0
    UNSUPPORTED_DNSKEY_ALGORITHM = 1
    UNSUPPORTED_DS_DIGEST_TYPE = 2
    STALE_ANSWER = 3
    FORGED_ANSWER = 4
    DNSSEC_INDETERMINATE = 5
    DNSSEC_BOGUS = 6
    SIGNATURE_EXPIRED = 7
    SIGNATURE_NOT_YET_VALID = 8
    DNSKEY_MISSING = 9
    RRSIGS_MISSING = 10
    NO_ZONE_KEY_BIT_SET = 11
    NSEC_MISSING = 12
    CACHED_ERROR = 13
    NOT_READY = 14
    BLOCKED = 15
    CENSORED = 16
    FILTERED = 17
    PROHIBITED = 18
    STALE_NXDOMAIN_ANSWER = 19
    NOT_AUTHORITATIVE = 20
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23
    INVALID_DATA = 24
    SIGNATURE_EXPIRED_BEFORE_VALID = 25
    TOO_EARLY = 26
    UNSUPPORTED_NSEC3_ITERATIONS_VALUE = 27
    UNABLE_TO_CONFORM_TO_POLICY = 28
    SYNTHESIZED = 29
    INVALID_QUERY_TYPE = 30
    RATE_LIMITED = 31
    OVER_QUOTA = 32


QUESTION = 0
RESPONSE = 1

TYPE_OF: dict[int, int] = {number.value: number for number in TYPES}
CLASS_OF: dict[int, int] = {number.value: number for number in CLASSES}
OPCODE_OF: dict[int, int] = {number.value: number for number in OPCODES}
RCODE_OF: dict[int, int] = {number.value: number for number in RCODES}
EDNS_OPTION_OF: dict[int, int] = {number.value: number for number in EDNS_OPTIONS}
EDE_OF: dict[int, int] = {number.value: number for number in EDE}

# Types that are no data of a name: OPT, 0 (RFC 6895), and the QTYPEs and meta-types from 249 on.
UNRESOLVABLE = frozenset({0, TYPES.OPT, *range(249, 256)})

MAX_LABEL = 63  # RFC 1035 2.3.4
MAX_NAME = 255  # RFC 1035 2.3.4, length octets and root included
MAX_PRESENTATION = 4 * MAX_NAME  # each octet written \DDD
MAX_MESSAGE = 65535  # RFC 1035 4.2.2: what the length prefix can say
MAX_EXTRA_TEXT = 240  # octets of the text of an extended error: some lines are enough
MAX_EXTENDED_ERRORS = 3  # in the text of an exception
PAYLOAD = 1232  # octets: fits in a packet of IPv6's least MTU (DNS flag day 2020)
MAX_TTL = 7 * 24 * 3600  # RFC 8767 4: seven days is plenty
MAX_NEGATIVE_TTL = 3 * 3600  # RFC 2308 5: one to three hours work well
MAX_CNAMES = 20  # longer than any chain in use; c-ares and Unbound stop near 10
MAX_CACHED = 10_000  # answers in one cache: some 10 MB
MAX_SETS = 100  # of nameservers, of one get_nameservers, in one resolution
MAX_SEARCH = 32  # domains of a search list: what Kubernetes allows a pod; each may cost a query
MAX_TIMEOUT = 24 * 3600.0  # a longer one is a mistake, and an infinite one breaks timers
MAX_FAILURES = 2  # a nameserver that failed is asked once more
MAX_OPEN = 2000  # sockets of one loop; beyond it the kernel's port search slows
MAX_SELECTED = 512  # sockets for which select(2) can wait on Windows
GLANCE_SECONDS = 0.01  # between two looks at a socket for which a loop cannot wait
MAX_UNASKED = 16  # messages of a stream that nobody asked for: a flood of them stops the loop
MAX_PIECE = 1 << 14  # octets of HTTP that are taken at once, as large as a frame may be
MAX_READS = 16  # datagrams of one socket before others have their turn
FOLDING_SECONDS = 600.0  # for how long a nameserver is known to fold letter case
PLAIN_SECONDS = 600.0  # for how long a nameserver is asked without EDNS that does not bear it
MAX_DOUBT = 3  # times that only a query without EDNS was answered, before it is loss no more
IDLE_SECONDS = 10.0  # for how long a stream is kept that nothing is asked on (RFC 7766 6.2.3)
MAX_IDLE = 120.0  # the same where the nameserver says for how long (RFC 7828)
ALPN = {'tls': 'dot', 'https': 'h2'}  # what is to be spoken over TLS: RFC 7858 3.1, RFC 8484 5.2
PADDED_TO = 128  # octets of a query that others must not know (RFC 8467 4.1)
SILENT_SECONDS = 1.5  # after that, a stream on which nothing has come is not used any more
MAX_OUTGOING = 1 << 24  # octets that a stream has to send
MAX_VAIN = 1 << 17  # octets of HTTP that bring no reply: each frame of a few octets costs time
MAX_STREAMS = 100  # of HTTP/2 at once: all servers should bear as many (RFC 9113 6.5.2)
MAX_GIVEN_UP = 1000  # queries of a stream that were given up and never answered
DOWN_SECONDS = 30.0  # for how long a nameserver that gave no reply is put aside
PROBE_SECONDS = 2.0  # after that, how long one query has to find out before the next may try
MAX_SERVERS = 1000  # nameservers of which that is known
DESCRIPTOR_PAUSE = 0.05  # seconds between two tries when there is no free descriptor
MAX_STALE = 366 * 24 * 3600.0  # seconds: a longer time is a mistake, or no float at all
STALE_SECONDS = 30.0  # RFC 8767 4: for how long an expired answer is given anew
STAT_SECONDS = 2.0  # between two looks at whether a file of the system's has changed


# --- 3. Errors ---------------------------------------------------------------
#
# Everything that a public function raises, save TypeError for an argument of the
# wrong type, CancelledError, and what a callable of the caller's raised. The
# first argument is the text; all else is an attribute, so that copies are whole.


class ResolverError(Exception):
    """What all errors of this module are."""


class InvalidName(ResolverError, ValueError):
    """The name, or the type, cannot be asked for. Nothing was sent."""


class DoesNotExist(ResolverError):
    """There is no such name (`rcode` NXDOMAIN), or no such record of it (`rcode` NOERROR)."""

    def __init__(self, text: str = '', rcode: int = RCODES.NXDOMAIN) -> None:
        super().__init__(text)
        self.rcode = rcode


class QueryTimeout(ResolverError, TimeoutError):
    """No usable reply came in time. `__cause__` is the last thing that was dropped, if any."""


class SocketError(ResolverError, OSError):
    """The operating system refused: `errno`, and `__cause__` the original."""


class ResponseCode(ResolverError):
    """The server answered with an error: `rcode`."""

    def __init__(self, text: str = '', rcode: int = RCODES.SERVFAIL) -> None:
        super().__init__(text)
        self.rcode = rcode


class MalformedMessage(ResolverError, ValueError):
    """Octets that are no DNS message, or a message that cannot be put in octets."""


class BadResponse(ResolverError):
    """A message, but no answer to this query; over HTTP, or no message, and `status` tells."""

    def __init__(self, text: str = '', status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class UnexpectedSource(ResolverError):
    """A datagram from elsewhere than the server asked."""


class Truncated(ResolverError):
    """The reply was cut (TC): `message` is what there was of it."""

    def __init__(self, text: str = '', message: Message | None = None) -> None:
        super().__init__(text)
        self.message = message


class CnameChainTooLong(ResolverError):
    """The name is an alias of an alias, and so on, more than 20 times."""


class BadSignature(ResolverError):
    """The key, the time or the MAC of a transaction signature is wrong."""


class TransferError(ResolverError):
    """A zone transfer failed: `rcode` where the server gave one."""

    def __init__(self, text: str = '', rcode: int | None = None) -> None:
        super().__init__(text)
        self.rcode = rcode


class MissingDependency(ResolverError, ImportError):
    """An extra is not installed; the text says which."""


# --- 4. Messages -------------------------------------------------------------
#
# Values only: what a message is made of, and answers that know when they expire.
# Nothing here knows octets or time.


class QuestionRecord(NamedTuple):
    """An entry of the question section (RFC 1035 4.1.2)."""

    name: bytes
    qtype: int
    qclass: int


class ResourceRecord(NamedTuple):
    """A resource record (RFC 1035 4.1.3); the table in section 7 says what `rdata` is."""

    name: bytes
    qtype: int
    qclass: int
    ttl: int  # seconds, 32 bits as on the wire
    rdata: Any


class Message(NamedTuple):
    """A DNS message, its fields as in RFC 1035 4.1."""

    qid: int
    qr: int  # QUESTION or RESPONSE
    opcode: int
    aa: int
    tc: int
    rd: int
    ra: int
    z: int  # three bits: zero, AD, CD
    rcode: int  # the header's four bits
    qd: tuple[QuestionRecord, ...]
    an: tuple[ResourceRecord, ...]
    ns: tuple[ResourceRecord, ...]
    ar: tuple[ResourceRecord, ...]

    @property
    def ad(self) -> bool:
        """Authentic data (RFC 4035 3.1.6)."""
        return bool(self.z & 2)

    @property
    def cd(self) -> bool:
        """Checking disabled (RFC 4035 3.1.6)."""
        return bool(self.z & 1)

    @property
    def edns(self) -> ResourceRecord | None:
        """The OPT record (RFC 6891 6.1), or None."""
        return next((record for record in self.ar if record.qtype == TYPES.OPT), None)

    @property
    def extended_rcode(self) -> int:
        """The response code with the eight upper bits of EDNS (RFC 6891 6.1.3)."""
        edns = self.edns
        code = self.rcode if edns is None else edns.ttl >> 24 << 4 | self.rcode
        return RCODE_OF.get(code, code)


class ExtendedError(NamedTuple):
    """What a server says of what was wrong (RFC 8914). The text is its own: show it, no more."""

    info_code: int  # of EDE where it has a mnemonic
    extra_text: str  # bounded, its control characters escaped

    def __str__(self) -> str:
        return f'{self.info_code!s}: {self.extra_text}'.removesuffix(': ')


class IPv4AddressExpiresAt(IPv4Address):
    """An IPv4Address with `expires_at`, in seconds on the clock of `loop.time()`."""

    __slots__ = ('expires_at',)

    def __init__(self, address: IPv4Address | str | int | bytes, expires_at: float) -> None:
        if isinstance(address, IPv4Address):
            address = int(address)
        IPv4Address.__init__(self, address)
        self.expires_at = expires_at

    def __add__(self, other: int) -> IPv4AddressExpiresAt:
        return type(self)(int(self) + other, self.expires_at)

    def __sub__(self, other: int) -> IPv4AddressExpiresAt:
        return type(self)(int(self) - other, self.expires_at)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (int(self), self.expires_at)


class IPv6AddressExpiresAt(IPv6Address):
    """An IPv6Address with `expires_at`, in seconds on the clock of `loop.time()`."""

    __slots__ = ('expires_at',)

    def __init__(self, address: IPv6Address | str | int | bytes, expires_at: float) -> None:
        # By its text only if there is a scope, which no number has.
        if isinstance(address, IPv6Address):
            address = str(address) if address.scope_id else int(address)
        IPv6Address.__init__(self, address)
        self.expires_at = expires_at

    def __add__(self, other: int) -> IPv6AddressExpiresAt:
        return type(self)(int(self) + other, self.expires_at)

    def __sub__(self, other: int) -> IPv6AddressExpiresAt:
        return type(self)(int(self) - other, self.expires_at)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.expires_at)


class BytesExpiresAt(bytes):
    """Rdata that is a name or plain octets, with `expires_at` (seconds, `loop.time()`)."""

    expires_at: float

    def __new__(cls, value: bytes, expires_at: float) -> BytesExpiresAt:
        self = super().__new__(cls, value)
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self), self.expires_at)


class TupleExpiresAt(tuple[Any, ...]):
    """Rdata that is a tuple, as of TXT, with `expires_at` (seconds, `loop.time()`)."""

    expires_at: float

    def __new__(cls, value: Iterable[Any], expires_at: float) -> TupleExpiresAt:
        self: TupleExpiresAt = tuple.__new__(cls, value)
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), self.expires_at)


class RecordExpiresAt(TupleExpiresAt):
    """Rdata that is a named tuple, with `expires_at` (seconds, `loop.time()`)."""

    def _replace(self, /, **fields: Any) -> RecordExpiresAt:
        values = super()._replace(**fields)  # type: ignore[misc]
        return type(self)(values, self.expires_at)

    def __replace__(self, /, **fields: Any) -> RecordExpiresAt:
        return self._replace(**fields)


# By the class of an rdata: its counterpart that expires. Section 7 adds the named tuples.
EXPIRING: dict[type, Callable[[Any, float], Any]] = {
    IPv4Address: IPv4AddressExpiresAt,
    IPv6Address: IPv6AddressExpiresAt,
    bytes: BytesExpiresAt,
    tuple: TupleExpiresAt,
}
EXPIRING |= {kind: kind for kind in EXPIRING.values()}  # type: ignore[misc]


def expiring(rdata: Any, expires_at: float) -> Any:
    """Returns `rdata` as an instance of the subclass that has `expires_at`."""
    return EXPIRING[type(rdata)](rdata, expires_at)


# --- 5. Octets ---------------------------------------------------------------
#
# A name is labels on the wire and bytes in presentation form everywhere else.
# Reading is linear: where a label starts, the rest of the name is remembered by
# that offset and never walked again. Reading past the end is IndexError or
# struct.error here, and MalformedMessage in section 8, in one place.

Names = dict[int, tuple[bytes, int]]  # by offset: the name there, and its length on the wire
# By a name's octets, or by a name and a dot: the offset where it was written.
Suffixes = dict[bytes, int]

PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b'.\\')
ESCAPES = {octet: b'\\%03d' % octet for octet in range(256) if octet not in PLAIN} | {
    octet: b'\\%c' % octet for octet in b'.\\'
}
LENGTH_OCTET = [bytes([length]) for length in range(256)]
HOST_NAME = re.compile(rb'(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?')  # most names
TOKEN = re.compile(rb'\\([0-9]{3}|[^0-9])|([^\\])', re.DOTALL)
IDNA_DOTS = re.compile('[.\u3002\uff0e\uff61]')  # RFC 3490 3.1
IDNA_DEVIATIONS = frozenset('\u00df\u1e9e\u03c2\u200c\u200d')  # sharp s, final sigma, joiners
LETTERS_DIGITS_HYPHEN = re.compile(rb'[A-Za-z0-9_-]+')


def escape_label(label: bytes) -> bytes:
    """Returns a label in presentation form (RFC 1035 5.1)."""
    if label.isalnum() or not label.translate(None, PLAIN):
        return label
    return b''.join([ESCAPES.get(octet) or LENGTH_OCTET[octet] for octet in label])


def split_escaped_name(name: bytes) -> list[bytes]:
    """Returns the labels of a name that has a backslash in it. Raises InvalidName."""
    labels = [bytearray()]
    end = 0
    for token in TOKEN.finditer(name):
        escaped, plain = token.groups()
        if token.start() != end or (escaped and len(escaped) == 3 and int(escaped) > 255):
            break
        end = token.end()
        if plain == b'.':
            labels.append(bytearray())
        else:
            labels[-1] += plain or (escaped if len(escaped) == 1 else bytes([int(escaped)]))
    if end != len(name):
        raise InvalidName(f'There is a bad escape in {name!r}')
    return [bytes(label) for label in labels]


def split_name(name: bytes) -> list[bytes]:
    """Returns the labels of a name in presentation form, as on the wire; none for the root.

    Takes every spelling of RFC 1035 5.1 and a final dot. Raises InvalidName.
    """
    if len(name) > MAX_PRESENTATION:
        raise InvalidName(f'A name of {len(name)} octets is too long: {name[:32]!r}...')
    labels = name.split(b'.') if b'\\' not in name else split_escaped_name(name)
    if not labels[-1]:  # the root, or a final dot
        del labels[-1]
    lengths = [*map(len, labels)]
    if not lengths:
        return labels
    if 0 in lengths:
        if name == b'.':
            return []
        raise InvalidName(f'There is an empty label in {name!r}')
    if max(lengths) > MAX_LABEL:
        raise InvalidName(f'There is a label of more than {MAX_LABEL} octets in {name!r}')
    if sum(lengths) + len(lengths) >= MAX_NAME:
        raise InvalidName(f'There are more than {MAX_NAME} octets in {name!r}')
    return labels


def idna_label(label: str) -> bytes:
    """Returns a label as it is if ASCII, else as an A-label (RFC 3490). Raises InvalidName."""
    if label.isascii():
        return label.encode('ascii')
    from encodings.idna import ToASCII

    # A label that needs more than 63 octets is refused before the codec's slow walk over it.
    if len(label) > MAX_LABEL or not IDNA_DEVIATIONS.isdisjoint(label):
        raise InvalidName(f'{label[:MAX_LABEL]!r} cannot be put in ASCII (IDNA) without loss')
    try:
        octets = ToASCII(label)
    except UnicodeError as error:
        raise InvalidName(f'{label!r} cannot be put in ASCII (IDNA): {error}') from error
    # Some characters are dots, slashes or spaces once normalised: they would move a boundary.
    if not LETTERS_DIGITS_HYPHEN.fullmatch(octets):
        raise InvalidName(f'{label!r} has a character that no host name can have')
    return octets


def to_name(name: str | bytes) -> bytes:
    """Returns a name as a caller gave it in canonical presentation form, letter case kept.

    Raises InvalidName, or TypeError if it is neither str nor bytes.
    """
    if isinstance(name, str):
        if name.isascii():
            name = name.encode('ascii')
        elif len(name) > MAX_PRESENTATION or '\\' in name:
            raise InvalidName(f'A name is too long, or has escapes beside IDNA: {name[:64]!r}')
        else:
            name = b'.'.join([idna_label(label) for label in IDNA_DOTS.split(name)])
    elif not isinstance(name, bytes):
        raise TypeError(f'A name is str or bytes, not {type(name).__name__}')
    if len(name) < MAX_NAME - 1 and HOST_NAME.fullmatch(name):
        return name.removesuffix(b'.')
    return b'.'.join([escape_label(label) for label in split_name(name)])


def ends_in_backslash(name: bytes) -> bool:
    """Whether what comes next is escaped by an odd number of backslashes at the end."""
    return (len(name) - len(name.rstrip(b'\\'))) % 2 == 1


def is_absolute(name: str | bytes) -> bool:
    """Whether a name that `to_name` takes is the root, or has a final dot, which it drops."""
    if isinstance(name, str):
        if not name.isascii():
            return IDNA_DOTS.match(name[-1]) is not None
        name = name.encode('ascii')
    above = name.removesuffix(b'.')
    return not name or (above != name and not ends_in_backslash(above))


def dots_in(name: bytes) -> int:
    """Returns how many dots are between the labels of a name in canonical presentation form."""
    return name.count(b'.') if b'\\' not in name else len(split_escaped_name(name)) - 1


def has_dots(name: Any, least: int) -> bool:
    """Whether a str for certain has so many dots between its labels."""
    has_enough: bool = name.count('.') >= least and '\\' not in name
    return has_enough


def parse_name(data: bytes, offset: int, names: Names) -> tuple[bytes, int]:
    """Returns the name at `offset` in presentation form, and the offset after it (RFC 1035 4.1.4).

    Pointers lead backwards only. `names` remembers what was walked, for one message.
    """
    segment = offset
    end = 0
    walked = []
    while True:  # forwards over labels, or backwards by a pointer: each segment starts lower
        length = data[offset]
        if length >= 0xC0:
            end = end or offset + 2
            target = (length & 0x3F) << 8 | data[offset + 1]
            if target >= segment:
                raise MalformedMessage(
                    f'A compression pointer at {offset} does not lead backwards'
                )
            if target in names:
                name, size = names[target]
                break
            walked.append((target, b''))
            offset = segment = target
        elif length > MAX_LABEL:
            raise MalformedMessage(f'There is no such type of label as {length >> 6} at {offset}')
        elif length:
            if end and offset in names:  # behind a pointer, and walked before
                name, size = names[offset]
                break
            start = offset
            offset += length + 1
            walked.append((start, data[start + 1 : offset]))
        else:
            end = end or offset + 1
            name, size = b'', 1
            break
    for start, label in reversed(walked):
        if label:
            size += len(label) + 1
            if size > MAX_NAME:
                raise MalformedMessage(f'The name at {segment} has more than {MAX_NAME} octets')
            label = label if label.isalnum() else escape_label(label)
            name = label + b'.' + name if name else label
        names[start] = name, size
    return name, end


def join_labels(labels: list[bytes]) -> bytes:
    """Returns the octets of a name, from its labels."""
    return b''.join([LENGTH_OCTET[len(label)] + label for label in labels]) + b'\0'


def pack_name(name: bytes) -> bytes:
    """Returns a name's octets, not compressed. Raises InvalidName."""
    return join_labels(split_name(name))


def pack_canonical(name: bytes) -> bytes:
    """Returns the octets of a name that `to_name` or `parse_name` gave, without checking it."""
    if not name or b'\\' in name:
        return pack_name(name)
    return join_labels(name.split(b'.'))


def append_name(name: bytes, out: bytearray, suffixes: Suffixes) -> None:
    """Appends a name, compressed against those in `suffixes` (RFC 1035 4.1.4)."""
    known = suffixes.get(name + b'.')
    if known is not None:  # as most names are that of the question
        out += (0xC000 | known).to_bytes(2, 'big')
        return
    octets = pack_name(name)
    at = 0
    while octets[at]:  # each turn passes a label
        suffix = octets[at:]
        known = suffixes.get(suffix)
        if known is not None:
            out += (0xC000 | known).to_bytes(2, 'big')
            break
        if len(out) < 0x4000:  # a pointer has fourteen bits
            suffixes[suffix] = len(out)
        out += suffix[: suffix[0] + 1]
        at += suffix[0] + 1
    else:
        out += b'\0'
    if octets in suffixes:
        suffixes[name + b'.'] = suffixes[octets]


def take(data: bytes, offset: int, size: int, end: int) -> bytes:
    """Returns `size` octets from `offset`, all of them before `end`."""
    if offset + size > end:
        raise MalformedMessage(f'The field at {offset} is longer than its record')
    return data[offset : offset + size]


# --- 6. Fields ---------------------------------------------------------------
#
# The kinds of field that rdata is made of. Each knows how it is parsed, packed
# and written in a master file, side by side; none knows a type of record.
# parse(data, offset, end, names) -> (value, offset after it)
# pack(value, out, suffixes) appends; present(value) -> text


class Field(NamedTuple):
    """A kind of field. `hint` is the Python type of its value, for the stubs."""

    hint: str
    parse: Callable[[bytes, int, int, Names], tuple[Any, int]]
    pack: Callable[[Any, bytearray, Suffixes], None]
    present: Callable[[Any], str]


def integer(code: str, present: Callable[[int], str] = str) -> Field:
    """Returns the kind of an unsigned integer, by its letter in the struct module."""
    octets = struct.Struct('>' + code)
    size = octets.size

    def parse_integer(data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
        return octets.unpack_from(data, offset)[0], offset + size

    def pack_integer(value: int, out: bytearray, suffixes: Suffixes) -> None:
        out += octets.pack(value)

    return Field('int', parse_integer, pack_integer, present)


def only(kind: Field, is_allowed: Callable[[Any], bool]) -> Field:
    """Returns a kind of field without the values that are not allowed."""

    def check(value: Any) -> None:
        if not is_allowed(value):
            raise MalformedMessage(f'{value!r:.60} is no value that its field may have')

    def parse_allowed(data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        value, offset = kind.parse(data, offset, end, names)
        check(value)
        return value, offset

    def pack_allowed(value: Any, out: bytearray, suffixes: Suffixes) -> None:
        check(value)
        kind.pack(value, out, suffixes)

    return Field(kind.hint, parse_allowed, pack_allowed, kind.present)


def parse_u48(data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
    """An integer of six octets."""
    return int.from_bytes(take(data, offset, 6, end), 'big'), offset + 6


def pack_u48(value: int, out: bytearray, suffixes: Suffixes) -> None:
    """An integer of six octets."""
    out += struct.pack('>HI', value >> 32, value & 0xFFFFFFFF)


def present_number(number: int, known: dict[int, int], prefix: str) -> str:
    """Returns the mnemonic of a type or a class, or the generic one (RFC 3597 5)."""
    return str(known[number]) if number in known else f'{prefix}{number}'


def present_type(number: int) -> str:
    """A type."""
    return present_number(number, TYPE_OF, 'TYPE')


def parse_type(data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
    """A type."""
    number = int.from_bytes(take(data, offset, 2, end), 'big')
    return TYPE_OF.get(number, number), offset + 2


def present_time(seconds: int) -> str:
    """A time as YYYYMMDDHHmmSS in UTC (RFC 4034 3.2)."""
    return time.strftime('%Y%m%d%H%M%S', time.gmtime(seconds))


def present_groups(number: int) -> str:
    """An integer of eight octets, as the lower half of an IPv6 address (RFC 6742 2.1.2)."""
    return struct.pack('>Q', number).hex(':', 2)


def packed_address(value: IPv4Address | IPv6Address, size: int) -> bytes:
    """Returns the octets of an address of that size. Raises MalformedMessage for the other."""
    if len(value.packed) != size:
        raise MalformedMessage(f'{value} is no address of {size} octets')
    return value.packed


def parse_ipv4(data: bytes, offset: int, end: int, names: Names) -> tuple[IPv4Address, int]:
    """An IPv4 address (RFC 1035 3.4.1)."""
    return IPv4Address(take(data, offset, 4, end)), offset + 4


def parse_ipv6(data: bytes, offset: int, end: int, names: Names) -> tuple[IPv6Address, int]:
    """An IPv6 address (RFC 3596 2.2)."""
    return IPv6Address(take(data, offset, 16, end)), offset + 16


def pack_ipv4(value: IPv4Address, out: bytearray, suffixes: Suffixes) -> None:
    """An IPv4 address."""
    out += packed_address(value, 4)


def pack_ipv6(value: IPv6Address, out: bytearray, suffixes: Suffixes) -> None:
    """An IPv6 address."""
    out += packed_address(value, 16)


SPECIAL = {octet: b'\\%c' % octet for octet in b'"();@$'}


def present_name(name: bytes) -> str:
    """A name with its final dot, as a master file has it (RFC 1035 5.1)."""
    octets = [SPECIAL.get(octet) or LENGTH_OCTET[octet] for octet in to_name(name)]
    return (b''.join(octets) + b'.').decode('ascii')


def parse_name_field(data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
    """A name."""
    return parse_name(data, offset, names)


def pack_plain_name(name: bytes, out: bytearray, suffixes: Suffixes) -> None:
    """A name of a type that must not be compressed (RFC 3597 4)."""
    out += pack_name(name)


def parse_names(data: bytes, offset: int, end: int, names: Names) -> tuple[tuple[bytes, ...], int]:
    """Names, to the end, not compressed: many pointers to a long one would be megabytes."""
    values = []
    while offset < end:  # each turn takes an octet at least
        name, after = parse_name(data, offset, names)
        if names.get(offset, (b'', 1))[1] != after - offset:
            raise MalformedMessage(f'The name at {offset} is compressed where none may be')
        values.append(name)
        offset = after
    return tuple(values), offset


def pack_names(values: tuple[bytes, ...], out: bytearray, suffixes: Suffixes) -> None:
    """Names, not compressed."""
    for name in values:
        pack_plain_name(name, out, suffixes)


def present_names(values: tuple[bytes, ...]) -> str:
    """Names."""
    return ' '.join(map(present_name, values))


QUOTED = {octet: b'\\%03d' % octet for octet in range(256) if not 0x20 <= octet < 0x7F} | {
    octet: b'\\%c' % octet for octet in b'"\\'
}


def present_string(value: bytes) -> str:
    """A string in quotes (RFC 1035 5.1)."""
    octets = b''.join([QUOTED.get(octet) or LENGTH_OCTET[octet] for octet in value])
    return f'"{octets.decode("ascii")}"'


def parse_string(data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
    """A character-string (RFC 1035 3.3)."""
    size = take(data, offset, 1, end)[0]
    return take(data, offset + 1, size, end), offset + 1 + size


def pack_string(value: bytes, out: bytearray, suffixes: Suffixes) -> None:
    """A character-string."""
    out += struct.pack('>B', len(value)) + value


def parse_strings(
    data: bytes, offset: int, end: int, names: Names
) -> tuple[tuple[bytes, ...], int]:
    """One or more character-strings, to the end (RFC 1035 3.3.14)."""
    value, offset = parse_string(data, offset, end, names)
    values = [value]
    while offset < end:  # each turn takes an octet at least
        value, offset = parse_string(data, offset, end, names)
        values.append(value)
    return tuple(values), offset


def pack_strings(values: tuple[bytes, ...], out: bytearray, suffixes: Suffixes) -> None:
    """One or more character-strings."""
    if not values:
        raise MalformedMessage('There is no character-string where one or more must be')
    for value in values:
        pack_string(value, out, suffixes)


def present_strings(values: tuple[bytes, ...]) -> str:
    """Strings in quotes."""
    return ' '.join(map(present_string, values))


def parse_optional_string(
    data: bytes, offset: int, end: int, names: Names
) -> tuple[bytes | None, int]:
    """A character-string, or nothing at the end."""
    return (None, end) if offset == end else parse_string(data, offset, end, names)


def pack_optional_string(value: bytes | None, out: bytearray, suffixes: Suffixes) -> None:
    """A character-string, or nothing."""
    if value is not None:
        pack_string(value, out, suffixes)


def present_optional_string(value: bytes | None) -> str:
    """A string in quotes, or nothing."""
    return '' if value is None else present_string(value)


def present_hex(value: bytes) -> str:
    """Octets in base 16."""
    return value.hex().upper()


def present_salt(value: bytes) -> str:
    """A salt in base 16, or a hyphen for none (RFC 5155 3.3)."""
    return present_hex(value) or '-'


def present_base64(value: bytes) -> str:
    """Octets in base 64."""
    return binascii.b2a_base64(value, newline=False).decode('ascii')


def present_hash(value: bytes) -> str:
    """A hashed name in base 32 with the extended hex alphabet, not padded (RFC 5155 3.3)."""
    from base64 import b32hexencode

    return b32hexencode(value).decode('ascii').rstrip('=')


def parse_sized(data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
    """Octets after their number, which has two."""
    size = int.from_bytes(take(data, offset, 2, end), 'big')
    return take(data, offset + 2, size, end), offset + 2 + size


def pack_sized(value: bytes, out: bytearray, suffixes: Suffixes) -> None:
    """Octets after their number."""
    out += struct.pack('>H', len(value)) + value


def present_sized(value: bytes) -> str:
    """The number of octets, and these in base 64: no RFC says how, but dig does."""
    return f'{len(value)} {present_base64(value)}'.rstrip()


def octets_of(size: int) -> Field:
    """Returns the kind of so many octets, written with hyphens (RFC 7043 3.2)."""

    def parse_octets(data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
        return take(data, offset, size, end), offset + size

    def pack_exactly(value: bytes, out: bytearray, suffixes: Suffixes) -> None:
        if len(value) != size:
            raise MalformedMessage(f'{value!r} is not of {size} octets')
        out += value

    return Field('bytes', parse_octets, pack_exactly, lambda value: value.hex('-'))


def pack_octets(value: bytes) -> bytes:
    """Plain octets: `bytes()` would take a number for their count, and a bytearray numbers."""
    if not isinstance(value, bytes):
        raise TypeError(f'Octets are bytes, not {value!r}')
    return value


def parse_rest(data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
    """All octets to the end."""
    return data[offset:end], max(offset, end)


def pack_rest(value: bytes, out: bytearray, suffixes: Suffixes) -> None:
    """All octets to the end."""
    out += pack_octets(value)


def present_generic(value: bytes) -> str:
    """Rdata of a type that nothing is known of (RFC 3597 5)."""
    return f'\\# {len(value)} {value.hex().upper()}'.rstrip()


def parse_pairs(
    data: bytes, offset: int, end: int, names: Names
) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Pairs of a code and octets, to the end: EDNS options (RFC 6891 6.1.2), SvcParams."""
    pairs = []
    while offset < end:  # each turn takes four octets at least
        code, size = struct.unpack('>HH', take(data, offset, 4, end))
        pairs.append((code, take(data, offset + 4, size, end)))
        offset += 4 + size
    return tuple(pairs), offset


def pack_pairs(pairs: tuple[tuple[int, bytes], ...], out: bytearray, suffixes: Suffixes) -> None:
    """Pairs of a code and octets."""
    for code, value in pairs:
        out += struct.pack('>HH', code, len(value)) + value


def parse_options(
    data: bytes, offset: int, end: int, names: Names
) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """EDNS options; most messages have none."""
    if offset == end:
        return (), offset
    pairs, offset = parse_pairs(data, offset, end, names)
    return tuple([(EDNS_OPTION_OF.get(code, code), value) for code, value in pairs]), offset


def present_pairs(pairs: tuple[tuple[int, bytes], ...]) -> str:
    """Pairs have no presentation form of their own: all of them as RFC 3597 has it."""
    out = bytearray()
    pack_pairs(pairs, out, {})
    return present_generic(bytes(out))


class SVC_KEYS(Mnemonic):
    """Keys of service parameters (IANA "Service Parameter Keys"), by their presentation names."""

    mandatory = 0
    alpn = 1
    no_default_alpn = 2
    port = 3
    ipv4hint = 4
    ech = 5
    ipv6hint = 6
    dohpath = 7
    ohttp = 8


SVC_KEY_OF: dict[int, int] = {key.value: key for key in SVC_KEYS}


class SvcParam(NamedTuple):
    """How the value of a service parameter is read and written."""

    parse: Callable[[bytes], Any]
    pack: Callable[[Any], bytes]
    present: Callable[[Any], str]


def list_of(size: int, item: SvcParam) -> SvcParam:
    """Returns how a list is read and written: one or more items of `size` octets each."""

    def parse_items(value: bytes) -> tuple[Any, ...]:
        if not value or len(value) % size:
            raise MalformedMessage(f'{len(value)} octets are no list of items of {size}')
        return tuple([item.parse(value[at : at + size]) for at in range(0, len(value), size)])

    def pack_items(items: tuple[Any, ...]) -> bytes:
        return b''.join(map(item.pack, items))

    def present_items(items: tuple[Any, ...]) -> str:
        return ','.join(map(item.present, items))

    return SvcParam(parse_items, pack_items, present_items)


def parse_number(value: bytes) -> int:
    """A port, or a key: sixteen bits."""
    if len(value) != 2:
        raise MalformedMessage(f'{len(value)} octets are no number of two')
    return int.from_bytes(value, 'big')


def pack_number(value: int) -> bytes:
    """A port, or a key."""
    return struct.pack('>H', value)


def present_key(key: int) -> str:
    """The presentation name of a SvcParamKey (RFC 9460 2.1)."""
    return str(SVC_KEY_OF.get(key, f'key{key}'))


KEY_LIST = list_of(2, SvcParam(parse_number, pack_number, present_key))


def parse_mandatory(value: bytes) -> tuple[int, ...]:
    """Keys in strictly increasing order, `mandatory` not among them (RFC 9460 8)."""
    keys: tuple[int, ...] = KEY_LIST.parse(value)
    if list(keys) != sorted(set(keys) - {SVC_KEYS.mandatory}):
        raise MalformedMessage(f'{keys!s:.60} are no mandatory keys')
    return keys


def parse_alpn(value: bytes) -> tuple[bytes, ...]:
    """Protocol ids, each with its length (RFC 9460 7.1.1)."""
    ids, _ = parse_strings(value, 0, len(value), {})
    if b'' in ids:
        raise MalformedMessage('There is an empty protocol id in alpn')
    return ids


def pack_alpn(ids: tuple[bytes, ...]) -> bytes:
    """Protocol ids."""
    out = bytearray()
    pack_strings(ids, out, {})
    return bytes(out)


def present_alpn(ids: tuple[bytes, ...]) -> str:
    """Protocol ids as a value-list: first a list's escapes, then a string's (RFC 9460 A.1)."""
    escaped = (one.replace(b'\\', b'\\\\').replace(b',', b'\\,') for one in ids)
    return present_string(b','.join(escaped))


def parse_nothing(value: bytes) -> bytes:
    """No octets: the key says all."""
    if value:
        raise MalformedMessage('There is a value where none must be')
    return value


SVC_PARAMS: dict[int, SvcParam] = {  # RFC 9460 7 and 8; other keys have plain octets
    SVC_KEYS.mandatory: SvcParam(parse_mandatory, KEY_LIST.pack, KEY_LIST.present),
    SVC_KEYS.alpn: SvcParam(parse_alpn, pack_alpn, present_alpn),
    SVC_KEYS.no_default_alpn: SvcParam(parse_nothing, pack_octets, present_string),
    SVC_KEYS.port: SvcParam(parse_number, pack_number, str),
    SVC_KEYS.ipv4hint: list_of(
        4, SvcParam(IPv4Address, lambda hint: packed_address(hint, 4), str)
    ),
    SVC_KEYS.ech: SvcParam(bytes, pack_octets, present_base64),
    SVC_KEYS.ipv6hint: list_of(
        16, SvcParam(IPv6Address, lambda hint: packed_address(hint, 16), str)
    ),
}
OTHER_SVC_PARAM = SvcParam(bytes, pack_octets, present_string)


def parse_svc_params(
    data: bytes, offset: int, end: int, names: Names
) -> tuple[tuple[tuple[int, Any], ...], int]:
    """Service parameters, their keys in strictly increasing order (RFC 9460 2.2)."""
    pairs, offset = parse_pairs(data, offset, end, names)
    keys = [key for key, _ in pairs]
    if keys != sorted(set(keys)):
        raise MalformedMessage(f'SvcParamKeys {keys!s:.60} are not in strictly increasing order')
    values = [
        (SVC_KEY_OF.get(key, key), SVC_PARAMS.get(key, OTHER_SVC_PARAM).parse(value))
        for key, value in pairs
    ]
    return tuple(values), offset


def pack_svc_params(
    params: tuple[tuple[int, Any], ...], out: bytearray, suffixes: Suffixes
) -> None:
    """Service parameters."""
    keys = [key for key, _ in params]
    if keys != sorted(set(keys)):
        raise MalformedMessage(f'SvcParamKeys {keys!s:.60} are not in strictly increasing order')
    pairs = []
    for key, value in params:
        kind = SVC_PARAMS.get(key, OTHER_SVC_PARAM)
        pairs.append((key, kind.pack(value)))
        kind.parse(pairs[-1][1])  # nothing is packed that could not be read
    pack_pairs(tuple(pairs), out, suffixes)


def present_svc_param(key: int, value: Any) -> str:
    """One service parameter (RFC 9460 2.1)."""
    if isinstance(value, bytes) and not value:
        return present_key(key)
    return f'{present_key(key)}={SVC_PARAMS.get(key, OTHER_SVC_PARAM).present(value)}'


def present_svc_params(params: tuple[tuple[int, Any], ...]) -> str:
    """Service parameters."""
    return ' '.join([present_svc_param(key, value) for key, value in params])


def set_bits(octets: bytes, first: int = 0) -> list[int]:
    """Returns the numbers of the bits that are set; `first` is that of the uppermost."""
    bits = f'{int.from_bytes(octets, "big"):0{8 * len(octets)}b}'
    return [first + at for at, bit in enumerate(bits) if bit == '1']


def parse_types(data: bytes, offset: int, end: int, names: Names) -> tuple[tuple[int, ...], int]:
    """Types from a bitmap to the end: windows in order, none of them empty (RFC 4034 4.1.2)."""
    types: list[int] = []
    last = -1
    while offset < end:  # each turn takes two octets at least
        window, size = take(data, offset, 2, end)
        bits = take(data, offset + 2, size, end)
        if window <= last or not 1 <= size <= 32 or not bits[-1]:
            raise MalformedMessage(f'The window at {offset} is none of a bitmap of types')
        numbers = set_bits(bits, window << 8)
        types += map(TYPE_OF.get, numbers, numbers)
        last = window
        offset += 2 + size
    return tuple(types), offset


def pack_types(types: tuple[int, ...], out: bytearray, suffixes: Suffixes) -> None:
    """Types as a bitmap."""
    if list(types) != sorted(set(types)):
        raise MalformedMessage(f'The types {types!s:.60} are not in strictly increasing order')
    windows: dict[int, bytearray] = {}
    for number in types:
        window, bit = number >> 8, number & 0xFF
        bits = windows.setdefault(window, bytearray())
        bits += bytes(bit // 8 + 1 - len(bits))
        bits[-1] |= 0x80 >> bit % 8
    for window, bits in windows.items():
        out += struct.pack('>BB', window, len(bits)) + bits


def present_types(types: tuple[int, ...]) -> str:
    """Types."""
    return ' '.join(map(present_type, types))


def present_ports(bit_map: bytes) -> str:
    """The numbers of ports in a bitmap."""
    return ' '.join(map(str, set_bits(bit_map)))


U8 = integer('B')
U16 = integer('H')
U32 = integer('I')
U48 = Field('int', parse_u48, pack_u48, str)
U64_GROUPS = integer('Q', present_groups)
TIME = integer('I', present_time)
TYPE_NUMBER = Field('int', parse_type, U16.pack, present_type)
TYPE_LIST = Field('tuple[int, ...]', parse_types, pack_types, present_types)
IPV4 = Field('IPv4Address', parse_ipv4, pack_ipv4, str)
IPV6 = Field('IPv6Address', parse_ipv6, pack_ipv6, str)
NAME = Field('bytes', parse_name_field, append_name, present_name)  # compressed: RFC 1035's types
PLAIN_NAME = Field('bytes', parse_name_field, pack_plain_name, present_name)
PLAIN_NAMES = Field('tuple[bytes, ...]', parse_names, pack_names, present_names)
STRING = Field('bytes', parse_string, pack_string, present_string)
OPTIONAL_STRING = Field(
    'bytes | None', parse_optional_string, pack_optional_string, present_optional_string
)
STRINGS = Field('tuple[bytes, ...]', parse_strings, pack_strings, present_strings)
SALT = Field('bytes', parse_string, pack_string, present_salt)
HASH = only(Field('bytes', parse_string, pack_string, present_hash), bool)  # RFC 5155 3.1.7
SIZED = Field('bytes', parse_sized, pack_sized, present_sized)
EUI_48 = octets_of(6)
EUI_64 = octets_of(8)
QUOTED_REST = Field('bytes', parse_rest, pack_rest, present_string)
HEX_REST = Field('bytes', parse_rest, pack_rest, present_hex)
HEX_0X_REST = Field('bytes', parse_rest, pack_rest, lambda value: f'0x{value.hex()}')
BASE64_REST = Field('bytes', parse_rest, pack_rest, present_base64)
GENERIC_REST = Field('bytes', parse_rest, pack_rest, present_generic)
PORTS = only(  # RFC 1035 3.4.2: a bit for each
    Field('bytes', parse_rest, pack_rest, present_ports), lambda bit_map: len(bit_map) <= 8192
)
OPTIONS = Field('tuple[tuple[int, bytes], ...]', parse_options, pack_pairs, present_pairs)
SVC_PARAM_LIST = Field(
    'tuple[tuple[int, Any], ...]', parse_svc_params, pack_svc_params, present_svc_params
)
DSYNC_SCHEME = integer('B', lambda scheme: {1: 'NOTIFY'}.get(scheme, str(scheme)))


def present_tag(value: bytes) -> str:
    """A tag, without quotes (RFC 8659 4.1.1)."""
    return present_string(value)[1:-1]


TAG = only(Field('bytes', parse_string, pack_string, present_tag), bytes.isalnum)


def parse_no_gateway(data: bytes, offset: int, end: int, names: Names) -> tuple[None, int]:
    """No gateway."""
    return None, offset


def pack_no_gateway(value: None, out: bytearray, suffixes: Suffixes) -> None:
    """No gateway."""
    if value is not None:
        raise MalformedMessage(f'{value!r} is a gateway where its type is that of none')


NO_GATEWAY = Field('None', parse_no_gateway, pack_no_gateway, lambda value: '.')
GATEWAYS = {0: NO_GATEWAY, 1: IPV4, 2: IPV6, 3: PLAIN_NAME}  # RFC 4025 2.3, RFC 8777 4.2.3
GATEWAY_TYPE = only(U8, GATEWAYS.__contains__)


def gateway(back: int) -> Field:
    """Returns the kind of a gateway, whose type is in the lower bits of an octet so far before."""

    def parse_gateway(data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        return GATEWAYS[data[offset - back] & 0x7F].parse(data, offset, end, names)

    def pack_gateway(value: Any, out: bytearray, suffixes: Suffixes) -> None:
        GATEWAYS[out[-back] & 0x7F].pack(value, out, suffixes)

    def present_gateway(value: Any) -> str:
        kind = NO_GATEWAY if value is None else PLAIN_NAME if isinstance(value, bytes) else IPV4
        return kind.present(value)

    return Field(
        'IPv4Address | IPv6Address | bytes | None', parse_gateway, pack_gateway, present_gateway
    )


def parse_upper_bit(data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
    """The uppermost bit of an octet, which is not passed (RFC 8777 4.2.2)."""
    return data[offset] >> 7, offset


def pack_upper_bit(value: int, out: bytearray, suffixes: Suffixes) -> None:
    """The uppermost bit of an octet."""
    out += struct.pack('>B', value << 7)


def parse_relay_type(data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
    """The lower bits of an octet: the type of a relay (RFC 8777 4.2.3)."""
    if data[offset] & 0x7F not in GATEWAYS:
        raise MalformedMessage(f'There is a relay of an unknown type at {offset}')
    return data[offset] & 0x7F, offset + 1


def pack_relay_type(value: int, out: bytearray, suffixes: Suffixes) -> None:
    """The lower bits of an octet, whose uppermost is there."""
    if value not in GATEWAYS:
        raise MalformedMessage(f'{value} is no type of a relay')
    out[-1] |= value


UPPER_BIT = Field('int', parse_upper_bit, pack_upper_bit, lambda bit: str(int(bit)))
RELAY_TYPE = Field('int', parse_relay_type, pack_relay_type, str)


class AddressPrefix(NamedTuple):
    """An item of an APL record (RFC 3123 4)."""

    address_family: int  # 1 is IPv4, 2 is IPv6
    prefix: int
    negation: int
    afdpart: Any  # an address, or the octets of another family


ADDRESS_FAMILIES: dict[int, tuple[Any, int]] = {1: (IPv4Address, 4), 2: (IPv6Address, 16)}


def parse_afdpart(family: int, prefix: int, octets: bytes) -> Any:
    """Returns the address of a family whose zeros at the end are left out, else octets."""
    kind, size = ADDRESS_FAMILIES.get(family, (bytes, 127))
    if len(octets) > size or octets.endswith(b'\0'):
        raise MalformedMessage(f'{octets!r} is no address of family {family}')
    if kind is bytes:
        return octets
    if prefix > 8 * size:
        raise MalformedMessage(f'A prefix of {prefix} bits is none of family {family}')
    return kind(octets.ljust(size, b'\0'))


def pack_afdpart(family: int, value: Any) -> bytes:
    """Returns the octets of an address without the zeros at its end, or octets as they are."""
    if family not in ADDRESS_FAMILIES:
        return pack_octets(value)
    return packed_address(value, ADDRESS_FAMILIES[family][1]).rstrip(b'\0')


def parse_prefixes(
    data: bytes, offset: int, end: int, names: Names
) -> tuple[tuple[AddressPrefix, ...], int]:
    """Prefixes of addresses, to the end (RFC 3123 4)."""
    items = []
    while offset < end:  # each turn takes four octets at least
        family, prefix, size = struct.unpack('>HBB', take(data, offset, 4, end))
        octets = take(data, offset + 4, size & 0x7F, end)
        afdpart = parse_afdpart(family, prefix, octets)
        items.append(AddressPrefix(family, prefix, size >> 7, afdpart))
        offset += 4 + len(octets)
    return tuple(items), offset


def pack_prefixes(items: tuple[AddressPrefix, ...], out: bytearray, suffixes: Suffixes) -> None:
    """Prefixes of addresses."""
    for family, prefix, negation, afdpart in items:
        octets = pack_afdpart(family, afdpart)
        parse_afdpart(family, prefix, octets)  # nothing is packed that could not be read
        out += struct.pack('>HBB', family, prefix, negation << 7 | len(octets)) + octets


def present_prefix(item: AddressPrefix) -> str:
    """A prefix of addresses (RFC 3123 5); octets of a family that has no form in base 16."""
    family, prefix, negation, afdpart = item
    text = afdpart.hex() if isinstance(afdpart, bytes) else str(afdpart)
    return f'{"!" * bool(negation)}{family}:{text}/{prefix}'


def present_prefixes(items: tuple[AddressPrefix, ...]) -> str:
    """Prefixes of addresses."""
    return ' '.join(map(present_prefix, items))


PREFIXES = Field('tuple[AddressPrefix, ...]', parse_prefixes, pack_prefixes, present_prefixes)


DEGREE = 3_600_000  # thousandths of a second of arc
MIDDLE = 1 << 31  # the equator, the prime meridian
GROUND = 10_000_000  # centimetres: altitudes are counted from below it


def angle(degrees: int, letters: str) -> Field:
    """Returns the kind of a latitude or a longitude (RFC 1876 2)."""

    def present_angle(value: int) -> str:
        seconds, thousandths = divmod(abs(value - MIDDLE), 1000)
        minutes, seconds = divmod(seconds, 60)
        letter = letters[value < MIDDLE]
        return f'{minutes // 60} {minutes % 60} {seconds}.{thousandths:03} {letter}'

    least, most = MIDDLE - degrees * DEGREE, MIDDLE + degrees * DEGREE
    return only(integer('I', present_angle), lambda value: least <= value <= most)


def present_altitude(value: int) -> str:
    """An altitude in metres."""
    return f'{(value - GROUND) / 100:.2f}m'


def present_size(value: int) -> str:
    """A size in metres: four bits, and the power of ten to multiply them by, in centimetres."""
    size = (value >> 4) * 10 ** (value & 15)
    return f'{size // 100}m' if size >= 100 else f'{size / 100:.2f}m'


SIZES = {0} | {base << 4 | power for base in range(1, 10) for power in range(10)}

VERSION_0 = only(U8, {0}.__contains__)
LATITUDE = angle(90, 'NS')
LONGITUDE = angle(180, 'EW')
ALTITUDE = integer('I', present_altitude)
SIZE = only(integer('B', present_size), SIZES.__contains__)


# --- 7. Records --------------------------------------------------------------
#
# ONE TABLE: a row a type, checked against its RFC in five seconds. A row with
# one field has that field's value as its rdata; one with several makes a named
# tuple of them, and its subclass that has `expires_at`. Types without a row, and
# types of class IN in another class, have plain octets (RFC 3597).


def present_values(rdata: Any) -> str:
    """Returns rdata of several fields as a master file has it."""
    return str(rdata.row.form.present(rdata.row, rdata))


class Layout:
    """How the rdata of a type is laid out. `qclass` is None if the class makes no difference."""

    def __init__(
        self, mnemonic: str, qclass: int | None, fields: dict[str, Field], form: Form
    ) -> None:
        self.mnemonic = mnemonic
        self.qclass = qclass
        self.fields = fields
        self.form = form

    @functools.cached_property
    def record(self) -> Any:
        """The named tuple, or None for a single field. To make all would be slow to import."""
        if len(self.fields) == 1:
            return None
        made: Any = namedtuple(self.mnemonic, self.fields, module=__name__)  # type: ignore[misc]
        record: Any = made
        record.__doc__ = f'Rdata of type {self.mnemonic}: {", ".join(self.fields)}.'
        record.__str__ = present_values
        record.row = self
        own = {'__module__': __name__}
        expires: Any = type(f'{self.mnemonic}ExpiresAt', (RecordExpiresAt, record), own)
        EXPIRING[record] = EXPIRING[expires] = expires
        globals().update({record.__name__: record, expires.__name__: expires})
        return record


class Form(NamedTuple):
    """How rdata as a whole is read and written, by its row."""

    parse: Callable[[Layout, bytes, int, int, Names], Any]
    pack: Callable[[Layout, Iterable[Any], bytearray, Suffixes], None]
    present: Callable[[Layout, Iterable[Any]], str]


LAYOUTS: dict[int, Layout] = {}


def parse_fields(row: Layout, data: bytes, offset: int, end: int, names: Names) -> Any:
    """Returns the rdata from `offset` to `end`: its fields one after the other."""
    values = []
    for field in row.fields.values():
        value, offset = field.parse(data, offset, end, names)
        values.append(value)
    if offset != end:
        raise MalformedMessage(f'The rdata of {row.mnemonic} does not end at {end} but {offset}')
    return values[0] if row.record is None else tuple.__new__(row.record, values)


def pack_fields(row: Layout, values: Iterable[Any], out: bytearray, suffixes: Suffixes) -> None:
    """Appends values one after the other."""
    for field, value in zip(row.fields.values(), values, strict=True):
        field.pack(value, out, suffixes)


def present_each(row: Layout, values: Iterable[Any]) -> list[str]:
    """Returns each of the values as a master file has it."""
    return [kind.present(value) for kind, value in zip(row.fields.values(), values, strict=True)]


def present_fields(row: Layout, values: Iterable[Any]) -> str:
    """Returns values as a master file has them, one after the other."""
    return ' '.join(present_each(row, values)).rstrip()


def parse_hip(row: Layout, data: bytes, offset: int, end: int, names: Names) -> Any:
    """Returns the rdata of HIP: all its lengths come first (RFC 8005 5)."""
    hit_size, algorithm, key_size = struct.unpack('>BBH', take(data, offset, 4, end))
    if not hit_size or not key_size:
        raise MalformedMessage('There is no HIT, or no key, where both must be')
    hit = take(data, offset + 4, hit_size, end)
    offset += 4 + hit_size
    key = take(data, offset, key_size, end)
    servers, offset = parse_names(data, offset + key_size, end, names)
    if offset != end:
        raise MalformedMessage(f'The rdata of HIP does not end at {end} but {offset}')
    return row.record(algorithm, hit, key, servers)


def pack_hip(row: Layout, values: Iterable[Any], out: bytearray, suffixes: Suffixes) -> None:
    """Appends the rdata of HIP."""
    algorithm, hit, key, servers = values
    if not hit or not key:
        raise MalformedMessage('There is no HIT, or no key, where both must be')
    out += struct.pack('>BBH', len(hit), algorithm, len(key)) + hit + key
    pack_names(servers, out, suffixes)


def present_loc(row: Layout, values: Iterable[Any]) -> str:
    """Returns the values of LOC in another order, and without the version (RFC 1876 3)."""
    _, *sizes, latitude, longitude, altitude = present_each(row, values)
    return ' '.join([latitude, longitude, altitude, *sizes])


IN_ORDER = Form(parse_fields, pack_fields, present_fields)
HIP_FORM = Form(parse_hip, pack_hip, present_fields)
LOC_FORM = Form(parse_fields, pack_fields, present_loc)


def layout(
    mnemonic: str, qclass: int | None = None, form: Form = IN_ORDER, /, **fields: Field
) -> None:
    """Adds a row to the table: the fields of a type, in the order of the wire."""
    LAYOUTS[TYPES[mnemonic]] = Layout(mnemonic, qclass, fields, form)


def fields_of(mnemonic: str) -> dict[str, Field]:
    """Returns the fields of a row, for one that is laid out as it is."""
    return LAYOUTS[TYPES[mnemonic]].fields


layout('A', CLASSES.IN, address=IPV4)  # RFC 1035 3.4.1
layout('NS', nsdname=NAME)  # RFC 1035 3.3.11
layout('MD', madname=NAME)  # RFC 1035 3.3.4
layout('MF', madname=NAME)  # RFC 1035 3.3.5
layout('CNAME', cname=NAME)  # RFC 1035 3.3.1
layout(
    'SOA',  # RFC 1035 3.3.13
    mname=NAME,
    rname=NAME,
    serial=U32,
    refresh=U32,
    retry=U32,
    expire=U32,
    minimum=U32,
)
layout('MB', madname=NAME)  # RFC 1035 3.3.3
layout('MG', mgmname=NAME)  # RFC 1035 3.3.6
layout('MR', newname=NAME)  # RFC 1035 3.3.8
layout('NULL', anything=GENERIC_REST)  # RFC 1035 3.3.10
layout('WKS', CLASSES.IN, address=IPV4, protocol=U8, bit_map=PORTS)  # RFC 1035 3.4.2
layout('PTR', ptrdname=NAME)  # RFC 1035 3.3.12
layout('HINFO', cpu=STRING, os=STRING)  # RFC 1035 3.3.2
layout('MINFO', rmailbx=NAME, emailbx=NAME)  # RFC 1035 3.3.7
layout('MX', preference=U16, exchange=NAME)  # RFC 1035 3.3.9
layout('TXT', txt_data=STRINGS)  # RFC 1035 3.3.14
layout('RP', mbox_dname=PLAIN_NAME, txt_dname=PLAIN_NAME)  # RFC 1183 2.2
layout('AFSDB', subtype=U16, hostname=PLAIN_NAME)  # RFC 1183 1
layout('X25', psdn_address=STRING)  # RFC 1183 3.1
layout('ISDN', isdn_address=STRING, sa=OPTIONAL_STRING)  # RFC 1183 3.2
layout('RT', preference=U16, intermediate_host=PLAIN_NAME)  # RFC 1183 3.3
layout('NSAP', CLASSES.IN, nsap=HEX_0X_REST)  # RFC 1706 5
layout('NSAP_PTR', CLASSES.IN, ptrdname=PLAIN_NAME)  # RFC 1348
layout(
    'RRSIG',  # RFC 4034 3.1
    type_covered=TYPE_NUMBER,
    algorithm=U8,
    labels=U8,
    original_ttl=U32,
    signature_expiration=TIME,
    signature_inception=TIME,
    key_tag=U16,
    signers_name=PLAIN_NAME,
    signature=BASE64_REST,
)
layout('SIG', **fields_of('RRSIG'))  # RFC 2535 4.1, RFC 2931 3
layout('DNSKEY', flags=U16, protocol=U8, algorithm=U8, public_key=BASE64_REST)  # RFC 4034 2.1
layout('KEY', **fields_of('DNSKEY'))  # RFC 2535 3.1
layout('PX', CLASSES.IN, preference=U16, map822=PLAIN_NAME, mapx400=PLAIN_NAME)  # RFC 2163 4
layout('GPOS', longitude=STRING, latitude=STRING, altitude=STRING)  # RFC 1712 3
layout('AAAA', CLASSES.IN, address=IPV6)  # RFC 3596 2.2
layout(
    'LOC',  # RFC 1876 2
    None,
    LOC_FORM,
    version=VERSION_0,
    size=SIZE,
    horiz_pre=SIZE,
    vert_pre=SIZE,
    latitude=LATITUDE,
    longitude=LONGITUDE,
    altitude=ALTITUDE,
)
layout('SRV', CLASSES.IN, priority=U16, weight=U16, port=U16, target=PLAIN_NAME)  # RFC 2782
layout(
    'NAPTR',  # RFC 3403 4.1
    CLASSES.IN,
    order=U16,
    preference=U16,
    flags=STRING,
    services=STRING,
    regexp=STRING,
    replacement=PLAIN_NAME,
)
layout('KX', CLASSES.IN, preference=U16, exchanger=PLAIN_NAME)  # RFC 2230 3.1
layout('CERT', type=U16, key_tag=U16, algorithm=U8, certificate=BASE64_REST)  # RFC 4398 2
layout('DNAME', target=PLAIN_NAME)  # RFC 6672 2.1
layout('OPT', options=OPTIONS)  # RFC 6891 6.1.2
layout('APL', CLASSES.IN, items=PREFIXES)  # RFC 3123 4
layout('DS', key_tag=U16, algorithm=U8, digest_type=U8, digest=HEX_REST)  # RFC 4034 5.1
layout('SSHFP', algorithm=U8, fp_type=U8, fingerprint=HEX_REST)  # RFC 4255 3.1
layout(
    'IPSECKEY',  # RFC 4025 2.1
    CLASSES.IN,
    precedence=U8,
    gateway_type=GATEWAY_TYPE,
    algorithm=U8,
    gateway=gateway(2),
    public_key=BASE64_REST,
)
layout('NSEC', next_domain_name=PLAIN_NAME, type_bit_maps=TYPE_LIST)  # RFC 4034 4.1
layout('DHCID', CLASSES.IN, identifier=BASE64_REST)  # RFC 4701 3.1
layout(
    'NSEC3',  # RFC 5155 3.2
    hash_algorithm=U8,
    flags=U8,
    iterations=U16,
    salt=SALT,
    next_hashed_owner_name=HASH,
    type_bit_maps=TYPE_LIST,
)
layout('NSEC3PARAM', hash_algorithm=U8, flags=U8, iterations=U16, salt=SALT)  # RFC 5155 4.2
layout(
    'TLSA',  # RFC 6698 2.1
    certificate_usage=U8,
    selector=U8,
    matching_type=U8,
    certificate_association_data=HEX_REST,
)
layout('SMIMEA', **fields_of('TLSA'))  # RFC 8162 2
layout(
    'HIP',  # RFC 8005 5
    None,
    HIP_FORM,
    pk_algorithm=U8,
    hit=HEX_REST,
    public_key=BASE64_REST,
    rendezvous_servers=PLAIN_NAMES,
)
layout('NINFO', **fields_of('TXT'))  # no RFC: IANA's template for it, of 2008
layout('CDS', **fields_of('DS'))  # RFC 7344 3.1
layout('CDNSKEY', **fields_of('DNSKEY'))  # RFC 7344 3.2
layout('OPENPGPKEY', public_key=BASE64_REST)  # RFC 7929 2.1
layout('CSYNC', soa_serial=U32, flags=U16, type_bit_map=TYPE_LIST)  # RFC 7477 2.1.1
layout('ZONEMD', serial=U32, scheme=U8, hash_algorithm=U8, digest=HEX_REST)  # RFC 8976 2.2
layout(
    'SVCB',  # RFC 9460 2.2
    CLASSES.IN,
    svc_priority=U16,
    target_name=PLAIN_NAME,
    svc_params=SVC_PARAM_LIST,
)
layout('HTTPS', CLASSES.IN, **fields_of('SVCB'))  # RFC 9460 9
layout(
    'DSYNC',  # RFC 9859 2.1
    rrtype=TYPE_NUMBER,
    scheme=DSYNC_SCHEME,
    port=U16,
    target=PLAIN_NAME,
)
layout('SPF', **fields_of('TXT'))  # RFC 4408 3.1.1
layout('NID', preference=U16, node_id=U64_GROUPS)  # RFC 6742 2.1
layout('L32', preference=U16, locator32=IPV4)  # RFC 6742 2.2
layout('L64', preference=U16, locator64=U64_GROUPS)  # RFC 6742 2.3
layout('LP', preference=U16, fqdn=PLAIN_NAME)  # RFC 6742 2.4
layout('EUI48', address=EUI_48)  # RFC 7043 3.1
layout('EUI64', address=EUI_64)  # RFC 7043 4.1
layout(
    'TKEY',  # RFC 2930 2
    algorithm=PLAIN_NAME,
    inception=U32,
    expiration=U32,
    mode=U16,
    error=U16,
    key_data=SIZED,
    other_data=SIZED,
)
layout(
    'TSIG',  # RFC 8945 4.2
    algorithm_name=PLAIN_NAME,
    time_signed=U48,
    fudge=U16,
    mac=SIZED,
    original_id=U16,
    error=U16,  # a number: 16 is BADSIG here, and BADVERS elsewhere
    other_data=SIZED,
)
layout('URI', priority=U16, weight=U16, target=QUOTED_REST)  # RFC 7553 4
layout('CAA', flags=U8, tag=TAG, value=QUOTED_REST)  # RFC 8659 4.1
layout('AVC', **fields_of('TXT'))  # no RFC: IANA's template for it, of 2016
layout(
    'AMTRELAY',  # RFC 8777 4.2
    precedence=U8,
    discovery_optional=UPPER_BIT,
    type=RELAY_TYPE,
    relay=gateway(1),
)
layout('RESINFO', **fields_of('TXT'))  # RFC 9606 4
layout('WALLET', **fields_of('TXT'))  # no RFC: IANA's template for it, of 2024
layout('DLV', **fields_of('DS'))  # RFC 4431 2


def layout_of(qtype: int, qclass: int) -> Layout | None:
    """Returns the row for a type in a class, or None where rdata is plain octets."""
    row = LAYOUTS.get(qtype)
    return row if row is not None and row.qclass in (None, qclass) else None


def parse_rdata(qtype: int, qclass: int, data: bytes, offset: int, end: int, names: Names) -> Any:
    """Returns the rdata from `offset` to `end`: octets if there is no row."""
    row = layout_of(qtype, qclass)
    return data[offset:end] if row is None else row.form.parse(row, data, offset, end, names)


def is_of_bytes(row: Layout) -> bool:
    """Whether the rdata of a type is itself bytes, so that these are never ready-made rdata."""
    return [kind.hint for kind in row.fields.values()] == ['bytes']


def append_rdata(qtype: int, qclass: int, rdata: Any, out: bytearray, suffixes: Suffixes) -> None:
    """Appends rdata: values by the row of its type, or ready-made octets as they are."""
    row = layout_of(qtype, qclass)
    if row is None or (isinstance(rdata, bytes) and not is_of_bytes(row)):
        out += rdata
        return
    row.form.pack(row, (rdata,) if row.record is None else rdata, out, suffixes)


def present_rdata(qtype: int, qclass: int, rdata: Any) -> str:
    """Returns rdata as a master file has it; octets in the generic form of RFC 3597 5."""
    row = layout_of(qtype, qclass)
    if row is None or (isinstance(rdata, bytes) and not is_of_bytes(row)):
        return present_generic(rdata)
    return row.form.present(row, (rdata,) if row.record is None else rdata)


# --- 8. Wire -----------------------------------------------------------------
#
# Whole messages. Every octet is hostile: whatever goes wrong while reading is
# MalformedMessage, in time linear in the number of octets. Nothing below this
# section knows how rdata is laid out.

HEADER = struct.Struct('>HHHHHH')  # RFC 1035 4.1.1
QUESTION_TAIL = struct.Struct('>HH')  # RFC 1035 4.1.2, after the name
RECORD_TAIL = struct.Struct('>HHIH')  # RFC 1035 4.1.3, after the name
LENGTH = struct.Struct('>H')
ADDRESS = struct.Struct('>I')
HEADER_BITS = (  # RFC 1035 4.1.1, with AD and CD of RFC 4035 in z
    ('qr', 15, 1),
    ('opcode', 11, 4),
    ('aa', 10, 1),
    ('tc', 9, 1),
    ('rd', 8, 1),
    ('ra', 7, 1),
    ('z', 4, 3),
    ('rcode', 0, 4),
)

Sections = tuple[list[ResourceRecord], list[ResourceRecord], list[ResourceRecord]]  # an, ns, ar


@functools.lru_cache(maxsize=256)
def parse_flags(flags: int) -> tuple[int, ...]:
    """Returns the fields of the header's second word, `qr` to `rcode`; few of them are in use."""
    fields = [flags >> shift & (1 << width) - 1 for _, shift, width in HEADER_BITS]
    fields[1] = OPCODE_OF.get(fields[1], fields[1])
    fields[-1] = RCODE_OF.get(fields[-1], fields[-1])
    return tuple(fields)


def is_empty_of_update(flags: int, section: int, qtype: int, qclass: int) -> bool:
    """Whether a record of an UPDATE has no rdata by its place and class (RFC 2136 2.4, 2.5)."""
    return (
        flags >> 11 & 15 == OPCODES.UPDATE
        and qtype != TYPES.OPT
        and (qclass == CLASSES.ANY or (qclass == CLASSES.NONE and section == 0))
    )


def parse_questions(data: bytes, count: int, names: Names, questions: list[QuestionRecord]) -> int:
    """Appends the questions to `questions`, and returns where they end."""
    offset = HEADER.size
    for _ in range(count):
        name, offset = parse_name(data, offset, names)
        qtype, qclass = QUESTION_TAIL.unpack_from(data, offset)
        offset += 4
        question = name, TYPE_OF.get(qtype, qtype), CLASS_OF.get(qclass, qclass)
        questions.append(tuple.__new__(QuestionRecord, question))
    return offset


def parse_records(
    data: bytes, offset: int, header: tuple[int, ...], names: Names, sections: Sections
) -> int:
    """Appends to `sections` the records that `data` holds whole, and returns where they end.

    One loop over offsets. Raises MalformedMessage, IndexError or struct.error.
    """
    size = len(data)
    new = tuple.__new__
    for section, count in enumerate(header[3:]):
        for _ in range(count):
            name, offset = parse_name(data, offset, names)
            qtype, qclass, ttl, length = RECORD_TAIL.unpack_from(data, offset)
            offset += 10
            end = offset + length
            if end > size:
                raise MalformedMessage(f'The rdata at {offset} is cut short')
            rdata: Any
            if qtype == 1 and qclass == 1 and length == 4:  # a short cut for A
                rdata = IPv4Address(ADDRESS.unpack_from(data, offset)[0])
            elif length == 0 and is_empty_of_update(header[1], section, qtype, qclass):
                rdata = b''
            else:
                rdata = parse_rdata(qtype, qclass, data, offset, end, names)
            if qtype != 41:  # OPT, whose class is a payload size
                qclass = CLASS_OF.get(qclass, qclass)
            record = name, TYPE_OF.get(qtype, qtype), qclass, ttl, rdata
            sections[section].append(new(ResourceRecord, record))
            offset = end
    return offset


def to_message(
    header: tuple[int, ...], questions: Iterable[QuestionRecord], sections: Sections
) -> Message:
    """Returns the Message of a header and the sections read."""
    an, ns, ar = sections
    contents = (tuple(questions), tuple(an), tuple(ns), tuple(ar))
    fields = header[:1] + parse_flags(header[1]) + contents
    message: Message = tuple.__new__(Message, fields)
    return message


def parse_message(data: bytes, ignore_trailing: bool, may_be_cut: bool) -> Message:
    """Returns what `parse` does; if it `may_be_cut` and has TC, up to its last whole record."""
    if not isinstance(data, bytes):
        raise TypeError(f'A message to parse is bytes, not {type(data).__name__}')
    if len(data) < HEADER.size:
        raise MalformedMessage(f'{len(data)} octets are not even a header')
    header = HEADER.unpack_from(data)
    names: Names = {}
    questions: list[QuestionRecord] = []
    sections: Sections = ([], [], [])
    try:
        offset = parse_questions(data, header[2], names, questions)
        end = parse_records(data, offset, header, names, sections)
    except (IndexError, struct.error, MalformedMessage) as error:
        if may_be_cut and data[2] & 2:
            return to_message(header, questions, sections)
        if isinstance(error, MalformedMessage):
            raise
        raise MalformedMessage(f'The message of {len(data)} octets is cut short') from error
    if end != len(data) and not ignore_trailing:
        raise MalformedMessage(f'There are {len(data) - end} octets after the message')
    return to_message(header, questions, sections)


def parse(data: bytes, ignore_trailing: bool = False) -> Message:
    """Returns the Message that `data` holds (RFC 1035 4).

    Raises MalformedMessage, whatever the octets. Those after the message are an error too, unless
    `ignore_trailing`.
    """
    return parse_message(data, ignore_trailing, False)


@functools.lru_cache(maxsize=256, typed=True)
def pack_flags(*fields: int) -> int:
    """Returns the header's second word from its fields, `qr` to `rcode`; few of them are in use.

    Raises MalformedMessage if a field has too many bits.
    """
    flags = 0
    for (field, shift, width), value in zip(HEADER_BITS, fields, strict=True):
        if not isinstance(value, int):
            raise TypeError(f'{field} is a number, not {value!r}')
        if not 0 <= value < 1 << width:
            raise MalformedMessage(f'{field} is {value}, which is no number of {width} bits')
        flags |= int(value) << shift
    return flags


def append_record(
    record: ResourceRecord, is_empty: bool, out: bytearray, suffixes: Suffixes
) -> None:
    """Appends a record; an empty one without asking its type."""
    name, qtype, qclass, ttl, rdata = record
    append_name(name, out, suffixes)
    out += RECORD_TAIL.pack(qtype, qclass, ttl, 0)
    start = len(out)
    if qtype == 1 and qclass == 1 and isinstance(rdata, IPv4Address):  # a short cut for A
        out += rdata.packed
    elif not is_empty:
        append_rdata(qtype, qclass, rdata, out, suffixes)
    LENGTH.pack_into(out, start - 2, len(out) - start)


def pack(message: Message) -> bytes:
    """Returns the octets of a Message, names compressed (RFC 1035 4).

    Raises InvalidName for a name that cannot be packed, MalformedMessage for more than 65,535
    octets or a value that does not fit its field, TypeError for one of another type.
    """
    if not isinstance(message, Message):
        raise TypeError(f'What is packed is a Message, not {message!r}')
    flags = pack_flags(*message[1:9])
    suffixes: Suffixes = {}
    try:
        out = bytearray(HEADER.pack(message.qid, flags, *map(len, message[9:])))
        for name, qtype, qclass in message.qd:
            append_name(name, out, suffixes)
            out += QUESTION_TAIL.pack(qtype, qclass)
        for section, records in enumerate(message[10:]):
            for record in records:
                _, qtype, qclass, _, rdata = record
                is_empty = rdata == b'' and is_empty_of_update(flags, section, qtype, qclass)
                append_record(record, is_empty, out, suffixes)
    except struct.error as error:
        kind = TypeError if 'not an integer' in str(error) else MalformedMessage
        raise kind(f'A value does not fit its field: {error}') from error
    except (ValueError, AttributeError) as error:
        if isinstance(error, ResolverError):
            raise
        raise TypeError(f'A value is not of the type of its field: {error}') from error
    if len(out) > MAX_MESSAGE:
        raise MalformedMessage(f'{len(out)} octets are more than a message can have')
    return bytes(out)


def presentation(record: ResourceRecord) -> str:
    """Returns a record as a line of a master file (RFC 1035 5.1), without the newline."""
    name, qtype, qclass, ttl, rdata = record
    qclass_text = present_number(qclass, CLASS_OF, 'CLASS')
    rdata_text = present_rdata(qtype, qclass, rdata)
    line = f'{present_name(name)} {ttl} {qclass_text} {present_type(qtype)} {rdata_text}'
    return line.rstrip()  # there may be nothing to say, as of an empty APL


# --- 9. Questions and answers ------------------------------------------------
#
# What is asked, the one place that decides whether a message answers a query,
# and what an answer says. The last section that knows octets; it knows nothing
# of sockets, time or nameservers.

DO_BIT = 0x8000  # RFC 3225 3
LETTERS = bytes(0x20 if chr(octet).isalpha() and octet < 0x80 else 0 for octet in range(256))
MAY_LACK_QUESTION = frozenset({RCODES.FORMERR, RCODES.SERVFAIL, RCODES.NOTIMP, RCODES.REFUSED})


def random_id() -> int:
    """Returns a number for `qid` from the operating system's random source (RFC 5452 9.2)."""
    return int.from_bytes(os.urandom(2), 'big')


def make_query(
    name: str | bytes,
    qtype: int,
    qclass: int = CLASSES.IN,
    *,
    qid: int | None = None,
    rd: int = 1,
    payload: int | None = PAYLOAD,
    want_dnssec: bool = False,
    options: Iterable[tuple[int, bytes]] = (),
) -> Message:
    """Returns a query with one question, and with EDNS (RFC 6891) unless `payload` is None.

    `qid` is random unless given; `payload` is in octets; `options` are pairs of a code and octets.
    Raises InvalidName, or TypeError for what only EDNS can carry without EDNS.
    """
    options = tuple(options)
    if payload is None and (want_dnssec or options):
        raise TypeError('want_dnssec and options need EDNS, and payload=None is without')
    edns: tuple[ResourceRecord, ...] = ()
    if payload is not None:
        ttl = DO_BIT if want_dnssec else 0
        edns = (ResourceRecord(b'', TYPES.OPT, payload, ttl, options),)
    question = QuestionRecord(
        to_name(name), TYPE_OF.get(qtype, qtype), CLASS_OF.get(qclass, qclass)
    )
    qid = random_id() if qid is None else qid
    opcode, rcode = OPCODES.QUERY, RCODES.NOERROR
    return Message(qid, QUESTION, opcode, 0, 0, rd, 0, 0, rcode, (question,), (), (), edns)


def mix_case(fqdn: bytes) -> bytes:
    """Returns a name with the case of each letter drawn at random (0x20 encoding).

    A forger has to guess it too. The bits come from the operating system's random source.
    """
    size = len(fqdn)
    letters = int.from_bytes(fqdn.translate(LETTERS), 'big')
    flips = int.from_bytes(os.urandom(size), 'big') & letters
    return (int.from_bytes(fqdn, 'big') ^ flips).to_bytes(size, 'big')


def size_on_wire(name: bytes) -> int:
    """Returns how many octets a name in canonical presentation form has, if it is not the root."""
    if b'\\' not in name:
        return len(name) + 2
    return len(join_labels(split_escaped_name(name)))


def names_to_ask(name: bytes, search: Iterable[bytes], ndots: int) -> tuple[bytes, ...]:
    """Returns the names that a name without a final dot may be, in the order to ask for them.

    It is below each domain of the search list, where it is not too long, and itself: that first
    if it has as many dots as `ndots`, and else last. All in canonical presentation form.
    """
    below = [name + b'.' + domain if domain else name for domain in search]
    below = [each for each in below if size_on_wire(each) <= MAX_NAME]
    in_order = [name, *below] if dots_in(name) >= ndots else [*below, name]
    return tuple(dict.fromkeys(in_order))


class Query(NamedTuple):
    """A query in octets, and what it asks: `fqdn` is its name in lower case."""

    octets: bytes
    end: int  # of the question
    fqdn: bytes
    qtype: int

    @property
    def name(self) -> bytes:
        """The octets of the name."""
        return self.octets[HEADER.size : self.end - QUESTION_TAIL.size]

    @property
    def has_edns(self) -> bool:
        """Whether there is an OPT record behind the question."""
        return len(self.octets) > self.end


class QueryForm(NamedTuple):
    """What stands around the question of a query: the header but for the id, and what follows."""

    header: bytes
    additional: bytes


OPT_TAIL = struct.Struct('>BHHBBHH')  # RFC 6891 6.1.2: an OPT record without options
PLAIN_FORM = QueryForm(b'\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00', b'')  # RD, one question
EDNS_FORM = QueryForm(
    b'\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01',
    OPT_TAIL.pack(0, TYPES.OPT, PAYLOAD, 0, 0, 0, 0),
)


def with_ad(form: QueryForm) -> QueryForm:
    """Returns the form of a query that asks to be told what is authentic (RFC 6840 5.7)."""
    header, additional = form
    return QueryForm(header[:1] + bytes([header[1] | 0x20]) + header[2:], additional)


# Each without AD and with it.
PLAIN_FORMS = PLAIN_FORM, with_ad(PLAIN_FORM)
EDNS_FORMS = EDNS_FORM, with_ad(EDNS_FORM)


def to_query(name: bytes, qtype: int, form: QueryForm) -> Query:
    """Returns a query for a canonical name as it is: class IN, a random id."""
    question = pack_canonical(name) + QUESTION_TAIL.pack(qtype, 1)
    octets = os.urandom(2) + form.header + question + form.additional
    return Query(octets, HEADER.size + len(question), name.lower(), qtype)


def mixed_query(fqdn: bytes, qtype: int, form: QueryForm) -> Query:
    """Returns a query as `to_query` does for a name in lower case, its letters in random case.

    What `mix_case` does to a name is done to its octets: those of lengths are no letters.
    """
    name = pack_canonical(fqdn)
    size = len(name)
    drawn = os.urandom(size + 2)
    flips = int.from_bytes(drawn, 'big') & int.from_bytes(name.translate(LETTERS), 'big')
    mixed = (int.from_bytes(name, 'big') ^ flips).to_bytes(size, 'big')
    header, additional = form
    octets = drawn[:2] + header + mixed + QUESTION_TAIL.pack(qtype, 1) + additional
    return tuple.__new__(Query, (octets, size + 16, fqdn, qtype))


OPTION = struct.Struct('>HH')  # RFC 6891 6.1.2: the code and the length before the octets


@functools.lru_cache(maxsize=1024)
def stream_options(size: int, scheme: str) -> bytes:
    """Returns the options of a query with so many octets before them, after their own size.

    It asks for how long the stream may be kept (RFC 7828 3.2.1), where HTTP does not say that. If
    others cannot read it, it is padded to a multiple of 128 octets (RFC 8467 4.1), as its size
    would tell what it is.
    """
    options = OPTION.pack(EDNS_OPTIONS.TCP_KEEPALIVE, 0) if scheme != 'https' else b''
    if scheme in ALPN:
        padding = -(size + len(options) + OPTION.size) % PADDED_TO
        options += OPTION.pack(EDNS_OPTIONS.PADDING, padding) + bytes(padding)
    return len(options).to_bytes(2, 'big') + options


def for_stream(query: Query, scheme: str) -> Query:
    """Returns a query that `to_query` made as it goes over a stream: with options, if EDNS."""
    octets, end, fqdn, qtype = query
    if len(octets) == end:
        return query
    octets = octets[:-2] + stream_options(len(octets), scheme)
    return tuple.__new__(Query, (octets, end, fqdn, qtype))


KEEPALIVE = OPTION.pack(EDNS_OPTIONS.TCP_KEEPALIVE, 2)


def keepalive_of(reply: bytes) -> float | None:
    """Returns for how many seconds a server lets a stream be idle, if it says so (RFC 7828)."""
    if KEEPALIVE not in reply:  # nearly always
        return None
    try:
        edns = parse(reply).edns
    except MalformedMessage:
        return None
    for code, value in edns.rdata if edns is not None else ():
        if code == EDNS_OPTIONS.TCP_KEEPALIVE and len(value) == 2:
            return int.from_bytes(value, 'big') / 10
    return None


class FoldedCase(BadResponse):
    """The question differs only in letter case: a forger's reply, or a server that folds it."""


def is_update(octets: bytes) -> bool:
    """Whether a message is an UPDATE, the reply to which may lack the zone (RFC 2136 3.8)."""
    return octets[2] >> 3 & 15 == OPCODES.UPDATE


def has_question(query: Query, reply: bytes) -> bool:
    """Whether a message has the question of a query, its name in any letter case."""
    name, tail = slice(HEADER.size, query.end - 4), slice(query.end - 4, query.end)
    octets = query.octets
    return (
        reply[4:6] == octets[4:6]
        and reply[tail] == octets[tail]
        and reply[name].lower() == octets[name].lower()
    )


def check_id(query: Query, reply: bytes) -> None:
    """Raises BadResponse unless a message has the id of the query."""
    if reply[:2] != query.octets[:2]:
        raise BadResponse('The id is not that of the query')


def check_reply(query: Query, reply: bytes) -> None:
    """Raises BadResponse unless `reply` answers `query`: id, QR, opcode, question as sent.

    The one place that decides this (RFC 5452 9.1). An error reply may lack the question.
    """
    octets, end, *_ = query
    check_id(query, reply)
    if len(reply) < HEADER.size:
        raise BadResponse(f'{len(reply)} octets are not even a header')
    if reply[2] & 0xF8 != octets[2] & 0x78 | 0x80:
        raise BadResponse('It is no response, or one of another opcode')
    if reply[4:6] == octets[4:6] and reply[12:end] == octets[12:end]:
        return
    if has_question(query, reply):
        raise FoldedCase('The question is not in the letter case of the query')
    if reply[4:6] == b'\0\0' and (reply[3] & 15 in MAY_LACK_QUESTION or is_update(octets)):
        return
    raise BadResponse('The question is not that of the query')


def parse_reply(query: Query, reply: bytes) -> Message:
    """Returns the reply to `query`, one with TC up to its last whole record.

    The question is known, and put in lower case: names compressed against it would otherwise have
    the random letter case of the query. Raises BadResponse or MalformedMessage.
    """
    check_reply(query, reply)
    header = HEADER.unpack_from(reply)
    names: Names = {}
    questions: tuple[QuestionRecord, ...] = ()
    offset = HEADER.size
    if header[2]:
        offset = query.end
        reply = b''.join((reply[:12], query.name.lower(), reply[offset - 4 :]))
        names[12] = query.fqdn, offset - 16
        questions = (QuestionRecord(query.fqdn, query.qtype, CLASSES.IN),)
    sections: Sections = ([], [], [])
    try:
        end = parse_records(reply, offset, header, names, sections)
        if end != len(reply):
            raise MalformedMessage(f'There are {len(reply) - end} octets after the message')
    except (IndexError, struct.error, MalformedMessage) as error:
        if not reply[2] & 2:
            raise MalformedMessage(f'The message of {len(reply)} octets is broken') from error
    return to_message(header, questions, sections)


def query_in(message: Message | bytes) -> Query:
    """Returns a message of a caller's, or the octets of one, as what is sent.

    Raises InvalidName or MalformedMessage, TypeError for what is neither.
    """
    octets = pack(message) if isinstance(message, Message) else message
    if not isinstance(octets, bytes):
        raise TypeError(f'A query is a Message or bytes, not {type(octets).__name__}')
    if not HEADER.size <= len(octets) <= MAX_MESSAGE:
        raise MalformedMessage(f'{len(octets)} octets are no message')
    questions: list[QuestionRecord] = []
    try:
        end = parse_questions(octets, HEADER.unpack_from(octets)[2], {}, questions)
    except (IndexError, struct.error) as error:
        raise MalformedMessage('The question of the query is cut short') from error
    name, qtype, _ = questions[0] if questions else (b'', 0, 0)
    return Query(octets, end, name.lower(), qtype)


def parse_answer(query: Query, reply: bytes, ignore_trailing: bool) -> Message:
    """Returns the reply to a query of a caller's. Letter case is not compared.

    Raises MalformedMessage or BadResponse.
    """
    if len(reply) >= HEADER.size:
        check_id(query, reply)  # first: to parse all that a flood brings would take long
    message = parse_message(reply, ignore_trailing, True)
    try:
        check_reply(query, reply)
    except FoldedCase:
        pass  # only case that was mixed on purpose tells of a forger
    return message


class Alias(NamedTuple):
    """A name that another is an alias of, after so many links, and until when."""

    name: bytes
    links: int
    expires_at: float


class Known(NamedTuple):
    """What is known of a name and a type: records, else their absence, else an alias only.

    Times are on the clock of whoever asked. A cache hit looks at the first two fields only.
    """

    expires_at: float  # of the records, or of the absence
    answers: tuple[Any, ...]
    absence: DoesNotExist | None
    alias: Alias | None  # by which the records or the absence were come to
    may_keep: bool


def is_at_or_below(name: bytes, ancestor: bytes) -> bool:
    """Whether a name is another, or below it; both in lower case."""
    if name == ancestor or not ancestor:
        return True
    above = name.removesuffix(b'.' + ancestor)
    # A dot behind an odd number of backslashes is no boundary but part of a label.
    return above != name and not ends_in_backslash(above)


def records_of(
    answers: tuple[ResourceRecord, ...], name: bytes, qtype: int
) -> list[ResourceRecord]:
    """Returns the records of a name (lower case) and a type."""
    return [
        record
        for record in answers
        if record[1] == qtype and record[0].lower() == name and record[2] == CLASSES.IN
    ]


def substitute(name: bytes, dnames: dict[bytes, tuple[bytes, int]]) -> tuple[bytes, int] | None:
    """Returns the name that a DNAME above `name` makes of it, and the TTL (RFC 6672 2.2)."""
    for owner, (target, ttl) in dnames.items():
        if owner != name and is_at_or_below(name, owner):
            below = name.removesuffix(owner) if owner else name + b'.'
            try:
                return to_name(below + target), ttl
            except InvalidName as error:
                raise BadResponse(f'A DNAME makes a name that is too long: {error}') from error
    return None


def follow_aliases(
    answers: tuple[ResourceRecord, ...], name: bytes, qtype: int
) -> tuple[bytes, int, int]:
    """Returns the name at the end of a chain of aliases, how many they are, and their least TTL.

    By CNAME, else by a DNAME above the name. Raises CnameChainTooLong.
    """
    aliases: dict[int, dict[bytes, tuple[bytes, int]]] = {TYPES.CNAME: {}, TYPES.DNAME: {}}
    ends = set()  # names that have what was asked for
    for owner, rtype, qclass, ttl, rdata in answers:
        if qclass == CLASSES.IN and rtype == qtype:
            ends.add(owner.lower())
        elif qclass == CLASSES.IN and rtype in aliases:
            aliases[rtype].setdefault(owner.lower(), (rdata.lower(), ttl))
    least_ttl = MAX_TTL
    for links in range(MAX_CNAMES + 1):
        alias = aliases[TYPES.CNAME].get(name) or substitute(name, aliases[TYPES.DNAME])
        if name in ends or alias is None:
            return name, links, least_ttl
        name = alias[0]
        least_ttl = min(least_ttl, alias[1])
    raise CnameChainTooLong(f'There are more than {MAX_CNAMES} aliases')


def negative_ttl(message: Message, name: bytes) -> int | None:
    """Returns for how long the absence of `name` may be kept (RFC 2308 5); None without a SOA."""
    for record in message.ns:
        owner, qtype, qclass, ttl, rdata = record
        if (qtype, qclass) == (TYPES.SOA, CLASSES.IN) and is_at_or_below(name, owner.lower()):
            return min(ttl, int(rdata.minimum), MAX_NEGATIVE_TTL)
    return None


def is_lame(message: Message) -> bool:
    """Whether a NOERROR without records or SOA is not of an absence: a lame server's, a referral.

    A server that stands for what it says is authoritative or has recursed (RFC 2308 2.2.1).
    """
    has_ns = any(record.qtype == TYPES.NS for record in message.ns)
    return not (message.aa or message.ra) or (has_ns and not message.aa)


def extra_text(octets: bytes) -> str:
    """Returns what a server wrote as one line: bounded, its control characters escaped."""
    text = octets[:MAX_EXTRA_TEXT].decode('utf-8', 'replace').rstrip('\0')
    characters = [one if one.isprintable() else ascii(one)[1:-1] for one in text]
    return ''.join(characters)


def read_extended_errors(message: Message) -> Iterator[ExtendedError]:
    """Yields what `extended_errors` returns."""
    edns = message.edns
    for option, value in () if edns is None else edns.rdata:
        if option == EDNS_OPTIONS.EDE and len(value) >= 2:
            code = int.from_bytes(value[:2], 'big')
            yield ExtendedError(EDE_OF.get(code, code), extra_text(value[2:]))


def extended_errors(message: Message) -> tuple[ExtendedError, ...]:
    """Returns what the server says of what was wrong, or of what its answer lacks (RFC 8914).

    An option that is too short for a code is passed over.
    """
    return tuple(read_extended_errors(message))


def explanation(message: Message) -> str:
    """Returns what a server says of what was wrong, to follow the text of an error, or nothing."""
    errors = list(itertools.islice(read_extended_errors(message), MAX_EXTENDED_ERRORS))
    return f' ({"; ".join(map(str, errors))})' if errors else ''


def describe(name: bytes, qtype: int) -> str:
    """Returns a name and a type, for the text of an error."""
    return f'{present_name(name)} {present_type(qtype)}'


def absence_of(what: str, rcode: int, why: str = '') -> DoesNotExist:
    """Returns the error for a name, or a record of it, that does not exist."""
    kind = 'name' if rcode == RCODES.NXDOMAIN else 'record of this name'
    return DoesNotExist(f'{what}there is no such {kind}{why}', rcode)


def read_absence(
    message: Message, name: bytes, qtype: int, now: float, alias: Alias | None
) -> Known:
    """Returns what a reply without records says of the last name of a chain (RFC 2308, 6604).

    A truncated one says nothing of an absence.
    """
    if message.tc and alias is None:
        raise Truncated('The reply is truncated, and has no record of use', message)
    ttl = negative_ttl(message, name)
    is_absent = message.rcode == RCODES.NXDOMAIN or (
        ttl is not None and (message.aa or message.ra)
    )
    if alias is not None and (message.tc or not is_absent):
        return Known(now, (), None, alias, not message.tc)
    if not is_absent and is_lame(message):
        text = 'The server is lame: no answer, and nobody who stands for it'
        raise BadResponse(text + explanation(message))
    expires_at = now + (ttl or 0)
    what = ''
    if alias is not None:
        what = f'{describe(name, qtype)}: '
        expires_at = min(expires_at, alias.expires_at)
    absence = absence_of(what, message.rcode, explanation(message))
    return Known(expires_at, (), absence, alias, True)


def read_answer(message: Message, name: bytes, qtype: int, now: float) -> Known:
    """Returns what a reply says of `name` (lower case) and `qtype`: only that is believed.

    The chain of aliases is followed inside the answer section, in any order of the records. `now`
    is when it was asked. Raises ResponseCode, BadResponse (lame), Truncated, CnameChainTooLong.
    """
    rcode = message.extended_rcode if message.ar else message.rcode
    if rcode not in (RCODES.NOERROR, RCODES.NXDOMAIN):
        raise ResponseCode(f'The answer is {rcode!s}{explanation(message)}', rcode)
    ttl = MAX_TTL
    alias = None
    records = records_of(message.an, name, qtype)
    if not records and message.an:
        name, links, ttl = follow_aliases(message.an, name, qtype)
        if links:
            alias = Alias(name, links, now + ttl)
            records = records_of(message.an, name, qtype)
    if message.rcode or not records:
        return read_absence(message, name, qtype, now, alias)
    expires_at = now + min([ttl, *[record.ttl for record in records]])
    # A set has no record twice (RFC 2181 5).
    rdatas = dict.fromkeys([record.rdata for record in records])
    answers = tuple([expiring(rdata, expires_at) for rdata in rdatas])
    return Known(expires_at, answers, None, alias, not message.tc)


# Whole records of addresses, their name a pointer to the question: name, type, class and length.
ADDRESS_RECORDS: dict[int, tuple[struct.Struct, tuple[int, ...], Any]] = {
    TYPES.A: (struct.Struct('>HHHIHI'), (0xC00C, 1, 1, 4), IPv4AddressExpiresAt),
    TYPES.AAAA: (struct.Struct('>HHHIH16s'), (0xC00C, 28, 1, 16), IPv6AddressExpiresAt),
}


# The root and the type of an OPT record, and its extended rcode and version; payload and flags
# are passed over. An EDNS of version 0 has zeros for the two.
OPT_FIELDS = struct.Struct('>3s2x2s2xH')
PLAIN_OPT = b'\0\0\x29', b'\0\0'


def is_plain_opt(reply: bytes, offset: int) -> bool:
    """Whether the rest of a reply is an OPT record without an extended rcode."""
    start = offset + OPT_FIELDS.size
    if len(reply) < start:
        return False
    opt, extended, length = OPT_FIELDS.unpack_from(reply, offset)
    if (opt, extended) != PLAIN_OPT or len(reply) != start + length:
        return False
    try:
        if length:
            parse_pairs(reply, start, len(reply), {})
    except MalformedMessage:
        return False
    return True


def read_addresses(query: Query, reply: bytes, now: float) -> Known | None:
    """Returns what a reply says that has addresses of the name asked for and nothing else.

    A short cut for nearly all replies; None for the others, and for what does not answer.
    """
    octets, end, _, qtype = query
    if reply[:2] != octets[:2] or reply[12:end] != octets[12:end]:
        return None
    _, flags, qd, an, ns, ar = HEADER.unpack_from(reply)
    form = ADDRESS_RECORDS.get(qtype)
    # QR, QUERY, not TC, NOERROR; one question, and answers only, save an OPT record.
    if form is None or flags & 0xFA0F != 0x8000 or qd != 1 or not an or ns or ar > 1:
        return None
    record, fixed, kind = form
    stop = end + an * record.size
    if not (is_plain_opt(reply, stop) if ar else len(reply) == stop):
        return None
    rdatas = []
    least_ttl = MAX_TTL
    for name, rtype, qclass, ttl, length, address in record.iter_unpack(reply[end:stop]):
        if (name, rtype, qclass, length) != fixed:
            return None
        if ttl < least_ttl:
            least_ttl = ttl
        rdatas.append(address)
    expires_at = now + least_ttl
    if an == 1:
        answers: tuple[Any, ...] = (kind(address, expires_at),)
    else:
        answers = tuple([kind(rdata, expires_at) for rdata in dict.fromkeys(rdatas)])
    return tuple.__new__(Known, (expires_at, answers, None, None, True))


class Cut(NamedTuple):
    """What a truncated reply says of use, or Truncated. The whole is to be had over a stream."""

    rest: Known | ResolverError


def read_reply(query: Query, reply: bytes, now: float) -> Known | ResolverError:
    """Returns what a reply says, or the error that it is. `now` is when it was asked.

    Raises BadResponse or MalformedMessage if it is no answer to the query.
    """
    message = parse_reply(query, reply)
    try:
        return read_answer(message, query.fqdn, query.qtype, now)
    except ResolverError as error:
        return error


def read_datagram(query: Query, reply: bytes, now: float) -> Known | ResolverError | Cut:
    """Returns what a datagram says, as `read_reply` does; a truncated one apart."""
    known = read_addresses(query, reply, now)
    if known is not None:
        return known
    outcome = read_reply(query, reply, now)
    is_cut = reply[2] & 2 and not isinstance(outcome, ResponseCode)
    return Cut(outcome) if is_cut else outcome


class Folded(NamedTuple):
    """What a reply says whose question is not in the letter case of the query."""

    rest: Known


def read_frame(query: Query, reply: bytes, now: float) -> Known | ResolverError | Folded:
    """Returns what a message of a stream says, or the error that it is: BadResponse if no answer.

    Over a stream forging is hard, and letter case is not compared.
    """
    known = read_addresses(query, reply, now)
    if known is not None:
        return known
    question = query.octets[HEADER.size : query.end]
    is_folded = reply[HEADER.size : query.end] != question and has_question(query, reply)
    if is_folded:
        reply = reply[: HEADER.size] + question + reply[query.end :]
    try:
        outcome = read_reply(query, reply, now)
    except ResolverError as error:
        bad = BadResponse(str(error))
        bad.__cause__ = error.with_traceback(None)
        return bad
    return Folded(outcome) if is_folded and isinstance(outcome, Known) else outcome


def to_frame(octets: bytes) -> bytes:
    """Returns a message as it goes on a stream (RFC 1035 4.2.2)."""
    return len(octets).to_bytes(2, 'big') + octets


def take_frames(incoming: bytearray) -> list[bytes]:
    """Takes the whole messages out of what came on a stream."""
    frames = []
    at = 0
    while len(incoming) >= at + 2:  # each turn passes a length, at least
        end = at + 2 + int.from_bytes(incoming[at : at + 2], 'big')
        if len(incoming) < end:
            break
        frames.append(bytes(incoming[at + 2 : end]))
        at = end
    del incoming[:at]
    return frames


class Frames:
    """Messages on a stream with their lengths before them, told apart by their ids."""

    __slots__ = ('incoming', 'outgoing')

    is_going = False  # whether the server wants no more to be asked

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = b''

    def pack(self, octets: bytes) -> bytes:
        """Has a query sent, and returns its key."""
        self.outgoing += to_frame(octets)
        return octets[:2]

    def to_send(self) -> bytes:
        """Returns what is to be sent now."""
        octets, self.outgoing = self.outgoing, b''
        return octets

    def take(self, octets: bytes) -> list[tuple[bytes, bytes]]:
        """Returns the messages that are whole now, each with the key of what it may answer."""
        if not self.incoming and len(octets) - 2 == int.from_bytes(octets[:2], 'big'):
            return [(octets[2:4], octets[2:])]  # nearly always: one, and all of it
        self.incoming += octets
        return [(frame[:2], frame) for frame in take_frames(self.incoming)]

    def give_up(self, _: bytes) -> bool:
        """A query is given up; says whether nothing will come of it. Here its reply still may."""
        return False


def stray(message: bytes) -> MalformedMessage | BadResponse:
    """Returns the error that a message on a stream is which nobody asked for."""
    if len(message) < HEADER.size:
        return MalformedMessage(f'{len(message)} octets are not even a header')
    return BadResponse('A message came that belongs to nobody')


# --- 12. HTTP ----------------------------------------------------------------
#
# DNS over HTTPS (RFC 8484): a query is a request, and its reply the response. HTTP/2
# itself is spoken by an extra, octets in and octets out. Nothing here knows a socket.

DNS_MESSAGE = 'application/dns-message'  # RFC 8484 6
DNS_QUERY = '/dns-query'  # the path that servers have
FRAME_HEAD = 9  # octets before each frame of HTTP/2 (RFC 9113 4.1)
GOAWAY = 7  # RFC 9113 6.8
URL_SAFE = bytes.maketrans(b'+/', b'-_')  # RFC 4648 5


class RequestEnded(OSError):
    """The server ended a request, and not the connection."""


def http_library() -> Any:
    """Returns what speaks HTTP/2. Raises MissingDependency."""
    try:
        import h2.connection
        import h2.events
        import h2.settings
    except ImportError as error:
        raise MissingDependency(
            'DNS over HTTPS needs h2: pip install aiodnsresolver[https]'
        ) from error
    return h2


def skip_name(octets: bytes, offset: int) -> int:
    """Returns where a name ends, or its first pointer. Raises IndexError."""
    while size := octets[offset]:  # each turn passes a label
        if size >= 0xC0:
            return offset + 2
        offset += size + 1
    return offset + 1


def aged(octets: bytes, seconds: int) -> bytes:
    """Returns a message that a cache of HTTP had for so long: its TTLs are less (RFC 8484 5.1).

    One that is broken comes back as it is.
    """
    message = bytearray(octets)
    try:
        _, _, questions, *counts = HEADER.unpack_from(octets)
        offset = HEADER.size
        for _ in range(questions):
            offset = skip_name(octets, offset) + QUESTION_TAIL.size
        for _ in range(sum(counts)):
            offset = skip_name(octets, offset)
            qtype, qclass, ttl, size = RECORD_TAIL.unpack_from(octets, offset)
            if qtype != TYPES.OPT:
                tail = qtype, qclass, max(0, ttl - seconds), size
                RECORD_TAIL.pack_into(message, offset, *tail)
            offset += RECORD_TAIL.size + size
    except (IndexError, struct.error):
        return octets
    return bytes(message)


class HttpExchange:
    """A query as a request, and its response as it comes (RFC 8484 4).

    A GET has the id 0, so that caches know it again; the reply has that of the query.
    """

    __slots__ = (
        'age',
        'body',
        'id',
        'incoming',
        'sent',
        'status',
        'stream_id',
        'target',
        'was_refused',
    )

    def __init__(self, octets: bytes, path: str, is_post: bool) -> None:
        self.id = None if is_post else octets[:2]
        self.target = path
        self.body = octets
        if not is_post:
            coded = binascii.b2a_base64(b'\0\0' + octets[2:], newline=False).rstrip(b'=')
            sign = '&' if '?' in path else '?'
            self.target = f'{path}{sign}dns={coded.translate(URL_SAFE).decode()}'
            self.body = b''
        self.status: int | None = None
        self.age = 0  # seconds that a cache had the response for
        self.incoming = bytearray()
        self.stream_id = 0  # of HTTP/2, while it is on its way
        self.sent = 0  # octets of the body
        self.was_refused = False

    @property
    def method(self) -> str:
        """The method of the request."""
        return 'POST' if self.id is None else 'GET'

    @property
    def fields(self) -> dict[str, str]:
        """The header fields of the request. They say nothing of who asks."""
        fields = {'accept': DNS_MESSAGE}
        if self.id is None:
            fields |= {'content-type': DNS_MESSAGE, 'content-length': str(len(self.body))}
        return fields

    def head(self, status: str, content_type: str, age: str) -> None:
        """Takes how a response begins. Raises BadResponse."""
        self.age = int(age) if re.fullmatch('[0-9]{1,9}', age) else 0
        if not re.fullmatch('[0-9]{3}', status):
            raise BadResponse(f'The HTTP status is {status[:64]!a}')
        self.status = int(status)
        if not 200 <= self.status < 300:
            raise BadResponse(f'The HTTP status is {status}', self.status)
        if content_type.partition(';')[0].strip().lower() != DNS_MESSAGE:
            raise BadResponse(f'The content type is {content_type[:64]!a}', self.status)

    def add(self, octets: bytes) -> None:
        """Takes a piece of its body. Raises BadResponse."""
        self.incoming += octets
        if len(self.incoming) > MAX_MESSAGE:
            raise BadResponse(f'The response has more than {MAX_MESSAGE} octets', self.status)

    def reply(self) -> bytes:
        """Returns the whole body."""
        if self.id is not None and self.incoming[:2] == b'\0\0':
            self.incoming[:2] = self.id
        octets = bytes(self.incoming)
        return aged(octets, self.age) if self.age else octets


HttpOutcome = bytes | BadResponse | OSError  # of a query: the reply, or why there is none


class Http:
    """Messages in the streams of HTTP/2: a wire as `Frames` is, told apart by their exchanges."""

    __slots__ = (
        'authority',
        'connection',
        'exchanges',
        'h2',
        'incoming',
        'is_going',
        'is_post',
        'path',
        'unsent',
        'uploads',
        'vain',
    )

    def __init__(self, authority: str, path: str, is_post: bool) -> None:
        self.authority = authority
        self.path = path
        self.is_post = is_post
        self.unsent: deque[HttpExchange] = deque()
        self.exchanges: dict[int, HttpExchange] = {}  # those that are sent, by stream
        self.uploads: list[HttpExchange] = []  # those of which some waits for room
        self.incoming = bytearray()
        self.is_going = False  # whether the server wants no more to be asked
        self.vain = 0  # octets that have come since the last reply
        self.h2 = http_library()
        # One response with a field that is not allowed must not end those of all others.
        config = self.h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self.connection = self.h2.connection.H2Connection(config)
        self.connection.local_settings = self.h2.settings.Settings(
            initial_values={self.h2.settings.SettingCodes.ENABLE_PUSH: 0}
        )
        self.connection.initiate_connection()

    def pack(self, octets: bytes) -> HttpExchange:
        """Has a query sent as soon as there is a stream for it, and returns its key."""
        exchange = HttpExchange(octets, self.path, self.is_post)
        self.unsent.append(exchange)
        return exchange

    def to_send(self) -> bytes:
        """Returns what is to be sent now. Raises OSError."""
        most = min(self.connection.remote_settings.max_concurrent_streams, MAX_STREAMS)
        if self.is_going:
            most = 0
        try:
            while self.unsent and len(self.exchanges) < most:
                self.begin(self.unsent.popleft())
            if self.uploads:
                self.uploads = [exchange for exchange in self.uploads if not self.upload(exchange)]
        except self.h2.exceptions.H2Error as error:
            raise OSError(errno.EPROTO, f'HTTP/2 cannot be spoken: {error}') from error
        octets: bytes = self.connection.data_to_send()
        return octets

    def begin(self, exchange: HttpExchange) -> None:
        """Sends a request, of its body what there is room for."""
        stream_id = exchange.stream_id = self.connection.get_next_available_stream_id()
        self.exchanges[stream_id] = exchange
        head = {
            ':method': exchange.method,
            ':scheme': 'https',
            ':authority': self.authority,
            ':path': exchange.target,
            **exchange.fields,
        }
        self.connection.send_headers(stream_id, head.items(), end_stream=not exchange.body)
        if not self.upload(exchange):
            self.uploads.append(exchange)

    def upload(self, exchange: HttpExchange) -> bool:
        """Sends of a body what there is room for, and says whether there is no more to send."""
        connection = self.connection
        left = len(exchange.body) - exchange.sent
        while left and exchange.stream_id:  # each turn sends some
            room = connection.local_flow_control_window(exchange.stream_id)
            size = min(left, room, connection.max_outbound_frame_size)
            if size <= 0:
                return False
            piece = exchange.body[exchange.sent : exchange.sent + size]
            connection.send_data(exchange.stream_id, piece, end_stream=size == left)
            exchange.sent += size
            left -= size
        return True

    def take(self, octets: bytes) -> Iterator[tuple[HttpExchange, HttpOutcome]]:
        """Yields the replies that are whole now, and errors, each with the key of the query.

        Raises OSError. That the server goes away is seen here: the library ends the connection
        then, and with it the replies that are still to come.
        """
        incoming = self.incoming
        incoming += octets
        self.vain += len(octets)
        start = at = 0
        while len(incoming) >= at + FRAME_HEAD:  # each turn passes a head
            size = int.from_bytes(incoming[at : at + 3], 'big')
            if size > self.connection.max_inbound_frame_size:
                raise ConnectionAbortedError(errno.EPROTO, 'This is no HTTP/2')
            end = at + FRAME_HEAD + size
            if len(incoming) < end:
                break
            if incoming[at + 3] == GOAWAY:
                yield from self.feed(bytes(incoming[start:at]))
                yield from self.go(int.from_bytes(incoming[at + 9 : at + 13], 'big'))
                start = end
            at = end
        yield from self.feed(bytes(incoming[start:at]))
        del incoming[:at]
        if self.vain > MAX_VAIN:
            raise ConnectionAbortedError(errno.EPROTO, 'Much came, and no reply')
        if self.is_going and not self.exchanges:
            raise ConnectionResetError(errno.ECONNRESET, 'The server ended HTTP/2 (GOAWAY)')

    def go(self, last: int) -> Iterator[tuple[HttpExchange, HttpOutcome]]:
        """Yields that the server will not look at what was asked after its stream `last`."""
        self.is_going = True
        late = [exchange for number, exchange in self.exchanges.items() if number > last]
        for exchange in late:
            self.end(exchange, False)
        late += self.unsent
        self.unsent.clear()
        for exchange in late:
            yield (
                exchange,
                ConnectionResetError(errno.ECONNRESET, 'The server ended HTTP/2 (GOAWAY)'),
            )

    def feed(self, octets: bytes) -> Iterator[tuple[HttpExchange, HttpOutcome]]:
        """Yields what whole frames bring. Raises OSError."""
        try:
            events = self.connection.receive_data(octets)
        except self.h2.exceptions.H2Error as error:
            text = f'HTTP/2 was broken: {error}'
            raise ConnectionAbortedError(errno.EPROTO, text) from error
        for event in events:
            exchange = self.exchanges.get(getattr(event, 'stream_id', 0))
            if isinstance(event, self.h2.events.DataReceived):
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
                self.vain -= len(event.data) if exchange is not None else 0
            outcome = self.outcome(exchange, event) if exchange is not None else None
            if exchange is not None and outcome is not None:
                self.vain = 0
                self.end(exchange, isinstance(outcome, BadResponse) and not event.stream_ended)
                yield exchange, outcome

    def outcome(self, exchange: HttpExchange, event: Any) -> HttpOutcome | None:
        """Returns what has come of a query, or None if it goes on."""
        events = self.h2.events
        try:
            if isinstance(event, events.ResponseReceived):
                fields = dict(event.headers)
                names = b':status', b'content-type', b'age'
                exchange.head(*[fields.get(name, b'').decode('latin-1') for name in names])
            elif isinstance(event, events.DataReceived):
                exchange.add(event.data)
            elif isinstance(event, events.StreamEnded):
                return exchange.reply()
            elif isinstance(event, events.StreamReset):
                return self.refuse(exchange, event.error_code)
        except BadResponse as error:
            return error.with_traceback(None)
        return None

    def refuse(self, exchange: HttpExchange, code: int) -> OSError | None:
        """Has a query that was not looked at sent again, once (RFC 9113 8.7); else an error."""
        exchange.sent = len(exchange.body)  # nobody wants the rest
        if code != self.h2.errors.ErrorCodes.REFUSED_STREAM or exchange.was_refused:
            text = f'The server ended the request (RST_STREAM, error {code:d})'
            return RequestEnded(errno.ECONNRESET, text)
        self.end(exchange, False)
        exchange.was_refused = True
        exchange.sent = 0
        self.unsent.append(exchange)
        return None

    def end(self, exchange: HttpExchange, is_to_reset: bool) -> None:
        """Ends an exchange; the server is told if it goes on, or waits for more."""
        stream_id, exchange.stream_id = exchange.stream_id, 0
        exchange.incoming = bytearray()
        del self.exchanges[stream_id]
        if is_to_reset or exchange.sent < len(exchange.body):
            try:
                self.connection.reset_stream(stream_id, self.h2.errors.ErrorCodes.CANCEL)
            except self.h2.exceptions.H2Error:
                pass  # nothing can be said any more

    def give_up(self, key: HttpExchange) -> bool:
        """A query is given up; says whether nothing will come of it."""
        if key.stream_id:
            self.end(key, True)
        elif key in self.unsent:
            self.unsent.remove(key)
        return True


# --- 13. The system's files --------------------------------------------------
#
# resolv.conf and hosts: lines in, values out. A line that cannot be read costs
# only itself, and a warning. Nothing here knows who asks.

RESOLV_CONF = '/etc/resolv.conf'
HOSTS = '/etc/hosts'
RESOLV_CONF_KEYWORDS = frozenset({'nameserver', 'search', 'domain', 'options', 'sortlist'})
# The options that say something here, and of a number the least and the most that glibc takes.
NUMBER_OPTIONS = {'ndots': (0, 15), 'timeout': (1, 30), 'attempts': (1, 5)}
FLAG_OPTIONS = frozenset({'rotate', 'use-vc', 'trust-ad', 'no-aaaa'})
# Why a file cannot be read until it has changed; the C library has the same list.
UNREADABLE = frozenset({errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.EPERM})

# An address (an ipaddress object or str) and a port, or a URL: tcp://192.0.2.1:53
AddressPort = tuple[Any, int]
Nameserver = AddressPort | str  # a URL
Addresses = tuple[IPv4Address, ...] | tuple[IPv6Address, ...]
Hosts = dict[bytes, dict[int, Addresses]]  # by name and type


class Conf(NamedTuple):
    """What resolv.conf(5) and the environment say: by default, what goes without saying."""

    nameservers: tuple[AddressPort, ...] = ((IPv4Address('127.0.0.1'), 53),)
    search: tuple[bytes, ...] = ()  # in lower case; the root is a domain like any other
    ndots: int = 1
    timeout: float = 0.5
    attempts: int = 5
    rotate: bool = False
    use_vc: bool = False
    trust_ad: bool = False
    no_aaaa: bool = False


def parse_search(domains: Iterable[str]) -> tuple[bytes, ...]:
    """Returns a search list, each domain once. One that is no name costs only itself."""
    first = list(itertools.islice(domains, MAX_SEARCH + 1))
    if len(first) > MAX_SEARCH:
        logger.warning('Skipped all of the search list after its first %s', MAX_SEARCH)
    search = []
    for domain in first[:MAX_SEARCH]:
        try:
            search.append(to_name(domain).lower())
        except InvalidName as error:
            logger.warning('Skipped a domain of the search list: %s', str(error))
    return tuple(dict.fromkeys(search))


def parse_resolv_options(options: Iterable[str]) -> dict[str, Any]:
    """Returns the fields of Conf that options say; the last one wins.

    One that is not known, `edns0` among them, changes nothing; a number out of range is the
    nearest that is in it.
    """
    said: dict[str, Any] = {}
    for option in options:
        name, _, number = option.partition(':')
        if option in FLAG_OPTIONS:
            said[option.replace('-', '_')] = True
        elif option != name in NUMBER_OPTIONS:
            if number.isascii() and number.isdigit():
                least, most = NUMBER_OPTIONS[name]
                digits = number.lstrip('0')[:3]  # three are more than enough for any of them
                said[name] = min(max(least, int(digits or '0')), most)
            else:
                logger.warning('Skipped the option %.64r of resolv.conf: no number', option)
    return said


def parse_resolv_conf(lines: Iterable[str], environ: Mapping[str, str], host_name: str) -> Conf:
    """Returns what resolv.conf(5) says together with LOCALDOMAIN and RES_OPTIONS.

    Without a nameserver it is the one on this host; without a search list it is the domain that
    the host's own name is in. The last search or domain wins, and LOCALDOMAIN over both.
    """
    nameservers: list[AddressPort] = []
    domains = host_name.partition('.')[2].split()
    options: list[str] = []
    for line in lines:
        words = itertools.takewhile(lambda word: word[0] not in '#;', line.split())
        keyword, *values = list(words) or ['options']  # of which there are none
        try:
            if keyword not in RESOLV_CONF_KEYWORDS:
                raise ValueError(f'{keyword!r} is no keyword')
            if keyword == 'nameserver':
                nameservers.append((ip_address(values[0] if values else ''), 53))
        except ValueError as error:
            logger.warning('Skipped %.256r of resolv.conf: %.256s', line.rstrip('\n'), str(error))
        if keyword == 'options':
            options += values
        elif keyword in ('search', 'domain') and values:
            domains = values if keyword == 'search' else values[:1]
    if 'LOCALDOMAIN' in environ:  # if it is empty, there is no search list
        domains = environ['LOCALDOMAIN'].partition('\n')[0].split()
    options += environ.get('RES_OPTIONS', '').split()
    said = parse_resolv_options(options)
    if nameservers:
        said['nameservers'] = tuple(nameservers)
    return Conf(search=parse_search(domains), **said)


def parse_system_resolv_conf(lines: Iterable[str]) -> Conf:
    """Returns what resolv.conf(5) says on this host, in this process's environment."""
    return parse_resolv_conf(lines, os.environ, socket.gethostname())


def parse_hosts(lines: Iterable[str]) -> Hosts:
    """Returns the addresses of each name of hosts(5), names in lower case."""
    hosts: dict[bytes, dict[int, Any]] = {}
    for line in lines:
        words = line.partition('#')[0].split()
        if not words:
            continue
        try:
            address = ip_address(words[0])
            names = [to_name(word).lower() for word in words[1:]]
        except ValueError as error:
            logger.warning('Skipped %r of hosts: %s', line.rstrip('\n'), str(error))
            continue
        qtype = TYPES.A if address.version == 4 else TYPES.AAAA
        for name in names:
            known = hosts.setdefault(name, {TYPES.A: (), TYPES.AAAA: ()})
            if address not in known[qtype]:
                known[qtype] += (address,)
    return hosts


class ConfigFile:
    """A file of the system's, parsed, and read again once it has changed."""

    __slots__ = ('looked_at', 'parse', 'path', 'signature', 'value')

    def __init__(self, path: str, parse: Callable[[Iterable[str]], Any]) -> None:
        self.path = path
        self.parse = parse
        self.looked_at = float('-inf')
        self.signature: tuple[int, ...] | None = ()  # of no file, read or missing
        self.value: Any = None

    def current(self, now: float) -> Any:
        """Returns the parsed file, no older than STAT_SECONDS; as if empty if there is none."""
        if not 0 <= now - self.looked_at < STAT_SECONDS:
            signature = self.look()
            if signature != self.signature:
                self.renew(signature)
            self.looked_at = now
        return self.value

    def renew(self, signature: tuple[int, ...] | None) -> None:
        """Has the file as it is now, or as it was if it cannot be read for the moment."""
        try:
            # In this order: another thread, or the next call after an error, reads it anew.
            self.value = self.read()
            self.signature = signature
        except OSError as error:
            logger.warning('Cannot read %s for now: %s', self.path, str(error))
            if self.value is None:
                self.value = self.parse(())

    def look(self) -> tuple[int, ...] | None:
        """Returns what changes when the file does, or None if there is none."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> Any:
        """Returns the parsed file. Raises OSError for what will pass, such as no descriptor."""
        logger.debug('Reading %s', self.path)
        try:
            with open(self.path, encoding='utf-8', errors='surrogateescape') as lines:
                return self.parse(lines)
        except FileNotFoundError:
            return self.parse(())
        except OSError as error:
            if error.errno not in UNREADABLE:
                raise
            logger.warning('Cannot read %s: %s', self.path, str(error))
            return self.parse(())


config_file = functools.lru_cache(maxsize=64)(ConfigFile)


class Watch:
    """What a resolver goes by of the system's files, and when to look at them again.

    There is nothing to look for from `since` until `due`, on the clock of a loop: another loop's
    that is far behind is before `since`.
    """

    __slots__ = (
        'conf',
        'due',
        'files',
        'given_search',
        'ndots',
        'resolv_conf',
        'search',
        'since',
        'values',
    )

    def __init__(
        self,
        resolv_conf: ConfigFile | None,
        hosts: ConfigFile | None,
        given_search: tuple[bytes, ...] | None,
    ) -> None:
        self.resolv_conf = resolv_conf
        self.given_search = given_search
        self.files = [file for file in (resolv_conf, hosts) if file is not None]
        self.values: list[Any] = [None for _ in self.files]
        self.since = float('-inf')
        self.due = float('-inf') if self.files else float('inf')
        self.conf = Conf()
        self.search: tuple[bytes, ...] = ()
        self.ndots = 0
        self.heed(self.conf)

    def heed(self, conf: Conf) -> None:
        """Goes by this resolv.conf. A search list that has but the root in it is none."""
        search = conf.search if self.given_search is None else self.given_search
        self.conf = conf
        self.search = search if any(search) else ()
        # Without as many dots, a name is not the first to be asked for.
        self.ndots = conf.ndots if self.search else 0

    def look(self, now: float) -> bool:
        """Looks at the files, and says whether one of them has been read again.

        That counts as a change whatever it says now: the same address may well be another
        nameserver in another network.
        """
        values = [file.current(now) for file in self.files]
        has_changed = any(map(operator.is_not, values, self.values))
        self.values = values
        if self.resolv_conf is not None:
            self.heed(values[0])
        self.since = now
        self.due = min([file.looked_at for file in self.files]) + STAT_SECONDS
        return has_changed


# --- nothing above this line awaits ------------------------------------------


# --- 14. Waiting -------------------------------------------------------------
#
# The only user of the loop's readers, writers, transports and timers. One way to wait
# for sockets, one armed timer and one count of open sockets serve all who wait on a
# loop. Who waits here is an `Owner` or a `Sleeper`; nothing here knows what for.


Address = tuple[Any, ...]  # as `connect` takes it


class Owner(Protocol):
    """Whoever waits for a socket."""

    def receive(self, fd: int) -> None:
        """There is something to read from a socket: all of it, or `again` is called.

        Or for nothing; or what was being connected is, or cannot be. May not raise.
        """


class Sleeper(Protocol):
    """Whoever waits for a timeout."""

    def expire(self) -> None:
        """The time is up. May not raise."""


class Socket(Protocol):
    """What an owner needs of a socket, which never blocks."""

    def fileno(self) -> int:
        """Returns its descriptor, which is its name until it is closed."""

    def recv(self, size: int, /) -> bytes:
        """Returns what has come first. Raises BlockingIOError if nothing has, or OSError."""

    def send(self, octets: bytes | bytearray, /) -> int:
        """Sends octets, and returns how many. Raises OSError."""

    def close(self) -> None:
        """Closes it."""


class Readiness(Protocol):
    """A way to wait for sockets. There are three, and a loop has the best that it can have."""

    @property
    def owners(self) -> Mapping[int, Any]:
        """Who waits, by descriptor."""

    def open(
        self,
        sock: socket.SocketType,
        address: Address,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
    ) -> Socket:
        """Returns a socket, to be used in place of `sock`, and from now on tells its owner.

        It is connected to `address`, or is being so. Raises OSError, and closes `sock` then.
        """

    def again(self, fd: int) -> None:
        """The owner has left something unread: it is told anew."""

    def writable(self, fd: int) -> None:
        """The owner is told once the socket can be written to."""

    def close(self, fd: int) -> None:
        """The owner is told no longer. It closes the socket next."""

    def watch(self, fd: int, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        """The owner is told of a socket that stays open. Raises OSError if another is already."""

    def unwatch(self, fd: int, owner: Owner) -> None:
        """The owner is told no longer of a socket that it watched."""


def begin_to_connect(sock: socket.SocketType, address: Address) -> None:
    """Connects a socket: one for datagrams at once, a stream in a while. Raises OSError."""
    try:
        sock.connect(address)
    except BlockingIOError:
        pass  # the owner is told


EPOLL_READ = select.EPOLLIN | select.EPOLLET if hasattr(select, 'epoll') else 0


class Epoll:
    """Waits in an epoll of our own, of which the loop sees one descriptor: the fastest way.

    It is edge-triggered: an event comes once, also for a socket that a forked child still holds.
    A socket leaves the epoll as it is closed.
    """

    __slots__ = ('epoll', 'owners')

    def __init__(self) -> None:
        self.epoll: select.epoll | None = None
        self.owners: dict[int, Owner] = {}

    def open(
        self,
        sock: socket.SocketType,
        address: Address,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
    ) -> socket.SocketType:
        """Returns the socket itself."""
        fd = sock.fileno()
        try:
            begin_to_connect(sock, address)
            self.watch(fd, owner, loop)
        except BaseException:
            sock.close()
            raise
        return sock

    def watch(self, fd: int, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        """The owner is told of a socket that stays open. Raises OSError if another is already."""
        if self.epoll is None:
            epoll = select.epoll()
            loop.add_reader(epoll.fileno(), self.drain)
            self.epoll = epoll
        self.epoll.register(fd, EPOLL_READ)
        self.owners[fd] = owner

    def unwatch(self, fd: int, owner: Owner) -> None:
        """The owner is told no longer of a socket that it watched."""
        if self.owners.get(fd) is owner:
            assert self.epoll is not None
            del self.owners[fd]
            try:
                self.epoll.unregister(fd)
            except OSError:
                pass  # it was closed under our hands

    def again(self, fd: int) -> None:
        """The owner has left something unread: it is told anew."""
        assert self.epoll is not None
        self.epoll.modify(fd, EPOLL_READ)

    def writable(self, fd: int) -> None:
        """The owner is told once the socket can be written to."""
        assert self.epoll is not None
        self.epoll.modify(fd, EPOLL_READ | select.EPOLLOUT)

    def close(self, fd: int) -> None:
        """The owner is told no longer."""
        self.owners.pop(fd, None)

    def drain(self) -> None:
        """Tells the owners of all sockets that became ready."""
        assert self.epoll is not None
        for fd, _ in self.epoll.poll(0):
            owner = self.owners.get(fd)
            if owner is not None:
                owner.receive(fd)


class Readers:
    """Waits with a reader of the loop's for each socket: where there is no epoll, as on macOS."""

    __slots__ = ('owners',)

    def __init__(self) -> None:
        self.owners: dict[int, tuple[Owner, asyncio.AbstractEventLoop]] = {}

    def open(
        self,
        sock: socket.SocketType,
        address: Address,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
    ) -> socket.SocketType:
        """Returns the socket itself."""
        fd = sock.fileno()
        try:
            sock.setblocking(False)
            begin_to_connect(sock, address)
            self.watch(fd, owner, loop)
        except BaseException:
            sock.close()
            raise
        return sock

    def watch(self, fd: int, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        """The owner is told of a socket that stays open. Raises OSError if another is already."""
        if fd in self.owners:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        loop.add_reader(fd, owner.receive, fd)
        self.owners[fd] = owner, loop

    def unwatch(self, fd: int, owner: Owner) -> None:
        """The owner is told no longer of a socket that it watched."""
        if self.owners.get(fd, (None,))[0] is owner:
            self.close(fd)

    def again(self, fd: int) -> None:
        """Does nothing: a loop tells of what is left unread by itself."""

    def writable(self, fd: int) -> None:
        """The owner is told once the socket can be written to."""
        _, loop = self.owners[fd]
        loop.add_writer(fd, self.write, fd)

    def write(self, fd: int) -> None:
        """Tells the owner, once, that a socket can be written to."""
        owner, loop = self.owners[fd]
        loop.remove_writer(fd)
        owner.receive(fd)

    def close(self, fd: int) -> None:
        """The owner is told no longer."""
        if fd in self.owners:
            _, loop = self.owners.pop(fd)
            loop.remove_reader(fd)
            loop.remove_writer(fd)


class Endpoint(asyncio.BaseProtocol):
    """A socket that a transport of the loop's reads, and what it has read.

    The transport is made by a task, which ends once there is one, or there can be none. The
    socket is closed a turn of the loop later than the endpoint: until then its descriptor is no
    other's.
    """

    __slots__ = ('came', 'fd', 'loop', 'owner', 'sock', 'task', 'transport', 'was_handed_over')

    def __init__(
        self,
        sock: socket.SocketType,
        address: Address,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # Of the class that uvloop's transports know to detach: others it closes twice.
        self.sock = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
        self.sock.setblocking(False)
        self.fd = self.sock.fileno()
        self.owner: Owner | None = owner
        self.loop = loop
        self.came: deque[bytes | OSError] = deque()
        self.transport: Any = None
        self.was_handed_over = False
        self.task = loop.create_task(self.make(address))
        self.task.add_done_callback(self.take_over)

    async def make(self, address: Address) -> None:
        """Makes the transport. Raises OSError."""
        raise NotImplementedError

    def hand_over(self) -> Any:
        """Returns itself as the protocol of the transport, which owns the socket from now on."""
        self.was_handed_over = True
        return self

    def take_over(self, task: asyncio.Task[None]) -> None:
        """Keeps why there is no transport, and closes the socket if there never was one."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, OSError):
            self.keep(error)
        if not self.was_handed_over:
            self.sock.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there. What has no owner any more is closed."""
        self.transport = transport
        if self.owner is None:
            self.transport.abort()
        self.tell()

    def keep(self, what: bytes | OSError) -> None:
        """Keeps what has come, and tells the owner."""
        self.came.append(what)
        self.tell()

    def tell(self) -> None:
        """Tells the owner, if it is still there."""
        if self.owner is not None:
            self.owner.receive(self.fd)

    def fileno(self) -> int:
        """Returns the descriptor."""
        return self.fd

    def recv(self, _: int, /) -> bytes:
        """Returns what came first. Raises OSError."""
        if not self.came:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        first = self.came.popleft()
        if isinstance(first, bytes):
            return first
        try:
            raise first
        finally:
            del first  # which would hold on to itself by its traceback

    def close(self) -> None:
        """Closes the socket, as soon as the loop is done with it."""
        self.owner = None
        self.came.clear()
        self.task.cancel()
        if self.transport is not None:
            self.transport.abort()


class DatagramEndpoint(Endpoint, asyncio.DatagramProtocol):
    """An endpoint for datagrams."""

    __slots__ = ()

    async def make(self, address: Address) -> None:
        """Makes the transport."""
        await self.loop.create_datagram_endpoint(self.hand_over, sock=self.sock)

    def datagram_received(self, data: bytes, _: Any) -> None:
        """Keeps a datagram."""
        self.keep(data)

    def error_received(self, error: Exception) -> None:
        """Keeps an error of the system's."""
        assert isinstance(error, OSError)
        self.keep(error)

    def send(self, octets: bytes | bytearray, /) -> int:
        """Sends a datagram at once."""
        return self.sock.send(octets)


class StreamEndpoint(Endpoint, asyncio.Protocol):
    """An endpoint for a stream. There is no end to what its transport takes to send."""

    __slots__ = ()

    async def make(self, address: Address) -> None:
        """Connects, and makes the transport."""
        await self.loop.sock_connect(self.sock, address)
        await self.loop.create_connection(self.hand_over, sock=self.sock)

    def data_received(self, data: bytes) -> None:
        """Keeps what has come."""
        self.keep(bytes(data))

    def connection_lost(self, error: Exception | None) -> None:
        """Keeps why the stream has ended, or that it has."""
        self.keep(error if isinstance(error, OSError) else b'')

    def send(self, octets: bytes | bytearray, /) -> int:
        """Sends octets. Raises BlockingIOError until it is connected."""
        if self.transport is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.transport.write(bytes(octets))  # a copy, for they may change before they are sent
        return len(octets)


class Glance:
    """Has the owner of a socket that stays open look at it again and again."""

    __slots__ = ('fd', 'handle', 'loop', 'owner')

    def __init__(self, fd: int, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.fd = fd
        self.owner = owner
        self.loop = loop
        self.handle: asyncio.Handle = loop.call_soon(self.tell)

    def tell(self) -> None:
        """Has the owner look at the socket now, and in a while."""
        self.handle = self.loop.call_later(GLANCE_SECONDS, self.tell)
        self.owner.receive(self.fd)


class Endpoints:
    """Waits with a transport for each socket: where a loop has no readers.

    That is the one of Windows, asyncio.ProactorEventLoop. A socket that stays open cannot be had
    back from a transport, and is looked at from time to time.
    """

    __slots__ = ('glances', 'owners')

    def __init__(self) -> None:
        self.owners: dict[int, Endpoint] = {}
        self.glances: dict[int, Glance] = {}

    def open(
        self,
        sock: socket.SocketType,
        address: Address,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
    ) -> DatagramEndpoint | StreamEndpoint:
        """Returns an endpoint, which has the socket now."""
        endpoint: DatagramEndpoint | StreamEndpoint
        if sock.type == socket.SOCK_STREAM:
            endpoint = StreamEndpoint(sock, address, owner, loop)
        else:
            try:
                sock.connect(address)
            except BaseException:
                sock.close()
                raise
            endpoint = DatagramEndpoint(sock, address, owner, loop)
        self.owners[endpoint.fd] = endpoint
        return endpoint

    def again(self, fd: int) -> None:
        """The owner has left something unread: it is told anew."""
        endpoint = self.owners.get(fd)
        if endpoint is not None:  # else it is a socket that stays open, and looked at again anyway
            endpoint.loop.call_soon(endpoint.tell)

    def writable(self, fd: int) -> None:
        """Does nothing: the owner is told once there is a transport, which then takes all."""

    def close(self, fd: int) -> None:
        """The owner is told no longer, once it has closed the endpoint."""
        self.owners.pop(fd, None)

    def watch(self, fd: int, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        """The owner is told of a socket that stays open. Raises OSError if another is already."""
        if fd in self.glances:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.glances[fd] = Glance(fd, owner, loop)

    def unwatch(self, fd: int, owner: Owner) -> None:
        """The owner is told no longer of a socket that it watched."""
        if fd in self.glances and self.glances[fd].owner is owner:
            self.glances.pop(fd).handle.cancel()


class Timeouts:
    """Timeouts of few different lengths: a queue each, in order, and one timer of the loop's."""

    __slots__ = ('handle', 'queues', 'rings_at')

    def __init__(self) -> None:
        self.queues: dict[float, OrderedDict[Sleeper, float]] = {}
        self.handle: asyncio.TimerHandle | None = None
        self.rings_at = 0.0

    def start(self, seconds: float, owner: Sleeper, loop: asyncio.AbstractEventLoop) -> None:
        """Has `owner` told in `seconds`, unless it stops before. It has one timeout at a time."""
        deadline = loop.time() + seconds
        queue = self.queues.get(seconds)
        if queue is None:
            queue = self.queues[seconds] = OrderedDict()
        queue[owner] = deadline
        if self.handle is None or deadline < self.rings_at:
            self.set(deadline, loop)

    def stop(self, seconds: float, owner: Sleeper) -> None:
        """Forgets a timeout that was started and has not expired."""
        queue = self.queues[seconds]
        del queue[owner]
        if not queue:
            del self.queues[seconds]
            if not self.queues and self.handle is not None:
                self.handle.cancel()
                self.handle = None

    def set(self, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the one timer."""
        if self.handle is not None:
            self.handle.cancel()
        self.handle = loop.call_at(deadline, self.ring, loop)
        self.rings_at = deadline

    def ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tells all whose time is up, and sets the timer for the next."""
        self.handle = None
        now = loop.time()
        for seconds, queue in list(self.queues.items()):
            while queue and next(iter(queue.values())) <= now:  # each turn takes one out
                owner, _ = queue.popitem(last=False)
                owner.expire()
            if not queue:
                del self.queues[seconds]
        if self.queues:
            self.set(min(next(iter(queue.values())) for queue in self.queues.values()), loop)


class Idler(Protocol):
    """Whatever has a turn that it could do without."""

    def close(self) -> None:
        """Closes it. It is idle no longer, and gives its turn back."""

    def abandon(self) -> None:
        """Closes it when its loop is closed, and cannot be asked for anything."""


def begin(generator: AsyncGenerator[None, None]) -> None:
    """Runs an asynchronous generator up to where it first yields, if it awaits nothing there."""
    try:
        generator.__anext__().__await__().send(None)
    except StopIteration:
        pass  # which is how a generator tells what it yields


class Turns:
    """Turns to have a socket open: so many, and a queue of those who have none.

    What is `idle` is open, and is closed when its turn is wanted, the oldest first, or at the end.
    """

    __slots__ = ('free', 'idle', 'keeper', 'queue')

    def __init__(self, free: int) -> None:
        self.free = free
        self.queue: deque[asyncio.Future[None]] = deque()
        self.idle: OrderedDict[Idler, None] = OrderedDict()
        self.keeper: AsyncGenerator[None, None] | None = None

    @property
    def are_taken(self) -> bool:
        """Whether who wants a turn has to wait."""
        return not (self.free or self.idle)

    def take(self) -> bool:
        """Takes a turn if one is free, and says whether."""
        if self.free == 0:
            if not self.idle:
                return False
            next(iter(self.idle)).close()
        self.free -= 1
        return True

    def rest(self, idler: Idler) -> bool:
        """Takes note of what is open and may be closed; says False if its turn is wanted now."""
        if self.queue:
            return False
        if self.keeper is None:
            self.keeper = self.close_at_the_end()
            begin(self.keeper)
        self.idle[idler] = None
        return True

    async def close_at_the_end(self) -> AsyncGenerator[None, None]:
        """Waits until the loop ends all asynchronous generators, and closes what is idle.

        A task would be in the way of those who wait for all tasks to end.
        """
        try:
            yield
        finally:
            self.keeper = None  # which holds on to the loop
            while self.idle:  # each turn takes one out
                next(iter(self.idle)).close()

    def abandon(self) -> None:
        """Closes what is idle when the loop is closed already."""
        while self.idle:  # each turn takes one out
            self.idle.popitem()[0].abandon()

    async def wait(self) -> None:
        """Takes a turn once one is free, first come first served."""
        if self.take():
            return
        turn = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # handed to us as we were cancelled
                self.give_back()
            raise

    def give_back(self) -> None:
        """Gives a turn back: to the first in the queue, if any."""
        while self.queue:  # each turn takes one out
            turn = self.queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


def max_open_sockets() -> int:
    """Returns how many sockets may be open: half of what the system allows, at most MAX_OPEN."""
    try:
        import resource
    except ImportError:  # on Windows
        return MAX_SELECTED // 2
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN if soft == resource.RLIM_INFINITY else max(1, min(MAX_OPEN, soft // 2))


class Waiting(NamedTuple):
    """All that is waited for on one event loop."""

    readiness: Readiness
    timeouts: Timeouts
    turns: Turns


# An entry goes with its loop: nothing in a Waiting without open sockets may hold on to the loop.
WAITING: WeakKeyDictionary[asyncio.AbstractEventLoop, Waiting] = WeakKeyDictionary()


def way_to_wait_on(loop: asyncio.AbstractEventLoop) -> Readiness:
    """Returns the best way to wait for sockets that an event loop can have."""
    # AbstractEventLoop's own raises NotImplementedError, and the loop of Windows has no other.
    if getattr(loop.add_reader, '__func__', None) is asyncio.AbstractEventLoop.add_reader:
        return Endpoints()
    return Epoll() if hasattr(select, 'epoll') else Readers()


def waiting_on(loop: asyncio.AbstractEventLoop) -> Waiting:
    """Returns the Waiting of an event loop."""
    waiting = WAITING.get(loop)
    if waiting is None:
        for reference in WAITING.keyrefs():  # a list: other threads may have loops of their own
            other = reference()
            ended = WAITING.pop(other, None) if other is not None and other.is_closed() else None
            if ended is not None:
                ended.turns.abandon()
        turns = Turns(max_open_sockets())
        waiting = WAITING[loop] = Waiting(way_to_wait_on(loop), Timeouts(), turns)
    return waiting


# --- 15. Transports ----------------------------------------------------------
#
# Queries and replies, to an IP address and a port. An exchange belongs to one task,
# and has a socket of its own for each datagram; a stream is shared by all who ask
# the same nameserver, and lasts. A datagram that is no answer may be dropped and the
# wait go on; on a stream it is the outcome. What an answer is worth is not known here.

# Non-blocking from the start where the system can, else made so as it is opened.
NONBLOCK: int = getattr(socket, 'SOCK_NONBLOCK', 0)
QUICKACK: int = getattr(socket, 'TCP_QUICKACK', 0)
UDP = socket.SOCK_DGRAM | NONBLOCK
TCP = socket.SOCK_STREAM | NONBLOCK
# RFC 1035 4.2, RFC 7858 3.1, RFC 8484 8.1; and what a stream to such a nameserver is
DEFAULT_PORTS = {'udp': 53, 'tcp': 53, 'tls': 853, 'https': 443}
OVER = {'udp': 'TCP', 'tcp': 'TCP', 'tls': 'TLS', 'https': 'HTTPS'}
URL = re.compile(
    r'(?P<scheme>[a-z]+)://'
    r'(?:\[(?P<bracketed>[^]]+)\]|(?P<plain>[^]:/#[]+|[^]/#[]*:[^]/#[]*:[^]/#[]*))'
    r'(?::(?P<port>[0-9]{1,5}))?'
    r'(?P<path>/[!-"$-~]*)?'
    r'(?:#(?P<name>.+))?'
)


def bracketed(host: str) -> str:
    """Returns a host as it is written in a URL (RFC 3986 3.2.2)."""
    return f'[{host}]' if ':' in host else host


class Server:
    """A nameserver as the system wants it, and what those who ask it know of it.

    That is until when it folds letter case, lacks EDNS, is down, and when it replied last; by the
    loop's clock; and the stream to it.
    """

    __slots__ = (
        'address',
        'context',
        'doubt',
        'down_until',
        'family',
        'folds_until',
        'heard_at',
        'idle_seconds',
        'is_post',
        'is_stream',
        'name',
        'path',
        'plain_until',
        'scheme',
        'scope',
        'source',
        'stream',
        'text',
    )

    def __init__(
        self,
        address: IPv4Address | IPv6Address,
        port: int,
        scheme: str = 'udp',
        name: str = '',
        path: str = '',
    ) -> None:
        text = str(address)
        host, _, scope = text.partition('%')
        is_ipv4 = isinstance(address, IPv4Address)
        self.family = socket.AF_INET if is_ipv4 else socket.AF_INET6
        self.address = host, port
        self.scope = scope  # of an IPv6 address, or empty
        self.scheme = scheme
        self.name = name or host  # what its certificate has to be for
        self.path = path  # of HTTP, or empty
        self.is_post = True  # rather than GET
        self.context: Any = None  # an SSLContext, or None for that of the system
        self.source: Address | None = None  # to send from, or None for any
        self.is_stream = scheme != 'udp'  # it is to be asked over streams only
        self.text = f'{text}:{port}' if is_ipv4 else f'[{text}]:{port}'
        self.stream: Stream | None = None
        self.idle_seconds = IDLE_SECONDS  # for how long it is kept when nothing is asked
        self.folds_until = 0.0
        self.plain_until = 0.0
        self.down_until = 0.0
        self.heard_at = -1.0
        self.doubt = MAX_DOUBT - 1  # that it bears EDNS: there is less once it has answered

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to heed when it is asked."""
        return not (self.down_until or self.plain_until or self.folds_until)

    @property
    def url(self) -> str:
        """What it is called, whatever else it may be called."""
        return f'{self.scheme}://{self.text}{self.path}#{self.name}'

    @property
    def authority(self) -> str:
        """What HTTP calls it: its name, and its port unless it is the usual one."""
        port = self.address[1]
        return bracketed(self.name) + (f':{port}' if port != DEFAULT_PORTS['https'] else '')

    def retire(self) -> None:
        """Nothing more is sent on its stream, which is closed once nobody waits for it."""
        stream, self.stream = self.stream, None
        if stream is not None and not stream.live:
            stream.close()

    def look_at_clock(self, now: float) -> None:
        """Forgets what has been known for long enough, save that it is down."""
        if self.folds_until <= now:
            self.folds_until = 0.0
        if self.plain_until <= now:
            self.plain_until = 0.0

    def may_be_up(self, now: float) -> bool:
        """Whether it is worth a query. Of those who ask after a while, one at a time finds out."""
        if now < self.down_until:
            return False
        if self.down_until:
            self.down_until = now + PROBE_SECONDS
        return True

    def heard(self, now: float) -> None:
        """It gave a reply, perhaps a late one, or an error: it is not down."""
        self.heard_at = now
        self.down_until = 0.0

    def not_heard(self, since: float, now: float) -> None:
        """It gave no reply in time: it is down, unless it gave one to others meanwhile.

        Else who has it asked for a name that takes long would have it put aside for all names.
        """
        if self.heard_at < since:
            self.down_until = now + DOWN_SECONDS

    def bears_edns(self) -> None:
        """It gave a good reply to a query with EDNS."""
        self.doubt = 0
        self.plain_until = 0.0


def to_address(host: Any) -> IPv4Address | IPv6Address:
    """Returns the address of a nameserver. Raises InvalidName, or TypeError for another type."""
    try:
        address = ip_address(host) if isinstance(host, str) else host
    except ValueError as error:
        raise InvalidName(f'{host!r} is no address of a nameserver') from error
    if not isinstance(address, (IPv4Address, IPv6Address)):
        raise TypeError(f'The address of a nameserver is no {type(host).__name__}: {host!r}')
    scope = (isinstance(address, IPv6Address) and address.scope_id) or ''
    if len(scope) >= 16 or '\0' in scope or (scope.isdecimal() and int(scope) >= 1 << 32):
        raise InvalidName(f'{scope[:32]!r} is no scope of an address')  # IF_NAMESIZE is 16
    return address


def check_port(port: Any) -> None:
    """Raises InvalidName or TypeError unless it is a port."""
    if not isinstance(port, int):
        raise TypeError(f'A port is a number, not {port!r}')
    if not 0 < port < 65536:
        raise InvalidName(f'{port} is no port')


def server_at(host: Any, port: Any, scheme: str, name: str = '', path: str = '') -> Server:
    """Returns a nameserver of which nothing is known yet. Raises InvalidName or TypeError."""
    address = to_address(host)
    check_port(port)
    return Server(address, port, scheme, name, path)


def certificate_name(text: str) -> str:
    """Returns the name that a certificate has to be for: a host name in ASCII, or an address."""
    name = to_name(text).decode('ascii')
    if '\\' not in text and re.fullmatch('[A-Za-z0-9_.-]+', name):
        return name
    try:
        return str(IPv6Address(text.partition('%')[0]))
    except ValueError as error:
        raise InvalidName(f'{text!r} is no host name') from error


class Url(NamedTuple):
    """The URL of a nameserver, taken apart."""

    scheme: str
    host: str
    port: int | None
    path: str
    name: str


def parse_url(url: str) -> Url:
    """Returns what a URL says of a nameserver. Raises InvalidName."""
    parts = URL.fullmatch(url)
    scheme = parts['scheme'] if parts is not None else ''
    is_http = scheme == 'https'
    if (
        parts is None
        or scheme not in DEFAULT_PORTS
        or (parts['name'] and scheme not in ALPN)
        or (parts['path'] and not is_http)
    ):
        raise InvalidName(
            f'{url!r} is not udp://ADDRESS, tcp://ADDRESS, tls://ADDRESS#NAME or'
            ' https://ADDRESS/PATH#NAME, with a port or without'
        )
    name = certificate_name(parts['name']) if parts['name'] else ''
    # Without what a template has at its end (RFC 8484 4.1).
    path = (parts['path'] or DNS_QUERY).removesuffix('{?dns}') if is_http else ''
    port = int(parts['port']) if parts['port'] else None
    return Url(scheme, parts['bracketed'] or parts['plain'], port, path, name)


def to_server(nameserver: Nameserver) -> Server:
    """Returns a nameserver, an address and a port or a URL, of which nothing is known yet.

    Raises InvalidName for what is no address, port or URL, TypeError for what is none of these,
    and MissingDependency.
    """
    if isinstance(nameserver, tuple) and len(nameserver) == 2:
        return server_at(*nameserver, 'udp')
    if not isinstance(nameserver, str):
        raise TypeError(f'A nameserver is an address and a port, or a URL, not {nameserver!r}')
    url = parse_url(nameserver)
    if url.scheme == 'https':
        http_library()
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    return server_at(url.host, port, url.scheme, url.name, url.path)


def interface_index(name: str) -> int:
    """Returns the index of a network interface. Raises OSError, with an errno on every Python."""
    try:
        return socket.if_nametoindex(name)
    except (OSError, UnicodeError) as error:
        raise OSError(errno.ENODEV, f'There is no interface {name!r}') from error


def scoped(address: tuple[str, int], scope: str) -> Address:
    """Returns what the system takes. Raises OSError for a scope that is no interface here."""
    if not scope:
        return address
    return *address, 0, int(scope) if scope.isdecimal() else interface_index(scope)


def open_socket(
    sock: socket.SocketType,
    server: Server,
    waiting: Waiting,
    owner: Owner,
    loop: asyncio.AbstractEventLoop,
) -> Socket:
    """Returns `sock`, or what is used in its place, connected or being so. Raises OSError."""
    try:
        address = scoped(server.address, server.scope) if server.scope else server.address
        if server.source is not None:
            sock.bind(server.source)
    except BaseException:
        sock.close()
        raise
    return waiting.readiness.open(sock, address, owner, loop)


def open_datagram(
    server: Server, waiting: Waiting, owner: Owner, loop: asyncio.AbstractEventLoop
) -> Socket:
    """Returns a socket connected to a nameserver, so that the kernel drops what others send.

    The kernel draws its port at random. Raises OSError.
    """
    sock = socket.SocketType(server.family, UDP, socket.IPPROTO_UDP)
    return open_socket(sock, server, waiting, owner, loop)


def open_stream(
    server: Server, waiting: Waiting, owner: Owner, loop: asyncio.AbstractEventLoop
) -> Socket:
    """Returns a socket that is being connected to a nameserver. Raises OSError."""
    sock = socket.SocketType(server.family, TCP, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a query is small, and urgent
    except BaseException:
        sock.close()
        raise
    return open_socket(sock, server, waiting, owner, loop)


@functools.lru_cache(maxsize=16)
def tls_context(verify: bool | str, protocol: str, version: tuple[int, ...] = ()) -> Any:
    """Returns an SSLContext: certificates are checked against those of the system, or of a path.

    Not at all if `verify` is False. Another `version` is another file. Raises OSError.
    """
    import ssl

    path = verify if isinstance(verify, str) else None
    is_folder = path is not None and os.path.isdir(path)
    context = ssl.create_default_context(
        cafile=None if is_folder else path, capath=path if is_folder else None
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8310 9.1, RFC 9325 3.1.1
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9113 9.2.1
    context.set_alpn_protocols([protocol])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def file_version(path: bool | str) -> tuple[int, ...]:
    """Returns what changes when a file of authorities does. Raises OSError if there is none."""
    if isinstance(path, bool):
        return ()
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def to_context(verify: Any, protocol: str) -> Any:
    """Returns the SSLContext that a caller means: one, a path, or whether there is a check.

    Raises OSError, or TypeError for what is none of these.
    """
    path = os.fspath(verify) if isinstance(verify, os.PathLike) else verify
    if isinstance(path, (bool, str)):
        if path == '':
            raise InvalidName('An empty path is that of no authorities')
        try:
            return tls_context(path, protocol, file_version(path))
        except ValueError as error:
            raise InvalidName(f'{path!r} is no path') from error
    if hasattr(verify, 'wrap_bio'):
        return verify
    raise TypeError(f'verify is a bool, a path or an SSLContext, not {verify!r}')


class Tls:
    """TLS, as octets in and octets out (RFC 7858). Nothing is sent before the check has passed."""

    __slots__ = (
        'incoming',
        'is_over',
        'is_ready',
        'outgoing',
        'plain',
        'protocol',
        'tls',
        'wants',
    )

    def __init__(self, context: Any, name: str, protocol: str) -> None:
        import ssl

        self.protocol = protocol

        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.wants = ssl.SSLWantReadError
        self.plain = bytearray()  # what is to be sent after the handshake
        self.is_ready = False
        self.is_over = False  # the other side has said so

    def shake_hands(self) -> None:
        """Goes on with the handshake. Raises OSError, also if the certificate does not pass."""
        try:
            self.tls.do_handshake()
        except self.wants:
            return
        if self.protocol == 'h2' and self.tls.selected_alpn_protocol() != 'h2':  # RFC 9113 3.2
            raise OSError(errno.EPROTO, 'TLS was not agreed to be for HTTP/2 (ALPN h2)')
        self.is_ready = True
        if self.plain:
            self.tls.write(self.plain)

    def wrap(self, octets: bytes) -> bytes:
        """Returns what to send now, that `octets` get there. Raises OSError."""
        if octets and self.is_ready:
            self.tls.write(octets)
        elif octets:
            self.plain += octets
            self.shake_hands()
        return self.outgoing.read()

    def unwrap(self, octets: bytes) -> bytes:
        """Returns what has come whole. Raises OSError; `wrap` has an alert to send then, too."""
        self.incoming.write(octets)
        if not self.is_ready:
            self.shake_hands()
        plain = bytearray()
        while self.is_ready:  # each turn takes a record out
            try:
                piece = self.tls.read(MAX_MESSAGE)
            except self.wants:
                break
            if not piece:
                self.is_over = True
                break
            plain += piece
            if not self.incoming.pending and not self.tls.pending():
                break  # without the exception that says so
        return bytes(plain)

    def end(self) -> bytes:
        """Returns the last words: that no more will come (RFC 8446 6.1)."""
        if not self.is_ready:
            return b''
        try:
            self.tls.unwrap()
        except OSError:
            pass  # it has to be read from the other side, for which nobody waits
        return self.outgoing.read()


Read = Callable[[Query, Any, float], Any]
Tell = Callable[[Any], None]


class Asked:
    """A query on a stream, and whom to tell what comes of it, unless it was given up."""

    __slots__ = ('key', 'query', 'read', 'sent_at', 'stream', 'tell')

    def __init__(
        self, key: Any, query: Query, read: Read, tell: Tell, stream: Conversation, now: float
    ) -> None:
        self.key = key  # by which the wire tells it apart
        self.query = query
        self.read = read
        self.tell: Tell | None = tell
        self.stream = stream
        self.sent_at = now

    def close(self) -> None:
        """Gives it up. What still comes is dropped."""
        if self.tell is not None:
            self.tell = None
            self.stream.give_up(self)

    def end(self, outcome: Any) -> None:
        """Tells what came of it."""
        tell, self.tell = self.tell, None
        if tell is not None:
            self.stream.leave()
            tell(outcome)


class Conversation:
    """What was asked on one stream, and what comes of it, in any order (RFC 7766 6.2.1.1)."""

    __slots__ = ('asked', 'has_answered', 'live', 'wire')

    def __init__(self, wire: Any) -> None:
        self.wire = wire  # Frames or Http
        self.asked: dict[Any, list[Asked]] = {}  # by what the wire tells them apart by
        self.live = 0  # those that somebody waits for
        self.has_answered = False  # any of them

    def ask(self, query: Query, read: Read, tell: Tell, now: float) -> Asked:
        """Returns a query that is to be told of once, an error as well; the wire is to send it."""
        key = self.wire.pack(query.octets)
        asked = Asked(key, query, read, tell, self, now)
        self.asked.setdefault(key, []).append(asked)
        self.live += 1
        return asked

    def hear(self, octets: bytes) -> None:
        """Takes what has come: what it says is told to who asked for it. Raises OSError."""
        for key, reply in self.wire.take(octets):
            self.take(key, reply)

    def take(self, key: Any, reply: bytes | ResolverError | OSError) -> None:
        """Takes a message, or why there is none. Raises OSError."""
        if not isinstance(reply, bytes):
            return self.asked.pop(key)[0].end(reply)
        self.look_at(reply)
        asked = self.asked.get(key)
        if asked is None:
            return self.drop(reply)
        self.has_answered = True
        answered = asked.pop(self.find(asked, reply) if len(asked) > 1 else 0)
        if not asked:
            del self.asked[key]
        answered.end(answered.read(answered.query, reply, answered.sent_at))

    def find(self, asked: list[Asked], reply: bytes) -> int:
        """Returns which of the queries with the id of a message it answers.

        That with its question, or else the first, for a reply may lack the question: of those that
        somebody waits for, if there are any.
        """
        order = sorted(range(len(asked)), key=lambda at: asked[at].tell is None)
        return next((at for at in order if has_question(asked[at].query, reply)), order[0])

    def look_at(self, reply: bytes) -> None:
        """Looks at a message before it is told to anybody."""

    def drop(self, reply: bytes) -> None:
        """Takes a message that nobody asked for. Raises OSError."""
        raise NotImplementedError

    def leave(self) -> None:
        """One who waited waits no longer."""
        self.live -= 1

    def give_up(self, _: Asked) -> None:
        """A query is given up."""
        self.leave()

    def fail(self, error: OSError | ResolverError) -> None:
        """Tells all who wait why there is no more to come."""
        lost, self.asked = self.asked, {}
        for each in lost.values():
            for asked in each:
                asked.end(error)


class Stream(Conversation):
    """A connection to a nameserver, shared by all who ask it: an Owner, and a Sleeper.

    It takes the turn that its maker has, and gives it back when it closes. When nobody waits any
    more it is kept for a short while, unless another has taken its place.
    """

    __slots__ = (
        'fd',
        'idle_seconds',
        'is_connected',
        'is_open',
        'is_to_put',
        'loop',
        'outgoing',
        'server',
        'silent_since',
        'sock',
        'tls',
        'unasked',
        'waiting',
    )

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to connect. Raises OSError, and the maker still has the turn then."""
        super().__init__(
            Http(server.authority, server.path, server.is_post) if server.path else Frames()
        )
        self.server = server
        self.loop = loop
        self.waiting = waiting_on(loop)
        self.outgoing = bytearray()
        self.idle_seconds = server.idle_seconds
        self.silent_since: float | None = None  # when it was asked, and nothing has come since
        self.is_to_put = False  # in the next turn of the loop
        self.unasked = 0  # messages that nobody asked for
        self.tls = None
        protocol = ALPN.get(server.scheme)
        if protocol is not None:
            self.tls = Tls(server.context or tls_context(True, protocol), server.name, protocol)
        self.sock = open_stream(server, self.waiting, self, loop)
        self.fd = self.sock.fileno()
        self.is_open = True
        self.is_connected = False
        self.waiting.readiness.writable(self.fd)

    def send(self, query: Query, read: Read, tell: Tell) -> Asked:
        """Sends a query; `tell` is called once with what comes of it, an OSError among others."""
        self.wake()
        asked = self.ask(query, read, tell, self.loop.time())
        if self.silent_since is None:
            self.silent_since = asked.sent_at
        self.put_or_lose()
        return asked

    def put_or_lose(self) -> None:
        """Sends what the wire has to send. If that fails, those who wait are told later."""
        try:
            self.put()
        except OSError as error:
            self.loop.call_soon(self.lose, error)  # not before the caller has what it waits for

    def put(self) -> None:
        """Sends what the wire has to send, as soon as there is room for it. Raises OSError."""
        octets = self.wire.to_send()
        self.outgoing += octets if self.tls is None else self.tls.wrap(octets)
        if len(self.outgoing) > MAX_OUTGOING:
            raise OSError(errno.ENOBUFS, 'The server does not read what it is sent')
        if self.is_connected:
            self.flush()

    def flush(self) -> None:
        """Sends as much as there is room for. Raises OSError."""
        while self.outgoing:  # each turn sends some
            try:
                sent = self.sock.send(self.outgoing)
            except BlockingIOError:
                return self.waiting.readiness.writable(self.fd)
            del self.outgoing[:sent]

    def receive(self, fd: int) -> None:
        """Sends what there is to send, and takes what has come."""
        self.is_connected = True  # or it cannot be, which is found out now
        try:
            self.flush()
            self.take_all()
            if self.live and self.is_open:
                self.acknowledge()
        except OSError as error:
            self.lose(error)

    def acknowledge(self) -> None:
        """Has the system acknowledge what has come at once, if it can. Raises OSError.

        A server may hold its next words back until then (RFC 896), and who only waits for them
        acknowledges after 40 ms: so long took a query over TLS to Unbound.
        """
        if QUICKACK and isinstance(self.sock, socket.SocketType):
            self.sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def take_all(self) -> None:
        """Takes the messages that have come. Raises OSError, also when the stream has ended."""
        size = MAX_PIECE if self.server.path else MAX_MESSAGE  # what HTTP costs is in small frames
        left = size * MAX_READS if size == MAX_MESSAGE else size
        while left > 0:  # each turn takes some
            try:
                octets = self.sock.recv(size)
            except BlockingIOError:
                return
            if not octets:
                raise ConnectionResetError(errno.ECONNRESET, 'The stream ended early')
            left -= len(octets)
            self.silent_since = None
            if self.tls is None:
                self.hear(octets)
            else:
                self.hear_tls(self.tls, octets)
            if not self.is_open:  # those who were told may have seen to that
                return
            if self.tls is not None and self.tls.is_over:
                raise ConnectionResetError(errno.ECONNRESET, 'The server ended TLS')
        self.waiting.readiness.again(self.fd)
        if self.outgoing:
            self.waiting.readiness.writable(self.fd)

    def hear_tls(self, tls: Tls, octets: bytes) -> None:
        """Takes what has come over TLS, and sends what TLS and HTTP have to say to it.

        Raises OSError, and they have a last word then, too.
        """
        try:
            self.hear(tls.unwrap(octets))
        finally:
            if self.is_open:
                self.put()

    def look_at(self, reply: bytes) -> None:
        """Learns for how long the nameserver lets it be idle; 0 is not at all."""
        if not self.live or not self.idle_seconds:  # a timer of that length may be running
            return
        seconds = keepalive_of(reply)
        if seconds is not None:
            self.idle_seconds = min(seconds, MAX_IDLE)

    def drop(self, reply: bytes) -> None:
        """Drops a message that nobody asked for. Raises OSError after many: each costs time."""
        if not self.server.idle_seconds:  # it is for one query only
            return self.fail(stray(reply))
        logger.debug('Dropped a message of %d octets: nobody asked for it', len(reply))
        self.unasked += 1
        if self.unasked > MAX_UNASKED:
            raise OSError(errno.EPROTO, 'The stream brought much that nobody asked for')

    def is_good(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a query may be sent on it: it is of this loop, and does not seem to be dead.

        So it does when nothing has come since long ago something was asked, or much was in vain,
        or the server goes away.
        """
        if self.loop is not loop or len(self.asked) - self.live > MAX_GIVEN_UP:
            return False
        if self.wire.is_going:
            return False
        return self.silent_since is None or self.silent_since > loop.time() - SILENT_SECONDS

    def leave(self) -> None:
        """One who waited waits no longer. The last one puts it to rest."""
        self.live -= 1
        if self.live or not self.is_open:
            return
        is_kept = self.server.stream is self and self.idle_seconds > 0
        if is_kept and self.waiting.turns.rest(self):
            self.waiting.timeouts.start(self.idle_seconds, self, self.loop)
        else:
            self.close()

    def give_up(self, asked: Asked) -> None:
        """A query is given up, and the server told if it can be.

        Not at once: where many are given up, no other takes the place of each.
        """
        if self.wire.give_up(asked.key):
            del self.asked[asked.key]
            if not self.is_to_put:
                self.is_to_put = True
                self.loop.call_soon(self.put_later)
        self.leave()

    def put_later(self) -> None:
        """Sends what the wire has to send after queries were given up."""
        self.is_to_put = False
        if self.is_open:
            self.put_or_lose()

    def wake(self) -> None:
        """It is not idle any more, if it was."""
        if self in self.waiting.turns.idle:
            del self.waiting.turns.idle[self]
            self.waiting.timeouts.stop(self.idle_seconds, self)

    def expire(self) -> None:
        """It has been idle for long enough."""
        del self.waiting.turns.idle[self]
        self.close()

    def lose(self, error: OSError) -> None:
        """Closes it, and tells all who wait why."""
        self.close()
        self.fail(error)

    def close(self) -> None:
        """Closes it, and gives its turn back. Those who wait are not told."""
        if self.is_open:
            self.wake()
            self.is_open = False
            if self.tls is not None and self.is_connected and not self.outgoing:
                self.say_last(self.tls.end())
            self.waiting.readiness.close(self.fd)
            self.sock.close()
            self.waiting.turns.give_back()
        if self.server.stream is self:
            self.server.stream = None

    def say_last(self, octets: bytes) -> None:
        """Sends octets if it can."""
        try:
            if octets:
                self.sock.send(octets)
        except OSError:
            pass  # the other side has closed it

    def abandon(self) -> None:
        """Closes it when its loop is closed, and cannot be asked for anything."""
        self.is_open = False
        try:
            self.sock.close()
        except RuntimeError:
            pass  # a transport of the loop's, which is beyond our reach


class Flight(NamedTuple):
    """A query on its way, and when it was sent (on the loop's clock)."""

    sock: Any  # a socket, or an Asked
    query: Query
    server: Server
    sent_at: float

    @property
    def is_stream(self) -> bool:
        """Whether it goes over a stream."""
        return isinstance(self.sock, Asked)


def in_full(error: ResolverError | OSError, where: str, tail: str = '') -> ResolverError:
    """Returns an error of ours with what was asked and of whom; of the system's, SocketError."""
    if isinstance(error, ResolverError):
        error.args = (f'{where}: {error}{tail}',)
        return error.with_traceback(None)
    told = SocketError(error.errno, f'{where}: {error.strerror or error}{tail}')
    told.__cause__ = error
    return told


class Saying:
    """Has an error say what was asked and of whom: `what(*arguments)`. Of the system's, too."""

    __slots__ = ('arguments', 'what')

    def __init__(self, what: Callable[..., str], *arguments: Any) -> None:
        self.what = what
        self.arguments = arguments

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, (ResolverError, OSError)):
            told = in_full(error, self.what(*self.arguments))
            raise told from told.__cause__


# What came of a flight, by its key: what the reply says, a refusal of the system's, or a folded
# question, after which a datagram's socket goes on listening.
Event = tuple[int, Flight, Any]


class Datagrams:
    """Queries of one task on their way, as datagrams or on streams, and what has come of them.

    An Owner.
    """

    __slots__ = (
        'dropped',
        'events',
        'expired',
        'flights',
        'loop',
        'read',
        'read_frame',
        'seconds',
        'waiting',
        'wake',
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, read: Read, read_frame: Read) -> None:
        """`read` raises BadResponse or MalformedMessage for a datagram that is no answer."""
        self.read = read
        self.read_frame = read_frame
        self.loop = loop
        self.waiting = waiting_on(loop)
        self.flights: dict[int, Flight] = {}  # by descriptor or negative number, the oldest first
        self.events: list[Event] = []
        self.wake: asyncio.Future[None] | None = None
        self.seconds: float | None = None  # of the timeout that is running
        self.expired = False
        self.dropped: ResolverError | None = None  # the last thing that was

    async def turn(self) -> None:
        """Takes a turn when none is free: that of its oldest socket, else it waits for one.

        Nothing is left then for which others might have to wait.
        """
        if not self.end_one():
            self.give_up_streams()
            await self.waiting.turns.wait()

    def end_one(self) -> bool:
        """Closes its oldest socket, and keeps the turn; says whether there is one."""
        fd = next((key for key in self.flights if key >= 0), None)
        if fd is None:
            return False
        self.end(fd)
        return True

    def give_up_streams(self) -> None:
        """Gives up what was asked over streams."""
        for key in list(self.flights):
            if key < 0:
                self.close(key)

    def send(self, query: Query, server: Server) -> int:
        """Sends a query from a socket of its own, and returns its descriptor.

        It takes the turn that the caller has. Raises OSError, and the caller still has it then.
        """
        sent_at = self.loop.time()
        sock = open_datagram(server, self.waiting, self, self.loop)
        fd = sock.fileno()
        self.flights[fd] = tuple.__new__(Flight, (sock, query, server, sent_at))
        try:
            sock.send(query.octets)
        except BaseException:
            self.end(fd)
            raise
        return fd

    def has_stream(self, server: Server) -> bool:
        """Whether there is a stream to a nameserver; one that seems dead is not used any more."""
        if server.stream is not None and not server.stream.is_good(self.loop):
            server.retire()
        return server.stream is not None

    def send_on_stream(self, query: Query, server: Server) -> int:
        """Sends a query on the stream to a nameserver, and returns the key of the flight.

        If there is no stream yet it takes the turn that the caller has. Raises OSError, and the
        caller still has it then.
        """
        if server.stream is None:
            server.stream = Stream(server, self.loop)
        key = min(-1, *self.flights) - 1 if self.flights else -1
        asked = server.stream.send(query, self.read_frame, functools.partial(self.land, key))
        self.flights[key] = Flight(asked, query, server, asked.sent_at)
        return key

    def land(self, key: int, outcome: Any) -> None:
        """Keeps what came of a flight over a stream, unless it was given up."""
        flight = self.flights.pop(key, None)
        if flight is not None:
            self.tell((key, flight, outcome))

    def receive(self, fd: int) -> None:
        """Reads what has come to a socket: the answer is kept, all else is dropped."""
        flight = self.flights[fd]
        for _ in range(MAX_READS):
            try:
                outcome = self.read(flight.query, flight.sock.recv(MAX_MESSAGE), flight.sent_at)
            except BlockingIOError:
                return
            except ResolverError as error:
                self.dropped = error.with_traceback(None)  # which would hold on to us
                where = flight.server.text
                logger.debug('Dropped what came from %s: %s', where, error)
                if isinstance(error, FoldedCase):
                    self.tell((fd, flight, error))
            except OSError as error:
                self.close(fd)
                return self.tell((fd, flight, error))
            else:
                self.close(fd)
                return self.tell((fd, flight, outcome))
        self.waiting.readiness.again(fd)

    def tell(self, event: Event) -> None:
        """Keeps an event for the task, and wakes it."""
        self.events.append(event)
        self.rouse()

    def rouse(self) -> None:
        """Wakes the task if it waits."""
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)

    def start(self, seconds: float) -> None:
        """Starts the timeout anew."""
        if self.seconds is not None:
            self.stop()
        self.expired = False
        self.seconds = seconds
        self.waiting.timeouts.start(seconds, self, self.loop)

    def stop(self) -> None:
        """Stops the timeout."""
        if self.seconds is not None:
            self.waiting.timeouts.stop(self.seconds, self)
        self.seconds = None
        self.expired = False

    def expire(self) -> None:
        """The time is up."""
        self.seconds = None
        self.expired = True
        self.rouse()

    def wait(self) -> asyncio.Future[None]:
        """Returns a future that is done once something has come, or the time is up."""
        self.wake = self.loop.create_future()
        if self.events or self.expired:
            self.wake.set_result(None)
        return self.wake

    def end(self, fd: int) -> None:
        """Closes a socket, and keeps its turn."""
        self.waiting.readiness.close(fd)
        self.flights.pop(fd).sock.close()

    def close(self, key: int) -> None:
        """Gives a flight up: closes its socket, and gives its turn back. A stream stays open."""
        if key < 0:
            self.flights.pop(key).sock.close()
        else:
            self.end(key)
            self.waiting.turns.give_back()

    def close_all(self) -> None:
        """Closes all sockets and stops the timeout."""
        if self.seconds is not None:
            self.stop()
        while self.flights:  # each turn closes one
            self.close(next(iter(self.flights)))


ANYWHERE = Server(IPv4Address(0), 0)  # where what comes to a socket of a caller's is from


class Borrowed:
    """A socket of a caller's, for datagrams: what comes is octets and where they came from."""

    __slots__ = ('fd', 'owner', 'readiness', 'sock')

    def __init__(self, sock: socket.SocketType, owner: Owner, readiness: Readiness) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.owner = owner
        self.readiness = readiness

    def recv(self, size: int, /) -> tuple[bytes, Any]:
        """Returns what has come first. Raises BlockingIOError if nothing has, or OSError."""
        return self.sock.recvfrom(size)

    def close(self) -> None:
        """Leaves it open, and as it was."""
        self.readiness.unwatch(self.fd, self.owner)


class Borrowing(Datagrams):
    """Datagrams of one task on a socket of a caller's, which stays open and takes no turn."""

    __slots__ = ()

    def __init__(self, loop: asyncio.AbstractEventLoop, read: Read) -> None:
        super().__init__(loop, read, read)
        self.waiting = self.waiting._replace(turns=Turns(1))

    def listen(self, sock: socket.SocketType, query: Query) -> int:
        """Waits for what comes to a socket, and returns its descriptor. Raises OSError."""
        fd = sock.fileno()
        if fd < 0:
            raise OSError(errno.EBADF, 'The socket is closed')
        try:
            self.waiting.readiness.watch(fd, self, self.loop)
        except FileExistsError as error:
            raise OSError(errno.EEXIST, 'Another call receives from this socket') from error
        borrowed = Borrowed(sock, self, self.waiting.readiness)
        self.flights[fd] = Flight(borrowed, query, ANYWHERE, self.loop.time())
        return fd

    def end(self, fd: int) -> None:
        """Leaves a socket, and keeps its turn."""
        self.flights.pop(fd).sock.close()


def write_on(writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Has octets sent on a stream of a caller's. Raises OSError."""
    if writer.is_closing():
        raise OSError(errno.EPIPE, 'The stream is closed')
    try:
        writer.write(octets)
    except RuntimeError as error:  # its end has been written
        raise OSError(errno.EPIPE, str(error)) from error


class Pair(Conversation):
    """A stream of a caller's, on which several may ask; one of them reads for all."""

    __slots__ = ('backlog', 'forgotten', 'given_up', 'is_read', 'waiting')

    def __init__(self) -> None:
        super().__init__(Frames())
        self.is_read = False
        self.waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # who do not read
        self.backlog: deque[tuple[Any, bytes]] = deque()  # messages that nobody has taken yet
        self.given_up: deque[Asked] = deque()  # the last ones that were
        self.forgotten = 0  # how many before them were

    def drop(self, reply: bytes) -> None:
        """Raises BadResponse or MalformedMessage for a message that nobody asked for."""
        if not self.forgotten:
            raise stray(reply)
        self.forgotten -= 1

    def clear(self) -> None:
        """Takes the messages that came before something is asked; those for nobody are dropped."""
        while self.backlog:  # each turn takes one out
            try:
                self.take(*self.backlog.popleft())
            except ResolverError as error:
                logger.debug('Dropped: %s', error)

    def give_up(self, asked: Asked) -> None:
        """A query is given up. What comes of it is known to be late, if it is not long ago."""
        self.leave()
        self.given_up.append(asked)
        if len(self.given_up) > MAX_GIVEN_UP:
            oldest = self.given_up.popleft()
            others = self.asked.get(oldest.key, [])
            if oldest in others:
                self.forgotten += 1
                others.remove(oldest)
                if not others:
                    del self.asked[oldest.key]

    def send(self, writer: asyncio.StreamWriter) -> None:
        """Sends what is to be sent. Raises OSError.

        Nobody waits for room: if all did, none would read, and the server could not go on.
        """
        octets = self.wire.to_send()
        if writer.transport.get_write_buffer_size() > MAX_OUTGOING:
            raise OSError(errno.ENOBUFS, 'The server does not read what it is sent')
        write_on(writer, octets)

    async def read(self, reader: asyncio.StreamReader, news: asyncio.Future[None]) -> None:
        """Reads what comes next; or, if another does, waits for `news`: to be told, or to read.

        Raises OSError. What has come is not lost if this is cancelled.
        """
        if self.is_read:
            self.waiting[news] = None
            try:
                return await news
            finally:
                self.waiting.pop(news, None)
        self.is_read = True
        try:
            octets = await reader.read(MAX_MESSAGE)
        except RuntimeError as error:  # a coroutine of the caller's is reading
            raise OSError(errno.EBUSY, str(error)) from error
        finally:
            self.is_read = False
        if not octets:
            raise ConnectionResetError(errno.ECONNRESET, 'The stream ended early')
        self.backlog += self.wire.take(octets)

    def hand_over(self) -> None:
        """Lets somebody else read."""
        while self.waiting and not self.is_read:  # each turn takes one out
            news, _ = self.waiting.popitem(last=False)
            if not news.done():
                return news.set_result(None)


# By the reader: an entry goes with it, and holds nothing that holds on to it.
PAIRS: WeakKeyDictionary[asyncio.StreamReader, Pair] = WeakKeyDictionary()


# --- 16. Queries -------------------------------------------------------------
#
# One question to one server: short doors to the two exchanges. One deadline is for all
# that a call waits for, and what it opens it closes. Arguments are those of dnspython.

StreamPair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


NO_QUERY = Query(b'', 0, b'', 0)  # of who waits for any message


def parts_of(address: Any) -> tuple[IPv4Address | IPv6Address, int, int]:
    """Returns the host, port and scope of a socket's address; the scope is 0 if there is none."""
    host, port, *more = address
    return ip_address(str(host).partition('%')[0]), port, more[1] if len(more) == 2 else 0


def is_from(source: Any, destination: Any) -> bool:
    """Whether a datagram is from where one was sent; any host may answer what many were sent."""
    host, port, scope = parts_of(source)
    expected, expected_port, expected_scope = parts_of(destination)
    is_host = host == expected and (scope == expected_scope or not (scope and expected_scope))
    return port == expected_port and (is_host or expected.is_multicast)


def message_reader(ignore_trailing: bool, raise_on_truncation: bool, ignore_errors: bool) -> Read:
    """Returns how a reply is read, or any message if there is no query: as a Message, or an error.

    With `ignore_errors` what is no answer is raised, so that it is dropped.
    """

    def read(query: Query, octets: bytes, _: float) -> Message | ResolverError:
        try:
            if query is NO_QUERY:
                message = parse_message(octets, ignore_trailing, True)
            else:
                message = parse_answer(query, octets, ignore_trailing)
        except ResolverError as error:
            if ignore_errors:
                raise
            return error.with_traceback(None)
        is_cut = message.tc and raise_on_truncation
        return Truncated('The message is truncated', message) if is_cut else message

    return read


def datagram_reader(read: Read, destination: Any, ignore_unexpected: bool) -> Read:
    """Returns how a datagram is read: as a message, when it came and from where, or an error.

    With `ignore_unexpected` what is from elsewhere than `destination` is raised.
    """
    loop = asyncio.get_running_loop()

    def read_from(query: Query, came: tuple[bytes, Any], now: float) -> Any:
        octets, source = came
        if destination is not None and not is_from(source, destination):
            error = UnexpectedSource(f'A datagram came from {source}')
            if ignore_unexpected:
                raise error
            return error
        message = read(query, octets, now)
        return (message, loop.time(), source) if isinstance(message, Message) else message

    return read_from


def to_seconds(timeout: float | None) -> float | None:
    """Returns a timeout of a caller's, in its bounds. Raises TypeError."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        raise TypeError(f'A timeout is None or a number of seconds, not {timeout!r}')
    return min(max(0.0, timeout), MAX_TIMEOUT)  # in this order, so that nan is 0


def seconds_until(expiration: float | None) -> float | None:
    """Returns how long it is until a time on the loop's clock. Raises TypeError."""
    if expiration is None:
        return None
    if not isinstance(expiration, (int, float)):
        raise TypeError(f'An expiration is None or a time, not {expiration!r}')
    now = asyncio.get_running_loop().time()
    return min(max(now, expiration), now + MAX_TIMEOUT) - now  # in this order, so that nan is now


def to_source(server: Server, source: Any, port: Any) -> Address | None:
    """Returns what to bind a socket to, or None. Raises InvalidName, TypeError or OSError."""
    if not isinstance(port, int):
        raise TypeError(f'A source port is a number, not {port!r}')
    if not 0 <= port < 65536:
        raise InvalidName(f'{port} is no port')
    if source is None and port == 0:
        return None
    if source is None:
        source = '0.0.0.0' if server.family == socket.AF_INET else '::'
    address = to_address(source)
    if isinstance(address, IPv4Address) != (server.family == socket.AF_INET):
        raise InvalidName(f'{source} is of another family than {server.text}')
    host, _, scope = str(address).partition('%')
    return scoped((host, port), scope)


async def outcome_of(calls: Datagrams, timeout: float | None, send: Callable[[], Any]) -> Any:
    """Returns what comes of the one query that `send` sends. In the end all is closed.

    Raises ResolverError or OSError.
    """
    late = QueryTimeout('no usable reply in time')
    turns = calls.waiting.turns
    try:
        if timeout is not None:
            if timeout == 0:
                raise late
            calls.start(timeout)
        if not turns.take():
            try:
                async with asyncio.timeout(timeout):
                    await turns.wait()
            except TimeoutError:
                raise late from None
        try:
            send()
        except BaseException:
            turns.give_back()
            raise
        await calls.wait()
        if not calls.events:
            raise late from calls.dropped
        outcome: Any = calls.events[0][2]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    finally:
        calls.close_all()


def asked_of(query: Query, server: Server) -> str:
    """Returns what is asked, and of whom, for the text of an error."""
    where = f'{describe(query.fqdn, query.qtype)} from {server.text}'
    return f'{where} over {OVER[server.scheme]}' if server.is_stream else where


async def ask(
    query: Query, server: Server, timeout: float | None, source: tuple[Any, Any], read: Read
) -> Message:
    """Returns the reply to a query, over a socket or a stream of its own."""
    calls = Datagrams(asyncio.get_running_loop(), read, read)
    send = calls.send_on_stream if server.is_stream else calls.send
    server.idle_seconds = 0.0  # its stream is not kept
    with Saying(asked_of, query, server):
        server.source = to_source(server, *source)
        outcome: Message = await outcome_of(calls, timeout, functools.partial(send, query, server))
        return outcome


def outgoing(what: Message | bytes) -> bytes:
    """Returns the octets of a message that is to be sent. Raises as `pack` does."""
    octets = pack(what) if isinstance(what, Message) else what
    if not isinstance(octets, bytes):
        raise TypeError(f'What is sent is a Message or bytes, not {type(octets).__name__}')
    if len(octets) > MAX_MESSAGE:
        raise MalformedMessage(f'{len(octets)} octets are more than a message can have')
    return octets


FAMILIES = socket.AF_INET, socket.AF_INET6


def check_datagram_socket(sock: Any) -> None:
    """Raises TypeError for what is no socket for datagrams that never blocks."""
    is_socket = isinstance(sock, socket.SocketType)
    if not is_socket or sock.type != socket.SOCK_DGRAM or sock.family not in FAMILIES:
        raise TypeError(f'A socket for datagrams is needed, not {sock!r}')
    if sock.gettimeout() != 0:
        raise TypeError('The socket has to be one that never blocks: sock.setblocking(False)')


def to_destination(sock: socket.SocketType, destination: Any) -> Any:
    """Returns where to send a datagram from a socket. Raises InvalidName, TypeError or OSError."""
    if not isinstance(destination, tuple) or not 2 <= len(destination) <= 4:
        raise TypeError(f'A destination is an address and a port, not {destination!r}')
    server = server_at(destination[0], destination[1], 'udp')
    more = destination[2:]  # of IPv6: the flow and the scope
    flow, scope = (*more, 0, 0)[:2]
    are_numbers = isinstance(flow, int) and isinstance(scope, int)
    is_good = are_numbers and 0 <= flow < 1 << 20 and 0 <= scope < 1 << 32
    if more and (server.family == socket.AF_INET or not is_good):
        raise InvalidName(f'{destination!r} is no address to send to')
    if server.family != sock.family:
        raise OSError(errno.EAFNOSUPPORT, 'The socket is one of another family')
    return (*server.address, *more) if more else scoped(server.address, server.scope)


def is_connected(sock: socket.SocketType, destination: Any) -> bool:
    """Whether a socket is connected. Raises InvalidName if it is so to another address."""
    try:
        peer = sock.getpeername()
    except OSError:
        return False
    if not is_from(peer, destination):
        raise InvalidName(f'The socket is connected to {peer[0]}, port {peer[1]}')
    return True


def datagram_to(destination: Any) -> str:
    """Returns what is sent, for the text of an error."""
    return 'A datagram' if destination is None else f'A datagram to {destination}'


async def send_udp(
    sock: socket.SocketType,
    what: Message | bytes,
    destination: Any,
    expiration: float | None = None,
) -> tuple[int, float]:
    """Sends a message as a datagram; returns how many octets, and when on the loop's clock.

    `destination` is an address and a port as `recvfrom` gives them, or None for a socket that is
    connected. Raises QueryTimeout, SocketError, InvalidName or MalformedMessage, and TypeError.
    """
    check_datagram_socket(sock)
    octets = outgoing(what)
    loop = asyncio.get_running_loop()
    with Saying(datagram_to, destination):
        address = None if destination is None else to_destination(sock, destination)
        while seconds_until(expiration) != 0:  # each turn sends it, or waits for room
            sent_at = loop.time()
            try:
                sent = sock.send(octets) if address is None else sock.sendto(octets, address)
            except BlockingIOError:
                await asyncio.sleep(GLANCE_SECONDS)
            else:
                return sent, sent_at
        raise QueryTimeout('not sent in time')


def check_no_keys(keyring: Any, request_mac: Any) -> None:
    """Raises TypeError: there are no transaction signatures yet."""
    if keyring is not None or request_mac != b'':
        raise TypeError('Transaction signatures (TSIG) are not supported: no keyring, no MAC')


def datagram_from(query: Query, destination: Any) -> str:
    """Returns what is waited for, for the text of an error."""
    what = 'A datagram' if query is NO_QUERY else describe(query.fqdn, query.qtype)
    return what if destination is None else f'{what} from {destination}'


async def receive_udp(
    sock: socket.SocketType,
    destination: Any = None,
    expiration: float | None = None,
    ignore_unexpected: bool = False,
    keyring: None = None,
    request_mac: bytes = b'',
    ignore_trailing: bool = False,
    raise_on_truncation: bool = False,
    ignore_errors: bool = False,
    query: Message | bytes | None = None,
) -> tuple[Message, float, Any]:
    """Receives a message as a datagram; returns it, when it came, and from where.

    From `destination` only, if it is given: else UnexpectedSource, or it is skipped with
    `ignore_unexpected`. With `query`, only what answers it. `ignore_errors` skips all else.
    Raises QueryTimeout, SocketError, MalformedMessage, BadResponse, Truncated, and TypeError.
    """
    check_datagram_socket(sock)
    check_no_keys(keyring, request_mac)
    asked = NO_QUERY if query is None else query_in(query)
    read = message_reader(ignore_trailing, raise_on_truncation, ignore_errors)
    timeout = seconds_until(expiration)
    with Saying(datagram_from, asked, destination):
        expected = None if destination is None else to_destination(sock, destination)
        reader = datagram_reader(read, expected, ignore_unexpected)
        calls = Borrowing(asyncio.get_running_loop(), reader)
        came: tuple[Message, float, Any] = await outcome_of(
            calls, timeout, functools.partial(calls.listen, sock, asked)
        )
        return came


async def udp(
    q: Message | bytes,
    where: Any,
    timeout: float | None = None,
    port: int = 53,
    source: Any = None,
    source_port: int = 0,
    ignore_unexpected: bool = False,
    ignore_trailing: bool = False,
    raise_on_truncation: bool = False,
    sock: socket.SocketType | None = None,
    ignore_errors: bool = False,
) -> Message:
    """Sends a query as a datagram and returns the reply, one with TC up to its last whole record.

    `where` and `source` are addresses, `timeout` is in seconds, and None waits for ever. A `sock`
    of the caller's is used and stays open. Raises QueryTimeout, SocketError, MalformedMessage,
    BadResponse, UnexpectedSource, Truncated, InvalidName, and TypeError.
    """
    query = query_in(q)
    server = server_at(where, port, 'udp')
    seconds = to_seconds(timeout)
    if sock is None:
        read = message_reader(ignore_trailing, raise_on_truncation, ignore_errors)
        return await ask(query, server, seconds, (source, source_port), read)
    check_datagram_socket(sock)
    expiration = None if seconds is None else asyncio.get_running_loop().time() + seconds
    with Saying(asked_of, query, server):
        destination = scoped(server.address, server.scope)
        to = None if is_connected(sock, destination) else destination
    await send_udp(sock, query.octets, to, expiration)
    message, _, _ = await receive_udp(
        sock,
        destination,
        expiration,
        ignore_unexpected,
        ignore_trailing=ignore_trailing,
        raise_on_truncation=raise_on_truncation,
        ignore_errors=ignore_errors,
        query=query.octets,
    )
    return message


def pair_of(sock: Any) -> tuple[Pair, asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns what is asked on a stream of a caller's, its reader and its writer."""
    kinds = asyncio.StreamReader, asyncio.StreamWriter
    if not isinstance(sock, tuple) or len(sock) != 2 or not all(map(isinstance, sock, kinds)):
        raise TypeError(f'A stream is a StreamReader and a StreamWriter, not {sock!r}')
    reader, writer = sock
    pair = PAIRS.get(reader)
    if pair is None:
        pair = PAIRS[reader] = Pair()
    return pair, reader, writer


async def in_time(
    awaitable: Awaitable[Any], timeout: float | None, late: str = 'no usable reply in time'
) -> Any:
    """Returns what comes of something, or raises QueryTimeout."""
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise QueryTimeout(late) from None
        raise


async def converse(
    pair: Pair,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    query: Query,
    read: Read,
) -> Any:
    """Returns what comes of a query on a stream of a caller's. Raises OSError or ResolverError."""
    told: list[Any] = []
    loop = asyncio.get_running_loop()
    news = loop.create_future()
    pair.clear()

    def tell(outcome: Any) -> None:
        told.append(outcome)
        if not news.done():
            news.set_result(None)

    asked = pair.ask(query, read, tell, loop.time())
    try:
        pair.send(writer)
        while not told:  # each turn takes a message, or something comes, or the stream ends
            if pair.backlog:
                pair.take(*pair.backlog.popleft())
            else:
                if news.done():
                    news = loop.create_future()
                await pair.read(reader, news)
        return told[0]
    finally:
        asked.close()
        pair.hand_over()


async def next_message(pair: Pair, reader: asyncio.StreamReader) -> bytes:
    """Returns what comes next on a stream of a caller's. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        while not pair.backlog:  # each turn something comes, or the stream ends
            await pair.read(reader, loop.create_future())
        return pair.backlog.popleft()[1]
    finally:
        pair.hand_over()


def on_a_stream() -> str:
    """Returns where a message is sent or received, for the text of an error."""
    return 'A stream of the caller'


async def send_tcp(
    sock: StreamPair, what: Message | bytes, expiration: float | None = None
) -> tuple[int, float]:
    """Sends a message on a stream; returns how many octets, the length among them, and when.

    Raises QueryTimeout, SocketError, InvalidName or MalformedMessage, and TypeError.
    """
    _, _, writer = pair_of(sock)
    octets = to_frame(outgoing(what))
    seconds = seconds_until(expiration)
    sent_at = asyncio.get_running_loop().time()
    with Saying(on_a_stream):
        if seconds == 0:
            raise QueryTimeout('not sent in time')
        write_on(writer, octets)
        await in_time(writer.drain(), seconds)
    return len(octets), sent_at


async def receive_tcp(
    sock: StreamPair,
    expiration: float | None = None,
    keyring: None = None,
    request_mac: bytes = b'',
    ignore_trailing: bool = False,
    ignore_errors: bool = False,
) -> tuple[Message, float]:
    """Receives the next message on a stream; returns it, and when it came on the loop's clock.

    `ignore_errors` skips those that are malformed. Raises QueryTimeout, SocketError, also when the
    stream ends, MalformedMessage, and TypeError.
    """
    pair, reader, _ = pair_of(sock)
    check_no_keys(keyring, request_mac)
    loop = asyncio.get_running_loop()
    with Saying(on_a_stream):
        while (seconds := seconds_until(expiration)) != 0:  # each turn takes a message
            octets = await in_time(next_message(pair, reader), seconds)
            try:
                return parse_message(octets, ignore_trailing, True), loop.time()
            except MalformedMessage:
                if not ignore_errors:
                    raise
                await asyncio.sleep(0)  # a flood of them must not stop the loop
        raise QueryTimeout('no message in time')


async def over_stream(
    query: Query,
    server: Server,
    timeout: float | None,
    source: tuple[Any, Any],
    ignore_trailing: bool,
    sock: StreamPair | None,
) -> Message:
    """Returns the reply to a query over a stream of its own, or of the caller's."""
    read = message_reader(ignore_trailing, False, False)
    if sock is None:
        return await ask(query, server, timeout, source, read)
    pair, reader, writer = pair_of(sock)
    with Saying(asked_of, query, server):
        if timeout == 0:
            raise QueryTimeout('no usable reply in time')
        outcome: Message | ResolverError = await in_time(
            converse(pair, reader, writer, query, read), timeout
        )
        if isinstance(outcome, ResolverError):
            raise outcome
        return outcome


async def tcp(
    q: Message | bytes,
    where: Any,
    timeout: float | None = None,
    port: int = 53,
    source: Any = None,
    source_port: int = 0,
    ignore_trailing: bool = False,
    sock: StreamPair | None = None,
) -> Message:
    """Sends a query over TCP and returns the reply (RFC 7766).

    On a `sock` of the caller's, the pair that `asyncio.open_connection` returns, several queries
    may be asked at once; it stays open. Else as `udp`.
    """
    query = query_in(q)
    server = server_at(where, port, 'tcp')
    seconds = to_seconds(timeout)
    return await over_stream(query, server, seconds, (source, source_port), ignore_trailing, sock)


async def tls(
    q: Message | bytes,
    where: Any,
    timeout: float | None = None,
    port: int = 853,
    source: Any = None,
    source_port: int = 0,
    ignore_trailing: bool = False,
    sock: StreamPair | None = None,
    ssl_context: Any = None,
    server_hostname: str | None = None,
    verify: Any = True,
) -> Message:
    """Sends a query over TLS and returns the reply (RFC 7858, RFC 8310).

    The certificate has to be for `server_hostname`, or for the address itself, and to be vouched
    for by the system's authorities, or by those in the file or folder that `verify` names. With
    `verify=False` there is no check; an `ssl_context` has its own. One that does not pass is
    SocketError, before anything is sent. Else as `tcp`.
    """
    query = query_in(q)
    name = certificate_name(server_hostname) if server_hostname is not None else ''
    server = server_at(where, port, 'tls', name)
    if ssl_context is not None and not hasattr(ssl_context, 'wrap_bio'):
        raise TypeError(f'ssl_context is None or an SSLContext, not {ssl_context!r}')
    if sock is None:
        with Saying(asked_of, query, server):
            server.context = to_context(verify, 'dot') if ssl_context is None else ssl_context
    seconds = to_seconds(timeout)
    return await over_stream(query, server, seconds, (source, source_port), ignore_trailing, sock)


def https_url(where: Any, port: Any, path: Any) -> Url:
    """Returns where a query is to go over HTTPS, by an address or a URL. Raises InvalidName."""
    if not isinstance(path, str):
        raise TypeError(f'A path is a str, not {path!r}')
    if isinstance(where, str) and '://' in where:
        url = parse_url(where)
        if url.scheme != 'https':
            raise InvalidName(f'{where!r} is no https:// URL')
        url = url._replace(port=port if url.port is None else url.port)
    else:
        path = path.removesuffix('{?dns}')
        if not re.fullmatch('/[!-"$-~]*', path):
            raise InvalidName(f'{path!r} is no path of a URL')
        url = Url('https', str(to_address(where)), port, path, '')
    check_port(url.port)
    return url


async def addresses_of(host: str, resolver: Any, family: int) -> list[Any]:
    """Returns the addresses of a host by a resolver of ours. Raises what that raises."""
    qtypes: dict[int, list[TYPES]] = {
        socket.AF_INET: [TYPES.A],
        socket.AF_INET6: [TYPES.AAAA],
    }
    addresses: list[Any] = []
    absence = DoesNotExist(f'{host!r} has no address')
    for qtype in qtypes.get(family, [TYPES.A, TYPES.AAAA]):
        try:
            addresses += await resolver(host, qtype)
        except DoesNotExist as error:
            absence = error
    if not addresses:
        raise absence
    return addresses


async def find_addresses(
    host: str, bootstrap_address: Any, resolver: Any, family: int, timeout: float | None
) -> list[Any]:
    """Returns the addresses to connect to for a host, an address itself or the name of one."""
    if bootstrap_address is not None:
        return [bootstrap_address]
    try:
        return [to_address(host)]
    except InvalidName as error:
        if resolver is None:
            raise InvalidName(
                f'{host!r} is no address, and there is neither bootstrap_address nor resolver'
            ) from error
    late = f'no address of {host!r} in time'
    if timeout == 0:
        raise QueryTimeout(late)
    found: list[Any] = await in_time(addresses_of(host, resolver, family), timeout, late)
    return found


def servers_at(
    url: Url, addresses: Iterable[Any], family: int, verify: Any, post: bool
) -> list[Server]:
    """Returns what is meant by a URL: a server at each of the addresses. Raises InvalidName."""
    name = url.name or certificate_name(url.host.partition('%')[0])
    servers = [server_at(address, url.port, 'https', name, url.path) for address in addresses]
    for server in servers:
        if family not in (socket.AF_UNSPEC, server.family):
            raise InvalidName(f'{server.text} is of another family than is asked for')
        server.context = to_context(verify, ALPN['https'])
        server.is_post = post
    return servers


def head_of(response: Any) -> list[str]:
    """Returns what matters of the header fields of a client's response."""
    return [response.headers.get(name, '') for name in ('content-type', 'age')]


async def fetch(client: Any, exchange: HttpExchange, base: str) -> bytes:
    """Returns the reply to a query by an HTTP client of the caller's.

    Raises BadResponse, or OSError for whatever else the client raises.
    """
    url = base + exchange.target
    fields = exchange.fields | {'accept-encoding': 'identity'}
    body = exchange.body or None
    aiohttp = sys.modules.get('aiohttp')
    try:
        if aiohttp is not None and isinstance(client, aiohttp.ClientSession):
            async with client.request(
                exchange.method,
                url,
                data=body,
                headers=fields,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(),
            ) as response:
                exchange.head(str(response.status), *head_of(response))
                async for piece in response.content.iter_any():
                    exchange.add(piece)
        else:
            async with client.stream(
                exchange.method,
                url,
                content=body,
                headers=fields,
                follow_redirects=False,
                timeout=None,
            ) as response:
                exchange.head(str(response.status_code), *head_of(response))
                async for piece in response.aiter_raw():
                    exchange.add(piece)
    except Exception as error:  # a client has errors of its own kinds
        if isinstance(error, ResolverError) or (isinstance(error, OSError) and error.errno):
            raise
        raise OSError(errno.EIO, f'{type(error).__name__}: {error}') from error
    return exchange.reply()


def asked_at(query: Query, base: str) -> str:
    """Returns what is asked, and of whom, for the text of an error."""
    return f'{describe(query.fqdn, query.qtype)} from {base}'


async def over_client(
    client: Any, query: Query, url: Url, post: bool, read: Read, timeout: float | None
) -> Message:
    """Returns the reply to a query over a client of the caller's, to which all else is left."""
    is_httpx = hasattr(client, 'stream') and hasattr(client, 'aclose')
    if not is_httpx and not hasattr(client, 'ws_connect'):
        raise TypeError(f'A client is one of httpx or aiohttp, not {client!r}')
    if url.name:
        raise InvalidName(f'A client finds {url.name!r} by the host of the URL only')
    base = f'https://{bracketed(certificate_name(url.host))}:{url.port}'
    with Saying(asked_at, query, base):
        if timeout == 0:
            raise QueryTimeout('no usable reply in time')
        exchange = HttpExchange(query.octets, url.path, post)
        octets = await in_time(fetch(client, exchange, base), timeout)
        outcome: Message | ResolverError = read(query, octets, 0.0)
        if isinstance(outcome, ResolverError):
            raise outcome
        return outcome


async def https(
    q: Message | bytes,
    where: Any,
    timeout: float | None = None,
    port: int = 443,
    source: Any = None,
    source_port: int = 0,
    ignore_trailing: bool = False,
    client: Any = None,
    path: str = DNS_QUERY,
    post: bool = True,
    verify: Any = True,
    bootstrap_address: Any = None,
    resolver: Any = None,
    family: int = socket.AF_UNSPEC,
) -> Message:
    """Sends a query over HTTPS and returns the reply (RFC 8484). It needs the extra `https`.

    `where` is an address, or a URL as `https://dns.example/dns-query`; where its host is found is
    told by `bootstrap_address`, or a `resolve` of ours as `resolver`, limited to a `family`. Its
    port and path come before those of the arguments, and the certificate has to be for its host,
    or for the name after `#`. `post=False` is a GET, which caches may know. `verify` is as for
    `tls`; an SSLContext has to offer ALPN `h2`. With a `client` of httpx or aiohttp, it is that
    which connects, finds and checks. Redirects are not followed.

    Raises what `tls` does, MissingDependency, and BadResponse, with its `status`, also for a
    response that is no success, or has another content type than a DNS message, or too much.
    """
    query = query_in(q)
    seconds = to_seconds(timeout)
    url = https_url(where, port, path)
    read = message_reader(ignore_trailing, False, False)
    if client is not None:
        return await over_client(client, query, url, post, read, seconds)
    http_library()
    expiration = None if seconds is None else asyncio.get_running_loop().time() + seconds
    addresses = await find_addresses(url.host, bootstrap_address, resolver, family, seconds)
    with Saying(asked_at, query, url.host):
        servers = servers_at(url, addresses, family, verify, post)
    for server in servers[:-1]:
        left = seconds_until(expiration)
        try:
            return await ask(query, server, left, (source, source_port), read)
        except SocketError as error:
            logger.debug('Trying another address: %s', error)
    left = seconds_until(expiration)
    return await ask(query, servers[-1], left, (source, source_port), read)


async def udp_with_fallback(
    q: Message | bytes,
    where: Any,
    timeout: float | None = None,
    port: int = 53,
    source: Any = None,
    source_port: int = 0,
    ignore_unexpected: bool = False,
    ignore_trailing: bool = False,
    udp_sock: socket.SocketType | None = None,
    tcp_sock: StreamPair | None = None,
    ignore_errors: bool = False,
) -> tuple[Message, bool]:
    """Sends a query as a datagram, and over TCP too if the reply is truncated.

    Returns the reply, and whether it came over TCP. The `timeout` is for both. Else as `udp` and
    `tcp`.
    """
    query = query_in(q).octets
    seconds = to_seconds(timeout)
    if tcp_sock is not None:
        pair_of(tcp_sock)  # if it is none, nothing is sent
    loop = asyncio.get_running_loop()
    expiration = None if seconds is None else loop.time() + seconds
    try:
        message = await udp(
            query,
            where,
            seconds,
            port,
            source,
            source_port,
            ignore_unexpected,
            ignore_trailing,
            raise_on_truncation=True,
            sock=udp_sock,
            ignore_errors=ignore_errors,
        )
        return message, False
    except Truncated:
        pass
    left = seconds_until(expiration)
    message = await tcp(query, where, left, port, source, source_port, ignore_trailing, tcp_sock)
    return message, True


# --- 18. Cache ---------------------------------------------------------------
#
# What is known of a name and a type, for as long as it may be; and one flight for
# all who want to know it. A flight never waits for another, so that none can wait
# for itself. Nothing here knows how answers are come by.


class Failure(NamedTuple):
    """Why something is not known, and the traceback of who found out."""

    error: Exception
    traceback: Any


Outcomes = dict[int, 'Known | Failure']  # by type
Key = tuple[str, int]  # a canonical name in lower case, and a type
Cache = OrderedDict[Key, Known]
LEFT = None  # the outcome of a flight whose leader was cancelled
Follower = asyncio.Future['Known | Failure | None']


class Shared(NamedTuple):
    """A flight that others may join while it is on its loop: a future each, by type."""

    loop: asyncio.AbstractEventLoop
    leader: asyncio.Task[Any] | None
    followers: dict[int, list[Follower]]


class Memory(NamedTuple):
    """What a resolver remembers: answers, and who is asking for what."""

    cache: Cache
    flights: dict[Key, Shared]


def raise_failure(failure: Failure) -> NoReturn:
    """Raises the error: ours as a copy, for a traceback grows with each who raises it.

    What a callable of the caller's raised has a traceback, and passes unchanged.
    """
    error, traceback = failure
    if traceback is None:
        import copy  # here, for it is a twentieth of what importing us takes

        raise copy.copy(error) from error.__cause__
    raise error.with_traceback(traceback)


def recall(known: Known, now: float) -> Known | None:
    """Returns what still holds of a cache's entry. An alias outlives the absence at its end."""
    if known.expires_at > now:
        return known
    if known.answers or known.alias is None or known.alias.expires_at <= now:
        return None
    return known._replace(absence=None)


def remember(cache: Cache, key: Key, known: Known, now: float) -> None:
    """Puts in the cache what may be kept, in place of what has been there for longest.

    What was known before is forgotten, also if this is not kept for a moment: it is older.
    """
    keep_until, answers, _, alias, may_keep = known
    if alias is not None and not answers:
        keep_until = max(keep_until, alias.expires_at)
    if may_keep:
        cache.pop(key, None)
    if may_keep and keep_until > now:
        while len(cache) >= MAX_CACHED:  # each turn takes one out
            cache.popitem(last=False)
        cache[key] = known


def follow(shared: Shared, qtype: int) -> Follower:
    """Returns a future of what comes of a flight. Raises ResolverError for who leads it itself."""
    if shared.leader is asyncio.current_task():
        raise ResolverError('To find a nameserver for a name, the same name was asked for')
    follower = shared.loop.create_future()
    shared.followers.setdefault(qtype, []).append(follower)
    return follower


class Stale(Known):
    """An expired answer that is given all the same, and what it was at first."""

    first: Known


def revive(known: Known | None, since: float, now: float) -> Stale | None:
    """Returns for a short while more what a cache has, if it expired after `since`, else None.

    What does not exist is not given again (RFC 8767).
    """
    if known is None or known.absence is not None:
        return None
    first = known.first if isinstance(known, Stale) else known
    alias = first.alias
    expired_at = alias.expires_at if alias is not None and not first.answers else first.expires_at
    if expired_at < since:
        return None
    expires_at = now + STALE_SECONDS
    if alias is not None:
        alias = alias._replace(expires_at=expires_at)
    answers = tuple([expiring(answer, expires_at) for answer in first.answers])
    stale = Stale(expires_at, answers, None, alias, True)
    stale.first = first
    return stale


def end_flight(
    memory: Memory,
    name: str,
    qtypes: tuple[int, ...],
    shared: Shared,
    outcomes: Outcomes,
    now: float,
) -> None:
    """Puts what came of a flight in the cache, and gives it to all who follow."""
    cache, flights = memory
    for qtype in qtypes:
        key = name, qtype
        if flights.get(key) is shared:  # else the cache was cleared on the way
            del flights[key]
            outcome = outcomes.get(qtype)
            if isinstance(outcome, Known):
                remember(cache, key, outcome, now)
    for qtype, followers in shared.followers.items():
        for follower in followers:
            if not follower.done():
                follower.set_result(outcomes.get(qtype, LEFT))


# --- 19. Resolver ------------------------------------------------------------
#
# Asking until a nameserver answers, following aliases, and the resolver itself.
# The factory holds state, functions hold logic. Inside, a resolution takes a
# tuple of types: one walk of the nameservers, a socket per type and nameserver.

GetHost = Callable[[bytes, int], Awaitable[Any]]
GetNameservers = Callable[[bytes], AsyncGenerator[tuple[Any, ...], None]]
TransformFqdn = Callable[[bytes], bytes]
NewQuery = Callable[[bytes, int, QueryForm], Query]

LOOPBACK: dict[int, Any] = {TYPES.A: IPv4Address('127.0.0.1'), TYPES.AAAA: IPv6Address('::1')}
SPECIAL_ENDS = (b'localhost', b'onion', b'invalid', *[b'%d' % digit for digit in range(10)])
ROTATION: itertools.count[int] = itertools.count()  # resolutions with `options rotate`
OUTAGES = (ResponseCode, Truncated, BadResponse, QueryTimeout, SocketError)
SHORTAGES = (errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)  # of this machine
STREAM_ENDS = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
RANKS = (CnameChainTooLong, *OUTAGES)


def tcp_url(nameserver: AddressPort) -> str:
    """Returns a nameserver of resolv.conf, to be asked over TCP."""
    address, port = nameserver
    host = str(address) if isinstance(address, IPv4Address) else f'[{address}]'
    return f'tcp://{host}:{port}'


async def get_nameservers_from_etc_resolve_conf(
    fqdn: bytes, path: str = RESOLV_CONF
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Yields the nameservers of resolv.conf, one at a time with 0.5 s for each, in five rounds.

    Its options `timeout:`, `attempts:`, `rotate` and `use-vc` have it otherwise. A missing file,
    or one without a nameserver, means 127.0.0.1.
    """
    now = asyncio.get_running_loop().time()
    conf: Conf = config_file(path, parse_system_resolv_conf).current(now)
    nameservers: tuple[Any, ...] = conf.nameservers
    if conf.rotate:
        first = next(ROTATION) % len(nameservers)
        nameservers = nameservers[first:] + nameservers[:first]
    if conf.use_vc:
        nameservers = tuple([tcp_url(nameserver) for nameserver in nameservers])
    for _ in range(conf.attempts):
        for nameserver in nameservers:
            yield conf.timeout, nameserver


async def get_host_from_etc_hosts(
    fqdn: bytes, qtype: int, path: str = HOSTS
) -> tuple[Any, ...] | None:
    """Returns the addresses that hosts has, `()` if it has the other family only, or None."""
    now = asyncio.get_running_loop().time()
    addresses = config_file(path, parse_hosts).current(now).get(fqdn)
    return addresses.get(qtype) if addresses is not None else None


Servers = dict[Nameserver, Server]


def server_of(servers: Servers, nameserver: Nameserver) -> Server:
    """Returns a nameserver, with what is known of it. Raises as `to_server` does."""
    server = servers.get(nameserver)
    if server is None:
        if len(servers) >= MAX_SERVERS:
            servers.clear()
        server = to_server(nameserver)
        # Another spelling of one that is known is no other nameserver.
        server = servers[nameserver] = servers.setdefault(server.url, server)
    return server


def are_down(servers: tuple[Server, ...], now: float) -> bool:
    """Whether none of these nameservers is worth a query now."""
    return not any([server.may_be_up(now) for server in servers])


class Settings(NamedTuple):
    """What a resolver was made with, and what it holds."""

    get_host: GetHost
    get_nameservers: GetNameservers
    new_query: NewQuery
    memory: Memory
    servers: Servers
    notice: Callable[[], None] | None  # called when there are records of a type
    watch: Watch
    serve_stale: float  # seconds after which an expired answer is not given any more


def forget(settings: Settings) -> None:
    """Forgets all answers, those too that are being asked for."""
    settings.memory.cache.clear()
    settings.memory.flights.clear()
    for server in settings.servers.values():
        server.retire()
    settings.servers.clear()


def look_at_files(settings: Settings, now: float) -> None:
    """Reads the system's files again if they have changed, and forgets what was learned before."""
    if settings.watch.look(now):
        forget(settings)


def take_notice(settings: Settings, outcome: Known | Failure | None) -> None:
    """Has it noticed that there are records, if somebody wants to know."""
    if settings.notice is not None and isinstance(outcome, Known) and outcome.answers:
        settings.notice()


def known_here(answers: tuple[Any, ...], absence: DoesNotExist | None, now: float) -> Known:
    """Returns what is known without asking, and not kept."""
    return Known(now, answers, absence, None, False)


def special(name: bytes, fqdn: bytes, qtype: int, now: float, is_given: bool) -> Known | None:
    """Returns what is known of a name for which nothing may be sent, or None for another name.

    An IP address is its own if it `is_given` by the caller: the target of an alias is a name, and
    there is none like it. localhost (RFC 6761 6.3), onion (RFC 7686), invalid (RFC 6761 6.4).
    """
    address = None
    rcode: int = RCODES.NOERROR
    if is_at_or_below(fqdn, b'localhost'):
        address = LOOPBACK.get(qtype)
    elif is_at_or_below(fqdn, b'onion') or is_at_or_below(fqdn, b'invalid'):
        rcode = RCODES.NXDOMAIN
    else:
        try:
            address = ip_address(name.decode())
        except ValueError:
            return None
        if not is_given:
            rcode = RCODES.NXDOMAIN
        if not is_given or qtype != (TYPES.A if address.version == 4 else TYPES.AAAA):
            address = None
    if address is None:
        return known_here((), absence_of(f'{describe(name, qtype)}: ', rcode), now)
    return known_here((expiring(address, now),), None, now)


def may_be_special(fqdn: bytes) -> bool:
    """Whether a name has to be looked at more closely: few do."""
    return fqdn.endswith(SPECIAL_ENDS) or b':' in fqdn


def known_from_host(host: Any, name: bytes, qtype: int, now: float) -> Known:
    """Returns what get_host said, as what is known. Raises TypeError if it is no address."""
    addresses = host if isinstance(host, tuple) else (host,)
    if not addresses:
        absence = absence_of(f'{describe(name, qtype)}: ', RCODES.NOERROR)
        return known_here((), absence, now)
    answers: list[Any] = []
    for address in addresses:
        if isinstance(address, (IPv4AddressExpiresAt, IPv6AddressExpiresAt)):
            answers.append(address)
        elif isinstance(address, IPv4Address):
            answers.append(IPv4AddressExpiresAt(address, now))
        elif isinstance(address, IPv6Address):
            answers.append(IPv6AddressExpiresAt(address, now))
        else:
            raise TypeError(f'get_host gives addresses, not {address!r}')
    return known_here(tuple(answers), None, now)


def rank(error: ResolverError) -> int:
    """Returns how little an error says, of those that a resolution may end with."""
    return next((at for at, kind in enumerate(RANKS) if isinstance(error, kind)), len(RANKS))


def is_special(name: bytes, qtype: int, now: float) -> bool:
    """Whether a name that is given by the caller is one for which nothing may be sent."""
    fqdn = name.lower()
    return may_be_special(fqdn) and special(name, fqdn, qtype, now, True) is not None


def query_maker(transform_fqdn: TransformFqdn) -> NewQuery:
    """Returns a function from a name in lower case and a type to a query for it."""
    if transform_fqdn is mix_case:
        return mixed_query
    return lambda fqdn, qtype, form: to_query(to_name(transform_fqdn(fqdn)), qtype, form)


def refuses_edns(error: Any) -> bool:
    """Whether a reply may be so because the server does not bear EDNS (RFC 6891 6.2.2, 7)."""
    return isinstance(error, ResponseCode) and error.rcode in (
        RCODES.FORMERR,
        RCODES.NOTIMP,
        RCODES.BADVERS,
    )


Attempt = tuple[Server, int, bool]  # whom to ask next for a type, and whether over a stream


def has_answered(flight: Flight) -> bool:
    """Whether a query went over a stream that has brought a reply."""
    return flight.is_stream and bool(flight.sock.stream.has_answered)


def is_to_reopen(flight: Flight, outcome: Any) -> bool:
    """Whether a stream has ended that was good: what was asked on it is asked on a new one."""
    is_end = flight.is_stream and isinstance(outcome, STREAM_ENDS)
    return is_end and outcome.errno != errno.EPROTO and has_answered(flight)


class Asking:
    """One walk of the nameservers, for one name and one or several types of record."""

    __slots__ = (
        'attempts',
        'cuts',
        'datagrams',
        'errors',
        'failures',
        'folded',
        'fqdn',
        'has_turn',
        'is_urgent',
        'lowered',
        'outcomes',
        'pending',
        'plain',
        'sent',
        'settings',
        'starved',
        'streamed',
        'unsent',
    )

    def __init__(
        self,
        settings: Settings,
        datagrams: Datagrams,
        fqdn: bytes,
        qtypes: tuple[int, ...],
        outcomes: Outcomes,
    ) -> None:
        self.settings = settings
        self.datagrams = datagrams
        self.fqdn = fqdn
        self.pending = list(qtypes)
        self.outcomes = outcomes
        self.errors: dict[int, ResolverError] = {}  # by type: what to raise if no answer comes
        self.failures: dict[tuple[Server, int], int] = {}
        self.cuts: dict[int, Known] = {}  # by type: what a truncated reply has of use
        self.streamed: set[tuple[Server, int]] = set()  # asked again over a stream
        self.folded: set[tuple[Server, int]] = set()  # as a question was folded
        self.lowered: set[tuple[Server, int]] = set()  # asked again in lower case
        self.plain: dict[tuple[Server, int], bool] = {}  # without EDNS; whether it was refused
        self.unsent: list[Attempt] = []  # of the set that is being asked
        self.is_urgent = False  # there is something unsent that was not there before
        self.sent: set[int] = set()  # flights of it that may still bring something, by key
        self.has_turn = False  # one that no socket has yet
        self.starved: OSError | None = None  # there was no descriptor for a socket
        self.attempts = 0

    async def ask(self, timeout: float, servers: Iterable[Server]) -> None:
        """Asks a set of nameservers at once: until all is answered, all failed, or time is up.

        What was asked of earlier sets is still waited for.
        """
        self.unsent = []
        if self.datagrams.events:  # that came while this set was thought of
            self.take_all()
        self.sent.clear()
        for server in servers:
            for qtype in self.pending:
                self.ask_for(server, qtype)
        await self.go_on(timeout)

    def ask_for(self, server: Server, qtype: int) -> None:
        """Has a nameserver of the set asked. What it was asked over a stream is waited for."""
        on_stream = self.on_stream(server, qtype)
        if on_stream is not None:
            self.sent.add(on_stream)
        elif self.failures.get((server, qtype), 0) < MAX_FAILURES:
            self.unsent.append((server, qtype, server.is_stream))

    async def adopt(self, timeout: float) -> None:
        """Goes on with the one query that was sent before, the first of all."""
        self.attempts = 1
        self.sent |= self.datagrams.flights.keys()
        if not self.take_all():
            await self.receive()
        await self.go_on(timeout)

    async def go_on(self, timeout: float) -> None:
        """Sends what is unsent, and waits for what comes of it."""
        give_up_at = None
        # Each turn sends one at least, or fails it, or time is up, or pauses until give_up_at.
        while self.unsent or self.sent:
            await self.send()
            if self.starved is None:
                self.datagrams.start(timeout)
            else:
                now = self.datagrams.loop.time()
                give_up_at = give_up_at or now + timeout
                if now >= give_up_at:  # no failure of the nameserver's
                    server, qtype, _ = self.unsent.pop(0)
                    self.note(qtype, self.explain(self.starved, server, qtype))
                    continue
                self.datagrams.start(min(timeout, DESCRIPTOR_PAUSE))
            await self.receive()
        self.make_do()

    def make_do(self) -> None:
        """Makes do with what truncated replies had of use, where a stream brought nothing."""
        waited_for = {flight.query.qtype for flight in self.flights_on_streams()}
        for qtype in self.cuts.keys() & set(self.pending) - waited_for:
            self.settle(qtype, self.cuts[qtype])

    async def send(self) -> None:
        """Sends what is unsent on as many turns as are free, on one at least.

        Who lacks a descriptor keeps the turn: others would only lack it too.
        """
        self.starved = None
        has_begun = False
        while self.unsent:  # each turn takes one out
            server, qtype, is_stream = self.unsent[0]
            query = self.query(server, qtype)  # first: this calls a function of the caller's
            if not await self.find_turn(server, is_stream, has_begun):
                break
            has_begun = True
            try:
                self.send_one(query, server, is_stream)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self.starved = None if self.sent else error
                    break
                self.fail(server, qtype, error)
            del self.unsent[0]
            self.attempts += 1
        if self.has_turn and self.starved is None:
            self.give_back()

    async def find_turn(self, server: Server, is_stream: bool, only_if_free: bool) -> bool:
        """Takes a turn for a socket unless there is one already, and says whether there is."""
        datagrams = self.datagrams
        if self.has_turn or (is_stream and datagrams.has_stream(server)):
            return True
        if not datagrams.waiting.turns.take():
            if only_if_free:
                return False
            await datagrams.turn()
        self.has_turn = True
        return True

    def send_one(self, query: Query, server: Server, is_stream: bool) -> None:
        """Sends a query. Raises OSError."""
        datagrams = self.datagrams
        if not is_stream:
            self.sent.add(datagrams.send(query, server))
            self.has_turn = False
        else:
            query = for_stream(query, server.scheme)
            had_stream = server.stream is not None
            self.sent.add(datagrams.send_on_stream(query, server))
            self.has_turn = self.has_turn and had_stream

    def give_back(self) -> None:
        """Gives the turn back that was not used."""
        self.has_turn = False
        self.datagrams.waiting.turns.give_back()

    def query(self, server: Server, qtype: int) -> Query:
        """Returns a new query, such as the nameserver bears."""
        key = server, qtype
        server.look_at_clock(self.datagrams.loop.time())
        forms = PLAIN_FORMS if key in self.plain or server.plain_until else EDNS_FORMS
        form = forms[self.settings.watch.conf.trust_ad]
        if key in self.lowered or server.folds_until:
            return to_query(self.fqdn, qtype, form)
        return self.settings.new_query(self.fqdn, qtype, form)

    async def receive(self) -> None:
        """Takes what comes until there is more to send, nothing to wait for, or time is up."""
        while self.sent or self.starved:  # each turn brings an event, or time is up
            await self.datagrams.wait()
            if not self.datagrams.events:
                return self.time_out()
            if self.take_all():
                return None
        return None

    def take_all(self) -> bool:
        """Takes all that has come, and says whether there is something to send at once."""
        events, self.datagrams.events = self.datagrams.events, []
        self.is_urgent = False
        for key, flight, outcome in events:
            if not isinstance(outcome, FoldedCase):  # after which it is still listened to
                self.sent.discard(key)
            if not isinstance(outcome, OSError) or isinstance(outcome, RequestEnded):
                flight.server.heard(self.datagrams.loop.time())
            if flight.query.qtype in self.pending:
                self.take(flight, outcome)
        return self.is_urgent

    def take(self, flight: Flight, outcome: Any) -> None:
        """Takes what came of a flight: what is known now, a reason to ask again, or a failure."""
        if isinstance(outcome, Folded):
            self.note_folding(flight.server)
            outcome = outcome.rest
        if isinstance(outcome, Known):
            self.accept(flight, outcome)
        elif isinstance(outcome, FoldedCase):
            self.folded.add((flight.server, flight.query.qtype))
            self.ask_on_stream(flight)
        elif isinstance(outcome, Cut):
            self.take_cut(flight, outcome.rest)
        elif flight.query.has_edns and refuses_edns(outcome):
            self.ask_plain(flight, outcome)
        elif is_to_reopen(flight, outcome) and self.attempts < MAX_SETS:
            self.ask_again(flight.server, flight.query.qtype, True)  # RFC 7766 6.2.4
        else:
            is_near = has_answered(flight) or isinstance(outcome, RequestEnded)
            self.fail(flight.server, flight.query.qtype, outcome, flight.is_stream, is_near)
            if flight.is_stream:
                self.try_otherwise(flight, outcome)

    def accept(self, flight: Flight, known: Known) -> None:
        """Takes a good reply: it is the outcome, and tells what the nameserver bears."""
        _, query, server, _ = flight
        key = server, query.qtype
        if query.has_edns:
            server.bears_edns()
        elif key in self.plain:
            server.doubt += 1
            if self.plain[key] or server.doubt >= MAX_DOUBT:
                server.plain_until = self.datagrams.loop.time() + PLAIN_SECONDS
        if key in self.lowered and query.name == query.name.lower():
            self.note_folding(server)
        if known.absence is not None:
            self.explain(known.absence, server, query.qtype, flight.is_stream)
        self.settle(query.qtype, known)

    def note_folding(self, server: Server) -> None:
        """Remembers that a nameserver folds letter case."""
        server.folds_until = self.datagrams.loop.time() + FOLDING_SECONDS

    def ask_again(self, server: Server, qtype: int, is_stream: bool) -> None:
        """Has the same asked again before all else."""
        self.unsent.insert(0, (server, qtype, is_stream))
        self.is_urgent = True

    def ask_on_stream(self, flight: Flight) -> None:
        """Has the same asked over a stream, once."""
        key = flight.server, flight.query.qtype
        if key not in self.streamed:
            self.streamed.add(key)
            self.ask_again(*key, True)

    def take_cut(self, flight: Flight, rest: Known | ResolverError) -> None:
        """Takes a truncated reply: the whole is asked for, and this kept if that does not come."""
        key = flight.server, flight.query.qtype
        if isinstance(rest, Known):
            self.cuts[key[1]] = rest
        else:
            self.note(key[1], self.explain(rest, *key))
        if key not in self.streamed:
            self.ask_on_stream(flight)
        elif self.on_stream(*key) is None:
            self.count_failure(key)

    def flights_on_streams(self) -> list[Flight]:
        """Returns what was asked over streams, and may still be answered."""
        return [flight for flight in self.datagrams.flights.values() if flight.is_stream]

    def on_stream(self, server: Server, qtype: int) -> int | None:
        """Returns what a nameserver was asked over a stream, by key, if it may still answer."""
        for key, flight in self.datagrams.flights.items():
            if flight.is_stream and flight.server is server and flight.query.qtype == qtype:
                return key if flight.sock.stream.is_good(self.datagrams.loop) else None
        return None

    def ask_plain(self, flight: Flight, error: ResolverError) -> None:
        """Has the same asked without EDNS, once; else the error is one like others."""
        key = flight.server, flight.query.qtype
        if self.plain.get(key):
            self.fail(*key, error, flight.is_stream)
        else:
            self.plain[key] = True
            self.ask_again(*key, flight.is_stream)

    def try_otherwise(self, flight: Flight, error: Any) -> None:
        """Has the same asked again as a stream failed: on a new one if it ended, else without."""
        key = flight.server, flight.query.qtype
        if isinstance(error, STREAM_ENDS) and self.failures[key] < MAX_FAILURES:
            self.ask_again(*key, True)
        elif key in self.folded and key not in self.lowered:
            self.lowered.add(key)
            self.ask_again(*key, False)

    def settle(self, qtype: int, outcome: Known | Failure) -> None:
        """Has the outcome for a type: nothing more is sent or waited for on its behalf."""
        self.outcomes[qtype] = outcome
        take_notice(self.settings, outcome)
        self.pending.remove(qtype)
        if self.unsent:
            self.unsent = [attempt for attempt in self.unsent if attempt[1] != qtype]
        if not self.pending:  # all sockets are closed at the end
            self.sent.clear()
            return
        for key, flight in list(self.datagrams.flights.items()):
            if flight.query.qtype == qtype:
                self.sent.discard(key)
                self.datagrams.close(key)

    def fail(
        self,
        server: Server,
        qtype: int,
        error: ResolverError | OSError,
        is_stream: bool = False,
        is_near: bool = False,
    ) -> None:
        """Counts a failure of a nameserver's, and notes the error. What is near is not down."""
        self.count_failure((server, qtype))
        is_far = isinstance(error, OSError) and error.errno not in SHORTAGES and not is_near
        if is_far and is_stream == server.is_stream:
            server.down_until = self.datagrams.loop.time() + DOWN_SECONDS
        self.note(qtype, self.explain(error, server, qtype, is_stream))

    def count_failure(self, key: tuple[Server, int]) -> None:
        """Counts a failure: after so many it is not asked again."""
        self.failures[key] = self.failures.get(key, 0) + 1

    def explain(
        self,
        error: ResolverError | OSError,
        server: Server,
        qtype: int,
        is_stream: bool = False,
    ) -> ResolverError:
        """Returns the error with what was asked, of whom, and how often."""
        where = f'{describe(self.fqdn, qtype)} from {server.text}'
        where += f' over {OVER[server.scheme]}' if is_stream else ''
        return in_full(error, where, f' (attempts: {max(1, self.attempts)})')

    def note(self, qtype: int, error: ResolverError) -> None:
        """Notes an error for the end: the last one of the best rank is raised."""
        logger.debug('Failed: %s', error)
        noted = self.errors.get(qtype)
        if noted is None or rank(error) <= rank(noted):
            self.errors[qtype] = error

    def time_out(self) -> None:
        """Notes that no reply came in time. What was sent may still be answered."""
        flights = self.datagrams.flights
        late = [flights[key] for key in self.sent & flights.keys()]
        self.sent.clear()
        for flight in late:
            _, query, server, sent_at = flight
            key = server, query.qtype
            if flight.is_stream == server.is_stream:  # of datagrams a stream tells nothing
                server.not_heard(sent_at, self.datagrams.loop.time())
            if query.has_edns and not flight.is_stream:
                self.plain.setdefault(key, False)  # it may be silent to EDNS only
            if query.qtype in self.pending:
                error = QueryTimeout('no usable reply in time')
                error.__cause__ = self.datagrams.dropped
                self.note(query.qtype, self.explain(error, *key, flight.is_stream))
                if flight.is_stream:
                    self.try_otherwise(flight, error)

    def let_one_go(self) -> None:
        """Gives one turn back, or gives up what others may have to wait for."""
        if self.has_turn or self.datagrams.end_one():
            self.give_back()
        else:
            self.datagrams.give_up_streams()

    def close(self) -> None:
        """Takes what has come to the last, and gives the turn back."""
        self.take_all()
        if self.has_turn:
            self.give_back()

    def end(self) -> None:
        """Ends with what there is for each type that no answer came for, or with an error."""
        for qtype in self.pending:
            what = f'{describe(self.fqdn, qtype)}: there was no nameserver to ask'
            error = self.errors.get(qtype) or QueryTimeout(what)
            self.outcomes[qtype] = self.cuts.get(qtype) or Failure(error, None)


def check_set(servers: Servers, each: Any) -> tuple[float, tuple[Server, ...]]:
    """Returns the timeout and the nameservers of what get_nameservers yields.

    Raises TypeError, or InvalidName for what is no nameserver.
    """
    if not isinstance(each, tuple) or not each:
        raise TypeError(f'get_nameservers yields (timeout, nameserver, ...), not {each!r}')
    timeout = each[0]
    if not isinstance(timeout, (int, float)):
        raise TypeError(f'A timeout is a number of seconds, not {timeout!r}')
    if not 0 <= timeout <= MAX_TIMEOUT:
        timeout = min(max(0.0, timeout), MAX_TIMEOUT)  # in this order, so that nan is 0
    if len(each) == 2:  # nearly always
        return timeout, (server_of(servers, each[1]),)
    return timeout, tuple([server_of(servers, nameserver) for nameserver in each[1:]])


def first_query(settings: Settings, fqdn: bytes, qtype: int, server: Server) -> Query:
    """Returns the first query that a nameserver is sent for a name."""
    query = settings.new_query(fqdn, qtype, EDNS_FORMS[settings.watch.conf.trust_ad])
    return for_stream(query, server.scheme) if server.is_stream else query


def send_first(datagrams: Datagrams, timeout: float, query: Query, server: Server) -> bool:
    """Sends the first query, on the stream that is there or else on the turn that the caller has.

    Says whether it could.
    """
    datagrams.start(timeout)  # before a stream stops its own, so that the loop's timer is kept
    if server.is_stream:
        datagrams.send_on_stream(query, server)
        return True
    try:
        datagrams.send(query, server)
    except BaseException as error:
        datagrams.waiting.turns.give_back()
        if not isinstance(error, OSError):
            raise
        return False
    return True


def first_answer(datagrams: Datagrams, server: Server) -> Known | None:
    """Returns the records that came first, if anything did. All else is left where it is."""
    known = datagrams.events[0][2] if datagrams.events else None
    if not isinstance(known, Known) or known.absence is not None:
        return None
    server.heard_at = datagrams.loop.time()
    server.down_until = 0.0
    if server.doubt:
        server.bears_edns()
    return known


Sets = tuple[tuple[float, tuple[Server, ...]], ...]  # of nameservers, and the timeout of each


def is_to_wait(servers: tuple[Server, ...], put_aside: Sets, now: float) -> bool:
    """Whether a set of nameservers is to be put aside: all are down, and others may come.

    A set that comes again has been put aside for a whole round, which is enough.
    """
    if not servers or not are_down(servers, now):
        return False
    return servers not in [others for _, others in put_aside]


async def ask_nameservers(
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    fqdn: bytes,
    qtypes: tuple[int, ...],
    outcomes: Outcomes,
) -> None:
    """Adds to `outcomes` what the nameservers say of a name. Asks set after set until all is."""
    sets = settings.get_nameservers(fqdn)
    if not hasattr(sets, 'aclose'):
        raise TypeError(f'get_nameservers is an async generator function, and gave {sets!r}')
    datagrams = Datagrams(loop, read_datagram, read_frame)
    turns = datagrams.waiting.turns
    asking = None
    put_aside: Sets = ()
    taken = 0
    try:
        async for each in sets:
            timeout, servers = check_set(settings.servers, each)
            is_first = asking is None and len(servers) == len(qtypes) == 1 and servers[0].is_plain
            if is_first:  # before a turn is taken: this calls a function of the caller's
                query = first_query(settings, fqdn, qtypes[0], servers[0])
            if is_first and servers[0].is_stream:
                is_first = datagrams.has_stream(servers[0])
            elif is_first and not turns.take():
                await turns.wait()
                is_first = servers[0].is_plain  # or others have found it down since
                if not is_first:
                    turns.give_back()
            # A short cut, which answers nearly all names.
            if is_first and send_first(datagrams, timeout, query, servers[0]):
                await datagrams.wait()
                known = first_answer(datagrams, servers[0])
                if known is not None:
                    outcomes[qtypes[0]] = known
                    take_notice(settings, known)
                    return
                asking = Asking(settings, datagrams, fqdn, qtypes, outcomes)
                await asking.adopt(timeout)
            elif is_to_wait(servers, put_aside, loop.time()):
                put_aside += ((timeout, servers),)
            else:
                asking = asking or Asking(settings, datagrams, fqdn, qtypes, outcomes)
                await asking.ask(timeout, servers)
            taken += 1
            if taken == MAX_SETS or (asking is not None and not asking.pending):
                break
            if asking is not None and turns.are_taken:  # get_nameservers may need one
                asking.let_one_go()
        asking = asking or Asking(settings, datagrams, fqdn, qtypes, outcomes)
        for timeout, servers in put_aside:
            if asking.pending:
                await asking.ask(timeout, servers)
    finally:
        if asking is not None:
            asking.close()
        datagrams.close_all()
        await sets.aclose()
    asking.end()


def give_stale(settings: Settings, fqdn: bytes, outcomes: Outcomes, now: float) -> None:
    """Puts expired answers in the place of failures, where there are some not too old."""
    for qtype, outcome in outcomes.items():
        if not isinstance(outcome, Failure) or not isinstance(outcome.error, OUTAGES):
            continue
        known = settings.memory.cache.get((fqdn.decode('ascii'), qtype))
        stale = revive(known, now - settings.serve_stale, now)
        if stale is not None:
            outcomes[qtype] = stale
            take_notice(settings, stale)
            # As text: a handler that keeps what it logs would keep the error's cause, too.
            logger.warning('Gave an expired answer: %s', str(outcome.error))


def outcome_text(outcome: Known | Failure | None, now: float) -> str:
    """Returns an outcome in words, for the log."""
    if outcome is LEFT:
        return 'given up'
    if isinstance(outcome, Failure):
        return f'{type(outcome.error).__name__}: {outcome.error}'
    seconds = f'for {max(0.0, outcome.expires_at - now):.0f} s'
    if outcome.answers or outcome.absence is not None:
        return f'{outcome.absence or f"records: {len(outcome.answers)}"}, {seconds}'
    return 'an alias, and the records of its target are not there'


async def lead(
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    fqdn: bytes,
    qtypes: tuple[int, ...],
    outcomes: Outcomes,
) -> None:
    """Asks for all who want to know the same. Adds to `outcomes` what comes of it, and shares it.

    Who is cancelled shares what has come until then.
    """
    memory = settings.memory
    name = fqdn.decode('ascii')
    shared: Shared = tuple.__new__(Shared, (loop, asyncio.current_task(loop), {}))
    for qtype in qtypes:
        memory.flights[name, qtype] = shared
    try:
        await ask_nameservers(settings, loop, fqdn, qtypes, outcomes)
    except Exception as error:  # of a callable of the caller's: it goes to all who wait
        failure = Failure(error, error.__traceback__)
        for qtype in qtypes:
            outcomes.setdefault(qtype, failure)
    else:
        if settings.serve_stale:
            give_stale(settings, fqdn, outcomes, loop.time())
    finally:
        end_flight(memory, name, qtypes, shared, outcomes, loop.time())
        if logger.isEnabledFor(logging.DEBUG):
            for qtype in qtypes:
                text = outcome_text(outcomes.get(qtype, LEFT), loop.time())
                logger.debug('Asked for %s: %s', describe(fqdn, qtype), text)


def take_notice_of(settings: Settings, follower: Follower) -> None:
    """Has it noticed if a flight of others brought records."""
    if not follower.cancelled():
        take_notice(settings, follower.result())


def board(
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    fqdn: bytes,
    qtypes: tuple[int, ...],
    outcomes: Outcomes,
) -> tuple[list[int], list[tuple[int, Follower]]]:
    """Returns the types that nobody asks for yet, and a future for each that somebody does.

    What the cache knows by now is added to `outcomes`.
    """
    cache, flights = settings.memory
    name = fqdn.decode('ascii')
    mine = []
    followed = []
    for qtype in qtypes:
        if qtype in outcomes:
            continue
        key = name, qtype
        shared = flights.get(key)
        known = cache.get(key)
        if known is not None and (known := recall(known, loop.time())) is not None:
            outcomes[qtype] = known
            take_notice(settings, known)
        elif shared is None or shared.loop is not loop:
            mine.append(qtype)
        else:
            follower = follow(shared, qtype)
            followed.append((qtype, follower))
            if settings.notice is not None:
                follower.add_done_callback(functools.partial(take_notice_of, settings))
    return mine, followed


def collect(followed: list[tuple[int, Follower]], outcomes: Outcomes) -> None:
    """Adds to `outcomes` what has come of flights of others, unless their leaders have left."""
    for qtype, follower in followed:
        if follower.done() and not follower.cancelled():
            outcome = follower.result()
            if outcome is not LEFT:
                outcomes[qtype] = outcome


async def know(
    settings: Settings, name: bytes, qtypes: tuple[int, ...], is_given: bool, outcomes: Outcomes
) -> None:
    """Adds to `outcomes` what is known of a name: from the cache, from who asks it, or by asking.

    get_host is asked for a name that `is_given` by the caller, not for the target of an alias.
    """
    loop = asyncio.get_running_loop()
    fqdn = name.lower()
    is_suspect = may_be_special(fqdn)
    for qtype in qtypes:
        now = loop.time()
        known = settings.memory.cache.get((fqdn.decode('ascii'), qtype))
        if known is not None:
            known = recall(known, now)
        if known is None and is_suspect:
            known = special(name, fqdn, qtype, now, is_given)
        if known is None and is_given:
            host = await settings.get_host(fqdn, qtype)
            if host is not None:
                known = known_from_host(host, name, qtype, now)
        if known is None and qtype == TYPES.AAAA and settings.watch.conf.no_aaaa:
            what = f'{describe(name, qtype)} is not asked for (no-aaaa): '
            known = known_here((), absence_of(what, RCODES.NOERROR), now)
        if known is not None:
            outcomes[qtype] = known
            take_notice(settings, known)
    while len(outcomes) < len(qtypes):  # each turn brings all, or a leader has left
        mine, followed = board(settings, loop, fqdn, qtypes, outcomes)
        try:
            if mine:
                await lead(settings, loop, fqdn, tuple(mine), outcomes)
            for _, follower in followed:
                await follower
        finally:
            collect(followed, outcomes)


def join(name: bytes, alias: Alias, qtype: int, outcome: Known | Failure) -> Known | Failure:
    """Returns what an alias of `name` and what is known of its target come to together."""
    if isinstance(outcome, Failure):
        return outcome
    absence = outcome.absence
    if absence is not None:
        text = f'{absence} ({present_name(name)} is an alias of it)'
        absence = DoesNotExist(text, absence.rcode)
    last = outcome.alias or Alias(alias.name, 0, alias.expires_at)
    last = Alias(last.name, alias.links + last.links, min(alias.expires_at, last.expires_at))
    if last.links > MAX_CNAMES:
        text = f'{describe(name, qtype)}: there are more than {MAX_CNAMES} aliases'
        return Failure(CnameChainTooLong(text), None)
    expires_at = min(alias.expires_at, outcome.expires_at)
    answers = tuple([expiring(answer, expires_at) for answer in outcome.answers])
    return Known(expires_at, answers, absence, last, False)


async def resolve_types(
    settings: Settings,
    name: bytes,
    qtypes: tuple[int, ...],
    outcomes: Outcomes,
    is_given: bool = True,
) -> None:
    """Adds to `outcomes` what is known of a name, aliases followed: records, absence or failure.

    Who is cancelled has there what has come until then, an alias alone among it.
    """
    await know(settings, name, qtypes, is_given, outcomes)
    while True:  # each turn makes a chain of aliases longer, or ends it
        aliases = {}
        for qtype, known in outcomes.items():
            if isinstance(known, Known) and not (known.answers or known.absence) and known.alias:
                aliases[qtype] = known.alias
        if not aliases:
            return
        target = next(iter(aliases.values())).name
        group = tuple([qtype for qtype, alias in aliases.items() if alias.name == target])
        found: Outcomes = {}
        try:
            await know(settings, target, group, False, found)
        finally:
            for qtype, outcome in found.items():
                outcomes[qtype] = join(name, aliases[qtype], qtype, outcome)


def recall_search(
    cache: Cache, name: bytes, names: Iterable[bytes], qtypes: tuple[int, ...], now: float
) -> dict[int, Known]:
    """Returns what the cache has of that which a search for `name` will come to, by type."""
    own: dict[int, Known] = {}
    for each in names:
        fqdn = each.lower().decode('ascii')
        found: dict[int, Known] = {}
        for qtype in qtypes:
            known = cache.get((fqdn, qtype))
            known = recall(known, now) if known is not None else None
            if known is not None and (known.answers or known.absence):
                found[qtype] = known
        if any([known.answers for known in found.values()]):
            return found
        if len(found) < len(qtypes):
            return {}
        if each == name:
            own = found
    return own


def is_absent(outcome: Known | Failure) -> bool:
    """Whether there is no such name or record: a search goes on then."""
    return isinstance(outcome, Known) and outcome.absence is not None


async def search_for(
    settings: Settings,
    name: bytes,
    names: Iterable[bytes],
    qtypes: tuple[int, ...],
    outcomes: Outcomes,
) -> None:
    """Adds to `outcomes` what the first of several names comes to that is not absent.

    A failure ends the search too: else another name would be answered because the first one could
    not be asked for. If all are absent, it is `name` itself that does not exist. get_host is asked
    for that one only, and a type that it knows is not searched.
    """
    now = asyncio.get_running_loop().time()
    recalled = recall_search(settings.memory.cache, name, names, qtypes, now)
    if len(recalled) == len(qtypes):
        outcomes.update(recalled)
        return
    for qtype in qtypes:
        host = None if qtype in recalled else await settings.get_host(name.lower(), qtype)
        if host is not None:
            known = known_from_host(host, name, qtype, now)
            outcomes[qtype] = known
            take_notice(settings, known)
    wanted = tuple([qtype for qtype in qtypes if qtype not in outcomes])
    own: Outcomes = {}
    for each in names if wanted else ():
        found: Outcomes = {}
        try:
            await resolve_types(settings, each, wanted, found, is_given=False)
        finally:
            is_over = not all(map(is_absent, found.values()))
            if is_over:
                outcomes.update(found)
        if is_over:
            return
        if each == name:
            own = found
    outcomes.update(own)


def resolve_name(
    settings: Settings, given: str | bytes, qtypes: tuple[int, ...], outcomes: Outcomes
) -> Awaitable[None]:
    """Adds to `outcomes`, when awaited, what is known of a name as a caller gave it.

    With the files as they are. Raises InvalidName, or TypeError for what is neither str nor bytes.
    """
    name = to_name(given)
    now = asyncio.get_running_loop().time()
    watch = settings.watch
    if not watch.since <= now < watch.due:
        look_at_files(settings, now)
    domains = watch.search
    if not domains or is_absolute(given) or is_special(name, qtypes[0], now):
        return resolve_types(settings, name, qtypes, outcomes)
    names = names_to_ask(name, domains, watch.ndots)
    return search_for(settings, name, names, qtypes, outcomes)


async def resolve_first(
    settings: Settings, given: str | bytes, qtypes: tuple[int, ...], seconds: float
) -> Outcomes:
    """Returns what is known of a name, by type; once one has records, the others get `seconds`."""
    outcomes: Outcomes = {}
    loop = asyncio.get_running_loop()
    grace = asyncio.timeout(None)
    is_over = False

    def notice() -> None:
        if grace.when() is None and not is_over:  # a flight of others ends when it will
            grace.reschedule(loop.time() + seconds)

    try:
        async with grace:
            await resolve_name(settings._replace(notice=notice), given, qtypes, outcomes)
    except TimeoutError:
        if not grace.expired():  # then it is of a callable of the caller's
            raise
    finally:
        is_over = True
    return outcomes


def check_type(qtype: int) -> None:
    """Raises InvalidName for a type that is no data of a name, TypeError for what is no type."""
    if not isinstance(qtype, int):
        raise TypeError(f'A type is one of TYPES or a number, not {qtype!r}')
    if qtype in UNRESOLVABLE or not 0 <= qtype <= 0xFFFF:
        raise InvalidName(f'{present_number(qtype, TYPE_OF, "TYPE")} is no type to resolve')


if TYPE_CHECKING:

    class Resolve(Protocol):
        """What Resolver returns first."""

        @overload
        async def __call__(
            self, name: str | bytes, qtype: Literal[TYPES.A]
        ) -> tuple[IPv4AddressExpiresAt, ...]: ...

        @overload
        async def __call__(
            self, name: str | bytes, qtype: Literal[TYPES.AAAA]
        ) -> tuple[IPv6AddressExpiresAt, ...]: ...

        @overload
        async def __call__(self, name: str | bytes, qtype: int) -> tuple[Any, ...]: ...


def file_of(
    function: Any, default: Any, parse: Callable[[Iterable[str]], Any]
) -> ConfigFile | None:
    """Returns the file that a default of ours reads, or None for a callable of the caller's.

    A `functools.partial` of the default may give it another `path`.
    """
    path = default.__defaults__[0]
    if isinstance(function, functools.partial):
        path = function.keywords.get('path', path)
        function = function.func
    return config_file(path, parse) if function is default else None


def to_search(search: Iterable[str | bytes] | None) -> tuple[bytes, ...] | None:
    """Returns a search list as Conf has it, or None for that of the system.

    Raises InvalidName for what is no name, or for too many; TypeError for what is no list of them.
    """
    if search is None:
        return None
    if isinstance(search, (str, bytes)):
        raise TypeError(f'A search list is an iterable of names, not {search!r}')
    domains = list(itertools.islice(search, MAX_SEARCH + 1))
    if len(domains) > MAX_SEARCH:
        raise InvalidName(f'There are more than {MAX_SEARCH} domains in the search list')
    return tuple([to_name(domain).lower() for domain in domains])


def to_settings(
    get_host: GetHost,
    get_nameservers: GetNameservers,
    transform_fqdn: TransformFqdn,
    search: Iterable[str | bytes] | None = None,
    serve_stale: float = 0,
) -> Settings:
    """Returns the settings of a new resolver, nothing remembered; `Resolver` says of what."""
    memory = Memory(OrderedDict(), {})
    default = get_nameservers_from_etc_resolve_conf
    resolv_conf = file_of(get_nameservers, default, parse_system_resolv_conf)
    hosts = file_of(get_host, get_host_from_etc_hosts, parse_hosts)
    watch = Watch(resolv_conf, hosts, to_search(search))
    new_query = query_maker(transform_fqdn)
    if not isinstance(serve_stale, (int, float)):
        raise TypeError(f'serve_stale is a number of seconds, not {serve_stale!r}')
    seconds = min(max(0.0, serve_stale), MAX_STALE)  # in this order, so that nan is 0
    return Settings(get_host, get_nameservers, new_query, memory, {}, None, watch, seconds)


def answers_of(outcome: Known | Failure) -> tuple[Any, ...]:
    """Returns the records of an outcome, or raises the error that it is."""
    if isinstance(outcome, Failure):
        raise_failure(outcome)
    if outcome.absence is not None:
        raise_failure(Failure(outcome.absence, None))
    return outcome.answers


def Resolver(
    get_host: GetHost = get_host_from_etc_hosts,
    get_nameservers: GetNameservers = get_nameservers_from_etc_resolve_conf,
    transform_fqdn: TransformFqdn = mix_case,
    *,
    search: Iterable[str | bytes] | None = None,
    serve_stale: float = 0,
) -> tuple[Resolve, Callable[[], None]]:
    """Returns `resolve` and `clear_cache`. Reads no file yet, and needs no running loop.

    `get_host(fqdn, qtype)`: a coroutine function, asked first. None: ask a nameserver; `()`: known
    without such a record; else an address, or a tuple of them.
    `get_nameservers(fqdn)`: an async generator of `(timeout, nameserver, ...)`, the timeout in
    seconds, a nameserver `(address, port)` or a URL, `tcp://192.0.2.1:53`; those of one tuple are
    asked at once.
    `transform_fqdn(fqdn)`: a function from the name to the name that is sent.
    `search`: domains in which to look for a name without a final dot. None: those of the system,
    and none with a `get_nameservers` of the caller's.
    `serve_stale`: for how many seconds after it has expired an answer is given when every
    nameserver failed (RFC 8767); each time it is cached for 30 s. 0: not at all.
    """
    settings = to_settings(get_host, get_nameservers, transform_fqdn, search, serve_stale)
    cache = settings.memory.cache
    watch = settings.watch
    get_running_loop = asyncio.get_running_loop

    async def resolve(name: str | bytes, qtype: int) -> tuple[Any, ...]:
        """Returns the records of a name and a type: a tuple of rdata, each with `expires_at`.

        Raises InvalidName, DoesNotExist, QueryTimeout, SocketError, ResponseCode, BadResponse,
        Truncated, CnameChainTooLong; TypeError; and what a callable of the caller's raised.
        """
        known = cache.get((name, qtype)) if name.__class__ is str else None
        if known is not None:
            now = get_running_loop().time()
            if known[0] > now and watch.since <= now < watch.due:
                answers = known[1]
                # What has fewer dots is looked for below the domains of the search list first.
                if answers and (not watch.ndots or has_dots(name, watch.ndots)):
                    return answers
        check_type(qtype)
        outcomes: Outcomes = {}
        await resolve_name(settings, name, (qtype,), outcomes)
        return answers_of(outcomes[qtype])

    def clear_cache() -> None:
        """Forgets all answers, those too that are being asked for."""
        forget(settings)

    return resolve, clear_cache


# --- 20. Guests --------------------------------------------------------------
#
# Resolvers in the shape that others want, each made when it is first asked for:
# the library that it is for is imported only then.

OTHER_FAMILY_SECONDS = 0.05  # RFC 8305 3: how long to wait for the other family
NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
FAMILY_OF = {TYPES.AAAA: socket.AF_INET6, TYPES.A: socket.AF_INET}
TYPES_OF_FAMILY: dict[int, tuple[TYPES, ...]] = {
    socket.AF_INET: (TYPES.A,),
    socket.AF_INET6: (TYPES.AAAA,),
    socket.AF_UNSPEC: (TYPES.AAAA, TYPES.A),  # RFC 8305 4: IPv6 first
}
# What getaddrinfo(3) says of an error, for programs that know only that; the rest is EAI_FAIL.
EAI_OF = (
    ((DoesNotExist, InvalidName), socket.EAI_NONAME),
    ((QueryTimeout, ResponseCode, BadResponse, Truncated, SocketError), socket.EAI_AGAIN),
    ((ResolverError,), socket.EAI_FAIL),
)


def to_gaierror(error: ResolverError) -> socket.gaierror:
    """Returns an error as `socket.getaddrinfo` raises it: an OSError with errno and text."""
    number = next(number for kinds, number in EAI_OF if isinstance(error, kinds))
    return socket.gaierror(number, str(error))


async def resolve_families(
    settings: Settings, name: str, family: int
) -> list[IPv4AddressExpiresAt | IPv6AddressExpiresAt]:
    """Returns the addresses of a name: of one family, or of both if `family` is AF_UNSPEC.

    Both are asked at once, and one with addresses is enough: the other gets 50 ms then, and is
    given up after. Raises ResolverError; if neither has an address, a failure rather than an
    absence.
    """
    if family not in TYPES_OF_FAMILY:
        raise InvalidName(f'{name}: there are no addresses of family {family!r} in DNS')
    qtypes = TYPES_OF_FAMILY[family]
    outcomes = await resolve_first(settings, name, qtypes, OTHER_FAMILY_SECONDS)
    found = [outcomes[qtype] for qtype in qtypes if qtype in outcomes]
    addresses = [each for one in found if isinstance(one, Known) for each in one.answers]
    if not addresses:
        answers_of(min(reversed(found), key=lambda one: isinstance(one, Known)))
    return list(dict.fromkeys(addresses))  # a get_host may give all for either family


class HostResolver:
    """Gives hosts as aiohttp wants them: all that AioHttpDnsResolver is, without aiohttp."""

    def __init__(
        self,
        get_host: GetHost = get_host_from_etc_hosts,
        get_nameservers: GetNameservers = get_nameservers_from_etc_resolve_conf,
        transform_fqdn: TransformFqdn = mix_case,
        *,
        search: Iterable[str | bytes] | None = None,
        serve_stale: float = 0,
    ) -> None:
        self.settings = to_settings(get_host, get_nameservers, transform_fqdn, search, serve_stale)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns the addresses of a host, at least one, each a dict as aiohttp's own are.

        Raises socket.gaierror, which is an OSError with errno and text.
        """
        try:
            addresses = await resolve_families(self.settings, host, family)
        except ResolverError as error:
            raise to_gaierror(error) from error
        return [
            {
                'hostname': host,
                'host': str(address),
                'port': port,
                'family': socket.AF_INET if address.version == 4 else socket.AF_INET6,
                'proto': 0,
                'flags': NUMERIC,
            }
            for address in addresses
        ]

    async def close(self) -> None:
        """Clears the cache. The resolver can be used again."""
        forget(self.settings)


if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class AioHttpDnsResolver(HostResolver, AbstractResolver):
        """A resolver for aiohttp's connectors. It takes the arguments of `Resolver`."""


def make_aiohttp_resolver() -> type[AioHttpDnsResolver]:
    """Returns the class AioHttpDnsResolver. Raises MissingDependency without aiohttp."""
    try:
        from aiohttp.abc import AbstractResolver
    except ImportError as error:
        text = "AioHttpDnsResolver needs aiohttp: pip install 'aiodnsresolver[aiohttp]'"
        raise MissingDependency(text) from error
    text = "A resolver for aiohttp's connectors. It takes the arguments of `Resolver`."
    fields = {'__module__': __name__, '__doc__': text}
    return type('AioHttpDnsResolver', (HostResolver, AbstractResolver), fields)


GUESTS = {'AioHttpDnsResolver': make_aiohttp_resolver}


def __getattr__(name: str) -> Any:
    """Returns a guest or the class of a record, made when it is first asked for (PEP 562)."""
    if name in GUESTS:
        globals()[name] = GUESTS[name]()
    else:
        qtype = TYPES.__members__.get(name.removesuffix('ExpiresAt'))
        if qtype not in LAYOUTS or LAYOUTS[qtype].record is None:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return globals()[name]


# --- 21. Command line --------------------------------------------------------
#
# Words in, lines and an exit status out. What it imports beyond the core comes
# when it is used.

USAGE = """\
Usage: aiodnsresolver NAME... [TYPE...] [@NAMESERVER[:PORT] | @URL]

Prints the records of each NAME and TYPE (A unless given), one a line. A word
that is a type is a name in the first place or with a final dot. Without a final
dot a NAME is looked for by the system's search list, unless a nameserver is named. A
URL is tcp://ADDRESS, tls://ADDRESS#NAME or https://ADDRESS/PATH#NAME.
Exit status: 0 found, 1 does not exist, 2 failed, 64 usage.
"""


class Words(NamedTuple):
    """A command line, understood."""

    names: list[str]
    qtypes: list[int]
    nameserver: Nameserver | None


def parse_at(word: str) -> Nameserver:
    """Returns a nameserver: `ADDRESS[:PORT]`, `[ADDRESS]:PORT` or a URL.

    Raises InvalidName or MissingDependency.
    """
    url = word if '://' in word else f'udp://{word}'
    to_server(url)
    return url


def parse_words(words: Iterable[str]) -> Words:
    """Returns a command line, understood; without names if for help.

    Raises InvalidName or MissingDependency.
    """
    mnemonics = {str(qtype): qtype for qtype in TYPES}
    names: list[str] = []
    qtypes: list[int] = []
    nameserver = None
    words = list(words)
    if not {'-h', '--help'}.isdisjoint(words):
        return Words([], [], None)
    for word in words:
        generic = re.fullmatch('TYPE([0-9]{1,5})', word.upper())
        if word.startswith('-') or (word.startswith('@') and nameserver):
            raise InvalidName(f'What does {word!r} mean?')
        if word.startswith('@'):
            nameserver = parse_at(word[1:])
        elif names and word.isascii() and word.upper() in mnemonics:
            qtypes.append(mnemonics[word.upper()])
        elif names and generic:
            qtypes.append(int(generic[1]))
        else:
            names.append(word)
    if not names or not all(names):
        raise InvalidName('There is no name, or an empty one: the root is a dot')
    for qtype in qtypes:
        check_type(qtype)
    return Words(names, qtypes or [TYPES.A], nameserver)


async def print_records(resolve: Resolve, name: str, qtype: int) -> int:
    """Prints the records of a name, or the error, and returns the exit status."""
    try:
        records = await resolve(name, qtype)
    except DoesNotExist as error:
        print(error, file=sys.stderr)
        return 1
    except ResolverError as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        return 2
    for record in records:
        print(present_rdata(qtype, CLASSES.IN, record))
    return 0


async def run(words: Words) -> int:
    """Resolves all that the command line asks for, and returns the exit status."""
    nameserver = words.nameserver

    async def get_host(fqdn: bytes, qtype: int) -> None:
        """A nameserver that is named is asked, whatever hosts says."""

    async def get_nameservers(fqdn: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
        for _ in range(5):
            yield 0.5, nameserver

    resolve, _ = Resolver(get_host, get_nameservers) if nameserver else Resolver()
    statuses = [
        await print_records(resolve, name, qtype) for name in words.names for qtype in words.qtypes
    ]
    return max(statuses)


def main() -> int:
    """Runs the command line, and returns the exit status."""
    try:
        words = parse_words(sys.argv[1:])
    except InvalidName as error:
        print(f'{error}\n{USAGE}', end='', file=sys.stderr)
        return 64
    except MissingDependency as error:
        print(error, file=sys.stderr)
        return 2
    try:
        status = asyncio.run(run(words)) if words.names else print(USAGE, end='')
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # as a shell says it of SIGINT
    except OSError as error:
        print(f'The output cannot be written: {error}', file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 2
    return status or 0


if __name__ == '__main__':
    sys.exit(main())
