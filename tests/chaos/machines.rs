//! What runs the containers of a host: a fake Docker with real servers, of which
//! everything can fail, or the real engine.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::support::engine::{self, RedisContainer, docker};
use crate::support::fake_docker::{Container, FakeDocker};
use crate::support::fresh_ip;
use crate::support::redis::Redis;

/// The port that every container exposes.
pub(super) const PORT: u16 = 6379;

/// A host with Docker. Containers are told apart by their names; what `run` and `start`
/// return is where the container is reached now.
pub(super) trait Machine {
    /// As `--docker` takes it.
    fn docker(&self) -> String;
    fn ip(&self) -> IpAddr;
    /// What the containers of this machine are called that its user calls `name`.
    fn name_of(&self, name: &str) -> String;
    /// `docker run` of a redis that calls itself `id`.
    fn run(&mut self, name: &str, id: &str) -> SocketAddr;
    fn start(&mut self, name: &str) -> SocketAddr;
    fn stop(&mut self, name: &str);
    /// The server dies at once.
    fn kill(&mut self, name: &str);
    fn remove(&mut self, name: &str);
    fn pause(&mut self, name: &str);
    fn unpause(&mut self, name: &str);
    fn rename(&mut self, from: &str, to: &str);
    /// Its Docker, if that can be told to fail.
    fn fake(&mut self) -> Option<&mut FakeMachine>;
}

/// A fake Docker, and a real redis for each container.
pub(super) struct FakeMachine {
    ip: Ipv4Addr,
    pub(super) docker: FakeDocker,
    servers: HashMap<String, Server>,
    next_port: u16,
}

struct Server {
    id: String,
    port: u16,
    redis: Option<Redis>,
}

impl FakeMachine {
    pub(super) fn new() -> FakeMachine {
        let (ip, docker) = (fresh_ip(), FakeDocker::start());
        FakeMachine { ip, docker, servers: HashMap::new(), next_port: 32768 }
    }

    fn server(&mut self, name: &str) -> &mut Server {
        self.servers.get_mut(name).unwrap()
    }

    fn next_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// The server listens a moment after Docker has said that it runs.
    fn listen(&mut self, name: &str, port: u16) -> SocketAddr {
        let address = SocketAddr::from((self.ip, port));
        let server = self.server(name);
        server.port = port;
        server.redis = Some(Redis::start_as(&server.id, address));
        address
    }

    /// A restart of which Docker tells nobody.
    pub(super) fn restart_unheard(&mut self, name: &str) -> SocketAddr {
        self.server(name).redis = None;
        let port = self.next_port();
        drop(self.docker.restart_unheard(name, PORT, &binding(port)));
        self.listen(name, port)
    }

    /// Everything ends at once, as in a power cut.
    pub(super) fn power_off(&mut self) {
        self.servers.values_mut().for_each(|server| server.redis = None);
        self.docker.crash();
    }

    /// Docker is back, and starts each of the containers with the port that another had.
    pub(super) fn power_on(&mut self, names: &[&str]) -> Vec<SocketAddr> {
        let mut ports: Vec<u16> = names.iter().map(|name| self.servers[*name].port).collect();
        ports.rotate_left(1);
        for name in names {
            self.docker.change_silently(name, |container| container.running = false);
        }
        self.docker.listen();
        let start = |(name, port): (&&str, u16)| {
            self.docker.start_container(name, PORT, &binding(port));
            self.listen(name, port)
        };
        names.iter().zip(ports).map(start).collect()
    }
}

/// As `docker run -p 6379` does it; the registrar is told the host's address.
fn binding(port: u16) -> [(&'static str, u16); 1] {
    [("0.0.0.0", port)]
}

impl Machine for FakeMachine {
    fn docker(&self) -> String {
        self.docker.address()
    }

    fn ip(&self) -> IpAddr {
        self.ip.into()
    }

    fn name_of(&self, name: &str) -> String {
        name.to_owned()
    }

    fn run(&mut self, name: &str, id: &str) -> SocketAddr {
        let port = self.next_port();
        let server = Server { id: id.to_owned(), port, redis: None };
        self.servers.insert(name.to_owned(), server);
        self.docker.run(Container::named(name).publishes(PORT, &binding(port)));
        self.listen(name, port)
    }

    fn start(&mut self, name: &str) -> SocketAddr {
        let port = self.next_port();
        self.docker.start_container(name, PORT, &binding(port));
        self.listen(name, port)
    }

    fn stop(&mut self, name: &str) {
        // The engine says that it has sent the signal, and then that it was heeded.
        self.docker.send_signal(name, Some("15"));
        self.server(name).redis.take().unwrap().terminate();
        self.docker.exit(name);
    }

    fn kill(&mut self, name: &str) {
        self.server(name).redis = None;
        self.docker.exit(name);
    }

    fn remove(&mut self, name: &str) {
        self.server(name).redis = None;
        self.docker.remove(name);
    }

    fn pause(&mut self, name: &str) {
        self.server(name).redis.as_mut().unwrap().signal("STOP");
        self.docker.pause(name);
    }

    fn unpause(&mut self, name: &str) {
        self.server(name).redis.as_mut().unwrap().signal("CONT");
        self.docker.unpause(name);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let server = self.servers.remove(from).unwrap();
        self.servers.insert(to.to_owned(), server);
        self.docker.rename(from, to);
    }

    fn fake(&mut self) -> Option<&mut FakeMachine> {
        Some(self)
    }
}

/// The real engine, with ports published at its bridge, where nothing but the container
/// answers.
pub(super) struct RealMachine {
    ip: IpAddr,
    /// What every name begins with, so that others who use the engine are left alone.
    prefix: String,
    /// Removed at the end.
    containers: HashMap<String, RedisContainer>,
}

impl RealMachine {
    pub(super) fn new() -> RealMachine {
        let (ip, prefix) = (engine::address_on_the_bridge(), RedisContainer::unused_name());
        RealMachine { ip, prefix, containers: HashMap::new() }
    }

    fn address(&self, name: &str) -> SocketAddr {
        SocketAddr::new(self.ip, engine::published_port(name))
    }
}

impl Machine for RealMachine {
    fn docker(&self) -> String {
        format!("unix://{}", engine::SOCKET)
    }

    fn ip(&self) -> IpAddr {
        self.ip
    }

    fn name_of(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn run(&mut self, name: &str, id: &str) -> SocketAddr {
        let published = format!("{}::{PORT}", self.ip);
        let container = RedisContainer::calling_itself(id, name, &published);
        self.containers.insert(name.to_owned(), container);
        self.address(name)
    }

    fn start(&mut self, name: &str) -> SocketAddr {
        docker(["start", name]);
        self.address(name)
    }

    fn stop(&mut self, name: &str) {
        docker(["stop", name]);
    }

    fn kill(&mut self, name: &str) {
        docker(["kill", name]);
    }

    fn remove(&mut self, name: &str) {
        self.containers.remove(name);
    }

    fn pause(&mut self, name: &str) {
        docker(["pause", name]);
    }

    fn unpause(&mut self, name: &str) {
        docker(["unpause", name]);
    }

    fn rename(&mut self, from: &str, to: &str) {
        docker(["rename", from, to]);
    }

    fn fake(&mut self) -> Option<&mut FakeMachine> {
        None
    }
}
