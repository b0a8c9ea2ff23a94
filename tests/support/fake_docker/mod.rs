//! A Docker daemon that does as it is told: the read-only part of its API over
//! a Unix socket or TCP, in every framing, with every fault.
//!
//! `crate::engine` holds it against a real engine.

mod answers;
mod clock;
mod container;
mod containers;
mod events;
mod server;
mod version;
mod wire;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

pub(crate) use container::{Binding, Container};
pub(crate) use version::Version;
pub(crate) use wire::{Fault, Framing};

use super::{eventually, fresh_ip, temp_dir};
use containers::Containers;
use server::{Listening, Shared};

/// The daemon. When it is dropped the requests it got are checked: an
/// ambassador only ever reads.
pub(crate) struct FakeDocker {
    shared: Arc<Shared>,
    place: Place,
    listening: Mutex<Option<Listening>>,
}

/// Events that are late.
pub(crate) struct Unheard(Vec<Value>);

/// Where it listens.
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl FakeDocker {
    pub(crate) fn start() -> FakeDocker {
        let docker = FakeDocker::absent();
        docker.listen();
        docker
    }

    /// A socket path at which nothing is yet.
    pub(crate) fn absent() -> FakeDocker {
        FakeDocker::at(Place::Unix(temp_dir("docker").join("docker.sock")))
    }

    pub(crate) fn on_tcp() -> FakeDocker {
        let docker = FakeDocker::at(Place::Tcp((fresh_ip(), 2375).into()));
        docker.listen();
        docker
    }

    fn at(place: Place) -> FakeDocker {
        FakeDocker { shared: Arc::default(), place, listening: Mutex::new(None) }
    }

    /// As `--docker` and `DOCKER_HOST` take it.
    pub(crate) fn address(&self) -> String {
        match &self.place {
            Place::Unix(path) => format!("unix://{}", path.display()),
            Place::Tcp(address) => format!("tcp://{address}"),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        match &self.place {
            Place::Unix(path) => path,
            Place::Tcp(address) => panic!("it listens on TCP {address}"),
        }
    }

    /// Starts to listen, as a started daemon does: a socket file that is left
    /// over is replaced.
    pub(crate) fn listen(&self) {
        let listening = match &self.place {
            Place::Unix(path) => {
                drop(fs::remove_file(path));
                Listening::on_unix(path, &self.shared)
            }
            Place::Tcp(address) => Listening::on_tcp(*address, &self.shared),
        };
        *self.listening.lock().unwrap() = Some(listening);
    }

    /// Ends like a daemon on SIGTERM: every connection closes and the socket
    /// file is removed.
    pub(crate) fn stop(&self) {
        self.crash();
        if let Place::Unix(path) = &self.place {
            fs::remove_file(path).unwrap();
        }
    }

    /// Ends like a daemon on SIGKILL: the socket file stays and refuses.
    pub(crate) fn crash(&self) {
        *self.listening.lock().unwrap() = None;
    }

    /// Which release it plays from now on.
    pub(crate) fn set_version(&self, version: Version) {
        self.containers().version = version;
    }

    /// How its answers are framed from now on.
    pub(crate) fn set_framing(&self, framing: Framing) {
        self.shared.behaviour().framing = framing;
    }

    /// What goes wrong, from now on, with every answer but the events stream.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.shared.behaviour().fault = fault;
    }

    /// The container with this id is listed and cannot be inspected, as one with a broken layer.
    pub(crate) fn set_sick(&self, id: Option<&str>) {
        self.shared.behaviour().sick = id.map(str::to_owned);
    }

    /// What goes wrong with events streams that start from now on.
    pub(crate) fn set_events_fault(&self, fault: Option<Fault>) {
        self.shared.behaviour().events_fault = fault;
    }

    /// Ends every open events stream.
    pub(crate) fn end_events_streams(&self) {
        self.shared.publish(None);
    }

    /// Sends raw bytes as one piece of every open events stream.
    pub(crate) fn send_to_events_streams(&self, bytes: Vec<u8>) {
        self.shared.publish(Some(bytes.into()));
    }

    /// How many events streams have been asked for so far.
    pub(crate) fn events_streams(&self) -> usize {
        self.requests().iter().filter(|line| line.starts_with("GET /events")).count()
    }

    /// Every request line so far, such as `GET /info HTTP/1.1`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until somebody has listened to events and then asked for state.
    #[track_caller]
    pub(crate) fn wait_until_followed(&self) {
        eventually("an events stream and a question after it", || {
            let requests = self.requests();
            let stream = requests.iter().position(|line| line.starts_with("GET /events"));
            stream.is_some_and(|stream| {
                requests[stream..].iter().any(|line| line.starts_with("GET /containers/"))
            })
        });
    }

    /// `docker run`.
    pub(crate) fn run(&self, container: Container) {
        let events = self.containers().run(container);
        self.emit(&events);
    }

    /// One `docker run` after the other: the last is the newest.
    pub(crate) fn run_many(&self, containers: Vec<Container>) {
        containers.into_iter().for_each(|container| self.run(container));
    }

    /// `docker start`, publishing `bindings` this time.
    pub(crate) fn start_container(&self, name: &str, port: u16, bindings: &[Binding]) {
        let events = self.containers().start(name, Some((port, bindings)));
        self.emit(&events);
    }

    /// `docker stop`.
    pub(crate) fn stop_container(&self, name: &str) {
        let events = self.containers().stop(name);
        self.emit(&events);
    }

    /// `docker restart`, after which `bindings` are published.
    pub(crate) fn restart(&self, name: &str, port: u16, bindings: &[Binding]) {
        self.stop_container(name);
        // The engine needs longer; nobody sees both lives at the same time.
        super::proceed_after(Duration::from_millis(30));
        self.start_container(name, port, bindings);
        let restart = self.containers().restarted(name);
        self.emit(&[restart]);
    }

    /// The same, but nobody hears of it until it is told.
    pub(crate) fn restart_unheard(&self, name: &str, port: u16, bindings: &[Binding]) -> Unheard {
        let mut containers = self.containers();
        let stop = containers.stop(name);
        let start = containers.start(name, Some((port, bindings)));
        Unheard([stop, start, vec![containers.restarted(name)]].concat())
    }

    pub(crate) fn tell(&self, late: Unheard) {
        self.emit(&late.0);
    }

    /// Docker sends `signal`, by number, to the container, which does not end by it yet.
    pub(crate) fn send_signal(&self, name: &str, signal: Option<&str>) {
        let events = self.containers().signal(name, signal);
        self.emit(&events);
    }

    /// The container's process ends by itself.
    pub(crate) fn exit(&self, name: &str) {
        let events = self.containers().exit(name, 0);
        self.emit(&events);
    }

    /// `docker kill`.
    pub(crate) fn kill(&self, name: &str) {
        let events = self.containers().kill(name);
        self.emit(&events);
    }

    pub(crate) fn pause(&self, name: &str) {
        let events = self.containers().pause(name);
        self.emit(&events);
    }

    pub(crate) fn unpause(&self, name: &str) {
        let events = self.containers().unpause(name);
        self.emit(&events);
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let events = self.containers().rename(from, to);
        self.emit(&events);
    }

    /// `docker rm -f`.
    pub(crate) fn remove(&self, name: &str) {
        let events = self.containers().remove(name);
        self.emit(&events);
    }

    /// What the health check finds from now on: `healthy`, `unhealthy` or `starting`.
    pub(crate) fn set_health(&self, name: &str, health: &str) {
        let events = self.containers().set_health(name, health);
        self.emit(&events);
    }

    /// `docker network connect`.
    pub(crate) fn connect_network(&self, name: &str, network: &str, ip: &str) {
        let events = self.containers().connect(name, network, ip);
        self.emit(&events);
    }

    /// `docker network disconnect`.
    pub(crate) fn disconnect_network(&self, name: &str, network: &str) {
        let events = self.containers().disconnect(name, network);
        self.emit(&events);
    }

    /// Changes the container without telling anybody, as a lost event would look.
    pub(crate) fn change_silently(&self, name: &str, change: impl FnOnce(&mut Container)) {
        change(self.containers().named(name));
    }

    fn containers(&self) -> std::sync::MutexGuard<'_, Containers> {
        self.shared.containers.lock().unwrap()
    }

    fn emit(&self, events: &[Value]) {
        for event in events {
            self.shared.publish(Some(Arc::new(event.clone()).into()));
        }
    }
}

impl Drop for FakeDocker {
    fn drop(&mut self) {
        self.crash();
        if !std::thread::panicking() {
            let requests = self.requests();
            let other = requests.iter().find(|line| !line.starts_with("GET /"));
            assert_eq!(other, None, "an ambassador only ever reads from Docker");
        }
    }
}
