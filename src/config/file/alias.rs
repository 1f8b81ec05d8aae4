//! One entry of `models`: a name of our own with its targets.

use super::common::model;
use crate::config::{ModelAlias, Target, reader::Item};

/// A name of our own as it was read.
pub(super) struct ReadAlias<'r> {
    /// The name with its place.
    pub(super) name: Option<(Item<'r>, &'r str)>,
    /// The targets, with their places.
    pub(super) targets: Vec<ReadTarget<'r>>,
}

/// A target as it was read.
pub(super) struct ReadTarget<'r> {
    /// The account with its place, where one is named.
    pub(super) account: Option<(Item<'r>, &'r str)>,
    /// The model with its place.
    pub(super) model: (Item<'r>, &'r str),
}

impl ReadAlias<'_> {
    /// The meant form, where nothing is at fault.
    pub(super) fn settings(&self) -> Option<ModelAlias> {
        let (_, name) = self.name.as_ref()?;
        let target = |target: &ReadTarget<'_>| Target {
            account: target.account.as_ref().map(|(_, name)| (*name).to_owned()),
            model: target.model.1.to_owned(),
        };
        Some(ModelAlias { name: (*name).to_owned(), targets: self.targets.iter().map(target).collect() })
    }
}

/// Reads a name of our own.
pub(super) fn alias<'r>(item: &Item<'r>) -> Option<ReadAlias<'r>> {
    let mut section = item.section()?;
    let name = section.required("name", |item| Some((item.clone(), model(item)?)));
    let items = section.required("targets", Item::items);
    section.done();
    if items.as_ref().is_some_and(Vec::is_empty) {
        item.fault("`targets` is empty; name at least one model");
    }
    Some(ReadAlias { name, targets: items.unwrap_or_default().iter().filter_map(target).collect() })
}

/// A target: a model's name, or a mapping that names its account too.
fn target<'r>(item: &Item<'r>) -> Option<ReadTarget<'r>> {
    if !item.is_map() {
        return Some(ReadTarget { account: None, model: (item.clone(), model(item)?) });
    }
    let mut section = item.section()?;
    let model = section.required("model", |item| Some((item.clone(), model(item)?)));
    let account = section.optional("account", |item| Some((item.clone(), item.text()?)));
    section.done();
    Some(ReadTarget { account, model: model? })
}
