//! Docker's API over its socket, read only: `GET` of containers, of events and of the
//! host's name.

mod address;
mod api;
mod event;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod http1;
mod lines;
mod listed;
mod signal;
mod timestamp;
mod transport;
mod version;

use std::{
    error, fmt,
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use http1::{Head, MAX_BODY_BYTES, Reader};
use lines::Lines;
use transport::{Stream, Transport};

pub(crate) use address::Address;
pub(crate) use api::{Binding, Container, Port, Protocol};
pub(crate) use event::Event;
pub(crate) use listed::Listed;
pub(crate) use version::{OLDEST_API, Version};

use crate::{
    counters::{Counter, Requests},
    report,
};

/// The total deadline of every request. The events stream has none: it is
/// silent for as long as nothing happens.
const REQUEST_DEADLINE: Duration = Duration::from_secs(3);

/// Why Docker gave no valid answer.
#[derive(Debug)]
pub(crate) struct Error {
    address: Address,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Connect(io::Error),
    Exchange(http1::Error),
    /// Another status than 200 and the 404 of a missing container.
    Status {
        status: u16,
        text: String,
    },
    NotDockers(String),
    EventTooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.problem {
            Problem::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                f,
                "no access to Docker at {address} (run with the socket's group, or as root)"
            ),
            Problem::Connect(_) => write!(f, "no answer from Docker at {address}"),
            Problem::Exchange(http1::Error::Io(error)) if is_timeout(error) => {
                let deadline = report::duration(REQUEST_DEADLINE);
                write!(f, "no answer from Docker at {address} within {deadline}")
            }
            Problem::Exchange(_) => write!(f, "no valid answer from Docker at {address}"),
            Problem::Status { status, text } => {
                write!(f, "Docker at {address} answers with HTTP status {status}: {text}")
            }
            Problem::NotDockers(why) => {
                write!(f, "an answer that is not Docker's from {address}: {why}")
            }
            Problem::EventTooLarge => {
                write!(f, "an event of more than {MAX_BODY_BYTES} bytes from Docker at {address}")
            }
        }
    }
}

impl Error {
    /// What kept it from connecting, if that is what failed.
    pub(crate) fn no_connection(&self) -> Option<io::ErrorKind> {
        match &self.problem {
            Problem::Connect(error) => Some(error.kind()),
            _ => None,
        }
    }

    /// Whether somebody between here and Docker, who lets only some questions pass, or
    /// Docker itself did not answer this one.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.problem, Problem::Status { .. })
    }

    /// Whether it would have met any other question as well.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        match &self.problem {
            Problem::Connect(_) | Problem::Exchange(http1::Error::Closed) => true,
            Problem::Exchange(http1::Error::Io(error)) => !is_timeout(error),
            Problem::Exchange(_)
            | Problem::Status { .. }
            | Problem::NotDockers(_)
            | Problem::EventTooLarge => false,
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.problem {
            Problem::Connect(error) => Some(error),
            Problem::Exchange(http1::Error::Io(error)) if is_timeout(error) => None,
            Problem::Exchange(error) => Some(error),
            Problem::Status { .. } | Problem::NotDockers(_) | Problem::EventTooLarge => None,
        }
    }
}

/// What a read past its timeout says, by either name.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What is asked, as it is counted.
const KINDS: [&str; 4] = [INSPECT, LIST, INFO, EVENTS];
const INSPECT: &str = "inspect";
const LIST: &str = "list";
const INFO: &str = "info";
const EVENTS: &str = "events";

/// Counts what Docker is asked, and what it says unasked.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) requests: Requests,
    pub(crate) events: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        Counts { requests: Requests::new(KINDS), events: Counter::default() }
    }
}

/// Asks Docker questions, over one connection for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Client {
    address: Address,
    counts: Arc<Counts>,
    kept: Option<Reader<Transport>>,
}

impl Client {
    /// Connects lazily: nothing is sent before the first question.
    pub(crate) fn new(address: Address) -> Self {
        Client::counted(address, Arc::default())
    }

    /// The same for one whose questions are counted.
    pub(crate) fn counted(address: Address, counts: Arc<Counts>) -> Self {
        Client { address, counts, kept: None }
    }

    /// The container called `name`; `None` if there is none of exactly that name.
    ///
    /// `name` must be a container name: Docker also takes a unique prefix of an
    /// id, and `ab` would find the container `ab12…`.
    pub(crate) fn container(&mut self, name: &str) -> Result<Option<Container>, Error> {
        let found = self.inspect(name)?;
        Ok(found.filter(|container| container.name() == name))
    }

    /// The container whose id is `id`, all of it.
    pub(crate) fn container_by_id(&mut self, id: &str) -> Result<Option<Container>, Error> {
        // It becomes part of a path, and comes from whoever answers as Docker.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let id = report::excerpt(id);
            return Err(self.error(Problem::NotDockers(format!("'{id}' is no id"))));
        }
        let found = self.inspect(id)?;
        Ok(found.filter(|container| container.id == id))
    }

    fn inspect(&mut self, name: &str) -> Result<Option<Container>, Error> {
        // Without a version in the path, which every engine serves at its own.
        let (status, body) = self.get(INSPECT, &format!("/containers/{name}/json"))?;
        match status {
            200 => parse(&body).map(Some).map_err(|problem| self.error(problem)),
            404 if api::says_no_such_container(&body) => Ok(None),
            _ => Err(self.refused(status, &body)),
        }
    }

    /// Every container that runs, also those that are paused or restarting.
    pub(crate) fn running(&mut self) -> Result<Vec<Listed>, Error> {
        self.get_json(LIST, api::LIST_PATH)
    }

    /// Every container there is.
    pub(crate) fn existing(&mut self) -> Result<Vec<Listed>, Error> {
        self.get_json(LIST, api::LIST_ALL_PATH)
    }

    /// What the host is called that Docker runs on.
    pub(crate) fn host_name(&mut self) -> Result<String, Error> {
        let api::Info { name } = self.get_json(INFO, "/info")?;
        // Keys are to bear it.
        if name.is_empty() {
            return Err(self.error(Problem::NotDockers("a host without a name".to_owned())));
        }
        Ok(name)
    }

    fn get_json<T: DeserializeOwned>(
        &mut self,
        kind: &'static str,
        path: &str,
    ) -> Result<T, Error> {
        match self.get(kind, path)? {
            (200, body) => parse(&body).map_err(|problem| self.error(problem)),
            (status, body) => Err(self.refused(status, &body)),
        }
    }

    /// Which engine it is.
    pub(crate) fn version(&mut self) -> Result<Version, Error> {
        self.get_json(INFO, "/version")
    }

    /// Subscribes to the events of containers.
    pub(crate) fn events(&self) -> Result<Events, Error> {
        let events = self.subscribe();
        self.note(EVENTS, &events);
        events
    }

    fn subscribe(&self) -> Result<Events, Error> {
        let deadline = Instant::now() + REQUEST_DEADLINE;
        let mut reader = self.connect(deadline)?;
        let head = self.exchange(&mut reader, event::PATH)?;
        if head.status != 200 {
            let (body, _) = reader.whole_body(head).map_err(|error| self.exchange_error(error))?;
            return Err(self.refused(head.status, &body));
        }
        reader.source_mut().deadline = None;
        let (address, counts) = (self.address.clone(), Arc::clone(&self.counts));
        Ok(Events { address, counts, reader, head })
    }

    fn get(&mut self, kind: &'static str, path: &str) -> Result<(u16, Vec<u8>), Error> {
        let answer = self.get_uncounted(path);
        self.note(kind, &answer);
        answer
    }

    fn note<T>(&self, kind: &'static str, answer: &Result<T, Error>) {
        self.counts.requests.note(kind, answer.is_ok());
    }

    fn get_uncounted(&mut self, path: &str) -> Result<(u16, Vec<u8>), Error> {
        let deadline = Instant::now() + REQUEST_DEADLINE;
        let mut kept = self.kept.take();
        loop {
            let is_kept = kept.is_some();
            let mut reader = match kept.take() {
                Some(reader) => reader,
                None => self.connect(deadline)?,
            };
            reader.source_mut().deadline = Some(deadline);
            match self.exchange(&mut reader, path) {
                // Docker closed it meanwhile: that costs one more try, not an error.
                Err(Error { problem: Problem::Exchange(error), .. })
                    if is_kept && is_stale(&error) => {}
                Err(error) => return Err(error),
                Ok(head) => {
                    let whole = reader.whole_body(head);
                    let (body, again) = whole.map_err(|error| self.exchange_error(error))?;
                    if again {
                        self.kept = Some(reader);
                    }
                    return Ok((head.status, body));
                }
            }
        }
    }

    fn connect(&self, deadline: Instant) -> Result<Reader<Transport>, Error> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let stream = Stream::connect(&self.address, patience);
        let stream = stream.map_err(|error| self.error(Problem::Connect(error)))?;
        Ok(Reader::new(Transport { stream, deadline: Some(deadline) }))
    }

    fn exchange(&self, reader: &mut Reader<Transport>, path: &str) -> Result<Head, Error> {
        let sent = reader.source_mut().write_all(http1::request(path).as_bytes());
        sent.map_err(http1::Error::Io)
            .and_then(|()| reader.head())
            .map_err(|error| self.exchange_error(error))
    }

    fn refused(&self, status: u16, body: &[u8]) -> Error {
        let text = report::excerpt(&api::message(body));
        self.error(Problem::Status { status, text })
    }

    fn exchange_error(&self, error: http1::Error) -> Error {
        self.error(Problem::Exchange(error))
    }

    fn error(&self, problem: Problem) -> Error {
        Error { address: self.address.clone(), problem }
    }
}

/// What Docker says in JSON. serde quotes the value it does not take, however long.
fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(json)
        .map_err(|error| Problem::NotDockers(report::excerpt(&error.to_string())))
}

/// Whether a kept connection failed in a way that a new one would not.
fn is_stale(error: &http1::Error) -> bool {
    match error {
        http1::Error::Closed => true,
        http1::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        }
        _ => false,
    }
}

/// The endless answer with one event a line.
#[derive(Debug)]
pub(crate) struct Events {
    address: Address,
    counts: Arc<Counts>,
    reader: Reader<Transport>,
    head: Head,
}

impl Events {
    /// Calls `each` for every event until the stream ends, which is an error only
    /// if it did not end by itself.
    pub(crate) fn follow(mut self, mut each: impl FnMut(Event)) -> Result<(), Error> {
        let address = self.address;
        let error = |problem| Error { address: address.clone(), problem };
        let mut lines = Lines::new(MAX_BODY_BYTES);
        let mut body = self.reader.body(self.head);
        let Counts { requests, events } = &*self.counts;
        let mut count = |event| {
            events.add(1);
            each(event);
        };
        while let Some(piece) = body.piece().map_err(|e| error(Problem::Exchange(e)))? {
            requests.note_answer();
            lines.push(piece, |line| parse(line).map(&mut count)).map_err(error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_of_the_wrong_type_is_cut_in_the_error() {
        let json = format!(r#"{{"timeNano":"{}"}}"#, "long".repeat(1000));
        let Err(problem) = parse::<Event>(json.as_bytes()) else { panic!("taken") };
        let error = Error { address: Address::default(), problem };
        assert!(report::chain(&error).len() < 300, "{}", report::chain(&error));
    }
}
