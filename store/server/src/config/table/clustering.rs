//! The flags that say which cluster the member belongs to.

use super::{Flag, Kind, duration, flag, only, set, word};
use crate::config::values::{parse_bool, parse_urls};

#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    flag("initial-advertise-peer-urls", "http://localhost:2380", "URLs given to the other members.", Kind::Text,
        |d, v| if v.is_empty() { Ok(()) } else { set(&mut d.config.initial_advertise_peer_urls, parse_urls(v)?) }),
    flag("initial-cluster", "default=http://localhost:2380", "The first members as name=url,name=url.", Kind::Text,
        |d, v| set(&mut d.config.initial_cluster, v.to_owned())),
    flag("initial-cluster-state", "new",
        "'new' for the first members of a cluster, 'existing' to join one. Ignored once there is data.", Kind::Text,
        |d, v| set(&mut d.config.initial_cluster_existing, word(v, &["new", "existing"])? == "existing")),
    flag("initial-cluster-token", "etcd-cluster", "What keeps clusters apart that were started alike.", Kind::Text,
        |d, v| set(&mut d.config.initial_cluster_token, v.to_owned())),
    flag("advertise-client-urls", "http://localhost:2379", "URLs given to clients.", Kind::Text,
        |d, v| if v.is_empty() { Ok(()) } else { set(&mut d.config.advertise_client_urls, parse_urls(v)?) }),
    flag("strict-reconfig-check", "true", "Refuse changes of membership that endanger the quorum.", Kind::Bool,
        |d, v| set(&mut d.config.strict_reconfig_check, parse_bool(v)?)),
    flag("pre-vote", "true", "Precede an election by a trial that disturbs nobody.", Kind::Bool,
        |d, v| set(&mut d.config.pre_vote, parse_bool(v)?)),
    flag("auto-compaction-retention", "0", "What automatic compaction keeps; 0 = there is none.", Kind::Text,
        |d, v| set(&mut d.compaction_retention, v.to_owned())),
    flag("auto-compaction-mode", "periodic",
        "What the retention counts: 'periodic' a time (5m; hours if without a unit), 'revision' revisions.", Kind::Text,
        |d, v| set(&mut d.compaction_mode, v.to_owned())),
];

const NO_DISCOVERY: &str =
    "the first members are named by --initial-cluster; there is no discovery service";

#[rustfmt::skip]
pub(super) const DISCOVERY: &[Flag] = &[
    flag("discovery", "", "URL of a discovery service of API v2.", Kind::Text, |_, _| Ok(()))
        .refused(NO_DISCOVERY),
    flag("discovery-token", "", "The cluster's token at the discovery service.", Kind::Text, |_, _| Ok(()))
        .refused(NO_DISCOVERY),
    flag("discovery-endpoints", "", "Endpoints of the discovery service.", Kind::Text, |_, _| Ok(()))
        .refused(NO_DISCOVERY),
    flag("discovery-dial-timeout", "2s", "Time to connect to it.", Kind::Duration, |_, v| only(duration(v)))
        .idle(NO_DISCOVERY),
    flag("discovery-request-timeout", "5s", "Time for a request to it.", Kind::Duration, |_, v| only(duration(v)))
        .idle(NO_DISCOVERY),
    flag("discovery-keepalive-time", "2s", "Silence after which it is pinged.", Kind::Duration, |_, v| only(duration(v)))
        .idle(NO_DISCOVERY),
    flag("discovery-keepalive-timeout", "6s", "Time it has to answer a ping.", Kind::Duration, |_, v| only(duration(v)))
        .idle(NO_DISCOVERY),
    flag("discovery-insecure-transport", "true", "Talk to it without TLS.", Kind::Bool, |_, v| only(parse_bool(v)))
        .idle(NO_DISCOVERY),
    flag("discovery-insecure-skip-tls-verify", "false", "Do not verify its certificate.", Kind::Bool, |_, v| only(parse_bool(v)))
        .idle(NO_DISCOVERY),
    flag("discovery-cert", "", "Certificate to show it.", Kind::Text, |_, _| Ok(())).refused(NO_DISCOVERY),
    flag("discovery-key", "", "The certificate's key.", Kind::Text, |_, _| Ok(())).refused(NO_DISCOVERY),
    flag("discovery-cacert", "", "Those who sign its certificate.", Kind::Text, |_, _| Ok(())).refused(NO_DISCOVERY),
    flag("discovery-user", "", "User at the discovery service.", Kind::Text, |_, _| Ok(())).refused(NO_DISCOVERY),
    flag("discovery-password", "", "The user's password.", Kind::Text, |_, _| Ok(())).refused(NO_DISCOVERY),
    flag("discovery-fallback", "exit", "What to do if discovery fails.", Kind::Text,
        |_, v| match word(v, &["exit", "proxy"])?.as_str() {
            "proxy" => Err("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"".into()),
            _ => Ok(()),
        })
        .idle(NO_DISCOVERY),
    flag("discovery-proxy", "", "HTTP proxy to a discovery service of API v2.", Kind::Text, |_, _| Ok(()))
        .refused(NO_DISCOVERY),
    flag("discovery-srv", "", "Domain whose SRV records name the first members.", Kind::Text, |_, _| Ok(()))
        .refused(NO_DISCOVERY),
    flag("discovery-srv-name", "", "Suffix of the service's name in those records.", Kind::Text, |_, _| Ok(()))
        .refused(NO_DISCOVERY),
];
