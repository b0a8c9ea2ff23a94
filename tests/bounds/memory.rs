//! Memory is bounded, whoever does not read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
use crate::support::cgroup::Cgroup;
use crate::support::usage::Usage;
use crate::support::{proceed_after, skip_loudly};

const MIB: usize = 1 << 20;

/// What it may take for itself with 200 connections open, half of them stuck.
const RESIDENT: usize = 32 * MIB;

/// More than the buffers on the way hold, so that stuck threads have to go on.
const BLOCKS: usize = 24;

#[test]
fn clients_that_do_not_read_cost_little_and_nobody_else() {
    let test = "clients_that_do_not_read_cost_little_and_nobody_else";
    let group = match Cgroup::new("memory") {
        Ok(group) => group,
        Err(reason) => return skip_loudly(test, &reason),
    };
    group.limit_memory(64 * MIB);
    let sequence = Arc::new(Sequence::new());
    let upstream = Upstream::serve({
        let sequence = sequence.clone();
        move |client| serve(&sequence, client)
    });
    let wrapper = group.wrapper();
    let launch = forward([], &upstream).under(&wrapper.each_ref().map(String::as_str));
    let (mut ambassador, address) = started(launch);
    let mut idle = echoing(address, 100);
    let stuck: Vec<TcpStream> = (0..100).map(|_| flooded(address)).collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert!(ambassador.is_running());
        let resident = Usage::of(ambassador.id()).resident_bytes();
        assert!(resident < RESIDENT, "{resident} bytes");
        echoing(address, 1);
        proceed_after(Duration::from_millis(50));
    }
    idle.iter_mut().for_each(echo);
    // All of it from a few of them, for want of time.
    for (number, client) in stuck.iter().enumerate() {
        if number % 10 == 0 {
            sequence.expect(client, BLOCKS);
            assert_eq!(ending(client), Ending::Fin);
        } else {
            sequence.expect(client, 1);
        }
    }
}

/// A client that does not read what is sent to it.
fn flooded(address: SocketAddr) -> TcpStream {
    let mut client = connect(address).unwrap();
    // What is to be filled is what the proxy has.
    SockRef::from(&client).set_recv_buffer_size(64 * 1024).unwrap();
    client.write_all(FLOOD).unwrap();
    client
}

const FLOOD: &[u8] = b"f";

/// Sends a lot when asked to, or sends back what it receives.
fn serve(sequence: &Sequence, mut client: TcpStream) -> io::Result<()> {
    SockRef::from(&client).set_send_buffer_size(64 * 1024)?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut received = [0];
    while client.read(&mut received)? > 0 {
        if received == FLOOD {
            return sequence.send(&client, BLOCKS, Sequence::BLOCK);
        }
        client.write_all(&received)?;
    }
    Ok(())
}
