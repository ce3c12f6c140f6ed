//! What becomes of an answer when something cannot be had.
//!
//! ```text
//! nothing was sent yet ─► an error, which says what cannot be had
//! else                 ─► the answer breaks off: shorter than it said, or without an end
//! ```
//!
//! The WebDAV library passes over entries of a folder that it cannot have; so it is written down here that there were some.
//!
//! Invariant: an answer in which something is missing never ends as if it were whole.
//! Never here: what is missing; `places` and `reading` find that out.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use hyper::body::{Body as _, Frame};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Sleep;

/// What scripts in files that were backed up may do in a browser: nothing.
const POLICY: &str = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// How long what was read has to be sent before an answer breaks off: what waits then is dropped.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// A request while it is answered.
#[derive(Debug, Clone)]
pub(super) struct Asked(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Whether it wants content, and from where on.
    wants: Wants,
    is_listing: bool,
    failure: Mutex<Option<Failure>>,
}

/// What of a file's content is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// None of it, as far as is known.
    Nothing,
    /// All of it.
    All,
    /// Some of it.
    Range,
}

/// Why something cannot be had.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Asked {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let has = |name| request.headers().contains_key(name);
        let wants = match *request.method() {
            Method::GET if has(header::IF_NONE_MATCH) || has(header::IF_MODIFIED_SINCE) => Wants::Nothing,
            Method::GET if has(header::RANGE) => Wants::Range,
            Method::GET => Wants::All,
            _ => Wants::Nothing,
        };
        let is_listing = request.method().as_str() == "PROPFIND";
        Self(Arc::new(Inner { wants, is_listing, failure: Mutex::default() }))
    }

    /// Whether properties are asked for.
    pub(super) fn is_listing(&self) -> bool {
        self.0.is_listing
    }

    pub(super) fn wants(&self) -> Wants {
        self.0.wants
    }

    /// Notes that something of the answer cannot be had; the first counts.
    pub(super) fn fail(&self, failure: Failure) {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The body of an answer.
pub(super) struct Body {
    content: Content,
    /// Why it breaks off, once that is so, and when.
    fault: Option<(io::Error, Pin<Box<Sleep>>)>,
}

enum Content {
    Text(Option<Bytes>),
    Stream(BoxStream<'static, io::Result<Bytes>>),
    /// Of a list of properties the last piece waits for what follows: that list ends in it, whatever is missing.
    Dav {
        inner: dav_server::body::Body,
        asked: Asked,
        waits: Option<Frame<Bytes>>,
    },
}

impl Body {
    pub(super) fn text(text: Bytes) -> Self {
        Content::Text(Some(text).filter(|text| !text.is_empty())).into()
    }

    pub(super) fn stream(stream: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Content::Stream(stream).into()
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self { content, fault: None }
    }
}

impl Content {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Stream(inner) => inner.as_mut().poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Self::Dav { inner, asked, waits } => loop {
                let next = ready!(Pin::new(&mut *inner).poll_frame(cx)).transpose()?;
                if next.is_none()
                    && let Some(failure) = asked.failure()
                {
                    return Poll::Ready(Some(Err(io::Error::other(failure.text))));
                }
                let is_end = next.is_none();
                if is_end {
                    // It must not be asked for more, but the piece that waited is to follow yet.
                    *inner = dav_server::body::Body::empty();
                }
                let ready = if asked.is_listing() { std::mem::replace(waits, next) } else { next };
                if is_end || ready.is_some() {
                    return Poll::Ready(ready.map(Ok));
                }
            },
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.fault.is_none() {
            match ready!(self.content.poll_next(cx)) {
                Some(Err(error)) => self.fault = Some((error, Box::pin(tokio::time::sleep(SENT_WITHIN)))),
                frame => return Poll::Ready(frame),
            }
        }
        if let Some((_, sleep)) = &mut self.fault {
            ready!(sleep.as_mut().poll(cx));
        }
        Poll::Ready(self.fault.take().map(|(error, _)| Err(error)))
    }
}

/// The library's answer, or an error if something was found to be missing.
pub(super) fn checked(answer: Response<dav_server::body::Body>, asked: Asked) -> Response<Body> {
    if let Some(failure) = asked.failure() {
        return said(failure.status, &failure.text);
    }
    let mut answer = answer.map(|inner| Content::Dav { inner, asked, waits: None }.into());
    protect(&mut answer);
    answer
}

/// An answer in words.
pub(super) fn said(status: StatusCode, text: &str) -> Response<Body> {
    let text = if text.is_empty() { Bytes::new() } else { format!("{text}\n").into() };
    let len = text.len();
    let mut answer = Response::new(Body::text(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, len.into());
    protect(&mut answer);
    answer
}

/// What was backed up is shown by browsers, but runs nothing there.
pub(super) fn protect(answer: &mut Response<Body>) {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let same = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same);
}
