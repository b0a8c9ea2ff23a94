//! What may be typed, and what it means once the environment is taken into
//! account. Pure: arguments and environment in, a role out.

mod doctor_options;
mod environment;
mod etcd_options;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host_options;
mod manual;
mod refusal;
mod register_options;
mod typed;
mod values;

use std::{ffi::OsString, net::Ipv4Addr, path::Path};

use clap::{CommandFactory, FromArgMatches};
use clap_complete::{
    generate,
    shells::{Bash, Fish, Zsh},
};
use log::LevelFilter;

use self::typed::{
    BalanceName, LogFormat, OnRemoveName, SendProxy, ShellName, Typed, TypedCommand, TypedExec,
    TypedForward, TypedProxy, TypedServing, TypedStatus,
};
pub(crate) use self::{environment::Environment, refusal::Refusal};
use crate::{
    logging::Filter,
    roles::{Env, Exec, Forward, List, Proxy, Role, Route, Serving, ShowStatus},
    traffic::{Balance, Listen, OnRemove, ProxyHeader, Settings},
};

/// What a call of the program asks for.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) filter: Filter,
    /// What is logged is written as JSON.
    pub(crate) is_json: bool,
    pub(crate) role: Role,
}

/// The names of the 2014 images, and the commands they are now.
const ROLES_BY_NAME: [(&str, &str); 3] =
    [("simple-amb", "forward"), ("docker-register", "register"), ("dynamic-etcd-amb", "proxy")];

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
    let is_json = typed.log_format == LogFormat::Json;
    let role = match typed.command {
        TypedCommand::Forward(forward) => Role::Forward(forward.resolve(environment)?),
        TypedCommand::Register(register) => Role::Register(register.resolve(environment)?),
        TypedCommand::Proxy(proxy) => Role::Proxy(proxy.resolve(environment)?),
        TypedCommand::Status(status) => {
            let TypedStatus { admin, json, watch } = status;
            Role::Status(ShowStatus { admin, json, watch })
        }
        TypedCommand::List(list) => Role::List(List {
            service: list.service,
            json: list.json,
            check: list.check,
            registry: list.etcd.resolve(environment)?,
        }),
        TypedCommand::Env(env) => Role::Env(Env {
            alias: env.alias.unwrap_or_else(|| values::in_variables(&env.service.to_string())),
            service: env.service,
            port: env.port,
            registry: env.etcd.resolve(environment)?,
        }),
        TypedCommand::Exec(exec) => Role::Exec(exec.resolve(environment)?),
        TypedCommand::Doctor(doctor) => Role::Doctor(doctor.resolve(environment)?),
        TypedCommand::Completions { shell } => return Err(Refusal::Text(completions(shell))),
        TypedCommand::Man => return Err(Refusal::Text(manual::page(Typed::command()))),
    };
    Ok(Invocation { filter, is_json, role })
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

/// What makes `shell` complete our command line.
fn completions(shell: ShellName) -> String {
    let (mut command, mut script) = (Typed::command(), Vec::new());
    // Each by itself: clap_complete's own choice among shells would bring in all of them.
    match shell {
        ShellName::Bash => generate(Bash, &mut command, "ambassador", &mut script),
        ShellName::Zsh => generate(Zsh, &mut command, "ambassador", &mut script),
        ShellName::Fish => generate(Fish, &mut command, "ambassador", &mut script),
    }
    String::from_utf8_lossy(&script).into_owned()
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

impl TypedExec {
    fn resolve(self, environment: &Environment) -> Result<Exec, Refusal> {
        let links = self.service;
        if links.is_empty() {
            return Err(Refusal::usage("exec: --service SERVICE:ALIAS[:PORT] is missing"));
        }
        for (index, link) in links.iter().enumerate() {
            let (alias, port) = (&link.alias.in_variables, link.port);
            if links[..index].iter().any(|other| other.alias.in_variables == *alias) {
                return Err(Refusal::usage(&format!("--service: alias {alias} is given twice")));
            }
            if port != 0 && links[..index].iter().any(|other| other.port == port) {
                return Err(Refusal::usage(&format!("--service: port {port} is given twice")));
            }
        }
        let mut words = self.words.into_iter();
        let Some(program) = words.next() else {
            return Err(Refusal::usage("exec: expected -- COMMAND [ARGS...] behind the options"));
        };
        let routes = links.iter().map(|link| {
            let listen = Listen::At((Ipv4Addr::LOCALHOST, link.port).into());
            Route { service: link.service.clone(), listen }
        });
        let routes = routes.collect();
        let aliases = links.iter().map(|link| link.alias.clone()).collect();
        let registry = self.etcd.resolve(environment)?;
        let proxy = Proxy { routes, registry, serving: self.serving.resolve(environment) };
        let options = environment::variables(&command(), "exec");
        Ok(Exec { aliases, proxy, program, arguments: words.collect(), options })
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
            supervisor: environment.supervisor(),
            admin: self.admin.admin,
        }
    }
}

#[cfg(test)]
mod tests;
