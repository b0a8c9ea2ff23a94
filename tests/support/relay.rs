//! Links between a client and a server that lose, hold or spoil what they carry.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::client;
use super::etcd::is_poll;
use super::upstream::{Upstream, reset};

/// What a link does with what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Passes,
    /// Keeps everything to itself, and passes it on later, as a cable does that is pulled
    /// and put back: TCP sends again what was lost.
    IsCut,
    /// Passes requests on and keeps the answers to itself, for as long as the connection
    /// lasts.
    LosesAnswers,
    /// Holds every piece for so long.
    Delays(Duration),
    /// Resets connections, at the next piece.
    Resets,
    /// Answers every request with this itself. What the server still says to
    /// earlier requests passes.
    Answers(String, Then),
}

/// What comes after an answer that the link made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Fin,
    Reset,
    Silence,
    /// This, again and again.
    Flood(String),
}

/// A relay in front of one server, whose link a test can change.
pub(crate) struct Relay {
    front: Upstream,
    link: Arc<Mutex<Link>>,
    has_polled: Arc<AtomicBool>,
}

impl Relay {
    pub(crate) fn to(server: SocketAddr) -> Relay {
        let link = Arc::new(Mutex::new(Link::Passes));
        let has_polled = Arc::new(AtomicBool::new(false));
        let front = Upstream::serve({
            let (link, has_polled) = (link.clone(), has_polled.clone());
            move |client| {
                let polls = AtomicBool::new(false);
                relay(client, server, |_, piece| {
                    let piece = String::from_utf8_lossy(piece);
                    polls.fetch_or(is_poll(&piece), Ordering::SeqCst);
                    let link = link.lock().unwrap().clone();
                    let is_answer = piece.starts_with("HTTP/");
                    if link == Link::Passes && is_answer && polls.load(Ordering::SeqCst) {
                        has_polled.store(true, Ordering::SeqCst);
                    }
                    link
                })
            }
        });
        Relay { front, link, has_polled }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.front.address()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn set(&self, link: Link) {
        *self.link.lock().unwrap() = link;
    }

    /// Whether a poll was passed on: etcd sends the head of its answer at once. The request
    /// may come in pieces, and all of them must be through before the link is changed.
    pub(crate) fn has_polled(&self) -> bool {
        self.has_polled.load(Ordering::SeqCst)
    }

    /// How many connections it has accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.front.accepted()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // So that nobody goes on looking at a link that stays cut.
        self.set(Link::Resets);
    }
}

/// Passes each request on to the server that `choose` says, on a connection of its own.
pub(crate) fn per_request(choose: impl Fn(&str) -> SocketAddr + Send + Sync + 'static) -> Upstream {
    Upstream::serve(move |mut client| {
        let Some(request) = read_request(&mut client)? else { return Ok(()) };
        let mut server = client::connect(choose(&request))?;
        // A poll may be silent for longer than any test waits for an answer.
        server.set_read_timeout(None)?;
        // Or else the client would send the next one on the same connection.
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        server.write_all(request.as_bytes())?;
        io::copy(&mut server, &mut client).map(drop)
    })
}

/// The head of a request and its body, if it has a length; `None` where none comes.
fn read_request(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = client.read(&mut piece)?;
        if length == 0 {
            return Ok(None);
        }
        request.extend(&piece[..length]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(Some(text.into_owned()));
        }
    }
}

/// How often a link that is cut is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Passes bytes between `client` and `server` as `link` says, which is asked with the
/// first request of the connection and the piece that is to be passed on.
pub(super) fn relay(
    mut client: TcpStream,
    server: SocketAddr,
    link: impl Fn(&str, &[u8]) -> Link + Sync,
) -> io::Result<()> {
    // As above.
    client.set_read_timeout(None)?;
    let mut first = vec![0; 64 * 1024];
    let length = client.read(&mut first)?;
    first.truncate(length);
    let request = String::from_utf8_lossy(&first).into_owned();
    let is_deaf = AtomicBool::new(false);
    let link = |piece: &[u8]| {
        if is_deaf.load(Ordering::SeqCst) {
            return Link::LosesAnswers;
        }
        let link = link(&request, piece);
        is_deaf.fetch_or(link == Link::LosesAnswers, Ordering::SeqCst);
        link
    };
    let decided = until_whole(&link, &first);
    let mut to_server = client::connect(server)?;
    to_server.set_read_timeout(None)?;
    let (mut from_server, mut to_client) = (to_server.try_clone()?, client.try_clone()?);
    let is_reset = AtomicBool::new(false);
    let note = |end: io::Result<End>| {
        if matches!(end, Ok(End::Reset)) {
            is_reset.store(true, Ordering::SeqCst);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            note(pass(None, &mut from_server, &mut to_client, &link, Towards::Client));
            // Wakes the other thread. A reset must not come after a FIN.
            let is_reset = is_reset.load(Ordering::SeqCst);
            let how = if is_reset { Shutdown::Read } else { Shutdown::Both };
            drop(to_client.shutdown(how));
        });
        let first = Some((first, decided));
        note(pass(first, &mut client, &mut to_server, &link, Towards::Server));
        drop(to_server.shutdown(Shutdown::Both));
    });
    if is_reset.into_inner() {
        reset(client);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Towards {
    Client,
    Server,
}

/// How the client's connection is to end.
enum End {
    Fin,
    Reset,
}

/// What the link does with `piece`, once it is not cut.
fn until_whole(link: &impl Fn(&[u8]) -> Link, piece: &[u8]) -> Link {
    loop {
        match link(piece) {
            Link::IsCut => thread::sleep(LOOK),
            decided => return decided,
        }
    }
}

/// Passes bytes on from one side to the other until one of them, or the link, ends it.
/// `first` is a piece that was read, and what the link does with it.
fn pass(
    mut first: Option<(Vec<u8>, Link)>,
    from: &mut TcpStream,
    to: &mut TcpStream,
    link: &impl Fn(&[u8]) -> Link,
    towards: Towards,
) -> io::Result<End> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (piece, decided) = match first.take() {
            Some(first) => first,
            None => {
                let length = from.read(&mut buffer)?;
                if length == 0 {
                    return Ok(End::Fin);
                }
                let piece = buffer[..length].to_vec();
                let decided = until_whole(link, &piece);
                (piece, decided)
            }
        };
        match (decided, towards) {
            (Link::Delays(pause), _) => thread::sleep(pause),
            (Link::Resets, _) => return Ok(End::Reset),
            (Link::LosesAnswers, Towards::Client) => continue,
            (Link::Answers(answer, then), Towards::Server) => {
                return misbehave(from, &answer, then);
            }
            // A link that is cut was waited for.
            (Link::Passes | Link::IsCut | Link::LosesAnswers | Link::Answers(..), _) => {}
        }
        to.write_all(&piece)?;
    }
}

fn misbehave(client: &mut TcpStream, answer: &str, then: Then) -> io::Result<End> {
    client.write_all(answer.as_bytes())?;
    match then {
        Then::Reset => return Ok(End::Reset),
        Then::Fin => client.shutdown(Shutdown::Write)?,
        Then::Silence => {}
        Then::Flood(piece) => loop {
            client.write_all(piece.as_bytes())?;
            // Endless, and yet no load on the machine.
            thread::sleep(LOOK);
        },
    }
    // What is unread when it is closed would make a reset of the FIN.
    io::copy(client, &mut io::sink())?;
    Ok(End::Fin)
}
