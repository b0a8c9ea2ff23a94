//! The log: records are made where they arise, written by a thread of its own.
//!
//! A full stderr (a stopped terminal, a stuck log driver) must never stop the
//! data path, so records go through a bounded channel; what does not fit is
//! dropped and counted.

mod line;
mod names;
mod repeats;

use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use log::{Level, LevelFilter, Log, Metadata, Record};

pub(crate) use self::{
    line::{Format, Line},
    names::{name_thread, tell_names},
};
use self::{names::with_thread_name, repeats::Repeats};

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
pub(crate) fn start(filter: &Filter, format: Format) -> io::Result<LogGuard> {
    let (lines, waiting) = crossbeam_channel::bounded(WAITING_LINES);
    let (shutdown, asked) = crossbeam_channel::bounded::<()>(0);
    let (finished, done) = crossbeam_channel::bounded(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue { filter: env_filter(filter), lines, dropped: Arc::clone(&dropped) };
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        Writer { format, dropped, bytes: Vec::new() }.run(&waiting, &asked);
        let _ = finished.send(());
    })?;
    log::set_max_level(queue.filter.filter());
    log::set_boxed_logger(Box::new(queue)).expect("it is installed once, here");
    panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(LogGuard { shutdown: Some(shutdown), done })
}

/// `env_logger` reads the directives and decides; it writes nothing.
fn env_filter(filter: &Filter) -> env_logger::Logger {
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
    builder.build()
}

/// Writes why the process ends, when the log has ended.
pub(crate) fn write_last(format: Format, failure: &impl fmt::Display) {
    let mut bytes = Vec::new();
    line::write_last(format, failure, &mut bytes);
    let _ = io::stderr().write_all(&bytes);
}

/// What the HTTP client traces is every byte of every request, and so passwords and
/// tokens. What it says at other levels leaves them out.
fn is_secret(metadata: &Metadata<'_>) -> bool {
    metadata.level() == Level::Trace && metadata.target().starts_with("ureq")
}

/// Whether stderr is the stream to the journal that `stream` names, the value of
/// `JOURNAL_STREAM`. Whoever inherits the variable may have another stderr.
///
/// Source: systemd.exec(5): the device and inode numbers, separated by a colon.
pub(crate) fn is_stderr(stream: &str) -> bool {
    let stderr = || File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata();
    stderr().is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// The end of the channel where records arise.
struct Queue {
    filter: env_logger::Logger,
    lines: Sender<Box<Line>>,
    dropped: Arc<AtomicU64>,
}

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata) && !is_secret(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) || is_secret(record.metadata()) {
            return;
        }
        let line = with_thread_name(|name| Line::new(record.level(), name, *record.args()));
        // It is full, or the process is ending.
        if self.lines.try_send(Box::new(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The end of the channel where lines go to stderr.
struct Writer {
    format: Format,
    dropped: Arc<AtomicU64>,
    /// The line that is being written, so that it is one write(2).
    bytes: Vec<u8>,
}

impl Writer {
    /// Writes lines until asked to end and nothing waits.
    fn run(mut self, waiting: &Receiver<Box<Line>>, asked: &Receiver<()>) {
        let mut repeats = Repeats::default();
        loop {
            let patience = repeats.patience(Instant::now());
            let line = crossbeam_channel::select_biased! {
                recv(waiting) -> line => match line {
                    Ok(line) => Some(line),
                    Err(_) => break,
                },
                recv(asked) -> _ => break,
                default(patience) => None,
            };
            let mut write = |line: &Line| self.write(line);
            repeats.say_due(Instant::now(), &mut write);
            if let Some(line) = line {
                repeats.pass(line, Instant::now(), &mut write);
            }
            let lost = self.dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let text = format_args!("{lost} lines dropped: stderr did not keep up");
                self.write(&Line::new(Level::Warn, "log", text));
            }
        }
        repeats.say_rest(Instant::now(), &mut |line| self.write(line));
    }

    fn write(&mut self, line: &Line) {
        self.bytes.clear();
        line.write(self.format, &mut self.bytes);
        // A closed stderr leaves nowhere to say so.
        let _ = io::stderr().write_all(&self.bytes);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.shutdown = None;
        let _ = self.done.recv_timeout(FLUSH_WAIT);
    }
}
