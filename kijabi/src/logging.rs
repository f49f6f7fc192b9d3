//! Logging of every role but the store, which writes etcd's form.
//!
//! Owns: where log lines go and how they look. A newcomer's trap: standard output is for what a
//! command is asked to print; log lines go to standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is a level or a tracing filter.
pub(crate) fn start(filter: &str) -> anyhow::Result<()> {
    // Libraries that narrate every connection or request are heard from warnings on only, unless
    // the filter names them.
    let quiet = ",h2=warn,hyper=warn,tower=warn,rustls=warn,kube=warn,openraft=warn,\
                 openraft::raft::responder=error";
    let filter = if filter.contains('=') { filter.to_owned() } else { format!("{filter}{quiet}") };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}
