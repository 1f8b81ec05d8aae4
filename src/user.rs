//! Who is calling: users, their keys by hash, and what they may use.
//!
//! A key is known by its SHA-256 only, and the time of a look-up tells nothing about it: the map is searched by the hash
//! of what was presented, never by the text. Whoever could measure the search would learn something about the
//! *hash* of his own guess, which brings him no nearer to a key, since he cannot choose texts by their hashes; the last
//! comparison is constant-time besides. No message or log line holds a key.

use crate::{
    clock::Moment,
    config::{Config, KeySettings, UserSettings},
    error::{Reason, Rejection},
    limit::{
        calendar::Zone,
        limiter::Limiter,
        opening::Opening,
        owner::{Subject, Whose},
    },
};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, net::IpAddr, sync::Arc};
use subtle::ConstantTimeEq;

/// A longer text is nobody's key; hashing it would be the caller's work done by us.
const MAX_KEY_BYTES: usize = 512;
/// How much of a model's name an error repeats.
const MAX_SHOWN_MODEL: usize = 100;

/// All keys, looked up by hash.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: HashMap<[u8; 32], Key>,
}

/// One key, and the caller that it stands for: made once, so that a look-up copies two pointers.
#[derive(Debug)]
struct Key {
    sha256: [u8; 32],
    caller: Caller,
    disabled: bool,
    /// The earlier of the key's and the user's end.
    expires_unix_millis: Option<u64>,
}

/// The user and key of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose key it is.
    pub user: Arc<UserSettings>,
    /// The first eight hex digits of the key's hash, to tell keys apart in logs.
    pub key_id: Arc<str>,
    /// What the configuration says of the key.
    pub key: Arc<KeySettings>,
    /// The key's limits and its user's, in the order in which they refuse.
    pub subjects: Arc<[Subject]>,
}

impl KeyRing {
    /// The keys of a configuration; what their owners have used is kept by the limiter.
    pub fn new(config: &Config, limiter: &Limiter, opening: &Opening) -> KeyRing {
        KeyRing::of(&config.users, limiter, &config.budgets.zone, opening)
    }

    fn of(users: &[Arc<UserSettings>], limiter: &Limiter, zone: &Zone, opening: &Opening) -> KeyRing {
        let mut keys = HashMap::new();
        for user in users {
            let owner = limiter.owner(Whose::User, &user.name, zone, |owner| {
                opening.book(Whose::User, &user.name, &owner.budgets);
            });
            let whole = Subject { owner, limits: user.limits, budgets: user.budgets.clone() };
            for key in &user.keys {
                let owner = limiter.owner(Whose::Key, &hex(&key.sha256), zone, |owner| {
                    opening.book(Whose::Key, &key_id(&key.sha256), &owner.budgets);
                });
                let own = Subject { owner, limits: key.limits, budgets: key.budgets.clone() };
                keys.insert(key.sha256, Key::new(user, key, [own, whole.clone()].into()));
            }
        }
        KeyRing { keys }
    }

    /// Every key that the configuration knows, by user and then by hash: its caller, and whether it is refused now.
    pub fn all(&self, now: Moment) -> Vec<(&Caller, bool)> {
        let is_over = |key: &Key| key.disabled || key.expires_unix_millis.is_some_and(|end| now.unix_millis() >= end);
        let mut all: Vec<_> = self.keys.values().map(|key| (&key.caller, is_over(key))).collect();
        all.sort_by(|(a, _), (b, _)| (&a.user.name, &a.key_id).cmp(&(&b.user.name, &b.key_id)));
        all
    }

    /// Whose key this is; refuses unknown, disabled and expired ones.
    pub fn lookup(&self, key: &str, now: Moment) -> Result<Caller, Rejection> {
        let unknown = || Rejection::new(Reason::UnknownKey, "This API key is not known to the gateway.");
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(unknown());
        }
        let presented: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let found = self.keys.get(&presented).filter(|found| bool::from(found.sha256.ct_eq(&presented)));
        let found = found.ok_or_else(unknown)?;
        if found.disabled {
            return Err(Rejection::new(Reason::KeyDisabled, "This API key, or its user, has been switched off."));
        }
        if found.expires_unix_millis.is_some_and(|end| now.unix_millis() >= end) {
            return Err(Rejection::new(Reason::KeyExpired, "This API key, or its user, has expired."));
        }
        Ok(found.caller.clone())
    }
}

impl Key {
    fn new(user: &Arc<UserSettings>, key: &KeySettings, subjects: Arc<[Subject]>) -> Key {
        let ends = [user.expires_unix_millis, key.expires_unix_millis];
        let key_id = key_id(&key.sha256).into();
        Key {
            sha256: key.sha256,
            caller: Caller { user: Arc::clone(user), key_id, key: Arc::new(key.clone()), subjects },
            disabled: user.disabled || key.disabled,
            expires_unix_millis: ends.into_iter().flatten().min(),
        }
    }
}

/// The name of a key in logs and in the ledger.
fn key_id(sha256: &[u8; 32]) -> String {
    hex(sha256.get(..4).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a list has the model, by name or by its beginning; an empty list has every model.
fn has(patterns: &[String], model: &str) -> bool {
    patterns.is_empty()
        || patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => pattern == model,
        })
}

/// Whether an address is in one of the networks; an empty list has every address.
fn holds(networks: &[IpNet], address: Option<IpAddr>) -> bool {
    networks.is_empty()
        || address.is_some_and(|address| networks.iter().any(|network| network.contains(&address.to_canonical())))
}

impl Caller {
    /// Refuses an address that the key or its user may not be used from; one that is not known is on no list.
    pub fn may_come_from(&self, address: Option<IpAddr>) -> Result<(), Rejection> {
        if holds(&self.user.addresses, address) && holds(&self.key.addresses, address) {
            return Ok(());
        }
        let shown = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        let message = format!("This API key may not be used from {shown}.");
        Err(Rejection::new(Reason::AddressNotAllowed, message))
    }

    /// Refuses a model that is not on the user's list, or not on the key's.
    pub fn may_use(&self, model: &str) -> Result<(), Rejection> {
        if self.allows(model) {
            return Ok(());
        }
        let shown = model.chars().take(MAX_SHOWN_MODEL).collect::<String>();
        let message = format!("This API key may not use the model {shown:?}.");
        Err(Rejection::new(Reason::ModelNotAllowed, message).at("model"))
    }

    /// Whether a model is on the user's list and on the key's; an empty list allows every model.
    pub fn allows(&self, model: &str) -> bool {
        has(&self.user.models, model) && has(&self.key.models, model)
    }

    /// Those of the models that the caller may use, in their order.
    pub fn allowed<'m>(&self, models: impl IntoIterator<Item = &'m str>) -> Vec<&'m str> {
        models.into_iter().filter(|model| self.allows(model)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::time::{Duration, SystemTime};

    fn settings(name: &str, keys: &[(&str, bool, Option<u64>)]) -> UserSettings {
        let keys = keys.iter().map(|(key, disabled, expires)| KeySettings {
            sha256: Sha256::digest(key.as_bytes()).into(),
            disabled: *disabled,
            expires_unix_millis: *expires,
            ..KeySettings::default()
        });
        UserSettings {
            name: name.into(),
            keys: keys.collect(),
            models: Vec::new(),
            limits: Default::default(),
            addresses: Vec::new(),
            budgets: Vec::new(),
            translation: Default::default(),
            disabled: false,
            expires_unix_millis: None,
        }
    }

    fn caller(user: UserSettings, key: KeySettings) -> Caller {
        Caller { user: Arc::new(user), key_id: "0".into(), key: Arc::new(key), subjects: Arc::new([]) }
    }

    fn ring(users: Vec<UserSettings>) -> KeyRing {
        let limiter = Limiter::new(10, ManualClock::new().now());
        KeyRing::of(
            &users.into_iter().map(Arc::new).collect::<Vec<_>>(),
            &limiter,
            &Zone::default(),
            &Opening::default(),
        )
    }

    fn at_millis(millis: u64) -> Moment {
        Moment { wall: SystemTime::UNIX_EPOCH + Duration::from_millis(millis), ..ManualClock::new().now() }
    }

    fn reason(result: Result<Caller, Rejection>) -> Reason {
        result.unwrap_err().reason
    }

    #[test]
    fn a_key_finds_its_user_and_only_that_key_does() {
        let ring = ring(vec![settings("a", &[("sk-a", false, None)]), settings("b", &[("sk-b", false, None)])]);
        let caller = ring.lookup("sk-b", at_millis(0)).unwrap();
        assert_eq!(caller.user.name, "b");
        assert_eq!(&*caller.key_id, &format!("{:x}", Sha256::digest(b"sk-b"))[..8]);
        for wrong in ["sk-", "sk-a ", "SK-A", "sk-ab", &"x".repeat(100_000)] {
            assert_eq!(reason(ring.lookup(wrong, at_millis(0))), Reason::UnknownKey);
        }
    }

    #[test]
    fn the_hash_itself_is_no_key() {
        let hash = format!("{:x}", Sha256::digest(b"sk-a"));
        let ring = ring(vec![settings("a", &[("sk-a", false, None)])]);
        assert_eq!(reason(ring.lookup(&hash, at_millis(0))), Reason::UnknownKey);
        assert_eq!(reason(ring.lookup(&format!("sha256:{hash}"), at_millis(0))), Reason::UnknownKey);
    }

    #[test]
    fn an_empty_key_is_nobodys_even_if_its_hash_is_configured() {
        let ring = ring(vec![settings("a", &[("", false, None)])]);
        assert_eq!(reason(ring.lookup("", at_millis(0))), Reason::UnknownKey);
    }

    #[test]
    fn a_key_is_off_when_it_or_its_user_is() {
        let off = UserSettings { disabled: true, ..settings("off", &[("sk-2", false, None)]) };
        let ring = ring(vec![settings("a", &[("sk-1", true, None), ("sk-3", false, None)]), off]);
        assert_eq!(reason(ring.lookup("sk-1", at_millis(0))), Reason::KeyDisabled);
        assert_eq!(reason(ring.lookup("sk-2", at_millis(0))), Reason::KeyDisabled);
        assert!(ring.lookup("sk-3", at_millis(0)).is_ok());
    }

    #[test]
    fn a_key_ends_with_itself_or_its_user_whichever_is_first() {
        let user = UserSettings {
            expires_unix_millis: Some(2_000),
            ..settings("a", &[("sk-1", false, Some(1_000)), ("sk-2", false, Some(3_000))])
        };
        let ring = ring(vec![user]);
        assert!(ring.lookup("sk-1", at_millis(999)).is_ok() && ring.lookup("sk-2", at_millis(1_999)).is_ok());
        assert_eq!(reason(ring.lookup("sk-1", at_millis(1_000))), Reason::KeyExpired);
        assert_eq!(reason(ring.lookup("sk-2", at_millis(2_000))), Reason::KeyExpired);
    }

    #[test]
    fn no_refusal_repeats_the_key() {
        let user = settings("a", &[("sk-secret-1", true, None), ("sk-secret-2", false, Some(1))]);
        let ring = ring(vec![user]);
        for key in ["sk-secret-1", "sk-secret-2", "sk-secret-3"] {
            let rejection = ring.lookup(key, at_millis(5)).unwrap_err();
            assert!(!rejection.message.contains("secret"), "{rejection:?}");
        }
        assert!(!format!("{ring:?}").contains("secret"));
    }

    #[test]
    fn a_model_list_has_names_and_beginnings() {
        let caller_with = |models: &[&str]| {
            let models = models.iter().map(|model| (*model).to_owned()).collect();
            caller(UserSettings { models, ..settings("a", &[]) }, KeySettings::default())
        };
        let caller = caller_with(&[]);
        assert!(caller.may_use("anything").is_ok());
        let caller = caller_with(&["claude-haiku-*", "fast"]);
        assert_eq!(
            caller.allowed(["fast", "faster", "claude-haiku-4-5", "claude-opus-4"]),
            ["fast", "claude-haiku-4-5"]
        );
        let rejection = caller.may_use("gpt-4.1").unwrap_err();
        assert_eq!((rejection.reason, rejection.param.as_deref()), (Reason::ModelNotAllowed, Some("model")));
        assert!(rejection.message.contains("\"gpt-4.1\""));
        assert!(caller.may_use(&"x".repeat(10_000)).unwrap_err().message.len() < 200);
    }

    #[test]
    fn a_key_may_use_less_than_its_user_and_never_more() {
        let list = |models: &[&str]| models.iter().map(|model| (*model).to_owned()).collect::<Vec<_>>();
        let user = UserSettings { models: list(&["claude-*"]), ..settings("a", &[]) };
        let key = KeySettings { models: list(&["claude-haiku-*", "gpt-*"]), ..KeySettings::default() };
        let caller = caller(user, key);
        assert_eq!(caller.allowed(["claude-haiku-4-5", "claude-opus-4", "gpt-5"]), ["claude-haiku-4-5"]);
    }

    #[test]
    fn a_key_is_used_only_from_where_it_and_its_user_may_be() {
        let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let user = UserSettings { addresses: networks(&["10.0.0.0/8", "2001:db8::/32"]), ..settings("a", &[]) };
        let key = KeySettings { addresses: networks(&["10.1.0.0/16", "2001:db8::/32"]), ..KeySettings::default() };
        let caller = caller(user, key);
        for (address, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("10.2.0.1", false),
            ("192.168.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(caller.may_come_from(address.parse().ok()).is_ok(), may, "{address}");
        }
        assert_eq!(caller.may_come_from(None).unwrap_err().reason, Reason::AddressNotAllowed);
    }
}
