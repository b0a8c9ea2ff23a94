//! Requests to the gateway: where it is, who asks, and what a refusal means.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::answers::{LoggedIn, Refusal};
use crate::etcd::{
    Denial, Error,
    about::{About, about},
    transport::{Attempt, Header, Reply},
};

/// The way to the gateway, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where it is, which differs between versions.
    prefix: Option<&'static str>,
    /// What shows who we are, once we have logged in.
    token: Option<Token>,
}

#[derive(Clone)]
enum Token {
    Is(String),
    /// etcd has authentication off.
    IsNotNeeded,
}

impl fmt::Debug for Token {
    /// Never shows the token itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::Is(_) => "Is(…)",
            Token::IsNotNeeded => "IsNotNeeded",
        })
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(in crate::etcd) enum Failure {
    Etcd(Error),
    /// etcd's own refusal, by its gRPC code.
    Refused {
        code: u32,
        message: String,
    },
}

// gRPC's codes, as far as they mean something here.

/// With one of these messages: a request without a token, where authentication is on, and
/// a login that fails.
const INVALID_ARGUMENT: u32 = 3;
const NO_USER: &str = "user name is empty";
const NO_LOGIN: &str = "authentication failed";
/// Of a lease, that there is none.
pub(super) const NOT_FOUND: u32 = 5;
/// Of a user, that it has no right to the key.
const PERMISSION_DENIED: u32 = 7;
/// Of a login, that authentication is off.
const FAILED_PRECONDITION: u32 = 9;
/// Of a token, that it has expired.
const UNAUTHENTICATED: u32 = 16;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Etcd(error)
    }
}

impl Failure {
    pub(super) fn into_error(self, attempt: Attempt<'_>) -> Error {
        match self {
            Failure::Etcd(error) => error,
            Failure::Refused { code: INVALID_ARGUMENT, message }
                if attempt.login().is_none() && message.contains(NO_USER) =>
            {
                attempt.denied(Denial::User, "it asks for a user (--etcd-user)")
            }
            Failure::Refused { code, message } => {
                let problem = format!("error {code}: {message}");
                match code {
                    INVALID_ARGUMENT if message.contains(NO_LOGIN) => {
                        attempt.denied(Denial::Login, &problem)
                    }
                    PERMISSION_DENIED => attempt.denied(Denial::Right, &problem),
                    _ => attempt.unusable(&problem),
                }
            }
        }
    }
}

impl Gateway {
    /// Makes sure that the member has this API.
    pub(super) fn find(&self, attempt: Attempt<'_>) -> Result<(), Error> {
        self.prefix(attempt).map(drop)
    }

    /// To be called when a refusal may be about the token.
    pub(super) fn forget_token(&self) {
        self.state().token = None;
    }

    pub(super) fn must<T: DeserializeOwned>(
        &self,
        attempt: Attempt<'_>,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(attempt, path, request).map_err(|failure| failure.into_error(attempt))
    }

    pub(super) fn call<T: DeserializeOwned>(
        &self,
        attempt: Attempt<'_>,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = self.post(attempt, path, &[], request)?.body()?;
        let parsed = serde_json::from_slice(&body);
        Ok(parsed.map_err(|error| not_etcds(attempt, &error))?)
    }

    /// Sends a request, logged in if a user was named. An answer that comes back has
    /// status 200.
    pub(super) fn post<'a>(
        &self,
        attempt: Attempt<'a>,
        path: &str,
        headers: &[Header<'_>],
        request: &impl Serialize,
    ) -> Result<Reply<'a>, Failure> {
        let path = format!("{}{path}", self.prefix(attempt)?);
        let mut is_second_try = false;
        loop {
            let token = self.token(attempt)?;
            let mut headers = headers.to_vec();
            if let Some(Token::Is(token)) = &token {
                // Without "Bearer", which etcd refuses.
                headers.push(("Authorization", token));
            }
            let reply = attempt.post_json(&path, &headers, request)?;
            let status = reply.status();
            if status == 200 {
                return Ok(reply);
            }
            let failure = refusal(status, &reply.body()?, attempt);
            let is_about_the_token = match &failure {
                Failure::Refused { code: UNAUTHENTICATED, .. } => true,
                Failure::Refused { code: INVALID_ARGUMENT, message } => message.contains(NO_USER),
                _ => false,
            };
            if !is_about_the_token || token.is_none() || is_second_try {
                return Err(failure);
            }
            // It expires when it is not used, and is lost with etcd's state.
            self.state().token = None;
            is_second_try = true;
        }
    }

    /// What shows who we are; `None` where nobody was named.
    fn token(&self, attempt: Attempt<'_>) -> Result<Option<Token>, Failure> {
        let Some(login) = attempt.login() else { return Ok(None) };
        let known = self.state().token.clone();
        if known.is_some() {
            return Ok(known);
        }
        let password = login.password().map_err(|problem| Error::NoAccess { problem })?;
        let request = json!({ "name": login.user, "password": password });
        let path = format!("{}/auth/authenticate", self.prefix(attempt)?);
        let reply = attempt.post_json(&path, &[], &request)?;
        let (status, body) = (reply.status(), reply.body()?);
        let token = if status == 200 {
            let LoggedIn { token } =
                serde_json::from_slice(&body).map_err(|error| not_etcds(attempt, &error))?;
            Token::Is(token)
        } else {
            match refusal(status, &body, attempt) {
                Failure::Refused { code: FAILED_PRECONDITION, .. } => Token::IsNotNeeded,
                failure => return Err(failure),
            }
        };
        self.state().token = Some(token.clone());
        Ok(Some(token))
    }

    /// Where the gateway of this cluster is.
    fn prefix(&self, attempt: Attempt<'_>) -> Result<&'static str, Error> {
        let known = self.state().prefix;
        if let Some(prefix) = known {
            return Ok(prefix);
        }
        let About { version, .. } = about(attempt)?;
        let prefix = match gateway_of(&version) {
            Some(prefix) => prefix,
            None => {
                let problem = format!("version {version} has no v3 API that is known here");
                return Err(attempt.unusable(&problem));
            }
        };
        self.state().prefix = Some(prefix);
        Ok(prefix)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gateway's prefix in etcd's `version`: it moved twice before it stayed.
fn gateway_of(version: &str) -> Option<&'static str> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next()??, numbers.next()??) {
        (3, 0..3) => Some("/v3alpha"),
        (3, 3) => Some("/v3beta"),
        (0..3, _) => None,
        _ => Some("/v3"),
    }
}

fn not_etcds(attempt: Attempt<'_>, error: &serde_json::Error) -> Error {
    attempt.unusable(&format!("an answer that is not etcd's: {error}"))
}

/// What an answer with another status than 200 says.
fn refusal(status: u16, body: &[u8], attempt: Attempt<'_>) -> Failure {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { code, message, .. }) => Failure::Refused { code, message },
        Err(_) if status == 404 => {
            Failure::Etcd(Error::ApiIsOff { member: attempt.member.clone(), api: "v3" })
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            Failure::Etcd(attempt.unusable(&format!("HTTP status {status}: {text}")))
        }
    }
}
