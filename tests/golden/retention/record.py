#!/usr/bin/env python3
"""Records which snapshots restic keeps of random timelines under random policies.

    record.py [--restic PROGRAM] [--seed N] [--timelines N] [--policies N] [--zone ZONE]... > kept.txt

A repository is made with restic, and a snapshot object is written into it for each moment of each timeline, every timeline
under a host of its own: `restic backup` would take half a second for each. Only the object is needed, since
`restic forget --dry-run` reads no more. One call of it then decides all timelines of a zone under one policy.

The lines of the output:

    zone ZONE                     in whose days and hours what follows is decided
    timeline NEWEST GAP... [TAGS] seconds since 1970, then seconds back to the next older one, and so on; TAGS is
                                  PLACE:TAG[,TAG] with places counted from the newest, which is 0
    policy RULE...                CLASS=COUNT, within[-CLASS]=SPAN, tag=TAG[,TAG]
    kept MASK...                  what is kept of each timeline of the zone: in hexadecimal, the newest is bit 0
"""
import argparse
import base64
import datetime
import hashlib
import json
import os
import pathlib
import random
import subprocess
import tempfile
import zoneinfo

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

CLASSES = ["last", "hourly", "daily", "weekly", "monthly", "yearly"]
HOUR, DAY = 3600, 86400
# A moment that is past on every machine, and one that is not.
NEWEST, FUTURE = 1_764_547_200, 3_800_000_000


class Repository:
    """A restic repository that snapshots are written into by hand."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        (folder / "password").write_text("retention\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD_FILE": str(folder / "password"),
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }
        self.restic("UTC", "init")
        self.key = json.loads(self.restic("UTC", "cat", "masterkey"))

    def restic(self, zone, *arguments):
        environment = {**self.environment, "TZ": zone}
        ran = subprocess.run([self.program, *arguments], env=environment, capture_output=True)
        if ran.returncode != 0:
            raise SystemExit(f"restic {arguments}: {ran.stderr.decode()}")
        return ran.stdout

    def write(self, host, moment, tags):
        """Encrypted and named as restic's design document says: IV, AES-256-CTR, Poly1305-AES; SHA-256 of it all."""
        record = {"time": moment.isoformat(), "tree": "0" * 64, "paths": ["/"], "hostname": host, "tags": tags}
        secret, mac = base64.b64decode(self.key["encrypt"]), self.key["mac"]
        nonce = random.randbytes(16)
        sealer = Cipher(algorithms.AES(secret), modes.CTR(nonce)).encryptor()
        sealed = sealer.update(json.dumps(record).encode()) + sealer.finalize()
        block = Cipher(algorithms.AES(base64.b64decode(mac["k"])), modes.ECB()).encryptor()
        once = base64.b64decode(mac["r"]) + block.update(nonce)
        content = nonce + sealed + Poly1305.generate_tag(once, sealed)
        (self.folder / "repository/snapshots" / hashlib.sha256(content).hexdigest()).write_bytes(content)

    def kept(self, zone, policy):
        """The moments that are kept, by host."""
        flags = [word for rule in policy for word in flag(rule)]
        decided = json.loads(self.restic(zone, "forget", "--dry-run", "--json", "--group-by", "host", *flags))
        parsed = lambda snapshot: int(datetime.datetime.fromisoformat(snapshot["time"].replace("Z", "+00:00")).timestamp())
        return {group["host"]: {parsed(snapshot) for snapshot in group["keep"] or []} for group in decided}


def flag(rule):
    """A rule as restic takes it."""
    name, value = rule.split("=", 1)
    if name.startswith("within"):
        value = value.replace("mo", "m")
    return [f"--keep-{name}", "unlimited" if value == "all" else value]


def moments(dice):
    """A timeline, newest first: of some regularity, often at the edges of days, months and years."""
    count = dice.randint(1, 32)
    newest = NEWEST - dice.randrange(0, 5 * 365 * DAY)
    if dice.random() < 0.4:
        # The last second of a month, or the first of the next one.
        edge = datetime.datetime.fromtimestamp(newest, datetime.timezone.utc).replace(day=1, hour=0, minute=0, second=0)
        newest = int(edge.timestamp()) - dice.choice([0, 1, HOUR, DAY, 2 * DAY])
    step = dice.choice([600, HOUR, 6 * HOUR, DAY, DAY, 7 * DAY, 30 * DAY, 31 * DAY, 90 * DAY])
    kind = dice.choice(["regular", "shaken", "random", "bursts"])
    found = [newest]
    while len(found) < count:
        gap = {
            "regular": lambda: step,
            "shaken": lambda: step + dice.randint(-step // 3, step // 3),
            "random": lambda: 1 + int(dice.expovariate(1 / step)),
            "bursts": lambda: dice.choice([1, 60, 1800, step, 3 * step]),
        }[kind]()
        found.append(found[-1] - max(gap, 1))
    if dice.random() < 0.05:
        found.insert(0, FUTURE)
    return [moment for moment in found if moment > 0]


def span(dice):
    """A span of years, months, days and hours."""
    units = dice.choice([["h"], ["d"], ["mo"], ["y"], ["d", "h"], ["mo", "d"], ["y", "mo", "d", "h"]])
    return "".join(f"{dice.randint(1, {'h': 72, 'd': 40, 'mo': 14, 'y': 3}[unit])}{unit}" for unit in units)


def policy(dice):
    """Some rules."""
    rules = [f"{name}={dice.choice([1, 2, 3, 5, 7, 12, 24, 'all'])}" for name in CLASSES if dice.random() < 0.3]
    rules += ["within" + ("" if name == "last" else f"-{name}") + f"={span(dice)}" for name in CLASSES if dice.random() < 0.12]
    if not rules:
        # Tags alone may keep nothing of a timeline, which restic refuses to do.
        return policy(dice)
    return rules + [f"tag={tags}" for tags in ["a", "b", "a,b"] if dice.random() < 0.05]


def record(repository, zone, dice, arguments):
    """Prints the timelines and decisions of one zone."""
    print(f"zone {zone}")
    timelines = []
    for number in range(arguments.timelines):
        timeline = moments(dice)
        tags = {at: dice.choice([["a"], ["b"], ["a", "b"]]) for at in range(len(timeline)) if dice.random() < 0.1}
        timelines.append(timeline)
        for at, moment in enumerate(timeline):
            local = datetime.datetime.fromtimestamp(moment, zoneinfo.ZoneInfo(zone))
            repository.write(f"{zone} {number}", local, tags.get(at))
        gaps = [str(newer - older) for newer, older in zip(timeline, timeline[1:])]
        words = [f"{at}:{','.join(tags)}" for at, tags in tags.items()]
        print(" ".join(["timeline", str(timeline[0]), *gaps, *words]))
    for _ in range(arguments.policies):
        rules = policy(dice)
        kept = repository.kept(zone, rules)
        masks = []
        for number, timeline in enumerate(timelines):
            keeps = kept[f"{zone} {number}"]
            masks.append(f"{sum(1 << at for at, moment in enumerate(timeline) if moment in keeps):x}")
        print(" ".join(["policy", *rules]))
        print(" ".join(["kept", *masks]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restic", default="restic")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timelines", type=int, default=60)
    parser.add_argument("--policies", type=int, default=40)
    parser.add_argument("--zone", action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for zone in arguments.zone or ["UTC", "Europe/Berlin", "America/St_Johns"]:
            at = pathlib.Path(folder) / zone.replace("/", "-")
            at.mkdir()
            record(Repository(arguments.restic, at), zone, random.Random(f"{arguments.seed} {zone}"), arguments)


if __name__ == "__main__":
    main()
