//! A small HTTP client for the tests, so that the product's own is not what
//! checks it.

use std::io::{self, BufRead, BufReader, Read, Write};

/// One answer, its body unchunked.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|err| panic!("not JSON ({err}): {}", self.body))
    }
}

/// Sends one request on `stream` and reads its answer; the connection ends with it.
pub(crate) fn ask(
    stream: impl Read + Write,
    method: &str,
    target: &str,
    form: Option<&str>,
) -> io::Result<Answer> {
    ask_as(None, stream, method, target, form)
}

/// The same with what an `Authorization` header has to hold.
pub(crate) fn ask_as(
    authorization: Option<&str>,
    mut stream: impl Read + Write,
    method: &str,
    target: &str,
    form: Option<&str>,
) -> io::Result<Answer> {
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    request.push_str(&self::authorization(authorization));
    if let Some(form) = form {
        request.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        request.push_str(&format!("Content-Length: {}\r\n", form.len()));
    }
    request.push_str("\r\n");
    request.push_str(form.unwrap_or(""));
    stream.write_all(request.as_bytes())?;
    read_answer(&mut BufReader::new(stream))
}

/// The line of the head that says who asks; empty for nobody.
pub(crate) fn authorization(value: Option<&str>) -> String {
    value.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default()
}

pub(crate) fn read_answer(reader: &mut impl BufRead) -> io::Result<Answer> {
    let (status, headers) = read_head(reader)?;
    let mut answer = Answer { status, headers, body: String::new() };
    let mut body = Vec::new();
    if answer.header("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = read_chunk(reader)? {
            body.extend(chunk);
        }
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse().map_err(io::Error::other)?;
        reader.take(length).read_to_end(&mut body)?;
    } else {
        reader.read_to_end(&mut body)?;
    }
    answer.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(answer)
}

pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, Vec<(String, String)>)> {
    let status_line = read_line(reader)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("status line {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        match line.split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => return Ok((status, headers)),
        }
    }
}

/// `None` at the last chunk.
pub(crate) fn read_chunk(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let size = read_line(reader)?;
    let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk)?;
    read_line(reader)?;
    Ok((size > 0).then_some(chunk))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// `text` as it may stand in a form or a query.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
        match byte {
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => decoded.push((high * 16 + low) as u8),
                _ => panic!("percent-encoding of {text:?}"),
            },
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).unwrap()
}
