//! A real browser: Chromium without a window, driven over WebDriver.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::client;
use super::process::Guarded;
use super::{eventually, http, skip_loudly, temp_dir};

/// One page in a browser of its own.
pub(crate) struct Browser {
    driver: SocketAddr,
    session: String,
    _process: Guarded,
}

/// How it looks at pages.
#[derive(Default)]
pub(crate) struct Looks {
    /// Width and height of a screen as phones have it, instead of a large one.
    pub(crate) is_phone: bool,
    pub(crate) prefers_dark: bool,
}

impl Browser {
    /// `None`, and said so for `test`, where there is no Chromium.
    pub(crate) fn open(test: &str, url: &str, looks: &Looks) -> Option<Browser> {
        let is_there = |program: &str| {
            let version = Command::new(program).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        };
        if !is_there("chromedriver") {
            skip_loudly(test, "no chromedriver: scripts/packages.sh chromium-driver");
            return None;
        }
        // It wants one port for IPv4 and IPv6, and ends when the one it got is taken on either.
        let started = (0..3).find_map(|_| start_driver());
        let (driver, process) = started.expect("chromedriver says its port");
        let size = if looks.is_phone { "--window-size=500,1000" } else { "--window-size=1280,900" };
        let mut arguments = vec![
            "--headless=new",
            // Its sandbox cannot be had by root; what it shows is our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            // Ends with the driver, however that ends.
            "--remote-debugging-pipe",
            size,
        ];
        if looks.prefers_dark {
            arguments.push("--force-dark-mode");
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = ask(driver, "POST", "/session", Some(&wanted))["sessionId"].clone();
        let session = format!("/session/{}", session.as_str().unwrap());
        let browser = Browser { driver, session, _process: process };
        browser.ask("POST", "/url", Some(&json!({"url": url})));
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        ask(self.driver, method, &format!("{}{path}", self.session), body)
    }

    /// What the function body `script` returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", Some(&json!({"script": script, "args": []})))
    }

    /// The text that stands in what `selector` finds first; empty if that is nothing.
    pub(crate) fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let script = format!("return document.querySelector({selector})?.innerText ?? ''");
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// Waits until `words` stand in what `selector` finds.
    #[track_caller]
    pub(crate) fn wait_for(&self, selector: &str, words: &str) {
        eventually(&format!("{selector} says {words:?}"), || self.text(selector).contains(words));
    }

    /// What went wrong in the page, by its own words.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", Some(&json!({"type": "browser"})));
        log.as_array().unwrap().iter().map(|line| line["message"].to_string()).collect()
    }
}

fn start_driver() -> Option<(SocketAddr, Guarded)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").env("TMPDIR", temp_dir("browser"));
    let mut process = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let stdout = BufReader::new(process.child().stdout.take().unwrap());
    let port = stdout.lines().find_map(|line| {
        let line = line.unwrap();
        line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
    })?;
    Some((SocketAddr::from(([127, 0, 0, 1], port)), process))
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which is not our child.
        let _ = client::connect(self.driver)
            .and_then(|stream| http::ask(stream, "DELETE", &self.session, None));
    }
}

fn ask(driver: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Value {
    let body = body.map(Value::to_string);
    let stream = client::connect(driver).unwrap();
    let answer = http::ask(stream, method, path, body.as_deref()).unwrap();
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
    answer.json()["value"].clone()
}
