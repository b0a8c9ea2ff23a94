//! One request and its answer: HTTP/1.1, GET alone, one request a connection.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Longest head of a request: a browser's has about a tenth of it.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// More headers than a browser sends.
const MAX_HEADERS: usize = 64;

/// For one request and its answer: nobody may keep others from asking.
const DEADLINE: Duration = Duration::from_secs(2);

/// What a browser may do with it: run the page's own script, which asks this address alone.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
                      style-src 'unsafe-inline'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    /// A line of text.
    pub(super) fn text(status: u16, line: &str) -> Self {
        let body = format!("{line}\n");
        Answer { status, content_type: "text/plain; charset=utf-8", body }
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        }
    }
}

/// Reads a request from `stream` and answers it with what `answer` says to its path.
///
/// # Errors
/// The client went away, or took too long.
pub(super) fn serve(mut stream: TcpStream, answer: impl FnOnce(&str) -> Answer) -> io::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let (has_body, answer) = match read(&mut stream, deadline)? {
        Ok(Request { method, path }) => match method.as_str() {
            "GET" => (true, answer(&path)),
            "HEAD" => (false, answer(&path)),
            _ => (true, Answer::text(405, "only GET is answered here")),
        },
        Err(refusal) => (true, refusal),
    };
    let Answer { status, content_type, body } = &answer;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: {POLICY}\r\nConnection: close\r\n\r\n",
        answer.reason(),
        body.len()
    );
    let bytes = [head.as_bytes(), if has_body { body.as_bytes() } else { b"" }].concat();
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&bytes)
}

struct Request {
    method: String,
    path: String,
}

/// What was asked, or the answer to what was not understood.
fn read(stream: &mut TcpStream, deadline: Instant) -> io::Result<Result<Request, Answer>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&piece[..length]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {
                let target = request.path.unwrap_or_default();
                let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
                let method = request.method.unwrap_or_default().to_owned();
                return Ok(Ok(Request { method, path }));
            }
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                let most = format!("a request's head has at most {MAX_HEAD_BYTES} bytes");
                return Ok(Err(Answer::text(431, &most)));
            }
            Err(error) => {
                return Ok(Err(Answer::text(400, &format!("this is no HTTP request: {error}"))));
            }
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}
