//! What would be registered, and by which rule, without writing anything.

use super::{Config, Source, wanted::Verdict};
use crate::{
    docker,
    report::{self, Failure},
};

/// One look at Docker, for `--explain`: what would be registered, and why, in
/// lines for a reader; or why nothing would be.
pub(crate) fn explain(config: &Config) -> Result<String, Failure> {
    let target = &config.target;
    let (wanted, why) = match &target.source {
        Source::Fixed(address) => {
            let wanted = target.fixed().expect("a fixed address has entries");
            (wanted, format!("{address} was given as --address"))
        }
        Source::Container { name, port, host_ip, docker } => {
            let mut client = docker::Client::new(docker.clone());
            let failed = |error: docker::Error| Failure::Running(report::chain(&error));
            let container = client.container(name).map_err(failed)?;
            let host_name = match target.names_the_host() {
                true => client.host_name().map_err(failed)?,
                false => String::new(),
            };
            let verdict = target.judge(name, *port, host_ip, container.as_ref(), &host_name);
            let not_registered = |why: &str| format!("not registered: {why}");
            match verdict {
                Verdict::Present(wanted) => {
                    let published: Vec<String> = container
                        .iter()
                        .flat_map(|container| container.bindings(port.get()).unwrap_or_default())
                        .map(|binding| format!("{}:{}", binding.host_ip, binding.host_port))
                        .collect();
                    let published = published.join(", ");
                    let rule = wanted.first().map_or("", |wanted| host_ip.rule(&wanted.address));
                    (
                        wanted,
                        format!("container {name} publishes {port}/tcp at {published}; {rule}"),
                    )
                }
                Verdict::Absent(why) | Verdict::Unpublished(why) => {
                    return Err(Failure::Running(not_registered(&why)));
                }
                Verdict::NotYet => {
                    let why = format!("Docker has not assigned {port}/tcp of {name} a port yet");
                    return Err(Failure::Running(not_registered(&why)));
                }
                Verdict::Unreachable(why) => return Err(Failure::Usage(not_registered(&why))),
            }
        }
    };
    let ttl = config.ttl.as_secs();
    let check = if config.has_check { "while a TCP connect succeeds" } else { "without a check" };
    let entries: String = wanted
        .iter()
        .map(|wanted| format!("key    {}\nvalue  {}\n", wanted.key, wanted.value))
        .collect();
    Ok(format!("{entries}ttl    {ttl} s, refreshed every third of it, {check}\nwhy    {why}"))
}
