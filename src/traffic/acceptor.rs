//! Takes in clients. Never dials, never dies.

use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use log::{debug, warn};

use super::{
    Bound, Connections, OwnListeners, Pool, Settings,
    connection::{self, Service},
    copy::Link,
    sockets,
};
use crate::{outage::Outage, stop::Stop};

/// The pauses after an accept error such as EMFILE, which a connection's end may
/// mend: growing, so that it does not spin, and short, so that it goes on soon.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Threads that may have ended before their handles are looked through.
const SWEEP_MIN: usize = 64;

/// One listener and what its clients are served with.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Arc<TcpListener>,
    service: Service,
    connections: Arc<Connections>,
}

/// Ends an acceptor from another thread, which is blocked in accept(2).
#[derive(Debug)]
pub(crate) struct AcceptorCloser(Arc<TcpListener>);

impl AcceptorCloser {
    /// Clients that wait in the backlog are reset; no new one connects.
    pub(crate) fn close(&self) {
        // On Linux this wakes accept(2) with EINVAL and frees the port's backlog.
        let _ = rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Both);
    }
}

impl Acceptor {
    pub(crate) fn new(
        bound: Bound,
        pool: Arc<Pool>,
        settings: Settings,
        own: OwnListeners,
        connections: Arc<Connections>,
    ) -> Self {
        let service = Service { pool, settings, own };
        Acceptor { listener: Arc::new(bound.listener), service, connections }
    }

    pub(crate) fn closer(&self) -> AcceptorCloser {
        AcceptorCloser(Arc::clone(&self.listener))
    }

    /// Accepts until `stop` is asked and the closer is called.
    pub(crate) fn run(self, stop: &Stop) {
        let name = self.service.pool.name().to_owned();
        let mut outage = Outage::default();
        let mut pause = PAUSE_MIN;
        let mut threads = Threads::default();
        loop {
            let accepted = self.listener.accept();
            if stop.is_asked() {
                if let Ok((client, _)) = accepted {
                    sockets::reset_on_close(&client);
                }
                return;
            }
            match accepted {
                Ok((client, _)) => {
                    if outage.ended(Instant::now()).is_some() {
                        debug!("{name}: accepting again");
                    }
                    pause = PAUSE_MIN;
                    let Some(entry) = self.connections.enter(Link::new(client)) else { return };
                    match connection::start(&self.service, entry) {
                        Ok(thread) => threads.add(thread),
                        Err(error) => warn!("{name}: no thread for a client, it is reset: {error}"),
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if outage.failed(Instant::now()).is_some() {
                        warn!("{name}: accepting pauses, clients wait: {error}");
                    }
                    if stop.wait(pause) {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// Whether accept(2) reports what happened to one client, or a signal.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted};
    matches!(error.kind(), ConnectionAborted | Interrupted)
}

/// The threads of open connections, joined some time after they ended.
#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    alive: usize,
}

impl Threads {
    fn add(&mut self, handle: JoinHandle<()>) {
        self.handles.push(handle);
        // Looked through only when half of them may be done, so that the cost of
        // one more connection does not grow with their number.
        if self.handles.len() >= SWEEP_MIN.max(2 * self.alive) {
            for ended in self.handles.extract_if(.., |handle| handle.is_finished()) {
                let _ = ended.join(); // A panic, which the hook has logged.
            }
            self.alive = self.handles.len();
        }
    }
}
