mod address;
mod backoff;
mod connect;
mod docker;
mod etcd;
mod logging;
mod notify;
mod outage;
mod report;
mod service;
mod signals;
mod stop;
mod worker;
fn main() {}
