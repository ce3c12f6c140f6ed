//! A folder as a page for browsers.
//!
//! ```text
//! head ─► a row for each entry, as they are read ─► what could not be read ─► end, or the page breaks off
//! ```
//!
//! Invariant: a page whose folder is not whole says so, and has no end.
//! Never here: what other clients get; the WebDAV library makes that.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dav_server::davpath::DavPath;
use futures::stream::{self, StreamExt as _};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use source::entry::escaped;

use super::answers::{Asked, Body, Failure, protect, said};
use super::places::{Child, Refusal, Shared};

/// What is written otherwise in an address.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Rows that are sent at once.
const ROWS_AT_ONCE: usize = 64;
const STYLE: &str =
    "body{font-family:sans-serif;margin:2em}td{padding:.1em 1.5em .1em 0}td+td{color:#666;text-align:right}";

/// The page of the folder that a request names with a slash at its end; none if it names something else.
pub(super) async fn page<B>(shared: &Arc<Shared>, asked: &Asked, request: &Request<B>) -> Option<Response<Body>> {
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD) && request.uri().path().ends_with('/');
    let path = DavPath::new(request.uri().path()).ok().filter(|_| is_page)?;
    let place = match shared.place(asked, path.as_bytes()).await {
        Ok(place) => place,
        Err(Refusal::NotFound) => return None,
        Err(Refusal::Failed) => return asked.failure().map(|failure| said(failure.status, &failure.text)),
    };
    let children = shared.children(asked, &place)?;
    let is_top = path.as_bytes() == b"/";
    let head = head(&html(&escaped(path.as_bytes()).to_string()), is_top);
    let rows = children.chunks(ROWS_AT_ONCE).map(|rows| rows.iter().map(row).collect::<String>());
    let asked = asked.clone();
    let end = stream::once(async move { stream::iter(end(asked.failure())) }).flatten();
    let all = stream::once(async { head }).chain(rows).map(Ok).chain(end);
    let body = if *request.method() == Method::HEAD {
        Body::text(Bytes::new())
    } else {
        Body::stream(all.map(|text| text.map(Bytes::from)).boxed())
    };
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    protect(&mut answer);
    Some(answer)
}

fn head(title: &str, is_top: bool) -> String {
    let above = if is_top { "" } else { "<tr><td><a href=\"../\">..</a>\n" };
    format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n<table>\n{above}"
    )
}

/// The page's end; none if something of the folder is missing.
fn end(missing: Option<Failure>) -> Vec<io::Result<String>> {
    let Some(Failure { text, .. }) = missing else { return vec![Ok("</table>\n".to_owned())] };
    let told = format!("</table>\n<p><b>Not all of it can be read:</b> {}\n", html(&text));
    vec![Ok(told), Err(io::Error::other(text))]
}

fn row(child: &Child) -> String {
    let slash = if child.meta.len.is_none() { "/" } else { "" };
    let name = html(&escaped(&child.name).to_string());
    // A name with a colon would be taken for another protocol.
    let mut row = format!("<tr><td><a href=\"./{}{slash}\">{name}{slash}</a>", percent_encode(&child.name, RESERVED));
    let len = child.meta.len.map(|len| len.to_string()).unwrap_or_default();
    let at = child.meta.modified.and_then(|at| Timestamp::try_from(at).ok());
    let at = at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default();
    let _ = writeln!(row, "<td>{len}<td>{at}");
    row
}

/// A text as HTML takes it.
fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for part in text.chars() {
        match part {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(part),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webdav::places::Meta;

    #[test]
    fn page_of_which_something_is_missing_says_so_and_has_no_end() {
        assert!(end(None).iter().all(Result::is_ok));
        let failure = Failure { status: hyper::StatusCode::GONE, text: "pack <1> is lost".to_owned() };
        let ended = end(Some(failure));
        let [Ok(told), Err(_)] = ended.as_slice() else { panic!("it ends well: {ended:?}") };
        assert!(told.contains("Not all of it can be read") && told.contains("pack &lt;1&gt; is lost"), "{told}");
    }

    #[test]
    fn name_of_a_file_is_text_on_the_page_and_bytes_in_its_address() {
        let meta = Meta { len: Some(5), modified: None, is_executable: false, tag: None };
        let child = Child { name: b"<script>\"'&\n\xff:".to_vec(), meta };
        let row = row(&child);
        assert!(row.contains("href=\"./%3Cscript%3E%22%27%26%0A%FF%3A\""), "{row}");
        assert!(!row.contains("<script>") && row.contains("&lt;script&gt;"), "{row}");
    }
}
