//! The real Docker engine, through its own command line.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use super::redis::ping;
use super::{DEADLINE, eventually, http, process, unique};

pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// Packs the machine's redis-server, a shell for health checks and the libraries they
/// name into an image, so that no registry is needed.
const MAKE_IMAGE: &str = r#"
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
server=$(readlink -f "$(command -v redis-server)")
shell=$(readlink -f /bin/sh)
mkdir -p "$root/usr/bin" "$root/bin" "$root/data"
cp "$server" "$root/usr/bin/redis-server"
cp "$shell" "$root/bin/sh"
for library in $({ ldd "$server"; ldd "$shell"; } | grep -oE '/[^ ]+'); do
    mkdir -p "$root/$(dirname "$library")"
    cp -L "$library" "$root/$library"
done
tar -C "$root" -c . | docker import -c 'EXPOSE 6379' -c 'WORKDIR /data' \
    -c 'ENTRYPOINT ["/usr/bin/redis-server"]' \
    -c 'CMD ["--port","6379","--protected-mode","no","--save",""]' - "$1"
"#;

/// The image that every engine test runs, made once; it is removed at the end,
/// and with it whatever container a killed test left behind.
static IMAGE: LazyLock<String> = LazyLock::new(|| {
    let pid = std::process::id();
    let image = format!("ambtest-{pid}:redis");
    process::finally(&format!(
        "docker ps -aq --filter name=ambtest-{pid}- | xargs -r docker rm -f >/dev/null 2>&1; \
         docker network ls -q --filter name=ambtest-{pid}- | xargs -r docker network rm >/dev/null 2>&1; \
         docker rmi -f {image} >/dev/null 2>&1"
    ));
    let mut make = Command::new("sh");
    must(make.args(["-c", MAKE_IMAGE, "make-image", &image]));
    image
});

/// The name of the image that every container here runs.
pub(crate) fn image() -> &'static str {
    &IMAGE
}

/// `docker ARGS...`; its output, without the final newline.
#[track_caller]
pub(crate) fn docker<const N: usize>(args: [&str; N]) -> String {
    must(Command::new("docker").args(args))
}

#[track_caller]
pub(crate) fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A redis container; removed when dropped.
pub(crate) struct RedisContainer {
    name: String,
}

impl RedisContainer {
    /// A name for a container that nobody else uses.
    pub(crate) fn unused_name() -> String {
        format!("ambtest-{}-{}", std::process::id(), unique())
    }

    /// `docker run` with the port published at loopback, and `options`.
    pub(crate) fn run<const N: usize>(name: &str, options: [&str; N]) -> RedisContainer {
        RedisContainer::published(name, "127.0.0.1::6379", options)
    }

    /// `docker run -p PUBLISHED OPTIONS...`.
    pub(crate) fn published<const N: usize>(
        name: &str,
        published: &str,
        options: [&str; N],
    ) -> RedisContainer {
        RedisContainer::running(name, [&["-p", published], &options[..]].concat(), &[])
    }

    /// The same with a redis whose `CONFIG GET dbfilename` answers `id`.
    pub(crate) fn calling_itself(id: &str, name: &str, published: &str) -> RedisContainer {
        let server = ["--protected-mode", "no", "--save", "", "--dbfilename", id];
        RedisContainer::running(name, vec!["-p", published], &server)
    }

    /// The same as [`RedisContainer::run`] with a health check, every `interval`, that finds
    /// it healthy until [`RedisContainer::set_health`] says otherwise.
    ///
    /// A check takes a few hundredths of a second of CPU time: with many containers the
    /// interval has to be long.
    pub(crate) fn with_healthcheck<const N: usize>(
        name: &str,
        interval: Duration,
        options: [&str; N],
    ) -> RedisContainer {
        let interval = format!("{}ms", interval.as_millis());
        let check = ["--health-cmd", "test ! -s /unhealthy", "--health-interval", &interval];
        // A busy machine may need seconds to start the shell.
        let bounds = ["--health-timeout", "15s", "--health-retries", "1"];
        let options = [&["-p", "127.0.0.1::6379"], &check[..], &bounds, &options].concat();
        RedisContainer::running(name, options, &[])
    }

    /// In the network of the host, listening at `address` only.
    pub(crate) fn on_host_network<const N: usize>(
        name: &str,
        address: SocketAddr,
        options: [&str; N],
    ) -> RedisContainer {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let server = ["--bind", &ip, "--port", &port, "--save", ""];
        RedisContainer::running(name, [&["--network", "host"], &options[..]].concat(), &server)
    }

    fn running(name: &str, options: Vec<&str>, command: &[&str]) -> RedisContainer {
        let container = RedisContainer { name: name.to_owned() };
        let mut run = Command::new("docker");
        run.args(["run", "-d", "--name", name]).args(options);
        must(run.arg(&*IMAGE).args(command));
        container
    }

    /// What the health check finds from now on, also after a restart. The engine notices at
    /// the next check.
    pub(crate) fn set_health(&self, healthy: bool) {
        let write = if healthy { ": >/unhealthy" } else { "echo yes >/unhealthy" };
        docker(["exec", &self.name, "/bin/sh", "-c", write]);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host port it is published at now.
    pub(crate) fn port(&self) -> u16 {
        published_port(&self.name)
    }

    /// At the host port it is published at.
    #[track_caller]
    pub(crate) fn wait_until_it_listens(&self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()));
        eventually("a listening redis", || ping(address).is_ok());
    }
}

/// The host port that the container `name` is published at now.
pub(crate) fn published_port(name: &str) -> u16 {
    let address = docker(["port", name, "6379/tcp"]);
    address.rsplit(':').next().unwrap().parse().unwrap()
}

impl Drop for RedisContainer {
    fn drop(&mut self) {
        // It may have been removed, or renamed to what the watchdog cleans up.
        drop(Command::new("docker").args(["rm", "-f", &self.name]).output());
    }
}

/// A network of its own; removed when dropped.
pub(crate) struct Network {
    name: String,
}

impl Network {
    pub(crate) fn create() -> Network {
        let name = RedisContainer::unused_name();
        docker(["network", "create", &name]);
        Network { name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A container that a failed test has left in it is removed by the watchdog first.
        drop(Command::new("docker").args(["network", "rm", &self.name]).output());
    }
}

/// The host's own address in the network of its containers.
pub(crate) fn address_on_the_bridge() -> IpAddr {
    let format = "{{(index .IPAM.Config 0).Subnet}}";
    let subnet = docker(["network", "inspect", "--format", format, "bridge"]);
    let network: Ipv4Addr = subnet.split('/').next().unwrap().parse().unwrap();
    // Connecting a UDP socket sends nothing; it only finds the way.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((Ipv4Addr::from(u32::from(network) + 2), 9)).unwrap();
    socket.local_addr().unwrap().ip()
}

/// Asks the engine itself.
pub(crate) fn get(target: &str) -> Value {
    get_from(SOCKET, target).unwrap()
}

/// Asks whoever plays the engine at `socket`.
pub(crate) fn get_from(socket: &str, target: &str) -> io::Result<Value> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(http::ask(stream, "GET", target, None)?.json())
}
