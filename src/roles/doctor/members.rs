//! The members of etcd: each by itself, and all together.

use super::finding::{Finding, State};
use crate::{
    etcd::{About, Api, Denial, Error, Store},
    report,
};

/// What one member said.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) about: Option<About>,
    pub(super) answer: Result<Answer, Trouble>,
}

/// What a quorum said through it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) api: Api,
    /// The API, and why it is that one.
    pub(super) choice: String,
    pub(super) cluster: String,
}

/// Why there was no such answer, and what to do.
#[derive(Debug)]
pub(super) struct Trouble {
    finding: String,
    advice: String,
}

/// Asks the only member of `store` for its version, and as a quorum for `directory`.
pub(super) fn examine(store: &Store, directory: &str) -> Examined {
    let about = match store.about() {
        Ok(about) => about,
        Err(error) => {
            return Examined { about: None, answer: Err(Trouble::of(&error, None, directory)) };
        }
    };
    let answer = match store.list(directory) {
        Ok(listing) => Ok(Answer {
            api: store.used_api().expect("the one that was listed with"),
            choice: store.choice(),
            cluster: listing.position.cluster,
        }),
        Err(error) => Err(Trouble::of(&error, Some(&about), directory)),
    };
    Examined { about: Some(about), answer }
}

/// A member in trouble is no failure while another one works, as the roles see it.
pub(super) fn judge(members: &[(String, Examined)]) -> Vec<Finding> {
    let working: Vec<(&str, &Answer)> = members
        .iter()
        .filter_map(|(url, examined)| Some((url.as_str(), examined.answer.as_ref().ok()?)))
        .collect();
    let in_trouble = if working.is_empty() { State::Fail } else { State::Warn };
    let mut findings: Vec<Finding> = members
        .iter()
        .map(|(url, Examined { about, answer })| {
            let check = format!("etcd {url}");
            let version = about.as_ref().map(|about| report::excerpt(&about.version));
            let version = version.map_or_else(String::new, |version| format!("{version}, "));
            match answer {
                Ok(Answer { choice, .. }) => {
                    Finding::ok(&check, format!("{version}a quorum answers; API {choice}"))
                }
                Err(Trouble { finding, advice }) => {
                    let finding = format!("{version}{finding}");
                    Finding { state: in_trouble, ..Finding::fail(&check, finding, advice) }
                }
            }
        })
        .collect();
    if members.len() > 1 {
        findings.push(together(members.len(), &working));
    }
    findings
}

/// Whether the members that work are one store.
fn together(count: usize, working: &[(&str, &Answer)]) -> Finding {
    const CHECK: &str = "etcd cluster";
    let Some(((first, answer), others)) = working.split_first() else {
        return Finding::fail(CHECK, "no member answers for a quorum", "make one of them answer");
    };
    if let Some((url, other)) = others.iter().find(|(_, other)| other.api != answer.api) {
        let (one, another) = (answer.api, other.api);
        return Finding::fail(
            CHECK,
            format!("{first} offers API {one}, {url} only {another}"),
            "say --etcd-api to all commands: these stores do not see each other, and which one is \
             used would depend on who is asked first",
        );
    }
    if let Some((url, other)) = others.iter().find(|(_, other)| other.cluster != answer.cluster) {
        let clusters = [&answer.cluster, &other.cluster].map(|cluster| report::excerpt(cluster));
        return Finding::fail(
            CHECK,
            format!("{first} is of {}, {url} of {}", clusters[0], clusters[1]),
            "name members of one cluster only: what is registered in one is not in the other",
        );
    }
    let working = working.len();
    Finding::ok(CHECK, format!("{working} of {count} members work, of one cluster"))
}

impl Examined {
    /// It has not been heard of in time.
    pub(super) fn late(finding: &str) -> Self {
        let advice = "look at its own log, and at what looks up its name".to_owned();
        Examined { about: None, answer: Err(Trouble { finding: finding.to_owned(), advice }) }
    }
}

impl Trouble {
    /// `about` is what was said before, to a question that takes no quorum.
    fn of(error: &Error, about: Option<&About>, directory: &str) -> Self {
        let (finding, advice) = match error {
            Error::Silent { waited, .. } => {
                let waited = report::duration(*waited);
                match about {
                    Some(_) => (
                        format!("but no quorum answers within {waited}"),
                        "start the other members of its cluster, or mend the network between them",
                    ),
                    None => (
                        format!("no answer within {waited}"),
                        "it stands still, or something in between drops what is sent: look at its \
                         own log and at firewalls",
                    ),
                }
            }
            Error::Unreachable { source, .. } => {
                let advice = match error.is_about_tls() {
                    true => {
                        "give as --etcd-cacert the authority that signed its certificate, as \
                         --etcd the name that stands in it, with https only where it has TLS, and \
                         --etcd-cert and --etcd-key if it asks for ours"
                    }
                    false => {
                        "start etcd there, or say with --etcd where it is, and with https where \
                         it has TLS"
                    }
                };
                (report::chain(&**source), advice)
            }
            Error::Denied { denial, problem, .. } => {
                let advice = match denial {
                    Denial::User => "give --etcd-user and --etcd-password-file",
                    Denial::Login => "put --etcd-user or its password right",
                    Denial::Right | Denial::LoginOrRight => {
                        return Trouble::of_rights(problem, *denial, directory);
                    }
                };
                (problem.clone(), advice)
            }
            Error::ApiIsOff { api, .. } => (
                format!("but its {api} API is off"),
                "take the one that is on with --etcd-api=auto, or turn this one on (etcd 3.4 and \
                 3.5 have v2 with --enable-v2=true, 3.6 has none)",
            ),
            Error::Unusable { problem, .. } => (
                problem.clone(),
                "make sure that this is the port of etcd for clients, and that the URL says https \
                 where it has TLS",
            ),
            error => (report::chain(error), "look at its own log"),
        };
        Trouble { finding, advice: advice.to_owned() }
    }

    fn of_rights(problem: &str, denial: Denial, directory: &str) -> Self {
        let grant = format!("grant the user of --etcd-user to read and write {directory}/*");
        let advice = match denial {
            Denial::LoginOrRight => format!("put --etcd-user or its password right, or {grant}"),
            _ => grant,
        };
        Trouble { finding: problem.to_owned(), advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working(api: Api, cluster: &str) -> Examined {
        let (choice, cluster) = (api.to_string(), cluster.to_owned());
        Examined { about: None, answer: Ok(Answer { api, choice, cluster }) }
    }

    fn silent() -> Examined {
        Examined::late("no answer")
    }

    fn states(members: Vec<Examined>) -> Vec<State> {
        let named = |(index, member)| (format!("http://10.0.0.{index}:2379"), member);
        let members: Vec<_> = members.into_iter().enumerate().map(named).collect();
        judge(&members).iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn a_member_in_trouble_is_a_failure_only_where_no_other_one_works() {
        let one = || working(Api::V2, "a");
        assert_eq!(states(vec![one()]), [State::Ok]);
        assert_eq!(states(vec![silent()]), [State::Fail]);
        assert_eq!(states(vec![one(), silent()]), [State::Ok, State::Warn, State::Ok]);
        assert_eq!(states(vec![silent(), silent()]), [State::Fail; 3]);
    }

    #[test]
    fn members_that_are_not_one_store_are_a_failure() {
        let together = |one, other| *states(vec![one, other, silent()]).last().unwrap();
        assert_eq!(together(working(Api::V3, "a"), working(Api::V3, "a")), State::Ok);
        assert_eq!(together(working(Api::V3, "a"), working(Api::V3, "b")), State::Fail);
        assert_eq!(together(working(Api::V2, "a"), working(Api::V3, "1")), State::Fail);
    }
}
