//! The daemon's listener and its connections.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};

use super::super::http::percent_decode;
use super::containers::Containers;
use super::events;
use super::wire::{self, Answer, Fault, Framing, Wire};

/// What an open events stream is to do next; `None` is its end.
type Piece = Option<EventPiece>;

#[derive(Clone)]
pub(super) enum EventPiece {
    Event(Arc<Value>),
    Raw(Arc<Vec<u8>>),
}

impl From<Arc<Value>> for EventPiece {
    fn from(event: Arc<Value>) -> EventPiece {
        EventPiece::Event(event)
    }
}

impl From<Vec<u8>> for EventPiece {
    fn from(bytes: Vec<u8>) -> EventPiece {
        EventPiece::Raw(Arc::new(bytes))
    }
}

#[derive(Default)]
pub(super) struct Behaviour {
    pub(super) framing: Framing,
    pub(super) fault: Option<Fault>,
    pub(super) events_fault: Option<Fault>,
    /// The id of a container that cannot be inspected.
    pub(super) sick: Option<String>,
}

/// What all connections see; it outlives a restart of the daemon.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) containers: Mutex<Containers>,
    pub(super) requests: Mutex<Vec<String>>,
    behaviour: Mutex<Behaviour>,
    streams: Mutex<Vec<Sender<Piece>>>,
}

impl Shared {
    pub(super) fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    pub(super) fn publish(&self, piece: Piece) {
        // A stream whose client is gone has dropped its receiver.
        self.streams.lock().unwrap().retain(|stream| stream.send(piece.clone()).is_ok());
    }

    fn subscribe(&self) -> Receiver<Piece> {
        let (sender, receiver) = unbounded();
        self.streams.lock().unwrap().push(sender);
        receiver
    }
}

/// A listener and everything that was accepted from it; dropping it closes all.
pub(super) struct Listening {
    place: Place,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<Box<dyn Wire>>>>,
    acceptor: Option<JoinHandle<()>>,
}

enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Listening {
    pub(super) fn on_unix(path: &Path, shared: &Arc<Shared>) -> Listening {
        let listener = UnixListener::bind(path).unwrap();
        let accept = move || listener.accept().map(|(stream, _)| Box::new(stream) as Box<dyn Wire>);
        Listening::start(Place::Unix(path.to_owned()), shared, accept)
    }

    pub(super) fn on_tcp(address: SocketAddr, shared: &Arc<Shared>) -> Listening {
        let listener = TcpListener::bind(address).unwrap();
        let accept = move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        };
        Listening::start(Place::Tcp(address), shared, accept)
    }

    fn start(
        place: Place,
        shared: &Arc<Shared>,
        accept: impl Fn() -> io::Result<Box<dyn Wire>> + Send + 'static,
    ) -> Listening {
        let stopped = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let acceptor = thread::spawn({
            let (stopped, open, shared) = (stopped.clone(), open.clone(), shared.clone());
            move || {
                while let Ok(wire) = accept() {
                    if stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    open.lock().unwrap().push(wire.another().unwrap());
                    let shared = shared.clone();
                    // A client that leaves in the middle is no concern of the daemon.
                    thread::spawn(move || drop(serve(wire, &shared)));
                }
            }
        });
        Listening { place, stopped, open, acceptor: Some(acceptor) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor; refused means that it has ended already.
        match &self.place {
            Place::Unix(path) => drop(UnixStream::connect(path)),
            Place::Tcp(address) => drop(TcpStream::connect(address)),
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
        for wire in self.open.lock().unwrap().iter() {
            wire.close();
        }
    }
}

/// Answers one request after the other until the client has no more.
fn serve(mut wire: Box<dyn Wire>, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(wire.another()?);
    while let Some(request) = read_request(&mut reader)? {
        shared.requests.lock().unwrap().push(request.line.clone());
        if !answer(&mut *wire, shared, &request)? {
            break;
        }
    }
    wire.close();
    Ok(())
}

struct Request {
    line: String,
    path: String,
    query: String,
    has_host: bool,
    wants_close: bool,
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let target = lines[0].split(' ').nth(1).unwrap_or("");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let has = |start: &str| lines.iter().any(|line| line.to_lowercase().starts_with(start));
    Ok(Some(Request {
        path: percent_decode(path),
        query: query.to_owned(),
        has_host: has("host:"),
        wants_close: has("connection: close"),
        line: lines.swap_remove(0),
    }))
}

/// `false` when the connection ends with the answer.
fn answer(wire: &mut dyn Wire, shared: &Shared, request: &Request) -> io::Result<bool> {
    let version = shared.containers.lock().unwrap().version;
    let is_events = request.path == "/events";
    let (framing, fault) = {
        let behaviour = shared.behaviour();
        let fault = if is_events { &behaviour.events_fault } else { &behaviour.fault };
        (behaviour.framing, fault.clone())
    };
    if let Some(fault) = fault {
        wire::misbehave(wire, version, &fault)?;
        return Ok(false);
    }
    let filters = match filters(&request.query) {
        Ok(filters) => filters,
        Err(answer) => return wire::send(wire, version, &answer, framing),
    };
    if is_events {
        follow_events(wire, shared, &filters, framing)?;
        return Ok(false);
    }
    let answer = match &request.path[..] {
        _ if !request.has_host => Answer {
            status: 400,
            content_type: "text/plain; charset=utf-8",
            body: b"400 Bad Request: missing required Host header".to_vec(),
        },
        "/_ping" => {
            Answer { status: 200, content_type: "text/plain; charset=utf-8", body: b"OK".to_vec() }
        }
        "/version" => {
            let components = json!([{"Name": version.engine(), "Version": "fake"}]);
            Answer::json(
                200,
                &json!({
                    "Version": "fake", "ApiVersion": version.api(), "Components": components,
                }),
            )
        }
        "/info" => Answer::json(200, &info(shared)),
        "/containers/json" => {
            let all = ["all=1", "all=true"].iter().any(|all| request.query.contains(all));
            Answer::json(200, &shared.containers.lock().unwrap().list(all, &filters))
        }
        path => inspect(shared, path),
    };
    Ok(wire::send(wire, version, &answer, framing)? && !request.wants_close)
}

fn info(shared: &Shared) -> Value {
    let [all, running, paused] = shared.containers.lock().unwrap().counts();
    json!({
        "ID": "FAKE", "Name": "fake-host", "Containers": all, "ContainersRunning": running,
        "ContainersPaused": paused, "ContainersStopped": all - running - paused,
    })
}

fn inspect(shared: &Shared, path: &str) -> Answer {
    let name = path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json"));
    let Some(name) = name else {
        return Answer::json(404, &json!({"message": "page not found"}));
    };
    if shared.behaviour().sick.as_deref() == Some(name) {
        return Answer::json(500, &json!({"message": "layer does not exist"}));
    }
    match shared.containers.lock().unwrap().inspect(name) {
        Some(inspected) => Answer::json(200, &inspected),
        None => Answer::json(404, &json!({"message": format!("No such container: {name}")})),
    }
}

/// The `filters` of a query: an empty object when there are none.
fn filters(query: &str) -> Result<Value, Answer> {
    let encoded = query.split('&').find_map(|pair| pair.strip_prefix("filters="));
    let Some(encoded) = encoded else { return Ok(json!({})) };
    let known = ["type", "event", "container", "name", "status", "label", "id"];
    match serde_json::from_str::<Value>(&percent_decode(encoded)) {
        Ok(Value::Object(filters)) => match filters.keys().find(|key| !known.contains(&&key[..])) {
            None => Ok(Value::Object(filters)),
            Some(key) => {
                Err(Answer::json(400, &json!({"message": format!("Invalid filter '{key}'")})))
            }
        },
        _ => Err(Answer::json(500, &json!({"message": "invalid character"}))),
    }
}

fn follow_events(
    wire: &mut dyn Wire,
    shared: &Shared,
    filters: &Value,
    framing: Framing,
) -> io::Result<()> {
    let pieces = shared.subscribe();
    let version = shared.containers.lock().unwrap().version;
    let is_chunked = framing != Framing::CloseDelimited;
    let ending = if is_chunked { wire::CHUNKED } else { "Connection: close\r\n" };
    // At once, before any event.
    wire.write_all(wire::head(version, 200, "application/json", ending).as_bytes())?;
    for piece in pieces {
        let bytes = match piece {
            Some(EventPiece::Event(event)) if events::passes(&event, filters) => {
                format!("{event}\n").into_bytes()
            }
            Some(EventPiece::Event(_)) => continue,
            Some(EventPiece::Raw(bytes)) => bytes.to_vec(),
            None => break,
        };
        let framed = if is_chunked { wire::chunk(&bytes) } else { bytes };
        match framing {
            Framing::ByteByByte => framed.iter().try_for_each(|&byte| wire.write_all(&[byte]))?,
            _ => wire.write_all(&framed)?,
        }
    }
    if is_chunked {
        wire.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}
