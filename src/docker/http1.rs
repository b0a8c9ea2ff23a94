//! The half of HTTP/1.1 that a client needs to read Docker's answers, bounded.
//!
//! Source: RFC 9112. Docker answers with a length, in chunks, or until it closes
//! the connection, and only GET is ever sent.

use std::{fmt, io, io::Read};

/// Longest head of an answer, and longest line between two chunks.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Longest body of an answer, longest chunk, longest line of the events stream.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// More interim (1xx) answers than this before the real one are no HTTP.
const MAX_INTERIM_ANSWERS: usize = 8;

/// Why an answer could not be read.
#[derive(Debug)]
pub(super) enum Error {
    Io(io::Error),
    /// The connection ended before the first byte of an answer, as a kept one
    /// does when the server closed it meanwhile.
    Closed,
    /// The connection ended within an answer.
    Truncated,
    Malformed(&'static str),
    /// More than the named limit allows.
    TooLarge(&'static str, usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::Closed => f.write_str("the connection was closed"),
            Error::Truncated => f.write_str("the connection ended within an answer"),
            Error::Malformed(what) => write!(f, "not HTTP/1.1: {what}"),
            Error::TooLarge(what, limit) => write!(f, "{what} of more than {limit} bytes"),
        }
    }
}

impl std::error::Error for Error {}

/// Writes the request for `path`, which must be a valid request target.
pub(super) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: docker\r\nAccept: application/json\r\n\
         User-Agent: ambassador/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// What the head of an answer says about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    framing: Framing,
    /// Whether the connection may carry another request after the body.
    keep_alive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// A line with the size of the first chunk comes next.
    FirstChunk,
    /// The end of a chunk and a line with the size of the next come next.
    NextChunk,
    /// So many bytes of a chunk are still to come, and then a line's end.
    Chunk(u64),
    UntilClose,
    Ended,
}

/// Reads answers from one connection, one after the other.
#[derive(Debug)]
pub(super) struct Reader<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(source: R) -> Self {
        Reader { source, buffer: vec![0; MAX_HEAD_BYTES].into(), start: 0, end: 0 }
    }

    pub(super) fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Reads the head of the next answer, past interim ones.
    pub(super) fn head(&mut self) -> Result<Head, Error> {
        for _ in 0..=MAX_INTERIM_ANSWERS {
            if self.start == self.end && self.fill()? == 0 {
                return Err(Error::Closed);
            }
            let head = self.one_head()?;
            if !(100..200).contains(&head.status) {
                return Ok(head);
            }
        }
        Err(Error::Malformed("nothing but interim answers"))
    }

    fn one_head(&mut self) -> Result<Head, Error> {
        let mut budget = MAX_HEAD_BYTES;
        let (status, version_1_1) = status_line(self.line(&mut budget)?)?;
        let mut fields = Fields::default();
        loop {
            let line = self.line(&mut budget)?;
            if line.is_empty() {
                break;
            }
            fields.note(line)?;
        }
        // RFC 9112, 6.3: no body, chunks, a length, or until the end, in this order.
        let framing = if matches!(status, 100..200 | 204 | 304) {
            Framing::Ended
        } else if fields.chunked {
            Framing::FirstChunk
        } else if let Some(length) = fields.length {
            if length == 0 { Framing::Ended } else { Framing::Length(length) }
        } else {
            Framing::UntilClose
        };
        let keep_alive = version_1_1 && !fields.close && framing != Framing::UntilClose;
        Ok(Head { status, framing, keep_alive })
    }

    /// The body that follows `head`. It must be read to its end before the next head.
    pub(super) fn body(&mut self, head: Head) -> Body<'_, R> {
        Body { framing: head.framing, reader: self }
    }

    /// Reads the whole body. Returns it and whether the connection may be used again.
    pub(super) fn whole_body(&mut self, head: Head) -> Result<(Vec<u8>, bool), Error> {
        if let Framing::Length(length) = head.framing
            && length > MAX_BODY_BYTES as u64
        {
            return Err(Error::TooLarge("an answer", MAX_BODY_BYTES));
        }
        let mut whole = Vec::new();
        let mut body = self.body(head);
        while let Some(piece) = body.piece()? {
            if whole.len() + piece.len() > MAX_BODY_BYTES {
                return Err(Error::TooLarge("an answer", MAX_BODY_BYTES));
            }
            whole.extend_from_slice(piece);
        }
        Ok((whole, head.keep_alive))
    }

    /// The next line without its end, taken from what `budget` allows.
    fn line(&mut self, budget: &mut usize) -> Result<&[u8], Error> {
        let mut searched = 0;
        let length = loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = unread[searched..].iter().position(|&byte| byte == b'\n') {
                break searched + found + 1;
            }
            searched = unread.len();
            if searched >= *budget {
                return Err(Error::TooLarge("a head", MAX_HEAD_BYTES));
            }
            if self.fill()? == 0 {
                return Err(Error::Truncated);
            }
        };
        *budget = budget.checked_sub(length).ok_or(Error::TooLarge("a head", MAX_HEAD_BYTES))?;
        let line = &self.buffer[self.start..self.start + length - 1];
        self.start += length;
        // A recipient may take a bare LF for a line's end (RFC 9112, 2.2).
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Reads more into the buffer; 0 at the end of the connection.
    fn fill(&mut self) -> Result<usize, Error> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            return Err(Error::TooLarge("a head", MAX_HEAD_BYTES));
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }
}

/// A body as it arrives, whatever its framing.
#[derive(Debug)]
pub(super) struct Body<'a, R> {
    reader: &'a mut Reader<R>,
    framing: Framing,
}

impl<R: Read> Body<'_, R> {
    /// The next bytes, as soon as there are any; `None` at the end.
    pub(super) fn piece(&mut self) -> Result<Option<&[u8]>, Error> {
        match self.framing {
            Framing::FirstChunk => self.framing = self.reader.chunk(true)?,
            Framing::NextChunk => self.framing = self.reader.chunk(false)?,
            _ => {}
        }
        let most = match self.framing {
            Framing::Ended => return Ok(None),
            Framing::Length(left) | Framing::Chunk(left) => left,
            Framing::UntilClose | Framing::FirstChunk | Framing::NextChunk => u64::MAX,
        };
        if self.reader.start == self.reader.end && self.reader.fill()? == 0 {
            return match self.framing {
                Framing::UntilClose => {
                    self.framing = Framing::Ended;
                    Ok(None)
                }
                _ => Err(Error::Truncated),
            };
        }
        let available = self.reader.end - self.reader.start;
        let length = usize::try_from(most).map_or(available, |most| most.min(available));
        let left = most - length as u64;
        self.framing = match self.framing {
            Framing::Length(_) if left == 0 => Framing::Ended,
            Framing::Length(_) => Framing::Length(left),
            // The line's end after a chunk is read with the next size: it may be
            // late, and the chunk's bytes must not wait for it.
            Framing::Chunk(_) if left == 0 => Framing::NextChunk,
            Framing::Chunk(_) => Framing::Chunk(left),
            other => other,
        };
        let start = self.reader.start;
        self.reader.start += length;
        Ok(Some(&self.reader.buffer[start..start + length]))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the size of a chunk, and the trailers behind the last one.
    fn chunk(&mut self, is_first: bool) -> Result<Framing, Error> {
        let mut budget = MAX_HEAD_BYTES;
        if !is_first && !self.line(&mut budget)?.is_empty() {
            return Err(Error::Malformed("a chunk longer than its size"));
        }
        let line = self.line(&mut budget)?;
        let size = chunk_size(line)?;
        if size > 0 {
            return Ok(Framing::Chunk(size));
        }
        while !self.line(&mut budget)?.is_empty() {} // Trailers say nothing we need.
        Ok(Framing::Ended)
    }
}

/// `1f` or `1f;name=value`.
fn chunk_size(line: &[u8]) -> Result<u64, Error> {
    const MALFORMED: Error = Error::Malformed("a chunk without a size");
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).map_err(|_| MALFORMED)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(MALFORMED);
    }
    match u64::from_str_radix(text, 16) {
        Ok(size) if size <= MAX_BODY_BYTES as u64 => Ok(size),
        _ => Err(Error::TooLarge("a chunk", MAX_BODY_BYTES)),
    }
}

/// `HTTP/1.1 200 OK`: the status, and whether the version is 1.1.
fn status_line(line: &[u8]) -> Result<(u16, bool), Error> {
    const MALFORMED: Error = Error::Malformed("no status line");
    let text = std::str::from_utf8(line).map_err(|_| MALFORMED)?;
    let (version, rest) = text.split_once(' ').ok_or(MALFORMED)?;
    let status = rest.split(' ').next().unwrap_or_default();
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0")
        || status.len() != 3
        || !status.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(MALFORMED);
    }
    let status = status.parse().map_err(|_| MALFORMED)?;
    Ok((status, version == "HTTP/1.1"))
}

/// The header fields that decide where the body ends.
#[derive(Default)]
struct Fields {
    chunked: bool,
    length: Option<u64>,
    close: bool,
}

impl Fields {
    fn note(&mut self, line: &[u8]) -> Result<(), Error> {
        let colon = line.iter().position(|&byte| byte == b':');
        let Some(colon) = colon else { return Err(Error::Malformed("a header without a colon")) };
        let name = &line[..colon];
        let value = line[colon + 1..].trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.iter().all(u8::is_ascii_digit).then_some(value);
            let length = digits.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            // Two lengths that differ are how requests are smuggled.
            if length.is_none() || self.length.is_some_and(|known| Some(known) != length) {
                return Err(Error::Malformed("a length that is no number"));
            }
            self.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Error::Malformed("an unknown transfer encoding"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.close |= value.to_ascii_lowercase().windows(5).any(|word| word == b"close");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
