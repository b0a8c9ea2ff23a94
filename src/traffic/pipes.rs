//! Pipes for splice(2), lent to busy streams.
//!
//! Large pipes are few: an unprivileged user has 16,384 pages for all of them,
//! 64 pipes of 1 MiB (pipe(7), `fs.pipe-user-pages-soft`). So a stream borrows
//! one while it is busy and gives it back.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
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

/// The pipes of a process.
#[derive(Debug)]
pub(super) struct Pipes {
    most_lent: usize,
    stock: Mutex<Stock>,
}

#[derive(Debug, Default)]
struct Stock {
    kept: Vec<Pipe>,
    lent: usize,
}

/// A pipe that is lent. Unless it is given back, it is closed: it may hold bytes
/// of a stream that broke.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    /// Taken out only by `give_back`.
    pipe: Option<Pipe>,
    pipes: &'a Pipes,
}

impl Pipes {
    /// At most `most_lent` are lent at the same time, which bounds the descriptors they
    /// take.
    pub(super) fn new(most_lent: usize) -> Self {
        Pipes { most_lent, stock: Mutex::default() }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a pipe of at least 64 KiB; `None` where the limits allow none.
    pub(super) fn lend(&self) -> Option<Lent<'_>> {
        let kept = {
            let mut stock = self.stock();
            if stock.lent == self.most_lent {
                return None;
            }
            stock.lent += 1;
            stock.kept.pop()
        };
        match kept.or_else(Pipe::new) {
            Some(pipe) => Some(Lent { pipe: Some(pipe), pipes: self }),
            None => {
                self.stock().lent -= 1;
                None
            }
        }
    }
}

impl Lent<'_> {
    pub(super) fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().expect("it is taken out only when it is given back")
    }

    /// Gives back a pipe, which must be empty.
    pub(super) fn give_back(mut self) {
        // A small one is not worth keeping: by the next time a large one may be had.
        let pipe = self.pipe.take_if(|pipe| pipe.bytes == SIZES[0]);
        let mut stock = self.pipes.stock();
        if let Some(pipe) = pipe
            && stock.kept.len() < KEPT
        {
            stock.kept.push(pipe);
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pipes.stock().lent -= 1;
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
    fn a_pipe_given_back_is_lent_again_and_one_that_is_not_is_closed() {
        let pipes = Pipes::new(1);
        let lent = pipes.lend().expect("the limits allow one pipe");
        assert!(lent.pipe().bytes >= SIZES[2]);
        let is_large = lent.pipe().bytes == SIZES[0];
        lent.give_back();
        assert_eq!(pipes.stock().kept.len(), usize::from(is_large));
        drop(pipes.lend().expect("one was kept, or may be made"));
        assert!(pipes.stock().kept.is_empty());
        assert_eq!(pipes.stock().lent, 0);
    }

    #[test]
    fn no_more_are_lent_than_allowed() {
        let pipes = Pipes::new(1);
        let lent = pipes.lend();
        assert!(lent.is_some() && pipes.lend().is_none());
        drop(lent);
        assert!(pipes.lend().is_some());
    }
}
