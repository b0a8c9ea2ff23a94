//! Servers that stand behind the ambassadors.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, fresh_ip};

/// A TCP server on a free loopback port; it stops when dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Has `serve` talk to each client, in a thread of its own.
    pub(crate) fn serve(
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Upstream {
        Upstream::serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
    }

    pub(crate) fn serve_at(
        address: SocketAddr,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind(address).unwrap();
        // std's is 128: on a busy machine more wait for it, and those that do not fit see a
        // connect that times out. Listening again only changes that.
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(serve);
        let acceptor = thread::spawn({
            let (accepted, stopped) = (accepted.clone(), stopped.clone());
            move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let Ok(stream) = stream else { continue };
                    accepted.fetch_add(1, Ordering::SeqCst);
                    stream.set_read_timeout(Some(DEADLINE)).unwrap();
                    stream.set_write_timeout(Some(DEADLINE)).unwrap();
                    let serve = serve.clone();
                    // How a client ends is for the test to judge, on the client's side.
                    thread::spawn(move || drop(serve(stream)));
                }
            }
        });
        Upstream { address, accepted, stopped, acceptor: Some(acceptor) }
    }

    /// Says `greeting` and ends the connection.
    pub(crate) fn greeter(greeting: &str) -> Upstream {
        Upstream::greeter_at(SocketAddr::from(([127, 0, 0, 1], 0)), greeting)
    }

    pub(crate) fn greeter_at(address: SocketAddr, greeting: &str) -> Upstream {
        let greeting = greeting.to_owned();
        Upstream::serve_at(address, move |mut client| client.write_all(greeting.as_bytes()))
    }

    /// Sends back what it receives until the client has finished sending.
    pub(crate) fn echo() -> Upstream {
        Upstream::serve(|mut client| {
            let mut buffer = [0; 16 * 1024];
            loop {
                match client.read(&mut buffer)? {
                    0 => return client.shutdown(Shutdown::Write),
                    length => client.write_all(&buffer[..length])?,
                }
            }
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The value that registers it in etcd.
    pub(crate) fn registration(&self) -> String {
        registration(self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor; refused means that it has ended already.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

/// The value that the registrar writes for `address`.
pub(crate) fn registration(address: SocketAddr) -> String {
    format!(r#"{{ "port": {}, "host": "{}" }}"#, address.port(), address.ip())
}

/// Ends the connection with RST instead of FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A listener whose backlog is full: the kernel drops what else would connect.
pub(crate) fn silent_address() -> (SocketAddr, Vec<Socket>) {
    silent_at((fresh_ip(), 6379).into())
}

/// The same at `address`, which may be every address, and whose port may be 0.
pub(crate) fn silent_at(address: SocketAddr) -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = fill_backlog(address);
    sockets.push(listener);
    (address, sockets)
}

/// Connects to a listener of a small backlog until it takes no more.
pub(crate) fn fill_backlog(address: SocketAddr) -> Vec<Socket> {
    let mut sockets = Vec::new();
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        match client.connect_timeout(&address.into(), Duration::from_millis(200)) {
            Ok(()) => sockets.push(client),
            Err(_) => return sockets,
        }
    }
}
