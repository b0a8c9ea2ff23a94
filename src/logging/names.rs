//! What threads are called: in log lines at once, for `ps -T` and gdb a moment later.
//!
//! A thread that carries one connection after the other has a new name for each. To tell
//! the kernel is a system call, twice for each of two threads, and nobody sees the name of
//! a connection that lasts a millisecond. So a thread only notes its name, and who comes
//! round regularly tells the kernel of those that have lasted.

use std::{
    cell::OnceCell,
    fmt, fs,
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};

use rustix::thread::{Pid, gettid};

/// The kernel keeps so much of a thread's name, and its NUL (prctl(2), PR_SET_NAME).
const NAME_BYTES: usize = 15;

/// Padded with NUL. Not a `String`, because every idle connection has two of them.
type Name = [u8; NAME_BYTES + 1];

/// A thread that names itself.
#[derive(Debug)]
struct Plate {
    id: Pid,
    names: Mutex<Names>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Names {
    now: Name,
    /// What the kernel was told, if it was.
    told: Name,
}

thread_local! {
    static PLATE: OnceCell<Arc<Plate>> = const { OnceCell::new() };
}

/// Those of all threads that name themselves.
static PLATES: Mutex<Vec<Weak<Plate>>> = Mutex::new(Vec::new());

/// Names this thread anew. (`std::thread` names a thread once.) What is beyond the 15
/// bytes of the kernel is cut.
pub(crate) fn name_thread(name: fmt::Arguments<'_>) {
    let mut bytes = Name::default();
    // It fails for a name that is too long, of which it has written what fits.
    let _ = (&mut bytes[..NAME_BYTES]).write_fmt(name);
    PLATE.with(|plate| plate.get_or_init(Plate::put_up).names().now = bytes);
}

/// Tells the kernel of the names that are new since the last time.
pub(crate) fn tell_names() {
    let plates: Vec<Arc<Plate>> = {
        let mut plates = locked(&PLATES);
        plates.retain(|plate| plate.strong_count() > 0);
        plates.iter().filter_map(Weak::upgrade).collect()
    };
    for plate in plates {
        let Names { now, told } = *plate.names();
        if now != told {
            // Another thread's name is a file; without /proc only log lines have it.
            let file = format!("/proc/self/task/{}/comm", plate.id.as_raw_nonzero());
            let _ = fs::write(file, text(&now).unwrap_or_default());
            plate.names().told = now;
        }
    }
}

/// Calls `then` with the name this thread has now.
pub(super) fn with_thread_name<T>(then: impl FnOnce(&str) -> T) -> T {
    let own = PLATE.try_with(|plate| plate.get().map(|plate| plate.names().now));
    match own.ok().flatten().as_ref().and_then(text) {
        Some(name) => then(name),
        None => then(thread::current().name().unwrap_or("-")),
    }
}

impl Plate {
    fn put_up() -> Arc<Self> {
        let plate = Arc::new(Plate { id: gettid(), names: Mutex::default() });
        locked(&PLATES).push(Arc::downgrade(&plate));
        plate
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        locked(&self.names)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` of an empty name.
fn text(name: &Name) -> Option<&str> {
    let name = name.split(|byte| *byte == 0).next()?;
    str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_in_log_lines_at_once_and_at_the_kernel_when_it_is_told() {
        thread::scope(|scope| {
            scope.spawn(|| {
                let comm = format!("/proc/self/task/{}/comm", gettid().as_raw_nonzero());
                let at_the_kernel = || fs::read_to_string(&comm).unwrap().trim().to_owned();
                for name in ["up-1", "a-name-of-sixteen"] {
                    name_thread(format_args!("{name}"));
                    let cut = &name[..name.len().min(NAME_BYTES)];
                    with_thread_name(|own| assert_eq!(own, cut));
                    tell_names();
                    assert_eq!(at_the_kernel(), cut);
                }
            });
        });
    }
}
