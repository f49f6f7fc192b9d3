//! What the roles share: the runtime, signals, API clients, host facts.
//!
//! Owns: how a role is run until it is told to stop. Must not know: which role. A newcomer's trap:
//! the first SIGTERM or SIGINT asks for a clean stop, a second one is not waited for.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kijabi_base::tasks::{self, Shutdown};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::signal::unix::{SignalKind, signal};

/// Signals this soon after the first one belong to it.
const SAME_REQUEST: Duration = Duration::from_millis(500);
/// How long a clean stop may take before the process ends anyway.
const STOP_MAX: Duration = Duration::from_secs(15);

/// How long tasks that nobody waits for any more may take to end.
const END_MAX: Duration = Duration::from_secs(1);

/// Runs `role` on a runtime of its own until it ends by itself or by a signal.
pub(crate) fn run<F, R>(role: F) -> anyhow::Result<()>
where
    F: FnOnce(Shutdown) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    // Every role's TLS uses the same provider; an earlier call has already installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::new();
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch signals")?;
        let asked = shutdown.clone();
        let _watcher = tasks::spawn("signals", async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            asked.trigger();
            // Some senders signal a process and its group: that is one request, not two.
            tokio::time::sleep(SAME_REQUEST).await;
            let again = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
            if let (Ok(mut terminate), Ok(mut interrupt)) = again {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    () = tokio::time::sleep(STOP_MAX) => {}
                }
            }
            tracing::error!("the clean stop was cut short");
            std::process::exit(1);
        });
        role(shutdown).await
    });
    // What still runs on blocking threads holds nothing that must be waited for. But the store's
    // database ends with the last task that has it, and before the process, or else its threads use
    // what is gone.
    runtime.shutdown_timeout(END_MAX);
    result
}

/// A client of the API server from the text of a kubeconfig.
pub(crate) async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).context("the kubeconfig cannot be read")?;
    let config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .context("the kubeconfig cannot be used")?;
    Client::try_from(config).context("the kubeconfig cannot be used")
}

/// A client of the API server from a kubeconfig file.
pub(crate) async fn client_of_file(path: &Path) -> anyhow::Result<Client> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    client(&text).await.with_context(|| format!("in {}", path.display()))
}

/// This machine's host name in lower case, as node names are.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}
