//! Listens in on what a client sends to a server.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client;
use super::upstream::Upstream;

/// A relay that keeps what clients said.
pub(crate) struct Tap {
    front: Upstream,
    /// Of each connection so far.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    /// In front of `server`, at its IP address, so that the server's certificate fits.
    pub(crate) fn of(server: SocketAddr) -> Tap {
        let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let front = Upstream::serve_at((server.ip(), 0).into(), {
            let sent = sent.clone();
            move |mut client| {
                client.set_read_timeout(None)?;
                let mut to_server = client::connect(server)?;
                to_server.set_read_timeout(None)?;
                // Hundreds of requests of two pieces each must not wait for one another.
                to_server.set_nodelay(true)?;
                client.set_nodelay(true)?;
                let (mut from_server, mut to_client) =
                    (to_server.try_clone()?, client.try_clone()?);
                thread::spawn(move || {
                    drop(io::copy(&mut from_server, &mut to_client));
                    drop(to_client.shutdown(Shutdown::Both));
                });
                let number = {
                    let mut sent = sent.lock().unwrap();
                    sent.push(Vec::new());
                    sent.len() - 1
                };
                let mut piece = [0; 16 * 1024];
                let outcome = loop {
                    match client.read(&mut piece) {
                        Ok(0) => break Ok(()),
                        Err(error) => break Err(error),
                        Ok(length) => {
                            sent.lock().unwrap()[number].extend(&piece[..length]);
                            if let Err(error) = to_server.write_all(&piece[..length]) {
                                break Err(error);
                            }
                        }
                    }
                };
                drop(to_server.shutdown(Shutdown::Both));
                outcome
            }
        });
        Tap { front, sent }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// How many connections it has accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.front.accepted()
    }

    /// Everything that clients sent, as text.
    pub(crate) fn text(&self) -> String {
        let sent = self.sent.lock().unwrap();
        sent.iter().map(|sent| String::from_utf8_lossy(sent)).collect()
    }

    /// What clients said that is more than it takes to learn who the server is, and, at
    /// most, that it is not the right one.
    pub(crate) fn more_than_greetings(&self) -> Option<String> {
        const HANDSHAKE: u8 = 22;
        const APPLICATION_DATA: u8 = 23;
        /// Two alerts that are encrypted: 2 bytes, their type and the tag of the cipher
        /// each. Any request is longer.
        const ALERTS: usize = 2 * (2 + 1 + 16);
        self.sent.lock().unwrap().iter().filter(|sent| !sent.is_empty()).find_map(|sent| {
            let records = tls_records(sent);
            let data = records.iter().filter(|(kind, _)| *kind == APPLICATION_DATA);
            let length: usize = data.map(|(_, length)| length).sum();
            match records.first() {
                Some((HANDSHAKE, _)) if length <= ALERTS => None,
                Some((HANDSHAKE, _)) => Some(format!("{length} bytes of application data")),
                _ => Some(String::from_utf8_lossy(sent).into_owned()),
            }
        })
    }
}

/// The type and the length of each record.
fn tls_records(mut stream: &[u8]) -> Vec<(u8, usize)> {
    let mut records = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = stream {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records.push((*kind, length));
        stream = rest.get(length..).unwrap_or_default();
    }
    records
}
