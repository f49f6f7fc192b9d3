//! The first members of a cluster (`--initial-cluster`).
//!
//! Owns: reading them, and etcd's checks of them. Must not know: ids. A newcomer's trap: a name that
//! stands twice is one member with two URLs.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::values::parse_urls;

/// The first members by name, each with its sorted peer URLs.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        let url = url.trim();
        let urls = parse_urls(url)?;
        members.entry(name.trim().to_owned()).or_default().extend(urls);
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members)
}

/// The first members; this one alone if nothing was said.
pub(super) fn initial_members(config: &Config) -> BTreeMap<String, Vec<String>> {
    if config.initial_cluster.is_empty() {
        let urls = config.initial_advertise_peer_urls.clone();
        return BTreeMap::from([(config.name.clone(), urls)]);
    }
    // Whoever made the configuration by hand gets what can be read.
    parse(&config.initial_cluster).unwrap_or_default()
}

/// Whether this member is among the first ones as it says, and no URL stands twice.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let members = if config.initial_cluster.is_empty() {
        initial_members(config)
    } else {
        parse(&config.initial_cluster)
            .map_err(|why| format!("error setting up initial cluster: {why}"))?
    };
    let Some(own) = members.get(&config.name) else {
        return Err(format!(
            "couldn't find local name \"{}\" in the initial cluster configuration",
            config.name
        ));
    };
    if !config.initial_cluster_existing {
        advertised(config, own)?;
    }
    let mut seen = BTreeSet::new();
    if members.values().flatten().any(|url| !seen.insert(url.as_str())) {
        return Err(format!("initial cluster {} has duplicate url", shown(&members)));
    }
    Ok(())
}

/// The URLs as one text, sorted, as etcd prints them.
fn shown(members: &BTreeMap<String, Vec<String>>) -> String {
    let mut pairs: Vec<String> = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// Compares what this member advertises with what the cluster expects of it.
// Differs from etcd: names are compared as they are written and never resolved, so the same address
// under two names is an error here.
fn advertised(config: &Config, own: &[String]) -> Result<(), String> {
    let advertised = &config.initial_advertise_peer_urls;
    let missing: Vec<String> = own
        .iter()
        .filter(|url| !advertised.contains(url))
        .map(|url| format!("{}={url}", config.name))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
            missing.join(","),
            advertised.join(",")
        ));
    }
    let extra: Vec<&str> =
        advertised.iter().filter(|url| !own.contains(url)).map(String::as_str).collect();
    if extra.is_empty() {
        return Ok(());
    }
    let map = BTreeMap::from([(config.name.clone(), advertised.clone())]);
    Err(format!(
        "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
        extra.join(","),
        shown(&map)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_members_are_checked_as_etcd_does() {
        let (a, b) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
        for (cluster, expected) in [
            (format!("a={a}"), None),
            (format!("a={a},b={b}"), None),
            (format!("b={b}"), Some("couldn't find local name \"a\" in the initial cluster configuration".to_owned())),
            (format!("a={b}"), Some(format!("--initial-cluster has a={b} but missing from --initial-advertise-peer-urls={a}"))),
            // A name that stands twice, and one's own URL under another name.
            (format!("a={a},a={b}"), Some(format!("--initial-cluster has a={b} but missing from --initial-advertise-peer-urls={a}"))),
            (format!("a={a},b={a}"), Some(format!("initial cluster a={a},b={a} has duplicate url"))),
            ("a".to_owned(), Some("error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ".into())),
        ] {
            let config = Config {
                name: "a".into(),
                initial_cluster: cluster.clone(),
                initial_advertise_peer_urls: vec![a.into()],
                ..Config::default()
            };
            assert_eq!(check(&config).err(), expected, "{cluster}");
        }
    }
}
