//! What the fuzz targets have in common: how an input steers a target, and what holds for
//! every text that is shown to people.

/// An input's first line, which steers a target, and the rest: so a seed stays readable.
pub(crate) fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// Whether a character could end its line, move a terminal's cursor, or show the others in
/// another order than they are written.
pub(crate) fn is_harmful(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[track_caller]
pub(crate) fn assert_is_one_line(text: &str) {
    assert!(!text.contains(is_harmful), "{text:?}");
}

/// Fails for foreign text that was not cut: an excerpt has 160 characters, each of which
/// becomes 8 at most when it is escaped, and it may stand in a sentence of ours.
#[track_caller]
pub(crate) fn assert_is_an_excerpt(text: &str) {
    assert_is_one_line(text);
    let count = text.chars().count();
    assert!(count <= 160 * 8 + 120, "{count} characters: {text}");
}
