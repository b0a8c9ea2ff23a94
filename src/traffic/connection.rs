//! One connection: dial, copy up and copy down on a thread each, report.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use log::debug;

use super::{
    Connections, Settings,
    connections::Entry,
    copy::{Link, Side, Target},
    crew::{Crew, Job},
    dial::{self, Dialled, OwnListeners},
    listener::Listener,
    pipes::Pipes,
    pool::Pool,
    tally::Unserved,
};
use crate::{logging, report};

/// One listener, and what its clients are served with.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) listener: Listener,
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Settings,
    pub(super) own: OwnListeners,
    pub(super) connections: Arc<Connections>,
    pub(super) crew: Arc<Crew<Task>>,
    pub(super) pipes: Arc<Pipes>,
}

/// What a thread of the crew carries.
#[derive(Debug)]
pub(super) enum Task {
    /// Dial and copy up, and go on with the next client.
    Up(Arc<Service>, Entry),
    Down(Arc<Connection>),
}

impl Job for Task {
    fn run(self) {
        match self {
            Task::Up(service, entry) => {
                let mut next = Some(entry);
                while let Some(entry) = next {
                    logging::name_thread(format_args!("up-{}", entry.id));
                    serve(&service, entry);
                    logging::name_thread(format_args!("parked"));
                    next = service.next_client();
                }
            }
            Task::Down(connection) => {
                logging::name_thread(format_args!("down-{}", connection.entry.id));
                let (client, upstream) = connection.sides();
                connection.entry.link.copy(upstream, client, &connection.service.pipes);
                drop(connection);
                logging::name_thread(format_args!("parked"));
            }
        }
    }
}

impl Service {
    /// Takes in a client, once there is room for it, and has it served at once.
    pub(super) fn take_in(self: &Arc<Self>, client: (TcpStream, SocketAddr)) {
        let Some(entry) = self.enter(client) else { return };
        let link = Arc::clone(&entry.link);
        if !self.crew.run(Task::Up(Arc::clone(self), entry)) {
            link.reset_on_close();
            note_unserved(&link, Instant::now(), Unserved::NoThread);
        }
    }

    /// Takes in a client, once there is room for it. `None` when the process is ending:
    /// the client is reset.
    fn enter(&self, (client, peer): (TcpStream, SocketAddr)) -> Option<Entry> {
        let link = Link::new(client, peer, Arc::clone(&self.pool));
        if self.listener.is_shared() {
            // Where the next process serves every client that waits, none is reset.
            return Some(self.connections.enter_even_last(link));
        }
        self.connections.enter(link)
    }

    /// The next client for a thread that has served one. `None` if others see to it.
    fn next_client(&self) -> Option<Entry> {
        // Only the acceptor waits at the cap.
        if !self.connections.has_room() {
            return None;
        }
        self.enter(self.listener.help()?)
    }
}

/// A frame of its own, so that a thread that waits for a client has a small one.
#[inline(never)]
fn serve(service: &Arc<Service>, entry: Entry) {
    let Some(connection) = connect(service, entry) else { return };
    let (client, upstream) = connection.sides();
    let link = &connection.entry.link;
    if !service.crew.run(Task::Down(Arc::clone(&connection))) {
        link.reset_on_close();
        return;
    }
    link.copy(client, upstream, &service.pipes);
}

/// Dials for a client, which is reset if that is in vain. A frame of its own, as above.
#[inline(never)]
fn connect(service: &Arc<Service>, entry: Entry) -> Option<Arc<Connection>> {
    let started = Instant::now();
    let clients = service.pool.clients();
    clients.came();
    let dialled = dial::dial(&service.pool, &service.settings, &service.own, &entry.link);
    clients.went_on();
    let Dialled { stream, target } = match dialled {
        Ok(dialled) => dialled,
        Err(unserved) => {
            entry.link.reset_on_close();
            note_unserved(&entry.link, started, unserved);
            return None;
        }
    };
    clients.waits.observe(target.connected - started);
    entry.link.target.get_or_init(|| target);
    entry.link.upstream.get_or_init(|| Side::new(stream));
    Some(Arc::new(Connection { entry, started, service: Arc::clone(service) }))
}

/// The end of a connection that had no upstream. A frame of its own, as `serve` has one.
#[cold]
#[inline(never)]
fn note_unserved(link: &Link, started: Instant, unserved: Unserved) {
    link.pool.clients().unserved_for(unserved);
    debug!(
        "{}: nothing served {} for {}: {unserved}, reset",
        link.pool.name(),
        link.client_address(),
        report::duration(started.elapsed()),
    );
}

/// A connection whose upstream is dialled. The thread that is done last drops it.
#[derive(Debug)]
pub(super) struct Connection {
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
        self.note_end();
    }
}

impl Connection {
    /// A frame of its own, so that a thread that waits for bytes has a small one.
    #[inline(never)]
    fn note_end(&self) {
        let (client, upstream) = self.sides();
        let Connection { entry, started, service } = self;
        let Target { address, tally, .. } = entry.link.target.get().expect("it is dialled");
        entry.link.tally();
        tally.closed(entry.link.is_broken());
        debug!(
            "{}: {address} served {} for {}: {} bytes up, {} bytes down{}",
            service.pool.name(),
            entry.link.client_address(),
            report::duration(started.elapsed()),
            client.bytes.load(Ordering::Relaxed),
            upstream.bytes.load(Ordering::Relaxed),
            if entry.link.is_broken() { ", reset" } else { "" },
        );
    }
}
