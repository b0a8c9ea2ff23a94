//! What is written to stderr: as text, for the journal, or as JSON, and nothing in it that
//! somebody else could forge.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::ambassador::{Ambassador, Ended, Launch, ambassador};
use crate::support::client::{Ending, connect, ending, read_all};
use crate::support::etcd;
use crate::support::fake_docker::{Container, FakeDocker, Fault};
use crate::support::upstream::{Upstream, reset};
use crate::support::{
    DEADLINE, eventually, eventually_some, proceed_after, refusing_address, temp_dir,
    unique_prefix, within,
};

/// What somebody would write to be taken for us, or to spoil a terminal.
const FORGED: &str = "x\nERROR main forged\r\n<0>forged\"}\n{\"level\":\"ERROR\"}\u{1b}[2J\u{9b}2J\u{202e}\u{2028}\0";

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// `forward --listen 127.0.0.1:0 UPSTREAM`.
fn forward(upstream: SocketAddr) -> Launch {
    ambassador(["forward", "--listen", "127.0.0.1:0", &upstream.to_string()])
}

/// An object of the four keys, each with what it should have.
#[track_caller]
fn assert_is_json_line(line: &str) -> Value {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    let order = ["time", "level", "thread", "message"].map(|key| line.find(&format!("\"{key}\":")));
    assert!(order.is_sorted() && order[0] == Some(1), "{line}");
    assert_eq!(object.as_object().unwrap().len(), 4, "{line}");
    assert!(LEVELS.contains(&object["level"].as_str().unwrap()), "{line}");
    let time = object["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line}");
    assert_is_harmless(line);
    object
}

/// `LEVEL thread message`.
#[track_caller]
fn assert_is_text_line(line: &str) {
    let words: Vec<_> = line.splitn(3, ' ').collect();
    assert!(words.len() == 3 && LEVELS.contains(&words[0]), "{line:?}");
    assert!(words[1].len() <= 15 && !words[1].contains("forged"), "{line:?}");
    assert_is_harmless(line);
}

/// It ends no line, moves no cursor, and is read in the order in which it is written.
#[track_caller]
fn assert_is_harmless(line: &str) {
    let is_harmful = |c: char| c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(c);
    assert!(!line.contains(is_harmful), "{line:?}");
}

#[test]
fn every_command_logs_one_object_a_line_as_json() {
    let nowhere = refusing_address().to_string();
    let proxy = ["proxy", "--etcd", &nowhere, "redis-A", "127.0.0.1:0"];
    let register = ["register", "--etcd", &nowhere, "--address", "10.0.0.7:5432", "db"];
    let exec = ["exec", "--etcd", &nowhere, "--service", "db:db", "--", "/bin/sleep", "30"];
    let forward = ["forward", "--listen", "127.0.0.1:0", &nowhere];
    let now = humantime(SystemTime::now());
    for words in [&proxy[..], &register, &exec, &forward] {
        let by_variable = ambassador(words).env("AMBASSADOR_LOG_FORMAT", "json");
        let mut by_option: Vec<_> = words.to_vec();
        by_option.splice(1..1, ["--log-format", "json"]);
        for launch in [by_variable, ambassador(by_option)] {
            let mut ambassador = launch.start();
            eventually("a line of the log", || !ambassador.log().is_empty());
            ambassador.signal("TERM");
            let ended = ambassador.finish(DEADLINE);
            assert!(ended.stderr.lines().count() > 0, "{ended:?}");
            for line in ended.stderr.lines() {
                let object = assert_is_json_line(line);
                // The same day and hour, give or take: it is the clock of this machine.
                let time = object["time"].as_str().unwrap();
                assert!(time[..10] >= now[..10], "{time} after {now}");
            }
        }
    }
    let (url, prefix) = (etcd::shared().url(), unique_prefix());
    for words in [&["list", "nothing"][..], &["env", "nothing", "1"]] {
        let fixed = ["--log-format=json", "--etcd", &url, "--prefix", &prefix];
        let ended = ambassador([&words[..1], &fixed, &words[1..]].concat()).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let object = assert_is_json_line(ended.stderr.trim_end());
        assert_eq!((&object["level"], &object["thread"]), (&"ERROR".into(), &"main".into()));
        assert!(object["message"].as_str().unwrap().contains("nothing"), "{object}");
    }
}

/// RFC 3339, from the shell's `date`, which knows the calendar.
fn humantime(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let date = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output();
    String::from_utf8(date.unwrap().stdout).unwrap()
}

/// Has the shell say which file standard error is, as systemd says it.
const JOURNAL: [&str; 4] =
    ["/bin/sh", "-c", "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"", "sh"];

#[test]
fn lines_for_the_journal_begin_with_their_priority_and_no_others() {
    let upstream = Upstream::greeter("hello");
    let lines = |launch: Launch| {
        let ambassador = launch.env("PATH", "/usr/bin:/bin").start();
        assert_eq!(read_all(ambassador.address()).unwrap(), "hello");
        let stdout = ambassador.stdout();
        assert!(stdout[0].starts_with("listening "), "{stdout:?}");
        eventually("the connection's line", || {
            ambassador.log().iter().any(|line| line.contains(" served "))
        });
        ambassador.terminate().stderr
    };
    let priority = |line: &str| line.chars().take_while(|c| *c != 'I' && *c != 'D').collect();
    let priorities = |text: &str| text.lines().map(priority).collect::<Vec<String>>();

    let journal = lines(forward(upstream.address()).under(&JOURNAL));
    for line in journal.lines() {
        assert!(line.starts_with("<6>INFO ") || line.starts_with("<7>DEBUG "), "{line}");
        assert_is_text_line(&line[3..]);
    }
    assert!(priorities(&journal).contains(&"<7>".to_owned()), "{journal}");

    // Inherited from somebody whose standard error it was.
    let inherited = lines(forward(upstream.address()).env("JOURNAL_STREAM", "8:12345"));
    let json =
        lines(forward(upstream.address()).under(&JOURNAL).env("AMBASSADOR_LOG_FORMAT", "json"));
    inherited.lines().for_each(assert_is_text_line);
    json.lines().for_each(|line| drop(assert_is_json_line(line)));
}

#[test]
fn last_line_of_a_process_has_the_priority_of_an_error() {
    let url = etcd::shared().url();
    for (words, code) in [(&["list", "--etcd", &url, "nothing"][..], 1), (&["frobnicate"], 2)] {
        let launch = ambassador(words).under(&JOURNAL).env("PATH", "/usr/bin:/bin");
        let ended = launch.run();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.starts_with("<3>ambassador: "), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        let ended = ambassador(words).run();
        assert!(ended.stderr.starts_with("ambassador: "), "{ended:?}");
    }
}

/// With trace lines of the libraries, which show more of what others send.
fn noisy(launch: Launch, format: &str) -> Launch {
    launch.env("RUST_LOG", "trace").env("AMBASSADOR_LOG_FORMAT", format)
}

#[track_caller]
fn assert_all_are_ours(format: &str, ended: &Ended) {
    for line in ended.stderr.lines() {
        match format {
            "json" => drop(assert_is_json_line(line)),
            // Why the process ended.
            _ if line.starts_with("ambassador: ") => assert_is_harmless(line),
            _ => assert_is_text_line(line),
        }
    }
    ended.stdout.lines().for_each(assert_is_harmless);
}

#[test]
fn nothing_that_stands_in_etcd_forges_a_line() {
    let (etcd, prefix) = (etcd::shared(), unique_prefix());
    let url = etcd.url();
    // etcd itself takes any key.
    let key = "one\nERROR main forged\u{1b}[2J";
    let object = serde_json::json!({"host": FORGED, "port": 80}).to_string();
    etcd.put(&format!("{prefix}/web/{key}"), FORGED);
    etcd.put(&format!("{prefix}/web/object"), &object);
    let attribute = serde_json::json!({"host": "10.0.0.1", "port": 80, "a": FORGED, FORGED: 1});
    etcd.put(&format!("{prefix}/web/{key}2"), &attribute.to_string());
    for format in ["text", "json"] {
        let words = ["--etcd", &url, "--prefix", &prefix, "web"];
        let launch = ambassador(["proxy"].iter().chain(&words)).arg("127.0.0.1:0");
        let proxy = noisy(launch, format).start();
        let warned = || proxy.log().iter().filter(|l| l.contains("is skipped")).count() == 2;
        eventually("warnings of both", warned);
        let ended = proxy.terminate();
        assert!(ended.stderr.contains("forged"), "{ended:?}");
        assert_all_are_ours(format, &ended);

        let ended = noisy(ambassador(["list"].iter().chain(&words)), format).run();
        assert!(ended.stdout.contains("forged") && ended.stderr.contains("forged"), "{ended:?}");
        assert_all_are_ours(format, &ended);
    }
}

#[test]
fn nothing_that_an_etcd_answers_forges_a_line() {
    let message = serde_json::json!({"errorCode": 300, "message": FORGED, "cause": FORGED});
    let message = message.to_string();
    let length = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    // What is shown of an answer, and what the HTTP client says of one that is none.
    let answers = [
        (true, format!("HTTP/1.1 503 Bad\r\n{}", length(FORGED))),
        (true, format!("HTTP/1.1 400 Bad\r\nX-Etcd-Index: 5\r\n{}", length(&message))),
        (false, format!("HTTP/1.1 500 no \u{1b}[2J\r\n{}", length(FORGED))),
        (false, format!("HTTP/1.1 200 OK\r\nX-Etcd-Index: \u{1b}[2J\r\n{}", length(FORGED))),
        (false, FORGED.to_owned()),
    ];
    for (is_shown, answer) in answers {
        let etcd = Upstream::serve(move |mut client| {
            let _ = client.read(&mut [0; 4096])?;
            client.write_all(answer.as_bytes())
        });
        let url = etcd.address().to_string();
        for format in ["text", "json"] {
            let words = ["proxy", "--etcd-api", "v2", "--etcd", &url, "web", "127.0.0.1:0"];
            let ambassador = noisy(ambassador(words), format).start();
            let is_due = |line: &String| {
                line.contains("still serving") && (!is_shown || line.contains("forged"))
            };
            eventually("a warning", || ambassador.log().iter().any(is_due));
            assert_all_are_ours(format, &ambassador.terminate());
        }
    }
}

#[test]
fn nothing_that_docker_says_forges_a_line() {
    let docker = FakeDocker::start();
    let published = Container::named("other.service").publishes(80, &[(FORGED, 80)]);
    docker.run(published);
    let two = [("10.0.0.7", 80), (FORGED, 80)];
    docker.run(Container::named("two.service").publishes(80, &two));
    let container = Container::named("web.service").stop_signal(FORGED);
    docker.run(container.publishes(80, &[("10.0.0.7", 80)]));
    let (url, prefix, socket) = (etcd::shared().url(), unique_prefix(), docker.address());
    let words = ["register", "--etcd", &url, "--prefix", &prefix, "--docker", &socket];
    let of =
        |container, format| noisy(ambassador(words).arg(container).arg("80").arg("web"), format);
    for format in ["text", "json"] {
        docker.set_fault(None);
        let explained =
            ["other.service", "two.service"].map(|name| of(name, format).arg("--explain"));
        for launch in explained.into_iter().chain([of("other.service", format)]) {
            let ended = launch.run();
            assert!(format!("{ended:?}").contains("forged"), "{ended:?}");
            assert_all_are_ours(format, &ended);
        }

        let ambassador = of("web.service", format).start();
        let event = serde_json::json!({
            "Type": "container", "Action": format!("start{FORGED}"), "timeNano": 1,
            "Actor": {"ID": FORGED, "Attributes": {"name": "web.service", "signal": FORGED}},
        });
        // Who has not asked for events yet gets the next one.
        eventually("a word of the event", || {
            docker.send_to_events_streams(format!("{event}\n").into_bytes());
            ambassador.log().iter().any(|line| line.contains("Docker says start"))
        });
        docker.set_fault(Some(Fault::Answer(500, "application/json", FORGED)));
        docker.end_events_streams();
        eventually("a word of the fault", || {
            ambassador.log().iter().any(|line| line.contains("500"))
        });
        assert_all_are_ours(format, &ambassador.terminate());
    }
}

#[test]
fn line_that_repeats_is_written_once_and_counted_after_ten_seconds() {
    let upstream = Upstream::greeter("hello");
    let mut ambassador = forward(upstream.address()).start();
    ambassador.address();
    let hang_up = |ambassador: &mut Ambassador, times| {
        for _ in 0..times {
            ambassador.signal("HUP");
            // Signals that wait together are one.
            proceed_after(Duration::from_millis(20));
        }
    };
    let said = |log: Vec<String>, text: &str| {
        log.into_iter().filter(|line| line.contains(text)).collect::<Vec<_>>()
    };
    let start = Instant::now();
    hang_up(&mut ambassador, 6);
    let once = "INFO signals SIGHUP changes nothing";
    assert_eq!(said(ambassador.log(), "SIGHUP"), [once]);
    let counted =
        eventually_some(DEADLINE, "the count", || said(ambassador.log(), "(repeated").pop());
    assert!(start.elapsed() > Duration::from_secs(9), "{:?}", start.elapsed());
    assert!(counted.starts_with(&format!("{once} (repeated ")), "{counted}");
    assert!(counted.ends_with(" times in 10s)"), "{counted}");

    hang_up(&mut ambassador, 2);
    let ended = ambassador.terminate();
    let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains("SIGHUP")).collect();
    assert_eq!(lines.len(), 3, "the rest is counted at the end: {ended:?}");
    assert!(lines[2].contains(" (repeated "), "{ended:?}");
}

#[test]
fn closed_connection_is_one_debug_line_with_all_there_is_to_know() {
    // Half of what it gets comes back.
    let upstream = Upstream::serve(|mut client| {
        let mut buffer = [0; 16 * 1024];
        let mut count = 0;
        loop {
            match client.read(&mut buffer)? {
                0 => return client.shutdown(Shutdown::Write),
                length => {
                    let half = (count + length) / 2 - count / 2;
                    count += length;
                    client.write_all(&buffer[..half])?;
                }
            }
        }
    });
    let target = upstream.address();
    let mut ambassador = forward(target).start();
    let address = ambassador.address();
    let lines_of = |ambassador: &Ambassador, client: SocketAddr| {
        let client = format!(" served {client} for ");
        ambassador.log().into_iter().filter(|l| l.contains(&client)).collect::<Vec<_>>()
    };

    let mut client = connect(address).unwrap();
    let peer = client.local_addr().unwrap();
    let bytes = vec![7; 1_000_000];
    let mut reader = client.try_clone().unwrap();
    let read = thread::spawn(move || reader.read_to_end(&mut Vec::new()).unwrap());
    client.write_all(&bytes).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read.join().unwrap(), bytes.len() / 2);
    drop(client);
    eventually("its line", || !lines_of(&ambassador, peer).is_empty());
    let lines = lines_of(&ambassador, peer);
    let line = &lines[0];
    assert!(line.starts_with("DEBUG ") && lines.len() == 1, "{lines:?}");
    assert!(line.contains(&format!(" {target}: {target} served {peer} for ")), "{line}");
    assert!(line.ends_with("s: 1000000 bytes up, 500000 bytes down"), "{line}");

    // One that is reset in the end says so.
    let mut client = connect(address).unwrap();
    let peer = client.local_addr().unwrap();
    client.write_all(b"hello!").unwrap();
    client.read_exact(&mut [0; 3]).unwrap();
    reset(client);
    eventually("its line", || !lines_of(&ambassador, peer).is_empty());
    let lines = lines_of(&ambassador, peer);
    assert!(lines[0].ends_with("s: 6 bytes up, 3 bytes down, reset"), "{lines:?}");
    ambassador.signal("TERM");
    ambassador.finish(DEADLINE);
}

#[test]
fn client_that_was_never_served_has_its_line_too() {
    let nowhere = refusing_address();
    let launch = forward(nowhere).env("AMBASSADOR_WAIT", "300ms");
    let ambassador = launch.start();
    let client = connect(ambassador.address()).unwrap();
    let peer = client.local_addr().unwrap();
    assert_eq!(ending(&client), Ending::Reset);
    let line = eventually_some(DEADLINE, "its line", || {
        ambassador.log().into_iter().find(|line| line.contains(&format!(" served {peer} for ")))
    });
    assert!(line.contains("nothing served") && line.ends_with("waited in vain, reset"), "{line}");
}

/// A stopped terminal, a log driver that is stuck.
#[test]
fn full_stderr_stops_no_client_and_what_was_lost_is_counted() {
    let fifo = temp_dir("log").join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Held open, and not read.
    const O_NONBLOCK: i32 = 0o4000;
    let mut reader =
        OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(&fifo).unwrap();
    let upstream = Upstream::greeter("hello");
    let script = format!("exec \"$@\" 2>{}", fifo.display());
    let launch = forward(upstream.address()).env("RUST_LOG", "trace");
    let mut ambassador = launch.under(&["/bin/sh", "-c", &script, "sh"]).start();
    let address = ambassador.address();
    // More lines than wait for stderr and fit into the pipe.
    for _ in 0..6500 {
        assert_eq!(read_all(address).unwrap(), "hello");
    }
    let mut text = String::new();
    within(DEADLINE, "a word of what was lost", || {
        let mut bytes = vec![0; 65536];
        // Nothing to read is an error here.
        let count = reader.read(&mut bytes).unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        text.contains(" lines dropped: stderr did not keep up")
    });
    ambassador.signal("TERM");
    assert_eq!(ambassador.finish(DEADLINE).code, Some(0));
    drop(fs::remove_file(fifo));
}
