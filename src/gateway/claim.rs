//! What a request brings along when it asks the pool for an account: its size, whose it is, and its conversation.

use super::exchange::{Exchange, Request};
use crate::{
    account::{Claim, Need},
    wire::conversation::{hash_of, joined},
};
use http::HeaderMap;

/// How particular a header is that names the client's session, 0 being the most: Codex (a thread of a session), Claude
/// Code, opencode. `None` for any other header.
fn particularity(header: &str) -> Option<u8> {
    Some(match header {
        "thread-id" => 0,
        "x-claude-code-session-id" => 1,
        "session-id" => 2,
        "session_id" => 3,
        "x-session-id" => 4,
        "x-session-affinity" => 5,
        "x-conversation-id" => 6,
        "conversation_id" => 7,
        _ => return None,
    })
}

/// The session that the headers name.
pub(super) fn session(headers: &HeaderMap) -> Option<u64> {
    let named = headers.iter().filter(|(_, value)| !value.is_empty());
    let sessions = named.filter_map(|(name, value)| Some((particularity(name.as_str())?, value)));
    sessions.min_by_key(|(particularity, _)| *particularity).map(|(_, value)| hash_of(value.as_bytes()))
}

/// The claim of a request. A conversation is a user's own, and another one for each model.
pub(super) fn claim(exchange: &Exchange, request: &Request) -> Claim {
    let user = exchange.caller.as_ref().map_or(0, |caller| hash_of(caller.user.name.as_bytes()));
    let said = &request.envelope.conversation;
    let thread = request.session.or(said.session).or(said.prefix).filter(|_| is_conversation(exchange));
    let model = || hash_of(request.model.as_bytes());
    Claim {
        need: Need { body_bytes: request.body.len(), max_output: request.envelope.max_output_tokens },
        user,
        conversation: thread.map(|thread| joined(&[user, model(), thread])),
        previous: said.previous.map(|previous| joined(&[user, previous])),
        is_bound: said.is_bound,
    }
}

/// The claim that a later request makes when it continues this response.
pub(super) fn response(claim: &Claim, id: &str) -> u64 {
    joined(&[claim.user, hash_of(id.as_bytes())])
}

fn is_conversation(exchange: &Exchange) -> bool {
    exchange.endpoint().is_some_and(|endpoint| endpoint.generates())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_headers_of_coding_agents_are_known() {
        let of = |name: &'static str| {
            session(&HeaderMap::from_iter([(http::HeaderName::from_static(name), "s1".parse().unwrap())]))
        };
        for name in ["x-claude-code-session-id", "session-id", "thread-id", "x-session-id", "x-session-affinity"] {
            assert_eq!(of(name), Some(hash_of(b"s1")), "{name}");
        }
        assert_eq!(of("x-request-id"), None);
        assert_eq!(session(&HeaderMap::new()), None);
    }
}
