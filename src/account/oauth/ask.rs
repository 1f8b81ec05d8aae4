//! Writes the request for a token: a refresh (RFC 6749, section 6) or a signed assertion (RFC 7523).
//!
//! Pure; the time is an argument. What it makes is secret as a whole.

use crate::{
    clock::Moment,
    config::{ClientAuth, Encoding, Grant, GrantKind, RefreshToken, ServiceAccount, secret::Secret},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Serialize;

/// The life that an assertion asks for, the longest that Google gives: one hour, in seconds.
const ASSERTED_SECONDS: u64 = 3600;

/// A request for a token.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The body.
    pub body: Secret,
    /// Its content type.
    pub content_type: &'static str,
    /// The `Authorization` header, where the client shows its secret there.
    pub authorization: Option<Secret>,
}

/// The request for a token by this grant; `refresh` is the refresh token in force. `None` only where nothing can be signed.
pub fn ask(grant: &Grant, refresh: Option<&Secret>, now: Moment) -> Option<Ask> {
    let scope = grant.scope.as_deref();
    match &grant.kind {
        GrantKind::RefreshToken(client) => Some(refreshing(client, refresh.unwrap_or(&client.token), scope)),
        GrantKind::ServiceAccount(account) => {
            let assertion = assertion(account, scope, now)?;
            let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            let body = form(&[("grant_type", kind), ("assertion", &assertion)]);
            Some(Ask { body, content_type: FORM, authorization: None })
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn refreshing(client: &RefreshToken, refresh: &Secret, scope: Option<&str>) -> Ask {
    let mut pairs = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
    let mut authorization = None;
    match (client.client_auth, &client.client_secret) {
        (ClientAuth::Basic, Some(secret)) => {
            let pair = format!("{}:{}", encoded(&client.client_id), encoded(secret.expose()));
            authorization = Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))));
        }
        (ClientAuth::Body, Some(secret)) => {
            pairs.extend([("client_id", client.client_id.as_str()), ("client_secret", secret.expose())]);
        }
        (ClientAuth::Body | ClientAuth::Basic, None) => pairs.push(("client_id", &client.client_id)),
    }
    pairs.extend(scope.map(|scope| ("scope", scope)));
    match client.encoding {
        Encoding::Form => Ask { body: form(&pairs), content_type: FORM, authorization },
        Encoding::Json => {
            let object: serde_json::Map<_, _> =
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            let body = Secret::new(serde_json::Value::Object(object).to_string());
            Ask { body, content_type: "application/json", authorization }
        }
    }
}

fn form(pairs: &[(&str, &str)]) -> Secret {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    Secret::new(pairs.join("&"))
}

/// A value of a form (`application/x-www-form-urlencoded`).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

/// A JSON web token (RFC 7519) in which the account asks for a token in its own name.
fn assertion(account: &ServiceAccount, scope: Option<&str>, now: Moment) -> Option<String> {
    let iat = now.unix_millis() / 1000;
    let header = Header { alg: "RS256", typ: "JWT", kid: account.key_id.as_deref() };
    let claims = Claims { iss: &account.email, scope, aud: &account.token_uri, iat, exp: iat + ASSERTED_SECONDS };
    let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let mut token = format!("{}.{}", part(serde_json::to_vec(&header).ok()?), part(serde_json::to_vec(&claims).ok()?));
    let signature = account.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::ManualClock, provider::BaseUrl};

    fn grant(client_secret: Option<&str>, client_auth: ClientAuth, encoding: Encoding) -> Grant {
        let kind = RefreshToken {
            client_id: "the client".into(),
            client_secret: client_secret.map(Secret::new),
            client_auth,
            encoding,
            token: Secret::new("r/1+"),
        };
        let token_url = BaseUrl::parse("https://h/token").unwrap();
        Grant::new(token_url, Some("a b".into()), GrantKind::RefreshToken(kind))
    }

    fn asked(grant: &Grant, refresh: Option<&str>) -> (String, Option<String>) {
        let refresh = refresh.map(Secret::new);
        let ask = ask(grant, refresh.as_ref(), ManualClock::new().now()).unwrap();
        (ask.body.expose().to_owned(), ask.authorization.map(|text| text.expose().to_owned()))
    }

    #[test]
    fn a_refresh_is_written_as_the_rfc_has_it() {
        let plain = grant(None, ClientAuth::Body, Encoding::Form);
        let body = "grant_type=refresh_token&refresh_token=r%2F1%2B&client_id=the+client&scope=a+b";
        assert_eq!(asked(&plain, None), (body.to_owned(), None));
        assert!(asked(&plain, Some("newer")).0.contains("refresh_token=newer&"));
        let secret = asked(&grant(Some("s&"), ClientAuth::Body, Encoding::Form), None);
        assert!(secret.0.contains("&client_secret=s%26&") && secret.1.is_none());
        let (body, header) = asked(&grant(Some("s&"), ClientAuth::Basic, Encoding::Form), None);
        assert!(!body.contains("client"), "{body}");
        assert_eq!(header, Some(format!("Basic {}", STANDARD.encode("the+client:s%26"))));
    }

    #[test]
    fn it_is_json_where_the_endpoint_wants_that() {
        let (body, _) = asked(&grant(None, ClientAuth::Body, Encoding::Json), None);
        let tree: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&tree["refresh_token"], &tree["client_id"]), (&"r/1+".into(), &"the client".into()));
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let ask = ask(&grant(Some("hush"), ClientAuth::Basic, Encoding::Form), None, ManualClock::new().now());
        assert!(!format!("{ask:?}").contains("r%2F1") && !format!("{ask:?}").contains("Basic"));
    }
}
