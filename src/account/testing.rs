//! Accounts for the tests of this folder.

use super::{
    live::{Account, Common, Live},
    pool::{Pool, Terms},
};
use crate::{
    clock::ManualClock,
    config::{
        AccountSettings, Bounds, Cooldown, Http2, Limits, ModelAlias, ModelRule, Target, Timeouts, secret::Secret,
    },
    provider,
};
use std::{sync::Arc, time::Duration};

pub(super) const COOLDOWN: Cooldown = Cooldown {
    base: Duration::from_secs(1),
    max: Duration::from_secs(60),
    told_max: Duration::from_secs(3600),
    money: Duration::from_secs(3600),
};

/// An account in the making.
#[derive(Clone, Debug)]
pub(super) struct Draft(AccountSettings);

/// An account of priority 0 and weight 1 that serves every model.
pub(super) fn account(name: &str, provider: &str) -> Draft {
    let provider = provider::find(provider).unwrap();
    let base_url = provider.base_url(provider.default_base_url().unwrap_or("http://127.0.0.1:1")).unwrap();
    Draft(AccountSettings {
        name: name.into(),
        provider,
        base_url,
        api_key: Some(Secret::new(format!("key of {name}"))),
        grant: None,
        priority: 0,
        weight: 1,
        models: Vec::new(),
        formats: provider.formats().to_vec(),
        limits: Limits::default(),
        quotas: Vec::new(),
        timeouts: Timeouts::default(),
        headers: Vec::new(),
        http2: Http2::Auto,
        proxy: None,
    })
}

impl Draft {
    pub(super) fn model(mut self, name: &str) -> Draft {
        self.0.models.push(match name.strip_suffix('*') {
            Some(prefix) => ModelRule::Prefix(prefix.into()),
            None => ModelRule::Exact(name.into()),
        });
        self
    }

    pub(super) fn renamed(mut self, name: &str, upstream: &str) -> Draft {
        self.0.models.push(ModelRule::Alias { name: name.into(), upstream: upstream.into() });
        self
    }

    pub(super) fn priority(mut self, priority: u32) -> Draft {
        self.0.priority = priority;
        self
    }

    pub(super) fn weight(mut self, weight: u32) -> Draft {
        self.0.weight = weight;
        self
    }

    pub(super) fn cap(mut self, concurrency: u32) -> Draft {
        self.0.limits.concurrency = Some(concurrency);
        self
    }

    pub(super) fn rpm(mut self, rpm: u64) -> Draft {
        self.0.limits.rpm = Some(rpm);
        self
    }

    pub(super) fn key(mut self, key: &str) -> Draft {
        self.0.api_key = Some(Secret::new(key));
        self
    }

    pub(super) fn into_account(self) -> Arc<Account> {
        let common = Common::new(1, Bounds::default(), ManualClock::new().now());
        Arc::new(Account { settings: Arc::new(self.0), live: Arc::new(Live::new(&common)) })
    }
}

pub(super) fn alias(name: &str, targets: &[(Option<&str>, &str)]) -> Arc<ModelAlias> {
    let target = |(account, model): &(Option<&str>, &str)| Target {
        account: account.map(str::to_owned),
        model: (*model).to_owned(),
    };
    Arc::new(ModelAlias { name: name.into(), targets: targets.iter().map(target).collect() })
}

pub(super) fn pool(accounts: &[Draft], aliases: &[Arc<ModelAlias>]) -> Pool {
    reloaded(accounts, aliases, None)
}

pub(super) fn reloaded(accounts: &[Draft], aliases: &[Arc<ModelAlias>], previous: Option<&Pool>) -> Pool {
    let settings: Vec<_> = accounts.iter().map(|draft| Arc::new(draft.0.clone())).collect();
    let terms = Terms { cooldown: COOLDOWN, ..Terms::default() };
    Pool::of((&settings, aliases), terms, previous, ManualClock::new().now())
}
