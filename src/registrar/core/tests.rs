use proptest::prelude::*;

use super::{kills::SIGKILL, *};

const KEY: &str = "/services/redis-A/redis.service";
const TTL: Duration = Duration::from_secs(12);
const STOP_SIGNAL: i32 = 15;

/// A core, a clock, and an etcd with one key that does what it is told.
struct World {
    core: Core,
    now: Instant,
    /// The value stored, and until when.
    etcd: Option<(String, Instant)>,
    is_etcd_up: bool,
    /// Every action but `Say`, as short words.
    done: Vec<String>,
    said: Vec<String>,
}

fn wanted(port: u16, started_at: &str) -> Wanted {
    let address: HostPort = format!("10.1.0.1:{port}").parse().unwrap();
    Wanted {
        key: KEY.to_owned(),
        value: format!("10.1.0.1:{port}"),
        address,
        is_tcp: true,
        life: Life { container: "c1".to_owned(), started_at: started_at.to_owned() },
        started_ns: None,
        stop_signal: STOP_SIGNAL,
        stop_timeout: Duration::from_secs(10),
    }
}

fn killed(signal: impl Into<Option<i32>>) -> Input {
    Input::Killed { container: "c1".to_owned(), signal: signal.into(), at_ns: None }
}

impl World {
    fn new() -> Self {
        World::with(Core::new(TTL, false))
    }

    fn with(core: Core) -> Self {
        let (done, said) = (Vec::new(), Vec::new());
        World { core, now: Instant::now(), etcd: None, is_etcd_up: true, done, said }
    }

    /// A world in which container `c1` is registered.
    fn registered() -> Self {
        let mut world = World::new();
        world.tell(Input::Wanted(vec![wanted(1, "t1")]));
        assert_eq!(world.take_done(), ["put 10.1.0.1:1"]);
        world
    }

    fn tell(&mut self, input: Input) {
        self.etcd.take_if(|(_, until)| *until <= self.now);
        self.core.note(input, self.now);
        while let Some(action) = self.core.next(self.now, 1) {
            let (key, outcome) = match action {
                Action::Say(_, text) => {
                    self.said.push(text);
                    continue;
                }
                Action::Look => {
                    self.done.push("look".to_owned());
                    continue;
                }
                Action::Put { key, value } => {
                    self.done.push(format!("put {value}"));
                    (key, self.put(value))
                }
                Action::Refresh(mut entries) => {
                    self.done.push("refresh".to_owned());
                    let (key, value) = entries.pop().unwrap();
                    assert!(entries.is_empty());
                    let outcome = self.held(&value);
                    if outcome == Outcome::Done {
                        self.put(value);
                    }
                    (key, outcome)
                }
                Action::Remove { key, value } => {
                    self.done.push(format!("remove {value}"));
                    let outcome = self.held(&value);
                    if outcome == Outcome::Done {
                        self.etcd = None;
                    }
                    (key, outcome)
                }
            };
            assert_eq!(key, KEY);
            self.core.note(Input::Outcome { key, outcome }, self.now);
        }
    }

    fn put(&mut self, value: String) -> Outcome {
        if !self.is_etcd_up {
            return Outcome::Failed;
        }
        self.etcd = Some((value, self.now + TTL));
        Outcome::Done
    }

    fn held(&self, value: &str) -> Outcome {
        match &self.etcd {
            _ if !self.is_etcd_up => Outcome::Failed,
            None => Outcome::Missing,
            Some((held, _)) if held == value => Outcome::Done,
            Some((held, _)) => Outcome::Foreign(held.clone()),
        }
    }

    fn stored(&self) -> Option<&str> {
        self.etcd.as_ref().map(|(value, _)| value.as_str())
    }

    /// Lets time pass, waking the core whenever it asked to be woken.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            match self.core.due() {
                Some(due) if due <= end => self.now = due.max(self.now),
                _ => {
                    self.now = end;
                    return;
                }
            }
            self.tell(Input::Tick);
        }
        panic!("the core asks to be woken without end");
    }

    fn pass_seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }
}

#[test]
fn an_unchanged_container_is_only_refreshed_every_third_of_the_ttl() {
    let mut world = World::registered();
    for _ in 0..4 {
        world.pass_seconds(15);
        world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    }
    assert_eq!(world.take_done(), ["refresh"; 15]);
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_day_of_refreshes_and_looks_writes_nothing_twice() {
    let mut world = World::registered();
    for _ in 0..24 * 60 * 4 {
        world.pass_seconds(15);
        world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    }
    let done = world.take_done();
    assert!(done.iter().all(|action| action == "refresh"));
    assert_eq!(done.len(), 24 * 60 * 60 / 4);
}

#[test]
fn another_port_is_written_at_once() {
    let mut world = World::registered();
    world.tell(Input::Wanted(vec![wanted(2, "t2")]));
    assert_eq!(world.take_done(), ["put 10.1.0.1:2"]);
}

#[test]
fn a_container_that_is_gone_is_removed() {
    let mut world = World::registered();
    world.tell(Input::Wanted(vec![]));
    assert_eq!(world.take_done(), ["remove 10.1.0.1:1"]);
    assert_eq!(world.stored(), None);
    world.pass_seconds(60);
    assert_eq!(world.take_done(), [""; 0]);
}

#[test]
fn the_stop_signal_removes_before_the_container_stops() {
    for signal in [Some(STOP_SIGNAL), Some(SIGKILL), None] {
        let mut world = World::registered();
        world.tell(killed(signal));
        assert_eq!(world.take_done(), ["remove 10.1.0.1:1"], "{signal:?}");
        // A look that shows it still running changes nothing.
        world.tell(Input::Wanted(vec![wanted(1, "t1")]));
        assert_eq!(world.take_done(), [""; 0], "{signal:?}");
    }
}

#[test]
fn other_signals_and_other_containers_change_nothing() {
    let mut world = World::registered();
    world.tell(killed(1));
    world.tell(Input::Killed { container: "c2".to_owned(), signal: Some(SIGKILL), at_ns: None });
    assert_eq!(world.take_done(), [""; 0]);
}

#[test]
fn a_container_that_survives_its_stop_signal_is_back_after_30_s() {
    let mut world = World::registered();
    world.tell(killed(STOP_SIGNAL));
    world.pass_seconds(29);
    assert_eq!(world.take_done(), ["remove 10.1.0.1:1"]);
    world.pass_seconds(1);
    assert_eq!(world.take_done(), ["put 10.1.0.1:1"]);
}

#[test]
fn a_long_stop_timeout_is_waited_for() {
    let mut world = World::new();
    let patient = Wanted { stop_timeout: Duration::from_secs(90), ..wanted(1, "t1") };
    world.tell(Input::Wanted(vec![patient]));
    world.tell(killed(STOP_SIGNAL));
    world.pass_seconds(89);
    assert_eq!(world.stored(), None);
    world.pass_seconds(1);
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_restart_is_registered_at_once_whatever_was_signalled_before() {
    let mut world = World::registered();
    world.tell(killed(STOP_SIGNAL));
    world.tell(Input::Wanted(vec![wanted(1, "t2")]));
    assert_eq!(world.take_done(), ["remove 10.1.0.1:1", "put 10.1.0.1:1"]);
}

#[test]
fn a_late_kill_event_of_the_run_before_changes_nothing() {
    let mut world = World::new();
    let started = Wanted { started_ns: Some(1_000), ..wanted(1, "t2") };
    world.tell(Input::Wanted(vec![started]));
    let killed = |at_ns| Input::Killed {
        container: "c1".to_owned(),
        signal: Some(STOP_SIGNAL),
        at_ns: Some(at_ns),
    };
    world.tell(killed(999));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
    world.tell(killed(1_001));
    assert_eq!(world.stored(), None);
}

#[test]
fn a_lost_key_is_written_again_once_docker_has_been_asked() {
    let mut world = World::registered();
    world.etcd = None;
    world.pass_seconds(60);
    assert_eq!(world.take_done(), ["refresh", "look"]);
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    assert_eq!(world.take_done(), ["put 10.1.0.1:1"]);
}

#[test]
fn a_lost_key_of_a_container_that_is_gone_stays_lost() {
    let mut world = World::registered();
    world.etcd = None;
    world.pass_seconds(4);
    world.tell(Input::Wanted(vec![]));
    world.pass_seconds(60);
    assert_eq!(world.stored(), None);
    assert!(!world.take_done().iter().any(|action| action.starts_with("put")));
}

#[test]
fn a_lost_key_of_a_fixed_address_is_written_again_at_once() {
    let mut world = World::new();
    let fixed = Wanted { life: Life::default(), ..wanted(1, "") };
    world.tell(Input::Wanted(vec![fixed]));
    world.etcd = None;
    world.pass_seconds(4);
    assert_eq!(world.take_done(), ["put 10.1.0.1:1", "refresh", "put 10.1.0.1:1"]);
}

#[test]
fn a_foreign_value_is_left_alone_until_it_vanishes() {
    let mut world = World::registered();
    world.etcd = Some(("10.2.0.2:9".to_owned(), world.now + Duration::from_secs(30)));
    world.pass_seconds(29);
    assert_eq!(world.stored(), Some("10.2.0.2:9"));
    assert_eq!(world.said.iter().filter(|text| text.contains("10.2.0.2:9")).count(), 1);
    world.pass_seconds(10);
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_foreign_value_is_replaced_when_our_container_starts() {
    let mut world = World::registered();
    world.etcd = Some(("10.2.0.2:9".to_owned(), world.now + Duration::from_secs(3600)));
    world.pass_seconds(10);
    world.tell(Input::Wanted(vec![wanted(1, "t2")]));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_foreign_value_is_never_removed() {
    let mut world = World::registered();
    world.etcd = Some(("10.2.0.2:9".to_owned(), world.now + Duration::from_secs(3600)));
    world.pass_seconds(10);
    assert!(world.core.owned().is_empty());
    world.tell(Input::Wanted(vec![]));
    world.pass_seconds(60);
    assert_eq!(world.stored(), Some("10.2.0.2:9"));
    assert!(!world.take_done().iter().any(|action| action.starts_with("remove")));
}

#[test]
fn a_foreign_value_of_our_own_host_is_replaced_at_most_once_in_10_s() {
    let mut world = World::registered();
    let mut replaced = 0;
    for _ in 0..60 {
        world.etcd = Some(("10.1.0.1:9".to_owned(), world.now + Duration::from_secs(3600)));
        world.pass_seconds(1);
        replaced += usize::from(world.stored() == Some("10.1.0.1:1"));
    }
    assert!((4..=6).contains(&replaced), "replaced {replaced} times in 60 s");
}

#[test]
fn entries_are_kept_for_5_minutes_while_docker_is_silent() {
    let mut world = World::registered();
    for _ in 0..59 {
        world.tell(Input::DockerSilent);
        world.pass_seconds(5);
    }
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
    world.pass_seconds(10);
    world.tell(Input::DockerSilent);
    assert_eq!(world.stored(), None);
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn what_is_lost_while_docker_is_silent_is_written_again() {
    let mut world = World::registered();
    world.etcd = None;
    world.pass_seconds(4);
    world.tell(Input::DockerSilent);
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_write_that_fails_is_tried_again_until_it_succeeds() {
    let mut world = World::new();
    world.is_etcd_up = false;
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    world.pass_seconds(20);
    let attempts = world.take_done().len();
    assert!((10..=200).contains(&attempts), "{attempts} attempts in 20 s");
    world.is_etcd_up = true;
    world.pass_seconds(2);
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

/// Also beyond the TTL: in v3 the lease may live on by other entries.
#[test]
fn a_removal_that_fails_is_tried_again_until_etcd_has_answered() {
    let mut world = World::registered();
    world.is_etcd_up = false;
    world.tell(Input::Wanted(vec![]));
    world.pass_seconds(60);
    world.etcd = Some(("10.1.0.1:1".to_owned(), world.now + Duration::from_secs(3600)));
    assert_eq!(world.core.owned().len(), 1);
    world.is_etcd_up = true;
    world.pass_seconds(4);
    assert_eq!(world.stored(), None);
    assert!(world.core.due().is_none());
}

/// As of one that is not healthy yet, or of which nothing was known when it was stopped.
#[test]
fn a_stop_signal_counts_for_what_is_wanted_only_later() {
    let killed_at = |at_ns| Input::Killed {
        container: "c1".to_owned(),
        signal: Some(STOP_SIGNAL),
        at_ns: Some(at_ns),
    };
    let started = |started_ns| Wanted { started_ns: Some(started_ns), ..wanted(1, "t1") };
    let mut world = World::new();
    world.tell(killed_at(2_000));
    world.tell(Input::Wanted(vec![started(1_000)]));
    assert_eq!(world.stored(), None);
    // It has survived.
    world.pass_seconds(30);
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
    // The signal was for the run before.
    let mut world = World::new();
    world.tell(killed_at(2_000));
    world.tell(Input::Wanted(vec![started(3_000)]));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_udp_port_needs_no_check() {
    let mut world = World::with(Core::new(TTL, true));
    world.tell(Input::Wanted(vec![Wanted { is_tcp: false, ..wanted(1, "t1") }]));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
    assert_eq!(world.core.probes(), []);
}

#[test]
fn what_fails_its_check_is_registered_only_when_it_passes() {
    let mut world = World::with(Core::new(TTL, true));
    let checked = |is_reachable| {
        let probe = Probe::of(&wanted(1, "t1"));
        Input::Checked { probe, is_reachable }
    };
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    world.tell(checked(false));
    assert_eq!(world.stored(), None);
    world.tell(checked(true));
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
    world.tell(checked(false));
    world.tell(checked(true));
    world.tell(checked(false));
    assert_eq!(world.stored(), Some("10.1.0.1:1"), "two failures, but not in a row");
    world.tell(checked(false));
    assert_eq!(world.stored(), None);
    // The answer to a check of an address that was replaced meanwhile.
    world.tell(Input::Wanted(vec![wanted(2, "t2")]));
    world.tell(checked(true));
    assert_eq!(world.stored(), None);
}

#[test]
fn a_new_run_on_the_same_port_has_to_pass_a_check_of_its_own() {
    let mut world = World::with(Core::new(TTL, true));
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    world.tell(Input::Checked { probe: Probe::of(&wanted(1, "t1")), is_reachable: true });
    world.tell(Input::Wanted(vec![wanted(1, "t2")]));
    assert_eq!(world.stored(), None);
    world.tell(Input::Checked { probe: Probe::of(&wanted(1, "t2")), is_reachable: true });
    assert_eq!(world.stored(), Some("10.1.0.1:1"));
}

#[test]
fn a_check_that_never_passes_is_said_once() {
    let mut world = World::with(Core::new(TTL, true));
    world.tell(Input::Wanted(vec![wanted(1, "t1")]));
    for _ in 0..10 {
        world.tell(Input::Checked { probe: Probe::of(&wanted(1, "t1")), is_reachable: false });
    }
    assert_eq!(world.said.len(), 1, "{:?}", world.said);
}

#[test]
fn a_value_that_a_failed_write_left_behind_is_removed_too() {
    let mut world = World::registered();
    world.is_etcd_up = false;
    world.tell(Input::Wanted(vec![wanted(2, "t2")]));
    assert_eq!(world.core.owned().len(), 2);
    world.tell(Input::Wanted(vec![]));
    world.is_etcd_up = true;
    world.pass_seconds(3);
    assert_eq!(world.stored(), None);
    assert!(world.core.owned().is_empty());
}

#[test]
fn new_values_are_written_in_a_burst_and_then_at_a_pace() {
    let mut core = Core::new(TTL, false);
    let now = Instant::now();
    let of = |n: u16| Wanted { key: format!("{KEY}{n}"), ..wanted(n, "t1") };
    core.note(Input::Wanted((1..=1200).map(of).collect()), now);
    let puts = |core: &mut Core, now| {
        let mut count = 0;
        while let Some(action) = core.next(now, 1) {
            match action {
                Action::Put { key, .. } => {
                    core.note(Input::Outcome { key, outcome: Outcome::Done }, now);
                    count += 1;
                }
                Action::Say(..) => {}
                action => panic!("{action:?}"),
            }
        }
        count
    };
    assert_eq!(puts(&mut core, now), 1000);
    let due = core.due().unwrap();
    assert!(due > now && due <= now + Duration::from_millis(20));
    assert_eq!(puts(&mut core, now + Duration::from_secs(1)), 50);
}

#[test]
fn entries_that_are_due_soon_are_refreshed_along_with_the_first() {
    let mut core = Core::new(TTL, false);
    let start = Instant::now();
    let of = |n: u16| Wanted { key: format!("{KEY}{n}"), ..wanted(n, "t1") };
    for n in 1..=3 {
        core.note(Input::Wanted((1..=n).map(of).collect()), start);
        let written = start + Duration::from_secs(u64::from(n));
        while let Some(action) = core.next(written, 100) {
            if let Action::Put { key, .. } = action {
                core.note(Input::Outcome { key, outcome: Outcome::Done }, written);
            }
        }
    }
    // Due after 5, 6 and 7 s, and refreshed every 4 s: within half of that.
    let Some(Action::Refresh(entries)) = core.next(start + Duration::from_secs(5), 100) else {
        panic!("no refresh");
    };
    let keys: Vec<&str> = entries.iter().map(|(key, _)| &key[KEY.len()..]).collect();
    assert_eq!(keys, ["1", "2", "3"]);
    assert_eq!(core.next(start + Duration::from_secs(5), 100), None);
}

proptest! {
    /// Whatever happened before: once Docker has said what runs, etcd answers and
    /// nobody else writes, etcd holds exactly that.
    #[test]
    fn any_history_ends_in_what_docker_says(
        history in prop::collection::vec((0..9u8, 0..8u64, any::<bool>()), 0..60),
        runs in any::<bool>(),
    ) {
        let mut world = World::new();
        for (what, seconds, flag) in history {
            world.is_etcd_up = flag || what % 2 == 0;
            let started_at = if flag { "t1" } else { "t2" };
            match what {
                0 | 1 => world.tell(Input::Wanted(vec![wanted(1 + u16::from(what), started_at)])),
                2 => world.tell(Input::Wanted(vec![])),
                3 => world.tell(Input::DockerSilent),
                4 => world.tell(killed(flag.then_some(STOP_SIGNAL))),
                5 => world.etcd = None,
                6 => {
                    let host = if flag { "10.2.0.2:9" } else { "10.1.0.1:9" };
                    world.etcd = Some((host.to_owned(), world.now + Duration::from_secs(seconds)));
                }
                _ => world.tell(Input::Tick),
            }
            world.pass_seconds(seconds);
        }
        world.is_etcd_up = true;
        // Longer than any hold-off: a foreign TTL, a survivor's 30 s, a rewrite's 10 s.
        for _ in 0..20 {
            world.tell(Input::Wanted(if runs { vec![wanted(7, "t7")] } else { vec![] }));
            world.pass_seconds(4);
        }
        let expected = runs.then_some("10.1.0.1:7");
        prop_assert_eq!(world.stored(), expected);
        prop_assert_eq!(world.core.owned().len(), usize::from(runs));
    }
}
