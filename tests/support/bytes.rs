//! Bytes that show what happened to them on the way.

/// Bytes in which a lost, repeated or swapped piece would be noticed.
pub(crate) fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; length.next_multiple_of(8)];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compared as a whole: on failure nobody wants to read 4 MiB.
#[track_caller]
pub(crate) fn assert_same(received: &[u8], sent: &[u8]) {
    assert_eq!(received.len(), sent.len());
    if received != sent {
        let difference = received.iter().zip(sent).position(|(a, b)| a != b);
        assert_eq!(difference, None, "first byte that differs");
    }
}
