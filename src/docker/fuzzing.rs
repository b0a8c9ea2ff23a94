//! What must hold whatever Docker sends, and in whatever pieces it arrives.

use std::{
    io::{self, Read},
    str,
};

use super::{
    Address, Error, Event, Problem,
    api::{self, Container, State},
    http1::{Head, MAX_BODY_BYTES, MAX_HEAD_BYTES, Reader},
    lines::Lines,
    parse,
};
use crate::{
    property::{assert_is_an_excerpt, first_line},
    report,
};

/// A connection that delivers its bytes in pieces of the given sizes, in turn. Before a
/// piece of size 0, which has one byte, the read is interrupted as by a signal. Without
/// sizes all comes at once.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: &'a [usize],
    turn: usize,
    was_interrupted: bool,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(bytes: &'a [u8], sizes: &'a [usize]) -> Self {
        Pieces { bytes, sizes, turn: 0, was_interrupted: false }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = match self.turn.checked_rem(self.sizes.len()) {
            Some(turn) => self.sizes[turn],
            None => usize::MAX,
        };
        if size == 0 && !self.was_interrupted {
            self.was_interrupted = true;
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.was_interrupted = false;
        self.turn += 1;
        let size = size.max(1).min(into.len());
        self.bytes.read(&mut into[..size])
    }
}

/// Answers mean the same in whatever pieces they arrive, and no limit is passed. The first
/// line of the input has a byte that says for how many bytes, times 128, a line is repeated,
/// so that short inputs reach the limit of a head; one that says which line; and then the
/// sizes of the pieces.
pub fn http1(data: &[u8]) {
    let (steering, text) = first_line(data);
    let [repeated, which, sizes @ ..] = steering else { return };
    let sizes: Vec<usize> = sizes.iter().map(|&size| size.into()).collect();
    let lines = text.split_inclusive(|&byte| byte == b'\n').enumerate();
    let repeat = |(at, line): (usize, &[u8])| {
        let is_it = at == usize::from(*which);
        line.repeat(1 + if is_it { usize::from(*repeated) * 128 / line.len() } else { 0 })
    };
    let text: Vec<u8> = lines.flat_map(repeat).collect();

    let whole = answers(&text, &[]);
    assert_eq!(answers(&text, &sizes), whole);
    let streamed = stream(&text, &[]);
    assert_eq!(stream(&text, &sizes), streamed);
    let (head, pieces, end) = streamed;
    match &whole[0] {
        Ok((whole_head, body, _)) => {
            assert_eq!((head, &pieces, end.as_str()), (Some(*whole_head), body, "ended"));
        }
        // What is too long as a whole may still be followed as a stream.
        Err(problem) if problem.starts_with("an answer of more than") => assert_ne!(end, "ended"),
        Err(problem) => assert_eq!(*problem, end),
    }
    let start = &text[..text.len().min(MAX_HEAD_BYTES)];
    let ends_a_head =
        |at: usize| start[at..].starts_with(b"\n\n") || start[at..].starts_with(b"\n\r\n");
    assert!(head.is_none() || (0..start.len()).any(ends_a_head), "a head beyond the limit");
}

type Answer = Result<(Head, Vec<u8>, bool), String>;

/// All answers of a connection, up to the first that cannot be read.
fn answers(text: &[u8], sizes: &[usize]) -> Vec<Answer> {
    let mut reader = Reader::new(Pieces::new(text, sizes));
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        let answer = reader.head().and_then(|head| {
            let (body, again) = reader.whole_body(head)?;
            assert!(body.len() <= MAX_BODY_BYTES);
            Ok((head, body, again))
        });
        let is_last = !matches!(answer, Ok((_, _, true)));
        answers.push(answer.map_err(|error| error.to_string()));
        if is_last {
            return answers;
        }
    }
}

/// The first answer as a stream is followed: its head, what its pieces had, how it ended.
fn stream(text: &[u8], sizes: &[usize]) -> (Option<Head>, Vec<u8>, String) {
    let mut reader = Reader::new(Pieces::new(text, sizes));
    let head = match reader.head() {
        Ok(head) => head,
        Err(error) => return (None, Vec::new(), error.to_string()),
    };
    let mut body = reader.body(head);
    let mut bytes = Vec::new();
    let end = loop {
        match body.piece() {
            Ok(Some(piece)) => {
                assert!((1..=MAX_HEAD_BYTES).contains(&piece.len()));
                bytes.extend_from_slice(piece);
            }
            Ok(None) => break "ended".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    (Some(head), bytes, end)
}

/// Pieces are joined to the same lines however a stream is cut, none of them longer than
/// the limit. The first line of the input has a byte for the limit, times 16, and one for
/// the size of each piece.
pub fn events(data: &[u8]) {
    let (steering, text) = first_line(data);
    let Some((&limit, sizes @ [_, ..])) = steering.split_first() else { return };
    let limit = usize::from(limit) * 16;

    let mut lines = Lines::new(limit);
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut is_too_long = false;
    let mut rest = text;
    for &size in sizes.iter().cycle() {
        if is_too_long || rest.is_empty() {
            break;
        }
        let (piece, later) = rest.split_at(usize::from(size).clamp(1, rest.len()));
        rest = later;
        let pushed = lines.push(piece, |line| {
            joined.push(line.to_vec());
            Ok(())
        });
        is_too_long = pushed.is_err();
    }

    let all = text.split_inclusive(|&byte| byte == b'\n');
    let expected: Vec<&[u8]> = all.clone().take_while(|line| line.len() <= limit).collect();
    assert_eq!(is_too_long, all.count() > expected.len());
    let is_event = |line: &&[u8]| line.ends_with(b"\n") && !line.trim_ascii().is_empty();
    assert!(joined.iter().eq(expected.into_iter().filter(is_event)), "{joined:?}");
}

/// What is read of a container or an event makes sense; what is not is refused in one line.
pub fn docker_json(data: &[u8]) {
    match parse::<Container>(data) {
        Ok(container) => {
            for published in container.published_ports() {
                let port = published.strip_suffix("/tcp").expect("UDP is not forwarded");
                if let Ok(number) = port.parse::<u16>()
                    && number.to_string() == port
                {
                    assert!(container.bindings(number).is_some_and(|list| !list.is_empty()));
                }
            }
            assert!(container.stop_timeout_s() <= 24 * 60 * 60);
            // Anything but a panic.
            let _ = (container.stop_signal(), container.state.started_ns());
        }
        Err(problem) => assert_is_shown(problem),
    }
    match parse::<Event>(data) {
        Ok(event) => {
            assert!(event.names().count() <= 2);
            let _ = event.signal();
        }
        Err(problem) => assert_is_shown(problem),
    }
    let text = report::excerpt(&api::message(data));
    assert_is_shown(Problem::Status { status: 500, text });
}

fn assert_is_shown(problem: Problem) {
    assert_is_an_excerpt(&report::chain(&Error { address: Address::default(), problem }));
}

/// A time lies in the years that are taken, and is the same when it is written out.
pub fn docker_time(data: &[u8]) {
    /// How far an offset may move a time, with a leap second.
    const OFFSET_S: i64 = 24 * 60 * 60 + 1;
    /// 2201-01-01T00:00:00Z.
    const END_S: i64 = 7_289_654_400;
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(ns) = started_ns(text) else { return };
    let seconds = ns.div_euclid(1_000_000_000);
    assert!((-OFFSET_S..END_S + OFFSET_S).contains(&seconds), "{text}");
    if (0..END_S).contains(&seconds) {
        let written = rfc3339(ns);
        assert_eq!(started_ns(&written), Some(ns), "{text} is {written}");
    }
}

fn started_ns(text: &str) -> Option<i64> {
    let mut state = State::default();
    text.clone_into(&mut state.started_at);
    state.started_ns()
}

/// Nanoseconds since 1970 as Docker writes them, by counting years and months.
fn rfc3339(ns: i64) -> String {
    let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let day = days + 1;
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}
