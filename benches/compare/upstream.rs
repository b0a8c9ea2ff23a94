//! The far end of most measurements: one address that echoes small messages
//! and swallows bulk. The first byte of a connection says which.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll,
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::{Domain, Socket, Type};

/// The first byte of a connection that wants its bytes back.
pub(crate) const ECHO: u8 = b'e';

/// The first byte of a connection whose bytes are counted and thrown away.
pub(crate) const SWALLOW: u8 = b's';

/// Marks the listener among the events; no descriptor has this number.
const LISTENER: u64 = u64::MAX;

/// What one call takes from a bulk connection at most: more than a socket
/// buffer of loopback holds.
const GULP: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    swallowed: Arc<Swallowed>,
    stop: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Swallowed {
    bytes: AtomicU64,
    connections: AtomicUsize,
}

impl Upstream {
    pub(crate) fn start() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        // Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.listen(4096)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let swallowed = Arc::new(Swallowed::default());
        let stop = Arc::new(AtomicBool::new(false));
        let echo = Echo::new(listener, Arc::clone(&swallowed))?;
        let stopped = Arc::clone(&stop);
        let echo = thread::Builder::new().name("echo".into()).spawn(move || {
            if let Err(err) = echo.run(&stopped) {
                say!("the upstream ended: {err}");
            }
        })?;
        Ok(Self { address, swallowed, stop, echo: Some(echo) })
    }

    pub(crate) fn swallowed_bytes(&self) -> u64 {
        self.swallowed.bytes.load(Ordering::Relaxed)
    }

    /// Waits until no bulk is under way: what one proxy still holds back must
    /// not be counted for the next.
    pub(crate) fn settle(&self, longest: Duration) {
        let until = Instant::now() + longest;
        while self.swallowed.connections.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // One more connection wakes it. If that fails it has ended already.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(echo)) = (woken, self.echo.take()) {
            // A panic in it has been printed by itself.
            let _ = echo.join();
        }
    }
}

/// One thread for all small messages, so that a wake-up is shared by those
/// that arrive together and the far end costs as little as it can.
struct Echo {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, TcpStream>,
    swallowed: Arc<Swallowed>,
}

impl Echo {
    fn new(listener: TcpListener, swallowed: Arc<Swallowed>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self { epoll, listener, connections: HashMap::new(), swallowed })
    }

    fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        while !stop.load(Ordering::Relaxed) {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    connection => self.answer(connection)?,
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let connection = match self.listener.accept() {
                Ok((connection, _)) => connection,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // It was reset while it waited.
                Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(err) => return Err(err),
            };
            let key = connection.as_raw_fd() as u64;
            let data = epoll::EventData::new_u64(key);
            epoll::add(&self.epoll, &connection, data, epoll::EventFlags::IN)?;
            self.connections.insert(key, connection);
        }
    }

    /// Reads once; the kernel says so again while there is more.
    fn answer(&mut self, key: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get(&key) else { return Ok(()) };
        let mut buffer = [0; 4096];
        let read = recv(connection, &mut buffer[..], RecvFlags::DONTWAIT).map_or(0, |(n, _)| n);
        if read == 0 {
            // Closing takes it out of the set.
            self.connections.remove(&key);
            return Ok(());
        }
        if buffer[0] == SWALLOW {
            epoll::delete(&self.epoll, connection)?;
            self.swallowed.bytes.fetch_add(read as u64, Ordering::Relaxed);
            return match self.connections.remove(&key) {
                Some(connection) => self.swallow(connection),
                None => Ok(()),
            };
        }
        if send(connection, &buffer[..read], SendFlags::NOSIGNAL) != Ok(read) {
            self.connections.remove(&key);
        }
        Ok(())
    }

    /// Gives bulk a thread of its own, which ends with the connection.
    fn swallow(&self, connection: TcpStream) -> io::Result<()> {
        let swallowed = Arc::clone(&self.swallowed);
        swallowed.connections.fetch_add(1, Ordering::Relaxed);
        thread::Builder::new().name("swallow".into()).spawn(move || {
            // With TRUNC the kernel drops the bytes and never writes here.
            let mut nowhere = vec![0; GULP];
            while let Ok((_, read @ 1..)) = recv(&connection, &mut nowhere[..], RecvFlags::TRUNC) {
                swallowed.bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            drop(connection);
            swallowed.connections.fetch_sub(1, Ordering::Relaxed);
        })?;
        Ok(())
    }
}
