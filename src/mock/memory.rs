//! What the Responses API stores: earlier answers, and their items by id.
//!
//! Per key, as it is per account at the provider: another account's `previous_response_id` is not found. Bounded; the
//! oldest entry goes first.

use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

/// How many conversations are kept.
const MAX_RESPONSES: usize = 2_000;

#[derive(Debug, Default)]
struct Shelf {
    /// Input and output items of a conversation, by key and response id.
    responses: HashMap<(String, String), Vec<Value>>,
    order: VecDeque<(String, String)>,
}

/// The stored responses.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Shelf>);

impl Memory {
    fn shelf(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every item up to and including the answer with this id.
    pub(super) fn conversation(&self, key: &str, id: &str) -> Option<Vec<Value>> {
        self.shelf().responses.get(&(key.to_owned(), id.to_owned())).cloned()
    }

    /// The item with this id, in any stored conversation of the key.
    pub(super) fn item(&self, key: &str, id: &str) -> Option<Value> {
        let shelf = self.shelf();
        let mine = shelf.order.iter().rev().filter(|(owner, _)| owner == key);
        let items = mine.filter_map(|name| shelf.responses.get(name)).flatten();
        items.into_iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id)).cloned()
    }

    pub(super) fn store(&self, key: &str, id: &str, items: Vec<Value>) {
        let mut shelf = self.shelf();
        let name = (key.to_owned(), id.to_owned());
        if shelf.responses.insert(name.clone(), items).is_some() {
            return;
        }
        shelf.order.push_back(name);
        let full = shelf.order.len() > MAX_RESPONSES;
        if let Some(oldest) = if full { shelf.order.pop_front() } else { None } {
            shelf.responses.remove(&oldest);
        }
    }

    pub(super) fn reset(&self) {
        *self.shelf() = Shelf::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn another_account_does_not_find_what_one_has_stored() {
        let memory = Memory::default();
        memory.store("sk-a", "resp_1", vec![json!({"id": "msg_1"})]);
        assert!(memory.conversation("sk-a", "resp_1").is_some() && memory.item("sk-a", "msg_1").is_some());
        assert!(memory.conversation("sk-b", "resp_1").is_none() && memory.item("sk-b", "msg_1").is_none());
    }

    #[test]
    fn the_oldest_goes_first() {
        let memory = Memory::default();
        for n in 0..=MAX_RESPONSES {
            memory.store("k", &n.to_string(), vec![]);
        }
        assert!(memory.conversation("k", "0").is_none() && memory.conversation("k", "1").is_some());
    }
}
