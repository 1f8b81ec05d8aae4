//! Users and their requests, and the course of each through the pool: waiting, attempts, failover, the end.
//!
//! What the gateway does around the pool is done here in the same order: a lease, the reply's header, its end.

use crate::{
    dice::Dice,
    upstream::{Reply, Upstream},
};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};
use sub2api::{
    account::{
        Claim, Lease, Need, Place, Pool, Reason, Tokens, Took,
        pool::{Candidates, Demand, Unavailable},
    },
    clock::{ManualClock, Moment},
    config::Config,
    provider::verdict::judge,
    wire::Endpoint,
};

/// How the gateway is set up, as in its defaults.
const ATTEMPTS: usize = 6;
const COOLDOWN_WAIT: f64 = 5.0;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) at: f64,
    pub(crate) user: u64,
    pub(crate) conversation: u64,
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// From its arrival at the provider to the end of the answer.
    pub(crate) takes: f64,
}

impl Ask {
    pub(crate) fn tokens(&self) -> u64 {
        self.input + self.output
    }

    pub(crate) fn claim(&self) -> Claim {
        Claim {
            need: Need { body_bytes: self.input as usize * 4, max_output: Some(self.output * 20) },
            user: self.user,
            conversation: Some(self.conversation),
            ..Claim::default()
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    /// Served by that account, after so long a wait for a place.
    Served {
        account: usize,
        waited: f64,
    },
    Refused {
        waited: f64,
    },
}

/// A pool in front of model providers.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    began: Moment,
    pub(crate) pool: Pool,
    candidates: Arc<Candidates>,
    pub(crate) upstreams: Vec<Upstream>,
    /// How long a request may wait in line.
    pub(crate) timeout: f64,
    /// Until when each account asked to be left alone.
    asked_away: Vec<f64>,
    used: Vec<u64>,
    leases: u64,
    settled: u64,
    dice: Dice,
    asks: Vec<Ask>,
    jobs: Vec<Job>,
    waiting: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next: u64,
    /// Those of the first attempts of a conversation's later turns that its home could serve: all, and how many it did.
    pub(crate) at_home: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Wake(usize),
    Header(usize),
    End(usize),
}

struct Job {
    tried: Vec<usize>,
    place: Option<Place>,
    since: f64,
    waited: f64,
    lease: Option<Lease>,
    reply: Option<Reply>,
    end: Option<End>,
}

/// A clock whose calendar is the seed's own, to the fraction of a second: providers tell their resets in whole seconds, so
/// a run is only the same again where that is.
pub(crate) fn clock(seed: u64) -> ManualClock {
    let fraction = Dice::new(!seed).below(1_000) as u64;
    ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_000 + fraction))
}

impl World {
    /// `settings` are those of each account: what stands behind its name in the file.
    pub(crate) fn new(upstreams: Vec<Upstream>, settings: &[String], seed: u64) -> World {
        let mut text = String::from("auth: none\naccounts:\n");
        for (at, (upstream, more)) in upstreams.iter().zip(settings).enumerate() {
            let cap = upstream.cap.map_or(String::new(), |cap| format!("concurrency: {cap}, "));
            // A quota that is never reached counts what is booked.
            text += &format!(
                "  - {{ name: a{at}, provider: anthropic, credentials: {{ api_key: k{at} }}, models: [m], \
                 quotas: [{{ window: total, tokens: 1_000_000_000_000 }}], limits: {{ {cap}{more} }} }}\n"
            );
        }
        let clock = clock(seed);
        let config = Config::parse(&text, &|_| None).unwrap_or_else(|faults| panic!("{faults}\n{text}")).config;
        let pool = Pool::new(&config, None, clock.now());
        let candidates = pool.candidates(&Demand { model: "m", endpoint: &Endpoint::Messages });
        assert_eq!(candidates.len(), upstreams.len());
        let began = clock.now();
        let (asked_away, used) = (vec![0.0; upstreams.len()], vec![0; upstreams.len()]);
        World {
            clock,
            began,
            pool,
            candidates,
            upstreams,
            timeout: 30.0,
            asked_away,
            used,
            leases: 0,
            settled: 0,
            dice: Dice::new(seed),
            asks: Vec::new(),
            jobs: Vec::new(),
            waiting: Vec::new(),
            events: BinaryHeap::new(),
            next: 0,
            at_home: (0, 0),
        }
    }

    /// Sends all these requests and waits for the last of them. Checks what must hold at every moment.
    pub(crate) fn run(&mut self, asks: Vec<Ask>) -> Vec<End> {
        self.jobs = asks.iter().map(|_| Job::default()).collect();
        for (at, ask) in asks.iter().enumerate() {
            self.at(ask.at, Event::Arrive(at));
        }
        self.asks = asks;
        while let Some(Reverse((nanos, _, event))) = self.events.pop() {
            let target = self.began.plus(Duration::from_nanos(nanos));
            self.clock.advance(target.since(self.clock.now()));
            match event {
                Event::Arrive(job) => self.start(job),
                Event::Wake(job) => self.go_on(job),
                Event::Header(job) => self.header(job),
                Event::End(job) => self.finish(job),
            }
            self.call();
        }
        self.check_the_end();
        self.jobs.iter().map(|job| job.end.expect("every request comes to an end")).collect()
    }

    fn t(&self) -> f64 {
        self.clock.now().since(self.began).as_secs_f64()
    }

    fn at(&mut self, t: f64, event: Event) {
        self.next += 1;
        self.events.push(Reverse(((t.max(self.t()) * 1e9) as u64, self.next, event)));
    }

    /// Lines up for the next attempt.
    fn start(&mut self, at: usize) {
        let now = self.clock.now();
        self.jobs[at].since = self.t();
        let place = self.pool.line_up(&self.candidates, &self.jobs[at].tried, self.asks[at].claim(), now);
        self.jobs[at].place = Some(place);
        self.go_on(at);
    }

    /// Asks for a lease, as often as there is reason to.
    fn go_on(&mut self, at: usize) {
        let (now, t, draw) = (self.clock.now(), self.t(), self.dice.draw());
        let Some(mut place) = self.jobs[at].place.take() else { return };
        self.waiting.retain(|waiting| *waiting != at);
        let home = self.home(at);
        let deadline = self.jobs[at].since + self.timeout;
        let wake = match place.lease(draw, now) {
            Ok(lease) => {
                self.check_home(home, lease.index);
                return self.send(at, lease);
            }
            Err(Unavailable::Busy { until }) => until.map_or(deadline, |until| t + until.since(now).as_secs_f64()),
            Err(Unavailable::Cooling { until }) => {
                let wait = until.map(|until| until.since(now).as_secs_f64());
                match wait.filter(|wait| self.jobs[at].tried.is_empty() && *wait <= COOLDOWN_WAIT) {
                    Some(wait) if t + wait < deadline => t + wait,
                    Some(_) | None => return self.refuse(at),
                }
            }
        };
        if t >= deadline {
            return self.refuse(at);
        }
        self.jobs[at].place = Some(place);
        self.waiting.push(at);
        self.at(wake.min(deadline) + 0.001, Event::Wake(at));
    }

    /// Where the request's conversation is at home, if the pool says that it serves there. Only for first attempts that
    /// have not waited: those who wait are given what comes free.
    fn home(&self, at: usize) -> Option<usize> {
        let job = &self.jobs[at];
        if !job.tried.is_empty() || job.since < self.t() {
            return None;
        }
        let explained = self.pool.explain(&self.candidates, &[], &self.asks[at].claim(), self.clock.now());
        explained.iter().find(|explained| explained.reason == Reason::Home).map(|explained| explained.index)
    }

    fn check_home(&mut self, home: Option<usize>, leased: usize) {
        let Some(home) = home else { return };
        self.at_home.0 += 1;
        self.at_home.1 += u64::from(home == leased);
    }

    fn send(&mut self, at: usize, lease: Lease) {
        let (now, t, account) = (self.clock.now(), self.t(), lease.index);
        self.leases += 1;
        let state = self.pool.accounts()[account].live.state(now).name();
        assert!(["ready", "probing"].contains(&state), "account {account} was leased while {state}");
        assert!(t + 1e-6 >= self.asked_away[account], "account {account} asked to be left alone");
        let (tokens, takes) = (self.asks[at].tokens() as f64, self.asks[at].takes);
        let upstream = &mut self.upstreams[account];
        assert!(upstream.cap.is_none_or(|cap| upstream.in_flight < cap), "account {account} is over its cap");
        upstream.in_flight += 1;
        let reply = upstream.arrive(tokens, t, now.wall);
        let (header, end) = if reply.status == 200 { (t + takes * 0.3, t + takes) } else { (t + 0.05, 0.0) };
        let good = reply.status == 200;
        let job = &mut self.jobs[at];
        job.waited += t - job.since;
        job.tried.push(account);
        (job.lease, job.reply) = (Some(lease), Some(reply));
        self.at(header, Event::Header(at));
        if good {
            self.at(end, Event::End(at));
        }
    }

    fn header(&mut self, at: usize) {
        let (now, t) = (self.clock.now(), self.t());
        let (Some(lease), Some(reply)) = (self.jobs[at].lease.take(), self.jobs[at].reply.take()) else { return };
        self.pool.report_headers(&lease, &reply.headers, now);
        if reply.status == 200 {
            self.pool.report_success(&lease, now);
            self.jobs[at].lease = Some(lease);
            return;
        }
        let verdict = judge(reply.status, &reply.headers, reply.error.as_ref(), now);
        let account = lease.index;
        self.pool.report_failure(&lease, &verdict, now);
        if let Some(told) = verdict.retry_after {
            self.asked_away[account] = self.asked_away[account].max(t + told.as_secs_f64());
        }
        self.settle(lease);
        if self.jobs[at].tried.len() >= ATTEMPTS { self.refuse(at) } else { self.start(at) }
    }

    fn finish(&mut self, at: usize) {
        let Some(mut lease) = self.jobs[at].lease.take() else { return };
        let (ask, account) = (&self.asks[at], lease.index);
        let tokens = Tokens { input: ask.input, output: ask.output };
        lease.took(Took { tokens, cost_nanos: 0 });
        self.used[account] += ask.tokens();
        self.settle(lease);
        let end = End::Served { account, waited: self.jobs[at].waited };
        assert!(self.jobs[at].end.replace(end).is_none(), "a request ended twice");
    }

    fn settle(&mut self, lease: Lease) {
        self.upstreams[lease.index].in_flight -= 1;
        self.settled += 1;
        drop(lease);
    }

    fn refuse(&mut self, at: usize) {
        let waited = self.jobs[at].waited + self.t() - self.jobs[at].since;
        assert!(self.jobs[at].end.replace(End::Refused { waited }).is_none(), "a request ended twice");
    }

    /// Lets those go on who were called.
    fn call(&mut self) {
        if self.pool.waiting() == 0 {
            return;
        }
        for at in self.waiting.clone() {
            let called =
                |place: &Place| pin!(place.called()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(());
            if self.jobs[at].place.as_ref().is_some_and(called) {
                self.go_on(at);
            }
        }
    }

    fn check_the_end(&self) {
        assert_eq!(self.pool.waiting(), 0, "somebody is left in line");
        assert_eq!(self.leases, self.settled, "every lease is settled once");
        let now = self.clock.now();
        for (at, account) in self.pool.accounts().iter().enumerate() {
            assert_eq!((account.live.in_flight(), self.upstreams[at].in_flight), (0, 0), "account {at} leaks");
            let quota = account.live.quotas(&account.settings, now)[0];
            assert_eq!((quota.spent.tokens, quota.reserved.tokens), (self.used[at], 0), "account {at} is booked wrong");
        }
    }
}

impl Default for Job {
    fn default() -> Job {
        Job { tried: Vec::new(), place: None, since: 0.0, waited: 0.0, lease: None, reply: None, end: None }
    }
}
