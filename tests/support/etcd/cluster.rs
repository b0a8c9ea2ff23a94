//! Three members whose links to each other can be cut.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::relay::{Link, relay};
use super::super::upstream::Upstream;
use super::{Api, Etcd, Pace};
use crate::support::{DEADLINE, eventually, eventually_some};

/// How many members a [`Cluster`] has.
pub(crate) const MEMBERS: usize = 3;

pub(crate) struct Cluster {
    members: Vec<Etcd>,
    links: Arc<Links>,
    /// Between each member and its peers.
    _relays: Vec<Upstream>,
}

/// Which members are cut off from their peers. Their clients still reach them.
#[derive(Default)]
struct Links {
    isolated: Mutex<[bool; MEMBERS]>,
    /// Which member calls itself by which id.
    ids: Mutex<HashMap<String, usize>>,
}

impl Links {
    /// The link that `request` takes to the member `to`.
    fn link(&self, request: &str, to: usize) -> Link {
        let isolated = self.isolated.lock().unwrap();
        let from = header(request, "X-Server-From").and_then(|id| self.member(id));
        let is_cut = isolated[to] || from.is_some_and(|from| isolated[from]);
        if is_cut { Link::IsCut } else { Link::Passes }
    }

    fn member(&self, id: &str) -> Option<usize> {
        self.ids.lock().unwrap().get(id).copied()
    }
}

/// rafthttp names the sender in the head of each of its requests.
fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Cluster {
    pub(crate) fn start(pace: Pace) -> Cluster {
        Cluster::start_with(Api::of_tests(), pace)
    }

    pub(crate) fn start_with(api: Api, pace: Pace) -> Cluster {
        let mut members: Vec<Etcd> = (0..MEMBERS).map(|_| Etcd::absent_with(api)).collect();
        let links = Arc::new(Links::default());
        let mut relays = Vec::new();
        for (index, member) in members.iter_mut().enumerate() {
            let (links, peer) = (links.clone(), member.peer_address);
            let relay = Upstream::serve_at(SocketAddr::new(peer.ip(), 2381), move |client| {
                relay(client, peer, |request, _| links.link(request, index))
            });
            member.name = format!("m{index}");
            member.advertised_peer = relay.address();
            member.pace = pace;
            relays.push(relay);
        }
        let all: Vec<String> = members
            .iter()
            .map(|member| format!("{}=http://{}", member.name, member.advertised_peer))
            .collect();
        for member in &mut members {
            member.initial_cluster = all.join(",");
        }
        let mut cluster = Cluster { members, links, _relays: relays };
        cluster.start_all();
        cluster.learn_ids();
        cluster
    }

    fn start_all(&mut self) {
        self.members.iter_mut().for_each(Etcd::spawn);
        self.wait_until_whole();
    }

    /// Waits until every member answers for the whole cluster.
    #[track_caller]
    pub(crate) fn wait_until_whole(&self) {
        eventually("every member answers", || self.members.iter().all(Etcd::has_quorum));
    }

    fn learn_ids(&self) {
        for (name, id) in self.members[0].member_ids() {
            let index = self.members.iter().position(|member| member.name == name).unwrap();
            self.links.ids.lock().unwrap().insert(id, index);
        }
    }

    pub(crate) fn member(&self, index: usize) -> &Etcd {
        &self.members[index]
    }

    /// Where clients reach each member.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Etcd::address).collect()
    }

    /// As `--etcd` takes it; the first one is asked before the others.
    pub(crate) fn urls_from(&self, first: usize) -> String {
        let mut urls: Vec<String> = self.members.iter().map(Etcd::url).collect();
        urls.rotate_left(first % MEMBERS);
        urls.join(",")
    }

    /// The member that leads now.
    #[track_caller]
    pub(crate) fn leader(&self) -> usize {
        eventually_some(DEADLINE, "a leader", || {
            (0..MEMBERS).find(|&index| {
                self.members[index].is_leader(Duration::from_millis(500)).is_ok_and(|is| is)
            })
        })
    }

    /// Ends a member at once, as a power cut would; its data stay.
    pub(crate) fn stop(&mut self, index: usize) {
        self.members[index].stop();
    }

    /// Starts a stopped member, without waiting for it.
    pub(crate) fn start_member(&mut self, index: usize) {
        self.members[index].spawn();
    }

    pub(crate) fn pause(&mut self, index: usize) {
        self.members[index].pause();
    }

    pub(crate) fn resume(&mut self, index: usize) {
        self.members[index].resume();
    }

    /// Cuts a member off from its peers, or ends that.
    pub(crate) fn isolate(&self, index: usize, is_isolated: bool) {
        self.links.isolated.lock().unwrap()[index] = is_isolated;
    }

    /// Waits until a member other than `lost` answers for the cluster, and returns it.
    #[track_caller]
    pub(crate) fn survivor(&self, lost: usize) -> &Etcd {
        let others = || (0..MEMBERS).filter(|&index| index != lost);
        eventually_some(DEADLINE, "the others have a leader", || {
            others().map(|index| &self.members[index]).find(|member| member.has_quorum())
        })
    }

    /// Writes through a member other than `lost`, as soon as they have a leader.
    #[track_caller]
    pub(crate) fn put_without(&self, lost: usize, key: &str, value: &str) {
        let mut others = (0..MEMBERS).filter(|&index| index != lost).cycle();
        eventually(&format!("{key} is written"), || {
            let member = &self.members[others.next().unwrap()];
            member.put_within(Duration::from_secs(1), key, value)
        });
    }

    /// Loses everything that was stored.
    pub(crate) fn wipe(&mut self) {
        self.members.iter_mut().for_each(Etcd::stop);
        for member in &self.members {
            fs::remove_dir_all(member.data()).unwrap();
        }
        self.start_all();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // So that nobody goes on looking at a link that stays cut.
        *self.links.isolated.lock().unwrap() = [false; MEMBERS];
    }
}
