//! What may be typed, and what it means once the environment is taken into
//! account. Pure: arguments and environment in, a role out.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "comments on options are the text of --help, not markup"
)]

mod environment;
mod refusal;
mod values;

use std::{ffi::OsString, net::IpAddr, num::NonZeroU16, path::Path, time::Duration};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use log::LevelFilter;

pub(crate) use self::{environment::Environment, refusal::Refusal};
use crate::{
    address::HostPort,
    docker, etcd,
    logging::Filter,
    registrar::{self, HostIp, Source, Target},
    roles::{Env, Forward, List, Proxy, Register, Registry, Role, Route, Serving},
    service::{Attribute, InstanceName, Prefix, ServiceName},
    traffic::{Balance, Listen, OnRemove, ProxyHeader, Settings},
};

/// What a call of the program asks for.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) filter: Filter,
    pub(crate) role: Role,
}

/// The names of the 2014 images, and the commands they are now.
const ROLES_BY_NAME: [(&str, &str); 3] =
    [("simple-amb", "forward"), ("docker-register", "register"), ("dynamic-etcd-amb", "proxy")];

/// Connects containers across hosts through etcd.
#[derive(Debug, Parser)]
#[command(
    name = "ambassador",
    version,
    disable_help_subcommand = true,
    args_override_self = true,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Every option of a command can also be given as the environment variable\n\
                  AMBASSADOR_<OPTION> (upper case, '-' as '_'); the option wins. Called as simple-amb,\n\
                  docker-register or dynamic-etcd-amb, the program is forward, register or proxy."
)]
struct Typed {
    /// Log more: once for debug, twice for trace.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet", display_order = 100)]
    verbose: u8,
    /// Log less: once for warnings and errors, twice for errors only.
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 101)]
    quiet: u8,
    #[command(subcommand)]
    command: TypedCommand,
}

#[derive(Debug, Subcommand)]
#[command(args_override_self = true)]
enum TypedCommand {
    Forward(TypedForward),
    Register(Box<TypedRegister>),
    Proxy(TypedProxy),
    List(TypedList),
    Env(TypedEnv),
}

/// Forwards TCP to fixed addresses.
///
/// Without UPSTREAM, every link variable <ALIAS>_PORT_<N>_TCP=tcp://HOST:PORT of the
/// environment is read, and each N is listened on; where the variable's address fails,
/// the name <alias> is dialled. Prints "listening NAME ADDR:PORT" for each listener.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct TypedForward {
    /// Where to: HOST:PORT. A name is looked up for every connection; several
    /// upstreams take turns.
    #[arg(value_name = "UPSTREAM", value_parser = values::upstream)]
    upstreams: Vec<HostPort>,
    /// PORT (every interface), ADDR:PORT or [V6]:PORT; port 0 picks a free one.
    /// [default: 10000]
    #[arg(long, value_name = "LISTEN")]
    listen: Option<Listen>,
    #[command(flatten)]
    serving: TypedServing,
}

/// Keeps a container's published address in etcd.
///
/// The entry PREFIX/SERVICE/CONTAINER exists while the container runs, is not paused,
/// and its PORT is published. It is taken out before the container stops, and when this
/// program is stopped.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    override_usage = "ambassador register [OPTIONS] CONTAINER PORT SERVICE [KEY=VALUE...]\n       \
                      ambassador register [OPTIONS] --address HOST:PORT SERVICE [KEY=VALUE...]"
)]
struct TypedRegister {
    /// CONTAINER PORT SERVICE, or SERVICE with --address; then attributes, kept in the
    /// entry after its address (an integer as a number, anything else as a string).
    #[arg(value_name = "CONTAINER PORT SERVICE")]
    words: Vec<String>,
    /// Registers HOST:PORT, a service outside containers, for as long as this runs.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::upstream)]
    address: Option<HostPort>,
    /// Docker's API: unix://PATH or tcp://HOST:PORT.
    /// [default: DOCKER_HOST, then unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDR")]
    docker: Option<docker::Address>,
    /// The address other hosts reach this host at. [default: the published address; for
    /// ports published everywhere HOST_IP, then COREOS_PRIVATE_IPV4]
    #[arg(long, value_name = "IP", value_parser = values::host_ip)]
    host_ip: Option<IpAddr>,
    /// Registered only while a TCP connect to the address succeeds: tried every third
    /// of the TTL, out after 2 failures. [default: off]
    #[arg(long, value_name = "KIND")]
    check: Option<Check>,
    /// The last part of the key. [default: the container's name; HOST:PORT with --address]
    #[arg(long, value_name = "NAME")]
    instance: Option<InstanceName>,
    /// How long an entry outlives this program when it cannot take it out: 3s to 1h, in
    /// whole seconds, rounded up. Refreshed every third of it.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::ttl)]
    ttl: Duration,
    /// Print what would be registered and why, write nothing, and exit.
    #[arg(long)]
    explain: bool,
    /// Taken as every role takes it; a registrar has no connections to wait for.
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = values::up_to_an_hour)]
    drain: Duration,
    #[command(flatten)]
    etcd: TypedEtcd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BalanceName {
    RoundRobin,
    LeastConn,
    Random,
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnRemoveName {
    Keep,
    Probe,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SendProxy {
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
struct TypedProxy {
    /// Pairs of a service's name and the PORT (every interface), ADDR:PORT or [V6]:PORT
    /// its clients connect to; port 0 picks a free one.
    #[arg(value_name = "SERVICE LISTEN", required = true)]
    routes: Vec<String>,
    #[command(flatten)]
    serving: TypedServing,
    #[command(flatten)]
    etcd: TypedEtcd,
}

/// Prints what is registered.
///
/// Exits with 1 if SERVICE has no instance, or if etcd does not answer for 10 s.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct TypedList {
    /// Only this service.
    service: Option<ServiceName>,
    /// For programs: an array of {service, instance, host, port, ttl_s, weight, attributes}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    etcd: TypedEtcd,
}

/// Prints the variables of `docker run --link`, for --env-file.
///
/// They name the first instance of SERVICE, as it is now. Exits with 1 if there is none,
/// or if etcd does not answer for 10 s.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct TypedEnv {
    /// Whose first instance is named.
    service: ServiceName,
    /// The port the client was written for, as in <ALIAS>_PORT_<PORT>_TCP.
    #[arg(value_parser = values::port)]
    port: NonZeroU16,
    /// The first part of the variables. [default: SERVICE in upper case, '-' and '.' as '_']
    #[arg(long, value_name = "NAME", value_parser = values::alias)]
    alias: Option<String>,
    #[command(flatten)]
    etcd: TypedEtcd,
}

#[derive(Debug, Args)]
struct TypedEtcd {
    /// The members to talk to, separated by commas; the next one is tried when one fails.
    /// [default: ETCDCTL_ENDPOINTS, then the link variables ETCD_PORT_<N>_TCP_ADDR and
    /// _PORT, then http://127.0.0.1:2379]
    #[arg(long, value_name = "URL,...", value_parser = values::members)]
    etcd: Option<values::Members>,
    /// The directory of all services.
    #[arg(long, value_name = "PATH", default_value = "/services")]
    prefix: Prefix,
}

#[derive(Debug, Args)]
struct TypedServing {
    /// For one attempt to connect to one instance, 1ms to 5m; then the next is tried.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::connect_timeout)]
    connect_timeout: Duration,
    /// How long a client is held while nothing can be reached, up to 1h; 0 resets it at once.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::up_to_an_hour)]
    wait: Duration,
    /// How long an instance that failed to connect is tried last, up to 1h.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::up_to_an_hour)]
    eject: Duration,
    /// Which instance a new connection gets: in turn (as often as its weight says), the one
    /// with the fewest connections for its weight, any, or always the same for a client's
    /// address.
    #[arg(long, value_name = "HOW", default_value = "round-robin")]
    balance: BalanceName,
    /// Open connections of an instance that left the registry: left alone; cut if a fresh
    /// dial to it fails; cut at once.
    #[arg(long, value_name = "WHAT", default_value = "probe")]
    on_remove: OnRemoveName,
    /// Cut a connection that moved no byte for so long, 1s to 24h. [default: off]
    #[arg(long, value_name = "DURATION", value_parser = values::idle_timeout)]
    idle_timeout: Option<Duration>,
    /// Begin each upstream connection with a PROXY protocol header. [default: off]
    #[arg(long, value_name = "VERSION")]
    send_proxy: Option<SendProxy>,
    /// Open connections at the same time, 1 to 100000, lowered to what the limits of the
    /// process allow; more clients wait.
    #[arg(long, value_name = "N", default_value = "2048", value_parser = values::max_connections)]
    max_connections: usize,
    /// How long open connections may go on after SIGTERM or SIGINT before they are reset,
    /// up to 1h. A second signal resets them at once.
    #[arg(long, value_name = "DURATION", default_value = "8s", value_parser = values::up_to_an_hour)]
    drain: Duration,
}

/// Reads the command line. `arguments` begins with the name of the program.
///
/// # Errors
/// What is to be printed instead of running: help, version, or what is wrong.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Invocation, Refusal> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    insert_role(&mut arguments);
    let command = command();
    let from_environment = environment.insert_options(&command, &mut arguments)?;
    let typed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Typed::from_arg_matches(&matches))
        .map_err(|error| Refusal::of_clap(&error, &from_environment))?;
    let filter = filter(&typed, environment);
    let role = match typed.command {
        TypedCommand::Forward(forward) => Role::Forward(forward.resolve(environment)?),
        TypedCommand::Register(register) => Role::Register(register.resolve(environment)?),
        TypedCommand::Proxy(proxy) => Role::Proxy(proxy.resolve(environment)?),
        TypedCommand::List(list) => Role::List(List {
            service: list.service,
            json: list.json,
            registry: list.etcd.resolve(environment)?,
        }),
        TypedCommand::Env(env) => Role::Env(Env {
            alias: env.alias.unwrap_or_else(|| values::alias_of(&env.service)),
            service: env.service,
            port: env.port,
            registry: env.etcd.resolve(environment)?,
        }),
    };
    Ok(Invocation { filter, role })
}

/// The definition, with values that may begin with `-`: `--wait -1` is a wrong value of
/// `--wait`, not an unknown option.
fn command() -> clap::Command {
    Typed::command().mut_subcommands(|command| {
        command.mut_args(|option| {
            let takes_value = option.get_long().is_some() && option.get_action().takes_values();
            option.allow_hyphen_values(takes_value)
        })
    })
}

/// Puts in the command that the program's own name stands for.
fn insert_role(arguments: &mut Vec<OsString>) {
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    let role = ROLES_BY_NAME.iter().find(|(alias, _)| name.is_some_and(|name| name == *alias));
    if let Some((_, command)) = role {
        arguments.insert(1, command.into());
    }
}

/// A flag wins over `RUST_LOG`.
fn filter(typed: &Typed, environment: &Environment) -> Filter {
    let level = match (typed.verbose, typed.quiet) {
        (0, 0) => match environment.get("RUST_LOG") {
            Some(directives) => return Filter::Directives(directives.to_owned()),
            None => LevelFilter::Info,
        },
        (1, _) => LevelFilter::Debug,
        (2.., _) => LevelFilter::Trace,
        (0, 1) => LevelFilter::Warn,
        (0, 2..) => LevelFilter::Error,
    };
    Filter::Level(level)
}

impl TypedForward {
    fn resolve(self, environment: &Environment) -> Result<Forward, Refusal> {
        /// What simple-amb listened on.
        const DEFAULT_LISTEN: Listen = Listen::Any(10000);
        let serving = self.serving.resolve(environment);
        if !self.upstreams.is_empty() {
            let listen = self.listen.unwrap_or(DEFAULT_LISTEN);
            return Ok(Forward::To { listen, upstreams: self.upstreams, serving });
        }
        let ports = environment.linked_ports()?;
        if ports.is_empty() {
            return Err(Refusal::usage(
                "forward: no UPSTREAM given, and no link variable \
                 <ALIAS>_PORT_<N>_TCP=tcp://HOST:PORT in the environment",
            ));
        }
        if self.listen.is_some() {
            return Err(Refusal::usage(
                "--listen: not allowed without UPSTREAM; link variables say which ports to listen on",
            ));
        }
        Ok(Forward::Links { ports, serving })
    }
}

impl TypedRegister {
    fn resolve(self, environment: &Environment) -> Result<Register, Refusal> {
        let (source, service, attributes, default_instance) = match self.address {
            Some(address) => {
                let [service, attributes @ ..] = self.words.as_slice() else {
                    return Err(Refusal::usage(
                        "register --address: expected SERVICE [KEY=VALUE...]",
                    ));
                };
                let address = reachable(address, self.host_ip)?;
                let instance = format!("{}:{}", address.host, address.port);
                (Source::Fixed(address), service, attributes, instance)
            }
            None => {
                let [name, port, service, attributes @ ..] = self.words.as_slice() else {
                    return Err(Refusal::usage(
                        "register: expected CONTAINER PORT SERVICE [KEY=VALUE...]",
                    ));
                };
                let name =
                    values::container(name).map_err(|e| Refusal::value("CONTAINER", name, e))?;
                let port = values::port(port).map_err(|e| Refusal::value("PORT", port, e))?;
                let ambient = environment.host_ip()?;
                let host_ip = HostIp { chosen: self.host_ip, ambient };
                let docker = match self.docker {
                    Some(address) => address,
                    None => environment.docker()?.unwrap_or_default(),
                };
                let source = Source::Container { name: name.clone(), port, host_ip, docker };
                (source, service, attributes, name)
            }
        };
        let service: ServiceName =
            service.parse().map_err(|e| Refusal::value("SERVICE", service, e))?;
        let attributes = parse_attributes(attributes)?;
        let instance = match self.instance {
            Some(instance) => instance,
            None => default_instance
                .parse()
                .map_err(|e| Refusal::value("--instance (by default)", &default_instance, e))?,
        };
        let registry = self.etcd.resolve(environment)?;
        let key = registry.prefix.instance(&service, &instance);
        let config = registrar::Config {
            target: Target { key, attributes, source },
            ttl: self.ttl,
            has_check: self.check.is_some(),
        };
        let notify_socket = environment.notify_socket();
        Ok(Register { config, registry, explain: self.explain, notify_socket })
    }
}

/// `--address` as it is registered: as given, but a loopback address at what
/// `--host-ip` says, because no other host can reach it unless the operator says so.
fn reachable(address: HostPort, host_ip: Option<IpAddr>) -> Result<HostPort, Refusal> {
    use crate::address::Host;
    if !address.host.is_loopback() {
        return Ok(address);
    }
    match host_ip {
        Some(ip) => Ok(HostPort { host: Host::Ip(ip), port: address.port }),
        None => Err(Refusal::usage(&format!(
            "--address {address}: no other host can reach {}; to register it all the same, say \
             --host-ip 127.0.0.1",
            address.host
        ))),
    }
}

fn parse_attributes(words: &[String]) -> Result<Vec<Attribute>, Refusal> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for word in words {
        let refuse = |problem: &str| Refusal::value("KEY=VALUE", word, problem);
        let attribute: Attribute =
            word.parse().map_err(|e| Refusal::value("KEY=VALUE", word, e))?;
        if attributes.iter().any(|earlier| earlier.key == attribute.key) {
            return Err(refuse("the key is given twice"));
        }
        attributes.push(attribute);
    }
    Ok(attributes)
}

impl TypedProxy {
    fn resolve(self, environment: &Environment) -> Result<Proxy, Refusal> {
        let mut routes = Vec::new();
        for pair in self.routes.chunks(2) {
            let [service, listen] = pair else {
                return Err(Refusal::usage(&format!(
                    "proxy: expected pairs of SERVICE LISTEN, and {} has no LISTEN",
                    pair[0]
                )));
            };
            routes.push(Route {
                service: service.parse().map_err(|e| Refusal::value("SERVICE", service, e))?,
                listen: listen.parse().map_err(|e| Refusal::value("LISTEN", listen, e))?,
            });
        }
        // Port 0 may be asked for several times, and gives another one each time.
        let is_fixed = |listen: Listen| match listen {
            Listen::Any(port) => port != 0,
            Listen::At(address) => address.port() != 0,
        };
        for (index, Route { listen, .. }) in routes.iter().enumerate() {
            if is_fixed(*listen) && routes[..index].iter().any(|other| other.listen == *listen) {
                return Err(Refusal::usage(&format!("LISTEN: {listen} is given twice")));
            }
        }
        let registry = self.etcd.resolve(environment)?;
        Ok(Proxy { routes, registry, serving: self.serving.resolve(environment) })
    }
}

impl TypedEtcd {
    fn resolve(self, environment: &Environment) -> Result<Registry, Refusal> {
        let members = match self.etcd {
            Some(values::Members(members)) => members,
            None => environment.etcd_members()?.unwrap_or_else(etcd::default_members),
        };
        Ok(Registry { members, prefix: self.prefix })
    }
}

impl TypedServing {
    fn resolve(self, environment: &Environment) -> Serving {
        Serving {
            settings: Settings {
                connect_timeout: self.connect_timeout,
                wait: self.wait,
                eject: self.eject,
                send_proxy: self.send_proxy.map(|version| match version {
                    SendProxy::V1 => ProxyHeader::V1,
                    SendProxy::V2 => ProxyHeader::V2,
                }),
            },
            balance: match self.balance {
                BalanceName::RoundRobin => Balance::RoundRobin,
                BalanceName::LeastConn => Balance::LeastConn,
                BalanceName::Random => Balance::Random,
                BalanceName::Source => Balance::Source,
            },
            on_remove: match self.on_remove {
                OnRemoveName::Keep => OnRemove::Keep,
                OnRemoveName::Probe => OnRemove::Probe,
                OnRemoveName::Close => OnRemove::Close,
            },
            idle_timeout: self.idle_timeout,
            max_connections: self.max_connections,
            drain: self.drain,
            notify_socket: environment.notify_socket(),
        }
    }
}

#[cfg(test)]
mod tests;
