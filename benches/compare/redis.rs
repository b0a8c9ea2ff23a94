//! A real redis, and redis-benchmark as its client.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    client,
    front::free_address,
    peers::find,
    process::{Launch, Process},
};

/// No run takes so long, whatever proxy is in between.
const RUN_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    _server: Process,
}

/// What one run of redis-benchmark found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) requests_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Redis {
    /// Starts a server that keeps nothing on disk; `None` where redis is not
    /// installed.
    pub(crate) fn start(scratch: &Path) -> io::Result<Option<Self>> {
        let (Some(program), Some(_)) = (find("redis-server"), find("redis-benchmark")) else {
            return Ok(None);
        };
        let address = free_address()?;
        let directory = scratch.join(format!("redis-{}", address.port()));
        fs::create_dir(&directory)?;
        let (host, port) = (address.ip(), address.port());
        let words = format!("--bind {host} --port {port} --appendonly no --dir");
        let mut arguments: Vec<_> = words.split(' ').map(Into::into).collect();
        arguments.extend([directory.clone().into(), "--save".into(), "".into()]);
        let launch = Launch { program, arguments, log: directory.join("log"), admin: None };
        let server = launch.within(None, None)?;
        let until = Instant::now() + Duration::from_secs(5);
        while let Err(err) = client::ping(address, client::PATIENCE) {
            if !server.is_alive() || Instant::now() > until {
                let words = server.last_words();
                return Err(io::Error::other(format!("redis does not start: {err}: {words}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let redis = Self { address, directory, _server: server };
        // So that the answers to GET carry something.
        redis.benchmark(address, &["-t", "set", "-d", "64", "-n", "1", "-c", "1"])?;
        Ok(Some(redis))
    }

    pub(crate) fn get(
        &self,
        through: SocketAddr,
        clients: u32,
        pipeline: u32,
        requests: u32,
    ) -> io::Result<Rate> {
        let (c, p, n) = (clients.to_string(), pipeline.to_string(), requests.to_string());
        self.benchmark(through, &["-t", "get", "-c", &c, "-P", &p, "-n", &n])
    }

    fn benchmark(&self, address: SocketAddr, options: &[&str]) -> io::Result<Rate> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut arguments: Vec<_> = ["-h", &host, "-p", &port, "--csv"].map(Into::into).into();
        arguments.extend(options.iter().map(Into::into));
        let log = self.directory.join(format!("benchmark-{number}"));
        let launch =
            Launch { program: "redis-benchmark".into(), arguments, log: log.clone(), admin: None };
        let client = launch.bare()?;
        let until = Instant::now() + RUN_LIMIT;
        while client.is_alive() {
            if Instant::now() > until {
                return Err(io::Error::other("redis-benchmark does not come to an end"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let text = fs::read_to_string(&log)?;
        parse(&text)
            .ok_or_else(|| io::Error::other(format!("redis-benchmark: {}", client.last_words())))
    }
}

/// Reads `"GET","53475.94","0.889","0.160","0.871","1.111","1.511","2.343"`:
/// the rate, then the average, least, p50, p95, p99 and longest time in ms.
fn parse(csv: &str) -> Option<Rate> {
    let line = csv.lines().rev().find(|line| line.contains("\",\""))?;
    let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Rate {
        requests_per_s: number(1)?,
        p50_us: number(4)? * 1000.0,
        p99_us: number(6)? * 1000.0,
    })
}
