//! One connection: dial, copy up and copy down on a thread each, report.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Instant,
};

use log::{debug, warn};

use super::{
    Settings,
    connections::Entry,
    copy::{Link, Side},
    dial::{self, OwnListeners},
    pool::Pool,
};
use crate::report;

/// The stack of a connection's thread: its largest frames are a copy buffer and
/// glibc's name lookup. Only pages that are touched cost memory.
const STACK_BYTES: usize = 128 * 1024;

/// What every connection of one listener is served with.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Settings,
    pub(super) own: OwnListeners,
}

/// Serves the client of `entry` on a thread of its own.
pub(super) fn start(service: &Service, entry: Entry) -> io::Result<JoinHandle<()>> {
    let service = service.clone();
    let link = Arc::clone(&entry.link);
    spawn(format!("up-{}", entry.id), move || serve(&service, &entry)).inspect_err(|_| {
        // The closure, and with it the client, is gone.
        link.reset_on_close();
    })
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(body)
}

fn serve(service: &Service, entry: &Entry) {
    let started = Instant::now();
    let link = &entry.link;
    let client = &link.client;
    let Service { pool, settings, own } = service;
    let Some((stream, target)) = dial::dial(pool, settings, own, &client.stream) else {
        link.reset_on_close();
        return;
    };
    let upstream = link.upstream.get_or_init(|| Side::new(stream));
    match spawn(format!("down-{}", entry.id), copy_down(Arc::clone(link))) {
        Ok(down) => {
            link.copy(client, upstream);
            if down.join().is_err() {
                link.reset_on_close(); // A panic, which the hook has logged.
            }
        }
        Err(error) => {
            warn!("{}: no thread for a connection, it is reset: {error}", pool.name());
            link.reset_on_close();
        }
    }
    debug!(
        "{}: {target} served {} for {}: {} bytes up, {} bytes down{}",
        pool.name(),
        peer(link),
        report::duration(started.elapsed()),
        client.bytes.load(Ordering::Relaxed),
        upstream.bytes.load(Ordering::Relaxed),
        if link.is_broken() { ", reset" } else { "" },
    );
}

fn copy_down(link: Arc<Link>) -> impl FnOnce() + Send + 'static {
    move || {
        let upstream = link.upstream.get().expect("it was dialled before this thread started");
        link.copy(upstream, &link.client);
    }
}

fn peer(link: &Link) -> String {
    let peer = link.client.stream.peer_addr();
    // A reset socket no longer knows its peer.
    peer.map_or_else(|_| "a client".to_owned(), |address| address.to_string())
}
