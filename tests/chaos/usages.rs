//! What the proxies take of the machine, from the first fault to the last.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use super::world::World;
use crate::support::usage::Usage;

/// What one process takes.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    threads: usize,
    descriptors: usize,
    resident_kib: usize,
}

impl Taken {
    fn by(process: u32) -> Taken {
        let usage = Usage::of(process);
        Taken {
            threads: usage.threads(),
            descriptors: usage.descriptors(),
            resident_kib: usage.resident_bytes() / 1024,
        }
    }

    fn larger_of(self, other: Taken) -> Taken {
        Taken {
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
            resident_kib: self.resident_kib.max(other.resident_kib),
        }
    }
}

/// A look at every proxy, now and then.
#[derive(Debug, Default)]
pub(super) struct Usages {
    last: Option<Instant>,
    /// Early, when all that is made once was made; the most; at the end.
    first: Vec<Taken>,
    most: Vec<Taken>,
    end: Vec<Taken>,
}

impl Usages {
    /// Looks, if it is time.
    pub(super) fn look(&mut self, world: &World) {
        /// The first look too: by then every kind of thread has run.
        const BETWEEN: Duration = Duration::from_secs(10);
        if self.last.get_or_insert_with(Instant::now).elapsed() < BETWEEN {
            return;
        }
        self.last = Some(Instant::now());
        let now = all(world);
        if self.first.is_empty() {
            self.first.clone_from(&now);
            self.most.clone_from(&now);
        }
        let most = self.most.iter().zip(now);
        self.most = most.map(|(most, now)| most.larger_of(now)).collect();
    }

    /// After the last client has left, and what waits for another has given up.
    pub(super) fn look_at_the_end(&mut self, world: &World) {
        /// A parked thread waits 5 s for a client.
        const PARKED: Duration = Duration::from_secs(7);
        thread::sleep(PARKED);
        self.end = all(world);
    }

    /// The proxies never ended, and took no more at the end than they did at first, when
    /// they had clients.
    pub(super) fn check(&self, world: &mut World) {
        /// What musl's or glibc's allocator keeps once it had it.
        const SPARE_KIB: usize = 4 * 1024;
        /// Connections to etcd, and pipes, of which some are kept.
        const SPARE_DESCRIPTORS: usize = 40;
        for (index, (first, end)) in self.first.iter().zip(&self.end).enumerate() {
            assert!(world.proxies[index].is_running(), "a proxy ended");
            assert!(end.threads <= first.threads, "{self}");
            assert!(end.descriptors <= first.descriptors + SPARE_DESCRIPTORS, "{self}");
            assert!(end.resident_kib <= first.resident_kib + SPARE_KIB, "{self}");
        }
    }
}

fn all(world: &World) -> Vec<Taken> {
    world.proxies.iter().map(|proxy| Taken::by(proxy.id())).collect()
}

impl fmt::Display for Usages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows =
            [("after 10 s", &self.first), ("at most", &self.most), ("at the end", &self.end)];
        for (when, row) in rows {
            for (index, Taken { threads, descriptors, resident_kib }) in row.iter().enumerate() {
                writeln!(
                    f,
                    "proxy {index} {when}: {threads} threads, {descriptors} descriptors, \
                     {resident_kib} KiB resident"
                )?;
            }
        }
        Ok(())
    }
}
