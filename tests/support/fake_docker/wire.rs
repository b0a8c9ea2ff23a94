//! How answers of the fake daemon are put on the wire, rightly and wrongly.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::version::Version;

/// A connection of either kind.
pub(super) trait Wire: Read + Write + Send {
    fn another(&self) -> io::Result<Box<dyn Wire>>;
    fn close(&self);
}

impl Wire for UnixStream {
    fn another(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn close(&self) {
        // The client may have closed it already.
        drop(self.shutdown(Shutdown::Both));
    }
}

impl Wire for TcpStream {
    fn another(&self) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn close(&self) {
        // As above.
        drop(self.shutdown(Shutdown::Both));
    }
}

/// Where an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As Docker does: a length for short answers, chunks for inspect and events.
    #[default]
    Dockers,
    ContentLength,
    Chunked,
    /// Chunks of few bytes with extensions, and trailers after the last.
    ChunkedWithExtras,
    /// The end of the connection is the end of the answer.
    CloseDelimited,
    /// Two interim answers come first.
    AfterInterimAnswers,
    /// Every byte is a write of its own.
    ByteByByte,
}

/// What is wrong with an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Another status, content type and body.
    Answer(u16, &'static str, &'static str),
    /// A head that says chunked, half of one chunk, then the end.
    HalfChunkThenClose,
    /// The same, but the connection stays open and silent.
    HalfChunkThenSilence,
    /// A header of this many bytes.
    LongHeader(usize),
    /// `100 Continue` without end.
    EndlessInterimAnswers,
    /// The request is read and nothing answered.
    Silence,
    /// A body of this many bytes.
    LongBody(usize),
}

/// A complete answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Answer {
        Answer { status, content_type: "application/json", body: format!("{body}\n").into() }
    }
}

pub(super) fn head(version: Version, status: u16, content_type: &str, framing: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Internal Server Error",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nApi-Version: {}\r\nContent-Type: {content_type}\r\n\
         Docker-Experimental: false\r\nOstype: linux\r\nServer: Docker/fake (linux)\r\n\
         Date: Sun, 22 Nov 2026 17:29:21 GMT\r\n{framing}\r\n",
        version.api()
    )
}

/// Puts `answer` on the wire. `false` when the connection ends with it.
pub(super) fn send(
    wire: &mut dyn Wire,
    version: Version,
    answer: &Answer,
    framing: Framing,
) -> io::Result<bool> {
    let Answer { status, content_type, body } = answer;
    let head = |framing: &str| head(version, *status, content_type, framing).into_bytes();
    let length = || [head(&format!("Content-Length: {}\r\n", body.len())), body.clone()].concat();
    let chunked = || [head(CHUNKED), chunk(body), b"0\r\n\r\n".to_vec()].concat();
    match framing {
        Framing::Dockers if body.len() < 1024 => wire.write_all(&length())?,
        Framing::ContentLength => wire.write_all(&length())?,
        Framing::Dockers | Framing::Chunked => wire.write_all(&chunked())?,
        Framing::ChunkedWithExtras => {
            wire.write_all(&head(CHUNKED))?;
            for piece in body.chunks(37) {
                let extended = format!("{:X};name=\"va;lue\"\r\n", piece.len());
                wire.write_all(&[extended.as_bytes(), piece, b"\r\n"].concat())?;
            }
            wire.write_all(b"0;last\r\nX-Trailer: yes\r\nX-Other: 1\r\n\r\n")?;
        }
        Framing::CloseDelimited => {
            wire.write_all(&[head("Connection: close\r\n"), body.clone()].concat())?;
            return Ok(false);
        }
        Framing::AfterInterimAnswers => {
            wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            wire.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </>; rel=preload\r\n\r\n")?;
            wire.write_all(&length())?;
        }
        Framing::ByteByByte => {
            for byte in chunked() {
                wire.write_all(&[byte])?;
            }
        }
    }
    Ok(true)
}

pub(super) const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// What broken answers would say if they were taken for valid ones: whoever
/// believes one of them believes that the container is gone.
const GONE: &str = r#"{"message":"No such container: redis.service"#;

/// Does `fault` instead of answering; the connection ends with it.
pub(super) fn misbehave(wire: &mut dyn Wire, version: Version, fault: &Fault) -> io::Result<()> {
    let gone = |framing: &str| head(version, 404, "application/json", framing).into_bytes();
    match fault {
        Fault::Answer(status, content_type, body) => {
            let answer = Answer { status: *status, content_type, body: body.as_bytes().to_vec() };
            send(wire, version, &answer, Framing::ContentLength)?;
        }
        Fault::HalfChunkThenClose | Fault::HalfChunkThenSilence => {
            wire.write_all(&[gone(CHUNKED), b"400\r\n".to_vec(), GONE.into()].concat())?;
            if matches!(fault, Fault::HalfChunkThenSilence) {
                wait_for_close(wire);
            }
        }
        Fault::LongHeader(bytes) => {
            wire.write_all(b"HTTP/1.1 404 Not Found\r\nX-Long: ")?;
            write_many(wire, *bytes)?;
            write!(wire, "\r\nContent-Length: {}\r\n\r\n{GONE}\"}}", GONE.len() + 2)?;
        }
        Fault::EndlessInterimAnswers => loop {
            wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            thread::sleep(Duration::from_millis(1));
        },
        Fault::Silence => wait_for_close(wire),
        Fault::LongBody(bytes) => {
            let length = GONE.len() + bytes + 2;
            wire.write_all(&gone(&format!("Content-Length: {length}\r\n")))?;
            wire.write_all(GONE.as_bytes())?;
            write_many(wire, *bytes)?;
            wire.write_all(b"\"}")?;
        }
    }
    Ok(())
}

fn write_many(wire: &mut dyn Wire, bytes: usize) -> io::Result<()> {
    let block = [b'x'; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(block.len());
        wire.write_all(&block[..length])?;
        left -= length;
    }
    Ok(())
}

/// Holds the connection open until the client, or the end of the daemon, closes it.
fn wait_for_close(wire: &mut dyn Wire) {
    let mut buffer = [0; 1024];
    while matches!(wire.read(&mut buffer), Ok(1..)) {}
}
