//! What an account trades for access tokens, where it has no lasting key.
//!
//! Valid by construction: addresses are parsed, keys can sign. Holds no token that was traded; `account::oauth` does.

use super::{secret::Secret, service_account::ServiceAccount};
use crate::provider::BaseUrl;
use sha2::{Digest, Sha256};

/// A grant, and the endpoint that takes it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Where tokens are given out.
    pub token_url: BaseUrl,
    /// The scopes to ask for, separated by spaces; the endpoint's own choice where there are none.
    pub scope: Option<String>,
    /// What is traded.
    pub kind: GrantKind,
    /// Tells grants apart without showing them. Another fingerprint means that what was traded before counts no more.
    pub fingerprint: [u8; 32],
}

/// What is traded for a token.
#[derive(Clone, Debug)]
pub enum GrantKind {
    /// A refresh token (RFC 6749, section 6).
    RefreshToken(RefreshToken),
    /// An assertion signed with the key of a Google service account (RFC 7523).
    ServiceAccount(ServiceAccount),
}

/// A refresh token and the client that it was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// The client's id.
    pub client_id: String,
    /// The client's secret, where it has one.
    pub client_secret: Option<Secret>,
    /// How the client shows its secret.
    pub client_auth: ClientAuth,
    /// How the request's parameters are written.
    pub encoding: Encoding,
    /// The first refresh token; the endpoint may have replaced it since.
    pub token: Secret,
}

/// How a client shows its secret (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Among the parameters.
    #[default]
    Body,
    /// In an `Authorization: Basic` header.
    Basic,
}

/// How the parameters of a token request are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As a form, as the RFC has it.
    #[default]
    Form,
    /// As a JSON object, which some endpoints want instead.
    Json,
}

impl Grant {
    /// The address by which the provider knows the account, where it has one.
    pub fn email(&self) -> Option<&str> {
        match &self.kind {
            GrantKind::RefreshToken(_) => None,
            GrantKind::ServiceAccount(account) => Some(&account.email),
        }
    }

    /// A grant with its fingerprint.
    pub fn new(token_url: BaseUrl, scope: Option<String>, kind: GrantKind) -> Grant {
        let url = format!("{}{}?{}", token_url.authority(), token_url.prefix, token_url.query);
        let parts: [&str; 3] = match &kind {
            GrantKind::RefreshToken(grant) => ["refresh_token", &grant.client_id, grant.token.expose()],
            GrantKind::ServiceAccount(account) => ["service_account", &account.email, account.key_fingerprint()],
        };
        let mut hash = Sha256::new();
        for part in [url.as_str(), scope.as_deref().unwrap_or_default()].into_iter().chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let fingerprint = hash.finalize().into();
        Grant { token_url, scope, kind, fingerprint }
    }
}

impl PartialEq for Grant {
    fn eq(&self, other: &Grant) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Grant {}
