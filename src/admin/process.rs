//! What the kernel says of this process.

use std::fs;

use rustix::param;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) threads: u64,
    pub(crate) open_descriptors: usize,
    pub(crate) resident_bytes: u64,
    /// Of all threads, in user mode and in the kernel.
    pub(crate) cpu_s: f64,
}

impl Process {
    /// `None` where /proc does not tell.
    pub(crate) fn read() -> Option<Self> {
        let open_descriptors = fs::read_dir("/proc/self/fd").ok()?.count();
        parse(&fs::read_to_string("/proc/self/stat").ok()?, open_descriptors)
    }
}

/// Source: proc_pid_stat(5).
fn parse(stat: &str, open_descriptors: usize) -> Option<Process> {
    // The second field is a name in parentheses, with anything in it; the next is the third.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        threads: field(20)?,
        open_descriptors,
        resident_bytes: field(24)? * param::page_size() as u64,
        cpu_s: (field(14)? + field(15)?) as f64 / param::clock_ticks_per_second() as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_moves_no_field() {
        let stat = "7 (a) b 1) S 1 7 7 0 -1 4194560 5100 0 2 0 150 50 0 0 20 0 9 0 100 9000 300 0";
        let process = parse(stat, 3).unwrap();
        assert_eq!((process.threads, process.open_descriptors), (9, 3));
        assert_eq!(process.resident_bytes, 300 * param::page_size() as u64);
        assert_eq!(process.cpu_s, 200.0 / param::clock_ticks_per_second() as f64);
        assert_eq!(parse("7 (a) S 1", 3), None);
    }

    #[test]
    fn this_process_has_threads_descriptors_and_memory() {
        let process = Process::read().unwrap();
        assert!(process.threads >= 1 && process.open_descriptors >= 3);
        assert!(process.resident_bytes > 0);
    }
}
