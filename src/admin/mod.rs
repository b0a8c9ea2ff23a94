//! The HTTP side: tells how this process is, to people and to probes.

mod http;
mod metrics;
mod process;
mod status;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use log::{debug, warn};

use self::http::Answer;
pub(crate) use self::{
    process::Process,
    status::{Connections, Instance, Listener, Party, Registration, Service, Status},
};
use crate::stop::Stop;

/// Who knows the status.
pub(crate) type Source = Arc<dyn Fn() -> Status + Send + Sync>;

/// So many requests are answered at the same time: a probe must not wait behind a client
/// that sends nothing.
pub(crate) const THREADS: usize = 4;

/// Draws /status; all of it is here, so that it works where nothing else can be reached.
const PAGE: &str = include_str!("page.html");

/// Between two attempts to accept, when it fails.
const PAUSE: Duration = Duration::from_millis(100);

/// The listener that answers.
#[derive(Debug)]
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// # Errors
    /// The address is taken, or not to be had.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Admin { listener, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For one more thread.
    pub(crate) fn another(&self) -> io::Result<Self> {
        Ok(Admin { listener: self.listener.try_clone()?, address: self.address })
    }

    /// Answers for as long as the process lasts, also while it drains.
    pub(crate) fn run(self, source: &Source, stop: &Stop) {
        let mut is_failing = false;
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    is_failing = false;
                    if let Err(error) = http::serve(stream, |path| answer(path, source)) {
                        debug!("admin: {peer}: {error}");
                    }
                }
                Err(error) => {
                    if !is_failing {
                        warn!("admin: no request can be accepted: {error}; trying on");
                    }
                    is_failing = true;
                    // Once asked to stop it would not wait; then it is over in moments.
                    if stop.wait(PAUSE) {
                        return;
                    }
                }
            }
        }
    }
}

fn answer(path: &str, source: &Source) -> Answer {
    match path {
        "/" => {
            let content_type = "text/html; charset=utf-8";
            Answer { status: 200, content_type, body: PAGE.to_owned() }
        }
        "/livez" => Answer::text(200, "ok"),
        "/readyz" => {
            let status = source();
            match status.reason {
                _ if status.ready => Answer::text(200, "ready"),
                reason => Answer::text(503, &reason.unwrap_or_default()),
            }
        }
        "/status" => match serde_json::to_string_pretty(&source()) {
            Ok(json) => {
                Answer { status: 200, content_type: "application/json", body: format!("{json}\n") }
            }
            Err(error) => Answer::text(503, &error.to_string()),
        },
        "/metrics" => match metrics::text(source()) {
            Ok(body) => Answer { status: 200, content_type: metrics::CONTENT_TYPE, body },
            Err(error) => Answer::text(503, &error.to_string()),
        },
        _ => Answer::text(404, "there are /, /livez, /readyz, /status and /metrics"),
    }
}
