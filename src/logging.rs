//! The log: formatted where a record arises, written by a thread of its own.
//!
//! A full stderr (a stopped terminal, a stuck log driver) must never stop the
//! data path, so records go through a bounded channel; what does not fit is
//! dropped and counted.

use std::{
    cell::Cell,
    ffi::CStr,
    fmt,
    io::{self, Write},
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use log::{Level, LevelFilter, Metadata};

use crate::report::Printable;

/// Lines that may wait for stderr: a burst of every connection's line at the
/// default limit of connections fits.
const WAITING_LINES: usize = 4096;

/// How long the end of the process waits for a stderr that does not move.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// Which records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// A level for our own records; libraries stay at `warn`.
    Level(LevelFilter),
    /// The directives of `RUST_LOG`.
    Directives(String),
}

/// Held by `main`; dropping it writes what still waits.
#[derive(Debug)]
pub(crate) struct LogGuard {
    shutdown: Option<Sender<()>>,
    done: Receiver<()>,
}

/// Installs the logger and starts the `log` thread.
pub(crate) fn start(filter: &Filter) -> io::Result<LogGuard> {
    let (lines, waiting) = crossbeam_channel::bounded(WAITING_LINES);
    let (shutdown, asked) = crossbeam_channel::bounded::<()>(0);
    let (finished, done) = crossbeam_channel::bounded(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue { lines, dropped: Arc::clone(&dropped) };
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        write_lines(&waiting, &asked, &dropped);
        let _ = finished.send(());
    })?;
    let mut builder = env_logger::Builder::new();
    match filter {
        Filter::Level(level) => {
            builder.filter_level(LevelFilter::Warn.min(*level));
            builder.filter_module(env!("CARGO_CRATE_NAME"), *level);
        }
        Filter::Directives(directives) => {
            builder.parse_filters(directives);
        }
    }
    builder.format(|out, record| match is_secret(record.metadata()) {
        true => Ok(()),
        false => write_line(out, record.level(), *record.args()),
    });
    builder.target(env_logger::Target::Pipe(Box::new(queue))).init();
    panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(LogGuard { shutdown: Some(shutdown), done })
}

/// What the HTTP client traces is every byte of every request, and so passwords and
/// tokens. What it says at other levels leaves them out.
fn is_secret(metadata: &Metadata<'_>) -> bool {
    metadata.level() == Level::Trace && metadata.target().starts_with("ureq")
}

/// One record is one line, whatever is in its message.
pub(crate) fn write_line(
    out: &mut impl Write,
    level: Level,
    message: fmt::Arguments<'_>,
) -> io::Result<()> {
    let message = message.to_string();
    with_thread_name(|name| writeln!(out, "{level} {name} {}", Printable(&message)))
}

/// The kernel keeps so much of a thread's name, and its NUL (prctl(2), PR_SET_NAME).
const NAME_BYTES: usize = 15;

thread_local! {
    /// The name a thread has now, where it is not the one it was started with; padded
    /// with NUL. Not a `String`, because every idle connection has two of them.
    static NAME: Cell<[u8; NAME_BYTES + 1]> = const { Cell::new([0; NAME_BYTES + 1]) };
}

/// Names this thread, in log lines and for `ps -T`. (`std::thread` names a thread
/// once; those that carry connections are named after each of them.) What is beyond
/// the 15 bytes of the kernel is cut.
pub(crate) fn name_thread(name: fmt::Arguments<'_>) {
    let mut bytes = [0; NAME_BYTES + 1];
    // It fails for a name that is too long, of which it has written what fits.
    let _ = (&mut bytes[..NAME_BYTES]).write_fmt(name);
    NAME.set(bytes);
    // Only log lines depend on a name.
    if let Ok(name) = CStr::from_bytes_until_nul(&bytes) {
        let _ = rustix::thread::set_name(name);
    }
}

fn with_thread_name<T>(then: impl FnOnce(&str) -> T) -> T {
    let bytes = NAME.get();
    let name = bytes.split(|byte| *byte == 0).next().and_then(|name| str::from_utf8(name).ok());
    match name {
        None | Some("") => then(thread::current().name().unwrap_or("-")),
        Some(name) => then(name),
    }
}

/// The end of the channel that `env_logger` writes to, one whole line a call.
struct Queue {
    lines: Sender<Box<[u8]>>,
    dropped: Arc<AtomicU64>,
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(line.into()) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines until asked to end and nothing waits.
fn write_lines(waiting: &Receiver<Box<[u8]>>, asked: &Receiver<()>, dropped: &AtomicU64) {
    let mut stderr = io::stderr();
    loop {
        let line = crossbeam_channel::select_biased! {
            recv(waiting) -> line => line,
            recv(asked) -> _ => break,
        };
        let Ok(line) = line else { break };
        // A closed stderr leaves nowhere to say so.
        let _ = stderr.write_all(&line);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(stderr, "WARN log {lost} lines dropped: stderr did not keep up");
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.shutdown = None;
        let _ = self.done.recv_timeout(FLUSH_WAIT);
    }
}
