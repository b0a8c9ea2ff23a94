//! The container stops, starts, moves and is renamed: the entry follows.

use super::*;

#[test]
fn restart_on_another_port_replaces_the_value() {
    for version in [Version::V20, Version::V28, Version::V29] {
        let scene = Scene::empty();
        scene.docker.set_version(version);
        scene.docker.run(redis());
        let _ambassador = scene.registered([]);
        scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
        scene.wait_for_port(49156);
        scene.docker.stop_container(CONTAINER);
        scene.wait_for_absence();
        scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, 49157)]);
        scene.wait_for_port(49157);
    }
}

/// Clients must not be sent to a process that has been told to end.
#[test]
fn entry_is_gone_within_200_ms_of_the_stop_signal_while_the_container_still_runs() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    let mut best = Duration::MAX;
    // The machine may be busy with other tests: the best of a few must do.
    for port in 49156..49160 {
        let watch = scene.watch();
        let told = Instant::now();
        scene.docker.send_signal(CONTAINER, Some("15"));
        let removed = watch.wait_for(&REMOVALS, &scene.key());
        best = best.min(removed - told);
        scene.docker.exit(CONTAINER);
        scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, port)]);
        scene.wait_for_port(port);
    }
    assert!(best < Duration::from_millis(200), "{best:?}");
}

#[test]
fn sigkill_removes_the_entry_before_the_container_ends() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.send_signal(CONTAINER, Some("9"));
    scene.wait_for_absence();
}

#[test]
fn kill_event_without_a_signal_counts_as_the_stop_signal() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.send_signal(CONTAINER, None);
    scene.wait_for_absence();
}

#[test]
fn signal_that_does_not_stop_the_container_changes_nothing() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    let watch = scene.watch();
    for signal in ["1", "10", "12", "28"] {
        scene.docker.send_signal(CONTAINER, Some(signal));
    }
    // Events are told in order: with the start known, the signals were too.
    scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    scene.wait_for_port(49156);
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), [format!("set {}", scene.key())]);
}

#[test]
fn stop_signal_of_the_image_is_the_one_that_removes() {
    let scene = Scene::empty();
    scene.docker.run(redis().stop_signal("SIGQUIT").stop_timeout_s(7));
    let _ambassador = scene.registered([]);
    let watch = scene.watch();
    scene.docker.send_signal(CONTAINER, Some("15"));
    scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    scene.wait_for_port(49156);
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), [format!("set {}", scene.key())]);
    scene.docker.send_signal(CONTAINER, Some("3"));
    scene.wait_for_absence();
}

#[test]
fn container_that_ends_by_itself_is_removed() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.exit(CONTAINER);
    scene.wait_for_absence();
}

#[test]
fn killed_container_is_removed_and_registered_when_it_starts_again() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.kill(CONTAINER);
    scene.wait_for_absence();
    scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    scene.wait_for_port(49156);
}

#[test]
fn rename_away_removes_and_rename_to_the_name_registers() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.rename(CONTAINER, "something-else");
    scene.wait_for_absence();
    scene.docker.rename("something-else", CONTAINER);
    scene.wait_for_port(49155);
}

#[test]
fn paused_container_is_removed_until_it_goes_on() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.pause(CONTAINER);
    scene.wait_for_absence();
    scene.docker.unpause(CONTAINER);
    scene.wait_for_port(49155);
}

#[test]
fn container_found_paused_restarting_or_ended_is_not_registered() {
    let changes: [fn(&mut Container); 3] =
        [|c| c.paused = true, |c| c.restarting = true, |c| c.running = false];
    for change in changes {
        let scene = Scene::running();
        scene.docker.change_silently(CONTAINER, change);
        let watch = scene.watch();
        let _ambassador = scene.register([]).start();
        scene.docker.wait_until_followed();
        scene.docker.change_silently(CONTAINER, |container| {
            (container.running, container.paused, container.restarting) = (false, false, false);
        });
        scene.docker.start_container(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
        scene.wait_for_port(49156);
        let changes = watch.so_far(scene.etcd, &scene.prefix);
        assert_eq!(changes, [format!("set {}", scene.key())]);
    }
}

#[test]
fn container_created_anew_under_the_same_name_is_registered() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    scene.docker.remove(CONTAINER);
    scene.wait_for_absence();
    let again = Container::named(CONTAINER).publishes(6379, &[(ARTICLES_HOST, 49190)]);
    scene.docker.run(again);
    scene.wait_for_port(49190);
}

#[test]
fn events_of_other_containers_change_nothing() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    let watch = scene.watch();
    // Docker's own filter would take the longer names for ours.
    for name in ["redis.service2", "redis", "other"] {
        scene.docker.run(Container::named(name).publishes(6379, &[(ARTICLES_HOST, 49300)]));
        scene.docker.pause(name);
        scene.docker.unpause(name);
        scene.docker.rename(name, &format!("{name}-renamed"));
        scene.docker.remove(&format!("{name}-renamed"));
    }
    scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    scene.wait_for_port(49156);
    let changes = watch.so_far(scene.etcd, &scene.prefix);
    let (last, before) = changes.split_last().unwrap();
    assert_eq!(last, &format!("set {}", scene.key()));
    // The restart may be seen in two steps; nothing else may be seen at all.
    assert!(
        before.len() <= 1 && before.iter().all(|change| change.contains("elete")),
        "{before:?}"
    );
}

#[test]
fn another_container_whose_id_begins_with_the_name_is_not_registered() {
    let scene = Scene::empty();
    let other = Container::named("other").publishes(6379, &[(ARTICLES_HOST, 49155)]);
    let id_prefix = other.id()[..8].to_owned();
    scene.docker.run(other);
    let url = scene.etcd.url();
    let fixed = ["register", "--etcd", &url, "--prefix", &scene.prefix, "--docker"];
    let words = [&scene.docker.address(), &id_prefix, "6379", SERVICE];
    let _ambassador = ambassador(fixed.into_iter().chain(words)).start();
    scene.docker.wait_until_followed();
    // A container of that name comes last: what was written before it would be seen.
    let watch = scene.watch();
    scene.docker.run(Container::named(&id_prefix).publishes(6379, &[(ARTICLES_HOST, 49200)]));
    let key = format!("{}/{SERVICE}/{id_prefix}", scene.prefix);
    scene.etcd.wait_for_value(&key, &value(49200));
    assert_eq!(watch.so_far(scene.etcd, &scene.prefix), [format!("set {key}")]);
}

#[test]
fn container_without_the_port_is_warned_of_once_and_waited_for() {
    let scene = Scene::empty();
    let other_ports = Container::named(CONTAINER)
        .publishes(8080, &[(ARTICLES_HOST, 49000)])
        .publishes_udp(6379, &[(ARTICLES_HOST, 49001)])
        .exposes(9121);
    scene.docker.run(other_ports);
    let mut ambassador = scene.register(["--ttl", "3s"]).start();
    ambassador.wait_for_warning(&["6379", "8080"]);
    // Asked again and again, and said once.
    for _ in 0..3 {
        let asked = scene.docker.requests().len();
        scene.docker.send_signal(CONTAINER, Some("1"));
        eventually("Docker is asked again", || scene.docker.requests().len() > asked);
    }
    assert_eq!(ambassador.warnings(&["6379", "8080"]).len(), 1, "{:#?}", ambassador.log());
    assert!(ambassador.is_running());
    assert_eq!(scene.etcd.get(&scene.key()), None);
    scene.docker.restart(CONTAINER, 6379, &[(ARTICLES_HOST, 49155)]);
    scene.wait_for_port(49155);
}

/// Docker announces the start a moment before it says the port.
#[test]
fn port_that_docker_does_not_say_yet_is_waited_for() {
    let scene = Scene::empty();
    let mut ambassador = scene.register([]).start();
    scene.docker.wait_until_followed();
    scene.docker.run(Container::named(CONTAINER).publishes(6379, &[(ARTICLES_HOST, 0)]));
    proceed_after(Duration::from_millis(200));
    scene.docker.change_silently(CONTAINER, |container| {
        *container = container.clone().publishes(6379, &[(ARTICLES_HOST, 49155)]);
    });
    // Long before the next regular look at Docker, of which there is one in 15 s.
    within(Duration::from_secs(5), "the entry", || scene.etcd.get(&scene.key()).is_some());
    scene.wait_for_port(49155);
    assert!(ambassador.is_running());
}

/// A process or machine that stood still hears of the old life after it saw the new one.
#[test]
fn late_kill_event_of_the_previous_life_does_not_keep_the_present_one_out() {
    let scene = Scene::running();
    let _ambassador = scene.registered([]);
    let late = scene.docker.restart_unheard(CONTAINER, 6379, &[(ARTICLES_HOST, 49156)]);
    // Makes it look, which shows the new life.
    scene.docker.send_signal(CONTAINER, Some("1"));
    scene.wait_for_port(49156);
    scene.docker.tell(late);
    proceed_after(Duration::from_millis(500));
    within(Duration::from_secs(5), "the present life's entry", || {
        scene.etcd.get(&scene.key()) == Some(value(49156))
    });
}
