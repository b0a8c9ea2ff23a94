use super::*;

fn upstream(address: &str) -> Upstream {
    Upstream::new(address.parse().unwrap())
}

fn pool(addresses: &[&str]) -> Pool {
    let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
    pool.publish(addresses.iter().map(|address| upstream(address)).collect());
    pool
}

fn candidates(pool: &Pool) -> Vec<HostPort> {
    pool.candidates(&pool.snapshot(), [192, 0, 2, 1].into())
}

fn eject(pool: &Pool, address: &str, period: Duration) -> bool {
    pool.failed(&address.parse().unwrap(), DialFailure::Refused, "refused", period)
}

fn first_of(pool: &Pool) -> String {
    candidates(pool)[0].to_string()
}

#[test]
fn upstreams_take_turns_and_ejected_ones_come_last() {
    let pool = pool(&["a:1", "b:1", "c:1"]);
    let turns: Vec<String> = (0..6).map(|_| first_of(&pool)).collect();
    assert_eq!(turns, ["a:1", "b:1", "c:1", "a:1", "b:1", "c:1"]);
    assert!(eject(&pool, "a:1", Duration::from_secs(60)));
    assert!(!eject(&pool, "a:1", Duration::from_secs(60)));
    for _ in 0..6 {
        let order = candidates(&pool);
        assert_eq!(order.len(), 3);
        assert_eq!(order[2].to_string(), "a:1");
    }
    pool.opened(&"a:1".parse().unwrap());
    assert!(pool.known().iter().all(|known| known.problem.is_none()));
    assert!((0..3).any(|_| first_of(&pool) == "a:1"));
}

#[test]
fn an_ejection_ends_with_its_period_and_with_a_new_registration() {
    let pool = pool(&["a:1", "b:1"]);
    eject(&pool, "a:1", Duration::ZERO);
    assert!((0..2).any(|_| first_of(&pool) == "a:1"));
    eject(&pool, "a:1", Duration::from_secs(60));
    pool.publish(vec![upstream("b:1")]);
    pool.publish(vec![upstream("a:1"), upstream("b:1")]);
    assert!((0..2).any(|_| first_of(&pool) == "a:1"));
}

#[test]
fn a_failure_that_is_noted_after_the_address_left_is_none_of_its_next_registration() {
    let pool = pool(&["a:1", "b:1"]);
    pool.publish(vec![upstream("b:1")]);
    eject(&pool, "a:1", Duration::from_secs(60));
    pool.publish(vec![upstream("a:1"), upstream("b:1")]);
    assert!(pool.known().iter().all(|known| known.problem.is_none()));
    assert!(eject(&pool, "a:1", Duration::from_secs(60)), "news again");
    pool.publish(vec![upstream("b:1")]);
    eject(&pool, "a:1", Duration::from_secs(60));
    pool.publish(vec![upstream("c:1")]);
    assert_eq!(pool.learned().failing.len(), 0);
}

#[test]
fn the_least_loaded_upstream_is_tried_first() {
    let pool = Pool::new("test".to_owned(), Balance::LeastConn);
    pool.publish(vec![upstream("a:1"), upstream("b:1")]);
    let (tally, _) = pool.opened(&"a:1".parse().unwrap());
    assert!((0..4).all(|_| first_of(&pool) == "b:1"));
    tally.closed(false);
    assert!((0..4).any(|_| first_of(&pool) == "a:1"));
}

#[test]
fn an_alternative_is_tried_right_after_its_address() {
    let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
    let alternative = Some("db:1".parse().unwrap());
    pool.publish(vec![Upstream { alternative, ..upstream("10.0.0.1:1") }, upstream("b:1")]);
    let order = candidates(&pool);
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    assert_eq!(order, ["10.0.0.1:1", "db:1", "b:1"]);
}

#[test]
fn what_was_counted_of_an_address_outlives_its_entry_and_its_connections() {
    let pool = pool(&["a:1", "b:1"]);
    let (tally, _) = pool.opened(&"a:1".parse().unwrap());
    eject(&pool, "b:1", Duration::from_secs(60));
    pool.publish(vec![upstream("b:1")]);
    let known = pool.known();
    let [b, a] = &known[..] else { panic!("{known:?}") };
    assert_eq!((b.weight, b.left, b.problem.as_deref()), (Some(1), None, Some("refused")));
    assert_eq!((b.tally.ejections.get(), b.tally.served.get()), (1, 0));
    assert!(a.left.is_some() && a.weight.is_none() && a.tally.open() == 1);
    let left = |age| pool.learned().seen.get_mut(&a.address).unwrap().left = Some(age);
    left(Instant::now().checked_sub(REMEMBERED).unwrap());
    assert_eq!(pool.known().len(), 2, "a connection to it is open");
    tally.closed(true);
    assert_eq!((tally.open(), tally.reset.get()), (0, 1));
    assert_eq!(pool.known().len(), 1);
    pool.publish(vec![upstream("a:1"), upstream("b:1")]);
    assert!(pool.known().iter().all(|known| known.left.is_none()));
}

#[test]
fn publishing_the_same_set_again_is_no_news() {
    let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
    let set = || vec![upstream("a:1"), upstream("b:1"), upstream("a:1")];
    let change = pool.publish(set()).unwrap();
    assert_eq!(change.to_string(), "2 instances (+a:1 +b:1)");
    assert_eq!(pool.publish(set()), None);
    let change = pool.publish(vec![upstream("b:1")]).unwrap();
    assert_eq!(change.to_string(), "1 instance (-a:1)");
}

#[test]
fn the_first_empty_answer_is_news_too() {
    let pool = Pool::new("test".to_owned(), Balance::RoundRobin);
    assert_eq!(pool.publish(vec![]).unwrap().to_string(), "0 instances");
}

#[test]
fn a_waiting_client_is_woken_by_a_snapshot_and_by_the_end() {
    let pool = pool(&[]);
    let generation = pool.snapshot().generation;
    let hour = Duration::from_secs(3600);
    assert_eq!(pool.wait_for_news(generation, Duration::ZERO), News::Nothing);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.wait_for_news(generation, hour));
        pool.publish(vec![upstream("a:1")]);
        assert_eq!(waiting.join().unwrap(), News::Changed);
    });
    let newest = pool.snapshot().generation;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.wait_for_news(newest, hour));
        pool.close();
        assert_eq!(waiting.join().unwrap(), News::Closed);
    });
}
