#!/usr/bin/env python3
"""Lists and restores what a backstay repository holds, without backstay.

Written from docs/FORMAT.md alone, for the day on which there is nothing else: the paragraph signs below are its sections.
It reads a repository in a local directory and changes nothing in it.
"""

import argparse
import collections
import datetime
import getpass
import io
import os
import stat
import struct
import sys

import blake3
import zstandard
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

VERSION = 1
BLOB_MAX = 4 << 20
TRAILER_MAX = 128 << 20
SEGMENT_MAX = 512 << 20
NAMES_MAX = 64 << 20
LEVELS_MAX = 64
BLOBS_KEPT = 16
# Kinds of objects, section 4.2.
DATA, BODY, STRUCTURE, TRAILER, SEGMENT, SNAPSHOT, SNAPSHOT_BODY = 1, 2, 3, 4, 5, 6, 7
DEAD, FORGOTTEN, GRANT, KEY_SLOT, SEAL_KEY, CONFIG, EPOCH, CERTIFICATE = 12, 13, 14, 15, 16, 17, 18, 19
OWNER, WRITER, READER, MAINTENANCE = range(4)
ROLES = ("owner", "writer", "reader", "maintenance")
# Children of pages, section 9.2.
CHUNK, HOLE, OWN_BODY, PAGE = range(4)
ENTRIES, DIRECTORY, CONTENT = 1, 2, 3
FILE, DIR, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = range(7)


class Damage(Exception):
    """Bytes are not what the format says they are."""


class Refused(Exception):
    """What was asked for cannot be done; nothing is damaged."""


# ---- 2: records and tables


class Cursor:
    """Reads integers, strings and lists from the start of some bytes; a count is believed only as far as bytes are there."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Damage("cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def u8(self):
        return self.number("B")

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def i64(self):
        return self.number("q")

    def bool(self):
        value = self.u8()
        if value > 1:
            raise Damage("neither true nor false")
        return value == 1

    def bytes(self):
        return self.take(self.u64())

    def string(self):
        try:
            return self.bytes().decode()
        except UnicodeDecodeError:
            raise Damage("a string is not UTF-8") from None

    def list(self, item):
        return [item() for _ in range(self.u64())]

    def option(self, item):
        return item() if self.bool() else None

    def choice(self, count):
        variant = self.u32()
        if variant >= count:
            raise Damage("an unknown variant")
        return variant

    def numbers(self, code, count):
        return struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(code)))

    def rows(self, count, length):
        data = self.take(count * length)
        return [data[at : at + length] for at in range(0, len(data), length)]

    def planes(self, count, planes):
        runs = [self.take(count) for _ in range(planes)]
        return [int.from_bytes(bytes(run[row] for run in runs), "little") for row in range(count)]

    def extension(self):
        self.take(self.u32())

    def end(self):
        if self.at != len(self.data):
            raise Damage("bytes are left over")


def decompress(data, limit):
    """One zstd frame, never more than `limit` bytes."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(data)) as reader:
            out = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise Damage(f"does not decompress: {error}") from None
    if len(out) > limit:
        raise Damage("decompresses to too much")
    return out


# ---- 4: cryptography


def blake(data):
    return blake3.blake3(data).digest()


def derive(what, material):
    return blake3.blake3(material, derive_key_context=f"backstay 2026-11 v1 {what}").digest()


def binding(repository, kind, seal_id, counter):
    return b"\x01" + repository + bytes([kind]) + seal_id + struct.pack("<Q", counter)


def nonce(counter):
    return bytes(4) + struct.pack("<Q", counter)


def aead_open(key, nonce_bytes, data, additional):
    try:
        return ChaCha20Poly1305(key).decrypt(nonce_bytes, bytes(data), additional)
    except InvalidTag:
        raise Damage("does not open with this key") from None


def check_suite(suite):
    if suite != 1:
        raise Refused(f"uses cipher suite {suite}, which this reader does not know")


def record_header(sealed):
    cursor = Cursor(sealed)
    check_suite(cursor.u8())
    return cursor.u32(), cursor.take(16), sealed[21:]


def open_record(sealed, key, repository, kind):
    epoch, salt, body = record_header(sealed)
    return aead_open(derive("record", key + salt), bytes(12), body, binding(repository, kind, salt, epoch))


def public_of(private):
    return private.public_key().public_bytes_raw()


def unwrap_key(wrapped, private, bound, counter):
    public, sealed = wrapped[:32], wrapped[32:]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Damage("a key of small order") from None
    return aead_open(derive("key wrap", shared + public + public_of(private)), nonce(counter), sealed, bound)


def open_letter(letter, private, repository, kind):
    epoch, salt, _ = record_header(letter[80:])
    key = unwrap_key(letter[:80], private, binding(repository, kind, salt, epoch), epoch)
    return open_record(letter[80:], key, repository, kind)


def verify(signed, repository, kind, signer, signature):
    message = b"backstay v1 object" + repository + bytes([kind]) + blake(signed)
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Damage("its signature does not verify") from None


# ---- 5: frames


class Frame:
    def __init__(self, data, kinds):
        cursor = Cursor(data)
        if cursor.take(4) != b"BKST":
            raise Damage("not an object of a backstay repository")
        version = cursor.u16()
        if version != VERSION:
            raise Refused(f"has format version {version}; this reader reads {VERSION}")
        self.kind, count = cursor.u8(), cursor.u8()
        if self.kind not in kinds or count > 8:
            raise Damage(f"an object of kind {self.kind} with {count} sections")
        self.sections = [cursor.take(cursor.u32()) for _ in range(count)]
        certificate = cursor.take(cursor.u32())
        self.certificate = Certificate.whole(certificate) if certificate else None
        self.signer, self.signature = cursor.take(32), cursor.take(64)
        cursor.end()
        self.signed = data[:-64]

    def verify(self, repository):
        verify(self.signed, repository, self.kind, self.signer, self.signature)
        return self

    def section(self, at):
        if at >= len(self.sections):
            raise Damage("a section is missing")
        return self.sections[at]


# ---- 6: keys


class Certificate:
    def __init__(self, cursor):
        start = cursor.at
        self.role, self.domain = cursor.choice(4), cursor.take(16)
        self.exchange, self.identity, self.since = cursor.take(32), cursor.take(32), cursor.u32()
        self.unsigned = cursor.data[start : cursor.at] + bytes(8)
        self.signature = cursor.bytes()

    @classmethod
    def whole(cls, data):
        cursor = Cursor(data)
        certificate = cls(cursor)
        cursor.end()
        return certificate

    def verify(self, owner, repository):
        verify(self.unsigned, repository, CERTIFICATE, owner, self.signature)


class Slot:
    def __init__(self, data, owner, repository):
        frame = Frame(data, [KEY_SLOT]).verify(repository)
        cursor = Cursor(frame.section(0))
        self.certificate = Certificate(cursor)
        self.takes_password = cursor.choice(2) == 0
        self.cost = (cursor.u32(), cursor.u32(), cursor.u32()) if self.takes_password else None
        self.salt, self.secrets = cursor.take(16), cursor.bytes()
        self.grants = cursor.list(lambda: (cursor.u32(), cursor.bytes()))
        self.created_at, self.label = cursor.i64(), cursor.bytes()
        cursor.bytes()
        cursor.end()
        self.certificate.verify(owner, repository)
        if frame.signer != self.certificate.identity:
            raise Damage("a key slot that is not signed by its own identity")

    def key(self, password, key_file):
        """The slot's key, or none if the credential is of the other kind."""
        if self.takes_password and password is not None:
            memory, passes, lanes = self.cost
            if memory > 1 << 20 or not 0 < passes <= 64 or not 0 < lanes <= 16:
                raise Refused("asks for more memory or time than this reader accepts")
            hashed = hash_secret_raw(password, self.salt, passes, memory, lanes, 32, Type.ID)
            return derive("password", hashed + self.salt)
        if not self.takes_password and key_file is not None:
            if len(key_file) < 32:
                raise Refused("a key file has at least 32 bytes")
            return derive("key file", blake(key_file) + self.salt)
        return None

    def open(self, key, owner, repository):
        """The private exchange key, once everything in the slot is known to belong together."""
        cursor = Cursor(open_record(self.secrets, key, repository, KEY_SLOT))
        exchange = X25519PrivateKey.from_private_bytes(cursor.take(32))
        identity = Ed25519PrivateKey.from_private_bytes(cursor.take(32))
        named_owner = cursor.take(32)
        cursor.end()
        if (public_of(exchange), public_of(identity)) != (self.certificate.exchange, self.certificate.identity):
            raise Damage("a key slot with the secrets of another")
        if named_owner != owner:
            raise Damage("the configuration names another owner than the key slot")
        return exchange


Epoch = collections.namedtuple("Epoch", "index chunk_id exchange")


def open_grant(epoch, letter, private, repository):
    if record_header(letter[80:])[0] != epoch:
        raise Damage("a grant names another epoch than its letter")
    cursor = Cursor(open_letter(letter, private, repository, GRANT))
    index, chunk_id = cursor.take(32), cursor.option(lambda: cursor.take(32))
    cursor.option(lambda: cursor.take(32))
    exchange = cursor.option(lambda: X25519PrivateKey.from_private_bytes(cursor.take(32)))
    cursor.end()
    return Epoch(index, chunk_id, exchange)


# ---- 7 and 8: packs and segments

Seal = collections.namedtuple("Seal", "seal_id epoch wrapped")
Blob = collections.namedtuple("Blob", "kind seal counter offset sealed_len plain_len hash first chunk_count")


class Table:
    """A trailer's table: what a pack holds."""

    def __init__(self, data):
        cursor = Cursor(data)
        if cursor.u8() not in (1, 2):
            raise Damage("a pack of an unknown class")
        self.seals = []
        for row in cursor.rows(cursor.u32(), 101):
            check_suite(row[20])
            self.seals.append(Seal(row[:16], int.from_bytes(row[16:20], "little"), row[21:]))
        count = cursor.u32()
        columns = [cursor.numbers(code, count) for code in "BHQII"]
        hashes = cursor.rows(count, 32)
        chunk_count = cursor.u32()
        lens = cursor.planes(chunk_count, 4)
        self.chunks = list(zip(cursor.rows(chunk_count, 20), lens))
        cursor.extension()
        cursor.end()
        self.blobs, offset, first = [], 0, 0
        for kind, seal, counter, sealed_len, own, digest in zip(*columns, hashes):
            plain_len = sum(lens[first : first + own])
            fits = 0 < own <= chunk_count - first and 0 not in lens[first : first + own] and plain_len <= BLOB_MAX
            if not fits or not 17 < sealed_len <= plain_len + 17 or kind not in (1, 2, 3) or seal >= len(self.seals):
                raise Damage("a pack's table contradicts itself")
            self.blobs.append(Blob(kind, seal, counter, offset, sealed_len, plain_len, digest, first, own))
            offset, first = offset + sealed_len, first + own
        if first != chunk_count:
            raise Damage("chunks that belong to no blob")
        self.blobs_len = offset


def open_segment(frame, index_key, repository):
    sealed = frame.section(0)
    packed = open_record(sealed, index_key(record_header(sealed)[0]), repository, SEGMENT)
    cursor = Cursor(decompress(packed, SEGMENT_MAX))
    packs = []
    for _ in range(cursor.u32()):
        pack, _ = cursor.take(32), cursor.u64()
        packs.append((pack.hex(), Table(cursor.take(cursor.u32()))))
    cursor.rows(cursor.u32(), 32)
    cursor.take(16)
    cursor.extension()
    cursor.end()
    return packs


# ---- 9: pages

Child = collections.namedtuple("Child", "kind len id")
Entry = collections.namedtuple("Entry", "path kind detail mode uid gid user group modified_at inode device links xattrs children")


def decode_page(data):
    cursor = Cursor(data)
    kind, count = cursor.u8(), cursor.u32()
    kinds, lens = cursor.take(count), cursor.planes(count, 8)
    children = [Child(*row) for row in zip(kinds, lens, cursor.rows(count, 20))]
    cursor.extension()
    cursor.end()
    if kind not in (ENTRIES, DIRECTORY, CONTENT) or any(child.kind > PAGE for child in children):
        raise Damage("a page of an unknown kind")
    if kind != CONTENT and (not children or children[0].kind != OWN_BODY):
        raise Damage("a page without its body")
    own = children if kind == CONTENT else children[1:]
    if any(child.kind == OWN_BODY or (kind == DIRECTORY and child.kind != PAGE) for child in own):
        raise Damage("a page that lists what it may not")
    if any(child.kind == HOLE and child.id != bytes(20) for child in own):
        raise Damage("a hole with an id")
    return kind, children[0].id if kind != CONTENT else None, own


def sort_key(path):
    *parents, name = path.split(b"/")
    return b"".join(part + b"\0" for part in parents) + b"\0" + name


def decode_entries(data, children):
    cursor = Cursor(data)
    directories, owners = cursor.list(cursor.bytes), cursor.list(cursor.bytes)
    entries, used, names_len = [], 0, 0

    def record():
        directory, name, kind = cursor.u32(), cursor.bytes(), cursor.choice(7)
        detail = cursor.u64() if kind == FILE else cursor.bytes() if kind == SYMLINK else None
        detail = (cursor.u32(), cursor.u32()) if kind in (CHAR, BLOCK) else detail
        mode, uid, gid, user, group = cursor.numbers("I", 5)
        modified_at, _ = (cursor.i64(), cursor.u32()), cursor.take(12)
        inode, device, links = cursor.numbers("Q", 3)
        xattrs = cursor.list(lambda: (cursor.bytes(), cursor.bytes()))
        cursor.bool()
        if directory >= len(directories) or max(user, group) > len(owners) or b"/" in name:
            raise Damage("an entry refers to what is not there")
        user, group = (owners[at - 1] if at else None for at in (user, group))
        parent = directories[directory]
        path = parent + b"/" + name if parent else name
        if any(part in (b"", b".", b"..") or b"\0" in part for part in path.split(b"/")):
            raise Damage("an entry whose path could lead out of the target")
        return path, kind, detail, mode & 0o7777, uid, gid, user, group, modified_at, inode, device, links, xattrs

    for _ in range(cursor.u64()):
        fields, count = record(), cursor.u32()
        names_len += sum(len(name or b"") for name in (fields[0], fields[6], fields[7]))
        own = children[used : used + count]
        used += count
        if used > len(children) or names_len > NAMES_MAX or (own and fields[1] != FILE):
            raise Damage("an entry with more than its page holds")
        if entries and sort_key(entries[-1].path) >= sort_key(fields[0]):
            raise Damage("entries are out of order")
        entries.append(Entry(*fields, own))
    cursor.bytes()
    cursor.end()
    if used != len(children):
        raise Damage("content that belongs to no entry")
    return entries


# ---- 10: snapshots

Component = collections.namedtuple("Component", "name kind root entry_count content_len")
Snapshot = collections.namedtuple("Snapshot", "id started_at host source tags partial components problems note")


def decode_snapshot(data, name):
    cursor = Cursor(data)
    own, _ = cursor.take(16), cursor.option(lambda: cursor.take(16))
    if own.hex() != name:
        raise Damage("a snapshot under the name of another")
    started_at, _ = cursor.i64(), cursor.i64()
    host, source, tags = cursor.string(), cursor.string(), cursor.list(cursor.string)
    partial, _ = cursor.choice(2) == 1, cursor.option(cursor.i64)

    def component():
        name, kind, _ = cursor.string(), cursor.string(), cursor.choice(3)
        cursor.i64(), cursor.i64()
        root = cursor.option(lambda: cursor.take(20))
        entry_count, content_len, _, _ = cursor.numbers("Q", 4)
        cursor.bytes()
        return Component(name, kind, root, entry_count, content_len)

    components, _ = cursor.list(component), cursor.take(16)
    cursor.bytes()
    cursor.end()
    return Snapshot(name, started_at, host, source, tags, partial, components, [], None)


def decode_problems(data, count):
    cursor = Cursor(data)

    def component():
        cursor.list(cursor.bytes), cursor.list(cursor.bytes), cursor.bytes(), cursor.string()
        problems = cursor.list(cursor.string)
        cursor.list(lambda: (cursor.string(), cursor.string())), cursor.bytes()
        return problems

    problems = cursor.list(component)
    cursor.string(), cursor.string(), cursor.bytes()
    cursor.end()
    if len(problems) != count:
        raise Damage("a snapshot whose halves list different components")
    return problems


# ---- 1: the repository


class Repository:
    def __init__(self, root, password, key_file, no_index=False):
        self.root, self.no_index = root, no_index
        self.config = self._config()
        self.slots = {}
        for folder in ("keys-copy", "keys"):
            decoded = self._decoded(folder, lambda data, _: Slot(data, self.owner, self.id), is_hashed=True)
            self.slots.update((name.rsplit("/", 1)[-1], slot) for name, slot in decoded)
        self.epochs = self._epochs(password, key_file)
        self.places, self.tables, self.seal_keys = None, {}, {}
        self.opened, self.knows_trailers = collections.OrderedDict(), False

    def _read(self, name):
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def _names(self, prefix):
        """Names of objects below `prefix`: hex or digits, nothing that is still being written."""
        for folder, _, files in sorted(os.walk(os.path.join(self.root, prefix))):
            for name in sorted(files):
                if all(letter in "0123456789abcdef" for letter in name):
                    yield os.path.relpath(os.path.join(folder, name), self.root)

    def _decoded(self, prefix, decode, is_hashed=False):
        """Every object below `prefix` that decodes, by the last part of its name. Others are named and passed over."""
        for name in self._names(prefix):
            try:
                data, last = self._read(name), name.rsplit("/", 1)[-1]
                if is_hashed and blake(data).hex() != last:
                    raise Damage("does not hash to its name")
                decoded = decode(data, last)
            except (Damage, Refused, OSError) as error:
                warn(f"{name}: {error}; passed over")
                continue
            if decoded is not None:
                yield last, decoded

    def _config(self):
        for name in ("config", "config-copy"):
            try:
                frame = Frame(self._read(name), [CONFIG])
                cursor = Cursor(frame.section(0))
                self.id, self.owner = cursor.take(16), cursor.take(32)
                cursor.take(8 + 4 + 4), cursor.bool(), cursor.bytes()
                cursor.end()
                frame.verify(self.id)
                if frame.signer != self.owner:
                    raise Damage("not signed by its owner")
                return frame
            except FileNotFoundError:
                continue
            except Damage as error:
                warn(f"{name}: {error}")
        raise Refused(f"{self.root} is not a backstay repository, or its configuration cannot be read")

    def _epochs(self, password, key_file):
        slot, private = self._open_slot(password, key_file)
        epochs = {number: open_grant(number, letter, private, self.id) for number, letter in slot.grants}
        publics, self.revoked = {}, set()

        def epoch(data, name):
            frame = Frame(data, [EPOCH]).verify(self.id)
            cursor = Cursor(frame.section(0))
            number, publics[number] = (lambda number: (number, cursor.take(32)))(cursor.u32())
            cursor.i64()
            grants = cursor.list(lambda: (cursor.take(32), cursor.take(32), cursor.u32(), cursor.bytes()))
            revoked = cursor.list(lambda: Certificate(cursor))
            cursor.bytes()
            cursor.end()
            if frame.signer != self.owner or int(name) != number:
                raise Damage("not the owner's epoch of this number")
            self.revoked |= {certificate.identity for certificate in revoked}
            for to, exchange, granted, letter in grants:
                if (to, exchange) == (slot.certificate.identity, slot.certificate.exchange):
                    epochs[granted] = open_grant(granted, letter, private, self.id)

        for folder in ("epochs-copy", "epochs"):
            collections.deque(self._decoded(folder, epoch), 0)
        for number, secrets in epochs.items():
            if secrets.exchange and publics.get(number) not in (None, public_of(secrets.exchange)):
                raise Damage(f"the key of epoch {number} is not the one that was granted")
        if not any(secrets.exchange and secrets.chunk_id for secrets in epochs.values()):
            raise Refused(f"this key is a {ROLES[slot.certificate.role]} key: it does not open what is stored")
        secret = next(secrets.chunk_id for secrets in epochs.values() if secrets.chunk_id)
        self.namers = {DATA: secret, BODY: derive("page ids", secret), STRUCTURE: derive("page ids", secret)}
        return epochs

    def _open_slot(self, password, key_file):
        for slot in self.slots.values():
            key = slot.key(password, key_file)
            if key is None:
                continue
            try:
                open_record(slot.secrets, key, self.id, KEY_SLOT)
            except Damage:
                continue
            return slot, slot.open(key, self.owner, self.id)
        raise Refused("no key slot opens with this password or key file")

    def index_key(self, epoch):
        if epoch not in self.epochs:
            raise Refused(f"sealed in epoch {epoch}, which this key does not know")
        return self.epochs[epoch].index

    def believe(self, frame, roles):
        """Says why a frame's signer is not to be believed, or none."""
        if frame.signer in self.revoked:
            return "signed by a key that was removed"
        if frame.signer == self.owner:
            return None
        try:
            frame.certificate.verify(self.owner, self.id)
        except (AttributeError, Damage):
            return "signed by a key that the owner does not vouch for"
        if frame.certificate.identity != frame.signer or frame.certificate.role not in roles:
            return "signed by a key that may not write this"
        return None

    # -- snapshots

    def snapshots(self, with_forgotten=False):
        def forgotten(data, name):
            frame = Frame(data, [FORGOTTEN]).verify(self.id)
            sealed = frame.section(0)
            cursor = Cursor(open_record(sealed, self.index_key(record_header(sealed)[0]), self.id, FORGOTTEN))
            if cursor.take(16).hex() != name or self.believe(frame, (OWNER, MAINTENANCE)):
                raise Damage("does not belong to this snapshot, or is by the wrong key")
            return True

        hidden = dict(self._decoded("forgotten", forgotten))
        found = [snapshot for _, snapshot in self._decoded("snapshots", self._snapshot)]
        found = [snapshot for snapshot in found if with_forgotten or snapshot.id not in hidden]
        return sorted(found, key=lambda snapshot: snapshot.started_at)

    def _snapshot(self, data, name):
        frame = Frame(data, [SNAPSHOT, DEAD]).verify(self.id)
        if frame.kind == DEAD:
            return None
        sealed = frame.section(0)
        epoch = record_header(sealed)[0]
        snapshot = decode_snapshot(open_record(sealed, self.index_key(epoch), self.id, SNAPSHOT), name)
        exchange = self.epochs[epoch].exchange
        body = open_letter(frame.section(1), exchange, self.id, SNAPSHOT_BODY) if exchange else None
        problems = decode_problems(body, len(snapshot.components)) if body else []
        return snapshot._replace(problems=problems, note=self.believe(frame, (OWNER, WRITER)))

    # -- chunks

    def _load_index(self):
        self.places = {}
        if not self.no_index:
            segments = self._decoded(
                "index", lambda data, _: self._segment(Frame(data, [SEGMENT]).verify(self.id)), is_hashed=True
            )
            for _, packs in segments:
                for pack, table in packs:
                    self._add(pack, table)

    def _segment(self, frame):
        doubt = self.believe(frame, (OWNER, WRITER, MAINTENANCE))
        if doubt:
            warn(f"an index segment is {doubt}; used, since every chunk is checked")
        return open_segment(frame, self.index_key, self.id)

    def _load_trailers(self):
        """Reads the trailer of every pack that no segment named, once: it says the same."""
        if self.knows_trailers:
            return
        self.knows_trailers = True
        for name in self._names("packs"):
            if name.rsplit("/", 1)[-1] in self.tables:
                continue
            try:
                self._add(name.rsplit("/", 1)[-1], self._trailer(name))
            except (Damage, Refused, OSError) as error:
                warn(f"{name}: {error}; passed over")

    def _trailer(self, name):
        with open(os.path.join(self.root, name), "rb") as file:
            length = file.seek(0, io.SEEK_END)
            if length < 10:
                raise Damage("cut short")
            file.seek(length - 10)
            cursor = Cursor(file.read(10))
            sealed_len, version = cursor.u32(), cursor.u16()
            if cursor.take(4) != b"BKPK":
                raise Damage("does not end like a pack")
            if version != VERSION:
                raise Refused(f"has format version {version}")
            if sealed_len > length - 10:
                raise Damage("cut short")
            file.seek(length - 10 - sealed_len)
            sealed = file.read(sealed_len)
        plain = Cursor(open_record(sealed, self.index_key(record_header(sealed)[0]), self.id, TRAILER))
        table = Table(decompress(plain.take(plain.u32()), TRAILER_MAX))
        if table.blobs_len + sealed_len + 10 != length:
            raise Damage("is not as long as its trailer says")
        return table

    def _add(self, pack, table):
        if pack in self.tables:
            return
        self.tables[pack] = table
        for row, blob in enumerate(table.blobs):
            start = 0
            for chunk, length in table.chunks[blob.first : blob.first + blob.chunk_count]:
                self.places.setdefault(chunk, []).append((pack, row, start, length))
                start += length

    def chunk(self, chunk_id):
        """A chunk's bytes: every place is tried, then what no segment names."""
        if self.places is None:
            self._load_index()
        tried, seen = [], 0
        for load_more in (lambda: None, self._load_trailers):
            load_more()
            places = self.places.get(chunk_id, [])
            seen, places = len(places), places[seen:]
            for pack, row, start, length in places:
                try:
                    data = self._blob(pack, row)[start : start + length]
                    namer = self.namers[self.tables[pack].blobs[row].kind]
                    if blake3.blake3(data, key=namer).digest(20) != chunk_id:
                        raise Damage("holds something else under this id")
                    return data
                except (Damage, Refused, OSError) as error:
                    tried.append(f"pack {pack[:12]}, blob {row}: {error}")
        raise Damage(f"chunk {chunk_id.hex()} is lost ({'; '.join(tried) or 'no pack holds it'})")

    def _blob(self, pack, row):
        if (pack, row) in self.opened:
            self.opened.move_to_end((pack, row))
            return self.opened[pack, row]
        table = self.tables[pack]
        blob = table.blobs[row]
        with open(os.path.join(self.root, "packs", pack[:2], pack), "rb") as file:
            file.seek(blob.offset)
            sealed = file.read(blob.sealed_len)
        if blake(sealed) != blob.hash:
            raise Damage("is not what was written")
        seal = table.seals[blob.seal]
        bound = binding(self.id, blob.kind, seal.seal_id, blob.counter)
        key = self._blob_key(seal, blob.kind)
        packed = aead_open(key, nonce(blob.counter), sealed[1:], bound + sealed[:1])
        if sealed[0] > 1:
            raise Refused(f"uses compression method {sealed[0]}")
        plain = decompress(packed, blob.plain_len) if sealed[0] else packed
        if len(plain) != blob.plain_len:
            raise Damage("does not have the promised length")
        self.opened[pack, row] = plain
        if len(self.opened) > BLOBS_KEPT:
            self.opened.popitem(last=False)
        return plain

    def _blob_key(self, seal, kind):
        if kind == STRUCTURE:
            return derive("structure blobs", self.index_key(seal.epoch) + seal.seal_id)
        known = (seal.seal_id, seal.epoch, seal.wrapped)
        if known not in self.seal_keys:
            self.index_key(seal.epoch)
            bound = binding(self.id, SEAL_KEY, seal.seal_id, seal.epoch)
            self.seal_keys[known] = unwrap_key(seal.wrapped, self.epochs[seal.epoch].exchange, bound, seal.epoch)
        return self.seal_keys[known]

    # -- pages

    def entries(self, page_id, problems, level=0):
        """Entries below a page, in order. What cannot be read is added to `problems`, and the rest still comes."""
        if page_id is None:
            return
        try:
            if level > LEVELS_MAX:
                raise Damage("the tree of pages is too deep")
            kind, body_id, children = decode_page(self.chunk(page_id))
            if kind == CONTENT:
                raise Damage("content where entries should be")
            if kind == ENTRIES:
                found = decode_entries(self.chunk(body_id), children)
        except (Damage, Refused) as error:
            problems.append(f"a page of entries: {error}")
            return
        if kind == ENTRIES:
            yield from found
        else:
            for child in children:
                yield from self.entries(child.id, problems, level + 1)

    def content(self, children, lost=None, level=0):
        """An entry's content: byte strings, and integers for holes.

        With a list `lost`, what cannot be read is added to it and takes the place of a hole.
        """
        if level > LEVELS_MAX:
            raise Damage("the tree of content is too deep")
        for child in children:
            if child.kind == HOLE:
                yield child.len
                continue
            try:
                below = self._piece(child)
            except (Damage, Refused) as error:
                if lost is None:
                    raise
                lost.append(f"{child.len} bytes are lost: {error}")
                below = child.len
            if isinstance(below, list):
                yield from self.content(below, lost, level + 1)
            else:
                yield below

    def _piece(self, child):
        """A chunk's bytes, or the children of a page of content."""
        data = self.chunk(child.id)
        if child.kind == CHUNK:
            if len(data) != child.len:
                raise Damage("a chunk is not as long as its page says")
            return data
        kind, _, below = decode_page(data)
        if kind != CONTENT:
            raise Damage("entries where content should be")
        return below


# ---- restoring


class Restore:
    """Writes entries below a target. Goes only through directories that it has made itself."""

    def __init__(self, repository, target):
        self.repository, self.target = repository, os.fsencode(target)
        self.directories, self.links, self.later, self.problems = {b""}, {}, [], []
        self.count = 0

    def run(self, component, prefix):
        for entry in self.repository.entries(component.root, self.problems):
            try:
                self._entry(entry, prefix)
                self.count += 1
            except (Damage, Refused, OSError) as error:
                self.problems.append(f"{show(entry.path)}: {error}")

    def finish(self):
        """Directories last: what is written into them would change their times, and they may be read-only."""
        for entry, path in reversed(self.later):
            try:
                self._metadata(entry, path)
            except OSError as error:
                self.problems.append(f"{show(entry.path)}: {error}")

    def _entry(self, entry, prefix):
        relative = prefix + entry.path
        parent = relative.rpartition(b"/")[0]
        self._make_parents(parent)
        path = os.path.join(self.target, relative)
        if entry.kind == DIR:
            os.mkdir(path, 0o700)
            self.directories.add(relative)
            self.later.append((entry, path))
            return
        if entry.kind == FILE:
            link = (prefix, entry.device, entry.inode)
            if entry.links > 1 and link in self.links:
                os.link(self.links[link], path, follow_symlinks=False)
                return
            written = self._file(entry, path)
            if entry.links > 1 and written == path:
                self.links[link] = path
            path = written
        elif entry.kind == SYMLINK:
            os.symlink(entry.detail, path)
        elif entry.kind == FIFO:
            os.mkfifo(path, 0o600)
        elif entry.kind in (CHAR, BLOCK):
            kind = stat.S_IFCHR if entry.kind == CHAR else stat.S_IFBLK
            os.mknod(path, 0o600 | kind, os.makedev(*entry.detail))
        else:
            raise Refused("a socket is not restored")
        self._metadata(entry, path)

    def _make_parents(self, parent):
        """A parent that no entry named (its page is lost, say) is made plain; anything else in its place is refused."""
        if parent in self.directories:
            return
        self._make_parents(parent.rpartition(b"/")[0])
        os.mkdir(os.path.join(self.target, parent), 0o700)
        self.directories.add(parent)

    def _file(self, entry, path):
        """Writes a file and says where: one with pieces missing gets another name."""
        lost, length = [], 0
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            for piece in self.repository.content(entry.children, lost):
                if isinstance(piece, int):
                    file.seek(piece, io.SEEK_CUR)
                    length += piece
                else:
                    file.write(piece)
                    length += len(piece)
            file.truncate(length)
        if length != entry.detail:
            lost.append(f"{length} bytes of content instead of {entry.detail}")
        if lost:
            self.problems += [f"{show(entry.path)}.damaged: {loss}" for loss in lost]
            os.rename(path, path + b".damaged")
            path += b".damaged"
        return path

    def _metadata(self, entry, path):
        if os.geteuid() == 0:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        for name, value in entry.xattrs if hasattr(os, "setxattr") else []:
            try:
                os.setxattr(path, name, value, follow_symlinks=False)
            except OSError as error:
                self.problems.append(f"{show(entry.path)}: attribute {show(name)}: {error}")
        if entry.kind != SYMLINK:
            os.chmod(path, entry.mode)
        seconds, nanos = entry.modified_at
        modified_at = seconds * 1_000_000_000 + nanos
        os.utime(path, ns=(modified_at, modified_at), follow_symlinks=False)


# ---- commands


def warn(message):
    print(f"warning: {message}", file=sys.stderr)


def show(path):
    """On one line, and without what would control the terminal."""
    return "".join(char if char.isprintable() else escaped(char) for char in os.fsdecode(path))


def escaped(char):
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


def find_snapshot(repository, wanted):
    found = repository.snapshots(with_forgotten=len(wanted) == 32)
    if wanted == "latest" and found:
        return found[-1]
    matching = [snapshot for snapshot in found if wanted and snapshot.id.startswith(wanted)]
    if len(matching) != 1:
        raise Refused(f"{len(matching)} snapshots begin with {wanted!r}")
    return matching[0]


def command_list(repository, args):
    for snapshot in repository.snapshots(args.all):
        at = datetime.datetime.fromtimestamp(snapshot.started_at // 10**9, datetime.timezone.utc)
        parts = ", ".join(f"{part.name} ({part.entry_count} entries, {part.content_len} bytes)" for part in snapshot.components)
        notes = [note for note in (snapshot.partial and "partial", snapshot.note) if note]
        extra = f"  [{'; '.join(notes)}]" if notes else ""
        about = f"{snapshot.host}  {snapshot.source}  {','.join(snapshot.tags)}"
        print(f"{snapshot.id}  {at:%Y-%m-%d %H:%M:%S}Z  {about}  {parts}{extra}")
    return []


def command_ls(repository, args):
    letters, problems = "-dlpscb", []
    snapshot = find_snapshot(repository, args.snapshot)
    for component in snapshot.components:
        prefix = f"{component.name}/" if len(snapshot.components) > 1 else ""
        for entry in repository.entries(component.root, problems):
            at = datetime.datetime.fromtimestamp(entry.modified_at[0], datetime.timezone.utc)
            size = entry.detail if entry.kind == FILE else 0
            to = f" -> {show(entry.detail)}" if entry.kind == SYMLINK else ""
            rights = f"{letters[entry.kind]}{entry.mode:04o} {entry.uid:>5} {entry.gid:>5}"
            print(f"{rights} {size:>12} {at:%Y-%m-%d %H:%M} {prefix}{show(entry.path)}{to}")
    return problems


def command_cat(repository, args):
    name, _, path = args.snapshot.partition(":")
    snapshot, problems, path = find_snapshot(repository, name), [], os.fsencode(path)
    for component in snapshot.components:
        prefix = os.fsencode(component.name) + b"/" if len(snapshot.components) > 1 else b""
        for entry in repository.entries(component.root, problems):
            if prefix + entry.path != path:
                continue
            if entry.kind != FILE:
                raise Refused(f"{show(path)} is not a file")
            for piece in repository.content(entry.children):
                for zeros in range(0, piece, 1 << 20) if isinstance(piece, int) else []:
                    sys.stdout.buffer.write(bytes(min(1 << 20, piece - zeros)))
                if isinstance(piece, bytes):
                    sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return []
    raise Refused(f"{show(path)} is not in snapshot {snapshot.id}" + (f" ({'; '.join(problems)})" if problems else ""))


def command_restore(repository, args):
    snapshot = find_snapshot(repository, args.snapshot)
    os.makedirs(args.target, exist_ok=True)
    if os.listdir(args.target):
        raise Refused(f"{args.target} is not empty")
    restore = Restore(repository, args.target)
    for component in snapshot.components:
        restore.run(component, os.fsencode(component.name.replace("/", "_")) + b"/" if len(snapshot.components) > 1 else b"")
    restore.finish()
    lost = sum(map(len, snapshot.problems))
    print(f"restored {restore.count} entries of {snapshot.id} to {args.target}", file=sys.stderr)
    if lost:
        warn(f"the snapshot itself is partial: {lost} problems when it was made")
    return restore.problems


def ask_password():
    if not sys.stdin.isatty():
        raise Refused("give the password with --password-file or in BACKSTAY_PASSWORD")
    return getpass.getpass()


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Read a backstay repository in a local directory, without backstay.")
    parser.add_argument("-r", "--repository", default=os.environ.get("BACKSTAY_REPOSITORY"), help="the directory")
    parser.add_argument("--password-file", help="its first line is the password (or set BACKSTAY_PASSWORD)")
    parser.add_argument("--key-file", help="open with a key file instead of a password")
    parser.add_argument("--no-index", action="store_true", help="read the packs' trailers instead of the index")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list snapshots").add_argument("--all", action="store_true", help="forgotten ones too")
    commands.add_parser("ls", help="list a snapshot's entries").add_argument("snapshot")
    commands.add_parser("cat", help="write a file to stdout").add_argument("snapshot", metavar="SNAPSHOT:PATH")
    restore = commands.add_parser("restore", help="restore everything into an empty directory")
    restore.add_argument("snapshot")
    restore.add_argument("target")
    args = parser.parse_args(arguments)
    try:
        if not args.repository:
            raise Refused("name the repository's directory with --repository")
        password, key_file = None, None
        if args.key_file:
            with open(args.key_file, "rb") as file:
                key_file = file.read()
        elif args.password_file:
            with open(args.password_file, "rb") as file:
                password = file.readline().rstrip(b"\r\n")
        else:
            password = os.fsencode(os.environ.get("BACKSTAY_PASSWORD") or ask_password())
        repository = Repository(args.repository, password, key_file, args.no_index)
        problems = globals()[f"command_{args.command}"](repository, args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except (Damage, Refused, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
