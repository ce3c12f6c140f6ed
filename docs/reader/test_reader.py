"""Holds the reader to the golden repository: python3 -m unittest discover -s docs/reader

What is expected is made again here, from the same rules as in crates/pack/examples/golden_repository.rs.
"""

import contextlib
import io
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

import blake3

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import backstay_reader as reader  # noqa: E402

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "v1-preview"
PASSWORD = "correct horse battery staple"
FIRST, SECOND, FORGOTTEN, DEAD = (f"{number:02x}" * 16 for number in (1, 2, 3, 9))
MODIFIED_AT = 1_700_000_000_123_456_789


def noise(name, length):
    return blake3.blake3(name.encode()).digest(length)


def expected(motd):
    """Path to content of every file."""
    sparse = noise("sparse", 2500)
    files = {
        b"db/dump.sql": noise("dump", 7777),
        b"files/etc/linked": b"unchanged\n",
        b"files/etc/motd": motd,
        b"files/etc/\xff odd": b"unchanged\n",
        b"files/usr/big": noise("big", 123_456),
        b"files/usr/empty": b"",
        b"files/usr/repeated": b"all work and no play " * 500,
        b"files/usr/second-link": b"unchanged\n",
        b"files/usr/sparse": sparse[:100] + bytes(1_000_000) + sparse[100:],
    }
    files.update({f"files/etc/conf.d/{at:03}".encode(): f"etc/conf.d/{at:03}".encode() for at in range(700)})
    return files


def found(root):
    """Path to content of every regular file below `root`."""
    root, files = os.fsencode(root), {}
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    files[os.path.relpath(path, root)] = file.read()
    return files


class GoldenRepository(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.repository = self.folder / "repository"
        shutil.copytree(GOLDEN / "repository", self.repository)
        self.password = self.folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self.targets = 0

    def run_reader(self, *arguments, credential=None):
        """Exit code, stdout as bytes, stderr."""
        credential = credential or ["--password-file", str(self.password)]
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = reader.main(["-r", str(self.repository), *credential, *arguments])
        out.flush()
        return code, out.buffer.getvalue(), err.getvalue()

    def restore(self, *arguments, snapshot="latest"):
        self.targets += 1
        target = self.folder / f"target{self.targets}"
        code, _, err = self.run_reader(*arguments, "restore", snapshot, str(target))
        return code, target, err

    def objects(self, prefix):
        return sorted(path for path in (self.repository / prefix).rglob("*") if path.is_file())

    def test_list_shows_what_was_committed_and_not_forgotten(self):
        code, out, err = self.run_reader("list")
        self.assertEqual((code, err), (0, ""))
        lines = out.decode().splitlines()
        self.assertEqual([line[:32] for line in lines], [FIRST, SECOND])
        self.assertIn("2026-11-19 11:06:40Z  golden  everything  daily,größer  files (713 entries", lines[0])
        self.assertTrue(lines[1].endswith("[partial]"))
        _, out, _ = self.run_reader("list", "--all")
        self.assertEqual([line[:32] for line in out.decode().splitlines()], [FIRST, SECOND, FORGOTTEN])

    def test_ls_shows_every_entry_in_order(self):
        code, out, err = self.run_reader("ls", FIRST)
        self.assertEqual((code, err), (0, ""))
        lines = out.decode().splitlines()
        self.assertEqual(len(lines), 714)
        self.assertTrue(lines[0].startswith("d0750") and lines[0].endswith(" files/etc"))
        self.assertTrue(any(line.endswith("files/etc/hostname -> ../usr/empty") for line in lines))
        self.assertTrue(lines[-1].endswith("db/dump.sql"))

    def test_cat_writes_one_file(self):
        for snapshot, motd in ((FIRST, b"a small file\n"), ("0202", b"a small file, changed\n"), (FORGOTTEN, b"forgotten\n")):
            self.assertEqual(self.run_reader("cat", f"{snapshot}:files/etc/motd"), (0, motd, ""))
        self.assertEqual(self.run_reader("cat", "latest:files/usr/sparse")[1], expected(b"")[b"files/usr/sparse"])
        code, out, err = self.run_reader("cat", "latest:files/etc/missing")
        self.assertEqual((code, out), (2, b""))
        self.assertIn("files/etc/missing is not in snapshot", err)

    def test_restore_gives_back_every_byte_and_its_metadata(self):
        code, target, err = self.restore()
        self.assertEqual(code, 0, err)
        self.assertIn("restored 714 entries", err)
        self.assertIn("partial: 1 problems", err)
        self.assertEqual(found(target), expected(b"a small file, changed\n"))
        etc, usr = target / "files" / "etc", target / "files" / "usr"
        self.assertEqual((etc / "motd").stat().st_mtime_ns, MODIFIED_AT)
        self.assertEqual((etc / "motd").stat().st_mode & 0o7777, 0o640)
        self.assertEqual((etc.stat().st_mode & 0o7777, etc.stat().st_mtime_ns), (0o750, MODIFIED_AT))
        self.assertEqual(os.readlink(etc / "hostname"), "../usr/empty")
        self.assertTrue((etc / "fifo").is_fifo())
        self.assertEqual((etc / "linked").stat().st_ino, (usr / "second-link").stat().st_ino)
        self.assertLess((usr / "sparse").stat().st_blocks * 512, 500_000)

    def test_a_key_file_opens_its_slot_in_both_epochs(self):
        credential = ["--key-file", str(GOLDEN / "key-file")]
        for snapshot in (FIRST, SECOND):
            code, out, _ = self.run_reader("cat", f"{snapshot}:db/dump.sql", credential=credential)
            self.assertEqual((code, out), (0, noise("dump", 7777)))

    def test_a_wrong_password_opens_nothing(self):
        self.password.write_text("wrong")
        code, out, err = self.run_reader("list")
        self.assertEqual((code, out), (2, b""))
        self.assertIn("no key slot opens with this password", err)

    def test_the_index_is_not_needed(self):
        code, target, err = self.restore("--no-index")
        self.assertEqual(code, 0, err)
        self.assertEqual(found(target), expected(b"a small file, changed\n"))
        shutil.rmtree(self.repository / "index")
        code, target, err = self.restore(snapshot=FIRST)
        self.assertEqual(code, 0, err)
        self.assertEqual(found(target), expected(b"a small file\n"))

    def test_the_second_copy_of_the_configuration_is_enough(self):
        (self.repository / "config").write_bytes(b"BKST")
        self.assertEqual(self.run_reader("cat", "latest:db/dump.sql")[:2], (0, noise("dump", 7777)))
        (self.repository / "config-copy").unlink()
        self.assertEqual(self.run_reader("list")[0], 2)

    def test_a_lost_pack_loses_only_what_it_held(self):
        whole = expected(b"a small file, changed\n")
        for pack in self.objects("packs"):
            data = pack.read_bytes()
            pack.unlink()
            code, target, err = self.restore()
            self.check_no_wrong_byte(target, whole)
            self.assertEqual(code, 0 if found(target) == whole else 1, err)
            pack.write_bytes(data)

    def test_damage_anywhere_is_named_and_restores_no_wrong_byte(self):
        whole = expected(b"a small file, changed\n")
        paths = [path for prefix in ("packs", "index", "snapshots", "keys", "epochs", "forgotten") for path in self.objects(prefix)]
        for path in paths + [self.repository / "config"]:
            data = path.read_bytes()
            for change in (lambda at: data[:at], lambda at: data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]):
                for at in (len(data) // 7, len(data) // 2, len(data) - 3):
                    path.write_bytes(change(at))
                    code, target, err = self.restore(snapshot=SECOND)
                    self.check_no_wrong_byte(target, whole)
                    self.assertIn(code, (0, 1, 2))
                    if path.parent.name not in ("index", "forgotten", "snapshots") and "packs" not in str(path):
                        self.assertIn(path.name, err, "damage is named")
                    if code == 0:
                        self.assertEqual(found(target), whole)
            path.write_bytes(data)

    def check_no_wrong_byte(self, target, whole):
        for name, content in (found(target) if target.exists() else {}).items():
            if not name.endswith(b".damaged"):
                self.assertEqual(content, whole.get(name), name)

    def test_an_object_under_the_name_of_another_is_not_believed(self):
        snapshots, forgotten = self.repository / "snapshots", self.repository / "forgotten"
        shutil.copy(snapshots / FIRST, snapshots / ("0a" * 16))
        shutil.copy(forgotten / FORGOTTEN, forgotten / FIRST)
        code, out, err = self.run_reader("list")
        self.assertEqual([line[:32] for line in out.decode().splitlines()], [FIRST, SECOND])
        self.assertIn("a snapshot under the name of another", err)
        self.assertIn("does not belong to this snapshot", err)
        self.assertEqual(code, 0)

    def test_holds_are_nothing_to_a_reader(self):
        before = self.run_reader("list", "--all")
        hold = self.repository / "holds" / FIRST / ("0b" * 16)
        hold.parent.mkdir(parents=True)
        hold.write_bytes(b"whatever holds a snapshot")
        self.assertEqual(self.run_reader("list", "--all"), before)

    def test_a_restore_goes_into_an_empty_directory_only(self):
        target = self.folder / "full"
        target.mkdir()
        (target / "file").write_text("precious")
        code, _, err = self.run_reader("restore", "latest", str(target))
        self.assertEqual(code, 2)
        self.assertIn("is not empty", err)
        self.assertEqual((target / "file").read_text(), "precious")


if __name__ == "__main__":
    unittest.main()
