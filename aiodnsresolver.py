"""Asynchronous DNS for asyncio: pure Python, no dependency, no threads, no background tasks.

    from aiodnsresolver import Resolver, TYPES

    resolve, clear_cache = Resolver()
    addresses = await resolve('www.example.com', TYPES.A)

The map. Each section, and each definition, uses only those above it.

     1  Opening                   imports, __all__
     2  Numbers                   TYPES, CLASSES, OPCODES, RCODES, EDNS_OPTIONS, EDE; the limits
     3  Errors                    ResolverError and its subclasses
     4  Messages                  the named tuples; rdata with an expiry time
     5  Octets                    names, read and written
     6  Fields                    the kinds of field that rdata consists of
     7  Records                   one table: a row for each type
     8  Wire                      pack, parse, presentation
     9  Questions and answers     make_query, mix_case; checking a reply, reading its answer
    10  TSIG                      Key, sign; messages signed and verified as octets
    11  Zone transfer rules       what the messages of a transfer change in a zone; Zone
    12  TLS and HTTP              TLS and HTTP without I/O; HTTP/2 itself comes from an extra
    13  The system's files        resolv.conf, or the registry of Windows, and hosts
        ------------------------- nothing above this line awaits
    14  Event loop                readiness of sockets, timeouts, the limit on open sockets
    15  Exchanges                 a nameserver, and one query to it: as a datagram or on a stream
    16  Queries                   udp, tcp, tls, https: one exchange, one future, one deadline
    17  Transfers                 transfer, inbound_xfr: the rules of section 11, with a server
    18  Cache                     answers by name and type, kept for their TTL
    19  Lookups                   one name and type: asking until a nameserver answers
    20  Resolver                  hosts, special names, search list, aliases, families, Resolver;
                                  reverse_name, service_targets
    21  Guests                    the resolver for aiohttp; getaddrinfo, getnameinfo for asyncio
    22  Command line              python -m aiodnsresolver

The upper half never awaits; the lower half leaves the reading of messages to it.
"""

# --- 1. Opening --------------------------------------------------------------

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import encodings.idna
import encodings.punycode
import errno
import functools
import itertools
import logging
import math
import os
import re
import reprlib
import select
import socket
import struct
import sys
import time
import unicodedata
from collections import OrderedDict, deque, namedtuple
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import Context, ContextVar, copy_context
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    NoReturn,
    Protocol,
    Self,
    TextIO,
    TypeVar,
    overload,
)
from weakref import ReferenceType, WeakKeyDictionary, ref

if TYPE_CHECKING:
    from ssl import SSLContext

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
    'Changes',
    'CnameChainTooLong',
    'DoesNotExist',
    'ExtendedError',
    'IPv4AddressExpiresAt',
    'IPv6AddressExpiresAt',
    'InvalidName',
    'Key',
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
    'UDPMode',
    'UnexpectedSource',
    'Zone',
    'extended_errors',
    'get_host_from_etc_hosts',
    'get_nameservers_from_etc_resolve_conf',
    'getaddrinfo',
    'getnameinfo',
    'https',
    'inbound_xfr',
    'make_query',
    'mix_case',
    'pack',
    'parse',
    'presentation',
    'receive_tcp',
    'receive_udp',
    'reverse_name',
    'send_tcp',
    'send_udp',
    'service_targets',
    'sign',
    'tcp',
    'tls',
    'to_unicode',
    'transfer',
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
    BADSIG = 16  # the same number, in TSIG
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
    """Extended DNS errors (RFC 8914 5.2, IANA "Extended DNS Error Codes")."""

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

# Types that no zone has: OPT, 0 (RFC 6895), and the QTYPEs and meta-types from 249 to 255.
UNRESOLVABLE = frozenset({0, TYPES.OPT, *range(249, 256)})

# Each with the tuple of it alone.
RESOLVABLE: dict[int, tuple[int, ...]] = {
    qtype: (qtype,) for qtype in TYPES if qtype not in UNRESOLVABLE
}

MAX_LABEL = 63  # RFC 1035 2.3.4
MAX_NAME = 255  # RFC 1035 2.3.4, length octets and root included
MAX_PRESENTATION = 4 * MAX_NAME  # each octet written as \DDD
MAX_MESSAGE = 65535  # RFC 1035 4.2.2: the most that the length prefix can say
MAX_EXTRA_TEXT = 240  # octets of the text of an extended error that are shown: a few lines
MAX_EXTENDED_ERRORS = 3  # in the text of an exception
MAX_OTHER_FAILURES = 4  # in the text of an exception, beside its own
PAYLOAD = 1232  # octets: fits into a packet of IPv6's minimum MTU (DNS flag day 2020)
MAX_TTL = 7 * 24 * 3600  # RFC 8767 4 recommends seven days
MAX_NEGATIVE_TTL = 3 * 3600  # RFC 2308 5: one to three hours work well
MAX_CNAMES = 20  # longer than any chain in use; c-ares and Unbound stop near 10
MAX_CACHED = 10_000  # answers in one cache: about 10 MB
MAX_SETS = 100  # sets of nameservers that one lookup takes from get_nameservers
MAX_SEARCH = 32  # domains of a search list, as many as Kubernetes allows: each may cost a query
MAX_TIMEOUT = 24 * 3600.0  # a longer timeout is a mistake, and an infinite one breaks timers
MIN_BATCH = 8  # lookups under way from which on they send together: fewer send immediately
MAX_FAILURES = 2  # failures of a nameserver after which a lookup asks it no more
MAX_OPEN = 2000  # open sockets of one loop: with more, the kernel is slow to find a free port
MAX_SELECTED = 512  # sockets for which select(2) can wait on Windows
POLL_SECONDS = 0.01  # between two polls of a socket that the loop cannot wait for
MAX_UNSOLICITED = 16  # unsolicited messages of a stream: more end it, as a flood blocks the loop
MAX_PIECE = 1 << 14  # octets of HTTP that are read at once: as many as a frame may have
MAX_READS = 16  # reads from one socket before others have their turn; fewer if they bring much
LOWER_CASE_SECONDS = 600.0  # how long a nameserver that cannot cope with capitals is spared them
CONFIRMED_SECONDS = 24 * 3600.0  # how long one that coped with capitals is trusted to
CONFIRM_AGAIN_SECONDS = 60.0  # how long no other answer is looked at for this
CHECKS_SECONDS = 600.0  # in which two absences at most are asked for in lower case, too
NO_EDNS_SECONDS = 600.0  # how long a nameserver that does not support EDNS is asked without it
MAX_UNANSWERED = 3  # names in a row answered only in another form: so many are not packet loss
MAX_LOSSES = 2  # streams that end with a query unanswered before it is asked alone
MAX_ANSWERED_ALONE = 2  # queries that were answered only when asked alone: one may be chance
ONE_AT_A_TIME_SECONDS = 600.0  # how long a nameserver is then asked one query at a time
IDLE_SECONDS = 10.0  # how long an idle stream is kept open (RFC 7766 6.2.3)
MAX_IDLE = 120.0  # the most that a nameserver may set instead (RFC 7828)
ALPN = {'tls': 'dot', 'https': 'h2'}  # protocols to agree on in TLS: RFC 7858 3.1, RFC 8484 5.2
PADDED_TO = 128  # queries over TLS and HTTPS are padded to a multiple of it (RFC 8467 4.1)
SILENT_SECONDS = 1.5  # a stream that brings no reply for so long gets no new query
MAX_OUTGOING = 1 << 24  # octets that may wait to be sent on a stream
MAX_WITHOUT_REPLY = (
    1 << 17
)  # octets of HTTP without a reply: more end the connection, as frames cost time
MAX_STREAMS = 100  # of HTTP/2 at once: every server should allow as many (RFC 9113 6.5.2)
MAX_PENDING = 1 << 14  # pending queries of a stream: with fewer, a free id is soon drawn
MAX_GIVEN_UP = 1000  # unanswered queries given up on a stream: with more, it gets no new query
UNRESPONSIVE_SECONDS = 30.0  # how long a nameserver that gave no reply is skipped
PROBE_SECONDS = 2.0  # how long one query then has to find out, before the next may try
MAX_SERVERS = 1000  # nameservers that a resolver remembers this of
DESCRIPTOR_PAUSE = 0.05  # seconds between two tries to open a socket when no descriptor is free
MAX_STALE = 366 * 24 * 3600.0  # seconds: a longer time is a mistake, or too large for a float
STALE_SECONDS = 30.0  # RFC 8767 4: the TTL with which an expired answer is returned
FUDGE = 300  # seconds that two clocks may differ (RFC 8945 10)
MAX_UNSIGNED = 99  # messages of a stream between two that are signed (RFC 8945 5.3.1)
UDP_SECONDS = 2.0  # for a transfer in a datagram, before TCP is tried: longer than any round trip
PROGRESS_SECONDS = 0.2  # between two updates of the line of a terminal that shows the progress
CONCURRENCY = 200  # questions of the command line at a time, unless it says another number
MAX_CONCURRENCY = 100_000  # more is a mistake: each takes some kilobytes
MAX_LINE = 4 * MAX_PRESENTATION  # octets of a name in a file: no character has more in UTF-8
READ_OCTETS = 65536  # of such a file at a time: thousands of names, in less than a millisecond
STAT_SECONDS = 2.0  # between two checks whether a system file has changed


# --- 3. Errors ---------------------------------------------------------------
#
# What public functions raise, except TypeError for an argument of the wrong type,
# CancelledError, and exceptions of the caller's own functions. The first argument
# is the text; everything else is an attribute, so that copies keep it.


class ResolverError(Exception):
    """The base class of all errors of this module."""


class InvalidName(ResolverError, ValueError):
    """A name, a type or a nameserver is not valid, and no query was sent with it."""


class DoesNotExist(ResolverError):
    """The name does not exist (`rcode` NXDOMAIN), or has no such record (`rcode` NOERROR)."""

    def __init__(self, text: str = '', rcode: int = RCODES.NXDOMAIN) -> None:
        super().__init__(text)
        self.rcode = rcode


class QueryTimeout(ResolverError, TimeoutError):
    """No usable reply came in time. `__cause__` says why the last reply was dropped, if any.

    If none was dropped, it is the failure of another attempt, if that came last.
    """


class SocketError(ResolverError, OSError):
    """A socket failed or a connection ended: `errno`. `__cause__` is the original error."""


class ResponseCode(ResolverError):
    """The server answered with an error: `rcode`."""

    def __init__(self, text: str = '', rcode: int = RCODES.SERVFAIL) -> None:
        super().__init__(text)
        self.rcode = rcode


class MalformedMessage(ResolverError, ValueError):
    """Octets that are not a DNS message, or a message that cannot be packed."""


class BadResponse(ResolverError):
    """A message that does not answer the query, or a failed HTTP response with its `status`."""

    def __init__(self, text: str = '', status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class UnexpectedSource(ResolverError):
    """A datagram came from another address than the server's."""


class Truncated(ResolverError):
    """The reply is truncated (TC): `message` has its whole records."""

    def __init__(self, text: str = '', message: Message | None = None) -> None:
        super().__init__(text)
        self.message = message


class CnameChainTooLong(ResolverError):
    """The name is an alias of an alias, and so on, more than 20 times."""


class BadSignature(ResolverError):
    """The key, the time or the MAC of a transaction signature is wrong, or there is none.

    `error` is what is wrong by RFC 8945 3, BADKEY, BADSIG, BADTIME or BADTRUNC, found here or told
    by the server; None where there is no signature.
    """

    def __init__(self, text: str = '', error: int | None = None) -> None:
        super().__init__(text)
        self.error = error


class TransferError(ResolverError):
    """A zone transfer failed: `rcode` if the server gave one."""

    def __init__(self, text: str = '', rcode: int | None = None) -> None:
        super().__init__(text)
        self.rcode = rcode


class MissingDependency(ResolverError, ImportError):
    """An extra is not installed; the text says which."""


def check_descriptors(what: str) -> None:
    """Raises SocketError if no file can be opened now, which is why something has failed."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise SocketError(error.errno, f'{what}: {error.strerror}') from error


@contextlib.contextmanager
def importing(what: str) -> Iterator[None]:
    """Around an import at first use: raises SocketError if there is no descriptor for it.

    Nothing else is imported late: an import on the way of an error could replace the error.
    """
    try:
        yield
    except ImportError:  # of an extension it does not say why
        check_descriptors(f'{what} cannot be imported')
        raise
    except OSError as error:
        raise SocketError(error.errno, f'{what} cannot be imported: {error.strerror}') from error


# --- 4. Messages -------------------------------------------------------------
#
# Values only: the parts of a message, and rdata with an expiry time. Nothing here
# reads octets or a clock.


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
        """The OPT record, whose owner is the root (RFC 6891 6.1), or None."""
        for record in self.ar:
            if record.qtype == TYPES.OPT and record.name in (b'', b'.'):
                return record
        return None

    @property
    def extended_rcode(self) -> int:
        """The response code with the eight upper bits of EDNS (RFC 6891 6.1.3)."""
        edns = self.edns
        code = self.rcode if edns is None else edns.ttl >> 24 << 4 | self.rcode
        return RCODE_OF.get(code, code)


class ExtendedError(NamedTuple):
    """A server's explanation of an error (RFC 8914). Show the text, but do not act on it."""

    info_code: int  # a member of EDE if it has a mnemonic
    extra_text: str  # bounded, its control characters escaped

    def __str__(self) -> str:
        return f'{self.info_code!s}: {self.extra_text}'.removesuffix(': ')


def present_address(address: IPv4Address | IPv6Address) -> str:
    """Returns the text of an address. That of `::ffff:192.0.2.1` differs between Pythons."""
    if isinstance(address, IPv4Address):
        return IPv4Address.__str__(address)
    mapped = address.ipv4_mapped
    if mapped is None:
        return IPv6Address.__str__(address)
    return f'::ffff:{mapped}%{address.scope_id}' if address.scope_id else f'::ffff:{mapped}'


class AddressExpiresAt:
    """The base of both addresses below: a sum or difference keeps `expires_at`."""

    __slots__ = ()
    expires_at: float

    def __add__(self, other: int) -> Self:
        return type(self)(int(self) + other, self.expires_at)  # type: ignore[call-overload, call-arg]

    def __sub__(self, other: int) -> Self:
        return type(self)(int(self) - other, self.expires_at)  # type: ignore[call-overload, call-arg]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.expires_at)


class IPv4AddressExpiresAt(AddressExpiresAt, IPv4Address):
    """An IPv4Address with `expires_at`, in seconds on the clock of `loop.time()`."""

    __slots__ = ('expires_at',)

    def __init__(self, address: IPv4Address | str | int | bytes, expires_at: float) -> None:
        if isinstance(address, IPv4Address):
            address = int(address)
        IPv4Address.__init__(self, address)
        self.expires_at = expires_at


class IPv6AddressExpiresAt(AddressExpiresAt, IPv6Address):
    """An IPv6Address with `expires_at`, in seconds on the clock of `loop.time()`."""

    __slots__ = ('expires_at',)

    def __str__(self) -> str:
        return present_address(self)

    def __init__(self, address: IPv6Address | str | int | bytes, expires_at: float) -> None:
        # An int has no scope, so an address with a scope is passed as text.
        if isinstance(address, IPv6Address):
            address = str(address) if address.scope_id else int(address)
        IPv6Address.__init__(self, address)
        self.expires_at = expires_at


class BytesExpiresAt(bytes):
    """Rdata that is a name or plain octets, with `expires_at` (seconds, `loop.time()`)."""

    expires_at: float

    def __new__(cls, value: bytes, expires_at: float) -> BytesExpiresAt:
        self = super().__new__(cls, value)
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self), self.expires_at)


Value = TypeVar('Value')


class TupleExpiresAt(tuple[Value, ...]):
    """Rdata that is a tuple, such as that of TXT, with `expires_at` (seconds, `loop.time()`)."""

    expires_at: float

    def __new__(cls, value: Iterable[Value], expires_at: float) -> TupleExpiresAt[Value]:
        self: TupleExpiresAt[Value] = tuple.__new__(cls, value)
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (tuple(self), self.expires_at)


class RecordExpiresAt(TupleExpiresAt[Any]):
    """Rdata that is a named tuple, with `expires_at` (seconds, `loop.time()`)."""

    def _replace(self, /, **fields: Any) -> RecordExpiresAt:
        values = super()._replace(**fields)  # type: ignore[misc]
        return type(self)(values, self.expires_at)

    __replace__ = _replace


# For each class of rdata, its subclass with `expires_at`. Section 7 adds the named tuples.
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
# On the wire a name is labels; everywhere else it is bytes in presentation form.
# Parsing takes linear time: a name is parsed where it is, and `names` keeps it, and
# the rest of a name from each label on to which a pointer has led. Here, reading past
# the end raises IndexError or struct.error; section 8 makes both MalformedMessage.

Names = dict[int, tuple[bytes, int]]  # offset: the name there, and its length on the wire
Suffixes = dict[bytes, int]  # a name, or a suffix of one: the offset at which it is

BACKSLASH = ord('\\')  # an int: to look for bytes in bytes takes ten times as long
PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b'.\\')
FIRST_NAME = 12  # where the first name of a message may be: after the header (RFC 1035 4.1.1)
LENGTH = struct.Struct('>H')  # of rdata or a message; also a compression pointer
LENGTH_OCTET = [bytes([length]) for length in range(256)]
WRITTEN = [b'%c' % octet if octet in PLAIN else b'\\%03d' % octet for octet in range(256)]
WRITTEN[ord('.')], WRITTEN[ord('\\')] = b'\\.', b'\\\\'
HOST_NAME = re.compile(rb'(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?')  # most names
ESCAPE = re.compile(rb'\\([0-9]{3}|[^0-9])', re.DOTALL)
ESCAPED = {b'%03d' % octet: LENGTH_OCTET[octet] for octet in range(256)} | {
    octet: octet for octet in LENGTH_OCTET if not octet.isdigit()
}
CANONICAL = re.compile(  # labels in canonical presentation form
    rb'(?:(?:[!-\-/-\[\]-~]|\\(?:[.\\]|0[0-2]\d|03[0-2]|12[7-9]|1[3-9]\d|2[0-4]\d|25[0-5])){1,63}+'
    rb'(?:\.(?!\Z)|\Z))+'
)
IDNA_DOTS = re.compile('[.\u3002\uff0e\uff61]')  # RFC 3490 3.1
# What Unicode 3.2 knew and IDNA 2003 maps otherwise: sharp s, final sigma, joiners; fillers and
# vowels that cannot be seen, and a hyphen; five ideographs whose normal form was corrected since.
IDNA_DEVIATIONS = frozenset(
    '\u00df\u03c2\u200c\u200d\u115f\u1160\u3164\uffa0\u17b4\u17b5\u1806\u3002'
    '\U0002f868\U0002f874\U0002f91f\U0002f95f\U0002f9bf'
)
JOINERS = frozenset('\u200c\u200d')
RIGHT_TO_LEFT = frozenset({'R', 'AL', 'AN'})  # bidirectional classes (RFC 5893 2)
BESIDE_RIGHT_TO_LEFT = frozenset({'R', 'AL', 'EN', 'ES', 'CS', 'ET', 'ON', 'BN', 'NSM'})
IDNA_EXTRA = "without the extra idna (pip install 'aiodnsresolver[idna]')"
LETTERS_DIGITS_HYPHEN = re.compile(rb'[A-Za-z0-9_-]+')


@functools.lru_cache(maxsize=1024)
def escape_label(label: bytes) -> bytes:
    """Returns a label in presentation form (RFC 1035 5.1). Cached: few labels are not letters."""
    if label.isalnum() or not label.translate(None, PLAIN):
        return label
    return b''.join([WRITTEN[octet] for octet in label])


def split_escaped_name(name: bytes) -> list[bytes]:
    """Returns the labels of a name with escapes. Raises InvalidName."""
    pieces = ESCAPE.split(name)  # in turn what is plain, and what comes after a backslash
    if not ESCAPED.keys() >= {*pieces[1::2]} or b'\\' in b''.join(pieces[::2]):
        raise InvalidName(f'There is an escape in {name!r} that is neither \\DDD (to 255) nor \\X')
    labels = pieces[0].split(b'.')
    for escaped, plain in zip(pieces[1::2], pieces[2::2], strict=True):
        first, *others = plain.split(b'.')
        labels[-1] += ESCAPED[escaped] + first
        labels += others
    return labels


def split_name(name: bytes) -> list[bytes]:
    """Returns the labels of a name in presentation form, as on the wire; none for the root.

    Accepts every spelling of RFC 1035 5.1, and a final dot. Raises InvalidName.
    """
    if len(name) > MAX_PRESENTATION:
        raise InvalidName(f'A name of {len(name)} octets is too long: {name[:32]!r}...')
    labels = name.split(b'.') if BACKSLASH not in name else split_escaped_name(name)
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
    if len(name) > MAX_NAME - 2 and sum(lengths) + len(lengths) >= MAX_NAME:
        raise InvalidName(f'{name!r} is longer than {MAX_NAME} octets on the wire')
    return labels


@functools.cache
def idna_library() -> Any:
    """Returns the module idna, or None where it is not installed. Raises SocketError."""
    try:
        with importing('idna'):
            import idna.uts46data  # which the package itself would import later
    except ImportError:
        return None
    return idna


def map_uts46(idna: Any, label: str) -> str:
    """Returns a label as UTS 46 maps it, non-transitional. Raises ValueError."""
    mapped: str = idna.uts46_remap(label, std3_rules=False)
    idna.check_bidi(mapped)
    for at, character in enumerate(mapped):
        if character in JOINERS and not idna.valid_contextj(mapped, at):
            raise ValueError('a joiner is not between characters that it could join')
    return mapped


def map_idna_2003(label: str) -> str:
    """Returns a label as RFC 3491 maps it, if UTS 46 maps it to the same. Raises ValueError."""
    mapped = encodings.idna.nameprep(label)
    characters = {*label, *mapped}
    is_known = 'Cn' not in map(unicodedata.ucd_3_2_0.category, characters)
    directions = {*map(unicodedata.bidirectional, mapped)}
    is_ordered = directions.isdisjoint(RIGHT_TO_LEFT) or directions <= BESIDE_RIGHT_TO_LEFT
    # Some letters have another case only since Unicode 3.2.
    is_folded = mapped == mapped.lower()
    if not (is_known and is_ordered and is_folded and IDNA_DEVIATIONS.isdisjoint(characters)):
        raise ValueError('it may be another name in IDNA 2008')
    return mapped


def idna_label(label: str) -> bytes:
    """Returns an ASCII label unchanged, any other as an A-label (RFC 5890 2.3.2.1).

    Raises InvalidName, or SocketError if there is no descriptor to import the package idna.
    """
    if label.isascii():
        return label.encode('ascii')
    # A label that is too long is refused here, because IDNA is slow on it (CVE-2024-3651).
    if len(label) > MAX_LABEL:
        raise InvalidName(f'{label[:MAX_LABEL]!r}... is too long')
    idna = idna_library()
    try:
        mapped = map_idna_2003(label) if idna is None else map_uts46(idna, label)
        octets = mapped.encode() if mapped.isascii() else b'xn--' + mapped.encode('punycode')
    except ValueError as error:  # UnicodeError, and those of the package, are such
        hint = f' {IDNA_EXTRA}' if idna is None else ''
        raise InvalidName(f'{label!r} cannot be encoded by IDNA{hint}: {error}') from error
    # Normalisation turns some characters into dots, slashes or spaces: a boundary would move. A
    # mark joins the dot before it. Two hyphens there are for A-labels (RFC 5891 4.2.3.1).
    is_hyphenated = mapped.startswith('-') or mapped.endswith('-') or mapped[2:4] == '--'
    starts_with_mark = mapped != '' and unicodedata.category(mapped[0]).startswith('M')
    if is_hyphenated or starts_with_mark or not LETTERS_DIGITS_HYPHEN.fullmatch(octets):
        raise InvalidName(f'{label!r} in IDNA has a character where no host name may have it')
    return octets


def fits_on_wire(name: bytes) -> bool:
    """Whether a name with valid labels and escapes has at most MAX_NAME octets on the wire."""
    # Without escapes, it has two octets more there than in presentation form.
    return len(name) + 2 <= MAX_NAME or len(ESCAPE.sub(b'x', name)) + 2 <= MAX_NAME


def to_name(name: str | bytes) -> bytes:
    """Returns a caller's name in canonical presentation form, with its letter case.

    Raises InvalidName, TypeError if it is neither str nor bytes, or as `idna_label`.
    """
    if isinstance(name, str):
        if name.isascii():
            name = name.encode('ascii')
        elif len(name) > MAX_PRESENTATION or '\\' in name:
            raise InvalidName(f'{name[:64]!r} is too long, or mixes escapes with non-ASCII')
        else:
            name = b'.'.join([idna_label(label) for label in IDNA_DOTS.split(name)])
    elif not isinstance(name, bytes):
        raise TypeError(f'A name has to be str or bytes, not {type(name).__name__}')
    if len(name) < MAX_NAME - 1 and HOST_NAME.fullmatch(name):
        return name.removesuffix(b'.')
    is_canonical = len(name) <= MAX_PRESENTATION and CANONICAL.fullmatch(name)
    if is_canonical and fits_on_wire(name):
        return bytes(name)  # without `expires_at`, if it is rdata
    return b'.'.join([escape_label(label) for label in split_name(name)])


def to_unicode(name: str | bytes) -> str:
    """Returns a name for people to read, without its final dot: A-labels as U-labels (RFC 5890).

    An A-label that does not become itself again stays as it is, so nothing that IDNA refuses or
    removes is in the result: no control characters, no bidirectional overrides. Other labels stay
    in presentation form, with their escapes. Raises InvalidName or TypeError; and SocketError if
    there is no descriptor to import the package idna for a str that is not ASCII.
    """
    labels = []
    for label in map(escape_label, split_name(to_name(name))):
        text = label.decode('ascii')
        if label[:4].lower() == b'xn--':
            with contextlib.suppress(UnicodeError, InvalidName, SocketError):
                unicode = label[4:].lower().decode('punycode')
                if idna_label(unicode) == label.lower():
                    text = unicode
        labels.append(text)
    return '.'.join(labels)


def ends_in_backslash(name: bytes) -> bool:
    """Whether a name ends in an odd number of backslashes, which escape what follows."""
    return (len(name) - len(name.rstrip(b'\\'))) % 2 == 1


def is_absolute(name: str | bytes) -> bool:
    """Whether a name that `to_name` accepts is the root or has a final dot (which it drops)."""
    if isinstance(name, str):
        if not name.isascii():
            return IDNA_DOTS.match(name[-1]) is not None
        name = name.encode('ascii')
    above = name.removesuffix(b'.')
    return not name or (above != name and not ends_in_backslash(above))


def dots_in(name: bytes) -> int:
    """Returns the number of dots between the labels of a name in canonical presentation form."""
    return name.count(b'.') if BACKSLASH not in name else len(split_escaped_name(name)) - 1


def has_dots(name: Any, least: int) -> bool:
    """Whether a str certainly has `least` dots between its labels; False if it has escapes."""
    has_enough: bool = name.count('.') >= least and '\\' not in name
    return has_enough


def follow_name(data: bytes, offset: int, segment: int, names: Names) -> tuple[bytes, int]:
    """Returns the name at `offset` in presentation form, and its length on the wire.

    A pointer may lead backwards only, to before `segment`, where the labels that it ends start;
    and not into the header, which changes after names have been written.
    All that is walked goes into `names`, so that no octet is walked twice, wherever pointers lead.
    """
    walked = []  # the offsets of labels and pointers
    while length := data[offset]:
        # Where a pointer after labels may lead depends on where they start: it is not kept.
        if length < 0x40 or offset == segment:
            if offset in names:
                break
            walked.append(offset)
        if length < 0x40:
            offset += length + 1
        elif length < 0xC0:
            raise MalformedMessage(f'The label at {offset} has the unknown type {length >> 6}')
        else:
            target = (length & 0x3F) << 8 | data[offset + 1]
            if not FIRST_NAME <= target < segment:
                raise MalformedMessage(
                    f'A compression pointer at {offset} does not lead backwards to a name'
                )
            offset = segment = target
    name, size = names.get(offset, (b'', 1))  # the root may be in none
    for start in reversed(walked):
        length = data[start]
        if length < 0x40:
            label = data[start + 1 : start + 1 + length]
            size += length + 1
            if size > MAX_NAME:
                raise MalformedMessage(f'The name at {start} is longer than {MAX_NAME} octets')
            label = label if label.isalnum() else escape_label(label)
            name = label + b'.' + name if name else label
        names[start] = name, size
    return name, size


def parse_name(data: bytes, offset: int, _: int, names: Names) -> tuple[bytes, int]:
    """Returns the name at `offset` in presentation form, and the offset after it (RFC 1035 4.1.4).

    `names` has the names already parsed in this message. The end of the record is ignored: what
    parses a record compares it with the offset returned.
    """
    start = offset
    labels = []
    while (length := data[offset]) and length < 0x40:
        at = offset + 1
        offset = at + length
        label = data[at:offset]
        labels.append(label if label.isalnum() else escape_label(label))
    size = 1
    after = offset + 1
    if length:
        target = (length & 0x3F) << 8 | data[after]
        if length >= 0xC0 and target in names and target < start:  # nearly always
            above, size = names[target]
        else:
            above, size = follow_name(data, offset, start, names)
        if above:
            labels.append(above)
        after += 1
    size += offset - start
    if size > MAX_NAME:
        raise MalformedMessage(f'The name at {start} is longer than {MAX_NAME} octets')
    name = b'.'.join(labels)
    names[start] = name, size
    return name, after


def join_labels(labels: list[bytes]) -> bytes:
    return b''.join([LENGTH_OCTET[len(label)] + label for label in labels]) + b'\0'


def pack_name(name: bytes) -> bytes:
    """Returns the octets of a name, not compressed. Raises InvalidName."""
    return join_labels(split_name(name))


@functools.lru_cache(maxsize=1024)
def pack_above(name: bytes) -> bytes:
    """Returns the octets of a parent name without escapes. Cached: many names share one."""
    return join_labels(name.split(b'.')) if name else b'\0'


def pack_canonical(name: bytes) -> bytes:
    """Returns the octets of a name from `to_name` or `parse_name`, without checking it again."""
    if not name or BACKSLASH in name:
        return pack_name(name)
    label, _, above = name.partition(b'.')
    return LENGTH_OCTET[len(label)] + label + pack_above(above)


def append_name(given: bytes, out: bytearray, suffixes: Suffixes) -> None:
    """Appends a name, compressed against those in `suffixes` (RFC 1035 4.1.4)."""
    known = suffixes.get(given)
    if known is None and given != b'':
        labels = texts = split_name(given)
        if BACKSLASH in given:
            texts = [escape_label(label) for label in labels]
        name = canonical = b'.'.join(texts)
        at = len(out)
        for label, text in zip(labels, texts, strict=True):
            known = suffixes.get(name)
            if known is not None:
                break
            if at < 0x4000:  # a pointer has fourteen bits
                suffixes[name] = at
            out += LENGTH_OCTET[len(label)] + label
            at += len(label) + 1
            name = name[len(text) + 1 :]
        if canonical in suffixes:
            suffixes[given] = suffixes[canonical]
    out += b'\0' if known is None else LENGTH.pack(0xC000 | known)


# --- 6. Fields ---------------------------------------------------------------
#
# The kinds of field that rdata consists of, one class or one value each. A kind
# says how its value is parsed, packed and presented, but not in which types of
# record it is used. A field may be parsed past the end of its record: what parses
# the record compares that end with the offset returned.


class Field(Protocol):
    """A kind of field. `hint` is the Python type of its value.

    The stubs have it, and where rdata is bytes, bytes are never taken for packed rdata.
    """

    hint: str

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        """Returns the value at `offset`, and the offset after it."""

    def pack(self, value: Any, out: bytearray, suffixes: Suffixes) -> None:
        """Appends a value to `out`. `suffixes` has the names in it, for compression."""

    def present(self, value: Any) -> str:
        """Returns a value in presentation form."""


class Integer:
    """An unsigned integer. `code` is its format in the struct module."""

    hint = 'int'

    def __init__(self, code: str, present: Callable[[int], str] = str) -> None:
        self.code = code
        self.struct = struct.Struct(f'>{code}')
        self.present = present

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
        return self.struct.unpack_from(data, offset)[0], offset + self.struct.size

    def pack(self, value: int, out: bytearray, suffixes: Suffixes) -> None:
        out += self.struct.pack(value)


class Integer48:
    """An unsigned integer of six octets, for which the struct module has no format."""

    hint = 'int'
    present = str

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
        return int.from_bytes(data[offset : offset + 6], 'big'), offset + 6

    def pack(self, value: int, out: bytearray, suffixes: Suffixes) -> None:
        out += struct.pack('>HI', value >> 32, value & 0xFFFFFFFF)


def present_number(number: int, known: dict[int, int], prefix: str) -> str:
    """Returns the mnemonic of a type or class, or the generic one as TYPE65280 (RFC 3597 5)."""
    return str(known[number]) if number in known else f'{prefix}{number}'


def present_type(number: int) -> str:
    return present_number(number, TYPE_OF, 'TYPE')


class Type(Integer):
    """A type of record; a member of TYPES if it has a mnemonic."""

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[int, int]:
        number, offset = super().parse(data, offset, end, names)
        return TYPE_OF.get(number, number), offset


class Checked:
    """Another kind of field, for the allowed values only."""

    def __init__(self, kind: Field, is_allowed: Callable[[Any], Any]) -> None:
        self.hint = kind.hint
        self.kind = kind
        self.is_allowed = is_allowed
        self.present = kind.present

    def check(self, value: Any) -> None:
        if not self.is_allowed(value):
            text = reprlib.repr(value)  # which writes only the beginning of a long list
            raise MalformedMessage(f'The value {text:.60} is not allowed in this field')

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        value, offset = self.kind.parse(data, offset, end, names)
        self.check(value)
        return value, offset

    def pack(self, value: Any, out: bytearray, suffixes: Suffixes) -> None:
        self.check(value)
        self.kind.pack(value, out, suffixes)


class IPAddress:
    """An IPv4 address (RFC 1035 3.4.1) or an IPv6 address (RFC 3596 2.2)."""

    present = staticmethod(present_address)

    def __init__(self, family: type[IPv4Address] | type[IPv6Address], size: int) -> None:
        self.hint = family.__name__
        self.family = family
        self.size = size

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        after = offset + self.size
        return self.family(int.from_bytes(data[offset:after], 'big')), after

    def pack(self, value: IPv4Address | IPv6Address, out: bytearray, suffixes: Suffixes) -> None:
        octets = value.packed
        if len(octets) != self.size:
            raise MalformedMessage(f'{value} is not an address of {self.size} octets')
        out += octets


IPV4 = IPAddress(IPv4Address, 4)
IPV6 = IPAddress(IPv6Address, 16)

SPECIAL = re.compile('["();@$]')


def present_name(name: bytes) -> str:
    """Returns a name in presentation form, with its final dot (RFC 1035 5.1)."""
    text = to_name(name).decode('ascii')
    return (SPECIAL.sub(r'\\\g<0>', text) if SPECIAL.search(text) else text) + '.'


class Name:
    """A name. It is not packed compressed: only types of RFC 1035 may be (RFC 3597 4)."""

    hint = 'bytes'
    parse = staticmethod(parse_name)
    present = staticmethod(present_name)

    @staticmethod
    def pack(name: bytes, out: bytearray, _: Suffixes) -> None:
        out += pack_name(name)


class CompressedName(Name):
    """A name that is compressed, as in the types of RFC 1035 only."""

    @staticmethod
    def pack(name: bytes, out: bytearray, suffixes: Suffixes) -> None:
        append_name(name, out, suffixes)


QUOTED = [chr(octet) if 0x20 <= octet < 0x7F else f'\\{octet:03}' for octet in range(256)]
QUOTED[ord('"')], QUOTED[ord('\\')] = '\\"', r'\\'


def present_string(value: bytes) -> str:
    """Returns octets as a quoted string (RFC 1035 5.1)."""
    return f'"{"".join([QUOTED[octet] for octet in value])}"'


def present_hex(value: bytes) -> str:
    return value.hex().upper()


def present_base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode('ascii')


def present_base32(value: bytes) -> str:
    """Returns octets in base 32 with the extended hex alphabet, not padded (RFC 5155 3.3)."""
    return base64.b32hexencode(value).decode('ascii').rstrip('=')


def present_sized(value: bytes) -> str:
    """Returns the length, and the octets in base 64. No RFC defines this form; dig prints it."""
    return f'{len(value)} {present_base64(value)}'.rstrip()


def present_generic(value: bytes) -> str:
    """Returns octets in the form for rdata of an unknown type (RFC 3597 5)."""
    return f'\\# {len(value)} {present_hex(value)}'.rstrip()


class Octets:
    """Octets after their length: a character-string if `code` is B (RFC 1035 3.3)."""

    hint = 'bytes'

    def __init__(self, code: str, present: Callable[[bytes], str]) -> None:
        self.length = struct.Struct(f'>{code}')
        self.present = present

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
        start = offset + self.length.size
        after = start + self.length.unpack_from(data, offset)[0]
        return data[start:after], after

    def pack(self, value: bytes, out: bytearray, suffixes: Suffixes) -> None:
        out += self.length.pack(len(value)) + value


class OptionalString(Octets):
    """A character-string, or None at the end of the rdata."""

    hint = 'bytes | None'

    def __init__(self) -> None:
        super().__init__('B', lambda value: '' if value is None else present_string(value))

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        return (None, end) if offset == end else super().parse(data, offset, end, names)

    def pack(self, value: bytes | None, out: bytearray, suffixes: Suffixes) -> None:
        if value is not None:
            super().pack(value, out, suffixes)


class Rest:
    """All octets up to the end."""

    hint = 'bytes'

    def __init__(self, present: Callable[[bytes], str]) -> None:
        self.present = present

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[bytes, int]:
        return data[offset:end], max(offset, end)

    def pack(self, value: bytes, out: bytearray, suffixes: Suffixes) -> None:
        if not isinstance(value, bytes):  # `+=` would accept any buffer
            raise TypeError(f'This value has to be bytes, not {value!r}')
        out += value


class Many:
    """Values of one kind of field, up to the end."""

    def __init__(self, item: Field, separator: str = ' ') -> None:
        self.hint = f'tuple[{item.hint}, ...]'
        self.item = item
        self.separator = separator

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        values = []
        while offset < end:  # each item takes at least one octet
            value, offset = self.item.parse(data, offset, end, names)
            values.append(value)
        return tuple(values), offset

    def pack(self, values: Iterable[Any], out: bytearray, suffixes: Suffixes) -> None:
        for value in values:
            self.item.pack(value, out, suffixes)

    def present(self, values: Iterable[Any]) -> str:
        return self.separator.join(map(self.item.present, values))


# A message may have tens of thousands of values in one list: those below are parsed in one loop.


class UncompressedNames(Many):
    """Names, of which none may be compressed: pointers to a long one would be megabytes."""

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        values = []
        while offset < end:  # each turn takes at least one octet
            start = offset
            if data[start]:
                name, offset = parse_name(data, start, end, names)
                if names[start][1] != offset - start:
                    raise MalformedMessage(
                        f'The name at {start} is compressed, which is not allowed here'
                    )
            else:
                name, offset = b'', start + 1
            values.append(name)
        return tuple(values), offset


class IPAddresses(Many):
    """Addresses of one family."""

    def __init__(self, item: IPAddress) -> None:
        super().__init__(item, ',')
        self.family = item.family
        self.size = item.size

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        family, size, from_bytes = self.family, self.size, int.from_bytes
        starts = range(offset, end, size)
        values = [family(from_bytes(data[at : at + size], 'big')) for at in starts]
        return tuple(values), offset + len(starts) * size


class Strings(Many):
    """One or more character-strings (RFC 1035 3.3.14); none is read as one that is empty."""

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        values = []
        while offset < end:  # each turn takes at least one octet
            after = offset + 1 + data[offset]
            values.append(data[offset + 1 : after])
            offset = after
        return tuple(values) or (b'',), offset  # RFC 6763 6.1

    def pack(self, values: Iterable[bytes], out: bytearray, suffixes: Suffixes) -> None:
        if not values:
            raise MalformedMessage('There has to be at least one string')
        super().pack(values, out, suffixes)


BITS_OF_OCTET = [bytes(map(int, f'{octet:08b}')) for octet in range(256)]


def set_bits(octets: bytes, numbers: Iterable[int]) -> Iterator[int]:
    """Returns those of `numbers` whose bit is set; the first is that of the highest bit."""
    return itertools.compress(numbers, b''.join([BITS_OF_OCTET[octet] for octet in octets]))


@functools.cache
def types_of_window(window: int) -> list[int]:
    """Returns the types whose bits a window of a bitmap has (RFC 4034 4.1.2).

    All values share these: otherwise a message of 64 KB might make half a million numbers.
    """
    return [TYPE_OF.get(number, number) for number in range(window << 8, window + 1 << 8)]


def are_increasing(keys: Sequence[int]) -> bool:
    """Whether numbers are in strictly increasing order, each once."""
    return [*keys] == sorted({*keys})


class TypeBitmap:
    """Types, as windows of a bitmap in strictly increasing order (RFC 4034 4.1.2)."""

    hint = 'tuple[int, ...]'

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        types: list[int] = []
        last = -1
        while offset < end:  # each turn takes at least two octets
            window, size = data[offset], data[offset + 1]
            if window <= last or not 1 <= size <= 32:
                raise MalformedMessage(f'The type bitmap has an invalid window at {offset}')
            after = offset + 2 + size
            # Zeros at the end are accepted: RFC 4034 forbids only to send them.
            types += set_bits(data[offset + 2 : after], types_of_window(window))
            last, offset = window, after
        return tuple(types), offset

    def pack(self, types: Sequence[int], out: bytearray, suffixes: Suffixes) -> None:
        if not are_increasing(types):
            raise MalformedMessage(f'The types {types!s:.60} are not in strictly increasing order')
        for window, numbers in itertools.groupby(types, lambda number: number >> 8):
            bits = bytearray()
            for number in numbers:
                octet, bit = divmod(number & 0xFF, 8)
                bits += bytes(octet + 1 - len(bits))
                bits[octet] |= 0x80 >> bit
            out += struct.pack('>BB', window, len(bits)) + bits

    def present(self, types: Sequence[int]) -> str:
        return ' '.join(map(present_type, types))


U8 = Integer('B')
BIT = Integer('B', lambda bit: str(int(bit)))  # it may be a bool
U16 = Integer('H')
U32 = Integer('I')
U48 = Integer48()
U64_GROUPS = Integer('Q', lambda number: struct.pack('>Q', number).hex(':', 2))  # RFC 6742 2.1.2
TIME = Integer('I', lambda seconds: time.strftime('%Y%m%d%H%M%S', time.gmtime(seconds)))  # UTC
TYPE = Type('H', present_type)
TYPE_BITMAP = TypeBitmap()
NAME = Name()
COMPRESSED_NAME = CompressedName()
NAMES = UncompressedNames(NAME)
STRING = Octets('B', present_string)
OPTIONAL_STRING = OptionalString()
STRINGS = Strings(STRING)
SALT = Octets('B', lambda value: present_hex(value) or '-')  # RFC 5155 3.3
HASH = Checked(Octets('B', present_base32), bool)  # RFC 5155 3.1.7: not empty
# RFC 8659 4.1 allows letters and digits only, but hyphens and underscores are in use.
TAG = Checked(Octets('B', lambda tag: present_string(tag)[1:-1]), LETTERS_DIGITS_HYPHEN.fullmatch)
SIZED = Octets('H', present_sized)
EUI_48 = Checked(Rest(lambda octets: octets.hex('-')), lambda octets: len(octets) == 6)
EUI_64 = Checked(Rest(lambda octets: octets.hex('-')), lambda octets: len(octets) == 8)
QUOTED_REST = Rest(present_string)
HEX_REST = Rest(present_hex)
HEX_0X_REST = Rest(lambda octets: f'0x{octets.hex()}')
BASE64_REST = Rest(present_base64)
GENERIC_REST = Rest(present_generic)
PORTS = Checked(  # a bit for each port (RFC 1035 3.4.2)
    Rest(lambda bit_map: ' '.join(map(str, set_bits(bit_map, itertools.count())))),
    lambda bit_map: len(bit_map) <= 8192,
)
DSYNC_SCHEME = Integer('B', lambda scheme: {1: 'NOTIFY'}.get(scheme, str(scheme)))


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


def present_key(key: int) -> str:
    """Returns the presentation name of a SvcParamKey (RFC 9460 2.1)."""
    return str(SVC_KEY_OF.get(key, f'key{key}'))


KEY_LENGTH = struct.Struct('>HH')  # a key, and the length of its value


class KeyValue:
    """A key, and after its length a value: an EDNS option or a service parameter.

    `known` has the members for keys, `kinds` the kinds of their values, which else are octets.
    """

    def __init__(self, known: dict[int, int], kinds: dict[int, Field]) -> None:
        self.hint = f'tuple[int, {"Any" if kinds else "bytes"}]'
        self.known = known
        self.kinds = kinds

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        key, size = KEY_LENGTH.unpack_from(data, offset)
        stop = offset + 4 + size
        if stop > end:  # a list of addresses would be as long as this says
            raise MalformedMessage(f'The value of {key} ends at {stop}, not {end}')
        value: Any = data[offset + 4 : stop]
        if key in self.kinds:
            value, after = self.kinds[key].parse(data, offset + 4, stop, names)
            if after != stop:
                raise MalformedMessage(f'The value of {key} ends at {after}, not {stop}')
        return (self.known.get(key, key), value), stop

    def pack(self, pair: tuple[int, Any], out: bytearray, suffixes: Suffixes) -> None:
        key, value = pair
        octets = bytearray()
        self.kinds.get(key, QUOTED_REST).pack(value, octets, suffixes)
        out += KEY_LENGTH.pack(key, len(octets)) + octets

    def present(self, pair: tuple[int, Any]) -> str:
        """Returns a service parameter in presentation form (RFC 9460 2.1)."""
        key, value = pair
        if value == b'':
            return present_key(key)
        return f'{present_key(key)}={self.kinds.get(key, QUOTED_REST).present(value)}'


class Options(Many):
    """EDNS options: for each a code, and octets after their length (RFC 6891 6.1.2)."""

    def present(self, values: Iterable[tuple[int, bytes]]) -> str:
        out = bytearray()
        self.pack(values, out, {})
        return present_generic(bytes(out))  # options have no presentation form


OPTIONS = Options(KeyValue(EDNS_OPTION_OF, {}))


class ProtocolIds(Strings):
    """Protocol ids of ALPN (RFC 9460 7.1.1)."""

    def present(self, values: Iterable[bytes]) -> str:
        # Escaped as items of a list, then as a string (RFC 9460 A.1).
        escaped = [value.replace(b'\\', b'\\\\').replace(b',', b'\\,') for value in values]
        return present_string(b','.join(escaped))


SVC_PARAM_FIELDS: dict[int, Field] = {  # RFC 9460 7 and 8; the value of any other key is octets
    SVC_KEYS.mandatory: Checked(  # not empty, and without `mandatory` itself
        Many(Integer('H', present_key), ','),
        lambda keys: len(keys) > 0 and are_increasing([0, *keys]),
    ),
    SVC_KEYS.alpn: Checked(ProtocolIds(STRING), lambda ids: len(ids) > 0 and all(ids)),
    SVC_KEYS.no_default_alpn: Checked(QUOTED_REST, lambda octets: octets == b''),
    SVC_KEYS.port: U16,
    SVC_KEYS.ipv4hint: Checked(IPAddresses(IPV4), len),
    SVC_KEYS.ech: BASE64_REST,
    SVC_KEYS.ipv6hint: Checked(IPAddresses(IPV6), len),
}
SVC_PARAMS = Checked(  # RFC 9460 2.2
    Many(KeyValue(SVC_KEY_OF, SVC_PARAM_FIELDS)),
    lambda params: are_increasing([key for key, _ in params]),
)


class NoGateway:
    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[None, int]:
        return None, offset

    def pack(self, value: None, out: bytearray, suffixes: Suffixes) -> None:
        if value is not None:
            raise MalformedMessage(f'The type says that there is no gateway, but it is {value!r}')


# RFC 4025 2.3, RFC 8777 4.2.3
GATEWAYS: dict[int, Any] = {0: NoGateway(), 1: IPV4, 2: IPV6, 3: NAME}
GATEWAY_TYPE = Checked(U8, GATEWAYS.__contains__)


class Gateway:
    """A gateway. Its type is two octets before it (RFC 4025 2.1)."""

    hint = 'IPv4Address | IPv6Address | bytes | None'

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        value, offset = GATEWAYS[data[offset - 2]].parse(data, offset, end, names)
        return value, offset

    def pack(self, value: Any, out: bytearray, suffixes: Suffixes) -> None:
        GATEWAYS[out[-2]].pack(value, out, suffixes)

    def present(self, value: Any) -> str:
        if isinstance(value, bytes):
            return present_name(value)
        return '.' if value is None else present_address(value)


GATEWAY = Gateway()


class AddressPrefix(NamedTuple):
    """An item of an APL record (RFC 3123 4)."""

    address_family: int  # 1 is IPv4, 2 is IPv6
    prefix: int
    negation: int
    afdpart: Any  # an address, or octets if the family is another


ADDRESS_FAMILIES = {1: IPV4, 2: IPV6}


class Prefix:
    """An address prefix, without the zero octets at its end (RFC 3123 4)."""

    hint = 'AddressPrefix'
    head = struct.Struct('>HBB')

    def check(self, family: int, prefix: int, octets: bytes) -> None:
        kind = ADDRESS_FAMILIES.get(family)
        size = kind.size if kind else 127
        if len(octets) > size or octets[-1:] == b'\0':
            raise MalformedMessage(f'{octets!r} is too long for family {family}, or ends in zero')
        if kind and prefix > 8 * size:
            raise MalformedMessage(f'A prefix of {prefix} bits is too long for family {family}')

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        family, prefix, size = self.head.unpack_from(data, offset)
        start = offset + 4
        offset = start + (size & 0x7F)
        octets = data[start:offset]
        if octets or prefix > 32 or family not in ADDRESS_FAMILIES:  # else any would do
            self.check(family, prefix, octets)
        afdpart: Any = octets
        if kind := ADDRESS_FAMILIES.get(family):
            afdpart = kind.family(int.from_bytes(octets.ljust(kind.size, b'\0'), 'big'))
        return tuple.__new__(AddressPrefix, (family, prefix, size >> 7, afdpart)), offset

    def pack(self, value: tuple[Any, ...], out: bytearray, suffixes: Suffixes) -> None:
        family, prefix, negation, afdpart = value
        packed = bytearray()
        ADDRESS_FAMILIES.get(family, GENERIC_REST).pack(afdpart, packed, suffixes)
        octets = bytes(packed.rstrip(b'\0') if family in ADDRESS_FAMILIES else packed)
        self.check(family, prefix, octets)
        out += struct.pack('>HBB', family, prefix, negation << 7 | len(octets)) + octets

    def present(self, value: tuple[Any, ...]) -> str:
        family, prefix, negation, afdpart = value
        # No RFC defines how octets of another family are presented.
        text = afdpart.hex() if isinstance(afdpart, bytes) else present_address(afdpart)
        return f'{"!" * bool(negation)}{family}:{text}/{prefix}'


PREFIXES = Many(Prefix())

DEGREE = 3_600_000  # thousandths of a second of arc
MIDDLE = 1 << 31  # the equator, the prime meridian
GROUND = 10_000_000  # centimetres: altitudes count from 100,000 m below it (RFC 1876 2)


def present_angle(letters: str, value: int) -> str:
    """Returns a latitude or a longitude (RFC 1876 3)."""
    seconds, thousandths = divmod(abs(value - MIDDLE), 1000)
    minutes, seconds = divmod(seconds, 60)
    letter = letters[value < MIDDLE]
    return f'{minutes // 60} {minutes % 60} {seconds}.{thousandths:03} {letter}'


def present_size(value: int) -> str:
    """Returns a size in metres, from a digit and a power of ten, in centimetres (RFC 1876 2)."""
    size = (value >> 4) * 10 ** (value & 15)
    return f'{size // 100}m' if size >= 100 else f'{size / 100:.2f}m'


SIZES = {0} | {base << 4 | power for base in range(1, 10) for power in range(10)}

VERSION_0 = Checked(U8, {0}.__contains__)
LATITUDE = Checked(
    Integer('I', functools.partial(present_angle, 'NS')),
    lambda value: abs(value - MIDDLE) <= 90 * DEGREE,
)
LONGITUDE = Checked(
    Integer('I', functools.partial(present_angle, 'EW')),
    lambda value: abs(value - MIDDLE) <= 180 * DEGREE,
)
ALTITUDE = Integer('I', lambda value: f'{(value - GROUND) / 100:.2f}m')
SIZE = Checked(Integer('B', present_size), SIZES.__contains__)


# --- 7. Records --------------------------------------------------------------
#
# ONE TABLE: one row for each type, easy to check against its RFC. The rdata of a
# row with one field is the value of that field; with several, it is a named tuple,
# which has a subclass with `expires_at`. A type without a row, or a type of class
# IN in another class, has plain octets (RFC 3597). A new type has its number in
# TYPES, and its row here. Section 21 makes its classes importable.


class Layout:
    """A row of the table. `qclass` is None if the layout is the same in every class.

    The rdata is the value of the one field, or a named tuple with the values of several.
    """

    def __init__(self, mnemonic: str, qclass: int | None, fields: dict[str, Field]) -> None:
        self.mnemonic = mnemonic
        self.qclass = qclass
        self.fields = fields
        first, *others = fields.values()
        # Bytes are packed rdata, unless the value of the type is bytes itself.
        self.takes_octets = bool(others) or first.hint != 'bytes'
        if not others:  # the methods below are for several fields
            vars(self).update(parse=first.parse, pack=first.pack, present=first.present)

    @functools.cached_property
    def record(self) -> Any:
        """The named tuple, made at first use: making all would slow the import. None for one."""
        if len(self.fields) == 1:
            return None
        made: Any = namedtuple(self.mnemonic, self.fields, module=__name__)  # type: ignore[misc]
        made.__doc__ = f'Rdata of type {self.mnemonic}: {", ".join(self.fields)}.'
        made.__str__ = lambda rdata: self.present(rdata)  # type: ignore[method-assign]
        record: Any = globals().setdefault(self.mnemonic, made)  # another thread may be first
        name = f'{self.mnemonic}ExpiresAt'
        expires: Any = type(name, (RecordExpiresAt, record), {})
        expires = globals().setdefault(name, expires)
        EXPIRING[record] = EXPIRING[expires] = expires
        return record

    @functools.cached_property
    def steps(self) -> list[tuple[Any, Any, int, Any]]:
        """For each field: its parser, its packer, 0, and its index.

        Neighbouring integers are one step: the functions of a Struct, its size, and a slice.
        """
        steps: list[tuple[Any, Any, int, Any]] = []
        at = 0
        for kind, group in itertools.groupby(self.fields.values(), type):
            fields: list[Any] = [*group]
            if kind is Integer:
                integers = struct.Struct('>' + ''.join([field.code for field in fields]))
                part = slice(at, at + len(fields))
                steps.append((integers.unpack_from, integers.pack, integers.size, part))
            else:
                steps += [(field.parse, field.pack, 0, at + n) for n, field in enumerate(fields)]
            at += len(fields)
        return steps

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        values: list[Any] = []
        for parse, _, size, _ in self.steps:
            if size:
                values += parse(data, offset)
                offset += size
            else:
                value, offset = parse(data, offset, end, names)
                values.append(value)
        return tuple.__new__(self.record, values), offset

    def pack(self, rdata: Any, out: bytearray, suffixes: Suffixes) -> None:
        if len(rdata) != len(self.fields):
            raise TypeError(f'{self.mnemonic} has {len(self.fields)} fields, not {len(rdata)}')
        for _, pack, size, at in self.steps:
            if size:
                out += pack(*rdata[at])
            else:
                pack(rdata[at], out, suffixes)

    def present(self, rdata: Any) -> str:
        return ' '.join(self.present_each(rdata)).rstrip()

    def present_each(self, rdata: Any) -> list[str]:
        fields = zip(self.fields.values(), rdata, strict=True)
        return [field.present(value) for field, value in fields]


class Location(Layout):
    """LOC, presented in another order and without the version (RFC 1876 3)."""

    def present(self, rdata: Any) -> str:
        _, *sizes, latitude, longitude, altitude = self.present_each(rdata)
        return ' '.join([latitude, longitude, altitude, *sizes])


class HostIdentity(Layout):
    """HIP, in which all lengths come first (RFC 8005 5)."""

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        hit_size, algorithm, key_size = struct.unpack_from('>BBH', data, offset)
        if not hit_size or not key_size:
            raise MalformedMessage('A HIP record needs both a HIT and a public key')
        key_at = offset + 4 + hit_size
        hit, key = data[offset + 4 : key_at], data[key_at : key_at + key_size]
        servers, offset = NAMES.parse(data, key_at + key_size, end, names)
        return self.record(algorithm, hit, key, servers), offset

    def pack(self, rdata: Any, out: bytearray, suffixes: Suffixes) -> None:
        algorithm, hit, key, servers = rdata
        if not hit or not key:
            raise MalformedMessage('A HIP record needs both a HIT and a public key')
        out += struct.pack('>BBH', len(hit), algorithm, len(key)) + hit + key
        NAMES.pack(servers, out, suffixes)


class Relay(Layout):
    """AMTRELAY, in which the discovery bit and the type share an octet (RFC 8777 4.2)."""

    def parse(self, data: bytes, offset: int, end: int, names: Names) -> tuple[Any, int]:
        precedence, octet = data[offset], data[offset + 1]
        GATEWAY_TYPE.check(octet & 0x7F)
        relay, offset = GATEWAYS[octet & 0x7F].parse(data, offset + 2, end, names)
        return self.record(precedence, octet >> 7, octet & 0x7F, relay), offset

    def pack(self, rdata: Any, out: bytearray, suffixes: Suffixes) -> None:
        precedence, discovery_optional, kind, relay = rdata
        GATEWAY_TYPE.check(kind)
        out += struct.pack('>BB', precedence, discovery_optional << 7 | kind)
        GATEWAYS[kind].pack(relay, out, suffixes)


LAYOUTS: dict[int, Layout] = {}


def layout(
    mnemonic: str, qclass: int | None = None, row: type[Layout] = Layout, /, **fields: Field
) -> None:
    """Adds a row to the table: the fields of a type, in the order of the wire."""
    LAYOUTS[TYPES[mnemonic]] = row(mnemonic, qclass, fields)


def fields_of(mnemonic: str) -> dict[str, Field]:
    """Returns the fields of a row, for another type with the same fields."""
    return LAYOUTS[TYPES[mnemonic]].fields


layout('A', CLASSES.IN, address=IPV4)  # RFC 1035 3.4.1
layout('NS', nsdname=COMPRESSED_NAME)  # RFC 1035 3.3.11
layout('MD', madname=COMPRESSED_NAME)  # RFC 1035 3.3.4
layout('MF', madname=COMPRESSED_NAME)  # RFC 1035 3.3.5
layout('CNAME', cname=COMPRESSED_NAME)  # RFC 1035 3.3.1
layout(  # RFC 1035 3.3.13
    'SOA',
    mname=COMPRESSED_NAME,
    rname=COMPRESSED_NAME,
    serial=U32,
    refresh=U32,
    retry=U32,
    expire=U32,
    minimum=U32,
)
layout('MB', madname=COMPRESSED_NAME)  # RFC 1035 3.3.3
layout('MG', mgmname=COMPRESSED_NAME)  # RFC 1035 3.3.6
layout('MR', newname=COMPRESSED_NAME)  # RFC 1035 3.3.8
layout('NULL', anything=GENERIC_REST)  # RFC 1035 3.3.10
layout('WKS', CLASSES.IN, address=IPV4, protocol=U8, bit_map=PORTS)  # RFC 1035 3.4.2
layout('PTR', ptrdname=COMPRESSED_NAME)  # RFC 1035 3.3.12
layout('HINFO', cpu=STRING, os=STRING)  # RFC 1035 3.3.2
layout('MINFO', rmailbx=COMPRESSED_NAME, emailbx=COMPRESSED_NAME)  # RFC 1035 3.3.7
layout('MX', preference=U16, exchange=COMPRESSED_NAME)  # RFC 1035 3.3.9
layout('TXT', txt_data=STRINGS)  # RFC 1035 3.3.14
layout('RP', mbox_dname=NAME, txt_dname=NAME)  # RFC 1183 2.2
layout('AFSDB', subtype=U16, hostname=NAME)  # RFC 1183 1
layout('X25', psdn_address=STRING)  # RFC 1183 3.1
layout('ISDN', isdn_address=STRING, sa=OPTIONAL_STRING)  # RFC 1183 3.2
layout('RT', preference=U16, intermediate_host=NAME)  # RFC 1183 3.3
layout('NSAP', CLASSES.IN, nsap=HEX_0X_REST)  # RFC 1706 5
layout('NSAP_PTR', CLASSES.IN, ptrdname=NAME)  # RFC 1348
layout(
    'RRSIG',  # RFC 4034 3.1
    type_covered=TYPE,
    algorithm=U8,
    labels=U8,
    original_ttl=U32,
    signature_expiration=TIME,
    signature_inception=TIME,
    key_tag=U16,
    signers_name=NAME,
    signature=BASE64_REST,
)
layout('SIG', **fields_of('RRSIG'))  # RFC 2535 4.1, RFC 2931 3
layout('DNSKEY', flags=U16, protocol=U8, algorithm=U8, public_key=BASE64_REST)  # RFC 4034 2.1
layout('KEY', **fields_of('DNSKEY'))  # RFC 2535 3.1
layout('PX', CLASSES.IN, preference=U16, map822=NAME, mapx400=NAME)  # RFC 2163 4
layout('GPOS', longitude=STRING, latitude=STRING, altitude=STRING)  # RFC 1712 3
layout('AAAA', CLASSES.IN, address=IPV6)  # RFC 3596 2.2
layout(
    'LOC',  # RFC 1876 2
    None,
    Location,
    version=VERSION_0,
    size=SIZE,
    horiz_pre=SIZE,
    vert_pre=SIZE,
    latitude=LATITUDE,
    longitude=LONGITUDE,
    altitude=ALTITUDE,
)
layout('SRV', CLASSES.IN, priority=U16, weight=U16, port=U16, target=NAME)  # RFC 2782
layout(
    'NAPTR',  # RFC 3403 4.1
    CLASSES.IN,
    order=U16,
    preference=U16,
    flags=STRING,
    services=STRING,
    regexp=STRING,
    replacement=NAME,
)
layout('KX', CLASSES.IN, preference=U16, exchanger=NAME)  # RFC 2230 3.1
layout('CERT', type=U16, key_tag=U16, algorithm=U8, certificate=BASE64_REST)  # RFC 4398 2
layout('DNAME', target=NAME)  # RFC 6672 2.1
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
    gateway=GATEWAY,
    public_key=BASE64_REST,
)
layout('NSEC', next_domain_name=NAME, type_bit_maps=TYPE_BITMAP)  # RFC 4034 4.1
layout('DHCID', CLASSES.IN, identifier=BASE64_REST)  # RFC 4701 3.1
layout(
    'NSEC3',  # RFC 5155 3.2
    hash_algorithm=U8,
    flags=U8,
    iterations=U16,
    salt=SALT,
    next_hashed_owner_name=HASH,
    type_bit_maps=TYPE_BITMAP,
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
    HostIdentity,
    pk_algorithm=U8,
    hit=HEX_REST,
    public_key=BASE64_REST,
    rendezvous_servers=NAMES,
)
layout('NINFO', **fields_of('TXT'))  # no RFC: IANA's template for it, of 2008
layout('CDS', **fields_of('DS'))  # RFC 7344 3.1
layout('CDNSKEY', **fields_of('DNSKEY'))  # RFC 7344 3.2
layout('OPENPGPKEY', public_key=BASE64_REST)  # RFC 7929 2.1
layout('CSYNC', soa_serial=U32, flags=U16, type_bit_map=TYPE_BITMAP)  # RFC 7477 2.1.1
layout('ZONEMD', serial=U32, scheme=U8, hash_algorithm=U8, digest=HEX_REST)  # RFC 8976 2.2
layout(  # RFC 9460 2.2
    'SVCB', CLASSES.IN, svc_priority=U16, target_name=NAME, svc_params=SVC_PARAMS
)
layout('HTTPS', CLASSES.IN, **fields_of('SVCB'))  # RFC 9460 9
layout(  # RFC 9859 2.1
    'DSYNC', rrtype=TYPE, scheme=DSYNC_SCHEME, port=U16, target=NAME
)
layout('SPF', **fields_of('TXT'))  # RFC 4408 3.1.1
layout('NID', preference=U16, node_id=U64_GROUPS)  # RFC 6742 2.1
layout('L32', preference=U16, locator32=IPV4)  # RFC 6742 2.2
layout('L64', preference=U16, locator64=U64_GROUPS)  # RFC 6742 2.3
layout('LP', preference=U16, fqdn=NAME)  # RFC 6742 2.4
layout('EUI48', address=EUI_48)  # RFC 7043 3.1
layout('EUI64', address=EUI_64)  # RFC 7043 4.1
layout(
    'TKEY',  # RFC 2930 2
    algorithm=NAME,
    inception=U32,
    expiration=U32,
    mode=U16,
    error=U16,
    key_data=SIZED,
    other_data=SIZED,
)
layout(
    'TSIG',  # RFC 8945 4.2
    algorithm_name=NAME,
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
layout(  # RFC 8777 4.2
    'AMTRELAY', None, Relay, precedence=U8, discovery_optional=BIT, type=U8, relay=GATEWAY
)
layout('RESINFO', **fields_of('TXT'))  # RFC 9606 4
layout('WALLET', **fields_of('TXT'))  # no RFC: IANA's template for it, of 2024
layout('DLV', **fields_of('DS'))  # RFC 4431 2


def layout_of(qtype: int, qclass: int) -> Layout | None:
    """Returns the row for a type in a class, or None if the rdata is plain octets."""
    row = LAYOUTS.get(qtype)
    return row if row is not None and row.qclass in (None, qclass) else None


def parse_rdata(qtype: int, qclass: int, data: bytes, offset: int, end: int, names: Names) -> Any:
    """Returns the rdata from `offset` to `end`: octets if there is no row."""
    row = layout_of(qtype, qclass)
    if row is None:
        return data[offset:end]
    rdata, after = row.parse(data, offset, end, names)
    if after != end:
        raise MalformedMessage(f'The rdata of {row.mnemonic} ends at {after}, not {end}')
    return rdata


# --- 8. Wire -----------------------------------------------------------------
#
# Whole messages. Every octet may be hostile: whatever is wrong in a message raises
# MalformedMessage, in time linear in the number of octets. Below this section, only
# section 9 looks into rdata, and only into that of the few types that it follows.

HEADER = struct.Struct('>HHHHHH')  # RFC 1035 4.1.1
QUESTION_TAIL = struct.Struct('>HH')  # RFC 1035 4.1.2, after the name
RECORD_TAIL = struct.Struct('>HHIH')  # RFC 1035 4.1.3, after the name
KIND_TTL_LENGTH = struct.Struct('>IIH')  # the same, with type and class as one number
POINTED_RECORD = struct.Struct('>HIIH')  # the same after a pointer
A_IN: tuple[int, int] = (TYPES.A, CLASSES.IN)
A_IN_NUMBER = TYPES.A << 16 | CLASSES.IN
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


@functools.lru_cache(maxsize=256)
def parse_flags(flags: int) -> tuple[int, ...]:
    """Returns the fields of the header's second word, `qr` to `rcode`. Cached: few words occur."""
    fields = [flags >> shift & (1 << width) - 1 for _, shift, width in HEADER_BITS]
    fields[1] = OPCODE_OF.get(fields[1], fields[1])
    fields[-1] = RCODE_OF.get(fields[-1], fields[-1])
    return tuple(fields)


def is_empty_in_update(flags: int, is_answer: bool, qtype: int, qclass: int) -> bool:
    """Whether a record of an UPDATE has no rdata by its section and class (RFC 2136 2.4, 2.5)."""
    return (
        flags >> 11 & 15 == OPCODES.UPDATE
        and qtype != TYPES.OPT
        and (qclass == CLASSES.ANY or (qclass == CLASSES.NONE and is_answer))
    )


@functools.lru_cache(maxsize=1024)
def type_and_class(number: int) -> tuple[int, int, Callable[..., Any]]:
    """Returns the type and class in 32 bits, and the parser of their rdata. Cached: few occur."""
    qtype, qclass = divmod(number, 1 << 16)
    row = layout_of(qtype, qclass)
    if qtype != TYPES.OPT:  # the class of OPT is a payload size
        qclass = CLASS_OF.get(qclass, qclass)
    return TYPE_OF.get(qtype, qtype), qclass, GENERIC_REST.parse if row is None else row.parse


def parse_questions(data: bytes, count: int, names: Names, questions: list[QuestionRecord]) -> int:
    """Appends the questions to `questions`, and returns where they end."""
    offset = HEADER.size
    for _ in range(count):
        name, offset = parse_name(data, offset, 0, names)
        qtype, qclass = QUESTION_TAIL.unpack_from(data, offset)
        offset += 4
        question = name, TYPE_OF.get(qtype, qtype), CLASS_OF.get(qclass, qclass)
        questions.append(tuple.__new__(QuestionRecord, question))
    return offset


def parse_message(data: bytes, ignore_trailing: bool, may_be_cut: bool) -> Message:
    """Returns the Message; if it `may_be_cut` and has TC, up to its last whole record."""
    if not isinstance(data, bytes):
        raise TypeError(f'parse needs bytes, not {type(data).__name__}')
    size = len(data)
    if size < HEADER.size:
        raise MalformedMessage(f'The message has only {size} octets: a header has {HEADER.size}')
    qid, flags, questions, an, ns, ar = HEADER.unpack_from(data)
    # The loop looks up local names only: a message may be many small records.
    new, unpack_address = tuple.__new__, ADDRESS.unpack_from
    unpack_tail, unpack_pointed = KIND_TTL_LENGTH.unpack_from, POINTED_RECORD.unpack_from
    names: Names = {}
    qd: list[QuestionRecord] = []
    records: list[ResourceRecord] = []
    append = records.append
    try:
        offset = parse_questions(data, questions, names, qd)
        for _ in range(an + ns + ar):
            if data[offset] >= 0xC0:  # nearly always
                pointer, number, ttl, length = unpack_pointed(data, offset)
                target = pointer & 0x3FFF
                if target in names:  # only names before this one are in it
                    name = names[target][0]
                else:
                    name, _ = parse_name(data, offset, size, names)
                offset += 12
            else:
                name, offset = parse_name(data, offset, size, names)
                number, ttl, length = unpack_tail(data, offset)
                offset += 10
            end = offset + length
            if end > size:
                raise MalformedMessage(f'The rdata at {offset} is cut short')
            rdata: Any
            if number == A_IN_NUMBER and length == 4:  # a short cut
                qtype, qclass = A_IN
                rdata = IPv4Address(unpack_address(data, offset)[0])
            else:
                qtype, qclass, parse_value = type_and_class(number)
                if not length and is_empty_in_update(flags, len(records) < an, qtype, qclass):
                    rdata = b''
                else:
                    rdata, offset = parse_value(data, offset, end, names)
                    if offset != end:
                        raise MalformedMessage(f'The rdata of {qtype} ends at {offset}, not {end}')
            append(new(ResourceRecord, (name, qtype, qclass, ttl, rdata)))
            offset = end
    except (IndexError, struct.error, MalformedMessage) as error:
        if not (may_be_cut and data[2] & 2):
            if isinstance(error, MalformedMessage):
                raise
            raise MalformedMessage(f'The message of {size} octets is cut short') from error
        offset = size
    if offset != size and not ignore_trailing:
        raise MalformedMessage(f'There are {size - offset} octets after the message')
    read = tuple(records)
    ns += an
    fields = qid, *parse_flags(flags), tuple(qd), read[:an], read[an:ns], read[ns:]
    message: Message = new(Message, fields)
    return message


def parse(data: bytes, ignore_trailing: bool = False) -> Message:
    """Returns the Message that `data` holds (RFC 1035 4).

    Raises only MalformedMessage, whatever the octets: also for octets after the message, unless
    `ignore_trailing`.
    """
    return parse_message(data, ignore_trailing, False)


@functools.lru_cache(maxsize=256, typed=True)
def pack_flags(*fields: int) -> int:
    """Returns the header's second word from its fields, `qr` to `rcode`. Cached: few values occur.

    Raises MalformedMessage if a value does not fit its field.
    """
    flags = 0
    for (field, shift, width), value in zip(HEADER_BITS, fields, strict=True):
        if not isinstance(value, int):
            raise TypeError(f'{field} has to be a number, not {value!r}')
        if not 0 <= value < 1 << width:
            raise MalformedMessage(f'{field} is {value}, which does not fit into {width} bits')
        flags |= int(value) << shift
    return flags


def pack(message: Message) -> bytes:
    """Returns the octets of a Message, with compressed names (RFC 1035 4).

    Raises InvalidName for a name that cannot be packed, MalformedMessage for more than 65,535
    octets or a value that does not fit its field, TypeError for one of another type.
    """
    if not isinstance(message, Message):
        raise TypeError(f'pack needs a Message, not {message!r}')
    qid, *bits, qd, an, ns, ar = message
    flags = pack_flags(*bits)
    suffixes: Suffixes = {}
    try:
        # A query has one name, and perhaps OPT, so there is nothing to compress.
        is_alone = len(qd) == 1 and not (an or ns or ar[1:]) and (not ar or ar[0][1] == TYPES.OPT)
        out = bytearray(HEADER.pack(qid, flags, len(qd), len(an), len(ns), len(ar)))
        for name, qtype, qclass in qd:
            if is_alone and type(name) is bytes:
                out += pack_name(name)
            else:
                append_name(name, out, suffixes)
            out += QUESTION_TAIL.pack(qtype, qclass)
        for records in (an, ns, ar):
            for name, qtype, qclass, ttl, rdata in records:
                append_name(name, out, suffixes)
                out += RECORD_TAIL.pack(qtype, qclass, ttl, 0)
                start = len(out)
                row = LAYOUTS.get(qtype)
                is_octets = isinstance(rdata, bytes)
                if row is None or (row.qclass or qclass) != qclass:
                    out += rdata
                elif not is_octets:
                    row.pack(rdata, out, suffixes)
                elif rdata or not is_empty_in_update(flags, records is an, qtype, qclass):
                    if row.takes_octets:
                        out += rdata
                    else:
                        row.pack(rdata, out, suffixes)
                LENGTH.pack_into(out, start - 2, len(out) - start)
    except struct.error as error:
        kind = TypeError if 'not an integer' in str(error) else MalformedMessage
        raise kind(f'A value does not fit its field: {error}') from error
    except (ValueError, AttributeError, LookupError) as error:
        if isinstance(error, ResolverError):
            raise
        raise TypeError(f'A value is not of the type of its field: {error}') from error
    if len(out) > MAX_MESSAGE:
        raise MalformedMessage(f'The message has {len(out)} octets: the most is {MAX_MESSAGE}')
    return bytes(out)


def to_octets(message: Message | bytes) -> bytes:
    """Returns the octets of a Message, or octets unchanged. Raises as `pack` does."""
    octets = pack(message) if isinstance(message, Message) else message
    if not isinstance(octets, bytes):
        raise TypeError(f'A message has to be a Message or bytes, not {type(octets).__name__}')
    if len(octets) > MAX_MESSAGE:
        raise MalformedMessage(f'The message has {len(octets)} octets: the most is {MAX_MESSAGE}')
    return octets


def present_rdata(qtype: int, qclass: int, rdata: Any) -> str:
    """Returns rdata in presentation form; octets in the generic form of RFC 3597 5."""
    row = layout_of(qtype, qclass)
    try:
        if row is None or (row.takes_octets and isinstance(rdata, bytes)):
            return present_generic(rdata)
        return row.present(rdata)
    except (ValueError, AttributeError, LookupError, ArithmeticError, struct.error) as error:
        what = f'{rdata!r:.60} is not rdata of type {present_type(qtype)}'
        raise TypeError(f'{what}: {error}') from error


def presentation(record: ResourceRecord) -> str:
    """Returns a record as a line of a master file (RFC 1035 5.1), without the newline."""
    name, qtype, qclass, ttl, rdata = record
    qclass_text = present_number(qclass, CLASS_OF, 'CLASS')
    rdata_text = present_rdata(qtype, qclass, rdata)
    line = f'{present_name(name)} {ttl} {qclass_text} {present_type(qtype)} {rdata_text}'
    return line.rstrip()  # the rdata may be empty, as that of an APL without items


# --- 9. Questions and answers ------------------------------------------------
#
# Queries, the one place that decides whether a message answers a query, and the one
# reader of answers. Nothing here knows sockets, clocks or nameservers.

TC_BIT = 0x0200  # RFC 1035 4.1.1
TOO_SHORT = 'The message has only {} octets: a header has 12'
LETTERS = bytes(0x20 if chr(octet).isalpha() and octet < 0x80 else 0 for octet in range(256))
MAY_LACK_QUESTION = frozenset({RCODES.FORMERR, RCODES.SERVFAIL, RCODES.NOTIMP, RCODES.REFUSED})


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
    key: Key | None = None,
) -> Message:
    """Returns a query with one question, and with EDNS (RFC 6891) unless `payload` is None.

    `qid` is random by default; `payload` is in octets; `options` are pairs of a code and octets.
    With a Key, the query functions sign the query, and require a reply that verifies. Until then
    its last record has type TSIG and the Key as its rdata, which `pack` refuses. Raises
    InvalidName, or TypeError for an argument of the wrong type, or one that needs EDNS without it.
    """
    options = tuple(options)
    if payload is None and (want_dnssec or options):
        raise TypeError('want_dnssec and options need EDNS, but payload=None leaves EDNS out')
    ar: tuple[ResourceRecord, ...] = ()
    if payload is not None:
        ttl = 0x8000 if want_dnssec else 0  # the bit DO (RFC 3225 3)
        ar = (ResourceRecord(b'', TYPES.OPT, payload, ttl, options),)
    if key is not None:
        if not hasattr(key, 'digest_after'):  # a Key of section 10
            raise TypeError(f'key has to be a Key, not {type(key).__name__}')
        ar += (ResourceRecord(key.name, TYPES.TSIG, CLASSES.ANY, 0, key),)
    qtype, qclass = TYPE_OF.get(qtype, qtype), CLASS_OF.get(qclass, qclass)
    question = QuestionRecord(to_name(name), qtype, qclass)
    qid = int.from_bytes(os.urandom(2), 'big') if qid is None else qid  # RFC 5452 9.2
    opcode, rcode = OPCODES.QUERY, RCODES.NOERROR
    return Message(qid, QUESTION, opcode, 0, 0, rd, 0, 0, rcode, (question,), (), (), ar)


def mix_case(fqdn: bytes) -> bytes:
    """Returns a name with each letter in random case (0x20 encoding), which a forger has to guess.

    The bits come from the operating system's random source.
    """
    size = len(fqdn)
    letters = int.from_bytes(fqdn.translate(LETTERS), 'big')
    flips = int.from_bytes(os.urandom(size), 'big') & letters
    return (int.from_bytes(fqdn, 'big') ^ flips).to_bytes(size, 'big')


def names_to_ask(name: bytes, search: Iterable[bytes], ndots: int) -> tuple[bytes, ...]:
    """Returns the names to try for a relative name, in order and in canonical presentation form.

    Each domain of the search list makes one, unless it is too long. The name itself is the first
    if it has at least `ndots` dots, else the last.
    """
    below = []
    for domain in search:
        each = name + b'.' + domain if domain else name
        if fits_on_wire(each):
            below.append(each)
    in_order = [name, *below] if dots_in(name) >= ndots else [*below, name]
    return tuple(dict.fromkeys(in_order))


class Query(NamedTuple):
    """A query in octets, and its question: `fqdn` is the name in lower case."""

    octets: bytes
    end: int  # of the question
    fqdn: bytes
    qtype: int

    @property
    def name(self) -> bytes:  # its octets
        return self.octets[HEADER.size : self.end - QUESTION_TAIL.size]

    @property
    def has_edns(self) -> bool:
        return len(self.octets) > self.end


QueryForm = tuple[bytes, bytes]  # around the question: the header without the id, and the rest
OPT_RECORD = struct.pack('>BHHIH', 0, TYPES.OPT, PAYLOAD, 0, 0)  # RFC 6891 6.1.2, no options
QUERY_FLAGS = 0x0100, 0x0120  # RD; RD and AD, which asks for AD in the reply (RFC 6840 5.7)
PLAIN_FORMS = [(HEADER.pack(0, flags, 1, 0, 0, 0)[2:], b'') for flags in QUERY_FLAGS]
EDNS_FORMS = [(HEADER.pack(0, flags, 1, 0, 0, 1)[2:], OPT_RECORD) for flags in QUERY_FLAGS]


def to_query(name: bytes, qtype: int, form: QueryForm) -> Query:
    """Returns a query of class IN with a random id, for a canonical name as it is."""
    question = pack_canonical(name) + QUESTION_TAIL.pack(qtype, 1)
    header, additional = form
    octets = os.urandom(2) + header + question + additional
    return tuple.__new__(Query, (octets, HEADER.size + len(question), name.lower(), qtype))


def mixed_query(fqdn: bytes, qtype: int, form: QueryForm) -> Query:
    """Returns a query as `to_query` does, for a name in lower case, its letters in random case."""
    if fqdn and BACKSLASH not in fqdn:  # as `pack_canonical` does: a frame less for each query
        label, _, above = fqdn.partition(b'.')
        name = LENGTH_OCTET[len(label)] + label + pack_above(above)
    else:
        name = pack_name(fqdn)
    size = len(name)
    drawn = os.urandom(size + 2)  # the id, and the case of each letter: no length is a letter
    flips = int.from_bytes(drawn, 'big') & int.from_bytes(name.translate(LETTERS), 'big')
    mixed = (int.from_bytes(name, 'big') ^ flips).to_bytes(size, 'big')
    header, additional = form
    octets = drawn[:2] + header + mixed + QUESTION_TAIL.pack(qtype, 1) + additional
    return tuple.__new__(Query, (octets, size + 16, fqdn, qtype))


OPTION = struct.Struct('>HH')  # RFC 6891 6.1.2: the code and the length of an option
ASKS_KEEPALIVE = OPTION.pack(EDNS_OPTIONS.TCP_KEEPALIVE, 0)  # RFC 7828 3.2.1
KEEPALIVE = OPTION.pack(EDNS_OPTIONS.TCP_KEEPALIVE, 2)  # in a reply, before the value
PADDINGS = [OPTION.pack(EDNS_OPTIONS.PADDING, size) + bytes(size) for size in range(PADDED_TO)]


def for_stream(query: Query, scheme: str) -> Query:
    """Returns a query from `to_query` with the EDNS options for a stream, if it has EDNS."""
    octets, end, fqdn, qtype = query
    if len(octets) == end:
        return query
    options = b'' if scheme == 'https' else ASKS_KEEPALIVE  # HTTP keeps connections by itself
    if scheme in ALPN:  # the size of an encrypted query would reveal the name
        options += PADDINGS[-(len(octets) + len(options) + 4) % PADDED_TO]
    octets = octets[:-1] + LENGTH_OCTET[len(options)] + options  # fewer than 256
    return tuple.__new__(Query, (octets, end, fqdn, qtype))


def has_question(query: Query, reply: bytes) -> bool:
    """Whether a message has the question of a query, in any letter case."""
    octets, end, _, _ = query
    return (
        reply[4:6] == octets[4:6]
        and reply[end - 4 : end] == octets[end - 4 : end]
        and reply[12 : end - 4].lower() == query.name.lower()
    )


def check_reply(query: Query, reply: bytes) -> bool:
    """Raises BadResponse unless a message answers a query, by id, QR, opcode and question.

    This is the one place that decides it (RFC 5452 9.1). The reply to an UPDATE and some errors
    may lack the question. Returns whether the question has the same letter case, or is missing.
    """
    octets, end, _, _ = query
    if reply[:2] != octets[:2]:
        raise BadResponse('The message has another id than the query')
    if len(reply) < HEADER.size:
        raise BadResponse(TOO_SHORT.format(len(reply)))
    if reply[2] & 0xF8 != octets[2] & 0x78 | 0x80:
        raise BadResponse('The message is not a response, or has another opcode than the query')
    if reply[12:end] == octets[12:end] and reply[4:6] == octets[4:6]:
        return True
    if has_question(query, reply):
        return False
    is_update = octets[2] >> 3 & 15 == OPCODES.UPDATE  # RFC 2136 3.8
    if reply[4:6] == b'\0\0' and (is_update or reply[3] & 15 in MAY_LACK_QUESTION):
        return True
    raise BadResponse('The message has another question than the query')


def query_in(message: Message | bytes) -> Query:
    """Returns a caller's query, which is a Message or octets. Raises as `pack` does."""
    octets = to_octets(message)
    if len(octets) < HEADER.size:
        raise MalformedMessage(TOO_SHORT.format(len(octets)))
    questions: list[QuestionRecord] = []
    try:
        end = parse_questions(octets, HEADER.unpack_from(octets)[2], {}, questions)
    except (IndexError, struct.error) as error:
        raise MalformedMessage('The question of the query is cut short') from error
    name, qtype, _ = questions[0] if questions else (b'', 0, 0)
    return Query(octets, end, name.lower(), qtype)


def parse_answer(query: Query, reply: bytes, ignore_trailing: bool) -> Message:
    """Returns the reply to a caller's query, in any letter case. Raises what its halves raise."""
    if len(reply) >= HEADER.size and reply[:2] != query.octets[:2]:
        check_reply(query, reply)  # raises before the parse, which a flood would make costly
    message = parse_message(reply, ignore_trailing, True)
    check_reply(query, reply)
    return message


class Alias(NamedTuple):
    """The last name of a chain of aliases, the number of its links, and when it expires."""

    name: bytes
    links: int
    expires_at: float


class Answer(NamedTuple):
    """The records of a name and a type; without records, an alias whose target has to be asked."""

    expires_at: float  # on the loop's clock
    records: tuple[Any, ...]
    alias: Alias | None  # that led to the records
    is_cacheable: bool


class NegativeAnswer(NamedTuple):
    """The name, or the record, does not exist (RFC 2308): `error` says which."""

    expires_at: float
    records: tuple[Any, ...]  # none
    alias: Alias | None  # that led to the name that lacks it
    is_cacheable: bool
    error: DoesNotExist


class TruncatedAnswer(NamedTuple):
    """What is usable in a reply with TC, else the error: a stream brings the whole reply."""

    outcome: Answer | NegativeAnswer | ResolverError


class CaseMismatch(NamedTuple):
    """The outcome of a reply whose question has another letter case than the query's."""

    outcome: Any


class WithoutQuestion(NamedTuple):
    """The outcome of an error reply without a question: to forge it takes no more than the id."""

    outcome: ResponseCode


DOUBTFUL = CaseMismatch, WithoutQuestion  # over a datagram, the wait for the true reply goes on
Outcome = (
    Answer | NegativeAnswer | TruncatedAnswer | CaseMismatch | WithoutQuestion | ResolverError
)


def is_at_or_below(name: bytes, ancestor: bytes) -> bool:
    """Whether a name is `ancestor` or below it; both are in lower case."""
    if name == ancestor or not ancestor:
        return True
    above = name.removesuffix(b'.' + ancestor)
    # A dot after an odd number of backslashes belongs to a label.
    return above != name and not ends_in_backslash(above)


def read_extended_errors(options: Iterable[tuple[int, bytes]]) -> Iterator[ExtendedError]:
    """Yields the extended errors among EDNS options, each text bounded and on one line."""
    for option, value in options:
        if option == EDNS_OPTIONS.EDE and len(value) >= 2:  # else there is no code
            code = int.from_bytes(value[:2], 'big')
            text = value[2 : MAX_EXTRA_TEXT + 2].decode('utf-8', 'replace').rstrip('\0')
            characters = [one if one.isprintable() else ascii(one)[1:-1] for one in text]
            yield ExtendedError(EDE_OF.get(code, code), ''.join(characters))


def extended_errors(message: Message) -> tuple[ExtendedError, ...]:
    """Returns the extended DNS errors in a message (RFC 8914)."""
    edns = message.edns
    return tuple(read_extended_errors(() if edns is None else edns.rdata))


def describe(name: bytes, qtype: int) -> str:
    return f'{present_name(name)} {present_type(qtype)}'


def negative_error(what: str, rcode: int, why: str = '') -> DoesNotExist:
    """Returns the error for a name that does not exist, or that has no such record."""
    lack = 'does not exist' if rcode == RCODES.NXDOMAIN else 'has no record of this type'
    return DoesNotExist(f'{what}the name {lack}{why}', rcode)


# A record: the start and end of its rdata, its TTL, its type, and where its owner name starts.
Span = tuple[int, int, int, int, int]
# Records of the answer section; whether any of them may have another owner or type than the
# question; records of the authority section; the OPT record, if any.
Scan = tuple[list[Span], bool, list[Span], list[Span]]
unpack_record_tail = RECORD_TAIL.unpack_from
unpack_usual_tail = struct.Struct('>IH').unpack_from  # the same without type and class
unpack_pointed_record = struct.Struct('>HHHIH').unpack_from  # the same after a pointer
USUAL_OWNER = b'\xc0\x0c'  # a pointer to the question
ROOT_OPT = b'\0\0\x29'  # the start of an OPT record
ADDRESSES: dict[int, Any] = {
    TYPES.A: (IPv4AddressExpiresAt, 4),
    TYPES.AAAA: (IPv6AddressExpiresAt, 16),
}


def skip_name(data: bytes, offset: int) -> int:
    """Returns where the name at `offset` ends. A pointer has to lead backwards."""
    start = offset
    while length := data[offset]:  # each turn passes a label, or is the last
        if length > MAX_LABEL:
            target = (length & 0x3F) << 8 | data[offset + 1]
            if length < 0xC0 or not FIRST_NAME <= target < start:
                raise MalformedMessage(f'The name at {start} is malformed')
            return offset + 2
        offset += length + 1
    return offset + 1


def scan_records(data: bytes, offset: int, qtype: int, an: int, ns: int, ar: int) -> Scan:
    """Returns the records, from `offset` on, that may matter for the answer. Parses no rdata.

    These are the question's type, CNAME and DNAME in the answer section, SOA and NS in the
    authority section, and OPT. Raises MalformedMessage unless all are whole, or TC is set.
    """
    answer: list[Span] = []
    authority: list[Span] = []
    opts: list[Span] = []
    size = len(data)
    usual = 0
    try:
        head = USUAL_OWNER + data[offset - 4 : offset]  # the type and class of the question
        while an and data.startswith(head, offset):  # each turn passes a record
            ttl, length = unpack_usual_tail(data, offset + 6)
            start = offset + 12
            if start + length > size:
                break  # the loop below raises
            offset = start + length
            answer.append((start, offset, ttl, qtype, 12))
            an -= 1
        usual = len(answer)
        if ar == 1 and not (an or ns) and data.startswith(ROOT_OPT, offset):  # nearly always
            ttl, length = unpack_usual_tail(data, offset + 5)
            start = offset + 11
            if start + length <= size:
                return answer, False, authority, [(start, start + length, ttl, 41, offset)]
        for index in range(an + ns + ar):
            at = offset
            if data[offset] >= 0xC0:  # nearly always: the owner is a pointer and nothing else
                pointer, rtype, rclass, ttl, length = unpack_pointed_record(data, offset)
                at = pointer & 0x3FFF
                if at >= offset or at < 12:
                    raise MalformedMessage(f'The pointer at {offset} leads to {at}')
                start = offset + 12
            else:
                end = skip_name(data, offset) if data[offset] else offset + 1
                rtype, rclass, ttl, length = unpack_record_tail(data, end)
                start = end + 10
            offset = start + length
            if offset > size:
                raise MalformedMessage(f'The rdata at {start} is cut short')
            if index < an:
                if rclass == 1 and (rtype == qtype or rtype == 5 or rtype == 39):  # CNAME, DNAME
                    answer.append((start, offset, ttl, rtype, at))
            elif rtype == 41 and not data[at]:  # OPT, its owner the root (RFC 6891 6.1.2)
                if index >= an + ns:
                    opts.append((start, offset, ttl, rtype, at))
            elif (rtype == 6 or rtype == 2) and rclass == 1 and index < an + ns:  # SOA, NS
                authority.append((start, offset, ttl, rtype, at))
    except (IndexError, struct.error, MalformedMessage) as error:
        if not data[2] & 2:
            raise MalformedMessage(f'The message of {size} octets is malformed') from error
    if len(opts) > 1:
        raise MalformedMessage('There is more than one OPT record')  # RFC 6891 6.1.1
    return answer, len(answer) > usual, authority, opts


def parse_options_of(data: bytes, opts: list[Span]) -> tuple[tuple[int, bytes], ...]:
    """Returns the options of the OPT record, if any; none if they are malformed."""
    options: tuple[tuple[int, bytes], ...] = ()
    try:
        for start, end, _, _, _ in opts:  # one at most
            options = parse_rdata(TYPES.OPT, 1, data, start, end, {})
        return options
    except (struct.error, MalformedMessage):
        return ()  # options only explain or hint, so the reply is not dropped


def explanation(data: bytes, opts: list[Span]) -> str:
    """Returns the extended errors of a reply as the end of an error's text; it may be empty."""
    errors = read_extended_errors(parse_options_of(data, opts))
    text = '; '.join(map(str, itertools.islice(errors, MAX_EXTENDED_ERRORS)))
    return f' ({text})' if text else ''


def keepalive_of(reply: bytes) -> float | None:
    """Returns for how many seconds a stream may be idle, if the reply says so (RFC 7828)."""
    if reply.rfind(KEEPALIVE) < 0:  # nearly always; through padding `in` takes three times as long
        return None
    try:
        _, _, qd, *counts = HEADER.unpack_from(reply)
        *_, opts = scan_records(reply, parse_questions(reply, qd, {}, []), 0, *counts)
    except (IndexError, struct.error, MalformedMessage):
        return None
    value = dict(parse_options_of(reply, opts)).get(EDNS_OPTIONS.TCP_KEEPALIVE, b'')
    return int.from_bytes(value, 'big') / 10 if len(value) == 2 else None


def follow_aliases(
    query: Query, reply: bytes, answer: list[Span], now: float
) -> tuple[bytes, Alias | None, int, list[Span]]:
    """Returns the end of a chain of aliases in any order: its name, Alias, least TTL, records."""
    names: Names = {}
    name = query.fqdn
    sets: dict[tuple[int, bytes], list[Span]] = {}  # by type and owner
    sizes = set()  # of the owners of DNAMEs: only suffixes of such a size are looked up
    for span in answer:
        _, _, _, rtype, at = span
        owner, _ = names.get(at) or follow_name(reply, at, at, names)
        sets.setdefault((rtype, owner.lower()), []).append(span)
        if rtype == 39:
            sizes.add(len(owner))
    nearest_first = sorted(sizes, reverse=True)
    least_ttl = MAX_TTL
    for links in range(MAX_CNAMES + 1):
        records = sets.get((query.qtype, name), [])
        # Records of the question's type end the chain. Otherwise a CNAME continues it, or the
        # nearest DNAME above the name (RFC 6672 2.2).
        aliases, below = records or sets.get((5, name)), b''
        for size in nearest_first if name and not aliases else ():
            if not size or name[-size - 1 : -size] == b'.':
                owner = name[len(name) - size :]
                dnames = sets.get((39, owner))
                if dnames and is_at_or_below(name, owner):
                    aliases, below = dnames, name[: -size - 1] if size else name
                    break
        if records or not aliases:
            alias = Alias(name, links, now + least_ttl) if links else None
            return name, alias, least_ttl, records
        start, end, ttl, _, _ = aliases[0]
        target, after = parse_name(reply, start, 0, names)
        if after != end:
            raise MalformedMessage(f'The rdata at {start} is not exactly one name')
        name = b'.'.join(filter(None, (below, target.lower())))
        if not fits_on_wire(name):
            raise BadResponse(f'A DNAME makes a name longer than {MAX_NAME} octets')
        least_ttl = min(least_ttl, ttl)
    raise CnameChainTooLong(f'There are more than {MAX_CNAMES} aliases')


def read_negative(
    query: Query, reply: bytes, scan: Scan, name: bytes, alias: Alias | None, now: float
) -> Answer | NegativeAnswer | ResolverError:
    """Returns what a reply without records means for the last name of a chain (RFC 2308, 6604)."""
    if reply[2] & 2:  # TC: records may be missing
        if alias is not None:
            return Answer(now, (), alias, False)
        message = parse_message(reply, True, True)
        return Truncated('The reply is truncated and has no usable record', message)
    _, _, authority, opts = scan
    negative_ttl = None
    names: Names = {}
    for start, end, ttl, rtype, at in authority:
        if rtype == 6 and is_at_or_below(name, follow_name(reply, at, at, names)[0].lower()):
            soa = parse_rdata(TYPES.SOA, 1, reply, start, end, names)
            negative_ttl = min(ttl, soa.minimum, MAX_NEGATIVE_TTL)  # RFC 2308 5
            break
    why = explanation(reply, opts)
    # It counts from a server that is authoritative or has recursed (RFC 2308 2.2.1). NS records
    # without SOA are a referral.
    rcode, is_authoritative, has_recursed = reply[3] & 15, reply[2] & 4, reply[3] & 0x80
    has_soa = negative_ttl is not None
    is_absent = rcode == RCODES.NXDOMAIN or (has_soa and (is_authoritative or has_recursed))
    if alias is not None and not is_absent:
        return Answer(now, (), alias, True)
    is_unbacked = not is_absent and not is_authoritative
    if is_unbacked and (not has_recursed or 2 in [span[3] for span in authority]):  # NS
        text = 'The server is lame: it has no answer, and is neither authoritative nor recursive'
        return BadResponse(text + why)
    what, expires_at = '', now + (negative_ttl or 0)
    if alias is not None:
        what = f'{describe(alias.name, query.qtype)}: '
        expires_at = min(expires_at, alias.expires_at)
    error = negative_error(what, RCODE_OF[rcode], why)
    return NegativeAnswer(expires_at, (), alias, True, error)


def read_records(
    qtype: int, reply: bytes, end: int, records: list[Span], expires_at: float
) -> tuple[Any, ...]:
    """Returns the rdata of records with `expires_at`, without duplicates (RFC 2181 5)."""
    found: dict[Any, Any] = {}
    names: Names = {}
    # In lower case, because names may be compressed against the question, in random case.
    follow_name(reply[:end].lower(), 12, 12, names)
    for start, stop, _, _, _ in records:
        key = rdata = parse_rdata(qtype, 1, reply, start, stop, names)
        if isinstance(rdata, tuple):
            if rdata and isinstance(rdata[-1], tuple):
                key = reply[start:stop]  # no name before a list may be compressed (RFC 3597 4)
            else:  # no numbers, but text: a server could choose many numbers with one hash
                key = tuple([each if isinstance(each, bytes) else repr(each) for each in rdata])
        if key not in found:
            found[key] = expiring(rdata, expires_at)
    return tuple(found.values())


def read_reply(query: Query, reply: bytes, now: float) -> Outcome:
    """Returns what a reply says about the question of a query, which was sent at `now`.

    Nothing else is decoded or believed. Raises BadResponse or MalformedMessage.
    """
    octets, end, fqdn, qtype = query
    is_same_case = reply[:2] == octets[:2] and reply[12:end] == octets[12:end]
    if not is_same_case or reply[2] & 0xF8 != 0x80 or reply[4:6] != b'\0\1':  # seldom
        is_same_case = check_reply(query, reply)
    _, flags, qd, an, ns, ar = HEADER.unpack_from(reply)
    outcome: Any
    try:
        scan = scan_records(reply, end if qd else 12, qtype, an, ns, ar)  # an error may lack it
        records, has_others, _, opts = scan
        rcode = flags & 15
        if opts:
            rcode |= opts[0][2] >> 24 << 4  # RFC 6891 6.1.3
        if rcode and rcode != 3:
            rcode = RCODE_OF.get(rcode, rcode)
            text = f'The nameserver answered with {rcode!s}{explanation(reply, opts)}'
            outcome = ResponseCode(text, rcode)
            if not qd:
                return WithoutQuestion(outcome)
            return outcome if is_same_case else CaseMismatch(outcome)

        name, alias, least_ttl = fqdn, None, MAX_TTL
        if has_others:
            name, alias, least_ttl, records = follow_aliases(query, reply, records, now)

        if rcode or not records:  # NXDOMAIN wins over records
            outcome = read_negative(query, reply, scan, name, alias, now)
        else:
            for _, _, ttl, _, _ in records:
                if ttl < least_ttl:
                    least_ttl = ttl
            expires_at = now + least_ttl
            if qtype in ADDRESSES:
                kind, size = ADDRESSES[qtype]
                addresses = {}
                for start, stop, _, _, _ in records:
                    octets = reply[start:stop]
                    if len(octets) != size:
                        raise MalformedMessage(f'An address has {size} octets, not {len(octets)}')
                    if octets not in addresses:
                        addresses[octets] = kind(int.from_bytes(octets, 'big'), expires_at)
                found = tuple(addresses.values())
            else:
                found = read_records(qtype, reply, end, records, expires_at)
            outcome = tuple.__new__(Answer, (expires_at, found, alias, not flags & TC_BIT))
    except (IndexError, struct.error) as error:
        raise MalformedMessage('A record that is needed is cut short') from error
    except (BadResponse, CnameChainTooLong) as error:
        outcome = error.with_traceback(None)
    if flags & TC_BIT:
        if qtype not in ADDRESSES and isinstance(outcome, Answer):
            # Half of an SPF, TLSA or CAA set says something else than the whole.
            message = parse_message(reply, True, True)
            outcome = Truncated('The reply is truncated', message)
        outcome = TruncatedAnswer(outcome)
    return outcome if is_same_case else CaseMismatch(outcome)


def to_frame(octets: bytes) -> bytes:
    """Returns a message with its length before it, as on a stream (RFC 1035 4.2.2)."""
    return len(octets).to_bytes(2, 'big') + octets


class Frames:
    """The framing of TCP and TLS: messages with their lengths before them. Their key is the id."""

    is_closing = False  # True where the server wants no more queries

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = bytearray()

    def pack(self, octets: bytes) -> bytes:
        """Queues a query, and returns the key that its reply will have."""
        self.outgoing += to_frame(octets)
        return octets[:2]

    def to_send(self) -> bytearray:
        octets, self.outgoing = self.outgoing, bytearray()
        return octets

    def take(self, octets: bytes) -> list[tuple[bytes, bytes]]:
        """Returns the messages that are complete now, each with its key."""
        if not self.incoming and len(octets) - 2 == int.from_bytes(octets[:2], 'big'):
            return [(octets[2:4], octets[2:])]  # nearly always: exactly one message
        self.incoming += octets
        messages = []
        start = 2
        while len(self.incoming) >= start:  # each turn passes a message
            end = start + int.from_bytes(self.incoming[start - 2 : start], 'big')
            if len(self.incoming) < end:
                break
            message = bytes(self.incoming[start:end])
            messages.append((message[:2], message))
            start = end + 2
        del self.incoming[: start - 2]
        return messages

    def give_up(self, _: bytes) -> bool:
        """Gives a query up. Returns whether its reply cannot come any more: here it still may."""
        return False


def unsolicited(message: bytes) -> MalformedMessage | BadResponse:
    """Returns the error for a message on a stream that answers no query."""
    if len(message) < HEADER.size:
        return MalformedMessage(TOO_SHORT.format(len(message)))
    return BadResponse('A message came that is not a reply to any query')


# --- 10. TSIG ----------------------------------------------------------------
#
# Transaction signatures (RFC 8945): messages are signed and verified as octets, by a key
# that both sides have. The clock is an argument. Nothing that a message says is believed
# before its MAC is; its id is not part of it, as forwarders change that. Which messages
# have to be signed, and in reply to what, is for the caller to know.

# By the name of an algorithm: its hash, and how many octets a MAC has (RFC 8945 6).
ALGORITHMS = {
    b'hmac-md5.sig-alg.reg.int': ('md5', 16),
    b'hmac-sha1': ('sha1', 20),
    b'hmac-sha224': ('sha224', 28),
    b'hmac-sha256': ('sha256', 32),
    b'hmac-sha256-128': ('sha256', 16),
    b'hmac-sha384': ('sha384', 48),
    b'hmac-sha384-192': ('sha384', 24),
    b'hmac-sha512': ('sha512', 64),
    b'hmac-sha512-256': ('sha512', 32),
}


class Key:
    """A secret that two sides share, and sign messages with (RFC 8945).

    `name` is what both call it, `secret` is bytes, or str in base64, and `algorithm` is
    `hmac-sha256`, `hmac-md5` (short for `hmac-md5.sig-alg.reg.int`), `hmac-sha1`, `-sha224`,
    `-sha384`, `-sha512`, or with a truncated MAC `hmac-sha256-128`, `hmac-sha384-192` or
    `hmac-sha512-256`. The secret is not in its `repr`. Raises InvalidName, or TypeError.
    """

    name: bytes  # in lower case
    algorithm: bytes  # in lower case
    secret: bytes

    def __init__(
        self, name: str | bytes, secret: bytes | str, algorithm: str | bytes = 'hmac-sha256'
    ) -> None:
        self.name = to_name(name).lower()
        self.algorithm = to_name(algorithm).lower()
        if self.algorithm == b'hmac-md5':
            self.algorithm += b'.sig-alg.reg.int'
        if self.algorithm not in ALGORITHMS:
            raise InvalidName(f'There is no algorithm {self.algorithm!r:.64} for signatures')
        if not isinstance(secret, (bytes, str)):
            raise TypeError(f'A secret is bytes or str, not {type(secret).__name__}')
        try:
            if isinstance(secret, str):
                secret = binascii.a2b_base64(''.join(secret.split()), strict_mode=True)
            if not secret:
                raise ValueError('the secret is empty')
            self.secret = secret
            self.digest_after(b'')  # the system may refuse a hash, as MD5
        except ValueError as error:
            raise InvalidName(f'{self!r} is of no use: {error}') from error

    def __repr__(self) -> str:
        return f'<Key {present_name(self.name)} {self.algorithm.decode()}>'

    def __iter__(self) -> Iterator[Any]:
        raise TypeError('A Key is no rdata: `sign`, or what asks a query, signs with it')

    def digest_after(self, prior_mac: bytes) -> Any:
        """Returns an HMAC that has the MAC of the request, or of the message before (4.3.1)."""
        with importing('hmac'):
            import hmac  # when it is used: most programs sign nothing

        digest = hmac.new(self.secret, digestmod=ALGORITHMS[self.algorithm][0])
        if prior_mac:
            digest.update(LENGTH.pack(len(prior_mac)) + prior_mac)
        return digest


Keyring = Mapping[bytes, Key]  # by name, in lower case


class Signature(NamedTuple):
    """The TSIG record of a message: where it begins, the name of the key, and the rdata."""

    start: int
    key_name: bytes  # in lower case
    rdata: Any

    def timers(self) -> bytes:
        """Returns what of it is digested in any message (RFC 8945 4.3.3, 5.3.1)."""
        seconds = self.rdata.time_signed
        return struct.pack('>HIH', seconds >> 32, seconds & 0xFFFFFFFF, self.rdata.fudge)

    def variables(self) -> bytes:
        """Returns what of it is digested in a message that follows no other (RFC 8945 4.3.3)."""
        algorithm, *_, error, other_data = self.rdata
        names = pack_name(self.key_name), pack_name(algorithm.lower())
        tail: bytes = struct.pack('>HH', error, len(other_data)) + other_data
        return struct.pack('>HI', CLASSES.ANY, 0).join(names) + self.timers() + tail


def find_signature(octets: bytes) -> Signature | None:
    """Returns the signature of a message, or None. One loop over offsets; no more is decoded.

    Raises MalformedMessage for a message that is cut short, or has TSIG where or as it must not
    be (RFC 8945 5.1, 5.2).
    """
    try:
        _, _, questions, an, ns, ar = HEADER.unpack_from(octets)
        records = an + ns + ar
        offset = HEADER.size
        for left in range(questions + records - 1, -1, -1):
            start = offset
            while 0 < (size := octets[offset]) < 0xC0:  # each turn passes a label
                offset += size + 1
            offset += 2 if size else 1
            if left >= records:
                offset += QUESTION_TAIL.size
                continue
            qtype, qclass, ttl, length = unpack_record_tail(octets, offset)
            offset += 10 + length
            if qtype == 250:  # TSIG
                if left or not ar or qclass != CLASSES.ANY or ttl or offset > len(octets):
                    raise MalformedMessage('There is TSIG where it must not be, or a broken one')
                names: Names = {}
                key_name, _ = parse_name(octets, start, offset, names)
                rdata = parse_rdata(qtype, qclass, octets, offset - length, offset, names)
                return Signature(start, key_name.lower(), rdata)
    except (IndexError, struct.error) as error:
        raise MalformedMessage(f'The message of {len(octets)} octets is cut short') from error
    return None


def refusal(rdata: Any, tail: str = '') -> BadSignature:
    """Returns the error for what a server says is wrong with a request (RFC 8945 3)."""
    error = RCODE_OF.get(rdata.error, rdata.error)
    text = 'BADSIG' if error == RCODES.BADSIG else str(error)
    if error == RCODES.BADTIME and len(rdata.other_data) == 6:
        ahead = int.from_bytes(rdata.other_data, 'big') - rdata.time_signed
        text += f' (its clock is {abs(ahead)} seconds {"ahead" if ahead > 0 else "behind"})'
    return BadSignature(f'The server says {text}{tail}', error)


def other_key(signature: Signature) -> BadSignature:
    """Returns the error for a key that is not the one agreed, or an algorithm."""
    names = map(present_name, (signature.key_name, signature.rdata.algorithm_name))
    return BadSignature(f'The key is another: {" ".join(names)} (BADKEY)', RCODES.BADKEY)


def no_signature(octets: bytes) -> BadSignature:
    """Returns the error for a message without a signature, which may say why there is none."""
    rcode = RCODE_OF.get(octets[3] & 15, octets[3] & 15)
    says = f', and says {rcode}' if rcode else ''
    return BadSignature(f'The message is not signed{says}')


def check_signature(
    octets: bytes, signature: Signature, key: Key, digest: Any, is_first: bool, now: float
) -> None:
    """Raises BadSignature unless a message is signed by `key`, and in time.

    `digest` has what comes before the message, and takes it. The order is that of RFC 8945 5.2:
    key, MAC, time, truncation; then what the server says is wrong. Raises MalformedMessage for a
    MAC of a length that there cannot be (RFC 8945 5.2.2.1).
    """
    start, key_name, rdata = signature
    mac, algorithm = rdata.mac, rdata.algorithm_name.lower()
    if rdata.error and not mac:  # RFC 8945 5.3.2: of BADKEY and BADSIG
        raise refusal(rdata, ', and does not sign that')
    if (key_name, algorithm) != (key.name, key.algorithm):
        raise other_key(signature)
    size = ALGORITHMS[key.algorithm][1]
    if not max(10, digest.digest_size // 2) <= len(mac) <= size:
        raise MalformedMessage(f'No MAC of {present_name(algorithm)} has {len(mac)} octets')
    import hmac

    (count,) = LENGTH.unpack_from(octets, 10)
    digest.update(LENGTH.pack(rdata.original_id) + octets[2:10] + LENGTH.pack(count - 1))
    digest.update(memoryview(octets)[HEADER.size : start])
    digest.update(signature.variables() if is_first else signature.timers())
    if not hmac.compare_digest(digest.digest()[: len(mac)], mac):
        raise BadSignature('The MAC is wrong (BADSIG)', RCODES.BADSIG)
    away = abs(now - rdata.time_signed)
    if not away <= rdata.fudge:
        text = f'It was signed {away:.0f} seconds from now, by the clock here (BADTIME)'
        raise BadSignature(text, RCODES.BADTIME)
    if len(mac) < size:  # RFC 8945 5.2.4: the policy here is what the name of the algorithm says
        raise BadSignature(f'Its MAC has only {len(mac)} octets (BADTRUNC)', RCODES.BADTRUNC)
    if rdata.error:
        raise refusal(rdata)
    if rdata.other_data and not is_first:
        raise MalformedMessage('There are data in its TSIG that nothing vouches for')


def verify(octets: bytes, keyring: Keyring, request_mac: bytes, now: float) -> None:
    """Raises BadSignature or MalformedMessage unless a message is signed as it has to be.

    The reply to a signed request, of which `request_mac` is, has to be signed itself. Without one
    the message may be a request, and have no signature.
    """
    signature = find_signature(octets)
    if signature is None:
        if request_mac:
            raise no_signature(octets)
        return
    key = keyring.get(signature.key_name)
    if key is None:
        raise other_key(signature)
    check_signature(octets, signature, key, key.digest_after(request_mac), True, now)


class Verifier:
    """Verifies the messages that come on a stream in reply to one signed request (RFC 8945 5.3.1).

    `take` is given the octets of each as it comes. The first has to be signed, and the last, as
    `finish` sees to; up to 99 in between may be covered by the signature of a later one: nothing
    of them is proven before that. After an error it is of no more use.
    """

    def __init__(
        self, key: Key, request_mac: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self.key = key
        self.clock = clock
        self.digest = key.digest_after(request_mac)
        self.is_first = True
        self.unsigned = 0  # messages since the last signed one

    def take(self, octets: bytes) -> None:
        """Takes the next message. Raises BadSignature or MalformedMessage."""
        signature = find_signature(octets)
        if signature is None:
            self.unsigned += 1
            if self.is_first or self.unsigned > MAX_UNSIGNED:
                raise no_signature(octets)
            self.digest.update(octets)
            return
        check_signature(octets, signature, self.key, self.digest, self.is_first, self.clock())
        self.digest = self.key.digest_after(signature.rdata.mac)
        self.is_first = False
        self.unsigned = 0

    def finish(self) -> None:
        """Raises BadSignature unless the message taken last was signed."""
        if self.is_first or self.unsigned:
            raise BadSignature('The last message is not signed')


def split_key(message: Any) -> tuple[Any, Key | None]:
    """Returns a message without the Key that `make_query` put in it, and that."""
    if isinstance(message, Message) and message.ar:
        key = getattr(message.ar[-1], 'rdata', None)
        if isinstance(key, Key):
            return message._replace(ar=message.ar[:-1]), key
    return message, None


def sign(
    message: Message | bytes, key: Key, request_mac: bytes = b'', time_signed: float | None = None
) -> tuple[bytes, bytes]:
    """Returns the octets of a message, signed with a Key, and the MAC (RFC 8945).

    To sign a reply give the MAC of the request, which is in its TSIG record. `time_signed` is in
    seconds since 1970, now if None. Raises as `pack` does; MalformedMessage also for a message
    that is signed already.
    """
    if not isinstance(key, Key) or not isinstance(request_mac, bytes):
        raise TypeError('A message is signed with a Key, and the MAC of a request is bytes')
    message, _ = split_key(message)
    octets = to_octets(message)
    if find_signature(octets) is not None:
        raise MalformedMessage('The message is signed already')
    seconds = time.time() if time_signed is None else time_signed
    if not isinstance(seconds, (int, float)):
        raise TypeError(f'time_signed is a number of seconds, not {seconds!r}')
    if not 0 <= seconds < 1 << 48 or len(request_mac) > MAX_MESSAGE:
        raise MalformedMessage(f'{seconds} is no time for a signature, or the MAC is none')
    rdata = LAYOUTS[TYPES.TSIG].record(
        key.algorithm, int(seconds), FUDGE, b'', int.from_bytes(octets[:2], 'big'), 0, b''
    )
    digest = key.digest_after(request_mac)
    digest.update(octets)
    digest.update(Signature(len(octets), key.name, rdata).variables())
    mac = digest.digest()[: ALGORITHMS[key.algorithm][1]]
    tail = bytearray()
    LAYOUTS[TYPES.TSIG].pack(rdata._replace(mac=mac), tail, {})
    record = pack_name(key.name) + RECORD_TAIL.pack(TYPES.TSIG, CLASSES.ANY, 0, len(tail)) + tail
    if len(octets) + len(record) > MAX_MESSAGE:
        raise MalformedMessage(f'{len(octets)} octets leave no room for a signature')
    (count,) = LENGTH.unpack_from(octets, 10)
    return octets[:10] + LENGTH.pack(count + 1) + octets[HEADER.size :] + record, mac


Keys = tuple[Keyring | None, bytes]  # what verifies a reply: a keyring, the MAC of the request


def query_to_ask(q: Message | bytes) -> tuple[Query, Keys]:
    """Returns what `query_in` does, signed if there is a Key in it, and what verifies a reply."""
    message, key = split_key(q)
    if key is None:
        return query_in(q), (None, b'')
    octets, mac = sign(message, key)
    return query_in(octets), ({key.name: key}, mac)


# --- 11. Zone transfer rules -------------------------------------------------
#
# What the messages of a transfer say of a zone (RFC 5936, RFC 1995): messages in, changes out,
# and whether there are more to come. What no server may say is TransferError. A `Zone` takes
# all changes of a transfer, or none. Nothing here knows octets, signatures, time or sockets, and
# a zone does not know where its records are from.


class UDPMode(IntEnum):
    """Whether an IXFR goes as a datagram. An AXFR never does, nor what goes over TLS."""

    NEVER = 0
    TRY_FIRST = 1  # and over TCP, unless the whole transfer comes
    ONLY = 2


class Changes(NamedTuple):
    """What is to be done to a zone: first `deleted` are taken out, then `added` put in."""

    replacement: bool  # the zone comes whole: no record of before stays
    deleted: tuple[ResourceRecord, ...]
    added: tuple[ResourceRecord, ...]


def steps_between(old: int, new: int) -> int:
    """Returns how many steps a serial is before another, negative if behind it (RFC 1982 3.2).

    Half of all numbers apart, where the RFC leaves it undefined, it is behind.
    """
    steps = (new - old) & 0xFFFFFFFF
    return steps if steps < 0x80000000 else steps - 0x100000000


pack_often = functools.lru_cache(maxsize=1024)(pack_name)  # records of a set may share names


def canonical_rdata(
    record: ResourceRecord, octets_of: Callable[[bytes], bytes] = pack_often
) -> bytes:
    """Returns octets by which records of one owner and type are ordered (RFC 4034 6.3).

    Names in them are in lower case (RFC 4034 6.2): compression may change the case of a name.
    """
    _, qtype, qclass, _, rdata = record
    row = layout_of(qtype, qclass)
    if row is None:
        return bytes(rdata)
    if row.takes_octets and isinstance(rdata, bytes):  # a caller's
        rdata = parse_rdata(qtype, qclass, rdata, 0, len(rdata), {})
    kinds = row.fields.values()
    out = bytearray()
    if NAME not in kinds and COMPRESSED_NAME not in kinds:
        row.pack(rdata, out, {})
        return bytes(out)
    for kind, value in zip(kinds, rdata if row.record else (rdata,), strict=True):
        if kind in (NAME, COMPRESSED_NAME):
            out += octets_of(value.lower())
        else:
            kind.pack(value, out, {})
    return bytes(out)


def rdata_key(record: ResourceRecord) -> bytes:
    """Returns octets by which records of one owner and type are compared.

    The names in them are not packed: a message may point thousands of times to names with many
    escapes, which take a fifth of a millisecond each.
    """
    return canonical_rdata(record, lambda name: name + b'\0')  # which is in no name


SOA_OR_META = UNRESOLVABLE | {TYPES.SOA}  # no zone has meta-types (RFC 6895 3.1)
ENDED = 'The block of this writer is over, and the writer of no more use'

# What the next record of a transfer is, unless it is an SOA of the zone.
FIRST, SECOND, WHOLE, DELETED, ADDED, NONE = range(6)


class Transfer:
    """How far a transfer has come: it is fed with the messages in turn until it `is_done`.

    The first record is the SOA of the zone as it will be, and the last one is the same again. In
    between the zone comes whole; or, to an IXFR only, differences: each is an older SOA, what is
    deleted, a newer SOA, what is added. An SOA alone says that there is nothing newer.
    """

    def __init__(self, query: Message) -> None:
        """Raises InvalidName for a query that asks for no transfer."""
        if len(query.qd) != 1 or query.qd[0].qtype not in (TYPES.AXFR, TYPES.IXFR):
            raise InvalidName('A transfer is asked for by one question of type AXFR or IXFR')
        self.query = query
        self.origin = query.qd[0].name.lower()
        self.serial: int | None = None  # of the zone, as far as the differences have come
        if query.qd[0].qtype == TYPES.IXFR:
            serials = [record.rdata.serial for record in query.ns if record.qtype == TYPES.SOA]
            if len(serials) != 1:
                raise InvalidName('An IXFR has the SOA of the zone in its authority section')
            self.serial = serials[0]
        self.next = FIRST
        self.soa: Any = None  # the first record

    @property
    def is_done(self) -> bool:
        """Whether the last record has come."""
        return self.next == NONE

    def take_soa(self, record: ResourceRecord) -> None:
        """Goes on to what comes after an SOA of the zone. Raises TransferError."""
        serial = record.rdata.serial
        if self.next == FIRST:
            self.soa = record
            if self.serial is None:
                self.next = WHOLE
                return
            steps = steps_between(self.serial, serial)
            if steps < 0:
                raise TransferError(f'The serial went backwards, from {self.serial} to {serial}')
            self.next = SECOND if steps else NONE
        elif self.next == DELETED:
            assert self.serial is not None
            if steps_between(self.serial, serial) <= 0:
                raise TransferError(f'A difference leads from serial {self.serial} to {serial}')
            if serial == self.soa.rdata.serial and rdata_key(record) != rdata_key(self.soa):
                raise TransferError(f'There are two SOAs with serial {serial}')
            self.serial = serial
            self.next = ADDED
        elif self.next == SECOND or (self.next == ADDED and serial != self.soa.rdata.serial):
            if serial != self.serial:
                raise TransferError(f'A difference to serial {self.serial} begins at {serial}')
            self.next = DELETED
        else:
            is_same = rdata_key(record) == rdata_key(self.soa)
            if not is_same or self.serial not in (None, serial):
                raise TransferError('There is an SOA that is neither the first nor the last one')
            self.next = NONE

    def take(self, message: Message) -> list[Changes]:
        """Returns what the next message changes. Raises TransferError or BadResponse."""
        query = self.query
        if message.qid != query.qid or (message.qr, message.opcode) != (RESPONSE, query.opcode):
            raise BadResponse('It is no response to the query')
        if message.qd:  # there may be none (RFC 5936 2.2.1)
            (name, *kind), *more = message.qd
            if more or [name.lower(), *kind] != [self.origin, *query.qd[0][1:]]:
                raise BadResponse('The question is not that of the query')
        rcode = message.extended_rcode
        if rcode:
            errors = extended_errors(message)[:MAX_EXTENDED_ERRORS]
            why = f' ({"; ".join(map(str, errors))})' if errors else ''
            raise TransferError(f'The answer is {rcode!s}{why}', rcode)
        if message.tc or (self.next == FIRST and not message.an):
            raise TransferError('The message is truncated, or the first one has no record')

        all_changes: list[Changes] = []
        deleted: list[ResourceRecord] = []
        added: list[ResourceRecord] = []
        origin, below, qclass = self.origin, b'.' + self.origin, query.qd[0].qclass
        before_dot = -len(below) - 1  # where a backslash would make it part of a label
        put = (deleted if self.next == DELETED else added).append
        is_decided = self.next in (WHOLE, DELETED, ADDED)
        for record in message.an:
            name, qtype, rclass, ttl, _ = record
            if ttl > 0x7FFFFFFF:  # RFC 2181 8
                record = record._replace(ttl=0)
            is_below = name.endswith(below) and name[before_dot] != 92
            if is_below and is_decided and qtype not in SOA_OR_META and rclass == qclass:
                put(record)  # nearly always
            elif rclass != qclass:
                raise TransferError(f'There is a record of class {rclass!s}')
            elif self.next == NONE:
                raise TransferError('There is a record after the last SOA')
            elif qtype == 6 and name.lower() == origin:  # SOA
                was_added = self.next == ADDED
                self.take_soa(record)
                if was_added:  # a difference is complete
                    all_changes.append(Changes(False, tuple(deleted), tuple(added)))
                    deleted, added = [], []
                put = (deleted if self.next == DELETED else added).append
                is_decided = self.next in (WHOLE, DELETED, ADDED)
                if is_decided:
                    put(record)
            elif self.next == FIRST:
                raise TransferError('The first record is not the SOA of the zone')
            elif qtype not in UNRESOLVABLE and is_at_or_below(name.lower(), origin):
                if self.next == SECOND:  # an IXFR is answered as an AXFR (RFC 1995 4)
                    self.next = WHOLE
                    self.serial = None
                    is_decided = True
                    put(self.soa)
                put(record)
            # Else it is ignored: it is elsewhere, or can be in no zone.
        if deleted or added:
            is_whole = self.serial is None
            all_changes.append(Changes(is_whole, tuple(deleted), tuple(added)))
        return all_changes


class ZoneWriter:
    """Adds records to a zone and deletes some: all of it at the end of the block, or nothing."""

    def __init__(self, zone: Zone, replacement: bool) -> None:
        self.zone = zone
        self.before = zone.sets
        self.sets: dict[tuple[bytes, int], Any] = {} if replacement else dict(zone.sets)
        self.own: set[tuple[bytes, int]] = set()  # the keys of those dicts that are not the zone's
        self.is_over = False

    def __enter__(self) -> ZoneWriter:
        if self.is_over:
            raise TransferError(ENDED)
        return self

    def __exit__(self, kind: Any, _: Any, __: Any) -> None:
        self.is_over = True  # the sets may be those of the zone from now on
        if kind is None:
            if self.zone.sets is not self.before:
                raise TransferError('The zone was changed by another writer meanwhile')
            self.zone.sets = self.sets

    def add(self, record: ResourceRecord) -> None:
        """Adds a record, as `parse` returns it; an SOA is put in place of the one there is.

        Whether the record is one of the zone is not checked.
        """
        if self.is_over:
            raise TransferError(ENDED)
        key = record[0].lower(), record[1]
        found = self.sets.setdefault(key, record)
        if found is not record:  # seldom
            if record[1] == TYPES.SOA:
                self.sets[key] = record
                self.own.discard(key)
            else:
                self.several(key, found)[rdata_key(record)] = record

    def delete(self, record: ResourceRecord) -> None:
        """Deletes a record, whatever its TTL. Raises TransferError if it is not there."""
        if self.is_over:
            raise TransferError(ENDED)
        key = record[0].lower(), record[1]
        found = self.sets.get(key)
        if found is not None:
            records = self.several(key, found)
            if records.pop(rdata_key(record), None) is not None:
                if not records:
                    del self.sets[key]
                    self.own.remove(key)
                return
        raise TransferError(f'There is no such record to delete: {presentation(record)}')

    def several(self, key: tuple[bytes, int], found: Any) -> dict[bytes, ResourceRecord]:
        """Returns the records of an owner and type as a dict that may be changed."""
        if key not in self.own:
            self.own.add(key)
            is_one = isinstance(found, ResourceRecord)
            found = {rdata_key(found): found} if is_one else dict(found)
            self.sets[key] = found
        records: dict[bytes, ResourceRecord] = found
        return records


class Zone:
    """The records of a zone. Iterating gives them in canonical order (RFC 4034 6).

    `zone[name, qtype]` is a tuple of records, `str(zone)` a master file (RFC 1035 5).
    """

    def __init__(self, origin: str | bytes) -> None:
        """`origin` is the name of the zone. Raises InvalidName."""
        self.origin = to_name(origin)
        # By owner, in lower case, and type: a record, or several by their keys. It is
        # never changed but replaced, so that who iterates sees the zone as it was.
        self.sets: dict[tuple[bytes, int], Any] = {}

    @property
    def serial(self) -> int | None:
        """The serial of the SOA, or None if there is none."""
        for record in self[self.origin, TYPES.SOA]:
            return int(record.rdata.serial)
        return None

    def __getitem__(self, name_and_type: tuple[str | bytes, int]) -> tuple[ResourceRecord, ...]:
        name, qtype = name_and_type
        found = self.sets.get((to_name(name).lower(), qtype), {})
        return (found,) if isinstance(found, ResourceRecord) else tuple(found.values())

    def __iter__(self) -> Iterator[ResourceRecord]:
        sets = self.sets
        for key in sorted(sets, key=lambda key: (split_name(key[0])[::-1], key[1])):
            found = sets[key]
            if isinstance(found, ResourceRecord):
                yield found
            else:
                yield from sorted(found.values(), key=canonical_rdata)

    def __str__(self) -> str:
        first = self[self.origin, TYPES.SOA]  # as a master file begins
        others = (record for record in self if record not in first)
        return ''.join([f'{presentation(record)}\n' for record in itertools.chain(first, others)])

    def writer(self, replacement: bool = False) -> ZoneWriter:
        """Returns a context manager that adds and deletes records, and commits at its end.

        If an exception ends it, the zone stays as it was. With `replacement` it begins empty.
        """
        return ZoneWriter(self, replacement)


# --- 12. TLS and HTTP --------------------------------------------------------
#
# TLS (RFC 7858) and DNS over HTTPS (RFC 8484), as octets in and octets out. HTTP/2 itself
# comes from an extra. Nothing here knows sockets.


@functools.lru_cache(maxsize=16)
def tls_context(verify: bool | str, version: tuple[int, ...] = ()) -> SSLContext:
    """Returns an SSLContext that trusts the system's authorities, or those at a path."""
    import ssl  # asyncio has imported it

    trusted: dict[str, Any] = {}
    if isinstance(verify, str):
        trusted['capath' if os.path.isdir(verify) else 'cafile'] = verify
    context = ssl.create_default_context(**trusted)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8310 9.1, RFC 9325 3.1.1
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9113 9.2.1
    if verify is True and not context.cert_store_stats()['x509']:  # OpenSSL does not say why
        check_descriptors('The authorities of the system cannot be read')
    if verify is False:  # any certificate is accepted
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def to_context(verify: Any) -> SSLContext:
    """Returns the SSLContext for a caller's `verify`: an SSLContext, a path or a bool."""
    import ssl

    if isinstance(verify, ssl.SSLContext):
        return verify
    path = os.fspath(verify) if isinstance(verify, os.PathLike) else verify
    if isinstance(path, bool):
        return tls_context(path)
    if not isinstance(path, str):
        raise TypeError(f'verify has to be a bool, a path or an SSLContext, not {verify!r}')
    if not path:
        raise InvalidName('verify is an empty path')
    try:
        status = os.stat(path)
    except ValueError as error:
        raise InvalidName(f'verify is {path!r}, which is not a valid path') from error
    version = *status[:7], status.st_mtime_ns  # a file that has changed is read again
    return tls_context(path, version)


def check_context(context: Any) -> SSLContext | None:
    """Returns a caller's SSLContext or None. Raises TypeError."""
    import ssl

    if context is not None and not isinstance(context, ssl.SSLContext):
        raise TypeError(f'ssl_context has to be None or an SSLContext, not {context!r}')
    return context


class Tls:
    """A TLS connection. What is written before the certificate is verified is held back.

    The context is set to offer the protocol (ALPN) each time, because connections with another may
    share it. A connection keeps what its context offered when it began.
    """

    def __init__(self, context: SSLContext, name: str, protocol: str) -> None:
        import ssl

        context.set_alpn_protocols([protocol])
        self.protocol = protocol
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.wants = ssl.SSLWantReadError
        self.plain = bytearray()  # to be sent after the handshake
        self.is_ready = False  # the handshake is done
        self.is_over = False  # the other side has closed TLS
        self.unwrap(b'')  # starts the handshake

    def wrap(self, octets: bytes | bytearray) -> bytes:
        """Returns what to send, including `octets` after the handshake. Raises OSError."""
        if not self.is_ready:
            self.plain += octets
        elif octets:
            self.tls.write(octets)
        return self.outgoing.read()

    def unwrap(self, octets: bytes) -> bytes:
        """Returns the decrypted octets. Raises OSError; `wrap` may have an alert to send then."""
        self.incoming.write(octets)
        plain = bytearray()
        try:
            if not self.is_ready:
                self.tls.do_handshake()
                # RFC 9113 3.2. DNS over TLS works without ALPN.
                if self.protocol == 'h2' and self.tls.selected_alpn_protocol() != 'h2':
                    raise OSError(errno.EPROTO, 'The server did not agree to HTTP/2 (ALPN h2)')
                self.is_ready = True
                if self.plain:
                    self.tls.write(self.plain)
            while not self.is_over:  # each turn takes a record
                piece = self.tls.read(MAX_MESSAGE)
                self.is_over = not piece
                plain += piece
                if not self.incoming.pending and not self.tls.pending():
                    break  # cheaper than the exception
        except self.wants:
            pass  # the record is not complete yet
        return bytes(plain)

    def end(self) -> bytes:
        """Returns the alert that closes TLS (RFC 8446 6.1)."""
        if not self.is_ready:
            return b''
        with contextlib.suppress(OSError):  # the alert of the other side has not come
            self.tls.unwrap()
        return self.outgoing.read()


DNS_MESSAGE = 'application/dns-message'  # RFC 8484 6
DNS_QUERY = '/dns-query'  # the usual path
FRAME_HEAD = 9  # octets before each frame of HTTP/2 (RFC 9113 4.1)
GOAWAY = 7  # RFC 9113 6.8
WENT_AWAY = errno.ECONNRESET, 'The server closed the HTTP/2 connection (GOAWAY)'
URL_SAFE = bytes.maketrans(b'+/', b'-_')  # RFC 4648 5


class RequestEnded(OSError):
    """The server ended one request, not the connection."""


def http_library() -> Any:
    """Returns the module h2. Raises MissingDependency, or SocketError without a descriptor."""
    try:
        with importing('h2'):
            import h2.connection  # which imports the rest
    except ImportError as error:
        text = "DNS over HTTPS needs h2: pip install 'aiodnsresolver[https]'"
        raise MissingDependency(text) from error
    return h2


def aged(octets: bytes, seconds: int) -> bytes:
    """Returns a message with its TTLs reduced by the HTTP Age (RFC 8484 5.1), if it is whole."""
    message = bytearray(octets)
    try:
        _, _, qd, *counts = HEADER.unpack_from(octets)
        offset = parse_questions(octets, qd, {}, [])
        for _ in range(sum(counts)):
            offset = skip_name(octets, offset)
            qtype, qclass, ttl, size = RECORD_TAIL.unpack_from(octets, offset)
            if qtype != TYPES.OPT:
                ttl = max(0, ttl - seconds)
            RECORD_TAIL.pack_into(message, offset, qtype, qclass, ttl, size)
            offset += RECORD_TAIL.size + size
    except (IndexError, struct.error, MalformedMessage):
        return octets
    return bytes(message)


class HttpExchange:
    """The request for a query, and its response as it arrives (RFC 8484 4)."""

    def __init__(self, octets: bytes, path: str, is_post: bool) -> None:
        self.id = octets[:2]
        self.fields = {'accept': DNS_MESSAGE}  # nothing that identifies the client
        if is_post:
            self.method, self.target, self.body = 'POST', path, octets
            self.fields |= {'content-type': DNS_MESSAGE, 'content-length': str(len(octets))}
        else:  # with the id 0, so that caches can reuse the response
            coded = binascii.b2a_base64(b'\0\0' + octets[2:], newline=False).rstrip(b'=')
            variable = f'{"&" if "?" in path else "?"}dns={coded.translate(URL_SAFE).decode()}'
            self.method, self.target, self.body = 'GET', path + variable, b''
        self.status: int | None = None
        self.age = 0  # seconds for which a cache had the response
        self.incoming = bytearray()
        self.stream_id = 0  # 0: not sent, or ended
        self.unsent = b''  # the rest of the body
        self.was_refused = False

    def head(self, status: str, content_type: str, age: str) -> None:
        """Takes the header fields of the response. Raises BadResponse."""
        self.age = int(age) if re.fullmatch('[0-9]{1,9}', age) else 0
        self.status = int(status) if re.fullmatch('[0-9]{3}', status) else None
        if self.status is None or not 200 <= self.status < 300:
            raise BadResponse(f'The HTTP status is {ascii(status[:64])[1:-1]}', self.status)
        if content_type.partition(';')[0].strip().lower() != DNS_MESSAGE:
            raise BadResponse(f'The content type is {content_type[:64]!a}', self.status)

    def add(self, octets: bytes) -> None:
        """Takes a piece of the body. Raises BadResponse."""
        self.incoming += octets
        if len(self.incoming) > MAX_MESSAGE:
            raise BadResponse(f'The response has more than {MAX_MESSAGE} octets', self.status)

    def reply(self) -> bytes:
        if self.method == 'GET' and self.incoming[:2] == b'\0\0':
            self.incoming[:2] = self.id
        octets = bytes(self.incoming)
        return aged(octets, self.age) if self.age else octets


HttpOutcome = bytes | BadResponse | OSError  # of a query: the reply or an error


class Http:
    """The framing of HTTPS, as `Frames`: a stream of HTTP/2 for each query, which is the key."""

    def __init__(self, authority: str, path: str, is_post: bool) -> None:
        self.head = {':scheme': 'https', ':authority': authority}
        self.path = path
        self.is_post = is_post
        self.unsent: deque[HttpExchange] = deque()
        self.exchanges: dict[int, HttpExchange] = {}  # those that were sent, by stream
        self.uploads: list[HttpExchange] = []  # those with an unsent rest
        self.incoming = bytearray()
        self.is_closing = False  # True after GOAWAY
        self.without_reply = 0  # octets since the last reply
        self.h2 = http_library()
        config = self.h2.config.H2Configuration(header_encoding=None)
        # One response with a forbidden field must not end the connection for all others.
        config.validate_inbound_headers = config.normalize_inbound_headers = False
        config.validate_outbound_headers = config.normalize_outbound_headers = False
        self.connection = self.h2.connection.H2Connection(config)
        settings = {self.h2.settings.SettingCodes.ENABLE_PUSH: 0}
        self.connection.local_settings = self.h2.settings.Settings(initial_values=settings)
        self.connection.initiate_connection()

    def pack(self, octets: bytes) -> HttpExchange:
        """Queues a query until a stream is free, and returns its key."""
        exchange = HttpExchange(octets, self.path, self.is_post)
        self.unsent.append(exchange)
        return exchange

    def to_send(self) -> bytes:
        """Returns what can be sent now, within the server's limits. Raises OSError."""
        connection = self.connection
        most = min(connection.remote_settings.max_concurrent_streams, MAX_STREAMS)
        try:
            while self.unsent and len(self.exchanges) < most and not self.is_closing:
                exchange = self.unsent.popleft()
                stream_id = exchange.stream_id = connection.get_next_available_stream_id()
                self.exchanges[stream_id] = exchange
                head = {':method': exchange.method, ':path': exchange.target, **self.head}
                head |= exchange.fields
                connection.send_headers(stream_id, head.items(), end_stream=not exchange.body)
                exchange.unsent = exchange.body
                self.uploads.append(exchange)
            for exchange in self.uploads:
                while exchange.unsent and exchange.stream_id:  # each turn sends some
                    room = connection.local_flow_control_window(exchange.stream_id)
                    room = min(room, connection.max_outbound_frame_size)
                    if room <= 0:
                        break
                    piece, exchange.unsent = exchange.unsent[:room], exchange.unsent[room:]
                    end_stream = not exchange.unsent
                    connection.send_data(exchange.stream_id, piece, end_stream=end_stream)
            self.uploads = [each for each in self.uploads if each.unsent and each.stream_id]
        except self.h2.exceptions.H2Error as error:
            raise OSError(errno.EPROTO, f'The request cannot be sent: {error}') from error
        return bytes(connection.data_to_send())

    def take(self, octets: bytes) -> Iterator[tuple[HttpExchange, HttpOutcome]]:
        """Yields the replies that are complete, and errors, with their keys. Raises OSError."""
        incoming = self.incoming
        incoming += octets
        self.without_reply += len(octets)
        last = None  # the last stream that the server still answers
        at = 0
        while len(incoming) >= at + FRAME_HEAD:  # each turn passes a frame, or removes it
            size = int.from_bytes(incoming[at : at + 3], 'big')
            if size > self.connection.max_inbound_frame_size:
                raise ConnectionAbortedError(errno.EPROTO, 'The server does not speak HTTP/2')
            end = at + FRAME_HEAD + size
            if len(incoming) < end:
                break
            # GOAWAY is kept from the library, which would end the connection before the replies
            # that are still on their way.
            if incoming[at + 3] == GOAWAY:
                last = int.from_bytes(incoming[at + 9 : at + 13], 'big')
                del incoming[at:end]
            else:
                at = end
        frames = bytes(incoming[:at])
        del incoming[:at]
        try:
            events = self.connection.receive_data(frames)
        except self.h2.exceptions.H2Error as error:
            raise ConnectionAbortedError(errno.EPROTO, f'HTTP/2 was violated: {error}') from error
        for event in events:
            if isinstance(event, self.h2.events.DataReceived):
                size = event.flow_controlled_length
                self.connection.acknowledge_received_data(size, event.stream_id)
            exchange = self.exchanges.get(getattr(event, 'stream_id', 0))
            if exchange is not None and (outcome := self.outcome(exchange, event)) is not None:
                self.without_reply = 0
                self.end(exchange, isinstance(outcome, BadResponse) and not event.stream_ended)
                yield exchange, outcome
        if last is not None:
            self.is_closing = True
            late = [exchange for number, exchange in self.exchanges.items() if number > last]
            for exchange in late:
                self.end(exchange, False)
            late += self.unsent
            self.unsent.clear()
            for exchange in late:
                yield exchange, ConnectionResetError(*WENT_AWAY)
        if self.without_reply > MAX_WITHOUT_REPLY:
            raise ConnectionAbortedError(errno.EPROTO, 'Too much HTTP/2 came without a reply')
        if self.is_closing and not self.exchanges:
            raise ConnectionResetError(*WENT_AWAY)

    def outcome(self, exchange: HttpExchange, event: Any) -> HttpOutcome | None:
        """Returns what an event means for a query: its reply, an error, or None if it goes on."""
        events = self.h2.events
        try:
            if isinstance(event, events.ResponseReceived):
                fields = dict(event.headers)
                names = b':status', b'content-type', b'age'
                exchange.head(*[fields.get(name, b'').decode('latin-1') for name in names])
            elif isinstance(event, events.DataReceived):
                self.without_reply -= len(event.data)
                exchange.add(event.data)
            elif isinstance(event, events.StreamEnded):
                return exchange.reply()
            elif isinstance(event, events.StreamReset):
                exchange.unsent = b''
                is_refused = event.error_code == self.h2.errors.ErrorCodes.REFUSED_STREAM
                if not is_refused or exchange.was_refused:
                    text = f'The server ended the request (RST_STREAM, error {event.error_code:d})'
                    return RequestEnded(errno.ECONNRESET, text)
                self.end(exchange, False)  # it is sent again, once (RFC 9113 8.7)
                exchange.was_refused = True
                self.unsent.append(exchange)
        except BadResponse as error:
            return error.with_traceback(None)
        return None

    def end(self, exchange: HttpExchange, is_to_reset: bool) -> None:
        """Ends an exchange. Resets its stream if asked to, or if the server waits for the rest."""
        stream_id, exchange.stream_id = exchange.stream_id, 0
        exchange.incoming = bytearray()
        del self.exchanges[stream_id]
        if is_to_reset or exchange.unsent:
            with contextlib.suppress(self.h2.exceptions.H2Error):  # the connection has ended
                self.connection.reset_stream(stream_id, self.h2.errors.ErrorCodes.CANCEL)

    def give_up(self, key: HttpExchange) -> bool:
        """Gives a query up. Returns whether its reply cannot come any more: here always."""
        if key.stream_id:
            self.end(key, True)
        elif key in self.unsent:
            self.unsent.remove(key)
        return True


# --- 13. The system's files --------------------------------------------------
#
# resolv.conf and hosts: lines in, values out; and the notations of a nameserver. A line
# that is not valid is skipped with a warning. Nothing here knows the resolver. Windows has
# its registry instead of resolv.conf.

CONTROL_SET = r'SYSTEM\CurrentControlSet'
REGISTRY = 'HKEY_LOCAL_MACHINE\\' + CONTROL_SET  # the path of what is read of it
TCPIP = [rf'{CONTROL_SET}\Services\{each}\Parameters' for each in ('Tcpip', 'Tcpip6')]
ADAPTERS = rf'{CONTROL_SET}\Control\Network\{{4D36E972-E325-11CE-BFC1-08002BE10318}}'
DISABLED = 1  # CONFIGFLAG_DISABLED of an adapter
# As in the C library: other blanks, and CR within a line, belong to a word.
WORD = re.compile('[^ \t\v\f\n]+')
COMMENT = re.compile('(?:^|[ \t\v\f])[#;]')
# The options that are supported, and the least and greatest number that glibc accepts.
NUMBER_OPTIONS = {'ndots': (0, 15), 'timeout': (1, 30), 'attempts': (1, 5)}
FLAG_OPTIONS = frozenset({'rotate', 'use-vc', 'trust-ad', 'no-aaaa'})
# Errors that last until the file is changed; the C library has the same list.
UNREADABLE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.EPERM}
)


def system_paths(platform: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Returns the paths of resolv.conf, or what there is instead, and of hosts."""
    if platform != 'win32':
        return '/etc/resolv.conf', '/etc/hosts'
    root = environ.get('SystemRoot', r'C:\Windows')
    return REGISTRY, rf'{root}\System32\drivers\etc\hosts'


RESOLV_CONF, HOSTS = system_paths(sys.platform, os.environ)
AddressPort = tuple[Any, int]  # the address is an ipaddress object or str
Nameserver = AddressPort | str  # a str is a URL
Addresses = tuple[IPv4Address, ...] | tuple[IPv6Address, ...]
# By name: addresses by type. Beside them are the first name of its first line, in its own letter
# case, at CANONICAL_NAME, and that of the first line with a type at CANONICAL_NAME less the type.
Hosts = dict[bytes, dict[int, Any]]
CANONICAL_NAME = -1
Search = tuple[bytes, ...]  # domains in lower case; the root may be among them
LOOPBACK: dict[int, Any] = {TYPES.A: IPv4Address('127.0.0.1'), TYPES.AAAA: IPv6Address('::1')}
SCOPE = re.compile(r'[^\0/#\]]{0,15}')  # IF_NAMESIZE is 16; these characters end it in a URL
DEFAULT_PORTS = {'udp': 53, 'tcp': 53, 'tls': 853, 'https': 443}  # RFC 1035, 7858, 8484
# Only https has a path, and only tls and https have the name of a certificate.
URL = (  # compiled when it is used
    r'(?P<scheme>udp|tcp|(?P<over_tls>tls|(?P<https>https)))://'
    r'(?:\[(?P<bracketed>[^]]+)\]|(?P<plain>[^]:/#[]+|[^]/#[]*:[^]/#[]*:[^]/#[]*))'
    r'(?::(?P<port>[0-9]{1,5}))?'
    r'(?(https)(?P<path>/[!-"$-~]*)?)'
    r'(?(over_tls)(?:#(?P<name>.+))?)'
)


def to_address(host: Any) -> IPv4Address | IPv6Address:
    """Returns an IP address, its scope checked for its form. Raises InvalidName or TypeError."""
    try:
        address = ip_address(host) if isinstance(host, str) else host
    except ValueError as error:
        raise InvalidName(f'{host!r} is not an IP address') from error
    if not isinstance(address, (IPv4Address, IPv6Address)):
        raise TypeError(f'An address has to be a str or an ipaddress object, not {host!r}')
    scope = (isinstance(address, IPv6Address) and address.scope_id) or ''
    if not SCOPE.fullmatch(scope) or (scope.isdecimal() and int(scope) >= 1 << 32):
        raise InvalidName(f'{scope[:32]!r} is not a valid scope of an IPv6 address')
    return address


def check_port(port: Any) -> None:
    """Raises InvalidName or TypeError if it is not a valid port."""
    if not isinstance(port, int):
        raise TypeError(f'A port has to be an int, not {port!r}')
    if not 0 < port < 65536:
        raise InvalidName(f'The port {port} is not between 1 and 65535')


def certificate_name(text: str) -> str:
    """Returns a name to verify a certificate for: a host name in ASCII, or an address."""
    name = to_name(text).decode('ascii')
    if '\\' not in text and re.fullmatch('[A-Za-z0-9_.-]+', name):
        return name
    try:
        return present_address(IPv6Address(text.partition('%')[0]))
    except ValueError as error:
        raise InvalidName(f'{text!r} is not a valid host name or address') from error


class Url(NamedTuple):
    scheme: str
    host: str
    port: int | None
    path: str
    name: str


def parse_url(url: str) -> Url:
    """Returns the parts of a nameserver's URL. Raises InvalidName."""
    parts = re.fullmatch(URL, url)
    if parts is None:
        raise InvalidName(
            f'{url!r} is not udp://ADDRESS[:PORT], tcp://ADDRESS[:PORT],'
            ' tls://ADDRESS[:PORT][#NAME] or https://ADDRESS[:PORT][/PATH][#NAME]'
        )
    host = parts['bracketed'] or parts['plain']
    port = int(parts['port']) if parts['port'] else None
    path = parts['path'] or (DNS_QUERY if parts['https'] else '')
    path = path.removesuffix('{?dns}')  # the end of a URI template (RFC 8484 4.1)
    name = certificate_name(parts['name']) if parts['name'] else ''
    return Url(parts['scheme'], host, port, path, name)


class Conf(NamedTuple):
    """The contents of resolv.conf(5), by default those of an empty file."""

    nameservers: tuple[AddressPort, ...] = ((IPv4Address('127.0.0.1'), 53),)
    search: Search = ()
    ndots: int = 1
    timeout: float = 0.5
    attempts: int = 5
    rotate: bool = False
    use_vc: bool = False
    trust_ad: bool = False
    no_aaaa: bool = False


def readable(parse: Callable[[str], Any], words: Iterable[str], file: str) -> Iterator[Any]:
    """Yields the parsed words. One that is not valid is skipped with a warning."""
    for word in words:
        try:
            yield parse(word)
        except InvalidName as error:
            logger.warning('Skipped %.128r of %s: %.256s', word, file, str(error))


def parse_resolv_conf(
    lines: Iterable[str], environ: Mapping[str, str] = os.environ, host_name: str | None = None
) -> Conf:
    """Parses resolv.conf(5), and LOCALDOMAIN and RES_OPTIONS; the last setting wins.

    Without a search list it is the domain of this host's name. Unknown options are ignored.
    """
    host_name = socket.gethostname() if host_name is None else host_name
    domains = WORD.findall(host_name.partition('.')[2])
    nameservers: list[AddressPort] = []
    options: list[str] = []
    for line in lines:
        keyword, *values = WORD.findall(COMMENT.split(line.rstrip('\r\n'))[0]) or ['options']
        if keyword == 'nameserver':
            addresses = readable(to_address, values[:1] or [''], 'the nameservers')
            nameservers += [(address, 53) for address in addresses]
        elif keyword == 'options':
            options += values
        elif keyword in ('search', 'domain'):
            domains = (values if keyword == 'search' else values[:1]) or domains
        elif keyword != 'sortlist':
            logger.warning('Skipped %.128r of resolv.conf: not a known keyword', keyword)

    if 'LOCALDOMAIN' in environ:  # an empty one means no search list
        domains = WORD.findall(environ['LOCALDOMAIN'].partition('\n')[0])
    if len(domains) > MAX_SEARCH:
        logger.warning('Skipped the domains of the search list after the first %s', MAX_SEARCH)
    names = readable(to_name, domains[:MAX_SEARCH], 'the search list')
    said: dict[str, Any] = {'search': tuple(dict.fromkeys([name.lower() for name in names]))}
    if nameservers:
        said['nameservers'] = tuple(nameservers)

    for option in options + WORD.findall(environ.get('RES_OPTIONS', '')):
        name, _, number = option.partition(':')
        if option in FLAG_OPTIONS:
            said[option.replace('-', '_')] = True
        elif option != name in NUMBER_OPTIONS:
            if number.isascii() and number.isdigit():
                least, most = NUMBER_OPTIONS[name]
                digits = '0' + number.lstrip('0')[:3]  # more would be out of range, too
                said[name] = min(max(least, int(digits)), most)
            else:
                logger.warning('Skipped the option %.64r of resolv.conf: not a number', option)
    return Conf(**said)


def parse_hosts(lines: Iterable[str]) -> Hosts:
    """Returns the addresses in hosts(5) by name, in lower case, and type; and canonical names.

    A name has no address of a family that is not there, save that the line `127.0.0.1 localhost`
    says nothing about IPv6.
    """
    hosts: Hosts = {}
    for line in lines:
        words = WORD.findall(line.rstrip('\r\n').partition('#')[0])
        for address in readable(to_address, words[:1], 'hosts'):
            qtype = TYPES.A if address.version == 4 else TYPES.AAAA
            canonical = None
            for name in readable(to_name, words[1:], 'hosts'):
                canonical = canonical or name
                new = {TYPES.A: (), TYPES.AAAA: (), CANONICAL_NAME: canonical}
                known = hosts.setdefault(name.lower(), new)
                known.setdefault(CANONICAL_NAME - qtype, canonical)
                if address not in known[qtype]:
                    known[qtype] += (address,)

    for name, known in hosts.items():
        addresses = known[TYPES.A] + known[TYPES.AAAA]
        if is_at_or_below(name, b'localhost') and {*addresses} <= {*LOOPBACK.values()}:
            # This is so without hosts, too: it does not take away the other family.
            hosts[name] = {qtype: found for qtype, found in known.items() if found}
    return hosts


def parse_host_names(lines: Iterable[str]) -> dict[IPv4Address | IPv6Address, bytes]:
    """Returns the names of the addresses in hosts(5): of each, the first in its first line.

    As in the C library ::1 and IPv4-mapped addresses also stand for IPv4 ones. `parse_hosts` warns
    of what is not valid.
    """
    names: dict[IPv4Address | IPv6Address, bytes] = {}
    for line in lines:
        words = WORD.findall(line.rstrip('\r\n').partition('#')[0])
        with contextlib.suppress(InvalidName, IndexError):
            address, name = to_address(words[0]), to_name(words[1])
            names.setdefault(address, name)
            if isinstance(address, IPv6Address):
                mapped = LOOPBACK[TYPES.A] if int(address) == 1 else address.ipv4_mapped
                names.setdefault(mapped or address, name)
    return names


class ConfigFile:
    """A parsed file of the system, read again after it has changed."""

    def __init__(self, path: str, parse: Callable[[Iterable[str]], Any]) -> None:
        self.path = path
        self.parse = parse
        self.looked_at = float('-inf')
        self.signature: tuple[int, ...] | None = ()  # None: the file is missing
        self.value: Any = None

    def current(self, now: float) -> Any:
        """Returns the parsed file as of STAT_SECONDS ago at most; a missing file is empty.

        Raises SocketError if it was never read, and there is no descriptor or memory to do so now:
        the defaults could lead to answers that the file would not give.
        """
        if 0 <= now - self.looked_at < STAT_SECONDS:
            return self.value
        signature: tuple[int, ...] | None = None
        with contextlib.suppress(OSError):  # there is no file
            status = os.stat(self.path)
            signature = *status[:7], status.st_mtime_ns, status.st_ctime_ns
        if signature != self.signature:
            logger.debug('Reading %s', self.path)
            try:
                with open(
                    self.path, encoding='utf-8', errors='surrogateescape', newline='\n'
                ) as lines:
                    value = self.parse(lines)
            except OSError as error:
                is_shortage = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
                if self.value is None and is_shortage:
                    raise SocketError(error.errno, f'{self.path}: {error.strerror}') from error
                if error.errno != errno.ENOENT:
                    logger.warning('Cannot read %s: %s', self.path, str(error))
                is_lasting = error.errno in UNREADABLE  # not if there was no descriptor
                value = self.parse(()) if is_lasting or self.value is None else self.value
                signature = signature if is_lasting else self.signature
            # In this order: another thread, or the next call after an error, reads it again.
            self.value = value
            self.signature = signature
        self.looked_at = now
        return self.value


def registry_key(path: str) -> tuple[Any, Any]:
    """Returns the module winreg, and this key of it for a `with`. Raises OSError."""
    import winreg  # built into the Python of Windows, so it needs no descriptor

    registry: Any = winreg  # to mypy it is empty elsewhere
    return registry, registry.OpenKey(registry.HKEY_LOCAL_MACHINE, path)


@functools.lru_cache(maxsize=64)
def warn_of_value(path: str, name: str, why: str) -> None:
    """Logs a warning once, although the registry is read every STAT_SECONDS."""
    logger.warning('Skipped %s of the registry, %s: %s', name, path, why)


def registry_value(path: str, name: str) -> Any:
    """Returns a value of the registry, '' if there is none to read. Raises OSError."""
    try:
        registry, opened = registry_key(path)
        with opened as key:
            return registry.QueryValueEx(key, name)[0]
    except FileNotFoundError:
        return ''
    except PermissionError as error:
        warn_of_value(path, name, str(error))
        return ''


def registry_words(path: str, *names: str) -> list[str]:
    """Returns the words of the first of these values that has some: between blanks or commas."""
    for name in names:
        value = registry_value(path, name)
        if not isinstance(value, str):
            warn_of_value(path, name, 'not text')
        elif words := value.replace(',', ' ').split():
            return words
    return []


def registry_lines() -> Iterator[str]:
    """Yields what resolv.conf would say, of all interfaces whose adapter is not disabled.

    Which of the others are connected is not in the registry (dnspython, too, reads this much).
    """
    nameservers = registry_words(TCPIP[0], 'NameServer')
    domains = registry_words(TCPIP[0], 'Domain', 'DhcpDomain')
    for interfaces in [rf'{path}\Interfaces' for path in TCPIP]:
        guids = []
        with contextlib.suppress(FileNotFoundError):  # IPv6 may be missing
            registry, opened = registry_key(interfaces)
            with opened as key:
                count = registry.QueryInfoKey(key)[0]
                guids = [registry.EnumKey(key, index) for index in range(count)]
        for guid in guids:
            device = registry_value(rf'{ADAPTERS}\{guid}\Connection', 'PnpInstanceID')
            flags = registry_value(rf'{CONTROL_SET}\Enum\{device}', 'ConfigFlags')
            if not (isinstance(flags, int) and flags & DISABLED):
                path = rf'{interfaces}\{guid}'
                nameservers += registry_words(path, 'NameServer', 'DhcpNameServer')
                domains += registry_words(path, 'Domain', 'DhcpDomain')
    yield from [f'nameserver {address}' for address in dict.fromkeys(nameservers)]
    # DHCP may begin a domain with a dot.
    domains = [each.lstrip('.') for each in registry_words(TCPIP[0], 'SearchList') or domains]
    yield ' '.join(['search', *filter(None, domains)])


class RegistryFile(ConfigFile):
    """The registry of Windows as a parsed resolv.conf."""

    lines: list[str] | None = None

    def current(self, now: float) -> Any:
        """Returns the parsed registry as of STAT_SECONDS ago at most.

        If it cannot be read, it is as it was. Raises SocketError if it was never read.
        """
        if not 0 <= now - self.looked_at < STAT_SECONDS:
            try:
                lines = [*registry_lines()]
            except OSError as error:
                if self.lines is None:
                    raise SocketError(error.errno, f'The registry: {error.strerror}') from error
                logger.warning('Cannot read the registry: %s', str(error))
                lines = self.lines
            if lines != self.lines:
                logger.debug('Reading %s', self.path)
                self.value = self.parse(lines)
                self.lines = lines
            self.looked_at = now
        return self.value


@functools.lru_cache(maxsize=64)
def config_file(path: str, parse: Callable[[Iterable[str]], Any]) -> ConfigFile:
    """Returns the one file with this path that all resolvers share."""
    return RegistryFile(path, parse) if path == REGISTRY else ConfigFile(path, parse)


class SystemConfig:
    """The system's files as a resolver uses them, and when to check them again."""

    def __init__(
        self, resolv_conf: ConfigFile | None, hosts: ConfigFile | None, search: Search | None
    ) -> None:
        self.files = resolv_conf, hosts
        self.has_nameservers = resolv_conf is not None
        self.given_search = search
        # No check is needed from `since` until `due`, on the clock of a loop: that of another
        # loop may be far behind.
        self.since = float('-inf')
        self.due = float('-inf') if resolv_conf or hosts else float('inf')
        self.hosts: Hosts = {}
        self.use(Conf())

    def use(self, conf: Conf) -> None:
        """Takes the settings of this resolv.conf. A search list of only the root is none."""
        search = conf.search if self.given_search is None else self.given_search
        self.conf = conf
        self.sets: tuple[Any, ...] = ()  # of nameservers, made when they are needed
        self.search = search if any(search) else ()
        self.ndots = conf.ndots if self.search else 0  # dots that a name needs to be asked first

    def reload_if_changed(self, now: float) -> bool:
        """Checks the files. Returns whether one of them has been read again."""
        resolv_conf, hosts = self.files
        conf = resolv_conf.current(now) if resolv_conf is not None else self.conf
        names = hosts.current(now) if hosts is not None else self.hosts
        # Also if they are equal: an address may be another nameserver in another network.
        is_changed = conf is not self.conf or names is not self.hosts
        self.use(conf)
        self.hosts = names
        self.since = now
        looked_at = [file.looked_at for file in self.files if file is not None]
        self.due = min(looked_at, default=float('inf')) + STAT_SECONDS
        return is_changed


# --- nothing above this line awaits ------------------------------------------


# --- 14. Event loop ----------------------------------------------------------
#
# All that is needed of an event loop: readiness of sockets, timeouts, and the limit on open
# sockets, shared by everything on one loop. Callbacks act at once, so each loop here may be
# entered again from a callback. If one raises, only its owner ends. Nothing here knows DNS.
#
# An owner, which is called back, has those of these methods that it needs: `on_readable(fd)`,
# which may find nothing to read; `on_timeout()`; `on_permit()`; `evict()`, to close a socket
# that is idle; and `abort(error)`, after one of these has raised.

Loop = asyncio.AbstractEventLoop
Address = tuple[Any, ...]  # as `connect` takes it


def log_debug(context: Context | None, text: str, *arguments: Any) -> None:
    """Logs at level DEBUG in the given context; does nothing if it is None."""
    if context is not None:
        context.copy().run(logger.debug, text, *arguments)


def abort(owner: Any, error: Exception) -> None:
    """Aborts the owner of a callback that raised. Whoever called it continues."""
    try:
        owner.abort(error)
    except Exception as second:
        context = {'message': 'Exception in abort after a callback', 'exception': second}
        asyncio.get_running_loop().call_exception_handler(context)


def call_back(owner: Any, callback: Callable[..., None], *arguments: Any) -> None:
    """Calls `callback`. If it raises, its owner is aborted."""
    try:
        callback(*arguments)
    except Exception as error:
        abort(owner, error)


EPOLL_READ = select.EPOLLIN | select.EPOLLET if hasattr(select, 'epoll') else 0


class Epoll:
    """Waits with its own epoll, whose one descriptor the loop watches: the fastest way.

    It is edge-triggered: an event comes once, also for a socket that a forked child still holds.
    A socket leaves the epoll when it is closed.
    """

    def __init__(self) -> None:
        self.epoll: Any = None
        self.owners: dict[int, Any] = {}

    def open(self, sock: socket.SocketType, address: Address, owner: Any, loop: Loop) -> Any:
        """Connects a socket, watches it, and returns what to use instead. Raises OSError."""
        try:
            sock.connect(address)
        except BlockingIOError:
            if sock.type == socket.SOCK_DGRAM:  # no local port is free
                raise
        fd = sock.fileno()
        if self.epoll is None:
            self.watch(fd, owner, loop)
        else:  # nearly always
            self.epoll.register(fd, EPOLL_READ)
            self.owners[fd] = owner
        return sock

    def watch(self, fd: int, owner: Any, loop: Loop) -> None:
        """Calls the owner when there is something to read. Raises OSError."""
        if self.epoll is None:
            epoll = select.epoll()
            # In an empty context: otherwise the loop would call in that of the first caller.
            Context().run(loop.add_reader, epoll.fileno(), self.drain)
            self.epoll = epoll
        self.epoll.register(fd, EPOLL_READ)
        self.owners[fd] = owner

    def unwatch(self, fd: int, owner: Any) -> None:
        """Undoes `watch`, for a socket that stays open."""
        if self.owners.get(fd) is owner:
            del self.owners[fd]
            with contextlib.suppress(OSError):  # the caller has closed the socket
                self.epoll.unregister(fd)

    def again(self, fd: int) -> None:
        """Calls the owner again, because it has left something unread."""
        self.epoll.modify(fd, EPOLL_READ)

    def writable(self, fd: int) -> None:
        """Calls the owner when the socket can be written to."""
        self.epoll.modify(fd, EPOLL_READ | select.EPOLLOUT)

    def close(self, fd: int) -> None:
        """Forgets the owner, which closes the socket next."""
        self.owners.pop(fd, None)

    def drain(self) -> None:
        # An event may belong to an earlier socket with the same number: the owner reads nothing.
        for fd, _ in self.epoll.poll(0):
            owner = self.owners.get(fd)
            if owner is not None:
                try:
                    owner.on_readable(fd)
                except Exception as error:
                    abort(owner, error)


class Readers(Epoll):
    """Waits with a reader of the loop for each socket, where there is no epoll, as on macOS."""

    def watch(self, fd: int, owner: Any, loop: Loop) -> None:
        Context().run(loop.add_reader, fd, call_back, owner, owner.on_readable, fd)
        self.owners[fd] = owner, loop

    def unwatch(self, fd: int, owner: Any) -> None:
        if self.owners.get(fd, (None,))[0] is owner:
            self.close(fd)

    def again(self, fd: int) -> None:
        """Does nothing: the loop calls while there is something to read."""

    def writable(self, fd: int) -> None:
        owner, loop = self.owners[fd]

        def write() -> None:
            loop.remove_writer(fd)
            call_back(owner, owner.on_readable, fd)

        Context().run(loop.add_writer, fd, write)

    def close(self, fd: int) -> None:
        if fd in self.owners:
            _, loop = self.owners.pop(fd)
            loop.remove_reader(fd)
            loop.remove_writer(fd)


class Endpoint(asyncio.DatagramProtocol, asyncio.Protocol):
    """A socket that a transport of the loop reads, and that its owner uses as a socket.

    It is closed one turn of the loop late, so that its descriptor is not used again before.
    """

    def __init__(self, sock: socket.SocketType, address: Address, owner: Any, loop: Loop) -> None:
        # A socket.socket, because Windows' loop keeps weak references to it.
        self.sock = socket.socket(sock.family, sock.type, sock.proto, sock.detach())
        self.sock.setblocking(False)
        self.fileno, self.setsockopt = self.sock.fileno, self.sock.setsockopt
        self.fd = self.sock.fileno()
        self.owner: Any = owner
        self.received: bytes | Exception | None = None
        self.transport: Any = None
        self.task = Context().run(loop.create_task, self.make_transport(address, loop))

    async def make_transport(self, address: Address, loop: Loop) -> None:
        try:
            if self.sock.type == socket.SOCK_STREAM:
                await loop.sock_connect(self.sock, address)
                await loop.create_connection(lambda: self, sock=self.sock)
            else:
                await loop.create_datagram_endpoint(lambda: self, sock=self.sock)
        except OSError as error:
            self.tell(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.owner is None:
            self.transport.abort()
        self.tell(None)

    def tell(self, received: bytes | Exception | None) -> None:
        """Calls the owner, which receives this."""
        self.received = received
        if self.owner is not None:
            call_back(self.owner, self.owner.on_readable, self.fd)

    def data_received(self, data: bytes, addr: Any = None) -> None:
        self.tell(bytes(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.tell(exc or b'')

    datagram_received, error_received = data_received, connection_lost

    def recv(self, _: int, /) -> bytes:
        received, self.received = self.received, None
        if isinstance(received, bytes):
            return received
        try:
            raise received or BlockingIOError
        finally:
            del received  # its traceback refers to this frame

    def send(self, octets: bytes | bytearray, /) -> int:
        """Sends a datagram, or all the octets: a transport for a stream has a buffer."""
        if self.sock.type == socket.SOCK_DGRAM:
            return self.sock.send(octets)
        if self.transport is None:
            raise BlockingIOError
        self.transport.write(bytes(octets))  # a copy, because the caller goes on to change them
        return len(octets)

    def close(self) -> None:
        self.owner = None
        self.task.cancel()
        if self.transport is not None:
            self.transport.abort()
        else:
            self.task.add_done_callback(lambda _: self.sock.close())


class Endpoints(Readers):
    """Waits with a transport for each socket, where the loop has no readers, as on Windows.

    A transport does not give its socket back, so a caller's socket is polled.
    """

    def open(self, sock: socket.SocketType, address: Address, owner: Any, loop: Loop) -> Any:
        if sock.type != socket.SOCK_STREAM:
            sock.connect(address)
        endpoint = Endpoint(sock, address, owner, loop)
        self.owners[endpoint.fd] = owner, None
        return endpoint

    def watch(self, fd: int, owner: Any, loop: Loop) -> None:
        self.owners[fd] = owner, loop.call_soon(self.poll, fd, loop, context=Context())

    def poll(self, fd: int, loop: Loop) -> None:
        owner, _ = self.owners[fd]
        handle = loop.call_later(POLL_SECONDS, self.poll, fd, loop, context=Context())
        self.owners[fd] = owner, handle
        call_back(owner, owner.on_readable, fd)

    def writable(self, fd: int) -> None:
        """Does nothing: the owner is called when there is a transport, which takes everything."""

    def close(self, fd: int) -> None:
        _, handle = self.owners.pop(fd, (None, None))
        if handle is not None:
            handle.cancel()


class Timers:
    """Timeouts of a few different lengths: a queue for each, in order, and one timer of the loop.

    After the last timeout is stopped, the timer stays for the rest of this turn of the loop,
    because a program that gets an answer often asks again at once.
    """

    def __init__(self) -> None:
        self.queues: dict[float, dict[Any, float]] = {}
        self.handle: asyncio.TimerHandle | None = None
        self.due_at = 0.0

    def start(self, seconds: float, owner: Any, loop: Loop) -> None:
        """Calls `owner.on_timeout()` in `seconds`. An owner has one timeout at a time."""
        deadline = loop.time() + seconds
        self.queues.setdefault(seconds, {})[owner] = deadline
        if self.handle is None or deadline < self.due_at:
            self.arm(deadline, loop)

    def stop(self, seconds: float, owner: Any, loop: Loop) -> None:
        """Cancels a timeout, if it has not expired."""
        queue = self.queues.get(seconds)
        if queue is not None:
            queue.pop(owner, None)
            if not queue:
                del self.queues[seconds]
                if not self.queues and loop.is_closed():
                    self.disarm()
                elif not self.queues:
                    loop.call_soon(self.disarm, context=Context())

    def disarm(self) -> None:
        """Cancels the timer if there is no timeout."""
        if not self.queues and self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def arm(self, deadline: float, loop: Loop) -> None:
        if self.handle is not None:
            self.handle.cancel()
        self.handle = loop.call_at(deadline, self.expire, loop, context=Context())
        self.due_at = deadline

    def expire(self, loop: Loop) -> None:
        """Calls the owners of all timeouts that are due, and sets the timer for the next."""
        self.handle = None
        now = loop.time()
        # Owners may start and stop timeouts: one that they start expires in a later turn.
        due: list[tuple[float, Any, float]] = []
        for seconds, queue in self.queues.items():
            for owner, deadline in queue.items():
                if deadline > now:
                    break
                due.append((seconds, owner, deadline))
        for seconds, owner, deadline in due:
            if seconds in self.queues and self.queues[seconds].get(owner) == deadline:
                self.stop(seconds, owner, loop)
                call_back(owner, owner.on_timeout)
        if self.queues:
            self.arm(min(next(iter(queue.values())) for queue in self.queues.values()), loop)


class SocketLimit:
    """Permits to open a socket, and a queue of those who wait for one.

    An idle stream is evicted when its permit is needed, the oldest first, or when the loop ends.
    While anybody waits, no permit is free and no stream is idle.

    This prevents deadlock: before a lookup waits here, it gives up all its sockets
    (`Lookup.make_room`). Before it waits for a get_nameservers, which may resolve too, it makes
    sure that a permit is free or a stream can become idle (`Lookup.request_set`). A transfer
    leaves the last permit to others: the program that takes its changes may need one meanwhile.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self.queue: OrderedDict[Any, None] = OrderedDict()
        self.transfers: OrderedDict[Any, None] = OrderedDict()  # those that wait for one
        self.is_granting = False
        self.idle: OrderedDict[Any, None] = OrderedDict()
        self.keeper: AsyncGenerator[None, None] | None = None

    def acquire(self) -> bool:
        """Takes a permit if one is free or a stream is idle. Returns whether it did."""
        if not self.free:
            if not self.idle:
                return False
            next(iter(self.idle)).evict()
        self.free -= 1
        return True

    def enqueue(self, owner: Any, is_first: bool) -> None:
        """Calls `owner.on_permit()` when it has a permit, unless it is removed from `queue`."""
        self.queue[owner] = None
        if is_first:
            self.queue.move_to_end(owner, last=False)

    def release(self) -> None:
        """Returns a permit, which goes to the first in the queue, if any."""
        self.free += 1
        if self.is_granting or not (self.queue or self.transfers):
            return  # if called from a callback, the loop below goes on
        self.is_granting = True
        try:
            while self.free:  # each turn removes one
                queue = self.queue
                if not queue and self.free + len(self.idle) > 1:
                    queue = self.transfers
                if not queue:
                    break
                self.free -= 1
                owner, _ = queue.popitem(last=False)
                call_back(owner, owner.on_permit)
        finally:
            self.is_granting = False

    def add_idle(self, stream: Any) -> bool:
        """Adds an idle stream, which may be evicted. Returns False if its permit is needed now."""
        if self.queue or self.transfers:
            return False
        if self.keeper is None:
            self.keeper = self.evict_at_the_end()
            with contextlib.suppress(StopIteration):  # raised when it yields
                self.keeper.asend(None).send(None)
        self.idle[stream] = None
        return True

    async def evict_at_the_end(self) -> AsyncGenerator[None, None]:
        """Evicts all idle streams when the loop closes its asynchronous generators."""
        try:
            yield  # a task would block a program that waits for all tasks to end
        finally:
            self.keeper = None  # which refers to the loop
            while self.idle:  # each turn removes one
                next(iter(self.idle)).evict()

    def abandon(self) -> None:
        """Closes all idle streams after the loop was closed, when it can no longer be used."""
        while self.idle:  # each turn removes one
            self.idle.popitem()[0].abandon()


def max_open_sockets() -> int:
    """Returns how many sockets may be open: half of what the system allows, at most MAX_OPEN."""
    if not hasattr(os, 'sysconf'):  # on Windows
        return MAX_SELECTED // 2
    allowed = os.sysconf('SC_OPEN_MAX')  # the soft RLIMIT_NOFILE; negative if there is no limit
    return MAX_OPEN if allowed < 0 else max(1, min(MAX_OPEN, allowed // 2))


class LoopResources(NamedTuple):
    """What everything on one event loop shares."""

    sockets: Epoll
    timers: Timers
    limit: SocketLimit
    batch: list[Any]  # lookups that send in the next turn of the loop, together


# By id(loop). An entry goes with its loop, to which it must not refer while no socket is open.
RESOURCES: dict[int, tuple[ReferenceType[Loop], LoopResources]] = {}


def resources_of(loop: Loop) -> LoopResources:
    """Returns the resources of an event loop, with the best way to wait that it has."""
    entry = RESOURCES.get(id(loop))
    if entry is not None:
        return entry[1]
    for key, (reference, ended) in list(RESOURCES.items()):  # other threads may have loops too
        other = reference()
        if other is not None and other.is_closed() and RESOURCES.pop(key, None) is not None:
            ended.limit.abandon()
    # AbstractEventLoop's own raises NotImplementedError; Windows' loop inherits it.
    if getattr(loop.add_reader, '__func__', None) is asyncio.AbstractEventLoop.add_reader:
        sockets: Epoll = Endpoints()
    else:
        sockets = Epoll() if hasattr(select, 'epoll') else Readers()
    resources = LoopResources(sockets, Timers(), SocketLimit(max_open_sockets()), [])
    number = id(loop)
    RESOURCES[number] = ref(loop, lambda _: RESOURCES.pop(number, None)), resources
    return resources


# --- 15. Exchanges -----------------------------------------------------------
#
# One query on its way to one nameserver: as a datagram from its own socket, or on a stream
# that all queries to that nameserver share. The law: `on_outcome` is never called before
# `send` has returned, nor after the exchange was closed. It is called once, with two
# exceptions: if it raises, it is called again with the exception; and after a DOUBTFUL outcome,
# because the socket of a datagram goes on listening. A datagram for which `read` raises is
# dropped. On a lasting stream a message with an unknown id is dropped, and too many of them
# end the stream; on a stream for a single query, or a caller's, it is an error. This section
# does not judge answers: `Lookup.ask_elsewhere` decides what to do when a stream has ended.
#
# To add a framing (`pack`, `to_send`, `take`, `give_up`, `is_closing`, like Frames and Http),
# choose it in `Stream`, and add its scheme to URL, DEFAULT_PORTS, OVER and, over TLS, ALPN.
# A transport that is not a stream needs its own exchange, a branch in `send`, and a check of
# each place where a lookup tells datagrams from streams.

# Makes a socket non-blocking, where the system has the flag; elsewhere `open_socket` does.
NONBLOCK: int = getattr(socket, 'SOCK_NONBLOCK', 0)
QUICKACK: int = getattr(socket, 'TCP_QUICKACK', 0)
UDP = socket.SOCK_DGRAM | NONBLOCK
TCP = socket.SOCK_STREAM | NONBLOCK
# How a nameserver is asked: ALONE is a second stream, with one query at a time. RETIRED is a
# stream that takes no new query.
DATAGRAM, STREAM, ALONE, RETIRED = range(4)
DOES_NOT_READ = f'The server does not read: more than {MAX_OUTGOING} octets wait to be sent'
OVER = {'udp': 'TCP', 'tcp': 'TCP', 'tls': 'TLS', 'https': 'HTTPS'}  # names of the streams
PROBE_ORDER: itertools.count[int] = itertools.count(1)  # of unresponsive nameservers
GIVEN_UP = errno.ECONNRESET, 'The connection is no longer used'


class LetterCase:
    """What a nameserver does about capital letters in a name, and checks of it.

    Some compare letter case: to a name with a capital they are silent, or say that it is absent.
    So such an absence is checked by a query in lower case. Times are on the loop's clock.
    """

    def __init__(self) -> None:
        self.lower_until = 0.0  # names go out in lower case
        # When it last gave records for a name with a capital; less than a minute too early.
        self.confirmed_at = float('-inf')
        self.unanswered = 0  # names in a row that it answered only in lower case
        self.checked_at = (float('-inf'),) * 2  # when the last two checks began
        self.checking: tuple[Any, ...] = ()  # the lookups whose check is on its way
        self.waiting: dict[Any, None] = {}  # lookups that wait for the outcome of these checks

    def confirm(self, now: float) -> None:
        """Takes note that it gave records for a name with a capital."""
        self.confirmed_at = now
        self.unanswered = 0

    def is_confirmed(self, now: float) -> bool:
        return now <= self.confirmed_at + CONFIRMED_SECONDS + CONFIRM_AGAIN_SECONDS

    def begin_check(self, lookup: Any, now: float) -> bool:
        """Returns whether a lookup is to ask in lower case: it is known to help, or may do so."""
        if self.lower_until > now:
            return True
        if now < self.checked_at[0] + CHECKS_SECONDS:
            return False
        self.checked_at = self.checked_at[1], now
        self.checking += (lookup,)
        return True

    def wait_for_checks(self, lookup: Any) -> bool:
        """Has a lookup wait for the checks of others. Returns False if there are none."""
        # Those of a loop that has ended will never end.
        self.checking = tuple([each for each in self.checking if each.loop is lookup.loop])
        if self.waiting and next(iter(self.waiting)).loop is not lookup.loop:
            self.waiting = {}
        if self.checking:
            self.waiting[lookup] = None
        return bool(self.checking)

    def end_check(self, lookup: Any, is_vain: bool) -> None:
        """Takes note that a lookup checks or waits no more, and wakes those who wait for it.

        A check that `is_vain`, because the lookup ended before its outcome, may be made again.
        """
        self.waiting.pop(lookup, None)
        if lookup in self.checking:
            self.checking = tuple([each for each in self.checking if each is not lookup])
            if is_vain:
                self.checked_at = float('-inf'), self.checked_at[0]
            waiting, self.waiting = self.waiting, {}
            for each in waiting:
                if each.loop is lookup.loop:
                    each.advance_soon()


class Server:
    """A nameserver's address, and what has been found out about it.

    Times are on the loop's clock; 0.0 means never.
    """

    def __init__(
        self, where: Any, port: Any, scheme: str = 'udp', name: str = '', path: str = ''
    ) -> None:
        """Raises InvalidName for a wrong address or port, TypeError for another type."""
        address = to_address(where)
        check_port(port)
        text = present_address(address)
        host, _, self.scope = text.partition('%')  # of an IPv6 address, or empty
        is_ipv4 = isinstance(address, IPv4Address)
        self.family = socket.AF_INET if is_ipv4 else socket.AF_INET6
        self.address = host, port
        self.scheme = scheme
        self.name = name or host  # that its certificate has to be for
        self.path = path  # of HTTP, or empty
        self.is_post = True  # rather than GET
        self.context: SSLContext | None = None  # None: the system's authorities
        self.source: Address | None = None  # to send from; None: any
        self.is_stream = scheme != 'udp'  # it is asked over streams only
        self.text = f'{text}:{port}' if is_ipv4 else f'[{text}]:{port}'
        self.url = f'{scheme}://{self.text}{path}#{self.name}'  # equal for all spellings
        self.idle_seconds = IDLE_SECONDS  # how long its idle stream is kept
        # By way, at most two: ALONE or RETIRED, on which somebody still waits, beside STREAM.
        self.streams: dict[int, Stream] = {}
        self.letter_case = LetterCase()
        self.no_edns_until = 0.0
        self.edns_unanswered = 0  # names in a row that it answered only without EDNS
        self.one_at_a_time_until = 0.0
        self.answered_alone = 0  # queries that it answered alone, but not among others
        self.unresponsive_until = 0.0
        self.probe_order = 0  # the unresponsive nameserver with the lowest is tried first
        self.responded_at = -1.0

    def may_be_asked(self, now: float) -> bool:
        """Returns whether it may be asked; after it was skipped, once every PROBE_SECONDS."""
        if now < self.unresponsive_until:
            return False
        if self.unresponsive_until:
            self.unresponsive_until = now + PROBE_SECONDS
        return True

    def found_unresponsive(self, now: float) -> None:
        """Has it skipped for a while, where there are others to ask."""
        if self.unresponsive_until <= now:
            self.probe_order = next(PROBE_ORDER)
        self.unresponsive_until = now + UNRESPONSIVE_SECONDS

    def stream_for(self, way: int, loop: Loop) -> Stream | None:
        """Returns the stream on which to ask it in this way, if there is one that can be used.

        Not if many queries were given up unanswered, the server is going away, or no reply came.
        """
        stream = self.streams.get(way)
        if stream is None:
            return None
        if stream.loop is not loop:  # the other loop has ended, and can no longer be used
            for each in self.streams.values():
                each.abandon()
            self.streams.clear()
            return None
        given_up = len(stream.pending) - stream.live
        if given_up <= MAX_GIVEN_UP and not stream.framing.is_closing:
            since = stream.silent_since
            if since is None or since > loop.time() - SILENT_SECONDS:
                return stream
            if any([each.live for each in self.streams.values() if each is not stream]):
                return stream  # a third stream would close one on which others still wait
        self.retire(stream)
        return None

    def retire(self, stream: Stream) -> None:
        """Takes a stream out of use. It is closed when nobody waits on it any more."""
        self.streams = {way: each for way, each in self.streams.items() if each is not stream}
        if not stream.live:
            stream.close()
        elif stream.is_open:
            self.close_retired()
            self.streams[RETIRED] = stream
            if len(self.streams) > 1:
                self.close_retired()

    def close_retired(self) -> None:
        """Closes the retired stream. Queries that wait on it are asked elsewhere."""
        retired = self.streams.pop(RETIRED, None)
        if retired is not None and retired.loop.is_closed():
            retired.abandon()
        elif retired is not None:
            retired.close()  # queries are told in the next turn, when the new stream exists
            error = ConnectionResetError(*GIVEN_UP)
            retired.loop.call_soon(retired.fail, error, context=Context())


def to_server(nameserver: Nameserver) -> Server:
    """Returns a new Server. Raises InvalidName, TypeError, or as `http_library`."""
    if isinstance(nameserver, tuple) and len(nameserver) == 2:
        return Server(*nameserver)
    if not isinstance(nameserver, str):
        raise TypeError(f'A nameserver has to be (address, port) or a URL, not {nameserver!r}')
    url = parse_url(nameserver)
    if url.scheme == 'https':
        http_library()
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    return Server(url.host, port, url.scheme, url.name, url.path)


def authority_of(host: str, port: int | None) -> str:
    """Returns the `:authority` of HTTP: the host, and the port unless it is 443."""
    name = f'[{host}]' if ':' in host else host
    return name if port == DEFAULT_PORTS['https'] else f'{name}:{port}'


def scoped(address: tuple[str, int], scope: str) -> Address:
    """Returns an address for `connect` or `bind`. Raises OSError if there is no such scope."""
    if not scope:
        return address
    if scope.isdecimal():
        return *address, 0, int(scope)
    try:
        return *address, 0, socket.if_nametoindex(scope)
    except (OSError, UnicodeError) as error:  # without errno on some Pythons
        check_descriptors(f'The network interface {scope!r} cannot be looked up')
        raise OSError(errno.ENODEV, f'There is no network interface {scope!r}') from error


def open_socket(
    server: Server, kind: int, owner: Any, resources: LoopResources, loop: Loop
) -> Any:
    """Returns a socket that is connected to a nameserver, or is connecting. Raises OSError."""
    # The kernel drops datagrams from other addresses, and chooses the local port at random.
    sock = socket.SocketType(server.family, kind)
    try:
        if not NONBLOCK:
            sock.setblocking(False)
        if kind == TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a query is urgent
        address = scoped(server.address, server.scope) if server.scope else server.address
        if server.source is not None:
            sock.bind(server.source)
        return resources.sockets.open(sock, address, owner, loop)
    except BaseException:
        sock.close()
        raise


Read = Callable[[Query, Any, float], Any]  # a query, a reply, and when the query was sent
OnOutcome = Callable[[Any, Any], None]  # an exchange and its outcome, which may be an OSError


class DatagramExchange:
    """A query on its way as a datagram, from its own socket, for which it has a permit."""

    __slots__ = (
        'asked_set context dropped fd listens_until on_outcome query read resources sent_at server'
        ' sock'
    ).split()
    is_stream = False

    def __init__(
        self,
        query: Query,
        server: Server,
        read: Read,
        on_outcome: OnOutcome,
        resources: LoopResources,
        sent_at: float,
    ) -> None:
        self.query = query
        self.server = server
        self.read = read  # a datagram for which it raises an error is dropped
        self.on_outcome = on_outcome
        self.resources = resources
        self.sent_at = sent_at
        self.sock: Any = None
        self.fd = -1
        self.asked_set: Any = None  # for its owner, as the next one
        self.listens_until = 0.0  # after an error without a question: when its timeout ends
        self.context: Context | None = None  # in which to log; None: nothing is logged
        self.dropped: ResolverError | None = None  # the error of the last such datagram

    def on_readable(self, fd: int) -> None:
        """Reads the datagrams that have arrived: an answer is the outcome, others are dropped."""
        left = MAX_MESSAGE
        while left > 0:  # each turn reads a datagram
            try:
                octets = self.sock.recv(MAX_MESSAGE)
                left -= len(octets) + MAX_MESSAGE // MAX_READS + 1
                outcome = self.read(self.query, octets, self.sent_at)
            except BlockingIOError:
                return
            except ResolverError as error:
                self.dropped = error.with_traceback(None)  # which refers to this frame
                log_debug(self.context, 'Dropped a datagram from %s: %s', self.server.text, error)
                continue
            except OSError as error:
                outcome = error
            if outcome.__class__ not in DOUBTFUL:
                self.close()
            self.on_outcome(self, outcome)
            if self.fd < 0:
                return
        self.resources.sockets.again(fd)

    def close_keeping_permit(self) -> None:
        """Closes the socket. The permit goes to the caller."""
        fd, self.fd = self.fd, -1
        self.resources.sockets.close(fd)
        self.sock.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.resources.sockets.close(fd)
            self.sock.close()
            limit = self.resources.limit
            if limit.queue or limit.transfers:
                limit.release()
            else:  # nearly always
                limit.free += 1

    def abort(self, error: Exception) -> None:
        self.close()
        self.on_outcome(self, error)


class StreamExchange:
    """A query on its way over a stream."""

    __slots__ = (
        'asked_set is_late is_sent key on_outcome query read replies_before sent_at server stream'
    ).split()
    is_stream = True
    dropped = None  # any reply is the outcome
    listens_until = 0.0

    def __init__(
        self,
        query: Query,
        server: Any,
        read: Read,
        on_outcome: OnOutcome | None,
        stream: Any,
        sent_at: float,
    ) -> None:
        self.query = query
        self.server = server  # None on a caller's stream
        self.read = read
        self.on_outcome = on_outcome  # None once it is given up, or has its outcome
        self.stream = stream
        self.sent_at = sent_at
        self.key: Any = None  # in the framing, once it is sent
        self.is_sent = False
        self.is_late = False  # others are sent although it has not been answered
        self.replies_before = 0  # the replies on its stream when it was sent
        self.asked_set: Any = None  # for its owner

    def close(self) -> None:
        """Gives the query up. A late reply is dropped."""
        if self.on_outcome is not None:
            self.on_outcome = None
            self.stream.give_up(self)

    def finish(self, outcome: Any) -> None:
        """Calls `on_outcome`, unless the query was given up."""
        on_outcome, self.on_outcome = self.on_outcome, None
        if on_outcome is not None:
            self.stream.leave()
            try:
                on_outcome(self, outcome)
            except Exception as error:  # it ends this lookup, and no other
                on_outcome(self, error)


class Pipeline:
    """Queries on one stream, and their replies in any order (RFC 7766 6.2.1.1)."""

    def __init__(self, framing: Any) -> None:
        self.framing = framing  # Frames or Http
        self.pending: dict[Any, list[StreamExchange]] = {}  # those that were sent, by key
        self.live = 0  # the number of queries that somebody waits for, sent or not

    def pack(self, exchange: StreamExchange) -> None:
        exchange.is_sent = True
        exchange.key = self.framing.pack(exchange.query.octets)
        self.pending.setdefault(exchange.key, []).append(exchange)

    def deliver(self, key: Any, reply: bytes | ResolverError | OSError) -> bool:
        """Gives a reply, or an error instead of one, to its query. Returns whether it has one."""
        exchanges = self.pending.get(key)
        if exchanges is None:
            return False
        exchange = exchanges[0]
        if len(exchanges) > 1 and isinstance(reply, bytes):
            # Prefers one whose question matches, and of these one that somebody waits for.
            order = sorted(exchanges, key=lambda each: each.on_outcome is None)
            exchange = next((each for each in order if has_question(each.query, reply)), order[0])
        self.forget(exchange)
        outcome: Any = reply
        if isinstance(reply, bytes):
            try:
                outcome = exchange.read(exchange.query, reply, exchange.sent_at)
            except ResolverError as error:
                outcome = error.with_traceback(None)
        exchange.finish(outcome)
        return True

    def forget(self, exchange: StreamExchange) -> None:
        exchanges = self.pending[exchange.key]
        exchanges.remove(exchange)
        if not exchanges:
            del self.pending[exchange.key]

    def leave(self) -> None:
        self.live -= 1


class Stream(Pipeline):
    """A connection to a nameserver, shared by all queries to it.

    It has a permit, which it releases when it closes. The queries of one turn of the loop go out
    in one write at the start of the next turn. When nobody waits any more, the stream is kept for
    a while, if it is the first stream to its nameserver.

    How it ends: `close` does not tell those who wait; `lose` tells them, and they ask elsewhere;
    `evict` and `on_timeout` close it while it is idle; `abandon` is for a loop that was closed.
    After `Server.retire` it takes no new query, and closes when nobody waits.
    """

    def __init__(self, server: Server, way: int, resources: LoopResources, loop: Loop) -> None:
        """Starts to connect. If it raises OSError, the caller keeps the permit."""
        authority = authority_of(server.name, server.address[1])
        super().__init__(Http(authority, server.path, server.is_post) if server.path else Frames())
        self.loop = loop
        self.server = server
        self.resources = resources
        self.context: Context | None = None  # in which to log; None: nothing is logged
        self.way = way
        self.queue: deque[StreamExchange] = deque()  # queries that are not sent yet
        self.outgoing = bytearray()
        self.idle_seconds = server.idle_seconds
        self.replies = 0
        self.silent_since: float | None = None  # when the first query after a reply was sent
        self.is_flush_due = False  # in the next turn of the loop
        self.unsolicited = 0  # messages that answer no query, minus 16 for each that does
        protocol = ALPN.get(server.scheme, '')
        context = server.context or tls_context(True) if protocol else None
        self.tls = Tls(context, server.name, protocol) if context else None
        self.sock = open_socket(server, TCP, self, resources, loop)
        self.fd = self.sock.fileno()
        self.is_open = True
        self.is_connected = False
        resources.sockets.writable(self.fd)
        server.streams[way] = self
        if way == ALONE:
            server.close_retired()  # at most two are open

    def send(self, query: Query, read: Read, on_outcome: OnOutcome) -> StreamExchange:
        """Sends a query: a lone one at once, others together in the next turn of the loop."""
        if self in self.resources.limit.idle:
            del self.resources.limit.idle[self]
            self.resources.timers.stop(self.idle_seconds, self, self.loop)
        now = self.loop.time()
        exchange = StreamExchange(query, self.server, read, on_outcome, self, now)
        self.live += 1
        if self.silent_since is None:
            self.silent_since = now
        self.queue.append(exchange)
        if self.live == 1 and not self.framing.is_closing:
            self.flush_queue()
        else:
            self.flush_soon()
        return exchange

    def flush_soon(self) -> None:
        if not self.is_flush_due:
            self.is_flush_due = True
            self.loop.call_soon(self.flush_queue, context=Context())

    def flush_queue(self) -> None:
        """Sends the queued queries: one at a time where that is needed."""
        self.is_flush_due = False
        now = self.loop.time()
        if self.framing.is_closing:  # queries that are not sent yet are asked elsewhere
            queue, self.queue = self.queue, deque()
            for exchange in queue:
                exchange.finish(ConnectionResetError(*GIVEN_UP))
        if not self.is_open:
            return
        is_alone = self.way == ALONE or self.server.one_at_a_time_until > now
        while self.queue and not (is_alone and self.is_busy()):  # each turn removes one
            exchange = self.queue.popleft()
            if exchange.on_outcome is not None:  # else it was given up
                query = exchange.query
                while query.octets[:2] in self.pending and len(self.pending) < MAX_PENDING:
                    # Each turn draws another id: one that is in use would be ambiguous.
                    query = query._replace(octets=os.urandom(2) + query.octets[2:])
                exchange.query = query
                exchange.sent_at = now
                exchange.replies_before = self.replies
                self.pack(exchange)
        try:
            self.put()
        except OSError as error:  # `send` has to return before anybody is told
            self.loop.call_soon(self.lose, error, context=Context())

    def is_busy(self) -> bool:
        """Whether somebody waits for a query that was sent and is not late."""
        return any(
            exchange.on_outcome is not None and not exchange.is_late
            for exchanges in self.pending.values()
            for exchange in exchanges
        )

    def put(self) -> None:
        """Sends what the framing has to send, or keeps it until there is room. Raises OSError."""
        octets = self.framing.to_send()
        self.outgoing += octets if self.tls is None else self.tls.wrap(octets)
        if len(self.outgoing) > MAX_OUTGOING:
            raise OSError(errno.ENOBUFS, DOES_NOT_READ)
        while self.outgoing and self.is_connected:  # each turn sends some
            try:
                sent = self.sock.send(self.outgoing)
            except BlockingIOError:
                return self.resources.sockets.writable(self.fd)
            del self.outgoing[:sent]

    def on_readable(self, fd: int) -> None:
        self.is_connected = True  # or it could not connect: the next call raises the error
        try:
            if self.outgoing:
                self.put()
            self.receive()
            if QUICKACK and self.live and self.is_open:
                # Has the system acknowledge at once, not after 40 ms: a server may hold its next
                # data back until then (RFC 896).
                self.sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        except OSError as error:
            self.lose(error)

    def receive(self) -> None:
        """Reads messages, within a limit. Raises OSError, also when the stream has ended."""
        left = size = MAX_PIECE if self.server.path else MAX_MESSAGE  # HTTP: a frame costs time
        while left > 0:  # each turn reads some
            try:
                octets = self.sock.recv(size)
            except BlockingIOError:
                return
            if not octets:
                raise ConnectionResetError(errno.ECONNRESET, 'The server closed the connection')
            left -= len(octets) + size // MAX_READS + 1
            try:
                self.take(octets if self.tls is None else self.tls.unwrap(octets))
            finally:
                if self.tls is not None and self.is_open:
                    self.put()  # TLS and HTTP may have to answer, also after an error
            if not self.is_open:  # a callback has closed it
                return
            if self.tls is not None and self.tls.is_over:
                raise ConnectionResetError(errno.ECONNRESET, 'The server closed TLS')
        self.resources.sockets.again(self.fd)
        if self.outgoing:
            self.resources.sockets.writable(self.fd)

    def take(self, octets: bytes) -> None:
        """Takes octets, and delivers the messages that are complete. Raises OSError."""
        for key, reply in self.framing.take(octets):
            if key in self.pending:
                is_reply = isinstance(reply, bytes)
                if is_reply and self.live and self.idle_seconds:  # else its timer may be running
                    seconds = keepalive_of(reply)
                    if seconds is not None:
                        self.idle_seconds = min(seconds, MAX_IDLE)
                self.deliver(key, reply)
                self.silent_since = None  # queries sent earlier may take long, or be lost
                if is_reply:
                    self.replies += 1
                    # Allows for duplicates of recent replies.
                    self.unsolicited = max(-MAX_GIVEN_UP, self.unsolicited - MAX_UNSOLICITED)
            elif not self.server.idle_seconds:  # the stream is for one query only
                self.fail(unsolicited(reply))
            else:
                log_debug(self.context, 'Dropped %d octets that answer no query', len(reply))
                self.unsolicited += 1
                if self.unsolicited > MAX_UNSOLICITED:
                    raise ConnectionAbortedError(errno.EPROTO, 'Too many messages answer no query')
        if self.queue:
            self.flush_soon()

    def leave(self) -> None:
        """Counts one query less that somebody waits for. Without any, it is idle or closes."""
        self.live -= 1
        if self.live or not self.is_open:
            return
        is_kept = self.server.streams.get(STREAM) is self and self.idle_seconds > 0
        if is_kept and self.resources.limit.add_idle(self):
            self.resources.timers.start(self.idle_seconds, self, self.loop)
        else:
            self.close()

    def give_up(self, exchange: StreamExchange) -> None:
        """Gives a query up, and tells the server if the framing can."""
        is_forgotten = exchange.is_sent and self.framing.give_up(exchange.key)
        if is_forgotten:
            self.forget(exchange)
        if is_forgotten or self.queue:  # not at once, because others may be given up, too
            self.flush_soon()
        self.leave()

    def fail(self, error: OSError | ResolverError) -> None:
        """Gives an error to all who wait."""
        lost, self.pending = self.pending, {}
        queue, self.queue = self.queue, deque()
        for exchange in itertools.chain(*lost.values(), queue):
            exchange.finish(error)

    def lose(self, error: OSError) -> None:
        self.close()
        self.fail(error)

    def abort(self, error: Exception) -> None:
        self.lose(OSError(errno.EIO, f'{type(error).__name__}: {error}'))

    def close(self) -> None:
        """Closes it and releases its permit, without telling those who wait."""
        streams = self.server.streams.items()
        self.server.streams = {way: each for way, each in streams if each is not self}
        if not self.is_open:
            return
        self.is_open = False
        if self in self.resources.limit.idle:
            del self.resources.limit.idle[self]
            self.resources.timers.stop(self.idle_seconds, self, self.loop)
        if self.tls is not None and self.is_connected and not self.outgoing:
            with contextlib.suppress(OSError):  # the other side may have closed it
                self.sock.send(self.tls.end())
        self.resources.sockets.close(self.fd)
        self.sock.close()
        self.resources.limit.release()

    on_timeout = evict = close  # after its idle time, and when its permit is needed

    def abandon(self) -> None:
        """Closes its socket after its loop was closed, when the loop can no longer be used."""
        self.is_open = False
        with contextlib.suppress(RuntimeError):  # of a transport of the closed loop
            self.sock.close()


Exchange = DatagramExchange | StreamExchange


def send(
    server: Server,
    way: int,
    stream: Stream | None,
    query: Query,
    read: Read,
    on_outcome: OnOutcome,
    resources: LoopResources,
    loop: Loop,
) -> Exchange:
    """Sends a query to a nameserver; `on_outcome` is called with the exchange and its outcome.

    `stream` is from `Server.stream_for`. If it is None, a socket is opened, which takes over the
    caller's permit, unless this raises OSError.
    """
    if way == DATAGRAM:
        exchange = DatagramExchange(query, server, read, on_outcome, resources, loop.time())
        sock = exchange.sock = open_socket(server, UDP, exchange, resources, loop)
        exchange.fd = sock.fileno()
        try:
            sock.send(query.octets)
        except BaseException:
            exchange.close_keeping_permit()
            raise
        return exchange
    stream = stream or Stream(server, way, resources, loop)
    return stream.send(query, read, on_outcome)


def write_on(writer: asyncio.StreamWriter, octets: bytes | bytearray) -> None:
    """Sends octets on a caller's stream. Raises OSError."""
    if writer.is_closing():
        raise OSError(errno.EPIPE, 'The stream is closed')
    try:
        writer.write(octets)
    except RuntimeError as error:  # write_eof has been called
        raise OSError(errno.EPIPE, str(error)) from error


class Call:
    """A coroutine that waits, and its outcome."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] | None = None
        self.outcome: Any = None
        self.has_permit = False
        self.is_late = False

    async def woken(self) -> None:
        self.future = self.loop.create_future()
        await self.future

    def wake(self, _: Any = None) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    on_readable = wake

    def on_permit(self) -> None:
        self.has_permit = True
        self.wake()

    def on_timeout(self) -> None:
        self.is_late = True
        self.wake()

    def on_outcome(self, _: Any, outcome: Any) -> None:
        self.outcome = outcome
        self.wake()

    def reply(self) -> Message:
        """Returns the outcome, or raises it."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        message: Message = self.outcome
        return message


class CallersStream(Pipeline):
    """A caller's stream. Several calls may use it at once: one of them reads for all."""

    def __init__(self) -> None:
        super().__init__(Frames())
        self.is_read = False
        self.waiting: OrderedDict[Call, None] = OrderedDict()  # while another reads
        self.backlog: deque[tuple[Any, bytes]] = deque()  # messages that nobody has taken yet
        self.given_up: deque[StreamExchange] = deque()  # the queries given up last
        self.forgotten = 0  # how many were given up before those

    def take(self) -> None:
        """Delivers a message. Raises BadResponse or MalformedMessage if it answers no query."""
        key, reply = self.backlog.popleft()
        if not self.deliver(key, reply):
            if not self.forgotten:
                raise unsolicited(reply)
            self.forgotten -= 1

    def give_up(self, exchange: StreamExchange) -> None:
        """Gives a query up. A late reply is recognised, unless many were given up after it."""
        self.leave()
        self.given_up.append(exchange)
        if len(self.given_up) > MAX_GIVEN_UP:
            oldest = self.given_up.popleft()
            if oldest in self.pending.get(oldest.key, ()):
                self.forgotten += 1
                self.forget(oldest)

    async def read(self, reader: asyncio.StreamReader, call: Call) -> None:
        """Reads, or, while another reads, waits for an outcome or its turn. Raises OSError."""
        if self.is_read:
            self.waiting[call] = None
            try:
                return await call.woken()
            finally:
                self.waiting.pop(call, None)
        self.is_read = True
        try:
            octets = await reader.read(MAX_MESSAGE)
        except RuntimeError as error:  # the caller is reading
            raise OSError(errno.EBUSY, str(error)) from error
        finally:
            self.is_read = False
        if not octets:
            raise ConnectionResetError(errno.ECONNRESET, 'The other side closed the stream')
        self.backlog += self.framing.take(octets)

    def hand_over(self) -> None:
        """Lets another call read."""
        while self.waiting and not self.is_read:  # each turn removes one
            call, _ = self.waiting.popitem(last=False)
            if call.outcome is None:
                return call.wake()

    async def next_message(self, reader: asyncio.StreamReader) -> bytes:
        """Returns the next message, whatever it is. Raises OSError."""
        call = Call(asyncio.get_running_loop())
        try:
            while not self.backlog:  # each turn reads something, or the stream ends
                await self.read(reader, call)
            return self.backlog.popleft()[1]
        finally:
            self.hand_over()

    async def ask(
        self, query: Query, read: Read, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Message:
        """Returns the reply to a query. Raises OSError or ResolverError."""
        while self.backlog:  # each turn removes one that came before this query
            try:
                self.take()
            except ResolverError as error:
                logger.debug("Dropped a message on a caller's stream: %s", error)
        call = Call(asyncio.get_running_loop())
        exchange = StreamExchange(query, None, read, call.on_outcome, self, 0.0)
        self.live += 1
        self.pack(exchange)
        try:
            # Nobody waits for room: if all did, none would read, and the server might stop.
            octets = self.framing.to_send()
            if writer.transport.get_write_buffer_size() > MAX_OUTGOING:
                raise OSError(errno.ENOBUFS, DOES_NOT_READ)
            write_on(writer, octets)
            while call.outcome is None:  # each turn takes a message, or waits for one
                if self.backlog:
                    self.take()
                else:
                    await self.read(reader, call)
            return call.reply()
        finally:
            exchange.close()
            self.hand_over()


# By the reader. An entry is removed with its reader, and must not refer to it.
CALLERS_STREAMS: WeakKeyDictionary[asyncio.StreamReader, CallersStream] = WeakKeyDictionary()


# --- 16. Queries -------------------------------------------------------------
#
# One query or one message. Nothing is retried, except that `https` tries each address of a host,
# and `udp_with_fallback` continues over TCP. One deadline covers everything that a call waits
# for, and a call closes what it opens. The arguments are those of dnspython.

StreamPair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
NO_QUERY = Query(b'', 0, b'', 0)  # of a call that accepts any message
LATE = 'no usable reply in time'
NO_SOCKET = 'nothing was sent, because no socket was free in time'
ON_A_STREAM = 'The stream'  # for the text of an error
TYPES_OF_FAMILY: dict[int, tuple[TYPES, ...]] = {
    socket.AF_INET: (TYPES.A,),
    socket.AF_INET6: (TYPES.AAAA,),
    socket.AF_UNSPEC: (TYPES.AAAA, TYPES.A),  # RFC 8305 4: IPv6 first
}


def text_of(error: ResolverError | OSError) -> str:
    """Returns the text of an error, without the errno."""
    return str(getattr(error, 'strerror', None) or error)


def with_context(error: ResolverError | OSError, where: str, tail: str = '') -> ResolverError:
    """Returns an error with what was asked of which server. An OSError becomes SocketError."""
    text = f'{where}: {text_of(error)}{tail}' if where else f'{text_of(error)}{tail}'
    if isinstance(error, ResolverError) and not isinstance(error, SocketError):
        error.args = (text,)
        return error.with_traceback(None)
    ours = SocketError(error.errno, text)
    ours.__cause__ = error.__cause__ if isinstance(error, SocketError) else error
    return ours


def other_failures(texts: list[str]) -> str:
    """Returns the end of an error's text: what else went wrong, if anything."""
    told = '; '.join(texts[:MAX_OTHER_FAILURES])
    more = f'; and {len(texts) - MAX_OTHER_FAILURES} more' if texts[MAX_OTHER_FAILURES:] else ''
    return f'; other failures: {told}{more}' if texts else ''


@contextlib.contextmanager
def error_context(what: Callable[[], str]) -> Iterator[None]:
    """Adds what was asked of which server to an error. An OSError becomes SocketError."""
    try:
        yield
    except (ResolverError, OSError) as error:
        ours = with_context(error, what())
        raise ours from ours.__cause__


@contextlib.asynccontextmanager
async def in_time(
    seconds: float | None, late: str = LATE, dropped: Sequence[ResolverError | None] = ()
) -> AsyncGenerator[None, None]:
    """Raises QueryTimeout when the time is up; its cause is the last of `dropped`."""
    if seconds == 0:
        raise QueryTimeout(late)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise QueryTimeout(late) from (dropped[-1] if dropped else None)


def parts_of(address: Any) -> tuple[IPv4Address | IPv6Address, int, int]:
    """Returns the host, port and scope of a socket's address; the scope is 0 if there is none."""
    host, port, *more = address
    return ip_address(str(host).partition('%')[0]), port, more[1] if len(more) == 2 else 0


def is_from(source: Any, destination: Any) -> bool:
    """Whether a datagram comes from where one was sent. Any host may answer a multicast."""
    host, port, scope = parts_of(source)
    expected, expected_port, expected_scope = parts_of(destination)
    is_host = host == expected and (scope == expected_scope or not (scope and expected_scope))
    return port == expected_port and (is_host or expected.is_multicast)


def message_reader(
    ignore_trailing: bool,
    raise_on_truncation: bool,
    ignore_errors: bool,
    keyring: Keyring | None,
    request_mac: bytes,
) -> Read:
    """Returns a function from a reply to a Message or error. It raises what is to be dropped."""

    def read(query: Query, octets: bytes, _: float) -> Message | ResolverError:
        try:
            # First, unless the id is wrong: NSD refuses without the question.
            if keyring is not None and octets.startswith(query.octets[:2]):
                verify(octets, keyring, request_mac, time.time())
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


def to_seconds(timeout: float | None, now: float = 0.0) -> float | None:
    """Returns the seconds until a caller's time, at most MAX_TIMEOUT. Raises TypeError."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        raise TypeError(f'A timeout or expiration has to be None or a number, not {timeout!r}')
    return min(max(now, timeout), now + MAX_TIMEOUT) - now  # in this order, so that nan is now


def to_source(server: Server, source: Any, port: Any) -> Address | None:
    """Returns what to bind a socket to, or None. Raises InvalidName, TypeError or OSError."""
    if port != 0:
        check_port(port)
    elif source is None:
        return None
    is_ipv4 = server.family == socket.AF_INET
    address = to_address(('0.0.0.0' if is_ipv4 else '::') if source is None else source)
    if isinstance(address, IPv4Address) != is_ipv4:
        raise InvalidName(f'The source {source} is of another address family than {server.text}')
    host, _, scope = present_address(address).partition('%')
    return scoped((host, port), scope)


def place_of(server: Server, is_stream: bool) -> str:
    """Returns the server and how it was asked, for the text of an error."""
    return f'{server.text} over {OVER[server.scheme]}' if is_stream else server.text


def asked_of(query: Query, server: Server) -> str:
    """Returns the name, the type and the server, for the text of an error."""
    return f'{describe(query.fqdn, query.qtype)} from {place_of(server, server.is_stream)}'


async def ask(
    query: Query, server: Server, timeout: float | None, source: tuple[Any, Any], read: Read
) -> Message:
    """Returns the reply to a query, over a new socket or stream."""
    loop = asyncio.get_running_loop()
    resources = resources_of(loop)
    timers, limit = resources.timers, resources.limit
    way = STREAM if server.is_stream else DATAGRAM
    call = Call(loop)
    exchange: Exchange | None = None
    server.idle_seconds = 0.0  # its stream is not kept
    try:
        server.source = to_source(server, *source)
        if timeout is not None:
            call.is_late = timeout == 0
            timers.start(timeout, call, loop)
        call.has_permit = limit.acquire()
        if not call.has_permit:
            limit.enqueue(call, False)
            await call.woken()
        if not call.is_late:
            exchange = send(server, way, None, query, read, call.on_outcome, resources, loop)
            call.has_permit = False
            await call.woken()
        if exchange is None and not call.has_permit:
            raise QueryTimeout(NO_SOCKET)
        if call.outcome is None:
            raise QueryTimeout(LATE) from (exchange.dropped if exchange is not None else None)
        return call.reply()
    except (ResolverError, OSError) as error:
        ours = with_context(error, asked_of(query, server))
        raise ours from ours.__cause__
    finally:
        if timeout is not None:
            timers.stop(timeout, call, loop)
        if exchange is not None:
            exchange.close()
        limit.queue.pop(call, None)
        if call.has_permit:
            limit.release()


def check_datagram_socket(sock: Any) -> None:
    """Raises TypeError unless it is a non-blocking UDP socket."""
    kinds = (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_DGRAM)
    if not isinstance(sock, socket.SocketType) or (sock.family, sock.type) not in kinds:
        raise TypeError(f'sock has to be a UDP socket, not {sock!r}')
    if sock.gettimeout() != 0:
        raise TypeError('sock has to be non-blocking: call sock.setblocking(False)')


def to_destination(sock: socket.SocketType, destination: Any) -> Any:
    """Returns where to send a datagram from a socket. Raises InvalidName, TypeError or OSError."""
    if not isinstance(destination, tuple) or not 2 <= len(destination) <= 4:
        raise TypeError(f'destination has to be an address and a port, not {destination!r}')
    server = Server(*destination[:2])
    more = destination[2:]  # of IPv6: the flow and the scope
    limits = zip(more, (1 << 20, 1 << 32), strict=False)
    is_good = all(isinstance(number, int) and 0 <= number < limit for number, limit in limits)
    if more and (server.family == socket.AF_INET or not is_good):
        raise InvalidName(f'{destination!r} is not a valid destination')
    if server.family != sock.family:
        raise OSError(errno.EAFNOSUPPORT, 'The socket is of another address family')
    return (*server.address, *more) if more else scoped(server.address, server.scope)


async def send_udp(
    sock: socket.SocketType,
    what: Message | bytes,
    destination: Any,
    expiration: float | None = None,
) -> tuple[int, float]:
    """Sends a message as a datagram. Returns the number of octets, and the time.

    `destination` is an address and a port as `recvfrom` gives them, or None for a connected
    socket. `expiration` and the time returned are on the loop's clock. Raises QueryTimeout,
    SocketError, InvalidName, MalformedMessage, and TypeError.
    """
    check_datagram_socket(sock)
    octets = to_octets(what)
    loop = asyncio.get_running_loop()
    to = '' if destination is None else f' to {destination}'
    with error_context(lambda: 'A datagram' + to):
        address = None if destination is None else to_destination(sock, destination)
        while to_seconds(expiration, loop.time()) != 0:  # each turn sends it, or waits for room
            sent_at = loop.time()
            try:
                sent = sock.send(octets) if address is None else sock.sendto(octets, address)
            except BlockingIOError:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return sent, sent_at
        raise QueryTimeout('not sent in time')


def check_keyring(keyring: Any, request_mac: Any) -> None:
    """Raises TypeError for a wrong keyring or MAC, or for a MAC without a keyring."""
    keys = keyring.values() if isinstance(keyring, Mapping) else [None]
    if keyring is not None and not all(isinstance(key, Key) for key in keys):
        raise TypeError('keyring has to be a mapping of names in lower case to Keys')
    if not isinstance(request_mac, bytes) or len(request_mac) > MAX_MESSAGE:
        raise TypeError(f'request_mac has to be bytes, not {request_mac!r:.64}')
    if keyring is None and request_mac:
        raise TypeError('request_mac needs a keyring')


@contextlib.contextmanager
def watching(sock: socket.SocketType, loop: Loop) -> Iterator[Call]:
    """Wakes a call when there is something to read. Raises OSError, also if another call reads."""
    sockets, call, fd = resources_of(loop).sockets, Call(loop), sock.fileno()
    if fd < 0:
        raise OSError(errno.EBADF, 'The socket is closed')
    if fd in sockets.owners:
        raise OSError(errno.EEXIST, 'Another call is already waiting on this socket')
    sockets.watch(fd, call, loop)
    try:
        yield call
    finally:
        sockets.unwatch(fd, call)


async def receive_udp(
    sock: socket.SocketType,
    destination: Any = None,
    expiration: float | None = None,
    ignore_unexpected: bool = False,
    keyring: Keyring | None = None,
    request_mac: bytes = b'',
    ignore_trailing: bool = False,
    raise_on_truncation: bool = False,
    ignore_errors: bool = False,
    query: Message | bytes | None = None,
) -> tuple[Message, float, Any]:
    """Receives a datagram. Returns its message, the time on the loop's clock, and the source.

    If `destination` is given, a datagram from elsewhere raises UnexpectedSource, or is skipped
    with `ignore_unexpected`. With `query`, only a reply to it is accepted. With a `keyring`, the
    signature of a signed message has to be right; with the `request_mac` that `sign` returned, the
    message has to be signed. Without that, look for TSIG as its last record. `ignore_errors` skips
    everything else. Raises QueryTimeout, SocketError, MalformedMessage, BadResponse, BadSignature,
    Truncated, and TypeError.
    """
    check_datagram_socket(sock)
    check_keyring(keyring, request_mac)
    asked = NO_QUERY if query is None else query_in(query)
    read = message_reader(
        ignore_trailing, raise_on_truncation, ignore_errors, keyring, request_mac
    )
    loop = asyncio.get_running_loop()
    seconds = to_seconds(expiration, loop.time())
    dropped: deque[ResolverError] = deque(maxlen=1)
    drops = itertools.count(1)
    what = 'A datagram' if query is None else describe(asked.fqdn, asked.qtype)
    where = '' if destination is None else f' from {destination}'
    with error_context(lambda: what + where):
        expected = None if destination is None else to_destination(sock, destination)
        async with in_time(seconds, dropped=dropped):
            with watching(sock, loop) as call:
                while True:  # each turn takes a datagram, or waits for one
                    try:
                        octets, source = sock.recvfrom(MAX_MESSAGE)
                        if expected is not None and not is_from(source, expected):
                            raise UnexpectedSource(f'A datagram came from {source}')
                        message = read(asked, octets, 0.0)
                    except BlockingIOError:
                        await call.woken()
                    except ResolverError as error:
                        if isinstance(error, UnexpectedSource) and not ignore_unexpected:
                            raise
                        dropped.append(error.with_traceback(None))
                        logger.debug('Dropped a datagram from %s: %s', source, error)
                        if next(drops) % MAX_READS == 0:
                            await asyncio.sleep(0)  # a flood must not block the loop
                    else:
                        if isinstance(message, ResolverError):
                            raise message
                        return message, loop.time(), source


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
    """Sends a query as a datagram and returns the reply.

    A reply with TC ends with its last whole record. `where` and `source` are addresses, `timeout`
    is in seconds, None waits for ever. A caller's `sock` stays open. A query with a Key is signed,
    and so has its reply to be: another may be forged, and `ignore_errors` waits for a signed one
    (RFC 8945 5.4). Raises QueryTimeout, SocketError, MalformedMessage, BadResponse, BadSignature,
    UnexpectedSource, Truncated, InvalidName, and TypeError.
    """
    query, keys = query_to_ask(q)
    server = Server(where, port)
    seconds = to_seconds(timeout)
    reading = ignore_trailing, raise_on_truncation, ignore_errors
    if sock is None:
        read = message_reader(*reading, *keys)
        return await ask(query, server, seconds, (source, source_port), read)
    check_datagram_socket(sock)
    expiration = None if seconds is None else asyncio.get_running_loop().time() + seconds
    with error_context(lambda: asked_of(query, server)):
        destination = scoped(server.address, server.scope)
        peer = None
        with contextlib.suppress(OSError):  # raised if it is not connected
            peer = sock.getpeername()
        if peer is not None and not is_from(peer, destination):
            raise InvalidName(f'The socket is connected elsewhere: {peer[0]}, port {peer[1]}')
        to = destination if peer is None else None
    await send_udp(sock, query.octets, to, expiration)
    message, _, _ = await receive_udp(
        sock, destination, expiration, ignore_unexpected, *keys, *reading, query.octets
    )
    return message


def callers_stream(sock: Any) -> tuple[CallersStream, asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns the CallersStream of a caller's stream, with its reader and writer."""
    kinds = asyncio.StreamReader, asyncio.StreamWriter
    if not isinstance(sock, tuple) or len(sock) != 2 or not all(map(isinstance, sock, kinds)):
        raise TypeError(f'sock has to be a pair of StreamReader and StreamWriter, not {sock!r}')
    reader, writer = sock
    stream = CALLERS_STREAMS.get(reader)
    if stream is None:
        stream = CALLERS_STREAMS[reader] = CallersStream()
    return stream, reader, writer


async def send_tcp(
    sock: StreamPair, what: Message | bytes, expiration: float | None = None
) -> tuple[int, float]:
    """Sends a message on a stream. Returns the number of octets with the length, and the time.

    Times are on the loop's clock. Raises QueryTimeout, SocketError, InvalidName, MalformedMessage,
    and TypeError.
    """
    _, _, writer = callers_stream(sock)
    octets = to_frame(to_octets(what))
    sent_at = asyncio.get_running_loop().time()
    seconds = to_seconds(expiration, sent_at)
    with error_context(lambda: ON_A_STREAM):
        async with in_time(seconds, 'not sent in time'):
            write_on(writer, octets)
            await writer.drain()
    return len(octets), sent_at


async def receive_tcp(
    sock: StreamPair,
    expiration: float | None = None,
    keyring: Keyring | None = None,
    request_mac: bytes = b'',
    ignore_trailing: bool = False,
    ignore_errors: bool = False,
) -> tuple[Message, float]:
    """Receives the next message on a stream. Returns it, and the time on the loop's clock.

    `keyring` and `request_mac` are as for `receive_udp`; each message is verified by itself.
    `ignore_errors` skips those that are malformed or wrongly signed. Raises QueryTimeout,
    SocketError (also when the stream ends), MalformedMessage, BadSignature, and TypeError.
    """
    stream, reader, _ = callers_stream(sock)
    check_keyring(keyring, request_mac)
    loop = asyncio.get_running_loop()
    with error_context(lambda: ON_A_STREAM):
        async with in_time(to_seconds(expiration, loop.time()), 'no message in time'):
            while True:  # each turn takes a message
                octets = await stream.next_message(reader)
                try:
                    message = parse_message(octets, ignore_trailing, True)
                    if keyring is not None:
                        verify(octets, keyring, request_mac, time.time())
                    return message, loop.time()
                except (MalformedMessage, BadSignature):
                    if not ignore_errors:
                        raise
                    await asyncio.sleep(0)  # a flood must not block the loop


async def over_stream(
    asked: tuple[Query, Keys],
    server: Server,
    timeout: Any,
    source: Any,
    ignore_trailing: bool,
    sock: Any,
) -> Message:
    """Returns the reply to a query over a new stream, or over the caller's."""
    query, keys = asked
    read = message_reader(ignore_trailing, False, False, *keys)
    seconds = to_seconds(timeout)
    if sock is None:
        return await ask(query, server, seconds, source, read)
    stream, reader, writer = callers_stream(sock)
    with error_context(lambda: asked_of(query, server)):
        async with in_time(seconds):
            return await stream.ask(query, read, reader, writer)


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

    Several queries may be on their way on one `sock`, a pair that `asyncio.open_connection`
    returned; it stays open. Otherwise as `udp`.
    """
    asked = query_to_ask(q)
    server = Server(where, port, 'tcp')
    return await over_stream(asked, server, timeout, (source, source_port), ignore_trailing, sock)


def tls_server(where: Any, port: Any, context: Any, name: str | None) -> Server:
    """Returns a server to ask over TLS, with a caller's SSLContext and name of its certificate."""
    server = Server(where, port, 'tls', '' if name is None else certificate_name(name))
    server.context = check_context(context)
    return server


async def tls(
    q: Message | bytes,
    where: Any,
    timeout: float | None = None,
    port: int = 853,
    source: Any = None,
    source_port: int = 0,
    ignore_trailing: bool = False,
    sock: StreamPair | None = None,
    ssl_context: SSLContext | None = None,
    server_hostname: str | None = None,
    verify: Any = True,
) -> Message:
    """Sends a query over TLS and returns the reply (RFC 7858, RFC 8310).

    The certificate has to be for `server_hostname` or, without one, for the address. It is checked
    against the authorities of the system, or those in the file or folder `verify`; with
    `verify=False` it is not checked. An `ssl_context`, which may be given as `verify` too, has its
    own checks. It is set to offer ALPN `dot` before each handshake: a context that another client
    uses offers that there too. If the certificate does not pass, SocketError is raised before
    anything is sent. Otherwise as `tcp`.
    """
    asked = query_to_ask(q)
    server = tls_server(where, port, ssl_context, server_hostname)
    if sock is None and ssl_context is None:
        with error_context(lambda: asked_of(asked[0], server)):
            server.context = to_context(verify)
    return await over_stream(asked, server, timeout, (source, source_port), ignore_trailing, sock)


def https_url(where: Any, port: Any, path: Any) -> Url:
    """Returns the URL to ask, from an address or a URL. Raises InvalidName or TypeError."""
    if not isinstance(path, str):
        raise TypeError(f'path has to be a str, not {path!r}')
    if isinstance(where, str) and '://' in where:
        url = parse_url(where)
        if url.scheme != 'https':
            raise InvalidName(f'{where!r} is not an https:// URL')
        url = url._replace(port=port if url.port is None else url.port)
    else:
        path = path.removesuffix('{?dns}')
        if not re.fullmatch('/[!-"$-~]*', path):
            raise InvalidName(f'{path!r} is not a valid URL path: it has to begin with /')
        url = Url('https', present_address(to_address(where)), port, path, '')
    check_port(url.port)
    return url


async def find_addresses(
    host: str, bootstrap_address: Any, resolver: Any, family: int, timeout: float | None
) -> list[Any]:
    """Returns the addresses to connect to for a host. Raises as `resolver` does, too."""
    if bootstrap_address is not None:
        return [bootstrap_address]
    try:
        return [to_address(host)]
    except InvalidName as error:
        if resolver is None:
            what = f'{host!r} is a host name: it needs a bootstrap_address or a resolver'
            raise InvalidName(what) from error
    addresses: list[Any] = []
    absence = DoesNotExist(f'{host!r} has no address')
    async with in_time(timeout, f'no address of {host!r} in time'):
        for qtype in reversed(TYPES_OF_FAMILY.get(family, (TYPES.AAAA, TYPES.A))):
            try:
                addresses += await resolver(host, qtype)
            except DoesNotExist as error:
                absence = error
    if not addresses:
        raise absence
    return addresses


async def fetch(client: Any, is_httpx: bool, exchange: HttpExchange, base: str) -> None:
    """Fetches the reply to a query through a caller's client.

    Raises BadResponse, or OSError for any other error of the client.
    """
    fields = exchange.fields | {'accept-encoding': 'identity'}
    body = exchange.body or None
    options: dict[str, Any] = {'content': body, 'follow_redirects': False, 'timeout': None}
    try:
        if not is_httpx:
            no_limit = sys.modules['aiohttp'].ClientTimeout()
            options = {'data': body, 'allow_redirects': False, 'timeout': no_limit}
        call = client.stream if is_httpx else client.request
        request = call(exchange.method, base + exchange.target, headers=fields, **options)
        async with request as response:
            status = str(response.status_code if is_httpx else response.status)
            names = 'content-type', 'age'
            exchange.head(status, *[response.headers.get(name, '') for name in names])
            pieces = response.aiter_raw() if is_httpx else response.content.iter_any()
            async for piece in pieces:
                exchange.add(piece)
    except Exception as error:  # each client has its own kinds
        if isinstance(error, ResolverError) or (isinstance(error, OSError) and error.errno):
            raise
        raise OSError(errno.EIO, f'{type(error).__name__}: {error}') from error


async def over_client(
    client: Any, query: Query, url: Url, post: bool, read: Read, timeout: float | None
) -> Message:
    """Returns the reply to a query through a caller's client, which does everything else."""
    is_httpx = hasattr(client, 'stream') and hasattr(client, 'aclose')
    if not is_httpx and not hasattr(client, 'ws_connect'):
        raise TypeError(f'client has to be one of httpx or aiohttp, not {client!r}')
    if url.name:
        raise InvalidName(f'With a client, the URL has to have {url.name!r} as its host')
    base = 'https://' + authority_of(certificate_name(url.host), url.port)
    with error_context(lambda: f'{describe(query.fqdn, query.qtype)} from {base}'):
        exchange = HttpExchange(query.octets, url.path, post)
        async with in_time(timeout):
            await fetch(client, is_httpx, exchange, base)
        outcome: Message | ResolverError = read(query, exchange.reply(), 0.0)
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

    `where` is an address, or a URL such as `https://dns.example/dns-query`, whose port and path
    come before `port` and `path`. Its host is found by `bootstrap_address`, or by a `resolve`
    given as `resolver`, limited to `family`. The certificate has to be for the host, or for the
    name after `#`. `post=False` sends a GET, which HTTP caches may answer. `verify` is as for
    `tls`; an SSLContext is set to offer ALPN `h2` before each handshake. A `client` of httpx or
    aiohttp connects, resolves and checks the certificate itself. Redirects are not followed.
    Raises as `tls` does, MissingDependency, and BadResponse: with a `status` for a response that
    is no success, has another content type, or is too long.
    """
    query, keys = query_to_ask(q)
    seconds = to_seconds(timeout)
    url = https_url(where, port, path)
    read = message_reader(ignore_trailing, False, False, *keys)
    if client is not None:
        return await over_client(client, query, url, post, read, seconds)
    with error_context(lambda: f'{describe(query.fqdn, query.qtype)} from {url.host}'):
        http_library()
    loop = asyncio.get_running_loop()
    expiration = None if seconds is None else loop.time() + seconds
    addresses = await find_addresses(url.host, bootstrap_address, resolver, family, seconds)
    with error_context(lambda: f'{describe(query.fqdn, query.qtype)} from {url.host}'):
        name = url.name or certificate_name(url.host.partition('%')[0])
        servers = [Server(address, url.port, 'https', name, url.path) for address in addresses]
        for server in servers:
            if family not in (socket.AF_UNSPEC, server.family):
                raise InvalidName(f'{server.text} is not of the family that is asked for')
            server.context = to_context(verify)
            server.is_post = post
    failed: list[str] = []
    while True:  # each turn takes out a server
        left = to_seconds(expiration, loop.time())
        try:
            return await ask(query, servers.pop(0), left, (source, source_port), read)
        except ResolverError as error:
            if servers and isinstance(error, SocketError):
                logger.debug('Trying the next address, after: %s', error)
                failed.insert(0, text_of(error))
            elif failed:
                raise with_context(error, '', other_failures(failed)) from error.__cause__
            else:
                raise


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
    """Sends a query as a datagram, and again over TCP if the reply is truncated.

    Returns the reply, and whether it came over TCP. The `timeout` is for both. Otherwise as `udp`
    and `tcp`.
    """
    query_to_ask(q)  # raises TypeError before anything is sent
    seconds = to_seconds(timeout)
    if tcp_sock is not None:
        callers_stream(tcp_sock)  # raises TypeError before anything is sent
    loop = asyncio.get_running_loop()
    expiration = None if seconds is None else loop.time() + seconds
    at = port, source, source_port
    strict = ignore_unexpected, ignore_trailing, True
    with contextlib.suppress(Truncated):
        return await udp(q, where, seconds, *at, *strict, udp_sock, ignore_errors), False
    left = to_seconds(expiration, loop.time())
    return await tcp(q, where, left, *at, ignore_trailing, tcp_sock), True


# --- 17. Transfers -----------------------------------------------------------
#
# The rules of section 11 with a server. A transfer has a stream of its own, which is asyncio's:
# that is read no faster than the caller takes what comes, so that a zone of any size needs the
# memory of some messages. It counts in the limit on open sockets, whose last permit it leaves to
# others. What is opened is closed when the generator ends or is closed; leaving the loop
# that reads it does not close it at once.


class TransferStream:
    """A stream of its own for one transfer, over TLS if the server is to be asked so."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter | None = None

    def __init__(self, server: Server, loop: Loop) -> None:
        self.server = server
        self.call = Call(loop)
        self.limit = resources_of(loop).limit
        self.tls: Tls | None = None
        self.framing = Frames()
        self.messages: deque[tuple[bytes, bytes]] = deque()  # that have come, and their ids

    async def acquire(self) -> None:
        """Waits for a permit that is not the last one."""
        self.call.has_permit = self.limit.free + len(self.limit.idle) > 1 and self.limit.acquire()
        if not self.call.has_permit:
            self.limit.transfers[self.call] = None
            await self.call.woken()

    async def connect(self, octets: bytes) -> None:
        """Connects, and sends a query. Raises OSError."""
        server = self.server
        sock = socket.socket(server.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if server.source is not None:
                sock.bind(server.source)
            await self.call.loop.sock_connect(sock, scoped(server.address, server.scope))
        except BaseException:
            sock.close()
            raise
        # From here on the transport closes the socket, also if this is cancelled.
        self.reader, self.writer = await asyncio.open_connection(sock=sock)
        frame = to_frame(octets)
        if server.scheme == 'tls':
            assert server.context is not None
            self.tls = Tls(server.context, server.name, ALPN['tls'])
            write_on(self.writer, self.tls.wrap(b''))
            while not self.tls.is_ready:  # each turn something comes, or it ends
                await self.read()
            # BIND sends no zone unless ALPN is offered (RFC 9103 7.1). That it is agreed on is not
            # required: NSD 4.6 knows none.
            version = self.tls.tls.version()
            if version != 'TLSv1.3':  # RFC 9103 7.2
                raise OSError(errno.EPROTO, f'A transfer is not to go over {version}')
            frame = self.tls.wrap(frame)
        write_on(self.writer, frame)

    async def read(self) -> None:
        """Reads what comes next. Raises OSError, also at the end of the stream."""
        assert self.writer is not None
        if self.tls is not None and self.tls.is_over:  # TCP may still be open
            raise ConnectionResetError(errno.ECONNRESET, 'The server ended TLS early')
        await asyncio.sleep(0)  # as much may be there already: others have their turn first
        octets = await self.reader.read(MAX_MESSAGE)
        if not octets:
            raise ConnectionResetError(errno.ECONNRESET, 'The stream ended early')
        if self.tls is not None:
            try:
                octets = self.tls.unwrap(octets)
            finally:
                self.writer.write(self.tls.wrap(b''))  # TLS has something to say, an alert too
        self.messages += self.framing.take(octets)

    def close(self) -> None:
        """Closes it, wherever it is, and releases the permit."""
        if self.writer is not None:
            if self.tls is not None:
                self.writer.write(self.tls.end())
            self.writer.transport.abort()
        self.limit.transfers.pop(self.call, None)
        if self.call.has_permit:
            self.limit.release()


async def receive_in_datagram(
    q: Message | bytes,
    server: Server,
    seconds: float | None,
    source: tuple[Any, Any],
    udp_mode: UDPMode,
) -> list[Changes] | None:
    """Returns what a transfer changes, or None if it is to go over TCP. Raises ResolverError."""
    host, port = server.address
    datagrams = Server(f'{host}%{server.scope}' if server.scope else host, port)
    asked, keys = query_to_ask(q)
    state = Transfer(parse(asked.octets))
    read = message_reader(False, False, True, *keys)
    if udp_mode == UDPMode.TRY_FIRST:  # if a datagram is lost, there has to be time for TCP
        seconds = UDP_SECONDS if seconds is None else min(UDP_SECONDS, seconds / 2)
    try:
        reply = await ask(asked, datagrams, seconds, source, read)
        with error_context(lambda: asked_of(asked, datagrams)):
            all_changes = state.take(reply)
            if not state.is_done:
                raise TransferError('The reply has no room for the whole transfer')
    except ResolverError as error:  # it may be forged, too
        if udp_mode == UDPMode.ONLY:
            raise
        logger.debug('Trying TCP: %s', error)
        return None
    return all_changes


async def receive_changes(
    q: Message | bytes,
    unsigned: Query,
    server: Server,
    timeout: float | None,
    lifetime: float | None,
    source: tuple[Any, Any],
    udp_mode: UDPMode,
) -> AsyncGenerator[Changes, None]:
    """Yields what a transfer changes. Raises ResolverError."""
    loop = asyncio.get_running_loop()
    expiration = None if lifetime is None else loop.time() + lifetime

    def seconds_left() -> float | None:
        """How long to wait for what comes next."""
        left = to_seconds(expiration, loop.time())
        return timeout if left is None else left if timeout is None else min(left, timeout)

    if udp_mode != UDPMode.NEVER and unsigned.qtype == TYPES.IXFR:
        found = await receive_in_datagram(q, server, seconds_left(), source, udp_mode)
        if found is not None:
            for changes in found:
                yield changes
            return

    stream = TransferStream(server, loop)
    try:
        with error_context(lambda: asked_of(unsigned, server)):
            server.source = to_source(server, *source)
            async with in_time(seconds_left()):
                await stream.acquire()
            asked, (_, mac) = query_to_ask(q)  # signed now, as that may have taken long
            async with in_time(seconds_left()):
                await stream.connect(asked.octets)
            state = Transfer(parse(asked.octets))
            _, key = split_key(q)
            verifier = None if key is None else Verifier(key, mac)
            while not state.is_done:  # each turn takes a message, or the time is up
                seconds = seconds_left()
                if seconds == 0:
                    raise QueryTimeout('not the whole transfer in time')
                if not stream.messages:
                    async with in_time(seconds):
                        while not stream.messages:  # each turn something comes, or it ends
                            await stream.read()
                _, octets = stream.messages.popleft()
                if verifier is not None:
                    verifier.take(octets)
                all_changes = state.take(parse(octets))
                if verifier is not None and state.is_done:
                    verifier.finish()
                for changes in all_changes:
                    yield changes
    finally:
        stream.close()


def begin_transfer(
    q: Message | bytes,
    where: Any,
    port: int,
    timeout: float | None,
    lifetime: float | None,
    source: tuple[Any, Any],
    udp_mode: UDPMode,
    ssl_context: Any,
    server_hostname: str | None,
    origin: Any = None,
) -> AsyncGenerator[Changes, None]:
    """Returns what yields the changes. Raises InvalidName or TypeError if an argument is wrong.

    An `origin` is that of the zone which the query has to be for.
    """
    unsigned = query_in(split_key(q)[0])
    Transfer(parse(unsigned.octets))
    if origin is not None and unsigned.fqdn != to_name(origin).lower():
        raise InvalidName(f'A query for {unsigned.fqdn!r} is not for the zone {origin!r}')
    if udp_mode not in tuple(UDPMode):
        raise TypeError(f'udp_mode is a UDPMode, not {udp_mode!r}')
    if ssl_context is None and server_hostname is None:
        server = Server(where, port, 'tcp')
    else:
        if udp_mode != UDPMode.NEVER:
            raise TypeError('Over TLS there are no datagrams: udp_mode has to be NEVER')
        server = tls_server(where, port, ssl_context, server_hostname)
        server.context = server.context or tls_context(True)
    seconds = to_seconds(timeout), to_seconds(lifetime)
    return receive_changes(q, unsigned, server, *seconds, source, udp_mode)


def transfer_query(origin: str | bytes, serial: int | None, key: Key | None = None) -> Message:
    """Returns a query for all of a zone, or for what is newer than a serial."""
    if serial is None:
        return make_query(origin, TYPES.AXFR, rd=0, key=key)
    query = make_query(origin, TYPES.IXFR, rd=0, key=key)
    if not 0 <= serial < 1 << 32:
        raise InvalidName(f'A serial has 32 bits, and not the value {serial}')
    rdata = LAYOUTS[TYPES.SOA].record(b'', b'', serial, 0, 0, 0, 0)
    soa = ResourceRecord(query.qd[0].name, TYPES.SOA, CLASSES.IN, 0, rdata)
    return query._replace(ns=(soa,))  # RFC 1995 3


def transfer(
    where: Any,
    origin: str | bytes,
    serial: int | None = None,
    port: int = 53,
    timeout: float | None = None,
    lifetime: float | None = None,
    source: Any = None,
    source_port: int = 0,
    udp_mode: UDPMode = UDPMode.NEVER,
    key: Key | None = None,
    ssl_context: Any = None,
    server_hostname: str | None = None,
) -> AsyncGenerator[Changes, None]:
    """Returns an asynchronous generator of what changes in a zone, as it comes.

    Without a `serial` that is all of it (AXFR, RFC 5936), else what is newer (IXFR, RFC 1995), or
    nothing. It is final only when the generator ends without an exception. `timeout` is in seconds
    for connecting and for each message, `lifetime` for all together; None waits for ever. With an
    `ssl_context`, which is set to offer ALPN `dot`, or a `server_hostname` it goes over TLS 1.3
    (RFC 9103), to `port` all the same. Only an IXFR goes over UDP; with TRY_FIRST over TCP too, if
    it does not come whole in two seconds, or half of the time. Does not retry.

    If you may leave it early, use `contextlib.aclosing`, or its stream stays open until the
    generator is garbage. Open transfers count in the limit on open sockets: those in which others
    are begun may wait for each other. Raises TransferError, BadResponse, BadSignature,
    MalformedMessage, QueryTimeout, SocketError, InvalidName, and TypeError.
    """
    query = transfer_query(origin, serial, key)
    sources = source, source_port
    tls = ssl_context, server_hostname
    return begin_transfer(query, where, port, timeout, lifetime, sources, udp_mode, *tls)


async def inbound_xfr(
    where: Any,
    zone: Any,
    query: Message | bytes | None = None,
    port: int = 53,
    timeout: float | None = None,
    lifetime: float | None = None,
    source: Any = None,
    source_port: int = 0,
    udp_mode: UDPMode = UDPMode.NEVER,
    ssl_context: Any = None,
    server_hostname: str | None = None,
) -> None:
    """Brings a zone up to date, all at once: if it fails, the zone stays as it was.

    Without a `query` it asks for what is newer than the zone, or for all of one that is empty.
    `zone` is a `Zone`, or another object with such a `writer`, and without a `query` with such an
    `origin` and `serial`. A `query` of `make_query(..., key=...)` is signed, and then each message
    has to verify. A record that is deleted has to be there, an SOA with all its fields. If the
    serial of the zone changes meanwhile, it is TransferError. Else as `transfer`.
    """
    origin: Any = getattr(zone, 'origin', None)
    serial = getattr(zone, 'serial', None)
    if not hasattr(zone, 'writer') or (query is None and origin is None):
        raise TypeError(f'A zone is a Zone, or an object with such a writer, not {zone!r:.60}')
    if query is None:
        query = transfer_query(origin, serial)
    sources = source, source_port
    checked = ssl_context, server_hostname, origin
    received = begin_transfer(query, where, port, timeout, lifetime, sources, udp_mode, *checked)
    with contextlib.ExitStack() as stack:
        writer: Any = None
        async with contextlib.aclosing(received):
            async for changes in received:
                if writer is None:
                    if getattr(zone, 'serial', None) != serial:
                        raise TransferError(f'The zone is no longer at serial {serial}')
                    writer = stack.enter_context(zone.writer(changes.replacement))
                for record in changes.deleted:
                    writer.delete(record)
                for record in changes.added:
                    writer.add(record)


# --- 18. Cache ---------------------------------------------------------------
#
# Answers by name and type, for as long as they are valid. Nothing here knows where they come
# from.

Known = Answer | NegativeAnswer
CacheKey = tuple[str, int]  # a canonical name in lower case, and a type
Cache = dict[CacheKey, Known]  # the oldest entry first


class CallersError(NamedTuple):
    """What a caller's function raised: it is passed on unchanged."""

    error: Exception
    traceback: Any


Failure = ResolverError | OSError
LookupOutcome = Known | ResolverError | CallersError
Outcomes = dict[int, LookupOutcome]  # by type
Types = tuple[int, ...]


def records_of(outcome: LookupOutcome) -> tuple[Any, ...]:
    """Returns the records of an outcome, or raises its error."""
    if isinstance(outcome, Answer):
        return outcome.records
    if isinstance(outcome, CallersError):
        raise outcome.error.with_traceback(outcome.traceback)
    # A copy: a traceback grows each time it is raised.
    error = outcome.error if isinstance(outcome, NegativeAnswer) else outcome
    copied = type(error).__new__(type(error), *error.args)
    copied.__dict__.update(error.__dict__)
    raise copied from error.__cause__


def recall(cache: Cache, key: CacheKey, now: float) -> Known | None:
    """Returns what is still valid of a cached outcome; an alias may outlive a negative answer."""
    known = cache.get(key)
    if known is None or known.expires_at > now:
        return known
    alias = known.alias
    if known.records or alias is None or alias.expires_at <= now:
        return None
    return Answer(known.expires_at, (), alias, known.is_cacheable)


def remember(cache: Cache, key: CacheKey, known: Known, now: float) -> None:
    """Caches an outcome that may be cached. If the cache is full, the oldest entries go."""
    if not known.is_cacheable:
        return
    cache.pop(key, None)  # even if the new outcome expires at once
    keep_until = known.expires_at
    if known.alias is not None and not known.records:
        keep_until = max(keep_until, known.alias.expires_at)
    if keep_until > now:
        if len(cache) >= MAX_CACHED:
            # 1 % at once: to find the oldest entry, a dict passes where all older ones were.
            for oldest in [*itertools.islice(cache, 1 + MAX_CACHED // 100)]:
                del cache[oldest]
        cache[key] = known


class StaleAnswer(Answer):
    """An expired answer that is used again, and the original one."""

    first: Answer


def revive(known: Known | None, since: float, now: float) -> StaleAnswer | None:
    """Returns a positive answer (RFC 8767) for STALE_SECONDS more, or None if it is too old."""
    if not isinstance(known, Answer):
        return None
    first = known.first if isinstance(known, StaleAnswer) else known
    alias = first.alias
    expires_at = alias.expires_at if alias is not None and not first.records else first.expires_at
    if expires_at < since:
        return None
    expires_at = now + STALE_SECONDS
    if alias is not None:
        alias = alias._replace(expires_at=expires_at)
    records = tuple([expiring(record, expires_at) for record in first.records])
    stale = StaleAnswer(expires_at, records, alias, True)
    stale.first = first
    return stale


# --- 19. Lookups -------------------------------------------------------------
#
# One name and one type: asks nameservers until one answers, for everybody who wants to know.
# A Lookup is a state machine that belongs to no task. Its events: an outcome of an exchange, a
# timeout, a permit for a socket, the next set of nameservers, a waiter that comes or leaves. A
# Waiter is used in the task of its caller: it begins or joins lookups, and runs
# get_nameservers and transform_fqdn when they ask for the next set.

GetHost = Callable[[bytes, int], Awaitable[Any]]
GetNameservers = Callable[[bytes], AsyncGenerator[tuple[Any, ...], None]]
TransformFqdn = Callable[[bytes], bytes]
AcceptAddress = Callable[[IPv4Address | IPv6Address], bool]
ROTATION: itertools.count[int] = itertools.count()  # counts resolutions with `options rotate`
OUTAGES = (ResponseCode, Truncated, BadResponse, QueryTimeout, SocketError)
RANKS = (CnameChainTooLong, *OUTAGES)  # errors, the most informative first
OTHER_CASE = 'The question of the reply has another letter case'
SHORTAGES = (
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EADDRNOTAVAIL,
    errno.EAGAIN,
)  # on this host: no nameserver is to blame
STREAM_ENDS = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
REFUSES_EDNS = (RCODES.FORMERR, RCODES.NOTIMP, RCODES.BADVERS)  # RFC 6891 6.2.2, 7
NO_PERMIT, HAS_PERMIT, IS_NEXT = range(3)  # IS_NEXT: none, and the head of the queue
UNDECIDED = ((None, DATAGRAM),)  # which of a set to ask is decided with a socket


class NameserverSet(NamedTuple):
    """Nameservers to ask at once, the timeout, and the name to send."""

    timeout: float
    servers: tuple[Server, ...]
    name: bytes | None  # None: its letters in random case


NO_SET = NameserverSet(0.0, (), None)


def probe_order_of(each: NameserverSet) -> int:
    """Returns the lowest `probe_order` of a set; 0 if one of its nameservers is responsive."""
    return min([server.probe_order if server.unresponsive_until else 0 for server in each.servers])


class Settings(NamedTuple):
    """The arguments of a resolver, and its state."""

    get_host: GetHost | None  # None: `config` has hosts
    get_nameservers: GetNameservers
    transform_fqdn: TransformFqdn | None  # None: mix_case
    cache: Cache
    lookups: dict[CacheKey, Lookup]
    servers: dict[Nameserver, Server]
    # By what was yielded, each with the tuple of it alone.
    sets: dict[tuple[Any, ...], tuple[NameserverSet]]
    notice: Callable[[], None] | None  # called when a type has records
    config: SystemConfig
    serve_stale: float  # seconds after its expiry that an answer may be used
    ssl_context: SSLContext | None  # None: the system's authorities
    accept_address: AcceptAddress | None  # None: all are accepted


def sets_of(conf: Conf) -> list[tuple[float, Nameserver]]:
    """Returns the sets of nameservers of resolv.conf: one nameserver each, in several rounds."""
    nameservers: list[Any] = [*conf.nameservers]
    if conf.rotate:
        first = next(ROTATION) % len(nameservers)
        nameservers = nameservers[first:] + nameservers[:first]
    if conf.use_vc:
        nameservers = [
            f'tcp://{host}:{port}' if host.version == 4 else f'tcp://[{host}]:{port}'
            for host, port in nameservers
        ]
    return [(conf.timeout, nameserver) for nameserver in nameservers] * conf.attempts


async def get_nameservers_from_etc_resolve_conf(
    fqdn: bytes, path: str = RESOLV_CONF
) -> AsyncGenerator[tuple[Any, ...], None]:
    """Yields the nameservers of resolv.conf, one at a time with 0.5 s for each, in five rounds.

    Its options `timeout:`, `attempts:`, `rotate` and `use-vc` change this. Without the file, or a
    nameserver in it, this is 127.0.0.1.
    """
    now = asyncio.get_running_loop().time()
    for each in sets_of(config_file(path, parse_resolv_conf).current(now)):
        yield each


async def get_host_from_etc_hosts(
    fqdn: bytes, qtype: int, path: str = HOSTS
) -> tuple[Any, ...] | None:
    """Returns the addresses in hosts, `()` if hosts has only the other family, or None."""
    now = asyncio.get_running_loop().time()
    addresses = config_file(path, parse_hosts).current(now).get(fqdn)
    return addresses.get(qtype) if addresses is not None else None


def to_set(settings: Settings, yielded: Any, fqdn: bytes) -> tuple[NameserverSet]:
    """Returns the set for what get_nameservers yielded, in a tuple that lookups share.

    Raises TypeError or InvalidName.
    """
    if not isinstance(yielded, tuple) or not yielded:
        raise TypeError(f'get_nameservers yields (timeout, nameserver, ...), not {yielded!r}')
    alone = settings.sets.get(yielded)
    if alone is None:
        timeout, *nameservers = yielded
        if not isinstance(timeout, (int, float)):
            raise TypeError(f'A timeout has to be a number of seconds, not {timeout!r}')
        timeout = min(max(0.0, timeout), MAX_TIMEOUT)  # in this order, so that nan is 0
        servers: tuple[Server, ...] = ()
        for nameserver in nameservers:
            server = settings.servers.get(nameserver)
            if server is None:
                if len(settings.servers) >= MAX_SERVERS:
                    settings.servers.clear()
                    settings.sets.clear()
                server = to_server(nameserver)
                server.context = settings.ssl_context
                # Another spelling of a known nameserver gets the same Server.
                server = settings.servers.setdefault(server.url, server)
                settings.servers[nameserver] = server
            servers += (server,)
        if len(settings.sets) >= MAX_SERVERS:  # the timeouts may be different each time
            settings.sets.clear()
        alone = (NameserverSet(timeout, servers, None),)
        settings.sets[yielded] = alone
    if settings.transform_fqdn is None:
        return alone
    return (alone[0]._replace(name=to_name(settings.transform_fqdn(fqdn))),)


class Tried:
    """What a lookup has found out about one nameserver."""

    failures = 0  # errors, refusals and streams that ended, MAX_FAILURES at most
    losses = 0  # streams that ended while this query waited among others
    lacks_edns = ''  # why it is asked without EDNS: 'silent' or 'refused'
    asked_on_stream = False  # it was asked again over a stream
    has_case_mismatch = False  # its reply was in another letter case
    lower_case = ''  # why it is asked in lower case: 'silent', 'absent' or 'mismatch'
    is_doubted = False  # it said that the name is absent, which is to be checked in lower case
    absence: NegativeAnswer | None = None  # that it said
    was_late = False  # it answered others, so this query is asked alone
    # Of descriptors: at which set (negative: a skipped one), and when it was found first.
    shortage = 0, 0.0


UNTRIED = Tried()  # never changed
Failures = dict[tuple[Server, bool, type[Failure]], Failure]  # by nameserver, whether on a stream
NO_FAILURES: Failures = {}  # at first, for all lookups; never changed
NOTHING_TRIED: Mapping[Server, Tried] = {}  # at first, for all lookups


def has_capital(query: Query) -> bool:
    name = query.name
    return name != name.lower()


def outcome_text(outcome: LookupOutcome, now: float) -> str:
    if isinstance(outcome, (ResolverError, CallersError)):
        error = outcome.error if isinstance(outcome, CallersError) else outcome
        return f'{type(error).__name__}: {error}'
    seconds = f'valid for {max(0.0, outcome.expires_at - now):.0f} s'
    if isinstance(outcome, NegativeAnswer):
        return f'{outcome.error}, {seconds}'
    if outcome.records:
        return f'records: {len(outcome.records)}, {seconds}'
    return 'an alias, whose target has to be asked for'


def advance_batch(batch: list[Lookup]) -> None:
    lookups = batch[:]
    batch.clear()
    for lookup in lookups:
        if lookup.waiters:
            try:
                lookup.advance()
            except Exception as error:
                abort(lookup, error)


class Lookup:
    """The state of asking for one name and one type."""

    __slots__ = (
        'attempts context current exchanges fallback fqdn key loop outcome permit'
        ' resources sets settings skipped taken timer tried unsent waiters'
    ).split()

    def __init__(
        self,
        settings: Settings,
        loop: Loop,
        resources: LoopResources,
        key: CacheKey,
        fqdn: bytes,
        waiters: list[Waiter],
        sets: tuple[NameserverSet | None, ...],
        context: Context | None,
        tried: Mapping[Server, Tried],
    ) -> None:
        self.settings = settings
        self.loop = loop
        self.resources = resources
        self.key = key
        self.fqdn = fqdn
        self.waiters = waiters  # the first one fetches
        self.sets = sets  # fetched so far; None is their end
        self.context = context  # of whoever began it, to log in
        self.tried = tried
        self.taken = 0  # how many of the sets
        self.current: NameserverSet = NO_SET  # the set that is being asked
        self.unsent: tuple[tuple[Server | None, int], ...] = ()  # whom to ask, and how
        # Sets that seemed unresponsive; None once these are asked, at the end.
        self.skipped: tuple[NameserverSet, ...] | None = ()
        # All that may still bring a reply; those to the current set come last.
        self.exchanges: tuple[Exchange, ...] = ()
        self.timer: float | None = None  # the length of the timeout that is running
        self.permit: int = NO_PERMIT
        self.attempts = 0
        self.fallback: Known | Failures = NO_FAILURES  # what is told if there is no answer
        self.outcome: LookupOutcome | None = None

    # --- Waiters

    def join(self, waiter: Waiter) -> None:
        """Adds a waiter. Raises ResolverError if it would wait for itself."""
        awaiting = [*waiter.fetching]
        for lookup in awaiting:  # grows by lookups whose waiters wait for one in it, each once
            if lookup is self:
                raise ResolverError('get_nameservers resolves the name that it is called for')
            for other in lookup.waiters:
                if other.lookups:  # else it has left
                    awaiting += [each for each in other.fetching if each not in awaiting]
        self.waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Takes note that a waiter has left: another one fetches, or if none is left, it ends."""
        waiters = self.waiters
        while waiters and not waiters[0].lookups:  # each turn takes out one that has left
            del waiters[0]
        if not waiters:
            if self.settings.lookups.get(self.key) is self:
                del self.settings.lookups[self.key]
            self.close()
            what = describe(self.fqdn, self.key[1])
            log_debug(self.context, 'Asked for %s: nobody waits for it any more', what)
        elif self in waiter.wanted:
            self.request_set()

    def request_set(self) -> None:
        """Asks a waiter to fetch the next set.

        The caller's get_nameservers may resolve too: a permit that is not used is released, and if
        there is none, one is free or a stream can become idle.
        """
        limit = self.resources.limit
        self.stop_timer()
        if self.permit == HAS_PERMIT:
            self.release_permit()
        elif not limit.free and not limit.idle and self.free_up():
            limit.release()
        fetcher = self.waiters[0]
        if self not in fetcher.wanted:
            fetcher.wanted += (self,)
            if fetcher.future is not None and not fetcher.future.done():
                fetcher.future.set_result(None)

    # --- Sets of nameservers, one after the other

    def advance_soon(self) -> None:
        """Continues in the next turn of the loop, together with others.

        A system call evicts much of the processor's caches. If many lookups first prepare what
        they send, and then all send, a query costs a fifth less than if each does both in turn.
        """
        batch = self.resources.batch
        if not batch:
            self.loop.call_soon(advance_batch, batch, context=Context())
        batch.append(self)

    def advance(self) -> None:
        """Sends what there is to send, set after set, until there is something to wait for.

        After the last set come those that were skipped, and then the end.
        """
        while self.outcome is None:  # each turn sends or fails something, or takes a set
            if self.unsent:
                if not self.send_next():  # there is no socket for it yet
                    if self.timer is None and self.is_waiting():
                        self.start_timer(self.current.timeout)
                    return
            elif self.exchanges and self.exchanges[-1].asked_set is self.current:  # it is_waiting
                if self.permit == HAS_PERMIT:
                    self.release_permit()
                if self.timer is None:
                    self.timer = self.current.timeout
                    self.resources.timers.start(self.timer, self, self.loop)
                return
            elif isinstance(self.fallback, Answer) and not any(
                [exchange.is_stream for exchange in self.exchanges]
            ):
                self.finish(self.fallback)  # the usable records of a truncated reply
            elif isinstance(self.fallback, NegativeAnswer):
                # Its own checks are over, and whoever waits for them may be waited for by it.
                for server in self.tried:
                    server.letter_case.end_check(self, False)
                if not self.check_absence():
                    for server, tried in self.tried.items():
                        if tried.absence is self.fallback:
                            self.explain(self.fallback.error, server, False)
                    self.finish(self.fallback)
                elif not self.unsent:
                    # It waits until the checks of others have ended, which may need its permits.
                    self.release_permit()
                    return self.close_exchanges()
            elif self.taken == len(self.sets) < MAX_SETS:
                return self.request_set()
            elif self.taken < MAX_SETS and (each := self.sets[self.taken]) is not None:
                self.taken += 1
                self.current = each
                self.unsent = UNDECIDED if each.servers else ()
            elif self.skipped:
                self.sets, self.taken, self.skipped = (*self.skipped, None), 0, None
            elif isinstance(self.fallback, Answer):
                self.finish(self.fallback)
            else:
                # An error without a question may be forged: the true reply may come later.
                listens_until = max([each.listens_until for each in self.exchanges], default=0.0)
                seconds = listens_until - self.loop.time()
                if seconds > 0:
                    self.stop_timer()
                    return self.start_timer(seconds)
                self.finish(self.failure())

    def is_waiting(self) -> bool:
        """Whether a query to the current set is on its way."""
        return bool(self.exchanges) and self.exchanges[-1].asked_set is self.current

    def decide(self) -> None:
        """Decides which nameservers of the set to ask, now that there is a permit or a stream.

        A set is skipped if all its nameservers seem unresponsive. If it comes round again, the
        skipped set is asked that was found unresponsive, or tried, the longest ago. After the last
        set all skipped ones are asked, in this order.
        """
        now = self.loop.time()
        if self.skipped is None:
            at = self.taken - 1
            rest = [each for each in self.sets[at:] if each is not None]
            rest.sort(key=probe_order_of)
            self.sets = (*self.sets[:at], *rest, None)
            self.current = rest[0]
        servers = self.current.servers
        # Of all: each one whose time has come is probed.
        are_skipped = not any([server.may_be_asked(now) for server in servers])
        if are_skipped and self.skipped is not None:
            if servers not in [each.servers for each in self.skipped]:
                self.skipped += (self.current,)
                if self.permit == HAS_PERMIT:  # it stays the first in the queue
                    self.release_permit()
                    self.permit = IS_NEXT
                return
            timeout = self.current.timeout  # which may grow from round to round
            self.current = min(self.skipped, key=probe_order_of)._replace(timeout=timeout)
            servers = self.current.servers
        for server in servers:
            if are_skipped:
                server.probe_order = next(PROBE_ORDER)
            pending = self.exchange_on_stream(server)
            if pending is not None:  # this may still be answered
                pending.asked_set = self.current
                self.remove(pending)
                self.exchanges += (pending,)
            elif self.tried.get(server, UNTRIED).failures < MAX_FAILURES:
                self.unsent += ((server, STREAM if server.is_stream else DATAGRAM),)

    def exchange_on_stream(self, server: Server) -> StreamExchange | None:
        """Returns the exchange with a nameserver on a stream, if it may still bring a reply."""
        for exchange in self.exchanges:
            if not isinstance(exchange, StreamExchange) or exchange.server is not server:
                continue
            if server.stream_for(exchange.stream.way, self.loop) is exchange.stream:
                return exchange
        return None

    # --- Sending

    def send_next(self) -> bool:
        """Sends or fails the first unsent query. Returns False if there is no socket for it."""
        chosen, way = self.unsent[0]
        server = chosen or self.current.servers[0]
        if chosen is None and server.is_stream:
            way = STREAM
        stream = None if way == DATAGRAM else server.stream_for(way, self.loop)
        if stream is None and self.permit != HAS_PERMIT:
            limit = self.resources.limit
            if limit.free:  # nearly always
                limit.free -= 1
            elif not (limit.acquire() or self.make_room()):
                return False
            self.permit = HAS_PERMIT
        self.unsent = self.unsent[1:]
        if chosen is None and (
            self.exchanges or self.tried or server.unresponsive_until or self.current.servers[1:]
        ):  # else, nearly always, there is nothing to decide
            self.decide()
            return True
        query = self.make_query(server, way)
        if self.timer is not None:
            self.stop_timer()  # it starts again when everything is sent
        self.attempts += 1
        try:
            exchange = send(
                server, way, stream, query, read_reply, self, self.resources, self.loop
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return self.wait_for_descriptor(server, way, error)
            self.fail(server, error, way != DATAGRAM)
            return True
        exchange.asked_set = self.current
        self.exchanges += (exchange,)
        if stream is None:
            self.permit = NO_PERMIT
        if self.context is not None:
            if isinstance(exchange, DatagramExchange):
                exchange.context = self.context
            else:
                exchange.stream.context = self.context
        return True

    def make_room(self) -> bool:
        """Gets a permit although none is free. Returns whether it got one.

        While a query to the current set is on its way, that comes first. Otherwise the permit of
        the oldest socket is taken, or it waits in the queue, with nothing left that others may
        wait for.
        """
        limit = self.resources.limit
        if self in limit.queue or self.is_waiting():
            return False
        # Before it has sent anything, as when many ask at once, it has nothing to free up.
        if self.exchanges and (self.free_up() or limit.acquire()):  # of a stream that is idle now
            return True
        self.stop_timer()
        limit.enqueue(self, self.permit == IS_NEXT)
        return False

    def free_up(self) -> bool:
        """Closes the oldest socket, whose permit is the caller's then, or gives up all streams."""
        for exchange in self.exchanges:
            if isinstance(exchange, DatagramExchange):
                self.remove(exchange)
                exchange.close_keeping_permit()
                return True
        self.close_exchanges()  # a stream may become idle
        return False

    def remove(self, exchange: Exchange) -> None:
        self.exchanges = tuple([each for each in self.exchanges if each is not exchange])

    def close_exchanges(self) -> None:
        exchanges, self.exchanges = self.exchanges, ()
        for exchange in exchanges:
            exchange.close()

    def on_permit(self) -> None:
        self.permit = HAS_PERMIT
        self.advance_soon()

    def release_permit(self) -> None:
        if self.permit == HAS_PERMIT:
            self.permit = NO_PERMIT
            self.resources.limit.release()

    def wait_for_descriptor(self, server: Server, way: int, error: OSError) -> bool:
        """Waits for a descriptor, for at most one timeout: the nameserver is not to blame."""
        now = self.loop.time()
        at = self.taken if self.skipped is not None else -self.taken
        # By any nameserver of the set: all of them share one timeout.
        found = [each.shortage[1] for each in self.tried.values() if each.shortage[0] == at]
        since = min(found, default=now)
        self.tried_with(server).shortage = at, since
        is_waiting = self.is_waiting()
        if not is_waiting and now >= since + self.current.timeout:
            self.note(error, server, way != DATAGRAM)
            return True
        # It keeps the permit: without a descriptor others could not use it either.
        self.attempts -= 1  # it is the same attempt when there is one
        self.ask_again(server, way)
        if not is_waiting:
            self.stop_timer()
            self.start_timer(min(self.current.timeout, DESCRIPTOR_PAUSE))
        return False

    def make_query(self, server: Server, way: int) -> Query:
        """Returns a new query, in the form that the nameserver supports."""
        name, forms = self.current.name, EDNS_FORMS
        if name is None and way != DATAGRAM:  # forging is hard there
            name = self.fqdn
        if self.tried or server.no_edns_until or server.letter_case.lower_until:  # seldom
            tried, now = self.tried.get(server, UNTRIED), self.loop.time()
            if tried.lacks_edns or server.no_edns_until > now:
                forms = PLAIN_FORMS
            if tried.lower_case or server.letter_case.lower_until > now:
                name = self.fqdn if name is None else name.lower()
            elif tried.has_case_mismatch:
                name = self.current.name  # as before, to see whether the server folds letter case
        form = forms[self.settings.config.conf.trust_ad]
        if name is None:
            query = mixed_query(self.fqdn, self.key[1], form)
        else:
            query = to_query(name, self.key[1], form)
        return query if way == DATAGRAM else for_stream(query, server.scheme)

    def start_timer(self, seconds: float) -> None:
        self.timer = seconds
        self.resources.timers.start(seconds, self, self.loop)

    def stop_timer(self) -> None:
        seconds, self.timer = self.timer, None
        if seconds is not None:
            self.resources.timers.stop(seconds, self, self.loop)

    # --- What comes of it

    def __call__(self, exchange: Exchange, outcome: Any) -> None:
        """Takes an outcome of an exchange: an answer, a reason to ask otherwise, or a failure."""
        if self.outcome is not None:  # it has ended
            return
        server, is_stream = exchange.server, exchange.is_stream
        if outcome.__class__ is WithoutQuestion:
            if isinstance(exchange, DatagramExchange):
                return self.take_unproven(exchange, outcome.outcome)
            outcome = outcome.outcome
        now = self.loop.time()
        if not isinstance(outcome, OSError) or isinstance(outcome, RequestEnded):
            server.responded_at = now
            server.unresponsive_until = 0.0
        if outcome.__class__ is Answer and not (
            self.tried or server.no_edns_until or server.edns_unanswered
        ):  # nearly always: there is nothing else to learn from it
            case = server.letter_case
            is_due = not is_stream and now >= case.confirmed_at + CONFIRM_AGAIN_SECONDS
            if is_due and has_capital(exchange.query):
                case.confirm(now)
            return self.finish(outcome)
        self.take(exchange, outcome, now)

    def take(self, exchange: Exchange, outcome: Any, now: float) -> None:
        """Takes an outcome that is no answer, or an answer that teaches something."""
        server, is_stream = exchange.server, exchange.is_stream
        is_last = is_stream or not isinstance(outcome, CaseMismatch)  # else the socket listens on
        if is_last:
            self.remove(exchange)
        if isinstance(outcome, CaseMismatch):
            if isinstance(exchange, DatagramExchange):
                exchange.dropped = BadResponse(OTHER_CASE)
                self.tried_with(server).has_case_mismatch = True
                self.ask_on_stream(server)
                return self.advance()
            outcome = outcome.outcome
            if isinstance(outcome, Known):
                server.letter_case.lower_until = now + LOWER_CASE_SECONDS
        if isinstance(outcome, TruncatedAnswer):
            outcome = outcome.outcome
            if not is_stream:  # the complete reply is asked for over a stream, once
                if isinstance(outcome, Answer):
                    self.fallback = outcome  # the outcome if no stream brings the whole
                elif isinstance(outcome, ResolverError):
                    self.note(outcome, server, False)
                if not self.ask_on_stream(server) and self.exchange_on_stream(server) is None:
                    self.tried_with(server).failures += 1
                return self.advance()
        if isinstance(outcome, Known):
            return self.accept(exchange, outcome)
        if isinstance(outcome, ResponseCode) and exchange.query.has_edns:
            tried = self.tried_with(server)
            if outcome.rcode in REFUSES_EDNS and tried.lacks_edns != 'refused':
                tried.lacks_edns = 'refused'
                self.note(outcome, server, is_stream)
                self.ask_again(server, STREAM if is_stream else DATAGRAM)
                return self.advance()
        if isinstance(outcome, STREAM_ENDS) and isinstance(exchange, StreamExchange):
            self.ask_elsewhere(exchange, outcome)
        elif isinstance(outcome, (ResolverError, OSError)):
            has_replied = isinstance(exchange, StreamExchange) and exchange.stream.replies > 0
            is_there = has_replied or isinstance(outcome, RequestEnded)
            if exchange.listens_until:  # this attempt has failed before
                self.note(outcome, server, False)
            else:
                self.fail(server, outcome, is_stream, is_there)
            if is_stream:
                self.ask_in_lower_case(server)
        else:
            return self.abort(outcome)
        self.advance()

    def take_unproven(self, exchange: DatagramExchange, error: ResponseCode) -> None:
        """Takes an error without a question, which may be forged: the next attempt starts.

        It counts once for an exchange, which goes on listening, and says nothing for certain
        about the nameserver.
        """
        if exchange.listens_until:
            return
        exchange.listens_until = exchange.sent_at + exchange.asked_set.timeout
        exchange.asked_set = NO_SET
        by_age = sorted(self.exchanges, key=lambda each: each.asked_set is self.current)
        self.exchanges = tuple(by_age)
        tried = self.tried_with(exchange.server)
        if error.rcode in REFUSES_EDNS and exchange.query.has_edns and not tried.lacks_edns:
            tried.lacks_edns = 'silent'  # as if it had been silent: three names in a row prove it
            self.ask_again(exchange.server, DATAGRAM)
        else:
            tried.failures += 1
        self.note(error, exchange.server, False)
        self.advance()

    def tried_with(self, server: Server) -> Tried:
        """Returns what is known about a nameserver, to be changed."""
        if server not in self.tried:
            self.tried = {**self.tried, server: Tried()}
        return self.tried[server]

    def accept(self, exchange: Exchange, known: Known) -> None:
        """Ends with a good reply, and remembers what it shows about the nameserver."""
        server = exchange.server
        tried = self.tried.get(server, UNTRIED)
        now = self.loop.time()
        if exchange.query.has_edns:
            server.edns_unanswered = 0
            server.no_edns_until = 0.0
        elif tried.lacks_edns:
            # One reply after a loss proves nothing, but an error does.
            server.edns_unanswered += 1
            if tried.lacks_edns == 'refused' or server.edns_unanswered >= MAX_UNANSWERED:
                server.no_edns_until = now + NO_EDNS_SECONDS
        error = known.error if isinstance(known, NegativeAnswer) else None
        is_absent = error is not None and known.alias is None  # else it gave a record at least
        is_capital = has_capital(exchange.query)
        case = server.letter_case
        if is_capital and not is_absent and not exchange.is_stream:
            case.confirm(now)
        elif tried.lower_case and not is_capital:
            is_proof = True  # of one that folds letter case
            if tried.lower_case == 'silent':  # one reply after a loss proves nothing
                case.confirmed_at = float('-inf')
                case.unanswered += 1
                is_proof = case.unanswered >= MAX_UNANSWERED
            elif tried.lower_case == 'absent':
                # Whoever answers for one name may change the answer on purpose, so this proves
                # nothing if the nameserver gave records for another name meanwhile.
                before = tried.absence and tried.absence.error.rcode
                is_same = error is not None and error.rcode == before
                is_proof = not is_same and not case.is_confirmed(now)
            if is_proof:
                case.lower_until = now + LOWER_CASE_SECONDS
        is_alone = isinstance(exchange, StreamExchange) and exchange.stream.way == ALONE
        if tried.was_late and is_alone and any([each.is_stream for each in self.exchanges]):
            server.answered_alone += 1
            if server.answered_alone >= MAX_ANSWERED_ALONE:
                server.answered_alone = 0
                server.one_at_a_time_until = now + ONE_AT_A_TIME_SECONDS
        may_be_wrong = is_absent and is_capital and not exchange.is_stream
        if isinstance(known, NegativeAnswer) and may_be_wrong and not case.is_confirmed(now):
            tried = self.tried_with(server)
            tried.absence = known
            tried.is_doubted = tried.lower_case != 'absent'  # else the check is on its way
            self.fallback = known
            if self.check_absence() or not tried.is_doubted:
                return self.advance()
        if error is not None:
            self.explain(error, server, exchange.is_stream)
        self.finish(known)

    def check_absence(self) -> bool:
        """Asks in lower case whether a name is absent, or waits for the checks of others.

        Returns False if the absence stands.
        """
        now = self.loop.time()
        for server, tried in self.tried.items():
            if not tried.is_doubted:
                continue
            if server.letter_case.begin_check(self, now):
                tried.is_doubted = False
                tried.lower_case = 'absent'
                self.ask_again(server, DATAGRAM)
                return True
            if server.letter_case.wait_for_checks(self):
                return True
        return False

    def on_timeout(self) -> None:
        """No reply came in time. What was sent may still be answered."""
        self.timer = None
        now = self.loop.time()
        for exchange in [each for each in self.exchanges if each.asked_set is self.current]:
            exchange.asked_set = NO_SET
            server = exchange.server
            tried = self.tried_with(server)
            # A timeout on another way says nothing. If others got replies, only the name is slow.
            if exchange.is_stream == server.is_stream and server.responded_at < exchange.sent_at:
                server.found_unresponsive(now)
            error = QueryTimeout(LATE)
            error.__cause__ = exchange.dropped
            self.note(error, server, exchange.is_stream)
            if not isinstance(exchange, StreamExchange):
                # It may be silent to capitals only, or to EDNS only: first one is tried, then the
                # other, then both.
                is_known = tried.lower_case or tried.has_case_mismatch
                is_suspect = not is_known and not server.letter_case.is_confirmed(now)
                if is_suspect and has_capital(exchange.query):
                    tried.lower_case = 'silent'
                elif exchange.query.has_edns and not tried.lacks_edns:
                    tried.lacks_edns = 'silent'
                    if tried.lower_case == 'silent':
                        tried.lower_case = ''
                continue
            # A query that waits to be sent alone has not been asked yet.
            is_late = exchange.is_sent and exchange.sent_at + self.current.timeout <= now
            if is_late:
                exchange.is_late = True
                exchange.stream.flush_soon()  # others are sent though it has not been answered
            are_others_answered = is_late and exchange.stream.replies > exchange.replies_before
            has_room = RETIRED not in server.streams
            if are_others_answered and has_room and not tried.was_late:
                tried.was_late = True  # the query stays there, and is asked once more
                self.ask_again(server, ALONE)
            else:
                self.ask_in_lower_case(server)
        self.advance()

    def ask_again(self, server: Server, way: int) -> None:
        """Asks the same nameserver again, before anything else."""
        self.unsent = ((server, way), *self.unsent)

    def ask_on_stream(self, server: Server) -> bool:
        """Asks the same nameserver over a stream, once. Returns False if that was done before."""
        tried = self.tried_with(server)
        if tried.asked_on_stream:
            return False
        tried.asked_on_stream = True
        self.ask_again(server, STREAM)
        return True

    def ask_in_lower_case(self, server: Server) -> None:
        """Asks again in lower case, if a stream brought nothing after a CaseMismatch."""
        tried = self.tried_with(server)
        if tried.has_case_mismatch and not tried.lower_case:
            tried.lower_case = 'mismatch'
            self.ask_again(server, DATAGRAM)

    def ask_elsewhere(self, exchange: StreamExchange, error: OSError) -> None:
        """Asks again on another stream when one has ended (RFC 7766 6.2.4).

        A good stream may end at any time. A name at which the server closes it must not fail the
        others on it: after MAX_LOSSES they are asked alone, one by one.
        """
        server, stream = exchange.server, exchange.stream
        tried = self.tried_with(server)
        was_good = stream.replies > 0
        is_our_doing = not exchange.is_sent or error.args == GIVEN_UP
        if is_our_doing and self.attempts < MAX_SETS:
            self.attempts -= 1
            self.ask_again(server, stream.way)
        elif was_good and stream.way != ALONE and tried.losses < MAX_LOSSES:
            tried.losses += 1
            self.ask_again(server, STREAM if tried.losses < MAX_LOSSES else ALONE)
        else:
            self.fail(server, error, True, was_good)
            if tried.failures < MAX_FAILURES:
                self.ask_again(server, ALONE)
            else:
                self.ask_in_lower_case(server)

    def fail(
        self, server: Server, error: Failure, is_stream: bool, is_there: bool = False
    ) -> None:
        """Counts a failure. A network error marks the nameserver, unless it `is_there`."""
        self.tried_with(server).failures += 1
        is_far = isinstance(error, OSError) and error.errno not in SHORTAGES and not is_there
        if is_far and is_stream == server.is_stream:
            server.found_unresponsive(self.loop.time())
        self.note(error, server, is_stream)

    def explain(
        self, error: Failure, server: Server, is_stream: bool, others: str = ''
    ) -> ResolverError:
        """Returns the error with what was asked, which nameserver, and how often."""
        where = f'{describe(self.fqdn, self.key[1])} from {place_of(server, is_stream)}'
        return with_context(error, where, f' (attempts: {self.attempts}){others}')

    def note(self, error: Failure, server: Server, is_stream: bool) -> None:
        """Notes an error for the end: the last one of each kind, place by place."""
        if isinstance(error, MalformedMessage):  # on a stream it comes from the server
            bad = BadResponse(str(error))
            bad.__cause__ = error
            error = bad
        if self.context is not None:
            text = f'{describe(self.fqdn, self.key[1])} from {place_of(server, is_stream)}'
            text = f'{text}: {text_of(error)} (attempts: {self.attempts})'
            log_debug(self.context, 'An attempt failed: %s', text)
        if not isinstance(self.fallback, Known):
            place = server, is_stream, type(error)
            failures = {key: one for key, one in self.fallback.items() if key != place}
            self.fallback = {**failures, place: error}  # in the order of time

    def failure(self) -> ResolverError:
        """Returns the error of a lookup without an answer: the last one of the best rank.

        The other errors are in its text, the last one first. That is also its cause, unless it is
        the error itself, or the error has a cause already.
        """
        failures = [] if isinstance(self.fallback, Known) else [*self.fallback.items()][::-1]
        if not failures:
            what = f'{describe(self.fqdn, self.key[1])}: get_nameservers yielded no nameserver'
            return QueryTimeout(what)
        # Of two errors of one kind in RANKS, min returns the first, which is the last in time.
        best = min(failures, key=lambda each: [not isinstance(each[1], kind) for kind in RANKS])
        texts = [
            f'{place_of(*key[:2])}: {text_of(one)}' for key, one in failures if one != best[1]
        ]
        error = self.explain(best[1], *best[0][:2], other_failures(texts))
        dropped = [each.dropped for each in self.exchanges if each.dropped is not None]
        if isinstance(error, QueryTimeout) and error.__cause__ is None and dropped:
            error.__cause__ = dropped[-1]
        (server, is_stream, _), last = failures[0]
        if error.__cause__ is None and last != best[1]:
            error.__cause__ = self.explain(last, server, is_stream)
        return error

    def finish(self, outcome: LookupOutcome) -> None:
        """Ends the lookup: caches the outcome, and wakes all waiters."""
        settings = self.settings
        now = self.loop.time()
        error = None
        if settings.serve_stale and isinstance(outcome, OUTAGES):
            stale = revive(settings.cache.get(self.key), now - settings.serve_stale, now)
            if stale is not None:
                error, outcome = outcome, stale
        self.outcome = outcome
        if settings.lookups.get(self.key) is self:  # else the cache was cleared
            del settings.lookups[self.key]
            if isinstance(outcome, Known):
                remember(settings.cache, self.key, outcome, now)
        for waiter in self.waiters:
            waiter.unfinished -= 1
            if waiter.future is not None and not waiter.future.done():
                waiter.future.set_result(None)
            notice = waiter.settings.notice
            if notice is not None and isinstance(outcome, Answer) and outcome.records:
                notice()
        self.close()  # after they are woken: those who ask again may use its timer
        if self.context is None:
            return
        if error is not None:
            # As text: a handler that keeps its records would also keep the cause of the error.
            self.context.copy().run(logger.warning, 'Returned an expired answer: %s', str(error))
        if logger.isEnabledFor(logging.DEBUG):
            text = outcome_text(outcome, now)
            log_debug(self.context, 'Asked for %s: %s', describe(self.fqdn, self.key[1]), text)

    def abort(self, error: Exception) -> None:
        if self.outcome is None:
            self.finish(CallersError(error, error.__traceback__))

    def close(self) -> None:
        """Closes all exchanges, and releases what it holds."""
        if self.timer is not None:
            self.resources.timers.stop(self.timer, self, self.loop)
            self.timer = None
        for server in self.tried:
            # A check says nothing if the caller left first, or another nameserver had records.
            is_vain = not isinstance(self.outcome, NegativeAnswer)
            server.letter_case.end_check(self, is_vain)
        limit = self.resources.limit
        if limit.queue:
            limit.queue.pop(self, None)
        if self.permit:
            self.release_permit()
        self.close_exchanges()


# The lookups that this task fetches nameservers for: joining one of them would deadlock.
FETCHING: ContextVar[tuple[Lookup, ...]] = ContextVar('FETCHING', default=())


class Waiter:
    """A caller that waits for lookups of one name, and fetches sets of nameservers for them."""

    __slots__ = 'fetching fqdn future generator lookups settings unfinished wanted'.split()

    def __init__(self, settings: Settings, fqdn: bytes, fetching: tuple[Lookup, ...]) -> None:
        self.settings = settings
        self.fqdn = fqdn
        self.fetching = fetching  # the lookups whose get_nameservers it is called in
        self.lookups: tuple[Lookup, ...] = ()  # none once it has left
        self.unfinished = 0  # of its lookups
        self.wanted: tuple[Lookup, ...] = ()  # lookups that it has to fetch the next set for
        self.generator: Any = None  # of get_nameservers, once it has begun
        self.future: asyncio.Future[None] | None = None  # done when there is something to do

    def begin(self, text: str, qtypes: Iterable[int], loop: Loop) -> None:
        """Begins lookups, or joins those of others. `text` is its name."""
        settings = self.settings
        entry = RESOURCES.get(id(loop))  # nearly always there: a frame less
        resources = resources_of(loop) if entry is None else entry[1]
        is_logged = settings.serve_stale or logger.isEnabledFor(logging.DEBUG)
        context = copy_context() if is_logged else None
        config, sets = settings.config, ()
        if config.has_nameservers and settings.transform_fqdn is None:
            if not config.sets or config.conf.rotate:
                of_the_system = [to_set(settings, each, b'')[0] for each in sets_of(config.conf)]
                config.sets = (*of_the_system, None)
            sets = config.sets
        begun: tuple[Lookup, ...] = ()
        for qtype in qtypes:
            key = text, qtype
            lookup = settings.lookups.get(key)
            if lookup is not None and lookup.loop is loop:
                lookup.join(self)
            else:
                lookup = settings.lookups[key] = Lookup(
                    settings, loop, resources, key, self.fqdn, [self], sets, context, NOTHING_TRIED
                )
                begun += (lookup,)
            self.lookups += (lookup,)
            self.unfinished += 1
        if not sets:
            self.wanted = begun
            return
        advance = Lookup.advance if len(settings.lookups) <= MIN_BATCH else Lookup.advance_soon
        for lookup in begun:
            advance(lookup)

    async def fetch(self) -> None:
        """Gets the next set from the caller's get_nameservers, for the lookups that want one."""
        settings = self.settings
        fetched: tuple[NameserverSet | None] = (None,)  # the end of the sets
        is_new = self.generator is None
        token = FETCHING.set(self.fetching + self.lookups)
        try:
            if is_new:
                self.generator = settings.get_nameservers(self.fqdn)
            fetched = to_set(settings, await anext(self.generator), self.fqdn)
        except StopAsyncIteration:
            pass
        except Exception as error:  # from the caller's function: all waiters get it
            for lookup in self.wanted:
                lookup.abort(error)
        finally:
            FETCHING.reset(token)
        wanted, self.wanted = self.wanted, ()
        for lookup in self.lookups:  # one that does not need it now finds it later
            if lookup.outcome is None and (lookup in wanted or lookup.waiters[0] is self):
                if fetched[0] is not None or lookup.sets or is_new:
                    lookup.sets += fetched
                else:  # it joined this one, whose fetcher left before the first set
                    self.generator = None  # this one has ended: a new one has sets for it
        advance = Lookup.advance if len(settings.lookups) <= MIN_BATCH else Lookup.advance_soon
        for lookup in wanted:
            advance(lookup)

    def leave(self, outcomes: Outcomes) -> None:
        """Adds the outcomes that there are to `outcomes`, and leaves the other lookups."""
        lookups, self.lookups = self.lookups, ()
        for lookup in lookups:
            if lookup.outcome is not None:
                outcomes[lookup.key[1]] = lookup.outcome
            else:
                lookup.leave(self)


# --- 20. Resolver ------------------------------------------------------------
#
# Hosts, special names, the search list, aliases, both families, the resolver itself, and the order
# of the targets of a service.
# The factory holds state, functions hold logic. Internally a resolution takes a tuple of
# types: one lookup for each, and one walk of the nameservers for all.

COLON = ord(':')  # an int: to look for bytes in bytes takes ten times as long
SPECIAL_ENDS = (b'localhost', b'onion', b'invalid', *[b'%d' % digit for digit in range(10)])
NOT_IN_HOSTS: dict[int, Any] = {}
NO_ALIASES: dict[int, Alias] = {}
MAX_TOLD = 5  # addresses in the text of an error


def forget(settings: Settings) -> None:
    """Forgets answers and nameservers. Lookups under way finish, uncached and not joined."""
    for server in settings.servers.values():
        for stream in [*server.streams.values()]:
            server.retire(stream)
    for table in (settings.cache, settings.lookups, settings.servers, settings.sets):
        table.clear()
    settings.config.sets = ()


def known_without_query(
    records: tuple[Any, ...], name: bytes, qtype: int, now: float, rcode: int = RCODES.NOERROR
) -> Known:
    """Returns an outcome that is known without a query, and is not cached."""
    if records:
        return Answer(now, records, None, False)
    error = negative_error(f'{describe(name, qtype)}: ', rcode)
    return NegativeAnswer(now, (), None, False, error)


def known_as_literal(name: bytes, qtype: int, now: float, is_given: bool) -> Known | None:
    """Returns the outcome for an IP address, or None for another name.

    If the caller gave it, it is its own answer; as the target of an alias it is a name, which does
    not exist.
    """
    try:
        literal = ip_address(name.decode())
    except ValueError:
        return None
    if not is_given:
        return known_without_query((), name, qtype, now, RCODES.NXDOMAIN)
    is_asked_for = qtype == (TYPES.A if literal.version == 4 else TYPES.AAAA)
    records = (expiring(literal, now),) if is_asked_for else ()
    return known_without_query(records, name, qtype, now)


def known_as_special(name: bytes, fqdn: bytes, qtype: int, now: float) -> Known | None:
    """Returns the outcome for a name that is never sent, or None for another name.

    localhost (RFC 6761 6.3), onion (RFC 7686), invalid (RFC 6761 6.4).
    """
    if is_at_or_below(fqdn, b'localhost'):
        address = LOOPBACK.get(qtype)
        records = () if address is None else (expiring(address, now),)
        return known_without_query(records, name, qtype, now)
    if is_at_or_below(fqdn, b'onion') or is_at_or_below(fqdn, b'invalid'):
        return known_without_query((), name, qtype, now, RCODES.NXDOMAIN)
    return None


def known_from_host(host: Any, name: bytes, qtype: int, now: float) -> Known | None:
    """Returns the outcome for what get_host or hosts gave, None for None. Raises TypeError."""
    if host is None:
        return None
    addresses = host if isinstance(host, tuple) else (host,)
    for each in addresses:
        if not isinstance(each, (IPv4Address, IPv6Address)):
            raise TypeError(f'get_host has to return addresses, not {each!r}')
    own = IPv4AddressExpiresAt, IPv6AddressExpiresAt
    records = [each if isinstance(each, own) else expiring(each, now) for each in addresses]
    return known_without_query(tuple(records), name, qtype, now)


def add_known(settings: Settings, outcomes: Outcomes, qtype: int, known: Known | None) -> None:
    if known is not None:
        outcomes[qtype] = known
        if settings.notice is not None and known.records:
            settings.notice()


def find_without_query(
    settings: Settings,
    loop: Loop,
    name: bytes,
    text: str,
    qtypes: Types,
    found: Outcomes,
    is_given: bool,
) -> Types:
    """Adds the outcomes that need no get_host and no query to `found`; returns the other types.

    `text` is the name in lower case. What hosts or get_host has comes before what is known of
    special names: the user means it. After get_host it is called again, as for a name that is not
    given.
    """
    now = loop.time()
    fqdn = name.lower()
    cache, config = settings.cache, settings.config
    may_be_special = fqdn.endswith(SPECIAL_ENDS) or COLON in fqdn
    asks_host = is_given and settings.get_host is not None
    for qtype in qtypes:
        if qtype in found:  # from get_host
            continue
        key = text, qtype
        known = recall(cache, key, now) if key in cache else None
        if known is None and may_be_special:
            known = known_as_literal(name, qtype, now, is_given)
        if known is None and is_given and fqdn in config.hosts:
            known = known_from_host(config.hosts[fqdn].get(qtype), name, qtype, now)
        if known is None and may_be_special and not asks_host:
            known = known_as_special(name, fqdn, qtype, now)
        if known is None and qtype == TYPES.AAAA and config.conf.no_aaaa and not asks_host:
            what = f'{describe(name, qtype)} is not asked for (no-aaaa): '
            error = negative_error(what, RCODES.NOERROR)
            known = NegativeAnswer(now, (), None, False, error)
        if known is not None:
            add_known(settings, found, qtype, known)
    return tuple([qtype for qtype in qtypes if qtype not in found]) if found else qtypes


def join_alias(name: bytes, alias: Alias, qtype: int, outcome: Any) -> Any:
    """Returns the outcome for `name`, from its alias and the outcome for the target."""
    if not isinstance(outcome, Known):
        return outcome
    last = outcome.alias or Alias(alias.name, 0, alias.expires_at)
    last = Alias(last.name, alias.links + last.links, min(alias.expires_at, last.expires_at))
    if last.links > MAX_CNAMES:
        what = describe(name, qtype)
        return CnameChainTooLong(f'{what}: there are more than {MAX_CNAMES} aliases')
    expires_at = min(alias.expires_at, outcome.expires_at)
    if isinstance(outcome, NegativeAnswer):
        text = f'{outcome.error} ({present_name(name)} is an alias of it)'
        error = DoesNotExist(text, outcome.error.rcode)
        return NegativeAnswer(expires_at, (), last, False, error)
    records = tuple([expiring(record, expires_at) for record in outcome.records])
    return Answer(expires_at, records, last, False)


def spread_absence(cache: Cache, name: bytes, outcomes: Outcomes, now: float) -> None:
    """Makes NXDOMAIN for A the outcome of types whose lookup failed (RFC 8020).

    It may be in the cache, also as that of an alias. Other types do not tell: some nameservers
    say NXDOMAIN where there is only no record of such a type.
    """
    known: Any = outcomes.get(TYPES.A)
    owner = name
    for _ in range(MAX_CNAMES):
        if known is None:
            known = recall(cache, (owner.lower().decode('ascii'), TYPES.A), now)
        if not isinstance(known, Answer) or known.records or known.alias is None:
            break
        owner, known = known.alias.name, None
    if not isinstance(known, NegativeAnswer) or known.error.rcode != RCODES.NXDOMAIN:
        return
    for qtype, outcome in outcomes.items():
        if isinstance(outcome, OUTAGES):
            what = f'{describe(name, qtype)}: '
            error = negative_error(what, RCODES.NXDOMAIN, ', as the answer for A says')
            error.__cause__ = outcome
            outcomes[qtype] = NegativeAnswer(known.expires_at, (), known.alias, False, error)


async def resolve_types(
    settings: Settings,
    name: bytes,
    qtypes: Types,
    outcomes: Outcomes,
    given: str | bytes | None = None,
) -> None:
    """Adds the outcomes for a name to `outcomes`, and follows aliases.

    `given` is the name as the caller wrote it, or None if it is another one. get_host is called
    for the name of the caller, not for the target of an alias. If a name does not exist
    (RFC 8020), this is also the outcome for a type whose lookup failed. If the caller is
    cancelled, `outcomes` keeps what has arrived, which may be an alias alone.
    """
    loop = asyncio.get_running_loop()
    target, found, aliases, failures = name, outcomes, NO_ALIASES, False
    while qtypes:  # each turn follows one more alias, MAX_CNAMES at most
        fqdn = target.lower()
        text = fqdn.decode('ascii')
        # So that not two copies wait, nor is the cache's another one than the caller's.
        if fqdn == target:
            fqdn = target
        if given.__class__ is str and given == text:
            text = given
        try:
            qtypes = find_without_query(
                settings, loop, target, text, qtypes, found, given is not None
            )
            if qtypes and given is not None and settings.get_host is not None:
                for qtype in qtypes:
                    outcome: Any = await settings.get_host(fqdn, qtype)
                    if outcome is not None:
                        outcome = known_from_host(outcome, target, qtype, loop.time())
                        add_known(settings, found, qtype, outcome)
                qtypes = find_without_query(settings, loop, target, text, qtypes, found, False)
            if qtypes:
                waiter = Waiter(settings, fqdn, FETCHING.get())
                try:
                    waiter.begin(text, qtypes, loop)
                    while waiter.unfinished:
                        if waiter.wanted:
                            await waiter.fetch()
                        else:
                            waiter.future = loop.create_future()
                            await waiter.future
                finally:
                    waiter.leave(found)
                    if hasattr(waiter.generator, 'aclose'):  # of an asynchronous generator
                        await waiter.generator.aclose()
        finally:
            for qtype in aliases:
                if qtype in found:
                    outcomes[qtype] = join_alias(name, aliases[qtype], qtype, found[qtype])
        aliases = {}  # of one target
        for qtype, outcome in outcomes.items():
            if isinstance(outcome, Answer):
                if not outcome[1] and outcome.alias is not None:
                    if not aliases:
                        target = outcome.alias.name
                    if outcome.alias.name == target:
                        aliases[qtype] = outcome.alias
            elif isinstance(outcome, OUTAGES):
                failures = True
        qtypes, found, given = tuple(aliases), {}, None
    if failures:
        spread_absence(settings.cache, name, outcomes, loop.time())


def found_as(name: bytes, found: Mapping[int, LookupOutcome]) -> Outcomes:
    """Returns the outcomes of a search, with the name that was found as their canonical name."""
    return {
        qtype: outcome._replace(alias=Alias(name, 0, outcome.expires_at))
        if isinstance(outcome, Answer) and outcome.alias is None
        else outcome
        for qtype, outcome in found.items()
    }


def recall_search(
    cache: Cache, name: bytes, names: Iterable[bytes], qtypes: Types, now: float
) -> tuple[bytes, dict[int, Known]]:
    """Returns what the cache has of a search for `name`: the name found, and outcomes by type."""
    own: dict[int, Known] = {}
    for each in names:
        fqdn = each.lower().decode('ascii')
        found: dict[int, Known] = {}
        for qtype in qtypes:
            known = recall(cache, (fqdn, qtype), now)
            if known is not None and (known.records or isinstance(known, NegativeAnswer)):
                found[qtype] = known
        if any([known.records for known in found.values()]):
            return each, found
        if len(found) < len(qtypes):
            return name, {}
        if each == name:
            own = found
    return name, own


async def search_for(
    settings: Settings, name: bytes, names: Iterable[bytes], qtypes: Types, outcomes: Outcomes
) -> None:
    """Adds the outcomes of the first of several names that exists to `outcomes`.

    A failure ends the search too, because another name must not be answered just because the first
    one could not be asked for. If none exists, the error is about `name`. get_host is called for
    `name` only, and a type that it knows is not searched for. Guests, which have a `notice`, are
    told the name found.
    """
    now = asyncio.get_running_loop().time()
    each, recalled = recall_search(settings.cache, name, names, qtypes, now)
    if len(recalled) == len(qtypes):
        is_told = settings.notice is not None and each != name
        outcomes.update(found_as(each, recalled) if is_told else recalled)
        return
    fqdn = name.lower()
    for qtype in [each for each in qtypes if each not in recalled]:
        host: Any = settings.config.hosts.get(fqdn, NOT_IN_HOSTS).get(qtype)
        if settings.get_host is not None:
            host = await settings.get_host(fqdn, qtype)
        add_known(settings, outcomes, qtype, known_from_host(host, name, qtype, now))
    wanted = tuple([qtype for qtype in qtypes if qtype not in outcomes])
    own: Outcomes = {}
    for each in names if wanted else ():
        found: Outcomes = {}
        is_over = True
        try:
            await resolve_types(settings, each, wanted, found)
            is_over = not all([isinstance(one, NegativeAnswer) for one in found.values()])
        finally:
            if is_over:
                is_told = settings.notice is not None and each != name
                outcomes.update(found_as(each, found) if is_told else found)
        if is_over:
            return
        if each == name:
            own = found
    outcomes.update(own)


def resolve_name(
    settings: Settings, given: str | bytes, qtypes: Types, outcomes: Outcomes
) -> Awaitable[None]:
    """Returns an awaitable that adds the outcomes for a caller's name. Raises InvalidName."""
    name = to_name(given)
    config = settings.config
    now = asyncio.get_running_loop().time()
    if not config.since <= now < config.due and config.reload_if_changed(now):
        forget(settings)
    if config.search and not is_absolute(given):
        fqdn = name.lower()
        may_be_special = fqdn.endswith(SPECIAL_ENDS) or COLON in fqdn
        if not may_be_special or not (
            known_as_literal(name, qtypes[0], now, True)
            or known_as_special(name, fqdn, qtypes[0], now)
        ):
            names = names_to_ask(name, config.search, config.ndots)
            return search_for(settings, name, names, qtypes, outcomes)
    return resolve_types(settings, name, qtypes, outcomes, given)


class RejectedAnswer(NegativeAnswer):
    """An answer with addresses, of which accept_address accepts none."""


def is_accepted(settings: Settings, address: IPv4Address | IPv6Address) -> bool:
    """Asks accept_address. Raises what that raises, and TypeError if it is a coroutine function.

    An IPv4-mapped IPv6 address is judged as the IPv4 address that a socket connects to.
    """
    accept = settings.accept_address
    if accept is None:
        return True
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    verdict: Any = accept(mapped or address)
    if hasattr(verdict, '__await__'):  # and is true, whatever comes of it
        raise TypeError(f'accept_address has to be a plain function, not {accept!r}')
    return bool(verdict)


def without_rejected(
    settings: Settings, given: str | bytes, qtype: int, outcome: LookupOutcome
) -> LookupOutcome:
    """Returns the outcome without the addresses that accept_address rejects.

    It is called whenever an answer is handed out, in the task of the caller. The cache, the search
    and those who share a lookup know nothing of it.
    """
    if settings.accept_address is None or not isinstance(outcome, Answer):
        return outcome
    kinds = IPv4Address, IPv6Address
    records = tuple(
        [
            each
            for each in outcome.records
            if not isinstance(each, kinds) or is_accepted(settings, each)
        ]
    )
    if records or not outcome.records:
        return outcome._replace(records=records)
    told = ', '.join(map(str, outcome.records[:MAX_TOLD]))
    more = f' and {len(outcome.records) - MAX_TOLD} more' if outcome.records[MAX_TOLD:] else ''
    what = describe(to_name(given), qtype)
    error = DoesNotExist(
        f'{what}: accept_address rejects all its addresses: {told}{more}', RCODES.NOERROR
    )
    return RejectedAnswer(outcome.expires_at, (), outcome.alias, False, error)


def check_type(qtype: int) -> tuple[int, ...]:
    """Returns a tuple of the type. Raises InvalidName if it cannot be resolved, or TypeError."""
    if not isinstance(qtype, int):
        raise TypeError(f'A type has to be one of TYPES or a number, not {qtype!r}')
    if qtype in UNRESOLVABLE or not 0 <= qtype <= 0xFFFF:
        raise InvalidName(f'The type {present_type(qtype)} cannot be resolved')
    return (qtype,)


if TYPE_CHECKING:
    SRVExpiresAt = Any  # the records of section 7, which the stub has

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
    """Returns the file that a default reads, or a partial of it with a `path`; else None."""
    path = default.__defaults__[0]
    if isinstance(function, functools.partial):
        path = function.keywords.get('path', path)
        function = function.func
    return config_file(path, parse) if function is default else None


def to_settings(
    get_host: GetHost,
    get_nameservers: GetNameservers,
    transform_fqdn: TransformFqdn,
    search: Iterable[str | bytes] | None = None,
    serve_stale: float = 0,
    ssl_context: SSLContext | None = None,
    accept_address: AcceptAddress | None = None,
) -> Settings:
    """Returns the settings of a new resolver. Raises InvalidName or TypeError."""
    default = get_nameservers_from_etc_resolve_conf
    resolv_conf = file_of(get_nameservers, default, parse_resolv_conf)
    hosts = file_of(get_host, get_host_from_etc_hosts, parse_hosts)
    if not isinstance(serve_stale, (int, float)):
        raise TypeError(f'serve_stale has to be a number of seconds, not {serve_stale!r}')
    if isinstance(search, (str, bytes)):
        raise TypeError(f'search has to be an iterable of names, not {search!r}')
    if accept_address is not None and not callable(accept_address):
        raise TypeError(f'accept_address has to be a function, not {accept_address!r}')
    domains = None
    if search is not None:
        first = itertools.islice(search, MAX_SEARCH + 1)
        domains = tuple([to_name(each).lower() for each in first])
        if len(domains) > MAX_SEARCH:
            raise InvalidName(f'search has more than {MAX_SEARCH} domains')
    return Settings(
        get_host=get_host if hosts is None else None,
        get_nameservers=get_nameservers,
        transform_fqdn=None if transform_fqdn is mix_case else transform_fqdn,
        cache={},
        lookups={},
        servers={},
        sets={},
        notice=None,
        config=SystemConfig(resolv_conf, hosts, domains),
        serve_stale=min(max(0.0, serve_stale), MAX_STALE),  # in this order, so that nan is 0
        ssl_context=check_context(ssl_context),
        accept_address=accept_address,
    )


def Resolver(
    get_host: GetHost = get_host_from_etc_hosts,
    get_nameservers: GetNameservers = get_nameservers_from_etc_resolve_conf,
    transform_fqdn: TransformFqdn = mix_case,
    *,
    search: Iterable[str | bytes] | None = None,
    serve_stale: float = 0,
    ssl_context: SSLContext | None = None,
    accept_address: AcceptAddress | None = None,
) -> tuple[Resolve, Callable[[], None]]:
    """Returns `resolve` and `clear_cache`. Reads no file, and needs no running loop.

    `get_host(fqdn, qtype)`: a coroutine function, called unless the cache has the answer. It
    returns None to ask a nameserver, `()` if there is no such record, or an address or a tuple of
    addresses.
    `get_nameservers(fqdn)`: an async generator of `(timeout, nameserver, ...)`, the timeout in
    seconds, a nameserver `(address, port)` or a URL, `tcp://192.0.2.1:53`; those of one tuple are
    asked at once.
    `transform_fqdn(fqdn)`: a function from the name to the name that is sent.
    `search`: domains below which to look for a name without a final dot. None: those of the
    system, or none with the caller's own `get_nameservers`.
    `serve_stale`: for how many seconds after its expiry an answer may be used if every nameserver
    failed (RFC 8767). Each time it is cached for 30 s. 0: never.
    `ssl_context`: what checks the certificates of `tls://` and `https://` nameservers. It is set
    to offer ALPN `dot` or `h2` before each handshake, so another client that uses it offers that
    too. None: the authorities of the system.
    `accept_address(address)`: a function that returns whether an address may be used, whatever it
    came from. It is called each time an answer is handed out, also from the cache, so an address
    is used only if it is acceptable then. In place of an IPv4-mapped IPv6 address it gets the IPv4
    address. The others are left out; if none is left, that is DoesNotExist. None: all are used.
    """
    settings = to_settings(
        get_host,
        get_nameservers,
        transform_fqdn,
        search,
        serve_stale,
        ssl_context,
        accept_address,
    )
    # What is returned from here as it is. Of addresses to be accepted that is nothing.
    ready: Mapping[Any, Known] = settings.cache if accept_address is None else {}
    config = settings.config
    get_running_loop = asyncio.get_running_loop

    async def resolve(name: str | bytes, qtype: int) -> tuple[Any, ...]:
        """Returns the records of a name and a type: a tuple of rdata, each with `expires_at`.

        Raises InvalidName, DoesNotExist, QueryTimeout, SocketError, ResponseCode, BadResponse,
        Truncated, CnameChainTooLong, TypeError, and what the caller's functions raise.
        """
        outcome: Any = ready.get((name, qtype)) if name.__class__ is str else None
        if outcome is not None:
            now = get_running_loop().time()
            if outcome[0] > now and config.since <= now < config.due:
                records: tuple[Any, ...] = outcome[1]
                # With fewer dots it is looked for below the domains of the search list first.
                if records and (not config.ndots or has_dots(name, config.ndots)):
                    return records
        qtypes = RESOLVABLE.get(qtype) or check_type(qtype)
        outcomes: Outcomes = {}
        if config.search or not config.since <= get_running_loop().time() < config.due:
            await resolve_name(settings, name, qtypes, outcomes)
        else:
            await resolve_types(settings, to_name(name), qtypes, outcomes, name)
        outcome = outcomes[qtype]
        if accept_address is not None:
            outcome = without_rejected(settings, name, qtype, outcome)
        return outcome.records if isinstance(outcome, Answer) else records_of(outcome)

    def clear_cache() -> None:
        """Empties the cache. Answers to queries already sent are not cached either."""
        forget(settings)

    vars(resolve)['settings'] = settings  # for the guests
    return resolve, clear_cache


def reverse_name(address: IPv4Address | IPv6Address | str) -> bytes:
    """Returns the name at which the PTR records of an address are, below in-addr.arpa or ip6.arpa.

    An IPv4-mapped IPv6 address has that of the IPv4 address. A scope has no effect. Raises
    InvalidName if a str is not an address, or TypeError.
    """
    address = to_address(address)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, IPv6Address):  # RFC 3596 2.5
        return (
            b'.'.join(b'%c' % digit for digit in address.packed.hex().encode()[::-1])
            + b'.ip6.arpa'
        )
    return b'.'.join(b'%d' % octet for octet in address.packed[::-1]) + b'.in-addr.arpa'


def random_fraction() -> float:
    """Returns a random number from 0 to less than 1."""
    return (int.from_bytes(os.urandom(7), 'big') >> 3) / (1 << 53)


def in_service_order(records: Iterable[Any], random: Callable[[], float]) -> list[Any]:
    """Returns SRV rdata in the order in which to try the targets (RFC 2782).

    Of one priority, the next is drawn from those that are left in proportion to the weights, and
    has weight 0 with a chance of 1 in their sum plus 1. Random times of arrival, at a rate of the
    weight, give this order in one sort: the sum of many weights need not be computed for each.
    """
    arrivals = []
    last = 0.0  # of weight 0, which arrive at a rate of 1, one after the other
    for each in sorted(records, key=lambda _: random()):
        interval = -math.log(1.0 - random())  # exponentially distributed, at a rate of 1
        if each.weight == 0:
            last += interval
        at = interval / each.weight if each.weight else last
        arrivals.append((each.priority, at, each))
    arrivals.sort(key=lambda arrival: arrival[:2])
    return [each for _, _, each in arrivals]


async def service_targets(resolve: Resolve, name: str | bytes) -> tuple[SRVExpiresAt, ...]:
    """Returns the SRV records of a service, in the order in which a client tries them (RFC 2782).

    `name` is that of the service, such as `_xmpp-client._tcp.example.com`. Of one priority the
    order is random, by weight, and another one each time. Raises as `resolve` does; DoesNotExist
    also if the domain says, by the root as the target, that it does not have the service.
    """
    records = [each for each in await resolve(name, TYPES.SRV) if each.target]
    if not records:
        what = describe(to_name(name), TYPES.SRV)
        raise DoesNotExist(
            f'{what}: the service is not available, its target is the root', RCODES.NOERROR
        )
    return tuple(in_service_order(records, random_fraction))


# --- 21. Guests --------------------------------------------------------------
#
# The resolver with the interfaces of others: of aiohttp's resolvers, made at first use, which
# imports aiohttp only then; and of asyncio's getaddrinfo and getnameinfo, by the rules of the C
# library.

OTHER_FAMILY_SECONDS = 0.05  # RFC 8305 3: how long to wait for the other family
NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
# The error numbers of getaddrinfo(3), for programs that know only those. Others are EAI_FAIL.
EAI_OF = ((DoesNotExist, InvalidName), socket.EAI_NONAME), (OUTAGES, socket.EAI_AGAIN)


async def resolve_families(
    settings: Settings, name: str | bytes, family: int, outcomes: Outcomes
) -> list[IPv4AddressExpiresAt | IPv6AddressExpiresAt]:
    """Returns the addresses of a name: of one family, or of both if `family` is AF_UNSPEC.

    Both are asked at once. As soon as one has addresses, the other gets 50 ms more, or all the
    time it needs if none of these is accepted. If neither has, raises ResolverError: a failure
    rather than an absence. `outcomes` gets what was found.
    """
    qtypes = TYPES_OF_FAMILY.get(family)
    if qtypes is None:
        raise InvalidName(f'{name!r}: DNS has no addresses of family {family!r}')
    loop = asyncio.get_running_loop()
    grace = asyncio.timeout(None)
    is_over = False

    def notice() -> None:
        if grace.when() is None and not is_over:  # a shared lookup may end later
            grace.reschedule(loop.time() + OTHER_FAMILY_SECONDS)

    def accepted() -> list[LookupOutcome]:
        found = [(qtype, outcomes[qtype]) for qtype in qtypes if qtype in outcomes]
        return [without_rejected(settings, name, *each) for each in found]

    told = settings._replace(notice=notice)
    try:
        async with grace:
            await resolve_name(told, name, qtypes, outcomes)
    except TimeoutError:
        if not grace.expired():  # the caller's function raised it
            raise
    finally:
        is_over = True
    found = accepted()
    if grace.expired() and not any([isinstance(one, Answer) and one.records for one in found]):
        outcomes.clear()
        await resolve_name(told, name, qtypes, outcomes)
        found = accepted()
    addresses = [each for one in found if isinstance(one, Answer) for each in one.records]
    if not addresses:
        # A failure comes first, then addresses that are rejected, and at last that there are none.
        rank: dict[type, int] = {RejectedAnswer: 1, NegativeAnswer: 2}
        records_of(min(reversed(found), key=lambda one: rank.get(type(one), 0)))
    return list(dict.fromkeys(addresses))  # a get_host may return all of them for both families


def to_gaierror(error: ResolverError) -> socket.gaierror:
    numbers = (number for kinds, number in EAI_OF if isinstance(error, kinds))
    return socket.gaierror(next(numbers, socket.EAI_FAIL), str(error))


# Numbers of getaddrinfo(3) that are not on every system.
AI_V4MAPPED: int = getattr(socket, 'AI_V4MAPPED', 0)
AI_ALL: int = getattr(socket, 'AI_ALL', 0)
EAI_ADDRFAMILY: int = getattr(socket, 'EAI_ADDRFAMILY', socket.EAI_NONAME)
# All others are EAI_BADFLAGS. An int, since the ~ of an IntFlag drops the bits that have no name.
ADDRINFO_FLAGS = int(
    NUMERIC | socket.AI_PASSIVE | socket.AI_CANONNAME | socket.AI_ADDRCONFIG | AI_V4MAPPED | AI_ALL
)
# Type and protocol of a socket, and the protocol's name in services(5), as glibc has them.
SOCKET_KINDS: tuple[tuple[Any, int, str], ...] = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP, 'tcp'),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP, 'udp'),
    (6, 33, 'dccp'),  # the numbers of Linux, for which not every Python has names
    (socket.SOCK_DGRAM, 136, 'udplite'),
    (socket.SOCK_STREAM, 132, 'sctp'),
    (socket.SOCK_SEQPACKET, 132, 'sctp'),
    (socket.SOCK_RAW, 0, ''),  # of any protocol, and without services
)
USUAL_KINDS = *SOCKET_KINDS[:2], SOCKET_KINDS[-1]  # without a type, a protocol or a service
ANY = IPv6Address(0), IPv4Address(0)
MAPPED = 0xFFFF << 32  # ::ffff:0.0.0.0 (RFC 4291 2.5.5.2)
LOCAL_SECONDS = 1.0  # for which the addresses of this host are remembered
MAX_RANKS = 1000  # destinations whose place in the order is remembered
MAX_SORTED = 100  # addresses of one name, since each may cost a socket
DISCARD = 9  # a port (RFC 863) that sockets are connected to; nothing is sent
# Leading bits and their number, the longest first, and what holds for such addresses. IPv4
# addresses are looked up mapped.
POLICIES = (  # precedence and label, RFC 6724 2.1
    (1, 128, (50, 0)),  # ::1
    (0xFFFF, 96, (35, 4)),  # IPv4
    (0, 96, (1, 3)),
    (0x2001_0000, 32, (5, 5)),  # Teredo
    (0x2002, 16, (30, 2)),  # 6to4
    (0x3FFE, 16, (1, 12)),
    (0xFEC0 >> 6, 10, (1, 11)),
    (0xFC00 >> 9, 7, (3, 13)),  # unique local
    (0, 0, (40, 1)),
)
LINK_LOCAL, SITE_LOCAL, GLOBAL = 2, 5, 14
SCOPES = (  # RFC 6724 3.1 and 3.2; that of a multicast address is in it
    (1, 128, LINK_LOCAL),  # ::1
    (0xFFFF_A9FE, 112, LINK_LOCAL),  # 169.254.0.0
    (0xFFFF_7F, 104, LINK_LOCAL),  # 127.0.0.0
    (0xFE80 >> 6, 10, LINK_LOCAL),
    (0xFEC0 >> 6, 10, SITE_LOCAL),
    (0, 0, GLOBAL),
)
AnyAddress = IPv4Address | IPv6Address
Destination = tuple[AnyAddress, int]  # and the number of its scope
# By address the length of its prefix, and whether it is deprecated.
Interfaces = dict[AnyAddress | None, tuple[int, bool]]
SockAddr = tuple[str, int] | tuple[str, int, int, int]
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, SockAddr]


def look_up(table: tuple[tuple[int, int, Any], ...], address: AnyAddress) -> Any:
    value = int(address) | (MAPPED if address.version == 4 else 0)
    return next(held for bits, length, held in table if value >> (128 - length) == bits)


def address_scope(address: AnyAddress) -> int:
    is_multicast = address.version == 6 and address.packed[0] == 0xFF
    scope: int = address.packed[1] & 15 if is_multicast else look_up(SCOPES, address)
    return scope


def destination_rank(
    address: AnyAddress, source: AnyAddress | None, prefix: int, is_deprecated: bool
) -> tuple[int, ...]:
    """Returns a key that sorts destinations by RFC 6724 6, the best one first.

    `source` is the address from which it is reached, if it is, `prefix` the length of its prefix.
    The rules 4 and 7, for mobile nodes and tunnels, are left out.
    """
    precedence, label = look_up(POLICIES, address)
    scope = address_scope(address)
    if source is None:
        return 1, 0, 0, 0, -precedence, scope, 0
    bits = address.max_prefixlen
    common = bits - (int(address) ^ int(source)).bit_length()
    if bits == 32 and not 0 < prefix <= common:
        common = 0  # as in the C library: IPv4 addresses are compared within the subnet only
    is_other_scope = scope != address_scope(source)
    is_other_label = label != look_up(POLICIES, source)[1]
    return 0, is_other_scope, is_deprecated, is_other_label, -precedence, scope, -common


def interface_addresses() -> Interfaces:
    """Returns the addresses of this host. Linux tells them (rtnetlink(7)), elsewhere it is {}."""
    found: Interfaces = {}
    if sys.platform != 'linux':
        return found
    new_address, get_address, dump, own, deprecated = 20, 22, 0x301, 2, 0x20
    request = struct.pack('=IHHIIB7x', 24, get_address, dump, 1, 0, socket.AF_UNSPEC)
    kind_of_socket = socket.SOCK_RAW | socket.SOCK_NONBLOCK  # the kernel answers at once
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, kind_of_socket, 0) as sock,
    ):
        sock.send(request)
        while True:  # until a message that is no address: the end, or an error
            data = sock.recv(1 << 16)
            start = 0
            while start < len(data):
                size, kind = struct.unpack_from('=IH', data, start)
                if kind != new_address:
                    return found
                prefix, flags = data[start + 17], data[start + 18]
                attributes: dict[int, bytes] = {}
                at = start + 24
                while at < start + size:
                    length, number = struct.unpack_from('=HH', data, at)
                    attributes[number] = data[at + 4 : at + length]
                    at += max(4, (length + 3) & ~3)
                address = ip_address(attributes.get(own) or attributes[1])  # 1: or of its peer
                found[address] = prefix, bool(flags & deprecated)
                start += max(16, (size + 3) & ~3)
    return found


def family_of(address: AnyAddress) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def to_sockaddr(destination: Destination, port: int) -> tuple[socket.AddressFamily, SockAddr]:
    """Returns the family, and the address as a socket takes it."""
    address, scope = destination
    family = family_of(address)
    text = socket.inet_ntop(family, address.packed)
    return family, (text, port) if family == socket.AF_INET else (text, port, 0, scope)


def source_of(destination: Destination) -> AnyAddress | None:
    """Returns the address from which this host reaches a destination, or None."""
    family, where = to_sockaddr(destination, DISCARD)
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(where)
        return ip_address(socket.inet_pton(family, sock.getsockname()[0]))
    return None


class LocalAddresses:
    """The addresses of this host, and the order of destinations that follows from them.

    What was found is remembered for a moment.
    """

    def __init__(self) -> None:
        self.since = float('-inf')
        self.ranks: dict[Destination, tuple[int, ...]] = {}
        self.interfaces: Interfaces = {}

    def refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        if not 0 <= now - self.since < LOCAL_SECONDS or len(self.ranks) > MAX_RANKS:
            self.since = now
            self.ranks.clear()
            self.interfaces = interface_addresses()

    def families(self) -> set[int]:
        """Returns the families of which this host has an address beyond 127.0.0.1 and ::1."""
        self.refresh()
        known: list[AnyAddress | None] = [*self.interfaces.keys() - LOOPBACK.values()]
        if not self.interfaces:  # those that lead into the internet; both, if none does
            anywhere = IPv4Address('192.0.2.1'), IPv6Address('2001:db8::1')
            known = [source_of((each, 0)) for each in anywhere]
            known = known if any(known) else [*anywhere]
        return {family_of(each) for each in known if each is not None}

    def sort(self, destinations: list[Destination]) -> list[Destination]:
        if len(destinations) < 2:
            return destinations
        self.refresh()
        first = destinations[:MAX_SORTED]
        for each in first:
            if each not in self.ranks:
                source = source_of(each)
                prefix, is_deprecated = self.interfaces.get(source, (0, False))
                self.ranks[each] = destination_rank(each[0], source, prefix, is_deprecated)
        return sorted(first, key=self.ranks.__getitem__) + destinations[MAX_SORTED:]


def scope_number(address: AnyAddress, scope: str | None) -> int | None:
    """Returns the number of a scope as sockets have it, 0 without one, or None if it is none."""
    if address.version == 4 or scope is None:
        return 0
    if address.is_link_local or address.packed[:2] == b'\xff\x02':  # only these have interfaces
        with contextlib.suppress(OSError, ValueError):
            return socket.if_nametoindex(scope)
    is_number = re.fullmatch('[0-9]{1,10}', scope) and int(scope) < 1 << 32
    return int(scope) if is_number else None


def parse_literal(text: str, family: int, flags: int) -> Destination | None:
    """Returns the address that a text is to the C library, such as `127.1` or `0x7f.1`, or None.

    Raises gaierror if it is of another family, or has a scope that it cannot have.
    """
    address: AnyAddress
    head, percent, scope = text.partition('%')
    try:
        if ':' in head:
            address = IPv6Address(socket.inet_pton(socket.AF_INET6, head))
        elif re.fullmatch('[0-9A-Fa-fXx.]+', text):  # inet_aton ignores what follows a blank
            address = IPv4Address(socket.inet_aton(text))
        else:
            return None
    except (OSError, ValueError):
        return None
    if family not in (socket.AF_UNSPEC, family_of(address)):
        if isinstance(address, IPv4Address) and flags & AI_V4MAPPED:
            return IPv6Address(MAPPED | int(address)), 0
        if isinstance(address, IPv4Address) or address.ipv4_mapped is None:
            raise socket.gaierror(EAI_ADDRFAMILY, f'{text!r:.100} is of another family')
        address = address.ipv4_mapped
    number = scope_number(address, scope if percent else None)
    if number is None:
        raise socket.gaierror(socket.EAI_NONAME, f'{text!r:.100} has no such scope')
    return address, number


def sockets_for(
    port: str | bytes | int | None, kind: int, proto: int, flags: int
) -> list[tuple[Any, int, int]]:
    """Returns the type, the protocol and the port of each socket that is meant. Raises gaierror.

    The C library looks up the names of services, in a file.
    """
    if not isinstance(port, (str, bytes, int)) and port is not None:
        raise TypeError(f'A port has to be an int, str, bytes or None, not {port!r}')
    text = port.decode('latin-1') if isinstance(port, bytes) else str('' if port is None else port)
    text = '' if text == '*' else text
    digits = re.fullmatch('[ \t-\r]*([+-]?)0*([0-9]{1,10})', text or '0')
    if digits is None and flags & socket.AI_NUMERICSERV:
        raise socket.gaierror(socket.EAI_NONAME, f'{text!r:.100} is not the number of a port')
    kinds = [
        (each, proto or its, name)
        for each, its, name in SOCKET_KINDS
        if kind in (0, each) and (proto in (0, its) or each == socket.SOCK_RAW)
    ]
    if not kinds:
        raise socket.gaierror(socket.EAI_SOCKTYPE, f'No socket has type {kind} and proto {proto}')
    kinds = kinds[:1] if kind or proto else kinds
    number = int(digits[1] + digits[2]) & 0xFFFF_FFFF if digits else -1
    found = []
    if text and kinds[0][0] == socket.SOCK_RAW:
        pass
    elif 0 <= number < 1 << 31:
        kinds = kinds if kind or proto else [*USUAL_KINDS]
        found = [(each, its, number & 0xFFFF) for each, its, _ in kinds]
    else:
        for each, its, name in kinds:
            if name:
                with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL, a surrogate
                    found.append((each, its, socket.getservbyname(text, name)))
    if not found:
        raise socket.gaierror(socket.EAI_SERVICE, f'{text!r:.100} is no service of such a socket')
    return found


def ipv4_in_hosts(settings: Settings, name: bytes) -> list[AnyAddress]:
    """Returns the IPv6 addresses of a name in hosts that stand for IPv4 ones, as in glibc."""
    ipv6 = settings.config.hosts.get(name.lower(), NOT_IN_HOSTS).get(TYPES.AAAA, ())
    mapped = [LOOPBACK[TYPES.A] if int(each) == 1 else each.ipv4_mapped for each in ipv6]
    return [each for each in mapped if each is not None and is_accepted(settings, each)]


async def host_destinations(
    settings: Settings, host: str | bytes, family: int, flags: int
) -> tuple[list[Destination], str]:
    """Returns the addresses of a host name, and its canonical name. Raises ResolverError."""
    name = to_name(host)
    if not HOST_NAME.fullmatch(name) or parse_literal(name.decode('ascii'), 0, 0) is not None:
        raise InvalidName(f'{host!r:.300} cannot be the name of a host')  # as `127.0.0.1.`
    is_mapped = family == socket.AF_INET6 and flags & AI_V4MAPPED
    outcomes: Outcomes = {}
    addresses: list[AnyAddress] = []
    try:
        asked = socket.AF_UNSPEC if is_mapped else family
        addresses += await resolve_families(settings, host, asked, outcomes)
    except DoesNotExist:
        if family != socket.AF_INET or not ipv4_in_hosts(settings, name):
            raise
    if family == socket.AF_INET:
        addresses += ipv4_in_hosts(settings, name)
    if is_mapped:
        of_ipv6 = [each for each in addresses if each.version == 6]
        of_ipv4 = [IPv6Address(MAPPED | int(each)) for each in addresses if each.version == 4]
        addresses = [*of_ipv6, *of_ipv4] if flags & AI_ALL or not of_ipv6 else [*of_ipv6]
    numbers = [scope_number(each, getattr(each, 'scope_id', None)) for each in addresses]
    pairs = zip(addresses, numbers, strict=True)
    destinations = [(each, number) for each, number in pairs if number is not None]
    if not destinations:
        raise InvalidName(f'{host!r:.300}: this host has no interface of that name')
    in_hosts = settings.config.hosts.get(name.lower(), NOT_IN_HOSTS)
    canonical: bytes = in_hosts.get(CANONICAL_NAME, name)
    if family != socket.AF_UNSPEC:
        canonical = in_hosts.get(CANONICAL_NAME - TYPES_OF_FAMILY[family][0], canonical)
    for outcome in outcomes.values():
        if isinstance(outcome, Answer) and outcome.alias is not None:
            canonical = outcome.alias.name
    return destinations, canonical.decode('ascii')


if TYPE_CHECKING:

    class GetAddrInfo(Protocol):
        """What getaddrinfo returns: a coroutine function like loop.getaddrinfo."""

        async def __call__(
            self,
            host: str | bytes | None,
            port: str | bytes | int | None,
            *,
            family: int = 0,
            type: int = 0,
            proto: int = 0,
            flags: int = 0,
        ) -> list[AddressInfo]: ...


def settings_of(resolve: Resolve) -> Settings:
    """Returns the settings of a `resolve` that Resolver made. Raises TypeError for any other."""
    settings = getattr(resolve, 'settings', None)
    if not isinstance(settings, Settings):
        raise TypeError(f'resolve has to be what Resolver returned, not {resolve!r}')
    return settings


def getaddrinfo(resolve: Resolve) -> GetAddrInfo:
    """Returns a coroutine function with the signature and the results of loop.getaddrinfo.

    As `loop.getaddrinfo` it makes what uses asyncio use the resolver. It does what glibc does, but
    destinations have the precedence of RFC 6724, and host names the meaning that they have for
    `resolve`. It raises socket.gaierror, whose `__cause__` is a ResolverError if the name is the
    reason, and TypeError.
    """
    settings = settings_of(resolve)
    local = LocalAddresses()

    async def getaddrinfo(
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """Returns (family, type, protocol, canonical name, address) for each address and type."""
        text = host.decode('latin-1') if isinstance(host, bytes) else host
        if not isinstance(text, str) and text is not None:
            raise TypeError(f'A host has to be str, bytes or None, not {host!r}')
        text = None if text == '*' else text
        if text is None and port is None:
            raise socket.gaierror(socket.EAI_NONAME, 'Neither a host nor a port is given')
        if int(flags) & ~ADDRINFO_FLAGS or (text is None and flags & socket.AI_CANONNAME):
            raise socket.gaierror(socket.EAI_BADFLAGS, f'{flags:#x} are not valid flags')
        if family not in TYPES_OF_FAMILY:
            raise socket.gaierror(socket.EAI_FAMILY, f'{family!r} is not a family of addresses')
        if flags & socket.AI_ADDRCONFIG:
            families = local.families()
            if family and family not in families:
                said = f'{host!r:.300}: this host has no address of the family {family}'
                raise socket.gaierror(socket.EAI_NONAME, said)
            [family] = families if len(families) == 1 else [family]
        sockets = sockets_for(port, type, proto, flags)

        canonical = ''
        if host is None or text is None:
            both = ANY if flags & socket.AI_PASSIVE else (LOOPBACK[TYPES.AAAA], LOOPBACK[TYPES.A])
            destinations: list[Destination] = [
                (each, 0) for each in both if family in (0, family_of(each))
            ]
        else:
            try:
                if isinstance(host, str) and not host.isascii():
                    text = to_name(host).decode('ascii') + ('.' if is_absolute(host) else '')
                literal = parse_literal(text, family, flags)
                if literal is not None and not is_accepted(settings, literal[0]):
                    raise DoesNotExist(f'{host!r:.300}: accept_address rejects it', RCODES.NOERROR)
                elif literal is not None:
                    destinations, canonical = [literal], text
                elif flags & socket.AI_NUMERICHOST:
                    raise InvalidName(f'{host!r:.300} is not an address')
                else:
                    destinations, canonical = await host_destinations(
                        settings, host, family, flags
                    )
            except ResolverError as error:
                raise to_gaierror(error) from error
        rows: list[AddressInfo] = []
        for destination in local.sort([*dict.fromkeys(destinations)]):
            for kind, protocol, number in sockets:
                name = canonical if flags & socket.AI_CANONNAME and not rows else ''
                of, sockaddr = to_sockaddr(destination, number)
                rows.append((of, kind, protocol, name, sockaddr))
        return rows

    return getaddrinfo


# What getnameinfo(3) takes; the last two are accepted, but have no effect.
NI_IDN = getattr(socket, 'NI_IDN', 32)
NAMEINFO_FLAGS = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV | socket.NI_NOFQDN
NAMEINFO_FLAGS |= socket.NI_NAMEREQD | socket.NI_DGRAM | NI_IDN | 64 | 128
ABSENCES = DoesNotExist, CnameChainTooLong  # with which an address has no name


def parse_sockaddr(sockaddr: SockAddr) -> tuple[AnyAddress, int, int]:
    """Returns the address, the port and the scope. Raises as socket.getnameinfo does."""
    if not isinstance(sockaddr, tuple) or not 2 <= len(sockaddr) <= 4:
        raise TypeError(f'The address of a socket has to be a tuple of 2 to 4, not {sockaddr!r}')
    host, *numbers = sockaddr
    if not isinstance(host, str) or not all([isinstance(each, int) for each in numbers]):
        raise TypeError(f'The address of a socket has to be a str and numbers, not {sockaddr!r}')
    port, flow, scope = [*numbers, 0, 0][:3]
    if not 0 <= flow < 1 << 20:
        raise OverflowError(f'{flow} is no flow of IPv6')
    [(_, _, port)] = sockets_for(int(port), socket.SOCK_DGRAM, 0, 0)
    literal = parse_literal(host, 0, 0)
    if literal is None:
        raise socket.gaierror(socket.EAI_NONAME, f'{host!r:.300} is not an address')
    if literal[0].version == 4 and len(sockaddr) != 2:
        raise OSError('The address of an IPv4 socket has to be a tuple of 2')
    return literal[0], port, scope & 0xFFFF_FFFF


def domain_of_this_host(hosts: Hosts) -> bytes:
    """Returns the domain that NI_NOFQDN leaves out, in lower case: that of this host's name."""
    name = socket.gethostname().lower().encode('utf-8', 'surrogateescape')
    names = [hosts.get(b'localhost', {}), {CANONICAL_NAME: name}, hosts.get(name, {})]
    domains = [each.get(CANONICAL_NAME, b'').lower().partition(b'.')[2] for each in names]
    return next(filter(None, domains), b'')


async def name_of_address(resolve: Resolve, address: AnyAddress) -> bytes | None:
    """Returns the name of an address in hosts, or else in DNS. Raises ResolverError."""
    hosts = settings_of(resolve).config.files[1]
    if hosts is not None:
        names = config_file(hosts.path, parse_host_names)
        known: bytes | None = names.current(asyncio.get_running_loop().time()).get(address)
        if known is not None:
            return known
    try:
        records = await resolve(reverse_name(address) + b'.', TYPES.PTR)
    except ABSENCES:
        return None
    # A name that no host can have may be an attack on what it is printed to, or compared with.
    possible = [
        each
        for each in records
        if isinstance(each, bytes) and HOST_NAME.fullmatch(each) and each[:1] != b'-'
    ]
    return possible[0] if possible else None


if TYPE_CHECKING:

    class GetNameInfo(Protocol):
        """What getnameinfo returns: a coroutine function like loop.getnameinfo."""

        async def __call__(self, sockaddr: SockAddr, flags: int = 0) -> tuple[str, str]: ...


def getnameinfo(resolve: Resolve) -> GetNameInfo:
    """Returns a coroutine function with the signature and the results of loop.getnameinfo.

    It does what glibc does: the name of an address comes from hosts, else from its PTR record, and
    if there is none it is the address. It raises socket.gaierror, whose `__cause__` is a
    ResolverError if that is the reason, OSError, OverflowError and TypeError.
    """
    settings = settings_of(resolve)

    async def getnameinfo(sockaddr: SockAddr, flags: int = 0) -> tuple[str, str]:
        """Returns the name of a host and that of a service, or the numbers, as text."""
        address, port, scope = parse_sockaddr(sockaddr)
        flags = int(flags)
        if flags & ~NAMEINFO_FLAGS:
            raise socket.gaierror(socket.EAI_BADFLAGS, f'{flags:#x} are not valid flags')
        name = None
        if not flags & socket.NI_NUMERICHOST:
            mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
            try:
                name = await name_of_address(resolve, mapped or address)
            except ResolverError as error:
                raise to_gaierror(error) from error
        if name is not None:
            domain = (
                domain_of_this_host(settings.config.hosts) if flags & socket.NI_NOFQDN else b''
            )
            if domain and name.lower().endswith(b'.' + domain):
                name = name[: -len(domain) - 1]
            host = to_unicode(name) if flags & NI_IDN else name.decode('ascii')
        elif flags & socket.NI_NAMEREQD:
            raise socket.gaierror(socket.EAI_NONAME, f'{address} has no name')
        else:
            family, (host, *_) = to_sockaddr((address, 0), 0)
            if scope and family == socket.AF_INET6:
                zone = str(scope)
                if address.is_link_local or address.packed[:2] == b'\xff\x02':
                    with contextlib.suppress(OSError):
                        zone = socket.if_indextoname(scope)
                host = f'{host}%{zone}'
        service = str(port)
        if not flags & socket.NI_NUMERICSERV:
            with contextlib.suppress(OSError):  # it has no name
                protocol = 'udp' if flags & socket.NI_DGRAM else 'tcp'
                service = socket.getservbyport(port, protocol)
        return host, service

    return getnameinfo


class HostResolver:
    """Resolves hosts in the form that aiohttp needs: AioHttpDnsResolver without its base class."""

    def __init__(
        self,
        get_host: GetHost = get_host_from_etc_hosts,
        get_nameservers: GetNameservers = get_nameservers_from_etc_resolve_conf,
        transform_fqdn: TransformFqdn = mix_case,
        *,
        search: Iterable[str | bytes] | None = None,
        serve_stale: float = 0,
        ssl_context: SSLContext | None = None,
        accept_address: AcceptAddress | None = None,
    ) -> None:
        self.settings = to_settings(
            get_host,
            get_nameservers,
            transform_fqdn,
            search,
            serve_stale,
            ssl_context,
            accept_address,
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns one or more addresses of a host, each a dict as aiohttp's own resolvers return.

        Raises socket.gaierror, an OSError with errno and text.
        """
        try:
            addresses = await resolve_families(self.settings, host, family, {})
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
        with importing('aiohttp'):
            from aiohttp.abc import AbstractResolver
    except ImportError as error:
        text = "AioHttpDnsResolver needs aiohttp: pip install 'aiodnsresolver[aiohttp]'"
        raise MissingDependency(text) from error
    text = "A resolver for aiohttp's connectors. It takes the arguments of `Resolver`."
    fields = {'__module__': __name__, '__doc__': text}
    return type('AioHttpDnsResolver', (HostResolver, AbstractResolver), fields)


GUESTS = {'AioHttpDnsResolver': make_aiohttp_resolver}


def __getattr__(name: str) -> Any:
    """Makes a guest, or the class of a record, at first use (PEP 562)."""
    if name in GUESTS:
        globals()[name] = GUESTS[name]()
    else:
        qtype = TYPES.__members__.get(name.removesuffix('ExpiresAt'))
        if qtype not in LAYOUTS or LAYOUTS[qtype].record is None:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return globals()[name]


# --- 22. Command line --------------------------------------------------------
#
# Words in, lines and an exit status out. Imports beyond those of the core happen at first
# use. A question is a name and a type, and its outcome is printed as soon as it is there.

USAGE = """\
Usage: aiodnsresolver NAME... [TYPE...] [@NAMESERVER[:PORT] | @URL] [OPTION...]
       aiodnsresolver -x ADDRESS | -f FILE [TYPE...] [@NAMESERVER] [OPTION...]
       aiodnsresolver AXFR|IXFR=SERIAL ZONE @NAMESERVER|@URL [-y KEY]

Prints the records of each NAME and TYPE (A unless given), one a line. A word
that is a type is a name in the first place or with a final dot. A URL is
tcp://ADDRESS, tls://ADDRESS#NAME or https://ADDRESS/PATH#NAME. AXFR prints a
zone, whole only if the exit status is 0; IXFR what is newer than SERIAL.
"""
EXAMPLES = """\
Examples: aiodnsresolver www.example.com AAAA A @tls://192.0.2.1#dns.example
          aiodnsresolver -f names.txt MX --json --concurrency 1000
          aiodnsresolver AXFR example.com @192.0.2.1 -y key.example:c2VjcmV0
Exit status: 0 found, 1 does not exist, 2 failed, 64 usage, 130 interrupted.
"""


def make_parser() -> Any:
    """Returns the parser of options, which leaves other words. It raises InvalidName."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise InvalidName(message)

    parser = Parser(
        usage=argparse.SUPPRESS,
        description=USAGE,
        epilog=EXAMPLES,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, 2, 24, 80),
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument_group().add_argument
    add('-x', dest='address', metavar='ADDRESS', help='the names of an address: its PTR records')
    add('-f', dest='file', metavar='FILE', help='names, one a line; - is standard input')
    text = 'with -f: questions at a time (%(default)s)'
    add('--concurrency', metavar='N', type=int, default=CONCURRENCY, help=text)
    add('--tcp', action='store_true', help='ask over TCP')
    add('--timeout', metavar='SECONDS', type=float, help='give a name up after so long')
    add('--no-search', action='store_true', help='look for each NAME only as it is')
    add('--ttl', action='store_true', help='print the seconds for which a record holds')
    add('--json', action='store_true', help='print an object for each name and type, one a line')
    add('-y', dest='key', metavar='KEY', help='sign a transfer: [HMAC:]NAME:SECRET in base64')
    add('-h', '--help', action='store_true', help='print this')
    return parser


def parse_words(words: list[str], are_types: bool) -> tuple[list[str], list[int], str | None]:
    """Returns the names, types and nameserver among the words that are not options.

    Types come after a name, or anywhere if `are_types`. Raises InvalidName or MissingDependency.
    """
    mnemonics = {str(qtype): qtype for qtype in TYPES}
    names: list[str] = []
    qtypes: list[int] = []
    nameserver = None
    for word in words:
        generic = re.fullmatch('TYPE([0-9]{1,5})', word.upper())
        if word.startswith('-') or (word.startswith('@') and nameserver):
            raise InvalidName(f'{word!r} is not a known option')
        if word.startswith('@'):
            nameserver = word[1:] if '://' in word else f'udp://{word[1:]}'
            to_server(nameserver)
        elif (names or are_types) and word.isascii() and word.upper() in mnemonics:
            qtypes.append(mnemonics[word.upper()])
        elif (names or are_types) and generic:
            qtypes.append(int(generic[1]))
        else:
            names.append(word)
    for qtype in qtypes:
        check_type(qtype)
    return names, qtypes, nameserver


def add_questions(words: list[str], options: Any) -> None:
    """Adds `names`, `qtypes` and `nameserver` to the options of a command line for records.

    Raises InvalidName or MissingDependency.
    """
    is_reverse, is_bulk = options.address is not None, options.file is not None
    names, qtypes, nameserver = parse_words(words, is_reverse or is_bulk)
    if options.key is not None:
        raise InvalidName('-y is for AXFR and IXFR')
    if options.timeout is not None and not 0 < options.timeout <= MAX_TIMEOUT:
        raise InvalidName(f'--timeout is more than 0 and at most {MAX_TIMEOUT:.0f} seconds')
    if (is_reverse or is_bulk) and (names or is_reverse == is_bulk):
        raise InvalidName('The names come from -x, from -f or from the words, and not from two')
    if not 0 < options.concurrency <= MAX_CONCURRENCY:
        raise InvalidName(f'--concurrency is more than 0 and at most {MAX_CONCURRENCY}')
    if is_reverse:
        names.append(f'{reverse_name(options.address).decode()}.')
    if not all(names) or not (names or is_bulk):
        raise InvalidName('A name is missing or empty: write the root as a dot')
    if options.file == '-' and sys.stdin is None:
        raise InvalidName('Standard input is closed')
    if nameserver and options.tcp:
        nameserver = re.sub('^udp:', 'tcp:', nameserver)
    options.names, options.nameserver = names, nameserver
    options.qtypes = qtypes or [TYPES.PTR if is_reverse else TYPES.A]


class Printer:
    """Prints the outcomes of questions, counts them, and shows on a terminal how far it is."""

    def __init__(self, options: Any) -> None:
        self.options = options
        self.answered = self.absent = self.failed = 0
        self.began = time.monotonic()
        self.writing_to: TextIO | None = None
        self.is_shown = False

    def write(self, stream: TextIO, text: str) -> None:
        """Writes what can be read at once. An interrupt ends a write to a pipe that is full."""
        try:
            self.writing_to = stream
            if self.is_shown and stream.isatty():  # standard output may be the same terminal
                text = f'\r\x1b[K{text}'
                self.is_shown = False
            stream.write(text)
            stream.flush()
        except KeyboardInterrupt:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # the flush at exit
            raise asyncio.CancelledError from None
        finally:
            self.writing_to = None

    def print_json(self, name: str, qtype: int, status: str, **fields: Any) -> None:
        import json

        line = {'name': name, 'type': present_type(qtype), 'status': status, **fields}
        self.write(sys.stdout, f'{json.dumps(line)}\n')

    def print_records(self, name: str, qtype: int, records: Sequence[Any], now: float) -> None:
        self.answered += 1
        ttls = [max(0, round(record.expires_at - now)) for record in records]
        texts = [present_rdata(qtype, CLASSES.IN, record) for record in records]
        if self.options.json:
            said = [{'ttl': ttl, 'data': text} for ttl, text in zip(ttls, texts, strict=True)]
            self.print_json(name, qtype, 'found', records=said)
            return
        owner = kind = ''
        if self.options.file is not None:  # a line of a master file, where the TTL may be left out
            owner, kind = f'{present_name(to_name(name))} ', f'IN {present_type(qtype)} '
        shown = [f'{ttl} ' if self.options.ttl else '' for ttl in ttls]
        lines = [f'{owner}{ttl}{kind}{text}' for ttl, text in zip(shown, texts, strict=True)]
        self.write(sys.stdout, ''.join([f'{line.rstrip()}\n' for line in lines]))

    def print_error(self, name: str, qtype: int, error: ResolverError) -> None:
        is_absent = isinstance(error, DoesNotExist)
        self.absent += is_absent
        self.failed += not is_absent
        kind, status = type(error).__name__, 'absent' if is_absent else 'failed'
        if self.options.json:
            rcode = getattr(error, 'rcode', None)
            said = {} if rcode is None else {'rcode': present_number(rcode, RCODE_OF, 'RCODE')}
            self.print_json(name, qtype, status, error=kind, text=str(error), **said)
            return
        # An error may quote what the user or a nameserver wrote.
        text = ''.join([c if c.isprintable() else ascii(c)[1:-1] for c in str(error)])
        self.write(sys.stderr, f'{text}\n' if is_absent else f'{kind}: {text}\n')

    def show(self, total: int | None, format_meter: Callable[..., str] | None) -> None:
        """Shows how many questions of `total` are over, with a bar of tqdm's if there is one."""
        count = self.answered + self.absent + self.failed
        seconds = time.monotonic() - self.began
        width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
        failed = f'{self.failed} failed'
        text = f'{count} names, {count / seconds:.0f} names/s, {failed}'
        if format_meter:
            text = format_meter(count, total, seconds, width, '', True, ' names', postfix=failed)
        self.write(sys.stderr, f'\r{text[:width]}\x1b[K')
        self.is_shown = True


def resolver_for(options: Any) -> Resolve:
    """Returns the resolver that a command line asks for."""

    async def get_nameservers(fqdn: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
        for _ in range(5):
            yield (options.timeout or 2.5) / 5, options.nameserver

    if options.nameserver:  # then hosts is not used: a file that is missing is empty, and stays so
        get_host = functools.partial(get_host_from_etc_hosts, path='')
        return Resolver(get_host, get_nameservers)[0]
    if options.tcp:
        os.environ['RES_OPTIONS'] = f'{os.environ.get("RES_OPTIONS", "")} use-vc'
    return Resolver(search=() if options.no_search else None)[0]


async def resolve_and_print(resolve: Resolve, printer: Printer, name: str, qtype: int) -> None:
    """Asks a question, and prints its outcome."""
    seconds = printer.options.timeout
    try:
        async with asyncio.timeout(seconds) if seconds else contextlib.nullcontext():
            records = await resolve(name, qtype)
    except ResolverError as error:
        printer.print_error(name, qtype, error)
    except TimeoutError:
        text = f'{describe(to_name(name), qtype)}: there was no answer in {seconds:g} s'
        printer.print_error(name, qtype, QueryTimeout(text))
    else:
        printer.print_records(name, qtype, records, asyncio.get_running_loop().time())


class NameReader:
    """Reads names from a file, one a line, as they are asked for.

    It holds those of one read. Blank lines are skipped. A line that is too long is cut, but
    remains too long to be a name.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.names: deque[str] = deque()
        self.rest = b''
        self.is_over = False
        self.lock = asyncio.Lock()
        self.poll = select.poll()
        self.poll.register(descriptor, select.POLLIN)

    async def next(self) -> str | None:
        """Returns the next name, or None after the last."""
        while not self.names and not self.is_over:
            async with self.lock:
                if not self.names and not self.is_over:
                    await self.read()
        return self.names.popleft() if self.names else None

    async def read(self) -> None:
        if self.poll.poll(0):
            await asyncio.sleep(0)  # the loop has its turn, however many lines are blank
        else:
            loop = asyncio.get_running_loop()
            readable = asyncio.Event()
            loop.add_reader(self.descriptor, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self.descriptor)
        data = os.read(self.descriptor, READ_OCTETS)
        self.is_over = not data  # and with it the last line
        *lines, rest = (self.rest + (data or b'\n')).split(b'\n')
        self.rest = rest[: MAX_LINE + 1]
        for line in lines:
            if name := line.strip() if len(line) <= MAX_LINE else line[: MAX_LINE + 1]:
                # As in words of a command line; what is not UTF-8 is not a valid name.
                self.names.append(name.decode(errors='surrogateescape'))


async def run_file(options: Any, printer: Printer) -> None:
    """Prints the outcomes for the names in a file as they come; holds no names. Raises OSError."""
    import gc

    gc.set_threshold(5000, 1)  # not 700 or 2000: questions in flight are many objects, no garbage
    resolve = resolver_for(options)
    total = format_meter = None
    if is_terminal := sys.stderr.isatty():
        if os.path.isfile(options.file):
            with open(options.file, 'rb') as file:
                blocks = iter(functools.partial(file.read, READ_OCTETS), b'')
                total = sum([block.count(b'\n') for block in blocks]) * len(options.qtypes)
        with contextlib.suppress(ImportError), importing('tqdm'):
            format_meter = __import__('tqdm').tqdm.format_meter  # it has no types to import

    async def work() -> None:
        while (name := await reader.next()) is not None:
            for qtype in options.qtypes:
                await resolve_and_print(resolve, printer, name, qtype)
                await asyncio.sleep(0)  # the loop has its turn, also if no outcome needs a query

    # A named pipe is opened without waiting for its other end.
    descriptor = 0 if options.file == '-' else os.open(options.file, os.O_RDONLY | os.O_NONBLOCK)
    reader = NameReader(descriptor)
    workers = [asyncio.create_task(work()) for _ in range(options.concurrency)]
    gathered = asyncio.gather(*workers)
    try:
        seconds = PROGRESS_SECONDS if is_terminal else None
        while (await asyncio.wait([gathered], timeout=seconds))[1]:
            printer.show(total, format_meter)
        await gathered
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(gathered, *workers, return_exceptions=True)
        if descriptor:
            os.close(descriptor)


async def run(options: Any) -> int:
    """Prints outcomes, of a file also a summary, and returns the exit status."""
    import signal

    printer = Printer(options)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if options.file is None:
        resolve = resolver_for(options)
        for name, qtype in itertools.product(options.names, options.qtypes):
            await resolve_and_print(resolve, printer, name, qtype)
        return 2 if printer.failed else min(printer.absent, 1)

    def on_interrupt(number: int, frame: Any) -> None:
        stream = printer.writing_to
        is_blocked = stream is not None and not select.select([], [stream], [], 0)[1]
        if is_blocked or task is None or task.cancelling():
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    previous = signal.getsignal(signal.SIGINT)
    try:
        if callable(previous):  # else it is ignored
            signal.signal(signal.SIGINT, on_interrupt)
        await run_file(options, printer)
        status = 2 if printer.failed else min(printer.absent, 1)
    except asyncio.CancelledError:
        status = 130  # as shells do for SIGINT, and nothing else cancels this task
    finally:
        if callable(previous):
            signal.signal(signal.SIGINT, previous)
    counts = f'{printer.answered} answered, {printer.absent} absent, {printer.failed} failed'
    printer.write(sys.stderr, f'{counts}, {time.monotonic() - printer.began:.1f} s\n')
    return status


def parse_transfer(
    words: list[str], options: Any
) -> tuple[str, int | None, Server, Key | None] | None:
    """Returns what print_transfer needs, or None for a command line that asks for records.

    Raises InvalidName.
    """
    kinds = [re.fullmatch('AXFR|IXFR(?:=(.*))?', word.upper()) for word in words]
    found = [kind for kind in kinds if kind]
    if not found:
        return None
    key = None
    if options.key is not None:
        parts = re.fullmatch('(?:([^@:]+):)?([^@:]+):([^:]+)', options.key)
        if not parts:
            raise InvalidName('After -y comes [HMAC:]KEY:SECRET')
        key = Key(parts[2], parts[3], parts[1] or 'hmac-sha256')
    rest = [word for word, kind in zip(words, kinds, strict=True) if not kind]
    names, qtypes, nameserver = parse_words(rest, False)
    server = to_server(nameserver or '')
    others = vars(options) | {'key': None, 'concurrency': None}
    if not all([value is None or value is False for value in others.values()]):
        raise InvalidName('-y is the only option of a transfer')
    if len(found + names) != 2 or qtypes not in ([], [TYPES.A]) or server.path:
        raise InvalidName('A transfer is of one ZONE, from one NAMESERVER over TCP or TLS')
    serial = None
    if found[0][0] != 'AXFR':
        if not re.fullmatch('[0-9]{1,10}', found[0][1] or ''):
            raise InvalidName('IXFR needs the SERIAL of the zone as it is here: IXFR=SERIAL')
        serial = int(found[0][1])
    transfer_query(names[0], serial, key)
    return names[0], serial, server, key


async def print_transfer(origin: str, serial: int | None, server: Server, key: Key | None) -> int:
    """Prints a zone, or what is new in it, as it comes, and returns the exit status.

    How far it is, is shown on standard error if that is a terminal.
    """
    import signal

    host, port = server.address
    where = f'{host}%{server.scope}' if server.scope else host
    name = server.name if server.scheme == 'tls' else None
    records = octets = 0
    began = due = time.monotonic()
    is_terminal = sys.stderr.isatty()
    if callable(signal.getsignal(signal.SIGINT)):
        # With asyncio's handler the first SIGINT would not end a write to a pipe that is full.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    clear = '\r\x1b[K' if is_terminal else ''
    try:
        received = transfer(where, origin, serial, port, 10, key=key, server_hostname=name)
        async with contextlib.aclosing(received):
            async for is_whole, deleted, added in received:
                minus, plus = ('', '') if is_whole else ('-', '+')
                lines = [f'{minus}{presentation(record)}\n' for record in deleted]
                lines += [f'{plus}{presentation(record)}\n' for record in added]
                records += len(lines)
                octets += sum(map(len, lines))
                if is_terminal and sys.stdout.isatty():  # it may be the same one
                    print(clear, end='', file=sys.stderr, flush=True)
                sys.stdout.write(''.join(lines))
                now = time.monotonic()
                if is_terminal and now >= due:
                    due = now + PROGRESS_SECONDS
                    rate = records / (now - began) if now > began else 0
                    progress = f'{records} records, {octets} octets, {rate:.0f} records/s'
                    print(f'{clear}{progress}', end='', file=sys.stderr, flush=True)
    except ResolverError as error:
        print(f'{clear}{type(error).__name__}: {error}', file=sys.stderr)
        return 2
    if is_terminal:
        print(clear, end='', file=sys.stderr)
    return 0


def main() -> int:
    """Runs the command line, and returns the exit status."""
    if sys.stdout is None or sys.stderr is None:
        return 2  # there is nowhere to write to
    parser = make_parser()
    try:
        options, words = parser.parse_known_args(sys.argv[1:])
        if '--' in sys.argv[1:]:  # argparse may drop it
            raise InvalidName("'--' is not a known option")
        asked = None if options.help else parse_transfer(words, options)
        if not options.help and asked is None:
            add_questions(words, options)
    except InvalidName as error:
        print(f'{error}\n{parser.format_help()}', end='', file=sys.stderr)
        return 64
    except MissingDependency as error:
        print(error, file=sys.stderr)
        return 2
    try:
        if options.help:
            status = print(parser.format_help(), end='') or 0
        elif asked is not None:
            status = asyncio.run(print_transfer(*asked))
        else:
            status = asyncio.run(run(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # as shells do for SIGINT
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # then who reads it has had enough
            with contextlib.suppress(OSError):  # it may be this that cannot be written
                print(f'Cannot read names or write the output: {error}', file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit
        return 2
    return status


if __name__ == '__main__':
    sys.exit(main())
