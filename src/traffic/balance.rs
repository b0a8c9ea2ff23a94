//! Which upstream a new connection gets, and in which order the others follow
//! when it fails. Pure.

use std::{
    cmp::Ordering,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use super::pool::Upstream;

/// How new connections are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Balance {
    /// In turn, more often the heavier.
    #[default]
    RoundRobin,
    /// To the one with the fewest open connections for its weight.
    LeastConn,
    /// By chance, more often the heavier.
    Random,
    /// Always to the same one for a client's address, as long as it is there.
    Source,
}

/// Heavier weights are scaled down to this...
const MAX_WEIGHT: u64 = 256;

/// ...or further, so that a schedule of many upstreams stays short: each of its turns
/// looks at all of them. At least one turn each, however many there are.
const MOST_TURNS: u64 = 16 * 1024;

/// Whose turn it is, again and again: upstreams as often as their weight says, and
/// as evenly as that allows.
///
/// Source: smooth weighted round-robin, as nginx does it: each step everybody
/// gains their weight, and the richest is taken and pays the sum.
pub(super) fn schedule(upstreams: &[Upstream]) -> Vec<usize> {
    let weights = scaled(upstreams);
    let sum: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    let mut schedule = Vec::new();
    for _ in 0..sum {
        let mut richest = 0;
        for (index, weight) in weights.iter().enumerate() {
            credit[index] += weight;
            if credit[index] > credit[richest] {
                richest = index;
            }
        }
        credit[richest] -= sum;
        schedule.push(richest);
    }
    schedule
}

/// Weights in the smallest numbers with the same proportions, as far as they are not too
/// large. All the same where none has any.
fn scaled(upstreams: &[Upstream]) -> Vec<i64> {
    let heaviest = upstreams.iter().map(|upstream| upstream.weight).max().unwrap_or(0);
    let most = (MOST_TURNS / upstreams.len().max(1) as u64).clamp(1, MAX_WEIGHT);
    let scale = |weight: u64| match weight {
        _ if heaviest == 0 => 1,
        0 => 0,
        _ if heaviest <= most => weight,
        _ => (u128::from(weight) * u128::from(most) / u128::from(heaviest)).max(1) as u64,
    };
    let weights: Vec<u64> = upstreams.iter().map(|upstream| scale(upstream.weight)).collect();
    let divisor = weights.iter().fold(0, |a, &b| greatest_common_divisor(a, b)).max(1);
    weights.iter().map(|weight| (weight / divisor) as i64).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The upstreams in the order they are tried, by their indices. Those without
/// weight come last.
///
/// `first` is whose turn it is, `open` how many connections each has now.
pub(super) fn order(
    balance: Balance,
    upstreams: &[Upstream],
    first: usize,
    open: impl Fn(&Upstream) -> usize,
    client: IpAddr,
) -> Vec<usize> {
    let count = upstreams.len();
    let mut order: Vec<usize> = (0..count).map(|step| (first + step) % count).collect();
    match balance {
        Balance::RoundRobin => {}
        // A stable sort: where loads are equal, turns decide.
        Balance::LeastConn => {
            let load = |index: &usize| load(open(&upstreams[*index]), upstreams[*index].weight);
            sort_by_key(&mut order, load);
        }
        Balance::Random => {
            let lots: Vec<f64> =
                upstreams.iter().map(|u| lot(1.0 - fastrand::f64(), u.weight)).collect();
            sort_by_key(&mut order, |index| lots[*index]);
        }
        // Rendezvous hashing: when an upstream leaves, only its own clients move.
        Balance::Source => {
            let lot = |index: &usize| {
                let upstream = &upstreams[*index];
                lot(fraction_of(&(client, &upstream.address)), upstream.weight)
            };
            sort_by_key(&mut order, lot);
        }
    }
    order.sort_by_key(|index| upstreams[*index].weight == 0);
    order
}

fn sort_by_key(order: &mut [usize], key: impl Fn(&usize) -> f64) {
    order.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(Ordering::Equal));
}

/// Connections for the weight, with the one to come.
fn load(open: usize, weight: u64) -> f64 {
    (open as f64 + 1.0) / weight.max(1) as f64
}

/// A draw in which the smallest wins, with chances as the weights: `fraction` is
/// evenly spread over (0, 1].
fn lot(fraction: f64, weight: u64) -> f64 {
    -fraction.ln() / weight.max(1) as f64
}

/// An even fraction in (0, 1] that is always the same for the same key.
fn fraction_of(key: &impl Hash) -> f64 {
    // Without a random seed: clients stay where they are over a restart.
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    ((hasher.finish() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstreams(weights: &[u64]) -> Vec<Upstream> {
        let name = |index| format!("10.0.{}.{}:80", index / 250, index % 250 + 1).parse().unwrap();
        let upstream = |(index, &weight)| Upstream { weight, ..Upstream::new(name(index)) };
        weights.iter().enumerate().map(upstream).collect()
    }

    fn client(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    fn counts(balance: Balance, weights: &[u64], rounds: usize) -> Vec<usize> {
        let upstreams = upstreams(weights);
        let mut counts = vec![0; weights.len()];
        for round in 0..rounds {
            let first = round % weights.len();
            let client = client((round % 250) as u8);
            counts[order(balance, &upstreams, first, |_| 0, client)[0]] += 1;
        }
        counts
    }

    #[test]
    fn turns_are_spread_as_the_weights_say_and_evenly() {
        assert_eq!(schedule(&upstreams(&[1, 1, 1])), [0, 1, 2]);
        assert_eq!(schedule(&upstreams(&[5, 1, 1])), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(schedule(&upstreams(&[200, 100])), [0, 1, 0]);
        assert_eq!(schedule(&upstreams(&[1, 0])), [0]);
        assert_eq!(schedule(&upstreams(&[0, 0])), [0, 1]);
        assert!(schedule(&upstreams(&[u64::MAX, 1])).len() <= 257);
        let many: Vec<u64> = (0..5000).map(|index| index % 256 + 1).collect();
        assert!(schedule(&upstreams(&many)).len() as u64 <= MOST_TURNS);
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_first() {
        let upstreams = upstreams(&[1, 1, 4]);
        let open = |upstream: &Upstream| match upstream.weight {
            4 => 5,
            _ => 1,
        };
        assert_eq!(order(Balance::LeastConn, &upstreams, 1, open, client(1)), [2, 1, 0]);
    }

    #[test]
    fn chance_follows_the_weights() {
        let counts = counts(Balance::Random, &[3, 1], 10_000);
        assert!((6_900..8_100).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_client_keeps_its_upstream_while_that_is_there() {
        let all = upstreams(&[1, 1, 1]);
        for number in 0..250 {
            let choice = |set: &[Upstream]| {
                let order = order(Balance::Source, set, 0, |_| 0, client(number));
                set[order[0]].address.clone()
            };
            let before = choice(&all);
            for gone in 0..3 {
                let mut left = all.clone();
                let removed = left.remove(gone).address;
                if removed != before {
                    assert_eq!(choice(&left), before);
                }
            }
        }
        let counts = counts(Balance::Source, &[1, 1, 1], 250);
        assert!(counts.iter().all(|&count| count > 40), "{counts:?}");
    }

    #[test]
    fn without_weight_comes_last_whatever_the_policy() {
        for balance in [Balance::RoundRobin, Balance::LeastConn, Balance::Random, Balance::Source] {
            assert_eq!(order(balance, &upstreams(&[0, 1]), 0, |_| 0, client(1)), [1, 0]);
        }
    }
}
