//! What may be asked, and by whom.
//!
//! ```text
//! a stranger's connection, or another site's name ─► 403
//! a method that would change something            ─► 405, with those that there are
//! a page of another site has it in itself         ─► 403
//! all folders below at once                       ─► 403
//! a long body, which says what is asked           ─► 413
//! ```
//!
//! The name of another site is what a browser sends that was led here by it: its scripts could read everything otherwise.
//!
//! Invariant: what passes here can change nothing and is answered folder by folder.
//! Never here: what is answered.

use std::net::IpAddr;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};

use super::Who;
use super::answers::{Body, said};

/// Methods that are answered.
const ALLOWED: [&str; 4] = ["GET", "HEAD", "OPTIONS", "PROPFIND"];
/// Bytes of a request's body, which says what is asked of each entry.
const BODY_LEN_MAX: u64 = 2048;
/// How RFC 4918 says that a folder is listed without those below it.
const FINITE: &str =
    r#"<?xml version="1.0" encoding="utf-8"?><D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>"#;

/// The request as it may be answered, or how it is refused.
pub(super) fn admit<B>(mut request: Request<B>, who: Who, is_welcome: bool) -> Result<Request<B>, Box<Response<Body>>> {
    if !is_welcome {
        let text = "this server answers only the user who runs it; --allow-other lets all users of the machine read";
        return Err(said(StatusCode::FORBIDDEN, text).into());
    }
    if who != Who::Anyone && !is_named_as_this_machine(&request) {
        return Err(Box::new(said(
            StatusCode::FORBIDDEN,
            "this server is asked for by the name localhost, or by its address",
        )));
    }
    if is_embedded(&request) {
        return Err(said(StatusCode::FORBIDDEN, "pages of other sites may not use what is served here").into());
    }
    if !ALLOWED.contains(&request.method().as_str()) {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "snapshots cannot be changed");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, PROPFIND"));
        return Err(refused.into());
    }
    if *request.method() == Method::OPTIONS {
        return Err(options().into());
    }
    let depth = request.headers().get("depth").map(HeaderValue::as_bytes);
    if request.method().as_str() == "PROPFIND" && !matches!(depth, Some(b"0" | b"1")) {
        let mut refused = said(StatusCode::FORBIDDEN, FINITE);
        let kind = HeaderValue::from_static("application/xml; charset=utf-8");
        refused.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Err(refused.into());
    }
    if is_too_long(&request) {
        return Err(said(StatusCode::PAYLOAD_TOO_LARGE, "a request's body may have 2048 bytes, told before").into());
    }
    let headers = request.headers_mut();
    // It lets some limits be passed.
    headers.remove(HeaderName::from_static("x-litmus"));
    // Several ranges are asked for by nobody who cannot take the whole; a server may answer with that. The library
    // counts beyond the end of its numbers.
    let is_odd =
        |range: &[u8]| range.contains(&b',') || range.split(|byte| !byte.is_ascii_digit()).any(|n| n.len() > 18);
    if headers.get(header::RANGE).is_some_and(|range| is_odd(range.as_bytes())) {
        headers.remove(header::RANGE);
    }
    Ok(request)
}

/// Whether a request's body may be longer than what anybody asks for. The library reads it by a function that calls itself for
/// each element in another one.
fn is_too_long<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let len = headers.get(header::CONTENT_LENGTH).map(|len| len.to_str().ok().and_then(|len| len.parse::<u64>().ok()));
    headers.contains_key(header::TRANSFER_ENCODING) || len.is_some_and(|len| len.is_none_or(|len| len > BODY_LEN_MAX))
}

/// Whether a browser asks because a page of another site has this in it.
fn is_embedded<B>(request: &Request<B>) -> bool {
    let says = |name: &'static str| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_other = matches!(says("sec-fetch-site"), Some(site) if site != b"same-origin" && site != b"none");
    is_other && says("sec-fetch-mode") != Some(b"navigate")
}

/// What there is to ask for: reading alone, without locks.
fn options() -> Response<Body> {
    let mut answer = said(StatusCode::OK, "");
    let headers = answer.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, PROPFIND"));
    headers.insert(HeaderName::from_static("dav"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("ms-author-via"), HeaderValue::from_static("DAV"));
    answer
}

/// Whether a request names an address of this machine, or `localhost`, or nothing.
fn is_named_as_this_machine<B>(request: &Request<B>) -> bool {
    let named = request.headers().get_all(header::HOST).iter();
    let named = named.map(|name| name.to_str().ok().and_then(|name| name.parse::<Authority>().ok()));
    let mut all = named.chain(request.uri().authority().cloned().map(Some));
    all.all(|name| name.is_some_and(|name| is_this_machine(name.host())))
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, headers: &[(&str, &str)]) -> Result<(), u16> {
        let mut request = Request::builder().method(method).uri("/by-id/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let admitted = admit(request.body(()).expect("a request"), Who::Owner, true);
        admitted.map(|_| ()).map_err(|refused| refused.status().as_u16())
    }

    #[test]
    fn requests_that_would_change_something_or_list_everything_are_refused() {
        for method in
            ["PUT", "DELETE", "MKCOL", "MOVE", "COPY", "LOCK", "UNLOCK", "PROPPATCH", "PATCH", "POST", "REPORT"]
        {
            assert_eq!(status(method, &[]), Err(405), "{method}");
        }
        assert_eq!(status("GET", &[]), Ok(()));
        assert_eq!(status("HEAD", &[]), Ok(()));
        assert_eq!(status("PROPFIND", &[("depth", "1")]), Ok(()));
        assert_eq!(status("PROPFIND", &[("depth", "infinity")]), Err(403));
        assert_eq!(status("PROPFIND", &[]), Err(403), "that means the same");
        assert_eq!(status("PROPFIND", &[("depth", "infinity"), ("x-litmus", "1")]), Err(403));
        assert_eq!(status("OPTIONS", &[]), Err(200));
        let listing = |more| status("PROPFIND", &[("depth", "1"), more]);
        assert_eq!(listing(("content-length", "2048")), Ok(()));
        for more in [("content-length", "2049"), ("content-length", "x"), ("transfer-encoding", "chunked")] {
            assert_eq!(listing(more), Err(413), "{more:?}");
        }
    }

    #[test]
    fn ranges_that_the_library_would_count_wrong_are_answered_by_the_whole() {
        for (range, is_kept) in [
            ("bytes=0-999999999999999999", true),
            ("bytes=5-", true),
            ("bytes=-5", true),
            ("bytes=0-18446744073709551615", false),
            ("bytes=9999999999999999999-", false),
            ("bytes=0-1,3-4", false),
        ] {
            let request = Request::builder().uri("/").header("range", range).body(()).expect("a request");
            let admitted = admit(request, Who::Owner, true).ok().expect("is answered");
            assert_eq!(admitted.headers().contains_key("range"), is_kept, "{range}");
        }
    }

    #[test]
    fn pages_of_other_sites_may_lead_here_and_have_nothing_of_it_in_them() {
        let asked = |site, mode| status("GET", &[("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
        for (site, mode) in [("cross-site", "navigate"), ("same-origin", "no-cors"), ("none", "navigate")] {
            assert_eq!(asked(site, mode), Ok(()), "{site} {mode}");
        }
        assert_eq!(asked("cross-site", "no-cors"), Err(403));
        assert_eq!(asked("same-site", "cors"), Err(403));
    }

    #[test]
    fn requests_in_the_name_of_another_site_are_refused() {
        for name in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "127.9.9.9"] {
            assert_eq!(status("GET", &[("host", name)]), Ok(()), "{name}");
        }
        for name in ["example.org", "localhost.example.org", "10.0.0.1", "127.0.0.1.example.org:80", "[fe80::1]", "a b"]
        {
            assert_eq!(status("GET", &[("host", name)]), Err(403), "{name}");
        }
        assert_eq!(status("GET", &[("host", "localhost"), ("host", "example.org")]), Err(403));
    }
}
