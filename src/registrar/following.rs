//! Whether Docker's events are followed: said once if not, while Docker answers otherwise.

use std::time::{Duration, Instant};

use log::{info, warn};

/// Events that are not followed for so long, while Docker answers, are worth a
/// warning: a Docker that comes back answers a moment before it is subscribed to.
const GRACE: Duration = Duration::from_secs(5);

/// What is known of the events stream.
#[derive(Debug, Default)]
pub(super) struct Following(Option<Outage>);

/// It could not be subscribed to, or has ended.
#[derive(Debug)]
struct Outage {
    since: Instant,
    problem: String,
    is_said: bool,
    /// When it was subscribed to again. A stream that ends at once mends nothing.
    mended: Option<Instant>,
}

impl Following {
    pub(super) fn subscribed(&mut self) {
        if let Some(outage) = &mut self.0 {
            outage.mended = Some(Instant::now());
        }
    }

    pub(super) fn ended(&mut self, problem: String) {
        let (since, is_said) = match self.0.take() {
            Some(outage) if !outage.is_over() => (outage.since, outage.is_said),
            _ => (Instant::now(), false),
        };
        self.0 = Some(Outage { since, problem, is_said, mended: None });
    }

    /// To be called when Docker has answered something else.
    pub(super) fn docker_answers(&mut self) {
        let Some(outage) = &mut self.0 else { return };
        if outage.is_over() {
            if outage.is_said {
                info!("Docker's events are followed again");
            }
            self.0 = None;
        } else if !outage.is_said && outage.since.elapsed() > GRACE {
            outage.is_said = true;
            let problem = &outage.problem;
            warn!("Docker's events cannot be followed, it is asked instead: {problem}");
        }
    }
}

impl Outage {
    fn is_over(&self) -> bool {
        self.mended.is_some_and(|mended| mended.elapsed() > GRACE)
    }
}
