//! Where the server of an account is, and the way to it.
//!
//! As RFC 6120 and XEP-0368 say: what the configuration names, else what the domain's SRV records
//! name, in their order, else the domain itself. Addresses come from the system, which knows names
//! that are in no DNS.
//!
//! Absent: any say in what the certificate must name. That is the account's domain, however the
//! server was found.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;
use crate::config::{Tls, XmppSettings};

/// How long one of several addresses may be silent before the next is tried.
const ADDRESS: Duration = Duration::from_secs(8);
/// How long the domain's records may take, before it is done without them.
const RECORDS: Duration = Duration::from_secs(8);

/// A server that a domain names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    priority: u16,
    weight: u16,
    /// Its name; `.` says that there is none.
    host: String,
    port: u16,
}

/// Connects to the server of an account.
pub(super) async fn reach(settings: &XmppSettings, domain: &str) -> Result<TcpStream, Failure> {
    if let Some((host, port)) = &settings.server {
        return dial(host, *port).await;
    }
    let (service, usual) = match settings.tls {
        Tls::StartTls => ("_xmpp-client._tcp", 5222),
        Tls::Direct => ("_xmpps-client._tcp", 5223),
    };
    let name = format!("{service}.{domain}.");
    let found = timeout(RECORDS, look_up(&name)).await.unwrap_or_default();
    if found.is_empty() {
        return dial(domain, usual).await;
    }
    let mut last = Failure::UnknownServer {
        name: domain.to_owned(),
    };
    for target in in_order(found, &mut fastrand::Rng::new()) {
        if target.host == "." {
            continue;
        }
        match dial(&target.host, target.port).await {
            Ok(tcp) => return Ok(tcp),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// Returns the records of this name; none if there are none or they cannot be had.
async fn look_up(name: &str) -> Vec<Target> {
    let resolver = TokioResolver::builder_tokio().and_then(ResolverBuilder::build);
    let found = match resolver {
        Ok(resolver) => resolver.srv_lookup(name).await,
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(name, ?error, "no records");
            return Vec::new();
        }
    };
    let mut targets = Vec::new();
    for record in found.answers() {
        if let RData::SRV(record) = &record.data {
            let host = record.target.to_ascii();
            targets.push(Target {
                priority: record.priority,
                weight: record.weight,
                host: match host.strip_suffix('.') {
                    Some(host) if !host.is_empty() => host.to_owned(),
                    Some(_) | None => host,
                },
                port: record.port,
            });
        }
    }
    targets
}

/// Puts servers into the order in which they are tried (RFC 2782): by priority, and among equal ones
/// by lot, in which the weight counts.
fn in_order(mut left: Vec<Target>, chance: &mut fastrand::Rng) -> Vec<Target> {
    let mut ordered = Vec::new();
    while let Some(first) = left.iter().map(|target| target.priority).min() {
        let (mut equal, rest): (Vec<Target>, Vec<Target>) = left
            .into_iter()
            .partition(|target| target.priority == first);
        left = rest;
        while !equal.is_empty() {
            // One more each, so that a weight of nothing has a chance, too.
            let weight = |target: &Target| u64::from(target.weight) + 1;
            let all: u64 = equal.iter().map(weight).sum();
            let mut lot = chance.u64(..all);
            let drawn = equal.iter().position(|target| {
                let is_drawn = lot < weight(target);
                lot = lot.saturating_sub(weight(target));
                is_drawn
            });
            ordered.push(equal.remove(drawn.unwrap_or(0)));
        }
    }
    ordered
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let unknown = |_| Failure::UnknownServer {
        name: host.to_owned(),
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(unknown)?
        .collect();
    let mut last = io::Error::other("it has no address");
    for address in found {
        match timeout(ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Failure::network(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(priority: u16, weight: u16, host: &str) -> Target {
        Target {
            priority,
            weight,
            host: host.into(),
            port: 5222,
        }
    }

    #[test]
    fn a_spare_server_comes_after_the_others_and_weight_counts() {
        let all = vec![
            target(20, 100, "spare"),
            target(5, 0, "light"),
            target(5, 90, "heavy"),
        ];
        let mut heavy = 0;
        for seed in 0..200 {
            let order = in_order(all.clone(), &mut fastrand::Rng::with_seed(seed));
            assert_eq!(order.len(), 3);
            assert_eq!(order[2].host, "spare");
            heavy += usize::from(order[0].host == "heavy");
        }
        assert!((180..200).contains(&heavy), "{heavy}");
        assert!(in_order(Vec::new(), &mut fastrand::Rng::new()).is_empty());
    }
}
