//! The models that can be asked for: names from the configuration, and what the upstreams list where an account takes
//! names by pattern.
//!
//! Upstream lists are kept for a while and fetched at most once at a time; an upstream that does not answer costs its
//! names, never the list.

use super::{
    call::{Call, call},
    head,
    state::Shared,
    token, upstream,
};
use crate::{
    account::{oauth::Trouble, pool::Account},
    config::{Config, ModelRule},
    live::Snapshot,
};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use pingora::{Error, ErrorType, Result};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, timeout};

const KEPT_FOR: Duration = Duration::from_secs(300);
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(30);
const FETCH_TIMEOUT: Duration = Duration::from_secs(4);
const MOST_BYTES: usize = 8 << 20;
const MOST_LISTS: usize = 1024;
/// Lists fetched at the same time; those of further upstreams come with the next request.
const MOST_AT_ONCE: usize = 64;

type List = Arc<[String]>;
/// A provider and its base URL.
type Place = (&'static str, String);

/// The lists fetched so far, by provider and base URL.
#[derive(Default)]
pub(super) struct Catalog {
    lists: Mutex<HashMap<Place, (Instant, List)>>,
    /// Held by the request that fetches.
    fetching: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// Every model of this configuration, sorted.
    pub(super) async fn models(&self, shared: &Shared, snapshot: &Snapshot) -> Vec<String> {
        self.refresh(shared, snapshot).await;
        let mut names: BTreeSet<String> = snapshot.config.models.iter().map(|alias| alias.name.clone()).collect();
        for account in snapshot.pool.accounts() {
            names.extend(account.settings.models.iter().filter_map(|rule| match rule {
                ModelRule::Exact(name) | ModelRule::Alias { name, .. } => Some(name.clone()),
                ModelRule::Prefix(_) => None,
            }));
            if takes_patterns(account) {
                let listed = self.lock().get(&place(account)).map(|(_, list)| list.clone()).unwrap_or_default();
                let known = listed.iter().filter(|name| Config::upstream_name(&account.settings, name).is_some());
                names.extend(known.cloned());
            }
        }
        names.into_iter().collect()
    }

    /// Fetches the lists that are missing or too old, all at once: the slowest upstream decides how long that takes.
    async fn refresh(&self, shared: &Shared, snapshot: &Snapshot) {
        if self.missing(snapshot).is_empty() {
            return;
        }
        // While another request fetches, its lists are waited for, but not for ever.
        let Ok(_alone) = timeout(FETCH_TIMEOUT, self.fetching.lock()).await else { return };
        let missing = self.missing(snapshot);
        together(missing.into_iter().map(|account| self.fetch_one(shared, account)).collect()).await;
    }

    /// One account for each list that is missing or too old.
    fn missing<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a Arc<Account>> {
        let (lists, now) = (self.lock(), Instant::now());
        let mut places = HashSet::new();
        let mut missing: Vec<_> = snapshot.pool.accounts().iter().filter(|account| takes_patterns(account)).collect();
        missing.retain(|account| {
            let place = place(account);
            lists.get(&place).is_none_or(|(until, _)| now >= *until) && places.insert(place)
        });
        missing.truncate(MOST_AT_ONCE);
        missing
    }

    async fn fetch_one(&self, shared: &Shared, account: &Account) {
        let name = &account.settings.name;
        let fetched = match timeout(FETCH_TIMEOUT, fetch(shared, account)).await {
            Ok(Ok(names)) => Some(names),
            Ok(Err(error)) => {
                log::info!("account {name}: no model list: {}", error.etype().as_str());
                None
            }
            Err(_) => {
                log::info!("account {name}: no model list within {FETCH_TIMEOUT:?}");
                None
            }
        };
        let kept_for = if fetched.is_some() { KEPT_FOR } else { FAILURE_KEPT_FOR };
        let place = place(account);
        let mut lists = self.lock();
        let old = lists.get(&place).map(|(_, list)| list.clone());
        let list = fetched.map(Into::into).or(old).unwrap_or_default();
        if lists.len() >= MOST_LISTS {
            lists.clear();
        }
        lists.insert(place, (Instant::now() + kept_for, list));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, (Instant, List)>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(account: &Account) -> Place {
    let settings = &account.settings;
    (settings.provider.name(), format!("{}{}", settings.base_url.authority(), settings.base_url.prefix))
}

/// Runs futures side by side until all have ended.
async fn together<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn takes_patterns(account: &Account) -> bool {
    let rules = &account.settings.models;
    rules.is_empty() || rules.iter().any(|rule| matches!(rule, ModelRule::Prefix(_)))
}

async fn fetch(shared: &Shared, account: &Account) -> Result<Vec<String>> {
    let settings = &account.settings;
    let no_token = |trouble: Trouble| Error::explain(ErrorType::Custom("no access token"), trouble.reason);
    let bearer = token::bearer(shared, account).await.map_err(no_token)?;
    let path = settings.provider.models_path(&settings.base_url);
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, head::value(&settings.base_url.authority()));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    upstream::authorise(settings, bearer.as_ref(), &mut headers)?;
    let list = Call {
        header: head::request(Method::GET, &path, Version::HTTP_11, headers)?,
        body: None,
        most_bytes: MOST_BYTES,
    };
    let reply = call(shared, settings, &settings.base_url, list).await?;
    if reply.status != 200 {
        return Error::e_explain(ErrorType::HTTPStatus(reply.status), "model list");
    }
    Ok(names(&reply.body))
}

/// The names in a model list of any provider: `data[].id`, or `models[].name` with its `models/` taken off,
/// or Vertex's `publisherModels[].name`.
fn names(body: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Page {
        #[serde(default)]
        data: Vec<Entry>,
        #[serde(default)]
        models: Vec<Entry>,
        #[serde(default, rename = "publisherModels")]
        published: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(alias = "name")]
        id: Option<String>,
    }
    let Ok(page) = serde_json::from_slice::<Page>(body) else { return Vec::new() };
    let entries = page.data.into_iter().chain(page.models).filter_map(|entry| entry.id);
    let listed = entries.map(|id| id.strip_prefix("models/").map(str::to_owned).unwrap_or(id));
    let published = page.published.into_iter().filter_map(|entry| entry.id);
    listed.chain(published.filter_map(|id| Some(id.split_once("/models/")?.1.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_all_providers_are_understood() {
        assert_eq!(names(br#"{"object":"list","data":[{"id":"gpt-4.1"},{"id":"o3"}]}"#), ["gpt-4.1", "o3"]);
        assert_eq!(names(br#"{"models":[{"name":"models/gemini-2.5-flash"}]}"#), ["gemini-2.5-flash"]);
        let vertex = br#"{"publisherModels":[{"name":"publishers/google/models/gemini-2.5-flash"}]}"#;
        assert_eq!(names(vertex), ["gemini-2.5-flash"]);
        assert!(names(b"<html>").is_empty());
    }
}
