//! The real Docker engine, through its own command line.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use super::{DEADLINE, http, process, unique};

pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// Packs Debian's redis-server and the libraries it names into an image, so
/// that no registry is needed.
const MAKE_IMAGE: &str = r#"
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
server=$(readlink -f "$(command -v redis-server)")
mkdir -p "$root/usr/bin" "$root/data"
cp "$server" "$root/usr/bin/redis-server"
for library in $(ldd "$server" | grep -oE '/[^ ]+'); do
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
         docker rmi -f {image} >/dev/null 2>&1"
    ));
    let mut make = Command::new("sh");
    must(make.args(["-c", MAKE_IMAGE, "make-image", &image]));
    image
});

/// `docker ARGS...`; its output, without the final newline.
#[track_caller]
pub(crate) fn docker<const N: usize>(args: [&str; N]) -> String {
    must(Command::new("docker").args(args))
}

#[track_caller]
fn must(command: &mut Command) -> String {
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
        RedisContainer::running(name, published, options, [])
    }

    /// The same with a redis whose `CONFIG GET dbfilename` answers `id`.
    pub(crate) fn calling_itself(id: &str, name: &str, published: &str) -> RedisContainer {
        let server = ["--protected-mode", "no", "--save", "", "--dbfilename", id];
        RedisContainer::running(name, published, [], server)
    }

    fn running<const N: usize, const M: usize>(
        name: &str,
        published: &str,
        options: [&str; N],
        command: [&str; M],
    ) -> RedisContainer {
        let container = RedisContainer { name: name.to_owned() };
        let mut run = Command::new("docker");
        run.args(["run", "-d", "--name", name, "-p", published]).args(options);
        must(run.arg(&*IMAGE).args(command));
        container
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The host port it is published at now.
    pub(crate) fn port(&self) -> u16 {
        published_port(&self.name)
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
