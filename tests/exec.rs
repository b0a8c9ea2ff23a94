//! `exec`: a command that is linked to services, and ends as if nobody stood above it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::ambassador::{Ambassador, BINARY, Ended, Launch, Lines, ambassador};
use crate::support::client::{Ending, connect, ending, read_all};
use crate::support::etcd;
use crate::support::process::{Guarded, send_signal};
use crate::support::upstream::Upstream;
use crate::support::{
    DEADLINE, eventually, eventually_some, free_port, is_root, proceed_after, skip_loudly,
    temp_dir, unique_prefix, within,
};

/// `exec --service LINK... -- COMMAND...`, with nothing registered.
fn exec(links: &[&str], command: &[&str]) -> Launch {
    exec_in(&unique_prefix(), links, command)
}

fn exec_in(prefix: &str, links: &[&str], command: &[&str]) -> Launch {
    let url = etcd::shared().url();
    let links = links.iter().flat_map(|link| ["--service", link]);
    let words = ["exec", "--etcd", &url, "--prefix", prefix].into_iter().chain(links);
    ambassador(words.chain(["--"]).chain(command.iter().copied()))
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
}

/// What a command does until a signal ends it; and at last by itself, because nobody ends it
/// where the ambassador was killed.
const WAITING: &str = "n=0; while [ $((n += 1)) -lt 1500 ]; do sleep 0.02; done";

/// Whoever runs the tests may ignore signals, as a shell's `&` does.
const NOTHING_IGNORED: [&str; 3] = ["/usr/bin/env", "--default-signal", "--"];

/// A shell that runs `script`.
fn shell(script: &str) -> Launch {
    exec(&["db:db"], &["sh", "-c", script])
}

/// Waits until the command has printed `line`.
#[track_caller]
fn wait_for_line(ambassador: &Ambassador, line: &str) {
    eventually(&format!("the line {line:?}"), || ambassador.stdout().iter().any(|l| l == line));
}

/// The numbers of the children of process `parent`, also of those nobody has waited for.
fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children = tasks.flat_map(|task| {
        // A thread may end meanwhile.
        let children = fs::read_to_string(task.unwrap().path().join("children"));
        let children = children.unwrap_or_default();
        children.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>()
    });
    children.collect()
}

/// The variables that `env` printed, sorted.
fn variables<'a>(lines: &'a str, beginning: &str) -> Vec<&'a str> {
    let mut found: Vec<_> = lines.lines().filter(|line| line.starts_with(beginning)).collect();
    found.sort_unstable();
    found
}

#[test]
fn command_finds_a_listener_that_follows_etcd_in_the_variables_of_a_link() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let script = "env; exec sleep 30";
    let mut ambassador = exec_in(&prefix, &["redis-A:my-db.1"], &["sh", "-c", script]).start();
    let address: SocketAddr = eventually_some(DEADLINE, "the variable of the link", || {
        let lines = ambassador.stdout();
        lines.iter().find_map(|line| line.strip_prefix("MY_DB_1_PORT=tcp://")?.parse().ok())
    });
    eventually("all variables", || {
        let (ip, port) = (address.ip(), address.port());
        let expected = [
            "MY_DB_1_NAME=/ambassador/my-db.1".to_owned(),
            format!("MY_DB_1_PORT=tcp://{address}"),
            format!("MY_DB_1_PORT_{port}_TCP=tcp://{address}"),
            format!("MY_DB_1_PORT_{port}_TCP_ADDR={ip}"),
            format!("MY_DB_1_PORT_{port}_TCP_PORT={port}"),
            format!("MY_DB_1_PORT_{port}_TCP_PROTO=tcp"),
        ];
        variables(&ambassador.stdout().join("\n"), "MY_DB_1_") == expected
    });
    for greeting in ["one", "another"] {
        let upstream = Upstream::greeter(greeting);
        etcd.put(&format!("{prefix}/redis-A/one"), &upstream.registration());
        eventually(&format!("the greeting {greeting:?}"), || {
            read_all(address).is_ok_and(|heard| heard == greeting)
        });
    }
    ambassador.signal("TERM");
    assert_eq!(ambassador.finish(DEADLINE).code, Some(128 + 15));
}

#[test]
fn port_is_listened_on_at_loopback_and_stands_in_the_names_of_the_variables() {
    let (one, other) = (free_port(), free_port());
    let links = [format!("web:a:{one}"), format!("web:b:{other}")];
    for together in [vec![links.join(",")], links.to_vec()] {
        let together: Vec<_> = together.iter().map(String::as_str).collect();
        let ended = exec(&together, &["env"]).run();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for (alias, port) in [("A", one), ("B", other)] {
            let line = format!("{alias}_PORT_{port}_TCP=tcp://127.0.0.1:{port}");
            assert!(ended.stdout.lines().any(|l| l == line), "no {line} in {ended:?}");
        }
    }
    let variable = exec(&[], &["env"]).env("AMBASSADOR_SERVICE", links.join(",")).run();
    assert_eq!(variables(&variable.stdout, "B_PORT=").len(), 1, "{variable:?}");
}

#[test]
fn port_that_is_taken_is_exit_1_and_no_command_is_run() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = exec(&[&format!("web:web:{}", address.port())], &["echo", "ran"]).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains(&address.to_string()), "{ended:?}");
}

#[test]
fn environment_goes_on_to_the_command_but_for_what_was_said_to_us() {
    let own = [
        ("AMBASSADOR_WAIT", "3s"),
        ("AMBASSADOR_ETCD_API", "v2"),
        ("WATCHDOG_PID", "1"),
        ("WATCHDOG_USEC", "1000000"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "web"),
        ("LISTEN_PID", "1"),
    ];
    let others = [("AMBASSADOR_ID", "edge"), ("WEB_PORT", "before"), ("GREETING", "good day")];
    let socket = temp_dir("notify").join("socket");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let launch = own.iter().chain(&others).fold(exec(&["web:web"], &["env"]), |launch, pair| {
        let (name, value) = *pair;
        launch.env(name, value)
    });
    let ended = launch.env("NOTIFY_SOCKET", socket.to_str().unwrap()).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in own.map(|(name, _)| name).into_iter().chain(["NOTIFY_SOCKET"]) {
        assert_eq!(variables(&ended.stdout, name), [""; 0], "{ended:?}");
    }
    assert_eq!(variables(&ended.stdout, "AMBASSADOR_"), ["AMBASSADOR_ID=edge"]);
    assert_eq!(variables(&ended.stdout, "GREETING"), ["GREETING=good day"]);
    let web = variables(&ended.stdout, "WEB_PORT=");
    assert!(matches!(web[..], [ours] if ours.starts_with("WEB_PORT=tcp://127.0.0.1:")), "{web:?}");
    // It was said by us, once the command ran.
    let mut datagram = [0; 64];
    let length = systemd.recv(&mut datagram).unwrap();
    assert!(datagram[..length].starts_with(b"READY=1"));
}

/// As if nobody had opened or raised anything for himself.
#[test]
fn command_inherits_no_descriptor_of_ours_and_the_limit_that_was() {
    let script = "ulimit -Sn; ls -l /proc/self/fd";
    let wrapper = ["/bin/sh", "-c", "ulimit -Sn 700; exec \"$@\"", "sh"];
    let ended = shell(script).under(&wrapper).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut lines = ended.stdout.lines();
    assert_eq!(lines.next(), Some("700"), "{ended:?}");
    assert!(!ended.stdout.contains("socket:"), "{ended:?}");
}

#[test]
fn standard_streams_are_the_commands() {
    let script = "read -r line; echo \"got $line\"; echo complaint >&2";
    let (mut input, launch) = shell(script).typed_input();
    input.write_all(b"hello\n").unwrap();
    let ended = launch.run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "got hello\n", "and nothing of ours");
    assert!(ended.stderr.lines().any(|line| line == "complaint"), "{ended:?}");
    assert!(ended.stderr.contains("db: listening on 127.0.0.1:"), "{ended:?}");
}

#[test]
fn exit_code_of_the_command_is_ours() {
    for code in [0, 1, 2, 42, 255] {
        let ended = shell(&format!("exit {code}")).run();
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}

#[test]
fn command_killed_by_a_signal_is_exit_128_and_its_number() {
    for (signal, number) in [("KILL", 9), ("TERM", 15), ("SEGV", 11)] {
        let ended = shell(&format!("kill -{signal} $$")).run();
        assert_eq!(ended.code, Some(128 + number), "{ended:?}");
    }
}

#[test]
fn no_such_command_is_exit_127_and_one_that_cannot_be_run_126() {
    let plain = temp_dir("exec").join("plain");
    fs::write(&plain, "no program").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let plain = plain.to_str().unwrap();
    for (command, code) in [
        ("no-such-command", 127),
        ("/no/such/command", 127),
        ("no\nsuch", 127),
        (plain, 126),
        ("/tmp", 126),
    ] {
        let ended = exec(&["db:db"], &[command]).run();
        assert_eq!(ended.code, Some(code), "{command}: {ended:?}");
        let said: Vec<_> = ended.stderr.lines().filter(|l| l.starts_with("ambassador: ")).collect();
        let shown = command.replace('\n', "\\n");
        assert!(matches!(said[..], [line] if line.contains(&shown)), "{command}: {ended:?}");
    }
}

#[test]
fn signals_are_passed_on_and_the_commands_own_exit_code_returned() {
    let signals = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"];
    let traps: String =
        signals.iter().map(|signal| format!("trap 'echo got {signal}' {signal}; ")).collect();
    let script = format!("{traps} trap 'exit 7' TERM; echo ready; {WAITING}");
    let mut ambassador = shell(&script).under(&NOTHING_IGNORED).start();
    wait_for_line(&ambassador, "ready");
    for signal in &signals[1..] {
        ambassador.signal(signal);
        wait_for_line(&ambassador, &format!("got {signal}"));
    }
    ambassador.signal("TERM");
    let ended = ambassador.finish(DEADLINE);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), signals.len(), "each once: {ended:?}");
}

/// As `nohup` and a shell's `&` have it.
#[test]
fn signal_that_was_ignored_before_is_ignored_by_the_command_too() {
    let script = format!(
        "trap '' HUP; exec {BINARY} exec --etcd {} --service db:db -- \
         sh -c 'echo ready; exec sleep 30'",
        etcd::shared().url()
    );
    let mut ambassador = Launch::of("/bin/sh", ["-c", &script]).start();
    wait_for_line(&ambassador, "ready");
    for command in children(ambassador.id()) {
        send_signal("HUP", command);
    }
    ambassador.signal("HUP");
    proceed_after(Duration::from_millis(300));
    assert!(ambassador.is_running());
    assert_eq!(ambassador.terminate().code, Some(128 + 15));
}

/// Ctrl-C goes to the whole group in the foreground.
#[test]
fn key_of_the_terminal_reaches_the_command_once() {
    let script = format!("trap 'echo got INT' INT; trap 'exit 3' TERM; echo ready; {WAITING}")
        .replace('$', r"\$");
    let command = format!(
        "exec {BINARY} -v exec --etcd {} --service db:db -- sh -c \"{script}\"",
        etcd::shared().url()
    );
    let script = ["script", "--quiet", "--return", "--flush", "--command", &command, "/dev/null"];
    let words = NOTHING_IGNORED.into_iter().chain(script).skip(1);
    let mut terminal = Guarded::spawn(
        Command::new(NOTHING_IGNORED[0]).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()),
    );
    let mut keys = terminal.child().stdin.take().unwrap();
    let mut screen = Lines::of(terminal.child().stdout.take().unwrap());
    let shows = |screen: &Lines, text: &str| screen.so_far().iter().any(|line| line.contains(text));
    eventually("the command is ready", || shows(&screen, "ready"));
    keys.write_all(b"\x03").unwrap();
    eventually("the key is noticed", || {
        shows(&screen, "got INT") && shows(&screen, "SIGINT is not passed on")
    });
    assert!(!shows(&screen, "SIGINT is passed on"));
    // The same signal from somewhere else is.
    let shell = eventually_some(DEADLINE, "its child", || children(terminal.id()).pop());
    send_signal("TERM", shell);
    let status = terminal.wait(DEADLINE).expect("it ends");
    assert_eq!(status.code(), Some(3), "{}", screen.read_to_end());
}

#[test]
fn process_1_waits_for_orphans_and_still_knows_how_the_command_ended() {
    const NAME: &str = "process_1_waits_for_orphans_and_still_knows_how_the_command_ended";
    if !is_root() {
        skip_loudly(NAME, "only root may make a PID namespace");
        return;
    }
    let script = format!(
        "for i in 1 2 3 4 5; do (sleep 0.2 &); done; trap 'exit 6' TERM; echo ready; {WAITING}"
    );
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--"];
    let mut ambassador = shell(&script).under(&wrapper).start();
    wait_for_line(&ambassador, "ready");
    let first = children(ambassador.id())[0];
    within(DEADLINE, "only the command is left", || children(first).len() == 1);
    assert!(ambassador.is_running());
    ambassador.signal_child("TERM");
    let ended = ambassador.finish(DEADLINE);
    assert_eq!(ended.code, Some(6), "{ended:?}");
}

/// What was sent right before the end is delivered, though nobody is there to wait.
#[test]
fn what_the_command_sent_last_arrives() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let (heard_in, heard) = mpsc::channel();
    let upstream = Upstream::serve(move |mut client| {
        // Slower than the command.
        proceed_after(Duration::from_millis(500));
        let mut text = Vec::new();
        let outcome = client.read_to_end(&mut text);
        heard_in.send((text.len(), outcome.is_ok())).unwrap();
        Ok(())
    });
    etcd.put(&format!("{prefix}/db/one"), &upstream.registration());
    // More than the buffers of the upstream's side take before it reads.
    let bytes = 20_000_000;
    let script =
        format!("exec 3<>/dev/tcp/127.0.0.1/${{DB_PORT##*:}}; head -c {bytes} /dev/zero >&3");
    let ended = exec_in(&prefix, &["db:db"], &["bash", "-c", &script]).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(heard.recv_timeout(DEADLINE), Ok((bytes, true)));
}

#[test]
fn connection_that_outlives_the_command_is_reset_after_the_drain() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let upstream = Upstream::echo();
    etcd.put(&format!("{prefix}/db/one"), &upstream.registration());
    let script = "echo $DB_PORT; read -r line; exit 4";
    let words = ["sh", "-c", script];
    let (mut input, launch) =
        exec_in(&prefix, &["db:db"], &words).env("AMBASSADOR_DRAIN", "1s").typed_input();
    let ambassador = launch.start();
    let address = eventually_some(DEADLINE, "the address", || {
        ambassador.stdout().first()?.strip_prefix("tcp://")?.parse().ok()
    });
    let client = connect(address).unwrap();
    (&client).write_all(b"x").unwrap();
    (&client).read_exact(&mut [0; 1]).unwrap();
    let told = Instant::now();
    input.write_all(b"end\n").unwrap();
    assert_eq!(ending(&client), Ending::Reset);
    assert!(told.elapsed() > Duration::from_millis(900), "{:?}", told.elapsed());
    assert_eq!(ambassador.finish(DEADLINE).code, Some(4));
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
}

#[test]
fn wrong_usage_is_one_line_and_exit_2() {
    for (args, words) in [
        (&["exec", "--", "true"][..], &["--service", "SERVICE:ALIAS[:PORT]"][..]),
        (&["exec", "--service", "db:db"], &["-- COMMAND"]),
        (&["exec", "--service", "db:db", "--"], &["-- COMMAND"]),
        (&["exec", "--service", "db:db", "true"], &["true"]),
        (&["exec", "--service", "db", "--", "true"], &["--service", "SERVICE:ALIAS[:PORT]"]),
        (&["exec", "--service", "db:a:1:2", "--", "true"], &["--service", "SERVICE:ALIAS[:PORT]"]),
        (&["exec", "--service", "a/b:db", "--", "true"], &["--service", "SERVICE: "]),
        (&["exec", "--service", "db:1st", "--", "true"], &["--service", "ALIAS: "]),
        (&["exec", "--service", "db:a=b", "--", "true"], &["--service", "ALIAS: "]),
        (&["exec", "--service", "db:db:0", "--", "true"], &["--service", "1 to 65535"]),
        (&["exec", "--service", "db:db:70000", "--", "true"], &["--service", "1 to 65535"]),
        (&["exec", "--service", "a:my-db,b:MY.DB", "--", "true"], &["--service", "MY_DB", "twice"]),
        (&["exec", "--service", "a:a:80", "--service", "b:b:80", "--", "true"], &["80", "twice"]),
        (&["exec", "--service", "a:a", "--wait", "x", "--", "true"], &["--wait"]),
    ] {
        let ended: Ended = ambassador(args).run();
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{args:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{args:?}: {ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{args:?}: no {word} in {ended:?}");
        }
    }
    let ended = ambassador(["exec", "--", "true"]).env("AMBASSADOR_SERVICE", "db").run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("AMBASSADOR_SERVICE"), "{ended:?}");
}
