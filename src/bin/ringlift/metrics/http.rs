//! What a request for the metrics asks for, and the answer to it. Pure: bytes in, bytes out. It must not know what the page says.
//!
//! Invariant: whatever comes, at most [`REQUEST_MAX`] bytes are looked at, and there is one answer.

/// Bytes of a request, with its headers: Prometheus sends some hundred.
pub(super) const REQUEST_MAX: usize = 4096;

/// An answer, which has no body for HEAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) is_head: bool,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// The metrics.
    Page,
    NotFound,
    BadMethod,
    BadRequest,
    TooLong,
    /// The page could not be made.
    Failed,
}

/// The answer to what has come so far; none if more has to come first.
pub(super) fn answer(request: &[u8]) -> Option<Answer> {
    let head = &request[..request.len().min(REQUEST_MAX)];
    match ends(head) {
        true => Some(first_line(head)),
        false => (request.len() >= REQUEST_MAX).then_some(Status::TooLong.into()),
    }
}

/// Whether the empty line behind the headers is there.
fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|bytes| bytes == b"\r\n\r\n") || head.windows(2).any(|bytes| bytes == b"\n\n")
}

fn first_line(head: &[u8]) -> Answer {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Status::BadRequest.into() };
    if !version.starts_with(b"HTTP/1.") || method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Status::BadRequest.into();
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let status = match (path, method) {
        (b"/metrics", b"GET" | b"HEAD") => Status::Page,
        (_, b"GET" | b"HEAD") => Status::NotFound,
        _ => Status::BadMethod,
    };
    Answer { status, is_head: method == b"HEAD" }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Answer {
        Answer { status, is_head: false }
    }
}

/// The bytes of an answer; `page` is the body of [`Status::Page`].
pub(super) fn bytes(answer: Answer, page: &str) -> Vec<u8> {
    let (status, kind, body) = match answer.status {
        Status::Page => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", page),
        Status::NotFound => ("404 Not Found", PLAIN, "the metrics are at /metrics\n"),
        Status::BadMethod => ("405 Method Not Allowed", PLAIN, "only GET and HEAD are answered\n"),
        Status::BadRequest => ("400 Bad Request", PLAIN, "this is no HTTP request\n"),
        Status::TooLong => ("431 Request Header Fields Too Large", PLAIN, "the request is too long\n"),
        Status::Failed => ("500 Internal Server Error", PLAIN, "the metrics could not be written\n"),
    };
    let allow = if answer.status == Status::BadMethod { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    let body = if answer.is_head { "" } else { body };
    [head.as_bytes(), body.as_bytes()].concat()
}

const PLAIN: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_metrics_have_one_path_and_two_methods() {
        for (request, status, is_head) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Status::Page, false),
            ("GET /metrics?x=/y HTTP/1.0\n\n", Status::Page, false),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", Status::Page, true),
            ("GET / HTTP/1.1\r\n\r\n", Status::NotFound, false),
            ("GET /metrics/ HTTP/1.1\r\n\r\n", Status::NotFound, false),
            ("HEAD /../metrics HTTP/1.1\r\n\r\n", Status::NotFound, true),
            ("POST /metrics HTTP/1.1\r\n\r\n", Status::BadMethod, false),
            ("DELETE / HTTP/1.1\r\n\r\n", Status::BadMethod, false),
            ("get /metrics HTTP/1.1\r\n\r\n", Status::BadRequest, false),
            ("GET /metrics\r\n\r\n", Status::BadRequest, false),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Status::BadRequest, false),
            ("PRI * HTTP/2.0\r\n\r\n", Status::BadRequest, false),
            ("\r\n\r\n", Status::BadRequest, false),
        ] {
            assert_eq!(answer(request.as_bytes()), Some(Answer { status, is_head }), "{request:?}");
            let begun = &request.as_bytes()[..request.trim_end().len()];
            assert_eq!(answer(begun), None, "{request:?}");
        }
    }

    #[test]
    fn a_request_without_an_end_is_refused_when_it_is_too_long() {
        let mut request = b"GET /metrics HTTP/1.1\r\nCookie: ".to_vec();
        request.resize(REQUEST_MAX - 1, b'x');
        assert_eq!(answer(&request), None);
        request.extend(b"xxxx");
        assert_eq!(answer(&request), Some(Status::TooLong.into()));
        request.extend(b"\r\n\r\n");
        assert_eq!(
            answer(&request),
            Some(Status::TooLong.into()),
            "what lies behind the bound is not looked at"
        );
    }

    #[test]
    fn answers_say_how_long_they_are() {
        let page =
            |is_head| String::from_utf8(bytes(Answer { status: Status::Page, is_head }, "up 1\n")).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
                    Content-Length: 5\r\nConnection: close\r\n\r\n";
        assert_eq!((page(false), page(true)), (format!("{head}up 1\n"), head.to_owned()));
        let refused = String::from_utf8(bytes(Status::BadMethod.into(), "")).unwrap();
        assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("\r\nAllow: GET, HEAD\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer_or_wait_for_more(request in prop::collection::vec(any::<u8>(), 0..5000)) {
            let found = answer(&request);
            prop_assert!(found.is_some() || request.len() < REQUEST_MAX);
            if let Some(found) = found {
                prop_assert!(bytes(found, "").starts_with(b"HTTP/1.1 "));
            }
        }
    }
}
