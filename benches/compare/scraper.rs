//! Somebody who collects the metrics of a running ambassador.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::client;

/// Prometheus collects every 15 s where nobody says otherwise; this is sooner.
const INTERVAL: Duration = Duration::from_secs(1);

/// Collects until it is dropped.
#[derive(Debug)]
pub(crate) struct Scraper {
    // Only its hang-up matters. Goes first, so that the thread ends.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    /// Starts with the first answer, so that there is one.
    pub(crate) fn start(admin: SocketAddr) -> io::Result<Self> {
        scrape(admin)?;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Err(err) = scrape(admin) {
                    say!("NOT SCRAPED: {err}");
                }
            }
        });
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A scrape has a deadline.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn scrape(admin: SocketAddr) -> io::Result<()> {
    let mut connection = client::connect(admin, client::PATIENCE)?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    match answer.contains("ambassador_instance_bytes_total") {
        true => Ok(()),
        false => Err(io::Error::other("no metrics")),
    }
}
