//! Who is compared, and how each is called.

use std::{
    env,
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{front, process::Launch, sandbox::Cpus};

/// One column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Ambassador,
    /// The same, while somebody collects its metrics. No column of the table: a verdict.
    Watched,
    /// No proxy at all: the limit of the machine and of the load generator.
    Direct,
    Haproxy,
    HaproxyTuned,
    Nginx,
    Socat,
    SocketProxyd,
    DockerProxy,
}

impl Peer {
    pub(crate) const ALL: [Self; 9] = [
        Self::Ambassador,
        Self::Watched,
        Self::Direct,
        Self::Haproxy,
        Self::HaproxyTuned,
        Self::Nginx,
        Self::Socat,
        Self::SocketProxyd,
        Self::DockerProxy,
    ];

    /// At most 10 characters: the heading of a column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ambassador => "ambassador",
            Self::Watched => "watched",
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::HaproxyTuned => "hap-tuned",
            Self::Nginx => "nginx",
            Self::Socat => "socat",
            Self::SocketProxyd => "sd-proxyd",
            Self::DockerProxy => "dock-proxy",
        }
    }

    /// The Debian package it comes from.
    fn package(self) -> Option<&'static str> {
        match self {
            Self::Ambassador | Self::Watched | Self::Direct => None,
            Self::Haproxy | Self::HaproxyTuned => Some("haproxy"),
            Self::Nginx => Some("nginx"),
            Self::Socat => Some("socat"),
            Self::SocketProxyd => Some("systemd"),
            Self::DockerProxy => Some("docker.io"),
        }
    }

    /// What must exist for it to run, the program itself first.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Ambassador | Self::Watched | Self::Direct => &[],
            Self::Haproxy | Self::HaproxyTuned => &["haproxy"],
            Self::Nginx => &["nginx", NGINX_STREAM],
            Self::Socat => &["socat"],
            Self::SocketProxyd => &["systemd-socket-activate", SOCKET_PROXYD],
            Self::DockerProxy => &["docker-proxy"],
        }
    }

    /// What is missing for it to run here, if anything.
    pub(crate) fn missing(self) -> Option<&'static str> {
        self.files().iter().copied().find(|file| find(file).is_none())
    }

    /// Of the installed package; of ambassador, what it says itself.
    pub(crate) fn version(self) -> Option<String> {
        match self {
            Self::Direct | Self::Watched => None,
            Self::Ambassador => first_line(Command::new(ambassador()).arg("--version"))
                .and_then(|line| Some(line.split_whitespace().nth(1)?.to_owned())),
            _ => package_version(self.package()?),
        }
    }

    /// How it is started to forward `listen` to `upstream`; its files go to
    /// `directory`, which is its own.
    pub(crate) fn launch(
        self,
        listen: SocketAddr,
        upstream: SocketAddr,
        directory: &Path,
    ) -> io::Result<Launch> {
        let (host, port) = (listen.ip(), listen.port());
        let admin = (self == Self::Watched).then(front::free_address).transpose()?;
        let words = match self {
            Self::Direct => return Err(io::Error::other("direct is no program")),
            // The default cap is far below what is measured; what the limits
            // of the process do not allow, it lowers itself.
            Self::Ambassador | Self::Watched => {
                let admin = admin.map(|admin| format!(" --admin {admin}")).unwrap_or_default();
                format!(
                    "forward {upstream} --listen {listen} --max-connections 100000 --quiet{admin}"
                )
            }
            Self::Haproxy | Self::HaproxyTuned | Self::Nginx => {
                let file = directory.join("config");
                fs::write(&file, self.config(listen, upstream, directory))?;
                let file = file.display();
                match self {
                    Self::Nginx => format!("-e stderr -p {} -c {file}", directory.display()),
                    _ => format!("-db -f {file}"),
                }
            }
            Self::Socat => {
                format!("TCP-LISTEN:{port},bind={host},reuseaddr,fork,backlog=4096 TCP:{upstream}")
            }
            Self::SocketProxyd => {
                format!("-l {listen} {SOCKET_PROXYD} --connections-max=100000 {upstream}")
            }
            // It reports on descriptor 3 whether it could start, and closes
            // it, so something has to be there. The shell costs its start 1 ms.
            Self::DockerProxy => {
                let (to, to_port) = (upstream.ip(), upstream.port());
                let addresses = format!("-host-ip {host} -host-port {port} -container-ip {to}");
                let script = format!(
                    "exec docker-proxy -proto tcp {addresses} -container-port {to_port} 3>&1"
                );
                return Ok(Launch {
                    program: "sh".into(),
                    arguments: vec!["-c".into(), script.into()],
                    log: directory.join("log"),
                    admin,
                });
            }
        };
        let program = match self {
            Self::Ambassador | Self::Watched => ambassador(),
            _ => self.files().first().and_then(|program| find(program)).unwrap_or_default(),
        };
        let arguments = words.split(' ').map(OsString::from).collect();
        Ok(Launch { program, arguments, log: directory.join("log"), admin })
    }

    fn config(self, listen: SocketAddr, upstream: SocketAddr, directory: &Path) -> String {
        let template = match self {
            Self::HaproxyTuned => include_str!("../peers/haproxy-tuned.cfg"),
            Self::Nginx => include_str!("../peers/nginx.conf"),
            _ => include_str!("../peers/haproxy.cfg"),
        };
        template
            .replace("{{LISTEN}}", &listen.to_string())
            .replace("{{UPSTREAM}}", &upstream.to_string())
            .replace("{{DIRECTORY}}", &directory.display().to_string())
            .replace("{{MODULE}}", NGINX_STREAM)
            .replace("{{CPUS}}", &Cpus::count().to_string())
    }
}

const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
const SOCKET_PROXYD: &str = "/usr/lib/systemd/systemd-socket-proxyd";

/// The binary under test: the one cargo built with this program, unless
/// `AMBASSADOR_BIN` names another.
pub(crate) fn ambassador() -> PathBuf {
    env::var_os("AMBASSADOR_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_ambassador").into(), PathBuf::from)
}

pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    directories
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

pub(crate) fn package_version(package: &str) -> Option<String> {
    first_line(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]))
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
