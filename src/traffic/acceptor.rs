//! Takes in clients. Never dials, never dies.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use log::{info, warn};

use super::{
    Bound, OwnListeners, Pool, Resources, Settings, connection::Service, listener::Listener,
    sockets,
};
use crate::{
    outage::{Outage, QUIET},
    stop::Stop,
};

/// The pauses after an accept error such as EMFILE, which a connection's end may
/// mend: growing, so that it does not spin, and short, so that it goes on soon.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The thread behind one listener.
#[derive(Debug)]
pub(crate) struct Acceptor(Arc<Service>);

/// Ends an acceptor from another thread, which waits for clients.
#[derive(Debug)]
pub(crate) struct AcceptorCloser(Arc<Service>);

impl AcceptorCloser {
    /// Clients that wait in the backlog are reset, and no new one connects; where another
    /// process has the socket too, they wait for that one.
    pub(crate) fn close(&self) {
        self.0.listener.close();
    }
}

impl Acceptor {
    pub(crate) fn new(
        bound: Bound,
        pool: Arc<Pool>,
        settings: Settings,
        own: OwnListeners,
        resources: Resources,
    ) -> Self {
        let Resources { connections, crew, pipes } = resources;
        let listener = Listener::new(bound);
        Acceptor(Arc::new(Service { listener, pool, settings, own, connections, crew, pipes }))
    }

    pub(crate) fn closer(&self) -> AcceptorCloser {
        AcceptorCloser(Arc::clone(&self.0))
    }

    /// Accepts until `stop` is asked and the closer is called.
    pub(crate) fn run(self, stop: &Stop) {
        let Acceptor(service) = self;
        let name = service.pool.name();
        let mut outage = Outage::default();
        let mut pause = PAUSE_MIN;
        loop {
            let accepted = service.listener.accept(stop);
            if stop.is_asked() {
                match accepted {
                    Ok(client) if service.listener.is_shared() => service.take_in(client),
                    Ok((client, _)) => sockets::reset_on_close(&client),
                    Err(_) => {}
                }
                return;
            }
            match accepted {
                Ok(client) => {
                    if outage.ended_for(Instant::now(), QUIET).is_some() {
                        service.listener.set_short(false);
                        info!("{name}: accepting without pauses again");
                    }
                    pause = PAUSE_MIN;
                    service.take_in(client);
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    service.listener.set_short(true);
                    if outage.failed(Instant::now(), &error.to_string()).is_some() {
                        warn!("{name}: accepting pauses again and again, clients wait: {error}");
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

/// Whether accept(2) reports what happened to one client (on a shared socket, that another
/// process took it), or a signal.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}
