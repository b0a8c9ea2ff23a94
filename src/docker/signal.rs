//! Signals as engines write them.

/// `15`, `TERM`, `SIGTERM` or `SIGRTMIN+3` as a number.
///
/// Source: signal(7), x86 and ARM; Docker takes the same forms (moby/sys/signal).
pub(super) fn number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    // The C library keeps 32 and 33 for itself.
    const SIGRTMIN: i32 = 34;
    const SIGRTMAX: i32 = 64;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(above) = name.strip_prefix("RTMIN") {
        return if above.is_empty() {
            Some(SIGRTMIN)
        } else {
            Some(SIGRTMIN + i32::from(above.parse::<i8>().ok()?))
        };
    }
    if let Some(below) = name.strip_prefix("RTMAX") {
        return if below.is_empty() {
            Some(SIGRTMAX)
        } else {
            Some(SIGRTMAX + i32::from(below.parse::<i8>().ok()?))
        };
    }
    let position = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(position + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_every_form_docker_writes() {
        for (text, expected) in [
            ("15", 15),
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigquit", 3),
            ("SIGKILL", 9),
            ("SYS", 31),
            ("SIGRTMIN+3", 37),
            ("RTMIN", 34),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in ["", "SIG", "NOPE", "RTMIN+x", "RTMIN+2147483647"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
