//! A real redis.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::client;
use super::process::Guarded;
use super::{eventually, fresh_ip, temp_dir};

/// One redis server; each start is on a port of its own.
pub(crate) struct Redis {
    /// What `CONFIG GET dbfilename` answers, so that a client can tell whom it reached.
    name: String,
    address: SocketAddr,
    data: PathBuf,
    process: Option<Guarded>,
}

impl Redis {
    pub(crate) fn start() -> Redis {
        Redis::start_as("dump", SocketAddr::from((fresh_ip(), 6379)))
    }

    pub(crate) fn start_as(name: &str, address: SocketAddr) -> Redis {
        let (name, data) = (name.to_owned(), temp_dir("redis"));
        let mut redis = Redis { name, address, data, process: None };
        redis.launch();
        redis
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as `docker kill` would.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it as `docker stop` would.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
        self.process.as_mut().unwrap().wait(super::DEADLINE).unwrap();
    }

    pub(crate) fn signal(&mut self, signal: &str) {
        self.process.as_mut().unwrap().signal(signal);
    }

    pub(crate) fn start_on_another_port(&mut self) {
        self.stop();
        self.address.set_port(self.address.port() + 1);
        self.launch();
    }

    fn launch(&mut self) {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port, "--bind", &self.address.ip().to_string()])
            .args(["--save", "", "--appendonly", "no", "--protected-mode", "no"])
            .args(["--dbfilename", &self.name])
            .current_dir(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(Guarded::spawn(&mut command));
        let address = self.address;
        eventually("redis answers", || ping(address).is_ok());
    }
}

/// One connection, one PING, and the PONG that must come.
pub(crate) fn ping(address: SocketAddr) -> io::Result<()> {
    ping_within(address, super::DEADLINE)
}

pub(crate) fn ping_within(address: SocketAddr, deadline: Duration) -> io::Result<()> {
    let mut stream = client::connect(address)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.as_str() {
        "+PONG\r\n" => Ok(()),
        other => Err(io::Error::other(format!("instead of PONG: {other:?}"))),
    }
}
