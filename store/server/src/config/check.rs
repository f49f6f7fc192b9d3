//! Whether the settings go together; the texts are etcd's.
//!
//! Owns: from a draft to a configuration. Must not know: where the settings were read. A newcomer's
//! trap: what depends on the data folder is not checked here but when the member starts.

use std::net::IpAddr;
use std::path::PathBuf;

use kijabi_base::limits;

use super::settings::{Notice, Rotation, TlsFiles, TlsVersion};
use super::table::{self, Draft, OLD};
use super::values::host_port;
use super::{Config, DEFAULT_CLIENT_URL, DEFAULT_NAME, DEFAULT_PEER_URL, bootstrap, gates, suites};
const ELECTION_MS_MAX: u64 = 50_000;
/// Half of what a frame of the Raft log may hold: a larger one could be written but not read back.
const REQUEST_BYTES_LIMIT: usize = limits::LOG_FRAME_BYTES_MAX / 2;
/// etcd warns above these.
const REQUEST_BYTES_RECOMMENDED: usize = 10 << 20;
const QUOTA_BYTES_RECOMMENDED: u64 = 8 << 30;

/// Makes the configuration.
pub(super) fn finish(mut draft: Draft) -> Result<Config, String> {
    both_given(&draft)?;
    feature_gates(&mut draft)?;
    logging(&mut draft)?;
    urls(&draft.config)?;
    timing(&mut draft)?;
    draft.config.auto_compaction =
        table::auto_compaction(&draft.compaction_mode, &draft.compaction_retention)?;
    if draft.config.compact_hash_check_interval.is_zero() {
        return Err("--compact-hash-check-time must be >0 (set to 0s)".into());
    }
    tls(&mut draft)?;
    sizes(&mut draft)?;
    defaults(&mut draft);
    if !draft.config.initial_cluster.is_empty() {
        bootstrap::parse(&draft.config.initial_cluster)
            .map_err(|why| format!("error setting up initial cluster: {why}"))?;
    }
    Ok(draft.config)
}

/// An old flag and its successor.
fn both_given(draft: &Draft) -> Result<(), String> {
    for (old, new) in OLD {
        if draft.was_given(old) && draft.was_given(new) {
            return Err(format!(
                "cannot set --{old} and --{new} at the same time, please use --{new} only"
            ));
        }
    }
    Ok(())
}

fn feature_gates(draft: &mut Draft) -> Result<(), String> {
    let text = std::mem::take(&mut draft.feature_gates);
    for (old, gate) in gates::OLD_FLAGS {
        if draft.was_given(old) && text.contains(gate) {
            return Err(format!(
                "cannot specify both flags: --{old} and --feature-gates={gate} at the same time, please just use --feature-gates={gate}"
            ));
        }
    }
    let gates = &mut draft.config.feature_gates;
    gates
        .set(&text)
        .map_err(|why| format!("invalid value \"{text}\" for flag -feature-gates: {why}"))?;
    for (gate, why) in gates.idle() {
        let notice = format!("feature gate {gate} has no effect: {why}");
        draft.config.notices.push(Notice::warning(notice));
    }
    if gates.lease_checkpoint_persist && !gates.lease_checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".into(),
        );
    }
    Ok(())
}

fn logging(draft: &mut Draft) -> Result<(), String> {
    let log = &mut draft.config.log;
    if log.outputs.is_empty() {
        log.outputs.push("default".into());
    }
    if log.outputs.len() > 1 && log.outputs.iter().any(|output| output == "default") {
        return Err("multi logoutput for \"default\" is not supported yet".into());
    }
    if !draft.log_rotation {
        return Ok(());
    }
    let is_file = |output: &&String| !matches!(output.as_str(), "default" | "stderr" | "stdout");
    if log.outputs.iter().filter(is_file).count() != 1 {
        return Err(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined"
                .into(),
        );
    }
    let rotation: Rotation =
        serde_json::from_str(&draft.log_rotation_json).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => format!("invalid log rotation config: {error}"),
            _ => format!("improperly formatted log rotation config: {error}"),
        })?;
    log.rotation = Some(rotation);
    Ok(())
}

fn urls(config: &Config) -> Result<(), String> {
    let listening = [
        &config.listen_peer_urls,
        &config.listen_client_urls,
        &config.listen_client_http_urls,
        &config.listen_metrics_urls,
    ];
    for url in listening.into_iter().flatten() {
        if let Some(host) = host_of(url)
            && host != "localhost"
            && host.parse::<IpAddr>().is_err()
            && !host.is_empty()
        {
            return Err(format!("expected IP in URL for binding ({url})"));
        }
    }
    let advertised = [
        ("initial-advertise-peer-urls", &config.initial_advertise_peer_urls),
        ("advertise-client-urls", &config.advertise_client_urls),
    ];
    for (flag, urls) in advertised {
        for url in urls {
            let why = match host_of(url) {
                None => "missing port in address".to_owned(),
                Some("") => format!("unexpected empty host ({url})"),
                Some(_) => continue,
            };
            return Err(format!("--{flag} \"{}\" must be \"host:port\" ({why})", urls.join(",")));
        }
    }
    for url in &config.listen_client_http_urls {
        if config.listen_client_urls.contains(url) {
            return Err(format!(
                "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
            ));
        }
    }
    Ok(())
}

/// The host of a URL with a TCP port; `None` for a unix socket.
fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.starts_with("unix") { None } else { host_port(rest).map(|(host, _)| host) }
}

fn timing(draft: &mut Draft) -> Result<(), String> {
    let (tick, election) = (draft.heartbeat_ms, draft.election_ms);
    if tick == 0 {
        return Err(format!("--heartbeat-interval must be >0 (set to {tick}ms)"));
    }
    if election == 0 {
        return Err(format!("--election-timeout must be >0 (set to {election}ms)"));
    }
    if tick.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{tick}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    draft.config.heartbeat_interval = std::time::Duration::from_millis(tick);
    draft.config.election_timeout = std::time::Duration::from_millis(election);
    Ok(())
}

fn version(text: &str) -> Result<Option<TlsVersion>, String> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::V12)),
        "TLS1.3" => Ok(Some(TlsVersion::V13)),
        _ => Err(format!("unexpected TLS version \"{text}\" (must be one of: TLS1.2, TLS1.3)")),
    }
}

fn tls(draft: &mut Draft) -> Result<(), String> {
    let (min, max) = (version(&draft.tls_min)?, version(&draft.tls_max)?);
    let min = min.unwrap_or(TlsVersion::V12);
    if max.is_some_and(|max| min > max) {
        let (min, max) = (&draft.tls_min, &draft.tls_max);
        return Err(format!("min version ({min}) is greater than max version ({max})"));
    }
    let config = &mut draft.config;
    if min == TlsVersion::V13 && !config.tls.cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".into());
    }
    (config.tls.min_version, config.tls.max_version) = (min, max);
    let weak = suites::check(&config.tls.cipher_suites)?;
    if !weak.is_empty() {
        let weak = weak.join(",");
        let notice = Notice::warning("TLS cipher suites that are not safe are never used");
        config.notices.push(notice.with("cipher-suites", weak));
    }
    if config.tls.self_signed_years == 0 && (config.client_tls.auto || config.peer_tls.auto) {
        return Err("selfSignedCertValidity is invalid,it should be greater than 0".into());
    }
    let client = config.listen_client_urls.iter().chain(&config.listen_client_http_urls);
    for url in client.filter(|url| is_secure(url)) {
        if config.client_tls.is_empty() {
            return Err(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
            ));
        }
    }
    if config.listen_metrics_urls.iter().any(|url| is_secure(url)) && config.client_tls.is_empty() {
        return Err(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
                .into(),
        );
    }
    for url in config.listen_peer_urls.iter().filter(|url| is_secure(url)) {
        if config.peer_tls.is_empty() {
            let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
            return Err(format!(
                "cannot listen on TLS for {address}: KeyFile and CertFile are not presented"
            ));
        }
    }
    let notices = [
        files(&config.client_tls, &config.listen_client_urls, "client")?,
        files(&config.peer_tls, &config.listen_peer_urls, "peer")?,
    ];
    config.notices.extend(notices.into_iter().flatten());
    Ok(())
}

fn is_secure(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("unixs://")
}

/// Whether the files named for one kind of listener go together, and what is worth a warning.
fn files(files: &TlsFiles, urls: &[String], what: &'static str) -> Result<Vec<Notice>, String> {
    let shown = |path: &Option<PathBuf>| {
        path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    let mut notices = Vec::new();
    let (cert, key) = (&files.cert_file, &files.key_file);
    let has_files = cert.is_some() || key.is_some();
    if files.auto && has_files {
        notices.push(Notice::warning(format!("ignoring {what} auto TLS since certs given")));
    }
    if cert.is_some() != key.is_some() {
        return Err(format!(
            "KeyFile and CertFile must both be present[key: {}, cert: {}]",
            shown(key),
            shown(cert)
        ));
    }
    if files.client_cert_file.is_some() != files.client_key_file.is_some() {
        return Err(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
            shown(&files.client_key_file),
            shown(&files.client_cert_file)
        ));
    }
    let quoted =
        |list: &[String]| list.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(" ");
    if !files.allowed_cns.is_empty() && !files.allowed_hostnames.is_empty() {
        return Err(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
            quoted(&files.allowed_cns),
            quoted(&files.allowed_hostnames)
        ));
    }
    for url in urls.iter().filter(|url| !is_secure(url)) {
        if has_files {
            notices.push(
                Notice::warning("scheme is http or unix while key and cert files are present; ignoring key and cert files")
                    .with(if what == "peer" { "peer-url" } else { "client-url" }, url),
            );
        }
        if files.client_cert_auth {
            let flag =
                if what == "peer" { "--peer-client-cert-auth" } else { "--client-cert-auth" };
            notices.push(
                Notice::warning(format!("scheme is http or unix while {flag} is enabled; ignoring client cert auth for this URL"))
                    .with(if what == "peer" { "peer-url" } else { "client-url" }, url),
            );
        }
    }
    Ok(notices)
}

// Differs from etcd: a request larger than the log can hold is refused at the start.
fn sizes(draft: &mut Draft) -> Result<(), String> {
    let (request, quota) = (draft.config.max_request_bytes, draft.config.quota_bytes);
    if request > REQUEST_BYTES_LIMIT {
        return Err(format!("--max-request-bytes must be at most {REQUEST_BYTES_LIMIT}"));
    }
    if request > REQUEST_BYTES_RECOMMENDED {
        draft.notice(
            Notice::warning("exceeded recommended request limit")
                .with("max-request-bytes", request.to_string())
                .with("recommended-request-bytes", REQUEST_BYTES_RECOMMENDED.to_string()),
        );
    }
    if quota > QUOTA_BYTES_RECOMMENDED {
        draft.notice(
            Notice::warning("quota exceeds the maximum value")
                .with("quota-size-bytes", quota.to_string())
                .with("quota-maximum-size-bytes", QUOTA_BYTES_RECOMMENDED.to_string()),
        );
    }
    Ok(())
}

/// What is derived from what was not given.
fn defaults(draft: &mut Draft) {
    let config = &mut draft.config;
    if config.name == DEFAULT_NAME {
        config.notices.push(
            Notice::warning("it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name")
                .with("name", DEFAULT_NAME),
        );
    }
    config.data_dir = draft.data_dir.take().unwrap_or_else(|| {
        let folder = format!("{}.etcd", config.name);
        config
            .notices
            .push(Notice::warning("'data-dir' was empty; using default").with("data-dir", &folder));
        PathBuf::from(folder)
    });
    if config.advertise_client_urls.is_empty() {
        config.advertise_client_urls = vec![DEFAULT_CLIENT_URL.into()];
    }
    if config.initial_advertise_peer_urls.is_empty() {
        config.initial_advertise_peer_urls = vec![DEFAULT_PEER_URL.into()];
    }
}
