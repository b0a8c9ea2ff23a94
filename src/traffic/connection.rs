//! One connection: dial, copy up and copy down on a thread each, report.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use log::{debug, warn};

use super::{
    Settings,
    connections::Entry,
    copy::{Link, Side},
    crew::Crew,
    dial::{self, OwnListeners},
    pipes::Pipes,
    pool::Pool,
};
use crate::report;

/// What every connection of one listener is served with.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Settings,
    pub(super) own: OwnListeners,
    pub(super) crew: Arc<Crew>,
    pub(super) pipes: Arc<Pipes>,
}

/// Serves the client of `entry` on threads of the crew.
pub(super) fn start(service: &Arc<Service>, entry: Entry) -> io::Result<()> {
    let link = Arc::clone(&entry.link);
    let name = format!("up-{}", entry.id);
    let up = {
        let service = Arc::clone(service);
        move || serve(&service, entry)
    };
    // Without a thread the closure, and with it the client, is dropped.
    service.crew.run(name, up).inspect_err(|_| link.reset_on_close())
}

fn serve(service: &Arc<Service>, entry: Entry) {
    let started = Instant::now();
    let Service { pool, settings, own, crew, pipes } = &**service;
    let Some((stream, target)) = dial::dial(pool, settings, own, &entry.link) else {
        entry.link.reset_on_close();
        return;
    };
    entry.link.target.get_or_init(|| target);
    entry.link.upstream.get_or_init(|| Side::new(stream));
    let name = format!("down-{}", entry.id);
    let connection = Arc::new(Connection { entry, started, service: Arc::clone(service) });
    let down = {
        let connection = Arc::clone(&connection);
        move || {
            let (client, upstream) = connection.sides();
            connection.entry.link.copy(upstream, client, &connection.service.pipes);
        }
    };
    if let Err(error) = crew.run(name, down) {
        warn!("{}: no thread for a connection, it is reset: {error}", pool.name());
        connection.entry.link.reset_on_close();
        return;
    }
    let (client, upstream) = connection.sides();
    connection.entry.link.copy(client, upstream, pipes);
}

/// A connection whose upstream is dialled. The thread that is done last drops it.
#[derive(Debug)]
struct Connection {
    entry: Entry,
    started: Instant,
    service: Arc<Service>,
}

impl Connection {
    /// Client and upstream.
    fn sides(&self) -> (&Side, &Side) {
        let Link { client, upstream, .. } = &*self.entry.link;
        (client, upstream.get().expect("it is dialled"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (client, upstream) = self.sides();
        let Connection { entry, started, service } = &*self;
        let target = entry.link.target.get().expect("it is dialled");
        service.pool.closed(target);
        debug!(
            "{}: {target} served {} for {}: {} bytes up, {} bytes down{}",
            service.pool.name(),
            entry.link.peer,
            report::duration(started.elapsed()),
            client.bytes.load(Ordering::Relaxed),
            upstream.bytes.load(Ordering::Relaxed),
            if entry.link.is_broken() { ", reset" } else { "" },
        );
    }
}
