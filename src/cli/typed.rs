//! What may be typed: the options of each command, with their bounds and help.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "comments on options are the text of --help, not markup"
)]

use std::{ffi::OsString, net::SocketAddr, num::NonZeroU16, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::{doctor_options::TypedDoctor, host_options::TypedHost, values};
use crate::{
    address::HostPort,
    service::{InstanceName, Prefix, ServiceName},
    traffic::Listen,
};

/// Connects containers across hosts through etcd.
#[derive(Debug, Parser)]
#[command(
    name = "ambassador",
    version,
    disable_help_subcommand = true,
    args_override_self = true,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Every option of a command but list's --check can also be given as the environment\n\
                  variable AMBASSADOR_<OPTION> (upper case, '-' as '_'); the option wins. Called as\n\
                  simple-amb, docker-register or dynamic-etcd-amb, the program is forward, register or\n\
                  proxy."
)]
pub(super) struct Typed {
    /// Log more: once for debug, twice for trace.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet", display_order = 100)]
    pub(super) verbose: u8,
    /// Log less: once for warnings and errors, twice for errors only.
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 101)]
    pub(super) quiet: u8,
    /// How to log: "LEVEL thread message", or an object with time, level, thread and
    /// message on each line.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", display_order = 102)]
    pub(super) log_format: LogFormat,
    #[command(subcommand)]
    pub(super) command: TypedCommand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
#[command(args_override_self = true)]
pub(super) enum TypedCommand {
    Forward(TypedForward),
    Register(Box<TypedRegister>),
    Proxy(TypedProxy),
    List(TypedList),
    Env(TypedEnv),
    Status(TypedStatus),
    Exec(TypedExec),
    Doctor(TypedDoctor),
    /// Prints the completions of a shell, to be kept where it looks for them.
    Completions {
        shell: ShellName,
    },
    /// Prints the manual page, for `man -l -` or a directory of MANPATH.
    Man,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Forwards TCP to fixed addresses.
///
/// Without UPSTREAM, every link variable <ALIAS>_PORT_<N>_TCP=tcp://HOST:PORT of the
/// environment is read, and each N is listened on; where the variable's address fails,
/// the name <alias> is dialled. Prints "listening NAME ADDR:PORT" for each listener.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct TypedForward {
    /// Where to: HOST:PORT. A name is looked up for every connection; several
    /// upstreams take turns.
    #[arg(value_name = "UPSTREAM", value_parser = values::upstream)]
    pub(super) upstreams: Vec<HostPort>,
    /// PORT (every interface), ADDR:PORT or [V6]:PORT; port 0 picks a free one.
    /// [default: 10000]
    #[arg(long, value_name = "LISTEN")]
    pub(super) listen: Option<Listen>,
    #[command(flatten)]
    pub(super) serving: TypedServing,
}

/// Keeps a container's published address in etcd.
///
/// The entry PREFIX/SERVICE/CONTAINER exists while the container runs, is not paused or
/// unhealthy, and its PORT is published. It is taken out before the container stops, and
/// when this program is stopped.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    override_usage = "ambassador register [OPTIONS] CONTAINER PORT SERVICE [KEY=VALUE...]\n       \
                      ambassador register [OPTIONS] --all\n       \
                      ambassador register [OPTIONS] --address HOST:PORT SERVICE [KEY=VALUE...]"
)]
pub(super) struct TypedRegister {
    /// CONTAINER PORT SERVICE, or SERVICE with --address; then attributes, kept in the
    /// entry after its address (an integer as a number, anything else as a string).
    #[arg(value_name = "CONTAINER PORT SERVICE")]
    pub(super) words: Vec<String>,
    /// Registers every published port of every container of the host, as
    /// PREFIX/SERVICE/HOSTNAME:CONTAINER:PORT. The service is what SERVICE_<PORT>_NAME or
    /// SERVICE_NAME says, a label or a variable of the container; otherwise its image's name.
    /// '-PORT' follows where the container has several ports, except with a port's own name.
    /// SERVICE_IGNORE leaves out, SERVICE_ID names the instance, any other SERVICE_<KEY> is
    /// an attribute; each also as SERVICE_<PORT>_<KEY>.
    #[arg(long)]
    pub(super) all: bool,
    /// With --all: only what has a SERVICE_NAME.
    #[arg(long)]
    pub(super) explicit: bool,
    /// With --all: the container's own address and port, for hosts that share a network.
    #[arg(long)]
    pub(super) internal: bool,
    /// With --internal: the network whose address it is. [default: the one the container was
    /// started in]
    #[arg(long, value_name = "NAME")]
    pub(super) network: Option<String>,
    /// With --all: the services that may be registered, '*' and '?' being wildcards. May be
    /// given several times, or separated by commas. [default: all]
    #[arg(long, value_name = "GLOB", value_delimiter = ',')]
    pub(super) allow_service: Vec<String>,
    /// Registers HOST:PORT, a service outside containers, for as long as this runs.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::upstream)]
    pub(super) address: Option<HostPort>,
    #[command(flatten)]
    pub(super) host: TypedHost,
    /// Registered only while a TCP connect to the address succeeds: tried every third
    /// of the TTL, out after 2 failures. [default: off]
    #[arg(long, value_name = "KIND")]
    pub(super) check: Option<Check>,
    /// The last part of the key. [default: the container's name; HOST:PORT with --address;
    /// not with --all]
    #[arg(long, value_name = "NAME")]
    pub(super) instance: Option<InstanceName>,
    /// As whom to write, one entry for each: ambassador (PREFIX/SERVICE/CONTAINER, JSON),
    /// registrator (PREFIX/SERVICE/HOSTNAME:CONTAINER:PORT, HOST:PORT), skydns
    /// (/skydns/local/PREFIX/SERVICE/LABEL, a record of SkyDNS and CoreDNS). HOSTNAME is
    /// what Docker calls its host. May be given several times, or separated by commas.
    #[arg(long, value_name = "FORMAT", default_value = "ambassador", value_delimiter = ',')]
    pub(super) format: Vec<FormatName>,
    /// How long an entry outlives this program when it cannot take it out: 3s to 1h, in
    /// whole seconds, rounded up. Refreshed every third of it.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::ttl)]
    pub(super) ttl: Duration,
    /// Print what would be registered and why, write nothing, and exit.
    #[arg(long)]
    pub(super) explain: bool,
    /// Taken as every role takes it; a registrar has no connections to wait for.
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = values::up_to_an_hour)]
    pub(super) drain: Duration,
    #[command(flatten)]
    pub(super) admin: TypedAdmin,
    #[command(flatten)]
    pub(super) etcd: TypedEtcd,
}

#[derive(Debug, Args)]
pub(super) struct TypedAdmin {
    /// Tells over HTTP how this process is: /livez, /readyz, and /status in JSON. A bare PORT
    /// is on 127.0.0.1; port 0 picks a free one. [default: off]
    #[arg(long, value_name = "LISTEN", value_parser = values::admin)]
    pub(super) admin: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Check {
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatName {
    Ambassador,
    Registrator,
    Skydns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BalanceName {
    RoundRobin,
    LeastConn,
    Random,
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnRemoveName {
    Keep,
    Probe,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ApiName {
    Auto,
    V2,
    V3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SendProxy {
    V1,
    V2,
}

/// Forwards TCP to whatever is registered now.
///
/// New connections take turns over the instances of SERVICE; one that cannot be reached
/// is passed over. A client is held while there is none. Prints "listening NAME
/// ADDR:PORT" for each listener, before etcd has answered.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    override_usage = "ambassador proxy [OPTIONS] SERVICE LISTEN [SERVICE LISTEN]..."
)]
pub(super) struct TypedProxy {
    /// Pairs of a service's name and the PORT (every interface), ADDR:PORT or [V6]:PORT
    /// its clients connect to; port 0 picks a free one.
    #[arg(value_name = "SERVICE LISTEN", required = true)]
    pub(super) routes: Vec<String>,
    #[command(flatten)]
    pub(super) serving: TypedServing,
    #[command(flatten)]
    pub(super) etcd: TypedEtcd,
}

/// Prints what is registered.
///
/// Exits with 1 if SERVICE has no instance, if etcd does not answer for 10 s, or if --check
/// finds an instance that cannot be reached.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct TypedList {
    /// Only this service.
    pub(super) service: Option<ServiceName>,
    /// For programs: an array of {service, instance, host, port, ttl_s, weight, attributes};
    /// with --check also {reachable, problem, connect_ms, refreshed_s}.
    #[arg(long)]
    pub(super) json: bool,
    /// Tries to connect to every instance, 32 at a time, for 1 s each (3 s with the lookup of a
    /// name), and sends nothing; then exits with 1 if some cannot be reached. Not to be given
    /// as AMBASSADOR_CHECK, which is the --check of register.
    #[arg(long)]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) etcd: TypedEtcd,
}

/// Prints what a running ambassador is doing.
///
/// Exits with 1 if it is not ready, or if none answers within 5 s: what a HEALTHCHECK asks.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct TypedStatus {
    /// The --admin of the one that is meant.
    #[arg(long, value_name = "LISTEN", default_value = "127.0.0.1:9900", value_parser = values::admin)]
    pub(super) admin: SocketAddr,
    /// For programs: all that is known, as /status tells it.
    #[arg(long)]
    pub(super) json: bool,
    /// Show it every 2 s, until a signal ends it. Nobody there is no end.
    #[arg(long)]
    pub(super) watch: bool,
}

/// Prints the variables of `docker run --link`, for --env-file.
///
/// They name the first instance of SERVICE, as it is now. Exits with 1 if there is none,
/// or if etcd does not answer for 10 s.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct TypedEnv {
    /// Whose first instance is named.
    pub(super) service: ServiceName,
    /// The port the client was written for, as in <ALIAS>_PORT_<PORT>_TCP.
    #[arg(value_parser = values::port)]
    pub(super) port: NonZeroU16,
    /// The first part of the variables. [default: SERVICE in upper case, '-' and '.' as '_']
    #[arg(long, value_name = "NAME", value_parser = values::alias)]
    pub(super) alias: Option<String>,
    #[command(flatten)]
    pub(super) etcd: TypedEtcd,
}

/// Runs a command with links to services.
///
/// Each --service is a listener on 127.0.0.1 that does what proxy does, and COMMAND gets
/// the variables of docker run --link for it: <ALIAS>_PORT_<PORT>_TCP and its like.
/// Signals go on to COMMAND. Exits as it did: with its code, with 128+N if signal N killed
/// it, with 127 if there is no such command, with 126 if it cannot be run. --drain is for
/// what COMMAND leaves behind, and for COMMAND itself where this program has to end it.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    override_usage = "ambassador exec [OPTIONS] --service SERVICE:ALIAS[:PORT]... -- COMMAND [ARGS...]"
)]
pub(super) struct TypedExec {
    /// What COMMAND is linked to: SERVICE, under the name ALIAS (in variables in upper
    /// case, '-' and '.' as '_'), at 127.0.0.1:PORT, or a free port. May be given several
    /// times, or separated by commas.
    #[arg(long, value_name = "SERVICE:ALIAS[:PORT]", value_delimiter = ',', value_parser = values::link)]
    pub(super) service: Vec<values::Link>,
    /// What is run, and its arguments.
    #[arg(value_name = "COMMAND", last = true)]
    pub(super) words: Vec<OsString>,
    #[command(flatten)]
    pub(super) serving: TypedServing,
    #[command(flatten)]
    pub(super) etcd: TypedEtcd,
}

#[derive(Debug, Args)]
pub(super) struct TypedEtcd {
    /// The members to talk to, separated by commas; the next one is tried when one fails.
    /// [default: ETCDCTL_ENDPOINTS, then the link variables ETCD_PORT_<N>_TCP_ADDR and
    /// _PORT, then http://127.0.0.1:2379]
    #[arg(long, value_name = "URL,...", value_parser = values::members)]
    pub(super) etcd: Option<values::Members>,
    /// Which of etcd's two stores, which do not see each other. auto: v2 where the server
    /// offers it, otherwise v3.
    #[arg(long, value_name = "API", default_value = "auto")]
    pub(super) etcd_api: ApiName,
    /// Believe members whose certificate one of these authorities signed (PEM). Read again
    /// when it changes. [default: ETCDCTL_CACERT, then the authorities of the web]
    #[arg(long, value_name = "FILE")]
    pub(super) etcd_cacert: Option<PathBuf>,
    /// The certificate that shows who we are (PEM), with --etcd-key. Read again when it
    /// changes. [default: ETCDCTL_CERT]
    #[arg(long, value_name = "FILE")]
    pub(super) etcd_cert: Option<PathBuf>,
    /// The key of --etcd-cert (PEM). [default: ETCDCTL_KEY]
    #[arg(long, value_name = "FILE")]
    pub(super) etcd_key: Option<PathBuf>,
    /// The user of etcd to log in as. [default: ETCDCTL_USER, which may be name:password]
    #[arg(long, value_name = "NAME")]
    pub(super) etcd_user: Option<String>,
    /// The file with the password of that user, on one line. Read again for every login.
    /// [default: ETCDCTL_PASSWORD is the password itself]
    #[arg(long, value_name = "FILE")]
    pub(super) etcd_password_file: Option<PathBuf>,
    /// Send the password to members whose URL is http, where others may read it.
    #[arg(long)]
    pub(super) etcd_insecure_auth: bool,
    /// The directory of all services.
    #[arg(long, value_name = "PATH", default_value = "/services")]
    pub(super) prefix: Prefix,
}

#[derive(Debug, Args)]
pub(super) struct TypedServing {
    /// For one attempt to connect to one instance, 1ms to 5m; then the next is tried.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::connect_timeout)]
    pub(super) connect_timeout: Duration,
    /// How long a client is held while nothing can be reached, up to 1h; 0 resets it at once.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::up_to_an_hour)]
    pub(super) wait: Duration,
    /// How long an instance that failed to connect is tried last, up to 1h.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::up_to_an_hour)]
    pub(super) eject: Duration,
    /// Which instance a new connection gets: in turn (as often as its weight says), the one
    /// with the fewest connections for its weight, any, or always the same for a client's
    /// address.
    #[arg(long, value_name = "HOW", default_value = "round-robin")]
    pub(super) balance: BalanceName,
    /// Open connections of an instance that left the registry: left alone; cut if a fresh
    /// dial to it fails; cut at once.
    #[arg(long, value_name = "WHAT", default_value = "probe")]
    pub(super) on_remove: OnRemoveName,
    /// Cut a connection that moved no byte for so long, 1s to 24h; what the kernel holds for
    /// a slow reader (a few MiB at most) does not count. [default: off]
    #[arg(long, value_name = "DURATION", value_parser = values::idle_timeout)]
    pub(super) idle_timeout: Option<Duration>,
    /// Begin each upstream connection with a PROXY protocol header. [default: off]
    #[arg(long, value_name = "VERSION")]
    pub(super) send_proxy: Option<SendProxy>,
    #[command(flatten)]
    pub(super) admin: TypedAdmin,
    /// Open connections at the same time, 1 to 100000, lowered to what the limits of the
    /// process allow; more clients wait.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = values::max_connections)]
    pub(super) max_connections: usize,
    /// How long open connections may go on after SIGTERM or SIGINT before they are reset,
    /// up to 1h. A second signal resets them at once.
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = values::up_to_an_hour)]
    pub(super) drain: Duration,
}
