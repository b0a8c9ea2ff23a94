use proptest::prelude::*;

use super::*;
use crate::docker::fuzzing::Pieces;

fn reader<'a>(text: &'a [u8], sizes: &'a [usize]) -> Reader<Pieces<'a>> {
    Reader::new(Pieces::new(text, sizes))
}

/// Status, body and whether the connection may be used again.
fn answer(text: &[u8], sizes: &[usize]) -> Result<(u16, Vec<u8>, bool), String> {
    let mut reader = reader(text, sizes);
    let head = reader.head().map_err(|error| error.to_string())?;
    let (body, again) = reader.whole_body(head).map_err(|error| error.to_string())?;
    Ok((head.status, body, again))
}

const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nTrailer: x\r\n\r\n";
const CLOSE: &str = "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello";
const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\nContent-Length:5\n\nhello";

#[test]
fn every_framing_gives_the_same_body_under_every_split() {
    for (text, again) in [(LENGTH, true), (CHUNKS, true), (CLOSE, false), (INTERIM, true)] {
        for size in 1..=text.len() {
            let expected = Ok((200, b"hello".to_vec(), again));
            assert_eq!(answer(text.as_bytes(), &[size]), expected, "{text:?} by {size}");
        }
    }
}

#[test]
fn answers_follow_each_other_on_one_connection() {
    let text = format!("{LENGTH}HTTP/1.1 204 No Content\r\n\r\n{CHUNKS}");
    let mut reader = reader(text.as_bytes(), &[7]);
    for expected in ["hello", "", "hello"] {
        let head = reader.head().unwrap();
        let (body, again) = reader.whole_body(head).unwrap();
        assert_eq!(body, expected.as_bytes());
        assert!(again);
    }
    assert!(matches!(reader.head(), Err(Error::Closed)));
}

#[test]
fn a_chunk_is_given_out_before_its_line_end_arrives() {
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello";
    let mut reader = reader(text.as_bytes(), &[1000]);
    let head = reader.head().unwrap();
    let mut body = reader.body(head);
    assert_eq!(body.piece().unwrap(), Some(&b"hello"[..]));
    assert!(matches!(body.piece(), Err(Error::Truncated)));
}

#[test]
fn a_truncated_answer_is_never_a_whole_one() {
    for text in [LENGTH, CHUNKS] {
        for cut in 1..text.len() {
            assert!(answer(&text.as_bytes()[..cut], &[3]).is_err(), "{text:?} cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_http_is_refused() {
    for (text, problem) in [
        ("<html></html>\r\n\r\n", "no status line"),
        ("HTTP/2 200 OK\r\n\r\n", "no status line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "no status line"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header without a colon"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "a length that is no number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "a length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "a length that is no number"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloA\r\n",
            "a chunk longer than its size",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "an unknown transfer"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "a chunk without"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", "a chunk without"),
    ] {
        let error = answer(text.as_bytes(), &[1000]).unwrap_err();
        assert!(error.contains(problem), "{text:?}: {error}");
    }
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_INTERIM_ANSWERS + 1);
    assert!(answer(interim.as_bytes(), &[1000]).unwrap_err().contains("interim"));
}

#[test]
fn a_head_beyond_the_limit_is_refused() {
    let long_line = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let many_lines = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(4096));
    for text in [long_line, many_lines] {
        assert_eq!(
            answer(text.as_bytes(), &[1000]).unwrap_err(),
            "a head of more than 16384 bytes"
        );
    }
}

#[test]
fn sizes_beyond_the_limit_are_refused_before_reading_them() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400001\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    ] {
        let error = answer(text.as_bytes(), &[1000]).unwrap_err();
        assert!(error.contains("4194304"), "{text:?}: {error}");
    }
    let endless = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY_BYTES + 1));
    assert!(answer(endless.as_bytes(), &[65536]).unwrap_err().contains("4194304"));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader(
        start in prop::sample::select(vec!["", "HTTP/1.1 200 OK\r\n", CHUNKS]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        sizes in prop::collection::vec(1usize..40, 1..5),
    ) {
        let text = [start.as_bytes(), &bytes].concat();
        let _ = answer(&text, &sizes);
    }

    #[test]
    fn chunks_of_any_size_under_any_split_are_joined(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
        sizes in prop::collection::vec(1usize..40, 1..5),
    ) {
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            text.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(answer(&text, &sizes), Ok((200, chunks.concat(), true)));
    }
}
