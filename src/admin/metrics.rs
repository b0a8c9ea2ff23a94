//! The status in Prometheus' text format.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet, prometheus_text},
    metrics::MetricType,
    registry::Registry,
};

use super::status::{Instance, Party, REGISTRATION_STATES, Service, Status};
use crate::counters::{Asked, Durations};

pub(super) use prometheus_text::CONTENT_TYPE;

/// All of it: what a role has none of is left out.
pub(super) fn text(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Status);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (Scrape(status), mut families) = (self, Families(encoder));
        of_process(status, &mut families)?;
        of_services(&status.services, &mut families)?;
        of_instances(&status.services, &mut families)?;
        of_registrations(status, &mut families)?;
        if let Some(etcd) = &status.etcd {
            of_party("etcd", etcd, &mut families)?;
        }
        if let Some(docker) = &status.docker {
            of_party("Docker", docker, &mut families)?;
            families.counters(
                "ambassador_docker_events",
                "Events of containers that Docker told of.",
                docker.events.map(|count| ([], count)),
            )?;
        }
        Ok(())
    }
}

/// Writes one family after the other: a name, what it is, and its samples.
struct Families<'a>(DescriptorEncoder<'a>);

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Families<'_> {
    fn gauges<'a, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    /// `name` without the `_total` that is added to it.
    fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a, N>, &'a Durations)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, Durations { count, sum_s, buckets }) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_histogram::<NoLabelSet>(*sum_s, *count, buckets, None)?;
        }
        Ok(())
    }
}

fn of_process(status: &Status, families: &mut Families<'_>) -> fmt::Result {
    families.gauges(
        "ambassador_build_info",
        "1, of this version in this role.",
        [([("version", &*status.version), ("role", &*status.role)], 1_u64)],
    )?;
    families.gauge(
        "ambassador_ready",
        "1 while it does its work, as /readyz says; otherwise 0.",
        u64::from(status.ready),
    )?;
    families.gauge(
        "ambassador_uptime_seconds",
        "Seconds since it was started.",
        status.uptime_s,
    )?;
    if let Some(connections) = &status.connections {
        families.gauge(
            "ambassador_connections_limit",
            "So many connections may be open at the same time.",
            connections.max,
        )?;
        families.gauge(
            "ambassador_connections_open",
            "Connections of clients that are open, those without an instance among them.",
            connections.open,
        )?;
    }
    let Some(process) = &status.process else { return Ok(()) };
    families.gauge("ambassador_threads", "Threads of the process.", process.threads)?;
    families.gauge("process_open_fds", "Descriptors that are open.", process.open_descriptors)?;
    families.gauge(
        "process_resident_memory_bytes",
        "Memory that is in use.",
        process.resident_bytes,
    )?;
    let help = "CPU time of the process, in user mode and in the kernel.";
    let mut family =
        families.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
    family.encode_counter::<NoLabelSet, _, f64>(&process.cpu_s, None)
}

fn of_services(services: &[Service], families: &mut Families<'_>) -> fmt::Result {
    if services.is_empty() {
        return Ok(());
    }
    let each = || services.iter().map(|service| ([("service", &*service.name)], service));
    families.gauges(
        "ambassador_service_instances",
        "Instances that new clients may get.",
        each().map(|(labels, service)| {
            let registered = service.instances.iter().filter(|it| it.is_registered());
            (labels, registered.count())
        }),
    )?;
    families.gauges(
        "ambassador_service_stale_seconds",
        "For how long these are only the last known instances, because etcd is silent.",
        each().map(|(labels, service)| (labels, service.stale_s.unwrap_or_default())),
    )?;
    families.gauges(
        "ambassador_clients_held",
        "Clients that have no instance yet.",
        each().map(|(labels, service)| (labels, service.held)),
    )?;
    families.counters(
        "ambassador_clients_unserved",
        "Clients that were reset without an instance.",
        each().flat_map(|([label], service)| {
            let unserved = service.unserved.iter();
            unserved.map(move |(reason, count)| ([label, ("reason", reason)], *count))
        }),
    )?;
    families.histograms(
        "ambassador_client_wait_seconds",
        "From accepting a client to the connection to its instance.",
        each().map(|(labels, service)| (labels, &service.waits)),
    )
}

fn of_instances(services: &[Service], families: &mut Families<'_>) -> fmt::Result {
    let each = || {
        services.iter().flat_map(|service| {
            service.instances.iter().map(|instance| {
                ([("service", &*service.name), ("upstream", &*instance.address)], instance)
            })
        })
    };
    if each().next().is_none() {
        return Ok(());
    }
    let mut gauges = |name: &str, help: &str, value: fn(&Instance) -> u64| {
        families.gauges(name, help, each().map(|(labels, instance)| (labels, value(instance))))
    };
    gauges(
        "ambassador_instance_registered",
        "1 while new clients may get it; otherwise 0.",
        |instance| u64::from(instance.is_registered()),
    )?;
    gauges(
        "ambassador_instance_ejected",
        "1 while it is tried last, because it could not be reached; otherwise 0.",
        |instance| u64::from(instance.ejected_s.is_some()),
    )?;
    gauges("ambassador_instance_connections_open", "Connections that are open.", |instance| {
        instance.open as u64
    })?;
    let mut counters = |name: &str, help: &str, value: fn(&Instance) -> u64| {
        families.counters(name, help, each().map(|(labels, instance)| (labels, value(instance))))
    };
    counters("ambassador_instance_connections", "Connections that were made.", |instance| {
        instance.served
    })?;
    counters(
        "ambassador_instance_connections_reset",
        "Connections that ended in a reset.",
        |instance| instance.reset,
    )?;
    counters("ambassador_instance_ejections", "How often it came to be tried last.", |instance| {
        instance.ejections
    })?;
    families.counters(
        "ambassador_instance_bytes",
        "Bytes that were moved: up from clients, down to them.",
        each().flat_map(|([service, address], instance)| {
            [("up", instance.bytes_up), ("down", instance.bytes_down)]
                .map(|(direction, count)| ([service, address, ("direction", direction)], count))
        }),
    )?;
    families.counters(
        "ambassador_instance_dial_failures",
        "Attempts to connect that failed.",
        each().flat_map(|([service, address], instance)| {
            let failures = instance.failures.iter();
            failures.map(move |(reason, count)| ([service, address, ("reason", reason)], *count))
        }),
    )?;
    families.histograms(
        "ambassador_instance_dial_seconds",
        "To connect.",
        each().map(|(labels, instance)| (labels, &instance.dials)),
    )?;
    families.histograms(
        "ambassador_instance_first_byte_seconds",
        "From the client's first byte, or from the connection where the instance speaks first, \
         to the instance's first byte.",
        each().map(|(labels, instance)| (labels, &instance.first_bytes)),
    )
}

fn of_registrations(status: &Status, families: &mut Families<'_>) -> fmt::Result {
    if status.docker.is_none() && status.registrations.is_empty() {
        return Ok(());
    }
    let mut states: BTreeMap<&str, u64> = REGISTRATION_STATES.map(|state| (state, 0)).into();
    for registration in &status.registrations {
        *states.entry(&registration.state).or_default() += 1;
    }
    families.gauges(
        "ambassador_registrations",
        "Entries in etcd that this registrar keeps, or would keep.",
        states.into_iter().map(|(state, count)| ([("state", state)], count)),
    )
}

/// Of etcd or Docker, as `name` says.
fn of_party(name: &str, party: &Party, families: &mut Families<'_>) -> fmt::Result {
    let lower = name.to_ascii_lowercase();
    let metric = |what: &str| format!("ambassador_{lower}_{what}");
    families.gauge(
        &metric("up"),
        &format!("1 while {name} answers; 0 if not, or not yet."),
        u64::from(party.answers == Some(true)),
    )?;
    families.gauge(
        &metric("silent_seconds"),
        &format!("For how long {name} has not answered."),
        party.silent_s.unwrap_or_default(),
    )?;
    families.gauges(
        &metric("last_answer_age_seconds"),
        &format!("How long ago {name} last answered."),
        party.since_answer_s.map(|age| ([], age)),
    )?;
    families.counters(
        &metric("requests"),
        &format!("What {name} was asked, and what came of it."),
        requests(party),
    )
}

fn requests(party: &Party) -> impl Iterator<Item = (Labels<'_, 2>, u64)> {
    party.requests.iter().flat_map(|Asked { kind, answered, failed }| {
        [("answered", *answered), ("failed", *failed)]
            .map(|(outcome, count)| ([("kind", &**kind), ("outcome", outcome)], count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_told_in_numbers() {
        let text = text(Status::in_an_incident()).unwrap();
        for line in [
            r#"ambassador_build_info{version="0.1.0",role="proxy"} 1"#,
            "ambassador_ready 0",
            "ambassador_connections_limit 2048",
            "ambassador_threads 12",
            "process_cpu_seconds_total 1.5",
            r#"ambassador_service_instances{service="redis-A"} 2"#,
            r#"ambassador_service_instances{service="web"} 0"#,
            r#"ambassador_service_stale_seconds{service="redis-A"} 42"#,
            r#"ambassador_clients_held{service="web"} 1"#,
            r#"ambassador_clients_unserved_total{service="web",reason="waited_in_vain"} 7"#,
            r#"ambassador_client_wait_seconds_bucket{service="web",le="0.1"} 2"#,
            r#"ambassador_client_wait_seconds_bucket{service="web",le="1"} 3"#,
            r#"ambassador_client_wait_seconds_bucket{service="web",le="+Inf"} 3"#,
            r#"ambassador_instance_registered{service="redis-A",upstream="10.1.0.3:49157"} 0"#,
            r#"ambassador_instance_ejected{service="redis-A",upstream="10.1.0.2:49156"} 1"#,
            r#"ambassador_etcd_up 0"#,
            r#"ambassador_etcd_silent_seconds 42"#,
            r#"ambassador_etcd_last_answer_age_seconds 42.5"#,
            r#"ambassador_etcd_requests_total{kind="list",outcome="failed"} 2"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line}:\n{text}");
        }
        let of_first = |name: &str, more: &str| {
            format!("{name}{{service=\"redis-A\",upstream=\"10.1.0.1:49155\"{more}")
        };
        for line in [
            of_first("ambassador_instance_connections_open", "} 3"),
            of_first("ambassador_instance_connections_total", "} 10"),
            of_first("ambassador_instance_connections_reset_total", "} 1"),
            of_first("ambassador_instance_bytes_total", ",direction=\"up\"} 1000"),
            of_first("ambassador_instance_bytes_total", ",direction=\"down\"} 2000"),
            of_first("ambassador_instance_dial_failures_total", ",reason=\"refused\"} 4"),
            of_first("ambassador_instance_dial_seconds_bucket", ",le=\"+Inf\"} 4"),
            of_first("ambassador_instance_first_byte_seconds_count", "} 3"),
        ] {
            assert!(text.lines().any(|told| told == line), "{line}:\n{text}");
        }
        assert!(!text.contains("docker") && !text.contains("registrations"), "{text}");
    }

    #[test]
    fn no_foreign_name_ends_its_quotes_or_its_line() {
        let mut status = Status::in_an_incident();
        status.services[0].name = "a\"} 1\nforged 1\\".to_owned();
        let text = text(status).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
        assert!(text.contains(r#"{service="a\"} 1\nforged 1\\"}"#), "{text}");
    }
}
