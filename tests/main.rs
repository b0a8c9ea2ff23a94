//! The real binary against a real etcd, a real redis, and Docker: a fake one
//! for faults, the real one where an engine answers (`--ignored`).
#![allow(
    clippy::disallowed_methods,
    reason = "tests start short-lived threads and wait in small steps; nobody asks them to stop"
)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stderr, reason = "the harness shows it with the test that failed")]

mod activation;
mod admin;
mod arrows;
mod bad_input;
mod bounds;
mod chaos;
mod cluster;
mod contrib;
mod doctor;
mod endings;
mod engine;
mod etcd_apis;
mod etcd_auth;
mod etcd_secure;
mod etcd_tls;
mod etcd_v3;
mod exec;
mod fake_docker;
mod forward;
mod generated;
mod helpers;
mod links;
mod listing;
mod logs;
mod metrics;
mod page;
mod proxy;
mod readiness;
mod register;
mod register_all;
mod signals;
mod support;
