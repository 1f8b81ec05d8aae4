//! A token endpoint: refresh tokens (RFC 6749) and Google's signed assertions (RFC 7523).
//!
//! What it does is chosen by words in the client's id, joined with `+`: `ttl=2` (seconds that access tokens live),
//! `rotate` (a refresh token works once and is replaced), `slow=300` (milliseconds before the answer), `status=503` (this
//! instead of a token), `times=2` (that only so often), `deny` (`invalid_grant`), `secret=x` (the client's secret). A
//! refresh token that begins with `bad` is refused. Tokens that it gave out are the only ones of their kind that the mock
//! providers take, for as long as they live.

use super::{
    reply::Reply,
    request::{Request, decoded},
};
use crate::{clock::Moment, config::ServiceAccount};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The path of the endpoint.
pub(super) const PATH: &str = "/oauth/token";
/// What access tokens begin with.
const ACCESS: &str = "at-mock-";
/// Tokens remembered; with more of them all are forgotten.
const MOST_TOKENS: usize = 100_000;
/// Google's bound on the life of an assertion, in seconds.
const LONGEST_ASSERTION: u64 = 3600;

#[derive(Debug, Default)]
struct Shelf {
    /// Access tokens that are good, with their ends.
    live: HashMap<String, Moment>,
    /// Refresh tokens that were used up.
    spent: HashSet<String>,
    /// How often a client's fault has struck.
    struck: HashMap<String, u64>,
    requests: u64,
    issued: u64,
}

/// The tokens given out so far.
#[derive(Debug, Default)]
pub(super) struct Issuer(Mutex<Shelf>);

/// What a client's id asks for.
struct Manner {
    life: u64,
    rotates: bool,
    wait: Duration,
    status: Option<u16>,
    times: u64,
    denies: bool,
    secret: Option<String>,
}

impl Manner {
    fn of(client: &str) -> Manner {
        let word = |name: &str| client.split('+').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| word(name).and_then(|text| text.parse::<u64>().ok());
        Manner {
            life: number("ttl").unwrap_or(3600),
            rotates: client.split('+').any(|word| word == "rotate"),
            wait: Duration::from_millis(number("slow").unwrap_or(0)),
            status: number("status").and_then(|status| u16::try_from(status).ok()),
            times: number("times").unwrap_or(u64::MAX),
            denies: client.split('+').any(|word| word == "deny"),
            secret: word("secret").map(str::to_owned),
        }
    }
}

impl Issuer {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request for a token.
    pub(super) fn answer(&self, request: &Request, accounts: &[ServiceAccount], now: Moment) -> Reply {
        self.shelf().requests += 1;
        if request.method != "POST" {
            return refusal(405, "invalid_request");
        }
        let Some(fields) = fields(request) else { return refusal(400, "invalid_request") };
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        match field("grant_type") {
            "refresh_token" => {
                let (client, secret) = client(request, field("client_id"), field("client_secret"));
                let manner = Manner::of(&client);
                let reply = self.refresh(&client, (&secret, field("refresh_token")), &manner, now);
                if manner.wait.is_zero() { reply } else { reply.delayed(manner.wait) }
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => match check(field("assertion"), accounts, now) {
                Ok(()) => self.grant(3600, None, now),
                Err(why) => refusal(400, why),
            },
            _ => refusal(400, "unsupported_grant_type"),
        }
    }

    fn refresh(&self, client: &str, (secret, token): (&str, &str), manner: &Manner, now: Moment) -> Reply {
        if let Some(status) = manner.status {
            let mut shelf = self.shelf();
            let struck = shelf.struck.entry(client.to_owned()).or_default();
            *struck += 1;
            if *struck <= manner.times {
                return Reply::json(status, r#"{"error":"server_error"}"#);
            }
        }
        if client.is_empty() || manner.secret.as_deref().is_some_and(|wanted| wanted != secret) {
            return refusal(401, "invalid_client");
        }
        let is_spent = self.shelf().spent.contains(token);
        if manner.denies || is_spent || token.is_empty() || token.starts_with("bad") {
            return refusal(400, "invalid_grant");
        }
        self.grant(manner.life, manner.rotates.then_some(token), now)
    }

    /// Gives a token out, and takes the refresh token that it was traded for, if that works only once.
    fn grant(&self, life: u64, spent: Option<&str>, now: Moment) -> Reply {
        let mut shelf = self.shelf();
        if shelf.live.len() + shelf.spent.len() > MOST_TOKENS {
            shelf.live.clear();
            shelf.spent.clear();
        }
        shelf.issued += 1;
        let access = format!("{ACCESS}{}", shelf.issued);
        shelf.live.insert(access.clone(), now.plus(Duration::from_secs(life.min(1 << 30))));
        let next = spent.map_or_else(String::new, |token| {
            shelf.spent.insert(token.to_owned());
            format!(r#","refresh_token":"rt-mock-{}""#, shelf.issued)
        });
        Reply::json(200, format!(r#"{{"access_token":"{access}","token_type":"Bearer","expires_in":{life}{next}}}"#))
    }

    /// Whether a credential may be used: one of this endpoint's tokens only for as long as it is good.
    pub(super) fn takes(&self, key: &str, now: Moment) -> bool {
        !key.starts_with(ACCESS) || self.shelf().live.get(key).is_some_and(|until| now.mono < until.mono)
    }

    /// How many requests for tokens have come.
    pub(super) fn requests(&self) -> u64 {
        self.shelf().requests
    }

    /// Makes every access token bad that was given out so far.
    pub(super) fn revoke(&self) {
        self.shelf().live.clear();
    }

    pub(super) fn reset(&self) {
        *self.shelf() = Shelf::default();
    }
}

fn refusal(status: u16, code: &str) -> Reply {
    Reply::json(status, format!(r#"{{"error":"{code}","error_description":"mock"}}"#))
}

/// The parameters, from a form or from a JSON object.
fn fields(request: &Request) -> Option<HashMap<String, String>> {
    let text = std::str::from_utf8(&request.body).ok()?;
    match request.header("content-type")?.split(';').next()?.trim() {
        "application/x-www-form-urlencoded" => {
            let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
            Some(pairs.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect())
        }
        "application/json" => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// Id and secret of the client, from its header or from the parameters.
fn client(request: &Request, id: &str, secret: &str) -> (String, String) {
    let header = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
    let pair = header.and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((id, secret)) => (decoded(id, true), decoded(secret, true)),
        None => (id.to_owned(), secret.to_owned()),
    }
}

/// Checks an assertion as Google does: who signed it, for whom, and when.
fn check(assertion: &str, accounts: &[ServiceAccount], now: Moment) -> Result<(), &'static str> {
    let json = |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    let (signed, signature) = assertion.rsplit_once('.').ok_or("invalid_request")?;
    let (head, claims) = signed.split_once('.').ok_or("invalid_request")?;
    let (head, claims) = json(head).zip(json(claims)).ok_or("invalid_request")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| claims.get(name).and_then(Value::as_u64).unwrap_or_default();
    let account = accounts.iter().find(|account| account.email == text("iss")).ok_or("invalid_grant")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "invalid_grant")?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.public_key());
    key.verify(signed.as_bytes(), &signature).map_err(|_| "invalid_grant")?;
    let seconds = now.unix_millis() / 1000;
    let (issued, ends) = (number("iat"), number("exp"));
    let is_timely = issued <= seconds + 300 && ends > seconds && ends.saturating_sub(issued) <= LONGEST_ASSERTION;
    if head.get("alg").and_then(Value::as_str) != Some("RS256") || !is_timely || !text("aud").ends_with(PATH) {
        return Err("invalid_grant");
    }
    if text("scope").is_empty() { Err("invalid_scope") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, mock::request::Protocol};

    fn ask(issuer: &Issuer, client: &str, token: &str, now: Moment) -> (u16, Value) {
        let body = format!("grant_type=refresh_token&client_id={}&refresh_token={token}", client.replace('+', "%2B"));
        let headers = vec![("content-type".into(), "application/x-www-form-urlencoded".into())];
        let (protocol, method) = (Protocol::Http11, "POST".to_owned());
        let request =
            Request { connection: 0, protocol, method, path: PATH.into(), query: vec![], headers, body: body.into() };
        let reply = issuer.answer(&request, &[], now);
        let body = reply.steps.iter().find_map(|step| match step {
            crate::mock::Step::Data(bytes, _) => serde_json::from_slice(bytes).ok(),
            _ => None,
        });
        (reply.status().unwrap(), body.unwrap())
    }

    #[test]
    fn a_rotating_token_works_once_and_its_successor_after_it() {
        let (issuer, now) = (Issuer::default(), ManualClock::new().now());
        let (status, first) = ask(&issuer, "rotate", "rt", now);
        assert_eq!((status, first["refresh_token"].as_str()), (200, Some("rt-mock-1")));
        assert_eq!(ask(&issuer, "rotate", "rt", now).1["error"], "invalid_grant");
        assert_eq!(ask(&issuer, "rotate", "rt-mock-1", now).0, 200);
        assert_eq!(ask(&issuer, "plain", "rt2", now).1.get("refresh_token"), None);
    }

    #[test]
    fn access_tokens_are_good_until_their_end_or_their_revocation() {
        let (issuer, clock) = (Issuer::default(), ManualClock::new());
        ask(&issuer, "ttl=2", "rt", clock.now());
        assert!(issuer.takes("at-mock-1", clock.now()) && !issuer.takes("at-mock-2", clock.now()));
        clock.advance(Duration::from_secs(2));
        assert!(!issuer.takes("at-mock-1", clock.now()));
        ask(&issuer, "", "rt", clock.now());
        ask(&issuer, "x", "rt", clock.now());
        assert!(issuer.takes("at-mock-2", clock.now()) && issuer.takes("sk-any", clock.now()));
        issuer.revoke();
        assert!(!issuer.takes("at-mock-2", clock.now()));
    }

    #[test]
    fn faults_are_chosen_by_the_clients_id() {
        let (issuer, now) = (Issuer::default(), ManualClock::new().now());
        assert_eq!(ask(&issuer, "status=503+times=1", "rt", now).0, 503);
        assert_eq!(ask(&issuer, "status=503+times=1", "rt", now).0, 200);
        assert_eq!(ask(&issuer, "deny", "rt", now).1["error"], "invalid_grant");
        assert_eq!(ask(&issuer, "secret=s", "rt", now), (401, ask(&issuer, "", "rt", now).1));
        assert_eq!(issuer.requests(), 5);
    }
}
