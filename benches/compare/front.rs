//! One running proxy in front of one upstream.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cgroup::Cgroup,
    client,
    meter::Meter,
    peers::Peer,
    process::{Launch, Process},
    scraper::Scraper,
};

/// A proxy that does not serve by then is taken for broken.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Below the ephemeral ports of every usual setting, so that no outgoing
/// connection sits on a port that was found free a moment ago.
const FIRST_PORT: u32 = 10_400;

/// What answers behind the proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behind {
    Upstream(SocketAddr),
    Redis(SocketAddr),
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    // Before the process that it asks.
    _scraper: Option<Scraper>,
    // Before the meter: the control group can only go after its processes.
    process: Option<Process>,
    pub(crate) meter: Option<Meter>,
}

impl Front {
    /// Starts `peer` and waits until it serves.
    pub(crate) fn start(
        peer: Peer,
        behind: Behind,
        scratch: &Path,
        nofile: Option<u64>,
    ) -> io::Result<Self> {
        if peer == Peer::Direct {
            let address = behind.address();
            return Ok(Self { address, _scraper: None, process: None, meter: None });
        }
        let (listen, launch) = prepare(peer, behind, scratch)?;
        let cgroup = Cgroup::make();
        let process = launch.within(cgroup.as_ref(), nofile)?;
        let meter = Some(Meter::new(cgroup, process.group()));
        wait_until_it_serves(listen, behind, &process)
            .map_err(|err| io::Error::other(format!("{err}: {}", process.last_words())))?;
        let _scraper = launch.admin.map(Scraper::start).transpose()?;
        Ok(Self { address: listen, _scraper, process: Some(process), meter })
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.process.as_ref().is_none_or(Process::is_alive)
    }

    pub(crate) fn cpu_s(&self) -> Option<f64> {
        self.meter.as_ref().map(Meter::cpu_s)
    }
}

impl Behind {
    fn address(self) -> SocketAddr {
        match self {
            Self::Upstream(address) | Self::Redis(address) => address,
        }
    }

    fn answers_through(self, front: SocketAddr) -> io::Result<()> {
        match self {
            Self::Upstream(_) => client::open(front, START_LIMIT).map(drop),
            Self::Redis(_) => client::ping(front, START_LIMIT),
        }
    }
}

/// Chooses a port and writes the configuration, but starts nothing.
pub(crate) fn prepare(
    peer: Peer,
    behind: Behind,
    scratch: &Path,
) -> io::Result<(SocketAddr, Launch)> {
    let listen = free_address()?;
    let directory = scratch.join(format!("{}-{}", peer.name(), listen.port()));
    fs::create_dir(&directory)?;
    let launch = peer.launch(listen, behind.address(), &directory)?;
    Ok((listen, launch))
}

fn wait_until_it_serves(address: SocketAddr, behind: Behind, process: &Process) -> io::Result<()> {
    let until = Instant::now() + START_LIMIT;
    loop {
        match behind.answers_through(address) {
            Ok(()) => return Ok(()),
            Err(_) if !process.is_alive() => return Err(io::Error::other("it ended at once")),
            Err(err) if Instant::now() > until => return Err(err),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub(crate) fn free_address() -> io::Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(FIRST_PORT);
    loop {
        let port = u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed))
            .map_err(|_| io::Error::other("no free port left"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}
