#!/usr/bin/env python3
"""What databases.sh needs beside programs: data for Redis and etcd, and a proxy that counts.

    databases.py redis PORT SHARE       prints commands for redis-cli --pipe
    databases.py etcd PORT SHARE        puts keys by the JSON gateway, and compacts
    databases.py proxy PORT TO FILE     passes connections on; adds to FILE what the server has sent when one ends

SHARE is the share of all keys that are written, at random: 1 for all. A million keys of Redis (JSON, hashes, lists; 180 bytes in
the mean), 100,000 of etcd (1.2 kB). The same call writes the same bytes.
"""
import asyncio
import base64
import json
import random
import sys
import urllib.request

REDIS_KEYS, ETCD_KEYS, ETCD_TXN_LEN = 1_000_000, 100_000, 100
WORDS = "order shipped customer payment pending retry gateway timeout ok failed refund queue worker node disk quota".split()


def some(count, share, dice):
    return range(count) if share == 1 else sorted(dice.sample(range(count), int(count * share)))


def redis(_port, share):
    dice = random.Random(share)
    write = sys.stdout.buffer.write

    def command(*words):
        parts = [str(word).encode() for word in words]
        write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    for n in some(REDIS_KEYS, share, dice):
        if n % 10 < 7:
            value = {"id": n, "token": f"{dice.getrandbits(128):032x}", "user": f"user-{n % 50000}",
                     "note": " ".join(dice.choices(WORDS, k=8)), "score": dice.random()}
            command("SET", f"session:{n}", json.dumps(value))
        elif n % 10 < 9:
            command("HSET", f"user:{n}", "name", f"user-{n}", "mail", f"u{n}@example.org", "hash", f"{dice.getrandbits(160):040x}")
        else:
            command("DEL", f"queue:{n}")
            command("RPUSH", f"queue:{n}", *[f"{dice.getrandbits(64):016x}" for _ in range(6)])


def etcd(port, share):
    dice = random.Random(share)

    def post(path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=30))

    def put(n):
        value = {"kind": ["Pod", "Secret", "ConfigMap", "Lease"][n % 4], "metadata": {
            "name": f"app-{n}", "namespace": f"ns-{n % 300}", "uid": f"{dice.getrandbits(128):032x}",
            "labels": {"app": f"app-{n % 700}"}, "annotations": {"note": " ".join(dice.choices(WORDS, k=30))}},
            "spec": {"image": f"registry/app:{n % 90}", "data": f"{dice.getrandbits(1024):0256x}",
                     "env": [{"name": f"K{j}", "value": WORDS[(n + j) % 16]} for j in range(8)]}}
        text = lambda text: base64.b64encode(text.encode()).decode()
        return {"requestPut": {"key": text(f"/registry/{n % 300}/app-{n}"), "value": text(json.dumps(value))}}

    numbers, revision = list(some(ETCD_KEYS, share, dice)), 0
    for start in range(0, len(numbers), ETCD_TXN_LEN):
        done = post("/v3/kv/txn", {"success": [put(n) for n in numbers[start:start + ETCD_TXN_LEN]]})
        revision = done["header"]["revision"]
    if share < 1:
        post("/v3/kv/compaction", {"revision": str(revision), "physical": True})


async def proxy(port, to, path):
    async def pass_on(reader, writer, is_counted):
        count = 0
        while data := await reader.read(1 << 18):
            count += len(data)
            writer.write(data)
            await writer.drain()
        if is_counted:
            with open(path, "a") as file:
                file.write(f"{count}\n")
        writer.close()

    async def serve(reader, writer):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", int(to))
        await asyncio.gather(pass_on(reader, server_writer, False), pass_on(server_reader, writer, True), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", int(port)) as server:
        await server.serve_forever()


match sys.argv[1:]:
    case ["redis", port, share]:
        redis(port, float(share))
    case ["etcd", port, share]:
        etcd(port, float(share))
    case ["proxy", port, to, path]:
        asyncio.run(proxy(port, to, path))
    case _:
        sys.exit(__doc__)
