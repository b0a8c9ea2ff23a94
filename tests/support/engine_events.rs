//! What an engine tells, and when.

use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::eventually_some;
use super::http::{self, percent_encode};

/// Every event of containers and networks that an engine tells, as it comes.
pub(crate) struct Events {
    events: Arc<Mutex<Vec<(Instant, Value)>>>,
    stream: UnixStream,
    reader: Option<JoinHandle<()>>,
}

impl Events {
    pub(crate) fn follow(socket: &str) -> Events {
        let mut stream = UnixStream::connect(socket).unwrap();
        let filters = percent_encode(r#"{"type":["container","network"]}"#);
        let request = format!("GET /events?filters={filters} HTTP/1.1\r\nHost: docker\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let (status, _) = http::read_head(&mut lines).unwrap();
        assert_eq!(status, 200);
        let events = Arc::new(Mutex::new(Vec::new()));
        let reader = thread::spawn({
            let events = events.clone();
            move || {
                // Ends when the test closes the stream.
                while let Ok(Some(chunk)) = http::read_chunk(&mut lines) {
                    let event = serde_json::from_slice(&chunk).unwrap();
                    events.lock().unwrap().push((Instant::now(), event));
                }
            }
        });
        Events { events, stream, reader: Some(reader) }
    }

    /// Those about the container with this id.
    pub(crate) fn of(&self, id: &str) -> Vec<(Instant, Value)> {
        let events = self.events.lock().unwrap();
        events.iter().filter(|(_, event)| event["Actor"]["ID"] == id).cloned().collect()
    }

    /// Those about the networks that the container with this id enters and leaves.
    pub(crate) fn of_networks(&self, id: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        let events = events.iter().map(|(_, event)| event);
        let of_it = |event: &&Value| event["Actor"]["Attributes"]["container"] == id;
        events.filter(of_it).cloned().collect()
    }

    pub(crate) fn wait_for(&self, id: &str, action: &str) -> Instant {
        eventually_some(Duration::from_secs(15), &format!("event {action}"), || {
            let events = self.of(id);
            events.iter().find(|(_, event)| event["Action"] == action).map(|(at, _)| *at)
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        drop(self.stream.shutdown(Shutdown::Both));
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
