//! The steps of a call: name, outbound proxy, TLS, clock, token and API.

use std::io;
use std::slice;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;

use super::is_faulty;
use super::report::{Outcome, Report};
use crate::config::{Config, Endpoint, Fault, Upstream};
use crate::problems::token::lifetime_short;
use crate::problems::{self, Problem, api, network};
use crate::tls;
use crate::token::schedule::SHORT_LIFETIME;
use crate::token::{Clock, TokenEndpoint, TokenSource as _};
use crate::upstream::{Network, Way, probe};

/// A lookup that takes longer indicates a name server that does not respond.
const SLOW_LOOKUP: Duration = Duration::from_secs(1);
/// The keys that only the token request needs.
const CREDENTIALS: [&str; 2] = ["client_id", "client_secret"];
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(30);

/// An upstream whose steps run.
struct Live<'a> {
    upstream: &'a Upstream,
    network: Network,
    has_credentials: bool,
}

/// The token that the identity service granted, and how far its clock differs from this machine's.
struct Granted {
    authorization: HeaderValue,
    lifetime: Duration,
    skew: Option<Duration>,
}

/// Tests each upstream. After a problem, the steps continue that do not depend on it.
pub(super) async fn check(config: &Config, faults: &[Fault], report: &mut Report) -> io::Result<()> {
    for upstream in &config.upstreams {
        let key = format!("upstream.{}", upstream.name);
        let faults = faults
            .iter()
            .filter(|fault| is_faulty(slice::from_ref(fault), &key));
        let keys: Vec<_> = faults.map(|fault| fault.key.name()).collect();
        let is_blocking = |key: &&str| !CREDENTIALS.contains(key) && *key != "rules";
        match tls::client(upstream.ca_file.as_deref()) {
            Ok(tls) if !keys.iter().any(is_blocking) => {
                let live = Live {
                    upstream,
                    network: Network::new(tls),
                    has_credentials: !keys.iter().any(|key| CREDENTIALS.contains(key)),
                };
                live.check(report).await?;
            }
            _ => report.skip("live", Some(&upstream.name), &format!("{key} has faults"))?,
        }
    }
    Ok(())
}

impl Live<'_> {
    async fn check(&self, report: &mut Report) -> io::Result<()> {
        let Upstream { token_url, url, .. } = self.upstream;
        let name = Some(&*self.upstream.name);
        let mut granted = None;
        if !self.reach(["token", "token request"], token_url, report).await? {
            report.skip("token", name, "the identity service is not reached")?;
        } else if !self.has_credentials {
            report.skip("token", name, "the credentials have faults, or were not checked")?;
        } else {
            let started = Instant::now();
            match self.fetch().await {
                Ok(found) => {
                    report.step("clock", name, started, clock(found.skew))?;
                    report.step("token", name, started, lifetime(found.lifetime))?;
                    granted = Some(found.authorization);
                }
                Err(problem) => report.step("token", name, started, Outcome::failure(problem))?,
            }
        }
        if !self.reach(["API", "API request"], url, report).await? {
            return report.skip("API", name, "it is not reached");
        }
        match granted {
            Some(authorization) => {
                let started = Instant::now();
                let outcome = self.ask(authorization).await;
                report.step("API", name, started, outcome)
            }
            None => report.skip("API", name, "there is no token"),
        }
    }

    /// Looks the host's name up, and walks the way to it, for a call as steps and as problems name it. Returns whether the
    /// host is reached.
    async fn reach(
        &self,
        [label, call]: [&'static str; 2],
        endpoint: &Endpoint,
        report: &mut Report,
    ) -> io::Result<bool> {
        let name = Some(&*self.upstream.name);
        let step = |step: &str| format!("{step} ({label})");
        let started = Instant::now();
        let way = match self.way(call, endpoint) {
            Ok(way) => way,
            Err(problem) => {
                report.step(&step("proxy"), name, started, Err(problem))?;
                return Ok(false);
            }
        };
        let outcome = self.resolve(&way).await;
        let is_known = outcome.is_ok();
        let outcome = with_slow_lookup(outcome, started.elapsed(), way.first_hop());
        report.step(&step("name"), name, started, outcome)?;
        if !is_known {
            report.skip(&step("TLS"), name, "the name has no known address")?;
            return Ok(false);
        }
        let started = Instant::now();
        let walked = way.walk().await.map_err(|error| error.problem);
        let is_reached = walked.is_ok();
        let to = endpoint.authority();
        let mut expires = None;
        let walked = walked.map(|chain| {
            expires = tls::expires_soon(&chain, to.as_ref());
            format!("{to} is reached and its certificate is trusted")
        });
        let mut outcome = Outcome::from(walked);
        outcome.problems.extend(expires);
        report.step(&step("TLS"), name, started, outcome)?;
        Ok(is_reached)
    }

    fn way(&self, call: &'static str, endpoint: &Endpoint) -> Result<Way, Problem> {
        let route = self.upstream.proxy.route(endpoint)?;
        let timeout = self.upstream.timeout.connect;
        Ok(Way::new(call, endpoint, route, timeout, self.network.clone()))
    }

    async fn resolve(&self, way: &Way) -> Result<String, Problem> {
        way.resolve().await.map_err(|error| error.problem)?;
        let host = way.first_hop();
        let known = self.network.resolver.known(host).unwrap_or_default();
        let address = known
            .first()
            .map_or_else(String::new, |address| address.ip().to_string());
        let role = if way.is_proxied() {
            "the outbound proxy "
        } else {
            ""
        };
        Ok(format!("{role}{host} is {address}"))
    }

    async fn fetch(&self) -> Result<Granted, Problem> {
        let endpoint = TokenEndpoint::new(self.upstream.clone(), self.network.clone(), Clock::default());
        let mut grant = endpoint.fetch().await.map_err(|error| error.problem)?;
        if grant.lifetime < SHORT_LIFETIME {
            // Some identity services return a token until its last second: let it expire, and get its successor.
            tokio::time::sleep(grant.lifetime + Duration::from_secs(1)).await;
            grant = endpoint.fetch().await.map_err(|error| error.problem)?;
        }
        let skew = |server: SystemTime| {
            let difference = SystemTime::now().duration_since(server);
            difference.unwrap_or_else(|error| error.duration())
        };
        Ok(Granted {
            authorization: grant.authorization,
            lifetime: grant.lifetime,
            skew: grant.server_time.map(skew),
        })
    }

    /// Sends one authorized request that changes nothing.
    async fn ask(&self, authorization: HeaderValue) -> Outcome {
        let to = self.upstream.url.authority();
        match &self.upstream.check_path {
            None => Err(api::not_checked(to)).into(),
            Some(path) => match probe(self.upstream, self.network.clone(), path, authorization).await {
                Ok(status) => Ok(format!("{to}{path} responds {status}")).into(),
                // It says nothing about push and pull.
                Err(forbidden) if forbidden.code() == "api-codes-forbidden" => Err(forbidden).into(),
                Err(problem) => Outcome::failure(problem),
            },
        }
    }
}

fn with_slow_lookup(outcome: Result<String, Problem>, took: Duration, host: &str) -> Outcome {
    let is_slow = outcome.is_ok() && took > SLOW_LOOKUP;
    let mut outcome = Outcome::from(outcome);
    let seconds = format!("{:.1}", took.as_secs_f32());
    outcome
        .problems
        .extend(is_slow.then(|| network::lookup_slow(host, seconds)));
    outcome
}

fn clock(skew: Option<Duration>) -> Result<String, Problem> {
    match skew.map(|skew| skew.as_secs()) {
        None => Ok("the identity service sends no Date to compare with".to_owned()),
        Some(seconds) if seconds > MAX_CLOCK_SKEW.as_secs() => Err(problems::tls::clock_skew(seconds)),
        Some(seconds) => Ok(format!("within {} s of the identity service's", seconds.max(1))),
    }
}

fn lifetime(lifetime: Duration) -> Result<String, Problem> {
    if lifetime < SHORT_LIFETIME {
        return Err(lifetime_short(lifetime.as_secs()));
    }
    Ok(format!("granted, lifetime {} s", lifetime.as_secs()))
}
