mod address;
mod backoff;
mod logging;
mod notify;
mod outage;
mod report;
mod service;
mod signals;
mod stop;
mod worker;
fn main() {}
