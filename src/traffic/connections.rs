//! The open connections of a process: counted, capped, and reset at the end.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::copy::Link;

/// All connections, from accept to close, of all listeners.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    table: Mutex<Table>,
    one_ended: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Arc<Link>>,
    /// Threads that wait for one of them to end.
    waiting: usize,
    is_closed: bool,
}

/// One entry of the table, held by the connection's threads. The last one to let
/// go of it takes the connection out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) link: Arc<Link>,
    connections: Arc<Connections>,
}

impl Connections {
    /// At most `max` are open at the same time.
    pub(crate) fn new(max: usize) -> Self {
        Connections { max, table: Mutex::default(), one_ended: Condvar::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection, once there is room for it. `None` when the process
    /// is ending: the client is reset.
    pub(super) fn enter(self: &Arc<Self>, link: Link) -> Option<Entry> {
        let table = self.wait_for_room();
        if table.is_closed {
            link.reset_on_close();
            return None;
        }
        Some(self.insert(table, link))
    }

    /// The same for a client that must not notice the end of the process: it is taken in
    /// then, room or not.
    pub(super) fn enter_even_last(self: &Arc<Self>, link: Link) -> Entry {
        self.insert(self.wait_for_room(), link)
    }

    fn wait_for_room(&self) -> MutexGuard<'_, Table> {
        let is_full = |table: &mut Table| table.open.len() >= self.max && !table.is_closed;
        self.wait_while(is_full, Duration::MAX)
    }

    fn insert(self: &Arc<Self>, mut table: MutexGuard<'_, Table>, link: Link) -> Entry {
        let id = table.next_id;
        table.next_id += 1;
        let link = Arc::new(link);
        table.open.insert(id, Arc::clone(&link));
        Entry { id, link, connections: Arc::clone(self) }
    }

    /// Whether one more may enter without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.count() < self.max
    }

    /// Takes in no more.
    pub(crate) fn close(&self) {
        self.table().is_closed = true;
        self.one_ended.notify_all();
    }

    /// Those that are open, with their numbers.
    pub(super) fn all(&self) -> Vec<(u64, Arc<Link>)> {
        self.table().open.iter().map(|(id, link)| (*id, Arc::clone(link))).collect()
    }

    /// Adds to the tallies of all instances what open connections have moved so far.
    pub(crate) fn tally(&self) {
        self.all().iter().for_each(|(_, link)| link.tally());
    }

    /// How many may be open at the same time.
    pub(crate) fn most(&self) -> usize {
        self.max
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.table().open.len()
    }

    /// Waits until none is open, or for `patience`. Returns whether none is.
    pub(crate) fn wait_until_none(&self, patience: Duration) -> bool {
        let is_any = |table: &mut Table| !table.open.is_empty();
        self.wait_while(is_any, patience).open.is_empty()
    }

    fn wait_while(
        &self,
        is_so: impl FnMut(&mut Table) -> bool,
        patience: Duration,
    ) -> MutexGuard<'_, Table> {
        let mut table = self.table();
        table.waiting += 1;
        let waited = self.one_ended.wait_timeout_while(table, patience, is_so);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        table.waiting -= 1;
        table
    }

    /// Makes the end of the process a reset for every open connection.
    pub(crate) fn reset_all(&self) {
        for link in self.table().open.values() {
            link.reset_on_close();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if thread::panicking() {
            self.link.reset_on_close();
        }
        let mut table = self.connections.table();
        table.open.remove(&self.id);
        // Waking is a system call even where nobody waits.
        if table.waiting > 0 {
            self.connections.one_ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
