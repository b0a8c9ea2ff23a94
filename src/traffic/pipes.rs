//! Pipes for splice(2), lent to busy streams.
//!
//! Large pipes are few: an unprivileged user has 16,384 pages for all of them,
//! 64 pipes of 1 MiB (pipe(7), `fs.pipe-user-pages-soft`). So a stream borrows
//! one while it is busy and gives it back.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The sizes asked for, in turn. A pipe's size matters more than splice itself:
/// below the last one a plain buffer does better.
const SIZES: [usize; 3] = [1024 * 1024, 256 * 1024, 64 * 1024];

/// So many are kept for the next stream.
const KEPT: usize = 16;

/// An empty pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) bytes: usize,
}

/// The pipes of a process that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct Pipes(Mutex<Vec<Pipe>>);

impl Pipes {
    /// A pipe of at least 64 KiB, or `None` where the limits allow none.
    pub(super) fn take(&self) -> Option<Pipe> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.or_else(Pipe::new)
    }

    /// Takes back a pipe, which must be empty.
    pub(super) fn give_back(&self, pipe: Pipe) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A small one is not worth keeping: by the next time a large one may be had.
        if kept.len() < KEPT && pipe.bytes == SIZES[0] {
            kept.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> Option<Pipe> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        let bytes = SIZES.iter().find_map(|&size| fcntl_setpipe_size(&write, size).ok())?;
        Some(Pipe { read, write, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_given_back_is_lent_again() {
        let pipes = Pipes::default();
        let pipe = pipes.take().expect("the limits allow one pipe");
        assert!(pipe.bytes >= SIZES[2]);
        let is_large = pipe.bytes == SIZES[0];
        pipes.give_back(pipe);
        assert_eq!(pipes.0.lock().unwrap().len(), usize::from(is_large));
        pipes.take().expect("one was kept, or may be made");
        assert!(pipes.0.lock().unwrap().is_empty());
    }
}
