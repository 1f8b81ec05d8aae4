//! The access tokens that accounts use in the place of a key: has them renewed, and lets requests wait for that.
//!
//! `account::oauth` decides; this file calls and stores. A renewal runs by itself, so that a client that leaves cannot
//! break one off between the endpoint's answer and the file that keeps it. Tokens are never logged.

use super::{
    call::{Call, Reply, call},
    state::Shared,
    tasks::Tasks,
};
use crate::{
    account::{
        oauth::{self, Granted, Keep, Kept, Step, Tokens, Trouble},
        pool::Account,
    },
    clock::Moment,
    config::{AccountSettings, Grant, GrantKind, secret::Secret},
    live::Snapshot,
    provider::hint,
};
use bytes::Bytes;
use http::{Method, header};
use pingora::{Result, http::RequestHeader};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

/// The longest answer of a token endpoint, in bytes.
const MOST_BYTES: usize = 256 << 10;
/// What a request waits beyond a renewal's own bound, so that it is told how that ended.
const GRACE: Duration = Duration::from_secs(1);

/// The tokens of all accounts, by the fingerprints of their grants: after a reload the old ones may still be in use.
#[derive(Default)]
pub(super) struct TokenStore {
    sources: Mutex<HashMap<[u8; 32], Arc<Source>>>,
    renewals: Tasks,
}

/// Where one account's tokens come from.
struct Source {
    grant: Arc<Grant>,
    keep: Option<Keep>,
    tokens: Mutex<Tokens>,
    ended: Notify,
}

impl Source {
    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenStore {
    /// The source of an account's tokens.
    fn source(&self, shared: &Shared, settings: &AccountSettings, grant: &Arc<Grant>) -> Arc<Source> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get(&grant.fingerprint) {
            return source.clone();
        }
        let snapshot = shared.live.snapshot();
        // What a reload took out is forgotten, so that the map stays as large as the configuration.
        sources.retain(|_, source| Arc::strong_count(source) > 1 || is_in_force(&snapshot, &source.grant));
        let keep = match &grant.kind {
            GrantKind::RefreshToken(_) => Some(Keep::new(&snapshot.config.data_dir, &settings.name, grant.fingerprint)),
            // What it trades never changes, so that there is nothing to lose.
            GrantKind::ServiceAccount(_) => None,
        };
        let source = Source { grant: grant.clone(), keep, tokens: Mutex::default(), ended: Notify::new() };
        sources.entry(grant.fingerprint).insert_entry(Arc::new(source)).get().clone()
    }
}

/// Whether any account of a configuration has this grant.
fn is_in_force(snapshot: &Snapshot, grant: &Grant) -> bool {
    snapshot.config.accounts.iter().any(|account| account.grant.as_deref() == Some(grant))
}

/// The token to use for this account now; `None` for an account that has a lasting key, or none at all. Waits for a
/// renewal under way, for as long as one may take.
pub(super) async fn bearer(shared: &Shared, account: &Account) -> Result<Option<Secret>, Trouble> {
    let Some(grant) = &account.settings.grant else { return Ok(None) };
    let source = shared.tokens.source(shared, &account.settings, grant);
    let deadline = Instant::now() + account.settings.timeouts.token + GRACE;
    loop {
        let ended = source.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        let step = source.lock().step(shared.live.clock.now());
        match step {
            Step::Use(token) => return Ok(Some(token)),
            Step::UseAndRenew(token) => {
                begin(shared, &source, &account.settings);
                return Ok(Some(token));
            }
            Step::Renew => begin(shared, &source, &account.settings),
            Step::Wait => {}
            Step::Failed(trouble) => return Err(trouble),
        }
        timeout_at(deadline, ended).await.map_err(|_| Trouble::passing("a token's renewal takes too long"))?;
    }
}

/// The provider refuses this token. Returns whether the request is worth a second try with another.
pub(super) fn refused(shared: &Shared, account: &Account, token: &Secret) -> bool {
    let Some(grant) = &account.settings.grant else { return false };
    let source = shared.tokens.source(shared, &account.settings, grant);
    source.lock().refused(token, shared.live.clock.now())
}

/// A renewal under way. Whatever becomes of it, its end is booked, and those who wait for it are told.
struct Renewal {
    shared: Arc<Shared>,
    source: Arc<Source>,
    settings: Arc<AccountSettings>,
    outcome: Option<Result<(Granted, Moment), Trouble>>,
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let name = &self.settings.name;
        let (now, draw) = (self.shared.live.clock.now(), self.shared.live.draw());
        let outcome = self.outcome.take().unwrap_or_else(|| Err(Trouble::passing("a token's renewal broke off")));
        match outcome {
            Ok((granted, begun)) => {
                log::debug!("account {name}: a fresh access token");
                self.source.lock().renewed(granted, begun, draw);
            }
            Err(trouble) => {
                log::warn!("account {name}: no fresh access token: {}", trouble.reason);
                let cooldown = self.shared.live.snapshot().config.cooldown;
                self.source.lock().failed(trouble, &cooldown, (now, draw));
            }
        }
        self.source.ended.notify_waiters();
    }
}

fn begin(shared: &Shared, source: &Arc<Source>, settings: &Arc<AccountSettings>) {
    let Some(shared) = shared.me.upgrade() else { return };
    let (source, settings) = (source.clone(), settings.clone());
    let mut renewal = Renewal { shared: shared.clone(), source, settings, outcome: None };
    shared.tokens.renewals.begin(async move {
        let slow = Err(Trouble::passing("the token endpoint does not answer in time"));
        let bound = renewal.settings.timeouts.token;
        let outcome = timeout(bound, renewal.run()).await.unwrap_or(slow);
        renewal.outcome = Some(outcome);
        drop(renewal);
    });
}

impl Renewal {
    /// Fetches a token; takes over what another process has fetched meanwhile.
    async fn run(&self) -> Result<(Granted, Moment), Trouble> {
        let now = self.shared.live.clock.now();
        let kept = self.kept().await;
        if let Some(granted) = self.anothers(&kept) {
            return Ok((granted, now));
        }
        let held = self.source.lock().refresh().cloned();
        let refresh = kept.map(|kept| kept.refresh).or(held);
        let failed = match self.fetch(refresh.as_ref()).await {
            Err(trouble) if trouble.is_lasting => trouble,
            ended => return ended,
        };
        // Another process may have used this refresh token up in the same moment, and kept its successor.
        let kept = self.kept().await.filter(|kept| refresh.as_ref() != Some(&kept.refresh));
        match (self.anothers(&kept), kept) {
            (Some(granted), _) => Ok((granted, self.shared.live.clock.now())),
            (None, Some(kept)) => self.fetch(Some(&kept.refresh)).await,
            (None, None) => Err(failed),
        }
    }

    /// An access token that was kept by another process, not by this one.
    fn anothers(&self, kept: &Option<Kept>) -> Option<Granted> {
        let granted = kept.as_ref()?.access.as_ref()?;
        (!self.source.lock().holds(&granted.access_token)).then(|| granted.clone())
    }

    async fn kept(&self) -> Option<Kept> {
        let (keep, now) = (self.source.keep.clone()?, self.shared.live.clock.now());
        spawn_blocking(move || keep.read(now)).await.ok()?
    }

    async fn fetch(&self, refresh: Option<&Secret>) -> Result<(Granted, Moment), Trouble> {
        let begun = self.shared.live.clock.now();
        let reply = self.call(refresh, begun).await?;
        let retry_after = hint::told(&reply.headers, None, begun);
        let granted = oauth::read(reply.status, retry_after, &reply.body)?;
        self.store(refresh, &granted, begun).await;
        Ok((granted, begun))
    }

    async fn call(&self, refresh: Option<&Secret>, now: Moment) -> Result<Reply, Trouble> {
        let grant = &self.source.grant;
        let ask = oauth::ask(grant, refresh, now).ok_or_else(|| Trouble::passing("nothing can be signed"))?;
        let unsaid = |_| Trouble::passing("the token request cannot be written");
        let body = Bytes::copy_from_slice(ask.body.expose().as_bytes());
        let header = request(grant, &ask, body.len()).map_err(unsaid)?;
        let made = Call { header, body: Some(body), most_bytes: MOST_BYTES };
        let answered = call(&self.shared, &self.settings, &grant.token_url, made).await;
        answered.map_err(|error| Trouble::passing(format!("the token endpoint: {}", error.etype().as_str())))
    }

    /// Keeps what the next process needs. A token that cannot be kept is used all the same; one of a grant that a reload
    /// has replaced would take the place of its successor's.
    async fn store(&self, refresh: Option<&Secret>, granted: &Granted, begun: Moment) {
        if !is_in_force(&self.shared.live.snapshot(), &self.source.grant) {
            return;
        }
        let (Some(keep), GrantKind::RefreshToken(first)) = (self.source.keep.clone(), &self.source.grant.kind) else {
            return;
        };
        let refresh = granted.refresh_token.as_ref().or(refresh).unwrap_or(&first.token).clone();
        let granted = granted.clone();
        let written = spawn_blocking(move || keep.write(&refresh, &granted, begun)).await;
        if let Ok(Err(error)) = written {
            log::error!("account {}: its refresh token cannot be kept for the next start: {error}", self.settings.name);
        }
    }
}

fn request(grant: &Grant, ask: &oauth::Ask, length: usize) -> Result<RequestHeader> {
    let mut header = RequestHeader::build(Method::POST, grant.token_url.target().as_bytes(), Some(6))?;
    header.insert_header(header::HOST, grant.token_url.authority())?;
    header.insert_header(header::ACCEPT, "application/json")?;
    header.insert_header(header::CONTENT_TYPE, ask.content_type)?;
    header.insert_header(header::CONTENT_LENGTH, length)?;
    if let Some(authorization) = &ask.authorization {
        header.insert_header(header::AUTHORIZATION, authorization.expose())?;
    }
    Ok(header)
}
