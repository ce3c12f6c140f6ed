//! A repository served over WebDAV: curl and rclone read in it exactly what was backed up, and can change nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use harness::binary::{Host, Run as _, need_root, noise, shell};
use harness::dav::{Answer, DavServer, asked, encoded};
use rustix::process::Signal;

use crate::fidelity::host_with_everything;
use crate::mount_trouble::{KNOWN, LOST, host_with_a_folder_partly_lost, large_packs};

/// The most memory that the server may take, in bytes: 300 MB.
const MEMORY_LEN_MAX: u64 = 300_000_000;
/// Bytes of a file that is longer than a pack.
const LONG_LEN: usize = 40 << 20;

/// What is in a tree for whoever knows only files and folders, by path: links to files are files, others are not there.
fn files_of(tree: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    fn add(root: &Path, folder: &Path, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let own = path.symlink_metadata().expect("its metadata").file_type();
            if own.is_dir() {
                add(root, &path, found);
            } else if path.metadata().is_ok_and(|metadata| metadata.is_file()) {
                let name = path.strip_prefix(root).expect("it is below").as_os_str().as_bytes().to_vec();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    let mut found = BTreeMap::new();
    add(tree, tree, &mut found);
    found
}

/// rclone with the server as its remote `:webdav:`.
fn rclone(host: &Host, served: &DavServer, words: &[&str]) -> Command {
    let mut command = Command::new("rclone");
    command.args(words).args(["--config", "", "--webdav-url", served.url(), "--retries", "1"]);
    command.args(["--low-level-retries", "1"]).env("HOME", host.path("home")).env("NO_PROXY", "*");
    command
}

/// Where rclone finds a path of the host in the newest snapshot.
fn remote(path: &Path) -> String {
    format!(":webdav:latest/files{}", path.display())
}

fn propfind(served: &DavServer, depth: &str, path: &str) -> Answer {
    served.ask(&["-X", "PROPFIND", "-H", &format!("Depth: {depth}")], path)
}

#[test]
fn rclone_copies_from_a_snapshot_every_file_that_was_backed_up() {
    let (host, tree) = host_with_everything();
    host.back_up(&[&tree]);
    let served = DavServer::of(&host, &[]);
    let target = host.path("target");
    rclone(&host, &served, &["copy", &remote(&tree)]).arg(&target).run().expect_code(0);
    let (found, expected) = (files_of(&target), files_of(&tree));
    let names = |files: &BTreeMap<Vec<u8>, Vec<u8>>| {
        files.keys().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&found), names(&expected));
    assert!(found == expected, "a file differs");
    // A link is copied as what it leads to, with that one's time.
    let times =
        "find plain text noise sparse -xtype f -newermt 1970-01-02 -exec stat -L -c '%n %Y' {} + | LC_ALL=C sort";
    assert_eq!(shell(&target, times), shell(&tree, times));
    // Of a name with a newline rclone thinks otherwise when it reads it back from a disk.
    let check = ["check", "--download", "--exclude", "new*line", &remote(&tree)];
    rclone(&host, &served, &check).arg(&target).run().expect_code(0);
    assert!(!served.said().contains("problem"), "{}", served.said());
}

#[test]
fn file_is_read_whole_and_in_ranges_with_what_tells_it_from_others() {
    let host = Host::with_repository();
    let content = noise("content", 3 << 20);
    let (file, other) = (host.write("tree/a file.bin", &content), host.write("tree/copy", &content));
    let empty = host.write("tree/empty.txt", "");
    shell(&host.path("tree"), "touch -d '2001-02-03 04:05:06.7Z' 'a file.bin'");
    host.back_up(&[&host.path("tree")]);
    let served = DavServer::of(&host, &[]);
    let url = served.latest(&file);
    let whole = served.ask(&[], &url);
    assert_eq!((whole.status, whole.curl_code), (200, 0));
    assert!(whole.body == content);
    let head = served.ask(&["-I"], &url);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for answer in [&whole, &head] {
        assert_eq!(answer.header("content-length"), Some("3145728"));
        assert_eq!(answer.header("last-modified"), Some("Sat, 03 Feb 2001 04:05:06 GMT"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let tag = whole.header("etag").expect("a tag").to_owned();
    assert_eq!(served.ask(&["-I"], &served.latest(&other)).header("etag"), Some(tag.as_str()), "it is of the content");
    let len = content.len();
    for (range, start, end) in
        [("0-9", 0, 10), ("1048570-2097161", 1_048_570, 2_097_162), ("3145727-", len - 1, len), ("-5", len - 5, len)]
    {
        let part = served.ask(&["-r", range], &url);
        assert_eq!((part.status, part.curl_code), (206, 0), "{range}");
        assert!(part.body == content[start..end], "{range}: {} bytes", part.body.len());
        assert_eq!(part.header("content-range"), Some(format!("bytes {start}-{}/{len}", end - 1).as_str()));
    }
    assert_eq!(served.ask(&["-r", "3145728-"], &url).status, 416);
    let several = served.ask(&["-r", "0-1,5-6"], &url);
    assert!(several.status == 200 && several.body == content, "several ranges are answered with the whole");
    let listed = propfind(&served, "0", &url).text();
    assert!(listed.contains(&format!("<D:getetag>{tag}</D:getetag>")), "{tag}: {listed}");
    let unchanged = served.ask(&["-H", &format!("If-None-Match: {tag}")], &url);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    assert_eq!(served.ask(&["-z", "Sun, 04 Feb 2001 00:00:00 GMT"], &url).status, 304);
    assert_eq!(served.ask(&["-r", "0-9", "-H", "If-Range: \"other\""], &url).body.len(), len);
    let nothing = served.ask(&[], &served.latest(&empty));
    assert_eq!((nothing.status, nothing.header("content-length"), nothing.body.len()), (200, Some("0"), 0));
    assert_eq!(served.ask(&[], &format!("{url}x")).status, 404);
    assert_eq!(served.ask(&[], "/latest/files/../../../etc/passwd").status, 403);
}

#[test]
fn folder_is_listed_one_level_at_a_time_with_names_of_any_bytes() {
    let (host, tree) = host_with_everything();
    host.back_up(&[&tree]);
    let served = DavServer::of(&host, &[]);
    let itself = propfind(&served, "0", &served.latest(&tree));
    assert_eq!(itself.status, 207);
    assert!(itself.text().contains("<D:collection") && itself.hrefs().is_empty(), "{}", itself.text());
    let listed = propfind(&served, "1", &format!("{}/", served.latest(&tree)));
    assert_eq!((listed.status, listed.curl_code), (207, 0));
    let hrefs = listed.hrefs();
    for name in [b"new\nline".as_slice(), b"not-utf8-\xff\xfe", b"-leading dash", b"* ? [a]", &[b'n'; 255]] {
        let url = format!("{}/{}", served.latest(&tree), encoded(name));
        assert!(hrefs.iter().any(|href| url.ends_with(href)), "{}: {hrefs:?}", name.escape_ascii());
        let expected = fs::read(tree.join(std::ffi::OsStr::from_bytes(name))).expect("the file");
        assert_eq!(served.ask(&[], &url).body, expected, "{}", name.escape_ascii());
    }
    let has = |name: &str| hrefs.iter().any(|href| href.ends_with(&format!("/{name}")));
    assert!(has("plain/") && has("with%20space/") && has("%C3%28/"), "folders end in a slash: {hrefs:?}");
    assert!(!["pipe", "socket", "char", "block", "high"].into_iter().any(has), "{hrefs:?}");
    for depth in [&["-H", "Depth: infinity"][..], &[]] {
        let refused = served.ask(&[&["-X", "PROPFIND"], depth].concat(), "/");
        assert_eq!(refused.status, 403);
        assert!(refused.text().contains("propfind-finite-depth"), "{}", refused.text());
    }
    assert_eq!(propfind(&served, "1", &served.latest(&tree.join("pipe"))).status, 404);
    assert_eq!(propfind(&served, "1", "/by-id/ffffffffffff").status, 404);
}

#[test]
fn link_is_the_file_that_it_leads_to_and_one_to_a_folder_is_walked_through_but_not_listed() {
    let host = Host::with_repository();
    let tree = host.path("tree");
    fs::create_dir(&tree).expect("a folder");
    host.write("outside", "outside");
    let script = r#"
        mkdir -p real/deep; echo one >real/one; ln -s ../one real/deep/up; ln -s real folder; ln -s folder/deep/up through
        ln -s "$PWD/real/one" absolute; ln -s . self; ln -s b a; ln -s a b; ln -s nowhere dangling; ln -s ../outside out
        ln -s self/self/self/real/one around; ln -s ../../../../../../../../.. above; mkfifo pipe; ln -s pipe to-pipe
    "#;
    shell(&tree, script);
    host.back_up(&[&tree]);
    let served = DavServer::of(&host, &[]);
    let base = served.latest(&tree);
    for name in [
        "real/one",
        "real/deep/up",
        "through",
        "absolute",
        "folder/one",
        "folder/deep/up",
        "self/self/real/one",
        "around",
    ] {
        let answer = served.ask(&[], &format!("{base}/{name}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "one\n"), "{name}");
    }
    for name in ["a", "b", "dangling", "out", "pipe", "to-pipe", "real/one/more", "a/more", "above/etc"] {
        assert_eq!(served.ask(&[], &format!("{base}/{name}")).status, 404, "{name}");
    }
    let listed = propfind(&served, "1", &base).hrefs();
    let names: Vec<&str> = listed.iter().filter_map(|href| href.split("/tree/").nth(1)).collect();
    assert_eq!(names, ["absolute", "around", "real/", "through"]);
    let walked = rclone(&host, &served, &["lsf", "-R", "--files-only", &remote(&tree)]).run().expect_code(0);
    assert_eq!(walked.text().lines().count(), 5, "{walked}");
}

#[test]
fn snapshots_are_folders_by_id_date_host_source_and_tag_and_new_ones_appear() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "first");
    let back_up = |tag: &str| {
        let mut command = host.backstay(["--json", "backup", "--host", "web/1", "--tag", tag, "--source", "www"]);
        command.arg(host.path("tree")).run().expect_code(0).json()["snapshot_id"].as_str().expect("an id").to_owned()
    };
    let first = back_up("old");
    let served = DavServer::of(&host, &[]);
    assert_eq!(served.ask(&[], &served.latest(&file)).text(), "first");
    fs::write(&file, "second").expect("a file");
    let second = back_up("new");
    while served.ask(&[], &served.latest(&file)).text() != "second" {
        thread::sleep(Duration::from_millis(50));
    }
    let read = |place: &str| served.ask(&[], &format!("/{place}/files{}", file.display())).text();
    assert_eq!((read(&format!("by-id/{first}")), read(&format!("by-id/{second}"))), ("first".into(), "second".into()));
    assert_eq!(read(&format!("by-id/{}", &first[..8])), "first", "the start of an id finds it");
    for shelf in ["by-date", "by-host/web%252F1", "by-source/www"] {
        let listed = propfind(&served, "1", &format!("/{shelf}/")).hrefs();
        let dated: Vec<&String> = listed.iter().filter(|href| !href.ends_with("/latest/")).collect();
        assert_eq!(dated.len(), 2, "{shelf}: {listed:?}");
        let of_first = dated.iter().find(|href| href.trim_end_matches('/').ends_with(&first[..8]));
        let of_first = of_first.unwrap_or_else(|| panic!("{shelf}: {listed:?}"));
        assert_eq!(read(of_first.trim_matches('/')), "first");
        assert_eq!(listed.len() == 3, shelf != "by-date", "{listed:?}");
    }
    assert_eq!((read("by-tag/old/latest"), read("by-tag/new/latest")), ("first".into(), "second".into()));
    let filtered = DavServer::of(&host, &["--tag", "old"]);
    assert_eq!(propfind(&filtered, "1", "/by-id/").hrefs(), [format!("/by-id/{first}/")]);
}

#[test]
fn methods_that_would_change_something_are_refused_and_nothing_is_changed() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "content");
    host.back_up(&[&host.path("tree")]);
    let before = shell(&host.repository(), "find . -type f -printf '%p %s %T@\\n' | LC_ALL=C sort");
    let served = DavServer::of(&host, &[]);
    let url = served.latest(&file);
    let destination = format!("Destination: {url}2");
    for method in ["DELETE", "MKCOL", "MOVE", "COPY", "LOCK", "UNLOCK", "PROPPATCH", "PATCH", "POST"] {
        let refused = served.ask(&["-X", method, "-H", &destination, "-d", "<x/>"], &url);
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS, PROPFIND")), "{method}");
    }
    let upload = host.write("upload", "new");
    assert_eq!(served.ask(&["-T", &upload.display().to_string()], &format!("{url}-new")).status, 405);
    let options = served.ask(&["-X", "OPTIONS"], "/");
    assert_eq!((options.status, options.header("dav"), options.header("ms-author-via")), (200, Some("1"), Some("DAV")));
    rclone(&host, &served, &["copy", &upload.display().to_string(), &remote(&host.path("tree"))]).run().expect_code(1);
    assert_eq!(served.ask(&[], &url).text(), "content");
    let (ran, _) = served.end(Signal::INT);
    ran.expect_code(0);
    let after = shell(&host.repository(), "find . -type f -printf '%p %s %T@\\n' | LC_ALL=C sort");
    assert_eq!(after, before);
}

#[test]
fn browser_gets_a_page_for_a_folder_on_which_names_are_only_text() {
    let host = Host::with_repository();
    let file = host.write("tree/<b>&.txt", "content");
    host.write("tree/.hidden", "x");
    host.back_up(&[&host.path("tree")]);
    let served = DavServer::of(&host, &[]);
    let page = served.ask(&[], &format!("{}/", served.latest(&host.path("tree"))));
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    assert!(
        text.contains("./%3Cb%3E%26.txt") && text.contains("&lt;b&gt;&amp;.txt") && !text.contains("<b>"),
        "{text}"
    );
    assert!(text.contains(".hidden"), "{text}");
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    let sent_on = served.ask(&[], &served.latest(&host.path("tree")));
    assert_eq!((sent_on.status, sent_on.header("location").is_some_and(|to| to.ends_with("/tree/"))), (302, true));
    let top = served.ask(&[], "/").text();
    for name in ["by-date/", "by-host/", "by-id/", "by-source/", "by-tag/", "latest/"] {
        assert!(top.contains(&format!("href=\"./{name}\"")), "{name}: {top}");
    }
    assert_eq!(served.ask(&["-I"], "/").status, 200);
    assert_eq!(served.ask(&[], &served.latest(&file)).text(), "content");
}

#[test]
fn folder_of_many_entries_is_listed_whole() {
    const COUNT: usize = 20_000;
    let host = Host::with_repository();
    let folder = host.path("tree/many");
    fs::create_dir_all(&folder).expect("a folder");
    for at in 0..COUNT {
        fs::write(folder.join(format!("file {at}")), at.to_string()).expect("a file");
    }
    host.back_up(&[&host.path("tree")]);
    let served = DavServer::of(&host, &[]);
    let listed = propfind(&served, "1", &served.latest(&folder));
    assert_eq!((listed.curl_code, listed.hrefs().len()), (0, COUNT));
    let page = served.ask(&[], &format!("{}/", served.latest(&folder))).text();
    assert_eq!(page.matches("<tr>").count(), COUNT + 1);
    for at in [0, 1, 777, COUNT - 1] {
        assert_eq!(served.ask(&[], &served.latest(&folder.join(format!("file {at}")))).text(), at.to_string());
    }
    let (ran, peak_len) = served.end(Signal::INT);
    assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
}

#[test]
fn fifty_readers_at_once_get_what_is_right_in_bounded_memory() {
    const LEN: usize = 12 << 20;
    const READERS: usize = 50;
    let host = Host::with_repository();
    let contents: Vec<_> = (0..6).map(|at| noise(&format!("content {at}"), LEN)).collect();
    for (at, content) in contents.iter().enumerate() {
        host.write(&format!("tree/{at}"), content);
    }
    host.back_up(&[&host.path("tree")]);
    let served = DavServer::of(&host, &[]);
    let read = |reader: usize| {
        let (at, expected) = (reader % contents.len(), &contents[reader % contents.len()]);
        let url = served.latest(&host.path("tree").join(at.to_string()));
        if reader.is_multiple_of(2) {
            let answer = served.ask(&[], &url);
            assert!(answer.curl_code == 0 && answer.body == *expected, "reader {reader} got something else");
            return;
        }
        for step in 0..8 {
            let offset = (reader * 7_654_321 + step * 1_234_567) % (LEN - 4096);
            let answer = served.ask(&["-r", &format!("{offset}-{}", offset + 4095)], &url);
            let expected = &expected[offset..offset + 4096];
            assert!(answer.status == 206 && answer.body == expected, "reader {reader} got something else at {offset}");
        }
    };
    thread::scope(|scope| {
        for reader in 0..READERS {
            scope.spawn(move || read(reader));
        }
    });
    let (ran, peak_len) = served.end(Signal::INT);
    assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
}

#[test]
fn signal_ends_it_with_requests_under_way_which_break_off() {
    let host = Host::with_repository();
    let file = host.write("tree/file", noise("file", LONG_LEN));
    host.back_up(&[&host.path("tree")]);
    for signal in [Signal::INT, Signal::TERM] {
        let served = DavServer::of(&host, &[]);
        let got = host.path("got");
        let url = served.latest(&file);
        let mut curl = Command::new("curl");
        curl.args(["-s", "-q", "--noproxy", "*", "--limit-rate", "2M", "-o"]).arg(&got).arg(&url);
        let mut reader = curl.spawn().expect("curl runs");
        while fs::metadata(&got).map_or(0, |metadata| metadata.len()) == 0 {
            thread::sleep(Duration::from_millis(10));
        }
        let (ran, _) = served.end(signal);
        ran.expect_code(0);
        assert_eq!(reader.wait().expect("curl ends").code(), Some(18), "less came than was said");
        fs::remove_file(&got).expect("what came");
    }
}

#[test]
fn lost_pack_makes_answers_errors_or_break_off_and_is_told_with_what_to_do() {
    let host = Host::with_repository();
    let content = noise("long", LONG_LEN);
    let long = host.write("tree/long", &content);
    host.back_up(&[&host.path("tree")]);
    let packs = large_packs(&host);
    assert!(packs.len() >= 2, "{packs:?}");
    fs::remove_file(&packs[0]).expect("a pack");
    let mut served = DavServer::of(&host, &[]);
    let url = served.latest(&long);
    let whole = served.ask(&[], &url);
    assert!(whole.status == 500 || whole.curl_code == 18, "{} {}", whole.status, whole.curl_code);
    let mut is_readable = Vec::new();
    for at in 0..LONG_LEN >> 20 {
        let (start, end) = (at << 20, (at + 1) << 20);
        let part = served.ask(&["-r", &format!("{start}-{}", end - 1)], &url);
        let is_whole = part.curl_code == 0 && part.status == 206;
        if is_whole {
            assert!(part.body == content[start..end], "mebibyte {at} is not what was backed up");
        } else {
            assert!(part.status == 500 || part.curl_code == 18, "mebibyte {at}: {} {}", part.status, part.curl_code);
        }
        is_readable.push(is_whole);
    }
    assert!(is_readable.contains(&true) && is_readable.contains(&false), "{is_readable:?}");
    served.wait_for("backstay check --read-data");
    let said = served.said();
    let name = packs[0].file_name().and_then(|name| name.to_str()).expect("a name");
    for text in ["problem:", "tree/long", name, "backstay repair packs"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let target = host.path("target");
    let mut copy = rclone(&host, &served, &["copy", &remote(&host.path("tree"))]);
    assert_ne!(copy.arg(&target).run().code, Some(0), "rclone says that not all came");
}

#[test]
fn folder_of_which_a_part_is_lost_shows_the_rest_and_its_listing_breaks_off() {
    let (host, folder) = host_with_a_folder_partly_lost();
    let mut served = DavServer::of(&host, &[]);
    let listed = propfind(&served, "1", &served.latest(&folder));
    assert_eq!((listed.status, listed.curl_code), (207, 18), "it has no end");
    let known = listed.hrefs();
    let is_known = |name: &str| known.iter().any(|href| href.ends_with(&format!("/{}", encoded(name.as_bytes()))));
    assert!(is_known(KNOWN) && !is_known(LOST), "{} are listed", known.len());
    let page = served.ask(&[], &format!("{}/", served.latest(&folder)));
    assert_eq!((page.status, page.curl_code), (200, 18));
    assert!(page.text().contains(KNOWN) && !page.text().contains(LOST), "{}", page.text());
    assert_eq!(served.ask(&[], &served.latest(&folder.join(KNOWN))).status, 200);
    let lost = served.ask(&[], &served.latest(&folder.join(LOST)));
    assert_eq!(lost.status, 500, "it is not said to be missing: {}", lost.text());
    served.wait_for("backstay check --read-data");
    let walked = rclone(&host, &served, &["lsf", &remote(&folder)]).run();
    assert_ne!(walked.code, Some(0), "rclone says that not all came: {walked}");
}

#[test]
fn store_that_vanishes_is_an_error_and_is_read_again_when_it_is_back() {
    let host = Host::with_repository();
    let content = noise("long", LONG_LEN);
    let long = host.write("tree/long", &content);
    host.back_up(&[&host.path("tree")]);
    let mut served = DavServer::of(&host, &["--give-up-after", "20s"]);
    let url = served.latest(&long);
    assert_eq!(served.ask(&["-r", "0-99"], &url).status, 206);
    let (there, away) = (host.repository(), host.path("away"));
    fs::rename(&there, &away).expect("the repository goes");
    let failed = served.ask(&["-r", "20971520-20975615"], &url);
    assert!((500..=504).contains(&failed.status), "{}", failed.status);
    served.wait_for("problem:");
    fs::rename(&away, &there).expect("the repository comes back");
    let back = served.ask(&["-r", "20971520-20975615"], &url);
    assert_eq!(back.status, 206, "{}", back.text());
    assert!(back.body == content[20_971_520..20_975_616]);
    assert!(served.ask(&[], &url).body == content);
}

#[test]
fn only_the_user_who_runs_it_is_answered_and_only_by_the_name_of_this_machine() {
    need_root();
    let host = Host::with_repository();
    let file = host.write("tree/file", "secret");
    host.back_up(&[&host.path("tree")]);
    let another = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "curl"]);
        command
    };
    let served = DavServer::of(&host, &[]);
    let url = served.latest(&file);
    assert_eq!(served.ask(&[], &url).text(), "secret");
    let refused = asked(another(), &[], &url);
    assert_eq!((refused.status, refused.text().contains("--allow-other")), (403, true), "{}", refused.text());
    for name in ["example.org", "example.org:80", "127.0.0.1.example.org"] {
        assert_eq!(served.ask(&["-H", &format!("Host: {name}")], &url).status, 403, "{name}");
    }
    let by_name = url.replace("127.0.0.1", "localhost");
    assert_eq!(served.ask(&["-4"], &by_name).status, 200);
    let for_others = DavServer::of(&host, &["--allow-other"]);
    assert_eq!(asked(another(), &[], &for_others.latest(&file)).text(), "secret");
    let port = served.url().rsplit(':').next().expect("a port").to_owned();
    let mut taken = host.backstay(["serve", "webdav", "--listen", &format!("127.0.0.1:{port}")]);
    taken.run().expect_code(2).says(&["nothing can listen", "another program", "--listen 127.0.0.1:0"]);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let exposed = host.backstay(["serve", "webdav", "--listen", address]).run().expect_code(2);
        exposed.says(&["without a password", "hint:", "--allow-any-address"]);
    }
    let for_all = DavServer::of(&host, &["--listen", "0.0.0.0:0", "--allow-any-address"]);
    let url = for_all.latest(&file).replace("0.0.0.0", "127.0.0.1");
    assert_eq!(for_all.ask(&["-H", "Host: nas.example.org"], &url).text(), "secret");
}

#[test]
fn address_is_printed_as_a_document_when_that_is_asked_for() {
    let host = Host::with_repository();
    let mut running = harness::running::Running::start(
        host.backstay(["serve", "webdav", "--listen", "127.0.0.1:0", "--json"]),
        false,
    );
    let told = running.stdout_path().to_owned();
    running.wait_until("it serves", || fs::read_to_string(&told).unwrap_or_default().ends_with('\n'));
    running.signal(Signal::TERM);
    let (ran, _) = running.finish();
    let url = ran.expect_code(0).json()["url"].as_str().expect("an address").to_owned();
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with('/'), "{url}");
}
