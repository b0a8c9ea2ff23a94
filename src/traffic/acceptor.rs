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

/// An acceptor as other threads see it.
#[derive(Debug)]
pub(crate) struct AcceptorHandle(Arc<Service>);

impl AcceptorHandle {
    /// Clients that wait in the backlog are reset, and no new one connects; where another
    /// process has the socket too, they wait for that one.
    pub(crate) fn close(&self) {
        self.0.listener.close();
    }

    /// For a watchdog: if a client waits that could be served, how many were before it. The
    /// same number a while later means that the acceptor is stuck. One that waits for a
    /// client, for room or for descriptors is not.
    pub(crate) fn waits_after(&self) -> Option<u64> {
        self.0.listener.waits_after().filter(|_| self.0.connections.has_room())
    }

    /// Whose clients it accepts.
    pub(crate) fn name(&self) -> &str {
        self.0.pool.name()
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

    pub(crate) fn handle(&self) -> AcceptorHandle {
        AcceptorHandle(Arc::clone(&self.0))
    }

    /// Accepts until `stop` is asked and its handle is closed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connect, stop,
        traffic::{Balance, sockets},
    };

    fn acceptor(max_connections: usize) -> (Acceptor, std::net::SocketAddr) {
        let bound = sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address;
        let settings = Settings {
            connect_timeout: Duration::from_secs(1),
            wait: Duration::from_secs(60),
            eject: Duration::ZERO,
            send_proxy: None,
        };
        let pool = Arc::new(Pool::new("nobody".to_owned(), Balance::RoundRobin));
        let resources = Resources::new(max_connections, 0);
        (Acceptor::new(bound, pool, settings, OwnListeners::default(), resources), address)
    }

    fn client(address: std::net::SocketAddr) -> std::net::TcpStream {
        connect::tcp(address, Duration::from_secs(5)).unwrap()
    }

    fn eventually(condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_client_waits_for_an_acceptor_that_is_not_there_and_for_no_other() {
        let (acceptor, address) = acceptor(1);
        let handle = acceptor.handle();
        assert_eq!(handle.waits_after(), None, "there is no client");
        let _first = client(address);
        eventually(|| handle.waits_after() == Some(0));
        let (guard, stop) = stop::pair();
        std::thread::scope(|scope| {
            scope.spawn(|| acceptor.run(&stop));
            eventually(|| handle.waits_after().is_none());
            // One is taken in, one is in the acceptor's hand, and one in the backlog.
            let _others = [client(address), client(address)];
            eventually(|| handle.0.listener.waits_after() == Some(2));
            assert_eq!(handle.waits_after(), None, "there is no room");
            drop(guard);
            handle.0.connections.close();
            handle.0.pool.close();
            handle.close();
        });
    }
}
